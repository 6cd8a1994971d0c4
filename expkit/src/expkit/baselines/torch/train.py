"""001-baseline: a small neural network on the handwritten digits that ship with scikit-learn.

    uv run python train.py                                   # config.yaml as it stands: one fold
    uv run python train.py show_config=true                  # what would run; trains nothing
    uv run python train.py exp=001                           # the parameter set exp/001.yaml
    uv run python train.py exp=001 'exp.fold=[0,1,2,3,4]'    # five folds, then the CV score
    uv run python train.py exp=001 exp.debug=true            # seconds: does it run through?
    uv run python train.py exp=001 exp.mode=sub              # train on all rows, write submission.csv
    uv run python train.py -m exp=001,002                    # both, one after the other
    uv run python train.py model=vit exp.model.depth=6       # another network, with settings of its own
    uv run python train.py exp.runtime.probe=overfit         # can it learn one batch? also: one_batch, profile, anomaly
    uv run torchrun --standalone --nproc_per_node=2 train.py # two GPUs (or processes) train each fold together

Results lie in output/001-baseline/<run>/. The same command again finishes what is missing, and trains nothing twice.
This file is light to import; the data and the networks are in model.py.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from omegaconf import MISSING

import expkit

Positive = Annotated[int, Ge(1)]
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

    width: Positive = 48  # a multiple of heads
    depth: Positive = 2  # blocks of attention and MLP
    heads: Positive = 4
    dropout: Share = 0.0

    def __post_init__(self) -> None:
        expkit.require(
            self.width % self.heads == 0,
            f"exp.model.width must be a multiple of exp.model.heads ({self.heads}), not {self.width}",
        )


class Precision(Enum):
    """The type in which a network computes while it trains; weights and predictions are float32 in any case."""

    fp32 = "float32"
    bf16 = "bfloat16"
    fp16 = "float16"  # with a scaled loss


@dataclass
class TrainConfig:
    epoch: Positive = 20  # passes over the training rows
    batch_size: Positive = 64  # rows of a step
    accumulate: Positive = 1  # parts of a batch, one after the other: less memory, the same step
    learning_rate: Annotated[float, Gt(0)] = 3e-3  # of AdamW, the highest; warm-up, then a cosine down to 0
    warmup: Share = 0.1  # of the steps
    weight_decay: Annotated[float, Ge(0)] = 0.05
    clip: Annotated[float, Gt(0)] = 1.0  # the largest norm of the gradient; inf: any
    label_smoothing: Share = 0.0
    shift: Annotated[int, Ge(0), Le(4)] = 0  # pixels; each picture is moved by up to as many, at random
    ema: Share = 0.0  # predict with the moving mean of the weights, such as 0.98; 0: with the last ones
    precision: Precision = Precision.fp32
    compile: bool = False  # torch.compile: a minute at the start, then faster
    threads: Positive = 1  # of the CPU: more are faster for large networks, and change the last digits
    deterministic: bool = False  # on a GPU: the same bytes each time, slower; a CPU needs no such thing

    def __post_init__(self) -> None:
        expkit.require(
            self.accumulate <= self.batch_size,
            f"exp.train.accumulate must be at most exp.train.batch_size ({self.batch_size}), not {self.accumulate}",
        )


class Probe(Enum):
    """A look into the training instead of a result; it is a debug run, under output/debug/."""

    none = "none"
    one_batch = "one_batch"  # one step, and the predictions
    overfit = "overfit"  # one batch again and again: the loss must come close to 0
    profile = "profile"  # where the time goes: trace.json in the folder of the fold, for ui.perfetto.dev
    anomaly = "anomaly"  # where a nan comes from: a traceback of the operation


@dataclass
class RuntimeConfig(expkit.RuntimeConfig):
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    log_every: Annotated[int, Ge(0)] = 100  # steps: how often within an epoch; 0: once per epoch
    probe: Probe = Probe.none

    def __post_init__(self) -> None:
        expkit.require(
            re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None,
            f"exp.runtime.device must be auto, cpu, cuda, cuda:1 (the number of a GPU) or mps, not {self.device!r}",
        )


@dataclass
class ExpConfig(expkit.ExpConfig):
    model: ModelConfig = MISSING  # config.yaml says which
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        probe = self.runtime.probe
        if (self.debug and probe is Probe.none) or probe in (Probe.one_batch, Probe.profile):
            self.train.epoch = 1
        if probe is Probe.overfit:
            self.train.epoch, self.train.shift, self.train.label_smoothing = 200, 0, 0.0
        self.debug = self.debug or probe is not Probe.none


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def accuracy(oof):
    """The fraction of the rows whose class is predicted; `oof` maps the names below to arrays, (n,)."""
    return (oof["target"] == oof["prediction"]).mean()


def train(exp: ExpConfig, fold: "expkit.Fold") -> None:
    """Train on all rows but those of a fold, and predict these; or on all rows, and predict the test set."""
    import model  # heavy imports wait until there is something to train

    few = exp.debug and exp.runtime.probe is not Probe.anomaly
    data = model.load_data(rows=25 * max(exp.n_folds, 4) if few else None)
    fit_rows, valid_rows = expkit.split(exp, fold.number, id=data.id, y=data.y)  # by exp.split
    if exp.runtime.probe in (Probe.one_batch, Probe.overfit):
        fit_rows = fit_rows[: exp.train.batch_size]
    X, y = data.X, data.y

    network = model.Network(exp.model, exp.train, exp.runtime, exp.seed, fold.rank, fold.world_size)
    if fold.checkpoint.file is not None:
        network.load_checkpoint(fold.checkpoint.file)
    with model.probe(exp.runtime.probe.value, fold.folder):
        rows = X[fit_rows], y[fit_rows], X[valid_rows], y[valid_rows]
        for metrics, total in network.fit(*rows, epochs=exp.train.epoch):
            fold.log(metrics, total)  # history.csv, W&B and the terminal
            fold.checkpoint.save(network.save_checkpoint, every=30)  # seconds; the same command goes on from here
            if "valid_accuracy" in metrics:  # a study that has a pruner may end a bad trial here
                fold.report(metrics["valid_accuracy"], metrics["epoch"] / exp.train.epoch)

    network.save(fold.folder / "model.pt")
    fold.save_test({"id": data.test_id} | network.predict_columns(data.test_X))  # for `exp submit`
    if fold.number is None:
        fold.save_submission({model.ID: data.test_id, model.TARGET: network.predict(data.test_X)})
    else:
        known = {"id": data.id[valid_rows], "target": y[valid_rows]}
        fold.save_oof(known | network.predict_columns(X[valid_rows]))
    fold.finish()


experiment = expkit.Experiment(
    train,
    Config,
    metric=accuracy,
    greater_is_better=True,
    groups={"model": {"cnn": CNNConfig, "vit": ViTConfig}},  # chosen by model=vit, at exp.model
    distributed=True,  # torchrun may start several processes, which share each batch
    inputs=[],  # no file of input/
)

if __name__ == "__main__":
    expkit.main(experiment)
