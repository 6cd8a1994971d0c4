"""From the command line to jobs: one training in this process, or a sweep of several, here or in other processes.

train.py exp=001            main -> Hydra -> a Job in this process -> the runner
train.py -m exp=001,002     main -> sweep -> Hydra's launcher -> Jobs -> the board of their runs
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from expkit import compose, errors, files
from expkit.config import Config, Experiment, Loaded, check, chosen, load_experiment, name_folds, refuse_shared_name
from expkit.errors import CAUGHT, Error, Failed, interruption, require
from expkit.project import code_root, display_path, leads, output_dir, project_root, world_size

if TYPE_CHECKING:
    from expkit.store import Run
    from expkit.store.records import Git
    from expkit.study import RunningTrial

NOTE = "job.json"  # what a job of a sweep tells its command, in its folder of output/multirun/
MOMENT = 2  # seconds for a job that is stopped, to say so
CHECKPOINT_TIME = 60  # seconds for the training to come to its next `fold.checkpoint.save`; the preset leaves it 120

# Each in the name of a variable, as OMP_NUM_THREADS. joblib sets them in the processes of hydra/launcher=local.
THREADS = ["OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR"]


def main(experiment: Experiment) -> None:
    """Run an experiment as a Hydra application; the last line of its train.py.

    Like `@hydra.main(config_path=".", config_name="config")`, with Hydra's own flags (--help, --cfg, --multirun, ...).
    In addition, the configuration is an object of the experiment's own class, with checked values; show_config=true
    prints it and stops; a mistake on the command line or in a YAML file is one line (HYDRA_FULL_ERROR=1 shows the
    traceback instead). A sweep that starts other processes trains with a copy of the code. A sweep ends with the board
    of its runs.

    Args:
        experiment: as train.py defines it.

    Raises:
        SystemExit: with 1 when a training has failed, 2 when the command is refused, 3 when it names a parameter set
            that does not exist, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    errors.escape_unprintable()
    with errors.terminable(before=_end_jobs):
        try:
            failure = _run(experiment, sys._getframe(1).f_globals)
        except CAUGHT as error:
            failure = error
        if failure is not None:
            sys.exit(errors.report(failure))


def run(experiment: str, config: Any = None, overrides: Sequence[str] = ()) -> float | None:
    """Train an experiment from Python, in this process: what its train.py does, without a command line.

    Args:
        experiment: the name of a folder in `experiments/`, such as "001-baseline".
        config: from `load_config`; values may have been changed since. None: it is composed from `overrides`.
        overrides: as on the command line, such as ["exp=001", "exp.fold=[0]"]; values are in the name of the run.

    Returns:
        the CV score over all out-of-fold rows; if only some folds are asked for, the mean of their scores. None with
        exp.mode=sub.

    Raises:
        Error: as on the command line, where it is one line.
    """
    from expkit.runner import Command, Runner

    loaded = load_experiment(experiment)
    parameter_set = chosen(overrides) if config is None else None
    if config is None:
        config = compose.typed(compose.composed(loaded, overrides), loaded)
    require(
        isinstance(config, loaded.experiment.Config),
        f"config must be a {loaded.experiment.Config.__name__} of {experiment}, not a {type(config).__name__}",
    )
    check(config.exp)  # it may have been changed since it was composed
    name_folds(config.exp)
    refuse_shared_name(loaded.folder, parameter_set, config.exp.name)
    return Runner(loaded, config, overrides, Command()).train()


# The command line


def _identity(experiment: Experiment) -> tuple[Any, ...]:
    """What tells an experiment from another one of the same train.py, whose functions have been imported twice."""
    names = [getattr(each, "__qualname__", None) for each in (experiment.train, experiment.Config)]
    settings = (experiment.score_over, experiment.inputs, experiment.distributed, experiment.own_split)
    groups = {group: list(classes) for group, classes in experiment.groups.items()}
    return *names, list(experiment.metrics), experiment.greater_is_better, groups, *settings


