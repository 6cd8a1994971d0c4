"""A single split in place of folds, and test scores beside the CV score."""

from __future__ import annotations

from pathlib import Path

from experiments import own_experiment
from helpers import exp
from light import LIGHT
from several import files

import expkit
from expkit.board import Entry


def test_a_single_split_is_complete(root: Path) -> None:
    expkit.run(LIGHT, overrides=["exp.n_folds=1"])
    [row] = expkit.read_board()
    assert (len(row.done), row.n_folds, row.score, row.std, row.marks) == (1, 1, 10.0, None, ())
    with own_experiment(files("price")) as folder:
        expkit.run(folder.name, overrides=["exp.n_folds=1"])
        assert "test predictions of hold-out  hold-out rmse " in exp("submit", folder.name)


def test_a_test_score_is_a_column(root: Path) -> None:
    """The mean over the folds, when each has one."""
    with own_experiment(files("price", "if fold.number < 2: return {'test_quality': fold.number}")) as folder:
        for folds, scores in (("[0,1]", {"test_quality": 0.5}), ("[2]", {})):
            expkit.run(folder.name, overrides=[f"exp.fold={folds}"])
            [row] = expkit.read_board()
            assert row.other_scores == scores and Entry((row,)).values.get("test_quality") == scores.get("test_quality")
