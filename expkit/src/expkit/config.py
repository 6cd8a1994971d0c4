"""The configuration of an experiment: its classes, its values, the files it is written in, and what is the same."""

from __future__ import annotations

import functools
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from expkit import code
from expkit.errors import Error, NotFound, report, require
from expkit.files import read_bytes
from expkit.fingerprint import Ignored, metric_hash
from expkit.project import code_root, display_path, experiment_dir, output_dir

# The classes that every configuration builds on

METHOD = "exp.split.method"
ITEMS = "$items"  # a dict whose keys are no text, as JSON has it: a list of pairs


class Mode(Enum):
    """What a run does."""

    cv = "cv"  # cross-validation: train the folds, predict the rows left out of each
    sub = "sub"  # submission: train on every row, predict the test set


@dataclass
class RuntimeConfig:
    """Values that change no result. They may differ between the folds of a run, and are not in its name."""

    tags: list[str] = field(default_factory=list)  # of the W&B runs


class SplitMethod(Enum):
    """How `expkit.split` chooses the rows of a fold."""

    kfold = "kfold"  # at random
    stratified = "stratified"  # at random, with the same share of each class in every fold
    group = "group"  # all rows of a group, such as a patient, are in one fold
    stratified_group = "stratified_group"  # both
    time = "time"  # a fold has later rows than those that are trained on
    column = "column"  # a column of a file names the fold


@dataclass
class SplitConfig:
    """Which rows each fold leaves out. `exp.seed` does not change it: runs of several seeds have the same folds."""

    method: SplitMethod = SplitMethod.kfold
    seed: int = 42  # of the folds alone
    holdout: float = 0.2  # n_folds=1: the share of the rows (groups, times) that is left out
    gap: int = 0  # method=time: how many times just before the rows left out are not trained on
    file: str = ""  # method=column: a CSV file below input/, with the columns that the next two name
    id: str = "id"
    column: str = "fold"  # whole numbers from 0 on; -1: the row is always trained on


@dataclass
class ExpConfig:
    """What every experiment has. The class of an experiment adds `train`: the values that change a result."""

    name: str = "baseline"  # the folder of the results
    n_folds: int = 5  # 1: a single split, by split.holdout
    fold: list[int] | None = None  # which folds to train; null: all of them
    split: SplitConfig = field(default_factory=SplitConfig)
    seed: int = 42  # of the training; the folds have one of their own
    debug: bool = False  # a quick try: one fold, no W&B, results in output/debug/
    mode: Mode = Mode.cv  # cv: cross-validation; sub: train on all rows and predict the test set
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check(self)


@dataclass
class Config:
    """The whole configuration of a command."""

    exp: ExpConfig = field(default_factory=ExpConfig)
    show_config: bool = False  # print the configuration and stop
    overwrite: bool = False  # replace the results of a run
    resume: bool = False  # go on from checkpoints of other code or data, and mark the result


def check(exp: ExpConfig) -> None:
    """Check the fields that every experiment has.

    Raises:
        Error: a value that no run can have; the message names its key.
    """
    name = exp.name
    require(
        re.fullmatch(r"\w[\w.+-]*", name) is not None and not name.endswith(".") and len(name) <= 64,
        f"exp.name must have 1 to 64 letters, digits and . _ + -, and begin with a letter or digit, not {name!r}",
    )
    require(1 <= exp.n_folds <= 10_000, f"exp.n_folds must be from 1 to 10000, not {exp.n_folds}")
    _check_split(exp.split)
    if exp.fold is not None:
        folds, last = exp.fold, exp.n_folds - 1
        require(len(folds) > 0, "exp.fold must name at least one fold, as in 'exp.fold=[0]'; it is empty")
        for fold in folds:
            require(0 <= fold <= last, f"exp.fold must be from 0 to {last} (exp.n_folds - 1), not {fold}")
        require(len(set(folds)) == len(folds), f"exp.fold names a fold twice: {folds}")
    require(0 <= exp.seed < 2**32, f"exp.seed must be from 0 to 2**32 - 1, not {exp.seed}")


def _check_split(split: SplitConfig) -> None:
    share, file = split.holdout, PurePath(split.file)
    require(0 < share < 1, f"exp.split.holdout is a share of the rows, between 0 and 1, not {share}")
    if split.method is SplitMethod.stratified_group:
        require(share <= 0.5, f"exp.split.holdout must be at most 0.5 with {METHOD}=stratified_group, not {share}")
    require(0 <= split.seed < 2**32, f"exp.split.seed must be from 0 to 2**32 - 1, not {split.seed}")
    require(split.gap >= 0, f"exp.split.gap must be at least 0, not {split.gap}")
    is_time, is_column = split.method is SplitMethod.time, split.method is SplitMethod.column
    require(is_time or not split.gap, f"exp.split.gap={split.gap} is only for {METHOD}=time: set it to 0")
    require(not is_column or bool(split.file), f"{METHOD}=column needs exp.split.file, a CSV file below input/")
    is_below = not file.is_absolute() and ".." not in file.parts
    require(is_below, f"exp.split.file is a CSV file below input/, such as folds.csv, not {split.file}")


