"""The board knows what `exp diff` knows: which scores do not compare, whichever of them is the best."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from commands import command
from experiments import own_experiment
from helpers import compared, exp, exp_json, run_of, short
from light import LIGHT, edited, train_py
from several import files

import expkit
from expkit import files as expkit_files
from expkit import store, tables
from expkit.board import Entry, entries, flag_incomparable, grouped_by_seed, ranked, read_board
from expkit.compare import verdict
from expkit.config import load_experiment
from expkit.noise import against_best


def saves(target: float = 1.0, rows: int = 4, ids: int = 0) -> Callable[[expkit.Fold], None]:
    """Lets each fold leave out four rows, or fewer: from ids on, each with a target."""

    def during(fold: expkit.Fold) -> None:
        save, first = fold.save_oof, ids + 4 * (fold.number or 0)

        def save_oof(columns: Any) -> None:
            prediction = numpy.full(rows, columns["prediction"][0]) * (1 + 0.01 * first)
            save({"id": numpy.arange(first, first + rows), "target": [target] * rows, "prediction": prediction})

        fold.save_oof = save_oof  # type: ignore[method-assign]

    return during


def trained(name: str, *overrides: str, **how: Any) -> None:
    """Train a run of the light experiment that is called `name`; `how` as of `saves`."""
    command(f"exp.name={name}", *overrides, during=saves(**how)).train()


def marks() -> dict[str, tuple[str, ...]]:
    """The marks of each run on the board, by its exp.name."""
    return {one.run.config.exp.name: one.marks for one in flag_incomparable(entries(read_board()))}


def versus_best() -> dict[str, str | None]:
    return {row["exp.name"]: row["versus_best"] for row in exp_json("board", "--all", "--noise")}


def test_another_target(quick: Path) -> None:
    """Though it has the best score, it is marked, stands behind those that compare, and diff has no verdict."""
    for name, x in (("a", 2), ("b", 3)):
        trained(name, f"exp.train.x={x}")
    trained("tenth", "exp.train.x=1", target=0.1)
    assert marks() == {"a": (), "b": (), "tenth": ("other target",)}
    trained("later", "exp.train.x=1", "exp.fold=[0]")
    assert [one.run.config.exp.name for one in ranked(read_board())] == ["a", "b", "later", "tenth"]
    expkit_files.remove(store.load_run(run("later")).folder)
    assert versus_best() == {"a": "best", "b": "worse", "tenth": "not comparable"}
    found = compared("/a", "/tenth")
    assert found.keys() == {"verdict", "reason"} and found["verdict"] == "not comparable"
    assert found["reason"] == f"other target: the targets of {LIGHT}/{run('tenth')} are not those of {LIGHT}/{run('a')}"
    assert f"\nverdict: not comparable: {found['reason']}\n" in exp("diff", "/a", "/tenth")
    assert compared("/a", "/b")["verdict"] == "worse"
    trained("begun", "exp.fold=[3]", target=0.1)
    assert marks()["begun"] == ("partial", "other target")


def run(name: str) -> str:
    return next(run.name for run in read_board() if run.config.exp.name == name)


WEIGHTED = """
def error(oof):
    return (oof.get("weight", 1.0) * (oof["prediction"] != oof["target"])).mean()


def train(exp, fold):
    ids = list(range(40))
    weights = {} if exp.train.kept is None else {"weight": [float(id % exp.train.kept > 0) for id in ids]}
    fold.split(id=ids, y=ids, keep=weights)
    fold.predict(lambda X: [x + (x % 2 == 0) for x in X], ids)
