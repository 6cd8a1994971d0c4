"""`exp new 001/004 --from RUN`: the configuration of any run as a parameter set, with what differs only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from experiments import own_experiment
from helpers import counting, exp, scores_and_predictions
from light import LIGHT

import expkit
from expkit import store
from expkit.store import find_run

CONFIG = """
defaults:
- schema
- net@exp.train.net: deep
- model@exp.model: cnn
- _self_
- exp: default

exp:
  name: kinds
  n_folds: 2
  fold: [0]
  train:
    rate: 0.01
    table:
      kept: 1
"""
TRAIN = """
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

import expkit


class Color(Enum):
    red = "#f00"
    blue = "#00f"


@dataclass
class CNN:
    units: int = 8


@dataclass
class ViT:
    units: int = 8
    depth: int = 2


@dataclass
class Net:
    width: int = 3


@dataclass
class Deep(Net):
    pass


@dataclass
class Wide(Net):
    pass


@dataclass
class Inner:
    a: int = 1
    b: float | None = None


@dataclass
class TrainConfig:
    net: Net = MISSING
    rate: float = 0.1
    text: str = "plain"
    count: int = 3
    maybe: float | None = 0.5
    flag: bool = False
    color: Color = Color.red
    file: Path = Path("a/b")
    items: list[Any] = field(default_factory=lambda: [1, 2])
    table: dict[str, Any] = field(default_factory=lambda: {"own": 1})
    numbers: dict[int, str] = field(default_factory=lambda: {1: "one"})
    inner: Inner = field(default_factory=Inner)
    anything: Any = None
    steps: int = 0

    def __post_init__(self):
        self.steps = 10 * self.count


@dataclass
class ExpConfig(expkit.ExpConfig):
    model: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    fold.save_oof({"id": [fold.number], "prediction": [exp.train.rate + exp.model.units]})
    fold.finish()


groups = {"model": {"cnn": CNN, "vit": ViT}, "net": {"deep": Deep, "wide": Wide}}
experiment = expkit.Experiment(train, Config, metric=quality, groups=groups, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""


@pytest.fixture
def kinds(root: Path) -> Iterator[Path]:
    """An experiment with every kind of value."""
    with own_experiment({"train.py": TRAIN, "config.yaml": CONFIG}) as folder:
        yield folder


@pytest.fixture
def light(root: Path) -> Iterator[Path]:
    """A copy of the light experiment, which may be changed."""
    with own_experiment(copy_of=LIGHT) as folder:
        yield folder


def made(folder: Path, run: str, name: str = "004") -> str:
    """The parameter set that the command makes of a run."""
    exp("new", f"{folder.name}/{name}", "--from", run)
    return (folder / f"exp/{name}.yaml").read_text()


def recorded(run: str) -> dict[str, Any]:
    info = store.read_run_info(find_run(run))
    assert info is not None
    return info


def of(experiment: str, config: dict[str, Any], **more: Any) -> store.Run:
    """A run that has recorded a configuration, and nothing else."""
    info = {"id": "0" * 8, "metric": "quality", "greater_is_better": True, "n_folds": 2}
    info |= {"config": {"choices": {"model": "cnn", "train.net": "deep"}} | config, **more}
    return store.Run(Path("nowhere"), experiment, "recorded", info, {}, None)


def test_a_trial_of_a_study(light: Path, shared_sweeping: Project, root: Path) -> None:
    """By its name; trained as a parameter set, it predicts the same."""
    search = ["-m", "hydra/sweeper=optuna", "exp.train.x=tag(log,interval(0.01,40))", "hydra.sweeper.n_trials=2"]
    shared_sweeping.train(*search, "exp.fold=[0]", experiment=LIGHT, root=root)
    trials = sorted(path.name for path in (root / "output" / LIGHT).glob("light,*"))
    made(light, trials[0])
    expkit.run(light.name, overrides=["exp=004", "exp.fold=[0]"])
    again = scores_and_predictions(counting(root, "004", light.name))
    assert len(trials) == 2 and again == scores_and_predictions(counting(root, trials[0])) != {}
