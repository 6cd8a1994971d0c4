"""Make a run again from its record, and compare."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from expkit.data import changed_files, read_manifest
from expkit.ensemble import again as computed_again
from expkit.errors import CAUGHT, Error, Failed, report, require, terminable
from expkit.project import ROOT, code_root, display_path, output_dir, project_root
from expkit.snapshot import git
from expkit.store import FoldRecord, Run, find_run, read_run, run_folders
from expkit.tables import differing

ENTRY = "expkit.reproduction"  # as a module: trains a configuration from its values, with the code of the snapshot


@dataclass(frozen=True)
class Reproduction:
    """What came out when a run was trained again. As text: "identical", or the differences and reasons.

    Attributes:
        folds: the numbers of the folds that were trained again.
        differences: what differs, one line each; empty if scores and out-of-fold predictions are the same to the byte.
        reasons: what may have caused the differences, the likeliest first.
    """

    folds: list[int]
    differences: list[str]
    reasons: list[str]

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        return "identical" if self.identical else "\n".join([*self.differences, *self.reasons])


def reproduce(run: str | Path) -> Reproduction:
    """Train the finished folds of a run again, each from the snapshot of its code, and compare the results.

    The snapshot is checked out into a temporary folder, and trains there with the recorded configuration. It uses the
    present environment if this has the recorded packages, else the one of the snapshot's `uv.lock`; `input/` as it is
    now; and a temporary output folder. The run itself stays as it is.

    A blend is not trained, but computed again from its runs as they are now.

    Args:
        run: a name or a folder, as for `load_run`.

    Raises:
        Error: there is no such run, it has no finished fold or no snapshot, or the training fails.
    """
    found = read_run(find_run(str(run)))
    require(bool(found.done) and found.info is not None, f"{display_path(found.folder)} has no finished fold")
    if found.recipe:
        return Reproduction(list(found.done), *computed_again(found))
    differences: list[str] = []
    reasons: list[str] = []
    for alike in _grouped(list(found.done.values())):
        with _trained_again(alike, found) as again:
            for fold in alike:
                assert fold.number is not None
                other = again.folds.get(fold.number)
                if other is None or other.result is None:
                    raise Error(f"{fold.title} has not been trained again: {', '.join(again.marks)}")
                lines = list(_compare(fold, other, found.metric or ""))
                differences += lines
                reasons += _reasons(fold, other) if lines else []
    return Reproduction(list(found.done), differences, list(dict.fromkeys(reasons)))


def _grouped(folds: list[FoldRecord]) -> list[list[FoldRecord]]:
    """Folds that one command makes again: of the same code and version of Python."""
    groups: dict[tuple[str, str], list[FoldRecord]] = {}
    for fold in folds:
        assert fold.result is not None
        if fold.result["git"] is None:
            raise Error(
                f"{fold.title} was trained outside a git repository, without a snapshot: train it again, overwrite=true"
            )
        groups.setdefault((fold.result["git"]["snapshot"], _python(fold)), []).append(fold)
    return list(groups.values())


def _python(fold: FoldRecord) -> str:
    version = str(fold.origin().get("python"))
    require(
        re.fullmatch(r"3\.\d+\.\d+\w*", version) is not None, f"{fold.title}: its version of Python is not recorded"
    )
    return version


@contextmanager
def _trained_again(folds: list[FoldRecord], run: Run) -> Iterator[Run]:
    """The run in which these folds are trained again."""
    first = folds[0]
    assert first.result is not None and first.result["git"] is not None and run.info is not None
    require(
        re.fullmatch(r"[\w.+-]+", run.experiment) is not None, f"{run.experiment!r} is not the name of an experiment"
    )
    repository, snapshot = code_root(), first.result["git"]["snapshot"]
    with tempfile.TemporaryDirectory(prefix="expkit-") as scratch:
        worktree, root = Path(scratch, "code"), Path(scratch, "project")
        (root / "output").mkdir(parents=True)
        (root / "input").symlink_to(project_root() / "input", target_is_directory=True)
        try:
            git(repository, "worktree", "add", "--quiet", "--detach", str(worktree), snapshot)
        except subprocess.CalledProcessError as error:
            raise Error(f"cannot check out the snapshot {snapshot}: {error.stderr.strip()}") from error
        try:
            code = worktree / git(repository, "rev-parse", "--show-prefix")
            numbers = [fold.number for fold in folds]
            asked = {"experiment": run.experiment, "values": run.info["config"], "folds": numbers}
            _train(code, first, asked, root)
            [again] = run_folders(root / "output")
            yield read_run(again)
        finally:
            git(repository, "worktree", "remove", "--force", str(worktree))


@terminable()  # ends the training, too
def _train(code: Path, fold: FoldRecord, asked: dict[str, Any], root: Path) -> None:
    ours = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "PYTHONHOME")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment |= {
        "PROJECT_ROOT": str(root),
        "WANDB_MODE": "disabled",
        "PYTHONPATH": str(code / "src"),
        ROOT: str(code),
    }
    command = [*_interpreter(code, fold), "-m", ENTRY]
    done = subprocess.run(command, cwd=code, env=environment, input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"the training fails when it is made again:\n{done.stdout}{done.stderr}".rstrip())


def _interpreter(code: Path, fold: FoldRecord) -> list[str]:
    """A Python with the recorded packages: this one, when it has them; else what uv makes of the snapshot's uv.lock."""
    recorded, version = fold.origin().get("packages"), _python(fold)
    present = {package.name: package.version for package in metadata.distributions() if package.name}
    if isinstance(recorded, dict) and version == platform.python_version():
        own = {name: number for name, number in recorded.items() if not name.endswith("-experiments")}
        if all(present.get(name) == number for name, number in own.items()):
            return [sys.executable]
    uv = shutil.which("uv")
    if uv is None:
        raise Error("uv is not on the PATH: install it, it makes the environment of the snapshot")
    frozen = ["--frozen"] if (code / "uv.lock").exists() else []
    python = sys.executable if platform.python_version() == version else version
    return [uv, "run", "--quiet", "--no-dev", *frozen, "--python", python, "python"]


