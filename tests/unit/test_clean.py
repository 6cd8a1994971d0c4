"""`exp clean` removes what is left over, `exp remove` one run, whoever trains meanwhile and whenever it is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commands import command
from experiments import own_experiment
from filelock import BaseFileLock
from helpers import counting, exp, exp_json, folders, refused, results, tree
from light import LIGHT
from several import files as several

import expkit
from expkit import snapshot
from expkit.clean import KINDS, leftovers, remove_leftover, remove_run
from expkit.cli import app
from expkit.store import Versions


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


def held(version: Path, part: str) -> BaseFileLock:
    """While another process has the lock of a part of a version: another handle of the file, as far as it is told."""
    return Versions.of(version).part(version, part)


# What counts


def test_nothing_that_counts_goes(root: Path) -> None:
    """Whatever is wrong with it: a result and a checkpoint are work, and a folder that is not ours is not ours."""

    def save_and_fail(fold: expkit.Fold) -> None:
        fold.checkpoint.save(lambda file: file.write_text("state"))
        raise ValueError("stopped")

    command("exp.name=whole").train()
    command("exp.name=full", "exp.mode=sub").train()
    for name in ("partial", "damaged", "cut", "no-description"):
        command(f"exp.name={name}", "exp.fold=[0]").train()
    output = root / "output" / LIGHT
    (output / "damaged/fold0/result.json").write_text("{")
    (output / "cut/fold0/oof.npz").write_text("")
    (output / "no-description/run.json").unlink()
    (output / "mine").mkdir()
    (output / "mine/notes.txt").touch()
    (root / "output/notes.txt").touch()
    with pytest.raises(ValueError):
        command("exp.name=interrupted", "exp.fold=[0]", during=save_and_fail).train()
    files = several("price")
    files["train.py"] = files["train.py"].replace("def rmse(oof):", "def rmse(oof):\n    assert len(oof['id']) == 300")
    with own_experiment(files) as folder, pytest.raises(expkit.Error, match="rmse raises"):
        expkit.run(folder.name, overrides=["exp.name=no-score", "exp.fold=[0]"])
    before = tree(root)
    assert listed() == {}
    assert "there is nothing to clean: superseded, failed, debug" in exp("clean", "--yes")
    assert tree(root) == before
    names = {"whole", "full", "partial", "damaged", "cut", "interrupted", "no-score"}
    assert names <= {row.name for row in expkit.read_board()}


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
    assert found == {"superseded": [], "failed": [one], "debug": [], "state": []}
    assert tree(root) == before
    printed = exp("clean", "failed")
    assert "nothing is done" in printed and "nothing is removed yet: --yes removes it" in printed
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
    [(found, _)] = leftovers("failed", root / "output")
    with held(counting(root), "fold3"):
        assert not remove_leftover("failed", found) and counting(root).is_dir()
    assert remove_leftover("failed", found) and not remove_leftover("failed", found) and folders(root) == []


# Versions


def test_a_version_that_has_been_replaced(root: Path) -> None:
    """One that a training held when it was replaced."""
    command("exp.fold=[0,1]").train()
    first = counting(root)
    with held(first, "fold0"):
        command("exp.fold=[0]", "overwrite=true").train()
        assert folders(root) == ["light", "light@2"] and listed() == {}
    [found] = clean("superseded")["superseded"]
    assert (found["what"], found["why"]) == (str(first), "a later version counts")
    [(old, _)] = leftovers("superseded", root / "output")
    second = root / f"output/{LIGHT}/light@2"
    second.rename(root / "deleted")  # by a person: the old one counts again
    assert not remove_leftover("superseded", old) and folders(root) == ["light"]
    (root / "deleted").rename(second)
    after = tree(second)
    assert len(clean("--yes")["superseded"]) == 1 and folders(root) == ["light@2"]
    assert tree(second) == after and list(results(root)) == [0, 1]


def fail_second_fold(root: Path) -> None:
    """A new version in which one of two folds is done."""
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error, match="failed: fold 1"):
        command("exp.fold=[0,1]", "overwrite=true").train()
    (root / "control/fail1").unlink()


def test_a_new_version_that_failed(root: Path) -> None:
    """It goes, and the run that counts stays; one in which a fold is done stays, too."""
    command("exp.fold=[0,1]").train()
    fail(root, "overwrite=true")
    assert folders(root) == ["light", "light@2"] and listed() == {"failed": ["light@2"]}
    [(found, _)] = leftovers("failed", root / "output")
    with held(root / f"output/{LIGHT}/light@2", "fold1"):
        assert listed() == {} and not remove_leftover("failed", found)
    assert len(clean("--yes")["failed"]) == 1 and folders(root) == ["light"]
    fail_second_fold(root)
    assert folders(root) == ["light", "light@2"] and listed() == {}


def test_no_other_version_counts_when_a_run_is_removed(root: Path) -> None:
    """The one that counts goes last: what is not whole must not count for the reason that nothing else is there."""
    fail(root)
    fail_second_fold(root)
    assert folders(root) == ["light", "light@2"] and counting(root).name == "light"
    assert listed() == {}
    shutil.rmtree(root / f"output/{LIGHT}/light@2/fold0")
    assert listed() == {"failed": ["light@2"]}
    assert clean("--yes")["failed"] and counting(root).name == "light"
    assert clean("--yes")["failed"] and folders(root) == []
    command("exp.fold=[0]").train()
    command("exp.fold=[0]", "overwrite=true").train()
    shutil.rmtree(counting(root) / "fold0")
    assert clean("--yes")["failed"]
    assert [path.name for path in (root / f"output/{LIGHT}").iterdir()] == [".locks"], "no pointer to what is gone"


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
            exp("blend", "/one,", "/two,")
    assert seen == [0] * 4
    assert {row.name for row in expkit.read_board() if row.score is not None} >= {"one,exp.seed=0", "two,exp.seed=1"}


def test_an_interruption_leaves_no_half_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is free at once, and the next one that removes a run of the experiment goes on with the rest."""
    fail(root)
    [(found, _)] = leftovers("failed", root / "output")

    def interrupted(path: Path) -> None:
        (path / "run.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_leftover("failed", found)
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
    one, two = (snapshot.copy_code()[0] for _ in range(2))
    assert len(copies(root)) == 2
    (root / "output/multirun/.code/link").symlink_to(root / "input", target_is_directory=True)
    snapshot.remove_copy(one)
    [waiting] = [name for name in copies(root) if name in two.parts]
    now = time.time()
    for later, left in ((snapshot.LONGEST_WAIT - 60, [waiting]), (snapshot.LONGEST_WAIT + 60, [])):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        snapshot.remove_copy(snapshot.copy_code()[0])
        assert copies(root) == sorted(["link", *left])
    assert (root / "input").is_dir()


# Wherever it is called


def test_symbolic_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    """What they lead to is not removed, and neither is a run that is one; output/ itself may be one."""
    output, elsewhere = root / "output", tmp_path / "elsewhere"
    fail(root, "exp.name=a")
    fail(root, "exp.name=b")
    (elsewhere / "data").mkdir(parents=True)
    (elsewhere / "data/precious").write_text("text")
    (output / LIGHT / "a").rename(elsewhere / "a")
    (output / LIGHT / "a").symlink_to(elsewhere / "a", target_is_directory=True)
    (output / LIGHT / "b/fold0/data").symlink_to(elsewhere / "data", target_is_directory=True)
    (output / LIGHT / "b/precious").symlink_to(elsewhere / "data/precious")
    before = tree(elsewhere)
    output.rename(tmp_path / "moved")
    output.symlink_to(tmp_path / "moved", target_is_directory=True)
    assert listed() == {"failed": ["b"]}
    assert len(clean("--yes")["failed"]) == 1 and folders(root) == ["a"]
    assert tree(elsewhere) == before


def test_what_is_printed(root: Path) -> None:
    """What, how much, why; and what was not removed, as it is in use by now."""
    assert exp("clean") == "there is nothing to clean: superseded, failed, debug\n"
    fail(root, "exp.name=a")
    command("exp.debug=true").train()
    printed = exp("clean")
    assert "kB can go, nothing is removed yet: --yes removes it" in printed
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
    assert "cannot remove" in (line := refused("remove", f"{LIGHT}/a", "--yes")) and "/a: Permission denied" in line
    assert folders(root) == ["a"]


# One run


def removed(*arguments: str) -> dict[str, Any]:
    """What `exp remove` says."""
    found: dict[str, Any] = exp_json("remove", *arguments)
    return found


def test_a_run_is_listed_and_removed(root: Path) -> None:
    """With every version and whatever is in it; its notes stay, and the next run of its name is a new one."""
    command("exp.name=other", "exp.fold=[0]").train()
    command("exp.fold=[0,1]").train()
    command("exp.mode=sub").train()
    with held(counting(root), "fold0"):
        command("exp.fold=[0]", "overwrite=true").train()
    (root / f"output/{LIGHT}/light@old").mkdir()  # of a person
    exp("note", f"{LIGHT}/light", "good")
    before, other = tree(root), tree(counting(root, "other"))
    about = removed("light/light")
    assert [Path(each["folder"]).name for each in about["versions"]] == ["light", "light@2"]
    assert [each["folds"] for each in about["versions"]] == [["fold0", "fold1", "full"], ["fold0", "fold1", "full"]]
    assert about["versions"][0]["bytes"] == sum(
        file.stat().st_size for file in (root / f"output/{LIGHT}/light").rglob("*") if file.is_file()
    )
    assert (about["run"], about["children"], about["removed"]) == (f"{LIGHT}/light", [], False)
    assert "nothing is removed yet: --yes removes it" in exp("remove", "light/light")
    assert removed("light/lig")["run"] == f"{LIGHT}/light", "to list it, a part of the name is enough"
    assert f"light/lig is part of a name: exp remove {LIGHT}/light --yes" in refused("remove", "light/lig", "--yes")
    assert tree(root) == before
    assert "002-light/light is removed, " in exp("remove", "light/light", "--yes")
    assert folders(root) == ["light@old", "other"] and tree(counting(root, "other")) == other
    assert "good" in exp("note", f"{LIGHT}/light")
    assert command("exp.fold=[0]").train() == 10.0 and counting(root).name == "light" and list(results(root)) == [0]


def test_a_run_that_is_trained_is_not_removed(root: Path) -> None:
    command("exp.fold=[0,1]").train()
    before = tree(root)
    with held(counting(root), "fold1"):
        assert f"{LIGHT}/light is kept: a process trains fold1" in refused("remove", "light/light", "--yes")
    assert tree(root) == before


def test_a_broken_run_is_removed(root: Path, tmp_path: Path) -> None:
    """Whatever is there under its name; of a link, the link alone."""
    for name in ("no-description", "cut", "link"):
        command(f"exp.name={name}", "exp.fold=[0]").train()
    output = root / "output" / LIGHT
    (output / "no-description/run.json").unlink()
    (output / "cut/run.json").write_text("{")
    (output / "link").rename(tmp_path / "elsewhere")
    (output / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (output / "nowhere").symlink_to(tmp_path / "nothing")
    before = tree(tmp_path / "elsewhere")
    for name in ("no-description", "cut", "link", "nowhere"):
        assert removed(f"{LIGHT}/{name}", "--yes")["removed"]
    assert os.listdir(output) == [".locks"] and tree(tmp_path / "elsewhere") == before


def test_only_a_run_of_the_board_is_removed(root: Path, tmp_path: Path) -> None:
    """Not what merely looks like one: a debug run of the same name, a folder elsewhere, a copy beside the run."""
    command("exp.fold=[0]").train()
    command("exp.debug=true").train()
    shutil.copytree(counting(root), tmp_path / "light")
    shutil.copytree(counting(root), root / f"output/{LIGHT}/light@old")
    before = tree(root)
    for folder in (root / f"output/debug/{LIGHT}/light", tmp_path / "light", root / f"output/{LIGHT}/light@old"):
        assert "is no run of the board" in refused("remove", str(folder), "--yes")
    assert tree(root) == before
    assert removed(str(counting(root)), "--yes")["removed"] and folders(root) == ["light@old"]


def test_what_was_made_from_a_run_goes_first(root: Path) -> None:
    """The runs that would be lost with it are named; a submission stays."""
    with own_experiment(several("price")) as folder:
        for seed in range(3):
            expkit.run(folder.name, overrides=[f"exp.seed={seed}"])
        one, two, three = (run.title for run in expkit.read_board())
        exp("blend", one, two, "--name", "both")
        exp("blend", "both", three, "--name", "all")
        file = exp_json("submit", "both")["path"]
        for run, child in ((one, "blends/both"), ("blends/both", "blends/all")):
            assert f"{run} is kept: from it were made {child}; remove these first" in refused("remove", run, "--yes")
        assert removed("blends/both")["children"] == ["blends/all"]
        assert "made from it: blends/all" in exp("remove", "both")
        removed("blends/all", "--yes")
        removed("blends/both", "--yes")
        assert Path(file).is_file()
        exp("blend", one, two, "--name", "both")
        shutil.rmtree(root / f"output/{one}")
        expkit.run(folder.name, overrides=["exp.seed=0"])
        assert removed(one, "--yes")["children"] == [], "the blend is of another run of this name"
        (root / f"output/{two}/run.json").write_text("{")
        assert removed(two)["children"] == ["blends/both"], "nobody knows whether it is"


def test_a_removal_that_is_interrupted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is whole, or gone: what counts goes last, and no earlier version counts in its place."""
    command("exp.fold=[0,1]").train()
    with held(counting(root), "fold0"):
        command("exp.fold=[0]", "overwrite=true").train()
    after, rename, renamed = tree(counting(root)), Path.rename, list[str]()

    def interrupted(path: Path, *target: Path) -> Path:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(path.name)
        return rename(path, *target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_run(expkit.load_run(f"{LIGHT}/light"))
    assert renamed == ["light"] and folders(root) == ["light@2"]
    assert counting(root).name == "light@2" and tree(counting(root)) == after
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_run(expkit.load_run(f"{LIGHT}/light"))
    assert folders(root) == [] and expkit.read_board() == []
    assert command("exp.fold=[0]").train() == 10.0
    removed("light/light", "--yes")
    assert os.listdir(root / f"output/{LIGHT}") == [".locks"]
