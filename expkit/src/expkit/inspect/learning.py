"""Learning curves of a run: which of its metrics shows how it has learned, and a sparkline of it for each fold."""

from __future__ import annotations

import math
import re
from statistics import fmean
from typing import Any

from expkit.config.experiment import sounds_like_error
from expkit.inspect.curve import rows_of
from expkit.inspect.loaded import LoadedRun
from expkit.record import RunRecord
from expkit.train.history import AXES

Point = tuple[float, float]

MOST = 2000  # points of a curve: more are not seen
WIDEST = 60  # characters of a sparkline
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
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


def sparklines(curve: dict[str, Any] | None, width: int, ascii_only: bool = False) -> list[str]:
    """The curves that `last_curves` has found, a line per fold, all over the same range; [] when there are none.

    Args:
        width: of the terminal, in characters.
        ascii_only: whether the terminal has no other characters.
    """
    if curve is None:
        return []
    folds, better, levels = curve["folds"], curve["greater_is_better"], ASCII_LEVELS if ascii_only else LEVELS
    values = [y for points in folds.values() for _, y in points]
    low, high = min(values), max(values)
    labels = {fold: f"fold {fold}: {_best_and_last(points, better)}  " for fold, points in folds.items()}
    margin = max(map(len, labels.values()))
    size = math.ceil(max(map(len, folds.values())) / max(1, min(WIDEST, width - margin)))  # points per character
    lines = [f"{curve['metric']} by {curve['axis']}: {low:#.4g} ({levels[0]}) to {high:#.4g} ({levels[-1]})"]
    for fold, points in folds.items():
        means = [fmean(y for _, y in points[first : first + size]) for first in range(0, len(points), size)]
        drawn = "".join(levels[round((mean - low) / (high - low or 1) * (len(levels) - 1))] for mean in means)
        lines.append(f"{labels[fold]:{margin}}{drawn}")
    return lines


def _best_and_last(points: list[Point], better: bool | None) -> str:
    marked = {"last": points[-1]}
    if better is not None:
        marked = {"best": (max if better else min)(points, key=lambda point: point[1]), **marked}
    return ", ".join(f"{name} {y:#.4g} at {x:.15g}" for name, (x, y) in marked.items())


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
