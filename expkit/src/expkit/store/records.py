"""The files of a run: their names, what each JSON file holds, and the check that one fits.

A file that does not fit is a problem, and never an exception. The check is our own: msgspec, which would be as
short, takes longer to import than the files of a thousand runs take to check.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypedDict,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from expkit import files
from expkit.files import Broken

CONFIG, RUN, CV = "config.yaml", "run.json", "cv.json"
RESULT, ORIGIN, OOF, TEST = "result.json", "origin.json", "oof.npz", "test.npz"
HISTORY, LOG, FAILED, SUBMISSION = "history.csv", "train.log", "failed.txt", "submission.csv"
PRUNED, CHECKPOINT = "pruned.txt", "checkpoint"
THEN = "; then "  # between the environments of a fold that an interruption has moved
FOLD = re.compile(r"fold(0|[1-9][0-9]{0,3})")


def fold_name(number: int | None) -> str:
    """The folder of a fold; of the training on all rows, when `number` is None."""
    return "full" if number is None else f"fold{number}"


def fold_title(number: int | None) -> str:
    """What a fold is called in messages."""
    return "all data" if number is None else f"fold {number}"


# What the files hold


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no bool; far from the largest float, so that a mean is finite, too."""
    return type(value) in (int, float) and abs(value) < 1.7e308


Text = Annotated[str, lambda text: len(text) < 4096]
Count = Annotated[int, lambda number: 0 <= number < 2**63]
Number = Annotated[float, is_number]
Seconds = Annotated[float, lambda seconds: is_number(seconds) and seconds >= 0]
Scores = dict[str, Number]


@dataclass(frozen=True)
class Parent:
    """A run as it was when it was blended.

    Attributes:
        run: "<experiment>/<run>".
        version, id: of the run.
        results: the checksums of its folds.
        test: the checksums of what its test predictions are of; () when it has none.
    """

    run: Annotated[str, re.compile(r"(?!\.\.)[^/\\]+/[^/\\@]+").fullmatch]
    version: int
    id: str
    results: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """How a blend was made.

    Attributes:
        parents: the runs that it is made of.
        weights: of each parent, as fitted on all rows.
        by_part: those that the out-of-fold rows of a fold were predicted by, by the fold.
        flattering: the score of `weights` by the rows that they were fitted on; None where none were fitted.
        made_by: what the metrics did, as hashes by name.
    """

    method: str
    scored_by: str
    parents: tuple[Parent, ...]
    weights: tuple[Number, ...]
    by_part: dict[str, list[Number]]
    flattering: Number | None
    fitted_on: int | None
    made_by: dict[str, Any]


class RunInfo(TypedDict):
    """run.json: the configuration and the metric."""

    id: Annotated[str, re.compile("[0-9a-f]{8}").fullmatch]
    experiment: Text
    run: Text
    set: NotRequired[Text | None]  # the file in exp/ that it was trained with, as it is
    metric: Text
    greater_is_better: bool
    n_folds: Annotated[int, lambda number: 1 <= number <= 10_000]
    config: dict[str, Any]
    started: Text
    commands: list[Text]  # the ids of those that work on it
    same_as: NotRequired[Text | None]  # the id of the version before, when that has the same configuration
    blend: NotRequired[Annotated[dict[str, Any], lambda blend: _is_recipe(blend)]]  # of which `recipe_of` makes one


class Git(TypedDict):
    """The snapshot of the code."""

    commit: Annotated[str, re.compile(r"[0-9a-f]{40,64}|").fullmatch]
    snapshot: Annotated[str, re.compile(r"[0-9a-f]{40,64}").fullmatch]
    dirty: bool


class Result(TypedDict):
    """result.json: a fold is done."""

    fold: Count | None
    run: Text
    scores: Scores
    values: dict[str, Any]
    rows: Count
    left_out: Text
    target: Text | None
    seconds: Seconds
    started: Text
    finished: Text
    git: Git | None
    code: Annotated[list[Text], lambda hashes: len(hashes) == 2]
    data: Text | None
    environment: Text
    packages: Text
    files: dict[str, Any]
    earlier: NotRequired[list[dict[Literal["code", "data"], Any]]]
    checksum: str


