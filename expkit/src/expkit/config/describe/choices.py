"""What a defaults list may say, as a JSON schema, and which keys depend on it: those of a class that it chooses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import yaml

from expkit.config.describe.keys import Described, described, plain_type
from expkit.config.describe.types import SOME_CLASS, TEXTS, Schema, docstring, of_class
from expkit.config.load import Loaded
from expkit.paths import code_root


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
