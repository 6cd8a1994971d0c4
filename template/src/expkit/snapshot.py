"""The exact code of a run, as a git commit on a hidden ref.

The commit holds the working tree, tracked and untracked files, without what git ignores. It is made with an index of
its own: the user's index, stash, branch and files stay as they are, and no hook runs. It has no parent and a fixed
date, so that equal trees are one commit, in every clone. `git push origin 'refs/expkit/*'` shares the snapshots.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from expkit.errors import warn
from expkit.paths import shown

REFS = "refs/expkit"
LARGEST_FILE = 50 * 2**20  # bytes; a larger untracked file is data that git should ignore, and is left out

_QUIET = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false"]
_QUIET += ["-c", "advice.addEmbeddedRepo=false", "-c", "gc.auto=0", "-c", "commit.gpgSign=false"]
_AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "expkit"), ("EMAIL", "expkit@localhost"), ("DATE", "@0 +0000"))
}


def git(folder: Path, *arguments: str, index: str | None = None) -> str:
    """What a git command prints, run in `folder`, without hooks.

    Raises:
        subprocess.CalledProcessError: git refuses.
        OSError: there is no git.
    """
    environment = os.environ | _AUTHOR | ({"GIT_INDEX_FILE": index} if index else {})
    for name in ("GIT_DIR", "GIT_WORK_TREE") + (() if index else ("GIT_INDEX_FILE",)):
        environment.pop(name, None)  # set while a hook of the user's runs a training
    done = subprocess.run(
        ["git", *_QUIET, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=True,
        encoding="utf-8",
        errors="surrogateescape",  # a file name may be any bytes
    )
    return done.stdout.rstrip("\n")


def take(folder: Path) -> dict[str, str | bool] | None:
    """Make a snapshot of the repository that `folder` lies in.

    Returns:
        "commit", the current one ("" before the first); "dirty", whether the working tree differs from it;
        "snapshot", the commit that holds the working tree. None, with a warning, when there is no repository, no git,
        or an error.
    """
    try:
        return _take(folder)
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["git fails"])[0]
        if "not a git repository" in reason:
            reason = f"{shown(folder)} is in no git repository; `git init` makes it one"
    warn(f"no snapshot of the code, so that this run cannot be made again: {reason}")
    return None


def _take(folder: Path) -> dict[str, str | bool]:
    top, index = git(
        folder, "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "index"
    ).splitlines()
    root = Path(top)
    with tempfile.TemporaryDirectory() as scratch:
        own_index = os.path.join(scratch, "index")
        if os.path.exists(index):
            shutil.copy2(index, own_index)  # with its time, by which git knows what may have changed since
        add = ["add", "--all", "--", ".", *(f":(exclude,top,literal){name}" for name in _too_large(root))]
        git(root, *add, index=own_index)
        tree = git(root, "write-tree", index=own_index)
    ref = f"{REFS}/{tree}"
    snapshot = _resolve(root, ref)
    if snapshot is None:
        snapshot = git(root, "commit-tree", tree, "-m", "expkit: the code of a run")
        git(root, "update-ref", ref, snapshot)  # waits for another process that does the same
    commit = _resolve(root, "HEAD")
    dirty = commit is None or git(root, "rev-parse", "HEAD^{tree}") != tree
    return {"commit": commit or "", "dirty": dirty, "snapshot": snapshot}


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


def _resolve(root: Path, name: str) -> str | None:
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except subprocess.CalledProcessError:
        return None


def _too_large(root: Path) -> list[str]:
    """Untracked files that no one wants in a git repository."""
    names = git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    large = [name for name in names if name and _size(root / name) > LARGEST_FILE]
    for name in large:
        warn(f"{name} is larger than {LARGEST_FILE // 2**20} MiB and not in the snapshot: data belongs into input/")
    return large


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0


def code_hash(experiment_dir: Path) -> str:
    """A hash of the Python files of an experiment: folds with different ones were trained by different code."""
    digest = hashlib.sha256()
    for file in sorted(experiment_dir.rglob("*.py")):
        digest.update(file.relative_to(experiment_dir).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
