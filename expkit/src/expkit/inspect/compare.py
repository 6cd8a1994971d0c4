"""What differs between two runs: configuration, scores, data, packages, code."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expkit import inputs
from expkit.codehash import SCHEMAS
from expkit.config.same import is_compared, same
from expkit.inspect.beside import have_other_folds
from expkit.inspect.board import row_of
from expkit.inspect.verdict import verdict, worded
from expkit.inspect.words import text
from expkit.paths import code_root, output_dir
from expkit.record import RunRecord, read_data, read_run
from expkit.show import about_recipe
from expkit.snapshot import git


def compare(pairs: Sequence[tuple[Path, Path]], color: bool = False) -> dict[str, Any]:
    """What differs between two runs, as JSON has it, and under "comparison" which is better.

    A value that differs is {"old": ..., "new": ...}, without the side that lacks it.

    Args:
        pairs: the two; more pairs, of other seeds, count for the comparison alone.
        color: colour the difference of the code as git does for a terminal.
    """
    records = [(read_run(old), read_run(new)) for old, new in pairs]
    runs = records[0]
    rows = [row_of(run) for run in runs]
    origins = [next((fold.origin() for fold in run.done.values()), {}) for run in runs]
    are_trained = all(run.done for run in runs)
    sides = [{"run": row.name, "folder": str(row.folder), "marks": list(row.marks)} for row in rows]
    found: dict[str, Any] = {
        **dict(zip(("old", "new"), sides, strict=True)),
        "config": _changes(rows[0].config, rows[1].config),
        "weights": _changes(*(about_recipe(run.recipe)["weights"] if run.recipe else {} for run in runs)),
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


def _scores(old: RunRecord, new: RunRecord) -> dict[str, Any] | None:
    """The scores fold by fold, and "CV"; "both" is the mean over the folds that both have, when one has others too."""
    metric = old.metric or new.metric
    found = [run.score(metric) for run in (old, new)]
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


def _data(old: RunRecord, new: RunRecord) -> dict[str, Any]:
    """Whether both have the same data, and how the files differ; None where nobody knows, or nothing is trained."""
    digests = [
        sorted({fold.result["data"] for fold in run.done.values() if fold.result and fold.result["data"]})
        for run in (old, new)
    ]
    if not (old.done and new.done):
        return {"same": None, "changes": []}
    if digests[0] == digests[1]:
        return {"same": True, "changes": []}
    manifests = [read_data(output_dir(), side[0]) if side else None for side in digests]
    if manifests[0] is None or manifests[1] is None:
        return {"same": False, "changes": None}
    return {"same": False, "changes": inputs.changes(manifests[0], manifests[1])}


def _code(old: RunRecord, new: RunRecord, color: bool) -> dict[str, Any]:
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
