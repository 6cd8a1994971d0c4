"""`exp submit`: a submission from the test predictions of folds, of several runs, or of the training on all rows."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import record, tables
from expkit.combine.mean import Mean
from expkit.combine.source import Source, mean_of
from expkit.config.load import load_experiment
from expkit.errors import require
from expkit.paths import output_dir, shown
from expkit.record import SUBMISSION
from expkit.train.submission import Sample, find_sample, fitted

if TYPE_CHECKING:
    from expkit.tables import Columns


@dataclass(frozen=True)
class Submission:
    """A submission that has been written.

    Attributes:
        file: the CSV file; what it is made of stands in the JSON file beside it.
        columns: how each column was made, by its name.
        sample: the sample submission that it fits; None: there is none.
        about: the content of the JSON file.
    """

    file: Path
    sources: list[Source]
    columns: dict[str, str]
    sample: Path | None
    about: dict[str, Any]


def submit(sources: Sequence[Source], title: str, marks: Mapping[str, Sequence[str]]) -> Submission:
    """Write the mean of test predictions as a submission: of the folds of each run, then of the runs.

    Numbers are averaged. Where the folds have different labels, the class of the highest mean probability is taken.

    Columns are found by name. The sample's first column is "id", whatever it is called. Another column of the sample is
    in this order the column of that name; probability_<name>; when the sample asks for one alone, "prediction", or the
    only column there is; when it asks for k, the k values of an (n, k) "prediction", in its order. Without a sample:
    "id" and "prediction", or all there are. The rows have the sample's order.

    Args:
        title: begins the name of the file.
        marks: what to know about each run, by its title; kept in the JSON file.

    Raises:
        Error: the predictions do not fit each other or the sample; nothing is written.
    """
    what = "the submission"
    if len(sources) == 1 and sources[0].file == SUBMISSION:
        table, made = _as_it_is(sources[0])
        sample = _sample(sources, what, table)
    else:
        mean = mean_of(sources)
        sample = _sample(sources, what, {"id": mean.ids})
        table, made = _columns(mean, sample, what)
    tables.require_finite(table, what)
    table = fitted(table, what, sample)
    stream = io.StringIO(newline="")
    tables.write_csv(stream, table)
    about = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "rows": len(next(iter(table.values()))),
        "columns": made,
        "sample": None if sample is None else sample.file.name,
        "runs": [source.about(marks.get(source.run.title, ())) for source in sources],
    }
    file = record.write_submission(output_dir(), title, stream.getvalue(), about)
    return Submission(file, list(sources), made, sample.file if sample else None, about)


def _sample(sources: Sequence[Source], what: str, table: Columns) -> Sample | None:
    found: dict[Path, Sample] = {}
    for experiment in dict.fromkeys(source.run.scored_by for source in sources):
        try:
            named = load_experiment(experiment).experiment.inputs
        except Exception:  # it is gone or broken: its predictions are there all the same
            named = None
        if sample := find_sample(named, what, table):
            found[sample.file] = sample
    require(len(found) < 2, f"{what}: the runs have different sample submissions: {', '.join(map(shown, found))}")
    return next(iter(found.values()), None)


def _as_it_is(source: Source) -> tuple[Columns, dict[str, str]]:
    """The submission that the training on all rows has written."""
    import numpy

    columns = tables.read_csv(source.parts[0].folder / SUBMISSION)
    return {name: numpy.array(column) for name, column in columns.items()}, {name: name for name in columns}


def _columns(mean: Mean, sample: Sample | None, what: str) -> tuple[Columns, dict[str, str]]:
    """The columns of a submission, and how each was made."""
    if sample is None:
        first, meant = "id", {name: name for name in (["prediction"] if "prediction" in mean.names else mean.names)}
    else:
        first, meant = sample.header[0], sample.columns_of({name: mean.dtype(name) for name in mean.names}, what)
    found = {name: mean.column(one) for name, one in meant.items()}
    return {first: mean.ids} | {name: one for name, (one, _) in found.items()}, {n: m for n, (_, m) in found.items()}
