"""Studies of Optuna's: they look for the best CV score, end bad trials early when asked to, and are never lost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from experiments import own_experiment
from light import LIGHT

import expkit
from expkit.fold import Pruned, Reports
from expkit.study import Space, Trials, made, opened
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


def test_what_is_reported() -> None:
    """The mean of the folds so far, ten steps a fold; parts of a fold in between."""
    heard = Heard()
    reports = Reports(heard, 3)
    reports.during_fold(0.5, 0.05)  # nothing before the first tenth
    reports.during_fold(0.6, 0.1)
    reports.during_fold(0.7, 0.3)
    assert not reports.after_folds([1.0])
    reports.during_fold(2.0, 1)  # the last step is that of the fold
    assert not reports.after_folds([1.0, 3.0])
    assert heard.steps == {1: 0.6, 3: 0.7, 10: 1.0, 19: 1.5, 20: 2.0}
    Reports(None, 3).during_fold(0.5, 0.5)


def test_a_bad_trial_ends_unless_it_is_at_its_end() -> None:
    assert Reports(Heard(10), 2).after_folds([1.0])
    assert not Reports(Heard(10), 1).after_folds([1.0])
    with pytest.raises(Pruned, match="after 40% of its training"):
        Reports(Heard(4), 2).during_fold(0.5, 0.45)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("fold.report(0.5, 30)", "progress must be above 0, and at most 1"),
        ("fold.report('good', 0.5)", "the score must be a number"),
    ],
)
def test_a_wrong_report_is_one_line(root: Path, call: str, words: str) -> None:
    with own_experiment(copy_of=LIGHT) as own:
        train = own / "train.py"
        train.write_text(train.read_text().replace("    import model\n", f"    import model\n\n    {call}\n"))
        with pytest.raises(expkit.Error, match=words):
            expkit.run(own.name, overrides=["exp.fold=[0]"])


# Trials at once, and what is killed


def thirty(file: Path, **of_sampler: bool) -> optuna.Study:
    """A study with thirty trials, the best at x = 1."""
    sampler = made("sampler", SAMPLERS["tpe"] | {"seed": 3} | of_sampler)
    found = optuna.create_study(study_name="s", storage=opened(str(file)), sampler=sampler)
    distribution = Space(["x=interval(0.0,10.0)"]).searched
    for number in range(30):
        x = number / 3
        found.add_trial(
            optuna.trial.create_trial(params={"x": x}, distributions=distribution, value=(x - 1) ** 2)  # type: ignore[arg-type]
        )
    return found


@pytest.fixture
def study(root: Path) -> optuna.Study:
    return thirty(root / "s.log")


def test_trials_at_once_are_sampled_with_each_other_in_mind(root: Path) -> None:
    """Constant liar: without it, eight that run at once crowd at the best place known."""
    space, width = Space(["x=interval(0.0,10.0)"]).searched, {}
    for liar, of_sampler in {True: {}, False: {"constant_liar": False}}.items():
        study = thirty(root / f"{liar}.log", **of_sampler)
        with Trials(study) as mine:
            asked = [trial.params["x"] for trial in mine.ask(space, 38, 8)]
        assert len(asked) == 8
        width[liar] = max(asked) - min(asked)
    assert width[True] > 1.5 * width[False]


def test_two_commands_share_the_trials_of_a_study(study: optuna.Study) -> None:
    """A trial that another command runs counts, and is left to it; one that it loses is taken."""
    space = Space(["x=interval(0.0,10.0)"]).searched
    with Trials(study) as one, Trials(study) as other:
        first = one.ask(space, 33, 2)
        second = other.ask(space, 33, 2)
        assert [len(first), len(second)] == [2, 1]
        assert other.ask(space, 33, 2) == []
        one.tell(first[0], (1.0, None))
        one.lose(first[1])
        [taken] = other.ask(space, 33, 2)
        assert (taken.number, taken.params) == (first[1].number, first[1].params)
        other.tell(taken, None)
        other.tell(second[0], (None, None))
    states = [trial.state.name for trial in study.trials[30:]]
    assert states == ["COMPLETE", "FAIL", "PRUNED"]


def test_a_trial_that_kills_its_process_again_and_again_fails(study: optuna.Study) -> None:
    """Also when that process is the command; Ctrl-C does not count."""
    space = Space(["x=interval(0.0,10.0)"]).searched
    for _ in range(4):
        with Trials(study) as interrupted:
            assert len(interrupted.ask(space, 31, 2)) == 1
    killed = Trials(study)
    killed._alive.acquire()
    [first] = killed.ask(space, 31, 2)
    assert Trials(study).ask(space, 31, 2) == []  # it is at work
    killed._alive.release()
    with Trials(study) as mine:
        for again in (True, False):
            [trial] = mine.ask(space, 31, 2)
            assert (trial.number, trial.params) == (30, first.params)
            assert mine.lose(trial) == again
        assert mine.ask(space, 31, 2) == []
    assert study.trials[30].state.name == "FAIL"


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


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("cmaes", "gp")])
def test_samplers(name: str) -> None:
    assert type(made("sampler", SAMPLERS[name])) is getattr(optuna.samplers, SAMPLERS[name]["_target_"].split(".")[2])


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners(name: str) -> None:
    assert type(made("pruner", PRUNERS[name])) is getattr(optuna.pruners, PRUNERS[name]["_target_"].split(".")[2])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Space(["x=interval(5,1)"]), "x=interval"),
        (lambda: Space(["x=range(5,5)"]), "no value in this range"),
        (lambda: made("pruner", "median"), "choose a pruner with hydra/sweeper/pruner=median"),
        (lambda: made("sampler", SAMPLERS["tpe"] | {"sede": 1}), "sede"),
        (lambda: made("sampler", {"_target_": "optuna.samplers.Nothing"}), "optuna.samplers.Nothing"),
        (lambda: opened("postgres://nobody"), "hydra.sweeper.storage=postgres://nobody"),
    ],
)
def test_a_wrong_setting_is_one_line(root: Path, call: Callable[[], object], words: str) -> None:
    with pytest.raises(expkit.Error) as refused:
        call()
    assert words in str(refused.value) and len(str(refused.value).splitlines()) == 1


# Optuna's releases


def test_a_sampler_whose_package_is_missing_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    sampler = made("sampler", SAMPLERS["cmaes"] | {"n_startup_trials": 0})
    study = optuna.create_study(study_name="s", storage=opened("s.log"), sampler=sampler)
    with Trials(study) as mine, pytest.raises(expkit.Error, match="not installed: uv add cmaes"):
        for _ in range(3):
            for trial in mine.ask(Space(["x=interval(0,1.0)", "y=interval(0,1.0)"]).searched, 9, 1):
                mine.tell(trial, (0.5, None))
