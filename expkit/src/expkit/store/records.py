"""The files of a run: their names, what each JSON file holds, and a fold as it lies on the disk.

A file that does not fit is a problem, and never an exception. msgspec checks it, by the types below.
"""

from __future__ import annotations

import csv
import functools
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from expkit import files
from expkit.errors import Error
from expkit.files import Broken
from expkit.project import display_path

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

CONFIG, RUN, CV = "config.yaml", "run.json", "cv.json"
RESULT, ORIGIN, OOF, TEST, LOCKBOX = "result.json", "origin.json", "oof.npz", "test.npz", "lockbox.npz"
HISTORY, LOG, FAILED, SUBMISSION = "history.csv", "train.log", "failed.txt", "submission.csv"
PRUNED, INSTALLED, CHECKPOINT, STATE = "pruned.txt", "installed.txt", "checkpoint", "state"
THEN = "; then "  # between the environments of a fold that an interruption has moved
SUBMISSIONS, BLENDS = "submissions", "blends"
NOT_EXPERIMENTS = ("debug", "multirun", "wandb", SUBMISSIONS)  # folders of output/ that hold no runs of an experiment


def fold_name(number: int | None) -> str:
    """The folder of a fold; of the training on all rows, when `number` is None."""
    return "full" if number is None else f"fold{number}"


HOLD_OUT = "hold-out"


def fold_title(number: int | None, n_folds: int | None = None) -> str:
    """What a fold is called in messages; with `n_folds` of 1, it is a hold-out."""
    return "all data" if number is None else HOLD_OUT if n_folds == 1 else f"fold {number}"


# What the files hold


