"""Sweeps whose jobs run in this process: what is refused, what fails, and what is left of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from commands import command
from conftest import Command, OwnLight
from helpers import counting, files, results
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from light import LIGHT, edited
from omegaconf import OmegaConf

import expkit
from expkit import compose, launch, snapshot
from expkit.compose import register_resolver
from expkit.config import load_experiment


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-m", "exp.nope=1,2"], "exp.nope"),
        (["-m", "exp.seed=1,x"], "exp.seed must be a whole number, not 'x'"),
        (["-m", "exp.seed=1,2", "exp.n_folds=5,no"], "exp.n_folds must be a whole number, not 'no'"),
        (["-m", "exp=001"], "experiments/{name}/exp/001.yaml, line 1:"),
        (["hydra.mode=MULTIRUN"], "a sweep begins with -m"),
    ],
)
def test_a_sweep_that_is_refused(own_light: OwnLight, root: Path, arguments: list[str], error: str) -> None:
    """One line, with paths as the project has them; no run."""
    (own_light.folder / "exp").mkdir(exist_ok=True)
    (own_light.folder / "exp/001.yaml").write_text("name: [")
    refused = own_light(*arguments, code=2).err
    assert error.format(name=own_light.folder.name) in refused.splitlines()[-1], refused
    assert "Traceback" not in refused and ".code" not in refused
    assert not [file for file in files(root) if "result.json" in file]


def test_a_job_has_the_configuration_that_hydra_makes_of_it(own_light: OwnLight) -> None:
    """Though each choice of files is composed once: the whole of it, with what Hydra knows of the job."""
    (own_light.folder / "exp").mkdir(exist_ok=True)
    (own_light.folder / "exp/001.yaml").write_text("name: other\ntrain: {x: 3}\n")
    seeds = [["exp.seed=1"], ["exp.seed=2"], ["exp.seed=1", "exp.fold=[0]"], ["exp.train.x=7", "exp=001"], ["exp=001"]]
    jobs = [*seeds, ["exp=001", "overwrite=true", "exp.seed=3"], ["exp.name='a,b=c'"], ["exp.seed=2"]]
    jobs += [["exp.train.x=7", "++exp.train.x=8"]]  # the last one counts
    with compose.composer(load_experiment(own_light.folder.name), ["hydra.sweep.dir=there"]):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.config_loader.load_configuration("config", ["hydra.sweep.dir=there"], RunMode.MULTIRUN)
        for job in jobs:
            made = hydra.config_loader.load_sweep_config(master, job)
            assert made == compose._hydra_composes(hydra.config_loader, master, job), job
            made.exp.seed = 99  # the next job has its own


def test_a_job_that_is_refused_or_fails_does_not_stop_the_others(root: Path, train: Command) -> None:
    """What has failed is named at the end; the next command trains it, and it alone."""
    refused = train("-m", "exp.fold=[0]", "exp.n_folds=0,5", experiment=LIGHT)
    assert (refused.code, refused.err.splitlines()[-1]) == (1, "error: failed: exp.fold=[0] exp.n_folds=0")
    assert "error: exp.fold=[0] exp.n_folds=0: exp.n_folds must be at least 1" in refused.err
    assert "Traceback" not in refused.err
    (root / "control/fail1").touch()
    failed = train("-m", "exp.fold=[0],[1],[2]", experiment=LIGHT)
    assert failed.code == 1 and failed.err.count("ValueError: planted") == 1
    assert failed.err.splitlines()[-1] == "error: failed: exp.fold=[1]"
    assert " 2/5 " in failed.out.splitlines()[-1]
    assert not list(root.glob("output/multirun/.code/*")), "the copy of a sweep that is over"
    (root / "control/fail1").unlink()
    trained: list[int | None] = []
    command("exp.fold=[0,1,2]", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [1]


def test_the_old_run_counts_until_every_job_is_done(own_light: OwnLight, root: Path) -> None:
    """After one has failed, too; the same command trains that one, and puts the new run in place."""
    name, sweep = own_light.folder.name, ["-m", "exp.name=run", "exp.fold=[0],[1],[2]", "overwrite=true"]
    expkit.run(name, overrides=["exp.name=run", "exp.fold=[0,1,2]"])
    before = results(root, "run", name)
    (root / "control/fail1").touch()
    with edited(own_light.folder / "config.yaml", "exp:\n", "exp:\n  seed: 7\n"):
        own_light(*sweep, code=1)
        assert results(root, "run", name) == before
        (root / "control/fail1").unlink()
        again = own_light(*sweep).out
    assert "fold 0 is done" in again and "fold 2 is done" in again
    after = results(root, "run", name)
    assert sorted(after) == [0, 1, 2]
    assert all(after[fold]["values"]["ended"] > before[fold]["values"]["ended"] for fold in before)
    assert "seed: 7" in (counting(root, "run", name) / "config.yaml").read_text()
    assert {path.name for path in (root / "output" / name).iterdir()} == {"run@2", ".locks"}
    assert " 3/5 " in again.splitlines()[-1]


def test_a_copy_of_the_code(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was, and no secret; the files cannot be edited."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "model.py").write_text("as submitted")
    (project / ".env").write_text("KEY=secret")
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    monkeypatch.setattr(snapshot, "code_root", lambda: project)
    copy, git = snapshot.copy_code()
    (project / "model.py").write_text("edited")
    assert (copy / "model.py").read_text() == "as submitted" and git is not None
    assert not (copy / ".env").exists() and not (copy / "model.py").stat().st_mode & 0o222
    snapshot.remove_copy(copy)
    assert not copy.exists() and (project / "model.py").exists()


def test_without_git_the_jobs_of_a_sweep_import_the_project(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(root))
    assert snapshot.copy_code() == (expkit.code_root(), None)
    snapshot.remove_copy(expkit.code_root())
    assert expkit.code_root().is_dir() and "warning: no snapshot of the code" in capsys.readouterr().err


def test_a_message_names_the_files_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git, the copy of the code is the project itself: in its folder, "." stands for it."""
    copied, project = tmp_path / "copy", tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    for code in (copied, project):
        job = launch.Job("001-baseline", [], "0" * 8, code, project=project, root=project)
        assert job.in_project(f"{code}/train.py: no exp.seeds") == f"{project}/train.py: no exp.seeds"
    assert job.in_project("../copy: there is no key exp.seeds") == "../copy: there is no key exp.seeds"


