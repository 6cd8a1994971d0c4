"""Weights for the members of a blend: chosen so that the blend scores best on the rows that they are fitted on.

`hill`: greedy selection with replacement, Caruana, Niculescu-Mizil, Crew, Ksikes: Ensemble selection from libraries of
models, ICML 2004. `fit`: non-negative weights with the sum 1, by SciPy's SLSQP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

    Loss = Callable[[numpy.ndarray], float]  # of predictions (rows, columns); lower is better

ROUNDS = 30  # members that `hill` adds, at most
PATIENCE = 3  # rounds without a better blend, after which it stops
STEPS = (1e-2, 1e-6)  # of `fit`, for derivatives: the first sees a metric of ranks or classes move, the second is exact


def hill(members: numpy.ndarray, loss: Loss) -> numpy.ndarray:
    """Weights by greedy selection: in each round the member is added whose addition scores best; the best round counts.

    Args:
        members: predictions, (members, rows, columns).
        loss: what to make small.

    Returns:
        (members,), with the sum 1: how often each was chosen.
    """
    import numpy

    total, chosen = numpy.zeros(members.shape[1:]), numpy.zeros(len(members))
    best, weights, since = numpy.inf, chosen, 0
    for count in range(1, ROUNDS + 1):
        losses = [loss((total + member) / count) for member in members]
        place = int(numpy.argmin(losses))
        total += members[place]
        chosen[place] += 1
        since += 1
        if losses[place] < best:
            best, weights, since = losses[place], chosen / count, 0
        if since == PATIENCE:
            break
    return weights


def fit(members: numpy.ndarray, loss: Loss) -> numpy.ndarray:
    """Weights that are not negative and have the sum 1; never worse than equal ones, or than a member alone.

    Arguments and result as of `hill`.
    """
    import numpy
    from scipy.optimize import minimize

    def loss_of(weights: numpy.ndarray) -> float:
        return loss(numpy.tensordot(_normal(weights), members, axes=1))

    start = numpy.full(len(members), 1 / len(members))
    candidates = [start, *numpy.eye(len(members))]
    losses = [loss_of(one) for one in candidates]
    scale = max(losses) - min(losses) or 1.0
    best = candidates[int(numpy.argmin(losses))]
    for step in STEPS:
        found = minimize(
            lambda weights: loss_of(weights) / scale,
            start if step == STEPS[0] else best,
            method="SLSQP",
            bounds=[(0, 1)] * len(members),
            constraints=[{"type": "eq", "fun": lambda weights: weights.sum() - 1}],
            options={"eps": step, "ftol": 1e-7, "maxiter": 12},
        )
        candidates.append(_normal(found.x))
        losses.append(loss_of(candidates[-1]))
        best = candidates[int(numpy.argmin(losses))]
    return numpy.asarray(best)


def _normal(weights: numpy.ndarray) -> numpy.ndarray:
    import numpy

    positive = numpy.clip(weights, 0, None)
    return (
        numpy.asarray(positive / positive.sum()) if positive.sum() > 0 else numpy.full(len(weights), 1 / len(weights))
    )


METHODS: dict[str, Callable[[numpy.ndarray, Loss], numpy.ndarray]] = {"hill": hill, "fit": fit}
