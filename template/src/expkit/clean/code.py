"""Copies of the code that no sweep needs any more, and snapshots that no run refers to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from expkit import snapshot
from expkit.clean.leftover import REMOVED, Leftover, away, folders, size
from expkit.errors import warn
from expkit.files import is_locked, read_bytes
from expkit.launch.codecopy import changing, copies, is_used
from expkit.paths import code_root, shown
from expkit.record import ORIGIN, RESULT, SUBMISSIONS

_COMMIT = re.compile(rb'"([0-9a-f]{40}|[0-9a-f]{64})"')


def code(output: Path) -> Iterator[Leftover]:
    """Copies of the project's code that no sweep needs, as its jobs are done."""
    for copy in folders(copies(output)):
        if copy.name == ".used" or copy.name.startswith(REMOVED):
            continue
        if not is_used(copy):
            why = "half a copy" if copy.name.startswith(".") else "its sweeps are over"
            yield Leftover(str(copy), why, size(copy), partial(remove_copy, copy))


def remove_copy(copy: Path) -> bool:
    """Remove a copy of the code, unless a sweep uses it; whether it has gone."""
    with changing(copy.parent):
        if is_used(copy):
            return False
        away(copy)
        for file in (copy.parent / ".used").glob(f"{copy.name}.*"):
            file.unlink(missing_ok=True)
    return True


def snapshots(output: Path) -> Iterator[Leftover]:
    """Snapshots of the code that no fold, no blend, no submission and no copy refers to: those that nothing can name.

    A training names its snapshot when a fold is done: none goes while one is under way.
    """
    places = [output, *({(code_root() / "output").resolve()} - {output})]
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
            warn(f"no snapshot is removed, as {shown(file)} may name one, and cannot be read: {error.strerror}")
            return
    copied = tuple(copy.name for place in places for copy in copies(place).glob("*"))
    for ref, commit in snapshot.refs(code_root()).items():
        if commit not in named and not commit.startswith(copied):
            yield Leftover(ref, "nothing refers to it", None, partial(_forget, ref, commit))


def _forget(ref: str, commit: str) -> bool:
    try:
        snapshot.forget(code_root(), ref, commit)
    except subprocess.CalledProcessError:
        return False
    return True
