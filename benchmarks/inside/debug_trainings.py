"""The training of a debug job of the baseline, many times in one process, without Hydra's or expkit's part."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, sys.argv[1])

import expkit  # noqa: E402
import model  # noqa: E402
import train  # noqa: E402

jobs = int(sys.argv[2])
begin = time.perf_counter()
for job in range(jobs):
    config = train.Config(train.ExpConfig(debug=True, fold=[0], seed=job)).exp
    data = model.load_data(rows=25 * config.n_folds)
    fit, valid = expkit.split(config, 0, id=data.id, y=data.y)
    about = config.train
    network = model.Network(about.base_model.value, about.batch_size, about.learning_rate, config.seed)
    for _ in network.fit(data.X[fit], data.y[fit], data.X[valid], data.y[valid], epochs=about.epoch):
        pass
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder, "model.joblib"))
    network.predict_columns(data.X[valid])
print(time.perf_counter() - begin)
