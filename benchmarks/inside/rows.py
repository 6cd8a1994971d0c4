"""A million rows: what expkit does with predictions, over NumPy's save and load, and the metric alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from common import answer, arguments, in_turns

EXPERIMENT = """
import expkit

def brier(oof):
    return ((oof["target"] - oof["prediction"]) ** 2).mean()

def train(exp, fold):
    import numpy
    random = numpy.random.default_rng((exp.seed, fold.number))
    count = {rows} // exp.n_folds
    ids = numpy.array([f"row{{number:07d}}" for number in range(fold.number * count, (fold.number + 1) * count)])
    target = numpy.arange(count) % 2
    fold.save_oof({{"id": ids, "target": target, "prediction": (target + random.random(count)) / 2}})

experiment = expkit.Experiment(train, expkit.ExpConfig, metric=brier, greater_is_better=False, own_split=True)
"""
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: rows\n  n_folds: 5\n"


def main() -> None:
    args = arguments("--rows")
    rows = int(args.rows or 1_000_000)
    scratch = Path(tempfile.mkdtemp(dir="output"))
    os.environ["PROJECT_ROOT"] = str(scratch.resolve())
    import numpy

    import expkit
    from expkit import project, scores, store, tables
    from expkit.config import load_experiment
    from expkit.ensemble import blend
    from expkit.scores import checked
    from expkit.store import Versions

    folder = project.code_root() / "experiments/090-rows"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "train.py").write_text(EXPERIMENT.format(rows=rows))
    for seed in (1, 2):
        expkit.run("090-rows", overrides=[f"exp.seed={seed}"])
    loaded = load_experiment("090-rows")
    runs = [store.read_run(one) for one in store.run_folders(project.output_dir())]
    table = tables.load(runs[0].folder / "fold0/oof.npz")
    many = {name: numpy.concatenate([column] * 5) for name, column in table.items()}
    many["id"] = numpy.array([f"row{number:07d}" for number in range(len(many["target"]))])
    mine, theirs = scratch / "mine.npz", scratch / "theirs.npz"

    def metric(columns: Any) -> float:
        return float(((columns["target"] - columns["prediction"]) ** 2).mean())

    def save() -> None:
        tables.save(mine, checked(many, "")[0])

    def plain_load(run: store.Run) -> list[dict[str, Any]]:
        parts = []
        for number in run.done:
            with numpy.load(run.folder / f"fold{number}/oof.npz") as stream:
                parts.append({name: stream[name] for name in stream.files})
        return parts

    def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}

    def score() -> None:
        store.forget_cv(runs[0].folder)
        scores.update(loaded.experiment, Versions(runs[0].folder.parent, runs[0].name), runs[0].folder)

    def plain_score() -> None:
        parts = plain_load(runs[0])
        for part in parts:
            metric(part)
        metric(together(parts))

    names = iter(range(1000))

    def plain_blend() -> None:
        one, other = (together(plain_load(run)) for run in runs)
        mean = {"id": one["id"], "target": one["target"], "prediction": (one["prediction"] + other["prediction"]) / 2}
        metric(mean)
        numpy.savez(theirs, **mean)

    calls = {
        "save": (save, lambda: numpy.savez(theirs, **many)),
        "read": (lambda: expkit.load_run(runs[0].folder).oof, lambda: together(plain_load(runs[0]))),
        "score": (score, plain_score),
        "blend of two": (lambda: blend(runs, "mean", f"b{next(names)}"), plain_blend),
    }
    answer({name: in_turns(pair, args.repeat) for name, pair in calls.items()})


main()
