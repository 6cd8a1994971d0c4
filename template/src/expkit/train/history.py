"""The learning curve of a fold: a CSV file, a row a call, also when a column appears late."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expkit.files import to_disk, write_text
from expkit.train.scores import as_number


class History:
    """Writes history.csv; every row is on the disk's side of this process when `add` returns.

    Args:
        file: is made with the first row.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.columns: list[str] = []
        self.rows = 0

    def add(self, metrics: Mapping[str, Any]) -> dict[str, float | str]:
        """Add a row; a value that is None stays blank.

        Returns:
            the numbers of the row: tensors and NumPy's own as Python's; what is no number, as text.
        """
        row: dict[str, float | str] = {}
        for name, value in metrics.items():
            number = as_number(value)
            if value is not None:
                row[name] = (
                    str(value) if number is None else int(number) if number.is_integer() and _is_int(value) else number
                )
        new = [name for name in metrics if name not in self.columns]
        if new:
            self.columns += new
            before = self.file.read_text(encoding="utf-8").splitlines()[1:] if self.file.exists() else []
            padding = "," * len(new) if before else ""
            lines = [self._line(self.columns), *(line + padding for line in before)]
            self.file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        with open(self.file, "a", encoding="utf-8", newline="\n") as stream:
            stream.write(self._line([row.get(name, "") for name in self.columns]) + "\n")
        self.rows += 1
        return row

    def cut(self, rows: int) -> bool:
        """Go on after the first `rows` rows of the file that an interrupted training has left; whether it has them."""
        if rows == 0:
            self.file.unlink(missing_ok=True)
            return True
        lines = self.file.read_text(encoding="utf-8").splitlines()[: rows + 1] if self.file.exists() else []
        if len(lines) != rows + 1:
            return False
        self.columns, self.rows = next(csv.reader(lines[:1])), rows
        write_text(self.file, "".join(f"{line}\n" for line in lines))
        return True

    def to_disk(self) -> None:
        """Wait until the rows so far would survive a power cut."""
        if self.file.exists():
            to_disk(self.file)

    def _line(self, values: list[Any]) -> str:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="").writerow(values)
        return stream.getvalue().replace("\r", " ").replace("\n", " ")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) or str(getattr(value, "dtype", "")).replace("torch.", "").startswith(("int", "uint"))
