"""`exp fetch`: two folders as two machines. What comes is whole, and is never mixed with what is something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Background, command
from helpers import counting, exp, exp_json, load, results, tree
from light import LIGHT, edited
from test_kills import killed, look, moments

import expkit
from expkit import files, snapshot, store
from expkit.fetch import fetch

Machine = Callable[..., Path]
SSH = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift 2; done  # as git calls it: -o SendEnv=...
echo "$@" >> {log}
shift
exec sh -c "$*"
"""


@pytest.fixture
def there(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The other machine; `on` trains there."""
    monkeypatch.setattr(snapshot, "take", lambda folder: None)
    folder = tmp_path / "there"
    for name in ("input", "control", "output"):
        (folder / name).mkdir(parents=True)
    return folder


def on(folder: Path, *overrides: str, **values: Any) -> None:
    """Train the light experiment with another PROJECT_ROOT."""
    before = os.environ["PROJECT_ROOT"]
    os.environ["PROJECT_ROOT"] = str(folder)
    try:
        command(*overrides, **values).train()
    finally:
        os.environ["PROJECT_ROOT"] = before


def folds(root: Path) -> dict[int, float]:
    """When each fold that is done was trained."""
    return {number: result["values"]["ended"] for number, result in results(root).items()}


@pytest.fixture(params=["path", "rsync", "tar"])
def name(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of the other machine: a path, or over ssh with and without rsync."""
    if request.param == "path":
        return str(there)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(log=tmp_path / "ssh.log"))
    (programs / "ssh").chmod(0o755)
    if request.param == "tar":
        for program in ("sh", "tar", "find", "wc", "git"):
            (programs / program).symlink_to(shutil.which(program) or "")
        monkeypatch.setenv("PATH", str(programs))
    elif shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    else:
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return f"gpu:{there}"


def test_a_run_comes_home(root: Path, there: Path, name: str) -> None:
    """To the byte, with its id and the record of its data; the second time, there is nothing to do."""
    (there / "input/a.csv").write_text("1,2\n")
    on(there, "exp.fold=[0,2]")
    on(there, "exp.mode=sub")
    on(there, "exp.train.x=2", "exp.fold=null")
    found = exp_json("fetch", name)
    assert found["runs"] == {f"{LIGHT}/light": ["fold0", "fold2", "full"]} | {
        f"{LIGHT}/light,exp.train.x=2": [f"fold{number}" for number in range(5)]
    }
    assert found["refused"] == [] and "no snapshots" in found["notes"][0]
    for run in ("light", "light,exp.train.x=2"):
        here, other = (store.read_run(counting(each, run)) for each in (root, there))
        assert here == store.Run(**{**vars(here)}) and here.id == other.id and here.checksums == other.checksums
        assert here.score == other.score and here.marks == other.marks
        assert tree(here.folder).keys() == tree(other.folder).keys()
        before = tree(here.folder)
    shutil.rmtree(there / "input")
    assert {file.name for file in (root / "output/.data").iterdir()} == {
        file.name for file in (there / "output/.data").iterdir()
    }
    assert exp_json("fetch", name)["runs"] == {}
    assert tree(here.folder) == before
    assert [each.name for each in (root / "output/.fetch").iterdir() if each.is_dir()] == []
