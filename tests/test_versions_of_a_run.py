"""Runs in this process: the light experiment stands for a training."""

from __future__ import annotations

from pathlib import Path

from light import LIGHT

import expkit


def test_a_run_from_python(root: Path) -> None:
    assert expkit.run(LIGHT, overrides=["exp.train.x=1"]) == 10.0
    [row] = expkit.read_board()
    assert (row.run, row.score, row.folds_done, row.marks) == ("light,exp.train.x=1", 10.0, 5, ())
