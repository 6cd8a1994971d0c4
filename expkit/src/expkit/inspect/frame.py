"""The board, learning curves, predictions of several runs, and the mistakes of one, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit.combine.columns import is_probability
from expkit.combine.members import LABEL, require_same_targets
from expkit.combine.rows import Rows, out_of_fold
from expkit.errors import Error, require
from expkit.inspect.beside import with_other_rows
from expkit.inspect.board import COLUMNS, Row, read_board
from expkit.inspect.find import find_run
from expkit.inspect.loaded import load_run
from expkit.inspect.order import ordered
from expkit.record import read_run
from expkit.tables import flat
from expkit.train.history import AXES

if TYPE_CHECKING:
    import numpy
    import pandas

    from expkit.tables import Columns


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
    first = flat(out_of_fold(found[0]))
    rows = Rows(first["id"], found[0].title)
    tables = []
    for run in found:
        table = first if run is found[0] else flat(out_of_fold(run))
        places = rows.places_in(table["id"], run.title)
        tables.append(table if places is None else {name: column[places] for name, column in table.items()})
        require_same_targets(found[0], run, first, tables[-1])
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
