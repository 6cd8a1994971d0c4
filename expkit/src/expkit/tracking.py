"""Where the rows go that a fold logs: Weights & Biases, history.csv, the terminal and train.log."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import secrets
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from expkit import files
from expkit.config import container
from expkit.errors import duration, interruption, strip_control, warn
from expkit.project import display_path, output_dir, settings
from expkit.store import AXES, fold_name, number_of, read_history

if TYPE_CHECKING:
    from expkit.rundir import RunDir

LINES = 16  # that a training of known length prints
BLINK = 0.1  # seconds, at least, that a line on a terminal is shown

# Weights & Biases: one W&B run per fold, and a training that does not depend on it

# Seconds to wait for the server: at the start of a fold, and for the uploads at its end. What is not uploaded by then
# stays on disk, for `wandb sync`.
INIT_TIMEOUT = 15
FINISH_TIMEOUT = 120


def start(run_dir: RunDir, number: int | None) -> Tracker:
    """Open the W&B run of a fold; online becomes offline, with a warning, when the server does not answer.

    The W&B runs of a run are one group, `<experiment>/<run>`. The project is WANDB_PROJECT, else `wandb_project` of
    `[tool.expkit]` in pyproject.toml. The mode is WANDB_MODE, else online when an account is configured, else offline.
    A debug run has none. The id begins with that of the version of the run.

    Args:
        number: of the fold; None: all rows.
    """
    if run_dir.debug or os.environ.get("WANDB_MODE") == "disabled":
        return Tracker(None)
    fold, directory, loaded, exp = fold_name(number), _directory(), run_dir.loaded, run_dir.config.exp
    _set_aside(Path(directory, "wandb"), f"{run_dir.id}-{fold}-")
    about = {"experiment": loaded.name, "run": run_dir.run, "choices": loaded.experiment.choices(run_dir.config)}
    arguments = {
        "id": f"{run_dir.id}-{fold}-{secrets.token_hex(2)}",
        "project": os.environ.get("WANDB_PROJECT") or settings().get("wandb_project"),
        "group": f"{loaded.name}/{run_dir.run}",
        "name": f"{loaded.name}/{run_dir.run}/{fold}",
        "config": {**about, **container(exp), "fold": fold if number is None else number},
        "tags": list(exp.runtime.tags),
        "dir": directory,
    }
    run = _open(**arguments, mode=_mode())
    if run is None and Tracker.is_online:
        Tracker.is_online = False
        run = _open(**arguments, mode=_mode())
    return Tracker(run)


class Tracker:
    """A W&B run that never stops a training: what fails is said once, and the training goes on.

    A metric has the axis over which it was first logged. Over another one it has a name of its own, such as
    `loss_step`: W&B draws a metric over one axis, and leaves out the points that do not have it.

    Attributes:
        is_online: whether the server answers; asked once per process. None: not asked yet.
        run: the `wandb.Run`; None when W&B has failed.
    """

    is_online: ClassVar[bool | None] = None

    def __init__(self, run: Any) -> None:
        self.run = run
        self._axes: dict[str, str | None] = {}  # over which a metric was first logged
        self._defined: set[str] = set()

    def log(self, row: Mapping[str, Any], axis: str | None) -> None:
        """Send a row of the history, over `axis`, a name among the row's; None: over the number of the row."""
        self._try(lambda run: run.log({self._name(run, name, axis): value for name, value in row.items()}))

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Send final values, beside the last ones of the metrics."""
        self._try(lambda run: run.summary.update(values))

    def finish(self, failed: bool) -> None:
        """Close the W&B run, and wait for its uploads."""
        self._try(lambda run: run.finish(exit_code=int(failed)))
        self.run = None

    def _try(self, send: Callable[[Any], object]) -> None:
        """Send something to W&B; an error of W&B ends the tracking, not the training."""
        try:
            if self.run is not None:
                send(self.run)
        except Exception as error:  # whatever W&B raises: tracking is not worth a training
            run, self.run = self.run, None
            _fail(error, run)

    def _name(self, run: Any, name: str, axis: str | None) -> str:
        """The name of a metric in W&B, over `axis`."""
        if name in AXES or axis is None:
            self._axes.setdefault(name, None)
            return name
        known = name if self._axes.setdefault(name, axis) == axis else f"{name}_{axis}"
        if known not in self._defined:
            self._defined.add(known)
            run.define_metric(known, step_metric=axis)
        return known


@cache
def share() -> None:
    """Let all processes that are forked from this one share one process of W&B, and what is found out about it."""
    if os.environ.get("WANDB_MODE") != "disabled":
        with suppress(Exception):  # each of them tries again, and says what is wrong
            import_module("wandb").setup()
        _mode()


def _mode() -> str:
    """The mode to pass to `wandb.init`; says once what to do with offline runs."""
    mode = os.environ.get("WANDB_MODE") or "online"
    if mode == "online" and Tracker.is_online is None:
        try:
            import wandb

            Tracker.is_online = bool(wandb.login(prompt=False))
        except Exception as error:  # of W&B, pydantic, requests: whatever it is, it is no reason not to train
            warn(f"W&B does not take the key, or does not answer; going on offline ({_brief(error)})")
            Tracker.is_online = False
    if mode == "online" and not Tracker.is_online:
        mode = "offline"
    if mode == "offline":
        _say_offline(display_path(Path(_directory()) / "wandb"))
    return mode


@cache
def _say_offline(folder: str) -> None:
    look, upload = f"uv run wandb leet {folder}/latest-run", f"uv run wandb sync {folder}/offline-run-*"
    print(f"W&B is offline: look now with `{look}`, upload later with `{upload}`", flush=True)


def _directory() -> str:
    return os.environ.get("WANDB_DIR") or str(output_dir())


def _set_aside(folder: Path, training: str) -> None:
    """Rename what earlier processes of a training have left offline: the one that goes on has all their rows.

    At half a row, which a killed process leaves, `wandb sync` ends, and uploads no other run either (wandb 0.31).
    """
    with suppress(OSError):
        for part in folder.glob(f"offline-run-*-{training}*"):
            part.rename(part.with_name(f"interrupted-{part.name}"))


def _open(**arguments: Any) -> Any:
    """The `wandb.Run`; None, with a warning, when W&B fails."""
    try:
        import wandb

        options = wandb.Settings(
            silent=arguments["mode"] != "online",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        )
        return wandb.init(**arguments, settings=options)
    except Exception as error:
        _fail(error)
        return None


def _fail(error: Exception, run: Any = None) -> None:
    """Warn that W&B has failed, and remember what that means for the next folds."""
    if interruption(error):
        raise error
    later = ""
    if isinstance(error, TimeoutError):
        Tracker.is_online = False
        if run is not None:  # of the uploads, at the end: on the disk is everything
            later = f"; upload it later with `uv run wandb sync --include-online {display_path(Path(run.sync_dir))}`"
    warn(f"W&B failed ({_brief(error)}); the training goes on, its metrics are in history.csv{later}")
    if isinstance(error, ConnectionError):  # W&B would miss its service process again: for the next fold, and at exit
        import wandb

        with suppress(Exception):
            wandb.teardown()


def _brief(error: Exception) -> str:
    """The text of an error on one line; pydantic writes several."""
    return strip_control(" ".join(str(error).split()) or type(error).__name__)[:200]


# history.csv


class History:
    """Writes history.csv. Each row has left this process when `add` returns.

    Rows of epochs and of steps stand in one file, in the order of logging; `store.axis_of` says which is which.

    Args:
        file: is made with the first row.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, 0
        self.columns: list[str] = []

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row."""
        if new := [name for name in row if name not in self.columns]:
            _, before = read_history(self.file)
            self.columns += new
            self._write(before)
        line = ",".join(str(row.get(name, "")) for name in self.columns)
        # Opened for each row: 10 microseconds, and what lies there is cut, renamed or deleted as by any program.
        with open(self.file, "ab") as stream:
            stream.write(f"{line}\n".encode())
        self.rows += 1

    def cut(self, rows: int) -> list[dict[str, float]]:
        """Keep and return the first `rows` rows that an interrupted training has left."""
        self.columns, there = read_history(self.file)
        kept = there[:rows]
        self.rows = len(kept)
        if there:
            self._write(kept)
        return [{name: number for name in row if (number := number_of(row[name])) is not None} for row in kept]

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(self.file, text.getvalue())


# train.log, and the terminal


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Copy what Python code prints meanwhile, and the traceback of what fails, to the end of a file."""
    streams = sys.stdout, sys.stderr
    with open(file, "a", encoding="utf-8", errors="replace", newline="\n") as log:
        tees = tuple(Tee(stream, log) for stream in streams)
        with redirect_stdout(tees[0]), redirect_stderr(tees[1]):
            logging.basicConfig(format="%(message)s")  # loggers without a handler of anybody's; Hydra's level is INFO
            _move_handlers(streams, tees)
            try:
                yield
            except BaseException:
                log.write(traceback.format_exc())
                raise
            finally:
                _move_handlers(tees, streams)


