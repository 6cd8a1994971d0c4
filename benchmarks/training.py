"""What a training waits for beside its arithmetic."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import ROOT, Place, Result, in_turns

EPOCHS, BATCH = 85, 2  # of the larger model of the baseline: a minute for 5 folds, 7 epochs a second
LARGE = ["exp.train.hidden=256", f"exp.train.epochs={EPOCHS}", f"exp.train.batch_size={BATCH}"]
SWEEP = 200  # jobs


def harness(place: Place) -> Iterator[Result]:
    """Five folds of a training of a minute, over the same in a bare loop."""
    script = ROOT / "benchmarks/inside/bare_training.py"
    experiment, out = place.project / "experiments/001-baseline", place.folder / "bare-training"
    settings = ["exp.fold=[0,1,2,3,4]", *LARGE]
    numbers = itertools.count()

    def ours(mode: str) -> Callable[[], None]:
        return lambda: place.calling(*place.train, *settings, f"exp.name=harness{next(numbers)}", WANDB_MODE=mode)()

    def bare(mode: str) -> Callable[[], None]:
        return place.calling(place.python, script, experiment, out, str(EPOCHS), str(BATCH), mode)

    calls = (ours("disabled"), ours("offline"), bare("disabled"), bare("offline"))
    off, offline, floor, logged = in_turns(calls, 2)
    yield Result("harness", "5 folds without W&B, over a bare loop", off, floor, "≤1.03")
    yield Result("harness", "5 folds with W&B offline, over a bare loop", offline, floor, "≤1.03")
    yield Result("harness", "the same, over a bare loop that logs to W&B", offline, logged, "≤1.02")


def tracking(place: Place) -> Iterator[Result]:
    """What a log adds to a step."""
    found = place.script("tracking", OMP_NUM_THREADS="1")
    what = "what `fold.log` adds to a step of a millisecond, W&B offline, over `wandb.log`"
    yield Result("tracking", what, *found["arithmetic"], "≤1.2")
    yield Result("tracking", "the same without the millisecond, 3,000 times", *found["nothing"])


def checkpoint(place: Place) -> Iterator[Result]:
    """100 MB."""
    ours, floor = place.script("checkpoint")
    yield Result("checkpoint", "`fold.checkpoint.save` of 100 MB, over writing it and fsync", ours, floor, "≤1.1")


def parallel_folds(place: Place) -> Iterator[Result]:
    """Four folds in one process, and in as many as there are cores."""
    numbers = itertools.count()

    def one() -> None:
        place.call(*place.train, *LARGE, "exp.fold=[0,1,2,3]", f"exp.name=one{next(numbers)}", cwd=place.folder)

    def many() -> None:
        folds = ["exp.fold=[0],[1],[2],[3]", "hydra/launcher=local"]
        place.call(*place.train, "-m", *LARGE, *folds, f"exp.name=many{next(numbers)}", cwd=place.folder)

    sequential, parallel = in_turns((one, many), 2)
    what = f"4 folds with `hydra/launcher=local` on {os.cpu_count()} cores, over one process"
    yield Result("folds", what, parallel, sequential, "≥1.7")


def sweep(place: Place) -> Iterator[Result]:
    """A job of a sweep, over an empty job of Hydra's own launcher and the training itself."""
    few = SWEEP // 10
    training = ["exp.debug=true"]

    def a_job(*command: str | Path) -> float:
        """Between many jobs and few: without start-up and imports."""
        times = []
        for count in (few, SWEEP):
            start = time.perf_counter()
            place.call(*command, f"exp.seed=range({count})", cwd=place.folder)
            times.append(time.perf_counter() - start)
        return (times[1] - times[0]) / (SWEEP - few)

    experiment = place.project / "experiments/001-baseline"
    script = ROOT / "benchmarks/inside/debug_trainings.py"

    def itself() -> float:
        printed = place.call(place.python, script, experiment, str(SWEEP), cwd=place.folder)
        return float(printed.splitlines()[-1]) / SWEEP

    calls = (
        lambda: a_job(*place.train, "-m", *training),
        lambda: a_job(*place.bare[:2], "-m", *place.bare[2:], "hydra.sweep.dir=.", "hydra.sweep.subdir=."),
        itself,
    )
    ours, empty, trained = in_turns(calls, 2)
    note = f"an empty job {empty * 1e3:.0f} ms, its training {trained * 1e3:.0f} ms"
    yield Result(
        "sweep", f"a job of {SWEEP}, over an empty job and its training", ours, empty + trained, "≤1.1", note=note
    )
