"""Better, or noise? What `exp diff` takes for two runs of 10,000 rows, over two calls of the metric per part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from common import answer, arguments, in_turns

EXPERIMENT = """
import expkit

def auc(oof):
    from sklearn.metrics import roc_auc_score
    return roc_auc_score(oof["target"], oof["prediction"])

def map5(oof):
    total = 0.0
    for target, ranked in zip(oof["target"].tolist(), oof["ranked"].tolist()):
        total += next((1 / place for place, one in enumerate(ranked, 1) if one == target), 0.0)
    return total / len(oof["target"])

def train(exp, fold):
    import numpy
    random = numpy.random.default_rng(fold.number)
    count = {rows} // exp.n_folds
    target = random.integers(2, size=count)
    random = numpy.random.default_rng((exp.seed, fold.number))
    table = {{"id": numpy.arange(count) + fold.number * count, "target": target}}
    ranked = random.permuted(numpy.tile(numpy.arange(5), (count, 1)), axis=1)
    fold.save_oof(table | {{"prediction": target + random.normal(size=count), "ranked": ranked}})

experiment = expkit.Experiment(train, expkit.ExpConfig, metric={metric}, greater_is_better=True, own_split=True)
"""
CONFIG = "defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: diff\n  n_folds: 5\n"
ROWS, PARTS = 10_000, 100


def main() -> None:
    args = arguments()
    scratch = Path(tempfile.mkdtemp(dir="output"))
    os.environ["PROJECT_ROOT"] = str(scratch.resolve())

    import expkit
    from expkit import project, store
    from expkit.compare import verdict
    from expkit.config import load_experiment

    found = {}
    for number, name in enumerate(("auc", "map5"), 91):
        experiment = f"{number:03d}-{name}"
        folder = project.code_root() / "experiments" / experiment
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "train.py").write_text(EXPERIMENT.format(rows=ROWS, metric=name))
        for seed in (1, 2):
            expkit.run(experiment, overrides=[f"exp.seed={seed}"])
        old, new = [store.read_run(one) for one in store.run_folders(project.output_dir()) if name in str(one)]
        metric, table = load_experiment(experiment).experiment.metrics[name], expkit.load_run(old.folder).oof

        def compare(pair: tuple[store.Run, store.Run] = (old, new)) -> None:
            assert "low" in verdict([pair])["rows"]

        def floor(metric: object = metric, table: object = table) -> None:
            for _ in range(2 * PARTS):
                metric(table)  # type: ignore[operator]

        found[name] = in_turns((compare, floor), args.repeat)
    answer(found)


main()
