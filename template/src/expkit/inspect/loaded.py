"""A run that lies on the disk, for notebooks and scripts: configuration, scores, predictions, curves, models."""

from __future__ import annotations

import csv
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from expkit import modules
from expkit.combine.columns import may_be_labels
from expkit.combine.rows import out_of_fold, predictions
from expkit.errors import Error, require
from expkit.inspect.board import Row, row_of
from expkit.inspect.find import find_run
from expkit.paths import shown
from expkit.record import HISTORY, TEST, FoldRecord, RunRecord, marks_of, read_run
from expkit.train.history import AXES, axis_of

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns


class Values(dict[str, Any]):
    """A configuration as it was recorded: `config.exp.train.learning_rate` or `config["exp"]["train"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return Values(value) if isinstance(value, dict) else value


@dataclass(frozen=True)
class LoadedRun:
    """The results of a run. Everything is read when it is asked for.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def record(self) -> RunRecord:
        """The run as it lies on the disk now."""
        return read_run(self.folder)

    @property
    def row(self) -> Row:
        """The run as the board shows it: score, standard deviation, folds, marks, ..."""
        return row_of(self.record)

    @functools.cached_property
    def config(self) -> Values:
        """The configuration; `config.exp.train.learning_rate`. Enums are their names."""
        info = self.record.info
        if info is None:
            raise Error(f"{shown(self.folder)}: {', '.join(marks_of(self.record))}: its configuration is not known")
        return Values(info["config"])

    @property
    def folds(self) -> list[int]:
        """The folds that are done."""
        return list(self.record.done)

    def result(self, fold: int | None) -> dict[str, Any]:
        """What a fold has recorded: scores, values, seconds, git, ...; None is the training on all rows."""
        result = self._part(fold).result
        assert result is not None
        return dict(result)

    def history(self, fold: int | None, axis: str | None = None) -> dict[str, list[float | None]]:
        """The learning curve of a fold, one entry a call of `fold.log`: {"epoch": [1, ...], "train_loss": [...], ...}.

        A blank is None; a fold that has logged nothing gives {}.

        Args:
            axis: "epoch" or "step": its rows alone, and the columns that have a number in them. None: every row, of
                epochs and steps as they came.
        """
        require(axis in (None, *AXES), f"history(fold, axis={axis!r}): axis must be {' or '.join(AXES)}, or None")
        history = read_history(self._part(fold).folder / HISTORY)
        return history if axis is None else rows_of(history, axis)

    @functools.cached_property
    def oof(self) -> Columns:
        """Out-of-fold predictions of all folds that are done, in the order of the ids, one entry a row.

        The columns that the experiment has saved ("id", "target", "prediction", ...), and "fold".
        """
        import numpy

        table = out_of_fold(self.record)
        if not table:
            return {}
        order = numpy.argsort(table["id"], kind="stable")
        return {name: column[order] for name, column in table.items()}

    def test(self, fold: int | None) -> Columns:
        """The predictions of the test set that a fold has saved with `fold.save_test`."""
        return predictions(self._part(fold), TEST)

    def model(self, fold: int | None) -> Any:
        """The model of a fold, or, for None, the one trained on all rows: what `model.load` of the experiment returns.

        It is loaded by the code of the experiment as it is now. Models are pickles: load only what you trained.
        """
        folder = self._part(fold).folder
        files = sorted(folder.glob("model.*"))
        require(len(files) == 1, f"{shown(folder)} must have one file model.*, and has {len(files)}")
        load = getattr(self.module("model"), "load", None)
        if not callable(load):
            raise Error(
                f"experiments/{self.folder.parent.name}/model.py needs a function load(file) that returns a saved model"
            )
        with modules.named_plainly(self.folder.parent.name):
            return load(files[0])

    def module(self, name: str) -> ModuleType:
        """A module of the experiment, with its code as it is now: `run.module("model").load_data()`.

        Raises:
            ModuleNotFoundError: the experiment has no such module.
        """
        return modules.load(self.folder.parent.name, name)

    def predict(self, X: numpy.ndarray, folds: list[int] | None = None) -> numpy.ndarray:
        """What the models of the folds predict for new rows: their mean; of labels, the most frequent.

        Args:
            X: (n, features), as the experiment's `load_data` gives them.
            folds: which models; None: of every fold that is done.

        Returns:
            (n, classes), probabilities, of models that have `predict_proba`; else what their `predict` gives, (n,) or
            (n, k): the mean of numbers, or, of labels, the one that most models say, the first of equally many.

        Raises:
            Error: a model has neither, or they do not predict the same classes.
        """
        import numpy

        chosen = self.folds if folds is None else folds
        require(bool(chosen), f"{shown(self.folder)} has no finished fold")
        models = [self.model(fold) for fold in chosen]
        how = "predict_proba" if all(hasattr(model, "predict_proba") for model in models) else "predict"
        if lacking := [type(model).__name__ for model in models if not callable(getattr(model, how, None))]:
            raise Error(f"{shown(self.folder)}: load(file) in model.py returns a {lacking[0]}, which has no predict(X)")
        parts = [numpy.asarray(getattr(model, how)(X)) for model in models]
        classes = [list(getattr(model, "classes_", ())) for model in models] if how == "predict_proba" else [[]]
        if any(part.shape != parts[0].shape for part in parts) or any(one != classes[0] for one in classes):
            raise Error(f"{shown(self.folder)}: the models of the folds do not predict the same classes or columns")
        if any(not may_be_labels("", part) for part in parts) or how == "predict_proba":
            return numpy.asarray(numpy.mean(parts, axis=0))
        labels, places = numpy.unique(numpy.stack(parts), return_inverse=True)
        votes = places.reshape(len(parts), -1)
        counts = numpy.stack([(votes == place).sum(axis=0) for place in range(len(labels))])
        return numpy.asarray(labels[counts.argmax(axis=0)].reshape(parts[0].shape))

    def _part(self, fold: int | None) -> FoldRecord:
        run = self.record
        part = run.full if fold is None else run.folds.get(fold)
        if part is None or part.result is None:
            what = "the training on all data" if fold is None else f"fold {fold}"
            raise Error(f"{what} of {shown(self.folder)} is not done; these folds are: {list(run.done)}")
        return part


