"""Runs for a reader at the terminal: many in a table, one whole, or two side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expkit.board import Row, read_run
from expkit.config import flat, same
from expkit.files import read_json
from expkit.paths import code_root, shown
from expkit.results import LoadedRun
from expkit.snapshot import git

HEADINGS = ("run", "score ± std", "folds", "seed", "time", "finished", "commit", "marks")
ONLY_WIDE = ("finished", "commit")  # columns for a terminal of 110 characters and more, for files and for programs
MOST_ROWS = 50  # that a person reads; a file or another program gets all


def new_console() -> Console:
    """For stdout, as wide as the terminal; a file has room for whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def cells(row: Row) -> dict[str, str]:
    """A row of the board as text, by heading."""
    score = "" if row.score is None else f"{row.score:.4f}"
    return {
        "run": row.name,
        "score ± std": score if row.std is None else f"{score} ± {row.std:.4f}",
        "folds": f"{row.folds_done}/{row.n_folds or '?'}",
        "seed": "" if row.seed is None else str(row.seed),
        "time": "" if row.seconds is None else _duration(row.seconds),
        "finished": (row.finished or "").replace("T", " ")[:16],
        "commit": row.commit or "",
        "marks": ", ".join(row.marks),
    }


def board_table(rows: list[Row], width: int) -> Table:
    """The rows as a table of `width` characters; the metric is named once when all have the same."""
    metrics = {row.metric for row in rows if row.metric}
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = [heading for heading in HEADINGS if width >= 110 or heading not in ONLY_WIDE]
    for heading in headings:
        title = f"{next(iter(metrics))} ± std" if heading == "score ± std" and len(metrics) == 1 else heading
        wraps = heading in ("run", "marks")
        right = heading in ("folds", "seed", "time")
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=not wraps)
    for row in rows:
        line = {name: Text(text) for name, text in cells(row).items()}
        if len(metrics) > 1 and row.metric:
            line["score ± std"] = Text(f"{row.metric} {line['score ± std']}")
        line["marks"].stylize("yellow")
        table.add_row(*(line[heading] for heading in headings), style="dim" if row.score is None else "")
    return table


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def show_run(console: Console, folder: Path) -> None:
    """Print one run: score, folds, configuration, origin, learning curve."""
    run = LoadedRun(folder)
    row = run.row
    console.print(Text(row.name, "bold"), Text(f"  {shown(folder)}", "dim"), soft_wrap=True)
    if row.score is not None:
        deviation = "" if row.std is None else f" ± {row.std:.4f}"
        marks = f"  ({', '.join(row.marks)})" if row.marks else ""
        text = f"CV {row.metric} {row.score:.4f}{deviation}  {row.folds_done}/{row.n_folds} folds{marks}"
        console.print(text, markup=False, soft_wrap=True)
    elif row.marks:
        console.print(", ".join(row.marks), markup=False)

    if run.folds:
        results = {fold: run.result(fold) for fold in run.folds}
        table = Table("fold", "score", "best epoch", "time", "finished", box=None, pad_edge=False, header_style="bold")
        for fold, result in results.items():
            best, finished = str(result.get("best_epoch", "")), str(result.get("finished", ""))
            table.add_row(
                str(fold), f"{result['score']:.4f}", best, f"{result['seconds']:.1f} s", finished[:16].replace("T", " ")
            )
        console.print(table)

    for title, text in _origin(row.experiment, read_json(folder / "run.json") or {}):
        console.print(Text(f"{title:8}", "dim"), Text(text), soft_wrap=True)
    if (folder / "config.yaml").is_file():
        values = {key: value for key, value in flat(run.config).items() if key.startswith("exp.")}
        width = max(map(len, values), default=0)
        for key, value in values.items():
            console.print(Text(f"{key:{width}}  ", "dim"), Text(str(value)), sep="", soft_wrap=True)
    if curve := learning_curve(run, console.width):
        console.print(Text.from_ansi(curve))


def _origin(experiment: str, record: dict[str, Any]) -> list[tuple[str, str]]:
    """How a run was made, for a reader."""
    if not record:
        return []
    git = record.get("git")
    code = "no snapshot"
    if git:
        code = f"commit {git['commit'][:12] or 'none yet'}{' and changes' if git['dirty'] else ''}"
    return [
        ("command", f"python experiments/{experiment}/{' '.join(record.get('command', []))}"),
        ("code", code),
        ("python", f"{record.get('python')}, {str(record.get('platform')).partition('-')[0]}"),
    ]


