"""What grows: rows, files, runs, experiments."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from measure import ROOT, Place, Result, in_turns

sys.path.append(str(ROOT / "tests"))

import slurm  # noqa: E402

RUNS = (100, 1_000, 10_000, 100_000)
SHORT_RUNS, PACK = 500, 125  # of a second each; how many of them share a job of Slurm
MOST_LINKS = 50_000  # to one file; ext4 takes 65,000


SHORT = """
import dataclasses
import time

import expkit


@dataclasses.dataclass
class TrainConfig:
    number: int = 0


def one(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import model  # scikit-learn

    fold.save_oof({"id": [0], "prediction": [1.0]})
    time.sleep(1)


experiment = expkit.Experiment(train, TrainConfig, metric=one, own_split=True, inputs=[])

if __name__ == "__main__":
    expkit.main(experiment)
"""


def short_runs(place: Place) -> Iterator[Result]:
    """Runs that import scikit-learn and sleep for a second, as many at once as there are cores, on two launchers."""
    folder = place.project / "experiments/900-short"
    shutil.copytree(place.project / "experiments/001-baseline", folder, ignore=shutil.ignore_patterns("exp", ".schema"))
    (folder / "train.py").write_text(SHORT)
    (folder / "config.yaml").write_text("defaults: [schema, _self_, exp: default]\n")
    packed = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
    cores = os.cpu_count() or 1
    launchers: list[tuple[str, list[str], int, Any]] = [("local", ["hydra/launcher=local"], cores, nullcontext({}))]
    if slurm.why_not() is None:  # its one node has two cores
        launchers.append(("slurm", [*packed, f"hydra.launcher.runs_per_job={PACK}"], 2, slurm.cluster()))
    try:
        for name, words, at_once, cluster in launchers:
            with cluster as variables:
                command = [place.python, folder / "train.py", "-m", "exp.fold=[0]", f"exp.name={name}"]
                before = [time.perf_counter(), *os.times()[2:4]]
                numbers = f"exp.train.number=range({SHORT_RUNS})"
                place.call(*command, numbers, *words, cwd=place.folder, **variables)
                wall, *cpu = (
                    now - old for now, old in zip([time.perf_counter(), *os.times()[2:4]], before, strict=True)
                )
            what = f"{SHORT_RUNS} runs of a second, `hydra/launcher={name}`, {at_once} at once, over their own time"
            note = f"{sum(cpu) / SHORT_RUNS * 1e3:.0f} ms of CPU time a run" if name == "local" else ""
            yield Result("short runs", what, wall, SHORT_RUNS / at_once, "≤1.2", note=note)
    finally:
        shutil.rmtree(folder)


def million_rows(place: Place) -> Iterator[Result]:
    """Save, read, score and blend predictions."""
    found = place.script("rows")
    for name, (ours, floor) in found.items():
        target = "≤2" if name == "blend of two" else "≤1.4"
        yield Result("rows", f"a million rows: {name}, over NumPy and the metric alone", ours, floor, target)


def comparison(place: Place) -> Iterator[Result]:
    """Better, or noise? A metric that is no mean over rows, and one that is."""
    found = place.script("diff")
    for name, what in (("auc", "scikit-learn's AUC"), ("map5", "MAP@5 in Python")):
        yield Result("diff", f"two runs of 10,000 rows by {what}, over 200 calls of it", *found[name], "≤1.5")


def data_record(place: Place) -> Iterator[Result]:
    """What a fold records of input/."""
    found = place.script("data")
    yield Result("data", "1,000 files unchanged, over os.stat of each", *found["unchanged"], "≤2")
    yield Result("data", "1 GB new, over its hash alone", *found["new"], "≤1.1")


def board(place: Place) -> Iterator[Result]:
    """Runs as whole as a real one, each with a note."""
    times = dict[int, float]()
    root = place.folder / "board"
    place.call(*place.train, "exp.train.epochs=2", cwd=place.folder, PROJECT_ROOT=str(root_of(root)))
    run = root / "output/001-baseline/baseline,exp.train.epochs=2"
    notes = place.project / "notes/001-baseline.jsonl"
    notes.parent.mkdir(exist_ok=True)
    for count in RUNS:
        with open(notes, "a") as stream:
            for number in range(len(os.listdir(run.parent)), count):
                copied = run.with_name(f"run{number:06d}")
                if number % MOST_LINKS == 0:
                    run = shutil.copytree(run, copied)
                else:
                    shutil.copytree(run, copied, copy_function=os.link)
                line = {
                    "run": copied.name,
                    "time": "2026-01-01T00:00:00.000+00:00",
                    "text": "a note",
                    "verdict": "kept",
                }
                stream.write(json.dumps(line) + "\n")
        exp = place.calling(place.python.with_name("exp"), "board", cwd=place.project, PROJECT_ROOT=str(root))
        read = place.calling(place.python, ROOT / "benchmarks/inside/read_runs.py", root / "output", str(notes))
        table = place.calling(place.python, "-c", "import rich.table")
        times[count], floor, drawn = in_turns((exp, read, table), place.repeat if count <= 1_000 else 3)
        what, note = f"`exp board`, {count:,} runs, over", f"{times[count] / count * 1e6:.0f} µs a run"
        if count == RUNS[0]:
            yield Result("board", f"{what} `import rich.table`", times[count], drawn, "≤2", note=note)
        target = "≤2" if count == 10_000 else ""  # of 1,000, the row peers has one
        yield Result("board", f"{what} reading their files", times[count], floor, target, note=note)
    few, most = RUNS[-2:]
    yield Result("board", f"`exp board`, {most:,} runs, over ten times {few:,}", times[most], 10 * times[few], "≤1.1")
    notes.unlink()


def root_of(folder: Path) -> Path:
    """A folder for PROJECT_ROOT."""
    (folder / "input").mkdir(parents=True)
    return folder


def check(place: Place) -> Iterator[Result]:
    """100 experiments of 10 parameter sets."""
    project, made = place.project, []
    for number in range(101, 201):
        folder = project / f"experiments/{number}-copy"
        shutil.copytree(project / "experiments/001-baseline", folder)
        made.append(folder)
        for name in range(3, 11):
            (folder / f"exp/{name:03d}.yaml").write_text(f"name: set-{name}\ntrain:\n  epochs: {name}\n")
    try:
        ours = place.calling(place.python.with_name("exp"), "check", cwd=project)
        script = ROOT / "benchmarks/inside/compose.py"
        bare = place.calling(place.python, script, ROOT / "benchmarks/bare.py", project / "experiments")
        one, other = in_turns((ours, bare), 3)
    finally:
        for folder in made:
            shutil.rmtree(folder)
    yield Result("check", "`exp check`, 100 experiments of 10 sets, over composing them", one, other, "≤1.5")


def snapshot(place: Place) -> Iterator[Result]:
    """A working tree that has not changed."""
    for count in (1_000, 20_000):
        folder = place.folder / f"tree{count}"
        for number in range(count):
            file = folder / f"{number % 100:02d}/file{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{number}\n")
        place.commit(folder)
        ours, floor = place.script("snapshot", "--folder", folder)
        yield Result("snapshot", f"{count:,} files, over `git add -A` into a copy of the index", ours, floor, "≤1.5")
