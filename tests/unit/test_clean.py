"""`exp clean` removes what is left over, and nothing else, whoever trains meanwhile and whenever it is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from commands import command
from conftest import background
from experiments import own_experiment
from filelock import FileLock, Timeout
from helpers import counting, exp, folders, results, tree
from light import LIGHT
from several import files as several
from typer.testing import CliRunner

import expkit
from expkit import snapshot, store
from expkit.clean import KINDS, leftovers
from expkit.cli import app


def clean(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    """What the command finds or removes, by kind."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for one in json.loads(exp("clean", *arguments, "--json")):
        found[one["kind"]].append(one)
    return found


def listed(*kinds: str) -> dict[str, list[str]]:
    """The names of what may go, by kind, where there is any."""
    found = {kind: [Path(each["what"]).name for each in every] for kind, every in clean(*kinds).items()}
    return {kind: names for kind, names in found.items() if names}


def fail(root: Path, *overrides: str, **values: Any) -> None:
    """A run of two folds whose training fails."""
    for fold in (0, 1):
        (root / f"control/fail{fold}").touch()
    with pytest.raises(expkit.Error, match="failed: fold 0, fold 1"):
        command("exp.fold=[0,1]", *overrides, **values).train()
    for fold in (0, 1):
        (root / f"control/fail{fold}").unlink()


HOLDS = """
import sys
from pathlib import Path
from expkit.store import Versions

version, part = Path(sys.argv[1]), sys.argv[2]
lock = Versions(version.parent, version.name.partition("@")[0]).part(version, part)
lock.acquire()
print("holds", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(version: Path, part: str) -> Iterator[None]:
    """While another process has the lock of a part of a version."""
    environment = os.environ | {"EXPKIT_ROOT": str(expkit.code_root()), "PYTHONPATH": str(expkit.code_root() / "src")}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = background(sys.executable, "-c", HOLDS, version, part, env=environment, **pipes)
    assert process.stdout.readline() == "holds\n"
    try:
        yield
    finally:
        process.communicate("")


# What counts


@pytest.fixture
def shop(root: Path) -> Iterator[Path]:
    """Everything that must stay: runs that are whole, partial, damaged, without a score, interrupted; a blend."""
    command("exp.name=whole").train()
    command("exp.name=whole", "exp.mode=sub").train()
    command("exp.name=partial", "exp.fold=[0]").train()
    command("exp.name=full", "exp.mode=sub").train()
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error):
        command("exp.name=half-failed", "exp.fold=[0,1]").train()
    (root / "control/fail1").unlink()
    command("exp.name=damaged", "exp.fold=[0]").train()
    (root / f"output/{LIGHT}/damaged/fold0/result.json").write_text("{")
    command("exp.name=cut", "exp.fold=[0]").train()
    (root / f"output/{LIGHT}/cut/fold0/oof.npz").write_text("")
    command("exp.name=no-description", "exp.fold=[0]").train()
    (root / f"output/{LIGHT}/no-description/run.json").unlink()
    (root / f"output/{LIGHT}/mine").mkdir()
    (root / f"output/{LIGHT}/mine/notes.txt").touch()
    (root / "output/notes.txt").touch()

    def save_and_fail(fold: expkit.Fold) -> None:
        fold.checkpoint.save(lambda file: file.write_text("state"))
        raise ValueError("stopped")

    with pytest.raises(ValueError):
        command("exp.name=interrupted", "exp.fold=[0]", during=save_and_fail).train()
    files = several("price")
    files["train.py"] = files["train.py"].replace("def rmse(oof):", "def rmse(oof):\n    assert len(oof['id']) == 300")
    with own_experiment(files) as folder, pytest.raises(expkit.Error, match="rmse raises"):
        expkit.run(folder.name, overrides=["exp.name=no-score", "exp.fold=[0]"])
    with own_experiment(several("price")) as folder:
        for seed, name in enumerate(("one", "two")):
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.seed={seed}"])
        exp("blend", f"{folder.name}/one,", f"{folder.name}/two,")
        exp("submit", f"{folder.name}/one,")
        yield root


def test_nothing_that_counts_goes(shop: Path) -> None:
    """Whatever is wrong with it: a result and a checkpoint are work, and a folder that is not ours is not ours."""
    before = tree(shop)
    assert listed() == {}
    assert "there is nothing to clean: superseded, failed, debug" in exp("clean", "--yes")
    assert tree(shop) == before
    runs = {row.name for row in expkit.read_board()}
    assert {
        "whole",
        "partial",
        "full",
        "damaged",
        "cut",
        "interrupted",
        "no-score",
        "one,exp.seed=0",
        "two,exp.seed=1",
    } <= runs


def test_what_cannot_be_read_is_no_failed_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer hides results; they are there all the same."""
    fail(root)
    assert listed() == {"failed": ["light"]}
    listdir = os.listdir

    def unwilling(path: Any) -> list[str]:
        if Path(path).name == "fold0":
            raise PermissionError(13, "no")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", unwilling)
    assert listed() == {}


