"""Runs beside each other: which have scores that compare, and which differ only in their seed."""

from __future__ import annotations

import functools
import json
import statistics
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from expkit.errors import Error
from expkit.find import find_run
from expkit.inspect.board import Row, read_board
from expkit.notes import Notes
from expkit.record import RunRecord, deviation, read_data

NOT_COMPARABLE = "not comparable"


def with_other_rows(rows: list[Row]) -> list[Row]:
    """The rows, each marked with what makes its score another one than those of most runs of its problem.

    A problem is a metric of one name. Where two things are equally frequent, the older runs decide. Copies of a run do
    not count. What data a run was trained with is held against the runs of its own experiment.
    """
    problems: dict[str | None, list[Row]] = {}
    experiments: dict[tuple[str, str | None], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.finished or ""):
        if row.score is not None and not row.differs:
            problems.setdefault(row.metric, []).append(row)
            experiments.setdefault((row.experiment, row.metric), []).append(row)
    usual = {metric: _usual(group) for metric, group in problems.items()}
    rare = {key: _rare_data(group) for key, group in experiments.items()}
    return [
        _marked(row, usual[row.metric], rare.get((row.experiment, row.metric), set()))
        if row.score is not None and row.metric in usual
        else row
        for row in rows
    ]


def _marked(row: Row, usual: Row, rare_data: Set[str]) -> Row:
    others = list(unlike(usual, row))
    if None not in (usual.made_by, row.made_by) and usual.made_by != row.made_by:
        others.append("other metric")
    if "mixed data" not in row.marks and row.data & rare_data:
        others.append("other data")
    return replace(row, marks=(*row.marks, *others), differs=(*row.differs, *others))


def _usual(group: Sequence[Row]) -> Row:
    """A run with the folds and targets of most runs, given the direction and the metric of most.

    Args:
        group: the runs of a problem, the oldest first.
    """
    folds = Counter(part for row in group for part in row.left_out.items())
    targets = Counter(part for row in group for part in row.targets.items())

    def agreement(row: Row) -> tuple[int, int, int]:
        """With how many runs it shares a fold; how many folds it shares; how many targets."""
        shared = [folds[part] for part in row.left_out.items()]
        return max(shared, default=0), sum(shared), sum(targets[part] for part in row.targets.items())

    directions, metrics = (Counter(getattr(row, name) for row in group) for name in ("greater_is_better", "made_by"))
    direction, metric = (counts.most_common(1)[0][0] for counts in (directions, metrics))
    return replace(max(group, key=agreement), greater_is_better=direction, made_by=metric)


def _rare_data(group: Sequence[Row]) -> set[str]:
    """The data, as hashes, with a file of which most runs of an experiment had another content, the oldest first."""
    runs = Counter(digest for row in group for digest in row.data if digest)
    if len(runs) < 2:
        return set()
    files = {digest: _files(group[0].folder.parents[1], digest) for digest in runs}
    votes: dict[str, Counter[str]] = {}
    for digest, count in runs.items():
        for name, content in files[digest].items():
            votes.setdefault(name, Counter())[str(content)] += count
    usual = {name: counts.most_common(1)[0][0] for name, counts in votes.items()}
    return {digest for digest in runs if any(str(each) != usual[name] for name, each in files[digest].items())}


def unlike(old: Row, new: Row) -> dict[str, str]:
    """Why the scores of two runs of one metric do not compare; {} when they do.

    Returns:
        marks of the second run, each with the same in words.
    """
    found: dict[str, str] = {}
    if old.greater_is_better != new.greater_is_better:
        found["other direction"] = f"a higher score is better in {(new if new.greater_is_better else old).name} alone"
    both = old.left_out.keys() & new.left_out.keys()
    if have_other_folds(old, new):
        are_whole = all(len(row.left_out) == old.n_folds == row.n_folds for row in (old, new))
        is_fewer = are_whole and new.rows < old.rows
        mark = f"{new.rows} of {old.rows} rows" if is_fewer else "other folds"
        found[mark] = f"the folds of {new.name} leave out other rows than those of {old.name}"
    elif not both:
        found["no common fold"] = f"no fold is done in both {old.name} and {new.name}"
    elif any(old.targets.get(fold) != new.targets.get(fold) for fold in both):
        found["other target"] = f"the targets of {new.name} are not those of {old.name}"
    return found


def have_other_data(one: Row, other: Row) -> bool:
    """Whether a file that both have been trained with had another content; each may have read files of its own."""
    return one.data != other.data and bool(_rare_data([one, other]))


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
        differs=tuple(mark for row in group for mark in row.differs),
    )
