"""What counts as other code: what trains; not a comment, a parameter's default, or the metric."""

from __future__ import annotations

import pytest

from expkit.codehash import digest, digests, same_code

PATH = "experiments/009-x/train.py"
UNUSED = {PATH: frozenset({"TrainConfig", "score"})}
SOURCE = '''
"""A title."""
from dataclasses import dataclass
from typing import ClassVar

import expkit

STEPS = 10


@dataclass
class TrainConfig:
    rate: float = 0.1
    LAYERS: ClassVar[int] = 3

    def __post_init__(self) -> None:
        expkit.require(self.rate > 0, "no")

    def steps(self) -> int:
        return 7


@dataclass
class Scaler:
    factor: float = 2.0


physics = PhysicsExperiment(steps=10)


def score(oof):
    return oof["a"].mean()


def train(exp, fold):
    return exp.train.rate


experiment = expkit.Experiment(train, TrainConfig, metric=score)

if __name__ == "__main__":
    expkit.main(experiment)

if FAST:
    STEPS = 5
'''


def is_same(source: str) -> bool:
    return same_code(*(digest(digests({PATH: text.encode()}, UNUSED)) for text in (SOURCE, source)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STEPS = 10", "STEPS  =  10  # passes"),
        ('"""A title."""', '"""Another."""'),
        ("rate: float = 0.1", "rate: float = 0.2\n    more: int = 1"),
        ("self.rate > 0", "self.rate >= 0"),
        ('oof["a"].mean()', 'oof["a"].max()'),
        ("metric=score)", "metric=score, greater_is_better=False)"),
        ("\n", "\r\n"),
    ],
)
def test_the_same_training(old: str, new: str) -> None:
    assert SOURCE.replace(old, new) != SOURCE
    assert is_same(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STEPS = 10", "STEPS = 11"),
        ("LAYERS: ClassVar[int] = 3", "LAYERS: ClassVar[int] = 4"),
        ("return 7", "return 8"),
        ("factor: float = 2.0", "factor: float = 3.0"),
        ("PhysicsExperiment(steps=10)", "PhysicsExperiment(steps=11)"),
        ("return exp.train.rate", "return exp.train.rate * 2"),
        ("    STEPS = 5", "    STEPS = 6"),
    ],
)
def test_another_training(old: str, new: str) -> None:
    assert old in SOURCE
    assert not is_same(SOURCE.replace(old, new))


def test_a_metric_that_the_training_uses_too() -> None:
    """It chooses an epoch, say: then it is code that trains."""
    using = SOURCE.replace("return exp.train.rate", "return score(fold)")
    one, other = (digest(digests({PATH: text.encode()}, UNUSED)) for text in (using, using.replace("mean()", "max()")))
    assert not same_code(one, other)
