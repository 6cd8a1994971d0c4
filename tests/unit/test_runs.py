"""Runs from Python, their names, and configurations of every kind that OmegaConf knows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from experiments import own_experiment
from helpers import counting, scores_and_predictions
from light import CONFIG, LIGHT, TRAIN
from several import files

import expkit
from expkit import compose, store
from expkit.config import container
from expkit.new import check_experiment
from expkit.rundir import run_name


def test_folds_add_up(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fold now, others later, in any order: the same bytes as all at once."""
    kept = {}
    with own_experiment(files("price")) as folder:
        for where, selections in (("once", ["[0,1]"]), ("later", ["[1]", "[0]", "[0,1]"])):
            (tmp_path / where).mkdir()
            monkeypatch.setenv("PROJECT_ROOT", str(tmp_path / where))
            for folds in selections:
                expkit.run(folder.name, overrides=[f"exp.fold={folds}"])
            run = store.read_run(counting(tmp_path / where, "light", folder.name))
            kept[where] = scores_and_predictions(run.folder), run.score_of(), run.marks
    assert kept["once"] == kept["later"] and kept["once"][2] == ("partial",)


def test_a_run_from_python(root: Path) -> None:
    """As a notebook makes it: the score comes back, a configuration may be changed, and nothing is left running."""
    assert expkit.run(LIGHT, overrides=["exp.train.x=10"]) == 9.0
    config = expkit.load_config(LIGHT)
    config.exp.train.x, config.exp.name, config.exp.fold = 100 / 10, "mine", [0]
    assert expkit.run(LIGHT, config) == 9.0
    assert expkit.run(LIGHT, overrides=["exp.mode=sub"]) is None
    config.exp.fold = [7]
    with pytest.raises(expkit.Error, match="exp.fold must be from 0 to 4"):
        expkit.run(LIGHT, config)
    config.exp.fold, config.exp.train.x, config.exp.name = [0, 1], 99.0, "fails"
    with pytest.raises(expkit.Error, match="failed: fold 0, fold 1"):
        expkit.run(LIGHT, config)
    done = {row.name: len(row.done) for row in expkit.read_board()}
    assert done == {"light,exp.train.x=10": 5, "mine": 1, "light": 0, "fails": 0}


@pytest.mark.parametrize(
    "arguments",
    [["-m", "exp=001", "exp.seed=1,2"], ["exp=001", "-m", "exp.seed=1,2"], ["exp=001", "exp.seed=1,2", "--multirun"]],
)
def test_flags_stand_anywhere(arguments: list[str]) -> None:
    """Hydra's parser alone takes no override after a flag that comes after another override."""
    _, args, _ = compose.parse_flags(arguments)
    assert args.multirun and args.overrides == ["exp=001", "exp.seed=1,2"]


def named(*overrides: str) -> str:
    return run_name(expkit.load_config(LIGHT, overrides), overrides)


def test_a_value_on_the_command_line_is_a_run_of_its_own() -> None:
    """What changes no result is in no name; a name is short, safe, and of this configuration alone."""
    assert named("exp.train.x=0.01", "exp.fold=[0]", "overwrite=true") == "light,exp.train.x=0.01"
    assert named("exp.train.x=0.02") != named("exp.train.x=0.01")
    assert named("exp.runtime.tags=[a]", "exp.debug=true", "exp.mode=sub", "show_config=true") == "light"
    assert named("exp.seed=1", "exp.train.x=2") == named("exp.train.x=2", "exp.seed=1")
    texts = ["'a b'", "'a/b'", "'a:b'", f"'{'日本' * 50}'", "x" * 300, f"{'x' * 300}y"]
    config = expkit.load_config(LIGHT)
    names = []
    for text in texts:
        config.exp.train.anything = text.strip("'")
        names.append(run_name(config, [f"exp.train.anything={text}"]))
    assert len(set(names)) == len(names)
    assert all(len(name) <= 120 and len(name.encode()) <= 200 and "/" not in name for name in names)


FIELDS = """
    path: Path = Path("a/b")
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    by_model: dict[BaseModel, int] = field(default_factory=lambda: {BaseModel.small: 1})
    fill: float = math.nan
    text: str = "a\\nb: # \\"c\\" 日本"
    inner: Inner | None = None
"""
HEAD = """
import enum
import math
from pathlib import Path


class BaseModel(enum.Enum):
    small = (64,)
    large = (256,)


@dataclass
class Inner:
    p: float = 0.5


@dataclass
class TrainConfig:
"""
VALUES = """
name: rich
train:
  x: 1.0
  path: ~/x
  weights: {b: 2}
  by_model: {large: 3}
  text: prefix \\${oc.env:HOME} ${exp.name} \\${
  inner: {p: 0.1}
"""


def test_every_type_that_omegaconf_knows(root: Path) -> None:
    """Composes, trains, is compared with itself and read back; a dictionary takes keys from a parameter set."""
    text = TRAIN.replace("@dataclass\nclass TrainConfig:\n", HEAD.lstrip(), 1)
    text = text.replace("    anything: Any = None\n", f"    anything: Any = None\n{FIELDS.lstrip(chr(10))}")
    with own_experiment({"train.py": text}, copy_of=LIGHT) as folder:
        (folder / "exp").mkdir(exist_ok=True)
        (folder / "exp/003.yaml").write_text(VALUES)
        assert expkit.run(folder.name, overrides=["exp=003", "exp.fold=[0]"]) == 10.0
        assert expkit.run(folder.name, overrides=["exp=003", "exp.fold=[0,1]"]) == 10.0, "the same configuration"
        asked, recorded = expkit.load_config(folder.name, ["exp=003"]), store.load_run("rich").config
        again = expkit.load_run("rich").config.exp.train
        assert math.isnan(again.fill)
        assert container(again) == container(asked.exp.train) == recorded["exp"]["train"]
        assert (again.text, again.path, again.by_model) == (asked.exp.train.text, Path("~/x"), asked.exp.train.by_model)
        assert again.text == "prefix ${oc.env:HOME} rich ${"
        train = recorded["exp"]["train"]
        assert train["weights"] == {"a": 1.0, "b": 2.0} and train["by_model"] == {"small": 1, "large": 3}
        plain = expkit.load_config(folder.name).exp.train
        assert str(plain.path) == "a/b" and plain.text == 'a\nb: # "c" 日本'
        with pytest.raises(expkit.Error, match=r"no key exp.train.weights.c; to add it, write '\+exp.train.weights.c="):
            expkit.load_config(folder.name, ["exp.train.weights.c=3"])
        with pytest.raises(expkit.Error, match="^exp.train.inner.p: a key that is null has no sub-keys: "):
            expkit.load_config(folder.name, ["exp.train.inner.p=3"])


def test_a_config_that_names_no_parameter_set(root: Path) -> None:
    """`- exp: default` may be missing; then no parameter set can be chosen, and `exp check` says so."""
    with own_experiment({"config.yaml": CONFIG.replace("- exp: default\n", "")}, copy_of=LIGHT) as folder:
        (folder / "exp").mkdir(exist_ok=True)
        (folder / "exp/001.yaml").write_text("name: other\n")
        assert expkit.run(folder.name, overrides=["exp.fold=[0]"]) == 10.0
        problems = {checked.parameter_set: checked.problem for checked in check_experiment(folder.name)}
        assert problems["default"] is None
        assert "Could not override 'exp'" in str(problems["001"])
