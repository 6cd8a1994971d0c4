"""What the template costs, as ratios against a floor measured in the same run.

    uv run python benchmarks/run.py

Renders a project from the working tree, and prints a Markdown table: the median of each command, and how many times its
floor that is. The floor of a start-up is bare.py: a Hydra application with the same YAML files and dataclasses.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import copier

ROOT = Path(__file__).parents[1]
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


Command = tuple[list[str], Path]
QUIET = ["hydra.output_subdir=null", "hydra.run.dir=.", "hydra/job_logging=none"]  # as expkit sets it


def seconds(command: Command, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command[0], cwd=command[1], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def medians(one: Command, other: Command, environment: dict[str, str], runs: int = 15) -> tuple[float, float]:
    """The median wall times of two commands, run in turns, after one run that is not counted."""
    times = [(seconds(one, environment), seconds(other, environment)) for _ in range(runs + 1)][1:]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def median(command: list[str], folder: Path, environment: dict[str, str], runs: int = 3) -> float:
    return statistics.median([seconds((command, folder), environment) for _ in range(runs + 1)][1:])


def copied_run(run: Path, target: Path) -> None:
    """A run as whole as the original, without its space."""
    shutil.copytree(run, target, copy_function=os.link)


def note(project: Path, run: str) -> None:
    line = {
        "run": run,
        "time": "2026-01-01T00:00:00.000+00:00",
        "text": "a note",
        "verdict": "kept",
        "leaderboard": 0.8,
    }
    file = project / "notes/001-baseline.jsonl"
    file.parent.mkdir(exist_ok=True)
    with open(file, "a") as stream:
        stream.write(json.dumps(line) + "\n")


def watching(project: Path, environment: dict[str, str], wait: float = 60) -> tuple[float, float]:
    """Seconds of CPU that `exp board --watch` takes, and the seconds that it is looked at, once it stands."""
    terminal, child = pty.openpty()
    process = subprocess.Popen(["exp", "board", "--watch"], cwd=project, env=environment, stdout=child, stderr=child)
    os.close(child)
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    time.sleep(wait / 3)
    start, before = time.perf_counter(), seconds_of(process.pid)
    time.sleep(wait)
    spent, watched = seconds_of(process.pid) - before, time.perf_counter() - start
    process.kill()
    process.wait()
    return spent, watched


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 2**16):
            pass
    except OSError:  # the other end is closed
        os.close(terminal)


def seconds_of(pid: int) -> float:
    """User and system time of a process, from Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment.pop("VIRTUAL_ENV", None)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print("| what | seconds | floor | seconds | ratio |\n| --- | --- | --- | --- | --- |", flush=True)

    def row(what: str, took: float, against: str, base: float) -> None:
        print(f"| {what} | {took:.3f} | {against} | {base:.3f} | {took / base:.2f} |", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "project")
        copier.run_copy(str(ROOT), project, defaults=True, quiet=True, vcs_ref="HEAD")
        subprocess.run(["uv", "sync", "-q"], cwd=project, env=environment, check=True)
        environment |= {"WANDB_MODE": "disabled", "PATH": f"{project}/.venv/bin:{environment['PATH']}"}
        baseline, bare = project / "experiments/001-baseline", Path(scratch, "bare")
        shutil.copytree(baseline, bare, ignore=shutil.ignore_patterns("*.py"))
        shutil.copy(ROOT / "benchmarks/bare.py", bare)
        train = ["python", "experiments/001-baseline/train.py"]

        def compare(what: str, arguments: list[str]) -> float:
            """In turns, so that both see the same machine."""
            ours, floor = medians(
                ([*train, *arguments], project), (["python", "bare.py", *arguments, *QUIET], bare), environment
            )
            row(what, ours, "bare Hydra", floor)
            return floor

        compare("`train.py show_config=true`", ["show_config=true"])
        floor = compare("`train.py` when all is done", [])

        run = project / "output/001-baseline/baseline"
        for count in (1_000, 10_000):
            for number in range(len(list(run.parent.glob("[!.]*"))), count):
                copied_run(run, run.with_name(f"run{number:05d}"))
                note(project, f"run{number:05d}")
            took = median(["exp", "board"], project, environment)
            row(f"`exp board`, {count:,} runs, each with a note", took, "bare Hydra", floor)
            busy, watched = watching(project, environment)
            row(f"`exp board --watch`, {count:,} runs: seconds of a core", busy, "seconds", watched)

        for number in range(2, 21):
            shutil.copytree(baseline, project / f"experiments/{number:03d}-copy")
        for folder in (project / "experiments").iterdir():
            for number in range(3, 11):
                (folder / f"exp/{number:03d}.yaml").write_text(f"name: set-{number}\ntrain:\n  epoch: {number}\n")
        took = median(["exp", "check"], project, environment, runs=1)
        row("`exp check`, 20 experiments × 11 sets", took, "bare Hydra", floor)

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
        row("snapshot, 1,000 files", snapshot, "`git status`", status)


if __name__ == "__main__":
    main()
