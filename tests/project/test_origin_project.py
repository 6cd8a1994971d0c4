"""Every result leads back to the code, the data and the machine that made it, and nothing secret goes along."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import GIT, Project, call
from helpers import counting
from light import LIGHT

from expkit import store

KEY = "0123456789" * 4
PACKAGE = "digits_co_experiments"


def git(folder: Path, *arguments: str) -> str:
    return call(*GIT, *arguments, cwd=folder).stdout


# The record of a fold


def test_what_is_recorded_of_a_fold(sweeping: Project, root: Path) -> None:
    """Command, overrides, packages, machine; the code as a commit, with what no commit of the user's has yet."""
    idea = sweeping.folder / "an idea.txt"
    idea.write_text("untracked")
    sweeping.train("exp.train.x=1", "exp.fold=[3]", root=root, experiment=LIGHT, WANDB_MODE="disabled")
    idea.unlink()
    run = store.read_run(counting(root, "light,exp.train.x=1"))
    origin, result = run.done[3].origin(), run.done[3].result
    assert origin["command"] == ["train.py", "exp.train.x=1", "exp.fold=[3]"]
    assert origin["overrides"] == ["exp.train.x=1", "exp.fold=[3]"]
    assert origin["packages"]["hydra-core"].startswith("1.3")
    assert origin["environment"]["world_size"] == 1
    assert {"host", "platform", "python", "data", "code"} <= origin.keys()
    assert result is not None
    assert result["git"]["commit"] == git(sweeping.folder, "rev-parse", "HEAD").strip()
    assert result["git"]["dirty"] is True
    tree = git(sweeping.folder, "ls-tree", "-r", "--name-only", "-z", result["git"]["snapshot"]).split("\0")
    assert {"an idea.txt", f"experiments/{LIGHT}/train.py"} <= set(tree)
    assert not [name for name in tree if name.startswith((".venv", "output/0"))]
    written = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert (written["exp"]["fold"], written["exp"]["train"]["x"]) == ([3], 1.0)


# Secrets


@pytest.fixture
def dotenv(sweeping: Project) -> Iterator[str]:
    """A secret that the project's .env holds."""
    secret = "planted-secret-8c1f"
    file = sweeping.folder / ".env"
    file.write_text(f"KAGGLE_KEY={secret}\nWANDB_API_KEY={KEY}\n")
    yield secret
    file.unlink()


@pytest.mark.slow
def test_no_secret_is_written(sweeping: Project, root: Path, dotenv: str) -> None:
    """Neither under output/ nor in any object of git: the key of W&B, and what stands in .env."""
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    sweeping.train("exp.fold=[0,1]", root=root, experiment=LIGHT, WANDB_MODE="online", **server)  # no such server
    sweeping.train("-m", "exp.train.x=1,2", root=root, experiment=LIGHT, WANDB_MODE="offline")
    written = [file for file in root.rglob("*") if file.is_file()]
    assert len(written) > 40
    objects = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=sweeping.folder, capture_output=True, check=True
    ).stdout
    assert b"as submitted" in objects
    for content in (objects, *(file.read_bytes() for file in written)):
        assert dotenv.encode() not in content
        assert KEY.encode() not in content
