"""What is logged, as W&B takes it: each metric over its own axis, and what it refuses left out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from expkit.errors import plain, warn
from expkit.train.history import AXES

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
            warn(f"W&B does not take {plain(name)!r} ({why}); it is kept only on the disk")


def brief(error: Exception) -> str:
    """What an error says, on one line: pydantic takes several."""
    return plain(" ".join(str(error).split()) or type(error).__name__)[:200]
