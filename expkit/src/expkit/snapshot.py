"""The exact code of a run: a git commit on a hidden ref, and copies of it that are checked out.

The commit holds the working tree, tracked and untracked files, without notes/, secrets and what git ignores. It is made
with an index of its own: the user's index, stash, branch and files stay as they are, and no hook runs. It has no parent
and a fixed date, so that equal trees are one commit in every clone. `git push origin 'refs/expkit/*'` shares snapshots.
A secret that the user's own git tracks stays as it was committed or staged; what has changed in it since is left out.

The code of a sweep is a copy of the project as it is when the sweep is started, in `output/multirun/.code/`. Jobs that
start later, in other processes, import it; an edit does not reach them. Its files are read-only. While a sweep is under
way, `.code/.used/` has a file for it that its command locks. When it is over, the copy goes. When the command is
killed, or interrupted after it has submitted jobs, both stay: they may still wait in a queue. A sweep that begins a
month later removes them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from expkit.errors import Error, warn
from expkit.files import is_locked
from expkit.project import ROOT, code_root, display_path, output_dir

if TYPE_CHECKING:
    from filelock import BaseFileLock

REFS = "refs/expkit"
ATTEMPTS = 3
# Names of files, and of folders, that hold passwords, tokens or private keys, in lower case.
SECRETS = r"\.env(rc)?|\.env\.(?!example$).*|(kaggle|token)\.json|credentials(\.json)?|secrets\.(?!py$).*|\.aws|"
SECRETS += r"[._]netrc|.*\.(pem|key)|id_(rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*"
LARGEST_FILE = 50 * 2**20  # bytes; a larger untracked file is data that git should ignore, and is left out

_QUIET = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false"]
_QUIET += ["-c", "advice.addEmbeddedRepo=false", "-c", "gc.auto=0", "-c", "commit.gpgSign=false"]
_AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "expkit"), ("EMAIL", "expkit@localhost"), ("DATE", "@0 +0000"))
}


class Snapshot(TypedDict):
    """A commit that holds the working tree, the user's own commit below it, and whether the two differ."""

    commit: str
    dirty: bool
    snapshot: str


def git(folder: Path, *arguments: str, index: str | None = None, stdin: bytes = b"") -> str:
    """What a git command prints, run in `folder`, without hooks.

    Raises:
        subprocess.CalledProcessError: git refuses.
        OSError: there is no git.
    """
    environment = os.environ | _AUTHOR | ({"GIT_INDEX_FILE": index} if index else {})
    for name in ("GIT_DIR", "GIT_WORK_TREE") + (() if index else ("GIT_INDEX_FILE",)):
        environment.pop(name, None)  # set while a hook of the user's runs a training
    done = subprocess.run(["git", *_QUIET, *arguments], cwd=folder, env=environment, input=stdin, capture_output=True)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace")
        raise subprocess.CalledProcessError(done.returncode, ["git", *arguments], stderr=message)
    return done.stdout.decode(errors="surrogateescape").removesuffix("\n")  # a file name may be any bytes


def take(folder: Path) -> Snapshot | None:
    """Make a snapshot of the repository that `folder` lies in.

    Returns:
        "commit", the current one ("" before the first); "dirty", whether the working tree differs from it;
        "snapshot", the commit that holds the working tree. None, with a warning, when there is no repository, no git,
        or an error.
    """
    try:
        place = git(folder, "rev-parse", "--path-format=absolute", "--show-cdup", "--git-path", "index")
        up, _, index = place.partition("\n")  # "../", which has no line break as a path may have
        root = Path(os.path.realpath(folder / up))
        with _own_index(index) as own:
            _add_all(root, folder.resolve(), own)
            return _commit(root, git(root, "write-tree", index=own))
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["git fails"])[0]
        if "not a git repository" in reason:
            reason = f"{display_path(folder)} is in no git repository; `git init` makes it one"
    except FileNotFoundError:
        reason = "git is not installed"
    except OSError as error:
        reason = f"git cannot be run: {error.strerror}"
    warn(f"no snapshot of the code, so `exp reproduce` cannot train this run again: {reason}")
    return None


