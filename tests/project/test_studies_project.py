"""Studies in several processes: of trials at once, of two terminals, after a kill, and beside other packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import optuna
import psutil
import pytest
from conftest import Project, call
from helpers import start, trials
from light import LIGHT, wait_for
from optuna.trial import FrozenTrial

from expkit.study import opened

pytestmark = pytest.mark.slow  # a study in one process: tests/unit/test_studies.py
STUDY = ["-m", "hydra/sweeper=optuna", "exp.train.x=tag(log,interval(0.01,40))"]  # the best is 10, at x = 1
MEDIAN = ["hydra/sweeper/pruner=median", "hydra.sweeper.sampler.seed=1"]
LOCAL = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]


def up_to(trials: int) -> str:
    return f"hydra.sweeper.n_trials={trials}"


def folds_of(roots: list[Path]) -> list[Path]:
    return [file for root in roots for file in root.glob(f"output/{LIGHT}/*/fold*/result.json")]


def folds(root: Path) -> int:
    """How many are done, of all runs."""
    return len(folds_of([root]))


def test_a_killed_process_does_not_end_the_study(sweeping: Project, root: Path) -> None:
    """Its trial runs again; there are as many trials as were asked for."""
    process = start(sweeping, root, *STUDY, *LOCAL, up_to(6), LIGHT_SECONDS="0.2")
    wait_for(lambda: folds(root) >= 2, process)
    for worker in psutil.Process(process.pid).children(recursive=True):
        if "loky" in " ".join(worker.cmdline()) and any("fold" in file.path for file in worker.open_files()):
            worker.kill()
            break
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    assert "its process has died: killed or out of memory" in errors
    assert [state for state, _, _ in trials(root)] == ["COMPLETE"] * 6
    assert folds(root) == 6 * 5


def test_no_trial_runs_for_ever(sweeping: Project, root: Path) -> None:
    """The command is killed with trials under way in other processes; the same command goes on with these."""
    command = [*STUDY, *MEDIAN, *LOCAL, up_to(8)]
    process = start(sweeping, root, *command, LIGHT_SECONDS="0.2")
    wait_for(lambda: folds(root) >= 7, process)
    process.kill()
    process.communicate(timeout=60)
    before = trials(root)
    assert "RUNNING" in [state for state, _, _ in before]
    sweeping.train(*command, experiment=LIGHT, root=root)
    after = trials(root)
    assert [x for _, x, _ in after[: len(before)]] == [x for _, x, _ in before]
    assert len(after) == 8 and {state for state, _, _ in after} <= {"COMPLETE", "PRUNED"}


@pytest.mark.parametrize("storage", ["optuna.log", "sqlite:///{root}/trials.db"])
def test_two_terminals_run_one_study(sweeping: Project, root: Path, storage: str) -> None:
    """As many trials as were asked for, together; in a journal, or in a database by its URL."""
    url = storage.format(root=root)
    typed = [*STUDY, "exp.fold=[0]", up_to(8), f"hydra.sweeper.storage={url}"]
    processes = [start(sweeping, root, *typed, LIGHT_SECONDS="0.1") for _ in range(2)]
    for process in processes:
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, printed + errors
    [study] = opened(url).get_all_studies()
    assert [trial.state.name for trial in opened(url).get_all_trials(study._study_id)] == ["COMPLETE"] * 8


@pytest.mark.parametrize("storage", ["{shared}/study.log", "sqlite:///{shared}/study.db"], ids=["journal", "sqlite"])
def test_machines_that_are_killed_lose_no_trial(sweeping: Project, root: Path, tmp_path: Path, storage: str) -> None:
    """Two folders as two machines, two commands each: every trial ends, once; there are as many as were asked for."""
    shared, roots = tmp_path / "shared", [root, tmp_path / "other"]
    url = storage.format(shared=shared)
    for folder in (shared, roots[1] / "input"):
        folder.mkdir(parents=True)
    options = ["hydra.sweeper.study_name=s", "hydra/sweeper/sampler=random", f"hydra.sweeper.storage={url}"]
    command = [*STUDY, *options, "exp.fold=[0]", up_to(200)]

    def begun(machine: Path) -> subprocess.Popen[str]:
        return start(sweeping, machine, *command, stdout=subprocess.DEVNULL)

    def ended() -> list[FrozenTrial]:
        found = optuna.load_study(study_name="s", storage=opened(url)).trials
        return [trial for trial in found if trial.state.is_finished()]

    running = [(root, begun(root))]
    wait_for(lambda: len(folds_of(roots)) > 0, running[0][1])  # two machines cannot make a database at once
    running += [(machine, begun(machine)) for machine in (roots[1], *roots)]
    for kill in range(4):
        wait_for(lambda: len(ended()) >= 30 * (kill + 1), seconds=200)  # noqa: B023
        machine, process = running.pop(0)
        process.kill()
        process.communicate()
        running.append((machine, begun(machine)))
    for _, process in running:
        assert process.wait(300) == 0, process.communicate()
    for machine in roots:  # whoever was killed last, his command takes up what it left
        assert begun(machine).wait(100) == 0
    trials = optuna.load_study(study_name="s", storage=opened(url)).trials
    assert [trial.state.name for trial in trials[:200]] == ["COMPLETE"] * 200
    assert len({trial.params["exp.train.x"] for trial in trials[:200]}) == 200
    assert 200 <= len(folds_of(roots)) <= 200 + 4  # a trial may be killed between its end and what is told of it


def test_the_oldest_optuna_that_is_supported(sweeping: Project, root: Path) -> None:
    environment = sweeping.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled")
    command = ["uv", "run", "-q", "--no-sync", "--with", "optuna==4.9.0", "python"]
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    call(*command, train, *STUDY, *MEDIAN, up_to(7), cwd=sweeping.folder, env=environment)
    assert [state for state, _, _ in trials(root)].count("COMPLETE") >= 5
