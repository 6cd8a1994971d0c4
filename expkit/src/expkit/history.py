"""What a training shows and keeps while it runs: history.csv, train.log, progress bars on a terminal."""

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

from expkit import files
from expkit.errors import strip_control
from expkit.scores import as_number
from expkit.store import number_of

if TYPE_CHECKING:
    import rich.progress

EVERY = 10  # seconds between two lines about steps: 100,000 of them would fill train.log
LONGEST = 1000  # characters of a text that is logged in place of a number


class History:
    """Writes history.csv. Each row has left this process when `add` returns.

    Rows of epochs and of steps stand in one file, in the order of logging; `store.axis_of` says which is which.

    Args:
        file: is made with the first row.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, 0
        self.columns: list[str] = []

    def add(self, metrics: Mapping[Any, Any]) -> dict[str, float | str]:
        """Add a row; a value that is None stays blank.

        Returns:
            the numbers of the row: tensors and NumPy's own as Python's; what is no number, as text.
        """
        named = {strip_control(name): value for name, value in metrics.items()}
        row = {name: _number_or_text(value) for name, value in named.items() if value is not None}
        if new := [name for name in named if name not in self.columns]:
            rows = self._read()
            self.columns += new
            self._write(rows)
        # Opened for each row: 20 microseconds, and what lies there is cut, renamed or deleted as by any program.
        with open(self.file, "a", encoding="utf-8", newline="") as stream:
            self._writer(stream).writerow(row)
        self.rows += 1
        return row

    def cut(self, rows: int) -> bool:
        """Keep the first `rows` rows that an interrupted training has left; whether it had so many."""
        kept = self._read()[:rows]
        if kept:
            self._write(kept)
        else:
            files.remove(self.file)
            self.columns = []
        self.rows = len(kept)
        return self.rows == rows

    def kept(self) -> Iterator[dict[str, float | str]]:
        """The rows that `cut` has left, as `add` has returned them."""
        for row in self._read():
            cells = {name: text for name, text in row.items() if text}
            yield {name: text if (number := number_of(text)) is None else number for name, text in cells.items()}

    def to_disk(self) -> None:
        """Flush the rows to the disk."""
        if self.file.exists():
            files.to_disk(self.file)

    def _read(self) -> list[dict[str, str]]:
        """The rows of the file; its header becomes `columns`."""
        try:
            with open(self.file, encoding="utf-8", errors="replace", newline="") as stream:
                reader = csv.DictReader(stream)
                rows = list(reader)
        except (FileNotFoundError, csv.Error):
            return []
        self.columns = list(reader.fieldnames or [])
        return rows

    def _write(self, rows: Iterable[Mapping[str, str]]) -> None:
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(self.file, text.getvalue())

    def _writer(self, stream: TextIO) -> csv.DictWriter[str]:
        return csv.DictWriter(stream, self.columns, extrasaction="ignore", lineterminator="\n")


def _number_or_text(value: Any) -> float | str:
    number = as_number(value)
    return strip_control(value)[:LONGEST] if number is None else number


class Log:
    """Copies what Python code prints, and the traceback of what fails, into a file; a training that goes on adds to it.

    Args:
        file: is made at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = open(file, "a", encoding="utf-8", errors="replace", newline="\n")
        self._tees: list[tuple[str, Tee, TextIO]] = []
        self._handler = logging.StreamHandler()
        self._handler.addFilter(_is_unseen)

    def __enter__(self) -> Log:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            tee = Tee(stream, self._file)
            self._tees.append((name, tee, stream))
            setattr(sys, name, tee)
            _move_handlers(stream, tee)
        self._handler.setStream(sys.stderr)
        logging.root.addHandler(self._handler)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for name, tee, stream in self._tees:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
            _move_handlers(tee, stream)
        logging.root.removeHandler(self._handler)
        if error is not None:
            traceback.print_exception(error, file=self._file)
        self._file.close()


class Tee:
    """A stream that also writes into a log, while that is open."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        """Write to both."""
        if not self.log.closed:
            self.log.write(text)
            self.log.flush()
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _move_handlers(old: Any, new: Any) -> None:
    """Point the handlers of `logging` from one stream to another: libraries keep the stream that they found first."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", []):
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                handler.setStream(new)


def _is_unseen(record: logging.LogRecord) -> bool:
    """Whether a record has no handler but that of the log: Hydra has left one that shows nothing."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    count = 0
    while logger is not None:
        count += sum(isinstance(getattr(each, "stream", None), Tee) for each in logger.handlers)
        logger = logger.parent
    return count == 1


class Progress:
    """The epochs and steps of one training, as they pass: on a terminal a bar for each kind, else and in the log lines.

    Args:
        title: what is trained, such as "fold 0".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[str | None, rich.progress.TaskID] = {}
        self._tee: Any = None  # stdout, while there are bars
        self._printed = -math.inf  # when the last line was, `time.monotonic()`
        self._line = ""  # the last line, until it is printed

    def show(self, axis: str | None, row: Mapping[str, float | str], total: int | None) -> None:
        """Show that the epoch or step `row[axis]`, of `total`, is done, and its metrics."""
        if isinstance(sys.stdout, Tee) and sys.stdout.isatty():
            self._move(axis, row, total)
        where = "" if axis is None else f"  {axis} {row[axis]}{f'/{total}' if total else ''}"
        self._line = f"{self.title}{where}  {_format_metrics(row, axis)}"
        if axis != "step" or time.monotonic() - self._printed >= EVERY:
            self._print()

    def _print(self) -> None:
        line, self._line, self._printed = self._line, "", time.monotonic()
        if self._bars is None:
            print(line, flush=True)
        elif not self._tee.log.closed:
            self._tee.log.write(f"{line}\n")

    def _move(self, axis: str | None, row: Mapping[str, float | str], total: int | None) -> None:
        if self._bars is None:
            self._bars = self._start()
        done, values = row.get(axis) if axis else None, _format_metrics(row, axis)
        where: dict[str, Any] = {"completed": done} if isinstance(done, int | float) else {"advance": 1}
        if axis in self._tasks:
            self._bars.update(self._tasks[axis], total=total, values=values, **where)
        else:  # where the first row stands is no speed
            title, first = f"{self.title}  {axis or ''}", int(where.get("completed", 1))
            self._tasks[axis] = self._bars.add_task(title, total=total, completed=first, values=values)

    def _start(self) -> rich.progress.Progress:
        """Start the bars, below what else is printed. They are not in the log."""
        from rich.console import Console
        from rich.file_proxy import FileProxy
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._tee = sys.stdout
        console = Console(file=self._tee.stream)
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # of the line; what does not fit is cut off
        bars = Progress(
            TextColumn("{task.description}", markup=False),
            MofNCompleteColumn(),
            BarColumn(max(10, min(40, (console.width - 60) // 2))),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", markup=False, table_column=rest),
            console=console,
            expand=True,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bars.start()
        self._tee.stream = FileProxy(console, self._tee.stream)
        return bars

    def close(self) -> None:
        """Remove the bars."""
        if self._line:
            self._print()
        if self._bars is not None:
            self._bars.stop()
            self._tee.stream.flush()
            self._tee.stream = self._tee.stream.rich_proxied_file
            self._bars, self._tasks = None, {}


def _format_metrics(row: Mapping[str, float | str], axis: str | None) -> str:
    """The metrics of a row on one line."""
    parts = []
    for name, value in row.items():
        if isinstance(value, float):
            value = f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"
        if name != axis:
            parts.append(f"{name} {value}")
    return "  ".join(parts)
