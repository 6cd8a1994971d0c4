"""Weights & Biases: one W&B run a fold, and a training that does not depend on it."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from expkit.errors import Error, interruption, strip_control, warn
from expkit.history import AXES
from expkit.project import display_path, output_dir, settings
from expkit.store import fold_name

# Seconds to wait for the server: at the start of a fold, and for the uploads at its end. What is not uploaded by then
# stays on disk, for `wandb sync`.
INIT_TIMEOUT = 15
FINISH_TIMEOUT = 120
PATIENCE = 30  # for any other call of W&B's, which takes less than a millisecond
MOST_WAITING = 10_000  # calls


class _Server:
    """What this process knows of the W&B server: asked once, however many folds and runs there are."""

    def __init__(self) -> None:
        self.answers: bool | None = None
        self.hangs = False

    def mode(self, wished: str | None) -> str:
        """The mode to pass to `wandb.init`, when WANDB_MODE is `wished`."""
        if wished not in (None, "", "online"):
            return str(wished)
        if self.answers is None:
            self.answers = self._is_logged_in(wished)
        return "online" if self.answers else "offline"

    def _is_logged_in(self, wished: str | None) -> bool:
        try:
            import wandb

            logged_in = bool(wandb.login(prompt=False))
        except Exception as error:  # of W&B, pydantic, requests: whatever it is, it is no reason not to train
            warn(f"W&B does not take the key, or does not answer; going on offline ({brief(error)})")
            return False
        if wished and not logged_in:
            warn("WANDB_MODE is online, but there is no key (`uv run wandb login`); going on offline")
        return logged_in


_SERVER = _Server()


class Tracking:
    """The W&B runs of the folds of a run: one group, `<experiment>/<run>`.

    The project is WANDB_PROJECT, else `wandb_project` of `[tool.expkit]` in pyproject.toml. The mode is disabled when
    debugging; else WANDB_MODE; else online when an account is configured; else offline.

    Args:
        config: of the run; the config of its W&B runs has `experiment`, `run` and the number of the `fold`, too.
    """

    def __init__(self, experiment: str, run: str, config: Mapping[str, Any], debug: bool) -> None:
        self.group, self.debug = f"{experiment}/{run}", debug
        self.config = {"experiment": experiment, "run": run, **config}
        self._said_offline = False

    def start(self, number: int | None, run_id: str, tags: list[str], wandb_id: str | None = None) -> Tracker:
        """Open the W&B run of a fold; online becomes offline, with a warning, when the server does not answer.

        Args:
            number: of the fold; None: all rows.
            wandb_id: of the W&B run, at the server, of the training that goes on; None: a new one, as always offline.
        """
        fold = fold_name(number)
        mode = "disabled" if self.debug else _SERVER.mode(os.environ.get("WANDB_MODE"))
        if mode == "disabled" or _SERVER.hangs:
            return Tracker(None, wandb_id)
        directory = os.environ.get("WANDB_DIR") or str(output_dir())
        _set_aside(Path(directory, "wandb"), f"{run_id}-{fold}-")
        new_id = f"{run_id}-{fold}-{secrets.token_hex(2)}"
        arguments = {
            "project": os.environ.get("WANDB_PROJECT") or _project_of_pyproject(),
            "group": self.group,
            "name": f"{self.group}/{fold}",
            "config": self.config | {"fold": fold if number is None else number},
            "tags": tags,
            "dir": directory,
        }
        if mode == "online":
            known = wandb_id or new_id
            online = arguments | {"id": known, "resume": "allow", "mode": mode}
            if (run := _opened(**online, settings=_settings(silent=False))) is not None:
                return Tracker(run, known)
            _SERVER.answers, mode = False, "offline"
        if mode == "offline":
            self._say_offline(directory)
        return Tracker(_opened(**arguments, id=new_id, mode=mode, settings=_settings(silent=True)), None)

    def _say_offline(self, directory: str) -> None:
        if not self._said_offline:
            folder = display_path(Path(directory) / "wandb")
            print(
                f"W&B is offline: look now with `uv run wandb leet {folder}/latest-run`, "
                f"upload later with `uv run wandb sync {folder}/offline-run-*`",
                flush=True,
            )
        self._said_offline = True


class Tracker:
    """A W&B run that never stops a training: what fails is said once, and the training goes on.

    W&B is called from a thread, for a service of its that hangs makes each call hang.

    Attributes:
        run: the `wandb.Run`; None when W&B is disabled or has failed.
        id: of the W&B run at the server with which the training would go on; None: there is none.
    """

    def __init__(self, run: Any, wandb_id: str | None) -> None:
        self.run, self.id = run, wandb_id
        self._points = Points(run)
        self._calls: queue.Queue[Callable[[], Any] | None] = queue.Queue(MOST_WAITING)
        self._since = math.inf  # when the present call began, `time.monotonic()`
        self._thread = threading.Thread(target=self._call_all, daemon=True)
        if run is not None:
            self._thread.start()

    def _call_all(self) -> None:
        while (call := self._calls.get()) is not None:
            self._since = time.monotonic()
            error = _attempt(call)[1] if self.run is not None else None
            if error is not None and self.run is not None:  # else it has been said already
                run, self.run = self.run, None
                _tell(error, run)
            self._since = math.inf

    def log(self, row: Mapping[str, Any], axis: str | None) -> None:
        """One point, as `Points.log`."""
        if self.run is not None:
            self._send(functools.partial(self._points.log, dict(row), axis))

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Final values, as `Points.summarize`."""
        if self.run is not None:
            self._send(functools.partial(self._points.summarize, dict(values)))

    def finish(self, failed: bool) -> None:
        """Close the W&B run, and wait for its uploads."""
        if (run := self.run) is not None:
            self._send(lambda: run.finish(exit_code=int(failed)))
        if self._thread.is_alive():
            self._send(None)
            self._wait()
        self.run = None

    def _send(self, call: Callable[[], Any] | None) -> None:
        try:
            self._calls.put(call, timeout=PATIENCE)
        except queue.Full:
            self._give_up()

    def _wait(self) -> None:
        """Until the thread has ended, or hangs."""
        end = time.monotonic() + FINISH_TIMEOUT + PATIENCE
        while self._thread.is_alive() and self.run is not None:
            self._thread.join(0.1)
            is_last = self._calls.qsize() <= 1  # of `finish`, whose uploads take their time
            hangs = time.monotonic() - self._since > PATIENCE and not is_last
            if hangs or time.monotonic() > end:
                self._give_up()

    def _give_up(self) -> None:
        if self.run is not None:
            warn("W&B does not answer; the training goes on without it, its metrics are in history.csv")
        self.run = None
        _SERVER.hangs = True
        _kill_service()


