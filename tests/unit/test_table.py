"""The board in a terminal: which columns it has, and what is said of those that do not fit."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import command
from experiments import NETS, NETS_CONFIG, own_experiment
from helpers import exp, exp_json, run_of
from light import LIGHT
from rich.console import Console

import expkit
from expkit import store
from expkit.board import Entry, entries, filtered, find_seeds, grouped_by_seed, read_board
from expkit.config import load_experiment
from expkit.errors import Failed
from expkit.notes import Notes
from expkit.show import board_table, columns
from expkit.store import short_names


def row(name: str, score: float = 0.5, notes: dict[str, Any] | None = None, **values: Any) -> Entry:
    """A run with five folds; `values` of its configuration."""
    train = {"learning_rate": 0.1, "epoch": 5} | values
    run = name.partition("/")[2]
    exp = {"name": run, "seed": 1, "fold": [0], "train": train, "runtime": {"workers": len(name)}}
    said = ({"run": run, "time": "", **notes},) if notes else ()
    scores = [score - 0.01, score + 0.01, score, score - 0.01, score + 0.01]
    return Entry((run_of(name, scores, seed=1, config={"exp": exp}),), Notes(name, said))


def printed(rows: list[Entry], width: int, chosen: list[str] | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(board_table(rows, width, chosen)[0])
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


OPTUNA = "001-baseline/baseline,exp.train.dropout=0.3{},exp.train.learning_rate=0.0012345678,exp.train.weight_decay=0.1"


def test_on_80_columns_a_run_is_a_line() -> None:
    """Also one with a name that is longer than the terminal, and with everything that the board can say."""
    said = {"leaderboard": 0.81, "verdict": "kept"}
    rows = [row(OPTUNA.format(number), dropout=number, learning_rate=0.001, notes=said) for number in range(20)]
    lines = printed(rows, 80)
    assert len(lines) == 1 + len(rows) and "…" not in "".join(lines)
    for wanted in ("run", "accuracy ± std", "LB", "verdict", "folds", "dropout"):
        assert wanted in lines[0]
    assert all(line.startswith("001/baseline~") and "0.5000 ± 0.0100" in line for line in lines[1:])
    assert "finished" in printed(rows, 120)[0] and "commit" in printed(rows, 120)[0]


def test_the_keys_that_differ_are_the_columns() -> None:
    rows = [row("001-one/a"), row("001-one/b", learning_rate=0.2), row("002-two/c", extra=[1, 2], depth=3)]
    headings = [column.heading for column in columns(rows)]
    assert "learning_rate" in headings and "epoch" not in headings, "the same in all"
    assert not {"name", "fold", "workers", "seed"} & set(headings)
    by_heading = {column.heading: column.cells for column in columns(rows)}
    assert by_heading["learning_rate"] == ["0.1", "0.2", "0.1"]
    chosen = {column.heading: column.cells for column in columns(rows, ["exp.train.epoch", "exp.train.extra"])}
    assert chosen["epoch"] == ["5", "5", "5"] and chosen["extra"] == ["", "", "[1, 2]"]
    assert "learning_rate" not in chosen


def test_no_heading_is_that_of_another_column() -> None:
    """A heading names one thing: "seed" is exp.seed, and what --columns and --sort take is what they show."""
    rows = [row("001-one/a", time=1, a={"depth": 1}, b={"depth": 1}), row("001-one/b", time=3, a={"depth": 2})]
    keys = ["exp.seed", "exp.train.time", "exp.train.a.depth", "exp.train.b.depth"]
    headings = {column.heading for column in columns(rows, keys)}
    assert {"seed", *keys[1:]} <= headings
    both = [replace(one, runs=(one.run, one.run)) for one in rows]  # as with --seeds
    assert [column.heading for column in columns(both, ["seed"])].count("seed") == 1


def test_what_has_no_room_is_said() -> None:
    """What is asked for has room before what is not, and the marks always."""
    rows = [row(f"001-one/{n}", **{f"a_long_parameter_{k}": f"value {n}" for k in range(12)}) for n in range(3)]
    missing = board_table(rows, 80)[1]
    assert missing and missing[0].startswith("a_long") and board_table(rows, 300)[1] == []
    marked = [replace(one, flags=("other folds",)) for one in rows]
    assert "other folds" in printed(marked, 60, [f"exp.train.a_long_parameter_{k}" for k in range(12)])[-1]
    assert "value 2" in printed(rows, 80, ["exp.train.a_long_parameter_11"])[-1]


def test_failed_runs_are_out_of_the_way(root: Path) -> None:
    assert exp("board", "--failed").startswith("no runs yet in ")
    for number in range(5):
        (root / f"control/fail{number}").touch()
    with pytest.raises(Failed):
        command("exp.train.x=2").train()
    assert exp("board").splitlines() == ["no run to show", "1 failed or stopped: --failed"]
    for number in range(5):
        (root / f"control/fail{number}").unlink()
    command("exp.train.x=1").train()
    assert "anything" not in exp("board") and "anything" in exp("board", "--columns", "anything,x")
    lines = exp("board").splitlines()
    assert len(lines) == 3 and "x=1" in lines[1] and lines[2] == "1 failed or stopped: --failed"
    assert exp("board", "--filter", "x=2").splitlines() == ["no run to show", "1 failed or stopped: --failed"]
    for condition in ("x=1", "score>0", "quality>0", "x=1.0"):
        assert "failed" not in exp("board", "--filter", condition)
    failed = exp("board", "--failed")
    assert "x=2" in failed and "ValueError: planted" in failed and "x=1" not in failed
    (root / "control/fail4").touch()
    with pytest.raises(Failed):
        command("exp.train.x=2").train()
    assert "--failed" not in exp("board") and "fold 4 failed" in exp("board")
    assert "ValueError: planted" in exp("board", "--failed"), "also of a run with other folds"


def test_a_number_is_not_a_part_of_another() -> None:
    titles = [
        "003-net/001",
        "004-net/baseline,exp.train.lr=0.003",
        "001-net/003-wide",
        "005-net/v1003",
        "001-net/lr-0.003",
    ]
    rows = [Entry((run_of(title),)) for title in titles]

    def found(part: str) -> list[int]:
        return [rows.index(one) for one in filtered(rows, [part])]

    assert (found("003"), found("001"), found("0.003"), found("1003")) == ([0, 2], [0, 2, 4], [1, 4], [])
    short = short_names(titles)
    assert "~" in short[titles[1]] and [found(short[title]) for title in titles[1:]] == [[1], [2], [3], [4]]


def test_which_runs_are_within_noise_of_the_best(root: Path) -> None:
    command("exp.train.x=1").train()
    assert '"versus_best":"best"' in exp("board", "--noise", "--json") and "vs best" in exp("board", "--noise")
    assert '"versus_best"' not in exp("board", "--json")
    command("exp.train.x=2").train()
    for options in ([], ["--filter", "x=2"], ["--last", "1"]):
        told = exp("board", "--noise", *options)
        assert re.search(r"\nvs best: 2 runs of quality~\w+ taken into account\n", told), "also what is not shown"
    command("exp.seed=7", "exp.train.x=1").train()
    found = [row["versus_best"] for row in exp_json("board", "--all", "--noise", "--filter", "x=1")]
    assert found == ["best", "identical"], "it predicts the same"


def test_seeds_of_one_name_are_one_row() -> None:
    """With the means of all metrics; not a run of another name, whatever its values, and no blend."""

    def one(title: str, seed: int | None, score: float | None) -> Entry:
        config = {"blend": {}} if seed is None else {"exp": {"name": title[2], "seed": seed}}
        others = {"o": 2 * score} if score else {}
        return Entry((run_of(title, [], score=score, seed=seed, other_scores=others, config=config),))

    seeds = [one("a/x", 1, 0.5), one("a/x,exp.seed=2", 2, 0.7), one("a/x,exp.seed=3", 3, None)]
    others = [one("a/y", 2, 0.7), one("blends/b1", None, 1.0), one("blends/b2", None, 0.9)]
    [first, *rest] = grouped_by_seed([*seeds, *others])
    assert (first.run.title, first.score, first.values["seed"]) == ("a/x", pytest.approx(0.6), "2 seeds")
    assert first.other_scores == {"o": pytest.approx(1.2)}
    assert rest == [seeds[2], *others]


def test_a_field_that_is_new_divides_no_seeds(root: Path) -> None:
    """Its first default is what older runs had; another value is another configuration, be it the default by now."""
    with own_experiment(copy_of=LIGHT) as folder:
        text, old = (folder / "train.py").read_text(), "    x: float = 0.0\n"

        def train(field: str, *overrides: str) -> str:
            (folder / "train.py").write_text(text.replace(old, f"{old}    {field}\n"))
            load_experiment(folder.name, again=True)
            expkit.run(folder.name, overrides=["exp.fold=[0]", *overrides])
            return f"{folder.name}/{','.join(['light', *overrides])}"

        alike = {train(""), train("new: float = 0.5", "exp.seed=1")}
        others = {train("new: float = 0.5", "exp.seed=2", "exp.train.new=0.7"), train("new: float = 0.7", "exp.seed=3")}
        alike |= {train("new: float = 0.7", "exp.seed=4", "exp.train.new=0.5")}
        found = [{run.title for run in entry.runs} for entry in grouped_by_seed(entries(read_board()))]
        assert len(found) == 2 and alike in found and others in found
        assert {run.title for run in find_seeds(f"{folder.name}/light")} == alike


def test_each_class_of_a_choice_has_defaults_of_its_own(quick: Path) -> None:
    with own_experiment({"config.yaml": NETS_CONFIG, "train.py": NETS}) as folder:
        expkit.run(folder.name, overrides=["exp.fold=[0]", "model=wide"])
        text = NETS
        for name, depth in (("Deep", 1), ("Wide", 5)):
            text = text.replace(
                f"class {name}(ModelConfig):\n    pass", f"class {name}(ModelConfig):\n    depth: int = {depth}"
            )
        (folder / "train.py").write_text(text)
        load_experiment(folder.name, again=True)
        for seed, (model, depth) in enumerate((("deep", 1), ("wide", 1), ("wide", 5))):
            values = [f"model={model}", f"exp.model.depth={depth}", f"exp.seed={seed}"]
            expkit.run(folder.name, overrides=["exp.fold=[0]", *values])
        found = grouped_by_seed(entries(read_board()))
        alike = sorted(sorted(run.config.exp.model.get("depth", 0) for run in entry.runs) for entry in found)
        assert alike == [[0, 5], [1], [1]]


def test_a_key_that_is_taken_out_divides_seeds(root: Path) -> None:
    """Though all that is left of the dict has its default."""
    with own_experiment(copy_of=LIGHT) as folder:
        text, old = (folder / "train.py").read_text(), "    x: float = 0.0\n"
        new = '    new: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2})\n'
        (folder / "train.py").write_text(text.replace(old, old + new))
        for more in (["~exp.train.new.b"], ["exp.name=other"], ["exp.seed=2", "exp.name=other"]):
            expkit.run(folder.name, overrides=["exp.name=other", "exp.fold=[0]", "exp.seed=1", *more])
        found = [len(entry.runs) for entry in grouped_by_seed(entries(read_board()))]
        assert sorted(found) == [1, 2]


def test_a_run_whose_name_says_another_configuration_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the hundreds of a sweep begins so."""
    for x in (1, 2):
        command("exp.fold=[0]", f"exp.train.x={x}").train()
    read, read_run_info = list[str](), store.read_run_info
    monkeypatch.setattr(store, "read_run_info", lambda folder: read.append(folder.name) or read_run_info(folder))
    command("exp.fold=[0]", "exp.train.x=3").train()
    assert {*read} == {"light,exp.train.x=3"}


def test_a_configuration_counts_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A default that is written out makes another run, and it is said; for seeds, the one with most folds counts."""
    command("exp.fold=[0]").train()
    assert capsys.readouterr().err == ""
    command("exp.train.x=0").train()
    said = "002-light/light has the same configuration: exp board --seeds counts one of the two"
    assert capsys.readouterr().err == f"warning: {said}\n"
    command("exp.seed=1", "exp.train.x=0.0").train()
    command("exp.train.x=0").train()
    command("exp.debug=true", "exp.seed=0").train()
    command("exp.name=other").train()  # as after an edit of the code
    assert capsys.readouterr().err == "", "another seed; the same command once more; a quick try; another name"
    command("exp.seed=0", "exp.runtime.tags=[a]").train()
    assert capsys.readouterr().err.count("has the same configuration") == 1
    assert len(exp_json("board", "--all")) == 5
    folds_done = {row["seed"]: row["folds_done"] for row in exp_json("board", "--all", "--seeds")}
    assert folds_done == {"2 seeds": 10, 0: 5}
    assert [(run.seed, len(run.done)) for run in find_seeds("light")] == [(0, 5), (1, 5)]
