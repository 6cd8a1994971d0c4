"""Which run a name means, and what a run is called where there is little room."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from expkit.errors import Error, NotFound
from expkit.project import display_path, output_dir
from expkit.store.records import run_folders

LONGEST = 24  # characters of a run that is shown whole


def find_run(name: str, output: Path | None = None) -> Path:
    """The folder of the run that `name` means.

    Args:
        name: its folder; "<experiment>/<run>", whole or as `short_names` has it; or any part that only one run has.

    Raises:
        NotFound: no run has this name; the message has the nearest.
        Error: more than one has; the message lists them.
    """
    output = output or output_dir()
    folders = {_title(folder): folder for folder in run_folders(output)}
    if os.path.isfile(os.path.join(name, "run.json")):
        return Path(name).resolve()
    if name in folders:
        return folders[name]
    matches = titles_of(name, folders)
    if len(matches) == 1:
        return folders[matches[0]]
    if not folders:
        raise NotFound(f"there are no runs in {display_path(output)}")
    if not matches:
        near = difflib.get_close_matches(name, folders, n=3, cutoff=0.4)
        raise NotFound(f"no run is called {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
    raise Error(f"{name} may be {', '.join(sorted(matches)[:8])}{more}: give more of the name")


def titles_of(name: str, titles: Iterable[str]) -> list[str]:
    """The titles of the runs that are called `name`; when there are none, of those with it in what they are called."""
    names = {title: _names(title) for title in titles}
    whole = [title for title in names if name in names[title]]
    return whole or [title for title in names if any(name in each for each in names[title])]


def is_called(title: str, name: str) -> bool:
    """Whether a run is called so: whole, or as `short_names` has it."""
    return name == title or name in _names(title)


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