def _set_aside(folder: Path, training: str) -> None:
    """Rename what earlier processes of a training have left offline: the one that goes on has all their rows.

    At half a row, which a killed process leaves, `wandb sync` ends, and uploads no other run either (wandb 0.31).
    """
    with contextlib.suppress(OSError):
        for part in folder.glob(f"offline-run-*-{training}*"):
            part.rename(part.with_name(f"interrupted-{part.name}"))


def _opened(**arguments: Any) -> Any:
    def init() -> Any:
        import wandb

        return wandb.init(**arguments | {"settings": wandb.Settings(**arguments["settings"])})

    run, error = _attempt(init)
    if error is not None:
        _tell(error)
    return run


def _settings(silent: bool) -> dict[str, Any]:
    return {
        "silent": silent,
        "init_timeout": INIT_TIMEOUT,
        "finish_timeout": FINISH_TIMEOUT,
        "finish_timeout_raises": True,
    }


def _attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call of W&B's returns, or the error."""
    try:
        return call(), None
    except Exception as error:  # whatever W&B raises: tracking is not worth a training
        if interruption(error):
            raise
        return None, error


def _tell(error: Exception, run: Any = None) -> None:
    """Say that W&B has failed, and remember what it means for the next folds."""
    later = ""
    if isinstance(error, TimeoutError) and run is not None:  # of the uploads, at the end: on the disk is everything
        later = f"; upload it later with `uv run wandb sync --include-online {display_path(Path(run.sync_dir))}`"
    warn(f"W&B failed ({brief(error)}); the training goes on, its metrics are in history.csv{later}")
    if isinstance(error, TimeoutError):
        _SERVER.answers = False
    if isinstance(error, ConnectionError):
        _forget_service()


