"""Runs in a notebook: one run with its models, and pandas tables of several."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import code, store
from expkit.board import COLUMNS, Entry, ranked, read_board
from expkit.config import load_experiment
from expkit.errors import Error, require
from expkit.project import display_path
from expkit.store import AXES, LOCKBOX, Run, axis_of, has_box
from expkit.submission import Average, is_probability, mean_of
from expkit.tables import aligned, columns, concatenated, flat, named, side_by_side, targets, warn_of_lacking

if TYPE_CHECKING:
    import numpy
    import pandas

    from expkit.tables import Columns

Points = list[tuple[float, float]]


# One run


class LoadedRun(Run):
    """A run with the classes and the models of its experiment, whose code is imported, as it is now."""

    @functools.cached_property
    def config(self) -> Any:
        """Its configuration, of the classes in train.py: `run.config.exp.train.learning_rate`.

        When these no longer take the values, or are gone: as it was recorded, with the names of Enum members.
        """
        from expkit.compose import from_values  # Hydra: no command of `exp` waits for it

        try:
            return from_values(load_experiment(self.experiment), dict(super().config))
        except Exception:  # of the code of an experiment, any
            return super().config

    def oof_of(self, id: Any) -> Columns:
        """Predictions by models that have not trained on the rows, as a stack learns from them.

        Args:
            id: of the rows, (n,): all that the run was given, in any order.

        Returns:
            the columns of `oof`, in the order of `id`; rows of a locked box have the mean of the folds, and then there
            are no targets: only `exp unlock` scores them.

        Raises:
            Error: the run has predicted other rows.
        """
        table, rows = self.oof, columns({"id": id}, "run.oof_of(id)")["id"]
        if has_box(self.results):
            box = mean_of([self], [list(self.done.values())], LOCKBOX).table()
            names = [name for name in table if name in box and name not in targets(box)]
            table = {name: concatenated([table[name], box[name]]) for name in names}
        return aligned(table, rows, f"{self.title}, out of fold,", "run.oof_of(id)")

    def model(self, fold: int | None) -> Any:
        """The model of a fold: what the function `load(file)` in the experiment's model.py returns.

        Models are pickles: load only what you trained.

        Args:
            fold: its number; None: the model that was trained on all rows.

        Raises:
            Error: the fold is not done, it has not exactly one file model.*, or model.py has no load(file).
        """
        folder, own = self.fold(fold).folder, code.load_module(self.experiment, "model")
        files = sorted(folder.glob("model.*"))
        require(len(files) == 1, f"{display_path(folder)} must have one file model.*, and has {len(files)}")
        load: Any = getattr(own, "load", None)
        where = display_path(Path(str(own.__file__)))
        require(callable(load), f"{where} needs a function load(file): it returns a saved model")
        with code.named_plainly(self.experiment):
            return load(files[0])

    def predict(self, X: Any) -> Columns:
        """Predict new rows with the models of all folds that are done, and average, as `exp submit` does.

        `Experiment.postprocess` and `submission` come after it, and are not called.

        A model predicts by the function `predict(model, X)` of the experiment's model.py, if there is one; else by its
        method `predict(X)`.

        Args:
            X: rows as the experiment's `load_data` gives them.

        Returns:
            "prediction", (n,) or (n, ...), and what else the models give, by column, but for those with an array of
            another length per row. Labels that differ are the class of the highest mean probability.

        Raises:
            Error: no fold is done; as of `model`; the models do not predict the same columns, or labels alone.
        """
        import numpy

        self.note_use([], "fold")
        require(bool(self.done), f"{self.title} has no finished fold")
        predict = getattr(code.load_module(self.experiment, "model"), "predict", None)

        def predicted() -> Iterator[tuple[str, Columns, float]]:
            for number in self.done:
                model, what = self.model(number), f"{self.title}, fold {number}"
                can = predict is not None or hasattr(model, "predict")
                require(can, f"{what}: a {type(model).__name__} has no predict(X), and model.py no predict(model, X)")
                table = columns(named(predict(model, X) if predict is not None else model.predict(X)), what)
                rows = {"id": numpy.arange(len(next(iter(table.values()))))}
                flat = {name: each for name, each in table.items() if each.dtype != object}
                yield what, rows | flat, 1 / len(self.done)

        mean = Average(predicted())
        warn_of_lacking(mean.lacking, mean.first, "predict")
        return {name: mean.column(name)[0] for name in mean.first if name != "id"}


def load_run(run: str | Path | Run) -> LoadedRun:
    """A run as it lies on the disk now.

        run = expkit.load_run("001-larger-lr")
        run.score, run.config.exp.train.learning_rate, run.oof["prediction"], run.model(0)

    Args:
        run: "<experiment>/<run>", a folder, or any part of the name that no other run has; where a fold trains, whole:
            "<experiment>/<run>" or "<run>".

    Raises:
        Error: there is no such run, or more than one.
    """
    found = store.load_run(run)
    return LoadedRun(**{item.name: getattr(found, item.name) for item in fields(Run)})


# Tables of several


def runs(output: Path | None = None) -> pandas.DataFrame:
    """The board as a pandas DataFrame: one row per run, best score first.

    Its columns are those of the board ("experiment", "run", "metric", "score", "std", "seconds", ...), then the
    configuration ("exp.seed", "exp.train.learning_rate", ...).

    Args:
        output: the folder with the results; None: that of the project.

    Raises:
        Error: pandas is not installed.
    """
    return frame_of(ranked(read_board(output)))


def frame_of(entries: Sequence[Entry]) -> pandas.DataFrame:
    """Entries of the board as a DataFrame, as from `runs`."""
    pandas = _pandas("expkit.runs")
    frame = pandas.DataFrame([entry.values for entry in entries], columns=None if entries else [*COLUMNS])
    frame["finished"] = pandas.to_datetime(frame["finished"], utc=True, errors="coerce")
    return frame


def oof(runs: Sequence[str | Path | Run]) -> pandas.DataFrame:
    """Out-of-fold predictions of runs side by side, as a pandas DataFrame: one row per id, in the order of the ids.

    Its columns are "id", "target", and others that are the same in all runs, such as "fold"; then the predictions of
    each run: "<experiment>/<run>", or "<experiment>/<run>: <column>" if it has several columns.

    Args:
        runs: as for `load_run`.

    Raises:
        Error: there is no such run, the runs do not have the same ids and targets, or pandas is not installed.
    """
    from numpy import array_equal

    pandas = _pandas("expkit.oof")
    found = _loaded(runs)
    require(bool(found), "expkit.oof takes a list of runs, and this one is empty")
    for run in found:
        require(bool(run.done), f"{run.title} has no finished fold")
    titles = [run.title for run in found]
    first, *others = tables = side_by_side([flat(run.oof) for run in found], titles)
    columns = {}
    for name in sorted(first, key=lambda name: (name != "id", name != "target")):
        is_same = all(name in table and array_equal(table[name], first[name]) for table in others)
        if name in targets(first) or (is_same and not name.startswith(("prediction", "probability"))):
            columns[name] = first[name]
    shared = list(columns)
    for title, table in zip(titles, tables, strict=True):
        own = [name for name in table if name not in shared]
        columns |= {title if len(own) == 1 else f"{title}: {name}": table[name] for name in own}
    return pandas.DataFrame(columns)


def curves(runs: Sequence[str | Path | Run]) -> pandas.DataFrame:
    """The learning curves of runs in long format, as a pandas DataFrame: one row per number that was logged.

    Its columns are "run" ("<experiment>/<run>"), "fold", "axis" ("epoch" or "step"; "row" for a fold that has logged
    neither), "x" (the epoch, the step, or the number of the row, from 1 on), "name" (of the metric) and "value".

    Args:
        runs: as for `load_run`.

    Raises:
        Error: there is no such run, or pandas is not installed.
    """
    rows = [
        (run.title, fold, axis, x, name, value)
        for run in _loaded(runs)
        for fold in run.done
        for axis, metrics in points_of(run.history(fold)).items()
        for name, points in metrics.items()
        for x, value in points
    ]
    frame = _pandas("expkit.curves").DataFrame(rows, columns=["run", "fold", "axis", "x", "name", "value"])
    return frame.astype({"value": float})


def points_of(history: dict[str, list[float | None]]) -> dict[str, dict[str, Points]]:
    """The numbers of a learning curve, by axis and name: {"epoch": {"loss": [(1, 0.5), ...]}, "step": ...}.

    Rows that have neither an epoch nor a step go by their number: {"row": {"loss": [(1, 0.5), ...]}}.
    """
    found: dict[str, dict[str, Points]] = {axis: {} for axis in (*AXES, "row")}
    for number, values in enumerate(zip(*history.values(), strict=True), 1):
        row = {name: y for name, y in zip(history, values, strict=True) if y is not None and abs(y) < 1e300}  # no nan
        axis = axis_of(row) or "row"
        for name in row.keys() - AXES:
            found[axis].setdefault(name, []).append((row.get(axis, number), row[name]))
    return {axis: {name: named[name] for name in history if name in named} for axis, named in found.items() if named}


def mistakes(run: str | Path | Run) -> dict[str, pandas.DataFrame]:
    """The out-of-fold rows of a run, the largest mistake first, as pandas DataFrames.

    Args:
        run: as for `load_run`.

    Returns:
        one table per column of predictions, by the name of the column: "prediction"; for several outputs
        "prediction_0", ... Each has the columns "id", "fold", "target" and "prediction". For numbers, there is also
        "error", the prediction minus the target. For classes, the wrong rows come first; if the run has saved
        probabilities, and has one output, "confidence" is the highest probability of a row, and sorts the wrong rows.
        Whole numbers are classes if there are at most 50 different targets.

    Raises:
        Error: there is no such run, it does not have both targets and predictions, or pandas is not installed.
    """
    import numpy

    pandas = _pandas("expkit.mistakes")
    run = store.load_run(run)
    table = flat(run.oof)
    target_of = {name: name.replace("prediction", "target", 1) for name in table if name.startswith("prediction")}
    outputs = [name for name, target in target_of.items() if target in table]
    has = ", ".join(table) or "no finished fold"
    require(bool(outputs), f"{run.title} has no columns target and prediction; it has {has}")
    probabilities = [column for name, column in table.items() if is_probability(name)]
    if len(probabilities) == 1:  # of one of two classes
        probabilities.append(1 - probabilities[0])
    tables = {}
    for name in outputs:
        target, prediction = table[target_of[name]], table[name]
        rows = pandas.DataFrame({"id": table["id"], "fold": table["fold"], "target": target, "prediction": prediction})
        if _are_numbers(target, prediction):
            rows["error"] = rows["prediction"].astype(float) - rows["target"]
            size = rows["error"].abs()
        else:
            size = (rows["target"] != rows["prediction"]).astype(float)
            if probabilities and len(outputs) == 1:
                rows["confidence"] = numpy.max(probabilities, axis=0)
                size *= 1 + rows["confidence"]
        tables[name] = rows.loc[size.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
    return tables


def _are_numbers(target: numpy.ndarray, prediction: numpy.ndarray) -> bool:
    import numpy

    if target.dtype.kind not in "biuf" or prediction.dtype.kind not in "biuf":
        return False
    are_whole = not any((column % 1 != 0).any() for column in (target, prediction) if column.dtype.kind == "f")
    return not are_whole or len(numpy.unique(target)) > 50


def _loaded(runs: Sequence[str | Path | Run]) -> list[Run]:
    require(not isinstance(runs, str), f'expkit.oof and expkit.curves take a list of runs, such as ["{runs}"]')
    return list(map(store.load_run, runs))


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise Error(f"{what} needs pandas: `uv run --group notebook ...`, or `uv add pandas`") from None
    return pandas
