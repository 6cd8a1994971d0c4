"""Sweeps over parameters, and code and data in different places."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, Project, call
from helpers import counting, results
from light import LIGHT

from expkit import store


def test_a_folder_that_hydra_cannot_sweep_in_is_said_in_one_line(shared_sweeping: Project, tmp_path: Path) -> None:
    root = tmp_path / "${x}"
    root.mkdir()
    done = shared_sweeping.train("-m", "exp.seed=1,2", experiment=LIGHT, root=root, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: Hydra cannot sweep in a folder that has ${{ in its path: {root}/output"
    shared_sweeping.train("exp.debug=true", "exp.fold=[0]", experiment=LIGHT, root=root)
    assert (root / f"output/debug/{LIGHT}/light/fold0/result.json").is_file()


@pytest.mark.slow
def test_code_here_and_data_there(shared_sweeping: Project, root: Path, tmp_path: Path) -> None:
    """A remote machine: a clone of the code, and PROJECT_ROOT on a volume with the data; results are brought back."""
    code = tmp_path / "remote"
    call("git", "clone", "-q", shared_sweeping.folder, code, cwd=tmp_path)
    environment = shared_sweeping.environment(
        PROJECT_ROOT=str(root), EXPKIT_ROOT=str(code), PYTHONPATH=str(code / "src"), WANDB_MODE="offline"
    )
    train = code / "experiments" / LIGHT / "train.py"
    call(shared_sweeping.python, train, "exp.fold=[0,1]", cwd=tmp_path, env=environment)
    call(shared_sweeping.python, train, "-m", "exp.fold=[2],[3]", "hydra/launcher=local", cwd=tmp_path, env=environment)
    baseline = code / "experiments/001-baseline/train.py"
    call(shared_sweeping.python, baseline, "exp.train.epoch=2", cwd=tmp_path, env=environment)
    written = call("git", "status", "--porcelain", "--ignored", cwd=code).stdout.splitlines()
    assert all(line.endswith("__pycache__/") for line in written)
    made = {path.name for path in (root / "output").iterdir() if not path.name.startswith(".")}
    assert made == {LIGHT, "001-baseline", "multirun", "wandb"}
    assert len(results(root)) == 4
    assert len(list(root.glob("output/wandb/offline-run-*"))) == 5

    here = tmp_path / "here"
    here.mkdir()
    call("cp", "-r", f"{root}/output", here, cwd=tmp_path)  # the times of the files are others
    assert store.read_run(counting(here)).score_of() == store.read_run(counting(root)).score_of()
    synced = sorted(here.glob("output/wandb/offline-run-*"))[-1]
    shown = call(
        shared_sweeping.folder / ".venv/bin/wandb", "leet", "inspect", "--summary", synced, cwd=ROOT, env=environment
    )
    assert "accuracy" in shown.stdout + shown.stderr
