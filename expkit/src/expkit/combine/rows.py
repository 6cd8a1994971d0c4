"""The predictions of a run, and the same rows in several of them, whatever their order."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from expkit.errors import Error
from expkit.files import Broken
from expkit.paths import shown
from expkit.record import OOF, FoldRecord, RunRecord
from expkit.tables import digests
from expkit.train.predictions import require_same_kind

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns


def predictions(fold: FoldRecord, name: str = OOF, columns: Iterable[str] | None = None) -> Columns:
    """The predictions that a fold has saved; all columns, or some.

    Raises:
        Error: there are none, or they are broken.
    """
    try:
        if columns is None:
            return fold.predictions(name)
        return {one: fold.predictions(name, one)[one] for one in columns}
    except (Broken, FileNotFoundError, KeyError) as error:
        place = shown(fold.folder.parent)
        raise Error(f"the predictions of {fold.title} of {place} cannot be read: {error}") from error


def out_of_fold(run: RunRecord, columns: Iterable[str] | None = None) -> Columns:
    """Out-of-fold predictions of all folds that are done, fold by fold.

    Args:
        columns: which; None: all that every fold has, and "fold".
    """
    import numpy

    parts = {number: predictions(fold, columns=columns) for number, fold in run.done.items()}
    if not parts:
        return {}
    names = [name for name in next(iter(parts.values())) if all(name in part for part in parts.values())]
    table = {name: numpy.concatenate([part[name] for part in parts.values()]) for name in names}
    if columns is not None:
        return table
    table["fold"] = numpy.concatenate([numpy.full(len(part["id"]), number) for number, part in parts.items()])
    return table


class Rows:
    """Rows by their ids: finds them in other tables.

    Args:
        ids: each once, (n,).
        title: the table that they are of, for messages.
    """

    def __init__(self, ids: numpy.ndarray, title: str) -> None:
        self.ids, self.title = ids, title

    def places_in(self, others: numpy.ndarray, title: str) -> numpy.ndarray | None:
        """Where each of these rows stands among others, as indices (n,); None when both are in the same order.

        Raises:
            Error: the ids are not the same, or of another type.
        """
        import numpy

        require_same_kind(others, self.ids, title, f"of {self.title}")
        if numpy.array_equal(self.ids, others):
            return None
        if len(others) != len(self.ids):
            raise self._other(others, title)
        places = numpy.empty(len(others), numpy.intp)
        places[self._order] = numpy.argsort(digests(others), kind="stable")
        if not numpy.array_equal(others[places], self.ids):  # other rows; or two ids of one digest
            places[numpy.argsort(self.ids, kind="stable")] = numpy.argsort(others, kind="stable")
            if not numpy.array_equal(others[places], self.ids):
                raise self._other(others, title)
        return places

    @functools.cached_property
    def _order(self) -> numpy.ndarray:
        import numpy

        return numpy.argsort(digests(self.ids), kind="stable")

    def _other(self, others: numpy.ndarray, title: str) -> Error:
        import numpy

        missing, extra = numpy.setdiff1d(self.ids, others), numpy.setdiff1d(others, self.ids)
        example = f"{missing[0]}, which it lacks" if len(missing) else f"{extra[0]}, which it has alone"
        return Error(
            f"{title} has other rows than {self.title}: {len(missing)} fewer and {len(extra)} more, such as {example}"
        )
