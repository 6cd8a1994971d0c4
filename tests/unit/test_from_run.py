"""`exp new 001/004 --from RUN`: the configuration of any run as a parameter set, with what differs only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments import own_experiment
from helpers import exp, refused
from light import LIGHT, edited, train_py

import expkit
from expkit import schema, store
from expkit.compose import from_values
from expkit.config import container, id_of, load_experiment, same
from expkit.new import parameter_set_from_run
from expkit.project import code_root
from expkit.store import find_run

CONFIG = """
defaults:
- schema
- model@exp.model: cnn
- _self_
- exp: default

exp:
  name: kinds
  n_folds: 2
  fold: [0]
  train:
    rate: 0.01
    table:
      kept: 1
"""
TRAIN = train_py(
    """
rate: float = 0.1
text: str = "plain"
count: int = 3
maybe: float | None = 0.5
flag: bool = False
color: Color = Color.red
file: Path = Path("a/b")
items: list[Any] = field(default_factory=lambda: [1, 2])
table: dict[str, Any] = field(default_factory=lambda: {"own": 1})
inner: Inner = field(default_factory=Inner)
anything: Any = None
steps: int = 0

def __post_init__(self):
    self.steps = 10 * self.count
""",
    """
def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    fold.save_oof({"id": [fold.number], "prediction": [exp.train.rate + exp.model.units]})
""",
    'metric=quality, own_split=True, groups={"model": {"cnn": CNN, "vit": ViT}}',
    exp="model: Any = None",
    classes="""
from enum import Enum
from pathlib import Path

from omegaconf import MISSING


class Color(Enum):
    red = "#f00"
    blue = "#00f"


@dataclass
class CNN:
    units: int = 8


@dataclass
class ViT:
    units: int = 8
    depth: int = 2


@dataclass
class Inner:
    a: int = 1
    b: float | None = None
