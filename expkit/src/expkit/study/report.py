"""A trial in the process that trains it: what it tells its study, and hears from the pruner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from expkit.study.storage import opened


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
    """A trial that reports the score of a run while it trains; see `expkit.train.pruning.Trial`."""

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
