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

config = train.Config().exp
config.n_folds, config.train.epoch, config.train.batch_size = 5, int(epochs), int(batch)
config.train.base_model = train.BaseModel.large
scores = []
for fold in range(5):
    data = model.load_data()
    fit, valid = expkit.split(config, fold, id=data.id, y=data.y)
    about = config.train
    network = model.Network(about.base_model.value, about.batch_size, about.learning_rate, config.seed)
    log = None
    if mode == "offline":
        import wandb

        log = wandb.init(project="bare", group="bare", name=f"fold{fold}", dir=folder, mode=mode).log
    for row in network.fit(data.X[fit], data.y[fit], data.X[valid], data.y[valid], epochs=about.epoch):
        if log is not None:
            log(row)
    place = Path(folder, f"fold{fold}")
    place.mkdir(parents=True, exist_ok=True)
    network.save(place / "model.joblib")
    network.predict_columns(data.test_X)
    predicted = network.predict(data.X[valid])
    numpy.savez(place / "oof.npz", id=data.id[valid], target=data.y[valid], prediction=predicted)
    if log is not None:
        wandb.finish()
    scores.append(float((predicted == data.y[valid]).mean()))
print(scores)
