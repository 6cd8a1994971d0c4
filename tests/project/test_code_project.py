"""The record holds the code that ran, however it was imported and whatever was edited meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy  # noqa: F401  # before a test forgets what it has imported
from conftest import Project, call
from experiments import own_experiment
from helpers import results, start
from light import CONFIG, LIGHT, edited, wait_for

import expkit

PACKAGE = "digits_co_experiments"
TRAIN = """
{imports}

import expkit


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    fold.save_oof({{"id": [fold.number], "prediction": [{prediction}]}})
    fold.finish()


experiment = expkit.Experiment(train, expkit.Config, metric=quality, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""


@contextmanager
def imported(imports: str, prediction: str = "1.0", **files: str) -> Iterator[tuple[str, Path]]:
    """An experiment that imports, loaded; its name and folder. What it has imported is forgotten again."""
    texts = {"config.yaml": CONFIG, "train.py": TRAIN.format(imports=imports, prediction=prediction)}
    known, path = set(sys.modules), list(sys.path)
    with own_experiment(texts | {f"{name}.py": text for name, text in files.items()}) as folder:
        yield folder.name, folder
    for name in set(sys.modules) - known:
        del sys.modules[name]
    sys.path[:] = path


def test_a_package_that_is_imported_above_expkit(sweeping: Project, root: Path) -> None:
    """Edited during fold 0: the hashes and the snapshot of fold 0 have what ran, and fold 1 is marked."""
    shared = sweeping.folder / f"src/{PACKAGE}/features.py"
    train = sweeping.folder / "experiments" / LIGHT / "train.py"
    shared.write_text("K = 1\n")
    try:
        with (
            edited(train, "from dataclasses import", f"from {PACKAGE} import features\nfrom dataclasses import"),
            edited(train, "[shape.of(exp.train.x)]", "[float(features.K)]"),
        ):
            (root / "control/gate0").touch()
            first = start(sweeping, root, "exp.fold=[0]")
            wait_for(lambda: (root / "control/came0").exists(), first)
            shared.write_text("K = 500\n")
            (root / "control/gate0").unlink()
            printed = first.communicate(timeout=60)
            assert first.returncode == 0, printed
            done = sweeping.train("exp.fold=[0,1]", experiment=LIGHT, root=root, WANDB_MODE="disabled")
    finally:
        shared.unlink()
    assert f"the code has changed since fold 0 (src/{PACKAGE}/features.py)" in done.stderr
    assert [row.marks for row in expkit.read_board()] == [("partial", "mixed code")]
    for fold, k in ((0, 1), (1, 500)):
        result = results(root)[fold]
        assert result["scores"] == {"quality": k}
        path = f"{result['git']['snapshot']}:src/{PACKAGE}/features.py"
        assert call("git", "show", path, cwd=sweeping.folder).stdout == f"K = {k}\n"
