"""What of a run goes into a submission or a blend: the test predictions of its folds, or the training on all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from expkit import record
from expkit.codehash import same_code
from expkit.combine.mean import Mean
from expkit.combine.rows import predictions
from expkit.errors import Error, require
from expkit.record import SUBMISSION, TEST, FoldRecord, RunRecord

LONGEST = 140  # characters of what a submission is called
FOLDS, FULL = "folds", "full"


@dataclass(frozen=True)
class Source:
    """What of a run goes into a submission.

    Attributes:
        kind: "folds", or "full": the training on all rows.
        parts: the folds whose test predictions are averaged, or that training.
    """

    run: RunRecord
    kind: str
    parts: list[FoldRecord]

    def __str__(self) -> str:
        if self.run.recipe and self.kind == FULL:
            return f"{self.run.title}: blend of the test predictions of {len(self.run.recipe.parents)} runs"
        if self.kind == FULL:
            return f"{self.run.title}: trained on all rows, {record.fold_name(None)}/{self.file}"
        numbers = ", ".join(str(fold.number) for fold in self.parts)
        folds = f"folds {numbers}" if len(self.parts) > 1 else f"fold {numbers}"
        return f"{self.run.title}: mean of the test predictions of {folds}"

    @property
    def file(self) -> str:
        """The name of the file with the predictions."""
        return SUBMISSION if _lacks(TEST, self.parts[0]) else TEST

    @property
    def marks(self) -> list[str]:
        """How the training on all rows differs from the folds, whose score the run has."""
        first = next(iter(self.run.done.values()), None)
        if self.kind != FULL or first is None or first.result is None or self.parts[0].result is None:
            return []
        one, other = first.result, self.parts[0].result
        differ = {"code": not same_code(one["code"], other["code"]), "data": one["data"] != other["data"]}
        return [f"trained on all rows with other {what} than the folds" for what, differs in differ.items() if differs]

    def about(self, marks: Sequence[str]) -> dict[str, Any]:
        """What it is, as JSON has it."""
        score, info = self.run.score(), self.run.info or {}
        return {
            "run": self.run.title,
            "version": record.version_number(self.run.folder),
            "id": info.get("id"),
            "from": self.kind,
            "folds": [fold.number for fold in self.parts] if self.kind == FOLDS else [],
            "results": [fold.checksum for fold in self.parts],
            "metric": self.run.metric,
            "score": score.value if score else None,
            "std": score.std if score else None,
            "marks": list(marks),
            "git": self.parts[0].result["git"] if self.parts[0].result else None,
        }


def choose(run: RunRecord, kind: str | None, partial: bool) -> Source:
    """What of a run goes into a submission.

    Args:
        kind: "folds" or "full"; None: the folds when every one has test predictions, else the training on all rows.
        partial: be content with the folds that have some.

    Raises:
        Error: there is none; the message says what to do.
    """
    tested = [fold for fold in run.done.values() if not _lacks(TEST, fold)]
    is_whole = run.is_complete and len(tested) == run.n_folds
    full = run.full if run.full and not (_lacks(TEST, run.full) and _lacks(SUBMISSION, run.full)) else None
    if kind != FULL and (is_whole or (partial and tested)):
        return Source(run, FOLDS, tested)
    if kind != FOLDS and full is not None:
        return Source(run, FULL, [full])
    if run.recipe:
        raise Error(
            f"{run.title} is a blend without test predictions: repeat `exp blend` when all of its runs have them"
        )
    if kind == FULL:
        raise Error(f"{run.title} has no test predictions of a training on all rows: train it with exp.mode=sub")
    if tested:
        what = f"{len(tested)} of {run.n_folds} folds have test predictions"
        raise Error(f"{run.title}: {what}: train the others (exp.fold=null), or --partial takes the mean of these")
    raise Error(
        f"{run.title} has no test predictions: call fold.save_test(...) in train.py and train the folds again "
        "(overwrite=true), or train on all rows (exp.mode=sub)"
    )


def _lacks(name: str, fold: FoldRecord) -> bool:
    return fold.result is None or name not in fold.result["files"]


def mean_of(sources: Sequence[Source]) -> Mean:
    """The test predictions of the parts of each source, and then of the sources."""
    mean = Mean()
    for source in sources:
        for fold in source.parts:
            title = f"{source.run.title}, {fold.title}"
            require(
                source.file == TEST,
                f"{title} has no test predictions to average: call fold.save_test(...) with exp.mode=sub, too",
            )
            mean.add(predictions(fold, TEST), title, 1 / len(source.parts))
    return mean


def title_of(sources: Sequence[Source], is_seeds: bool = False) -> str:
    """What a submission is called, from what it is made of."""
    runs = sorted((source.run for source in sources), key=lambda run: len(run.name)) if is_seeds else []
    runs = runs or [source.run for source in sources]
    title = runs[0].title.replace("/", "_")
    others = [run.name if run.experiment == runs[0].experiment else run.title.replace("/", "_") for run in runs[1:]]
    if is_seeds:
        title += f"_{len(runs)}-seeds"
    elif len("+".join([title, *others])) <= LONGEST:
        title = "+".join([title, *others])
    elif others:
        title += f"+{len(others)}-more"
    kinds = {source.kind for source in sources}
    return f"{title[: LONGEST - 10]}_{kinds.pop() if len(kinds) == 1 else 'mixed'}"
