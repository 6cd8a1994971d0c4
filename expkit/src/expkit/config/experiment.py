"""An experiment: the function that trains a fold, the class of its configuration, and how its results are scored."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from expkit.errors import Error, report, require
from expkit.fingerprint import Fingerprint

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
        return {name: Fingerprint().of(metric) for name, metric in self.metrics.items()}


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
