"""Weights & Biases: one W&B run a fold, and a training that does not depend on it."""

from __future__ import annotations

import contextlib
import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from expkit.errors import interrupted, plain, warn
from expkit.paths import code_root, output_dir, shown

# Seconds to wait for the server: at the start of a fold, and for the uploads at its end. What is not uploaded by then
# stays on disk, for `wandb sync`.
INIT_TIMEOUT = 15
FINISH_TIMEOUT = 120


class _Server:
    """What this process knows of the W&B server: asked once, however many folds and runs there are."""

    def __init__(self) -> None:
        self.answers: bool | None = None

    def mode(self, wished: str | None) -> str:
        """The mode to pass to `wandb.init`, when WANDB_MODE is `wished`."""
        if wished not in (None, "", "online"):
            return str(wished)
        if self.answers is None:
            self.answers = self._is_logged_in(wished)
        return "online" if self.answers else "offline"

    def _is_logged_in(self, wished: str | None) -> bool:
        import wandb

        try:
            logged_in = bool(wandb.login(prompt=False))
        except Exception as error:  # of W&B, pydantic, requests: whatever it is, it is no reason not to train
            warn(f"W&B does not take the key, or does not answer; going on offline ({_first_line(error)})")
            return False
        if wished and not logged_in:
            warn("WANDB_MODE is online and there is no key (`uv run wandb login`); going on offline")
        return logged_in


_SERVER = _Server()


class Tracking:
    """The W&B runs of the folds of a run: one group, `<experiment>/<run>`.

    The project is WANDB_PROJECT, else `wandb_project` of `[tool.expkit]` in pyproject.toml. The mode is disabled when
    debugging; else WANDB_MODE; else online when an account is configured; else offline.
    """

    def __init__(self, experiment: str, run: str, config: Mapping[str, Any], debug: bool) -> None:
        self.group, self.config, self.debug = f"{experiment}/{run}", config, debug
        self._said_offline = False

    def start(self, fold: str, run_id: str, tags: list[str]) -> Tracker:
        """Open the W&B run of a fold; online becomes offline, with a warning, when the server does not answer."""
        mode = "disabled" if self.debug else _SERVER.mode(os.environ.get("WANDB_MODE"))
        if mode == "disabled":
            return Tracker(None)
        directory = os.environ.get("WANDB_DIR") or str(output_dir())
        arguments = {
            "project": os.environ.get("WANDB_PROJECT") or _project_of_pyproject(),
            "group": self.group,
            "name": f"{self.group}/{fold}",
            "id": f"{run_id}-{fold}",
            "config": dict(self.config),
            "tags": tags,
            "dir": directory,
        }
        tracker = None
        if mode == "online":
            tracker = Tracker(_opened(**arguments, mode="online", resume="allow", settings=_settings(silent=False)))
            if tracker.run is None:
                _SERVER.answers, mode = False, "offline"
        if tracker is None or tracker.run is None:
            if mode == "offline":
                self._say_offline(directory)
            tracker = Tracker(_opened(**arguments, mode=mode, settings=_settings(silent=True)))
        return tracker

    def _say_offline(self, directory: str) -> None:
        if not self._said_offline:
            folder = shown(Path(directory) / "wandb")
            print(
                f"W&B is offline: look now with `uv run wandb leet {folder}/latest-run`, "
                f"upload later with `uv run wandb sync {folder}/offline-run-*`",
                flush=True,
            )
        self._said_offline = True


class Tracker:
    """A W&B run that never stops a training: what fails is said once, and the training goes on.

    Attributes:
        run: the `wandb.Run`; None when W&B is disabled or has failed.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self._axes: dict[str, str] = {}

    def log(self, metrics: Mapping[str, Any], axis: str | None) -> None:
        """One point, as `wandb.Run.log`, over `axis`, a name among the metrics."""
        if self.run is None:
            return
        for name in metrics:
            if axis is not None and name != axis and self._axes.get(name) != axis:
                self._axes[name] = axis
                self._safely(functools.partial(self.run.define_metric, name, step_metric=axis))
        self._safely(lambda: self.run.log(dict(metrics)))

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Final values, as `wandb.Run.summary.update`."""
        self._safely(lambda: self.run.summary.update(dict(values)))

    def finish(self, failed: bool) -> None:
        """Close the W&B run."""
        self._safely(lambda: self.run.finish(exit_code=int(failed)))
        self.run = None

    def _safely(self, call: Callable[[], Any]) -> None:
        if self.run is not None:
            _, error = _attempt(call)
            if error is not None:
                self.run = None


def _opened(**arguments: Any) -> Any:
    def init() -> Any:
        import wandb

        return wandb.init(**arguments | {"settings": wandb.Settings(**arguments["settings"])})

    return _attempt(init)[0]


def _settings(silent: bool) -> dict[str, Any]:
    return {
        "silent": silent,
        "init_timeout": INIT_TIMEOUT,
        "finish_timeout": FINISH_TIMEOUT,
        "finish_timeout_raises": True,
    }


def _attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call of W&B's returns, or the error, with one line that the training goes on."""
    try:
        return call(), None
    except Exception as error:  # whatever W&B raises: tracking is not worth a training
        if interrupted(error):
            raise
        warn(f"W&B failed ({_first_line(error)}); the training goes on, its metrics are in history.csv")
        if isinstance(error, TimeoutError):
            _SERVER.answers = False
        if isinstance(error, ConnectionError):
            _forget_service()
        return None, error


def _forget_service() -> None:
    """W&B's service process is gone: without this, W&B would miss it again at the end, and for the next fold."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


def _first_line(error: Exception) -> str:
    return plain((str(error).splitlines() or [type(error).__name__])[0])


def _project_of_pyproject() -> str | None:
    """`wandb_project` of `[tool.expkit]`; None, which leaves the choice to W&B, when it is not there."""
    try:
        with open(code_root() / "pyproject.toml", "rb") as stream:
            project = tomllib.load(stream).get("tool", {}).get("expkit", {}).get("wandb_project")
    except (OSError, tomllib.TOMLDecodeError) as error:
        warn(f"pyproject.toml names no W&B project: {error}")
        return None
    return project if isinstance(project, str) else None
