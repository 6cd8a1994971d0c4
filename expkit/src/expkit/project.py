"""Where the project is: its code, its data and its results; and how many processes train together."""

from __future__ import annotations

import functools
import os
import re
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from expkit.errors import Error, NotFound, instead

ROOT = "EXPKIT_ROOT"  # an environment variable: the `code_root` of a process that works with a copy of the code
MARK = "[tool.expkit]"  # a line in the pyproject.toml of a project


@functools.cache
def code_root() -> Path:
    """The folder of the project's code, with `experiments/` and a `pyproject.toml` that has a line `[tool.expkit]`.

    The variable EXPKIT_ROOT names it where a sweep or `exp reproduce` has made a copy. Else it is looked for above the
    script that runs (a train.py), above the working directory, and above the environment of this Python (.venv).

    Raises:
        Error: there is none.
    """
    if named := os.environ.get(ROOT):
        return Path(named)
    prefix = Path(sys.prefix).resolve()
    mains = [sys.modules.get(name) for name in ("__mp_main__", "__main__")]  # the first, where multiprocessing spawns
    scripts = [Path(file).resolve() for main in mains if (file := getattr(main, "__file__", None))]
    places = [script for script in scripts if not script.is_relative_to(prefix)]
    with suppress(FileNotFoundError):  # the working directory has been deleted
        places.append(Path.cwd())
    for folder in (folder for place in (*places, prefix) for folder in (place, *place.parents)):
        with suppress(OSError, ValueError):  # there is none, or none that can be read
            text = (folder / "pyproject.toml").read_text(encoding="utf-8")
            if re.search(rf"^[ \t]*{re.escape(MARK)}[ \t]*(#.*)?$", text, re.MULTILINE):
                return folder
    raise Error(f"the working directory is in no project, whose pyproject.toml has a line {MARK}")


@functools.cache
def installed_packages() -> dict[str, str]:
    """The versions of the packages that this process finds, by their names in lower case with hyphens.

    As the names of their folders say: to read what is in them takes a tenth of a second.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):  # there is no such folder, or it is a file
            for package in sorted(os.listdir(folder or ".")):
                if match := re.fullmatch(r"(.+)-([^-]+)\.dist-info", package):
                    found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2])
    return dict(sorted(found.items()))


def settings() -> dict[str, Any]:
    """What `[tool.expkit]` in the project's pyproject.toml says."""
    with open(code_root() / "pyproject.toml", "rb") as stream:
        return dict(tomllib.load(stream)["tool"]["expkit"])


@functools.cache
def in_main_worktree(folder: Path) -> Path:
    """The same folder in the main worktree of git; `folder` itself where it is in that one, or the main one has none.

    Read from the files of git, which has no need to be there.
    """
    with suppress(OSError, ValueError, StopIteration):  # the .git of the main worktree is a folder, and cannot be read
        link = next(above / ".git" for above in (folder, *folder.parents) if (above / ".git").exists())
        own = link.parent / link.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
        git = (own / (own / "commondir").read_text(encoding="utf-8").strip()).resolve()
        main = git.parent / folder.relative_to(link.parent)
        if git.name == ".git" and (main / "pyproject.toml").is_file():
            return main
    return folder


def reserve(kind: str, name: str) -> Path | None:
    """Take a name for this worktree, before what it names is made; the other worktrees of git do not see that.

    Args:
        kind: what has the name: "experiments", or an experiment, whose parameter set it is.
        name: such as "004".

    Returns:
        the worktree that has taken it before; None: this one.
    """
    file = output_dir() / ".reserved" / kind / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), open(file, "x", encoding="utf-8") as stream:
        stream.write(str(code_root()))
        return None
    other = Path(file.read_text(encoding="utf-8"))
    is_taken = other != code_root() and in_main_worktree(other) == in_main_worktree(code_root())
    return other if is_taken else None


def project_root() -> Path:
    """The folder with `input/` and `output/`.

    Returns:
        the folder that the environment variable PROJECT_ROOT names, if it is set (a remote volume, for example); else
        `code_root()`, in the main worktree of git.

    Raises:
        Error: PROJECT_ROOT is set and is not a folder.
    """
    if named := os.environ.get("PROJECT_ROOT"):
        root = Path(named).expanduser()
        if not root.is_dir():
            raise Error(f"PROJECT_ROOT is not a folder: {named}: create it, or unset the variable")
        return root.resolve()
    return in_main_worktree(code_root())


def input_dir() -> Path:
    """The folder of the data, `input/` in `project_root()`. Errors as of `project_root`."""
    return project_root() / "input"


def output_dir() -> Path:
    """The folder of the results, `output/` in `project_root()`. Errors as of `project_root`."""
    return project_root() / "output"


def notes_dir() -> Path:
    """The folder of the notes on runs: with the code, in git; without PROJECT_ROOT, in its main worktree."""
    return (code_root() if os.environ.get("PROJECT_ROOT") else project_root()) / "notes"


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
        where = display_path(code_root() / "experiments")
        raise NotFound(f"there is no experiment {name!r} in {where}{instead(name, known)}")
    return folder


def full_name(name: str) -> str:
    """The experiment that `002` or `larger-model` means, 002-larger-model; what may be several stays as it is."""
    known = experiment_names()
    found = [each for each in known if name in each.split("-", 1) and re.match(r"\d+-", each)]
    return found[0] if len(found) == 1 and name not in known else name


def display_path(path: Path) -> str:
    """`path` as a person would type it here: absolute, or relative to the working directory when that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def settle() -> bool:
    """Where there is a project, set what its `.env` says, here or in the main worktree; what is set already wins.

    Returns:
        whether there is one; else, whatever needs it says so.
    """
    try:
        root = code_root()
    except Error:
        return False
    for folder in dict.fromkeys([root, in_main_worktree(root)]):
        if (folder / ".env").is_file():
            from dotenv import load_dotenv

            load_dotenv(folder / ".env")
    return True


def world_size() -> int:
    """How many processes train together, as torchrun has told this one; 1 for a single one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def leads() -> bool:
    """Whether this process is rank 0, which prints and writes; the others only train."""
    return world_size() == 1 or os.environ["RANK"] == "0"
