"""The types of an experiment's keys: their bounds, for editors as JSON schemas, for `train.py --help` as text.

Hydra decides: what it takes, a schema takes, too. The first line of a YAML file names its schema, in .schema/.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import operator
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, astuple, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple

import yaml
from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, MultipleOf
from omegaconf import DictConfig, OmegaConf

from expkit import code, config, files
from expkit.config import Groups, Loaded
from expkit.errors import Error, described, new_console, plain_table, require, warn

Schema = dict[str, Any]
OPEN = "???"  # the default of a field that has none, as OmegaConf writes it
CONFIG, PARAMETER_SET = "config.json", "exp.json"
NAMED = "# yaml-language-server: $schema="
FIRST_LINE = f"{NAMED}../{code.SCHEMAS}/{PARAMETER_SET}\n"  # of a file in exp/

# Bounds: `Annotated[float, Gt(0)]`


class Bound(NamedTuple):
    """What a number must be: in words, as a function of it and `limit`, and as a JSON schema has it."""

    words: str
    holds: Callable[[Any, Any], bool]
    keyword: str
    limit: Any = None


_BOUNDS: dict[type, Bound] = {
    Ge: Bound("at least", operator.ge, "minimum"),
    Gt: Bound("above", operator.gt, "exclusiveMinimum"),
    Le: Bound("at most", operator.le, "maximum"),
    Lt: Bound("below", operator.lt, "exclusiveMaximum"),
    MultipleOf: Bound("a multiple of", lambda value, step: value % step == 0, "multipleOf"),
}


def bounds(kind: Any) -> list[Bound]:
    """The bounds of an annotated type.

    Raises:
        Error: one of `annotated_types` that nobody checks here.
    """
    found = []
    for each in getattr(kind, "__metadata__", ()):
        for one in each if isinstance(each, GroupedMetadata) else [each]:
            if type(one) in _BOUNDS:
                found.append(_BOUNDS[type(one)]._replace(limit=astuple(one)[0]))  # type: ignore[arg-type]
            elif isinstance(one, BaseMetadata):
                raise Error(f"{one} is not checked: Ge, Gt, Le, Lt, Interval and MultipleOf are, else __post_init__")
    return found


def in_words(found: Sequence[Bound]) -> str:
    """Bounds as a person reads them: "at least 0 and below 1"."""
    return " and ".join(f"{bound.words} {bound.limit}" for bound in found)


@functools.cache
def hints(cls: Any) -> dict[str, Any]:
    """The fields of a dataclass, with their types and what these are annotated with, also in a class above it.

    `seed: int = 7` in the class of an experiment gives `seed` another default, and keeps the bound that expkit has.
    """
    known = typing.get_type_hints(cls, include_extras=True)
    for above in cls.__mro__[1:-1]:
        for name, kind in typing.get_type_hints(above, include_extras=True).items():
            if typing.get_origin(kind) is Annotated and known[name] is plain_type(kind):
                known[name] = kind
    return {item.name: known[item.name] for item in fields(cls)}


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, UnionType) else (kind,)


def plain_type(kind: Any) -> Any:
    """A type without `| None`, and without what it is annotated with."""
    some = [one for one in alternatives(kind) if one is not NoneType]
    kind = some[0] if len(some) == 1 else kind
    return plain_type(kind.__origin__) if typing.get_origin(kind) is Annotated else kind


def check_bounds(value: Any, kind: Any, key: str, type_of: Callable[[Any], Any] = type) -> None:
    """Check the numbers in a configuration, at any depth, against the bounds of their types.

    Args:
        value: what stands at the key.
        kind: its type, with annotations.
        key: "exp.train.epoch"; "": the whole configuration.
        type_of: the class of a value; `OmegaConf.get_type` for OmegaConf's containers.

    Raises:
        Error: a number is out of its bounds, or is nan.
    """
    inner = [*typing.get_args(plain_type(kind)), Any, Any]
    if isinstance(value, int | float):
        for limits in map(bounds, alternatives(kind)):
            is_within = all(bound.holds(value, bound.limit) for bound in limits)
            require(is_within, f"{key} must be {in_words(limits)}, not {value}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, one in enumerate(value):
            check_bounds(one, inner[0], f"{key}[{index}]", type_of)
    elif is_dataclass(value) or (isinstance(value, Mapping) and is_dataclass(type_of(value))):
        for name, one in hints(type_of(value)).items():
            check_bounds(getattr(value, name), one, f"{key}.{name}" if key else name, type_of)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            require(isinstance(name, str | Enum), f"{key}: the keys of a dict must be text, in quotes, not {name!r}")
            check_bounds(one, inner[1], f"{key}.{name}", type_of)


# Files


def keep(loaded: Loaded, even_if_current: bool = False) -> None:
    """As `write`, for an experiment that has schemas, or whose config.yaml names one.

    What only editors read stops no training: an error is a warning; and it takes no time where nothing has changed.
    """
    is_named = f"{NAMED}{code.SCHEMAS}/" in files.text_of(loaded.folder / "config.yaml")
    is_kept = is_named or (loaded.folder / code.SCHEMAS).is_dir()
    if is_kept and (even_if_current or not _is_current(loaded)):
        try:
            write(loaded)
        except Exception as error:
            warn(f"cannot make the schemas of {loaded.name}, which only editors need: {described(error)}")


def write(loaded: Loaded) -> None:
    """Make the schemas of an experiment; not where nobody can write."""
    for name in (CONFIG, PARAMETER_SET):
        text = json.dumps(of_file(loaded, name), indent=1, ensure_ascii=False) + "\n"
        file = loaded.folder / code.SCHEMAS / name
        with suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            files.write_text(file, text)


def _is_current(loaded: Loaded) -> bool:
    """Whether both files are later than all code of the project that this process has loaded."""
    try:
        made = min((loaded.folder / code.SCHEMAS / name).stat().st_mtime_ns for name in (CONFIG, PARAMETER_SET))
        return all(os.stat(file).st_mtime_ns < made for _, file in code.own_modules())
    except OSError:
        return False


def of_file(loaded: Loaded, name: str) -> Schema:
    """The schema of config.yaml (`CONFIG`), or of the files in exp/ (`PARAMETER_SET`), which are what is below `exp`.

    A file in exp/ with the line `# @package _global_` is like config.yaml.
    """
    is_in_exp = name == PARAMETER_SET
    root = loaded.experiment.Config
    schema = of_class(hints(root)["exp"] if is_in_exp else root, loaded.experiment.groups)
    hydra = {"hydra": {"description": "The settings of Hydra itself.", "type": "object"}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made from train.py by expkit, and made again when its classes change: do not edit.",
        **schema,
        "type": ["object", "null"] if is_in_exp else "object",
        "properties": {"defaults": _DEFAULTS, **schema["properties"], **({} if is_in_exp else hydra)},
    }


# Types: what YAML may say, which is what OmegaConf takes, read by an editor

# Texts that any type takes: an interpolation, a value that is yet to come.
TEXTS = r"\$\{|^\?\?\?$"
# OmegaConf reads YAML 1.1, and turns text into numbers; an editor reads YAML 1.2: for it, 1_000 and yes are texts.
_NUMBER = r"^\s*[-+]?\.?(\d|[iI]nf|[nN]a[nN])"
_BOOL = r"^([yYnN]|[yY]es|YES|[nN]o|NO|[oO]n|ON|[oO]ff|OFF|[tT]rue|TRUE|[fF]alse|FALSE|0|1)$"


def _simple(types: list[str], pattern: str, message: str) -> Schema:
    return {"type": types, "pattern": f"{pattern}|{TEXTS}" if pattern else TEXTS, "errorMessage": message}


_SIMPLE: Mapping[Any, Schema] = {
    NoneType: {"type": "null"},
    bool: {"minimum": 0, "maximum": 1, **_simple(["boolean", "integer", "string"], _BOOL, "Not true or false.")},
    int: _simple(["integer", "string"], _NUMBER, "Not a whole number."),
    float: _simple(["number", "string"], _NUMBER, "Not a number."),
    str: {"type": ["string", "integer"], "errorMessage": "Not a text."},
    Path: {"type": ["string", "number"], "errorMessage": "Not a path."},
    list: _simple(["array", "string"], "", "Not a list, such as [0, 1]."),
    dict: _simple(["object", "string"], "", "Takes keys, and no value."),
}
# A defaults list: a number names no file.
_DEFAULTS: Schema = {
    "description": "What this file builds on; _self_ is the file itself. Later entries override earlier ones.",
    "type": "array",
    "items": {"type": ["object", "string"], "additionalProperties": {"type": ["string", "null", "array"]}},
}


def of_class(cls: type, groups: Groups | None = None) -> Schema:
    """A mapping with the keys of a dataclass, and no others.

    Args:
        groups: as of `Experiment`: where a class is chosen, the keys of each are taken.
    """
    texts, properties = comments(cls), {}
    for item in fields(cls):
        kind, text = hints(cls)[item.name], texts.get(item.name, "")
        default, one = config.default_of(item), plain_type(kind)
        if _is_class(one):
            own = type(default) if isinstance(default, one) else one
            classes = [each for each in (groups or {}).get(item.name, {}).values() if issubclass(each, one)] or [own]
            schema = of_type(kind, [of_class(each, groups) for each in classes])
        else:
            text, schema = "\n\n".join(filter(None, [text, type_in_words(kind)])), of_type(kind)
            if default not in (MISSING, OPEN, None):
                schema["default"] = default if isinstance(default, str) else config.container(default)
        properties[item.name] = ({"description": text} if text else {}) | schema
    return {"properties": properties, "additionalProperties": False}


def of_type(kind: Any, classes: list[Schema] | None = None) -> Schema:
    """What stands for a type; of one that nobody knows here, anything.

    Args:
        classes: what a dataclass in it may be; None: itself.
    """
    some, origin, inner = alternatives(kind), typing.get_origin(kind) or kind, typing.get_args(kind)
    if len(some) > 1:
        return {"anyOf": [of_type(one, classes) for one in some]}
    if origin is Annotated:
        return of_type(inner[0]) | {one.keyword: one.limit for one in bounds(kind) if math.isfinite(one.limit)}
    if _is_class(kind):
        # below anyOf: beside `type`, an editor that completes the name of the class would write all its defaults
        return _SIMPLE[dict] | {"anyOf": classes or [of_class(kind)]}
    if origin in (list, tuple):
        return _SIMPLE[list] | ({"items": of_type(inner[0])} if inner else {})
    if origin is dict:
        return _SIMPLE[dict] | ({"additionalProperties": of_type(inner[1])} if inner else {})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"anyOf": [{"enum": list(kind.__members__)}, {"type": "string", "pattern": TEXTS}]}
    return dict(_SIMPLE.get(kind, {}))


def type_in_words(kind: Any) -> str:
    """A type as a person at a terminal reads it: `int, at least 1`, `small | large`, `list[int] or null`."""
    some, origin, inner = alternatives(kind), typing.get_origin(kind), typing.get_args(kind)
    if len(some) > 1:
        return " or ".join(map(type_in_words, some))
    if origin is Annotated:
        return ", ".join(filter(None, [type_in_words(inner[0]), in_words(bounds(kind))]))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(kind.__members__)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(type_in_words, inner))}]"
    return {Any: "anything", str: "text", NoneType: "null"}.get(kind) or getattr(kind, "__name__", str(kind)).lower()


def _is_class(kind: Any) -> bool:
    return is_dataclass(kind)


# Comments in the source: at the end of a field, but for those that tools read
_COMMENT = re.compile(r"^    (\w+) *[:=].*?  # (?!noqa|type:|pyright:|mypy:|fmt:|pragma:)(.+)$", re.MULTILINE)


@functools.cache
def comments(cls: type) -> dict[str, str]:
    """What the source says about each field of a dataclass, inherited ones too."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__[:-1]):
        with suppress(OSError, TypeError):  # it has no source
            found |= dict(_COMMENT.findall(inspect.getsource(one)))
    return found


