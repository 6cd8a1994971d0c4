"""The board: every run under output/, in a table."""

from __future__ import annotations

import difflib
import json
import os
import re
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit.config import leaves
from expkit.errors import Error
from expkit.paths import code_root, output_dir
from expkit.snapshot import code_hash

if TYPE_CHECKING:
    import pandas

NOT_RUNS = ("debug", "multirun", "wandb")  # folders of output/ that hold no experiment


@dataclass(frozen=True)
class Row:
    """One run, as the board shows it.

    Attributes:
        score: the CV score over all out-of-fold rows, or, while folds are missing, the mean over those that are done.
        std: standard deviation of the scores of the folds (n - 1).
        seed: exp.seed; of grouped runs, how many seeds.
        seconds: the time of all folds together.
        finished: when the last fold was done, ISO 8601 in UTC.
        commit: the first digits of the git commit, with * when the working tree differed from it.
        marks: what to know about the score: folds are missing, code has changed, files are broken.
        config: the configuration, {"exp.seed": 42, ...}.
    """

    experiment: str
    run: str
    folder: Path
    metric: str | None = None
    greater_is_better: bool = True
    score: float | None = None
    std: float | None = None
    folds_done: int = 0
    n_folds: int | None = None
    seed: int | str | None = None
    seconds: float | None = None
    finished: str | None = None
    commit: str | None = None
    marks: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """ "<experiment>/<run>"."""
        return f"{self.experiment}/{self.run}"

    def values(self) -> dict[str, Any]:
        """The columns of the board, then the configuration."""
        columns = {key: getattr(self, key) for key in COLUMNS}
        return columns | {"marks": ", ".join(self.marks)} | self.config


COLUMNS = (
    "experiment",
    "run",
    "metric",
    "score",
    "std",
    "folds_done",
    "n_folds",
    "seed",
    "seconds",
    "finished",
    "commit",
)


def read_board(output: Path | None = None) -> list[Row]:
    """Every run under `output` (by default the project's), in the order of the folders. Debug runs are not on it."""
    output = output or output_dir()
    current_code = _CurrentCode()
    return [read_run(Path(path), current_code) for path in run_folders(output)]


def run_folders(output: Path) -> Iterator[str]:
    """The folders of all runs under `output`."""
    for experiment in _folders(output):
        if experiment.name not in NOT_RUNS:
            for run in _folders(experiment.path):
                yield run.path


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda entry: entry.name)


class _CurrentCode:
    """The hash of the code of each experiment, as it is now."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __call__(self, experiment: str) -> str | None:
        if experiment not in self._known:
            folder = code_root() / "experiments" / experiment
            self._known[experiment] = code_hash(folder) if folder.is_dir() else None
        return self._known[experiment]


def read_run(folder: Path, current_code: Callable[[str], str | None] | None = None) -> Row:
    """The row of one run. What is broken is in its marks; it raises nothing."""
    path, experiment, run = str(folder), folder.parent.name, folder.name
    marks: list[str] = []
    record, cv = (_read(f"{path}/{name}", marks) for name in ("run.json", "cv.json"))
    if record is None and not marks:
        marks.append("no run.json")
    record = record or {}
    config = dict(leaves(record.get("config"))) if isinstance(record.get("config"), dict) else {}
    row = Row(experiment, run, folder, config=config, seed=config.get("exp.seed"), n_folds=config.get("exp.n_folds"))

    done = {entry.name[4:] for entry in _parts(path) if os.path.exists(f"{entry.path}/result.json")}
    codes = {record.get("code")}
    if cv is None or not isinstance(cv.get("folds"), dict) or cv["folds"].keys() != done:
        row, codes = _from_folds(row, path, done, marks)
    else:
        score = cv.get("mean") if cv.get("score") is None else cv["score"]
        row = replace(
            row,
            metric=cv.get("metric"),
            greater_is_better=cv.get("greater_is_better", True),
            score=score,
            std=cv.get("std"),
            folds_done=len(done),
            n_folds=cv.get("n_folds"),
            seconds=record.get("seconds"),
            finished=record.get("finished"),
        )
        if cv.get("mixed_code"):
            marks.append("mixed code")
        codes = {cv.get("code", record.get("code"))}
    if row.folds_done < (row.n_folds or 0):
        marks.insert(0, "partial")
    if len(codes - {None}) > 1:
        marks.append("mixed code")
    elif current_code and codes != {None} and codes != {current_code(experiment)}:
        marks.append("code changed since")
    git = record.get("git")
    commit = (
        f"{git['commit'][:7]}{'*' if git.get('dirty') else ''}" if isinstance(git, dict) and git.get("commit") else None
    )
    return replace(row, commit=commit, marks=tuple(marks))


def _parts(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return [entry for entry in entries if entry.name.startswith("fold") and entry.name[4:].isdecimal()]


def _from_folds(row: Row, path: str, done: Iterable[str], marks: list[str]) -> tuple[Row, set[str | None]]:
    """The row of a run without a `cv.json` that fits: training, or its last process was killed."""
    results = []
    for number in sorted(done, key=int):
        result = _read(f"{path}/fold{number}/result.json", marks)
        if result is not None and isinstance(result.get("score"), int | float):
            results.append(result)
    if not results:
        return row, {None}
    scores = [result["score"] for result in results]
    return replace(
        row,
        metric=results[0].get("metric"),
        greater_is_better=results[0].get("greater_is_better", True),
        score=statistics.fmean(scores),
        std=statistics.stdev(scores) if len(scores) > 1 else None,
        folds_done=len(results),
        seconds=sum(result.get("seconds", 0) for result in results),
        finished=max(str(result.get("finished", "")) for result in results),
    ), {result.get("code") for result in results}


def _read(path: str, marks: list[str]) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is none, with a mark when it is broken."""
    try:
        with open(path, "rb") as stream:
            content = json.loads(stream.read())
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict):
        marks.append(f"broken {os.path.basename(os.path.dirname(path))}/{os.path.basename(path)}")
        return None
    return content


