"""One job: what Hydra calls with a composed configuration, in the process of the command or in another one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from expkit import files
from expkit.config.compat import FULL_ERROR, own_checks, set_full_error
from expkit.config.compose import print_config, typed
from expkit.config.load import load_experiment
from expkit.config.parameter_sets import DEFAULT, refuse_shared_name
from expkit.config.values import Mode
from expkit.errors import Error, Failed, interruption, one_line, report, require
from expkit.paths import code_root, project_root, shown
from expkit.train import world

if TYPE_CHECKING:
    from expkit.snapshot import Snapshot
    from expkit.study.report import Outcome, Reference

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
            from expkit.snapshot import expose, hide

            hide(self.code)
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
            if world.leads():
                print_config(config)
            return None
        from expkit.rundir import Command
        from expkit.train.run import Run  # not needed to show a configuration

        hydra = HydraConfig.get()
        is_sweep = hydra.mode is RunMode.MULTIRUN
        copied = is_sweep and elsewhere
        trial = None
        if self.study is not None:
            require(config.exp.mode is Mode.cv, "a study looks for the best CV score: leave exp.mode=sub out")
            trial = self.study.trial(hydra.job.num)
        command = Command(self.command, self.id, copied, self.git if copied else None, not is_sweep, trial)
        refuse_shared_name(loaded.folder, str(hydra.runtime.choices.get("exp", DEFAULT)), config.exp.name)
        run = Run(loaded, config, _overrides(), command)
        try:
            score = run.train()
            return score if trial is None else trial.outcome(score, run.code)
        finally:
            if run.place.folder is not None:
                whole = run.pruned is None
                self._note(run=str(run.place.folder), replaces=run.place.replaces, whole=whole)

    def _settle(self) -> None:
        """Make this process one like that of the command; it has been told to import the copy of the code."""
        os.environ["PROJECT_ROOT"] = self.root
        if self.code is not None and code_root() != self.code:
            raise Error(
                "this process does not find the copy of the code that belongs to its sweep: is EXPKIT_ROOT set?"
            )
        from expkit.launch import devices
        from expkit.launch.preemption import checkpoint_first

        devices.share_cores()
        checkpoint_first()
        hydra = HydraConfig.get()
        if "joblib" in str(hydra.launcher.get("_target_")):
            devices.end_with(self.launched_by)
            devices.use_one_gpu(Path(hydra.sweep.dir), hydra.job.num)
            for stream in (sys.stdout, sys.stderr):  # of several jobs: whole lines, and no bars
                stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
                stream.isatty = lambda: False  # type: ignore[method-assign]

    def _note(self, **values: Any) -> None:
        """Keep what a job of a sweep says about itself in its folder, for the command that launched it."""
        hydra = HydraConfig.get()
        if hydra.mode is RunMode.MULTIRUN and world.leads():
            file = Path(hydra.runtime.output_dir) / NOTE
            files.write_json(file, files.read_if_whole(file) | values)

    def _reported(self, error: Exception) -> JobFailed:
        """Say on stderr why a job of a sweep has failed; what to raise for the sweeper."""
        overrides = " ".join(_overrides())
        message = one_line(error)
        if message is not None and self.code is not None:  # as the project has it, not as the copy that runs
            message = message.replace(shown(self.code), self.project).replace(str(self.code), self.project)
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
        return f" (its log: {shown(submitit.JobEnvironment().paths.stdout)})"
    except RuntimeError:  # not in one of its jobs
        return ""
