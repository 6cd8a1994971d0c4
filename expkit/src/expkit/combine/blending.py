"""What a blend of runs predicts and how good it is: the weights, and an honest score of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expkit.combine.members import Members
from expkit.combine.weights import METHODS
from expkit.config.experiment import Experiment
from expkit.errors import Error
from expkit.train.scores import mean_of_folds, score

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

MEAN, RANK = "mean", "rank"
ALL = (MEAN, RANK, *METHODS)
FIT_ROWS = 20_000  # that weights are fitted on, at most: more cost minutes with a metric that sorts
PARTS = 5  # into which the rows of a single fold are divided, to fit weights on other rows than are scored


@dataclass(frozen=True)
class Blended:
    """A blend in memory.

    Attributes:
        table: id, target, ... and what is predicted; each row by weights that were fitted on the rows of other folds.
        weights: fitted on all folds, for the test set: (runs,), with the sum 1.
        by_part: those that the rows of each fold were predicted by.
        flattering: the score by `weights` of the rows that they are fitted on; None where no weights are fitted.
        fitted_on: how many rows the weights are fitted on; None where none are fitted.
    """

    table: Columns
    weights: list[float]
    by_part: dict[int, list[float]]
    flattering: float | None
    fitted_on: int | None


def blended(members: Members, method: str, experiment: Experiment) -> Blended:
    """Blend out-of-fold predictions.

    Args:
        method: "mean"; "rank": the mean of the ranks, from 0 to 1, which are no probabilities: no class is derived from
            them; "hill" or "fit": weights that score best, by `experiment.metric`.

    Raises:
        Error: the metric fails on what a blend has.
    """
    import numpy

    count = len(members.runs)
    equal = numpy.full(count, 1 / count)
    parts = members.folds
    if method in METHODS and len(numpy.unique(parts)) == 1:
        parts = numpy.random.default_rng(0).permutation(len(parts)) % PARTS
    numbers = [int(part) for part in numpy.unique(parts)]
    weights, by_part, picked = equal, {part: equal for part in numbers}, None
    if method in METHODS:
        picked = _some(len(parts))
        weights, by_part = _fitted(members, method, experiment, parts, picked)
    table, flattering = _apply(members, weights, by_part, parts, is_rank=method == RANK)
    whole = members.whole(table, has_label=method != RANK)
    in_sample = members.whole(flattering) if flattering else whole
    return Blended(
        whole,
        weights.tolist(),
        {part: one.tolist() for part, one in by_part.items()},
        None if picked is None else score_of(experiment, in_sample, folds=members.folds),
        None if picked is None else len(picked),
    )


def score_of(experiment: Experiment, table: Columns, name: str | None = None, folds: Any = None) -> float:
    """A metric, by default the one that decides.

    Args:
        folds: that the rows are left out of, (n,): the score is as `experiment.score_over` says. None: over the rows.

    Raises:
        Error: it fails, perhaps on a column that a blend has not.
    """
    name = name or next(iter(experiment.metrics))
    try:
        if folds is not None and experiment.score_over == "folds":
            return mean_of_folds(name, experiment.metrics[name], table | {"fold": folds})
        return score(name, experiment.metrics[name], table)
    except Error as error:
        if isinstance(error.__cause__, KeyError):
            raise Error(
                f"the metric {name} needs {error.__cause__}, but a blend of these runs has only {', '.join(table)}"
            ) from error
        raise


def _some(rows: int) -> numpy.ndarray:
    """Indices of rows to fit weights on: all, or as many by chance, the same ones every time."""
    import numpy

    if rows <= FIT_ROWS:
        return numpy.arange(rows)
    return numpy.sort(numpy.random.default_rng(0).choice(rows, FIT_ROWS, replace=False))


def _fitted(
    members: Members, method: str, experiment: Experiment, parts: numpy.ndarray, picked: numpy.ndarray
) -> tuple[numpy.ndarray, dict[int, numpy.ndarray]]:
    """The weights for the test set, and for the rows of each part those that the other parts say."""
    import numpy

    sample, where = members.sample(picked), parts[picked]
    sign = -1.0 if experiment.greater_is_better else 1.0

    def weights_of(is_fitted_on: numpy.ndarray) -> numpy.ndarray:
        kept = {name: column[picked[is_fitted_on]] for name, column in members.kept.items()}
        folds = members.folds[picked[is_fitted_on]]

        def loss(predicted: numpy.ndarray) -> float:
            return sign * score_of(experiment, members.whole(members.named(predicted), kept), folds=folds)

        found = METHODS[method](sample[:, is_fitted_on], loss).round(6)  # other digits depend on the processor
        return numpy.asarray(found / found.sum())

    by_part = {int(part): weights_of(where != part) for part in sorted(set(parts.tolist()))}
    return weights_of(where == where), by_part


def _apply(
    members: Members, weights: numpy.ndarray, by_part: dict[int, numpy.ndarray], parts: numpy.ndarray, is_rank: bool
) -> tuple[Columns, Columns]:
    """The blended columns by the weights of each row's part; and, where those differ, by `weights`."""
    import numpy

    table, place = numpy.array([by_part[part] for part in sorted(by_part)]), numpy.searchsorted(sorted(by_part), parts)
    differ = not (table == weights).all()
    honest: Columns = {}
    flattering: Columns = {}
    for number, columns in enumerate(members.tables(members.blended)):
        own = table[:, number][place]
        for name, column in columns.items():
            values = ranks(column) if is_rank else column.astype(float)
            honest[name] = honest.get(name, 0.0) + (own if values.ndim == 1 else own[:, None]) * values
            if differ:
                flattering[name] = flattering.get(name, 0.0) + weights[number] * values
    return honest, flattering


def ranks(column: numpy.ndarray) -> numpy.ndarray:
    """The rank of each value, above 0 to 1; equal values have the mean of their ranks."""
    import numpy
    from scipy.stats import rankdata

    return numpy.asarray(rankdata(column, axis=0) / len(column))
