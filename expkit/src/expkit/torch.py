"""PyTorch: the device, seeded batches, and a step of training; what is not the idea of an experiment.

Each part can be used without the others, and nothing else of expkit needs them:

    trainer = Trainer(network, loss, optimizer, schedule, seed=exp.seed, device=find_device())
    batches = Batches(dataset, exp.train.batch_size, rows.train, seed=exp.seed)
    for epoch in fold.epochs(exp.train.epochs, state=trainer):
        for batch in batches.epoch(epoch):
            trainer.step(batch)
        fold.log(train_loss=trainer.mean_loss())
    fold.predict(lambda X: trainer.outputs(X).argmax(axis=1), data.X)

Long epochs have `for step in fold.steps(exp.train.epochs * len(batches), state=trainer)` and `batches[step]` instead:
the training then goes on in the middle of one.

The same seed, machine and number of threads give the same bytes on a CPU, however often a training was interrupted and
with any number of workers. Other machines, threads and releases of PyTorch change the last digits; so do most GPUs from
one training to the next, unless `torch.use_deterministic_algorithms(True)` is set.
"""

from __future__ import annotations

import atexit
import copy
import itertools
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from expkit.errors import require


def find_device(name: str = "auto", world_size: int = 1) -> torch.device:
    """A device by its name: auto, cpu, cuda, cuda:1, mps. auto is a GPU where there is one.

    Args:
        world_size: how many processes train together; each takes the GPU of its LOCAL_RANK.

    Raises:
        Error: it is not there.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    found = [*(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    name = found[0] if name == "auto" else name
    if world_size > 1:
        require(name in ("cpu", "cuda"), f"device {name}: {world_size} processes cannot share it; say cuda or cpu")
        name = f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" else name
    require(name in found, f"device {name}: PyTorch finds no such device; there are {', '.join(found)}")
    return torch.device(name)


def begin(seed: int, threads: int = 1, deterministic: bool = False) -> None:
    """Settings of PyTorch for a training.

    Args:
        seed: of the first weights and of dropout.
        threads: of the CPU: more are faster for large networks, and change the last digits.
        deterministic: the same bytes each time on a GPU, too, and slower.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what is deterministic needs it
    torch.use_deterministic_algorithms(deterministic)


