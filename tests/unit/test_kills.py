"""`kill -9`, Ctrl-C, full disks, damaged files: what is done stays whole, and nothing half done counts.

After a kill, a test first looks at the disk, through `expkit.store`, and only then runs a command again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from commands import command
from helpers import counting, results, scores_and_predictions
from light import LIGHT

import expkit
from expkit import files, snapshot, store
from expkit.tracking import Tracker

RUN = f"output/{LIGHT}/light"
CHANGES = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate", "shutil.copyfile")


def look(folder: Path) -> store.Run:
    """A version of a run as a kill has left it: each fold that is done has all its files, whole."""
    run = store.read_run(folder)
    assert run.problems == ()
    for fold in [*run.done.values(), *([run.full] if run.full and run.full.result else [])]:
        assert fold.result is not None
        assert store.ORIGIN in fold.result["files"]
        assert (store.SUBMISSION if fold.number is None else store.OOF) in fold.result["files"]
        for name, (size, _, content) in fold.result["files"].items():
            assert (fold.folder / name).stat().st_size == size
            assert content == files.file_hash(fold.folder / name)
        assert fold.origin()["packages"]
        if fold.number is not None:
            assert fold.result["scores"] == {"quality": fold.predictions()["prediction"][0]}
    if run.cv is not None:
        scores = [fold.result["scores"]["quality"] for fold in run.done.values() if fold.result]
        assert list(run.cv["scores"]["quality"]["folds"].values()) == scores
    return run


# Killed between any two changes of the disk


def killed(moment: int, train: Callable[[], object]) -> int:
    """Run a command in a process that is killed before it changes the disk for the `moment`th time; 0: never.

    Returns:
        how often it has changed the disk.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons dislike a fork beside xdist's threads
        child = os.fork()
    if child == 0:
        changes = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal changes
            reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES and not reads:
                changes += 1
                if changes == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            train()
            os.write(writer, str(changes).encode())
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    os.close(writer)
    with open(reader) as stream:
        said = stream.read()
    assert (status == 0) if moment == 0 else os.WIFSIGNALED(status), status
    return int(said or moment)


def moments(request: pytest.FixtureRequest, train: Callable[[], object], restore: Callable[[], object]) -> list[int]:
    """Moments of a command, evenly spread, others each time: one more than --kills, and nearly the last one."""
    last = killed(0, train) - 2
    restore()
    step = max(1, last // (int(request.config.getoption("--kills")) + 1))
    return [*range(random.randint(1, step), last, step), last]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes most of the time of a light training and does not matter to a kill."""
    monkeypatch.setattr(snapshot, "take", lambda folder: None)


class Old:
    """A run of three folds, and of all rows, that a command is about to replace."""

    def __init__(self, root: Path) -> None:
        command("exp.fold=[0,1,2]").train()
        command("exp.mode=sub").train()
        self.root, self.copy = root, root.with_name("old")
        shutil.copytree(root / "output", self.copy)
        self.results = {path.name: path.read_bytes() for path in (root / RUN).glob("*/result.json")}
        self.pids = {number: result["values"]["pid"] for number, result in results(root).items()}

    def restore(self) -> None:
        shutil.rmtree(self.root / "output")
        shutil.copytree(self.copy, self.root / "output")


def test_a_training_that_is_killed_at_any_moment(root: Path, quick: None, request: pytest.FixtureRequest) -> None:
    """The folds that are done stay as they are, and the same command trains the others."""

    def restore() -> None:
        shutil.rmtree(root / "output", ignore_errors=True)

    def train() -> object:
        return command("exp.fold=[0,1,2]").train()

    train()
    expected = scores_and_predictions(counting(root))
    restore()
    numbers = set()
    for moment in moments(request, train, restore):
        restore()
        assert killed(moment, train)
        folder = store.folder_of(root / "output", f"{LIGHT}/light")
        done = scores_and_predictions(folder) if folder and look(folder) else {}
        assert done.items() <= expected.items()
        numbers.add(len(done))
        changed = {number: (counting(root) / f"fold{number}").stat().st_mtime_ns for number in done}
        assert train() == 10.0
        assert {number: (counting(root) / f"fold{number}").stat().st_mtime_ns for number in done} == changed
        assert scores_and_predictions(counting(root)) == expected
        assert look(counting(root)).marks == ("partial",)
    assert numbers == {0, 1, 2, 3}


@pytest.mark.parametrize("x", [0.0, 10.0], ids=["one fold of the same configuration", "another configuration"])
def test_overwriting_that_is_killed_at_any_moment(
    root: Path, quick: None, request: pytest.FixtureRequest, x: float
) -> None:
    """The old run counts, as it was, or the new one, whole with what it keeps; the same command goes on."""
    old = Old(root)
    folds = "exp.fold=[0]" if x == 0 else "exp.fold=[0,1,2]"

    def train() -> object:
        return command(folds, "overwrite=true", x=x).train()

    counted = set()
    for moment in moments(request, train, old.restore):
        old.restore()
        assert killed(moment, train)
        run = look(counting(root))
        assert list(store.run_folders(root / "output")) == [run.folder]
        assert list(run.done) == [0, 1, 2] and run.cv is not None
        counted.add(run.folder.name)
        pids = {number: result["values"]["pid"] for number, result in results(root).items()}
        if run.folder == root / RUN:
            assert pids == old.pids and run.full is not None
        elif x == 0:
            assert pids[0] != old.pids[0] and {1: pids[1], 2: pids[2]} == {1: old.pids[1], 2: old.pids[2]}
            assert run.full is not None and run.full.result is not None
        else:
            assert not set(pids.values()) & set(old.pids.values()) and run.full is None
        train()
        run = look(counting(root))
        assert list(run.done) == [0, 1, 2] and (run.full is not None) == (x == 0)
        assert [path.name for path in run.folder.parent.glob("[!.]*")] == [run.folder.name]
    assert counted == {"light", "light@2"}


def test_a_result_gets_its_name_when_its_files_are_on_the_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after that loses nothing: this reads the calls, as no test can cut the power."""
    flushed: dict[str, tuple[int, int]] = {}
    named: dict[str, dict[str, tuple[int, int]]] = {}
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def note_fsync(handle: int) -> None:
        about = os.fstat(handle)
        flushed[os.readlink(f"/proc/self/fd/{handle}")] = (about.st_size, about.st_mtime_ns)
        fsync(handle)

    def note_name(name: Callable[..., None]) -> Callable[..., None]:
        def noted(source: Any, target: Any, **options: Any) -> None:
            assert str(source) in flushed, f"{target} gets its name before its content is on the disk"
            name(source, target, **options)
            named[str(target)] = dict(flushed)
            flushed.pop(str(Path(target).parent), None)

        return noted

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_name(replace))
    monkeypatch.setattr(os, "rename", note_name(rename))
    command("exp.fold=[0,1]").train()
    command("exp.fold=[0]", "overwrite=true").train()

    def flushed_before(name: Path) -> set[str]:
        """Files that were on the disk, as they are now, when another got its name."""
        assert str(name) in named
        states = named[str(name)].items()
        return {path for path, state in states if Path(path).is_file() and state == _state(Path(path))}

    new = counting(root)
    fold = new / "fold0"
    assert {str(fold / store.OOF), str(fold / store.ORIGIN)} <= flushed_before(fold / store.RESULT)
    assert str(fold) in named[str(fold / store.RESULT)], "the names of the files"
    kept = named[str(new / "fold1")]  # a folder, that gets its name whole
    for name in (store.OOF, store.ORIGIN, store.RESULT):
        assert str(new / ".fold1" / name) in kept
    installed = new / store.INSTALLED
    for path in (new, new.parent, fold):
        assert str(path) in {*named[str(installed)], *flushed}, "and of the folders"


