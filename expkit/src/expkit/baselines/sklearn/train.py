"""001-baseline: a small neural network on the handwritten digits that ship with scikit-learn.

    uv run python train.py exp=001 exp.fold=null             # all folds, then the CV score
    uv run python train.py exp=001 exp.debug=true            # seconds: does it run through?
    uv run python train.py exp=001 exp.mode=sub              # train on all rows, write submission.csv
    uv run python train.py -m exp=001,002                    # both, one after the other

Results lie in output/001-baseline/<run>/. The same command again finishes what is missing, and trains nothing twice.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge, Gt

import expkit


@dataclass
class TrainConfig:
    hidden: Annotated[int, Ge(1)] = 64  # units of the hidden layer
    epochs: Annotated[int, Ge(1)] = 30  # passes over the training rows
    batch_size: Annotated[int, Ge(1)] = 32  # rows of a step
    learning_rate: Annotated[float, Gt(0)] = 1e-3  # of Adam


def accuracy(oof):
    """The share of rows whose class is predicted; `oof` maps the names of the saved columns to arrays, (n,)."""
    return (oof["target"] == oof["prediction"]).mean()


def train(exp: "expkit.ExpConfig[TrainConfig]", fold: "expkit.Fold"):
    """Train on the rows outside a fold, or with exp.mode=sub on all; predict the rows of the fold and the test set."""
    import model  # heavy imports wait until there is something to train

    data = model.load_data()
    rows = fold.split(id=data.id, y=data.y)  # rows.train and rows.valid, by exp.split
    network = model.make_network(exp.train, exp.seed)
    predict = partial(model.predict, network)
    for _ in fold.epochs(exp.train.epochs, state=network):  # shows the progress; goes on after an interruption
        network.partial_fit(data.X[rows.train], data.y[rows.train], classes=model.CLASSES)
        fold.log(train_loss=network.loss_, **fold.evaluate(predict, data.X))  # valid_accuracy

    model.save(network, fold.folder / "model.joblib")
    fold.predict(predict, data.X, test=data.test_X, test_id=data.test_id)


# debug: with exp.debug=true; inputs: the files of input/ that it reads
experiment = expkit.Experiment(train, TrainConfig, metric=accuracy, debug={"train.epochs": 1}, inputs=[])

if __name__ == "__main__":
    expkit.main(experiment)
