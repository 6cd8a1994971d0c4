"""What `train(exp, fold)` does with its fold: split, evaluate, predict, return; bad input is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import own_experiment
from light import LIGHT, train_py

import expkit
from expkit import store
from expkit.config import load_experiment
from expkit.runner import Command, Runner

N = 20
ID, TEST = np.arange(N) + 100, [7, 8]
X, Y = np.arange(N)[:, None] / 1.0, np.arange(N) % 2


def accuracy(oof: Any) -> Any:
    return (oof["target"] == oof["prediction"]).mean()


def zeros(X: Any) -> Any:
    return np.zeros(len(X), int)


def run(train: Callable[[expkit.Fold], Any], *overrides: str, **options: Any) -> float | None:
    """Train an experiment that splits by `fold.split`; `train` takes its fold alone."""
    loaded = load_experiment(LIGHT)
    options = {"metric": accuracy, "own_split": False} | options
    experiment = replace(loaded.experiment, train=lambda _, fold: train(fold), **options)
    config = expkit.load_config(LIGHT, overrides)
    return Runner(replace(loaded, experiment=experiment), config, overrides, Command()).train()


def refused(train: Callable[[expkit.Fold], Any], *overrides: str, **options: Any) -> str:
    with pytest.raises(expkit.Error) as raised:
        run(train, "exp.fold=[0]", *overrides, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_rows_that_are_left_out(quick: Path) -> None:
    """They alone are predicted, of any kind of table; id, target and more columns are known, in the order of the data.

    What is evaluated is what is scored.
    """
    seen: list[dict[str, float]] = []

    def train(fold: expkit.Fold) -> None:
        fold.split(id=ID, y=Y, keep={"weight": X[:, 0]})
        tables: list[Any] = [X, X.tolist(), pytest.importorskip("pandas").DataFrame(X)]
        seen.extend(fold.evaluate(zeros, table) for table in tables)
        fold.predict(lambda some: {"prediction": zeros(some), "row": np.asarray(some)[:, 0]}, tables[fold.number or 0])

    assert run(train, "exp.n_folds=3") == 0.5
    oof = expkit.load_run("light").oof
    assert oof["id"].tolist() == ID.tolist() and oof["target"].tolist() == Y.tolist()
    assert oof["row"].tolist() == oof["weight"].tolist() == X[:, 0].tolist()
    scores = [result["scores"]["accuracy"] for result in expkit.load_run("light").results.values()]
    assert [each["valid_accuracy"] for each in seen] == [score for score in scores for _ in range(3)]


class Polars:
    """What a DataFrame of polars has: the names of its columns, which are Series; but no keys, and it gives Series."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._table, self.columns = {name: np.asarray(column) for name, column in table.items()}, [*table]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._table.values())

    def __getitem__(self, key: str) -> Any:
        return self._table[key]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_predictions_as_a_frame(quick: Path, library: str) -> None:
    """A DataFrame has its columns, whichever way it is saved; a Series is the prediction, whatever its index is."""
    pandas = pytest.importorskip("pandas")
    frame: Any = Polars if library == "polars" else pandas.DataFrame

    def train(fold: expkit.Fold) -> None:
        rows = fold.split(id=ID, y=Y).valid
        if fold.number == 0:
            fold.save_oof(frame({"id": ID[rows], "target": Y[rows], "prediction": zeros(rows), "row": rows}))
        else:
            fold.predict(lambda some: frame({"prediction": zeros(some), "row": some[:, 0].astype(int)}), X)
        fold.save_test(frame({"id": TEST, "prediction": [0.5, 1.5]}))

    assert run(train, "exp.n_folds=3") == 0.5
    oof = expkit.load_run("light").oof
    assert oof["row"].tolist() == X[:, 0].tolist() and not oof["prediction"].any()

    def series(fold: expkit.Fold) -> None:
        fold.split(id=ID, y=Y)
        fold.predict(lambda some: pandas.Series(some[:, 0], index=range(5, 5 + len(some))), X)

    run(series, "exp.n_folds=3", "overwrite=true")
    assert expkit.load_run("light").oof["prediction"].tolist() == X[:, 0].tolist()


def test_on_all_rows(quick: Path) -> None:
    """No row is left out, and nothing is evaluated; the test predictions are the submission."""
    (quick / "input/sample_submission.csv").write_text("id,digit\n8,0\n7,0\n")

    def train(fold: expkit.Fold) -> dict[str, Any]:
        rows = fold.split(id=ID, y=Y)
        valid = fold.evaluate(lambda _: 1 / 0, X)
        fold.predict(lambda some: np.asarray(some)[:, 0], X, test=np.array([[1], [3]]), test_id=TEST)
        return {"train": len(rows.train), "valid": len(rows.valid), **valid}

    assert run(train, "exp.mode=sub") is None
    [file] = quick.rglob("submission.csv")
    assert file.read_text() == "id,digit\n8,3\n7,1\n"
    values = store.read_run(file.parents[1]).full.result["values"]  # type: ignore[union-attr,index]
    assert values == {"train": N, "valid": 0} and not (file.parent / store.OOF).exists()


