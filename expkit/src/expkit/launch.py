"""From the command line to jobs: one training in this process, or a sweep of several, here or in other processes.

train.py exp=001            main -> Hydra -> a Job in this process -> the runner
train.py -m exp=001,002     main -> sweep -> Hydra's launcher -> Jobs -> the board of their runs
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import random
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, setup_globals
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from expkit import compose, errors, files, schema
from expkit.code import loaded_sources, own_modules
from expkit.config import Config, Experiment, Loaded, chosen, container, load_experiment, refuse_shared_name
from expkit.errors import CAUGHT, Error, Failed, Terminated, interruption, require
from expkit.project import code_root, display_path, leads, project_root, world_size

if TYPE_CHECKING:
    from expkit.store.records import Git
    from expkit.study import RunningTrial

JOB_REPORT = "job.json"  # what a job of a sweep tells its command, in its folder of output/multirun/
STOP_SECONDS = 2  # for a job that is stopped, to say so


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
    gc.freeze()  # what is imported is no garbage: to look for some at its end takes a sixth of a short command
    with errors.terminable():
        try:
            _run(experiment, sys._getframe(1).f_globals)
        except CAUGHT as error:
            typed_in = os.environ.get(errors.COMMAND) or shlex.join(["uv", "run", "python", *sys.argv])
            sys.exit(errors.report(error, typed_in if world_size() == 1 else ""))


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
        config = compose.typed(compose.composed(loaded, overrides), loaded, overrides)
    require(
        isinstance(config, loaded.experiment.Config),
        f"config must be a {loaded.experiment.Config.__name__} of {experiment}, not a {type(config).__name__}",
    )
    compose.checked(config)  # it may have been changed since it was composed
    refuse_shared_name(loaded.folder, parameter_set, config.exp.name)
    return Runner(loaded, config, overrides, Command()).train()


# The command line


def _run(experiment: Experiment, names: Mapping[str, Any]) -> None:
    """Run the command.

    Args:
        names: the globals of the train.py.
    """
    train = Path(names["__file__"]).resolve()
    is_defined_here = isinstance(experiment, Experiment) and any(value is experiment for value in names.values())
    require(
        train.parents[1] == code_root() / "experiments" and train.name == "train.py" and is_defined_here,
        f"{display_path(train)}: an experiment is a train.py in a folder of {display_path(code_root())}/experiments/, "
        "such as experiments/001-baseline, and expkit.main takes the one that it defines",
    )
    loaded = load_experiment(train.parent.name)
    parser, args, unknown = compose.parse_flags([compose.as_hydra_takes(argument, loaded) for argument in sys.argv[1:]])
    if unknown:
        raise Error(f"there is no flag {unknown[0]}: a value is given as KEY=VALUE without dashes, as in exp.seed=1")
    shows_hydra = args.hydra_help or args.cfg or args.info or args.shell_completion
    is_shown = any(override.lower() == "show_config=true" for override in args.overrides)
    many = "-m has many configurations: leave show_config=true out, or -m, and give each key one value"
    require(not (args.multirun and is_shown), many)
    only_looks = shows_hydra or args.help or is_shown  # and trains nothing
    job = Job(loaded.name, [train.name, *sys.argv[1:]], secrets.token_hex(4))
    try:
        if args.multirun and not only_looks:
            _sweep(loaded, job, parser, args)
            return
        if args.help:
            config = compose.composed(loaded, args.overrides)
            if not issubclass(OmegaConf.get_type(config) or dict, Config):
                compose.typed(config, loaded)  # it says what is wrong
            return schema.print_manual(loaded, config)
        with compose.registered(loaded, is_whole=bool(shows_hydra or compose.names_hydra(loaded, args.overrides))):
            compose.run_hydra(loaded.folder, parser, args, job)
        if job.failure is not None:
            raise job.failure
    finally:
        if not only_looks and leads():
            schema.keep(loaded)  # when all else is done: only editors need them


# A job


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
        is_apart: whether this process is of this job alone, and another one waits for it.
        failure: what a command without a sweep ends with; Hydra would wrap it.
        study: the trial of each job, by its number.
    """

    experiment: str
    command: list[str]
    id: str
    code: Path | None = None
    git: Git | None = None
    project: Path = field(default_factory=code_root)
    root: Path = field(default_factory=project_root)
    launched_by: int = field(default_factory=os.getpid)
    is_apart: bool = False
    failure: BaseException | None = None
    study: dict[int, RunningTrial] | None = None

    def __call__(self, cfg: DictConfig) -> dict[str, Any]:
        """Train.

        Returns:
            a report, which is in the folder of the job as well: "run", its folder; "replaces", whether the run replaces
            another; "whole", of a job that has ended well: whether no study has pruned the run; "failed", the overrides
            of one that has not; "died", whether its process was killed, and the job may run again. In a study also
            "score", None when it is pruned; "code", the two hashes of `code_hash`; and "metric", a hash of the metric.
        """
        hydra = HydraConfig.get()
        is_sweep = hydra.mode is RunMode.MULTIRUN
        report: dict[str, Any] = {}
        try:
            if self._is_elsewhere:
                self._settle(cfg)
            may_be_killed = self._is_elsewhere or (is_sweep and bool(cfg.exp.time_limit))
            if may_be_killed and not self.is_apart and cfg.exp.runtime.processes == 1:
                self._train_apart(cfg, report)
            else:
                self._train(cfg, report)
        except Exception as error:
            if stop := interruption(error):
                raise stop from error
            if is_sweep:
                report["failed"] = self._say(error)
            else:
                self.failure = error
        finally:
            if is_sweep and leads():
                files.write_json(Path(hydra.runtime.output_dir) / JOB_REPORT, report)
        return report

    def _train_apart(self, cfg: DictConfig, report: dict[str, Any]) -> None:
        """Train in a process of its own, which may be killed, or in several, which torchrun starts."""
        count, folder = cfg.exp.runtime.processes, Path(HydraConfig.get().runtime.output_dir)
        file, job = folder / "job", replace(self, is_apart=True)
        (folder / JOB_REPORT).unlink(missing_ok=True)  # of before it went back to the queue
        process: Any
        # other systems have libraries that do not survive a fork
        if is_forked := self._is_elsewhere and sys.platform == "linux" and count == 1:
            from multiprocessing import get_context  # what starts no process does not wait for it

            from expkit import tracking

            tracking.share()
            load_experiment(self.experiment)
            gc.freeze()  # else the garbage collector of the fork copies all memory
            process = get_context("fork").Process(target=_call_apart, args=(str(file), count, (job, cfg)))
            process.start()
            wait = process.join
        else:
            hydra = OmegaConf.to_container(HydraConfig.instance().cfg)  # plain: nobody can import a plugin's classes
            file.write_bytes(pickle.dumps((job, cfg, hydra)))
            code = f"from {__name__} import {_call_apart.__name__}; {_call_apart.__name__}({str(file)!r}, {count})"
            process = subprocess.Popen([sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL)
            wait = process.wait
        try:
            wait()
            report |= files.read_if_whole(folder / JOB_REPORT)
            for name in file.read_text().split() if is_forked and "whole" in report else ():  # libraries, for the next
                with suppress(Exception):  # it was not imported by its name
                    import_module(name)
        except BaseException:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                wait(STOP_SECONDS)
            process.kill()
            raise
        finally:
            file.unlink(missing_ok=True)
        if not report.keys() & {"whole", "failed"}:
            report["died"] = not cfg.exp.time_limit  # else it is what the job did
            over = "over exp.time_limit, " if cfg.exp.time_limit else ""
            raise Failed(f"its process has died: {over}killed or out of memory; {errors.AGAIN}")

    def _train(self, cfg: DictConfig, report: dict[str, Any]) -> None:
        loaded, overrides = load_experiment(self.experiment), _overrides()
        config = compose.typed(cfg, loaded, overrides)
        if config.show_config:
            report["whole"] = True
            return print(OmegaConf.to_yaml(container(config)), end="") if leads() else None
        from expkit.runner import Command, Runner  # not needed to show a configuration

        hydra = HydraConfig.get()
        is_sweep = hydra.mode is RunMode.MULTIRUN
        trial = None if self.study is None else self.study[hydra.job.num]
        command = Command(self.command, self.id, self._is_elsewhere, self.git, installs=not is_sweep, trial=trial)
        refuse_shared_name(loaded.folder, str(hydra.runtime.choices.get("exp", "default")), config.exp.name)
        run = Runner(loaded, config, overrides, command)
        if (count := config.exp.runtime.processes) > 1 and world_size() == 1:
            require(is_sweep, f"exp.runtime.processes={count} takes -m; without: torchrun --nproc_per_node={count}")
            return self._train_apart(cfg, report)
        try:
            report |= {"score": run.train(), "whole": run.pruned is None}
            if self.study is not None:
                report |= {"code": run.code, "metric": run.metric_hash}
        finally:
            if (folder := run.run_dir.folder) is not None:
                report |= {"run": str(folder), "replaces": run.run_dir.replaces}

    @property
    def _is_elsewhere(self) -> bool:
        return self.launched_by != os.getpid()

    def _settle(self, cfg: DictConfig) -> None:
        """Make this process, which has been told to import the copy of the code, ready for a job."""
        os.environ["PROJECT_ROOT"] = str(self.root)
        hydra, count = HydraConfig.get(), cfg.exp.runtime.processes
        if _is_joblib(hydra.launcher):
            for stream in (sys.stdout, sys.stderr):  # of several jobs: whole lines, and no bars
                stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
                stream.isatty = lambda: False  # type: ignore[method-assign]
        if self.is_apart:
            return
        require(self.code == code_root(), "the sweep's copy of the code is not found here: is EXPKIT_ROOT set?")
        if _is_joblib(hydra.launcher):
            _end_with(self.launched_by)
            _use_gpus(Path(hydra.sweep.dir), count)
            return
        if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):  # joblib does this by itself
            os.environ.setdefault("OMP_NUM_THREADS", str(max(int(cpus) // count, 1)))
        with open(_log(), "ab") as log:  # on after what it said before its job went back to the queue
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(log.fileno(), stream.fileno())

    def _say(self, error: Exception) -> str:
        """Say on stderr why a job of a sweep has failed; what the command says of it at its end."""
        name, message = " ".join(_overrides()), errors.one_line(error)
        if message is not None:
            error = Error(f"{name}: {self.in_project(message)}").with_traceback(error.__traceback__)
        errors.report(error)
        return f"{name} (its log: {display_path(_log())})" if _log().exists() else name

    def in_project(self, message: str) -> str:
        """A message with the project's paths in place of those of its copy."""
        if self.code in (None, self.project):  # without git, there is no copy
            return message
        return message.replace(display_path(self.code), str(self.project)).replace(str(self.code), str(self.project))


def _call_apart(file: str, processes: int, forked: tuple[Job, DictConfig] | None = None) -> None:
    """Call a job; then the names of libraries that the next one needs, too, stand in a file.

    Only what the job reports says whether it has ended well: any process may be killed.

    Args:
        forked: the job and its configuration; None: they stand pickled in the file, with Hydra's settings.
    """
    _end_with(os.getppid())
    if processes > world_size():
        from expkit.distributed import torchrun

        return torchrun(processes, sys.orig_argv)
    for number in signal.valid_signals() - {signal.SIGINT}:
        if callable(signal.getsignal(number)):  # submitit's, in a fork: it answers for all runs of a job of the cluster
            signal.signal(number, lambda *_: None)
    known = set(sys.modules)
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()  # else the random numbers of each fork are the same
    if forked is None:
        *forked, hydra = pickle.loads(Path(file).read_bytes())
        setup_globals()
        HydraConfig.instance().cfg = OmegaConf.create(hydra)
    job, cfg = forked
    report: dict[str, Any] = {}
    with suppress(KeyboardInterrupt, Terminated):
        report = job(cfg)
    if processes == 1:
        Path(file).write_text("\n".join(_libraries(job.experiment, known)))
    sys.exit(int("whole" not in report))  # torchrun ends the other ranks


def _libraries(experiment: str, known: set[str]) -> list[str]:
    """The modules of libraries that a job has imported beyond those that were known: the next one has them, too.

    None if the project's code may set a variable, which a library reads when it is imported; or where there are GPUs,
    which a library may open then.
    """
    new = [name for name in sys.modules if name not in known]
    own = {module.__name__ for module, _ in own_modules(new)}
    if own.issuperset(new) or gpus():
        return []
    sets_variables = re.search(rb"\b(environb?|putenv|load_dotenv)\b", b"\n".join(loaded_sources(experiment).values()))
    return [] if sets_variables else [name for name in new if name not in own]


def _log() -> Path:
    """What a run prints in a job of a cluster."""
    return Path(HydraConfig.get().runtime.output_dir) / "log.txt"


def _overrides() -> list[str]:
    """Those of the job, as they were typed: ${...} in one is not looked up."""
    typed_in: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in typed_in]


# A sweep


def _is_joblib(launcher: DictConfig) -> bool:
    return "joblib" in str(launcher.get("_target_"))


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
        is_here = "BasicLauncher" in str(config.hydra.launcher.get("_target_"))
        if not is_here or config.exp.time_limit or config.exp.runtime.processes > 1:
            expose(Launching.copy)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None  # the whole configuration, twice a job, and nobody reads it


def _sweep(loaded: Loaded, job: Job, parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Launch the jobs of a command with a copy of the code, and print the board rows of their runs."""
    from expkit.snapshot import copy_code, remove_copy  # git, and much else

    require(world_size() == 1, f"-m starts torchrun for each run: leave it out, exp.runtime.processes={world_size()}")
    job.code, job.git = copy_code()
    Launching.copy, Launching.folder = job.code, None
    failure: BaseException | None = None
    compose.register_resolver("expkit.processes", processes)
    try:
        with compose.registered(loaded, callback=f"{Launching.__module__}.{Launching.__name__}"):
            compose.run_hydra(job.code / "experiments" / loaded.name, parser, args, job)
    except CAUGHT as error:
        failure = _readable(error, job)
    if failure is None or "submitit" not in sys.modules:  # else some jobs may wait in the queue
        remove_copy(job.code)
    if Launching.folder is not None:
        failure = _conclude(loaded, Launching.folder, failure, job.study is not None)
    if failure is not None:
        raise failure


def _readable(error: BaseException, job: Job) -> BaseException:
    """An error of composing or launching as one line."""
    if type(error).__module__.startswith(("submitit", "joblib")):
        line = str(error).splitlines()[0].rstrip(" .:")
        return Error(line) if line.startswith("sbatch") else Failed(f"{line}: {errors.AGAIN}")
    if type(error) is Error:
        return Error(job.in_project(str(error))).with_traceback(error.__traceback__)
    return error


def _conclude(loaded: Loaded, folder: Path, failure: BaseException | None, is_study: bool) -> BaseException | None:
    """Let the runs that replace others count, if all their jobs are whole, and print the rows of all runs, best first.

    Args:
        folder: of the sweep, with the reports of its jobs.
        failure: what Hydra raised; then some jobs may not have ended.

    Returns:
        What the command fails with. None when all went well; a study with a score lets jobs fail.
    """
    from expkit import scores, store
    from expkit.board import ranked
    from expkit.rundir import put_in_place
    from expkit.show import board_tables

    found = sorted(folder.glob(f"*/{JOB_REPORT}"), key=lambda file: (len(file.parent.name), file))  # 2 before 10
    reports = [report for file in found if (report := files.read_if_whole(file))]
    runs = dict.fromkeys(Path(report["run"]) for report in reports if "run" in report)
    has_ended = failure is None and not any("died" in report for report in reports)  # in which run, nobody knows
    for run in runs:
        own = [report for report in reports if report.get("run") == str(run)]
        is_whole = has_ended and all(report.get("whole") for report in own)
        if is_whole and any(report["replaces"] for report in own):
            versions = store.Versions(run.parent, store.read_run(run).name)
            put_in_place(versions, run, partial(scores.update, loaded.experiment, versions))
    rows = ranked(store.read_run(run) for run in runs if run.is_dir())
    if rows:
        console = errors.new_console()
        for part in board_tables(rows, console.width):
            console.print(part)
    failed = ", ".join(report["failed"] for report in reports if "failed" in report)
    if failed and failure is None:
        if not is_study or all(report.get("score") is None for report in reports):
            return Failed(f"failed: {failed}")
        errors.warn(f"failed: {failed}")
    return failure


# The processes of a sweep: GPUs, cores, and their end


def gpus() -> list[str]:
    """The GPUs of this machine that a process here may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
        visible = ",".join(str(number) for number in range(listed.count("(UUID: GPU-")))
    return [gpu.strip() for gpu in (visible or "").split(",") if gpu.strip() not in ("", "-1")]


def processes(*, _root_: Any = None) -> int:
    """How many jobs to run at once on this machine: one per GPU, or one per core without GPUs; each of them may use
    several, by exp.runtime.processes of the configuration `_root_`."""
    from joblib import cpu_count

    each = OmegaConf.select(_root_ or OmegaConf.create(), "exp.runtime.processes", default=1)
    return max((len(gpus()) or int(cpu_count())) // each, 1)


@cache  # this process takes one job after another, and keeps its lock
def _use_gpus(sweep_dir: Path, count: int) -> Any:
    """Leave this process `count` GPUs to see; others than those of the sweep's other processes, while there are enough.

    Returns:
        the locks of the GPUs.
    """
    from filelock import FileLock, Timeout

    available, held = gpus(), dict[str, FileLock]()
    for number, gpu in enumerate(available):
        lock = FileLock(sweep_dir / f".gpu{number}")
        with suppress(Timeout):
            if len(held) < count and lock.acquire(blocking=False):
                held[gpu] = lock
    if available:
        others = random.sample(available, len(available))
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join([*dict.fromkeys([*held, *others])][:count])
    return held


@cache  # one thread, however many jobs this process takes
def _end_with(parent: int) -> None:
    """Let this process of a launcher end when the command is killed: it would train on, with its locks and its GPU."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
