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
from dataclasses import dataclass
from pathlib import Path

from expkit.data import changed_files, read_manifest
from expkit.errors import CAUGHT, Error, Failed, report, require, terminable
from expkit.project import ROOT, code_root, display_path, installed_packages, output_dir, project_root
from expkit.snapshot import check_out
from expkit.store import Run, load_run, read_run, run_folders
from expkit.tables import differing


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

    Args:
        run: a name or a folder, as for `load_run`.

    Raises:
        Error: there is no such run, it is a blend, it has no finished fold or no snapshot, or the training fails.
    """
    found = load_run(run)
    require(bool(found.done) and found.info is not None, f"{display_path(found.folder)} has no finished fold")
    if found.recipe:
        parents = ", ".join(parent.run for parent in found.recipe.parents)
        raise Error(f"{found.title} is a blend: reproduce the runs that it is made of: {parents}")
    groups: dict[str, list[int]] = {}  # folds of the same code: one command makes them
    for number, result in found.results.items():
        if (git := result["git"]) is None:
            raise Error(
                f"fold {number} was trained outside a git repository, without a snapshot: repeat it with overwrite=true"
            )
        groups.setdefault(git["snapshot"], []).append(number)
    differences: list[str] = []
    reasons: list[str] = []
    for commit, folds in groups.items():
        with tempfile.TemporaryDirectory(prefix="expkit-") as scratch:
            again = _trained_again(found, folds, commit, Path(scratch))
            for number in folds:
                lines = list(_compare(found, again, number))
                differences += lines
                reasons += _reasons(found, again, number) if lines else []
    return Reproduction(list(found.done), differences, list(dict.fromkeys(reasons)))


@terminable()  # ends the training, too
def _trained_again(run: Run, folds: list[int], commit: str, scratch: Path) -> Run:
    """The run in which these folds are trained again, with the code of a snapshot, in an empty folder."""
    assert run.info is not None
    root = scratch / "project"
    (root / "output").mkdir(parents=True)
    (root / "input").symlink_to(project_root() / "input", target_is_directory=True)
    (scratch / "code").mkdir()
    code = check_out(code_root(), commit, scratch / "code")
    ours = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONHOME")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment |= {"PROJECT_ROOT": str(root), ROOT: str(code), "PYTHONPATH": str(code / "src")}
    environment["WANDB_MODE"] = "disabled"
    asked = json.dumps({"experiment": run.experiment, "values": run.info["config"], "folds": folds})
    command = [*_interpreter(code, run, folds[0]), "-m", "expkit.reproduction"]
    done = subprocess.run(command, cwd=code, env=environment, input=asked, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"the training fails when it is made again:\n{done.stdout}{done.stderr}".rstrip())
    [folder] = run_folders(root / "output")
    return read_run(folder)


def _interpreter(code: Path, run: Run, number: int) -> list[str]:
    """A Python with the recorded packages: this one, when it has them; else what uv makes of the snapshot's uv.lock."""
    recorded, version = run.packages(), str(run.done[number].origin().get("python"))
    is_version = re.fullmatch(r"3\.\d+\.\d+\w*", version) is not None
    require(is_version, f"fold {number}: its version of Python is not recorded")
    is_this = version == platform.python_version()
    own = {name: number for name, number in recorded.items() if not name.endswith("-experiments")}
    if is_this and recorded and own.items() <= installed_packages().items():
        return [sys.executable]
    require(shutil.which("uv") is not None, "uv is not on the PATH: install it, it makes the snapshot's environment")
    frozen = ["--frozen"] if (code / "uv.lock").exists() else []
    return ["uv", "run", "--quiet", "--no-dev", *frozen, "--python", sys.executable if is_this else version, "python"]


def _compare(old: Run, new: Run, number: int) -> Iterator[str]:
    """What differs between a fold and the same fold trained again."""
    before, after = (run.results[number]["scores"].get(old.metric or "") for run in (old, new))
    if before != after and after is not None:
        yield f"fold {number}: {old.metric} {before} → {after}"
    one, other = old.done[number].predictions(), new.done[number].predictions()
    shapes = [f"{', '.join(table)} ({len(next(iter(table.values())))} rows)" for table in (one, other)]
    if shapes[0] != shapes[1]:
        yield f"fold {number}: other columns or rows: {' → '.join(shapes)}"
        return
    differs = differing(one, other)
    if differs.any():
        yield f"fold {number}: {differs.sum()} of {len(differs)} rows of the out-of-fold predictions differ"


def _reasons(old: Run, new: Run, number: int) -> list[str]:
    """Why they may differ, the likeliest first."""
    reasons = []
    results = [run.results[number] for run in (old, new)]
    origins = [run.done[number].origin() for run in (old, new)]
    if results[0]["data"] and results[0]["data"] != results[1]["data"]:
        before = read_manifest(output_dir(), results[0]["data"])
        after = read_manifest(new.folder.parents[1], results[1]["data"] or "")
        names = changed_files(before, after) if before is not None and after is not None else []
        reasons.append(f"the data has changed since: {', '.join(names[:5]) or 'other files'}")
    facts = {"device, or other processes or threads": [str(result["environment"]) for result in results]}
    facts |= {key: [str(origin.get(key)) for origin in origins] for key in ("python", "platform")}
    reasons += [f"another {what}: {' → '.join(values)}" for what, values in facts.items() if values[0] != values[1]]
    one, other = old.packages(), new.packages()
    changed = [f"{name} {one[name]} → {other[name]}" for name in one if other.get(name, one[name]) != one[name]]
    if changed:
        reasons.append(f"other packages: {', '.join(changed)}")
    return reasons or ["nothing that is recorded differs: the training itself is not deterministic"]


def main() -> None:
    """Train a configuration from its recorded values, not from a command line, in this process.

    stdin has {"experiment": ..., "values": {"exp": {...}}, "folds": [0, 1]}.
    """
    from expkit.compose import from_values
    from expkit.config import Mode, load_experiment
    from expkit.runner import Command, Runner

    asked = json.load(sys.stdin)
    try:
        loaded = load_experiment(asked["experiment"])
        config = from_values(loaded, asked["values"])
        config.exp.fold, config.exp.mode, config.exp.debug = asked["folds"], Mode.cv, False
        Runner(loaded, config, (), Command(is_copy=True)).train()
    except CAUGHT as error:
        sys.exit(report(error))


if __name__ == "__main__":
    main()
