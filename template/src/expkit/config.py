"""The configuration of an experiment: its checks, and how to compose it from Python."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Protocol, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from expkit.errors import Error, require
from expkit.paths import code_root, shown

T = TypeVar("T")


class Mode(Enum):
    """What a run does."""

    cv = "cv"  # cross-validation: train the folds, predict the rows left out of each
    sub = "sub"  # submission: train on every row, predict the test set


class Exp(Protocol):
    """The fields of `ExpConfig` that every experiment has, whatever else it adds."""

    name: str
    n_folds: int
    fold: list[int] | None
    seed: int
    debug: bool
    mode: Mode


class Config(Protocol):
    """The fields of the root `Config` that every experiment has."""

    show_config: bool
    overwrite: bool

    @property
    def exp(self) -> Exp: ...


def check(exp: Exp) -> None:
    """Check the fields that every experiment has; `fold` becomes all folds when it is None.

    Raises:
        Error: a value that no run can have; the message names its key.
    """
    name = exp.name
    require(
        re.fullmatch(r"\w[\w.+-]*", name) is not None and not name.endswith(".") and len(name) <= 64,
        f"exp.name names a folder: 1 to 64 letters, digits and . _ + -, beginning with a letter or digit, not {name!r}",
    )
    require(exp.n_folds >= 2, f"exp.n_folds must be at least 2, not {exp.n_folds}")
    if exp.fold is None:
        exp.fold = list(range(exp.n_folds))
    require(len(exp.fold) > 0, "exp.fold must name at least one fold, as in 'exp.fold=[0]'; it is empty")
    for fold in exp.fold:
        require(0 <= fold < exp.n_folds, f"exp.fold must be from 0 to {exp.n_folds - 1} (exp.n_folds - 1), not {fold}")
    require(len(set(exp.fold)) == len(exp.fold), f"exp.fold names a fold twice: {exp.fold}")
    require(0 <= exp.seed < 2**32, f"exp.seed must be from 0 to 2**32 - 1, not {exp.seed}")


def register(schema: type) -> None:
    """Store what the `defaults` of a config.yaml name: `schema`, and the `exp/default` that adds nothing to it."""
    store = ConfigStore.instance()
    store.store(name="schema", node=schema)
    store.store(name="default", group="exp", node={})


def typed(cfg: DictConfig, schema: type[T]) -> T:
    """The composed configuration as an object of the class `schema`, its values checked by `__post_init__`.

    Raises:
        Error: from a check.
        omegaconf.MissingMandatoryValue: a value is still `???`.
    """
    config = OmegaConf.to_object(cfg)
    if not isinstance(config, schema):
        raise Error("config.yaml must begin with 'defaults: [schema, _self_, exp: default]', in this order")
    known = flat(config)
    for key in flat(cfg):
        require(key in known, f"there is no key {key}: a new key needs a field in the dataclasses of train.py")
    return config


def flat(config: object) -> dict[str, Any]:
    """A configuration, dataclasses or OmegaConf's, as {"exp.seed": 42, ...}; enums by name, lists as values."""
    return dict(leaves(container(config)))


def container(config: object) -> Any:
    """A configuration, dataclasses or OmegaConf's, as plain dicts and lists that YAML and JSON can hold.

    Enums are their names, paths have /, and `${` in a text is escaped, as OmegaConf reads it back.
    """
    if OmegaConf.is_config(config):
        return OmegaConf.to_container(config, enum_to_str=True)
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: container(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, dict):
        return {name.name if isinstance(name, Enum) else name: container(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [container(value) for value in config]
    if isinstance(config, Enum):
        return config.name
    if config is None:
        return None
    for kind in (bool, int, float):
        if isinstance(config, kind):
            return kind(config)
    text = config.as_posix() if isinstance(config, PurePath) else str(config)
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def same(old: object, new: object) -> bool:
    """Whether two values of a configuration are equal; NaN is equal to itself."""
    return old == new or repr(old) == repr(new)


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The keys and values of nested dicts: {"exp": {"seed": 42}} gives ("exp.seed", 42)."""
    if isinstance(tree, dict) and tree:
        for name, branch in tree.items():
            yield from leaves(branch, f"{key}.{name}" if key else str(name))
    else:
        yield key, tree


def quoted(override: str) -> str:
    """An override as Hydra takes it: it reads `exp=100`, `exp=1e3` or `exp=true` as no text, which names no file."""
    if not override.startswith("exp="):
        return override
    names = override.removeprefix("exp=").split(",")
    return "exp=" + ",".join(name if _is_text(name) else f"'{name}'" for name in names)


def _is_text(name: str) -> bool:
    """Whether Hydra reads `name` as text, or as something that is no plain name, as `glob(*)`."""
    if re.fullmatch(r"[\w.+-]+", name) is None:
        return True
    return isinstance(OverridesParser.create().parse_override(f"exp={name}").value(), str)


def print_config(config: object) -> None:
    """Print a configuration as YAML, and nothing else, on stdout."""
    print(OmegaConf.to_yaml(container(config)), end="")


def load_config(experiment: str, overrides: Sequence[str] = ()) -> Any:
    """Compose the configuration of an experiment, from any working directory, also in a notebook.

    Args:
        experiment: the name of a folder in `experiments/`, such as "001-baseline".
        overrides: as on the command line, such as ["exp=001", "exp.fold=[0]"].

    Returns:
        The `Config` object of the experiment's `train.py`, checked.

    Raises:
        Error: there is no such experiment, or a value is refused.
        hydra.errors.HydraException: the configuration cannot be composed.
    """
    folder = experiment_dir(experiment)
    schema = import_train(folder).Config
    return typed(compose_config(folder, schema, overrides), schema)


def compose_config(folder: Path, schema: type, overrides: Sequence[str]) -> DictConfig:
    """Compose the config.yaml in `folder` as the command line would; the state of Hydra stays as it was."""
    register(schema)
    hydra_of_caller = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base=None):
            return compose("config", [quoted(override) for override in overrides])
    finally:
        GlobalHydra.instance().hydra = hydra_of_caller


def experiment_dir(name: str) -> Path:
    """The folder of an experiment.

    Raises:
        Error: there is none of this name; the message has the nearest, or all.
    """
    folder = code_root() / "experiments" / name
    if not (folder / "train.py").is_file():
        known = sorted(file.parent.name for file in folder.parent.glob("*/train.py"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise Error(f"there is no experiment {name!r} in {shown(code_root() / 'experiments')}; {hint}")
    return folder


def import_train(folder: Path) -> ModuleType:
    """The `train.py` of an experiment as a module, read again each time."""
    name = f"expkit_train_{re.sub(r'[^0-9a-zA-Z]', '_', folder.name)}"
    spec = importlib.util.spec_from_file_location(name, folder / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module
