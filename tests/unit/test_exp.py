"""The command `exp`, the board, and loaded runs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import EXP, call
from experiments import own_experiment
from helpers import HEAVY, counting, environment_of, exp, exp_json, imported, in_clone, load, refused
from light import LIGHT, edited

import expkit
from expkit import files, store
from expkit.cli import app
from expkit.cli.work import FRAMEWORKS
from expkit.config import id_of
from expkit.new import BASELINES, NEEDS

BASELINE = "001-baseline"
QUICK = "exp.train.epochs=3"
BEST, SECOND, SEED, PART = (
    "001-larger-lr",
    f"002-larger-model,{QUICK}",
    f"002-larger-model,exp.seed=1,{QUICK}",
    f"001-larger-lr,{QUICK}",
)


@pytest.fixture(scope="module")
def shop(module_root: Path) -> Path:
    """A PROJECT_ROOT with runs: two parameter sets, two seeds, a partial one, a broken one, a stray folder, debug."""
    root = module_root
    everything = ["exp.fold=null"]
    for overrides in (
        ["exp=001", *everything],
        ["exp=002", QUICK, *everything],
        ["exp=002", QUICK, "exp.seed=1", *everything],
        ["exp=001", QUICK, "exp.fold=[0,1]"],
        ["exp.debug=true"],
    ):
        expkit.run(BASELINE, overrides=overrides)
    broken = root / f"output/{BASELINE}/broken"
    shutil.copytree(root / f"output/{BASELINE}/{BEST}", broken)
    (broken / "cv.json").write_text("{")
    (broken / "fold1/result.json").write_text("")
    (root / f"output/{BASELINE}/stray").mkdir()
    return root


def board(*arguments: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(exp("board", "--json", "--all", *arguments))
    return content


# The board


def test_board(shop: Path) -> None:
    """Every run with what cv.json says, complete ones first, best first; debug runs are not there."""
    found = {row["run"]: row for row in board()}
    assert set(found) == {BEST, SECOND, SEED, PART, "broken", "stray"}
    assert board()[0]["run"] == BEST
    cv = load(shop / f"output/{BASELINE}/{BEST}/cv.json")["scores"]["accuracy"]
    best = found[BEST]
    assert (best["score"], best["std"]) == (cv["all"], cv["std"])
    assert (best["folds_done"], best["n_folds"], best["rows"], best["seed"]) == (5, 5, 1437, 1209)
    assert best["metric"] == "accuracy" and best["marks"] == ""
    seconds = [load(shop / f"output/{BASELINE}/{BEST}/fold{fold}/result.json")["seconds"] for fold in range(5)]
    assert best["seconds"] == pytest.approx(sum(seconds), abs=0.01)
    assert best["exp.train.learning_rate"] == 0.003
    assert found[PART]["marks"] == "partial" and found[PART]["folds_done"] == 2
    printed = exp("board")
    line = next(line for line in printed.splitlines() if line.startswith(f"001/{BEST} "))
    assert f"{cv['all']:.4f} ± {cv['std']:.4f}" in line and "5/5" in line and "1209" in line


def test_a_broken_folder_is_a_marked_row(shop: Path) -> None:
    found = {row["run"]: row for row in board()}
    assert "broken fold1/result.json (cut off or edited)" in found["broken"]["marks"]
    assert "broken cv.json" in found["broken"]["marks"] and "partial" in found["broken"]["marks"]
    assert found["broken"]["folds_done"] == 4, "what is readable is shown"
    assert found["stray"]["marks"] == "no run.json"
    assert "broken" in exp("board")


def test_show_says_that_code_or_data_have_changed_since(root: Path) -> None:
    """Which file, and only where it matters: a comment or another default of a parameter trains nothing else."""
    with own_experiment(copy_of=LIGHT) as folder:
        (root / "input/train.csv").write_text("1")
        expkit.run(folder.name)
        assert "changed since" not in exp("show", "light")
        train, shape = folder / "train.py", folder / "shape.py"
        with (
            edited(train, "x: float = 0.0", "x: float = 1.0"),
            edited(shape, "import math", "import math  # a thought"),
        ):
            assert "changed since" not in exp("show", "light")
        with edited(shape, "return 10", "return 11"):
            assert f"code changed since (experiments/{folder.name}/shape.py)" in exp("show", "light")
            [row] = board()
            assert row["marks"] == "", "not every row of the board is painted"
        (root / "input/train.csv").write_text("12")
        assert "data changed since (train.csv: 1 → 2 bytes)" in exp("show", "light")


def test_sort_filter_last(shop: Path) -> None:
    assert board("--filter", "learning_rate=0.003", "--filter", "score>0.97")[0]["run"] == BEST
    assert {row["run"] for row in board("--filter", "exp.seed=1")} == {SEED}
    assert {row["run"] for row in board("--filter", "hidden!=64")} == {SECOND, SEED}
    assert {row["run"] for row in board("--filter", "larger-model")} == {SECOND, SEED}
    assert {row["run"] for row in board("--filter", "folds_done<=2", "--filter", "score>=0")} == {PART}
    assert [] != board("--filter", "accuracy>0.97") == board("--filter", "score>0.97") != board()
    scores = [row["score"] for row in board("--sort", "-accuracy") if row["score"]]
    assert scores == sorted(scores, reverse=True)
    by_seed = [row["seed"] for row in board("--sort", "seed") if row["seed"]]
    assert by_seed == sorted(by_seed)
    assert board("--sort", "-seed")[-1]["seed"] is None, "rows without a value come last"
    assert len(board("--last", "2")) == 2
    assert "did you mean score?" in refused("board", "--sort", "scroe")
    for heading, column in {"time": "seconds", "folds": "folds_done"}.items():  # as the table has it
        assert board("--sort", f"-{heading}") == board("--sort", f"-{column}") != board()
    assert "no run has a key lernrate" in refused("board", "--filter", "lernrate>1")


def test_an_empty_board_says_what_to_do(root: Path) -> None:
    assert "train.py" in exp("board")
    assert board() == []
    assert "there are no runs" in refused("show", "anything")


def test_the_board_of_many_runs_is_cut(root: Path) -> None:
    """A terminal gets the first 25 rows and says how many there are; so does a program."""
    expkit.run(LIGHT, overrides=["exp.train.x=1"])
    for number in range(60):
        shutil.copytree(counting(root, "light,exp.train.x=1"), root / f"output/{LIGHT}/run{number}")
    assert "36 more: exp board --all" in exp("board")
    assert len(exp("board", "--all").splitlines()) == 62
    assert len(board()) == 61


def test_a_name_on_the_board_controls_no_terminal(root: Path) -> None:
    """Escape sequences are shown as text, and rich reads no markup in what others have named."""
    expkit.run(LIGHT, overrides=["exp.train.anything='[blue]'"])
    [name] = [row["run"] for row in board()]
    source = counting(root, name)
    source.rename(source.with_name("[bold]\x1b]52;c;a=\x07b[red]\u202e"))
    for printed in (exp("board"), exp("show", "bold"), exp("diff", "bold", "bold")):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", re.sub(r"\x1b\[[\d;]*m", "", printed))
        assert "[bold]�]52;c;a=�b[red]�" in printed
    assert "[blue]" in exp("show", "bold")


def test_folds_in_training(root: Path) -> None:
    """Beside their run, with the last epoch or step that they have logged; without a process, they have stopped."""
    expkit.run(LIGHT, overrides=["exp.fold=[0]"])
    history = counting(root) / "fold1/history.csv"
    history.parent.mkdir()
    steps = "step,loss,epoch\n1,0.5,\n,0.5,1\n3,0.5,\n"
    for logged, where in (("epoch,loss\n", "training"), ("epoch,loss\n1,0.5\n", "epoch 1"), (steps, "step 3")):
        history.write_text(logged)
        with store.Versions.of(run := history.parents[1]).part(run, "fold1"):
            os.utime(history, (0, 0))  # an epoch may take long
            assert f"partial, fold 1 in {where}\n" in exp("board")
        assert f"partial, fold 1 stopped in {where}\n" in exp("board")


# One run, two runs


def test_show(shop: Path) -> None:
    printed = exp("show", BEST)
    assert f"{BASELINE}/{BEST}" in printed
    assert "5/5 folds, 1437 rows" in printed
    assert re.search(r"exp\.train\.learning_rate +0\.003", printed)
    assert "from Python" in printed
    assert "valid_accuracy" in printed and "epoch" in printed
    assert re.findall(r"fold (\d): best .* [▁-█]+\n", printed) == list("01234"), "a sparkline per fold"
    assert "no run.json" in exp("show", "stray")


def test_show_a_run_without_epochs_and_without_a_snapshot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that logs nothing has no curve; without git, the code is unknown."""
    monkeypatch.setenv("PATH", str(root / "nowhere"))  # no git
    expkit.run(LIGHT)
    monkeypatch.undo()
    monkeypatch.setenv("PROJECT_ROOT", str(root))
    printed = exp("show", "light")
    assert "CV quality 10.0000" in printed and "no snapshot" in printed
    assert expkit.load_run("light").history(0) == {}
    assert "unknown: one of the runs has no snapshot" in exp("diff", "light", "light")
    assert "without a snapshot" in refused("reproduce", "light")


