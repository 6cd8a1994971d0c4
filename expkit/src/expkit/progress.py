"""How a training shows itself: progress bars on a terminal, plain lines elsewhere and in train.log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.progress

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
