"""Each experiment of docs/tasks.md, as it stands there, and what the commands make of its runs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Command, Printed
from documents import blocks
from experiments import own_experiment
from helpers import exp, exp_json

import expkit
from expkit import tables

EXAMPLES = {re.findall(r"experiments/\d+-(\w+)/", each)[0]: each for each in blocks(ROOT / "docs/tasks.md", "python")}
EXPECTED = {
    "tumours": (0.98, 1.0),
    "labels": (0.75, 0.99),
    "ranking": (0.85, 1.0),
    "log": (0.3, 0.5),
    "spots": (0.9, 1.0),
    "baskets": (0.75, 0.95),
    "bandit": (0.4, 0.62),
    "holdout": (0.97, 1.0),
}


@pytest.fixture
def made(request: pytest.FixtureRequest, quick: Path) -> Iterator[str]:
    """The name of an experiment made of an example, with what its comment says in config.yaml."""
    text = EXAMPLES[request.param]
    config = "".join(f"  {line}\n" for line in re.findall(r"^# config\.yaml: (.*)", text, flags=re.M))
    with own_experiment({"train.py": text}) as folder:
        (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + config)
        yield folder.name


@pytest.mark.parametrize(
    ("made", "least", "most"), [(k, *v) for k, v in EXPECTED.items()], ids=EXPECTED, indirect=["made"]
)
def test_a_score(made: str, least: float, most: float) -> None:
    assert EXPECTED.keys() == EXAMPLES.keys()
    score = expkit.run(made)
    assert score is not None and least < score < most
    [run] = expkit.read_board()
    assert run.is_complete and not run.marks
    code, main = (expkit.code_root() / "experiments" / made / "train.py").read_text().split("\nif __name__ ==")
    assert len(code.splitlines()) <= 41 and "expkit.main(experiment)" in main, "whole, and short"


@pytest.mark.parametrize("made", EXAMPLES, indirect=True)
def test_on_all_rows(made: str) -> None:
    """Each as it stands."""
    assert expkit.run(made, overrides=["exp.mode=sub"]) is None


@pytest.mark.parametrize("made", ["spots"], indirect=True)
def test_masks_and_boxes(made: str) -> None:
    """They come back as they were, in the order of the ids; CSV says what it leaves out, JSON has it; runs compare."""
    for levels in (20, 3):
        expkit.run(made, overrides=[f"exp.train.levels={levels}"])
    run = expkit.load_run("light,exp.train.levels=20")
    table = run.oof
    assert table["target"].shape == (100, 16, 16) and table["target"].dtype == bool
    assert table["target_boxes"].dtype == object and {each.shape[1:] for each in table["target_boxes"]} == {(4,)}
    assert len({len(each) for each in table["target_boxes"]}) > 3
    printed = exp("oof", run.title)
    assert printed.splitlines()[1] == "id,fold"
    assert "target, target_boxes, prediction, prediction_boxes: more than a line of CSV can hold" in printed
    assert exp_json("oof", run.title)["target_boxes"] == [each.tolist() for each in table["target_boxes"]]
    assert "other target" not in exp("diff", "levels=3", run.title)
    assert list(expkit.oof([run]).columns) == ["id", "fold"]


def test_another_box_is_another_target(quick: Path) -> None:
    texts = [EXAMPLES["spots"], EXAMPLES["spots"].replace("x.stop) for", "x.stop + 1) for")]
    with own_experiment({"train.py": texts[0]}) as one, own_experiment({"train.py": texts[1]}) as other:
        for folder in (one, other):
            expkit.run(folder.name)
        assert len({row["problem"] for row in exp_json("board", "--all")}) == 2
        assert "other target: " in exp("diff", f"{one.name}/light", f"{other.name}/light")


@pytest.mark.parametrize("made", ["bandit"], indirect=True)
def test_a_score_without_rows(made: str, train: Command) -> None:
    """Board, seeds, diff and a study."""
    for epsilon in (0.1, 0.9):
        assert train("-m", f"exp.train.epsilon={epsilon}", "exp.seed=0,1,2,3", experiment=made).code == 0
    assert "return" in exp("board") and "±" in exp("board", "--seeds")
    printed = exp("diff", "light,exp.seed=0,exp.train.epsilon=0.9", "light,exp.seed=0,exp.train.epsilon=0.1", "--seeds")
    assert re.search(r"verdict: better", printed), printed
    done = train(
        "-m",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "exp.train.epsilon=interval(0.01,0.9)",
        experiment=made,
    )
    assert done.code == 0 and len(expkit.read_board()) == 11


def test_a_bandit_is_resumed(quick: Path) -> None:
    """After a stop, the agent and the dice go on from where they were."""
    whole, scores = EXAMPLES["bandit"], []
    stopped = whole.replace('"dice": dice}', '"dice": dice}, every=0').replace(
        "        if step % 500 == 0:",
        "        if step == 70 and not (fold.folder / 'stop').exists():\n"
        "            (fold.folder / 'stop').touch()\n"
        "            raise KeyboardInterrupt\n"
        "        if step % 500 == 0:",
    )
    for text in (whole, stopped):
        with own_experiment({"train.py": text}) as folder:
            overrides = ["exp.n_folds=1", "exp.train.pulls=200"]
            if text == stopped:
                with pytest.raises(KeyboardInterrupt):
                    expkit.run(folder.name, overrides=overrides)
            scores.append(expkit.run(folder.name, overrides=overrides))
    assert scores[0] is not None and scores[0] == scores[1]


@pytest.mark.parametrize("made", ["holdout"], indirect=True)
def test_one_split_is_no_fold(made: str, train: Command) -> None:
    done = train(experiment=made)
    again = train(experiment=made)
    printed = re.sub(r"\d+\.\d+ s", "", done.out + again.out)
    assert re.findall(r"hold-out.*", printed) == [
        "hold-out  accuracy 0.9833  ",
        "hold-out accuracy 0.9833",
        "hold-out is done",
        "hold-out accuracy 0.9833",
    ]
    shown = exp("show", "light")
    assert re.search(r"\nhold-out accuracy 0.9833  360 rows\n +accuracy +rows .*\nhold-out +0.9833 +360 ", shown)
    for text in (printed, shown.partition("command")[0]):
        assert not re.search(r"fold (\d|$)|\boof|folds|\bCV", text, flags=re.I | re.M), text


@pytest.mark.parametrize("made", ["log"], indirect=True)
def test_the_number_of_a_fold_is_enough(made: str, train: Command) -> None:
    """exp.fold=0 is exp.fold=[0]; in a sweep, a job for each."""
    assert "1/5 folds" in train("exp.fold=0", experiment=made).out
    out = train("-m", "exp.fold=1,2", experiment=made).out
    assert "2/5 folds" in out and "3/5 folds" in out and "2 jobs" in out
    assert "exp.fold must be from 0 to 4" in train("exp.fold=5", experiment=made).err


@pytest.mark.parametrize("made", ["baskets"], indirect=True)
def test_a_threshold_and_a_row_per_customer(made: str, capsys: Printed) -> None:
    """With the threshold, the score is better than without it, and the submission has a row for each customer."""
    expkit.run(made)
    printed = capsys.readouterr().out
    assert re.search(r"^fold 0  f1_raw 0\.\d{4}  \S+ s$", printed, flags=re.M), printed
    [after, before] = re.findall(r"(?:CV f1|  f1_raw) (\S+) ±", printed)
    assert float(after) > float(before)
    with open(exp_json("submit", made)["path"], newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [*rows[0]] == ["customer", "items"] and [row["customer"] for row in rows] == [
        f"c{80 + n}" for n in range(20)
    ]
    bought = [row["items"].split() for row in rows]
    assert (
        any(bought) and not all(bought) and {item for items in bought for item in items} <= {f"i{n}" for n in range(8)}
    )


def test_ragged_columns(tmp_path: Path) -> None:
    """On the disk and back; equal rows of another form, order or type are equal; what has no axis is refused."""
    rows = [np.ones((2, 4)), [], np.zeros((1, 4))]
    table = tables.columns({"id": [1, 2, 3], "target": rows, "words": [["a"], ["b", "cc"], []]}, "t")
    tables.save(tmp_path / "t.npz", table)
    read = tables.load(tmp_path / "t.npz")
    assert [each.shape for each in read["target"]] == [(2, 4), (0, 4), (1, 4)] and read["words"][1].tolist() == [
        "b",
        "cc",
    ]
    assert not tables.differing(table, read).any() and list(tables.load(tmp_path / "t.npz", "words")) == ["words"]
    other = tables.aligned(table | {"target": tables.comparable(table["target"])}, np.array([3, 1, 2]), "", "")
    assert tables.target_hash(other) == tables.target_hash(table)
    other["target"][0] = other["target"][0] + 1
    assert tables.target_hash(other) != tables.target_hash(table)
    joined = tables.concatenated([np.zeros((2, 3, 4)), np.zeros((1, 2, 4)), table["target"]])
    assert [len(each) for each in joined] == [3, 3, 2, 2, 0, 1]
    none = tables.columns({"boxes": [np.zeros((0, 4))] * 2}, "t")["boxes"]
    assert none.dtype == object and none[0].shape == (0, 4)
    with pytest.raises(expkit.Error, match="1 of 2 rows of p are nan"):
        tables.require_finite(tables.columns({"p": [[1.0], [1.0, np.nan]]}, "t"), "t")
    with pytest.raises(expkit.Error, match="may differ in k alone"):
        tables.columns({"p": [np.zeros((1, 2)), np.zeros((1, 3))]}, "t")
