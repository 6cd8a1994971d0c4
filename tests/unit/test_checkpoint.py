"""A training that takes long goes on after an interruption, to the same bytes."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from commands import command
from conftest import background
from experiments import WALK, own_experiment
from helpers import exp, exp_json
from light import wait_for

import expkit
from expkit import files, project, runner, store
from expkit.checkpoint import METADATA, Checkpoint, load_state, save_state, state_parts, unfinished
from expkit.fold import OF_ITS_END, Fold
from expkit.store import CHECKPOINT

# A random walk: its end depends on every step, and on the state of its generator. "stop": the epoch before which it is
# interrupted. A column comes late.
FILES = [store.OOF, store.HISTORY]


@pytest.fixture
def walk(root: Path) -> Iterator[str]:
    """The name of the experiment."""
    with own_experiment({"train.py": WALK}) as folder:
        yield folder.name


def whole(name: str, *overrides: str) -> dict[str, bytes]:
    """The files of fold 0 of a run that nothing interrupts."""
    expkit.run(name, overrides=["exp.fold=[0]", "exp.name=whole", *overrides])
    [fold] = (project.output_dir() / name).glob("whole*/fold0")
    return {file: (fold / file).read_bytes() for file in FILES}


def stop_before(epoch: int | None) -> None:
    file = project.project_root() / "control/stop"
    file.unlink(missing_ok=True)
    if epoch is not None:
        file.write_text(str(epoch))


def interrupted(name: str, epoch: int, *overrides: str, version: str = "light") -> Path:
    """The folder of fold 0 after an interruption."""
    stop_before(epoch)
    with pytest.raises(KeyboardInterrupt):
        expkit.run(name, overrides=["exp.fold=[0]", *overrides])
    stop_before(None)
    return project.output_dir() / name / version / "fold0"


def test_goes_on_where_it_was(walk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice interrupted, the history cut back, the seconds added up: the same bytes; then the checkpoint is gone."""
    expected = whole(walk)
    fold = interrupted(walk, 4)
    metadata = files.read_json(fold / CHECKPOINT / METADATA)
    assert metadata is not None
    del metadata["checksum"]
    files.write_json(fold / CHECKPOINT / METADATA, metadata | {"seconds": 1000})
    interrupted(walk, 9)
    with open(fold / store.HISTORY, "a") as stream:
        stream.write("9,0.5,1.0\n10,")  # logged after the checkpoint, and cut off
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0]"])
    printed = capsys.readouterr().out
    assert "fold 0 goes on after" in printed
    assert "epoch 8/" not in printed and "epoch 9/12" in printed
    assert {file: (fold / file).read_bytes() for file in FILES} == expected
    assert not (fold / CHECKPOINT).exists()
    [record] = store.read_run(fold.parent).done.values()
    assert record.origin()["resumed"] == 2 and record.result is not None and record.result["seconds"] > 1000


@pytest.mark.parametrize("damage", ["state", "about"])
def test_a_damaged_checkpoint_is_said(walk: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The fold starts again from its beginning, and comes to the same end."""
    expected = whole(walk)
    fold = interrupted(walk, 6)
    if damage == "state":
        [state] = (fold / CHECKPOINT).glob("state*/state")
        content = state.read_bytes()
        state.write_bytes(content[8:16] + content[:8] + content[16:])
    else:
        (fold / CHECKPOINT / METADATA).write_text("{}")
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0]"])
    printed = capsys.readouterr()
    assert "fold 0 starts again from its beginning: its checkpoint is damaged" in printed.err
    assert "epoch 1/12" in printed.out
    assert {file: (fold / file).read_bytes() for file in FILES} == expected


CHANGES = {"code": ("experiments/{}/train.py", "mixed code"), "data": ("train.csv is new", "mixed data")}


def change(name: str, what: str) -> None:
    """The code, or the data, are others from now on."""
    if what == "data":
        (project.project_root() / "input/train.csv").write_text(os.urandom(8).hex())
        return
    train = project.code_root() / "experiments" / name / "train.py"
    train.write_text(train.read_text().replace("normal(size=50)", "normal(size=50) * 1.1"))
    expkit.load_experiment(name, again=True)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", CHANGES)
def test_a_checkpoint_of_other_code_or_data_is_refused(walk: str, what: str) -> None:
    """Before anything is trained or written: one line with what changed, and the two ways on."""
    fold = interrupted(walk, 6)
    before = tree(fold.parent)
    change(walk, what)
    changed = re.escape(CHANGES[what][0].format(walk))
    with pytest.raises(expkit.Error) as refused:
        expkit.run(walk, overrides=["exp.fold=[1,0]"])
    said = rf"light/fold0 has a checkpoint of \d+ s of training, from before the {what} \({changed}\) changed: "
    assert re.search(said + "resume=true goes on with it, and the run is marked; overwrite=true", str(refused.value))
    assert refused.value.exit_code == 2 and tree(fold.parent) == before and len(list(fold.parent.glob("fold*"))) == 1


@pytest.mark.parametrize("what", CHANGES)
def test_resume_goes_on_and_marks_the_run(walk: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when a third process goes on, for which nothing has changed."""
    interrupted(walk, 6)
    change(walk, what)
    interrupted(walk, 9, "resume=true")
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0]"])
    printed = capsys.readouterr().out
    assert "epoch 8/12" not in printed and "epoch 9/12" in printed
    [row] = expkit.read_board()
    assert row.marks == ("partial", CHANGES[what][1])


