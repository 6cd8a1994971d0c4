"""What a person sees of a run, or of two, a program gets: `exp show --json`, `exp diff --json`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from commands import command
from conftest import EXP, call, commit_all
from helpers import counting, environment_of, exp, exp_json, load, short
from light import LIGHT

import expkit

NAN = float("nan")


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def log(fold: expkit.Fold) -> None:
    for epoch in fold.epochs(4):
        fold.log(loss=NAN if epoch == 2 else 1 / epoch)


@pytest.fixture
def run(root: Path) -> Path:
    """A run of two folds of five, with curves that have a hole."""
    (root / "input/train.csv").write_text("1,2\n")
    command("exp.fold=[0,2]", "exp.train.x=2", "exp.name=a", during=log).train()
    return counting(root, "a,exp.train.x=2")


def test_show_gives_a_program_what_it_shows(run: Path) -> None:
    """Scores, folds, configuration, origin, curve, as they lie on the disk, and as they are printed."""
    found, shown = exp_json("show", "a,exp", "--all"), words(exp("show", "a,exp"))
    assert (found["experiment"], found["run"], found["folder"]) == (LIGHT, "a,exp.train.x=2", str(run))
    assert found["config"]["exp.train.x"] == 2.0 and found["config"]["exp.name"] == "a"
    for key, value in found["config"].items():
        assert [key, *str(value).split()] in shown
    results = {number: load(run / f"fold{number}/result.json") for number in (0, 2)}
    assert found["scores"]["quality"]["score"] == found["score"] == short(results[0]["scores"]["quality"])
    assert found["marks"] == ["partial"] and ["partial"] in shown
    assert (found["folds_done"], found["n_folds"], found["rows"]) == (2, 5, 2)
    assert found["folds"].keys() == {"0", "2"}
    for number, result in results.items():
        fold = found["folds"][str(number)]
        assert fold == short({key: result[key] for key in ("scores", "values", "rows", "seconds", "finished")})
        [line] = [line for line in shown if line[:2] == [str(number), f"{fold['scores']['quality']:.4f}"]]
        assert str(fold["values"]["pid"]) in line
    origin = found["origin"]
    assert origin["command"] is None and ["command", "expkit.run(...),", "from", "Python"] in shown
    assert origin["git"] == results[0]["git"] and origin["on"] == [results[0]["environment"]]
    assert any(line[0] == "code" and line[2] == origin["git"]["commit"][:12] for line in shown if line)
    points = [[1, 1.0], [3, 0.333333], [4, 0.25]]
    curve = {"axis": "epoch", "metric": "loss", "greater_is_better": None, "folds": {"0": points, "2": points}}
    assert found["curve"] == curve
    assert found["full"] is None and found["blend"] is None


def test_show_a_run_that_has_nothing_or_is_trained_on_all_rows(root: Path) -> None:
    (root / f"output/{LIGHT}/stray").mkdir(parents=True)
    found = exp_json("show", "stray", "--all")
    assert found["marks"] == ["no run.json"]
    assert (found["score"], found["folds"], found["origin"], found["curve"]) == (None, {}, None, None)
    expkit.run(LIGHT, overrides=["exp.mode=sub"])
    full = exp_json("show", f"{LIGHT}/light", "--all")["full"]
    assert Path(full["submission"]) == counting(root) / "full/submission.csv"
    assert full["seconds"] == short(load(counting(root) / "full/result.json")["seconds"])
    shown = exp("show", f"{LIGHT}/light")
    assert "submission.csv" in shown and "no snapshot" not in shown and "unknown" not in shown


def test_show_and_diff_of_a_blend(root: Path) -> None:
    """The weights, as `exp blend --json` has them; the code of a blend is that of its runs."""
    for name, x in (("a", "1"), ("b", "4")):
        expkit.run(LIGHT, overrides=[f"exp.name={name}", f"exp.train.x={x}"])
    made = exp_json("blend", f"{LIGHT}/a,exp.train.x=1", f"{LIGHT}/b,exp.train.x=4", "--name", "both")
    blend = exp_json("show", "both", "--all")["blend"]
    assert blend["weights"] == made["weights"] == dict.fromkeys(blend["weights"], 0.5)
    assert [["0.5000", name] in words(exp("show", "both")) for name in blend["weights"]] == [True, True]
    difference, shown = exp_json("diff", "a,exp", "both"), exp("diff", "a,exp", "both")
    alone = {
        side: [key for key, sides in difference["config"].items() if sides.keys() == {side}] for side in ("old", "new")
    }
    assert f"configuration, of the old one alone: {alone['old'][0]}=" in shown and len(alone["old"]) > 2
    assert all(f" {key}=" in shown for keys in alone.values() for key in keys)
    assert difference["code"] == {"same": None, "reason": "a blend has none of its own, but that of its runs"}


def test_diff_gives_a_program_what_it_shows(run: Path, root: Path) -> None:
    """Configuration, scores, marks, data and code; a side that lacks a value is not there."""
    (root / "input/train.csv").write_text("1,2\n3,4\n")
    command("exp.train.x=4", "exp.name=b").train()
    found, text = exp_json("diff", "a,exp", "b,exp"), exp("diff", "a,exp", "b,exp")
    assert found["old"]["run"] == f"{LIGHT}/a,exp.train.x=2" and found["old"]["folder"] == str(run)
    assert found["config"]["exp.train.x"] == {"old": 2.0, "new": 4.0}
    assert "exp.fold" not in found["config"], "which folds were asked for, the scores say"
    for key, sides in found["config"].items():
        assert re.search(rf"{re.escape(f'{key} ')} *{re.escape(str(sides['old']))} +→ ", text), key
    scores = found["scores"]
    assert scores["metric"] == "quality" and scores["folds"].keys() == set("01234")
    assert scores["folds"]["1"].keys() == {"new"}
    new = short(load(counting(root, "b,exp.train.x=4") / "fold0/result.json")["scores"]["quality"])
    assert scores["folds"]["0"] == {"old": exp_json("show", "a,exp", "--all")["score"], "new": new}
    assert re.search(rf"^0 +{scores['folds']['0']['old']:.4f} +{new:.4f} +-", text, re.M)
    assert "CV" not in scores and "CV" not in text, "the two are of different rows"
    assert found["old"]["marks"] == ["partial"] and f"{found['old']['run']}: partial" in text
    assert found["packages"] == found["machine"] == {}
    assert found["data"] == {"same": False, "changes": ["train.csv: 4 → 8 bytes"]}
    assert "train.csv: 4 → 8 bytes" in text and "bytes" not in exp("diff", "a,exp", "a,exp")
    assert found["code"] == {"same": True}
    alike = exp_json("diff", "a,exp", "a,exp")
    assert alike["config"] == {} and alike["data"] == {"same": True, "changes": []}
    assert alike["scores"]["CV"] == dict.fromkeys(["old", "new"], exp_json("show", "a,exp", "--all")["score"])


def test_mixed_data(run: Path, root: Path) -> None:
    """A diff names the file, whichever of the two is mixed; the data of a run say which folds had which."""
    (root / "input/train.csv").write_text("1,2\n3,4\n")
    command("exp.fold=[1]", "exp.name=a", "exp.train.x=2").train()
    (root / "input/train.csv").write_text("1,2\n")
    command("exp.fold=[0]", "exp.name=c").train()
    for pair in (("a,exp", f"{LIGHT}/c"), (f"{LIGHT}/c", "a,exp")):
        found = exp_json("diff", *pair)["data"]
        assert found["same"] is False and [line.partition(":")[0] for line in found["changes"]] == ["train.csv"]
    rows = [(row["file"], row["state"], row["folds"]) for row in exp_json("data", "a,exp")]
    assert rows == [("train.csv", "here", [0, 2]), ("train.csv", "other", [1])]
    assert re.search(r"train.csv +8 bytes +other +fold 1 *\n", exp("data", "a,exp"))


def test_a_diff_says_what_nobody_knows(run: Path, root: Path) -> None:
    """The files of the data are not known: null, and not an empty list."""
    (root / "input/train.csv").write_text("1,2\n3,4\n")
    command("exp.fold=[0]", "exp.name=c").train()
    shutil.rmtree(root / "output/.data")
    assert exp_json("diff", "a,exp", f"{LIGHT}/c")["data"] == {"same": False, "changes": None}
    assert "it is not known which files" in exp("diff", "a,exp", f"{LIGHT}/c")


def test_the_code_in_a_diff_has_no_colours(clone: Path, root: Path) -> None:
    """The lines of the experiment's folder, as a patch, and the names of other files; notes are no code."""
    environment = environment_of(clone, PROJECT_ROOT=str(root))
    for name in ("before", "after"):
        train = [sys.executable, clone / f"experiments/{LIGHT}/train.py", "exp.fold=[0]", f"exp.name={name}"]
        call(*train, cwd=clone, env=environment)
        (clone / f"experiments/{LIGHT}/model.py").open("a").write("\n# another thought\n")
        (clone / "README.md").write_text("new words\n")
        (clone / "experiments/777-other").mkdir(exist_ok=True)
        (clone / "experiments/777-other/train.py").write_text(f"# {name}\n")
        (clone / "notes").mkdir(exist_ok=True)
        (clone / "notes/a.jsonl").write_text("{}\n")
        commit_all(clone)
    diff = [sys.executable, *EXP, "diff", "before", "after", "--code", "--json"]
    code = json.loads(call(*diff, cwd=clone, env=environment).stdout)["code"]
    assert code["same"] is False and "\n+# another thought" in code["experiment"]
    assert "README.md" in code["other_files"] and "README.md" not in code["experiment"]
    assert "notes" not in code["other_files"] and "777-other" not in code["other_files"], "it imports none of them"
