"""Better, or noise? The intervals, the pairs that they are of, and what `exp diff` says."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
from experiments import own_experiment
from helpers import compared, exp, exp_json, run_of, short, tree
from light import edited
from scipy import stats
from several import files

import expkit
from expkit.board import Entry, entries, ranked, read_board
from expkit.compare import compare, format_verdict, verdict
from expkit.config import load_experiment
from expkit.noise import (
    Interval,
    Runs,
    against_best,
    best_of_many,
    corrected_t,
    luck_text,
    over_folds,
    over_rows,
    parts_of,
    ratio_of_rows,
    scatter,
    t_quantile,
    together,
)
from expkit.notes import add_note
from expkit.scores import score

Table = dict[str, numpy.ndarray]


# Over folds


def test_quantiles_of_student() -> None:
    for freedom in (1, 2, 3, 4, 5, 9, 10, 14, 49, 500):
        for confidence in (0.95, 0.999):
            assert t_quantile(freedom, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom))


def test_the_corrected_resampled_t_test() -> None:
    differences = [0.01, 0.03, -0.01, 0.02, 0.02]
    found = corrected_t(differences, 0.25)
    error = math.sqrt((1 / 5 + 1 / 4) * numpy.var(differences, ddof=1))
    low, high = stats.t.interval(0.95, 4, numpy.mean(differences), error)
    assert (found.better_by, found.low, found.high) == pytest.approx((0.014, low, high))
    assert corrected_t([0.0, 0.0], 1.0) == Interval(0.0, 0.0, 0.0), "the same run"
    with pytest.raises(expkit.Error, match="one training of each does not say .* -m exp.seed=1,2,3, .*--seeds"):
        corrected_t([0.1], 0.25)
    assert corrected_t([0.1 + 0.2, 0.3, 0.3], 0.5).verdict == "could be noise", "the same in every fold"


def test_a_pair_of_many_runs() -> None:
    """The level is that of all pairs; the variance what all runs make of it."""
    differences = [0.01, 0.03, -0.01, 0.02, 0.02]
    own = float(numpy.var(differences, ddof=1))
    for variance in (4 * own, own / 4):
        found = corrected_t(differences, 0.25, Runs(10, variance, 36.5))
        error = math.sqrt((1 / 5 + 1 / 4) * variance)
        assert (found.low, found.high) == pytest.approx(stats.t.interval(1 - 0.05 / 45, 36.5, 0.014, error))
    assert corrected_t(differences, 0.25, Runs(1)) == corrected_t(differences, 0.25), "the best alone"


def test_how_far_scores_scatter() -> None:
    """Runs that are alike share their variance; wild ones have one of their own, as have those of another family."""
    random = numpy.random.default_rng(2)
    scores = random.normal(size=(30, 5)) + 10 * random.normal(size=5) + random.normal(size=(30, 1))

    def found(scores: numpy.ndarray) -> dict[str, tuple[float, float]]:
        return scatter({str(number): one for number, one in enumerate(scores.tolist())}, "0")

    def pair(scores: numpy.ndarray, number: int) -> Any:
        return pytest.approx((scores[0] - scores[number]).var(ddof=1), rel=0.3)

    left = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    variance, alike = (left**2).sum() / (29 * 4), found(scores)
    assert alike["0"] == (pytest.approx(variance, rel=0.3), pytest.approx(30, rel=0.3)), "more than its own four"
    assert [one for one, _ in alike.values()][1:] == pytest.approx([2 * variance] * 29, rel=0.4)
    assert found(scores[:2])["1"] == (pair(scores, 1), pytest.approx(4, rel=0.05)), "as without others"
    wild = scores.copy()
    wild[1:3] *= 100
    beside = found(wild)
    assert [beside[one][0] for one in "05"] == pytest.approx([alike[one][0] for one in "05"], rel=0.1)
    assert beside["1"][0] == pair(wild, 1) and beside["1"][1] < 20 < beside["5"][1]
    family = scores.copy()
    family[10:] += 30 * random.normal(size=5)
    assert found(family)["20"][0] == pair(family, 20) and found(family)["5"][0] < found(family)["20"][0] / 50
    assert found(scores[:1]) == {} == found(scores[:, :1]) == found(numpy.repeat(scores[:1], 3, axis=0)), "not known"
    twins = found(numpy.vstack([scores[:1]] * 20 + [scores[1:4]]))
    own = numpy.var(scores[1:4] - scores[0], axis=1, ddof=1).mean()
    assert twins["1"][0] < 0.1 * variance and twins["21"][0] == pytest.approx(own, rel=0.3), "not lost among them"


@pytest.mark.parametrize(
    ("rows", "n_folds", "method", "ratio"),
    [
        ([20, 20, 20], 3, "kfold", 1 / 2),
        ([30, 20, 10], 3, "kfold", (30 / 30 + 20 / 40 + 10 / 50) / 3),
        pytest.param([30, 20], 3, "kfold", 1 / 2, id="while a fold is missing, they count as equal"),
        pytest.param([20, 20], 2, "time", (1 + 1 / 2) / 2, id="only what is earlier is trained on"),
        pytest.param([20], 1, "kfold", None, id="a hold-out"),
    ],
)
def test_rows_left_out_for_each_that_is_trained_on(
    rows: list[int], n_folds: int, method: str, ratio: float | None
) -> None:
    config = {"exp": {"split": {"method": method}}}
    run = run_of(results={fold: {"rows": each} for fold, each in enumerate(rows)}, n_folds=n_folds, config=config)
    assert ratio_of_rows(run) == (None if ratio is None else pytest.approx(ratio))


def test_better_only_when_every_interval_says_so() -> None:
    better, worse, noise = Interval(2, 1, 3), Interval(-2, -3, -1), Interval(0.5, -1, 2)
    assert [one.verdict for one in (better, worse, noise)] == ["better", "worse", "could be noise"]
    for one in (2.0, -2.0, 0.0, 0.1 + 0.2):
        assert Interval(one, one - 1e-17, one).verdict == "could be noise", "an interval without width says nothing"
    assert together(better, better) == together(better, None) == "better"
    assert together(worse, worse) == together(worse, None) == "worse"
    for folds, rows in (
        (better, noise),
        (better, worse),
        (worse, better),
        (noise, worse),
        (noise, None),
        (None, worse),
    ):
        assert together(folds, rows) == "could be noise"
    assert together(None, None) == "cannot tell"


def test_promising_when_the_rows_say_better_and_the_folds_are_too_few() -> None:
    better, leans, leans_back = Interval(2, 1, 3), Interval(0.5, -1, 2), Interval(-0.5, -2, 1)
    assert together(leans, better) == together(None, better) == "promising"
    assert together(leans_back, better) == together(leans, leans) == together(None, leans) == "could be noise"


def test_what_is_promising_is_repeated() -> None:
    """On other folds; where there is one, with other seeds alone."""
    interval = vars(Interval(2, 1, 3))
    for folds, key in (([0], "exp.seed"), ([0, 1], "exp.split.seed")):
        found = {"verdict": "promising", "folds": interval | {"folds": folds}, "rows": interval | {"rows": 9}}
        assert format_verdict(found, "a")[-1].endswith(
            f"train other seeds of both with -m {key}=1,2,3, then exp diff OLD NEW --seeds"
        )


def entry(scores: list[float], rows: str = "a", name: str = "001-one/a", **facts: Any) -> Entry:
    """A run on the board with these scores of its folds."""
    return Entry((run_of(name, scores, rows, **facts),))


def test_seeds_on_the_same_rows_count_once() -> None:
    """A model that does not depend on its seed: more seeds say nothing more. With other folds, they do."""
    old, new = [0.7, 0.8, 0.75, 0.72], [0.74, 0.81, 0.8, 0.74]
    one = over_folds([(entry(old), entry(new))])
    assert over_folds([(entry(old), entry(new)) for _ in range(3)]) == one
    other = over_folds([(entry(old, split), entry(new, split)) for split in "abc"])
    assert other.high - other.low < 0.9 * (one.high - one.low)


def test_the_larger_share_of_rows_left_out_counts() -> None:
    """Of two runs whose folds are not of one size; it gives the wider interval."""
    old, new = [0.7, 0.8, 0.75, 0.72], [0.74, 0.81, 0.8, 0.74]
    sizes = itertools.product((3, 5), (3, 5))
    of = {(a, b): over_folds([(entry(old, n_folds=a), entry(new, n_folds=b))]) for a, b in sizes}
    assert of[3, 3].high - of[3, 3].low > of[5, 5].high - of[5, 5].low
    assert of[3, 5] == of[5, 3] == of[3, 3]


def test_one_fold_and_several_seeds() -> None:
    """Each seed is a training of its own: Student's t over their differences, whatever share of rows is left out."""
    differences = [0.02, 0.03, 0.01, 0.02]
    for n_folds in (1, 5):
        pairs = [(entry([0.7], n_folds=n_folds), entry([0.7 + one], n_folds=n_folds)) for one in differences]
        found = over_folds(pairs)
        low, high = stats.t.interval(0.95, 3, 0.02, numpy.std(differences, ddof=1) / 2)
        assert (found.better_by, found.low, found.high) == pytest.approx((0.02, low, high))
        assert found.verdict == "better"
        with pytest.raises(expkit.Error, match="one training of each"):
            over_folds(pairs[:1])
    own = [(entry([0.7], split, n_folds=1), entry([0.8], split, n_folds=1)) for split in "ab"]
    with pytest.raises(expkit.Error, match="each seed leaves out other rows"):
        over_folds(own)


