"""An experiment for tests: it trains nothing, imports nothing heavy, and does what files in control/ say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any

CONFIG = """
defaults:
- schema
- _self_
- exp: default

exp:
  name: light
"""


OWN = """
@dataclass
class ExpConfig(expkit.ExpConfig):
{fields}
    train: TrainConfig = field(default_factory=TrainConfig)

"""


def train_py(fields: str, code: str, options: str, exp: str = "", classes: str = "") -> str:
    """The train.py of an experiment.

    Args:
        fields: of its TrainConfig, a line each.
        code: its metric, and its `train`.
        options: of `expkit.Experiment`.
        exp: other fields of its ExpConfig, a line each; "": it has no class of its own.
        classes: which the fields need, and imports.
    """
    imports = f"import expkit\n{classes}".strip()
    own = OWN.format(fields=indent(exp.strip(), "    ")) if exp else ""
    return f"""
from dataclasses import dataclass, field
from typing import Any

{imports}


@dataclass
class TrainConfig:
{indent(fields.strip(), "    ")}

{own}
{code.strip()}


experiment = expkit.Experiment(train, {"ExpConfig" if exp else "TrainConfig"}, {options})

if __name__ == "__main__":
    expkit.main(experiment)
""".lstrip()


TRAIN = train_py(
    "x: float = 0.0\nanything: Any = None",
    """
def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import model

    model.act(expkit.project_root() / "control", fold, exp.train.x)
    if fold.number is None:
        fold.save_test({"id": [1, 2], "prediction": [exp.train.x, exp.train.x]})
    else:
        fold.save_oof({"id": [fold.number], "prediction": [shape.of(exp.train.x)]})
    return model.about_this_process()
""",
    "metric=quality, greater_is_better=True, own_split=True",
    exp="seed: int = 0",
    classes="import shape  # so that train.py cannot even be imported where the experiment's folder is not found",
)

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
    """Do what the files of control/ say: "fail<fold>": fail; "gate<fold>": wait until it is gone; "together": until as
    many folds as it says have come so far. Each fold leaves "came<fold>"."""
    fold = "full" if fold.number is None else fold.number
    if (folder / f"fail{fold}").exists() or x > 50:
        raise ValueError("planted")
    folder.mkdir(exist_ok=True)
    (folder / f"came{fold}").touch()
    while (folder / f"gate{fold}").exists():
        time.sleep(0.01)
    together = folder / "together"
    while together.exists() and len(list(folder.glob("came*"))) < int(together.read_text()):
        time.sleep(0.001)
    time.sleep(float(os.environ.get("LIGHT_SECONDS", 0)))


def about_this_process():
    names = ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"]
    names += ["HYDRA_FULL_ERROR", "PYTHONPATH"]
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


def wait_for(is_so: Callable[[], Any], process: Any = None, seconds: float = 60) -> None:
    """Wait until `is_so`; fail when the process ends before, or the time is over."""
    end = time.monotonic() + seconds
    while not is_so():
        if process is not None and process.poll() is not None:
            printed = process.communicate() if process.stdout else ""
            raise AssertionError(f"the process has ended with {process.returncode}: {printed}")
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