# Which rows, in which order


def filtered(rows: list[Row], conditions: Iterable[str]) -> list[Row]:
    """The rows that meet every condition: "score>0.97", "learning_rate=0.003", or a part of a run's name.

    Raises:
        Error: a condition names a key that no run has.
    """
    for condition in conditions:
        parts = re.fullmatch(r"([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*)", condition)
        if parts is None:
            rows = [row for row in rows if condition in row.name]
        else:
            key = _key(parts[1], rows)
            rows = [row for row in rows if _holds(row.values().get(key), parts[2], parts[3])]
    return rows


def _holds(value: Any, operator: str, other: str) -> bool:
    if value is None:
        return False
    left: Any = str(value).lower() if isinstance(value, bool) else str(value)
    right: Any = other
    try:
        left, right = float(left), float(right)
    except ValueError:
        pass
    return bool(_OPERATORS[operator](left, right))


_OPERATORS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def ordered(rows: list[Row], key: str = "score") -> list[Row]:
    """The rows sorted by a column or a configuration key, "-key" for the other way round; by score, best first.

    Rows without a value come last. Scores of different metrics are not mixed, and by score, runs with missing folds
    come after those that have all.

    Raises:
        Error: no run has the key.
    """
    key, reverse = key.removeprefix("-"), key.startswith("-")
    key = _key(key, rows)
    with_value = [row for row in rows if row.values().get(key) is not None]
    without = [row for row in rows if row.values().get(key) is None]
    if key == "score":
        with_value.sort(key=_rank)
        if reverse:
            with_value.reverse()
    else:
        with_value.sort(key=lambda row: _comparable(row.values()[key]), reverse=reverse)
    return with_value + without


def _rank(row: Row) -> tuple[str, bool, float]:
    """The place of a run on the board: a score of all folds is worth more than one of a few."""
    score = row.score or 0.0
    return row.metric or "", row.folds_done < (row.n_folds or 0), -score if row.greater_is_better else score


def _comparable(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def _key(name: str, rows: list[Row]) -> str:
    """The full key that `name` means: a column, or the end of a configuration key."""
    known = dict.fromkeys([*COLUMNS, "marks", *(key for row in rows for key in row.config)])
    found = [name] if name in known else [key for key in known if key.endswith(f".{name}")]
    if len(found) == 1 or not rows:
        return found[0] if found else name
    if found:
        raise Error(f"{name} may be {' or '.join(found)}: give more of it")
    near = difflib.get_close_matches(name, [*known, *(key.rpartition(".")[2] for key in known)], n=1)
    raise Error(f"no run has {name}{f'; did you mean {near[0]}?' if near else f'; there are {chr(44).join(known)}'}")


def grouped_by_seed(rows: list[Row]) -> list[Row]:
    """Runs that differ only in their seed as one row: mean and standard deviation (n - 1) of their scores."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        same = {key: value for key, value in row.config.items() if key not in ("exp.seed", "exp.name", "exp.fold")}
        groups.setdefault(json.dumps([row.experiment, row.metric, same], default=str, sort_keys=True), []).append(row)
    return [_as_one(group) for group in groups.values()]


def _as_one(group: list[Row]) -> Row:
    scores = [row.score for row in group if row.score is not None]
    if len(scores) < 2:
        return group[0]
    first = min(group, key=lambda row: len(row.run))
    return replace(
        first,
        score=statistics.fmean(scores),
        std=statistics.stdev(scores),
        seed=f"{len({row.seed for row in group})} seeds",
        folds_done=sum(row.folds_done for row in group),
        n_folds=sum(row.n_folds or 0 for row in group),
        seconds=sum(row.seconds or 0 for row in group),
        finished=max(row.finished or "" for row in group),
        marks=tuple(dict.fromkeys(mark for row in group for mark in row.marks)),
    )


def find_run(name: str, output: Path | None = None) -> Path:
    """The folder of the run that `name` means: its folder, "<experiment>/<run>", or any part that only one run has.

    Raises:
        Error: no run, or more than one; the message lists the candidates.
    """
    output = output or output_dir()
    if (Path(name) / "run.json").is_file():
        return Path(name).resolve()
    folders = {"/".join(Path(path).parts[-2:]): Path(path) for path in run_folders(output)}
    if name in folders:
        return folders[name]
    exact = [folder for folder in folders.values() if folder.name == name]
    found = exact or [folder for key, folder in folders.items() if name in key]
    if len(found) == 1:
        return found[0]
    if not folders:
        raise Error(f"there are no runs in {output}")
    if not found:
        near = difflib.get_close_matches(name, folders, n=3, cutoff=0.4)
        raise Error(f"no run is called {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    candidates = sorted("/".join(folder.parts[-2:]) for folder in found)
    more = f" and {len(candidates) - 8} more" if len(candidates) > 8 else ""
    raise Error(f"{name} may be {', '.join(candidates[:8])}{more}")


def runs(output: Path | None = None) -> pandas.DataFrame:
    """The board as a pandas DataFrame, best score first: a row a run, the columns of `Row`, then the configuration.

    Raises:
        Error: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise Error("expkit.runs needs pandas: `uv run --group notebook ...`, or `uv add pandas`") from None
    rows = ordered(read_board(output))
    frame = pandas.DataFrame([row.values() for row in rows], columns=None if rows else [*COLUMNS, "marks"])
    frame["finished"] = pandas.to_datetime(frame["finished"], utc=True)
    return frame
