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

import psutil
import pytest
from conftest import Project, background, call, clean_environment
from experiments import WALK, own_experiment
from helpers import counting, load, results
from light import wait_for
from wandb_server import KEY, Run, Server, serve

from expkit import project

FAST = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1"}  # seconds; W&B sends what has come every 15
OFFLINE = {"WANDB_MODE": "offline"}

FAILS = """
import expkit


def train(exp, fold):
    import wandb

    fold.log({"step": 10, "loss": 2})
    fold.log({"epoch": 1, "loss": 1})
    fold.wandb.log({"page": wandb.Html("<p>of the training</p>")})
    raise ValueError("planted")


experiment = expkit.Experiment(train, expkit.Config, metric=max)
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
        self.name, self.root, self.before = name, root, "pass"
        own = {"HOME": str(home), "PROJECT_ROOT": str(root), "EXPKIT_ROOT": str(project.code_root())}
        self.environment = clean_environment() | own

    def start(self, *overrides: str, **variables: str) -> subprocess.Popen[str]:
        code = f"import sys; import expkit; {self.before}; expkit.run({self.name!r}, overrides=sys.argv[1:])"
        command, pipe = [sys.executable, "-c", code, "exp.fold=[0]", *overrides], subprocess.PIPE
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

    def is_whole(self, run: Run, fold: int = 0) -> bool:
        """Whether W&B has each row of 12 epochs, in their order, and the score, and the end."""
        folder = counting(self.root, experiment=self.name) / f"fold{fold}"
        history = read_history(folder / "history.csv")
        assert [row["epoch"] for row in run.rows()] == [*range(1, 13)]
        assert run.rows() == history
        assert run.steps == list(range(len(run.steps)))
        assert run.axes == {"mean": "epoch", "spread": "epoch"}
        assert run.exit_code == 0
        assert run.summary["score"] == load(folder / "result.json")["scores"]["position"]
        return True


@pytest.fixture
def training(root: Path, home: Path) -> Iterator[Training]:
    with own_experiment({"train.py": WALK}) as folder:
        yield Training(folder.name, root, home)


def read_history(file: Path) -> list[dict[str, float]]:
    with open(file, newline="") as stream:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(stream)]


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
def test_a_killed_fold_goes_on_online(training: Training, server: Server) -> None:
    """It is another W&B run, with each row once; so it is with overwrite=true."""
    process = training.until(8, **server.environment, **FAST)
    wait_for(lambda: any(len(run.rows()) == 8 for run in server.runs.values()), process)
    training.kill(process)
    [run] = server.runs.values()
    assert len(run.rows()) == 8 and run.exit_code is None
    training.run(**server.environment)
    training.run("overwrite=true", **server.environment)
    assert [run.starts for run in server.runs.values()] == [1, 1, 1]
    _, second, third = server.runs.values()
    assert training.is_whole(third) and [row["epoch"] for row in second.rows()] == [*range(1, 13)]
    versions = [each.id.partition("-")[0] for each in (run, second, third)]
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.slow
def test_an_interrupted_fold_goes_on_offline(training: Training, server: Server) -> None:
    """`wandb sync` makes one W&B run of what a kill and a Ctrl-C have left, with each row once."""
    training.kill(training.until(6, **OFFLINE))
    training.stop(training.until(8, **OFFLINE))
    training.run(**OFFLINE)
    assert "ERROR" not in training.sync(server, "wandb/offline-run-*")
    [run] = server.runs.values()
    assert training.is_whole(run)
    assert len(list((training.root / "output/wandb").glob("interrupted-offline-run-*"))) == 2
    training.sync(server, "wandb/offline-run-*")
    assert run.starts == 1, "what is uploaded is not uploaded again"


def test_a_fold_that_fails(root: Path, home: Path, server: Server) -> None:
    """It is at the server, as failed, with what it has logged, files too."""
    with own_experiment({"train.py": FAILS}) as folder:
        process = Training(folder.name, root, home).start(**server.environment)
        assert "planted" in process.communicate()[1] and process.returncode == 1
    [run] = server.runs.values()
    assert run.exit_code == 1 and "score" not in run.summary
    assert [row for row in run.rows() if "page" not in row] == [{"step": 10, "loss": 2}, {"epoch": 1, "loss_epoch": 1}]
    assert run.axes == {"loss": "step", "loss_epoch": "epoch"}
    [page] = [content for name, content in run.files.items() if name.startswith("media/html/page")]
    assert b"of the training" in page, "what the training logs through fold.wandb"


@pytest.mark.slow
def test_a_server_that_goes_away(training: Training, server: Server) -> None:
    """The training ends well; the line that is printed brings to another server what the first has not got."""
    training.before = "from expkit import tracking; tracking.FINISH_TIMEOUT = 5"
    process = training.until(4, "exp.fold=[0,1]", **server.environment, **FAST)
    wait_for(lambda: any(len(run.rows()) == 4 for run in server.runs.values()), process)
    server.die()
    training.open()
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "2/5 folds" in printed and "Traceback" not in errors
    [arguments] = re.findall(r"upload it later with `uv run wandb sync (.*)`", errors)
    [run] = server.runs.values()
    assert len(run.rows()) == 4 and run.exit_code is None
    with serve(server.runs) as other:
        *options, path = arguments.split()
        training.sync(other, *options, str(Path(path).resolve()))  # it may be relative to where the training ran
        assert training.is_whole(run)
        training.sync(other, "wandb/offline-run-*")
        [_, fold1] = other.runs.values()
        assert training.is_whole(fold1, fold=1)
