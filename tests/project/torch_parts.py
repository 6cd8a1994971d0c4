"""Tests of `expkit.torch` alone, which test_torch.py runs where PyTorch is, in the folder of its experiment."""

from __future__ import annotations

import copy
import os
import random
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import expkit
from expkit import store
from expkit.checkpoint import (
    load_learned,
    load_state,
    save_state,
    settings_of,
    state_parts,
)
from expkit.torch import Batches, Trainer, find_device, moved, with_decay

CPU = torch.device("cpu")
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
DATA = TensorDataset(X, Y)


class Augmented(Dataset):
    """Rows of different lengths, each in a file, with noise of every generator."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / f"{number}.npy" for number in range(10)]
        for number, file in enumerate(self.files):
            np.save(file, np.full(number % 3 + 1, number, "float32"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        values = torch.from_numpy(np.load(self.files[index]))
        return {"values": values + torch.randn(1) + random.random() + np.random.rand(), "name": self.files[index].stem}


def padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    values = nn.utils.rnn.pad_sequence([row["values"] for row in rows], batch_first=True)
    return {"values": values, "name": [row["name"] for row in rows]}


def plain(batch: Any) -> Any:
    return {name: part.tolist() if isinstance(part, Tensor) else part for name, part in batch.items()}


def test_each_epoch_is_another_order_and_any_step_can_be_the_first() -> None:
    batches = Batches(torch.arange(100), 8, range(10, 30), seed=1)
    assert len(batches) == 2
    found = [batches[step].tolist() for step in range(1, 9)]
    epochs = [sorted(found[place] + found[place + 1]) for place in range(0, 8, 2)]
    assert all(len({*epoch}) == 16 and {*epoch} <= {*range(10, 30)} for epoch in epochs)
    assert epochs[0] != epochs[1] and found[0] != found[2]
    assert [Batches(torch.arange(100), 8, range(10, 30), seed=1)[step].tolist() for step in (7, 3)] == [
        found[6],
        found[2],
    ]
    assert Batches(torch.arange(100), 8, range(10, 30), seed=2)[1].tolist() != found[0]
    assert len(Batches(torch.arange(3), 8, seed=1)[1]) == 3


def test_workers_change_nothing_and_draw_nothing_of_others(tmp_path: Path) -> None:
    data = Augmented(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    alone, together, later = (Batches(data, 4, seed=3, workers=workers, collate=padded) for workers in (0, 2, 1))
    found = [plain(alone[step]) for step in range(1, 6)]
    assert found == [plain(together[step]) for step in range(1, 6)]
    assert found[3:] == [plain(later[step]) for step in (4, 5)]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    noise = {found[step]["values"][0][0] - int(found[step]["name"][0]) for step in range(5)}
    assert len(noise) == 5, "another in each step"


@pytest.mark.parametrize("workers", [0, 1])
def test_the_batches_of_an_epoch_are_those_of_its_steps(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a later epoch on; the workers are not started again for each."""
    loaders = []
    start = Batches._from
    monkeypatch.setattr(Batches, "_from", lambda self, step: loaders.append(step) or start(self, step))
    steps = Batches(DATA, 8, seed=1)
    found = [steps[step][0].tolist() for step in range(1, 10)]
    loaders.clear()
    batches = Batches(DATA, 8, seed=1, workers=workers)
    epochs = [[batch[0].tolist() for batch in batches.epoch(number)] for number in (1, 2, 3)]
    assert sum(epochs, []) == found and loaders == [1]
    again = Batches(DATA, 8, seed=1, workers=workers)
    assert [batch[0].tolist() for batch in again.epoch(3)] == epochs[2] and loaders == [1, 7]


def test_a_loop_over_batches_is_one_line() -> None:
    """It would have no end, or no beginning."""
    for wrong in (lambda batches: [*batches], lambda batches: batches[0], lambda batches: [*batches.epoch(0)]):
        with pytest.raises(
            expkit.Error, match=r"the first step is 1; `batches.epoch\(1\)` has all batches of an epoch"
        ):
            wrong(Batches(DATA, 8, seed=1))


