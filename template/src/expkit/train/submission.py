"""Whether a submission is what the competition asks for: the sample submission says."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expkit.errors import Error, require
from expkit.inputs import files_of
from expkit.paths import shown

if TYPE_CHECKING:
    from expkit.tables import Columns

SAMPLE = "sample_submission.csv"


@dataclass(frozen=True)
class Sample:
    """What a competition asks for: a sample submission.

    Attributes:
        header: the names of the columns; the first is the id.
        rows: the values, by column, as text.
    """

    file: Path
    header: list[str]
    rows: list[list[str]]

    @property
    def ids(self) -> list[str]:
        return self.rows[0]


def find_sample(named: Sequence[str] | None, what: str) -> Sample | None:
    """The sample submission among the data of an experiment, or beside a file of them; None when there is none.

    Args:
        named: what of `input/` is its data, as `Experiment.inputs`.
        what: the submission, for the messages.

    Raises:
        Error: there is more than one, or it cannot be read.
    """
    files = [Path(path) for _, path in files_of(named)]
    found = [path for path in files if path.name == SAMPLE]
    found = found or sorted({path.with_name(SAMPLE) for path in files if path.with_name(SAMPLE).is_file()})
    if not found:
        return None
    require(
        len(found) == 1,
        f"{what}: there are {len(found)} files {SAMPLE}: name the data, expkit.Experiment(..., inputs=[...])",
    )
    try:
        with open(found[0], newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            header = next(rows)
            lines = [row for row in rows if row]
            return Sample(found[0], header, [[row[place] for row in lines] for place in range(len(header))])
    except (OSError, UnicodeDecodeError, csv.Error, StopIteration, IndexError) as error:
        raise Error(f"{shown(found[0])} cannot be read: {error or 'it is empty'}") from error


def check_submission(table: Columns, what: str, sample: Sample | None) -> None:
    """Hold a submission against the sample: columns, ids, their order, how many.

    Raises:
        Error: they differ, or an id is there twice.
    """
    if sample is None:
        return
    name, header, ids = shown(sample.file), sample.header, sample.ids
    columns = list(table)
    require(columns == header, f"{what}: the columns are {', '.join(columns)}, but {name} has {', '.join(header)}")
    own = [str(value) for value in table[header[0]].tolist()]
    if own == ids:
        return
    if len(set(own)) != len(own):
        twice = next(value for value in own if own.count(value) > 1)
        raise Error(f"{what}: the {header[0]} {twice} is there more than once")
    known, there = set(ids), set(own)
    if missing := [value for value in ids if value not in there]:
        raise Error(f"{what}: {len(missing)} rows of {name} are missing, such as {header[0]} {missing[0]}")
    if extra := [value for value in own if value not in known]:
        raise Error(f"{what}: {len(extra)} rows are not in {name}, such as {header[0]} {extra[0]}")
    raise Error(f"{what}: the rows are in another order than in {name}")
