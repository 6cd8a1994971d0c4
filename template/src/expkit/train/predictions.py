"""What the predictions of a fold must be before they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expkit import tables
from expkit.errors import Error, require
from expkit.files import Broken
from expkit.record import FoldRecord


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
        require(
            known.dtype.kind == ids.dtype.kind or {known.dtype.kind, ids.dtype.kind} <= set("iu"),
            f"{what}: the ids are {ids.dtype}, and those of fold {number} are {known.dtype}",
        )
        both = tables.common(known, ids)
        require(
            len(both) == 0,
            f"{what}: {len(both)} ids are in fold {number} too, such as {both[:1]}: a row may be in one fold only",
        )
