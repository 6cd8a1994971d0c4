"""One fold on the disk: whether it is done, what it has recorded, its predictions."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files, tables
from expkit.files import Broken
from expkit.record.content import fits_result, read_checked
from expkit.record.layout import CHECKPOINT, FAILED, LOG, OOF, ORIGIN, RESULT, fold_name, fold_title

if TYPE_CHECKING:
    from expkit.tables import Columns


@dataclass(frozen=True)
class FoldRecord:
    """A fold as it lies on the disk; `number` is None for the training on all rows.

    Attributes:
        result: the content of its `result.json`; None: the fold is not done.
        problem: what is wrong with it, "" when nothing is.
        unscored: as `result`, of a fold that is trained and has no score: a metric has failed.
        failure: why its last training has failed, one line; "" when it has not, or is done.
    """

    path: str
    number: int | None
    result: dict[str, Any] | None
    problem: str = ""
    unscored: dict[str, Any] | None = None
    failure: str = ""

    @property
    def folder(self) -> Path:
        return Path(self.path)

    @property
    def title(self) -> str:
        return fold_title(self.number)

    @property
    def checksum(self) -> str:
        """Of the result: another one is another training."""
        return str(self.result["checksum"]) if self.result else ""

    def origin(self) -> dict[str, Any]:
        """How it was made: command, host, python, packages, code (path to hashes); {} when nobody knows."""
        return read_checked(f"{self.path}/{ORIGIN}", lambda _: True, []) or {}

    def predictions(self, name: str = OOF, only: str | None = None) -> Columns:
        """Its out-of-fold (or, with TEST, test) predictions, by column; or one column of them.

        Raises:
            Broken: they are not as the fold left them.
            FileNotFoundError: it has none.
        """
        table = tables.load(self.folder / name, only)
        if name == OOF and self.result is not None and any(len(one) != self.result["rows"] for one in table.values()):
            raise Broken(f"{name} does not have the {self.result['rows']} rows that it had")
        return table


def read_fold(folder: Path, number: int | None, run_id: str, copies: Mapping[str, Any] | None = None) -> FoldRecord:
    """The fold `number` of the version of a run in `folder`.

    Args:
        copies: the results that its `cv.json` was made from; one whose file is as it was then need not be read again.
    """
    path = f"{folder}/{fold_name(number)}"
    problems: list[str] = []
    result = _copied(f"{path}/{RESULT}", (copies or {}).get(str(number)))
    if result is None:
        result = read_checked(f"{path}/{RESULT}", fits_result, problems)
    if result is not None:
        if result["fold"] != number or type(result["fold"]) is not type(number) or result["run"] != run_id:
            problems.append(f"{fold_name(number)} is of another run or fold")
        elif problem := _changed_file(path, result["files"]):
            problems.append(f"{fold_name(number)}/{problem}")
        elif number is not None and not result["scores"]:
            return FoldRecord(path, number, None, f"{fold_name(number)} has no score", result)
    is_done = result is not None and not problems
    failure = "" if is_done else files.first_line(f"{path}/{FAILED}")
    return FoldRecord(path, number, result if is_done else None, "; ".join(problems), failure=failure)


def _copied(file: str, copy: Any) -> dict[str, Any] | None:
    try:
        about = os.stat(file)
        is_same = copy["state"] == [about.st_size, about.st_mtime_ns] and fits_result(copy["result"])
        return dict(copy["result"]) if is_same else None
    except (OSError, LookupError, TypeError, AttributeError):
        return None


def _changed_file(path: str, listed: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a fold that is done."""
    for name, state in listed.items():
        if type(state) is not list or len(state) != 3 or not _is_inside(name):
            return f"{name} does not fit"
        try:
            about = os.stat(f"{path}/{name}")
        except (OSError, ValueError):
            return f"{name} is missing"
        if about.st_size != state[0] or not stat.S_ISREG(about.st_mode):
            return f"{name} is cut off or changed"
        if state[2] and about.st_mtime_ns != state[1]:  # copied, or changed: only the content tells
            try:
                if files.file_hash(Path(path, name)) != state[2]:
                    return f"{name} has been changed"
            except OSError:
                return f"{name} cannot be read"
    return None


def _is_inside(name: str) -> bool:
    """Whether a path leads to a file of the fold, and not out of its folder."""
    if os.name == "nt" and (":" in name or "\\" in name):
        return False
    return name[:1] not in ("/", "") and (".." not in name or ".." not in name.split("/"))


def write_result(folder: Path, result: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Mark the fold in `folder` as done: flush its files, then write the result that lists them.

    Args:
        result: with "target", as from `tables.target_hash`; "files" and "packages", a hash of those of `origin`, are
            added.
    """
    files.write_json(folder / ORIGIN, origin)
    listed = {}
    for file in files.tree_to_disk(folder):
        if file == folder / LOG or folder / CHECKPOINT in file.parents:  # more may be printed; it goes after the result
            continue
        about = file.stat()
        keeps = file.suffix in (".npz", ".csv", ".json")
        name = file.relative_to(folder).as_posix()
        listed[name] = [about.st_size, about.st_mtime_ns, files.file_hash(file) if keeps else None]
    packages = hashlib.sha256(repr(sorted(origin["packages"].items())).encode()).hexdigest()[:16]
    files.write_json(folder / RESULT, dict(result) | {"packages": packages, "files": listed})


def fail_fold(folder: Path, reason: str) -> None:
    """Keep why the training of the fold in `folder` has failed; its next training removes it."""
    files.write_text(folder / FAILED, f"{reason}\n")


def score_result(fold: FoldRecord, scores: Mapping[str, float]) -> None:
    """Give a fold that is trained and has no score its scores."""
    assert fold.unscored is not None
    files.write_json(fold.folder / RESULT, fold.unscored | {"scores": dict(scores)})
