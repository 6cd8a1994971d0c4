"""The board: every run under output/, as rows to filter, to sort and to print."""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from expkit.config import SplitMethod, flat, is_compared
from expkit.errors import Error, duration, score_text, strip_control
from expkit.noise import ratio_of_rows
from expkit.notes import Notes, read_notes
from expkit.project import output_dir
from expkit.store import Run, read_run, run_folders, short_names
from expkit.store.marks import COPY

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
        made_by: what the metric did, as `Run.made_by`; None: not known.
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


def row_of(run: Run, noted: Mapping[str, Notes] | None = None) -> Row:
    """A run as a row of the board.

    Args:
        noted: as from `read_notes`, which it is when it is None.
    """
    noted = read_notes() if noted is None else noted
    notes = noted.get(run.title, Notes(run.title))
    recorded = run.info["config"] if run.info else {}
    exp = recorded.get("exp")
    seed = exp.get("seed") if isinstance(exp, dict) else None
    marks = run.marks
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
    score = run.score_of()
    if score is None:
        return row
    others = {metric: found.value for metric in run.metrics if metric != run.metric and (found := run.score_of(metric))}
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


def _of_before(notes: Notes, run: Run) -> list[str]:
    """Whether a verdict or a leaderboard score is of a version that another one has replaced."""
    lines = [line for line in map(notes.last_line, ("verdict", "leaderboard")) if line and "id" in line]
    is_old = run.info is not None and any(line["id"] != run.info["id"] for line in lines)
    return ["noted on an earlier version"] if is_old else []


def _ratio(run: Run, exp: Any) -> float | None:
    if run.n_folds is None or run.n_folds < 2:
        return None
    split = exp.get("split") if isinstance(exp, dict) else None
    is_by_time = isinstance(split, dict) and split.get("method") == SplitMethod.time.name
    rows = {number: fold.result["rows"] for number, fold in run.done.items() if fold.result}
    return ratio_of_rows(rows, run.n_folds, is_by_time)


HEADINGS = {"LB": "leaderboard", "time": "seconds", "folds": "folds_done", "vs best": "versus_best", "why": "failure"}


def filtered(rows: list[Row], conditions: Iterable[str]) -> list[Row]:
    """The rows that meet every condition: "score>0.97", "learning_rate=0.003", or a part of a run's name.

    Raises:
        Error: a condition names a key that no run has.
    """
    for condition in conditions:
        parts = re.fullmatch(r"([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*)", condition)
        if parts is None:
            rows = [row for row in rows if condition in row.name]
        else:
            key = key_of(parts[1], rows)
            rows = [row for row in rows if _holds(row.value(key), parts[2], parts[3])]
    return rows


def _holds(value: Any, operator: str, other: str) -> bool:
    if value is None:
        return False
    if isinstance(value, list):  # tags
        return any(_holds(one, "=", other) for one in value) == (operator == "=")
    left: Any = str(value).lower() if isinstance(value, bool) else str(value)
    right: Any = other
    try:
        left, right = float(left), float(right)
    except ValueError:
        pass
    return bool(_OPERATORS[operator](left, right))


_OPERATORS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def ordered(rows: list[Row], key: str = "score") -> list[Row]:
    """The rows sorted by a column or a configuration key, "-key" for the other way round; by score, best first.

    Rows without a value come last. Scores of different metrics are not mixed, and by score, runs with missing folds
    come after those that have all, and those that a study has pruned last.

    Raises:
        Error: no run has the key.
    """
    key, reverse = key.removeprefix("-"), key.startswith("-")
    key = key_of(key, rows)
    with_value = [row for row in rows if row.value(key) is not None]
    without = [row for row in rows if row.value(key) is None]
    if key == "score":
        with_value.sort(key=_rank)
        if reverse:
            with_value.reverse()
    else:
        with_value.sort(key=lambda row: _comparable(row.value(key)), reverse=reverse)
    return with_value + without


def _rank(row: Row) -> tuple[str, bool, bool, float]:
    """The place of a run on the board: a score of all folds is worth more than one of a few."""
    score = row.score or 0.0
    is_partial = row.folds_done < (row.n_folds or 0) or "mean of folds" in row.marks
    return row.metric or "", "pruned" in row.marks, is_partial, -score if row.greater_is_better else score


def _comparable(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) and value == value else (1, str(value))


