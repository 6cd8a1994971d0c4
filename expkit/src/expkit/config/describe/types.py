"""What YAML may say for a type, as a JSON schema: what OmegaConf takes, read by an editor."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from expkit.config.describe.keys import NOTHING, Described, alternatives, described, plain_type
from expkit.config.describe.source import comments

Schema = dict[str, Any]

# Texts that any type takes: an interpolation, a value that is yet to come.
TEXTS = r"\$\{|^\?\?\?$"
# OmegaConf reads YAML 1.1, and turns text into numbers; an editor reads YAML 1.2: for it, these are texts.
_INT = r"^\s*[-+]?(0b)?\d[\d_:]*\s*$"
_FLOAT = r"^\s*[-+]?\.?(\d[\d_:]*\.?[\d_]*([eE][-+]?\d+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])\s*$"
_WORDS = "|".join("".join(f"[{one}{one.upper()}]" for one in word) for word in "y n yes no on off true false".split())
_BOOL = rf"^\s*([-+]?0|\+?1)\s*$|^({_WORDS})$"

_SIMPLE: Mapping[Any, Schema] = {
    type(None): {"type": ["null"]},
    bool: {
        "type": ["boolean", "integer", "string"],
        "minimum": 0,
        "maximum": 1,
        "pattern": f"{_BOOL}|{TEXTS}",
        "errorMessage": "Not true or false.",
    },
    int: {"type": ["integer", "string"], "pattern": f"{_INT}|{TEXTS}", "errorMessage": "Not a whole number."},
    float: {"type": ["number", "string"], "pattern": f"{_FLOAT}|{TEXTS}", "errorMessage": "Not a number."},
    str: {"type": ["string", "integer"], "errorMessage": "Not a text."},
    Path: {"type": ["string", "number"], "errorMessage": "Not a path."},
}


def of_keys(keys: tuple[Described, ...], chosen: Collection[type] = ()) -> Schema:
    """A mapping with these keys, and no others.

    Args:
        chosen: classes whose keys depend on a choice: any are taken here.
    """
    properties = {key.name: _of_key(key, chosen) for key in keys}
    return {"properties": properties, "additionalProperties": False}


def of_class(keys: tuple[Described, ...], chosen: Collection[type] = ()) -> Schema:
    """What stands for a dataclass with these keys."""
    # below allOf: beside `type`, an editor that completes the name of the class would write all its defaults
    return SOME_CLASS | {"allOf": [of_keys(keys, chosen)]}


_LIST: Schema = {"type": ["array", "string"], "pattern": TEXTS, "errorMessage": "Not a list, such as [0, 1]."}
SOME_CLASS: Schema = {"type": ["object", "string"], "pattern": TEXTS, "errorMessage": "Takes keys, and no value."}


def _of_key(key: Described, chosen: Collection[type]) -> Schema:
    one = plain_type(key.type)
    if is_dataclass(one) and isinstance(one, type):
        schema = SOME_CLASS if one in chosen else of_class(key.keys, chosen)
        text = key.comment or docstring(one)
        return ({"description": text} if text else {}) | _or_null(schema, key.type)
    default = {} if key.default in (NOTHING, None) else {"default": key.default}
    text = "\n\n".join(filter(None, [key.comment, key.worded]))
    return {"description": text} | of_type(key.type) | key.bounds | default


def docstring(kind: type) -> str:
    """The first paragraph of what a dataclass, or the one that it derives from, says about itself."""
    for one in filter(is_dataclass, kind.__mro__):
        text = one.__doc__ or ""
        if not text.startswith(f"{one.__name__}("):  # which dataclass makes
            return text.partition("\n\n")[0].strip()
    return ""


def of_type(kind: Any) -> Schema:
    """What stands for a type; of one that nobody knows here, anything."""
    one = plain_type(kind)
    if one is not kind:
        return _or_null(of_type(one), kind)
    some, origin, inner = alternatives(kind), typing.get_origin(kind) or kind, typing.get_args(kind)
    if len(some) > 1:
        return {"anyOf": [{"type": "string"} if one is str else of_type(one) for one in some]}  # takes no other as text
    if is_dataclass(kind) and isinstance(kind, type):
        return of_class(described(kind))
    if origin in (list, tuple):
        return _LIST | ({"items": of_type(inner[0])} if inner else {})
    if origin is dict:
        values = {"additionalProperties": of_type(inner[1])} if inner else {}
        return SOME_CLASS | values | ({"propertyNames": _of_name(inner[0])} if inner else {})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _of_enum(kind)
    return dict(_SIMPLE.get(kind, {}))


def _of_name(kind: Any) -> Schema:
    """What a key of a dict may be called."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [*kind.__members__]}
    return {"pattern": _INT} if kind is int else {}


def _or_null(schema: Schema, kind: Any) -> Schema:
    if type(None) not in alternatives(kind):
        return schema
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return schema | ({"type": [*schema["type"], "null"]} if "type" in schema else {})


def _of_enum(kind: type[Enum]) -> Schema:
    names, texts = list(kind.__members__), comments(kind)
    choices: Schema = {"enum": names} | ({"enumDescriptions": [texts.get(one, "") for one in names]} if texts else {})
    others = "|".join(re.escape(one.value) for one in kind if isinstance(one.value, str))  # since OmegaConf 2.4
    full = rf"^({kind.__name__}\.({'|'.join(map(re.escape, names))}){others and '|' + others})$"
    found = [choices, {"type": "string", "pattern": f"{full}|{TEXTS}"}]
    numbers = [one.value for one in kind if type(one.value) is int]  # taken by value, too
    return {"anyOf": [*found, *([{"enum": numbers}] if numbers else [])]}
