"""Notes on runs: they outlive the runs, merge, and are shown wherever a run is."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import command
from conftest import GIT, ROOT, call, commit_all
from experiments import own_experiment
from helpers import counting, exp
from light import LIGHT

import expkit
from expkit.board import entries
from expkit.errors import Error, NotFound
from expkit.notes import add_note, read_notes


def noted(*arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(exp("note", *arguments, "--json"))
    return content


def test_a_hypothesis_before_and_a_verdict_after(root: Path, notes: Path) -> None:
    exp("note", "002/light", "--hypothesis", "it is 10", "--tag", "idea")
    assert noted("002/light")["runs"][0]["exists"] is False
    command().train()
    exp("note", "light", "as expected", "--kept", "--lb", "0.81", "--tag", "sure")
    [about] = noted("light")["runs"]
    assert about["run"] == f"{LIGHT}/light" and about["exists"]
    assert (about["hypothesis"], about["verdict"], about["leaderboard"]) == ("it is 10", "kept", 0.81)
    assert about["tags"] == ["idea", "sure"] and about["scores"] == {"quality": 10.0}
    assert [line.get("text") for line in about["notes"]] == [None, "as expected"]

    [row] = json.loads(exp("board", "--json"))
    assert (row["leaderboard"], row["verdict"], row["tags"], row["note"]) == (
        0.81,
        "kept",
        ["idea", "sure"],
        "as expected",
    )
    [found] = entries(expkit.read_board())
    assert found.notes.lines == tuple(about["notes"])
    shown = json.loads(exp("show", "light", "--json"))
    assert shown["notes"] == about["notes"] and shown["verdict"] == "kept"
    for printed in (exp("show", "light"), exp("note", "light")):
        assert "hypothesis: it is 10" in printed and "as expected" in printed
    assert "0.8100" in exp("board") and "kept" in exp("board")
    assert len(json.loads(exp("board", "--json", "--filter", "verdict=kept", "--filter", "tags=idea"))) == 1
    assert json.loads(exp("board", "--json", "--filter", "tags!=idea")) == []

    exp("note", "light", "--dropped")
    assert noted("light")["runs"][0]["verdict"] == "dropped", "what is said last counts"


def test_notes_outlive_their_run(root: Path, notes: Path) -> None:
    """And take more; with the score that the run had."""
    command(x=1.0).train()
    exp("note", "light", "good")
    shutil.rmtree(counting(root).parent)
    [about] = noted()["runs"]
    assert (about["run"], about["exists"], about["scores"]) == (f"{LIGHT}/light", False, {"quality": 10.0})
    exp("note", f"{LIGHT}/light", "was it?", "--lb", "0.5")
    assert [line["text"] for line in noted(f"{LIGHT}/light")["runs"][0]["notes"]] == ["good", "was it?"]
    assert "no run" in exp("note")


def test_what_can_be_noted(root: Path, notes: Path) -> None:
    exp("note", "002", "all of this is about light")
    assert noted()["runs"][0]["run"] == f"{LIGHT}/"
    assert json.loads((notes / f"{LIGHT}.jsonl").read_text())["run"] == ""
    before = (notes / f"{LIGHT}.jsonl").read_bytes()
    for arguments, error, message in (
        (["lihgt", "x"], NotFound, "no run is called lihgt|there are no runs"),
        (["002/004", "x"], NotFound, "no run is called 002/004|there are no runs"),
        (["002", "x", "--kept", "--dropped"], Error, "only one of --kept and --dropped"),
        (["002", "--tag", "two words"], Error, "one word, without # and comma, not 'two words'"),
        (["002", "--lb", "nan"], Error, "cannot be noted"),
    ):
        with pytest.raises(error, match=message):
            exp("note", *arguments)
    assert (notes / f"{LIGHT}.jsonl").read_bytes() == before


def test_a_line_that_is_no_note_is_said_and_left_out(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_note("001-one/a", {"text": "fine"})
    file = notes / "001-one.jsonl"
    file.write_text(
        file.read_text() + '<<<<<<< HEAD\n{"run": 3}\n[[[[\n\n{"run": "a", "time": "x", "leaderboard": NaN}'
    )
    add_note("001-one/a", {"text": "after an edit"})
    assert texts() == ["fine", "after an edit"]
    assert ", line 2 is not a note, and is left out, as are 3 more\n" in capsys.readouterr().err


def texts(folder: Path | None = None) -> list[str]:
    return [line["text"] for line in read_notes(folder)["001-one/a"].lines]


def _add(number: int, folder: Path) -> None:
    for count in range(50):
        add_note("001-one/a", {"text": f"{number} {count} " + "x" * 5000}, folder)


def test_processes_that_note_at_the_same_time(tmp_path: Path) -> None:
    """No line is lost or mixed with another."""
    processes = [
        multiprocessing.get_context("fork").Process(target=_add, args=(number, tmp_path)) for number in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = texts(tmp_path)
    assert sorted(text.split(" x")[0] for text in found) == sorted(f"{a} {b}" for a in range(4) for b in range(50))


def test_cv_and_the_leaderboard(root: Path, notes: Path) -> None:
    """From three runs on: of 10, 9.5 and 8, the leaderboard has the order, and not the distances."""
    for x, board in ((1, 0.9), (10, 0.8), (0.1, 0.8)):
        expkit.run(LIGHT, overrides=[f"exp.train.x={x}"])
        if x == 0.1:
            assert noted()["leaderboard"] == {}
        exp("note", f"light,exp.train.x={x}", "--lb", str(board))
    found = noted()["leaderboard"]["quality"]
    assert found == {"runs": 3, "correlation": pytest.approx(1.0)}
    assert "CV quality and leaderboard of 3 runs: correlation 1.00\n" in exp("note")
    expkit.run(LIGHT, overrides=["exp.train.x=50"])
    exp("note", "light,exp.train.x=50", "--lb", "0.95")
    found = noted()["leaderboard"]["quality"]
    assert found["runs"] == 4 and -1 < found["correlation"] < 0


def test_a_note_stays_with_its_parameter_set(root: Path, notes: Path) -> None:
    """Until it is trained: `name` in its file is edited after `exp new`, and so no note is of a run that never was."""
    with own_experiment(copy_of=LIGHT) as folder:
        one, two = (f"{folder.name}/{number}" for number in ("001", "002"))
        exp("new", one)
        exp("new", two, "--from", "001")
        exp("note", two, "--hypothesis", "larger is better")
        file = folder / "exp/002.yaml"
        text = file.read_text()
        for name in ("002-large", "002-larger"):
            file.write_text(text.replace('name: "002"', f"name: {name}"))
            [about] = noted(two)["runs"]
            assert (about["run"], about["origin"]) == (f"{folder.name}/{name}", one)
            assert about["hypothesis"] == "larger is better"
        assert [about["run"] for about in noted()["runs"]] == [one, f"{two}-larger"]
        assert exp("note").count("no run") == 2
        add_note(two, {"text": "of an earlier expkit"})
        assert [about["run"] for about in noted()["runs"]] == [one, f"{two}-larger", two]
        expkit.run(folder.name, overrides=["exp=002"])
        [entry] = entries(expkit.read_board())
        assert (entry.run.name, entry.notes.last("origin")) == ("002-larger", one)
        expkit.run(folder.name, overrides=["exp=001"])
        exp("note", one, "as good")
        (folder / "exp/001.yaml").write_text("name: another\n")
        assert noted(one)["runs"][0]["origin"] == f"{folder.name}/config.yaml", "what is trained keeps its notes"
        file.write_text(text.replace('name: "002"', "name: 002-next"))
        assert read_notes()[f"{two}-larger"].last("hypothesis") == "larger is better", "it was trained under this name"
        exp("note", two, "--hypothesis", "the next one is better")
        assert noted(two)["runs"][0]["run"] == f"{two}-next"
        assert read_notes()[f"{two}-next"].last("hypothesis") == "the next one is better"
        shutil.rmtree(root / "output")
        file.unlink()
        assert read_notes()[two].last("hypothesis") == "larger is better", "as it was noted"


def test_a_note_is_on_a_version_of_a_run(root: Path, notes: Path) -> None:
    """Its leaderboard score goes with the CV score of that day, and the board says that it is an old one."""
    for number, x in enumerate((1.0, 10.0, 0.1)):
        command(f"exp.name=v{number}", x=x).train()
        exp("note", f"{LIGHT}/v{number}", "--lb", str([0.9, 0.5, 0.4][number]))
    before = noted()["leaderboard"]
    command("exp.name=v0", "overwrite=true", x=40.0).train()
    [row] = [entry for entry in entries(expkit.read_board()) if entry.run.name == "v0"]
    assert row.score is not None and row.score < 9
    assert row.marks == ("noted on an earlier version",) and noted()["leaderboard"] == before
    exp("note", f"{LIGHT}/v0", "--lb", "0.9")
    assert all(entry.marks == () for entry in entries(expkit.read_board()))


def test_a_note_may_hold_any_text(notes: Path) -> None:
    """What Python, and no line of JSON, takes for the end of a line; and half a character."""
    for text in ("a\u2028b", "a\x85b", "a\nb\x0cc", "a\udcffb"):
        add_note("001-one/a", {"text": text})
    assert texts() == ["a\u2028b", "a\x85b", "a\nb\x0cc", "a\udcffb"]


def test_branches_that_both_note_merge_by_themselves(tmp_path: Path) -> None:
    shutil.copy(ROOT / "template/.gitattributes", tmp_path)
    add_note("001-one/a", {"text": "before"}, tmp_path / "notes")
    commit_all(tmp_path)
    call("git", "checkout", "-qb", "other", cwd=tmp_path)
    add_note("001-one/a", {"text": "there"}, tmp_path / "notes")
    commit_all(tmp_path)
    call("git", "checkout", "-q", "main", cwd=tmp_path)
    add_note("001-one/a", {"text": "here", "verdict": "kept"}, tmp_path / "notes")
    commit_all(tmp_path)
    call(*GIT, "merge", "-q", "other", cwd=tmp_path)
    lines = read_notes(tmp_path / "notes")["001-one/a"].lines
    assert [line["text"] for line in lines] == ["before", "there", "here"], "by their time"
