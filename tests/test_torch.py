"""`framework: torch` renders the same project with another model.py, which trains for real."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ANSWERS, Project, background, call, clean_environment, commit_all, copier, data_arguments, once
from helpers import load

from expkit import record
from expkit.inspect.board import read_board

pytestmark = pytest.mark.slow

FOLDS = "exp.fold=[0,1,2,3,4]"


def _make(folder: Path) -> None:
    answers = data_arguments(ANSWERS | {"framework": "torch"})
    template = once("template", lambda made: None)  # has been made by conftest.py
    copier("copy", "-q", "--defaults", *answers, template, folder, cwd=folder.parent)
    environment = clean_environment() | {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]}
    call("uv", "venv", "-q", "--python", sys.executable, cwd=folder, env=environment)
    packages = ["-e", ".", "torch==2.13.0", "pytest", "ruff"]
    call("uv", "pip", "install", "-q", *packages, "--python", ".venv/bin/python", cwd=folder, env=environment)
    commit_all(folder)


@pytest.fixture(scope="module")
def network(home: Path) -> Project:
    """A project with PyTorch for the CPU; nothing of several gigabytes is ever downloaded."""
    if sys.version_info[:2] != (3, 11) or not os.environ.get("PIP_FIND_LINKS"):
        pytest.skip("there is no CPU build of PyTorch on this machine")
    return Project(once("torch", _make), home)


def train(network: Project, root: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return network.train(*arguments, root=root, check=check, WANDB_MODE="disabled")


def test_the_rendered_project_is_in_order(network: Project) -> None:
    """Formatted, lint-clean, its own tests pass, its parameter sets compose."""
    run = network.python.parent
    call(run / "ruff", "check", cwd=network.folder)
    call(run / "ruff", "format", "--check", cwd=network.folder)
    assert "5 passed" in call(run / "pytest", "-q", cwd=network.folder, env=network.environment()).stdout
    mypy = [Path(sys.executable).with_name("mypy"), "--ignore-missing-imports", "--python-executable", network.python]
    call(*mypy, "train.py", "model.py", cwd=network.folder / "experiments/001-baseline")
    assert "3 of 3 parameter sets are fine" in call(run / "exp", "check", cwd=network.folder).stdout


def test_five_folds_are_honest_and_good(network: Project, root: Path) -> None:
    """At least 0.98, no epoch chosen by the rows that are scored; `exp reproduce` gives the same bytes."""
    printed = train(network, root, "exp=001", FOLDS).stdout
    [row] = read_board()
    assert row.score is not None and row.score >= 0.98 and row.marks == (), printed
    exp = network.python.with_name("exp")
    train(network, root, "exp=001", "exp.fold=[0]", "exp.train.epoch=2")
    again = call(exp, "reproduce", "epoch=2", cwd=network.folder, env=network.environment(PROJECT_ROOT=str(root)))
    assert again.stdout == "identical\n"


def test_a_vision_transformer(network: Project, root: Path) -> None:
    """Chosen on the command line, or in a parameter set; the wrong word is one line."""
    shown = yaml.safe_load(train(network, root, "model=vit", "exp.model.depth=3", "show_config=true").stdout)
    assert shown["exp"]["model"] == {"width": 48, "depth": 3, "heads": 4, "dropout": 0.0}
    train(network, root, "exp=002", "exp.train.epoch=3")
    [row] = read_board()
    assert row.score is not None and row.score > 0.5 and row.config["choices.model"] == "vit"
    wrong = train(network, root, "model=vitt", check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "error: model=vitt: there is no model vitt; did you mean vit?\n")


def epochs(fold: Path) -> int:
    """How many its history has."""
    file = fold / record.HISTORY
    return max(0, file.read_text().count("\n") - 1) if file.exists() else 0


def test_kills_change_no_byte(network: Project, root: Path) -> None:
    """`kill -9` in the middle of a fold, several times: the same predictions and history as without."""
    files = [record.OOF, record.HISTORY]
    model = network.folder / "experiments/001-baseline/train.py"
    text = model.read_text()
    model.write_text(text.replace("every=30", "every=0"))
    try:
        arguments = ["exp=001", "exp.fold=[0]", "exp.train.epoch=24"]
        train(network, root, *arguments, "exp.name=whole")
        [whole] = (root / "output/001-baseline").glob("whole*/fold0")
        expected = {name: (whole / name).read_bytes() for name in files}
        fold = whole.parents[1] / "001-shifted-pixels,exp.train.epoch=24/fold0"
        environment = network.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled")
        dice, kills = random.Random(2), 0
        for _ in range(5):
            process = background(network.python, model, *arguments, env=environment, stdout=subprocess.DEVNULL)
            enough = epochs(fold) + 2 + dice.randrange(3)
            while process.poll() is None and epochs(fold) < enough:
                time.sleep(0.005)
            process.kill()
            kills += process.wait() != 0
        train(network, root, *arguments)
        assert {name: (fold / name).read_bytes() for name in files} == expected
        assert load(fold / record.ORIGIN)["resumed"] > 0 and kills >= 3
    finally:
        model.write_text(text)


def test_a_loss_that_is_nan_is_one_line(network: Project, root: Path) -> None:
    done = train(network, root, "exp.train.learning_rate=1e30", "exp.train.clip=inf", check=False)
    assert done.returncode == 1
    assert "error: the loss is nan in epoch 1, step " in done.stderr and "Traceback" not in done.stderr


def test_probes_are_debug_runs(network: Project, root: Path) -> None:
    """One word each; the results go to output/debug/."""
    train(network, root, "exp.runtime.probe=overfit")
    [history] = root.glob("output/debug/001-baseline/*/fold0/history.csv")
    last = history.read_text().splitlines()[-1].split(",")
    assert float(last[1]) < 0.01, "it can learn one batch"
    train(network, root, "exp.runtime.probe=profile")
    assert list(root.glob("output/debug/001-baseline/*/fold0/trace.json"))
    assert not (root / "output/001-baseline").exists()
