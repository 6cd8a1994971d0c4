"""Bad input: one line that names the key, a non-zero exit code, and nothing written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project, call
from test_run import files


def assert_refused(project: Project, arguments: list[str], mentions: str, root: Path, **variables: str) -> None:
    variables.setdefault("PROJECT_ROOT", str(root))
    done = project.train(*arguments, check=False, **variables)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert mentions in done.stderr
    assert files(root) == []


@pytest.mark.parametrize(
    ("argument", "mentions"),
    [
        ("exp=003", "there is no exp/003.yaml"),
        ("exp=01", "did you mean 001?"),
        ("exp=7", "there is no exp/7.yaml"),
        ("exp=1e3", "there is no exp/1e3.yaml"),
        ("exp=null", "there is no exp/null.yaml"),
        ("exp.flod=[0]", "there is no key exp.flod; did you mean fold?"),
        ("exp.train.lerning_rate=1", "there is no key exp.train.lerning_rate; did you mean learning_rate?"),
        ("+exp.train.dropout=0.1", "there is no key exp.train.dropout"),
        ("foo=1", "there is no key foo"),
        ("exp.train.epoch=many", "exp.train.epoch"),
        ("exp.train.epoch=1.5", "exp.train.epoch"),
        ("exp.train.epoch=null", "exp.train.epoch"),
        ("exp.train.epoch=???", "exp.train.epoch has no value"),
        ("exp.mode=foo", "exp.mode: Invalid value 'foo', expected one of [cv, sub]"),
        ("show_config=tru", "show_config"),
        ("exp.fold=[5]", "exp.fold must be from 0 to 4"),
        ("exp.fold=[-1]", "exp.fold must be from 0 to 4"),
        ("exp.fold=[0,1,0]", "exp.fold names a fold twice"),
        ("exp.fold=[]", "exp.fold must name at least one fold"),
        ("exp.fold=0", "exp.fold must be a list"),
        ("exp.fold=[0", "exp.fold=[0"),
        ("exp.fold=0,1", "exp.fold=0,1: a list is written"),
        ("exp.n_folds=1", "exp.n_folds must be at least 2"),
        ("exp.n_folds=140", "exp.n_folds must be at most 139"),
        ("exp.train.epoch=0", "exp.train.epoch must be at least 1"),
        ("exp.train.batch_size=-4", "exp.train.batch_size must be at least 1"),
        ("exp.train.learning_rate=0", "exp.train.learning_rate must be a positive number"),
        ("exp.train.learning_rate=nan", "exp.train.learning_rate must be a positive number"),
        ("exp.train.learning_rate=inf", "exp.train.learning_rate must be a positive number"),
        ("exp.train.base_model=huge", "exp.train.base_model: Invalid value 'huge', expected one of [small, large]"),
        ("exp.seed=-1", "exp.seed"),
        ("exp.name=", "exp.name"),
        ("exp.name=a/b", "exp.name"),
        ("exp.name=..", "exp.name"),
        ("exp.name='a\nb'", "exp.name"),
        ("exp.name=002-larger-model", "exp/002.yaml has the name '002-larger-model' too"),
    ],
)
def test_command_line(project: Project, tmp_path: Path, argument: str, mentions: str) -> None:
    assert_refused(project, [argument], mentions, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (["-m", "exp=001", "--info"], "Only one of --run, --multirun, --cfg, --info"),
        (["--resolve"], "--resolve flag can only be used in conjunction with --cfg"),
        (["--config-name", "x"], "'x'"),
    ],
)
def test_flags(project: Project, tmp_path: Path, arguments: list[str], mentions: str) -> None:
    assert_refused(project, arguments, mentions, tmp_path)


def test_not_in_experiments(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "experiments/group/001-baseline"
    shutil.copytree(project.folder / "experiments/001-baseline", folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = files(tmp_path)
    done = call(project.python, folder / "train.py", cwd=tmp_path, env=project.environment(), check=False)
    assert done.returncode == 1
    assert "an experiment is a folder in experiments/" in done.stderr
    assert [file for file in files(tmp_path) if "__pycache__" not in file] == before


@pytest.fixture
def parameter_file(project: Project) -> Iterator[Path]:
    file = project.folder / "experiments/001-baseline/exp/666.yaml"
    yield file
    file.unlink()


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("name: x\ntrain: {lerning_rate: 1}", "exp/666.yaml: there is no key exp.train.lerning_rate; did you mean"),
        ("name: x\ntrain: {epoch: many}", "exp/666.yaml: exp.train.epoch"),
        ("name: x\nmode: foo", "exp/666.yaml: exp.mode: Invalid value 'foo'"),
        ("name: [x", "666.yaml, line 2"),
        ("defaults: [nothing]", "exp/666.yaml: Could not load 'exp/nothing'"),
        ("- a list", "exp/666.yaml"),
        ("train: {epoch: 3}", "config.yaml has the name 'baseline' too"),
        ("name: 001-larger-lr", "exp/001.yaml has the name '001-larger-lr' too"),
    ],
)
def test_parameter_file(project: Project, tmp_path: Path, parameter_file: Path, text: str, mentions: str) -> None:
    parameter_file.write_text(text + "\n")
    assert_refused(project, ["exp=666"], mentions, tmp_path)


@pytest.mark.parametrize("text", ["name: [x", "- a list", "name: ${nothing}", "train: {epoch: many}", "", "\0"])
def test_a_broken_parameter_file_is_in_nobody_elses_way(
    project: Project, tmp_path: Path, parameter_file: Path, text: str
) -> None:
    parameter_file.write_text(text)
    project.train("exp=001", "exp.debug=true", root=tmp_path)


def test_the_familiar_header_changes_nothing(project: Project, tmp_path: Path, parameter_file: Path) -> None:
    parameter_file.write_text("defaults:\n- default@_here_\n\nname: x\n")
    shown = project.train("exp=666", "show_config=true", root=tmp_path).stdout
    assert shown == project.train("exp.name=x", "show_config=true", root=tmp_path).stdout


def test_project_root_that_is_not_there(project: Project, tmp_path: Path) -> None:
    for arguments in ([], ["show_config=true"], ["-m", "exp=001,002"]):
        assert_refused(project, arguments, "PROJECT_ROOT", tmp_path, PROJECT_ROOT=str(tmp_path / "nowhere"))


def test_output_that_is_a_file(project: Project, tmp_path: Path) -> None:
    (tmp_path / "output").write_text("mine")
    done = project.train(root=tmp_path, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"{tmp_path}/output is not a folder" in done.stderr
    assert (tmp_path / "output").read_text() == "mine"


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


@pytest.mark.parametrize("arguments", [["exp=001"], ["-m", "exp=001,002"]])
def test_output_that_cannot_be_written(project: Project, read_only: Path, arguments: list[str]) -> None:
    assert_refused(project, arguments, f"cannot write {read_only}/output", read_only)


def test_a_bug_keeps_its_traceback(project: Project, tmp_path: Path) -> None:
    """What is nobody's typing mistake shows where it happened, from the experiment's code on."""
    done = project.train(
        "exp.train.learning_rate=1e300", "exp.train.epoch=3", root=tmp_path, check=False, WANDB_MODE="disabled"
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "train.py" in done.stderr
    assert "hydra/_internal" not in done.stderr
    whole = project.train("exp.train.epoch=0", root=tmp_path, check=False, HYDRA_FULL_ERROR="1")
    assert "Traceback" in whole.stderr
