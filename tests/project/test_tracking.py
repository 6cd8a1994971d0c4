"""W&B: grouped by run, one W&B run per fold, readable offline, and never in the way of a training."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, Project, call, clean_environment
from helpers import results

from expkit import project as expkit_project

QUICK = "exp.train.epochs=2"


def inspect(run: Path, home: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A summary of an offline run, and the points without what W&B adds, as W&B's own reader sees them."""
    reader = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json"]
    environment = clean_environment() | {"HOME": str(home)}
    summary: dict[str, Any] = json.loads(call(*reader, "--summary", run, cwd=run, env=environment).stdout)
    records = map(json.loads, call(*reader, run, cwd=run, env=environment).stdout.splitlines())
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    return summary, [{name: value for name, value in row.items() if name[:1] != "_"} for row in rows]


def offline_runs(root: Path) -> list[Path]:
    return sorted((root / "output/wandb").glob("offline-run-*"))


@pytest.mark.slow
def test_offline_without_an_account(project: Project, tmp_path: Path) -> None:
    """No key, no network: an offline run per fold, with the config, a point per epoch and the final score."""
    printed = project.train("exp=001", QUICK, "exp.fold=[0,2]", root=tmp_path).stdout
    assert printed.count("wandb sync") == 1, "said once"
    assert len(offline_runs(tmp_path)) == 2
    folds = results(tmp_path, f"001-larger-lr,{QUICK}", "001-baseline")
    for run, (fold, result) in zip(offline_runs(tmp_path), sorted(folds.items()), strict=True):
        seen, points = inspect(run, project.home)
        text = json.dumps(seen)
        assert f"001-baseline/001-larger-lr,{QUICK}/fold{fold}" in text
        assert '"digits"' in text, "the project of the answers"
        assert seen["summary"]["score"] == pytest.approx(result["scores"]["accuracy"])
        assert [point["epoch"] for point in points] == [1, 2] and seen["summary"]["epoch"] == 2
        assert "0.003" in text and "learning_rate" in text
        about = ("001-baseline", f"001-larger-lr,{QUICK}", fold)
        assert tuple(seen["config"][key] for key in ("experiment", "run", "fold")) == about


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


# W&B itself, without a training: the W&B runs of two folds, from their start to their end

FOLDS = """
import sys, time

import psutil

import expkit
from expkit import tracking
from expkit.rundir import RunDir

run_dir = RunDir(expkit.load_experiment("002-light"), expkit.load_config("002-light"), "light", "0a1b", "")
fine = {"dot.ted": 1, "slash/ed": 1, "text": "x" * 1_000_000, "huge": 2**70, "損失": 0.5}
begin = time.monotonic()
for fold in (0, 1):
    tracker = tracking.start(run_dir, fold)
    tracker.log({"epoch": 1, "loss": 0.5} | fine, "epoch")
    if fold == 0 and sys.argv[1] == "killed":
        services = [one for one in psutil.Process().children(recursive=True) if "wandb" in one.name()]
        assert services
        for service in services:
            service.kill()
    tracker.log({"epoch": 2, "loss": 0.5} | fine, "epoch")
    tracker.summarize({"score": 1.0, "table": {"1": 2}})
    tracker.finish(failed=False)
print("trained in", int(time.monotonic() - begin), "s")
"""
KEY = {"WANDB_API_KEY": "0123456789" * 4}
OFFLINE = {"WANDB_MODE": "offline"}
CASES = {
    "": OFFLINE,
    "killed": OFFLINE,
    "silent": KEY,
    "WANDB_BASE_URL": KEY | {"WANDB_BASE_URL": "garbage"},
    "WANDB_MODE": {"WANDB_MODE": "garbage"},
    "WANDB_DIR": OFFLINE | {"WANDB_DIR": "/proc/nothing"},
    "WANDB_API_KEY": {"WANDB_API_KEY": "short"},
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[dict[str, tuple[Path, Future[Completed]]]]:
    """What the script does in each case, and its PROJECT_ROOT: several at once, as it waits most of the time."""
    own = {"HOME": str(home), "EXPKIT_ROOT": str(expkit_project.code_root())}

    def run(case: str, root: Path, server: str) -> Completed:
        variables = {"WANDB_BASE_URL": server, "PROJECT_ROOT": str(root)} | CASES[case]
        return call(sys.executable, "-c", FOLDS, case, cwd=root, env=clean_environment() | own | variables, check=False)

    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(4) as pool:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"  # it takes every connection, and says nothing
        roots = {case: tmp_path_factory.mktemp("root") for case in CASES}
        yield {case: (root, pool.submit(run, case, root, server)) for case, root in roots.items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_wandb_is_never_in_the_way(tried: Any, home: Path, case: str) -> None:
    """Whatever its variables say and its server and its service do: both folds are trained, after one wait at most."""
    root, future = tried[case]
    done = future.result()
    assert done.returncode == 0 and "trained" in done.stdout and "Traceback" not in done.stderr, done.stderr
    if case == "silent":
        assert "warning: W&B" in done.stderr
        assert len(offline_runs(root)) == 2
        assert int(done.stdout.split()[-2]) < 45, "30 seconds, and what a busy machine takes"
    elif case == "killed":
        assert done.stderr.count("warning: W&B failed") == 1 and len(offline_runs(root)) == 2
    elif case == "":
        assert "W&B" not in done.stderr
        for run in offline_runs(root):
            summary, points = inspect(run, home)
            named = {"epoch", "loss", "dot.ted", "slash/ed", "text", "huge", "損失"}
            assert [point.keys() for point in points] == [named, named]
            assert summary["summary"]["score"] == 1.0 and summary["summary"]["table"] == {"1": 2}
