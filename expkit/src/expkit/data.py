"""The data of a run: which files of input/ there were, with their content as hashes, and where to get them again."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shlex
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from expkit.errors import Error, described, require
from expkit.files import file_hash, make_folder, read_if_whole, to_disk, write_json
from expkit.project import code_root, display_path, input_dir, output_dir
from expkit.store import DataFiles, Run, read_checked

if TYPE_CHECKING:
    from expkit.fingerprint import Ignored

Manifest = dict[str, list[object]]  # path, below input/ or absolute: [bytes, hash of the content]
CACHE = "cache"  # below input/: what trainings make and share; data of those that have read it
SAMPLE = "sample_submission.csv"  # what a competition asks for, which trains nothing
SOURCES = "sources.toml"  # in input/: where its files come from, for `exp data RUN --fetch`
ADDRESS = r"(https?|file)://\S+$"
STILL = 2.0  # seconds: a file that has changed later than this before it was read may change again unseen


def hash_inputs(
    named: Sequence[str] | None = None, keep: bool = True, cached: Iterable[str] = (), looks: int = 10
) -> tuple[str, Manifest]:
    """A fingerprint of the data, and the files behind it. A file that is as it was last time is not read again.

    Args:
        named: files, folders or patterns, below input/ or absolute; None: all of input/ but README.md, SOURCES, cache/.
        keep: remember the hashes for the next time.
        cached: names of files below input/: those in the cache count, too; one may be gone.
        looks: how often it looks again at input/, when a file that is listed is gone before it is read.

    Raises:
        Error: one that is named is not there, or one cannot be read.
    """
    cache_file = output_dir() / ".cache" / "inputs.json"
    known = read_if_whole(cache_file).get("files", {})
    in_cache = {name: str(input_dir() / name) for name in cached if name.startswith(f"{CACHE}/")}
    now = time.time()
    try:
        listed = input_files(named) | {name: path for name, path in in_cache.items() if os.path.isfile(path)}
        seen = {name: _seen(path, known.get(path)) for name, path in listed.items()}
    except OSError as error:
        if isinstance(error, FileNotFoundError) and looks > 1:  # since it was listed: a download is done, and renamed
            return hash_inputs(named, keep, cached, looks - 1)
        what = f"{display_path(Path(error.filename or input_dir()))} cannot be read: {error.strerror}"
        raise Error(f"{what}: mend it, or name what is read: expkit.Experiment(..., inputs=[...])") from error
    kept = {listed[name]: one for name, one in seen.items() if now - max(one[1], one[2]) / 1e9 > STILL}
    if keep and any(known.get(path) != one for path, one in kept.items()):
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file, {"files": known | kept})
    found: Manifest = {name: [one[0], one[-1]] for name, one in seen.items()}
    return manifest_hash(found), found


def _seen(path: str, known: list[Any] | None) -> list[Any]:
    """The state of a file and the hash of its content; as `known` when the state is the same, else it is read.

    A file that changes while it is read has another state afterwards, and is read again the next time.
    """
    about = os.stat(path)
    state = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]  # ctime: mtime may have been put back
    return known if known and known[:-1] == state else [*state, file_hash(Path(path))]


def manifest_hash(manifest: Manifest) -> str:
    """One hash of all files."""
    return hashlib.sha256(json.dumps(sorted(manifest.items())).encode()).hexdigest()[:16]


def changed_files(old: Manifest, new: Manifest) -> list[str]:
    """How the files differ, a line each."""
    lines = []
    for name in sorted(old.keys() | new):
        if name not in new:
            lines.append(f"{name} is gone")
        elif name not in old:
            lines.append(f"{name} is new")
        elif old[name][0] != new[name][0]:
            lines.append(f"{name}: {old[name][0]} → {new[name][0]} bytes")
        elif old[name] != new[name]:
            lines.append(f"{name}: other content")
    return lines


def input_files(named: Sequence[str] | None) -> dict[str, str]:
    """Where the files of the data are, by their names; as in `hash_inputs`."""
    folder, found = input_dir(), dict[str, str]()
    if named is None and folder.is_dir():
        found = dict(_walk(str(folder), "", {os.path.realpath(folder / CACHE)}))
        for name in {"README.md", SOURCES} & found.keys():
            del found[name]
    for pattern in named or ():
        matched = sorted(folder / each for each in glob.glob(pattern, root_dir=folder, recursive=True))
        what = f"there is no {display_path(folder / pattern)}, which inputs=[...] in train.py or exp.split.file names"
        require(bool(matched), what)
        for path in matched:
            name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
            found |= dict(_walk(str(path), f"{name}/", set())) if path.is_dir() else {name: str(path)}
    return found


def unnamed_files(opened: Iterable[str], named: Sequence[str]) -> list[str]:
    """Which files of `input/` among these `named` leaves out; as in `hash_inputs`, but for those in the cache."""
    rest = [name for name in sorted(opened) if not re.search(rf"(^|/)\.|^{CACHE}/|(^|/){SAMPLE}$", name)]
    with suppress(Error, OSError):  # what is named may be gone by now
        rest = [name for name in rest if (input_dir() / name).is_file()]
        return sorted({*rest} - input_files(named).keys()) if rest else []
    return []


def _walk(top: str, prefix: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """The files below a folder, with a prefix before their names; links are followed, once.

    Left out is what is hidden, links that lead nowhere, and a folder that nobody may read, as a volume's lost+found.

    Args:
        seen: the folders that are not followed again, as without links.
    """
    is_new = (real := os.path.realpath(top)) not in seen
    seen.add(real)
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name) if is_new else ():
        with suppress(OSError):  # a folder that may not be read, a link in a circle
            if not entry.name.startswith(".") and entry.is_file():
                yield prefix + entry.name, entry.path
            elif not entry.name.startswith(".") and entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", seen)


def write_manifest(output: Path, digest: str, manifest: Mapping[str, Any]) -> None:
    """Keep which files a fingerprint stands for; once for all runs."""
    file = output / ".data" / f"{digest}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"files": manifest})


def read_manifest(output: Path, digest: str) -> dict[str, list[Any]] | None:
    """The files behind a fingerprint: path to bytes and hash; None when nobody knows them any more."""
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        return None
    content = read_checked(output / ".data" / f"{digest}.json", DataFiles, [])
    return content["files"] if content else None


# What a run was trained with, and where to get it again


def run_data(run: Run) -> list[dict[str, Any]]:
    """The files that a run was trained with, and what of them is here. Writes nothing.

    Returns:
        of each its "file", as in the record, "bytes" and "hash"; its "state": "here", "missing", or "other", which is
        another content under this name; and "folds", the numbers of those that had it, None for that on all rows. Where
        folds have had two contents of a file, it is there twice.

    Raises:
        Error: nobody knows them.
    """
    folds: dict[str, list[int | None]] = {}
    for part, result in ((part, part.result) for part in run.parts if part.result):
        folds.setdefault(result["data"] or "", []).append(part.number)
    found = {digest: read_manifest(output_dir(), digest) for digest in folds}
    require(bool(found) and None not in found.values(), f"nobody knows which files {run.title} was trained with")
    wanted: dict[tuple[Any, ...], list[int | None]] = {}
    for digest, manifest in found.items():
        for name, content in (manifest or {}).items():
            wanted.setdefault((name, *content), []).extend(folds[digest])
    known = read_if_whole(output_dir() / ".cache" / "inputs.json").get("files", {})
    keys = ("file", "bytes", "hash")
    rows = [dict(zip(keys, file, strict=True)) | {"folds": folds} for file, folds in sorted(wanted.items())]
    return [row | {"state": _state_of(row, known)} for row in rows]


def _state_of(row: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    path = str(input_dir() / row["file"])
    if not os.path.lexists(path):
        return "missing"
    with suppress(OSError):  # a folder, or nobody may read it
        if os.path.getsize(path) == row["bytes"] and _seen(path, known.get(path))[-1] == row["hash"]:
            return "here"
    return "other"


def fetch_data(rows: Iterable[dict[str, Any]]) -> None:
    """Bring the missing ones of `run_data` from where input/sources.toml says: an address, or a command, which runs.

    Args:
        rows: as from `run_data`; "state" is that afterwards, and "problem" says why a file has not come.

    Raises:
        Error: the file is not as it must be.
    """
    sources = _sources()
    for row in rows:
        try:
            if row["state"] != "here":
                _fetch(row, next((source for name, source in sources.items() if fnmatchcase(row["file"], name)), ""))
            row["state"] = "here"
        except Exception as error:  # the others may come
            row["problem"] = described(error)


def _sources() -> dict[str, str]:
    """The content of input/sources.toml; where input/ is on a volume, of that in the project."""
    file = next((each / SOURCES for each in (input_dir(), code_root() / "input") if (each / SOURCES).exists()), None)
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError) as error:
        raise Error(f"input/{SOURCES} cannot be read: {error}") from error
    for name, source in found.items():
        is_source = isinstance(source, str) and ("{file}" in source or re.match(ADDRESS, source))
        what = 'an address, such as "https://example.org/{path}", or a command that writes {file}'
        require(bool(is_source), f'input/{SOURCES}: "{name}" must be {what}; quote a name that has a dot')
    return found


def _fetch(row: Mapping[str, Any], source: str) -> None:
    name, file = row["file"], input_dir() / row["file"]
    keep = f"another content is here, and is kept: move {display_path(file)} out of input/"
    require(not os.path.lexists(file), keep)
    require(Path(os.path.normpath(file)).is_relative_to(input_dir()), "it is not below input/: bring it by hand")
    require(bool(source), f"no line of input/{SOURCES} names it")
    make_folder(file.parent)
    with TemporaryDirectory(prefix=".fetching-", dir=file.parent) as scratch:
        made = Path(scratch, file.name)
        if re.match(ADDRESS, source):
            source = f"curl -gfsSLo {{file}} {shlex.quote(source.replace('{path}', quote(name)))}"
        words = [word.replace("{path}", name).replace("{file}", str(made)) for word in shlex.split(source)]
        code = subprocess.run(words, cwd=code_root(), stdin=subprocess.DEVNULL, stdout=2).returncode  # 2: beside --json
        require(code == 0 and made.is_file(), f"{words[0]} exits {code}, no {{file}} is whole")
        other = f"{source} has another content, {made.stat().st_size} bytes and not {row['bytes']}: not kept"
        require(file_hash(made) == row["hash"], other)
        to_disk(made)
        require(not os.path.lexists(file), keep)
        os.replace(made, file)
        to_disk(file.parent)


# What has changed since a training


def changed_code(code: Any, ignored: Ignored | None) -> list[str]:
    """The files that a process had loaded, and that are others now.

    Args:
        code: their hashes, by path, as a checkpoint or `origin.json` has them; [] when they do not fit.
        ignored: the names in them that train nothing, as `Loaded.ignored`.
    """
    from expkit.fingerprint import changed_since  # not needed before the first fold is done

    fits = isinstance(code, dict) and all(isinstance(pair, list) and len(pair) == 2 for pair in code.values())
    return changed_since(code, ignored) if fits else []


def changed_data(trained_with: Any, named: Sequence[str] | None) -> list[str]:
    """How the data of the experiment differ from those with this fingerprint, a line a file. Writes nothing.

    Args:
        trained_with: when it is no text, it is not known, and nothing has changed.
        named: what of `input/` the training reads now, as `Experiment.data` says.
    """
    if not isinstance(trained_with, str):
        return []
    before = read_manifest(output_dir(), trained_with)
    try:
        digest, now = hash_inputs(named, keep=False, cached=before or ())
    except Error as error:
        return [str(error)]
    if digest == trained_with:
        return []
    return changed_files(before, now) if before is not None else ["nobody knows which files"]


def changes_since(
    about: Mapping[str, Any], ignored: Ignored | None, named: Sequence[str] | None
) -> dict[str, list[str]]:
    """What has changed in the project since a fold was trained: "code" and "data", each with its files; {}: nothing.

    Args:
        about: its `origin.json`, or what a checkpoint remembers: "code" and "data" of them count.
        ignored: as of `changed_code`.
        named: as of `changed_data`.
    """
    found = {"code": changed_code(about.get("code"), ignored), "data": changed_data(about.get("data"), named)}
    return {what: names for what, names in found.items() if names}


# What experiments share


class Cache:
    """Files in `input/cache/` that experiments share. A call returns the path of one, and makes it if it is missing.

        features = fold.cache("tfidf-v1.npz", lambda file: numpy.savez(file, features=tfidf(texts)))

    Args:
        debug: keep the files in the folder of the fold: a debug run makes them of a few rows.

    Attributes:
        read: the files that were asked for, by their names below input/; empty in a debug run.
    """

    def __init__(self, fold: Path, debug: bool) -> None:
        self._folder = fold / CACHE if debug else input_dir() / CACHE
        self._debug = debug
        self.read: set[str] = set()

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file `input/cache/<name>`. The first training that asks for it makes it; others wait until it is there.

        Its content is part of the record of the data. It is never made again: when the code or the data that it is made
        of change, give it another name.

        Args:
            name: of the file, such as "tfidf-v1.npz".
            make: is called with a path, and writes the file there.

        Returns:
            the path of the file.

        Raises:
            Error: `name` is not the name of a file, or `make` writes no file.
        """
        from filelock import FileLock

        rule = "a name has letters, digits and . _ + -, and begins with a letter or digit"
        require(re.fullmatch(r"\w[\w.+-]*", name) is not None, f"fold.cache: {rule}, not {name!r}")
        file = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(self._folder / f".{name}.lock"),
            TemporaryDirectory(dir=self._folder, prefix=".making-") as scratch,
        ):
            if not file.exists():
                made = Path(scratch, name)  # its own name: NumPy and pandas look at the end of it
                make(made)
                what = f"fold.cache({name!r}, make): make(file) must write {display_path(file)}, and did not"
                require(made.is_file(), what)
                to_disk(made)
                os.replace(made, file)
                to_disk(self._folder)
        if not self._debug:
            self.read.add(f"{CACHE}/{name}")
        return file
