"""One training for torch_loop.py, in a process of its own, with the Python and in the folder of a project with PyTorch.

    python torch_trainings.py LOOP OVERRIDES...         LOOP: ours, bare, lightning, lightning_fast

All loops train the same network on the same rows in the same order, with the same dropout; their validation losses
differ by rounding. After each epoch, a line of JSON; the next epoch begins when a line comes in.
"""

from __future__ import annotations

import json
import math
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import expkit

EXPERIMENT = Path("experiments/001-baseline").resolve()


class Clock:
    """Times the epochs of a training, between which it waits for its turn.

    Attributes:
        epochs: how many have ended.
        waited: seconds, for its turns.
    """

    def __init__(self) -> None:
        self.epochs, self.waited = 0, 0.0
        self._begin = (time.perf_counter(), time.process_time())

    def stamp(self, valid_loss: float) -> None:
        """An epoch has ended; what comes now belongs to the next one."""
        wall, cpu = time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]
        tell(wall=wall, cpu=cpu, loss=float(valid_loss))
        self.epochs += 1
        end = time.perf_counter()
        if not sys.stdin.readline():
            raise SystemExit("nobody waits for this training any more")
        self._begin = (time.perf_counter(), time.process_time())
        self.waited += self._begin[0] - end


def tell(**values: float) -> None:
    assert sys.__stdout__ is not None
    print(json.dumps(values), file=sys.__stdout__, flush=True)


def ours(clock: Clock, exp: Any, overrides: list[str]) -> None:
    """train.py as a command, with all that expkit does; what is measured are the calls of `fold.log`."""
    from expkit.progress import Checkpoint

    log, save = expkit.Fold.log, Checkpoint.save

    def log_and_stamp(self: Any, metrics: Any, *rest: Any, **named: Any) -> None:
        if "epoch" in metrics:
            clock.stamp(metrics["valid_loss"])
        log(self, metrics, *rest, **named)

    def save_and_tell(self: Any, write: Any, every: float = 0) -> bool:
        if clock.epochs < exp.train.epoch:
            return save(self, write, every + clock.waited)  # as often as without the others
        begin = time.perf_counter()  # the last epoch has been timed: what does a checkpoint cost?
        saved = save(self, write)
        tell(checkpoint=time.perf_counter() - begin)
        return saved

    expkit.Fold.log, Checkpoint.save = log_and_stamp, save_and_tell  # type: ignore[method-assign]
    sys.argv = [str(EXPERIMENT / "train.py"), *overrides]
    runpy.run_path(sys.argv[0], run_name="__main__")


class Rows:
    """The data of fold 0 as tensors, and the order of the rows in each epoch."""

    def __init__(self, exp: Any, device: torch.device) -> None:
        import model

        data = model.load_data()
        fit, valid = expkit.split(exp, 0, id=data.id, y=data.y)
        self.images, self.labels = model.as_images(data.X[fit]).to(device), torch.as_tensor(data.y[fit]).to(device)
        self.valid = model.as_images(data.X[valid]).to(device), torch.as_tensor(data.y[valid]).to(device)
        self.seed, self.batch_size = exp.seed, exp.train.batch_size
        self.steps = exp.train.epoch * math.ceil(len(fit) / exp.train.batch_size)

    def order(self, epoch: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(len(self.labels)))


def started(exp: Any) -> tuple[torch.device, nn.Module, torch.optim.Optimizer]:
    import model

    torch.set_num_threads(exp.train.threads)
    torch.manual_seed(exp.seed)
    device = model.find_device(exp.runtime.device, exp.train.precision.value)
    network = model.NETWORKS[type(exp.model).__name__](**vars(exp.model)).to(device)
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": exp.train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return device, network, torch.optim.AdamW(groups, lr=exp.train.learning_rate, fused=True)


