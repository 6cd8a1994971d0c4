"""Where the project is: its code, its data and its results."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from expkit.errors import Error, NotFound


def code_root() -> Path:
    """The folder of the project's code, with `experiments/`, `conf/` and `src/`."""
    return Path(__file__).resolve().parents[2]


def project_root() -> Path:
    """The folder with `input/` and `output/`.

    Returns:
        the folder that the environment variable PROJECT_ROOT names, if it is set (a remote volume, for example); else
        `code_root()`.

    Raises:
        Error: PROJECT_ROOT is set and is not a folder.
    """
    if named := os.environ.get("PROJECT_ROOT"):
        root = Path(named).expanduser()
        if not root.is_dir():
            raise Error(f"PROJECT_ROOT is not a folder: {named}: create it, or unset the variable")
        return root.resolve()
    return code_root()


def input_dir() -> Path:
    """The folder of the data, `input/` in `project_root()`. Errors as of `project_root`."""
    return project_root() / "input"


def output_dir() -> Path:
    """The folder of the results, `output/` in `project_root()`. Errors as of `project_root`."""
    return project_root() / "output"


def notes_dir() -> Path:
    """The folder of the notes on runs: with the code, in git."""
    return code_root() / "notes"


def experiment_names() -> list[str]:
    """The folders in `experiments/` that have a `train.py`, in order."""
    return sorted(file.parent.name for file in (code_root() / "experiments").glob("*/train.py") if os.path.isfile(file))


def experiment_dir(name: str) -> Path:
    """The folder of an experiment.

    Raises:
        NotFound: there is none of this name; the message has the nearest, or all.
    """
    folder = code_root() / "experiments" / name
    known = experiment_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise NotFound(f"there is no experiment {name!r} in {shown(code_root() / 'experiments')}; {hint}")
    return folder


def full_name(name: str) -> str:
    """The experiment that `002` or `larger-model` means, 002-larger-model; any other name stays as it is.

    Raises:
        Error: it may be several.
    """
    known = experiment_names()
    found = [each for each in known if name in each.split("-", 1) and re.match(r"\d+-", each)]
    if name in known or not found:
        return name
    if len(found) > 1:
        raise Error(f"{name} may be {', '.join(found)}: give the whole name")
    return found[0]


def shown(path: Path) -> str:
    """`path` as a person would type it here: absolute, or relative to the working directory when that is shorter."""
    try:
        return min(str(path), os.path.relpath(path), key=len)
    except (ValueError, FileNotFoundError):  # another drive, on Windows; the working directory has been deleted
        return str(path)


def read_dotenv() -> None:
    """Set what the project's `.env` says; a variable that is set already wins."""
    file = code_root() / ".env"
    if file.is_file():
        from dotenv import load_dotenv

        load_dotenv(file)
