"""Whether two configurations are the same, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from expkit import record
from expkit.config.values import container, flat
from expkit.paths import output_dir

# Keys that change no result, whatever is below them: not compared, and in no name of a run.
NOT_COMPARED = ("exp.name", "exp.fold", "exp.mode", "exp.debug", "exp.runtime", "show_config", "overwrite", "resume")


def differences(old: Mapping[str, Any], config: object, choices: Mapping[str, str]) -> list[str]:
    """How the recorded values of a run differ from a configuration, as "key: old → new"; [] when they are the same.

    A key that the older one lacks and that has its dataclass default now is no difference.

    Args:
        old: as from `container`.
        config: the configuration, as dataclasses.
        choices: the class of each group; two classes may have the same fields.
    """
    before, after, defaults = flat(dict(old)), flat(config), flat(defaults_of(config))
    after |= flat({"choices": dict(choices)}) if choices else {}
    absent = object()
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if not is_compared(key):
            continue
        one, other = before.get(key, absent), after.get(key, absent)
        is_new_default = one is absent and not _is_below(key, before) and same(other, defaults.get(key, absent))
        if not same(one, other) and not is_new_default:
            lines.append(f"{key}: {_worded(one, absent)} → {_worded(other, absent)}")
    return lines


def recorded(experiment: str) -> dict[str, Any]:
    """The configurations of the runs of an experiment, by "<experiment>/<run>"."""
    parent = output_dir() / experiment
    found = [record.counting_among(parent, run, folders) for run, folders in sorted(record.grouped(parent).items())]
    folders = [folder for folder in found if folder is not None]
    infos = {folder.name.partition("@")[0]: record.read_run_info(folder) for folder in folders}
    return {f"{experiment}/{run}": info["config"] for run, info in infos.items() if info}


def alike(known: Mapping[str, Any], config: object, choices: Mapping[str, str]) -> str | None:
    """The first of some recorded configurations that is the same; None: each is another one."""
    now = {key: value for key, value in flat(config).items() if is_compared(key)}
    for title, old in known.items():
        before = flat(old)
        is_other = any(key in before and before[key] != now[key] for key in now)  # so nearly all are: that is fast
        if not is_other and not differences(old, config, choices):
            return title
    return None


def is_compared(key: str) -> bool:
    """Whether two configurations that differ in this key are different."""
    return not key.startswith(NOT_COMPARED) or not any(key == one or key.startswith(f"{one}.") for one in NOT_COMPARED)


def _is_below(key: str, known: Mapping[str, Any]) -> bool:
    """Whether a part of `key` had a value of its own: null, where there are keys now."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in known for length in range(1, len(parts)))


def _worded(value: Any, absent: object) -> str:
    return "(not set)" if value is absent else repr(value) if isinstance(value, str) and not value else str(value)


def defaults_of(config: object) -> Any:
    """The plain defaults of the fields of a configuration; of each dataclass in it, those of its own class."""
    if not is_dataclass(config) or isinstance(config, type):
        return {}
    found: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            found[item.name] = defaults_of(value)
        elif item.default is not MISSING:
            found[item.name] = container(item.default)
        elif item.default_factory is not MISSING:
            found[item.name] = container(item.default_factory())
    return found


def same(old: object, new: object) -> bool:
    """Whether two plain values are equal: of the same type, too; NaN is equal to itself."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    return type(old) is type(new) and (old == new or repr(old) == repr(new))
