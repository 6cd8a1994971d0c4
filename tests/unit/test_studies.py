"""Studies of Optuna's: they look for the best CV score, end bad trials early when asked to, and are never lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Command, OwnLight
from helpers import counting, exp, frozen, trials
from hydra.utils import instantiate
from light import LIGHT, edited

import expkit
from expkit import store
from expkit.board import entries, ordered
from expkit.fold import Pruned, Shared
from expkit.show import under_way
from expkit.study import Space, Trials, opened
from hydra_plugins.expkit_sweeper import PRUNERS, SAMPLERS


class Heard:
    """A trial that keeps what it is told, and is bad from a step on."""

    def __init__(self, bad_from: int = 1000) -> None:
        self.steps: dict[int, float] = {}
        self.bad_from = bad_from

    def report(self, step: int, score: float) -> bool:
        assert step not in self.steps
        self.steps[step] = score
        return step >= self.bad_from


def shared(trial: Any, folds: int) -> Shared:
    run_dir: Any = None
    return Shared(run_dir, trial, folds)


def test_what_is_reported() -> None:
    """The mean of the folds so far, ten steps a fold; parts of a fold in between. A bad trial ends before its end."""
    heard = Heard()
    reports = shared(heard, 3)
    reports.during_fold(0.5, 0.05)  # nothing before the first tenth
    reports.during_fold(0.6, 0.1)
    reports.during_fold(0.7, 0.3)
    assert not reports.after_folds([1.0])
    reports.during_fold(2.0, 1)  # the last step is that of the fold
    assert not reports.after_folds([1.0, 3.0])
    assert heard.steps == {1: 0.6, 3: 0.7, 10: 1.0, 19: 1.5, 20: 2.0}
    assert shared(Heard(10), 2).after_folds([1.0])
    assert not shared(Heard(10), 1).after_folds([1.0])
    with pytest.raises(Pruned, match="after 40% of its training"):
        shared(Heard(4), 2).during_fold(0.5, 0.45)


# Trials at once, and what is killed

SPACE = Space(["x=interval(0.0,10.0)"]).searched


@pytest.fixture
def study(root: Path) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=opened("s.log"), sampler=instantiate(SAMPLERS["tpe"]))


def test_two_commands_share_the_trials_of_a_study(study: optuna.Study) -> None:
    """A trial that another command runs counts, and is left to it; when that command has ended, it is taken."""
    one, other = Trials(study, "s.log"), Trials(study, "s.log")
    with one.alive, other.alive:
        first = one.ask(SPACE, 3, 2)
        second = other.ask(SPACE, 3, 2)
        assert [trial.number for trial in [*first, *second]] == [0, 1, 2]
        assert other.ask(SPACE, 3, 2) == []
        one.alive.release()  # interrupted, or killed
        taken = other.ask(SPACE, 3, 2)
        assert [(trial.number, trial.params) for trial in taken] == [(trial.number, trial.params) for trial in first]


def test_trials_of_another_machine_are_left_to_it(study: optuna.Study, tmp_path: Path) -> None:
    """Where both share a database alone, nobody here can see whether its command lives."""
    here, there = Trials(study, "s.log"), Trials(study, f"{tmp_path}/of another machine")
    with here.alive, there.alive:
        there.ask(SPACE, 2, 1)
        there.alive.release()
        assert [other.number for other in here.ask(SPACE, 2, 2)] == [1] and here.ask(SPACE, 2, 2) == []
        there.alive.acquire()
        [again] = Trials(study, f"{tmp_path}/of another machine").ask(SPACE, 2, 2) or [None]
        assert again is None


def test_two_machines_ask_at_once(study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock that both see: together as many as were asked for. What is too much waits for a larger number."""
    here, there = Trials(study, "s.log"), Trials(study, f"{tmp_path}/of another machine")
    with here.alive, there.alive:
        add, asked = study.add_trial, []

        def slowly(trial: optuna.trial.FrozenTrial) -> None:
            monkeypatch.setattr(study, "add_trial", add)
            asked.extend(there.ask(SPACE, 3, 2))
            add(trial)

        monkeypatch.setattr(study, "add_trial", slowly)
        asked += here.ask(SPACE, 3, 2)
        assert sorted(trial.number for trial in asked) == [0, 1, 2]
        assert len(study.trials) == 4 and here.ask(SPACE, 3, 2) == []
        for command in (here, there):
            command.alive.release()
        [left] = [trial.number for one in (here, there) for trial in one.ask(SPACE, 4, 4) if trial.number == 3]


