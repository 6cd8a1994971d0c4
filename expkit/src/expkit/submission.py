"""Submissions: which test predictions, their mean, and the order and columns of the sample submission."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files, store, tables
from expkit.config import load_experiment
from expkit.data import input_files
from expkit.errors import Error, require, warn
from expkit.files import Broken
from expkit.fingerprint import same_code
from expkit.project import display_path, output_dir
from expkit.scores import PROBABILITY, class_columns, require_same_kind
from expkit.store import OOF, SUBMISSION, SUBMISSIONS, TEST, FoldRecord, Run
from expkit.tables import digests, flat

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns


def write_submission(output: Path, title: str, text: str, about: Mapping[str, Any]) -> Path:
    """Write a submission, and a JSON file that says what it is made of. The same one again is the same file.

    Args:
        title: begins its name; a hash of the content ends it, so that another content never takes its place.
        text: the CSV file.

    Returns:
        the CSV file.

    Raises:
        Error: output/submissions is no folder.
    """
    folder = output / SUBMISSIONS
    files.make_folder(folder)
    content = hashlib.sha256(text.encode()).hexdigest()
    file = folder / f"{title}_{content[:8]}.csv"
    files.write_text(file, text)
    files.write_json(file.with_suffix(".json"), {"file": file.name, "sha256": content, **about})
    return file


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
        name, id = display_path(self.file), self.header[0]
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
                f"{what}: {display_path(self.file)} has the column {name}, and the test predictions have "
                f"{', '.join(names)}: give fold.save_test a column {name}",
            )
            shares = filter(_is_share, self.columns[name])
            if types[found[name]].kind != "f" and class_columns(names) and (share := next(shares, None)):
                raise Error(
                    f"{what}: {display_path(self.file)} has numbers such as {share} in {name}, and the predictions are "
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
    files = [Path(path) for _, path in input_files(named or None)]
    found = [path for path in files if path.name == SAMPLE]
    found = found or sorted({path.with_name(SAMPLE) for path in files if os.path.isfile(path.with_name(SAMPLE))})
    samples = [Sample(file, tables.read_csv(file)) for file in found]
    if named is not None and not named:
        ids = next(iter(table.values()))
        others, samples = samples, [one for one in samples if one.header == list(table) or one.is_for(ids)]
        if others and not samples and is_said:
            warn(f"{what} is not held against {display_path(others[0].file)}, which has other columns and rows")
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
    columns, name = list(table), display_path(sample.file)
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


def predictions(fold: FoldRecord, name: str = OOF, columns: Iterable[str] | None = None) -> Columns:
    """The predictions that a fold has saved; all columns, or some.

    Raises:
        Error: there are none, or they are broken.
    """
    try:
        if columns is None:
            return fold.predictions(name)
        return {one: fold.predictions(name, one)[one] for one in columns}
    except (Broken, FileNotFoundError, KeyError) as error:
        place = display_path(fold.folder.parent)
        raise Error(f"the predictions of {fold.title} of {place} cannot be read: {error}") from error


def out_of_fold(run: Run, columns: Iterable[str] | None = None) -> Columns:
    """Out-of-fold predictions of all folds that are done, fold by fold.

    Args:
        columns: which; None: all that every fold has, and "fold".
    """
    import numpy

    parts = {number: predictions(fold, columns=columns) for number, fold in run.done.items()}
    if not parts:
        return {}
    names = [name for name in next(iter(parts.values())) if all(name in part for part in parts.values())]
    table = {name: numpy.concatenate([part[name] for part in parts.values()]) for name in names}
    if columns is not None:
        return table
    table["fold"] = numpy.concatenate([numpy.full(len(part["id"]), number) for number, part in parts.items()])
    return table


class Rows:
    """Rows by their ids: finds them in other tables.

    Args:
        ids: each once, (n,).
        title: the table that they are of, for messages.
    """

    def __init__(self, ids: numpy.ndarray, title: str) -> None:
        self.ids, self.title = ids, title

    def places_in(self, others: numpy.ndarray, title: str) -> numpy.ndarray | None:
        """Where each of these rows stands among others, as indices (n,); None when both are in the same order.

        Raises:
            Error: the ids are not the same, or of another type.
        """
        import numpy

        require_same_kind(others, self.ids, title, f"of {self.title}")
        if numpy.array_equal(self.ids, others):
            return None
        if len(others) != len(self.ids):
            raise self._other(others, title)
        places = numpy.empty(len(others), numpy.intp)
        places[self._order] = numpy.argsort(digests(others), kind="stable")
        if not numpy.array_equal(others[places], self.ids):  # other rows; or two ids of one digest
            places[numpy.argsort(self.ids, kind="stable")] = numpy.argsort(others, kind="stable")
            if not numpy.array_equal(others[places], self.ids):
                raise self._other(others, title)
        return places

    @functools.cached_property
    def _order(self) -> numpy.ndarray:
        import numpy

        return numpy.argsort(digests(self.ids), kind="stable")

    def _other(self, others: numpy.ndarray, title: str) -> Error:
        import numpy

        missing, extra = numpy.setdiff1d(self.ids, others), numpy.setdiff1d(others, self.ids)
        example = f"{missing[0]}, which it lacks" if len(missing) else f"{extra[0]}, which it has alone"
        return Error(
            f"{title} has other rows than {self.title}: {len(missing)} fewer and {len(extra)} more, such as {example}"
        )


@dataclass
class Mean:
    """Adds up tables of predictions, one at a time. Nothing of a table but its sum is kept.

    Attributes:
        rows: of the first table.
    """

    rows: Rows | None = None
    _first: Columns = field(default_factory=dict)
    _sums: Columns = field(default_factory=dict)
    _weight: float = 0.0
    _is_number: set[str] = field(default_factory=set)
    _differs: set[str] = field(default_factory=set)

    def add(self, table: Columns, what: str, weight: float = 1.0) -> None:
        """Add a table with the column "id"; `what` names it in messages.

        Raises:
            Error: it has other ids or columns than the first.
        """
        import numpy

        table = flat(table)
        ids = table.pop("id")
        if self.rows is None:
            self.rows, self._first = Rows(ids, what), table
        if table.keys() != self._first.keys():
            raise Error(
                f"{what} has the columns {', '.join(table)}, but {self.rows.title} has {', '.join(self._first)}"
            )
        place = self.rows.places_in(ids, what)
        for name, column in table.items():
            if column.dtype.kind != self._first[name].dtype.kind:
                raise Error(f"{what}: {name} holds {column.dtype}, but in {self.rows.title} {self._first[name].dtype}")
            rows = column if place is None else column[place]
            if not may_be_labels(name, column):
                self._is_number.add(name)
            if name not in self._differs and not numpy.array_equal(rows, self._first[name]):
                self._differs.add(name)
            if column.dtype.kind == "f":
                self._sums[name] = self._sums.get(name, 0.0) + weight * rows.astype(float)
        self._weight += weight

    @property
    def ids(self) -> numpy.ndarray:
        """Of the rows, (n,)."""
        assert self.rows is not None
        return self.rows.ids

    @property
    def numbers(self) -> Columns:
        """The means of the columns that are numbers, (n,)."""
        return {name: total / self._weight for name, total in self._sums.items() if name in self._is_number}

    def column(self, name: str) -> tuple[numpy.ndarray, str]:
        """A column, and how it was made: a mean, the labels that all parts agree on, or the likeliest class.

        Raises:
            Error: the parts have different labels, and no probabilities.
        """
        if name not in self._differs:
            return self._first[name], name
        if name in self._is_number:
            return self._sums[name] / self._weight, f"mean of {name}"
        labels = [other for other in self._differs if other not in self._is_number]
        require(
            len(labels) == 1, f"labels differ in the columns {', '.join(sorted(labels))}: they may differ in only one"
        )
        return most_likely(self.numbers, self._first[name].dtype, name), "class of the highest mean probability"

    def dtype(self, name: str) -> numpy.dtype[Any]:
        """The type of a column."""
        return self._first[name].dtype

    @property
    def names(self) -> list[str]:
        """The columns but "id"."""
        return list(self._first)


LONGEST = 140  # characters of what a submission is called
FOLDS, FULL = "folds", "full"


@dataclass(frozen=True)
class Source:
    """What of a run goes into a submission.

    Attributes:
        kind: "folds", or "full": the training on all rows.
        parts: the folds whose test predictions are averaged, or that training.
    """

    run: Run
    kind: str
    parts: list[FoldRecord]

    def __str__(self) -> str:
        if self.run.recipe and self.kind == FULL:
            return f"{self.run.title}: blend of the test predictions of {len(self.run.recipe.parents)} runs"
        if self.kind == FULL:
            return f"{self.run.title}: trained on all rows, {store.fold_name(None)}/{self.file}"
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
        score, info = self.run.score_of(), self.run.info or {}
        return {
            "run": self.run.title,
            "version": store.version_number(self.run.folder),
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


def choose(run: Run, kind: str | None, partial: bool) -> Source:
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
    if run.recipe:
        raise Error(
            f"{run.title} is a blend without test predictions: repeat `exp blend` when all of its runs have them"
        )
    if kind == FULL:
        raise Error(f"{run.title} has no test predictions of a training on all rows: train it with exp.mode=sub")
    if tested:
        what = f"{len(tested)} of {run.n_folds} folds have test predictions"
        raise Error(f"{run.title}: {what}: train the others (exp.fold=null), or --partial takes the mean of these")
    raise Error(
        f"{run.title} has no test predictions: call fold.save_test(...) in train.py and train the folds again "
        "(overwrite=true), or train on all rows (exp.mode=sub)"
    )


def _lacks(name: str, fold: FoldRecord) -> bool:
    return fold.result is None or name not in fold.result["files"]


def mean_of(sources: Sequence[Source]) -> Mean:
    """The test predictions of the parts of each source, and then of the sources."""
    mean = Mean()
    for source in sources:
        for fold in source.parts:
            title = f"{source.run.title}, {fold.title}"
            require(
                source.file == TEST,
                f"{title} has no test predictions to average: call fold.save_test(...) with exp.mode=sub, too",
            )
            mean.add(predictions(fold, TEST), title, 1 / len(source.parts))
    return mean


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
    file = write_submission(output_dir(), title, stream.getvalue(), about)
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
    require(
        len(found) < 2, f"{what}: the runs have different sample submissions: {', '.join(map(display_path, found))}"
    )
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
