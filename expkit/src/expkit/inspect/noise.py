"""Better, or noise? The difference of two scores over trainings, with an interval; what intervals say together."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expkit.errors import require

CONFIDENCE = 0.95
BETTER, WORSE, NOISE = "better", "worse", "could be noise"
ONE_TRAINING = (
    "one training of each does not say how much scores vary from training to training: train more folds, or other "
    "seeds of both with -m exp.seed=1,2,3, then exp diff OLD NEW --seeds"
)
WILD = 5  # times the variance that half of the runs stay below
ENOUGH = 1000  # degrees of freedom: with more, quantiles stay what they are


@dataclass(frozen=True)
class Interval:
    """By how much one score is better than another, below zero when it is worse, and its 95 % interval."""

    better_by: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """BETTER or WORSE; NOISE when zero is in the interval, or when it has no width and so says nothing."""
        if self.high - self.low <= 1e-9 * abs(self.better_by):
            return NOISE
        return BETTER if self.low > 0 else WORSE if self.high < 0 else NOISE


@dataclass(frozen=True)
class Runs:
    """The runs that two were chosen from.

    Attributes:
        count: how many there are, with the two.
        variance: of the difference of the two in a fold, as all runs tell it; 0.0 when nothing is known.
        freedom: the degrees of freedom of that.
    """

    count: int = 2
    variance: float = 0.0
    freedom: int = 0


PAIR = Runs()


def together(intervals: Iterable[Interval]) -> str:
    """What several intervals of one difference say: NOISE unless all say the same."""
    verdicts = {interval.verdict for interval in intervals}
    return verdicts.pop() if len(verdicts) == 1 else NOISE


def corrected_t(differences: Sequence[float], ratio: float, runs: Runs = PAIR) -> Interval:
    """The corrected resampled t-test: the interval of a mean difference of scores over folds.

    The models of the folds share most of their training rows, so that their scores vary together, and a plain t-test
    takes too much for real. The variance of the mean is (1/J + n_test/n_train) times that of the J differences, with
    J - 1 degrees of freedom. Nadeau and Bengio: Inference for the generalization error. Machine Learning 52, 2003; for
    repeated folds, Bouckaert and Frank: Evaluating the replicability of significance tests, PAKDD 2004.

    Of many runs, the best is partly lucky. All K(K - 1)/2 pairs can be the one that is looked at, so that each is
    tested at 5 % of that (Bonferroni; Hsu: Multiple Comparisons, 1996, chapter 5, on all pairs). J - 1 degrees of
    freedom are too few for such a level, so the variance is that of all runs, or of the pair when that is larger.

    Args:
        differences: of the scores, a positive one is better; one for each set of rows that is left out, (J,).
        ratio: n_test/n_train, as `ratio_of_rows` gives it; 0.0 for trainings that share no luck with their rows.
        runs: that the pair was chosen from.

    Raises:
        Error: there are fewer than two, or they are all the same and not zero.
    """
    count = len(differences)
    require(count > 1, ONE_TRAINING)
    mean, variance = statistics.fmean(differences), _variance(differences)
    is_constant = max(variance, runs.variance) <= (1e-9 * mean) ** 2
    require(
        mean == 0 or not is_constant, "the difference is the same in every one, which does not say how much it varies"
    )
    confidence = 1 - (1 - CONFIDENCE) / math.comb(max(runs.count, 2), 2)
    quantile = t_quantile(min(runs.freedom or count - 1, ENOUGH), confidence)
    half = quantile * math.sqrt(max(variance, runs.variance) * (1 / count + ratio))
    return Interval(mean, mean - half, mean + half)


def scatter(scores: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, int]]:
    """How far the score of each run in a fold is from what its run and its fold give it: variance, degrees of freedom.

    A two-way layout, run by fold: all K runs have the variance in common, with (K - 1)(J - 1) degrees of freedom, but
    for wild ones, which have a larger one among themselves. So no run is called worse for the luck of a wild one, and
    a wild one does not hide what the others differ in. For the same reason the score of a fold is the median.

    Args:
        scores: of each run, those of the same J folds.
    """
    count, parts = len(scores), [*zip(*scores.values(), strict=True)]
    if count < 2 or len(parts) < 2:
        return {}
    centre = [statistics.median(part) for part in parts]
    own = {
        name: _variance([score - one for score, one in zip(run, centre, strict=True)]) for name, run in scores.items()
    }
    most = WILD * statistics.median(own.values())
    found: dict[str, tuple[float, int]] = {}
    for is_wild in {variance > most for variance in own.values()}:
        names = [name for name, variance in own.items() if (variance > most) == is_wild]
        freedom = max(1, len(names) - (not is_wild)) * (len(parts) - 1)
        variance = statistics.fmean(own[name] for name in names) * count / (count - 1)
        found |= dict.fromkeys(names, (variance, freedom))
    return found


def _variance(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


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
