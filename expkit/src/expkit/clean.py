"""What may go from output/: `exp clean`, and one run: `exp remove`. Nothing goes that a process works with.

Each kind of `exp clean` is a rule that says whether a version of a run may go: none has work in it that counts. Of one
whose state may go, that alone does. The rule is asked when the versions are listed, and again before one is removed,
under the locks that a training takes. A run that is a symbolic link is left alone; `exp remove` removes the link.

The version that counts goes last. Each gets another name first: an interruption leaves nothing half there.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from expkit import files, store
from expkit.config import flat
from expkit.errors import Error, require
from expkit.project import display_path, output_dir
from expkit.show import children_metadata
from expkit.store import NOT_EXPERIMENTS, STATE, Run, Versions

DEBUG = "debug"
REMOVED = ".removed-"  # begins the name of what is being removed


def has_failed(versions: Versions, version: Path) -> bool:
    """Whether nothing is done in a version. The one that counts goes last: no other may count in its place."""
    is_last = version != versions.current() or versions.all() == [version]
    return is_last and not versions.is_superseded(version) and store.holds_nothing(version)


def _going(kind: str, version: Path) -> list[Path]:
    """The folders that go of a version: itself, or what its trainings keep for exp.start_from of other runs."""
    states = (each for each in version.glob(f"*/{STATE}") if not each.parent.is_symlink())
    return [version] if kind != STATE else [*states]


# What may go, in the order in which it goes: why, and the rule.
KINDS: dict[str, tuple[str, Callable[[Versions, Path], bool]]] = {
    "superseded": ("a later version counts", Versions.is_superseded),
    "failed": ("nothing is done", has_failed),
    DEBUG: ("a debug run", lambda versions, version: version.is_dir()),
    STATE: ("no run begins from it", lambda versions, version: bool(_going(STATE, version))),
}


def remove_leftover(kind: str, version: Path) -> bool:
    """Remove what `leftovers` has found; False: it has come into use since.

    Raises:
        OSError: it cannot be removed.
    """
    versions = Versions.of(version)
    with versions.locked(), ExitStack() as stack:
        if versions.take(version, stack) or not KINDS[kind][1](versions, version):
            return False
        _remove(versions, _going(kind, version))
    return True


def _remove(versions: Versions, folders: Iterable[Path]) -> None:
    """Remove versions of a run, in this order. With `locked`, and the locks of their parts."""
    for folder in folders:
        folder.rename(versions.parent / f"{REMOVED}{secrets.token_hex(4)}")
    for removed in versions.parent.glob(f"{REMOVED}*"):  # also what an interruption has left
        files.remove(removed)


def leftovers(kind: str, output: Path) -> Iterator[tuple[Path, int]]:
    """The versions of one of the KINDS, the newest of each run first, and how many bytes go. Changes nothing."""
    read = map(store.read_run_info, store.run_folders(output) if kind == STATE else [])
    begun = {str(flat(info["config"]).get("exp.start_from")) for info in read if info}
    for parent in sorted((output / DEBUG if kind == DEBUG else output).glob("[!.]*")):
        is_other = parent.name in NOT_EXPERIMENTS and kind != DEBUG
        for versions, found in [] if is_other else store.runs_of(parent):
            if any(version.is_symlink() for version in found) or f"{parent.name}/{versions.run}" in begun:
                continue
            for version in reversed(found):
                with suppress(OSError):  # nobody can tell whether it is in use, or it has gone meanwhile
                    if KINDS[kind][1](versions, version) and not versions.held(version):
                        yield version, sum(map(_size, _going(kind, version)))


def _size(folder: Path) -> int:
    """The bytes of all files in a folder; of a symbolic link, nothing of what it leads to."""
    if folder.is_symlink():
        return 0
    return sum(os.lstat(f"{path}/{name}").st_size for path, _, names in os.walk(folder) for name in names)


# One run


def removal(run: Run) -> dict[str, Any]:
    """What `remove_run` would remove, and what stands in its way, as JSON has it. Changes nothing.

    Returns:
        "versions": each a dict of "folder", "folds" (the names of those that are done) and "bytes"; "children": the
        runs that were made from it as it is, which must go first.

    Raises:
        Error: it is no run of the board.
    """
    versions, output = Versions.of(run.folder), output_dir()
    found = {version: store.read_run(version) for version in versions.all()}
    is_listed = os.path.realpath(versions.parent) == os.path.realpath(output / run.experiment) and run.folder in found
    require(is_listed, f"{display_path(run.folder)} is no run of the board; exp clean debug removes debug runs")
    done = {version: [part.folder.name for part in each.parts if part.result] for version, each in found.items()}
    children = children_metadata(run, map(store.read_run, store.run_folders(output)))
    return {
        "run": run.title,
        "versions": [{"folder": str(one), "folds": folds, "bytes": _size(one)} for one, folds in done.items()],
        "children": [child["run"] for child in children if child["state"] != "replaced"],
    }


def remove_run(run: Run) -> None:
    """Remove every version of a run.

    Raises:
        Error: as of `removal`; a run was made from it; a process trains it; or it cannot be removed.
    """
    children = removal(run)["children"]
    require(not children, f"{run.title} is kept: from it were made {', '.join(children)}; remove these first")
    versions = Versions.of(run.folder)
    with versions.locked(), ExitStack() as stack:
        found = versions.all()
        held = [part for version in found for part in versions.take(version, stack)]
        require(not held, f"{run.title} is kept: a process trains {', '.join(held)}; stop it, or wait for its end")
        try:
            _remove(versions, sorted(found, key=lambda version: version == versions.current()))
        except OSError as error:
            raise Error(f"cannot remove {display_path(run.folder)}: {error.strerror}") from error