def test_diff(shop: Path) -> None:
    printed = exp("diff", BEST, SECOND)
    assert re.search(r"exp\.train\.hidden +64 +→ +256", printed)
    assert re.search(r"exp\.train\.epochs +40 +→ +3", printed)
    assert "exp.seed" not in printed
    assert re.search(r"CV +0\.\d{4} +0\.\d{4} +[+-]0\.\d{4}", printed)
    assert "the same" in printed.splitlines()[-1], "the code"


def test_reproduce_says_what_differs_and_why(root: Path) -> None:
    """The data, when they have changed: named, and first."""
    (root / "input/x.txt").write_text("4")
    with own_experiment(copy_of=LIGHT) as folder:
        (folder / ".gitignore").unlink()  # the snapshot is to have it
        shape = 'import expkit\n\ndef of(x):\n    return float((expkit.input_dir() / "x.txt").read_text())\n'
        (folder / "shape.py").write_text(shape)
        expkit.run(folder.name, overrides=["exp.fold=[0]"])
    assert exp("reproduce", "light").strip() == "identical"
    (root / "input/x.txt").write_text("16")
    result = CliRunner().invoke(app, ["reproduce", "light"])
    assert result.exit_code == 1
    first, _, reason = result.output.strip().splitlines()
    assert first == "fold 0: quality 4.0 → 16.0"
    assert reason == "the data has changed since: x.txt: 1 → 2 bytes"


