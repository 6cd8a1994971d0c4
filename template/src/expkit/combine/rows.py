"""The same rows in two tables, whatever their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expkit import tables
from expkit.errors import Error

if TYPE_CHECKING:
    import numpy


def positions(ids: numpy.ndarray, others: numpy.ndarray, what: str) -> numpy.ndarray | None:
    """Where each of `ids` stands in `others`, as indices (n,); None when both are the same in the same order.

    Args:
        ids, others: ids that are there once, (n,).
        what: the table of `others`, for the message.

    Raises:
        Error: the ids are not the same, or of another type.
    """
    import numpy

    if ids.dtype.kind != others.dtype.kind and {ids.dtype.kind, others.dtype.kind} != set("iu"):
        raise Error(f"{what}: the ids are {others.dtype}, and those before {ids.dtype}")
    if numpy.array_equal(ids, others):
        return None
    if len(ids) != len(others) or len(tables.common(ids, others)) != len(ids):
        missing = numpy.setdiff1d(ids, others)
        extra = numpy.setdiff1d(others, ids)
        example = f"{missing[0]} is missing" if len(missing) else f"{extra[0]} is not among those before"
        raise Error(f"{what}: other rows: {len(missing)} are missing and {len(extra)} are new; the id {example}")
    if ids.dtype.kind == "U":  # sorting text takes far longer
        place = {each: number for number, each in enumerate(others.tolist())}
        return numpy.fromiter((place[each] for each in ids.tolist()), numpy.intp, len(ids))
    order = numpy.argsort(others, kind="stable")
    return numpy.asarray(order[numpy.searchsorted(others, ids, sorter=order)])
