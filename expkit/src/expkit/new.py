"""New experiments and parameter sets, from old ones and from runs; and whether every parameter set composes."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from expkit import files, schema
from expkit.compose import composed, composer, describe, typed
from expkit.config import (
    DEFAULT,
    ITEMS,
    Loaded,
    alike,
    container,
    defaults_of,
    differences,
    flat,
    is_compared,
    load_experiment,
    parameter_sets,
    recorded,
    refuse_shared_name,
    restored,
    same,
)
from expkit.errors import Error, require, strip_control
from expkit.files import listed
from expkit.project import code_root, display_path, experiment_dir, experiment_names, full_name, settings
from expkit.store import Run

# Checking


@dataclass(frozen=True)
class Checked:
    """A parameter set, and what is wrong with it.

    Attributes:
        parameter_set: the name of a file in exp/, or "default" for config.yaml alone.
        problem: one line; None when it is fine.
        same_as: another parameter set, or a run "<experiment>/<run>" that is trained, with the same configuration.
    """

    experiment: str
    parameter_set: str
    name: str | None
    problem: str | None
    same_as: str | None = None


def check_all(experiments: list[str] | None = None) -> list[Checked]:
    """Compose every parameter set of the experiments (None: of all), each as the command line would.

    Raises:
        Error: there is no experiment of a name.
    """
    names = experiments or experiment_names()
    for name in names:
        experiment_dir(name)
    if len(names) < 8 or sys.platform == "win32":  # a second process costs more than it saves
        return [checked for name in names for checked in check_experiment(name)]
    with ProcessPoolExecutor() as pool:
        return [checked for found in pool.map(check_experiment, names, chunksize=4) for checked in found]


def check_experiment(name: str) -> list[Checked]:
    """Compose every parameter set of one experiment; two of one name are a problem of both.

    What editors know of its configuration, its schemas, is made again where its classes have changed.
    """
    sets, known = parameter_sets(experiment_dir(name)), recorded(name)
    found = []
    try:
        loaded = load_experiment(name)
        schema.keep(loaded, even_if_current=True)
        with composer(loaded) as compose:
            for each in sets:
                try:
                    overrides = [] if each == DEFAULT else [f"exp={each}"]
                    config = typed(compose(overrides), loaded, overrides)
                    refuse_shared_name(loaded.folder, each, config.exp.name)
                    choices, own = loaded.experiment.choices(config), f"{name}/{config.exp.name}"
                    others = {title: one for title, one in known.items() if title != own}
                    found.append(Checked(name, each, config.exp.name, None, alike(others, config, choices)))
                    known[each] = container(config) | ({"choices": choices} if choices else {})
                except Exception as error:
                    found.append(Checked(name, each, None, describe(error, loaded.experiment.groups)))
    except Exception as error:  # train.py itself
        return [Checked(name, each, None, describe(error)) for each in sets]
    return found


# Making

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


BASELINES = Path(__file__).parent / "baselines"  # a folder for each framework
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
        raise Error(f"{display_path(origin)} cannot be copied: {describe(error)}") from error
    return folder, left_out


def _source(name: str | None) -> Path:
    existing = experiment_names()
    require(bool(existing), f"there is no experiment in {display_path(code_root() / 'experiments')} to copy")
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
            raise Error(f"{display_path(file)} has no {'.'.join(keys)}: set it there")
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
        raise Error(f"cannot make {display_path(file)}: {describe(error)}") from error
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
    require(not file.exists(), f"{display_path(file)} is there already")
    refuse_shared_name(folder, name, name)
    return file


# From a run


def parameter_set_from_run(experiment: str, name: str, run: Run) -> Path:
    """Write `exp/<name>.yaml` of an experiment: with it, the experiment has the configuration of a run.

    Args:
        run: of this experiment, or of another one whose keys this one has, too.

    Raises:
        Error: as of `free_file`; the run has no configuration, or one that this experiment, or a parameter set, cannot
            have. Nothing is left then.
    """
    require(run.recipe is None, f"{run.title} is a blend, which has no parameters: name one of its runs")
    values = run.info["config"] if run.info else {}
    if not isinstance(values.get("exp"), dict):
        raise Error(f"the configuration of {run.title} is not known: {', '.join(run.problems) or 'no run.json'}")
    file, loaded = free_file(experiment, name), load_experiment(experiment)
    default = composed(loaded, [])
    groups, unknown = _other_groups(loaded, values.get("choices", {}), default)
    if groups:
        default = composed(loaded, [f"{group}@exp.{key}={choice}" for key, (group, choice) in groups.items()])
    recorded = values["exp"]
    unknown += [key for key in _unknown(recorded, default.exp, "exp") if is_compared(key)]
    require(not unknown, f"{experiment} has no {', '.join(unknown)}, which {run.title} has")
    try:
        exp = typed(default, loaded, ()).exp
        base, recorded = container(exp), _with_defaults(recorded, exp)
    except Error:  # a value that config.yaml leaves to the parameter sets
        base = container(OmegaConf.to_container(default.exp, resolve=True))
    changed = {key: value for key, value in _changed(recorded, base).items() if is_compared(f"exp.{key}")}
    file.parent.mkdir(exist_ok=True)
    try:
        files.write_text(file, _text(name, run, groups, changed))
        made = typed(composed(loaded, [f"exp={name}"]), loaded, [f"exp={name}"])
        lines = differences(values, made, loaded.experiment.choices(made))
        known = flat({"exp": _with_defaults(values["exp"], made.exp)})
        extra = {key: value for key, value in flat(made).items() if is_compared(key) and key not in known}
        lines += [f"{key}: (not set) → {value}" for key, value in extra.items()]
        require(not lines, f"it would differ from {run.title}: {'; '.join(map(strip_control, lines[:5]))}")
    except BaseException as error:
        file.unlink(missing_ok=True)
        if not isinstance(error, Exception):
            raise
        raise Error(f"cannot make {display_path(file)}: {describe(error)}") from error
    schema.write(loaded)
    return file


def _other_groups(
    loaded: Loaded, choices: Mapping[str, str], default: DictConfig
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The chosen classes that are not those of config.yaml: key to group and name; and those that nobody knows."""
    found, unknown = {}, []
    for key, choice in choices.items():
        groups = {group: classes[choice] for group, classes in loaded.experiment.groups.items() if choice in classes}
        own = key.rpartition(".")[2]
        group = own if own in groups else next(iter(groups), None)
        if group is None:
            unknown.append(f"{key}={choice}")
        elif OmegaConf.get_type(OmegaConf.select(default, f"exp.{key}")) is not groups[group]:
            found[key] = (group, choice)
    return found, unknown


