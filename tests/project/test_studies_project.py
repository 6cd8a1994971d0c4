"""Studies of Optuna's: they look for the best CV score, end bad trials early when asked to, and are never lost."""

from __future__ import annotations

import signal
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from conftest import Project, call
from helpers import exp, frozen, start, trials
from light import LIGHT, edited, wait_for

import expkit
from expkit import store
from expkit.board import entries, ordered
from expkit.cli.results import _under_way

# The score is 10 - log10(x)²: the best is 10, at x = 1; above 50 the training fails.
SEARCH = "exp.train.x=tag(log,interval(0.01,40))"
STUDY = ["-m", "hydra/sweeper=optuna", "exp.fold=[0]", SEARCH]


def up_to(trials: int) -> str:
    return f"hydra.sweeper.n_trials={trials}"


def best(root: Path) -> float:
    [file] = (root / "output/multirun").glob("*/optimization_results.yaml")
    found = yaml.safe_load(file.read_text())["best_value"]
    file.unlink()
    return float(found)


def runs(root: Path) -> list[store.Run]:
    return [store.read_run(folder) for folder in store.run_folders(root / "output")]


def test_a_study_looks_for_the_highest_score(sweeping: Project, root: Path) -> None:
    """Each trial is a run of its own, with a row at the end. `n_trials` is a total, over all commands."""
    printed = sweeping.train(*STUDY, up_to(3), experiment=LIGHT, root=root).stdout
    done = trials(root)
    assert [state for state, _, _ in done] == ["COMPLETE"] * 3
    scores = [score for _, _, score in done if score is not None]
    assert best(root) == max(scores)
    assert sorted(score.value for run in runs(root) if (score := run.score_of())) == sorted(scores)
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


def test_a_study_that_goes_on_with_other_code(sweeping: Project, root: Path) -> None:
    """It says so at its end, when the best trial is of other code than some; a comment is no other code."""
    shape = sweeping.folder / "experiments" / LIGHT / "shape.py"
    sweeping.train(*STUDY, up_to(2), experiment=LIGHT, root=root)
    with edited(shape, "import math", "import math  # log10"):
        done = sweeping.train(*STUDY, up_to(3), experiment=LIGHT, root=root)
    assert "mixed code" not in done.stdout
    with edited(shape, "return 10 -", "return 20 -"):
        done = sweeping.train(*STUDY, up_to(5), experiment=LIGHT, root=root)
    assert "mixed code: 3 of the trials were trained with other code than the best" in done.stdout
    found = (root / "output/multirun").glob("*/optimization_results.yaml")
    assert [0, 1, 2] in [yaml.safe_load(file.read_text()).get("other_code") for file in found]


@pytest.mark.slow
def test_a_study_looks_for_the_lowest_score_when_it_is_better(sweeping: Project, root: Path) -> None:
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    with edited(train, "greater_is_better=True", "greater_is_better=False"):
        sweeping.train(*STUDY, up_to(4), experiment=LIGHT, root=root)
    scores = [score for _, _, score in trials(root) if score is not None]
    assert best(root) == min(scores) < max(scores)


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


# Pruning

ALL_FOLDS = ["-m", "hydra/sweeper=optuna", SEARCH]
MEDIAN = ["hydra/sweeper/pruner=median", "hydra.sweeper.sampler.seed=1"]


def by_state(root: Path) -> dict[str, list[store.Run]]:
    """The runs that are complete, and those that are pruned."""
    found = runs(root)
    return {"pruned": [run for run in found if run.pruned], "complete": [run for run in found if run.is_complete]}


