"""Every parameter set of every experiment composes, and every experiment runs through; new ones are found."""

import json
import os
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
    command = [sys.executable, folder / "train.py", "exp.debug=true", f"exp.mode={mode}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"WANDB_MODE": "disabled"})
    assert done.returncode == 0, done.stdout + done.stderr

    exp = expkit.load_config(folder.name, overrides=["exp.debug=true"]).exp
    run = expkit.output_dir() / "debug" / folder.name / exp.name
    result = json.loads((run / ("full" if mode == "sub" else f"fold{exp.fold[0]}") / "result.json").read_text())
    if mode == "sub":
        assert (run / "full" / "submission.csv").stat().st_size > 0
        assert result["score"] is None
    else:
        assert json.loads((run / "cv.json").read_text())["folds_done"] == 1
        assert isinstance(result["score"], float)