def _run(experiment: Experiment, names: Mapping[str, Any]) -> BaseException | None:
    """Run the command; return the error, if any.

    Args:
        names: the globals of the train.py.
    """
    train = Path(names["__file__"]).resolve()
    require(
        train.parents[1] == code_root() / "experiments" and train.name == "train.py",
        f"{display_path(train)}: an experiment is a train.py in a folder of {display_path(code_root())}/experiments/, "
        "such as experiments/001-baseline",
    )
    project_root()  # refuses one that is not there, before anything is composed
    loaded = load_experiment(train.parent.name)
    require(
        isinstance(experiment, Experiment) and _identity(experiment) == _identity(loaded.experiment),
        f"expkit.main is given another experiment than {display_path(train)} defines, and jobs would not see it: "
        "change that one, experiment = expkit.Experiment(...)",
    )
    parser, args, unknown = compose.parse_flags([compose.as_hydra_takes(argument, loaded) for argument in sys.argv[1:]])
    if unknown:
        raise Error(f"there is no flag {unknown[0]}: a value is given as KEY=VALUE without dashes, as in exp.seed=1")
    job = Job(loaded.name, [train.name, *sys.argv[1:]], secrets.token_hex(4))
    try:
        return _compose_and_run(loaded, parser, args, job)
    finally:
        if not _only_looks(args) and leads():
            from expkit import schema

            schema.keep(loaded)  # when all else is done: only editors need them


def _compose_and_run(
    loaded: Loaded, parser: argparse.ArgumentParser, args: argparse.Namespace, job: Job
) -> BaseException | None:
    if args.multirun and not _only_looks(args):
        return _sweep(loaded, job, parser, args)
    try:
        with compose.registered(loaded, manual=_manual(loaded, args.overrides) if args.help else None):
            compose.run_hydra(loaded.folder, parser, args, job)
    except CAUGHT as error:
        return error if interruption(error) else compose.as_error(error)
    return job.failure


def _only_looks(args: argparse.Namespace) -> bool:
    """Whether the command prints something, and trains nothing."""
    is_flag = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    return bool(is_flag) or any(override.lower() == "show_config=true" for override in args.overrides)


def _manual(loaded: Loaded, overrides: Sequence[str]) -> str:
    from expkit.schema import manual

    config = compose.composed(loaded, overrides)
    kind = OmegaConf.get_type(config)
    if kind is None or not issubclass(kind, Config):
        compose.typed(config, loaded)  # it says what is wrong
    return manual(loaded, config)


# A job


class JobsFailed(Failed):
    """Jobs of a sweep have ended, some have failed, and have said so; any process can unpickle this."""


@dataclass
class Job:
    """One training of a command: what Hydra calls with a composed configuration. Pickled for other processes.

    Attributes:
        experiment: the name of its folder.
        command: as it was typed.
        id: of the command.
        code: the copy of the code that jobs in other processes import; None without a sweep.
        git: the snapshot of that copy.
        project: where the code was copied from.
        root: the folder with input/ and output/.
        launched_by: the process of the command.
        failure: what a command without a sweep ends with; Hydra would wrap it.
        study: the trial of each job, by its number; such a job returns the score, None when it is pruned, and the code,
            as the two hashes of `code_hash`.
    """

    experiment: str
    command: list[str]
    id: str
    code: Path | None = None
    git: Git | None = None
    project: Path = field(default_factory=code_root)
    root: Path = field(default_factory=project_root)
    launched_by: int = field(default_factory=os.getpid)
    failure: BaseException | None = None
    study: dict[int, RunningTrial] | None = None

    def __call__(self, cfg: DictConfig) -> float | tuple[float | None, list[str] | None] | None:
        hydra = HydraConfig.get()
        is_sweep = hydra.mode is RunMode.MULTIRUN
        note: dict[str, Any] = {}
        try:
            return self._train(cfg, note)
        except Exception as error:
            if stop := interruption(error):
                raise stop from error
            if is_sweep:
                raise self._reported(error, note) from None
            self.failure = error
            return None
        finally:
            if is_sweep and note and leads():
                files.write_json(Path(hydra.runtime.output_dir) / NOTE, note)

    def _train(self, cfg: DictConfig, note: dict[str, Any]) -> float | tuple[float | None, list[str] | None] | None:
        if self._is_elsewhere:
            self._settle()
        loaded, overrides = load_experiment(self.experiment), _overrides()
        config = compose.typed(cfg, loaded)
        if config.show_config:
            if leads():
                compose.print_config(config)
            return None
        from expkit.runner import Command, Runner  # not needed to show a configuration

        hydra = HydraConfig.get()
        is_sweep = hydra.mode is RunMode.MULTIRUN
        require(not is_sweep or self.code is not None, "a sweep begins with -m, not with hydra.mode=MULTIRUN")
        git = self.git if self._is_elsewhere else None
        trial = None if self.study is None else self.study[hydra.job.num]
        command = Command(self.command, self.id, self._is_elsewhere, git, installs=not is_sweep, trial=trial)
        refuse_shared_name(loaded.folder, str(hydra.runtime.choices.get("exp", "default")), config.exp.name)
        run = Runner(loaded, config, overrides, command)
        try:
            score = run.train()
            return score if self.study is None else (score, run.code)
        finally:
            if (folder := run.run_dir.folder) is not None:
                note |= {"run": str(folder), "replaces": run.run_dir.replaces, "whole": run.pruned is None}

    @property
    def _is_elsewhere(self) -> bool:
        return self.launched_by != os.getpid()

    def _settle(self) -> None:
        """Make this process one like that of the command; it has been told to import the copy of the code."""
        os.environ["PROJECT_ROOT"] = str(self.root)
        require(
            self.code in (None, code_root()),
            "this process does not find the copy of the code that belongs to its sweep: is EXPKIT_ROOT set?",
        )
        _share_cores()
        hydra = HydraConfig.get()
        launcher = str(hydra.launcher.get("_target_"))
        if "submitit" in launcher:
            _checkpoint_first()
        if "joblib" in launcher:
            _end_with(self.launched_by)
            _use_one_gpu(Path(hydra.sweep.dir), hydra.job.num)
            for stream in (sys.stdout, sys.stderr):  # of several jobs: whole lines, and no bars
                stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
                stream.isatty = lambda: False  # type: ignore[method-assign]

    def _reported(self, error: Exception, note: dict[str, Any]) -> JobsFailed:
        """Say on stderr and in the note why a job of a sweep has failed; what to raise for the sweeper."""
        overrides, message, log = " ".join(_overrides()), errors.one_line(error), ""
        if message is not None and self.code is not None:
            message = _in_project(message, self.code, self.project)
        said = error if message is None else Error(f"{overrides}: {message}").with_traceback(error.__traceback__)
        errors.report(said)
        if self._is_elsewhere and "submitit" in sys.modules:
            import submitit

            with suppress(RuntimeError):  # not in one of its jobs
                log = f" (its log: {display_path(submitit.JobEnvironment().paths.stdout)})"
        note["failed"] = f"{overrides}{log}"
        return JobsFailed(message or f"{type(error).__name__}: {error}")


