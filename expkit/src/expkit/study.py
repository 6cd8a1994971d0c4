"""Optuna studies: `-m hydra/sweeper=optuna` searches a space of parameters for the best score; a trial is a run.

search           one command: asks for trials, lets Hydra's launcher run them, tells Optuna what came out
Trials           the trials that commands share, and which outlive a command that is killed
RunningTrial     a trial in the process that trains it
Space            what is searched
"""

from __future__ import annotations

import hashlib
import json
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState, create_trial

from expkit.config import Loaded, Mode, container, load_experiment
from expkit.errors import Error, described, require
from expkit.files import is_locked
from expkit.project import output_dir
from expkit.store.records import same_code

LONGEST_NAME = 400  # characters; Optuna takes 512
NOT_NAMED = ("overwrite=", "resume=", "show_config=", "exp.time_limit=", "exp.runtime.")
COMMAND, DEATHS, CODE = "expkit:command", "expkit:deaths", "expkit:code"  # attributes of a trial
METRIC = "expkit:metric"  # another one
MOST_DEATHS = 3  # of the process of a trial; one that needs too much memory would die for ever

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def search(
    settings: Mapping[str, Any], config: DictConfig, launcher: Launcher, job: Any, arguments: Sequence[str]
) -> None:
    """Run the trials that a study lacks, and print what is best.

    Args:
        settings: hydra.sweeper, as SWEEPER of hydra_plugins/expkit_sweeper.py.
        config: composed, without the parameters that are searched.
        launcher: runs jobs.
        job: what it runs; its attribute `study` becomes the trial of each job, by the number of the job.
        arguments: the overrides of the command line.

    Raises:
        Error: the study cannot be made, or another direction was asked of it.
    """
    overrides = [*(f"{key}={value}" for key, value in (settings["params"] or {}).items()), *arguments]
    space, total, at_once = Space(overrides), settings["n_trials"], settings["n_jobs"]
    require(len(space.searched) > 0, "a study needs a parameter to search, as in 'exp.train.x=interval(0,1)'")
    for name, count in {"n_trials": total, "n_jobs": at_once}.items():
        require(isinstance(count, int) and count > 0, f"hydra.sweeper.{name} must be at least 1, not {count}")
    require(not config.show_config, "a study has many configurations: leave show_config=true out, or -m")
    require(config.exp.mode is Mode.cv, "a study looks for the best CV score: leave exp.mode=sub out")
    study, jobs = _study(settings, config, load_experiment(job.experiment), overrides), 0
    trials = Trials(study, settings["storage"])
    with trials.alive:
        while asked := trials.ask(space.searched, total, at_once):
            ids = [trial._trial_id for trial in asked]
            running = [RunningTrial(settings["storage"], study.study_name, study.pruner, id) for id in ids]
            job.study = dict(enumerate(running, jobs))
            returns = launcher.launch([space.overrides(trial.params) for trial in asked], initial_job_idx=jobs)
            jobs += len(asked)
            for trial, report in zip(asked, [one.return_value for one in returns], strict=True):
                trials.tell(trial, report)
    _conclude(study, space)


def _study(settings: Mapping[str, Any], config: DictConfig, loaded: Loaded, overrides: list[str]) -> optuna.Study:
    direction = "maximize" if loaded.experiment.greater_is_better else "minimize"
    name = settings["study_name"] or study_name(loaded.name, overrides, container(config.exp))
    made: dict[str, Any] = {}
    for what in ("sampler", "pruner"):
        chosen = settings[what]
        require(isinstance(chosen, dict), f"choose a {what} with hydra/sweeper/{what}={chosen}, with slashes")
        made[what] = instantiate(chosen)
    storage = opened(settings["storage"])
    study = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True, **made)
    other = f"the study {name!r} does not {direction} the score: give it another name, hydra.sweeper.study_name=..."
    require(study.direction.name.lower() == direction, other)
    return study


def _conclude(study: optuna.Study, space: Space) -> None:
    """Say what the study has found so far."""
    every = study.get_trials(deepcopy=False)
    states = [trial.state.name for trial in every]
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
    if "COMPLETE" not in states:
        return print(f"study: {counts}; no trial has a score", flush=True)
    best = study.best_trial
    values = " ".join(space.overrides(best.params)[: len(best.params)])
    codes = [code for trial in every if (code := trial.user_attrs.get(CODE))]
    others = sum(not same_code(code, best.user_attrs[CODE]) for code in codes)
    mixed = f"; mixed code: {others} of the trials were trained with other code than the best" if others else ""
    metrics = [trial.user_attrs.get(METRIC) for trial in every if trial.state is TrialState.COMPLETE]
    if others := sum(metric != best.user_attrs.get(METRIC) for metric in metrics):
        mixed += f"; mixed metrics: {others} of the trials were scored by another metric than the best"
    print(f"study: {counts}; the best has {best.value:.4f} with {values}{mixed}", flush=True)


def study_name(experiment: str, overrides: list[str], values: Mapping[str, Any]) -> str:
    """The experiment, the overrides, and a hash of the configuration: after an edit of config.yaml, another study."""
    named = [text for text in overrides if not text.startswith(NOT_NAMED)]
    known = {key: value for key, value in values.items() if key not in ("time_limit", "runtime")}
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
            with FileLock(folder() / ".database"):  # two commands cannot make its tables at once
                return get_storage(storage)
        folder().mkdir(parents=True, exist_ok=True)
        file = str(folder() / storage)
        lock: Any = FileLock(f"{file}.lock")  # unlike Optuna's own, it goes with a process that is killed
        return JournalStorage(JournalFileBackend(file, lock))
    except Exception as error:  # of SQLAlchemy's and of databases' many
        raise Error(f"hydra.sweeper.storage={storage}: {described(error)}") from error


