"""Runs in a notebook: their predictions side by side, their models, what these predict for new rows."""

from __future__ import annotations

from pathlib import Path

from conftest import Project, call
from experiments import own_experiment
from several import files

import expkit

MODELS = """

class Constant:
    def __init__(self, value):
        self.value = value

    def predict(self, X):
        return np.full(len(X), self.value)


class Chances(Constant):
    def predict_proba(self, X):
        self.classes_ = ["a", "b", "c"][: len(self.value)]
        return np.tile(self.value, (len(X), 1))


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


def test_a_model_of_the_experiments_own_class_in_a_fresh_process(project: Project, root: Path) -> None:
    """A pickle names the class's module, which nobody has imported there."""
    with own_experiment(with_models("Constant(fold.number + 0.5)")) as folder:
        expkit.run(folder.name)
        script = f"import expkit; model = expkit.load_model('{folder.name}', 2); print(model.value, model)"
        environment = project.environment(
            PROJECT_ROOT=str(root), EXPKIT_ROOT=str(expkit.code_root()), PYTHONPATH=str(expkit.code_root() / "src")
        )
        printed = call(project.python, "-c", script, cwd=folder, env=environment).stdout
    assert printed.startswith("2.5 <expkit.experiments.")
