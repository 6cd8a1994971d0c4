"""Rows per second of the PyTorch baseline: beside a bare loop of the same training, and beside Lightning's Trainer.

    uv run python benchmarks/torch_loop.py                     # on a GPU when there is one; about ten minutes
    uv run python benchmarks/torch_loop.py --device cpu --repeats 9
    uv run python benchmarks/torch_loop.py --python python3    # an environment that has PyTorch, Lightning and the rest

Renders a project from the working tree, and trains its baseline four ways (torch_trainings.py), each in a process of
its own. They take turns, an epoch each, so that all see the same machine. README.md says what the table means.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sweep import call, render

TORCH, LIGHTNING = "2.13.0", "2.6.6"
TRAININGS = Path(__file__).with_name("torch_trainings.py")
LOOPS = {
    "ours": "the baseline, whole",
    "bare": "a bare loop",
    "lightning": "Lightning, DataLoader",
    "lightning_fast": "Lightning, batches by index",
}
GOALS = {"bare": 0.98, "lightning": 1.1, "lightning_fast": 1.1}
EPOCHS = 20
SIZES = {  # by device
    "cpu": {
        "arithmetic": ["exp.model.channels=64", "exp.train.batch_size=128"],
        "overhead": ["exp.model.channels=8", "exp.train.batch_size=8"],
    },
    "cuda": {
        "arithmetic": ["exp.model.channels=512", "exp.train.batch_size=128"],
        "overhead": ["exp.model.channels=8", "exp.train.batch_size=8"],
    },
}
MACHINE = """
import lightning, platform, torch
gpu = torch.cuda.is_available()
print(f"PyTorch {torch.__version__}, Lightning {lightning.__version__}, Python {platform.python_version()}")
print(torch.cuda.get_device_name() if gpu else "")
"""

Epochs = dict[str, list[dict[str, float]]]  # by loop: "wall" and "cpu" seconds, and "loss", of each epoch


def install(project: Path, device: str) -> Path:
    """An environment for the project, with one build of PyTorch: for the CPU, or for the GPU of this machine.

    Returns:
        its Python.
    """
    packages, variables = ["-r", "pyproject.toml", f"lightning=={LIGHTNING}"], {}
    if links := os.environ.get("PIP_FIND_LINKS"):
        packages, variables = [*packages, f"torch=={TORCH}+cpu"], {"UV_FIND_LINKS": links}
    else:
        packages += [f"torch=={TORCH}", "--torch-backend", "cpu" if device == "cpu" else "auto"]
    python = project / ".venv/bin/python"
    call("uv", "venv", "-q", "--python", sys.executable, cwd=project)
    call("uv", "pip", "install", "-q", "--python", python, *packages, cwd=project, **variables)
    return python


class Training:
    """torch_trainings.py in a process of its own, with results of its own.

    Attributes:
        rows: of an epoch.
    """

    def __init__(self, python: Path, project: Path, root: Path, loop: str, overrides: list[str]) -> None:
        path = os.pathsep.join(filter(None, [str(project / "src"), os.environ.get("PYTHONPATH")]))
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
            epochs: Epochs = {loop: [training.told("loss")] for loop, training in trainings.items()}
            for _ in range(1, EPOCHS):
                for loop, training in trainings.items():
                    training.go_on()
                    epochs[loop].append(training.told("loss"))
            trainings["ours"].go_on()
            return epochs, trainings["ours"].rows, trainings["ours"].told("checkpoint")["checkpoint"]
        finally:
            for training in trainings.values():
                training.end()


def require_same(epochs: Epochs) -> None:
    """Every loop has trained the same: the validation losses of the first epochs differ by rounding alone."""
    losses = {loop: [epoch["loss"] for epoch in each[:3]] for loop, each in epochs.items()}
    if any(max(each) > 1.005 * min(each) for each in zip(*losses.values(), strict=True)):
        raise SystemExit(f"the loops do not train the same; the validation losses of the first epochs: {losses}")


def table(size: str, epochs: Epochs, rows: float) -> list[str]:
    """The lines of one size."""
    lines = []
    for loop, what in LOOPS.items():
        cells = []
        for clock in ("wall", "cpu"):
            cells.append(f"{rows / statistics.median(epoch[clock] for epoch in epochs[loop]):,.0f}")
            ratios = [other[clock] / own[clock] for own, other in zip(epochs["ours"], epochs[loop], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            cells.append(f"{middle:.3f} ({low:.2f} to {high:.2f})" if loop in GOALS else "1")
        goal = f"≥ {GOALS[loop]}" if loop in GOALS else ""
        lines.append(f"| {size} | {what} | {' | '.join(cells)} | {goal} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="how often each training starts (default: 5)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: auto)")
    parser.add_argument("--python", type=Path, help="a Python that has all packages (default: make an environment)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = render(Path(scratch), framework="torch")
        python = options.python or install(project, options.device)
        path = os.environ.get("PYTHONPATH", "")
        versions, gpu = call(python, "-c", MACHINE, cwd=project, PYTHONPATH=path).stdout.split("\n")[:2]
        device = "cuda" if gpu and options.device != "cpu" else "cpu"
        where = gpu if device == "cuda" else f"CPU, {os.cpu_count()} cores, one thread"
        print(f"{versions}; {where}; load before {os.getloadavg()[0]:.1f}\n")

        print("| what limits it | loop | rows/s | ratio | rows/s of CPU time | ratio | goal |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        checkpoints = []
        for size, overrides in SIZES[device].items():
            given = [*overrides, f"exp.train.epoch={EPOCHS}", f"exp.runtime.device={device}", "exp.train.threads=1"]
            together: Epochs = {loop: [] for loop in LOOPS}
            for _ in range(options.repeats):
                epochs, rows, checkpoint = measured(python, project, given)
                require_same(epochs)
                checkpoints.append(checkpoint)
                for loop in LOOPS:
                    together[loop] += epochs[loop][1:]  # the first one begins with the process
            print("\n".join(table(size, together, rows)), flush=True)
    print(f"\nA checkpoint takes {1000 * statistics.median(checkpoints):.0f} ms, every 30 s.")
    print(f"Load of the machine after: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
