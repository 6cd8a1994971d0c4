from dataclasses import dataclass
from typing import Annotated

import expkit
from annotated_types import Gt


@dataclass
class TrainConfig:
    slope: Annotated[float, Gt(0)] = 1.125  # of the line


def mae(oof):
    return abs(oof["target"] - oof["prediction"]).mean()


def train(exp, fold):
    import numpy

    x = numpy.arange(12)
    rows = fold.split(id=[f"{each:02d}" for each in x], y=x * 1.5)
    for epoch in fold.epochs(2):
        fold.log(train_loss=1 / epoch)
    fold.predict(lambda rows: rows * exp.train.slope, x, test=x[3:6], test_id=["a", "b", "c"])
    return {"rows": len(rows.train)}


experiment = expkit.Experiment(train, TrainConfig, metric=mae, greater_is_better=False)

if __name__ == "__main__":
    expkit.main(experiment)
