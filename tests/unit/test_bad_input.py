"""Bad input: one line that names the key, a non-zero exit code, and nothing written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command, call
from experiments import own_experiment
from helpers import assert_refused
from light import LIGHT

import expkit


@pytest.mark.parametrize(
    ("argument", "mentions"),
    [
        ("exp=003", "there is no exp/003.yaml"),
        ("exp=01", "did you mean 001?"),
        ("exp=7", "there is no exp/7.yaml"),
        ("exp=1e3", "there is no exp/1e3.yaml"),
        ("exp.flod=[0]", "there is no key exp.flod; did you mean exp.fold?"),
        ("exp.train.lerning_rate=1", "there is no key exp.train.lerning_rate; did you mean exp.train.learning_rate?"),
        ("+exp.train.dropout=0.1", "there is no key exp.train.dropout"),
        ("foo=1", "there is no key foo"),
        ("exp.train.epochs=many", "exp.train.epochs must be a whole number, not 'many'\n"),
        ("exp.train.epochs=1.5", "exp.train.epochs must be a whole number, not '1.5'\n"),
        ("exp.train.learning_rate=low", "exp.train.learning_rate must be a number, not 'low'\n"),
        ("exp.debug=tru", "exp.debug must be true or false, not tru"),
        ("exp.train.epochs=???", "exp.train.epochs has no value"),
        ("show_config=tru", "show_config"),
        ("exp.fold=[5]", "exp.fold must be from 0 to 4"),
        ("exp.fold=[0,1,0]", "exp.fold names a fold twice"),
        ("exp.fold=[]", "exp.fold must name at least one fold"),
        ("exp.fold=[0", "exp.fold=[0"),
        ("exp.fold=0,1", "exp.fold=0,1: a list is written"),
        ("exp.n_folds=0", "exp.n_folds must be at least 1 and at most 10000, not 0\n"),
        ("exp.split.holdout=1", "exp.split.holdout must be above 0 and below 1, not 1.0\n"),
        (
            "exp.split={method:stratified_group,holdout:0.6}",
            "exp.split.holdout must be at most 0.5 with exp.split.method=",
        ),
        ("exp.split.gap=1", "exp.split.gap=1 is only for exp.split.method=time"),
        ("exp.split.test_size=28", "is only for exp.split.method=time and time_group: set it to null"),
        ("exp.split.min_train_size=2", "is only for exp.split.method=time and time_group: set it to 1"),
        ("exp.split.method=column", "exp.split.method=column needs exp.split.file"),
        ("exp.split.file=../folds.csv", "exp.split.file is a CSV file below input/"),
        ("exp.split.method=groups", "exp.split.method: Invalid value 'groups', expected one of [kfold, stratified"),
        ("exp.train.epochs=0", "exp.train.epochs must be at least 1"),
        ("exp.train.learning_rate=nan", "exp.train.learning_rate must be above 0"),
        ("exp.name=", "exp.name"),
        ("exp.name=a/b", "exp.name"),
        ("exp.name=???", "exp.name has no value"),
        ("exp.name=${nope}", "exp.name: Interpolation key 'nope' not found"),
        ("exp.name='a\nb'", "exp.name"),
        ("exp.name=002-larger-model", "exp/002.yaml has the name '002-larger-model' too"),
    ],
)
def test_command_line(train: Command, root: Path, argument: str, mentions: str) -> None:
    assert_refused(train(argument), mentions, root, 3 if argument.startswith("exp=") else 2)


@pytest.mark.parametrize("name", ["../../evil", "..", "/evil", "a/b", "'../evil'", "001,../evil"])
def test_a_parameter_set_elsewhere(train: Command, root: Path, name: str) -> None:
    assert_refused(train(f"exp={name}"), "a parameter set is a file of exp/, named without its folder", root, 2)


@pytest.mark.parametrize("choice", ["exp=001", "exp=001,002"])
def test_a_sweep_is_not_shown(train: Command, root: Path, choice: str) -> None:
    line = "-m has many configurations: leave show_config=true out, or -m, and give each key one value\n"
    assert_refused(train("-m", choice, "show_config=true"), line, root)


def test_a_setting_of_hydra(root: Path) -> None:
    """Without one, Hydra's groups are not composed; a wrong one is refused all the same."""
    wrong = pytest.raises(expkit.Error, match="there is no key hydra.launcher.n_jbos")
    with own_experiment(copy_of=LIGHT) as folder:
        with wrong:
            expkit.load_config(folder.name, ["hydra.launcher.n_jbos=1"])
        file = folder / "config.yaml"
        file.write_text(f"{file.read_text()}\nhydra:\n  launcher:\n    n_jbos: 1\n")
        with wrong:
            expkit.load_config(folder.name)


def test_a_flag_that_is_none_is_no_short_one(train: Command, root: Path) -> None:
    """--exp is not --experimental-rerun, which would train the base values."""
    assert_refused(train("--exp", "001", "show_config=true"), "there is no flag --exp: a value", root)
    assert_refused(train("--config-name", "x"), "'x'", root)


@pytest.fixture(scope="module")
def own() -> Iterator[Path]:
    """A copy of the baseline."""
    with own_experiment(copy_of="001-baseline") as folder:
        yield folder


