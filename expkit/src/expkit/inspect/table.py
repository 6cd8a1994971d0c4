"""The board as a table: which columns it has, and which of them fit into a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from expkit.config.same import is_compared
from expkit.errors import plain
from expkit.find import short_names
from expkit.inspect.board import COLUMNS, Row
from expkit.inspect.order import HEADINGS
from expkit.inspect.words import duration, score_text

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
    return [Column(plain(one.heading), list(map(plain, one.cells)), one.worth, one.wraps, one.right) for one in shown]


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
    text = f"{value:.6g}" if isinstance(value, float) else plain(value)
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
