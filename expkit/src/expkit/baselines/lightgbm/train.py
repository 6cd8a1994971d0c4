"""001-baseline: gradient boosting on the penguins that ship with the package palmerpenguins: how heavy is a bird?

    uv run python train.py exp=001 exp.fold=null             # all folds, then the CV score
    uv run python train.py exp=001 exp.mode=sub              # after all folds: train on all rows, write submission.csv

Results lie in output/001-baseline/<run>/. The same command again finishes what is missing, and trains nothing twice.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

import expkit


@dataclass
class TrainConfig:  # LightGBM's own parameters, by its own names; the last three say how long to train
    learning_rate: Annotated[float, Gt(0)] = 0.03
    num_leaves: Annotated[int, Ge(2)] = 31
    min_data_in_leaf: Annotated[int, Ge(0)] = 20  # rows
    feature_fraction: Annotated[float, Gt(0), Le(1)] = 1.0  # of the columns, for a tree
    bagging_fraction: Annotated[float, Gt(0), Le(1)] = 1.0  # of the rows, for a tree
    lambda_l2: Annotated[float, Ge(0)] = 0.0
    num_threads: Annotated[int, Ge(1)] = 1  # more are faster with many rows
    most_rounds: Annotated[int, Ge(1)] = 5000  # trees; training stops sooner, by early_stopping
    early_stopping: Annotated[int, Ge(1)] = 100  # rounds without a better error on the rows that are watched
    watched: Annotated[float, Gt(0), Lt(1)] = 0.2  # the share of the training rows that is watched; never scored


def rmse(oof):
    """The root of the mean squared error, in grams; `oof` maps the names of the saved columns to arrays, (n,)."""
    return ((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5


def train(exp: "expkit.ExpConfig[TrainConfig]", fold: "expkit.Fold"):
    """Train on the rows outside a fold, or with exp.mode=sub on all; predict the rows of the fold and the test set."""
    import model  # heavy imports wait until there is something to train

    data, test = model.load_data()
    groups = data[model.GROUP]  # kept: rows of one group are no independent evidence for exp diff
    rows = fold.split(id=data[model.ID], y=data[model.TARGET], groups=groups, keep={"group": groups})  # by exp.split
    rounds = fold.cv("rounds")  # None: early stopping chooses; on all rows, the mean of what it chose in the folds
    trees = model.fit(exp.train, data.iloc[rows.train], exp.seed, rounds, fold.log)

    trees.save_model(fold.folder / "model.txt")
    model.save_importance(trees, fold.folder / "importance.png")
    fold.predict(partial(model.predict, trees), data, test=test, test_id=test[model.ID])
    return {"rounds": rounds or trees.best_iteration}


# debug: with exp.debug=true; inputs: the files of input/ that it reads
experiment = expkit.Experiment(
    train, TrainConfig, metric=rmse, greater_is_better=False, debug={"train.most_rounds": 20}, inputs=[]
)

if __name__ == "__main__":
    expkit.main(experiment)
