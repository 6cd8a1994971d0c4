"""The floor of a first epoch: bare Python that imports Hydra and the model, and trains one epoch of the baseline."""

from __future__ import annotations

import sys
from types import SimpleNamespace

sys.path.insert(0, sys.argv[1])

import hydra  # noqa: E402, F401
import numpy  # noqa: E402

import model  # noqa: E402

data = model.load_data()
valid = numpy.arange(len(data.y)) % 5 == 0
network = model.make_network(SimpleNamespace(hidden=64, batch_size=32, learning_rate=1e-3), seed=0)
network.partial_fit(data.X[~valid], data.y[~valid], classes=model.CLASSES)
accuracy = (model.predict(network, data.X[valid])["prediction"] == data.y[valid]).mean()
print(f"epoch 1/1  train_loss {network.loss_:.4g}  valid_accuracy {accuracy:.4g}")
