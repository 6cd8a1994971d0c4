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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path

from expkit.data import changed_files, read_manifest
from expkit.errors import CAUGHT, Failed, report, require, terminable
from expkit.project import ROOT, code_root, display_path, installed_packages, output_dir, project_root
from expkit.snapshot import check_out
from expkit.store import LOCKBOX, OOF, FoldRecord, Run, load_run, read_run, stale
from expkit.tables import differing


@dataclass(frozen=True)
class Reproduction:
    """What came out when a run was trained again. As text: "identical", or the differences and reasons.

    Attributes:
        folds: the numbers of the folds that were trained again.
        differences: what differs, one line each; empty if scores and out-of-fold predictions are the same to the byte.
        reasons: what may have caused the differences, the likeliest first.
        parents: the same of the runs that it was made from, and of theirs, if they were made again, by their titles.
    """

    folds: list[int]
    differences: list[str]
    reasons: list[str]
    parents: dict[str, Reproduction] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Whether nothing differs, of the parents either."""
        return not self.differences and all(each.identical for each in self.parents.values())

    def __str__(self) -> str:
        lines = [f"{title}: {line}" for title, each in self.parents.items() for line in str(each).splitlines()]
        return "\n".join([*lines, *([*self.differences, *self.reasons] if self.differences else ["identical"])])


def reproduce(run: str | Path, parents: bool = False) -> Reproduction:
    """Train the finished folds of a run again, each from the snapshot of its code, and compare the results.

    The snapshot is checked out into a temporary folder, and trains there with the recorded configuration. It uses the
    present environment if this has the recorded packages, else the one of the snapshot's `uv.lock`; `input/` as it is
    now; the runs that it has read, which must be as they were; and a temporary output folder. The run itself stays as
    it is. A blend is computed again.

    Args:
        run: a name or a folder, as for `load_run`.
        parents: make the runs that it was made from again first, and theirs, and train it from those.

    Raises:
        Error: there is no such run, it has no finished fold or no snapshot, a run that it was made from is gone or is
            another one now, or the training fails.
    """
    found = load_run(run)
    require(bool(found.done) and found.info is not None, f"{display_path(found.folder)} has no finished fold")
    above = {one.title: one for one in found.ancestors}
    todo = {found.title: _snapshots(found, list(found.done.values()))}
    todo |= {title: _snapshots(one, one.parts) for title, one in above.items() if parents}
    order = TopologicalSorter({title: [each.run for each in one.parents] for title, one in above.items()})
    with tempfile.TemporaryDirectory(prefix="expkit-") as folder:
        scratch = Path(folder)
        (scratch / "output").mkdir()
        (scratch / "input").symlink_to(project_root() / "input", target_is_directory=True)
        for parent in () if parents else found.ancestors:
            link = scratch / "output" / parent.experiment / parent.folder.name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(parent.folder.absolute(), target_is_directory=True)
        made = {title: _made_again(above[title], todo[title], scratch) for title in order.static_order() if parents}
        return replace(_made_again(found, todo[found.title], scratch), parents=made)


def _snapshots(run: Run, parts: Sequence[FoldRecord]) -> dict[str, list[FoldRecord]]:
    """Those trainings of a run that are done, by the snapshot of their code. Errors as of `reproduce`."""
    how = f"{'blend it again' if run.recipe else 'overwrite=true trains it again'}, from what is there then"
    marks, found = stale(run), dict[str, list[FoldRecord]]()
    require(not marks, f"{run.title} cannot be made again from what is there: {', '.join(marks)}: {how}")
    for part, result in ((part, part.result) for part in parts if part.result):
        found.setdefault(result["git"]["snapshot"] if result["git"] else "", []).append(part)
    require("" not in found, f"{run.title} was made outside a git repository, without a snapshot: {how}")
    return found


def _made_again(run: Run, snapshots: dict[str, list[FoldRecord]], scratch: Path) -> Reproduction:
    """Make trainings of a run again in the project `scratch`, and compare its folds."""
    for commit, parts in snapshots.items():
        _train_again(run, parts, commit, scratch)
    again, differences, reasons = read_run(scratch / "output" / run.title), list[str](), list[str]()
    for number in run.done:
        differences += (lines := list(_compare(run, again, number)))
        reasons += _reasons(run, again, number) if lines else []
    unknown = ["nothing that is recorded differs: the training itself is not deterministic"] * bool(differences)
    return Reproduction(list(run.done), differences, list(dict.fromkeys(reasons)) or unknown)


@terminable()  # ends the training, too
def _train_again(run: Run, parts: list[FoldRecord], commit: str, scratch: Path) -> None:
    """Make trainings of a run again in the project `scratch`, with the code of a snapshot."""
    assert run.info is not None
    code = check_out(code_root(), commit, Path(tempfile.mkdtemp(dir=scratch)))
    ours = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONHOME")
    variables = {key: value for key, value in os.environ.items() if key not in ours} | {"WANDB_MODE": "disabled"}
    variables |= {"PROJECT_ROOT": str(scratch), ROOT: str(code), "PYTHONPATH": str(code / "src")}
    about = {"experiment": run.experiment, "run": run.name, "values": run.info["config"]}
    asked = json.dumps(about | {"folds": [part.number for part in parts]})
    command = [*_interpreter(code, run, parts[0]), "-m", "expkit.reproduction"]
    done = subprocess.run(command, cwd=code, env=variables, input=asked, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{run.title} fails when it is made again:\n{done.stdout}{done.stderr}".rstrip())


def _interpreter(code: Path, run: Run, part: FoldRecord) -> list[str]:
    """A Python with the recorded packages: this one, when it has them; else what uv makes of the snapshot's uv.lock."""
    version = str(part.origin().get("python"))
    require(bool(re.fullmatch(r"3\.\d+\.\d+\w*", version)), f"{part.title}: its version of Python is not recorded")
    own = installed_packages() if version == platform.python_version() else {}
    recorded = {name: number for name, number in run.packages().items() if not name.endswith("-experiments")}
    if recorded and recorded.items() <= own.items():
        return [sys.executable]
    require(shutil.which("uv") is not None, "uv is not on the PATH: install it, it makes the snapshot's environment")
    frozen = ["--frozen"] if (code / "uv.lock").exists() else []
    return ["uv", "run", "--quiet", "--no-dev", *frozen, "--python", version, "python"]


