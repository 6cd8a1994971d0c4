"""An experiment: the classes of its configuration, its train.py, its parameter sets; and which values are the same."""

from __future__ import annotations

import functools
import importlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from expkit import code
from expkit.errors import Error, require
from expkit.files import text_of
from expkit.fingerprint import Ignored, metric_hash, metric_name, sounds_like_error
from expkit.project import code_root, display_path, experiment_dir

if TYPE_CHECKING:
    from expkit.tables import Columns

    Metric = Callable[[Columns], float]

Groups = Mapping[str, Mapping[str, type]]  # as of `Experiment.groups`

# The classes that every configuration builds on

METHOD, POSTPROCESS = "exp.split.method", "postprocess"
Seed = Annotated[int, Ge(0), Lt(2**32)]


class Mode(Enum):
    """What a run does."""

    cv = "cv"  # cross-validation: train the folds, predict the rows left out of each
    sub = "sub"  # submission: train on every row, predict the test set


@dataclass
class RuntimeConfig:
    """Values that change no result. They may differ between the folds of a run, and are not in its name."""

    tags: list[str] = field(default_factory=list)  # of the W&B runs
    processes: Annotated[int, Ge(1)] = 1  # that train each fold together: with -m, each job starts torchrun
    keep_state: bool = True  # the state at the end of each fold, from which exp.start_from of another run begins


class SplitMethod(Enum):
    """How `fold.split` chooses the rows of a fold."""

    kfold = "kfold"  # at random
    stratified = "stratified"  # at random, with the same share of each class in every fold
    group = "group"  # all rows of a group, such as a patient, are in one fold
    stratified_group = "stratified_group"  # both
    time = "time"  # a fold has later rows than those that are trained on
    time_group = "time_group"  # and no group of them is trained on
    column = "column"  # a column of a file names the fold


BY_TIME = (SplitMethod.time, SplitMethod.time_group)


@dataclass
class SplitConfig:
    """Which rows each fold leaves out. `exp.seed` does not change it: runs of several seeds have the same folds."""

    method: SplitMethod = SplitMethod.kfold
    seed: Seed = 42  # of the folds alone
    holdout: Annotated[float, Gt(0), Lt(1)] = 0.2  # n_folds=1: the share of the rows (groups, times) that is left out
    lockbox: Annotated[float, Ge(0), Le(0.5)] = 0.0  # the share that no fold trains on or scores, until `exp unlock`
    test_size: Annotated[int, Ge(1)] | None = None  # by time: points in time that a fold leaves out; null: equal parts
    gap: Annotated[int, Ge(0)] = 0  # by time: points in time that are skipped just before these
    min_train_size: Annotated[int, Ge(1)] = 1  # by time: points in time that a fold trains on, at least
    file: str = ""  # method=column: a CSV file below input/; `id` and `column` name its columns
    id: str = "id"
    column: str = "fold"  # whole numbers from 0 on; -1: the row is always trained on


@dataclass
class ExpConfig:
    """What every experiment has. The class of an experiment adds `train`: the values that change a result."""

    name: str = "baseline"  # the folder of the results
    n_folds: Annotated[int, Ge(1), Le(10_000)] = 5  # 1: a single split, by split.holdout
    fold: list[int] | None = None  # which folds to train; null: all of them
    split: SplitConfig = field(default_factory=SplitConfig)
    seed: Seed = 42  # of the training; the folds have one of their own
    debug: bool = False  # a quick try: one fold, no W&B, results in output/debug/
    mode: Mode = Mode.cv  # cv: cross-validation; sub: train on all rows and predict the test set
    start_from: str = ""  # a run: each fold begins with what the same fold of it has learned; "": from nothing
    time_limit: str | None = None  # for each training of a fold: 90s, 10m, 1.5h; null: none
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __class_getitem__(cls, train: type) -> type:
        """`expkit.ExpConfig[TrainConfig]`, in an annotation: tells a type checker the class of `exp.train`."""
        return cls


