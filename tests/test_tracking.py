"""W&B: grouped by run, one W&B run per fold, readable offline, and never in the way of a training."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Project, call
from helpers import results, start
from light import wait_for

QUICK = "exp.train.epoch=2"
SLOW = "exp.train.epoch=150"  # some seconds per fold
BASELINE = "output/001-baseline"
KEY = "0123456789" * 4


def inspect(project: Project, run: Path) -> dict[str, Any]:
    """An offline run, as W&B's own reader sees it."""
    reader = [project.python.with_name("wandb"), "leet", "inspect", "--summary", "--json"]
    content: dict[str, Any] = json.loads(call(*reader, run, cwd=run, env=project.environment()).stdout)
    return content


def offline_runs(root: Path) -> list[Path]:
    return sorted((root / "output/wandb").glob("offline-run-*"))


def wandb_ids(root: Path) -> set[str]:
    return {run.name.split("-", 3)[3] for run in offline_runs(root)}


def epochs(history: Path) -> int:
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def test_offline_without_an_account(project: Project, tmp_path: Path) -> None:
    """No key, no network: an offline run per fold, with the config, a point per epoch and the final score."""
    printed = project.train("exp=001", QUICK, "exp.fold=[0,2]", root=tmp_path).stdout
    assert printed.count("wandb sync") == 1, "said once"
    assert len(offline_runs(tmp_path)) == 2
    folds = results(tmp_path, f"001-larger-lr,{QUICK}", "001-baseline")
    for run, (fold, result) in zip(offline_runs(tmp_path), sorted(folds.items()), strict=True):
        seen = inspect(project, run)
        text = json.dumps(seen)
        assert f"001-baseline/001-larger-lr,{QUICK}/fold{fold}" in text
        assert '"digits"' in text, "the project of the answers"
        assert seen["summary"]["score"] == pytest.approx(result["scores"]["accuracy"])
        assert seen["summary"]["epoch"] == 2
        assert seen["step"] == 1, "a point per epoch"
        assert "0.003" in text and "learning_rate" in text


def test_wandb_mode_disabled(project: Project, tmp_path: Path) -> None:
    """Nothing is written for W&B, and W&B is not even imported."""
    done = project.train(QUICK, root=tmp_path, WANDB_MODE="disabled", PYTHONPROFILEIMPORTTIME="1")
    assert not (tmp_path / "output/wandb").exists()
    assert "wandb" not in {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.slow
def test_the_id_is_stable_until_the_run_is_replaced(project: Project, tmp_path: Path) -> None:
    """A fold that is trained again after an interruption continues its W&B run; a replaced one is a new one."""
    project.train(QUICK, root=tmp_path)
    (tmp_path / BASELINE / f"baseline,{QUICK}/fold0/result.json").unlink()
    time.sleep(1.1)  # the folder of a W&B run is named by the second
    project.train(QUICK, root=tmp_path)
    assert len(offline_runs(tmp_path)) == 2
    assert len(wandb_ids(tmp_path)) == 1
    project.train(QUICK, "overwrite=true", root=tmp_path)
    assert len(wandb_ids(tmp_path)) == 2


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [{}, {"WANDB_MODE": "online"}], ids=["key", "online"])
def test_an_unreachable_server_costs_one_wait(
    project: Project, tmp_path: Path, silent_server: str, mode: dict[str, str]
) -> None:
    """The training finishes with a warning, within 30 s of extra waiting for all folds together."""
    root = tmp_path / "plain"
    root.mkdir()
    begin = time.monotonic()
    project.train(QUICK, "exp.fold=[0,1,2]", root=root)
    plain = time.monotonic() - begin

    begin = time.monotonic()
    server = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": silent_server} | mode
    done = project.train(QUICK, "exp.fold=[0,1,2]", root=tmp_path, **server)
    assert time.monotonic() - begin < plain + 30
    assert "warning: W&B" in done.stderr
    assert "3/5 folds" in done.stdout
    assert len(offline_runs(tmp_path)) == 3


@pytest.mark.slow
def test_online_without_a_key_goes_on_offline(project: Project, tmp_path: Path) -> None:
    done = project.train(QUICK, root=tmp_path, WANDB_MODE="online")
    assert "warning: WANDB_MODE is online and there is no key" in done.stderr
    assert len(offline_runs(tmp_path)) == 1


@pytest.mark.slow
def test_wandb_may_fail_in_the_middle(project: Project, tmp_path: Path) -> None:
    """Its service killed: a warning, and the next fold has a W&B run again."""
    process = start(project, tmp_path, "exp.fold=[0,1]", SLOW, experiment="001-baseline", WANDB_MODE="offline")
    history = tmp_path / BASELINE / f"baseline,{SLOW}/fold0/history.csv"
    wait_for(lambda: epochs(history) > 1, process)
    services = [child for child in psutil.Process(process.pid).children(recursive=True) if "wandb" in child.name()]
    assert services
    for service in services:
        service.kill()
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors.count("warning: W&B failed") == 1
    assert "Traceback" not in errors
    assert "2/5 folds" in printed
    assert len(offline_runs(tmp_path)) == 2
    assert epochs(history) == 150


@pytest.mark.slow
def test_wandb_folder_may_vanish(project: Project, tmp_path: Path) -> None:
    process = start(project, tmp_path, "exp.fold=[0,1]", SLOW, experiment="001-baseline", WANDB_MODE="offline")
    wait_for(lambda: epochs(tmp_path / BASELINE / f"baseline,{SLOW}/fold0/history.csv") > 1, process)
    shutil.rmtree(tmp_path / "output/wandb")
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "2/5 folds" in printed


def test_dotenv_is_read_and_the_environment_overrides_it(sweeping: Project, tmp_path: Path) -> None:
    """Variables of W&B, PROJECT_ROOT: from a file that git ignores."""
    dotenv = sweeping.folder / ".env"
    dotenv.write_text(f"WANDB_PROJECT=from-dotenv\nWANDB_MODE=offline\nPROJECT_ROOT={tmp_path}\n")
    code = "import expkit, os; print(os.environ['WANDB_PROJECT'], os.environ['WANDB_MODE'], expkit.project_root())"
    environment = sweeping.environment(WANDB_MODE="disabled")
    try:
        done = call(sweeping.python, "-c", code, cwd=tmp_path, env=environment)
        assert done.stdout.split() == ["from-dotenv", "disabled", str(tmp_path)]
        assert call("git", "status", "--porcelain", cwd=sweeping.folder).stdout == ""
    finally:
        dotenv.unlink()
