"""The classes that every configuration builds on, and configurations as plain values: to print and to keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from expkit.errors import require

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
