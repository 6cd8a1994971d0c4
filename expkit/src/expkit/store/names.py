"""Which run a name means, and what a run is called where there is little room."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from expkit.errors import Error, NotFound
from expkit.project import display_path, output_dir
from expkit.store.records import run_folders

LONGEST = 24  # characters of a run that is shown whole


def find_run(name: str, output: Path | None = None, is_whole: bool = False) -> Path:
    """The folder of the run that `name` means.

    Args:
        name: its folder; "<experiment>/<run>", whole or as `short_names` has it; or any part that only one run has.
        is_whole: whether it must be the folder, "<experiment>/<run>" or "<run>", so that no other run can be meant.

    Raises:
        NotFound: no run has this name; the message has the nearest.
        Error: more than one has; the message lists them.
    """
    output = output or output_dir()
    folders = {_title(folder): folder for folder in run_folders(output)}
    if os.path.isfile(os.path.join(name, "run.json")):
        return Path(name).resolve()
    matches = [each for each in titles_of(name, folders) if not is_whole or name in (each, each.partition("/")[2])]
    if len(matches) == 1:
        return folders[matches[0]]
    if not folders:
        raise NotFound(f"there are no runs in {display_path(output)}")
    if not matches:
        raise NotFound(f"no run is called {name}{' (a training names it whole)' * is_whole}{nearest(name, folders)}")
    more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
    raise Error(f"{name} may be {', '.join(sorted(matches)[:8])}{more}: give more of the name")


def titles_of(name: str, titles: Collection[str]) -> list[str]:
    """The titles of the runs that are called `name`; when there are none, of those with it in what they are called.

    A name that begins with the whole name of an experiment is no part of another one: it means this run, or none.
    """
    own = [title for title in titles if "/" in name and title.startswith(name[: name.index("/") + 1])]
    return [title for title in own or titles if name in _names(title)] or ([] if own else _with_part(name, titles))


def _with_part(name: str, titles: Collection[str]) -> list[str]:
    """The titles with `name` in what they are called; those with it before the overrides, if there are any."""
    found = [title for title in titles if any(name in each for each in _names(title))]
    return [title for title in found if any(name in each.partition(",")[0] for each in _names(title))] or found


def nearest(name: str, titles: Collection[str]) -> str:
    """The end of a sentence about a name that no run has: the nearest ones."""
    near = _with_part(name, titles)[:3] or difflib.get_close_matches(name, titles, n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def and_without_seeds(titles: Iterable[str]) -> list[str]:
    """The titles of runs, each with what it is without its seeds: the name of all that differ in these alone."""
    return [each for title in titles for each in (title, re.sub(r",exp\.(split\.)?seed=[^,]*", "", title))]


def is_called(title: str, name: str) -> bool:
    """Whether a run is called so: whole, or as `short_names` has it."""
    return name in _names(title)


def is_named(title: str, part: str) -> bool:
    """Whether a run is called so, or has it in its name; a number is one of an experiment or a set: 003, not 0.003."""
    return is_called(title, part) or part in (re.split("[/_-]", title.partition(",")[0]) if part.isdecimal() else title)


def run_names(incomplete: str) -> list[str]:
    """The runs whose names begin so, for the shell's completion."""
    return [title for title in map(_title, run_folders(output_dir())) if title.startswith(incomplete)]


def short_names(titles: Iterable[str]) -> dict[str, str]:
    """The short name of each run: the number of its experiment, and its own name; of a long one, with a hash.

    "001-baseline/larger-lr" is 001/larger-lr, "001-baseline/baseline,exp.train.learning_rate=0.001,exp.seed=7" is
    something like 001/baseline~3f2a1.
    """
    pairs = {title: title.rsplit("/", 1) for title in titles}
    numbers = [experiment.partition("-")[0] for experiment in {experiment for experiment, _ in pairs.values()}]
    found = {}
    for title, (experiment, run) in pairs.items():
        number = experiment.partition("-")[0]
        is_clear = number.isdecimal() and numbers.count(number) == 1
        found[title] = f"{number if is_clear else experiment}/{_short(run)}"
    return found


def _title(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name.partition('@')[0]}"


def _names(title: str) -> list[str]:
    """What a run may be called: its name, whole or short; alone, or after the experiment, its number, or its words."""
    experiment, _, run = title.rpartition("/")
    number, _, words = experiment.partition("-")
    runs = (run, _short(run))
    return [*runs, *(f"{one}/{each}" for one in (experiment, number, words) for each in runs)]


def _short(run: str) -> str:
    if len(run) <= LONGEST:
        return run
    return f"{run.partition(',')[0][: LONGEST - 6]}~{hashlib.sha256(run.encode()).hexdigest()[:5]}"
