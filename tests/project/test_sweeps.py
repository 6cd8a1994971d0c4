"""Sweeps: presets, the copy of the code that they train with, code and data in different places."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from conftest import Project, call, clone_of
from helpers import counting, exp_json, files, results, start
from light import LIGHT, wait_for

from expkit import store


def test_a_preset_and_a_clean_working_directory(sweeping: Project, tmp_path: Path) -> None:
    """The preset in conf/ is found from any working directory. Without PROJECT_ROOT, results go to the project's
    output/, which git ignores."""
    here = tmp_path / "here"
    here.mkdir()
    preset = sweeping.folder / "conf/hydra/launcher/mine.yaml"
    preset.write_text("defaults:\n- basic\n")
    sweep = ["-m", "hydra/launcher=mine", "exp.train.x=1,2", "exp.fold=[0]"]
    for arguments in (["exp.fold=[0]"], sweep, ["exp.debug=true"]):
        sweeping.train(*arguments, cwd=here, experiment=LIGHT, WANDB_MODE="disabled")
    preset.unlink()
    assert files(here) == []
    assert list(results(sweeping.folder)) == [0] and results(sweeping.folder, "light,exp.train.x=2")
    shutil.rmtree(sweeping.folder / "control")  # of the light experiment
    assert call("git", "status", "--porcelain", cwd=sweeping.folder).stdout == ""


@pytest.mark.slow
def test_code_here_and_data_there(shared_sweeping: Project, root: Path, tmp_path: Path) -> None:
    """A remote machine: a clone of the code, and PROJECT_ROOT on a volume with the data; results are brought back."""
    code = clone_of(shared_sweeping.folder, tmp_path / "remote")
    environment = shared_sweeping.environment(
        PROJECT_ROOT=str(root), EXPKIT_ROOT=str(code), PYTHONPATH=str(code / "src"), WANDB_MODE="offline"
    )
    train = code / "experiments" / LIGHT / "train.py"
    call(shared_sweeping.python, train, "exp.fold=[0,1]", cwd=tmp_path, env=environment)
    call(shared_sweeping.python, train, "-m", "exp.fold=[2],[3]", "hydra/launcher=local", cwd=tmp_path, env=environment)
    written = call("git", "status", "--porcelain", "--ignored", cwd=code).stdout.splitlines()
    assert all(line.endswith("__pycache__/") for line in written)
    made = {path.name for path in (root / "output").iterdir() if not path.name.startswith(".")}
    assert made == {LIGHT, "multirun", "wandb"} and len(list(root.glob("output/wandb/offline-run-*"))) == 4
    assert len(results(root)) == 4
    shutil.copytree(root / "output", tmp_path / "here/output", copy_function=shutil.copyfile)  # with other times
    assert store.read_run(counting(tmp_path / "here")).score_of() == store.read_run(counting(root)).score_of()


# `exp clean` meanwhile


def test_a_training_in_another_terminal_is_not_harmed(sweeping: Project, root: Path) -> None:
    (root / "control/gate0").touch()
    process = start(sweeping, root, "exp.fold=[0]")
    wait_for((root / "control/came0").exists, process)
    assert exp_json("clean", "--yes") == []
    (root / "control/gate0").unlink()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "quality 10.0000" in printed
    assert list(results(root)) == [0]


def copies(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "output/multirun/.code").glob("[!.]*"))


@pytest.mark.parametrize(("launcher", "stays"), [("basic", False), ("submitit_local", True)])
def test_the_copy_of_a_sweep(sweeping: Project, root: Path, launcher: str, stays: bool) -> None:
    """Kept while it runs; and after an interruption, when jobs may wait for submitit, or nobody can tell."""
    (root / "control/gate0").touch()
    process = start(sweeping, root, "-m", f"hydra/launcher={launcher}", "exp.seed=1,2", "exp.fold=[0]")
    wait_for((root / "control/came0").exists, process)
    assert len(copies(root)) == 1
    process.send_signal(signal.SIGINT)
    process.wait()
    (root / "control/gate0").unlink()
    assert len(copies(root)) == stays
