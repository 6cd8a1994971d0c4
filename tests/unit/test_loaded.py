"""Runs in a notebook: their predictions side by side, their models, what these predict for new rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import pandas
import pytest
from conftest import call
from experiments import own_experiment
from helpers import environment_of
from several import files

import expkit

MODELS = """

class Constant:
    def __init__(self, value):
        self.value = value

    def predict(self, X):
        return np.full(len(X), self.value)


class Chances(Constant):
    def predict(self, X):
        chances = np.tile(self.value, (len(X), 1))
        label = np.array(["a", "b"])[chances.argmax(axis=1)]
        return {"prediction": label, "probability_a": chances[:, 0], "probability_b": chances[:, 1]}


class Silent:
    pass


def load(file):
    import joblib

    return joblib.load(file)
"""


def with_models(values: str) -> dict[str, str]:
    """An experiment whose folds leave models of its own classes."""
    own = files("price", f"import joblib; joblib.dump(model.{values}, fold.folder / 'model.joblib')")
    return own | {"model.py": own["model.py"] + MODELS}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("Constant([1.0, 2.5, 4.0][fold.number])", {"prediction": [2.5, 2.5]}),
        ("Constant(7)", {"prediction": [7, 7]}),
        (
            "Chances([[0.9, 0.1], [0.9, 0.1], [0.0, 1.0]][fold.number])",
            {"prediction": ["a", "a"], "probability_a": [0.6, 0.6], "probability_b": [0.4, 0.4]},
        ),
    ],
)
def test_predict(root: Path, values: str, expected: dict[str, list[object]]) -> None:
    with own_experiment(with_models(values)) as folder:
        expkit.run(folder.name)
        found = expkit.load_run(folder.name).predict(numpy.zeros((2, 1)))
    for name, column in expected.items():
        assert found[name].tolist() == (column if name == "prediction" else pytest.approx(column))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("Constant(['cat', 'dog', 'dog'][fold.number])", "holds labels, which have no mean"),
        ("Silent()", "a Silent has no predict"),
    ],
)
def test_models_that_cannot_predict_together(root: Path, values: str, message: str) -> None:
    with own_experiment(with_models(values)) as folder:
        expkit.run(folder.name)
        with pytest.raises(expkit.Error, match=message):
            expkit.load_run(folder.name).predict(numpy.zeros((2, 1)))


def test_predictions_side_by_side(root: Path) -> None:
    with own_experiment(files("price")) as price, own_experiment(files("species")) as species:
        for overrides in ("exp.seed=1", "exp.seed=2", "exp.n_folds=2"):
            expkit.run(price.name, overrides=[overrides])
        expkit.run(species.name, overrides=["exp.seed=1"])
        one, other = f"{price.name}/light,exp.seed=1", f"{price.name}/light,exp.seed=2"
        frame = expkit.oof([one, other])
        assert list(frame.columns) == ["id", "target", "fold", one, other] and len(frame) == 300
        assert frame["id"].is_monotonic_increasing
        for name in (one, other):
            assert frame[name].tolist() == expkit.load_run(name).oof["prediction"].tolist()
        assert frame["fold"].tolist() == expkit.load_run(one).oof["fold"].tolist()
        two = f"{price.name}/light,exp.n_folds=2"
        other_folds = expkit.oof([two, one])
        assert f"{one}: fold" in other_folds and "fold" not in other_folds, "each run has folds of its own"
        assert other_folds[f"{one}: prediction"].tolist() == frame[one].tolist(), "aligned by the id"
        first = f"{species.name}/light,exp.seed=1"
        classes = expkit.oof([first])
        expected = [
            f"{first}: {name}" for name in ("prediction", "probability_cat", "probability_dog", "probability_yak")
        ]
        assert list(classes.columns) == ["id", "target", "fold", *expected]
        assert isinstance(classes, pandas.DataFrame)
        for wrong, message in (
            ([one, first], "the ids are int64, and those of"),
            (one, "take a list of runs"),
            ([], "this one is empty"),
        ):
            with pytest.raises(expkit.Error, match=message):
                expkit.oof(wrong)


def test_a_model_of_the_experiments_own_class_in_a_fresh_process(root: Path) -> None:
    """A pickle names the class's module, which nobody has imported there."""
    with own_experiment(with_models("Constant(fold.number + 0.5)")) as folder:
        expkit.run(folder.name)
        script = f"import expkit; model = expkit.load_run('{folder.name}').model(2); print(model.value, model)"
        environment = environment_of(expkit.code_root(), PROJECT_ROOT=str(root))
        printed = call(sys.executable, "-c", script, cwd=folder, env=environment).stdout
    assert printed.startswith("2.5 <expkit.experiments.")


def test_masks_are_averaged(root: Path) -> None:
    """As (n, h, w): a mean for each pixel."""
    with own_experiment(with_models("Constant([[0.25, 1.5], [0.5, 1.0]][fold.number % 2])")) as folder:
        text = (folder / "model.py").read_text()
        (folder / "model.py").write_text(
            text.replace("np.full(len(X), self.value)", "np.tile(self.value, (len(X), 3, 1))")
        )
        expkit.run(folder.name)
        found = expkit.load_run(folder.name).predict(numpy.zeros((2, 1)))["prediction"]
    assert found.shape == (2, 3, 2) and found[1, 2].tolist() == pytest.approx([1 / 3, 4 / 3])
