"""A score never lies: what is no number, row, id or submission is one line, and the fold is not done."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call
from experiments import own_experiment
from helpers import exp

import expkit
from expkit import files, store, tables
from expkit.board import Entry
from expkit.config import load_experiment
from expkit.errors import Terminated
from expkit.scores import checked, fold_scores, score, update

TRAIN = """
import functools
import math

import expkit
import numpy as np


{metrics}


def train(exp, fold):
    with open(expkit.project_root() / "trained", "a") as log:
        log.write(f"{{fold.name}}\\n")
    n = 0 if fold.number is None else fold.number
{body}


experiment = expkit.Experiment(train, expkit.ExpConfig, {options}, own_split=True)
"""

ACCURACY = """
def accuracy(oof):
    return (oof["target"] == oof["prediction"]).mean()
"""
GOOD = """
fold.save_oof({"id": [10 * n, 10 * n + 1], "target": [0, 1], "prediction": [0, n % 2]})
"""

Make = Callable[..., str]


def source(metrics: str, body: str, options: str) -> str:
    indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return TRAIN.format(metrics=metrics.strip("\n"), body=indented, options=options)


@pytest.fixture
def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes an experiment of two folds: the source of its metrics, what `train` does with `fold`, and the options.

    A name of one that is there already: its train.py is written anew.
    """
    monkeypatch.setenv("PATH", str(root))  # no git: snapshots take longer than these trainings

    with ExitStack() as stack:

        def made(
            metrics: str = ACCURACY, body: str = GOOD, options: str = "metric=accuracy", name: str | None = None
        ) -> str:
            text = source(metrics, body, options)
            if name is not None:
                (expkit.code_root() / "experiments" / name / "train.py").write_text(text)
                load_experiment(name, again=True)
                return name
            folder = stack.enter_context(own_experiment({"train.py": text}))
            config = folder / "config.yaml"
            config.write_text(config.read_text() + "  n_folds: 2\n")
            return folder.name

        yield made


def refused(name: str, *overrides: str) -> str:
    """The one line that a run ends with."""
    with pytest.raises(expkit.Error) as caught:
        expkit.run(name, overrides=["exp.fold=[0]", *overrides])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def trained(root: Path) -> list[str]:
    """The folds that have been trained, each time."""
    return (root / "trained").read_text().split() if (root / "trained").exists() else []


def not_done() -> None:
    """No fold counts and the board shows no score; what is there is JSON."""
    for row in expkit.read_board():
        assert row.score is None and len(row.done) == 0, row
        json.dumps(Entry((row,)).values, allow_nan=False)


# Metrics


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        (np.float64("nan"), "is nan, not a finite number"),
        (-math.inf, "is -inf, not"),
        (None, "is None, not"),
        ("0.5", "is 0.5, not a finite number"),
        (np.array([0.5, 0.6]), "is .0.5 0.6., not"),
        (np.True_, "is True, not"),
        pytest.param(10**400, "is 1000000000.*, not a finite number of at most 1e.150; fix it", id="large"),
        (1.75e308, r"is 1.75e.308, not a finite number of at most 1e.150"),
        (np.ma.masked, "is --, not"),
        (np.ma.array(0.5, mask=True), "is --, not"),
    ],
)
def test_a_metric_that_is_no_number(returned: Any, complaint: str) -> None:
    with pytest.raises(expkit.Error, match=f"the metric accuracy .*{complaint}"):
        score("accuracy", lambda _: returned, {"id": np.arange(2)})


