"""What a study hears of a run while it trains, so that its pruner can end a bad one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Protocol

STEPS = 10  # of a fold: a pruner compares the trials of a study at the same step


class Trial(Protocol):
    """The trial of a study that a run is."""

    def report(self, step: int, score: float) -> bool:
        """Say how good the run is after so many steps. Returns: whether it is to end."""


class Pruned(Exception):
    """The pruner of the study ends this run; `train` lets it pass."""


class Reports:
    """The scores of one run on their way to its study.

    Args:
        trial: None: nobody searches, and nothing is reported.
        folds: how many are asked for.
    """

    def __init__(self, trial: Trial | None, folds: int) -> None:
        self._trial, self._folds = trial, folds
        self._scores: list[float] = []

    def after_folds(self, scores: Sequence[float]) -> bool:
        """Report the folds that are done, each as the mean so far; whether those that are missing are to be left out.

        Args:
            scores: of the folds that are done, in the order in which they are asked for.
        """
        is_bad = False
        if self._trial is not None:
            for count in range(len(self._scores) + 1, len(scores) + 1):
                is_bad = self._trial.report(count * STEPS, statistics.fmean(scores[:count]))
        self._scores = list(scores)
        return is_bad and len(scores) < self._folds

    def during_fold(self, score: float, progress: float) -> None:
        """Report a part of a fold.

        Raises:
            Pruned: the run is to end.
        """
        part = min(int(progress * STEPS + 1e-9), STEPS - 1)  # the last one is the fold's own
        step = len(self._scores) * STEPS + part
        if self._trial is not None and part > 0 and self._trial.report(step, statistics.fmean([*self._scores, score])):
            raise Pruned(f"after {part / STEPS:.0%} of its training")
