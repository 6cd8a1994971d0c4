"""The data, the networks, and what trains them."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import expkit
from expkit.torch import Trainer, begin, find_device, with_decay

SIZE = 8  # pixels: the height and the width of a picture, a multiple of 4
CHANNELS = 1  # of a picture: 1 for grey values, 3 for colours
CLASSES = np.arange(10)  # the values of a target; a network has an output for each


@dataclass
class Data:
    """Rows to train on and rows to predict. The targets of the test rows are not here: training never sees them."""

    id: np.ndarray  # (n,) int: the row's number in the data set
    X: np.ndarray  # (n, CHANNELS, SIZE, SIZE) float32 from 0 to 1: the pictures
    y: np.ndarray  # (n,) of CLASSES: the digit
    test_id: np.ndarray  # (m,)
    test_X: np.ndarray  # (m, CHANNELS, SIZE, SIZE)

    def pictures(self) -> Dataset[tuple[Tensor, ...]]:
        """All rows to train on, as (picture, index of the class). Pictures in files: a Dataset of your own."""
        return TensorDataset(torch.from_numpy(self.X), as_labels(self.y))


def load_data() -> Data:
    """The handwritten digits that ship with scikit-learn: 1437 rows to train on, 360 to predict."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, CHANNELS, SIZE, SIZE).astype("float32") / 16
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
    train, test = np.sort(train), np.sort(test)
    return Data(train, X[train], y[train], test, X[test])


def as_labels(y: np.ndarray) -> Tensor:
    """The place in CLASSES of each target in `y`, (n,) int."""
    places = {label: place for place, label in enumerate(CLASSES.tolist())}
    unknown = sorted(map(repr, set(y.tolist()) - set(places)))
    expkit.require(not unknown, f"targets such as {unknown[:3]} are none of CLASSES in model.py, which are {[*places]}")
    return torch.tensor([places[label] for label in y.tolist()], dtype=torch.long)


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


class ViT(nn.Module):
    """A vision transformer over 4 x 4 patches of a picture, which attend to each other."""

    def __init__(self, head_width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        width = heads * head_width
        self.patches = nn.Conv2d(CHANNELS, width, SIZE // 4, stride=SIZE // 4)
        self.position = nn.Parameter(torch.randn(1, 16, width) / 2)  # as large as the patches
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.position
        return self.head(self.blocks(x).mean(dim=1))


NETWORKS = {"CNNConfig": CNN, "ViTConfig": ViT}  # by the class of exp.model, whose fields are their arguments


class Classifier(Trainer):
    """Trains a network that gives a number for each class, and predicts with it."""

    def predict(self, X):
        """The columns of a prediction, (n,) each: the class, and the probability of each class."""
        probability = torch.from_numpy(self.outputs(X)).softmax(dim=1).numpy()
        columns = {f"probability_{label}": probability[:, index] for index, label in enumerate(CLASSES)}
        return {"prediction": CLASSES[probability.argmax(axis=1)]} | columns


def make_trainer(exp, steps: int, rank: int, world_size: int) -> Classifier:
    """A network with its first weights, and what trains it for so many steps."""
    config = exp.train
    begin(exp.seed, config.threads, config.deterministic)

    def loss(network, batch):
        images, labels = batch
        images = shifted(images, config.shift) if config.shift else images
        return F.cross_entropy(network(images).float(), labels, label_smoothing=config.label_smoothing)

    network = NETWORKS[type(exp.model).__name__](**vars(exp.model))
    optimizer = torch.optim.AdamW(with_decay(network, config.weight_decay), config.learning_rate, fused=True)
    warmup = max(config.warmup, 2 / (steps + 1))  # one step at least
    rate = {"total_steps": steps + 1, "pct_start": warmup, "cycle_momentum": False}
    return Classifier(
        network,
        loss,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, **rate),
        device=find_device(exp.runtime.device, world_size),
        dtype=getattr(torch, config.precision.value),
        accumulate=config.accumulate,
        clip=config.clip,
        ema=config.ema,
        compile=config.compile,
        seed=exp.seed,
        rank=rank,
        world_size=world_size,
    )


def shifted(images: Tensor, most: int) -> Tensor:
    """Pictures (n, channels, height, width), moved by up to `most` pixels down and right; black comes in."""
    down, right = torch.randint(0, 2 * most + 1, (2,)).tolist()
    return F.pad(images, [most] * 4)[..., down : down + SIZE, right : right + SIZE]


def save(trainer, exp, file):
    """Write the network that predicts, for `load`."""
    metadata = {"network": type(exp.model).__name__, "settings": vars(exp.model)}
    torch.save(metadata | {"weights": trainer.predicting.state_dict()}, file)


def load(file) -> Classifier:
    """The network that `save` wrote."""
    saved = torch.load(file, weights_only=True)
    network = NETWORKS[saved["network"]](**saved["settings"])
    network.load_state_dict(saved["weights"])
    return Classifier(network)
