"""One run for a reader at the terminal and, as JSON, for a program: scores, folds, origin, learning curves."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from expkit.board import COLUMNS
from expkit.config import Loaded, flat, fold_file, load_experiment, sounds_like_error
from expkit.errors import duration, score_text, strip_control, text
from expkit.frames import LoadedRun, rows_of
from expkit.history import AXES
from expkit.notes import worded
from expkit.project import display_path
from expkit.rundir import changes_since
from expkit.scores import is_current, submission_summary
from expkit.store import SUBMISSION, FoldRecord, Recipe, Run, Score, read_run


def show_run(console: Console, folder: Path) -> None:
    """Print one run: score, folds, configuration, origin, learning curve."""
    loaded = LoadedRun(folder)
    run, about = loaded.record, about_run(loaded)
    console.print(text(run.title, "bold"), text(f"  {display_path(folder)}", "dim"), soft_wrap=True)
    for metric, found in about["scores"].items():
        scored = f"CV {metric} {score_text(found['score'], found['std'])}"
        scored += f" ({score.other})" if (score := run.score_of(metric)) and score.other else ""
        done = f"{about['folds_done']}/{about['n_folds']} folds, {about['rows']} rows"
        console.print(text(f"{scored}  {done}"), soft_wrap=True)
    if about["marks"]:
        marks = [f"pruned {about['pruned']}" if mark == "pruned" else mark for mark in about["marks"]]
        console.print(text(", ".join(marks), "yellow"), soft_wrap=True)
    for line in map(worded, about["notes"]):
        console.print(text(line), soft_wrap=True)
    for name, reason in about["failed"].items():
        console.print(text(f"{name} failed: {reason}", "red"), soft_wrap=True)
    if about["folds"]:
        console.print(_folds(run.metrics, about["folds"]))
    show_recipe(console, run)
    if about["full"] and run.full:
        console.print(text(submission_summary(run.full)), soft_wrap=True)
    for title, content in _origin_lines(about["origin"]) if about["origin"] else ():
        console.print(text(f"{title:8}", "dim"), text(content), soft_wrap=True)
    width = max(map(len, about["config"]), default=0)
    for key, value in about["config"].items():
        console.print(text(f"{key:{width}}  ", "dim"), text(value), sep="", soft_wrap=True)
    for line in sparklines(about["curve"], console.width, console.options.ascii_only):
        console.print(text(line), no_wrap=True, overflow="ellipsis")


def _folds(metrics: list[str], folds: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for fold in folds.values() for name in fold["values"]))
    headings = ["fold", *metrics, *(name.replace("_", " ") for name in names), "rows", "time", "finished"]
    table = Table(*map(strip_control, headings), box=None, pad_edge=False, header_style="bold")
    for number, fold in folds.items():
        scores = [score_text(fold["scores"].get(metric)) for metric in metrics]
        values = [fold["values"].get(name, "") for name in names]
        worded = [f"{value:.4f}" if isinstance(value, float) else str(value) for value in values]
        finished = str(fold["finished"])[:16].replace("T", " ")
        about = [str(fold["rows"]), duration(fold["seconds"]), finished]
        table.add_row(*(text(cell) for cell in [number, *scores, *worded, *about]))
    return table


def _origin_lines(origin: dict[str, Any]) -> list[tuple[str, str]]:
    """How a run was made, for a reader."""
    code, git = "no snapshot", origin["git"]
    if git:
        code = f"commit {git['commit'][:12] or 'none yet'}{' and changes' if git['dirty'] else ''}"
    return [
        ("command", origin["command"] or "expkit.run(...), from Python"),
        ("code", code),
        ("python", f"{origin['python']}, {str(origin['platform']).partition('-')[0]}"),
        ("on", "; ".join(origin["on"]) or "unknown"),
    ]


MANY_RANKS = r"world_size ([2-9]|\d\d+)"


def about_run(run: LoadedRun) -> dict[str, Any]:
    """One run whole, as JSON has it: the columns of the board, marks, scores, folds, configuration, origin, curve.

    Returns:
        "failed" is why a training has failed, by its folder; "pruned" where a study has ended the run, "full" the
        training on all rows and "blend" what a blend is made of, each None when there is none.
    """
    record, row = run.record, run.row
    scores = {metric: score for metric in record.metrics if (score := record.score_of(metric))}
    folds = {
        str(number): {
            "scores": {metric: score.folds[number] for metric, score in scores.items() if number in score.folds},
            **{key: fold.result[key] for key in ("values", "rows", "seconds", "finished")},
        }
        for number, fold in record.done.items()
        if fold.result is not None
    }
    return {
        **{column: getattr(row, column) for column in COLUMNS},
        "folder": str(run.folder),
        "marks": [*row.marks, *changed_since(record)],
        "scores": {metric: _numbers(score) for metric, score in scores.items()},
        "folds": folds,
        "failed": _failed(record),
        "pruned": record.pruned or None,
        "full": _full(record),
        "blend": about_recipe(record.recipe) if record.recipe else None,
        "origin": _origin(record),
        "notes": list(row.notes.lines),
        "config": row.config,
        "curve": last_curves(run),
    }


def _numbers(score: Score) -> dict[str, float | None]:
    return {"score": score.value, "std": score.std, "over_rows": score.over_rows, "mean_of_folds": score.mean}


def _parts(run: Run) -> list[FoldRecord]:
    """The folds that are done, and the training on all rows."""
    return [*run.done.values(), *([run.full] if run.full and run.full.result else [])]


def _failed(run: Run) -> dict[str, str]:
    parts = [*run.folds.values(), *([run.full] if run.full else [])]
    return {part.folder.name: part.failure for part in parts if part.failure}


def _full(run: Run) -> dict[str, Any] | None:
    if run.full is None or run.full.result is None or run.recipe:
        return None
    file = str(run.full.folder / SUBMISSION) if SUBMISSION in run.full.result["files"] else None
    about = {key: run.full.result[key] for key in ("values", "seconds", "finished")}
    return {"folder": str(run.full.folder), "submission": file, **about}


def _origin(run: Run) -> dict[str, Any] | None:
    """How a run was made; None: nothing is done."""
    parts = _parts(run)
    if not parts:
        return None
    origin, command = parts[0].origin(), None
    environments = sorted({fold.result["environment"] for fold in parts if fold.result})
    if isinstance(typed := origin.get("command"), list) and typed:
        command = " ".join(map(str, typed))
        if not run.recipe:
            ranks = next((found[1] for one in environments if (found := re.search(MANY_RANKS, one))), None)
            program = f"torchrun --standalone --nproc_per_node={ranks}" if ranks else "python"
            command = f"{program} experiments/{run.experiment}/{command}"
    python, platform = origin.get("python"), origin.get("platform")
    return {"command": command, "git": run.git, "python": python, "platform": platform, "on": environments}


def changed_since(run: Run) -> list[str]:
    """What has changed in the project since a run was trained: "code changed since (model.py)", ..."""
    parts = _parts(run)
    if not parts:
        return []
    loaded = _loaded(run.scored_by)
    marks = _runs_changed(run) if run.recipe else _sources_changed(run, parts[0], loaded)
    if loaded and run.cv and not is_current(loaded.experiment, run):
        marks.append("metric changed since: the same command scores it again")
    return marks


def _runs_changed(run: Run) -> list[str]:
    """The same of the runs that a blend is made of."""
    assert run.recipe is not None
    parents = {parent.run: parent.folder(run.folder.parents[1]) for parent in run.recipe.parents}
    return [f"{name}: {mark}" for name, folder in parents.items() if folder for mark in changed_since(read_run(folder))]


def _sources_changed(run: Run, part: FoldRecord, loaded: Loaded | None) -> list[str]:
    file = fold_file(flat(run.info["config"])) if run.info else ""
    named = loaded.experiment.data(file) if loaded else None
    marks = []
    for what, names in changes_since(part, loaded.unused if loaded else None, named).items():
        marks.append(f"{what} changed since ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    return marks


def _loaded(experiment: str) -> Loaded | None:
    """The experiment as it is now; None when it is gone or broken: its runs are shown all the same."""
    try:
        return load_experiment(experiment)
    except Exception:
        return None


def about_recipe(recipe: Recipe) -> dict[str, Any]:
    """What a blend is made of, as JSON has it."""
    weights = {one.run: weight for one, weight in zip(recipe.parents, recipe.weights, strict=True)}
    about = {"method": recipe.method, "weights": weights, "by_part": recipe.by_part}
    return about | {"fitted_on": recipe.fitted_on, "flattering": recipe.flattering}


def show_recipe(console: Console, run: Run) -> None:
    """Print the runs of a blend with their weights, and how good these are."""
    recipe, score = run.recipe, run.score_of()
    if recipe is None:
        return
    table = Table("weight", "run", box=None, pad_edge=False, header_style="bold")
    pairs = sorted(zip(recipe.weights, recipe.parents, strict=True), key=lambda pair: -pair[0])
    for weight, parent in pairs:
        table.add_row(f"{weight:.4f}", text(parent.run))
    console.print(table)
    if score is None:
        return
    how = "each fold with weights fitted on the others" if recipe.fitted_on else "no weights are fitted"
    console.print(text(f"{run.metric} {score_text(score.value, score.std)}: {how}"), soft_wrap=True)
    if recipe.flattering is not None:
        rows = "" if recipe.fitted_on == run.rows else f" (on {recipe.fitted_on} of {run.rows} rows)"
        console.print(
            text(f"{run.metric} {score_text(recipe.flattering)}: too good, with weights fitted on all folds{rows}"),
            soft_wrap=True,
        )


Point = tuple[float, float]

MOST = 2000  # points of a curve: more are not seen
WIDEST = 60  # characters of a sparkline
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
# What a name says when a higher value is better.
_GAINS = (
    r"(^|_)(acc|accuracy|auc|auroc|auprc|ap|map|f1|precision|recall|sensitivity|specificity|r2|kappa|mcc|dice|m?iou|"
    r"jaccard|ndcg|mrr|bleu|psnr|ssim|correlation|pearson|spearman|reward|score)(_|$)"
)


def last_curves(run: LoadedRun) -> dict[str, Any] | None:
    """The last metric of the folds' epochs, else of their steps; None: no fold has two points.

    Returns:
        {"axis": "epoch", "metric": "valid_loss", "greater_is_better": False, "folds": {"0": [(1, 0.5), ...], ...}}.
        Of a blank there is no point; of more than 2,000 points, the lowest and the highest of each part.
    """
    histories = {str(fold): _by_axis(run.history(fold)) for fold in run.folds}
    chosen = next((found for parts in histories.values() if (found := _last(parts))), None)
    if chosen is None:
        return None
    axis, metric = chosen
    curves = {fold: _points(parts.get(axis, {}), axis, metric) for fold, parts in histories.items()}
    return {
        "axis": axis,
        "metric": metric,
        "greater_is_better": direction(metric, run.record),
        "folds": {fold: thinned(points) for fold, points in curves.items() if points},
    }


def sparklines(curve: dict[str, Any] | None, width: int, ascii_only: bool = False) -> list[str]:
    """The curves that `last_curves` has found, a line per fold, all over the same range; [] when there are none.

    Args:
        width: of the terminal, in characters.
        ascii_only: whether the terminal has no other characters.
    """
    if curve is None:
        return []
    folds, better, levels = curve["folds"], curve["greater_is_better"], ASCII_LEVELS if ascii_only else LEVELS
    values = [y for points in folds.values() for _, y in points]
    low, high = min(values), max(values)
    labels = {fold: f"fold {fold}: {_best_and_last(points, better)}  " for fold, points in folds.items()}
    margin = max(map(len, labels.values()))
    size = math.ceil(max(map(len, folds.values())) / max(1, min(WIDEST, width - margin)))  # points per character
    lines = [f"{curve['metric']} by {curve['axis']}: {low:#.4g} ({levels[0]}) to {high:#.4g} ({levels[-1]})"]
    for fold, points in folds.items():
        means = [fmean(y for _, y in points[first : first + size]) for first in range(0, len(points), size)]
        drawn = "".join(levels[round((mean - low) / (high - low or 1) * (len(levels) - 1))] for mean in means)
        lines.append(f"{labels[fold]:{margin}}{drawn}")
    return lines


def _best_and_last(points: list[Point], better: bool | None) -> str:
    marked = {"last": points[-1]}
    if better is not None:
        marked = {"best": (max if better else min)(points, key=lambda point: point[1]), **marked}
    return ", ".join(f"{name} {y:#.4g} at {x:.15g}" for name, (x, y) in marked.items())


def direction(name: str, run: Run) -> bool | None:
    """Whether a higher value of a column of history.csv is better; None: its name does not say it.

    A name with the run's own metric in it, as valid_rmse, has the direction of that.
    """
    name, metric = (re.sub(r"[\W_]+", "_", each).lower() for each in (name, run.metric or ""))
    if metric and f"_{metric}_" in f"_{name}_":
        return run.greater_is_better
    if "neg" in name.split("_"):
        return None
    if sounds_like_error(name):
        return False
    return True if re.search(_GAINS, name) else None


def thinned(points: list[Point]) -> list[Point]:
    """At most `MOST` points, in their order: the first, the last, and the lowest and the highest of each part."""
    if len(points) <= MOST:
        return points
    size = math.ceil(len(points) / (MOST // 2 - 1))
    kept = {0, len(points) - 1}
    for first in range(0, len(points), size):
        part = range(len(points))[first : first + size]
        kept |= {end(part, key=lambda place: points[place][1]) for end in (min, max)}
    return [points[place] for place in sorted(kept)]


def _by_axis(history: dict[str, list[float | None]]) -> dict[str, dict[str, list[float | None]]]:
    """The rows of epochs and those of steps, by their axis; those that have neither are numbered."""
    parts = {axis: rows for axis in AXES if (rows := rows_of(history, axis))}
    length = max(map(len, history.values()), default=0)
    return parts or {"row": {**history, "row": list(range(1, length + 1))}}


def _last(parts: dict[str, dict[str, list[float | None]]]) -> tuple[str, str] | None:
    """Axis and name of the last metric that has two points at least."""
    for axis, columns in parts.items():
        for metric in reversed(columns):
            if metric not in ("row", *AXES) and len(_points(columns, axis, metric)) > 1:
                return axis, metric
    return None


def _points(columns: dict[str, list[float | None]], axis: str, metric: str) -> list[Point]:
    pairs = zip(columns.get(axis, ()), columns.get(metric, ()), strict=False)
    return [
        (x, y)
        for x, y in pairs
        if x is not None and y is not None and abs(x) < 1e300 and abs(y) < 1e300  # neither nan nor inf
    ]
