"""One thing that may go: what it is, how large, and how it is removed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

REMOVED = ".removed-"  # begins the name of what is being removed


@dataclass(frozen=True)
class Leftover:
    """What may go.

    Attributes:
        what: the folder or file; of a snapshot, its ref.
        why: it may go.
        bytes: how much space that frees; None: git says so later.
        remove: does it; False: it has come into use since.
    """

    what: str
    why: str
    bytes: int | None
    remove: Callable[[], bool]


def folders(parent: Path) -> list[Path]:
    """The folders in `parent`, in order, but for symbolic links; [] when it cannot be read, or a link leads there."""
    try:
        if parent.resolve() != parent:
            return []
        with os.scandir(parent) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder, that are freed: those with one name only, no links."""
    files = [str(path)] if path.is_file() else []
    files += [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        with suppress(OSError):  # it has gone meanwhile
            about = os.lstat(file)
            total += about.st_size if about.st_nlink == 1 else 0
    return total


def away(path: Path) -> None:
    """Remove a folder or file that nobody uses: gone at once for everyone else, and then from the disk.

    Raises:
        OSError: it cannot be removed.
    """
    if not path.is_dir():
        path.unlink()
        return
    gone = path.with_name(f"{REMOVED}{secrets.token_hex(4)}")
    path.rename(gone)
    with suppress(FileNotFoundError):  # another `exp clean` goes on with it
        shutil.rmtree(gone)
