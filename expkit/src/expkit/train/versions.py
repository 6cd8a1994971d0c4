"""The versions of a run: which one a command works in, when a new one counts, and who holds what.

A process writes only into the version that it works in, and nobody moves or deletes that while it does. overwrite=true
makes a new version beside the old one. When it is whole, one small file says that it counts from now on; a kill before
or after that leaves a whole run. Versions only go forward. A superseded one goes when nobody holds its locks.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files, record
from expkit.config.same import same
from expkit.config.values import flat
from expkit.errors import Error
from expkit.paths import shown
from expkit.record import FoldRecord, RunRecord
from expkit.train.checkpoint import unfinished

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Versions:
    """All versions of one run.

    Args:
        parent: the folder of the experiment's results.
        run: the name of the run.
    """

    def __init__(self, parent: Path, run: str) -> None:
        self.parent, self.run = parent, run

    def counting(self) -> Path | None:
        """The version that counts; None: there is none yet."""
        return record.counting(self.parent, self.run)

    def newest_first(self) -> list[Path]:
        return record.versions(self.parent, self.run)[::-1]

    def make(self, about: Mapping[str, Any], config: str) -> Path:
        """A new version, after all others. With `locked`."""
        record.forget_deleted(self.parent, self.run)
        number = max((record.version_number(folder) for folder in self.newest_first()), default=0) + 1
        folder = record.version_folder(self.parent, self.run, number)
        try:
            folder.mkdir()
        except FileExistsError as error:
            raise Error(f"{shown(folder)} is in the place of a run, and is no folder of one: move it") from error
        self.describe(folder, about, config)
        return folder

    def describe(self, folder: Path, about: Mapping[str, Any], config: str) -> None:
        """Write what a version is. With `locked`."""
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        record.write_run(folder, {"id": secrets.token_hex(4), "started": started, **about}, config)

    # Locks

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While one decides which version counts, or writes what all folds share."""
        with self._lock(self.run):
            yield

    def part(self, version: Path, name: str) -> BaseFileLock:
        """The lock of a fold in a version; the system frees it when its holder dies."""
        return self._lock(f"{self.run}@{record.version_number(version)}.{name}")

    def _lock(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        folder = self.parent / ".locks"
        files.make_folder(folder)
        file = folder / name
        if os.path.lexists(file) and (file.is_symlink() or not os.path.isfile(file)):
            raise Error(f"{shown(file)} is no file, and no lock: remove it")
        return FileLock(file)

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

        prefix = f"{self.run}@{record.version_number(version)}."
        folder = self.parent / ".locks"
        found = sorted(os.listdir(folder)) if folder.is_dir() else []
        others = []
        for name in dict.fromkeys([*(name.removeprefix(prefix) for name in found if name.startswith(prefix)), *more]):
            try:
                lock = self.part(version, name)
                lock.acquire(blocking=False)
            except (Timeout, OSError, Error):  # of another user, or no lock at all: nobody can tell
                others.append(name)
            else:
                stack.callback(lock.release)
        return others

    # Which version counts

    def is_superseded(self, version: Path) -> bool:
        """Whether a later version counts."""
        counting = self.counting()
        return counting is not None and record.version_number(counting) > record.version_number(version)

    def require_current(self, version: Path, run_id: str) -> None:
        """Raise an `Error` when what is trained in a version could no longer count."""
        if self.is_superseded(version):
            raise Error(
                f"{shown(version)} has been replaced by another command (overwrite=true) while this one trained"
            )
        info = record.read_run_info(version)
        if info is None or info["id"] != run_id:
            raise Error(f"{shown(version)} has been removed or replaced while this command trained: run it again")

    def put_in_place(self, version: Path, score: Callable[[Path], RunRecord]) -> RunRecord:
        """Let a new version count, with the folds of the old one that were not asked for; delete the old one.

        Waits for other processes that train in the new version.

        Args:
            score: brings the scores of a version up to date.

        Raises:
            Error: a later version counts already.
        """
        while True:
            with self.locked():
                others = self.held(version)
                if not others:
                    counting = self.counting()
                    if self.is_superseded(version):
                        raise Error(f"{shown(version)} has been replaced by another command (overwrite=true)")
                    if counting is not None and counting != version:
                        others = self._keep_folds(record.read_run(counting), record.read_run(version))
            if not others:
                break
            print(f"waiting for {', '.join(others)}, which another process trains", flush=True)
            with self.part(version, others[0]):
                pass
        scored = score(version)
        with self.locked():
            if self.counting() != version and not self.is_superseded(version):
                record.install(version)
            self.clean()
        return scored

    def clean(self, is_debug: bool = False) -> None:
        """Delete the versions that are superseded, or all of a debug run, where nobody trains. With `locked`."""
        for version in self.newest_first():
            with ExitStack() as stack:
                if (is_debug or self.is_superseded(version)) and not self.take(version, stack):
                    shutil.rmtree(version, ignore_errors=True)

    def _keep_folds(self, old: RunRecord, new: RunRecord) -> list[str]:
        """Give a new version the folds of the old one that it lacks, when both have the same configuration: those that
        are done, and those that can go on from a checkpoint.

        Returns:
            the parts that another process has begun to train meanwhile.
        """
        from filelock import Timeout

        if old.info is None or new.info is None or not _same_configuration(old, new):
            return []
        others = []
        saved = unfinished(old.folder).keys() - {*self.held(old.folder)}
        for fold in [*old.folds.values(), *([old.full] if old.full else [])]:
            name = record.fold_name(fold.number)
            if fold.result is None and (name not in saved or (new.folder / name).exists()):
                continue
            lock = self.part(new.folder, name)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                others.append(name)
                continue
            with lock:
                lock.release()
                if record.read_fold(new.folder, fold.number, new.info["id"]).result is None:
                    _keep(fold, new.folder, new.info["id"])
        return others


def _keep(fold: FoldRecord, version: Path, run_id: str) -> None:
    """Put a fold into another version, whole or not at all."""
    target = version / record.fold_name(fold.number)
    scratch = version / f".{target.name}"
    for leftover in (scratch, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    shutil.copytree(fold.folder, scratch, copy_function=_link)
    if fold.result is not None:
        (scratch / record.RESULT).unlink()
        files.write_json(scratch / record.RESULT, fold.result | {"run": run_id})
    files.tree_to_disk(scratch)
    scratch.rename(target)
    files.to_disk(version)


def _same_configuration(old: RunRecord, new: RunRecord) -> bool:
    assert old.info is not None and new.info is not None
    if new.info.get("same_as") == old.info["id"]:  # compared when the new one was made, by its dataclasses
        return True
    one, other = flat(old.info["config"]), flat(new.info["config"])
    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one if key != "exp.fold")


def _link(source: str, target: str) -> None:
    """A finished fold never changes: a second name for its files costs no space. A copy where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
