"""A sweep: many jobs, wherever they run, all with the code as it was when the sweep was started.

Before Hydra launches anything, the code is copied to `output/multirun/.code/` and the command goes on from there: main,
model, parameter sets, presets and expkit itself. So an edit does not reach a job that is still waiting in a queue, and
a job finds its modules in whatever process and folder it starts. Data and results stay in the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser

from expkit import snapshot
from expkit.errors import SHOWN_AS, Error
from expkit.paths import project_root

VARIABLE = "EXPKIT_SWEEP"  # in the environment of a sweep and of its jobs: the fields of a Sweep, as JSON


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep share.

    Attributes:
        id: made anew for each sweep.
        project: the folder that the code was copied from.
        code: the copy.
        git: of the copied code, as from `snapshot.take`.
    """

    id: str
    project: str
    code: str
    git: dict[str, str | bool] | None


def current(code: Path) -> Sweep | None:
    """The sweep that this process belongs to, when the code in the folder `code` is its copy."""
    text = os.environ.get(VARIABLE)
    sweep = Sweep(**json.loads(text)) if text else None
    return sweep if sweep is not None and Path(sweep.code) == code else None


def is_asked_for() -> bool:
    """Whether the command line asks for a sweep that trains something."""
    arguments = get_args_parser().parse_known_intermixed_args(sys.argv[1:])[0]
    looks_only = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    shows_only = any(override.lower() == "show_config=true" for override in arguments.overrides)
    multirun = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    return bool(multirun) and not looks_only and not shows_only


def start(train: Path) -> None:
    """Go on with a copy of the code, in this process; returns at once when this is the copy.

    Args:
        train: the `train.py` that runs.

    Raises:
        Error: output/ cannot be written.
    """
    project = train.parents[2]
    if current(project) is not None:
        SHOWN_AS[str(project)] = json.loads(os.environ[VARIABLE])["project"]
        return
    root = project_root(train)
    folder = root / "output" / "multirun" / ".code"
    record = snapshot.take(project)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        code = _checked_out(project, record, folder) if record else _copied(train, folder)
    except OSError as error:
        raise Error(f"cannot write {folder}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise Error(f"cannot check out the snapshot of the code: {error.stderr.strip()}") from error
    sweep = Sweep(secrets.token_hex(4), str(project), str(code), record)
    copy = code / train.relative_to(project)
    variables = {
        "PROJECT_ROOT": str(root),
        "PYTHONPATH": os.pathsep.join([*import_path(copy), *filter(None, [os.environ.get("PYTHONPATH")])]),
        VARIABLE: json.dumps(asdict(sweep)),
    }
    _replace_process(train, copy, os.environ | variables)


def import_path(train: Path) -> list[str]:
    """Where Python finds the modules of an experiment, and expkit."""
    return [str(train.parent), str(train.parents[2] / "src")]


def _replace_process(train: Path, copy: Path, environment: Mapping[str, str]) -> None:
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    command = [sys.executable, *options, str(copy), *sys.argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    is_own_process = Path(sys.orig_argv[-len(sys.argv)]).resolve() == train
    if is_own_process and os.name != "nt":
        os.execve(sys.executable, command, dict(environment))
    command = [sys.executable, str(copy), *sys.argv[1:]]  # a notebook's %run, or Windows, which has no exec
    sys.exit(subprocess.call(command, env=dict(environment)))


def _checked_out(project: Path, record: Mapping[str, str | bool], folder: Path) -> Path:
    """The project as in its snapshot, in `folder`."""
    commit = str(record["snapshot"])
    inside = snapshot.git(project, "rev-parse", "--show-prefix")
    place = folder / commit[:16]
    if not place.exists():
        with _whole(place) as new:
            snapshot.check_out(project, commit, inside or ".", new)
    return place / inside


def _copied(train: Path, folder: Path) -> Path:
    """The code of one experiment without git, in `folder`: a copy of what it may import and read."""
    project = train.parents[2]
    files = {file.relative_to(project): file.read_bytes() for file in _code_files(train)}
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


def _code_files(train: Path) -> Iterator[Path]:
    project = train.parents[2]
    folders = (train.parent, project / "src", project / "conf")
    for file in [project / "pyproject.toml", *(file for folder in folders for file in sorted(folder.rglob("*")))]:
        if file.is_file() and "__pycache__" not in file.parts and file.stat().st_size <= snapshot.LARGEST_FILE:
            yield file


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """A folder that is at `place` only when it is whole. Its files are read-only: an edit belongs into the project."""
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
