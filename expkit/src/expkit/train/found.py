"""What cross-validation found, for the training on all rows: the number of rounds, say, that early stopping chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from expkit.errors import require
from expkit.paths import shown
from expkit.record import marks_of, read_run
from expkit.train.changes import changes_since
from expkit.train.place import Place


@dataclass(frozen=True)
class Found:
    """The values that the folds of a run have recorded.

    Attributes:
        values: of each name, one a fold, in the order of the folds.
        problem: why there are none, as the end of a sentence; "" when there are.
    """

    values: dict[str, list[Any]]
    problem: str = ""

    def of(self, name: str) -> list[Any]:
        """The values of a name.

        Raises:
            Error: there are none that can be relied on.
        """
        require(not self.problem, f"fold.cv({name!r}): {self.problem}")
        there = ", ".join(self.values) or "no value"
        require(name in self.values, f"fold.cv({name!r}): the folds have recorded {there} with fold.finish(...)")
        return list(self.values[name])


def found_by_folds(place: Place, inputs: Sequence[str] | None, number: int | None) -> Found:
    """What the folds of the run in `place` have recorded.

    Args:
        inputs: what of `input/` the training reads now.
        number: of the training that asks; None: that on all rows.
    """
    if number is not None:
        return Found({}, "only the training on all rows, exp.mode=sub, may ask what the folds found")
    if place.debug:
        return Found({}, "exp.debug=true has no cross-validation: use a fixed value if exp.debug")
    folder = place.cross_validated()
    run = read_run(folder) if folder else None
    if run is None or not run.is_complete:
        there = f"{len(run.done)} of {run.n_folds} folds are trained" if run else "no fold is trained"
        return Found({}, f"{there}: train all of them first, exp.mode=cv exp.fold=null")
    first = next(iter(run.done.values()))
    changed = [name for names in changes_since(first, place.loaded.unused, inputs).values() for name in names]
    marks = marks_of(run)
    if marks or changed:
        why = ", ".join(marks) or f"changed since: {', '.join(changed[:3])}"
        return Found({}, f"{shown(run.folder)}: {why}: train its folds again first, overwrite=true exp.fold=null")
    results = [fold.result["values"] for fold in run.done.values() if fold.result]
    names = [name for name in results[0] if all(name in one for one in results)]
    return Found({name: [one[name] for one in results] for name in names})
