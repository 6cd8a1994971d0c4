"""Experiments of one test alone, in the project that expkit is imported from."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from light import CONFIG, train_py

from expkit import code, project

# A choice between configuration classes: `model=wide` in place of `model=deep`.
NETS_CONFIG = "defaults:\n- schema\n- model@exp.model: deep\n- _self_\n- exp: default\n\nexp:\n  name: nets\n"
NETS = train_py(
    "rate: float = 0.1",
    """
def size(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    factor = {Deep: 1, Wide: 10, Narrow: 100}[type(exp.model)]
    fold.save_oof({"id": [fold.number], "prediction": [float(exp.model.units * factor)]})
""",
    'metric=size, own_split=True, groups={"model": {"deep": Deep, "wide": Wide, "narrow": Narrow}}',
    exp="model: ModelConfig = MISSING",
    classes="""
from omegaconf import MISSING


@dataclass
class ModelConfig:
    units: int = 8


@dataclass
class Deep(ModelConfig):
    pass


@dataclass
class Wide(ModelConfig):
    pass


@dataclass
class Narrow(ModelConfig):
    rank: int = 2


""",
)

# A random walk, with a checkpoint after each epoch; control/stop names an epoch to stop in, control/gate one to wait in
# until it is gone, before its checkpoint.
WALK = train_py(
    "epochs: int = 12\npause: float = 0.0",
    """
def position(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import time
    from types import SimpleNamespace

    import numpy as np

    walk = SimpleNamespace(random=np.random.default_rng([exp.seed, fold.number]), place=np.zeros(50))
    stop = expkit.project_root() / "control/stop"
    for epoch in fold.epochs(exp.train.epochs, state=walk, every=0):
        if stop.exists() and int(stop.read_text()) == epoch:
            raise KeyboardInterrupt
        walk.place += walk.random.normal(size=50)
        fold.log(mean=walk.place.mean(), **({"spread": walk.place.std()} if epoch > 5 else {}))
        while (gate := expkit.project_root() / "control/gate").exists() and gate.read_text() == str(epoch):
            gate.with_name("here").touch()
            time.sleep(0.01)
        (fold.folder / "epochs").mkdir(exist_ok=True)
        (fold.folder / f"epochs/{epoch}.txt").touch()
        time.sleep(exp.train.pause)
    fold.save_oof({"id": np.arange(50) + 1000 * fold.number, "prediction": walk.place})
""",
    "metric=position, own_split=True",
)

_numbers = itertools.count()


@contextmanager
def own_experiment(
    files: Mapping[str, str] | None = None, copy_of: str | None = None, at: Path | None = None
) -> Iterator[Path]:
    """A folder in experiments/ that git does not see and no other worker uses; removed afterwards.

    Args:
        files: name to text; a config.yaml is there without being named.
        copy_of: the experiment whose files it begins with.
        at: the project; None: the one that expkit is imported from.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = (at or project.code_root()) / "experiments" / f"9{next(_numbers):02d}-{worker}"
    folder.mkdir()
    (folder / ".gitignore").write_text("*\n")  # first: a snapshot may be taken at any time
    try:
        if copy_of is not None:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(folder.with_name(copy_of), folder, ignore=ignored, dirs_exist_ok=True)
        texts = {} if copy_of is not None else {"config.yaml": CONFIG.lstrip()}
        for name, text in (texts | dict(files or {})).items():
            (folder / name).write_text(text)
        yield folder
    finally:
        code.forget(folder.name)
        shutil.rmtree(folder)
