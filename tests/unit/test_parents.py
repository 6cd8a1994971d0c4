"""The runs that a training has read: recorded, marked when they have changed, refused when it would read itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from experiments import own_experiment
from helpers import environment_of, load
from light import edited, train_py

import expkit
from expkit import store

TRAIN = train_py(
    "reads: list[str] = field(default_factory=list)\nstop: bool = False\nnoise: float = 0.1",
    """
def rmse(oof):
    return float(((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5)


def train(exp, fold):
    from types import SimpleNamespace

    import model

    fold.split(id=model.IDS, y=model.Y)
    for epoch in fold.epochs(2, state=SimpleNamespace(), every=0):
        if epoch == 2 and (expkit.project_root() / "stop").exists():
            raise KeyboardInterrupt
        more = expkit.project_root() / "reads"
        for line in [*exp.train.reads, *(more.read_text().splitlines() if more.exists() else [])]:
            eval(line, {"expkit": expkit, "fold": fold, "model": model})
    (fold.folder / "model.txt").write_text("0.9")
    test = model.Y[:5] * 1.0
    fold.predict(lambda rows: rows * 0.9 + exp.train.noise, model.Y, test=test, test_id=range(5))
    return {"rounds": 3}
""",
    "metric=rmse, greater_is_better=False",
)

MODEL = """
import functools

import numpy as np

import expkit

IDS, Y, KEPT = np.arange(40), np.arange(40) % 7, {}


def load(file):
    return float(file.read_text())


def predict(model, X):
    return model * X


@functools.cache
def oof(run):
    return expkit.load_run(run).oof["prediction"]
"""


@pytest.fixture
def name(root: Path) -> Iterator[str]:
    """An experiment whose trainings evaluate the lines of exp.train.reads."""
    with own_experiment({"train.py": TRAIN, "model.py": MODEL}) as folder:
        (folder / ".gitignore").unlink()  # a snapshot is to have it
        yield folder.name


def trained(name: str, run: str, *reads: str, **values: Any) -> expkit.Run:
    """A run of the experiment, on five folds or as `values` of `exp` say.

    `aside` is one more line that is no part of the configuration.
    """
    overwrite = values.pop("overwrite", False)
    (expkit.project_root() / "reads").write_text(values.pop("aside", ""))
    config = expkit.load_config(name, overrides=["exp.fold=null", f"overwrite={overwrite}"])
    config.exp.name, config.exp.train.reads = run, list(reads)
    for key, value in values.items():
        owner = config.exp.split if key == "seed" else config.exp.train if key == "noise" else config.exp
        setattr(owner, key, value)
    expkit.run(name, config)
    return store.load_run(f"{name}/{run}")


def read_by(run: expkit.Run, fold: int | None = 0) -> dict[tuple[str, ...], tuple[int | None, ...]]:
    """What a fold has recorded: which folds of its parents, by what was read."""
    return {one.read: one.folds for one in (run.fold(fold).result or {}).get("parents", [])}


def marks(run: expkit.Run) -> tuple[str, ...]:
    """As they are now."""
    return store.load_run(run.title).marks


ALL = (0, 1, 2, 3, 4)


# What is recorded


@pytest.mark.parametrize(
    ("line", "recorded"),
    [
        ("expkit.load_run('{}').oof", {("oof",): ALL}),
        ("expkit.load_run('{}').fold_by_fold()", {("oof",): ALL}),
        ("expkit.load_run('{}').fold_by_fold('test.npz')", {("test",): ALL}),
        ("expkit.oof(['{}'])", {("oof",): ALL}),
        ("expkit.mistakes('{}')", {("oof",): ALL}),
        ("expkit.curves(['{}'])", {("history",): ALL}),
        ("expkit.load_run('{}').test(1)", {("test",): (1,)}),
        ("expkit.load_run('{}').history(1)", {("history",): (1,)}),
        ("expkit.load_run('{}').result(1)", {("history",): (1,)}),
        ("expkit.load_run('{}').fold(1)", {("fold",): (1,)}),
        ("expkit.load_run('{}').model(1)", {("fold",): (1,)}),
        ("expkit.load_run('{}').predict(model.Y)", {("fold",): ALL}),
        ("[run.oof for run in expkit.read_board() if run.title == '{}']", {("oof",): ALL}),
        ("fold.uses('{}')", {("files",): ALL}),
        ("expkit.load_run('{}').score", {}),
        ("expkit.load_run('{}').config.exp.train.noise", {}),
        ("expkit.runs()", {}),
    ],
)
def test_what_a_training_reads_is_recorded(name: str, line: str, recorded: dict[Any, Any]) -> None:
    first = trained(name, "first")
    child = trained(name, "child", line.format(first.title), fold=[0])
    assert read_by(child) == recorded
    assert [(one.run, one.id, one.version) for one in child.parents] == (
        [(first.title, first.id, 1)] if recorded else []
    )
    for one in child.parents:
        assert one.results == tuple(first.fold(number).checksum for number in one.folds)


def test_a_cached_reading_counts_for_later_folds(name: str) -> None:
    """But for models: each fold has its own. And a run in memory is read again when its predictions are asked for."""
    first = trained(name, "first")
    child = trained(
        name, "child", f"model.oof('{first.title}')", f"expkit.load_run('{first.title}').model(fold.number)"
    )
    assert read_by(child, 0) == {("oof",): ALL, ("fold",): (0,)}
    assert read_by(child, 3) == {("oof",): ALL, ("fold",): (3,)}
    assert [(one.folds, one.read) for one in child.parents] == [(ALL, ("fold", "oof"))], "one for a person"
    line = f"model.KEPT.setdefault('run', expkit.load_run('{first.title}')).oof"
    assert [read_by(trained(name, run, line, fold=[0])) for run in ("kept", "again")] == [{("oof",): ALL}] * 2


def test_a_run_that_is_read_at_import_is_a_parent_of_every_later_run(name: str) -> None:
    first = trained(name, "first")
    file = expkit.code_root() / f"experiments/{name}/model.py"
    file.write_text(file.read_text() + f"\nOOF = expkit.load_run('{first.title}').oof\n")
    expkit.load_experiment(name, again=True)
    runs = [trained(name, run, fold=[0]) for run in ("one", "two")]
    assert [read_by(run) for run in runs] == [{("oof",): ALL}] * 2
    file.write_text(MODEL)
    expkit.load_experiment(name, again=True)
    assert trained(name, "three", fold=[0]).parents == ()


def test_at_import_of_train_py_as_a_command(name: str, root: Path) -> None:
    first = trained(name, "first")
    file = expkit.code_root() / f"experiments/{name}/train.py"
    with edited(file, "\n\ndef rmse", f"\nOOF = expkit.load_run('{first.title}').oof\n\n\ndef rmse"):
        environment = environment_of(expkit.code_root(), PROJECT_ROOT=str(root))
        call(sys.executable, file, "exp.fold=[0]", "exp.name=child", cwd=root, env=environment)
    assert read_by(store.load_run(f"{name}/child")) == {("oof",): ALL}


def test_a_resumed_training_keeps_what_was_read_before(name: str, root: Path) -> None:
    first = trained(name, "first")
    (root / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        trained(name, "child", aside=f"expkit.load_run('{first.title}').oof", fold=[0])
    (root / "stop").unlink()
    child = trained(name, "child", fold=[0])
    assert read_by(child) == {("oof",): ALL}


def test_debug_runs_and_expkit_itself_record_nothing(name: str, root: Path) -> None:
    first = trained(name, "first")
    trained(name, "first", aside="fold.cv('rounds')", mode=expkit.Mode.sub)
    assert store.load_run(first.title).parents == ()
    config = expkit.load_config(name, overrides=["exp.fold=[0]", "exp.debug=true"])
    config.exp.name, config.exp.train.reads = "child", [f"expkit.load_run('{first.title}').oof"]
    expkit.run(name, config)
    assert "parents" not in load(root / f"output/debug/{name}/child/fold0/result.json")


# Cycles


@pytest.mark.parametrize("line", ["expkit.load_run('{}').oof", "fold.uses('{}')"])
def test_a_run_that_reads_itself_is_refused(name: str, line: str) -> None:
    first = trained(name, "first", fold=[0, 1])
    own = line.format(first.title)
    refusal = f"{first.title} cannot be made from itself: "
    with pytest.raises(expkit.Error, match=f"^{refusal}its training cannot read it$"):
        trained(name, "first", aside=own, overwrite=True, fold=[0])
    with pytest.raises(expkit.Error, match=f"^{refusal}its training cannot read it$"):
        trained(name, "first", aside=own, fold=[2])
    trained(name, "second", own)
    third = trained(name, "third", line.format(f"{name}/second"))
    with pytest.raises(expkit.Error, match=f"^{refusal}{third.title} was made from it$"):
        trained(name, "first", aside=line.format(third.title), overwrite=True, fold=[0])


def test_the_training_on_all_rows_may_read_its_own_folds(name: str) -> None:
    trained(name, "first")
    trained(name, "first", aside=f"expkit.load_run('{name}/first').oof", mode=expkit.Mode.sub)
    assert store.load_run(f"{name}/first").parents == ()