def test_what_has_changed_is_the_reason(root: Path) -> None:
    """A fold for which nothing has changed does not say so after another one's; one that went on says that."""
    (root / "input/x.txt").write_text("4")
    with own_experiment(copy_of=LIGHT) as folder:
        (folder / ".gitignore").unlink()
        (folder / "shape.py").write_text("import os\n\ndef of(x):\n    return float(os.getpid())\n")
        expkit.run(folder.name, overrides=["exp.fold=[0]"])
        (root / "input/x.txt").write_text("16")
        expkit.run(folder.name, overrides=["exp.fold=[1]"])
    reasons = expkit.reproduce("light").reasons
    assert reasons == ["the data has changed since: x.txt: 1 → 2 bytes"]
    file = expkit.load_run("light").folder / "fold1/result.json"
    files.write_json(file, files.read_if_whole(file) | {"earlier": [{"data": "a"}, {"code": ["b", "c"]}]})
    went_on = "fold 1 went on (resume=true) after its code and data had changed"
    assert expkit.reproduce("light").reasons == [*reasons, went_on]
    (root / "input/x.txt").write_text("4")
    shutil.rmtree(file.parent)
    assert expkit.reproduce("light").reasons == [
        "nothing that is recorded differs: the training itself is not deterministic"
    ]


def test_oof_as_csv(shop: Path) -> None:
    table = list(csv.DictReader(io.StringIO(exp("oof", BEST))))
    assert len(table) == 1437
    assert list(table[0])[:3] == ["id", "target", "prediction"] and list(table[0])[-1] == "fold"
    assert [int(row["id"]) for row in table] == sorted(int(row["id"]) for row in table)
    assert "has no finished fold" in refused("oof", "stray")


# New ones, and the check of all


