"""The notebook compare.ipynb, and expkit in a live kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import command
from conftest import Project, call
from helpers import load

import expkit

pytestmark = pytest.mark.slow

EPOCHS = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.25} for epoch in range(1, 5)]
STEPS = [{"step": step, "loss": 10.0, "rate": 0.5} for step in range(100, 1100, 100)]
DRAWN = """
import json
lines = [[list(map(float, line.get_xdata())) for line in axis.lines] for axis in axes[0]]
drawn = [[axis.get_xlabel(), axis.get_title(), found] for axis, found in zip(axes[0], lines)]
print(json.dumps(drawn))
"""
KERNEL = """
import os
os.environ |= {"WANDB_MODE": "disabled"}
import expkit
from hydra import compose, initialize_config_dir

config = expkit.load_config("001-baseline", overrides=["exp=001", "exp.fold=[0]"])
assert config.exp.train.learning_rate == 3e-3 and config.exp.mode is expkit.Mode.cv
with initialize_config_dir(version_base=None, config_dir=str(expkit.code_root() / "experiments/001-baseline/exp")):
    assert expkit.load_config("001-baseline").exp.name == "baseline" and compose("001").name == "001-larger-lr"
print("CV", expkit.run("001-baseline", overrides=["exp.train.epochs=1"]))
"""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the group notebook, which the first command makes."""
    return {"UV_PROJECT_ENVIRONMENT": str(tmp_path_factory.mktemp("notebook") / "environment")}


def run(project: Project, root: Path, variables: dict[str, str], *words: str | Path) -> str:
    environment = project.environment(PROJECT_ROOT=str(root), **variables)
    return call("uv", "run", "-q", "--group", "notebook", *words, cwd=project.folder, env=environment).stdout


def outputs(project: Project, root: Path, variables: dict[str, str], notebook: Path) -> list[dict[str, Any]]:
    """What the cells of a notebook show; none fails."""
    execute = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "--log-level=ERROR", notebook]
    cells = json.loads(run(project, root, variables, *execute))["cells"]
    found = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in found if output["output_type"] == "error"]
    return found


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join("".join(output.get("text", "")) for output in found)


def test_notebook_and_runs(project: Project, root: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """Runs top to bottom, with real runs and with none; it is stored without outputs. The board is a DataFrame."""
    notebook = project.folder / "notebooks/compare.ipynb"
    assert not [cell for cell in load(notebook)["cells"] if cell.get("outputs")]
    for overrides in (["exp=001"], ["exp=002"], ["exp=002", "exp.seed=1"]):
        expkit.run("001-baseline", overrides=[*overrides, "exp.train.epochs=10", "exp.fold=null"])
    found = outputs(project, root, variables, notebook)
    assert len([output for output in found if "image/png" in output.get("data", {})]) == 3
    board = expkit.runs()
    assert len(board) == 3 and board["score"].is_monotonic_decreasing and board["score"].iloc[0] > 0.8
    assert board["finished"].dt.tz is not None
    assert {"experiment", "score", "std", "seed", "exp.train.learning_rate"} <= set(board.columns)
    (tmp_path / "empty").mkdir()
    assert "No runs yet. Train the baseline first" in text_of(outputs(project, tmp_path / "empty", variables, notebook))


def test_the_notebook_draws_epochs_apart_from_steps(project: Project, root: Path, variables: dict[str, str]) -> None:
    """The cells that draw learning curves, and what matplotlib has drawn."""
    logged = [*EPOCHS[:2], *STEPS, *EPOCHS[2:]]  # the last column is one of steps
    command("exp.fold=[0]", during=lambda fold: [fold.log(**row) for row in logged]).train()
    command("exp.fold=[0]", "exp.name=steps", during=lambda fold: [fold.log(**row) for row in STEPS]).train()
    cells = [cell for cell in load(project.folder / "notebooks/compare.ipynb")["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells[:2]]
    code = "\n".join(["import matplotlib; matplotlib.use('agg')", *sources, DRAWN])
    lines = [[1.0, 2.0, 3.0, 4.0]] * 2  # the fold, and the mean of all
    drawn = json.loads(run(project, root, variables, "python", "-c", code).splitlines()[-1])
    assert drawn == [["epoch", "loss", lines], ["epoch", "accuracy", lines]]


def test_in_a_live_kernel(project: Project, root: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """A cell run twice, beside Hydra's own functions; a run trained in it is the run of the command line."""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": KERNEL}
    content = {"cells": [cell | {"id": id} for id in "ab"], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = project.folder / "output" / "test.ipynb"  # git ignores it there
    notebook.write_text(json.dumps(content))
    text = text_of(outputs(project, root, variables, notebook))
    notebook.unlink()
    assert text.count("CV 0.") == 2 and text.count("fold 0 is done") == 1