def test_a_score_that_is_not_there(quick: Path) -> None:
    """On all rows, and by a wrong name."""

    def train(fold: expkit.Fold) -> None:
        fold.split(id=ID, y=Y)
        fold.evaluate(zeros, X)["valid_rmse"]

    for mode, why in (("sub", "exp.mode=sub leaves no row out"), ("cv", "there is valid_accuracy;")):
        assert f"fold.evaluate(...)['valid_rmse']: {why}" in refused(train, f"exp.mode={mode}", "exp.n_folds=1")


@pytest.mark.parametrize(
    ("train", "mentions"),
    [
        (lambda fold: fold.evaluate(zeros, X), "call fold.split(id=...) in train() first"),
        (lambda fold: fold.predict(zeros, X), "call fold.split(id=...) in train() first"),
        (lambda fold: [0.5], "train() must return a dict or nothing, not list"),
    ],
)
def test_without_a_split(quick: Path, train: Callable[[expkit.Fold], Any], mentions: str) -> None:
    assert mentions in refused(train)


@pytest.mark.parametrize(
    ("act", "mentions"),
    [
        (lambda fold: fold.predict(zeros, X, test=X), "fold.predict(...): test and test_id belong together"),
        (lambda fold: fold.predict(zeros, X, test_id=TEST), "fold.predict(...): test and test_id belong together"),
        (lambda fold: fold.predict(zeros(X), X), "fold 0: what predicts is a function of rows"),
        (lambda fold: fold.predict(zeros, X[1:]), "fold 0: X has 19 rows, and fold.split(...) was given 20"),
        (lambda fold: fold.predict(zeros, [*X, 1]), "fold 0: X has 21 rows, and fold.split(...) was given 20"),
        (lambda fold: fold.evaluate(zeros, X[1:]), "fold 0: X has 19 rows, and fold.split(...) was given 20"),
        (lambda fold: fold.predict(lambda some: zeros(some)[1:], X), "the columns differ in length: id 4, target 4"),
        (lambda fold: fold.evaluate(lambda some: zeros(some)[1:], X), "differ in length: id 4, target 4, prediction 3"),
        (
            lambda fold: fold.evaluate(lambda some: {"p": zeros(some)}, X),
            "the metric accuracy raises KeyError: 'prediction'",
        ),
        (lambda fold: fold.save_oof({"id": ID[:2], "prediction": [0, 0]}), "other rows than fold.split(...): "),
        (lambda fold: fold.split(id=ID, y=Y[1:]), "fold.split(...): the columns differ in length: id 20, target 19"),
        (lambda fold: [*fold.epochs(1, state=State()), *fold.steps(1, state=State())], "two loops of a training with"),
    ],
)
def test_what_does_not_fit(quick: Path, act: Callable[[expkit.Fold], Any], mentions: str) -> None:
    """One line, before anything is saved."""

    def train(fold: expkit.Fold) -> None:
        fold.split(id=ID, y=Y)
        act(fold)

    assert mentions in refused(train)
    assert not [*quick.rglob(store.OOF), *quick.rglob(store.RESULT)]


class State:
    """Of a training: anything with attributes."""


@pytest.fixture(scope="module")
def tried() -> Iterator[str]:
    """An experiment with other values for a quick try."""
    code = "def size(oof):\n    return 0.0\n\n\ndef train(exp, fold):\n    pass"
    options = 'metric=size, debug={"train.epochs": 1, "n_folds": 3}'
    with own_experiment({"train.py": train_py("epochs: int = 30\nrate: float = 0.5", code, options)}) as folder:
        (folder / "exp").mkdir()
        (folder / "exp/001.yaml").write_text("name: long\ntrain: {epochs: 90}\n")
        yield folder.name


@pytest.mark.parametrize(
    ("overrides", "epochs", "n_folds"),
    [
        ([], 30, 5),
        (["exp.debug=true"], 1, 3),
        (["exp=001", "exp.debug=true"], 1, 3),
        (["exp.debug=true", "exp.train.epochs=7"], 7, 3),
        (["exp.debug=true", "++exp.n_folds=2"], 1, 2),
    ],
)
def test_a_quick_try(root: Path, tried: str, overrides: list[str], epochs: int, n_folds: int) -> None:
    """What the command line names stays as it says; a file does not."""
    exp: Any = expkit.load_config(tried, overrides).exp
    assert (exp.train.epochs, exp.n_folds, exp.train.rate) == (epochs, n_folds, 0.5)


def test_a_quick_try_of_a_key_that_is_not_there(root: Path) -> None:
    code = "def size(oof):\n    return 0.0\n\n\ndef train(exp, fold):\n    pass"
    text = train_py("epochs: int = 30", code, 'metric=size, debug={"train.epoch": 1}')
    with own_experiment({"train.py": text}) as folder, pytest.raises(expkit.Error, match="train.epoch"):
        expkit.load_config(folder.name, ["exp.debug=true"])


def test_a_field_without_a_type_is_said(root: Path) -> None:
    """A dataclass drops it, and nobody would see that its value is never used."""
    code = "def size(oof):\n    return 0.0\n\n\ndef train(exp, fold):\n    pass"
    text = train_py("epochs: int = 30\nlearning_rate = 0.1", code, "metric=size")
    with own_experiment({"train.py": text}) as folder, pytest.raises(expkit.Error, match="learning_rate has no type"):
        load_experiment(folder.name)
