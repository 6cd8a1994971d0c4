"""W&B: grouped by run, one W&B run per fold, readable offline, and never in the way of a training."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Project, call
from experiments import NETS, NETS_CONFIG
from helpers import results, start
from light import CONFIG, wait_for

QUICK = "exp.train.epoch=2"
SLOW = "exp.train.epoch=150"  # some seconds per fold
BASELINE = "output/001-baseline"
KEY = "0123456789" * 4


def inspect(project: Project, run: Path) -> dict[str, Any]:
    """An offline run, as W&B's own reader sees it."""
    reader = [project.python.with_name("wandb"), "leet", "inspect", "--summary", "--json"]
    content: dict[str, Any] = json.loads(call(*reader, run, cwd=run, env=project.environment()).stdout)
    return content


def logged(project: Project, run: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The axis of each metric, and the points without what W&B adds, of an offline run, as W&B's own reader sees it."""
    reader = [project.python.with_name("wandb"), "leet", "inspect", "--json"]
    records = map(json.loads, call(*reader, run, cwd=run, env=project.environment()).stdout.splitlines())
    axes, points = {}, []
    for record in records:
        if record["type"] == "metric":
            axes[record["metric"]["name"]] = record["metric"]["step_metric"]
        elif record["type"] == "history":
            points.append({name: value for name, value in record["history"]["item"].items() if name[:1] != "_"})
    return axes, points


def offline_runs(root: Path) -> list[Path]:
    return sorted((root / "output/wandb").glob("offline-run-*"))


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
        about = ("001-baseline", f"001-larger-lr,{QUICK}", fold)
        assert tuple(seen["config"][key] for key in ("experiment", "run", "fold")) == about


def test_the_choice_of_a_model_and_a_training_on_all_rows(sweeping: Project, root: Path) -> None:
    """W&B can group by them."""
    folder = sweeping.folder / "experiments/004-nets"
    folder.mkdir()
    for name, text in {".gitignore": "*\n", "train.py": NETS, "config.yaml": NETS_CONFIG}.items():
        (folder / name).write_text(text)
    for arguments in (["model=wide", "exp.fold=[3]"], ["exp.mode=sub"]):
        sweeping.train(*arguments, root=root, experiment="004-nets", check=False, WANDB_MODE="offline")
        time.sleep(1.1)  # the folder of a W&B run is named by the second
    found = [inspect(sweeping, run)["config"] for run in offline_runs(root)]
    assert [(one["fold"], one["choices"]) for one in found] == [(3, {"model": "wide"}), ("full", {"model": "deep"})]
    assert found[0]["model"] == {"units": 8} and found[0]["experiment"] == "004-nets"


# What is logged is in control/rows: a row a line, or "checkpoint", or "stop".
ROWS = """
import json

import expkit


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    lines = (expkit.project_root() / "control/rows").read_text().splitlines()
    for line in lines[int(fold.checkpoint.file.read_text()) if fold.checkpoint.file else 0 :]:
        if line == "stop":
            (expkit.project_root() / "control/rows").write_text("\\n".join(lines).replace("stop", "null"))
            raise KeyboardInterrupt
        elif line == "checkpoint":
            fold.checkpoint.save(lambda file: file.write_text(str(lines.index(line) + 1)))
        elif line != "null":
            fold.log(json.loads(line))
    fold.save_oof({"id": [1], "prediction": [0.5]})
    fold.finish(**json.loads((expkit.project_root() / "control/values").read_text()))


experiment = expkit.Experiment(train, expkit.Config, metric=quality, greater_is_better=True, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""


def log_rows(
    project: Project, root: Path, *rows: dict[str, Any] | str, values: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Train a fold that logs these rows, offline."""
    folder = project.folder / "experiments/003-rows"
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    (folder / "train.py").write_text(ROWS.lstrip())
    (folder / "config.yaml").write_text(f"{CONFIG.lstrip()}  seed: 0\n")
    (root / "control/rows").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    (root / "control/values").write_text(json.dumps(values or {}))
    arguments: dict[str, Any] = {"root": root, "experiment": "003-rows", "check": False, "WANDB_MODE": "offline"}
    done = project.train("exp.fold=[0]", **arguments)
    if "stop" in rows:
        assert done.returncode == 130, done.stderr
        time.sleep(1.1)  # the folder of a W&B run is named by the second
        done = project.train("exp.fold=[0]", **arguments)
    assert done.returncode == 0, done.stderr
    return done


def test_each_metric_has_its_own_axis(sweeping: Project, root: Path) -> None:
    """The one it was first logged over; over the other one it has another name, and no point is lost."""
    rows = [
        {"step": 1, "loss": 0.5, "rate": 0.1},
        {"step": 2, "loss": 0.4, "rate": 0.1},
        {"epoch": 1, "loss": 0.45, "accuracy": 0.7},
        {"test": 0.9},
        {"step": 3, "loss": 0.3, "accuracy": 0.8},
        {"epoch": 2, "step": 3, "test": 0.8},
    ]
    log_rows(sweeping, root, *rows)
    [run] = offline_runs(root)
    axes, points = logged(sweeping, run)
    assert axes == {
        "loss": "step",
        "rate": "step",
        "loss_epoch": "epoch",
        "accuracy": "epoch",
        "accuracy_step": "step",
        "test_epoch": "epoch",
    }
    assert points == [
        {"step": 1, "loss": 0.5, "rate": 0.1},
        {"step": 2, "loss": 0.4, "rate": 0.1},
        {"epoch": 1, "loss_epoch": 0.45, "accuracy": 0.7},
        {"test": 0.9},
        {"step": 3, "loss": 0.3, "accuracy_step": 0.8},
        {"epoch": 2, "step": 3, "test_epoch": 0.8},
    ]
    file = next((root / "output/003-rows").glob("*/fold0")) / "history.csv"
    assert file.read_text().splitlines()[:4] == [
        "step,loss,rate,epoch,accuracy,test",
        "1,0.5,0.1,,,",
        "2,0.4,0.1,,,",
        ",0.45,,1,0.7,",
    ], "on the disk the names stay as they are"


def test_a_fold_that_goes_on_keeps_its_axes(sweeping: Project, root: Path) -> None:
    """Also when what comes first now came second then."""
    before = [{"step": 1, "loss": 0.5}, {"epoch": 1, "loss": 0.4}, "checkpoint"]
    log_rows(sweeping, root, *before, "stop", {"epoch": 2, "loss": 0.3}, {"step": 2, "loss": 0.2})
    [run] = offline_runs(root)
    axes, points = logged(sweeping, run)
    assert axes == {"loss": "step", "loss_epoch": "epoch"}
    assert points == [
        {"step": 1, "loss": 0.5},
        {"epoch": 1, "loss_epoch": 0.4},
        {"epoch": 2, "loss_epoch": 0.3},
        {"step": 2, "loss": 0.2},
    ]


def test_a_name_that_wandb_refuses_costs_its_values(sweeping: Project, root: Path) -> None:
    """A name is W&B's own, or stands for any: one line says which, and the rest of its row goes on."""
    odd = {"": 1.0, "_step": 7, "_timestamp": 1, "a*": 2.0, "a*b": 3.0}
    fine = {"half \ud800": 1, "dot.ted": 1, "slash/ed": 1, "text": "x" * 1_000_000, "huge": 2**70, "損失": 0.5}
    values = {"_runtime": 3, "half \ud800": 1, "table": {"1": 2}, "best_epoch": 2}
    rows = [{"epoch": epoch, "loss": 0.5} | odd | fine for epoch in (1, 2)]
    done = log_rows(sweeping, root, *rows, values=values)
    [run] = offline_runs(root)
    axes, points = logged(sweeping, run)
    expected = {"epoch", "loss", *fine} - {"half \ud800"} | {"half �"}
    assert [set(point) for point in points] == [expected, expected]
    assert axes == dict.fromkeys(expected - {"epoch"}, "epoch")
    summary = inspect(sweeping, run)["summary"]
    assert summary["best_epoch"] == 2 and summary["score"] == 0.5 and summary["table"] == {"1": 2}
    assert [line for line in done.stderr.splitlines() if "W&B" in line] == [
        f"warning: W&B does not take the name {name!r}; its values are kept only on the disk"
        for name in ("", "_step", "_timestamp", "a*", "a*b", "_runtime")
    ]
    history = next((root / "output/003-rows").glob("*/fold0")) / "history.csv"
    assert history.read_text().splitlines()[0] == ",".join(["epoch", "loss", *odd, *fine]).replace("\ud800", "�")


# A W&B run that ends behind our back.
ENDED = """
from expkit.tracking import Tracking
tracker = Tracking("002-light", "light", {}, debug=False).start(0, "0a1b2c3d", [])
tracker.log({"epoch": 1, "loss": 0.5}, "epoch")
tracker.run.finish()
tracker.log({"epoch": 2, "loss": 0.5}, "epoch")
tracker.log({"epoch": 3, "loss": 0.5}, "epoch")
tracker.finish(failed=False)
print(tracker.run, "trained")
"""


def test_a_run_that_wandb_has_ended(project: Project, root: Path) -> None:
    """One line, and there is no W&B any more."""
    environment = project.environment(PROJECT_ROOT=str(root), WANDB_MODE="offline")
    done = call(project.python, "-c", ENDED, cwd=root, env=environment)
    [run] = offline_runs(root)
    assert logged(project, run)[1] == [{"epoch": 1, "loss": 0.5}]
    assert [line.partition("(")[0] for line in done.stderr.splitlines() if "W&B" in line] == ["warning: W&B failed "]
    assert done.stdout.endswith("None trained\n")


def test_wandb_mode_disabled(project: Project, tmp_path: Path) -> None:
    """Nothing is written for W&B, and W&B is not even imported."""
    done = project.train(QUICK, root=tmp_path, WANDB_MODE="disabled", PYTHONPROFILEIMPORTTIME="1")
    assert not (tmp_path / "output/wandb").exists()
    assert "wandb" not in {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


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
    assert "warning: WANDB_MODE is online, but there is no key" in done.stderr
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
