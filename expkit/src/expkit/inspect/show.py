"""One run, whole, for a reader at the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from expkit.errors import plain
from expkit.inspect.about import about_run
from expkit.inspect.blends import show_recipe
from expkit.inspect.learning import sparklines
from expkit.inspect.loaded import LoadedRun
from expkit.inspect.notes import worded
from expkit.inspect.words import duration, score_text, text
from expkit.paths import shown
from expkit.train.say import submission_of


def show_run(console: Console, folder: Path) -> None:
    """Print one run: score, folds, configuration, origin, learning curve."""
    loaded = LoadedRun(folder)
    run, about = loaded.record, about_run(loaded)
    console.print(text(run.title, "bold"), text(f"  {shown(folder)}", "dim"), soft_wrap=True)
    for metric, found in about["scores"].items():
        scored = f"CV {metric} {score_text(found['score'], found['std'])}"
        scored += f" ({score.other})" if (score := run.score(metric)) and score.other else ""
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
        console.print(text(submission_of(run.full)), soft_wrap=True)
    for title, content in _origin(about["origin"]) if about["origin"] else ():
        console.print(text(f"{title:8}", "dim"), text(content), soft_wrap=True)
    width = max(map(len, about["config"]), default=0)
    for key, value in about["config"].items():
        console.print(text(f"{key:{width}}  ", "dim"), text(value), sep="", soft_wrap=True)
    for line in sparklines(about["curve"], console.width, console.options.ascii_only):
        console.print(text(line), no_wrap=True, overflow="ellipsis")


def _folds(metrics: list[str], folds: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for fold in folds.values() for name in fold["values"]))
    headings = ["fold", *metrics, *(name.replace("_", " ") for name in names), "rows", "time", "finished"]
    table = Table(*map(plain, headings), box=None, pad_edge=False, header_style="bold")
    for number, fold in folds.items():
        scores = [score_text(fold["scores"].get(metric)) for metric in metrics]
        values = [fold["values"].get(name, "") for name in names]
        worded = [f"{value:.4f}" if isinstance(value, float) else str(value) for value in values]
        finished = str(fold["finished"])[:16].replace("T", " ")
        about = [str(fold["rows"]), duration(fold["seconds"]), finished]
        table.add_row(*(text(cell) for cell in [number, *scores, *worded, *about]))
    return table


def _origin(origin: dict[str, Any]) -> list[tuple[str, str]]:
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
