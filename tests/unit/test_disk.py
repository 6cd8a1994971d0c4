"""One bad entry hides no other, costs no work, and is said in one line: in output/, notes/ and on the way to stdout."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from pathlib import Path

import pytest
from commands import command
from damage import make_special, unprivileged
from experiments import own_experiment
from helpers import exp, refused, results
from light import LIGHT

import expkit
from expkit import tables
from expkit.board import entries
from expkit.errors import escape_unprintable
from expkit.new import check_experiment
from expkit.notes import add_note

BAD = ["dangling", "pipe", "unreadable", "other"]


# One bad entry


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_entry_beside_a_run(root: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The other run is on the board, its fold is not trained again; a command of this one is refused."""
    command("exp.fold=[0]", "exp.train.x=1").train()
    before = results(root, "light,exp.train.x=1")
    bad = root / "output" / LIGHT / "light,exp.train.x=0"
    bad.mkdir()
    (bad / "file").touch()
    make_special(kind, bad)
    with unprivileged():
        rows = {row.name: row for row in expkit.read_board()}
        assert "light,exp.train.x=1" in rows
        command("exp.fold=[0]", "exp.train.x=1").train()
        with pytest.raises((expkit.Error, NotADirectoryError), match=r"light,exp.train.x=0"):
            command("exp.fold=[0]", "exp.train.x=0.0").train()
    assert "fold 0 is done" in capsys.readouterr().out
    assert results(root, "light,exp.train.x=1") == before
    if kind != "other":  # it may have been a run
        assert "run.json" in str(rows["light,exp.train.x=0"].marks)


def test_a_file_whose_name_is_no_utf_8(root: Path) -> None:
    """The record of its fold has half a character, and is read."""
    command("exp.fold=[0]", during=lambda fold: (fold.folder / os.fsdecode(b"model\xff")).touch()).train()
    [run] = expkit.read_board()
    assert "model\udcff" in run.results[0]["files"] and run.marks == ("partial",)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_entry_in_the_place_of_a_fold(root: Path, kind: str) -> None:
    """Another fold is found done, and a finished one that cannot be read is not trained again."""
    command("exp.fold=[0,1]").train()
    fold = root / "output" / LIGHT / "light/fold0"
    before = results(root)
    make_special(kind, fold)
    with unprivileged():
        [row] = expkit.read_board()
        assert len(row.done) == 1 and "partial" in row.marks
        with pytest.raises((expkit.Error, PermissionError), match=r"light/fold0|/dev/zero"):
            command("exp.fold=[0]").train()
    if kind == "unreadable":
        fold.chmod(0o700)
        assert results(root) == before


def test_a_finished_fold_whose_result_may_not_be_read(root: Path) -> None:
    command("exp.fold=[0,1]").train()
    result = root / "output" / LIGHT / "light/fold0/result.json"
    result.chmod(0)
    with unprivileged():
        with pytest.raises(PermissionError, match=r"light/fold0/result.json"):
            command("exp.fold=[0,1]").train()
    result.chmod(0o600)
    command("exp.fold=[0,1]").train()


@pytest.mark.parametrize(("name", "kind"), [(".locks", "unreadable"), (".locks/light@1.fold0", "other")])
def test_a_bad_lock(root: Path, kind: str, name: str) -> None:
    """As one of another user may be: nobody can tell who trains."""
    command("exp.fold=[0]").train()
    make_special(kind, root / "output" / LIGHT / name)
    with unprivileged():
        with contextlib.suppress(expkit.Error, OSError):
            command("exp.fold=[0,1]").train()
        assert "nothing to clean" in exp("clean")
        assert [len(row.done) >= 1 for row in expkit.read_board()] == [True]


# Notes, blends, submissions


@pytest.mark.parametrize("kind", ["pipe", "unreadable"])
def test_notes_of_an_experiment_that_are_no_file(
    root: Path, notes: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, and hides no other; no note is lost in it."""
    command("exp.fold=[0]").train()
    add_note(f"{LIGHT}/light", {"text": "gone"})
    add_note("001-baseline/other", {"text": "there"})
    make_special(kind, notes / f"{LIGHT}.jsonl")
    with unprivileged():
        assert [one.values["note"] for one in entries(expkit.read_board())] == [None]
        printed = exp("note")
        assert "there" in printed
        assert "cannot be read" in capsys.readouterr().err + printed
        if kind == "pipe":
            assert notes.name in refused("note", "light", "more")


def test_folders_of_what_is_made_that_are_files(root: Path) -> None:
    (root / "output").mkdir()
    for name in ("submissions", "blends"):
        (root / "output" / name).touch()
    test = {"id": [1, 2], "prediction": [0.0, 1.0]}
    for x in (1, 2):
        command("exp.n_folds=1", f"exp.train.x={x}", during=lambda fold: fold.save_test(test)).train()
    one, other = (row.name for row in expkit.read_board())
    assert "submissions" in refused("submit", one)
    assert "blends" in refused("blend", one, other)


def test_a_parameter_set_that_is_no_file() -> None:
    """There is none; the others compose."""
    with own_experiment(copy_of=LIGHT) as folder:
        (folder / "exp").mkdir(exist_ok=True)
        (folder / "exp/001.yaml").write_text("name: one\n")
        (folder / "exp/002.yaml").symlink_to("nowhere")
        assert {one.parameter_set: one.problem for one in check_experiment(folder.name)} == {
            "default": None,
            "001": None,
        }


# What goes out


def test_predictions_as_csv_are_text(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape reaches a terminal, and no spreadsheet calculates; a number, and a submission, stay as they are."""
    ids = ["=1+1", "+x", "-x", "@x", "\t=1", "\r=1", "-0.5", "+1e3", "\x1b]52;c;aGk=\x07", "plain", "ü"]
    shown = ["'=1+1", "'+x", "'-x", "'@x", "�=1", "�=1", "-0.5", "+1e3", "�]52;c;aGk=�", "plain", "ü"]
    table = {"id": ids, "=name\x1b[2J": [-1.5] * len(ids), "prediction": [1.0] * len(ids)}
    command("exp.fold=[0]", "exp.n_folds=1", during=lambda fold: None).train()
    monkeypatch.setattr(expkit.Run, "oof", tables.columns(table, "a table"))
    rows = list(csv.reader(io.StringIO(exp("oof", "light"))))
    assert [row[0] for row in rows[1:]] == shown and rows[0] == ["id", "'=name�[2J", "prediction"]
    assert {row[1] for row in rows[1:]} == {"-1.5"}, "a number is no formula"
    assert "\x1b" not in exp("oof", "light", "--json")
    stream = io.StringIO()
    tables.write_csv(stream, tables.columns(table, "a submission"))
    rows = list(csv.reader(io.StringIO(stream.getvalue().replace("\r", "CR"))))
    assert [row[0].replace("CR", "\r") for row in rows[1:]] == ids


def test_stdout_of_the_c_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ASCII, and not strict."""
    for errors in ("strict", "surrogateescape"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors)
        monkeypatch.setattr("sys.stdout", stream)
        escape_unprintable()
        print("0.9 ± 0.1", flush=True)
        assert stream.buffer.getvalue() == b"0.9 \\xb1 0.1\n"  # type: ignore[attr-defined]
