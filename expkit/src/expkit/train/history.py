"""The learning curve of a fold: a CSV file, a row a call, also when a column appears late."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from expkit.errors import plain
from expkit.files import remove, to_disk, write_text
from expkit.train.scores import as_number

AXES = ("epoch", "step")


def axis_of(names: Iterable[str]) -> str | None:
    """Over what a row counts that has values of these names: epochs before steps; None: it has neither."""
    return next((axis for axis in AXES if axis in names), None)


class History:
    """Writes history.csv; every row is on the disk's side of this process when `add` returns.

    Rows of epochs and of steps stand in one file, in the order of logging; `axis_of` says which is which.

    Args:
        file: is made with the first row.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.columns: dict[str, None] = {}
        self.rows = 0

    def add(self, metrics: Mapping[Any, Any]) -> dict[str, float | str]:
        """Add a row; a value that is None stays blank.

        Returns:
            the numbers of the row: tensors and NumPy's own as Python's; what is no number, as text.
        """
        named = {plain(name): value for name, value in metrics.items()}
        row = {name: _plain(value) for name, value in named.items() if value is not None}
        if not named.keys() <= self.columns.keys():
            self._widen(named)
        # Opened for each row: 20 microseconds, and what lies there is cut, renamed or deleted as by any program.
        with open(self.file, "a", encoding="utf-8", newline="\n") as stream:
            stream.write(_line([row.get(name, "") for name in self.columns]))
        self.rows += 1
        return row

    def _widen(self, names: Iterable[str]) -> None:
        before = len(self.columns)
        self.columns |= dict.fromkeys(names)
        rows = self.file.read_text(encoding="utf-8").splitlines()[1:] if before else []
        padding = "," * (len(self.columns) - before)
        write_text(self.file, _line(list(self.columns)) + "".join(f"{row}{padding}\n" for row in rows))

    def cut(self, rows: int) -> bool:
        """Go on after the first `rows` rows of the file that an interrupted training has left; whether it has them."""
        text = self.file.read_text(encoding="utf-8", errors="replace") if self.file.is_file() else ""
        lines = text.splitlines()[: rows + 1]
        if rows == 0 or len(lines) < 2:
            remove(self.file)
            return rows == 0
        self.columns, self.rows = dict.fromkeys(next(csv.reader(lines[:1]))), len(lines) - 1
        write_text(self.file, "".join(f"{line}\n" for line in lines))
        return self.rows == rows

    def kept(self) -> Iterator[dict[str, float | str]]:
        """The rows that `cut` has left, as `add` has returned them."""
        if self.rows:
            with open(self.file, newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    read = {name: (number_of(text), text) for name, text in row.items() if text}
                    yield {name: text if number is None else number for name, (number, text) in read.items()}

    def to_disk(self) -> None:
        """Wait until the rows so far would survive a power cut."""
        if self.file.exists():
            to_disk(self.file)


def _line(values: list[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue()


def _plain(value: Any) -> float | str:
    number = as_number(value)
    if number is None:
        return plain(value)
    if number.is_integer() and _is_int(value):
        return int(value.item() if hasattr(value, "item") else value)  # all its digits
    return number


def number_of(text: str) -> float | None:
    """The number that a cell of a history.csv holds, an int where it is written as one; None: it holds none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) or str(getattr(value, "dtype", "")).replace("torch.", "").startswith(("int", "uint"))
