"""The keys of a configuration class, described: type, default, comment, bounds."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from expkit.config.describe.bounds import Bounds, Key, bounds
from expkit.config.describe.source import comments
from expkit.config.values import container

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
