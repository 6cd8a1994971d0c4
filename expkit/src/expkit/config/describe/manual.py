"""What `train.py --help` prints: how it is called, and every key with its value, type and comment."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from expkit import code
from expkit.config.describe.choices import Place, places
from expkit.config.describe.keys import described, worded
from expkit.config.load import Loaded
from expkit.config.parameter_sets import parameter_sets

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