def test_a_trial_that_kills_its_process_again_and_again_fails(study: optuna.Study) -> None:
    trials = Trials(study, "s.log")
    with trials.alive:
        for waits in (True, True, False):
            [trial] = trials.ask(SPACE, 1, 2)
            trials.tell(trial, {"failed": "", "died": True})
            assert trial.number == 0 and study.trials[0].state.name == ("WAITING" if waits else "FAIL")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=choice(1,2.5,true,abc)", optuna.distributions.CategoricalDistribution([1, 2.5, True, "abc"])),
        ("x=a,b", optuna.distributions.CategoricalDistribution(["a", "b"])),
        ("x=choice('a b',[1,2])", optuna.distributions.CategoricalDistribution(["a\\ b", "[1,2]"])),
        ("x=range(1,8)", optuna.distributions.IntDistribution(1, 7)),
        ("x=range(10,1,-3)", optuna.distributions.IntDistribution(4, 10, step=3)),
        ("x=range(0.1,0.5,0.1)", optuna.distributions.FloatDistribution(0.1, 0.4, step=0.1)),
        ("x=int(interval(1,8))", optuna.distributions.IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,8)))", optuna.distributions.IntDistribution(1, 8, log=True)),
        ("x=interval(0,8.0)", optuna.distributions.FloatDistribution(0, 8)),
        ("x=tag(log,interval(1e-4,1e-1))", optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)),
    ],
)
def test_what_overrides_mean(override: str, expected: optuna.distributions.BaseDistribution) -> None:
    space = Space([override, "exp.seed=1", "+y=[1,2]", "~z"])
    assert space.searched == {"x": expected}
    assert space.fixed == ["exp.seed=1", "+y=[1,2]", "~z"]


def test_values_are_written_as_overrides() -> None:
    space = Space(["x=range(0.1,1,0.1)", "y=choice(false,true)"])
    assert space.overrides({"x": 0.1 + 2 * 0.1, "y": True}) == ["x=0.3", "y=True"]


def test_presets_make_what_they_name() -> None:
    """Two samplers need more packages."""
    for presets in (SAMPLERS, PRUNERS):
        for settings in (presets[name] for name in presets if name not in ("cmaes", "gp")):
            assert type(instantiate(settings)).__name__ == settings["_target_"].rpartition(".")[2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Space(["x=interval(5,1)"]), "x=interval"),
        (lambda: Space(["x=range(5,5)"]), "no value in this range"),
        (lambda: Space(["x=range(1,5,0)"]), "x=range(1,5,0)"),
        (lambda: Space(["x=glob(*)"]), "a study takes choice(...), range(...) and interval(...)"),
        (lambda: opened("postgres://nobody"), "hydra.sweeper.storage=postgres://nobody"),
    ],
)
def test_a_wrong_setting_is_one_line(root: Path, call: Callable[[], object], words: str) -> None:
    with pytest.raises(expkit.Error) as refused:
        call()
    assert words in str(refused.value) and len(str(refused.value).splitlines()) == 1


# A whole study, with Hydra's basic launcher: its trials run in this process

# The score is 10 - log10(x)²: the best is 10, at x = 1; above 50 the training fails.
SEARCH = "exp.train.x=tag(log,interval(0.01,40))"
STUDY = ["-m", "hydra/sweeper=optuna", "exp.fold=[0]", SEARCH]
MEDIAN = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.sampler.seed=1"]
PRUNED = ["-m", "hydra/sweeper=optuna", SEARCH, "exp.fold=[0,1]", *MEDIAN]


def up_to(trials: int) -> str:
    return f"hydra.sweeper.n_trials={trials}"


def runs(root: Path) -> list[store.Run]:
    return [store.read_run(folder) for folder in store.run_folders(root / "output")]


def states(root: Path) -> list[str]:
    return [state for state, _, _ in trials(root)]


def scores(root: Path) -> list[float]:
    return [score for _, _, score in trials(root) if score is not None]


