"""From the command line to jobs: one training, or a sweep in this process or in others."""

from __future__ import annotations

import argparse
import inspect
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from expkit import distributed, files, scores, store
from expkit.checkpoint import Checkpoint
from expkit.compose import (
    FULL_ERROR,
    as_error,
    as_hydra_takes,
    composed,
    keys_named,
    own_checks,
    parse_flags,
    print_config,
    register_resolver,
    registered,
    run_hydra,
    set_full_error,
    typed,
)
from expkit.config import (
    DEFAULT,
    Config,
    Experiment,
    Loaded,
    Mode,
    check,
    chosen,
    load_experiment,
    name_folds,
    refuse_shared_name,
    require_files,
)
from expkit.errors import (
    AGAIN,
    CAUGHT,
    Error,
    Failed,
    escape_unprintable,
    interruption,
    one_line,
    report,
    require,
    terminable,
    warn,
)
from expkit.project import code_root, display_path, output_dir, project_root
from expkit.rundir import put_in_place
from expkit.runner import Command, Runner
from expkit.snapshot import copy_code, expose
from expkit.store import Versions
from expkit.study import NoScore, register_study

if TYPE_CHECKING:
    from expkit.snapshot import Snapshot
    from expkit.study import Outcome, Reference


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
            that does not exist, 130 after Ctrl-C, 143 after SIGTERM, 129 after
            SIGHUP.
    """
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    assert caller is not None
    escape_unprintable()
    with terminable(before=end_jobs):
        try:
            failure = _run(Path(caller.f_globals["__file__"]).resolve(), experiment, caller.f_globals)
        except CAUGHT as error:
            failure = error
        if failure is not None:
            sys.exit(report(failure))


def _run(train: Path, experiment: Experiment, names: Mapping[str, Any]) -> BaseException | None:
    """Do what the command line says; what it fails with."""
    require(
        train.parents[1].name == "experiments" and train.name == "train.py",
        f"{display_path(train)}: an experiment is a train.py in a folder of experiments/, "
        "such as experiments/001-baseline",
    )
    require(
        train.parents[2] == code_root(),
        f"{display_path(train)} is no experiment of the project {display_path(code_root())}",
    )
    project_root()
    loaded = load_experiment(train.parent.name)
    require(
        isinstance(experiment, Experiment) and any(value is experiment for value in names.values()),
        f"expkit.main is given another experiment than {display_path(train)} defines, and jobs would not see it: "
        "change that one, experiment = expkit.Experiment(...)",
    )
    parser, args, unknown = parse_flags([as_hydra_takes(argument, loaded) for argument in sys.argv[1:]])
    if unknown:
        raise Error(_without_dashes(unknown[0], loaded))
    require_files(loaded.folder, args.overrides)
    job = Job(loaded.name, [train.name, *sys.argv[1:]], secrets.token_hex(4))
    if not _only_looks(args) and distributed.leads():
        from expkit import schema

        schema.keep(loaded)
    if _is_sweep(args, loaded):
        require(distributed.world_size() == 1, "-m trains many runs, and torchrun one: start torchrun for each of them")

        return sweep(loaded, job, parser, args)
    try:
        with registered(loaded, manual=_manual(loaded, args.overrides) if args.help else None):
            run_hydra(loaded.folder, parser, args, job)
    except CAUGHT as error:
        return error if interruption(error) else as_error(error)
    return job.failure


def _without_dashes(flag: str, loaded: Loaded) -> str:
    """What to write in place of a flag that Hydra does not have: a beginner's --learning_rate 0.1."""
    name, _, value = flag.lstrip("-").partition("=")
    after = [*sys.argv[sys.argv.index(flag) + 1 :], "true"][0]
    keys = keys_named(name.replace("-", "_"), composed(loaded, []))
    example = f"{keys[0]}={value or after}" if keys else "exp.seed=1"
    return f"there is no flag {flag}: a value is given as KEY=VALUE without dashes, as in {example}"


