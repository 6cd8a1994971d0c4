"""Until the first call of fit of the baseline, without Hydra's or expkit's part: the data and the network by hand.

python bare_start.py EXPERIMENT [MODULES]       MODULES: a file with modules to import before, a line each
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

experiment, *modules = sys.argv[1:]
sys.path.insert(0, experiment)
for file in modules:
    for name in Path(file).read_text().split():
        with suppress(ImportError):  # of the experiment's own
            importlib.import_module(name)

import model  # noqa: E402

data = model.load_data()
network = model.make_network(SimpleNamespace(hidden=64, batch_size=32, learning_rate=1e-3), 42)
network.partial_fit(data.X, data.y, classes=model.CLASSES)
