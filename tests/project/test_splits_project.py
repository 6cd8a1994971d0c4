"""Which rows a fold leaves out: every method, what does not fit, and the record that says which rows they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command
from conftest import Project, call
from helpers import results

import expkit
from expkit import store
from expkit.data import read_manifest

N = 120
ID = np.arange(N)
Y = np.array([0, 0, 0, 0, 0, 1] * 20)  # five to one
GROUPS = np.array([f"patient {row % 17}" for row in range(N)])
TIME = np.arange(N)[::-1] // 4  # 30 days of four rows, the latest first
ALL = {"id": ID, "y": Y, "groups": GROUPS, "time": TIME}


def config(method: str = "kfold", n_folds: int = 5, seed: int = 0, **split: Any) -> expkit.ExpConfig:
    return expkit.ExpConfig(
        n_folds=n_folds, seed=seed, split=expkit.SplitConfig(method=expkit.SplitMethod[method], **split)
    )


def folds(exp: expkit.ExpConfig, **columns: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return [expkit.split(exp, fold, **(columns if "id" in columns else ALL | columns)) for fold in range(exp.n_folds)]


# The methods


# A column of a file


def fold_file(root: Path, text: str) -> None:
    (root / "input" / "folds.csv").write_text(text)


def column(n_folds: int = 3, **split: Any) -> expkit.ExpConfig:
    return config("column", n_folds, file="folds.csv", **split)


def test_the_file_is_part_of_the_data(project: Project, root: Path) -> None:
    """Of an experiment, too, that says that it reads nothing else."""
    ids = np.arange(1797)
    fold_file(root, "id,fold\n" + "".join(f"{each},{each % 2}\n" for each in ids))
    options = ["exp.split.method=column", "exp.split.file=folds.csv", "exp.n_folds=2", "exp.train.epoch=1"]
    project.train(*options, "exp.fold=[0]", root=root, WANDB_MODE="disabled")
    [run] = (root / "output" / "001-baseline").glob("baseline*")
    oof = store.read_run(run).folds[0].predictions()
    assert len(oof["id"]) > 600 and set(oof["id"] % 2) == {0}
    trained_with = results(root, run.name, "001-baseline")[0]["data"]
    assert list(read_manifest(root / "output", trained_with) or {}) == ["folds.csv"]

    exp = [project.folder / ".venv" / "bin" / "exp", "show", run.name]
    shown = call(*exp, cwd=project.folder, env=project.environment(PROJECT_ROOT=str(root))).stdout
    assert "changed since" not in shown
    (root / "input" / "folds.csv").write_text("id,fold\n" + "".join(f"{each},{(each + 1) % 2}\n" for each in ids))
    shown = call(*exp, cwd=project.folder, env=project.environment(PROJECT_ROOT=str(root))).stdout
    assert "data changed since (folds.csv: other content)" in shown
    warned = project.train(*options, "exp.fold=[0]", root=root, WANDB_MODE="disabled").stderr
    assert "the data has changed since fold 0 (folds.csv: other content)" in warned


# What does not fit


# The record


def with_ids(first: int) -> Any:
    """Let a fold of the light experiment leave out other rows."""

    def during(fold: expkit.Fold) -> None:
        save = fold.save_oof
        fold.save_oof = lambda columns: save({**columns, "id": [first + (fold.number or 0)]})  # type: ignore[method-assign]

    return during


@pytest.fixture
def four_runs(root: Path) -> Path:
    """Two runs of the same folds, one of others, whose score is worse, and one with a single fold, of others."""
    command("exp.train.x=1").train()
    command("exp.train.x=2").train()
    command("exp.train.x=4", during=with_ids(10)).train()
    command("exp.train.x=8", "exp.fold=[2]", during=with_ids(20)).train()
    return root


def test_the_cli_says_so(four_runs: Path, project: Project) -> None:
    def exp(*arguments: str) -> str:
        command = [project.folder / ".venv" / "bin" / "exp", *arguments]
        return call(*command, cwd=project.folder, env=project.environment(PROJECT_ROOT=str(four_runs))).stdout

    lines = [line.rstrip() for line in exp("board").splitlines()]
    assert [line.endswith("other folds") for line in lines[1:]] == [False, False, True, True]
    rows = {row["run"][-1]: row for row in json.loads(exp("board", "--json"))}
    assert rows["1"]["split"] == rows["2"]["split"] != rows["4"]["split"]
    assert (rows["2"]["marks"], rows["4"]["marks"]) == ("", "other folds")
    said = "verdict: not comparable: other folds: the folds of "
    assert said in exp("diff", "x=1", "x=4") and said in exp("diff", "x=8", "x=1")
    assert said not in exp("diff", "x=1", "x=2")
    [alone] = json.loads(exp("board", "--json", "--filter", "x=4"))
    assert alone["marks"] == ""


# What has to be predicted


# Times