def key_of(name: str, rows: list[Row]) -> str:
    """The full key that `name` means: a column, as in JSON or as the board heads it, or the end of a configuration key.

    Raises:
        Error: no run has it, or it may be several.
    """
    name = HEADINGS.get(name, name)
    if name in COLUMNS:
        return name
    keys = (key for row in rows for key in (*filter(None, [row.metric]), *row.other_metrics, *row.config))
    known = dict.fromkeys([*COLUMNS, "marks", *keys])
    found = [name] if name in known else [key for key in known if key.endswith(f".{name}")]
    if len(found) == 1 or not rows:
        return found[0] if found else name
    if found:
        raise Error(f"{name} may be {' or '.join(found)}: give more of the key")
    near = difflib.get_close_matches(name, [*known, *(key.rpartition(".")[2] for key in known)], n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise Error(f"no run has a key {name}; {hint}")


GAP = 2  # between two columns
NARROW = 16  # characters of a cell that may wrap; of a value of the configuration


@dataclass(frozen=True)
class Column:
    """A column of the board.

    Attributes:
        heading: plain text.
        cells: one for each row, plain text.
        worth: which columns stay when not all fit; the smallest first.
        wraps: whether its cells may take several lines.
        right: whether they stand at the right, as numbers do.
    """

    heading: str
    cells: list[str]
    worth: int
    wraps: bool = False
    right: bool = False

    @property
    def title(self) -> str:
        """The heading, over several lines where its cells are narrower: "learning_rate" ends a line after "_"."""
        widest = max([*map(cell_len, self.cells), 8])
        return self.heading.replace("_", "_\n") if cell_len(self.heading) > widest else self.heading

    @property
    def width(self) -> int:
        widest = max(map(cell_len, [*self.cells, *self.title.split("\n")]))
        return min(widest, NARROW) if self.wraps else widest


def columns(rows: list[Row], chosen: Sequence[str] | None = None, width: int | None = None) -> list[Column]:
    """Every column that says something of these rows, from left to right.

    Args:
        chosen: keys of the configuration to show; None: those that differ among the rows.
        width: of the terminal; where the names of the runs would take more than a quarter of it, they are short ones.
    """
    titles = {row.name: row.name for row in rows}
    if width is not None and max(map(cell_len, titles), default=0) > width // 4:
        titles = short_names(titles)
    metrics = {row.metric for row in rows if row.metric}
    metric = next(iter(metrics)) if len(metrics) == 1 else "score"
    scores = [score_text(row.score, row.std) for row in rows]
    if len(metrics) > 1:
        scores = [f"{row.metric} {score}" if score else "" for row, score in zip(rows, scores, strict=True)]
    others = list(dict.fromkeys(name for row in rows for name in row.other_metrics))
    spread = " ± std" if any(row.std is not None for row in rows) else ""
    found = [
        Column("run", [titles[row.name] for row in rows], 0),
        Column(f"{metric}{spread}", scores, 1),
        *(Column(name, [score_text(row.other_metrics.get(name)) for row in rows], 4) for name in others),
        Column("LB", [score_text(row.leaderboard) for row in rows], 3),
        Column("verdict", [row.verdict or "" for row in rows], 3),
        Column("vs best", [row.versus_best or "" for row in rows], 2),
        Column("folds", [f"{row.folds_done}/{row.n_folds or '?'}" for row in rows], 2, right=True),
        *_configuration(rows, chosen),
        Column("time", ["" if row.seconds is None else duration(row.seconds) for row in rows], 6, right=True),
        Column("finished", [(row.finished or "").replace("T", " ")[:16] for row in rows], 7),
        Column("commit", [row.commit or "" for row in rows], 8),
        Column("tags", [" ".join(row.tags) for row in rows], 5),
        Column("marks", [", ".join(row.marks) for row in rows], 1, wraps=True),
        Column("why", _reasons(rows), 1, wraps=True),
    ]
    shown = [column for column in found if any(column.cells)]
    return [
        Column(strip_control(one.heading), list(map(strip_control, one.cells)), one.worth, one.wraps, one.right)
        for one in shown
    ]


def _reasons(rows: list[Row]) -> list[str]:
    """Why the runs have failed, when they are shown because they have."""
    reasons = [row.failure or "" for row in rows]
    return reasons if all(reasons) else [""] * len(rows)


def _configuration(rows: list[Row], chosen: Sequence[str] | None) -> list[Column]:
    keys = _differing(rows) if chosen is None else list(dict.fromkeys(chosen))
    if any(isinstance(row.seed, str) for row in rows):  # grouped by it
        keys = [key for key in keys if key != "exp.seed"]
    headings = _shortest(keys)
    found = [Column(headings[key], [_value(row, key) for row in rows], 5 if chosen is None else 2) for key in keys]
    if any(isinstance(row.seed, str) for row in rows):
        found.append(Column("seed", [str(row.seed or "") for row in rows], 2))
    return found


def _differing(rows: list[Row]) -> list[str]:
    """The keys of the configuration that have several values among the rows, in the order of the configuration."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.config.items():
            values.setdefault(key, set()).add(repr(value))
    return [key for key, each in values.items() if len(each) > 1 and is_compared(key) and key != "exp.n_folds"]


def _shortest(keys: list[str]) -> Mapping[str, str]:
    """What each key is called: its last part, or as much of its end as tells it from the others and from a column."""
    taken = {*COLUMNS, *HEADINGS, "marks"}
    names = {} if "seed" in keys else {"exp.seed": "seed"}
    for key in keys:
        parts = key.split(".")
        ends = [end for length in range(len(parts)) if (end := ".".join(parts[-length - 1 :])) not in taken]
        names.setdefault(key, next((e for e in ends if sum(f".{one}".endswith(f".{e}") for one in keys) == 1), key))
    return names


def _value(row: Row, key: str) -> str:
    value: Any = row.value(key)
    if value is None:
        return "" if key not in row.config else "null"
    text = f"{value:.6g}" if isinstance(value, float) else strip_control(value)
    return text if len(text) <= NARROW else f"{text[: NARROW - 1]}…"


def board_table(rows: list[Row], width: int, chosen: Sequence[str] | None = None) -> Table:
    """The rows as a table of at most `width` characters; columns that do not fit are left out, the least worth first.

    Args:
        chosen: as of `columns`.
    """
    found = columns(rows, chosen, width)
    kept: list[int] = []
    room = width + GAP
    for place in sorted(range(len(found)), key=lambda place: (found[place].worth, place)):
        if found[place].width + GAP <= room:
            room -= found[place].width + GAP
            kept.append(place)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place in sorted(kept):
        column = found[place]
        table.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.wraps,
            style="yellow" if column.heading == "marks" else "",
        )
    for number, row in enumerate(rows):
        line = [Text(found[place].cells[number]) for place in sorted(kept)]
        table.add_row(*line, style="dim" if row.score is None else "")
    return table


def hidden_keys(rows: list[Row], width: int) -> list[str]:
    """Which keys of the configuration differ and have no column in a terminal of `width` characters."""
    shown = {str(column.header).replace("\n", "") for column in board_table(rows, width).columns}
    return [column.heading for column in _configuration(rows, None) if column.heading not in shown]
