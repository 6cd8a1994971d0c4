"""What a blend of many runs costs: seconds, as a multiple of reading the predictions once, and memory.

    uv run python benchmarks/blend.py

Renders a project from the working tree, gives it 20 runs with 1,000,000 out-of-fold rows each (a probability, and a
target of two classes), and blends them by each method. The floor is NumPy alone: reading the 20 tables and their mean.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import copier

ROOT = Path(__file__).parents[1]
NOWHERE = subprocess.DEVNULL
CONFIG = "defaults: [schema, _self_, exp: default]\nexp:\n  name: blend\n"
TRAIN = """
import expkit


def brier(oof):
    return ((oof["prediction"] - oof["target"]) ** 2).mean()


def auc(oof):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(oof["target"], oof["prediction"])


def train(exp, fold):
    import numpy

    ids = numpy.arange(fold.number, ROWS, exp.n_folds)
    truth = numpy.random.default_rng(fold.number).normal(size=len(ids))
    noise = numpy.random.default_rng([exp.seed, fold.number]).normal(size=len(ids)) * (1 + exp.seed / 10)
    fold.save_oof({"id": ids, "target": (truth > 0).astype("int8"), "prediction": 1 / (1 + numpy.exp(-truth - noise))})


experiment = expkit.Experiment(train, expkit.ExpConfig, metric=METRIC, greater_is_better=METRIC is auc, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""
FLOOR = """
import sys, time
from pathlib import Path
import numpy
start = time.perf_counter()
total = 0.0
for file in sorted(Path(sys.argv[1]).glob("*/fold*/oof.npz")):
    with numpy.load(file) as table:
        total += sum(table[name] for name in table.files if table[name].dtype.kind == "f").mean()
print(time.perf_counter() - start)
"""


def measured(command: list[str], project: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds of a command, and the most memory that it held, in GB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=NOWHERE, stderr=NOWHERE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV",)}
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; {asked.runs} runs of {asked.rows:,} rows\n")
    print("| metric, method | seconds | over reading once | GB |\n| --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "project")
        copier.run_copy(str(ROOT), project, defaults=True, quiet=True, vcs_ref="HEAD")
        subprocess.run(["uv", "sync", "-q"], cwd=project, env=environment, check=True)
        environment |= {"WANDB_MODE": "disabled", "PATH": f"{project}/.venv/bin:{environment['PATH']}"}
        for number, metric in enumerate(("brier", "auc"), start=2):
            name = f"{number:03d}-{metric}"
            folder = project / "experiments" / name
            folder.mkdir()
            (folder / "config.yaml").write_text(CONFIG)
            (folder / "train.py").write_text(TRAIN.replace("METRIC", metric).replace("ROWS", str(asked.rows)))
            for seed in range(asked.runs):
                train = ["python", f"experiments/{name}/train.py", f"exp.seed={seed}"]
                subprocess.run(train, cwd=project, env=environment, check=True, capture_output=True)
            runs = sorted(path.name for path in (project / "output" / name).glob("[!.]*"))
            floor = ["python", "-c", FLOOR, f"output/{name}"]
            done = subprocess.run(floor, cwd=project, env=environment, check=True, capture_output=True, text=True)
            for method in ("mean", "rank", "hill"):
                command = ["exp", "blend", *(f"{name}/{run}" for run in runs), "--method", method]
                seconds, memory = measured([*command, "--name", f"{metric}-{method}"], project, environment)
                print(f"| {metric}, `{method}` | {seconds:.1f} | {seconds / float(done.stdout):.0f} | {memory:.2f} |")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
