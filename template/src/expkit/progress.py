"""How a training shows itself: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


class Epochs:
    """The epochs of one training, as they pass.

    Args:
        title: what is trained, such as "fold 0".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: rich.progress.Progress | None = None

    def show(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show that `epoch`, from 1 to `total`, is done, and its metrics."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if not sys.stdout.isatty():
            print(f"{self.title}  epoch {epoch}/{total}  {values}", flush=True)
            return
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}  epoch"),
                MofNCompleteColumn(),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"),
                transient=True,
            )
            self._bar.add_task(self.title, total=total, values="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=epoch, values=values)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
