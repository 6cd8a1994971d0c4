"""What earlier releases wrote stays readable: tests/data/ has a project of each, with runs, notes and a blend."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, call, commit_all
from helpers import environment_of, in_clone
from old_project import form, make

PROJECTS = sorted((ROOT / "tests/data").iterdir(), key=lambda folder: tuple(map(int, folder.name.split("."))))
SCORES = {  # 12 rows x, whose targets are 1.5 x; a run predicts its slope times x
    "001-line/line": 2.0625,
    "001-line/001-steep": 1.375,
    "001-line/line,exp.split.lockbox=0.25": 2.04167,  # without the rows that are set aside
    "blends/both": 1.71875,
}


@pytest.fixture(params=PROJECTS, ids=lambda folder: folder.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project of a release, in a git repository."""
    folder = Path(shutil.copytree(request.param, tmp_path / "old"))
    (folder / ".gitignore").write_text("output/\n")
    commit_all(folder)
    return folder


def answers(folder: Path, *commands: list[str]) -> list[Any]:
    """What each command says with --json."""
    printed = in_clone(folder, *([*command, "--json"] for command in commands))
    assert [error for _, error in printed if error not in ("", "0")] == []
    return [json.loads(text.splitlines()[-1]) for text, _ in printed]  # a warning may stand before it


def test_the_runs_are_on_the_board(old: Path) -> None:
    board, log, note, box = answers(old, ["board"], ["log"], ["note", "001-steep"], ["unlock", "lockbox=0.25"])
    assert {f"{row['experiment']}/{row['run']}": row["score"] for row in board} == SCORES
    assert {row["run"]: row["marks"] for row in board if "marks" in row} == {
        "line,exp.split.lockbox=0.25": "other folds"
    }
    assert (box["opened"], box["rows"]) == (1, 3)
    assert {row["run"]: row["score"] for row in log} == SCORES
    [steep] = note["runs"]
    assert (steep["verdict"], steep["tags"], steep["notes"][0]["text"]) == ("kept", ["old"], "steeper is better")
    assert [row["leaderboard"] for row in board if "leaderboard" in row] == [0.25]


def test_they_are_shown_compared_and_submitted(old: Path) -> None:
    shown, compared, submitted, blend = answers(
        old, ["show", "001-steep"], ["diff", "line", "001-steep"], ["submit", "001-steep"], ["submit", "both"]
    )
    assert shown["score"] == 1.375 and [child["state"] for child in shown["children"]] == ["ok"]
    assert compared["comparison"]["folds"]["better_by"] == 0.6875
    for made, slope in ((submitted, 1.25), (blend, 1.1875)):
        rows = [line.split(",") for line in Path(made["path"]).read_text().splitlines()[1:]]
        assert [(each, float(value)) for each, value in rows] == [("a", 3 * slope), ("b", 4 * slope), ("c", 5 * slope)]


def test_the_same_command_trains_nothing_again(old: Path) -> None:
    train = [sys.executable, "experiments/001-line/train.py", "exp.fold=null"]
    for overrides, score in (([], "2.0625"), (["exp=001"], "1.3750")):
        done = call(*train, *overrides, cwd=old, env=environment_of(old)).stdout
        assert "fold 0 is done" in done and "fold 1 is done" in done and f"CV mae {score}" in done, done
    assert "all data" in call(*train, "exp.mode=sub", cwd=old, env=environment_of(old)).stdout


def test_what_is_written_today_is_there(tmp_path: Path) -> None:
    """In the newest project. After a change of what is written, make it again; once it is released, beside it."""
    make(tmp_path / "today")
    assert form(tmp_path / "today") == form(PROJECTS[-1]), (
        f"run: uv run tests/old_project.py tests/data/{PROJECTS[-1].name}"
    )
