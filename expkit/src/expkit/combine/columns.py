"""Which columns of predictions can be averaged, and which class the averages mean: numbers are averaged, labels never.

A number is a floating-point column; one that holds whole numbers alone, in every part, counts as labels, unless it is a
probability. Labels that all parts agree on stay as they are. Where they differ, the label is the class of the highest
averaged probability, from the columns probability_<class>.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from expkit.errors import Error
from expkit.train.predictions import PROBABILITY, class_columns

if TYPE_CHECKING:
    import numpy


def is_probability(name: str) -> bool:
    return name == PROBABILITY or name.startswith(f"{PROBABILITY}_")


def may_be_labels(name: str, column: numpy.ndarray) -> bool:
    """Whether a column holds no numbers to average: text, integers, truth values; or whole numbers alone."""
    import numpy

    if column.dtype.kind != "f":
        return True
    return not is_probability(name) and bool((column == numpy.floor(column)).all())


def most_likely(numbers: Mapping[str, numpy.ndarray], dtype: numpy.dtype[Any], what: str) -> numpy.ndarray:
    """The class of the highest probability in each row, the first of equal ones.

    Args:
        numbers: columns, among them probability_<class>, (n,).
        dtype: of the labels: the class 3 is a number, "3" a text.

    Raises:
        Error: there are no probabilities, or <class> is no such label.
    """
    import numpy

    names = class_columns(list(numbers))
    if not names:
        raise Error(f"{what} holds labels, which have no mean: save columns {PROBABILITY}_<class>, too")
    texts = [name.removeprefix(f"{PROBABILITY}_") for name in names]
    try:
        labels = numpy.array([text == "True" for text in texts]) if dtype.kind == "b" else numpy.array(texts)
        labels = labels if dtype.kind == "U" else labels.astype(dtype)
    except (ValueError, OverflowError):
        labels = numpy.array([], dtype)
    if [str(label) for label in labels.tolist()] != texts:
        raise Error(f"{what} holds {dtype}, but {names[0]} and the like name other classes: {', '.join(texts[:3])}")
    highest, place = numbers[names[0]].copy(), numpy.zeros(len(numbers[names[0]]), numpy.intp)
    for number, name in enumerate(names[1:], start=1):  # a column at a time: many classes of many rows are large
        above = numbers[name] > highest
        highest[above], place[above] = numbers[name][above], number
    return numpy.asarray(labels[place])
