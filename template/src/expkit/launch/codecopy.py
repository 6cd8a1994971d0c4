"""The code of a sweep: a copy of the project as it is when the sweep is started, in `output/multirun/.code/`.

Jobs that start later, in other processes, import it; an edit does not reach them. Its files are read-only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from expkit import snapshot
from expkit.errors import Error
from expkit.paths import code_root, output_dir


@dataclass(frozen=True)
class CodeCopy:
    """Where the copy lies, and the snapshot that it was made from; None: there is no git."""

    folder: Path
    git: snapshot.Snapshot | None


def expose(copy: Path) -> None:
    """Let processes that are started from now on import the copy: loky hands on `sys.path`, others the variable."""
    source = str(copy / "src")
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])


def hide(copy: Path) -> None:
    """Undo `expose`: what this process imports is the project, whose code is loaded."""
    source = str(copy / "src")
    sys.path.remove(source)
    rest = os.environ["PYTHONPATH"].removeprefix(source).removeprefix(os.pathsep)
    os.environ["PYTHONPATH"] = rest
    if not rest:
        del os.environ["PYTHONPATH"]


def copy_code(experiment: str) -> CodeCopy:
    """Copy the project's code; an equal copy is made once.

    Raises:
        Error: output/ cannot be written.
    """
    project, place = code_root(), output_dir() / "multirun" / ".code"
    taken = snapshot.take(project)
    try:
        place.mkdir(parents=True, exist_ok=True)
        place = place.resolve()
        folder = _checked_out(project, taken["snapshot"], place) if taken else _copied(project, experiment, place)
    except OSError as error:
        raise Error(f"cannot write {place}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise Error(f"cannot check out the snapshot of the code: {error.stderr.strip()}") from error
    return CodeCopy(folder, taken)


def _checked_out(project: Path, commit: str, folder: Path) -> Path:
    """The project as in its snapshot, in `folder`."""
    inside = snapshot.git(project, "rev-parse", "--show-prefix")
    place = folder / commit[:16]
    if not place.exists():
        with _whole(place) as new:
            snapshot.check_out(project, commit, inside or ".", new)
    return place / inside


def _copied(project: Path, experiment: str, folder: Path) -> Path:
    """The code of one experiment without git, in `folder`: what it may import and read."""
    files = {file.relative_to(project): file.read_bytes() for file in _code_files(project, experiment)}
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name.as_posix()}\0{len(content)}\0".encode() + content)
    place = folder / digest.hexdigest()[:16]
    if not place.exists():
        with _whole(place) as new:
            for name, content in files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(content)
    return place


def _code_files(project: Path, experiment: str) -> Iterator[Path]:
    folders = (project / "experiments" / experiment, project / "src", project / "conf")
    for file in [project / "pyproject.toml", *(file for folder in folders for file in sorted(folder.rglob("*")))]:
        if file.is_file() and "__pycache__" not in file.parts and file.stat().st_size <= snapshot.LARGEST_FILE:
            yield file


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """A folder that is at `place` only when it is whole."""
    new = place.with_name(f".{place.name}.{os.getpid()}")
    new.mkdir()
    try:
        yield new
        for file in new.rglob("*"):
            if file.is_file() and not file.is_symlink():
                file.chmod(file.stat().st_mode & 0o555)
        if not place.exists():
            new.rename(place)
    except OSError:
        if not place.exists():  # else another process has made the same
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
