"""Hydra 1.3 and 1.4: the same commands, the same results, and no word about what is to go away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, Completed, Project, call, clean_environment, commit_all, own_copy
from helpers import counting, scores_and_predictions
from light import LIGHT, add_light

PINS = ROOT / "tests/hydra-1.4.txt"
BASELINE = "001-baseline"
ARGUMENTS = ["exp=001", "exp.train.epochs=2"]
RUN = "001-larger-lr,exp.train.epochs=2"
SWEEP = ["-m", "exp.fold=[0],[1]", "hydra/launcher=local", "hydra.launcher.n_jobs=2"]


@pytest.fixture(scope="module")
def newer(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the newest Hydra, and the experiment of light.py."""
    made = own_copy(project, tmp_path_factory.mktemp("newer") / "myproj")
    call("uv", "pip", "install", "-q", "--python", made.python, "-r", PINS, cwd=made.folder, env=clean_environment())
    add_light(made.folder)
    commit_all(made.folder)
    return made


def quiet(done: Completed) -> Completed:
    """What a command has printed, in which Python warns of nothing that is ours or Hydra's."""
    warnings = re.findall(r"^\S*/(?:expkit|experiments|hydra|hydra_plugins|omegaconf)/.*Warning: .*", done.stderr, re.M)
    assert not warnings, done.stderr
    return done


@pytest.mark.slow
def test_scores_and_predictions_are_those_of_hydra_1_3(project: Project, newer: Project, tmp_path: Path) -> None:
    """A run, one that goes on where the other series has stopped, and a sweep in other processes."""
    (old, new), many = (tmp_path / "old", tmp_path / "new"), tmp_path / "many"
    for root in (old, new, many):
        root.mkdir()
    quietly = {"WANDB_MODE": "disabled", "PYTHONWARNINGS": "default"}
    shown = quiet(newer.train("show_config=true", root=new, **quietly)).stdout
    assert shown == project.train("show_config=true", root=old).stdout
    quiet(project.train(*ARGUMENTS, "exp.fold=[0]", root=old, **quietly))
    quiet(newer.train(*ARGUMENTS, "exp.fold=[0]", root=new, **quietly))
    went_on = quiet(newer.train(*ARGUMENTS, "exp.fold=[0,1]", root=old, **quietly)).stdout
    assert "fold 0 is done" in went_on and "fold 1 is done" not in went_on
    quiet(newer.train(*ARGUMENTS, *SWEEP, root=many, **quietly))
    swept = scores_and_predictions(counting(many, RUN, BASELINE))
    assert sorted(swept) == [0, 1]
    assert swept == scores_and_predictions(counting(old, RUN, BASELINE))
    assert {0: swept[0]} == scores_and_predictions(counting(new, RUN, BASELINE))


@pytest.mark.slow
def test_commands_mistakes_and_a_study_with_hydra_1_4(newer: Project, root: Path) -> None:
    exp, environment = newer.python.with_name("exp"), newer.environment(PYTHONWARNINGS="default")
    assert "are fine" in quiet(call(exp, "check", cwd=newer.folder, env=environment)).stdout
    for argument, code, message in (
        ("exp.train.epohc=3", 2, "there is no key exp.train.epohc; did you mean exp.train.epochs?"),
        ("exp=nope", 3, "exp=nope: there is no exp/nope.yaml; there are 001, 002"),
        ("exp.fold=0,1", 2, "exp.fold=0,1: a list is written 'exp.fold=[0,1]'; a sweep over several values takes -m"),
    ):
        done = quiet(newer.train(argument, root=root, PYTHONWARNINGS="default", check=False))
        assert (done.returncode, done.stderr) == (code, f"error: {message}\n")
    study = ["-m", "hydra/sweeper=optuna", "exp.train.x=interval(0.01,40)", "hydra.sweeper.n_trials=2"]
    quiet(newer.train(*study, "exp.fold=[0]", experiment=LIGHT, root=root, PYTHONWARNINGS="default"))
    assert len(list((root / "output" / LIGHT).glob("light,*/fold0/result.json"))) == 2


def test_what_goes_away_stands_in_one_module() -> None:
    """But for the plugin, which has no time to import that."""
    for old, modules in {
        r"version_base|register_new_resolver|hydra\._internal": {"compose.py"},
        r"ConfigStore\.instance\(\)\.store\b": {"compose.py", "expkit_sweeper.py"},
    }.items():
        files = [file for file in (ROOT / "expkit").rglob("*.py") if re.search(old, file.read_text())]
        assert {file.name for file in files} == modules
