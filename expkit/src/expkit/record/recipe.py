"""What a run that is a blend has in its run.json: the runs that it is made of, its parents, and their weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expkit.record.layout import counting


@dataclass(frozen=True)
class Parent:
    """A run as it was when it was blended.

    Attributes:
        run: "<experiment>/<run>".
        version, id: of the run.
        results: the checksums of its folds.
        test: the checksums of what its test predictions are of; () when it has none.
    """

    run: str
    version: int
    id: str
    results: tuple[str, ...]
    test: tuple[str, ...]

    def folder(self, output: Path) -> Path | None:
        """The version of the run that counts now; None: it is gone."""
        experiment, _, run = self.run.partition("/")
        return counting(output / experiment, run)


@dataclass(frozen=True)
class Recipe:
    """How a blend was made.

    Attributes:
        weights: of each parent, as fitted on all rows.
        by_part: those that the out-of-fold rows of a fold were predicted by, by the fold.
        flattering: the score of `weights` by the rows that they were fitted on; None where none were fitted.
        made_by: what the metrics did, as hashes by name.
    """

    method: str
    scored_by: str
    parents: tuple[Parent, ...]
    weights: tuple[float, ...]
    by_part: dict[str, list[float]]
    flattering: float | None
    fitted_on: int | None
    made_by: dict[str, str]


def recipe_of(info: dict[str, Any]) -> Recipe | None:
    """The recipe in a `run.json`; None: the run is no blend.

    Raises:
        KeyError, TypeError, ValueError: it does not fit.
    """
    if "blend" not in info:
        return None
    about = dict(info["blend"])
    parents = [Parent(**(one | {name: tuple(one[name]) for name in ("results", "test")})) for one in about["parents"]]
    recipe = Recipe(**(about | {"parents": tuple(parents), "weights": tuple(about["weights"])}))
    texts = [recipe.method, recipe.scored_by, *(text for one in parents for text in (one.id, *one.results, *one.test))]
    every = [list(weights) for weights in (recipe.weights, *recipe.by_part.values())]
    numbers = [recipe.flattering or 0, *(one for weights in every for one in weights)]
    fits = (
        all(type(text) is str for text in texts)
        and all(type(number) in (int, float) and abs(number) < 1e300 for number in numbers)
        and all(type(one.version) is int for one in parents)
        and {len(weights) for weights in every} == {len(parents)}
        and all(re.fullmatch(r"[^/\\]+/[^/\\@]+", one.run) and not one.run.startswith("..") for one in parents)
        and type(recipe.fitted_on) in (int, type(None))
        and type(recipe.made_by) is dict
    )
    if not fits:
        raise ValueError("blend")
    return recipe