@pytest.mark.parametrize("what", CHANGES)
def test_overwrite_begins_again_beside_the_checkpoint(walk: str, what: str) -> None:
    """It stays until the new version is whole; also when that is interrupted, and something has changed once more."""
    fold = interrupted(walk, 6)
    before = tree(fold)
    change(walk, what)
    second = interrupted(walk, 4, "overwrite=true", version="light@2")
    assert tree(fold) == before and (second / CHECKPOINT / METADATA).exists()
    change(walk, what)
    third = interrupted(walk, 5, "overwrite=true", version="light@3")
    expkit.run(walk, overrides=["exp.fold=[0]", "overwrite=true"])
    assert tree(third) and not fold.exists() and not second.exists()
    [row] = expkit.read_board()
    assert (row.folder, row.marks, len(row.done)) == (third.parent, ("partial",), 1)


def test_overwrite_keeps_the_checkpoints_of_folds_that_are_not_asked_for(
    walk: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(walk, 6)
    expkit.run(walk, overrides=["exp.fold=[1]", "overwrite=true"])
    capsys.readouterr()
    expkit.run(walk, overrides=["exp.fold=[0,1]"])
    printed = capsys.readouterr().out
    assert "fold 0 goes on after" in printed and "fold 1 is done" in printed
    assert [path.name for path in (project.output_dir() / walk).glob("light*")] == ["light@2"]


def test_another_configuration_does_not_end_a_checkpoint(walk: str) -> None:
    """config.yaml is edited: refused as with results, with what would be lost; overwrite=true keeps it to the end."""
    fold = interrupted(walk, 6)
    before = tree(fold.parent)
    config = expkit.load_config(walk, ["exp.fold=[0]"])
    config.exp.train.epochs = 5
    lost = r"another configuration \(exp.train.epochs: 12 → 5\): .* overwrite=true, which ends with the checkpoints of "
    with pytest.raises(expkit.Error, match=lost + r"fold0 \(\d+ s of training\)"):
        expkit.run(walk, config)
    assert tree(fold.parent) == before
    config.overwrite = True
    stop_before(3)
    with pytest.raises(KeyboardInterrupt):
        expkit.run(walk, config)
    assert tree(fold.parent) == before
    stop_before(None)
    expkit.run(walk, config)
    assert not fold.exists() and (fold.parents[1] / "light@2/fold0" / store.RESULT).exists()


def test_the_files_of_a_training_stay(walk: str) -> None:
    """Those that it has left in its folder; not those of an end that it has not come to."""
    fold = interrupted(walk, 4)
    for name in OF_ITS_END:
        (fold / name).write_text("half")
    interrupted(walk, 8)
    assert not [name for name in OF_ITS_END if name != store.FAILED and (fold / name).exists()]
    expkit.run(walk, overrides=["exp.fold=[0]"])
    listed = store.read_run(fold.parent).done[0].result
    assert listed is not None and {f"epochs/{epoch}.txt" for epoch in range(1, 13)} <= listed["files"].keys()


def test_without_a_checkpoint_a_fold_begins_empty(walk: str) -> None:
    fold = interrupted(walk, 1)
    (fold / "left.txt").touch()
    (fold / "epochs").mkdir()
    interrupted(walk, 1)
    assert {path.name for path in fold.iterdir()} == {store.LOG, store.FAILED}


def test_the_checkpoint_goes_after_the_result(
    walk: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result cannot be written: the training is not lost. Killed between both: a leftover that no result lists."""
    fold = project.output_dir() / walk / "light/fold0"
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_result", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            expkit.run(walk, overrides=["exp.fold=[0]"])
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "remove", lambda self: None)
        expkit.run(walk, overrides=["exp.fold=[0]"])
    printed = capsys.readouterr().out
    assert "fold 0 goes on after" in printed and "epoch" not in printed
    result = store.read_run(fold.parent).done[0].result
    assert result is not None and (fold / CHECKPOINT / METADATA).exists()
    assert unfinished(fold.parent) == {}, "there is nothing to go on with"
    assert not [name for name in result["files"] if CHECKPOINT in name]
    expkit.run(walk, overrides=["exp.fold=[0]"])
    assert "fold 0 is done" in capsys.readouterr().out


def test_a_variable_of_a_loop_that_was_done(walk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its last epoch: there is nothing to do, and the error says so. With a value before it, it ends."""
    train = project.code_root() / "experiments" / walk / "train.py"
    code = WALK.replace("    stop =", "    # first\n    stop =")
    last = '"prediction": walk.place})\n'
    assert last in code
    code = code.replace(last, last + '    return {"last": epoch}\n')
    train.write_text(code)
    expkit.load_experiment(walk, again=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Fold, "save_oof", interrupt)
        expkit.run(walk, overrides=["exp.fold=[0]"])
    said = "^fold 0: cannot access local variable 'epoch' .*: its loop was done, and began no epoch: give"
    with pytest.raises(expkit.Error, match=said):
        expkit.run(walk, overrides=["exp.fold=[0]"])
    train.write_text(code.replace("# first", "epoch = exp.train.epochs"))
    expkit.load_experiment(walk, again=True)
    expkit.run(walk, overrides=["exp.fold=[0]", "resume=true"])
    assert store.load_run(f"{walk}/light").result(0)["values"] == {"last": 12}


def interrupt(*arguments: Any) -> None:
    raise KeyboardInterrupt


# What is saved


def saved(folder: Path, write: Callable[[Path], Any]) -> Checkpoint:
    """A checkpoint in a folder, found by a new process."""
    about = {"rows": 0, "seconds": 0.0, "resumed": 0, "environments": [], "code": {}, "data": None}
    first = Checkpoint(folder, lambda: about)
    first.find()
    assert first.save(write)
    found = Checkpoint(folder, lambda: about)
    assert found.find()
    return found


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path, error: BaseException) -> None:
    """It stays the checkpoint until another one is whole, also for a training that catches the error."""
    checkpoint = saved(tmp_path, lambda file: file.write_bytes(b"whole"))
    before = tree(tmp_path)

    def fails(file: Path) -> None:
        file.write_bytes(b"half")
        assert before.items() <= tree(tmp_path).items()
        raise error

    for _ in range(2):
        with pytest.raises(type(error)):
            checkpoint.save(fails)
        found = Checkpoint(tmp_path, dict)
        assert before.items() <= tree(tmp_path).items() and found.find() and found.file is not None
        assert found.file.read_bytes() == b"whole"
    assert checkpoint.save(lambda file: file.write_bytes(b"other")) and len(tree(tmp_path)) == 2


def test_a_full_disk_ends_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint before stays, and no half of another one keeps the disk full; whatever a library makes of it."""
    checkpoint = saved(tmp_path, lambda file: file.write_bytes(b"whole"))
    before = tree(tmp_path)

    def fails(file: Path) -> None:
        file.write_bytes(b"half")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("cannot write") from error

    assert not checkpoint.save(fails) and tree(tmp_path) == before
    assert "warning: no checkpoint is saved (" in capsys.readouterr().err
    assert not checkpoint.save(lambda file: file.write_bytes(b"other"), every=60), "it is not tried in each step"
    assert checkpoint.save(lambda file: file.write_bytes(b"other"))


def test_a_save_that_is_interrupted_at_its_end_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the one before is removed: nobody may take away the new one."""
    checkpoint = saved(tmp_path, lambda file: file.write_bytes(b"whole"))
    remove = files.remove

    def interrupt(path: Path) -> None:
        if path == checkpoint.folder / "state1":
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr(files, "remove", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(lambda file: file.write_bytes(b"other"))
    found = Checkpoint(tmp_path, dict)
    assert found.find() and found.file is not None and found.file.read_bytes() == b"other"


def test_a_checkpoint_counts_when_it_is_on_the_disk(walk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state, and the rows that were logged before it: this reads the calls, as no test can cut the power."""
    flushed: set[str] = set()
    counted: list[set[str]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        flushed.add(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def note_name(source: Path, target: Path) -> None:
        if Path(target).name == METADATA:
            counted.append(set(flushed))
            flushed.clear()
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_name)
    interrupted(walk, 4)
    assert len(counted) == 3
    assert all({f"state{number}", store.HISTORY} <= names for number, names in enumerate(counted, start=1))


def test_a_checkpoint_may_be_a_folder(tmp_path: Path) -> None:
    """As other trainers write them. It replaces a file, and is replaced; damage in any file is seen."""

    def write(state: Path, text: str = "one") -> None:
        (state / "optimizer").mkdir(parents=True)
        (state / "optimizer/state").write_text("0")
        (state / "weights").write_text(text)

    saved(tmp_path, lambda file: file.write_bytes(b"whole"))
    checkpoint = saved(tmp_path, write)
    assert checkpoint.file is not None and (checkpoint.file / "weights").read_text() == "one"
    assert checkpoint.save(lambda state: write(state, "two"))
    assert {*tree(tmp_path / CHECKPOINT)} == {METADATA, "state3/optimizer/state", "state3/weights"}
    for damage in ("rename", "edit"):
        copy = tmp_path / damage
        shutil.copytree(tmp_path / CHECKPOINT, copy / CHECKPOINT)
        weights = copy / CHECKPOINT / "state3/weights"
        weights.rename(weights.with_name("others")) if damage == "rename" else weights.write_text("six")
        with pytest.raises(files.Broken):
            Checkpoint(copy, dict).find()


@pytest.mark.parametrize("place", [0, files.BLOCK, 2 * files.BLOCK])
def test_damage_anywhere_in_a_large_checkpoint_is_seen(tmp_path: Path, place: int) -> None:
    state = saved(tmp_path, lambda file: file.write_bytes(bytes(2 * files.BLOCK + 1))).file
    assert state is not None and Checkpoint(tmp_path, dict).find()
    with open(state, "rb+") as stream:
        stream.seek(place)
        stream.write(b"1")
    with pytest.raises(files.Broken):
        Checkpoint(tmp_path, dict).find()


def test_a_checkpoint_that_does_not_reach_the_disk_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = saved(tmp_path, lambda file: file.write_bytes(b"one"))

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(files, "to_disk", refuse)
        assert not first.save(lambda file: file.write_bytes(b"two"))
    found = Checkpoint(tmp_path, dict)
    assert found.find() and found.file is not None and found.file.read_bytes() == b"one"


def test_a_write_that_leaves_nothing_is_one_line(tmp_path: Path) -> None:
    """numpy.save adds .npy to a name."""
    with pytest.raises(expkit.Error, match=r"write\(file\) has left nothing at .*checkpoint/state1"):
        Checkpoint(tmp_path, dict).save(lambda file: file.with_suffix(".npy").touch())


class Numbered:
    """A part of a training whose state is a number."""

    def __init__(self, number: int) -> None:
        self.number = number


class WithDict(Numbered):
    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def test_what_a_state_may_be(tmp_path: Path) -> None:
    """Objects that say what their state is, or have attributes; the random generators belong to it."""
    kinds = (WithDict, Numbered)
    save_state(state_parts({kind.__name__: kind(1) for kind in kinds}), 7, tmp_path / "state")
    drawn = random.random(), numpy.random.random()
    found = {kind.__name__: kind(0) for kind in kinds}
    assert load_state(state_parts(found), tmp_path / "state") == 7
    assert [part.number for part in found.values()] == [1, 1]
    assert (random.random(), numpy.random.random()) == drawn


class OfThree(Numbered):
    def state_dict(self) -> dict[str, list[int]]:
        return {"number": [self.number] * 3}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["number"]) != 3:
            raise RuntimeError("size mismatch:\n  3, 2")


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ({"network": WithDict(0)}, "{'network': 'OfThree'}, and the training has {'network': 'WithDict'}"),
        (
            {"network": OfThree(0), "optimizer": Numbered(0)},
            "and the training has {'network': 'OfThree', 'op",
        ),
        (OfThree(0), "and the training has {'state': 'OfThree'}"),
        ({"network": OfThree(0)}, "RuntimeError: size mismatch: 3, 2"),
    ],
)
def test_a_checkpoint_of_another_state_is_one_line(tmp_path: Path, after: Any, says: str) -> None:
    """Of other objects, or of weights of another shape; the random generators stay as they are."""
    before = OfThree(1)
    before.state_dict = lambda: {"number": [1, 1]}  # type: ignore[method-assign,assignment]
    save_state(state_parts({"network": before}), 7, tmp_path / "state")
    state = random.getstate()
    with pytest.raises(
        expkit.Error, match="^the checkpoint does not fit .*, overwrite=true begins again: .*$"
    ) as raised:
        load_state(state_parts(after), tmp_path / "state")
    assert says in str(raised.value) and random.getstate() == state


def test_random_generators_are_kept_in_place(tmp_path: Path) -> None:
    """Whoever holds one draws on from where it was."""
    holders = {"numpy": numpy.random.default_rng(1), "legacy": numpy.random.RandomState(1), "python": random.Random(1)}
    save_state(state_parts(holders), 3, tmp_path / "state")
    draw = {name: each.random for name, each in holders.items()}
    drawn = {name: one() for name, one in draw.items()}
    assert load_state(state_parts(holders), tmp_path / "state") == 3
    assert {name: one() for name, one in draw.items()} == drawn


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (3, "state=...: a int cannot be kept: give the object, list or dict that has it"),
        ({"net": Numbered(1), "rate": 0.1}, "state['rate']: a float cannot be kept: give the object, list or dict"),
        ({"both": (Numbered(1), "a")}, "state['both']: a str cannot be kept: give"),
        ({}, "state={} keeps nothing: name its parts, or leave it out"),
        ({"net": SimpleNamespace(inner=SimpleNamespace(file=sys.stdout))}, "state=...: net.inner.file, a "),
        (SimpleNamespace(batches=[(one for one in "a")]), "state=...: state.batches[0], a generator, cannot be kept ("),
    ],
)
def test_a_state_that_cannot_be_kept_is_one_line(root: Path, state: Any, said: str) -> None:
    """At once, and not at the first checkpoint; with what of it that is."""
    trained: list[int] = []
    with pytest.raises(expkit.Error) as refused:
        command("exp.fold=[0]", during=lambda fold: trained.extend(fold.epochs(3, state=state))).train()
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value) and trained == []


def test_a_state_may_hold_the_fold_and_the_settings(root: Path) -> None:
    """They are no part of it."""

    def during(fold: Fold) -> None:
        net = SimpleNamespace(fold=fold, exp=fold._exp, runtime=fold._exp.runtime, epochs=0)
        for epoch in fold.epochs(2, state={"net": net}, every=0):
            net.epochs = epoch
        assert fold.checkpoint.file is not None
        load_state(
            state_parts({"net": net}, {"fold": fold, "exp": fold._exp, "exp.runtime": net.runtime}),
            fold.checkpoint.file,
        )
        assert (net.fold, net.exp, net.epochs) == (fold, fold._exp, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command("exp.fold=[0]", during=during).train()


def test_another_device_is_marked(walk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on elsewhere: the bytes of one device are not to be had any more."""
    interrupted(walk, 4)
    monkeypatch.setattr(runner, "environment", lambda: {"device": "another"})
    expkit.run(walk, overrides=["exp.fold=[0]"])
    [row] = expkit.read_board()
    assert row.marks == ("partial", "mixed devices")


def test_the_baseline_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped one, whose optimizer and generator are in its checkpoint."""
    save, log = Checkpoint.save, Fold.log
    monkeypatch.setattr(Checkpoint, "save", lambda self, write, every: save(self, write))
    overrides = ["exp.fold=[0]", "exp.train.epochs=5"]
    expkit.run("001-baseline", overrides=[*overrides, "exp.name=whole"])

    def log_and_stop(self: Fold, **metrics: float) -> None:
        log(self, **metrics)
        if self._history.rows == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Fold, "log", log_and_stop)
        expkit.run("001-baseline", overrides=overrides)
    expkit.run("001-baseline", overrides=overrides)
    whole, fold = (next((root / "output/001-baseline").glob(f"{name},*/fold0")) for name in ("whole", "baseline"))
    assert store.read_run(fold.parent).folds[0].origin()["resumed"] == 1
    assert {file: (fold / file).read_bytes() for file in FILES} == {file: (whole / file).read_bytes() for file in FILES}


def test_the_board_says_where_a_process_was_killed(quick: Path, walk: str) -> None:
    """At once, for the system frees its lock."""
    (quick / "control/gate").write_text("4")
    process = background(sys.executable, f"{os.environ['EXPKIT_ROOT']}/experiments/{walk}/train.py", "exp.fold=[0]")
    wait_for((quick / "control/here").exists, process)
    assert "partial, fold 0 in epoch 4" in exp("board")
    process.kill()
    process.wait()
    assert "partial, fold 0 stopped in epoch 4" in exp("board")
    assert exp_json("show", walk)["marks"] == ["partial", "fold 0 stopped in epoch 4"]
