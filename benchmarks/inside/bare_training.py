"""The folds of the baseline in a bare loop, without Hydra and expkit's runs: the same model, splits and files.

MODE is that of W&B: offline, which logs each epoch; disabled does not import it.
"""

from __future__ import annotations

import sys
from pathlib import Path

experiment, folder, epochs, batch, mode = sys.argv[1:]
sys.path.insert(0, experiment)

import numpy  # noqa: E402

import expkit  # noqa: E402
import model  # noqa: E402
import train  # noqa: E402
from expkit.config import SplitMethod, whole  # noqa: E402

exp = whole(train.TrainConfig)().exp
exp.split.method = SplitMethod.stratified
about = train.TrainConfig(hidden=256, epochs=int(epochs), batch_size=int(batch))
scores = []
for fold in range(5):
    data = model.load_data()
    rows = expkit.split(exp, fold, id=data.id, y=data.y)
    network = model.make_network(about, exp.seed)
    log = None
    if mode == "offline":
        import wandb

        log = wandb.init(project="bare", group="bare", name=f"fold{fold}", dir=folder, mode=mode).log
    for epoch in range(1, about.epochs + 1):
        network.partial_fit(data.X[rows.train], data.y[rows.train], classes=model.CLASSES)
        valid = {"target": data.y[rows.valid]} | model.predict(network, data.X[rows.valid])
        row = {"epoch": epoch, "train_loss": network.loss_, "valid_accuracy": train.accuracy(valid)}
        if log is not None:
            log(row)
    place = Path(folder, f"fold{fold}")
    place.mkdir(parents=True, exist_ok=True)
    model.save(network, place / "model.joblib")
    oof = {"id": data.id[rows.valid], "target": data.y[rows.valid]} | model.predict(network, data.X[rows.valid])
    numpy.savez(place / "oof.npz", **oof)
    numpy.savez(place / "test.npz", id=data.test_id, **model.predict(network, data.test_X))
    if log is not None:
        wandb.finish()
    scores.append(float(train.accuracy(oof)))
print(scores)
