"""`Experiment.postprocess`: fitted for each fold on the others, shown beside the score without it, and submitted."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
from conftest import Printed
from experiments import own_experiment
from helpers import exp, exp_json, results
from light import edited, train_py

import expkit
from expkit.config import load_experiment
from expkit.scores import postprocess, postprocessed

CODE = """
def mae(oof):
    return float(abs(oof["target"] - oof["prediction"]).mean())


def centre(oof):
    shift = (oof["target"] - oof["prediction"]).mean()

    def shifted(table):
        assert set(table) == {"id", "prediction"}
        return table["prediction"] + shift

    return shifted


def train(exp, fold):
    import numpy as np

    random = np.random.default_rng([exp.seed, 9 if fold.number is None else fold.number])
    ids = np.arange(60)
    rows = fold.split(id=ids, y=ids / 10)
    test = np.arange(60, 64)
    fold.predict(lambda X: X / 10 + random.normal(fold.number or 0, 1, len(X)), ids, test=test, test_id=test)
    values = fold.evaluate(lambda X: X / 10, ids)
    return {"evaluated": sorted(values)}
"""


@pytest.fixture
def centred(root: Path) -> Iterator[Path]:
    """The folder of an experiment of three folds, whose predictions are too high by another number in each."""
    text = train_py("x: int = 0", CODE, "metric=mae, postprocess=centre, greater_is_better=False", "n_folds: int = 3")
    with own_experiment({"train.py": text}) as folder:
        yield folder


def only_run() -> expkit.Run:
    [run] = expkit.read_board()
    return run


def residuals(run: expkit.Run) -> np.ndarray:
    return np.asarray(run.oof["target"] - run.oof["prediction"])


def test_each_fold_is_scored_by_what_the_others_gave(centred: Path, root: Path, capsys: Printed) -> None:
    score = expkit.run(centred.name)
    run, printed = only_run(), capsys.readouterr().out
    left, fold = residuals(run), run.oof["fold"]
    expected = np.array([left[row] - left[fold != fold[row]].mean() for row in range(60)])
    assert score == run.score == pytest.approx(abs(expected).mean())
    assert run.fold_scores == pytest.approx({each: abs(expected[fold == each]).mean() for each in range(3)})
    assert run.other_scores == {"mae_raw": pytest.approx(abs(left).mean())}
    optimistic = abs(left - left.mean()).mean()
    assert run.score > optimistic, "as it would be fitted on the rows that it is scored on"
    assert not run.marks and run.metric == "mae"
    assert f"CV mae {run.score:.4f}" in printed and "mae_raw" in exp("board") and "CV mae_raw" in exp("show", run.name)
    assert [*results(root, "light", centred.name)[0]["scores"]] == ["mae_raw"], "of a fold alone"
    assert results(root, "light", centred.name)[0]["values"]["evaluated"] == ["valid_mae"]
    assert "fold 0  mae_raw" in printed


def test_a_single_fold_is_scored_by_its_halves(centred: Path) -> None:
    for overrides in (["exp.n_folds=1"], ["exp.fold=[1]"]):
        expkit.run(centred.name, overrides=[*overrides, "overwrite=true"])
    for run in expkit.read_board():
        left, half = residuals(run), np.arange(run.rows) % 2
        expected = [left[row] - left[half != half[row]].mean() for row in range(run.rows)]
        assert run.score == pytest.approx(np.mean(np.abs(expected)))


def shifted(means: np.ndarray, *runs: expkit.Run) -> list[float]:
    """A submission of test predictions: all out-of-fold rows say how much is added."""
    return list(means + np.mean([residuals(run) for run in runs]))


def submitted(*arguments: str) -> list[float]:
    with open(exp_json("submit", *arguments)["path"], newline="") as stream:
        return [float(row["prediction"]) for row in csv.DictReader(stream)]


def test_a_submission_has_what_all_folds_gave(centred: Path, root: Path) -> None:
    for seed in (1, 2):
        expkit.run(centred.name, overrides=[f"exp.seed={seed}"])
    one, other = (expkit.load_run(f"light,exp.seed={seed}") for seed in (1, 2))
    means = [np.mean([run.test(fold)["prediction"] for fold in range(3)], axis=0) for run in (one, other)]
    assert submitted(one.title) == pytest.approx(shifted(means[0], one))
    assert submitted(one.title, other.title) == pytest.approx(shifted(np.mean(means, axis=0), one, other))
    made = exp_json("submit", one.title)
    assert made["columns"] == {"prediction": "prediction, after postprocess"}

    name = exp_json("blend", one.title, other.title, "--method", "mean")["run"]
    blend = expkit.load_run(name)
    assert submitted(name) == pytest.approx(shifted(np.mean(means, axis=0), blend))
    left, fold = residuals(blend), blend.oof["fold"]
    expected = [left[row] - left[fold != fold[row]].mean() for row in range(60)]
    assert blend.score == pytest.approx(np.mean(np.abs(expected))), "a blend is scored in the same way"

    expkit.run(centred.name, overrides=["exp.seed=1", "exp.mode=sub"])
    full = expkit.load_run(one.title)
    with open(full.folder / "full/submission.csv", newline="") as stream:
        rows = [float(row["prediction"]) for row in csv.DictReader(stream)]
    assert rows == submitted(one.title, "--from", "full")
    assert rows == pytest.approx(shifted(full.test(None)["prediction"], one))


def test_the_rules_of_two_experiments(centred: Path, root: Path) -> None:
    """Where they differ, the first run's count, and both commands say so."""
    text = (centred / "train.py").read_text()
    other = text.replace(").mean()\n\n    def", ").mean() - 1\n\n    def")
    with own_experiment({"train.py": text}) as alike, own_experiment({"train.py": other}) as differing:
        for seed, folder in enumerate((centred, alike, differing)):
            expkit.run(folder.name, overrides=[f"exp.seed={seed}"])
        ours, same, theirs = (
            f"{each.name}/light,exp.seed={seed}" for seed, each in enumerate((centred, alike, differing))
        )
        for runs in ((ours, same), (ours, theirs), (theirs, ours)):
            names = [run.partition("/")[0] for run in runs]
            takes = (
                f"that of {names[0]} counts, as its run is named first; to take that of {names[1]}, name a run of it"
            )
            line = f"{names[0]} and {names[1]} differ in postprocess: {takes} first" if theirs in runs else ""
            for command in (["submit"], ["blend", "--name", f"of-{names[0]}"]):
                assert exp_json(*command, *runs)["rules"] == line
                printed = exp(*command, *runs)
                assert f"warning: {line}\n" in printed if line else "postprocess: that" not in printed
            exp("remove", f"blends/of-{names[0]}", "--yes")