def _compare(old: FoldRecord, new: FoldRecord, metric: str) -> Iterator[str]:
    """What differs between a fold and the same fold trained again."""
    assert old.result is not None and new.result is not None
    before, after = (fold.result["scores"].get(metric) for fold in (old, new) if fold.result)
    if before != after and after is not None:
        yield f"{old.title}: {metric} {before} → {after}"
    one, other = old.table(), new.table()
    if list(one) != list(other) or len(next(iter(one.values()))) != len(next(iter(other.values()))):
        yield f"{old.title}: other columns or rows: {_shape(one)} → {_shape(other)}"
        return
    differs = differing(one, other)
    if differs.any():
        yield f"{old.title}: {differs.sum()} of {len(differs)} rows of the out-of-fold predictions differ"


def _shape(table: dict[str, Any]) -> str:
    return f"{', '.join(table)} ({len(next(iter(table.values())))} rows)"


def _reasons(old: FoldRecord, new: FoldRecord) -> list[str]:
    """Why they may differ, the likeliest first."""
    assert old.result is not None and new.result is not None
    one, other = old.origin(), new.origin()
    reasons = []
    if old.result["data"] and old.result["data"] != new.result["data"]:
        before = read_manifest(output_dir(), old.result["data"])
        after = read_manifest(new.folder.parents[2], new.result["data"] or "")
        names = changed_files(before, after) if before is not None and after is not None else []
        reasons.append(f"the data has changed since: {', '.join(names[:5]) or 'other files'}")
    if old.result["environment"] != new.result["environment"]:
        environments = f"{old.result['environment']} → {new.result['environment']}"
        reasons.append(f"another device, or other processes or threads: {environments}")
    for key in ("python", "platform"):
        if one.get(key) != other.get(key):
            reasons.append(f"another {key}: {one.get(key)} → {other.get(key)}")
    packages = [side.get("packages") for side in (one, other)]
    if isinstance(packages[0], dict) and isinstance(packages[1], dict):
        both = [name for name in packages[0] if name in packages[1] and packages[0][name] != packages[1][name]]
        changed = [f"{name} {packages[0][name]} → {packages[1][name]}" for name in both]
        if changed:
            reasons.append(f"other packages: {', '.join(changed)}")
    return reasons or ["nothing that is recorded differs: the training itself is not deterministic"]


def main() -> None:
    """Train a configuration from its recorded values, not from a command line, in this process.

    stdin has {"experiment": ..., "values": {"exp": {...}}, "folds": [0, 1]}.
    """
    from expkit.compose import from_values
    from expkit.config import Mode, load_experiment, restored
    from expkit.runner import Command, Runner

    asked = json.load(sys.stdin)
    try:
        loaded = load_experiment(asked["experiment"])
        config = from_values(loaded, restored(asked["values"]))
        config.exp.fold, config.exp.mode, config.exp.debug = asked["folds"], Mode.cv, False
        Runner(loaded, config, (), Command()).train()
    except CAUGHT as error:
        sys.exit(report(error))


if __name__ == "__main__":
    main()
