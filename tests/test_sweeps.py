"""Sweeps over parameters: a study of Optuna's looks for the best CV score, and is never lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, call
from helpers import counting, results, start
from light import LIGHT, edited, wait_for

from expkit import record

# The score is 10 - log10(x)²: the best is 10, at x = 1; above 50 the training fails.
SEARCH = "exp.train.x=tag(log,interval(0.01,40))"
STUDY = ["-m", "hydra/sweeper=optuna", "exp.fold=[0]", SEARCH]


def up_to(trials: int) -> str:
    return f"hydra.sweeper.n_trials={trials}"


def trials(root: Path) -> list[tuple[str, float | None, float | None]]:
    """State, parameter and score of each trial."""
    connection = sqlite3.connect(root / "output/multirun/optuna.db")
    query = """
        SELECT state, param_value, value FROM trials LEFT JOIN trial_params USING (trial_id)
        LEFT JOIN trial_values USING (trial_id) ORDER BY trials.trial_id
    """
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


def best(root: Path) -> float:
    [file] = (root / "output/multirun").glob("*/optimization_results.yaml")
    found = yaml.safe_load(file.read_text())["best_value"]
    file.unlink()
    return float(found)


def runs(root: Path) -> list[record.RunRecord]:
    return [record.read_run(folder) for folder in record.run_folders(root / "output")]


def test_a_study_looks_for_the_highest_score(sweeping: Project, root: Path) -> None:
    """Each trial is a run of its own, with a row at the end. `n_trials` is a total, over all commands."""
    printed = sweeping.train(*STUDY, up_to(3), experiment=LIGHT, root=root).stdout
    done = trials(root)
    assert [state for state, _, _ in done] == ["COMPLETE"] * 3
    scores = [score for _, _, score in done if score is not None]
    assert best(root) == max(scores)
    assert sorted(score.value for run in runs(root) if (score := run.score())) == sorted(scores)
    assert all("x=" in run.name for run in runs(root))
    assert printed.count(" 1/5  ") == 3

    again = sweeping.train(*STUDY, up_to(4), experiment=LIGHT, root=root).stdout
    assert again.count(" 1/5  ") == 1
    assert trials(root)[:3] == done and len(trials(root)) == 4


@pytest.mark.slow
def test_another_configuration_is_another_study(sweeping: Project, root: Path) -> None:
    """Other overrides, and an edit of config.yaml: its best value would be that of another configuration."""
    config = sweeping.folder / "experiments" / LIGHT / "config.yaml"
    sweeping.train(*STUDY, up_to(2), experiment=LIGHT, root=root)
    sweeping.train(*STUDY, "exp.seed=1", up_to(2), experiment=LIGHT, root=root)
    assert len(trials(root)) == 4
    with edited(config, "name: light", "name: light\n  n_folds: 7"):
        sweeping.train(*STUDY, "overwrite=true", up_to(2), experiment=LIGHT, root=root)
    assert len(trials(root)) == 6
    again = sweeping.train(*STUDY, up_to(2), experiment=LIGHT, root=root).stdout
    assert len(trials(root)) == 6 and " 1/5  " not in again


@pytest.mark.slow
def test_a_study_looks_for_the_lowest_score_when_it_is_better(sweeping: Project, root: Path) -> None:
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    with edited(train, "greater_is_better=True", "greater_is_better=False"):
        sweeping.train(*STUDY, up_to(4), experiment=LIGHT, root=root)
    scores = [score for _, _, score in trials(root) if score is not None]
    assert best(root) == min(scores) < max(scores)


@pytest.mark.slow
def test_an_interrupted_study_goes_on(sweeping: Project, root: Path) -> None:
    """After `kill -9` of the command, the same command does the trials that are missing, and no more."""
    process = start(sweeping, root, *STUDY, up_to(6), LIGHT_SECONDS="0.2")
    wait_for(lambda: len(list(root.glob(f"output/{LIGHT}/*/cv.json"))) >= 2, process)
    process.kill()
    process.communicate()
    ended = [trial for trial in trials(root) if trial[0] != "RUNNING"]
    assert 1 <= len(ended) < 6
    sweeping.train(*STUDY, up_to(6), experiment=LIGHT, root=root)
    assert [trial for trial in trials(root) if trial[0] != "RUNNING"][: len(ended)] == ended
    assert len([trial for trial in trials(root) if trial[0] != "RUNNING"]) == 6


@pytest.mark.slow
def test_a_failed_trial_is_recorded_and_the_study_goes_on(sweeping: Project, root: Path) -> None:
    """An exception in the training, and a score that is nan."""
    metric = sweeping.folder / "experiments" / LIGHT / "train.py"
    search = [argument.replace("0.01,40", "10,200") for argument in STUDY]
    nan = 'return oof["prediction"].mean() * (float("nan") if oof["prediction"].mean() > 8.5 else 1)'
    with edited(metric, 'return oof["prediction"].mean()', nan):
        done = sweeping.train(*search, up_to(10), "hydra.sweeper.sampler.seed=1", experiment=LIGHT, root=root)
    states = [state for state, _, _ in trials(root)]
    assert len(states) == 10 and set(states) == {"COMPLETE", "FAIL"}
    planted, not_finite = done.stderr.count("ValueError: planted"), done.stderr.count("the metric quality is nan")
    assert planted > 0 and not_finite > 0
    assert planted + not_finite == states.count("FAIL")
    assert done.stderr.splitlines()[-1].startswith("warning: failed: ")
    assert all(score is not None and score < 9 for state, _, score in trials(root) if state == "COMPLETE")


@pytest.mark.slow
def test_a_study_without_any_score(sweeping: Project, root: Path) -> None:
    search = [argument.replace("0.01,40", "60,200") for argument in STUDY]
    done = sweeping.train(*search, up_to(2), experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: failed: exp.")
    assert [state for state, _, _ in trials(root)] == ["FAIL"] * 2


@pytest.mark.slow
def test_trials_in_parallel(sweeping: Project, root: Path) -> None:
    """Two at once, in two processes."""
    arguments = [up_to(4), "hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2"]
    sweeping.train(*STUDY, *arguments, experiment=LIGHT, root=root, LIGHT_SECONDS="0.3")
    assert [state for state, _, _ in trials(root)] == ["COMPLETE"] * 4
    folds = [fold for run in runs(root) for fold in run.done.values()]
    assert len({fold.result["values"]["pid"] for fold in folds if fold.result}) == 2


@pytest.mark.slow
def test_two_first_studies_at_once(sweeping: Project, root: Path) -> None:
    """They make the database together."""
    processes = [start(sweeping, root, *STUDY, f"exp.seed={seed}", up_to(2)) for seed in (1, 2)]
    for process in processes:
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 0, printed + errors
    assert [state for state, _, _ in trials(root)] == ["COMPLETE"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["what? 100%", "a #b $x {y}", "größe 実験"])
def test_a_study_in_a_folder_with_an_odd_name(sweeping: Project, tmp_path: Path, folder: str) -> None:
    """The database lies in output/, and nowhere else."""
    root = tmp_path / folder
    (root / "control").mkdir(parents=True)
    sweeping.train(*STUDY, up_to(1), experiment=LIGHT, root=root, WANDB_MODE="disabled")
    assert len(trials(root)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {folder}
    assert {path.name for path in root.iterdir()} == {"control", "output"}


def test_a_folder_that_hydra_cannot_sweep_in_is_said_in_one_line(sweeping: Project, tmp_path: Path) -> None:
    root = tmp_path / "${x}"
    root.mkdir()
    done = sweeping.train("-m", "exp.seed=1,2", experiment=LIGHT, root=root, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: Hydra cannot sweep in a folder that has ${{ in its path: {root}/output"
    sweeping.train("exp.debug=true", "exp.fold=[0]", experiment=LIGHT, root=root)
    assert (root / f"output/debug/{LIGHT}/light/fold0/result.json").is_file()


@pytest.mark.slow
def test_code_here_and_data_there(sweeping: Project, root: Path, tmp_path: Path) -> None:
    """A remote machine: a clone of the code, and PROJECT_ROOT on a volume with the data; results are brought back."""
    code = tmp_path / "remote"
    call("git", "clone", "-q", sweeping.folder, code, cwd=tmp_path)
    environment = sweeping.environment(PROJECT_ROOT=str(root), PYTHONPATH=str(code / "src"), WANDB_MODE="offline")
    train = code / "experiments" / LIGHT / "train.py"
    call(sweeping.python, train, "exp.fold=[0,1]", cwd=tmp_path, env=environment)
    call(sweeping.python, train, "-m", "exp.fold=[2],[3]", "hydra/launcher=local", cwd=tmp_path, env=environment)
    baseline = code / "experiments/001-baseline/train.py"
    call(sweeping.python, baseline, "exp.train.epoch=2", cwd=tmp_path, env=environment)
    written = call("git", "status", "--porcelain", "--ignored", cwd=code).stdout.splitlines()
    assert all(line.endswith("__pycache__/") for line in written)
    made = {path.name for path in (root / "output").iterdir() if not path.name.startswith(".")}
    assert made == {LIGHT, "001-baseline", "multirun", "wandb"}
    assert len(results(root)) == 4
    assert len(list(root.glob("output/wandb/offline-run-*"))) == 5

    here = tmp_path / "here"
    here.mkdir()
    call("cp", "-r", f"{root}/output", here, cwd=tmp_path)  # the times of the files are others
    assert record.read_run(counting(here)).score() == record.read_run(counting(root)).score()
    synced = sorted(here.glob("output/wandb/offline-run-*"))[-1]
    shown = call(sweeping.folder / ".venv/bin/wandb", "leet", "inspect", "--summary", synced, cwd=ROOT, env=environment)
    assert "accuracy" in shown.stdout + shown.stderr
