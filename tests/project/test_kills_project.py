"""`kill -9`, Ctrl-C, full disks, damaged files: what is done stays whole, and nothing half done counts.

After a kill, a test first looks at the disk, through `expkit.store`, and only then runs a command again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from commands import command
from conftest import Project, background, call
from helpers import STOPPED, counting, results, scores_and_predictions, start
from light import LIGHT, wait_for

from expkit import store
from expkit.errors import AGAIN

RUN = f"output/{LIGHT}/light"


@pytest.mark.slow
def test_kill_the_baseline_at_any_moment(project: Project, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A real training, a real command: it ends with the bytes of one that was never interrupted."""
    arguments = ["exp.fold=[0,1,2]", "exp.train.epochs=20"]
    name = "baseline,exp.train.epochs=20"
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
            run = store.read_run(root / "output/001-baseline" / name)
            assert not (root / "output/001-baseline").exists() or run.problems in ((), ("cannot be read",))
            assert scores_and_predictions(run.folder).items() <= expected.items()
        project.train(*arguments, root=root, WANDB_MODE="disabled")
        assert scores_and_predictions(counting(root, name, "001-baseline")) == expected


# Interrupted, failed, out of space


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
    arguments = ["exp.fold=[0,1,2,3,4]", "exp.train.hidden=128", "exp.train.epochs=2"]
    name = "baseline,exp.train.epochs=2,exp.train.hidden=128"
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


@pytest.mark.parametrize(("how", "again"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_ctrl_c_and_signals(shared_sweeping: Project, root: Path, how: signal.Signals, again: bool) -> None:
    """One line with what goes on, the fold says that it was stopped, and nothing half-written counts as a result."""
    if again:
        command("exp.fold=[0,1]").train()
        (root / "control/came1").unlink()
    (root / "control/gate1").touch()
    process = start(shared_sweeping, root, "exp.fold=[0,1]", *["overwrite=true"] * again)
    wait_for(lambda: (root / "control/came1").exists(), process)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    code, reason = STOPPED[how]
    typed_in = f"uv run python experiments/{LIGHT}/train.py 'exp.fold=[0,1]'{' overwrite=true' * again}"
    assert (process.returncode, errors) == (code, f"{reason} in fold 1 of {LIGHT}/light: {AGAIN}: {typed_in}\n")
    assert counting(root) == root / RUN
    stopped = store.read_run(root / (f"{RUN}@2" if again else RUN))
    log = (stopped.folds[1].folder / store.LOG).read_text()
    assert stopped.folds[1].failure == reason
    assert ("KeyboardInterrupt" if how is signal.SIGINT else "Terminated") in log
    assert list(results(root)) == ([0, 1] if again else [0])


@pytest.mark.parametrize("ignored", [False, True], ids=["", "nohup"])
def test_a_closed_terminal(shared_sweeping: Project, root: Path, ignored: bool) -> None:
    """What is printed then goes nowhere and is no error; with nohup, the training goes on."""
    (root / "control/gate1").touch()
    terminal, own = os.openpty()
    steps = "import fcntl, os, signal, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    steps += f"signal.signal(signal.SIGHUP, signal.SIG_{'IGN' if ignored else 'DFL'}); "  # whatever started pytest
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
    assert process.wait(60) == (0 if ignored else 129)
    assert store.read_run(counting(root)).folds[1].failure == ("" if ignored else "stopped by SIGHUP")


@pytest.mark.slow
def test_ctrl_c_stops_scikit_learn(project: Project, tmp_path: Path) -> None:
    """It answers with a warning, of its own accord, and would go on."""
    process = start(project, tmp_path, "exp.train.epochs=5000", experiment="001-baseline")
    wait_for(lambda: list(tmp_path.glob("output/*/*/fold0/history.csv")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, len(errors.splitlines())) == (130, 1), errors
    assert not list(tmp_path.rglob("result.json"))


# Two terminals


def test_two_processes_share_the_folds(shared_sweeping: Project, root: Path) -> None:
    """Each fold is trained by exactly one; the other takes what is free."""
    (root / "control/together").write_text("2")  # each stays in its first fold until the other has come
    both = [start(shared_sweeping, root, "exp.fold=[0,1,2]") for _ in range(2)]
    printed = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    for fold in range(3):
        assert sum(f"fold {fold}  quality" in out for out, _ in printed) == 1
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
