"""001-baseline: a small neural network on the handwritten digits that ship with scikit-learn.

    uv run python train.py exp=001 exp.fold=null             # all folds, then the CV score
    uv run python train.py model=vit exp.model.depth=6       # another network, with settings of its own
    uv run python train.py exp.runtime.probe=overfit         # can it learn one batch? also: profile, anomaly
    uv run torchrun --standalone --nproc_per_node=2 train.py # two GPUs (or processes) train each fold together

Results lie in output/001-baseline/<run>/. The same command again finishes what is missing, and trains nothing twice.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from omegaconf import MISSING

import expkit

Count = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Lt(1)]


@dataclass
class ModelConfig:
    """The settings of a network; model=cnn and model=vit choose between the two below."""


@dataclass
class CNNConfig(ModelConfig):
    """Convolutions: on all pixels, then on a quarter as many with twice the channels."""

    channels: Annotated[int, Ge(8), MultipleOf(8)] = 32
    dropout: Share = 0.2


@dataclass
class ViTConfig(ModelConfig):
    """A vision transformer: the picture is cut into 4 x 4 patches, which attend to each other."""

    head_width: Count = 12
    heads: Count = 4
    depth: Count = 2  # blocks of attention and MLP
    dropout: Share = 0.0


class Precision(Enum):
    """The type in which a network computes while it trains; weights and predictions are float32 in any case."""

    fp32 = "float32"
    bf16 = "bfloat16"
    fp16 = "float16"  # with a scaled loss


@dataclass
class TrainConfig:
    epochs: Count = 20  # passes over the training rows
    batch_size: Count = 64  # rows of a step
    accumulate: Count = 1  # parts of a batch, one after the other: less memory, the same step
    learning_rate: Annotated[float, Gt(0)] = 3e-3  # of AdamW, the highest: after a warm-up; then a cosine down to 0
    warmup: Share = 0.1  # of the steps
    weight_decay: Annotated[float, Ge(0)] = 0.05
    clip: Annotated[float, Gt(0)] = 1.0  # the largest norm of the gradient; inf: any
    label_smoothing: Share = 0.0
    shift: Annotated[int, Ge(0), Le(4)] = 0  # pixels; each picture is moved by up to as many, at random
    ema: Share = 0.0  # predict with the moving average of the weights, such as 0.98; 0: with the last ones
    precision: Precision = Precision.fp32
    compile: bool = False  # torch.compile: a minute at the start, then faster
    threads: Count = 1  # of the CPU: more are faster for large networks, and change the last digits
    deterministic: bool = False  # on a GPU: the same bytes each time, slower; a CPU needs no such thing


class Probe(Enum):
    """A look into the training instead of a result; it is a debug run, under output/debug/."""

    none = "none"
    overfit = "overfit"  # one batch again and again: the loss must come close to 0
    profile = "profile"  # one epoch, and where its time goes: trace.json in the fold's folder, for ui.perfetto.dev
    anomaly = "anomaly"  # where a nan comes from: a traceback of the operation


@dataclass
class RuntimeConfig(expkit.RuntimeConfig):
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    workers: Annotated[int, Ge(0)] = 0  # processes that read batches ahead
    log_every: Count = 100  # steps: how often within an epoch
    probe: Probe = Probe.none


@dataclass
class ExpConfig(expkit.ExpConfig):
    model: ModelConfig = MISSING  # config.yaml says which
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        self.debug = self.debug or self.runtime.probe is not Probe.none


def accuracy(oof):
    """The share of rows whose class is predicted; `oof` maps the names of the saved columns to arrays, (n,)."""
    return (oof["target"] == oof["prediction"]).mean()


def train(exp: ExpConfig, fold: "expkit.Fold"):
    """Train on the rows outside a fold, or with exp.mode=sub on all; predict the rows of the fold and the test set."""
    import model  # heavy imports wait until there is something to train
    from expkit.torch import Batches, probe

    data = model.load_data()
    rows = fold.split(id=data.id, y=data.y)  # rows.train and rows.valid, by exp.split
    used = rows.train[: exp.train.batch_size] if exp.runtime.probe is Probe.overfit else rows.train
    epochs = {Probe.overfit: 200, Probe.profile: 1}.get(exp.runtime.probe, exp.train.epochs)
    ranks: dict[str, Any] = {"rank": fold.rank, "world_size": fold.world_size}  # of the processes that torchrun starts
    batches = Batches(data.pictures(), exp.train.batch_size, used, seed=exp.seed, workers=exp.runtime.workers, **ranks)

    trainer = model.make_trainer(exp, steps=epochs * len(batches), **ranks)
    with probe(exp.runtime.probe.value, fold.folder):
        for step in fold.steps(epochs * len(batches), state=trainer):  # the progress; goes on after an interruption
            trainer.step(batches[step])
            if step % len(batches) == 0:  # the end of an epoch; valid_accuracy teaches nothing
                fold.log(train_loss=trainer.mean_loss(), **fold.evaluate(trainer.predict, data.X))
            elif step % exp.runtime.log_every == 0:
                fold.log(train_loss=trainer.mean_loss())

    model.save(trainer, exp, fold.folder / "model.pt")
    fold.predict(trainer.predict, data.X, test=data.test_X, test_id=data.test_id)


experiment = expkit.Experiment(
    train,
    ExpConfig,
    metric=accuracy,
    debug={"train.epochs": 1},  # with exp.debug=true
    groups={"model": {"cnn": CNNConfig, "vit": ViTConfig}},  # chosen by model=vit, at exp.model
    distributed=True,  # torchrun may start several processes, which share each batch
    inputs=[],  # reads no file of input/
)

if __name__ == "__main__":
    expkit.main(experiment)
