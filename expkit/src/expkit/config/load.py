"""An experiment as it is imported from its train.py; what it registers with Hydra stays its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from expkit import code
from expkit.config.experiment import Experiment
from expkit.errors import Error
from expkit.fingerprint import Fingerprint, Unused, home
from expkit.paths import code_root, experiment_dir, shown


@dataclass(frozen=True)
class Loaded:
    """An experiment that is imported from `experiments/<name>/train.py`.

    Attributes:
        name: of its folder.
        experiment: as its train.py defines it.
        store: what its modules have put into Hydra's ConfigStore while they were imported.
    """

    name: str
    experiment: Experiment
    store: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return code_root() / "experiments" / self.name

    @functools.cached_property
    def unused(self) -> Unused:
        """The names in the project's files that train nothing."""
        choices = [one for classes in self.experiment.groups.values() for one in classes.values()]
        bases = [base for one in choices for base in one.__mro__[1:-1]]
        configs: dict[str, set[str]] = {}
        for kind in [found for root in (self.experiment.Config, *choices, *bases) for found in _config_classes(root)]:
            if file := home(kind):
                configs.setdefault(file, set()).add(kind.__name__)
        metrics = Fingerprint()
        for metric in self.experiment.metrics.values():
            metrics.of(metric)
        metrics.of_metrics(str(self.folder / "train.py"))
        return Unused(_by_path(configs), _by_path(metrics.used, configs))


def _by_path(found: Mapping[str, set[str]], without: Mapping[str, set[str]] = {}) -> dict[str, frozenset[str]]:
    root = code_root()
    return {
        Path(file).relative_to(root).as_posix(): frozenset(names) - without.get(file, set())
        for file, names in found.items()
    }


def _config_classes(root: type) -> list[Any]:
    """A dataclass and those of its fields' defaults."""
    found: list[Any] = []
    waiting: list[Any] = [root]
    while waiting:
        one = waiting.pop()
        if is_dataclass(one) and one not in found:
            found.append(one)
            waiting += [item.default_factory for item in fields(one) if isinstance(item.default_factory, type)]
    return found


def load_experiment(name: str, again: bool = False) -> Loaded:
    """Import the train.py of an experiment; what it registers with Hydra stays its own.

    Args:
        name: of a folder in experiments/, such as "001-baseline".
        again: import its files again, after an edit.

    Returns:
        the `Experiment` of the train.py as `.experiment`, with its name and folder.

    Raises:
        Error: there is no such experiment, or its train.py does not define exactly one.
    """
    if again:
        code.forget(name)
        _load.cache_clear()
    return _load(experiment_dir(name))


@functools.lru_cache(maxsize=512)
def _load(folder: Path) -> Loaded:
    with own_store({}, of_hydra=True) as store:  # as __main__, train.py may have stored the same: Hydra 1.5 refuses it
        module = code.load(folder.name)
    found = {id(value): value for value in vars(module).values() if isinstance(value, Experiment)}
    if len(found) != 1:
        raise Error(
            f"{shown(folder / 'train.py')} must define one experiment, and defines {len(found)}: end it with "
            "experiment = expkit.Experiment(train, Config, metric=...)"
        )
    return Loaded(folder.name, next(iter(found.values())), store)


@contextmanager
def own_store(added: Mapping[str, Any], of_hydra: bool = False) -> Iterator[dict[str, Any]]:
    """Hydra's ConfigStore with more in it, for a while; what is registered meanwhile is gone afterwards.

    Args:
        of_hydra: begin with what Hydra and its plugins have registered, and with nothing else.

    Yields:
        its content, a dict a group.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    before = store.repo
    store.repo = _merged(_merged({}, _of_hydra(before) if of_hydra else before), added)
    try:
        yield store.repo
    finally:
        store.repo = before


def _of_hydra(repository: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: node for name, node in repository.items() if isinstance(node, dict) or node.provider is not None}
    return {name: _of_hydra(node) if isinstance(node, dict) else node for name, node in named.items()}


def _merged(repository: dict[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    for name, node in added.items():
        if isinstance(node, dict):
            repository[name] = _merged(dict(repository.get(name, {})), node)
        else:
            repository[name] = node
    return repository
