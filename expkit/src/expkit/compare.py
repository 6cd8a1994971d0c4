"""Two runs: what differs, and which is better."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Console

from expkit import noise
from expkit.board import NOT_COMPARABLE, Entry, entries, find_seeds, incomparable, ranked, read_board
from expkit.code import SCHEMAS
from expkit.config import POSTPROCESS, is_compared, load_experiment, same
from expkit.data import changed_files, read_manifest
from expkit.errors import Error, described, plain_table, print_line, require, score_text, text
from expkit.project import code_root, display_path, output_dir
from expkit.scores import fold_scores, postprocess, postprocessed, score
from expkit.snapshot import git
from expkit.store import CV, LOCKBOX, Run, fold_title, has_box
from expkit.submission import mean_of
from expkit.tables import differing, side_by_side

if TYPE_CHECKING:
    from expkit.config import Experiment, Metric
    from expkit.tables import Columns

    Pairs = Sequence[tuple[Run, Run]]

STAT = ("--stat=72", "--stat-count=8")
GROUP = "group"  # a column of out-of-fold predictions: rows of one group are not independent


def paired_by_seed(one: str, other: str) -> list[tuple[Run, Run]]:
    """The runs of two configurations, in pairs of the same seed, of the training and of the folds.

    Args:
        one, other: names as of `find_seeds`.

    Raises:
        Error: no run has such a name, the two are of one configuration, or they have no seed in common.
    """
    found = [find_seeds(name) for name in (one, other)]
    old, new = ({run.seeds: run for run in reversed(runs)} for runs in found)
    seeds = [", ".join(map(str, _named([(run, run) for run in runs]))) for runs in found]
    require(bool(old.keys() & new.keys()), f"{one} and {other} have no seed in common: {seeds[0]}; {seeds[1]}")
    return [(old[seed], new[seed]) for seed in reversed(old) if seed in new]


def _named(pairs: Pairs) -> list[Any]:
    """The seed of each pair; "42/1", with that of the folds, where these differ."""
    seeds = [old.seeds for old, _ in pairs]
    return [seed if len({of_folds for _, of_folds in seeds}) < 2 else f"{seed}/{folds}" for seed, folds in seeds]


def compare(pairs: Pairs, code: bool = False) -> dict[str, Any]:
    """What differs between two runs, as JSON has it, and under "comparison" which is better.

    A value that differs is {"old": ..., "new": ...}, without the side that lacks it.

    Args:
        pairs: the two; more pairs, of other seeds, count for the scores and the comparison alone.
        code: the lines that differ in the experiment's folder, and all other files; else how many lines of which files.
    """
    runs = pairs[0]
    old, new = entries(runs)
    are_trained = all(run.done for run in runs)
    return {
        "old": {"run": old.run.title, "folder": str(old.run.folder), "marks": list(old.marks)},
        "new": {"run": new.run.title, "folder": str(new.run.folder), "marks": list(new.marks)},
        "config": _changes(old.config, new.config),
        "scores": _scores_of_seeds(pairs) if len(pairs) > 1 else _scores(*runs),
        "comparison": verdict(pairs) | _best_of_many(pairs),
        "packages": _changes(*(run.packages() for run in runs)) if are_trained else {},
        "machine": _changes(*map(_machine, runs)) if are_trained else {},
        "data": _data(*runs),
        "code": _code(*runs, code),
    }


def _best_of_many(pairs: Pairs) -> dict[str, Any]:
    """Under "best_of", what `best_of_many` says of one of two runs; {}: nothing. A mean over seeds is less lucky."""
    many = noise.best_of_many(ranked(read_board())) if len(pairs) == 1 else {}
    return next(({"best_of": many[run.title]} for run in pairs[0] if run.title in many), {})


def _changes(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> dict[Any, dict[str, Any]]:
    """The values that differ, by key; which folds were asked for is not one of the run."""
    keys = [key for key in {**old, **new} if key != "exp.fold" and not same(old.get(key), new.get(key))]
    return {key: _both(old, new, key) for key in keys}


def _both(old: Mapping[Any, Any], new: Mapping[Any, Any], key: Any) -> dict[str, Any]:
    return {name: side[key] for name, side in (("old", old), ("new", new)) if key in side}


def _machine(run: Run) -> dict[str, Any]:
    """What the first fold was trained on, as origin.json says."""
    origin = next(iter(run.done.values())).origin()
    own: dict[str, Any] = {key: origin[key] for key in ("python", "platform") if key in origin}
    return own | (origin.get("environment") or {})


def _scores(old: Run, new: Run) -> dict[str, Any] | None:
    """The scores by "folds", with "CV" if both have the same; of a single split, "hold-out" alone. None: of neither."""
    metric = old.metric or new.metric
    found = [run.score_of(metric) for run in (old, new)]
    before, after = (score.folds if score else {} for score in found)
    if not (before or after):
        return None
    folds = {str(fold): _both(before, after, fold) for fold in {**before, **after}}
    whole = {name: score.value for name, score in zip(("old", "new"), found, strict=True) if score}
    of_folds = {} if old.n_folds == new.n_folds == 1 else {"folds": folds}
    return {"metric": metric} | of_folds | ({new.kind or "score": whole} if before.keys() == after.keys() else {})


def _scores_of_seeds(pairs: Pairs) -> dict[str, Any] | None:
    """The CV scores seed by seed, {} where the two have other folds; if none has, "mean". None: as of `_scores`."""
    named = zip(_named(pairs), pairs, strict=True)
    seeds = {str(name): scores.get(pair[1].kind or "score", {}) for name, pair in named if (scores := _scores(*pair))}
    sides = ("old", "new") if seeds and all(seeds.values()) else ()
    mean = {side: fmean(each[side] for each in seeds.values()) for side in sides}
    return {"metric": pairs[0][0].metric, "seeds": seeds} | ({"mean": mean} if mean else {}) if seeds else None


def _data(old: Run, new: Run) -> dict[str, Any]:
    """Whether both have the same data, and how the files differ; None where nobody knows, or nothing is trained."""
    digests = [sorted(filter(None, run.data)) for run in (old, new)]
    if not (old.done and new.done) or digests[0] == digests[1]:
        return {"same": True if old.done and new.done else None, "changes": []}
    before, after = ([read_manifest(output_dir(), digest) for digest in side] for side in digests)
    known = [(one, other) for one in before for other in after if one is not None and other is not None]
    lines = dict.fromkeys(line for pair in known for line in changed_files(*pair))  # of mixed data, each against each
    return {"same": False, "changes": [*lines] if known and len(known) == len(before) * len(after) else None}


def _code(old: Run, new: Run, lines: bool) -> dict[str, Any]:
    """The difference of two snapshots: the experiment's folder, as lines or a list of files, and a list of the others.

    "same" is None where nobody knows, and "reason" says why.
    """
    if old.recipe or new.recipe:
        return {"same": None, "reason": "a blend has none of its own, but that of its runs"}
    if old.git is None or new.git is None:
        return {"same": None, "reason": "unknown: one of the runs has no snapshot"}
    before, after = old.git["snapshot"], new.git["snapshot"]
    if before == after and old.experiment == new.experiment:
        return {"same": True}
    root, how = code_root(), [] if lines else STAT
    try:
        prefix = git(root, "rev-parse", "--show-prefix")
        trees = [f"{side}:{prefix}experiments/{run.experiment}" for side, run in ((before, old), (after, new))]
        own = git(root, "diff", "--no-color", *how, *trees, "--", ":/", f":(top,exclude,literal){SCHEMAS}")
        left_out = [f":(exclude,literal){name}" for name in ("notes", "experiments")]  # one never imports another
        rest = git(root, "diff", "--no-color", *how, before, after, "--", ".", *left_out)
    except (subprocess.CalledProcessError, OSError) as error:  # a snapshot is gone; there is no git
        return {"same": None, "reason": f"unknown: {str(getattr(error, 'stderr', None) or error).strip()}"}
    return {"same": not (own or rest), "experiment": own, "other_files": rest}


# Which is better


def verdict(pairs: Pairs) -> dict[str, Any]:
    """Whether the second runs are better than the first, as JSON has it.

    Args:
        pairs: two runs; or a pair for each seed.

    Returns:
        "folds" (the trainings) and "rows": "better_by" and its 95 % interval, "low" and "high", or a "reason".
        "verdict": better or worse only when the trainings say so, and the rows where they can be compared; promising
        when the rows say better, and the trainings are too few to say it; cannot tell when neither has an interval;
        else could be noise. Without "folds" and "rows": "identical", of the same predictions, and "not comparable",
        both with a "reason".
    """
    first, seeds = pairs[0][0], _named(pairs) if len(pairs) > 1 else []
    numbers = [sorted(old.fold_scores.keys() & new.fold_scores.keys()) for old, new in pairs]
    try:
        _require_comparable(pairs)
        by_row = _over_rows(pairs, numbers)
    except Error as error:
        return {"verdict": NOT_COMPARABLE, "reason": str(error)}
    found = {"metric": first.metric, "greater_is_better": first.greater_is_better}
    if by_row is None:
        return found | {"verdict": noise.IDENTICAL, "reason": "the out-of-fold predictions are the same"}
    rows, interval = ({"reason": by_row}, None) if isinstance(by_row, str) else (asdict(by_row), by_row)
    try:
        trainings = noise.over_folds([(Entry((old,)), Entry((new,))) for old, new in pairs])
    except Error as error:
        return found | {"verdict": noise.together(None, interval), "folds": {"reason": str(error)}, "rows": rows}
    folds = asdict(trainings) | {"folds": sorted({fold for each in numbers for fold in each}), "seeds": seeds}
    return found | {"verdict": noise.together(trainings, interval), "folds": folds, "rows": rows}


def unlock(run: Run) -> dict[str, Any]:
    """The score of the locked box of a run: of the mean prediction of its folds, as a submission is made.

    Of labels, which have no mean, it is the mean of the scores of the folds.

    Returns:
        "metric", "score", "models" (how many folds), "single" (the mean of their scores, as CV is of single models),
        "rows"; and the 95 % interval of the score, "low" and "high", or a "reason".

    Raises:
        Error: there is no box, folds are missing, or the metric fails.
    """
    require(run.is_complete, f"{run.title} has folds that are not done: train them first (exp.fold=null)")
    require(has_box(run.results), f"{run.title} has no locked box: train it with exp.split.lockbox=0.2")
    folds, experiment = list(run.done.values()), _experiment(run)
    each, mean = [fold.predictions(LOCKBOX) for fold in folds], mean_of([run], [folds], LOCKBOX).table()
    is_mean = mean.keys() >= each[0].keys()
    tables = [*each, mean] if is_mean else each
    if experiment.postprocess is not None:
        oof = {key: column for key, column in run.fold_by_fold().items() if key != "fold"}
        tables = [postprocess(experiment, oof, table, f"the locked box of {run.title}") for table in tables]
    name, metric = next(iter(experiment.metrics.items()))
    scores = [score(name, metric, table) for table in tables]
    about = {"metric": name, "score": scores[-1] if is_mean else fmean(scores), "models": len(each)}
    about |= {"single": fmean(scores[: len(each)]), "rows": len(mean["id"])}
    try:
        require(is_mean, "labels have no mean, the score is that of the scores")
        interval = noise.over_rows(partial(score, name, metric), [tables[-1:]], -1, mean.get(GROUP))
    except Error as error:
        return about | {"reason": str(error)}
    return about | {"low": interval.low, "high": interval.high}


def _require_comparable(pairs: Pairs) -> None:
    """Raise an `Error` that says why the runs cannot be compared, if so: other metric, folds, target, data, ..."""
    for old, new in pairs:
        for run in (old, new):
            require(bool(run.fold_scores), f"{run.title} has no finished fold")
        require(old.metric == new.metric, f"other metric: {old.metric} in {old.title}, {new.metric} in {new.title}")
        reasons = incomparable(old, new)
        require(not reasons, "; ".join(f"{flag}: {reason}" for flag, reason in reasons.items()))
        other_data = incomparable(pairs[0][0], old).get("other data")  # from seed to seed
        require(other_data is None, f"other data: {other_data}")
    over = {run.score_over for pair in pairs for run in pair} - {None}
    require(len(over) < 2, "other metric: one is scored over all rows, one over the folds: repeat its command")


def _over_rows(pairs: Pairs, folds: Sequence[Sequence[int]]) -> noise.OverRows | str | None:
    """As `over_rows`, by the metric of the experiment, which gives the recorded scores.

    Args:
        folds: which of them, for each pair.

    Returns:
        None: the predictions are the same. A text: why the rows say nothing.

    Raises:
        Error: the runs do not compare: rows or targets differ, or the metric gives other scores than are recorded.
    """
    import numpy

    first, runs = pairs[0][0], [run for pair in pairs for run in pair]
    if not any(run.rows for run in runs):
        return "the experiment returns its score, without rows"
    metrics = _experiment(first).metrics
    require(first.metric in metrics, f"{first.scored_by} has no metric {first.metric} any more")
    metric = metrics[first.metric or ""]
    tables = [_rows(run, each, metric) for pair, each in zip(pairs, folds, strict=True) for run in pair]
    tables = side_by_side(tables, [run.title for run in runs])
    groups = tables[0].get(GROUP) if all(GROUP in table for table in tables) else None
    is_same = groups is None or all(numpy.array_equal(groups, table[GROUP]) for table in tables)
    require(is_same, f"the column {GROUP} is not the same in all of the runs")
    matched, sign = list(zip(tables[::2], tables[1::2], strict=True)), 1 if first.greater_is_better else -1
    if all(old.keys() == new.keys() and not differing(old, new).any() for old, new in matched):
        return None
    try:
        by_metric = partial(score, first.metric or "", metric, over=first.score_over or "rows")
        return noise.over_rows(by_metric, matched, sign, groups)
    except Error as error:
        return str(error)


def _rows(run: Run, folds: Sequence[int], metric: Metric) -> Columns:
    """The out-of-fold predictions of some folds, as they are scored.

    Raises:
        Error: the metric, as it is now, gives another score than the one that is recorded.
    """
    import numpy

    table, lacking = run.joined()
    if run.cv is not None and POSTPROCESS in run.cv["made_by"]:
        table, lacking = postprocessed(_experiment(run), table), {}
    is_in = numpy.isin(table["fold"], folds)
    table = table if is_in.all() else {name: column[is_in] for name, column in table.items()}
    for fold, value in fold_scores(run.metric or "", metric, table, lacking).items():
        recorded = run.fold_scores[fold]
        now = f"{run.metric} now gives {value:.6g} for {fold_title(fold, run.n_folds)} of {run.title}"
        if math.isclose(value, recorded, rel_tol=1e-6, abs_tol=1e-9):
            continue
        unseen = f"delete {display_path(run.folder / CV)} and " if _experiment(run).has_scored(run.cv) else ""
        raise Error(f"{now}, but {recorded:.6g} is recorded: {unseen}repeat the command of the run to score it again")
    return table


def _experiment(run: Run) -> Experiment:
    """The experiment that scores a run, as its code is now."""
    try:
        return load_experiment(run.scored_by).experiment
    except Exception as error:
        raise Error(f"{run.scored_by} cannot be loaded: {described(error)}") from error


# For a reader


def show_diff(console: Console, found: dict[str, Any]) -> None:
    """Print what `compare` has found."""
    old, new, data, code = (found[name] for name in ("old", "new", "data", "code"))
    print_line(console, f"{old['run']} → {new['run']}", "bold")
    if not found["config"]:
        print_line(console, "configuration: the same")
    _show_changes(console, "configuration", found["config"])
    if [*filter(is_compared, found["config"])] == ["exp.seed"] and False not in (code["same"], data["same"]):
        print_line(console, "only the seed differs")
    if found["scores"]:
        _show_scores(console, found["scores"])
    for line in format_verdict(found["comparison"], new["run"]):
        print_line(console, line)
    for side in (old, new):
        if side["marks"]:
            print_line(console, f"{side['run']}: {', '.join(side['marks'])}", "yellow")
    _show_changes(console, "packages", found["packages"])
    _show_changes(console, "machine", found["machine"])
    if data["same"] is False:
        print_line(console, "data", "bold")
        for line in ["other data; it is not known which files"] if data["changes"] is None else data["changes"]:
            print_line(console, f"  {line}")
    print_line(console, "code", "bold")
    if code["same"] is not False:
        print_line(console, "the same" if code["same"] else code["reason"], "dim")
        return
    for line in [*code["experiment"].splitlines(), *code["other_files"].splitlines()]:
        print_line(console, line, {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))


def _show_changes(console: Console, title: str, changes: dict[str, dict[str, Any]]) -> None:
    both = {key: sides for key, sides in changes.items() if len(sides) == 2}
    if both:
        rows = [[key, text(sides["old"], "red"), "→", text(sides["new"], "green")] for key, sides in both.items()]
        console.print(plain_table([title, "", "", ""], rows))
    for side, style in (("old", "red"), ("new", "green")):
        alone = [f"{key}={sides[side]}" for key, sides in changes.items() if sides.keys() == {side}]
        if alone:
            print_line(console, f"{title}, of the {side} one alone: {', '.join(alone)}", style)


def _show_scores(console: Console, found: dict[str, Any]) -> None:
    rows, what = [], next((f" of {name}" for name in ("seed", "fold") if f"{name}s" in found), "")
    whole = {name: sides for name, sides in found.items() if name not in ("metric", "folds", "seeds")}
    for name, sides in {**found.get("folds", {}), **found.get("seeds", {}), **whole}.items():
        change = f"{sides['new'] - sides['old']:+.4f}" if len(sides) == 2 else ""
        rows.append([name, *(score_text(sides.get(side)) for side in ("old", "new")), change])
    console.print(plain_table([f"{found['metric']}{what}", "old", "new", ""], rows))


def format_verdict(found: dict[str, Any], name: str) -> list[str]:
    """What `verdict` has found, a line each.

    Args:
        name: of the second run.
    """
    if "reason" in found:
        return [f"verdict: {found['verdict']}: {found['reason']}"]
    folds, rows = found["folds"], found["rows"]
    count, seeds, groups = len(folds.get("folds", ())), len(folds.get("seeds", ())), rows.get("groups")
    of_folds = f"{count} fold{'' if count == 1 else 's'}" + (f" x {seeds} seeds" if seeds else "")
    of_rows = f"{rows.get('rows', 0):,} rows" + (f" in {groups:,} groups" if groups else "")
    lines = [
        _line(name, one, how) if "low" in one else f"over {what}: {one['reason']}"
        for what, one, how in (("folds", folds, of_folds), ("rows", rows, of_rows))
    ]
    repeat = noise.REPEAT_FOLDS if count > 1 else noise.REPEAT
    is_promising = found["verdict"] == noise.PROMISING and count  # else the line above says it
    then = f": the rows say better, the trainings are too few: train {repeat}" if is_promising else ""
    many = [noise.luck_text(**found["best_of"])] if "best_of" in found else []
    return [*lines, *many, f"verdict: {found['verdict']}{then}"]


def _line(name: str, interval: dict[str, Any], how: str) -> str:
    better_by, low, high = (interval[key] for key in ("better_by", "low", "high"))
    is_noise = ": could be noise" if low <= 0 <= high else ""
    by, least, most = (f"{abs(each):.4g} {'worse' if each < 0 else 'better'}" for each in (better_by, low, high))
    return f"{name} is {by} ({how}, 95 % interval {least} to {most}){is_noise}"
