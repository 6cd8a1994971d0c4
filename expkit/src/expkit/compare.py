"""Two runs: what differs, whether their scores compare, and which is better."""

from __future__ import annotations

import functools
import json
import math
import statistics
import subprocess
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expkit.board import Row, ordered, read_board, row_of
from expkit.code import SCHEMAS
from expkit.config import is_compared, load_experiment, same
from expkit.data import changed_files, read_manifest
from expkit.errors import Error, require, text
from expkit.noise import NOISE, PAIR, WORSE, Interval, Jackknife, Runs, corrected_t, scatter, together
from expkit.notes import Notes
from expkit.project import code_root, output_dir
from expkit.scores import fold_scores, mean_of_folds
from expkit.snapshot import git
from expkit.store import Run, deviation, find_run, fold_title, read_run
from expkit.tables import aligned, require_same_targets

if TYPE_CHECKING:
    from expkit.config import Metric
    from expkit.tables import Columns

    Pairs = Sequence[tuple[Run, Run]]


def compare(pairs: Sequence[tuple[Path, Path]], color: bool = False) -> dict[str, Any]:
    """What differs between two runs, as JSON has it, and under "comparison" which is better.

    A value that differs is {"old": ..., "new": ...}, without the side that lacks it.

    Args:
        pairs: the two; more pairs, of other seeds, count for the comparison alone.
        color: colour the difference of the code as git does for a terminal.
    """
    from expkit.show import blend_metadata

    records = [(read_run(old), read_run(new)) for old, new in pairs]
    runs = records[0]
    rows = [row_of(run) for run in runs]
    origins = [next((fold.origin() for fold in run.done.values()), {}) for run in runs]
    are_trained = all(run.done for run in runs)
    sides = [{"run": row.name, "folder": str(row.folder), "marks": list(row.marks)} for row in rows]
    found: dict[str, Any] = {
        **dict(zip(("old", "new"), sides, strict=True)),
        "config": _changes(rows[0].config, rows[1].config),
        "weights": _changes(*(blend_metadata(run.recipe)["weights"] if run.recipe else {} for run in runs)),
        "scores": _scores(*runs),
        "other_folds": have_other_folds(*runs),
        "comparison": verdict(records),
        "packages": _changes(*(run.packages() for run in runs)) if are_trained else {},
        "machine": _changes(*map(_machine, origins)) if are_trained else {},
        "data": _data(*runs),
        "code": _code(*runs, color),
    }
    is_same = not (found["packages"] or found["machine"]) and found["data"]["same"] and found["code"]["same"] is True
    only_seed = is_same and {key for key in found["config"] if is_compared(key)} == {"exp.seed"}
    return found | {"only_seed_differs": only_seed}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    keys = [key for key in {**old, **new} if not same(old.get(key), new.get(key))]
    return {key: _both(old, new, key) for key in keys}


def _both(old: dict[str, Any], new: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: side[key] for name, side in (("old", old), ("new", new)) if key in side}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _machine(origin: dict[str, Any]) -> dict[str, Any]:
    about = {key: origin.get(key) for key in ("python", "platform") if origin.get(key)}
    return about | {key: value for key, value in _dict(origin.get("environment")).items() if value is not None}


def _scores(old: Run, new: Run) -> dict[str, Any] | None:
    """The scores fold by fold, and "CV"; "both" is the mean over the folds that both have, when one has others too."""
    metric = old.metric or new.metric
    found = [run.score_of(metric) for run in (old, new)]
    sides: list[dict[str, float]] = []
    for score in found:
        sides.append({str(number): value for number, value in score.folds.items()} if score else {})
    if not any(sides):
        return None
    folds = dict.fromkeys([*sides[0], *sides[1]])
    whole: dict[str, dict[str, float]] = {}
    if sides[0].keys() == sides[1].keys():  # else the two are of different rows
        whole = {"CV": {name: score.value for name, score in zip(("old", "new"), found, strict=True) if score}}
    elif both := sides[0].keys() & sides[1].keys():
        means = (statistics.fmean(side[fold] for fold in both) for side in sides)
        whole = {"both": dict(zip(("old", "new"), means, strict=True))}
    return {"metric": metric, "folds": {fold: _both(sides[0], sides[1], fold) for fold in folds}, **whole}


def _data(old: Run, new: Run) -> dict[str, Any]:
    """Whether both have the same data, and how the files differ; None where nobody knows, or nothing is trained."""
    digests = [
        sorted({fold.result["data"] for fold in run.done.values() if fold.result and fold.result["data"]})
        for run in (old, new)
    ]
    if not (old.done and new.done):
        return {"same": None, "changes": []}
    if digests[0] == digests[1]:
        return {"same": True, "changes": []}
    manifests = [read_manifest(output_dir(), side[0]) if side else None for side in digests]
    if manifests[0] is None or manifests[1] is None:
        return {"same": False, "changes": None}
    return {"same": False, "changes": changed_files(manifests[0], manifests[1])}


