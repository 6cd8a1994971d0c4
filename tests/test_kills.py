"""`kill -9`, Ctrl-C, full disks, damaged files: what is done stays whole, and nothing half done counts.

After a kill, a test first looks at the disk, through `expkit.record`, and only then runs a command again.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from commands import command
from conftest import Project, background, call
from helpers import counting, results, scores_and_predictions, start
from light import LIGHT, wait_for

import expkit
from expkit import files, record, snapshot
from expkit.errors import AGAIN
from expkit.train.tracking import Tracker

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
    """Moments of a command, evenly spread, others each time: two for each of --kills."""
    known, beyond = 0, 32
    while killed(beyond, train):
        known, beyond = beyond, beyond * 2
        restore()
    restore()
    while beyond - known > 2:
        middle = (known + beyond) // 2
        known, beyond = (middle, beyond) if killed(middle, train) else (known, middle)
        restore()
    step = max(1, known // (2 * int(request.config.getoption("--kills"))))
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
        assert record.marks_of(look(counting(root))) == ("partial",)
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


@pytest.mark.slow
def test_kill_the_baseline_at_any_moment(project: Project, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A real training, a real command: it ends with the bytes of one that was never interrupted."""
    arguments = ["exp.fold=[0,1,2]", "exp.train.epoch=20"]
    name = "baseline,exp.train.epoch=20"
    (tmp_path / "whole").mkdir()
    begin = time.monotonic()
    project.train(*arguments, root=tmp_path / "whole", WANDB_MODE="disabled")
    duration = time.monotonic() - begin
    expected = scores_and_predictions(tmp_path / "whole/output/001-baseline" / name)
    assert len(expected) == 3
    kills = request.config.getoption("--kills")
    while kills > 0:
        root = tmp_path / f"killed{kills}"
        root.mkdir()
        for _ in range(min(3, kills)):
            kills -= 1
            process = start(project, root, *arguments, experiment="001-baseline")
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.3, duration))
            process.kill()
            process.communicate()
            run = record.read_run(root / "output/001-baseline" / name)
            assert not (root / "output/001-baseline").exists() or run.problems in ((), ("cannot be read",))
            assert scores_and_predictions(run.folder).items() <= expected.items()
        project.train(*arguments, root=root, WANDB_MODE="disabled")
        assert scores_and_predictions(counting(root, name, "001-baseline")) == expected


# Interrupted, failed, out of space