"""


def test_a_column_that_the_metric_is_given(quick: Path) -> None:
    """Weights that leave the hard rows out are another problem; a run that has no such column is held against none."""
    light = train_py("kept: int | None = 50", WEIGHTED, "metric=error, greater_is_better=False")
    with own_experiment({"train.py": light}) as folder:
        for name, kept in (("a", 50), ("b", 50), ("easy", 2), ("none", None)):
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.train.kept={kept or 'null'}"])
        assert marks() == {"a": (), "b": (), "easy": ("other target",), "none": ()}
        assert re.match(
            "other target: the column weight of .*/easy,.* is not that of", compared("/a", "/easy")["reason"]
        )


def test_what_a_target_is() -> None:
    """The pairs of id and target, in whatever order, to the digits of float32."""
    random = numpy.random.default_rng(0)
    ids, target, two = numpy.arange(99), random.normal(size=99), random.normal(size=(99, 2))
    order = random.permutation(99)

    def of(**columns: Any) -> str | None:
        return tables.target_hash({"id": ids} | columns)

    whole = of(target=target, target_b=two)
    assert whole == tables.target_hash({"target_b": two[order], "id": ids[order], "target": target[order]})
    assert of(target=target) == of(target=target.astype("float32"), prediction=target) != whole
    assert of(target=ids % 3) == of(target=(ids % 3).astype(float))
    one_changed = numpy.where(ids == 7, target[7] + 1e-5, target)
    others = [target, target / 10, target[order], one_changed, two, two[::-1], two[:, ::-1], (ids % 3).astype(str)]
    found = [of(target=one) for one in others] + [of(target_b=target), tables.target_hash({"id": order})]
    found += [of(target=ids + shift) for shift in (1_700_000_000, 1_700_000_001, 2**60, 2**60 + 1, -(2**63), -(2**25))]
    assert len(set(found)) == len(found) and found[-7] is None
    assert of(target=(ids + 2**30).astype("uint32")) == of(target=ids + 2**30)
    assert of(target=ids + 2**24 - 99) == of(target=(ids + 2**24 - 99).astype("float32")), "which holds them all"
    yen = ids + 25_000_001
    assert of(target=yen) == of(target=yen.astype(float)) != of(target=yen + 1.0)
    assert all(tables.same_target(yen, yen.astype(kind)) for kind in ("float64", "float32", "int32")), "as libraries do"
    boxes = [tables.columns({"x": [[row] * (1 + row % 3) for row in ids + more]}, "x")["x"] for more in (2**31, 2**32)]
    assert tables.same_target(boxes[0], boxes[0]) and not tables.same_target(*boxes)
    assert tables.targets(["id", "target", "prediction", "weight"]) == ["target"]
    assert tables.targets(["id", "truth", "prediction", "probability_a", "fold", "event"]) == ["event", "truth"]
    assert tables.targets(["id", "time", "risk"]) == [], "which of them is predicted, nobody knows"


def test_other_rows(quick: Path) -> None:
    """The best run has left out hard rows: it is marked, and not the honest ones."""
    for name, x in (("a", 2), ("b", 3)):
        trained(name, f"exp.train.x={x}")
    trained("dropped", "exp.train.x=1", rows=3)
    trained("begun", "exp.fold=[0]", rows=3)
    assert marks() == {"a": (), "b": (), "begun": ("partial", "other folds"), "dropped": ("other folds",)}
    [alone] = ranked(read_board(), ["dropped"])
    assert alone.flags == ("other folds",), "most runs are those of the problem, not those that a filter leaves"
    found = versus_best()
    assert (found["a"], found["b"], found["dropped"]) == ("best", "worse", "not comparable")
    assert compared("/a", "/dropped")["reason"].startswith("other folds: the folds of ")


def test_ties_are_decided_by_the_older_run() -> None:
    later, earlier = (Entry((run_of(f"1/{day}", [0.5], rows=day, finished=f"2026-01-{day}"),)) for day in ("02", "01"))
    assert [one.flags for one in flag_incomparable([later, earlier])] == [("other folds",), ()]


def test_no_common_fold(quick: Path) -> None:
    """Two folds of five, and a single split: nothing can be compared."""
    trained("five", "exp.fold=[1,2]")
    trained("other", "exp.fold=[1,2,3]", "exp.train.x=3")
    trained("split", "exp.n_folds=1", "exp.train.x=1")
    assert marks() == {"five": ("partial",), "other": ("partial",), "split": ("no common fold",)}
    assert versus_best()["split"] == "not comparable"
    assert compared("/five", "/split")["reason"].startswith("no common fold: no fold is done in both ")
    trained("whole", "exp.train.x=2")
    assert marks() == {"five": ("partial",), "other": ("partial",), "split": ("other folds",), "whole": ()}


@pytest.fixture
def price(quick: Path) -> Iterator[Path]:
    """An experiment whose score is an rmse, with two runs."""
    with own_experiment(files("price")) as folder:
        for name in ("a", "b"):
            score(folder, name)
        yield folder


def score(folder: Path, name: str) -> None:
    """Train a run, or score it again, with the code as it is now."""
    load_experiment(folder.name, again=True)
    expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.train.noise={'0.2' if name < 'c' else '0.3'}"])


@pytest.mark.parametrize(
    ("old", "new", "mark"),
    [
        (".mean() ** 0.5", ".mean() ** 0.5 / 2", "other metric"),
        ("(train, ExpConfig, ", '(train, ExpConfig, score_over="folds", ', "other metric"),
    ],
)
def test_another_metric(price: Path, old: str, new: str, mark: str) -> None:
    """Before and after the edit is undone, until the same command has scored the run again."""
    with edited(price / "train.py", old, new):
        score(price, "c")
        assert marks() == {"a": (), "b": (), "c": (mark,)}
    load_experiment(price.name, again=True)
    assert marks() == {"a": (), "b": (), "c": (mark,)}
    assert versus_best()["c"] == "not comparable"
    assert compared("/a", "/c")["verdict"] == "not comparable"
    assert "metric changed since: the same command scores it again" in exp("show", "/c")
    assert "metric changed since" not in exp("show", "/a")
    score(price, "c")
    assert marks() == {"a": (), "b": (), "c": ()}
    assert compared("/a", "/c")["verdict"] in ("worse", "could be noise")


def test_all_runs_are_scored_by_the_metric_of_now(price: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When the command of one of them is repeated; one that the metric does not take keeps its scores, and a mark."""
    with edited(price / "train.py", "fold.save_oof(", "(lambda table: fold.save_oof({**table, 'b': table['id']}))("):
        score(price, "c")
    old = {run.config.exp.name: run.score for run in read_board()}
    with edited(price / "train.py", ".mean() ** 0.5", ".mean() ** 0.5 * (2 if 'b' not in oof else 1 / 0)"):
        score(price, "b")
        printed = capsys.readouterr()
        assert "scores computed again: the metric rmse has changed; so are those of 1 other run\n" in printed.out
        assert "=0.3 keeps its old scores: the metric rmse raises ZeroDivisionError: " in printed.err
        assert marks() == {"a": (), "b": (), "c": ("other metric",)}
        for run in read_board():
            assert run.score == pytest.approx(old[run.config.exp.name] * (1 if run.config.exp.name == "c" else 2))
            assert run.result(0)["scores"] == {"rmse": run.fold_scores[0]}
        score(price, "b")
        assert "computed again" not in capsys.readouterr().out