def test_a_dataset_that_reads_many_rows_at_once() -> None:
    class Table(Dataset):
        def __len__(self) -> int:
            return 10

        def __getitems__(self, rows: list[int]) -> list[Tensor]:
            return [torch.tensor(row) for row in rows]

    assert sorted(Batches(Table(), 10, seed=0)[1].tolist()) == [*range(10)]


def test_processes_share_a_batch(tmp_path: Path) -> None:
    one = Batches(torch.arange(20), 8, seed=1)
    shares = [Batches(torch.arange(20), 8, seed=1, rank=rank, world_size=2) for rank in (0, 1)]
    for step in (1, 2, 3):
        assert sorted(one[step].tolist()) == sorted(shares[0][step].tolist() + shares[1][step].tolist())
    noise = [Batches(Augmented(tmp_path), 10, seed=1, collate=padded, rank=rank, world_size=2)[1] for rank in (0, 1)]
    first = [float(batch["values"][0][0]) - int(batch["name"][0]) for batch in noise]
    assert abs(first[0] - first[1]) > 1e-3, "each draws for itself"
    with pytest.raises(expkit.Error, match="batches of 3 rows: not a multiple of 2 processes"):
        Batches(DATA, 3, seed=0, world_size=2)
    with pytest.raises(expkit.Error, match="1 rows to train on are too few for 2 processes"):
        Batches(DATA, 4, [7], seed=0, world_size=2)


def mean_loss(network: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(network(batch[0]).float(), batch[1])


def make(network: nn.Module | None = None, rate: float = 0.1, steps: int = 0, **settings: Any) -> Trainer:
    """A trainer of a small network with the same first weights each time."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(settings.pop("dropout", 0.0)), nn.Linear(16, 2))
    network = network or layers
    optimizer = torch.optim.AdamW(with_decay(network, 0.01), rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1) if steps else None
    return Trainer(network, mean_loss, optimizer, schedule, device=CPU, **settings)


def trained(trainer: Trainer, steps: range = range(1, 7)) -> Trainer:
    batches = Batches(DATA, 8, seed=0)
    for step in steps:
        trainer.step(batches[step])
    return trainer


@pytest.mark.parametrize("settings", [{"accumulate": 4}, {"dtype": torch.bfloat16}, {"dtype": torch.float16}])
def test_the_same_step_in_parts_and_in_other_types(settings: dict[str, Any]) -> None:
    """With a clipped gradient; weights and predictions stay float32."""
    one, other = trained(make(clip=0.1)), trained(make(clip=0.1, **settings))
    assert {parameter.dtype for parameter in other.network.parameters()} == {torch.float32}
    most = 1e-5 if "accumulate" in settings else 0.05
    assert other.outputs(X).dtype == np.float32 and np.abs(one.outputs(X) - other.outputs(X)).max() < most
    assert one.mean_loss() == pytest.approx(other.mean_loss(), rel=most)
    assert np.abs(make().outputs(X) - one.outputs(X)).max() > 0.2, "it has learned"


def test_the_parts_of_a_batch_that_cannot_be_cut() -> None:
    """Packed sequences: their parts are the same step as all of them."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.output = nn.GRU(1, 4), nn.Linear(4, 2)

        def forward(self, packed: Any) -> Tensor:
            return self.output(self.cells(packed)[1][-1])

    def packed(rows: Tensor) -> Any:
        sequences = [row[: 2 + place % 4, None] for place, row in enumerate(rows)]
        return nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)

    one, other = Last(), Last()
    other.load_state_dict(one.state_dict())
    whole, in_parts = make(one, rate=0.01), make(other, rate=0.01, accumulate=2)
    batch = (packed(X[:8]), Y[:8])
    with pytest.raises(expkit.Error, match=r"^accumulate=2 cuts a tensor, .*; others need trainer.step\(\*parts\)$"):
        in_parts.step(batch)
    for _ in range(3):
        whole.step(batch)
        in_parts.step((packed(X[:4]), Y[:4]), (packed(X[4:8]), Y[4:8]))
    assert whole.mean_loss() == pytest.approx(in_parts.mean_loss(), rel=1e-5)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs) and in_parts.steps == 3


