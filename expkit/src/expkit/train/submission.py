"""Whether a submission is what the competition asks for: the sample submission says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import tables
from expkit.errors import Error, require, warn
from expkit.inputs import files_of
from expkit.paths import shown
from expkit.train.predictions import PROBABILITY, class_columns

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

SAMPLE = "sample_submission.csv"


@dataclass(frozen=True)
class Sample:
    """What a competition asks for: a sample submission.

    Attributes:
        columns: name to values, as text; the first is the id.
    """

    file: Path
    columns: dict[str, list[str]]

    @property
    def header(self) -> list[str]:
        return list(self.columns)

    @property
    def ids(self) -> list[str]:
        return self.columns[self.header[0]]

    def is_for(self, ids: numpy.ndarray) -> bool:
        """Whether most of its rows are among ids, (n,), if zeros before a number do not count."""
        own, wanted = self._keys(ids)
        known = {key.lstrip("0") for key in own}
        return 2 * sum(key.lstrip("0") in known for key in wanted) > len(wanted)

    def places_in(self, ids: numpy.ndarray, what: str) -> numpy.ndarray:
        """Where each row of the sample stands among ids, as indices (n,).

        Raises:
            Error: an id is there twice; ids are missing, or others are there.
        """
        import numpy

        own, wanted = self._keys(ids)
        if own == wanted:
            return numpy.arange(len(own))
        name, id = shown(self.file), self.header[0]
        place_of = {key: place for place, key in enumerate(own)}
        twice = next((key for place, key in enumerate(own) if place_of[key] != place), None)
        require(twice is None, f"{what}: the {id} {twice} is there more than once")
        if missing := [text for text, key in zip(self.ids, wanted, strict=True) if key not in place_of]:
            is_number = any((text.lstrip("0") or "0") in place_of for text in missing)
            hint = f' (read ids as text, with their zeros: dtype={{"{id}": str}})' if is_number else ""
            raise Error(f"{what}: {len(missing)} rows of {name} are missing, such as {id} {missing[0]}{hint}")
        known = set(wanted)
        if extra := [key for key in own if key not in known]:
            raise Error(f"{what}: {len(extra)} rows are not in {name}, such as {id} {extra[0]}")
        require(len(own) == len(wanted), f"{what}: {name} has ids more than once: put the rows in its order")
        return numpy.array([place_of[key] for key in wanted])

    def _keys(self, ids: numpy.ndarray) -> tuple[list[str], list[str]]:
        """What ids and those of the sample are compared by: their text; a time has one, however it is written."""
        import numpy

        if ids.dtype.kind == "M":
            with suppress(ValueError):  # the sample has no times
                wanted = numpy.array(self.ids, "datetime64")
                kind = numpy.promote_types(ids.dtype, wanted.dtype)
                return ids.astype(kind).astype(str).tolist(), wanted.astype(kind).astype(str).tolist()
        return [str(value) for value in ids.tolist()], self.ids

    def columns_of(self, types: Mapping[str, numpy.dtype[Any]], what: str) -> dict[str, str]:
        """Which column of the test predictions is each column of the sample but the first.

        Args:
            types: of the columns of the predictions, by name.

        Raises:
            Error: there is none; or it holds labels, and the sample has numbers between whole ones.
        """
        wanted, names = self.header[1:], list(types)
        others = ["prediction", *(names if len(names) == 1 else [])] if len(wanted) == 1 else []
        candidates = {name: [name, f"{PROBABILITY}_{name}", *others] for name in wanted}
        found = {name: next(filter(types.__contains__, each), "") for name, each in candidates.items()}
        series = [f"prediction_{place}" for place in range(len(wanted))]  # of (n, k) predictions
        is_series = set(filter(None, found.values())) <= set(series) <= set(names)
        if is_series and not all(found.values()) and f"prediction_{len(wanted)}" not in names:
            found = dict(zip(wanted, series, strict=True))
        for name in wanted:
            require(
                bool(found.get(name)),
                f"{what}: {shown(self.file)} has the column {name}, and the test predictions have {', '.join(names)}: "
                f"give fold.save_test a column {name}",
            )
            shares = filter(_is_share, self.columns[name])
            if types[found[name]].kind != "f" and class_columns(names) and (share := next(shares, None)):
                raise Error(
                    f"{what}: {shown(self.file)} has numbers such as {share} in {name}, and the predictions are "
                    f"labels: give fold.save_test a column {name} with the number"
                )
        return found


def find_sample(named: Sequence[str] | None, what: str, table: Columns, is_said: bool = True) -> Sample | None:
    """The sample submission among the data of an experiment, or beside a file of them; None when there is none.

    Args:
        named: what of `input/` is its data, as `Experiment.inputs`. [], no data: a sample anywhere in `input/` counts
            when it has the columns of `table`, or most of its rows.
        what: the submission, for the messages.
        table: the submission, or what becomes one; the first column is the id.
        is_said: whether to warn of samples that do not count.

    Raises:
        Error: there is more than one, or it cannot be read.
    """
    files = [Path(path) for _, path in files_of(named or None)]
    found = [path for path in files if path.name == SAMPLE]
    found = found or sorted({path.with_name(SAMPLE) for path in files if os.path.isfile(path.with_name(SAMPLE))})
    samples = [Sample(file, tables.read_csv(file)) for file in found]
    if named is not None and not named:
        ids = next(iter(table.values()))
        others, samples = samples, [one for one in samples if one.header == list(table) or one.is_for(ids)]
        if others and not samples and is_said:
            warn(f"{what} is not held against {shown(others[0].file)}, which has other columns and rows")
    require(
        len(samples) < 2,
        f"{what}: there are {len(samples)} files {SAMPLE}: name the data, expkit.Experiment(..., inputs=[...])",
    )
    return samples[0] if samples else None


def fitted(table: Columns, what: str, sample: Sample | None) -> Columns:
    """A submission as the sample has it: with its rows in this order, and the ids written as there.

    Raises:
        Error: other columns or ids than in the sample, or an id twice.
    """
    import numpy

    if sample is None:
        return table
    columns, name = list(table), shown(sample.file)
    require(
        columns == sample.header,
        f"{what}: the columns are {', '.join(columns)}, but {name} has {', '.join(sample.header)}",
    )
    places = sample.places_in(table[columns[0]], what)
    return {columns[0]: numpy.array(sample.ids)} | {name: table[name][places] for name in columns[1:]}


def check_test(table: Columns, what: str, named: Sequence[str] | None, debug: bool) -> str:
    """Hold the test predictions of a fold against the sample, before the other folds are trained.

    Args:
        table: the predictions, with the column "id".
        named: as of `find_sample`.
        debug: whether rows may be missing.

    Returns:
        why `exp submit` will refuse them, if they may be of other rows than the sample asks for; else "".

    Raises:
        Error: they are of the rows of the sample, and do not fit.
    """
    ids, sample = table["id"], None
    try:
        sample = find_sample(named, what, {"id": ids}, is_said=False)
        if sample is None or (debug and not sample.is_for(ids)):
            return ""
        sample.places_in(ids, what)
    except Error as error:
        if sample is not None and sample.is_for(ids) and not debug:
            raise
        return str(error)
    sample.columns_of({name: column.dtype for name, column in tables.flat(table).items() if name != "id"}, what)
    return ""


def _is_share(text: str) -> bool:
    """Whether a text is a number between whole ones, as a probability is."""
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False