@dataclass
class RunningTrial:
    """A trial for the job that trains it, perhaps in another process; see `expkit.fold.Shared`.

    Attributes:
        id: of the trial in the storage.
        reported: the steps of which the study knows the score.
    """

    storage: str
    study: str
    pruner: optuna.pruners.BasePruner
    id: int
    reported: set[int] = field(default_factory=set)

    @cached_property
    def _opened(self) -> optuna.Study:
        return optuna.load_study(study_name=self.study, storage=opened(self.storage))

    def report(self, step: int, score: float) -> bool:
        """Keep a score, and ask the pruner; whether the run is to end. Without a pruner, the storage stays closed."""
        if isinstance(self.pruner, optuna.pruners.NopPruner) or step in self.reported:
            return False
        self.reported.add(step)
        storage = self._opened._storage
        storage.set_trial_intermediate_value(self.id, step, score)
        return bool(self.pruner.prune(self._opened, storage.get_trial(self.id)))


class Trials:
    """The trials of a study, for one command. They are asked for under a lock; one whose command is gone waits again.

    A command that runs trials locks a file of its own; when it is killed, or interrupted, the next one sees that. On
    another machine, with which this one shares a database alone, it does not, and leaves these trials as they are.

    Attributes:
        alive: this lock, which the command holds while it runs trials.
    """

    def __init__(self, study: optuna.Study, storage: str) -> None:
        self.study, self._id, file = study, secrets.token_hex(8), storage.removeprefix("sqlite:///")
        self._commands = folder() / (".optuna" if "://" in file else f"{file}.commands")  # beside a file
        self.alive = FileLock(self._commands / self._id)

    def ask(self, space: Mapping[str, BaseDistribution], total: int, most: int) -> list[Trial]:
        """The next trials to run: first those that wait, then new ones.

        Args:
            total: of the study, at most; other commands' running ones count.
            most: how many at once.
        """
        study, storage = self.study, self.study._storage
        with FileLock(self._commands / ".lock"):
            for running in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                file = self._commands / str(running.user_attrs.get(COMMAND, "-"))
                if file.is_file() and not is_locked(file):
                    storage.set_trial_user_attr(running._trial_id, COMMAND, self._id)  # else two machines could do this
                    storage.set_trial_state_values(running._trial_id, TrialState.WAITING)
            states = [known.state for known in study.get_trials(deepcopy=False) if known.number < total]
            for _ in range(min(most, total - len(states))):  # signed before anybody can run it
                study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={COMMAND: self._id}))
            waiting = total - len(states) + states.count(TrialState.WAITING)
            asked = [study.ask(dict(space)) for _ in range(min(most, waiting))]
            for trial in asked:
                trial.set_user_attr(COMMAND, self._id)
        return [trial for trial in asked if trial.number < total]  # more: another machine has asked at once

    def tell(self, trial: Trial, report: Mapping[str, Any]) -> None:
        """Keep what the job of a trial has reported. One whose process has died waits again, but not for ever."""
        deaths = trial.user_attrs.get(DEATHS, 0) + 1
        if "failed" not in report:
            for name, key in ((CODE, "code"), (METRIC, "metric")):
                trial.set_user_attr(name, report[key])
            state = TrialState.PRUNED if report["score"] is None else TrialState.COMPLETE
            self.study.tell(trial, report["score"], state)
        elif report.get("died") and deaths < MOST_DEATHS:
            trial.set_user_attr(DEATHS, deaths)
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        else:
            self.study.tell(trial, state=TrialState.FAIL)


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
                try:
                    self.searched[override.get_key_element()] = distribution(override)
                except ValueError as error:
                    raise Error(f"{override.input_line}: {error}") from error
            elif override.input_line is not None:
                self.fixed.append(override.input_line)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial, first its parameters. Args: values: of the parameters, by name."""
        return [*(f"{name}={_written(value)}" for name, value in values.items()), *self.fixed]


def _written(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value  # 0.1 + 2 * 0.1


def distribution(override: Override) -> BaseDistribution:
    """What an override of several values means to Optuna.

    Raises:
        ValueError: there is no value in it, or it is something else.
    """
    value = override.value()
    if isinstance(value, ChoiceSweep):
        values, texts = override.sweep_iterator(transformer=Transformer.identity), override.sweep_string_iterator()
        plain = (bool, int, float)  # the others as an override has them, quoted where they must be
        return CategoricalDistribution(
            [one if isinstance(one, plain) else text for one, text in zip(values, texts, strict=True)]
        )
    if isinstance(value, RangeSweep):
        known = list(value.range())
        if not known:
            raise ValueError("there is no value in this range")
        low, high, step = min(known), max(known), abs(value.step)
    elif isinstance(value, IntervalSweep):
        low, high, step = value.start, value.end, None
    else:
        raise ValueError("a study takes choice(...), range(...) and interval(...)")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, step=step or 1, log="log" in value.tags)
    return FloatDistribution(low, high, step=step, log="log" in value.tags)