def learning_curve(run: LoadedRun, width: int) -> str:
    """The last metric of each fold's history, drawn in characters; "" when there is none."""
    import plotext

    histories = {fold: run.history(fold) for fold in run.folds}
    histories = {fold: history for fold, history in histories.items() if len(history) > 1 and len(history["epoch"]) > 1}
    if not histories:
        return ""
    metric = list(next(iter(histories.values())))[-1]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(width, 100), 18)
    legend = []  # below the curves: plotext's own hides a part of them
    for (fold, history), color in zip(
        histories.items(), ["blue", "orange", "green", "red", "magenta"] * 20, strict=False
    ):
        plotext.plot(history["epoch"], history[metric], marker="braille", color=color)
        legend.append(plotext.colorize(f"━ fold {fold}", color))
    last = max(history["epoch"][-1] for history in histories.values())
    plotext.xticks(sorted({1 + round((last - 1) * part / 4) for part in range(5)}))
    plotext.title(metric)
    plotext.xlabel("epoch")
    return f"{plotext.build().rstrip()}\n{'  '.join(legend)}"


def show_diff(console: Console, old: Path, new: Path) -> None:
    """Print what differs between two runs."""
    console.print(Text(f"{_title(old)} → {_title(new)}", "bold"), soft_wrap=True)
    runs = LoadedRun(old), LoadedRun(new)
    _changes(console, "configuration", *(flat(run.config) for run in runs))
    _scores(console, *runs)
    records = [read_json(folder / "run.json") or {} for folder in (old, new)]
    _changes(console, "packages", *(record.get("packages", {}) for record in records))
    _changes(console, "python", *({"python": record.get("python")} for record in records))
    console.print(Text("code", "bold"))
    console.print(_code(records, old.parent.name, new.parent.name), soft_wrap=True)


def _title(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _changes(console: Console, title: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    ignored = ("show_config", "overwrite")
    keys = [key for key in {**old, **new} if not same(old.get(key), new.get(key)) and key not in ignored]
    if not keys:
        if title == "configuration":
            console.print(Text("configuration", "bold"), "the same")
        return
    table = Table(title, "", "", "", box=None, pad_edge=False, header_style="bold")
    for key in keys:
        values = [str(side[key]) if key in side else "(not there)" for side in (old, new)]
        table.add_row(key, Text(values[0], "red"), "→", Text(values[1], "green"))
    console.print(table)


def _scores(console: Console, old: LoadedRun, new: LoadedRun) -> None:
    scores = [{str(fold): run.result(fold)["score"] for fold in run.folds} for run in (old, new)]
    for side, run in zip(scores, (old, new), strict=True):
        side["CV"] = read_run(run.folder).score
    table = Table("fold", "old", "new", "", box=None, pad_edge=False, header_style="bold")
    table.columns[0].header = f"{old.row.metric or new.row.metric} of fold"
    for fold in sorted({**scores[0], **scores[1]}):
        before, after = (side.get(fold) for side in scores)
        change = "" if before is None or after is None else f"{after - before:+.4f}"
        table.add_row(fold, *("" if score is None else f"{score:.4f}" for score in (before, after)), change)
    console.print(table)


def _code(records: list[dict[str, Any]], old: str, new: str) -> Text:
    """The difference of two snapshots: the experiment's folder line by line, the rest as a list of files."""
    origins = [record.get("git") for record in records]
    if not all(origins):
        return Text("unknown: one of the runs has no snapshot", "dim")
    before, after = (origin["snapshot"] for origin in origins if origin)
    if before == after and old == new:
        return Text("the same", "dim")
    root = code_root()
    try:
        prefix = git(root, "rev-parse", "--show-prefix")
        trees = [f"{side}:{prefix}experiments/{name}" for side, name in ((before, old), (after, new))]
        own = git(root, "diff", "--color=always", *trees)
        rest = git(
            root,
            "diff",
            "--stat=100",
            before,
            after,
            "--",
            ".",
            f":(exclude)experiments/{old}",
            f":(exclude)experiments/{new}",
        )
    except subprocess.CalledProcessError as error:
        return Text(f"unknown: {error.stderr.strip()}", "dim")
    return Text.from_ansi("\n".join(part for part in (own, rest) if part) or "the same")
