"""An experiment for tests of sweeps: it trains nothing, imports nothing heavy, and does what the test says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import Project, background
from test_run import load

CONFIG = """
defaults:
- schema
- _self_
- exp: default
- override hydra/job_logging: none

exp:
  name: light

hydra:
  output_subdir: null
  job:
    chdir: false
  run:
    dir: .
  sweep:
    dir: ${expkit.dir:output}/multirun/${now:%Y-%m-%d_%H-%M-%S-%f}
  searchpath:
  - file://${expkit.dir:conf}
"""

TRAIN = """
import time
from dataclasses import dataclass, field

import expkit
import shape  # at the top, so that `main` cannot even be unpickled where the experiment's folder is not on the path


@dataclass
class TrainConfig:
    x: float = 0.0


@dataclass
class ExpConfig:
    name: str = "light"
    n_folds: int = 5
    fold: list[int] | None = None
    seed: int = 0
    debug: bool = False
    mode: expkit.Mode = expkit.Mode.cv
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        expkit.check(self)


@dataclass
class Config:
    exp: ExpConfig = field(default_factory=ExpConfig)
    show_config: bool = False
    overwrite: bool = False


def score(oof: dict) -> float:
    return sum(oof["prediction"]) / len(oof["prediction"])


def main(config: Config) -> float | None:
    run = expkit.Run(config, __file__, metric=score, greater_is_better=True)
    while (expkit.input_dir(__file__) / f"late{config.exp.fold[0]}").exists():
        time.sleep(0.01)
    for fold in run.missing():
        import model

        with fold:
            model.act(expkit.input_dir(__file__), fold.number, config.exp.train.x)
            fold.save_csv("oof.csv", {"id": [fold.number], "prediction": [shape.of(config.exp.train.x)]})
            fold.finish(**model.about_this_process())
    return run.summarize()


if __name__ == "__main__":
    expkit.run(main, Config, greater_is_better=True)
"""

SHAPE = '''
import math


def of(x):
    """Best at 1."""
    return 10 - (math.log10(x)) ** 2 if x > 0 else 10.0
'''

MODEL = '''
import os
import sys
import time
from pathlib import Path

SECRET = "as submitted"


def act(folder, fold, x):
    """Do what the files of input/ say: "fail<fold>": fail; "gate<fold>": wait until it is gone; "together": until as
    many folds as it says have come so far."""
    if (folder / f"fail{fold}").exists() or x > 50:
        raise ValueError("planted")
    (folder / f"came{fold}").touch()
    while (folder / f"gate{fold}").exists():
        time.sleep(0.01)
    together = folder / "together"
    while together.exists() and len(list(folder.glob("came*"))) < int(together.read_text()):
        time.sleep(0.001)
    time.sleep(float(os.environ.get("LIGHT_SECONDS", 0)))


def about_this_process():
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")
    return {
        "pid": os.getpid(),
        "ended": time.time(),
        "secret": SECRET,
        "file": str(Path(__file__)),
        "argv": sys.argv,
        "environment": {name: os.environ.get(name) for name in names},
    }
'''

LIGHT = "002-light"


def add_light(folder: Path) -> None:
    """Add the experiment to a project."""
    experiment = folder / "experiments" / LIGHT
    experiment.mkdir()
    for name, text in {"config.yaml": CONFIG, "train.py": TRAIN, "shape.py": SHAPE, "model.py": MODEL}.items():
        (experiment / name).write_text(text.lstrip("\n"))


def results(root: Path, run: str = "light", experiment: str = LIGHT) -> dict[int, dict[str, Any]]:
    """The result.json of each finished fold."""
    found = (load(file) for file in (root / "output" / experiment / run).glob("fold*/result.json"))
    return {result["fold"]: result for result in found}


@contextmanager
def edited(file: Path, old: str, new: str) -> Iterator[None]:
    """A file with `new` in the place of `old`, for a while."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    try:
        yield
    finally:
        file.write_text(text)


def start(project: Project, root: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command of the light experiment in the background, from the project's root."""
    command = [f"experiments/{LIGHT}/train.py", *arguments]
    environment = project.environment(PROJECT_ROOT=str(root), **variables)
    pipe = subprocess.PIPE
    options = {"stdout": pipe, "stderr": pipe, "text": True}
    return background(project.python, *command, cwd=project.folder, env=environment, **options)
