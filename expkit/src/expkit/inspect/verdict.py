"""Better, or noise? Two runs, or those of several seeds, over their folds and over their out-of-fold rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from expkit.config.load import load_experiment
from expkit.ensemble import require_same_targets
from expkit.errors import Error, require
from expkit.inspect.beside import NOT_COMPARABLE
from expkit.inspect.board import row_of
from expkit.inspect.jackknife import Jackknife
from expkit.inspect.noise import NOISE, Interval, together
from expkit.inspect.paired import folds_of, over_folds, require_comparable, require_same_data
from expkit.record import RunRecord, fold_title
from expkit.submission import Rows, out_of_fold
from expkit.train.scores import fold_scores, mean_of_folds

if TYPE_CHECKING:
    from expkit.config.experiment import Metric
    from expkit.tables import Columns

    Pairs = Sequence[tuple[RunRecord, RunRecord]]

GROUP = "group"  # a column of out-of-fold predictions: rows of one group are not independent


def verdict(pairs: Pairs) -> dict[str, Any]:
    """Whether the second runs are better than the first, as JSON has it.

    Args:
        pairs: two runs; or a pair for each seed.

    Returns:
        "folds" (the trainings) and "rows": "better_by" and its 95 % interval, "low" and "high", or a "reason".
        "verdict": better or worse only when the trainings say so, and the rows where they can be compared; else could
        be noise. Without "folds" and "rows": "identical", of the same predictions, and "not comparable", both with a
        "reason".
    """
    rows = [(row_of(old, {}), row_of(new, {})) for old, new in pairs]
    first = rows[0][0]
    try:
        for old, new in rows:
            require_comparable(old, new)
            require_same_data(first, old)
        over = {run.score_over for pair in pairs for run in pair} - {None}
        require(len(over) < 2, "other metric: one is scored over all rows, one over the folds: repeat its command")
    except Error as error:
        return {"verdict": NOT_COMPARABLE, "reason": str(error)}
    about = {"metric": first.metric, "greater_is_better": first.greater_is_better}
    numbers = [folds_of(*pair) for pair in rows]
    trainings: Interval | None = None
    by_row: Interval | None = None
    try:
        trainings = over_folds(rows)
        seeds = [old.seed for old, _ in rows] if len(rows) > 1 else []
        folds = asdict(trainings) | {"folds": sorted({fold for each in numbers for fold in each}), "seeds": seeds}
    except Error as error:
        folds = {"reason": str(error)}
    try:
        jackknife = _jackknife(pairs, numbers)
        if all(_are_equal(*pair) for pair in jackknife.pairs):
            return about | {"verdict": "identical", "reason": "the out-of-fold predictions are the same"}
        by_row = jackknife.interval()
        groups = None if jackknife.groups is None else jackknife.count
        over_rows = asdict(by_row) | {"rows": jackknife.rows, "groups": groups, "parts": jackknife.parts}
    except _NotComparable as error:
        return {"verdict": NOT_COMPARABLE, "reason": str(error)}
    except Error as error:
        over_rows = {"reason": str(error)}
    said = NOISE if trainings is None else together([trainings, by_row or trainings])
    return about | {"verdict": said, "folds": folds, "rows": over_rows}


def _are_equal(one: Columns, other: Columns) -> bool:
    import numpy

    return one.keys() == other.keys() and all(numpy.array_equal(one[name], other[name]) for name in one)


class _NotComparable(Error):
    """Runs have other targets, or were scored by different functions of one name, as far as anyone knows."""


class _OtherScore(Error):
    """The metric, as it is now, gives another score than the one that is recorded."""


def _jackknife(pairs: Pairs, folds: Sequence[Sequence[int]]) -> Jackknife:
    """The out-of-fold rows of runs, in one order, with the metric of the experiment, which gives the recorded scores.

    Args:
        folds: which of them, for each pair.

    Raises:
        Error: the rows, targets or groups differ; the metric cannot be had, or gives other scores.
    """
    import numpy

    first, runs = pairs[0][0], [run for pair in pairs for run in pair]
    aligned: list[Columns] = []
    tables: list[Columns] = []
    problems: list[Error] = []
    are_alike = len({run.made_by for run in runs}) == 1
    try:
        name, metric = _metric(first)
    except Error as error:
        problems = [error] * len(runs)
    else:
        for run, each in zip(runs, [each for each in folds for _ in range(2)], strict=True):
            try:
                tables.append(_scored(run, each, name, metric))
            except _OtherScore as error:
                problems.append(error)
    if problems and are_alike and len(problems) == len(runs):  # the metric has changed since, for all of them
        raise problems[0]
    if problems:
        raise _NotComparable(f"{first.metric} may not be the same function in all runs: {problems[0]}")
    rows = Rows(tables[0]["id"], first.title)
    for run, table in zip(runs, tables, strict=True):
        places = rows.places_in(table["id"], run.title)
        aligned.append(table if places is None else {key: column[places] for key, column in table.items()})
        try:
            require_same_targets(first, run, aligned[0], aligned[-1])
        except Error as error:
            raise _NotComparable(str(error)) from error
    groups = aligned[0].get(GROUP) if all(GROUP in table for table in aligned) else None
    if groups is not None and not all(numpy.array_equal(groups, table[GROUP]) for table in aligned):
        raise Error(f"the column {GROUP} is not the same in all of the runs")
    sign = 1 if first.greater_is_better else -1
    metric = functools.partial(mean_of_folds, name, metric) if first.score_over == "folds" else metric
    return Jackknife(name, metric, list(zip(aligned[::2], aligned[1::2], strict=True)), sign, groups)


def _metric(run: RunRecord) -> tuple[str, Metric]:
    """The metric that decides, as the code of the experiment has it now."""
    try:
        metrics = load_experiment(run.scored_by).experiment.metrics
    except Error:
        raise
    except Exception as error:
        raise Error(f"{run.scored_by} cannot be loaded: {type(error).__name__}: {error}") from error
    name = run.metric or ""
    require(name in metrics, f"{run.scored_by} has no metric {name} any more")
    return name, metrics[name]


def _scored(run: RunRecord, folds: Sequence[int], name: str, metric: Metric) -> Columns:
    """The out-of-fold predictions of some folds, of which the metric gives the scores that are recorded."""
    import numpy

    table, recorded = out_of_fold(run), run.score()
    assert recorded is not None
    is_in = numpy.isin(table["fold"], folds)
    table = table if is_in.all() else {key: column[is_in] for key, column in table.items()}
    for fold, value in fold_scores(name, metric, table).items():
        if not math.isclose(value, recorded.folds[fold], rel_tol=1e-6, abs_tol=1e-9):
            raise _OtherScore(
                f"{name} now gives {value:.6g} for {fold_title(fold)} of {run.title}, but {recorded.folds[fold]:.6g} "
                "is recorded: repeat the command of the run to score it again"
            )
    if run.score_over != "folds":
        del table["fold"]
    return table


# For a reader


def worded(found: dict[str, Any], name: str) -> list[str]:
    """What `verdict` has found, a line each.

    Args:
        name: of the second run.
    """
    if "reason" in found:
        return [f"verdict: {found['verdict']}: {found['reason']}"]
    seeds, count = found["folds"].get("seeds"), len(found["folds"].get("folds", []))
    ways = {
        "folds": f"{count} fold{'' if count == 1 else 's'}{f' x {len(seeds)} seeds' if seeds else ''}",
        "rows": f"{found['rows'].get('rows', 0):,} rows",
    }
    if found["rows"].get("groups") is not None:
        ways["rows"] += f" in {found['rows']['groups']:,} groups"
    lines = [
        _line(name, found[key], how) if "low" in found[key] else f"over {key}: {found[key]['reason']}"
        for key, how in ways.items()
    ]
    return [*lines, f"verdict: {found['verdict']}"]


def _line(name: str, interval: dict[str, Any], how: str) -> str:
    better_by, low, high = (interval[key] for key in ("better_by", "low", "high"))
    word = "better" if better_by > 0 else "worse" if better_by < 0 else "neither better nor worse"
    if better_by < 0:
        better_by, low, high = -better_by, -high, -low
    digits = max(4, min(15, 1 - math.floor(math.log10(high - low)))) if high > low else 4
    numbers = [f"{number:.{digits}f}" for number in (better_by, low, high)]
    by = f" by {numbers[0]}" if better_by else ""
    is_noise = ": could be noise" if low <= 0 <= high else ""
    return f"{name} is {word}{by} ({how}, 95 % interval {numbers[1]} to {numbers[2]}){is_noise}"
