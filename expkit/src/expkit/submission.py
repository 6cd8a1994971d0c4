"""Submissions: the mean of test predictions, with the columns and in the order of the sample submission."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files, store, tables
from expkit.config import Experiment, load_experiment
from expkit.data import SAMPLE, input_files
from expkit.errors import Error, require, warn
from expkit.fingerprint import metric_hash
from expkit.project import display_path, output_dir
from expkit.scores import called, postprocess
from expkit.store import TEST, FoldRecord, Run

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

LABEL = "prediction"
LONGEST = 100  # characters of a name that is made of the names of runs
PROBABILITY = "probability"

# Averaging


def is_probability(name: str) -> bool:
    return name == PROBABILITY or name.startswith(f"{PROBABILITY}_")


def class_columns(names: Iterable[str]) -> list[str]:
    """The columns with the probability of a class each; [] when there are not two."""
    found = [name for name in names if name.startswith(f"{PROBABILITY}_")]
    return found if len(found) > 1 else []


def most_likely(table: Columns, dtype: numpy.dtype[Any], what: str) -> numpy.ndarray:
    """The class of the highest probability in each row, the first of equal ones.

    Args:
        table: columns, among them probability_<class>, (n,).
        dtype: of the labels: the class 3 is a number, "3" a text.
        what: the column of labels, for the messages.

    Raises:
        Error: there are no probabilities, or <class> is no such label.
    """
    import numpy

    numbers = tables.flat(table)
    names = class_columns(numbers)
    require(bool(names), f"{what} holds labels, which have no mean: save columns {PROBABILITY}_<class>, too")
    texts = [name.removeprefix(f"{PROBABILITY}_") for name in names]
    labels = []
    with suppress(ValueError, OverflowError):
        labels = [text == "True" if dtype.kind == "b" else dtype.type(text) for text in texts]
    if list(map(str, labels)) != texts:
        raise Error(f"{what} holds {dtype}, but {names[0]} and the like name other classes: {', '.join(texts[:3])}")
    return numpy.array(labels)[numpy.argmax([numbers[name] for name in names], axis=0)]


class Average:
    """The weighted mean of tables of predictions with the same rows, read one at a time; only the sum is kept.

    Numbers are averaged, labels never. A number is a floating-point column; one that holds whole numbers alone, in
    every table, counts as labels, unless it is a probability. What is the same in all tables stays as it is. Where
    labels differ in the column "prediction", the label is the class of the highest averaged probability, from the
    columns probability_<class>; other labels must not differ.

    Args:
        weighted: what each table is, for messages; the table, with the column "id"; and its weight: one, or one per row
            of the first table, (n,). The weights have the sum 1.
        is_rank: average the ranks of numbers, above 0 to 1, in their place. Ranks are no probabilities: no label
            follows.

    Attributes:
        first: the columns of the first table that every other has, too, or is `tables.unseen` there.
        lacking: columns that tables lack, with what these are.
        differing: the columns that are not the same in all tables.
        numbers: the columns that are numbers.
        ragged: the columns without a mean, which are in none of these.

    Raises:
        Error: a table has other ids than the first, no column that this has, or one with other values: labels and
            numbers have no mean.
    """

    def __init__(self, weighted: Iterable[tuple[str, Columns, float | numpy.ndarray]], is_rank: bool = False) -> None:
        import numpy

        self.is_rank, titles, dropped = is_rank, list[str](), {"id"}
        self.first: Columns = {}
        self.lacking: dict[str, list[str]] = {}
        whole: float | numpy.ndarray = 0.0  # the weights so far
        self.differing: set[str] = set()
        self.numbers: set[str] = set()
        self.ragged: list[str] = []
        self._sums: Columns = {}
        for what, given, weight in weighted:
            self.first = self.first or dict(given)
            titles.append(what)
            table = tables.aligned(given, self.first["id"], what, titles[0])
            names = [name for name in tables.in_order([self.first, table]) if name not in dropped]
            for name in names:
                is_new = name not in self.first
                if is_new or name not in table:
                    self.lacking[name] = self.lacking.get(name, []) + (titles[:-1] if is_new else [what])
                own, column = (
                    each[name] if name in each else tables.unseen(each, name) for each in (table, self.first)
                )
                if own is None or column is None or column.dtype == object:
                    self.ragged += [name] * (own is not None and column is not None)
                    dropped.add(name)
                    self.first.pop(name, None)
                    continue
                self.first[name] = column
                mine, others = (f"{one.dtype} of the shape {one.shape}" for one in (own, column))
                is_alike = (own.dtype.kind, own.shape) == (column.dtype.kind, column.shape)
                require(is_alike, f"{what}: {name} holds {mine}, but in {titles[0]} {others}")
                if not numpy.array_equal(own, column):
                    self.differing.add(name)
                if own.dtype.kind == "f":
                    if is_probability(name) or (own != numpy.floor(own)).any():
                        self.numbers.add(name)
                    values = ranks(own) if is_rank else own.astype(float)
                    by_row = numpy.reshape(weight, (-1, *[1] * (own.ndim - 1)))
                    before = whole * ranks(column) if is_new and is_rank else self._sums.get(name, 0.0)
                    self._sums[name] = before + by_row * values
            self.first = {name: self.first[name] for name in ("id", *names) if name in self.first}
            whole = whole + weight
            require(len(self.first) > 1, f"{what} has no column that {titles[0]} has: {', '.join(given)}")

    def column(self, name: str) -> tuple[numpy.ndarray, str]:
        """A column, and how it was made: a mean, what all tables agree on, or the likeliest class.

        Raises:
            Error: the tables have different labels, and no probabilities.
        """
        if name not in self.first:  # one of k columns, as `tables.flat` calls it
            base, _, index = name.rpartition("_")
            column, how = self.column(base)
            return column[:, int(index)], how.replace(base, name)
        if name not in self.differing:
            return self.first[name], name
        if name in self.numbers:
            return self._sums[name], f"mean of {name}"
        require(name == LABEL and not self.is_rank, f"{name} holds labels, which have no mean")
        numbers = {other: self.column(other)[0] for other in self.first if other in self.numbers}
        return most_likely(numbers, self.first[name].dtype, name), "class of the highest mean probability"

    def table(self) -> Columns:
        """All columns, without labels that differ and follow from no probabilities."""
        found: Columns = {}
        for name in self.first:
            with suppress(Error):
                found[name] = self.column(name)[0]
        return found


def alone(table: Columns, what: str) -> Average:
    """The mean of a single table. Errors as of `Average`."""
    return Average([(what, table, 1.0)])


def ranks(column: numpy.ndarray) -> numpy.ndarray:
    """The rank of each value, above 0 to 1; equal values have the mean of their ranks."""
    from scipy.stats import rankdata

    ranked: numpy.ndarray = rankdata(column, axis=0)
    return ranked / len(column)


# What of a run is submitted


def choose(run: Run, kind: str | None = None, partial: bool = False) -> list[FoldRecord]:
    """Selects the test predictions of a run to submit: those of its folds, or of the training on all rows.

    Args:
        kind: "folds" or "full"; None: the folds when every one has test predictions, else the training on all rows.
        partial: be content with the folds that have some.

    Raises:
        Error: there is none; the message says what to do.
    """
    is_begun = any(part.result is not None for part in run.parts)
    require(is_begun, f"{run.title}: no fold is done: train it first, with exp.fold=null")
    having = [part for part in run.parts if part.result is not None and TEST in part.result["files"]]
    tested = [part for part in having if part.number is not None]
    full = [part for part in having if part.number is None]
    if kind != "full" and (len(tested) == run.n_folds or (partial and tested)):
        return tested
    if kind != "folds" and full:
        return full
    if kind != "full" and tested:
        what = f"{len(tested)} of {run.n_folds} folds have test predictions"
        raise Error(f"{run.title}: {what}: train the others (exp.fold=null), or --partial takes the mean of these")
    is_trained = run.full is not None and run.full.result is not None
    require(not tested or is_trained, f"{run.title} is not trained on all rows: its command with exp.mode=sub does it")
    how = "give fold.predict(..., test=, test_id=) in train.py"
    raise Error(f"{run.title} has no test predictions: {how}, and train the folds or all rows again (overwrite=true)")


def mean_of(runs: Sequence[Run], parts: Sequence[Sequence[FoldRecord]], name: str = TEST) -> Average:
    """The mean of the test predictions of the parts of each run, and then of the runs; a warning says what some lack.

    Args:
        parts: of each run, as from `choose`.
        name: TEST; or LOCKBOX, the predictions of the rows that were set aside.

    Raises:
        Error: they do not fit each other.
    """
    mean = Average(
        (f"{run.title}, {fold.title}", fold.predictions(name), 1 / len(runs) / len(folds))
        for run, folds in zip(runs, parts, strict=True)
        for fold in folds
    )
    tables.warn_of_lacking(mean.lacking, mean.first, "the mean")
    return mean


def fit_rows(runs: Sequence[Run]) -> Columns:
    """The mean of the out-of-fold predictions of runs, on which `Experiment.postprocess` is fitted.

    Raises:
        Error: a run has none; they do not fit each other.
    """
    for run in runs:
        has = f"{run.title} has no out-of-fold predictions, which postprocess is fitted on"
        require(bool(run.done), f"{has}: train its folds (exp.fold=null)")
    each = tables.side_by_side([run.fold_by_fold() for run in runs], [run.title for run in runs])
    mean = Average((run.title, table, 1 / len(runs)) for run, table in zip(runs, each, strict=True)).table()
    return {name: column for name, column in mean.items() if name != "fold"}


def rules_of(runs: Sequence[Run]) -> str:
    """A line that says whose `postprocess` and `submission` count, where other runs have others; "": they are alike."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(run.scored_by for run in runs):
        found[name] = ["unknown", "unknown"]
        with suppress(Exception):  # of the code of an experiment, any; it may be gone
            experiment = load_experiment(name).experiment
            found[name] = [metric_hash(each) for each in (experiment.postprocess, experiment.submission)]
    first, *others = found
    pairs = zip(("postprocess", "submission"), zip(*found.values(), strict=True), strict=True)
    if not (differing := [what for what, hashes in pairs if len(set(hashes)) > 1]):
        return ""
    other = next(name for name in others if found[name] != found[first])
    takes = f"that of {first} counts, as its run is named first; to take that of {other}, name a run of it first"
    return f"{first} and {', '.join(others)} differ in {' and '.join(differing)}: {takes}"


