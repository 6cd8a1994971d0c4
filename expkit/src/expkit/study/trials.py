"""The trials of a study, which commands share, and which outlive a command that is killed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from expkit.files import is_locked
from expkit.fingerprint import same_code
from expkit.study.report import Outcome
from expkit.study.storage import folder

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
