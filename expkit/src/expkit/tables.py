"""Tables of predictions: named NumPy columns, one entry per row; their checks, their files, the same rows in two.

A column is an array of any shape, (n, ...); or *ragged*, with an array (k, ...) per row, such as the boxes of a
picture: an array of objects, (n,).
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
import numbers
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from expkit.errors import Error, require, warn
from expkit.files import Broken, regular
from expkit.project import display_path

if TYPE_CHECKING:
    import numpy

    Columns = dict[str, numpy.ndarray]
    Change = Callable[[numpy.ndarray], numpy.ndarray]


PLAIN = {bool, int, float, str, type(None)}
MISSING = ("None", "nan", "<NA>", "NaT")  # as text, of a value that is none
CLASS = "probability_"  # begins the name of the column with the probability of a class
LENGTHS = ":lengths"  # ends the name of what a file holds beside a ragged column: the k of each row, (n,)


def named(predicted: Any) -> dict[str, Any]:
    """Predictions as columns: those of a dict or a DataFrame; anything else is the column "prediction"."""
    has_keys = hasattr(predicted, "keys") and not hasattr(predicted, "dtype")  # those of a Series of pandas are rows
    names = predicted.keys() if has_keys else getattr(predicted, "columns", None)  # a DataFrame of polars
    return {"prediction": predicted} if names is None else {str(name): predicted[name] for name in names}


def as_number(value: Any) -> float | None:
    """One number of Python, NumPy or a tensor as an int or a float; None for anything else."""
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError, TypeError):  # it has several
            value = None if _is_masked(value) else value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    with suppress(OverflowError):
        number = float(value)
        return int(value) if isinstance(value, numbers.Integral) else number
    return None


def _is_masked(value: Any) -> bool:
    """Whether some values are masked, by the module of NumPy that whoever has masked them has imported."""
    return "numpy.ma" in sys.modules and bool(sys.modules["numpy.ma"].is_masked(value))


def columns(values: Mapping[str, Any], what: str) -> Columns:
    """The columns of a table as NumPy arrays with one entry a row; text stays text, to the last zero.

    Args:
        values: name to array, list, pandas or polars column, or tensor: (n,) or (n, ...), but not (n, 1); or a list
            with an array per row.
        what: the table, for the messages.

    Raises:
        Error: lengths that differ, a shape such as (n, 1), missing values, mixed types, no row.
    """
    table = {name: _column(value, f"{what}, column {name}") for name, value in named(values).items()}
    require(bool(table), f"{what}: there is no column")
    require(not any(name.endswith(LENGTHS) for name in table), f"{what}: no column may have a name with {LENGTHS}")
    lengths = {name: len(column) for name, column in table.items()}
    every = ", ".join(f"{name} {length}" for name, length in lengths.items())
    require(len(set(lengths.values())) == 1, f"{what}: the columns differ in length: {every}")
    require(next(iter(lengths.values())) > 0, f"{what}: there is no row")
    return table


def _column(value: Any, what: str) -> numpy.ndarray:
    import numpy

    is_list = isinstance(value, list | tuple)
    array = None if is_list else _array(value, what)
    items = value if array is None else array.tolist() if array.ndim == 1 and array.dtype.kind in "OT" else []
    if items and all(hasattr(item, "__len__") and not isinstance(item, str | bytes) for item in items):
        rows = [_array(item, what) for item in items]
        is_whole = is_list and len({row.shape for row in rows}) == 1 and (rows[0].size > 0 or not rows[0].ndim)
        array = _array(rows, what) if is_whole else _ragged(*_end_to_end(rows, what))
    else:
        kinds, is_text = {type(item) for item in items}, {isinstance(item, str) for item in items}
        is_plain = items and is_list and (kinds <= PLAIN or len(is_text) > 1)  # NumPy would mix types
        array = numpy.array(items, dtype=object) if is_plain else _array(value, what) if array is None else array
        array = _from_objects(array.tolist(), what) if array.ndim == 1 and array.dtype.kind in "OT" else array
    kind = array[0].dtype if array.dtype == object and array.ndim and len(array) else array.dtype
    require(kind.kind in "biufUSM", f"{what}: holds {kind}, and not numbers, text or dates")
    has_shape = f"{what}: has the shape {array.shape}: one value per row, ({len(array) if array.ndim else 1},)"
    require(array.ndim == 1 or math.prod(array.shape[1:]) > 1, has_shape)
    return array


def _array(value: Any, what: str) -> numpy.ndarray:
    import numpy

    require(not _is_masked(value), f"{what}: some values are masked: fill them, or leave their rows out")
    for step in ("detach", "cpu"):  # a tensor
        value = getattr(value, step)() if callable(getattr(value, step, None)) else value
    value = value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value  # NumPy has none
    try:
        return numpy.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise Error(f"{what}: this is not an array: {error}") from error


def _end_to_end(rows: Iterable[Any], what: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The arrays (k, ...) of the rows as one array; and how long each is, (n,). An empty one may have any shape.

    Raises:
        Error: they differ beyond the first axis, or in whether they hold text.
    """
    import numpy

    arrays = list(rows)
    filled = [array for array in arrays if array.size]
    if len({(array.shape[1:], array.dtype.kind in "US") for array in filled}) > 1 or not all(a.ndim for a in filled):
        found = ", ".join(sorted({f"{array.dtype} {array.shape}" for array in filled})[:3])
        raise Error(f"{what}: an array per row, (k, ...), may differ in k alone; there are {found}")
    lengths = numpy.array([len(array) if array.size else 0 for array in arrays])
    return numpy.concatenate(filled or arrays[:1]), lengths


