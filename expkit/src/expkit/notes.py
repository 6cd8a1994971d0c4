"""Notes on runs: what was expected, what came of it, a leaderboard score. They are the project's memory.

    notes/<experiment>.jsonl        one JSON object a line, the newest last: {"run": "001", "time": ..., "text": ...}

Git keeps them, so that they outlive their runs; two branches that both add lines merge by themselves (.gitattributes).
A line is written whole or not at all, and is never changed; what is said later about the same run counts.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from expkit.config import name_of, parameter_sets
from expkit.errors import Error, NotFound, require, score_text, text, warn
from expkit.files import listed, make_folder, read_bytes, regular
from expkit.find import find_run
from expkit.project import code_root, display_path, experiment_dir, experiment_names, full_name, notes_dir, output_dir
from expkit.store import RunInfo, read_run, read_run_info, run_folders
from expkit.store.records import is_number

if TYPE_CHECKING:
    from expkit.board import Row

VERDICTS = ("kept", "dropped")
LARGEST = 16 * 2**20  # bytes of a file: a hundred thousand notes
TEXTS = ("run", "set", "time", "id", "text", "hypothesis", "verdict", "origin")


@dataclass(frozen=True)
class Notes:
    """Everything that was noted on a run, or, where its name ends in "/", on an experiment as a whole.

    Attributes:
        title: "<experiment>/<run>".
        lines: as they were written, the oldest first.
    """

    title: str
    lines: tuple[dict[str, Any], ...] = ()

    def last_line(self, key: str) -> dict[str, Any] | None:
        """The last line that says something under a key; None: none does."""
        return next((line for line in reversed(self.lines) if key in line), None)

    def last(self, key: str) -> Any:
        """What was noted last under "hypothesis", "verdict", "leaderboard", "origin", "text"; None: nothing."""
        return (self.last_line(key) or {}).get(key)

    @functools.cached_property
    def tags(self) -> list[str]:
        return list(dict.fromkeys(tag for line in self.lines for tag in line.get("tags", ())))

    @functools.cached_property
    def texts(self) -> list[str]:
        return [line["text"] for line in self.lines if "text" in line]


def read_notes(folder: Path | None = None) -> dict[str, Notes]:
    """The notes by "<experiment>/<run>". A line that does not fit is left out, with a warning.

    Args:
        folder: with the files; None: the project's.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    folder, trained = folder or notes_dir(), functools.cache(_trained)
    for file in (folder / name for name in listed(folder) if name.endswith(".jsonl")):
        try:
            texts = read_bytes(file, LARGEST).decode(errors="replace").split("\n")
        except OSError as error:
            warn(f"{display_path(file)} cannot be read, and is left out: {error.strerror}")
            continue
        lines = [_line(text) for text in texts]
        for line in filter(None, lines):
            found.setdefault(f"{file.stem}/{_run_of(file.stem, line, trained)}", []).append(line)
        if bad := [number for number, text in enumerate(texts, start=1) if text.strip() and not lines[number - 1]]:
            more = f", as are {len(bad) - 1} more" if len(bad) > 1 else ""
            warn(f"{display_path(file)}, line {bad[0]} is not a note, and is left out{more}")
    # a merge of two branches may have mixed the lines
    return {title: Notes(title, tuple(sorted(lines, key=lambda line: line["time"]))) for title, lines in found.items()}


def _run_of(experiment: str, line: Mapping[str, Any], trained: Callable[[str], list[RunInfo]]) -> str:
    """The run that a line is about. The `name` in the file of a parameter set is edited often: it is the first run that
    was trained with the set since, or the name as it is now."""
    run = str(line["run"])
    if "set" not in line or os.path.exists(output_dir() / experiment / run):
        return run
    since = [info for info in trained(experiment) if info.get("set") == line["set"] and info["started"] >= line["time"]]
    if since:
        return str(min(since, key=itemgetter("started"))["run"])
    return name_of(code_root() / "experiments" / experiment, line["set"]) or run


def _trained(experiment: str) -> list[RunInfo]:
    """The run.json of each run of an experiment that was trained with a parameter set as it is."""
    folders = (folder for folder in run_folders(output_dir()) if folder.parent.name == experiment)
    return [info for info in map(read_run_info, folders) if info and info.get("set")]