def test_a_fold_that_fails_does_not_stop_the_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is reported whole, the command fails, and the same command trains just the missing one."""
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error, match="^failed: fold 1; the same command trains what is missing$"):
        command("exp.fold=[0,1,2]").train()
    shown = capsys.readouterr().err
    assert "ValueError: planted" in shown and "model.py" in shown
    assert list(results(root)) == [0, 2]
    (root / "control/fail1").unlink()
    trained: list[int | None] = []
    command("exp.fold=[0,1,2]", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [1]
    printed = capsys.readouterr().out
    assert "fold 0 is done" in printed and "3/5 folds" in printed


def broken(file: Path, other: Path) -> Iterator[None]:
    """Damage a result in one way after the other."""
    whole = file.read_bytes()
    for content in (
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b"null",
        b"\0\0\0",
        whole[:-20],
        whole.replace(b"10", b"11", 1),
    ):
        file.write_bytes(content)
        yield
    file.write_bytes(other.read_bytes())
    yield
    file.write_bytes(whole)


def test_a_broken_result_counts_as_missing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut off, empty, edited, of another fold: one warning that names it, and the fold is trained again."""
    command("exp.fold=[0,1]").train()
    fold0, fold1 = root / RUN / "fold0", root / RUN / "fold1"
    for _ in broken(fold0 / "result.json", fold1 / "result.json"):
        assert list(results(root)) == [1]
        command("exp.fold=[1]").train()
        capsys.readouterr()
        assert not command("exp.fold=[0]")._done.say(0)
        assert re.fullmatch(r"warning: \S+/fold0: .*fold0.*; it counts as missing\n", capsys.readouterr().err)
    (fold0 / "result.json").write_text("")
    command("exp.fold=[0]").train()
    assert list(results(root)) == [0, 1]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("oof.npz", "cut off"),
        ("oof.npz", "missing"),
        ("oof.npz", "edited"),
        ("oof.npz", "of another fold"),
        ("origin.json", "edited"),
    ],
)
def test_a_fold_whose_files_are_damaged_counts_as_missing(root: Path, name: str, how: str) -> None:
    command("exp.fold=[0,1]").train()
    file = root / RUN / "fold0" / name
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "of another fold":
        shutil.copy(root / RUN / "fold1" / name, file)
    else:
        file.write_bytes(content[:-1] if how == "cut off" else content[:-1] + b"?")
    assert list(results(root)) == [1]
    command("exp.fold=[0,1]").train()
    assert list(results(root)) == [0, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a filesystem")
    if call("mount", "-t", "tmpfs", "-o", "size=1m", "none", folder, cwd=tmp_path, check=False).returncode:
        pytest.skip("this machine does not let root mount a filesystem")
    yield folder
    call("umount", folder, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("wandb_mode", ["disabled", "offline"])
def test_a_full_disk(project: Project, small_disk: Path, wandb_mode: str) -> None:
    """One clear line; what was there is intact; with space, the same command goes on."""
    arguments = ["exp.fold=[0,1,2,3,4]", "exp.train.base_model=large", "exp.train.epoch=2"]
    name = "baseline,exp.train.base_model=large,exp.train.epoch=2"
    done = project.train(*arguments, root=small_disk, check=False, WANDB_MODE=wandb_mode)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in error and str(small_disk) in error
    before = results(small_disk, name, "001-baseline")
    assert len(before) < 5
    run = small_disk / "output/001-baseline" / name
    (run / f"fold{len(before)}/model.joblib").unlink(missing_ok=True)
    shutil.rmtree(small_disk / "output/wandb", ignore_errors=True)
    project.train("exp.fold=[0]", *arguments[1:], root=small_disk, WANDB_MODE="disabled", check=len(before) > 0)
    after = results(small_disk, name, "001-baseline")
    assert before.items() <= after.items() and after


STOPPED = {
    signal.SIGINT: (130, "stopped"),
    signal.SIGTERM: (143, "stopped by SIGTERM"),
    signal.SIGHUP: (129, "stopped by SIGHUP"),
}


@pytest.mark.parametrize("again", [False, True], ids=["a new run", "overwriting"])
@pytest.mark.parametrize("how", STOPPED)
def test_ctrl_c_and_signals(shared_sweeping: Project, root: Path, how: signal.Signals, again: bool) -> None:
    """One line, the fold says that it was stopped, and nothing half-written counts as a result."""
    if again:
        command("exp.fold=[0,1]").train()
        (root / "control/came1").unlink()
    (root / "control/gate1").touch()
    process = start(shared_sweeping, root, "exp.fold=[0,1]", *["overwrite=true"] * again)
    wait_for(lambda: (root / "control/came1").exists(), process)
    process.send_signal(how)
    _, errors = process.communicate(timeout=10)
    code, reason = STOPPED[how]
    assert (process.returncode, errors) == (code, f"{reason}: {AGAIN}\n")
    assert counting(root) == root / RUN
    stopped = record.read_run(root / (f"{RUN}@2" if again else RUN))
    log = (stopped.folds[1].folder / record.LOG).read_text()
    assert stopped.failed == {1: reason}
    assert ("KeyboardInterrupt" if how is signal.SIGINT else "Terminated") in log
    assert list(results(root)) == ([0, 1] if again else [0])


@pytest.mark.parametrize("ignored", [False, True], ids=["", "nohup"])
def test_a_closed_terminal(shared_sweeping: Project, root: Path, ignored: bool) -> None:
    """What is printed then goes nowhere and is no error; with nohup, the training goes on."""
    (root / "control/gate1").touch()
    terminal, own = os.openpty()
    steps = "import fcntl, os, signal, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    steps += "signal.signal(signal.SIGHUP, signal.SIG_IGN); " if ignored else ""
    steps += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    arguments = [shared_sweeping.python, "-c", steps, f"experiments/{LIGHT}/train.py", "exp.fold=[0,1]"]
    environment = shared_sweeping.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled")
    out = subprocess.DEVNULL if ignored else own
    process = background(*arguments, cwd=shared_sweeping.folder, env=environment, stdin=own, stdout=out, stderr=out)
    os.close(own)
    wait_for(lambda: (root / "control/came1").exists(), process)
    os.close(terminal)
    if ignored:
        time.sleep(0.2)
        (root / "control/gate1").unlink()
    assert process.wait(10) == (0 if ignored else 129)
    assert record.read_run(counting(root)).failed == ({} if ignored else {1: "stopped by SIGHUP"})


@pytest.mark.slow
def test_ctrl_c_stops_scikit_learn(project: Project, tmp_path: Path) -> None:
    """It answers with a warning, of its own accord, and would go on."""
    process = start(project, tmp_path, "exp.train.epoch=5000", experiment="001-baseline")
    wait_for(lambda: list(tmp_path.glob("output/*/*/fold0/history.csv")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, len(errors.splitlines())) == (130, 1), errors
    assert not list(tmp_path.rglob("result.json"))


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
    assert (row.failure, row.is_failed) == ("stopped by SIGTERM", True)
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


def test_who_no_longer_reads_has_no_failed_training(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command that is piped into `head`; a pipe of the training's own is another thing."""
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), open(writer, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(BrokenPipeError):
            command("exp.fold=[0]", during=lambda fold: print("an epoch")).train()
    assert not (root / RUN / "fold0" / record.FAILED).exists()

    def own_pipe(fold: expkit.Fold) -> None:
        raise BrokenPipeError("of a process that loads data")

    with pytest.raises(BrokenPipeError):
        command("exp.fold=[0]", during=own_pipe).train()
    assert (root / RUN / "fold0" / record.FAILED).read_text() == "BrokenPipeError: of a process that loads data\n"


# Two terminals


def test_two_processes_share_the_folds(shared_sweeping: Project, root: Path) -> None:
    """Each fold is trained by exactly one; the other says so and takes what is free."""
    (root / "control/together").write_text("2")  # each stays in its first fold until the other has come
    both = [start(shared_sweeping, root, "exp.fold=[0,1,2]") for _ in range(2)]
    printed = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    for fold in range(3):
        assert sum(f"fold {fold}  quality" in out for out, _ in printed) == 1
    assert any("is being trained by another process" in out for out, _ in printed)
    assert all("3/5 folds" in out for out, _ in printed)
    assert len({result["values"]["pid"] for result in results(root).values()}) == 2


def test_the_second_waits_for_the_first_and_trains_for_it_when_it_is_killed(
    shared_sweeping: Project, root: Path
) -> None:
    (root / "control/gate0").touch()
    first = start(shared_sweeping, root, "exp.fold=[0]")
    wait_for(lambda: (root / "control/came0").exists(), first)
    second, third = (start(shared_sweeping, root, "exp.fold=[0]") for _ in range(2))
    for process in (second, third):
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting for fold 0, which another process trains\n"
    first.kill()
    first.communicate()
    (root / "control/gate0").unlink()
    printed = [process.communicate(timeout=60)[0] for process in (second, third)]
    assert sorted("fold 0 is done" in out for out in printed) == [False, True]
    assert results(root)[0]["values"]["pid"] in (second.pid, third.pid)
