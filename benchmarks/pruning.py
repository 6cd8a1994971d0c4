"""What a pruner saves, and what it costs: studies of 40 trials over 5 folds with and without one, over 5 seeds.

    uv run python benchmarks/pruning.py             # some minutes

Two searches on the digits of scikit-learn: a support vector machine (C, gamma), which reports its folds, and a network
(learning rate, batch size, width) of 20 epochs, which reports its epochs, too. Study, pruner and reports are
expkit's own; launcher and files are left out. "Trained" is the share of the training (folds, or epochs) of a study that
was not pruned; "score" is that of the best complete trial, as the mean over its folds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
import numpy  # noqa: E402
import optuna  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import StratifiedKFold  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

from expkit.fold import Pruned, Shared  # noqa: E402
from expkit.study import RunningTrial, Space, Trials, opened  # noqa: E402
from hydra_plugins.expkit_sweeper import PRUNERS, SAMPLERS  # noqa: E402

FOLDS, EPOCHS = 5, 20
X, Y = load_digits(return_X_y=True)
X = X / 16
SPLITS = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(X, Y))
Fit = Callable[[dict[str, Any], Any, Any], Iterator[float]]


def svm(values: dict[str, Any], fit: Any, left_out: Any) -> Iterator[float]:
    """The accuracy of a fold."""
    model = SVC(C=values["C"], gamma=values["gamma"]).fit(X[fit], Y[fit])
    yield float(model.score(X[left_out], Y[left_out]))


def network(values: dict[str, Any], fit: Any, left_out: Any) -> Iterator[float]:
    """The accuracy after each epoch of a fold."""
    model = MLPClassifier(
        values["width"], learning_rate_init=values["rate"], batch_size=values["batch"], random_state=0
    )
    random = numpy.random.default_rng(0)
    for _ in range(EPOCHS):
        rows = random.permutation(fit)
        model.partial_fit(X[rows], Y[rows], classes=numpy.arange(10))
        yield float(model.score(X[left_out], Y[left_out]))


SEARCHES: dict[str, tuple[Fit, list[str], int]] = {
    "SVM, by fold": (svm, ["C=tag(log,interval(1e-3,1e3))", "gamma=tag(log,interval(1e-4,1e1))"], 1),
    "network, by epoch": (
        network,
        ["rate=tag(log,interval(1e-5,1e0))", "batch=choice(16,64,256)", "width=choice(8,32,128)"],
        EPOCHS,
    ),
}


def run(train: Fit, parts: int, values: dict[str, Any], reports: Shared) -> tuple[float | None, int]:
    """One trial: its score, None when it is pruned, and how many parts of folds were trained."""
    scores: list[float] = []
    trained = 0
    for fit, left_out in SPLITS:
        if reports.after_folds(scores):
            return None, trained
        try:
            for part, score in enumerate(train(values, fit, left_out), 1):
                trained += 1
                if parts > 1:
                    reports.during_fold(score, part / parts)
        except Pruned:
            return None, trained
        scores.append(score)
    reports.after_folds(scores)
    return statistics.fmean(scores), trained


def study(folder: Path, search: str, pruner: dict[str, Any], seed: int, n_trials: int) -> tuple[float, float, int]:
    """The share that was trained, the best score, and how many trials were pruned."""
    train, overrides, parts = SEARCHES[search]
    space, file = Space(overrides), str(folder / "study.log")
    early, sampler = instantiate(pruner), instantiate(SAMPLERS["tpe"] | {"seed": seed})
    found = optuna.create_study(
        study_name="s", storage=opened(file), sampler=sampler, pruner=early, direction="maximize"
    )
    trained, trials = 0, Trials(found, file)
    with trials.alive:
        while asked := trials.ask(space.searched, n_trials, 1):
            running = RunningTrial(file, "s", early, asked[0].number)
            score, count = run(train, parts, asked[0].params, Shared(None, running, FOLDS))
            trained += count
            trials.tell(asked[0], {"score": score, "code": None})
    pruned = sum(trial.state is optuna.trial.TrialState.PRUNED for trial in found.trials)
    return trained / (n_trials * FOLDS * parts), float(found.best_value), pruned


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    pruners = {"none": PRUNERS["none"], "median": PRUNERS["median"], "hyperband": PRUNERS["hyperband"]}
    by_epoch = PRUNERS["hyperband"] | {"min_resource": 1}
    print("search             pruner                     trained  pruned  score (mean of seeds, lowest to highest)")
    for search, (_, _, parts) in SEARCHES.items():
        for name, pruner in (pruners | ({"hyperband min_resource=1": by_epoch} if parts > 1 else {})).items():
            found = []
            for seed in range(args.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    os.environ["PROJECT_ROOT"] = folder
                    found.append(study(Path(folder), search, pruner, seed, args.trials))
            trained, scores, pruned = zip(*found, strict=True)
            about = f"{statistics.fmean(scores):.4f}, {min(scores):.4f} to {max(scores):.4f}"
            share, ended = statistics.fmean(trained), statistics.fmean(pruned)
            print(f"{search:18} {name:26} {share:7.0%}  {ended:6.1f}  {about}", flush=True)


if __name__ == "__main__":
    main()