def test_two_commands_score_a_run_once(
    price: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that waits for the lock of the other finds the scores; what it may not write, it leaves, with a warning."""
    write, locked, written = store.write_cv, store.Versions.locked, list[str]()

    def write_cv(folder: Path, *content: Any) -> None:
        written.append(folder.name)
        if folder.name.startswith("a,"):
            raise PermissionError(13, "Permission denied", "cv.json")
        write(folder, *content)

    def after_another(versions: store.Versions) -> Any:
        monkeypatch.setattr(store.Versions, "locked", locked)
        score(price, "b")
        return locked(versions)

    monkeypatch.setattr(store, "write_cv", write_cv)
    with edited(price / "train.py", ".mean() ** 0.5", ".mean() ** 0.5 * 2"):
        monkeypatch.setattr(store.Versions, "locked", after_another)
        score(price, "b")
    assert sorted(written) == sorted({*written}) and len(written) == 2, "each of them once"
    assert "=0.2 keeps its old scores: [Errno 13] Permission denied: 'cv.json'" in capsys.readouterr().err


def test_packages_that_differ_between_folds(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is; a package that one fold has beside the others is not."""
    versions = ({"numpy": "2.1.0"}, {"numpy": "2.0.1"}, {"numpy": "2.1.0", "torch": "2.9"})
    for fold, packages in enumerate(versions):
        monkeypatch.setattr("expkit.runner.installed_packages", lambda packages=packages: packages)
        command("exp.name=mixed", f"exp.fold=[{fold}]").train()
        if fold != 1:
            command("exp.name=more", "exp.train.x=3", f"exp.fold=[{fold}]").train()
    assert marks() == {"mixed": ("partial", "mixed packages (numpy 2.0.1, 2.1.0)"), "more": ("partial",)}
    changes = exp_json("diff", "/more", "/mixed")["packages"]
    assert changes == {"numpy": {"old": "2.1.0", "new": "2.0.1, 2.1.0"}}, "of all folds"


def test_a_copied_run(quick: Path) -> None:
    """It is marked, and does not count."""
    trained("a", "exp.train.x=2")
    output, original = quick / "output" / LIGHT, run("a")
    for number in (1, 2):
        shutil.copytree(output / original, output / f"copy{number}")
    trained("b", "exp.train.x=3", target=5.0)
    trained("c", "exp.train.x=3", target=5.0, ids=0)
    rows = {one.run.name: one for one in against_best(ranked(read_board()))}
    mark = f"copy of {LIGHT}/{original}"
    assert [rows[name].marks[0] for name in ("copy1", "copy2")] == [mark] * 2
    assert [rows[name].versus_best for name in ("copy1", "copy2")] == ["not comparable"] * 2
    assert rows[original].marks == ("other target",), "what most runs have, without the copies"
    assert mark in exp("show", "copy1")
    trained("a", "exp.train.x=2", "overwrite=true")
    assert {run.name: run.marks for run in read_board()}["copy1"] == (), "the run of that folder is another one now"


def test_a_folder_with_a_new_name_is_no_copy(quick: Path) -> None:
    trained("a")
    output = quick / "output" / LIGHT
    (output / run("a")).rename(output / "renamed")
    assert marks() == {"a": ()}


def test_the_board_lists_an_experiment_once(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its runs have a folder with a new name."""
    trained("a")
    output, listed, original = quick / "output" / LIGHT, list[Path](), expkit_files.listed
    (output / run("a")).rename(output / "renamed")
    for number in range(3):
        shutil.copytree(output / "renamed", output / f"other{number}")
    monkeypatch.setattr(expkit_files, "listed", lambda path: (listed.append(Path(path)), original(path))[1])
    assert [run.marks for run in read_board()] == [()] * 4 and listed.count(output) == 1


def test_a_foreign_record_leads_nowhere(quick: Path) -> None:
    """Names in a run.json are no paths."""
    trained("a", "exp.fold=[0]")
    file = quick / "output" / LIGHT / run("a") / "run.json"
    expkit_files.write_json(file, json.loads(file.read_text()) | {"experiment": "..", "run": "../light"})
    assert [run.marks for run in read_board()] == [("partial",)]


def test_a_foreign_blend_that_is_made_of_itself_is_read_once(quick: Path) -> None:
    trained("a", "exp.fold=[0]")
    folder = quick / "output" / LIGHT / run("a")
    info = json.loads((folder / "run.json").read_text())
    itself: dict[str, Any] = {"run": f"{LIGHT}/{run('a')}", "version": 1, "id": info["id"], "test": []}
    itself["results"] = store.read_run(folder).checksums
    blend = {"method": "mean", "scored_by": LIGHT, "parents": [itself], "weights": [1.0], "by_part": {}, "made_by": {}}
    expkit_files.write_json(folder / "run.json", info | {"blend": blend})
    assert [found.marks for found in read_board()] == [("partial",)]
    shown = exp_json("show", itself["run"], "--all")
    assert [parent["parents"] for parent in shown["parents"]] == [None] and shown["children"] == []
    assert exp_json("remove", itself["run"], "--yes")["removed"]


# exp diff


def test_a_run_without_folds(quick: Path) -> None:
    """Nothing of it is known: that is said, and nothing is another."""
    trained("a", "exp.train.x=2")
    (quick / "control").mkdir(exist_ok=True)
    (quick / "control/fail0").touch()
    with pytest.raises(ValueError, match="planted"):
        trained("b", "exp.fold=[0]")
    for pair in (("/a", "/b"), ("/b", "/a")):
        found, reason = exp_json("diff", *pair), f"{LIGHT}/{run('b')} has no finished fold"
        assert found["comparison"] == {"verdict": "not comparable", "reason": reason}
        assert found["data"] == {"same": None, "changes": []} and found["packages"] == found["machine"] == {}
        assert "other data" not in exp("diff", *pair)


def test_identical_predictions(price: Path) -> None:
    """In whatever order of the rows; a blend of them says so, too."""
    assert compared("/a", "/b")["verdict"] == "identical"
    assert "\nverdict: identical: the out-of-fold predictions are the same\n" in exp("diff", "/a", "/b")
    score(price, "c")
    a, b, c = (expkit.load_run(f"/{name}") for name in "abc")
    assert verdict([(a, b), (a, c)])["verdict"] != "identical", "one of two seeds"
    row = '{"id": ids, "target": truth(rows), "prediction": truth(rows) + random.normal(0, noise, len(rows))}'
    backwards = f"{{name: column[::-1] for name, column in {row}.items()}}"
    with edited(price / "model.py", row, backwards):
        score(price, "again")
    assert compared("/a,", "/again")["verdict"] == "identical"
    with pytest.raises(expkit.Error, match="have no column of numbers that differs between them"):
        exp("blend", "/again", "/b")


# The mean of the folds as the score


def test_a_score_over_the_folds_everywhere(root: Path) -> None:
    """`exp diff` and `exp blend` take the score that the experiment chose."""
    text = files("risk")
    text["train.py"] = text["train.py"].replace("(train, ExpConfig, ", '(train, ExpConfig, score_over="folds", ')
    with own_experiment(text) as folder:
        for name, noise in (("a", 0.2), ("b", 0.3)):
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.train.noise={noise}"])
        runs = [expkit.load_run(f"/{name}").score_of() for name in ("a,", "b,")]
        assert all(run and run.value == run.mean != run.over_rows for run in runs)
        assert runs[0] and runs[1]
        assert compared("/a,", "/b,")["rows"]["better_by"] == pytest.approx(runs[1].value - runs[0].value, rel=1e-5)
        made = exp_json("blend", "/a,", "/b,", "--name", "two")
        scores = expkit.load_run("two").score_of()
        assert scores and made["score"] == short(scores.value) and scores.value == scores.mean != scores.over_rows
        made = exp_json("blend", "/a,", "/b,", "--method", "hill", "--name", "hill")
        assert set(made["weights"].values()) == {0.0, 1.0}
        train = folder / "train.py"
        train.write_text(train.read_text().replace('score_over="folds",', ""))
        load_experiment(folder.name, again=True)
        expkit.run(folder.name, overrides=["exp.name=b", "exp.train.noise=0.3"])
        assert compared("/a,", "/b,")["reason"].startswith("other metric: one is scored over all rows")
        with pytest.raises(expkit.Error, match="has the metric auc over rows, .* but .* has auc over folds"):
            exp("blend", "/a,", "/b,", "--name", "other")


# Seeds


def test_seeds_are_grouped_with_what_they_are() -> None:
    """A mean over runs of two targets is marked as the one of them is."""
    group = [Entry((run_of(f"1/{seed}", [0.5], seed=seed, targets={0: str(seed == 3)}),)) for seed in (1, 2, 3)]
    [row] = grouped_by_seed(flag_incomparable(group))
    assert row.marks == row.flags == ("other target",)


def test_the_scores_of_all_seeds(quick: Path) -> None:
    """A row for each seed and their mean, as the verdict counts all of them; without what has other folds."""
    with own_experiment(files("price")) as folder:
        for noise in (0.2, 0.3):
            for seed in (1, 2):
                expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", f"exp.seed={seed}"])
        found = {(run.config.exp.train.noise, run.seed): run for run in read_board()}
        names = [found[noise, 1].title for noise in (0.2, 0.3)]
        each = [[found[noise, seed].score or 0 for noise in (0.2, 0.3)] for seed in (1, 2)]
        scores, printed = exp_json("diff", *names, "--seeds")["scores"], exp("diff", *names, "--seeds")
        mean = [statistics.fmean(side) for side in zip(*each, strict=True)]
        rows = {"1": each[0], "2": each[1], "mean": mean}
        whole = {
            "metric": "rmse",
            "seeds": {seed: dict(zip(("old", "new"), rows[seed], strict=True)) for seed in "12"},
            "mean": dict(zip(("old", "new"), mean, strict=True)),
        }
        assert scores == short(whole)
        assert "rmse of seed" in printed and "CV" not in printed and "rmse of fold" not in printed
        for name, (old, new) in rows.items():
            assert re.search(rf"^{name} +{old:.4f} +{new:.4f} +\{new - old:+.4f}$", printed, re.M), printed
        for noise, folds in ((0.2, "[0,1]"), (0.3, "[0]")):
            expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", "exp.seed=3", f"exp.fold={folds}"])
        scores = exp_json("diff", *names, "--seeds")["scores"]
        assert scores["seeds"].keys() == set("123") and scores["seeds"]["3"] == {} and "mean" not in scores
        assert re.search(r"^3 *$", exp("diff", *names, "--seeds"), re.M)


def test_the_seeds_of_a_short_name(quick: Path) -> None:
    """After the number of the experiment, its name, or its words; of two configurations, more of it is needed."""
    for x, name in ((2, "slow"), (3, "fast")):
        for seed in (1, 2):
            trained(name, f"exp.train.x={x}", f"exp.seed={seed}")
    number, _, words = LIGHT.partition("-")
    whole = (f"{LIGHT}/slow,exp.train.x=2", f"{LIGHT}/fast,exp.train.x=3")
    for old, new in (whole, *((f"{each}/slow", f"{each}/fast") for each in (number, words))):
        assert compared(old, new, "--seeds")["folds"]["seeds"] == [1, 2]
    with pytest.raises(expkit.Error, match=f"no run is called {LIGHT}/slow; did you mean {LIGHT}/slow,"):
        exp("diff", f"{LIGHT}/slow", whole[1], "--seeds")
    trained("slower", "exp.train.x=5")
    with pytest.raises(expkit.Error, match=f"{number}/slow may be .*: give more of the name"):
        exp("diff", f"{number}/slow", f"{number}/fast", "--seeds")
    assert compared(f"{number}/slow,", f"{number}/fast", "--seeds")["folds"]["seeds"] == [1, 2]
