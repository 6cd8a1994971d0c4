"""The board, and predictions of several runs, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit.combine.columns import flat, is_probability
from expkit.combine.members import LABEL, require_same_targets
from expkit.combine.rows import Rows, out_of_fold
from expkit.errors import Error, require
from expkit.inspect.beside import with_other_rows
from expkit.inspect.board import COLUMNS, read_board
from expkit.inspect.find import find_run
from expkit.inspect.order import ordered
from expkit.record import read_run

if TYPE_CHECKING:
    import pandas


def runs(output: Path | None = None) -> pandas.DataFrame:
    """The board as a pandas DataFrame, best score first: a row a run, the columns of `Row`, then the configuration.

    Raises:
        Error: pandas is not installed.
    """
    pandas = _pandas("expkit.runs")
    rows = ordered(with_other_rows(read_board(output)))
    frame = pandas.DataFrame([row.values() for row in rows], columns=None if rows else [*COLUMNS, "marks"])
    frame["finished"] = pandas.to_datetime(frame["finished"], utc=True, errors="coerce")
    return frame


def oof(runs: Sequence[str | Path]) -> pandas.DataFrame:
    """Out-of-fold predictions of runs side by side, as a pandas DataFrame: a row an id, in the order of the ids.

    Its columns are "id", "target", "fold" and whatever else is the same in all runs; then what each run predicts:
    "<experiment>/<run>", or "<experiment>/<run>: <column>" when it has several columns.

    Args:
        runs: names or folders, as for `load_run`.

    Raises:
        Error: there is no such run, or the runs have not the same ids and targets; or pandas is not installed.
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


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise Error(f"{what} needs pandas: `uv run --group notebook ...`, or `uv add pandas`") from None
    return pandas
