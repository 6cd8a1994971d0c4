"""How a training shows itself: a progress bar on a terminal, plain lines elsewhere and in train.log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """The epochs or steps of one training, as they pass.

    Args:
        title: what is trained, such as "fold 0".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: rich.progress.Progress | None = None
        self._tee: Any = None

    def show(self, axis: str | None, row: Mapping[str, float | str], total: int | None) -> None:
        """Show that the epoch or step `row[axis]`, of `total`, is done, and its metrics."""
        values = "  ".join(_worded(name, value) for name, value in row.items() if name != axis)
        done = row.get(axis) if axis else None
        where = "" if axis is None else f"  {axis} {done}{f'/{total}' if total else ''}"
        if not sys.stdout.isatty():
            print(f"{self.title}{where}  {values}", flush=True)
            return
        if self._bar is None:
            self._bar = self._started(axis, total)
        if self._tee is not None:
            self._tee.log.write(f"{self.title}{where}  {values}\n")
        task = self._bar.task_ids[0]
        if isinstance(done, int | float):
            self._bar.update(task, completed=done, values=values)
        else:
            self._bar.update(task, advance=1, values=values)

    def _started(self, axis: str | None, total: int | None) -> rich.progress.Progress:
        """A bar below what else is printed; it is not in the log."""
        from rich.console import Console
        from rich.file_proxy import FileProxy
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._tee = sys.stdout if hasattr(sys.stdout, "log") else None
        console = Console(file=self._tee.stream if self._tee else sys.stdout)
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=self._tee is None,
            redirect_stderr=self._tee is None,
        )
        bar.add_task(f"{self.title}  {axis or ''}", total=total, values="")
        bar.start()
        if self._tee is not None:
            self._tee.stream = FileProxy(console, self._tee.stream)
        return bar

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._tee is not None:
            self._tee.stream.flush()
            self._tee.stream = self._tee.stream.rich_proxied_file
            self._tee = None


def _worded(name: str, value: float | str) -> str:
    if isinstance(value, float):
        return f"{name} {value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{name} {value:.2e}"
    return f"{name} {value}"