def _overrides() -> list[str]:
    """Those of the job, as they were typed: ${...} in one is not looked up."""
    typed_in: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in typed_in]


def _in_project(message: str, copy: Path, project: Path) -> str:
    """A message with the project's paths in place of those of its copy."""
    return message.replace(display_path(copy), str(project)).replace(str(copy), str(project))


# A sweep


def processes_of(launcher: DictConfig) -> int | None:
    """How many processes a launcher of Hydra uses; 1: this one; None: it does not say, as on a cluster."""
    target = str(launcher.get("_target_"))
    if "joblib" in target:
        from joblib import effective_n_jobs

        return int(effective_n_jobs(launcher.n_jobs))
    return 1 if "BasicLauncher" in target else None


class Launching(Callback):
    """What Hydra says of a sweep before it starts, and after each job. Hydra creates the instance, so its
    state is in attributes of the class.

    Attributes:
        copy: of the code, which jobs in other processes import; set by the command.
        folder: of the sweep; None until it is composed.
    """

    copy: Path
    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from expkit.snapshot import expose

        Launching.folder = Path(config.hydra.sweep.dir)
        Launching.folder.mkdir(parents=True, exist_ok=True)  # a study writes there, jobs or none
        if processes_of(config.hydra.launcher) != 1:
            expose(Launching.copy)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None  # the whole configuration, twice a job, and nobody reads it


def _sweep(loaded: Loaded, job: Job, parser: argparse.ArgumentParser, args: argparse.Namespace) -> BaseException | None:
    """Launch the jobs of a command with a copy of the code, and print the board rows of their runs."""
    from expkit.snapshot import copy_code, expose  # git, and much else

    require(world_size() == 1, "-m trains many runs, and torchrun one: start torchrun for each of them")
    require("${" not in str(output_dir()), f"Hydra cannot sweep in a folder that has ${{ in its path: {output_dir()}")
    copy = copy_code()
    job.code, job.git = copy.folder, copy.git
    Launching.copy, Launching.folder = copy.folder, None
    failure: BaseException | None = None
    compose.register_resolver("expkit.processes", processes)
    try:
        with compose.registered(loaded, callback=f"{Launching.__module__}.{Launching.__name__}"):
            compose.run_hydra(copy.folder / "experiments" / loaded.name, parser, args, job)
    except CAUGHT as error:
        failure = _readable(error, job)
    finally:
        expose(None)
        copy.leave(jobs_may_wait="submitit" in sys.modules and not _all_ended(failure))
    return failure if Launching.folder is None else _conclude(loaded, Launching.folder, failure)


def _all_ended(failure: BaseException | None) -> bool:
    """Whether every job of the sweep has come to its end; some may have failed."""
    return failure is None or isinstance(failure, JobsFailed)


