"""Better, or noise? Which runs can be compared, run by run or seed by seed, and what the scores of their folds say."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expkit.errors import Error, require
from expkit.inspect.beside import NOT_COMPARABLE, find_seeds, have_other_data, unlike
from expkit.inspect.board import Row, row_of
from expkit.inspect.noise import NOISE, ONE_FOLD, WORSE, Interval, corrected_t
from expkit.inspect.order import ordered
from expkit.record import read_run


def within_noise(best: Row, other: Row) -> bool | None:
    """Whether the scores of the folds cannot tell a run from the best; None: the two do not compare.

    By `noise.corrected_t` at 95 %, for this pair alone: the best of many is partly lucky, and more than 5 % of as many
    runs that are as good count as worse (benchmarks/noise.py). Reads no file but, where the data differ, their lists.
    """
    try:
        require_comparable(best, other)
        return over_folds([(best, other)]).verdict == NOISE
    except Error:
        return None


def against_best(rows: list[Row]) -> list[Row]:
    """The rows, each with what its folds say of it against the best run of its metric; None: they say nothing.

    Args:
        rows: as from `with_other_rows`; one that differs from most runs is "not comparable", and never the best.
    """
    best: dict[str | None, Row] = {}
    for row in ordered(rows):
        if row.score is not None and not row.differs:
            best.setdefault(row.metric, row)
    return [replace(row, versus_best=_against(best.get(row.metric), row)) for row in rows]


def _against(best: Row | None, row: Row) -> str | None:
    if row.score is None or row is best:
        return None if row.score is None else "best"
    if best is None or row.differs:
        return NOT_COMPARABLE
    try:
        require_comparable(best, row)
    except Error:
        return NOT_COMPARABLE
    is_noise = within_noise(best, row)
    return None if is_noise is None else NOISE if is_noise else WORSE


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


def over_folds(pairs: Sequence[tuple[Row, Row]]) -> Interval:
    """By how much the second runs are better, from the scores of the folds.

    Args:
        pairs: two runs; or a pair for each seed. The differences of seeds that leave out the same rows are averaged and
            count as one: the luck with these rows is in all of them. Counted each, they give intervals that are too
            narrow, the more seeds the narrower, even of a model that does not heed its seed (benchmarks/noise.py).

    Raises:
        Error: as of `corrected_t`.
    """
    found: dict[str, list[float]] = {}
    for old, new in pairs:
        sign = 1 if old.greater_is_better else -1
        for fold in folds_of(old, new):
            found.setdefault(old.left_out[fold], []).append(sign * (new.fold_scores[fold] - old.fold_scores[fold]))
    ratios = [row.ratio for pair in pairs for row in pair if row.ratio is not None]
    require(bool(ratios), ONE_FOLD)
    return corrected_t([statistics.fmean(each) for each in found.values()], max(ratios))


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
