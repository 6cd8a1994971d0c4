"""The exact code of a run, as a git commit on a hidden ref.

The commit holds the working tree, tracked and untracked files, without notes/, secrets and what git ignores. It is made
with an index of its own: the user's index, stash, branch and files stay as they are, and no hook runs. It has no parent
and a fixed date, so that equal trees are one commit in every clone. `git push origin 'refs/expkit/*'` shares snapshots.
A secret that the user's own git tracks stays as it was committed or staged; what has changed in it since is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from expkit.errors import warn
from expkit.paths import shown

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
            reason = f"{shown(folder)} is in no git repository; `git init` makes it one"
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


def refs(folder: Path) -> dict[str, str]:
    """Every snapshot in the repository that `folder` lies in: ref to commit; {} without a repository."""
    try:
        found = git(folder, "for-each-ref", "--format=%(refname) %(objectname)", REFS)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split() for line in found.splitlines())


def forget(folder: Path, ref: str, commit: str) -> None:
    """Take a snapshot away; git frees its space when it collects garbage.

    Raises:
        subprocess.CalledProcessError: it is another one by now, or gone.
    """
    git(folder, "update-ref", "-d", ref, commit)


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
