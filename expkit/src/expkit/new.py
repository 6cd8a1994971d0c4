"""New experiments and parameter sets, from old ones and from runs; and whether every parameter set composes."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from packaging.requirements import Requirement

from expkit import config, files, schema
from expkit.compose import as_error, composed, composer, load_config, recorded_choices, typed
from expkit.config import DEFAULT, container, load_experiment, parameter_sets, refuse_shared_name
from expkit.errors import Error, described, require, strip_control, warn
from expkit.project import code_root, display_path, experiment_dir, reserve, settings
from expkit.store import Run

BASELINES = Path(__file__).parent / "baselines"  # a folder for each framework
# What a framework needs beside what every project depends on, as in pyproject.toml.
NEEDS = {
    "sklearn": [],
    "torch": ["torch>=2.6"],
    "lightgbm": ["lightgbm>=4.6", "matplotlib>=3.10.5", "palmerpenguins>=0.1.6", "pandas>=2.3.3"],
}

# Whether every parameter set composes


@dataclass(frozen=True)
class Checked:
    """A parameter set, and what is wrong with it.

    Attributes:
        parameter_set: the name of a file in exp/, or "default" for config.yaml alone.
        name: the `exp.name` that it gives.
        problem: one line; None when it is fine.
        same_as: an earlier parameter set of the experiment with the same configuration.
    """

    experiment: str
    parameter_set: str
    name: str | None = None
    problem: str | None = None
    same_as: str | None = None


def check_experiment(name: str) -> list[Checked]:
    """Compose every parameter set of one experiment; two of one name are a problem of both.

    What editors know of its configuration, its schemas, is made again where its classes have changed.
    """
    sets, found = parameter_sets(experiment_dir(name)), []
    known: dict[str, str] = {}  # the first parameter set of each configuration
    try:
        loaded = load_experiment(name)
        schema.keep(loaded, even_if_current=True)
        with composer(loaded) as compose:
            for each in sets:
                try:
                    made = typed(compose([] if each == DEFAULT else [f"exp={each}"]), loaded)
                    refuse_shared_name(loaded.folder, each, made.exp.name)
                except Exception as error:
                    found.append(Checked(name, each, problem=described(as_error(error, loaded.experiment.groups))))
                    continue
                first = known.setdefault(json.dumps(config.compared(loaded.experiment.values(made))), each)
                found.append(Checked(name, each, made.exp.name, same_as=None if first == each else first))
    except Exception as error:  # train.py itself
        return [Checked(name, each, problem=described(as_error(error))) for each in sets]
    return found


# New experiments


def new_experiment(
    name: str, source: str | None = None, framework: str | None = None, start: Run | None = None
) -> Path:
    """Copy an experiment to the next number: `larger-model` becomes `experiments/002-larger-model`.

    Its `exp.name` and the title in its docstring are set. Results are not copied, they lie in output/.

    Args:
        name: the new name, with or without a number.
        source: the experiment to copy.
        framework: copy the baseline of this framework instead.
        start: a run of the experiment, whose values are the only parameter set; None: all of them are copied.

    Returns:
        the folder. A parameter set that does not compose is copied as it is: `exp check` names it.

    Raises:
        Error: the name is no folder's name or is taken, the source does not exist, or it does not compose; or the copy
            cannot have the configuration of `start`.
    """
    _require_name(name, "an experiment is named by", "larger-model")
    origin = experiment_dir(source or "") if framework is None else BASELINES / framework
    folder = _free_folder(name)
    shutil.copytree(origin, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    try:
        if framework is not None and (n_folds := settings().get("n_folds")) is not None:
            _set(folder / "config.yaml", ["exp", "n_folds"], str(n_folds))
        _set(folder / "config.yaml", ["exp", "name"], json.dumps(re.sub(r"^\d+-", "", folder.name)))
        _rename(folder / "train.py", origin.name if framework is None else "001-baseline")
        load_config(folder.name)
        schema.keep(load_experiment(folder.name))
        if start:
            _keep_only(folder, start)
    except Exception as error:
        shutil.rmtree(folder)
        raise Error(f"{display_path(origin)} cannot be copied: {described(as_error(error))}") from error
    return folder


def _keep_only(folder: Path, run: Run) -> None:
    """Leave an experiment the parameter set of a run alone, written now where it is missing."""
    named = run.info.get("set") if run.info else None
    for each in {*parameter_sets(folder)} - {DEFAULT, named}:
        config.file_of(folder, each).unlink()
    if not (named and (file := config.file_of(folder, named)).is_file()):
        parameter_set_from_run(folder.name, named or "001", run)
        return
    files.write_text(file, _with_id(file.read_text(encoding="utf-8"), run.title))


def _require_name(name: str, text: str, example: str) -> None:
    is_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", name) is not None and name != DEFAULT
    require(is_name, f"{text} 1 to 60 letters, digits, - and _, such as {example}, not {name!r}")


def _free_folder(name: str) -> Path:
    """The folder of a new experiment, with a number that no other has."""
    folders = ("notes", "experiments")  # notes on one that is deleted would be taken for those of the new one
    taken = [f"{folder}/{other}" for folder in folders for other in files.listed(code_root() / folder)]
    numbers = {int(match[1]): other for other in taken if (match := re.match(r"\w+/(\d+)-", other))}
    numbered = re.match(r"(\d+)-.", name)
    number = int(numbered[1]) if numbered else max(numbers, default=0) + 1
    require(number not in numbers, f"{numbers.get(number)} has the number {number} already")
    while (other := reserve("experiments", f"{number:03d}")) is not None:
        require(not numbered, f"{name}: the worktree {other} has taken the number {number}: give another one")
        number += 1
    return code_root() / "experiments" / (name if numbered else f"{number:03d}-{name}")


def missing_packages(framework: str) -> list[str]:
    """What pyproject.toml has to depend on, and does not, for a framework."""
    pyproject = tomllib.loads((code_root() / "pyproject.toml").read_text(encoding="utf-8"))
    present = {Requirement(each).name.lower() for each in pyproject.get("project", {}).get("dependencies", [])}
    return [each for each in NEEDS[framework] if Requirement(each).name not in present]


def _rename(train: Path, old: str) -> None:
    """Put the name of its folder in the place of the experiment `old` in the docstring of a train.py."""
    before, quotes, text = train.read_text(encoding="utf-8").partition('"""')
    docstring, end, rest = text.partition('"""')
    train.write_text(before + quotes + docstring.replace(old, train.parent.name) + end + rest, encoding="utf-8")


