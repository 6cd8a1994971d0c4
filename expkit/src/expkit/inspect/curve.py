"""The learning curve of a fold, read back from its history.csv."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from expkit.files import regular
from expkit.train.history import axis_of, number_of


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
