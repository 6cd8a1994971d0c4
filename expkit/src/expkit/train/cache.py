"""Files that experiments share beside code, such as features that take long: made once, under input/cache/."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from expkit import files, inputs
from expkit.errors import Error, require
from expkit.paths import input_dir, shown


class Cache:
    """Files in `input/cache/` that experiments share. A call returns the path of one, and makes it if it is missing.

        features = fold.cache("tfidf-v1.npz", lambda file: numpy.savez(file, features=tfidf(texts)))

    Args:
        debug: keep the files in the folder of the fold: a debug run makes them of a few rows.

    Attributes:
        read: the files that were asked for, by their names below input/; empty in a debug run.
    """

    def __init__(self, fold: Path, debug: bool) -> None:
        self._folder = fold / inputs.CACHE if debug else input_dir() / inputs.CACHE
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

        require(
            re.fullmatch(r"\w[\w.+-]*", name) is not None,
            f"fold.cache: a name has letters, digits and . _ + -, and begins with a letter or digit, not {name!r}",
        )
        file = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f".{name}.lock"):
            if not file.exists():
                self._make(file, make)
        if not self._debug:
            self.read.add(f"{inputs.CACHE}/{name}")
        return file

    def _make(self, file: Path, make: Callable[[Path], object]) -> None:
        """Whole or not at all, under its own name: NumPy and pandas look at the end of a name."""
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self._folder) as folder:
            made = Path(folder, file.name)
            make(made)
            if not made.is_file():
                raise Error(f"fold.cache({file.name!r}, make): make(file) must write {shown(file)}, and did not")
            files.to_disk(made)
            os.replace(made, file)
            files.to_disk(self._folder)
