"""The versions of a run: which one counts, who holds what, and where the runs lie.

A process writes only into the version that it works in, and nobody moves or deletes that while it does. overwrite=true
makes a new version beside the old one. When it is whole, one small file says that it counts from now on; a kill before
or after that leaves a whole run. Versions only go forward. A superseded one goes when nobody holds its locks.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files
from expkit.errors import Error, NotFound, require, warn
from expkit.project import display_path, output_dir
from expkit.store.records import CONFIG, RUN, read_run_info

if TYPE_CHECKING:
    from filelock import BaseFileLock

SUBMISSIONS, BLENDS = "submissions", "blends"
NOT_EXPERIMENTS = ("debug", "multirun", "wandb", SUBMISSIONS)  # folders of output/ that hold no runs of an experiment
_VERSION = re.compile(r"(?P<run>[^@]+)(?:@(?P<number>[2-9]|[1-9][0-9]{1,5}))?")


def version_number(folder: Path) -> int:
    """Which version lies in `folder`, from 1 on."""
    match = _VERSION.fullmatch(folder.name)
    return int(match["number"] or 1) if match else 1


class Versions:
    """All versions of one run.

    Args:
        parent: the folder of the experiment's results.
        run: the name of the run.
    """

    def __init__(self, parent: Path, run: str) -> None:
        self.parent, self.run = parent, run
        self._pointer = parent / f".{run}.version"  # the number of the version that counts

    @classmethod
    def of(cls, folder: Path) -> Versions:
        """The versions of the run of which one lies in `folder`."""
        match = _VERSION.fullmatch(folder.name)
        return cls(folder.parent, match["run"] if match else folder.name)

    def all(self) -> list[Path]:
        """Those that have a folder now, the oldest first."""
        return next((found for versions, found in runs_of(self.parent) if versions.run == self.run), [])

    def folder(self, number: int) -> Path:
        """Where the version `number` lies, from 1 on."""
        return self.parent / (self.run if number == 1 else f"{self.run}@{number}")

    # Which version counts

    def _pointed(self) -> int | None:
        """The number in the pointer; None: there is none that fits."""
        try:
            text = files.read_bytes(self._pointer).decode().strip()
        except (OSError, ValueError):
            return None
        return int(text[:9]) if text.isascii() and text.isdecimal() else None

    def current(self, found: list[Path] | None = None) -> Path | None:
        """The version that counts: what the pointer says, else the lowest; None: there is none yet.

        Args:
            found: as from `all`, which it is when it is None.
        """
        found = self.all() if found is None else found
        pointed = self._pointed()
        return next((folder for folder in found if version_number(folder) == pointed), found[0] if found else None)

    def install(self, version: Path) -> None:
        """Let a version count from now on. A step: before it and after it, the run is whole."""
        files.write_text(self._pointer, f"{version_number(version)}\n")

    def forget_deleted(self) -> None:
        """Remove a pointer to a version that somebody has deleted: a new one of its number would count at once."""
        pointed = self._pointed()
        if pointed is not None and not os.path.lexists(self.folder(pointed)):
            self._pointer.unlink()
            files.to_disk(self.parent)

    def problem(self) -> str:
        """Why another version may count than the one that was to; "" if not."""
        if not os.path.lexists(self._pointer):
            return ""
        pointed = self._pointed()
        if pointed is None:
            return f"broken {self._pointer.name}"
        return "" if self.folder(pointed).is_dir() else f"version {pointed} is gone, and counted"

    def is_superseded(self, version: Path) -> bool:
        """Whether a later version counts."""
        current = self.current()
        return current is not None and version_number(current) > version_number(version)

    def require_current(self, version: Path, run_id: str) -> None:
        """Raise an `Error` when what is trained in a version could no longer count."""
        what = f"{display_path(version)} has been"
        require(not self.is_superseded(version), f"{what} replaced by another command (overwrite=true)")
        info = read_run_info(version)
        is_there = info is not None and info["id"] == run_id
        require(is_there, f"{what} removed or replaced while this command trained: run it again")

    # Making and removing them

    def make(self, about: Mapping[str, Any], config: str) -> Path:
        """A new version, after all others, whole or not at all. With `locked`.

        Args:
            about: its `run.json`, but for the id and the time.
            config: its configuration, as YAML, for people.
        """
        self.forget_deleted()
        folder = self.folder(max(map(version_number, self.all()), default=0) + 1)
        scratch = self.parent / f".{folder.name}.new"
        files.remove(scratch)
        scratch.mkdir()
        files.write_text(scratch / CONFIG, config)
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        files.write_json(scratch / RUN, {"id": secrets.token_hex(4), "started": started, **about})
        scratch.rename(folder)
        files.to_disk(self.parent)
        return folder

    def clean(self, is_debug: bool = False) -> None:
        """Delete the versions that are superseded, or all of a debug run, where nobody trains. With `locked`."""
        for version in reversed(self.all()):
            with ExitStack() as stack:
                if (is_debug or self.is_superseded(version)) and not self.take(version, stack):
                    shutil.rmtree(version, ignore_errors=True)

    # Locks

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While one decides which version counts, or writes what all folds share."""
        with self._lock(self.run):
            yield

    def part(self, version: Path, name: str) -> BaseFileLock:
        """The lock of a fold in a version; the system frees it when its holder dies."""
        return self._lock(f"{self.run}@{version_number(version)}.{name}")

    def _lock(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        folder = self.parent / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise Error(f"cannot make {display_path(folder)}: a file, or a link to nothing, is in the way") from error
        return FileLock(folder / name)

    def held(self, version: Path) -> list[str]:
        """The parts of a version that a process trains now."""
        with ExitStack() as stack:
            return self.take(version, stack)

    def take(self, version: Path, stack: ExitStack, more: Iterable[str] = ()) -> list[str]:
        """Take every lock of a version that is free, until `stack` closes; the names of the others.

        Args:
            more: parts that nobody may have locked yet.
        """
        from filelock import Timeout

        prefix = f"{self.run}@{version_number(version)}."
        folder = self.parent / ".locks"
        found = sorted(os.listdir(folder)) if folder.is_dir() else []
        others = []
        for name in dict.fromkeys([*(name.removeprefix(prefix) for name in found if name.startswith(prefix)), *more]):
            try:
                lock = self.part(version, name)
                lock.acquire(blocking=False)
            except (Timeout, OSError, Error):  # of another user: nobody can tell
                others.append(name)
            else:
                stack.callback(lock.release)
        return others


# Where the runs lie


def folder_of(output: Path, title: str) -> Path | None:
    """The version that counts of the run "<experiment>/<run>"; None: there is none."""
    experiment, _, run = title.partition("/")
    return Versions(output / experiment, run).current()


def runs_of(parent: Path) -> list[tuple[Versions, list[Path]]]:
    """The runs of an experiment, in order, each with its versions; [], with a warning, where it cannot be read.

    A link that leads to no folder is a run that cannot be read.
    """
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(parent) as entries:
            for entry in entries:
                match = _VERSION.fullmatch(entry.name)
                if match and not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir()):
                    found.setdefault(match["run"], []).append(Path(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        warn(f"{display_path(parent)} cannot be read: {error.strerror}")
    return [(Versions(parent, run), sorted(folders, key=version_number)) for run, folders in sorted(found.items())]


def run_folders(output: Path) -> Iterator[Path]:
    """The version that counts of every run under `output`, in order; not those of exp.debug=true."""
    for experiment in files.listed(output):
        if experiment not in NOT_EXPERIMENTS and not experiment.startswith("."):
            yield from filter(None, (run.current(found) for run, found in runs_of(output / experiment)))


# Which run a name means


LONGEST = 24  # characters of a run that is shown whole


def find_run(name: str, output: Path | None = None) -> Path:
    """The folder of the run that `name` means.

    Args:
        name: its folder; "<experiment>/<run>", whole or as `short_names` has it; or any part that only one run has.

    Raises:
        NotFound: no run has this name; the message has the nearest.
        Error: more than one has; the message lists them.
    """
    output = output or output_dir()
    folders = {_title(folder): folder for folder in run_folders(output)}
    if os.path.isfile(os.path.join(name, "run.json")):
        return Path(name).resolve()
    if name in folders:
        return folders[name]
    names = {title: _names(title) for title in folders}
    matches = [title for title in folders if name in names[title]]
    matches = matches or [title for title in folders if any(name in each for each in names[title])]
    if len(matches) == 1:
        return folders[matches[0]]
    if not folders:
        raise NotFound(f"there are no runs in {display_path(output)}")
    if not matches:
        near = difflib.get_close_matches(name, folders, n=3, cutoff=0.4)
        raise NotFound(f"no run is called {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
    raise Error(f"{name} may be {', '.join(sorted(matches)[:8])}{more}: give more of the name")


def run_names(incomplete: str) -> list[str]:
    """The runs whose names begin so, for the shell's completion."""
    return [title for title in map(_title, run_folders(output_dir())) if title.startswith(incomplete)]


def short_names(titles: Iterable[str]) -> dict[str, str]:
    """The short name of each run: the number of its experiment, and its own name; of a long one, with a hash.

    "001-baseline/larger-lr" is 001/larger-lr, "001-baseline/baseline,exp.train.learning_rate=0.001,exp.seed=7" is
    something like 001/baseline~3f2a1.
    """
    pairs = {title: title.rsplit("/", 1) for title in titles}
    numbers = [experiment.partition("-")[0] for experiment in {experiment for experiment, _ in pairs.values()}]
    found = {}
    for title, (experiment, run) in pairs.items():
        number = experiment.partition("-")[0]
        is_clear = number.isdecimal() and numbers.count(number) == 1
        found[title] = f"{number if is_clear else experiment}/{_short(run)}"
    return found


def _title(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name.partition('@')[0]}"


def _names(title: str) -> list[str]:
    """What a run may be called: its name, whole or short; alone, or after the experiment, its number, or its words."""
    experiment, _, run = title.rpartition("/")
    number, _, words = experiment.partition("-")
    runs = (run, _short(run))
    return [*runs, *(f"{one}/{each}" for one in (experiment, number, words) for each in runs)]


def _short(run: str) -> str:
    if len(run) <= LONGEST:
        return run
    return f"{run.partition(',')[0][: LONGEST - 6]}~{hashlib.sha256(run.encode()).hexdigest()[:5]}"
