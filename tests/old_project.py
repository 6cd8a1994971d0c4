"""A small project with runs, as a release writes them: tests/data/ has one for each release that writes something else.

uv run tests/old_project.py tests/data/0.1.0
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT, call, clean_environment
from helpers import load

FILES = {
    "pyproject.toml": '[project]\nname = "old"\n\n[tool.expkit]\nn_folds = 2\nwandb_project = "old"\n',
    "experiments/001-line/config.yaml": """
defaults:
- schema
- _self_
- exp: default

exp:
  name: line
  n_folds: 2
""",
    "experiments/001-line/exp/001.yaml": """
defaults:
- default@_here_

name: "001-steep"

train:
  slope: 1.25
""",
    "experiments/001-line/train.py": """
from dataclasses import dataclass
from typing import Annotated

import expkit
from annotated_types import Gt


@dataclass
class TrainConfig:
    slope: Annotated[float, Gt(0)] = 1.125  # of the line


def mae(oof):
    return abs(oof["target"] - oof["prediction"]).mean()


def train(exp, fold):
    import numpy

    x = numpy.arange(12)
    rows = fold.split(id=[f"{each:02d}" for each in x], y=x * 1.5)
    for epoch in fold.epochs(2):
        fold.log(train_loss=1 / epoch)
    fold.predict(lambda rows: rows * exp.train.slope, x, test=x[3:6], test_id=["a", "b", "c"])
    return {"rows": len(rows.train)}


experiment = expkit.Experiment(train, TrainConfig, metric=mae, greater_is_better=False)

if __name__ == "__main__":
    expkit.main(experiment)
""",
}

# In a process of its own, whose records say nothing of this machine.
TRAIN = """
import platform, socket, expkit
from expkit import runner
from expkit.cli import app
from click.testing import CliRunner
platform.release, socket.gethostname = (lambda: "6.1"), (lambda: "laptop")
runner.installed_packages = lambda: {"expkit": "0.1.0", "hydra-core": "1.3.2", "numpy": "2.4.0"}
for overrides in ([], ["exp.mode=sub"], ["exp=001"], ["exp.split.lockbox=0.25"]):
    expkit.run("001-line", overrides=["exp.fold=null", *overrides])
for command in (
    ["note", "001-steep", "steeper is better", "--kept", "--tag", "old"],
    ["note", "line", "--lb", "0.25"],
    ["blend", "line", "001-steep", "--name", "both"],
    ["unlock", "line,exp.split.lockbox=0.25", "--yes"],
):
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
"""


def make(folder: Path) -> None:
    """The project, with three runs, a blend and notes; `folder` is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    root = str(folder.resolve())
    environment = clean_environment() | {
        "EXPKIT_ROOT": root,
        "PROJECT_ROOT": root,
        "WANDB_MODE": "disabled",
        "LOGNAME": "me",
    }
    environment["PATH"] = os.path.dirname(sys.executable)  # without git: no snapshot
    call(sys.executable, "-c", TRAIN, cwd=folder, env=environment)
    shutil.rmtree(folder / "output/001-line/.locks")
    shutil.rmtree(folder / "output/blends/.locks", ignore_errors=True)
    for compiled in folder.rglob("__pycache__"):
        shutil.rmtree(compiled)


def form(folder: Path) -> dict[str, Any]:
    """The files of a project, and the keys of those that are JSON."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _keys(load(path)) if path.suffix == ".json" else 0 for path in files}


def _keys(value: Any) -> Any:
    return {key: _keys(one) for key, one in value.items()} if isinstance(value, dict) else type(value).__name__


if __name__ == "__main__":
    make(ROOT / sys.argv[1])