class Pair(NamedTuple):
    image: Tensor
    name: Any


@pytest.mark.parametrize("batch", [X[:8], (X[:8], Y[:8]), [X[:8], Y[:8]], {"x": X[:8], "y": Y[:8]}, Pair(X[:8], Y[:8])])
def test_a_batch_of_tensors_is_cut(batch: Any) -> None:
    """Into batches of the same shape, as the loss takes them."""
    seen: list[Any] = []

    def loss(network: nn.Module, part: Any) -> Tensor:
        seen.append(part)
        rows = part if isinstance(part, Tensor) else part["x"] if isinstance(part, dict) else part[0]
        return network(rows).mean()

    trainer = make(accumulate=2)
    trainer.loss = loss
    trainer.step(batch)
    assert {type(part) for part in seen} == {type(batch)}
    first, second = (
        [part] if isinstance(part, Tensor) else [*getattr(part, "values", part.__iter__)()] for part in seen
    )
    whole = [batch] if isinstance(batch, Tensor) else [*getattr(batch, "values", batch.__iter__)()]
    assert all(torch.equal(torch.cat(pair), part) for *pair, part in zip(first, second, whole, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_gradient_is_clipped_at_its_own_size(dtype: torch.dtype) -> None:
    """Not at that of a scaled loss: a step of plain descent is as long as the norm allows."""
    network = nn.Linear(6, 2)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    trainer = Trainer(
        network, mean_loss, torch.optim.SGD(network.parameters(), 1.0), device=CPU, dtype=dtype, clip=1e-3
    )
    trainer.step((X, Y))
    moves = [parameter.detach() - old for parameter, old in zip(network.parameters(), before, strict=True)]
    assert float(torch.cat([move.flatten() for move in moves]).norm()) == pytest.approx(1e-3, rel=0.01)


def test_the_moving_average() -> None:
    """Soon without the first weights; with the buffers of the network."""
    trainer = make(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)), ema=0.5)
    weight, mean = trainer.network[1].weight, trainer.network[1].weight.detach().clone()
    batches = Batches(DATA, 8, seed=0)
    for step in range(1, 20):
        trainer.step(batches[step])
        decay = min(0.5, step / (step + 10))
        mean = decay * mean + (1 - decay) * weight.detach()
    assert torch.allclose(trainer.predicting[1].weight, mean, atol=1e-6) and not torch.allclose(weight, mean, atol=1e-3)
    assert torch.equal(trainer.predicting[0].running_mean, trainer.network[0].running_mean)
    assert trainer.network.training and not trainer.predicting.eval().training


def test_a_training_goes_on_from_its_state(tmp_path: Path) -> None:
    """With a pretrained part that its author left in evaluation mode."""
    settings = {"steps": 6, "ema": 0.9, "dropout": 0.3, "clip": 1.0}
    whole = trained(make(**settings))
    first = trained(make(**settings), range(1, 4))
    torch.save(first.state_dict(), tmp_path / "state")
    random_state = torch.get_rng_state()
    again = make(**settings)
    again.network[2].eval()
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    torch.set_rng_state(random_state)
    trained(again, range(4, 7))
    assert np.array_equal(whole.outputs(X), again.outputs(X)) and whole.mean_loss() == again.mean_loss()
    assert whole.optimizer is not None and whole.optimizer.param_groups[0]["lr"] < 0.001, "the end of the schedule"


