"""Files that a process was writing when it was killed, and what an interrupted `exp clean` was removing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from expkit import files
from expkit.clean.leftover import REMOVED, Leftover, away, size
from expkit.files import Broken
from expkit.record import RESULT

STILL = 3600  # seconds; nothing of ours is being written for so long
DEEPEST = 3  # folders below output/: <experiment>/<run>/<fold>
NOT_OURS = ("wandb", ".code", ".locks", ".submitit", "checkpoint", "cache")


def temporary(output: Path) -> Iterator[Leftover]:
    """Files with a temporary name that are an hour old, and folders that are half removed."""
    for path, names, found in os.walk(output):
        folder = Path(path)
        for name in sorted(names):
            if name.startswith(REMOVED) and not (folder / name).is_symlink():
                yield _leftover(folder / name, "half removed")
        depth = len(folder.relative_to(output).parts)
        names[:] = [name for name in names if name not in NOT_OURS and depth < DEEPEST and not name.startswith(REMOVED)]
        for name in sorted(found):
            if files.TEMPORARY.fullmatch(name) and _is_left(folder / name):
                yield _leftover(folder / name, "its process was killed")


def _leftover(path: Path, why: str) -> Leftover:
    return Leftover(str(path), why, size(path), partial(_remove, path))


def _is_left(file: Path) -> bool:
    """Whether nobody writes a file any more, and no fold that is done has it among its own."""
    try:
        is_old = not file.is_symlink() and time.time() - file.stat().st_mtime > STILL
        result = files.read_json(file.with_name(RESULT)) if is_old else None
    except (OSError, Broken):
        return False
    return is_old and file.name not in (result or {}).get("files", {})


def _remove(path: Path) -> bool:
    if not path.name.startswith(REMOVED) and not _is_left(path):
        return False
    away(path)
    return True
