"""`exp submit`: a submission from the test predictions of folds, of several runs, or of the training on all rows."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import record, tables
from expkit.codehash import same_code
from expkit.combine.columns import PROBABILITY, class_columns
from expkit.combine.mean import Mean
from expkit.config.experiment import load_experiment
from expkit.errors import Error, require
from expkit.files import Broken
from expkit.paths import output_dir, shown
from expkit.record import SUBMISSION, TEST, FoldRecord, RunRecord
from expkit.train.submission import Sample, check_submission, find_sample

if TYPE_CHECKING:
    from expkit.tables import Columns

LONGEST = 140  # characters of what a submission is called
FOLDS, FULL = "folds", "full"


@dataclass(frozen=True)
class Source:
    """What of a run goes into a submission.

    Attributes:
        kind: "folds", or "full": the training on all rows.
        parts: the folds whose test predictions are averaged, or that training.
    """

    run: RunRecord
    kind: str
    parts: list[FoldRecord]

    def __str__(self) -> str:
        if self.kind == FULL:
            return f"{self.run.title}: trained on all rows, {record.fold_name(None)}/{self.file}"
        numbers = ", ".join(str(fold.number) for fold in self.parts)
        folds = f"folds {numbers}" if len(self.parts) > 1 else f"fold {numbers}"
        return f"{self.run.title}: mean of the test predictions of {folds}"

    @property
    def file(self) -> str:
        """The name of the file with the predictions."""
        return SUBMISSION if _lacks(TEST, self.parts[0]) else TEST

    @property
    def marks(self) -> list[str]:
        """How the training on all rows differs from the folds, whose score the run has."""
        first = next(iter(self.run.done.values()), None)
        if self.kind != FULL or first is None or first.result is None or self.parts[0].result is None:
            return []
        one, other = first.result, self.parts[0].result
        differ = {"code": not same_code(one["code"], other["code"]), "data": one["data"] != other["data"]}
        return [f"trained on all rows with other {what} than the folds" for what, differs in differ.items() if differs]

    def about(self, marks: Sequence[str]) -> dict[str, Any]:
        """What it is, as JSON has it."""
        score, info = self.run.score(), self.run.info or {}
        return {
            "run": self.run.title,
            "version": record.version_number(self.run.folder),
            "id": info.get("id"),
            "from": self.kind,
            "folds": [fold.number for fold in self.parts] if self.kind == FOLDS else [],
            "results": [fold.checksum for fold in self.parts],
            "metric": self.run.metric,
            "score": score.value if score else None,
            "std": score.std if score else None,
            "marks": list(marks),
            "git": self.parts[0].result["git"] if self.parts[0].result else None,
        }


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


def choose(run: RunRecord, kind: str | None, partial: bool) -> Source:
    """What of a run goes into a submission.

    Args:
        kind: "folds" or "full"; None: the folds when every one has test predictions, else the training on all rows.
        partial: be content with the folds that have some.

    Raises:
        Error: there is none; the message says what to do.
    """
    tested = [fold for fold in run.done.values() if not _lacks(TEST, fold)]
    is_whole = run.is_complete and len(tested) == run.n_folds
    full = run.full if run.full and not (_lacks(TEST, run.full) and _lacks(SUBMISSION, run.full)) else None
    if kind != FULL and (is_whole or (partial and tested)):
        return Source(run, FOLDS, tested)
    if kind != FOLDS and full is not None:
        return Source(run, FULL, [full])
    if kind == FULL:
        raise Error(f"{run.title} is not trained on all rows, with predictions of the test set: exp.mode=sub does that")
    if tested:
        what = f"{len(tested)} of {run.n_folds} folds have test predictions"
        raise Error(f"{run.title}: {what}: train the others (exp.fold=null), or --partial takes the mean of these")
    raise Error(
        f"{run.title} has no test predictions: fold.save_test(...) in train.py keeps those of each fold "
        "(overwrite=true trains them again), or exp.mode=sub trains on all rows"
    )


def _lacks(name: str, fold: FoldRecord) -> bool:
    return fold.result is None or name not in fold.result["files"]


def title_of(sources: Sequence[Source], is_seeds: bool = False) -> str:
    """What a submission is called, from what it is made of."""
    runs = sorted((source.run for source in sources), key=lambda run: len(run.name)) if is_seeds else []
    runs = runs or [source.run for source in sources]
    title = runs[0].title.replace("/", "_")
    others = [run.name if run.experiment == runs[0].experiment else run.title.replace("/", "_") for run in runs[1:]]
    if is_seeds:
        title += f"_{len(runs)}-seeds"
    elif len("+".join([title, *others])) <= LONGEST:
        title = "+".join([title, *others])
    elif others:
        title += f"+{len(others)}-more"
    kinds = {source.kind for source in sources}
    return f"{title[: LONGEST - 10]}_{kinds.pop() if len(kinds) == 1 else 'mixed'}"


def submit(sources: Sequence[Source], title: str, marks: Mapping[str, Sequence[str]]) -> Submission:
    """Write the mean of test predictions as a submission: of the folds of each run, then of the runs.

    Numbers are averaged. Where the folds have different labels, the class of the highest mean probability is taken.

    Columns are found by name. The sample's first column is "id", whatever it is called. Another column of the sample is
    in this order the column of that name; probability_<name>; when the sample asks for one alone, "prediction", or the
    only column there is. Without a sample: "id" and "prediction", or all there are. The rows have the sample's order.

    Args:
        title: begins the name of the file.
        marks: what to know about each run, by its title; kept in the JSON file.

    Raises:
        Error: the predictions do not fit each other or the sample; nothing is written.
    """
    what = "the submission"
    sample = _sample(sources, what)
    if len(sources) == 1 and sources[0].file == SUBMISSION:
        table, made = _as_it_is(sources[0])
    else:
        table, made = _columns(_mean(sources), sample, what)
    tables.require_finite(table, what)
    check_submission(table, what, sample)
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


def _sample(sources: Sequence[Source], what: str) -> Sample | None:
    found: dict[Path, Sample] = {}
    for experiment in dict.fromkeys(source.run.experiment for source in sources):
        try:
            named = load_experiment(experiment).experiment.inputs
        except Exception:  # it is gone or broken: its predictions are there all the same
            named = None
        if sample := find_sample(named, what):
            found[sample.file] = sample
    require(len(found) < 2, f"{what}: the runs have different samples: {', '.join(map(shown, found))}")
    return next(iter(found.values()), None)


def _mean(sources: Sequence[Source]) -> Mean:
    mean = Mean()
    for source in sources:
        for fold in source.parts:
            title = f"{source.run.title}, {fold.title}"
            require(
                source.file == TEST,
                f"{title}: has no test predictions to average: call fold.save_test(...) with exp.mode=sub, too",
            )
            try:
                mean.add(fold.predictions(TEST), title, 1 / len(source.parts))
            except (Broken, FileNotFoundError) as error:
                raise Error(f"{title}: its test predictions cannot be read: {error}") from error
    return mean


def _as_it_is(source: Source) -> tuple[Columns, dict[str, str]]:
    """The submission that the training on all rows has written."""
    import numpy

    with open(source.parts[0].folder / SUBMISSION, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    table = {name: numpy.array([row[place] for row in rows]) for place, name in enumerate(header)}
    return table, {name: name for name in header}


def _columns(mean: Mean, sample: Sample | None, what: str) -> tuple[Columns, dict[str, str]]:
    """The columns of a submission, and how each was made."""
    import numpy

    assert mean.ids is not None
    if sample is None:
        names = ["prediction"] if "prediction" in mean.names else mean.names
        found = {name: mean.column(name) for name in names}
        return {"id": mean.ids} | {name: one for name, (one, _) in found.items()}, {n: m for n, (_, m) in found.items()}
    first, *wanted = sample.header
    found = {}
    for place, name in enumerate(wanted, start=1):
        found[name] = mean.column(_meant(name, mean.names, len(wanted) == 1, what, sample))
        shares = filter(_is_share, sample.rows[place])
        if found[name][0].dtype.kind != "f" and class_columns(mean.names) and (share := next(shares, None)):
            raise Error(
                f"{what}: {shown(sample.file)} has numbers such as {share} in {name}, and the predictions are labels: "
                f"give fold.save_test a column {name} with the number"
            )
    own = [str(value) for value in mean.ids.tolist()]
    order = numpy.arange(len(own))
    if own != sample.ids and len(own) == len(sample.ids) and set(own) == set(sample.ids):
        place_of = {value: number for number, value in enumerate(own)}
        order = numpy.array([place_of[value] for value in sample.ids])
    table = {first: mean.ids[order]} | {name: column[order] for name, (column, _) in found.items()}
    return table, {name: made for name, (_, made) in found.items()}


def _meant(name: str, there: Sequence[str], is_alone: bool, what: str, sample: Sample) -> str:
    """Which of the columns there are is the column `name` of the sample."""
    candidates = [name, f"{PROBABILITY}_{name}", *(["prediction"] if is_alone else [])]
    if is_alone and len(there) == 1:
        candidates += there
    for one in candidates:
        if one in there:
            return one
    raise Error(
        f"{what}: {shown(sample.file)} has the column {name}, and the test predictions have {', '.join(there)}: "
        f"give fold.save_test a column {name}"
    )


def _is_share(text: str) -> bool:
    """Whether a text is a number between whole ones, as a probability is."""
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False
