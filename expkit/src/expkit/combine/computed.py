"""A blend as its runs make it: computed, and held against one that was computed before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expkit import record
from expkit.combine import blending
from expkit.combine.blending import Blended, score_of
from expkit.combine.columns import most_likely
from expkit.combine.mean import Mean
from expkit.combine.members import LABEL, members_of
from expkit.combine.rows import predictions
from expkit.combine.source import choose, mean_of
from expkit.config.load import Loaded, load_experiment
from expkit.errors import Error, require
from expkit.record import OOF, TEST, FoldRecord, RunRecord, parent_marks
from expkit.tables import differing

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns


@dataclass(frozen=True)
class Computed:
    """A blend before it is written.

    Attributes:
        folds: the fold that each of its rows is left out of, (n,).
        scores: every metric, of each fold.
        test: the predictions of the test set; None: not every run has some.
    """

    loaded: Loaded
    blended: Blended
    folds: numpy.ndarray
    scores: dict[int, dict[str, float]]
    test: Columns | None
    notes: list[str]

    def fold(self, number: int) -> Columns:
        """The rows of a fold."""
        return {name: column[self.folds == number] for name, column in self.blended.table.items()}


def computed(runs: Sequence[RunRecord], method: str) -> Computed:
    """Compute a blend of runs. Writes nothing.

    Raises:
        Error: the runs do not fit each other, or the metric fails.
    """
    members = members_of(runs)
    loaded = load_experiment(runs[0].scored_by)
    made = blending.blended(members, method, loaded.experiment)
    notes = [
        f"{run}: in {rows} rows its prediction is not its likeliest class, which a blend takes"
        for run, rows in members.unlikely.items()
    ]
    if members.other_folds:
        notes.append(f"{', '.join(members.other_folds)}: other folds than {runs[0].title}, whose folds the blend has")
    metric, own = runs[0].metric or "", loaded.experiment.made_by
    known = [(run.title, (run.cv or {}).get("made_by", own).get(metric)) for run in runs]
    if others := [title for title, what in known if what != own.get(metric)]:
        notes.append(f"{', '.join(others)}: scored by another {metric} than {loaded.name} has now")
    test = None
    try:
        test = _test(runs, method, made.weights)
    except Error as error:
        notes.append(f"no test predictions: {error}")
    found = Computed(loaded, made, members.folds, {}, test, notes)
    names = list(loaded.experiment.metrics)
    for number in sorted(runs[0].done):
        found.scores[number] = {name: score_of(loaded.experiment, found.fold(number), name) for name in names}
    for name in names:
        score_of(loaded.experiment, made.table, name)  # fails before anything is written
    return found


def _test(runs: Sequence[RunRecord], method: str, weights: Sequence[float]) -> Columns:
    """The test predictions of the runs, blended: each number that all have; a label is the likeliest class."""
    total = Mean()
    label = None
    for run, weight in zip(runs, weights, strict=True):
        source = choose(run, None, partial=False)
        mean = mean_of([source])
        numbers = {name: mean.column(name)[0] for name in mean.names if name in mean.numbers}
        if LABEL in mean.names and LABEL not in numbers:
            label = mean.dtype(LABEL)
        if method == blending.RANK:
            numbers = {name: blending.ranks(column) for name, column in numbers.items()}
        require(bool(numbers), f"{run.title} has no number in its test predictions")
        total.add({"id": mean.ids} | numbers, run.title, weight)
    table = {"id": total.ids} | total.numbers
    if label is not None and method != blending.RANK:
        table[LABEL] = most_likely(table, label, LABEL)
    return table


def again(run: RunRecord) -> tuple[list[str], list[str]]:
    """Compute a blend again from its runs as they are now. Writes nothing.

    Returns:
        what differs, a line each; and what may have caused it.

    Raises:
        Error: one of its runs is gone, or they no longer fit each other.
    """
    import numpy

    assert run.recipe is not None
    recipe, folders = run.recipe, [parent.folder(run.folder.parents[1]) for parent in run.recipe.parents]
    gone = [parent.run for parent, folder in zip(recipe.parents, folders, strict=True) if folder is None]
    require(not gone, f"{run.title} cannot be made again: {', '.join(gone)} is gone")
    made = computed([record.read_run(folder) for folder in folders if folder is not None], recipe.method)
    differences = []
    if not numpy.allclose(made.blended.weights, recipe.weights, rtol=0, atol=1e-9):
        differences.append(f"weights {_worded(recipe.weights)} → {_worded(made.blended.weights)}")
    for number, fold in run.done.items():
        differences += _compare(fold, OOF, made.fold(number))
    if run.full is not None and run.full.result is not None and made.test is not None:
        differences += _compare(run.full, TEST, made.test)
    elif (run.full is None) != (made.test is None):
        differences.append("test predictions: they are there only " + ("now" if run.full is None else "in the record"))
    reasons = parent_marks(run)
    if recipe.made_by != made.loaded.experiment.made_by:
        reasons.append(f"the metric of {recipe.scored_by} has changed")
    return differences, reasons or ["nothing that is recorded differs: other packages, or another processor"]


def _compare(fold: FoldRecord, name: str, new: Columns) -> list[str]:
    old = predictions(fold, name)
    if list(old) != list(new) or len(old["id"]) != len(new["id"]):
        return [f"{fold.title}: other columns or rows"]
    differs = differing(old, new)
    return [f"{fold.title}: {differs.sum()} of {len(differs)} rows differ"] if differs.any() else []


def _worded(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:.4f}" for weight in weights)
