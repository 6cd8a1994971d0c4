"""Better, or noise? What the scores of folds, and out-of-fold rows, say of a difference, with its 95 % interval."""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import mul
from typing import TYPE_CHECKING, Any

from expkit.board import NOT_COMPARABLE, Entry, grouped, incomparable, rank
from expkit.config import SplitMethod, flat
from expkit.errors import Error, require
from expkit.store import OOF, Run, and_without_seeds

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

    Score = Callable[[Columns], float]

CONFIDENCE = 0.95
BETTER, WORSE, NOISE, PROMISING, IDENTICAL = "better", "worse", "could be noise", "promising", "identical"
UNKNOWN = "cannot tell"
REPEAT = "other seeds of both with -m exp.seed=1,2,3, then exp diff OLD NEW --seeds"
REPEAT_FOLDS = REPEAT.replace("exp.seed", "exp.split.seed")  # which tells more
MORE = f": train more folds, or {REPEAT}"
ONE_TRAINING = f"one training of each does not say how much scores vary from training to training{MORE}"
MANY = 10  # runs, of which the best is lucky
NEAR = 2.5  # standard errors below the best, from which on a run counts less as its rival
STEP, FLAT = 0.5, 0.125  # of a grid of variances, in standard errors; how many runs lie on each step, over sqrt(K)
FEWEST, MOST = 20, 100  # parts; fewer rows, or groups of rows, tell too little
TRIALS, NEGLIGIBLE = 5, 1e-3  # parts whose mean is that of all rows, up to this share of their deviation
MOST_ROWS = 40_000_000  # that all calls of the metric for one run get: with more than 400,000 there are fewer parts


@dataclass(frozen=True)
class Interval:
    """By how much one score is better than another, below zero when it is worse, and its 95 % interval."""

    better_by: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """BETTER or WORSE; NOISE when zero is in the interval, or when it has no width and so says nothing."""
        if self.high - self.low <= 1e-9 * abs(self.better_by):
            return NOISE
        return BETTER if self.low > 0 else WORSE if self.high < 0 else NOISE


def together(folds: Interval | None, rows: Interval | None) -> str:
    """What two intervals of one difference say, each None where nobody knows.

    BETTER and WORSE: the trainings say so, and the rows where they are known. PROMISING: the rows say better, and the
    trainings, which lean that way, are too few to say it. UNKNOWN: nobody knows either.
    """
    said = [interval.verdict for interval in (folds, rows) if interval]
    if not said:
        return UNKNOWN
    if folds and set(said) in ({BETTER}, {WORSE}):
        return said[0]
    is_promising = rows is not None and rows.verdict == BETTER and (folds is None or folds.better_by > 0)
    return PROMISING if is_promising else NOISE


# Over folds


@dataclass(frozen=True)
class Runs:
    """The runs that two were chosen from.

    Attributes:
        count: how many there are, with the two.
        variance: of the difference of the two from fold to fold, as of `scatter`; 0.0: they alone tell it.
        freedom: the degrees of freedom of that.
    """

    count: int = 2
    variance: float = 0.0
    freedom: float = 0.0


PAIR = Runs()


def corrected_t(differences: Sequence[float], ratio: float, runs: Runs = PAIR) -> Interval:
    """The corrected resampled t-test: the interval of a mean difference of scores over folds.

    The models of the folds share most of their training rows, so that their scores vary together, and a plain t-test
    takes too much for real. The variance of the mean is (1/J + n_test/n_train) times that of the J differences, with
    J - 1 degrees of freedom. Nadeau and Bengio: Inference for the generalization error. Machine Learning 52, 2003; for
    repeated folds, Bouckaert and Frank: Evaluating the replicability of significance tests, PAKDD 2004.

    Of many runs, the best is partly lucky. All K(K - 1)/2 pairs can be the one that is looked at, so that each is
    tested at 5 % of that (Bonferroni; Hsu: Multiple Comparisons, 1996, chapter 5, on all pairs). J - 1 degrees of
    freedom are too few for such a level, so the variance is what `scatter` makes of that of all runs.

    Args:
        differences: of the scores, a positive one is better; one for each set of rows that is left out, (J,).
        ratio: n_test/n_train, as `ratio_of_rows` gives it; 0.0 for trainings that share no luck with their rows.
        runs: that the pair was chosen from.

    Raises:
        Error: there are fewer than two.
    """
    count = len(differences)
    require(count > 1, ONE_TRAINING)
    mean, variance = statistics.fmean(differences), runs.variance or statistics.variance(differences)
    confidence = 1 - (1 - CONFIDENCE) / math.comb(max(runs.count, 2), 2)
    quantile = t_quantile(runs.freedom or count - 1, confidence)
    half = quantile * math.sqrt(variance * (1 / count + ratio))
    return Interval(mean, mean - half, mean + half)


