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

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from annotated_types import Ge, Gt

import expkit


class BaseModel(Enum):
    """The sizes of the hidden layers, in units."""

    small = (64,)
    large = (256,)


@dataclass
class TrainConfig:
    base_model: BaseModel = BaseModel.small
    epoch: Annotated[int, Ge(1)] = 30  # passes over the training rows
    batch_size: Annotated[int, Ge(1)] = 32  # rows
    learning_rate: Annotated[float, Gt(0)] = 1e-3  # of Adam


@dataclass
class ExpConfig(expkit.ExpConfig):
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.debug:
            self.train.epoch = 1


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def accuracy(oof):
    """The fraction of the rows whose class is predicted; `oof` maps the names below to arrays, (n,)."""
    return (oof["target"] == oof["prediction"]).mean()


def train(exp: ExpConfig, fold: "expkit.Fold") -> None:
    """Train on all rows but those of a fold, and predict these; or on all rows, and predict the test set."""
    import model  # heavy imports wait until there is something to train

    data = model.load_data(rows=25 * max(exp.n_folds, 4) if exp.debug else None)
    fit_rows, valid_rows = expkit.split(exp, fold.number, id=data.id, y=data.y)  # by exp.split
    X, y = data.X, data.y

    network = model.Network(exp.train.base_model.value, exp.train.batch_size, exp.train.learning_rate, exp.seed)
    if fold.checkpoint.file is not None:
        network.load_checkpoint(fold.checkpoint.file)
    for metrics in network.fit(X[fit_rows], y[fit_rows], X[valid_rows], y[valid_rows], epochs=exp.train.epoch):
        fold.log(metrics, total=exp.train.epoch)  # history.csv, W&B and the terminal
        fold.checkpoint.save(network.save_checkpoint, every=30)  # seconds; the same command goes on from here
        if "valid_accuracy" in metrics:  # a study that has a pruner may end a bad trial here
            fold.report(metrics["valid_accuracy"], metrics["epoch"] / exp.train.epoch)

    network.save(fold.folder / "model.joblib")
    fold.save_test({"id": data.test_id} | network.predict_columns(data.test_X))  # for `exp submit`
    if fold.number is None:
        fold.save_submission({model.ID: data.test_id, model.TARGET: network.predict(data.test_X)})
    else:
        known = {"id": data.id[valid_rows], "target": y[valid_rows]}
        fold.save_oof(known | network.predict_columns(X[valid_rows]))
    fold.finish()


experiment = expkit.Experiment(train, Config, metric=accuracy, greater_is_better=True, inputs=[])  # no file of input/

if __name__ == "__main__":
    expkit.main(experiment)