def with_decay(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters of a network for an optimizer: weights decay, biases and norms do not."""
    groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
    for parameter in network.parameters():
        groups[weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()]


class Batches:
    """The batches of a training in a random order, another one in each epoch; any step can be the first.

    What a dataset draws at random, for augmentation, depends on the seed, the step and the rank alone: it is the same
    with any number of workers, and after an interruption. Rows that fill no batch are left out of an epoch, others in
    each.

    Args:
        dataset: `dataset[index]` is a row: a tensor, or a tuple or dict of tensors. It may read files, so that it can
            be larger than the memory.
        size: rows of a batch, of all processes together.
        rows: the indices that are trained on, (n,); None: all.
        seed: of the order, and of what the dataset draws.
        workers: processes of a `DataLoader` that read ahead; 0: none.
        collate: makes a batch of a list of rows; by default, it stacks them.
        rank, world_size: this process among those that train together, as of the fold; each gets its share.

    Raises:
        Error: there are fewer rows than processes, or `size` is not a multiple of their number.
    """

    def __init__(
        self,
        dataset: Any,
        size: int,
        rows: Sequence[int] | numpy.ndarray | None = None,
        *,
        seed: int,
        workers: int = 0,
        collate: Callable[[list[Any]], Any] = default_collate,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows = numpy.arange(len(dataset)) if rows is None else numpy.asarray(rows)
        self.size = min(size, len(self.rows) // world_size * world_size)
        require(self.size > 0, f"{len(self.rows)} rows to train on are too few for {world_size} processes")
        require(self.size % world_size == 0, f"batches of {size} rows: not a multiple of {world_size} processes")
        self.seed, self.workers, self.rank, self.world_size = seed, workers, rank, world_size
        self._read = _Read(dataset, (seed, rank), collate)
        self._ahead: Iterator[Any] = iter(())
        self._next: int | None = None  # the step of the batch that `_ahead` gives next

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return len(self.rows) // self.size

    def __getitem__(self, step: int) -> Any:
        """The batch of a step, from 1 on. One after the other is fast.

        Raises:
            Error: the step is below 1.
        """
        if step != self._next:
            require(step > 0, f"batches[{step}]: the first step is 1; `batches.epoch(1)` has all batches of an epoch")
            self._ahead = self._from(step)
        self._next = step + 1
        return next(self._ahead)

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of an epoch, from 1 on. Workers read ahead into the next one.

        Raises:
            Error: with the first batch, if the number is below 1.
        """
        return map(self.__getitem__, range((number - 1) * len(self) + 1, number * len(self) + 1))

    def _from(self, step: int) -> Iterator[Any]:
        """The batches of this step and of all that follow."""
        if not self.workers:
            return map(self._read.__getitem__, self.rows_from(step))
        loader = DataLoader(
            self._read,  # type: ignore[arg-type]
            batch_size=None,
            sampler=self.rows_from(step),  # type: ignore[arg-type]
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # it draws from this one, and not from that of dropout
        )
        return iter(loader)

    def rows_from(self, step: int) -> Iterator[tuple[int, numpy.ndarray]]:
        """The steps from this one on, each with the rows of this process, (n,)."""
        epoch, first = divmod(step - 1, len(self))
        for number in itertools.count(epoch):
            order = numpy.random.default_rng([self.seed, number]).permutation(self.rows)
            for index in range(first, len(self)):
                share = order[index * self.size + self.rank : (index + 1) * self.size : self.world_size]
                yield number * len(self) + index + 1, share
            first = 0


class _Read:
    """Reads a whole batch: `self[step, rows]`."""

    def __init__(self, dataset: Any, seed: tuple[int, int], collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.seed, self.collate = dataset, seed, collate
        self.is_cut = type(dataset) is TensorDataset and collate is default_collate  # nothing random, nothing to stack

    def __getitem__(self, key: tuple[int, numpy.ndarray]) -> Any:
        step, rows = key
        if self.is_cut:
            index = torch.from_numpy(rows)
            return tuple(tensor.index_select(0, index) for tensor in self.dataset.tensors)
        with _seeded(*self.seed, step):
            if hasattr(self.dataset, "__getitems__"):  # reads many at once, as those of Hugging Face do
                return self.collate(self.dataset.__getitems__(rows.tolist()))
            return self.collate([self.dataset[row] for row in rows.tolist()])


@contextmanager
def _seeded(*seeds: int) -> Iterator[None]:
    """Random generators of Python, NumPy and PyTorch that begin at a seed; afterwards they are as before."""
    before = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    seed = int(numpy.random.SeedSequence(seeds).generate_state(1)[0])
    try:
        random.seed(seed)
        numpy.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        numpy.random.set_state(before[1])
        torch.set_rng_state(before[2])


class Trainer:
    """A network, and what a step of its training needs; it can be saved and gone on from.

    Args:
        network: is moved to the device.
        loss: takes a network and a batch on the device, and returns the mean loss of its rows, a tensor of one number.
        optimizer: of the parameters of the network. Without it and the loss, the network only predicts.
        schedule: of the learning rate, one step for each of the training; None: it stays.
        device: see `find_device`.
        dtype: in which the network computes: torch.float32, bfloat16, float16 (with a scaled loss). Weights and
            predictions are float32 in any case.
        accumulate: parts of a batch, one after the other: less memory, the same step. It cuts tensors;
            `step` takes the parts of other batches.
        clip: the largest norm of the gradient.
        ema: predict with the exponential moving average of the weights, such as 0.99; 0: with the last ones. The
            first ones are soon forgotten: after a step, it is at most step / (step + 10).
        compile: `torch.compile`: a minute at the start, then faster.
        seed: of dropout, with several processes.
        rank, world_size: this process among those that train together, as of the fold.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[nn.Module, Any], Tensor] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        accumulate: int = 1,
        clip: float = math.inf,
        ema: float = 0.0,
        compile: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.device = device or find_device(world_size=world_size)
        asks = dtype is torch.bfloat16 and self.device.type == "cuda"
        known = not asks or torch.cuda.is_bf16_supported(including_emulation=False)
        require(known, f"{self.device} has no bfloat16; there are float16 and float32")
        self.network, self.loss, self.optimizer, self.schedule = network.to(self.device), loss, optimizer, schedule
        self.accumulate, self.clip, self.ema, self.seed = accumulate, clip, ema, seed
        self.rank, self.world_size, self.steps = rank, world_size, 0
        self.mean = copy.deepcopy(network) if ema else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)
        self._autocast: Any = nullcontext() if dtype is torch.float32 else torch.autocast(self.device.type, dtype)
        self._parameters = list(network.parameters())  # to collect them in each step takes time
        self._means = list(self.mean.parameters()) if self.mean is not None else []
        self._is_moved = self.device.type != "cpu"
        self._is_training = False  # whether this process has put the whole network into training mode
        forward = _shared(network, self.device) if world_size > 1 else network
        self._forward: Any = torch.compile(forward) if compile else forward
        self._loss, self._count = torch.zeros((), device=self.device), 0  # since `mean_loss`: the sum, and of how many

    def step(self, batch: Any, *more: Any) -> None:
        """Train on a batch, or on this process's share of it. Nothing waits for the device.

        Args:
            batch, more: a batch; or its parts, `trainer.step(*parts)`, with equally many rows each.

        Raises:
            Error: a batch cannot be cut into `accumulate` parts.
        """
        assert self.loss is not None and self.optimizer is not None, "a Trainer without a loss or an optimizer"
        if not self._is_training or not self.network.training:
            self.network.train()
            self._is_training = True
        if self.world_size > 1:  # each process has a dropout of its own, also after an interruption
            torch.manual_seed(self.seed + 1_000_003 * (self.steps * self.world_size + self.rank))
        parts = (batch, *more) if more or self.accumulate == 1 else _cut(batch, self.accumulate)
        losses = []
        for number, part in enumerate(parts, start=1):
            part = moved(part, self.device) if self._is_moved else part
            shares_later = self.world_size > 1 and number < len(parts)  # the gradients, once, with the last part
            with self._forward.no_sync() if shares_later else nullcontext():
                with self._autocast:
                    loss = self.loss(self._forward, part)
                loss = loss / len(parts) if len(parts) > 1 else loss
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        self.scaler.unscale_(self.optimizer)
        if self.clip < math.inf:
            nn.utils.clip_grad_norm_(self._parameters, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()
        total = sum(losses[1:], losses[0])
        if self.world_size > 1:  # in each step: the checkpoint of rank 0 is that of all
            dist.all_reduce(total)
        self._loss += total
        self.steps += 1
        self._count += 1
        if self.mean is not None:
            decay = min(self.ema, self.steps / (self.steps + 10))
            get_ema_multi_avg_fn(decay)(self._means, self._parameters, self.steps)

    def mean_loss(self) -> float:
        """The mean loss of the steps since the last call, over all processes. Waits for the device.

        Raises:
            Error: it is nan or inf.
        """
        value = float(self._loss) / (self._count * self.world_size)
        self._loss, self._count = torch.zeros_like(self._loss), 0
        require(math.isfinite(value), f"the loss is {value} after {self.steps} steps: is the learning rate too high?")
        return value

    def outputs(
        self, X: Any, size: int = 1024, workers: int = 0, collate: Callable[[list[Any]], Any] | None = None
    ) -> numpy.ndarray:
        """What the network gives for rows, (n, ...) float32, in their order; each process computes its share.

        The network is called with a batch of them: with what `collate` makes, if it is given.

        Args:
            X: the rows: an array, a tensor, a `Dataset` of what the network takes, or with `collate` a list.
            size: how many rows the network takes at once.
            workers: processes that read a `Dataset`; 0: none.
            collate: makes a batch of a list of rows.
        """
        network = self.predicting.eval()
        for buffer in network.buffers() if self.world_size > 1 else ():  # of batch norms, as rank 0 has them
            dist.broadcast(buffer, 0)
        mine = range(self.rank, len(X), self.world_size)
        if isinstance(X, Dataset) or collate is not None:
            own = torch.Generator()  # it draws from this one, and not from that of dropout
            parts: Any = DataLoader(Subset(X, mine), size, num_workers=workers, collate_fn=collate, generator=own)
        else:
            parts = torch.as_tensor(X)[mine.start :: mine.step].split(size)
        with torch.no_grad():
            found = [network(moved(part, self.device)).float().cpu() for part in parts]
        own_share: Any = torch.cat(found).numpy() if found else None
        if self.world_size == 1:
            return own_share
        shares: list[Any] = [None] * self.world_size
        dist.all_gather_object(shares, own_share)
        rows = numpy.empty((len(X), *shares[0].shape[1:]), shares[0].dtype)
        for rank, share in enumerate(shares):
            rows[rank :: self.world_size] = share
        return rows

    @property
    def predicting(self) -> nn.Module:
        """The network that predicts: with `ema`, the one with the average of the weights."""
        if self.mean is None:
            return self.network
        for buffer, now in zip(self.mean.buffers(), self.network.buffers(), strict=True):
            buffer.copy_(now)
        return self.mean

    def state_dict(self) -> dict[str, Any]:
        """Everything that a training needs to go on, but for the random generators."""
        parts = {"network": self.network, "mean": self.mean, "optimizer": self.optimizer, "scaler": self.scaler}
        parts["schedule"] = self.schedule
        states = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {"steps": self.steps, "loss": self._loss, "count": self._count, **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.steps, self._count, self._loss = state["steps"], state["count"], state["loss"].to(self.device)
        for name in ("network", "mean", "optimizer", "scaler", "schedule"):
            if name in state:
                getattr(self, name).load_state_dict(state[name])

    def start_from(self, state: dict[str, Any]) -> None:
        """Take over what another training has learned, from its `state_dict`: weights, their average, moments.

        The learning rate, its schedule and the count of the steps stay as they are; so the average is soon a new one.

        Raises:
            Error: it had another optimizer, or other groups of parameters.
        """
        assert self.optimizer is not None, "a Trainer without an optimizer"
        self.network.load_state_dict(state["network"])
        if self.mean is not None:
            self.mean.load_state_dict(state.get("mean", state["network"]))
        own, found, names = self.optimizer.state_dict(), state["optimizer"], self.optimizer.defaults.keys()
        groups = [[(len(group["params"]), names & group) for group in one["param_groups"]] for one in (own, found)]
        require(groups[0] == groups[1], "it had another optimizer, or other groups of parameters")
        self.optimizer.load_state_dict({**found, "param_groups": own["param_groups"]})


def moved(batch: Any, device: torch.device) -> Any:
    """A batch on a device: a tensor, a tuple, list or dict of them; what else is in it stays."""

    def move(part: Any) -> Any:
        return part.to(device, non_blocking=True) if hasattr(part, "to") else part  # also of other libraries

    return tree_map(move, batch, is_leaf=lambda part: hasattr(part, "to"))


def _cut(batch: Any, count: int) -> list[Any]:
    """A batch in as many parts with equally many rows."""
    columns, shape = tree_flatten(batch, is_leaf=lambda part: part is not batch)
    lengths: set[tuple[int, ...]] = {column.shape[:1] if isinstance(column, Tensor) else () for column in columns}
    cuts = "cuts a tensor, or a tuple or dict of tensors with one length; others need trainer.step(*parts)"
    require(len(lengths) == 1 and () not in lengths, f"accumulate={count} {cuts}")
    ((rows,),) = lengths
    require(rows % count == 0, f"a batch of {rows} rows cannot be cut into {count} equal parts")
    return [tree_unflatten(part, shape) for part in zip(*(column.chunk(count) for column in columns), strict=True)]


def _shared(network: nn.Module, device: torch.device) -> nn.Module:
    """A network as a process of torchrun trains it: the gradients are the mean over all processes."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # on which NCCL gathers what is no tensor
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


@contextmanager
def probe(kind: str, folder: Path) -> Iterator[None]:
    """A look into a training.

    Args:
        kind: "profile": where the time goes, trace.json, for ui.perfetto.dev; "anomaly": a traceback of the operation
            that a nan comes from; anything else: nothing.
        folder: of the fold.
    """
    profiler = torch.profiler.profile(record_shapes=True) if kind == "profile" else None
    with profiler or torch.autograd.set_detect_anomaly(kind == "anomaly"):
        yield
    if profiler is not None:
        profiler.export_chrome_trace(str(folder / "trace.json"))
