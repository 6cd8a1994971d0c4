"""The name of a run: exp.name, and what the command line overrides."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from expkit.config.same import is_compared
from expkit.config.values import flat

LONGEST = 120  # characters
MOST_BYTES = 200  # of a file name; a system takes 255, and files beside it have longer names


def run_name(config: Any, overrides: Sequence[str]) -> str:
    """The name of the folder of a run, as in "001-larger-lr,exp.train.learning_rate=0.01".

    Each key that is overridden, with its value in the configuration: `l2=1` and `l2=1.0` are one run. Safe as a file
    name, and with a hash in place of what would be too long.

    Args:
        config: the configuration, as dataclasses.
        overrides: of the command line, as Hydra takes them.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides)) if overrides else []
    values, pairs = flat(config), dict[str, str]()
    for override in parsed:
        for key, given in _given(override).items():
            value = values.get(key.lstrip("~"), given)
            is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
            pairs[key] = f"{value:.0f}" if is_whole and _takes_floats(config, key) else _text(value)
    plain = "".join(f",{key}={value}" for key, value in sorted(pairs.items()))
    safe = re.sub(r"[^\w.,=+-]+", "_", plain)
    name: str = config.exp.name
    full = name + safe
    if safe == plain and len(full) <= LONGEST and len(full.encode()) <= MOST_BYTES:
        return full
    digest = hashlib.sha256((name + plain).encode()).hexdigest()[:8]
    room = full[: LONGEST - 9].encode()[: MOST_BYTES - 9].decode(errors="ignore")
    return f"{room.rstrip('.')}-{digest}"


def _given(override: Override) -> dict[str, Any]:
    """What an override says, by key; each key of a dict is one: exp.split={seed: 1} is exp.split.seed=1."""
    key, value = override.key_or_group, override.value()
    if key == "exp" or not is_compared(key):
        return {}
    if override.package not in (None, "", f"exp.{key}"):  # that is where a choice of ours always is
        key = f"{key}_at_{override.package}".replace("@", "_at_")  # two packages of one group are two choices
    given = {f"{key}.{name}": inner for name, inner in flat(value).items()} if isinstance(value, dict) else {}
    sign = "~" if override.is_delete() else ""
    return {sign + name: one for name, one in (given or {key: value}).items()}


def _takes_floats(config: Any, key: str) -> bool:
    """Whether a field can hold no int: 1.0 is as clear as 1 then."""
    *above, name = key.split(".")
    for part in above:
        config = getattr(config, part, None)
    return is_dataclass(config) and get_type_hints(type(config)).get(name) in (float, float | None)


def _text(value: Any) -> str:
    """A plain value as a text that no other value has: "1" in quotes is no number."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and re.fullmatch(r"(?!(-?\d+(\.\d+)?(e[+-]?\d+)?|null|True|False)$)[\w.+-]*", value):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
