"""Small experiments for tests of what is made of several runs: they train nothing, and predict what a formula says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from experiments import own_experiment
from light import train_py

CODE = """
KIND = "{kind}"  # price: regression, text ids, a lower score is better; species: three classes; risk: a probability


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
    return {{"best_iteration": 100 + 10 * (fold.number or 0)}}
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


def files(kind: str, more: str = "pass") -> dict[str, str]:
    """The files of an experiment of a kind; `more` is a line of its `train`."""
    code = CODE.format(kind=kind, more=more)
    fields, defaults = "noise: float = 0.2\ntest: bool = True\nfails: bool = False", "n_folds: int = 3\nseed: int = 0"
    options = 'metric={"price": rmse, "species": accuracy, "risk": auc}[KIND], '
    options += 'greater_is_better=KIND != "price", own_split=True'
    return {"train.py": train_py(fields, code, options, exp=defaults), "model.py": MODEL}


@contextmanager
def each_kind() -> Iterator[dict[str, str]]:
    """The name of an experiment of each kind."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(own_experiment(files(kind))).name for kind in ("price", "species", "risk")}
