"""A score never lies: what is no number, row, id or submission is one line, and the fold is not done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import Project, call
from experiments import own_experiment

import expkit
from expkit.config import load_experiment

TRAIN = """
import functools
import math

import expkit
import numpy as np


{metrics}


def train(exp, fold):
    with open(expkit.project_root() / "trained", "a") as log:
        log.write(f"{{fold.name}}\\n")
    n = 0 if fold.number is None else fold.number
{body}


experiment = expkit.Experiment(train, expkit.Config, {options}, own_split=True)
"""

ACCURACY = """
def accuracy(oof):
    return (oof["target"] == oof["prediction"]).mean()
"""
GOOD = """
fold.save_oof({"id": [10 * n, 10 * n + 1], "target": [0, 1], "prediction": [0, n % 2]})
fold.finish()
"""

Make = Callable[..., str]


def source(metrics: str, body: str, options: str) -> str:
    indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return TRAIN.format(metrics=metrics.strip("\n"), body=indented, options=options)


@pytest.fixture
def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes an experiment of two folds: the source of its metrics, what `train` does with `fold`, and the options.

    A name of one that is there already: its train.py is written anew.
    """
    monkeypatch.setenv("PATH", str(root))  # no git: snapshots take longer than these trainings

    with ExitStack() as stack:

        def made(
            metrics: str = ACCURACY, body: str = GOOD, options: str = "metric=accuracy", name: str | None = None
        ) -> str:
            text = source(metrics, body, options)
            if name is not None:
                (expkit.code_root() / "experiments" / name / "train.py").write_text(text)
                load_experiment(name, again=True)
                return name
            folder = stack.enter_context(own_experiment({"train.py": text}))
            config = folder / "config.yaml"
            config.write_text(config.read_text() + "  n_folds: 2\n")
            return folder.name

        yield made


def trained(root: Path) -> list[str]:
    """The folds that have been trained, each time."""
    return (root / "trained").read_text().split() if (root / "trained").exists() else []


# Metrics


ODD = """
import re
import threading
from dataclasses import dataclass


@dataclass
class Odd:
    names: frozenset
    open_file: object
    me: object = None

    def __call__(self, oof):
        return 1.0 if again(1) else 0.0


def again(n):
    return n == 0 or again(n - 1)


odd = Odd(frozenset("abcdefgh"), open(__file__), [threading.Lock(), object(), lambda x: x, re.compile("a")])
odd.me.append(odd)
"""


def test_a_metric_is_the_same_in_each_process(make: Make, project: Project) -> None:
    """Whatever it holds: a lock, a file, itself; whatever its comments, docstrings and layout; in any experiment."""
    name = make(ODD, options="metric=odd")
    line = f"import expkit; print(expkit.load_experiment({name!r}).experiment.made_by)"
    environments = [{"EXPKIT_ROOT": str(expkit.code_root()), "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    found = {call(project.python, "-c", line, cwd=project.folder, env=each).stdout for each in environments}
    assert found == {f"{load_experiment(name).experiment.made_by}\n"}
    commented = ODD.replace("return n ==", "# a comment\n    return  n ==").replace("(n):", '(n):\n    """Text."""')
    assert found == {f"{load_experiment(make(commented, options='metric=odd')).experiment.made_by}\n"}
    [known] = load_experiment(name).experiment.made_by.values()
    assert known == "9833453251a8fada", "so do all versions of Python, or every run would be scored again"
    changed = make(ODD.replace('compile("a")', 'compile("b")'), options="metric=odd")
    assert found != {f"{load_experiment(changed).experiment.made_by}\n"}


# Predictions


# Values and learning curves


# Submissions


# Data
