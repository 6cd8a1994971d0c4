"""What editors and `--help` know of a configuration: as Hydra takes it, made from the classes, and kept up to date."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Interval, Len, Lt, MultipleOf
from check_jsonschema.parsers.yaml import construct_yaml_implementation, impl2loader
from conftest import EXP, GIT, background, call, clean_environment, clone_of, commit_all
from experiments import own_experiment
from helpers import HEAVY, exp, imported
from jsonschema import Draft7Validator
from light import LIGHT, edited
from omegaconf import MISSING, OmegaConf

import expkit
from expkit import code, schema
from expkit.config import bounds, check_bounds, hints, load_experiment
from expkit.new import BASELINES, check_experiment
from expkit.schema import comments, of_class

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
    """The first line of each file names the schema that lies there, made by this expkit (else: .ci/make-schemas)."""
    with baseline(framework) as folder:
        for name in (schema.CONFIG, schema.PARAMETER_SET):
            assert (folder / ".schema" / name).read_text() == (BASELINES / framework / ".schema" / name).read_text()
        named: dict[Path, list[Path]] = {}
        for file in [folder / "config.yaml", *folder.glob("exp/*.yaml")]:
            first = file.read_text().splitlines()[0]
            assert first.startswith("# yaml-language-server: $schema=")
            named.setdefault((file.parent / first.partition("=")[2]).resolve(), []).append(file)
        assert sorted(path.name for path in named) == ["config.json", "exp.json"]
        for path, texts in named.items():
            call("check-jsonschema", "--schemafile", path, *texts, cwd=folder)
            bad = folder / "bad.yaml"
            bad.write_text(texts[0].read_text() + "\nnaem: x\n")
            assert call("check-jsonschema", "--schemafile", path, bad, cwd=folder, check=False).returncode == 1


NAME = "name: x\n"
VIT = "defaults:\n- override /model: vit\n\n"
# What both take in a parameter set.
TAKEN = [
    "",
    "# nothing\n",
    "{}\n",
    "name: 2024-01-01\n",
    NAME + "train: {}\n",
    NAME + "train: ???\n",
    NAME + "fold: [0, 1]\n",
    NAME + "fold: null\n",
    NAME + "fold:\n",
    NAME + "fold: ['0']\n",
    NAME + "train:\n  epoch: ${exp.n_folds}\n",
    NAME + "train:\n  epoch: ${exp.n_folds}0\n",
    NAME + "train:\n  epoch: ???\n",
    NAME + "train:\n  epoch: '10'\n",
    NAME + "train:\n  epoch: 1_000\n",
    NAME + "train:\n  epoch: 0x10\n",
    NAME + "train:\n  learning_rate: 1e-3\n",
    NAME + "train:\n  learning_rate: '1e-3'\n",
    NAME + "train:\n  learning_rate: 1\n",
    NAME + "train:\n  clip: inf\n",
    NAME + "train:\n  clip: .inf\n",
    NAME + "train:\n  compile: yes\n",
    NAME + "train:\n  compile: 'off'\n",
    NAME + "train:\n  compile: 1\n",
    NAME + "train:\n  precision: fp16\n",
    NAME + "train:\n  precision: Precision.fp16\n",
    NAME + "train:\n  <<: {epoch: 3}\n",
    NAME + "runtime:\n  probe: none\n  tags: [1, a]\n",
    NAME + "model:\n  channels: 16\n",
    NAME + VIT + "model:\n  depth: 3\n",
    NAME + "defaults:\n- override /model@model: vit\nmodel:\n  depth: 3\n",
    NAME + "defaults:\n- override /model@_global_.exp.model: vit\nmodel:\n  depth: 3\n",
    NAME + "defaults:\n- override /model: [vit]\nmodel:\n  depth: 3\n",
    NAME + "defaults:\n- '002'\n- _self_\nmodel:\n  depth: 3\n",
    NAME + "defaults: []\n",
    "# @package exp\n" + NAME,
]
# What both refuse.
REFUSED = [
    "- a\n",
    "text\n",
    "name: null\n",
    "name: [a]\n",
    NAME + "sed: 3\n",
    NAME + "exp:\n  seed: 3\n",
    NAME + "hydra:\n  mode: RUN\n",
    NAME + "seed: -1\n",
    NAME + "seed: a\n",
    NAME + "n_folds: 0\n",
    NAME + "mode: cx\n",
    NAME + "fold: 0\n",
    NAME + "fold: all\n",
    NAME + "fold: [0.5]\n",
    NAME + "split: {methd: time}\n",
    NAME + "split: {holdout: 1}\n",
    NAME + "train:\n",
    NAME + "train: 3\n",
    NAME + "train: []\n",
    NAME + "train:\n  epohc: 3\n",
    NAME + "train:\n  epoch: 0\n",
    NAME + "train:\n  epoch: 1.5\n",
    NAME + "train:\n  epoch: true\n",
    NAME + "train:\n  epoch: null\n",
    NAME + "train:\n  learning_rate: fast\n",
    NAME + "train:\n  learning_rate: true\n",
    NAME + "train:\n  warmup: 1\n",
    NAME + "train:\n  compile: maybe\n",
    NAME + "train:\n  precision: float8\n",
    NAME + "train:\n  precision: BF16\n",
    NAME + "runtime:\n  tags: a\n",
    NAME + "model: vit\n",
    NAME + VIT + "model:\n  depth: 0\n",
    NAME + "defaults:\n- override /model: vut\n",
    NAME + "defaults:\n- 002\n",
    NAME + "defaults: null\n",
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


@pytest.mark.parametrize("text", ["train:\n  precision: bfloat16\n", "train: ${exp.other}\n"])
def test_what_only_hydra_1_4_takes_is_not_red(text: str, root: Path) -> None:
    """The schema is the same with each Hydra: it lies in git. 1.3 refuses these in one line."""
    with baseline("torch") as folder:
        assert red(folder, schema.PARAMETER_SET, text) == []


def test_config_yaml_is_red_where_it_is_refused_and_nowhere_else(root: Path) -> None:
    with baseline("torch") as folder:
        text = (folder / "config.yaml").read_text()

        def changed(old: str, new: str) -> str:
            assert old in text
            return text.replace(old, new)

        vit = changed("model@exp.model: cnn", "model@exp.model: vit")
        taken = [
            text,
            text + "  model:\n    channels: 16\n",
            vit + "  model:\n    depth: 3\n",
            text + "hydra:\n  mode: RUN\n  sweeper:\n    params: {exp.seed: '1,2'}\n",
            text + "overwrite: true\n",
            changed("- exp: default", "- exp: default\n- override hydra/job_logging: default"),
            changed("- exp: default", "- exp: '002'"),
        ]
        bad = [
            text + "  sed: 3\n",
            text + "  train:\n    learning_rat: 1\n",
            text + "  model:\n    channels: 4\n",
            text + "show_config: tru\n",
            text + "seed: 3\n",
            changed("- exp: default", "- exp: 001"),
            changed("model@exp.model: cnn", "model@exp.model: can"),
            changed("method: stratified", "method: stratifed"),
        ]
        for each in taken:
            assert (refused(folder, schema.CONFIG, each), red(folder, schema.CONFIG, each)) == (None, []), each
        for each in bad:
            assert refused(folder, schema.CONFIG, each) is not None and red(folder, schema.CONFIG, each) != [], each


def test_a_parameter_set_for_the_whole_configuration_has_the_schema_of_config_yaml(root: Path) -> None:
    text = "# @package _global_\nexp:\n  name: x\n  seed: 3\noverwrite: true\n"
    with baseline("sklearn") as folder:
        assert refused(folder, schema.PARAMETER_SET, text) is None and red(folder, schema.CONFIG, text) == []


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
    maybe_color: Color | None = None
    numbers: list[int] = field(default_factory=list)
    reals: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    colors: list[Color] = field(default_factory=list)
    maybes: list[int | None] = field(default_factory=list)
    inners: list[Inner] = field(default_factory=list)
    nested: list[list[int]] = field(default_factory=list)
    anything: Any = None
    some: list = field(default_factory=list)  # type: ignore[type-arg]
    pair: tuple[float, float] = (1.0, 2.0)
    shares: dict[str, float] = field(default_factory=dict)
    by_number: dict[int, int] = field(default_factory=dict)
    inner_by_name: dict[str, Inner] = field(default_factory=dict)
    lists: dict[str, list[int]] = field(default_factory=dict)
    number_or_text: int | str = 1
    inner: Inner = field(default_factory=Inner)
    no_inner: Inner | None = None
    needed: int = MISSING
    needed_inner: Inner = MISSING


VALUES = (
    "1|-1|+1|0|1.5|1e-3|.5|1_000|1_0.5|0x10|0b11|017|1:30|.inf|-.inf|inf|infinity|nan|.nan|true|TRUE|yes|off|y|n|tru"
    "|null|~||'null'|'1'|' 1 '|'1.5'|'1e-3'|'true'|'yes'|abc|'a b'|2024-01-01|red|Color.red|Color.green|RED|b|???"
    "|[]|[1]|[1, 2]|[a]|[null]|[1.5]|[true]|[red]|['1']|['???']|[{a: 1}]|[{a: x}]|[{b: 1}]|[[1]]|[[x]]"
    "|{}|{a: 1}|{a: x}|{b: 1}|{a: 1.5}|{1: 1}|{x: {a: 1}}|{x: {b: 1}}|{x: [1]}|{x: [y]}|{a: null}|!!str 1|!!int '1'"
).split("|")
# OmegaConf lets a list or a dict pass as an item of simple values, which nobody means.
LAX = dict.fromkeys("numbers reals texts colors maybes pair".split(), "[[1]]|[[x]]|[{a: 1}]|[{a: x}]|[{b: 1}]")
LAX |= {"shares": "{x: {a: 1}}|{x: {b: 1}}|{x: [1]}|{x: [y]}"}
# What is one to JSON, and two to Hydra: YAML 1.1 and 1.2, a key that is a number. What only OmegaConf 2.4 takes: "b".
ALIKE = {
    "by_number": "{a: 1}|{b: 1}",  # the keys of a dict are not looked at
    "color": "b",
    "maybe_color": "b",
    "path": "1|-1|+1|0|1.5|1e-3|.5|1_000|1_0.5|0x10|0b11|017|1:30|.inf|-.inf|.nan|yes|off|!!int '1'",
    "number_or_text": "yes|off",
    "shares": "{1: 1}",
    "text": "yes|off|1_0.5|.5",
}


def test_every_type_takes_what_hydra_takes() -> None:
    """Each kind of field with each kind of value."""
    validator, kinds = Draft7Validator(of_class(Kinds)), OmegaConf.create({"exp": Kinds})
    wrong = []
    for value in VALUES:
        text = f"name: {value}\n"
        for_hydra, for_editor = OmegaConf.to_container(OmegaConf.load(io.StringIO(text))), read(text)
        for name in Kinds.__dataclass_fields__:
            try:
                OmegaConf.merge(kinds, {"exp": {name: for_hydra["name"]}})  # type: ignore[call-overload, index]
                is_taken = True
            except Exception:
                is_taken = False
            errors = [error.message for error in validator.iter_errors({name: for_editor["name"]})]
            if is_taken is bool(errors) and value not in (LAX if is_taken else ALIKE).get(name, "").split("|"):
                wrong.append((f"{name}: {value}", "Hydra takes it" if is_taken else "Hydra refuses it", errors))
    assert wrong == []


# Comments and numbers


class Metal(Enum):
    iron = "fe"  # rusts
    gold = "au"


@dataclass
class Base:
    seed: int = 0  # of the training
    size: int = 1


@dataclass
class Derived(Base):
    seed: int = 1
    size: int = 2  # noqa: X1
    beside: str = "# no comment"  # of this # field
    tool: int = 0  # type: ignore[assignment]  # yes
    long: int = 0  # beside
    """Below
    the field."""
    none: int = 0

    # of nothing

    last: int = 0

    def __post_init__(self) -> None:
        """A method."""
        self.last: int = 3  # not a field


def test_comments_of_fields() -> None:
    assert comments(Derived) == {
        "seed": "of the training",
        "beside": "of this # field",
        "long": "Below\nthe field.",
    }
    assert comments(Metal) == {"iron": "rusts"}


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


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_number_beyond_its_bounds_is_refused(framework: str, root: Path) -> None:
    """Each number of each baseline, from the command line and before any other check."""
    with baseline(framework) as folder:
        config = expkit.load_config(folder.name)
        parts = {"exp": config.exp, "exp.split": config.exp.split, "exp.train": config.exp.train}
        limits = [
            (f"{key}.{name}", bound)
            for key, part in parts.items()
            for name, kind in hints(type(part)).items()
            for bound in bounds(kind)
        ]
        assert len(limits) > 10
        beyond = {"minimum": -1, "exclusiveMinimum": 0, "maximum": 1, "exclusiveMaximum": 0}
        for name, bound in limits:
            with pytest.raises(expkit.Error, match=rf"^{re.escape(name)} must be"):
                expkit.load_config(folder.name, [f"{name}={bound.limit + beyond[bound.keyword]}"])


def test_a_class_in_itself_ends() -> None:
    assert Draft7Validator(of_class(Tree)).is_valid({"size": 1, "left": {"size": 2}})


@dataclass
class Tree:
    size: int = 0
    left: Tree | None = None


# Up to date


@pytest.fixture
def named(root: Path) -> Iterator[Path]:
    """The light experiment, with a config.yaml that names its schema, which is not there yet."""
    with own_experiment(copy_of=LIGHT) as folder:
        config = folder / "config.yaml"
        config.write_text(f"# yaml-language-server: $schema=.schema/config.json\n{config.read_text()}")
        yield folder


def train(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Its train.py, in a process of its own."""
    environment = clean_environment() | {
        "EXPKIT_ROOT": str(expkit.code_root()),
        "PYTHONPATH": str(expkit.code_root() / "src"),
        "WANDB_MODE": "disabled",
    }
    environment |= {"PROJECT_ROOT": str(folder / ".root"), "PYTHONPROFILEIMPORTTIME": "1"}
    (folder / ".root").mkdir(exist_ok=True)
    return call(sys.executable, folder / "train.py", *arguments, cwd=folder, env=environment, check=check)


