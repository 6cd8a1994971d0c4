"""When a fold is done and which score is a run's: the same for everyone, whatever lies on the disk."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import command
from helpers import counting, load

import expkit
from expkit import store
from expkit.errors import Error
from expkit.files import write_json
from expkit.show import run_metadata
from expkit.tracking import History


@pytest.fixture
def run(root: Path) -> Path:
    """The folder of a run with three folds, of three, and its scores."""
    command("exp.n_folds=3").train()
    [row] = expkit.read_board()
    assert (len(row.done), row.marks) == (3, ())
    return counting(root, "light,exp.n_folds=3")


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flipped(file: Path) -> None:
    """One byte, the size as before."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("result.json", lambda file: edited(file, '"quality": 10.0', '"quality": 99.0')),
        ("result.json", cut),
        ("oof.npz", cut),
        ("oof.npz", flipped),
        ("oof.npz", Path.unlink),
        ("origin.json", flipped),
        ("origin.json", lambda file: (file.unlink(), file.mkdir())),
    ],
)
def test_a_fold_that_is_not_as_it_was_left(run: Path, name: str, damage: Callable[[Path], None]) -> None:
    """It is not done: not on the board, not for the command, not in Python; and the board says what is wrong."""
    damage(run / "fold1" / name)
    [row] = expkit.read_board()
    assert len(row.done) == 2 and row.score == 10.0
    assert row.marks[0] == "partial" and any("fold1" in mark for mark in row.marks[1:])
    assert expkit.load_run(run).done.keys() == {0, 2}
    trained: list[int | None] = []
    command("exp.n_folds=3", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [1]
    [row] = expkit.read_board()
    assert (len(row.done), row.marks) == (3, ())


def test_a_fold_of_another_place(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copied over another fold, or from another run, it is not done: one warning says so."""
    shutil.rmtree(run / "fold1")
    shutil.copytree(run / "fold0", run / "fold1")
    [row] = expkit.read_board()
    assert len(row.done) == 2 and "fold1 is of another run or fold" in row.marks
    capsys.readouterr()
    assert not command("exp.n_folds=3", "exp.fold=[1]")._is_done(1)
    assert re.fullmatch(r"warning: \S+/fold1: .*fold1.*; it counts as missing\n", capsys.readouterr().err)
    command("exp.n_folds=3", "exp.name=other").train()
    shutil.rmtree(run / "fold1")
    shutil.copytree(run.with_name("other,exp.n_folds=3") / "fold1", run / "fold1")
    assert {len(row.done) for row in expkit.read_board() if row.name.startswith("light")} == {2}


def test_a_copy_is_as_good(run: Path, tmp_path: Path) -> None:
    """Times of files tell nothing: their content does."""
    for file in run.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    [row] = expkit.read_board()
    assert (len(row.done), row.marks) == (3, ())


def test_scores_of_other_folds_are_not_these(run: Path) -> None:
    """A cv.json that was made from folds that are there no more: the mean of those that are, with a mark."""
    old = (run / "cv.json").read_bytes()
    shutil.rmtree(run / "fold1")
    command("exp.n_folds=3", "exp.fold=[1]").train()
    (run / "cv.json").write_bytes(old)
    [row] = expkit.read_board()
    assert (len(row.done), row.marks) == (3, ("mean of folds",))
    (run / "cv.json").unlink()
    [row] = expkit.read_board()
    assert (row.score, row.marks) == (10.0, ("mean of folds",))
    edited_scores = old.replace(b'"all": 10.0', b'"all": 99.0')
    assert edited_scores != old
    (run / "cv.json").write_bytes(edited_scores)
    [row] = expkit.read_board()
    assert row.score == 10.0 and any("cv.json" in mark for mark in row.marks)


def test_scores_with_copies_of_the_results(run: Path) -> None:
    """As a cv.json had them once: it is read all the same."""
    cv, done = load(run / "cv.json"), store.read_run(run).results
    write_json(run / "cv.json", cv | {"folds": {number: {"state": [1, 2], "result": done[number]} for number in done}})
    [row] = expkit.read_board()
    assert (row.score, row.score_over, row.marks) == (10.0, "rows", ())


def test_names_that_are_no_folds(run: Path) -> None:
    for name in ("fold1.bak", "fold01", "fold²", "fold-1", "fold9"):
        shutil.copytree(run / "fold1", run / name)
    [row] = expkit.read_board()
    assert len(row.done) == 3 and row.score == 10.0
    assert list(store.read_run(run).folds) == [0, 1, 2]


def test_a_fold_that_has_failed_says_why_until_it_is_trained_again(root: Path) -> None:
    """On the board and in show; and a fold that a process trains now has not failed."""
    control = root / "control"
    for number in range(3):
        (control / f"fail{number}").touch()
    with pytest.raises(Error, match="failed: fold 0, fold 1, fold 2"):
        command("exp.n_folds=3").train()
    [row] = expkit.read_board()
    assert (row.score, len(row.done), row.marks) == (None, 0, ("failed",))
    about = run_metadata(expkit.load_run("light"))
    assert about["failed"] == {f"fold{number}": "ValueError: planted" for number in range(3)}

    (control / "fail0").unlink()
    (control / "fail1").unlink()
    seen: list[tuple[str, ...]] = []
    with pytest.raises(Error, match="failed: fold 2"):
        command("exp.n_folds=3", during=lambda fold: seen.append(expkit.read_board()[0].marks)).train()
    assert seen == [("failed",), ("partial", "fold 2 failed"), ("partial",)]
    (control / "fail2").unlink()
    command("exp.n_folds=3").train()
    [row] = expkit.read_board()
    assert (len(row.done), row.marks, run_metadata(expkit.load_run("light"))["failed"]) == (3, (), {})


@pytest.mark.parametrize(
    ("text", "history"), [("", {}), ("epoch,loss\n1,0.5\n2\n", {"epoch": [1, 2], "loss": [0.5, None]})]
)
def test_a_history_that_is_cut_off(tmp_path: Path, text: str, history: dict[str, list[float]]) -> None:
    """For who looks at it, and for a training that goes on."""
    (tmp_path / "history.csv").write_text(text)
    assert store.FoldRecord(tmp_path, 0, None).history() == history
    kept = History(tmp_path / "history.csv")
    kept.cut(2)
    assert (kept.rows, kept.columns) == (len(history.get("epoch", [])), list(history))