# The board


def said(*entries: Entry) -> list[str | None]:
    """What the board says of entries."""
    for number, one in enumerate(entries):
        one.run.title = str(number)  # type: ignore[misc]
    return [one.versus_best for one in against_best(list(entries))]


def test_which_runs_are_worse_than_the_best() -> None:
    best, near, far = [0.9, 0.91, 0.92, 0.9, 0.91], [0.9, 0.92, 0.91, 0.9, 0.9], [0.7, 0.72, 0.71, 0.7, 0.72]
    assert said(entry(best), entry(near), entry(far)) == ["best", "could be noise", "worse"]
    low, high = [entry(scores, greater_is_better=False) for scores in ([0.1, 0.12, 0.11], [0.9, 0.91, 0.92])]
    assert said(low, high) == ["best", "worse"]
    assert said(entry(best), entry(near, metric="auc"), entry(near, "b")) == ["best", "best", "not comparable"]
    assert said(entry(best), entry(near, fold_scores={1: 0.7})) == ["best", None], "one fold in common"
    assert said(entry(far, score=0.9), entry(best, score=0.8)) == ["best", "could be noise"], "its folds are better"
    assert said(entry([0.9]), entry([0.5])) == ["best", None], "one fold says nothing of how scores vary"


def test_how_many_runs_were_tried_counts() -> None:
    """Also those that a filter hides; not those of another metric or of other folds."""
    random = numpy.random.default_rng(0)
    scores = seeds_alone(random, 300)
    best = scores.mean(axis=0) + 0.02 + 0.005 * random.normal(size=5)
    other = best - 0.03 + 0.01 * random.normal(size=5)
    pair = entry(best.tolist(), name="1/best"), entry(other.tolist(), name="1/other")

    def answers(tried: list[Entry]) -> list[str | None]:
        return [one.versus_best for one in against_best(list(pair), [*pair, *tried])]

    def many(**facts: Any) -> list[Entry]:
        return [entry(one, name=f"2/{number}", **facts) for number, one in enumerate(scores.tolist())]

    assert answers([]) == ["best", "worse"]
    assert answers(many()) == ["best", "could be noise"]
    assert answers(many(metric="auc")) == answers(many(rows="others")) == ["best", "worse"]
    [one] = against_best([pair[0]], [*pair, *many()])
    assert one.versus_runs == 302


