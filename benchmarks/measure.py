"""How a row is measured: two things in turns, so that both see the same machine; and the project around them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUIET = [
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra/job_logging=none",
]  # of a bare Hydra app, as expkit sets it


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        name: of the row, as --only takes it.
        what: is measured.
        ours, floor: medians in `unit`; floor is None of a report alone.
        target: such as "≤ 1.10", which the ratio is held against; "" of a report alone.
    """

    name: str
    what: str
    ours: float
    floor: float | None
    target: str = ""
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times the floor; of a target that begins with ≥, how many times as fast as it."""
        if not self.floor:
            return None
        return self.floor / self.ours if self.target.startswith("≥") else self.ours / self.floor

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.ratio is None or not self.target:
            return None
        most = float(self.target[1:])
        return self.ratio >= most if self.target.startswith("≥") else self.ratio <= most

    def cells(self) -> list[str]:
        """What a table shows."""
        verdict = {None: "", True: "met", False: "**missed**"}[self.is_met]
        floor = "" if self.floor is None else formatted(self.floor, self.unit)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return [self.name, self.what, formatted(self.ours, self.unit), floor, ratio, self.target, verdict, self.note]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"ratio": self.ratio, "is_met": self.is_met}


def formatted(value: float, unit: str) -> str:
    """A figure with its unit; seconds in the size that is read best."""
    if unit != "s":
        return f"{value:,.0f} {unit}"
    for least, factor, name in ((1, 1, "s"), (1e-3, 1e3, "ms"), (0, 1e6, "µs")):
        if value >= least:
            return f"{value * factor:.3g} {name}"
    return f"{value} s"


def in_turns(calls: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """The median seconds of each call, made in turns after one round that is not counted.

    Args:
        calls: each may return the seconds that count, a float; else those of the whole call do.
    """
    times: list[list[float]] = [[] for _ in calls]
    for number in range(repeat + 1):
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            seconds = call()
            if number:
                found.append(seconds if isinstance(seconds, float) else time.perf_counter() - start)
    return [statistics.median(found) for found in times]


class Place:
    """A folder for one run of the benchmarks: rendered projects, made when they are asked for."""

    def __init__(self, folder: Path, repeat: int, torch_python: Path | None = None) -> None:
        self.folder, self.repeat, self.torch_python = folder, repeat, torch_python
        names = ("WANDB_", "PROJECT_ROOT", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(names)}
        self.environment |= {"WANDB_MODE": "disabled"}

    @functools.cached_property
    def template(self) -> Path:
        """The working tree, as a repository that copier renders."""
        template = self.folder / "template"
        for name in self.call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines():
            if (ROOT / name).is_file():
                (template / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, template / name)
        self.call(template / ".ci/build-wheel", template, cwd=template)
        return template

    @functools.cached_property
    def project(self) -> Path:
        """A project with the default answers, its environment, and every extra."""
        project = self.rendered("sklearn")
        self.call("uv", "sync", "-q", "--all-extras", cwd=project)
        return project

    def rendered(self, framework: str) -> Path:
        """A new project with a framework, as a git repository; it has no environment."""
        project = self.folder / f"{framework}-project"
        answers = ["--defaults", "--data", f"framework={framework}"]
        self.call(sys.executable, "-m", "copier", "copy", "-q", *answers, self.template, project, cwd=self.folder)
        self.commit(project)
        return project

    @property
    def python(self) -> Path:
        return self.project / ".venv/bin/python"

    @property
    def train(self) -> list[str | Path]:
        """The command of the baseline."""
        return [self.python, self.project / "experiments/001-baseline/train.py"]

    @functools.cached_property
    def bare(self) -> list[str | Path]:
        """A bare Hydra application with the YAML files and the dataclasses of the baseline, in the same environment."""
        bare = self.folder / "bare"
        shutil.copytree(self.project / "experiments/001-baseline", bare, ignore=shutil.ignore_patterns("*.py"))
        shutil.copy(ROOT / "benchmarks/bare.py", bare)
        return [self.python, bare / "bare.py", *QUIET]

    def commit(self, folder: Path) -> None:
        """All files of a folder, in a git repository of its own."""
        git = ["git", "-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com"]
        self.call(*git, "init", "-q", cwd=folder)
        self.call(*git, "add", "-A", cwd=folder)
        self.call(*git, "commit", "-q", "-m", "benchmark", cwd=folder)

    def call(self, *command: str | Path, cwd: Path, **variables: str) -> str:
        """What a command prints; one that fails ends the benchmark, with what it said."""
        words = [str(word) for word in command]
        done = subprocess.run(words, cwd=cwd, env=self.environment | variables, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} exits {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def calling(self, *command: str | Path, cwd: Path | None = None, **variables: str) -> Callable[[], None]:
        """A command to be measured."""

        def run() -> None:
            self.call(*command, cwd=cwd or self.folder, **variables)

        return run

    def script(self, name: str, *arguments: str | Path, cwd: Path | None = None, **variables: str) -> Any:
        """What a script of `inside/` prints as JSON on its last line, in the project's environment."""
        file = ROOT / "benchmarks/inside" / f"{name}.py"
        words = [*map(str, arguments), "--repeat", str(self.repeat)]
        printed = self.call(self.python, file, *words, cwd=cwd or self.project, **variables)
        return json.loads(printed.splitlines()[-1])


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for one run, which goes afterwards."""
    return tempfile.TemporaryDirectory(prefix="benchmark-")
