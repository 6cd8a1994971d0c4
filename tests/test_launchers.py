"""Many jobs at once on one machine: real processes, with the code as it was when the sweep was started."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from conftest import Project, call
from light import LIGHT, edited, results, start
from test_run import QUICK, load
from test_runs import scores_and_predictions, wait_for

LOCAL = "hydra/launcher=local"
FOLDS = "exp.fold=[0],[1],[2],[3],[4]"
TWO = "hydra.launcher.n_jobs=2"


def test_folds_in_parallel_are_the_folds_of_one_process(sweeping: Project, tmp_path: Path) -> None:
    """Scores and predictions to the byte, started in another folder; the command ends with the run's row."""
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    arguments = ["exp=001", QUICK]
    sweeping.train(*arguments, "exp.fold=[0,1,2,3,4]", root=tmp_path / "one", WANDB_MODE="disabled")
    done = sweeping.train(
        "-m", *arguments, FOLDS, LOCAL, TWO, root=tmp_path / "many", cwd=tmp_path, WANDB_MODE="disabled"
    )
    run = f"output/001-baseline/001-larger-lr,{QUICK}"
    one, many = scores_and_predictions(tmp_path / "one" / run), scores_and_predictions(tmp_path / "many" / run)
    assert len(one) == 6
    assert many == one
    score = load(tmp_path / "many" / run / "cv.json")["score"]
    last = done.stdout.splitlines()[-1]
    assert last.split()[:3] == [run.removeprefix("output/"), f"{score:.4f}", "±"]
    assert " 5/5 " in last
    board = sweeping.python.with_name("exp")
    environment = sweeping.environment(PROJECT_ROOT=str(tmp_path / "many"))
    assert call(board, "board", cwd=tmp_path, env=environment).stdout.splitlines()[-1] == last
    assert "n_jobs=2" in done.stdout
    record = load(tmp_path / "many" / run / "fold3/result.json")
    assert record["command"] == ["train.py", "-m", *arguments, FOLDS, LOCAL, TWO]
    assert record["overrides"] == [*arguments, "exp.fold=[3]"]
    assert record["git"] == load(tmp_path / "one" / run / "run.json")["git"]
    assert call("git", "status", "--porcelain", cwd=sweeping.folder).stdout == ""


def test_as_many_processes_as_cores_and_the_cores_shared(sweeping: Project, root: Path) -> None:
    sweeping.train("-m", FOLDS, LOCAL, experiment=LIGHT, root=root, LIGHT_SECONDS="0.3")
    cores = len(os.sched_getaffinity(0))
    done = results(root)
    assert len(done) == 5
    assert 1 < len({result["pid"] for result in done.values()}) <= cores
    assert {result["environment"]["OPENBLAS_NUM_THREADS"] for result in done.values()} == {"1"}
    for result in done.values():
        running = [other for other in done.values() if 0 <= other["ended"] - result["ended"] < 0.3]
        assert len(running) <= cores

    sweeping.train("-m", "exp.name=other", FOLDS, LOCAL, experiment=LIGHT, root=root, OMP_NUM_THREADS="7")
    assert {result["environment"]["OMP_NUM_THREADS"] for result in results(root, "other").values()} == {"7"}


@pytest.mark.parametrize("named", [True, False])
def test_one_fold_a_gpu(sweeping: Project, root: Path, tmp_path: Path, named: bool) -> None:
    """Three GPUs: three processes, each sees one. Named by CUDA_VISIBLE_DEVICES, or found by nvidia-smi."""
    (root / "input/together").write_text("3")
    variables = {"CUDA_VISIBLE_DEVICES": "4,GPU-a1b2,7"}
    if not named:
        smi = tmp_path / "nvidia-smi"
        smi.write_text('#!/bin/sh\nfor gpu in 0 1 2; do echo "GPU $gpu: A card (UUID: GPU-$gpu)"; done\n')
        smi.chmod(0o755)
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    sweeping.train("-m", FOLDS, LOCAL, experiment=LIGHT, root=root, **variables)
    seen = {result["pid"]: result["environment"]["CUDA_VISIBLE_DEVICES"] for result in results(root).values()}
    assert len(results(root)) == 5
    assert sorted(seen.values()) == (["4", "7", "GPU-a1b2"] if named else ["0", "1", "2"])


