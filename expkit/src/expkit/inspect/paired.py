"""Better, or noise? Which runs can be compared, run by run or seed by seed, and what the scores of their folds say."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expkit.errors import Error, require
from expkit.inspect.beside import NOT_COMPARABLE, find_seeds, have_other_data, unlike
from expkit.inspect.board import Row, row_of
from expkit.inspect.noise import NOISE, PAIR, WORSE, Interval, Runs, corrected_t, scatter
from expkit.inspect.order import ordered
from expkit.record import read_run


def against_best(rows: list[Row], tried: list[Row] | None = None) -> list[Row]:
    """The rows, each with what its folds say of it against the best run of its metric; None: they say nothing.

    By `corrected_t` at 95 % for all pairs of the runs that were tried with the metric, as the best of many is partly
    lucky. One fold says nothing. Reads no file but, where the data differ, their lists.

    Args:
        rows: as from `with_other_rows`; one that differs from most runs is "not comparable", and never the best.
        tried: all runs, also those that are not to be shown; None: `rows`.
    """
    best: dict[str | None, _Best] = {}
    for row in ordered(rows):
        if row.score is not None and not row.differs and row.metric not in best:
            best[row.metric] = _Best(row, rows if tried is None else tried)
    return [_judged(row, best.get(row.metric)) if row.score is not None else row for row in rows]


def _judged(row: Row, best: _Best | None) -> Row:
    unlike_it = replace(row, versus_best=NOT_COMPARABLE)
    if best is None or row.differs:
        return unlike_it
    try:
        require_comparable(best.row, row)
    except Error:
        return unlike_it
    return replace(row, versus_best="best" if row is best.row else best.verdict_on(row), versus_runs=best.count)


class _Best:
    """The best run of a metric.

    Args:
        rows: the runs that it was chosen from, and others, which do not count.
    """

    def __init__(self, row: Row, rows: list[Row]) -> None:
        alike = [one for one in rows if one.fold_scores and one.metric == row.metric and not one.differs]
        tried = [one for one in alike if not unlike(row, one)]
        whole = [one for one in tried if one.fold_scores.keys() == row.fold_scores.keys()]
        self.row, self.count = row, len(tried)
        self.scatter = scatter({one.name: [one.fold_scores[fold] for fold in row.fold_scores] for one in whole})

    def verdict_on(self, row: Row) -> str | None:
        """WORSE or NOISE; None: the folds say nothing."""
        own, other = (self.scatter.get(one.name, (0.0, 0)) for one in (self.row, row))
        runs = Runs(self.count, own[0] + other[0], own[1])  # it was chosen for its luck, not the other one
        try:
            return WORSE if over_folds([(self.row, row)], runs).verdict == WORSE else NOISE
        except Error:
            return None


def require_comparable(old: Row, new: Row) -> None:
    """Raise an `Error` that says why two runs cannot be compared, if so: other metric, folds, target, data, ..."""
    for row in (old, new):
        require(bool(row.fold_scores), f"{row.name} has no finished fold")
    require(old.metric == new.metric, f"other metric: {old.metric} in {old.name}, {new.metric} in {new.name}")
    reasons = [f"{mark}: {reason}" for mark, reason in unlike(old, new).items()]
    require(not reasons, "; ".join(reasons))
    require_same_data(old, new)


def require_same_data(old: Row, new: Row) -> None:
    """Raise an `Error` when a file that both have been trained with had another content."""
    require(
        not have_other_data(old, new),
        f"other data: a file in input/ has changed between the trainings of {old.name} and {new.name}",
    )


def folds_of(old: Row, new: Row) -> list[int]:
    """The folds that both have a score of."""
    return sorted(old.fold_scores.keys() & new.fold_scores.keys())


def over_folds(pairs: Sequence[tuple[Row, Row]], runs: Runs = PAIR) -> Interval:
    """By how much the second runs are better, from the scores of their trainings.

    Args:
        pairs: two runs; or a pair for each seed. The differences of seeds that leave out the same rows are averaged and
            count as one: the luck with these rows is in all of them. Counted each, they give intervals that are too
            narrow, the more seeds the narrower, even of a model that does not heed its seed (benchmarks/noise.py). Of
            one fold, each seed counts: its luck with the rows left out is for the test over rows to judge.
        runs: that the two were chosen from.

    Raises:
        Error: as of `corrected_t`.
    """
    found: dict[str, list[float]] = {}
    for old, new in pairs:
        sign = 1 if old.greater_is_better else -1
        for fold in folds_of(old, new):
            found.setdefault(old.left_out[fold], []).append(sign * (new.fold_scores[fold] - old.fold_scores[fold]))
    if len(found) == 1:
        return corrected_t(next(iter(found.values())), 0.0, runs)
    ratios = [row.ratio for pair in pairs for row in pair if row.ratio is not None]
    require(bool(ratios), "each seed leaves out other rows, and it is not known how many each has trained on")
    return corrected_t([statistics.fmean(each) for each in found.values()], max(ratios), runs)


def paired_by_seed(one: str, other: str) -> list[tuple[Path, Path]]:
    """The folders of the runs of two configurations, in pairs of the same seed.

    Args:
        one, other: names as of `find_seeds`.

    Raises:
        Error: no run has such a name, the two are of one configuration, or they have no seed in common.
    """
    folders = [find_seeds(name) for name in (one, other)]
    require(not set(folders[0]) & set(folders[1]), f"{one} and {other} differ only in their seed: name two other runs")
    sides: list[dict[int | str | None, Path]] = [{}, {}]
    for side, found in zip(sides, folders, strict=True):
        for folder in found:
            side.setdefault(row_of(read_run(folder), {}).seed, folder)
    seeds = [", ".join(map(str, side)) for side in sides]
    require(
        bool(sides[0].keys() & sides[1].keys()), f"{one} and {other} have no seed in common: {seeds[0]}; {seeds[1]}"
    )
    return [(folder, sides[1][seed]) for seed, folder in sides[0].items() if seed in sides[1]]