def fold_file(config: Mapping[str, Any]) -> str:
    """The file below input/ that says which fold a row is in; "" when none does. `config` is as from `flat`."""
    return str(config.get("exp.split.file", "")) if config.get(METHOD) == SplitMethod.column.name else ""


def name_folds(exp: ExpConfig) -> None:
    """Let `fold` be the list of the folds to train: all of them where it is None, one when debugging.

    When the configuration is whole, not in `__post_init__`: of the defaults, that knows another n_folds.
    """
    folds = list(range(exp.n_folds)) if exp.fold is None else exp.fold
    exp.fold = folds[:1] if exp.debug else folds


# As plain values


def container(config: object) -> Any:
    """A configuration, dataclasses or OmegaConf's, as plain dicts and lists that YAML and JSON can hold.

    Enums are their names, paths have /, and `${` in a text is escaped, as OmegaConf reads it back.
    """
    if is_dataclass(config) and not isinstance(config, type):
        return {item.name: container(getattr(config, item.name)) for item in fields(config)}
    if isinstance(config, Mapping):
        plain = {name.name if isinstance(name, Enum) else name: container(config[name]) for name in config}
        if all(isinstance(name, str) for name in plain) and ITEMS not in plain:
            return plain
        return {ITEMS: [[name, value] for name, value in plain.items()]}
    if isinstance(config, list | tuple) or type(config).__name__ == "ListConfig":
        return [container(value) for value in config]  # type: ignore[attr-defined]
    if isinstance(config, Enum):
        return config.name
    if config is None:
        return None
    if isinstance(config, float) and not math.isfinite(config):
        return str(float(config))  # JSON has no nan; OmegaConf reads the text back
    for kind in (bool, int, float):
        if isinstance(config, kind):
            return kind(config)
    text = config.as_posix() if isinstance(config, PurePath) else str(config)
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def restored(values: Any) -> Any:
    """What `container` made of a configuration, with the keys as they were."""
    if isinstance(values, dict):
        if list(values) == [ITEMS]:
            return {name: restored(value) for name, value in values[ITEMS]}
        return {name: restored(value) for name, value in values.items()}
    return [restored(value) for value in values] if isinstance(values, list) else values


def flat(values: Any) -> dict[str, Any]:
    """Nested dicts, or a configuration, as {"exp.seed": 42, ...}; lists are values, a key with a dot is quoted."""
    plain = values if isinstance(values, dict) else container(values)
    return dict(_leaves(plain)) if plain else {}


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    waiting = [("", tree)]
    while waiting:
        key, branch = waiting.pop()
        if isinstance(branch, dict) and branch and ITEMS not in branch:
            names = {name: name if re.fullmatch(r"[^.\[\]']+", str(name)) else repr(name) for name in branch}
            waiting += [
                (f"{key}.{names[name]}" if key else str(names[name]), branch[name]) for name in reversed(branch)
            ]
        else:
            yield key, branch


# An experiment

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
        score_over: "rows": a score is the metric over all out-of-fold rows. "folds": it is the mean of the scores of
            the folds, for a metric that ranks rows, such as AUC: models of different folds may rank alike and differ in
            level.
        groups: choices between configuration classes, {"model": {"cnn": CNNConfig, "vit": ViTConfig}}: `model=vit`
            makes `exp.model` a ViTConfig. config.yaml names the default, `- model@exp.model: cnn`.
        inputs: the files of `input/` that the training reads: names of files and folders, or patterns, below input/ or
            absolute. None: all files; []: none.
        distributed: whether `train` is prepared for several processes that train one fold together, as torchrun starts
            them: it calls `torch.distributed.init_process_group` once, wraps its network in DistributedDataParallel,
            takes its share of each batch by `fold.rank` and `fold.world_size`, and gathers all predictions in rank 0.
        own_split: whether `train` chooses by itself which rows a fold leaves out, without `expkit.split`. Then nobody
            checks that every such row is predicted.

    Raises:
        Error: a metric has no name, two have the same name, or `greater_is_better` is missing for an error.
    """

    train: Callable[[Any, Any], None]
    Config: type
    metric: Metric
    greater_is_better: bool | None = None
    other_metrics: Sequence[Metric] = ()
    score_over: str = "rows"
    groups: Mapping[str, Mapping[str, type]] = field(default_factory=dict)
    inputs: Sequence[str] | None = None
    distributed: bool = False
    own_split: bool = False

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
        require(
            self.score_over in ("rows", "folds"),
            f'score_over in expkit.Experiment must be "rows" or "folds", not {self.score_over!r}',
        )
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

    @functools.cached_property
    def made_by(self) -> dict[str, str]:
        """What the metrics do, as hashes by name, as they were when this was first asked."""
        return {name: metric_hash(metric) for name, metric in self.metrics.items()}


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


# Importing an experiment


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
    def ignored(self) -> Ignored:
        """The names in the project's files that mean nothing for a training, or whose values are compared instead."""
        module = code.load(self.name)
        names = {str(module.__file__): {key for key, value in vars(module).items() if value is self.experiment}}
        choices = [one for classes in self.experiment.groups.values() for one in classes.values()]
        bases = [base for one in choices for base in one.__mro__[1:-1]]
        for kind in [found for root in (self.experiment.Config, *choices, *bases) for found in _config_classes(root)]:
            if file := code.home(kind):
                own = [*(item.name for item in fields(kind)), "__post_init__"]
                names.setdefault(file, set()).update(f"{kind.__name__}.{name}" for name in own)
        return {Path(file).relative_to(code_root()).as_posix(): frozenset(found) for file, found in names.items()}


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
            f"{display_path(folder / 'train.py')} must define one experiment, and defines {len(found)}: end it with "
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


