"""Several experiments in one process, whose modules have the same names; errors in them; configurations elsewhere."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from experiments import own_experiment
from helpers import environment_of, results
from hydra.core.config_store import ConfigStore
from light import train_py

import expkit

TRAIN = train_py(
    "other: Any = None",
    """
ConfigStore.instance().store(name="from_EXPERIMENT", group="own", node={"x": 1})


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import late
    from tools.inner import deep

    fold.save_oof({"id": [fold.number], "prediction": [1.0]})
    return {"seen": [shape.NAME, area.NAME, late.NAME, deep.NAME, type(exp.model).__module__]}
""",
    'metric=quality, own_split=True, groups={"model": {"EXPERIMENT": Model}}',
    exp="model: Any = None",
    classes="""
import shape
from hydra.core.config_store import ConfigStore
from schema import *
from tools import area
""",
)
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


@pytest.fixture
def pair(root: Path) -> Iterator[dict[str, Path]]:
    """Two experiments whose modules have the same names: the folders of "one" and "two"."""
    with own_experiment() as one, own_experiment() as two:
        for name, folder in (("one", one), ("two", two)):
            for file, text in FILES.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text(text.replace("EXPERIMENT", name))
        yield {"one": one, "two": two}


def test_experiments_with_modules_of_one_name_never_see_each_others(pair: dict[str, Path], root: Path) -> None:
    """Modules, packages, imports in functions, entries of the ConfigStore; all in one process."""
    for folder in pair.values():
        expkit.load_experiment(folder.name)
    assert not {"own", "model"} & ConfigStore.instance().repo.keys()
    for name in ("two", "one"):
        assert expkit.run(pair[name].name) == 1.0
    for name, other in (("one", "two"), ("two", "one")):
        experiment = pair[name].name
        [result] = results(root, "run", experiment).values()
        module = f"expkit.experiments.{experiment}.schema"
        assert result["values"]["seen"] == [name, name, name, name, module]
        config: Any = expkit.load_config(experiment, [f"+own@exp.train.other=from_{name}"])
        assert config.exp.train.other == {"x": 1}
        for override in (f"+own@exp.train.other=from_{other}", f"model@exp.model={other}"):
            with pytest.raises(expkit.Error, match=f"there is no .*{other}"):
                expkit.load_config(experiment, [override])


def test_modules_beside_train_work_in_a_command(pair: dict[str, Path], train: Command) -> None:
    """Hydra's own hints are shown."""
    name = pair["one"].name
    assert train(experiment=name).code == 0
    assert expkit.load_run(f"{name}/run").done
    done = train("own=from_one", experiment=name)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "To append to your default list use +own=from_one" in done.err


@pytest.mark.parametrize("where", ["the configuration", "instantiate"])
def test_an_exception_in_an_experiments_own_class_is_shown_whole(
    pair: dict[str, Path], train: Command, where: str
) -> None:
    name, file = pair["one"].name, pair["one"] / "train.py"
    if where == "instantiate":
        target = f"{{'_target_': 'expkit.experiments.{name}.schema.Model', 'width': -1}}"
        call = f"    import hydra.utils; hydra.utils.instantiate({target})\n"
        file.write_text(file.read_text().replace("    import late\n", call))
    done = train(*(["exp.model.width=-1"] if where == "the configuration" else []), experiment=name)
    assert done.code == 1
    assert "ZeroDivisionError: inside my own class" in done.err
    assert "KeyError: 'the cause'" in done.err
    assert 'schema.py", line' in done.err


def test_a_configuration_is_pickled_and_loaded_in_a_fresh_process(pair: dict[str, Path]) -> None:
    """Whole, `exp` alone, and the class, as a job of a sweep gets it; whoever can import expkit can load it."""
    load = "found = pickle.load(sys.stdin.buffer); print(found() if isinstance(found, type) else found)"
    command = [sys.executable, "-c", f"import pickle, sys, expkit; {load}"]
    environment = environment_of(expkit.code_root())
    for name in ("001-baseline", pair["one"].name):
        config: Any = expkit.load_config(name, ["exp.seed=3"])
        assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config))
        for part, text in ((config, config), (config.exp, config.exp), (type(config), type(config)())):
            loaded = subprocess.run(command, input=pickle.dumps(part), env=environment, capture_output=True)
            assert loaded.stdout.decode().strip() == str(text), loaded.stderr.decode()
