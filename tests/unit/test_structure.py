"""The house in docs/how-it-works.md: what may import what, and what a training needs before its first line."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, call
from experiments import own_experiment
from helpers import environment_of
from light import LIGHT, TRAIN

import expkit

SOURCE = ROOT / "expkit/src/expkit"

HOUSE = re.findall(r'^  \w+\["([\w, ]+)<br>.*"\](:2)?$', (ROOT / "docs/how-it-works.md").read_text(), flags=re.M)


def rooms() -> Iterator[tuple[int, str, set[str]]]:
    """Each room of the picture, from the roof down: its floor, its wing, "" for both, and the modules in it."""
    floor, wing = 0, ""
    for names, spans in HOUSE:
        wing = "" if spans else "right" if wing == "left" else "left"
        floor -= wing != "right"
        yield floor, wing, set(names.split(", "))


FLOOR = {name: floor for floor, _, names in rooms() for name in names} | {"torch": 0}
ROOM = {name: names for _, _, names in rooms() for name in names} | {"torch": {"torch"}}
LEFT, RIGHT = ({name for _, wing, names in rooms() for name in names if wing == side} for side in ("left", "right"))

WRITERS = {"runner", "fold", "rundir", "checkpoint", "tracking", "distributed", "launch", "study", "clean", "new"}
# Large packages: who alone imports them. A checkpoint holds the state of PyTorch's random generators.
LEAVES = {"wandb": {"tracking"}, "optuna": {"study"}, "torch": {"torch", "distributed", "checkpoint"}}
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


def test_the_picture_has_every_module_and_no_other() -> None:
    assert sorted(ROOM) == sorted(modules()) and len(HOUSE) == len({*map(id, ROOM.values())}) - 1
    assert len(LEFT) > 5 and len(RIGHT) > 5


def test_the_page_names_files_that_are_there() -> None:
    named = re.findall(r"`(?:\w+/)*(\w+\.py)`", (ROOT / "docs/how-it-works.md").read_text())
    there = {file.name for folder in ("expkit/src", "tests") for file in (ROOT / folder).rglob("*.py")}
    assert set(named) <= there and len(named) > 20


def test_the_house_is_within_its_budget() -> None:
    """`.ci/size` says by how much, and what is left."""
    assert call(ROOT / ".ci/size", "--quiet", cwd=ROOT).stdout.count(" left") == 3


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_what_is_below_it(name: str) -> None:
    """And what reads imports nothing that writes; a large package is imported in its own modules."""
    assert name in ROOM, "every module has its place in docs/how-it-works.md"
    found = imported_by(name) - ROOM[name]
    assert not {other for other in found & FLOOR.keys() if FLOOR[other] >= FLOOR[name]}
    assert not found & NEVER.get(name, set()) and not (name in RIGHT and found & LEFT)
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
    assert 5 < len(found) <= 20 and "\nwandb\n" not in done.stdout, sorted(found)