# Parameter sets: the files in exp/

DEFAULT = "default"  # config.yaml alone


def parameter_sets(folder: Path) -> list[str]:
    """The names of an experiment's parameter sets; "default" is config.yaml alone."""
    return [DEFAULT, *sorted(file.stem for file in folder.glob("exp/*.yaml"))]


def chosen(overrides: Sequence[str]) -> str:
    """Which parameter set a command line names."""
    names = [override.removeprefix("exp=").strip("'\"") for override in overrides if override.startswith("exp=")]
    return names[-1].removesuffix(".yaml") if names else DEFAULT


def require_files(folder: Path, overrides: Sequence[str]) -> None:
    """Raise an `Error` when what a command line composes is a folder, a pipe or a device: Hydra would wait for it."""
    for file in (_file(folder, name) for name in (DEFAULT, chosen(overrides))):
        require(
            not os.path.lexists(file) or os.path.isfile(file), f"{display_path(file)} is not a file, or leads to none"
        )


def name_of(folder: Path, parameter_set: str) -> str | None:
    """The `name` that the file of a parameter set gives, as it is written: 003 is no number; None: it gives none.

    Args:
        folder: of the experiment.
    """
    file = _file(folder, parameter_set)
    try:
        text = read_bytes(file).decode()
        is_whole = parameter_set == DEFAULT or re.match(r"(\s*#.*\n)*\s*#\s*@package\s+_global_", text)
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # the concern of whoever wants to run it
        return None
    for key in ["exp", "name"] if is_whole else ["name"]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return node.value if isinstance(node, yaml.ScalarNode) else None


def written_name(folder: Path, parameter_set: str, composed: str) -> str:
    """`exp.name` as it is written in YAML, where Hydra has read it as a number: `name: 003` is "003", not "3"."""
    for each in dict.fromkeys([parameter_set, DEFAULT]):
        written = name_of(folder, each)
        if written is not None:
            return written if composed in _readings(written) else composed
    return composed


def _readings(written: str) -> set[str]:
    """What a scalar of YAML may have become: OmegaConf reads more as numbers than PyYAML does, such as 1e3."""
    found = set()
    for read in (yaml.safe_load, float):
        with suppress(ValueError, yaml.YAMLError):
            found.add(str(read(written)))
    return found


def refuse_shared_name(folder: Path, parameter_set: str | None, name: str) -> None:
    """Two parameter sets with one name would share a folder of results.

    Args:
        folder: of the experiment.
        parameter_set: whose name it is; None: nobody knows, and it may be that of one.
        name: `exp.name` of the configuration.

    Raises:
        Error: another parameter set has this name.
    """
    for other in parameter_sets(folder):
        file = _file(folder, other)
        try:
            may_be = other != parameter_set and name in read_bytes(file).decode()  # most need no parser
        except (OSError, ValueError):
            continue
        if not may_be or name_of(folder, other) != name:
            continue
        if parameter_set is None:
            parameter_set = other
        else:
            if parameter_set.removesuffix(".yaml") == other:
                raise NotFound(f"exp={parameter_set}: without .yaml, exp={other}")
            mine = _file(folder, parameter_set)
            raise Error(
                f"{display_path(file)} has the name {name!r} too, and would share the output folder with "
                f"{display_path(mine)}: give one of them another name"
            )


def _file(folder: Path, parameter_set: str) -> Path:
    return folder / ("config.yaml" if parameter_set == DEFAULT else f"exp/{parameter_set}.yaml")


# Whether two configurations are the same

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
    from expkit import store

    found = {runs.run: runs.current(versions) for runs, versions in store.runs_of(output_dir() / experiment)}
    infos = {run: store.read_run_info(folder) for run, folder in found.items() if folder is not None}
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
