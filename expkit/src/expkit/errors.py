"""One line for a mistake that its user can fix; a whole traceback for a bug."""

from __future__ import annotations

import difflib
import errno
import io
import os
import re
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

AGAIN = "finished folds are kept, and the same command trains what is missing"
COMMAND = "EXPKIT_COMMAND"  # an environment variable: the command that waits for this one, as it was typed
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

# Files whose frames are left out at the top of a traceback: ours, and what lies between ours and the experiment's.
OF_LIBRARIES = r"-packages[\\/](hydra|omegaconf)[\\/]|[\\/]contextlib\.py$|^<frozen "
UNINTERESTING = re.compile(f"^{re.escape(os.path.dirname(os.path.abspath(__file__)))}|{OF_LIBRARIES}")

# Characters that control a terminal or turn its text around, and halves of characters, which nothing prints.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Error(Exception):
    """Something that the user can fix. The message is one line: what is wrong, which key or file, what to do.

    On the command line, it is printed without a traceback, and the exit code is 2: nothing was begun.
    """

    exit_code = 2


class NotFound(Error):
    """There is no such run, experiment or parameter set."""

    exit_code = 3


class Circular(Error):
    """A run would be made from itself."""


class Failed(Error):
    """What was asked for was begun, and has failed: a training, a job of a sweep."""

    exit_code = 1


class Terminated(SystemExit):
    """SIGTERM or SIGHUP has come; the code is 128 and its number. No KeyboardInterrupt, after which scikit-learn, for
    one, calls its training finished."""

    code: int


CAUGHT = (Exception, KeyboardInterrupt, Terminated)  # what a command reports


class TimedOut(BaseException):
    """A `time_limit` is over. No Exception, which a training may catch and go on."""


def require(condition: bool, message: str) -> None:
    """Raise an `Error` unless a condition is true.

        expkit.require(0 < rate < 1, f"exp.train.rate must be between 0 and 1, not {rate}")

    Args:
        condition: what must be true.
        message: one line: which key or file, what it must be, what it is.

    Raises:
        Error: `condition` is false.
    """
    if not condition:
        raise Error(message)


def strip_control(text: object) -> str:
    """`text` without the characters that control a terminal; a line break becomes a space."""
    return CONTROL.sub("�", str(text).replace("\n", " "))


def escape_unprintable() -> None:
    """From now on, stdout shows a character that its encoding lacks as an escape, as stderr does, and fails no more."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):  # as in C
        sys.stdout.reconfigure(errors="backslashreplace")


def warn(message: str) -> None:
    """Print one line on stderr: something is not as wished, and the work goes on."""
    print(f"warning: {strip_control(message)}", file=sys.stderr, flush=True)


def report(error: BaseException, command: str = "") -> int:
    """Say on stderr why a command ends, and return its exit code.

    An `Error`, a full disk and Ctrl-C are one line; anything else is a bug, and its traceback begins at the
    experiment's own code. HYDRA_FULL_ERROR=1 shows the traceback of everything.

    Args:
        command: that goes on after Ctrl-C, as one types it; "": nobody knows.

    Returns:
        1: failed; 2: refused, nothing was begun; 3: not found; 130: Ctrl-C; 143: SIGTERM; 129: SIGHUP.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    if (stop := interruption(error)) and not full:
        where = "".join(getattr(stop, "__notes__", []))
        print(f"{described(error)}{where}: {AGAIN}{command and f': {command}'}", file=sys.stderr)
        return stop.code if isinstance(stop, Terminated) else 130
    message = one_line(error)
    if message is not None and not full:
        print(f"error: {message}", file=sys.stderr)
    else:
        trace = error.__traceback__
        traceback.print_exception(error.with_traceback(trace if full else _own_frames(trace)))
    return error.exit_code if isinstance(error, Error) else 1


def one_line(error: BaseException) -> str | None:
    """What to tell the person who can fix `error`, on one line; None when it is a bug."""
    if isinstance(error, Error):
        return "\n".join(map(strip_control, str(error).splitlines()))
    if isinstance(error, BrokenPipeError):
        return f"stdout, or another pipe, was closed (HYDRA_FULL_ERROR=1 shows where): {AGAIN}"
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return strip_control(f"cannot write {error.filename or 'a file'}: {error.strerror}")
    if isinstance(error, PermissionError):
        return strip_control(f"no access to {error.filename or 'a file'}: {error.strerror}")
    if type(error).__name__ == "OutOfMemoryError":  # of PyTorch
        return "out of GPU memory: take smaller batches, or more parts of a batch (accumulate)"
    return None


def instead(name: str, known: Iterable[str], above: str = "") -> str:
    """The end of a sentence about an unknown `name`: the nearest known one, with what is `above` it, or all of them."""
    lower = {each.lower(): each for each in known}
    if near := difflib.get_close_matches(name.lower(), lower, n=1):
        return f"; did you mean {above}{lower[near[0]]}?"
    return f"; there are {', '.join(lower.values())}" if lower else ""


def described(error: BaseException) -> str:
    """Why something has failed, on one line, for a file: as `one_line`, or the name and the message of a bug."""
    if stop := interruption(error):
        return f"stopped by {signal.Signals(stop.code - 128).name}" if isinstance(stop, Terminated) else "stopped"
    text = one_line(error) or f"{type(error).__name__}: {error}"
    return strip_control(text.strip())[:1000]


