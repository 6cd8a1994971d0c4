"""Studies in several processes: of trials at once, of two terminals, after a kill, and beside other packages."""

from __future__ import annotations

import signal
from pathlib import Path

import optuna
import psutil
import pytest
from conftest import Project, call
from helpers import start, trials
from light import LIGHT, wait_for

from expkit import store

pytestmark = pytest.mark.slow  # a study in one process: tests/unit/test_studies.py
# The score is 10 - log10(x)²: the best is 10, at x = 1.
SEARCH = "exp.train.x=tag(log,interval(0.01,40))"
STUDY = ["-m", "hydra/sweeper=optuna", "exp.fold=[0]", SEARCH]
ALL_FOLDS = ["-m", "hydra/sweeper=optuna", SEARCH]
MEDIAN = ["hydra/sweeper/pruner=median", "hydra.sweeper.sampler.seed=1"]
LOCAL = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]


def up_to(trials: int) -> str:
    return f"hydra.sweeper.n_trials={trials}"


def runs(root: Path) -> list[store.Run]:
    return [store.read_run(folder) for folder in store.run_folders(root / "output")]


def results_of_any(root: Path) -> list[Path]:
    return list(root.glob(f"output/{LIGHT}/*/fold*/result.json"))


def test_a_killed_process_does_not_end_the_study(sweeping: Project, root: Path) -> None:
    """Its trial runs again; there are as many trials as were asked for."""
    process = start(sweeping, root, *ALL_FOLDS, *LOCAL, up_to(6), LIGHT_SECONDS="0.2")
    wait_for(lambda: len(results_of_any(root)) >= 2, process)
    for worker in psutil.Process(process.pid).children(recursive=True):
        if "loky" in " ".join(worker.cmdline()) and any("fold" in file.path for file in worker.open_files()):
            worker.kill()
            break
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    assert "a process of the study has died" in errors
    assert [state for state, _, _ in trials(root)] == ["COMPLETE"] * 6
    assert all(run.is_complete for run in runs(root))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_trial_runs_for_ever(sweeping: Project, root: Path, how: signal.Signals) -> None:
    """The command is killed, or interrupted, with trials under way in other processes; the same command goes on."""
    command = [*ALL_FOLDS, *MEDIAN, *LOCAL, up_to(8)]
    process = start(sweeping, root, *command, LIGHT_SECONDS="0.2")
    wait_for(lambda: len(results_of_any(root)) >= 7, process)
    process.send_signal(how)
    process.communicate(timeout=60)
    before = trials(root)
    states = [state for state, _, _ in before]
    assert ("RUNNING" if how == signal.SIGKILL else "WAITING") in states
    assert how == signal.SIGKILL or "RUNNING" not in states
    sweeping.train(*command, experiment=LIGHT, root=root)
    after = trials(root)
    assert [x for _, x, _ in after[: len(before)]] == [x for _, x, _ in before]  # the same trials, none anew
    assert len(after) == 8 and {state for state, _, _ in after} <= {"COMPLETE", "PRUNED"}


def test_two_terminals_run_one_study(sweeping: Project, root: Path) -> None:
    """As many trials as were asked for, together."""
    processes = [start(sweeping, root, *STUDY, up_to(8), LIGHT_SECONDS="0.1") for _ in range(2)]
    for process in processes:
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, printed + errors
    assert [state for state, _, _ in trials(root)] == ["COMPLETE"] * 8


# Optuna's releases


@pytest.mark.parametrize("packages", [["optuna==4.9.0"], ["optuna-dashboard"]])
def test_other_packages_beside(sweeping: Project, root: Path, packages: list[str]) -> None:
    """The oldest Optuna that is supported; the dashboard, which is installed beside the one that is there."""
    environment = sweeping.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled")
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    beside = ["uv", "run", "-q", "--no-sync", *(argument for one in packages for argument in ("--with", one))]
    show = "from importlib.metadata import version; print(version('optuna'))"
    found = call(*beside, "python", "-c", show, cwd=sweeping.folder, env=environment).stdout
    assert found.startswith("4.9.0" if packages == ["optuna==4.9.0"] else "5.")
    call(*beside, "python", train, *ALL_FOLDS, *MEDIAN, up_to(7), cwd=sweeping.folder, env=environment)
    assert [state for state, _, _ in trials(root)].count("COMPLETE") >= 5


def test_a_study_in_a_database(sweeping: Project, root: Path) -> None:
    """By its URL, for those who have one; two trials at once, in two processes."""
    url = f"sqlite:///{root}/trials.db"
    arguments = [*ALL_FOLDS, *MEDIAN, *LOCAL, f"hydra.sweeper.storage={url}", up_to(9)]
    sweeping.train(*arguments, experiment=LIGHT, root=root, LIGHT_SECONDS="0.1")
    [about] = optuna.get_all_study_summaries(url)
    states = {trial.state.name for trial in optuna.load_study(study_name=about.study_name, storage=url).trials}
    assert about.n_trials == 9 and states == {"COMPLETE", "PRUNED"}
    folds = [fold for run in runs(root) for fold in run.done.values()]
    assert len({fold.result["values"]["pid"] for fold in folds if fold.result}) == 2
    assert not (root / "output/multirun/optuna.log").exists()
