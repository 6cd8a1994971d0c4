"""A training that takes long goes on after an interruption, to the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import background
from experiments import own_experiment

import expkit
from expkit import files, paths, record
from expkit.train import fold as fold_module
from expkit.train import origin
from expkit.train.checkpoint import ABOUT, FOLDER, Checkpoint
from expkit.train.fold import Fold

# A random walk: its end depends on every step, and on the state of its generator. "stop": the epoch before which it is
# interrupted. A column comes late.
TRAIN = """
from dataclasses import dataclass, field

import expkit


@dataclass
class TrainConfig:
    epochs: int = 12
    pause: float = 0.0


@dataclass
class ExpConfig(expkit.ExpConfig):
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def position(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import pickle
    import time

    import numpy as np

    generator, walk, first = np.random.default_rng([exp.seed, fold.number]), np.zeros(50), 1
    if fold.checkpoint.file:
        generator, walk, first = pickle.loads(fold.checkpoint.file.read_bytes())
    stop = expkit.project_root() / "control/stop"
    for epoch in range(first, exp.train.epochs + 1):
        if stop.exists() and int(stop.read_text()) == epoch:
            raise KeyboardInterrupt
        walk = walk + generator.normal(size=50)
        late = {"spread": walk.std()} if epoch > 5 else {}
        fold.log({"epoch": epoch, "mean": walk.mean()} | late, total=exp.train.epochs)
        state = pickle.dumps((generator, walk, epoch + 1))
        fold.checkpoint.save(lambda file: file.write_bytes(state))
        time.sleep(exp.train.pause)
    fold.save_oof({"id": np.arange(50) + 1000 * fold.number, "prediction": walk})
    fold.finish()


experiment = expkit.Experiment(train, Config, metric=position, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""
FILES = [record.OOF, record.HISTORY]


@pytest.fixture
def walk(root: Path) -> Iterator[str]:
    """The name of the experiment."""
    with own_experiment({"train.py": TRAIN}) as folder:
        yield folder.name


def whole(name: str, *overrides: str) -> dict[str, bytes]:
    """The files of fold 0 of a run that nothing interrupts."""
    expkit.run(name, overrides=["exp.fold=[0]", "exp.name=whole", *overrides])
    [fold] = (paths.output_dir() / name).glob("whole*/fold0")
    return {file: (fold / file).read_bytes() for file in FILES}


def stop_before(epoch: int | None) -> None:
    file = paths.project_root() / "control/stop"
    file.unlink(missing_ok=True)
    if epoch is not None:
        file.write_text(str(epoch))


def interrupted(name: str, epoch: int) -> Path:
    """The folder of fold 0 after an interruption."""
    stop_before(epoch)
    with pytest.raises(KeyboardInterrupt):
        expkit.run(name, overrides=["exp.fold=[0]"])
    stop_before(None)
    return paths.output_dir() / name / "light/fold0"


def test_goes_on_where_it_was(walk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice interrupted, the history cut back, the seconds added up: the same bytes; then the checkpoint is gone."""
    expected = whole(walk)
    fold = interrupted(walk, 4)
    interrupted(walk, 9)
    with open(fold / record.HISTORY, "a") as stream:
        stream.write("9,0.5,1.0\n10,")  # logged after the checkpoint, and cut off
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0]"])
    printed = capsys.readouterr().out
    assert "fold 0 goes on after" in printed
    assert "epoch 8/" not in printed and "epoch 9/12" in printed
    assert {file: (fold / file).read_bytes() for file in FILES} == expected
    assert not (fold / FOLDER).exists()
    assert record.read_run(fold.parent).folds[0].origin()["resumed"] == 2


@pytest.mark.parametrize("damage", ["state", "about", "gone", "history"])
def test_a_damaged_checkpoint_is_said(walk: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The fold starts again from its beginning, and comes to the same end."""
    expected = whole(walk)
    fold = interrupted(walk, 6)
    [state] = (fold / FOLDER).glob("state*")
    if damage == "state":
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    elif damage == "gone":
        state.unlink()
    elif damage == "history":
        (fold / record.HISTORY).write_text("epoch,mean\n1,0.5\n")
    else:
        (fold / FOLDER / ABOUT).write_text("{}")
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0]"])
    printed = capsys.readouterr()
    assert "fold 0 starts again from its beginning: its " in printed.err and "damaged" in printed.err
    assert "epoch 1/12" in printed.out
    assert {file: (fold / file).read_bytes() for file in FILES} == expected


def test_other_code_and_other_data_start_anew(walk: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(walk, 6)
    (root / "input/train.csv").write_text("other")
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0]"])
    assert "starts again from its beginning: the data has changed since its checkpoint" in capsys.readouterr().err
    stop_before(6)
    with pytest.raises(KeyboardInterrupt):
        expkit.run(walk, overrides=["exp.fold=[1]"])
    stop_before(None)
    train = paths.code_root() / "experiments" / walk / "train.py"
    train.write_text(train.read_text().replace("normal(size=50)", "normal(size=50) + 0.1"))
    expkit.load_experiment(walk, again=True)
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[1]"])
    assert "starts again from its beginning: the code has changed since its checkpoint" in capsys.readouterr().err


def test_a_save_that_fails_leaves_the_one_before(walk: str, root: Path) -> None:
    fold = interrupted(walk, 5)
    before = {path.name: path.read_bytes() for path in (fold / FOLDER).iterdir()}
    checkpoint = Checkpoint(fold, dict)
    found, problem = checkpoint.find(lambda code: [], record_of(fold)["data"])
    assert found and not problem

    def fails(file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space")

    with pytest.raises(OSError):
        checkpoint.save(fails)
    after = {path.name: path.read_bytes() for path in (fold / FOLDER).iterdir()}
    assert before.items() <= after.items()
    again, problem = Checkpoint(fold, dict).find(lambda code: [], found["data"])
    assert again == found and not problem


@pytest.mark.parametrize("resumed", [True, False])
def test_another_device_is_marked(walk: str, monkeypatch: pytest.MonkeyPatch, resumed: bool) -> None:
    """A training that goes on elsewhere, or the next fold: the bytes of one device are not to be had any more."""
    if resumed:
        interrupted(walk, 4)
    else:
        expkit.run(walk, overrides=["exp.fold=[0]"])
    for module in (origin, fold_module):
        monkeypatch.setattr(module, "environment", lambda: {"device": "another"})
    expkit.run(walk, overrides=[f"exp.fold=[{int(not resumed)}]"])
    [row] = expkit.read_board()
    assert row.marks == ("partial", "mixed devices")


@pytest.mark.parametrize("epoch", [3, 13], ids=["early", "averaging"])
def test_the_baseline_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """The shipped one, whose optimizer, generator and mean of the weights are in its checkpoint."""
    save, log = Checkpoint.save, Fold.log
    monkeypatch.setattr(Checkpoint, "save", lambda self, write, every: save(self, write))

    def log_or_stop(self: Fold, metrics: dict[str, float], total: int) -> None:
        log(self, metrics, total)
        if metrics["epoch"] == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fold, "log", log_or_stop)
    stop = 0
    overrides = ["exp.fold=[0]", "exp.train.epoch=15"]
    expkit.run("001-baseline", overrides=[*overrides, "exp.name=whole"])
    stop = epoch
    with pytest.raises(KeyboardInterrupt):
        expkit.run("001-baseline", overrides=overrides)
    stop = 0
    expkit.run("001-baseline", overrides=overrides)
    whole, fold = (next((root / "output/001-baseline").glob(f"{name},*/fold0")) for name in ("whole", "baseline"))
    assert record.read_run(fold.parent).folds[0].origin()["resumed"] == 1
    assert {file: (fold / file).read_bytes() for file in FILES} == {file: (whole / file).read_bytes() for file in FILES}


def record_of(fold: Path) -> dict[str, object]:
    content = files.read_json(fold / FOLDER / ABOUT)
    assert content is not None
    return content


@pytest.mark.slow
def test_ten_kills(walk: str, root: Path) -> None:
    """`kill -9` at random moments, each time with the checkpoint of the last: the same bytes as without."""
    expected = whole(walk, "exp.train.epochs=20")
    source = str(paths.code_root() / "src")
    code = f"import sys; sys.path.insert(0, {source!r}); import expkit; expkit.run({walk!r}, overrides=sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        "exp.fold=[0]",
        "exp.runtime.tags=[kill]",
        "exp.name=light",
        "exp.train.epochs=20",
    ]
    pause = "exp.train.pause=0.6"
    dice = random.Random(1)
    fold = paths.output_dir() / walk / "light,exp.train.epochs=20,exp.train.pause=0.6/fold0"
    kills = 0
    for _ in range(10):
        process = background(*command, pause, env=dict(os.environ), stdout=subprocess.DEVNULL)
        try:
            process.wait(0.9 + dice.random())
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        if (fold / record.RESULT).exists():
            break
        if (fold / FOLDER / ABOUT).exists():
            about = files.read_json(fold / FOLDER / ABOUT)
            assert about is not None and (fold / FOLDER / str(about["state"])).stat().st_size == about["bytes"]
    assert kills >= 7
    subprocess.run([*command, pause], check=True, env=dict(os.environ), stdout=subprocess.DEVNULL)
    assert {file: (fold / file).read_bytes() for file in FILES} == expected