# Runs in which nothing is done


def test_a_failed_run(root: Path) -> None:
    """Listed with its size, and removed when told to; the same command trains it from its beginning."""
    fail(root)
    command("exp.name=fine", "exp.fold=[0]").train()
    run = counting(root)
    before, size = tree(root), sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    found = clean()
    one = {"kind": "failed", "what": str(run), "why": "nothing is done", "bytes": size, "removed": False}
    assert found == {"superseded": [], "failed": [one], "debug": []}
    assert tree(root) == before
    printed = exp("clean", "failed")
    assert "nothing is done" in printed and "nothing is removed yet: exp clean failed --yes" in printed
    assert clean("debug", "superseded", "--yes")["failed"] == [] and run.is_dir()
    [removed] = clean("--yes")["failed"]
    assert removed["removed"] and folders(root) == ["fine"]
    assert list(results(root, "fine")) == [0]
    assert command("exp.fold=[0,1]").train() == 10.0 and list(results(root)) == [0, 1]


def test_a_run_that_a_process_trains_is_kept(root: Path) -> None:
    """A fold that no file tells of yet; the lock is that of a real process, and goes with it."""
    fail(root)
    for part in ("fold1", "fold4", "full"):
        with held(counting(root), part):
            assert listed() == {}
    [found] = leftovers("failed", root / "output")
    with held(counting(root), "fold3"):
        assert not found.remove() and counting(root).is_dir()
    assert found.remove() and not found.remove() and folders(root) == []


def test_a_training_whose_folder_is_removed_as_it_starts(root: Path) -> None:
    """It has prepared its folder, and has no lock: one line, and the same command trains."""
    fail(root)
    [found] = leftovers("failed", root / "output")
    run = command("exp.fold=[0,1]")
    free = run._free

    def removed_first(missing: Any) -> Any:
        assert found.remove() and not (root / f"output/{LIGHT}/light").exists()
        return free(missing)

    run._free = removed_first  # type: ignore[method-assign]
    with pytest.raises(expkit.Error, match=f"{LIGHT}/light"):
        run.train()
    assert folders(root) == [] and command("exp.fold=[0,1]").train() == 10.0


# Versions


def test_a_version_that_has_been_replaced(root: Path) -> None:
    """One that a training held when it was replaced. What the new one shares with it frees nothing."""
    command("exp.fold=[0,1]").train()
    first = counting(root)
    with held(first, "fold0"):
        command("exp.fold=[0]", "overwrite=true").train()
        assert folders(root) == ["light", "light@2"] and listed() == {}
    [found] = clean("superseded")["superseded"]
    shared = [path.stat().st_size for path in (first / "fold1").iterdir() if path.stat().st_nlink == 2]
    everything = sum(path.stat().st_size for path in first.rglob("*") if path.is_file())
    assert (found["what"], found["why"]) == (str(first), "a later version counts")
    assert sum(shared) > 0 and found["bytes"] == everything - sum(shared)
    [old] = leftovers("superseded", root / "output")
    with held(first, "fold3"):
        assert not old.remove()
    second = root / f"output/{LIGHT}/light@2"
    second.rename(root / "deleted")  # by a person: the old one counts again
    assert not old.remove() and folders(root) == ["light"]
    (root / "deleted").rename(second)
    after = tree(root / f"output/{LIGHT}/light@2")
    assert len(clean("--yes")["superseded"]) == 1 and folders(root) == ["light@2"]
    assert tree(root / f"output/{LIGHT}/light@2") == after and list(results(root)) == [0, 1]