def _manual(loaded: Loaded, overrides: Sequence[str]) -> str:
    from expkit.schema import manual  # not needed to train

    config = composed(loaded, overrides)
    kind = OmegaConf.get_type(config)
    if kind is None or not issubclass(kind, Config):
        typed(config, loaded, overrides)  # it says what is wrong
    return manual(loaded, config)


def _only_looks(args: argparse.Namespace) -> bool:
    """Whether the command prints something, and trains nothing."""
    is_flag = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    return bool(is_flag) or any(override.lower() == "show_config=true" for override in args.overrides)


def _is_sweep(args: argparse.Namespace, loaded: Loaded) -> bool:
    """Whether the command trains several times: -m, or hydra.mode=MULTIRUN there or in config.yaml."""
    if _only_looks(args):
        return False
    modes = [override.partition("=")[2] for override in args.overrides if override.startswith("hydra.mode=")]
    return bool(args.multirun) or (modes[-1] if modes else _mode_of_config(loaded.folder / "config.yaml")) == "MULTIRUN"


def _mode_of_config(file: Path) -> Any:
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if "MULTIRUN" not in text:
        return None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:  # Hydra will say so
        return None
    hydra = content.get("hydra") if isinstance(content, dict) else None
    return hydra.get("mode") if isinstance(hydra, dict) else None


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

    loaded = load_experiment(experiment)
    parameter_set = chosen(overrides) if config is None else None
    if config is None:
        config = typed(composed(loaded, overrides), loaded, overrides)
    require(
        isinstance(config, loaded.experiment.Config),
        f"config must be a {loaded.experiment.Config.__name__} of {experiment}, not a {type(config).__name__}",
    )
    check(config.exp)  # it may have been changed since it was composed
    name_folds(config.exp)
    refuse_shared_name(loaded.folder, parameter_set, config.exp.name)
    return Runner(loaded, config, overrides, Command()).train()


NOTE = "job.json"


class JobFailed(Failed):
    """A job of a sweep has failed, and has said so; any process can read this."""


