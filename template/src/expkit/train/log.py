"""train.log: what a training prints, and the traceback of what failed."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO


class Log:
    """Copies what is printed by Python code meanwhile into a file; a training that goes on adds to it.

    Args:
        file: is made at once.
    """

    def __init__(self, file: Path) -> None:
        self._stream = open(file, "a", encoding="utf-8", errors="replace", newline="\n")
        self._handler: logging.Handler | None = None
        self._tees: list[tuple[str, Tee, TextIO]] = []

    def __enter__(self) -> Log:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            tee = Tee(stream, self._stream)
            self._tees.append((name, tee, stream))
            setattr(sys, name, tee)
        if logging.root.handlers:  # else Python shows warnings on stderr by itself
            self._handler = logging.StreamHandler(self._stream)
            logging.root.addHandler(self._handler)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for name, tee, stream in self._tees:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
        if self._handler is not None:
            logging.root.removeHandler(self._handler)
        if error is not None:
            traceback.print_exception(error, file=self._stream)
        self._stream.close()


class Tee:
    """A stream that also writes into a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        """As of any stream."""
        if not self.log.closed:
            self.log.write(text)
            self.log.flush()
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