def test_a_pruner_ends_bad_trials_early(sweeping: Project, root: Path) -> None:
    """A pruned run says so, has fewer folds, and comes after all others; the study goes on to its total."""
    printed = sweeping.train(*ALL_FOLDS, *MEDIAN, up_to(8), experiment=LIGHT, root=root).stdout
    states = [state for state, _, _ in trials(root)]
    found = by_state(root)
    assert set(states) == {"COMPLETE", "PRUNED"} and len(states) == 8
    assert (len(found["complete"]), len(found["pruned"])) == (states.count("COMPLETE"), states.count("PRUNED"))
    assert all(run.marks == ("pruned",) and list(run.done) == [0] for run in found["pruned"])
    assert all(run.pruned == "after 1 of 5 folds" for run in found["pruned"])
    assert "pruned after 1 of 5 folds" in exp("show", str(found["pruned"][0].folder)).splitlines()
    assert printed.count("pruned after 1 of 5 folds") == states.count("PRUNED")
    assert f"study: {states.count('COMPLETE')} complete, {states.count('PRUNED')} pruned; the best has" in printed
    worst = max(score.value for run in found["pruned"] if (score := run.score_of()))
    assert worst < max(score.value for run in found["complete"] if (score := run.score_of()))

    sweeping.train(*ALL_FOLDS, *MEDIAN, up_to(9), experiment=LIGHT, root=root)
    assert len(trials(root)) == 9 and [state for state, _, _ in trials(root)][:8] == states

    run = found["pruned"][0]  # somebody wants to know it all the same
    x = run.info["config"]["exp"]["train"]["x"] if run.info else None
    expkit.run(LIGHT, overrides=[f"exp.train.x={x}"])
    again = store.read_run(run.folder)
    assert again.is_complete and again.marks == ()


def test_a_pruned_run_comes_last_however_good_it_is(sweeping: Project, root: Path) -> None:
    """Also after runs that lack folds."""
    for x in (0.1, 0.5, 1.0):
        expkit.run(LIGHT, overrides=[f"exp.train.x={x}", "exp.fold=[0]"])
    best = store.folder_of(root / "output", f"{LIGHT}/light,exp.train.x=1")
    assert best is not None
    store.prune_run(best, "after 1 of 2 folds", [0, 1])
    expkit.run(LIGHT, overrides=["exp.train.x=1.0", "exp.fold=[0]"])  # nothing that the study wanted
    expkit.run(LIGHT, overrides=["exp.train.x=1.0", "exp.mode=sub"])
    rows = ordered(entries(runs(root)))
    for row in rows:
        (row.run.folder / "fold1").mkdir()
        (row.run.folder / "fold1" / store.HISTORY).write_text("epoch,loss\n4,0.5\n")
    under_way = [_under_way(row.run) for row in rows]  # exp board --watch
    assert under_way == [["fold1 in epoch 5"], ["fold1 in epoch 5"], []]
    assert [row.config["exp.train.x"] for row in rows] == [0.5, 0.1, 1.0]
    assert [row.marks for row in rows] == [("partial",), ("partial",), ("pruned",)]
    (best / "fold1" / store.HISTORY).unlink()
    expkit.run(LIGHT, overrides=["exp.train.x=1.0", "exp.fold=[0,1]"])
    assert store.read_run(best).marks == ("partial",)


