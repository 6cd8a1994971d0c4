"""W&B with a server that answers: what it holds of a training is all that the training has logged."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Project, background, call, clean_environment
from experiments import own_experiment
from helpers import counting, results
from light import wait_for
from wandb_server import KEY, Run, Server, serve

from expkit import project

FAST = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1"}  # seconds; W&B sends what has come every 15
OFFLINE = {"WANDB_MODE": "offline"}
SLOW = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "100"}

# It logs steps, epochs, and a page of its own. control/gate has the epoch after which it waits until the file is gone;
# control/fail the one after which it fails.
TRAIN = """
from dataclasses import dataclass, field

import expkit


@dataclass
class TrainConfig:
    epochs: int = 12
    every: int = 5  # epochs from checkpoint to checkpoint


@dataclass
class ExpConfig(expkit.ExpConfig):
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def mean(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import time

    control = expkit.project_root() / "control"
    first = int(fold.checkpoint.file.read_text()) + 1 if fold.checkpoint.file else 1
    for epoch in range(first, exp.train.epochs + 1):
        late = {"late": epoch} if epoch > 7 else {}
        fold.log({"step": 10 * epoch, "loss": 2 / epoch})
        fold.log({"epoch": epoch, "loss": 1 / epoch, "started": first} | late)
        if epoch == 1 and fold.wandb is not None:
            import wandb

            fold.wandb.log({"page": wandb.Html(f"<p>fold {fold.number}</p>")})
        if epoch % exp.train.every == 0:
            fold.checkpoint.save(lambda file: file.write_text(str(epoch)))
        for name in ("gate", "fail"):
            if (control / name).exists() and int((control / name).read_text()) == epoch:
                (control / "here").touch()
                while (control / "gate").exists():
                    time.sleep(0.01)
                if name == "fail":
                    raise ValueError("planted")
    fold.save_oof({"id": [fold.number], "prediction": [0.5]})
    fold.finish(best_epoch=3)


experiment = expkit.Experiment(train, Config, metric=mean, greater_is_better=True, own_split=True)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        yield server
        assert server.unknown == []
        assert [run.complaints for run in server.runs.values() if run.complaints] == []


class Training:
    """Fold 0 of an experiment, in processes of its own."""

    def __init__(self, name: str, root: Path, home: Path) -> None:
        self.name, self.root = name, root
        self.code = "import sys; import expkit\n"
        self.train = f"expkit.run({name!r}, overrides=sys.argv[1:])"
        self.environment = clean_environment() | {
            "HOME": str(home),
            "PROJECT_ROOT": str(root),
            "EXPKIT_ROOT": str(project.code_root()),
        }

    def start(self, *overrides: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", self.code + self.train, "exp.fold=[0]", *overrides]
        pipe = subprocess.PIPE
        return background(*command, env=self.environment | variables, stdout=pipe, stderr=pipe, text=True)

    def run(self, *overrides: str, **variables: str) -> None:
        """Train to the end."""
        process = self.start(*overrides, **variables)
        printed, errors = process.communicate()
        assert process.returncode == 0, printed + errors

    def until(self, epoch: int, *overrides: str, **variables: str) -> subprocess.Popen[str]:
        """Train until an epoch, and wait there."""
        (self.root / "control/gate").write_text(str(epoch))
        process = self.start(*overrides, **variables)
        wait_for((self.root / "control/here").exists, process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        """As a cluster does it: with all that it has started."""
        tree = psutil.Process(process.pid)
        for each in [*tree.children(recursive=True), tree]:
            each.kill()
        self._ended(process)

    def stop(self, process: subprocess.Popen[str]) -> None:
        """Ctrl-C."""
        process.send_signal(signal.SIGINT)
        self._ended(process)

    def _ended(self, process: subprocess.Popen[str]) -> None:
        process.communicate()
        assert process.returncode != 0
        self.open()
        time.sleep(1.1)  # the folder of a W&B run is named by the second

    def open(self) -> None:
        for name in ("gate", "here"):
            (self.root / "control" / name).unlink(missing_ok=True)

    def sync(self, server: Server, *arguments: str) -> str:
        """What `wandb sync` prints; a pattern is one of output/, and becomes what a shell makes of it."""
        command: list[str | Path] = [Path(sys.executable).with_name("wandb"), "sync"]
        for each in arguments:
            command += sorted((self.root / "output").glob(each)) if "*" in each else [each]
        done = call(*command, cwd=self.root, env=self.environment | server.environment)
        return done.stdout + done.stderr

    def history(self) -> list[dict[str, float]]:
        """What W&B is to hold of history.csv: over the other axis, a metric has another name."""
        rows = read_history(counting(self.root, experiment=self.name) / "fold0/history.csv")
        return [
            {"loss_epoch" if "epoch" in row and name == "loss" else name: value for name, value in row.items()}
            for row in rows
        ]


@pytest.fixture
def training(root: Path, home: Path) -> Iterator[Training]:
    with own_experiment({"train.py": TRAIN}) as folder:
        yield Training(folder.name, root, home)


def read_history(file: Path) -> list[dict[str, float]]:
    with open(file, newline="") as stream:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(stream)]


AXES = {"loss": "step", "loss_epoch": "epoch", "started": "epoch", "late": "epoch"}


def points(run: Run) -> list[dict[str, Any]]:
    """What `fold.log` has brought to W&B."""
    return [row for row in run.rows() if "page" not in row]


def is_whole(run: Run, before: int = 0) -> bool:
    """Whether it has each row of 12 epochs, in their order, after those of `before` epochs; has ended well; the score.

    Args:
        before: epochs that an interrupted process has sent, and that are sent again.
    """
    epochs = [*range(1, before + 1), *range(1, 13)]
    assert [row["epoch"] for row in points(run) if "epoch" in row] == epochs
    assert [row["step"] for row in points(run) if "step" in row] == [10 * epoch for epoch in epochs]
    assert len(points(run)) == 2 * len(epochs)
    assert run.axes == AXES
    assert run.exit_code == 0
    assert run.summary["score"] == 0.5 and run.summary["epoch"] == 12
    return True


def test_a_training_of_two_folds(project: Project, root: Path, server: Server) -> None:
    """Everything that a person looks for is at the server, and nothing is left to be uploaded."""
    arguments = ["exp=001", "exp.train.epoch=3", "exp.fold=[0,1]", "exp.runtime.tags=[first,second]"]
    project.train(*arguments, root=root, **server.environment)
    name = "001-larger-lr,exp.train.epoch=3"
    folder = counting(root, name, "001-baseline")
    assert server.keys == {f"api:{KEY}"}
    assert len(server.runs) == 2
    for run, (fold, result) in zip(
        server.runs.values(), sorted(results(root, name, "001-baseline").items()), strict=True
    ):
        assert run.project == "digits", "of the answers"
        assert run.group == f"001-baseline/{name}"
        assert run.name == f"{run.group}/fold{fold}"
        assert run.id.startswith(f"{result['run']}-fold{fold}-")
        assert run.tags == ["first", "second"]
        assert run.config["train"]["epoch"] == 3 and run.config["train"]["learning_rate"] == 0.003
        assert run.config["n_folds"] == 5
        assert run.rows() == read_history(folder / f"fold{fold}/history.csv")
        assert [row["epoch"] for row in run.rows()] == [1, 2, 3]
        assert run.axes == dict.fromkeys(run.rows()[0].keys() - {"epoch"}, "epoch")
        assert run.summary["score"] == run.summary["accuracy"] == pytest.approx(result["scores"]["accuracy"])
        assert run.summary["epoch"] == 3 and result["values"].items() <= run.summary.items()
        assert (run.exit_code, run.starts) == (0, 1)
        assert {"requirements.txt", "wandb-metadata.json", "config.yaml"} <= run.files.keys()
    assert not list((root / "output/wandb").glob("offline-run-*"))


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["all", "nothing"])
def test_a_killed_fold_goes_on_online(training: Training, server: Server, sent: str) -> None:
    """One W&B run, with each row: also those that had not left the machine, and those after the checkpoint."""
    process = training.until(8, **server.environment, **(FAST if sent == "all" else SLOW))
    if sent == "all":
        wait_for(lambda: any(len(points(run)) == 16 for run in server.runs.values()), process)
    training.kill(process)
    [run] = server.runs.values()
    assert len(points(run)) == (16 if sent == "all" else 0)
    assert run.exit_code is None
    training.run(**server.environment)
    assert len(server.runs) == 1 and run.starts == 2
    assert is_whole(run, before=8 if sent == "all" else 0)
    assert run.steps == list(range(len(run.steps)))
    assert points(run)[-24:] == training.history()


@pytest.mark.slow
def test_an_interrupted_fold_goes_on_offline(training: Training, server: Server) -> None:
    """`wandb sync` makes one W&B run of what three kills and one Ctrl-C have left, with each row once."""
    training.kill(training.until(6, **OFFLINE))
    training.kill(training.until(7, **OFFLINE))
    training.stop(training.until(8, **OFFLINE))
    training.kill(training.until(9, **OFFLINE))
    training.run(**OFFLINE)
    assert "ERROR" not in training.sync(server, "wandb/offline-run-*")
    [run] = server.runs.values()
    assert is_whole(run) and points(run) == training.history()
    assert len(list((training.root / "output/wandb").glob("interrupted-offline-run-*"))) == 4
    training.sync(server, "wandb/offline-run-*")
    assert run.starts == 1, "what is uploaded is not uploaded again"


@pytest.mark.slow
def test_offline_first_then_online(training: Training, server: Server) -> None:
    """All rows come from this machine then, and `wandb sync` has nothing to add."""
    training.stop(training.until(6, **OFFLINE))
    training.run(**server.environment)
    [run] = server.runs.values()
    assert points(run) == training.history()
    assert is_whole(run)
    assert not list((training.root / "output/wandb").glob("offline-run-*"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_training_that_begins_again_is_another_wandb_run(training: Training, server: Server, mode: str) -> None:
    """Without a checkpoint, and with overwrite=true: no rows of one training among those of another."""
    variables = server.environment | {"WANDB_MODE": mode}
    training.kill(training.until(4, **variables, **FAST))
    training.run(**variables)
    training.run("overwrite=true", **variables)
    if mode == "offline":
        assert "ERROR" not in training.sync(server, "wandb/offline-run-*")
    *killed, second, third = server.runs.values()
    assert len(killed) == (mode == "online"), "what a killed process leaves offline cannot be uploaded"
    assert is_whole(second) and is_whole(third)
    assert second.starts == third.starts == 1
    versions = [run.id.partition("-")[0] for run in (*killed, second, third)]
    assert versions[-1] != versions[-2] == versions[0]


def test_a_fold_that_fails(training: Training, server: Server) -> None:
    """It is at the server, as failed, with what it has logged, files too."""
    (training.root / "control/fail").write_text("2")
    process = training.start(**server.environment)
    assert "planted" in process.communicate()[1] and process.returncode == 1
    [run] = server.runs.values()
    assert run.exit_code == 1
    assert points(run) == [
        {"step": 10, "loss": 2},
        {"epoch": 1, "loss_epoch": 1, "started": 1},
        {"step": 20, "loss": 1},
        {"epoch": 2, "loss_epoch": 0.5, "started": 1},
    ]
    assert run.axes == {name: axis for name, axis in AXES.items() if name != "late"}
    assert "score" not in run.summary
    [page] = [content for name, content in run.files.items() if name.startswith("media/html/page")]
    assert b"fold 0" in page, "what the training logs through fold.wandb"


@pytest.mark.slow
def test_a_server_that_goes_away(training: Training, server: Server) -> None:
    """The training ends well; the line that is printed brings to another server what the first has not got."""
    training.code += "from expkit import tracking; tracking.FINISH_TIMEOUT = 5\n"
    process = training.until(4, "exp.fold=[0,1]", **server.environment, **FAST)
    wait_for(lambda: any(len(points(run)) == 8 for run in server.runs.values()), process)
    server.die()
    training.open()
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "2/5 folds" in printed and "Traceback" not in errors
    [arguments] = re.findall(r"upload it later with `uv run wandb sync (.*)`", errors)
    [run] = server.runs.values()
    assert len(points(run)) == 8 and run.exit_code is None
    with serve(server.runs) as other:
        *options, path = arguments.split()
        training.sync(other, *options, str(Path(path).resolve()))  # it may be relative to where the training ran
        assert is_whole(run)
        training.sync(other, "wandb/offline-run-*")
        [_, fold1] = other.runs.values()
        assert is_whole(fold1)
