"""A parameter set from a run: what of the run's configuration differs from config.yaml, as a file in exp/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from expkit import files
from expkit.config.compose import composed, typed
from expkit.config.describe import schema
from expkit.config.load import Loaded, load_experiment
from expkit.config.messages import describe
from expkit.config.new import as_yaml, free_file
from expkit.config.same import defaults_of, differences, is_compared, same
from expkit.config.values import ITEMS, container, flat, restored
from expkit.errors import Error, plain, require
from expkit.paths import shown
from expkit.record import RunRecord


def parameter_set_from_run(experiment: str, name: str, run: RunRecord) -> Path:
    """Write `exp/<name>.yaml` of an experiment: with it, the experiment has the configuration of a run.

    Args:
        run: of this experiment, or of another one whose keys this one has, too.

    Raises:
        Error: as of `free_file`; the run has no configuration, or one that this experiment, or a parameter set, cannot
            have. Nothing is left then.
    """
    require(run.recipe is None, f"{run.title} is a blend, which has no parameters: name one of its runs")
    values = run.info["config"] if run.info else {}
    if not isinstance(values.get("exp"), dict):
        raise Error(f"the configuration of {run.title} is not known: {', '.join(run.problems) or 'no run.json'}")
    file, loaded = free_file(experiment, name), load_experiment(experiment)
    default = composed(loaded, [])
    groups, unknown = _other_groups(loaded, values.get("choices", {}), default)
    if groups:
        default = composed(loaded, [f"{group}@exp.{key}={choice}" for key, (group, choice) in groups.items()])
    recorded = values["exp"]
    unknown += [key for key in _unknown(recorded, default.exp, "exp") if is_compared(key)]
    require(not unknown, f"{experiment} has no {', '.join(unknown)}, which {run.title} has")
    try:
        exp = typed(default, loaded, ()).exp
        base, recorded = container(exp), _with_defaults(recorded, exp)
    except Error:  # a value that config.yaml leaves to the parameter sets
        base = container(OmegaConf.to_container(default.exp, resolve=True))
    changed = {key: value for key, value in _changed(recorded, base).items() if is_compared(f"exp.{key}")}
    file.parent.mkdir(exist_ok=True)
    try:
        files.write_text(file, _text(name, run, groups, changed))
        made = typed(composed(loaded, [f"exp={name}"]), loaded, [f"exp={name}"])
        lines = differences(values, made, loaded.experiment.choices(made))
        known = flat({"exp": _with_defaults(values["exp"], made.exp)})
        extra = {key: value for key, value in flat(made).items() if is_compared(key) and key not in known}
        lines += [f"{key}: (not set) → {value}" for key, value in extra.items()]
        require(not lines, f"it would differ from {run.title}: {'; '.join(map(plain, lines[:5]))}")
    except BaseException as error:
        file.unlink(missing_ok=True)
        if not isinstance(error, Exception):
            raise
        raise Error(f"cannot make {shown(file)}: {describe(error)}") from error
    schema.write(loaded)
    return file


def _other_groups(
    loaded: Loaded, choices: Mapping[str, str], default: DictConfig
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The chosen classes that are not those of config.yaml: key to group and name; and those that nobody knows."""
    found, unknown = {}, []
    for key, choice in choices.items():
        groups = {group: classes[choice] for group, classes in loaded.experiment.groups.items() if choice in classes}
        own = key.rpartition(".")[2]
        group = own if own in groups else next(iter(groups), None)
        if group is None:
            unknown.append(f"{key}={choice}")
        elif OmegaConf.get_type(OmegaConf.select(default, f"exp.{key}")) is not groups[group]:
            found[key] = (group, choice)
    return found, unknown


def _unknown(values: Any, config: Any, key: str) -> list[str]:
    """The recorded keys for which the dataclasses have no field."""
    schema = OmegaConf.get_type(config) if isinstance(config, DictConfig) else None
    if not isinstance(values, dict) or not is_dataclass(schema):
        return []
    known = {item.name for item in fields(schema)}
    found = [f"{key}.{name}" for name in values if name not in known]
    inner = {name: value for name, value in values.items() if isinstance(value, dict) and name in known}
    return found + [one for name in inner for one in _unknown(inner[name], config.get(name), f"{key}.{name}")]


def _with_defaults(values: dict[str, Any], config: Any) -> dict[str, Any]:
    """The recorded values of a dataclass, with the default of each field that they lack: what the code did then."""
    filled = {key: value for key, value in defaults_of(config).items() if key not in values}
    for name, value in values.items():
        inner = getattr(config, name, None)
        filled[name] = _with_defaults(value, inner) if is_dataclass(inner) and isinstance(value, dict) else value
    return filled


def _changed(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The values that `base` has not."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        other = base.get(name)
        if isinstance(value, dict) and isinstance(other, dict) and ITEMS not in {*value, *other}:
            if inner := _changed(value, other):
                found[name] = inner
        elif name not in base or not same(value, other):
            found[name] = value
    return found


def _text(name: str, run: RunRecord, groups: Mapping[str, tuple[str, str]], values: dict[str, Any]) -> str:
    """The file, as one that a person has written."""
    score = run.score_of()
    scored = f": {run.metric} {score.value:.6g}, {len(run.done)} of {run.n_folds} folds" if score else ""
    lines = [schema.FIRST_LINE.strip(), f"# From {plain(run.title + scored)}. Only what differs from config.yaml."]
    if groups:
        places = {key: group if key == group else f"{group}@{key}" for key, (group, _) in groups.items()}
        lines += ["defaults:", *(f"- override /{places[key]}: {choice}" for key, (_, choice) in groups.items()), ""]
    lines.append(f"name: {as_yaml(name)}")
    simple = {key: value for key, value in values.items() if not isinstance(value, dict)}
    parts = [simple, *({key: value} for key, value in values.items() if key not in simple)]
    return "\n".join(lines) + "\n" + "".join(f"\n{OmegaConf.to_yaml(restored(part))}" for part in parts if part)
