"""A search: asks Optuna for trials, lets Hydra's launcher run them, tells Optuna what came out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial, TrialState

from expkit.errors import require, warn
from expkit.study import options
from expkit.study.name import NoScore
from expkit.study.report import Outcome, Reference
from expkit.study.space import Space
from expkit.study.storage import opened
from expkit.study.trials import CODE, Trials, of_other_code
from expkit.train.pruning import STEPS

DEATHS = ("TerminatedWorkerError", "UncompletedJobError")  # of joblib and of submitit: a process ended without a word
WORDS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Search:
    """One command of a study.

    Args:
        settings: hydra.sweeper, as `options.SWEEPER`.
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
        settings, total = self._settings, self._settings["n_trials"]
        space = Space([*(f"{key}={value}" for key, value in (settings["params"] or {}).items()), *arguments])
        require(len(space.searched) > 0, "a study needs a parameter to search, as in 'exp.train.x=interval(0,1)'")
        require(
            isinstance(total, int) and total > 0,
            f"hydra.sweeper.n_trials must be a whole number, 1 or more, not {total}",
        )
        storage, pruner = opened(settings["storage"]), options.pruner(settings["pruner"], STEPS * self._folds())
        study = self._study(storage, space, pruner)
        if isinstance(study.sampler, optuna.samplers.GridSampler):
            total = min(total, math.prod(len(values) for values in (space.grid() or {}).values()))
        self._task.study = reference = Reference(settings["storage"], study.study_name, pruner)
        with Trials(study, storage) as trials:
            while asked := trials.ask(space.searched, total, self._at_once()):
                reference.trials = {self._jobs + index: trial.number for index, trial in enumerate(asked)}
                self._launch(trials, asked, space)
        self._conclude(study)

    def _study(self, storage: Any, space: Space, pruner: Any) -> optuna.Study:
        settings = self._settings
        sampler, direction = options.sampler(settings["sampler"], space.grid()), settings["direction"]
        study = optuna.create_study(
            storage=storage,
            sampler=sampler,
            pruner=pruner or optuna.pruners.NopPruner(),
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
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        counts = [f"{states.count(state)} {word}" for state, word in WORDS.items() if state in states]
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
