"""The parameter sets of an experiment, the files in its exp/, and what they are called."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from expkit.errors import Error, NotFound, require
from expkit.files import read_bytes
from expkit.paths import shown

DEFAULT = "default"  # config.yaml alone


def parameter_sets(folder: Path) -> list[str]:
    """The names of an experiment's parameter sets; "default" is config.yaml alone."""
    return [DEFAULT, *sorted(file.stem for file in folder.glob("exp/*.yaml"))]


def chosen(overrides: Sequence[str]) -> str:
    """Which parameter set a command line names."""
    names = [override.removeprefix("exp=").strip("'\"") for override in overrides if override.startswith("exp=")]
    return names[-1].removesuffix(".yaml") if names else DEFAULT


def require_files(folder: Path, overrides: Sequence[str]) -> None:
    """Raise an `Error` when what a command line composes is a folder, a pipe or a device: Hydra would wait for it."""
    for file in (_file(folder, name) for name in (DEFAULT, chosen(overrides))):
        require(not os.path.lexists(file) or os.path.isfile(file), f"{shown(file)} is not a file, or leads to none")


def name_of(folder: Path, parameter_set: str) -> str | None:
    """The `name` that the file of a parameter set gives, as it is written: 003 is no number; None: it gives none.

    Args:
        folder: of the experiment.
    """
    file = _file(folder, parameter_set)
    try:
        text = read_bytes(file).decode()
        is_whole = parameter_set == DEFAULT or re.match(r"(\s*#.*\n)*\s*#\s*@package\s+_global_", text)
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # the concern of whoever wants to run it
        return None
    for key in ["exp", "name"] if is_whole else ["name"]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return node.value if isinstance(node, yaml.ScalarNode) else None


def written_name(folder: Path, parameter_set: str, composed: str) -> str:
    """`exp.name` as it is written in YAML, where Hydra has read it as a number: `name: 003` is "003", not "3"."""
    for each in dict.fromkeys([parameter_set, DEFAULT]):
        written = name_of(folder, each)
        if written is not None:
            return written if composed in _readings(written) else composed
    return composed


def _readings(written: str) -> set[str]:
    """What a scalar of YAML may have become: OmegaConf reads more as numbers than PyYAML does, such as 1e3."""
    found = set()
    for read in (yaml.safe_load, float):
        with suppress(ValueError, yaml.YAMLError):
            found.add(str(read(written)))
    return found


def refuse_shared_name(folder: Path, parameter_set: str | None, name: str) -> None:
    """Two parameter sets with one name would share a folder of results.

    Args:
        folder: of the experiment.
        parameter_set: whose name it is; None: nobody knows, and it may be that of one.
        name: `exp.name` of the configuration.

    Raises:
        Error: another parameter set has this name.
    """
    for other in parameter_sets(folder):
        file = _file(folder, other)
        try:
            may_be = other != parameter_set and name in read_bytes(file).decode()  # most need no parser
        except (OSError, ValueError):
            continue
        if not may_be or name_of(folder, other) != name:
            continue
        if parameter_set is None:
            parameter_set = other
        else:
            if parameter_set.removesuffix(".yaml") == other:
                raise NotFound(f"exp={parameter_set}: without .yaml, exp={other}")
            mine = _file(folder, parameter_set)
            raise Error(
                f"{shown(file)} has the name {name!r} too, and would share the output folder with {shown(mine)}: "
                "give one of them another name"
            )


def _file(folder: Path, parameter_set: str) -> Path:
    return folder / ("config.yaml" if parameter_set == DEFAULT else f"exp/{parameter_set}.yaml")
