"""Where runs lie and what they are called; which version of a run counts, and who holds it; what is written into one.

A process writes only into the version that it works in, and nobody moves or deletes that while it does. overwrite=true
makes a new version beside the old one. When it is whole, an empty file in it says that it counts; a kill before
or after that leaves a whole run. Versions only go forward. A superseded one goes when nobody holds its locks.
"""

# ruff: noqa: F403, F405

from __future__ import annotations

import difflib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files
from expkit.errors import Error, NotFound, require
from expkit.project import display_path, output_dir
from expkit.store.records import *

if TYPE_CHECKING:
    from filelock import BaseFileLock

_VERSION = re.compile(r"(?P<run>[^@]+)(?:@(?P<number>[2-9]|[1-9][0-9]{1,5}))?")
LONGEST = 24  # characters of a run that is shown whole


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

    @classmethod
    def of(cls, folder: Path) -> Versions:
        """The versions of the run of which one lies in `folder`."""
        return cls(folder.parent, folder.name.partition("@")[0])

    def all(self) -> list[Path]:
        """Those that have a folder now, the oldest first."""
        return next((found for _, found in runs_of(self.parent, self.run)), [])

    # Which version counts

    def current(self) -> Path | None:
        """The version that counts; None: there is none yet."""
        return current_of(self.all())

    def install(self, version: Path) -> None:
        """Let a version count from now on, unless a later one does; a kill before or after leaves the run whole."""
        if self.current() != version and not self.is_superseded(version):
            files.write_text(version / INSTALLED, "")

    def is_superseded(self, version: Path) -> bool:
        """Whether a later version counts."""
        current = self.current()
        return current is not None and version_number(current) > version_number(version)

    def require_current(self, version: Path, run_id: str) -> None:
        """Raise an `Error` when what is trained in a version could no longer count."""
        info = read_run_info(version)
        is_there = info is not None and info["id"] == run_id and not self.is_superseded(version)
        what = "has been removed or replaced while this command trained: run it again"
        require(is_there, f"{display_path(version)} {what}")

    # Making and removing them

    def make(self, about: Mapping[str, Any], config: str) -> Path:
        """A new version, after all others, whole or not at all. With `locked`.

        Args:
            about: its `run.json`, but for the id and the time.
            config: its configuration, as YAML, for people.
        """
        numbers = map(version_number, self.all())
        folder = self.parent / (f"{self.run}@{last + 1}" if (last := max(numbers, default=0)) else self.run)
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

    def locked(self) -> BaseFileLock:
        """The lock of the run: to decide which version counts, or to write what all folds share."""
        return self._lock(self.run)

    def part(self, version: Path, name: str) -> BaseFileLock:
        """The lock of a fold in a version; the system frees it when its holder dies."""
        return self._lock(f"{self.run}@{version_number(version)}.{name}")

    def _lock(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        folder = self.parent / ".locks"
        files.make_folder(folder)
        return FileLock(folder / name)

    def held(self, version: Path) -> list[str]:
        """The parts of a version that a process trains now."""
        with ExitStack() as stack:
            return self.take(version, stack)

    def take(self, version: Path, stack: ExitStack, more: Iterable[str] = ()) -> list[str]:
        """Lock every part of a version that is free, until `stack` closes.

        Args:
            more: further parts to lock, which may have no lock file yet.

        Returns:
            the parts that other processes have locked.
        """
        from filelock import Timeout

        prefix = f"{self.run}@{version_number(version)}."
        there = files.listed(self.parent / ".locks")
        known, others = [name.removeprefix(prefix) for name in there if name.startswith(prefix)], []
        for name in dict.fromkeys([*known, *more]):
            try:
                stack.enter_context(self.part(version, name).acquire(blocking=False))
            except (Timeout, OSError, Error):  # of another user: nobody can tell
                others.append(name)
        return others


# Where the runs lie


def current_of(versions: Sequence[Path]) -> Path | None:
    """The version that counts, of all of a run: the newest that was installed, else the oldest; None: there is none."""
    installed = [version for version in versions if os.path.lexists(version / INSTALLED)] if len(versions) > 1 else []
    return next(iter([*reversed(installed), *versions]), None)


def folder_of(output: Path, title: str) -> Path | None:
    """The version that counts of the run "<experiment>/<run>"; None: there is none."""
    experiment, _, run = title.partition("/")
    return Versions(output / experiment, run).current()


def runs_of(parent: Path, only: str = "") -> list[tuple[Versions, list[Path]]]:
    """The runs of an experiment, in order, each with its versions; [], with a warning, where it cannot be read.

    Args:
        only: the name of one run; "": all of them.

    What is no file is a run, though perhaps one that cannot be read, such as a link that leads nowhere.
    """
    found: dict[str, list[Path]] = {}
    for name in [] if os.path.isfile(parent) else files.listed(parent):
        match = _VERSION.fullmatch(name) if name.startswith(only) and name[:1] != "." else None
        if match and only in ("", match["run"]) and not os.path.isfile(path := f"{parent}/{name}"):
            found.setdefault(match["run"], []).append(Path(path))
    return [(Versions(parent, run), sorted(folders, key=version_number)) for run, folders in sorted(found.items())]


def run_folders(output: Path) -> Iterator[Path]:
    """The version that counts of every run under `output`, in order; not those of exp.debug=true."""
    for experiment in files.listed(output):
        if experiment not in NOT_EXPERIMENTS and not experiment.startswith("."):
            yield from filter(None, (current_of(versions) for _, versions in runs_of(output / experiment)))


def holds_nothing(version: Path) -> bool:
    """Whether a version has no work in it that could be lost.

    A result counts whatever is wrong with it, and so does a checkpoint, from which the same command goes on. What
    cannot be read, or has no `run.json` that fits, may hold anything.
    """
    if read_run_info(version) is None:
        return False
    try:
        return not any({RESULT, CHECKPOINT} & {*os.listdir(part)} for part in version.iterdir() if part.is_dir())
    except OSError:
        return False


# Which run a name means, and what a run is called where there is little room


def find_run(name: str, output: Path | None = None, is_whole: bool = False) -> Path:
    """The folder of the run that `name` means.

    Args:
        name: its folder; "<experiment>/<run>", whole or as `short_names` has it; or any part that only one run has.
        is_whole: whether it must be the folder, "<experiment>/<run>" or "<run>", so that no other run can be meant.

    Raises:
        NotFound: no run has this name; the message has the nearest.
        Error: more than one has; the message lists them.
    """
    if os.path.isfile(os.path.join(name, RUN)):
        return Path(name).resolve()
    output = output or output_dir()
    folders = {_title(folder): folder for folder in run_folders(output)}
    matches = [each for each in titles_of(name, folders) if not is_whole or name in (each, each.partition("/")[2])]
    if len(matches) == 1:
        return folders[matches[0]]
    if not folders:
        raise NotFound(f"there are no runs in {display_path(output)}")
    if not matches:
        raise NotFound(f"no run is called {name}{' (a training names it whole)' * is_whole}{nearest(name, folders)}")
    more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
    raise Error(f"{name} may be {', '.join(sorted(matches)[:8])}{more}: give more of the name")


def titles_of(name: str, titles: Collection[str]) -> list[str]:
    """The titles of the runs that are called `name`; when there are none, of those with it in what they are called.

    A name that begins with the whole name of an experiment is no part of another one: it means this run, or none.
    """
    own = [title for title in titles if "/" in name and title.startswith(name[: name.index("/") + 1])]
    return [title for title in own or titles if name in _names(title)] or ([] if own else _with_part(name, titles))


def _with_part(name: str, titles: Collection[str]) -> list[str]:
    """The titles with `name` in what they are called; those with it before the overrides, if there are any."""
    found = [title for title in titles if any(name in each for each in _names(title))]
    return [title for title in found if any(name in each.partition(",")[0] for each in _names(title))] or found


def nearest(name: str, titles: Collection[str]) -> str:
    """The end of a sentence about a name that no run has: the nearest ones."""
    near = _with_part(name, titles)[:3] or difflib.get_close_matches(name, titles, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def and_without_seeds(titles: Iterable[str]) -> list[str]:
    """The titles of runs, each with what it is without its seeds: the name of all that differ in these alone."""
    return [each for title in titles for each in (title, re.sub(r",exp\.(split\.)?seed=[^,]*", "", title))]


def is_called(title: str, name: str) -> bool:
    """Whether a run is called so: whole, or as `short_names` has it."""
    return name in _names(title)


def is_named(title: str, part: str) -> bool:
    """Whether a run is called so, or has it in its name; a number is one of an experiment or a set: 003, not 0.003."""
    return is_called(title, part) or part in (re.split("[/_-]", title.partition(",")[0]) if part.isdecimal() else title)


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


# Writing into a version


def write_result(folder: Path, result: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Mark the fold in `folder` as done: flush its files, then write the result that lists them.

    Args:
        result: with "target", as from `tables.target_hash`; "files" and "packages", a hash of those of `origin`, are
            added.
    """
    files.write_json(folder / ORIGIN, origin)
    hashes, listed = dict[Path, str | None](), {}
    with files.flushing(folder) as there:
        for file in there:  # of the log more may be printed; the checkpoint goes after the result
            if file != folder / LOG and folder / CHECKPOINT not in file.parents:
                hashes[file] = files.file_hash(file) if file.suffix in (".npz", ".csv", ".json") else None
    for file, digest in hashes.items():
        about = file.stat()
        listed[file.relative_to(folder).as_posix()] = [about.st_size, about.st_mtime_ns, digest]
    packages = hashlib.sha256(repr(sorted(origin["packages"].items())).encode()).hexdigest()[:16]
    files.write_json(folder / RESULT, dict(result) | {"packages": packages, "files": listed})


def fail_fold(folder: Path, reason: str) -> None:
    """Keep why the training of the fold in `folder` has failed; its next training removes it."""
    files.write_text(folder / FAILED, f"{reason}\n")


def score_result(fold: FoldRecord, scores: Mapping[str, float]) -> None:
    """Give a fold that is trained and has no score its scores."""
    assert fold.unscored is not None
    files.write_json(fold.folder / RESULT, {**files.read_if_whole(fold.folder / RESULT), "scores": dict(scores)})


def keep_fold(fold: FoldRecord, version: Path, run_id: str) -> None:
    """Copy a fold into a version of a run, in the place of what may be there, whole or not at all. With its lock.

    Raises:
        Error: it has changed meanwhile.
    """
    target = version / fold.folder.name
    scratch = version / f".{target.name}"
    files.remove(scratch)
    shutil.copytree(fold.folder, scratch)
    if fold.result is not None:
        require(changed_file(scratch, fold.result["files"]) is None, f"{fold.title} changes: the same command goes on")
        files.write_json(scratch / RESULT, {**files.read_if_whole(scratch / RESULT), "run": run_id})
    with files.flushing(scratch):
        pass
    files.remove(target)
    scratch.rename(target)
    files.to_disk(version)


def prune_run(folder: Path, where: str | None) -> None:
    """Keep where a study has ended the run in `folder`; None: it has not."""
    if where is None:
        (folder / PRUNED).unlink(missing_ok=True)
    else:
        files.write_text(folder / PRUNED, f"{where}\n")


def forget_cv(folder: Path) -> None:
    """Take the scores of a version away: they can be made again."""
    (folder / CV).unlink(missing_ok=True)


def write_cv(folder: Path, summary: Mapping[str, Any], done: Mapping[int, FoldRecord]) -> None:
    """Write the scores that were computed from the predictions of the folds `done`."""
    files.write_json(folder / CV, {**summary, "folds": {str(number): fold.checksum for number, fold in done.items()}})
