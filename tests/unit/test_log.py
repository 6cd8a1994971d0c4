"""train.log keeps what a training prints, and the traceback of what failed; a long training prints few lines."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import shutil
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import command
from helpers import counting

import expkit
from expkit import store
from expkit.tracking import History


def log(root: Path, fold: int) -> str:
    """What train.log has of a training; the last line is that of the fold."""
    *lines, last = (counting(root) / f"fold{fold}" / store.LOG).read_text().splitlines(keepends=True)
    assert last.startswith(f"fold {fold}  quality ")
    return "".join(lines)


def test_what_is_printed_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And shown as ever."""

    def talk(fold: expkit.Fold) -> None:
        print(f"hello from {fold.title}")
        print("look here", file=sys.stderr)
        fold.log(epoch=1, loss=0.25, total=2)

    before = sys.stdout, sys.stderr
    command("exp.fold=[0,1]", during=talk).train()
    assert (sys.stdout, sys.stderr) == before
    assert log(root, 0) == "hello from fold 0\nlook here\nfold 0  epoch 1/2  loss 0.2500\n"
    printed = capsys.readouterr()
    assert "hello from fold 0" in printed.out and "look here" in printed.err
    assert len(store.read_run(counting(root)).done) == 2


def test_a_library_that_logs_by_itself(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its handler is of the first fold, and keeps the stream of that: each log has the lines of its own fold, once."""
    logger = logging.getLogger("mylib")

    def talk(fold: expkit.Fold) -> None:
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler())
        logger.warning("in %s", fold.title)

    command("exp.fold=[0,1]", during=talk).train()
    logger.warning("after all")
    [handler] = logger.handlers
    logger.removeHandler(handler)
    assert [log(root, fold).splitlines().count(f"in fold {fold}") for fold in (0, 1)] == [1, 1]
    assert "in fold 1" not in log(root, 0) and "after all" not in log(root, 1)
    assert capsys.readouterr().err.count("after all") == 1


def on_terminal(during: Callable[[expkit.Fold], object], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of 80 columns gets while fold 0 is trained."""
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(child, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("TERM", "xterm")
        patch.delenv("COLUMNS", raising=False)
        command("exp.fold=[0]", during=during).train()
        stream.flush()
        shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    return shown


def test_a_terminal_shows_a_line_that_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has a line an epoch, the terminal one in all, and what else is printed stands above it."""
    monkeypatch.setattr("expkit.tracking.BLINK", 0)

    def train_long(fold: expkit.Fold) -> None:
        for _ in fold.epochs(3):
            fold.log(loss=0.5)
            print("between")

    shown = on_terminal(train_long, monkeypatch)
    lines = [f"fold 0  epoch {epoch}/3  loss 0.5000" for epoch in (1, 2, 3)]
    assert log(root, 0) == "".join(f"{line}\nbetween\n" for line in lines)
    shown = re.sub(r"  [\d.]+ s left", "", shown)
    assert "".join(f"\r\x1b[K{line}\r\x1b[Kbetween\r\n" for line in lines) in shown


def train_with_steps(fold: expkit.Fold) -> None:
    """Two epochs of 50 steps, and some steps of a third."""
    for step in range(1, 131):
        fold.log(step=step, total=150, loss=0.5, learning_rate=0.001, gradient_norm=1.0, tokens=1234567, seen=1)
        if step % 50 == 0:
            fold.log(epoch=step // 50, total=3, train_loss=0.5)


def test_a_long_training_prints_few_lines(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 17 lines when its length is known, the first and the last one among them; the history has every row.

    A terminal shows what has room in a line; the log is as without one.
    """
    command("exp.fold=[0]", during=train_with_steps).train()
    lines = log(root, 0).splitlines()
    first, last = (
        f"fold 0  step {step}/150  loss 0.5000  learning_rate 0.0010  gradient_norm 1.0000  tokens 1234567  seen 1"
        for step in (1, 130)
    )
    assert (lines[0], lines[-1]) == (first, last) and 10 < len(lines) <= 17
    assert (counting(root) / "fold0" / store.HISTORY).read_text().count("\n") == 1 + 130 + 2
    shutil.rmtree(root / "output")
    shown = on_terminal(train_with_steps, monkeypatch)
    assert log(root, 0).splitlines() == lines
    assert shown.startswith(f"\r\x1b[K{first[:79]}\r\x1b[K")


def test_a_training_of_unknown_length_prints_fewer_and_fewer_lines(root: Path) -> None:
    command("exp.fold=[0]", during=lambda fold: [fold.log(loss=row) for row in range(1, 1000)]).train()
    rows = [int(line.rpartition(" ")[2]) for line in log(root, 0).splitlines()]
    assert rows == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 999]


def test_every_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    """A kill loses none. Epochs, steps, and a column that comes late."""
    history = History(tmp_path / "history.csv")
    for step in (1, 2):
        history.add({"step": step, "loss": 0.5})
        assert history.file.read_text().splitlines()[step] == f"{step},0.5"
    history.add({"epoch": 1, "late": 2**60 + 1})
    assert history.file.read_text() == f"step,loss,epoch,late\n1,0.5,,\n2,0.5,,\n,,1,{2**60 + 1}\n"
