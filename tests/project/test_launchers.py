"""Many jobs at once on one machine: real processes, with the code as it was when the sweep was started."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import Project, call
from helpers import STOPPED, counting, load, results, scores_and_predictions, start
from light import LIGHT, edited, wait_for

import expkit
from expkit import store

LOCAL = "hydra/launcher=local"
FOLDS = "exp.fold=[0],[1],[2],[3],[4]"
TWO = "hydra.launcher.n_jobs=2"
QUICK = "exp.train.epoch=2"


@pytest.fixture
def light(sweeping: Project) -> Path:
    """The folder of the light experiment."""
    return sweeping.folder / "experiments" / LIGHT


def came(root: Path, fold: int) -> Path:
    """The file that a fold leaves when its training begins."""
    return root / f"control/came{fold}"


def is_in_copy(file: str, root: Path) -> bool:
    return Path(file).is_relative_to(root / "output/multirun/.code")


def works(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not, as in a container."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_folds_in_parallel_are_the_folds_of_one_process(sweeping: Project, tmp_path: Path) -> None:
    """Scores and predictions to the byte, started in another folder; the command ends with the run's row."""
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    arguments = ["exp=001", QUICK]
    sweeping.train(*arguments, "exp.fold=[0,1,2,3,4]", root=tmp_path / "one", WANDB_MODE="disabled")
    typed = ["-m", *arguments, FOLDS, LOCAL, TWO]
    done = sweeping.train(*typed, root=tmp_path / "many", cwd=tmp_path, WANDB_MODE="disabled")
    name = f"001-larger-lr,{QUICK}"
    one, many = (counting(tmp_path / root, name, "001-baseline") for root in ("one", "many"))
    assert len(scores_and_predictions(one)) == 5
    assert scores_and_predictions(many) == scores_and_predictions(one)
    score = store.read_run(many).score_of()
    assert score is not None and score == store.read_run(one).score_of()
    last = done.stdout.splitlines()[-1]
    assert last.split()[:3] == [f"001-baseline/{name}", f"{score.value:.4f}", "±"]
    assert " 5/5 " in last
    board = sweeping.python.with_name("exp")
    environment = sweeping.environment(PROJECT_ROOT=str(tmp_path / "many"))
    assert call(board, "board", cwd=tmp_path, env=environment).stdout.splitlines()[-1] == last
    origin = load(many / "fold3/origin.json")
    assert origin["command"] == ["train.py", *typed]
    assert origin["overrides"] == [*arguments, "exp.fold=[3]"]
    assert origin["git"] == load(one / "fold3/origin.json")["git"]
    assert origin["code"] == load(one / "fold3/origin.json")["code"]
    assert call("git", "status", "--porcelain", cwd=sweeping.folder).stdout == ""


# Which code is trained


def test_jobs_in_other_processes_import_the_copy(sweeping: Project, root: Path, light: Path) -> None:
    """An edit does not reach a job that waits: not of the experiment, not of expkit. The record names what trained."""
    for fold in (0, 1):
        (root / f"control/gate{fold}").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1],[2],[3]", LOCAL, TWO)
    wait_for(lambda: came(root, 0).exists() and came(root, 1).exists(), process)
    with (
        edited(light / "model.py", "as submitted", "edited"),
        edited(light / "shape.py", "return", "return 5 +"),
        edited(light / "config.yaml", "name: light", "name: edited"),
    ):
        for fold in (0, 1):
            (root / f"control/gate{fold}").unlink()
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    done = results(root)
    head = call("git", "rev-parse", "HEAD", cwd=sweeping.folder).stdout.strip()
    assert sorted(done) == [0, 1, 2, 3]
    for result in done.values():
        assert is_in_copy(result["values"]["file"], root)
        assert (result["values"]["secret"], result["scores"]) == ("as submitted", {"quality": 10.0})
        assert result["values"]["environment"]["HYDRA_FULL_ERROR"] is None
        assert (result["git"]["commit"], result["git"]["dirty"]) == (head, False)
        name = f"{result['git']['snapshot']}:experiments/{LIGHT}/model.py"
        assert "as submitted" in call("git", "show", name, cwd=sweeping.folder).stdout
    assert "mixed code" not in store.read_run(counting(root)).marks
    assert not (root / f"output/{LIGHT}/edited").exists()


