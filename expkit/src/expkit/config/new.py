"""New experiments and new parameter sets, made from old ones."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
from pathlib import Path

import yaml

from expkit.config.check import Checked, check_experiment
from expkit.config.compose import composed, typed
from expkit.config.describe import schema
from expkit.config.load import load_experiment
from expkit.config.messages import describe
from expkit.config.parameter_sets import DEFAULT, refuse_shared_name
from expkit.errors import Error, require
from expkit.files import listed
from expkit.paths import code_root, experiment_dir, experiment_names, full_name, settings, shown

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


BASELINES = Path(__file__).parents[1] / "baselines"  # a folder for each framework
# What a framework needs beside what every project depends on, as in pyproject.toml.
NEEDS = {
    "sklearn": [],
    "torch": ["torch>=2.6"],
    "lightgbm": ["lightgbm>=4.6", "matplotlib>=3.10.5", "palmerpenguins>=0.1.6", "pandas>=2.3.3"],
}


def new_experiment(name: str, source: str | None = None, framework: str | None = None) -> tuple[Path, list[Checked]]:
    """Copy an experiment to the next number: `larger-model` becomes `experiments/002-larger-model`.

    Its `exp.name` and the title in its docstring are set. Results are not copied, they lie in output/.

    Args:
        name: the new name, with or without a number.
        source: the experiment to copy; None: the last one.
        framework: copy the baseline of this framework instead.

    Returns:
        the folder, and the parameter sets that are left out, as they do not compose.

    Raises:
        Error: the name is no folder's name or is taken, the source does not exist, or it does not compose.
    """
    require(
        re.fullmatch(_NAME, name) is not None and len(name) <= 60,
        f"an experiment is named by 1 to 60 letters, digits, - and _, such as larger-model, not {name!r}",
    )
    origin = _baseline(framework) if framework is not None else _source(source)
    folder = _free_folder(name)
    shutil.copytree(origin, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    try:
        if framework is not None and (n_folds := settings().get("n_folds")) is not None:
            _set(folder / "config.yaml", ["exp", "n_folds"], str(n_folds))
        _rename(folder, origin.name if framework is None else "001-baseline")
        _compose(folder.name, [])
        left_out = [checked for checked in check_experiment(folder.name) if checked.problem]
        for checked in left_out:
            (folder / "exp" / f"{checked.parameter_set}.yaml").unlink()
    except Exception as error:
        shutil.rmtree(folder)
        raise Error(f"{shown(origin)} cannot be copied: {describe(error)}") from error
    return folder, left_out


def _source(name: str | None) -> Path:
    existing = experiment_names()
    require(bool(existing), f"there is no experiment in {shown(code_root() / 'experiments')} to copy")
    return experiment_dir(full_name(name) if name else existing[-1])


def _baseline(framework: str) -> Path:
    known = sorted(folder.name for folder in BASELINES.iterdir() if folder.is_dir())
    require(framework in known, f"there is no baseline for the framework {framework!r}; there are {', '.join(known)}")
    return BASELINES / framework


def _free_folder(name: str) -> Path:
    """The folder of a new experiment, with a number and a name that no other has."""
    root = code_root() / "experiments"
    taken = listed(root)
    numbers = {int(match[1]): other for other in taken if (match := re.match(r"(\d+)-", other))}
    numbered = re.match(r"(\d+)-.", name)
    folder = root / (name if numbered else f"{max(numbers, default=0) + 1:03d}-{name}")
    same = [other for other in taken if re.sub(r"^\d+-", "", other) == re.sub(r"^\d+-", "", folder.name)]
    require(not folder.exists() and not same, f"experiments/{(same or [folder.name])[0]} is there already")
    if numbered and (other := numbers.get(int(numbered[1]))):
        raise Error(
            f"experiments/{other} has the number {numbered[1]} already; without a number, the next one is taken"
        )
    return folder


def missing_packages(framework: str) -> list[str]:
    """What pyproject.toml has to depend on, and does not, for a framework."""
    pyproject = tomllib.loads((code_root() / "pyproject.toml").read_text(encoding="utf-8"))
    present = {_package(each) for each in pyproject.get("project", {}).get("dependencies", [])}
    return [each for each in NEEDS[framework] if _package(each) not in present]


def _package(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _compose(experiment: str, overrides: list[str]) -> None:
    loaded = load_experiment(experiment)
    typed(composed(loaded, overrides), loaded, overrides)


def _rename(folder: Path, old: str) -> None:
    """Give the copy of the experiment `old` in `folder` its own `exp.name`, and its own name in the docstring."""
    _set(folder / "config.yaml", ["exp", "name"], as_yaml(re.sub(r"^\d+-", "", folder.name)))
    train = folder / "train.py"
    code = train.read_text(encoding="utf-8")
    first = ast.parse(code).body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines = code.splitlines(keepends=True)
        docstring = "".join(lines[: first.end_lineno]).replace(old, folder.name)
        train.write_text(docstring + "".join(lines[first.end_lineno :]), encoding="utf-8")


def _set(file: Path, keys: list[str], value: str) -> None:
    """Set a value, as YAML writes it, in a file that has the key; the rest, comments too, stays as it is.

    Raises:
        Error: there is no such key.
    """
    text = file.read_text(encoding="utf-8")
    node = yaml.compose(text)
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((inner for name, inner in pairs if name.value == key), None)
        if node is None:
            raise Error(f"{shown(file)} has no {'.'.join(keys)}: set it there")
    file.write_text(text[: node.start_mark.index] + value + text[node.end_mark.index :], encoding="utf-8")


def as_yaml(name: str) -> str:
    """A name as YAML has it: quoted where it may be read as something else."""
    return name if re.fullmatch(r"[A-Za-z][\w-]*", name) and yaml.safe_load(name) == name else json.dumps(name)


def new_parameter_set(experiment: str, name: str, source: str | None = None) -> Path:
    """Make `exp/<name>.yaml` of an experiment: a copy of another parameter set, or one that changes nothing yet.

    Args:
        source: the name of a file in exp/.

    Raises:
        Error: as of `free_file`; or it does not compose.
    """
    file = free_file(experiment, name)
    text = f'{schema.FIRST_LINE}# Only what differs from config.yaml.\nname: ""\n\ntrain: {{}}\n'
    if source is not None:
        text = file.with_name(f"{source}.yaml").read_text(encoding="utf-8")
    file.parent.mkdir(exist_ok=True)
    try:
        keys = yaml.safe_load(text)
        file.write_text(text if isinstance(keys, dict) and "name" in keys else f'name: ""\n{text}', encoding="utf-8")
        _set(file, ["name"], as_yaml(name))
        _compose(experiment, [f"exp={name}"])
    except Exception as error:
        file.unlink()
        raise Error(f"cannot make {shown(file)}: {describe(error)}") from error
    if schema.FIRST_LINE in text:
        schema.write(load_experiment(experiment))
    return file


def free_file(experiment: str, name: str) -> Path:
    """The file of a new parameter set, which is not there yet.

    Raises:
        Error: the name is no file's name, the file is there, another parameter set has the name, or there is no such
            experiment.
    """
    require(
        re.fullmatch(_NAME, name) is not None and len(name) <= 60 and name != DEFAULT,
        f"a parameter set is named by 1 to 60 letters, digits, - and _, such as 003, not {name!r}",
    )
    folder = experiment_dir(experiment)
    file = folder / "exp" / f"{name}.yaml"
    require(not file.exists(), f"{shown(file)} is there already")
    refuse_shared_name(folder, name, name)
    return file
