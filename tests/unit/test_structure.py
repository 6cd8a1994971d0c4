"""The house of DESIGN.md: what may import what, and what a training needs before its first line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from experiments import own_experiment
from helpers import environment_of
from light import CONFIG

import expkit

SOURCE = ROOT / "expkit/src/expkit"

# From the ground up. A module imports from its own line and from those above it, also inside a function.
LAYERS = """
    errors files project tables
    store
    code fingerprint
    config compose schema new
    scores progress snapshot data submission
    rundir distributed tracking fold runner
    ensemble
    notes noise compare board frames show page clean reproduction
    study launch
    cli
""".strip().splitlines()
LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}

READERS = ("store", "board", "show", "compare", "noise", "page", "frames")
WRITERS = ("runner", "fold", "rundir", "progress", "tracking", "distributed", "launch", "study", "clean", "new")
LEAVES = {"wandb": {"tracking"}, "torch": {"distributed"}, "optuna": {"study"}}


def modules() -> dict[str, list[Path]]:
    """The files of each module or package."""
    found: dict[str, list[Path]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).with_suffix("").parts[0]
        if name not in ("__init__", "baselines"):
            found.setdefault(name, []).append(file)
    return found


def imports(file: Path) -> Iterator[str]:
    """The full name of every module that a file imports anywhere, but for what only a type checker reads."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "expkit":
            yield from (f"expkit.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def imported_by(name: str) -> set[str]:
    """The modules of expkit that one imports, by the first part of their names."""
    parts = [full.split(".") for file in modules()[name] for full in imports(file)]
    return {part[1] for part in parts if part[0] == "expkit" and len(part) > 1} - {name}


def test_the_house_is_within_its_budget() -> None:
    """`.ci/size` says by how much, and what is left."""
    done = subprocess.run([ROOT / ".ci/size", "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" left") == 3


def test_every_module_has_its_place() -> None:
    assert set(modules()) == set(LAYER)


@pytest.mark.parametrize("name", LAYER)
def test_a_module_imports_what_is_below_it(name: str) -> None:
    above = {other for other in imported_by(name) if LAYER.get(other, 0) > LAYER[name]}
    assert not above


@pytest.mark.parametrize("name", READERS)
def test_what_reads_imports_nothing_that_writes(name: str) -> None:
    assert not imported_by(name) & set(WRITERS)


def test_a_fold_knows_no_git() -> None:
    assert not imported_by("fold") & {"snapshot", "code"}


@pytest.mark.parametrize("package", LEAVES)
def test_a_large_package_is_imported_in_its_own_module(package: str) -> None:
    users = {
        name
        for name, files in modules().items()
        for file in files
        for full in imports(file)
        if full.split(".")[0] == package
    }
    assert users <= LEAVES[package]


FIRST_LINE = """
import sys
from dataclasses import dataclass

import expkit


def score(oof):
    return 1.0


def train(exp, fold):
    print(*sorted(name for name in sys.modules if name.startswith("expkit.")), sep="\\n", file=sys.stderr)
    fold.save_oof({"id": [fold.number]})
    fold.finish()


experiment = expkit.Experiment(train, expkit.Config, metric=score, greater_is_better=True, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""


def test_what_a_training_needs_before_its_first_line(root: Path) -> None:
    with own_experiment({"train.py": FIRST_LINE, "config.yaml": CONFIG}) as folder:
        command = [sys.executable, str(folder / "train.py"), "exp.fold=[0]"]
        environment = environment_of(expkit.code_root(), PROJECT_ROOT=str(root))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("expkit.")]
    found = {line.split(".")[1] for line in lines} - {"experiments"}
    assert 5 < len(found) <= 15, sorted(found)