def amended(folder: Path, snapshot: Snapshot, loaded: Mapping[str, bytes]) -> Snapshot:
    """A snapshot with the files as a process has loaded them: one may have been edited between the two.

    Args:
        folder: the project.
        snapshot: as from `take`.
        loaded: path from `folder` to content.
    """
    prefix = git(folder, "rev-parse", "--show-prefix")
    listed = git(folder, "ls-tree", "-r", "-z", "--full-tree", snapshot["snapshot"]).split("\0")
    present = {name: about.split()[2] for about, _, name in (line.partition("\t") for line in listed if line)}
    other: list[str] = []
    for path, content in loaded.items():
        blob = git(folder, "hash-object", "-w", "--path", f"{prefix}{path}", "--stdin", stdin=content)
        if present.get(f"{prefix}{path}") != blob:
            other.append(f"100644 {blob}\t{prefix}{path}\0")
    if not other:  # by now, `exp clean snapshots` may have taken its ref away, as no run had it
        tree = git(folder, "rev-parse", f"{snapshot['snapshot']}^{{tree}}")
        git(folder, "update-ref", f"{REFS}/{tree}", snapshot["snapshot"])
        return snapshot
    with tempfile.TemporaryDirectory() as scratch:
        own = os.path.join(scratch, "index")
        git(folder, "read-tree", snapshot["snapshot"], index=own)
        git(folder, "update-index", "-z", "--index-info", index=own, stdin="".join(other).encode())
        return _commit(folder, git(folder, "write-tree", index=own))


@contextmanager
def _own_index(index: str) -> Iterator[str]:
    """A copy of the user's index, to be changed."""
    with tempfile.TemporaryDirectory() as scratch:
        own = os.path.join(scratch, "index")
        if os.path.exists(index):
            shutil.copy2(index, own)  # with its time, by which git knows what may have changed since
        yield own


def _add_all(root: Path, folder: Path, index: str) -> None:
    """Bring an index up to the working tree: what is hidden from git's eye too, and repositories inside this one."""
    listing = git(root, "ls-files", "-cdmosvz", "--exclude-standard", index=index).split("\0")
    lines = [line for line in listing if not line.startswith("H 100")]  # these are plain files as in the index
    new = [line[2:] for line in lines if line.startswith("?")]
    known = [(line[:1], line.partition("\t")[2]) for line in lines if line and not line.startswith("?")]
    flagged = "".join(f"{name}\0" for tag, name in known if tag in "Shsmrck" and os.path.lexists(root / name))
    for flag in ("--no-assume-unchanged", "--no-skip-worktree") if flagged else ():
        git(root, "update-index", flag, "-z", "--stdin", index=index, stdin=flagged.encode(errors="surrogateescape"))
    own = os.path.relpath(folder, root)
    never = [os.path.normpath(os.path.join(own, name)) for name in ("output", "notes")]
    changed = [*new, *(name for tag, name in known if tag != "H")]
    secret = list(filter(is_secret, changed))
    inner = [name[:-1] for name in new if name.endswith("/")]  # other repositories
    if not all(_is_in(name, never) for name in set(changed).difference(secret)):
        left_out = [*never, *secret, *inner, *_too_large(root, new)]
        paths = "".join([".\0", *(f":(exclude,top,literal){name}\0" for name in left_out)])
        add = ["add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul"]
        for attempt in range(ATTEMPTS):
            try:
                git(root, *add, index=index, stdin=paths.encode(errors="surrogateescape"))
                break
            except subprocess.CalledProcessError:  # a file was there when git listed it, and then no more
                if attempt == ATTEMPTS - 1:
                    raise
    links = [line.partition("\t")[2] for line in lines if line[2:].startswith("160000")]
    for link in dict.fromkeys([*links, *inner]):
        _add_inner(root, link, index)


