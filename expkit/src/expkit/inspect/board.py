"""The board: every run under output/, as rows to filter, to sort and to print."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expkit.config.values import SplitMethod, flat
from expkit.inspect.noise import ratio_of_rows
from expkit.notes import Notes, read_notes
from expkit.paths import output_dir
from expkit.record import COPY, RunRecord, marks_of, read_run, run_folders

MOST_ROWS = 50  # that a person reads; a file or another program gets all


@dataclass(frozen=True)
class Row:
    """One run, as the board shows it.

    Attributes:
        experiment, run: the names of its folders below output/.
        folder: of the version of the run that counts, a Path.
        metric: the name of the metric that decides; None while it is not known.
        greater_is_better: whether a higher score is better.
        score: the CV score, as `record.Score.value`.
        std: standard deviation of the scores of the folds (n - 1).
        folds_done, n_folds: how many folds are done, and how many there are.
        rows: how many out-of-fold rows the score covers.
        seed: exp.seed; for grouped runs, how many seeds, as text.
        seconds: the time of all folds together.
        finished: when the last fold was done, ISO 8601 in UTC.
        commit: the first digits of the git commit, with * when the working tree differed from it.
        marks: what to know about the score: folds are missing, differ in code or data, files are broken.
        other_metrics: the scores of the other metrics, by name, and the means of test scores that the folds recorded.
        recorded: the configuration, {"exp": {"seed": 42, ...}}.
        left_out: by the number of the fold, a hash of the ids that it has left out.
        targets: the same, a hash of their targets; None: none were saved.
        made_by: what the metric did, as `RunRecord.made_by`; None: not known.
        data: hashes of the files of input/ that the folds have been trained with.
        failure: why the last training of a fold has failed, one line; if several have, of the first fold.
        notes: what was noted on the run; empty for grouped runs.
        fold_scores: by the number of the fold, the score of each that is done; for grouped runs, the means.
        ratio: rows left out, divided by rows trained on, as `noise.ratio_of_rows`; None for a single fold.
        versus_best: "best", "could be noise", "worse" or "not comparable", from `paired.against_best`; None if it was
            not asked.
        versus_runs: how many runs that takes into account.
        id: of the version of the run.
        differs: the marks for which it does not compare: those of `with_other_rows`, and "copy of ...".
    """

    experiment: str
    run: str
    folder: Path
    metric: str | None = None
    greater_is_better: bool = True
    score: float | None = None
    std: float | None = None
    folds_done: int = 0
    n_folds: int | None = None
    rows: int = 0
    seed: int | str | None = None
    seconds: float | None = None
    finished: str | None = None
    commit: str | None = None
    marks: tuple[str, ...] = ()
    other_metrics: dict[str, float] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    targets: dict[int, str | None] = field(default_factory=dict)
    made_by: str | None = None
    data: frozenset[str | None] = frozenset()
    failure: str | None = None
    notes: Notes = Notes("")
    fold_scores: dict[int, float] = field(default_factory=dict)
    ratio: float | None = None
    versus_best: str | None = None
    versus_runs: int | None = None
    id: str | None = None
    differs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """ "<experiment>/<run>"."""
        return f"{self.experiment}/{self.run}"

    @property
    def split(self) -> str | None:
        """Which rows all folds leave out, as one hash: equal ones are equal folds. None while folds are missing."""
        is_whole = len(self.left_out) == self.n_folds
        return hashlib.sha256(repr(sorted(self.left_out.items())).encode()).hexdigest()[:16] if is_whole else None

    @property
    def leaderboard(self) -> float | None:
        """The score on the leaderboard, as noted."""
        score: float | None = self.notes.last("leaderboard")
        return score

    @property
    def verdict(self) -> str | None:
        """ "kept" or "dropped", as noted."""
        verdict: str | None = self.notes.last("verdict")
        return verdict

    @property
    def tags(self) -> list[str]:
        """The words that it was tagged with, as noted."""
        return self.notes.tags

    @property
    def note(self) -> str | None:
        """What was noted last in words."""
        return self.notes.texts[-1] if self.notes.texts else None

    @property
    def is_failed(self) -> bool:
        """Whether nothing has come of it: no fold is done, and the last training has failed."""
        return self.failure is not None and not self.folds_done

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, {"exp.seed": 42, ...}."""
        return flat(self.recorded)

    def value(self, key: str) -> Any:
        """One of `values`; None: the run has no such key.

        Args:
            key: a column such as "score", the name of a metric, or a key of the configuration such as "exp.seed".
        """
        if key in COLUMNS:
            return getattr(self, key)
        return self.score if key == self.metric else self.values().get(key)

    def values(self) -> dict[str, Any]:
        """The columns of the board, then the other metrics, then the configuration."""
        columns = {key: getattr(self, key) for key in COLUMNS}
        return columns | {"marks": ", ".join(self.marks)} | self.other_metrics | self.config


