"""What a run was made from, and what was made from it: as JSON for a program, and as a tree for a person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from expkit.store import Parent, Run, parent_state


def children_metadata(run: Run, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs that were made from one, as JSON has them; "state" is what has become of the one since.

    Args:
        runs: all there are.
    """
    pairs = [(other, parent) for other in runs for parent in other.parents if parent.run == run.title]
    return [_node(other, parent, parent_state(parent, run)) for other, parent in pairs if other.title != run.title]


def _node(run: Run, parent: Parent, state: str) -> dict[str, Any]:
    """A run above or below another one, with what the training of one has read of the other."""
    about = {"run": run.title, "id": run.id, "metric": run.metric, "score": run.score, "std": run.std}
    return {**about, "read": list(parent.read), "folds": list(parent.folds), "state": state}
