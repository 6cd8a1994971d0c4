"""Notes on runs: what was expected, what came of it, a leaderboard score. They are the project's memory.

    notes/<experiment>.jsonl        one JSON object a line, the newest last: {"run": "001", "time": ..., "text": ...}

Git keeps them, so that they outlive their runs; two branches that both add lines merge by themselves (.gitattributes).
A line is written whole or not at all, and is never changed; what is said later about the same run counts.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from statistics import StatisticsError, correlation
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from rich.console import Console

from expkit.config import id_of, name_of, parameter_sets
from expkit.errors import Error, print_line, require, score_text, text, warn
from expkit.files import listed, make_folder, read_bytes, regular, text_of
from expkit.project import code_root, display_path, experiment_dir, experiment_names, full_name, notes_dir, output_dir
from expkit.store import Run, load_run, read_run_info, run_folders, run_names
from expkit.store.records import Number, RunInfo, fits

if TYPE_CHECKING:
    from expkit.board import Entry


KAGGLE = "Kaggle"  # begins the text of a line with the score of a submission, as "Kaggle digits, submission 1000"


class Line(TypedDict):
    """One line of a file."""

    run: str  # "" for the experiment as a whole
    time: str  # ISO 8601 in UTC
    id: NotRequired[str]  # of the version of the run
    scores: NotRequired[dict[str, Number]]  # the CV score of that time, by metric
    problem: NotRequired[str]  # what the score was of, as of `board.Entry.problem`
    set: NotRequired[str]  # the parameter set that is to be trained, a file in exp/
    set_id: NotRequired[str]  # of this file
    origin: NotRequired[str]  # what an experiment or a parameter set was made from
    hypothesis: NotRequired[str]
    change: NotRequired[dict[str, Any]]  # the values that differ from those of the origin, by key
    tested: NotRequired[dict[str, Any]]  # by `exp try`: "verdict", "against", "better_by", "folds", "seeds", "cause"
    verdict: NotRequired[Literal["kept", "dropped"]]
    unlocked: NotRequired[str]  # by `exp unlock`: the rows whose locked box was opened, as of `Run.given`
    by: NotRequired[str]  # whom
    leaderboard: NotRequired[Number | None]  # None: it is taken back
    tags: NotRequired[list[str]]
    text: NotRequired[str]


@dataclass(frozen=True)
class Notes:
    """Everything that was noted on a run, or, where its name ends in "/", on an experiment as a whole.

    Attributes:
        title: "<experiment>/<run>".
        lines: dicts as `Line`, the oldest first.
    """

    title: str
    lines: tuple[dict[str, Any], ...] = ()

    def last_line(self, key: str) -> dict[str, Any] | None:
        """The last line that says something under a key; None: none does."""
        return next((line for line in reversed(self.lines) if key in line), None)

    def last(self, key: str) -> Any:
        """What was noted last under "hypothesis", "verdict", "leaderboard", "origin", "text"; None: nothing."""
        return (self.last_line(key) or {}).get(key)

    def says(self, said: Mapping[str, Any]) -> bool:
        """Whether the last line says just this."""
        last = self.lines[-1] if self.lines else {}
        return said == {key: value for key, value in last.items() if key not in ("run", "time")}

    def without_leaderboard(self) -> dict[str, Any]:
        """What a line says that takes the leaderboard score back. That of Kaggle counts again, if written over."""
        said = (line for line in reversed(self.lines) if "leaderboard" in line)
        last, *before = [*itertools.takewhile(lambda line: line["leaderboard"] is not None, said)] or [{}]
        known = [] if is_of_kaggle(last) else filter(is_of_kaggle, before)
        return next(({key: line[key] for key in ("leaderboard", "text")} for line in known), {"leaderboard": None})

    @property
    def is_dropped(self) -> bool:
        """Whether a person has said so last."""
        return bool(self.last("verdict") == "dropped")

    @functools.cached_property
    def tags(self) -> list[str]:
        return list(dict.fromkeys(tag for line in self.lines for tag in line.get("tags", ())))


def is_of_kaggle(line: Mapping[str, Any]) -> bool:
    """Whether `exp kaggle` has noted a line, with the score of a submission."""
    return bool(re.match(rf"{KAGGLE} \S+, submission \d+$", line.get("text", "")))


# The files


def read_notes(folder: Path | None = None) -> dict[str, Notes]:
    """The notes by "<experiment>/<run>". A line that does not fit is left out, with a warning.

    Args:
        folder: with the files; None: the project's.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    folder, trained, ids = folder or notes_dir(), functools.cache(_trained), functools.cache(_set_ids)
    for file in (folder / name for name in listed(folder) if name.endswith(".jsonl")):
        try:
            texts = read_bytes(file).decode(errors="replace").split("\n")
        except OSError as error:
            warn(f"{display_path(file)} cannot be read, and is left out: {error.strerror}")
            continue
        lines = [_line(text) for text in texts]
        for line in filter(None, lines):
            found.setdefault(f"{file.stem}/{_run_of(file.stem, line, trained, ids)}", []).append(line)
        if bad := [number for number, text in enumerate(texts, start=1) if text.strip() and not lines[number - 1]]:
            more = f", as are {len(bad) - 1} more" if len(bad) > 1 else ""
            warn(f"{display_path(file)}, line {bad[0]} is not a note, and is left out{more}")
    # a merge of two branches may have mixed the lines
    return {title: Notes(title, tuple(sorted(lines, key=itemgetter("time")))) for title, lines in found.items()}


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if fits(line, Line) else None