def test_new_experiment(clone: Path) -> None:
    cache = clone / f"experiments/{BASELINE}/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "old.pyc").touch()
    [(printed, error)] = in_clone(clone, ["new", "larger-model", "--from", BASELINE])
    assert error == ""
    folder = clone / "experiments/003-larger-model"
    names = {file.name for file in folder.iterdir()} - {"__pycache__"}
    assert names == {".schema", "config.yaml", "exp", "model.py", "train.py"}
    assert not (folder / "__pycache__/old.pyc").exists()
    config = (folder / "config.yaml").read_text()
    original = (clone / f"experiments/{BASELINE}/config.yaml").read_text()
    assert config == original.replace("name: baseline", 'name: "larger-model"'), "comments stay"
    train = (folder / "train.py").read_text()
    assert train.startswith('"""003-larger-model: ')
    assert "output/003-larger-model/" in train
    commands = re.findall(r"^  uv run python (.*)$", printed, flags=re.M)
    assert len(commands) == 2
    for command in commands:
        call(sys.executable, *command.split(), cwd=clone, env=environment_of(clone))
    assert (clone / "output/debug/003-larger-model/larger-model/cv.json").exists()
    asked = {
        "next": "004-next",
        "007-bond": "007-bond",
        "after": "008-after",
        "003-larger-model": "experiments/003-larger-model has the number 3 already",
        "3-other": "experiments/003-larger-model has the number 3 already",
        "a b": "an experiment is named by",
        "../x": "there is no experiment '..'",
        "": "an experiment is named by",
    }
    *found, (checked, _) = in_clone(clone, *(["new", name] for name in asked), ["check"])
    for number, ((printed, error), said) in enumerate(zip(found, asked.values(), strict=True)):
        assert said in (error or printed) and bool(error) == (number > 2)
    assert "16 of 16 parameter sets are fine" in checked
    assert call("git", "status", "--porcelain", cwd=clone).stdout.count("\n") == 5, "and notes/"


def test_a_deleted_experiment_keeps_its_number(clone: Path) -> None:
    """The next one would have its notes."""
    [(printed, _)] = in_clone(clone, ["new", "first"])
    assert printed.startswith(f"made experiments/003-first from {LIGHT}; next:\n")
    shutil.rmtree(clone / "experiments/003-first")
    (made, _), (_, error) = in_clone(clone, ["new", "first"], ["new", "003-first"])
    assert made.startswith(f"made experiments/004-first from {LIGHT};")
    assert error == "notes/003-first.jsonl has the number 3 already"


def test_a_new_experiment_goes_on_from_one_run(clone: Path) -> None:
    """With its parameter set alone: of the best run, or of the one that is named; never with all that was tried."""
    sets = clone / f"experiments/{LIGHT}/exp"
    sets.mkdir()
    for number, x in ((1, 0.2), (2, 0.9), (3, 0.5)):
        (sets / f"00{number}.yaml").write_text(f"name: set-{number}\n\ntrain:\n  x: {x}  # why\n")
    in_clone(clone, ["new", "untrained", "--from", "002"])
    assert [file.name for file in sorted((clone / "experiments/003-untrained/exp").iterdir())] == [
        f"00{number}.yaml" for number in (1, 2, 3)
    ]
    runs = (["exp=001"], ["exp=002"], ["exp=003", "exp.train.x=0.6"])
    train = f"import expkit; [expkit.run({LIGHT!r}, overrides=each) for each in {runs}]"
    call(sys.executable, "-c", train, cwd=clone, env=environment_of(clone))
    asked = (["best", "--from", "002"], ["named", "--from", "light/set-1"], ["free", "--from", "train.x=0.6"])
    dropped = ["note", f"{LIGHT}/set-2", "it leaks", "--dropped"]
    last = [["new", "next", "--from", "002"], ["new", "x", "--from", "light/nothing"]]
    *found, (_, none) = in_clone(clone, *(["new", *each] for each in asked), dropped, *last)
    assert [error for _, error in found] == [""] * 5 and "there is no experiment 'light/nothing'" in none
    assert "experiments/004-best/train.py exp=002 show_config=true" in found[0][0]
    assert found[0][0].endswith('\n  uv run exp try 004-best --why "..."\n')
    texts = {}
    for name in ("004-best", "005-named", "006-free", "007-next"):
        [file] = (clone / "experiments" / name / "exp").iterdir()
        texts[name] = f"{file.name} {yaml.safe_load(file.read_text())['train']['x']}"
    assert texts == {"004-best": "002.yaml 0.9", "005-named": "001.yaml 0.2"} | dict.fromkeys(
        ["006-free", "007-next"], "001.yaml 0.6"
    )
    [copied] = (clone / "experiments/004-best/exp").iterdir()
    assert f"# From {LIGHT}/set-2. Notes follow" in copied.read_text(), "not what this set was made from"
    origins = {file.stem: json.loads(file.read_text())["origin"] for file in clone.glob("notes/00[3-7]*.jsonl")}
    assert origins == {
        "003-untrained": LIGHT,
        "004-best": f"{LIGHT}/set-2",
        "005-named": f"{LIGHT}/set-1",
        **dict.fromkeys(["006-free", "007-next"], f"{LIGHT}/set-3,exp.train.x=0.6"),
    }


