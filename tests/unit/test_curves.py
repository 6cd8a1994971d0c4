"""The history of a fold: rows of epochs and of steps in one file, each drawn over its own axis."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import command

import expkit
from expkit.frames import position
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
    command("exp.fold=[0]", during=lambda fold: [fold.log(row) for row in rows]).train()
    run = expkit.load_run("light")
    curve = last_curve(run)
    assert (curve is not None) == bool(metric)
    if curve is not None:
        points = curve["folds"]["0"]
        assert (curve["metric"], curve["axis"], points[0][0], points[-1][0]) == (metric, axis, first, last)
    assert run.history(0)["loss"] == [row.get("loss") for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch,loss\n0,0.5\n1,0.25\n", "epoch 2"),
        ("epoch,loss\n", ""),
        ("step,loss\n100,0.5\n200,", "step 200"),
        ("epoch,step,loss\n0,,1\n,70,2\n", "step 70"),
        ("loss\n" + "0.5\n" * 50_000, ""),
        ("step,loss\n" + "7,0.5\n" * 50_000, "step 7"),
        ("", ""),
        ('"step\n1', ""),
    ],
    ids=range(8),
)
def test_how_far_a_training_is(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    assert position(tmp_path / "history.csv") == expected