def seeds_alone(random: numpy.random.Generator, count: int) -> numpy.ndarray:
    """The scores of runs that differ only in their seed, (count, 5): folds differ, runs do not."""
    return 0.9 + 0.02 * random.normal(size=5) + 0.01 * random.normal(size=(count, 5))


def test_luck_and_what_is_worse() -> None:
    """Of 49 runs that differ only in the seed, none is called worse in 95 of 100 boards; nor where one is noisy.

    One that is worse by five standard deviations of a fold is found; a wild run beside it changes nothing.
    """
    alarms, found, boards = numpy.zeros(2), numpy.zeros(2), 40
    for repetition in range(boards):
        random = numpy.random.default_rng(repetition)
        scores = seeds_alone(random, 49)
        noisy, worse = scores.copy(), scores.copy()
        noisy[0] += 0.05 * random.normal(size=5)
        worse[0] -= 0.05
        wild = worse.copy()
        wild[1] = [0.1, 0.5, 0.9, 0.2, 0.6]
        alarms += ["worse" in said(*map(entry, each.tolist())) for each in (scores, noisy)]
        found += [said(*map(entry, each.tolist()))[0] == "worse" for each in (worse, wild)]
    assert (alarms <= 0.05 * boards).all() and (found >= 0.8 * boards).all(), (alarms, found)


def many(scores: numpy.ndarray, **facts: Any) -> list[Entry]:
    """Runs on the board with these scores, (runs, folds)."""
    return [entry(each, name=f"001-one/{number}", **facts) for number, each in enumerate(scores.tolist())]


def test_the_best_of_many_is_lucky() -> None:
    """As many as are tried, as far as the folds differ; in both directions. Runs that went wrong change nothing."""
    random, told, true = numpy.random.default_rng(0), [], []
    for _ in range(100):
        worth = 0.8 + 0.01 * random.normal(size=50)
        scores = worth[:, None] + 0.02 * random.normal(size=(50, 5)) + 0.1 * random.normal(size=5)
        [found] = best_of_many(many(scores)).values()
        best = int(found["run"].partition("/")[2])
        assert found["tried"] == 50 and best == scores.mean(axis=1).argmax()
        told.append(found["luck"])
        true.append((scores - worth[:, None]).mean(axis=1)[best] - (scores - worth[:, None]).mean())
    assert numpy.mean(told) == pytest.approx(numpy.mean(true), rel=0.1)
    [[title, lower]] = best_of_many(many(-scores, greater_is_better=False)).items()
    assert (lower["run"], lower["luck"]) == (title, pytest.approx(found["luck"]))
    assert luck_text(**lower).endswith(" more on new rows")
    wrong = numpy.vstack([scores, scores[:5] - 0.5])
    [beside] = best_of_many(many(wrong)).values()
    assert (beside["run"], beside["tried"]) == (found["run"], 55)
    assert beside["luck"] == pytest.approx(found["luck"], rel=0.3)


def families() -> numpy.ndarray:
    """Errors of three families of models, 12, 36 and 17 runs of 5 folds: their folds differ, their runs less so."""
    random, sizes = numpy.random.default_rng(1), (12, 36, 17)
    folds = 0.1 * random.normal(size=5) + 0.03 * random.normal(size=(3, 5))
    levels = numpy.concatenate([1.83 + 0.01 * random.random(12), numpy.linspace(2, 2.2, 36), [2.0] * 17])
    return levels[:, None] + numpy.repeat(folds, sizes, axis=0) + 0.012 * random.normal(size=(65, 5))


NONSENSE = numpy.array([[10.0, 11, 9.2, 14, 10.5]])


@pytest.mark.parametrize(
    ("few", "more"),
    [
        pytest.param(families()[:48], NONSENSE, id="one that is nonsense"),
        pytest.param(families()[:48], NONSENSE**9, id="one that has diverged"),
        pytest.param(families()[:48], families()[48:], id="17 that went wrong"),
        pytest.param(families()[:12], families()[48:], id="17 that went wrong, beside one family"),
        pytest.param(families()[:12], families()[12:48], id="another family"),
    ],
)
def test_runs_that_went_wrong_change_nothing(few: numpy.ndarray, more: numpy.ndarray) -> None:
    """Neither what is said of others, nor the luck of the best by more than a little."""
    whole = [many(one, greater_is_better=False) for one in (few, numpy.vstack([few, more]))]
    before, after = ([one.versus_best for one in against_best(board)] for board in whole)
    assert after[: len(few)] == before and before.count("worse") == len(few) - 12
    assert len(more) == 1 or set(after[len(few) :]) == {"worse"}
    [one], [two] = (best_of_many(board).values() for board in whole)
    assert two["luck"] == pytest.approx(one["luck"], rel=0.15) and 0.001 < one["luck"] < 0.015


