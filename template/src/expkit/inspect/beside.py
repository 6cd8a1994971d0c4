"""Runs beside each other: which are scored on the same folds, and which differ only in their seed."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from expkit.errors import Error
from expkit.inspect.board import Row, read_board
from expkit.inspect.find import find_run
from expkit.inspect.order import ordered
from expkit.record import Notes, RunRecord, deviation, read_data


def with_other_rows(rows: list[Row]) -> list[Row]:
    """The rows, each marked that does not compare with the best of the same metric.

    It is scored on other folds; or it has been trained with other data than the best of the same experiment.
    """
    best: dict[object, Row] = {}
    for row in ordered(rows):
        if row.score is not None:
            best.setdefault(row.metric, row)
            best.setdefault((row.experiment, row.metric), row)
    return [replace(row, marks=(*row.marks, *_other(row, best))) if row.metric in best else row for row in rows]


def _other(row: Row, best: Mapping[object, Row]) -> list[str]:
    others = {
        "other folds": have_other_folds(best[row.metric], row),
        "other data": "mixed data" not in row.marks
        and have_other_data(best.get((row.experiment, row.metric), row), row),
    }
    return [mark for mark, is_so in others.items() if is_so]


def have_other_data(one: Row, other: Row) -> bool:
    """Whether a file that both have been trained with had another content; each may have read files of its own."""
    if one.data == other.data:
        return False
    output = one.folder.parents[1]
    known = [[_files(output, digest or "") for digest in row.data] for row in (one, other)]
    pairs = ((before, after) for before in known[0] for after in known[1])
    return any(before[name] != after[name] for before, after in pairs for name in before.keys() & after.keys())


@functools.lru_cache(maxsize=256)
def _files(output: Path, digest: str) -> dict[str, list[Any]]:
    return read_data(output, digest) or {}


def have_other_folds(one: Row | RunRecord, other: Row | RunRecord) -> bool:
    """Whether a fold of one number leaves out other rows in the two; while folds are missing, those that both have."""
    if one.left_out == other.left_out:
        return False
    are_whole = all(len(run.left_out) == run.n_folds for run in (one, other))
    both = one.left_out.keys() & other.left_out.keys()
    return are_whole or any(one.left_out[fold] != other.left_out[fold] for fold in both)


def grouped_by_seed(rows: list[Row]) -> list[Row]:
    """Runs that differ only in their seed as one row: mean and standard deviation (n - 1) of their scores."""
    return [_as_one(group) for group in _by_seed(rows)]


def _by_seed(rows: list[Row]) -> list[list[Row]]:
    """The rows in groups that differ only in their seed."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        same = {key: value for key, value in row.config.items() if key not in ("exp.seed", "exp.fold")}
        own = row.run if row.seed is None else None  # a blend has no seed
        key = json.dumps([row.experiment, row.metric, own, same], default=str, sort_keys=True)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def find_seeds(name: str) -> list[Path]:
    """The folders of runs that differ only in their seed.

    Args:
        name: of one of them, as for `find_run`, or a part of the names of all of them, and of no others.

    Raises:
        Error: no run, or other runs too.
    """
    groups = _by_seed(read_board())
    try:
        one = find_run(name)
    except Error:
        found = [group for group in groups if any(name in row.name for row in group)]
        if not found:
            raise
        if len(found) > 1:
            each = [f"{min(group, key=lambda row: len(row.name)).name} ({len(group)} seeds)" for group in found[:8]]
            raise Error(f"{name} may be {', '.join(each)}: name one run of the seeds") from None
        return [row.folder for row in found[0]]
    return next(([row.folder for row in group] for group in groups if one in [row.folder for row in group]), [one])


def _means(values: list[dict[str, float]]) -> dict[str, float]:
    """Of what all have."""
    names = [name for name in values[0] if all(name in each for each in values)]
    return {name: statistics.fmean(each[name] for each in values) for name in names}


def _as_one(group: list[Row]) -> Row:
    scores = [row.score for row in group if row.score is not None]
    if len(scores) < 2:
        return group[0]
    marks = [mark for row in group for mark in row.marks]
    is_mixed = any(have_other_folds(group[0], row) for row in group)
    folds = [] if is_mixed else [fold for fold in group[0].fold_scores if all(fold in row.fold_scores for row in group)]
    return replace(
        min(group, key=lambda row: len(row.run)),
        fold_scores={fold: statistics.fmean(row.fold_scores[fold] for row in group) for fold in folds},
        score=statistics.fmean(scores),
        std=deviation(scores),
        other_metrics=_means([row.other_metrics for row in group]),
        notes=Notes(group[0].name),
        seed=f"{len({row.seed for row in group})} seeds",
        folds_done=sum(row.folds_done for row in group),
        n_folds=sum(row.n_folds or 0 for row in group),
        rows=sum(row.rows for row in group),
        seconds=sum(row.seconds or 0 for row in group),
        finished=max(row.finished or "" for row in group),
        marks=tuple(dict.fromkeys([*marks, *(["mixed folds"] if is_mixed else [])])),
    )
