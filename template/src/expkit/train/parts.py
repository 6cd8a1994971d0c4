"""What earlier processes of a training have brought to W&B: the one that goes on adds the rest, each row once.

A process that is killed takes with it what W&B has not yet sent (that of 15 s) or written (some 90 rows). Its file ends
within a row, and there `wandb sync` stops: it takes no later part of that W&B run, and nothing at all when the file has
no row. So rows that W&B lacks come from history.csv again, and such a file is set aside. (Measured with wandb 0.31.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROW = "_row"  # in each point: which row of history.csv it is; W&B draws no name that begins so
CLOSED = "rows"  # a file in the folder of a part that was closed: how many rows W&B has with it
SET_ASIDE = "interrupted-"  # before the name of a folder, for `wandb sync output/wandb/offline-run-*` not to take it


def rows_before(run: Any, training: str) -> int:
    """How many rows of history.csv W&B has: its server, or, offline, the parts that are closed.

    Sets aside what was offline and is not closed, and what the server now gets from this process. Nobody writes there:
    who trains a fold has its lock.

    Args:
        run: the `wandb.Run` of this process.
        training: what the W&B ids of all trainings of this fold begin with.
    """
    own = Path(run.sync_dir)
    rows = 0 if run.offline else int(run.summary.get(ROW) or 0)
    for part in own.parent.glob(f"*run-*-{training}*"):
        is_this, is_closed = part.name.endswith(f"-{run.id}"), (part / CLOSED).exists()
        if is_this and is_closed and run.offline:
            rows = max(rows, int((part / CLOSED).read_text()))
        elif part != own and part.name.startswith("offline-run-") and (is_this or not is_closed):
            if not any(part.glob("*.synced")):
                part.rename(part.with_name(f"{SET_ASIDE}{part.name}"))
    return rows


def close(run: Any, rows: int, failed: bool) -> None:
    """Finish a W&B run that has the first `rows` of history.csv, and wait for its uploads."""
    run.finish(exit_code=int(failed))
    Path(run.sync_dir, CLOSED).write_text(str(rows))
