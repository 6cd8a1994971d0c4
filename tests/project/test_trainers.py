"""docs/trainers.md: each guide in an experiment of its own, killed in the middle, with packages of the registry."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, call, clean_environment, clone_of
from documents import all_blocks, put
from helpers import environment_of, scores_and_predictions

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs/trainers.md").read_text()
TORCH = "torch==2.13.0+cpu"  # the build that PIP_FIND_LINKS has

# The fold that is left out first is killed after its fourth row; a checkpoint is saved whenever the guide may save one.
KILL = """
import itertools, os, signal, sys
import expkit
from expkit.checkpoint import Checkpoint

def log_and_end(fold, **row):
    log(fold, **row)
    if next(rows) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

log, save, rows = expkit.Fold.log, Checkpoint.save, itertools.count(1)
expkit.Fold.log, Checkpoint.save = log_and_end, lambda self, write, every=0: save(self, write)
expkit.run(sys.argv[1], overrides=["exp.train.epochs=6", "exp.fold=[0,1]"])
"""
GO_ON = """
import sys
import expkit
expkit.run(sys.argv[1], overrides=["exp.train.epochs=6", "exp.fold=[0,1]"])
expkit.run(sys.argv[1], overrides=["exp.train.epochs=6", "exp.fold=[0]", "exp.name=whole"])
expkit.run(sys.argv[1], overrides=["exp.train.epochs=2", "exp.mode=sub", "exp.name=all"])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and beside it an environment that gets one trainer after the other."""
    folder = tmp_path_factory.mktemp("trainers")
    clone_of(Path(os.environ["EXPKIT_ROOT"]), folder / "myproj")
    call("uv", "venv", "-q", "--python", sys.executable, folder / "environment", cwd=folder, env=clean_environment())
    install(folder, "-e", str(ROOT / "expkit"))
    return folder


def install(place: Path, *packages: str) -> None:
    """Install packages; where that is not possible, the test is skipped. PyTorch is never the build of gigabytes."""
    environment = clean_environment()
    if links := environment.get("UV_FIND_LINKS") or environment.get("PIP_FIND_LINKS"):
        environment["UV_FIND_LINKS"] = links
        packages = tuple(TORCH if name == "torch" else name for name in packages)
    backend = [] if links else ["--torch-backend=cpu"]
    command = ["uv", "pip", "install", "-q", "--python", place / "environment", *backend, *packages]
    done = call(*command, cwd=place, env=environment, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(packages)} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")


def python(place: Path, root: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = environment_of(place / "myproj", PROJECT_ROOT=str(root), OMP_NUM_THREADS="1")
    command = [place / "environment/bin/python", "-c", code, *arguments]
    return call(*command, cwd=place / "myproj", env=environment, check=False)


GUIDES = {
    "PyTorch": (["torch"], "goes on", 0.7),
    "Lightning": (["torch", "lightning"], "goes on", 0.8),
    "transformers": (["torch", "transformers", "accelerate"], "goes on", 0.0),
    "Keras": (["keras", "jax"], "goes on", 0.8),
    "XGBoost": (["xgboost"], "goes on", 0.8),
    "CatBoost": (["catboost"], "", 0.8),
}


@pytest.mark.parametrize("title", GUIDES)
def test_a_killed_training_ends_as_one_that_was_not(place: Path, root: Path, title: str) -> None:
    """The same rows of the history, the same predictions, the same score; on all rows, too, a test set is predicted"""
    packages, said, least = GUIDES[title]
    install(place, *packages)
    [guide] = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE, flags=re.M | re.S)
    name = f"002-{title.lower()}"
    shutil.copytree(place / "myproj/experiments/001-baseline", place / "myproj/experiments" / name)
    for _, block in all_blocks(guide):
        put(place / "myproj" / block.split()[1], block)
    killed = python(place, root, KILL, name)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    done = python(place, root, GO_ON, name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("fold 0 goes on after" in done.stdout) == bool(said)
    run, whole = ([*(root / "output" / name).glob(f"{start},*")][0] for start in ("baseline", "whole"))
    histories = [(folder / "fold0/history.csv").read_text() for folder in (run, whole)]
    assert histories[0] == histories[1] and histories[0].count("\n") == 7
    folds = scores_and_predictions(run)
    assert folds[0] == scores_and_predictions(whole)[0]
    assert all(scores["accuracy"] > least for scores, _ in folds.values()) and set(folds) == {0, 1}
    assert all((run / fold / "test.npz").exists() for fold in ("fold0", "fold1"))
    assert [*(root / "output" / name).glob("all,*/full/submission.csv")]


def test_other_trackers(place: Path, root: Path) -> None:
    """The lines of the table run as they stand, for two folds of one process, and leave their files."""
    install(place, "torch", "tensorboard", "mlflow-skinny", "trackio")
    table = re.findall(r"^\| (?:TensorBoard|MLflow|trackio) \| `(.+)` \| `(.+)` \| `(.+)` \|$", PAGE, flags=re.M)
    code = ["from pathlib import Path", "from types import SimpleNamespace as Some", "import mlflow, trackio"]
    code += ["from torch.utils.tensorboard import SummaryWriter", "exp, loss = Some(name='baseline'), 0.5"]
    for fold in ("fold0", "fold1"):
        code.append(f"fold = Some(name={fold!r}, folder=Path({fold!r}))")
        begins, rows, ends = zip(*table, strict=True)
        code += [*begins, "epoch = 1", *rows, "epoch = 2", *rows, *ends]
    environment = environment_of(root, HOME=str(root), MLFLOW_TRACKING_URI=(root / "mlruns").as_uri())
    environment |= {"MLFLOW_ALLOW_FILE_STORE": "true", "TRACKIO_DIR": str(root / "trackio")}
    call(place / "environment/bin/python", "-c", "\n".join(code), cwd=root, env=environment)
    assert len(table) == 3
    for pattern in ("fold1/tensorboard/events*", "mlruns/*/*/metrics/train_loss", "trackio/*.db"):
        assert list(root.glob(pattern)), pattern
