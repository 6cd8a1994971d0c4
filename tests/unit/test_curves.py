"""The history of a fold: rows of epochs and of steps in one file, each drawn over its own axis."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import command

import expkit
from expkit.show import last_curve

EPOCHS = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.25} for epoch in range(1, 5)]
STEPS = [{"step": step, "loss": 10.0, "rate": 0.5} for step in range(100, 1100, 100)]


@pytest.mark.parametrize(
    ("rows", "axis", "metric", "first", "last"),
    [
        ([*STEPS[:5], *EPOCHS[:2], *STEPS[5:], *EPOCHS[2:]], "epoch", "accuracy", 1, 4),
        ([*STEPS, {"epoch": 1, "loss": 0.5}], "step", "rate", 100, 1000),
        (STEPS, "step", "rate", 100, 1000),
        ([{"loss": 0.5}, {"loss": 0.25}, {"loss": 0.125}], "row", "loss", 1, 3),
        (EPOCHS[:1], "", "", 0, 0),
    ],
    ids=["both", "one epoch", "steps", "neither", "one row"],
)
def test_a_curve_over_its_own_axis(
    root: Path, rows: list[dict[str, float]], axis: str, metric: str, first: int, last: int
) -> None:
    """`exp show` draws epochs, else steps, else rows, and never mixes them."""
    command("exp.fold=[0]", during=lambda fold: [fold.log(**row) for row in rows]).train()
    run = expkit.load_run("light")
    curve = last_curve(run)
    assert (curve is not None) == bool(metric)
    if curve is not None:
        points = curve["folds"]["0"]
        assert (curve["metric"], curve["axis"], points[0][0], points[-1][0]) == (metric, axis, first, last)
    assert run.history(0)["loss"] == [row.get("loss") for row in rows]


def test_steps_within_an_epoch(root: Path) -> None:
    """A row belongs to the loop around it: to the epoch again when its steps are over, also by a `break`."""

    def during(fold: expkit.Fold) -> None:
        for _ in fold.epochs(2):
            for step in fold.steps(3):
                fold.log(loss=step)
                if step == 2:
                    break
            fold.log(accuracy=0.5)
        fold.log(last=1)

    command("exp.fold=[0]", during=during).train()
    history = expkit.load_run("light").history(0)
    assert history["step"] == [1, 2, None] * 2 + [None]
    assert history["epoch"] == [None, None, 1, None, None, 2, None]


def test_a_row_is_given_by_name(root: Path) -> None:
    """A dict, as `wandb.log` takes it, is no row without values."""
    with pytest.raises(TypeError, match="positional argument"):
        command("exp.fold=[0]", during=lambda fold: fold.log({"loss": 0.5})).train()