def _set(file: Path, keys: list[str], value: str) -> None:
    """Set a value, as YAML writes it, in a file that has the key; the rest, comments too, stays as it is.

    Raises:
        Error: there is no such key.
    """
    text = file.read_text(encoding="utf-8")
    node = config.node_at(text, keys)
    if node is None:
        raise Error(f"{display_path(file)} has no {'.'.join(keys)}: set it there")
    file.write_text(text[: node.start_mark.index] + value + text[node.end_mark.index :], encoding="utf-8")


# New parameter sets

_HEAD = f"{schema.FIRST_LINE}# Only what differs from config.yaml.\n"


def new_parameter_set(experiment: str, name: str, source: str | None = None) -> Path:
    """Make `exp/<name>.yaml` of an experiment: a copy of another parameter set, or one that changes nothing yet.

    Args:
        source: the name of a file in exp/.

    Raises:
        Error: as of `_new_file`; or it does not compose.
    """
    text = f'{_HEAD}name: ""\n'
    origin = f"{experiment}/{source or 'config.yaml'}"
    with _new_file(experiment, name) as file:
        if source is not None:
            text = file.with_name(f"{source}.yaml").read_text(encoding="utf-8")
        file.write_text(_with_id(text, origin), encoding="utf-8")
        _set(file, ["name"], json.dumps(name))
        load_config(experiment, [f"exp={name}"])
    return file


def copy_from_worktree(experiment: str, name: str) -> None:
    """Bring a parameter set here that another worktree of git has made; none, where the file is here or nowhere."""
    file = config.file_of(experiment_dir(experiment), name)
    if not file.exists() and (other := reserve(experiment, name)):
        theirs = other / file.relative_to(code_root())
        if theirs.is_file():
            file.parent.mkdir(exist_ok=True)
            shutil.copy(theirs, file)
            later = "do not commit it here, and remove it before you merge that branch, else git refuses"
            warn(f"{display_path(file)} is copied from the worktree {other}: {later}")


