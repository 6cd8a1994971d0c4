"""Notes on runs: they outlive the runs, merge, and are shown wherever a run is."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import command
from conftest import GIT, ROOT, call, commit_all
from experiments import own_experiment
from helpers import counting, exp, exp_json
from light import LIGHT

import expkit
from expkit.board import entries
from expkit.errors import Error, NotFound
from expkit.notes import KAGGLE, Notes, add_note, agreement, read_notes


def noted(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exp_json("note", *arguments, "--all")["runs"]
    return found


def test_a_hypothesis_before_and_a_verdict_after(root: Path, notes: Path) -> None:
    exp("note", "002/light", "--hypothesis", "it is 10", "--tag", "idea")
    assert noted("002/light")[0]["exists"] is False
    command().train()
    exp("note", "light", "as expected", "--kept", "--lb", "0.81", "--tag", "sure")
    [about] = noted("light")
    assert about["run"] == f"{LIGHT}/light" and about["exists"]
    assert (about["hypothesis"], about["verdict"], about["leaderboard"]) == ("it is 10", "kept", 0.81)
    assert about["tags"] == ["idea", "sure"] and about["scores"] == {"quality": 10.0}
    assert [line.get("text") for line in about["notes"]] == [None, "as expected"]

    [row] = exp_json("board", "--all")
    said = {"leaderboard": 0.81, "verdict": "kept", "tags": ["idea", "sure"], "note": "as expected"}
    assert {key: row[key] for key in said} == said
    shown = exp_json("show", "light", "--all")
    assert shown["notes"] == about["notes"] and shown["verdict"] == "kept"
    for printed in (exp("show", "light"), exp("note", "light")):
        assert "hypothesis: it is 10" in printed and "as expected" in printed
    assert "0.8100" in exp("board") and "kept" in exp("board")
    assert len(exp_json("board", "--all", "--filter", "verdict=kept", "--filter", "tags=idea")) == 1
    assert exp_json("board", "--all", "--filter", "tags!=idea") == []

    exp("note", "light", "--dropped")
    assert noted("light")[0]["verdict"] == "dropped", "what is said last counts"
    [about] = exp_json("note", "light", "again", "--all")["runs"]  # the last line, and what the run has by then
    assert (about["verdict"], about["leaderboard"], len(about["notes"])) == ("dropped", 0.81, 1)


def test_notes_outlive_their_run(root: Path, notes: Path) -> None:
    """And take more; with the score that the run had."""
    command(x=1.0).train()
    exp("note", "light", "good")
    shutil.rmtree(counting(root).parent)
    [about] = noted()
    assert (about["run"], about["exists"], about["scores"]) == (f"{LIGHT}/light", False, {"quality": 10.0})
    exp("note", f"{LIGHT}/light", "was it?", "--lb", "0.5")
    assert [line["text"] for line in noted(f"{LIGHT}/light")[0]["notes"]] == ["good", "was it?"]
    assert "no run" in exp("note")


def test_a_note_on_a_run_whose_record_is_broken(root: Path, notes: Path) -> None:
    command(x=1.0).train()
    (counting(root) / "run.json").write_text("{")
    assert "verdict: kept" in exp("note", "light", "all the same", "--kept")


def test_what_can_be_noted(root: Path, notes: Path) -> None:
    exp("note", "002", "all of this is about light")
    assert noted()[0]["run"] == f"{LIGHT}/"
    assert json.loads((notes / f"{LIGHT}.jsonl").read_text())["run"] == ""
    before = (notes / f"{LIGHT}.jsonl").read_bytes()
    for arguments, error, message in (
        (["lihgt", "x"], NotFound, "no run is called lihgt|there are no runs"),
        (["002", "--tag", "two words"], Error, "one word, without # and comma, not 'two words'"),
        (["002/light", "--lb", "nan"], Error, "cannot be noted"),
        (["002", "x", "--kept"], Error, f"^{LIGHT} is an experiment: name one of its runs, none yet$"),
    ):
        with pytest.raises(error, match=message):
            exp("note", *arguments)
    assert (notes / f"{LIGHT}.jsonl").read_bytes() == before


def test_the_same_note_is_added_once(root: Path, notes: Path) -> None:
    """That is said; after another note, it is added again."""
    command().train()
    for text, lines, is_known in (("good", 1, False), ("good", 1, True), ("bad", 2, False), ("good", 3, False)):
        said = exp("note", "002/light", text, "--kept", "--lb", "0.5")
        assert len(noted("002/light")[0]["notes"]) == lines
        assert ("this was noted before, nothing is added" in said) == is_known


def test_a_leaderboard_score_is_taken_back(root: Path) -> None:
    exp("note", "002/light", "--lb", "0.81")
    assert "leaderboard: taken back" in exp("note", "002/light", "--no-lb")
    [about] = noted()
    assert about["leaderboard"] is None and len(about["notes"]) == 2
    every = [Notes(f"001-one/{number}", (line,)) for number, line in enumerate(about["notes"])]
    assert agreement([*every, *every], {}) == {}


def test_the_score_of_kaggle_is_there_again(root: Path) -> None:
    """When a score that was written over it is taken back; then it can be taken back itself."""
    command().train()
    for score in (0.70, 0.72709):
        add_note("002-light/light", {"leaderboard": score, "text": f"{KAGGLE} digits, submission 1000"})
    exp("note", "002/light", "--lb", "0.5")
    exp("note", "002/light", "--lb", "0.6")
    for name in ("lb", "LB"):
        shown = [exp("board", "--filter", f"{name}<{most}", "--json") for most in (0.55, 0.65)]
        assert [json.loads(each) == [] for each in shown] == [True, False]
    for expected in (0.72709, None, None):
        exp("note", "002/light", "--no-lb")
        assert noted("002/light")[0]["leaderboard"] == expected
    exp("note", "002/light", "--lb", "0.5")
    exp("note", "002/light", "--no-lb")
    assert noted("002/light")[0]["leaderboard"] is None, "it was taken back before"


def test_a_run_that_is_called_like_its_experiment(root: Path) -> None:
    """The name means the run, as for `exp show`; the whole name, or the number, means the experiment."""
    exp("note", "light", "nothing is trained yet")
    command().train()
    exp("note", "light", "good", "--lb", "0.8", "--kept")
    exp("note", LIGHT, "about all of it")
    exp("note", "002", "and more")
    said = {each["run"]: [line["text"] for line in each["notes"]] for each in noted()}
    assert said == {
        f"{LIGHT}/": ["nothing is trained yet", "about all of it", "and more"],
        f"{LIGHT}/light": ["good"],
    }
    for option in ("--lb=0.8", "--no-lb", "--kept", "--dropped"):
        with pytest.raises(Error, match=f"^{LIGHT} is an experiment: name one of its runs, {LIGHT}/light$"):
            exp("note", LIGHT, "good", option)
    command("exp.name='002'").train()
    exp("note", "002", "the run")
    assert noted(f"{LIGHT}/002")[0]["notes"][0]["text"] == "the run"


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


def test_after_a_clock_that_was_ahead(notes: Path) -> None:
    """What is said later counts; a time that is none is in nobody's way."""
    notes.mkdir(exist_ok=True)
    ahead = {"run": "a", "time": "2099-01-01T00:00:00.999+00:00", "verdict": "kept", "text": "ahead"}
    (notes / "001-one.jsonl").write_text(json.dumps(ahead) + "\n")
    for text in ("later", "last"):
        add_note("001-one/a", {"verdict": "dropped", "text": text})
    assert texts() == ["ahead", "later", "last"] and read_notes()["001-one/a"].is_dropped
    for wrong in ("soon", "2099-01-01T00:00:00", "9999-12-31T23:59:59.999+00:00"):
        (notes / "001-one.jsonl").write_text(json.dumps(ahead | {"time": wrong}) + "\n")
        add_note("001-one/a", {"text": "now"})
        assert min(line["time"] for line in read_notes()["001-one/a"].lines) < "2099"


