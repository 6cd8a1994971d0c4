"""What lies under output/ may be damaged, old, edited or someone else's: it is shown with what is wrong, or not at all.

The runs of `sample` are copied and mutated; every reading command then answers, and shows no score that the predictions
do not give without a mark. Nothing that is read is executed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import at_once, mutate, remove, replace, sealed, unprivileged
from experiments import own_experiment
from helpers import strictly
from light import LIGHT

import expkit
from expkit import notes, store
from expkit.board import Entry, entries
from expkit.cli import app
from expkit.ensemble import blend
from expkit.errors import one_line

SECRET = "hunter2-of-the-environment"

ROWS = """
import expkit
import numpy

def accuracy(oof):
    return (oof["target"] == oof["prediction"]).mean()

def log_loss(oof):
    return -numpy.log(oof["probability"]).mean()

def train(exp, fold):
    for epoch in (1, 2, 3):
        fold.log(epoch=epoch, loss=1 / epoch, note=None)
    chance = numpy.random.default_rng(exp.seed + (fold.number or 0))
    if fold.number is not None:
        ids = [f"{fold.number}_{row:02d}" for row in range(9)]
        target = ["01" if number < 0.5 else "1" for number in chance.random(9)]
        fold.save_oof({"id": ids, "target": target, "prediction": ["01"] * 9, "probability": chance.random((9, 2))})
    fold.save_test({"id": [1, 2], "prediction": [0.5, chance.random()]})
    return {"best_epoch": 2, "note": "fine"}

experiment = expkit.Experiment(train, expkit.ExpConfig, metric=accuracy, other_metrics=[log_loss], own_split=True)
"""


@pytest.fixture(scope="module")
def sample(module_root: Path) -> Iterator[Path]:
    """A PROJECT_ROOT with finished, failed, pruned and replaced runs of two experiments, a blend, and notes."""
    root = module_root
    (root / "input/train.csv").write_text("1\n")
    (root / "input/sample_submission.csv").write_text("id,prediction\n1,0\n2,0\n")
    with own_experiment({"train.py": ROWS}) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", SECRET)
        patch.setattr("expkit.notes.notes_dir", lambda: root / "notes")
        patch.setattr("expkit.data.STILL", -1)
        for overrides in (["exp.n_folds=3"], ["exp.n_folds=3", "exp.mode=sub"], ["exp.n_folds=3", "exp.seed=1"]):
            expkit.run(folder.name, overrides=overrides)
        for overrides in (["exp.fold=[0,1]"], ["exp.train.x=3"], ["exp.train.x=2"]):
            expkit.run(LIGHT, overrides=overrides)
        blend([store.read_run(root / f"output/{LIGHT}/light,exp.train.x={x}") for x in (2, 3)], "hill", "both")
        with pytest.raises(ValueError, match="planted"):
            expkit.run(LIGHT, overrides=["exp.train.x=51", "exp.fold=[0]"])
        replaced = root / f"output/{LIGHT}/light,exp.train.x=4"
        expkit.run(LIGHT, overrides=["exp.train.x=4"])
        shutil.copytree(replaced, root / "old")
        expkit.run(LIGHT, overrides=["exp.train.x=4", "overwrite=true"])
        for result in root.glob("old/fold*/result.json"):  # once the newer is gone, nothing else may look different
            newer = json.loads((root / f"{replaced}@2" / result.relative_to(root / "old")).read_text())
            reseal(result, seconds=newer["seconds"], finished=newer["finished"])
        (root / "old").rename(replaced)  # as if somebody had still worked in it
        store.prune_run(root / f"output/{LIGHT}/light", "after 2 of 5 folds")
        notes.add_note(f"{LIGHT}/light", {"text": "a note", "leaderboard": 0.5, "tags": ["word"]}, root / "notes")
        notes.add_note(f"{folder.name}/{folder.name}", {"hypothesis": "better"}, root / "notes")
        app.main(["submit", "light,exp.n_folds=3,exp.seed=1"], prog_name="exp", standalone_mode=False)
        shutil.rmtree(root / "control")
        yield root


def copied(sample: Path, root: Path) -> None:
    """The runs of `sample` under another root; their files are links, so write none in place."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(sample, root, copy_function=os.link, symlinks=True)


# What every reading command promises

TRUTH: dict[str, Callable[[dict[str, Any]], float]] = {
    "accuracy": lambda oof: float((oof["target"] == oof["prediction"]).mean()),
    "quality": lambda oof: float(oof["prediction"].mean()),
}


