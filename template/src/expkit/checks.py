"""Whether every parameter set composes, without training anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from expkit.config import compose_config, container, experiment_dir, import_train, load_config, typed
from expkit.errors import one_line
from expkit.paths import code_root


@dataclass(frozen=True)
class Checked:
    """A parameter set, and what is wrong with it.

    Attributes:
        parameter_set: the name of a file in exp/, or "default" for config.yaml alone.
        problem: one line; None when it is fine.
    """

    experiment: str
    parameter_set: str
    name: str | None
    problem: str | None


def check_all(experiments: list[str] | None = None) -> list[Checked]:
    """Compose every parameter set of the experiments (None: of all), each as the command line would.

    Raises:
        Error: there is no experiment of a name.
    """
    root = code_root() / "experiments"
    names = experiments or sorted(file.parent.name for file in root.glob("*/train.py"))
    folders = [str(experiment_dir(name)) for name in names]
    if len(folders) < 8 or sys.platform == "win32":  # a second process costs more than it saves
        return [checked for folder in folders for checked in check_experiment(folder)]
    with ProcessPoolExecutor() as pool:
        return [checked for found in pool.map(check_experiment, folders, chunksize=4) for checked in found]


def check_experiment(path: str) -> list[Checked]:
    """Compose every parameter set of one experiment; two of one name are a problem of both."""
    folder = Path(path)
    sets = ["default", *sorted(file.stem for file in folder.glob("exp/*.yaml"))]
    try:
        schema = import_train(folder).Config
        base = _base(folder, schema)
    except Exception as error:
        return [Checked(folder.name, name, None, _problem(error)) for name in sets]
    found = [_check(folder, schema, base, name) for name in sets]
    return [_with_shared_name(checked, found) for checked in found]


# Composing the configuration of Hydra itself takes longest: done once for all files that ask for the same.
_STANDARD = ["schema", "_self_", {"exp": "default"}, {"override hydra/job_logging": "none"}]
_composed: set[str] = set()


def _base(folder: Path, schema: Any) -> DictConfig | None:
    """The configuration without a parameter set; None when it has other defaults, which only Hydra understands."""
    own = container(OmegaConf.load(folder / "config.yaml"))
    if not isinstance(own, dict) or own.pop("defaults", None) != _STANDARD:
        return None
    hydra = json.dumps(own.pop("hydra", None), sort_keys=True)
    if hydra in _composed:
        return _merged(OmegaConf.structured(schema), own)
    base = compose_config(folder, schema, [])
    OmegaConf.set_struct(base, None)  # a file may add to a dict
    _composed.add(hydra)
    return base


def _check(folder: Path, schema: Any, base: DictConfig | None, parameter_set: str) -> Checked:
    try:
        file = folder / "exp" / f"{parameter_set}.yaml"
        own = OmegaConf.load(file) if parameter_set != "default" else OmegaConf.create()
        if base is not None and _is_plain(own, file):
            values = {key: value for key, value in container(own).items() if key != "defaults"}
            config = typed(_merged(base, {"exp": values}), schema)
        else:
            config = load_config(folder.name, [] if parameter_set == "default" else [f"exp={parameter_set}"])
        return Checked(folder.name, parameter_set, config.exp.name, None)
    except Exception as error:
        return Checked(folder.name, parameter_set, None, _problem(error))


def _merged(base: DictConfig, values: dict[str, Any]) -> DictConfig:
    """What Hydra does with a file that only has values."""
    merged = OmegaConf.merge(base, values)
    assert isinstance(merged, DictConfig)
    return merged


def _is_plain(own: Any, file: Path) -> bool:
    """Whether a parameter file only has values: no other files in its defaults, no package header."""
    if not isinstance(own, DictConfig):
        return False
    if list(own.get("defaults", [])) not in ([], ["_self_"], ["default@_here_"], ["default@_here_", "_self_"]):
        return False
    return not (file.is_file() and "@package" in file.read_text(encoding="utf-8"))


def _with_shared_name(checked: Checked, found: list[Checked]) -> Checked:
    same = [other.parameter_set for other in found if other.name == checked.name and other is not checked]
    if checked.problem or not same:
        return checked
    shared = f"has the name {checked.name!r} as {', '.join(same)} has: they would share one output folder"
    return Checked(checked.experiment, checked.parameter_set, checked.name, shared)


def _problem(error: Exception) -> str:
    return one_line(error) or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def problems(found: list[Checked]) -> Iterator[Checked]:
    """Those that are not fine."""
    return (checked for checked in found if checked.problem)
