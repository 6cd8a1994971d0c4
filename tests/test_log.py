"""train.log keeps what a training prints, and the traceback of what failed."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest
from commands import command
from helpers import counting

import expkit
from expkit import record


def log(root: Path, fold: int) -> str:
    return (counting(root) / f"fold{fold}" / record.LOG).read_text()


def test_what_is_printed_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And shown as ever. What is printed after fold.finish() does not make the fold a broken one."""

    def talk(fold: expkit.Fold) -> None:
        print(f"hello from {fold.title}")
        print("look here", file=sys.stderr)
        fold.log({"epoch": 1, "loss": 0.25}, total=2)
        finish = fold.finish

        def finish_and_talk(**values: object) -> object:
            done = finish(**values)
            print("goodbye")
            return done

        fold.finish = finish_and_talk  # type: ignore[method-assign]

    before = sys.stdout, sys.stderr
    command("exp.fold=[0,1]", during=talk).train()
    assert (sys.stdout, sys.stderr) == before
    assert log(root, 0) == "hello from fold 0\nlook here\nfold 0  epoch 1/2  loss 0.2500\ngoodbye\n"
    printed = capsys.readouterr()
    assert "hello from fold 0" in printed.out and "look here" in printed.err
    assert len(record.read_run(counting(root)).done) == 2


def test_the_traceback_of_a_fold_that_fails(root: Path) -> None:
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error, match="failed: fold 1"):
        command("exp.fold=[0,1]").train()
    assert "ValueError: planted" in log(root, 1) and "Traceback" in log(root, 1)
    assert log(root, 0) == ""


def test_a_progress_bar_is_not_in_the_log(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: the log has a line an epoch, the terminal a bar, and what else is printed stands above it."""
    terminal, child = pty.openpty()

    def train_long(fold: expkit.Fold) -> None:
        for epoch in range(1, 4):
            fold.log({"epoch": epoch, "loss": 0.5}, total=3)
            print("between")

    with os.fdopen(child, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("TERM", "xterm")
        command("exp.fold=[0]", during=train_long).train()
        stream.flush()
        shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    line = "fold 0  epoch {}/3  loss 0.5000\nbetween\n"
    assert log(root, 0) == "".join(line.format(epoch) for epoch in (1, 2, 3))
    assert shown.count("between") == 3 and "━" in shown