def test_the_summary_is_right_when_all_finish_in_one_instant(sweeping: Project, root: Path) -> None:
    (root / "input/together").write_text("5")
    for name in ("a", "b"):
        for came in root.glob("input/came*"):
            came.unlink()
        arguments = ["-m", f"exp.name={name}", FOLDS, LOCAL, "hydra.launcher.n_jobs=5"]
        printed = sweeping.train(*arguments, experiment=LIGHT, root=root).stdout
        ended = [result["ended"] for result in results(root, name).values()]
        assert max(ended) - min(ended) < 0.5
        cv = load(root / f"output/{LIGHT}/{name}/cv.json")
        assert (cv["complete"], cv["folds_done"], cv["score"]) == (True, 5, 10.0)
        assert printed.splitlines()[-1].split()[1:5] == ["10.0000", "±", "0.0000", "5/5"]


@pytest.mark.parametrize("launcher", [["hydra/launcher=basic"], [LOCAL, "hydra.launcher.n_jobs=1"]])
def test_an_edit_does_not_reach_a_waiting_job(sweeping: Project, root: Path, launcher: list[str]) -> None:
    """Not of the experiment, not of expkit; and the record names the code that was trained."""
    folder = sweeping.folder / "experiments" / LIGHT
    (root / "input/gate0").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", *launcher)
    wait_for((root / "input/came0").exists, process)
    with (
        edited(folder / "model.py", "as submitted", "edited"),
        edited(folder / "shape.py", "return", "return 5 +"),
        edited(folder / "config.yaml", "name: light", "name: edited"),
        edited(sweeping.folder / "src/expkit/runs.py", '"metric": self', '"edited": 1, "metric": self'),
    ):
        (root / "input/gate0").unlink()
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
    done = results(root)
    assert [(done[fold]["secret"], done[fold]["score"], "edited" in done[fold]) for fold in (0, 1)] == [
        ("as submitted", 10.0, False)
    ] * 2
    assert not (root / f"output/{LIGHT}/edited").exists()
    assert load(root / f"output/{LIGHT}/light/cv.json")["mixed_code"] is False
    head = call("git", "rev-parse", "HEAD", cwd=sweeping.folder).stdout.strip()
    for result in done.values():
        assert (result["git"]["commit"], result["git"]["dirty"]) == (head, False)
        name = f"{result['git']['snapshot']}:experiments/{LIGHT}/model.py"
        assert "as submitted" in call("git", "show", name, cwd=sweeping.folder).stdout


