"""The state of a training that is under way: after an interruption, the same command goes on from it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from expkit import codehash, files
from expkit.files import Broken

FOLDER = "checkpoint"
ABOUT = "about.json"


class Checkpoint:
    """The saved state of a training that takes long.

        if fold.checkpoint.file:
            network.load(fold.checkpoint.file)
        for epoch in ...:
            ...
            fold.checkpoint.save(network.save)

    A checkpoint is whole or not there, whenever the process is killed. It is used only with the same configuration,
    code and data, and is removed when the fold is done.

    Args:
        folder: of the fold.

    Attributes:
        file: the last checkpoint; None: there is none, and the training starts from its beginning.
        in_use: whether a training in this process saves checkpoints.
        before_end: what the next save ends with, however soon it comes: the process is about to be stopped.
    """

    in_use: ClassVar[bool] = False
    before_end: ClassVar[Callable[[], None] | None] = None

    def __init__(self, folder: Path, progress: Callable[[], dict[str, Any]]) -> None:
        self.folder = folder / FOLDER
        self.file: Path | None = None
        self._progress = progress
        self._number, self._saved = 0, time.monotonic()

    def save(self, write: Callable[[Path], Any], every: float = 0) -> bool:
        """Save the present state; it replaces the last one.

        Args:
            write: is called with a path, and writes the state to this file.
            every: seconds; when fewer have passed since the last checkpoint, or since the training began, nothing is
                saved.

        Returns:
            whether the state was saved.
        """
        Checkpoint.in_use = True
        if time.monotonic() - self._saved < every and Checkpoint.before_end is None:
            return False
        self.folder.mkdir(exist_ok=True)
        self._number += 1
        file = self.folder / f"state{self._number}"
        write(file)
        with ThreadPoolExecutor(1) as meanwhile:
            flushed = meanwhile.submit(files.to_disk, file)
            about = {"state": file.name, "bytes": file.stat().st_size, "sum": _sum(file)} | self._progress()
        flushed.result()
        files.write_json(self.folder / ABOUT, about)  # from here on, this one counts
        for other in self.folder.glob("state*"):
            if other != file:
                other.unlink()
        self.file, self._saved = file, time.monotonic()
        if Checkpoint.before_end is not None:
            end, Checkpoint.before_end = Checkpoint.before_end, None
            end()
        return True

    def find(self, code: Callable[[codehash.Digests], list[str]], data: str | None) -> tuple[dict[str, Any], str]:
        """What was saved by an earlier process, and "", when it fits; else {} and why not, "" when there is none.

        Args:
            code: the files among these that are others now.
            data: the fingerprint of the data now.
        """
        try:
            about = files.read_json(self.folder / ABOUT)
            if about is None:
                return {}, ""
            file = self.folder / os.path.basename(str(about["state"]))
            if file.stat().st_size != about["bytes"] or _sum(file) != about["sum"]:
                return {}, "its checkpoint is damaged"
            if changed := code(about["code"]):
                return {}, f"the code has changed since its checkpoint ({', '.join(changed[:3])})"
            if about["data"] != data:
                return {}, "the data has changed since its checkpoint"
            self.file, self._number = file, int(file.name.removeprefix("state"))
            return about, ""
        except (Broken, OSError, KeyError, ValueError, TypeError, AttributeError):
            return {}, "its checkpoint is damaged"

    def remove(self) -> None:
        """The fold is done, or begins again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.file, Checkpoint.in_use = None, False


def _sum(file: Path) -> int:
    """The sum of a file's 64-bit words, modulo 2**64: other in a damaged file, at a third of the time of a CRC."""
    import numpy

    total, part = 0, bytearray(2**20)
    with open(file, "rb") as stream:
        while count := stream.readinto(part):
            part[count:] = bytes(len(part) - count)  # the last part is shorter
            total += int(numpy.frombuffer(part, "<u8").sum(dtype=numpy.uint64))
    return total % 2**64
