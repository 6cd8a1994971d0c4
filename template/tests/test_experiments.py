"""Every parameter set of every experiment composes, and every experiment runs through; new ones are found."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import expkit

EXPERIMENTS = sorted(file.parent for file in (expkit.code_root() / "experiments").glob("*/train.py"))
PARAMETER_SETS = [
    pytest.param(folder.name, name, id=f"{folder.name}/{name}")
    for folder in EXPERIMENTS
    for name in ["default", *sorted(file.stem for file in folder.glob("exp/*.yaml"))]
]


@pytest.mark.parametrize(("experiment", "name"), PARAMETER_SETS)
def test_parameter_set_composes(experiment: str, name: str) -> None:
    config = expkit.load_config(experiment, overrides=[f"exp={name}"])
    assert config.exp.fold, "at least one fold"


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("mode", ["cv", "sub"])
def test_debug_run_leaves_results(folder: Path, mode: str) -> None:
    """Skipped where the data are missing, as in a fresh clone or in CI."""
    command = [sys.executable, folder / "train.py", "exp.debug=true", f"exp.mode={mode}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"WANDB_MODE": "disabled"})
    if missing := missing_data(done.stderr):
        pytest.skip(f"{folder.name} needs data that are not here: {missing}")
    assert done.returncode == 0, done.stdout + done.stderr

    run = Path(done.stdout.splitlines()[-1].removeprefix("results: "))
    fold = expkit.load_config(folder.name, overrides=["exp.debug=true"]).exp.fold[0]
    result = json.loads((run / ("full" if mode == "sub" else f"fold{fold}") / "result.json").read_text())
    assert bool(result["scores"]) is (mode == "cv")


def missing_data(stderr: str) -> str | None:
    """The file of input/ for want of which a training has failed."""
    for line in stderr.splitlines():
        found = re.match(r"FileNotFoundError: .*?(['\"])(?P<path>.+)\1", line)
        if found and Path(found["path"]).resolve().is_relative_to(expkit.input_dir()):
            return found["path"]
    return None
