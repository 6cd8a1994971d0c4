"""Runs, and parts of them, that may go: failed, superseded, of debugging, and checkpoints of what is done."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from expkit import record
from expkit.clean.leftover import Leftover, away, folders, size
from expkit.record import CHECKPOINT, FOLD, NOT_EXPERIMENTS, RESULT
from expkit.train.checkpoint import ABOUT
from expkit.train.versions import Versions


def failed(output: Path) -> Iterator[Leftover]:
    """Runs in which nothing is done and nobody trains; and new versions of other runs that are so."""
    for versions, found, counting in _runs(output):
        live = [version for version in found if not _is_before(version, counting)]
        empty = [version for version in live if holds_nothing(version)]
        if empty and len(empty) == len(live):
            if not any(_is_held(versions, version) for version in found):
                remove = partial(_remove_run, versions)
                yield Leftover(str(counting), "nothing is done", sum(map(size, live)), remove)
            continue
        for version in empty:
            if version != counting and not _is_held(versions, version):
                remove = partial(_remove, versions, version, partial(_is_empty_and_new, versions, version))
                yield Leftover(str(version), "nothing is done in this new version", size(version), remove)


def superseded(output: Path) -> Iterator[Leftover]:
    """Versions that a later one has replaced, and in which nobody trains."""
    for versions, found, counting in _runs(output):
        for version in found:
            if _is_before(version, counting) and not _is_held(versions, version):
                remove = partial(_remove, versions, version, partial(versions.is_superseded, version))
                yield Leftover(str(version), f"{counting.name} counts", size(version), remove)


def debug(output: Path) -> Iterator[Leftover]:
    """What exp.debug=true has left."""
    for parent in folders(output / "debug"):
        for run, found in sorted(record.grouped(parent).items()):
            versions = Versions(parent, run)
            for version in found:
                if not version.is_symlink() and not _is_held(versions, version):
                    remove = partial(_remove, versions, version, version.is_dir)
                    yield Leftover(str(version), "a debug run", size(version), remove)


def checkpoints(output: Path) -> Iterator[Leftover]:
    """Checkpoints of folds that are done."""
    for versions, found, _ in _runs(output):
        for version in found:
            for place in [fold / CHECKPOINT for fold in folders(version)]:
                may_go = partial(_is_left_over, place)
                if may_go():
                    remove = partial(_remove, versions, version, may_go, place)
                    yield Leftover(str(place), f"{place.parent.name} is done", size(place), remove)


def _runs(output: Path) -> Iterator[tuple[Versions, list[Path], Path]]:
    """Every run with its versions, and the one that counts; not one that a symbolic link leads to."""
    for parent in folders(output):
        if parent.name in NOT_EXPERIMENTS or parent.name.startswith("."):
            continue
        for run, found in sorted(record.grouped(parent).items()):
            counting = record.counting_among(parent, run, found)
            if counting is not None and not any(version.is_symlink() for version in found):
                yield Versions(parent, run), sorted(found, key=record.version_number), counting


# Whether it may go


def holds_nothing(version: Path) -> bool:
    """Whether a version has no work in it that could be lost.

    A result counts whatever is wrong with it, and so does a checkpoint, from which the same command goes on. What
    cannot be read, or has no `run.json` that fits, may hold anything.
    """
    if record.read_run_info(version) is None:
        return False
    try:
        parts = [name for name in os.listdir(version) if FOLD.fullmatch(name) or name == record.fold_name(None)]
        return not any(_may_be(version / part / name) for part in parts for name in (RESULT, CHECKPOINT))
    except OSError:
        return False


def _may_be(path: Path) -> bool:
    """Whether there is something at `path`. Raises OSError when nobody can tell."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _is_before(version: Path, counting: Path) -> bool:
    return record.version_number(version) < record.version_number(counting)


def _is_empty_and_new(versions: Versions, version: Path) -> bool:
    return versions.counting() != version and not versions.is_superseded(version) and holds_nothing(version)


def _is_left_over(folder: Path) -> bool:
    """Whether a folder is the checkpoint of a fold that is done."""
    fold, version = folder.parent, folder.parents[1]
    number, info = FOLD.fullmatch(fold.name), record.read_run_info(version)
    is_full = fold.name == record.fold_name(None)
    if folder.is_symlink() or not folder.is_dir() or info is None or not (number or is_full):
        return False
    result = record.read_fold(version, int(number[1]) if number else None, info["id"]).result
    is_ours = all(re.fullmatch(rf"state\d+|{re.escape(ABOUT)}", name) for name in os.listdir(folder))
    return is_ours and result is not None


def _is_held(versions: Versions, version: Path) -> bool:
    """Whether somebody trains in a version, or might: its locks are of another user."""
    try:
        return bool(versions.held(version))
    except OSError:
        return True


# Removing it: looks again, with all locks that a training of the version could take


def _remove(versions: Versions, version: Path, may_go: Callable[[], bool], what: Path | None = None) -> bool:
    """Remove a version, or `what` in it."""
    with versions.locked(), ExitStack() as stack:
        goes = _take(versions, version, stack) and may_go()
        if goes:
            away(what or version)
    return goes


def _remove_run(versions: Versions) -> bool:
    """Remove all versions, the one that counts last: never does another one count meanwhile."""
    with versions.locked(), ExitStack() as stack:
        found = versions.newest_first()
        counting = record.counting_among(versions.parent, versions.run, found)
        if counting is None or not all(_take(versions, version, stack) for version in found):
            return False
        if not all(holds_nothing(version) for version in found if not _is_before(version, counting)):
            return False
        for version in sorted(found, key=lambda version: version == counting):
            away(version)
        record.forget_deleted(versions.parent, versions.run)
    return True


def _take(versions: Versions, version: Path, stack: ExitStack) -> bool:
    """Take all locks of a version until `stack` closes, of folds that nobody has begun, too; whether it has all."""
    info: Any = record.read_run_info(version) or {"n_folds": 0}
    return not versions.take(version, stack, map(record.fold_name, [None, *range(info["n_folds"])]))