@dataclass
class Job:
    """What a job takes along from its command; pickled for other processes.

    Attributes:
        experiment: the name of its folder.
        command: as it was typed.
        id: of the command.
        code: the copy of the code that jobs in other processes import; None without a sweep.
        git: the snapshot of that copy.
        project: where the code was copied from.
        failure: what a command without a sweep ends with; Hydra would wrap it.
        study: that its jobs are trials of.
    """

    experiment: str
    command: list[str]
    id: str
    code: Path | None = None
    git: Snapshot | None = None
    project: str = field(default_factory=lambda: str(code_root()))
    full_error: str | None = field(default_factory=lambda: os.environ.get(FULL_ERROR))
    root: str = field(default_factory=lambda: str(project_root()))
    launched_by: int = field(default_factory=os.getpid)
    failure: BaseException | None = None
    study: Reference | None = None

    def __call__(self, cfg: DictConfig) -> float | Outcome | None:
        with self._as_the_user_has_it():
            try:
                return self._run(cfg)
            except Exception as error:
                if interruption(error):
                    raise KeyboardInterrupt from error
                if HydraConfig.get().mode is RunMode.MULTIRUN:
                    raise self._reported(error) from None
                self.failure = error
                return None

    @contextmanager
    def _as_the_user_has_it(self) -> Iterator[None]:
        """A training, and what it starts, sees the environment of its user, not that of launching."""
        launching = os.environ.get(FULL_ERROR)
        here = self.launched_by == os.getpid()
        set_full_error(self.full_error)
        if here and self.code is not None:
            expose(None)
        try:
            with own_checks():
                yield
        finally:
            if here and self.code is not None:
                expose(self.code)
            if here:
                set_full_error(launching)

    def _run(self, cfg: DictConfig) -> float | Outcome | None:
        elsewhere = self.launched_by != os.getpid()
        if elsewhere:
            self._settle()
        loaded = load_experiment(self.experiment)
        config = typed(cfg, loaded, _overrides())
        if config.show_config:
            if distributed.leads():
                print_config(config)
            return None

        hydra = HydraConfig.get()
        is_sweep = hydra.mode is RunMode.MULTIRUN
        copied = is_sweep and elsewhere
        trial = None
        if self.study is not None:
            require(config.exp.mode is Mode.cv, "a study looks for the best CV score: leave exp.mode=sub out")
            trial = self.study.trial(hydra.job.num)
        command = Command(self.command, self.id, copied, self.git if copied else None, not is_sweep, trial)
        refuse_shared_name(loaded.folder, str(hydra.runtime.choices.get("exp", DEFAULT)), config.exp.name)
        run = Runner(loaded, config, _overrides(), command)
        try:
            score = run.train()
            return score if trial is None else trial.outcome(score, run.code)
        finally:
            if run.run_dir.folder is not None:
                whole = run.pruned is None
                self._note(run=str(run.run_dir.folder), replaces=run.run_dir.replaces, whole=whole)

    def _settle(self) -> None:
        """Make this process one like that of the command; it has been told to import the copy of the code."""
        os.environ["PROJECT_ROOT"] = self.root
        if self.code is not None and code_root() != self.code:
            raise Error(
                "this process does not find the copy of the code that belongs to its sweep: is EXPKIT_ROOT set?"
            )

        share_cores()
        checkpoint_first()
        hydra = HydraConfig.get()
        if "joblib" in str(hydra.launcher.get("_target_")):
            end_with(self.launched_by)
            use_one_gpu(Path(hydra.sweep.dir), hydra.job.num)
            for stream in (sys.stdout, sys.stderr):  # of several jobs: whole lines, and no bars
                stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
                stream.isatty = lambda: False  # type: ignore[method-assign]

    def _note(self, **values: Any) -> None:
        """Keep what a job of a sweep says about itself in its folder, for the command that launched it."""
        hydra = HydraConfig.get()
        if hydra.mode is RunMode.MULTIRUN and distributed.leads():
            file = Path(hydra.runtime.output_dir) / NOTE
            files.write_json(file, files.read_if_whole(file) | values)

    def _reported(self, error: Exception) -> JobFailed:
        """Say on stderr why a job of a sweep has failed; what to raise for the sweeper."""
        overrides = " ".join(_overrides())
        message = one_line(error)
        if message is not None and self.code is not None:  # as the project has it, not as the copy that runs
            message = message.replace(display_path(self.code), self.project).replace(str(self.code), self.project)
        report(error if message is None else Error(f"{overrides}: {message}").with_traceback(error.__traceback__))
        self._note(failed=f"{overrides}{_log()}")
        return JobFailed(message or f"{type(error).__name__}: {error}")


def _overrides() -> list[str]:
    """Those of the job, as they were typed: ${...} in one is not looked up."""
    typed_in = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(typed_in, list)
    return [str(override) for override in typed_in]


def _log() -> str:
    """Where to read on, when the output of a job is in a file."""
    if "submitit" not in sys.modules:
        return ""
    import submitit

    try:
        return f" (its log: {display_path(submitit.JobEnvironment().paths.stdout)})"
    except RuntimeError:  # not in one of its jobs
        return ""


class Launching(Callback):
    """Part of every sweep: notes where it lies, and keeps the launching process small."""

    folder: Path | None = None  # of the sweep that this process launches; Hydra makes the callback, nobody else sees it

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Launching.folder = Path(config.hydra.sweep.dir)
        Launching.folder.mkdir(parents=True, exist_ok=True)  # a study writes there, jobs or none

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None  # the whole configuration, twice a job, and nobody reads it


