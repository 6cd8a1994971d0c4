"""The mean of tables of predictions that have the same rows and columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expkit.combine.columns import may_be_labels, most_likely
from expkit.combine.rows import Rows
from expkit.errors import Error, require
from expkit.tables import flat

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns


@dataclass
class Mean:
    """Adds up tables of predictions, one at a time. Nothing of a table but its sum is kept.

    Attributes:
        rows: of the first table.
    """

    rows: Rows | None = None
    _first: Columns = field(default_factory=dict)
    _sums: Columns = field(default_factory=dict)
    _weight: float = 0.0
    _is_number: set[str] = field(default_factory=set)
    _differs: set[str] = field(default_factory=set)

    def add(self, table: Columns, what: str, weight: float = 1.0) -> None:
        """Add a table with the column "id"; `what` names it in messages.

        Raises:
            Error: it has other ids or columns than the first.
        """
        import numpy

        table = flat(table)
        ids = table.pop("id")
        if self.rows is None:
            self.rows, self._first = Rows(ids, what), table
        if table.keys() != self._first.keys():
            raise Error(
                f"{what} has the columns {', '.join(table)}, but {self.rows.title} has {', '.join(self._first)}"
            )
        place = self.rows.places_in(ids, what)
        for name, column in table.items():
            if column.dtype.kind != self._first[name].dtype.kind:
                raise Error(f"{what}: {name} holds {column.dtype}, but in {self.rows.title} {self._first[name].dtype}")
            rows = column if place is None else column[place]
            if not may_be_labels(name, column):
                self._is_number.add(name)
            if name not in self._differs and not numpy.array_equal(rows, self._first[name]):
                self._differs.add(name)
            if column.dtype.kind == "f":
                self._sums[name] = self._sums.get(name, 0.0) + weight * rows.astype(float)
        self._weight += weight

    @property
    def ids(self) -> numpy.ndarray:
        """Of the rows, (n,)."""
        assert self.rows is not None
        return self.rows.ids

    @property
    def numbers(self) -> Columns:
        """The means of the columns that are numbers, (n,)."""
        return {name: total / self._weight for name, total in self._sums.items() if name in self._is_number}

    def column(self, name: str) -> tuple[numpy.ndarray, str]:
        """A column, and how it was made: a mean, the labels that all parts agree on, or the likeliest class.

        Raises:
            Error: the parts have different labels, and no probabilities.
        """
        if name not in self._differs:
            return self._first[name], name
        if name in self._is_number:
            return self._sums[name] / self._weight, f"mean of {name}"
        labels = [other for other in self._differs if other not in self._is_number]
        require(
            len(labels) == 1, f"labels differ in the columns {', '.join(sorted(labels))}: they may differ in only one"
        )
        return most_likely(self.numbers, self._first[name].dtype, name), "class of the highest mean probability"

    def dtype(self, name: str) -> numpy.dtype[Any]:
        """The type of a column."""
        return self._first[name].dtype

    @property
    def names(self) -> list[str]:
        """The columns but "id"."""
        return list(self._first)
