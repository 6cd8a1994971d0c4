"""The command `exp`, the board, runs from Python, the notebook, and what AGENTS.md and the skill say."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Completed, Project, background, call, clean_environment
from test_run import HEAVY, imported, load
from test_runs import wait_for

ALL_FOLDS = "exp.fold=[0,1,2,3,4]"
QUICK = "exp.train.epoch=3"


@pytest.fixture(scope="module")
def workshop(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with runs: two parameter sets, two seeds, a partial one, one of changed code, a broken one, debug."""
    folder = tmp_path_factory.mktemp("workshop") / "myproj"
    call("git", "clone", "-q", project.folder, folder, cwd=folder.parent)
    call("uv", "sync", "-q", cwd=folder, env=clean_environment())
    made = Project(folder, project.home)
    for arguments in (
        ["exp=001", ALL_FOLDS],
        ["exp=002", QUICK, ALL_FOLDS],
        ["exp=002", QUICK, "exp.seed=1", ALL_FOLDS],
        ["exp=001", QUICK, "exp.fold=[0,1]"],
        ["exp.debug=true"],
    ):
        made.train(*arguments, WANDB_MODE="disabled")
    broken = folder / "output/001-baseline/broken"
    shutil.copytree(folder / "output/001-baseline/001-larger-lr", broken)
    (broken / "cv.json").write_text("{")
    (broken / "fold1/result.json").write_text("")
    (folder / "output/001-baseline/stray").mkdir()
    return made


def exp(project: Project, *arguments: str, cwd: Path | None = None, check: bool = True, **variables: str) -> Completed:
    environment = project.environment(**variables)
    return call(project.python.with_name("exp"), *arguments, cwd=cwd or project.folder, env=environment, check=check)


