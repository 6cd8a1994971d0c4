"""Composing a configuration: dataclasses, config.yaml, a parameter set, the command line; each overrides the former."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigNode
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict

from expkit.config import compat
from expkit.config.load import Loaded, load_experiment, own_store
from expkit.config.messages import raise_readable
from expkit.config.parameter_sets import chosen, require_files, written_name
from expkit.config.values import Config, check, container, flat, name_folds
from expkit.errors import Error, require
from expkit.paths import output_dir


class PresetsPath(SearchPathPlugin):
    """Lets Hydra find the project's presets, conf/, from every experiment; and from a copy, those of the copy."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for element in list(search_path.get_path()):
            folder = Path(str(element.path).removeprefix("file://"))
            if element.provider == "main" and folder.parent.name == "experiments":
                presets = folder.parents[1] / "conf"
                if presets.is_dir():
                    search_path.append("expkit", f"file://{presets}")


# What Hydra says about itself; its own default lets the root logger say whatever any library logs.
_OF_HYDRA = {"level": "INFO", "handlers": ["console"], "propagate": False}
_LOGGING = {
    "version": 1,
    "formatters": {"simple": {"format": "[%(asctime)s][HYDRA] %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "simple", "stream": "ext://sys.stdout"}},
    "loggers": {"hydra": _OF_HYDRA, "hydra_plugins": _OF_HYDRA},
    "root": {"level": "INFO"},
    "disable_existing_loggers": False,
}


@contextmanager
def registered(loaded: Loaded, callback: str | None = None, manual: str | None = None) -> Iterator[None]:
    """Hydra knows what the config.yaml of an experiment names: its classes, and the settings that all have.

    What one experiment registers, another never sees.

    Args:
        callback: the class that Hydra tells of the jobs of a sweep.
        manual: what `--help` prints.
    """
    Plugins.instance().register(PresetsPath)
    with own_store(loaded.store) as repository:
        compat.store("schema", loaded.experiment.Config)
        compat.store("default", {}, group="exp")
        compat.store("expkit", _LOGGING, group="hydra/hydra_logging")
        for group, choices in loaded.experiment.groups.items():
            for name, schema in choices.items():
                compat.store(name, schema, group)
        repository["hydra"]["config.yaml"] = _settings(repository["hydra"]["config.yaml"], loaded, callback, manual)
        try:
            yield
        except Exception as error:
            raise_readable(error, loaded.experiment.groups)


def _settings(known: ConfigNode, loaded: Loaded, callback: str | None, manual: str | None) -> ConfigNode:
    """Hydra's own settings: a run leaves nothing in the working directory; a config.yaml may set others."""
    node = known.node.copy()
    with open_dict(node):
        node.output_subdir = None
        node.run.dir = "."
        # %f: two may start in one second
        node.sweep.dir = f"{_escaped(output_dir())}/multirun/${{now:%Y-%m-%d_%H-%M-%S-%f}}"
        node.job.chdir = False
        node.job.name = loaded.name
        if callback is not None:
            node.callbacks = {"expkit": {"_target_": callback}}
        if manual is not None:
            node.help.template = _escaped(manual.replace("$", "$$"))
        for name, choice in {"job_logging": "none", "hydra_logging": "expkit"}.items():
            node.defaults = [{name: choice} if name in entry else entry for entry in node.defaults]
    return replace(known, node=node)


def _escaped(text: Path | str) -> str:
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", str(text))


def typed(cfg: DictConfig, loaded: Loaded, overrides: Sequence[str]) -> Any:
    """The composed configuration as an object of the experiment's own class, its values checked.

    Args:
        overrides: that it was composed with.

    Raises:
        Error: a value is refused, or is still `???`.
    """
    schema = loaded.experiment.Config
    try:
        if "exp" in cfg and re.match(r"[\d.+-]|True|False", str(cfg.exp.name)):
            cfg.exp.name = written_name(loaded.folder, chosen(overrides), str(cfg.exp.name))
        config = OmegaConf.to_object(cfg)
    except Exception as error:
        raise_readable(error)
    if not isinstance(config, schema):
        raise Error("config.yaml must begin with 'defaults: [schema, _self_, exp: default]', in this order")
    require(isinstance(config, Config), f"class {schema.__name__} in train.py must derive from expkit.Config")
    assert isinstance(config, Config)
    check(config.exp)
    name_folds(config.exp)
    known = flat(config)
    for key in flat(container(cfg)):
        require(key in known, f"there is no key {key}: a new key needs a field in the dataclasses of train.py")
    return config


def load_config(experiment: str, overrides: Sequence[str] = ()) -> Any:
    """Compose the configuration of an experiment, from any working directory, also in a notebook.

    Args:
        experiment: the name of a folder in `experiments/`, such as "001-baseline".
        overrides: as on the command line, such as ["exp=001", "exp.fold=[0]"].

    Returns:
        A `Config` object of the experiment's `train.py`, with all values checked.

    Raises:
        Error: there is no such experiment, the configuration cannot be composed, or a value is refused.
    """
    loaded = load_experiment(experiment)
    return typed(composed(loaded, overrides), loaded, overrides)


def composed(loaded: Loaded, overrides: Sequence[str]) -> DictConfig:
    """Compose the config.yaml of an experiment as the command line would; the state of Hydra stays as it was.

    Raises:
        Error: it cannot be composed.
    """
    with composer(loaded) as compose_one:
        return compose_one(overrides)


@contextmanager
def composer(loaded: Loaded) -> Iterator[Callable[[Sequence[str]], DictConfig]]:
    """A function that composes the config.yaml of an experiment; for many of its parameter sets."""

    def compose_one(overrides: Sequence[str]) -> DictConfig:
        require_files(loaded.folder, overrides)
        return compose("config", [as_hydra_takes(override, loaded) for override in overrides])

    hydra_of_caller = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with registered(loaded), compat.initialize_dir(loaded.folder):
            yield compose_one
    finally:
        GlobalHydra.instance().hydra = hydra_of_caller


def from_values(loaded: Loaded, values: dict[str, Any]) -> Any:
    """The configuration of a run from the values that it has recorded, whatever config.yaml says now.

    Raises:
        Error: a class of the configuration no longer takes them.
    """
    try:
        merged = OmegaConf.structured(loaded.experiment.Config)
        classes = {name: one for group in loaded.experiment.groups.values() for name, one in group.items()}
        for key, choice in values.get("choices", {}).items():
            OmegaConf.update(merged.exp, key, OmegaConf.structured(classes[choice]))
        merged = OmegaConf.merge(merged, {"exp": values["exp"]})
    except Exception as error:
        raise_readable(error)
    assert isinstance(merged, DictConfig)
    return typed(merged, loaded, ())


def print_config(config: object) -> None:
    """Print a configuration as YAML, and nothing else, on stdout."""
    print(OmegaConf.to_yaml(container(config)), end="")


def as_hydra_takes(override: str, loaded: Loaded) -> str:
    """An override as Hydra takes it.

    It reads `exp=100`, `exp=1e3` or `exp=true` as no text, which names no file. And a choice between classes is made at
    its key, `exp.<group>`: Hydra would have its user write `model@exp.model=vit`.
    """
    group, is_choice, value = override.partition("=")
    if is_choice and loaded.experiment.stands_in_exp(group):
        return f"{group}@exp.{group}={value}"
    if not override.startswith("exp="):
        return override
    names = override.removeprefix("exp=").split(",")
    return "exp=" + ",".join(name if _is_text(name) else f"'{name}'" for name in names)


def _is_text(name: str) -> bool:
    """Whether Hydra reads `name` as text, or as something that is no plain name, as `glob(*)`."""
    is_plain = re.fullmatch(r"[\w.+-]+", name) is not None
    return not is_plain or isinstance(OverridesParser.create().parse_override(f"exp={name}").value(), str)
