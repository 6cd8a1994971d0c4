"""A time limit for each training of a fold: one that is too slow, and one that hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import Command
from experiments import own_experiment
from helpers import counting, exp_json, results
from light import LIGHT, train_py

import expkit
from expkit import errors, store
from expkit.errors import Error, Failed

OVER = (
    "took longer than exp.time_limit=3s: raise the limit; the same command goes on from the fold's last checkpoint, if "
)
OVER += "it has one"
RUN = "light,exp.n_folds=3"

# control/<fold>-<epoch> says what this epoch does before it ends.
TRAIN = train_py(
    "x: float = 0.0",
    """
import itertools
import time
from types import SimpleNamespace


def epochs(oof):
    return oof["prediction"].mean()


def waits():
    try:
        time.sleep(1000)
    except Exception:
        waits()  # an interruption that a training may catch is none


def hangs():
    sum(itertools.repeat(0))  # C code with the lock of the interpreter: no other thread runs


def train(exp, fold):
    state = SimpleNamespace(done=0)
    for epoch in fold.epochs(3, state=state, every=0):
        what = expkit.project_root() / f"control/{fold.name}-{epoch}"
        if what.exists():
            {"waits": waits, "hangs": hangs}[what.read_text()]()
        state.done += 1
    fold.save_oof({"id": [fold.number], "prediction": [float(state.done)]})
""",
    "metric=epochs, greater_is_better=True, own_split=True",
)


@pytest.fixture
def experiment() -> Iterator[str]:
    with own_experiment({"train.py": TRAIN}) as folder:
        yield folder.name


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("0.5 s", 0.5)])
def test_a_time(text: str, seconds: float) -> None:
    assert errors.seconds_of(text, "exp.time_limit") == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "10 min", "", "1h30m", "0m"])
def test_no_time_is_refused(text: str, root: Path) -> None:
    with pytest.raises(Error, match="exp.time_limit must be a time such as 90s, 10m or 1.5h, not"):
        expkit.run(LIGHT, overrides=[f"exp.time_limit='{text}'"])
    assert not list(root.glob("output/*"))


def test_a_fold_that_is_too_slow_ends_and_the_others_go_on(
    quick: Path, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the training catches every Exception. The same command goes on from the checkpoint."""
    overrides = ["exp.n_folds=3", "exp.time_limit=3s"]
    (quick / "control/fold1-2").write_text("waits")
    with pytest.raises(Failed, match="^failed: fold 1; the same command trains what is missing$"):
        expkit.run(experiment, overrides=overrides)
    assert capsys.readouterr().err.endswith(f"error: fold 1 {OVER}\n")
    version = counting(quick, RUN, experiment)
    assert (version / "fold1" / store.FAILED).read_text() == f"fold 1 {OVER}\n"
    assert "in waits" in (version / "fold1" / store.LOG).read_text(), "the log says where it was"
    assert {*results(quick, RUN, experiment)} == {0, 2}
    (quick / "control/fold1-2").unlink()
    assert expkit.run(experiment, overrides=["exp.n_folds=3", "exp.time_limit=20m"]) == 3, "another limit, the same run"
    assert "fold 1 goes on after" in capsys.readouterr().out
    assert exp_json("board", "--all")[0]["failure"] is None


def test_where_no_fold_has_ended_in_time_none_is_begun(quick: Path, experiment: str, train: Command) -> None:
    """One line, and the exit code of a training that has failed."""
    (quick / "control/fold0-2").write_text("waits")
    done = train("exp.n_folds=3", "exp.time_limit=3s", experiment=experiment)
    assert done.code == 1 and done.err.count("error") == 1
    assert done.err.endswith(f"error: fold 0 {OVER}; no other fold is begun, as none has ended within it\n")
    version = counting(quick, RUN, experiment)
    assert [each.name for each in version.glob("f*[0-9]")] == ["fold0"] and not results(quick, RUN, experiment)
    (quick / "control/fold0-2").unlink()
    done = train("exp.n_folds=3", "exp.time_limit=20m", experiment=experiment)
    assert done.code == 0 and done.out.index("fold 0 goes on after") < done.out.index("fold 0  epochs 3.0000")
    assert done.out.index("fold 0  epochs 3.0000") < done.out.index("fold 1  epochs 3.0000"), "before others begin"


def test_a_limit_in_another_thread_is_refused(quick: Path, experiment: str) -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(Failed, match="exp.time_limit needs the main thread"):
        pool.submit(expkit.run, experiment, overrides=["exp.fold=[0]", "exp.time_limit=9s"]).result()


def test_nothing_is_left_of_a_limit(quick: Path, experiment: str) -> None:
    before = signal.getsignal(signal.SIGALRM)
    expkit.run(experiment, overrides=["exp.time_limit=1h"])
    assert signal.getsignal(signal.SIGALRM) is before
    commands = [each.as_dict(["cmdline"])["cmdline"] or [] for each in psutil.Process().children()]  # [] of a zombie
    assert not [command for command in commands if "_watch" in " ".join(command)]


def test_a_sweep_with_a_limit_says_nothing_of_others(quick: Path, experiment: str) -> None:
    """Each job has a process of its own: no traceback of W&B when it ends, and no line of Hydra's when it fails."""
    (quick / "control/fold2-2").write_text("waits")
    file = f"{os.environ['EXPKIT_ROOT']}/experiments/{experiment}/train.py"
    command = [sys.executable, file, "-m", "exp.n_folds=3", "exp.fold=[0],[2]", "exp.time_limit=3s"]
    done = subprocess.run(command, env={**os.environ, "WANDB_MODE": "offline"}, capture_output=True, text=True)
    failed = "exp.n_folds=3 exp.fold=[2] exp.time_limit=3s"
    said = [line for line in done.stderr.splitlines() if not line.startswith("warning: no snapshot")]
    assert said == [f"error: {failed}: fold 2 {OVER}", f"error: failed: {failed}"], done.stderr


QUICK = """
import runpy, sys
from expkit import errors

errors.GRACE = 0.5
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_fold_that_hangs_is_killed(quick: Path, experiment: str) -> None:
    """The folds that were not reached come first with the same command."""
    (quick / "control/fold0-2").write_text("hangs")
    file = f"{os.environ['EXPKIT_ROOT']}/experiments/{experiment}/train.py"
    command = [sys.executable, "-c", QUICK, file, "exp.n_folds=3", "exp.time_limit=3s"]
    reason = f"fold 0 {OVER}; it did not end when it was told to, and was killed"
    for done in [], [1, 2]:
        killed = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL and killed.stderr.endswith(f"error: {reason}\n"), killed
        assert [*results(quick, RUN, experiment)] == done
        assert (counting(quick, RUN, experiment) / "fold0" / store.FAILED).read_text() == f"{reason}\n"
