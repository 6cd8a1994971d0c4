"""What a sweep costs beside its training, and what parallel folds gain. Ratios of measurements of one run.

    uv run python benchmarks/sweep.py               # a few minutes, on a machine that does nothing else
    uv run python benchmarks/sweep.py --jobs 50     # a shorter look

1. A sweep of debug-sized jobs of the baseline, a job, over: an empty job of Hydra's own launcher, plus the training
   itself (the same folds in a loop in one process, without Hydra or expkit). Goal: at most 1.3.
2. The launching process: its largest size with all the jobs over that with a tenth of them.
3. Folds of a longer training: one process over hydra/launcher=local. Goal: at least 1.7 on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def call(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    names = ("WANDB_", "PROJECT_ROOT", "VIRTUAL_ENV", "PYTHONPATH")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(names)} | variables
    return subprocess.run([*map(str, command)], cwd=cwd, env=environment, check=True, capture_output=True, text=True)


def render(folder: Path, framework: str = "sklearn") -> Path:
    """A project of the working tree, as a git repository."""
    template, project = folder / "template", folder / "project"
    for name in call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines():
        if (ROOT / name).is_file():
            (template / name).parent.mkdir(parents=True, exist_ok=True)
            (template / name).write_bytes((ROOT / name).read_bytes())
    answers = ["--defaults", "--data", f"framework={framework}"]
    call(sys.executable, "-m", "copier", "copy", "-q", *answers, template, project, cwd=folder)
    git = ["git", "-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com"]
    call(*git, "init", "-q", cwd=project)
    call(*git, "add", "-A", cwd=project)
    call(*git, "commit", "-q", "-m", "benchmark", cwd=project)
    return project


def measured(*command: str | Path, cwd: Path) -> tuple[float, float]:
    """Seconds of a command, and the largest size of its process, without children, in MiB."""
    with subprocess.Popen(
        [*map(str, command)], cwd=cwd, stdout=subprocess.DEVNULL, env=os.environ | {"WANDB_MODE": "disabled"}
    ) as process:
        begin, size = time.perf_counter(), 0.0
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                size = max(size, *(int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line), 0)
            except OSError:
                pass
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(f"{command} exits {process.returncode}")
        return time.perf_counter() - begin, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="jobs of a sweep (default: 200)")
    parser.add_argument("--epochs", type=int, default=1500, help="epochs of the longer training (default: 1500)")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure a ratio (default: 3)")
    options = parser.parse_args()
    jobs, few = options.jobs, max(1, options.jobs // 10)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        project = render(Path(scratch))
        call("uv", "sync", "-q", "--all-extras", cwd=project)
        python = project / ".venv/bin/python"
        train = project / "experiments/001-baseline/train.py"
        bare = Path(scratch, "bare")
        shutil.copytree(train.parent, bare, ignore=shutil.ignore_patterns("*.py"))
        shutil.copy(ROOT / "benchmarks/bare.py", bare)

        training = (
            float(
                call(
                    python, ROOT / "benchmarks/inside/debug_trainings.py", train.parent, str(jobs), cwd=bare
                ).stdout.splitlines()[-1]
            )
            / jobs
        )
        print(f"training itself: {training * 1000:.0f} ms a job")
        for launcher in ("basic", "joblib"):
            ours = {"joblib": "local"}.get(launcher, launcher)

            def seconds_a_job(*command: str | Path, cwd: Path) -> tuple[float, float]:
                """Between a sweep with all the jobs and one with few: without start-up and imports."""
                short, small = measured(*command, f"exp.seed=range({few})", cwd=cwd)
                long, large = measured(*command, f"exp.seed=range({jobs})", cwd=cwd)
                return (long - short) / (jobs - few), large / small

            ratios = []
            for _ in range(options.repeat):
                floor, _ = seconds_a_job(python, "bare.py", "-m", f"hydra/launcher={launcher}", cwd=bare)
                own, growth = seconds_a_job(
                    python, train, "-m", "exp.debug=true", f"hydra/launcher={ours}", cwd=project
                )
                at_once = 1 if launcher == "basic" else min(jobs, os.cpu_count() or 1)
                ratios.append(own / (floor + training / at_once))
            print(
                f"hydra/launcher={ours}, {jobs} jobs: {own * 1000:.0f} ms a job; "
                f"Hydra's empty job {floor * 1000:.0f} ms; "
                f"ratio {statistics.median(ratios):.2f}; launching process {growth:.2f} times that of {few} jobs"
            )

        long = [f"exp.train.epoch={options.epochs}", "exp.train.base_model=large"]
        one, _ = measured(python, train, *long, "exp.fold=[0,1,2,3]", "exp.name=one", cwd=project)
        folds = "exp.fold=[0],[1],[2],[3]"
        many, _ = measured(python, train, "-m", *long, folds, "exp.name=many", "hydra/launcher=local", cwd=project)
        print(f"four folds: one process {one:.0f} s, hydra/launcher=local {many:.0f} s: {one / many:.2f} times as fast")
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
