"""001-baseline: a small neural network on the handwritten digits that ship with scikit-learn.

    uv run python train.py                                   # config.yaml as it stands: one fold
    uv run python train.py show_config=true                  # what would run; trains nothing
    uv run python train.py exp=001                           # the parameter set exp/001.yaml
    uv run python train.py exp=001 'exp.fold=[0,1,2,3,4]'    # five folds, then the CV score
    uv run python train.py exp=001 exp.debug=true            # seconds: does it run through?
    uv run python train.py exp=001 exp.mode=sub              # train on all rows, write submission.csv
    uv run python train.py -m exp=001,002                    # both, one after the other

Results lie in output/001-baseline/<run>/. The same command again finishes what is missing, and trains nothing twice.
This file is light to import; the data and the network are in model.py.
"""

import math
from dataclasses import dataclass, field
from enum import Enum
from statistics import fmean
from typing import Any

import expkit

MOST_FOLDS = 139  # the rarest digit has as many rows to train on, and each fold gets one


class BaseModel(Enum):
    """The sizes of the hidden layers, in units."""

    small = (64,)
    large = (256,)


@dataclass
class TrainConfig:
    base_model: BaseModel = BaseModel.small
    epoch: int = 30  # passes over the training rows
    batch_size: int = 32  # rows
    learning_rate: float = 1e-3  # of Adam

    def __post_init__(self) -> None:
        expkit.require(self.epoch >= 1, f"exp.train.epoch must be at least 1, not {self.epoch}")
        expkit.require(self.batch_size >= 1, f"exp.train.batch_size must be at least 1, not {self.batch_size}")
        expkit.require(
            0 < self.learning_rate < math.inf,
            f"exp.train.learning_rate must be a positive number, not {self.learning_rate}",
        )


@dataclass
class ExpConfig:
    name: str = "baseline"  # the folder of the results
    n_folds: int = 5
    fold: list[int] | None = None  # which folds to train; null: all of them
    seed: int = 42
    debug: bool = False  # one fold, one epoch, few rows, no W&B, output/debug/
    mode: expkit.Mode = expkit.Mode.cv  # cv: cross-validation; sub: train on all rows and predict the test set
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        expkit.check(self)
        expkit.require(self.n_folds <= MOST_FOLDS, f"exp.n_folds must be at most {MOST_FOLDS}, not {self.n_folds}")
        if self.debug:
            self.fold = self.fold[:1] if self.fold else None
            self.train.epoch = 1


@dataclass
class Config:
    exp: ExpConfig = field(default_factory=ExpConfig)
    show_config: bool = False  # print the configuration and stop
    overwrite: bool = False  # replace the results of a run


def accuracy(oof: dict[str, list[Any]]) -> float:
    """The fraction of the rows whose class is predicted. Every score comes from here, out of the columns of oof.csv."""
    return fmean(target == prediction for target, prediction in zip(oof["target"], oof["prediction"], strict=True))


def main(config: Config) -> float | None:
    """Train what is missing; the CV score."""
    run = expkit.Run(config, __file__, metric=accuracy)
    for fold in run.missing():
        train(config.exp, fold)
    return run.summarize()


def train(exp: ExpConfig, fold: expkit.Fold) -> None:
    """Train on all rows but those of a fold, and predict these; or on all rows, and predict the test set."""
    import wandb  # heavy imports wait until there is something to train

    import model

    data = model.load_data(rows=25 * exp.n_folds if exp.debug else None)
    fit_rows, valid_rows = model.split(data, exp.n_folds, fold.number, exp.seed)

    with fold, expkit.Tracker(wandb.init, **expkit.wandb_args(fold)) as tracker:
        network = model.Network(exp.train, exp.seed)
        for metrics in network.fit(data.X[fit_rows], data.y[fit_rows], data.X[valid_rows], data.y[valid_rows]):
            fold.log(metrics, epochs=exp.train.epoch)  # history.csv and the progress bar
            tracker.log(metrics)

        network.save(fold.folder / "model.joblib")
        if fold.number is None:
            fold.save_csv("submission.csv", {"id": data.test_id, "prediction": network.predict(data.test_X)})
        else:
            rows = {"id": data.id[valid_rows], "target": data.y[valid_rows]}
            fold.save_csv("oof.csv", rows | network.predict_columns(data.X[valid_rows]))
        tracker.summarize(fold.finish(best_epoch=network.best_epoch))


if __name__ == "__main__":
    expkit.run(main, Config)
