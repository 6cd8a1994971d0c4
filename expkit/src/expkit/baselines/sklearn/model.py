"""The data, and a small neural network."""

import warnings
from dataclasses import dataclass

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

threadpool_limits(1)  # matrices this small are slower on more threads, and round differently
# scikit-learn answers Ctrl-C with this warning and goes on; as an error, it stops the training.
warnings.filterwarnings("error", message="Training interrupted by user")

CLASSES = np.arange(10)  # the values of a target


@dataclass
class Data:
    """Rows to train on and rows to predict. The targets of the test rows are not here: training never sees them."""

    id: np.ndarray  # (n,) int: the row's number in the data set
    X: np.ndarray  # (n, 64) float from 0 to 1: the grey values of 8 x 8 pixels
    y: np.ndarray  # (n,) of CLASSES: the digit
    test_id: np.ndarray  # (m,)
    test_X: np.ndarray  # (m, 64)


def load_data():
    """The handwritten digits that ship with scikit-learn: 1437 rows to train on, 360 to predict."""
    X, y = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
    train, test = np.sort(train), np.sort(test)
    return Data(train, X[train] / 16, y[train], test, X[test] / 16)


def make_network(config, seed):
    """A neural network with one hidden layer, trained by Adam; `config` is exp.train."""
    return MLPClassifier(
        hidden_layer_sizes=(config.hidden,),
        batch_size=config.batch_size,
        learning_rate_init=config.learning_rate,
        random_state=np.random.RandomState(seed),  # a plain seed would shuffle every epoch alike
    )


def predict(network, X):
    """The columns of a prediction, (n,) each: the class, and the probability of each class."""
    probability = network.predict_proba(X)
    columns = {f"probability_{label}": probability[:, index] for index, label in enumerate(CLASSES)}
    return {"prediction": CLASSES[probability.argmax(axis=1)]} | columns


save, load = joblib.dump, joblib.load  # save(network, file), load(file)
