"""The data, the networks, and their training: a plain loop over batches."""

import atexit
import functools
import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import expkit

SIZE = 8  # pixels: the height and the width of a picture, a multiple of 4
CHANNELS = 1  # of a picture: 1 for grey values, 3 for colours
CLASSES = np.arange(10)  # the values of a target; a network has an output for each
ID = "id"  # this and the next: the columns of a submission
TARGET = "prediction"

TEST_SEED = 0  # the test set is the same in every run


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to predict. The targets of the test rows are not here: training never sees them."""

    id: np.ndarray  # (n,) int: the row's number in the data set
    X: np.ndarray  # (n, CHANNELS, SIZE, SIZE) float from 0 to 1: the pictures
    y: np.ndarray  # (n,) of CLASSES: the digit
    test_id: np.ndarray  # (m,)
    test_X: np.ndarray  # (m, CHANNELS, SIZE, SIZE)


@functools.cache
def load_data(rows: int | None = None) -> Data:
    """The handwritten digits that ship with scikit-learn: 1437 rows to train on, 360 to predict.

    Args:
        rows: how many rows to take in all, for a quick look; None: every one.
    """
    X, y = load_digits(return_X_y=True)
    ids = np.arange(len(y))
    if rows is not None and rows < len(y):
        ids, _ = train_test_split(ids, train_size=rows, stratify=y, random_state=TEST_SEED)
    train_id, test_id = train_test_split(ids, test_size=0.2, stratify=y[ids], random_state=TEST_SEED)
    train_id, test_id = np.sort(train_id), np.sort(test_id)
    X = X.reshape(-1, CHANNELS, SIZE, SIZE) / 16
    return Data(train_id, X[train_id], y[train_id], test_id, X[test_id])


class CNN(nn.Module):
    """Two convolutions on all pixels, two on a quarter as many, then one linear layer."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()

        def convolution(before: int, after: int) -> nn.Sequential:  # no batch norm: a part of a batch is as good
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False), nn.GroupNorm(8, after), nn.GELU(approximate="tanh")
            )

        self.layers = nn.Sequential(
            convolution(CHANNELS, channels),
            convolution(channels, channels),
            nn.MaxPool2d(2),
            convolution(channels, 2 * channels),
            convolution(2 * channels, 2 * channels),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * (SIZE // 4) ** 2, len(CLASSES)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Block(nn.Module):
    """Attention between the patches, then an MLP on each, both added to what comes in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        n, patches, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, patches, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, patches, width)
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """A vision transformer over 4 x 4 patches of a picture."""

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.patches = nn.Conv2d(CHANNELS, width, SIZE // 4, stride=SIZE // 4)
        self.position = nn.Parameter(torch.randn(1, 16, width) / 2)  # as large as the patches
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


NETWORKS = {"CNNConfig": CNN, "ViTConfig": ViT}  # by the class in train.py that has its settings


class Network:
    """A network and everything that its training needs: optimizer, loss scaler, mean of the weights, position.

    The same seed, machine and number of threads give the same bytes, on a CPU, also when a training was interrupted.
    Other threads, machines, releases of PyTorch, `accumulate` or `compile` change the last digits; so do most GPUs from
    one training to the next, unless exp.train.deterministic is set.

    No epoch is chosen by the rows that are scored.
    """

    def __init__(self, model: Any, config: Any, runtime: Any, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """
        Args:
            model, config, runtime: exp.model, exp.train and exp.runtime of the configuration.
            rank, world_size: this process among those that share each batch, as of the fold.
            seed: of the first weights, the batches and dropout.
        """
        torch.set_num_threads(config.threads)
        self.config, self.seed, self.log_every = config, seed, runtime.log_every
        self.rank, self.world_size = rank, world_size
        self.device = find_device(runtime.device, config.precision.value, world_size)
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(config.deterministic)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)  # the first weights, and dropout
        on_gpu = self.device.type == "cuda"
        self.generator = torch.cuda.default_generators[self.device.index or 0] if on_gpu else torch.default_generator

        self.about = {"network": type(model).__name__, "settings": dict(vars(model))}
        self.network = NETWORKS[type(model).__name__](**vars(model)).to(self.device)
        forward = shared(self.network, self.device) if world_size > 1 else self.network
        self.forward: Any = torch.compile(forward) if config.compile else forward
        self.mean = deepcopy(self.network) if config.ema else self.network  # what predicts
        self.parameters = list(self.network.parameters())  # to collect them in each step takes time
        weights = [p for p in self.parameters if p.ndim > 1]
        others = [p for p in self.parameters if p.ndim <= 1]  # biases and norms: they do not decay
        self.optimizer = torch.optim.AdamW(
            [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            fused=True,  # with a scaled loss too, no step waits for the GPU
        )
        dtype = getattr(torch, config.precision.value)
        is_mixed = dtype is not torch.float32  # an autocast that is off would take time in each step, too
        self.autocast = torch.autocast(self.device.type, dtype) if is_mixed else nullcontext()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision.value == "float16")
        self.step = 0  # how many are done
        self.losses = torch.zeros(0, device=self.device)  # of the steps of this epoch

    def fit(
        self, X: np.ndarray, y: np.ndarray, X_valid: np.ndarray, y_valid: np.ndarray, epochs: int
    ) -> Iterator[tuple[dict[str, float], int]]:
        """Train, from the step on that `load_checkpoint` has restored.

        Yields the metrics of each epoch, with the number of epochs in all; and every `log_every` steps their mean loss,
        with the number of steps in all.

        Within an epoch nothing waits for the device, but for what `log_every` shows.

        Args:
            X, y: rows to train on, with targets (n,) of CLASSES.
            X_valid, y_valid: rows to watch, which teach nothing; there may be none.
            epochs: passes over the training rows.

        Raises:
            expkit.Error: the loss is no number any more; the memory of the device is too small.
        """
        config, device = self.config, self.device
        images, labels = as_images(X).to(device), as_labels(y).to(device)  # all of them: they are small
        per_epoch = math.ceil(len(labels) / config.batch_size)
        is_whole = self.world_size == config.accumulate == 1  # each batch, which then need not be cut
        with out_of_memory(config):
            while self.step < epochs * per_epoch:
                epoch, first = divmod(self.step, per_epoch)
                rng = np.random.default_rng([self.seed, epoch])  # an epoch can be entered in the middle
                order = torch.from_numpy(rng.permutation(len(labels))).to(device)
                shift = torch.from_numpy(rng.integers(-config.shift, config.shift, (len(labels), 2), endpoint=True))
                shift = shift.to(device)
                if first == 0:
                    self.losses = torch.zeros(per_epoch, device=device)
                self.network.train()

                for place, rows in enumerate(order.split(config.batch_size)[first:], start=first):
                    for group in self.optimizer.param_groups:
                        group["lr"] = config.learning_rate * schedule(self.step / (epochs * per_epoch), config.warmup)
                    if self.world_size > 1:  # each process has a dropout of its own, also after an interruption
                        self.generator.manual_seed(self.seed + 1_000_003 * (self.step * self.world_size + self.rank))
                    parts = [rows]
                    if not is_whole:  # each process takes its share of each part
                        parts = [part[self.rank :: self.world_size] for part in rows.chunk(config.accumulate)]
                    for number, mine in enumerate(parts, start=1):
                        batch = shifted(images[mine], shift[mine]) if config.shift else images[mine]
                        with self._shares_gradients(number == len(parts)):
                            with self.autocast:
                                logits = self.forward(batch)
                            loss = F.cross_entropy(
                                logits.float(), labels[mine], label_smoothing=config.label_smoothing, reduction="sum"
                            )
                            loss = loss * (self.world_size / len(rows))  # the processes share the mean, not the sum
                            self.scaler.scale(loss).backward()
                        self.losses[place].add_(loss.detach())
                    self.scaler.unscale_(self.optimizer)
                    nn.utils.clip_grad_norm_(self.parameters, config.clip)
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                    self.optimizer.zero_grad()
                    self.step += 1
                    if config.ema:
                        self._update_mean()
                    is_last = place + 1 == per_epoch  # a checkpoint after it would lose the metrics of the epoch
                    if self.log_every and self.step % self.log_every == 0 and not is_last:
                        since = max(0, place + 1 - self.log_every)
                        metrics = {"step": self.step, "train_loss_step": self._mean_loss(epoch, since, place + 1)}
                        yield metrics, epochs * per_epoch

                metrics = {"epoch": epoch + 1, "train_loss": self._mean_loss(epoch, 0, per_epoch)}
                if len(y_valid):
                    logits = self._logits(X_valid)
                    target = as_labels(y_valid)
                    metrics["valid_loss"] = F.cross_entropy(logits, target).item()
                    metrics["valid_accuracy"] = (logits.argmax(dim=1) == target).double().mean().item()
                yield metrics, epochs

    def _shares_gradients(self, is_last: bool) -> Any:
        """Of the parts of a batch, the processes share the gradients once, with the last."""
        return nullcontext() if self.world_size == 1 or is_last else self.forward.no_sync()

    @torch.no_grad()
    def _update_mean(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 10))  # the first weights are soon forgotten
        for mean, now in zip(self.mean.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    def _mean_loss(self, epoch: int, first: int, end: int) -> float:
        total = self.losses[first:end].clone()
        if self.world_size > 1:
            dist.all_reduce(total)
            total /= self.world_size
        losses = total.tolist()  # waits for the device
        for step, loss in enumerate(losses, start=first + 1):
            expkit.require(
                math.isfinite(loss),
                f"the loss is {loss} in epoch {epoch + 1}, step {step} of {len(self.losses)}: "
                "a lower exp.train.learning_rate? exp.runtime.probe=anomaly shows which operation",
            )
        return sum(losses) / len(losses)

    def _logits(self, X: np.ndarray) -> Tensor:
        """Of the rows `X`, (n, classes) on the CPU; each process computes its share."""
        if self.world_size == 1:
            return logits(self.mean, X, self.device)
        found = torch.zeros(len(X), len(CLASSES), device=self.device)
        mine = slice(self.rank, None, self.world_size)
        if len(X[mine]):
            found[mine] = logits(self.mean, X[mine], self.device).to(self.device)
        dist.all_reduce(found)
        return found.cpu()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The classes of the rows `X`, (n,) of CLASSES."""
        return CLASSES[self._logits(X).argmax(dim=1).numpy()]

    def predict_columns(self, X: np.ndarray) -> dict[str, Any]:
        """Predictions of the rows `X`: "prediction", and the probability of each class."""
        probability = self._logits(X).softmax(dim=1).numpy()
        columns = {f"probability_{label}": probability[:, place] for place, label in enumerate(CLASSES)}
        return {"prediction": self.predict(X)} | columns

    def save(self, file: Path) -> None:
        """Write the network that predicts, for `load`."""
        torch.save(self.about | {"weights": self.mean.state_dict()}, file)

    def save_checkpoint(self, file: Path) -> None:
        """Write everything that the training needs to go on from here."""
        torch.save(self.state_dict(), file)

    def load_checkpoint(self, file: Path) -> None:
        """Go on from what `save_checkpoint` wrote, with the same settings."""
        self.load_state_dict(torch.load(file, map_location=self.device, weights_only=True))

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer, loss scaler, position and random generators. The rest follows from the settings."""
        return {
            "step": self.step,
            "losses": self.losses,
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_state(self.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.step, self.losses = state["step"], state["losses"]
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"], self.device)


class Classifier:
    """A trained network, alone."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network, device

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """The probability of each class, of the rows `X`, (n, classes)."""
        return logits(self.network, X, self.device).softmax(dim=1).numpy()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The classes of the rows `X`, (n,) of CLASSES."""
        return CLASSES[self.predict_proba(X).argmax(axis=1)]


def load(file: Path, device: str = "cpu") -> Classifier:
    """The network that `Network.save` wrote."""
    saved = torch.load(file, map_location=device, weights_only=True)
    network = NETWORKS[saved["network"]](**saved["settings"]).to(device)
    network.load_state_dict(saved["weights"])
    return Classifier(network, torch.device(device))


@torch.no_grad()
def logits(network: nn.Module, X: np.ndarray, device: torch.device) -> Tensor:
    """What `network` gives for the rows `X`, (n, classes) on the CPU."""
    network.eval()
    parts = [network(images.to(device)) for images in as_images(X).split(1024)]
    return torch.cat(parts).cpu()


def as_images(X: np.ndarray) -> Tensor:
    """The pictures `X` (n, CHANNELS, SIZE, SIZE), for a network."""
    return torch.as_tensor(X, dtype=torch.float32)


def as_labels(y: np.ndarray) -> Tensor:
    """The place in CLASSES of each target in `y`, (n,) int."""
    places = {label: place for place, label in enumerate(CLASSES.tolist())}
    unknown = sorted(map(repr, set(y.tolist()) - set(places)))
    expkit.require(not unknown, f"targets such as {unknown[:3]} are none of CLASSES in model.py, which are {[*places]}")
    return torch.tensor([places[label] for label in y.tolist()], dtype=torch.long)


def shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Pictures, each moved by its own number of pixels (n, 2) down and right; black comes in."""
    most = 4
    size = torch.arange(SIZE, device=images.device)
    rows, columns = (most - shift[:, axis, None] + size for axis in (0, 1))  # (n, SIZE) each
    picture = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(CHANNELS, device=images.device)[:, None, None]
    return F.pad(images, [most] * 4)[picture, channel, rows[:, None, :, None], columns[:, None, None, :]]


def schedule(done: float, warmup: float) -> float:
    """What the learning rate is multiplied by when a part of the steps is done: up to 1, then a cosine to 0."""
    if done < warmup:
        return (done + 0.001) / (warmup + 0.001)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def shared(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` as a process of torchrun trains it: the gradients are the mean over all processes."""
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def find_device(name: str, precision: str, world_size: int = 1) -> torch.device:
    """The device that `exp.runtime.device` names; auto: a GPU where there is one.

    Of several processes, each takes a GPU of its own, by its LOCAL_RANK.

    Raises:
        expkit.Error: it is not there, or cannot compute with `precision`.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    found = [*(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    name = found[0] if name == "auto" else name
    if world_size > 1:
        expkit.require(
            name in ("cpu", "cuda"),
            f"exp.runtime.device={name}: {world_size} processes cannot share it; say cuda or cpu",
        )
        name = f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" else name
    expkit.require(
        name in found, f"exp.runtime.device={name}: PyTorch finds no such device; there are {', '.join(found)}"
    )
    known = name[:4] != "cuda" or precision != "bfloat16" or torch.cuda.is_bf16_supported(including_emulation=False)
    expkit.require(known, f"exp.train.precision=bf16: {name} has no bfloat16; there are fp16 and fp32")
    return torch.device(name)


@contextmanager
def out_of_memory(config: Any) -> Iterator[None]:
    """A device whose memory is too small is one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise expkit.Error(
            f"out of GPU memory with exp.train.batch_size={config.batch_size} and "
            f"exp.train.accumulate={config.accumulate}: exp.train.accumulate={2 * config.accumulate} needs about half"
        ) from error


@contextmanager
def probe(word: str, folder: Path) -> Iterator[None]:
    """What exp.runtime.probe adds to a training: "profile" writes trace.json, "anomaly" finds the cause of a nan."""
    if word == "profile":
        with torch.profiler.profile(record_shapes=True) as profiler:
            yield
        profiler.export_chrome_trace(str(folder / "trace.json"))
    else:
        with torch.autograd.set_detect_anomaly(word == "anomaly"):
            yield


def random_state(device: torch.device) -> dict[str, Any]:
    """Every random generator, as types that `torch.load` reads without running code."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "cpu": torch.get_rng_state(),
        "device": None if device.type == "cpu" else getattr(torch, device.type).get_rng_state(*_number(device)),
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put every random generator where `random_state` has found it."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"].cpu())
    if state["device"] is not None and device.type != "cpu":  # a training may go on on another kind of device
        getattr(torch, device.type).set_rng_state(state["device"].cpu(), *_number(device))


def _number(device: torch.device) -> list[Any]:
    return [device] if device.type == "cuda" else []
