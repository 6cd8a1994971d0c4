"""A run is replaced as a whole or not at all, and never mixed with another. In this process; threads are commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Background, command
from experiments import own_experiment
from helpers import counting, folders, results, tree
from light import LIGHT, wait_for
from omegaconf import OmegaConf

import expkit
from expkit import store
from expkit.config import changes, container, differences, flat

RUN = f"output/{LIGHT}/light"


def predictions(folder: Path) -> dict[int, float]:
    return {number: fold.predictions()["prediction"][0] for number, fold in store.read_run(folder).done.items()}


def fail_first_fold(root: Path) -> None:
    """A run is there, and nothing in it is done."""
    (root / "control/fail0").touch()
    with pytest.raises(ValueError, match="planted"):
        command("exp.fold=[0]").train()
    (root / "control/fail0").unlink()


# One command after the other


def test_constructing_a_run_writes_nothing(root: Path) -> None:
    command()
    command("overwrite=true")
    assert sorted(root.rglob("*")) == [root / "control", root / "input"]
    command("exp.fold=[0]").train()
    before = tree(root)
    command()
    command("overwrite=true")
    command("overwrite=true", x=10)
    assert tree(root) == before


def test_another_configuration_is_refused_and_touches_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until overwrite=true: then no fold of the old one stays, which is said before."""
    command("exp.fold=[0,1]").train()
    before = tree(root)
    with pytest.raises(expkit.Error, match=r"exp\.train\.x: 0\.0 → 10.*overwrite=true"):
        command("exp.fold=[0]", x=10)
    assert tree(root) == before
    assert command("exp.fold=[0]", "overwrite=true", x=10).train() == 9.0
    assert "2 folds of the old configuration are removed when the new one is done" in capsys.readouterr().err
    assert predictions(counting(root)) == {0: 9.0}
    assert len(folders(root)) == 1


# What is another configuration


def recorded(config: Any, **changes: object) -> dict[str, Any]:
    """A configuration as a run has it, with other values for some keys of `exp.train`."""
    exp = container(config.exp)
    return {"exp": exp | {"train": exp["train"] | changes}}


def test_every_key_is_compared_but_those_that_change_no_result() -> None:
    config, experiment = expkit.load_config(LIGHT, ["exp.fold=[0]"]), expkit.load_experiment(LIGHT).experiment
    for key in flat(recorded(config)):
        other = OmegaConf.create(recorded(config))
        OmegaConf.update(other, key, "another")
        changed = differences(OmegaConf.to_container(other), config, experiment)
        named = ("exp.name", "exp.fold", "exp.debug", "exp.mode", "exp.time_limit")
        is_free = key in named or key.startswith("exp.runtime.")
        assert bool(changed) != is_free, key


@pytest.mark.parametrize("default", ["0.0", "0"])  # a whole number is a default of a float, too
def test_a_parameter_that_is_new_locks_nothing_at_its_default(default: str) -> None:
    """The dataclass has a field that the recorded configuration lacks."""
    with own_experiment(copy_of=LIGHT) as folder:
        text = (folder / "train.py").read_text()
        (folder / "train.py").write_text(text.replace("x: float = 0.0", f"x: float = {default}"))
        config, experiment = expkit.load_config(folder.name), expkit.load_experiment(folder.name).experiment
        old = recorded(config)
        del old["exp"]["train"]["x"]
        assert differences(old, config, experiment) == [] and changes({}, config, experiment) == {}
        config.exp.train.x = 10
        assert differences(old, config, experiment) == [f"exp.train.x: {default} → 10"]


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (1, "1"), ({"a.b": 1}, {"a": {"b": 1}})])
def test_values_of_another_type_are_other_values(one: object, other: object) -> None:
    config, experiment = expkit.load_config(LIGHT), expkit.load_experiment(LIGHT).experiment
    config.exp.train.anything = one
    assert differences(recorded(config), config, experiment) == []
    assert differences(recorded(config, anything=other), config, experiment)


# Versions


