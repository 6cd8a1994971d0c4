"""A step of `fold.log`, offline, over `wandb.log` alone: the difference between many steps and few."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from common import answer, arguments, in_turns

FEW, MANY = 500, 5500
EXPERIMENT = """
from dataclasses import dataclass, field
import expkit

@dataclass
class ExpConfig(expkit.ExpConfig):
    steps: int = 1

@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)

def score(oof):
    return 1.0

def train(exp, fold):
    for step in range(1, exp.steps + 1):
        fold.log({"step": step, "loss": 1 / step, "rate": 0.1}, total=exp.steps)
    fold.save_oof({"id": [1], "target": [0], "prediction": [0]})
    fold.finish()

experiment = expkit.Experiment(train, Config, metric=score, greater_is_better=True)
"""
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: steps\n  n_folds: 1\n"


def main() -> None:
    args = arguments()
    root = Path(tempfile.mkdtemp(dir="output")).resolve()
    os.environ |= {"PROJECT_ROOT": str(root), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    import wandb

    import expkit
    from expkit import paths

    folder = paths.code_root() / "experiments/091-steps"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "train.py").write_text(EXPERIMENT)

    def ours(steps: int) -> float:
        start = time.perf_counter()
        expkit.run("091-steps", overrides=[f"exp.steps={steps}", "overwrite=true"])
        return time.perf_counter() - start

    def plain(steps: int) -> float:
        start = time.perf_counter()
        run = wandb.init(project="steps", dir=str(root), mode="offline")
        for step in range(1, steps + 1):
            run.log({"step": step, "loss": 1 / step, "rate": 0.1})
        run.finish()
        return time.perf_counter() - start

    def a_step(call: object) -> float:
        return (call(MANY) - call(FEW)) / (MANY - FEW)  # type: ignore[operator]

    answer(in_turns((lambda: a_step(ours), lambda: a_step(plain)), args.repeat))


main()
