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
        self._handler = Records(self._stream)
        self._tees: list[tuple[str, Tee, TextIO]] = []

    def __enter__(self) -> Log:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            tee = Tee(stream, self._stream)
            self._tees.append((name, tee, stream))
            setattr(sys, name, tee)
        logging.root.addHandler(self._handler)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for name, tee, stream in self._tees:
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
        logging.root.removeHandler(self._handler)
        if error is not None:
            traceback.print_exception(error, file=self._stream)
        self._stream.close()


class Records(logging.StreamHandler[TextIO]):
    """Writes what libraries log into the log, and on stderr where no handler of theirs shows it."""

    def emit(self, record: logging.LogRecord) -> None:
        """As of any handler."""
        logger: logging.Logger | None = logging.getLogger(record.name)
        others: list[logging.Handler] = []
        while logger is not None:
            others += [one for one in logger.handlers if one is not self]
            logger = logger.parent
        shown = [one for one in others if not isinstance(one, logging.NullHandler | logging.FileHandler)]
        if not any(isinstance(getattr(one, "stream", None), Tee) for one in shown):  # it is in the log by that
            print(self.format(record), file=self.stream if shown else sys.stderr, flush=True)


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