def read_history(file: Path) -> dict[str, list[float | None]]:
    """The columns of a history.csv; {} when there is none, or it is broken."""
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError, csv.Error):
        return {}
    return {
        name: [_number(row[place]) if place < len(row) else None for row in rows] for place, name in enumerate(header)
    }


def rows_of(history: dict[str, list[float | None]], axis: str) -> dict[str, list[float | None]]:
    """The rows of a history that count over `axis`, and the columns that have a number in them."""
    table = zip(*history.values(), strict=True)
    kinds = [axis_of([name for name, value in zip(history, row, strict=True) if value is not None]) for row in table]
    columns = {
        name: [value for value, kind in zip(column, kinds, strict=True) if kind == axis]
        for name, column in history.items()
    }
    return {name: column for name, column in columns.items() if any(value is not None for value in column)}


def position(file: Path) -> str:
    """How far a training is that writes this history.csv: "epoch 3", "epoch 3, step 1200"; "" if nothing says it."""
    with open(file, "rb") as stream:
        header = stream.readline()
        start = max(len(header), stream.seek(0, os.SEEK_END) - 2**16)  # its end alone: one of steps is long
        stream.seek(start)
        rows = stream.read().decode(errors="replace").splitlines()[1 if start > len(header) else 0 :]
    names = next(csv.reader([header.decode(errors="replace")]), [])
    step = ""
    for row in csv.reader(reversed(rows)):
        cells = {name: cell for name, cell in zip(names, row, strict=False) if _number(cell) is not None}
        if axis_of(cells) == "epoch":
            return f"epoch {int(float(cells['epoch'])) + 1}{step and ', ' + step}"
        if axis_of(cells) == "step":
            step = step or f"step {cells['step']}"
    return step or ("epoch 1" if "epoch" in names and not rows else "")


def _number(text: str) -> float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def load_run(run: str | Path) -> LoadedRun:
    """The results of a run.

    Args:
        run: "<experiment>/<run>", a folder, or any part of the name that only one run has.

    Raises:
        Error: there is no such run, or more than one.
    """
    return LoadedRun(find_run(str(run)))
