"""What a run was made from, and what was made from it: as JSON for a program, and as a tree for a person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from expkit.errors import print_line, score_text, text
from expkit.store import BECOME, Parent, Run, fold_title, leaks_of, own_marks, parent_state


def parents_metadata(run: Run, shown: set[str] | None = None) -> list[dict[str, Any]]:
    """The runs that a run was made from, as JSON has them, each with its own "parents".

    Returns:
        "state" is "ok", "changed", "replaced" or "gone"; of the last two, nothing else is known. "parents" is None of a
        run that stands elsewhere in the list, too.
    """
    shown, found = {run.title} if shown is None else shown, []
    for parent in run.parents:
        now, state = run.parent_now(parent)
        is_new = parent.run not in shown
        shown.add(parent.run)
        if now is None or state in ("gone", "replaced"):
            known: dict[str, Any] = {"metric": None, "score": None, "std": None, "marks": [], "parents": []}
        else:
            known = {"metric": now.metric, "score": now.score, "std": now.std}
            above = parents_metadata(now, shown) if is_new else None
            known |= {"marks": [*own_marks(now), *leaks_of(now)], "parents": above}
        read = [(part.number, one.id) for part in run.parts if part.result for one in part.result.get("parents", [])]
        by = [number for number, run_id in dict.fromkeys(read) if run_id == parent.id]
        about = {"run": parent.run, "id": parent.id, "version": parent.version, **_read(parent, state), "by": by}
        found.append(about | known)
    return found


def children_metadata(run: Run, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs that were made from one, as JSON has them; "state" is what has become of the one since.

    Args:
        runs: all there are.
    """
    pairs = [(other, parent) for other in runs for parent in other.parents if parent.run == run.title]
    others = [(other, _read(parent, parent_state(parent, run))) for other, parent in pairs if other.title != run.title]
    return [{"run": other.title, "id": other.id, **read} for other, read in others]


def _read(parent: Parent, state: str) -> dict[str, Any]:
    return {"read": list(parent.read), "folds": list(parent.folds), "state": state}


def show_lineage(console: Console, parents: list[dict[str, Any]], children: list[dict[str, Any]]) -> None:
    """Print what a run was made from as a tree, and what was made from it; nothing where there is none."""
    if parents:
        console.print(_tree(Tree(text("made from")), parents), soft_wrap=True)
    for child in children:
        since = "" if child["state"] == "ok" else f", and it {BECOME[child['state']]} since"
        print_line(console, f"{child['run']} was made from it: {_what(child)}{since}")


def _tree(tree: Tree, parents: list[dict[str, Any]]) -> Tree:
    for node in parents:
        score = f"  {node['metric']} {score_text(node['score'], node['std'])}" if node["score"] is not None else ""
        marks = [*([] if node["state"] == "ok" else [BECOME[node["state"]]]), *node["marks"]]
        is_mixed = [other["run"] for other in parents].count(node["run"]) > 1  # folds read several versions
        by = f", by {', '.join(map(fold_title, node['by']))}" if is_mixed else ""
        line = Text.assemble(text(node["run"], "bold"), text(f"{score}  {_what(node)}{by}"))
        line.append_text(text("".join(f", {mark}" for mark in marks), "yellow"))
        _tree(tree.add(line), node["parents"] or [])
    return tree


def _what(node: dict[str, Any]) -> str:
    """What was read, in words: "oof of 5 folds", "fold, test of all data"."""
    folds = [fold_title(number) for number in node["folds"]] or ["all folds"]
    return f"{', '.join(node['read'])} of {folds[0] if len(folds) == 1 else f'{len(folds)} folds'}"
