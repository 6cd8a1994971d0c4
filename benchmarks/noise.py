"""Whether `exp diff` is right about "better, or noise?": false alarms and power where the truth is known, and its time.

    uv run python benchmarks/noise.py

Draws small data sets anew, trains two configurations on the same folds of each, and counts how often each way of
comparing them calls a difference real. The configurations are one model on two sets of 10 columns, 5 of them in both;
all columns are equally good, so that the expected scores are equal. "Power": the second set has a better column.
Then times the bootstrap over 1,000,000 rows. Takes some minutes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "template" / "src"))

import numpy  # noqa: E402

from expkit.inspect.board import Row  # noqa: E402
from expkit.inspect.bootstrap import Bootstrap  # noqa: E402
from expkit.inspect.noise import NOISE, corrected_t, t_quantile, together  # noqa: E402
from expkit.inspect.paired import over_folds, within_noise  # noqa: E402

Model = Callable[..., Any]
OLD, NEW = slice(0, 10), slice(5, 15)
# The distance of the classes in a column, and what a better one has more, in standard deviations.
SIGNAL, MORE = 0.25, 0.75
ROWS = 300


def ridge(X: Any, y: Any, X_new: Any, random: Any) -> Any:
    """Least squares with a small penalty, as a classifier; it does not depend on chance."""
    X, X_new = (numpy.column_stack([part, numpy.ones(len(part))]) for part in (X, X_new))
    return X_new @ numpy.linalg.solve(X.T @ X + numpy.eye(X.shape[1]), X.T @ (2.0 * y - 1)) > 0


def neighbours(X: Any, y: Any, X_new: Any, random: Any) -> Any:
    """The majority of the 5 nearest rows."""
    distance = ((X_new[:, None] - X[None]) ** 2).sum(axis=2)
    return y[numpy.argpartition(distance, 5, axis=1)[:, :5]].mean(axis=1) > 0.5


def features(X: Any, y: Any, X_new: Any, random: Any) -> Any:
    """`ridge` on 20 features that are drawn by chance: another seed is another model."""
    weights = random.normal(size=(X.shape[1], 20))
    return ridge(numpy.tanh(X @ weights / 2), y, numpy.tanh(X_new @ weights / 2), random)


def accuracy(oof: Any) -> Any:
    return (oof["prediction"] == oof["target"]).mean()


def drawn(random: Any, more: float, columns: int = 15) -> tuple[Any, Any]:
    """A data set; `more` makes the last column better."""
    y = random.integers(2, size=ROWS)
    strength = numpy.full(columns, SIGNAL)
    strength[-1] += more
    return random.normal(size=(ROWS, columns)) + (2 * y - 1)[:, None] * strength, y.astype(bool)


def cv(model: Model, X: Any, y: Any, fold: Any, random: Any) -> tuple[Row, Any]:
    """A run as the board has it, and its out-of-fold predictions, (n,)."""
    predicted, n_folds = numpy.empty(len(y), bool), int(fold.max()) + 1
    for number in range(n_folds):
        out = fold == number
        predicted[out] = model(X[~out], y[~out], X[out], random)
    scores = {number: float((predicted == y)[fold == number].mean()) for number in range(n_folds)}
    left_out = {number: str(numpy.flatnonzero(fold == number)) for number in scores}
    about = {"n_folds": n_folds, "left_out": left_out, "fold_scores": scores, "ratio": 1 / (n_folds - 1)}
    return Row("", "", Path(), metric="accuracy", **about), predicted


def alarms(model: Model, n_folds: int, seeds: int, are_other: bool, more: float, repetitions: int) -> dict[str, float]:
    """How often each way calls a difference real, of 1; `are_other`: each seed has other folds."""
    counted: dict[str, int] = {}
    for repetition in range(repetitions):
        random = numpy.random.default_rng([repetition, n_folds, seeds])
        X, y = drawn(random, more)
        splits = [random.permutation(ROWS) % n_folds for _ in range(seeds)]
        folds_of = splits if are_other else splits[:1] * seeds
        sides = [[cv(model, X[:, columns], y, fold, random) for fold in folds_of] for columns in (OLD, NEW)]
        pairs = list(zip(*sides, strict=True))
        rows = [(old, new) for (old, _), (new, _) in pairs]
        every = numpy.array([[new.fold_scores[k] - old.fold_scores[k] for k in old.fold_scores] for old, new in rows])
        tables = [tuple({"id": y, "target": y, "prediction": each} for _, each in pair) for pair in pairs]
        folds, (over_rows, _) = over_folds(rows), Bootstrap("accuracy", accuracy, tables, 1).interval(is_asked=True)
        found = {
            "plain t": abs(every.mean()) > t_quantile(every.size - 1) * every.std(ddof=1) / math.sqrt(every.size),
            "corrected, seeds counted each": corrected_t(every.ravel().tolist(), 1 / (n_folds - 1)).verdict != NOISE,
            "corrected": folds.verdict != NOISE,
            "bootstrap": over_rows.verdict != NOISE,
            "both (`exp diff`)": together([folds, over_rows]) != NOISE,
        }
        counted = {way: counted.get(way, 0) + int(is_so) for way, is_so in found.items()}
    return {way: count / repetitions for way, count in counted.items()}


def outside(configurations: int, repetitions: int) -> float:
    """Of many configurations that are equally good, the share that does not count as within noise of the best."""
    found = []
    for repetition in range(repetitions):
        random = numpy.random.default_rng([repetition, configurations])
        X, y = drawn(random, 0, 5 + 5 * configurations)
        fold = random.permutation(ROWS) % 5
        own = [[*range(5), *range(5 + 5 * each, 10 + 5 * each)] for each in range(configurations)]
        runs = [cv(ridge, X[:, columns], y, fold, random)[0] for columns in own]
        best = max(runs, key=lambda row: sum(row.fold_scores.values()))
        found += [within_noise(best, row) is False for row in runs if row is not best]
    return float(numpy.mean(found))


# Time


def rmse(oof: Any, weights: Any = None) -> Any:
    return numpy.sqrt(numpy.average((oof["prediction"] - oof["target"]) ** 2, weights=weights))


def absolute(oof: Any) -> Any:
    return numpy.abs(oof["prediction"] - oof["target"]).mean()


def median(oof: Any) -> Any:
    return numpy.median(numpy.abs(oof["prediction"] - oof["target"]))


def timed(metric: Any, rows: int) -> tuple[str, float]:
    """How the bootstrap of a metric was made, and its seconds."""
    random = numpy.random.default_rng(0)
    target = random.normal(size=rows)
    tables = [
        {"id": numpy.arange(rows), "target": target, "prediction": target + random.normal(size=rows)} for _ in "ab"
    ]
    start = time.perf_counter()
    _, how = Bootstrap(metric.__name__, metric, [(tables[0], tables[1])], -1).interval(is_asked=True)
    return how, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    header = False
    for model, n_folds, seeds, are_other, more in (
        (ridge, 5, 1, False, 0.0),
        (ridge, 10, 1, False, 0.0),
        (ridge, 5, 3, False, 0.0),
        (ridge, 5, 3, True, 0.0),
        (neighbours, 5, 1, False, 0.0),
        (neighbours, 10, 1, False, 0.0),
        (features, 5, 1, False, 0.0),
        (features, 5, 3, False, 0.0),
        (ridge, 5, 1, False, MORE),
        (ridge, 10, 1, False, MORE),
        (ridge, 5, 3, True, MORE),
    ):
        found = alarms(model, n_folds, seeds, are_other, more, asked.repetitions)
        if not header:
            print(f"{asked.repetitions} repetitions of {ROWS} rows, at 95 %: called better or worse\n")
            print(f"| model | folds | seeds | truth | {' | '.join(found)} |\n|{' --- |' * (4 + len(found))}")
            header = True
        truth = "better" if more else "equal"
        shares = " | ".join(f"{100 * share:.1f} %" for share in found.values())
        print(
            f"| {model.__name__} | {n_folds} | {seeds}{', other folds' if are_other else ''} | {truth} | {shares} |",
            flush=True,
        )
    print("\n| equal configurations | not within noise of the best |\n| --- | --- |")
    for configurations in (2, 10, 50):
        print(f"| {configurations} | {100 * outside(configurations, asked.repetitions // 4):.1f} % |", flush=True)
    print(f"\n| metric, {asked.rows:,} rows x 1,000 resamples | by | seconds |\n| --- | --- | --- |")
    for metric in (absolute, rmse, median):
        how, seconds = timed(metric, asked.rows)
        print(f"| {metric.__name__} | {how} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