""",
)


@pytest.fixture
def kinds(root: Path) -> Iterator[Path]:
    """An experiment with every kind of value."""
    with own_experiment({"train.py": TRAIN, "config.yaml": CONFIG}) as folder:
        yield folder


@pytest.fixture
def light(root: Path) -> Iterator[Path]:
    """A copy of the light experiment, which may be changed."""
    with own_experiment(copy_of=LIGHT) as folder:
        yield folder


def made(folder: Path, run: str, name: str = "004") -> str:
    """The parameter set that the command makes of a run."""
    exp("new", f"{folder.name}/{name}", "--from", run)
    return (folder / f"exp/{name}.yaml").read_text()


def test_what_differs_and_nothing_else(light: Path, root: Path) -> None:
    """With where it comes from; which folds, mode, debug and runtime are of the command, and not of the run."""
    command_line = ["exp.train.x=1e-05", "exp.fold=[0,1]", "exp.runtime.tags=[a]", "exp.seed=3"]
    expkit.run(light.name, overrides=command_line)
    run = "light,exp.seed=3,exp.train.x=1e-05"
    text = made(light, run)
    origin, about = text.removeprefix(schema.FIRST_LINE).split("\n", 1)
    assert origin == f"# From {light.name}/{run}. Notes follow this file by the id {id_of(light, '004')}."
    assert about == "# Only what differs from config.yaml.\nname: '004'\nseed: 3\ntrain:\n  x: 1.0e-05\n"
    assert expkit.load_config(light.name, ["exp=004"]).exp.train.x == 1e-05
    assert "1 of 1 parameter" not in exp("check", light.name) and "2 of 2 parameter sets" in exp("check", light.name)


@pytest.mark.parametrize(
    "values",
    [
        {"text": "null", "anything": "", "items": ["~", "yes", "1:30", "0x10", "2020-01-01", "=", "<<", "nan", "."]},
        {
            "text": "two\nlines\n",
            "anything": " # no comment: 'a' \"b\" ",
            "items": ["[a]", "{b}", "*c", "&d", "!e", "%"],
        },
        {"text": "a ${exp.seed} \\${x} b", "anything": ["${a}", {"b": "\\\\${c}"}]},
        {"text": "Überraschung 🎉 実験 \x07\u2028\ud800", "anything": {"é": "\t"}},
        {"rate": 1e-05, "maybe": None, "items": [0.1 + 0.2, 1e300, 5e-324, -0.0, 123456789012345678901234567890]},
        {"maybe": float("nan"), "inner": {"a": 1, "b": float("-inf")}},
        {"rate": 1.0, "count": 10**20, "flag": True, "items": [1.0, 2]},  # config.yaml has [1, 2]
        {"items": [None, [], {}, [1, [2.0, [True, "3"]]], {"a": {"b": [None]}}]},
        {"table": {"kept": 1, "own": 1, "new": {"1": 2, "a.b": None, "": 0}}, "file": Path("c/d e")},
    ],
)
def test_every_kind_of_value_comes_back(kinds: Path, values: dict[str, Any]) -> None:
    """Of the same type, to the last digit; only these keys are written."""
    config = expkit.load_config(kinds.name)
    for name, value in values.items():
        setattr(config.exp.train, name, type(config.exp.train.inner)(**value) if name == "inner" else value)
    config.exp.train.__post_init__()
    run = of(kinds.name, json.loads(json.dumps({"exp": container(config.exp)})))  # as run.json has it
    text = parameter_set_from_run(kinds.name, "004", run).read_text()
    assert set(yaml.safe_load(text)["train"]) == {*values, *(["steps"] if "count" in values else [])}
    again = expkit.load_config(kinds.name, ["exp=004"])
    assert same(container(again.exp.train), container(config.exp.train))
    assert again.exp.train.__dict__.keys() == config.exp.train.__dict__.keys()
    for name, value in vars(config.exp.train).items():
        assert value != value or type(getattr(again.exp.train, name)) is type(value), name


def test_keys_that_are_no_text_are_refused(kinds: Path) -> None:
    with pytest.raises(expkit.Error, match=r"exp.train.anything: the keys of a dict must be text, in quotes, not 1"):
        expkit.load_config(kinds.name, ["exp.train.anything={1: a}"])


def of(experiment: str, config: dict[str, Any], **more: Any) -> store.Run:
    """A run that has recorded a configuration, and nothing else."""
    info = {"id": "0" * 8, "metric": "quality", "greater_is_better": True, "n_folds": 2}
    info |= {"config": {"choices": {"model": "cnn"}} | config, **more}
    return store.Run(Path("nowhere"), experiment, "recorded", info, {}, None)


def test_the_class_that_was_chosen(kinds: Path) -> None:
    """At its place, with the values that differ from those of this class."""
    overrides = ["model=vit", "exp.model.depth=5", "exp.train.color=blue"]
    expkit.run(kinds.name, overrides=overrides)
    text = made(kinds, "depth=5")
    assert "\ndefaults:\n- override /model: vit\n\nname: '004'\n" in text
    assert yaml.safe_load(text.partition("\n\n")[2]) == {
        "name": "004",
        "model": {"depth": 5},
        "train": {"color": "blue"},
    }
    config = expkit.load_config(kinds.name, ["exp=004"])
    assert type(config.exp.model).__name__ == "ViT"
    assert expkit.run(kinds.name, overrides=["exp=004"]) == store.read_run(find_run("depth=5")).score


@pytest.mark.parametrize(
    ("config", "mentions"),
    [
        ({"choices": {"hydra/callbacks": "../../evil"}}, "there is no key hydra/callbacks"),
        ({"choices": {"model": "../../evil"}}, "there is no key model in .* that can be '../../evil'"),
        ({"exp": {"defaults": ["/hydra/callbacks: ../../evil"]}}, "sets exp.defaults, which is no key"),
    ],
)
def test_a_foreign_record_chooses_no_file(kinds: Path, config: dict[str, Any], mentions: str) -> None:
    run = of(kinds.name, {"exp": {"name": "x"}} | config)
    with pytest.raises(expkit.Error, match=mentions):
        parameter_set_from_run(kinds.name, "004", run)
    assert not (kinds / "exp/004.yaml").exists()
    if "choices" in config:
        with pytest.raises(expkit.Error, match=mentions):  # exp reproduce
            from_values(load_experiment(kinds.name), {"exp": {"name": "x"}} | config)


def test_an_override_that_would_name_a_parameter_set(kinds: Path) -> None:
    """The existing parameter set is meant; else the run, and neither is one line."""
    (kinds / "exp").mkdir(exist_ok=True)
    (kinds / "exp/seed=2.yaml").write_text("name: of-a-file\nseed: 7\n")
    expkit.run(kinds.name, overrides=["exp.seed=2"])
    assert yaml.safe_load(made(kinds, "seed=2"))["seed"] == 7
    assert yaml.safe_load(made(kinds, "exp.seed=2", "005"))["seed"] == 2
    assert refused("new", f"{kinds.name}/007", "--from", "nothing").endswith("; and no run is called nothing")
    assert "is there already" in refused("new", f"{kinds.name}/004", "--from", "exp.seed=2")
    assert "a parameter set is named by" in refused("new", f"{kinds.name}/a b", "--from", "exp.seed=2")
    (kinds / "exp/007.yaml").write_text('name: "008"\n')
    assert "has the name '008' too" in refused("new", f"{kinds.name}/008", "--from", "exp.seed=2")
    assert {file.stem for file in kinds.glob("exp/*")} == {"004", "005", "007", "seed=2"}


def test_a_run_of_another_experiment(kinds: Path, root: Path) -> None:
    """When its keys exist here; else the keys that do not, all of them."""
    expkit.run(LIGHT, overrides=["exp.train.x=3", "exp.fold=[0]"])
    expkit.run(LIGHT, overrides=["exp.seed=5", "exp.fold=[0]"])
    with own_experiment(copy_of=LIGHT) as other:
        train = other / "train.py"
        train.write_text(train.read_text().replace("x: float = 0.0", "x: float = 0.0\n    more: int = 1"))
        assert yaml.safe_load(made(other, "x=3")) == {"name": "004", "train": {"x": 3.0}}
        expkit.run(other.name, overrides=["exp.train.more=2", "exp.fold=[0]"])
        message = refused("new", f"{LIGHT}/004", "--from", "more=2")
        assert "exp/004.yaml: there is no key exp.train.more; there are x, anything" in message
    expkit.run(kinds.name, overrides=["model=vit"])
    message = refused("new", f"{LIGHT}/004", "--from", "model=vit")
    assert "there is no key model" in message and not (code_root() / f"experiments/{LIGHT}/exp/004.yaml").exists()


def test_what_the_run_lacks_is_as_the_code_had_it(light: Path) -> None:
    """A key that is new since: its default in the dataclass. Another value of config.yaml would be another run."""
    expkit.run(light.name, overrides=["exp.seed=4", "exp.fold=[0]"])
    with edited(light / "train.py", "x: float = 0.0", "x: float = 0.0\n    new: int = 1"):
        load_experiment(light.name, again=True)
        assert yaml.safe_load(made(light, "seed=4")) == {"name": "004", "seed": 4}
        with edited(light / "config.yaml", "name: light", "name: light\n  train: {new: 9}"):
            message = refused("new", f"{light.name}/005", "--from", "seed=4")
            assert "it would differ from" in message and message.endswith("exp.train.new: 1 → 9")


def test_what_config_yaml_leaves_open(kinds: Path) -> None:
    """It need not compose alone: a run has a value for everything."""
    with edited(kinds / "train.py", "    flag: bool = False", "    flag: bool = MISSING"):
        expkit.run(kinds.name, overrides=["exp.train.flag=true"])
        assert yaml.safe_load(made(kinds, "flag=true"))["train"] == {"flag": True}
        assert expkit.load_config(kinds.name, ["exp=004"]).exp.train.flag is True
        with edited(kinds / "train.py", "own_split=True", "own_split=True, debug={'train.flag': True}"):
            load_experiment(kinds.name, again=True)
            assert expkit.load_config(kinds.name, ["exp.debug=true"]).exp.train.flag is True
            with pytest.raises(expkit.Error, match="exp.train.flag has no value"):
                expkit.load_config(kinds.name)


def test_of_nothing_that_differs_nothing_is_written(kinds: Path) -> None:
    exp("new", f"{kinds.name}/006")
    assert yaml.safe_load(made(kinds, "006", "007")) == {"name": "007"}


def test_what_a_parameter_set_cannot_say_is_refused(kinds: Path) -> None:
    """A key that was taken away (`~key`) would come back: one line, and no file."""
    config = expkit.load_config(kinds.name)
    config.exp.train.table = {"own": 1}
    expkit.run(kinds.name, config)
    message = refused("new", f"{kinds.name}/004", "--from", f"{kinds.name}/kinds")
    assert "would differ from" in message and message.endswith("exp.train.table.kept: (not set) → 1")
    assert not list(kinds.glob("exp/*"))


def test_what_no_longer_composes_is_refused(kinds: Path) -> None:
    """One line, and no file."""
    expkit.run(kinds.name, overrides=["exp.train.rate=0.5"])
    refuses = 'self.steps = 10 * self.count\n        expkit.require(self.rate < 0.5, f"too high: {self.rate}")'
    with edited(kinds / "train.py", "self.steps = 10 * self.count", refuses):
        load_experiment(kinds.name, again=True)
        assert refused("new", f"{kinds.name}/004", "--from", "rate=0.5").endswith("004.yaml: too high: 0.5")
    assert not [file for file in kinds.rglob("*") if "004" in file.name]


def test_a_text_that_yaml_would_change_is_refused(kinds: Path) -> None:
    values = container(expkit.load_config(kinds.name).exp)
    values["train"]["text"] = "next\x85line"
    with pytest.raises(expkit.Error, match=r"it would differ from .*: exp.train.text: next�line → next line"):
        parameter_set_from_run(kinds.name, "004", of(kinds.name, {"exp": values}))


def test_a_blend_and_a_broken_run_have_no_parameters(kinds: Path) -> None:
    recipe = {"method": "mean", "scored_by": "", "parents": [], "weights": [], "by_part": {}}
    blend = of(kinds.name, {"blend": {}}, blend=recipe | {"made_by": {}})
    with pytest.raises(expkit.Error, match="recorded is a blend, which has no parameters: name one of its runs"):
        parameter_set_from_run(kinds.name, "004", blend)
    broken = replace(blend, info=None, problems=("broken run.json (no JSON)",))
    with pytest.raises(expkit.Error, match=r"the configuration of .*/recorded is not known: broken run.json"):
        parameter_set_from_run(kinds.name, "004", broken)
