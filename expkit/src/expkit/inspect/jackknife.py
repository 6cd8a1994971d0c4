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
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expkit.errors import Error, require
from expkit.inspect.noise import Interval, t_quantile
from expkit.tables import digests
from expkit.train.scores import score

if TYPE_CHECKING:
    import numpy

    from expkit.config.experiment import Metric
    from expkit.tables import Columns

    Pairs = Sequence[tuple[Columns, Columns]]

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