def keys_of(folder: Path) -> dict[str, Any]:
    """What the schema of the parameter sets says of `train`."""
    content = json.loads((folder / ".schema/exp.json").read_text())
    keys: dict[str, Any] = content["properties"]["train"]["anyOf"][0]["properties"]
    return keys


def check(folder: Path) -> None:
    exp("check", folder.name)


@pytest.mark.parametrize("command", [check, train])
def test_made_again_when_the_classes_change(named: Path, command: Callable[[Path], object]) -> None:
    """By `exp check` and by a training; what is the same is not written."""
    command(named)
    assert keys_of(named)["x"]["default"] == 0.0 and sorted(file.name for file in (named / ".schema").iterdir()) == [
        "config.json",
        "exp.json",
    ]
    before = {file: file.stat().st_ino for file in (named / ".schema").iterdir()}
    command(named)
    assert {file: file.stat().st_ino for file in (named / ".schema").iterdir()} == before
    with edited(named / "train.py", "x: float = 0.0", "x: float = 0.0  # a share\n    more: int = 3"):
        load_experiment(named.name, again=True)
        command(named)
    assert keys_of(named)["x"]["description"] == "a share\n\nfloat" and keys_of(named)["more"]["default"] == 3


def test_looking_writes_nothing(named: Path) -> None:
    for arguments in (["show_config=true"], ["--help"], ["--cfg", "job"]):
        train(named, *arguments)
    expkit.load_config(named.name)
    exp("board")
    assert not (named / ".schema").exists()