def test_a_metric_that_changes_what_it_is_given() -> None:
    """The next metric, and each fold, has the predictions as they were."""

    def spread(oof: dict[str, Any]) -> float:
        oof["prediction"].sort()
        oof["prediction"] -= oof["prediction"][0]
        return float(oof["prediction"][-1])

    table = {"id": np.arange(6), "prediction": np.array([3.0, 1, 2, 9, 5, 7]), "fold": np.array([0, 0, 1, 1, 0, 1])}
    for rows in (table, {**table, "fold": np.arange(6) // 3}):
        kept = rows["prediction"].copy()
        assert score("spread", spread, rows) == 8
        by_fold = {0: 4, 1: 7} if rows is table else {0: 2, 1: 4}
        assert fold_scores("spread", spread, rows) == by_fold == fold_scores("spread", spread, rows)
        assert np.array_equal(rows["prediction"], kept)


def raised(error: BaseException) -> float:
    raise error


def test_a_metric_that_ends_the_process() -> None:
    """By sys.exit, which is its own doing; what comes from outside still ends it."""
    for code, line in ((0, "raises SystemExit: 0, of the columns id"), ("bad", "raises SystemExit: bad")):
        with pytest.raises(expkit.Error, match=line):
            score("accuracy", lambda _, code=code: sys.exit(code), {"id": np.arange(2)})
    for stop in (Terminated(143), KeyboardInterrupt(), SystemExit(-1)):
        with pytest.raises(type(stop)):
            score("accuracy", lambda _, stop=stop: raised(stop), {"id": np.arange(2)})


def test_a_training_that_ends_the_process(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    name = make(body="import sys\nsys.exit(n)")
    with pytest.raises(expkit.Error, match="failed: fold 0, fold 1; the same command"):
        expkit.run(name)
    lines = capsys.readouterr().err
    assert all(f"error: train() calls sys.exit({number}): to end a training, return" in lines for number in (0, 1))
    [run] = expkit.read_board()
    assert run.failure.startswith("train() calls sys.exit(")


def test_boxes_and_text_that_a_metric_changes() -> None:
    """Each has its own: the rows of a ragged column, and labels."""

    def area(oof: dict[str, Any]) -> float:
        for boxes in oof["target"]:
            boxes[:, 1] *= boxes[:, 0]
        oof["label"][oof["label"] == "unk"] = "a"
        return float(sum(boxes[:, 1].sum() for boxes in oof["target"])) + (oof["label"] == "unk").sum()

    boxes = [np.full((1 + row % 3, 2), 2.0) for row in range(6)]
    table = tables.columns({"id": range(6), "target": boxes, "label": ["unk", "b"] * 3}, "oof")
    assert [score("area", area, table), score("area", area, table)] == [48, 48]
    assert table["target"][0].tolist() == [[2, 2]] and table["label"].tolist() == ["unk", "b"] * 3


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ("1 / 0", "the metric accuracy raises ZeroDivisionError: division by zero"),
        ("oof['nothing']", "the metric accuracy raises KeyError: 'nothing'"),
    ],
)
def test_a_metric_that_fails_costs_no_training(make: Make, root: Path, returned: str, complaint: str) -> None:
    """One line; the fold is not done, and mending the metric needs no training."""
    name = make(f"def accuracy(oof):\n    return {returned}\n")
    assert complaint in refused(name)
    not_done()
    assert complaint in refused(name), "again, from the predictions that are kept"
    assert expkit.run(make(name=name)) == 0.75
    assert trained(root) == ["fold0", "fold1"]
    [row] = expkit.read_board()
    assert (row.score, len(row.done), row.marks) == (0.75, 2, ())


def test_names_of_metrics(make: Make) -> None:
    """A function, one under functools.partial, a callable object; a lambda has no name, and says so before training."""
    at = "def top(oof, k):\n    return float(k)\n"
    assert expkit.run(make(at, options="metric=functools.partial(top, k=3)")) == 3.0
    assert (
        expkit.run(make("class Top:\n    def __call__(self, oof):\n        return 2\n", options="metric=Top()")) == 2.0
    )
    assert {row.metric for row in expkit.read_board()} == {"top", "Top"}
    assert "a metric needs a name" in refused(make("", options="metric=lambda oof: 1"))
    assert "a metric must be a function" in refused(make("", options="metric=3"))
    assert "two metrics have the same name" in refused(make(options="metric=accuracy, other_metrics=[accuracy]"))
    assert "must be True or False" in refused(make(options="metric=accuracy, greater_is_better=1"))
    error = make("def rmse(oof):\n    return 1.0\n", options="metric=rmse")
    assert "is a lower rmse better? Say greater_is_better=False" in refused(error)


def test_another_metric_needs_no_training(make: Make, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed one and an added one are computed from the predictions; the one that decides may change, too."""
    name = make()
    assert expkit.run(name) == 0.75
    changed = 'def accuracy(oof):\n    return 1 - (oof["target"] == oof["prediction"]).mean()\n'
    assert "scores computed again" not in capsys.readouterr().out
    assert expkit.run(make(changed, name=name)) == 0.25
    assert "scores computed again: the metric accuracy has changed" in capsys.readouterr().out
    hits = "def hits(oof):\n    return (oof['target'] == oof['prediction']).sum()\n"
    assert expkit.run(make(changed + hits, options="metric=accuracy, other_metrics=[hits]", name=name)) == 0.25
    [row] = expkit.read_board()
    assert (row.metric, row.score, row.other_scores, row.marks) == ("accuracy", 0.25, {"hits": 3.0}, ())
    assert expkit.run(make(changed + hits, options="metric=hits, other_metrics=[accuracy]", name=name)) == 3.0
    [row] = expkit.read_board()
    assert (row.metric, row.score, row.other_scores) == ("hits", 3.0, {"accuracy": 0.25})
    assert expkit.run(make(changed, name=name)) == 0.25
    assert trained(root) == ["fold0", "fold1"]


AUC = """
def auc(oof):
    hits, misses = (oof["prediction"][oof["target"] == each] for each in (1, 0))
    return (hits[:, None] > misses).mean()
"""
LEVELS = """
fold.save_oof({"id": [10 * n, 10 * n + 1], "target": [0, 1], "prediction": [n + 0.1, n + 0.2]})
"""


def test_a_score_over_the_folds(make: Make, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each fold ranks its rows, at another level: 1 in each, 0.75 over all rows. The choice needs no training."""
    name = make(AUC, LEVELS, "metric=auc")
    assert expkit.run(name) == 0.75
    assert "CV auc 0.7500 ± 0.0000 (mean of folds 1.0000)  2/2 folds\n" in capsys.readouterr().out
    assert expkit.run(make(AUC, LEVELS, 'metric=auc, score_over="folds"', name=name)) == 1.0
    assert trained(root) == ["fold0", "fold1"]
    assert "CV auc 1.0000 ± 0.0000 (over all rows 0.7500)  2/2 folds\n" in capsys.readouterr().out
    [row] = expkit.read_board()
    assert (row.score, row.std, row.marks) == (1.0, 0.0, ())
    about = json.loads(exp("show", row.title, "--json"))
    assert about["score"] == 1.0
    assert about["scores"] == {"auc": {"score": 1.0, "std": 0.0, "over_rows": 0.75, "mean_of_folds": 1.0}}
    assert "CV auc 1.0000 ± 0.0000 (over all rows 0.7500)  2/2 folds" in exp("show", row.title)
    assert 'must be "rows" or "folds", not \'mean\'' in refused(make(AUC, LEVELS, 'metric=auc, score_over="mean"'))


def test_a_score_that_train_returns(make: Make, root: Path) -> None:
    """Without rows, and beside other values; it must be there, and a number."""
    body = "return {'fid': 1 + 5 * n ** 2, 'steps': 7, 'kid': 0.5}"
    options = "metric='fid', greater_is_better=False, other_metrics=['kid']"
    assert expkit.run(make("", body, options)) == 3.5
    [run] = expkit.read_board()
    assert (run.metric, run.score, run.fold_scores, run.rows) == ("fid", 3.5, {0: 1.0, 1: 6.0}, 0)
    assert (run.other_scores, run.marks) == ({"kid": 0.5}, ())
    assert (run.result(0) or {})["values"] == {"steps": 7}
    assert "must return {'fid': a finite number}, which is the score, not None" in refused(make("", "pass", options))
    assert "not nan" in refused(make("", "return {'fid': math.nan, 'kid': 1}", options))
    mixed = "metric='fid', other_metrics=[len], greater_is_better=False"
    assert "are all functions, or all names" in refused(make("", body, mixed))


def test_no_rows_are_not_counted(make: Make, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left out, so there is no hold-out either."""
    name = make("", "return {'fid': 2 + n}", "metric='fid', greater_is_better=False")
    expkit.run(name)
    assert "\nCV fid 2.5000 ± 0.7071  2/2 folds\n" in capsys.readouterr().out
    for _ in range(2):
        expkit.run(name, overrides=["exp.n_folds=1"])
    assert re.search(r"^training  fid .*\nfid 2.0000\n(.*\n)*training is done\n", printed := capsys.readouterr().out)
    assert "hold-out" not in printed
    for run in expkit.read_board():
        shown = exp("show", run.title)
        assert "hold-out" not in shown
        assert ("\nfid 2.0000\n" if run.n_folds == 1 else "\nCV fid 2.5000 ± 0.7071  2/2 folds\n") in shown
        assert not {"rows", "split", "kfold"} & {*re.findall(r"\w+", shown)}, shown
    expkit.run(name := make())
    assert "  2/2 folds, 4 rows\n" in exp("show", f"{name}/light")


def test_a_metric_that_is_edited_while_a_fold_is_trained(
    make: Make, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scores are those of the function that ran, until the same command computes them again."""
    edit = "from pathlib import Path\nfile = Path(__file__)\nfile.write_text(file.read_text().replace('+ 0', '+ 100'))"
    name = make(ACCURACY.replace(".mean()", ".mean() + 0"), body=f"{edit}\n{GOOD}")
    assert expkit.run(name) == 0.75
    load_experiment(name, again=True)
    capsys.readouterr()
    assert expkit.run(name) == 100.75
    assert "scores computed again: the metric accuracy has changed" in capsys.readouterr().out
    [row] = expkit.read_board()
    assert row.score == 100.75


ODD = """
import re
import threading
from dataclasses import dataclass


@dataclass
class Odd:
    names: frozenset
    open_file: object
    me: object = None

    def __call__(self, oof):
        return 1.0 if again(1) else 0.0


def again(n):
    return n == 0 or again(n - 1)


odd = Odd(frozenset("abcdefgh"), open(__file__), [threading.Lock(), object(), lambda x: x, re.compile("a")])
odd.me.append(odd)
"""


def test_a_metric_is_the_same_in_each_process(make: Make) -> None:
    """Whatever it holds: a lock, a file, itself; whatever its comments, docstrings and layout; in any experiment."""
    name = make(ODD, options="metric=odd")
    line = f"import expkit; print(expkit.load_experiment({name!r}).experiment.made_by)"
    environments = [{"EXPKIT_ROOT": str(expkit.code_root()), "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    found = {call(sys.executable, "-c", line, cwd=expkit.code_root(), env=each).stdout for each in environments}
    assert found == {f"{load_experiment(name).experiment.made_by}\n"}
    commented = ODD.replace("return n ==", "# a comment\n    return  n ==").replace("(n):", '(n):\n    """Text."""')
    assert found == {f"{load_experiment(make(commented, options='metric=odd')).experiment.made_by}\n"}
    [known] = load_experiment(name).experiment.made_by.values()
    assert known == "e5c7196e6e76c49a", "so do all versions of Python, or every run would be scored again"
    changed = make(ODD.replace('compile("a")', 'compile("b")'), options="metric=odd")
    assert found != {f"{load_experiment(changed).experiment.made_by}\n"}


# What a metric uses

RULES = """
THIRD = 1 / 3


def half(x):
    return x / base()


def base():
    return 2.0
"""
USES = """
import numpy as np
import rules

LIMIT = 9.0


class Scaler:
    step = 1.0

    def __init__(self, factor):
        self.factor, self.weights = factor, np.array([1.0, 2.0])

    def __call__(self, oof):
        return self.factor * self.step + self.weights[0]


def weighted(factor):
    def decorate(metric):
        @functools.wraps(metric)
        def wrapper(oof):
            return factor * metric(oof)

        return wrapper

    return decorate


@weighted(2)
def noted(oof):
    return 1.25


def top(oof, k, offset=0.5):
    return k + offset


def helped(oof):
    from rules import THIRD

    import only_here

    return min(rules.half(2.0) + THIRD + only_here.ONLY, LIMIT)
"""


@pytest.mark.parametrize(
    ("metric", "file", "old", "new"),
    [
        ("functools.partial(top, k=3)", "train.py", "k=3", "k=4"),
        ("functools.partial(top, k=3)", "train.py", "offset=0.5", "offset=0.6"),
        ("Scaler(2.0)", "train.py", "Scaler(2.0)", "Scaler(3.0)"),
        ("Scaler(2.0)", "train.py", "step = 1.0", "step = 2.0"),
        ("Scaler(2.0)", "train.py", "[1.0, 2.0]", "[3.0, 2.0]"),
        ("noted", "train.py", "weighted(2)", "weighted(3)"),
        ("noted", "train.py", "1.25", "1.75"),
        ("helped", "train.py", "LIMIT = 9.0", "LIMIT = 2.0"),
        ("helped", "rules.py", "1 / 3", "1 / 4"),
        ("helped", "rules.py", "return 2.0", "return 4.0"),
        ("helped", "only_here.py", "1.0", "2.0"),
    ],
)
def test_what_a_metric_uses(make: Make, metric: str, file: str, old: str, new: str) -> None:
    """What it holds, calls and reads, anywhere in the project: edited, it is another metric."""
    name = make(USES, options=f"metric={metric}, greater_is_better=True")
    folder = expkit.code_root() / "experiments" / name
    (folder / "rules.py").write_text(RULES)
    (folder / "only_here.py").write_text("ONLY = 1.0\n")
    before = load_experiment(name, again=True).experiment.made_by
    text = (folder / file).read_text()
    assert text.count(old) == 1
    (folder / file).write_text(text.replace(old, new))
    assert before != load_experiment(name, again=True).experiment.made_by


# Predictions


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"prediction": [0.5, math.nan]}, "1 of 2 rows of prediction are nan or inf"),
        ({"p": np.array([[0, 1], [np.nan, np.nan]])}, "1 of 2 rows of p are nan"),
        ({"target": [0, None]}, "column target: holds NoneType, int: one type"),
        ({"id": [0, 0]}, "1 ids are there more than once, such as 0"),
        ({"prediction": np.zeros((2, 1))}, "has the shape (2, 1): one value per row"),
        ({"prediction": 0.5}, "has the shape ()"),
        ({"prediction": [0]}, "differ in length: id 2, prediction 1"),
        ({"prediction": [[1, 2], 3]}, "column prediction: this is not an array"),
        ({"id": [], "prediction": []}, "there is no row"),
        ({"prediction": [0, 10**30]}, "an integer is too large"),
        ({"target": [1j, 1j]}, "holds complex128"),
        (
            {"target": ["a", None]},
            "holds NoneType, str: one type per column, and no missing values: 1 of 2 rows have no",
        ),
        ({"target": [np.str_("a"), np.nan]}, "holds float, str_: one type per column"),
        (
            {"target": np.array(["a", np.nan], object)},
            "no missing values: 1 of 2 rows have no value, such as row 1 (from 0)",
        ),
        ({"target": {"a", "b"}}, "column target: holds object, and not numbers, text or dates"),
        ({"target": ["a"]}, "differ in length: id 2, target 1"),
        ({"x:lengths": [1, 1]}, "fold 0, oof.npz: no column may have a name with :lengths"),
        ({"prediction": np.ma.array([0.5, 9.0], mask=[False, True])}, "column prediction: some values are masked"),
        ({"id": np.ma.array([0, 1], mask=[True, False])}, "column id: some values are masked"),
        ({"target": [np.ma.array([[1.0], [2]], mask=True), np.ones((3, 1))]}, "column target: some values are masked"),
    ],
)
def test_predictions_that_cannot_be_scored(columns: dict[str, Any], complaint: str) -> None:
    with pytest.raises(expkit.Error, match=re.escape(complaint)):
        checked({"id": [0, 1]} | columns, "fold 0, oof.npz")


def test_a_row_that_two_folds_leave_out(make: Make, root: Path) -> None:
    """Its score would count twice."""
    same = GOOD.replace("10 * n", "7 * 0")
    name = make(body=same)
    with pytest.raises(expkit.Error, match="failed: fold 1"):
        expkit.run(name)
    assert "2 ids are in fold 0 too, such as [0]" in refused(name, "exp.fold=[1]")
    [row] = expkit.read_board()
    assert (len(row.done), row.marks) == (1, ("partial", "fold 1 failed"))


def test_two_folds_at_once_with_the_same_rows(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither process saw the predictions of the other: there is no score of all rows, and the board says so."""
    monkeypatch.setattr("expkit.tables.common", lambda *_: [])
    with pytest.raises(expkit.Error, match="2 ids are there more than once, such as 0"):
        expkit.run(make(body=GOOD.replace("10 * n", "7 * 0")))
    [row] = expkit.read_board()
    assert "mean of folds" in row.marks


@pytest.mark.parametrize(
    "ids",
    [
        ["0535353240", "535353240"],
        ["3e7", "30000000"],
        ["nan", "None"],
        ["a\rb", "a\nb"],
        [2**63 + 1, 2**63 + 2],
        [0.1, 0.30000000000000004],
    ],
    ids=str,
)
def test_types_are_kept(tmp_path: Path, ids: list[Any]) -> None:
    """An id, a label, a class: what is saved is what is read, to the last zero."""
    table, _ = checked({"id": ids, "target": ["01", "1"], "prediction": ["1", "1"]}, "fold 0")
    tables.save(tmp_path / "oof.npz", table)
    oof = tables.load(tmp_path / "oof.npz")
    assert [(type(one), one) for one in oof["id"].tolist()] == [(type(one), one) for one in ids]
    assert oof["target"].tolist() == ["01", "1"]


def test_a_training_without_predictions(make: Make) -> None:
    assert "fold 0: train() has predicted nothing: call fold.predict(...) in it" in refused(make(body="pass"))
    assert "there is no column id" in refused(make(body="fold.save_oof({'target': [0, 1], 'prediction': [0, 1]})"))
    assert "call fold.split(id=...) in train() first" in refused(make(body="fold.predict(lambda X: X, [1])"))
    not_done()


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    """Also that of an argument of numpy.savez."""
    table = {name: np.arange(3) + number for number, name in enumerate(("id", "file", "allow_pickle", "kwds", "arr_0"))}
    tables.save(tmp_path / "t.npz", table)
    read = tables.load(tmp_path / "t.npz")
    assert list(read) == list(table) and not tables.differing(table, read).any()


def test_equal_predictions_make_equal_bytes(make: Make, root: Path) -> None:
    for _ in range(2):
        expkit.run(make())
    one, other = sorted((root / "output").glob("*/light"))
    assert (one / "fold1/oof.npz").read_bytes() == (other / "fold1/oof.npz").read_bytes()


# Values and learning curves


def test_more_values_of_a_fold(make: Make, root: Path) -> None:
    """NumPy's numbers become Python's; what JSON does not hold is refused with its name."""
    kept = "best_epoch=np.int64(5), rate=np.float32(0.5), whole=np.float64(2), text='a', more=[1, None]"
    expkit.run(make(body=f"{GOOD}return dict({kept})"))
    values = json.loads((next((root / "output").glob("*/light/fold0")) / store.RESULT).read_text())["values"]
    assert values == {"best_epoch": 5, "rate": 0.5, "whole": 2.0, "text": "a", "more": [1, None]}
    assert [type(values[name]) for name in ("best_epoch", "rate", "whole")] == [int, float, float]
    for bad in ("np.float64('inf')", "np.zeros(3)", "{1, 2}"):
        said = refused(make(body=f"{GOOD}return {{'loss': {bad}}}"))
        assert "fold 0: train() returns loss: it must be a finite number, or what JSON can hold" in said


def test_any_file_of_a_fold_belongs_to_it(make: Make, root: Path) -> None:
    """Whatever it is called; and one that is gone, cut off or changed is seen."""
    names = ["loss: final.csv", "a..b.json", "...", "\\", "pictures/x.png", "日本.npz"]
    body = f"for name in {names!r}:\n    (fold.folder / name).parent.mkdir(exist_ok=True)\n"
    expkit.run(make(body=body + "    (fold.folder / name).write_text('ab')\n" + GOOD))
    for name in names:
        [row] = expkit.read_board()
        assert row.marks == (), name
        file = next((root / "output").glob("*/light/fold1")) / name
        file.write_text("a")
        [row] = expkit.read_board()
        assert len(row.done) == 1 and f"fold1/{name} is cut off or changed" in ", ".join(row.marks)
        file.write_text("ab")


def test_history(make: Make, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A late column, a blank, tensors: one row a call, each as long as the header. No number: left out, and said."""
    body = (
        """
class Tensor:
    def numel(self):
        return 1
    def item(self):
        return 0.25
fold.log(epoch=1, loss=np.float32(0.5), note="text")
fold.log(epoch=np.int64(2), loss=None, late=Tensor())
fold.log(**{"epoch": 3, "note, 2": 3, "note": "text"})
fold.log(epoch=4, loss=math.nan, later=True, each=np.ones(2))
"""
        + GOOD
    )
    expkit.run(make(body=body), overrides=["exp.fold=[0]"])
    lost = ("note is text", "later is True", "each is [1. 1.]")
    lines = [f"{each}, which is not one number: it is left out" for each in lost]
    said = [f"warning: fold 0: fold.log(...): {each}\n" for each in (lines[0], "loss is nan", *lines[1:])]
    assert capsys.readouterr().err.endswith("".join(said))
    file = next((root / "output").glob("*/light/fold0")) / "history.csv"
    with open(file, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["epoch", "loss", "late", "note, 2"]
    assert rows == [["1", "0.5", "", ""], ["2", "", "0.25", ""], ["3", "", "", "3"], ["4", "nan", "", ""]]
    history = expkit.load_run("light").history(0)
    assert history["epoch"] == [1, 2, 3, 4]
    assert history["loss"][:3] == [0.5, None, None] and history["loss"][3] != history["loss"][3]
    assert history["late"] == [None, 0.25, None, None]


# Submissions

SUBMIT = f"""
if fold.number is None:
    return fold.save_test(COLUMNS)
{GOOD}"""


def submitted(make: Make, columns: str, **options: str) -> str:
    return make(body=SUBMIT.replace("COLUMNS", columns), **options)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ("{'id': ['01', '02'], 'y': [1, 2]}", "1 fewer and 0 more, such as 03"),
        ("{'id': [1, 2, 3], 'y': [1, 2, 3]}", "sample_submission.csv (ids as text): 3 fewer and 3 more, such as 01"),
        ("{'id': ['01', '02', '03'], 'z': [1, 2, 3], 'x': [1, 2, 3]}", "has the column y, and the test predictions"),
    ],
)
def test_a_submission_that_does_not_fit_is_not_written(
    make: Make, root: Path, capsys: pytest.CaptureFixture[str], columns: str, complaint: str
) -> None:
    """It costs no training: one line says so."""
    (root / "input/data").mkdir()
    (root / "input/data/sample_submission.csv").write_text("id,y\n01,0\n02,0\n03,0\n")
    name = submitted(make, columns)
    expkit.run(name, overrides=["exp.mode=sub"])
    printed = capsys.readouterr()
    expkit.run(name, overrides=["exp.mode=sub"])
    assert f"; exp submit {name}/light --from full makes a submission" in capsys.readouterr().out
    assert complaint in printed.err and printed.err.count("sample_submission.csv") == 1
    assert "trained on all rows, without submission.csv" in printed.out
    assert not list(root.rglob("submission.csv"))


def test_whoever_comes_last_scores_every_fold(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command may end a fold while this one waits for the lock of the scores."""
    name = make()
    expkit.run(name, overrides=["exp.fold=[0]"])
    folder = expkit.load_run(f"{name}/light").folder
    store.forget_cv(folder)
    locked = store.Versions.locked

    def wait(versions: store.Versions) -> Any:
        monkeypatch.setattr(store.Versions, "locked", locked)
        expkit.run(name, overrides=["exp.fold=[1]"])
        return locked(versions)

    monkeypatch.setattr(store.Versions, "locked", wait)
    update(load_experiment(name).experiment, store.Versions.of(folder), folder)
    cv = expkit.load_run(folder).cv
    assert cv is not None and [*cv["folds"]] == ["0", "1"]


def test_a_submission_without_a_sample(make: Make, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expkit.run(submitted(make, "{'id': ['01', 'a,b'], 'p': np.eye(2)}"), overrides=["exp.mode=sub"])
    [file] = root.rglob("submission.csv")
    assert file.read_text() == 'id,p_0,p_1\n01,1.0,0.0\n"a,b",0.0,1.0\n'
    assert "submission.csv" in capsys.readouterr().out
    expkit.run(make(body="(fold.folder / 'sub.csv').touch()"), overrides=["exp.mode=sub"])
    assert "trained on all rows, without submission.csv" in capsys.readouterr().out


def test_results_of_all_rows_that_are_older_than_the_code_or_the_data(
    make: Make, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said before the stale submission is named."""
    (root / "input/train.csv").write_text("1")
    name = submitted(make, "{'id': [1], 'y': [1.0]}")
    expkit.run(name, overrides=["exp.mode=sub"])
    (root / "input/train.csv").write_text("12")
    submitted(make, "{'id': [1], 'y': [2.0]}", name=name)
    capsys.readouterr()
    expkit.run(name, overrides=["exp.mode=sub"])
    printed = capsys.readouterr()
    assert re.search(r"the code has changed since all data \(experiments/.*/train.py\)", printed.err)
    assert "the data has changed since all data (train.csv: 1 → 2 bytes)" in printed.err


# Data


def test_data_that_differ_between_folds_are_marked(make: Make, root: Path) -> None:
    """Folds 0 on one file, 1 on a truncated one: never an unmarked score."""
    name = make()
    (root / "input/train.csv").write_text("1\n2\n")
    expkit.run(name, overrides=["exp.fold=[0]"])
    (root / "input/train.csv").write_text("1\n")
    expkit.run(name, overrides=["exp.fold=[1]"])
    [row] = expkit.read_board()
    assert len(row.done) == 2 and row.marks == ("mixed data",)
    named = make(options="metric=accuracy, inputs=['train.csv']")
    expkit.run(named, overrides=["exp.fold=[0]"])
    (root / "input/other.csv").write_text("a second data set")
    expkit.run(named, overrides=["exp.fold=[1]"])
    assert [row.marks for row in expkit.read_board() if row.experiment == named] == [()]
    assert "there is no" in refused(make(options="metric=accuracy, inputs=['nothing.csv']"))


def test_a_fold_that_was_trained_again_after_the_scores_were_computed(make: Make, root: Path) -> None:
    """A kill between its result and the scores: the old score over all rows no longer counts."""
    name = make()
    assert expkit.run(name) == 0.75
    [cv] = (root / "output").glob("*/light/cv.json")
    before = cv.read_bytes()
    (cv.parent / "fold1/result.json").unlink()
    make(body=GOOD.replace("n % 2", "0"), name=name)
    assert expkit.run(name) == 0.5
    cv.write_bytes(before)
    [row] = expkit.read_board()
    assert (row.score, row.marks) == (0.5, ("mean of folds", "mixed code"))


def test_a_ragged_column_whose_lengths_do_not_fit(tmp_path: Path) -> None:
    """It is broken, and no row gets the values of another."""
    table = {"id": np.arange(2), "boxes": tables.columns({"boxes": [np.ones((1, 4)), np.ones((3, 4))]}, "x")["boxes"]}
    tables.save(tmp_path / "oof.npz", table)
    assert [len(row) for row in tables.load(tmp_path / "oof.npz")["boxes"]] == [1, 3]
    with np.load(tmp_path / "oof.npz") as arrays:
        stored = dict(arrays)
    for lengths in ([1, 2], [-1, 5]):
        np.savez(tmp_path / "oof.npz", **stored | {"boxes:lengths": np.array(lengths)})
        with pytest.raises(files.Broken, match="does not fit"):
            tables.load(tmp_path / "oof.npz")