def _code(old: Run, new: Run, color: bool) -> dict[str, Any]:
    """The difference of two snapshots: the experiment's folder line by line, the rest as a list of files.

    "same" is None where nobody knows, and "reason" says why.
    """
    if old.recipe or new.recipe:
        return {"same": None, "reason": "a blend has none of its own, but that of its runs"}
    if old.git is None or new.git is None:
        return {"same": None, "reason": "unknown: one of the runs has no snapshot"}
    before, after = old.git["snapshot"], new.git["snapshot"]
    if before == after and old.experiment == new.experiment:
        return {"same": True}
    root, colored = code_root(), f"--color={'always' if color else 'never'}"
    try:
        prefix = git(root, "rev-parse", "--show-prefix")
        sides = ((before, old.experiment), (after, new.experiment))
        trees = [f"{side}:{prefix}experiments/{name}" for side, name in sides]
        own = git(root, "diff", colored, "--end-of-options", *trees, "--", ":/", f":(top,exclude,literal){SCHEMAS}")
        left_out = [f":(exclude,literal)experiments/{name}" for _, name in sides] + [f":(exclude,glob)**/{SCHEMAS}/**"]
        rest = git(root, "diff", "--stat=100", "--end-of-options", before, after, "--", ".", *left_out)
    except subprocess.CalledProcessError as error:
        return {"same": None, "reason": f"unknown: {error.stderr.strip()}"}
    except OSError as error:
        return {"same": None, "reason": f"unknown: git cannot be run: {error.strerror}"}
    return {"same": not (own or rest), "experiment": own, "other_files": rest}


# For a reader


def show_diff(console: Console, found: dict[str, Any]) -> None:
    """Print what `compare` has found."""
    console.print(text(f"{found['old']['run']} → {found['new']['run']}", "bold"), soft_wrap=True)
    if not found["config"]:
        console.print(Text("configuration", "bold"), "the same")
    _show_changes(console, "configuration", found["config"])
    _show_changes(console, "weights", found["weights"])
    _show_scores(console, found["scores"])
    if found["only_seed_differs"]:
        console.print("only the seed differs")
    for line in worded(found["comparison"], found["new"]["run"]):
        console.print(text(line), soft_wrap=True)
    for side in (found["old"], found["new"]):
        if side["marks"]:
            console.print(text(f"{side['run']}: {', '.join(side['marks'])}", "yellow"), soft_wrap=True)
    _show_changes(console, "packages", found["packages"])
    _show_changes(console, "machine", found["machine"])
    _show_data(console, found["data"])
    console.print(Text("code", "bold"))
    console.print(_code_text(found["code"]), soft_wrap=True)


def _show_changes(console: Console, title: str, changes: dict[str, dict[str, Any]]) -> None:
    if not changes:
        return
    table = Table(title, "", "", "", box=None, pad_edge=False, header_style="bold")
    for key, sides in changes.items():
        values = [str(sides[name]) if name in sides else "(not there)" for name in ("old", "new")]
        table.add_row(text(key), text(values[0], "red"), "→", text(values[1], "green"))
    console.print(table)


def _show_scores(console: Console, scores: dict[str, Any] | None) -> None:
    if scores is None:
        return
    table = Table("", "old", "new", "", box=None, pad_edge=False, header_style="bold")
    table.columns[0].header = text(f"{scores['metric']} of fold")
    for fold, sides in {**scores["folds"], **{name: scores[name] for name in ("CV", "both") if name in scores}}.items():
        before, after = sides.get("old"), sides.get("new")
        change = "" if before is None or after is None else f"{after - before:+.4f}"
        table.add_row(fold, *("" if score is None else f"{score:.4f}" for score in (before, after)), change)
    console.print(table)


def _show_data(console: Console, data: dict[str, Any]) -> None:
    if data["same"] is not False:
        return
    console.print(Text("data", "bold"))
    if data["changes"] is None:
        console.print(Text("other data; it is not known which files", "dim"))
    for line in data["changes"] or ():
        console.print(text(f"  {line}"), soft_wrap=True)


def _code_text(code: dict[str, Any]) -> Text:
    if code["same"]:
        return Text("the same", "dim")
    if code["same"] is None:
        return text(code["reason"], "dim")
    return Text.from_ansi("\n".join(part for part in (code["experiment"], code["other_files"]) if part))


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
    return read_manifest(output, digest) or {}


def have_other_folds(one: Row | Run, other: Row | Run) -> bool:
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
    matched: list[Columns] = []
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
    for run, table in zip(runs, tables, strict=True):
        matched.append(aligned(table, tables[0]["id"], run.title, first.title))
        try:
            require_same_targets(matched[-1], matched[0], run.title, first.title)
        except Error as error:
            raise _NotComparable(str(error)) from error
    groups = matched[0].get(GROUP) if all(GROUP in table for table in matched) else None
    if groups is not None and not all(numpy.array_equal(groups, table[GROUP]) for table in matched):
        raise Error(f"the column {GROUP} is not the same in all of the runs")
    sign = 1 if first.greater_is_better else -1
    metric = functools.partial(mean_of_folds, name, metric) if first.score_over == "folds" else metric
    return Jackknife(name, metric, list(zip(matched[::2], matched[1::2], strict=True)), sign, groups)


def _metric(run: Run) -> tuple[str, Metric]:
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


def _scored(run: Run, folds: Sequence[int], name: str, metric: Metric) -> Columns:
    """The out-of-fold predictions of some folds, of which the metric gives the scores that are recorded."""
    import numpy

    table, recorded = run.fold_by_fold(), run.score_of()
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
