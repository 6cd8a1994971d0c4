"""The code of a sweep: a copy of the project as it is when the sweep is started, in `output/multirun/.code/`.

Jobs that start later, in other processes, import it; an edit does not reach them. Its files are read-only. While a
sweep is under way, `.code/.used/` has a file for it that its command locks. When it is over, the copy goes. When the
command is killed, or interrupted after it has submitted jobs, both stay: they may still wait in a queue. A sweep that
begins a month later removes them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expkit import snapshot
from expkit.errors import Error
from expkit.files import is_locked
from expkit.paths import ROOT, code_root, output_dir

if TYPE_CHECKING:
    from filelock import BaseFileLock


_OWN_ROOT = os.environ.get(ROOT)  # of this process
LONGEST_WAIT = 30 * 86400  # seconds that a job is expected to wait in a queue and to run, at most


@dataclass(frozen=True)
class CodeCopy:
    """Where the copy lies, and the snapshot that it was made from; None: there is no git."""

    folder: Path
    git: snapshot.Snapshot | None
    use: BaseFileLock

    def leave(self, jobs_may_wait: bool) -> None:
        """The sweep is over; so are its jobs, or some may still wait in a queue."""
        place = Path(self.use.lock_file).parents[1]
        with changing(place):
            if not jobs_may_wait:
                os.unlink(self.use.lock_file)
            self.use.release()
            with suppress(OSError):  # the next sweep tries again
                _remove_unused(place)


def expose(copy: Path) -> None:
    """Let processes that are started from now on import the copy: loky hands on `sys.path`, others the variable."""
    source = str(copy / "src")
    os.environ[ROOT] = str(copy)
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])


def hide(copy: Path) -> None:
    """Undo `expose`: what this process imports is the project, whose code is loaded."""
    source = str(copy / "src")
    if _OWN_ROOT is None:
        del os.environ[ROOT]
    else:
        os.environ[ROOT] = _OWN_ROOT
    sys.path.remove(source)
    rest = os.environ["PYTHONPATH"].removeprefix(source).removeprefix(os.pathsep)
    os.environ["PYTHONPATH"] = rest
    if not rest:
        del os.environ["PYTHONPATH"]


def copy_code(experiment: str) -> CodeCopy:
    """Copy the project's code for a sweep, until `leave`; an equal copy is made once.

    Raises:
        Error: output/ cannot be written.
    """
    from filelock import FileLock

    project, place = code_root(), copies(output_dir())
    taken = snapshot.take(project)
    try:
        (place / ".used").mkdir(parents=True, exist_ok=True)
        place = place.resolve()
        with changing(place):
            _remove_unused(place)
            folder = _checked_out(project, taken["snapshot"], place) if taken else _copied(project, experiment, place)
            name = folder.relative_to(place).parts[0]
            use = FileLock(place / ".used" / f"{name}.{int(time.time())}.{secrets.token_hex(4)}")
            use.acquire()
    except OSError as error:
        raise Error(f"cannot write {place}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise Error(f"cannot check out the snapshot of the code: {error.stderr.strip()}") from error
    return CodeCopy(folder, taken, use)


def copies(output: Path) -> Path:
    """The folder of all copies."""
    return output / "multirun" / ".code"


def changing(place: Path) -> BaseFileLock:
    """The lock under which a copy is made, and its use begins; and under which one is removed."""
    from filelock import FileLock

    return FileLock(place / ".lock")


def is_used(copy: Path) -> bool:
    """Whether a sweep is under way with a copy, or its jobs may still wait or run."""
    for file in (copy.parent / ".used").glob(f"{copy.name}.*"):
        started = file.name.split(".")[1]
        if not started.isdecimal() or time.time() - int(started) < LONGEST_WAIT or is_locked(file):
            return True
    return False


def _remove_unused(place: Path) -> None:
    """Remove the copies that no sweep uses, and what killed commands have left half done. With `changing`."""
    for copy in place.iterdir():
        if copy.name in (".used", ".lock") or copy.is_symlink() or is_used(copy):
            continue
        half = copy if copy.name.startswith(".") else copy.rename(place / f".{copy.name}.{os.getpid()}")
        shutil.rmtree(half, ignore_errors=True)
        for file in (place / ".used").glob(f"{copy.name}.*"):
            file.unlink(missing_ok=True)


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
        is_left_out = "__pycache__" in file.parts or snapshot.is_secret(file.relative_to(project).as_posix())
        if not is_left_out and file.is_file() and file.stat().st_size <= snapshot.LARGEST_FILE:
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
