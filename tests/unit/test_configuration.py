"""What a configuration takes: nothing that is read as something else, and a name that its values alone decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from experiments import own_experiment
from helpers import assert_refused, exp
from light import train_py

import expkit
from expkit.compose import as_hydra_takes, checked, from_values
from expkit.config import container, load_experiment, whole
from expkit.errors import Error
from expkit.new import check_experiment
from expkit.rundir import run_name

CONFIG = "defaults:\n- schema\n- model@exp.model: cnn\n- _self_\n- exp: default\n\nexp:\n  name: typed\n"
TRAIN = train_py(
    """
flip: bool = False
maybe: bool | None = None
num_leaves: int = 31
learning_rate: float = 0.1
text: str = ""
size: Size = Size.small
flags: list[bool] = field(default_factory=list)
floats: list[float] = field(default_factory=list)
options: dict[str, float] = field(default_factory=dict)
anything: Any = None
""",
    """
def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    fold.save_oof({"id": [fold.number], "prediction": [exp.train.learning_rate]})
""",
    'metric=quality, own_split=True, groups={"model": {"cnn": CNN, "vit": ViT}}',
    exp="model: ModelConfig = MISSING",
    classes="""
from enum import Enum

from omegaconf import MISSING


class Size(Enum):
    small = 1
    large = 2


@dataclass
class ModelConfig:
    units: int = 8


@dataclass
class CNN(ModelConfig):
    width: int = 3


@dataclass
class ViT(ModelConfig):
    depth: int = 3