@dataclass
class Config:
    """The whole configuration of a command."""

    exp: ExpConfig = field(default_factory=ExpConfig)
    show_config: bool = False  # print the configuration and stop
    overwrite: bool = False  # replace the results of a run
    resume: bool = False  # go on from checkpoints of other code or data, and mark the result


def whole(cls: Any) -> Any:
    """The class of a whole configuration: `Config` with `cls`, that of `exp.train` or one derived from `ExpConfig`.

    Raises:
        Error: it is neither.
    """
    require(isinstance(cls, type) and is_dataclass(cls), f"Config of expkit.Experiment is a dataclass, not {cls!r}")
    if issubclass(cls, Config):  # an experiment that is loaded once more
        return cls
    exp = cls if issubclass(cls, ExpConfig) else _with(ExpConfig, "train", cls, cls)
    return _with(Config, "exp", exp, cls)


@functools.cache
def _with(base: Any, name: str, cls: Any, given: Any) -> type:
    """A dataclass derived from `base`, with a field of the class `cls`; `given` is the one that `whole` got."""
    open_fields = [item.name for item in fields(cls) if default_of(item) is MISSING]
    require(not open_fields, f"class {cls.__name__} in train.py: {', '.join(open_fields)} needs a default")

    def text(self: Any) -> str:
        return f"{base.__name__}({', '.join(f'{item.name}={getattr(self, item.name)!r}' for item in fields(self))})"

    own = [(name, cls, field(default_factory=cls))]
    made = make_dataclass(base.__name__, own, bases=(base,), namespace={"__repr__": text})
    made.__module__ = __name__  # where a pickle finds the class, by the name that `__getattr__` knows
    made.__qualname__ = f"{base.__name__}:{given.__module__}:{given.__qualname__}".replace(".", "/")
    return made


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """A class that `_with` has made, for a pickle: the jobs of a sweep, processes that load data."""
        base, *place = name.split(":")
        if len(place) != 2:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        made = whole(getattr(importlib.import_module(place[0].replace("/", ".")), place[1]))
        return made if base == Config.__name__ else made.__dataclass_fields__["exp"].type


# Configurations as plain values: to print and to keep