def over_folds(pairs: Sequence[tuple[Entry, Entry]], runs: Runs = PAIR) -> Interval:
    """By how much the second runs are better, from the scores of their trainings.

    Args:
        pairs: two runs; or a pair for each seed. The differences of seeds that leave out the same rows are averaged and
            count as one: the luck with these rows is in all of them. Counted each, they give intervals that are too
            narrow, the more seeds the narrower, even of a model that does not heed its seed (benchmarks/noise.py). Of
            one fold, each seed counts: its luck with the rows left out is for the test over rows to judge.
        runs: that the two were chosen from.

    Raises:
        Error: as of `corrected_t`.
    """
    found: dict[str, list[float]] = {}
    for old, new in pairs:
        sign = 1 if old.run.greater_is_better else -1
        for fold in sorted(old.fold_scores.keys() & new.fold_scores.keys()):
            difference = sign * (new.fold_scores[fold] - old.fold_scores[fold])
            found.setdefault(old.run.valid_ids[fold], []).append(difference)
    if len(found) == 1:
        return corrected_t(next(iter(found.values())), 0.0, runs)
    ratios = [ratio for pair in pairs for entry in pair if (ratio := ratio_of_rows(entry.run)) is not None]
    require(bool(ratios), "each seed leaves out other rows, and it is not known how many each has trained on")
    return corrected_t([statistics.fmean(each) for each in found.values()], max(ratios), runs)


def ratio_of_rows(run: Run) -> float | None:
    """How many rows are left out for each that is trained on, in the mean of the folds; None for a single fold.

    While folds are missing, they count as equal.
    """
    rows, n_folds = {number: result["rows"] for number, result in run.results.items()}, run.n_folds
    if n_folds is None or n_folds < 2:
        return None
    if flat(run.config).get("exp.split.method") == SplitMethod.time.name:  # only earlier rows are trained on
        return statistics.fmean(1 / (fold + 1) for fold in range(n_folds))
    whole = sum(rows.values())
    if len(rows) < n_folds or whole in rows.values():
        return 1 / (n_folds - 1)
    return statistics.fmean(number / (whole - number) for number in rows.values())