def same_code(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two pairs of hashes are of the same code: the same bytes, or the same meaning."""
    return one[0] == other[0] or one[1] == other[1]


LARGEST = 1e150  # the square of such a number is finite, too

Text = Annotated[str, Meta(max_length=4095)]
FileName = Annotated[str, Meta(pattern=r"^(?!.*\.\.)[^/\\${]+\Z", max_length=255)]  # of no other folder
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Seconds = Annotated[float, Meta(ge=0, le=LARGEST)]
Scores = dict[str, Number]


class Dataset(NamedTuple):
    """All rows that `fold.split` was given: how many, a hash of their ids, and one of their targets, in any order."""

    rows: Count
    ids: Text
    targets: Text | None

    def is_like(self, other: Dataset) -> bool:
        """Whether the rows are known to be the same, and, where both have them, the targets."""
        are_same = self.targets == other.targets or None in (self.targets, other.targets)
        return are_same and bool(self.ids) and self.ids == other.ids


OF_A_FOLD = {"fold", "state", "test"}  # what is read of a training, and knows all rows but those that this left out


@dataclass(frozen=True)
class Parent:
    """A run as it was when another run, a child, read it: a blend, a stack, a training that goes on from its weights.

    Attributes:
        run: "<experiment>/<run>".
        version, id: of the run.
        results: the checksums of its trainings that were read.
        test: of a blend, the checksums of what its test predictions are of; () when it has none.
        folds: which trainings `results` are of, None the one on all rows; (): every fold that was done.
        read: what was read of them: "oof", "test", "history", "fold" (its model or other files), "state"; or "files",
            where nobody knows.
        left_out: hashes of the rows that each of `results` has left out, "" of none.
        dataset: what the run was given, as of `Run.given`.
    """

    run: Annotated[str, Meta(pattern=r"^(?!\.\.)[^/\\]+/[^/\\@]+\Z")]
    version: int
    id: str
    results: tuple[str, ...]
    test: tuple[str, ...] = ()
    folds: tuple[int | None, ...] = ()
    read: tuple[str, ...] = ("oof",)
    left_out: tuple[str, ...] = ()
    dataset: Dataset | None = None


def merged(parents: Iterable[Parent], by_read: bool = False) -> tuple[Parent, ...]:
    """Parents that are one run, and one version of it, as one.

    Args:
        by_read: those of which other things were read stay apart.
    """
    groups: dict[Any, list[Parent]] = {}
    for one in parents:
        groups.setdefault((one.run, one.version, one.id, one.read if by_read else ()), []).append(one)
    found = []
    for group in groups.values():
        parts = {part for one in group for part in zip_longest(one.folds, one.results, one.left_out, fillvalue="")}
        folds, results, left_out = zip(*sorted(parts, key=lambda part: (part[0] is None, part)), strict=True)
        read = tuple(sorted({what for one in group for what in one.read}))
        found.append(replace(group[0], folds=folds, results=results, read=read, left_out=left_out))
    return tuple(found)


@dataclass(frozen=True)
class Recipe:
    """How a blend was made.

    Attributes:
        parents: the runs that it is made of.
        weights: of each parent, as fitted on all rows.
        by_part: by the number of the fold, as text: the weights by which its out-of-fold rows were blended, which the
            other folds gave.
        made_by: what the metrics did, as hashes by name.
    """

    method: str
    scored_by: str
    parents: tuple[Parent, ...]
    weights: tuple[Number, ...]
    by_part: dict[str, list[Number]]
    made_by: dict[str, Any]

    def __post_init__(self) -> None:
        every = (self.weights, *self.by_part.values())
        if any(len(weights) != len(self.parents) for weights in every):
            raise ValueError("there is not one weight for each run")  # msgspec: it does not fit


class RunInfo(TypedDict):
    """run.json: the configuration and the metric."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
    experiment: Text
    run: Text
    set: NotRequired[FileName | None]  # the file in exp/ that it was trained with, as it is
    set_id: NotRequired[Text | None]  # of this file, by which its notes find it
    metric: Text
    greater_is_better: bool
    n_folds: Annotated[int, Meta(ge=1, le=10_000)]
    config: dict[str, dict[str, Any]]
    changed: NotRequired[list[Text]]  # the keys of it that do not have their default
    started: Text
    commands: list[Text]  # the ids of those that work on it
    same_as: NotRequired[Text | None]  # the id of the version before, when that has the same configuration
    blend: NotRequired[Recipe]


class Git(TypedDict):
    """The snapshot of the code."""

    commit: Annotated[str, Meta(pattern=r"^([0-9a-f]{40,64})?\Z")]
    snapshot: Annotated[str, Meta(pattern=r"^[0-9a-f]{40,64}\Z")]
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
    before: NotRequired[Seconds]  # those of the trainings that it began from, one after the other: exp.start_from
    started: Text
    finished: Text
    git: Git | None
    code: tuple[Text, Text]
    data: Text | None
    environment: Text
    packages: Text
    files: dict[str, tuple[int, int, str | None]]  # bytes, time, hash of what is needed
    earlier: NotRequired[list[dict[str, Any]]]  # code and data, of processes before that had others
    parents: NotRequired[list[Parent]]  # the runs that the training has read
    dataset: NotRequired[Dataset | None]
    kept: NotRequired[dict[str, Text]]  # hashes of the other columns of the left-out rows that fold.split was given
    checksum: str


def has_box(results: Mapping[int, Result]) -> bool:
    """Whether all folds that are done, of which there is one, have predicted a locked box."""
    return bool(results) and all(LOCKBOX in result["files"] for result in results.values())


def total_seconds(result: Result) -> float:
    """How long a training took, with those that it began from, one after the other."""
    return result["seconds"] + result.get("before", 0)


class MetricScores(TypedDict):
    """A metric in cv.json."""

    all: Number | None
    mean: Number
    std: Number | None
    folds: Scores


class Copy(TypedDict):
    """What cv.json once had of a fold."""

    result: Result


class CrossValidation(TypedDict):
    """cv.json: every score, from the predictions of all folds."""

    metric: Text
    greater_is_better: bool
    score_over: Literal["rows", "folds"]
    scores: dict[str, MetricScores]
    made_by: dict[str, Text]
    opens: NotRequired[dict[str, list[Text]]]  # files of the project that a metric opens
    folds: dict[str, str | Copy]  # the checksums of the results
    rows: Count


class DataFiles(TypedDict):
    """output/.data/<hash>.json: what of `input/` a hash stands for, path to bytes and hash."""

    files: dict[str, Annotated[list[Any], Meta(min_length=2, max_length=2)]]


# Whether a file fits


def fits(value: Any, kind: Any) -> bool:
    """Whether a value that was JSON is of a type."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


Kind = TypeVar("Kind")


def read_checked(file: str | Path, kind: type[Kind], problems: list[str]) -> Kind | None:
    """The content of a file of a run; None when there is none, or when it does not fit, which is a problem."""
    try:
        if (data := files.read_sealed(file)) is None:
            return None
        with suppress(msgspec.DecodeError, RecursionError):
            return msgspec.json.decode(data, type=kind)
        return msgspec.convert(files.read_json(file), kind)  # half a character, of a name that is no UTF-8, or no fit
    except msgspec.ValidationError:
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


# Scores, and a configuration


@dataclass(frozen=True)
class Score:
    """A metric of a run.

    Attributes:
        value: over all out-of-fold rows or the mean of the folds, as the experiment says; while folds are missing, the
            mean over those that are done.
        std: standard deviation of the folds' scores (n - 1).
        folds: the score of each fold.
        over_rows: over all out-of-fold rows; None: not known.
        mean: of the folds' scores.
    """

    value: float
    std: float | None
    folds: dict[int, float]
    over_rows: float | None
    mean: float

    @property
    def other(self) -> str:
        """The number that is not the score, in words; "" where it is the same to four digits, or not known."""
        if self.over_rows is None or f"{self.over_rows:.4f}" == f"{self.mean:.4f}":
            return ""
        if self.value == self.mean:
            return f"over all rows {self.over_rows:.4f}"
        return f"mean of folds {self.mean:.4f}"


class Values(dict[str, Any]):
    """A configuration as it was recorded: `config.exp.train.learning_rate` or `config["exp"]["train"]`."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        value = self[name]
        return Values(value) if isinstance(value, dict) else value


# A fold


@dataclass(frozen=True)
class FoldRecord:
    """A fold as it lies on the disk; `number` is None for the training on all rows.

    Attributes:
        result: the content of its `result.json`; None: the fold is not done.
        problem: what is wrong with it, "" when nothing is.
        unscored: as `result`, of a fold that is trained and has no score: a metric has failed.
        failure: why its last training has failed, one line; "" when it has not, or is done.
    """

    folder: Path
    number: int | None
    result: Result | None
    problem: str = ""
    unscored: Result | None = None
    failure: str = ""

    @property
    def title(self) -> str:
        return fold_title(self.number)

    @property
    def ended(self) -> str:
        """What came of its last training, which has a `failure`: "failed", or "stopped" by a person or the system."""
        return "stopped" if self.failure.startswith("stopped") else "failed"

    @property
    def checksum(self) -> str:
        """That of result.json. If it differs, the fold has been trained again."""
        return self.result["checksum"] if self.result else ""

    @property
    def left_out(self) -> str:
        """A hash of the rows that it has left out; "" of none."""
        return self.result["left_out"] if self.result else ""

    def origin(self) -> dict[str, Any]:
        """How it was made: command, host, python, packages, code (path to hashes); {} when nobody knows."""
        return files.read_if_whole(self.folder / ORIGIN)

    def predictions(self, name: str = OOF, only: str | None = None) -> Columns:
        """Its out-of-fold (or, with TEST, test) predictions, by column; or one column of them.

        Raises:
            Error: it has none, or they are not as the fold left them.
        """
        from expkit import tables

        run = display_path(self.folder.parent)
        if name == TEST and self.result and TEST not in self.result["files"]:
            how = "fold.save_test saves them; a blend has one prediction for all folds, run.test(None)"
            raise Error(f"{self.title} of {run} has no predictions of the test set: {how}")
        try:
            return tables.load(self.folder / name, only)
        except (Broken, FileNotFoundError) as error:
            raise Error(f"the predictions of {self.title} of {run} cannot be read: {error}") from error

    @functools.cached_property
    def row_numbers(self) -> numpy.ndarray:
        """A number for each row that it is scored on, (n,), of its id and its target. Errors as of `predictions`."""
        from expkit.tables import row_numbers

        table = self.predictions()
        return row_numbers(table, sorted(name for name in table if name.startswith("target")))

    def history(self) -> dict[str, list[float | None]]:
        """The columns of its history.csv; {} when there is none, or it is broken."""
        names, rows = read_history(self.folder / HISTORY)
        return {name: [number_of(row[name]) for row in rows] for name in names}


def read_history(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a history.csv, as text; none when there is no file, or it is broken."""
    try:
        with open(file, newline="", encoding="utf-8", opener=files.regular) as stream:
            reader = csv.DictReader(stream, restval="")
            return list(reader.fieldnames or ()), list(reader)
    except (OSError, ValueError, csv.Error):
        return [], []


AXES = ("epoch", "step")  # what the rows of a history count


def axis_of(names: Iterable[str]) -> str | None:
    """Over what a row counts that has values of these names: epochs before steps; None: it has neither."""
    return next((axis for axis in AXES if axis in names), None)


def number_of(text: str) -> float | None:
    """The number that a cell of a history.csv holds, an int where it is written as one; None: it holds none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def read_fold(folder: Path, number: int | None, run_id: str) -> FoldRecord:
    """The fold `number` of the version of a run in `folder`."""
    name, problems = fold_name(number), list[str]()
    fold = Path(f"{folder}/{name}")
    result = read_checked(f"{fold}/{RESULT}", Result, problems)
    if result is not None:
        if result["fold"] != number or result["run"] != run_id:
            problems.append(f"{name} is of another run or fold")
        elif problem := changed_file(fold, result["files"]):
            problems.append(f"{name}/{problem}")
        elif number is not None and not result["scores"]:
            return FoldRecord(fold, number, None, f"{name} has no score", result)
    if result is not None and not problems:
        return FoldRecord(fold, number, result)
    return FoldRecord(fold, number, None, "; ".join(problems), failure=files.first_line(f"{fold}/{FAILED}"))


def changed_file(fold: Path, listed: Mapping[str, tuple[int, int, str | None]]) -> str | None:
    """What is wrong with the files of a fold that is done."""
    is_cleaned = not os.path.lexists(f"{fold}/{STATE}")  # by `exp clean state`
    for name, (size, time, digest) in listed.items():
        if is_cleaned and name.startswith(f"{STATE}/"):
            continue
        try:
            found = os.stat(f"{fold}/{name}")
            is_same = found.st_size == size and stat.S_ISREG(found.st_mode)
            if is_same and digest and found.st_mtime_ns != time:  # copied, or changed: only the content tells
                is_same = files.file_hash(fold / name) == digest
        except (OSError, ValueError):
            return f"{name} is missing or cannot be read"
        if not is_same:
            return f"{name} is cut off or changed"
    return None


def is_of(cv: CrossValidation, folds: Iterable[FoldRecord]) -> bool:
    """Whether a `cv.json` was made from just these folds, of those that are done."""
    made = {name: one if isinstance(one, str) else one["result"]["checksum"] for name, one in cv["folds"].items()}
    are_whole = all(score["folds"].keys() == made.keys() for score in cv["scores"].values())
    done = {str(fold.number): fold.checksum for fold in folds if fold.result is not None}
    return are_whole and cv["metric"] in cv["scores"] and made == done
