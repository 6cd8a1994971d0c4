"""Checkpoints: the saved state of a training, from which the same command goes on after an interruption."""

from __future__ import annotations

import errno
import os
import shutil
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from expkit import files
from expkit.errors import chain, described, require, warn
from expkit.files import Broken
from expkit.project import display_path
from expkit.store import CHECKPOINT, RESULT

METADATA = "metadata.json"
_KEYS = {"state", "bytes", "sum", "rows", "seconds", "resumed", "environments", "code", "data"}
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL = 2**20  # bytes: a disk with less space is full, whatever the library that writes makes of its error


class Checkpoint:
    """The saved state of a training that takes long.

        if fold.checkpoint.file:
            network.load(fold.checkpoint.file)
        for epoch in ...:
            ...
            fold.checkpoint.save(network.save)

    A checkpoint is whole or not there, whenever the process is killed. It is a file or a folder. It is used only with
    the same configuration; after other code or data have come, only when the command says resume=true. It is removed
    when the fold is done.

    Args:
        folder: of the fold.
        progress: what the checkpoint is to remember beside the state.

    Attributes:
        file: the last checkpoint; None: there is none, and the training starts from its beginning.
        in_use: whether a training in this process saves checkpoints.
        before_end: what the next save ends with, however soon it comes: the process is about to be stopped.
    """

    in_use: ClassVar[bool] = False
    before_end: ClassVar[Callable[[], None] | None] = None

    def __init__(self, folder: Path, progress: Callable[[], dict[str, Any]]) -> None:
        self.folder = folder / CHECKPOINT
        self.file: Path | None = None
        self._progress = progress
        self._number, self._saved = 0, time.monotonic()

    def save(self, write: Callable[[Path], Any], every: float = 0) -> bool:
        """Save the present state; it replaces the last one. When the disk is full, the last one stays.

        Args:
            write: is called with a path, and writes the state to this file; or makes a folder of it.
            every: seconds; when fewer have passed since the last call that saved, or since the training began, nothing
                is saved.

        Returns:
            whether the state was saved.
        """
        Checkpoint.in_use = True
        if time.monotonic() - self._saved < every and Checkpoint.before_end is None:
            return False
        state, is_saved = self.folder / f"state{self._number + 1}", True
        try:
            self.folder.mkdir(exist_ok=True)
            files.remove(state)  # half of one, whose process was killed
            write(state)
            self._commit(state)
        except BaseException as error:
            is_saved, is_full = False, isinstance(error, Exception) and self._is_full(error)
            if files.read_if_whole(self.folder / METADATA).get("state") != state.name:
                files.remove(state)
            if not is_full:
                raise
            warn(f"no checkpoint is saved ({described(error)}); the training goes on, and the last one stays")
        self._saved = time.monotonic()
        if Checkpoint.before_end is not None:
            end, Checkpoint.before_end = Checkpoint.before_end, None
            end()
        return is_saved

    def _commit(self, state: Path) -> None:
        """Make the written state the checkpoint."""
        require(state.exists(), f"fold.checkpoint.save(write): write(file) has left nothing at {display_path(state)}")
        with ThreadPoolExecutor(1) as meanwhile:
            flushed = meanwhile.submit(files.tree_to_disk, state)
            metadata = {"state": state.name} | _content(state) | self._progress()
        flushed.result()
        files.write_json(self.folder / METADATA, metadata)  # from here on, this one counts
        self.file, self._number = state, self._number + 1
        for other in self.folder.glob("state*"):
            if other != state:
                files.remove(other)

    def _is_full(self, error: Exception) -> bool:
        """Whether a save failed because the disk is full. PyTorch says so only in the text of its error."""
        if any(isinstance(cause, OSError) and cause.errno in _NO_SPACE for cause in chain(error)):
            return True
        return self.folder.exists() and shutil.disk_usage(self.folder).free < _FULL

    def metadata(self) -> dict[str, Any]:
        """What the last checkpoint remembers, also of an earlier process; {} when there is none.

        Raises:
            Broken: nobody can read it.
        """
        metadata = files.read_json(self.folder / METADATA) or {}
        if metadata and not metadata.keys() >= _KEYS:
            raise Broken("its keys do not fit")
        return metadata

    def find(self) -> dict[str, Any]:
        """As `metadata`, when the state is as it was saved; `file` is that state from now on.

        Raises:
            Broken: it is not.
        """
        metadata = self.metadata()
        if metadata:
            state = self.folder / os.path.basename(str(metadata["state"]))
            try:
                number, content = int(state.name.removeprefix("state")), _content(state)
            except (OSError, ValueError) as error:
                raise Broken(str(error)) from error
            if not metadata.items() >= content.items():
                raise Broken("cut off or edited")
            self.file, self._number = state, number
        return metadata

    def remove(self) -> None:
        """Remove the checkpoint: the fold is done, or begins again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.file, Checkpoint.in_use = None, False


def unfinished(version: Path) -> dict[str, dict[str, Any]]:
    """The metadata of the checkpoints from which the folds of a version can go on, by the name of their folder."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(version.glob(f"*/{CHECKPOINT}/{METADATA}")):
        fold = file.parents[1]
        with suppress(Broken):
            if not (fold / RESULT).exists() and (metadata := Checkpoint(fold, dict).metadata()):
                found[fold.name] = metadata
    return found


def _content(state: Path) -> dict[str, Any]:
    """The size and a checksum of a file, or of all files of a folder with their names. CRC-32 is as fast as a disk."""
    total, checksum = 0, 0
    for file in sorted(path for path in state.rglob("*") if path.is_file()) if state.is_dir() else [state]:
        name = file.relative_to(state).as_posix()
        checksum = zlib.crc32(f"{name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"), checksum)
        with open(file, "rb") as stream:
            while part := stream.read(2**20):
                total += len(part)
                checksum = zlib.crc32(part, checksum)
    return {"bytes": total, "sum": checksum}
