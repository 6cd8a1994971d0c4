"""Whether `exp diff` is right about "better, or noise?": false alarms and power where the truth is known.

    uv run python benchmarks/noise.py
    uv run python benchmarks/noise.py --only loops    # four minutes

Draws small data sets anew, trains two configurations on the same folds of each, and counts how often each way of
comparing them calls a difference real. The configurations are one model on two sets of 10 columns, 5 of them in both;
all columns are equally good, so that the expected scores are equal. "Power": the second set has a better column.
Then the test over rows alone: how often the truth is outside of its interval, beside a bootstrap. Then `exp board
--noise`: how often a run is called worse than the best of many that are as good. Then the verdicts of one idea whose
effect is known; loops of 50 ideas, most of which are duds, by several rules of what is kept; and whether the best of
many is as lucky as the board says. Takes half an hour.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
import numpy  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers import run_of  # noqa: E402

from expkit.board import Entry  # noqa: E402
from expkit.noise import (  # noqa: E402
    BETTER,
    NOISE,
    PROMISING,
    WORSE,
    against_best,
    best_of_many,
    corrected_t,
    over_folds,
    over_rows,
    t_quantile,
    together,
)

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


def cv(model: Model, X: Any, y: Any, fold: Any, random: Any) -> tuple[Entry, Any]:
    """A run as the board has it, and its out-of-fold predictions, (n,)."""
    predicted, n_folds = numpy.empty(len(y), bool), int(fold.max()) + 1
    for number in range(n_folds):
        out = fold == number
        predicted[out] = model(X[~out], y[~out], X[out], random)
    scores = [float((predicted == y)[fold == number].mean()) for number in range(n_folds)]
    left_out = {number: str(numpy.flatnonzero(fold == number)) for number in range(n_folds)}
    return Entry((run_of("1/run", scores, valid_ids=left_out),)), predicted


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
        tables = [
            tuple({"id": numpy.arange(ROWS), "target": y, "prediction": each} for _, each in pair) for pair in pairs
        ]
        folds, by_row = over_folds(rows), over_rows(accuracy, tables, 1)
        found = {
            "plain t": abs(every.mean()) > t_quantile(every.size - 1) * every.std(ddof=1) / math.sqrt(every.size),
            "corrected, seeds counted each": corrected_t(every.ravel().tolist(), 1 / (n_folds - 1)).verdict != NOISE,
            "corrected": folds.verdict != NOISE,
            "jackknife": by_row.verdict != NOISE,
            "both (`exp diff`)": together(folds, by_row) in (BETTER, WORSE),
        }
        counted = {way: counted.get(way, 0) + int(is_so) for way, is_so in found.items()}
    return {way: count / repetitions for way, count in counted.items()}


# Many runs


def chosen(count: int, repetitions: int) -> float:
    """Of many configurations that are equally good, the share of boards that call one of them worse than the best."""
    found = 0
    for repetition in range(repetitions):
        random = numpy.random.default_rng([repetition, count])
        X, y = drawn(random, 0, 5 + 5 * count)
        fold = random.permutation(ROWS) % 5
        own = [[*range(5), *range(5 + 5 * each, 10 + 5 * each)] for each in range(count)]
        found += any(is_worse([cv(ridge, X[:, columns], y, fold, random)[0].run for columns in own]))
    return found / repetitions


def is_worse(runs: list[Any]) -> list[bool]:
    """Which runs the board calls worse than the best."""
    for number, run in enumerate(runs):
        run.title = str(number)
    return [entry.versus_best == WORSE for entry in against_best([Entry((run,)) for run in runs])]


def boards(kind: str, count: int, repetitions: int) -> tuple[float, float]:
    """Simulated scores of 5 folds: the share of boards with a false alarm, and of runs that are worse, those found.

    The deviation of a run is 1 from fold to fold. But for "seeds alone", a fifth of the variance is common to all folds
    of a run, as their models share training rows: what the correction of the t-test expects.
    """
    alarms, found = 0, 0
    for repetition in range(repetitions):
        random = numpy.random.default_rng([repetition, count])
        scores = random.normal(size=(count, 5))
        if kind != "seeds alone":
            scores = math.sqrt(0.8) * scores + math.sqrt(0.2) * random.normal(size=(count, 1))
        if "noisy" in kind:
            scores[: 1 if kind == "one is noisy" else count // 5] *= 5
        if "families" in kind:  # whose folds differ, not their means
            families = 3 * random.normal(size=(2, 5))
            scores += (families - families.mean(axis=1, keepdims=True))[random.integers(2, size=count)]
        worse = {0: 4} if "worse" in kind else {}
        if "wild" in kind:
            worse[1] = 60
            scores[1] *= 20
        for run, less in worse.items():
            scores[run] -= less
        runs = [run_of("1/run", one, metric="m") for one in (scores + 2 * random.normal(size=5)).tolist()]
        told = is_worse(runs)
        alarms += any(is_so for run, is_so in enumerate(told) if run not in worse)
        found += told[0]
    return alarms / repetitions, found / repetitions


# Rows


def rmse(y: Any, p: Any) -> Any:
    return math.sqrt(((y - p) ** 2).mean())


def median_error(y: Any, p: Any) -> Any:
    return numpy.median(abs(y - p))


def accuracy_of(y: Any, p: Any) -> Any:
    return ((p > 1) == y).mean()


def f1(y: Any, p: Any) -> Any:
    return 2 * (y * (p > 1)).sum() / (y.sum() + (p > 1).sum())


def auc(y: Any, p: Any) -> Any:
    order = numpy.argsort(p, kind="stable")
    rank = numpy.empty(len(p))
    rank[order] = numpy.arange(1, len(p) + 1)
    positive = y.sum()
    return (rank[y == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive))


def kappa(y: Any, p: Any) -> Any:
    """Quadratic weighted, of 5 grades."""
    y, p = (numpy.digitize(each, [-1.5, -0.5, 0.5, 1.5]) for each in (y, p))
    observed = numpy.bincount(5 * y + p, minlength=25).reshape(5, 5) / len(y)
    weights = (numpy.arange(5)[:, None] - numpy.arange(5)) ** 2
    return 1 - (weights * observed).sum() / (weights * numpy.outer(observed.sum(axis=1), observed.sum(axis=0))).sum()


RARE = (auc, f1, accuracy_of)  # metrics of a class that 5 % of the rows have


def rows_of(metric: Any, count: int, random: Any) -> tuple[Any, Any, Any]:
    """Targets, and the predictions of two models, some of whose error is the same."""
    y = random.normal(size=count) if metric not in RARE else (random.random(count) < 0.05).astype(int)
    common = 0.5 * random.standard_t(4, size=count)
    return y, *((1.5 if metric in RARE else 1) * y + common + width * random.normal(size=count) for width in (0.5, 0.6))


def missed(metric: Any, count: int, repetitions: int) -> tuple[float, float]:
    """How often the true difference is outside of the 95 % interval: of the jackknife, and of a bootstrap."""
    y, old, new = rows_of(metric, 4_000_000, numpy.random.default_rng(0))
    truth, outside = metric(y, new) - metric(y, old), numpy.zeros(2)
    for repetition in range(repetitions):
        random = numpy.random.default_rng([repetition, count])
        y, old, new = rows_of(metric, count, random)
        ids = numpy.arange(count)
        pair = tuple({"id": ids, "target": y, "prediction": one} for one in (old, new))
        found = over_rows(lambda oof: metric(oof["target"], oof["prediction"]), [pair], 1)
        again = (random.integers(count, size=count) for _ in range(400))
        resampled = [metric(y[rows], new[rows]) - metric(y[rows], old[rows]) for rows in again]
        low, high = numpy.nanpercentile(resampled, [2.5, 97.5])  # some have one class
        outside += [not found.low <= truth <= found.high, not low <= truth <= high]
    return tuple(outside / repetitions)


# Loops: one idea after the other


class World:
    """A data set of two classes, a normal distribution each, and its ideas, each of which exchanges 3 of 10 columns.

    A training is `ridge` on a random 70 % of its rows, so that it has luck of its own. Its accuracy on new rows is
    known exactly. An idea is what its first column has more than those that it replaces; 0.0 is a dud.
    """

    def __init__(self, random: Any, ideas: list[float], rows: int = 1000) -> None:
        self.ideas, self.random, self.known = ideas, random, dict[Any, Any]()
        self.strength = numpy.full(10 + 3 * len(ideas), SIGNAL)
        self.strength[10::3] += ideas
        self.y = random.integers(2, size=rows)
        self.X = random.normal(size=(rows, len(self.strength))) + (2 * self.y - 1)[:, None] * self.strength
        self.folds = [random.permutation(rows) % 5 for _ in range(4)]

    def with_idea(self, columns: list[int], idea: int) -> list[int]:
        """The columns with those of an idea, in place of three that are no better than others."""
        plain = [column for column in columns if self.strength[column] <= SIGNAL]
        out = self.random.permutation(plain)[:3].tolist()
        return sorted({*columns} - {*out} | {10 + 3 * idea + more for more in range(3)})

    def run(self, columns: list[int], seed: int = 0, folds: int = 0) -> tuple[Entry, Any, float]:
        """A run, its out-of-fold predictions, and the accuracy of its models on new rows."""
        if (found := self.known.get((*columns, seed, folds))) is None:
            random, fold, true = numpy.random.default_rng([seed, *columns]), self.folds[folds], []
            X, predicted = (
                numpy.column_stack([self.X[:, columns], numpy.ones(len(self.y))]),
                numpy.empty(len(self.y), bool),
            )
            for number in range(5):
                rows = numpy.flatnonzero((fold != number) & (random.random(len(fold)) < 0.7))
                weights = numpy.linalg.solve(X[rows].T @ X[rows] + numpy.eye(11), X[rows].T @ (2.0 * self.y[rows] - 1))
                predicted[fold == number] = X[fold == number] @ weights > 0
                means = weights[-1] + numpy.array([1, -1]) * (weights[:-1] @ self.strength[columns])
                deviation = math.sqrt(2) * numpy.linalg.norm(weights[:-1])
                true.append(0.5 + 0.25 * (math.erf(means[0] / deviation) - math.erf(means[1] / deviation)))
            scores = [float((predicted == self.y)[fold == number].mean()) for number in range(5)]
            left_out = {number: f"{folds} {number}" for number in range(5)}
            run = run_of(f"1/{len(self.known)}", scores, valid_ids=left_out)
            found = self.known[(*columns, seed, folds)] = Entry((run,)), predicted, statistics.fmean(true)
        return found

    def verdict(self, old: list[int], new: list[int], repeats: list[tuple[int, int]]) -> str:
        """What `exp diff` says; `repeats`: the seeds of trainings and of folds."""
        pairs = [[self.run(columns, *seeds) for columns in (old, new)] for seeds in repeats]
        ids = numpy.arange(len(self.y))
        rows = [tuple({"id": ids, "target": self.y, "prediction": run[1]} for run in pair) for pair in pairs]
        return together(over_folds([(one[0], two[0]) for one, two in pairs]), over_rows(accuracy, rows, 1))


ONCE, SEEDS, FOLDS = [(0, 0)], [(seed, 0) for seed in range(4)], [(0, folds) for folds in range(4)]
RULES: dict[str, Callable[[World, list[int], list[int]], bool]] = {
    "the higher score": lambda world, old, new: world.run(new)[0].score > world.run(old)[0].score,
    "better or promising": lambda world, old, new: world.verdict(old, new, ONCE) in (BETTER, PROMISING),
    "better": lambda world, old, new: world.verdict(old, new, ONCE) == BETTER,
    "better; promising: four seeds say better": lambda world, old, new: repeated(world, old, new, SEEDS),
    "better; promising: the folds of four seeds say better": lambda world, old, new: repeated(world, old, new, FOLDS),
    "better; promising: they say so again": lambda world, old, new: repeated(world, old, new, FOLDS, PROMISING),
}


def repeated(world: World, old: list[int], new: list[int], repeats: list[tuple[int, int]], *enough: str) -> bool:
    """Whether an idea is better, or is promising and then, repeated, better, or else what is enough."""
    said = world.verdict(old, new, ONCE)
    return said == BETTER or (said == PROMISING and world.verdict(old, new, repeats) in (BETTER, *enough))


def loop(rule: str, good: int, repetition: int) -> dict[str, float]:
    """50 ideas, of which some are good, as many bad, and the others duds; each is tried on what was kept before."""
    random = numpy.random.default_rng([repetition, good])
    ideas = random.permutation([0.2] * good + [-0.2] * good + [0.0] * (50 - 2 * good)).tolist()
    world, columns, kept = World(random, ideas), [*range(10)], []
    first, tried = columns, [world.run(columns)]
    for idea, effect in enumerate(ideas):
        new = world.with_idea(columns, idea)
        tried.append(world.run(new))
        if RULES[rule](world, columns, new):
            columns = new
            kept.append(effect)
    scores, true = ([world.run(each)[part] for each in (first, columns)] for part in (0, 2))
    found = best_of_many([entry for entry, _, _ in tried])
    best = next(run for run in tried if run[0].run.title in found)
    return {
        "keep a dud": any(effect <= 0 for effect in kept),
        "duds kept": sum(effect <= 0 for effect in kept),
        "good ones kept": sum(effect > 0 for effect in kept),
        "gain in CV": scores[1].score - scores[0].score,
        "on new rows": true[1] - true[0],
        "luck of the best": best[0].score - best[2],
        "said": next(iter(found.values()))["luck"],
    }


def ideas_side_by_side(count: int, deviation: float, repetition: int) -> tuple[float, float]:
    """The luck of the best of many ideas that are tried on the same run, and what the board says."""
    random = numpy.random.default_rng([repetition, count])
    world = World(random, (deviation * random.normal(size=count)).clip(-SIGNAL).tolist())
    tried = [world.run(world.with_idea([*range(10)], idea)) for idea in range(count)]
    found = best_of_many([entry for entry, _, _ in tried])
    best = max(tried, key=lambda run: run[0].score)
    return best[0].score - best[2], sum(one["luck"] for one in found.values())


def looks(effect: float, rows: int, repetitions: int) -> float:
    """How often the first fold of an idea is called worse by its rows."""
    found = 0
    for repetition in range(repetitions):
        world = World(numpy.random.default_rng([repetition, 11]), [effect], rows)
        plain, out = [*range(10)], world.folds[0] == 0
        runs = [world.run(columns) for columns in (plain, world.with_idea(plain, 0))]
        columns = {"id": numpy.flatnonzero(out), "target": world.y[out]}
        tables = [columns | {"prediction": predicted[out]} for _, predicted, _ in runs]
        found += over_rows(accuracy, [tables], 1).high < 0
    return found / repetitions


def again(effect: float, repetitions: int) -> dict[int, dict[str, int]]:
    """What the folds of 1, 3, 6, 12 seeds say of an idea that was promising at first."""
    said = {seeds: dict.fromkeys((BETTER, PROMISING, NOISE, WORSE), 0) for seeds in (1, 3, 6, 12)}
    for repetition in range(repetitions):
        world = World(numpy.random.default_rng([repetition, 7]), [effect])
        plain, new = [*range(10)], world.with_idea([*range(10)], 0)
        world.folds += [world.random.permutation(len(world.y)) % 5 for _ in range(8)]
        if world.verdict(plain, new, ONCE) == PROMISING:
            for seeds, count in said.items():
                count[world.verdict(plain, new, [(0, folds) for folds in range(seeds)])] += 1
    return said


def loops(repetitions: int) -> None:
    words = (BETTER, PROMISING, NOISE, WORSE)
    print(f"\n| what an idea adds | repeats | {' | '.join(words)} |\n|{' --- |' * 6}")
    for effect in (0.0, 0.1, 0.2, 0.3):
        worlds = [World(numpy.random.default_rng([each, 7]), [effect]) for each in range(4 * repetitions)]
        pairs = [(world, [*range(10)], world.with_idea([*range(10)], 0)) for world in worlds]
        adds = statistics.fmean(world.run(new)[2] - world.run(old)[2] for world, old, new in pairs)
        for what, repeats in (("none", ONCE), ("four seeds", SEEDS), ("folds of four seeds", FOLDS)):
            said = [world.verdict(old, new, repeats) for world, old, new in pairs]
            shares = " | ".join(
                f"{100 * said.count(word) / len(said):.1f} %" for word in (BETTER, PROMISING, NOISE, WORSE)
            )
            print(f"| {adds:.3f} | {what} | {shares} |", flush=True)
    print(f"\n| rows | what an idea adds to its columns | worse by its rows |\n|{' --- |' * 3}")
    for rows, effect in itertools.product((100, 300, 1000), (-0.2, 0.0, 0.2)):
        print(f"| {rows} | {effect} | {100 * looks(effect, rows, 4 * repetitions):.1f} % |", flush=True)
    print("\nPromising at first, and with the folds of more seeds\n")
    for effect in (0.0, 0.1, 0.2):
        print(effect, again(effect, 9 * repetitions if effect == 0 else 3 * repetitions), flush=True)
    print(f"\nLoops of 50 ideas, {repetitions} repetitions\n")
    for good in (0, 5):
        for rule in RULES:
            found = [loop(rule, good, repetition) for repetition in range(repetitions)]
            means = {name: statistics.fmean(each[name] for each in found) for name in found[0]}
            if (good, rule) == (0, next(iter(RULES))):
                print(f"| good | kept is | {' | '.join(means)} |\n|{' --- |' * (2 + len(means))}")
            print(f"| {good} | {rule} | {' | '.join(f'{mean:.3f}' for mean in means.values())} |", flush=True)
    print("\n| tried side by side | ideas differ by | luck of the best | said |\n| --- | --- | --- | --- |")
    for count, deviation in ((10, 0.0), (50, 0.0), (200, 0.0), (50, 0.1), (50, 0.2)):
        found = [ideas_side_by_side(count, deviation, repetition) for repetition in range(repetitions)]
        luck, said = (statistics.fmean(side) for side in zip(*found, strict=True))
        print(f"| {count} | {deviation} | {luck:.4f} | {said:.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--only", choices=["loops"])
    asked = parser.parse_args()
    if asked.only:
        loops(asked.repetitions // 3)
        return
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
    print("\n| metric | rows | jackknife misses the truth | bootstrap |\n| --- | --- | --- | --- |")
    for metric in (accuracy_of, rmse, auc, f1, kappa, median_error):
        for count in (200, 1000, 5000):
            shares = " | ".join(f"{100 * share:.1f} %" for share in missed(metric, count, 2 * asked.repetitions))
            print(f"| {metric.__name__} | {count:,} | {shares} |", flush=True)
    print("\n| runs of `ridge`, equally good | boards that call one worse |\n| --- | --- |")
    for count in (2, 10, 49):
        print(f"| {count} | {100 * chosen(count, asked.repetitions):.1f} % |", flush=True)
    print("\n| simulated scores | runs | boards with a false alarm | worse runs found |\n| --- | --- | --- | --- |")
    for kind in (
        "seeds alone",
        "luck",
        "one is noisy",
        "a fifth is noisy",
        "one is worse",
        "one is worse, one is wild",
        "one is worse, two families",
    ):
        for count in (2, 10, 49, 200):
            if count > 2 or "," not in kind:
                false, found = boards(kind, count, asked.repetitions)
                power = f"{100 * found:.0f} %" if "worse" in kind else ""
                print(f"| {kind} | {count} | {100 * false:.1f} % | {power} |", flush=True)
    loops(asked.repetitions // 3)


if __name__ == "__main__":
    main()
