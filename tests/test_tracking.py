"""W&B: grouped by run, one W&B run a fold, readable offline, and never in the way."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, call
from test_run import load

QUICK = "exp.train.epoch=2"
KEY = "0123456789" * 4


def inspect(project: Project, run: Path) -> dict[str, Any]:
    """An offline run, as W&B's own reader sees it."""
    reader = [project.python.with_name("wandb"), "leet", "inspect", "--summary", "--json"]
    content: dict[str, Any] = json.loads(call(*reader, run, cwd=run, env=project.environment()).stdout)
    return content


def offline_runs(root: Path) -> list[Path]:
    return sorted((root / "output/wandb").glob("offline-run-*"))


def test_offline_without_an_account(project: Project, tmp_path: Path) -> None:
    """No key, no network: a real offline run a fold, with the config, a point an epoch and the final score."""
    printed = project.train("exp=001", "exp.fold=[0,2]", root=tmp_path).stdout
    assert printed.count("wandb sync") == 1, "said once"
    runs = offline_runs(tmp_path)
    assert len(runs) == 2
    for run, fold in zip(runs, (0, 2), strict=True):
        seen = inspect(project, run)
        text = json.dumps(seen)
        assert f"001-baseline/001-larger-lr/fold{fold}" in text
        assert '"digits"' in text, "the project of the answers"
        result = load(tmp_path / f"output/001-baseline/001-larger-lr/fold{fold}/result.json")
        assert seen["summary"]["score"] == pytest.approx(result["score"])
        assert seen["summary"]["epoch"] == 40
        assert seen["step"] == 39, "a point an epoch"
        assert "0.003" in text and "learning_rate" in text


def test_wandb_mode_and_project_are_honoured(project: Project, tmp_path: Path) -> None:
    project.train(QUICK, root=tmp_path, WANDB_MODE="disabled")
    assert not (tmp_path / "output/wandb").exists()
    project.train(
        QUICK, "exp.fold=[1]", root=tmp_path, WANDB_MODE="offline", WANDB_PROJECT="elsewhere", WANDB_API_KEY=KEY
    )
    assert '"elsewhere"' in json.dumps(inspect(project, offline_runs(tmp_path)[0]))


def test_the_id_is_stable_until_the_run_is_replaced(project: Project, tmp_path: Path) -> None:
    """A fold that is trained again after an interruption continues its W&B run; a replaced one is a new one."""

    def ids() -> set[str]:
        return {run.name.split("-", 3)[3] for run in offline_runs(tmp_path)}

    project.train(QUICK, root=tmp_path)
    (tmp_path / f"output/001-baseline/baseline,{QUICK}/fold0/result.json").unlink()
    time.sleep(1.1)  # the folder of a W&B run is named by the second
    project.train(QUICK, root=tmp_path)
    assert len(offline_runs(tmp_path)) == 2
    assert len(ids()) == 1
    project.train(QUICK, "overwrite=true", root=tmp_path)
    assert len(ids()) == 2


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("mode", [{}, {"WANDB_MODE": "online"}], ids=["key", "online"])
def test_an_unreachable_server_costs_one_wait(
    project: Project, tmp_path: Path, silent_server: str, mode: dict[str, str]
) -> None:
    """The training finishes with a warning, within 30 s of extra waiting for all folds together."""
    root = tmp_path / "plain"
    root.mkdir()
    start = time.monotonic()
    project.train(QUICK, "exp.fold=[0,1,2]", root=root)
    plain = time.monotonic() - start

    start = time.monotonic()
    done = project.train(
        QUICK, "exp.fold=[0,1,2]", root=tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=silent_server, **mode
    )
    assert time.monotonic() - start < plain + 30
    assert "warning: W&B" in done.stderr
    assert "3/5 folds" in done.stdout
    assert len(offline_runs(tmp_path)) == 3


def test_online_without_a_key_goes_on_offline(project: Project, tmp_path: Path) -> None:
    done = project.train(QUICK, root=tmp_path, WANDB_MODE="online")
    assert "warning: WANDB_MODE is online and there is no key" in done.stderr
    assert len(offline_runs(tmp_path)) == 1


def test_dotenv_is_read_and_the_environment_goes_over_it(own_project: Any, tmp_path: Path) -> None:
    project = own_project()
    (project.folder / ".env").write_text(f"WANDB_PROJECT=from-dotenv\nPROJECT_ROOT={tmp_path}\n")
    project.train(QUICK)
    assert '"from-dotenv"' in json.dumps(inspect(project, offline_runs(tmp_path)[0]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.train(QUICK, root=elsewhere, WANDB_MODE="disabled")
    assert (elsewhere / "output/001-baseline").exists()
    assert call("git", "status", "--porcelain", cwd=project.folder).stdout == ""
