"""What W&B is told of a fold, and what a training does when W&B fails; with a stand-in for W&B."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import command
from experiments import NETS, NETS_CONFIG, own_experiment
from helpers import counting

import expkit
from expkit import store, tracking
from expkit.project import display_path
from expkit.tracking import Tracker


class WandbRun:
    """Keeps what it is told."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.rows: list[dict[str, Any]] = []
        self.axes: dict[str, str] = {}
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None

    def log(self, row: dict[str, Any]) -> None:
        if self.exit_code is not None:
            raise RuntimeError("this run has ended")
        self.rows.append(row)

    def define_metric(self, name: str, step_metric: str) -> None:
        assert name not in self.axes
        self.axes[name] = step_metric

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def opened(root: object, monkeypatch: pytest.MonkeyPatch) -> list[WandbRun]:
    """The runs that are opened offline, one after the other."""
    found: list[WandbRun] = []

    def open_run(**arguments: Any) -> WandbRun:
        found.append(WandbRun(**arguments))
        return found[-1]

    monkeypatch.setattr(tracking, "_open", open_run)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return found


def log_rows(*rows: dict[str, Any], interrupted: bool = False) -> None:
    """Train a fold that logs these rows."""

    def during(fold: expkit.Fold) -> None:
        for row in rows:
            fold.log(**row)
        if interrupted:
            fold.checkpoint.save(lambda file: file.write_text("1"))
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        command("exp.fold=[0]", during=during).train()


def test_each_metric_has_its_own_axis(opened: list[WandbRun], root: Path) -> None:
    """The one it was first logged over; over the other one it has another name, and no point is lost."""
    log_rows(
        {"step": 1, "loss": 0.5, "rate": 0.1},
        {"epoch": 1, "loss": 0.45, "accuracy": 0.7},
        {"test": 0.9},
        {"step": 3, "loss": 0.3, "accuracy": 0.8},
        {"epoch": 2, "step": 3, "test": 0.8},
    )
    [run] = opened
    assert run.axes == {
        "loss": "step",
        "rate": "step",
        "loss_epoch": "epoch",
        "accuracy": "epoch",
        "accuracy_step": "step",
        "test_epoch": "epoch",
    }
    assert run.rows == [
        {"step": 1, "loss": 0.5, "rate": 0.1},
        {"epoch": 1, "loss_epoch": 0.45, "accuracy": 0.7},
        {"test": 0.9},
        {"step": 3, "loss": 0.3, "accuracy_step": 0.8},
        {"epoch": 2, "step": 3, "test_epoch": 0.8},
    ]
    history = (counting(root) / "fold0" / store.HISTORY).read_text().splitlines()
    assert history[:3] == ["step,loss,rate,epoch,accuracy,test", "1,0.5,0.1,,,", ",0.45,,1,0.7,"], (
        "the names as they are"
    )
    assert run.summary["score"] == run.summary["quality"] == 10.0 and run.exit_code == 0


def test_a_fold_that_goes_on_keeps_its_axes(opened: list[WandbRun], root: Path) -> None:
    """It is a new W&B run with all rows, also when what comes first now came second then.

    What the first process has left offline is set aside: at its half a row, `wandb sync` would end.
    """
    log_rows({"step": 1, "loss": 0.5}, {"epoch": 1, "loss": 0.4}, interrupted=True)
    left = root / "output/wandb" / f"offline-run-20260101_120000-{opened[0].arguments['id']}"
    left.mkdir(parents=True)
    log_rows({"epoch": 2, "loss": 0.3}, {"step": 2, "loss": 0.2})
    first, run = opened
    assert first.arguments["id"] != run.arguments["id"] and first.arguments["group"] == run.arguments["group"]
    assert [path.name for path in left.parent.iterdir()] == [f"interrupted-{left.name}"]
    assert (first.exit_code, run.exit_code) == (1, 0)
    assert run.axes == {"loss": "step", "loss_epoch": "epoch"}
    assert run.rows == [
        {"step": 1, "loss": 0.5},
        {"epoch": 1, "loss_epoch": 0.4},
        {"epoch": 2, "loss_epoch": 0.3},
        {"step": 2, "loss": 0.2},
    ]


def test_the_choice_of_a_model_and_a_training_on_all_rows(opened: list[WandbRun]) -> None:
    """W&B can group by them."""
    with own_experiment({"train.py": NETS, "config.yaml": NETS_CONFIG}) as folder:
        expkit.run(folder.name, overrides=["model=wide", "exp.fold=[3]"])
        with suppress(expkit.Error):  # its rows have the number of the fold as their id
            expkit.run(folder.name, overrides=["exp.mode=sub"])
    found = [run.arguments["config"] for run in opened]
    assert [(one["fold"], one["choices"]) for one in found] == [(3, {"model": "wide"}), ("full", {"model": "deep"})]
    assert found[0]["model"] == {"units": 8} and found[0]["experiment"] == folder.name
    assert opened[0].arguments["group"] == f"{folder.name}/{found[0]['run']}"


def test_a_run_that_wandb_has_ended(opened: list[WandbRun], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and there is no W&B any more."""
    tracker = tracking.start(command().run_dir, 0)
    tracker.run.finish(0)
    for epoch in (2, 3):
        tracker.log({"epoch": epoch}, "epoch")
    tracker.finish(failed=False)
    assert tracker.run is None and opened[0].rows == []
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: W&B failed (this run has ended); the training goes on")


def test_uploads_that_do_not_end(
    opened: list[WandbRun], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server has gone away: one line says how to upload the rest, and the next folds are offline."""

    def finish(self: WandbRun, exit_code: int) -> None:
        raise TimeoutError("not all was uploaded")

    monkeypatch.setattr(WandbRun, "finish", finish)
    monkeypatch.setattr(WandbRun, "sync_dir", str(root / "output/wandb/run-1"), raising=False)
    monkeypatch.setattr(Tracker, "is_online", True)
    monkeypatch.setenv("WANDB_MODE", "online")
    command("exp.fold=[0,1]").train()
    printed = capsys.readouterr()
    assert [run.arguments["mode"] for run in opened] == ["online", "offline"]
    where = display_path(root / "output/wandb/run-1")
    assert f"upload it later with `uv run wandb sync --include-online {where}`" in printed.err
    assert "2/5 folds" in printed.out


@pytest.mark.parametrize(
    ("answer", "mode", "words"),
    [(False, "offline", ""), (OSError("no"), "offline", "going on offline (no)"), (True, "online", "")],
)
def test_online_needs_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Any, mode: str, words: str
) -> None:
    """Without one, the training goes on offline; the account is asked for once."""
    asked: list[bool] = []

    def login(prompt: bool) -> bool:
        asked.append(prompt)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(login=login))
    monkeypatch.setattr(Tracker, "is_online", None)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert [tracking._mode() for _ in range(2)] == [mode] * 2
    said = capsys.readouterr().err
    assert asked == [False] and words in said and bool(words) == bool(said)