COLUMNS = (
    "experiment",
    "run",
    "metric",
    "score",
    "std",
    "folds_done",
    "n_folds",
    "rows",
    "split",
    "seed",
    "seconds",
    "finished",
    "commit",
    "leaderboard",
    "verdict",
    "tags",
    "note",
    "failure",
    "versus_best",
    "versus_runs",
)


def read_board(output: Path | None = None) -> list[Row]:
    """Every run, in the order of the folders, without debug runs. Runs are read from the disk, nothing is written.

    Of the copies of a run that has another name now, or is gone, the first is the run, and the others are its copies.

    Args:
        output: the folder with the results; None: that of the project.
    """
    noted = read_notes()
    rows = [row_of(read_run(folder), noted) for folder in run_folders(output or output_dir())]
    first = {row.id: row.name for row in reversed(rows) if not row.differs}
    for place, row in enumerate(rows):
        if row.id and not row.differs and first[row.id] != row.name:
            mark = f"{COPY}{first[row.id]}"
            rows[place] = replace(row, marks=(*row.marks, mark), differs=(mark,))
    return rows


def row_of(run: RunRecord, noted: Mapping[str, Notes] | None = None) -> Row:
    """A run as a row of the board.

    Args:
        noted: as from `read_notes`, which it is when it is None.
    """
    noted = read_notes() if noted is None else noted
    notes = noted.get(run.title, Notes(run.title))
    recorded = run.info["config"] if run.info else {}
    exp = recorded.get("exp")
    seed = exp.get("seed") if isinstance(exp, dict) else None
    marks = marks_of(run)
    row = Row(
        run.experiment,
        run.name,
        run.folder,
        metric=run.metric,
        greater_is_better=run.greater_is_better,
        n_folds=run.n_folds,
        folds_done=len(run.done),
        rows=run.rows,
        left_out=run.left_out,
        targets={number: fold.result["target"] for number, fold in run.done.items() if fold.result},
        made_by=run.made_by,
        data=frozenset(fold.result["data"] for fold in run.done.values() if fold.result),
        seed=seed if isinstance(seed, int | str) else None,
        marks=(*marks, *_of_before(notes, run)),
        recorded=recorded,
        failure=next(iter(run.failed.values()), None),
        notes=notes,
        id=run.info["id"] if run.info else None,
        differs=tuple(mark for mark in marks if mark.startswith(COPY)),
    )
    score = run.score()
    if score is None:
        return row
    others = {metric: found.value for metric in run.metrics if metric != run.metric and (found := run.score(metric))}
    others |= run.test_scores
    git = run.git
    commit = f"{git['commit'][:7]}{'*' if git['dirty'] else ''}" if git and git["commit"] else None
    return replace(
        row,
        score=score.value,
        std=score.std,
        seconds=round(run.seconds, 3),
        finished=run.finished,
        commit=commit,
        other_metrics=others,
        fold_scores=score.folds,
        ratio=_ratio(run, exp),
    )


def _of_before(notes: Notes, run: RunRecord) -> list[str]:
    """Whether a verdict or a leaderboard score is of a version that another one has replaced."""
    lines = [line for line in map(notes.last_line, ("verdict", "leaderboard")) if line and "id" in line]
    is_old = run.info is not None and any(line["id"] != run.info["id"] for line in lines)
    return ["noted on an earlier version"] if is_old else []


def _ratio(run: RunRecord, exp: Any) -> float | None:
    if run.n_folds is None or run.n_folds < 2:
        return None
    split = exp.get("split") if isinstance(exp, dict) else None
    is_by_time = isinstance(split, dict) and split.get("method") == SplitMethod.time.name
    rows = {number: fold.result["rows"] for number, fold in run.done.items() if fold.result}
    return ratio_of_rows(rows, run.n_folds, is_by_time)
