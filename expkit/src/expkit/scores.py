"""Checks predictions, and computes scores from them: of a fold, of a run. Scores are finite floats."""

from __future__ import annotations

import json
import math
import numbers
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import store, tables
from expkit.config import Experiment
from expkit.errors import Error, require
from expkit.files import Broken
from expkit.project import display_path
from expkit.store import FoldRecord, Run

if TYPE_CHECKING:
    from expkit.config import Metric
    from expkit.store import Versions
    from expkit.tables import Columns


def score(name: str, metric: Metric, predictions: Columns) -> float:
    """The value of a metric.

    Raises:
        Error: it raises, or returns what is no finite number.
    """
    rows = len(next(iter(predictions.values())))
    try:
        result: Any = metric(predictions)
    except Exception as error:
        problem = f"raises {type(error).__name__}: {error}"
        if isinstance(error, KeyError):
            problem += f", of the columns {', '.join(predictions)}"
        raise Error(
            f"the metric {name} {problem}; the predictions are kept: fix it and run the command again"
        ) from error
    value = as_number(result)
    if value is None or not math.isfinite(value):
        what = f"returns {type(result).__name__} and not a number" if value is None else f"is {value} over {rows} rows"
        raise Error(f"the metric {name} {what}; fix it and run the command again")
    return float(value)


def fold_scores(name: str, metric: Metric, predictions: Columns) -> dict[int, float]:
    """The value of a metric for each fold, of predictions with a column "fold". Errors as of `score`."""
    import numpy

    parts = {key: column for key, column in predictions.items() if key != "fold"}
    folds = predictions["fold"]
    return {
        int(fold): score(name, metric, {key: column[folds == fold] for key, column in parts.items()})
        for fold in numpy.unique(folds)
    }


def mean_of_folds(name: str, metric: Metric, predictions: Columns) -> float:
    """The score with `score_over="folds"`. Arguments and errors as of `fold_scores`."""
    return statistics.fmean(fold_scores(name, metric, predictions).values())


def as_number(value: Any) -> float | None:
    """One number of Python, NumPy or a tensor as an int or a float; None for anything else."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1 or hasattr(value, "numel"):
        try:
            value = value.item()
        except (ValueError, RuntimeError, TypeError):
            return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf  # an integer beyond any float
    return int(value) if isinstance(value, numbers.Integral) else number


def plain_value(value: Any, what: str) -> Any:
    """A number, or what else JSON holds, as it comes back from the disk.

    Raises:
        Error: nan, inf, or what JSON does not hold.
    """
    number = as_number(value)
    try:
        return json.loads(json.dumps(value if number is None else number, allow_nan=False))
    except (ValueError, TypeError) as error:
        raise Error(f"{what}: it must be a finite number, or what JSON can hold, not {value!r}") from error


def scores(experiment: Experiment, predictions: Columns) -> dict[str, float]:
    """The value of every metric of an experiment. Errors as of `score`."""
    _ = experiment.made_by  # before one of them changes what it holds
    return {name: score(name, metric, predictions) for name, metric in experiment.metrics.items()}


def update(experiment: Experiment, versions: Versions, folder: Path) -> Run:
    """Bring the `cv.json` of a version up to date: with the folds that are done, and with the metrics as they are now.

    Raises:
        Error: a metric fails; predictions are missing.
    """
    with versions.locked():  # whoever comes last sees every fold
        run = store.read_run(folder)
        if not run.done or is_current(experiment, run):
            return run
        before = run.cv["made_by"] if run.cv is not None else {}
        changed = [name for name, what in experiment.made_by.items() if before.get(name, what) != what]
        try:
            summary = _summary(experiment, run)
        except Error:
            store.forget_cv(folder)  # those of another metric are no longer shown as this one's
            raise
        store.write_cv(folder, summary | _rule(experiment), run.done)
    if changed:
        print(f"scores computed again: the metric {', '.join(changed)} has changed", flush=True)
    return store.read_run(folder)


def is_current(experiment: Experiment, run: Run) -> bool:
    """Whether the experiment would compute the same scores now."""
    return run.cv is not None and {**run.cv, **_rule(experiment)} == run.cv


def _rule(experiment: Experiment) -> dict[str, Any]:
    """How an experiment scores its runs, as cv.json has it."""
    return {
        "metric": next(iter(experiment.made_by)),
        "greater_is_better": experiment.greater_is_better,
        "made_by": experiment.made_by,
        "score_over": experiment.score_over,
    }


def _summary(experiment: Experiment, run: Run) -> dict[str, Any]:
    parts = {number: fold.predictions() for number, fold in run.done.items()}
    whole = _together(run, list(parts.values()))
    by_fold = {number: scores(experiment, part) for number, part in parts.items()}
    over_all = scores(experiment, whole) if run.is_complete else {}
    return {
        "scores": {
            name: {
                "all": over_all.get(name),
                "mean": statistics.fmean(each[name] for each in by_fold.values()),
                "std": store.deviation([each[name] for each in by_fold.values()]),
                "folds": {str(number): each[name] for number, each in by_fold.items()},
            }
            for name in experiment.metrics
        },
        "rows": run.rows,
    }


def _together(run: Run, parts: list[Columns]) -> Columns:
    """The predictions of all folds. Checks that each row is there once: two processes do not see each other's rows."""
    import numpy

    names, what = list(parts[0]), f"{display_path(run.folder)}, the out-of-fold rows of all folds"
    require(
        all(set(part) == set(names) for part in parts),
        f"{what} do not have the same columns in every fold: {', '.join(names)}",
    )
    whole = {name: numpy.concatenate([part[name] for part in parts]) for name in names}
    tables.require_unique(whole["id"], what)
    return whole


