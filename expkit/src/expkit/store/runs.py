"""A run as it lies on the disk: one shape in memory, of which everything else is a view."""

# ruff: noqa: F403, F405

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files
from expkit.errors import Error
from expkit.project import display_path
from expkit.store.marks import leaks_of, own_marks, parent_marks, parent_state, readers
from expkit.store.records import *
from expkit.store.versions import Versions, find_run, folder_of, version_number

if TYPE_CHECKING:
    from expkit.tables import Columns


@dataclass(frozen=True)
class Run:
    """A run as it lies on the disk: one version of it, whole, partial or broken.

    Board, `exp show`, `exp diff` and notebooks are views of it. Predictions and curves are read when asked for.

    Attributes:
        folder: of the version, a Path.
        experiment, name: the names of its folders below output/.
        info: the content of its `run.json`; None when there is none that fits.
        folds: every fold that has a folder; `.result` says which are done.
        cv: the content of `cv.json`, when it is of just these folds.
        problems: what is broken.
        pruned: where a study has ended the run, such as "after 1 of 5 folds"; "": it has not.
        full: the training on all rows, exp.mode=sub; None: there is none.
        known: the runs that were read with it, by their titles; None: there is none. Each parent is read once. With
            "", these are all there are.
    """

    folder: Path
    experiment: str
    name: str
    info: RunInfo | None
    folds: dict[int, FoldRecord]
    cv: CrossValidation | None
    problems: tuple[str, ...] = ()
    pruned: str = ""
    full: FoldRecord | None = None
    known: dict[str, Run | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def title(self) -> str:
        """What the run is called: "<experiment>/<run>"."""
        return f"{self.experiment}/{self.name}"

    @property
    def recipe(self) -> Recipe | None:
        """How a blend was made; None: the run is no blend."""
        return self.info.get("blend") if self.info else None

    @functools.cached_property
    def parents(self) -> tuple[Parent, ...]:
        """The runs that it was made from: those of a blend, and whatever its trainings have read."""
        read = [parent for part in self.parts if part.result for parent in part.result.get("parents", [])]
        return (*(self.recipe.parents if self.recipe else ()), *merged(read))

    def parent_now(self, parent: Parent) -> tuple[Run | None, str]:
        """A run that it was made from, as that is now.

        Args:
            parent: one of `parents`.

        Returns:
            the run, None when there is none of its name; and "ok", "gone", "replaced" or "changed".
        """
        now = self.other(parent.run)
        return now, parent_state(parent, now)

    def other(self, title: str) -> Run | None:
        """Another run, as it is now; None: there is none.

        Args:
            title: of it, as in 001-baseline/larger-lr.
        """
        if title not in self.known and "" not in self.known:
            folder = folder_of(self.folder.parents[1], title)
            self.known[title] = read_run(folder, self.known) if folder is not None else None
        return self.known.get(title)

    @functools.cached_property
    def ancestors(self) -> tuple[Run, ...]:
        """Its parents and theirs, in turn, that are there as they were read; each once, the nearest first."""
        found, titles = [self], {self.title}
        for child in found:  # which grows
            for now, state in map(child.parent_now, child.parents):
                if now is not None and state == "ok" and now.title not in titles:
                    titles.add(now.title)
                    found.append(now)
        return tuple(found[1:])

    @functools.cached_property
    def leaks(self) -> tuple[str, ...]:
        """How the targets that it is scored on may have been known, to it or to a run of the same rows that it was made
        from: its score compares with no other."""
        above = [each for each in self.ancestors if each.dataset == self.dataset]
        return (*leaks_of(self), *(f"{each.title}: {mark}" for each in above for mark in leaks_of(each)))

    @property
    def scored_by(self) -> str:
        """The experiment whose metrics the scores are of."""
        return self.recipe.scored_by if self.recipe else self.experiment

    @property
    def parts(self) -> list[FoldRecord]:
        """Every training that has a folder: the folds, then that on all rows."""
        return [*self.folds.values(), *([self.full] if self.full else [])]

    @functools.cached_property
    def done(self) -> dict[int, FoldRecord]:
        """The folds that are done, and belong to the run."""
        return {number: fold for number, fold in self.folds.items() if fold.result is not None}

    @functools.cached_property
    def results(self) -> dict[int, Result]:
        """The result.json of each fold that is done, by its number."""
        return {number: fold.result for number, fold in self.folds.items() if fold.result is not None}

    @property
    def n_folds(self) -> int | None:
        """How many folds it is to have; None: not known."""
        return self.info["n_folds"] if self.info else None

    @property
    def is_complete(self) -> bool:
        """Whether every fold is done."""
        return self.n_folds is not None and len(self.done) == self.n_folds

    @property
    def kind(self) -> str:
        """What its score is called: "CV", "hold-out", or "" where nothing is held out."""
        return "CV" if self.n_folds != 1 else HOLD_OUT if self.rows else ""

    @property
    def metric(self) -> str | None:
        """The metric that decides."""
        about = self.cv or self.info
        return about["metric"] if about else None

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher score is better."""
        about = self.cv or self.info
        return about["greater_is_better"] if about else True

    @property
    def score_over(self) -> str | None:
        """What the scores are taken over, "rows" or "folds", as `Experiment.score_over`; None: not known."""
        return self.cv["score_over"] if self.cv else None

    @property
    def metric_hash(self) -> str | None:
        """What the metric that decides did, as a hash, and over what; None: not known."""
        return f"{self.cv['made_by'].get(self.cv['metric'])} over {self.score_over}" if self.cv else None

    @functools.cached_property
    def marks(self) -> tuple[str, ...]:
        """What to know of its score: what is missing, mixed, broken, failed or copied; and of its parents, too."""
        return (*own_marks(self), *leaks_of(self), *parent_marks(self))

    @functools.cached_property
    def _score(self) -> Score | None:
        return self.score_of()

    @property
    def score(self) -> float | None:
        """The CV score, as `Score.value`; None: not known."""
        return self._score.value if self._score else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the scores of the folds (n - 1)."""
        return self._score.std if self._score else None

    @property
    def fold_scores(self) -> dict[int, float]:
        """The score of each fold that is done."""
        return self._score.folds if self._score else {}

    @property
    def other_scores(self) -> dict[str, float]:
        """Those of the other metrics, then the mean of each value that every fold has recorded as "test_accuracy"."""
        if self._score is None:
            return {}
        others = {name: score.value for name in self.metrics if name != self.metric and (score := self.score_of(name))}
        values = [result["values"] for result in self.results.values()]
        names = [name for name in values[0] if name.startswith("test_")]
        known = [name for name in names if all(fits(each.get(name), Number) for each in values)]
        return others | {name: statistics.fmean(each[name] for each in values) for name in known}

    def score_of(self, metric: str | None = None) -> Score | None:
        """A metric with its folds; None: not known.

        Args:
            metric: its name; None: the one that decides.
        """
        metric = metric or self.metric
        if metric is None or not self.done:
            return None
        if self.cv is not None and metric in self.cv["scores"]:
            found = self.cv["scores"][metric]
            value = found["mean"] if found["all"] is None or self.score_over == "folds" else found["all"]
            folds = {int(number): score for number, score in found["folds"].items()}
            return Score(value, found["std"], folds, found["all"], found["mean"])
        scores = {number: each["scores"][metric] for number, each in self.results.items() if metric in each["scores"]}
        if len(scores) != len(self.results):
            return None
        mean = statistics.fmean(scores.values())
        return Score(mean, deviation(list(scores.values())), scores, None, mean)

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, the one that decides first."""
        every = [self.cv["scores"]] if self.cv else [result["scores"] for result in self.results.values()]
        names = [name for scores in every for name in scores]
        return list(dict.fromkeys([*([self.metric] if self.metric in names else []), *names]))

    @property
    def rows(self) -> int:
        """How many rows the score covers."""
        return sum(result["rows"] for result in self.results.values())

    @functools.cached_property
    def valid_ids(self) -> dict[int, str]:
        """Which rows each fold that is done has left out, as a hash of their ids."""
        return {number: result["left_out"] for number, result in self.results.items()}

    def packages(self) -> dict[str, str]:
        """The version of each package that its folds were trained with, as origin.json says; of several: "1.0, 1.1"."""
        found: dict[str, set[str]] = {}
        for fold in self.done.values():
            packages = fold.origin().get("packages")
            for name, version in packages.items() if isinstance(packages, dict) else ():
                found.setdefault(name, set()).add(str(version))
        return {name: ", ".join(sorted(versions)) for name, versions in found.items()}

    @property
    def seconds(self) -> float:
        """The time of all folds together."""
        return float(sum(result["seconds"] for result in self.results.values()))

    @property
    def total_seconds(self) -> float:
        """The `seconds`, with those of the runs that it began from, exp.start_from."""
        return float(sum(map(total_seconds, self.results.values())))

    @functools.cached_property
    def finished(self) -> str | None:
        """When the last fold was done, ISO 8601 in UTC."""
        return max((result["finished"] for result in self.results.values()), default=None)

    @property
    def git(self) -> Git | None:
        """The snapshot of the first fold that is done, or of the training on all rows."""
        full = self.full.result if not self.results and self.full else None
        return next((result["git"] for result in (*self.results.values(), full) if result), None)

    @property
    def checksums(self) -> tuple[str, ...]:
        """Those of the folds that are done. If they differ, a fold has been trained again."""
        return tuple(fold.checksum for fold in self.done.values())

    @property
    def id(self) -> str | None:
        """Of the version; None: not known."""
        return self.info["id"] if self.info else None

    @property
    def config(self) -> Values:
        """As it was recorded: `config.exp.train.learning_rate`. Enums are their names; {} when it is not known."""
        return Values(self.info["config"] if self.info else {})

    @property
    def seed(self) -> int | str | None:
        """The value of exp.seed; None: not known."""
        return self.seeds[0]

    @property
    def seeds(self) -> tuple[int | str | None, int | str | None]:
        """The values of exp.seed and exp.split.seed; None: not known."""
        exp = self.info["config"].get("exp", {}) if self.info else {}
        split = exp.get("split")
        seed, of_folds = exp.get("seed"), split.get("seed") if isinstance(split, dict) else None
        return seed if isinstance(seed, int | str) else None, of_folds if isinstance(of_folds, int | str) else None

    @property
    def commit(self) -> str | None:
        """The first digits of the git commit, with * when the working tree differed from it; None: not known."""
        git = self.git
        return f"{git['commit'][:7]}{'*' if git['dirty'] else ''}" if git and git["commit"] else None

    @property
    def failure(self) -> str | None:
        """Why the last training of a fold has failed, one line; if several have, of the first fold."""
        return next((fold.failure for fold in self.folds.values() if fold.failure), None)

    @functools.cached_property
    def targets(self) -> dict[int, str | None]:
        """A hash of the targets of the rows that each fold that is done has left out; None: none were saved."""
        return {number: result["target"] for number, result in self.results.items()}

    @functools.cached_property
    def dataset(self) -> Dataset | None:
        """The rows and targets that it is of; None: they are not known, or not the same in all folds that are done."""
        found = {result.get("dataset") for result in self.results.values()}
        return found.pop() if len(found) == 1 else None

    @functools.cached_property
    def given(self) -> Dataset:
        """As `dataset`, also of a run on all rows alone; where nobody knows it, what its folds have predicted."""
        found = {part.result.get("dataset") for part in self.parts if part.result}
        if len(found) == 1 and (known := found.pop()):
            return known
        from expkit.tables import concatenated, fingerprint

        try:
            ids = [fold.predictions(only="id")["id"] for fold in self.done.values()]
            return Dataset(self.rows, fingerprint(concatenated(ids)) if ids else "", None)
        except (Error, KeyError):
            return Dataset(self.rows, "", None)

    @property
    def data(self) -> frozenset[str | None]:
        """Hashes of the files of input/ that the folds have been trained with."""
        return frozenset(result["data"] for result in self.results.values())

    @property
    def split(self) -> str | None:
        """Which rows all folds leave out, as one hash: equal ones are equal folds. None while folds are missing."""
        if not self.is_complete:
            return None
        return hashlib.sha256(repr(sorted(self.valid_ids.items())).encode()).hexdigest()[:16]

    # What its folds have left behind

    def note_use(self, parts: Iterable[FoldRecord], read: str) -> None:
        """Note, for the training that reads runs now, what was read of this one. expkit calls it.

        Args:
            parts: trainings of it; none: it is refused all the same.
            read: what of them, as of `Parent`.

        Raises:
            Error: it is the run that is trained, or is made from that.
        """
        this = self.title, version_number(self.folder), str(self.id)
        for reader in readers.get():
            reader.note(Parent(*this, ()), self.made_of)
            for part in parts:
                use = Parent(*this, (part.checksum,), (), (part.number,), (read,), (part.left_out,), self.given)
                reader.note(use, self.made_of)

    @functools.cached_property
    def made_of(self) -> frozenset[str]:
        """The titles of the run, of its parents, and of theirs in turn."""
        return frozenset({self.title, *(parent.run for run in (self, *self.ancestors) for parent in run.parents)})

    def fold(self, number: int | None, read: str = "fold") -> FoldRecord:
        """A fold that is done.

        Args:
            number: its number; None: the training on all rows.
            read: what of it, for the record of the training that reads it.

        Raises:
            Error: it is not done.
        """
        fold = self.full if number is None else self.folds.get(number)
        self.note_use([fold] if fold and fold.result else [], read)
        if fold is None or fold.result is None:
            what = "the training on all data" if number is None else f"fold {number}"
            raise Error(f"{what} of {display_path(self.folder)} is not done; these folds are: {list(self.done)}")
        return fold

    def result(self, fold: int | None) -> dict[str, Any]:
        """What a fold has recorded: "scores", "values", "seconds", "git", ... Errors as of `fold`.

        The scores are those of `score`, also when a metric has changed since the training.

        Args:
            fold: its number; None: the training on all rows.
        """
        found = dict(self.fold(fold, "history").result or {})
        now = self.cv["scores"] if self.cv and fold is not None else {}
        return found | ({"scores": {name: each["folds"][str(fold)] for name, each in now.items()}} if now else {})

    def history(self, fold: int | None) -> dict[str, list[float | None]]:
        """The learning curve of a fold: {"epoch": [1, ...], "train_loss": [...], ...}, one entry per `fold.log`.

        A blank is None. {} for a fold that has logged nothing. Errors as of `fold`.

        Args:
            fold: its number; None: the training on all rows.
        """
        return self.fold(fold, "history").history()

    def test(self, fold: int | None) -> Columns:
        """The predictions of the test set that a fold has saved with `fold.save_test`: a dict of NumPy arrays.

        Args:
            fold: its number; None: the training on all rows, or, of a blend, its one prediction.

        Raises:
            Error: the fold is not done, or has none.
        """
        return self.fold(fold, "test").predictions(TEST)

    @property
    def oof(self) -> Columns:
        """Out-of-fold predictions of all folds that are done: a dict of NumPy arrays, in the order of the ids.

        The columns that every fold has saved ("id", "target", "prediction", ...), each (n,) or (n, k), and "fold",
        (n,). probability_<class> is 0 in a fold that lacks it, when the others add up to 1. {} while no fold is done.

        Raises:
            Error: they cannot be read.
        """
        self.note_use(self.done.values(), "oof")  # also of what is in memory
        return self._oof

    @functools.cached_property
    def _oof(self) -> Columns:
        from expkit.tables import is_ascending

        table = self.fold_by_fold()
        order = table["id"].argsort(kind="stable") if table else None
        is_sorted = order is None or is_ascending(order)  # a copy of each column takes as long as to read it
        return table if is_sorted else {name: column[order] for name, column in table.items()}

    def fold_by_fold(self, name: str = OOF) -> Columns:
        """As `oof`, fold by fold.

        Args:
            name: OOF; or TEST, the predictions of the test set.
        """
        return self.joined(name)[0]

    def joined(self, name: str = OOF) -> tuple[Columns, dict[str, list[int]]]:
        """As `fold_by_fold`; and which folds lack which column, by its name.

        Args:
            name: as of `fold_by_fold`.
        """
        from expkit import tables

        self.note_use(self.done.values(), "oof" if name == OOF else "test")
        parts = {number: fold.predictions(name) for number, fold in self.done.items()}
        return tables.joined(parts, self.title) if parts else ({}, {})


def deviation(scores: list[float]) -> float | None:
    """Standard deviation (n - 1); None of a single score."""
    return statistics.stdev(scores) if len(scores) > 1 else None


def load_run(run: str | Path | Run) -> Run:
    """A run as it lies on the disk now.

        run = expkit.load_run("001-larger-lr")
        run.score, run.config.exp.train.learning_rate, run.oof["prediction"]

    Args:
        run: "<experiment>/<run>", a folder, or any part of the name that no other run has. A `Run` is given back. A
            training names it whole, "<experiment>/<run>" or "<run>": what it reads depends on no other run.

    Raises:
        Error: there is no such run, or more than one.
    """
    return run if isinstance(run, Run) else read_run(find_run(str(run), is_whole=bool(readers.get())))


def read_run(folder: Path, known: dict[str, Run | None] | None = None) -> Run:
    """The version of a run in `folder`.

    Args:
        known: as of `Run`, shared with others.
    """
    problems, there = list[str](), set[str]()
    info = read_checked(f"{folder}/{RUN}", RunInfo, problems)
    folds = dict[Any, FoldRecord]()
    if info is not None:
        there = {*files.listed(folder)}
        numbers = [number for number in (*range(info["n_folds"]), None) if fold_name(number) in there]
        folds = {number: read_fold(folder, number, info["id"]) for number in numbers}
    full = folds.pop(None, None)
    problems += [fold.problem for fold in folds.values() if fold.problem]
    cv = read_checked(f"{folder}/{CV}", CrossValidation, problems)
    if cv is not None and not is_of(cv, folds.values()):
        cv = None
    pruned = files.first_line(folder / PRUNED) if PRUNED in there else ""
    known = {} if known is None else known
    run = Versions.of(folder).run
    return Run(folder, folder.parent.name, run, info, folds, cv, tuple(problems), pruned, full, known)