def test_identical_predictions_count_once() -> None:
    """Runs that have the same out-of-fold rows as another, be it the best."""
    scores, board = families()[:12], []
    order = scores.mean(axis=1).argsort()
    for number, each in enumerate([*scores, *scores[order[:1]], *scores[order[3:6]]]):
        hashes = [{"rows": 9, "files": {"oof.npz": (0, 0, str(one))}} for one in each]
        board += many(each[None], greater_is_better=False, results=dict(enumerate(hashes)))
        board[-1].run.title = f"1/{number}"  # type: ignore[misc]
    assert best_of_many(board) == best_of_many(board[:12]) != {}
    said = [(one.versus_best, one.versus_runs) for one in against_best(board)]
    assert said[:12] == [(one.versus_best, one.versus_runs) for one in against_best(board[:12])]
    assert said[12:] == [("identical", 12)] + [("could be noise", 12)] * 3


def test_when_nothing_is_said_of_luck() -> None:
    """Of few runs, of one fold, of equal ones; those of other folds or rows are not counted."""
    scores = numpy.random.default_rng(0).normal(size=(12, 5))
    assert best_of_many(many(scores[:9])) == best_of_many(many(scores[:, :1])) == {}
    assert best_of_many(many(numpy.repeat(scores[:1], 12, axis=0))) == {}
    assert [one["tried"] for one in best_of_many([*many(scores), *many(scores - 9, rows="b")]).values()] == [12]


# Over rows


def accuracy(oof: Table) -> Any:
    return (oof["prediction"] == oof["target"]).mean()


def rmse(oof: Table) -> Any:
    return numpy.sqrt(((oof["prediction"] - oof["target"]) ** 2).mean())


def numbers(rows: int, *noises: float) -> list[Table]:
    """Predictions of the same rows; a part of their error is in all."""
    random = numpy.random.default_rng(0)
    target, common = random.normal(size=(2, rows))
    ids = numpy.arange(rows)
    return [
        {"id": ids, "target": target, "prediction": target + common + random.normal(0, one, rows)} for one in noises
    ]


def classes(rows: int) -> tuple[Table, Table]:
    random = numpy.random.default_rng(1)
    target = random.integers(3, size=rows)
    sides = [numpy.where(random.random(rows) < right, target, (target + 1) % 3) for right in (0.8, 0.82)]
    tables = [{"id": numpy.arange(rows), "target": target, "prediction": one} for one in sides]
    return tables[0], tables[1]


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


@pytest.mark.parametrize("rows", [300, 50_000])
def test_a_mean_over_rows(rows: int) -> None:
    """The interval is that of the theory, of a mean of differences, whatever the order of the rows."""
    old, new = classes(rows)
    difference = (new["prediction"] == new["target"]) * 1.0 - (old["prediction"] == old["target"])
    found = over_rows(partial(score, "accuracy", accuracy), [(old, new)], 1)
    assert found.better_by == pytest.approx(difference.mean())
    assert half_width(found) == pytest.approx(1.96 * difference.std() / math.sqrt(rows), rel=0.2)
    assert found.low + found.high == pytest.approx(2 * difference.mean())
    order = numpy.argsort(difference, kind="stable")
    turned = [{name: column[order] for name, column in table.items()} for table in (old, new)]
    scored: list[int] = []

    def counted(oof: Table) -> Any:
        scored.append(len(oof["id"]))
        return accuracy(oof)

    over_rows(partial(score, "accuracy", counted), [(old, new)], 1)
    assert sum(scored) == 2 * 3 * rows, "all rows, five fifths, and each part: not all but a part"
    assert vars(over_rows(partial(score, "accuracy", accuracy), [(turned[0], turned[1])], 1)) == pytest.approx(
        vars(found)
    )