def _ragged(values: numpy.ndarray, lengths: numpy.ndarray) -> numpy.ndarray:
    """A ragged column: its rows, from one end to the other, are `values`."""
    import numpy

    column = numpy.empty(len(lengths), object)
    for index, end in enumerate(numpy.cumsum(lengths)):
        column[index] = values[end - lengths[index] : end]
    return column


def concatenated(parts: Sequence[numpy.ndarray]) -> numpy.ndarray:
    """Columns of one name, one after the other."""
    import numpy

    if len({part.shape[1:] for part in parts}) > 1:  # in a part, each row may be as long as the others
        return _ragged(*_end_to_end((row for part in parts for row in part), "the folds"))
    return numpy.concatenate(parts)


def unseen(table: Columns, name: str) -> numpy.ndarray | None:
    """The probability of a class whose column a table lacks, (n,): 0, as that of the other classes adds up to 1.

    None: the column is none of a class, or nobody knows what it would be.
    """
    import numpy

    known = [column for other, column in table.items() if other.startswith(CLASS) and column.dtype.kind == "f"]
    is_known = name.startswith(CLASS) and known and {column.ndim for column in known} == {1}
    return numpy.zeros_like(known[0]) if is_known and numpy.allclose(sum(known), 1, atol=1e-3) else None


def in_order(tables: Iterable[Columns]) -> list[str]:
    """The columns of all tables, each after that which it follows in its own: metrics need the order of classes."""
    names: list[str] = []
    for table in tables:
        place = 0
        for name in table:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names


def joined(folds: Mapping[int, Columns], what: str) -> tuple[Columns, dict[str, list[int]]]:
    """The tables of folds as one, with a column "fold"; and which folds lack which column, with a warning.

    There, a column is as `unseen` says; one that is not known is left out.

    Args:
        what: they are of, for the warning.
    """
    import numpy

    table: Columns = {}
    lacking: dict[str, list[int]] = {}
    for name in in_order(sorted(folds.values(), key=len, reverse=True)):
        each = [fold[name] if name in fold else unseen(fold, name) for fold in folds.values()]
        if without := [number for number, fold in folds.items() if name not in fold]:
            lacking[name] = without
        known = [column for column in each if column is not None]
        table |= {name: concatenated(known)} if len(known) == len(folds) else {}
    table["fold"] = numpy.repeat(list(folds), [len(fold["id"]) for fold in folds.values()])
    warn_of_lacking({name: [f"fold {number}" for number in each] for name, each in lacking.items()}, table, what)
    return table, lacking


def warn_of_lacking(lacking: Mapping[str, Iterable[str]], table: Columns, what: str) -> None:
    """Warn of each column that parts of a table lack: whether it is in the table, as `unseen`, or left out."""
    for name, titles in lacking.items():
        then = "counts as 0 there: the others add up to 1" if name in table else "is left out"
        warn(f"{what}: {name} is not in {', '.join(titles)}, and {then}")


