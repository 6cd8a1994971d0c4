"""What editors and `--help` know of a configuration: as Hydra takes it, made from the classes, and kept up to date."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Interval, Len, Lt, MultipleOf
from check_jsonschema.parsers.yaml import construct_yaml_implementation, impl2loader
from conftest import Command
from experiments import own_experiment
from helpers import exp
from jsonschema import Draft7Validator
from light import LIGHT, edited
from omegaconf import MISSING, OmegaConf

import expkit
from expkit import code, schema
from expkit.config import load_experiment
from expkit.new import BASELINES, check_experiment
from expkit.schema import check_bounds, comments, of_class

FRAMEWORKS = sorted(folder.name for folder in BASELINES.iterdir())


@contextmanager
def baseline(framework: str) -> Iterator[Path]:
    """The baseline of a framework, with its schemas; nothing heavy is imported."""
    files = BASELINES / framework
    with own_experiment({name: (files / name).read_text() for name in ("train.py", "config.yaml")}) as own:
        shutil.copytree(files / "exp", own / "exp")
        schema.write(load_experiment(own.name))
        yield own


def read(text: str) -> Any:
    """YAML as an editor reads it: 1.2, where Hydra has 1.1."""
    return impl2loader(construct_yaml_implementation(pure=True))(io.BytesIO(text.encode()))


def red(folder: Path, name: str, text: str) -> list[str]:
    """What an editor marks in a file of an experiment."""
    content = json.loads((folder / code.SCHEMAS / name).read_text())
    return [error.message for error in Draft7Validator(content).iter_errors(read(text))]


def refused(folder: Path, name: str, text: str) -> str | None:
    """What Hydra and expkit say to it."""
    file = folder / ("config.yaml" if name == schema.CONFIG else "exp/900.yaml")
    before = file.read_text() if file.exists() else None
    file.write_text(text)
    try:
        expkit.load_config(folder.name, ["exp=900"] if name == schema.PARAMETER_SET else [])
        return None
    except Exception as error:
        return str(error)
    finally:
        file.unlink() if before is None else file.write_text(before)


# The files of the baselines


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_baselines_are_as_their_schemas_say(framework: str) -> None:
    """The first line of each file names the schema that lies there, made by this expkit."""
    with baseline(framework) as folder:
        for name in (schema.CONFIG, schema.PARAMETER_SET):
            there = BASELINES / framework / ".schema" / name
            assert (folder / ".schema" / name).read_text() == there.read_text(), "run: uv run .ci/make-schemas"
        for file in [folder / "config.yaml", *folder.glob("exp/*.yaml")]:
            first, *_ = file.read_text().splitlines()
            assert first.startswith("# yaml-language-server: $schema=")
            path = (file.parent / first.partition("=")[2]).resolve()
            assert path == folder / ".schema" / (schema.CONFIG if file.parent == folder else schema.PARAMETER_SET)
            assert red(folder, path.name, file.read_text()) == []
            assert red(folder, path.name, file.read_text() + "\nnaem: x\n") != []


NAME = "name: x\n"
VIT = "defaults:\n- override /model: vit\n\n"
# What both take in a parameter set.
TAKEN = [
    "",
    "{}\n",
    NAME + "train: {}\n",
    NAME + "train: ???\n",
    NAME + "fold: [0, 1]\n",
    NAME + "fold: null\n",
    NAME + "train:\n  epochs: ${exp.n_folds}\n",
    NAME + "train:\n  epochs: '10'\n",
    NAME + "train:\n  epochs: 1_000\n",
    NAME + "train:\n  learning_rate: 1e-3\n",
    NAME + "train:\n  learning_rate: '1e-3'\n",
    NAME + "train:\n  learning_rate: 1\n",
    NAME + "train:\n  clip: .inf\n",
    NAME + "train:\n  compile: yes\n",
    NAME + "train:\n  compile: 'off'\n",
    NAME + "train:\n  precision: fp16\n",
    NAME + "train:\n  <<: {epochs: 3}\n",
    NAME + "runtime:\n  probe: none\n  tags: [1, a]\n",
    NAME + "model:\n  channels: 16\n",
    NAME + VIT + "model:\n  depth: 3\n",
    NAME + "defaults:\n- '002'\n- _self_\nmodel:\n  depth: 3\n",
    "# @package exp\n" + NAME,
]
# What both refuse.
REFUSED = [
    "- a\n",
    "name: [a]\n",
    NAME + "sed: 3\n",
    NAME + "exp:\n  seed: 3\n",
    NAME + "seed: -1\n",
    NAME + "seed: a\n",
    NAME + "mode: cx\n",
    NAME + "fold: 0\n",
    NAME + "fold: [0.5]\n",
    NAME + "split: {methd: time}\n",
    NAME + "split: {holdout: 1}\n",
    NAME + "train:\n",
    NAME + "train: 3\n",
    NAME + "train:\n  epohc: 3\n",
    NAME + "train:\n  epochs: 0\n",
    NAME + "train:\n  epochs: 1.5\n",
    NAME + "train:\n  epochs: null\n",
    NAME + "train:\n  learning_rate: fast\n",
    NAME + "train:\n  compile: maybe\n",
    NAME + "train:\n  precision: float8\n",
    NAME + "runtime:\n  tags: a\n",
    NAME + "model: vit\n",
    NAME + VIT + "model:\n  depth: 0\n",
    NAME + "defaults:\n- 002\n",
]


def test_a_parameter_set_is_red_where_it_is_refused_and_nowhere_else(root: Path) -> None:
    with baseline("torch") as folder:
        for text in TAKEN:
            assert refused(folder, schema.PARAMETER_SET, text) is None, text
            assert red(folder, schema.PARAMETER_SET, text) == [], text
        for text in REFUSED:
            assert refused(folder, schema.PARAMETER_SET, text) is not None, text
            assert red(folder, schema.PARAMETER_SET, text) != [], text
        # which class is chosen, only Hydra knows
        text = NAME + VIT + "model:\n  channels: 16\n"
        assert refused(folder, schema.PARAMETER_SET, text) is not None and red(folder, schema.PARAMETER_SET, text) == []


def test_config_yaml_is_red_where_it_is_refused_and_nowhere_else(root: Path) -> None:
    with baseline("torch") as folder:
        text = (folder / "config.yaml").read_text()

        def changed(old: str, new: str) -> str:
            assert old in text
            return text.replace(old, new)

        vit = changed("model@exp.model: cnn", "model@exp.model: vit")
        taken = [
            vit + "  model:\n    depth: 3\n",
            text + "hydra:\n  mode: RUN\n  sweeper:\n    params: {exp.seed: '1,2'}\n",
            changed("- exp: default", "- exp: '002'"),
        ]
        bad = [
            text + "  train:\n    learning_rat: 1\n",
            text + "show_config: tru\n",
            text + "seed: 3\n",
            changed("- exp: default", "- exp: 001"),
            changed("method: stratified", "method: stratifed"),
        ]
        for each in taken:
            assert (refused(folder, schema.CONFIG, each), red(folder, schema.CONFIG, each)) == (None, []), each
        for each in bad:
            assert refused(folder, schema.CONFIG, each) is not None and red(folder, schema.CONFIG, each) != [], each


# Types


class Color(Enum):
    red = 1
    blue = "b"


@dataclass
class Inner:
    a: int = 1


@dataclass
class Kinds:
    number: int = 1
    real: float = 1.0
    flag: bool = False
    text: str = "x"
    color: Color = Color.red
    path: Path = Path("x")
    maybe: int | None = None
    maybes: list[int | None] = field(default_factory=list)
    inners: list[Inner] = field(default_factory=list)
    anything: Any = None
    some: list = field(default_factory=list)  # type: ignore[type-arg]
    pair: tuple[float, float] = (1.0, 2.0)
    shares: dict[str, float] = field(default_factory=dict)
    lists: dict[str, list[int]] = field(default_factory=dict)
    number_or_text: int | str = 1
    inner: Inner = field(default_factory=Inner)
    no_inner: Inner | None = None
    needed: int = MISSING
    needed_inner: Inner = MISSING


VALUES = (
    "1|-1|+1|0|1.5|1e-3|.5|1_000|0x10|1:30|.inf|nan|true|yes|off|y|null|~|'1'|'1e-3'|'yes'|abc|2024-01-01|red|???"
    "|[]|[1]|[null]|[1.5]|[true]|['1']|['???']|[{a: 1}]|{}|{a: 1}|{x: 0.5}|{x: [1]}|!!str 1"
).split("|")
# What nobody means: a list or a dict as an item of simple values; an Enum by its value; a number that is true.
LAX = {"maybes": ["[{a: 1}]"], "pair": ["[{a: 1}]"], "shares": ["{x: [1]}"], "color": ["1", "+1"]}
LAX["flag"] = ["-1", "1_000", "0x10", "1:30"]


def test_what_hydra_takes_is_never_red() -> None:
    """Each kind of field with each kind of value; an Enum by the names of its members."""
    validator, kinds = Draft7Validator(of_class(Kinds)), OmegaConf.create({"exp": Kinds})
    wrong = []
    for value in VALUES:
        text = f"name: {value}\n"
        for_hydra, for_editor = OmegaConf.to_container(OmegaConf.load(io.StringIO(text))), read(text)
        for name in Kinds.__dataclass_fields__:
            try:
                OmegaConf.merge(kinds, {"exp": {name: for_hydra["name"]}})  # type: ignore[call-overload, index]
            except Exception:
                continue
            errors = [error.message for error in validator.iter_errors({name: for_editor["name"]})]
            if errors and value not in LAX.get(name, ()):
                wrong.append((f"{name}: {value}", errors))
    assert wrong == []


# Comments and numbers


@dataclass
class Base:
    seed: int = 0  # of the training
    size: int = 1


@dataclass
class Derived(Base):
    seed: int = 1
    size: int = 2  # noqa: X1
    beside: str = "# no comment"  # of this # field
    tool: int = 0  # type: ignore[assignment]

    # of nothing

    last: int = 0

    def __post_init__(self) -> None:
        self.last: int = 3  # not a field


def test_comments_of_fields() -> None:
    assert comments(Derived) == {"seed": "of the training", "beside": "of this # field"}


Share = Annotated[float, Gt(0), Lt(1)]


@dataclass
class Bounded:
    size: Annotated[int, Ge(1), MultipleOf(2)] = 2
    share: Share | None = None
    shares: list[Share] = field(default_factory=list)
    by_name: dict[str, Share] = field(default_factory=dict)
    either: Annotated[int, Interval(ge=0, le=3)] | str = 0
    rate: Annotated[float, Gt(0), Lt(math.inf)] = 1.0


WITHIN = {
    "size": [(2, 4), (0, 3, -2)],
    "share": [(0.5, None), (0, 1, 1.5)],
    "shares": [([], [0.1, 0.2]), ([0.1, 2.0],)],
    "by_name": [({}, {"a": 0.1}), ({"a": 0.0},)],
    "either": [(0, 3, "any"), (4, -1)],
    "rate": [(1e-9, 1e300), (0, -1)],
}


@pytest.mark.parametrize("name", WITHIN)
def test_a_bound_is_checked_and_in_the_schema(name: str) -> None:
    """Of objects, of what Hydra composes, and in an editor; the one line names the key."""
    validator = Draft7Validator(of_class(Bounded))
    within, beyond = WITHIN[name]
    for value in (*within, *beyond):
        parts = [Bounded(**{name: value}), OmegaConf.merge(OmegaConf.structured(Bounded), {name: value})]
        for part, type_of in zip(parts, (type, OmegaConf.get_type), strict=True):
            if value in within:
                check_bounds(part, Bounded, "exp", type_of)
            else:
                with pytest.raises(expkit.Error, match=rf"exp\.{name}\S* must be .*, not"):
                    check_bounds(part, Bounded, "exp", type_of)
        # beside a text, any number is one
        assert validator.is_valid({name: value}) is (value in within or name == "either"), value


def test_nan_is_never_within_and_what_nobody_checks_is_refused() -> None:
    with pytest.raises(expkit.Error, match="exp.share must be above 0 and below 1, not nan"):
        check_bounds(Bounded(share=math.nan), Bounded, "exp")
    with pytest.raises(expkit.Error, match="is not checked"):
        check_bounds(1, Annotated[int, Len(1)], "exp.size")


# Up to date


@pytest.fixture
def named(root: Path) -> Iterator[Path]:
    """The light experiment, with a config.yaml that names its schema, which is not there yet."""
    with own_experiment(copy_of=LIGHT) as folder:
        config = folder / "config.yaml"
        config.write_text(f"# yaml-language-server: $schema=.schema/config.json\n{config.read_text()}")
        yield folder


def keys_of(folder: Path) -> dict[str, Any]:
    """What the schema of the parameter sets says of `train`."""
    content = json.loads((folder / ".schema/exp.json").read_text())
    keys: dict[str, Any] = content["properties"]["train"]["anyOf"][0]["properties"]
    return keys


@pytest.mark.parametrize("command", ["exp check", "train.py"])
def test_made_again_when_the_classes_change(named: Path, train: Command, command: str) -> None:
    """By `exp check` and by a training."""

    def run() -> None:
        if command == "exp check":
            exp("check", named.name)
        else:
            assert train("exp.fold=[0]", experiment=named.name).code == 0

    run()
    assert keys_of(named)["x"]["default"] == 0.0 and (named / ".schema/config.json").exists()
    with edited(named / "train.py", "x: float = 0.0", "x: float = 0.0  # a share\n    more: int = 3"):
        load_experiment(named.name, again=True)
        run()
    assert keys_of(named)["x"]["description"] == "a share\n\nfloat" and keys_of(named)["more"]["default"] == 3


def test_looking_writes_nothing(named: Path, train: Command) -> None:
    for arguments in (["show_config=true"], ["--help"], ["--cfg", "job"]):
        assert train(*arguments, experiment=named.name).code == 0
    expkit.load_config(named.name)
    assert not (named / ".schema").exists()


def test_a_folder_that_cannot_be_written_is_no_mistake(named: Path, train: Command) -> None:
    (named / ".schema").write_text("in the way")
    exp("check", named.name)
    assert train("exp.fold=[0]", experiment=named.name).code == 0
    assert (named / ".schema").read_text() == "in the way"


def test_a_mistake_in_it_stops_nothing(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "of_file", lambda loaded, name: 1 / 0)
        assert [checked.problem for checked in check_experiment(named.name)] == [None]
    warning = f"cannot make the schemas of {named.name}, which only editors need: ZeroDivisionError"
    assert warning in capsys.readouterr().err


def test_who_names_no_schema_gets_none(root: Path) -> None:
    with own_experiment(copy_of=LIGHT) as folder:
        exp("check", folder.name)
        assert not (folder / ".schema").exists()


def test_new_files_name_their_schema(named: Path) -> None:
    """A new parameter set, a copy of it, and one that is made from a run."""
    expkit.run(named.name, overrides=["exp.train.x=0.5", "exp.fold=[0]"])
    for name, source in (("001", []), ("002", ["--from", "001"]), ("003", ["--from", "x=0.5"])):
        exp("new", f"{named.name}/{name}", *source)
        text = (named / f"exp/{name}.yaml").read_text()
        assert text.startswith("# yaml-language-server: $schema=../.schema/exp.json\n# ")
        assert red(named, schema.PARAMETER_SET, text) == []
    assert "$schema" not in (named / "exp/003.yaml").read_text().partition("\n")[2]


def test_it_is_no_code(named: Path) -> None:
    """No file of the experiment that a fold records."""
    exp("check", named.name)
    assert (named / ".schema/exp.json").exists()
    assert {Path(name).suffix for name in code.files_read(named.name)} <= {".py"}, "what is imported, is opened"


# --help


def test_help_is_a_manual(train: Command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How it is called, then each key with its value now, its type and its comment."""
    monkeypatch.setenv("COLUMNS", "120")
    with baseline("torch") as folder:
        done = train("--help", "exp=002", "exp.train.shift=2", experiment=folder.name)
        lines = [" ".join(line.split()) for line in done.out.splitlines()]
        assert lines[0].startswith("001-baseline: a small neural network")
    for line in (
        "exp=NAME a parameter set, a file in exp/: 001, 002",
        "model=vit cnn | vit: which class exp.model has",
        "exp.fold=[0] list[int] or null: which folds to train; null: all of them",
        "exp.split.method=stratified kfold | stratified | group | stratified_group | time | time_group | column",
        "exp.train.shift=2 int, at least 0 and at most 4: pixels; each picture is moved by up to as many, at random",
        "exp.train.epochs=40 int, at least 1: passes over the training rows",
        "exp.model.depth=2 int, at least 1: blocks of attention and MLP",
        "show_config=false bool: print the configuration and stop",
    ):
        assert line in lines
    assert not [line for line in lines if "exp.model.channels" in line]


def test_help_of_a_mistake_is_one_line(named: Path, train: Command) -> None:
    """As of any command: where config.yaml does not build on the classes, or the command line names a wrong key."""
    with edited(named / "config.yaml", "- schema\n", ""):
        assert "config.yaml must begin with" in train("--help", experiment=named.name).err
    mistaken = train("--help", "exp.sed=3", experiment=named.name)
    assert mistaken.err == "error: there is no key exp.sed; did you mean exp.seed?\n"
