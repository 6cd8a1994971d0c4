"""A single split in place of folds, and test scores beside the CV score."""

from __future__ import annotations

from pathlib import Path

from conftest import Project

import expkit


def test_the_baseline_leaves_out_the_share_that_is_asked_for(project: Project, root: Path) -> None:
    project.train("exp.n_folds=1", "exp.split.holdout=0.3", "exp.train.epoch=1", root=root, WANDB_MODE="disabled")
    [row] = expkit.read_board()
    assert (row.rows, row.marks) == (432, ())  # of 1437
    project.train("exp.n_folds=1", "exp.debug=true", root=root, WANDB_MODE="disabled")
