"""`exp clean` removes what is left over, and nothing else, whoever trains meanwhile and whenever it is killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from helpers import exp, results, start
from light import LIGHT, wait_for


def clean(*arguments: str) -> dict[str, Any]:
    """What the command finds or removes, by kind."""
    content: dict[str, Any] = json.loads(exp("clean", *arguments, "--json"))
    return content["kinds"]


def listed(*kinds: str) -> dict[str, list[str]]:
    """The names of what may go, by kind, where there is any."""
    found = {kind: [Path(each["what"]).name for each in about["items"]] for kind, about in clean(*kinds).items()}
    return {kind: names for kind, names in found.items() if names}


def test_a_training_in_another_terminal_is_not_harmed(sweeping: Project, root: Path) -> None:
    (root / "control/gate0").touch()
    process = start(sweeping, root, "exp.fold=[0]")
    wait_for((root / "control/came0").exists, process)
    assert listed() == {} and clean("--yes")["failed"]["count"] == 0
    (root / "control/gate0").unlink()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "quality 10.0000" in printed
    assert list(results(root)) == [0]


# Copies of the code


def copies(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "output/multirun/.code").glob("[!.]*"))


@pytest.mark.parametrize(
    ("launcher", "how", "stays"),
    [("basic", signal.SIGINT, False), ("basic", signal.SIGKILL, True), ("submitit_local", signal.SIGINT, True)],
)
def test_the_copy_of_a_sweep(sweeping: Project, root: Path, launcher: str, how: signal.Signals, stays: bool) -> None:
    """Kept while it runs; and after an interruption, when jobs may wait for submitit, or nobody can tell."""
    (root / "control/gate0").touch()
    process = start(sweeping, root, "-m", f"hydra/launcher={launcher}", "exp.seed=1,2", "exp.fold=[0]")
    wait_for((root / "control/came0").exists, process)
    assert len(copies(root)) == 1
    process.send_signal(how)
    process.wait()
    (root / "control/gate0").unlink()
    assert len(copies(root)) == stays


def test_the_copy_of_a_sweep_that_is_over(sweeping: Project, root: Path) -> None:
    (root / "control/fail1").touch()
    failed = sweeping.train("-m", "exp.seed=1,2", "exp.fold=[0],[1]", experiment=LIGHT, root=root, check=False)
    assert failed.returncode == 1
    assert copies(root) == []


# Wherever it is called
