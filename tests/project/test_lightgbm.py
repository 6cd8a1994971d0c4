"""`framework: lightgbm` renders the same project with gradient boosting on a table: lower is better, no epochs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT, Project, call
from helpers import scores_and_predictions
from light import edited

from expkit import store
from expkit.board import read_board

pytestmark = pytest.mark.slow
FOLDS = "exp.fold=[0,1,2,3,4]"


def train(boosting: Project, root: Path, *arguments: str) -> str:
    return boosting.train(*arguments, root=root, WANDB_MODE="disabled").stdout


def exp(boosting: Project, root: Path, *arguments: str) -> str:
    environment = boosting.environment(PROJECT_ROOT=str(root))
    return call(boosting.python.with_name("exp"), *arguments, cwd=boosting.folder, env=environment).stdout


def test_five_folds_in_one_process_and_in_two(boosting: Project, root: Path) -> None:
    """The same bytes; the board has the lowest error first; `exp reproduce` says identical.

    A fold leaves text ids, the trees, a picture of the importance of each column, test predictions.
    """
    train(boosting, root, "-m", "exp=001", "exp.fold=[0],[1],[2],[3],[4]", "hydra/launcher=local")
    train(boosting, root, "exp=001", FOLDS, "exp.name=one")
    train(boosting, root, FOLDS)
    rows = json.loads(exp(boosting, root, "board", "--json", "--all"))
    assert [row["run"] for row in rows][-1] == "baseline" and rows[0]["score"] < 335
    assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)
    assert all(row["marks"] == "" and row["metric"] == "rmse" for row in rows), rows
    one, two = (root / "output/001-baseline" / name for name in ("one", "001-small-trees"))
    assert scores_and_predictions(one) == scores_and_predictions(two)
    assert exp(boosting, root, "reproduce", "001-small-trees") == "identical\n"

    fold = store.read_run(one).done[0]
    assert fold.result is not None
    made = {"oof.npz", "test.npz", "model.txt", "importance.png", "history.csv"}
    assert made <= fold.result["files"].keys()
    assert fold.predictions()["id"].dtype.kind == "U" and len(fold.predictions("test.npz")["id"]) == 68
    assert (fold.folder / "importance.png").read_bytes().startswith(b"\x89PNG")
    assert fold.result["values"]["rounds"] > 10
    [groups] = re.findall(r"rows in (\d+) groups", exp(boosting, root, "diff", "one", "baseline"))
    assert int(groups) == len({*store.read_run(one).oof["group"].tolist()}) < store.read_run(one).rows


def test_the_training_on_all_rows_has_as_many_rounds_as_the_folds(boosting: Project, root: Path) -> None:
    """It needs the folds first; it watches no rows."""
    run = ["exp=001", "exp.n_folds=2"]
    refused = boosting.train(*run, "exp.mode=sub", root=root, check=False, WANDB_MODE="disabled")
    wanted = "error: fold.cv('rounds'): no fold is trained: train all of them first, exp.mode=cv exp.fold=null"
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1] == wanted
    train(boosting, root, *run, "exp.fold=null")
    train(boosting, root, *run, "exp.mode=sub")
    found = store.read_run(read_board()[0].folder)
    assert found.full is not None and found.full.result is not None
    rounds = [fold.result["values"]["rounds"] for fold in found.done.values() if fold.result]
    assert rounds[0] != rounds[1] and found.full.result["values"] == {"rounds": round(sum(rounds) / 2)}
    assert (found.full.folder / "model.txt").read_text().count("\nTree=") == round(sum(rounds) / 2)
    assert (found.full.folder / "history.csv").read_text().startswith("step,train_rmse\n")
    assert len((found.full.folder / "submission.csv").read_text().splitlines()) == 69


def test_more_trees_on_those_of_another_run(boosting: Project, root: Path) -> None:
    """As docs/long-training.md says it: `init_model` is the model of that fold; train() that forgets it is refused."""
    folder = boosting.folder / "experiments/001-baseline"
    page = (ROOT / "docs/long-training.md").read_text()
    [line] = re.findall(r"^(before = fold.start_from .*)$", page, flags=re.M)
    first, forgets, more = (["exp.fold=[0]", f"exp.name={name}"] for name in ("first", "forgets", "more"))
    train(boosting, root, *first)
    done = boosting.train(*forgets, "exp.start_from=first", root=root, check=False, WANDB_MODE="disabled")
    assert done.returncode == 1 and "fold 0: train() has not used exp.start_from=001-baseline/first" in done.stderr
    with (
        edited(folder / "model.py", "callbacks=", "init_model=before, callbacks="),
        edited(folder / "model.py", "rounds: int | None, log)", "rounds: int | None, log, before=None)"),
        edited(folder / "train.py", "    trees = model.fit(", f"    {line}\n    trees = model.fit("),
        edited(folder / "train.py", "rounds, fold.log)", "rounds, fold.log, before)"),
    ):
        train(boosting, root, *more, "exp.start_from=first", "exp.train.learning_rate=0.01")
    files = [next(root.glob(f"output/001-baseline/{name}*/fold0/model.txt")) for name in ("first", "more")]
    old, new = (re.findall(r"^leaf_value=(.*)$", file.read_text(), flags=re.M) for file in files)
    assert new[: len(old)] == old and len(new) > len(old)


def test_scored_rows_teach_nothing(boosting: Project, root: Path) -> None:
    """Neither trees nor the number of rounds: other targets in the rows left out, the same predictions for them."""
    code = """
import sys
import expkit

def predictions(name):
    expkit.run("001-baseline", overrides=["exp.fold=[0]", f"exp.name={name}"])
    return expkit.load_run(f"{name}").oof

before = predictions("before")
model = next(module for name, module in sys.modules.items() if name.endswith(".model") and hasattr(module, "load_data"))
data, test = model.load_data()
left_out = data[model.ID].isin(before["id"])
data.loc[left_out, model.TARGET] = 100_000.0 - data.loc[left_out, model.TARGET]
model.load_data = lambda: (data, test)
after = predictions("after")
assert (after["target"] != before["target"]).all()
assert (after["prediction"] == before["prediction"]).all()
"""
    call(boosting.python, "-c", code, cwd=root, env=boosting.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled"))
