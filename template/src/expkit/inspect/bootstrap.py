"""Better, or noise? The difference of a metric over resampled rows: the paired bootstrap.

The rows are drawn again by chance, with replacement, as many as there are, the same ones for both runs; the metric of
each run is computed from them. The interval has 95 % of the differences in it, the percentile interval of Efron and
Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13; paired for two systems as in Koehn: Statistical
significance tests for machine translation evaluation, EMNLP 2004. It knows how much the score varies with the rows that
are scored, and nothing of how it varies with those that are trained on, which the folds tell (`noise.corrected_t`).
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expkit.errors import Error, require
from expkit.inspect.noise import CONFIDENCE, Interval
from expkit.inspect.words import duration
from expkit.train.scores import score

if TYPE_CHECKING:
    import numpy

    from expkit.config.experiment import Metric
    from expkit.tables import Columns

    Pairs = Sequence[tuple[Columns, Columns]]

RESAMPLES = 1000
FEWEST = 20  # rows, or groups of rows: fewer drawn again tell too little
PATIENCE = 30.0  # seconds that nobody has to ask for
LARGE = 10_000  # rows: with fewer, the metric of each resample takes no time
PARTS = 1000
TRIALS = 3  # resamples that are timed, at most
SLICES = 10  # of the parts, each of which is to have the mean of its parts
NEGLIGIBLE = 1e-3  # of a standard error


@dataclass(frozen=True)
class Bootstrap:
    """A metric, and runs whose rows are resampled.

    Args:
        name, metric: of an experiment.
        pairs: the out-of-fold rows of two runs that are compared, all the same rows in the same order; several pairs
            are seeds, whose differences are averaged.
        sign: 1 when a higher score is better, else -1.
        groups: what each row belongs to, (n,): rows of a group are not independent, and are drawn together.
    """

    name: str
    metric: Metric
    pairs: Pairs
    sign: int
    groups: numpy.ndarray | None = None

    def interval(self, is_asked: bool = False) -> tuple[Interval, str]:
        """By how much the second of each pair is better, and how that was found: "parts", "weights", "rows".

        Args:
            is_asked: whether it may take longer than PATIENCE.

        Raises:
            Error: there are too few rows; the metric fails; or it would take too long.
        """
        import numpy

        what = "rows" if self.groups is None else "groups of rows"
        require(self.count >= FEWEST, f"{self.count} {what} are too few to resample")
        better_by = self.sign * _difference(self._scores(self.pairs))
        with warnings.catch_warnings(action="ignore"):  # a metric may warn of parts and resamples, which nobody chose
            found, how = self._by_parts() if self.rows >= LARGE else None, "parts"
            if found is None:
                found, how = self._one_by_one(is_asked)
        edge = 50 * (1 - CONFIDENCE)
        low, high = numpy.percentile(self.sign * found, [edge, 100 - edge])
        return Interval(better_by, float(low), float(high)), how

    @property
    def rows(self) -> int:
        return len(self.pairs[0][0]["id"])

    @functools.cached_property
    def _units(self) -> numpy.ndarray | None:
        """The number of the group of each row, (n,); None: each row is its own."""
        import numpy

        return None if self.groups is None else numpy.unique(self.groups, return_inverse=True)[1]

    @functools.cached_property
    def count(self) -> int:
        """How many there are to draw: rows or groups."""
        return self.rows if self._units is None else int(self._units.max()) + 1

    def _scores(self, pairs: Pairs, **options: Any) -> list[float]:
        """Of each table, one pair after the other."""
        metric = functools.partial(self.metric, **options) if options else self.metric
        return [score(self.name, metric, table) for pair in pairs for table in pair]

    # A metric that is a mean over rows

    def _by_parts(self) -> numpy.ndarray | None:
        """The differences of the resamples, (RESAMPLES,), of a metric that is a mean over rows; None: it is none.

        The rows are dealt by chance to 1,000 parts, the metric of each part is computed once, and parts are drawn
        instead of rows. The variance between means of n/1000 rows, over 1,000, is in expectation that of single rows,
        over n: the interval is as wide as that of rows. It is only less exact: by 1/sqrt(2 * 999), 2 %, which is less
        than what 1,000 resamples leave to chance, 4 %. Single rows would take a million calls, and many metrics, such
        as one that needs two classes, have no value for a row.
        """
        import numpy

        random = numpy.random.default_rng(0)
        count = min(PARTS, self.count)
        part = numpy.empty(self.count, numpy.uint16)
        part[random.permutation(self.count)] = numpy.arange(self.count) * count // self.count
        part = part if self._units is None else part[self._units]
        order, sizes = numpy.argsort(part, kind="stable"), numpy.bincount(part)
        total = numpy.zeros(count)
        for pair in self.pairs:
            for sign, table in zip((-1, 1), pair, strict=True):
                values = self._parts_of(_at(order, table), sizes)
                if values is None:
                    return None
                total += sign * values * sizes / len(self.pairs)
        drawn = random.integers(count, size=(RESAMPLES, count))
        return numpy.asarray(total[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))

    def _parts_of(self, table: Columns, sizes: numpy.ndarray) -> numpy.ndarray | None:
        """The metric of each part of a table, (parts,); None: the metric of several is not the mean of theirs.

        That is so when they differ by more than a thousandth of the standard error: rounding is less.
        """
        import numpy

        ends = numpy.cumsum(sizes)
        values = numpy.empty(len(sizes))

        def is_mean(first: int, last: int) -> bool:
            own, start = values[first:last], ends[first] - sizes[first]
            together = self._score_of(table, start, ends[last - 1])
            error = own.std() / math.sqrt(len(own))
            difference = abs(together - numpy.average(own, weights=sizes[first:last]))
            return bool(difference <= NEGLIGIBLE * error + 1e-9 * abs(together))

        try:
            for several in numpy.array_split(numpy.arange(len(sizes)), min(SLICES, len(sizes))):
                for each in several:
                    values[each] = self._score_of(table, ends[each] - sizes[each], ends[each])
                if not is_mean(several[0], several[-1] + 1):
                    return None
            return values if is_mean(0, len(sizes)) else None
        except Error:  # a metric that a few rows are not enough for
            return None

    def _score_of(self, table: Columns, start: int, end: int) -> float:
        return score(self.name, self.metric, {name: column[start:end] for name, column in table.items()})

    # Any other

    def _one_by_one(self, is_asked: bool) -> tuple[numpy.ndarray, str]:
        """The differences of the resamples, (RESAMPLES,), and whether they were found by "weights" or "rows"."""
        import numpy
        from rich.console import Console
        from rich.progress import track

        random = numpy.random.default_rng(0)
        how, scores_of = self._fastest(self._draw(random))

        def resampled() -> float:
            return _difference(scores_of(self._draw(random)))

        found: list[float] = []
        seconds = math.inf
        while len(found) < TRIALS and seconds > PATIENCE:  # the first may have waited for another process
            start = time.perf_counter()
            found.append(resampled())
            seconds = min(seconds, RESAMPLES * (time.perf_counter() - start))
        require(
            is_asked or seconds <= PATIENCE,
            f"{RESAMPLES:,} resamples of {self.rows:,} rows take about {duration(seconds)}: --bootstrap computes them",
        )
        console, is_shown = Console(stderr=True), seconds > 2 and sys.stderr.isatty()
        rest = range(len(found), RESAMPLES)
        turns = track(rest, "resampling", console=console, transient=True, disable=not is_shown)
        return numpy.array(found + [resampled() for _ in turns]), how

    def _draw(self, random: numpy.random.Generator) -> numpy.ndarray:
        """How often each row is in a resample, (n,) int."""
        import numpy

        counts = numpy.bincount(random.integers(self.count, size=self.count), minlength=self.count)
        return counts if self._units is None else counts[self._units]

    def _fastest(self, counts: numpy.ndarray) -> tuple[str, Callable[[numpy.ndarray], list[float]]]:
        """By weights, when the metric takes them and they do what as many rows do; else by rows.

        Args:
            counts: of a resample to try.
        """
        if self.rows >= LARGE and _takes_weights(self.metric):
            pairs = zip(self._by_rows(counts), self._by_weights(counts), strict=True)
            if all(math.isclose(*pair, rel_tol=1e-6) for pair in pairs):
                return "weights", self._by_weights
        return "rows", self._by_rows

    def _by_weights(self, counts: numpy.ndarray) -> list[float]:
        return self._scores(self.pairs, weights=counts)

    def _by_rows(self, counts: numpy.ndarray) -> list[float]:
        import numpy

        rows = numpy.repeat(numpy.arange(len(counts)), counts)
        try:
            return self._scores([(_at(rows, old), _at(rows, new)) for old, new in self.pairs])
        except Error as error:  # it had a value for all rows
            raise Error(f"a resample has no score: {str(error).partition(';')[0]}") from error


def _difference(scores: Sequence[float]) -> float:
    """The mean of second minus first, over pairs one after the other."""
    return (math.fsum(scores[1::2]) - math.fsum(scores[::2])) * 2 / len(scores)


def _at(rows: numpy.ndarray, table: Columns) -> Columns:
    return {name: column[rows] for name, column in table.items()}


def _takes_weights(metric: Any) -> bool:
    """Whether a metric has a parameter `weights` that is free."""
    while isinstance(metric, functools.partial):
        if "weights" in metric.keywords:
            return False
        metric = metric.func
    return "weights" in inspect.signature(metric).parameters
