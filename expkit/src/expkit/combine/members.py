"""The runs of a blend, row by row: whether they fit each other, and what of their predictions is blended.

Blended is each column of floating-point numbers that every run has and that is not the same in all of them: the columns
probability_<class>, "prediction" when it is a number. What is the same in all, such as "target" or a weight that the
metric takes, stays. Where "prediction" is a label, the blend's is the class of its highest probability; anything else
that differs is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expkit.combine.columns import may_be_labels, most_likely
from expkit.combine.rows import Rows, out_of_fold
from expkit.errors import Error, require
from expkit.record import RunRecord, marks_of
from expkit.tables import comparable, flat, targets

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

LABEL = "prediction"


@dataclass
class Members:
    """Runs whose out-of-fold predictions are of the same rows. One run at a time is in memory.

    Attributes:
        rows: in the order of the first run.
        folds: the fold that each row is left out of in the first run, (n,).
        kept: what is the same in all runs, by column: "id", "target", ...
        blended: the columns that are blended; how many values a row each has, None of an (n,).
        label: the type of "prediction" where that is a label which can be derived, else None.
        unlikely: how many labels of a run are not its likeliest class, by the title of the run.
        other_folds: the runs that leave out other rows together than the first.
    """

    runs: Sequence[RunRecord]
    rows: Rows
    folds: numpy.ndarray
    kept: Columns
    blended: dict[str, int | None] = field(default_factory=dict)
    label: numpy.dtype[Any] | None = None
    unlikely: dict[str, int] = field(default_factory=dict)
    other_folds: list[str] = field(default_factory=list)
    _places: list[numpy.ndarray | None] = field(default_factory=list)

    def tables(self, names: Iterable[str]) -> Iterator[Columns]:
        """Columns of each run, in the order of `rows`."""
        for run, places in zip(self.runs, self._places, strict=True):
            table = out_of_fold(run, names)
            yield table if places is None else {name: column[places] for name, column in table.items()}

    def sample(self, picked: numpy.ndarray) -> numpy.ndarray:
        """What is blended of some rows, (runs, rows, columns); one with k values a row is k columns."""
        import numpy

        tables = self.tables(self.blended)
        parts = [numpy.column_stack([table[name][picked] for name in self.blended]) for table in tables]
        return numpy.array(parts, float)

    def named(self, numbers: numpy.ndarray) -> Columns:
        """What `sample` has of one run, (rows, columns), by the names of the columns."""
        found: Columns = {}
        start = 0
        for name, width in self.blended.items():
            found[name] = numbers[:, start] if width is None else numbers[:, start : start + width]
            start += width or 1
        return found

    def whole(self, numbers: Columns, kept: Columns | None = None, has_label: bool = True) -> Columns:
        """Blended columns with what belongs to them, as a metric takes it.

        Args:
            kept: of the same rows; None: of all.
        """
        table = (self.kept if kept is None else kept) | numbers
        if self.label is not None and has_label:
            table[LABEL] = most_likely(flat(numbers), self.label, LABEL)
        return table


def members_of(runs: Sequence[RunRecord]) -> Members:
    """Read the out-of-fold predictions of runs once, and see what they have in common.

    Raises:
        Error: they have not the same rows, targets or metric; folds are missing; or there is nothing to blend.
    """
    import numpy

    require(len(runs) > 1, "a blend needs two runs or more")
    first = runs[0]
    for run in runs:
        require(
            run.is_complete,
            f"{run.title}: {', '.join(marks_of(run))}: a blend needs every fold: train them with exp.fold=null",
        )
        sides = [(one.metric, one.greater_is_better, one.score_over) for one in (first, run)]
        worded = [
            f"{metric}{', the mean of folds' if over == 'folds' else ''}, {'higher' if greater else 'lower'} is better"
            for metric, greater, over in sides
        ]
        require(sides[0] == sides[1], f"{run.title} has the metric {worded[1]}, but {first.title} has {worded[0]}")
    table = out_of_fold(first)
    folds = table.pop("fold")
    found = Members(runs, Rows(table["id"], first.title), folds, {})
    same, numbers, floats = set(table), set[str](), set(table)
    for run in runs:
        other = table if run is first else out_of_fold(run)
        places = found.rows.places_in(other["id"], run.title)
        found._places.append(places)
        other = other if places is None else {name: column[places] for name, column in other.items()}
        if set(run.left_out.values()) != set(first.left_out.values()):
            found.other_folds.append(run.title)
        require_same_targets(first, run, table, other)
        same -= {name for name in same if name not in other or not numpy.array_equal(table[name], other[name])}
        for name in floats & other.keys():
            shapes = [one[name].shape[1:] for one in (table, other)]
            require(shapes[0] == shapes[1], f"{run.title} has {name} with another number of values than {first.title}")
        floats &= {name for name, column in other.items() if column.dtype.kind == "f"}
        numbers |= {name for name, column in other.items() if not may_be_labels(name, column)}
        if LABEL in other and LABEL not in numbers and (likeliest := _likeliest(other)) is not None:
            differ = int((likeliest != other[LABEL]).sum())
            found.unlikely |= {run.title: differ} if differ else {}
    found.kept = {name: column for name, column in table.items() if name in same}
    blended = [name for name in table if name in floats & numbers and name not in same]
    found.blended = {name: table[name].shape[1] if table[name].ndim == 2 else None for name in blended}
    if LABEL in table and LABEL not in numbers | same:
        chosen = {name: table[name] for name in blended} | {LABEL: table[LABEL]}
        found.label = None if _likeliest(chosen) is None else table[LABEL].dtype
    titles = " and ".join(run.title for run in runs)
    require(same != set(table), f"the out-of-fold predictions of {titles} are the same: there is nothing to blend")
    if not found.blended:
        raise Error(
            f"{first.title} and the others have no column of numbers that differs between them: save "
            f"probability_<class> with fold.save_oof; there are {', '.join(table)}"
        )
    return found


def _likeliest(table: Columns) -> numpy.ndarray | None:
    """The class of the highest probability in each row; None: the columns do not say."""
    try:
        return most_likely(flat(table), table[LABEL].dtype, LABEL)
    except Error:
        return None


def require_same_targets(first: RunRecord, run: RunRecord, table: Columns, other: Columns) -> None:
    """Raise an `Error` when a column of `tables.targets` is another in two aligned tables."""
    for name in targets({**table, **other}):
        for one, columns in ((first, table), (run, other)):
            require(name in columns, f"{one.title} has no {name} in its out-of-fold predictions, as others have")
        differ = comparable(table[name]) != comparable(other[name])
        differ = differ.any(axis=1) if differ.ndim == 2 else differ
        if rows := int(differ.sum()):
            example = table["id"][differ.argmax()]
            raise Error(f"{run.title} has another {name} than {first.title} in {rows} rows, such as id {example}")