def _compare(old: Run, new: Run, number: int) -> Iterator[str]:
    """What differs between a fold and the same fold trained again."""
    before, after = (run.results[number]["scores"].get(old.metric or "") for run in (old, new))
    if before != after and after is not None:
        yield f"fold {number}: {old.metric} {before} → {after}"
    for name in (OOF, *({LOCKBOX} & old.results[number]["files"].keys())):
        one, other = old.done[number].predictions(name), new.done[number].predictions(name)
        shapes = [f"{', '.join(table)} ({len(next(iter(table.values())))} rows)" for table in (one, other)]
        if shapes[0] != shapes[1]:
            yield f"fold {number}: other columns or rows: {' → '.join(shapes)}"
        elif (differs := differing(one, other)).any():
            yield f"fold {number}: {differs.sum()} of {len(differs)} rows of {name} differ"


def _reasons(old: Run, new: Run, number: int) -> list[str]:
    """Why they may differ, the likeliest first."""
    reasons, facts = [], []
    was, now = (run.results[number]["data"] or "" for run in (old, new))
    if was and was != now:
        before, after = read_manifest(output_dir(), was), read_manifest(new.folder.parents[1], now)
        names = changed_files(before, after) if before is not None and after is not None else ["other files"]
        reasons.append(f"the data has changed since: {', '.join(names[:5])}")
    for run in (old, new):
        origin, environment = run.done[number].origin(), run.results[number]["environment"]
        own = {"device, or other processes or threads": environment, "python": origin.get("python")}
        facts.append(own | {"platform": origin.get("platform")} | run.packages())
    differ = {what: one for what, one in facts[0].items() if facts[1].get(what, one) != one}
    reasons += [f"another {what}: {one} → {facts[1][what]}" for what, one in differ.items()]
    if earlier := {what for one in old.results[number].get("earlier", []) for what in one}:
        reasons.append(f"fold {number} went on (resume=true) after its {' and '.join(sorted(earlier))} had changed")
    return reasons


def main() -> None:
    """Train a configuration from its recorded values, not from a command line, in this process; or blend runs.

    stdin has {"experiment": ..., "run": ..., "values": {"exp": {...}}, "folds": [0, 1, null]}, null for all rows. The
    values of a blend are {"blend": {"method": ..., "runs": [...]}}.
    """
    from expkit.compose import from_values
    from expkit.config import Mode, load_experiment
    from expkit.ensemble import blend
    from expkit.runner import Command, Runner

    asked = json.load(sys.stdin)
    try:
        if recipe := asked["values"].get("blend"):
            blend(list(map(load_run, recipe["runs"])), recipe["method"], asked["run"])
            return
        loaded = load_experiment(asked["experiment"])
        config = from_values(loaded, asked["values"])
        config.exp.fold, config.exp.debug = [number for number in asked["folds"] if number is not None], False
        for mode in [Mode.cv] * bool(config.exp.fold) + [Mode.sub] * (None in asked["folds"]):
            config.exp.mode = mode
            Runner(loaded, config, (), Command(is_copy=True), asked["run"]).train()
    except CAUGHT as error:
        sys.exit(report(error))


if __name__ == "__main__":
    main()