def bare(clock: Clock, exp: Any, overrides: list[str]) -> None:
    """The fastest loop that one would write by hand for this network and nothing else."""
    from model import schedule

    device, network, optimizer = started(exp)
    rows = Rows(exp, device)
    parameters = list(network.parameters())
    step = 0
    for epoch in range(exp.train.epoch):
        network.train()
        total = torch.zeros((), device=device)
        for batch in rows.order(epoch).to(device).split(rows.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = exp.train.learning_rate * schedule(step / rows.steps, exp.train.warmup)
            loss = F.cross_entropy(network(rows.images[batch]), rows.labels[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, exp.train.clip)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
            step += 1
        network.eval()
        with torch.no_grad():
            logits = network(rows.valid[0])
            figures = {
                "train_loss": total.item() * exp.train.epoch / rows.steps,
                "valid_loss": F.cross_entropy(logits, rows.valid[1]).item(),
                "valid_accuracy": (logits.argmax(dim=1) == rows.valid[1]).double().mean().item(),
            }
        clock.stamp(figures["valid_loss"])


def lightning(clock: Clock, exp: Any, overrides: list[str], fast: bool = False) -> None:
    """Lightning's Trainer, as its documentation shows it: a DataLoader in this process, metrics through `self.log`.

    Args:
        fast: without what costs most: whole batches cut from a tensor by index, the loss summed by hand.
    """
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader, Sampler, TensorDataset

    from model import schedule

    device, network, optimizer = started(exp)
    rows = Rows(exp, device if fast else torch.device("cpu"))

    class Order(Sampler[int]):
        """In place of shuffle=True: the order of the other loops."""

        epochs = 0  # that have begun

        def __len__(self) -> int:
            return len(rows.labels)

        def __iter__(self) -> Iterator[int]:
            self.epochs += 1
            yield from rows.order(self.epochs - 1).tolist()

    class Batches:
        """What takes the place of a DataLoader: the batches of each epoch."""

        def __init__(self, of_epoch: Callable[[int], Iterable[tuple[Tensor, Tensor]]], length: int) -> None:
            self.of_epoch, self.length, self.epochs = of_epoch, length, 0

        def __len__(self) -> int:
            return self.length

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            self.epochs += 1  # with the first batch: Lightning also asks for an iterator that it never uses
            yield from self.of_epoch(self.epochs - 1)

    def cut(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in rows.order(epoch).to(device).split(rows.batch_size):
            yield rows.images[batch], rows.labels[batch]

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def on_train_epoch_start(self) -> None:
            self.total = torch.zeros((), device=device)

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            loss = F.cross_entropy(self.network(batch[0]), batch[1])
            if fast:
                self.total += loss.detach()
            else:
                self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
            logits = self.network(batch[0])
            self.log("valid_loss", F.cross_entropy(logits, batch[1]))
            self.log("valid_accuracy", (logits.argmax(dim=1) == batch[1]).double().mean())

        def on_train_epoch_end(self) -> None:
            if fast:
                self.log("train_loss", self.total * exp.train.epoch / rows.steps)
            clock.stamp(self.trainer.callback_metrics["valid_loss"].item())

        def configure_optimizers(self) -> Any:
            scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: schedule(step / rows.steps, exp.train.warmup)
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    if fast:
        loaders = Batches(cut, rows.steps // exp.train.epoch), Batches(lambda epoch: [rows.valid], 1)
    else:
        options = {
            "pin_memory": device.type == "cuda",
            "generator": torch.Generator(),  # a DataLoader draws a number per epoch, which would change the dropout
        }
        data = TensorDataset(rows.images, rows.labels)
        train_loader = DataLoader(data, rows.batch_size, sampler=Order(), **options)
        loaders = train_loader, DataLoader(TensorDataset(*rows.valid), 1024, **options)
    trainer = Trainer(
        max_epochs=exp.train.epoch,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        gradient_clip_val=exp.train.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Module(), *loaders)


def lightning_fast(clock: Clock, exp: Any, overrides: list[str]) -> None:
    lightning(clock, exp, overrides, fast=True)


def main() -> None:
    loop, *overrides = sys.argv[1:]
    sys.path[0] = str(EXPERIMENT)  # as train.py has it: for model.py
    exp = expkit.load_config("001-baseline", overrides=overrides).exp
    tell(rows=len(Rows(exp, torch.device("cpu")).labels))
    {each.__name__: each for each in (ours, bare, lightning, lightning_fast)}[loop](Clock(), exp, overrides)


if __name__ == "__main__":
    main()
