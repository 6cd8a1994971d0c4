"""001-baseline: gradient boosting on the penguins that ship with the package palmerpenguins: how heavy is a bird?

    uv run python train.py                                   # config.yaml as it stands: one fold
    uv run python train.py show_config=true                  # what would run; trains nothing
    uv run python train.py exp=001                           # the parameter set exp/001.yaml
    uv run python train.py exp=001 'exp.fold=[0,1,2,3,4]'    # five folds, then the CV score
    uv run python train.py exp=001 exp.debug=true            # a moment: does it run through?
    uv run python train.py exp=001 exp.mode=sub              # after all folds: train on all rows, write submission.csv
    uv run python train.py -m exp=001,002                    # both, one after the other

Results lie in output/001-baseline/<run>/. The same command again finishes what is missing, and trains nothing twice.
This file is light to import; the data and the model are in model.py.
"""

import statistics
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

import expkit


@dataclass
class TrainConfig:
    """LightGBM's own parameters, by its own names, and how long to train."""

    learning_rate: Annotated[float, Gt(0)] = 0.03
    num_leaves: Annotated[int, Ge(2)] = 31
    min_data_in_leaf: Annotated[int, Ge(0)] = 20  # rows
    feature_fraction: Annotated[float, Gt(0), Le(1)] = 1.0  # the share of the columns that a tree may use
    bagging_fraction: Annotated[float, Gt(0), Le(1)] = 1.0  # the share of the rows that a tree sees
    lambda_l2: Annotated[float, Ge(0)] = 0.0
    most_rounds: Annotated[int, Ge(1)] = 5000  # trees; training stops sooner, by early_stopping
    early_stopping: Annotated[int, Ge(1)] = 100  # rounds without a better error on the rows that are watched
    watched: Annotated[float, Gt(0), Lt(1)] = (
        0.2  # the share of the training rows that are watched for that; never scored
    )
    num_threads: Annotated[int, Ge(1)] = 1  # more are faster with many rows


@dataclass
class RuntimeConfig(expkit.RuntimeConfig):
    log_every: Annotated[int, Ge(1)] = 10  # rounds


@dataclass
class ExpConfig(expkit.ExpConfig):
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.debug:
            self.train.most_rounds = min(self.train.most_rounds, 20)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def rmse(oof):
    """The root of the mean squared error, in grams; `oof` maps the names below to arrays, (n,)."""
    return ((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5


def mae(oof):
    """The mean absolute error, in grams."""
    return abs(oof["target"] - oof["prediction"]).mean()


def train(exp: ExpConfig, fold: "expkit.Fold") -> None:
    """Train on all rows but those of a fold, and predict these; or on all rows, and predict the test set."""
    import model  # heavy imports wait until there is something to train

    data, test = model.load_data()
    fit_rows, valid_rows = expkit.split(exp, fold.number, id=data[model.ID], groups=data[model.GROUP])

    rounds = None  # early stopping chooses
    if fold.number is None and not exp.debug:
        rounds = round(statistics.fmean(fold.cv("rounds")))  # what it chose in the folds of this run

    booster = model.Booster(exp.train, exp.seed)
    booster.fit(data.iloc[fit_rows], fold.log, exp.runtime.log_every, rounds)  # logs to history.csv, W&B and the bar

    booster.save(fold.folder / "model.txt")
    booster.save_importance(fold.folder)
    predicted = booster.predict(test)
    fold.save_test({"id": test[model.ID], "prediction": predicted})  # for `exp submit`
    if fold.number is None:
        fold.save_submission({model.ID: test[model.ID], model.TARGET: predicted})
    else:
        valid = data.iloc[valid_rows]
        fold.save_oof({"id": valid[model.ID], "target": valid[model.TARGET], "prediction": booster.predict(valid)})
    fold.finish(rounds=booster.rounds)


experiment = expkit.Experiment(
    train,
    Config,
    metric=rmse,
    greater_is_better=False,
    other_metrics=[mae],
    inputs=[],  # no file of input/
)

if __name__ == "__main__":
    expkit.main(experiment)