def container(config: object) -> Any:
    """A configuration, dataclasses or OmegaConf's, as plain dicts and lists that YAML and JSON can hold.

    Enums are their names, paths have /, and `${` in a text is escaped, as OmegaConf reads it back.
    """
    if is_dataclass(config) and not isinstance(config, type):
        return {item.name: container(getattr(config, item.name)) for item in fields(config)}
    if isinstance(config, Mapping):
        return {name.name if isinstance(name, Enum) else name: container(config[name]) for name in config}
    if isinstance(config, list | tuple) or type(config).__name__ == "ListConfig":
        return [container(value) for value in config]  # type: ignore[attr-defined]
    if isinstance(config, Enum):
        return config.name
    if config is None or isinstance(config, int):
        return config
    if isinstance(config, float):  # JSON has no nan; OmegaConf reads the text back
        return float(config) if math.isfinite(config) else str(float(config))
    text = config.as_posix() if isinstance(config, PurePath) else str(config)
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def flat(values: Any) -> dict[str, Any]:
    """Nested dicts, or a configuration, as {"exp.seed": 42, ...}; lists are values, a key with a dot is quoted."""
    plain = values if isinstance(values, dict) else container(values)
    return dict(leaves(plain)) if plain else {}


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The keys below `key` and their values, as of `flat`."""
    waiting = [(key, tree)]  # no recursion: a damaged file may be deep
    while waiting:
        above, branch = waiting.pop()
        if isinstance(branch, dict) and branch:
            parts = {name: name if re.fullmatch(r"[^.\[\]']+", name) else repr(name) for name in branch}
            waiting += [(f"{above}.{parts[name]}".lstrip("."), branch[name]) for name in reversed(branch)]
        else:
            yield above, branch


# An experiment

_PLAIN = (bool, int, float, str, list, dict, tuple)  # what a field without a type may hold


@dataclass(frozen=True)
class Experiment:
    """An experiment: how a fold is trained, the class of its parameters, and its metrics. The end of a train.py:

        experiment = expkit.Experiment(train, TrainConfig, metric=accuracy, greater_is_better=True)

        if __name__ == "__main__":
            expkit.main(experiment)

    Args:
        train: trains one fold: `train(exp, fold)`, with `exp` of the configuration and an `expkit.Fold`. It may return
            a dict of values to keep with the result, such as {"parameters": 1024}; those called test_... are shown on
            the board.
        Config: the dataclass of the parameters, `exp.train`; or one derived from `expkit.ExpConfig`, whose fields
            `train`, `model`, `runtime` are dataclasses. As an attribute, that of the whole configuration.
        metric: the score that decides: a function that takes the out-of-fold predictions, a dict of NumPy arrays by
            column, and returns a number. Or, for a score that needs no rows, such as the return of an agent or an FID,
            its name in what `train` returns: metric="fid" and `return {"fid": 12.3}`.
        greater_is_better: whether a higher score is better. By default True; it must be given if the name of the metric
            is that of an error, such as rmse.
        other_metrics: more metrics, for the board.
        postprocess: fits what turns predictions into others, such as a threshold or a calibration: a function of the
            out-of-fold predictions, which returns a function of a table of predictions: without targets, a dict of
            arrays; it returns the columns that it changes, or "prediction" alone. The rows of each fold are scored by
            what was fitted on the other folds; those of a single fold, by halves. "<metric>_raw" is the score without
            it. A submission has what was fitted on all folds.
        submission: makes the rows of a submission of averaged test predictions, a dict of arrays by column: returns its
            columns, in the rows of the sample submission: one per query, per box, per product and day.
        score_over: "rows": a score is the metric over all out-of-fold rows. "folds": it is the mean of the scores of
            the folds, for a metric that ranks rows, such as AUC: models of different folds may rank alike and differ in
            level.
        debug: other values of the configuration with exp.debug=true, by their keys below exp: {"train.epochs": 1}. What
            the command line names stays as it says.
        groups: choices between configuration classes, {"model": {"cnn": CNNConfig, "vit": ViTConfig}}: `model=vit`
            makes `exp.model` a ViTConfig. A group has the name of a field of exp. config.yaml names the default,
            `- model@exp.model: cnn`.
        inputs: the files of `input/` that the training reads: names of files and folders, or patterns, below input/ or
            absolute. None: all files; []: none.
        distributed: whether `train` is prepared for several processes that train one fold together, as torchrun starts
            them: it calls `torch.distributed.init_process_group` once, wraps its network in DistributedDataParallel,
            takes its share of each batch by `fold.rank` and `fold.world_size`, and gathers all predictions in rank 0.
            Every process calls `fold.log` at the same places: a study may end the run there.
        own_split: whether `train` chooses by itself which rows a fold leaves out, without `fold.split`. Then nobody
            checks that every such row is predicted.

    """

    train: Callable[[Any, Any], Mapping[str, Any] | None]
    Config: type
    metric: Metric | str
    greater_is_better: bool | None = None
    other_metrics: Sequence[Metric | str] = ()
    postprocess: Callable[[Columns], Callable[[Columns], Any]] | None = None
    submission: Callable[[Columns], Any] | None = None
    score_over: str = "rows"
    debug: Mapping[str, Any] = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)
    inputs: Sequence[str] | None = None
    distributed: bool = False
    own_split: bool = False

    def check(self) -> None:
        """Called when its train.py is loaded.

        Raises:
            Error: an argument is of another kind, two contradict each other, or `greater_is_better` is missing.
        """
        object.__setattr__(self, "Config", whole(self.Config))
        for kind in self.classes():
            loose = [name for name, value in vars(kind).items() if type(value) in _PLAIN and not name.startswith("__")]
            for name in {*loose} - vars(kind).get("__annotations__", {}).keys():
                raise Error(f"class {kind.__name__} in train.py: {name} has no type: write {name}: float = ...")
        for key in (POSTPROCESS, "submission"):
            value = getattr(self, key)
            require(value is None or callable(value), f"{key} in expkit.Experiment must be a function, not {value!r}")
        names = [metric_name(metric) for metric in (self.metric, *self.other_metrics)]
        require(len(set(names)) == len(names), f"two metrics have the same name: {', '.join(names)}")
        kinds = {isinstance(metric, str) for metric in (self.metric, *self.other_metrics)}
        require(len(kinds) == 1, "the metrics of an experiment are all functions, or all names of what train() returns")
        if self.is_scored_by_train:
            require(self.postprocess is None, "postprocess in expkit.Experiment needs metrics that are functions")
            object.__setattr__(self, "score_over", "folds")
        require(not isinstance(self.inputs, str), f"inputs in expkit.Experiment is a list: inputs=[{self.inputs!r}]")
        require(self.score_over in ("rows", "folds"), f'score_over must be "rows" or "folds", not {self.score_over!r}')
        keys = {item.name for kind in self.classes() for item in fields(kind)}
        for group in self.groups:
            require(group in keys, f"groups in expkit.Experiment: exp.{group} is no field of its configuration")
        if self.greater_is_better is None:
            question = f"is a lower {names[0]} better? Say greater_is_better=False (or True) in expkit.Experiment"
            require(not sounds_like_error(names[0]), question)
            object.__setattr__(self, "greater_is_better", True)
        greater = f"greater_is_better in expkit.Experiment must be True or False, not {self.greater_is_better!r}"
        require(isinstance(self.greater_is_better, bool), greater)

    def classes(self) -> set[Any]:
        """The dataclasses of its configuration: those of the defaults, of the choices, and above these."""
        found: set[Any] = set()
        waiting: set[Any] = {self.Config, *(one for each in self.groups.values() for one in each.values())}
        while waiting:
            one = waiting.pop()
            if isinstance(one, type) and is_dataclass(one) and one not in found:
                found.add(one)
                waiting |= {item.default_factory for item in fields(one)} | {*one.__mro__}
        return found

    def choices(self, config: Any) -> dict[str, str]:
        """Which class of each of the `groups` a configuration has: {"model": "vit"}.

        Args:
            config: an object of `Config`.
        """
        known = [(group, name, one) for group, classes in self.groups.items() for name, one in classes.items()]
        return {group: name for group, name, one in known if type(getattr(config.exp, group)) is one}

    def values(self, config: Any) -> dict[str, Any]:
        """A configuration as a run records it, {"exp": {...}, "choices": {...}}; "choices" where it has some.

        Args:
            config: an object of `Config`.
        """
        choices = self.choices(config)
        return {"exp": container(config.exp)} | ({"choices": choices} if choices else {})

    def data(self, config: Mapping[str, Any]) -> Sequence[str] | None:
        """What a training reads, in the form of `inputs`; with the file that says which fold a row is in.

        Args:
            config: of the training, as from `flat`.
        """
        is_by_file = self.inputs is not None and config.get(METHOD) == SplitMethod.column.name
        return [*(self.inputs or ()), str(config["exp.split.file"])] if is_by_file else self.inputs

    @property
    def is_scored_by_train(self) -> bool:
        """Whether `train` returns the scores, and no function computes them from predictions."""
        return isinstance(self.metric, str)

    @property
    def metrics(self) -> dict[str, Any]:
        """Every metric by its name, the one that decides first: functions; or names, `is_scored_by_train`."""
        return {metric_name(metric): metric for metric in (self.metric, *self.other_metrics)}

    def raw(self, name: str) -> str:
        """What a metric is called of predictions before `postprocess`.

        Args:
            name: of the metric; returned as it is where nothing is postprocessed.
        """
        return name if self.postprocess is None else f"{name}_raw"

    @functools.cached_property
    def made_by(self) -> dict[str, str]:
        """What the metrics and `postprocess` do, as hashes by name, as they were when this was first asked."""
        known = (self.metrics | ({POSTPROCESS: self.postprocess} if self.postprocess else {})).items()
        return {name: metric if isinstance(metric, str) else metric_hash(metric) for name, metric in known}

    @functools.cached_property
    def opened(self) -> dict[str, dict[str, str]]:
        """The project's files that the metrics and `postprocess` have opened: by name, the path and a hash of each."""
        return {name: {} for name in (*self.metrics, POSTPROCESS)}

    @property
    def scoring(self) -> dict[str, Any]:
        """How it has scored its runs, as cv.json has it."""
        return self._scoring(self.opened)

    def _scoring(self, opened: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        made_by = dict(self.made_by)
        for name in made_by:
            if found := opened.get(name):  # the same in two experiments
                made_by[name] += "".join(f" {digest}" for _, digest in sorted(found.items()))
        opens = {name: sorted(found) for name, found in opened.items() if found}
        own = {"greater_is_better": self.greater_is_better, "score_over": self.score_over}
        return {"metric": next(iter(self.metrics)), **own, "made_by": made_by, **({"opens": opens} if opens else {})}

    def has_scored(self, cv: Mapping[str, Any] | None) -> bool:
        """Whether it would compute the scores of a run in the same way now.

        Args:
            cv: the content of its cv.json; None: there is none.
        """
        if cv is None:
            return False
        opened = {
            name: {file: code.content_hash(file) for file in found} for name, found in cv.get("opens", {}).items()
        }
        return {**cv, **self._scoring(opened)} == cv


# Importing an experiment


@dataclass(frozen=True)
class Loaded:
    """An experiment that is imported from `experiments/<name>/train.py`."""

    name: str
    experiment: Experiment
    store: Mapping[str, Any]  # what its modules have put into Hydra's ConfigStore

    @property
    def folder(self) -> Path:
        return code_root() / "experiments" / self.name

    @functools.cached_property
    def ignored(self) -> Ignored:
        """The names in the project's files that mean nothing for a training, or whose values are compared instead."""
        module = code.load_module(self.name)
        names = {str(module.__file__): {key for key, value in vars(module).items() if value is self.experiment}}
        for kind in self.experiment.classes():
            if file := code.home(kind):
                own = [*(item.name for item in fields(kind)), "__post_init__"]
                names.setdefault(file, set()).update(f"{kind.__name__}.{name}" for name in own)
        return {Path(file).relative_to(code_root()).as_posix(): frozenset(found) for file, found in names.items()}


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
    with code.own_store({}) as store:
        module = code.load_module(folder.name)
    found = {id(value): value for value in vars(module).values() if isinstance(value, Experiment)}
    file, end = display_path(folder / "train.py"), "experiment = expkit.Experiment(train, TrainConfig, metric=...)"
    require(len(found) == 1, f"{file} must define one experiment, and defines {len(found)}: end it with {end}")
    experiment = next(iter(found.values()))
    experiment.check()
    return Loaded(folder.name, experiment, store)


# Parameter sets: the files in exp/

DEFAULT = "default"  # config.yaml alone


def parameter_sets(folder: Path) -> list[str]:
    """The names of an experiment's parameter sets; "default" is config.yaml alone."""
    return [DEFAULT, *sorted(file.stem for file in folder.glob("exp/*.yaml") if file.is_file())]


def chosen(overrides: Sequence[str]) -> str:
    """Which parameter set a command line names."""
    names = [override.removeprefix("exp=").strip("'\"") for override in overrides if override.startswith("exp=")]
    return names[-1].removesuffix(".yaml") if names else DEFAULT


def name_of(folder: Path, parameter_set: str) -> str | None:
    """The `name` that the file of a parameter set gives, as it is written: 003 is no number; None: it gives none."""
    import yaml

    text = text_of(file_of(folder, parameter_set))
    is_whole = parameter_set == DEFAULT or re.match(r"(\s*#.*\n)*\s*#\s*@package\s+_global_", text)
    try:
        node = node_at(text, ["exp", "name"] if is_whole else ["name"])
    except (ValueError, yaml.YAMLError, RecursionError):
        return None
    return node.value if isinstance(node, yaml.ScalarNode) else None


def node_at(text: str, keys: Sequence[str]) -> Any:
    """What stands in a YAML text at a key, which is that of the mapping at the keys before it; None: nothing does."""
    import yaml

    node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return node


ID = re.compile(r"^# From .* by the id ([0-9a-f]{8})\.\n", re.M)  # as `exp new` writes it


def id_of(folder: Path, parameter_set: str) -> str | None:
    """What stays the same when the file of a parameter set and the `name` in it change; None: it has none."""
    match = ID.search(text_of(file_of(folder, parameter_set)))
    return match and match[1]


def refuse_shared_name(folder: Path, parameter_set: str | None, name: str) -> None:
    """Two parameter sets with one name would share a folder of results; None: it may be that of any.

    Raises:
        Error: another parameter set has this name.
    """
    sharing = [] if parameter_set is None else [file_of(folder, parameter_set)]
    for other in parameter_sets(folder):
        file = file_of(folder, other)
        if other != parameter_set and name in text_of(file) and name_of(folder, other) == name:  # most need no parser
            sharing.append(file)
    if len(sharing) > 1:
        mine, theirs = map(display_path, sharing[:2])
        raise Error(f"{theirs} has the name {name!r} too, and would share the output folder with {mine}: change one")


def file_of(folder: Path, parameter_set: str) -> Path:
    """The YAML file of a parameter set."""
    return folder / ("config.yaml" if parameter_set == DEFAULT else f"exp/{parameter_set}.yaml")


# Whether two configurations are the same

# Keys that change no result, whatever is below them: not compared, and in no name of a run.
_OF_EXP = ("exp.name", "exp.fold", "exp.mode", "exp.debug", "exp.time_limit", "exp.runtime")
NOT_COMPARED = (*_OF_EXP, "show_config", "overwrite", "resume")
_ABSENT = "(not set)"


def changes(old: Mapping[str, Any], config: Any, experiment: Experiment) -> dict[str, tuple[object, object]]:
    """The recorded values of a run, and those of a configuration, where they differ.

    A key that the older one lacks and that has its dataclass default now is no difference. The class of each group is
    compared, too, as two classes may have the same fields.
    """
    before, after = compared(old), compared(experiment.values(config))
    for key, default in _defaults(config):
        if not any(each == key or each.startswith(f"{key}.") or key.startswith(f"{each}.") for each in before):
            before |= {each: value for each, value in leaves(default, key) if is_compared(each)}
    pairs = {key: (before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in {**before, **after}}
    return {key: pair for key, pair in pairs.items() if not same(*pair)}


def differences(old: Mapping[str, Any], config: Any, experiment: Experiment) -> list[str]:
    """The `changes` of a run, as "key: old → new"; [] when there are none."""
    pairs = changes(old, config, experiment).items()
    return [f"{key}: {str(one) or repr(one)} → {str(other) or repr(other)}" for key, (one, other) in pairs]


def _defaults(config: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a configuration, each with the plain default that its field has in the class that is chosen."""
    for item in fields(config):
        key, value, default = f"{above}{item.name}", getattr(config, item.name), default_of(item)
        if is_dataclass(value):
            yield from _defaults(value, f"{key}.")
        elif default is not MISSING:
            plain, own = container(default), container(value)
            yield key, own if own == plain else plain  # `rate: float = 0` is recorded as 0.0


def compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of recorded values makes another configuration, as of `flat`."""
    return {key: value for key, value in flat(dict(values)).items() if is_compared(key)}


def is_compared(key: str) -> bool:
    """Whether two configurations that differ in this key are different."""
    return not key.startswith(NOT_COMPARED) or not any(key == one or key.startswith(f"{one}.") for one in NOT_COMPARED)


def default_of(item: Field[Any]) -> Any:
    """The default of a field of a dataclass; `MISSING`: it has none."""
    return item.default_factory() if item.default_factory is not MISSING else item.default


def same(old: object, new: object) -> bool:
    """Whether two plain values are equal: of the same type, too; NaN is equal to itself."""
    return old is new or json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
