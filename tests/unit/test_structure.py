"""The house of DESIGN.md: what may import what, and what a training needs before its first line."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, call
from experiments import own_experiment
from helpers import environment_of
from light import LIGHT, TRAIN

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
    notes noise compare board lineage frames show page clean reproduction
    bundle
    kaggle
    study launch
    tries
    cli
    torch
""".strip().splitlines()
LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}

WRITERS = {"runner", "fold", "rundir", "progress", "tracking", "distributed", "launch", "study", "clean", "new"}
# Large packages: who alone imports them. A checkpoint holds the state of PyTorch's random generators.
LEAVES = {"wandb": {"tracking"}, "optuna": {"study"}, "torch": {"torch", "distributed", "progress"}}
NEVER = dict.fromkeys(["store", "board", "show", "compare", "noise", "page", "frames"], WRITERS)  # they read
NEVER["fold"] = {"snapshot", "code"}  # it knows no git


@functools.cache
def modules() -> dict[str, list[Path]]:
    """The files of each module or package."""
    found: dict[str, list[Path]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).with_suffix("").parts[0]
        if name not in ("__init__", "baselines"):
            found.setdefault(name, []).append(file)
    return found


@functools.cache
def imports(name: str) -> set[str]:
    """The full name of every module that one imports anywhere, but for what only a type checker reads."""
    found: set[str] = set()
    for file in modules()[name]:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_by(name: str) -> set[str]:
    """The modules of expkit that one imports, by the first part of their names."""
    parts = [full.split(".") for full in imports(name)]
    return {part[1] for part in parts if part[0] == "expkit"} - {name}


def test_the_house_is_within_its_budget() -> None:
    """`.ci/size` says by how much, and what is left."""
    assert call(ROOT / ".ci/size", "--quiet", cwd=ROOT).stdout.count(" left") == 3


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_what_is_below_it(name: str) -> None:
    """And what reads imports nothing that writes; a large package is imported in its own modules."""
    assert name in LAYER, "every module has its place"
    found = imported_by(name) & LAYER.keys()
    assert not {other for other in found if LAYER[other] > LAYER[name]}
    assert not found & NEVER.get(name, set())
    large = {full.split(".")[0] for full in imports(name)} & LEAVES.keys()
    assert all(name in LEAVES[package] for package in large)


def test_pytorch_is_optional() -> None:
    """Nothing of expkit needs `expkit.torch`, which can be used without the rest."""
    assert imported_by("torch") == {"errors"}
    assert not [name for name in modules() if "torch" in imported_by(name)]


def test_what_a_training_needs_before_its_first_line(root: Path) -> None:
    shown = 'import sys; print(*sys.modules, sep="\\n")'
    train = TRAIN.replace("\n    import model\n", f"\n    {shown}\n    import model\n")
    with own_experiment({"train.py": train}, copy_of=LIGHT) as folder:
        environment = environment_of(expkit.code_root(), PROJECT_ROOT=str(root))
        done = call(sys.executable, folder / "train.py", "exp.fold=[0]", cwd=root, env=environment)
    found = set(re.findall(r"^expkit\.(\w+)", done.stdout, flags=re.M)) - {"experiments"}
    assert 5 < len(found) <= 15 and "tracking" not in found, sorted(found)