def test_processes_that_note_at_the_same_time(tmp_path: Path) -> None:
    """No line is lost or mixed with another."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_add, [(number, tmp_path) for number in range(4)], chunksize=1)
    found = texts(tmp_path)
    assert sorted(text.split(" x")[0] for text in found) == sorted(f"{a} {b}" for a in range(4) for b in range(50))


def test_cv_and_the_leaderboard() -> None:
    """From three runs on, with the CV score of the day of the note."""
    numbers = ((10.0, 0.9), (9.0, 0.8), (8.0, 0.7), (7.0, 0.95))
    lines = [{"scores": {"quality": cv}, "leaderboard": board, "time": ""} for cv, board in numbers]
    every = [Notes(f"001-one/{number}", (line,)) for number, line in enumerate(lines)]
    assert agreement(every[:2], {}) == {}
    assert agreement(every[:3], {}) == {"quality": {"runs": 3, "correlation": pytest.approx(1.0)}}
    found = agreement(every, {})["quality"]
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
            [about] = noted(two)
            assert (about["run"], about["origin"]) == (f"{folder.name}/{name}", one)
            assert about["hypothesis"] == "larger is better"
        assert [about["run"] for about in noted()] == [one, f"{two}-larger"]
        assert exp("note").count("no run") == 2
        expkit.run(folder.name, overrides=["exp=002"])
        [entry] = entries(expkit.read_board())
        assert (entry.run.name, entry.notes.last("origin")) == ("002-larger", one)
        file.write_text(text.replace('name: "002"', "name: 002-next"))
        assert read_notes()[f"{two}-larger"].last("hypothesis") == "larger is better", "it was trained under this name"
        exp("note", two, "--hypothesis", "the next one is better")
        assert read_notes()[f"{two}-next"].last("hypothesis") == "the next one is better"
        shutil.rmtree(root / "output")
        file.unlink()
        assert read_notes()[two].last("hypothesis") == "larger is better", "as it was noted"


def renamed(folder: Path, old: str, new: str, name: str) -> None:
    """Rename the file of a parameter set, and set the name in it, without quotes."""
    file = folder / f"exp/{new}.yaml"
    (folder / f"exp/{old}.yaml").rename(file)
    file.write_text(re.sub(r"^name: .*", f"name: {name}", file.read_text(), flags=re.M))


def origins() -> dict[str, str]:
    """Of which run each origin is noted, by the origin."""
    origin = {title.partition("/")[2]: notes.last("origin") for title, notes in read_notes().items()}
    return {text.rpartition("/")[2]: run for run, text in origin.items() if text}


def test_a_note_stays_with_a_file_that_is_renamed(root: Path, notes: Path) -> None:
    """`git mv exp/002.yaml exp/003.yaml`, and another name in it: before it is trained, and after."""
    with own_experiment(copy_of=LIGHT) as folder:
        exp("new", f"{folder.name}/001")
        exp("new", f"{folder.name}/002", "--from", "001")
        (folder / "exp/002.yaml").rename(folder / "exp/003.yaml")
        assert origins() == {"config.yaml": "001", "001": "002"}, "the name in it is as it was"
        renamed(folder, "003", "003", "003-large")
        assert origins() == {"config.yaml": "001", "001": "003-large"}
        exp("note", f"{folder.name}/003", "--hypothesis", "larger is better")
        exp("new", f"{folder.name}/002", "--from", "003")  # another one of that number
        expkit.run(folder.name, overrides=["exp=002"])
        assert origins() == {"config.yaml": "001", "001": "003-large", "003": "002"}
        renamed(folder, "003", "004", "004-larger")
        [about] = noted(f"{folder.name}/004")
        assert (about["origin"], about["hypothesis"]) == (f"{folder.name}/001", "larger is better")
        expkit.run(folder.name, overrides=["exp=004"])
        trained = {"config.yaml": "001", "001": "004-larger", "003": "002"}
        assert origins() == trained
        assert exp_json("show", "004-larger", "--all")["notes"] == about["notes"]
        renamed(folder, "004", "005", "005-largest")
        renamed(folder, "002", "006", "006-small")
        assert origins() == trained, "they were trained under these names"
        exp("note", f"{folder.name}/005", "--hypothesis", "the next one is better")
        expkit.run(folder.name, overrides=["exp=005"])
        assert read_notes()[f"{folder.name}/005-largest"].last("hypothesis") == "the next one is better"
        assert origins() == trained


def test_a_note_on_a_file_that_is_copied_by_hand(root: Path, notes: Path) -> None:
    """It stays with the file of its name; without that or its line, with the name as it was noted."""
    with own_experiment(copy_of=LIGHT) as folder:
        exp("new", f"{folder.name}/002")
        for number in ("003", "004"):
            shutil.copy(folder / "exp/002.yaml", folder / f"exp/{number}.yaml")
            renamed(folder, number, number, f"{number}-copy")
        renamed(folder, "002", "002", "002-large")
        assert origins() == {"config.yaml": "002-large"}
        (folder / "exp/002.yaml").unlink()
        assert origins() == {"config.yaml": "002"}, "nobody knows which of the two"
        (folder / "exp/004.yaml").unlink()
        (folder / "exp/003.yaml").write_text("name: 003-copy\n")
        assert origins() == {"config.yaml": "002"}
        (folder / "exp/002.yaml").write_text("name: 002-next\n")
        assert origins() == {"config.yaml": "002-next"}


def test_a_note_is_on_a_version_of_a_run(root: Path, notes: Path) -> None:
    """Its leaderboard score goes with the CV score of that day, and the board says that it is an old one."""
    for number, x in enumerate((1.0, 10.0, 0.1)):
        command(f"exp.name=v{number}", "exp.fold=[0]", x=x).train()
        exp("note", f"{LIGHT}/v{number}", "--lb", str([0.9, 0.5, 0.4][number]))
    before = exp("note").splitlines()[-1]
    assert before.startswith("CV quality and leaderboard of 3 runs: correlation 0.")
    command("exp.name=v0", "exp.fold=[0]", "overwrite=true", x=40.0).train()
    [row] = [entry for entry in entries(expkit.read_board()) if entry.run.name == "v0"]
    assert row.score is not None and row.score < 9
    assert row.marks == ("partial", "noted on an earlier version") and exp("note").splitlines()[-1] == before
    command("exp.name=v1", "exp.fold=[0]", "overwrite=true", x=10.0).train()  # to the same score
    exp("note", f"{LIGHT}/v0", "--lb", "0.9")
    assert all(entry.marks == ("partial",) for entry in entries(expkit.read_board()))


def test_a_note_may_hold_any_text(notes: Path) -> None:
    """What Python, and no line of JSON, takes for the end of a line; and half a character."""
    for text in ("a\u2028b", "a\x85b", "a\nb\x0cc", "a\udcffb"):
        add_note("001-one/a", {"text": text})
    assert texts() == ["a\u2028b", "a\x85b", "a\nb\x0cc", "a\udcffb"]


def test_branches_that_both_note_merge_by_themselves(tmp_path: Path) -> None:
    def note_on(branch: str) -> None:
        add_note("001-one/a", {"text": branch}, tmp_path / "notes")
        commit_all(tmp_path)

    shutil.copy(ROOT / "template/.gitattributes", tmp_path)
    note_on("main")
    call("git", "checkout", "-qb", "other", cwd=tmp_path)
    note_on("other")
    call("git", "checkout", "-q", "main", cwd=tmp_path)
    note_on("main again")
    call(*GIT, "merge", "-q", "other", cwd=tmp_path)
    assert texts(tmp_path / "notes") == ["main", "other", "main again"], "by their time"
