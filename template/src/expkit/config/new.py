"""New experiments and new parameter sets, made from old ones."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import yaml

from expkit.config.compose import composed, typed
from expkit.config.experiment import load_experiment
from expkit.config.messages import describe
from expkit.errors import Error, require
from expkit.paths import code_root, experiment_dir, experiment_names, shown

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


def new_experiment(name: str, source: str | None = None) -> Path:
    """Copy an experiment to the next number: `larger-model` becomes `experiments/002-larger-model`.

    Its `exp.name` and the title in its docstring are set. Results are not copied, they lie in output/.

    Args:
        name: the new name, with or without a number.
        source: the experiment to copy; None: the last one.

    Raises:
        Error: the name is no folder's name or is taken, the source does not exist, or it does not compose.
    """
    require(
        re.fullmatch(_NAME, name) is not None and len(name) <= 60,
        f"{name!r} names a folder: letters, digits, - and _, at most 60, as in larger-model",
    )
    root, existing = code_root() / "experiments", experiment_names()
    require(bool(existing), f"there is no experiment in {shown(root)} to copy")
    origin = experiment_dir(source or existing[-1])
    taken = [folder.name for folder in root.iterdir()]
    numbers = [int(match[1]) for match in (re.match(r"(\d+)-", other) for other in taken) if match]
    numbered = re.fullmatch(r"\d+-.+", name) is not None
    folder = root / (name if numbered else f"{max(numbers, default=0) + 1:03d}-{name}")
    same = [other for other in taken if re.sub(r"^\d+-", "", other) == re.sub(r"^\d+-", "", folder.name)]
    require(not folder.exists() and not same, f"experiments/{(same or [folder.name])[0]} is there already")

    shutil.copytree(origin, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    try:
        _rename(folder, origin.name)
        _compose(folder.name, [])
    except Exception as error:
        shutil.rmtree(folder)
        raise Error(f"experiments/{origin.name} cannot be copied: {describe(error)}") from error
    return folder


def _compose(experiment: str, overrides: list[str]) -> None:
    loaded = load_experiment(experiment)
    typed(composed(loaded, overrides), loaded, overrides)


def _rename(folder: Path, old: str) -> None:
    """Give the copy of the experiment `old` in `folder` its own `exp.name`, and its own name in the docstring."""
    _set(folder / "config.yaml", ["exp", "name"], re.sub(r"^\d+-", "", folder.name))
    train = folder / "train.py"
    code = train.read_text(encoding="utf-8")
    first = ast.parse(code).body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines = code.splitlines(keepends=True)
        docstring = "".join(lines[: first.end_lineno]).replace(old, folder.name)
        train.write_text(docstring + "".join(lines[first.end_lineno :]), encoding="utf-8")


def _set(file: Path, keys: list[str], value: str) -> None:
    """Set a text in a YAML file that has the key; the rest, comments too, stays as it is.

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
    plain = value if re.fullmatch(r"[A-Za-z][\w-]*", value) and yaml.safe_load(value) == value else json.dumps(value)
    file.write_text(text[: node.start_mark.index] + plain + text[node.end_mark.index :], encoding="utf-8")


def new_parameter_set(experiment: str, name: str, source: str | None = None) -> Path:
    """Make `exp/<name>.yaml` of an experiment: a copy of another parameter set, or one that changes nothing yet.

    Raises:
        Error: the name is no file's name or is taken, or the experiment or the source does not exist.
    """
    require(
        re.fullmatch(_NAME, name) is not None and len(name) <= 60 and name != "default",
        f"{name!r} names a file: letters, digits, - and _, at most 60, as in 003",
    )
    folder = experiment_dir(experiment)
    file = folder / "exp" / f"{name}.yaml"
    require(not file.exists(), f"{shown(file)} is there already")
    text = '# Only what differs from config.yaml.\nname: ""\n\ntrain: {}\n'
    if source is not None:
        origin = folder / "exp" / f"{source}.yaml"
        known = ", ".join(sorted(other.stem for other in folder.glob("exp/*.yaml")))
        require(origin.is_file(), f"there is no {shown(origin)}; there are {known}")
        text = origin.read_text(encoding="utf-8")
    file.parent.mkdir(exist_ok=True)
    try:
        keys = yaml.safe_load(text)
        file.write_text(text if isinstance(keys, dict) and "name" in keys else f'name: ""\n{text}', encoding="utf-8")
        _set(file, ["name"], name)
        _compose(experiment, [f"exp={name}"])
    except Exception as error:
        file.unlink()
        raise Error(f"cannot make {shown(file)}: {describe(error)}") from error
    return file