EPOCHS = """    import model

    for epoch in range(1, 21):
        fold.report(shape.of(exp.train.x), epoch / 20)
        fold.log({"epoch": epoch, "value": epoch})
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", [[], ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]])
def test_a_pruner_ends_a_trial_within_a_fold(sweeping: Project, root: Path, where: list[str]) -> None:
    """Where the experiment reports its epochs; the run goes on from nothing when somebody wants it."""
    with edited(sweeping.folder / "experiments" / LIGHT / "train.py", "    import model\n", EPOCHS):
        printed = sweeping.train(*ALL_FOLDS, *MEDIAN, *where, up_to(9), experiment=LIGHT, root=root).stdout
    states = [state for state, _, _ in trials(root)]
    assert set(states) == {"COMPLETE", "PRUNED"} and len(states) == 9
    pruned = by_state(root)["pruned"]
    assert len(pruned) == states.count("PRUNED")
    assert {run.pruned for run in pruned} == {"in fold 0, after 10% of its training"}
    assert all(not run.done and run.marks == ("pruned",) for run in pruned)
    assert printed.count("pruned in fold 0") == len(pruned)
    assert {step for trial in frozen(root) for step in trial.intermediate_values} == set(range(1, 51))


@pytest.mark.slow
def test_an_overwriting_study_replaces_no_run_by_a_pruned_one(sweeping: Project, root: Path) -> None:
    values = "1,0.5,0.1,0.05,0.02,0.01"
    sweeping.train("-m", f"exp.train.x={values}", experiment=LIGHT, root=root)
    assert len(by_state(root)["complete"]) == 6
    study = ["-m", "hydra/sweeper=optuna", "overwrite=true", f"exp.train.x=choice({values})"]
    strict = ["hydra.sweeper.pruner.n_startup_trials=1", "hydra/sweeper/pruner=median", "hydra.sweeper.sampler.seed=0"]
    sweeping.train(*study, *strict, "hydra/sweeper/sampler=random", up_to(8), experiment=LIGHT, root=root)
    assert {state for state, _, _ in trials(root)} == {"COMPLETE", "PRUNED"}
    assert len(by_state(root)["complete"]) == 6 and by_state(root)["pruned"] == []


# Trials at once, and what is killed

LOCAL = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]


@pytest.mark.slow
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


def results_of_any(root: Path) -> list[Path]:
    return list(root.glob(f"output/{LIGHT}/*/fold*/result.json"))


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_terminals_run_one_study(sweeping: Project, root: Path) -> None:
    """As many trials as were asked for, together."""
    processes = [start(sweeping, root, *STUDY, up_to(8), LIGHT_SECONDS="0.1") for _ in range(2)]
    for process in processes:
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, printed + errors
    assert [state for state, _, _ in trials(root)] == ["COMPLETE"] * 8


# Overrides, samplers, pruners


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["exp.train.x=1"], "a study needs a parameter to search"),
        ([SEARCH, "hydra/sweeper/pruner=medain"], "did you mean median?"),
    ],
)
def test_a_wrong_study_is_one_line(sweeping: Project, root: Path, arguments: list[str], words: str) -> None:
    done = sweeping.train("-m", "hydra/sweeper=optuna", *arguments, experiment=LIGHT, root=root, check=False)
    assert (done.returncode in (2, 3), len(done.stderr.splitlines())) == (True, 1), done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert not (root / "output" / LIGHT).exists()


@pytest.mark.slow
def test_a_study_does_not_turn_round(sweeping: Project, root: Path) -> None:
    """Its best trial would be its worst."""
    sweeping.train(*STUDY, up_to(1), experiment=LIGHT, root=root)
    with edited(sweeping.folder / "experiments" / LIGHT / "train.py", "better=True", "better=False"):
        done = sweeping.train(*STUDY, up_to(2), experiment=LIGHT, root=root, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is to maximize the score, but this command is to minimize it" in done.stderr


@pytest.mark.slow
def test_a_study_of_sub_is_refused(sweeping: Project, root: Path) -> None:
    done = sweeping.train(*STUDY, "exp.mode=sub", up_to(1), experiment=LIGHT, root=root, check=False)
    assert done.returncode == 2 and "a study looks for the best CV score: leave exp.mode=sub out" in done.stderr


# Optuna's releases


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_study_in_a_database(sweeping: Project, root: Path) -> None:
    """By its URL, for those who have one."""
    url = f"sqlite:///{root}/trials.db"
    arguments = [*ALL_FOLDS, *MEDIAN, *LOCAL, f"hydra.sweeper.storage={url}"]
    sweeping.train(*arguments, up_to(6), experiment=LIGHT, root=root)
    [about] = optuna.get_all_study_summaries(url)
    assert about.n_trials == 6
    assert not (root / "output/multirun/optuna.log").exists()
