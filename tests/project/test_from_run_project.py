"""`exp new 001/004 --from RUN`: the best trial of a study as a parameter set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project
from experiments import own_experiment
from helpers import counting, exp, scores_and_predictions
from light import LIGHT

import expkit


@pytest.fixture
def light(root: Path) -> Iterator[Path]:
    """A copy of the light experiment, which may be changed."""
    with own_experiment(copy_of=LIGHT) as folder:
        yield folder


def test_a_trial_of_a_study(light: Path, shared_sweeping: Project, root: Path) -> None:
    """By its name; trained as a parameter set, it predicts the same."""
    search = ["-m", "hydra/sweeper=optuna", "exp.train.x=tag(log,interval(0.01,40))", "hydra.sweeper.n_trials=2"]
    shared_sweeping.train(*search, "exp.fold=[0]", experiment=LIGHT, root=root)
    trials = sorted(path.name for path in (root / "output" / LIGHT).glob("light,*"))
    exp("new", f"{light.name}/004", "--from", trials[0])
    expkit.run(light.name, overrides=["exp=004", "exp.fold=[0]"])
    again = scores_and_predictions(counting(root, "004", light.name))
    assert len(trials) == 2 and again == scores_and_predictions(counting(root, trials[0])) != {}