@contextmanager
def _new_file(experiment: str, name: str) -> Iterator[Path]:
    """The file of a new parameter set, which is not there yet; nothing is left where the block fails.

    Raises:
        Error: the name is no file's name, the file is there, another parameter set has the name, or there is no such
            experiment; or the block has failed.
    """
    _require_name(name, "a parameter set is named by", "003")
    folder = experiment_dir(experiment)
    file = folder / "exp" / f"{name}.yaml"
    refuse_shared_name(folder, name, name)
    if other := reserve(experiment, name):
        raise Error(f"{experiment}/{name}: the worktree {other} has taken this name: give another one")
    file.parent.mkdir(exist_ok=True)
    require(not file.exists(), f"{display_path(file)} is there already")
    file.touch(exist_ok=False)  # nobody else can have it from now on
    try:
        yield file
        if schema.FIRST_LINE in file.read_text(encoding="utf-8"):
            schema.write(load_experiment(experiment))
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, Exception):
            raise Error(f"cannot make {display_path(file)}: {described(as_error(error))}") from error
        raise


def parameter_set_from_run(experiment: str, name: str, run: Run, values: Mapping[str, Any] | None = None) -> Path:
    """Write `exp/<name>.yaml` of an experiment: with it, the experiment has the configuration of a run.

    Args:
        run: of this experiment, or of another one whose keys this one has, too.
        values: the configuration to write in place of that of the run, {"exp": {...}, "choices": {...}}.

    Raises:
        Error: as of `_new_file`; the run has no configuration, or one that this experiment, or a parameter set, cannot
            have. Nothing is left then.
    """
    recorded = recorded_values(run) if values is None else values
    with _new_file(experiment, name) as file:
        loaded = load_experiment(experiment)
        chosen = recorded_choices(loaded, recorded)
        require("defaults" not in recorded["exp"], f"{run.title} sets exp.defaults, which is no key")  # Hydra reads it
        default = composed(loaded, [f"{group}={choice}" for group, choice in chosen.items()])
        try:
            base = container(typed(default, loaded).exp)
        except Error:  # a value that config.yaml leaves to the parameter sets
            base = container(OmegaConf.to_container(default.exp, resolve=True))
        changed = _changed(recorded["exp"], base)
        changed = {key: value for key, value in changed.items() if config.is_compared(f"exp.{key}")}
        chooses = [f"- override /{group}: {choice}\n" for group, choice in chosen.items()]
        defaults = f"defaults:\n{''.join(chooses)}\n" if chooses else ""
        text = f"{_HEAD}{defaults}{OmegaConf.to_yaml({'name': name, **changed})}"
        files.write_text(file, _with_id(text, run.title))
        made = load_config(experiment, [f"exp={name}"])
        lines = config.differences(recorded, made, loaded.experiment)
        require(not lines, f"it would differ from {run.title}: {'; '.join(map(strip_control, lines[:5]))}")
    return file


def recorded_values(run: Run) -> Mapping[str, Any]:
    """The configuration of a run, {"exp": {...}, "choices": {...}}; "choices" where it has some.

    Raises:
        Error: it has none, or nobody knows it.
    """
    require(run.recipe is None, f"{run.title} is a blend, which has no parameters: name one of its runs")
    recorded = run.info["config"] if run.info else {}
    if not isinstance(recorded.get("exp"), dict):
        raise Error(f"the configuration of {run.title} is not known: {', '.join(run.problems) or 'no run.json'}")
    return recorded


def _changed(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The values that `base` has not."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        other = base.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            if inner := _changed(value, other):
                found[name] = inner
        elif name not in base or not config.same(value, other):
            found[name] = value
    return found


def _with_id(text: str, origin: str) -> str:
    """The text of a new parameter set with where it comes from, and the id by which its notes find it."""
    first = schema.FIRST_LINE if text.startswith(schema.FIRST_LINE) else ""
    line = f"# From {strip_control(origin)}. Notes follow this file by the id {secrets.token_hex(4)}.\n"
    return first + line + config.ID.sub("", text.removeprefix(first))
