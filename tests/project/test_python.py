"""From Python: from any folder, again and again, in a notebook, in another process, beside Hydra's own functions."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Completed, Project, call
from helpers import results
from light import LIGHT, edited

import expkit

SCRIPT = """
import expkit
from hydra import compose, initialize_config_dir

for _ in range(2):
    config = expkit.load_config("001-baseline", overrides=["exp=001", "exp.fold=[0]"])
    assert type(config).__name__ == "Config"
    assert config.exp.train.learning_rate == 3e-3
    assert config.exp.fold == [0]
    assert config.exp.mode is expkit.Mode.cv

with initialize_config_dir(version_base=None, config_dir=str(expkit.code_root() / "experiments/001-baseline/exp")):
    assert compose("001").name == "001-larger-lr"
    assert expkit.load_config("001-baseline").exp.name == "baseline"
    assert compose("001").name == "001-larger-lr"

for experiment, overrides in (("nope", []), ("001-baseline", ["exp.fold=[7]"])):
    try:
        expkit.load_config(experiment, overrides)
    except expkit.Error as error:
        print(error)
"""


def test_from_any_folder(project: Project, tmp_path: Path) -> None:
    printed = call(project.python, "-c", SCRIPT, cwd=tmp_path, env=project.environment()).stdout
    assert "there is no experiment 'nope'" in printed
    assert "001-baseline" in printed
    assert "exp.fold must be from 0 to 4" in printed


@pytest.mark.slow
def test_in_a_live_kernel(project: Project) -> None:
    """Cell after cell in one Jupyter kernel, run twice; a run trained in it is the run of the command line."""
    train = """
import os
os.environ |= {"WANDB_MODE": "disabled"}
print("CV", expkit.run("001-baseline", overrides=["exp.train.epoch=1"]))
"""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [cell | {"id": f"c{n}", "source": source} for n, source in enumerate([SCRIPT, train] * 2)]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = project.folder / "output" / "test.ipynb"  # git ignores it there
    notebook.write_text(json.dumps(content))
    with_jupyter = ["uv", "run", "-q", "--with", "nbconvert", "--with", "ipykernel"]
    convert = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", "--log-level=ERROR"]
    try:
        printed = call(*with_jupyter, *convert, notebook, cwd=project.folder, env=project.environment()).stdout
    finally:
        notebook.unlink()
        shutil.rmtree(project.folder / "output/001-baseline", ignore_errors=True)
    outputs = [output for cell in json.loads(printed)["cells"] for output in cell["outputs"]]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    assert text.count("\nCV 0.") == 2 and text.count("fold 0 is done") == 1
    assert not [output for output in outputs if output["output_type"] == "error"]


def test_a_configuration_is_pickled_and_loaded_in_a_fresh_process(project: Project, root: Path) -> None:
    """Its classes are not left in __main__; whoever can import expkit can load it."""
    config = pickle.dumps(expkit.load_config(LIGHT, ["exp.train.x=3"]))
    program = "import pickle, sys, expkit; config = pickle.load(sys.stdin.buffer); print(config.exp.train.x)"
    environment = project.environment(EXPKIT_ROOT=str(expkit.code_root()), PYTHONPATH=str(expkit.code_root() / "src"))
    loaded = subprocess.run([project.python, "-c", program], input=config, env=environment, capture_output=True)
    assert loaded.stdout == b"3.0\n", loaded.stderr.decode()


WHERE = "import expkit; print(expkit.code_root(), flush=True)"

# Several experiments in one process

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


ConfigStore.instance().store(name="from_NAME", group="own", node={"x": 1})


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import late
    from tools.inner import deep

    if fold.number is not None:
        fold.save_oof({"id": [fold.number], "prediction": [1.0]})
    fold.finish(seen=[shape.NAME, area.NAME, late.NAME, deep.NAME, type(exp.model).__module__])


experiment = expkit.Experiment(train, Config, metric=quality, own_split=True, groups={"model": {"NAME": Model}})

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
- model@exp.model: NAME
- _self_
- exp: default

exp:
  name: run
  fold: [0]
"""


