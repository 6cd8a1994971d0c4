"""A single split in place of folds, and test scores beside the CV score."""

from __future__ import annotations

from pathlib import Path

from commands import command
from light import LIGHT

import expkit
from expkit.board import Entry


def test_a_single_split_is_complete(root: Path) -> None:
    expkit.run(LIGHT, overrides=["exp.n_folds=1"])
    [row] = expkit.read_board()
    assert (len(row.done), row.n_folds, row.score, row.std, row.marks) == (1, 1, 10.0, None, ())


def test_a_test_score_is_a_column(root: Path) -> None:
    """The mean over the folds, when each has one."""

    def finish_with_test(fold: expkit.Fold) -> None:
        finish = fold.finish
        fold.finish = lambda **values: finish(test_quality=fold.number, **values)  # type: ignore[method-assign]

    command("exp.fold=[0,1,2]", during=finish_with_test).train()
    [row] = expkit.read_board()
    assert row.other_scores == {"test_quality": 1.0}
    assert Entry((row,)).values["test_quality"] == 1.0
    command("exp.fold=[3]").train()
    [row] = expkit.read_board()
    assert row.other_scores == {}
