"""What the YAML files of an experiment may say, as JSON schemas in its folder .schema/, for editors.

The first line of a file names its schema. Hydra decides: what it takes, a schema takes, too.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

from expkit import files
from expkit.code import SCHEMAS
from expkit.config.describe import choices
from expkit.config.describe.keys import described
from expkit.config.describe.types import Schema, of_keys
from expkit.config.load import Loaded
from expkit.config.values import Config
from expkit.errors import described as as_line
from expkit.errors import warn
from expkit.paths import code_root

CONFIG, PARAMETER_SET = "config.json", "exp.json"
_TABLES = ("properties", "definitions")
NAMED = "# yaml-language-server: $schema="
FIRST_LINE = f"{NAMED}../{SCHEMAS}/{PARAMETER_SET}\n"  # of a file in exp/


def keep(loaded: Loaded, even_if_current: bool = False) -> None:
    """As `write`, for an experiment that has schemas, or whose config.yaml names one.

    What only editors read stops no training: an error is a warning; and it takes no time where nothing has changed.
    """
    try:
        config = (loaded.folder / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):  # Hydra says so
        config = ""
    is_kept = f"{NAMED}{SCHEMAS}/" in config or (loaded.folder / SCHEMAS).is_dir()
    # a Config of another class: the command is about to say so
    if is_kept and issubclass(loaded.experiment.Config, Config) and (even_if_current or not _is_current(loaded)):
        try:
            write(loaded)
        except Exception as error:
            warn(f"cannot make the schemas of {loaded.name}, which only editors need: {as_line(error)}")


def write(loaded: Loaded) -> None:
    """Make the schemas of an experiment, and write each that differs from its file; not where nobody can write."""
    for name, content in {CONFIG: of_config(loaded), PARAMETER_SET: of_parameter_set(loaded)}.items():
        text, file = f"{_text(content)}\n", loaded.folder / SCHEMAS / name
        with suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            if not file.is_file() or file.read_bytes().replace(b"\r\n", b"\n") != text.encode():
                files.write_text(file, text)
            else:
                os.utime(file)  # it is looked at again when a source is newer


def _is_current(loaded: Loaded) -> bool:
    """Whether both files are later than config.yaml and all code of the project that this process has loaded."""
    root = str(code_root()) + os.sep
    loaded_files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    sources = [file for file in loaded_files if file.startswith(root) and "site-packages" not in file]
    try:
        made = min((loaded.folder / SCHEMAS / name).stat().st_mtime_ns for name in (CONFIG, PARAMETER_SET))
        return all(os.stat(file).st_mtime_ns < made for file in [*sources, loaded.folder / "config.yaml"])
    except OSError:
        return False


def of_config(loaded: Loaded) -> Schema:
    """The schema of config.yaml, and of a file in exp/ with the line `# @package _global_`."""
    return _of_file(loaded, is_in_exp=False)


def of_parameter_set(loaded: Loaded) -> Schema:
    """The schema of the files in exp/; what stands in them is below `exp`."""
    return _of_file(loaded, is_in_exp=True)


def _of_file(loaded: Loaded, is_in_exp: bool) -> Schema:
    keys = described(loaded.experiment.Config)
    exp = next(key.keys for key in keys if key.name == "exp")
    chosen = choices.places(loaded, exp)
    schema = of_keys(exp if is_in_exp else keys, {place.base for place in chosen})
    schema["properties"] = {"defaults": choices.of_defaults(loaded, chosen, is_in_exp), **schema["properties"]}
    if not is_in_exp:
        schema["properties"]["hydra"] = {"description": "The settings of Hydra itself.", "type": "object"}
    conditions = [
        choices.of_choice(place, choices.default_choice(loaded, place) if is_in_exp else None, is_in_exp)
        for place in chosen
    ]
    classes = {name: one for place in chosen for name, one in choices.definitions(place).items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made from train.py by expkit, and made again when its classes change: do not edit.",
        "type": ["object", "null"] if is_in_exp else "object",
        **schema,
        **({"definitions": classes, "allOf": conditions} if conditions else {}),
    }


def _text(value: Any, indent: str = "", is_table: bool = False) -> str:
    """JSON with a line for each key of the configuration: a change of one is a change of one line.

    Args:
        is_table: whether each item has a line of its own in any case.
    """
    text = json.dumps(value, ensure_ascii=False)
    if not value or (not is_table and '"properties": {' not in text):
        return text
    inner = f"{indent} "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _text(one, inner) for one in value) + f"\n{indent}]"
    lines = [f"{inner}{json.dumps(name)}: {_text(one, inner, name in _TABLES)}" for name, one in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
