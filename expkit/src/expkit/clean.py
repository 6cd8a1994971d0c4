"""What may go from output/: `exp clean`. Nothing that counts is among it, and nothing that a process works with.

Each kind is a rule that says whether a version of a run may go. It is asked when the versions are listed, and again
before one is removed, under the locks that a training takes. The version that counts goes last. Each gets another name
first: an interruption leaves nothing half there. A symbolic link is neither followed nor removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from expkit import store
from expkit.store import CHECKPOINT, FOLD, NOT_EXPERIMENTS, RESULT, Versions

DEBUG = "debug"
REMOVED = ".removed-"  # begins the name of what is being removed


def has_failed(versions: Versions, version: Path) -> bool:
    """Whether nothing is done in a version; in the one that counts, and in no other that could count in its place."""
    if versions.is_superseded(version):
        return False
    others = versions.all() if version == versions.current() else []
    return all(holds_nothing(one) for one in [version, *others] if not versions.is_superseded(one))


def holds_nothing(version: Path) -> bool:
    """Whether a version has no work in it that could be lost.

    A result counts whatever is wrong with it, and so does a checkpoint, from which the same command goes on. What
    cannot be read, or has no `run.json` that fits, may hold anything.
    """
    if store.read_run_info(version) is None:
        return False
    try:
        parts = [name for name in os.listdir(version) if FOLD.fullmatch(name) or name == store.fold_name(None)]
        return not any({RESULT, CHECKPOINT} & {*os.listdir(version / part)} for part in parts)
    except OSError:
        return False


# What may go, in the order in which it goes: why, and the rule.
KINDS: dict[str, tuple[str, Callable[[Versions, Path], bool]]] = {
    "superseded": ("a later version counts", Versions.is_superseded),
    "failed": ("nothing is done", has_failed),
    DEBUG: ("a debug run", lambda versions, version: version.is_dir()),
}


@dataclass(frozen=True)
class Leftover:
    """A version of a run that may go.

    Attributes:
        bytes: how much space that frees.
    """

    kind: str
    folder: Path
    versions: Versions
    bytes: int

    @property
    def why(self) -> str:
        return KINDS[self.kind][0]

    def remove(self) -> bool:
        """Remove it; False: it has come into use since it was found.

        Raises:
            OSError: it cannot be removed.
        """
        info = store.read_run_info(self.folder)
        parts = map(store.fold_name, [None, *range(info["n_folds"] if info else 0)])  # begun or not
        with self.versions.locked(), ExitStack() as stack:
            is_last = self.folder != self.versions.current() or self.versions.all() == [self.folder]
            is_in_use = self.versions.take(self.folder, stack, parts)
            if is_in_use or not is_last or not KINDS[self.kind][1](self.versions, self.folder):
                return False
            self.folder.rename(self.folder.with_name(f"{REMOVED}{secrets.token_hex(4)}"))
            self.versions.forget_deleted()
            for removed in self.folder.parent.glob(f"{REMOVED}*"):  # also what an interruption has left
                with suppress(FileNotFoundError):  # another `exp clean` goes on with it
                    shutil.rmtree(removed)
        return True


def leftovers(kind: str, output: Path) -> Iterator[Leftover]:
    """The versions of one of the KINDS, the newest of each run first. Changes nothing.

    Args:
        output: the folder with the results, no symbolic link.
    """
    parents = _folders(output / DEBUG) if kind == DEBUG else _folders(output)
    for parent in parents:
        if kind != DEBUG and (parent.name in NOT_EXPERIMENTS or parent.name.startswith(".")):
            continue
        for versions, found in store.runs_of(parent):
            if any(version.is_symlink() for version in found):
                continue
            for version in reversed(found):
                with suppress(OSError):  # nobody can tell whether it is in use, or it has gone meanwhile
                    if KINDS[kind][1](versions, version) and not versions.held(version):
                        yield Leftover(kind, version, versions, _size(version))


def _folders(parent: Path) -> list[Path]:
    """The folders in `parent`, in order, but for symbolic links; [] when it cannot be read, or is one."""
    try:
        return [] if parent.is_symlink() else sorted(p for p in parent.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return []


def _size(folder: Path) -> int:
    """The bytes of all files in a folder that are freed: those with one name only."""
    files = (os.lstat(f"{path}/{name}") for path, _, names in os.walk(folder) for name in names)
    return sum(file.st_size for file in files if file.st_nlink == 1)
