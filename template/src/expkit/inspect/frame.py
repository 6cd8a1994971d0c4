"""The board for a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from expkit.errors import Error
from expkit.inspect.beside import with_other_folds
from expkit.inspect.board import COLUMNS, ordered, read_board

if TYPE_CHECKING:
    import pandas


def runs(output: Path | None = None) -> pandas.DataFrame:
    """The board as a pandas DataFrame, best score first: a row a run, the columns of `Row`, then the configuration.

    Raises:
        Error: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise Error("expkit.runs needs pandas: `uv run --group notebook ...`, or `uv add pandas`") from None
    rows = ordered(with_other_folds(read_board(output)))
    frame = pandas.DataFrame([row.values() for row in rows], columns=None if rows else [*COLUMNS, "marks"])
    frame["finished"] = pandas.to_datetime(frame["finished"], utc=True, errors="coerce")
    return frame