def test_new_parameter_set(root: Path) -> None:
    odd = ("100", "1e3", "true", "010")  # which YAML and Hydra read as something else
    with own_experiment(copy_of=BASELINE) as folder:
        exp("new", f"{folder.name}/003", "--from", "001")
        before = (folder / "exp/003.yaml").read_text()
        first, line, rest = before.split("\n", 2)
        assert line == f"# From {folder.name}/001. Notes follow this file by the id {id_of(folder, '003')}."
        source = (folder / "exp/001.yaml").read_text()
        assert f"{first}\n{rest}" == source.replace("name: 001-larger-lr", 'name: "003"')
        exp("new", f"{folder.name}/004", "--from", f"{folder.name}/003")
        copied = (folder / "exp/004.yaml").read_text().split("\n", 2)
        assert (copied[0], copied[2]) == (first, rest.replace('"003"', '"004"')), "one line says where it comes from"
        assert id_of(folder, "004") not in (None, id_of(folder, "003"))
        (folder / "exp/004.yaml").unlink()
        for name in odd:
            exp("new", f"{folder.name}/{name}")
        checked = {one["parameter_set"]: one["name"] for one in exp_json("check", folder.name) if not one["problem"]}
        assert {name: checked[name] for name in odd} == {name: name for name in odd}
        for arguments, complaint in (
            ([f"{folder.name}/003"], "is there already"),
            ([f"{folder.name}/004", "--from", "9"], "there are no runs in"),
            ([f"{folder.name}/a b"], "a parameter set is named by"),
            (["009/x"], "there is no experiment '009'"),
            (["001/x", "--framework", "torch"], "--framework begins a new experiment"),
            (["x", "--from", "001-basline"], "did you mean 001-baseline?"),
        ):
            assert complaint in refused("new", *arguments)
        assert (folder / "exp/003.yaml").read_text() == before


def test_a_number_is_as_good_as_a_name(clone: Path) -> None:
    commands = (["new", "002/004"], ["new", "light/005"], ["new", "third", "--from", "001"], ["check", "002", "third"])
    found = in_clone(clone, *commands)
    assert [error for _, error in found] == ["", "", "", ""]
    assert {file.stem for file in (clone / f"experiments/{LIGHT}/exp").iterdir()} == {"004", "005"}
    assert (clone / "experiments/003-third/model.py").read_text() == (
        clone / f"experiments/{BASELINE}/model.py"
    ).read_text()
    assert "6 of 6 parameter sets are fine" in found[-1][0]
    shutil.copytree(clone / f"experiments/{LIGHT}", clone / "experiments/002-other")
    [(_, error)] = in_clone(clone, ["new", "002/006"])
    assert "there is no experiment '002'" in error and "002-light, 002-other" in error


def test_the_baseline_of_another_framework(clone: Path) -> None:
    """From expkit itself, without a network; what it needs beside the packages that are there is said."""
    assert sorted(FRAMEWORKS) == sorted(NEEDS) == sorted(folder.name for folder in BASELINES.iterdir())
    [(printed, error), (_, both)] = in_clone(
        clone,
        ["new", "network", "--framework", "torch"],
        ["new", "other", "--framework", "torch", "--from", "001"],
    )
    assert error == "" and "\n  uv add 'torch>=2.6'\n" in printed
    folder = clone / "experiments/003-network"
    assert (folder / "train.py").read_text().startswith('"""003-network: ') and (folder / "exp/002.yaml").exists()
    assert yaml.safe_load((folder / "config.yaml").read_text())["exp"]["name"] == "network"
    assert "--framework begins a new experiment: give it without --from" in both
    pyproject = clone / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('    "expkit', '    "Torch==2.13.0",\n    "expkit'))
    [(printed, error)] = in_clone(clone, ["new", "second", "--framework", "torch"])
    assert error == "" and "uv add" not in printed


