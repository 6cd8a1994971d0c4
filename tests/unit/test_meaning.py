"""What counts as other code: what trains; not a comment, a parameter's default, or the metric."""

from __future__ import annotations

import functools

import pandas
import pytest
from experiments import own_experiment
from light import LIGHT

import expkit
from expkit.code import code_hash
from expkit.fingerprint import changed_since, file_hashes, metric_hash
from expkit.store import same_code

PATH, RULES = "experiments/009-x/train.py", "src/rules.py"
FIELDS = ("rate", "more", "kind", "__post_init__")
IGNORED = {PATH: frozenset({"experiment", *(f"TrainConfig.{name}" for name in FIELDS)})}
SOURCE = '''
"""A title."""
from dataclasses import dataclass
from typing import ClassVar

import expkit
import rules

STEPS = 10
LIMIT = 5


@dataclass
class TrainConfig:
    rate: float = 0.1
    kind: VarianceKind = "a"
    LAYERS: ClassVar[int] = 3

    def __post_init__(self) -> None:
        expkit.require(self.rate > 0, "no")

    def steps(self) -> int:
        return 7


@dataclass
class Scaler:
    factor: float = 2.0


physics = PhysicsExperiment(steps=10)


def scaled(values):
    return values / 2


def score(oof):
    return min(rules.clip(scaled(oof["a"].mean())), LIMIT)


def train(exp, fold):
    return exp.train.rate


experiment = expkit.Experiment(train, TrainConfig, metric=score)

if __name__ == "__main__":
    expkit.main(experiment)

if FAST:
    STEPS = 5
'''


CLIP = """
import numpy as np


def clip(value):
    return np.clip(value, 0, 1)
"""


def is_same(source: str, clip: str = CLIP, before: str = SOURCE) -> bool:
    both = [{PATH: before.encode(), RULES: CLIP.encode()}, {PATH: source.encode(), RULES: clip.encode()}]
    return same_code(*(code_hash(file_hashes(sources, IGNORED)) for sources in both))


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
        ("values / 2", "values / 3"),
        ("LIMIT = 5", "LIMIT = 6"),
        ("LIMIT = 5\n", ""),
        ('"a"\n', '"b"\n'),
        ("VarianceKind", "Variant"),
        ("experiment =", "experiment: expkit.Experiment ="),
    ],
)
def test_the_same_training(old: str, new: str) -> None:
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert is_same(changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STEPS = 10", "STEPS = 11"),
        ("LAYERS: ClassVar[int] = 3", "LAYERS: ClassVar[int] = 4"),
        ("LAYERS: ClassVar[int] = 3", "LAYERS: 'ClassVar[int]' = 4"),
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


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("score", "min(", "max("), ("scaled", "values / 2", "values / 3"), ("LIMIT", "LIMIT = 5", "LIMIT = 6")],
)
def test_what_the_training_uses_too(name: str, old: str, new: str) -> None:
    """A metric that chooses an epoch, a constant that both need: then it is code that trains."""
    using = SOURCE.replace("return exp.train.rate", f"return exp.train.rate, {name}")
    assert not is_same(using.replace(old, new), before=using)


def test_what_is_given_to_the_training_and_what_a_check_derives() -> None:
    """`__post_init__` counts unless it only checks, or sets fields: these are compared by their values."""
    given = SOURCE.replace("Experiment(train, ", "Experiment(partial(train, k=5.0), ")
    assert is_same(given.replace("metric=score)", "metric=score, score_over='folds')"), before=given)
    assert not is_same(given.replace("5.0", "9.0"), before=given)
    check = "expkit.require(self.rate > 0, "
    for line, is_field in (
        ("self.rate *= 2", True),
        ("self.a = 2", False),
        ("object.__setattr__(self, 'a', 2)", False),
    ):
        derived = SOURCE.replace(check, f"{line}\n        {check}")
        assert is_same(derived.replace("2\n", "3\n").replace("2)\n", "3)\n"), before=derived) == is_field


def test_a_file_that_only_metrics_use() -> None:
    """And a helper in it that another file uses."""
    assert is_same(SOURCE, clip=CLIP.replace("1)", "2)"))
    assert is_same(SOURCE, clip=f"OTHER = 3\n{CLIP}") is False  # who knows what that is for
    using = SOURCE.replace("return exp.train.rate", "return rules.clip(exp.train.rate)")
    assert not is_same(using, clip=CLIP.replace("1)", "2)"), before=using)


def test_a_file_that_is_gone_has_changed() -> None:
    with own_experiment(copy_of=LIGHT) as folder:
        paths = [f"experiments/{folder.name}/{name}" for name in ("model.py", "shape.py", "train.py")]
        code = file_hashes({path: (expkit.code_root() / path).read_bytes() for path in paths})
        assert changed_since(code) == []
        (folder / "shape.py").unlink()
        assert changed_since(code) == [paths[1]]


def test_a_table_that_a_metric_holds() -> None:
    """Its values, their rows and columns, and the types."""
    table = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=["one", "two"])
    others = [table.set_axis(["two", "one"]), table.replace("x", "z"), table.astype({"a": float}), table["a"]]
    hashes = [metric_hash(functools.partial(len, each)) for each in (table, table.copy(), *others)]
    assert hashes[0] == hashes[1] and len({*hashes}) == 1 + len(others)