@pytest.mark.parametrize("module", ["torch.cuda", "torch.mps"])
def test_the_random_generators_of_gpus_are_kept(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the module of the device; on another device, or with other GPUs, the CPU's go on alone."""

    class Gpus:
        """As torch.cuda and torch.mps are, with generators of the CPU."""

        __name__ = module

        def __init__(self, count: int) -> None:
            self.generators = [torch.Generator().manual_seed(number) for number in range(count)]
            if module == "torch.cuda":  # torch.mps has no such functions
                self.is_initialized = lambda: True
                self.get_rng_state_all = lambda: [each.get_state() for each in self.generators]
                self.set_rng_state_all = lambda states: [
                    each.set_state(state) for each, state in zip(self.generators, states, strict=True)
                ]

        def device_count(self) -> int:
            return len(self.generators)

        def get_rng_state(self) -> Tensor:
            return self.generators[0].get_state()

        def set_rng_state(self, state: Tensor) -> None:
            self.generators[0].set_state(state)

        def draw(self) -> list[float]:
            return [float(torch.rand((), generator=generator)) for generator in self.generators]

    gpus, two, parts = Gpus(1), Gpus(2), state_parts(nn.Linear(1, 1))
    monkeypatch.setattr(torch, "get_device_module", lambda: gpus)
    gpus.draw()
    save_state(parts, 7, tmp_path / "state")
    drawn = gpus.draw(), torch.rand(2).tolist()
    load_state(parts, tmp_path / "state")
    assert (gpus.draw(), torch.rand(2).tolist()) == drawn
    for other in (two, torch.cpu):
        monkeypatch.setattr(torch, "get_device_module", lambda other=other: other)
        load_state(parts, tmp_path / "state")
        assert torch.rand(2).tolist() == drawn[1]
    assert two.draw() == Gpus(2).draw(), "left alone"


@pytest.mark.parametrize("ema", [{}, {"ema": 0.9}], ids=["", "ema"])
def test_a_training_begins_from_another(ema: dict[str, float]) -> None:
    """Weights, their average and moments are those of the other; rate, schedule and count are its own."""
    first, new = trained(make(steps=6, **ema)), make(rate=0.02, steps=10, ema=0.5)
    new.start_from(first.state_dict())
    assert np.array_equal(new.outputs(X), first.outputs(X))
    fresh = make(rate=0.02, steps=10)
    assert first.optimizer is not None and new.optimizer is not None and fresh.optimizer is not None
    for group, own in zip(new.optimizer.param_groups, fresh.optimizer.param_groups, strict=True):
        assert {**group, "params": []} == {**own, "params": []}
    for parameter, other in zip(new.network.parameters(), first.network.parameters(), strict=True):
        moments, others = new.optimizer.state[parameter], first.optimizer.state[other]
        assert moments.keys() == others.keys() and all(torch.equal(moments[name], others[name]) for name in moments)
    rates = [trained(trainer, range(1, 4)).optimizer.param_groups[0]["lr"] for trainer in (new, fresh)]
    assert rates[0] == rates[1] and (new.steps, new.schedule.last_epoch) == (3, 3)


def test_a_training_that_another_cannot_begin_from() -> None:
    state = trained(make()).state_dict()
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        network = make().network
        new = Trainer(network, mean_loss, optimizer(network.parameters(), 0.1), device=CPU)
        with pytest.raises(expkit.Error, match="it had another optimizer, or other groups of parameters"):
            new.start_from(state)
    with pytest.raises(RuntimeError, match="size mismatch|Missing key"):
        make(nn.Linear(6, 2)).start_from(state)


def test_bare_parts_begin_from_others(tmp_path: Path) -> None:
    """A network, an optimizer that keeps its groups, a schedule and a generator that stay."""

    def parts(rate: float, optimizer: Any = torch.optim.AdamW) -> dict[str, Any]:
        network = make().network
        own = optimizer(network.parameters(), rate)
        schedule = torch.optim.lr_scheduler.StepLR(own, 1, 0.5)
        return {"network": network, "optimizer": own, "schedule": schedule, "random": torch.Generator().manual_seed(0)}

    first, new = state_parts(parts(0.1)), state_parts(parts(0.02))
    settings = settings_of(first)
    mean_loss(first["network"], (X, Y)).backward()
    first["optimizer"].step()
    first["schedule"].step()
    torch.rand(2, generator=first["random"])
    (tmp_path / "fold").mkdir()
    save_state(first, 0, tmp_path / "fold" / store.STATE, settings)
    load_learned(new, tmp_path / "fold", "the old one")
    weights = [[*each["network"].parameters()] for each in (first, new)]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert new["optimizer"].state[weights[1][0]]["step"] == 1
    assert new["optimizer"].param_groups[0]["lr"] == 0.02 and new["schedule"].last_epoch == 0
    fresh = torch.Generator().manual_seed(0)
    assert torch.equal(torch.rand(2, generator=new["random"]), torch.rand(2, generator=fresh))
    with pytest.raises(expkit.Error, match="it is of .*'optimizer': 'AdamW'.*, and the training has .*'SGD'"):
        load_learned(state_parts(parts(0.1, torch.optim.SGD)), tmp_path / "fold", "the old one")


def test_the_schedule_of_any_length() -> None:
    """Of the experiment: from its first step to its last, with and without a warm-up."""
    sys.path.insert(0, os.getcwd())
    import model

    for overrides in ([], ["exp.train.warmup=0"], ["exp.train.warmup=0.9"]):
        exp = expkit.load_config("001-baseline", overrides=["exp.model.channels=8", *overrides]).exp
        for steps in (2, 3, 9, 19):
            trainer = model.make_trainer(exp, steps, 0, 1)
            rates = []
            for _ in range(steps):
                rates.append(trainer.optimizer.param_groups[0]["lr"])
                trainer.optimizer.step()
                trainer.schedule.step()
            assert max(rates) <= exp.train.learning_rate and (steps < 9 or max(rates) > 0.8 * exp.train.learning_rate)
            assert trainer.optimizer.param_groups[0]["lr"] < 1e-5


def test_a_compiled_network_is_saved_as_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compiled(network, backend="eager"))
    one, other = trained(make(ema=0.9)), trained(make(ema=0.9, compile=True))
    assert one.state_dict()["mean"].keys() == other.state_dict()["mean"].keys()
    assert np.array_equal(one.outputs(X), other.outputs(X))


