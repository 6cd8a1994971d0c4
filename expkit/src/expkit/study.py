"""Optuna studies: `-m hydra/sweeper=optuna` searches a space of parameters for the best score; a trial is a run."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import secrets
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from expkit.compose import register_resolver
from expkit.config import container
from expkit.errors import Error, Failed, require, warn
from expkit.files import is_locked
from expkit.fingerprint import same_code
from expkit.fold import STEPS
from expkit.project import display_path, output_dir

if TYPE_CHECKING:
    import optuna
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial, TrialState

LONGEST_NAME = 400  # characters; Optuna takes 512
NOT_NAMED = ("overwrite=", "resume=", "show_config=", "exp.runtime.")


class NoScore(Failed):
    """No trial of a study has come to a score, or too many have failed."""


def register_study(experiment: str, greater_is_better: bool) -> None:
    """Let hydra/sweeper=optuna look for the best score, and keep its trials under output/.

    A study is named by the experiment, the overrides, and a hash of the configuration: the same command goes on with
    it, and after an edit of config.yaml it is another one.

    Args:
        experiment: the name of the experiment's folder.
        greater_is_better: of its score.
    """

    def study(*, _root_: DictConfig) -> str:
        params = _root_.hydra.sweeper.get("params")
        searched = [f"{key}={value}" for key, value in (params or {}).items()]
        return study_name(experiment, [*_root_.hydra.overrides.task, *searched], container(_root_.exp))

    register_resolver("expkit.study", study)
    register_resolver("expkit.direction", lambda: "maximize" if greater_is_better else "minimize")
    register_resolver("expkit.storage", default_storage)


def study_name(experiment: str, overrides: list[str], values: Mapping[str, Any]) -> str:
    """The name of a study."""
    named = [text for text in overrides if not text.startswith(NOT_NAMED)]
    known = {key: value for key, value in values.items() if key != "runtime" and (key, value) != ("debug", False)}
    digest = hashlib.sha256(json.dumps([named, known], sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{' '.join([experiment, *named])[:LONGEST_NAME]} #{digest}"


SWEEPER: dict[str, Any] = {
    "defaults": [{"sampler": "tpe"}, {"pruner": "none"}],
    "n_trials": 20,  # in all, however often the command is typed
    "n_jobs": None,  # trials at once; null: as many as hydra/launcher=local has processes, else one after the other
    "direction": "${expkit.direction:}",
    "storage": "${expkit.storage:}",
    "study_name": "${expkit.study:}",
    "max_failure_rate": 1.0,  # of the trials at once; a failed one is recorded, and the study goes on
    "params": None,  # as overrides: {exp.train.learning_rate: "tag(log,interval(1e-4,1e-1))"}
}

# Only what is not null is handed on; anything else that the class takes: '+hydra.sweeper.sampler.<name>=...'.
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {
        "_target_": "optuna.samplers.TPESampler",
        "seed": None,
        "n_startup_trials": 10,
        "n_ei_candidates": 24,
        "multivariate": False,
        "group": False,
        "constant_liar": True,  # trials that are running count as bad ones: the next is not sampled beside them
    },
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": None},
    "grid": {"_target_": "optuna.samplers.GridSampler", "seed": None},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "seed": None, "sigma0": None, "n_startup_trials": 1},
    "gp": {
        "_target_": "optuna.samplers.GPSampler",
        "seed": None,
        "n_startup_trials": 10,
        "deterministic_objective": False,
    },
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "seed": None, "qmc_type": "sobol", "scramble": True},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "seed": None, "population_size": 50},
}

# A fold is ten steps: see expkit/train/pruning.py.
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {},
    "median": {
        "_target_": "optuna.pruners.MedianPruner",
        "n_startup_trials": 5,  # that are complete before any is pruned
        "n_warmup_steps": 0,
        "n_min_trials": 1,
    },
    "hyperband": {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": 10,
        "max_resource": None,  # null: all folds
        "reduction_factor": 3,
    },
}


def sampler(settings: Any, space: Mapping[str, list[Any]] | None) -> Any:
    """The sampler of Optuna's that `hydra.sweeper.sampler` describes.

    Args:
        space: the values of each parameter, for a grid; None: of some there is no end.

    Raises:
        Error: it cannot be made.
    """
    settings = _by_name(settings or "tpe", SAMPLERS, "sampler")
    if settings.get("_target_") == SAMPLERS["grid"]["_target_"]:
        require(space is not None, "hydra/sweeper/sampler=grid takes choice(...) and range(...), but not interval(...)")
        settings = settings | {"search_space": space}
    return _made(settings, "sampler")


def pruner(settings: Any, steps: int) -> Any:
    """The pruner of Optuna's that `hydra.sweeper.pruner` describes; None: there is none.

    Args:
        steps: of a whole run.

    Raises:
        Error: it cannot be made.
    """
    settings = _by_name(settings or "none", PRUNERS, "pruner")
    if "max_resource" in settings and settings["max_resource"] is None:
        settings = settings | {"max_resource": steps}
    return _made(settings, "pruner") if settings else None


def _by_name(settings: Any, known: Mapping[str, dict[str, Any]], what: str) -> dict[str, Any]:
    """The settings, whose name may stand in their place: hydra.sweeper.pruner=median."""
    if not isinstance(settings, str):
        return dict(settings)
    require(settings in known, f"hydra.sweeper.{what}={settings}: there are {', '.join(known)}")
    return known[settings]


def _made(settings: Mapping[str, Any], what: str) -> Any:
    """An object of the class that `_target_` names, with what is not null."""
    target = str(settings.get("_target_"))
    options = {key: value for key, value in settings.items() if key != "_target_" and value is not None}
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**options)
    except ImportError as error:  # cmaes, or torch and scipy for a Gaussian process
        raise Error(f"hydra/sweeper/{what}: {target} needs a package that is not installed: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise Error(f"hydra.sweeper.{what}: {target}: {error}") from error


PATIENCE = 60  # seconds to wait for another process that writes


def folder() -> Path:
    """The folder of all studies."""
    return output_dir() / "multirun"


def default_storage() -> str:
    """An SQLite database under output/."""
    return str(folder() / "optuna.db")


def opened(storage: str) -> Any:
    """The storage of Optuna's in an SQLite file, in a journal (.log, which network file systems take), or at a URL.

    A relative path begins in the folder of all studies.

    Raises:
        Error: it cannot be opened, or an older Optuna has made it.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage, get_storage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    is_url, file = "://" in storage, folder() / storage
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(folder() / ".optuna.lock"):  # two first studies at once would both make the tables
            if is_url:
                return get_storage(storage)
            if storage.endswith(".log"):
                return JournalStorage(JournalFileBackend(str(file)))
            # not by its URL: in that, a path may not hold ?, %, { or }
            connect = partial(sqlite3.connect, file, timeout=PATIENCE, check_same_thread=False)
            return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})
    except RuntimeError as error:
        if "optuna storage upgrade" not in str(error):
            raise Error(f"hydra.sweeper.storage={storage}: {_line(error)}") from error
        url = storage if is_url else f"sqlite:///{display_path(file)}"
        raise Error(
            f"{storage if is_url else display_path(file)} was made by an older Optuna; this command upgrades it: "
            f"uv run optuna storage upgrade --storage '{url}'"
        ) from error
    except Exception as error:  # of SQLAlchemy's and of databases' many
        raise Error(f"hydra.sweeper.storage={storage}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass
class Outcome:
    """What a job of a study returns.

    Attributes:
        score: None of a run that has been pruned.
        steps: step to score, as it was reported.
        code: what trained it, as the two hashes of `code_hash`; None: no fold of it is done.
    """

    score: float | None
    steps: dict[int, float]
    code: list[str] | None = None


@dataclass
class Reference:
    """A study, for its jobs in other processes; pickled.

    Attributes:
        trials: the number of the trial that each job is, by the number of the job.
        pruner: of Optuna's; None: no trial ends early, and no job opens the storage.
    """

    storage: str
    name: str
    pruner: Any
    trials: dict[int, int] = field(default_factory=dict)

    def trial(self, job: int) -> RunningTrial:
        """The trial of a job."""
        return RunningTrial(self, self.trials[job])


class RunningTrial:
    """A trial that reports the score of a run while it trains; see `expkit.fold.Trial`."""

    def __init__(self, study: Reference, number: int) -> None:
        self._reference, self._number = study, number
        self._study: Any = None
        self.steps: dict[int, float] = {}

    def outcome(self, score: float | None, code: list[str] | None) -> Outcome:
        """What the run has come to, as of `Outcome`."""
        return Outcome(score, self.steps, code)

    def report(self, step: int, score: float) -> bool:
        """Keep a score, and ask the pruner; whether the run is to end."""
        if step in self.steps:
            return False
        self.steps[step] = score
        if self._reference.pruner is None:
            return False
        if self._study is None:
            import optuna

            name, storage = self._reference.name, opened(self._reference.storage)
            self._study = optuna.load_study(study_name=name, storage=storage, pruner=self._reference.pruner)
            self._id = storage.get_trial_id_from_study_id_trial_number(
                storage.get_study_id_from_name(name), self._number
            )
            self._storage = storage
        self._storage.set_trial_intermediate_value(self._id, step, score)
        return bool(self._reference.pruner.prune(self._study, self._storage.get_trial(self._id)))


class Space:
    """The parameters of a study.

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
        """The overrides of a trial. Args: values: of the parameters, by name."""
        return [*(f"{name}={self._written(name, value)}" for name, value in values.items()), *self.fixed]

    def _written(self, name: str, value: Any) -> Any:
        stepped = getattr(self.searched.get(name), "step", None)
        if isinstance(value, float) and stepped is not None:
            return float(f"{value:.12g}")  # 0.1 + 2 * 0.1
        return value

    def grid(self) -> dict[str, list[Any]] | None:
        """Every value of each parameter; None: of some there is no end."""
        found = {name: points(one) for name, one in self.searched.items()}
        return None if None in found.values() else {name: list(values or ()) for name, values in found.items()}


def distribution(override: Override) -> BaseDistribution:
    """What an override of several values means to Optuna. Raises: Error."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value, text = override.value(), override.input_line
    is_changed = getattr(value, "shuffle", False) or getattr(
        value, "transformers", False
    )  # of 1.4, as float(range(1,8))
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
        is_log, kind = "log" in value.tags, IntDistribution
        if not (isinstance(value.start, int) and isinstance(value.end, int)):
            kind = FloatDistribution
        try:
            return kind(value.start, value.end, log=is_log)
        except ValueError as error:
            raise Error(f"{text}: {error}") from error
    raise Error(f"{text}: a study takes choice(...), range(...) and interval(...)")


def points(one: BaseDistribution) -> list[Any] | None:
    """Every value of a distribution; None: there is no end of them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, CategoricalDistribution):
        return list(one.choices)
    if isinstance(one, IntDistribution):
        return list(range(one.low, one.high + 1, one.step))
    if isinstance(one, FloatDistribution) and one.step is not None:
        count = round((one.high - one.low) / one.step) + 1
        return [min(one.low + number * one.step, one.high) for number in range(count)]
    return None


COMMAND, LOST = "expkit:command", "expkit:lost"  # attributes of a trial: who runs it; how often its process has died
CODE = "expkit:code"  # what trained it, as `Outcome.code`
MOST_LOST = 2


class Trials:
    """The trials of a study, for one command. They are asked for under a lock; one whose command is gone waits again.

    A command that runs trials locks a file of its own; when it is killed, the next one sees that.
    """

    def __init__(self, study: Study, storage: Any) -> None:
        from filelock import FileLock

        self.study, self._storage = study, storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._commands = folder() / ".optuna"
        self._commands.mkdir(parents=True, exist_ok=True)
        self._id = secrets.token_hex(8)
        self._alive = FileLock(self._commands / self._id)
        self._asking = FileLock(self._commands / ".lock")
        self._mine: set[int] = set()

    def __enter__(self) -> Trials:
        self._alive.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """What this command leaves unfinished waits for the next one."""
        for number in self._mine.copy():
            self.give_back(number)
        os.unlink(self._alive.lock_file)
        self._alive.release()

    def ask(self, space: Mapping[str, BaseDistribution], total: int, most: int) -> list[Trial]:
        """The next trials to run: first those that wait, then new ones.

        Args:
            total: of the study, at most; other commands' running ones count.
            most: how many at once.
        """
        from optuna.trial import TrialState

        with self._asking:
            started = 0
            for trial in self.study.get_trials(deepcopy=False):
                if trial.state is TrialState.RUNNING and self._is_abandoned(trial):
                    self._wait(trial.number)
                else:
                    started += trial.state is not TrialState.WAITING
            asked = []
            for _ in range(min(most, total - started)):
                trial = self.study.ask(dict(space))
                trial.set_user_attr(COMMAND, self._id)
                asked.append(trial)
                self._mine.add(trial.number)
            return asked

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody runs a trial: its command was killed here, or is of a release that did not sign."""
        command = trial.user_attrs.get(COMMAND)
        if command is None:
            return True
        file = self._commands / str(command)
        return file.is_file() and not is_locked(file)

    def _wait(self, number: int) -> None:
        from optuna.trial import TrialState

        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def give_back(self, number: int) -> None:
        """A trial that has not come to an end: the next one to ask runs it."""
        self._mine.discard(number)
        self._wait(number)

    def lose(self, trial: Trial) -> bool:
        """The process of a trial has died, or of one beside it: it waits again, or has failed; whether it waits."""
        lost = int(trial.user_attrs.get(LOST, 0)) + 1
        trial.set_user_attr(LOST, lost)
        if lost > MOST_LOST:
            self.tell(trial, None)
            return False
        self.give_back(trial.number)
        return True

    def tell(self, trial: Trial, outcome: Outcome | None) -> TrialState:
        """A trial has come to its end; None: it has failed."""
        from optuna.trial import TrialState

        for step, score in (outcome.steps if outcome else {}).items():
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
            self._storage.set_trial_intermediate_value(trial_id, step, score)
        if outcome is None:
            state = TrialState.FAIL
        else:
            state = TrialState.PRUNED if outcome.score is None else TrialState.COMPLETE
        self._mine.discard(trial.number)
        if outcome is not None and outcome.code is not None:
            trial.set_user_attr(CODE, outcome.code)
        try:
            self.study.tell(trial, outcome.score if outcome else None, state)
        except RuntimeError as error:
            if "`Study.stop`" not in str(error):  # GridSampler's, at the last point of the grid
                raise
        return state


def of_other_code(study: Study, code: list[str]) -> list[int]:
    """The trials of a study that other code has trained."""
    known = {trial.number: trial.user_attrs.get(CODE) for trial in study.get_trials(deepcopy=False)}
    return [number for number, one in known.items() if one and not same_code(one, code)]


DEATHS = ("TerminatedWorkerError", "UncompletedJobError")  # of joblib and of submitit: a process ended without a word


class Search:
    """One command of a study.

    Args:
        settings: hydra.sweeper, as `SWEEPER`.
        config: composed, without the parameters that are searched.
        launcher: runs jobs.
        task: what it runs; its attribute `study` becomes the `Reference` that its jobs need.
    """

    def __init__(self, settings: Mapping[str, Any], config: DictConfig, launcher: Launcher, task: Any) -> None:
        self._settings = {key: _plain(value) for key, value in settings.items()}
        self._config, self._launcher, self._task = config, launcher, task
        self._jobs = 0

    def run(self, arguments: Sequence[str]) -> None:
        """Run the trials that the study lacks, and write what is best into the folder of the sweep.

        Args:
            arguments: the overrides of the command line.

        Raises:
            Error: the study cannot be made, or another direction was asked of it.
            NoScore: there is no score.
        """
        import optuna

        settings, total = self._settings, self._settings["n_trials"]
        space = Space([*(f"{key}={value}" for key, value in (settings["params"] or {}).items()), *arguments])
        require(len(space.searched) > 0, "a study needs a parameter to search, as in 'exp.train.x=interval(0,1)'")
        require(
            isinstance(total, int) and total > 0,
            f"hydra.sweeper.n_trials must be a whole number, 1 or more, not {total}",
        )
        storage, early = opened(settings["storage"]), pruner(settings["pruner"], STEPS * self._folds())
        study = self._study(storage, space, early)
        if isinstance(study.sampler, optuna.samplers.GridSampler):
            total = min(total, math.prod(len(values) for values in (space.grid() or {}).values()))
        self._task.study = reference = Reference(settings["storage"], study.study_name, early)
        with Trials(study, storage) as trials:
            while asked := trials.ask(space.searched, total, self._at_once()):
                reference.trials = {self._jobs + index: trial.number for index, trial in enumerate(asked)}
                self._launch(trials, asked, space)
        self._conclude(study)

    def _study(self, storage: Any, space: Space, early: Any) -> optuna.Study:
        import optuna

        settings = self._settings
        found, direction = sampler(settings["sampler"], space.grid()), settings["direction"]
        study = optuna.create_study(
            storage=storage,
            sampler=found,
            pruner=early or optuna.pruners.NopPruner(),
            study_name=settings["study_name"],
            direction=direction,
            load_if_exists=True,
        )
        known = study.direction.name.lower()
        require(
            known == direction,
            f"the study {study.study_name!r} is to {known} the score, but this command is to {direction} it: "
            "give it another name, hydra.sweeper.study_name=...",
        )
        return study

    def _folds(self) -> int:
        """How many folds a trial trains."""
        asked = self._config.exp.get("fold")
        if asked is None:
            return int(self._config.exp.n_folds)
        return len(asked) if OmegaConf.is_list(asked) else 1

    def _at_once(self) -> int:
        """How many trials run at once."""
        asked, launcher = self._settings["n_jobs"], self._config.hydra.launcher
        if asked is None and "joblib" in str(launcher.get("_target_")):
            from joblib import effective_n_jobs

            asked = effective_n_jobs(launcher.n_jobs)
        return max(1, int(asked or 1))

    def _launch(self, trials: Trials, asked: list[Trial], space: Space) -> None:
        """Run trials at once, until all have ended."""
        from optuna.trial import TrialState

        overrides = [space.overrides(trial.params) for trial in asked]
        first, self._jobs = self._jobs, self._jobs + len(asked)
        try:
            returns = self._launcher.launch(overrides, initial_job_idx=first)
        except Exception as error:
            if type(error).__name__ not in DEATHS:
                raise
            lost = [trial for trial in asked if not trials.lose(trial)]
            warn(
                f"a process of the study has died, killed or out of memory: {len(lost)} of its trials have failed, "
                f"{len(asked) - len(lost)} run again"
            )
            return
        states = [trials.tell(trial, _outcome(job)) for trial, job in zip(asked, returns, strict=True)]
        failed, most = states.count(TrialState.FAIL), float(self._settings["max_failure_rate"])
        if failed / len(states) > most:
            raise NoScore(f"{failed} of {len(states)} trials have failed, and hydra.sweeper.max_failure_rate is {most}")

    def _conclude(self, study: optuna.Study) -> None:
        """Say what the study has found so far."""
        from optuna.trial import TrialState

        words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        counts = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
        if TrialState.COMPLETE not in states:
            raise NoScore(f"no trial of the study has a score: {', '.join(counts)}")
        best = study.best_trial
        values = " ".join(f"{name}={value}" for name, value in best.params.items())
        found = {"name": "optuna", "best_params": best.params, "best_value": best.value}
        mixed = ""
        if (code := best.user_attrs.get(CODE)) and (others := of_other_code(study, code)):
            found["other_code"] = others
            mixed = f"; mixed code: {len(others)} of the trials were trained with other code than the best"
        print(f"study: {', '.join(counts)}; the best has {best.value:.4f} with {values}{mixed}", flush=True)
        OmegaConf.save(OmegaConf.create(found), f"{self._config.hydra.sweep.dir}/optimization_results.yaml")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _outcome(job: JobReturn) -> Outcome | None:
    """What a job has come to; None: it has failed."""
    found = job.return_value if job.status is JobStatus.COMPLETED else None
    return found if isinstance(found, Outcome) else None
