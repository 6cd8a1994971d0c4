"""What the predictions of a fold must be before they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from expkit import tables
from expkit.errors import Error, require
from expkit.files import Broken
from expkit.record import FoldRecord

if TYPE_CHECKING:
    import numpy

    from expkit.config import ExpConfig

PROBABILITY = "probability"


def class_columns(names: Sequence[str]) -> list[str]:
    """The columns with the probability of a class each; [] when there are not two."""
    found = [name for name in names if name.startswith(f"{PROBABILITY}_")]
    return found if len(found) > 1 else []


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
    def noted(self, exp: ExpConfig) -> Iterator[None]:
        """For a while, note what `expkit.split(exp, ...)` leaves out."""
        _TRAININGS[id(exp)] = self
        try:
            yield
        finally:
            del _TRAININGS[id(exp)]

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

        calls = list(self._calls.get(fold, {}).values())
        require(
            bool(calls),
            f"{what}: nobody knows which rows must be predicted: call expkit.split(exp, fold.number, id=...) in "
            "train(), or say expkit.Experiment(..., own_split=True) if the experiment splits by itself",
        )
        if tables.fingerprint(ids) in self._calls[fold]:
            return
        require_same_kind(ids, calls[0], what, "given to expkit.split")
        choices = [*calls, numpy.concatenate(calls)]
        differences = [(numpy.setdiff1d(one, ids), numpy.setdiff1d(ids, one)) for one in choices]
        missing, others = min(differences, key=lambda pair: len(pair[0]) + len(pair[1]))
        require(
            len(missing) == 0,
            f"{what}: {len(missing)} rows that expkit.split left out are not predicted, such as {missing[:1]}, and "
            f"{len(others)} others are (a DataLoader with drop_last? predictions of other processes not gathered?)",
        )
        require(
            len(others) == 0,
            f"{what}: {len(others)} rows are predicted that expkit.split did not leave out, such as {others[:1]}",
        )


_TRAININGS: dict[int, ValidIds] = {}  # of this process, by the identity of `exp`: threads have no context in common


def note_valid_ids(exp: ExpConfig, fold: int, ids: numpy.ndarray) -> None:
    """Tell the training that got `exp`, or the only one that runs, which ids a fold leaves out."""
    training = _TRAININGS.get(id(exp)) or (next(iter(_TRAININGS.values())) if len(_TRAININGS) == 1 else None)
    if training is not None:
        training.add(fold, ids)
