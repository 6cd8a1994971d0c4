"""An experiment: the function that trains a fold, the class of its configuration, and how its results are scored."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import codehash, modules
from expkit.errors import Error, report, require
from expkit.paths import code_root, experiment_dir, shown

if TYPE_CHECKING:
    from expkit.tables import Columns

    Metric = Callable[[Columns], float]

# What a name says when a lower score is better.
_ERRORS = (
    r"(^|_)(r?mse|rmsle|mae|mape|smape|medae|mad|log_?loss|loss|brier|error|err|nll|cross_?entropy|pinball|perplexity|"
    r"deviance|distance|wer|cer)(_|$)"
)


@dataclass(frozen=True)
class Experiment:
    """An experiment: how a fold is trained, the class of its configuration, and its metrics. The end of a train.py:

        experiment = expkit.Experiment(train, Config, metric=accuracy, greater_is_better=True)

        if __name__ == "__main__":
            expkit.main(experiment)

    Args:
        train: trains one fold: `train(exp, fold)`, with `exp` of the configuration and an `expkit.Fold`. It ends with
            `fold.finish()`.
        Config: the dataclass of the whole configuration, derived from `expkit.Config`.
        metric: takes the out-of-fold predictions, a dict of NumPy arrays by column, (n,) or (n, k), and returns a
            number: the score that decides.
        greater_is_better: whether a higher score is better. By default True; it must be given if the name of the metric
            is that of an error, such as rmse.
        other_metrics: more metrics, for the board.
        groups: choices between configuration classes, {"model": {"cnn": CNNConfig, "vit": ViTConfig}}: `model=vit`
            makes `exp.model` a ViTConfig. config.yaml names the default, `- model@exp.model: cnn`.
        inputs: the files of `input/` that the training reads: names of files and folders, or patterns, below input/ or
            absolute. None: all files; []: none.
        distributed: whether `train` is prepared for several processes that train one fold together, as torchrun starts
            them: it calls `torch.distributed.init_process_group` once, wraps its network in DistributedDataParallel,
            takes its share of each batch by `fold.rank` and `fold.world_size`, and gathers all predictions in rank 0.

    Raises:
        Error: a metric has no name, two have the same name, or `greater_is_better` is missing for an error.
    """

    train: Callable[[Any, Any], None]
    Config: type
    metric: Metric
    greater_is_better: bool | None = None
    other_metrics: Sequence[Metric] = ()
    groups: Mapping[str, Mapping[str, type]] = field(default_factory=dict)
    inputs: Sequence[str] | None = None
    distributed: bool = False

    def __post_init__(self) -> None:
        try:
            self._check()
        except Error as error:
            frame = inspect.currentframe()
            caller = frame.f_back.f_back if frame and frame.f_back else None  # beyond the __init__ of a dataclass
            names = caller.f_globals if caller else {}
            if names.get("__name__") == "__main__" and str(names.get("__file__")).endswith("train.py"):
                sys.exit(report(error))  # expkit.main, which would say it in one line, comes later in train.py
            raise

    def _check(self) -> None:
        names = [metric_name(metric) for metric in (self.metric, *self.other_metrics)]
        require(len(set(names)) == len(names), f"two metrics have the same name: {', '.join(names)}")
        require(not isinstance(self.inputs, str), f"inputs in expkit.Experiment is a list: inputs=[{self.inputs!r}]")
        if self.greater_is_better is None:
            require(
                not sounds_like_error(names[0]),
                f"is a lower {names[0]} better? Say greater_is_better=False (or True) in expkit.Experiment",
            )
            object.__setattr__(self, "greater_is_better", True)
        require(
            isinstance(self.greater_is_better, bool),
            f"greater_is_better in expkit.Experiment must be True or False, not {self.greater_is_better!r}",
        )

    def choices(self, config: Any) -> dict[str, str]:
        """Which class of the `groups` is where in a configuration: {"model": "vit"}, keys below exp.

        Args:
            config: an object of `Config`.
        """
        names = {one: name for classes in self.groups.values() for name, one in classes.items()}
        found: dict[str, str] = {}
        waiting = [("", config.exp)]
        while waiting:
            key, part = waiting.pop()
            if type(part) in names:
                found[key] = names[type(part)]
            inner = [(item.name, getattr(part, item.name)) for item in fields(part)]
            waiting += [(f"{key}.{name}" if key else name, value) for name, value in inner if is_dataclass(value)]
        return found

    def data(self, fold_file: str) -> Sequence[str] | None:
        """What a training reads, in the form of `inputs`.

        Args:
            fold_file: the file that says which fold a row is in, which is read, too; "": there is none.
        """
        return [*self.inputs, fold_file] if self.inputs is not None and fold_file else self.inputs

    def stands_in_exp(self, group: str) -> bool:
        """Whether a group is for the field of `exp` that has its name.

        Args:
            group: a key of `groups`.
        """
        exp = next((item.default_factory for item in fields(self.Config) if item.name == "exp"), None)
        return group in self.groups and is_dataclass(exp) and any(item.name == group for item in fields(exp))

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric by its name, the one that decides first."""
        return {metric_name(metric): metric for metric in (self.metric, *self.other_metrics)}


def sounds_like_error(name: str) -> bool:
    """Whether a name says that a lower value is better."""
    return re.search(_ERRORS, name, re.IGNORECASE) is not None


def metric_name(metric: Any) -> str:
    """The name of a function, also under `functools.partial`, or of the class of a callable object.

    Raises:
        Error: it has none, as a lambda.
    """
    require(callable(metric), f"a metric must be a function, not {metric!r}")
    while isinstance(metric, functools.partial):
        metric = metric.func
    name = getattr(metric, "__name__", type(metric).__name__)
    require(name.isidentifier(), f"a metric needs a name: write `def`, not {name}")
    return str(name)


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
    def unused(self) -> codehash.Unused:
        """The names in its files that train nothing: classes of the configuration, metrics."""
        found: dict[str, set[str]] = {}
        thing: Any
        choices = [one for classes in self.experiment.groups.values() for one in classes.values()]
        bases = [base for one in choices for base in one.__mro__[1:-1]]
        configs = [found for root in (self.experiment.Config, *choices, *bases) for found in _config_classes(root)]
        for thing in (*configs, *self.experiment.metrics.values()):
            while isinstance(thing, functools.partial):
                thing = thing.func
            try:
                file = Path(inspect.getfile(thing)).resolve()
            except TypeError:
                continue
            if file.is_relative_to(code_root()) and hasattr(thing, "__name__"):
                found.setdefault(file.relative_to(code_root()).as_posix(), set()).add(thing.__name__)
        return {path: frozenset(names) for path, names in found.items()}


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
        modules.forget(name)
        _load.cache_clear()
    return _load(experiment_dir(name))


@functools.lru_cache(maxsize=512)
def _load(folder: Path) -> Loaded:
    with own_store({}, of_hydra=True) as store:  # as __main__, train.py may have stored the same: Hydra 1.5 refuses it
        module = modules.load(folder.name)
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
