"""One training for torch_loop.py, in a process of its own, with the Python and in the folder of a project with PyTorch.

    python torch_trainings.py LOOP OVERRIDES...         LOOP: ours, bare, lightning, lightning_fast

All loops train the same network on the same rows in the same order, with the same dropout; their validation scores
differ by rounding. After each epoch, a line of JSON; the next epoch begins when a line comes in.
"""

from __future__ import annotations

import json
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
from torch.utils.data import TensorDataset

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

    def stamp(self, valid_accuracy: float) -> None:
        """An epoch has ended; what comes now belongs to the next one."""
        wall, cpu = time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]
        tell(wall=wall, cpu=cpu, score=float(valid_accuracy))
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
    from expkit.checkpoint import Checkpoint

    log, save = expkit.Fold.log, Checkpoint.save

    def log_and_stamp(self: Any, **metrics: Any) -> None:
        if "valid_accuracy" in metrics:
            clock.stamp(metrics["valid_accuracy"])
        log(self, **metrics)

    def save_and_tell(self: Any, write: Any, every: float = 0) -> bool:
        if clock.epochs < exp.train.epochs:
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
        images, labels = (part.to(device) for part in data.pictures().tensors)
        self.train, self.valid = TensorDataset(images[fit], labels[fit]), (images[valid], labels[valid])
        self.seed, self.batch_size = exp.seed, exp.train.batch_size
        self.per_epoch = len(fit) // exp.train.batch_size

    def order(self, epoch: int) -> Tensor:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
        return torch.from_numpy(order[: self.per_epoch * self.batch_size])  # an epoch leaves out the last few


def started(exp: Any) -> tuple[torch.device, Rows, nn.Module, torch.optim.Optimizer, Any]:
    """What a loop begins with: the device, the rows, and the network, the optimizer and the schedule of model.py."""
    import model

    rows = Rows(exp, torch.device("cpu"))
    trainer = model.make_trainer(exp, exp.train.epochs * rows.per_epoch, 0, 1)
    return trainer.device, Rows(exp, trainer.device), trainer.network, trainer.optimizer, trainer.schedule


def bare(clock: Clock, exp: Any, overrides: list[str]) -> None:
    """The fastest loop that one would write by hand for this network and nothing else."""
    device, rows, network, optimizer, schedule = started(exp)
    images, labels = rows.train.tensors
    parameters = list(network.parameters())
    for epoch in range(exp.train.epochs):
        network.train()
        total = torch.zeros((), device=device)
        for batch in rows.order(epoch).to(device).split(rows.batch_size):
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, exp.train.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            total += loss.detach()
        network.eval()
        with torch.no_grad():
            accuracy = (network(rows.valid[0]).argmax(dim=1) == rows.valid[1]).double().mean().item()
        figures = {"train_loss": total.item() / rows.per_epoch, "valid_accuracy": accuracy}
        clock.stamp(figures["valid_accuracy"])


def lightning(clock: Clock, exp: Any, overrides: list[str], fast: bool = False) -> None:
    """Lightning's Trainer, as its documentation shows it: a DataLoader in this process, metrics through `self.log`.

    Args:
        fast: without what costs most: whole batches cut from a tensor by index, the loss summed by hand.
    """
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader, Sampler

    device, rows, network, optimizer, schedule = started(exp)
    if not fast:
        rows = Rows(exp, torch.device("cpu"))

    class Order(Sampler[int]):
        """In place of shuffle=True: the order of the other loops."""

        epochs = 0  # that have begun

        def __len__(self) -> int:
            return rows.per_epoch * rows.batch_size

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
            yield rows.train[batch]

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
            self.log("valid_accuracy", (logits.argmax(dim=1) == batch[1]).double().mean())

        def on_train_epoch_end(self) -> None:
            if fast:
                self.log("train_loss", self.total / rows.per_epoch)
            clock.stamp(self.trainer.callback_metrics["valid_accuracy"].item())

        def configure_optimizers(self) -> Any:
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    if fast:
        loaders = Batches(cut, rows.per_epoch), Batches(lambda epoch: [rows.valid], 1)
    else:
        options = {
            "pin_memory": device.type == "cuda",
            "generator": torch.Generator(),  # a DataLoader draws a number per epoch, which would change the dropout
        }
        train_loader = DataLoader(rows.train, rows.batch_size, sampler=Order(), **options)
        loaders = train_loader, DataLoader(TensorDataset(*rows.valid), 1024, **options)
    trainer = Trainer(
        max_epochs=exp.train.epochs,
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
    tell(rows=len(Rows(exp, torch.device("cpu")).train))
    {each.__name__: each for each in (ours, bare, lightning, lightning_fast)}[loop](Clock(), exp, overrides)


if __name__ == "__main__":
    main()
