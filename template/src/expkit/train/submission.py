"""Whether a submission is what the competition asks for: the sample submission says."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expkit.errors import Error, require
from expkit.inputs import files_of
from expkit.paths import shown

if TYPE_CHECKING:
    from expkit.tables import Columns

SAMPLE = "sample_submission.csv"


def check_submission(table: Columns, what: str, named: Sequence[str] | None) -> None:
    """Hold a submission against the sample among the data of an experiment: columns, ids, their order, how many.

    Args:
        named: what of `input/` is its data, as `Experiment.inputs`.

    Raises:
        Error: they differ, or an id is there twice.
    """
    found = sorted(path for _, path in files_of(named) if path.name == SAMPLE)
    if not found:
        return
    require(
        len(found) == 1,
        f"{what}: there are {len(found)} files {SAMPLE}: expkit.Experiment(..., inputs=[...]) names the data",
    )
    header, ids = _read(found[0])
    sample = shown(found[0])
    columns = list(table)
    require(columns == header, f"{what}: the columns are {', '.join(columns)}, and {sample} has {', '.join(header)}")
    own = [str(value) for value in table[header[0]].tolist()]
    if own == ids:
        return
    if len(set(own)) != len(own):
        twice = next(value for value in own if own.count(value) > 1)
        raise Error(f"{what}: the {header[0]} {twice} is there more than once")
    known, there = set(ids), set(own)
    if missing := [value for value in ids if value not in there]:
        raise Error(f"{what}: {len(missing)} rows of {sample} are missing, such as {header[0]} {missing[0]}")
    if extra := [value for value in own if value not in known]:
        raise Error(f"{what}: {len(extra)} rows are not in {sample}, such as {header[0]} {extra[0]}")
    raise Error(f"{what}: the rows are in another order than in {sample}")


def _read(file: Path) -> tuple[list[str], list[str]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            header = next(rows)
            return header, [row[0] for row in rows if row]
    except (OSError, UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise Error(f"{shown(file)} cannot be read: {error or 'it is empty'}") from error