def test_a_new_version_that_failed(root: Path) -> None:
    """It goes, and the run that counts stays; one in which a fold is done stays, too."""
    command("exp.fold=[0,1]").train()
    fail(root, "overwrite=true")
    assert folders(root) == ["light", "light@2"] and listed() == {"failed": ["light@2"]}
    [found] = leftovers("failed", root / "output")
    with held(root / f"output/{LIGHT}/light@2", "fold1"):
        assert listed() == {} and not found.remove()
    assert len(clean("--yes")["failed"]) == 1 and folders(root) == ["light"]
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error):
        command("exp.fold=[0,1]", "overwrite=true").train()
    assert folders(root) == ["light", "light@2"] and listed() == {}


def test_an_empty_run_stays_while_a_new_version_of_it_has_work(root: Path) -> None:
    """What is not whole must not count for the reason that nothing else is there."""
    fail(root)
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error):
        command("exp.fold=[0,1]", "overwrite=true").train()
    assert folders(root) == ["light", "light@2"] and counting(root).name == "light"
    assert listed() == {} and len(clean("--yes")["failed"]) == 0


def test_what_has_come_into_use_since_it_was_listed(root: Path) -> None:
    """A fold is done by now, or the version counts."""
    fail(root, "exp.name=first")
    command("exp.fold=[0,1]").train()
    fail(root, "overwrite=true")
    first, new = leftovers("failed", root / "output")
    command("exp.fold=[0]", "exp.name=first").train()
    command("exp.fold=[0,1]", "overwrite=true").train()
    before = tree(root)
    assert not first.remove() and not new.remove()
    assert tree(root) == before


def test_nobody_begins_a_fold_while_a_run_is_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that nobody has begun before, either; it waits, and then finds that the folder is gone."""
    fail(root)
    [found] = leftovers("failed", root / "output")
    begun, rename = [], Path.rename

    def watched(path: Path, target: Path) -> Path:
        for part in ("fold0", "fold4", "full"):
            with suppress(Timeout):
                FileLock(root / f"output/{LIGHT}/.locks/light@1.{part}").acquire(blocking=False)
                begun.append(part)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    assert found.remove() and begun == []


def test_no_other_version_counts_when_a_run_is_removed(root: Path) -> None:
    """The version that counts goes last: an old one must not be on the board in its place, not even for a moment."""
    command("exp.fold=[0,1]").train()
    first, second = counting(root), root / f"output/{LIGHT}/light@2"
    with held(first, "fold0"):
        command("exp.fold=[0,1]", "overwrite=true").train()
        for fold in (0, 1):
            shutil.rmtree(second / f"fold{fold}")
        fail(root, "overwrite=true")
    assert listed() == {"superseded": ["light"], "failed": ["light@3", "light@2"]}
    new, found = leftovers("failed", root / "output")
    assert not found.remove() and store.folder_of(root / "output", f"{LIGHT}/light") == second, "both are there"
    assert new.remove() and not found.remove() and folders(root) == ["light", "light@2"]
    removed = clean("--yes")
    assert len(removed["superseded"]) == len(removed["failed"]) == 1
    assert [path.name for path in (root / f"output/{LIGHT}").iterdir()] == [".locks"], "no pointer to what is gone"
    assert command("exp.fold=[0]").train() == 10.0 and folders(root) == ["light"]


def test_a_blend_that_is_being_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expkit import tables

    save, seen = tables.save, []

    def watched(file: Path, table: Any) -> None:
        seen.append(len(clean("--yes")["failed"]))
        save(file, table)

    with own_experiment(several("price")) as folder:
        for seed, name in enumerate(("one", "two")):
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.seed={seed}"])
        with monkeypatch.context() as patch:
            patch.setattr(tables, "save", watched)
            exp("blend", f"{folder.name}/one,", f"{folder.name}/two,")
    assert seen == [0] * 4
    assert {row.name for row in expkit.read_board() if row.score is not None} >= {"one,exp.seed=0", "two,exp.seed=1"}


def test_an_interruption_leaves_no_half_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is free at once, and the next one that removes a run of the experiment goes on with the rest."""
    fail(root)
    [found] = leftovers("failed", root / "output")

    def interrupted(path: Path) -> None:
        (path / "run.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            found.remove()
    assert folders(root) == [] and expkit.read_board() == []
    [half] = (root / f"output/{LIGHT}").glob(".removed-*")
    assert command("exp.fold=[0,1]").train() == 10.0
    before = tree(counting(root))
    fail(root, "exp.name=other")
    assert len(clean("--yes")["failed"]) == 1
    assert not half.exists() and folders(root) == ["light"] and tree(counting(root)) == before


# Debug runs


def test_debug_runs(root: Path) -> None:
    """But for one that a process trains; a result of another kind is not touched."""
    command("exp.fold=[0]").train()
    command("exp.debug=true").train()
    command("exp.debug=true", "exp.name=other").train()
    place = root / f"output/debug/{LIGHT}"
    with held(place / "other", "fold0"):
        assert listed() == {"debug": ["light"]}
        [found] = clean("debug", "--yes")["debug"]
        assert found["bytes"] > 0
    assert not (place / "light").exists() and (place / "other/cv.json").exists() and list(results(root)) == [0]
    command("exp.debug=true").train()
    assert (place / "light/cv.json").exists()


# Copies of the code


def copies(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "output/multirun/.code").glob("[!.]*"))


