"""What a training says while it runs: history.csv, train.log, and the progress bars on a terminal."""

from __future__ import annotations

import csv
import io
import logging
import math
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from expkit.errors import strip_control
from expkit.files import remove, to_disk, write_text
from expkit.scores import as_number

if TYPE_CHECKING:
    import rich.progress


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
        named = {strip_control(name): value for name, value in metrics.items()}
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
        return strip_control(value)
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


class Log:
    """Copies what is printed by Python code meanwhile into a file; a training that goes on adds to it.

    Args:
        file: is made at once.
    """

    def __init__(self, file: Path) -> None:
        self._stream = open(file, "a", encoding="utf-8", errors="replace", newline="\n")
        self._handler = Records(self._stream)
        self._tees: list[tuple[str, Tee, TextIO]] = []

    def __enter__(self) -> Log:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            tee = Tee(stream, self._stream)
            self._tees.append((name, tee, stream))
            setattr(sys, name, tee)
        logging.root.addHandler(self._handler)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for name, tee, stream in self._tees:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
        logging.root.removeHandler(self._handler)
        if error is not None:
            traceback.print_exception(error, file=self._stream)
        self._stream.close()


class Records(logging.StreamHandler[TextIO]):
    """Writes what libraries log into the log, and on stderr where no handler of theirs shows it."""

    def emit(self, record: logging.LogRecord) -> None:
        """As of any handler."""
        logger: logging.Logger | None = logging.getLogger(record.name)
        others: list[logging.Handler] = []
        while logger is not None:
            others += [one for one in logger.handlers if one is not self]
            logger = logger.parent
        shown = [one for one in others if not isinstance(one, logging.NullHandler | logging.FileHandler)]
        if not any(isinstance(getattr(one, "stream", None), Tee) for one in shown):  # it is in the log by that
            print(self.format(record), file=self.stream if shown else sys.stderr, flush=True)


class Tee:
    """A stream that also writes into a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        """As of any stream."""
        if not self.log.closed:
            self.log.write(text)
            self.log.flush()
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


EVERY = 10  # seconds from one line to the next that is about a step: 100,000 of them fill no train.log


class Progress:
    """The epochs and steps of one training, as they pass: a bar for each kind.

    Args:
        title: what is trained, such as "fold 0".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[str | None, rich.progress.TaskID] = {}
        self._tee: Any = None
        self._printed = -math.inf  # when the last line was, `time.monotonic()`
        self._waits: tuple[str | None, Mapping[str, float | str], int | None] | None = None  # for a line

    def show(self, axis: str | None, row: Mapping[str, float | str], total: int | None) -> None:
        """Show that the epoch or step `row[axis]`, of `total`, is done, and its metrics."""
        if sys.stdout.isatty():
            self._move(axis, row, total)
        if axis == "step" and time.monotonic() - self._printed < EVERY:
            self._waits = (axis, row, total)
        else:
            self._print(axis, row, total)

    def _print(self, axis: str | None, row: Mapping[str, float | str], total: int | None) -> None:
        self._printed, self._waits = time.monotonic(), None
        where = "" if axis is None else f"  {axis} {row[axis]}{f'/{total}' if total else ''}"
        line = f"{self.title}{where}  {_worded(row, axis)}"
        if self._bars is None:
            print(line, flush=True)
        elif self._tee is not None and not self._tee.log.closed:
            self._tee.log.write(f"{line}\n")

    def _move(self, axis: str | None, row: Mapping[str, float | str], total: int | None) -> None:
        if self._bars is None:
            self._bars = self._started()
        done = row.get(axis) if axis else None
        values = _worded(row, axis)
        if axis not in self._tasks:  # where the first row stands is no speed
            first = done if isinstance(done, int | float) else 1
            title = f"{self.title}  {axis or ''}"
            self._tasks[axis] = self._bars.add_task(title, total=total, completed=int(first), values=values)
        elif isinstance(done, int | float):
            self._bars.update(self._tasks[axis], completed=done, total=total, values=values)
        else:
            self._bars.update(self._tasks[axis], advance=1, total=total, values=values)

    def _started(self) -> rich.progress.Progress:
        """Bars below what else is printed; they are not in the log."""
        from rich.console import Console
        from rich.file_proxy import FileProxy
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._tee = sys.stdout if hasattr(sys.stdout, "log") else None
        console = Console(file=self._tee.stream if self._tee else sys.stdout)
        bars = Progress(
            TextColumn("{task.description}", markup=False),
            MofNCompleteColumn(),
            BarColumn(max(10, min(40, (console.width - 60) // 2))),
            TimeRemainingColumn(),
            TextColumn(
                "{task.fields[values]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            console=console,
            expand=True,  # the metrics have the rest of the line, and what does not fit is cut off
            transient=True,
            redirect_stdout=self._tee is None,
            redirect_stderr=self._tee is None,
        )
        bars.start()
        if self._tee is not None:
            self._tee.stream = FileProxy(console, self._tee.stream)
        return bars

    def close(self) -> None:
        """Take the bars away."""
        if self._waits is not None:
            self._print(*self._waits)
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}
        if self._tee is not None:
            self._tee.stream.flush()
            self._tee.stream = self._tee.stream.rich_proxied_file
            self._tee = None


def _worded(row: Mapping[str, float | str], axis: str | None) -> str:
    """The metrics of a row."""
    parts = []
    for name, value in row.items():
        if isinstance(value, float):
            value = f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"
        if name != axis:
            parts.append(f"{name} {value}")
    return "  ".join(parts)
