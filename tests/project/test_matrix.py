"""Every framework with few folds, one with many: a project that is updated, in order, trains, and says `identical`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ANSWERS, EXP, Project, call, commit_all, copier, data_arguments
from updates import append, files_of, release, unmerged

from expkit.board import read_board

pytestmark = pytest.mark.slow

PROJECTS = {"sklearn": "project", "torch": "network", "lightgbm": "boosting"}
FAST = {"sklearn": ["exp=001"], "torch": ["exp=001", "exp.train.epoch=1"], "lightgbm": ["exp=001"]}
YOURS = ("experiments", "input", "output", "notebooks", "src/digits_co_experiments")


@pytest.mark.parametrize(  # 5 folds: test_render.py, test_torch.py, test_lightgbm.py
    ("framework", "n_folds"), [*((framework, 2) for framework in PROJECTS), ("sklearn", 10)]
)
def test_an_updated_project_is_in_order_and_trains(
    request: pytest.FixtureRequest, template_repository: Path, tmp_path: Path, root: Path, framework: str, n_folds: int
) -> None:
    theirs: Project = request.getfixturevalue(PROJECTS[framework])
    template, folder = tmp_path / "template", tmp_path / "project"
    call("git", "clone", "-q", template_repository, template, cwd=tmp_path)
    answers = data_arguments(ANSWERS | {"framework": framework, "n_folds": n_folds})
    copier("copy", "-q", "--defaults", *answers, template, folder, cwd=tmp_path)
    commit_all(folder)
    before = files_of(folder, *YOURS)
    append(template / "template", "README.md.jinja", "conf/README.md", line="# of v0.2.0")
    release(template, "v0.2.0")
    copier("update", "-q", "--defaults", cwd=folder)
    assert not unmerged(folder) and files_of(folder, *YOURS) == before
    assert (folder / "conf/README.md").read_text().endswith("# of v0.2.0\n")
    assert f"n_folds: '{n_folds}'" in (folder / ".copier-answers.yml").read_text()
    if n_folds == 2:  # no line of code depends on it
        is_in_order(theirs, folder, framework)
    environment = theirs.environment(EXPKIT_ROOT=str(folder), PYTHONPATH=str(folder / "src"))
    tests = call(theirs.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, env=environment)
    assert "5 passed" in tests.stdout
    trains(theirs, folder, root, framework, n_folds)


def is_in_order(theirs: Project, folder: Path, framework: str) -> None:
    """Formatted, lint-clean, typed. Their environment, this folder's expkit."""
    environment = theirs.environment(EXPKIT_ROOT=str(folder), PYTHONPATH=str(folder / "src"))
    for arguments in (["check"], ["format", "--check"]):
        call("ruff", *arguments, "--no-cache", cwd=folder)
    types = ["--strict", "--allow-untyped-defs", "--ignore-missing-imports", "--disable-error-code=import-untyped"]
    if framework == "torch":
        types += ["--disable-error-code=no-any-return", "--disable-error-code=no-untyped-call"]  # so PyTorch is typed
    types += ["--follow-imports=silent", "--cache-dir", str(theirs.home / "mypy"), "--python-executable"]
    mypy = [Path(sys.executable).with_name("mypy"), *types, theirs.python, "train.py", "model.py"]
    call(*mypy, cwd=folder / "experiments/001-baseline", env=environment)


def trains(theirs: Project, folder: Path, root: Path, framework: str, n_folds: int) -> None:
    """All folds, complete and without a mark; two of them again, with the same bytes."""
    here = {
        "EXPKIT_ROOT": str(folder),
        "PYTHONPATH": str(folder / "src"),
        "PROJECT_ROOT": str(root),
        "WANDB_MODE": "disabled",
    }
    train = [theirs.python, "experiments/001-baseline/train.py", *FAST[framework]]
    call(*train, "exp.fold=null", cwd=folder, env=theirs.environment(**here))
    call(*train, "exp.fold=[0,1]", "exp.name=two", cwd=folder, env=theirs.environment(**here))
    rows = {row.name.partition(",")[0]: row for row in read_board()}
    two = rows.pop("two")
    [row] = rows.values()
    assert (len(row.done), row.n_folds, row.marks) == (n_folds, n_folds, ())
    again = [theirs.python, *EXP, "reproduce", two.folder.name]
    assert call(*again, cwd=folder, env=theirs.environment(**here)).stdout == "identical\n"
