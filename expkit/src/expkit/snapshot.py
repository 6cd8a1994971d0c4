"""The exact code of a run: a git commit on a hidden ref, and copies of it that are checked out.

The commit holds the working tree, tracked and untracked files, without input/, output/, notes/, .schema/, secrets and
what git ignores. It is made with an index of its own: the user's index, stash, branch and files stay as they are, and
no hook runs. It has no parent and a fixed date, so that equal trees are one commit in every clone. `git push origin
'refs/expkit/*'` shares snapshots. What of input/ and the like, or which secret, the user's own git tracks stays as it
was committed or staged; what has changed in it since is left out.

The code of a sweep is a copy of the project as it is when the sweep is started, a folder in `output/multirun/.code/`.
Jobs that start later, in other processes, import it; an edit does not reach them. When the sweep is over, the copy
goes. When the command is killed, or interrupted after it has submitted jobs, it stays: they may still wait in a queue.
A sweep that begins three months later removes it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from expkit.code import SCHEMAS
from expkit.errors import Error, warn
from expkit.files import make_folder
from expkit.project import ROOT, code_root, output_dir

if TYPE_CHECKING:
    from expkit.store.records import Git

REFS = "refs/expkit"
# Names of files, and of folders, that hold passwords, tokens or private keys, in lower case.
SECRETS = r"\.env(rc)?|\.env\.(?!example$).*|(kaggle|token)\.json|access_token(\..*)?|credentials(\.json)?|"
SECRETS += r"secrets\.(?!py$).*|\.(aws|kaggle)|[._]netrc|.*\.(pem|key)|id_(rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*"
LARGEST_FILE = 50 * 2**20  # bytes; a larger untracked file is data that git should ignore, and is left out

_QUIET = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false"]
_QUIET += ["-c", "gc.auto=0", "-c", "commit.gpgSign=false"]
_AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "expkit"), ("EMAIL", "expkit@localhost"), ("DATE", "@0 +0000"))
}


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


def take(folder: Path) -> Git | None:
    """Make a snapshot of the repository that `folder` lies in.

    Returns:
        "commit", the current one ("" before the first); "dirty", whether the working tree differs from it;
        "snapshot", the commit that holds the working tree. None, with a warning, when there is no repository, no git,
        or an error.
    """
    try:
        paths = git(folder, "rev-parse", "--path-format=absolute", "--show-cdup", "--git-path", "index")
        up, _, index = paths.partition("\n")  # "../", which has no line break as a path may have
        root = Path(os.path.realpath(folder / up))
        with tempfile.TemporaryDirectory() as scratch:
            own = os.path.join(scratch, "index")
            if os.path.exists(index):
                shutil.copy2(index, own)  # with its time, by which git knows what may have changed since
            _update(own, root, folder.resolve())
            return _commit(root, git(root, "write-tree", index=own))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).partition("\n")[0]
    warn(f"no snapshot of the code, so `exp reproduce` cannot train this run again: {reason}")
    return None


def amended(project: Path, snapshot: Git, loaded: Mapping[str, bytes]) -> Git:
    """A snapshot with the files as a process has loaded them: one may have been edited between the two.

    Args:
        project: the folder of the project.
        snapshot: as from `take`.
        loaded: path from the folder to content.
    """
    found = _with_files(project, snapshot["snapshot"], snapshot["commit"], tuple(loaded.items()))
    return snapshot if found["snapshot"] == snapshot["snapshot"] else found


@functools.lru_cache(maxsize=4)  # the folds of a run, and the jobs of a sweep, load the same
def _with_files(project: Path, snapshot: str, head: str, loaded: tuple[tuple[str, bytes], ...]) -> Git:
    prefix = git(project, "rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory() as scratch:
        index, tree = os.path.join(scratch, "index"), Path(scratch, "tree")
        for name, content in loaded:
            file = tree / prefix / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        git(project, "read-tree", snapshot, index=index)
        flags = ["-c", "core.fileMode=false", f"--work-tree={tree}", "update-index", "--add", "-z", "--stdin"]
        names = "".join(f"{prefix}{name}\0" for name, _ in loaded).encode(errors="surrogateescape")
        git(project, *flags, index=index, stdin=names)
        return _commit(project, git(project, "write-tree", index=index))


def _update(index: str, root: Path, project: Path) -> None:
    """Bring an index up to the working tree, with the files of repositories inside this one."""
    changed = {*git(root, "ls-files", "-dmoz", "--exclude-standard", index=index).split("\0")} - {""}
    staged = git(root, "ls-files", "-sz", index=index).split("\0")
    inner = {name for name in changed if name.endswith("/")}
    inner |= {line.partition("\t")[2] for line in staged if line.startswith("160000 ")}
    inside = os.path.relpath(project, root)
    never = tuple(os.path.normpath(os.path.join(inside, name)) + "/" for name in ("input", "output", "notes"))
    changed |= {file for each in inner for file in _files(root, each.removesuffix("/"))}
    own = [name for name in sorted(changed - inner) if f"/{SCHEMAS}/" not in name]  # they follow train.py by themselves
    names = [name for name in own if not name.startswith(never) and not is_secret(name)]
    large = [name for name in names if os.path.lexists(root / name) and os.lstat(root / name).st_size > LARGEST_FILE]
    for name in large[:3]:
        warn(f"{name} is larger than {LARGEST_FILE // 2**20} MiB and is not in the snapshot: put data into input/")
    stdin = "".join(f"{name}\0" for name in names if name not in large).encode(errors="surrogateescape")
    git(root, "update-index", "--add", "--remove", "--replace", "-z", "--stdin", index=index, stdin=stdin)


def _files(root: Path, name: str) -> list[str]:
    """The files of a submodule, or of another repository inside this one, which take the place of the link to it."""
    inner = root / name
    is_there = (inner / ".git").exists()  # else a submodule is not checked out
    names = git(inner, "ls-files", "-co", "--exclude-standard", "-z").split("\0") if is_there else []
    return [f"{name}/{file}" for file in names if file and not os.path.isdir(inner / file)]


def is_secret(path: str) -> bool:
    """Whether a file holds passwords, tokens or private keys, by its name or that of a folder above it."""
    return any(re.fullmatch(SECRETS, name) for name in path.lower().split("/"))


def _commit(root: Path, tree: str) -> Git:
    """A tree as a commit that is never collected."""
    ref = f"{REFS}/{tree}"
    names = "".join(f"{name}\n" for name in (f"{ref}^{{commit}}", "HEAD^{commit}", "HEAD^{tree}"))
    found = git(root, "cat-file", "--batch-check=%(objectname)", stdin=names.encode()).split("\n")
    snapshot, commit, committed = ("" if " " in line else line for line in found)  # "<name> missing"
    if not snapshot:
        snapshot = git(root, "commit-tree", tree, "-m", "expkit: the code of a run")
        git(root, "update-ref", ref, snapshot)  # waits for another process that does the same
    return {"commit": commit, "dirty": committed != tree, "snapshot": snapshot}


def check_out(project: Path, commit: str, destination: Path) -> Path:
    """Write a project as it is in a snapshot; the repository's own working tree and index stay as they are.

    Args:
        project: the folder of the project, in its repository.
        commit: the snapshot.
        destination: an empty folder, for the top of the repository; of the rest of it, nothing is written.

    Returns:
        the folder of the project in `destination`.

    Raises:
        Error: there is no such snapshot.
    """
    try:
        inside, directory = (git(project, "rev-parse", f"--{what}") for what in ("show-prefix", "absolute-git-dir"))
        with tempfile.TemporaryDirectory() as scratch:
            there = [f"--git-dir={directory}", f"--work-tree={destination}", "checkout", "--quiet", commit, "--"]
            git(destination, *there, inside or ".", index=os.path.join(scratch, "index"))
    except subprocess.CalledProcessError as error:
        raise Error(f"cannot check out the snapshot {commit}: {error.stderr.strip()}") from error
    return destination / inside


# The copy of the code for a sweep

LONGEST_WAIT = 90 * 86400  # seconds from the start of a sweep to the end of its last job, at most


def expose(copy: Path) -> None:
    """Let processes that are started from now on import a copy: loky hands on `sys.path`, others the variables.

    Args:
        copy: the project in it.
    """
    source = str(copy / "src")
    sys.path.insert(0, source)
    paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ |= {ROOT: str(copy), "PYTHONPATH": paths}


def _copies() -> Path:
    return (output_dir() / "multirun" / ".code").resolve()


def copy_code() -> tuple[Path, Git | None]:
    """Copy the project's code for a sweep. The files are read-only.

    Returns:
        the folder of the project in the copy, and the snapshot that it was made from. Without git, there is no copy:
        the project itself, and None.

    Raises:
        Error: something else is in the place of a folder of output/.
    """
    if (taken := take(code_root())) is None:
        return code_root(), None
    make_folder(_copies())
    for old in _copies().iterdir():
        if time.time() - old.lstat().st_mtime > LONGEST_WAIT and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
    folder = check_out(code_root(), taken["snapshot"], Path(tempfile.mkdtemp(dir=_copies())))
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(file.stat().st_mode & 0o555)
    return folder, taken


def remove_copy(folder: Path) -> None:
    """A sweep is over, and so are its jobs: remove its copy of the code, if it has one."""
    if folder.is_relative_to(_copies()):
        shutil.rmtree(_copies() / folder.relative_to(_copies()).parts[0], ignore_errors=True)
