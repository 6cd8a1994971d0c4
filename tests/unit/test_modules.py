"""Several experiments in one process, whose modules have the same names; errors in them; configurations elsewhere."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXP, Completed, call, clone_of
from helpers import environment_of, results
from light import LIGHT, edited

import expkit

TRAIN = """
from dataclasses import dataclass, field
from typing import Any

import expkit
import shape
from hydra.core.config_store import ConfigStore
from schema import *
from tools import area


@dataclass
class TrainConfig:
    other: Any = None


@dataclass
class ExpConfig(expkit.ExpConfig):
    model: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


ConfigStore.instance().store(name="from_EXPERIMENT", group="own", node={"x": 1})


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import late
    from tools.inner import deep

    if fold.number is not None:
        fold.save_oof({"id": [fold.number], "prediction": [1.0]})
    fold.finish(seen=[shape.NAME, area.NAME, late.NAME, deep.NAME, type(exp.model).__module__])


experiment = expkit.Experiment(train, Config, metric=quality, own_split=True, groups={"model": {"EXPERIMENT": Model}})

if __name__ == "__main__":
    expkit.main(experiment)
"""
SCHEMA = """
from dataclasses import dataclass

__all__ = ["Model"]


@dataclass
class Model:
    width: int = 1

    def __post_init__(self):
        if self.width < 0:
            raise ZeroDivisionError("inside my own class") from KeyError("the cause")
"""
CONFIG = """
defaults:
- schema
- model@exp.model: EXPERIMENT
- _self_
- exp: default

exp:
  name: run
  fold: [0]
"""


FILES = {
    "train.py": TRAIN,
    "schema.py": SCHEMA,
    "config.yaml": CONFIG,
    "shape.py": "NAME = 'EXPERIMENT'",
    "late.py": "NAME = 'EXPERIMENT'",
    "tools/area.py": "from .inner import deep\n\nNAME = deep.NAME",
    "tools/inner/deep.py": "import late\n\nNAME = late.NAME",
    "tools/inner/__init__.py": "",
}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two experiments whose modules have the same names."""
    folder = clone_of(expkit.code_root(), tmp_path_factory.mktemp("several") / "project")
    for name in ("one", "two"):
        for file, text in FILES.items():
            (folder / "experiments" / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "experiments" / name / file).write_text(text.replace("EXPERIMENT", name))
    return folder


def run(several: Path, root: Path, *command: str | Path, check: bool = True) -> Completed:
    environment = environment_of(several, PROJECT_ROOT=str(root))
    return call(sys.executable, *command, cwd=several, env=environment, check=check)


def test_experiments_with_modules_of_one_name_never_see_each_others(several: Path, root: Path) -> None:
    """Modules, packages, imports in functions, entries of the ConfigStore; all in one process."""
    program = """
import expkit
from hydra.core.config_store import ConfigStore

loaded = [expkit.load_experiment(name) for name in ("one", "two")]
assert "own" not in ConfigStore.instance().repo and "model" not in ConfigStore.instance().repo
for _ in range(2):
    for name in ("two", "one"):
        assert expkit.run(name, overrides=["overwrite=true"]) == 1.0
for name, other in (("one", "two"), ("two", "one")):
    assert expkit.load_config(name, [f"+own@exp.train.other={'from_' + name}"]).exp.train.other == {"x": 1}
    for override in (f"+own@exp.train.other=from_{other}", f"model@exp.model={other}"):
        try:
            expkit.load_config(name, [override])
        except expkit.Error as error:
            assert "there is no " in str(error) and other in str(error), error
        else:
            raise AssertionError(override)
"""
    run(several, root, "-c", program)
    for name in ("one", "two"):
        [result] = results(root, "run", name).values()
        seen = result["values"]["seen"]
        assert seen == [name, name, name, name, f"expkit.experiments.{name}.schema"]


def test_modules_beside_train_work_in_every_command(several: Path, root: Path) -> None:
    checked = run(several, root, *EXP, "check").stdout
    assert re.search(r"^one .* ok$.*^two .* ok$", checked, re.M | re.S), checked
    run(several, root, several / "experiments/one/train.py")
    run(several, root, *EXP, "new", "three", "--from", "one")
    run(several, root, several / "experiments/003-three/train.py", "show_config=true")
    run(several, root, "-c", "import expkit; expkit.load_run('one/run')")


@pytest.mark.parametrize("where", ["the configuration", "instantiate"])
def test_an_exception_in_an_experiments_own_class_is_shown_whole(several: Path, root: Path, where: str) -> None:
    train = several / "experiments/one/train.py"
    call_it = (
        "import hydra.utils; hydra.utils.instantiate({'_target_': 'expkit.experiments.one.schema.Model', 'width': -1})"
    )
    with edited(train, "    import late\n", f"    {call_it}\n    import late\n"):
        arguments = ["exp.model.width=-1"] if where == "the configuration" else []
        done = run(several, root, train, *arguments, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError: inside my own class" in done.stderr
    assert "KeyError: 'the cause'" in done.stderr
    assert 'schema.py", line' in done.stderr


def test_hydras_own_hints_are_shown(several: Path, root: Path) -> None:
    train = several / "experiments/one/train.py"
    done = run(several, root, train, "own=from_one", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "To append to your default list use +own=from_one" in done.stderr


def test_a_configuration_is_pickled_and_loaded_in_a_fresh_process() -> None:
    """Its classes are not left in __main__; whoever can import expkit can load it."""
    config = pickle.dumps(expkit.load_config(LIGHT, ["exp.train.x=3"]))
    program = "import pickle, sys, expkit; config = pickle.load(sys.stdin.buffer); print(config.exp.train.x)"
    environment = environment_of(expkit.code_root())
    loaded = subprocess.run([sys.executable, "-c", program], input=config, env=environment, capture_output=True)
    assert loaded.stdout == b"3.0\n", loaded.stderr.decode()