PROBABILITY = "probability"


def class_columns(names: Sequence[str]) -> list[str]:
    """The columns with the probability of a class each; [] when there are not two."""
    found = [name for name in names if name.startswith(f"{PROBABILITY}_")]
    return found if len(found) > 1 else []


def checked(columns: Mapping[str, Any], what: str) -> tuple[tables.Columns, str]:
    """Predictions as they are stored, a row for each id; and the fingerprint of the ids.

    Args:
        columns: "id" and others, each (n,).
        what: they are, for messages.

    Raises:
        Error: there is no id, or one twice; lengths that differ; a shape such as (n, 1); nan, inf.
    """
    table = tables.columns(columns, what)
    if "id" not in table:
        raise Error(
            f"{what}: there is no column id, which says what row a prediction is for; there are {', '.join(table)}"
        )
    tables.require_finite(table, what)
    return table, tables.require_unique(table["id"], what)


def require_other_ids(ids: Any, done: Mapping[int, FoldRecord], what: str) -> None:
    """No row may be left out twice: its score would count twice, and one of the two has trained on it.

    Args:
        ids: of the rows that a fold leaves out, (n,).
        done: the other folds that are done.

    Raises:
        Error: an id is in another fold, too, or is of another type there.
    """
    for number, other in done.items():
        try:
            known = other.predictions(only="id")["id"]
        except (Broken, FileNotFoundError, KeyError):
            continue
        tables.require_same_kind(ids, known, what, f"of fold {number}")
        both = tables.common(known, ids)
        require(
            len(both) == 0,
            f"{what}: {len(both)} ids are in fold {number} too, such as {both[:1]}: a row may be in one fold only",
        )


def fold_summary(fold: FoldRecord, metric: str) -> str:
    """One line about a finished fold, with the metric that decides."""
    assert fold.result is not None
    score, best = fold.result["scores"].get(metric), fold.result["values"].get("best_epoch")
    scored = "trained" if score is None else f"{metric} {score:.4f}"
    epoch = f"  best epoch {best}" if best is not None and fold.number is not None else ""
    return f"{scored}{epoch}  {fold.result['seconds']:.1f} s"


def submission_summary(fold: store.FoldRecord) -> str:
    """One line about what exp.mode=sub has made."""
    assert fold.result is not None
    if store.SUBMISSION in fold.result["files"]:
        return f"predictions of the test set: {display_path(fold.folder / store.SUBMISSION)}"
    return f"trained on all rows, without fold.save_submission(...): {display_path(fold.folder)}"


def run_summary(run: Run) -> str:
    """One line with the scores of a run: the metric that decides, then the others."""
    parts = []
    for metric in run.metrics:
        score = run.score_of(metric)
        if score is not None:
            deviation = "" if score.std is None else f" ± {score.std:.4f}"
            parts.append(f"{metric} {score.value:.4f}{deviation}{f' ({score.other})' if score.other else ''}")
    marks = [mark for mark in run.marks if mark.startswith("mixed")]
    kind = "hold-out" if run.n_folds == 1 else "CV"
    noted = f"  ({', '.join(marks)})" if marks else ""
    return f"{kind} {'  '.join(parts)}  {len(run.done)}/{run.n_folds} folds{noted}"
