"""What came out of a fold or a run, on one line."""

from __future__ import annotations

from expkit import record
from expkit.paths import shown
from expkit.record import RunRecord


def describe(fold: record.FoldRecord, score: tuple[str, float | None]) -> str:
    """A finished fold on one line, with the metric that decides."""
    assert fold.result is not None
    metric, value = score
    scored = "trained" if value is None else f"{metric} {value:.4f}"
    best = fold.result["values"].get("best_epoch")
    epoch = f"  best epoch {best}" if best is not None and fold.number is not None else ""
    return f"{scored}{epoch}  {fold.result['seconds']:.1f} s"


def submission_of(fold: record.FoldRecord) -> str:
    """What exp.mode=sub has made, on one line."""
    assert fold.result is not None
    if record.SUBMISSION in fold.result["files"]:
        return f"predictions of the test set: {shown(fold.folder / record.SUBMISSION)}"
    return f"trained on all rows, without fold.save_submission(...): {shown(fold.folder)}"


def say_score(run: RunRecord) -> str:
    """The scores of a run on one line: the metric that decides, and the others."""
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