def _forget_service() -> None:
    """W&B's service process is gone: without this, W&B would miss it again at the end, and for the next fold."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


def _kill_service() -> None:
    """End W&B's service process that hangs: at its end, this process would wait for it. On Linux alone."""
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for child in file.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().startswith("wandb-core"):
                    os.kill(int(child), signal.SIGKILL)


def _project_of_pyproject() -> str | None:
    """`wandb_project` of `[tool.expkit]`; None, which leaves the choice to W&B, when it is not there."""
    try:
        project = settings().get("wandb_project")
    except Error as error:
        warn(f"no W&B project is known: {error}")
        return None
    return project if isinstance(project, str) else None


# Columns of W&B and of ours: what is logged under such a name would be dropped or overwritten without a word.
OWN_NAMES = ("", "_step", "_runtime", "_timestamp", "_wandb")


class Points:
    """Sends points and final values to a W&B run.

    A metric has the axis over which it was first logged. Over another one it has a name of its own, such as
    `loss_step`: W&B draws a metric over one axis, and leaves out the points that do not have it.

    Each method raises what W&B raises when it is gone. A value that W&B refuses is said, once for each name, and costs
    nothing else.

    Args:
        run: the `wandb.Run`.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._names: dict[tuple[str, str | None], str] = {}
        self._drawn: dict[str, bool] = {}  # whether it has an axis in W&B
        self._refused: set[str] = set()

    def log(self, row: Mapping[str, Any], axis: str | None) -> None:
        """A row of the history, over `axis`, a name among the row's; None: over the number of the row."""
        values = self._without_own({self._name(name, axis): value for name, value in row.items()})
        if axis is not None:
            values = {name: value for name, value in values.items() if name in AXES or self._has_axis(name, axis)}
        if values and self._problem(functools.partial(self._run.log, values)):
            part = functools.partial(self._run.log, commit=False)  # of one point
            if [name for name, value in values.items() if self._takes(name, functools.partial(part, {name: value}))]:
                self._run.log({}, commit=True)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Final values, beside the last ones of the metrics."""
        values, update = self._without_own(values), self._run.summary.update
        if self._problem(functools.partial(update, values)):
            for name, value in values.items():
                self._takes(name, functools.partial(update, {name: value}))

    def _name(self, name: str, axis: str | None) -> str:
        if name in AXES:
            return name
        if (name, axis) not in self._names:
            known = name
            while axis is not None and known in self._names.values():
                known = f"{known}_{axis}"
            self._names[name, axis] = known
        return self._names[name, axis]

    def _has_axis(self, name: str, axis: str) -> bool:
        """Whether W&B draws a metric over `axis`, or takes it that it does so from now on."""
        if name not in self._drawn:
            if "*" in name:
                self._refuse(name, "a * stands for any name")
                self._drawn[name] = False
            else:
                define = functools.partial(self._run.define_metric, name, step_metric=axis)
                self._drawn[name] = self._takes(name, define)
        return self._drawn[name]

    def _without_own(self, values: Mapping[str, Any]) -> dict[str, Any]:
        for name in OWN_NAMES:
            if name in values:
                self._refuse(name, "W&B keeps this name to itself")
        return {name: value for name, value in values.items() if name not in OWN_NAMES}

    def _takes(self, name: str, call: Callable[[], Any]) -> bool:
        """Whether W&B takes a value; if not, it is said."""
        problem = self._problem(call)
        if problem is not None:
            self._refuse(name, brief(problem))
        return problem is None

    def _problem(self, call: Callable[[], Any]) -> Exception | None:
        """The error of a call, when it is about the values alone; else it is raised."""
        try:
            call()
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            self._run.summary.update({})  # raises, too, when the run has ended or the service is gone
            return error
        return None

    def _refuse(self, name: str, why: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            warn(f"W&B does not take {strip_control(name)!r} ({why}); it is kept only on the disk")


def brief(error: Exception) -> str:
    """What an error says, on one line: pydantic takes several."""
    return strip_control(" ".join(str(error).split()) or type(error).__name__)[:200]