def interruption(error: BaseException) -> BaseException | None:
    """The Ctrl-C, SIGTERM or SIGHUP that `error` comes from, perhaps through a library that raised something else."""
    return next((cause for cause in chain(error) if isinstance(cause, KeyboardInterrupt | Terminated)), None)


def is_exit(error: BaseException) -> bool:
    """Whether it is a sys.exit that nothing from outside has asked for; with -1, submitit ends a job that is cut."""
    return isinstance(error, SystemExit) and error.code != -1 and interruption(error) is None


@contextmanager
def terminable() -> Iterator[None]:
    """Meanwhile, SIGTERM and SIGHUP (a closed terminal) raise `Terminated`, once.

    What else handles one of them stays, such as submitit, or nohup, which lets SIGHUP be ignored.
    """
    own, is_main = os.getpid(), threading.current_thread() is threading.main_thread()

    def terminate(number: int, _: object) -> None:
        if os.getpid() != own:  # a process of the training's own, such as one that loads data: as ever
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for each in free:  # what started this process may send it as well
            signal.signal(each, lambda *_: None)
        _leave_closed_terminal()
        raise Terminated(128 + number)

    known = (signal.SIGTERM, signal.SIGHUP)
    free = [each for each in known if is_main and signal.getsignal(each) is signal.SIG_DFL]
    for each in free:
        signal.signal(each, terminate)
    try:
        yield
    finally:
        for each in free:
            signal.signal(each, signal.SIG_DFL)


GRACE = 10.0  # seconds for a training that is told to end
KILLED = "; it did not end when it was told to, and was killed"


@contextmanager
def time_limit(seconds: float | None, reason: str, record: Path) -> Iterator[None]:
    """End what runs meanwhile when it takes too long: with a `Failed`, or with the process when it does not react.

    Another process watches: where C code hangs with the lock of the interpreter, no thread of this one runs.

    Args:
        seconds: None: there is no limit.
        reason: what the error says.
        record: a file; when the process is killed, the reason stands there.

    Raises:
        Failed: the time is over.
    """
    if seconds is None:
        yield
        return
    is_main = threading.current_thread() is threading.main_thread()
    require(is_main, "exp.time_limit needs the main thread, which gets the signal: train there, or set it to null")
    is_over = False

    def tell(*_: object) -> None:
        if not is_over:
            raise TimedOut

    before = signal.signal(signal.SIGALRM, tell)
    call = f"{_watch.__name__}({os.getpid()}, {seconds + GRACE}, {reason!r}, {str(record)!r})"
    command = [sys.executable, "-P", "-c", f"from {__name__} import {_watch.__name__}; {call}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        except BaseException as error:
            if any(isinstance(cause, TimedOut) for cause in chain(error)):
                raise Failed(reason) from error
            raise
        finally:
            is_over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            watcher.kill()
            signal.signal(signal.SIGALRM, before)


def _watch(process: int, seconds: float, reason: str, record: str) -> None:
    """Kill a process that is still there after `seconds`."""
    if not select.select([sys.stdin], [], [], seconds)[0] and os.getppid() == process:
        reason += KILLED
        with suppress(OSError):
            Path(record).write_text(f"{reason}\n", encoding="utf-8")
        print(f"error: {reason}", file=sys.stderr, flush=True)
        os.kill(process, signal.SIGKILL)


def _leave_closed_terminal() -> None:
    """Nothing more can be printed there, and each attempt would be another error."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def chain(error: BaseException | None) -> list[BaseException]:
    """`error` and what it comes from, each once: `raise cause from error` makes a circle."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """`trace` from the first frame on that is the experiment's; whole when none is."""
    frame = trace
    while frame is not None and UNINTERESTING.search(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return frame or trace


# What a reader at the terminal sees


def new_console() -> Console:
    """For stdout, as wide as the terminal; a file has room for whole lines."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def text(content: object, style: str = "") -> Text:
    """What a file says, without what would control the terminal."""
    from rich.text import Text

    return Text(strip_control(content), style)


def print_line(console: Console, content: object, style: str = "") -> None:
    """Print `text` as one line, which a terminal may break and a file has whole."""
    console.print(text(content, style), soft_wrap=True)


def plain_table(headings: Iterable[object], rows: Iterable[Iterable[object]]) -> Table:
    """A table without lines, of plain texts; a cell may be a `Text` with a style."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(text(heading))
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return table


def score_text(score: float | None, std: float | None = None) -> str:
    """A score, and its deviation, as the board has them."""
    if score is None:
        return ""
    number = f"{score:.4f}" if abs(score) < 1e6 else f"{score:.6g}"
    return number if std is None else f"{number} ± {std:.4f}" if std < 1e6 else f"{number} ± {std:.6g}"


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(text: str | None, key: str) -> float | None:
    """The time that a text such as 90s, 10m or 1.5h means, in seconds; None is None.

    Raises:
        Error: it means none, or no time at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh]?)", text or "")
    if text is None or (match and float(match[1]) > 0):
        return None if match is None else float(match[1]) * _UNITS[match[2]]
    raise Error(f"{key} must be a time such as 90s, 10m or 1.5h, not {text!r}")
