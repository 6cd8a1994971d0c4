"""What the predictions of a fold must be before they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from expkit import tables
from expkit.errors import Error, require
from expkit.files import Broken
from expkit.record import FoldRecord

if TYPE_CHECKING:
    import numpy


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


def require_same_kind(ids: numpy.ndarray, others: numpy.ndarray, what: str, whose: str) -> None:
    """Raise an `Error` unless both are whole numbers, or both are of one kind: the id 1 is another than "1"."""
    require(
        others.dtype.kind == ids.dtype.kind or {others.dtype.kind, ids.dtype.kind} <= set("iu"),
        f"{what}: the ids are {ids.dtype}, and those {whose} are {others.dtype}",
    )


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
        require_same_kind(ids, known, what, f"of fold {number}")
        both = tables.common(known, ids)
        require(
            len(both) == 0,
            f"{what}: {len(both)} ids are in fold {number} too, such as {both[:1]}: a row may be in one fold only",
        )


class ValidIds:
    """The ids that `expkit.split` has left out while a run trains: those that have to be predicted."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, numpy.ndarray]] = {}  # by fold and fingerprint

    @contextmanager
    def noted(self) -> Iterator[None]:
        """For a while, note what `expkit.split` leaves out in this training."""
        token = _CURRENT.set(self)
        _TRAININGS.append(self)
        try:
            yield
        finally:
            _TRAININGS.remove(self)
            _CURRENT.reset(token)

    def add(self, fold: int, ids: numpy.ndarray) -> None:
        """Note the ids of one call of `expkit.split`, (n,)."""
        self._calls.setdefault(fold, {})[tables.fingerprint(ids)] = ids

    def require_all(self, fold: int, ids: numpy.ndarray, what: str) -> None:
        """Require predictions of exactly the rows of one call, or of all calls together.

        Args:
            ids: of the predictions of a fold, (n,), each once.
            what: they are, for messages.

        Raises:
            Error: `expkit.split` was not called; rows are missing; others are there.
        """
        import numpy

        calls = self._calls.get(fold, {})
        if tables.fingerprint(ids) in calls:
            return
        require(
            bool(calls),
            f"{what}: nobody knows which rows must be predicted: call expkit.split(exp, fold.number, id=...) in "
            "train(), or say expkit.Experiment(..., own_split=True) if the experiment splits by itself",
        )
        parts = list(calls.values())
        require_same_kind(ids, parts[0], what, "given to expkit.split")
        choices = [*parts, numpy.concatenate(parts)]
        differences = [(numpy.setdiff1d(one, ids), numpy.setdiff1d(ids, one)) for one in choices]
        missing, others = min(differences, key=lambda pair: len(pair[0]) + len(pair[1]))
        problems = []
        if len(missing):
            problems.append(
                f"{len(missing)} rows that expkit.split left out are not predicted, such as {missing[0]} "
                "(a DataLoader with drop_last? predictions of other processes that were not gathered?)"
            )
        if len(others):
            problems.append(f"{len(others)} rows are predicted that it did not leave out, such as {others[0]}")
        require(not problems, f"{what}: {', and '.join(problems)}")


_CURRENT: ContextVar[ValidIds | None] = ContextVar("valid_ids", default=None)
_TRAININGS: list[ValidIds] = []  # of this process


def note_valid_ids(fold: int, ids: numpy.ndarray) -> None:
    """Tell the training that runs, if one does, which ids a fold leaves out.

    A thread that a training starts has no context of its own: it belongs to the only training of the process.
    """
    current = _CURRENT.get()
    if current is None and len(_TRAININGS) == 1:
        current = _TRAININGS[0]
    if current is not None:
        current.add(fold, ids)
