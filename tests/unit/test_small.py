"""What the commands of a round print is short: an agent pays for each character, and a person reads each line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from conftest import call
from experiments import own_experiment
from helpers import environment_of, exp, exp_json
from light import LIGHT
from several import files

import expkit
from expkit.project import code_root

BOARD, ROUND = 6000, 2000  # characters: of a board of many runs, of another command
SECONDS = 3  # of CPU: two runs of 4,000 rows are compared


def test_the_board_of_many_runs(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best 25 with what differs; a program has no more to read, and is told how many there are."""
    for number in range(30):
        name = f"{number:03}-another-idea"
        values = [f"exp.name={name}", f"exp.train.x={1 + number / 7}", f"exp.train.anything={number % 7}"]
        expkit.run(LIGHT, overrides=["exp.n_folds=2", "exp.fold=null", *values])
    text, printed = exp("board"), exp("board", "--json")
    assert max(len(text), len(printed)) <= BOARD
    assert "5 more: exp board --all" in text and "5 more: exp board --all" in printed
    rows, whole = exp_json("board"), exp_json("board", "--all")
    assert [row["run"] for row in rows] == [row["run"] for row in whole[:25]] and len(whole) == 30
    first = {key: whole[0][key] for key in ("experiment", "run", "score", "std", "problem")}
    own = {"exp.train.x", "exp.train.anything"}
    assert first.items() <= rows[0].items() and rows[0].keys() - first.keys() == own
    assert rows[1]["exp.train.x"] == whole[1]["exp.train.x"] and len(str(rows[1]["exp.train.x"])) > 8, "to type again"
    monkeypatch.setattr("expkit.cli.results.MOST_CHARACTERS", 2000)
    printed, few = exp("board", "--json"), exp_json("board")
    assert few == rows[: len(few)] and 1500 < len(printed) <= 2100, "as many rows as there is room for"
    assert f"warning: {30 - len(few)} more: exp board --all, --last N or --filter" in printed
    assert exp_json("board", "--last", "2", "--filter", "anything=1", "--columns", "anything,seconds")[1].keys() == {
        "experiment",
        "run",
        "score",
        "exp.train.anything",
        "seconds",
    }


def test_each_command_of_a_round(root: Path) -> None:
    """Of a run of three folds, and of ten with notes: as text and as JSON."""
    texts = files("price")
    with own_experiment(texts) as folder:
        train, environment = folder / "train.py", environment_of(code_root(), PROJECT_ROOT=str(root))
        printed = call(sys.executable, train, "exp.fold=null", cwd=code_root(), env=environment)
        found = {"train.py": len(printed.stdout + printed.stderr)}
        (folder / "model.py").write_text(texts["model.py"] + "\n# another thought" * 300)
        for number in range(10):
            overrides = [f"exp.train.noise={0.3 + number / 7}", f"exp.name=00{number}-another-idea"]
            expkit.run(folder.name, overrides=["exp.fold=null", *overrides])
        old, *runs = [f"{row['experiment']}/{row['run']}" for row in exp_json("board")]
        for run in runs:
            exp(
                "note",
                run,
                "no better than the one before, and twice as slow",
                "--dropped",
                "--hypothesis",
                "it is better",
            )
        commands = [["show", runs[0]], ["diff", old, runs[0]], ["note", runs[0], "fine", "--kept"], ["note"], ["log"]]
        commands += [["new", f"{folder.name}/009"], ["check", folder.name], ["board"]]
        for each in commands:
            found[each[0]] = max(
                len(exp(*each)), len(exp(*each, "--json")) if each[0] != "new" else 0, found.get(each[0], 0)
            )
        assert {name: size for name, size in found.items() if size > (BOARD if name == "board" else ROUND)} == {}
        assert "another thought" not in exp("diff", old, runs[0])
        assert "model.py" in exp_json("diff", old, runs[0])["code"]["experiment"]
        assert "\n+# another thought" in exp("diff", old, runs[0], "--code")


def test_the_time_of_a_comparison(quick: Path) -> None:
    texts = files("price")
    texts["model.py"] = texts["model.py"].replace("arange(300), np.arange(300, 340)", "arange(4000), np.arange(9)")
    with own_experiment(texts) as folder:
        for noise in (0.2, 0.3):
            expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", "exp.fold=null"])
        old, new = [f"{folder.name}/{row['run']}" for row in exp_json("board")]
        before = time.process_time()
        assert json.loads(exp("diff", old, new, "--json"))["comparison"]["rows"]["rows"] == 4000
        assert time.process_time() - before < SECONDS