def test_a_study_looks_for_the_best_score(own_light: OwnLight, root: Path) -> None:
    """Each trial is a run of its own, with a row at the end. `n_trials` is a total. A study does not turn round: its
    best trial would be its worst."""
    printed = own_light(*STUDY, up_to(3)).out
    done = trials(root)
    assert states(root) == ["COMPLETE"] * 3
    assert f"study: 3 complete; the best has {max(scores(root)):.4f} with exp.train.x=" in printed
    assert sorted(score.value for run in runs(root) if (score := run.score_of())) == sorted(scores(root))
    assert all("x=" in run.name for run in runs(root))
    assert printed.count(" 1/5  ") == 3
    assert own_light(*STUDY, up_to(4)).out.count(" 1/5  ") == 1
    assert trials(root)[:3] == done and len(trials(root)) == 4
    with edited(own_light.folder / "train.py", "greater_is_better=True", "greater_is_better=False"):
        refused = own_light(*STUDY, up_to(5), code=2).err
        assert "does not minimize the score: give it another name" in refused.splitlines()[-1]
        lowest = own_light(*STUDY, "hydra.sweeper.study_name=lowest", up_to(2)).out
    assert f"the best has {min(scores(root)[4:]):.4f}" in lowest and len(trials(root)) == 6


def test_another_configuration_is_another_study(own_light: OwnLight, root: Path) -> None:
    """Other overrides, and an edit of config.yaml: its best value would be that of another configuration."""
    own_light(*STUDY, up_to(1))
    own_light(*STUDY, "exp.seed=1", up_to(1))
    assert len(trials(root)) == 2
    with edited(own_light.folder / "config.yaml", "name: light", "name: light\n  n_folds: 7"):
        own_light(*STUDY, "overwrite=true", up_to(1))
    assert len(trials(root)) == 3
    again = own_light(*STUDY, "exp.runtime.tags=[a]", up_to(1)).out
    assert len(trials(root)) == 3 and " 1/5  " not in again


def test_a_study_that_goes_on_with_other_code(own_light: OwnLight, root: Path) -> None:
    """It says so at its end, when the best trial is of other code than some; a comment is no other code."""
    own_light(*STUDY, up_to(1))
    with edited(own_light.folder / "shape.py", "import math", "import math  # log10"):
        assert "mixed code" not in own_light(*STUDY, up_to(2)).out
    with edited(own_light.folder / "shape.py", "return 10 -", "return 20 -"):
        done = own_light(*STUDY, up_to(3))
    assert "mixed code: 2 of the trials were trained with other code than the best" in done.out


def test_a_study_that_goes_on_with_another_metric(own_light: OwnLight, root: Path) -> None:
    """It says so: the scores of its trials do not compare."""
    own_light(*STUDY, up_to(2))
    with edited(own_light.folder / "train.py", 'return oof["prediction"]', 'return 100 + oof["prediction"]'):
        done = own_light(*STUDY, up_to(3))
    assert "; mixed metrics: 2 of the trials were scored by another metric than the best\n" in done.out


def test_a_failed_trial_is_recorded_and_the_study_goes_on(own_light: OwnLight, root: Path) -> None:
    """Without any score, the command fails."""
    search = [argument.replace("0.01,40", "10,200") for argument in STUDY]
    done = own_light(*search, "hydra.sweeper.sampler.seed=1", up_to(6))
    assert len(states(root)) == 6 and set(states(root)) == {"COMPLETE", "FAIL"}
    assert done.err.count("ValueError: planted") == states(root).count("FAIL")
    assert done.err.splitlines()[-1].startswith("warning: failed: ")
    search = [argument.replace("0.01,40", "60,200") for argument in STUDY]
    done = own_light(*search, up_to(2), code=1)
    assert done.err.splitlines()[-1].startswith("error: failed: exp.")
    assert "study: 2 failed; no trial has a score" in done.out and states(root)[6:] == ["FAIL"] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["exp.train.x=1"], "a study needs a parameter to search"),
        ([SEARCH, "hydra/sweeper/pruner=medain"], "did you mean median?"),
        ([SEARCH, "exp.mode=sub"], "a study looks for the best CV score: leave exp.mode=sub out"),
        ([SEARCH, "show_config=true"], "-m has many configurations: leave show_config=true out, or -m"),
        ([SEARCH, "hydra.sweeper.n_jobs=-1"], "hydra.sweeper.n_jobs must be at least 1, not -1"),
        ([SEARCH, "hydra.sweeper.pruner=median"], "choose a pruner with hydra/sweeper/pruner=median"),
        ([SEARCH, "+hydra.sweeper.sampler.sede=1"], "sede"),
        ([SEARCH, "hydra.sweeper.sampler._target_=optuna.samplers.Nothing"], "optuna.samplers.Nothing"),
    ],
)
def test_a_wrong_study_is_one_line(root: Path, train: Command, arguments: list[str], words: str) -> None:
    done = train("-m", "hydra/sweeper=optuna", *arguments, experiment=LIGHT)
    assert (done.code in (2, 3), len(done.err.splitlines())) == (True, 1), done
    assert done.err.startswith("error: ") and words in done.err
    assert not (root / "output" / LIGHT).exists()


