"""One version of a run on the disk: its folds, its scores, and what to know about them."""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expkit import files
from expkit.record.content import fits_cv, fits_run, is_number, read_checked
from expkit.record.fold import FoldRecord, read_fold
from expkit.record.layout import CONFIG, CV, FOLD, PRUNED, RESULT, RUN, VERSION, fold_name, pointer_problem
from expkit.record.recipe import Recipe, recipe_of


@dataclass(frozen=True)
class Score:
    """A metric of a run.

    Attributes:
        value: over all out-of-fold rows or the mean of the folds, as the experiment says; while folds are missing, the
            mean over those that are done.
        std: standard deviation of the folds' scores (n - 1).
        folds: the score of each fold.
        over_rows: over all out-of-fold rows; None: not known.
        mean: of the folds' scores.
    """

    value: float
    std: float | None
    folds: dict[int, float]
    over_rows: float | None
    mean: float

    @property
    def other(self) -> str:
        """The number that is not the score, in words; "" where it is the same to four digits, or not known."""
        if self.over_rows is None or f"{self.over_rows:.4f}" == f"{self.mean:.4f}":
            return ""
        if self.value == self.mean:
            return f"over all rows {self.over_rows:.4f}"
        return f"mean of folds {self.mean:.4f}"


@dataclass(frozen=True)
class RunRecord:
    """A run as it lies on the disk: one version of it, whole, partial or broken.

    Attributes:
        info: the content of its `run.json`; None when there is none that fits.
        folds: every fold that has a folder; `.result` says which are done.
        cv: the content of `cv.json`, when it is of just these folds.
        problems: what is broken.
        pruned: where a study has ended the run, such as "after 1 of 5 folds"; "": it has not.
    """

    folder: Path
    experiment: str
    name: str
    info: dict[str, Any] | None
    folds: dict[int, FoldRecord]
    cv: dict[str, Any] | None
    problems: tuple[str, ...] = field(default=())
    pruned: str = ""

    @property
    def title(self) -> str:
        """What the run is called: "<experiment>/<run>"."""
        return f"{self.experiment}/{self.name}"

    @functools.cached_property
    def recipe(self) -> Recipe | None:
        """How a blend was made; None: the run is no blend."""
        return recipe_of(self.info) if self.info else None

    @property
    def scored_by(self) -> str:
        """The experiment whose metrics the scores are of."""
        return self.recipe.scored_by if self.recipe else self.experiment

    @functools.cached_property
    def full(self) -> FoldRecord | None:
        """The training on all rows, exp.mode=sub; None: there is none."""
        if self.info is None or not (self.folder / fold_name(None)).exists():
            return None
        return read_fold(self.folder, None, self.info["id"])

    @functools.cached_property
    def done(self) -> dict[int, FoldRecord]:
        """The folds that are done, and belong to the run."""
        return {number: fold for number, fold in self.folds.items() if fold.result is not None}

    @property
    def failed(self) -> dict[int, str]:
        """Why each fold has failed whose last training has, on one line."""
        return {number: fold.failure for number, fold in self.folds.items() if fold.failure}

    @property
    def n_folds(self) -> int | None:
        return self.info["n_folds"] if self.info else None

    @property
    def is_complete(self) -> bool:
        return self.n_folds is not None and len(self.done) == self.n_folds

    @property
    def metric(self) -> str | None:
        """The metric that decides."""
        about = self.cv or self.info
        return about["metric"] if about else None

    @property
    def greater_is_better(self) -> bool:
        about = self.cv or self.info
        return about["greater_is_better"] if about else True

    @property
    def score_over(self) -> str | None:
        """What the scores are taken over, "rows" or "folds", as `Experiment.score_over`; None: not known."""
        return self.cv["score_over"] if self.cv else None

    @property
    def made_by(self) -> str | None:
        """What the metric that decides did, as a hash, and over what; None: not known."""
        return f"{self.cv['made_by'].get(self.metric)} over {self.score_over}" if self.cv else None

    def score(self, metric: str | None = None) -> Score | None:
        """A metric, by default the one that decides; None: not known."""
        metric = metric or self.metric
        if metric is None or not self.done:
            return None
        if self.cv is not None and metric in self.cv["scores"]:
            found = self.cv["scores"][metric]
            value = found["mean"] if found["all"] is None or self.score_over == "folds" else found["all"]
            folds = {int(number): score for number, score in found["folds"].items()}
            return Score(float(value), found["std"], folds, found["all"], found["mean"])
        results = {number: fold.result for number, fold in self.done.items() if fold.result}
        scores = {number: result["scores"][metric] for number, result in results.items() if metric in result["scores"]}
        if len(scores) != len(results):
            return None
        mean = statistics.fmean(scores.values())
        return Score(mean, deviation(list(scores.values())), scores, None, mean)

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, the one that decides first."""
        results = [fold.result for fold in self.done.values() if fold.result]
        names = list(self.cv["scores"]) if self.cv else [name for result in results for name in result["scores"]]
        return list(dict.fromkeys([*([self.metric] if self.metric in names else []), *names]))

    @property
    def test_scores(self) -> dict[str, float]:
        """The mean of each value that every fold has recorded under a name as "test_accuracy"."""
        values = [fold.result["values"] for fold in self.done.values() if fold.result]
        names = [name for name in (values[0] if values else {}) if name.startswith("test_")]
        found = {name: [each.get(name) for each in values] for name in names}
        return {name: statistics.fmean(numbers) for name, numbers in found.items() if all(map(is_number, numbers))}

    @property
    def rows(self) -> int:
        """How many rows the score covers."""
        return sum(fold.result["rows"] for fold in self.done.values() if fold.result)

    @functools.cached_property
    def left_out(self) -> dict[int, str]:
        """Which rows each fold that is done has left out, as a hash of their ids."""
        return {number: fold.result["left_out"] for number, fold in self.done.items() if fold.result}

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
        return float(sum(fold.result["seconds"] for fold in self.done.values() if fold.result))

    @property
    def finished(self) -> str | None:
        """When the last fold was done, ISO 8601 in UTC."""
        return max((fold.result["finished"] for fold in self.done.values() if fold.result), default=None)

    @property
    def git(self) -> dict[str, Any] | None:
        """The snapshot of the first fold that is done, or of the training on all rows."""
        parts = [*self.done.values(), *([self.full] if self.full else [])] if not self.done else self.done.values()
        return next((fold.result["git"] for fold in parts if fold.result), None)

    @property
    def checksums(self) -> tuple[str, ...]:
        """Of the folds that are done: other ones are another training."""
        return tuple(fold.checksum for fold in self.done.values())


def deviation(scores: list[float]) -> float | None:
    """Standard deviation (n - 1); None of a single score."""
    return statistics.stdev(scores) if len(scores) > 1 else None


def read_run(folder: Path) -> RunRecord:
    """The version of a run in `folder`."""
    path, problems = str(folder), list[str]()
    info = read_checked(f"{path}/{RUN}", fits_run, problems)
    problems += filter(None, [pointer_problem(folder)])
    number = VERSION.fullmatch(folder.name)
    name = number["run"] if number else folder.name
    folds: dict[int, FoldRecord] = {}
    try:
        found = sorted(os.listdir(path))
    except OSError as error:
        return RunRecord(folder, folder.parent.name, name, None, {}, None, (f"cannot be read: {error.strerror}",))
    cv = read_checked(f"{path}/{CV}", fits_cv, problems)
    for entry in found:
        if (match := FOLD.fullmatch(entry)) and info is not None:
            fold = read_fold(folder, int(match[1]), info["id"], cv["folds"] if cv else None)
            problems += [fold.problem] * bool(fold.problem)
            if int(match[1]) < info["n_folds"]:
                folds[int(match[1])] = fold
            elif fold.result is not None:
                problems.append(f"{entry} is not one of {info['n_folds']} folds")
    folds = dict(sorted(folds.items()))
    if cv is not None and not _is_of(cv, {number: fold for number, fold in folds.items() if fold.result is not None}):
        cv = None
    pruned = _pruned(path, folds) if PRUNED in found else ""
    return RunRecord(folder, folder.parent.name, name, info, folds, cv, tuple(problems), pruned)


def read_run_info(folder: Path) -> dict[str, Any] | None:
    """The `run.json` of a version alone; None when there is none that fits."""
    return read_checked(f"{folder}/{RUN}", fits_run, [])


def _is_of(cv: Mapping[str, Any], done: Mapping[int, FoldRecord]) -> bool:
    """Whether a `cv.json` was made from just these folds."""
    numbers = {str(number) for number in done}
    if cv["folds"].keys() != numbers or any(one["folds"].keys() != numbers for one in cv["scores"].values()):
        return False
    return all(cv["folds"][str(number)]["result"]["checksum"] == fold.checksum for number, fold in done.items())


def write_run(folder: Path, info: Mapping[str, Any], config: str) -> None:
    """Write what a version of a run is. `config` is YAML, for people."""
    files.write_text(folder / CONFIG, config)
    files.write_json(folder / RUN, info)


def describe_again(folder: Path, info: Mapping[str, Any]) -> None:
    """Write the `run.json` of a version anew."""
    files.write_json(folder / RUN, info)


def prune_run(folder: Path, where: str, asked: Iterable[int]) -> None:
    """Keep where a study has ended the run in `folder`; it counts as pruned until all folds `asked` for are done."""
    files.write_text(folder / PRUNED, f"{where}\n{' '.join(map(str, asked))}\n")


def _pruned(folder: str, folds: Mapping[int, FoldRecord]) -> str:
    """Where a study has ended a run; "": it has not, or all that it wanted is done since."""
    where, *asked = files.first_lines(f"{folder}/{PRUNED}") or [""]
    wanted = [int(number) for line in asked[:1] for number in line.split() if number.isdecimal()]
    is_done = bool(wanted) and all(number in folds and folds[number].result is not None for number in wanted)
    return "" if is_done else where


def forget_cv(folder: Path) -> None:
    """Take the scores of a version away: they can be made again."""
    (folder / CV).unlink(missing_ok=True)


def write_cv(folder: Path, summary: Mapping[str, Any], done: Mapping[int, FoldRecord]) -> None:
    """Write the scores that were computed from the predictions of the folds `done`."""
    made_from = {}
    for number, fold in done.items():
        about = (fold.folder / RESULT).stat()
        made_from[str(number)] = {"state": [about.st_size, about.st_mtime_ns], "result": fold.result}
    files.write_json(folder / CV, dict(summary) | {"folds": made_from})
