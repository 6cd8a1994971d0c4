"""Better, or noise? The difference of two scores over folds, with an interval; what intervals say together."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expkit.errors import require

CONFIDENCE = 0.95
ONE_FOLD = "one fold does not say how much scores vary: train two or more"
BETTER, WORSE, NOISE = "better", "worse", "could be noise"


@dataclass(frozen=True)
class Interval:
    """By how much one score is better than another, below zero when it is worse, and its 95 % interval."""

    better_by: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """BETTER, WORSE, or NOISE when zero is in the interval."""
        return BETTER if self.low > 0 else WORSE if self.high < 0 else NOISE


def together(intervals: Iterable[Interval]) -> str:
    """What several intervals of one difference say: NOISE unless all say the same."""
    verdicts = {interval.verdict for interval in intervals}
    return verdicts.pop() if len(verdicts) == 1 else NOISE


def corrected_t(differences: Sequence[float], ratio: float) -> Interval:
    """The corrected resampled t-test: the interval of a mean difference of scores over folds.

    The models of the folds share most of their training rows, so that their scores vary together, and a plain t-test
    takes too much for real. The variance of the mean is (1/J + n_test/n_train) times that of the J differences, with
    J - 1 degrees of freedom. Nadeau and Bengio: Inference for the generalization error. Machine Learning 52, 2003; for
    repeated folds, Bouckaert and Frank: Evaluating the replicability of significance tests, PAKDD 2004.

    Args:
        differences: of the scores, a positive one is better; one for each set of rows that is left out, (J,).
        ratio: n_test/n_train, as `ratio_of_rows` gives it.

    Raises:
        Error: there are fewer than two, or they are all the same and not zero.
    """
    count = len(differences)
    require(count > 1, ONE_FOLD)
    mean = statistics.fmean(differences)
    variance = sum((one - mean) ** 2 for one in differences) / (count - 1)
    is_constant = variance <= (1e-9 * mean) ** 2
    require(
        mean == 0 or not is_constant, "the difference is the same in every fold, which does not say how much it varies"
    )
    half = t_quantile(count - 1) * math.sqrt(variance * (1 / count + ratio))
    return Interval(mean, mean - half, mean + half)


def ratio_of_rows(rows: Mapping[int, int], n_folds: int, is_by_time: bool) -> float:
    """How many rows are left out for each that is trained on, in the mean of the folds.

    Args:
        rows: how many rows each fold that is done leaves out, by its number. While some are missing, folds count as
            equal.
        n_folds: 2 or more.
        is_by_time: whether only earlier rows are trained on: fold 0 by as many as it leaves out, fold 1 by twice as
            many, ...
    """
    if is_by_time:
        return statistics.fmean(1 / (fold + 1) for fold in range(n_folds))
    whole = sum(rows.values())
    if len(rows) < n_folds or whole in rows.values():
        return 1 / (n_folds - 1)
    return statistics.fmean(number / (whole - number) for number in rows.values())


@functools.lru_cache(maxsize=1024)
def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t with P(|T| < t) = confidence, T of Student's distribution; by halving.

    Without SciPy, whose import takes longer than the board.
    """
    low, high = 0.0, math.pi / 2  # of atan(t / sqrt(freedom))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < tan(angle) sqrt(freedom)): Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and .4."""
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= power / (power + 1) * cosine**2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
