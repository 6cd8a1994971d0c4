"""Optuna studies: `-m hydra/sweeper=optuna` searches a space of parameters for the best score; a trial is a run.

Search           one command: asks for trials, lets Hydra's launcher run them, tells Optuna what came out
Trials           the trials that commands share, and which outlive a command that is killed
RunningTrial     a trial in the process that trains it
Space            what is searched
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pydoc import locate
from typing import Any

import optuna
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from expkit.config import Mode, container, load_experiment
from expkit.errors import Error, require, warn
from expkit.files import is_locked
from expkit.launch import JobsFailed, processes_of
from expkit.project import output_dir
from expkit.store.records import same_code

LONGEST_NAME = 400  # characters; Optuna takes 512
NOT_NAMED = ("overwrite=", "resume=", "show_config=", "exp.runtime.")
DEATHS = ("TerminatedWorkerError", "UncompletedJobError")  # of joblib and of submitit: a process ended without a word
COMMAND, STARTS, CODE = "expkit:command", "expkit:starts", "expkit:code"  # attributes of a trial
MOST_STARTS = 3  # of a trial whose process is killed

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


class Search:
    """One command of a study.

    Args:
        settings: hydra.sweeper, as SWEEPER of hydra_plugins/expkit_sweeper.py.
        config: composed, without the parameters that are searched.
        launcher: runs jobs.
        job: what it runs; its attribute `study` becomes the trial of each job, by the number of the job.
    """

    def __init__(self, settings: Mapping[str, Any], config: DictConfig, launcher: Launcher, job: Any) -> None:
        self._settings: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }
        self._config, self._launcher, self._job = config, launcher, job
        self._jobs = 0

    def run(self, arguments: Sequence[str]) -> None:
        """Run the trials that the study lacks, and write what is best into the folder of the sweep.

        Args:
            arguments: the overrides of the command line.

        Raises:
            Error: the study cannot be made, or another direction was asked of it.
            JobsFailed: there is no score.
        """
        params = [f"{key}={value}" for key, value in (self._settings["params"] or {}).items()]
        space, total = Space([*params, *arguments]), self._settings["n_trials"]
        require(len(space.searched) > 0, "a study needs a parameter to search, as in 'exp.train.x=interval(0,1)'")
        require(
            isinstance(total, int) and total > 0,
            f"hydra.sweeper.n_trials must be a whole number, 1 or more, not {total}",
        )
        require(self._config.exp.mode is Mode.cv, "a study looks for the best CV score: leave exp.mode=sub out")
        study = self._study([*params, *arguments])
        with Trials(study) as trials:
            while asked := trials.ask(space.searched, total, self._at_once()):
                self._launch(trials, asked, space)
        self._conclude(study, space)

    def _study(self, overrides: list[str]) -> optuna.Study:
        experiment = load_experiment(self._job.experiment)
        direction = "maximize" if experiment.experiment.greater_is_better else "minimize"
        name = self._settings["study_name"] or study_name(experiment.name, overrides, container(self._config.exp))
        sampler, pruner = (made(what, self._settings[what]) for what in ("sampler", "pruner"))
        study = optuna.create_study(
            storage=opened(self._settings["storage"]),
            sampler=sampler,
            pruner=pruner,
            study_name=name,
            direction=direction,
            load_if_exists=True,
        )
        known = study.direction.name.lower()
        require(
            known == direction,
            f"the study {name!r} is to {known} the score, but this command is to {direction} it: "
            "give it another name, hydra.sweeper.study_name=...",
        )
        return study

    def _at_once(self) -> int:
        return max(1, int(self._settings["n_jobs"] or processes_of(self._config.hydra.launcher) or 1))

    def _launch(self, trials: Trials, asked: list[Trial], space: Space) -> None:
        """Run trials at once, until all have ended."""
        first, self._jobs = self._jobs, self._jobs + len(asked)
        study, storage = trials.study, self._settings["storage"]
        running = [RunningTrial(storage, study.study_name, study.pruner, trial.number) for trial in asked]
        self._job.study = dict(enumerate(running, first))
        try:
            returns = self._launcher.launch([space.overrides(trial.params) for trial in asked], initial_job_idx=first)
        except Exception as error:
            if type(error).__name__ not in DEATHS:
                raise
            waiting = sum(trials.lose(trial) for trial in asked)
            failed = f"{len(asked) - waiting} of its trials have failed, {waiting} run again"
            warn(f"a process of the study has died, killed or out of memory: {failed}")
            return
        for trial, job in zip(asked, returns, strict=True):
            trials.tell(trial, job.return_value if job.status is JobStatus.COMPLETED else None)

    def _conclude(self, study: optuna.Study, space: Space) -> None:
        """Say what the study has found so far."""
        every = study.get_trials(deepcopy=False)
        states = [trial.state.name for trial in every]
        words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
        if "COMPLETE" not in states:
            raise JobsFailed(f"no trial of the study has a score: {counts}")
        best, mixed = study.best_trial, ""
        found = {"name": "optuna", "best_params": best.params, "best_value": best.value}
        codes = {trial.number: code for trial in every if (code := trial.user_attrs.get(CODE))}
        if own := codes.get(best.number):
            found["other_code"] = others = [number for number, code in codes.items() if not same_code(code, own)]
            if others:
                mixed = f"; mixed code: {len(others)} of the trials were trained with other code than the best"
        values = " ".join(space.overrides(best.params)[: len(best.params)])
        print(f"study: {counts}; the best has {best.value:.4f} with {values}{mixed}", flush=True)
        OmegaConf.save(OmegaConf.create(found), f"{self._config.hydra.sweep.dir}/optimization_results.yaml")


def study_name(experiment: str, overrides: list[str], values: Mapping[str, Any]) -> str:
    """The experiment, the overrides, and a hash of the configuration: after an edit of config.yaml, another study."""
    named = [text for text in overrides if not text.startswith(NOT_NAMED)]
    known = {key: value for key, value in values.items() if key != "runtime" and (key, value) != ("debug", False)}
    digest = hashlib.sha256(json.dumps([named, known], sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{' '.join([experiment, *named])[:LONGEST_NAME]} #{digest}"


def folder() -> Path:
    """The folder of all studies and sweeps."""
    return output_dir() / "multirun"


def opened(storage: str) -> BaseStorage:
    """Optuna's storage in a journal, which network file systems take, or at the URL of a database.

    A relative path begins in the folder of all studies.

    Raises:
        Error: it cannot be opened.
    """
    try:
        if "://" in storage:
            return get_storage(storage)
        folder().mkdir(parents=True, exist_ok=True)
        file = str(folder() / storage)
        lock: Any = FileLock(f"{file}.lock")  # unlike Optuna's own, it goes with a process that is killed
        return JournalStorage(JournalFileBackend(file, lock))
    except Exception as error:  # of SQLAlchemy's and of databases' many
        raise Error(f"hydra.sweeper.storage={storage}: {_line(error)}") from error


def made(what: str, settings: Any) -> Any:
    """The sampler or the pruner that `hydra.sweeper` describes, with `_target_` and the arguments.

    Raises:
        Error: it cannot be made.
    """
    require(isinstance(settings, dict), f"choose a {what} with hydra/sweeper/{what}={settings}, with slashes")
    target = str(settings.get("_target_"))
    try:
        kind: Any = locate(target)
        return kind(**{key: value for key, value in settings.items() if key != "_target_"})
    except Exception as error:  # an argument that it does not take, or no such class
        raise Error(f"hydra.sweeper.{what}: {target}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass
class RunningTrial:
    """A trial for the job that trains it, perhaps in another process; see `expkit.fold.Trial`.

    Attributes:
        reported: the steps of which the study knows the score.
    """

    storage: str
    study: str
    pruner: optuna.pruners.BasePruner
    number: int
    reported: set[int] = field(default_factory=set)

    @cached_property
    def _opened(self) -> optuna.Study:
        return optuna.load_study(study_name=self.study, storage=opened(self.storage))

    def report(self, step: int, score: float) -> bool:
        """Keep a score, and ask the pruner; whether the run is to end. Without a pruner, the storage stays closed."""
        if isinstance(self.pruner, optuna.pruners.NopPruner) or step in self.reported:
            return False
        self.reported.add(step)
        study, storage = self._opened, self._opened._storage
        trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, self.number)
        storage.set_trial_intermediate_value(trial, step, score)
        return bool(self.pruner.prune(study, storage.get_trial(trial)))


class Trials:
    """The trials of a study, for one command. They are asked for under a lock; one whose command is gone waits again.

    A command that runs trials locks a file of its own; when it is killed, the next one sees that.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study, self._storage, self._id = study, study._storage, secrets.token_hex(8)
        self._commands = folder() / ".optuna"
        self._commands.mkdir(parents=True, exist_ok=True)
        self._alive, self._asking = FileLock(self._commands / self._id), FileLock(self._commands / ".lock")

    def __enter__(self) -> Trials:
        self._alive.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """What this command leaves unfinished, after Ctrl-C, waits for the next one."""
        for trial in self._running():
            if trial.user_attrs.get(COMMAND) == self._id:
                self._wait(trial, trial.user_attrs[STARTS] - 1)
        os.unlink(self._alive.lock_file)
        self._alive.release()

    def ask(self, space: Mapping[str, BaseDistribution], total: int, most: int) -> list[Trial]:
        """The next trials to run: first those that wait, then new ones.

        Args:
            total: of the study, at most; other commands' running ones count.
            most: how many at once.
        """
        with self._asking:
            for left in filter(self._is_abandoned, self._running()):
                self.lose(left)
            states = [known.state for known in self.study.get_trials(deepcopy=False)]
            missing = total - len(states) + states.count(TrialState.WAITING)
            try:
                asked = [self.study.ask(dict(space)) for _ in range(min(most, missing))]
            except ModuleNotFoundError as error:  # of CmaEsSampler, cmaes; of GPSampler, torch
                raise Error(f"this sampler needs a package that is not installed: uv add {error.name}") from error
            for trial in asked:
                trial.set_user_attr(STARTS, trial.user_attrs.get(STARTS, 0) + 1)
                trial.set_user_attr(COMMAND, self._id)
            return asked

    def _running(self) -> list[FrozenTrial]:
        return list(self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]))

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody runs a trial: its command was killed, here, or before it could sign."""
        file = self._commands / str(trial.user_attrs.get(COMMAND))
        return COMMAND not in trial.user_attrs or (file.is_file() and not is_locked(file))

    def lose(self, trial: Trial | FrozenTrial) -> bool:
        """The process of a trial was killed, or that of one beside it: it waits again, or has failed; whether it waits.

        A trial that needs too much memory would kill its process for ever.
        """
        starts = trial.user_attrs.get(STARTS, 0)
        if starts >= MOST_STARTS:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return False
        self._wait(trial, starts)
        return True

    def _wait(self, trial: Trial | FrozenTrial, starts: int) -> None:
        self._storage.set_trial_user_attr(trial._trial_id, STARTS, starts)
        self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def tell(self, trial: Trial, outcome: tuple[float | None, list[str] | None] | None) -> None:
        """A trial has come to its end.

        Args:
            outcome: the score, None when it is pruned, and what trained it, None when no fold is done; None: it failed.
        """
        if outcome is None:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        score, code = outcome
        trial.set_user_attr(CODE, code)
        self.study.tell(trial, score, TrialState.PRUNED if score is None else TrialState.COMPLETE)


class Space:
    """The parameters of a study: the overrides of its command line, of which some take more than one value.

    Args:
        overrides: of Hydra's; `choice(...)`, `range(...)`, `interval(...)`, and `a,b,c`, are searched.

    Raises:
        Error: a range without a value, or a sweep that Optuna has no distribution for.

    Attributes:
        searched: name to distribution.
        fixed: the other overrides, as they were typed.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.searched: dict[str, BaseDistribution] = {}
        self.fixed: list[str] = []
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.is_sweep_override():
                self.searched[override.get_key_element()] = distribution(override)
            elif override.input_line is not None:
                self.fixed.append(override.input_line)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial, first its parameters. Args: values: of the parameters, by name."""
        return [*(f"{name}={_written(value)}" for name, value in values.items()), *self.fixed]


def _written(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value  # 0.1 + 2 * 0.1


def distribution(override: Override) -> BaseDistribution:
    """What an override of several values means to Optuna. Raises: Error."""
    value, text = override.value(), override.input_line
    is_changed = getattr(value, "shuffle", False) or getattr(value, "transformers", False)  # 1.4: float(range(1,8))
    if isinstance(value, ChoiceSweep) or isinstance(value, RangeSweep) and is_changed:
        values, texts = override.sweep_iterator(transformer=Transformer.identity), override.sweep_string_iterator()
        plain = (bool, int, float)  # the others as an override has them, quoted where they must be
        return CategoricalDistribution(
            [one if isinstance(one, plain) else text for one, text in zip(values, texts, strict=True)]
        )
    if isinstance(value, RangeSweep):
        require(value.step != 0 and value.stop is not None, f"{text}: a range needs an end, and a step that is not 0")
        known = list(value.range())
        require(len(known) > 0, f"{text}: there is no value in this range")
        low, high, step = min(known), max(known), abs(value.step)
        if all(isinstance(one, int) for one in known):
            return IntDistribution(int(low), int(high), step=int(step))
        return FloatDistribution(float(low), float(high), step=float(step))
    if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
        is_whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind: Any = IntDistribution if is_whole else FloatDistribution
        try:
            return kind(value.start, value.end, log="log" in value.tags)
        except ValueError as error:
            raise Error(f"{text}: {error}") from error
    raise Error(f"{text}: a study takes choice(...), range(...) and interval(...)")
