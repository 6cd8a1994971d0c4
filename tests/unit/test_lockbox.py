"""exp.split.lockbox: rows that no fold trains on or scores. `exp unlock` alone shows their score."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from conftest import ROOT, Command
from experiments import NETS, NETS_CONFIG, own_experiment
from helpers import compared, exp, exp_json, refused, short
from light import train_py

import expkit
from expkit import page, reproduction, store, tracking, tries
from expkit.board import entries, flag_incomparable, read_board
from expkit.cli import app
from expkit.compose import checked
from expkit.config import Config
from expkit.notes import read_notes
from expkit.scores import split_unique

# The rows

N = 120
IDS = np.array([f"row {row}" for row in range(N)])
COLUMNS = {
    "id": IDS,
    "y": np.array([0, 0, 0, 0, 0, 1] * 20),  # five to one
    "groups": np.array([f"patient {row % 17}" for row in range(N)]),
    "time": np.arange(N)[::-1] // 4,  # 30 days of four rows, the latest first
}
METHODS = ["kfold", "stratified", "group", "stratified_group", "time", "time_group"]


def parts(method: str, n_folds: int = 4, order: Any = slice(None), **split: Any) -> tuple[list[Any], np.ndarray]:
    """The rows that each fold trains on and leaves out, and those set aside, as indices of COLUMNS."""
    split = {"method": expkit.SplitMethod[method], "lockbox": 0.2, **split}
    config = expkit.ExpConfig(n_folds=n_folds, split=expkit.SplitConfig(**split))
    columns: Any = {name: column[order] for name, column in COLUMNS.items()}
    if method == "time_group":
        columns["groups"] = np.array([f"shop {day}" for day in columns["time"] // 2])
    rows, places = np.arange(N)[order], [split_unique(config, fold, **columns) for fold in range(n_folds)]
    boxes = [sorted(rows[box]) for _, box in places]
    assert all(box == boxes[0] for box in boxes), "whatever the fold"
    return [(rows[fit], rows[valid]) for (fit, valid), _ in places], np.array(boxes[0])


@pytest.mark.parametrize("n_folds", [4, 1])
@pytest.mark.parametrize("method", METHODS)
def test_no_fold_sees_the_rows_set_aside(method: str, n_folds: int) -> None:
    folds, box = parts(method, n_folds)
    assert 0.15 * N <= len(box) <= 0.3 * N
    for fit, valid in folds:
        assert not {*fit} & {*box} and not {*valid} & {*box} and not {*fit} & {*valid}
        assert np.array_equal(fit, np.sort(fit)) and np.array_equal(valid, np.sort(valid))
    if "time" not in method and n_folds > 1:
        every = np.concatenate([valid for _, valid in folds])
        assert np.array_equal(np.sort(every), np.setdiff1d(np.arange(N), box)), "all others are scored"
    fit, valid = expkit.split(expkit.ExpConfig(split=expkit.SplitConfig(lockbox=0.2)), None, id=IDS)
    assert len(fit) == N and len(valid) == 0, "exp.mode=sub trains on all"


@pytest.mark.parametrize("method", METHODS)
def test_the_same_rows_are_set_aside_whatever_the_folds(method: str) -> None:
    """Of other seeds of the split, too: what is chosen by one may not have been scored by another."""
    _, box = parts(method)
    shuffled = np.random.default_rng(0).permutation(N)
    others: list[dict[str, Any]] = [{"n_folds": 3}, {"n_folds": 1, "holdout": 0.4}, {"seed": 7}, {"order": shuffled}]
    for other in others:
        assert np.array_equal(parts(method, **other)[1], box), other
    if "time" in method:
        assert np.array_equal(parts(method, gap=1, test_size=2)[1], box)
    else:
        assert not np.array_equal(parts(method)[0][0][1], parts(method, seed=7)[0][0][1]), "the folds are others"
    assert len(parts(method, lockbox=0.4)[1]) > len(box)


def test_the_rows_set_aside_are_as_the_split_says() -> None:
    _, box = parts("stratified")
    assert COLUMNS["y"][box].mean() == pytest.approx(1 / 6, abs=0.01)
    for method in ("group", "stratified_group"):
        _, box = parts(method)
        assert not {*COLUMNS["groups"][box]} & {*np.delete(COLUMNS["groups"], box)}
    folds, box = parts("time", gap=2)
    last = COLUMNS["time"][box].min()
    assert (last, COLUMNS["time"][box].max(), len(box)) == (24, 29, 24), "the last 6 of 30 days"
    assert max(COLUMNS["time"][valid].max() for _, valid in folds) == 21, "nor is the gap before it"
    folds, box = parts("time_group")
    shops = {*(COLUMNS["time"][box] // 2)}
    assert all(not shops & {*(COLUMNS["time"][fit] // 2)} for fit, _ in folds)


def test_what_cannot_be_set_aside() -> None:
    with pytest.raises(expkit.Error, match=r"^exp\.split\.lockbox=0\.2: the file of exp\.split\.method=column says"):
        split = expkit.SplitConfig(expkit.SplitMethod.column, file="folds.csv", lockbox=0.2)
        checked(Config(expkit.ExpConfig(split=split)))
    with pytest.raises(expkit.Error, match=r"^exp\.split\.lockbox must be at least 0 and at most 0\.5, not 0\.7"):
        checked(Config(expkit.ExpConfig(split=expkit.SplitConfig(lockbox=0.7))))
    said = r"^exp\.split\.lockbox=0\.2: exp\.split\.method=(\w+): one (row of a class|row|group) is too few$"
    for method in ("stratified", "kfold", "group"):
        with pytest.raises(expkit.Error, match=said):
            parts(method, order=[0])


@pytest.mark.parametrize("method", ["kfold", "stratified", "group"])
def test_the_box_hardly_changes_with_the_rows(method: str) -> None:
    """Else rows that were set aside are trained on once somebody drops an outlier."""
    box = {*parts(method)[1]}
    for left_out in (0, 60, 119):
        changed = {*parts(method, order=np.delete(np.arange(N), left_out))[1]} ^ (box - {left_out})
        assert len(changed) <= 2, "the next row, or that of another"


# A training

FIELDS = """
noise: float = 0.3
of_box: float = 0.0  # more, on the rows set aside
how: str = "predict"
labels: bool = False
parent: str = ""
rows: int = 150
"""
TRAIN = train_py(
    FIELDS,
    """
