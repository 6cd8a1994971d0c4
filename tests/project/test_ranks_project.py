"""Several processes that train one fold together, with PyTorch's own torchrun and gloo."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Project, background, call, clean_environment, own_copy, share_bytecode

import expkit
from expkit import store

# Each rank adds its number; what comes out is the sum over both. "fail<rank>" in control/: that rank fails in fold 1.
# On all rows, each rank asks what the folds have found.
TRAIN = """
import expkit


def total(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    control = expkit.project_root() / "control"
    if fold.number is None:
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
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: ranks\n"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(project: Project, network: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with PyTorch, for the CPU, and an experiment that is prepared for several processes."""
    made = own_copy(project, tmp_path_factory.mktemp("ranks") / "myproj")
    links = clean_environment() | {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]}
    call("uv", "pip", "install", "-q", "torch==2.13.0", "--python", made.python, cwd=made.folder, env=links)
    share_bytecode(network.folder, made.folder)
    folder = made.folder / "experiments/002-ranks"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
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
