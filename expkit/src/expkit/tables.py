"""Tables of predictions: named NumPy columns, one entry per row; their checks, their files, the same rows in two."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from expkit.errors import Error, require
from expkit.files import Broken, regular
from expkit.project import display_path

if TYPE_CHECKING:
    import numpy

    Columns = dict[str, numpy.ndarray]


PLAIN = {bool, int, float, str, type(None)}


def columns(values: Mapping[str, Any], what: str) -> Columns:
    """The columns of a table as NumPy arrays with one entry a row; text stays text, to the last zero.

    Args:
        values: name to array, list, pandas or polars column, or tensor: (n,), or (n, k) with k of 2 or more.
        what: the table, for the messages.

    Raises:
        Error: lengths that differ, a shape such as (n, 1), missing values, mixed types, no row.
    """
    table = {str(name): _column(values[name], f"{what}, column {name}") for name in values}  # a DataFrame, too
    require(bool(table), f"{what}: there is no column")
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        raise Error(f"{what}: the columns differ in length: {', '.join(f'{name} {n}' for name, n in lengths.items())}")
    require(next(iter(lengths.values())) > 0, f"{what}: there is no row")
    return table


def _column(value: Any, what: str) -> numpy.ndarray:
    import numpy

    for step in ("detach", "cpu"):  # a tensor
        value = getattr(value, step)() if callable(getattr(value, step, None)) else value
    is_plain = isinstance(value, list | tuple) and {type(item) for item in value} <= PLAIN  # NumPy would mix types
    try:
        array = numpy.array(value, dtype=object) if is_plain and value else numpy.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise Error(f"{what}: this is not an array: {error}") from error
    if array.ndim == 1 and array.dtype.kind in "OT":
        array = _from_objects(array.tolist(), what)
    if array.dtype.kind not in "biufUSM":
        raise Error(f"{what}: holds {array.dtype}, and not numbers, text or dates")
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] > 1):
        raise Error(f"{what}: has the shape {array.shape}: one value per row, ({len(array) if array.ndim else 1},)")
    return array


def _from_objects(items: list[Any], what: str) -> numpy.ndarray:
    """What pandas and lists give for text: Python's own objects."""
    import numpy

    kinds = {type(item) for item in items}
    if kinds not in ({str}, {bool}) and not kinds <= {int, float}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise Error(f"{what}: holds {names}: one type per column, and no missing values")
    column = numpy.array(items, dtype=float if float in kinds else None)
    if column.dtype == object or (column.dtype.kind == "f" and float not in kinds):
        raise Error(f"{what}: an integer is too large; make it text")
    return column


def flat(table: Mapping[str, Any]) -> Columns:
    """A table whose columns with k values a row are k columns, name_0, name_1, ..."""
    found: Columns = {}
    for name, column in table.items():
        if getattr(column, "ndim", 1) == 2:
            found |= {f"{name}_{index}": column[:, index] for index in range(column.shape[1])}
        else:
            found[name] = column
    return found


def require_finite(table: Columns, what: str) -> None:
    """Raise an `Error` when a number is nan or inf, saying how many rows of which column."""
    import numpy

    for name, column in table.items():
        if column.dtype.kind in "fM":
            bad = ~numpy.isfinite(column)
            rows = int(bad.any(axis=1).sum() if column.ndim == 2 else bad.sum())
            problem = "have no date" if column.dtype.kind == "M" else "are nan or inf"
            require(rows == 0, f"{what}: {rows} of {len(column)} rows of {name} {problem}")


def is_ascending(ids: numpy.ndarray) -> bool:
    """Whether each id is greater than the one before it."""
    return bool((ids[1:] > ids[:-1]).all())


def require_unique(ids: numpy.ndarray, what: str) -> str:
    """Raise an `Error` when an id is there twice, naming one; else return their `fingerprint`."""
    import numpy

    require(ids.ndim == 1, f"{what}: the ids have the shape {ids.shape}: one per row")
    numbers = digests(ids)
    if not is_ascending(ids) and not is_ascending(numpy.sort(numbers)):
        found, counts = numpy.unique(ids, return_counts=True)
        twice = found[counts > 1]
        if len(twice):
            raise Error(f"{what}: {len(twice)} ids are there more than once, such as {twice[0]}")
    return fingerprint(ids, numbers)