def test_a_folder_that_cannot_be_written_is_no_mistake(named: Path) -> None:
    (named / ".schema").write_text("in the way")
    check(named)
    train(named, "exp.fold=[0]")
    assert list((named / ".root/output").rglob("fold0"))
    assert (named / ".schema").read_text() == "in the way"


def test_a_mistake_in_it_stops_no_training(named: Path, capsys: pytest.CaptureFixture[str], root: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "of_file", lambda loaded, name: 1 / 0)
        assert [checked.problem for checked in check_experiment(named.name)] == [None]
    assert (
        f"cannot make the schemas of {named.name}, which only editors need: ZeroDivisionError"
        in capsys.readouterr().err
    )


def test_who_names_no_schema_gets_none(root: Path) -> None:
    with own_experiment(copy_of=LIGHT) as folder:
        check(folder)
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
    before = code.files_read(named.name)
    check(named)
    assert len(list(named.rglob("exp.json"))) == 1 and code.files_read(named.name) == before


def test_a_new_experiment_and_two_branches(tmp_path: Path) -> None:
    """A copy has schemas of its own. Those of two branches merge, and the next command makes them from the classes."""
    clone = clone_of(expkit.code_root(), tmp_path / "clone")
    environment = clean_environment() | {
        "EXPKIT_ROOT": str(clone),
        "PYTHONPATH": str(clone / "src"),
        "WANDB_MODE": "disabled",
    }

    def run(*arguments: str) -> str:
        return call(sys.executable, *EXP, *arguments, cwd=clone, env=environment).stdout

    def git(*arguments: str, check: bool = True) -> str:
        return call(*GIT, *arguments, cwd=clone, check=check).stdout

    run("new", "next", "--from", "001")
    folder = clone / "experiments/003-next"
    assert keys_of(folder)["epoch"]["default"] == 30
    commit_all(clone)
    train_py, line = folder / "train.py", "batch_size: Annotated[int, Ge(1)] = 32  # "
    for branch, comment in (("a", "rows, in a"), ("b", "rows, in b")):
        git("checkout", "-q", "-b", branch, "main")
        train_py.write_text(train_py.read_text().replace(line, f"{line}{comment}: "))
        run("check")
        assert keys_of(folder)["batch_size"]["description"].startswith(comment)
        commit_all(clone)
    git("merge", "a", check=False)
    assert git("diff", "--name-only", "--diff-filter=U").split() == ["experiments/003-next/train.py"]
    git("checkout", "--ours", train_py.relative_to(clone).as_posix())
    run("check")
    assert keys_of(folder)["batch_size"]["description"].startswith("rows, in b")