class MetricScores(TypedDict):
    """A metric in cv.json."""

    all: Number | None
    mean: Number
    std: Number | None
    folds: Scores


class Checksum(TypedDict):
    """What is needed of a result that cv.json once had a copy of."""

    checksum: str


class Copy(TypedDict):
    """The same, as it was kept."""

    result: Checksum


class CrossValidation(TypedDict):
    """cv.json: every score, from the predictions of all folds."""

    metric: Text
    greater_is_better: bool
    score_over: Literal["rows", "folds"]
    scores: dict[str, MetricScores]
    made_by: dict[str, Text]
    folds: dict[str, str | Copy]  # the checksums of the results
    rows: Count


class DataFiles(TypedDict):
    """output/.data/<hash>.json: what of `input/` a hash stands for, path to bytes and hash."""

    files: dict[str, Annotated[list[Any], lambda pair: len(pair) == 2]]


# Whether a file fits


@cache
def checker(kind: Any) -> Callable[[Any], Any]:
    """What says whether a value that was JSON is of a type; of a dataclass, whether it could be made of a dict."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: True
    if kind is float:
        return lambda value: type(value) in (int, float)
    if is_typeddict(kind) or is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        fields = {name: checker(hint) for name, hint in hints.items()}
        needed = {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}
        return lambda value: (
            type(value) is dict
            and needed <= value.keys()
            and all(fits(value[name]) for name, fits in fields.items() if name in value)
        )
    if origin is Literal:
        return lambda value: type(value) is str and value in arguments
    if origin is NotRequired:
        return checker(arguments[0])
    if origin is Annotated:
        is_of_type, fits = checker(arguments[0]), arguments[1]
        return lambda value: is_of_type(value) and fits(value)
    if origin is dict:
        key, item = map(checker, arguments)
        return lambda value: type(value) is dict and all(map(key, value)) and all(map(item, value.values()))
    if origin in (list, tuple):
        item = checker(arguments[0])
        return lambda value: type(value) is list and all(map(item, value))
    if arguments:  # a union
        options = [checker(option) for option in arguments]
        return lambda value: any(option(value) for option in options)
    return lambda value: type(value) is kind


Kind = TypeVar("Kind")


def read_checked(file: str | Path, kind: type[Kind], problems: list[str], largest: int = files.LARGEST) -> Kind | None:
    """The content of a file of a run; None when there is none, or when it does not fit, which is a problem."""
    try:
        content = files.read_json(file, largest)
        if content is None or checker(kind)(content):  # type: ignore[arg-type]
            return cast(Kind, content)
        reason = "its values do not fit"
    except Broken as error:
        reason = str(error)
    folder, name = os.path.split(file)
    where = f"{os.path.basename(folder)}/{name}" if name in (RESULT, ORIGIN) else name
    problems.append(f"broken {where} ({reason})")
    return None


def read_run_info(folder: Path) -> RunInfo | None:
    """The `run.json` of a version alone; None when there is none that fits."""
    return read_checked(folder / RUN, RunInfo, [])


def recipe_of(info: RunInfo) -> Recipe | None:
    """How a blend was made, as its `run.json` says; None: the run is no blend."""
    if "blend" not in info:
        return None
    return _made(Recipe, info["blend"] | {"parents": [_made(Parent, one) for one in info["blend"]["parents"]]})


def _made(kind: type[Kind], values: dict[str, Any]) -> Kind:
    named = {field.name: values[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in named.items()})


def _is_recipe(blend: dict[str, Any]) -> bool:
    """Whether it fits, with a weight for each of its runs."""
    if not checker(Recipe)(blend):
        return False
    return all(len(weights) == len(blend["parents"]) for weights in (blend["weights"], *blend["by_part"].values()))
