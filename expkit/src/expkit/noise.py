"""Better, or noise? The difference of a metric over the rows that are scored: the delete-a-group jackknife.

The rows are dealt by their ids to 20 to 100 parts. Without each part in turn, the difference of the two scores changes
a little; how much says how far it varies with the rows that are scored. Quenouille 1956 and Tukey 1958; by groups, of
any metric: Shao and Tu: The Jackknife and Bootstrap, 1995, chapter 2; of unequal sizes: Busing, Meijer and van der
Leeden: Delete-m jackknife for unequal m, Statistics and Computing 9, 1999. How a score varies with the rows that are
trained on, the folds and seeds tell (`paired.over_folds`).

There is no chance and no clock in it: the same runs give the same bytes on any machine. The metric is called twice per
part. A bootstrap calls it thousands of times, and is no nearer to the truth (benchmarks/README.md).
"""

from __future__ import annotations

import functools
import math
import statistics
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expkit.errors import Error, require
from expkit.scores import score
from expkit.tables import digests

if TYPE_CHECKING:
    import numpy

    from expkit.config import Metric
    from expkit.tables import Columns

    Pairs = Sequence[tuple[Columns, Columns]]


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


FEWEST, MOST = 20, 100  # parts; fewer rows, or groups of rows, tell too little
MOST_ROWS = 40_000_000  # that all calls of the metric for one run get: with more than 400,000 there are fewer parts
TRIALS = 5  # parts to try, of a metric that may be a mean
NEGLIGIBLE = 1e-3  # of a standard deviation


@dataclass(frozen=True)
class Jackknife:
    """A metric, and runs whose rows are left out part by part.

    Args:
        name, metric: of an experiment.
        pairs: the out-of-fold rows of two runs that are compared, all the same rows in the same order; several pairs
            are seeds, whose differences are averaged.
        sign: 1 when a higher score is better, else -1.
        groups: what each row belongs to, (n,): rows of a group are not independent, and are in one part.
    """

    name: str
    metric: Metric
    pairs: Pairs
    sign: int
    groups: numpy.ndarray | None = None

    def interval(self) -> Interval:
        """By how much the second of each pair is better: Student's t over the parts.

        Raises:
            Error: there are too few rows; or the metric fails, be it without some of the rows.
        """
        import numpy

        what = "rows" if self.groups is None else "groups of rows"
        require(self.count >= FEWEST, f"{self.count} {what} are too few: {FEWEST} are needed")
        with warnings.catch_warnings(action="ignore"):  # a metric may warn of parts, which nobody chose
            better_by = self._difference(None)
            values = self._if_mean(better_by)
            if values is None:
                values = self._pseudo_values(better_by)
        variance = float(numpy.mean((values - better_by) ** 2 / (1 / self._shares - 1)))
        half = t_quantile(self.parts - 1) * math.sqrt(variance)
        return Interval(better_by, better_by - half, better_by + half)

    @property
    def rows(self) -> int:
        return len(self.pairs[0][0]["id"])

    @property
    def count(self) -> int:
        """How many there are to deal: rows or groups."""
        return len(self._units[0])

    @property
    def parts(self) -> int:
        """How many there are: of about the square root of n rows each, which quantiles need (Shao and Wu 1989)."""
        most = min(MOST, math.isqrt(self.count), MOST_ROWS // self.rows)
        return max(FEWEST, most)

    @functools.cached_property
    def _units(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """What is dealt, (count,), and the number of that of each row, (n,)."""
        import numpy

        if self.groups is None:
            return self.pairs[0][0]["id"], numpy.arange(self.rows)
        return numpy.unique(self.groups, return_inverse=True)

    @functools.cached_property
    def _part(self) -> numpy.ndarray:
        """The number of the part of each row, (n,): as if by chance, and the same in any order of the rows."""
        import numpy

        units, unit = self._units
        place = numpy.argsort(numpy.argsort(digests(units), kind="stable"), kind="stable")
        part: numpy.ndarray = (place * self.parts // self.count)[unit]
        return part

    @functools.cached_property
    def _shares(self) -> numpy.ndarray:
        """The share of the rows that each part has, (parts,)."""
        import numpy

        return numpy.bincount(self._part) / self.rows

    def _scores(self, is_in: numpy.ndarray | None) -> list[float]:
        """Of each table, over some rows or all; one pair after the other."""
        tables = [table for pair in self.pairs for table in pair]
        return [score(self.name, self.metric, table if is_in is None else _at(is_in, table)) for table in tables]

    def _difference(self, is_in: numpy.ndarray | None) -> float:
        """By how much the second of each pair is better over some rows, or all."""
        scores = self._scores(is_in)
        return self.sign * (math.fsum(scores[1::2]) - math.fsum(scores[::2])) / len(self.pairs)

    def _pseudo_value(self, number: int, whole: float) -> float:
        """What a part adds to the difference, as if that were a mean over rows."""
        share = float(self._shares[number])
        try:
            return (whole - (1 - share) * self._difference(self._part != number)) / share
        except Error as error:  # it had a value for all rows
            raise Error(f"without {share:.0%} of the rows there is no score: {str(error).partition(';')[0]}") from error

    def _pseudo_values(self, whole: float) -> numpy.ndarray:
        import numpy
        from rich.console import Console
        from rich.progress import track

        console, is_quiet = Console(stderr=True), not sys.stderr.isatty()
        numbers = track(range(self.parts), "comparing rows", console=console, transient=True, disable=is_quiet)
        return numpy.array([self._pseudo_value(number, whole) for number in numbers])

    def _if_mean(self, whole: float) -> numpy.ndarray | None:
        """The pseudo-values of a metric that is a mean over rows: the difference in each part; None: it is none.

        Then all rows are scored once, instead of once per part. It is a mean when the pseudo-values that are tried are
        what the parts have, and the mean of the parts is the difference over all rows; both up to what changes no
        interval.
        """
        import numpy

        values: list[float] = []
        try:
            rounding = 1e-12 * max(map(abs, self._scores(self._part == 0)))
            for number in range(self.parts):
                values.append(self._difference(self._part == number))
                if number == TRIALS - 1:
                    tried = [self._pseudo_value(each, whole) for each in range(TRIALS)]
                    if numpy.abs(numpy.subtract(values, tried)).max() > NEGLIGIBLE * numpy.std(values) + rounding:
                        return None
        except Error:  # a metric that a few rows are not enough for
            return None
        error = NEGLIGIBLE * float(numpy.std(values)) / math.sqrt(self.parts) + rounding
        return numpy.array(values) if abs(float(numpy.average(values, weights=self._shares)) - whole) <= error else None


def _at(is_in: numpy.ndarray, table: Columns) -> Columns:
    return {name: column[is_in] for name, column in table.items()}