class Tee:
    """A stream that also writes into a log, while that is open. On a terminal, its last line may be one that passes."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log
        self._passes = False

    def write(self, text: str) -> int:
        """Write to both."""
        self.note(text)
        self.show("")
        return self.stream.write(text)

    def note(self, text: str) -> None:
        """Write to the log alone."""
        if not self.log.closed:
            self.log.write(text)
            self.log.flush()

    def show(self, line: str) -> None:
        """Show a line on the terminal alone, in place of the one before, until something else is written."""
        if line or self._passes:
            width = shutil.get_terminal_size().columns
            self.stream.write(f"\r\x1b[K{line[: width - 1]}")
            self.stream.flush()
            self._passes = bool(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _move_handlers(old: Sequence[Any], new: Sequence[Any]) -> None:
    """Point the handlers of `logging` from some streams to others: libraries keep the stream that they found first."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", []):
            if isinstance(handler, logging.StreamHandler) and handler.stream in old:
                handler.setStream(new[old.index(handler.stream)])


class Progress:
    """The epochs and steps of one training, as they pass: on a terminal in a line that changes, else line by line.

    Args:
        title: what is trained, such as "fold 0".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._shown = -math.inf  # when the last line on a terminal was, `time.monotonic()`
        self._began: tuple[float, float] | None = None  # the first epoch or step on a terminal, and its time
        self._rows, self._next = 0, 0.0  # rows so far, and when to print the next line
        self._line = ""  # the last line, until it is printed

    def show(self, axis: str | None, row: Mapping[str, float], total: float | None) -> None:
        """Show that the epoch or step `row[axis]`, of `total`, is done, and its metrics."""
        values = "  ".join(f"{name} {_format(value)}" for name, value in row.items() if name != axis)
        where = "" if axis is None else f"  {axis} {row[axis]}{f'/{total}' if total else ''}"
        self._line = f"{self.title}{where}  {values}"
        self._rows += 1
        done = self._rows if axis is None or not total else LINES * row[axis] / total
        if done >= self._next:  # LINES lines of so many, else fewer and fewer; history.csv has every row
            self._next = math.floor(done) + 1 if axis is not None and total else 2 * done
            self._print()
        now = time.monotonic()
        if (terminal := _terminal()) and now - self._shown >= BLINK:
            self._shown, left = now, ""
            if axis is not None and total:
                first, since = self._began = self._began or (row[axis], now)
                passed = row[axis] - first
                left = f"  {duration((now - since) / passed * (total - row[axis]))} left" if passed > 0 else ""
            terminal.show(f"{self.title}{where}{left}  {values}")

    def _print(self) -> None:
        line, self._line = self._line, ""
        if terminal := _terminal():
            terminal.note(f"{line}\n")
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Print the last line, where that is to come, and remove the one that changes."""
        if self._line:
            self._print()
        if terminal := _terminal():
            terminal.show("")


def _terminal() -> Tee | None:
    """Stdout, when it is a terminal, and of a training."""
    return sys.stdout if isinstance(sys.stdout, Tee) and sys.stdout.isatty() else None


def _format(value: float) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"