def test_any_metric_is_compared_with_few_calls() -> None:
    """At most a call a part and run, of 100 parts, and never by the clock: what is slow is compared, too."""
    old, new = numbers(10_000, 1.0, 1.1)
    calls: list[int] = []

    def counted(oof: Table) -> Any:
        calls.append(len(oof["id"]))
        return rmse(oof)

    found = over_rows(partial(score, "rmse", counted), [(old, new)], 1)
    assert found.parts == 100 and len(calls) == 2 * (1 + 5 + 100), "five fifths: it might be a mean"
    assert found.better_by == rmse(new) - rmse(old) and found.low < found.better_by < found.high
    random, resampled = numpy.random.default_rng(0), []
    for _ in range(200):
        rows = random.integers(10_000, size=10_000)
        sides = [{name: column[rows] for name, column in table.items()} for table in (old, new)]
        resampled.append(rmse(sides[1]) - rmse(sides[0]))
    assert half_width(found) == pytest.approx(1.96 * numpy.std(resampled), rel=0.25), "as a bootstrap has it"
    assert over_rows(partial(score, "rmse", rmse), [(old, new)], 1) == found, "the same runs, the same bytes"
    flipped = over_rows(partial(score, "rmse", rmse), [(new, old)], 1)
    assert (flipped.low, flipped.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize(
    ("rows", "parts"), [(20, 20), (350, 20), (2500, 50), (400_000, 100), (1_000_000, 40), (10_000_000, 20)]
)
def test_the_number_of_rows_alone_says_how_many_parts(rows: int, parts: int) -> None:
    assert parts_of(rows, rows) == parts


def test_both_runs_lose_the_same_rows() -> None:
    """What both get wrong cancels out: the interval is narrower than the score of one is sure."""
    old, new = numbers(2000, 0.1, 0.12)
    found = over_rows(partial(score, "rmse", rmse), [(old, new)], -1)
    same = over_rows(partial(score, "rmse", rmse), [(old, old)], -1)
    assert (same.better_by, same.low, same.high) == (0.0, 0.0, 0.0)
    alone = 1.96 * ((old["prediction"] - old["target"]) ** 2).std() / math.sqrt(2000) / (2 * rmse(old))
    assert half_width(found) < alone / 3


def test_rows_of_a_group_stay_together() -> None:
    """Each row is there five times: that is no more to go by."""
    metric, pair = rmse, numbers(400, 0.5, 0.8)
    once = over_rows(partial(score, "metric", metric), [(pair[0], pair[1])], 1)
    errors = [abs(table["prediction"] - table["target"]) for table in pair]
    member = numpy.repeat(numpy.argsort(errors[0] - errors[1], kind="stable"), 5)
    many = [{name: column[member] for name, column in table.items()} for table in pair]
    for table in many:
        table["id"] = numpy.arange(len(member))
    together = over_rows(partial(score, "metric", metric), [(many[0], many[1])], 1, member.astype(str))
    alone = over_rows(partial(score, "metric", metric), [(many[0], many[1])], 1)
    assert together.better_by == pytest.approx(once.better_by)
    assert half_width(together) == pytest.approx(half_width(once), rel=0.3)
    assert half_width(alone) == pytest.approx(half_width(once) / math.sqrt(5), rel=0.3)


def test_groups_of_any_size() -> None:
    """A group of one row says as little as a row: the width is that of rows, which are independent here."""
    random = numpy.random.default_rng(2)
    group = numpy.repeat(numpy.arange(40), [1] * 10 + [300] * 30)
    old, new = (random.random((2, len(group))).T < (0.5, 0.6)).T
    tables = [
        {"id": numpy.arange(len(group)), "target": numpy.ones(len(group), bool), "prediction": one}
        for one in (old, new)
    ]
    found = over_rows(partial(score, "accuracy", accuracy), [(tables[0], tables[1])], 1, group)
    assert half_width(found) == pytest.approx(2 * (new * 1.0 - old).std() / math.sqrt(len(group)), rel=0.3)


def test_what_cannot_be_compared_by_rows() -> None:
    old, new = numbers(19, 1.0, 1.1)
    with pytest.raises(expkit.Error, match="19 rows are too few: 20 are needed"):
        over_rows(partial(score, "rmse", rmse), [(old, new)], -1)
    old, new = numbers(100, 1.0, 1.1)
    with pytest.raises(expkit.Error, match="2 groups of rows are too few"):
        over_rows(partial(score, "rmse", rmse), [(old, new)], -1, numpy.arange(100) % 2)

    def needs_the_first(oof: Table) -> Any:
        return 1.0 / (oof["id"] == 0).sum()

    with pytest.raises(expkit.Error, match="without 5% of the rows there is no score: the metric first is inf"):
        over_rows(partial(score, "first", needs_the_first), [(old, new)], 1)


# Runs


def shuffled() -> dict[str, str]:
    """An experiment in which each seed of the folds deals the rows anew; the prediction of a row depends on neither."""
    own, old = files("price"), "model.predicted(KIND, model.rows(exp.n_folds, fold.number), exp.train.noise, seed)"
    dealt = """
def dealt(exp, number):
    import model
    import numpy
    out = numpy.random.default_rng(exp.split.seed).permutation(300) % exp.n_folds == number
    every = model.predicted(KIND, model.ROWS, exp.train.noise, int(100 * exp.train.noise))
    return {name: column[out] for name, column in every.items()}


def train("""
    assert old in own["train.py"]
    return own | {"train.py": own["train.py"].replace(old, "dealt(exp, fold.number)").replace("def train(", dealt)}


@pytest.fixture(scope="module")
def price(module_root: Path) -> Iterator[Path]:
    """An experiment with rmse and text ids, and its runs in a PROJECT_ROOT: name, and what it is made of."""
    with pytest.MonkeyPatch.context() as patch, own_experiment(files("price")) as folder:
        patch.setenv("PATH", str(module_root))  # no git: snapshots take longer than these trainings
        for name, *values in (
            ("good", "exp.train.noise=1.0"),
            ("same", "exp.train.noise=1.0", "exp.seed=1"),
            ("bad", "exp.train.noise=2.0"),
            ("begun", "exp.train.noise=2.0", "exp.fold=[0,2]"),
            ("split", "exp.n_folds=1", "exp.fold=[0]"),
            ("split-worse", "exp.n_folds=1", "exp.fold=[0]", "exp.train.noise=2.0"),
            ("late-worse", "exp.fold=[1]", "exp.train.noise=2.0"),
        ):
            expkit.run(folder.name, overrides=[f"exp.name={name}", *values])
        yield folder


def test_only_the_seed_differs(price: Path) -> None:
    assert "\nonly the seed differs\n" in exp("diff", "/good,", "/same,")
    assert "only the seed differs" not in exp("diff", "/good,", "/bad,")


def test_better_or_worse(price: Path) -> None:
    """In the direction of the metric. Nothing is written."""
    before = tree(expkit.output_dir())
    found = compared("/good,", "/bad,")
    good, bad = [expkit.load_run(f"/{name},") for name in ("good", "bad")]
    assert good.score is not None and bad.score is not None
    assert (found["metric"], found["greater_is_better"], found["verdict"]) == ("rmse", False, "worse")
    differences = [good.fold_scores[fold] - bad.fold_scores[fold] for fold in range(3)]
    assert found["folds"] == short(vars(corrected_t(differences, 1 / 2))) | {"folds": [0, 1, 2], "seeds": []}
    rows = found["rows"]
    assert rows["better_by"] == pytest.approx(good.score - bad.score)
    assert rows["low"] < rows["better_by"] < rows["high"] < 0
    assert (rows["rows"], rows["groups"], rows["parts"]) == (300, None, 20)
    assert compared("/bad,", "/good,")["verdict"] == "better"
    printed, number = exp("diff", "/good,", "/bad,"), r"\d\.\d+"
    for how in ("3 folds", "300 rows"):
        interval = f"95 % interval {number} worse to {number} worse"
        assert re.search(rf"bad\S* is {number} worse \({how}, {interval}\)\n", printed)
    assert "\nverdict: worse\n" in printed
    printed = exp("diff", "/good,", "/same,")
    assert re.search(rf"\({300} rows, 95 % interval {number} worse to {number} better\): could be noise\n", printed)
    assert tree(expkit.output_dir()) == before


LINE = re.compile(r" is (\S+ \w+) \((?:3 folds|300 rows), 95 % interval (\S+ \w+) to (\S+ \w+)\)")


@pytest.mark.parametrize(("kind", "greater"), [("price", False), ("risk", True)])
def test_the_words_of_an_interval_agree_with_its_numbers(quick: Path, kind: str, greater: bool) -> None:
    """Whatever is better: a higher score or a lower one, the new run or the old one."""
    with own_experiment(files(kind)) as folder:
        for noise in (0.5, 4.0):
            expkit.run(folder.name, overrides=["exp.n_folds=3", f"exp.train.noise={noise}", f"exp.name=n{noise}"])
        runs = {run.name[:4]: run for run in expkit.read_board()}
        for old, new in [("n0.5", "n4.0"), ("n4.0", "n0.5")]:
            found = LINE.findall(exp("diff", runs[old].title, runs[new].title))
            difference = ((runs[new].score or 0) - (runs[old].score or 0)) * (1 if greater else -1)
            for line in found:
                value, low, high = (float(each.split()[0]) * (1 if "better" in each else -1) for each in line)
                assert low < value < high and value == pytest.approx(difference, rel=0.2), line
            assert len(found) == 2


def test_two_hold_outs(price: Path) -> None:
    """A single split is no fold, for a person and for a program."""
    whole, scores = exp_json("diff", "/split,", "/split-worse,")["scores"], exp("diff", "/split,", "/split-worse,")
    assert whole.keys() == {"metric", "hold-out"} and whole["hold-out"]["old"] < whole["hold-out"]["new"]
    assert re.search(r"^rmse +old +new *\nhold-out +\S+ +\S+ +\+\S+$", scores, re.M), scores


def test_the_folds_that_both_have(price: Path) -> None:
    found = compared("/good,", "/begun,")
    assert found["folds"]["folds"] == [0, 2] and found["rows"]["rows"] == 200
    scores = [expkit.load_run(f"/{name},").oof for name in ("good", "begun")]
    scores[0] = {name: column[scores[0]["fold"] != 1] for name, column in scores[0].items()}
    assert found["rows"]["better_by"] == pytest.approx(rmse(scores[0]) - rmse(scores[1]))


def test_one_training_of_each_is_never_better(price: Path) -> None:
    """A hold-out, and the only fold that both have: however the rows look, and whatever differs."""
    for old, new, said in (
        ("split", "split-worse", "could be noise"),
        ("split-worse", "split", "promising"),
        ("good", "late-worse", "could be noise"),
    ):
        found = compared(f"/{old},", f"/{new},")
        assert found["verdict"] == said and "low" in found["rows"]
        assert "-m exp.seed=1,2,3, then exp diff OLD NEW --seeds" in found["folds"]["reason"]
    assert abs(found["rows"]["better_by"]) > 0.5 and found["rows"]["high"] < 0
    assert "\nverdict: promising\n" in exp("diff", "/split-worse,", "/split,"), "what to do stands in the line above"
    printed = exp("diff", "/split,", "/split-worse,")
    assert "\nover folds: one training of each does not say how much scores vary" in printed
    assert "\nverdict: could be noise\n" in printed


def test_seeds_of_one_fold(quick: Path) -> None:
    """Several trainings of each: over the seeds, and over the rows. No seed alone says as much."""
    with own_experiment(files("price")) as folder:
        for noise, seed in itertools.product((1.0, 2.0), (1, 2, 3)):
            expkit.run(folder.name, overrides=["exp.n_folds=1", f"exp.train.noise={noise}", f"exp.seed={seed}"])
        runs = [next(run.title for run in read_board() if run.config.exp.train.noise == noise) for noise in (1.0, 2.0)]
        assert compared(*runs)["verdict"] == "could be noise"
        found = compared(*runs, "--seeds")
        assert (found["folds"]["folds"], found["folds"]["seeds"], found["verdict"]) == ([0], [1, 2, 3], "worse")
        assert "(1 fold x 3 seeds, 95 %" in exp("diff", *runs, "--seeds")
        assert {one.versus_best for one in against_best(entries(read_board()))} == {"best", None}, "of one fold"


def test_other_folds_tell_what_is_promising(quick: Path) -> None:
    """The rows say better, three folds do not; with the folds of other seeds, both do. Paired by both seeds."""
    with own_experiment(shuffled()) as folder:

        def train(noise: float, *values: str) -> str:
            expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", *values])
            return f"{folder.name}/light,exp.train.noise={noise:g}"

        old, new = train(1.15), train(1.0)
        found, printed = compared(old, new), exp("diff", old, new)
        assert (found["verdict"], found["folds"]["low"] < 0 < found["rows"]["low"]) == ("promising", True)
        assert re.search(
            r"^verdict: promising: the rows say better, .*-m exp.split.seed=1,2,3, .*--seeds$", printed, re.M
        )
        for noise, seed in itertools.product((1.15, 1.0), (1, 2, 3)):
            train(noise, f"exp.split.seed={seed}")
        train(1.15, "exp.split.seed=4")
        found, printed = compared(old, new, "--seeds"), exp("diff", old, new, "--seeds")
        assert found["verdict"] == "better" and found["folds"]["seeds"] == ["0/1", "0/2", "0/3", "0/42"]
        assert "(3 folds x 4 seeds, 95 %" in printed and re.search(r"^0/1 +\d", printed, re.M)
        assert compared(new, old, "--seeds")["verdict"] == "worse"


def test_the_best_of_many_on_the_board_and_in_a_diff(quick: Path) -> None:
    """Whatever is shown; of a pair with the best alone. The mean over seeds is another score."""
    with own_experiment(files("price")) as folder:
        for seed in range(10):
            assert "expect about" not in (exp("board") if seed == 9 else "")
            expkit.run(folder.name, overrides=[f"exp.seed={seed}"])
        [found] = best_of_many(ranked(read_board())).values()
        luck, runs = found["luck"], [row["run"] for row in exp_json("board", "--all")]
        line = f"{folder.name}/{runs[0]} is the best of 10 runs on these folds: expect about {luck:.2g} more on new"
        assert luck_text(**found).startswith(line) and "e" not in f"{luck:.2g}"
        for options in ([], ["--last", "10"], ["--filter", "seed!=99"], ["--all"]):
            assert f"\n{line} rows\n" in exp("board", *options)
        for options in (["--filter", f"run={runs[1]}"], ["--seeds"]):
            assert "expect about" not in exp("board", *options)
        rows = exp_json("board", "--all", "--filter", f"run={runs[0]}")
        assert [(row["tried"], row["luck"]) for row in rows] == [(10, pytest.approx(luck, rel=1e-5))]
        assert "tried" not in exp_json("board", "--all")[1]
        for pair in ((runs[0], runs[1]), (runs[1], runs[0])):
            names = [f"{folder.name}/{name}" for name in pair]
            assert compared(*names)["best_of"]["luck"] == pytest.approx(luck, rel=1e-5)
            assert f"\n{line} rows\nverdict: " in exp("diff", *names)
        pair = expkit.load_run(runs[0]), expkit.load_run(runs[1])
        assert "best_of" not in compare([pair] * 2)["comparison"], "the mean of several seeds"
        names = [f"{folder.name}/{name}" for name in runs[1:3]]
        assert "best_of" not in compared(*names) and "expect about" not in exp("diff", *names)
        exp("note", f"{folder.name}/{runs[0]}", "it leaks", "--dropped")
        rows = exp_json("board", "--all", "--noise")
        assert [row["versus_best"] for row in rows[:2]] == ["could be noise", "best"], "nobody goes on from the first"
        assert [row["tried"] for row in rows if "tried" in row] == [10] and "tried" in rows[1]
        exp("note", f"{folder.name}/{exp_json('board', '--seeds')[0]['run']}", "--dropped")
        assert [row["verdict"] for row in exp_json("board", "--seeds")] == ["dropped"]


def test_a_run_is_kept_that_could_be_noise(quick: Path, notes: Path) -> None:
    """What `exp try` has said of this version counts."""
    with own_experiment(files("price")) as folder:
        expkit.run(folder.name)
        [run] = read_board()
        tested = {"against": f"{folder.name}/a", "verdict": "could be noise", "seeds": 3, "folds": 3}
        assert "test" not in exp_json("note", run.title, "--kept")
        for id, verdict, is_said in (("other", "worse", False), (run.id, "worse", True), (run.id, "better", False)):
            add_note(run.title, {"tested": tested | {"verdict": verdict}, "id": id})
            said = f"kept, though the test says {verdict}: exp diff {folder.name}/a {run.title} --seeds\n"
            assert (said in exp("note", run.title, "--kept")) == is_said
        assert exp_json("note", run.title, "--kept")["test"]["against"] == f"{folder.name}/a"
        assert "test" not in exp_json("note", run.title, "--dropped")


def test_a_run_is_kept_that_nobody_has_tested(quick: Path, notes: Path) -> None:
    """Its folds tell, against the best other run, but for its own seeds and what was dropped."""
    with own_experiment(files("price")) as folder:

        def kept(name: str, noise: float, *seed: str) -> Any:
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.train.noise={noise}", *seed])
            title = f"{folder.name}/{','.join([name, *seed[:1], f'exp.train.noise={noise:g}'])}"
            printed = exp("note", title, "--kept").splitlines()[-1]
            test = exp_json("note", title, "again", "--kept").get("test", {})
            assert printed.startswith("kept, though the test says ") == (test.get("verdict", "better") != "better")
            return test

        first = f"{folder.name}/first,exp.train.noise=1"
        assert kept("first", 1) == {}
        assert kept("alike", 1, "exp.seed=1") == {"verdict": "could be noise", "against": first, "seeds": 1}
        assert kept("bad", 9)["verdict"] == "worse"
        assert kept("good", 0.01)["verdict"] == "better", "and nothing is printed"
        assert kept("good", 0.01, "exp.seed=1")["against"] == first, "the other one is its own seed"
        for seed in ("", "exp.seed=1,"):
            exp("note", f"{folder.name}/good,{seed}exp.train.noise=0.01", "--dropped")
        assert kept("late", 0.01, "exp.seed=2")["against"] == first
        assert exp_json("note", first, "still", "--kept")["test"]["against"] != first
        exp("note", f"{folder.name}/late,exp.seed=2,exp.train.noise=0.01", "--dropped")
        assert kept("begun", 0.01, "exp.seed=3", "exp.fold=[0]")["verdict"] == "cannot tell"


def test_a_blend(price: Path) -> None:
    made = exp_json("blend", "/good,", "/same,", "--name", "two")["run"]
    found = compared("/good,", made)
    assert found["folds"]["better_by"] > 0 and found["rows"]["low"] > 0


def test_other_targets_other_groups(quick: Path) -> None:
    more = """rows = model.rows(exp.n_folds, fold.number)
    table = model.predicted(KIND, rows, 1.0, seed)
    if exp.seed == 1:
        table["target"] += 1
    if exp.seed > 1:
        table["group"] = rows % 30 + (exp.seed == 3)
    fold.save_oof(table)"""
    with own_experiment(files("price", more)) as folder:
        for seed in (0, 1, 2, 3, 4):
            expkit.run(folder.name, overrides=[f"exp.name=s{seed}", f"exp.seed={seed}"])
        runs = [expkit.load_run(f"s{seed}") for seed in (0, 1, 2)]
        found = verdict([(runs[0], runs[2]), (runs[1], runs[1])])
        assert found["verdict"] == "not comparable" and "has another target than" in found["reason"], "of another seed"
        assert compared("s2", "s3")["reason"] == "the column group is not the same in all of the runs"
        assert compared("s2", "s4")["rows"]["groups"] == 30
        assert "(300 rows in 30 groups, 95 %" in exp("diff", "s2", "s4")
        for pair in (("s0", "s2"), ("s2", "s0")):
            assert compared(*pair)["rows"]["groups"] is None, "only one has groups"


def test_other_metrics(quick: Path) -> None:
    """Of another name, of the other direction, or of one name and two functions. What is recorded counts."""
    with own_experiment(files("price")) as price, own_experiment(files("species")) as species:
        for seed, (folder, name) in enumerate(((price, "p"), (species, "s"), (price, "q"))):
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.seed={seed}"])
        assert compared("/p", "/s")["reason"].startswith("other metric: rmse in ")
        train = price / "train.py"
        with edited(train, ".mean() ** 0.5", ".mean()"):
            load_experiment(price.name, again=True)
            reason = compared("/p", "/q")["reason"]
            assert re.match(
                r"rmse now gives 0.0\d+ for fold 0 of .*, but 0.\d+ is recorded: repeat the command", reason
            )
            expkit.run(price.name, overrides=["exp.name=new", "exp.seed=9"])
            assert compared("/p", "/new")["reason"].startswith("rmse now gives")
        with edited(train, ".mean() ** 0.5", ".mean() ** 0.5 * float((expkit.project_root() / 'input/k').read_text())"):
            for k in (1, 9):  # a file that is no code: nothing sees that it changes the metric
                (quick / "input/k").write_text(str(k))
                load_experiment(price.name, again=True)
                expkit.run(price.name, overrides=["exp.name=p", "exp.seed=0"])
            assert re.search(
                r" is recorded: delete .*/p,.*/cv.json and repeat the command", compared("/p", "/q")["reason"]
            )
            expkit.load_run("/p").folder.joinpath("cv.json").unlink()
            expkit.run(price.name, overrides=["exp.name=p", "exp.seed=0"])
            assert re.search(" is recorded: delete .*/q,.*/cv.json and ", compared("/p", "/q")["reason"])
        with edited(train, "import expkit", "import expkit, no_such_module"):
            with pytest.raises(ModuleNotFoundError):
                load_experiment(price.name, again=True)
            assert "cannot be loaded: ModuleNotFoundError" in compared("/p", "/q")["reason"]


def test_seeds(quick: Path) -> None:
    """Each with the runs that differ in their seed alone, of the seeds that both have."""
    with own_experiment(files("price")) as folder:
        (quick / "input/train.csv").write_text("0")
        for noise, seeds in ((1.0, (0, 1, 2)), (1.5, (1, 2, 3))):
            for seed in seeds:
                expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", f"exp.seed={seed}"])
        runs = {(run.config.exp.train.noise, run.seed): run for run in read_board()}
        found = compared(runs[1.0, 0].title, runs[1.5, 3].title, "--seeds")
        assert found["folds"]["seeds"] == [1, 2] and found["verdict"] == "worse"
        differences = [
            sum(runs[1.0, seed].fold_scores[fold] - runs[1.5, seed].fold_scores[fold] for seed in (1, 2)) / 2
            for fold in range(3)
        ]
        assert found["folds"]["low"] == pytest.approx(corrected_t(differences, 1 / 2).low)
        scores = [sum(runs[noise, seed].score or 0 for seed in (1, 2)) / 2 for noise in (1.0, 1.5)]
        assert found["rows"]["better_by"] == pytest.approx(scores[0] - scores[1])
        assert "(3 folds x 2 seeds, 95 %" in exp("diff", runs[1.0, 0].title, runs[1.5, 3].title, "--seeds")
        expkit.run(folder.name, overrides=["exp.train.noise=4.0", "exp.seed=7"])
        other = next(run.title for run in read_board() if run.seed == 7)
        with pytest.raises(expkit.Error, match="have no seed in common: 7; 1, 2, 3"):
            exp("diff", other, runs[1.5, 3].title, "--seeds")
        (quick / "input/train.csv").write_text("1")
        for noise in (1.0, 1.5):
            expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", "exp.seed=8"])
        found = compared(runs[1.0, 0].title, runs[1.5, 3].title, "--seeds")
        assert found["reason"].startswith("other data: "), "of another seed"