def rmse(oof):
    return float(((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5)


def train(exp, fold):
    import numpy as np

    ids = np.arange(exp.train.rows)
    Y = ids % 3
    rows = fold.split(id=ids, y=Y)
    if exp.train.parent:
        known = expkit.load_run(exp.train.parent).oof
        assert not set(known["id"]) & set(fold.lockbox) or exp.split.lockbox != 0.2
    random = np.random.default_rng([exp.seed, 9 if fold.number is None else fold.number])
    X = Y + exp.train.noise * random.normal(size=len(Y))
    X[fold.lockbox] += exp.train.of_box
    predict = np.rint if exp.train.labels else np.asarray
    np.save(fold.folder / "seen.npy", rows.train)

    def table(some):
        return {"id": ids[some], "target": Y[some], "prediction": predict(X[some])}

    how = exp.train.how
    if how == "predict":
        kind = int if exp.train.labels else float
        fold.predict(lambda part: predict(part).astype(kind), X, test=X[:2], test_id=[1, 2])
        fold.log(epoch=1, **fold.evaluate(predict, X))
    elif how == "scores the box":
        fold.save_oof(table(np.union1d(rows.valid, fold.lockbox)))
    else:
        fold.save_oof(table(rows.valid))
    if how == "by hand":
        fold.save_lockbox(table(fold.lockbox))
    if how == "others":
        fold.save_lockbox(table(rows.valid))
""",
    "metric=rmse, greater_is_better=False",
)
POSTPROCESS = """
def lowered(oof):
    shift = (oof["prediction"] - oof["target"]).mean() + 1
    return lambda table: {"prediction": table["prediction"] - shift}


experiment = expkit.Experiment(train, TrainConfig, postprocess=lowered, """


@pytest.fixture
def name(quick: Path) -> Iterator[str]:
    """An experiment of 150 rows."""
    with own_experiment({"train.py": TRAIN}) as folder:
        (folder / "exp").mkdir()
        yield folder.name


def trained(name: str, *overrides: str, run: str = "first", lockbox: float = 0.2) -> expkit.Run:
    """A run of three folds."""
    options = [f"exp.name={run}", f"exp.split.lockbox={lockbox}", "exp.n_folds=3", "exp.fold=null", *overrides]
    config = expkit.load_config(name, overrides=options)
    expkit.run(name, config)
    return store.load_run(f"{name}/{run}")


def box_of(run: expkit.Run) -> list[dict[str, np.ndarray]]:
    return [fold.predictions(store.LOCKBOX) for fold in run.done.values()]


def rmse(table: dict[str, np.ndarray], prediction: np.ndarray | None = None) -> float:
    found = table["prediction"] if prediction is None else prediction
    return float(((table["target"] - found) ** 2).mean() ** 0.5)


def mean_score(run: expkit.Run) -> float:
    boxes = box_of(run)
    return rmse(boxes[0], np.mean([box["prediction"] for box in boxes], axis=0))


def test_a_training_predicts_the_rows_set_aside(name: str) -> None:
    """Beside its out-of-fold rows, which are all others; it was not trained on them."""
    run = trained(name)
    ids = box_of(run)[0]["id"]
    assert len(ids) == 30 and all(np.array_equal(box["id"], ids) for box in box_of(run))
    assert np.array_equal(run.oof["id"], np.setdiff1d(np.arange(150), ids)) and run.rows == 120
    for fold in run.done.values():
        seen = np.load(fold.folder / "seen.npy")
        assert len(seen) == 80 and not {*seen} & {*ids}
    by_hand = trained(name, "exp.train.how=by hand", run="by-hand")
    for one, other in zip(box_of(run), box_of(by_hand), strict=True):
        assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
    assert by_hand.score == run.score


def test_a_submission_is_trained_on_all_rows(name: str) -> None:
    full = trained(name, "exp.mode=sub").full
    assert full is not None and full.result is not None and store.LOCKBOX not in full.result["files"]
    assert len(np.load(full.folder / "seen.npy")) == 150


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "forgets",
            r"not predicted the rows of exp\.split\.lockbox: call fold\.predict\(\.\.\.\), or fold\.save_lockbox",
        ),
        ("scores the box", r"oof\.npz has other rows than fold\.split\(\.\.\.\): 0 fewer and 30 more"),
        ("others", r"lockbox\.npz has other rows than fold\.lockbox"),
    ],
)
def test_a_training_that_sees_the_rows_or_forgets_them(name: str, how: str, message: str) -> None:
    with pytest.raises(expkit.Error, match=message):
        trained(name, f"exp.train.how={how}", "exp.fold=[0]")
    if how == "forgets":
        assert trained(name, f"exp.train.how={how}", run="none", lockbox=0).is_complete


def test_an_experiment_that_splits_by_itself(quick: Path, train: Command) -> None:
    with own_experiment({"train.py": NETS, "config.yaml": NETS_CONFIG}) as folder:
        said = train("exp.split.lockbox=0.2", experiment=folder.name)
    assert said.err.startswith("error: exp.split.lockbox=0.2: this experiment splits by itself") and said.code == 2
    scored = TRAIN.replace("metric=rmse", 'metric="rmse"')
    with own_experiment({"train.py": scored}) as folder, pytest.raises(expkit.Error, match=r"or returns its score"):
        trained(folder.name)


# Its score


def test_the_score_is_that_of_the_mean_prediction(name: str, notes: Path) -> None:
    run = trained(name)
    printed = exp("unlock", run.title)
    assert "never opened" in printed and "--yes" in printed and "30 rows" in printed and not notes.exists()
    assert exp_json("unlock", run.title) == {"run": run.title, "opened": 0, "rows": 30}
    found = exp_json("unlock", run.title, "--yes")
    assert found["score"] == short(mean_score(run)) and (found["metric"], found["rows"]) == ("rmse", 30)
    assert found["low"] < found["score"] < found["high"] and found["high"] - found["low"] < 0.2
    single = float(np.mean([rmse(box) for box in box_of(run)]))
    assert (found["single"], found["models"]) == (short(single), 3) and single > mean_score(run)
    printed = exp("unlock", "first", "--yes")
    assert f"rmse {mean_score(run):.4f} (mean of 3 models; 95 % interval {found['low']:.4g} to " in printed
    assert f"\nsingle models: {single:.4f}, CV {run.score:.4f} ± " in printed
    assert exp_json("unlock", run.title)["opened"] == 2
    skill = (ROOT / "template/.agents/skills/exp-json/SKILL.md").read_text()
    [told] = re.findall(r"^\| `unlock` \| (.*) \|$", skill, re.M)
    assert {*re.findall(r"`(\w+)`", told)} == found.keys() | {"reason"}


def test_labels_have_no_mean(name: str) -> None:
    run = trained(name, "exp.train.labels=true", "exp.train.noise=0.8")
    found = exp_json("unlock", run.title, "--yes")
    assert found["score"] == found["single"] == short(float(np.mean([rmse(box) for box in box_of(run)])))
    assert found["reason"] == "labels have no mean, the score is that of the scores" and "low" not in found
    assert f"(mean of 3 models; no interval: {found['reason']}) on the 30 rows" in exp("unlock", run.title, "--yes")


def test_a_score_after_postprocess(quick: Path) -> None:
    """Fitted on the out-of-fold rows."""
    with own_experiment(
        {"train.py": TRAIN.replace("experiment = expkit.Experiment(train, TrainConfig, ", POSTPROCESS)}
    ) as folder:
        run = trained(folder.name)
        shift = (run.oof["prediction"] - run.oof["target"]).mean() + 1
        boxes = box_of(run)
        mean = np.mean([box["prediction"] for box in boxes], axis=0)
        assert exp_json("unlock", run.title, "--yes")["score"] == short(rmse(boxes[0], mean - shift))


def test_who_looked_is_noted_and_counts_for_all_runs_on_these_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")
    runs = [trained(name), trained(name, "exp.seed=1", run="second"), trained(name, run="wider", lockbox=0.3)]
    assert "the locked box was never opened on these rows" in exp("show", runs[0].title)
    assert "locked box" not in exp("log")
    for run in runs:
        exp("unlock", run.title, "--yes")
    says = r"the locked box was opened 3 times on these rows, last 20"
    for run in runs:
        assert says in exp("show", run.title) and " by ada" in exp("show", run.title)
        assert len(exp_json("show", run.title)["unlocked"]) == 3
    assert says in exp("log") and exp("log").count("locked box") == 1
    assert "the locked box was opened by ada" in exp("note", runs[1].title)
    assert all("score" not in str(line) for line in read_notes()[runs[0].title].lines)

    other = trained(name, "exp.train.rows=151", run="other-rows")
    assert "never opened on these rows" in exp("unlock", other.title)
    trained(name, lockbox=0.0, run="open")
    assert exp_json("unlock", runs[0].title)["no_box"] == [f"{name}/open"], "its folds have seen these rows"
    counts = page.labelled_board().set_index("name")["box opened"].dropna()
    expected = {"first": "3", "second": "3", "wider": "3", "other-rows": "0"}
    assert counts.to_dict() == {f"{name}/{run}": count for run, count in expected.items()}


def test_without_a_box_or_with_folds_missing(name: str) -> None:
    run = trained(name, lockbox=0)
    assert (
        refused("unlock", run.title, "--yes") == f"{run.title} has no locked box: train it with exp.split.lockbox=0.2"
    )
    assert "locked box" not in exp("show", run.title) and "unlocked" not in exp_json("show", run.title)
    run = trained(name, "exp.fold=[0]", run="partial")
    assert refused("unlock", run.title) == f"{run.title} has folds that are not done: train them first (exp.fold=null)"


READING = {
    "board": [[], ["--noise"], ["--all"], ["--seeds"]],
    "show": [["{run}"], ["{run}", "--all"], ["blends/both"]],
    "diff": [["{run}", "{other}"], ["{other}", "{run}", "--code"]],
    "note": [["{run}"], []],
    "log": [[], ["--all"]],
    "oof": [["{run}"], ["blends/both"], ["{run}", "--test"]],
    "submit": [["{run}"], ["{run}", "{other}"]],
    "blend": [["{run}", "{other}", "--name", "again"]],
    "unlock": [["{run}"]],
    "data": [["{run}"]],
    "clean": [[]],
    "remove": [["{run}"]],
    "check": [["{experiment}"]],  # others come and go, in other processes
    "docs": [[]],
}
WITHOUT_RESULTS = {"new", "try", "reproduce", "fetch", "kaggle"}  # `exp try` ends with what `exp diff` prints
HAS_ALL = ("board", "show", "log", "note")


def test_no_other_command_shows_the_score(
    name: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the score of the mean, nor that of a fold: in no output, no file, nothing that W&B is told."""
    wandb = MagicMock()
    monkeypatch.setattr(tracking, "_open", wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    # On the rows set aside, predictions are 7 too high: their scores are like no other number.
    runs = {
        "run": trained(name, "exp.train.of_box=7"),
        "other": trained(name, "exp.train.of_box=7.5", "exp.seed=1", run="b"),
    }
    printed = capsys.readouterr()
    exp("blend", *(run.title for run in runs.values()), "--name", "both")
    texts = {"training": printed.out + printed.err, "wandb": str(wandb.mock_calls)}
    assert app.commands.keys() == READING.keys() | WITHOUT_RESULTS, "a new command: does it show the score?"
    titles = {key: run.title for key, run in runs.items()} | {"experiment": name}
    for command, lines in READING.items():
        for line in lines:
            arguments = [command, *(word.format_map(titles) for word in line)]
            is_text = "--all" not in line or command == "board"
            texts |= {str(arguments): exp(*arguments)} if is_text else {}
            texts |= {f"{arguments} --json": exp(*arguments, "--json")} if command != "docs" else {}
    texts["page"] = page.labelled_board().to_csv() + expkit.read_board()[0].title
    for file in (root / "output").rglob("*"):
        if file.is_file() and file.suffix in (".json", ".csv", ".log", ".yaml", ".txt"):
            texts[str(file)] = file.read_text()
    scores = [
        score
        for run in [*runs.values(), store.load_run("both")]
        for score in (mean_score(run), *map(rmse, box_of(run)))
    ]
    assert min(scores) > 6.5 and len(scores) == 12 - 2 + 2
    for where, text in texts.items():
        for score in scores:
            assert f"{score:.3f}" not in text and f"{score:.5g}" not in text, where
    assert f"{mean_score(runs['run']):.4f}" in exp("unlock", titles["run"], "--yes")


# Runs that are made of runs, or compared with others


@pytest.mark.parametrize("method", ["mean", "hill", "rank"])
def test_a_blend_can_be_unlocked(name: str, method: str) -> None:
    runs = [trained(name), trained(name, "exp.seed=1", "exp.train.noise=0.5", run="second")]
    exp("blend", *(run.title for run in runs), "--method", method, "--name", "both")
    made = store.load_run("both")
    assert not {*made.oof["id"]} & {*box_of(made)[0]["id"]}
    means = [np.mean([box["prediction"] for box in box_of(run)], axis=0) for run in runs]
    if method == "rank":
        means = [np.argsort(np.argsort(mean)) + 1.0 for mean in means]
        means = [mean / len(mean) for mean in means]
    weights = np.mean([*made.recipe.by_part.values()], axis=0)  # of the folds
    expected = rmse(box_of(runs[0])[0], sum(weight * mean for weight, mean in zip(weights, means, strict=True)))
    assert exp_json("unlock", "both", "--yes")["score"] == pytest.approx(expected, rel=1e-5)
    assert "opened 1 time on these rows" in exp("show", runs[0].title), "it is of the same rows"
    trained(name, run="none", lockbox=0)
    assert "rows" in refused("blend", runs[0].title, f"{name}/none")


def test_runs_with_other_boxes_do_not_compare(name: str) -> None:
    for run, lockbox in {"a": 0.2, "b": 0.2, "c": 0.3, "d": 0.0}.items():
        trained(name, f"exp.seed={ord(run)}", run=run, lockbox=lockbox)
    marks = {one.run.name: one.marks for one in flag_incomparable(entries(read_board()))}
    assert marks == {"a": (), "b": (), "c": ("other folds",), "d": ("other folds",)}
    assert compared(f"{name}/a", f"{name}/b")["verdict"] != "not comparable"
    assert compared(f"{name}/a", f"{name}/c")["verdict"] == "not comparable"


def test_a_run_that_reads_another(name: str) -> None:
    """With the same box, it sets the same rows aside; with another one, it may have known what it is scored on."""
    parent = trained(name)
    child = trained(name, f"exp.train.parent={name}/first", run="same")
    assert child.parents and not child.leaks and np.array_equal(box_of(child)[0]["id"], box_of(parent)[0]["id"])
    for lockbox in (0.3, 0):
        child = trained(name, f"exp.train.parent={name}/first", run=f"other{lockbox}", lockbox=lockbox)
        assert child.leaks == (f"other folds than {name}/first, whose out-of-fold predictions it reads",)


def test_a_stack_learns_from_predictions_of_all_rows(name: str) -> None:
    """In any order; those of the locked box are the mean of the folds, none of which has trained on them."""
    without, with_box = (trained(name, run=f"box{share}", lockbox=share) for share in (0, 0.2))
    ids = np.random.default_rng(0).permutation(150)
    for run in (without, with_box):
        found = expkit.load_run(run.title).oof_of(ids.tolist())
        assert np.array_equal(found["id"], ids)
        assert run is with_box or np.array_equal(found["target"], ids % 3)
        assert ("target" in found) == (run is without), "of rows set aside, no target is handed out"
        known = dict(zip(run.oof["id"].tolist(), run.oof["prediction"].tolist(), strict=True))
        boxes = box_of(run) if run is with_box else []
        known |= {
            id: np.mean([box["prediction"][row] for box in boxes])
            for box in boxes[:1]
            for row, id in enumerate(box["id"])
        }
        assert np.allclose(found["prediction"], [known[id] for id in ids], rtol=1e-12)
        with pytest.raises(
            expkit.Error, match=r"out of fold, has other rows than run.oof_of\(id\): 0 fewer and 30 more, such as 7"
        ):
            expkit.load_run(run.title).oof_of(ids[:120])


def test_an_idea_is_tried_with_the_box_of_its_base(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(self: tries.Training, *more: str) -> None:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            expkit.run(self.experiment, overrides=[*self.overrides, *more])

    monkeypatch.setattr(tries.Training, "train", train)
    folder = expkit.code_root() / "experiments" / name
    (folder / "exp/001.yaml").write_text("name: base\nn_folds: 3\n\nsplit:\n  lockbox: 0.2\n")
    expkit.run(name, overrides=["exp=001", "exp.fold=null"])
    base = store.load_run(f"{name}/base")
    found = exp_json("try", "--from", base.title, "train.noise=0.2", "--why", "less", "--seeds", "2")
    assert found["verdict"] != "not comparable"
    runs = expkit.read_board()
    assert len(runs) == 4 and all(np.array_equal(box_of(run)[0]["id"], box_of(base)[0]["id"]) for run in runs)


def test_reproduce_compares_the_box_too(name: str) -> None:
    runs = [trained(name), trained(name, "exp.train.of_box=1", run="b")]
    assert list(reproduction._compare(runs[0], runs[0], 0)) == []
    differs = "fold 0: 30 of 30 rows of lockbox.npz differ"
    assert list(reproduction._compare(runs[0], runs[1], 0)) == [differs]


def test_a_run_and_a_blend_are_made_again(root: Path) -> None:
    with own_experiment({"train.py": TRAIN}) as folder:
        (folder / ".gitignore").unlink()  # the snapshots are to have it
        runs = [trained(folder.name), trained(folder.name, "exp.seed=1", run="second")]
        exp("blend", *(run.title for run in runs), "--name", "both")
        assert str(expkit.reproduce(runs[0].title)) == str(expkit.reproduce("blends/both")) == "identical"
