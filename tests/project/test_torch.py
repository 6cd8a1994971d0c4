"""`framework: torch` renders the same project with another model.py, which trains for real."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import slurm
import yaml
from conftest import Project, background, call
from helpers import load
from light import edited, wait_for

from expkit import store, tables
from expkit.board import read_board

pytestmark = pytest.mark.slow


def train(network: Project, root: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return network.train(*arguments, root=root, check=check, WANDB_MODE="disabled")


def test_a_fold_is_good(network: Project, root: Path) -> None:
    """At least 0.98, with no epoch chosen by the rows that are scored."""
    printed = train(network, root, "exp=001", "exp.fold=[0]").stdout
    [row] = read_board()
    assert row.score is not None and row.score >= 0.98 and row.marks == ("partial",), printed


def test_a_vision_transformer(network: Project, root: Path) -> None:
    """Chosen on the command line, or in a parameter set."""
    shown = yaml.safe_load(train(network, root, "model=vit", "exp.model.depth=3", "show_config=true").stdout)
    assert shown["exp"]["model"] == {"width": 48, "depth": 3, "heads": 4, "dropout": 0.0}
    train(network, root, "exp=002", "exp.train.epoch=3")
    [row] = read_board()
    assert row.score is not None and row.score > 0.5 and row.config.choices.model == "vit"


def test_a_label_that_is_none_of_the_classes(network: Project) -> None:
    """It trains no network on another class."""
    code = "import numpy as np, model; model.CLASSES = np.array(['owl', 'gull']); print(model.as_labels(np.array({})))"
    folder, environment = network.folder / "experiments/001-baseline", network.environment()
    in_any_order = call(network.python, "-c", code.format(["gull", "owl"]), cwd=folder, env=environment)
    assert in_any_order.stdout == "tensor([1, 0])\n"
    wrong = call(network.python, "-c", code.format(["dove", "owl"]), cwd=folder, env=environment, check=False)
    assert "targets such as [\"'dove'\"] are none of CLASSES in model.py, which are ['owl', 'gull']" in wrong.stderr


def epochs(fold: Path) -> int:
    """How many its history has."""
    file = fold / store.HISTORY
    return max(0, file.read_text().count("\n") - 1) if file.exists() else 0


def test_a_long_epoch_shows_its_steps(network: Project, root: Path) -> None:
    """Every log_every steps within the epoch; an interruption at any of these points loses no row."""
    file = network.folder / "experiments/001-baseline/train.py"
    save = "fold.checkpoint.save(network.save_checkpoint, every=30)"
    stop = "\n            if str(network.step) == os.environ.get('STOP'):\n                raise KeyboardInterrupt"
    with edited(file, f"{save}  # seconds; the same command goes on from here", save.replace("30", "0") + stop):
        file.write_text(file.read_text().replace("\nimport expkit\n", "\nimport os\n\nimport expkit\n"))
        arguments = ["exp.fold=[0]", "exp.train.epoch=2", "exp.runtime.log_every=6"]
        train(network, root, *arguments, "exp.name=whole")
        for step in (6, 18, 30):
            done = network.train(*arguments, root=root, check=False, WANDB_MODE="disabled", STOP=str(step))
            assert done.returncode == 130, done.stderr
        train(network, root, *arguments)
    whole, history = (
        next((root / "output/001-baseline").glob(f"{name},*/fold0")) / store.HISTORY for name in ("whole", "baseline")
    )
    assert history.read_bytes() == whole.read_bytes()
    header, *rows = [line.split(",") for line in history.read_text().splitlines()]
    assert header[:3] == ["step", "train_loss_step", "epoch"]
    assert [(row[0], row[2]) for row in rows] == [("6", ""), ("12", ""), ("", "1"), ("24", ""), ("30", ""), ("", "2")]


def test_a_loss_that_is_nan_is_one_line_and_probes_are_debug_runs(network: Project, root: Path) -> None:
    done = train(network, root, "exp.train.learning_rate=1e30", "exp.train.clip=inf", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: the loss is nan in epoch 1, step " in done.stderr
    train(network, root, "exp.runtime.probe=overfit")
    [history] = root.glob("output/debug/001-baseline/*/fold0/history.csv")
    last = history.read_text().splitlines()[-1].split(",")
    assert float(last[1]) < 0.01, "it can learn one batch"
    train(network, root, "exp.runtime.probe=profile")
    assert list(root.glob("output/debug/001-baseline/*/fold0/trace.json"))


def test_out_of_memory_is_one_line(network: Project, root: Path) -> None:
    """With what to do; the other folds go on. The device is one that says so once, at the first loss."""
    code = """
import expkit, torch, torch.nn.functional as F
real = F.cross_entropy
def cross_entropy(*arguments, **options):
    F.cross_entropy = real
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
F.cross_entropy = cross_entropy
try:
    expkit.run("001-baseline", overrides=["exp.fold=[0,1]", "exp.train.epoch=1", "exp.train.accumulate=2"])
except expkit.Error as error:
    print("raised:", error)