# --help

_FLAGS = {
    "-m": "several values of a key, each with each of another: -m exp=001,002 exp.seed=1,2",
    "--hydra-help": "the other flags, which are Hydra's",
}


def print_manual(loaded: Loaded, composed: DictConfig) -> None:
    """Print what `--help` says: how it is called, and every key with its value, type and comment.

    Args:
        composed: the configuration of this command.
    """
    about = (code.load_module(loaded.name).__doc__ or loaded.name).strip()
    sets = config.parameter_sets(loaded.folder)[1:]
    some = sets if len(sets) <= 20 else [*sets[:3], "...", sets[-1]]
    rows = [("exp=NAME", f"a parameter set, a file in exp/: {', '.join(some)}")] if sets else []
    print(f"{about}\n\nKEY=VALUE sets a key. Their values now, from train.py, config.yaml and this command:\n")
    rows += [*_rows(composed, "", loaded.experiment.groups), ("", ""), *_FLAGS.items()]
    new_console().print(plain_table(["key", "meaning"], rows))


def _rows(composed: DictConfig, above: str, groups: Groups) -> Iterator[tuple[str, str]]:
    """Each key below a part of a configuration, and what it is."""
    cls: Any = OmegaConf.get_type(composed)
    plain, texts = OmegaConf.to_container(composed, resolve=False, enum_to_str=True), comments(cls)
    assert isinstance(plain, dict)
    for name, kind in hints(cls).items():
        key, value = f"{above}{name}", plain[name]
        inner = composed[name] if isinstance(value, dict) else None
        if above == "exp." and name in groups:
            now = [each for each, one in groups[name].items() if one is OmegaConf.get_type(inner)] or ["???"]
            yield f"{name}={now[0]}", f"{' | '.join(groups[name])}: which class {key} has"
        if inner is not None and is_dataclass(OmegaConf.get_type(inner)):
            yield from _rows(inner, f"{key}.", groups)
        else:
            yield f"{key}={_flow(value)}", ": ".join(filter(None, [type_in_words(kind), texts.get(name)]))


def _flow(value: Any) -> str:
    """A value on one line, as YAML and the command line have it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
