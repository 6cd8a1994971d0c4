"""`expkit.torch`, and the experiment that `framework: torch` renders with it."""

from __future__ import annotations

import os
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


def test_the_parts_alone(network: Project) -> None:
    """The tests of torch_parts.py, with PyTorch."""
    file = Path(__file__).with_name("torch_parts.py")
    options = ["-q", "-c", os.devnull, "--noconftest", "-p", "no:cacheprovider"]
    experiment = network.folder / "experiments/001-baseline"
    call(network.python, "-m", "pytest", *options, file, cwd=experiment, env=network.environment(OMP_NUM_THREADS="1"))


def test_a_fold_is_good(network: Project, root: Path) -> None:
    """At least 0.98, with no epoch chosen by the rows that are scored; the network that is saved predicts the same."""
    printed = train(network, root, "exp=001", "exp.fold=[0]").stdout
    [row] = read_board()
    assert row.score is not None and row.score >= 0.98 and row.marks == ("partial",), printed
    oof = tables.load(row.folder / "fold0" / store.OOF)
    code = f"""
import model, numpy
data = model.load_data()
rows = numpy.searchsorted(data.id, {oof["id"].tolist()})
print(model.load({str(row.folder / "fold0/model.pt")!r}).predict(data.X[rows])["prediction"].tolist())
"""
    folder = network.folder / "experiments/001-baseline"
    loaded = call(network.python, "-c", code, cwd=folder, env=network.environment()).stdout
    assert loaded.strip() == str(oof["prediction"].tolist())


def test_a_vision_transformer(network: Project, root: Path) -> None:
    """Chosen on the command line, or in a parameter set."""
    shown = yaml.safe_load(train(network, root, "model=vit", "exp.model.depth=3", "show_config=true").stdout)
    assert shown["exp"]["model"] == {"head_width": 12, "heads": 4, "depth": 3, "dropout": 0.0}
    train(network, root, "exp=002", "exp.train.epochs=3")
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