def _run_of(experiment: str, line: Mapping[str, Any], trained: Callable[..., Any], ids: Callable[..., Any]) -> str:
    """The run that a line is about. The file of a parameter set, and the `name` in it, are changed often: it is the
    first run that was trained with the set since, or the name as it is now."""
    run, set_id = str(line["run"]), line.get("set_id")
    if set_id is None:
        return run
    infos = [info for info in trained(experiment) if info.get("set_id") == set_id]
    since = [info for info in infos if info["run"] == run or info["started"] >= line["time"]]
    if since:
        return min(since, key=lambda info: (info["run"] != run, info["started"]))["run"]
    files = [each for each, one in ids(experiment).items() if one == set_id]
    file = files[0] if len(files) == 1 else str(line.get("set"))
    return name_of(code_root() / "experiments" / experiment, file) or run


def _set_ids(experiment: str) -> dict[str, str | None]:
    folder = code_root() / "experiments" / experiment
    return {each: id_of(folder, each) for each in parameter_sets(folder)}


def _trained(experiment: str) -> list[RunInfo]:
    """The run.json of each run of an experiment."""
    folders = (folder for folder in run_folders(output_dir()) if folder.parent.name == experiment)
    return [info for info in map(read_run_info, folders) if info]


def _time_after(file: Path) -> str:
    """Now; or just after the last line of a file, by a clock that was ahead: what is said later counts."""
    now, known = datetime.now(UTC), [line["time"] for line in map(_line, text_of(file).split("\n")) if line]
    with suppress(ValueError, TypeError, OverflowError):  # somebody has edited it
        now = max(now, datetime.fromisoformat(max(known, default="")) + timedelta(milliseconds=1))
    return now.isoformat(timespec="milliseconds")


def add_note(title: str, said: Mapping[str, Any], folder: Path | None = None) -> None:
    """Add a line about a run, or, where `title` ends in "/", about an experiment.

    Args:
        said: what `Line` has beside "run" and "time"; only what there is to say.
        folder: with the files; None: the project's.

    Raises:
        Error: something of it does not fit, or is of a run alone, or the file cannot be written; nothing is written.
    """
    experiment, _, run = title.partition("/")
    if not run and {"verdict", "leaderboard"} & said.keys():
        raise Error(f"{experiment} is an experiment: name one of its runs, {', '.join(run_names(title)) or 'none yet'}")
    file = (folder or notes_dir()) / f"{experiment}.jsonl"
    line = {"run": run, "time": _time_after(file), **said}
    require(fits(line, Line), f"{title}: this cannot be noted: {dict(said)}")
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


def openings(run: Run | None = None) -> list[dict[str, Any]]:
    """The lines about a locked box that was opened, the oldest first.

    Args:
        run: only on the rows that it was given, of whichever run; None: all.
    """
    lines = [line for noted in read_notes().values() for line in noted.lines if "unlocked" in line]
    return sorted((line for line in lines if run is None or line["unlocked"] == run.given.ids), key=itemgetter("time"))


def openings_text(lines: list[dict[str, Any]]) -> str:
    """What `openings` has found on the same rows, in words."""
    if not lines:
        return "the locked box was never opened on these rows"
    last = f"last {lines[-1]['time'][:10]} by {lines[-1].get('by')}"
    return f"the locked box was opened {len(lines)} time{'s' * (len(lines) > 1)} on these rows, {last}"


# What a note is about


def titled(name: str) -> str:
    """The "<experiment>/<run>" that a note is about, or "<experiment>/": the name need not have a run yet, or any more.

    Args:
        name: an experiment, as 002-larger-model, or as 002 or larger-model where no run is called so; a parameter set
            that is not trained yet, as 002/003; a run, as for `load_run`; or the whole name of a run that has notes and
            is deleted.

    Raises:
        NotFound: it is none of these.
        Error: it may be several.
    """
    experiment, _, run = name.partition("/")
    experiment = full_name(experiment)
    names = _set_names(experiment)
    if not run and experiment in experiment_names():
        called = [title for title in run_names("") if title.partition("/")[2] == name]
        return called[0] if len(called) == 1 and name != experiment else f"{experiment}/"
    if run in names and not (output_dir() / experiment / run).is_dir():
        return f"{experiment}/{names[run] or run}"
    title = f"{experiment}/{run}"
    return title if run in names.values() or title in read_notes() else load_run(name).title


