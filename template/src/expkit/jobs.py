"""The jobs of a sweep: what each takes along to another process or machine, and what it tells the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from expkit.board import Row, ordered, read_run
from expkit.errors import Error, one_line, report, warn
from expkit.files import read_json
from expkit.paths import shown
from expkit.sweep import VARIABLE, import_path

# Each in the name of a variable, as OMP_NUM_THREADS. joblib sets them in the processes of hydra/launcher=local.
THREADS = ["OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR"]


@dataclass(frozen=True)
class Job:
    """What a job takes along from the command that launches it; pickled with it.

    Attributes:
        train: the `train.py` of the sweep's code.
        greater_is_better: as given to `expkit.run`.
    """

    train: str
    greater_is_better: bool
    arguments: list[str] = field(default_factory=lambda: list(sys.argv))
    environment: dict[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in (VARIABLE, "PROJECT_ROOT") if name in os.environ}
    )
    launched_by: int = field(default_factory=os.getpid)

    def prepare(self) -> None:
        """Make this process, wherever it was started, one like that of the command."""
        os.environ.update(self.environment)
        _greater_is_better[self.train] = self.greater_is_better
        sys.argv = list(self.arguments)
        if self.launched_by == os.getpid():
            return
        sys.path[:0] = [folder for folder in import_path(Path(self.train)) if folder not in sys.path]
        if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
            for library in THREADS:
                os.environ.setdefault(f"{library}_NUM_THREADS", cpus)
        if "joblib" in str(HydraConfig.get().launcher.get("_target_")):
            _use_one_gpu(Path(HydraConfig.get().sweep.dir), HydraConfig.get().job.num)


_greater_is_better: dict[str, bool] = {}


def refuse_other_direction(train: Path, greater_is_better: bool) -> None:
    """Hold what train.py tells `expkit.Run` against what it told `expkit.run`.

    Raises:
        Error: they differ, so that a sweeper would look for the worst score.
    """
    if _greater_is_better.get(str(train), greater_is_better) != greater_is_better:
        raise Error(
            f"{shown(train)}: expkit.Run has greater_is_better={greater_is_better}, and expkit.run has not: "
            f"end the file with expkit.run(main, Config, greater_is_better={greater_is_better})"
        )


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
    """How many jobs to run at once on this machine: one a GPU, or, without any, one a core."""
    from joblib import cpu_count

    return len(gpus()) or int(cpu_count())


OmegaConf.register_new_resolver("expkit.processes", processes, replace=True)

_gpu_lock: Any = None  # held as long as this process lives


def _use_one_gpu(sweep_dir: Path, job: int) -> None:
    """Leave this process one GPU to see; another one than the other processes of the sweep, while there are enough."""
    global _gpu_lock
    from filelock import FileLock, Timeout

    if _gpu_lock is not None or not (available := gpus()):
        return
    mine = available[job % len(available)]
    for number, gpu in enumerate(available):
        lock = FileLock(sweep_dir / f".gpu{number}")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _gpu_lock, mine = lock, gpu
        break
    os.environ["CUDA_VISIBLE_DEVICES"] = mine


def note(**values: Any) -> None:
    """Keep what a job says about itself in its folder under `output/multirun/`, for the command that launched it."""
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        file = Path(HydraConfig.get().runtime.output_dir) / "job.json"
        file.write_text(json.dumps((read_json(file) or {}) | values), encoding="utf-8")


def folds_of_command() -> set[int]:
    """The folds that all jobs of this command train together; empty when each job trains its own list."""
    chosen = [argument for argument in sys.argv[1:] if argument.startswith("exp.fold=")]
    if not chosen:
        return set()
    [override] = OverridesParser.create().parse_overrides(chosen[-1:])
    if not override.is_discrete_sweep():
        return set()
    return {fold for folds in override.sweep_iterator() if isinstance(folds, list) for fold in folds}


class Launching(Callback):
    """Part of every sweep: notes where it lies, and keeps the launching process small."""

    folder: Path | None = None  # of the sweep that this process launches, in output/multirun/

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Launching.folder = Path(config.hydra.sweep.dir)
        Launching.folder.mkdir(parents=True, exist_ok=True)  # Optuna's sweeper writes there, jobs or none

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None  # the whole configuration, twice a job, and nobody reads it


LAUNCHING = "+hydra.callbacks.expkit={_target_: expkit.jobs.Launching}"


class JobFailed(Error):
    """A job has failed, and has said so; any process can read this."""


def report_job(error: Exception, full: bool) -> JobFailed:
    """Say on stderr why a job of a sweep has failed; what to raise for the sweeper."""
    overrides = " ".join(HydraConfig.get().overrides.task)
    message = one_line(error)
    report(error if message is None else Error(f"{overrides}: {message}").with_traceback(error.__traceback__), full)
    note(failed=f"{overrides}{_log()}")
    return JobFailed(message or f"{type(error).__name__}: {error}")


def _log() -> str:
    """Where to read on, when the output of a job is in a file."""
    if "submitit" not in sys.modules:
        return ""
    import submitit

    try:
        return f" (its log: {shown(submitit.JobEnvironment().paths.stdout)})"
    except RuntimeError:  # not in one of its jobs
        return ""


def end_of_sweep(failure: BaseException | None) -> BaseException | None:
    """Print the board rows of the runs of the sweep that this process has launched, best first.

    Args:
        failure: what Hydra raised.

    Returns:
        What the command fails with: None when all went well, or the sweeper takes it that jobs fail.
    """
    if Launching.folder is None:  # not composed yet
        return failure
    files = sorted(Launching.folder.glob("*/job.json"), key=lambda file: (len(file.parent.name), file))
    notes = [content for content in map(read_json, files) if content is not None]
    failed = [content["failed"] for content in notes if "failed" in content]
    runs = dict.fromkeys(Path(content["run"]) for content in notes if "run" in content)
    if rows := [read_run(run) for run in runs if run.is_dir()]:
        _print_board(ordered(rows))
    if failed and failure is None:
        warn(f"failed: {', '.join(failed)}")
    elif failed and isinstance(failure, JobFailed | ValueError):  # Optuna's, when it has no trial at all
        return Error(f"failed: {', '.join(failed)}")
    return failure


def _print_board(rows: list[Row]) -> None:
    from expkit.show import MOST_ROWS, board_table, new_console

    console = new_console()
    console.print(board_table(rows[:MOST_ROWS], console.width))
    if len(rows) > MOST_ROWS:
        console.print(f"{len(rows) - MOST_ROWS} more: uv run exp board --all", markup=False)


def describe(cv: Mapping[str, Any]) -> str:
    """The content of a `cv.json` on one line."""
    score = cv["mean"] if cv["score"] is None else cv["score"]
    deviation = "" if cv["std"] is None else f" ± {cv['std']:.4f}"
    mixed = "  (folds trained by different code)" if cv["mixed_code"] else ""
    return f"CV {cv['metric']} {score:.4f}{deviation}  {cv['folds_done']}/{cv['n_folds']} folds{mixed}"