def add_note(title: str, about: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Add a line about a run, or, where `title` ends in "/", about an experiment; the line.

    Args:
        about: "text", "hypothesis", "verdict" (kept, dropped), "leaderboard" (a number), "tags" (a list), "origin", and
            of a run that is there, its "id" and "scores", the CV score by metric; else the "set" that is to be trained,
            the name of a file in exp/; only what there is to say. "leaderboard": None takes the score back.
        folder: with the files; None: the project's.

    Raises:
        Error: one of them does not fit, or the file cannot be written; nothing is written.
    """
    experiment, _, run = title.partition("/")
    line = {"run": run, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **about}
    require(_fits(line), f"{title}: this cannot be noted: {dict(about)}")
    file = (folder or notes_dir()) / f"{experiment}.jsonl"
    make_folder(file.parent)
    text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with open(file, "ab+", opener=regular) as stream:  # at the end, also when two processes add at the same time
            stream.seek(max(stream.tell() - 1, 0))
            if stream.read(1) not in (b"", b"\n"):  # somebody has edited it
                text = "\n" + text
            stream.write(text.encode(errors="backslashreplace"))  # half a character is no UTF-8: as JSON escapes it
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise Error(f"cannot write {display_path(file)}: {error.strerror}") from error
    return line


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if _fits(line) else None


def _fits(line: Any) -> bool:
    return (
        type(line) is dict
        and {"run", "time"} <= line.keys()
        and all(type(line[key]) is str for key in TEXTS if key in line)
        and line.get("verdict", "kept") in VERDICTS
        and (line.get("leaderboard") is None or is_number(line["leaderboard"]))
        and type(line.get("tags", [])) is list
        and all(type(tag) is str for tag in line.get("tags", []))
        and type(line.get("scores", {})) is dict
        and all(map(is_number, line.get("scores", {}).values()))
    )


def titled(name: str) -> str:
    """The "<experiment>/<run>" that a note is about, or "<experiment>/": the name need not have a run yet, or any more.

    Args:
        name: an experiment, as 002 or 002-larger-model; a parameter set that is not trained yet, as 002/003; a run, as
            for `find_run`; or the whole name of a run that has notes and is deleted.

    Raises:
        NotFound: it is none of these.
        Error: it may be several.
    """
    experiment, slash, rest = name.partition("/")
    experiment = full_name(experiment)
    is_experiment = experiment in experiment_names()
    if is_experiment and not slash and (name == experiment or name.isdecimal()):
        return f"{experiment}/"
    if is_experiment and slash:
        written = _names(experiment)
        is_name = rest in written.values() or (output_dir() / experiment / rest).is_dir()
        chosen = rest if is_name else written.get(rest)
        if chosen is not None:
            return f"{experiment}/{chosen}"
    try:
        return read_run(find_run(name)).title
    except NotFound as error:
        title = f"{experiment}/{rest}"
        if title in read_notes() or (is_experiment and not slash):
            return title
        raise NotFound(f"{error}; a note is on a run, a parameter set such as 001/002, or an experiment") from None


def _names(experiment: str) -> dict[str, str | None]:
    folder = experiment_dir(experiment)
    return {each: name_of(folder, each) for each in parameter_sets(folder)}


def parameter_set_of(title: str) -> str | None:
    """The parameter set that has the name of a run; None: there is none."""
    experiment, _, run = title.partition("/")
    names = _names(experiment) if experiment in experiment_names() else {}
    return next((each for each, name in names.items() if name == run), None)


def about_notes(notes: Notes, row: Row | None) -> dict[str, Any]:
    """What is noted on one run, as JSON has it; the scores are those of now or, when it is deleted, as noted last."""
    scores = {row.metric: row.score} if row and row.score is not None else notes.last("scores") or {}
    keys = ("verdict", "leaderboard", "hypothesis", "origin")
    said = {key: notes.last(key) for key in keys} | {"tags": notes.tags, "scores": scores}
    return {"run": notes.title, "exists": row is not None, **said, "notes": list(notes.lines)}


def agreement(notes: Iterable[Notes], rows: Mapping[str, Row]) -> dict[str, Any]:
    """By metric, how well the CV scores say the leaderboard scores: "runs", "pearson" and "spearman".

    Both are None of runs of which one of the scores is the same for all; a metric with fewer than three runs has none.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for each in notes:
        line = each.last_line("leaderboard") or {}
        scores = {} if line.get("leaderboard") is None else _scores(line, rows.get(each.title))
        for metric, score in scores.items():
            pairs.setdefault(metric, []).append((score, line["leaderboard"]))
    return {metric: _correlations(found) for metric, found in pairs.items() if len(found) >= 3}


def _scores(line: Mapping[str, Any], row: Row | None) -> dict[str, float]:
    """The CV score when a line was noted; it may have been noted before there was one."""
    return line.get("scores") or ({row.metric: row.score} if row and row.metric and row.score is not None else {})


def _correlations(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    if len(set(left)) == 1 or len(set(right)) == 1:
        return {"runs": len(pairs), "pearson": None, "spearman": None}
    ranked = statistics.correlation(_ranks(left), _ranks(right))
    return {"runs": len(pairs), "pearson": statistics.correlation(left, right), "spearman": ranked}


def _ranks(values: list[float]) -> list[float]:
    """From 1 on; equal values have the mean of their ranks."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


# For a reader


def say_agreement(console: Console, found: Mapping[str, Any]) -> None:
    """Print what `agreement` has found, a line for each metric."""
    for metric, about in found.items():
        if about["pearson"] is None:
            said = "no correlation, as one of the two is the same for all"
        else:
            said = f"correlation {about['pearson']:.2f}, of ranks {about['spearman']:.2f}"
        console.print(text(f"CV {metric} and leaderboard of {about['runs']} runs: {said}"), soft_wrap=True)


def show_notes(console: Console, notes: Notes, row: Row | None) -> None:
    """Print the notes of one run."""
    about = about_notes(notes, row)
    parts = [f"CV {metric} {score_text(score)}" for metric, score in about["scores"].items()]
    if about["leaderboard"] is not None:
        parts.append(f"leaderboard {score_text(about['leaderboard'])}")
    parts += [*filter(None, [about["verdict"]]), *(f"#{tag}" for tag in notes.tags)]
    if row is None and not notes.title.endswith("/"):
        is_planned = notes.last("set") is not None and notes.last("id") is None
        parts.append("not trained yet" if is_planned else "not there")
    console.print(text(notes.title.rstrip("/"), "bold"), text("  ".join(parts)), soft_wrap=True)
    for line in map(worded, notes.lines):
        console.print(text(f"  {line}"), soft_wrap=True)


def worded(line: Mapping[str, Any]) -> str:
    """One line of notes, for a reader."""
    said = {key: line[key] for key in ("origin", "hypothesis", "verdict", "leaderboard") if key in line}
    named = [f"{key}: {'taken back' if value is None else value}" for key, value in said.items()]
    tags = [" ".join(f"#{tag}" for tag in line["tags"])] if "tags" in line else []
    parts = [*named, *([line["text"]] if "text" in line else []), *tags]
    return f"{line['time'][:16].replace('T', ' ')}  {'; '.join(parts)}"
