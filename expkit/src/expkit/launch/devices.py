"""The GPUs and cores of this machine, which of them a job may use, and the end of its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from expkit.config.compat import register_resolver

MOMENT = 2  # seconds for a job that is stopped, to say so

# Each in the name of a variable, as OMP_NUM_THREADS. joblib sets them in the processes of hydra/launcher=local.
THREADS = ["OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR"]


def gpus() -> list[str]:
    """The GPUs of this machine that a process here may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1", "NoDevFiles")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number in range(listed.stdout.count("GPU "))] if listed.returncode == 0 else []


def processes() -> int:
    """How many jobs to run at once on this machine: one per GPU, or one per core without GPUs."""
    from joblib import cpu_count

    return len(gpus()) or int(cpu_count())


def register() -> None:
    """Let conf/ say ${expkit.processes:}."""
    register_resolver("expkit.processes", processes)


def share_cores() -> None:
    """In a job of Slurm: numeric libraries take as many threads as the job has cores."""
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        for library in THREADS:
            os.environ.setdefault(f"{library}_NUM_THREADS", cpus)


class Gpu:
    """The one GPU of a process of hydra/launcher=local, held for as long as the process lives."""

    held: Gpu | None = None  # a process takes one job after another, all on the same GPU

    def __init__(self, sweep_dir: Path, job: int, available: list[str]) -> None:
        from filelock import FileLock, Timeout

        self.name = available[job % len(available)]
        self._lock: Any = None
        for number, gpu in enumerate(available):
            lock = FileLock(sweep_dir / f".gpu{number}")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            self.name, self._lock = gpu, lock
            break
        os.environ["CUDA_VISIBLE_DEVICES"] = self.name


def use_one_gpu(sweep_dir: Path, job: int) -> None:
    """Leave this process one GPU to see; another one than the other processes of the sweep, while there are enough."""
    if Gpu.held is None and (available := gpus()):
        Gpu.held = Gpu(sweep_dir, job, available)


def end_jobs() -> None:
    """SIGTERM or SIGHUP has come: stop the processes of hydra/launcher=local, which joblib would kill at once."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and (executor := loky._executor) is not None:
        for process in [*(executor._processes or ())]:
            with suppress(OSError):  # it has ended
                os.kill(process, signal.SIGTERM)
        time.sleep(MOMENT)


def end_with(parent: int) -> None:
    """Let this process of a launcher end when the command is killed: it would train on, with its locks and its GPU."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(MOMENT)
        os._exit(1)

    if os.getppid() != parent:  # killed before this job has begun
        os._exit(1)
    if not any(thread.name == "expkit-end-with" for thread in threading.enumerate()):
        threading.Thread(target=watch, name="expkit-end-with", daemon=True).start()
