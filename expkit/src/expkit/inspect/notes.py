"""Notes for a reader at the terminal: of which run, what was said, and whether the leaderboard agrees with CV."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from expkit.config.parameter_sets import name_of, parameter_sets
from expkit.errors import NotFound
from expkit.inspect.board import Row
from expkit.inspect.find import find_run
from expkit.inspect.words import score_text, text
from expkit.paths import experiment_dir, experiment_names, full_name, output_dir
from expkit.record import Notes, read_notes, read_run


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