def test_check(root: Path) -> None:
    """One line a problem, for every kind of it; nothing heavy is imported."""
    check = [sys.executable, *EXP, "check"]
    environment = environment_of(expkit.code_root(), PYTHONPROFILEIMPORTTIME="1")
    done = call(*check, BASELINE, LIGHT, cwd=root, env=environment)
    assert "4 of 4 parameter sets are fine" in done.stdout
    assert imported(done.stderr).isdisjoint(set(HEAVY) - {"rich"})
    texts = {
        "typo": "name: typo\ntrain: {lerning_rate: 1}",
        "type": "name: type\ntrain: {epochs: many}",
        "value": "name: value\nfold: [9]",
        "same": "name: 001-larger-lr",
        "syntax": "name: [x",
        "load": "defaults: [nothing]",
        "child": "defaults: ['001@_here_', _self_]\nname: child",
        "header": "defaults:\n- default@_here_\n\nname: header",
    }
    with own_experiment(copy_of=BASELINE) as folder, own_experiment({"train.py": "import nothing_such\n"}) as broken:
        for name, text in texts.items():
            (folder / f"exp/{name}.yaml").write_text(f"{text}\n")
        printed = exp("check", folder.name, broken.name, code=1)
    own = [line.removeprefix(f"{folder.name}/") for line in printed.splitlines() if line.startswith(folder.name)]
    lines = dict(line.split(": ", 1) for line in own)
    assert "did you mean exp.train.learning_rate?" in lines["typo"]
    assert "exp.train.epochs" in lines["type"]
    assert "exp.fold must be from 0 to 4" in lines["value"]
    assert "exp/001.yaml has the name '001-larger-lr' too" in lines["same"] and "exp/same.yaml has" in lines["001"]
    assert "syntax.yaml, line 2" in lines["syntax"]
    assert "Could not load 'exp/nothing'" in lines["load"]
    for name in ("child", "002", "default"):
        assert lines[name] == "ok", name
    assert lines["header"] == "ok, the same configuration as default"
    assert "No module named 'nothing_such'" in printed
    assert "did you mean 001-baseline?" in refused("check", "001-baselin")


def test_completion_and_a_mistyped_command(shop: Path) -> None:
    assert "Did you mean 'board'" in CliRunner().invoke(app, ["bord"]).output
    assert "complete -o nosort" in completed("bash_source")
    run = f"{BASELINE}/{BEST}"
    for typed in ("show", "diff 1", "note", "submit 1", "kaggle submit", "kaggle push", "new a --from", "try --from"):
        assert f"plain,{run}" in completed("bash_complete", f"{typed} 001-baseline/001"), typed
        assert f"plain,{run}" not in completed("bash_complete", f"{typed} 002"), typed
    for typed in ("check", "check 1", "new a --from"):
        assert f"plain,{BASELINE}" in completed("bash_complete", f"{typed} 001-b"), typed
    assert completed("bash_complete", "rep") == "plain,reproduce\n"


def completed(instruction: str, typed: str = "") -> str:
    """What the shell gets for a line that ends where the cursor is."""
    words = {"COMP_WORDS": f"exp {typed}", "COMP_CWORD": str(len(typed.split()))}
    return CliRunner().invoke(app, env=words | {"_EXP_COMPLETE": instruction}, prog_name="exp").output


# From Python


def test_load_run(shop: Path) -> None:
    import numpy as np

    run = expkit.load_run(BEST)
    assert (run.config.exp.train.learning_rate, run.seed) == (3e-3, 1209)
    assert list(run.done) == [0, 1, 2, 3, 4]
    assert len(run.history(2)["valid_accuracy"]) == 40
    oof = run.oof
    assert len(oof["id"]) == 1437 == len(set(oof["id"])) and set(oof["fold"]) == set(run.done)
    assert oof["id"].dtype.kind == "i" and list(oof["id"]) == sorted(oof["id"])
    assert np.mean(oof["target"] == oof["prediction"]) == run.score
    assert run.result(1)["fold"] == 1 and len(run.test(1)["prediction"]) == 360
    X = expkit.load_module(BASELINE, "model").load_data().test_X[:3]
    predicted = np.mean([run.model(fold).predict_proba(X) for fold in run.done], axis=0)
    assert predicted.shape == (3, 10) and np.allclose(run.predict(X)["probability_7"], predicted[:, 7])
    mistakes: dict[str, Callable[[], object]] = {
        "fold 9 of": lambda: run.history(9),
        "the training on all data of": lambda: run.model(None),
        "larger may be": lambda: expkit.load_run("larger"),
    }
    for message, mistake in mistakes.items():
        with pytest.raises(expkit.Error, match=message):
            mistake()
