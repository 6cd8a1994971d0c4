"""What may go from output/: `exp clean`. Nothing that counts is among it, and nothing that a process works with.

Each kind is a rule that says whether a version of a run may go. It is asked when the versions are listed, and again
before one is removed, under the locks that a training takes. The version that counts goes last. Each gets another name
first: an interruption leaves nothing half there. A run that is a symbolic link is left alone.
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
from expkit.store import CHECKPOINT, NOT_EXPERIMENTS, RESULT, Versions

DEBUG = "debug"
REMOVED = ".removed-"  # begins the name of what is being removed


def has_failed(versions: Versions, version: Path) -> bool:
    """Whether nothing is done in a version. The one that counts goes last: no other may count in its place."""
    is_last = version != versions.current() or versions.all() == [version]
    return is_last and not versions.is_superseded(version) and holds_nothing(version)


def holds_nothing(version: Path) -> bool:
    """Whether a version has no work in it that could be lost.

    A result counts whatever is wrong with it, and so does a checkpoint, from which the same command goes on. What
    cannot be read, or has no `run.json` that fits, may hold anything.
    """
    if store.read_run_info(version) is None:
        return False
    try:
        return not any({RESULT, CHECKPOINT} & {*os.listdir(part)} for part in version.iterdir() if part.is_dir())
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
        with self.versions.locked(), ExitStack() as stack:
            if self.versions.take(self.folder, stack) or not KINDS[self.kind][1](self.versions, self.folder):
                return False
            self.folder.rename(self.folder.with_name(f"{REMOVED}{secrets.token_hex(4)}"))
            self.versions.forget_deleted()
            for removed in self.folder.parent.glob(f"{REMOVED}*"):  # also what an interruption has left
                shutil.rmtree(removed)
        return True


def leftovers(kind: str, output: Path) -> Iterator[Leftover]:
    """The versions of one of the KINDS, the newest of each run first. Changes nothing."""
    for parent in sorted((output / DEBUG if kind == DEBUG else output).glob("[!.]*")):
        is_other = parent.name in NOT_EXPERIMENTS and kind != DEBUG
        for versions, found in [] if is_other else store.runs_of(parent):
            if any(version.is_symlink() for version in found):
                continue
            for version in reversed(found):
                with suppress(OSError):  # nobody can tell whether it is in use, or it has gone meanwhile
                    if KINDS[kind][1](versions, version) and not versions.held(version):
                        yield Leftover(kind, version, versions, _size(version))


def _size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(os.lstat(f"{path}/{name}").st_size for path, _, names in os.walk(folder) for name in names)
