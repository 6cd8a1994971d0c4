"""The history of a fold: rows of epochs and of steps in one file, each drawn over its own axis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import command
from conftest import Project, call
from helpers import load

EPOCHS = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.25} for epoch in range(1, 5)]
STEPS = [{"step": step, "loss": 10.0, "rate": 0.5} for step in range(100, 1100, 100)]


@pytest.mark.slow
def test_the_notebook_draws_epochs_apart_from_steps(project: Project, root: Path, tmp_path: Path) -> None:
    """The cells of compare.ipynb that draw learning curves, and what matplotlib has drawn."""
    rows = [*EPOCHS[:2], *STEPS, *EPOCHS[2:]]  # the last column is one of steps
    command("exp.fold=[0]", during=lambda fold: [fold.log(row) for row in rows]).train()
    command("exp.fold=[0]", "exp.name=steps", during=lambda fold: [fold.log(row) for row in STEPS]).train()
    cells = [cell for cell in load(project.folder / "notebooks/compare.ipynb")["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells[:2])
    code += """
import json
lines = [[list(map(float, line.get_xdata())) for line in axis.lines] for axis in axes[0]]
drawn = [[axis.get_xlabel(), axis.get_title(), found] for axis, found in zip(axes[0], lines)]
print(json.dumps(drawn))
"""
    variables = {
        "UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment"),
        "MPLBACKEND": "agg",
        "PROJECT_ROOT": str(root),
    }
    python = ["uv", "run", "-q", "--group", "notebook", "python", "-c", code]
    printed = call(*python, cwd=project.folder, env=project.environment(**variables)).stdout
    lines = [[1.0, 2.0, 3.0, 4.0]] * 2  # the fold, and the mean of all
    assert json.loads(printed.splitlines()[-1]) == [["epoch", "loss", lines], ["epoch", "accuracy", lines]]
