"""The other frameworks with few folds: a project is in order, trains, and says `identical`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ANSWERS, EXP, Project, call, commit_all
from copier import run_copy

from expkit.board import read_board

pytestmark = pytest.mark.slow

PROJECTS = {"torch": "network", "lightgbm": "boosting"}
TYPES = [
    "--strict",
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--ignore-missing-imports",
    "--disable-error-code=import-untyped",
]
UNTYPED_TORCH = ["--disable-error-code=no-any-return", "--disable-error-code=no-untyped-call"]


@pytest.mark.parametrize("framework", PROJECTS)
def test_a_project_is_in_order_and_trains(
    request: pytest.FixtureRequest, template_repository: Path, tmp_path: Path, root: Path, framework: str
) -> None:
    """Formatted, lint-clean, typed, tested; all folds without a mark, and two of them again with the same bytes."""
    theirs: Project = request.getfixturevalue(PROJECTS[framework])
    folder = tmp_path / "project"
    answers = ANSWERS | {"framework": framework, "n_folds": "2"}
    run_copy(str(template_repository), folder, data=answers, quiet=True)
    commit_all(folder)
    for arguments in (["check"], ["format", "--check"]):
        call("ruff", *arguments, "--no-cache", cwd=folder)
    mypy = [Path(sys.executable).with_name("mypy"), *TYPES, *(UNTYPED_TORCH if framework == "torch" else [])]
    mypy += ["--follow-imports=silent", "--cache-dir", theirs.home / "mypy", "--python-executable", theirs.python]
    # Their environment, this folder's experiments.
    here = {"EXPKIT_ROOT": str(folder), "PYTHONPATH": str(folder / "src"), "PROJECT_ROOT": str(root)}
    environment = theirs.environment(WANDB_MODE="disabled", **here)
    call(*mypy, "train.py", "model.py", cwd=folder / "experiments/001-baseline", env=environment)
    tests = call(theirs.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, env=environment)
    assert "5 passed" in tests.stdout

    train = [theirs.python, "experiments/001-baseline/train.py", "exp=001"]
    train += ["exp.train.epochs=1"] if framework == "torch" else []
    call(*train, "exp.fold=null", cwd=folder, env=environment)
    [run] = read_board()
    assert (len(run.done), run.n_folds, run.marks) == (2, 2, ())
    again = [theirs.python, *EXP, "reproduce", run.folder.name]
    assert call(*again, cwd=folder, env=environment).stdout == "identical\n"