def test_jobs_in_this_process_use_the_code_that_is_loaded(sweeping: Project, root: Path, light: Path) -> None:
    """Also when it is edited meanwhile; and neither they nor what comes after see how the sweep was launched."""
    after = "expkit.main(experiment)\n    import os, sys\n    print('after:', os.environ.get('HYDRA_FULL_ERROR'), "
    after += "os.environ.get('PYTHONPATH'), [path for path in sys.path if '.code' in path])"
    (root / "control/gate0").touch()
    with edited(light / "train.py", "expkit.main(experiment)", after):
        process = start(sweeping, root, "-m", "exp.fold=[0],[1]")
        wait_for(came(root, 0).exists, process)
    with edited(light / "model.py", "as submitted", "edited"), edited(light / "shape.py", "return", "return 5 +"):
        (root / "control/gate0").unlink()
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    done = results(root)
    assert sorted(done) == [0, 1]
    for result in done.values():
        assert result["values"]["file"] == str(light / "model.py")
        assert (result["values"]["secret"], result["scores"]) == ("as submitted", {"quality": 10.0})
        assert result["values"]["environment"]["PYTHONPATH"] is None
        assert result["values"]["environment"]["HYDRA_FULL_ERROR"] is None
        name = f"{result['git']['snapshot']}:experiments/{LIGHT}/model.py"
        assert "as submitted" in call("git", "show", name, cwd=sweeping.folder).stdout
    assert "mixed code" not in store.read_run(counting(root)).marks
    assert printed.splitlines()[-1] == "after: None None []"


# Where the results land


@pytest.fixture
def in_project(sweeping: Project) -> Iterator[Project]:
    """The project, for commands without PROJECT_ROOT."""
    (sweeping.folder / "control").mkdir()
    (sweeping.folder / "control/.gitignore").write_text("*")
    yield sweeping
    shutil.rmtree(sweeping.folder / "control")
    shutil.rmtree(sweeping.folder / "output" / LIGHT, ignore_errors=True)


def test_results_lie_in_the_project_when_project_root_is_not_set(in_project: Project, tmp_path: Path) -> None:
    """Not in the copy of the code; also when a folder in output/ is a link to a larger disk."""
    multirun = in_project.folder / "output/multirun"
    (tmp_path / "disk").mkdir()
    multirun.parent.mkdir(exist_ok=True)
    multirun.symlink_to(tmp_path / "disk")
    try:
        in_project.train("-m", "exp.fold=[0],[1]", LOCAL, TWO, experiment=LIGHT, cwd=tmp_path, WANDB_MODE="disabled")
    finally:
        multirun.unlink()
    done = results(in_project.folder)
    assert sorted(done) == [0, 1]
    for result in done.values():
        assert Path(result["values"]["file"]).is_relative_to(tmp_path / "disk/.code")
    assert not list((tmp_path / "disk/.code").glob("*/output/[!.]*"))
    assert call("git", "status", "--porcelain", "--", "experiments", "src", cwd=in_project.folder).stdout == ""


def test_a_sweep_and_a_single_run_are_of_the_same_code(in_project: Project) -> None:
    """With output/ in the project, where the copy of the code lies among its files."""
    for arguments in (["exp.fold=[0]"], ["-m", "exp.fold=[1]"], ["-m", "exp.fold=[2],[3]", LOCAL, TWO]):
        in_project.train(*arguments, experiment=LIGHT, WANDB_MODE="disabled")
    done = results(in_project.folder)
    assert sorted(done) == [0, 1, 2, 3]
    assert all(result["code"] == done[0]["code"] for result in done.values()), "the board would say: mixed code"
    assert all(result["git"] == done[0]["git"] for result in done.values()), "the board would say: not committed"


# Cores and GPUs


@pytest.mark.slow
def test_one_fold_per_gpu(sweeping: Project, root: Path) -> None:
    """Three GPUs: three processes, each sees one; the summary is right, though folds end in one instant."""
    (root / "control/together").write_text("3")
    variables = {"CUDA_VISIBLE_DEVICES": "4,GPU-a1b2,7"}
    printed = sweeping.train("-m", FOLDS, LOCAL, experiment=LIGHT, root=root, **variables).stdout
    done = [result["values"] for result in results(root).values()]
    seen = {values["pid"]: values["environment"]["CUDA_VISIBLE_DEVICES"] for values in done}
    assert len(done) == 5 and sorted(seen.values()) == ["4", "7", "GPU-a1b2"]
    run = store.read_run(counting(root))
    assert run.is_complete and run.cv is not None and run.marks == ()
    assert printed.splitlines()[-1].split()[1:5] == ["10.0000", "±", "0.0000", "5/5"]


# Failures