""",
)
Write = Callable[[str, str], None]


@pytest.fixture(scope="module")
def typed() -> Iterator[str]:
    """The name of an experiment with a key of each type."""
    with own_experiment({"train.py": TRAIN, "config.yaml": CONFIG}) as folder:
        (folder / "exp").mkdir(exist_ok=True)
        yield folder.name


@pytest.fixture
def write(typed: str) -> Iterator[Write]:
    """Writes parameter sets; they are removed afterwards."""
    folder = expkit.code_root() / "experiments" / typed / "exp"

    def written(name: str, text: str) -> None:
        (folder / f"{name}.yaml").write_text(text)

    yield written
    for file in folder.iterdir():
        file.unlink()


# Values of another type


@pytest.mark.parametrize("value", ["3", "'3'", "maybe"])
def test_a_number_is_not_true(typed: str, write: Write, value: str) -> None:
    """On the command line, in a list, in a file, and in what a run has recorded."""
    for name, override in (("flip", value), ("flags", f"[{value}]")):
        message = rf"exp.train.{name}(\[0\])? must be true or false, not {value.strip(chr(39))}"
        with pytest.raises(Error, match=message):
            expkit.load_config(typed, [f"exp.train.{name}={override}"])
        write("001", f"name: '001'\ntrain:\n  {name}: {override}\n")
        with pytest.raises(Error, match=f"001.yaml: {message}"):
            expkit.load_config(typed, ["exp=001"])
    recorded = container(expkit.load_config(typed))
    recorded["exp"]["train"]["flip"] = 3
    with pytest.raises(Error, match="exp.train.flip must be true or false, not 3"):
        from_values(load_experiment(typed), recorded | {"choices": {"model": "cnn"}})


@pytest.mark.parametrize(("written", "read"), [("no", "False"), ("1.10", "1.1"), ("1e3", "1000.0")])
def test_a_text_is_what_was_written(typed: str, write: Write, written: str, read: str) -> None:
    write("001", f"name: '001'\ntrain:\n  text: {written}\n")
    with pytest.raises(Error, match=rf"001.yaml: exp.train.text is a text, and YAML reads it as {read} \(\w+\): put"):
        expkit.load_config(typed, ["exp=001"])
    write("001", f"name: '001'\ntrain:\n  text: '{written}'\n")
    assert expkit.load_config(typed, ["exp=001"]).exp.train.text == written


@pytest.mark.parametrize("written", ["003", "1e3", "true"])
def test_a_name_has_quotes_where_it_may_be_no_text(typed: str, write: Write, written: str) -> None:
    """`name: 003` would be the number 3."""
    write("003", f"name: {written}\n")
    with pytest.raises(Error, match=r"003.yaml: exp.name is a text, and YAML reads it as .*: put it in quotes"):
        expkit.load_config(typed, ["exp=003"])
    write("003", f"name: '{written}'\n")
    assert expkit.load_config(typed, ["exp=003.yaml"]).exp.name == written


def test_a_value_that_python_has_set_is_checked(typed: str, root: Path) -> None:
    config = expkit.load_config(typed)
    config.exp.n_folds = 0
    with pytest.raises(Error, match="^exp.n_folds must be at least 1 and at most 10000, not 0$"):
        expkit.run(typed, config)


# What a beginner types


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (["learning_rate=0.1"], "there is no key learning_rate; did you mean exp.train.learning_rate?"),
        (["train.learning_rate=0.1"], "did you mean exp.train.learning_rate?"),
        (["seed=1"], "did you mean exp.seed or exp.split.seed?"),
        (["exp.train.Learning_Rate=0.1"], "did you mean exp.train.learning_rate?"),
        (["--learning_rate", "0.1"], "there is no flag --learning_rate: a value is given as KEY=VALUE without dashes"),
        (["-exp.train.learning_rate=0.1"], "KEY=VALUE without dashes, as in exp.seed=1"),
        (["exp.train.num_leaves:8"], "it is KEY=VALUE without spaces"),
        (["exp.train.num_leaves", "=", "8"], "it is KEY=VALUE without spaces"),
        (["exp.train=num_leaves:8"], "exp.train takes no value of its own: give one to its keys"),
        (["exp.train=null"], "exp.train cannot be null"),
        (["exp.train.text=a=b"], "quoted, as in 'exp.fold=[0,1]' or 'exp.start_from=\"a~b,c=d\"'"),
        (["exp.model.depth=4"], "there is no key exp.model.depth: depth belongs to vit: choose with model=vit"),
        (["exp.model=vit"], "exp.model takes no value of its own: choose with model=vit"),
        (["exp.fold=7"], "exp.fold must be from 0 to 4 (exp.n_folds - 1), not 7"),
    ],
)
def test_command_line(train: Command, typed: str, root: Path, arguments: list[str], mentions: str) -> None:
    assert_refused(train(*arguments, experiment=typed), mentions, root)


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("train:\nnum_leaves: 8\n", "exp/001.yaml: exp.train is empty: indent the keys that stand below it"),
        ("train:\n  num_leaves:8\n", "exp/001.yaml: 'num_leaves:8' stands where the keys of TrainConfig belong"),
        ("train:\n  num_leaves:8\n  text: a\n", "exp/001.yaml, line 4: mapping values are not allowed here (is the"),
        ("train:\n\ttext: a\n", "exp/001.yaml, line 3: found character '\\t' that cannot start any token (is the"),
        ("exp:\n  train: {}\n", "exp/001.yaml: there is no key exp.exp: the keys of a parameter set are those below"),
        ("num_leaves: 8\n", "exp/001.yaml: there is no key exp.num_leaves; did you mean exp.train.num_leaves?"),
        ("train.num_leaves: 8\n", "there is no key exp.train.num_leaves with dots: each of its parts is a key"),
        ("model:\n  depth: 4\n", "depth belongs to vit: choose with model=vit, or '- override /model: vit' in the"),
        ("model: vit\n", "exp/001.yaml: model takes no value of its own: choose with model=vit, or '- override /model"),
        ("fold: 7\n", "exp/001.yaml: exp.fold must be a list, as in"),
    ],
)
def test_parameter_set(train: Command, typed: str, root: Path, write: Write, text: str, mentions: str) -> None:
    write("001", f"name: one\n{text}")
    assert_refused(train("exp=001", experiment=typed), mentions, root)
    assert mentions in [str(checked.problem) for checked in check_experiment(typed)][1]


# Names of runs


def name(typed: str, *overrides: str) -> str:
    loaded = load_experiment(typed)
    return run_name(expkit.load_config(typed, overrides), [as_hydra_takes(one, loaded) for one in overrides])


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        (["learning_rate=1", "learning_rate=1.0", "learning_rate=1e0", "learning_rate='1'"], "learning_rate=1"),
        (["learning_rate=0.003", "learning_rate=3e-3"], "learning_rate=0.003"),
        (["learning_rate=42", "learning_rate=${exp.seed}"], "learning_rate=42"),
        (["text=a", "text='a'", 'text="a"'], "text=a"),
        (["flip=true", "flip=yes", "flip=1"], "flip=true"),
        (["size=large", "size=Size.large", "size=2"], "size=large"),
        (["maybe=null"], "maybe=null"),
        (["floats=[0,1]", "floats=[0, 1.0]"], None),
        (["anything=[{b: 1, a: x}]", "anything=[{a: 'x', b: 1}]"], None),
    ],
)
def test_a_value_has_one_name(typed: str, spellings: list[str], expected: str | None) -> None:
    names = {name(typed, f"exp.train.{spelling}") for spelling in spellings}
    assert len(names) == 1
    assert expected is None or names == {f"typed,exp.train.{expected}"}


def test_a_class_that_is_chosen_is_in_the_name(typed: str) -> None:
    assert name(typed, "model='vit'", "exp.model.depth=4") == "typed,exp.model.depth=4,model=vit"


def test_two_values_have_two_names(typed: str) -> None:
    values = ["1", "true", "null", "a", "'a b'", "'a_b'", "'a,b'", "[]", "['']", "''", "[a,b]", "['a,b']", "[1]"]
    values += ["{a: 1}", "{a: '1'}", "{a: {b: 1}}", "{a.b: 1}", "'[1]'", "'{a:1}'"]
    names = [name(typed, f"exp.train.anything={value}") for value in values]
    assert len(set(names)) == len(names) and "typed,exp.train.anything=1" in names


# Two parameter sets


@pytest.mark.parametrize(
    "text",
    [
        "name: one\ntrain: {num_leaves: 3}\n",
        'name: "one"\n',
        "# @package _global_\nexp:\n  name: one\n",
    ],
)
def test_two_parameter_sets_with_one_name(typed: str, root: Path, write: Write, text: str) -> None:
    """Nothing is trained, however it is started."""
    write("001", "name: one\n")
    write("002", text)
    message = "has the name 'one' too, and would share the output folder with"
    config = expkit.load_config(typed, ["exp=002"])
    starts: list[dict[str, Any]] = [{"overrides": ["exp=001"]}, {"overrides": ["exp='002'"]}, {"config": config}]
    for start in [*starts, {"overrides": ["exp.name=one"]}]:
        with pytest.raises(Error, match=message):
            expkit.run(typed, **start)
    assert not (root / "output").exists()
    assert [str(checked.problem).count(message) for checked in check_experiment(typed)] == [0, 1, 1]


def test_a_configuration_that_is_there_already(typed: str, write: Write) -> None:
    """`exp check` says it."""
    write("001", "name: one\ntrain: {num_leaves: 3}\n")
    write("002", "name: two\ntrain: {num_leaves: 3}\n")
    assert "ok, the same configuration as 001" in exp("check", typed)


@pytest.mark.parametrize("key", ["seed", "n_folds"])
def test_a_field_with_another_default_keeps_its_bound(key: str) -> None:
    """`seed: int = 7` in the class of an experiment is no `Annotated`."""

    @dataclass
    class Own(expkit.ExpConfig):
        seed: int = 7
        n_folds: int = 3

    with pytest.raises(expkit.Error, match=f"exp.{key} must be at least"):
        checked(whole(Own)(exp=Own(**{key: -1})))


def test_an_experiment_that_is_loaded_once_more(typed: str) -> None:
    experiment = load_experiment(typed).experiment
    known = experiment.Config
    experiment.check()
    assert experiment.Config is known
