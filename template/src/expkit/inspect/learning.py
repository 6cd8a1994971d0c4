"""Which curves of a run show how it has learned, and which of their values are the better ones."""

from __future__ import annotations

import math
import re
from typing import Any

from expkit.config.experiment import sounds_like_error
from expkit.inspect.curve import rows_of
from expkit.inspect.loaded import LoadedRun
from expkit.record import RunRecord
from expkit.train.history import AXES

Point = tuple[float, float]

MOST = 2000  # points of a curve: more are not seen
# What a name says when a higher value is better.
_GAINS = (
    r"(^|_)(acc|accuracy|auc|auroc|auprc|ap|map|f1|precision|recall|sensitivity|specificity|r2|kappa|mcc|dice|m?iou|"
    r"jaccard|ndcg|mrr|bleu|psnr|ssim|correlation|pearson|spearman|reward|score)(_|$)"
)


def last_curves(run: LoadedRun) -> dict[str, Any] | None:
    """The last metric of the folds' epochs, else of their steps; None: no fold has two points.

    Returns:
        {"axis": "epoch", "metric": "valid_loss", "greater_is_better": False, "folds": {"0": [(1, 0.5), ...], ...}}.
        Of a blank there is no point; of more than 2,000 points, the lowest and the highest of each part.
    """
    histories = {str(fold): _by_axis(run.history(fold)) for fold in run.folds}
    chosen = next((found for parts in histories.values() if (found := _last(parts))), None)
    if chosen is None:
        return None
    axis, metric = chosen
    curves = {fold: _points(parts.get(axis, {}), axis, metric) for fold, parts in histories.items()}
    return {
        "axis": axis,
        "metric": metric,
        "greater_is_better": direction(metric, run.record),
        "folds": {fold: thinned(points) for fold, points in curves.items() if points},
    }


def direction(name: str, run: RunRecord) -> bool | None:
    """Whether a higher value of a column of history.csv is better; None: its name does not say it.

    A name with the run's own metric in it, as valid_rmse, has the direction of that.
    """
    name, metric = (re.sub(r"[\W_]+", "_", each).lower() for each in (name, run.metric or ""))
    if metric and f"_{metric}_" in f"_{name}_":
        return run.greater_is_better
    if "neg" in name.split("_"):
        return None
    if sounds_like_error(name):
        return False
    return True if re.search(_GAINS, name) else None


def thinned(points: list[Point]) -> list[Point]:
    """At most `MOST` points, in their order: the first, the last, and the lowest and the highest of each part."""
    if len(points) <= MOST:
        return points
    size = math.ceil(len(points) / (MOST // 2 - 1))
    kept = {0, len(points) - 1}
    for first in range(0, len(points), size):
        part = range(len(points))[first : first + size]
        kept |= {end(part, key=lambda place: points[place][1]) for end in (min, max)}
    return [points[place] for place in sorted(kept)]


def _by_axis(history: dict[str, list[float | None]]) -> dict[str, dict[str, list[float | None]]]:
    """The rows of epochs and those of steps, by their axis; those that have neither are numbered."""
    parts = {axis: rows for axis in AXES if (rows := rows_of(history, axis))}
    length = max(map(len, history.values()), default=0)
    return parts or {"row": {**history, "row": list(range(1, length + 1))}}


def _last(parts: dict[str, dict[str, list[float | None]]]) -> tuple[str, str] | None:
    """Axis and name of the last metric that has two points at least."""
    for axis, columns in parts.items():
        for metric in reversed(columns):
            if metric not in ("row", *AXES) and len(_points(columns, axis, metric)) > 1:
                return axis, metric
    return None


def _points(columns: dict[str, list[float | None]], axis: str, metric: str) -> list[Point]:
    pairs = zip(columns.get(axis, ()), columns.get(metric, ()), strict=False)
    return [
        (x, y)
        for x, y in pairs
        if x is not None and y is not None and abs(x) < 1e300 and abs(y) < 1e300  # neither nan nor inf
    ]
