"""What several test files read from the disk, and how they start a training in the background."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from conftest import Project, background
from light import LIGHT

from expkit import store

HEAVY = ("wandb", "numpy", "sklearn", "scipy", "torch", "rich", "pandas", "joblib")


def load(file: Path) -> dict[str, Any]:
    """A JSON file."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def counting(root: Path, run: str = "light", experiment: str = LIGHT) -> Path:
    """The folder of the version of a run that counts."""
    folder = store.current(root / "output" / experiment, run)
    assert folder is not None, f"there is no run {run} in {root}/output/{experiment}"
    return folder


def results(root: Path, run: str = "light", experiment: str = LIGHT) -> dict[int, dict[str, Any]]:
    """The result.json of each fold that is done, in the version that counts; {} while there is no run."""
    folder = store.current(root / "output" / experiment, run)
    done = store.read_run(folder).done if folder is not None else {}
    return {number: fold.result for number, fold in done.items() if fold.result is not None}


def scores_and_predictions(folder: Path) -> dict[int, tuple[dict[str, float], bytes]]:
    """The scores of each fold that is done in a version of a run, and the bytes of its predictions."""
    done = store.read_run(folder).done
    return {
        number: (fold.result["scores"], (fold.folder / store.OOF).read_bytes())
        for number, fold in done.items()
        if fold.result is not None
    }


def imported(profile: str) -> set[str]:
    """The top-level packages in what Python writes with PYTHONPROFILEIMPORTTIME."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in profile.splitlines()}


def start(
    project: Project,
    root: Path,
    *arguments: str,
    experiment: str = LIGHT,
    stdout: int = subprocess.PIPE,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start a train.py in the background, from the project's root, without W&B unless `variables` say so."""
    command = [f"experiments/{experiment}/train.py", *arguments]
    environment = project.environment(**{"PROJECT_ROOT": str(root), "WANDB_MODE": "disabled"} | variables)
    options = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    return background(project.python, *command, cwd=project.folder, env=environment, **options)