def test_a_device_that_is_not_there(network: Project, root: Path) -> None:
    done = train(network, root, "exp.runtime.device=cuda:7", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: device cuda:7: PyTorch finds no such device; there are cpu" in done.stderr


def test_a_long_epoch_shows_its_steps(network: Project, root: Path) -> None:
    """Every log_every steps within the epoch; an interruption at any point loses no row, also where workers read."""
    file = network.folder / "experiments/001-baseline/train.py"
    stop = "\n            if str(step) == os.environ.get('STOP'):\n                raise KeyboardInterrupt"
    with edited(file, "state=trainer)", "state=trainer, every=0)"):
        text = file.read_text().replace("import expkit\n", "import os\n\nimport expkit\n", 1)
        file.write_text(text.replace("trainer.step(batches[step])", f"trainer.step(batches[step]){stop}"))
        arguments = ["exp.fold=[0]", "exp.train.epochs=2", "exp.runtime.log_every=6", "exp.model.channels=8"]
        train(network, root, *arguments, "exp.name=whole")
        for step in (6, 18, 30):
            interrupted = [*arguments, "exp.runtime.workers=2"]
            done = network.train(*interrupted, root=root, check=False, WANDB_MODE="disabled", STOP=str(step))
            assert done.returncode == 130, done.stderr
        train(network, root, *arguments)
    whole, fold = (next((root / "output/001-baseline").glob(f"{name},*/fold0")) for name in ("whole", "baseline"))
    for name in (store.OOF, store.HISTORY):
        assert (fold / name).read_bytes() == (whole / name).read_bytes()
    header, *rows = [line.split(",") for line in (fold / store.HISTORY).read_text().splitlines()]
    assert header == ["step", "train_loss", "valid_accuracy"]
    assert [int(row[0]) for row in rows] == [6, 12, 17, 18, 24, 30, 34]
    assert [row[0] for row in rows if row[2]] == ["17", "34"]


def test_a_loss_that_is_nan_is_one_line_and_probes_are_debug_runs(network: Project, root: Path) -> None:
    done = train(network, root, "exp.train.learning_rate=1e30", "exp.train.clip=inf", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: the loss is nan after 17 steps: is the learning rate too high?" in done.stderr
    train(network, root, "exp.runtime.probe=overfit")
    [history] = root.glob("output/debug/001-baseline/*/fold0/history.csv")
    last = history.read_text().splitlines()[-1].split(",")
    assert float(last[1]) < 0.01, "it can learn one batch"
    train(network, root, "exp.runtime.probe=profile")
    assert list(root.glob("output/debug/001-baseline/*/fold0/trace.json"))
    assert history.read_text().count("\n") == 2, "of one epoch"


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
    expkit.run("001-baseline", overrides=["exp.fold=[0,1]", "exp.train.epochs=1", "exp.train.accumulate=2"])
except expkit.Error as error:
    print("raised:", error)
"""
    environment = network.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled")
    done = call(network.python, "-c", code, cwd=root, env=environment)
    said = "error: out of GPU memory: take smaller batches, or more parts of a batch (accumulate)"
    assert said in done.stderr and "Traceback" not in done.stderr
    assert "raised: failed: fold 0" in done.stdout and "fold 1  accuracy" in done.stdout


# Several processes that train each fold together

TOGETHER = ["exp.fold=[0,1]", "exp.train.epochs=2", "exp.train.batch_size=28", "exp.train.accumulate=2"]


def rows(fold: Path) -> int:
    """How many its history has."""
    file = fold / store.HISTORY
    return max(0, file.read_text().count("\n") - 1) if file.exists() else 0


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
    """Within rounding, but for what each process draws for its own rows: dropout, shift."""
    arguments = [*TOGETHER, "exp.model.dropout=0", "exp.train.ema=0.9"]
    train(network, root, *arguments, "exp.name=one")
    printed = finished(started(network, root, *arguments, "exp.name=two"))
    assert printed.count("CV accuracy") == 1
    one, two = (next((root / "output/001-baseline").glob(f"{name},*")) for name in ("one", "two"))
    for fold in ("fold0", "fold1"):
        a, b = (tables.load(run / fold / store.OOF) for run in (one, two))
        assert a["id"].tolist() == b["id"].tolist()
        differences = [abs(a[f"probability_{digit}"] - b[f"probability_{digit}"]).max() for digit in range(10)]
        assert max(differences) < 1e-3, differences
        assert rows(one / fold) == rows(two / fold)
    assert "world_size 2" in load(two / "fold0/result.json")["environment"]


@pytest.mark.parametrize("processes", [1, 2])
def test_kills_change_no_byte(network: Project, root: Path, processes: int) -> None:
    """`kill -9` in the middle of a fold, of all its processes: the same predictions and history as without."""
    script = network.folder / "experiments/001-baseline/train.py"
    arguments = ["exp=001", "exp.fold=[0]", "exp.train.epochs=8"]
    fold = root / "output/001-baseline/001-shifted-pixels,exp.train.epochs=8/fold0"
    with edited(script, "state=trainer)", "state=trainer, every=0)"):
        finished(started(network, root, *arguments, "exp.name=whole", processes=processes))
        process = started(network, root, *arguments, "exp.runtime.workers=1", processes=processes)
        wait_for(lambda: rows(fold) >= 4, process, seconds=200)
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.communicate()
        assert not (fold / store.RESULT).exists()
        assert "goes on after" in finished(started(network, root, *arguments, processes=processes))
    [whole] = (root / "output/001-baseline").glob("whole*/fold0")
    for name in (store.OOF, store.HISTORY):
        assert (fold / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_two_epochs_and_two_more(network: Project, root: Path, processes: int) -> None:
    """They begin with what was learned, in each process; a kill in the middle changes no byte."""
    script = network.folder / "experiments/001-baseline/train.py"
    arguments = ["exp=001", "exp.fold=[0]", "exp.train.epochs=2", "exp.runtime.log_every=4"]
    finished(started(network, root, *arguments, "exp.name=first", processes=processes))
    more = [*arguments, "exp.start_from='first,exp.train.epochs=2'"]
    printed = finished(started(network, root, *more, "exp.name=whole", processes=processes))
    assert printed.count("fold 0 begins from 001-baseline/first,exp.train.epochs=2\n") == 1
    with edited(script, "state=trainer)", "state=trainer, every=0)"):
        process = started(network, root, *more, "exp.runtime.workers=1", processes=processes)
        wait_for(lambda: sum(map(rows, root.glob("output/001-baseline/001*/fold0"))) >= 3, process, seconds=200)
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.communicate()
        assert "goes on after" in finished(started(network, root, *more, processes=processes))
    first, whole, killed = (
        next(run for run in read_board() if run.name.startswith(start)) for start in ("first", "whole", "001")
    )
    for name in (store.OOF, store.HISTORY):
        assert (killed.folder / "fold0" / name).read_bytes() == (whole.folder / "fold0" / name).read_bytes()
    losses = [[value for value in run.history(0)["train_loss"] if value] for run in (first, whole)]
    assert len(losses[0]) == len(losses[1]) and losses[1][0] < losses[0][0] * 0.7, losses
    assert [parent.run for parent in killed.parents] == ["001-baseline/first,exp.train.epochs=2"]
    assert killed.total_seconds == pytest.approx(first.seconds + killed.seconds)


def test_ctrl_c_ends_two_processes(network: Project, root: Path) -> None:
    process = started(network, root, "exp.fold=[0]", "exp.train.epochs=400", "exp.runtime.workers=1")
    fold = root / "output/001-baseline/baseline,exp.train.epochs=400/fold0"
    wait_for(lambda: rows(fold) >= 2, process, seconds=200)
    children = psutil.Process(process.pid).children(recursive=True)
    for one in [*children, process]:  # as the terminal does
        one.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0 and not (fold / store.RESULT).exists()
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_sweep_is_not_for_several_processes(network: Project, root: Path) -> None:
    _, errors = (process := started(network, root, "-m", "exp=001,002")).communicate(timeout=200)
    assert process.returncode != 0 and not (root / "output").exists()
    assert "error: -m starts torchrun for each run: leave it out, exp.runtime.processes=2" in errors


def test_several_processes_on_slurm(network: Project, root: Path) -> None:
    """A job of a sweep starts torchrun; by hand, srun starts it. The cores of a job are shared."""
    if reason := slurm.why_not():
        pytest.skip(reason)
    preset = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=2", "exp.runtime.processes=2"]
    script = network.folder / "experiments/001-baseline/train.py"
    with slurm.cluster() as variables:
        environment = network.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled", **variables)
        jobs = [network.python, script, "-m", *TOGETHER[1:], "exp.fold=[0],[1]", *preset, "hydra.launcher.mem_gb=3"]
        call(*jobs, cwd=root, env=environment)
        torchrun = [network.python.with_name("torchrun"), "--standalone", "--nproc_per_node=2", script]
        by_hand = ["srun", "-n1", "-c2", "--mem=3000", *torchrun, "exp.fold=[2]", *TOGETHER[1:]]
        call(*by_hand, cwd=root, env=environment)
    [row] = read_board()
    assert (len(row.done), row.marks) == (3, ("partial",))
    folds = store.read_run(row.folder).done.values()
    assert all(fold.result and "threads 1, world_size 2" in fold.result["environment"] for fold in folds)
