"""Several processes that train one fold together, with PyTorch's own torchrun and gloo."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import optuna
import psutil
import pytest
from conftest import Project, background, call, clean_environment, own_copy, share_bytecode
from helpers import start
from light import train_py, wait_for

import expkit
from expkit import store
from expkit.study import opened

BEGIN = """
def total(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import os
    import signal
    import time

    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    control = expkit.project_root() / "control"
"""
# Each rank adds its number; what comes out is the sum over both. "fail<rank>" in control/: that rank fails in fold 1.
# On all rows, each rank asks what the folds have found.
TRAIN = (
    f"import expkit\n\n{BEGIN}"
    + """    if fold.number is None:
        (control / f"found{fold.rank}").write_text(repr(fold.cv("sum")))
        print("printed by", fold.rank)
        return None
    (control / f"came{fold.number}-{fold.rank}-{fold.world_size}").touch()
    if fold.number == 1 and (control / f"fail{fold.rank}").exists():
        raise ValueError("planted")
    start = int(fold.checkpoint.file.read_text()) if fold.checkpoint.file else 0
    value = torch.tensor([float(fold.rank + 1 + 10 * fold.number)])
    dist.all_reduce(value)
    print("printed by", fold.rank)
    fold.log(epoch=1, value=value)
    fold.checkpoint.save(lambda file: file.write_text("1"))
    (fold.folder / "model.txt").write_text("by every rank")
    fold.save_oof({"id": [fold.number], "prediction": value})
    return {"started": start, "sum": float(value)}


experiment = expkit.Experiment(train, expkit.ExpConfig, metric=total, distributed=True, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""
)
# A trial of some x ends badly. "stay" in control/: the ranks wait.
SEARCHED = train_py(
    "x: float = 0.0",
    BEGIN
    + """    (control / str(os.getpid())).touch()
    for epoch in fold.epochs(10):
        if exp.train.x in (70, 71) and fold.rank == exp.train.x - 70 and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if exp.train.x == 72 and fold.rank == 1:
            raise ValueError("planted")
        value = torch.tensor([exp.train.x])
        dist.all_reduce(value)
        while (control / "stay").exists():
            time.sleep(0.01)
        fold.log(loss=0.0)
        fold.log(valid_total=value)
    fold.save_oof({"id": [fold.number], "prediction": value})
""",
    "metric=total, greater_is_better=True, distributed=True, own_split=True",
)
RANKS, SEARCH = "002-ranks", "003-search"
TOGETHER = "exp.runtime.processes=2"
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: ranks\n"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(shared_sweeping: Project, network: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with PyTorch, for the CPU, and experiments that are prepared for several processes."""
    made = own_copy(shared_sweeping, tmp_path_factory.mktemp("ranks") / "myproj")
    links = clean_environment() | {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]}
    call("uv", "pip", "install", "-q", "torch==2.13.0", "--python", made.python, cwd=made.folder, env=links)
    share_bytecode(network.folder, made.folder)
    for name, text in {RANKS: TRAIN, SEARCH: SEARCHED}.items():
        folder = made.folder / "experiments" / name
        folder.mkdir()
        (folder / "train.py").write_text(text)
        (folder / "config.yaml").write_text(CONFIG)
    return made


def torchrun(cluster: Project, root: Path, *arguments: str | Path, check: bool = True) -> tuple[str, str]:
    """What two processes print of a script of experiments/, or of another one."""
    options = ["--nproc_per_node=2", "--standalone"]
    environment = cluster.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled", OMP_NUM_THREADS="1")
    process = background(
        cluster.python.with_name("torchrun"),
        *options,
        *arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cluster.folder / "experiments",
    )
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode == 0) == check, errors
    return printed, errors


def test_both_ranks_train_the_same_fold(cluster: Project, root: Path) -> None:
    """Fold after fold; rank 0 alone writes and prints, and the result is marked with the world size."""
    printed, _ = torchrun(cluster, root, "002-ranks/train.py", "exp.fold=[0,1]")
    came = {path.name for path in (root / "control").iterdir()}
    assert came == {f"came{fold}-{rank}-2" for fold in (0, 1) for rank in (0, 1)}
    assert "printed by 0" in printed and "printed by 1" not in printed
    assert printed.count("CV total") == 1
    [row] = expkit.read_board()
    assert (row.score, len(row.done)) == (13.0, 2)  # (1 + 2) and (11 + 12)
    run = store.read_run(row.folder)
    assert all(fold.result and "world_size 2" in fold.result["environment"] for fold in run.done.values())
    again, _ = torchrun(cluster, root, "002-ranks/train.py", "exp.fold=[0,1]")
    assert again.count("is done") == 2


