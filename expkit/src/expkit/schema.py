"""The keys of an experiment, described from its classes: to editors as JSON schemas, to `train.py --help` as text.

Hydra decides: what it takes, a schema takes, too. The first line of a YAML file names its schema, in .schema/.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import math
import os
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from expkit import code, files
from expkit.code import SCHEMAS, SOURCES
from expkit.config import Config, Loaded, container, parameter_sets
from expkit.errors import described as as_line
from expkit.errors import warn
from expkit.project import code_root

# Comments

# Notes for tools, in comments.
_TOOLS = re.compile(r"\s*#?\s*\b(noqa|type:|pyright:|mypy:|pylint:|ruff:|fmt:|pragma:).*")


class Module:
    """The classes and functions of a source, by their qualified names."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.nodes: dict[str, ast.ClassDef | ast.FunctionDef] = {}
        waiting: list[tuple[str, ast.AST]] = [("", ast.parse(text))]
        while waiting:
            prefix, node = waiting.pop()
            for part in getattr(node, "body", []):
                if isinstance(part, ast.ClassDef | ast.FunctionDef):
                    self.nodes[prefix + part.name] = part
                    inside = "." if isinstance(part, ast.ClassDef) else ".<locals>."
                    waiting.append((prefix + part.name + inside, part))


def module(name: str) -> Module:
    """A module as it was executed; an empty one when it has no source."""
    try:
        loaded = sys.modules[name]
        return _parsed(SOURCES[loaded].decode() if loaded in SOURCES else inspect.getsource(loaded))
    except (KeyError, OSError, TypeError, SyntaxError, ValueError):
        return _parsed("")


_parsed = functools.lru_cache(maxsize=64)(Module)


def comments(cls: type) -> dict[str, str]:
    """What the source says about each field of a dataclass, inherited ones too, or each member of an Enum.

    That is the text below the field, else the comment beside it, else the comments above it, else its line in the
    section Attributes of the class.
    """
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if is_dataclass(one) or issubclass(one, Enum):
            source = module(one.__module__)
            node = source.nodes.get(one.__qualname__)
            if isinstance(node, ast.ClassDef):
                found |= _attributes(ast.get_docstring(node) or "") | _comments(source.lines, node)
    return found


def _comments(lines: Sequence[str], node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for part, after in zip(node.body, [*node.body[1:], None], strict=True):
        target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
        if isinstance(target, ast.Name):
            text = _text(after) or _beside(lines, part) or _above(lines, part)
            found |= {target.id: text} if text else {}
    return found


def _text(part: ast.stmt | None) -> str:
    if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str):
        return inspect.cleandoc(part.value.value)
    return ""


def _beside(lines: Sequence[str], part: ast.stmt) -> str:
    rest = lines[(part.end_lineno or 1) - 1].encode()[part.end_col_offset or 0 :].decode()
    return _plain(rest) if rest.lstrip().startswith("#") else ""


def _above(lines: Sequence[str], part: ast.stmt) -> str:
    first = last = part.lineno - 1
    while first and lines[first - 1].startswith(" " * part.col_offset + "#"):
        first -= 1
    return " ".join(filter(None, map(_plain, lines[first:last])))


def _plain(comment: str) -> str:
    return _TOOLS.sub("", comment).strip().lstrip("#").strip()