def context_of(title: str, entry: Entry | None) -> dict[str, Any]:
    """What a line keeps of its run: the id, the CV score, and the problem that it is of; of one that is not there, its
    parameter set, if any."""
    if entry is not None:
        run, problem = entry.run, entry.problem
        return {} if run.score is None else {"id": run.id, "scores": {run.metric: run.score}, "problem": problem}
    experiment, _, named = title.partition("/")
    return next((set_metadata(experiment, each) for each, name in _set_names(experiment).items() if name == named), {})


def set_metadata(experiment: str, parameter_set: str) -> dict[str, str]:
    """What a line keeps of a parameter set that is to be trained."""
    set_id = _set_ids(experiment).get(parameter_set)
    return {"set": parameter_set, "set_id": set_id} if set_id else {}


def _set_names(experiment: str) -> dict[str, str | None]:
    """The names that the parameter sets of an experiment give to their runs; {} when it is gone."""
    if experiment not in experiment_names():
        return {}
    folder = experiment_dir(experiment)
    return {each: name_of(folder, each) for each in parameter_sets(folder)}


# For a program and for a person


def notes_metadata(notes: Notes, run: Run | None) -> dict[str, Any]:
    """What is noted on one run, as JSON has it; the scores are those of now or, when it is deleted, as noted last."""
    scores = {run.metric: run.score} if run and run.score is not None else notes.last("scores") or {}
    said = {key: notes.last(key) for key in ("verdict", "leaderboard", "hypothesis", "origin")}
    named = {"run": notes.title, "exists": run is not None, **said, "tags": notes.tags}
    return {**named, "scores": scores, "notes": list(notes.lines)}


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None or empty: what a program gets by default."""
    return {key: value for key, value in values.items() if value not in (None, "", [], (), {})}


def short_notes(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `notes_metadata` tells, without what is not there; of the lines, the texts, each with its time."""
    lines = [{"time": line["time"][:16], "text": line["text"]} for line in found["notes"] if line.get("text")]
    return present({**found, "notes": lines})


def show_notes(console: Console, found: Mapping[str, Any]) -> None:
    """Print the notes of one run, of which `notes_metadata` tells."""
    parts = [f"CV {metric} {score_text(score)}" for metric, score in found["scores"].items()]
    parts += [] if found["leaderboard"] is None else [f"leaderboard {score_text(found['leaderboard'])}"]
    parts += [*filter(None, [found["verdict"]]), *(f"#{tag}" for tag in found["tags"])]
    parts += [] if found["exists"] or found["run"].endswith("/") else ["no run"]
    console.print(text(found["run"].rstrip("/"), "bold"), text("  ".join(parts)), soft_wrap=True)
    for line in found["notes"]:
        print_line(console, f"  {format_note(line)}")


def format_note(line: Mapping[str, Any]) -> str:
    """One line of notes, for a reader."""
    said = {key: "taken back" if value is None else value for key, value in line.items()}
    parts = [f"{key}: {said[key]}" for key in ("origin", "hypothesis", "verdict", "leaderboard") if key in line]
    parts += ["tested: {verdict}, against {against}".format_map(line["tested"])] if "tested" in line else []
    parts += [f"the locked box was opened by {line.get('by')}"] if "unlocked" in line else []
    parts += [line["text"]] if "text" in line else []
    parts += [" ".join(f"#{tag}" for tag in line["tags"])] if "tags" in line else []
    return f"{line['time'][:16].replace('T', ' ')}  {'; '.join(parts)}"


def scored_twice(notes: Iterable[Notes], board: Mapping[str, Entry]) -> dict[str, dict[str, tuple[float, float]]]:
    """By metric and run, the CV score and the leaderboard score: {"accuracy": {"001-baseline/001": (0.98, 0.97)}}.

    A metric that several problems have is there for each, as "accuracy~3f2a1b". A note that does not say of which it
    is, on a run that is deleted or replaced, counts for the metric alone.

    Args:
        board: the runs of now, by title.
    """
    pairs: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for each in notes:
        line, entry = each.last_line("leaderboard"), board.get(each.title)
        if line and line["leaderboard"] is not None:  # it may have been noted before there was a CV score
            line = line if line.get("scores") else line | context_of(each.title, entry)
            problem = entry.problem if entry and entry.run.id == line.get("id") else line.get("problem")
            for metric, score in line.get("scores", {}).items():
                pairs.setdefault((metric, problem or metric), {})[each.title] = (score, line["leaderboard"])
    metrics = [metric for metric, _ in pairs]
    return {problem if metrics.count(metric) > 1 else metric: each for (metric, problem), each in pairs.items()}


def agreement(notes: Iterable[Notes], board: Mapping[str, Entry]) -> dict[str, Any]:
    """By metric, how well the CV scores say the leaderboard scores: {"accuracy": {"runs": 4, "correlation": 0.98}}.

    A metric with fewer than three runs is left out, and one of which either score is the same for all.

    Args:
        notes, board: as of `scored_twice`.
    """
    found: dict[str, Any] = {}
    for metric, scores in scored_twice(notes, board).items():
        with suppress(StatisticsError):
            if len(scores) >= 3:
                found[metric] = {"runs": len(scores), "correlation": correlation(*zip(*scores.values(), strict=True))}
    return found