def require_same_kind(ids: numpy.ndarray, others: numpy.ndarray, what: str, whose: str) -> None:
    """Raise an `Error` unless both are whole numbers, or both are of one kind: the id 1 is another than "1"."""
    require(
        others.dtype.kind == ids.dtype.kind or {others.dtype.kind, ids.dtype.kind} <= set("iu"),
        f"{what}: the ids are {ids.dtype}, and those {whose} are {others.dtype}",
    )


def digests(ids: numpy.ndarray) -> numpy.ndarray:
    """A number for each id, (n,), uint64: equal ids have equal ones, others hardly ever (a pair in 2**64).

    Text is compared and sorted by it in a tenth of the time. It is a multilinear hash (Carter and Wegman 1979) and a
    finalizer (splitmix64, Steele, Lea and Flood 2014).
    """
    import numpy

    if ids.dtype.kind in "US":
        code = numpy.dtype({"U": "u4", "S": "u1"}[ids.dtype.kind]).newbyteorder(ids.dtype.byteorder)
        letters = numpy.ascontiguousarray(ids).view(code).reshape(len(ids), -1)
        keys = numpy.random.default_rng(0).integers(2**64, size=letters.shape[1], dtype=numpy.uint64)
        found = numpy.einsum("ij,j->i", letters, keys)
    elif ids.dtype.kind == "f":
        found = (ids.astype(numpy.float64) + 0.0).view(numpy.uint64)  # -0.0 is 0.0
    else:
        found = ids.astype(numpy.int64).view(numpy.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        found = (found ^ (found >> numpy.uint64(shift))) * numpy.uint64(factor)
    return numpy.asarray(found ^ (found >> numpy.uint64(31)))


def fingerprint(ids: numpy.ndarray, numbers: numpy.ndarray | None = None) -> str:
    """A hash of a set of ids, in whatever order; the number 1 is another id than the text "1".

    Args:
        numbers: their `digests`, if they are known.
    """
    import numpy

    numbers, dtype = digests(ids) if numbers is None else numbers, ids.dtype
    kind = "i" if dtype.kind == "u" else dtype.str[1:] if dtype.kind == "M" else dtype.kind
    both = (len(numbers), int(numbers.sum(dtype=numpy.uint64)), int(numpy.bitwise_xor.reduce(numbers)))
    return hashlib.sha256(f"{kind} {both}".encode()).hexdigest()[:16]


def targets(names: Iterable[str]) -> list[str]:
    """The columns of out-of-fold predictions that hold what is predicted: "target" and "target_<what>".

    Without them, where columns are called after predictions or probabilities, all columns but those and the id.
    """
    named = [name for name in sorted(names) if name not in ("id", "fold")]
    others = [name for name in named if not name.startswith(("pred", "prob"))]
    return [name for name in named if re.match("target(_|$)", name)] or (others if others != named else [])


def comparable(target: numpy.ndarray) -> numpy.ndarray:
    """A target as it is compared: numbers have the digits of float32, for some libraries keep no more."""
    return target.astype("float32") if target.dtype.kind in "biuf" else target


def target_hash(table: Columns) -> str | None:
    """A hash of the targets of each id, in whatever order the rows are; None: the table has no target."""
    import numpy

    if not (names := targets(table)):
        return None
    numbers = digests(table["id"])
    for name in names:
        for column in numpy.atleast_2d(comparable(table[name]).T):
            numbers = digests(numbers * numpy.uint64(0x9E3779B97F4A7C15) ^ digests(column))
    return hashlib.sha256(f"{names} {fingerprint(numbers, numbers)}".encode()).hexdigest()[:16]


def common(one: numpy.ndarray, other: numpy.ndarray) -> list[Any]:
    """The ids that are in both; each of the two has none twice."""
    import numpy

    if not len(numpy.intersect1d(digests(one), digests(other), assume_unique=True)):
        return []
    return list(numpy.intersect1d(one, other).tolist())


def aligned(table: Columns, ids: numpy.ndarray, what: str, other: str) -> Columns:
    """A table with its rows in the order of `ids`, (n,), each there once.

    Args:
        what, other: the table, and the one that has `ids`, for the messages.

    Raises:
        Error: the table has other ids, one twice, or ids of another type.
    """
    import numpy

    own = table["id"]
    require_same_kind(own, ids, what, f"of {other}")
    if numpy.array_equal(own, ids):
        return table
    if len(own) == len(ids):
        order = numpy.empty(len(ids), numpy.intp)
        order[numpy.argsort(digests(ids), kind="stable")] = numpy.argsort(digests(own), kind="stable")
        if numpy.array_equal(own[order], ids):
            return {name: column[order] for name, column in table.items()}
    fewer, more = numpy.setdiff1d(ids, own), numpy.setdiff1d(own, ids)
    example = f", such as {[*fewer, *more][0]}" if len(fewer) + len(more) else ": an id is there twice"
    raise Error(f"{what} has other rows than {other}: {len(fewer)} fewer and {len(more)} more{example}")


def side_by_side(tables: Sequence[Columns], titles: Sequence[str]) -> list[Columns]:
    """Tables of the same rows, in the order of the first. Errors as of `aligned`, and if targets differ."""
    first, title = tables[0], titles[0]
    found = []
    for each, own in zip(tables, titles, strict=True):
        table = aligned(each, first["id"], own, title)
        for name in targets({**first, **table}):
            for one, columns in ((title, first), (own, table)):
                require(name in columns, f"{one} has no {name} in its out-of-fold predictions, as others have")
            differ = differing({name: comparable(table[name])}, {name: comparable(first[name])})
            if rows := int(differ.sum()):
                example = first["id"][differ.argmax()]
                raise Error(f"{own} has another {name} than {title} in {rows} rows, such as id {example}")
        found.append(table)
    return found


def differing(one: Columns, other: Columns) -> numpy.ndarray:
    """Which rows of two tables with the same columns, in one order, are not the same, (n,)."""
    import numpy

    unequal = [one[name] != other[name] for name in one]
    return numpy.any([each.any(axis=1) if each.ndim == 2 else each for each in unequal], axis=0)


def save(file: Path, table: Columns) -> None:
    """Write a table; equal tables make equal bytes."""
    import numpy

    numpy.savez(file, **table)  # type: ignore[arg-type]


def load(file: Path, only: str | None = None) -> Columns:
    """Read a table, or one of its columns. Nothing in it is executed.

    Raises:
        Broken: it is not what `save` wrote.
        FileNotFoundError: there is none.
    """
    import numpy

    try:
        with open(file, "rb", opener=regular) as stream, numpy.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if only in (None, name)}
    except FileNotFoundError:
        raise
    except Exception as error:  # of a damaged file NumPy and zipfile raise many kinds
        raise Broken(str(error)) from error


def read_csv(file: Path) -> dict[str, list[str]]:
    """The columns of a CSV file with a header, as text.

    Raises:
        Error: it cannot be read, or a line is too short.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig", opener=regular) as stream:
            header, *rows = [row for row in csv.reader(stream) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:  # also what is no UTF-8
        raise Error(f"{display_path(file)} cannot be read: {error}") from error
    require(bool(header), f"{display_path(file)} is empty")
    require(
        all(len(row) >= len(header) for row in rows), f"{display_path(file)}: a line has fewer columns than the first"
    )
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def write_csv(stream: TextIO, table: Mapping[str, Any], as_cell: Callable[[Any], Any] = lambda cell: cell) -> None:
    """Write columns as text, `flat`.

    Args:
        as_cell: makes a cell of a value or of the name of a column, for people. By default they stay as they are.
    """
    columns = flat(table)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(as_cell, columns))
    values = [(column.astype(str) if column.dtype.kind == "M" else column).tolist() for column in columns.values()]
    writer.writerows(map(as_cell, line) for line in zip(*values, strict=True))
