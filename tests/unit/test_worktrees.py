"""Several git worktrees of a project side by side: one input/, output/ and notes/, and no number twice."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import call, clean_environment
from helpers import environment_of, in_clone
from light import LIGHT

from expkit import store
from expkit.project import in_main_worktree

TRAIN = f"experiments/{LIGHT}/train.py"


@pytest.fixture
def worktree(clone: Path) -> Path:
    """Of the clone, beside it."""
    folder = clone.with_name("second")
    call("git", "worktree", "add", "-q", folder, cwd=clone)
    return folder


def run(folder: Path, *command: str) -> str:
    """A command in a worktree, as a person starts it: no variable says where the project is."""
    variables = environment_of(folder)
    del variables["EXPKIT_ROOT"], variables["PYTHONPATH"], variables["WANDB_MODE"]
    done = call(sys.executable, *command, cwd=folder, env=variables)
    return done.stdout + done.stderr


def test_which_folder_is_meant(clone: Path, worktree: Path, tmp_path: Path) -> None:
    """The same one of the main worktree, also for a project in a folder of its repository, and by a relative path."""
    assert in_main_worktree(worktree) == in_main_worktree(clone) == clone
    (worktree / ".git").write_text("gitdir: ../clone/.git/worktrees/second\n")
    for root in (clone, worktree):
        (root / "inner").mkdir()
        (root / "inner/pyproject.toml").touch()
    in_main_worktree.cache_clear()
    assert in_main_worktree(worktree) == clone
    assert in_main_worktree(worktree / "inner") == clone / "inner"
    assert in_main_worktree(tmp_path) == tmp_path, "in no repository"


@pytest.mark.parametrize("link", ["gitdir: ../../clone/.git/modules/inner", "gitdir: /nowhere", "", "\udcff"])
def test_what_is_no_worktree_stands_alone(clone: Path, link: str) -> None:
    """A submodule, a main worktree that is gone, a damaged file; a main worktree without the project."""
    inner = clone / "inner"
    inner.mkdir()
    (inner / ".git").write_text(link, errors="surrogateescape")
    assert in_main_worktree(inner) == inner


def test_a_main_worktree_without_the_project_is_none(clone: Path, worktree: Path) -> None:
    (clone / "pyproject.toml").unlink()
    assert in_main_worktree(worktree) == worktree


def test_results_data_and_notes_are_those_of_the_main_worktree(clone: Path, worktree: Path, tmp_path: Path) -> None:
    """Of trainings, sweeps and commands, with the code of the worktree; .env, too. PROJECT_ROOT wins. A run of the
    worktree is reproduced there."""
    (clone / ".env").write_text("WANDB_MODE=disabled\n")
    model = worktree / f"experiments/{LIGHT}/model.py"
    model.write_text(model.read_text().replace("as submitted", "of the worktree"))
    run(worktree, TRAIN, "exp.fold=[0,1]")
    run(worktree, TRAIN, "-m", "exp.fold=[2],[3],[4]")
    found = store.read_run(clone / f"output/{LIGHT}/light")
    assert [*found.done] == [0, 1, 2, 3, 4] and not found.marks
    assert {result["values"]["secret"] for result in found.results.values()} == {"of the worktree"}
    assert not (worktree / "output").exists() and not (clone / "output/wandb").exists()
    name = f"{LIGHT}/light"
    commands = [["board", "--json", "--all"], ["note", name, "here"], ["reproduce", name, "--json"]]
    [(board, _), _, (reproduced, error)] = in_clone(worktree, *commands)
    assert [each["run"] for each in json.loads(board)] == ["light"]
    assert "here" in (clone / f"notes/{LIGHT}.jsonl").read_text() and not (worktree / "notes").exists()
    assert json.loads(reproduced)["identical"], error
    other = tmp_path / "other"
    other.mkdir()
    call(sys.executable, TRAIN, cwd=worktree, env=environment_of(worktree, PROJECT_ROOT=str(other)))
    assert (other / f"output/{LIGHT}/light").exists()


def test_a_number_is_taken_once(clone: Path, worktree: Path) -> None:
    """Of experiments and of parameter sets; in its own worktree, a name is free again when its file is gone."""
    [(first, _)] = in_clone(clone, ["new", "a"])
    [(second, _), _] = in_clone(worktree, ["new", "b"], ["new", f"{LIGHT}/007"])
    [(third, _), (_, of_set)] = in_clone(clone, ["new", "c"], ["new", f"{LIGHT}/007"])
    made = [text.split()[1].rstrip(";") for text in (first, second, third)]
    assert made == [f"experiments/00{each}" for each in ("3-a", "4-b", "5-c")]
    assert f"{LIGHT}/007: the worktree {worktree} has taken this name: give another one" in of_set
    (worktree / f"experiments/{LIGHT}/exp/007.yaml").unlink()
    [(again, _), (_, error)] = in_clone(worktree, ["new", f"{LIGHT}/007"], ["new", "005-mine"])
    assert again.startswith("made ")
    assert f"005-mine: the worktree {clone} has taken the number 5: give another one" in error
    call("git", "worktree", "remove", "--force", worktree, cwd=clone)
    [(free, _)] = in_clone(clone, ["new", f"{LIGHT}/007"])
    assert free.startswith("made "), "the worktree is gone"


TRY = """
import expkit
from expkit import tries
from expkit.cli import main

tries.Training.train = lambda self, *more: expkit.run(self.experiment, overrides=[*self.overrides, *more])
main()
"""


def test_an_idea_of_another_worktree(clone: Path, worktree: Path) -> None:
    """It is not trained again: what came of it is said, and its parameter set is there to go on from."""
    (clone / ".env").write_text("WANDB_MODE=disabled\n")
    run(clone, TRAIN)
    attempt = ["-c", TRY, "try", "--from"]  # which trains in its own process: that is quicker
    words = [*attempt, f"{LIGHT}/light", "train.x=4", "--why", "more"]
    run(clone, *words)
    (clone / f"experiments/{LIGHT}/model.py").unlink()  # it cannot be trained again
    before = store.read_run(clone / f"output/{LIGHT}/001").id
    told = run(worktree, *words)
    assert (
        f"{LIGHT}/exp/001.yaml is copied from the worktree {clone}: do not commit it here, and remove it before" in told
    )
    assert f"{LIGHT}/001 has this configuration: " in told and "verdict: " in told
    assert store.read_run(clone / f"output/{LIGHT}/001").id == before
    own = Path(f"experiments/{LIGHT}/exp/001.yaml")
    assert (worktree / own).read_text() == (clone / own).read_text()
    (worktree / own).unlink()
    told = run(worktree, *attempt, f"{LIGHT}/001", "train.x=8", "--why", "still more")
    assert f"{LIGHT}/002: train.x=8" in told and (worktree / own).with_name("002.yaml").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="as taskset, Linux only")
def test_jobs_and_threads_follow_taskset() -> None:
    """So two loops share the cores as they are told to."""
    code = "import os; os.sched_setaffinity(0, {0}); from expkit.launch import processes; print(processes())"
    done = call(sys.executable, "-c", code, cwd=Path.cwd(), env={"CUDA_VISIBLE_DEVICES": ""} | clean_environment())
    assert done.stdout == "1\n"