"""
    environment = network.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled")
    done = call(network.python, "-c", code, cwd=root, env=environment)
    said = "error: out of GPU memory with exp.train.batch_size=64 and exp.train.accumulate=2: exp.train.accumulate=4"
    assert said in done.stderr and "Traceback" not in done.stderr
    assert "raised: failed: fold 0" in done.stdout and "fold 1  accuracy" in done.stdout


# Several processes that train each fold together

TOGETHER = ["exp.fold=[0,1]", "exp.train.epoch=2", "exp.train.batch_size=28", "exp.train.accumulate=2"]


def started(network: Project, root: Path, *arguments: str, processes: int = 2) -> subprocess.Popen[str]:
    """One process, or several with torchrun; in a session of their own, as in a terminal of their own."""
    torchrun = [network.python.with_name("torchrun"), "--standalone", f"--nproc_per_node={processes}"]
    command = [*(torchrun if processes > 1 else [network.python]), network.folder / "experiments/001-baseline/train.py"]
    environment = network.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled", OMP_NUM_THREADS="1")
    pipe = subprocess.PIPE
    return background(*command, *arguments, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=root)


def finished(process: subprocess.Popen[str]) -> str:
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return printed


def test_two_processes_give_what_one_gives(network: Project, root: Path) -> None:
    """Within rounding: the same batches, of which the last has one row, so that one process has none.

    Without dropout, which is drawn by each process for its own rows.
    """
    arguments = [*TOGETHER, "exp.model.dropout=0", "exp.train.shift=1", "exp.train.ema=0.9"]
    train(network, root, *arguments, "exp.name=one")
    printed = finished(started(network, root, *arguments, "exp.name=two"))
    assert printed.count("CV accuracy") == 1
    one, two = (next((root / "output/001-baseline").glob(f"{name},*")) for name in ("one", "two"))
    for fold in ("fold0", "fold1"):
        a, b = (tables.load(run / fold / store.OOF) for run in (one, two))
        assert a["id"].tolist() == b["id"].tolist()
        differences = [abs(a[f"probability_{digit}"] - b[f"probability_{digit}"]).max() for digit in range(10)]
        assert max(differences) < 1e-3, differences
        assert epochs(one / fold) == epochs(two / fold)
    assert "world_size 2" in load(two / "fold0/result.json")["environment"]


@pytest.mark.parametrize("processes", [1, 2])
def test_kills_change_no_byte(network: Project, root: Path, processes: int) -> None:
    """`kill -9` in the middle of a fold, of all its processes: the same predictions and history as without."""
    script = network.folder / "experiments/001-baseline/train.py"
    arguments = ["exp=001", "exp.fold=[0]", "exp.train.epoch=8"]
    fold = root / "output/001-baseline/001-shifted-pixels,exp.train.epoch=8/fold0"
    with edited(script, "every=30", "every=0"):
        finished(started(network, root, *arguments, "exp.name=whole", processes=processes))
        process = started(network, root, *arguments, processes=processes)
        wait_for(lambda: epochs(fold) >= 4, process, seconds=200)
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.communicate()
        assert not (fold / store.RESULT).exists()
        assert "goes on after" in finished(started(network, root, *arguments, processes=processes))
    [whole] = (root / "output/001-baseline").glob("whole*/fold0")
    for name in (store.OOF, store.HISTORY):
        assert (fold / name).read_bytes() == (whole / name).read_bytes()


def test_ctrl_c_ends_two_processes(network: Project, root: Path) -> None:
    process = started(network, root, "exp.fold=[0]", "exp.train.epoch=400")
    fold = root / "output/001-baseline/baseline,exp.train.epoch=400/fold0"
    wait_for(lambda: epochs(fold) >= 2, process, seconds=200)
    children = psutil.Process(process.pid).children(recursive=True)
    for one in [*children, process]:  # as the terminal does
        one.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0 and not (fold / store.RESULT).exists()
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_sweep_is_not_for_several_processes(network: Project, root: Path) -> None:
    _, errors = (process := started(network, root, "-m", "exp=001,002")).communicate(timeout=200)
    assert process.returncode != 0 and not (root / "output").exists()
    assert "error: -m trains many runs, and torchrun one: start torchrun for each of them" in errors


def test_several_tasks_of_slurm(network: Project, root: Path) -> None:
    """A job of a sweep with two tasks, and srun by hand: one training of two processes, without torchrun."""
    if reason := slurm.why_not():
        pytest.skip(reason)
    preset = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.tasks_per_node=2"]
    script = network.folder / "experiments/001-baseline/train.py"
    with slurm.cluster() as variables:
        environment = network.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled", **variables)
        jobs = [network.python, script, "-m", *TOGETHER[1:], "exp.fold=[0],[1]", *preset, "hydra.launcher.mem_gb=3"]
        call(*jobs, cwd=root, env=environment)
        by_hand = ["srun", "-n2", "--mem=3000", network.python, script, "exp.fold=[2]", *TOGETHER[1:]]
        call(*by_hand, cwd=root, env=environment)
    [row] = read_board()
    assert (len(row.done), row.marks) == (3, ("partial",))
    folds = store.read_run(row.folder).done.values()
    assert all(fold.result and "world_size 2" in fold.result["environment"] for fold in folds)