@pytest.fixture
def parameter_file(own: Path) -> Iterator[Path]:
    file = own / "exp/666.yaml"
    yield file
    file.unlink()


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("name: x\ntrain: {epochs: many}", "exp/666.yaml: exp.train.epochs"),
        ("name: x\nmode: foo", "exp/666.yaml: exp.mode: Invalid value 'foo'"),
        ("name: [x", "666.yaml, line 2"),
        ("defaults: [nothing]", "exp/666.yaml: Could not load 'exp/nothing'"),
        ("defaults: [666]", "Unsupported type in defaults : int: quote a name such as '001'"),
        ("- a list", "exp/666.yaml"),
        ("train: {epochs: 3}", "config.yaml has the name 'baseline' too"),
        ("name: 001-larger-lr", "exp/001.yaml has the name '001-larger-lr' too"),
    ],
)
def test_parameter_file(train: Command, root: Path, parameter_file: Path, text: str, mentions: str) -> None:
    parameter_file.write_text(text + "\n")
    assert_refused(train("exp=666", experiment=parameter_file.parents[1].name), mentions, root)


def test_a_file_that_is_no_utf_8(train: Command, root: Path, parameter_file: Path) -> None:
    parameter_file.write_bytes("name: é\n".encode("latin-1"))
    name, config = parameter_file.parents[1].name, parameter_file.parents[1] / "config.yaml"
    assert_refused(train("exp=666", experiment=name), "exp/666.yaml is no UTF-8", root)
    before = config.read_bytes()
    config.write_bytes(before + "# é\n".encode("latin-1"))
    assert_refused(train(experiment=name), "config.yaml is no UTF-8", root)
    config.write_bytes(before)


@pytest.mark.parametrize("text", ["name: [x", "- a list", "train: {epochs: many}", "\0"])
def test_a_broken_parameter_file_is_in_nobody_elses_way(
    train: Command, root: Path, parameter_file: Path, text: str
) -> None:
    parameter_file.write_text(text)
    done = train("exp=001", "exp.debug=true", experiment=parameter_file.parents[1].name)
    assert done.code == 0 and "1/5 folds" in done.out, done


def test_the_familiar_header_changes_nothing(train: Command, root: Path, parameter_file: Path) -> None:
    parameter_file.write_text("defaults:\n- default@_here_\n\nname: x\n")
    own = parameter_file.parents[1].name
    shown = train("exp=666", "show_config=true", experiment=own)
    assert shown == train("exp.name=x", "show_config=true", experiment=own) and shown.code == 0


@pytest.mark.parametrize("arguments", [["show_config=true"], ["-m", "exp=001,002"]])
def test_project_root_that_is_not_there(
    train: Command, root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("PROJECT_ROOT", str(root / "nowhere"))
    assert_refused(train(*arguments), "PROJECT_ROOT", root)


def test_output_that_is_a_file(train: Command, root: Path) -> None:
    (root / "output").write_text("mine")
    done = train(experiment=LIGHT)
    assert (done.code, done.out) == (2, "")
    assert "a file, or a link to nothing, is in the way" in done.err.splitlines()[-1]
    assert (root / "output").read_text() == "mine"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write to, not even root: a small filesystem of its own."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    if (
        not shutil.which("mount")
        or call("mount", "-t", "tmpfs", "-o", "ro", "none", folder, cwd=tmp_path, check=False).returncode
    ):
        pytest.skip("this machine does not let root mount a filesystem")
    yield folder
    call("umount", folder, cwd=tmp_path)


@pytest.mark.parametrize("arguments", [["exp=001"]])
def test_output_that_cannot_be_written(
    train: Command, read_only: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("PROJECT_ROOT", str(read_only))
    done = train(*arguments)
    assert done.code in (1, 2) and f"cannot write {read_only}/output" in done.err and "Traceback" not in done.err


def test_a_bug_keeps_its_traceback(train: Command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nobody's typing mistake shows where it happened, from the experiment's code on, with its cause."""
    (root / "control/fail0").touch()
    done = train("exp.fold=[0]", experiment=LIGHT)
    assert done.code == 1
    assert "Traceback" in done.err and "ValueError: planted" in done.err
    assert f"{LIGHT}/train.py" in done.err and f"{LIGHT}/model.py" in done.err
    assert "/hydra/" not in done.err and "src/expkit" not in done.err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in train("exp.train.epochs=0").err
    assert os.environ["HYDRA_FULL_ERROR"] == "1"
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    assert_refused(train("exp.train.epochs=0"), "exp.train.epochs", root / "input")
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    "other",
    [
        "expkit.main(dataclasses.replace(experiment, greater_is_better=False))",
        "expkit.main(None)",
    ],
)
def test_another_experiment_than_train_py_defines(train: Command, root: Path, other: str) -> None:
    """Jobs and later commands load the one that it defines: its results would be of the other one."""
    with own_experiment(copy_of=LIGHT) as folder:
        file = folder / "train.py"
        text = file.read_text().replace("import expkit\n", "import dataclasses\n\nimport expkit\n")
        file.write_text(text.replace("expkit.main(experiment)", other))
        printed = train("exp.fold=[0]", experiment=folder.name)
        assert_refused(printed, "expkit.main takes the one that it defines", root)