def test_several_processes_for_an_experiment_that_is_not_prepared(own_light: OwnLight, root: Path) -> None:
    """One line before any is started; and without -m, it is torchrun that starts them."""
    sweep = own_light("-m", "exp.runtime.processes=2", code=1).err
    assert "error: exp.runtime.processes=2: 2 processes train together (torchrun), and this" in sweep
    with edited(own_light.folder / "train.py", "own_split=True", "own_split=True, distributed=True"):
        alone = own_light("exp.runtime.processes=2", code=2).err
    assert alone == "error: exp.runtime.processes=2 takes -m; without: torchrun --nproc_per_node=2\n"
    assert "Traceback" not in sweep and not (root / "output" / own_light.folder.name).exists()


def test_the_gpus_that_a_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by the variable, else found by the program."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\nfor gpu in 0 1 2; do echo "GPU $gpu: A card (UUID: GPU-$gpu)"; done\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert launch.gpus() == ["0", "1", "2"] and launch.processes() == 3
    together = OmegaConf.create({"exp": {"runtime": {"processes": 2}}, "n": "${expkit.processes:}"})
    register_resolver("expkit.processes", launch.processes)
    assert together.n == 1
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert launch.gpus() == []
    for value, expected in {"4, GPU-a1b2": ["4", "GPU-a1b2"], "": [], "-1": []}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert launch.gpus() == expected


def test_each_job_has_gpus_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as its processes; those that are left where there are too few, and others' where there are none."""
    use, seen = launch._use_gpus.__wrapped__, []
    held = []
    for count in (2, 1, 2, 2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
        held.append(use(tmp_path, count))
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"].split(","))
    assert seen[:2] == [["4", "5"], ["6"]] and seen[2][0] == "7"
    assert all(len({*one}) == 2 and {*one} <= {*"4567"} for one in seen[2:])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(launch, "gpus", list)
    assert use(tmp_path, 2) == {} and "CUDA_VISIBLE_DEVICES" not in os.environ
