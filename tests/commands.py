"""Commands of the light experiment in this process: one after the other, and several at the same time, in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any

from light import LIGHT

import expkit
from expkit.config import load_experiment
from expkit.runner import Command, Runner

SECONDS = 120  # a command that takes longer hangs


def command(
    *overrides: str,
    x: float | None = None,
    n_folds: int | None = None,
    during: Callable[[expkit.Fold], object] | None = None,
) -> Runner:
    """What a command of the light experiment makes of its configuration; `.train()` is the rest of it.

    Args:
        overrides: of the command line.
        x, n_folds: other values than in config.yaml, as if it had been edited: they are not in the name of the run.
        during: is called while a fold is trained.
    """
    loaded = load_experiment(LIGHT)
    config = expkit.load_config(LIGHT, overrides)
    if x is not None:
        config.exp.train.x = x
    if n_folds is not None:
        config.exp.n_folds, config.exp.fold = n_folds, list(range(n_folds))

    def train(exp: Any, fold: expkit.Fold) -> Any:
        if during is not None:
            during(fold)
        return loaded.experiment.train(exp, fold)

    experiment = replace(loaded.experiment, train=train)
    return Runner(replace(loaded, experiment=experiment), config, overrides, Command())


class Background:
    """A command in a thread.

    Args:
        stays_in: the number of the fold in whose training it stays until `finish`; None: it does not stop.
        x: as of `command`.
    """

    def __init__(self, *overrides: str, stays_in: int | None = None, x: float | None = None) -> None:
        self.trained: list[int | None] = []
        self._stays_in, self._came, self._gate = stays_in, Event(), Event()
        self.run = command(*overrides, during=self._during, x=x)
        self._pool = ThreadPoolExecutor(1)
        self._result = self._pool.submit(self.run.train)
        assert stays_in is None or self._came.wait(SECONDS), self._result

    def _during(self, fold: expkit.Fold) -> None:
        self.trained.append(fold.number)
        if fold.number == self._stays_in:
            self._came.set()
            assert self._gate.wait(SECONDS)

    @property
    def folder(self) -> Path:
        """The version that it works in."""
        assert self.run.run_dir.folder is not None
        return self.run.run_dir.folder

    def wait(self, seconds: float = SECONDS) -> float | None:
        """Wait for its end. Raises what it raises, or TimeoutError."""
        return self._result.result(seconds)

    def finish(self) -> float | None:
        """Let it go on, and wait for its end, as `wait`."""
        self._gate.set()
        return self.wait()

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._gate.set()
        self._pool.shutdown(wait=error is None)
