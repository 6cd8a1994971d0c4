"""Weights & Biases: the arguments of `wandb.init`, and a training that does not depend on them."""

from __future__ import annotations

import contextlib
import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from expkit.errors import warn
from expkit.paths import shown
from expkit.runs import Fold

# Seconds to wait for the server: at the start of a fold, and for the uploads at its end. What is not uploaded by then
# stays on disk, for `wandb sync`.
INIT_TIMEOUT = 15
FINISH_TIMEOUT = 120


def wandb_args(fold: Fold) -> dict[str, Any]:
    """The arguments of `wandb.init` for one fold.

    The project is WANDB_PROJECT, else `wandb_project` of `[tool.expkit]` in pyproject.toml. The folds of a run are one
    group, `<experiment>/<run>`. The mode is disabled when debugging; else WANDB_MODE; else online when an account is
    configured; else offline. Online becomes offline, with a warning, when the server does not answer.
    """
    run = fold.run
    mode = "disabled" if run.exp.debug else _mode(os.environ.get("WANDB_MODE"))
    directory = os.environ.get("WANDB_DIR") or str(run.root / "output")
    if mode == "offline":
        _say_offline(directory)
    return {
        "project": os.environ.get("WANDB_PROJECT") or _project_of_pyproject(run.code_root / "pyproject.toml"),
        "group": f"{run.experiment}/{run.name}",
        "name": f"{run.experiment}/{run.name}/{fold.name}",
        "id": f"{run.id}-{fold.name}",
        "resume": "allow" if mode == "online" else None,
        "config": run.values["exp"],
        "dir": directory,
        "mode": mode,
        "settings": {
            "silent": mode == "offline",
            "init_timeout": INIT_TIMEOUT,
            "finish_timeout": FINISH_TIMEOUT,
            "finish_timeout_raises": True,
        },
    }


class Tracker:
    """A W&B run that never stops a training: what fails is said once, and the training goes on.

    Args:
        init: `wandb.init`.
        arguments: its arguments. When the run cannot be opened online, it is opened offline.

    Attributes:
        run: the `wandb.Run`; None when W&B has failed.
    """

    def __init__(self, init: Callable[..., Any], **arguments: Any) -> None:
        self.run: Any = None
        self.run = self._safely(init, **arguments)
        if self.run is None and arguments.get("mode") == "online":
            _give_up_online()
            _say_offline(str(arguments["dir"]))
            self.run = self._safely(init, **arguments | {"mode": "offline", "resume": None})

    def __enter__(self) -> Tracker:
        if self.run is not None:
            self._safely(self.run.define_metric, "*", step_metric="epoch")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.run is not None:
            self._safely(self.run.finish, exit_code=0 if kind is None else 1)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """One point, as `wandb.Run.log`."""
        if self.run is not None:
            self._safely(self.run.log, dict(metrics))

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Final values, as `wandb.Run.summary.update`."""
        if self.run is not None:
            self._safely(self.run.summary.update, dict(values))

    def _safely(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:  # whatever W&B raises: tracking is not worth a training
            warn(f"W&B failed ({_first_line(error)}); the training goes on, its metrics are in history.csv")
            self.run = None
            if isinstance(error, TimeoutError):
                _give_up_online()
            if isinstance(error, ConnectionError):
                _forget_service()
            return None


_online: bool | None = None  # whether the server answers; asked once a process


def _mode(wished: str | None) -> str:
    """The mode to pass to `wandb.init`, when WANDB_MODE is `wished`."""
    global _online
    if wished not in (None, "", "online"):
        return wished
    if _online is None:
        import wandb

        try:
            _online = wandb.login(prompt=False)
            if wished and not _online:
                warn("WANDB_MODE is online and there is no key (`uv run wandb login`); going on offline")
        except wandb.Error as error:
            warn(f"W&B does not take the key, or does not answer; going on offline ({_first_line(error)})")
            _online = False
    return "online" if _online else "offline"


def _forget_service() -> None:
    """W&B's service process is gone: without this, W&B would miss it again at the end, and for the next fold."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _give_up_online() -> None:
    global _online
    _online = False


@functools.cache
def _say_offline(directory: str) -> None:
    folder = shown(Path(directory) / "wandb")
    print(
        f"W&B is offline: look now with `uv run wandb leet {folder}/latest-run`, "
        f"upload later with `uv run wandb sync {folder}/offline-run-*`",
        flush=True,
    )


@functools.cache
def _project_of_pyproject(file: os.PathLike[str]) -> str | None:
    """`wandb_project` of `[tool.expkit]`; None, which leaves the choice to W&B, when it is not there."""
    with open(file, "rb") as stream:
        project: str | None = tomllib.load(stream).get("tool", {}).get("expkit", {}).get("wandb_project")
    return project
