"""Several processes that train one fold together, with PyTorch's own torchrun and gloo."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Project, background, call, clean_environment, own_copy, share_bytecode
from damage import at_once

import expkit
from expkit.distributed import Ranks
from expkit.errors import Failed, Terminated

# Each rank adds its number; what comes out is the sum over both. "fail<rank>" in control/: that rank fails in fold 1.
# On all rows, each rank asks what the folds have found.
TRAIN = """
from dataclasses import dataclass, field

import expkit


@dataclass
class Config(expkit.Config):
    exp: expkit.ExpConfig = field(default_factory=expkit.ExpConfig)


def total(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    control = expkit.project_root() / "control"
    if fold.number is None:
        (control / f"found{fold.rank}").write_text(repr(fold.cv("total")))
        print("printed by", fold.rank)
        fold.finish()
        return
    (control / f"came{fold.number}-{fold.rank}-{fold.world_size}").touch()
    if fold.number == 1 and (control / f"fail{fold.rank}").exists():
        raise ValueError("planted")
    start = int(fold.checkpoint.file.read_text()) if fold.checkpoint.file else 0
    value = torch.tensor([float(fold.rank + 1 + 10 * fold.number)])
    dist.all_reduce(value)
    print("printed by", fold.rank)
    fold.log({"epoch": 1, "value": value})
    fold.checkpoint.save(lambda file: file.write_text("1"))
    (fold.folder / "model.txt").write_text("by every rank")
    fold.save_oof({"id": [fold.number], "prediction": value})
    fold.finish(started=start, total=float(value))


experiment = expkit.Experiment(train, Config, metric=total, distributed=True, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""
# Each rank predicts its share of the rows; "gather" in control/: rank 0 gets all of them.
SHARES = """
import expkit


def mean(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    _, rows = expkit.split(exp, fold.number, id=range(100))
    parts = [rows[fold.rank :: fold.world_size].tolist()]
    if (expkit.project_root() / "control/gather").exists():
        share, parts = parts[0], [None] * fold.world_size
        dist.all_gather_object(parts, share)
    ids = sum(parts, [])
    fold.save_oof({"id": ids, "prediction": [float(one) for one in ids]})
    fold.finish()


experiment = expkit.Experiment(train, expkit.Config, metric=mean, distributed=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: ranks\n"


@pytest.fixture(scope="module")
def cluster(project: Project, network: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with PyTorch, for the CPU, and an experiment that is prepared for several processes."""
    made = own_copy(project, tmp_path_factory.mktemp("ranks") / "myproj")
    links = clean_environment() | {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]}
    call("uv", "pip", "install", "-q", "torch==2.13.0", "--python", made.python, cwd=made.folder, env=links)
    share_bytecode(network.folder, made.folder)
    for name, text in {"002-ranks": TRAIN, "003-shares": SHARES}.items():
        folder = made.folder / "experiments" / name
        folder.mkdir()
        (folder / "train.py").write_text(text)
        (folder / "config.yaml").write_text(CONFIG)
    return made


def torchrun(cluster: Project, root: Path, *arguments: str, experiment: str = "002-ranks") -> subprocess.Popen[str]:
    return torchrun_of(cluster, root, cluster.folder / "experiments" / experiment / "train.py", *arguments)


def torchrun_of(cluster: Project, root: Path, script: Path, *arguments: str) -> subprocess.Popen[str]:
    options = ["--nproc_per_node=2", "--standalone"]
    environment = cluster.environment(PROJECT_ROOT=str(root), WANDB_MODE="disabled", OMP_NUM_THREADS="1")
    pipe = subprocess.PIPE
    command = [cluster.python.with_name("torchrun"), *options, script, *arguments]
    return background(*command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=root)


class Store:
    """Between threads, what PyTorch has between processes."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value

    def check(self, keys: list[str]) -> bool:
        return self.kept.keys() >= {*keys}

    def compare_set(self, key: str, expected: str, desired: str) -> str:
        return self.kept.setdefault(key, desired)


@pytest.fixture
def two() -> Iterator[tuple[Ranks, Ranks]]:
    store, made = Store(), (Ranks(False), Ranks(False))
    for rank, one in enumerate(made):
        one.rank, one.size, one._store = rank, 2, store
    yield made
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_rank_0_ends_when_the_others_have_left(two: tuple[Ranks, Ranks]) -> None:
    """Its process may be where they meet: one that still asks what is next would fail."""
    leader, other = two
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(leader.end)
        with pytest.raises(TimeoutError):
            end.result(0.5)
        other._store.set("left1", "")
        end.result(10)


def test_rank_0_does_not_wait_for_one_that_has_failed(two: tuple[Ranks, Ranks]) -> None:
    leader, other = two
    other.failure(ValueError("planted"))
    with at_once("rank 0", 1), pytest.raises(Failed, match="rank 1: ValueError: planted"):
        leader.end()


@pytest.mark.parametrize("later", [RuntimeError("Connection closed by peer"), KeyboardInterrupt(), Terminated(143)])
def test_the_first_failure_is_the_one_to_tell(two: tuple[Ranks, Ranks], later: BaseException) -> None:
    """Also when torchrun ends rank 0 for it."""
    leader, other = two
    assert leader.failure(later) is later if isinstance(later, KeyboardInterrupt | Terminated) else True
    first = ValueError("planted")
    assert other.failure(first) is first
    told = leader.failure(later)
    assert str(told) == "rank 1: ValueError: planted" and "ValueError: planted" in told.__notes__[0]
    assert other.failure(first) is first


def test_ranks_without_a_meeting_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of srun would each take folds of their own."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(expkit.Error, match="2 processes train together .* is not prepared"):
        expkit.run("002-light", overrides=["exp.fold=[0]"])
    assert not (root / "output").exists()
