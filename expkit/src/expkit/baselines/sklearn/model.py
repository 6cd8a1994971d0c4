"""The data, and the network: training it on the rows of a fold, and predicting."""

import functools
import math
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

# scikit-learn answers Ctrl-C with this warning and goes on; as an error, it stops the training.
warnings.filterwarnings("error", message="Training interrupted by user")

ID = "id"  # this and the next: the columns of a submission
TARGET = "prediction"
TEST_SEED = 0  # the test set is the same in every run


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to predict. The targets of the test rows are not here: training never sees them."""

    id: np.ndarray  # (n,) int: the row's number in the data set
    X: np.ndarray  # (n, 64) float from 0 to 1: the grey values of 8 x 8 pixels
    y: np.ndarray  # (n,) int from 0 to 9: the digit
    test_id: np.ndarray  # (m,)
    test_X: np.ndarray  # (m, 64)


@functools.cache
def load_data(rows: int | None = None) -> Data:
    """The handwritten digits that ship with scikit-learn: 1437 rows to train on, 360 to predict.

    Args:
        rows: how many rows to take in all, for a quick look; None: every one.
    """
    X, y = load_digits(return_X_y=True)
    ids = np.arange(len(y))
    if rows is not None and rows < len(y):
        ids, _ = train_test_split(ids, train_size=rows, stratify=y, random_state=TEST_SEED)
    train_id, test_id = train_test_split(ids, test_size=0.2, stratify=y[ids], random_state=TEST_SEED)
    train_id, test_id = np.sort(train_id), np.sort(test_id)
    X = X / 16
    return Data(train_id, X[train_id], y[train_id], test_id, X[test_id])


class Network:
    """A neural network with one hidden layer, trained by Adam on mini-batches.

    Its weights are the mean of those of the last third of the epochs. No epoch is chosen by the rows that are scored.
    """

    def __init__(self, hidden: tuple[int, ...], batch_size: int, learning_rate: float, seed: int) -> None:
        self._classifier = MLPClassifier(
            hidden_layer_sizes=hidden,
            learning_rate_init=learning_rate,
            batch_size=batch_size,
            random_state=np.random.RandomState(seed),  # a plain seed would shuffle every epoch alike
        )
        self._epoch = 0  # how many are done
        self._total: list[np.ndarray] = []  # of the weights that are averaged

    def fit(
        self, X: np.ndarray, y: np.ndarray, X_valid: np.ndarray, y_valid: np.ndarray, epochs: int
    ) -> Iterator[dict[str, float]]:
        """Train, from the epoch on that `load_checkpoint` has restored; yields the metrics of each epoch.

        Args:
            X, y: rows to train on, (n, 64) and (n,).
            X_valid, y_valid: rows to watch, which teach nothing, (k, 64) and (k,); k may be 0.
            epochs: passes over the training rows.
        """
        classes = np.unique(y)
        averaged = math.ceil(epochs / 3)
        with threadpool_limits(1):  # matrices this small are slower on more threads, and round differently
            for epoch in range(self._epoch + 1, epochs + 1):
                self._classifier.partial_fit(X, y, classes=classes)
                metrics = {"epoch": epoch, "train_loss": float(self._classifier.loss_)}
                if len(y_valid):
                    probability = self._classifier.predict_proba(X_valid)
                    metrics["valid_loss"] = float(log_loss(y_valid, probability, labels=classes))
                    metrics["valid_accuracy"] = float(np.mean(classes[probability.argmax(axis=1)] == y_valid))
                if epoch > epochs - averaged:
                    weights = [np.copy(layer) for layer in (*self._classifier.coefs_, *self._classifier.intercepts_)]
                    known = self._total or [np.zeros_like(layer) for layer in weights]
                    self._total = [before + new for before, new in zip(known, weights, strict=True)]
                self._epoch = epoch
                yield metrics
        layers = len(self._classifier.coefs_)
        self._classifier.coefs_ = [weights / averaged for weights in self._total[:layers]]
        self._classifier.intercepts_ = [weights / averaged for weights in self._total[layers:]]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The classes of the rows `X` (n, 64), as (n,) int."""
        return np.asarray(self._classifier.predict(X))

    def predict_columns(self, X: np.ndarray) -> dict[str, Any]:
        """Predictions of the rows `X` (n, 64): "prediction", and the probability of each class."""
        probability = self._classifier.predict_proba(X)
        classes = self._classifier.classes_
        columns = {f"probability_{label}": probability[:, place] for place, label in enumerate(classes)}
        return {"prediction": self.predict(X)} | columns

    def save(self, file: Path) -> None:
        """Write the classifier, for `load`."""
        joblib.dump(self._classifier, file)

    def save_checkpoint(self, file: Path) -> None:
        """Write everything that the training needs to go on from here."""
        file.write_bytes(pickle.dumps(vars(self)))

    def load_checkpoint(self, file: Path) -> None:
        """Go on from what `save_checkpoint` wrote, with the same settings."""
        vars(self).update(pickle.loads(file.read_bytes()))


def load(file: Path) -> MLPClassifier:
    """The classifier that `Network.save` wrote."""
    return joblib.load(file)