def test_folds_that_are_not_asked_for_are_kept(root: Path) -> None:
    """With overwrite=true and the same configuration; so is the training on all rows."""
    command().train()
    command("exp.mode=sub").train()
    first = store.read_run(counting(root))
    command("exp.fold=[0]", "overwrite=true").train()
    second = store.read_run(counting(root))
    assert (second.is_complete, second.marks, second.score_of()) == (True, (), first.score_of())
    assert second.folder != first.folder and folders(root) == [second.folder.name]
    values = {number: (first.results[number]["values"], second.results[number]["values"]) for number in range(5)}
    assert {number for number, (old, new) in values.items() if old == new} == {1, 2, 3, 4}
    assert second.full is not None and second.full.result is not None


def test_a_fold_that_fails_while_overwriting_keeps_the_old_run(root: Path) -> None:
    """The same command trains only what is missing, and then the new version counts."""
    command("exp.fold=[0,1,2]").train()
    before = tree(root / RUN)
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error, match="failed: fold 1; .*; the old results stay until then"):
        command("exp.fold=[0,1,2]", "overwrite=true").train()
    assert counting(root) == root / RUN
    assert tree(root / RUN) == before

    (root / "control/fail1").unlink()
    trained: list[int | None] = []
    command("exp.fold=[0,1,2]", "overwrite=true", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [1]
    assert folders(root) == ["light@2"] and list(results(root)) == [0, 1, 2]


def test_an_unfinished_version_of_other_code_does_not_go_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """overwrite=true has failed after a fold, the code was mended: a third version, of one code."""
    command("exp.fold=[0,1]").train()
    (root / "control/fail1").touch()
    with pytest.raises(expkit.Error, match="failed: fold 1"):
        command("exp.fold=[0,1]", "overwrite=true").train()
    (root / "control/fail1").unlink()
    monkeypatch.setattr("expkit.rundir.changed_code", lambda *_: ["model.py"])
    trained: list[int | None] = []
    command("exp.fold=[0,1]", "overwrite=true", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [0, 1] and folders(root) == ["light@3"]


def test_a_run_without_a_result_is_taken_over(root: Path) -> None:
    """Its first fold failed, config.yaml was edited: there is nothing to lose, and no overwrite=true to ask for."""
    fail_first_fold(root)
    late = command("exp.fold=[0]", x=1)
    assert command("exp.fold=[0]", x=10).train() == 9.0
    assert predictions(counting(root)) == {0: 9.0} and len(folders(root)) == 1
    with pytest.raises(expkit.Error, match="another configuration"):  # by now, there is a result
        late.train()


def test_a_run_with_a_damaged_result_is_not_taken_over(root: Path) -> None:
    command("exp.mode=sub").train()
    result = counting(root) / "full/result.json"
    result.write_bytes(result.read_bytes()[:-20])
    with pytest.raises(expkit.Error, match="another configuration"):
        command("exp.mode=sub", x=10)


def test_who_takes_over_a_run_has_it_at_once(root: Path) -> None:
    """Nobody can train in the old version meanwhile, and lose it without having asked for overwrite=true."""
    fail_first_fold(root)
    with Background("exp.fold=[0]", x=10, stays_in=0) as new:
        with pytest.raises(expkit.Error, match="another configuration"):
            command("exp.fold=[0]")
        assert new.finish() == 9.0


def test_a_deleted_version_does_not_lend_its_number_to_an_unfinished_one(root: Path) -> None:
    """`rm -r output/*/*` leaves what is hidden; a pointer to a version that is gone must not mean a new one."""
    command("exp.fold=[0]").train()
    command("exp.fold=[0]", "overwrite=true").train()
    for folder in folders(root):
        (root / "output" / LIGHT / folder).rename(root / folder)
    command("exp.fold=[0]").train()
    first = counting(root)
    with Background("exp.fold=[0]", "overwrite=true", stays_in=0) as second:
        assert counting(root) == first
        second.finish()
    assert counting(root) == second.folder


def test_without_exp_fold_all_folds_are_trained(root: Path) -> None:
    """Those of the n_folds of this configuration, and not of the dataclass's own."""
    assert expkit.load_config(LIGHT, ["exp.n_folds=10"]).exp.fold == list(range(10))
    assert expkit.load_config("001-baseline", ["exp.fold=null", "exp.n_folds=3"]).exp.fold == [0, 1, 2]


# Several commands at once


def test_the_old_run_counts_until_the_new_one_is_whole(root: Path) -> None:
    command("exp.fold=[0,1,2]").train()
    before = tree(root / RUN)
    with Background("exp.fold=[0,1,2]", "overwrite=true", x=10, stays_in=2) as new:
        assert len(store.read_run(new.folder).done) == 2
        assert counting(root) == root / RUN
        assert tree(root / RUN) == before
        [row] = expkit.read_board()
        assert (row.score, row.marks) == (10.0, ("partial",))
        new.finish()
    assert counting(root) == new.folder
    assert predictions(new.folder) == {0: 9.0, 1: 9.0, 2: 9.0}


def test_two_commands_that_replace_the_same_run_share_the_work(root: Path) -> None:
    """Each fold is trained once, the second waits for the first, and both end with the new run."""
    command("exp.fold=[0,1,2]").train()
    with (
        Background("exp.fold=[0,1,2]", "overwrite=true", x=10, stays_in=1) as first,
        Background("exp.fold=[0,1,2]", "overwrite=true", x=10) as second,
    ):
        wait_for(lambda: second.trained == [2])
        assert counting(root) == root / RUN
        assert (first.finish(), second.finish()) == (9.0, 9.0)
    assert (first.trained, second.trained) == ([0, 1], [2])
    assert first.folder == second.folder == counting(root)
    assert folders(root) == ["light@2"]


def test_who_trains_in_a_replaced_run_is_told_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is deleted under it; its folder goes with the next command."""
    command("exp.fold=[0]").train()
    with Background("exp.fold=[1,2]", stays_in=1) as late:
        command("exp.fold=[0]", "overwrite=true").train()
        assert (late.folder / "fold1").is_dir() and store.read_run_info(late.folder) is not None
        assert counting(root) == root / f"{RUN}@2"
        with pytest.raises(expkit.Error, match=r"light has been removed or replaced while"):
            late.finish()
    assert capsys.readouterr().err == "", "the error is all"
    assert not (late.folder / "fold1" / store.RESULT).exists()
    command("exp.fold=[0,1]").train()
    assert folders(root) == ["light@2"] and list(results(root)) == [0, 1]


@pytest.mark.parametrize("first_to_end", ["A", "B"])
def test_two_overwrites_of_different_configurations(root: Path, first_to_end: str) -> None:
    """A trains, config.yaml is edited, B starts: nothing of A vanishes, and neither holds a fold of the other."""
    command("exp.fold=[0,1,2]").train()
    both = "exp.fold=[0,1]", "overwrite=true"
    with Background(*both, x=10, stays_in=1) as a:
        fold = tree(a.folder / "fold0")
        with Background(*both, x=1, stays_in=1) as b:
            assert len({a.folder, b.folder, counting(root)}) == 3
            assert tree(a.folder / "fold0") == fold
            if first_to_end == "B":
                assert b.finish() == 10.0
                assert tree(a.folder / "fold0") == fold
                with pytest.raises(expkit.Error, match="has been removed or replaced while"):
                    a.finish()
            else:
                assert a.finish() == 9.0
                assert predictions(counting(root)) == {0: 9.0, 1: 9.0}
                assert b.finish() == 10.0
    assert counting(root) == b.folder
    assert predictions(b.folder) == {0: 10.0, 1: 10.0}


def test_a_folder_that_is_deleted_while_it_trains(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line; no later fold is written where nobody knows of which configuration it is."""
    with Background("exp.fold=[0,1]", stays_in=0) as command_:
        command_.folder.rename(root / "deleted")
        with pytest.raises(expkit.Error, match="has been removed or replaced while this command trained: run it again"):
            command_.finish()
    assert capsys.readouterr().err == ""
    assert folders(root) == []
    assert command_.trained == [0]


def test_debug_runs_at_once_leave_each_other_alone(root: Path) -> None:
    """Each begins anew, and clears what earlier ones left, not what is being trained."""
    command("exp.debug=true").train()
    with Background("exp.debug=true", stays_in=0) as first:
        command("exp.debug=true").train()
        assert (first.folder / "fold0").is_dir()
        assert first.finish() == 10.0
    command("exp.debug=true").train()
    assert [path.name for path in (root / f"output/debug/{LIGHT}").glob("[!.]*")] == ["light"]
    assert not (root / "output" / LIGHT).exists()
