"""Small experiments for tests of what is made of several runs: they train nothing, and predict what a formula says."""

from __future__ import annotations

TRAIN = """
from dataclasses import dataclass, field

import expkit

KIND = "{kind}"  # price: regression, text ids, a lower score is better; species: three classes; risk: a probability


@dataclass
class TrainConfig:
    noise: float = 0.2
    test: bool = True
    fails: bool = False


@dataclass
class ExpConfig(expkit.ExpConfig):
    n_folds: int = 3
    seed: int = 0
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def rmse(oof):
    return float(((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5)


def accuracy(oof):
    return float((oof["target"] == oof["prediction"]).mean())


def auc(oof):
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(oof["target"], oof["prediction"]))


def train(exp, fold):
    import model

    seed = 7 * exp.seed + (0 if fold.number is None else fold.number)
    if fold.number is not None:
        fold.save_oof(model.predicted(KIND, model.rows(exp.n_folds, fold.number), exp.train.noise, seed))
    if exp.train.test:
        table = model.predicted(KIND, model.TEST, exp.train.noise, seed + 1000)
        fold.save_test({{name: column for name, column in table.items() if name != "target"}})
    {more}
    fold.finish(best_iteration=100 + 10 * (fold.number or 0))


experiment = expkit.Experiment(
    train,
    Config,
    metric={{"price": rmse, "species": accuracy, "risk": auc}}[KIND],
    greater_is_better=KIND != "price",
    own_split=True,
)

if __name__ == "__main__":
    expkit.main(experiment)
"""

MODEL = """
import numpy as np

ROWS, TEST = np.arange(300), np.arange(300, 340)
NAMES = np.array(["cat", "dog", "yak"])


def rows(n_folds, fold):
    return ROWS[ROWS % n_folds == fold]


def truth(rows):
    return np.sin(rows * 0.7) * 3 + rows % 5


def predicted(kind, rows, noise, seed):
    random = np.random.default_rng([seed, len(rows)])
    if kind == "price":
        ids = np.array([f"{row:05d}-a" for row in rows])
        return {"id": ids, "target": truth(rows), "prediction": truth(rows) + random.normal(0, noise, len(rows))}
    if kind == "risk":
        signal = np.tanh(truth(rows) - 2 + random.normal(0, 5 * noise, len(rows)))
        return {"id": rows, "target": (truth(rows) > 2).astype(int), "prediction": signal / 2 + 0.5}
    scores = 4.0 * (np.arange(3) == (rows % 3)[:, None]) + random.normal(0, 10 * noise, (len(rows), 3))
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    columns = {f"probability_{name}": probability[:, place] for place, name in enumerate(NAMES)}
    return {"id": rows, "target": NAMES[rows % 3], "prediction": NAMES[probability.argmax(axis=1)]} | columns
"""

# Appended to MODEL: a target of two columns.
WIDE = """

def wide(*arguments):
    table = predicted(*arguments)
    return {name: column if name == "id" else np.stack([column, -column], 1) for name, column in table.items()}
"""

KINDS = ("price", "species", "risk")


def files(kind: str, more: str = "pass") -> dict[str, str]:
    """The files of an experiment of a kind; `more` is a line of its `train`."""
    return {"train.py": TRAIN.format(kind=kind, more=more), "model.py": MODEL}
