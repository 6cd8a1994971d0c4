"""Runs in a notebook: one run with its predictions and models, and tables (pandas) of several."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from expkit import code
from expkit.board import COLUMNS, Row, ordered, read_board, row_of
from expkit.compare import with_other_rows
from expkit.errors import Error, require
from expkit.files import regular
from expkit.find import find_run
from expkit.history import AXES, axis_of, number_of
from expkit.project import display_path
from expkit.store import HISTORY, TEST, FoldRecord, Run, read_run
from expkit.submission import LABEL, is_probability, may_be_labels
from expkit.tables import aligned, flat, is_ascending, require_same_targets

if TYPE_CHECKING:
    import numpy
    import pandas

    from expkit.tables import Columns


def read_history(file: Path) -> dict[str, list[float | None]]:
    """The columns of a history.csv; {} when there is none, or it is broken."""
    try:
        with open(file, newline="", encoding="utf-8", opener=regular) as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError, csv.Error):
        return {}
    return {
        name: [number_of(row[place]) if place < len(row) else None for row in rows] for place, name in enumerate(header)
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
    """How far a training is that writes this history.csv: "epoch 3", "epoch 3, step 1200"; "" if nothing says it.

    Raises:
        OSError: the file cannot be read.
    """
    with open(file, "rb", opener=regular) as stream:
        header = stream.readline(2**16)
        start = max(len(header), stream.seek(0, os.SEEK_END) - 2**16)  # its end alone: one of steps is long
        stream.seek(start)
        rows = stream.read().decode(errors="replace").splitlines()[1 if start > len(header) else 0 :]
    names = next(csv.reader([header.decode(errors="replace")]), [])
    step = ""
    for row in csv.reader(reversed(rows)):
        cells = {name: cell for name, cell in zip(names, row, strict=False) if number_of(cell) is not None}
        if axis_of(cells) == "epoch":
            return f"epoch {int(float(cells['epoch'])) + 1}{step and ', ' + step}"
        if axis_of(cells) == "step":
            step = step or f"step {cells['step']}"
    return step or ("epoch 1" if "epoch" in names and not rows else "")


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
    def record(self) -> Run:
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
            raise Error(f"{display_path(self.folder)}: {', '.join(self.record.marks)}: its configuration is not known")
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

        table = self.record.fold_by_fold()
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
        return self._part(fold).table(TEST)

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
        require(len(files) == 1, f"{display_path(folder)} must have one file model.*, and has {len(files)}")
        load = getattr(self.module("model"), "load", None)
        if not callable(load):
            raise Error(
                f"experiments/{self.folder.parent.name}/model.py needs a function load(file) that returns a saved model"
            )
        with code.named_plainly(self.folder.parent.name):
            return load(files[0])

    def module(self, name: str) -> ModuleType:
        """A module of the experiment, with its code as it is now: `run.module("model").load_data()`.

        Args:
            name: of a file in the experiment's folder, without .py.

        Raises:
            ModuleNotFoundError: the experiment has no such module.
        """
        return code.load(self.folder.parent.name, name)

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
        require(bool(chosen), f"{display_path(self.folder)} has no finished fold")
        models = [self.model(fold) for fold in chosen]
        how = "predict_proba" if all(hasattr(model, "predict_proba") for model in models) else "predict"
        if lacking := [type(model).__name__ for model in models if not callable(getattr(model, how, None))]:
            raise Error(
                f"{display_path(self.folder)}: load(file) in model.py returns a {lacking[0]}, which has no predict(X)"
            )
        parts = [numpy.asarray(getattr(model, how)(X)) for model in models]
        classes = [list(getattr(model, "classes_", ())) for model in models] if how == "predict_proba" else [[]]
        if any(part.shape != parts[0].shape for part in parts) or any(one != classes[0] for one in classes):
            raise Error(
                f"{display_path(self.folder)}: the models of the folds do not predict the same classes or columns"
            )
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
            raise Error(f"{what} of {display_path(self.folder)} is not done; these folds are: {list(run.done)}")
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


def runs(output: Path | None = None) -> pandas.DataFrame:
    """The board as a pandas DataFrame: one row per run, best score first.

    Its columns are those of the board ("experiment", "run", "metric", "score", "std", "seconds", ...), then the
    configuration ("exp.seed", "exp.train.learning_rate", ...).

    Args:
        output: the folder with the results; None: that of the project.

    Raises:
        Error: pandas is not installed.
    """
    return frame_of(ordered(with_other_rows(read_board(output))))


def frame_of(rows: Sequence[Row]) -> pandas.DataFrame:
    """Rows of the board as a DataFrame, as from `runs`."""
    pandas = _pandas("expkit.runs")
    frame = pandas.DataFrame([row.values() for row in rows], columns=None if rows else [*COLUMNS, "marks"])
    frame["finished"] = pandas.to_datetime(frame["finished"], utc=True, errors="coerce")
    return frame


def oof(runs: Sequence[str | Path]) -> pandas.DataFrame:
    """Out-of-fold predictions of runs side by side, as a pandas DataFrame: one row per id, in the order of the ids.

    Its columns are "id", "target", and others that are the same in all runs, such as "fold"; then the predictions of
    each run: "<experiment>/<run>", or "<experiment>/<run>: <column>" if it has several columns.

    Args:
        runs: names or folders, as for `load_run`.

    Raises:
        Error: there is no such run, the runs do not have the same ids and targets, or pandas is not installed.
    """
    import numpy

    pandas = _pandas("expkit.oof")
    require(not isinstance(runs, str), f'expkit.oof takes a list of runs: expkit.oof(["{runs}"])')
    found = list({folder: read_run(folder) for folder in (find_run(str(name)) for name in runs)}.values())
    require(bool(found), "expkit.oof takes a list of runs, and this one is empty")
    for run in found:
        require(bool(run.done), f"{run.title} has no finished fold")
    first, tables = flat(found[0].fold_by_fold()), []
    for run in found:
        table = first if run is found[0] else flat(run.fold_by_fold())
        tables.append(aligned(table, first["id"], run.title, found[0].title))
        require_same_targets(tables[-1], first, run.title, found[0].title)
    shared = [
        name
        for name in first
        if name != LABEL
        and not is_probability(name)
        and all(name in table and numpy.array_equal(table[name], first[name]) for table in tables)
    ]
    columns = {name: first[name] for name in sorted(shared, key=lambda name: (name != "id", name != "target"))}
    for run, table in zip(found, tables, strict=True):
        own = [name for name in table if name not in shared]
        columns |= {run.title if len(own) == 1 else f"{run.title}: {name}": table[name] for name in own}
    return pandas.DataFrame(columns).sort_values("id", ignore_index=True)


def curves(runs: Sequence[str | Path]) -> pandas.DataFrame:
    """The learning curves of runs in long format, as a pandas DataFrame: one row per number that was logged.

    Its columns are "run" ("<experiment>/<run>"), "fold", "axis" ("epoch" or "step"; "row" for a fold that has logged
    neither), "x" (the epoch, the step, or the number of the row, from 1 on), "name" (of the metric) and "value".

    Args:
        runs: names or folders, as for `load_run`.

    Raises:
        Error: there is no such run, or pandas is not installed.
    """
    pandas = _pandas("expkit.curves")
    require(not isinstance(runs, str), f'expkit.curves takes a list of runs: expkit.curves(["{runs}"])')
    parts = [pandas.DataFrame(columns=["run", "fold", "axis", "x", "name", "value"])]
    for run in map(load_run, runs):
        about = {"run": run.record.title}
        for fold in run.folds:
            histories = {axis: run.history(fold, axis) for axis in AXES}
            if not any(histories.values()):
                histories = {"row": run.history(fold)}
            for axis, history in histories.items():
                for name in [name for name in history if name not in AXES]:
                    x = history[axis] if axis in AXES else range(1, len(history[name]) + 1)
                    columns = about | {"fold": fold, "axis": axis, "x": x, "name": name, "value": history[name]}
                    parts.append(pandas.DataFrame(columns).dropna().astype({"value": float}))
    return pandas.concat(parts[1:] or parts, ignore_index=True)


def mistakes(run: str | Path) -> dict[str, pandas.DataFrame]:
    """The out-of-fold rows of a run, the largest mistake first, as pandas DataFrames.

    Args:
        run: a name or a folder, as for `load_run`.

    Returns:
        one table per column of predictions, by the name of the column: "prediction"; for several outputs
        "prediction_0", ... Each has the columns "id", "fold", "target" and "prediction". For numbers, there is also
        "error", the prediction minus the target. For classes, the wrong rows come first; if the run has saved
        probabilities, and has one output, "confidence" is the highest probability of a row, and sorts the wrong rows.
        Whole numbers are classes if there are at most 50 different targets.

    Raises:
        Error: there is no such run, it does not have both targets and predictions, or pandas is not installed.
    """
    pandas = _pandas("expkit.mistakes")
    found = load_run(run)
    table = flat(found.oof)
    targets = {name: name.replace("prediction", "target", 1) for name in table if name.startswith("prediction")}
    targets = {name: target for name, target in targets.items() if target in table}
    if not targets:
        has = ", ".join(table) or "no finished fold"
        raise Error(f"{found.record.title} has no columns target and prediction; it has {has}")
    confidence = _confidence(table) if len(targets) == 1 else None
    tables = {}
    for name, target in targets.items():
        columns = {"id": table["id"], "fold": table["fold"], "target": table[target], "prediction": table[name]}
        rows = pandas.DataFrame(columns)
        if _are_numbers(table[target], table[name]):
            rows["error"] = rows["prediction"].astype(float) - rows["target"]
            size = rows["error"].abs()
        else:
            if confidence is not None:
                rows["confidence"] = confidence
            is_wrong = rows["target"] != rows["prediction"]
            size = is_wrong * (1 if confidence is None else 1 + confidence)
        tables[name] = rows.loc[size.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
    return tables


def _are_numbers(target: numpy.ndarray, prediction: numpy.ndarray) -> bool:
    import numpy

    if target.dtype.kind not in "biuf" or prediction.dtype.kind not in "biuf":
        return False
    return any((column % 1 != 0).any() for column in (target, prediction) if column.dtype.kind == "f") or (
        len(numpy.unique(target)) > 50
    )


def _confidence(table: Columns) -> numpy.ndarray | None:
    """The highest probability of each row, (n,); a single column is that of one of two classes."""
    import numpy

    found = [column for name, column in table.items() if is_probability(name)]
    if len(found) == 1:
        found.append(1 - found[0])
    return numpy.max(found, axis=0) if found else None


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise Error(f"{what} needs pandas: `uv run --group notebook ...`, or `uv add pandas`") from None
    return pandas