def sweep(loaded: Loaded, job: Job, parser: argparse.ArgumentParser, args: argparse.Namespace) -> BaseException | None:
    """Launch the jobs of a command with a copy of the code; what it fails with."""
    require("${" not in str(output_dir()), f"Hydra cannot sweep in a folder that has ${{ in its path: {output_dir()}")
    copy = copy_code(loaded.name)
    job.code, job.git = copy.folder, copy.git
    failure: BaseException | None = None
    register()
    Plugins.instance()  # imports what hydra_plugins/ has: before `expose`, from the project, as a single run does
    expose(copy.folder)
    try:
        with registered(loaded, callback=f"{Launching.__module__}.{Launching.__name__}"):
            register_study(loaded.name, bool(loaded.experiment.greater_is_better))
            run_hydra(copy.folder / "experiments" / loaded.name, parser, args, job)
    except CAUGHT as error:
        failure = _readable(error, copy.folder, code_root())
    finally:
        expose(None)
        all_ended = failure is None or isinstance(failure, JobFailed | NoScore)
        jobs_may_wait = "submitit" in sys.modules and not all_ended
        copy.leave(jobs_may_wait)
    return end_of_sweep(loaded, failure)


def _readable(error: BaseException, copy: Path, project: Path) -> BaseException:
    """An error of composing or launching as one line, with the project's paths in place of the copy's."""
    if interruption(error):
        return error
    found = as_error(error)
    if type(found).__name__ == "TerminatedWorkerError":  # joblib
        return Failed(f"a process of the sweep has died, killed or out of memory: {AGAIN}")
    if type(found).__module__.startswith("submitit"):
        line = str(found).splitlines()[0].rstrip(" .:")
        return Error(line if line.startswith("sbatch") else f"{line}: {AGAIN}")
    if type(found) is Error:
        message = str(found).replace(display_path(copy), str(project)).replace(str(copy), str(project))
        return Error(message).with_traceback(found.__traceback__)
    return found


def end_of_sweep(loaded: Loaded, failure: BaseException | None) -> BaseException | None:
    """Let the runs that replace others count, and print the board rows of all runs, best first.

    Args:
        failure: what Hydra raised.

    Returns:
        What the command fails with: None when all went well, or the sweeper takes it that jobs fail.
    """
    folder, Launching.folder = Launching.folder, None
    if folder is None:  # not composed yet
        return failure
    notes = [note for file in sorted(folder.glob(f"*/{NOTE}"), key=_number) if (note := files.read_if_whole(file))]
    failed = [str(note["failed"]) for note in notes if "failed" in note]
    broken = {note["run"] for note in notes if "run" in note and ("failed" in note or not note.get("whole", True))}
    runs = []
    for run in dict.fromkeys(note["run"] for note in notes if "run" in note):
        replaces = any(note.get("replaces") for note in notes if note.get("run") == run)
        is_whole = run not in broken and (failure is None or isinstance(failure, JobFailed | NoScore))
        if replaces and is_whole:
            failure = _put_in_place(loaded, Path(run)) or failure
        runs.append(Path(run))
    _print_board([store.read_run(run) for run in runs if run.is_dir()])
    if failed and failure is None:
        warn(f"failed: {', '.join(failed)}")
    elif failed and isinstance(failure, JobFailed | NoScore):
        return Failed(f"failed: {', '.join(failed)}")
    return failure


def _put_in_place(loaded: Loaded, folder: Path) -> Error | None:
    run = store.read_run(folder)
    versions = Versions(folder.parent, run.name)
    try:
        put_in_place(versions, folder, lambda version: scores.update(loaded.experiment, versions, version))
    except Error as error:
        return error
    return None


def _number(file: Path) -> tuple[int, Path]:
    return len(file.parent.name), file


def _print_board(found: list[store.Run]) -> None:
    from expkit.board import MOST_ROWS, board_table, ranked
    from expkit.errors import new_console

    if not found:
        return
    console = new_console()
    console.print(board_table(ranked(found)[:MOST_ROWS], console.width))
    if len(found) > MOST_ROWS:
        console.print(f"{len(found) - MOST_ROWS} more: uv run exp board --all", markup=False)


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