def _attributes(docstring: str) -> dict[str, str]:
    """The lines of the section Attributes or Args, in Google's style: `name (type): text`."""
    section = re.search(r"^(?:Attributes|Args):\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^(\w+)(?: *\([^)]*\))?: *(.*(?:\n[ \t]+.*)*)", inspect.cleandoc(section[1]), re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


# Bounds

Bounds = dict[str, float]  # of a number, by JSON schema's words: {"minimum": 0, "exclusiveMaximum": 1}
Key = tuple[str, ...]  # the names from a class down to a field: ("split", "holdout")


def bounds(cls: type) -> dict[Key, Bounds]:
    """Which numbers the fields of a class may have, as far as `__post_init__` says so in plain comparisons.

    It is read, and not called: `require(0 < self.lr < 1, ...)` on its first level, also in a loop over names and in a
    function that it hands `self` to. What is anything else says nothing.
    """
    found: dict[Key, Bounds] = {}
    for one in cls.__mro__:
        checks = vars(one).get("__post_init__")
        if inspect.isfunction(checks):
            reader = _Reader(found)
            reader.function(checks, ())
            if not reader.goes_on:
                break
    return found


class _Reader:
    """Collects the comparisons of a function.

    Attributes:
        goes_on: whether it has called the `__post_init__` of the class above.
    """

    def __init__(self, found: dict[Key, Bounds]) -> None:
        self.found, self.goes_on = found, False

    def function(self, function: Any, key: Key) -> None:
        """Read a function whose first argument is what stands at `key`."""
        node = module(function.__module__).nodes.get(function.__qualname__)
        if isinstance(node, ast.FunctionDef) and node.args.args:
            self._read(node.body, {node.args.args[0].arg: key}, function.__globals__)

    def _read(self, body: Sequence[ast.stmt], keys: dict[str, Key], names: Mapping[str, Any]) -> None:
        for part in body:
            if isinstance(part, ast.Assign):
                pairs = [(part.targets[0], part.value)]
                if isinstance(part.targets[0], ast.Tuple) and isinstance(part.value, ast.Tuple):
                    pairs = list(zip(part.targets[0].elts, part.value.elts, strict=False))
                for target, value in pairs:
                    if isinstance(target, ast.Name):
                        key = _key(value, keys, names)
                        names = {name: known for name, known in names.items() if name != target.id}
                        keys = {name: known for name, known in keys.items() if name != target.id}
                        keys |= {target.id: key} if key is not None else {}
            elif isinstance(part, ast.For):
                for item in _constant(part.iter, names) or ():
                    self._read(part.body, dict(keys), {**names, **_bound(part.target, item)})
            elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
                self._call(part.value, keys, names)

    def _call(self, call: ast.Call, keys: dict[str, Key], names: Mapping[str, Any]) -> None:
        name = ast.unparse(call.func)
        if name == "super().__post_init__":
            self.goes_on = True
        elif name.rpartition(".")[2] == "require" and call.args:
            self._condition(call.args[0], keys, names)
        elif len(call.args) == 1 and inspect.isfunction(function := names.get(name)):
            if (key := _key(call.args[0], keys, names)) is not None:
                self.function(function, key)

    def _condition(self, test: ast.expr, keys: dict[str, Key], names: Mapping[str, Any]) -> None:
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            for part in test.values:
                self._condition(part, keys, names)
        if not isinstance(test, ast.Compare):
            return
        sides = [test.left, *test.comparators]
        for left, operator, right in zip(sides, test.ops, sides[1:], strict=False):
            for one, value, word in ((left, right, _OPERATORS), (right, left, _MIRRORED)):
                key, limit = _key(one, keys, names), _constant(value, names)
                if key and type(operator) in word and type(limit) in (int, float) and math.isfinite(limit):
                    self._add(key, word[type(operator)], limit)

    def _add(self, key: Key, word: str, limit: float) -> None:
        own = self.found.setdefault(key, {})
        stricter = max if word.endswith("inimum") else min
        own[word] = stricter(own.get(word, limit), limit)


_OPERATORS = {ast.GtE: "minimum", ast.Gt: "exclusiveMinimum", ast.LtE: "maximum", ast.Lt: "exclusiveMaximum"}
_MIRRORED = {ast.LtE: "minimum", ast.Lt: "exclusiveMinimum", ast.GtE: "maximum", ast.Gt: "exclusiveMaximum"}


def _key(node: ast.expr, keys: Mapping[str, Key], names: Mapping[str, Any]) -> Key | None:
    """The field that an expression names: `self.lr`, `getattr(self, "lr")`, or a variable that is one."""
    if isinstance(node, ast.Name):
        return keys.get(node.id)
    if isinstance(node, ast.Attribute):
        inner, name = _key(node.value, keys, names), node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and len(node.args) == 2:
        inner, name = _key(node.args[0], keys, names), _constant(node.args[1], names)
    else:
        return None
    return (*inner, name) if inner is not None and isinstance(name, str) else None


def _constant(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression that calls nothing, such as `2**32 - 1` or `math.inf`; None: it has none."""
    if any(isinstance(part, ast.Call | ast.Await | ast.Lambda | ast.comprehension) for part in ast.walk(node)):
        return None
    try:
        return eval(compile(ast.Expression(node), "<bound>", "eval"), {**names})
    except Exception:
        return None


def _bound(target: ast.expr, item: Any) -> dict[str, Any]:
    targets = target.elts if isinstance(target, ast.Tuple) else [target]
    values = item if isinstance(target, ast.Tuple) else [item]
    return {one.id: value for one, value in zip(targets, values, strict=False) if isinstance(one, ast.Name)}


# Keys

NOTHING = "???"  # the default of a field that has none, as OmegaConf writes it


@dataclass(frozen=True)
class Described:
    """A field of a configuration class.

    Attributes:
        type: its annotation; of a dataclass, the class of its default.
        default: as plain values; `NOTHING`: it has none.
        keys: those of a dataclass, else none.
    """

    name: str
    type: Any
    default: Any
    comment: str
    bounds: Bounds = field(default_factory=dict)
    keys: tuple[Described, ...] = ()

    @property
    def worded(self) -> str:
        """Type and default, such as `int = 30`."""
        value = "" if self.default == NOTHING else f" = {json.dumps(self.default, ensure_ascii=False)}"
        return f"{worded(self.type)}{value}"


def described(
    cls: type, given: Any = None, limits: Mapping[Key, Bounds] | None = None, above: tuple[type, ...] = ()
) -> tuple[Described, ...]:
    """The fields of a dataclass, in order, with all that is below them.

    Args:
        cls: the dataclass.
        given: an object of it, whose values are the defaults; None: those of the fields.
        limits: what the classes above it say about its fields.
        above: these classes; what is one of them again is taken as anything.
    """
    texts, hints, known = comments(cls), typing.get_type_hints(cls), dict(bounds(cls))
    for key, limit in (limits or {}).items():
        known[key] = known.get(key, {}) | limit
    found = []
    for item in fields(cls):
        value = _default(item) if given is None else getattr(given, item.name)
        kind = hints[item.name]
        inner: tuple[Described, ...] = ()
        one = plain_type(kind)
        if one in (*above, cls):
            kind = Any
        elif is_dataclass(one) and isinstance(one, type):
            below = {key[1:]: limit for key, limit in known.items() if key[0] == item.name and len(key) > 1}
            if is_dataclass(value) and not isinstance(value, type):
                kind = type(value) if one is kind else kind
                inner = described(type(value), value, below, (*above, cls))
            else:
                inner = described(one, None, below, (*above, cls))
        default = NOTHING if value is MISSING else value if isinstance(value, str) else container(value)
        limit = known.get((item.name,), {})
        found.append(Described(item.name, kind, default, texts.get(item.name, ""), limit, inner))
    return tuple(found)


def _default(item: Any) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def plain_type(kind: Any) -> Any:
    """A type without `| None`."""
    some = [one for one in alternatives(kind) if one is not type(None)]
    return some[0] if len(some) == 1 else kind


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def worded(kind: Any) -> str:
    """A type in words, as a person at a terminal reads it: `int`, `small | large`, `list of int, or null`."""
    some = alternatives(kind)
    if len(some) > 1:
        words = [worded(one) for one in some if one is not type(None)]
        return ", or ".join([*words, "null"] if type(None) in some else words)
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (list, tuple):
        return f"list of {worded(inner[0])}" if inner else "list"
    if origin is dict:
        return f"dict of {worded(inner[1])}" if inner else "dict"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(kind.__members__)
    return {Any: "anything", str: "text"}.get(kind) or getattr(kind, "__name__", str(kind)).lower()


# Types

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


# Choices


@dataclass(frozen=True)
class Place:
    """A key whose class a group chooses.

    Attributes:
        key: below exp: ("model",).
        base: the class that it is annotated with.
        group: the name of the group.
        classes: those of the group that can stand there, by their names.
    """

    key: tuple[str, ...]
    base: type
    group: str
    classes: dict[str, type]

    def defined(self, name: str) -> str:
        """The name of a class among the definitions of a schema."""
        return f"{self.group}={name}".replace("/", ".")

    def name(self, is_in_exp: bool) -> str:
        """How a defaults list names it best."""
        key = ".".join(self.key)
        if not is_in_exp:
            return f"{self.group}@exp.{key}"
        return f"override /{self.group}" + ("" if key == self.group else f"@{key}")

    def named(self, is_in_exp: bool) -> str:
        """A pattern for how a defaults list names it, in config.yaml, or in a file in exp/."""
        group, key = re.escape(self.group), re.escape(".".join(self.key))
        package = rf"@(_global_\.exp\.)?{key}" if is_in_exp else rf"@(_global_\.)?exp\.{key}"
        return rf"^(override\s+)?/?{group}({package}){'?' if is_in_exp and self.key == (self.group,) else ''}$"


def places(loaded: Loaded, exp: tuple[Described, ...]) -> list[Place]:
    """Every key of `exp` whose class is chosen."""
    found = []
    for key, base in _classes(exp):
        for group, classes in loaded.experiment.groups.items():
            if fitting := {name: one for name, one in classes.items() if issubclass(one, base)}:
                found.append(Place(key, base, group, fitting))
    return found


def _classes(keys: tuple[Described, ...], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    for key in keys:
        one = plain_type(key.type)
        if is_dataclass(one) and isinstance(one, type):
            yield (*above, key.name), one
            yield from _classes(key.keys, (*above, key.name))


def of_choice(place: Place, default: str | None, is_in_exp: bool) -> Schema:
    """Which keys a class has, by what the defaults list of the file says; any, where nobody can know.

    Args:
        default: the choice of config.yaml, for a file in exp/.
    """
    path = place.key if is_in_exp else ("exp", *place.key)
    found: Schema = {}
    if default is not None and default in place.classes:
        found = {"if": _has(_INCLUDES), "else": _at(path, place.defined(default))}
    for name in reversed(place.classes):
        value = {"enum": [name, [name]]}
        chosen = {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": place.named(is_in_exp)},
            "additionalProperties": value,
        }
        found = {"if": _has(chosen), "then": _at(path, place.defined(name))} | ({"else": found} if found else {})
    return found


def definitions(place: Place) -> dict[str, Schema]:
    """The classes that can stand there."""
    return {
        place.defined(name): {"description": docstring(one)} | of_class(described(one))
        for name, one in place.classes.items()
    }


# An entry that takes in another file, in which a class may be chosen.
_OVERRIDE: Schema = {"type": "object", "propertyNames": {"pattern": r"^override\s"}}
_INCLUDES: Schema = {"not": {"anyOf": [{"const": "_self_"}, _OVERRIDE]}}


def _has(entry: Schema) -> Schema:
    return {"required": ["defaults"], "properties": {"defaults": {"contains": entry}}}


def _at(path: tuple[str, ...], name: str) -> Schema:
    schema: Schema = SOME_CLASS | {"allOf": [{"$ref": f"#/definitions/{name}"}]}
    for name in reversed(path):
        schema = {"properties": {name: schema}}
    return schema


def default_choice(loaded: Loaded, place: Place) -> str | None:
    """What config.yaml chooses; None: nothing, or nothing that can be read."""
    try:
        content = yaml.safe_load((loaded.folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    entries = content.get("defaults") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        for name, value in entry.items() if isinstance(entry, dict) else ():
            if re.match(place.named(is_in_exp=False), str(name)):
                [one] = value if isinstance(value, list) and len(value) == 1 else [value]
                return one if isinstance(one, str) else None
    return None


def of_defaults(loaded: Loaded, chosen: Sequence[Place], is_in_exp: bool) -> Schema:
    """A defaults list: what a file builds on."""
    groups = loaded.experiment.groups
    names = {group: _of_names(loaded, group) for group in groups}
    first = sorted({re.escape(name.partition("/")[0]) for name in ("exp", "hydra", *groups, *_others(loaded))})
    entry: Schema = {
        "type": ["object", "string"],
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {
            "pattern": rf"^(?!override\s)|^override\s+/?({'|'.join(first)})([/@]|$)",
            "patternErrorMessage": "There is no such group to override.",
        },
        "properties": {place.name(is_in_exp): names[place.group] for place in chosen},
        "patternProperties": {
            rf"^(override\s+|optional\s+)?/?{re.escape(group)}(@.*)?$": schema for group, schema in names.items()
        },
        "additionalProperties": {"type": ["string", "null", "array"]},
    }
    text = "What this file builds on, one after the other; _self_ is the file itself. Later ones override earlier ones."
    return {"description": text, "type": "array", "items": entry}


def _others(loaded: Loaded) -> set[str]:
    """The groups that are made otherwise: by train.py, in Hydra's store, or as folders of YAML files."""
    stored = {name for name, node in loaded.store.items() if isinstance(node, dict)}
    return stored | {file.parent.name for root in _roots(loaded) for file in root.glob("[!.]*/*.yaml")}


def _of_names(loaded: Loaded, group: str) -> Schema:
    stored: Any = loaded.store.get(group, {})
    written = sorted(file.stem for root in _roots(loaded) for file in root.glob(f"{group}/*.yaml"))
    names = [*loaded.experiment.groups[group], *(name.removesuffix(".yaml") for name in stored), *written]
    one: Schema = {"enum": list(dict.fromkeys(names))}
    others: list[Schema] = [{"type": "string", "pattern": TEXTS}, {"type": "null"}, {"type": "array", "items": one}]
    return {"anyOf": [one, *others]}


def _roots(loaded: Loaded) -> list[Any]:
    return [loaded.folder, code_root() / "conf"]


# Files

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
        text, file = f"{_json(content)}\n", loaded.folder / SCHEMAS / name
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
    chosen = places(loaded, exp)
    schema = of_keys(exp if is_in_exp else keys, {place.base for place in chosen})
    schema["properties"] = {"defaults": of_defaults(loaded, chosen, is_in_exp), **schema["properties"]}
    if not is_in_exp:
        schema["properties"]["hydra"] = {"description": "The settings of Hydra itself.", "type": "object"}
    conditions = [of_choice(place, default_choice(loaded, place) if is_in_exp else None, is_in_exp) for place in chosen]
    classes = {name: one for place in chosen for name, one in definitions(place).items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made from train.py by expkit, and made again when its classes change: do not edit.",
        "type": ["object", "null"] if is_in_exp else "object",
        **schema,
        **({"definitions": classes, "allOf": conditions} if conditions else {}),
    }


def _json(value: Any, indent: str = "", is_table: bool = False) -> str:
    """JSON with a line for each key of the configuration: a change of one is a change of one line.

    Args:
        is_table: whether each item has a line of its own in any case.
    """
    text = json.dumps(value, ensure_ascii=False)
    if not value or (not is_table and '"properties": {' not in text):
        return text
    inner = f"{indent} "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _json(one, inner) for one in value) + f"\n{indent}]"
    lines = [f"{inner}{json.dumps(name)}: {_json(one, inner, name in _TABLES)}" for name, one in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


# Help

_FLAGS = [
    ("-m", "several values of a key, each with each of another: -m exp=001,002 exp.seed=1,2"),
    ("--hydra-help", "the other flags, which are Hydra's"),
]
_MOST = 32  # columns of `key=value`; a longer one has a line of its own


def manual(loaded: Loaded, config: DictConfig) -> str:
    """The text of `--help`.

    Args:
        config: as it is composed for this command.
    """
    about = (code.load(loaded.name).__doc__ or loaded.name).strip()
    sets = parameter_sets(loaded.folder)[1:]
    some = sets if len(sets) <= 20 else [*sets[:3], "...", sets[-1]]
    rows = [("exp=NAME", f"a parameter set, a file in exp/: {', '.join(some)}")] if sets else []
    rows += [_choice(place, config) for place in places(loaded, described(_class(config.exp)))]
    now = "KEY=VALUE sets a key. Their values now, from train.py, config.yaml and this command:"
    return f"{about}\n\n{now}\n\n{_table([*rows, *_rows(config, '')])}\n\n{_table(_FLAGS)}"


def _choice(place: Place, config: DictConfig) -> tuple[str, str]:
    key = f"exp.{'.'.join(place.key)}"
    now = _class(OmegaConf.select(config, key))
    name = next((name for name, one in place.classes.items() if one is now), "???")
    group = place.group if place.key == (place.group,) else f"{place.group}@{key}"
    return f"{group}={name}", f"{' | '.join(place.classes)}: which class {key} has"


def _class(config: Any) -> Any:
    """The dataclass of a part of a configuration."""
    return OmegaConf.get_type(config)


def _rows(config: DictConfig, prefix: str) -> Iterator[tuple[str, str]]:
    """Each key below a part of a configuration, and what it is."""
    plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    for key in described(_class(config)):
        name, value = f"{prefix}{key.name}", plain[key.name]
        inner = config[key.name] if isinstance(value, dict) else None
        if inner is not None and is_dataclass(_class(inner)):
            yield from _rows(inner, f"{name}.")
        else:
            yield f"{name}={_flow(value)}", ": ".join(filter(None, [worded(key.type), key.comment]))


def _flow(value: Any) -> str:
    """A value on one line, as YAML and the command line have it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _table(rows: list[tuple[str, str]]) -> str:
    """Two columns, the second one wrapped."""
    left = min(max(len(name) for name, _ in rows), _MOST) + 2
    right = max(shutil.get_terminal_size((120, 0)).columns - left, 40)
    lines = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, right) or [""]
        lines += [f"{name:{left}}{first}"] if len(name) < left - 1 else [name, f"{'':{left}}{first}"]
        lines += [f"{'':{left}}{other}" for other in others]
    return "\n".join(lines)