def test_copies_of_code(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sweep has its own, while it is under way; when it was ended before its jobs, until they cannot wait."""
    one, two = (snapshot.copy_code() for _ in range(2))
    assert len(copies(root)) == 2
    assert one.top is not None and two.top is not None
    (one.top.with_name("link")).symlink_to(root / "input", target_is_directory=True)
    one.leave(jobs_may_wait=False)
    two.leave(jobs_may_wait=True)
    now = time.time()
    for later, left in ((snapshot.LONGEST_WAIT - 60, [two.top.name]), (snapshot.LONGEST_WAIT + 60, [])):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        snapshot.copy_code().leave(jobs_may_wait=False)
        assert copies(root) == sorted(["link", *left])
    assert (root / "input").is_dir()


# Wherever it is called


def test_symbolic_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    """Neither what they lead to nor they themselves are removed; output/ itself may be one."""
    output, elsewhere = root / "output", tmp_path / "elsewhere"
    fail(root, "exp.name=a")
    fail(root, "exp.name=b")
    command("exp.debug=true").train()
    assert set(listed()) == {"failed", "debug"}
    for name, place in {"version": f"{LIGHT}/a", "debug": "debug"}.items():
        elsewhere.mkdir(exist_ok=True)
        (output / place).rename(elsewhere / name)
        (output / place).symlink_to(elsewhere / name, target_is_directory=True)
    (elsewhere / "data").mkdir()
    (elsewhere / "data/precious").write_text("text")
    (output / LIGHT / "b/fold0/data").symlink_to(elsewhere / "data", target_is_directory=True)
    (output / LIGHT / "b/precious").symlink_to(elsewhere / "data/precious")
    before = tree(elsewhere)
    output.rename(elsewhere / "output")
    output.symlink_to(elsewhere / "output", target_is_directory=True)
    assert listed() == {"failed": ["b"]}
    assert len(clean("--yes")["failed"]) == 1 and not (output / LIGHT / "b").exists()
    (elsewhere / "experiment").mkdir()
    (output / LIGHT).rename(elsewhere / "experiment" / LIGHT)
    (output / LIGHT).symlink_to(elsewhere / "experiment" / LIGHT)
    fail(root, "exp.name=c")
    assert listed() == {} and {row.name for row in expkit.read_board()} == {"a", "c"}
    assert {name: about for name, about in tree(elsewhere).items() if name in before} == before


def test_what_is_printed(root: Path) -> None:
    """What, how much, why; and what was not removed, as it is in use by now."""
    assert exp("clean") == "there is nothing to clean: superseded, failed, debug\n"
    fail(root, "exp.name=a")
    command("exp.debug=true").train()
    printed = exp("clean")
    assert "kB can go, nothing is removed yet: exp clean --yes" in printed
    assert re.search(r"^failed .* nothing is done$", printed, flags=re.M)
    assert re.search(r"^debug .* a debug run *$", printed, flags=re.M) and "superseded" not in printed
    printed = exp("clean", "--yes")
    assert printed.count("removed\n") == 2 and "nothing is removed" not in printed
    made = CliRunner().invoke(app, ["clean", "everything"])
    assert made.exit_code == 2 and "everything" in made.output


def test_what_cannot_be_removed_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(root, "exp.name=a")
    fail(root, "exp.name=b")
    rename = Path.rename

    def unwilling(path: Path, target: Path) -> Path:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", unwilling)
    made = CliRunner().invoke(app, ["clean", "--yes"])
    assert made.exit_code == 1 and "/a: Permission denied" in made.output
    assert folders(root) == ["a"]
    monkeypatch.setattr(Path, "rename", rename)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refused)
    made = CliRunner().invoke(app, ["clean", "--yes"])
    assert made.exit_code == 1 and "/a: Permission denied" in made.output
