"""What differs between two runs: configuration, scores, data, packages, code."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expkit import inputs
from expkit.config.values import same
from expkit.inspect.beside import have_other_folds
from expkit.inspect.board import row_of
from expkit.inspect.words import text
from expkit.paths import code_root, output_dir
from expkit.record import RunRecord, read_data, read_run
from expkit.snapshot import git


def show_diff(console: Console, old: Path, new: Path) -> None:
    """Print what differs between two runs."""
    runs = read_run(old), read_run(new)
    rows = [row_of(run) for run in runs]
    console.print(text(f"{rows[0].name} → {rows[1].name}", "bold"), soft_wrap=True)
    _changes(console, "configuration", rows[0].config, rows[1].config)
    _changes(console, "weights", *(_weights(run) for run in runs))
    _scores(console, *runs)
    if have_other_folds(*runs):
        console.print(text("other folds: other rows are left out, and the scores do not compare", "yellow"))
    for row in rows:
        if row.marks:
            console.print(text(f"{row.name}: {', '.join(row.marks)}", "yellow"), soft_wrap=True)
    origins = [next((fold.origin() for fold in run.done.values()), {}) for run in runs]
    _changes(console, "packages", *(_dict(origin.get("packages")) for origin in origins))
    _changes(console, "machine", *(_machine(origin) for origin in origins))
    _data(console, *runs)
    console.print(Text("code", "bold"))
    console.print(_code(*runs), soft_wrap=True)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _machine(origin: dict[str, Any]) -> dict[str, Any]:
    about = {key: origin.get(key) for key in ("python", "platform") if origin.get(key)}
    return about | {key: value for key, value in _dict(origin.get("environment")).items() if value is not None}


def _weights(run: RunRecord) -> dict[str, float]:
    """Of the runs that a blend is made of."""
    recipe = run.recipe
    return {one.run: weight for one, weight in zip(recipe.parents, recipe.weights, strict=True)} if recipe else {}


def _changes(console: Console, title: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    keys = [key for key in {**old, **new} if not same(old.get(key), new.get(key))]
    if not keys:
        if title == "configuration":
            console.print(Text("configuration", "bold"), "the same")
        return
    table = Table(title, "", "", "", box=None, pad_edge=False, header_style="bold")
    for key in keys:
        values = [str(side[key]) if key in side else "(not there)" for side in (old, new)]
        table.add_row(text(key), text(values[0], "red"), "→", text(values[1], "green"))
    console.print(table)


def _scores(console: Console, old: RunRecord, new: RunRecord) -> None:
    metric = old.metric or new.metric
    found = [run.score(metric) for run in (old, new)]
    sides: list[dict[str, float]] = []
    for score in found:
        folds = {str(number): value for number, value in score.folds.items()} if score else {}
        sides.append(folds)
    if not any(sides):
        return
    if sides[0].keys() == sides[1].keys():  # else the two are of different rows
        for side, score in zip(sides, found, strict=True):
            side |= {"CV": score.value} if score else {}
    elif both := sides[0].keys() & sides[1].keys():
        for side in sides:
            side["both"] = statistics.fmean(side[fold] for fold in both)
    table = Table("", "old", "new", "", box=None, pad_edge=False, header_style="bold")
    table.columns[0].header = text(f"{metric} of fold")
    for fold in dict.fromkeys([*sides[0], *sides[1]]):
        before, after = (side.get(fold) for side in sides)
        change = "" if before is None or after is None else f"{after - before:+.4f}"
        table.add_row(fold, *("" if score is None else f"{score:.4f}" for score in (before, after)), change)
    console.print(table)


def _data(console: Console, old: RunRecord, new: RunRecord) -> None:
    digests = [
        sorted({fold.result["data"] for fold in run.done.values() if fold.result and fold.result["data"]})
        for run in (old, new)
    ]
    if digests[0] == digests[1]:
        return
    console.print(Text("data", "bold"))
    manifests = [read_data(output_dir(), side[0]) if side else None for side in digests]
    if manifests[0] is None or manifests[1] is None:
        console.print(Text("other data; nobody knows which files", "dim"))
        return
    for line in inputs.changes(manifests[0], manifests[1]):
        console.print(text(f"  {line}"), soft_wrap=True)


def _code(old: RunRecord, new: RunRecord) -> Text:
    """The difference of two snapshots: the experiment's folder line by line, the rest as a list of files."""
    if old.recipe or new.recipe:
        return Text("a blend has none of its own, but that of its runs", "dim")
    if old.git is None or new.git is None:
        return Text("unknown: one of the runs has no snapshot", "dim")
    before, after = old.git["snapshot"], new.git["snapshot"]
    if before == after and old.experiment == new.experiment:
        return Text("the same", "dim")
    root = code_root()
    try:
        prefix = git(root, "rev-parse", "--show-prefix")
        sides = ((before, old.experiment), (after, new.experiment))
        trees = [f"{side}:{prefix}experiments/{name}" for side, name in sides]
        own = git(root, "diff", "--color=always", "--end-of-options", *trees)
        left_out = [f":(exclude,literal)experiments/{name}" for _, name in sides]
        rest = git(root, "diff", "--stat=100", "--end-of-options", before, after, "--", ".", *left_out)
    except subprocess.CalledProcessError as error:
        return text(f"unknown: {error.stderr.strip()}", "dim")
    except OSError as error:
        return text(f"unknown: git cannot be run: {error.strerror}", "dim")
    return Text.from_ansi("\n".join(part for part in (own, rest) if part) or "the same")
