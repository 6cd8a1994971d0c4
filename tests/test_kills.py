"""`kill -9`, Ctrl-C, full disks, damaged files: what is done stays whole, and nothing half done counts.

After a kill, a test first looks at the disk, through `expkit.record`, and only then runs a command again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import command
from helpers import counting, results, scores_and_predictions
from light import LIGHT

from expkit import files, record, snapshot

RUN = f"output/{LIGHT}/light"
CHANGES = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate", "shutil.copyfile")


def look(folder: Path) -> record.RunRecord:
    """A version of a run as a kill has left it: each fold that is done has all its files, whole."""
    run = record.read_run(folder)
    assert run.problems == ()
    for fold in [*run.done.values(), *([run.full] if run.full and run.full.result else [])]:
        assert fold.result is not None
        assert record.ORIGIN in fold.result["files"]
        assert (record.SUBMISSION if fold.number is None else record.OOF) in fold.result["files"]
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


def killed(moment: int, train: Callable[[], object]) -> bool:
    """Run a command in a process that is killed before it changes the disk for the `moment`th time.

    Returns:
        whether it got that far.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons dislike a fork beside xdist's threads
        child = os.fork()
    if child == 0:
        left = moment

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES and not reads:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            train()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def moments(request: pytest.FixtureRequest, train: Callable[[], object], restore: Callable[[], object]) -> list[int]:
    """Moments of a command, evenly spread, others each time: three for each of --kills."""
    known, beyond = 0, 32
    while killed(beyond, train):
        known, beyond = beyond, beyond * 2
        restore()
    restore()
    while beyond - known > 2:
        middle = (known + beyond) // 2
        known, beyond = (middle, beyond) if killed(middle, train) else (known, middle)
        restore()
    step = max(1, known // (3 * int(request.config.getoption("--kills"))))
    return [*range(random.randint(1, step), known + 1, step), known]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes most of the time of a light training and does not matter to a kill."""
    monkeypatch.setattr(snapshot, "take", lambda folder: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


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
        folder = record.counting(root / "output" / LIGHT, "light")
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
        assert list(record.run_folders(root / "output")) == [run.folder]
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

    def note_name(call: Callable[..., None]) -> Callable[..., None]:
        def noted(source: Any, target: Any, **options: Any) -> None:
            assert str(source) in flushed, f"{target} gets its name before its content is on the disk"
            call(source, target, **options)
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
    assert {str(fold / record.OOF), str(fold / record.ORIGIN)} <= flushed_before(fold / record.RESULT)
    assert str(fold) in named[str(fold / record.RESULT)], "the names of the files"
    kept = named[str(new / "fold1")]  # a folder, that gets its name whole
    for name in (record.OOF, record.ORIGIN, record.RESULT):
        assert str(new / ".fold1" / name) in kept
    pointer = new.parent / ".light.version"
    for path in (new, pointer.parent, fold):
        assert str(path) in {*named[str(pointer)], *flushed}, "and of the folders"
    assert str(pointer.parent) in flushed


def _state(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns
