"""The files of a run: their names, what each holds, what "done" means, what the score is, and what is broken.

    output/<experiment>/<run>/      a version of the run; <run>@2, <run>@3, ... are later ones, made by overwrite=true
        config.yaml                 the configuration, for people
        run.json                    the configuration and the metric, for programs
        fold0/result.json           written last: the fold is done; lists the files that belong to it
        fold0/origin.json           how the fold was made: command, code, packages, machine
        fold0/oof.npz               out-of-fold predictions
        fold0/history.csv, train.log, model.*
        full/                       exp.mode=sub: the same, trained on all rows, with submission.csv
        cv.json                     every score, made from the predictions of the folds; can be deleted and made again
    output/<experiment>/.<run>.version      which version counts; none: the lowest

Everything else reads and writes a run through this module. Nothing here raises for what it finds on the disk: what does
not fit is a problem, and what has a problem does not count. Nothing that is read is executed.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files, tables
from expkit.files import Broken
from expkit.modules import same_code

if TYPE_CHECKING:
    from expkit.tables import Columns

CONFIG, RUN, CV = "config.yaml", "run.json", "cv.json"
RESULT, ORIGIN, OOF, TEST = "result.json", "origin.json", "oof.npz", "test.npz"
HISTORY, LOG, SUBMISSION = "history.csv", "train.log", "submission.csv"
NOT_EXPERIMENTS = ("debug", "multirun", "wandb")  # folders of output/ that hold no runs of an experiment
FOLD = re.compile(r"fold(0|[1-9][0-9]{0,3})")
VERSION = re.compile(r"(?P<run>[^@]+)(?:@(?P<number>[2-9]|[1-9][0-9]{1,5}))?")


def fold_name(number: int | None) -> str:
    """The folder of a fold; of the training on all rows, when `number` is None."""
    return "full" if number is None else f"fold{number}"


def fold_title(number: int | None) -> str:
    """What a fold is called in messages."""
    return "all data" if number is None else f"fold {number}"


# What each file holds


Fits = Callable[[dict[str, Any]], bool]


def _is_int(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1.7e308  # not nan either


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) < 4096


def _is_scores(value: Any) -> bool:
    return type(value) is dict and all(map(_is_number, value.values()))


def _is_git(value: Any) -> bool:
    commits = [value["commit"], value["snapshot"]]
    are_hashes = all(type(one) is str and re.fullmatch(r"[0-9a-f]{40,64}|", one) for one in commits)
    return are_hashes and type(value["dirty"]) is bool and bool(commits[1])


def _fits_run(content: dict[str, Any]) -> bool:
    return (
        re.fullmatch(r"[0-9a-f]{8}", content["id"]) is not None
        and all(_is_text(content[key]) for key in ("experiment", "run", "metric", "started"))
        and type(content["greater_is_better"]) is bool
        and _is_int(content["n_folds"])
        and 1 <= content["n_folds"] <= 10_000
        and type(content["config"]) is dict
        and type(content["commands"]) is list
        and all(map(_is_text, content["commands"]))
    )


def _fits_result(content: dict[str, Any]) -> bool:
    texts = [content["run"], content["started"], content["finished"], content["environment"], *content["code"]]
    return (
        (content["fold"] is None or _is_int(content["fold"]))
        and all(map(_is_text, texts))
        and len(texts) == 6
        and type(content["code"]) is list
        and _is_scores(content["scores"])
        and type(content["values"]) is dict
        and _is_int(content["rows"])
        and _is_number(content["seconds"])
        and content["seconds"] >= 0
        and (content["git"] is None or _is_git(content["git"]))
        and (content["data"] is None or _is_text(content["data"]))
        and type(content["files"]) is dict
    )


def _fits_cv(content: dict[str, Any]) -> bool:
    def is_score(one: Any) -> bool:
        optional = all(one[key] is None or _is_number(one[key]) for key in ("all", "std"))
        return optional and _is_number(one["mean"]) and _is_scores(one["folds"])

    return (
        _is_text(content["metric"])
        and type(content["greater_is_better"]) is bool
        and type(content["scores"]) is dict
        and content["metric"] in content["scores"]
        and all(map(is_score, content["scores"].values()))
        and type(content["made_by"]) is dict
        and type(content["folds"]) is dict
        and all(type(one["result"]["checksum"]) is str for one in content["folds"].values())
        and _is_int(content["rows"])
    )


def _read(file: str, fits: Fits, problems: list[str]) -> dict[str, Any] | None:
    """The content of a file of a run; None when there is none, or when it does not fit, which is a problem."""
    try:
        content = files.read_json(file)
        if content is None or fits(content):
            return content
        reason = "its values do not fit"
    except Broken as error:
        reason = str(error)
    except (KeyError, TypeError, AttributeError):
        reason = "its keys do not fit"
    folder, name = os.path.split(file)
    place = f"{os.path.basename(folder)}/{name}" if name in (RESULT, ORIGIN) else name
    problems.append(f"broken {place} ({reason})")
    return None


# One fold


@dataclass(frozen=True)
class FoldRecord:
    """A fold as it lies on the disk; `number` is None for the training on all rows.

    Attributes:
        result: the content of its `result.json`; None: the fold is not done.
        problem: what is wrong with it, "" when nothing is.
        unscored: as `result`, of a fold that is trained and has no score: a metric has failed.
    """

    path: str
    number: int | None
    result: dict[str, Any] | None
    problem: str = ""
    unscored: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        return Path(self.path)

    @property
    def title(self) -> str:
        return fold_title(self.number)

    @property
    def checksum(self) -> str:
        """Of the result: another one is another training."""
        return str(self.result["checksum"]) if self.result else ""

    def origin(self) -> dict[str, Any]:
        """How it was made: command, host, python, packages, code (path to hashes); {} when nobody knows."""
        return _read(f"{self.path}/{ORIGIN}", lambda _: True, []) or {}

    def predictions(self, name: str = OOF) -> Columns:
        """Its out-of-fold (or, with TEST, test) predictions, by column.

        Raises:
            Broken: they are not as the fold left them.
            FileNotFoundError: it has none.
        """
        table = tables.load(self.folder / name)
        if name == OOF and self.result is not None and any(len(one) != self.result["rows"] for one in table.values()):
            raise Broken(f"{name} has not the {self.result['rows']} rows that it had")
        return table


def read_fold(folder: Path, number: int | None, run_id: str, copies: Mapping[str, Any] | None = None) -> FoldRecord:
    """The fold `number` of the version of a run in `folder`.

    Args:
        copies: the results that its `cv.json` was made from; one whose file is as it was then need not be read again.
    """
    path = f"{folder}/{fold_name(number)}"
    problems: list[str] = []
    result = _copied(f"{path}/{RESULT}", (copies or {}).get(str(number)))
    if result is None:
        result = _read(f"{path}/{RESULT}", _fits_result, problems)
    if result is not None:
        if result["fold"] != number or type(result["fold"]) is not type(number) or result["run"] != run_id:
            problems.append(f"{fold_name(number)} is of another run or fold")
        elif problem := _changed_file(path, result["files"]):
            problems.append(f"{fold_name(number)}/{problem}")
        elif number is not None and not result["scores"]:
            return FoldRecord(path, number, None, f"{fold_name(number)} has no score", result)
    return FoldRecord(path, number, None if problems else result, "; ".join(problems))


def _copied(file: str, copy: Any) -> dict[str, Any] | None:
    try:
        about = os.stat(file)
        is_same = copy["state"] == [about.st_size, about.st_mtime_ns] and _fits_result(copy["result"])
        return dict(copy["result"]) if is_same else None
    except (OSError, LookupError, TypeError, AttributeError):
        return None


def _changed_file(path: str, listed: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a fold that is done."""
    for name, state in listed.items():
        if type(state) is not list or len(state) != 3 or name[:1] in "/\\" or ".." in name or ":" in name:
            return f"{name} does not fit"
        try:
            about = os.stat(f"{path}/{name}")
        except (OSError, ValueError):
            return f"{name} is missing"
        if about.st_size != state[0] or not stat.S_ISREG(about.st_mode):
            return f"{name} is cut off or changed"
        if state[2] and about.st_mtime_ns != state[1]:  # copied, or changed: only the content tells
            try:
                if files.file_hash(Path(path, name)) != state[2]:
                    return f"{name} has been changed"
            except OSError:
                return f"{name} cannot be read"
    return None


def write_result(folder: Path, result: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Mark the fold in `folder` as done: flush its files, then write the result that lists them."""
    files.write_json(folder / ORIGIN, origin)
    listed = {}
    for file in files.tree_to_disk(folder):
        about = file.stat()
        keeps = file.suffix in (".npz", ".csv", ".json")
        name = file.relative_to(folder).as_posix()
        listed[name] = [about.st_size, about.st_mtime_ns, files.file_hash(file) if keeps else None]
    files.write_json(folder / RESULT, dict(result) | {"files": listed})


def score_result(fold: FoldRecord, scores: Mapping[str, float]) -> None:
    """Give a fold that is trained and has no score its scores."""
    assert fold.unscored is not None
    content = {key: value for key, value in fold.unscored.items() if key != "checksum"}
    files.write_json(fold.folder / RESULT, content | {"scores": dict(scores)})


# One run


@dataclass(frozen=True)
class Score:
    """A metric of a run.

    Attributes:
        value: over all out-of-fold rows; while that is not known, the mean over the folds that are done.
        std: standard deviation of the folds' scores (n - 1).
        folds: the score of each fold.
    """

    value: float
    std: float | None
    folds: dict[int, float]


@dataclass(frozen=True)
class RunRecord:
    """A run as it lies on the disk: one version of it, whole, partial or broken.

    Attributes:
        info: the content of its `run.json`; None when there is none that fits.
        folds: every fold that has a folder; `.result` says which are done.
        cv: the content of `cv.json`, when it is of just these folds.
        problems: what is broken.
    """

    folder: Path
    experiment: str
    name: str
    info: dict[str, Any] | None
    folds: dict[int, FoldRecord]
    cv: dict[str, Any] | None
    problems: tuple[str, ...] = field(default=())

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

    def score(self, metric: str | None = None) -> Score | None:
        """A metric, by default the one that decides; None: not known."""
        metric = metric or self.metric
        if metric is None or not self.done:
            return None
        if self.cv is not None and metric in self.cv["scores"]:
            found = self.cv["scores"][metric]
            value = float(found["mean"] if found["all"] is None else found["all"])
            return Score(value, found["std"], {int(number): score for number, score in found["folds"].items()})
        results = {number: fold.result for number, fold in self.done.items() if fold.result}
        scores = {number: result["scores"][metric] for number, result in results.items() if metric in result["scores"]}
        if len(scores) != len(results):
            return None
        return Score(statistics.fmean(scores.values()), deviation(list(scores.values())), scores)

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, the one that decides first."""
        names = list(self.cv["scores"]) if self.cv else []
        names += [name for fold in self.done.values() if fold.result for name in fold.result["scores"]]
        return list(dict.fromkeys([*([self.metric] if self.metric in names else []), *names]))

    @property
    def rows(self) -> int:
        """How many rows the score covers."""
        return sum(fold.result["rows"] for fold in self.done.values() if fold.result)

    @property
    def seconds(self) -> float:
        return float(sum(fold.result["seconds"] for fold in self.done.values() if fold.result))

    @property
    def finished(self) -> str | None:
        """When the last fold was done, ISO 8601 in UTC."""
        return max((fold.result["finished"] for fold in self.done.values() if fold.result), default=None)

    @property
    def git(self) -> dict[str, Any] | None:
        """The snapshot of the first fold that is done."""
        return next((fold.result["git"] for fold in self.done.values() if fold.result), None)

    @property
    def marks(self) -> tuple[str, ...]:
        """What to know about the score."""
        marks = [] if self.info or self.problems else ["no run.json"]
        if self.n_folds is not None and len(self.done) < self.n_folds:
            marks.append("partial")
        elif self.done and self.n_folds and self.cv is None and self.n_folds > 1:
            marks.append("mean of folds")
        results = [fold.result for fold in self.done.values() if fold.result]
        if any(not same_code(result["code"], results[0]["code"]) for result in results):
            marks.append("mixed code")
        if len({result["data"] for result in results}) > 1:
            marks.append("mixed data")
        if len({result["environment"] for result in results}) > 1:
            marks.append("mixed devices")
        return (*marks, *self.problems)


def deviation(scores: list[float]) -> float | None:
    """Standard deviation (n - 1); None of a single score."""
    return statistics.stdev(scores) if len(scores) > 1 else None


def read_run(folder: Path) -> RunRecord:
    """The version of a run in `folder`."""
    path, problems = str(folder), list[str]()
    info = _read(f"{path}/{RUN}", _fits_run, problems)
    number = VERSION.fullmatch(folder.name)
    name = number["run"] if number else folder.name
    folds: dict[int, FoldRecord] = {}
    try:
        found = sorted(os.listdir(path))
    except OSError as error:
        return RunRecord(folder, folder.parent.name, name, None, {}, None, (f"cannot be read: {error.strerror}",))
    cv = _read(f"{path}/{CV}", _fits_cv, problems)
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
    return RunRecord(folder, folder.parent.name, name, info, folds, cv, tuple(problems))


def read_run_info(folder: Path) -> dict[str, Any] | None:
    """The `run.json` of a version alone; None when there is none that fits."""
    return _read(f"{folder}/{RUN}", _fits_run, [])


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
    files.write_json(folder / RUN, {key: value for key, value in info.items() if key != "checksum"})


def write_cv(folder: Path, summary: Mapping[str, Any], done: Mapping[int, FoldRecord]) -> None:
    """Write the scores that were computed from the predictions of the folds `done`."""
    made_from = {}
    for number, fold in done.items():
        about = (fold.folder / RESULT).stat()
        made_from[str(number)] = {"state": [about.st_size, about.st_mtime_ns], "result": fold.result}
    files.write_json(folder / CV, dict(summary) | {"folds": made_from})


# Versions


def version_folder(parent: Path, run: str, number: int) -> Path:
    """Where the version `number` of a run lies, from 1 on."""
    return parent / (run if number == 1 else f"{run}@{number}")


def version_number(folder: Path) -> int:
    """Which version lies in `folder`."""
    match = VERSION.fullmatch(folder.name)
    return int(match["number"] or 1) if match else 1


def versions(parent: Path, run: str) -> list[Path]:
    """Every version of a run that has a folder, the oldest first."""
    return sorted(_grouped(parent).get(run, []), key=version_number)


def counting(parent: Path, run: str) -> Path | None:
    """The version of a run that counts; None: there is none yet."""
    return _counting(parent, run, _grouped(parent).get(run, []))


def install(folder: Path) -> None:
    """Let the version in `folder` count from now on. A step: before it and after it, the run is whole."""
    match = VERSION.fullmatch(folder.name)
    assert match is not None, folder
    files.write_text(_pointer(folder.parent, match["run"]), f"{version_number(folder)}\n")


def forget_deleted(parent: Path, run: str) -> None:
    """Remove a pointer to a version that somebody has deleted: a new one of its number would count at once."""
    pointed = _pointed(parent, run)
    if pointed is not None and pointed not in map(version_number, versions(parent, run)):
        _pointer(parent, run).unlink()
        files.to_disk(parent)


def _pointer(parent: Path, run: str) -> Path:
    return parent / f".{run}.version"


def _pointed(parent: Path, run: str) -> int | None:
    """The number in the pointer of a run; None: there is none that fits."""
    try:
        text = _pointer(parent, run).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return int(text[:9]) if text.isascii() and text.isdecimal() else None


def _counting(parent: Path, run: str, folders: list[Path]) -> Path | None:
    numbers = {version_number(folder): folder for folder in folders}
    if not numbers:
        return None
    if len(numbers) > 1 or 1 not in numbers:
        pointed = _pointed(parent, run)
        if pointed in numbers:
            return numbers[pointed]
    return numbers[min(numbers)]


def _grouped(parent: Path) -> dict[str, list[Path]]:
    """The folders of an experiment, by the name of the run."""
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(parent) as entries:
            for entry in entries:
                match = VERSION.fullmatch(entry.name)
                if match and not entry.name.startswith(".") and entry.is_dir():
                    found.setdefault(match["run"], []).append(Path(entry.path))
    except OSError:
        pass
    return found


def run_folders(output: Path) -> Iterator[Path]:
    """The version that counts of every run under `output`, in order; not those of exp.debug=true."""
    try:
        experiments = sorted(os.listdir(output))
    except OSError:
        return
    for experiment in experiments:
        if experiment not in NOT_EXPERIMENTS and not experiment.startswith("."):
            parent = output / experiment
            for run, folders in sorted(_grouped(parent).items()):
                if (folder := _counting(parent, run, folders)) is not None:
                    yield folder


# The data that runs were trained with


def write_data(output: Path, digest: str, manifest: Mapping[str, Any]) -> None:
    """Keep which files a fingerprint stands for; once for all runs."""
    file = output / ".data" / f"{digest}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, {"files": manifest})


def read_data(output: Path, digest: str) -> dict[str, list[Any]] | None:
    """The files behind a fingerprint: path to bytes and hash; None when nobody knows them any more."""
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        return None
    content = _read(str(output / ".data" / f"{digest}.json"), lambda content: type(content["files"]) is dict, [])
    return content["files"] if content else None
