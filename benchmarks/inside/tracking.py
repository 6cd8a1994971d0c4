"""What `fold.log` adds to a step, offline, and `wandb.log` alone: to steps of a millisecond, and to empty ones.

It is the difference between many steps and few, so that neither the start nor the end of W&B counts, less that of the
same steps without a log.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import answer, arguments, in_turns

FEW, MANY = 500, 3500
SIDES = {"arithmetic": 250, "nothing": 1}  # of the matrices that a step multiplies; 250 takes about a millisecond
EXPERIMENT = """
from dataclasses import dataclass
import expkit

@dataclass
class TrainConfig:
    steps: int = 1
    side: int = 1

def score(oof):
    return 1.0

def train(exp, fold):
    import numpy
    matrix = numpy.ones((exp.train.side, exp.train.side))
    for step in fold.steps(exp.train.steps):
        matrix @ matrix
        fold.log(loss=1 / step, rate=0.1)
    fold.save_oof({"id": [1], "target": [0], "prediction": [0]})

experiment = expkit.Experiment(train, TrainConfig, metric=score, greater_is_better=True, own_split=True)
"""
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: steps\n  n_folds: 1\n"


def main() -> None:
    args = arguments()
    root = Path(tempfile.mkdtemp(dir="output")).resolve()
    os.environ |= {"PROJECT_ROOT": str(root), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    import numpy
    import wandb

    import expkit
    from expkit import project

    folder = project.code_root() / "experiments/091-steps"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "train.py").write_text(EXPERIMENT)

    def ours(steps: int, side: int) -> None:
        expkit.run("091-steps", overrides=[f"exp.train.steps={steps}", f"exp.train.side={side}", "overwrite=true"])

    def plain(steps: int, side: int) -> None:
        matrix = numpy.ones((side, side))
        run = wandb.init(project="steps", dir=str(root), mode="offline")
        for step in range(1, steps + 1):
            matrix @ matrix
            run.log({"step": step, "loss": 1 / step, "rate": 0.1})
        run.finish()

    def without(steps: int, side: int) -> None:
        matrix = numpy.ones((side, side))
        for _ in range(steps):
            matrix @ matrix

    def a_step(call: Callable[[int, int], None], side: int) -> float:
        times = []
        for steps in (FEW, MANY):
            start = time.perf_counter()
            call(steps, side)
            times.append(time.perf_counter() - start)
        return (times[1] - times[0]) / (MANY - FEW)

    found = {}
    for name, side in SIDES.items():
        calls = [partial(a_step, call, side) for call in (ours, plain, without)]
        logged, floor, arithmetic = in_turns(calls, args.repeat)
        found[name] = (logged - arithmetic, floor - arithmetic)
    answer(found)


main()
