"""A job that comes to its time limit, or is preempted: a checkpoint first, then back into the queue."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from expkit.train.checkpoint import Checkpoint

PATIENCE = 60  # seconds for the training to come to its next `fold.checkpoint.save`; the preset leaves it 120


def checkpoint_first() -> None:
    """Let submitit's signal wait until the training, where it saves checkpoints, has saved one more.

    submitit puts the job back into the queue and ends the process as soon as the signal comes, in the middle of a step.
    """
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)
    submitit: Any = signal.getsignal(number) if number is not None else None
    if number is None or not callable(submitit) or getattr(submitit, "waits", False):
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        if Checkpoint.in_use and Checkpoint.before_end is None:
            Checkpoint.before_end = lambda: submitit(signum, frame)
            timer = threading.Timer(PATIENCE, os.kill, (os.getpid(), signum))  # and then at once
            timer.daemon = True
            timer.start()
        else:
            submitit(signum, frame)

    handle.waits = True  # type: ignore[attr-defined]
    signal.signal(number, handle)