def printed(*arguments: str) -> str:
    """What a command prints, on stdout; an error of its user's is one line."""
    stream = io.StringIO()
    try:
        with contextlib.redirect_stdout(stream), at_once(f"exp {' '.join(arguments)}"), contextlib.suppress(SystemExit):
            app.main(list(arguments), prog_name="exp", standalone_mode=False)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        return line
    stream.getvalue().encode()  # a terminal takes UTF-8
    assert SECRET not in stream.getvalue(), "a resolver has been executed"
    return stream.getvalue()


def commands(one: str, other: str) -> list[list[str]]:
    """Everything that reads, of two runs."""
    boards = ["", "--json", "--failed", "--noise", "--noise --seeds --json", "--seeds --sort exp.seed"]
    boards += ["--filter score>0.5 --sort=-finished", "--last 2 --columns exp.seed"]
    found = [["board", *options.split()] for options in boards]
    found += [["show", one], ["show", one, "--json"], ["diff", one, other], ["diff", other, one, "--json"]]
    found += [["diff", one, other, "--seeds"], ["oof", one], ["oof", one, "--json"], ["oof", one, "--test"]]
    found += [["note"], ["note", "--json"], ["note", one], ["clean"], ["clean", "superseded", "--json"]]
    found += [["submit", one], ["submit", one, other, "--json"], ["blend", one, other, "--json"]]
    return found


def parts(row: Entry) -> list[Callable[[], Any]]:
    """What a program reads of a run."""
    run, folder = row.run, row.run.folder
    return [
        lambda: run.config.exp.name,
        lambda: [run.test(fold) for fold in run.folds],
        lambda: [run.history(fold) for fold in (*run.folds, None)],
        lambda: [run.result(fold) for fold in (*run.folds, None)],
        lambda: expkit.curves([folder]),
        lambda: expkit.mistakes(folder),
        lambda: expkit.oof([folder]),
        lambda: expkit.runs(),
    ]


NOTED = ("leaderboard", "verdict", "tags", "note", "failure")  # texts of people, which have no checksum


def values(row: Entry) -> dict[str, Any]:
    return {key: value for key, value in row.values.items() if key not in NOTED}


class Reader:
    """Lets commands read what has been damaged, and compares it with what was there.

    Args:
        sample: what was there.
    """

    def __init__(self, sample: Path) -> None:
        self.known = {row.run.title: row for row in entries(expkit.read_board(sample / "output"))}
        self.oof = {title: row.run.oof for title, row in self.known.items()}
        self._turn = 0

    def read(self, is_forged: bool = False, count: int = 100) -> None:
        """Let everything that reads, or the next `count` commands, read what is there.

        Args:
            is_forged: somebody has written other scores and sealed them: nobody can see that without the metric.
        """
        with at_once("the board"), contextlib.redirect_stderr(io.StringIO()) as warnings:
            rows = {row.run.title: row for row in entries(expkit.read_board())}
            changed = [
                row
                for title, row in rows.items()
                if title not in self.known or values(row) != values(self.known[title])
            ]
        for row in [] if is_forged else changed:
            is_marked = row.marks or warnings.getvalue()
            table = {} if is_marked else expkit.load_run(row.run.folder).oof
            assert is_marked or row.score is None or row.score == TRUTH[str(row.run.metric)](table), row
            assert is_marked or row.run.title not in self.known, (row, self.known[row.run.title])
        choices = changed or list(rows.values())
        first = choices[self._turn % len(choices)] if choices else None
        title = first.run.title if first else "none"
        names = [name for name in rows if name != title] or ["none"]
        every = commands(title, names[self._turn % len(names)])
        for number in range(min(count, len(every))):
            command = every[(self._turn + number) % len(every)]
            with contextlib.redirect_stderr(io.StringIO()):
                text = printed(*command)
            if "--json" in command and text[:1] in "[{":
                strictly(text)
            assert not CONTROLS.search(text), f"{command} controls the terminal"
        self._turn += min(count, len(every))
        if first is None:
            return
        reads = parts(first)
        for part in [reads[self._turn % len(reads)]] if count < len(every) else reads:
            try:
                with at_once("a part"), contextlib.redirect_stderr(io.StringIO()):
                    part()
            except (expkit.Error, AttributeError) as error:  # AttributeError: the configuration has no such key
                assert isinstance(error, expkit.Error) or str(error) in ("exp", "name"), error
        if title in self.known and not first.marks and not is_forged:
            with contextlib.suppress(expkit.Error):  # a file that may not be read is one line
                oof = expkit.load_run(first.run.folder).oof
                assert oof.keys() == self.oof[title].keys()
                assert all((oof[name] == column).all() for name, column in self.oof[title].items()), first


CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def damaged(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes a copy of the sample to be damaged, in the place of the last one."""
    root = tmp_path / "root"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROJECT_ROOT", str(root))
    monkeypatch.setattr("expkit.notes.notes_dir", lambda: root / "notes")

    def make() -> Path:
        for path in list(tmp_path.iterdir()):
            assert not path.name.startswith("pwned"), "git has written a file"
            remove(path)
        copied(sample, root)
        return root

    return make


PER_TEST = 250


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 5))])
def test_damaged_and_foreign_results(sample: Path, damaged: Callable[[], Path], part: int) -> None:
    """Whatever has happened to the files: no traceback, no hang, and no other number without a mark."""
    reader = Reader(sample)
    for seed in range(part * PER_TEST, (part + 1) * PER_TEST) if part else range(20):
        root = damaged()
        done = mutate(root, seed)
        try:
            with unprivileged():
                reader.read(is_forged=not done, count=2)
        except BaseException as error:
            error.add_note(done or f"seed {seed}: forged")
            raise


# What is planted is not executed


def reseal(file: Path, **changes: Any) -> None:
    """Edit a file of ours as someone does who knows the seal."""
    content = {key: value for key, value in json.loads(file.read_text()).items() if key != "checksum"} | changes
    replace(file, sealed(json.dumps(content, indent=2)))


@pytest.fixture
def run_of(sample: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that a test may damage."""
    copied(sample, root)
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(root)
    return root / f"output/{LIGHT}/light,exp.train.x=3"


class Trap:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("pwned"),)


def list_again(file: Path) -> None:
    """Let the result.json beside a file of ours say that it is as it should be."""
    about, result = file.stat(), file.with_name("result.json")
    listed = json.loads(result.read_text())["files"]
    reseal(result, files=listed | {file.name: [about.st_size, about.st_mtime_ns, None]})


def test_a_planted_pickle_is_not_loaded(sample: Path, run_of: Path, root: Path) -> None:
    pickled, reader, file = pickle.dumps(Trap()), Reader(sample), run_of / "fold1/oof.npz"
    for plant in (
        lambda: file.write_bytes(pickled),
        lambda: np.savez(file.open("wb"), id=np.array([Trap()], dtype=object)),
        lambda: zipfile.ZipFile(file, "w").writestr("id.npy", pickled),
    ):
        file.unlink()
        plant()
        list_again(file)
        reader.read(is_forged=True, count=12)
    assert not (root / "pwned").exists()


def test_a_resolver_in_a_configuration_is_text(sample: Path, run_of: Path) -> None:
    reseal(run_of / "run.json", config={"exp": {"name": "${oc.env:SECRET}", "x": "${oc.decode:SECRET}"}})
    (run_of / "config.yaml").unlink()
    (run_of / "config.yaml").write_text(
        "exp: !!python/object/apply:os.system ['touch pwned']\nname: ${oc.env:SECRET}\n"
    )
    Reader(sample).read(is_forged=True)
    assert "${oc.env:SECRET}" in printed("show", str(run_of))
    assert expkit.load_run(run_of).config.exp.name == "${oc.env:SECRET}"
    assert not (run_of.parents[2] / "pwned").exists()


@pytest.mark.parametrize("snapshot", ["--output=pwned", "a" * 40 + "\n", ["x"]])
def test_a_snapshot_is_a_hash(run_of: Path, root: Path, snapshot: Any) -> None:
    """Whatever else stands there never reaches git."""
    git = {"commit": "0" * 40, "dirty": False, "snapshot": snapshot}
    for fold in range(5):
        reseal(run_of / f"fold{fold}/result.json", git=git)
    assert "broken fold0/result.json" in printed("board", "--json")
    printed("diff", "light,exp.train.x=3", "light,exp.n_folds=3,exp.seed=1")
    with pytest.raises(expkit.Error, match="has no finished fold"):
        expkit.reproduce(run_of)
    assert not list(root.rglob("pwned*"))


def test_reproduce_starts_only_what_is_an_experiment_and_a_python(run_of: Path) -> None:
    for fold in range(5):
        file = run_of / f"fold{fold}/origin.json"
        reseal(file, python="3.12 --with evil")
        list_again(file)
    with pytest.raises(expkit.Error, match="its version of Python is not recorded"):
        expkit.reproduce(run_of)
