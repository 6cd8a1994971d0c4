"""The runs that a training has read: recorded, marked when they have changed, refused when it would read itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import call
from experiments import own_experiment
from helpers import environment_of, exp, exp_json, load, refused
from light import edited, train_py
from several import files

import expkit
from expkit import board, code, page, store
from expkit.cli import app
from expkit.files import write_json

TRAIN = train_py(
    "reads: list[str] = field(default_factory=list)\nrows: int = 40\nnoise: float = 0.1",
    """
def rmse(oof):
    return float(((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5)


def train(exp, fold):
    from types import SimpleNamespace

    import model

    X = model.Y[: exp.train.rows]
    fold.split(id=model.IDS[: exp.train.rows], y=X)
    for epoch in fold.epochs(2, state=SimpleNamespace(), every=0):
        if epoch == 2 and (expkit.project_root() / "stop").exists():
            raise KeyboardInterrupt
        more = expkit.project_root() / "reads"
        for line in [*exp.train.reads, *(more.read_text().splitlines() if more.exists() else [])]:
            eval(line, {"expkit": expkit, "fold": fold, "model": model})
    (fold.folder / "model.txt").write_text("0.9")
    test, shift = model.Y[:5] * 1.0, expkit.input_dir() / "shift"
    noise = exp.train.noise + (float(shift.read_text()) if shift.exists() else 0)
    fold.predict(lambda rows: rows * 0.9 + noise, X, test=test, test_id=range(5))
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
def in_snapshots(name: str) -> None:
    """The experiment is in the snapshots of the code."""
    (expkit.code_root() / f"experiments/{name}/.gitignore").unlink()


@pytest.fixture
def name(root: Path) -> Iterator[str]:
    """An experiment whose trainings evaluate the lines of exp.train.reads."""
    with own_experiment({"train.py": TRAIN, "model.py": MODEL}) as folder:
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
        owner = config.exp.split if key == "seed" else config.exp.train if key in ("noise", "rows") else config.exp
        setattr(owner, key, value)
    expkit.run(name, config)
    return store.load_run(f"{name}/{run}")


def test_a_training_takes_no_part_of_a_name(name: str) -> None:
    """Which run it is would depend on what else lies there."""
    trained(name, "first")
    for line in ("expkit.load_run('irst').oof", "expkit.oof(['fir'])", "fold.uses('irst')"):
        with pytest.raises(expkit.Error, match=rf"called f?irs?t? \(a training .* did you mean {name}/first\?"):
            trained(name, "child", line, fold=[0])
    assert trained(name, "child", "fold.uses('first')", fold=[0]).parents
    assert expkit.load_run("irst").title == f"{name}/first", "in a notebook"


def read_by(run: expkit.Run, fold: int | None = 0) -> dict[tuple[str, ...], tuple[int | None, ...]]:
    """What a fold has recorded: which folds of its parents, by what was read."""
    return {one.read: one.folds for one in (run.fold(fold).result or {}).get("parents", [])}


def marks(run: expkit.Run) -> tuple[str, ...]:
    """As they are now."""
    return store.load_run(run.title).marks


ALL = (0, 1, 2, 3, 4)


# What is recorded


RECORDED: dict[str, dict[Any, Any]] = {
    "expkit.load_run('{}').oof": {("oof",): ALL},
    "expkit.load_run('{}').fold_by_fold()": {("oof",): ALL},
    "expkit.load_run('{}').fold_by_fold('test.npz')": {("test",): ALL},
    "expkit.oof(['{}'])": {("oof",): ALL},
    "expkit.mistakes('{}')": {("oof",): ALL},
    "expkit.curves(['{}'])": {("history",): ALL},
    "expkit.load_run('{}').test(1)": {("test",): (1,)},
    "expkit.load_run('{}').history(1)": {("history",): (1,)},
    "expkit.load_run('{}').result(1)": {("history",): (1,)},
    "expkit.load_run('{}').fold(1)": {("fold",): (1,)},
    "expkit.load_run('{}').model(1)": {("fold",): (1,)},
    "expkit.load_run('{}').predict(model.Y)": {("fold",): ALL},
    "[run.oof for run in expkit.read_board() if run.title == '{}']": {("oof",): ALL},
    "fold.uses('{}')": {("files",): ALL},
    "expkit.load_run('{}').score": {},
    "expkit.load_run('{}').config.exp.train.noise": {},
    "expkit.runs()": {},
}


def test_what_a_training_reads_is_recorded(name: str) -> None:
    first = trained(name, "first")
    for number, (line, recorded) in enumerate(RECORDED.items()):
        child = trained(name, f"child{number}", line.format(first.title), fold=[0])
        assert read_by(child) == recorded, line
        parents = [(one.run, one.id, one.version) for one in child.parents]
        assert parents == ([(first.title, first.id, 1)] if recorded else []), line
        for one in child.parents:
            assert one.results == tuple(first.fold(number).checksum for number in one.folds), line


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


def test_a_cached_reading_counts_for_later_runs(name: str) -> None:
    """In one process, as the jobs of a sweep: each reads by itself what a cache of the one before has held."""
    line = f"model.oof('{trained(name, 'first').title}')"
    assert [read_by(trained(name, run, line, fold=[0])) for run in ("one", "two")] == [{("oof",): ALL}] * 2


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


def test_what_experiments_share_is_read_at_import_for_all_of_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(name, "first")
    shared = expkit.code_root() / f"shared_{name[:3]}.py"
    shared.write_text(f"import expkit\n\nOOF = expkit.load_run('{first.title}').oof\n")
    monkeypatch.setattr(code, "USES", {})
    monkeypatch.syspath_prepend(shared.parent)
    try:
        runs = [trained(name, run, f"__import__('{shared.stem}')", fold=[0]) for run in ("one", "two")]
        assert [read_by(run) for run in runs] == [{("oof",): ALL}] * 2
        assert trained(name, "three", fold=[0]).parents, "as with its code, nobody knows who needs it"
    finally:
        shared.unlink()
        del sys.modules[shared.stem]


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


@pytest.mark.parametrize("line", ["load_run('{}').oof", "load_run('{}').predict(model.Y)", "load_run('{}').fold(0)"])
def test_a_run_that_reads_itself_before_a_fold_is_done(name: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Refused once, and not in each fold."""
    refusal = f"{name}/first cannot be made from itself: its training cannot read it"
    with pytest.raises(expkit.Error, match=f"^{refusal}$"):
        trained(name, "first", f"expkit.{line.format(f'{name}/first')}")
    with pytest.raises(expkit.Error, match=f"^{refusal}$"):
        trained(name, "first", f"fold.uses('{name}/first')", overwrite=True)
    assert capfd.readouterr().err.count("error: ") == 0


def test_the_training_on_all_rows_may_read_its_own_folds(name: str) -> None:
    trained(name, "first")
    trained(name, "first", aside=f"expkit.load_run('{name}/first').oof", mode=expkit.Mode.sub)
    assert store.load_run(f"{name}/first").parents == ()


# What has become of them


def test_a_stack_of_two_levels_over_several_runs(name: str) -> None:
    """Each level is marked with what has become of those below it; and what is read again is not."""
    first = [trained(name, f"first{seed}", noise=seed / 10) for seed in range(3)]
    titles = [run.title for run in first]
    stacks = [trained(name, f"stack{size}", f"expkit.oof({titles[:size]})") for size in (2, 3)]
    test = "expkit.load_run('first0').test(fold.number)"
    top = trained(name, "top", f"expkit.oof({[run.title for run in stacks]})", test)
    assert [{parent.run for parent in run.parents} for run in stacks] == [set(titles[:2]), set(titles)]
    assert {parent.run for parent in top.parents} == {stacks[0].title, stacks[1].title, titles[0]}
    assert {run.title for run in top.ancestors} == {*titles, *(run.title for run in stacks)}
    assert [marks(run) for run in (*stacks, top)] == [()] * 3
    trained(name, "first2", noise=0.7, overwrite=True)
    replaced = (f"{titles[2]} has been replaced",)
    assert [marks(run) for run in (*stacks, top)] == [(), replaced, replaced]
    shutil.rmtree(first[1].folder)
    gone = (f"{titles[1]} is gone",)
    assert [marks(run) for run in stacks] == [gone, gone + replaced]
    assert set(marks(top)) == {*gone, *replaced}
    shutil.rmtree(first[0].folder / "fold3")
    trained(name, "first0", noise=0.0)
    assert f"{titles[0]} has changed" in marks(top) and f"{titles[0]} has changed" in marks(stacks[0])
    assert marks(trained(name, "stack9", f"expkit.oof(['{titles[0]}'])")) == ()


def test_the_board_reads_each_run_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = [trained(name, run, fold=[0]).title for run in ("first", "second")]
    for stack in ("stack", "other", "third"):
        trained(name, stack, f"expkit.oof({titles})", fold=[0])
    read: list[Path] = []
    read_run = store.read_run

    def counted(folder: Path, *known: Any) -> expkit.Run:
        read.append(folder)
        return read_run(folder, *known)

    for module in (store.runs, store, board):
        monkeypatch.setattr(module, "read_run", counted)
    assert all(run.marks for run in expkit.read_board())
    assert len(read) == len(set(read)) == 5
    read.clear()
    found = expkit.load_run(f"{name}/stack")
    assert found.marks and found.ancestors and found.made_of == {found.title, *titles}
    assert len(read) == len(set(read)) == 3


def test_what_is_marked_is_seen_everywhere(name: str) -> None:
    first = trained(name, "first")
    child = trained(name, "child", f"expkit.load_run('{first.title}').oof", noise=0.2)
    trained(name, "first", overwrite=True)
    mark = f"{first.title} has been replaced"
    [row] = [row for row in exp_json("board", "--all") if row["run"] == "child"]
    assert row["marks"] == mark
    for words in (["show", "child"], ["diff", "first", "child"], ["submit", "child"]):
        assert mark in " ".join(exp(*words).split()), words
    assert mark in page.labelled_board()["marks"].tolist()
    assert (
        exp_json("diff", "first", "child")["new"]["marks"] == exp_json("submit", "child")["runs"][0]["marks"] == [mark]
    )
    blend = ["blend", "child", "first", "--name", "both"]
    assert f"{child.title}: {mark}" in " ".join(exp(*blend).split())
    assert set(store.load_run("both").marks) == {mark}


def test_out_of_fold_predictions_with_other_folds_are_marked(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    first = trained(name, "first", seed=7)
    line = f"expkit.load_run('{first.title}').oof"
    mark = f"other folds than {first.title}, whose out-of-fold predictions it reads"
    assert trained(name, "same", line, seed=7).marks == ()
    capfd.readouterr()
    assert trained(name, "other", line).marks == (mark,)
    assert f"({mark})" in capfd.readouterr().out, "said when it has been trained"
    assert trained(name, "two", f"expkit.load_run('{name}/other').oof").marks == (f"{name}/other: {mark}",)
    assert trained(name, "part", line, seed=7, fold=[1]).marks == ("partial",)
    few = trained(name, "few", seed=7, fold=[0])
    fewer = trained(name, "fewer", f"expkit.load_run('{few.title}').oof", seed=7, fold=[1])
    assert fewer.marks == ("partial", f"{few.title}: partial"), "nobody knows the folds that are missing"
    assert trained(name, "ten", line, n_folds=10, fold=list(range(10))).marks == (mark,)


def test_other_folds_of_an_experiment_that_splits_by_itself(root: Path) -> None:
    """Its rows are those that it predicts."""
    with own_experiment(files("price", "exp.seed and expkit.load_run('light,exp.n_folds=2').oof")) as folder:
        for overrides in (["exp.n_folds=2"], ["exp.seed=1"], ["exp.seed=2", "exp.n_folds=2"]):
            expkit.run(folder.name, overrides=overrides)
    parent, other, same = (
        expkit.load_run(f"light,{name}") for name in ("exp.n_folds=2", "exp.seed=1", "exp.n_folds=2,")
    )
    assert other.marks == (f"other folds than {parent.title}, whose out-of-fold predictions it reads",)
    assert same.marks == () and same.parents


def test_fold_cv_needs_parents_that_are_as_they_were(name: str) -> None:
    """Other folds are no reason: its own folds are as they are."""
    first = trained(name, "first", seed=7)
    line = f"expkit.load_run('{first.title}').oof"
    assert trained(name, "child", line).marks
    trained(name, "child", line, aside="fold.cv('rounds')", mode=expkit.Mode.sub)
    shutil.rmtree(store.load_run("child").folder / "full")
    trained(name, "first", seed=7, overwrite=True)
    with pytest.raises(expkit.Error, match=f"{first.title} has been replaced: train its folds again first"):
        trained(name, "child", line, aside="fold.cv('rounds')", mode=expkit.Mode.sub)


def test_the_model_of_another_fold_is_marked(name: str) -> None:
    first = trained(name, "first")
    trained(name, "first", mode=expkit.Mode.sub)
    mark = (f"{first.title} was trained on rows that are scored here",)
    found = {
        what: trained(name, what, f"expkit.load_run('{first.title}').{line}").marks
        for what, line in {
            "same": "model(fold.number)",
            "next": "model((fold.number + 1) % 5)",
            "all": "model(None)",
            "mean": "predict(model.Y)",
            "test": "test(fold.number)",
            "other-test": "test(0)",
            "every-test": "fold_by_fold('test.npz')",
            "curve": "history(0)",
        }.items()
    }
    honest = dict.fromkeys(("same", "test", "curve"), ())
    assert found == dict.fromkeys(found, mark) | honest
    files = trained(name, "files", f"fold.uses('{first.title}')")
    assert files.marks == () and read_by(files) == {("files",): (*ALL, None)}


def test_a_row_less_hides_no_leak(name: str) -> None:
    """What counts are the rows that both have: the same id, and the same target."""
    first = trained(name, "first")
    trained(name, "first", mode=expkit.Mode.sub)
    load = f"expkit.load_run('{first.title}')."
    for what, line in (("all", "model(None)"), ("fold", "model(fold.number)"), ("mean", "predict(model.Y)")):
        child = trained(name, what, load + line, rows=39)
        assert child.marks == (f"{first.title} was trained on rows that are scored here",), what
    child = trained(name, "oof", f"{load}oof", rows=39)
    assert child.marks == (f"other folds than {first.title}, whose out-of-fold predictions it reads",)
    with own_experiment({"train.py": TRAIN, "model.py": MODEL.replace("% 7", "% 7 + 9")}) as other:
        lines = (f"{load}model(None)", f"{load}oof")
        assert trained(other.name, "first", *lines, rows=39).marks == (), "other data, numbered alike"
    with own_experiment({"train.py": TRAIN, "model.py": MODEL.replace("% 7", "% 7 * 1.0")}) as other:
        assert len(trained(other.name, "first", *lines, rows=39).marks) == 2, "the same numbers, as another type"


def test_a_leak_is_never_the_best(name: str) -> None:
    """Nor is what was made from it; and it is not counted among those that were tried."""
    first = trained(name, "first")
    leaky = trained(name, "leaky", f"expkit.load_run('{first.title}').predict(model.Y)", noise=0.3)
    [mark] = leaky.marks
    assert leaky.leaks == (mark,)
    above = trained(name, "above", f"expkit.load_run('{leaky.title}').oof", noise=0.25)
    assert above.leaks == above.marks == (f"{leaky.title}: {mark}",)
    rows = {one.run.name: (one.versus_best, one.versus_runs) for one in board.ranked(board.read_board(), noise=True)}
    assert rows == {"first": ("best", 1), "leaky": ("not comparable", None), "above": ("not comparable", None)}
    for pair in (("first", "leaky"), ("leaky", "first")):
        assert exp_json("diff", *pair)["comparison"] == {
            "verdict": "not comparable",
            "reason": f"{leaky.title}: {mark}",
        }
    assert f"\nverdict: not comparable: {leaky.title}: {mark}\n" in exp("diff", "first", "leaky")
    refusal = f"{leaky.title}: {mark}: hill would choose it for that, leave it out"
    assert refused("blend", first.title, leaky.title, "--method", "hill").split("\n")[-1] == refusal
    blend = exp_json("blend", first.title, leaky.title)["run"]
    printed = " ".join(exp("blend", first.title, leaky.title).split())
    assert f"than the best of its runs, {leaky.title}: " in printed and f" ({mark})" in printed
    assert expkit.load_run(blend).leaks == (f"{leaky.title}: {mark}",)


def test_a_leak_stays_when_the_parent_is_trained_again(name: str, root: Path) -> None:
    """It is a fact of the child's own record; a record without it is held against the parent as it is now."""
    first, other = trained(name, "first", seed=7), trained(name, "other", noise=0.3)
    trained(name, "other", noise=0.3, mode=expkit.Mode.sub)
    lines = f"expkit.load_run('{first.title}').oof", f"expkit.load_run('{other.title}').model(None)"
    child = trained(name, "child", *lines)
    leaks = (
        f"other folds than {first.title}, whose out-of-fold predictions it reads",
        f"{other.title} was trained on rows that are scored here",
    )
    assert child.leaks == leaks
    hill = exp_json("blend", other.title, first.title, "--method", "hill")["run"]
    assert expkit.load_run(hill).leaks == (leaks[0],)
    for fold in ALL:
        file = child.folder / f"fold{fold}/result.json"
        result = load(file)
        older = [
            {key: value for key, value in one.items() if key not in ("left_out", "dataset")}
            for one in result["parents"]
        ]
        write_json(file, result | {"parents": older})
        assert store.load_run(child.title).leaks == leaks
        write_json(file, result)
    trained(name, "first", overwrite=True)
    shutil.rmtree(other.folder)
    assert store.load_run(child.title).leaks == leaks
    assert marks(child) == (*leaks, f"{first.title} has been replaced", f"{other.title} is gone")
    assert expkit.load_run(hill).leaks == (leaks[0],)


def test_the_test_predictions_of_a_blend(name: str) -> None:
    """They are one for all folds, and made of all folds."""
    titles = [trained(name, run, noise=noise).title for run, noise in (("first", 0.1), ("second", 0.4))]
    blend = exp_json("blend", *titles, "--name", "both")["run"]
    child = trained(name, "child", f"expkit.load_run('{blend}').test(None)")
    assert child.leaks == (f"{blend} was trained on rows that are scored here",)
    found = store.load_run(blend)
    with pytest.raises(
        expkit.Error, match=r"^fold 0 of .*both has no predictions of the test set: .*run.test\(None\)$"
    ):
        [found.test(number) for number in found.done]


# When a parent is trained again


def test_a_stale_run_says_so_when_it_is_asked_for(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Also one whose folds have read several versions; which ones is in the tree."""
    first = trained(name, "first")
    line = f"expkit.load_run('{first.title}').oof"
    trained(name, "child", line, fold=[0])
    again = trained(name, "first", overwrite=True)
    capfd.readouterr()
    trained(name, "child", line, fold=[0])
    assert f"fold 0 is done\nCV rmse 0.3240  1/5 folds  ({first.title} has been replaced)\n" in capfd.readouterr().out
    trained(name, "child", line)
    assert f"5/5 folds  ({first.title} has been replaced)\n" in capfd.readouterr().out
    by = {node["id"]: (node["state"], node["by"]) for node in exp_json("show", "child")["parents"]}
    assert by == {first.id: ("replaced", [0]), again.id: ("ok", [1, 2, 3, 4])}
    shown = exp("show", "child")
    assert "oof of 5 folds, by fold 0, has been replaced\n" in shown
    assert "oof of 5 folds, by fold 1, fold 2, fold 3, fold 4\n" in shown
    trained(name, "child", line, overwrite=True)
    assert ", by fold" not in exp("show", "child")


def test_a_fold_that_is_kept_keeps_its_parents(name: str) -> None:
    """By overwrite=true of another fold alone."""
    line = f"expkit.load_run('{trained(name, 'first').title}').oof"
    trained(name, "child", line, fold=[0, 1])
    child = trained(name, "child", line, fold=[0], overwrite=True)
    assert read_by(child, 1) == {("oof",): ALL} and child.marks == ("partial",)
    write_json(child.folder / "fold1/result.json", {**load(child.folder / "fold1/result.json"), "scores": {}})
    store.score_result(store.read_fold(child.folder, 1, str(child.id)), {"rmse": 1.0})
    assert read_by(store.load_run(child.title), 1) == {("oof",): ALL}, "also a fold that is scored later"


def test_weights_of_a_blend_with_other_folds(name: str) -> None:
    """Only by hill any are fitted."""
    titles = [trained(name, "first", seed=7).title, trained(name, "second", noise=0.3).title]
    made = {method: exp_json("blend", *titles, "--method", method)["run"] for method in ("mean", "hill", "rank")}
    mark = f"other folds than {titles[1]}, whose out-of-fold predictions it reads"
    found = {method: expkit.load_run(run).marks for method, run in made.items()}
    assert found == {"mean": (), "rank": (), "hill": (mark,)}


def test_a_blend_is_marked_when_its_test_predictions_are_of_another_training(root: Path) -> None:
    more = "fold.number is None and fold.save_test({'id': [1], 'prediction': [exp.seed]})"
    with own_experiment(files("price", more)) as folder:
        for seed in ("exp.seed=1", "exp.seed=2"):
            for mode in ("exp.mode=cv", "exp.mode=sub"):
                expkit.run(folder.name, overrides=["exp.train.test=false", seed, mode])
        one, other = expkit.read_board()
        blend = exp_json("blend", one.title, other.title)["run"]
        assert marks(expkit.load_run(blend)) == ()
        shutil.rmtree(other.folder / "full")
        assert marks(expkit.load_run(blend)) == (f"{other.title} has changed",)


# Made again


@pytest.mark.usefixtures("in_snapshots")
def test_a_run_is_made_again_from_its_parents(name: str) -> None:
    first = trained(name, "first")
    stack = trained(name, "stack", f"model.oof('{first.title}')", fold=[0, 1])
    above = trained(name, "above", f"expkit.load_run('{stack.title}').model(fold.number)", fold=[0])
    assert exp("reproduce", above.title).strip() == "identical"
    made = exp_json("reproduce", above.title, "--parents")
    assert made["identical"] and list(made["parents"]) == [first.title, stack.title]
    assert made["parents"][first.title] == {"folds": [*ALL], "differences": [], "reasons": [], "parents": {}}
    before = store.load_run(first.title).folder
    shutil.move(before, before.with_name("moved"))
    assert exp("reproduce", above.title).strip() == "identical"
    how = "overwrite=true trains it again, from what is there then"
    line = f"{stack.title} cannot be made again from what is there: {first.title} is gone: {how}"
    assert refused("reproduce", above.title, "--parents") == refused("reproduce", stack.title) == line
    trained(name, "first")
    assert refused("reproduce", stack.title).endswith(f"{first.title} has been replaced: {how}")


@pytest.mark.usefixtures("in_snapshots")
def test_a_later_version_is_linked_and_names_stay_apart(name: str, root: Path) -> None:
    """The child has the name of its parent in exp.name."""
    trained(name, "light")
    first = trained(name, "light", overwrite=True)
    assert first.folder.name == "light@2"
    reads = f"exp.train.reads=[\"expkit.load_run('{first.title}').oof\"]"
    expkit.run(name, overrides=["exp.fold=[0,3]", "exp.train.noise=0.5", reads])
    [child] = [run for run in expkit.read_board() if run.title != first.title]
    assert child.parents[0].version == 2 and exp("reproduce", child.title).strip() == "identical"
    assert exp("reproduce", child.title, "--parents").split("\n")[0] == f"{first.title}: identical"


@pytest.mark.usefixtures("in_snapshots")
def test_a_run_that_began_from_another_is_made_again(name: str) -> None:
    first = trained(name, "first", fold=[0])
    trained(name, "first", mode=expkit.Mode.sub)
    child = trained(name, "longer", fold=[0], start_from=first.title)
    assert read_by(child) == {("state",): (0,)} and child.marks == ("partial", f"{first.title}: partial")
    assert exp_json("reproduce", child.title, "--parents")["identical"]


@pytest.mark.usefixtures("in_snapshots")
def test_the_training_on_all_rows_of_a_parent_is_made_again(name: str) -> None:
    first = trained(name, "first", fold=[0])
    trained(name, "first", mode=expkit.Mode.sub)
    child = trained(name, "child", f"expkit.load_run('{first.title}').model(None)", fold=[0])
    assert exp_json("reproduce", child.title, "--parents")["identical"]


@pytest.mark.usefixtures("in_snapshots")
def test_what_differs_is_said_of_each(name: str, root: Path) -> None:
    first = trained(name, "first", fold=[0])
    child = trained(name, "child", "fold.uses('first')", fold=[0], noise=0.2)
    (root / "input/shift").write_text("1")
    result = CliRunner().invoke(app, ["reproduce", child.title, "--parents"])
    assert result.exit_code == 1
    why = ["fold 0: rmse 0.", "fold 0: 8 of 8 rows", "the data has changed since: shift is new"]
    for line, start in zip(
        result.output.splitlines(), [*(f"{first.title}: {each}" for each in why), *why], strict=True
    ):
        assert line.startswith(start)
    assert not expkit.reproduce(child.title).identical
    same, other = expkit.Reproduction([0], [], []), expkit.Reproduction([0], ["fold 0: ..."], [])
    assert same.identical and not expkit.Reproduction([0], [], [], {"first": same, "second": other}).identical


@pytest.mark.usefixtures("in_snapshots")
def test_a_blend_is_made_again(name: str) -> None:
    titles = [trained(name, run, noise=noise).title for run, noise in (("first", 0.1), ("second", 0.4))]
    blend = exp_json("blend", *titles, "--method", "hill", "--name", "both")["run"]
    assert exp("reproduce", blend).strip() == "identical"
    made = exp_json("reproduce", blend, "--parents")
    assert made["identical"] and list(made["parents"]) == titles and made["folds"] == [*ALL]