def test_without_folds_there_is_nothing_to_fit_on(centred: Path, capsys: Printed) -> None:
    expkit.run(centred.name, overrides=["exp.mode=sub"])
    line = "has no out-of-fold predictions, which postprocess is fitted on: train its folds (exp.fold=null)"
    assert f"there is no submission.csv: {centred.name}/light {line}" in capsys.readouterr().err
    assert line in helpers.refused("submit", f"{centred.name}/light")


def test_another_postprocess_is_no_other_training(centred: Path, capsys: Printed) -> None:
    """Stored predictions are scored again, and this is said; also when there was none, or is none."""
    expkit.run(centred.name)
    first, file = only_run(), centred / "train.py"
    for old, new in ((").mean()\n\n    def", ").mean() - 1\n\n    def"), (", postprocess=centre", "")):
        with edited(file, old, new):
            load_experiment(centred.name, again=True)
            shown = exp("show", first.name)
            assert "metric changed" in shown and ("code changed" not in shown or not new)
            capsys.readouterr()
            expkit.run(centred.name)
            printed = capsys.readouterr().out
            assert "scores computed again: postprocess has changed" in printed and "is done" in printed
            other = only_run()
            assert other.score != first.score
            assert other.results[0]["checksum"] == first.results[0]["checksum"], "trained once"
        load_experiment(centred.name, again=True)
        expkit.run(centred.name)
        assert "scores computed again: postprocess has changed" in capsys.readouterr().out
        assert only_run().score == first.score


