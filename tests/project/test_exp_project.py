"""The command `exp`, the board, loaded runs, the notebook, and what the skill says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, call
from helpers import exp, load

import expkit

BASELINE = "001-baseline"
QUICK = "exp.train.epoch=3"
BEST, SECOND, SEED, PART = (
    "001-larger-lr",
    f"002-larger-model,{QUICK}",
    f"002-larger-model,exp.seed=1,{QUICK}",
    f"001-larger-lr,{QUICK}",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PROJECT_ROOT with runs: two parameter sets, two seeds, a partial one, a broken one, a stray folder, debug."""
    root = tmp_path_factory.mktemp("shop")
    (root / "input").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(root))
        patch.setenv("WANDB_MODE", "disabled")
        everything = ["exp.fold=null"]
        for overrides in (
            ["exp=001", *everything],
            ["exp=002", QUICK, *everything],
            ["exp=002", QUICK, "exp.seed=1", *everything],
            ["exp=001", QUICK, "exp.fold=[0,1]"],
            ["exp.debug=true"],
        ):
            expkit.run(BASELINE, overrides=overrides)
        broken = root / f"output/{BASELINE}/broken"
        shutil.copytree(root / f"output/{BASELINE}/{BEST}", broken)
        (broken / "cv.json").write_text("{")
        (broken / "fold1/result.json").write_text("")
        (root / f"output/{BASELINE}/stray").mkdir()
        yield root


def board(*arguments: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(exp("board", "--json", *arguments))
    return content


# The board


# One run, two runs


# New ones, and the check of all


def test_the_installed_command(project: Project, root: Path) -> None:
    """An error is one line on stderr; nothing that a pipe closed early leaves a traceback."""
    environment = project.environment(PROJECT_ROOT=str(root))
    done = call(project.python.with_name("exp"), "show", "x", cwd=project.folder, env=environment, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: there are no runs") and done.stderr.count("\n") == 1


# From Python


RUNS = """
import expkit

board = expkit.runs()
assert board.iloc[0]["run"] == "001-larger-lr" and board["score"].iloc[0] > 0.97
assert board["finished"].dt.tz is not None
assert {"experiment", "score", "std", "seed", "exp.train.learning_rate"} <= set(board.columns)
"""


@pytest.mark.slow
def test_notebook_and_runs(shop: Path, project: Project, tmp_path: Path) -> None:
    """Runs top to bottom, with real runs and with none; it is stored without outputs. The board is a DataFrame."""
    notebook = project.folder / "notebooks/compare.ipynb"
    assert not [cell for cell in load(notebook)["cells"] if cell.get("outputs")]
    execute = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "--log-level=ERROR", str(notebook)]
    environment = project.environment(UV_PROJECT_ENVIRONMENT=str(tmp_path / "environment"), PROJECT_ROOT=str(shop))
    with_notebook = ["uv", "run", "-q", "--group", "notebook"]

    def outputs(root: Path) -> list[dict[str, Any]]:
        printed = call(*with_notebook, *execute, cwd=project.folder, env=environment | {"PROJECT_ROOT": str(root)})
        found = [output for cell in json.loads(printed.stdout)["cells"] for output in cell.get("outputs", [])]
        assert not [output for output in found if output["output_type"] == "error"]
        return found

    assert len([output for output in outputs(shop) if "image/png" in output.get("data", {})]) == 3
    (tmp_path / "empty").mkdir()
    text = "".join("".join(output.get("text", "")) for output in outputs(tmp_path / "empty"))
    assert "No runs yet. Train the baseline first" in text
    call(*with_notebook, "python", "-c", RUNS, cwd=project.folder, env=environment)


# What is told to agents
