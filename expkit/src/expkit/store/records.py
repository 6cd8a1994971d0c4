"""What the files of a run hold. A file that does not fit is a problem, and never an exception."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expkit import files
from expkit.files import Broken
from expkit.store.layout import ORIGIN, RESULT, current

Fits = Callable[[dict[str, Any]], bool]


def _is_int(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1.7e308  # not nan either


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) < 4096


def _is_scores(value: Any) -> bool:
    return type(value) is dict and all(map(is_number, value.values()))


def _is_git(value: Any) -> bool:
    commits = [value["commit"], value["snapshot"]]
    are_hashes = all(type(one) is str and re.fullmatch(r"[0-9a-f]{40,64}|", one) for one in commits)
    return are_hashes and type(value["dirty"]) is bool and bool(commits[1])


def fits_run(content: dict[str, Any]) -> bool:
    recipe_of(content)  # raises where it does not fit
    return (
        re.fullmatch(r"[0-9a-f]{8}", content["id"]) is not None
        and all(_is_text(content[key]) for key in ("experiment", "run", "metric", "started"))
        and type(content["greater_is_better"]) is bool
        and _is_int(content["n_folds"])
        and 1 <= content["n_folds"] <= 10_000
        and type(content["config"]) is dict
        and type(content["commands"]) is list
        and all(map(_is_text, content["commands"]))
    )


def fits_result(content: dict[str, Any]) -> bool:
    texts = [content["run"], content["started"], content["finished"], content["environment"], content["left_out"]]
    texts += [content["packages"], *content["code"]]
    return (
        (content["fold"] is None or _is_int(content["fold"]))
        and all(map(_is_text, texts))
        and len(texts) == 8
        and type(content["code"]) is list
        and _is_scores(content["scores"])
        and type(content["values"]) is dict
        and _is_int(content["rows"])
        and is_number(content["seconds"])
        and content["seconds"] >= 0
        and (content["git"] is None or _is_git(content["git"]))
        and all(content[key] is None or _is_text(content[key]) for key in ("data", "target"))
        and type(content["files"]) is dict
        and all(one.keys() <= {"code", "data"} for one in content.get("earlier", []))
    )


def fits_cv(content: dict[str, Any]) -> bool:
    def is_score(one: Any) -> bool:
        optional = all(one[key] is None or is_number(one[key]) for key in ("all", "std"))
        return optional and is_number(one["mean"]) and _is_scores(one["folds"])

    return (
        _is_text(content["metric"])
        and type(content["greater_is_better"]) is bool
        and type(content["scores"]) is dict
        and content["metric"] in content["scores"]
        and all(map(is_score, content["scores"].values()))
        and type(content["made_by"]) is dict
        and all(map(_is_text, content["made_by"].values()))
        and content["score_over"] in ("rows", "folds")
        and type(content["folds"]) is dict
        and all(type(one["result"]["checksum"]) is str for one in content["folds"].values())
        and _is_int(content["rows"])
    )


def read_checked(file: str, fits: Fits, problems: list[str], largest: int = files.LARGEST) -> dict[str, Any] | None:
    """The content of a file of a run; None when there is none, or when it does not fit, which is a problem."""
    try:
        content = files.read_json(file, largest)
        if content is None or fits(content):
            return content
        reason = "its values do not fit"
    except Broken as error:
        reason = str(error)
    except (KeyError, TypeError, AttributeError, ValueError):
        reason = "its keys do not fit"
    folder, name = os.path.split(file)
    place = f"{os.path.basename(folder)}/{name}" if name in (RESULT, ORIGIN) else name
    problems.append(f"broken {place} ({reason})")
    return None


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
        return current(output / experiment, run)


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