def test_two_runs_are_compared_as_they_are_scored(centred: Path) -> None:
    """The rows, too."""
    for seed in (1, 2):
        expkit.run(centred.name, overrides=[f"exp.seed={seed}"])
    found = exp_json("diff", "seed=1", "seed=2")["comparison"]
    one, other = (expkit.load_run(f"light,exp.seed={seed}") for seed in (1, 2))
    assert found["rows"]["better_by"] == pytest.approx(one.score - other.score), found


@pytest.mark.parametrize(
    ("fit", "line"),
    [
        (lambda oof: oof["nothing"], "postprocess raises KeyError: 'nothing', of the columns id, target, prediction"),
        (lambda oof: 0.5, "postprocess must return a function of a table of predictions, not 0.5"),
        (lambda oof: lambda table: table["target"], "returns raises KeyError: 'target', of the columns id, prediction"),
        (lambda oof: lambda table: table["prediction"][1:], "the columns differ in length: id 4, prediction 3"),
        (lambda oof: lambda table: table["prediction"] / 0, "4 of 4 rows of prediction are nan or inf"),
        (
            lambda oof: lambda table: {name: column[::-1] for name, column in table.items()},
            "the ids, or their order, are not as they were",
        ),
    ],
)
def test_what_does_not_fit(fit: Any, line: str) -> None:
    experiment = expkit.Experiment(print, object, "score", postprocess=fit)  # type: ignore[arg-type]
    table = {"id": np.arange(8), "target": np.arange(8) / 4, "prediction": np.arange(8) / 4, "fold": np.arange(8) % 2}
    with pytest.raises(expkit.Error) as caught, np.errstate(all="ignore"):
        postprocessed(experiment, table)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_fit_that_changes_what_it_is_given() -> None:
    """One table is fitted on for the box, each fold of it, and the submission."""

    def halved(oof: dict[str, Any]) -> Any:
        oof["prediction"] /= 2
        factor = oof["target"].mean() / oof["prediction"].mean()

        def apply(table: dict[str, Any]) -> Any:
            table["prediction"] *= factor
            return table["prediction"] / 2

        return apply

    experiment = expkit.Experiment(print, object, "score", postprocess=halved)  # type: ignore[arg-type]
    oof = {"id": np.arange(4), "target": np.full(4, 3.0), "prediction": np.full(4, 6.0)}
    made = [postprocess(experiment, oof, {"id": np.arange(4), "prediction": oof["prediction"]}, "x") for _ in range(2)]
    assert [table["prediction"].tolist() for table in made] == [[3.0] * 4] * 2 and oof["prediction"].tolist() == [6] * 4


def test_rows_stay_where_they_are() -> None:
    """Those of a fold are not side by side; a function may change what it is given; columns of any shape."""

    def fit(oof: dict[str, Any]) -> Any:
        def less(table: dict[str, Any]) -> dict[str, Any]:
            table["wide"] -= 1
            return {"wide": table["wide"], "sum": table["wide"].sum(axis=1)}

        return less

    experiment = expkit.Experiment(print, object, "score", postprocess=fit)  # type: ignore[arg-type]
    wide = np.arange(16.0).reshape(8, 2)
    table = {"id": np.arange(8), "target": wide[:, 0], "wide": wide.copy(), "fold": np.array([2, 0, 1, 2, 1, 0, 0, 2])}
    found = postprocessed(experiment, table)
    assert np.array_equal(found["wide"], wide - 1) and np.array_equal(found["sum"], wide.sum(axis=1) - 2)
    assert np.array_equal(table["wide"], wide) and np.array_equal(found["fold"], table["fold"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ('metric="mae", postprocess=centre', "postprocess in expkit.Experiment needs metrics that are functions"),
        ("metric=mae, postprocess=0.5", "postprocess in expkit.Experiment must be a function, not 0.5"),
        ('metric=mae, submission="rows"', "submission in expkit.Experiment must be a function, not 'rows'"),
    ],
)
def test_options_that_do_not_fit(root: Path, options: str, line: str) -> None:
    text = train_py("x: int = 0", CODE, f"{options}, greater_is_better=False")
    with own_experiment({"train.py": text}) as folder, pytest.raises(expkit.Error, match=line):
        load_experiment(folder.name)