# Pruning


def pruned_runs(root: Path) -> list[store.Run]:
    return [run for run in runs(root) if run.pruned]


def test_a_pruner_ends_bad_trials_early(own_light: OwnLight, root: Path) -> None:
    """A pruned run says so, and has fewer folds; the study goes on to its total. Somebody may train the rest."""
    printed = own_light(*PRUNED, up_to(4)).out
    known, found = states(root), pruned_runs(root)
    assert set(known) == {"COMPLETE", "PRUNED"} and len(known) == 4
    assert len(found) == known.count("PRUNED") == printed.count("pruned after 1 of 2 folds")
    assert all(run.marks == ("pruned",) and list(run.done) == [0] for run in found)
    assert "pruned after 1 of 2 folds" in exp("show", str(found[0].folder)).splitlines()
    assert f"study: {known.count('COMPLETE')} complete, {known.count('PRUNED')} pruned; the best has" in printed
    x = found[0].info["config"]["exp"]["train"]["x"] if found[0].info else None
    expkit.run(own_light.folder.name, overrides=[f"exp.train.x={x}"])
    again = store.read_run(found[0].folder)
    assert again.is_complete and again.marks == ()


EPOCHS = """    import model

    for epoch in fold.epochs(20):
        fold.log(valid_quality=shape.of(exp.train.x))
"""
CALLBACK = EPOCHS.replace("fold.epochs(20)", "range(1, 21)").replace("log(", "log(epoch=epoch, total=20, ")


@pytest.mark.parametrize("code", [EPOCHS, CALLBACK], ids=["epochs", "callback"])
def test_a_pruner_ends_a_trial_within_a_fold(own_light: OwnLight, root: Path, code: str) -> None:
    """Where the experiment reports its epochs, or a trainer with its own loop does."""
    with edited(own_light.folder / "train.py", "    import model\n", code):
        printed = own_light(*PRUNED, up_to(4)).out
    pruned = pruned_runs(root)
    assert len(states(root)) == 4 and len(pruned) == states(root).count("PRUNED") > 0
    assert {run.pruned for run in pruned} == {"in fold 0, after 10% of its training"}
    assert all(not run.done and run.marks == ("pruned",) for run in pruned)
    assert printed.count("pruned in fold 0") == len(pruned)
    assert {step for trial in frozen(root) for step in trial.intermediate_values} == set(range(1, 21))


def test_an_overwriting_study_replaces_no_run_by_a_pruned_one(own_light: OwnLight, root: Path) -> None:
    values = (1, 0.1, 0.01)
    for x in values:
        expkit.run(own_light.folder.name, overrides=[f"exp.train.x={x}", "exp.fold=[0,1]"])
    study = ["-m", "hydra/sweeper=optuna", "overwrite=true", "exp.fold=[0,1]", f"exp.train.x=choice{values}", *MEDIAN]
    own_light(*study, "hydra/sweeper/sampler=random", up_to(4))
    assert set(states(root)) == {"COMPLETE", "PRUNED"}
    assert [(list(run.done), run.pruned) for run in runs(root)] == [([0, 1], "")] * 3


def test_a_pruned_run_comes_last_however_good_it_is(root: Path) -> None:
    """Also after runs that lack folds. It stays pruned until somebody trains it."""
    for x in (0.1, 0.5, 1.0):
        expkit.run(LIGHT, overrides=[f"exp.train.x={x}", "exp.fold=[0]"])
    best_run = counting(root, "light,exp.train.x=1")
    store.prune_run(best_run, "after 1 of 2 folds")
    rows = ordered(entries(runs(root)))
    assert [row.config["exp.train.x"] for row in rows] == [0.5, 0.1, 1.0]
    assert [row.marks for row in rows] == [("partial",), ("partial",), ("pruned",)]
    for row in rows:
        (row.run.folder / "fold1").mkdir()
        (row.run.folder / "fold1" / store.HISTORY).write_text("epoch,loss\n4,0.5\n")
    folders = [row.run.folder for row in rows]
    with store.Versions.of(folders[0]).part(folders[0], "fold1"):
        stopped = [under_way(store.read_run(folder)) for folder in folders]
    assert stopped == [["fold 1 in epoch 4"], ["fold 1 stopped in epoch 4"], []]
    expkit.run(LIGHT, overrides=["exp.train.x=1.0", "exp.fold=[0,1]"])
    assert store.read_run(best_run).marks == ("partial",)
