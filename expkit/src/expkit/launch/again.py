"""Train a configuration from its recorded values, not from a command line: `exp reproduce` runs this in a snapshot.

python -m expkit.launch.again < {"experiment": ..., "values": {"exp": {...}}, "folds": [0, 1]}
"""

from __future__ import annotations

import json
import sys

from expkit.config.compose import from_values
from expkit.config.load import load_experiment
from expkit.config.values import Mode, restored
from expkit.errors import CAUGHT, report
from expkit.rundir import Command
from expkit.train.run import Run


def main() -> None:
    """Train what stdin asks for, in this process."""
    asked = json.load(sys.stdin)
    try:
        loaded = load_experiment(asked["experiment"])
        config = from_values(loaded, restored(asked["values"]))
        config.exp.fold, config.exp.mode, config.exp.debug = asked["folds"], Mode.cv, False
        Run(loaded, config, (), Command()).train()
    except CAUGHT as error:
        sys.exit(report(error))


if __name__ == "__main__":
    main()