def test_both_ranks_know_what_the_folds_found(cluster: Project, root: Path) -> None:
    """Rank 0 looks and tells; what is missing is one line, of the rank that asks first or of both."""
    command = ("002-ranks/train.py", "exp.n_folds=2")
    torchrun(cluster, root, *command, "exp.fold=[0]")
    _, errors = torchrun(cluster, root, *command, "exp.mode=sub", check=False)
    missing = "1 of 2 folds are trained: train all of them first, exp.mode=cv exp.fold=null"
    assert f"error: fold.cv('sum'): {missing}" in errors.replace("rank 1: ", ""), errors
    assert "Error: fold.cv" not in errors, "no traceback of expkit.Error"
    torchrun(cluster, root, *command, "exp.fold=[0,1]")
    printed, _ = torchrun(cluster, root, *command, "exp.mode=sub")
    assert [(root / f"control/found{rank}").read_text() for rank in (0, 1)] == ["13.0"] * 2
    assert printed.count("printed by") == 1 and "printed by 0" in printed


def test_two_runs_in_one_command(cluster: Project, root: Path) -> None:
    """From Python; the processes meet again for the second."""
    script = root / "two.py"
    runs = [f"expkit.run('002-ranks', overrides=['exp.seed={seed}', 'exp.fold=[{seed}]'])" for seed in (0, 1)]
    script.write_text("import expkit\n" + "\n".join(runs))
    torchrun(cluster, root, script)
    assert sorted(row.score for row in expkit.read_board() if row.score) == [3.0, 23.0]


def test_a_failure_on_any_rank_ends_all(cluster: Project, root: Path) -> None:
    """Soon; its error is what rank 0 says and keeps, with its traceback, and not that the connection to it is closed.

    The fold before it is kept.
    """
    (root / "control/fail1").touch()
    _, errors = torchrun(cluster, root, "002-ranks/train.py", "exp.fold=[0,1,2]", check=False)
    assert "ValueError: planted" in errors
    said = "rank 1: ValueError: planted"
    assert f"error: {said}\n" in errors, errors
    [row] = expkit.read_board()
    assert (row.score, len(row.done), row.failure) == (3.0, 1, said)
    log = (row.folder / "fold1" / store.LOG).read_text()
    assert 'raise ValueError("planted")' in log
    assert not list((root / "control").glob("came2*"))


# Sweeps and studies, whose jobs start torchrun

MEDIAN = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"]
LAUNCHERS = {"basic": [], "local": ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]}
each_launcher = pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)


@each_launcher
def test_a_sweep_starts_torchrun_for_each_run(cluster: Project, root: Path, launcher: list[str]) -> None:
    typed = ["-m", "exp.fold=[0],[1]", TOGETHER, *launcher]
    done = cluster.train(*typed, experiment=RANKS, root=root, WANDB_MODE="disabled")
    [row] = expkit.read_board()
    assert (row.score, len(row.done)) == (13.0, 2), done.stdout
    folds = store.read_run(row.folder).done.values()
    assert all(fold.result and "world_size 2" in fold.result["environment"] for fold in folds)
    assert "printed by 0" in done.stdout and "printed by 1" not in done.stdout and not done.stderr
    assert not [*(root / "output/multirun").rglob("job"), *(root / "output/multirun").rglob("answer")]


def test_a_study_ends_a_trial_in_all_its_ranks(cluster: Project, root: Path) -> None:
    """Within a fold. A trial of which a rank fails has failed; where rank 0 is killed, after three times."""
    study = optuna.create_study(study_name="s", storage=opened("optuna.log"), direction="maximize")
    for x in (60, 50, 70, 71, 72, 80):
        study.enqueue_trial({"exp.train.x": x})
    typed = ["-m", "hydra/sweeper=optuna", "exp.train.x=range(0,100)", "exp.fold=[0,1]", TOGETHER, *MEDIAN]
    options = ["hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=6"]
    done = cluster.train(*typed, *options, experiment=SEARCH, root=root, WANDB_MODE="disabled")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", *["FAIL"] * 3, "COMPLETE"]
    assert done.stdout.count("pruned in fold 0, after 10% of its training") == 1
    assert "ValueError: planted" in done.stderr and "torchrun" not in done.stderr
    assert "its process has died: killed or out of memory" in done.stderr
    assert ranks(root) == []


@each_launcher
def test_no_rank_outlives_its_command(cluster: Project, root: Path, launcher: list[str]) -> None:
    (root / "control/stay").touch()
    process = start(cluster, root, "-m", "exp.fold=[0]", TOGETHER, *launcher, experiment=SEARCH)
    wait_for(lambda: len(ranks(root)) == 2, process)
    process.kill()
    wait_for(lambda: ranks(root) == [])


def ranks(root: Path) -> list[int]:
    """Those of SEARCHED that live, by their process ids."""
    return [int(file.name) for file in (root / "control").glob("[0-9]*") if psutil.pid_exists(int(file.name))]