def test_predictions_of_a_dataset_in_its_order(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, batch: dict[str, Any]) -> Tensor:
            return batch["values"].sum(dim=1, keepdim=True)

    class Quiet(Augmented):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"values": torch.from_numpy(np.load(self.files[index])), "name": ""}

    before = torch.get_rng_state()
    for workers in (0, 2):
        found = Trainer(Sum(), device=CPU).outputs(Quiet(tmp_path), size=3, workers=workers, collate=padded)
        assert found.tolist() == [[float(number * (number % 3 + 1))] for number in range(10)]
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_wrong_is_one_line() -> None:
    with pytest.raises(expkit.Error, match="device cuda:7: PyTorch finds no such device; there are .*cpu"):
        find_device("cuda:7")
    with pytest.raises(expkit.Error, match="cannot be cut into 3 equal parts"):
        make(accumulate=3).step((X[:8], Y[:8]))
    for batch in (
        ([X[0]], [{"boxes": X[0]}]),
        {"images": [X, X]},
        (X[:8], Y[:6]),
        {"X": X, "name": "a"},
        X[0, 0],
        None,
    ):
        with pytest.raises(
            expkit.Error, match="accumulate=2 cuts a tensor, or a tuple or dict of tensors with one length"
        ):
            make(accumulate=2).step(batch)
    trainer = trained(make(rate=1e30))
    with pytest.raises(expkit.Error, match="the loss is nan after 6 steps"):
        trainer.mean_loss()


def test_a_batch_of_any_shape_is_moved() -> None:
    batch = {"pair": Pair(X, "a"), "list": [X, "b"], "packed": nn.utils.rnn.pack_sequence([X[0], X[1, :3]])}
    there = moved(batch, torch.device("meta"))
    assert there["pair"].name == "a" and there["list"][1] == "b"
    assert {part.device.type for part in (there["pair"].image, there["list"][0], there["packed"].data)} == {"meta"}


def in_a_process(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    shared = {"rank": rank, "world_size": 2}
    trainer = make(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), accumulate=2, **shared)
    batches = Batches(DATA, 8, seed=0, **shared)
    for step in range(1, 7):
        trainer.step(batches[step])
    loss, state = trainer.mean_loss(), trainer.network.state_dict()
    outputs = [trainer.outputs(rows) for rows in (X, X[:1])]
    torch.save((loss, state, outputs), Path(folder, str(rank)))