def board(project: Project, *arguments: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(exp(project, "board", "--json", *arguments).stdout)
    return content


def refused(done: Completed) -> str:
    """The one line of an error."""
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.removeprefix("error: ").strip()


# The board

BEST, SECOND, SEED, PART = (
    "001-larger-lr",
    f"002-larger-model,{QUICK}",
    f"002-larger-model,exp.seed=1,{QUICK}",
    f"001-larger-lr,{QUICK}",
)


def test_board(workshop: Project, tmp_path: Path) -> None:
    """Every run with what cv.json says, complete ones first, best first; debug runs are not there."""
    found = {row["run"]: row for row in board(workshop)}
    assert set(found) == {BEST, SECOND, SEED, PART, "broken", "stray"}
    assert [row["run"] for row in board(workshop)][0] == BEST
    cv = load(workshop.folder / f"output/001-baseline/{BEST}/cv.json")
    best = found[BEST]
    assert (best["score"], best["std"], best["folds_done"], best["n_folds"]) == (cv["score"], cv["std"], 5, 5)
    assert best["metric"] == "accuracy" and best["seed"] == 1209 and best["marks"] == ""
    seconds = [
        load(workshop.folder / f"output/001-baseline/{BEST}/fold{fold}/result.json")["seconds"] for fold in range(5)
    ]
    assert best["seconds"] == pytest.approx(sum(seconds), abs=0.01)
    assert best["exp.train.learning_rate"] == 0.003
    assert found[PART]["marks"] == "partial" and found[PART]["folds_done"] == 2
    printed = exp(workshop, "board", cwd=tmp_path).stdout
    line = next(line for line in printed.splitlines() if line.startswith(f"001-baseline/{BEST} "))
    assert f"{cv['score']:.4f} ± {cv['std']:.4f}" in line and "5/5" in line and "1209" in line


def test_a_broken_folder_is_a_marked_row(workshop: Project) -> None:
    found = {row["run"]: row for row in board(workshop)}
    assert "broken fold1/result.json" in found["broken"]["marks"]
    assert "cv.json" in found["broken"]["marks"] and "partial" in found["broken"]["marks"]
    assert found["broken"]["folds_done"] == 4, "what is readable is shown"
    assert found["stray"]["marks"] == "no run.json"
    assert exp(workshop, "board").returncode == 0


def test_board_marks_code_that_has_changed(workshop: Project) -> None:
    model = workshop.folder / "experiments/001-baseline/model.py"
    text = model.read_text()
    model.write_text(text + "\n# a thought\n")
    try:
        assert all("code changed since" in row["marks"] for row in board(workshop) if row["run"] in (BEST, PART))
        workshop.train("exp=001", QUICK, "exp.fold=[2]", WANDB_MODE="disabled")
        marks = {row["run"]: row["marks"] for row in board(workshop)}
        assert "mixed code" in marks[PART]
    finally:
        model.write_text(text)
        shutil.rmtree(workshop.folder / f"output/001-baseline/{PART}/fold2")


def test_sort_filter_last(workshop: Project) -> None:
    assert [row["run"] for row in board(workshop, "--filter", "learning_rate=0.003", "--filter", "score>0.97")][
        0
    ] == BEST
    assert {row["run"] for row in board(workshop, "--filter", "exp.seed=1")} == {SEED}
    assert {row["run"] for row in board(workshop, "--filter", "base_model!=small")} == {SECOND, SEED}
    assert {row["run"] for row in board(workshop, "--filter", "larger-model")} == {SECOND, SEED}
    assert {row["run"] for row in board(workshop, "--filter", "folds_done<=2", "--filter", "score>=0")} == {PART}
    by_seed = [row["seed"] for row in board(workshop, "--sort", "seed") if row["seed"]]
    assert by_seed == sorted(by_seed)
    assert board(workshop, "--sort", "-seed")[-1]["seed"] is None, "rows without a value come last"
    assert len(board(workshop, "--last", "2")) == 2
    assert "did you mean" in refused(exp(workshop, "board", "--sort", "scroe", check=False))
    assert "no run has lernrate" in refused(exp(workshop, "board", "--filter", "lernrate>1", check=False))


def test_seeds_as_one_row(workshop: Project) -> None:
    scores = [row["score"] for row in board(workshop) if row["run"] in (SECOND, SEED)]
    [row] = [row for row in board(workshop, "--seeds") if row["seed"] == "2 seeds"]
    mean = sum(scores) / 2
    assert row["score"] == pytest.approx(mean)
    assert row["std"] == pytest.approx(sum((score - mean) ** 2 for score in scores) ** 0.5)


def test_board_for_other_programs(workshop: Project) -> None:
    table = list(csv.DictReader(io.StringIO(exp(workshop, "board", "--csv").stdout)))
    assert [row["run"] for row in table] == [row["run"] for row in board(workshop)]
    assert float(table[0]["exp.train.learning_rate"]) == 0.003
    markdown = exp(workshop, "board", "--md").stdout.splitlines()
    assert markdown[1].startswith("| ---") and len(markdown) == 2 + len(table)


def test_an_empty_board_says_what_to_do(workshop: Project, tmp_path: Path) -> None:
    assert "train.py" in exp(workshop, "board", PROJECT_ROOT=str(tmp_path)).stdout
    assert json.loads(exp(workshop, "board", "--json", PROJECT_ROOT=str(tmp_path)).stdout) == []


def test_a_run_whose_process_was_killed_is_on_the_board(workshop: Project, tmp_path: Path) -> None:
    """Without a cv.json that fits, the board reads the folds."""
    shutil.copytree(workshop.folder / f"output/001-baseline/{BEST}", tmp_path / "output/001-baseline/mine")
    (tmp_path / "output/001-baseline/mine/fold4/result.json").unlink()
    [row] = json.loads(exp(workshop, "board", "--json", PROJECT_ROOT=str(tmp_path)).stdout)
    assert row["folds_done"] == 4 and "partial" in row["marks"] and row["score"] > 0.9


def test_watch(workshop: Project, tmp_path: Path) -> None:
    """Follows a run that is under way, and ends with Ctrl-C."""
    environment = workshop.environment(PROJECT_ROOT=str(tmp_path), WANDB_MODE="disabled", TERM="xterm", COLUMNS="140")
    command = [workshop.python, workshop.folder / "experiments/001-baseline/train.py", "exp.train.epoch=2000"]
    training = background(*command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(tmp_path.rglob("history.csv")), training)
    terminal, child = pty.openpty()
    exp_command = workshop.python.with_name("exp")
    watching = background(exp_command, "board", "--watch", stdout=child, stderr=child, env=environment)
    os.close(child)
    screen = ""
    seen: set[str] = set()
    deadline = time.monotonic() + 30
    while len(seen) < 2 and time.monotonic() < deadline:
        screen += os.read(terminal, 4096).decode(errors="replace")
        seen = set(re.findall(r"fold0 in epoch \d+", screen))
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 130
    training.send_signal(signal.SIGINT)
    training.wait(20)
    os.close(terminal)
    assert len(seen) >= 2, screen


# One run, two runs


def test_show(workshop: Project) -> None:
    printed = exp(workshop, "show", BEST).stdout
    assert f"001-baseline/{BEST}" in printed
    assert "5/5 folds" in printed
    assert re.search(r"exp\.train\.learning_rate +0\.003", printed)
    assert "train.py exp=001" in printed
    assert "valid_accuracy" in printed and "epoch" in printed
    assert any("⠀" < character <= "⣿" for character in printed), "a curve of braille dots"
    assert [f"fold {fold}" in printed.splitlines()[-1] for fold in range(5)] == [True] * 5, "the legend"
    assert "no run.json" in exp(workshop, "show", "stray").stdout


def test_diff(workshop: Project) -> None:
    printed = exp(workshop, "diff", BEST, SECOND).stdout
    assert re.search(r"exp\.train\.base_model +small +→ +large", printed)
    assert re.search(r"exp\.train\.epoch +40 +→ +3", printed)
    assert "exp.seed" not in printed
    assert re.search(r"CV +0\.\d{4} +0\.\d{4} +[+-]0\.\d{4}", printed)


def test_diff_of_code(workshop: Project, tmp_path: Path) -> None:
    """The lines of the experiment's folder that changed, and the names of other files."""
    model, readme = workshop.folder / "experiments/001-baseline/model.py", workshop.folder / "README.md"
    originals = {file: file.read_text() for file in (model, readme)}
    workshop.train("exp.name=before", QUICK, WANDB_MODE="disabled", root=tmp_path)
    model.write_text(originals[model] + "\n# another thought\n")
    readme.write_text("new words\n")
    try:
        workshop.train("exp.name=after", QUICK, WANDB_MODE="disabled", root=tmp_path)
    finally:
        for file, text in originals.items():
            file.write_text(text)
    printed = exp(workshop, "diff", "before", "after", PROJECT_ROOT=str(tmp_path)).stdout
    assert "+# another thought" in printed
    assert "README.md" in printed and "new words" not in printed


def test_reproduce(workshop: Project) -> None:
    done = exp(workshop, "reproduce", f"001-baseline/{PART}")
    assert "identical" in done.stdout


def test_which_run_is_meant(workshop: Project, tmp_path: Path) -> None:
    for name in (BEST, f"001-baseline/{BEST}", str(workshop.folder / f"output/001-baseline/{BEST}")):
        assert f"001-baseline/{BEST} " in exp(workshop, "show", name, cwd=tmp_path).stdout
    assert "seed=1" in exp(workshop, "show", "seed=1").stdout
    ambiguous = refused(exp(workshop, "show", "002-larger", check=False))
    assert SECOND in ambiguous and SEED in ambiguous
    assert "no run is called nothing" in refused(exp(workshop, "show", "nothing", check=False))
    assert "did you mean" in refused(exp(workshop, "show", "001-baseline/001-lager-lr", check=False))


# New ones, and the check of all


def test_new_experiment(own_project: Any) -> None:
    project = own_project()
    cache = project.folder / "experiments/001-baseline/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "old.pyc").touch()
    printed = exp(project, "new", "larger-model", "--from", "001-baseline", cwd=project.folder / "input").stdout
    folder = project.folder / "experiments/002-larger-model"
    assert {file.name for file in folder.iterdir()} - {"__pycache__"} == {"config.yaml", "exp", "model.py", "train.py"}
    assert not (folder / "__pycache__/old.pyc").exists()
    config = (folder / "config.yaml").read_text()
    original = (project.folder / "experiments/001-baseline/config.yaml").read_text()
    assert config == original.replace("name: baseline", "name: larger-model"), "comments stay"
    train = (folder / "train.py").read_text()
    assert train.startswith('"""002-larger-model: ')
    assert "output/002-larger-model/" in train
    commands = re.findall(r"^  (uv run .*)$", printed, flags=re.M)
    assert len(commands) == 2
    for command in commands:
        call("bash", "-c", command, cwd=project.folder / "input", env=project.environment(WANDB_MODE="disabled"))
    assert (project.folder / "output/debug/002-larger-model/larger-model/cv.json").exists()
    assert "003-next" in exp(project, "new", "next").stdout
    assert "007-bond" in exp(project, "new", "007-bond").stdout
    assert "008-after" in exp(project, "new", "after").stdout
    for name, complaint in (
        ("larger-model", "is there already"),
        ("002-larger-model", "is there already"),
        ("a b", "names a folder"),
        ("../x", "there is no experiment '..'"),
        ("", "names a folder"),
    ):
        assert complaint in refused(exp(project, "new", name, check=False))
    assert "did you mean 001-baseline?" in refused(exp(project, "new", "x", "--from", "001-basline", check=False))
    assert call("git", "status", "--porcelain", cwd=project.folder).stdout.count("\n") == 4
    assert "15 of 15 parameter sets are fine" in exp(project, "check").stdout


def test_new_parameter_set(own_project: Any) -> None:
    project = own_project()
    folder = project.folder / "experiments/001-baseline/exp"
    exp(project, "new", "001-baseline/003", "--from", "001")
    assert (folder / "003.yaml").read_text() == (folder / "001.yaml").read_text().replace(
        "name: 001-larger-lr", 'name: "003"'
    )
    for name in ("100", "1e3", "true"):  # which YAML and Hydra read as something else
        exp(project, "new", f"001-baseline/{name}")
        shown = yaml.safe_load(project.train(f"exp={name}", "show_config=true").stdout)
        assert shown["exp"]["name"] == name
        assert shown["exp"]["train"]["epoch"] == 30
    before = (folder / "003.yaml").read_text()
    assert "is there already" in refused(exp(project, "new", "001-baseline/003", check=False))
    assert (folder / "003.yaml").read_text() == before
    assert "there are 001" in refused(exp(project, "new", "001-baseline/004", "--from", "9", check=False))
    assert "names a file" in refused(exp(project, "new", "001-baseline/a b", check=False))
    assert "there is no experiment '009'" in refused(exp(project, "new", "009/x", check=False))


def test_check(own_project: Any) -> None:
    """One line a problem, for every kind of it; nothing heavy is imported."""
    project = own_project()
    done = exp(project, "check", PYTHONPROFILEIMPORTTIME="1")
    assert "3 of 3 parameter sets are fine" in done.stdout
    assert imported(done.stderr).isdisjoint(set(HEAVY) - {"rich"})
    folder = project.folder / "experiments/001-baseline/exp"
    for name, text in {
        "typo": "name: typo\ntrain: {lerning_rate: 1}",
        "type": "name: type\ntrain: {epoch: many}",
        "value": "name: value\nfold: [9]",
        "same": "name: 001-larger-lr",
        "syntax": "name: [x",
        "load": "defaults: [nothing]",
        "child": "defaults: ['001@_here_', _self_]\nname: child",
        "header": "defaults:\n- default@_here_\n\nname: header",
    }.items():
        (folder / f"{name}.yaml").write_text(text + "\n")
    exp(project, "new", "second")
    (project.folder / "experiments/002-second/train.py").write_text("import nothing_such\n")
    done = exp(project, "check", check=False)
    assert done.returncode == 1
    lines = {line.split()[1]: line.rstrip() for line in done.stdout.splitlines() if line.startswith("001-baseline")}
    assert "did you mean learning_rate?" in lines["typo"]
    assert "exp.train.epoch" in lines["type"]
    assert "exp.fold must be from 0 to 4" in lines["value"]
    assert "has the name '001-larger-lr' as 001 has" in lines["same"] and "as same has" in lines["001"]
    assert "syntax.yaml, line 2" in lines["syntax"]
    assert "Could not load 'exp/nothing'" in lines["load"]
    for name in ("child", "header", "002", "default"):
        assert lines[name].endswith("ok"), name
    assert "No module named 'nothing_such'" in done.stdout
    only = exp(project, "check", "002-second", check=False)
    assert "001-baseline" not in only.stdout
    assert "did you mean 001-baseline?" in refused(exp(project, "check", "001-baselin", check=False))


def test_check_says_what_hydra_says(own_project: Any) -> None:
    """The short way of `exp check` for files that only have values gives what the command line gives."""
    project = own_project()
    script = """
import sys
from pathlib import Path
from expkit import checks, load_config
from expkit.config import flat, import_train, typed
for name in ("001-baseline", "002-copy"):
    folder = checks.experiment_dir(name)
    schema = import_train(folder).Config
    base = checks._base(folder, schema)
    for parameter_set in ("001", "002"):
        values = checks.OmegaConf.to_container(checks.OmegaConf.load(folder / "exp" / f"{parameter_set}.yaml"))
        short = flat(typed(checks._merged(base, {"exp": values}), schema))
        assert short == flat(load_config(name, [f"exp={parameter_set}"])), name
assert len(checks._composed) == 1, "the second experiment took the short way"
"""
    exp(project, "new", "copy")
    call(project.python, "-c", script, cwd=project.folder, env=project.environment())


def test_help_and_completion(workshop: Project) -> None:
    for command in ("", "new", "check", "board", "show", "diff", "reproduce"):
        assert "Usage" in exp(workshop, *([command] if command else []), "--help").stdout
    assert "Did you mean 'board'" in exp(workshop, "bord", check=False).stderr
    environment = {"_EXP_COMPLETE": "complete_bash", "COMP_WORDS": "exp show 001-baseline/001", "COMP_CWORD": "2"}
    assert f"001-baseline/{BEST}" in exp(workshop, **environment).stdout


# From Python


def test_runs_and_load_run(workshop: Project, tmp_path: Path) -> None:
    script = f"""
import numpy as np
import expkit

board = expkit.runs()
assert board.iloc[0]["run"] == {BEST!r} and board["score"].iloc[0] > 0.97
assert board["finished"].dt.tz is not None
assert {{"experiment", "score", "std", "seed", "exp.train.learning_rate"}} <= set(board.columns)

run = expkit.load_run("{BEST}")
assert run.config.exp.train.learning_rate == 3e-3
assert run.folds == [0, 1, 2, 3, 4]
assert len(run.history(2)["valid_accuracy"]) == 40
oof = run.oof
assert len(oof["id"]) == 1437 == len(set(oof["id"])) and set(oof["fold"]) == set(run.folds)
assert np.mean(np.array(oof["target"]) == np.array(oof["prediction"])) == run.row.score
X = np.zeros((3, 64))
assert run.model(0).predict_proba(X).shape == (3, 10)
assert np.allclose(run.predict(X), np.mean([run.model(fold).predict_proba(X) for fold in run.folds], axis=0))
assert run.result(1)["fold"] == 1
for mistake in (lambda: run.history(9), lambda: run.model(None), lambda: expkit.load_run("larger")):
    try:
        mistake()
    except expkit.Error as error:
        print(error)
"""
    with_pandas = ["uv", "run", "-q", "--with", "pandas", "--project", workshop.folder, "python", "-c", script]
    printed = call(*with_pandas, cwd=tmp_path, env=workshop.environment()).stdout
    assert "fold 9 of" in printed and "the training on all data of" in printed and "larger may be" in printed


def test_runs_without_pandas(workshop: Project) -> None:
    done = call(workshop.python, "-c", "import expkit; expkit.runs()", cwd=workshop.folder, check=False)
    assert "expkit.runs needs pandas" in done.stderr


@pytest.mark.parametrize("has_runs", [True, False])
def test_notebook(workshop: Project, tmp_path: Path, has_runs: bool) -> None:
    """Runs top to bottom, with real runs and with none; it is stored without outputs."""
    notebook = workshop.folder / "notebooks/compare.ipynb"
    assert not [cell for cell in json.loads(notebook.read_text())["cells"] if cell.get("outputs")]
    environment = workshop.environment() if has_runs else workshop.environment(PROJECT_ROOT=str(tmp_path))
    execute = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "--log-level=ERROR", str(notebook)]
    environment["UV_PROJECT_ENVIRONMENT"] = str(tmp_path / "environment")
    printed = call("uv", "run", "-q", "--group", "notebook", *execute, cwd=workshop.folder, env=environment).stdout
    outputs = [output for cell in json.loads(printed)["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    if has_runs:
        assert len(pictures) == 3
    else:
        assert "No runs yet. Train the baseline first" in text


# What is told to agents


def test_skill_is_well_formed(project: Project) -> None:
    text = (project.folder / ".claude/skills/experiment-setup/SKILL.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["name"] == "experiment-setup"
    for trigger in ("hydra", "実験管理", "config.yaml", "exp/*.yaml"):
        assert trigger in head["description"]
    assert len(head["description"]) <= 1024


def test_the_board_of_many_runs_is_cut(workshop: Project, tmp_path: Path) -> None:
    """A terminal gets the first 50 rows and says how many there are; a program gets all."""
    source = workshop.folder / f"output/001-baseline/{BEST}"
    for number in range(60):
        shutil.copytree(
            source, tmp_path / f"output/001-baseline/run{number}", ignore=shutil.ignore_patterns("*.joblib", "*.csv")
        )
    printed = exp(workshop, "board", PROJECT_ROOT=str(tmp_path)).stdout
    assert "10 more: --all" in printed
    assert len(exp(workshop, "board", "--all", PROJECT_ROOT=str(tmp_path)).stdout.splitlines()) == 61
    assert len(json.loads(exp(workshop, "board", "--json", PROJECT_ROOT=str(tmp_path)).stdout)) == 60