def _readable(error: BaseException, job: Job) -> BaseException:
    """An error of composing or launching as one line."""
    found = error if interruption(error) else compose.as_error(error)
    if type(found).__name__ == "TerminatedWorkerError":  # joblib
        return Failed(f"a process of the sweep has died, killed or out of memory: {errors.AGAIN}")
    if type(found).__module__.startswith("submitit"):
        line = str(found).splitlines()[0].rstrip(" .:")
        return Error(line if line.startswith("sbatch") else f"{line}: {errors.AGAIN}")
    if type(found) is Error and job.code is not None:
        return Error(_in_project(str(found), job.code, job.project)).with_traceback(found.__traceback__)
    return found


def _conclude(loaded: Loaded, folder: Path, failure: BaseException | None) -> BaseException | None:
    """Let the runs that replace others count, if all their jobs are whole, and print the rows of all runs, best first.

    Args:
        folder: of the sweep, with the notes of its jobs.
        failure: what Hydra raised.

    Returns:
        What the command fails with. None when all went well; a study lets jobs fail.
    """
    from expkit import scores, store
    from expkit.rundir import put_in_place

    found = sorted(folder.glob(f"*/{NOTE}"), key=lambda file: (len(file.parent.name), file))  # 2 before 10
    notes = [note for file in found if (note := files.read_if_whole(file))]
    runs = dict.fromkeys(note["run"] for note in notes if "run" in note)
    all_ended = _all_ended(failure)
    for run in runs:
        own = [note for note in notes if note.get("run") == run]
        is_whole = all_ended and all(note["whole"] and "failed" not in note for note in own)
        if is_whole and any(note["replaces"] for note in own):
            versions = store.Versions(Path(run).parent, store.read_run(Path(run)).name)
            try:
                put_in_place(versions, Path(run), partial(scores.update, loaded.experiment, versions))
            except Error as error:
                failure = error
    _print_board([store.read_run(Path(run)) for run in runs if os.path.isdir(run)])
    failed = f"failed: {', '.join(str(note['failed']) for note in notes if 'failed' in note)}"
    if failed != "failed: ":
        if failure is None:
            errors.warn(failed)
        elif _all_ended(failure):
            return Failed(failed)
    return failure


def _print_board(found: list[Run]) -> None:
    from expkit.board import MOST_ROWS, board_table, ranked

    if not found:
        return
    console = errors.new_console()
    console.print(board_table(ranked(found)[:MOST_ROWS], console.width))
    if len(found) > MOST_ROWS:
        console.print(f"{len(found) - MOST_ROWS} more: uv run exp board --all", markup=False)


# The processes of a sweep: GPUs, cores, and their end


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


_gpu: list[Any] = []  # the lock of the one GPU of this process, which takes one job after another


def _use_one_gpu(sweep_dir: Path, job: int) -> None:
    """Leave this process one GPU to see; another one than the other processes of the sweep, while there are enough."""
    from filelock import FileLock, Timeout

    if _gpu or not (available := gpus()):
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = available[job % len(available)]
    for number, gpu in enumerate(available):
        _gpu[:] = [FileLock(sweep_dir / f".gpu{number}")]
        with suppress(Timeout):
            _gpu[0].acquire(blocking=False)
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            return


def _share_cores() -> None:
    """In a job of Slurm: numeric libraries take as many threads as the job has cores."""
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        for library in THREADS:
            os.environ.setdefault(f"{library}_NUM_THREADS", cpus)


def _end_jobs() -> None:
    """SIGTERM or SIGHUP has come: stop the processes of hydra/launcher=local, which joblib would kill at once."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and (executor := loky._executor) is not None:
        for process in [*(executor._processes or ())]:
            with suppress(OSError):  # it has ended
                os.kill(process, signal.SIGTERM)
        time.sleep(MOMENT)


def _end_with(parent: int) -> None:
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


def _checkpoint_first() -> None:
    """Let submitit's signal wait until the training, where it saves checkpoints, has saved one more.

    submitit puts the job back into the queue and ends the process as soon as the signal comes, in the middle of a step.
    """
    from expkit.progress import Checkpoint

    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
    requeue: Any = signal.getsignal(number)

    def handle(signum: int, frame: FrameType | None) -> None:
        if not Checkpoint.in_use or Checkpoint.before_end is not None:
            requeue(signum, frame)
            return
        Checkpoint.before_end = lambda: requeue(signum, frame)
        timer = threading.Timer(CHECKPOINT_TIME, os.kill, (os.getpid(), signum))  # and then at once
        timer.daemon = True
        timer.start()

    if callable(requeue):
        signal.signal(number, handle)
