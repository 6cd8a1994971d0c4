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
from expkit.config import SplitMethod, whole  # noqa: E402

exp = whole(train.TrainConfig)().exp
exp.split.method = SplitMethod.stratified
jobs = int(sys.argv[2])
begin = time.perf_counter()
for job in range(jobs):
    data = model.load_data()
    rows = expkit.split(exp, 0, id=data.id, y=data.y)
    network = model.make_network(exp.train, seed=job)
    network.partial_fit(data.X[rows.train], data.y[rows.train], classes=model.CLASSES)
    train.accuracy(model.predict(network, data.X[rows.valid]) | {"target": data.y[rows.valid]})
    with tempfile.TemporaryDirectory() as folder:
        model.save(network, Path(folder, "model.joblib"))
    model.predict(network, data.X[rows.valid])
    model.predict(network, data.test_X)
print(time.perf_counter() - begin)
