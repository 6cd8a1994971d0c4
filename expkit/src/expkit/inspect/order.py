"""Which rows of the board are shown, and in which order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from expkit.errors import Error
from expkit.inspect.board import COLUMNS, Row

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