def _unknown(values: Any, config: Any, key: str) -> list[str]:
    """The recorded keys for which the dataclasses have no field."""
    schema = OmegaConf.get_type(config) if isinstance(config, DictConfig) else None
    if not isinstance(values, dict) or not is_dataclass(schema):
        return []
    known = {item.name for item in fields(schema)}
    found = [f"{key}.{name}" for name in values if name not in known]
    inner = {name: value for name, value in values.items() if isinstance(value, dict) and name in known}
    return found + [one for name in inner for one in _unknown(inner[name], config.get(name), f"{key}.{name}")]


def _with_defaults(values: dict[str, Any], config: Any) -> dict[str, Any]:
    """The recorded values of a dataclass, with the default of each field that they lack: what the code did then."""
    filled = {key: value for key, value in defaults_of(config).items() if key not in values}
    for name, value in values.items():
        inner = getattr(config, name, None)
        filled[name] = _with_defaults(value, inner) if is_dataclass(inner) and isinstance(value, dict) else value
    return filled


def _changed(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The values that `base` has not."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        other = base.get(name)
        if isinstance(value, dict) and isinstance(other, dict) and ITEMS not in {*value, *other}:
            if inner := _changed(value, other):
                found[name] = inner
        elif name not in base or not same(value, other):
            found[name] = value
    return found


def _text(name: str, run: Run, groups: Mapping[str, tuple[str, str]], values: dict[str, Any]) -> str:
    """The file, as one that a person has written."""
    score = run.score_of()
    scored = f": {run.metric} {score.value:.6g}, {len(run.done)} of {run.n_folds} folds" if score else ""
    lines = [
        schema.FIRST_LINE.strip(),
        f"# From {strip_control(run.title + scored)}. Only what differs from config.yaml.",
    ]
    if groups:
        places = {key: group if key == group else f"{group}@{key}" for key, (group, _) in groups.items()}
        lines += ["defaults:", *(f"- override /{places[key]}: {choice}" for key, (_, choice) in groups.items()), ""]
    lines.append(f"name: {as_yaml(name)}")
    simple = {key: value for key, value in values.items() if not isinstance(value, dict)}
    parts = [simple, *({key: value} for key, value in values.items() if key not in simple)]
    return "\n".join(lines) + "\n" + "".join(f"\n{OmegaConf.to_yaml(restored(part))}" for part in parts if part)
