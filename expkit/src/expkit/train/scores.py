"""Scores from predictions: of a fold when it is trained, of a run from its folds; never anything that is no number."""

from __future__ import annotations

import json
import math
import numbers
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import record, tables
from expkit.config import Experiment
from expkit.errors import Error
from expkit.files import Broken
from expkit.paths import shown
from expkit.record import FoldRecord, RunRecord

if TYPE_CHECKING:
    import numpy

    from expkit.config import Metric
    from expkit.rundir import Versions
    from expkit.tables import Columns


def score(name: str, metric: Metric, predictions: Columns) -> float:
    """What a metric says about predictions.

    Raises:
        Error: it raises, or returns what is no finite number.
    """
    rows = len(next(iter(predictions.values())))
    try:
        result: Any = metric(predictions)
    except Exception as error:
        problem = f"raises {type(error).__name__}: {error}"
        raise Error(
            f"the metric {name} {problem}; the predictions are kept: fix it and run the command again"
        ) from error
    value = as_number(result)
    if value is None:
        kind = type(result).__name__
        raise Error(f"the metric {name} returns {kind} and not a number; fix it and run the command again")
    if not math.isfinite(value):
        raise Error(f"the metric {name} is {value} over {rows} rows; fix it and run the command again")
    return value


def fold_scores(name: str, metric: Metric, predictions: Columns) -> dict[int, float]:
    """What a metric says about each fold of predictions that have a column "fold". Errors as of `score`."""
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
    """A float of what is one number: of Python, NumPy, a tensor; None for anything else."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1 or hasattr(value, "numel"):
        try:
            value = value.item()
        except (ValueError, RuntimeError, TypeError):
            return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf  # an integer beyond any float


def plain_value(value: Any, what: str) -> Any:
    """A number, or what else JSON holds, as it comes back from the disk.

    Raises:
        Error: nan, inf, or what JSON does not hold.
    """
    number = as_number(value)
    if number is not None and type(value) not in (int, float):
        value = int(number) if number.is_integer() and "int" in str(getattr(value, "dtype", "")) else number
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, TypeError) as error:
        raise Error(f"{what}: it must be a finite number, or what JSON can hold, not {value!r}") from error


def scores(experiment: Experiment, predictions: Columns) -> dict[str, float]:
    """Every metric of an experiment. Errors as of `score`."""
    _ = experiment.made_by  # before one of them changes what it holds
    return {name: score(name, metric, predictions) for name, metric in experiment.metrics.items()}


def update(experiment: Experiment, versions: Versions, folder: Path) -> RunRecord:
    """Bring the `cv.json` of a version up to date: with the folds that are done, and with the metrics as they are now.

    Raises:
        Error: a metric fails; predictions are missing.
    """
    run = record.read_run(folder)
    if not run.done or is_current(experiment, run):
        return run
    before = run.cv["made_by"] if run.cv is not None else {}
    changed = [name for name, what in experiment.made_by.items() if before.get(name, what) != what]
    with versions.locked():  # whoever comes last sees every fold
        run = record.read_run(folder)
        try:
            summary = _summary(experiment, run)
        except Error:
            record.forget_cv(folder)  # those of another metric are no longer shown as this one's
            raise
        record.write_cv(folder, summary | _about(experiment), run.done)
    if changed:
        print(f"scores computed again: the metric {', '.join(changed)} has changed", flush=True)
    return record.read_run(folder)


def is_current(experiment: Experiment, run: RunRecord) -> bool:
    """Whether the scores of a run are what the experiment would compute now."""
    return run.cv is not None and all(run.cv[key] == value for key, value in _about(experiment).items())


def _about(experiment: Experiment) -> dict[str, Any]:
    """How an experiment scores its runs."""
    made = experiment.made_by
    about = {"metric": next(iter(made)), "greater_is_better": experiment.greater_is_better, "made_by": made}
    return about | {"score_over": experiment.score_over}


def _summary(experiment: Experiment, run: RunRecord) -> dict[str, Any]:
    parts = {number: _predictions(fold) for number, fold in run.done.items()}
    whole = _together(list(parts.values())) if run.is_complete else {}
    _require_each_row_once(run, [part["id"] for part in parts.values()], whole.get("id"))
    by_fold = {number: scores(experiment, part) for number, part in parts.items()}
    together = scores(experiment, whole) if whole else {}
    return {
        "scores": {
            name: {
                "all": together.get(name),
                "mean": statistics.fmean(each[name] for each in by_fold.values()),
                "std": record.deviation([each[name] for each in by_fold.values()]),
                "folds": {str(number): each[name] for number, each in by_fold.items()},
            }
            for name in experiment.metrics
        },
        "rows": run.rows,
    }


def _require_each_row_once(run: RunRecord, ids: list[numpy.ndarray], together: numpy.ndarray | None) -> None:
    """Two processes may have trained two folds at once, so that neither saw the rows of the other."""
    import numpy

    kinds = {one.dtype.kind for one in ids}
    if len(ids) > 1 and (len(kinds) == 1 or kinds == set("iu")):
        together = numpy.concatenate(ids) if together is None else together
        tables.require_unique(together, f"{shown(run.folder)}, the out-of-fold rows of all folds")


def _predictions(fold: FoldRecord) -> Columns:
    try:
        return fold.predictions()
    except (Broken, FileNotFoundError) as error:
        raise Error(f"{shown(fold.folder / record.OOF)}: {error}") from error


def _together(parts: list[Columns]) -> Columns:
    import numpy

    names = list(parts[0])
    if any(set(part) != set(names) for part in parts):
        raise Error(f"the out-of-fold predictions do not have the same columns in every fold: {', '.join(names)}")
    return {name: numpy.concatenate([part[name] for part in parts]) for name in names}
