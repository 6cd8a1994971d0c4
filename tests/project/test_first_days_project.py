"""What people stumbled over who tried it for the first time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from experiments import own_experiment
from helpers import counting

from expkit import store


def quality(oof: Any) -> float:
    return float(oof["prediction"].mean()) * 1000


LOGS = """
from dataclasses import dataclass, field
import logging
import sys

import expkit

early = logging.getLogger("early")
early.handlers[:] = [logging.StreamHandler(sys.stdout)]


@dataclass
class Config(expkit.Config):
    exp: expkit.ExpConfig = field(default_factory=expkit.ExpConfig)


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    late = logging.getLogger("late")
    late.handlers[:] = [logging.StreamHandler()]
    for logger in (early, late, logging.getLogger("plain")):
        logger.warning(f"from {logger.name}")
    logging.getLogger("plain").info("it says")
    fold.save_oof({"id": [fold.number], "prediction": [1.0]})
    fold.finish()


experiment = expkit.Experiment(train, Config, metric=quality, greater_is_better=True, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""


def test_a_line_of_a_library_appears_once(project: Project, root: Path) -> None:
    """On the console and in train.log, with a handler of the library's own or without; never as one of Hydra's."""
    with own_experiment({"train.py": LOGS}, at=project.folder) as folder:
        done = project.train("exp.fold=[0]", experiment=folder.name, root=root, WANDB_MODE="disabled")
    printed = (done.stdout + done.stderr).splitlines()
    log = (counting(root, "light", folder.name) / "fold0" / store.LOG).read_text().splitlines()
    for line in ("from early", "from late", "from plain", "it says"):
        assert (printed.count(line), log.count(line)) == (1, 1), (line, printed, log)
    assert "HYDRA" not in done.stdout + done.stderr


@pytest.fixture
def handler() -> Iterator[logging.Handler]:
    """Of the root logger, as Hydra's."""
    made = logging.NullHandler()
    logging.root.addHandler(made)
    yield made
    logging.root.removeHandler(made)


def test_a_value_that_is_refused_in_a_sweep_is_one_line(project: Project, root: Path) -> None:
    """As without -m; the other jobs go on."""
    arguments = ["-m", "exp.train.epoch=1,0", "exp.debug=true"]
    done = project.train(*arguments, root=root, check=False, WANDB_MODE="disabled")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "exp.train.epoch must be at least 1, not 0" in done.stderr
