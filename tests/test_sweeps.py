"""Sweeps over parameters: a study of Optuna's looks for the best CV score, and is never lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import yaml
from conftest import ROOT, Project, call
from light import LIGHT, edited, start
from test_run import load
from test_runs import wait_for

SEARCH = (
    "exp.train.x=tag(log,interval(0.01,100))"  # the score is 10 - log10(x)²: the best is 10, at x = 1; x > 50 fails
)
STUDY = ["-m", "hydra/sweeper=optuna", "exp.fold=[0]", SEARCH]


def up_to(trials: int) -> str:
    return f"hydra.sweeper.n_trials=${{expkit.trials_left:{trials}}}"


def trials(root: Path) -> list[tuple[str, float | None, float | None]]:
    """State, parameter and score of each trial."""
    connection = sqlite3.connect(root / "output/multirun/optuna.db")
    query = """
        SELECT state, param_value, value FROM trials LEFT JOIN trial_params USING (trial_id)
        LEFT JOIN trial_values USING (trial_id) ORDER BY number
    """
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


def best(root: Path) -> dict[str, float]:
    [file] = (root / "output/multirun").glob("*/optimization_results.yaml")
    found: dict[str, float] = yaml.safe_load(file.read_text())
    file.unlink()
    return found


def test_a_study_looks_for_the_highest_score(sweeping: Project, root: Path) -> None:
    """Each trial is a run of its own with a row at the end; the same command has nothing more to do."""
    printed = sweeping.train(*STUDY, up_to(8), experiment=LIGHT, root=root).stdout
    done = trials(root)
    assert len(done) == 8
    scores = [score for state, _, score in done if state == "COMPLETE"]
    assert best(root)["best_value"] == max(filter(None, scores))
    runs = [folder for folder in (root / f"output/{LIGHT}").iterdir() if folder.name != ".locks"]
    assert len([run for run in runs if (run / "cv.json").exists()]) == len(scores)
    assert printed.count(" 1/5  ") == len(scores)
    for run in runs:
        assert "x=" in run.name

    again = sweeping.train(*STUDY, up_to(8), experiment=LIGHT, root=root).stdout
    assert trials(root) == done
    assert " 1/5  " not in again
    sweeping.train(*STUDY, "hydra.sweeper.n_trials=1", experiment=LIGHT, root=root)
    assert len(trials(root)) == 9
    sweeping.train(*STUDY, "exp.seed=1", up_to(2), experiment=LIGHT, root=root)
    assert len(trials(root)) == 11, "other overrides are another study"


def test_a_study_looks_for_the_lowest_score_when_it_is_better(sweeping: Project, root: Path) -> None:
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    with edited(train, "greater_is_better=True", "greater_is_better=False"):
        sweeping.train(*STUDY, up_to(6), experiment=LIGHT, root=root)
    scores = [score for state, _, score in trials(root) if state == "COMPLETE"]
    assert best(root)["best_value"] == min(filter(None, scores)) < max(filter(None, scores))


def test_two_directions_are_refused(sweeping: Project, root: Path) -> None:
    """`expkit.run` and `expkit.Run` would look for the best and for the worst; also without a sweep."""
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    with edited(train, "main, Config, greater_is_better=True", "main, Config, greater_is_better=False"):
        done = sweeping.train(experiment=LIGHT, root=root, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "end the file with expkit.run(main, Config, greater_is_better=True)" in done.stderr


def test_an_interrupted_study_goes_on(sweeping: Project, root: Path) -> None:
    """After `kill -9` of the command, the same command does the trials that are missing, and no more."""
    process = start(sweeping, root, *STUDY, up_to(6))
    wait_for(lambda: len(list(root.glob(f"output/{LIGHT}/*/cv.json"))) >= 2, process)
    process.kill()
    process.communicate()
    ended = [trial for trial in trials(root) if trial[0] != "RUNNING"]
    assert 1 <= len(ended) < 6
    sweeping.train(*STUDY, up_to(6), experiment=LIGHT, root=root)
    assert [trial for trial in trials(root) if trial[0] != "RUNNING"][: len(ended)] == ended
    assert len([trial for trial in trials(root) if trial[0] != "RUNNING"]) == 6


def test_a_failed_trial_is_recorded_and_the_study_goes_on(sweeping: Project, root: Path) -> None:
    search = [argument.replace("0.01,100", "10,200") for argument in STUDY]
    done = sweeping.train(*search, up_to(8), "hydra.sweeper.sampler.seed=1", experiment=LIGHT, root=root)
    states = [(state, x > 1.7) for state, x, _ in trials(root) if x is not None]  # stored as log10 or as it is
    assert {state for state, _ in states} == {"COMPLETE", "FAIL"}
    assert len(states) == 8
    failed = [state for state, _ in states].count("FAIL")
    assert done.stderr.count("ValueError: planted") == failed
    assert done.stderr.splitlines()[-1].startswith("warning: failed: ")
    assert done.stdout.count(" 0/5 ") == failed


def test_a_study_without_any_score(sweeping: Project, root: Path) -> None:
    search = [argument.replace("0.01,100", "60,200") for argument in STUDY]
    done = sweeping.train(*search, up_to(2), experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: failed: exp.train.x=")


def test_trials_in_parallel(sweeping: Project, root: Path) -> None:
    """Two at once, in two processes, of a kind that must wait for each other."""
    (root / "input/together").write_text("1")
    arguments = [up_to(4), "hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2"]
    sweeping.train(*STUDY, *arguments, experiment=LIGHT, root=root, LIGHT_SECONDS="0.3")
    assert len(trials(root)) == 4
    found = [load(file) for file in root.glob(f"output/{LIGHT}/*/fold0/result.json")]
    assert len({result["pid"] for result in found}) == 2


def test_code_here_and_data_there(sweeping: Project, root: Path, tmp_path: Path) -> None:
    """A remote machine: a clone of the code, and PROJECT_ROOT on a volume with the data; results are brought back."""
    code = tmp_path / "remote"
    call("git", "clone", "-q", sweeping.folder, code, cwd=tmp_path)
    environment = sweeping.environment(PROJECT_ROOT=str(root), PYTHONPATH=str(code / "src"), WANDB_MODE="offline")
    (root / "input/gate4").touch()  # data that is read: fold 4 waits
    train = code / "experiments" / LIGHT / "train.py"
    call(sweeping.python, train, "exp.fold=[0,1]", cwd=tmp_path, env=environment)
    call(sweeping.python, train, "-m", "exp.fold=[2],[3]", "hydra/launcher=local", cwd=tmp_path, env=environment)
    baseline = code / "experiments/001-baseline/train.py"
    call(sweeping.python, baseline, "exp.train.epoch=2", cwd=tmp_path, env=environment)
    assert (
        call("git", "status", "--porcelain", "--ignored", cwd=code).stdout.replace("__pycache__/", "").count("out") == 0
    )
    assert {path.name for path in (root / "output").iterdir()} == {LIGHT, "001-baseline", "multirun", "wandb"}
    assert load(root / f"output/{LIGHT}/light/cv.json")["folds_done"] == 4
    assert len(list(root.glob("output/wandb/offline-run-*"))) == 1

    here = tmp_path / "here/output"
    here.mkdir(parents=True)
    call("cp", "-r", f"{root}/output/.", here, cwd=tmp_path)
    [synced] = here.glob("wandb/offline-run-*")
    shown = call(sweeping.folder / ".venv/bin/wandb", "leet", "inspect", "--summary", synced, cwd=ROOT, env=environment)
    assert "accuracy" in shown.stdout + shown.stderr
