"""Make a run again from its record, and compare."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from expkit.errors import Error, require
from expkit.files import read_csv, read_json
from expkit.paths import code_root, output_dir, project_root, shown
from expkit.snapshot import git


@dataclass(frozen=True)
class Reproduction:
    """What came out of making a run again.

    Attributes:
        folds: the folds that were trained again.
        differences: what differs, a line each; empty when scores and out-of-fold predictions are the same to the byte.
    """

    folds: list[int]
    differences: list[str]

    @property
    def identical(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        return "identical" if self.identical else "\n".join(self.differences)


def reproduce(run: str | Path) -> Reproduction:
    """Train the finished folds of a run again, each from the snapshot of its code, and compare the results.

    The snapshot is checked out into a temporary worktree. There, the recorded overrides are run in the environment that
    the snapshot's own `uv.lock` describes, with the recorded version of Python, with `input/` as it is now and an
    output folder of its own. Both are removed afterwards.

    Args:
        run: the folder of a run, or "<experiment>/<run>".

    Raises:
        Error: there is no such run, it has no finished fold, no snapshot, or the training fails.
    """
    folder = Path(run) if (Path(run) / "run.json").is_file() else output_dir() / run
    require(
        (folder / "run.json").is_file(),
        f"there is no run {run}: a run is a folder as output/001-baseline/001-larger-lr",
    )
    results = [read_json(file) for file in sorted(folder.glob("fold*/result.json"))]
    finished = [result for result in results if result is not None]
    require(bool(finished), f"{shown(folder)} has no finished fold")
    differences: list[str] = []
    for alike in _grouped(finished):
        with _trained_again(alike, folder) as again:
            for result in alike:
                name = f"fold{result['fold']}"
                differences += _compare(result, folder / name, again / name)
    return Reproduction([result["fold"] for result in finished], differences)


def _grouped(results: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Results that one command makes again: of the same code, overrides and version of Python."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        record = result.get("git")
        if record is None:
            fold = f"fold {result['fold']}"
            raise Error(
                f"{fold} was trained outside a git repository, without a snapshot: train it anew, overwrite=true"
            )
        groups.setdefault(json.dumps([record["snapshot"], _overrides(result), result["python"]]), []).append(result)
    return list(groups.values())


def _overrides(result: dict[str, Any]) -> list[str]:
    """The recorded overrides without those that say which folds to train, and how."""
    left_out = ("exp.fold", "exp.mode", "overwrite")
    parsed = OverridesParser.create().parse_overrides(list(result["overrides"]))
    return [
        text
        for text, override in zip(result["overrides"], parsed, strict=True)
        if override.key_or_group not in left_out
    ]


@contextmanager
def _trained_again(results: list[dict[str, Any]], original: Path) -> Iterator[Path]:
    """The folder of a run in which the folds of `results` are trained again."""
    first = results[0]
    repository = code_root()
    with tempfile.TemporaryDirectory(prefix="expkit-") as scratch:
        worktree, root = Path(scratch, "code"), Path(scratch, "project")
        (root / "output").mkdir(parents=True)
        (root / "input").symlink_to(project_root() / "input", target_is_directory=True)
        try:
            git(repository, "worktree", "add", "--quiet", "--detach", str(worktree), first["git"]["snapshot"])
        except subprocess.CalledProcessError as error:
            raise Error(f"cannot check out the snapshot {first['git']['snapshot']}: {error.stderr.strip()}") from error
        try:
            code = worktree / git(repository, "rev-parse", "--show-prefix")
            folds = ",".join(str(result["fold"]) for result in results)
            _train(code, first, [*_overrides(first), f"exp.fold=[{folds}]"], root)
            [again] = (root / "output" / first["experiment"]).glob("[!.]*")
            yield again
        finally:
            git(repository, "worktree", "remove", "--force", str(worktree))


def _train(code: Path, result: dict[str, Any], overrides: list[str], root: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise Error("uv is not on the PATH: it makes the environment of the snapshot")
    python = sys.executable if platform.python_version() == result["python"] else result["python"]
    frozen = ["--frozen"] if (code / "uv.lock").exists() else []
    train = code / "experiments" / result["experiment"] / "train.py"
    command = [uv, "run", "--quiet", "--no-dev", *frozen, "--python", python, "python", str(train), *overrides]
    outside = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    environment = outside | {"PROJECT_ROOT": str(root), "WANDB_MODE": "disabled"}
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Error(f"the training fails when it is made again:\n{done.stdout}{done.stderr}".rstrip())


def _compare(result: dict[str, Any], old: Path, new: Path) -> Iterator[str]:
    """What differs between a fold and the same fold trained again."""
    again = read_json(new / "result.json")
    assert again is not None
    title = f"fold {result['fold']}"
    if again["score"] != result["score"]:
        yield f"{title}: {result['metric']} {result['score']} → {again['score']}"
    changed = [
        f"{name} {result['packages'].get(name)} → {again['packages'].get(name)}"
        for name in sorted(result["packages"] | again["packages"])
        if result["packages"].get(name) != again["packages"].get(name) and name in result["packages"]
    ]
    if (old / "oof.csv").read_bytes() != (new / "oof.csv").read_bytes():
        before, after = read_csv(old / "oof.csv"), read_csv(new / "oof.csv")
        rows = zip(zip(*before.values(), strict=True), zip(*after.values(), strict=True), strict=False)
        count = sum(one != other for one, other in rows)
        yield f"{title}: {count} of {len(before['id'])} rows of oof.csv differ"
        if changed:
            yield f"{title}: other packages: {', '.join(changed)}"