def scatter(scores: Mapping[Any, Sequence[float]], best: Any) -> dict[Any, tuple[float, float]]:
    """How the difference of each run and the best one varies from fold to fold: variance, degrees of freedom.

    Under the best: how it varies itself. Of each run, that is the variance of what is left without the mean of all
    runs, in which one counts less the less its scores rise and fall with those of the best. It has J - 1 degrees of
    freedom, and is moderated by all others: its posterior under the distribution of variances that all but the two
    have. So runs that are alike share their degrees of freedom, families of models and wild runs keep variances of
    their own, and one run more changes little. Smyth: Linear models and empirical Bayes methods, Statistical
    Applications in Genetics and Molecular Biology 3, 2004; with a distribution of any shape (Kiefer and Wolfowitz,
    Annals of Mathematical Statistics 27, 1956), Ignatiadis and Sen: Empirical partially Bayes multiple testing and
    compound chi-square decisions, Annals of Statistics 53, 2025. The posterior is taken as the scaled inverse
    chi-square with the same mean and variance of 1/variance; two of them are added by Satterthwaite's rule (Biometrics
    Bulletin 2, 1946). Of two runs alone, it is the variance of their difference.

    Args:
        scores: of each run, those of the same J folds.
        best: the key of that run.
    """
    freedom = len(scores[best]) - 1
    moves = {name: [score - statistics.fmean(run) for score in run] for name, run in scores.items()}
    far = {name: math.dist(run, moves[best]) for name, run in moves.items()}
    if not (nearest := min(filter(None, far.values()), default=0.0)):
        return {}
    weights = {name: 1 / max(one, nearest) for name, one in far.items()}
    centre = [statistics.fmean(fold, weights.values()) for fold in zip(*moves.values(), strict=True)]
    own = {name: math.dist(run, centre) ** 2 / freedom / (1 - 1 / len(scores)) for name, run in moves.items()}
    typical = statistics.median(filter(None, own.values()))
    step, flat = STEP * math.sqrt(2 / freedom), FLAT / math.sqrt(len(scores))  # of the logarithm of a variance
    seen = {name: round(math.log(min(max(one / typical, 1e-9), 1e60)) / step) for name, one in own.items()}
    counts, grid = Counter(seen.values()), range(min(seen.values()) - int(4 / step), max(seen.values()) + int(8 / step))
    precision = {one: [math.exp(step * (one - value)) for value in grid] for one in counts}
    likelihood = {one: [(each * math.exp(1 - each)) ** (freedom / 2) for each in precision[one]] for one in counts}
    columns, prior = [*zip(*likelihood.values(), strict=True)], [flat] * len(grid)
    for _ in range(30):  # of EM
        shares = [count / sum(map(mul, prior, likelihood[one])) for one, count in counts.items()]
        prior = [flat + old * sum(map(mul, shares, column)) for old, column in zip(prior, columns, strict=True)]

    def moderated(one: int, *others: int) -> tuple[float, float]:
        """Variance and degrees of freedom of a run, from its own and from all runs but these."""
        left = prior
        for other in others:
            share = 1 / sum(map(mul, prior, likelihood[other]))
            left = [max(a - share * b * c, flat) for a, b, c in zip(left, prior, likelihood[other], strict=True)]
        posterior = [*map(mul, left, likelihood[one])]
        mean = statistics.fmean(precision[one], posterior)
        spread = statistics.fmean([(each - mean) ** 2 for each in precision[one]], posterior)
        return typical * math.exp(step * one) / mean, 2 * mean**2 / max(spread, 1e-6 * mean**2)

    @functools.cache
    def difference(other: int) -> tuple[float, float]:
        (one, its), (two, theirs) = (moderated(each, seen[best], other) for each in (seen[best], other))
        common = 2 * one * two / math.sqrt(its * theirs * (len(scores) - 1))  # of two runs alone, both say the same
        return one + two, (one + two) ** 2 / (one**2 / its + two**2 / theirs + common)

    return {name: difference(one) for name, one in seen.items()} | {best: moderated(seen[best], seen[best])}


def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """The t with P(|T| < t) = confidence, T of Student's distribution."""
    from scipy.special import stdtrit  # scipy.stats takes thrice as long to import

    return float(stdtrit(freedom, (1 + confidence) / 2))


# Among many runs


def best_of_many(entries: list[Entry]) -> dict[str, dict[str, Any]]:
    """The best run of each problem, as of `against_best`, where at least `MANY` were tried on several folds, by title.

    Args:
        entries: as of `against_best`.

    Returns:
        what `luck_text` takes.
    """
    found = {}
    for best in _best_of(entries, entries).values():
        if best.count >= MANY and best.luck > 0:
            about = {"tried": best.count, "luck": best.luck, "greater_is_better": best.run.greater_is_better}
            found[best.run.title] = {"run": best.run.title, **about}
    return found


def luck_text(run: str, tried: int, luck: float, greater_is_better: bool) -> str:
    """What to know of the best of many runs.

    Args:
        run: its title.
        tried: how many runs it is the best of.
        luck: how much worse its score is expected to be on new rows, as it was chosen for its luck with these.
    """
    by = f"{float(f'{luck:.2g}'):g} {'less' if greater_is_better else 'more'}"
    return f"{run} is the best of {tried:,} runs on these folds: expect about {by} on new rows"


def against_best(entries: list[Entry], tried: list[Entry] | None = None) -> list[Entry]:
    """The entries, each with what its folds say of it against the best run of its problem; None: they say nothing.

    By `corrected_t` at 95 % for all pairs of the runs that were tried for it, as the best of many is partly
    lucky. One fold says nothing. Reads no file but, where the data differ, their lists.

    Args:
        entries: as from `flag_incomparable`; one that is flagged is "not comparable", and never the best. Nor is one
            that a person has dropped.
        tried: all runs, also those that are not to be shown; None: `entries`.
    """
    best = _best_of(entries, entries if tried is None else tried)

    def judged(entry: Entry) -> Entry:
        first = best.get(entry.problem)
        if first is None or not entry.is_comparable or incomparable(first.entry.run, entry.run):
            return replace(entry, versus_best=NOT_COMPARABLE)
        return replace(entry, versus_best=first.verdict_on(entry), versus_runs=first.count)

    return [entry if entry.score is None else judged(entry) for entry in entries]


