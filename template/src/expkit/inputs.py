"""The data of a run: which files of input/ there were, with their content as hashes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from expkit.errors import Error
from expkit.files import Broken, file_hash, read_json, write_json
from expkit.paths import input_dir, output_dir, shown

Manifest = dict[str, list[object]]  # path, below input/ or absolute: [bytes, hash of the content]
CACHE = "cache"  # below input/: what trainings make and share; data of those that have read it
STILL = 2.0  # seconds: a file that has changed later than this before it was read may change again unseen


def take(named: Sequence[str] | None = None, keep: bool = True, cached: Iterable[str] = ()) -> tuple[str, Manifest]:
    """A fingerprint of the data, and the files behind it. A file that is as it was last time is not read again.

    Args:
        named: files, folders or patterns, below input/ or absolute; None: all of input/ but README.md and cache/.
        keep: remember the hashes for the next time.
        cached: files of the cache, by their names below input/; one may be gone.

    Raises:
        Error: one that is named is not there.
    """
    cache_file = output_dir() / ".cache" / "inputs.json"
    try:
        known = (read_json(cache_file) or {})["files"]
        known = known if isinstance(known, dict) else {}
    except (Broken, KeyError):
        known = {}
    found: Manifest = {}
    cache: dict[str, list[object]] = {}
    now = time.time()
    others = [(name, str(input_dir() / name)) for name in cached if (input_dir() / name).is_file()]
    for name, path in [*files_of(named), *others]:
        about = os.stat(path)
        state = [about.st_size, about.st_mtime_ns, about.st_ino]
        seen = known.get(path)
        content = seen[3] if isinstance(seen, list) and seen[:3] == state and len(seen) == 4 else file_hash(Path(path))
        found[name] = [about.st_size, content]
        if now - about.st_mtime > STILL:
            cache[path] = [*state, content]
    if keep and any(known.get(path) != state for path, state in cache.items()):
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file, {"files": known | cache})
    return digest(found), found


def digest(manifest: Manifest) -> str:
    """One hash of all files."""
    return hashlib.sha256(json.dumps(sorted(manifest.items())).encode()).hexdigest()[:16]


def changes(old: Manifest, new: Manifest) -> list[str]:
    """How the files differ, a line each."""
    lines = []
    for name in sorted(old | new):
        if name not in new:
            lines.append(f"{name} is gone")
        elif name not in old:
            lines.append(f"{name} is new")
        elif old[name] != new[name]:
            lines.append(
                f"{name}: {old[name][0]} → {new[name][0]} bytes"
                if old[name][0] != new[name][0]
                else f"{name}: other content"
            )
    return lines


def is_cached(name: str) -> bool:
    """Whether a file of the data, by its name below input/, is in the cache."""
    return name.startswith(f"{CACHE}/")


def files_of(named: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """The files of the data, by their names, and where they are; as in `take`."""
    folder = input_dir()
    if named is None:
        everything = _walk(str(folder), "", set()) if folder.is_dir() else ()
        yield from ((name, path) for name, path in everything if name != "README.md" and not is_cached(name))
    for pattern in named or ():
        where = Path(pattern)
        if where == Path("."):
            yield from files_of(None)
            continue
        base = Path(where.anchor) if where.is_absolute() else folder
        matched = sorted(base.glob(str(where.relative_to(base) if where.is_absolute() else where)))
        if not matched:
            raise Error(f"there is no {shown(base / where)}, which inputs=[...] in expkit.Experiment names")
        for path in matched:
            name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
            yield from _walk(str(path), f"{name}/", set()) if path.is_dir() else [(name, str(path))]


def _walk(top: str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """The files below a folder, with a prefix before their names; links are followed, once.

    Left out is what is hidden, links that lead nowhere, and a folder that nobody may read, as a volume's lost+found.
    """
    about = os.stat(top)
    if (here := (about.st_dev, about.st_ino)) in seen:
        return
    seen.add(here)
    try:
        with os.scandir(top) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in found:
        if os.path.isfile(entry) if entry.is_symlink() else entry.is_file():  # a link may lead to itself
            yield prefix + entry.name, entry.path
    for entry in found:
        if os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
            yield from _walk(entry.path, f"{prefix}{entry.name}/", seen)
