"""The name of a run: exp.name, and what the command line overrides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from expkit.config.same import is_compared

LONGEST = 120  # characters
MOST_BYTES = 200  # of a file name; a system takes 255, and files beside it have longer names


def run_name(name: str, overrides: Sequence[str]) -> str:
    """The name of the folder of a run, as in "001-larger-lr,exp.train.learning_rate=0.01".

    As Hydra's `override_dirname`, safe as a file name, and with a hash in place of what would be too long.

    Args:
        name: `exp.name` of the configuration.
        overrides: of the command line, as Hydra takes them.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides)) if overrides else []
    pairs = sorted((_key(override), override.get_value_element_as_str()) for override in parsed if _is_named(override))
    plain = "".join(f",{key}={value}" for key, value in pairs)
    safe = re.sub(r"[^\w.,=+-]+", "_", plain)
    full = name + safe
    if safe == plain and len(full) <= LONGEST and len(full.encode()) <= MOST_BYTES:
        return full
    digest = hashlib.sha256((name + plain).encode()).hexdigest()[:8]
    room = full[: LONGEST - 9].encode()[: MOST_BYTES - 9].decode(errors="ignore")
    return f"{room.rstrip('.')}-{digest}"


def _key(override: Override) -> str:
    """The key or group of an override, with its package: two packages of one group are two choices."""
    if override.package in (None, "", f"exp.{override.key_or_group}"):  # that is where a choice of ours always is
        return override.key_or_group
    return f"{override.key_or_group}_at_{override.package}".replace("@", "_at_")


def _is_named(override: Override) -> bool:
    key = override.key_or_group
    return key != "exp" and is_compared(key)
