"""Runs for a reader at the terminal: many in a table, or one whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expkit.config.experiment import Loaded, load_experiment
from expkit.config.values import flat, fold_file
from expkit.errors import plain
from expkit.inspect.blends import show_recipe
from expkit.inspect.board import Row, row_of
from expkit.inspect.loaded import LoadedRun, rows_of
from expkit.inspect.words import duration, score_text, text
from expkit.paths import shown
from expkit.record import FoldRecord, RunRecord, read_run
from expkit.train.changes import changed_code, changed_data
from expkit.train.history import AXES
from expkit.train.say import submission_of
from expkit.train.scores import made_by

HEADINGS = ("run", "score ± std", "folds", "seed", "time", "finished", "commit", "marks")
ONLY_WIDE = ("finished", "commit")  # columns for a terminal of 110 characters and more, for files and for programs


def cells(row: Row) -> dict[str, str]:
    """A row of the board as text, by heading."""
    return {
        "run": plain(row.name),
        "score ± std": score_text(row.score, row.std),
        "folds": f"{row.folds_done}/{row.n_folds or '?'}",
        "seed": "" if row.seed is None else plain(row.seed),
        "time": "" if row.seconds is None else duration(row.seconds),
        "finished": plain(row.finished or "").replace("T", " ")[:16],
        "commit": row.commit or "",
        "marks": plain(", ".join(row.marks)),
    }


def board_table(rows: list[Row], width: int) -> Table:
    """The rows as a table of `width` characters; the metric is named once when all have the same."""
    metrics = {row.metric for row in rows if row.metric}
    others = list(dict.fromkeys(name for row in rows for name in row.other_metrics))
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = [heading for heading in HEADINGS if width >= 110 or heading not in ONLY_WIDE]
    for heading in headings:
        title = f"{next(iter(metrics))} ± std" if heading == "score ± std" and len(metrics) == 1 else heading
        wraps = heading in ("run", "marks")
        right = heading in ("folds", "seed", "time")
        table.add_column(text(title), justify="right" if right else "left", overflow="fold", no_wrap=not wraps)
        if heading == "score ± std":
            for name in others:
                table.add_column(text(name), no_wrap=True)
    for row in rows:
        line = {name: Text(content) for name, content in cells(row).items()}
        if len(metrics) > 1 and row.metric:
            line["score ± std"] = text(f"{row.metric} {line['score ± std']}")
        line["marks"].stylize("yellow")
        found = []
        for heading in headings:
            found.append(line[heading])
            if heading == "score ± std":
                found += [Text(score_text(row.other_metrics.get(name))) for name in others]
        table.add_row(*found, style="dim" if row.score is None else "")
    return table


def changed_since(run: RunRecord) -> list[str]:
    """What has changed in the project since a run was trained: "code changed since (model.py)", ..."""
    parts = [*run.done.values(), *([run.full] if run.full and run.full.result else [])]
    if not parts:
        return []
    loaded = _loaded(run.scored_by)
    marks = _runs_changed(run) if run.recipe else _sources_changed(run, parts[0], loaded)
    if loaded and run.cv and run.cv["made_by"] != made_by(loaded.experiment):
        marks.append("metric changed since: the same command scores it again")
    return marks


def _runs_changed(run: RunRecord) -> list[str]:
    """The same of the runs that a blend is made of."""
    assert run.recipe is not None
    parents = {parent.run: parent.folder(run.folder.parents[1]) for parent in run.recipe.parents}
    return [f"{name}: {mark}" for name, folder in parents.items() if folder for mark in changed_since(read_run(folder))]


def _sources_changed(run: RunRecord, part: FoldRecord, loaded: Loaded | None) -> list[str]:
    file = fold_file(flat(run.info["config"])) if run.info else ""
    named = loaded.experiment.data(file) if loaded else None
    marks = []
    for what, changed in (
        ("code", changed_code(part, loaded.unused if loaded else None)),
        ("data", changed_data(part, named)),
    ):
        if changed:
            marks.append(f"{what} changed since ({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''})")
    return marks


def _loaded(experiment: str) -> Loaded | None:
    """The experiment as it is now; None when it is gone or broken: its runs are shown all the same."""
    try:
        return load_experiment(experiment)
    except Exception:
        return None


def show_run(console: Console, folder: Path) -> None:
    """Print one run: score, folds, configuration, origin, learning curve."""
    loaded = LoadedRun(folder)
    run = loaded.record
    row = row_of(run)
    console.print(text(row.name, "bold"), text(f"  {shown(folder)}", "dim"), soft_wrap=True)
    marks = [*row.marks, *changed_since(run)]
    for metric in run.metrics:
        score = run.score(metric)
        if score is not None:
            scored = f"CV {metric} {score_text(score.value, score.std)}"
            console.print(text(f"{scored}  {row.folds_done}/{row.n_folds} folds, {row.rows} rows"), soft_wrap=True)
    if marks:
        console.print(text(", ".join(marks), "yellow"), soft_wrap=True)
    if run.done:
        console.print(_folds(run))
    show_recipe(console, run)
    if run.full and run.full.result and not run.recipe:
        console.print(text(submission_of(run.full)), soft_wrap=True)
    parts = [*run.done.values(), *([run.full] if run.full and run.full.result else [])]
    if parts:
        for title, content in _origin(run, parts[0].origin()):
            console.print(text(f"{title:8}", "dim"), text(content), soft_wrap=True)
    values = row.config
    width = max(map(len, values), default=0)
    for key, value in values.items():
        console.print(text(f"{key:{width}}  ", "dim"), text(value), sep="", soft_wrap=True)
    if curve := learning_curve(loaded, console.width):
        console.print(Text.from_ansi(curve))


def _folds(run: RunRecord) -> Table:
    names = list(dict.fromkeys(name for fold in run.done.values() if fold.result for name in fold.result["values"]))
    headings = ["fold", *run.metrics, *(name.replace("_", " ") for name in names), "rows", "time", "finished"]
    table = Table(*map(plain, headings), box=None, pad_edge=False, header_style="bold")
    scores = {metric: run.score(metric) for metric in run.metrics}
    for number, fold in run.done.items():
        assert fold.result is not None
        by_metric = [score.folds.get(number) if score else None for score in scores.values()]
        values = [fold.result["values"].get(name, "") for name in names]
        worded = [f"{value:.4f}" if isinstance(value, float) else str(value) for value in values]
        finished = str(fold.result["finished"])[:16].replace("T", " ")
        about = [str(fold.result["rows"]), duration(fold.result["seconds"]), finished]
        table.add_row(*(text(cell) for cell in [str(number), *map(score_text, by_metric), *worded, *about]))
    return table


def _origin(run: RunRecord, origin: dict[str, Any]) -> list[tuple[str, str]]:
    """How a run was made, for a reader."""
    git, command = run.git, origin.get("command")
    code = "no snapshot"
    if git:
        code = f"commit {git['commit'][:12] or 'none yet'}{' and changes' if git['dirty'] else ''}"
    typed = " ".join(map(str, command)) if isinstance(command, list) and command else ""
    parts = [*run.done.values(), *([run.full] if run.full else [])]
    environments = {fold.result["environment"] for fold in parts if fold.result}
    ranks = next((found[1] for one in environments if (found := re.search(r"world_size ([2-9]|\d\d+)", one))), None)
    program = f"torchrun --standalone --nproc_per_node={ranks}" if ranks else "python"
    started = f"{program} experiments/{run.experiment}/{typed}" if not run.recipe else typed
    return [
        ("command", started if typed else "expkit.run(...), from Python"),
        ("code", code),
        ("python", f"{origin.get('python')}, {str(origin.get('platform')).partition('-')[0]}"),
        ("on", "; ".join(sorted(environments)) or "unknown"),
    ]


def learning_curve(run: LoadedRun, width: int) -> str:
    """The last metric of each fold's epochs, else of its steps, drawn in characters; "" when there is none."""
    import plotext

    curves = {fold: curve for fold in run.folds if (curve := last_curve(run, fold))}
    if not curves:
        return ""
    axis, metric, _ = next(iter(curves.values()))
    curves = {fold: curve for fold, curve in curves.items() if curve[:2] == (axis, metric)}
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(width, 100), 18)
    legend = []  # below the curves: plotext's own hides a part of them
    colors = ["blue", "orange", "green", "red", "magenta"] * 20
    for (fold, (_, _, points)), color in zip(curves.items(), colors, strict=False):
        plotext.plot([x for x, _ in points], [y for _, y in points], marker="braille", color=color)
        legend.append(plotext.colorize(f"━ fold {fold}", color))
    places = [x for _, _, points in curves.values() for x, _ in points]
    first, last = min(places), max(places)
    plotext.xticks(sorted({first + round((last - first) * part / 4) for part in range(5)}))
    plotext.title(plain(metric))
    plotext.xlabel(axis)
    return f"{plotext.build().rstrip()}\n{'  '.join(legend)}"


def last_curve(run: LoadedRun, fold: int) -> tuple[str, str, list[tuple[float, float]]] | None:
    """Axis, name and points of the last metric of a fold that has two points at least; None: it has none."""
    history = run.history(fold)
    parts = {axis: rows_of(history, axis) for axis in AXES}
    if not any(parts.values()):
        rows = max(map(len, history.values()), default=0)
        parts = {"row": {**history, "row": list(range(1, rows + 1))}}
    for axis, columns in parts.items():
        for metric in [name for name in reversed(columns) if name not in (axis, *AXES)]:
            points = [
                (x, y)
                for x, y in zip(columns[axis], columns[metric], strict=True)
                if x is not None and y is not None and abs(x) < 1e15 and abs(y) < 1e15  # neither nan nor inf
            ]
            if len(points) > 1:
                return axis, metric, points[:: -1 - len(points) // 2000][::-1]  # more are not seen
    return None
