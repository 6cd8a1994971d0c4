"""What a run was made from, and what was made from it: as JSON for a program, and as a tree for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from expkit.store import Parent, Run, parent_state

STATES = ("ok", "changed", "replaced", "gone")  # of a parent, the worst last


def children_metadata(run: Run, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs that were made from one, as JSON has them; "state" is that of the run as each has read it.

    Args:
        runs: all there are.
    """
    others = (other for other in runs if other.title != run.title)
    read = ((other, [parent for parent in other.parents if parent.run == run.title]) for other in others)
    return [{"run": other.title, "id": other.id, **_reading(run, parents)} for other, parents in read if parents]


def _reading(now: Run | None, parents: Sequence[Parent]) -> dict[str, Any]:
    """What the trainings of one run have read of another one, "folds" [] for all of them; and its state."""
    folds = {number for parent in parents for number in parent.folds} if all(each.folds for each in parents) else set()
    return {
        "version": parents[-1].version,
        "read": list(dict.fromkeys(what for parent in parents for what in parent.read)),
        "folds": sorted(folds, key=lambda number: (number is None, number)),
        "state": max((parent_state(parent, now) for parent in parents), key=STATES.index),
    }