def title_of(runs: Sequence[Run]) -> str:
    """Runs in the name of a file or a folder, cut off when it is long; their experiment once, if it is the same."""
    first, *others = [run.title.replace("/", "_") for run in runs]
    return "+".join([first, *(other.removeprefix(f"{runs[0].experiment}_") for other in others)])[:LONGEST]


# What a competition asks for


@dataclass(frozen=True)
class Sample:
    """What a competition asks for: a sample submission.

    Attributes:
        columns: name to values, as text; the first is the id.
    """

    file: Path
    columns: dict[str, list[str]]

    def columns_of(self, table: Columns, what: str) -> dict[str, str]:
        """Which column of the test predictions is each column of the sample but the first.

        In this order: the column of that name; probability_<name>; when the sample asks for one alone, "prediction";
        for k of which none is named, the k columns of "prediction", (n, k).

        Args:
            table: the predictions, `flat`.

        Raises:
            Error: there is none; or it holds labels, and the sample has numbers between whole ones.
        """
        (_, *wanted), file = self.columns, display_path(self.file)
        names = [name for name in table if name != "id"]
        found, in_order = {}, [f"{LABEL}_{index}" for index in range(len(wanted))]
        is_wide = in_order == [name for name in names if re.fullmatch(rf"{LABEL}_\d+", name)]
        is_wide &= not {each for name in wanted for each in (name, f"{PROBABILITY}_{name}")} & {*names}
        for name, wide in zip(wanted, in_order, strict=True):
            choices = [name, f"{PROBABILITY}_{name}", *([LABEL] if len(wanted) == 1 else [wide] if is_wide else [])]
            own = next((choice for choice in choices if choice in names), None)
            if own is None:
                has = f"{file} has the column {name}, and the test predictions have {', '.join(names)}"
                raise Error(f"{what}: {has}: let predict return a column {name}")
            shares = [text for text in self.columns[name] if re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*", text.strip())]
            if shares and table[own].dtype.kind != "f" and class_columns(names):
                has = f"{file} has numbers such as {shares[0]} in {name}, and the predictions are labels"
                raise Error(f"{what}: {has}: let predict return a column {name} with the number")
            found[name] = own
        return found


def find_sample(named: Sequence[str] | None, what: str) -> Sample | None:
    """The sample submission among the data of an experiment, or beside a file of them; None when there is none.

    Args:
        named: what of `input/` is its data, as `Experiment.inputs`.
        what: the submission, for the messages.

    Raises:
        Error: there is more than one, or it cannot be read.
    """
    folders = {os.path.dirname(path) for path in input_files(named).values()}
    found = [file for folder in sorted(folders) if (file := Path(folder, SAMPLE)).is_file()]
    name_data = "name the data, expkit.Experiment(..., inputs=[...])"
    require(len(found) < 2, f"{what}: there are {len(found)} files {SAMPLE}: {name_data}")
    return Sample(found[0], tables.read_csv(found[0])) if found else None


def fitted(table: Columns, what: str, sample: Sample | None) -> Columns:
    """A submission as the sample has it: with its rows in this order, and the ids written as there, compared as text.

    Raises:
        Error: nan or inf; other columns or ids than in the sample, or an id twice.
    """
    import numpy

    tables.require_finite(table, what)
    if sample is None:
        return table
    id, *others = sample.columns
    file, ids = display_path(sample.file), numpy.array(sample.columns[id], str)
    has = f"{what}: the columns are {', '.join(table)}, but {file} has {', '.join(sample.columns)}"
    require({*table} == {*sample.columns}, has)
    rows = {"id": table[id].astype(str), "row": numpy.arange(len(table[id]))}
    order = tables.aligned(rows, ids, what, f"{file} (ids as text)")["row"]
    return {id: ids} | {name: table[name][order] for name in others}


def as_submission(
    mean: Average, experiment: Experiment, what: str, oof: Callable[[], Columns]
) -> tuple[Columns, dict[str, str], Sample | None]:
    """Test predictions as a submission: after `Experiment.postprocess`, with the rows of `Experiment.submission`.

    Without the latter, columns are found by name as `Sample.columns_of` says; the sample's first column is "id",
    whatever it is called. Without a sample: "id" and "prediction", or all there are.

    Args:
        experiment: whose functions these are, and among whose data the sample is looked for.
        what: the submission, for the messages.
        oof: gives the out-of-fold predictions that `postprocess` is fitted on.

    Returns:
        its columns; how each of them but the id was made; and the sample, if there is one.

    Raises:
        Error: the predictions do not fit each other or the sample; a function of the experiment raises.
    """
    sample, after = find_sample(experiment.inputs, what), ""
    id = next(iter(sample.columns)) if sample is not None else "id"
    if experiment.postprocess is not None:
        mean, after = alone(postprocess(experiment, oof(), mean.table(), what), what), ", after postprocess"
    if experiment.submission is not None:
        given = mean.table()
        lost = [name for name in mean.first if name not in given]
        hint = f"; the labels of {', '.join(lost)} differ between models, and have no mean" if lost else ""
        made = tables.named(called("submission", experiment.submission, given, hint))
        named = {id if name == "id" else name: column for name, column in made.items()}
        table = tables.columns(named, f"{what}, what submission has made")
        return fitted(table, what, sample), {name: "made by submission" for name in table if name != id}, sample
    single = tables.flat(mean.first)
    names = {name: name for name in ([LABEL] if LABEL in single else single) if name != "id"}
    names = sample.columns_of(single, what) if sample is not None else names
    found = {name: mean.column(own) for name, own in names.items()}
    table = {id: mean.first["id"]} | {name: column for name, (column, _) in found.items()}
    return fitted(table, what, sample), {name: how + after for name, (_, how) in found.items()}, sample


# exp submit


def submit(
    runs: Sequence[Run], parts: Sequence[Sequence[FoldRecord]], marks: Sequence[Sequence[str]]
) -> tuple[Path, dict[str, Any]]:
    """Write the mean of test predictions as a submission: of the folds of each run, then of the runs.

    Columns are averaged as `Average` says, and made as `as_submission` says, by the experiment of the first run.

    Args:
        parts: of each run, as from `choose`.
        marks: what to know about each run; kept in the JSON file.

    Returns:
        the CSV file, and the content of the JSON file beside it, which says what it is made of. A hash of its content
        ends the name of the file: the same submission is the same file.

    Raises:
        Error: the predictions do not fit each other or the sample; nothing is written.
    """
    experiment, rows = load_experiment(runs[0].scored_by).experiment, partial(fit_rows, runs)
    mean = mean_of(runs, parts)
    table, made_of, sample = as_submission(mean, experiment, "the submission", rows)
    left = [*mean.ragged, *(name for name, column in mean.first.items() if not tables.is_flat(column))]
    if left and sample is None and experiment.submission is None:
        warn(f"{', '.join(left)}: more than a line of CSV can hold, and not in the submission: see submission=")
    stream = io.StringIO(newline="")
    tables.write_csv(stream, table)
    content = hashlib.sha256(stream.getvalue().encode()).hexdigest()
    folder = output_dir() / store.SUBMISSIONS
    file = folder / f"{title_of(runs)}_{content[:8]}.csv"
    sources = []
    for run, each, known in zip(runs, parts, marks, strict=True):
        folds = [fold.number for fold in each]  # [None]: the training on all rows
        score = {"metric": run.metric, "score": run.score}
        sources.append({"run": run.title, "id": run.id, "folds": folds, **score, "marks": known})
    about: dict[str, Any] = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "command": sys.argv[1:]}
    about |= {"rows": len(next(iter(table.values()))), "columns": made_of}
    about |= {"sample": None if sample is None else sample.file.name, "runs": sources, "rules": rules_of(runs)}
    files.make_folder(folder)
    files.write_text(file, stream.getvalue())
    files.write_json(file.with_suffix(".json"), {"file": file.name, "sha256": content, **about})
    return file, about
