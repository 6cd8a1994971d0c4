"""A run that lies on the disk, for notebooks and scripts: configuration, scores, predictions, curves, models."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from expkit import modules
from expkit.combine.columns import may_be_labels
from expkit.combine.rows import out_of_fold, predictions
from expkit.errors import Error, require
from expkit.inspect.board import Row, row_of
from expkit.inspect.curve import read_history, rows_of
from expkit.inspect.find import find_run
from expkit.paths import shown
from expkit.record import HISTORY, TEST, FoldRecord, RunRecord, marks_of, read_run
from expkit.tables import is_ascending
from expkit.train.history import AXES

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
    """The results of a run. Each part is read from the disk when it is asked for.

    Attributes:
        folder: the folder of the run, a Path.
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
        """The recorded configuration: `config.exp.train.learning_rate`. Enums are their names.

        Raises:
            Error: the run has no readable record of it.
        """
        info = self.record.info
        if info is None:
            raise Error(f"{shown(self.folder)}: {', '.join(marks_of(self.record))}: its configuration is not known")
        return Values(info["config"])

    @property
    def folds(self) -> list[int]:
        """The numbers of the folds that are done."""
        return list(self.record.done)

    def result(self, fold: int | None) -> dict[str, Any]:
        """What a fold has recorded: "scores", "values", "seconds", "git", ...

        Args:
            fold: its number; None: the training on all rows.

        Raises:
            Error: the fold is not done.
        """
        result = self._part(fold).result
        assert result is not None
        return dict(result)

    def history(self, fold: int | None, axis: str | None = None) -> dict[str, list[float | None]]:
        """The learning curve of a fold: {"epoch": [1, ...], "train_loss": [...], ...}, one entry per `fold.log`.

        A blank is None. {} for a fold that has logged nothing.

        Args:
            fold: its number; None: the training on all rows.
            axis: "epoch" or "step": only the rows of this axis, and the columns that have a number in them. None: every
                row, in the order in which they were logged.

        Raises:
            Error: the fold is not done, or there is no such axis.
        """
        require(axis in (None, *AXES), f"history(fold, axis={axis!r}): axis must be {' or '.join(AXES)}, or None")
        history = read_history(self._part(fold).folder / HISTORY)
        return history if axis is None else rows_of(history, axis)

    @functools.cached_property
    def oof(self) -> Columns:
        """Out-of-fold predictions of all folds that are done: a dict of NumPy arrays, in the order of the ids.

        The columns that the experiment has saved ("id", "target", "prediction", ...), each (n,) or (n, k), and "fold",
        (n,). {} while no fold is done.
        """
        import numpy

        table = out_of_fold(self.record)
        if not table or is_ascending(table["id"]):
            return table
        order = numpy.argsort(table["id"], kind="stable")
        return {name: column[order] for name, column in table.items()}

    def test(self, fold: int | None) -> Columns:
        """The predictions of the test set that a fold has saved with `fold.save_test`: a dict of NumPy arrays.

        Args:
            fold: its number; None: the training on all rows, or, of a blend, its one prediction.

        Raises:
            Error: the fold is not done, or has none.
        """
        return predictions(self._part(fold), TEST)

    def model(self, fold: int | None) -> Any:
        """The model of a fold: what the function `load(file)` in the experiment's model.py returns.

        It is loaded with the code of the experiment as it is now. Models are pickles: load only what you trained.

        Args:
            fold: its number; None: the model that was trained on all rows.

        Raises:
            Error: the fold is not done, it has not exactly one file model.*, or model.py has no load(file).
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

        Args:
            name: of a file in the experiment's folder, without .py.

        Raises:
            ModuleNotFoundError: the experiment has no such module.
        """
        return modules.load(self.folder.parent.name, name)

    def predict(self, X: numpy.ndarray, folds: list[int] | None = None) -> numpy.ndarray:
        """Predict new rows with the models of the folds: the mean of what they predict; of labels, the most frequent.

        Args:
            X: (n, features), as the experiment's `load_data` gives them.
            folds: the numbers of the folds whose models predict; None: all folds that are done.

        Returns:
            (n, classes), the mean of the probabilities, if all models have `predict_proba`. Else from `predict`, (n,)
            or (n, k): the mean of numbers, or the most frequent label (of several, the one that sorts first).

        Raises:
            Error: no fold is done, a model has neither method, or they do not predict the same classes.
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


def load_run(run: str | Path) -> LoadedRun:
    """The results of a run, for notebooks and scripts.

        run = expkit.load_run("001-larger-lr")
        run.row.score, run.config.exp.train.learning_rate, run.oof["prediction"]

    Args:
        run: "<experiment>/<run>", a folder, or any part of the name that no other run has.

    Raises:
        Error: there is no such run, or more than one.
    """
    return LoadedRun(find_run(str(run)))
