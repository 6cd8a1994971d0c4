"""What the template costs, as ratios against a floor measured in the same run.

    uv run python benchmarks/run.py

Renders a project from the working tree, and prints a Markdown table: the median of each command, and how many times its
floor that is. The floor of a start-up is a Hydra application that does nothing.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import copier

ROOT = Path(__file__).parents[1]
BARE = """
import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    pass


main()
"""
SNAPSHOT = """
import time
from pathlib import Path
import expkit.snapshot
folder = Path("{folder}")
expkit.snapshot.take(folder)
for action in (lambda: expkit.snapshot.take(folder), lambda: expkit.snapshot.git(folder, "status", "--porcelain")):
    times = []
    for _ in range(20):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    print(sorted(times)[10])
"""


def median_seconds(command: list[str], cwd: Path, environment: dict[str, str], runs: int = 7) -> float:
    """The median wall time of a command, after one run that is not counted."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment.pop("VIRTUAL_ENV", None)
    rows: list[tuple[str, float, str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "project")
        copier.run_copy(str(ROOT), project, defaults=True, quiet=True, vcs_ref="HEAD")
        subprocess.run(["uv", "sync", "-q"], cwd=project, env=environment, check=True)
        environment |= {"WANDB_MODE": "disabled", "PATH": f"{project}/.venv/bin:{environment['PATH']}"}
        bare = Path(scratch, "bare.py")
        bare.write_text(BARE)
        train = ["python", "experiments/001-baseline/train.py"]

        floor = median_seconds(["python", str(bare)], Path(scratch), environment)
        rows.append(
            (
                "`train.py show_config=true`",
                median_seconds([*train, "show_config=true"], project, environment),
                "bare Hydra",
                floor,
            )
        )
        rows.append(("`train.py` when all is done", median_seconds(train, project, environment), "bare Hydra", floor))

        run = next((project / "output/001-baseline").glob("[!.]*"))
        for count in (1_000, 10_000):
            for number in range(len(list(run.parent.glob("[!.]*"))), count):
                shutil.copytree(
                    run, run.with_name(f"run{number:05d}"), ignore=shutil.ignore_patterns("*.joblib", "*.csv")
                )
            seconds = median_seconds(["exp", "board"], project, environment, runs=3)
            rows.append((f"`exp board`, {count:,} runs", seconds, "bare Hydra", floor))

        for number in range(2, 101):
            shutil.copytree(project / "experiments/001-baseline", project / f"experiments/{number:03d}-copy")
        for folder in (project / "experiments").iterdir():
            for number in range(3, 11):
                (folder / f"exp/{number:03d}.yaml").write_text(f"name: set-{number}\ntrain:\n  epoch: {number}\n")
        seconds = median_seconds(["exp", "check"], project, environment, runs=3)
        rows.append(("`exp check`, 100 experiments × 10 sets", seconds, "bare Hydra", floor))

        repository = Path(scratch, "repository")
        repository.mkdir()
        for number in range(1_000):
            (repository / f"file{number}.py").write_text(f"{number}\n")
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"],
        ):
            subprocess.run(["git", *command], cwd=repository, check=True)
        printed = subprocess.run(
            ["python", "-c", SNAPSHOT.format(folder=repository)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        snapshot, status = (float(line) for line in printed.splitlines())
        rows.append(("snapshot, 1,000 files", snapshot, "`git status`", status))

    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print("| what | seconds | floor | seconds | ratio |\n| --- | --- | --- | --- | --- |")
    for what, seconds, against, base in rows:
        print(f"| {what} | {seconds:.3f} | {against} | {base:.3f} | {seconds / base:.1f} |")


if __name__ == "__main__":
    main()
