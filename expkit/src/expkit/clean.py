"""What may go from output/: `exp clean`. Nothing that counts is among it, and nothing that a process works with.

Each kind is a function that finds what is left, and changes nothing. What it finds can be removed; that looks again,
under the locks that a training takes. A folder that is removed gets another name first: an interruption leaves nothing
half there, and the next `exp clean` goes on with it. A symbolic link is neither followed nor removed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from expkit import snapshot, store
from expkit.errors import warn
from expkit.files import is_locked, read_bytes
from expkit.project import code_root, display_path
from expkit.store import CHECKPOINT, FOLD, NOT_EXPERIMENTS, ORIGIN, RESULT, SUBMISSIONS, Versions

REMOVED = ".removed-"  # begins the name of what is being removed
_COMMIT = re.compile(rb'"([0-9a-f]{40}|[0-9a-f]{64})"')


@dataclass(frozen=True)
class Leftover:
    """What may go.

    Attributes:
        what: the folder; of a snapshot, its ref.
        why: it may go.
        bytes: how much space that frees; None: git says so later.
        remove: does it; False: it has come into use since.
    """

    what: str
    why: str
    bytes: int | None
    remove: Callable[[], bool]


def superseded(output: Path) -> Iterator[Leftover]:
    """Versions that a later one has replaced, and in which nobody trains."""
    for versions, found, counting in _runs(output):
        for version in found:
            if _is_before(version, counting):
                yield from _left(versions, version, f"{counting.name} counts", versions.is_superseded)


def failed(output: Path) -> Iterator[Leftover]:
    """Runs in which nothing is done and nobody trains, and new versions of other runs that are so.

    The version that counts comes last, and only when nothing is done in any: no other one is to count in its place.
    """
    for versions, found, counting in _runs(output):
        live = [version for version in reversed(found) if not _is_before(version, counting)]
        empty = [version for version in live if holds_nothing(version)]
        for version in empty:
            if version != counting or empty == live:
                yield from _left(versions, version, "nothing is done", partial(_has_failed, versions))
    for parent in _experiments(output):
        for half in _folders(parent):
            if half.name.startswith(REMOVED):
                yield Leftover(str(half), "half removed", _size(half), partial(_away, half))


def debug(output: Path) -> Iterator[Leftover]:
    """What exp.debug=true has left."""
    for parent in _folders(output / "debug"):
        for versions, found in store.runs_of(parent):
            for version in found:
                if not version.is_symlink():
                    yield from _left(versions, version, "a debug run", Path.is_dir)


def snapshots(output: Path) -> Iterator[Leftover]:
    """Snapshots of the code that no fold, no blend, no submission and no copy refers to: those that nothing can name.

    A training names its snapshot when a fold is done: none goes while one is under way.
    """
    places = [output, *({Path(os.path.realpath(code_root() / "output"))} - {output})]
    if busy := next((lock for place in places for lock in place.glob("*/.locks/*@*") if is_locked(lock)), None):
        warn(f"no snapshot is removed while a training is under way: {busy.parents[1].name}/{busy.name}")
        return
    patterns = [f"*/*/*/{RESULT}", f"*/*/*/{ORIGIN}", f"{SUBMISSIONS}/*.json"]
    named: set[str] = set()
    for file in (file for place in places for pattern in patterns for file in place.glob(pattern)):
        try:
            named.update(match.decode() for match in _COMMIT.findall(read_bytes(file)))
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            warn(f"no snapshot is removed, as {display_path(file)} may name one, and cannot be read: {error.strerror}")
            return
    copied = tuple(copy.name for place in places for copy in snapshot.copies(place).glob("*"))
    for ref, commit in snapshot.refs(code_root()).items():
        if commit not in named and not commit.startswith(copied):
            yield Leftover(ref, "nothing refers to it", None, partial(_forget, ref, commit))


# In the order in which they go: what is in a run before the run, and the snapshots of what is left.
KINDS: dict[str, Callable[[Path], Iterator[Leftover]]] = {
    "superseded": superseded,
    "failed": failed,
    "debug": debug,
    "snapshots": snapshots,
}


# Finding it


def _experiments(output: Path) -> list[Path]:
    return [
        parent for parent in _folders(output) if parent.name not in NOT_EXPERIMENTS and not parent.name.startswith(".")
    ]


def _runs(output: Path) -> Iterator[tuple[Versions, list[Path], Path]]:
    """Every run with its versions, and the one that counts; not one that a symbolic link leads to."""
    for parent in _experiments(output):
        for versions, found in store.runs_of(parent):
            counting = versions.current(found)
            if counting is not None and not any(version.is_symlink() for version in found):
                yield versions, found, counting


def _folders(parent: Path) -> list[Path]:
    """The folders in `parent`, in order, but for symbolic links; [] when it cannot be read, or a link leads there."""
    try:
        if os.path.realpath(parent) != str(parent):
            return []
        with os.scandir(parent) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _left(versions: Versions, version: Path, why: str, may_go: Callable[[Path], bool]) -> Iterator[Leftover]:
    """A version, unless somebody trains in it, or might: its locks are of another user."""
    with suppress(OSError):
        if not versions.held(version):
            yield Leftover(str(version), why, _size(version), partial(_remove, versions, version, may_go))


def _size(folder: Path) -> int:
    """The bytes of all files in a folder that are freed: those with one name only, no links."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it has gone meanwhile
                about = os.lstat(f"{path}/{name}")
                total += about.st_size if about.st_nlink == 1 else 0
    return total


# Whether it may go


def holds_nothing(version: Path) -> bool:
    """Whether a version has no work in it that could be lost.

    A result counts whatever is wrong with it, and so does a checkpoint, from which the same command goes on. What
    cannot be read, or has no `run.json` that fits, may hold anything.
    """
    if store.read_run_info(version) is None:
        return False
    try:
        parts = [name for name in os.listdir(version) if FOLD.fullmatch(name) or name == store.fold_name(None)]
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
    return store.version_number(version) < store.version_number(counting)


def _has_failed(versions: Versions, version: Path) -> bool:
    """Whether nothing is done in a version, and no other one would count in its place."""
    is_needed = versions.current() == version and versions.all() != [version]
    return not is_needed and not versions.is_superseded(version) and holds_nothing(version)


# Removing it


def _remove(versions: Versions, version: Path, may_go: Callable[[Path], bool]) -> bool:
    """Remove a version: looks again, with all locks that a training of it could take, of folds not begun, too."""
    info: Any = store.read_run_info(version) or {"n_folds": 0}
    parts = map(store.fold_name, [None, *range(info["n_folds"])])
    with versions.locked(), ExitStack() as stack:
        goes = not versions.take(version, stack, parts) and may_go(version) and _away(version)
        if goes:
            versions.forget_deleted()
    return goes


def _away(folder: Path) -> bool:
    """Remove a folder that nobody uses: gone at once for everyone else, and then from the disk.

    Raises:
        OSError: it cannot be removed.
    """
    gone = folder.with_name(f"{REMOVED}{secrets.token_hex(4)}")
    folder.rename(gone)
    with suppress(FileNotFoundError):  # another `exp clean` goes on with it
        shutil.rmtree(gone)
    return True


def _forget(ref: str, commit: str) -> bool:
    try:
        snapshot.forget(code_root(), ref, commit)
    except subprocess.CalledProcessError:
        return False
    return True