def test_two_processes_know_the_same(tmp_path: Path) -> None:
    """Weights, losses and predictions, in order and of fewer rows than processes, with the buffers of rank 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(in_a_process, (port, str(tmp_path)), nprocs=2)
    (loss, state, outputs), other = (torch.load(tmp_path / rank, weights_only=False) for rank in "01")
    assert loss == other[0] and all(torch.equal(state[name], other[1][name]) for name in state if name[0] != "1")
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network.load_state_dict(state)
    for rows, *found in zip((X, X[:1]), outputs, other[2], strict=True):
        assert all(np.allclose(each, Trainer(network, device=CPU).outputs(rows), atol=1e-6) for each in found)


class Averaged:
    """As many have it: it holds the network, and replaces the tensors of its dict."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.shadow = {name: one.detach().clone() for name, one in network.named_parameters()}

    def update(self) -> None:
        for name, one in self.network.named_parameters():
            self.shadow[name] = 0.5 * self.shadow[name] + 0.5 * one.detach()


class Scheduled:
    """An optimizer with a schedule of its own; it holds the groups, too."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.groups, self.count = optimizer, optimizer.param_groups, 0

    def step(self) -> None:
        self.count += 1
        for group in self.groups:
            group["lr"] = 0.1 / self.count
        self.optimizer.step()


@pytest.mark.parametrize("only", ["", "average", "scheduled"])
def test_what_others_hold_goes_on(tmp_path: Path, only: str) -> None:
    """The network that a name in train() has is the one that is trained, whatever of its holders is restored."""

    def make_all() -> dict[str, Any]:
        network = make().network
        parts = {"average": Averaged(network), "scheduled": Scheduled(torch.optim.Adam(network.parameters(), 0.1))}
        parts["average"].parameters = [*network.parameters()]
        return {**parts, "network": network}

    def state(parts: dict[str, Any]) -> Any:
        return {only: parts[only], "network": parts["network"]} if only else parts

    def step(parts: dict[str, Any], count: int = 2) -> Any:
        for _ in range(count):
            parts["network"].zero_grad()
            mean_loss(parts["network"], (X, Y)).backward()
            parts["scheduled"].step()
            parts["average"].update()
        parts["average"].best = copy.deepcopy(parts["network"])
        return parts["network"](torch.as_tensor(X)).tolist()

    whole, old, new = make_all(), make_all(), make_all()
    parts, fresh = state_parts(state(old)), state_parts(state(new))
    step(old)
    save_state(parts, 2, tmp_path / "state")
    load_state(fresh, tmp_path / "state")
    network = new["network"]
    assert new["average"].network is network and new["scheduled"].optimizer.param_groups is new["scheduled"].groups
    assert all(one is other for one, other in zip(new["average"].parameters, network.parameters(), strict=True))
    step(whole)
    for one, other in zip(network.parameters(), whole["network"].parameters(), strict=True):
        assert torch.equal(one, other)
    if only != "scheduled":
        assert all(torch.equal(one, old["average"].shadow[name]) for name, one in new["average"].shadow.items())
        best = new["average"].best
        assert torch.equal(best(torch.as_tensor(X)), network(torch.as_tensor(X))) and best is not network
    if only != "average":
        assert step(new) == step(whole)


def test_an_optimizer_of_the_first_step(tmp_path: Path) -> None:
    """It is made again, around the parameters that are there."""

    def lazy() -> SimpleNamespace:
        return SimpleNamespace(network=make().network, optimizer=None)

    def step(one: SimpleNamespace) -> None:
        one.optimizer = one.optimizer or torch.optim.Adam(one.network.parameters(), 0.1)
        mean_loss(one.network, (X, Y)).backward()
        one.optimizer.step()

    old, new = lazy(), lazy()
    parts, fresh = state_parts(old), state_parts(new)
    step(old)
    save_state(parts, 1, tmp_path / "state")
    load_state(fresh, tmp_path / "state")
    [first, *_] = new.network.parameters()
    assert new.optimizer.param_groups[0]["params"][0] is first and first in new.optimizer.state
    for one in old, new:
        one.network.zero_grad()
        step(one)
    assert all(
        torch.equal(one, other) for one, other in zip(old.network.parameters(), new.network.parameters(), strict=True)
    )