def test_a_failed_job_does_not_stop_the_others(sweeping: Project, root: Path) -> None:
    """In another process, too: it is named at the end."""
    for fold in (1, 3):
        (root / f"control/fail{fold}").touch()
    done = sweeping.train("-m", FOLDS, LOCAL, TWO, experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert done.stderr.count("ValueError: planted") == 2
    assert done.stderr.splitlines()[-1] == "error: failed: exp.fold=[1], exp.fold=[3]"
    assert " 3/5 " in done.stdout.splitlines()[-1]
    assert sorted(results(root)) == [0, 2, 4]


@pytest.mark.parametrize(
    ("override", "extra"),
    [("hydra/launcher=local", "local"), ("hydra/launcher=slurm", "slurm"), ("hydra/sweeper=optuna", "optuna")],
)
def test_a_missing_extra_is_named(project: Project, root: Path, override: str, extra: str) -> None:
    done = project.train("-m", "exp=001,002", override, root=root, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"is not installed: uv sync --inexact --extra {extra}\n")


@pytest.mark.slow
def test_a_killed_process_is_one_line(sweeping: Project, root: Path) -> None:
    (root / "control/gate1").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", LOCAL, TWO)
    wait_for(lambda: 0 in results(root) and came(root, 1).exists(), process)
    children = psutil.Process(process.pid).children(recursive=True)
    [holder] = [child for child in children if any("fold1" in file.path for file in child.open_files())]
    holder.kill()
    printed, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "error: a process of the sweep has died" in errors
    assert " 1/5 " in printed.splitlines()[-1]
    (root / "control/gate1").unlink()
    assert " 2/5 " in sweeping.train("-m", "exp.fold=[0],[1]", experiment=LIGHT, root=root).stdout.splitlines()[-1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_process_outlives_its_command(sweeping: Project, root: Path, how: signal.Signals) -> None:
    """After `kill -9` of the command its workers end within seconds, and after Ctrl-C; finished folds are kept.

    They say why they were stopped, also when SIGTERM has reached the command alone.
    """
    (root / "control/gate1").touch()
    process = start(sweeping, root, "-m", FOLDS, LOCAL, TWO)
    wait_for(lambda: 0 in results(root) and came(root, 1).exists(), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    for each in (psutil.Process(process.pid), *(children if how is signal.SIGINT else [])):
        if each.is_running():
            each.send_signal(how)  # Ctrl-C reaches all processes of a terminal
    errors = process.communicate(timeout=30)[1]
    wait_for(lambda: not any(map(works, children)), seconds=5)
    assert 0 in results(root) and 1 not in results(root)
    if how is not signal.SIGKILL:
        code, reason = STOPPED[how]
        assert process.returncode == code
        assert f"{reason}: finished folds are kept" in errors.splitlines()[-1]
    if how is not signal.SIGINT:
        assert store.read_run(counting(root)).folds[1].failure == "stopped by SIGTERM"


def test_jobs_at_once_print_whole_lines(sweeping: Project, root: Path, light: Path) -> None:
    """And no bars, which would write over each other on a terminal."""
    (root / "control/together").write_text("2")
    reader, writer = os.openpty()
    old, text = "    time.sleep(float", "x" * 97
    line = f"<{{fold}} {{sys.stdout.isatty()}} {text}>"
    new = f'    for _ in range(100):\n        print(f"{line}")\n        time.sleep(0.002)\n{old}'
    with edited(light / "model.py", old, new):
        process = start(sweeping, root, "-m", "exp.fold=[0],[1]", LOCAL, TWO, stdout=writer)
        os.close(writer)
        printed = bytearray()
        with suppress(OSError):  # nobody has the terminal open any more
            while part := os.read(reader, 65536):
                printed += part
    os.close(reader)
    assert process.wait(60) == 0
    found = [line for line in printed.decode().splitlines() if "xx" in line]
    assert sorted(found) == [f"<{fold} False {text}>" for fold in (0, 1) for _ in range(100)]


# overwrite=true


@pytest.mark.slow
def test_the_old_run_counts_until_every_job_is_done(sweeping: Project, root: Path, light: Path) -> None:
    """While jobs train, and after a kill; the same command trains what is missing, and puts the new run in place."""
    expkit.run(LIGHT, overrides=["exp.name=run", "exp.fold=[0,1,2]"])
    before = results(root, "run")
    (root / "control/gate1").touch()
    came(root, 1).unlink()
    arguments = ["-m", "exp.name=run", "++exp.fold=[0],[1],[2]", "overwrite=true", LOCAL, TWO]
    with edited(light / "config.yaml", "exp:\n", "exp:\n  seed: 7\n"):
        process = start(sweeping, root, *arguments)
        wait_for(lambda: came(root, 1).exists(), process)
        assert results(root, "run") == before
        process.kill()
        process.communicate()
        assert results(root, "run") == before
        (root / "control/gate1").unlink()
        again = sweeping.train(*arguments, experiment=LIGHT, root=root).stdout
    after = results(root, "run")
    assert sorted(after) == [0, 1, 2]
    assert all(after[fold]["values"]["ended"] > before[fold]["values"]["ended"] for fold in before)
    assert "seed: 7" in (counting(root, "run") / "config.yaml").read_text()
    assert " 3/5 " in again.splitlines()[-1]