# --help


def test_help_is_a_manual(root: Path) -> None:
    """How it is called, then each key with its value now, its type and its comment; nothing heavy is imported."""
    with baseline("torch") as folder:
        done = train(folder, "--help", "exp=002", "exp.train.shift=2")
        lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
        assert lines[0].startswith("001-baseline: a small neural network")
        assert imported(done.stderr).isdisjoint(HEAVY)
    for line in (
        "exp=NAME a parameter set, a file in exp/: 001, 002",
        "model=vit cnn | vit: which class exp.model has",
        "exp.fold=[0] list[int] or null: which folds to train; null: all of them",
        "exp.split.method=stratified kfold | stratified | group | stratified_group | time | column",
        "exp.train.shift=2 int, at least 0 and at most 4: pixels; each picture is moved by up to as many, at random",
        "exp.train.epoch=40 int, at least 1: passes over the training rows",
        "exp.model.depth=2 int, at least 1: blocks of attention and MLP",
        "show_config=false bool: print the configuration and stop",
    ):
        assert line in lines
    assert not [line for line in lines if "exp.model.channels" in line]


def test_help_shows_dollars_as_they_are(named: Path) -> None:
    text = (named / "train.py").read_text()
    (named / "train.py").write_text(f"'''Costs $5, ${{HOME}} or $$x.'''\n{text}")
    assert train(named, "--help").stdout.startswith("Costs $5, ${HOME} or $$x.\n")