def _state(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


# Interrupted, failed


def test_a_fold_that_fails_does_not_stop_the_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is reported whole, also in its train.log; the command fails, and trains just the missing one next time."""
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error, match="^failed: fold 1; the same command trains what is missing$"):
        command("exp.fold=[0,1,2]").train()
    shown = capsys.readouterr().err
    logs = [(root / RUN / f"fold{number}" / store.LOG).read_text() for number in range(3)]
    for text in (shown, logs[1]):
        assert "ValueError: planted" in text and "model.py" in text and "Traceback" in text
    assert list(results(root)) == [0, 2] and "planted" not in logs[0] + logs[2]
    (root / "control/fail1").unlink()
    trained: list[int | None] = []
    command("exp.fold=[0,1,2]", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [1]
    printed = capsys.readouterr().out
    assert "fold 0 is done" in printed and "3/5 folds" in printed


def test_sigterm_is_a_failure_for_wandb_and_the_board(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library makes of it; the handler is the one of before."""
    closed: list[bool] = []
    monkeypatch.setattr(Tracker, "finish", lambda self, failed: closed.append(failed))

    def wrapped(fold: expkit.Fold) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except BaseException as error:
            raise RuntimeError("of a library") from error

    with pytest.raises(RuntimeError):
        command("exp.fold=[0]", during=wrapped).train()
    assert (closed, signal.getsignal(signal.SIGTERM)) == ([True], signal.SIG_DFL)
    [row] = expkit.read_board()
    assert (row.failure, row.done, row.marks) == ("stopped by SIGTERM", {}, ("stopped",))
    command("exp.fold=[0]").train()
    [row] = expkit.read_board()
    assert row.failure is None


def test_sigterm_of_another_handler_or_process(root: Path) -> None:
    """submitit has a handler of its own. A process that loads data ends as ever, and the training goes on."""
    heard: list[int] = []
    reader, writer = os.pipe()

    def load_data(fold: expkit.Fold) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer Pythons dislike a fork beside xdist's threads
            child = os.fork()
        if child == 0:
            os.write(writer, b"!")
            time.sleep(60)
            os._exit(0)
        assert os.read(reader, 1)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM

    command("exp.fold=[0]", during=load_data).train()
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        command("exp.fold=[1]", during=lambda fold: os.kill(os.getpid(), signal.SIGTERM)).train()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] and list(results(root)) == [0, 1]


def test_a_training_whose_output_nobody_reads_any_more_has_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command that is piped into `head`: why, stays with the fold."""
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), open(writer, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(BrokenPipeError):
            command("exp.fold=[0]", during=lambda fold: print("an epoch")).train()
    assert (root / RUN / "fold0" / store.FAILED).read_text().startswith("stdout, or another pipe, was closed")