def against_another(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    """What the folds of a run alone say of it against the best of the others that compare, but for its own seeds.

    Args:
        entries: the board, best first; what a person has dropped does not count.

    Returns:
        "verdict", "against" and "seeds", as a note of `exp try` has them; {}: there is no such run.
    """
    own = and_without_seeds([entry.run.title])[1]
    for one in entries:
        is_other = own not in and_without_seeds([one.run.title]) and not one.notes.is_dropped
        if is_other and one.problem == entry.problem and not incomparable(one.run, entry.run):
            found = {"verdict": UNKNOWN, "against": one.run.title, "seeds": 1}
            with suppress(Error):
                found["verdict"] = over_folds([(one, entry)]).verdict
            return found
    return {}


def _best_of(entries: list[Entry], tried: list[Entry]) -> dict[str | None, _Best]:
    """The best run of each problem."""
    candidates = [one for one in entries if one.score is not None and one.is_comparable and not one.notes.is_dropped]
    problems = grouped(candidates, lambda one: one.problem)
    return {problem: _Best(min(own, key=rank), tried) for problem, own in problems.items()}


class _Best:
    """The best run of a problem.

    Args:
        entries: the runs that it was chosen from, and others, which do not count. Those with identical out-of-fold
            predictions count as one.
    """

    def __init__(self, entry: Entry, entries: list[Entry]) -> None:
        alike = [one for one in entries if one.fold_scores and one.problem == entry.problem and one.is_comparable]
        tried = {_key(one): one for one in alike if not incomparable(entry.run, one.run)} | {_key(entry): entry}
        self.entry, self.run, self.count = entry, entry.run, len(tried)
        whole = {key: one for key, one in tried.items() if one.fold_scores.keys() == entry.fold_scores.keys()}
        self.scores = {key: [one.fold_scores[fold] for fold in entry.fold_scores] for key, one in whole.items()}
        self.scatter = scatter(self.scores, _key(entry))

    @functools.cached_property
    def luck(self) -> float:
        """How far the best of many is expected to be lucky: with its rows, not with those that all runs share.

        By Tweedie's formula: the variance of luck times the slope of the logarithm of the density of the scores. Efron:
        Tweedie's formula and selection bias, Journal of the American Statistical Association 106, 2011. The density is
        the normal one that fits best near the best score, with weights that fall with the distance from it, so that
        runs far below do not count; Loader: Local likelihood density estimation, Annals of Statistics 24, 1996. The
        error of the best score is the mean of what `scatter` says of it, without what the folds share through their
        training rows: a lucky model is as good on new rows. A loop that goes on from each run that is higher piles up
        two thirds more (benchmarks/README.md).
        """
        variance, freedom = self.scatter.get(_key(self.entry), (0.0, 0.0))
        if not variance:
            return 0.0
        error = math.sqrt(variance * freedom / max(freedom - 1.5, 1) / len(self.entry.fold_scores))
        own = statistics.fmean(self.scores[_key(self.entry)])
        below = [abs(own - statistics.fmean(scores)) / error for scores in self.scores.values()]
        weights = [math.exp(-((one / NEAR) ** 2) / 2) for one in below]
        centre = statistics.fmean(below, weights)
        spread = statistics.fmean([(one - centre) ** 2 for one in below], weights)
        return error * centre / max(spread, 1 / (1 + 1 / NEAR**2))  # no less than luck alone gives

    def verdict_on(self, entry: Entry) -> str | None:
        """ "best" of itself; else IDENTICAL, WORSE or NOISE; None: the folds say nothing."""
        if entry is self.entry:
            return "best"
        if _key(entry) == _key(self.entry):
            return IDENTICAL
        runs = Runs(self.count, *self.scatter.get(_key(entry), ()))
        try:
            return WORSE if over_folds([(self.entry, entry)], runs).verdict == WORSE else NOISE
        except Error:
            return None


def _key(entry: Entry) -> Any:
    """What a run is counted by: of each fold, a hash of its out-of-fold predictions; its title where it has none."""
    results = [result for run in entry.runs for result in run.results.values()]
    hashes = [result["files"].get(OOF, (0, 0, None))[2] for result in results]
    return tuple(hashes) if any(hashes) else entry.run.title


# Over rows


@dataclass(frozen=True)
class OverRows(Interval):
    """An interval from the rows that are scored.

    Attributes:
        rows: how many there are.
        groups: of how many groups they are; None: each row is for itself.
        parts: into how many parts they were dealt.
    """

    rows: int
    groups: int | None
    parts: int


def over_rows(
    score: Score, pairs: Sequence[Sequence[Columns]], sign: int, groups: numpy.ndarray | None = None
) -> OverRows:
    """By how much the second of each pair is better, from their out-of-fold rows: the delete-a-group jackknife.

    The rows are dealt by their ids to 20 to 100 parts. Without each part in turn, the difference of the two scores
    changes a little, which says how far it varies with the rows that are scored. Quenouille 1956 and Tukey 1958; by
    groups, of any metric: Shao and Tu: The Jackknife and Bootstrap, 1995, chapter 2; of unequal sizes: Busing, Meijer
    and van der Leeden: Delete-m jackknife for unequal m, Statistics and Computing 9, 1999. How a score varies with the
    rows that are trained on, `over_folds` tells.

    There is no chance and no clock in it: the same runs give the same bytes on any machine. `score` is called once per
    part and run: with all other rows, or, of a metric that is a mean over rows, with the part alone. A bootstrap calls
    it thousands of times, and is no nearer to the truth (benchmarks/README.md).

    Args:
        score: of a table.
        pairs: the out-of-fold rows of two runs that are compared, all the same rows in the same order; several pairs
            are seeds, whose differences are averaged. One table alone, with the sign -1: its score, in place of them.
        sign: 1 when a higher score is better, else -1.
        groups: what each row belongs to, (n,): rows of a group are not independent, and are in one part.

    Raises:
        Error: there are too few rows; or `score` fails, be it without some of the rows.
    """
    import numpy

    from expkit.tables import digests

    rows, tables = len(pairs[0][0]["id"]), [table for pair in pairs for table in pair]

    def difference(is_in: numpy.ndarray | slice) -> float:
        """By how much the second of each pair is better over some rows; the mean over the pairs."""
        some = [{key: column[is_in] for key, column in table.items()} for table in tables]
        scores = list(map(score, some))
        return sign * (math.fsum(scores[1::2]) - math.fsum(scores[::2])) / len(pairs)

    dealt, group = (pairs[0][0]["id"], slice(None)) if groups is None else numpy.unique(groups, return_inverse=True)
    what = "rows" if groups is None else "groups of rows"
    require(len(dealt) >= FEWEST, f"{len(dealt)} {what} are too few: {FEWEST} are needed")
    parts = parts_of(rows, len(dealt))
    order = numpy.argsort(digests(dealt), kind="stable")  # as if by chance, and the same in any order of the rows
    part = (numpy.argsort(order, kind="stable") * parts // len(dealt))[group]
    shares = numpy.bincount(part) / rows

    values: list[float] = []  # what each part adds to the difference
    with warnings.catch_warnings(action="ignore"):  # a metric may warn of parts, which nobody chose
        better_by = difference(slice(None))
        with suppress(Error):  # a few rows may not be enough for a metric
            some = [difference(part % TRIALS == number) for number in range(TRIALS)]
            error = numpy.average(some, weights=numpy.bincount(part % TRIALS)) - better_by
            if abs(error) <= NEGLIGIBLE * numpy.std(some):  # it is a mean over rows
                values = [difference(part == number) for number in range(parts)]
        for number, share in enumerate([] if values else shares.tolist()):
            try:
                values.append((better_by - (1 - share) * difference(part != number)) / share)
            except Error as failure:  # it had a value for all rows
                reason = str(failure).partition(";")[0]
                raise Error(f"without {share:.0%} of the rows there is no score: {reason}") from failure
    variance = float(numpy.mean((numpy.array(values) - better_by) ** 2 / (1 / shares - 1)))
    half = t_quantile(parts - 1) * math.sqrt(variance)
    return OverRows(better_by, better_by - half, better_by + half, rows, None if groups is None else len(dealt), parts)


def parts_of(rows: int, count: int) -> int:
    """How many parts `count` rows or groups make: of about sqrt(count) each, as quantiles need (Shao and Wu 1989)."""
    return max(FEWEST, min(MOST, math.isqrt(count), MOST_ROWS // rows))