def test_an_edit_does_not_reach_a_waiting_job_without_git(sweeping: Project, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "no-git"
    shutil.copytree(sweeping.folder, folder, ignore=shutil.ignore_patterns(".git", ".venv", "output"), symlinks=True)
    (folder / ".venv").symlink_to(sweeping.folder / ".venv", target_is_directory=True)
    (root / "input/gate0").touch()
    process = start(Project(folder, sweeping.home), root, "-m", "exp.fold=[0],[1]", LOCAL, "hydra.launcher.n_jobs=1")
    wait_for((root / "input/came0").exists, process)
    model = folder / "experiments" / LIGHT / "model.py"
    model.write_text(model.read_text().replace("as submitted", "edited"))
    (root / "input/gate0").unlink()
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "warning: no snapshot of the code" in errors
    assert [result["secret"] for result in results(root).values()] == ["as submitted"] * 2


def test_an_uncommitted_edit_takes_part(sweeping: Project, root: Path) -> None:
    """What is trained is the working tree as it stands; an equal one is copied once."""
    folder = sweeping.folder / "experiments" / LIGHT
    with edited(folder / "model.py", "as submitted", "not committed"):
        for fold in ("[0],[1]", "[2],[3]"):
            sweeping.train("-m", f"exp.fold={fold}", LOCAL, experiment=LIGHT, root=root)
    done = results(root)
    assert {result["secret"] for result in done.values()} == {"not committed"}
    assert {result["git"]["dirty"] for result in done.values()} == {True}
    [copy] = (root / "output/multirun/.code").iterdir()
    assert {Path(result["file"]).parents[2] for result in done.values()} == {copy}


# Failures


def test_a_failed_job_does_not_stop_the_others(sweeping: Project, root: Path) -> None:
    for fold in (1, 3):
        (root / f"input/fail{fold}").touch()
    done = sweeping.train("-m", FOLDS, LOCAL, TWO, experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert done.stderr.count("ValueError: planted") == 2
    assert done.stderr.splitlines()[-1] == "error: failed: exp.fold=[1], exp.fold=[3]"
    assert " 3/5 " in done.stdout.splitlines()[-1]
    assert sorted(results(root)) == [0, 2, 4]
    for fold in (1, 3):
        (root / f"input/fail{fold}").unlink()
    before = results(root)
    again = sweeping.train("-m", FOLDS, LOCAL, TWO, experiment=LIGHT, root=root).stdout
    assert " 5/5 " in again.splitlines()[-1]
    assert {fold: results(root)[fold] for fold in before} == before


def test_a_refused_value_is_one_line(sweeping: Project, root: Path) -> None:
    """Named as the project has it, not as the copy that runs."""
    done = sweeping.train("-m", "exp.seed=-1,5", LOCAL, TWO, experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert "error: exp.seed=-1: exp.seed must be from 0 to 2**32 - 1, not -1" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    parameters = sweeping.folder / "experiments" / LIGHT / "exp/001.yaml"
    parameters.parent.mkdir()
    parameters.write_text("name: [")
    try:
        done = sweeping.train("-m", "exp=001", experiment=LIGHT, root=root, check=False)
    finally:
        shutil.rmtree(parameters.parent)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"error: {parameters}, line 1:" in done.stderr


def test_a_killed_process_is_one_line(sweeping: Project, root: Path) -> None:
    (root / "input/gate1").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", LOCAL, TWO)
    wait_for(lambda: 0 in results(root) and (root / "input/came1").exists(), process)
    children = psutil.Process(process.pid).children(recursive=True)
    [lock] = [child for child in children if any("fold1" in file.path for file in child.open_files())]
    lock.kill()
    printed, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "error: a process of the sweep has died" in errors
    assert " 1/5 " in printed.splitlines()[-1]
    (root / "input/gate1").unlink()
    assert " 2/5 " in sweeping.train("-m", "exp.fold=[0],[1]", experiment=LIGHT, root=root).stdout.splitlines()[-1]


def works(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not, as in a container."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c(sweeping: Project, root: Path) -> None:
    """All processes end; finished folds are kept."""
    (root / "input/gate1").touch()
    process = start(sweeping, root, "-m", FOLDS, LOCAL, TWO)
    wait_for(lambda: 0 in results(root) and (root / "input/came1").exists(), process)
    children = psutil.Process(process.pid).children(recursive=True)
    for each in (psutil.Process(process.pid), *children):
        if each.is_running():
            each.send_signal(signal.SIGINT)  # as a terminal does
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped: finished folds are kept" in errors.splitlines()[-1]
    wait_for(lambda: not any(map(works, children)), seconds=10)
    assert 0 in results(root)


@pytest.mark.parametrize(
    ("override", "extra"),
    [("hydra/launcher=local", "slurm"), ("hydra/launcher=slurm", "slurm"), ("hydra/sweeper=optuna", "optuna")],
)
def test_a_missing_extra_is_named(project: Project, tmp_path: Path, override: str, extra: str) -> None:
    done = project.train("-m", "exp=001,002", override, root=tmp_path, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"is not installed: uv sync --extra {extra}\n")


# overwrite=true


@pytest.mark.parametrize("launcher", [[LOCAL, TWO], ["hydra/launcher=basic"]])
@pytest.mark.parametrize("changed", [False, True])
def test_overwrite_in_parallel(sweeping: Project, root: Path, launcher: list[str], changed: bool) -> None:
    """Each fold is trained once; with the same configuration, folds that were not asked for stay."""
    sweeping.train("exp.fold=[0,1,2,3]", "exp.name=run", experiment=LIGHT, root=root)
    before = results(root, "run")
    arguments = ["-m", "exp.name=run", "exp.fold=[0],[1],[2]", "overwrite=true", *launcher]
    if not changed:
        done = sweeping.train(*arguments, experiment=LIGHT, root=root)
    else:
        config = sweeping.folder / "experiments" / LIGHT / "config.yaml"
        with edited(config, "name: light", "name: light\n  seed: 7"):
            done = sweeping.train(*arguments, experiment=LIGHT, root=root)
    after = results(root, "run")
    assert sorted(after) == ([0, 1, 2] if changed else [0, 1, 2, 3])
    assert all(after[fold]["ended"] > before[fold]["ended"] for fold in (0, 1, 2))
    assert changed or after[3] == before[3]
    folder = root / f"output/{LIGHT}"
    assert {path.name for path in folder.iterdir()} <= {"run", ".locks"}
    assert ("seed: 7" in (folder / "run/config.yaml").read_text()) is changed
    assert load(folder / "run/cv.json")["folds_done"] == len(after)
    assert f" {len(after)}/5 " in done.stdout.splitlines()[-1]


def test_a_job_that_comes_when_the_old_run_has_been_replaced(sweeping: Project, root: Path) -> None:
    """It sees the results of the others, and trains nothing again."""
    folder = root / f"output/{LIGHT}"
    arguments = ["exp.name=run", "overwrite=true", "-m", "exp.fold=[0],[1],[2]", LOCAL, TWO]
    sweeping.train("exp.fold=[0,1,2]", "exp.name=run", experiment=LIGHT, root=root)
    (root / "input/fail1").touch()
    sweeping.train(*arguments, experiment=LIGHT, root=root, check=False)
    (root / "input/fail1").unlink()
    (root / "input/late0").touch()
    process = start(sweeping, root, *arguments)

    def is_replaced() -> bool:
        try:
            return "replaced_by" in load(folder / "run/run.json")
        except FileNotFoundError:  # in between
            return False

    wait_for(is_replaced, process)
    (root / "input/late0").unlink()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "fold 0 is done" in printed
    assert {path.name for path in folder.iterdir()} <= {"run", ".locks"}
    assert sorted(results(root, "run")) == [0, 1, 2]


def test_two_commands_that_replace_the_same_run(sweeping: Project, root: Path) -> None:
    """Both work on one new run; the second sees it in its place."""
    code = """
import expkit, model, train
def make(*overrides):
    config = expkit.load_config("002-light", ["exp.name=run", "exp.fold=[0,1]", *overrides])
    return expkit.Run(config, train.__file__, metric=train.score)
def act(fold):
    with fold:
        fold.save_csv("oof.csv", {"id": [fold.number], "prediction": [1.0]})
        fold.finish()
def train_all(run):
    for fold in run.missing():
        act(fold)
    run.summarize()
train_all(make())
interrupted = make("overwrite=true").missing()
act(next(interrupted))
interrupted.close()
first, second = make("overwrite=true"), make("overwrite=true")
train_all(first)
assert list(second.missing()) == []
second.summarize()
"""
    folder = sweeping.folder / "experiments" / LIGHT
    printed = call(sweeping.python, "-c", code, cwd=folder, env=sweeping.environment(PROJECT_ROOT=str(root))).stdout
    assert printed.splitlines()[-1].startswith("results: ") and printed.splitlines()[-1].endswith("/run")
    assert {path.name for path in (root / f"output/{LIGHT}").iterdir()} <= {"run", ".locks"}


@pytest.mark.parametrize("launcher", [[LOCAL, TWO], ["hydra/launcher=basic"]])
def test_overwrite_keeps_the_old_run_until_every_job_is_done(
    sweeping: Project, root: Path, launcher: list[str]
) -> None:
    sweeping.train("exp.fold=[0,1,2]", "exp.name=run", experiment=LIGHT, root=root)
    before = results(root, "run")
    arguments = ["-m", "exp.name=run", "exp.fold=[0],[1],[2]", "overwrite=true", *launcher]
    (root / "input/fail1").touch()
    config = sweeping.folder / "experiments" / LIGHT / "config.yaml"
    with edited(config, "name: light", "name: light\n  seed: 7"):
        sweeping.train(*arguments, experiment=LIGHT, root=root, check=False)
        assert results(root, "run") == before
        (root / "input/fail1").unlink()
        again = sweeping.train(*arguments, experiment=LIGHT, root=root).stdout
    assert "fold 0 is done" in again and "fold 2 is done" in again
    assert sorted(results(root, "run")) == [0, 1, 2]
    assert all(results(root, "run")[fold] != before[fold] for fold in before)
    assert {path.name for path in (root / f"output/{LIGHT}").iterdir()} <= {"run", ".locks"}