def parts(table: Columns, by: str) -> dict[Any, Columns]:
    """The rows of each value of the column `by`, in order, without that column; not copied where they are together."""
    import numpy

    values = table[by]
    cuts = [0, *(numpy.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    rows: dict[Any, Any] = {values[one].item(): slice(one, end) for one, end in itertools.pairwise(cuts)}
    if len(rows) < len(cuts) - 1:
        rows = {value: values == value for value in rows}
    return {value: {name: table[name][rows[value]] for name in table if name != by} for value in sorted(rows)}


def is_flat(column: Any) -> bool:
    """Whether a column has one or k values per row, and is not ragged: a CSV file can hold it."""
    return getattr(column, "ndim", 1) < 3 and getattr(column, "dtype", None) != "object"


def _from_objects(items: list[Any], what: str) -> numpy.ndarray:
    """What pandas and lists give for text: Python's own objects."""
    import numpy

    kinds = {type(item) for item in items}
    if kinds not in ({str}, {bool}) and not kinds <= {int, float}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        empty = [row for row, item in enumerate(items) if type(item) is not str and str(item) in MISSING]
        rows = f": {len(empty)} of {len(items)} rows have no value, such as row {empty[0]} (from 0)" if empty else ""
        raise Error(f"{what}: holds {names}: one type per column, and no missing values{rows}")
    column = numpy.array(items, dtype=float if float in kinds else None)
    is_too_large = column.dtype == object or (column.dtype.kind == "f" and kinds == {int})
    require(not is_too_large, f"{what}: an integer is too large; make it text")
    return column


def flat(table: Mapping[str, Any]) -> Columns:
    """A table whose columns with k values a row are k columns, name_0, name_1, ...; without those not `is_flat`."""
    found: Columns = {}
    for name, column in table.items():
        if getattr(column, "ndim", 1) == 2:
            found |= {f"{name}_{index}": column[:, index] for index in range(column.shape[1])}
        elif is_flat(column):
            found[name] = column
    return found


def require_finite(table: Columns, what: str) -> None:
    """Raise an `Error` when a number is nan or inf, saying how many rows of which column."""
    import numpy

    for name, column in table.items():
        kind = column[0].dtype.kind if column.dtype == object else column.dtype.kind
        if kind in "fM":
            finite = numpy.isfinite(column) if is_flat(column) else [numpy.isfinite(row).all() for row in column]
            bad = (~numpy.array(finite)).reshape(len(column), -1).any(axis=1)
            problem = "have no date" if kind == "M" else "are nan or inf"
            example = f", such as id {table['id'][bad.argmax()]}" if "id" in table else ""
            require(not bad.any(), f"{what}: {bad.sum()} of {len(column)} rows of {name} {problem}{example}")


def is_ascending(ids: numpy.ndarray) -> bool:
    """Whether each id is greater than the one before it."""
    return bool((ids[1:] > ids[:-1]).all())


def require_unique(ids: numpy.ndarray, what: str) -> numpy.ndarray:
    """Raise an `Error` when an id is there twice, naming one; else return their `digests`."""
    import numpy

    require(ids.ndim == 1 and ids.dtype != object, f"{what}: the ids have the shape {ids.shape}: one value per row")
    numbers = digests(ids)
    if not is_ascending(ids) and not is_ascending(numpy.sort(numbers)):
        found, counts = numpy.unique(ids, return_counts=True)
        twice = found[counts > 1]
        if len(twice):
            raise Error(f"{what}: {len(twice)} ids are there more than once, such as {twice[0]}")
    return numbers


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
    """A target, or a row of a ragged one, as it is compared: with the digits of float32; some libraries keep those.

    But whole numbers that float32 does not hold, such as prices in yen, have all their digits, be they saved as
    integers or not.
    """
    import numpy

    if target.dtype.kind not in "iuf" or target.dtype == numpy.float32:
        return _single(target)
    most = numpy.abs(target.astype(float)).max(initial=0)
    is_whole = target.dtype.kind in "iu" or (most < 2**63 and numpy.array_equal(target, numpy.rint(target)))
    if most <= 2**24 or not is_whole:
        return _single(target)
    return target.astype("int64") if target.dtype.kind == "f" else target


def _single(target: numpy.ndarray) -> numpy.ndarray:
    return target.astype("float32") if target.dtype.kind in "biuf" else target


def same_target(one: numpy.ndarray, other: numpy.ndarray) -> bool:
    """Whether two targets of the same rows, in one order, are the same, ragged or not: integers with all their digits,
    other numbers with those of float32."""
    import numpy

    pairs = zip(one, other, strict=True) if object in (one.dtype, other.dtype) else [(one, other)]

    def are_same(mine: numpy.ndarray, its: numpy.ndarray) -> bool:
        are_whole = mine.dtype.kind in "iu" and its.dtype.kind in "iu"
        return numpy.array_equal(mine, its) if are_whole else numpy.array_equal(_single(mine), _single(its))

    return all(are_same(mine, its) for mine, its in pairs)


def target_hash(table: Columns, numbers: numpy.ndarray | None = None) -> str | None:
    """A hash of the targets of each id, in whatever order the rows are; None: the table has no target.

    Args:
        numbers: the `digests` of the ids, if they are known.
    """
    if not (names := targets(table)):
        return None
    numbers = row_numbers(table, names, comparable, numbers)
    return hashlib.sha256(f"{names} {fingerprint(numbers, numbers)}".encode()).hexdigest()[:16]


def row_numbers(
    table: Columns, names: Iterable[str], change: Change = _single, numbers: numpy.ndarray | None = None
) -> numpy.ndarray:
    """A number for each row, (n,), uint64, of its id and of the columns `names`, after `change`.

    Args:
        numbers: the `digests` of the ids, if they are known.
    """
    import numpy

    numbers = digests(table["id"]) if numbers is None else numbers
    for name in names:
        for column in numpy.atleast_2d(_contents(table[name], change).T):
            numbers = digests(numbers * numpy.uint64(0x9E3779B97F4A7C15) ^ digests(column))
    return numbers


def dataset(table: Columns, what: str) -> tuple[int, str, str | None]:
    """How many rows there are, a hash of their ids, and one of their targets (None: there are none), in whatever order.

    Other columns than "id", "target" and "target_<what>" do not count. Errors as of `require_unique`.
    """
    numbers = require_unique(table["id"], what)
    own = {name: column for name, column in table.items() if re.match("id$|target(_|$)", name)}
    return len(numbers), fingerprint(table["id"], numbers), target_hash(own, numbers)


def _contents(column: numpy.ndarray, change: Change | None = None) -> numpy.ndarray:
    """A column as it is when `is_flat`, else a number for the array in each row, (n,), uint64.

    Args:
        change: is done before, row by row where a row is large.
    """
    import numpy

    change = change or numpy.asarray
    if is_flat(column):
        return change(column)

    def number(row: numpy.ndarray) -> int:
        row = change(row)
        content = repr(row.tolist()).encode() if row.dtype.kind in "US" else (row + 0).tobytes()  # -0.0 is 0.0
        return int.from_bytes(hashlib.blake2b(f"{row.shape}".encode() + content, digest_size=8).digest())

    return numpy.array([number(row) for row in column], numpy.uint64)


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
    kinds = {own.dtype.kind, ids.dtype.kind}  # the id 1 is another than "1"
    problem = f"{what}: the ids are {own.dtype}, and those of {other} are {ids.dtype}"
    require(len(kinds) == 1 or kinds <= {*"iu"}, problem)
    if own is ids or numpy.array_equal(own, ids):
        return table
    if len(own) == len(ids):
        order = numpy.empty(len(ids), numpy.intp)
        order[numpy.argsort(digests(ids), kind="stable")] = numpy.argsort(digests(own), kind="stable")
        if numpy.array_equal(own[order], ids):
            return {name: column[order] for name, column in table.items()}
    for each, whose in ((own, what), (ids, other)):
        require_unique(each, whose)
    fewer, more = numpy.setdiff1d(ids, own), numpy.setdiff1d(own, ids)
    example = f", such as {[*fewer, *more][0]}"
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
            differ = differing({name: table[name]}, first, comparable)
            if rows := int(differ.sum()):
                example = first["id"][differ.argmax()]
                raise Error(f"{own} has another {name} than {title} in {rows} rows, such as id {example}")
        found.append(table)
    return found


def differing(one: Columns, other: Columns, change: Change | None = None) -> numpy.ndarray:
    """Which rows of two tables with the columns of the first, in one order, are not the same, (n,).

    Args:
        change: of each column, or of each row where a row is large; is done before.
    """
    import numpy

    unequal = [_contents(column, change) != _contents(other[name], change) for name, column in one.items()]
    return numpy.any([each.any(axis=1) if each.ndim == 2 else each for each in unequal], axis=0)


def save(file: Path, table: Columns) -> None:
    """Write a table; equal tables make equal bytes."""
    import numpy

    stored = dict(table)
    for name, column in table.items():
        if column.dtype == object:
            stored[name], stored[name + LENGTHS] = _end_to_end(column, name)
    with zipfile.ZipFile(file, "w") as archive:  # numpy.savez takes no column with the name of one of its arguments
        for name, column in stored.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                numpy.lib.format.write_array(stream, column, allow_pickle=False)


def load(file: Path, only: str | None = None) -> Columns:
    """Read a table, or one of its columns. Nothing in it is executed.

    Raises:
        Broken: it is not what `save` wrote.
        FileNotFoundError: there is none.
    """
    import numpy

    try:
        with open(file, "rb", opener=regular) as stream, numpy.load(stream, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if only in (None, name.removesuffix(LENGTHS))}
        for name in [name for name in found if name.endswith(LENGTHS)]:
            lengths, of = found.pop(name), name.removesuffix(LENGTHS)
            if lengths.min() < 0 or lengths.sum() != len(found[of]):
                raise ValueError(f"{name} does not fit {of}")
            found[of] = _ragged(found[of], lengths)
        return found
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
        how = "" if isinstance(error, OSError) else ": save it as UTF-8 with commas between its columns"
        raise Error(f"{display_path(file)} cannot be read: {error}{how}") from error
    require(bool(header), f"{display_path(file)} is empty")
    alone = f"{display_path(file)} has one column, {header[0]}: save it as UTF-8 with commas between its columns"
    require(len(header) > 1, alone)
    is_whole = all(len(row) >= len(header) for row in rows)
    require(is_whole, f"{display_path(file)}: a line has fewer columns than the first")
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