def test_help_of_a_mistake_is_one_line(named: Path) -> None:
    """As of any command: where config.yaml does not build on the classes, or the command line names a wrong key."""
    config = named / "config.yaml"
    with edited(config, "- schema\n", ""):
        assert "config.yaml must begin with" in train(named, "--help", check=False).stderr.splitlines()[-1]
    assert "there is no key exp.sed; did you mean exp.seed?" in train(named, "--help", "exp.sed=3", check=False).stderr
    config.write_text(config.read_text() + "hydra:\n  help:\n    template: my own\n")
    assert train(named, "--help").stdout == "my own\n"


# The language server itself

YAML_SERVER = "yaml-language-server@1.25.0"


class Editor:
    """What an editor hears from the YAML language server."""

    def __init__(self, server: Path, folder: Path) -> None:
        pipe = subprocess.PIPE
        self.process = background("node", server, "--stdio", stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self.folder, self.asked, self.marked = folder, 0, dict[str, list[str]]()
        document = {"publishDiagnostics": {}, "hover": {}, "completion": {"completionItem": {"snippetSupport": True}}}
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {"textDocument": document}})
        self.send({"method": "initialized", "params": {}})

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0"} | message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self.marked[message["params"]["uri"]] = [each["message"] for each in message["params"]["diagnostics"]]
        elif "method" in message and "id" in message:  # its settings: none
            self.send({"id": message["id"], "result": [{"schemaStore": {"enable": False}}, None, None, None, None]})
        return message

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        self.asked += 1
        self.send({"id": self.asked, "method": method, "params": params})
        while (answer := self.read()).get("id") != self.asked or "method" in answer:
            pass
        return answer["result"]

    def open(self, file: str, text: str) -> str:
        uri = (self.folder / file).as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return uri

    def red(self, file: str, text: str) -> list[str]:
        uri = self.open(file, text)
        while uri not in self.marked:
            self.read()
        return self.marked[uri]

    def at(self, what: str, file: str, text: str) -> Any:
        """Its answer at the place of | in a text."""
        before, _, after = text.partition("|")
        uri, lines = self.open(file, before + after), before.split("\n")
        position = {"line": len(lines) - 1, "character": len(lines[-1])}
        return self.ask(f"textDocument/{what}", {"textDocument": {"uri": uri}, "position": position})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_in_an_editor(root: Path, tmp_path: Path) -> None:
    """With the language server that editors start: red typos, completion, and the comment under the mouse."""
    if call("npm", "install", "--silent", YAML_SERVER, cwd=tmp_path, check=False).returncode:
        pytest.skip(f"npm cannot install {YAML_SERVER}")
    server = tmp_path / "node_modules/yaml-language-server/bin/yaml-language-server"
    with baseline("torch") as folder:
        editor, config, first = Editor(server, folder), (folder / "config.yaml").read_text(), schema.FIRST_LINE
        assert editor.red("config.yaml", config) == []
        for name in ("001", "002"):
            assert editor.red(f"exp/{name}.yaml", (folder / f"exp/{name}.yaml").read_text()) == []
        assert editor.red("1.yaml", config + "  sed: 3\n") == ["Property sed is not allowed."]
        assert editor.red("exp/3.yaml", first + "train:\n  epohc: 3\n") == ["Property epohc is not allowed."]
        assert editor.red("exp/4.yaml", first + "train:\n  epoch: many\n") == ["Not a whole number."]
        assert editor.red("exp/5.yaml", first + "train:\n  precision: fp8\n") == [
            'Value is not accepted. Valid values: "fp32", "bf16", "fp16".'
        ]
        proposed = editor.at("completion", "6.yaml", config + "  train:\n    |\n")["items"]
        assert {"epoch", "batch_size", "precision"} <= {each["label"] for each in proposed}
        assert "epoch: ${1:20}" in [each["insertText"] for each in proposed]
        proposed = editor.at("completion", "exp/7.yaml", first + "|\n")["items"]
        assert "train:\n  " in [each["insertText"] for each in proposed], "and not all of its keys"
        vit = f"{first}defaults:\n- override /model: vit\nmodel:\n  "
        proposed = editor.at("completion", "exp/8.yaml", f"{vit}|\n")["items"]
        assert {"width", "depth", "heads", "dropout"} <= {each["label"] for each in proposed}
        hover = editor.at("hover", "exp/9.yaml", f"{vit}de|pth: 3\n")["contents"]["value"]
        assert hover.startswith("blocks of attention and MLP\n\nint, at least 1")