def is_secret(path: str) -> bool:
    """Whether a file holds passwords, tokens or private keys, by its name or that of a folder above it."""
    return any(re.fullmatch(SECRETS, name) for name in path.lower().split("/"))


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _add_inner(root: Path, name: str, index: str) -> None:
    """Put the files of a submodule, or of another repository inside this one, in the place of the link to it."""
    inner = root / name
    try:
        files = git(inner, "ls-files", "-co", "--exclude-standard", "-z").split("\0")
        top = git(inner, "rev-parse", "--path-format=absolute", "--show-toplevel")
    except (OSError, subprocess.CalledProcessError):
        return
    if os.path.realpath(top) != os.path.realpath(inner):
        return  # not checked out: there is nothing to keep
    lines = [f"0 {'0' * 40}\t{name}\0"]
    for file in filter(None, files):
        path = inner / file
        if path.is_file() and _size(path) <= LARGEST_FILE and not is_secret(f"{name}/{file}"):
            mode = "100755" if os.access(path, os.X_OK) else "100644"
            blob = git(root, "hash-object", "-w", "--no-filters", "--", str(path))
            lines.append(f"{mode} {blob}\t{name}/{file}\0")
    git(root, "update-index", "-z", "--index-info", index=index, stdin="".join(lines).encode(errors="surrogateescape"))


def _commit(root: Path, tree: str) -> Snapshot:
    """A tree as a commit that is never collected."""
    ref = f"{REFS}/{tree}"
    names = "".join(f"{name}\n" for name in (f"{ref}^{{commit}}", "HEAD^{commit}", "HEAD^{tree}"))
    found = git(root, "cat-file", "--batch-check=%(objectname)", stdin=names.encode()).split("\n")
    snapshot, commit, committed = ("" if " " in line else line for line in found)  # "<name> missing"
    if not snapshot:
        snapshot = git(root, "commit-tree", tree, "-m", "expkit: the code of a run")
        git(root, "update-ref", ref, snapshot)  # waits for another process that does the same
    return {"commit": commit, "dirty": committed != tree, "snapshot": snapshot}


def check_out(folder: Path, commit: str, path: str, destination: Path) -> None:
    """Write the files of a snapshot into an empty folder; the repository's own working tree and index stay as they are.

    Args:
        folder: lies in the repository.
        commit: the snapshot.
        path: a folder of the repository's, from its root on: what to write; "." for all.
        destination: where that root is to be.

    Raises:
        subprocess.CalledProcessError: git refuses.
    """
    directory = git(folder, "rev-parse", "--path-format=absolute", "--git-dir")
    with tempfile.TemporaryDirectory() as scratch:
        there = [f"--git-dir={directory}", f"--work-tree={destination}"]
        git(destination, *there, "checkout", "--quiet", commit, "--", path, index=os.path.join(scratch, "index"))


def _too_large(root: Path, names: Iterable[str]) -> list[str]:
    """The untracked files that no one wants in a git repository."""
    large = [name for name in names if _size(root / name) > LARGEST_FILE]
    for name in large[:3]:
        warn(f"{name} is larger than {LARGEST_FILE // 2**20} MiB and is not in the snapshot: put data into input/")
    if len(large) > 3:
        warn(f"{len(large) - 3} more files are too large for the snapshot")
    return large


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0


_OWN_ROOT = os.environ.get(ROOT)  # of this process
LONGEST_WAIT = 30 * 86400  # seconds that a job is expected to wait in a queue and to run, at most


@dataclass(frozen=True)
class CodeCopy:
    """Where the copy lies, and the snapshot that it was made from; None: there is no git."""

    folder: Path
    git: Snapshot | None
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
    taken = take(project)
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
    inside = git(project, "rev-parse", "--show-prefix")
    place = folder / commit[:16]
    if not place.exists():
        with _whole(place) as new:
            check_out(project, commit, inside or ".", new)
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
        is_left_out = "__pycache__" in file.parts or is_secret(file.relative_to(project).as_posix())
        if not is_left_out and file.is_file() and file.stat().st_size <= LARGEST_FILE:
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
