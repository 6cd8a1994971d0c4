"""Where the files of runs lie: names, the versions of a run, and which of them counts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from expkit import files
from expkit.errors import warn
from expkit.project import display_path

CONFIG, RUN, CV = "config.yaml", "run.json", "cv.json"
RESULT, ORIGIN, OOF, TEST = "result.json", "origin.json", "oof.npz", "test.npz"
HISTORY, LOG, FAILED, SUBMISSION = "history.csv", "train.log", "failed.txt", "submission.csv"
PRUNED, CHECKPOINT = "pruned.txt", "checkpoint"
THEN = "; then "  # between the environments of a fold that an interruption has moved
SUBMISSIONS, BLENDS = "submissions", "blends"
NOT_EXPERIMENTS = ("debug", "multirun", "wandb", SUBMISSIONS)  # folders of output/ that hold no runs of an experiment
FOLD = re.compile(r"fold(0|[1-9][0-9]{0,3})")
VERSION = re.compile(r"(?P<run>[^@]+)(?:@(?P<number>[2-9]|[1-9][0-9]{1,5}))?")


def fold_name(number: int | None) -> str:
    """The folder of a fold; of the training on all rows, when `number` is None."""
    return "full" if number is None else f"fold{number}"


def fold_title(number: int | None) -> str:
    """What a fold is called in messages."""
    return "all data" if number is None else f"fold {number}"


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
    return sorted(grouped(parent).get(run, []), key=version_number)


def current(parent: Path, run: str) -> Path | None:
    """The version of a run that counts; None: there is none yet."""
    return current_among(parent, run, grouped(parent).get(run, []))


def install(folder: Path) -> None:
    """Let the version in `folder` count from now on. A step: before it and after it, the run is whole."""
    match = VERSION.fullmatch(folder.name)
    assert match is not None, folder
    files.write_text(_pointer(folder.parent, match["run"]), f"{version_number(folder)}\n")


def forget_deleted(parent: Path, run: str) -> None:
    """Remove a pointer to a version that somebody has deleted: a new one of its number would count at once."""
    pointed = _pointed(parent, run)
    try:
        if pointed is not None:
            version_folder(parent, run, pointed).lstat()
    except FileNotFoundError:
        _pointer(parent, run).unlink()
        files.to_disk(parent)


def pointer_problem(folder: Path) -> str:
    """Why another version may count than the one that was to, of the run of which one lies in `folder`; "" if not."""
    parent, match = folder.parent, VERSION.fullmatch(folder.name)
    if match is None or not os.path.lexists(_pointer(parent, match["run"])):
        return ""
    pointed = _pointed(parent, match["run"])
    if pointed is None:
        return f"broken {_pointer(parent, match['run']).name}"
    return "" if version_folder(parent, match["run"], pointed).is_dir() else f"version {pointed} is gone, and counted"


def _pointer(parent: Path, run: str) -> Path:
    return parent / f".{run}.version"


def _pointed(parent: Path, run: str) -> int | None:
    """The number in the pointer of a run; None: there is none that fits."""
    try:
        text = files.read_bytes(_pointer(parent, run)).decode().strip()
    except (OSError, ValueError):
        return None
    return int(text[:9]) if text.isascii() and text.isdecimal() else None


def current_among(parent: Path, run: str, folders: list[Path]) -> Path | None:
    """As `current`, with the versions of the run at hand."""
    numbers = {version_number(folder): folder for folder in folders}
    if not numbers:
        return None
    if len(numbers) > 1 or 1 not in numbers:
        pointed = _pointed(parent, run)
        if pointed in numbers:
            return numbers[pointed]
    return numbers[min(numbers)]


def grouped(parent: Path) -> dict[str, list[Path]]:
    """The folders of an experiment, by the name of the run; {}, with a warning, where it cannot be read.

    A link that leads nowhere, or in a circle, is a run that cannot be read.
    """
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(parent) as entries:
            for entry in entries:
                match = VERSION.fullmatch(entry.name)
                if match and not entry.name.startswith(".") and _is_folder(entry):
                    found.setdefault(match["run"], []).append(Path(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        warn(f"{display_path(parent)} cannot be read: {error.strerror}")
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or was one: the disk that a link leads to may be away."""
    try:
        return entry.is_dir() or (entry.is_symlink() and not entry.is_file())
    except OSError:
        return True


def run_folders(output: Path) -> Iterator[Path]:
    """The version that counts of every run under `output`, in order; not those of exp.debug=true."""
    for experiment in files.listed(output):
        if experiment not in NOT_EXPERIMENTS and not experiment.startswith("."):
            parent = output / experiment
            for run, folders in sorted(grouped(parent).items()):
                if (folder := current_among(parent, run, folders)) is not None:
                    yield folder