@pytest.fixture(scope="module")
def several(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two experiments whose modules have the same names."""
    folder = tmp_path_factory.mktemp("several") / "project"
    # what is committed, and not what another test has there for a moment
    call("git", "clone", "-q", expkit.code_root(), folder, cwd=folder.parent)
    shutil.rmtree(folder / ".git")
    for name in ("one", "two"):
        own = {
            "train.py": TRAIN,
            "schema.py": SCHEMA,
            "config.yaml": CONFIG,
            "shape.py": "NAME = 'NAME'",
            "late.py": "NAME = 'NAME'",
            "tools/area.py": "from .inner import deep\n\nNAME = deep.NAME",
            "tools/inner/deep.py": "import late\n\nNAME = late.NAME",
            "tools/inner/__init__.py": "",
        }
        for file, text in own.items():
            (folder / "experiments" / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "experiments" / name / file).write_text(text.replace("NAME'", f"{name}'").replace("_NAME", name))
        for file in ("train.py", "config.yaml"):
            path = folder / "experiments" / name / file
            path.write_text(path.read_text().replace('"NAME"', f'"{name}"').replace(": NAME", f": {name}"))
    return Project(folder, project.home)


def run(several: Project, project: Project, root: Path, *command: str | Path, check: bool = True) -> Completed:
    environment = several.environment(
        PROJECT_ROOT=str(root),
        EXPKIT_ROOT=str(several.folder),
        PYTHONPATH=str(several.folder / "src"),
        WANDB_MODE="disabled",
    )
    return call(project.python, *command, cwd=several.folder, env=environment, check=check)


def test_experiments_with_modules_of_one_name_never_see_each_others(
    several: Project, project: Project, root: Path
) -> None:
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
    assert expkit.load_config(name, [f"+own@exp.train.other={'from' + name}"]).exp.train.other == {"x": 1}
    for override in (f"+own@exp.train.other=from{other}", f"model@exp.model={other}"):
        try:
            expkit.load_config(name, [override])
        except expkit.Error as error:
            assert "there is no " in str(error) and other in str(error), error
        else:
            raise AssertionError(override)
"""
    run(several, project, root, "-c", program)
    for name in ("one", "two"):
        [result] = results(root, "run", name).values()
        seen = result["values"]["seen"]
        assert seen == [name, name, name, name, f"expkit.experiments.{name}.schema"]


def test_modules_beside_train_work_in_every_command(several: Project, project: Project, root: Path) -> None:
    exp = project.python.with_name("exp")
    program = f"import sys; sys.argv[0] = '{exp}'; from expkit.cli import main; main()"
    checked = run(several, project, root, "-c", program, "check").stdout
    assert re.search(r"^one .* ok$.*^two .* ok$", checked, re.M | re.S), checked
    assert "6 of 6" in checked
    run(several, project, root, several.folder / "experiments/one/train.py")
    run(several, project, root, "-c", program, "new", "three", "--from", "one")
    try:
        run(several, project, root, several.folder / "experiments/003-three/train.py", "show_config=true")
    finally:
        shutil.rmtree(several.folder / "experiments/003-three")
    assert run(several, project, root, "-c", "import expkit; expkit.load_run('one/run')").returncode == 0


# Errors keep their cause


@pytest.mark.parametrize("where", ["the configuration", "instantiate"])
def test_an_exception_in_an_experiments_own_class_is_shown_whole(
    several: Project, project: Project, root: Path, where: str
) -> None:
    train = several.folder / "experiments/one/train.py"
    call_it = (
        "import hydra.utils; hydra.utils.instantiate({'_target_': 'expkit.experiments.one.schema.Model', 'width': -1})"
    )
    with edited(train, "    import late\n", f"    {call_it}\n    import late\n"):
        arguments = ["exp.model.width=-1"] if where == "the configuration" else []
        done = run(several, project, root, train, *arguments, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError: inside my own class" in done.stderr
    assert "KeyError: 'the cause'" in done.stderr
    assert 'schema.py", line' in done.stderr


def test_hydras_own_hints_are_shown(several: Project, project: Project, root: Path) -> None:
    train = several.folder / "experiments/one/train.py"
    done = run(several, project, root, train, "own=from_one", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "To append to your default list use +own=from_one" in done.stderr


def test_a_command_that_a_training_starts_works_in_its_own_folder(project: Project, tmp_path: Path) -> None:
    """It is not lent the project of the process that starts it; a folder that has been deleted is one line."""
    other = tmp_path / "other"
    (other / "experiments/007-other").mkdir(parents=True)
    (other / "experiments/007-other/train.py").touch()
    (other / "pyproject.toml").write_text("[tool.expkit] # of another project\n")
    show = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WHERE!r}], cwd=sys.argv[1])"
    first = f"{WHERE}; {show}"
    done = call(project.python, "-c", first, other, cwd=project.folder, env=project.environment())
    assert done.stdout.splitlines() == [str(project.folder), str(other)]
    gone = f"import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); {WHERE}"
    assert call(project.python, "-c", gone, cwd=tmp_path, env=project.environment()).stdout == f"{project.folder}\n"


def test_a_process_that_is_spawned_finds_the_project(own_project: Callable[[], Project], tmp_path: Path) -> None:
    """As the workers of a DataLoader are, wherever the command is typed."""
    project = own_project()
    train = project.folder / "experiments/001-baseline/train.py"
    spawn = "import multiprocessing\n\nif __name__ == '__main__':\n"
    spawn += "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
    spawn += "        print(pool.apply(expkit.code_root))\n"
    train.write_text(f"import expkit\n{spawn}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text("[tool.expkit]\n")
    done = call(project.python, train, cwd=other, env=project.environment())
    assert done.stdout == f"{project.folder}\n"
