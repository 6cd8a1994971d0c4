"""Rows of the PyTorch baseline that are trained in a second: beside a bare loop, and beside Lightning's Trainer.

Trains the baseline four ways (torch_trainings.py), each in a process of its own; they take turns, an epoch each, so
that all see the same machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import ROOT, Place, Result

TORCH, LIGHTNING = "2.13.0", "2.6.6"
TRAININGS = Path(__file__).with_name("torch_trainings.py")
LOOPS = {
    "ours": "the baseline, whole",
    "bare": "a bare loop",
    "lightning": "Lightning with a DataLoader",
    "lightning_fast": "Lightning with batches by index",
}
TARGETS = {"bare": "≥0.98", "lightning": "≥1.1", "lightning_fast": "≥1.1"}
EPOCHS, STARTS = 20, 5
SIZES = {  # by device, and by what limits the training
    "cpu": {
        "arithmetic": ["exp.model.channels=64", "exp.train.batch_size=128"],
        "overhead": ["exp.model.channels=8", "exp.train.batch_size=8"],
    },
    "cuda": {
        "arithmetic": ["exp.model.channels=512", "exp.train.batch_size=128"],
        "overhead": ["exp.model.channels=8", "exp.train.batch_size=8"],
    },
}
GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"

Epochs = dict[str, list[dict[str, float]]]  # by loop: "wall" and "cpu" seconds, and "score", of each epoch


def torch_build() -> tuple[list[str], dict[str, str]]:
    """What `uv pip install` is told, in words and variables, to get one build of PyTorch."""
    if links := os.environ.get("PIP_FIND_LINKS"):
        return [f"torch=={TORCH}+cpu"], {"UV_FIND_LINKS": links}
    return [f"torch=={TORCH}", "--torch-backend", "auto"], {}


def install(place: Place, project: Path) -> Path:
    """An environment for the project, with one build of PyTorch.

    Returns:
        its Python; that of --torch-python, where that has been given.
    """
    if place.torch_python:
        return place.torch_python
    torch, variables = torch_build()
    words = ["-r", "pyproject.toml", f"lightning=={LIGHTNING}", *torch]
    python = project / ".venv/bin/python"
    place.call("uv", "venv", "-q", "--python", sys.executable, cwd=project)
    place.call("uv", "pip", "install", "-q", "--python", python, *words, cwd=project, **variables)
    return python


class Training:
    """torch_trainings.py in a process of its own, with results of its own.

    Attributes:
        rows: of an epoch.
    """

    def __init__(self, python: Path, project: Path, root: Path, loop: str, overrides: list[str]) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT / "expkit/src"), os.environ.get("PYTHONPATH")]))
        variables = os.environ | {"PYTHONPATH": path, "PROJECT_ROOT": str(root), "WANDB_MODE": "disabled"}
        root.mkdir()
        self._errors = open(root / "errors", "w+")
        self._process = subprocess.Popen(
            [str(python), str(TRAININGS), loop, *overrides],
            cwd=project,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.rows = self.told("rows")["rows"]

    def told(self, name: str) -> dict[str, float]:
        """The next of its lines that has a value `name`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{") and name in (values := json.loads(line)):
                return dict(values)
        self._errors.seek(0)
        raise SystemExit(f"{self._process.args} ends too soon\n{self._errors.read()}")

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def measured(python: Path, project: Path, overrides: list[str]) -> tuple[Epochs, float, float]:
    """All loops, epoch by epoch in turns; the rows of an epoch; the seconds of a checkpoint."""
    trainings: dict[str, Training] = {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for loop in LOOPS:
                trainings[loop] = Training(python, project, Path(scratch, loop), loop, overrides)
            epochs: Epochs = {loop: [training.told("score")] for loop, training in trainings.items()}
            for _ in range(1, EPOCHS):
                for loop, training in trainings.items():
                    training.go_on()
                    epochs[loop].append(training.told("score"))
            trainings["ours"].go_on()
            return epochs, trainings["ours"].rows, trainings["ours"].told("checkpoint")["checkpoint"]
        finally:
            for training in trainings.values():
                training.end()


def require_same(epochs: Epochs) -> None:
    """Every loop has trained the same: the validation scores of the first epochs differ by rounding alone."""
    scores = {loop: [epoch["score"] for epoch in each[:3]] for loop, each in epochs.items()}
    if any(max(each) > 0.01 + min(each) for each in zip(*scores.values(), strict=True)):
        raise SystemExit(f"the loops do not train the same; the validation scores of the first epochs: {scores}")


def torch_loop(place: Place) -> Iterator[Result]:
    """The throughput inside a run, on the CPU with one thread, and on the GPU where there is one."""
    project = place.rendered("torch")
    python = install(place, project)
    gpu = place.call(python, "-c", GPU, cwd=project).strip()
    for device in ("cpu", *(["cuda"] if gpu else [])):
        for limit, overrides in SIZES[device].items():
            given = [*overrides, f"exp.train.epochs={EPOCHS}", f"exp.runtime.device={device}", "exp.train.threads=1"]
            together: Epochs = {loop: [] for loop in LOOPS}
            checkpoints = []
            for _ in range(STARTS):
                epochs, rows, checkpoint = measured(python, project, given)
                require_same(epochs)
                checkpoints.append(checkpoint)
                for loop in LOOPS:
                    together[loop] += epochs[loop][1:]  # the first one begins with the process
            clock = "wall" if device == "cuda" else "cpu"  # of one thread: others on the machine count for less
            where = gpu if device == "cuda" else "one thread"
            for loop, target in TARGETS.items():
                what = f"an epoch of {rows:.0f} rows ({where}, limited by {limit}), over {LOOPS[loop]}"
                pairs = zip(together["ours"], together[loop], strict=True)
                ratios = [other[clock] / own[clock] for own, other in pairs]
                low, _, high = statistics.quantiles(ratios, n=4)
                ours, floor = (statistics.median(each[clock] for each in together[name]) for name in ("ours", loop))
                note = f"quartiles {low:.2f} to {high:.2f}"
                note += f"; a checkpoint {statistics.median(checkpoints) * 1e3:.0f} ms" if loop == "bare" else ""
                yield Result("torch", what, ours, floor, target, note=note)
