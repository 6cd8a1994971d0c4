"""Many jobs at once on one machine: real processes, with the code as it was when the sweep was started."""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import Project, call, clone_of
from helpers import STOPPED, counting, exp, files, load, results, scores_and_predictions, start
from light import LIGHT, edited, wait_for

from expkit import store
from expkit.launch import JOB_REPORT

LOCAL = "hydra/launcher=local"
FOLDS = "exp.fold=[0],[1],[2],[3],[4]"
TWO = "hydra.launcher.n_jobs=2"


@pytest.fixture
def light(sweeping: Project) -> Path:
    """The folder of the light experiment."""
    return sweeping.folder / "experiments" / LIGHT


def came(root: Path, fold: int) -> Path:
    """The file that a fold leaves when its training begins."""
    return root / f"control/came{fold}"


def works(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not, as in a container."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_folds_in_parallel_are_the_folds_of_one_process(sweeping: Project, root: Path, tmp_path: Path) -> None:
    """Scores and predictions to the byte, started in another folder; the command ends with the run's row."""
    (tmp_path / "one").mkdir()
    arguments = ["exp=001", "exp.train.epochs=1"]
    sweeping.train(*arguments, "exp.fold=[0,1]", root=tmp_path / "one", WANDB_MODE="disabled")
    typed = ["-m", *arguments, "exp.fold=[0],[1]", LOCAL, TWO]
    done = sweeping.train(*typed, root=root, cwd=tmp_path, WANDB_MODE="disabled")
    one, many = (
        counting(folder, "001-larger-lr,exp.train.epochs=1", "001-baseline") for folder in (tmp_path / "one", root)
    )
    assert len(scores_and_predictions(one)) == 2
    assert scores_and_predictions(many) == scores_and_predictions(one)
    score = store.read_run(many).score_of()
    assert score is not None and score == store.read_run(one).score_of()
    last = done.stdout.splitlines()[-1]
    assert last == exp("board").splitlines()[-1] and f" {score.value:.4f} " in last and " 2/5 " in last
    origin, expected = load(many / "fold1/origin.json"), load(one / "fold1/origin.json")
    assert origin["command"] == ["train.py", *typed]
    assert origin["overrides"] == [*arguments, "exp.fold=[1]"]
    assert (origin["git"], origin["code"]) == (expected["git"], expected["code"])
    assert call("git", "status", "--porcelain", cwd=sweeping.folder).stdout == ""


# Which code is trained


@pytest.mark.parametrize("launcher", [[], [LOCAL, TWO]], ids=["this process", "other processes"])
def test_an_edit_does_not_reach_a_job_that_waits(
    sweeping: Project, root: Path, light: Path, launcher: list[str]
) -> None:
    """Jobs in other processes import the copy of the code and the configuration; those in this one, what is loaded.
    The record names what trained; no job sees how the sweep was launched."""
    for fold in (0, 1):
        (root / f"control/gate{fold}").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1],[2]", *launcher)
    wait_for(lambda: all(came(root, fold).exists() for fold in ((0, 1) if launcher else (0,))), process)
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
    assert sorted(done) == [0, 1, 2]
    for result in done.values():
        values = result["values"]
        copies = root / "output/multirun/.code"
        assert Path(values["file"]).is_relative_to(copies) if launcher else values["file"] == str(light / "model.py")
        assert (values["secret"], result["scores"]) == ("as submitted", {"quality": 10.0})
        assert values["environment"]["HYDRA_FULL_ERROR"] is None
        assert launcher or values["environment"]["PYTHONPATH"] is None
        assert result["git"]["commit"] == head and not (launcher and result["git"]["dirty"])
        name = f"{result['git']['snapshot']}:experiments/{LIGHT}/model.py"
        assert "as submitted" in call("git", "show", name, cwd=sweeping.folder).stdout
    assert "mixed code" not in store.read_run(counting(root)).marks
    assert not (root / f"output/{LIGHT}/edited").exists()


def test_results_lie_in_the_project_when_project_root_is_not_set(sweeping: Project, tmp_path: Path) -> None:
    """Whatever the working directory; not in the copy of the code, also when output/multirun is a link to another disk.
    All are of the same code, though the copy lies among the files of the project. Presets in conf/ are found."""
    project, here, disk = sweeping.folder, tmp_path / "here", tmp_path / "disk"
    here.mkdir()
    disk.mkdir()
    (project / "control").mkdir()
    (project / "control/.gitignore").write_text("*")
    (project / "conf/hydra/launcher/mine.yaml").write_text("defaults:\n- local\n")
    try:
        for arguments in ("exp.fold=[0]", "-m exp.fold=[1] hydra/launcher=mine"):
            sweeping.train(*arguments.split(), experiment=LIGHT, cwd=here, WANDB_MODE="disabled")
        shutil.rmtree(project / "output/multirun")
        (project / "output/multirun").symlink_to(disk)
        sweeping.train("-m", "exp.fold=[2]", LOCAL, experiment=LIGHT, cwd=here, WANDB_MODE="disabled")
        done = results(project)
    finally:
        (project / "conf/hydra/launcher/mine.yaml").unlink()
        shutil.rmtree(project / "control")
        shutil.rmtree(project / "output" / LIGHT)
        (project / "output/multirun").unlink()
    assert sorted(done) == [0, 1, 2] and files(here) == []
    assert Path(done[1]["values"]["file"]).is_relative_to(project / "output/multirun/.code")
    assert Path(done[2]["values"]["file"]).is_relative_to(disk / ".code")
    assert all(result["code"] == done[0]["code"] for result in done.values()), "the board would say: mixed code"
    assert all(result["git"] == done[0]["git"] for result in done.values()), "the board would say: not committed"


@pytest.mark.slow
def test_code_here_and_data_there(shared_sweeping: Project, root: Path, tmp_path: Path) -> None:
    """A remote machine: a clone of the code, and PROJECT_ROOT on a volume with the data; results are brought back."""
    code = clone_of(shared_sweeping.folder, tmp_path / "remote")
    environment = shared_sweeping.environment(
        PROJECT_ROOT=str(root), EXPKIT_ROOT=str(code), PYTHONPATH=str(code / "src"), WANDB_MODE="offline"
    )
    train = code / "experiments" / LIGHT / "train.py"
    call(shared_sweeping.python, train, "exp.fold=[0,1]", cwd=tmp_path, env=environment)
    call(shared_sweeping.python, train, "-m", "exp.fold=[2],[3]", "hydra/launcher=local", cwd=tmp_path, env=environment)
    written = call("git", "status", "--porcelain", "--ignored", cwd=code).stdout.splitlines()
    assert all(line.endswith("__pycache__/") for line in written)
    made = {path.name for path in (root / "output").iterdir() if not path.name.startswith(".")}
    assert made == {LIGHT, "multirun", "wandb"} and len(list(root.glob("output/wandb/offline-run-*"))) == 4
    assert len(results(root)) == 4
    shutil.copytree(root / "output", tmp_path / "here/output", copy_function=shutil.copyfile)  # with other times
    assert store.read_run(counting(tmp_path / "here")).score_of() == store.read_run(counting(root)).score_of()


def copies(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "output/multirun/.code").glob("[!.]*"))


@pytest.mark.parametrize(("launcher", "stays"), [("basic", False), ("submitit_local", True)])
def test_the_copy_of_a_sweep(sweeping: Project, root: Path, launcher: str, stays: bool) -> None:
    """Kept while it runs; and after an interruption, when jobs may wait for submitit, or nobody can tell."""
    (root / "control/gate0").touch()
    process = start(sweeping, root, "-m", f"hydra/launcher={launcher}", "exp.seed=1,2", "exp.fold=[0]")
    wait_for((root / "control/came0").exists, process)
    assert len(copies(root)) == 1
    process.send_signal(signal.SIGINT)
    process.wait()
    (root / "control/gate0").unlink()
    assert len(copies(root)) == stays


# Cores and GPUs


@pytest.mark.slow
def test_one_fold_per_gpu(sweeping: Project, root: Path) -> None:
    """Three GPUs: three workers, each sees one; the summary is right, though folds end in one instant."""
    (root / "control/together").write_text("3")
    variables = {"CUDA_VISIBLE_DEVICES": "4,GPU-a1b2,7"}
    printed = sweeping.train("-m", FOLDS, LOCAL, experiment=LIGHT, root=root, **variables).stdout
    done = [result["values"] for result in results(root).values()]
    seen = {values["pid"]: values["environment"]["CUDA_VISIBLE_DEVICES"] for values in done}
    assert len(done) == len(seen) == 5 and set(seen.values()) == {"4", "7", "GPU-a1b2"}
    run = store.read_run(counting(root))
    assert run.is_complete and run.cv is not None and run.marks == ()
    assert printed.splitlines()[-1].split()[1:5] == ["10.0000", "±", "0.0000", "5/5"]


# What a job leaves behind

LOOK = """
    found = {"left": [len(LEFT), os.getcwd(), os.getenv("LEFT"), "this" in sys.modules], "random": numpy.random.rand()}
    LEFT.append(1)
    os.chdir("/")
    vars(os)["env" + "iron"]["LEFT"] = "yes"
    return found | {
        "had": HAD,
"""


@pytest.mark.parametrize("sets_variables", [False, True])
def test_a_job_finds_nothing_of_the_one_before(
    sweeping: Project, root: Path, light: Path, sets_variables: bool
) -> None:
    """Two workers take five jobs, each in a process of its own: variables, the working directory and modules of the
    project are as at the start, random numbers differ. Only libraries are there already, unless code of the project
    may have to set a variable before they are imported."""
    code = (light / "model.py").read_text()
    top = 'import mailbox\nimport numpy\nLEFT = []\nSECRET = "as'
    new = code.replace('SECRET = "as', f'HAD = "mailbox" in sys.modules\n{top}').replace("    return {\n", LOOK)
    with edited(light / "model.py", code, new if sets_variables else new.replace("os.environ.get(", "os.getenv(")):
        sweeping.train("-m", FOLDS, LOCAL, TWO, experiment=LIGHT, root=root, WANDB_MODE="disabled")
    done = [result["values"] for result in results(root).values()]
    assert [values["left"] for values in done] == [[0, str(sweeping.folder), None, False]] * 5
    assert len({values["random"] for values in done}) == len({values["pid"] for values in done}) == 5
    first = sum(not values["had"] for values in done)
    assert first == 5 if sets_variables else first in (1, 2)


# Failures


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
    """It ends its own run, and no other."""
    (root / "control/gate1").touch()
    folds = "exp.fold=[0],[1],[2],[3]"
    process = start(sweeping, root, "-m", folds, LOCAL, TWO)
    wait_for(lambda: came(root, 2).exists() and came(root, 1).exists(), process)
    children = psutil.Process(process.pid).children(recursive=True)
    [holder] = [child for child in children if any("fold1" in file.path for file in child.open_files())]
    holder.kill()
    printed, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "error: exp.fold=[1]: its process has died: killed or out of memory" in errors
    assert errors.splitlines()[-1] == "error: failed: exp.fold=[1]"
    assert sorted(results(root)) == [0, 2, 3]
    (root / "control/gate1").unlink()
    assert " 4/5 " in sweeping.train("-m", folds, experiment=LIGHT, root=root).stdout.splitlines()[-1]


SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize("limit", [[], pytest.param(["exp.time_limit=1h"], marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", [signal.SIGKILL, *SLOW])
def test_no_process_outlives_its_command(sweeping: Project, root: Path, how: signal.Signals, limit: list[str]) -> None:
    """After `kill -9` of the command its workers end soon, and after Ctrl-C; finished folds are kept.
    One that has failed has not stopped the others."""
    (root / "control/gate2").touch()
    (root / "control/fail0").touch()
    process = start(sweeping, root, "-m", FOLDS, *limit, LOCAL, TWO)
    ended = root / "output/multirun"
    wait_for(lambda: 1 in results(root) and came(root, 2).exists() and any(ended.glob(f"*/0/{JOB_REPORT}")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    for each in (psutil.Process(process.pid), *(children if how is signal.SIGINT else [])):
        if each.is_running() and os.getsid(each.pid) == os.getsid(0):
            each.send_signal(how)  # Ctrl-C reaches all processes of a terminal
    errors = process.communicate(timeout=60)[1]
    wait_for(lambda: not any(map(works, children)), seconds=30)
    assert 1 in results(root) and 2 not in results(root)
    assert errors.count("ValueError: planted") == 1
    if how is signal.SIGKILL:
        assert limit or store.read_run(counting(root)).folds[2].failure == "stopped by SIGTERM"
    else:
        code, reason = STOPPED[how]
        assert process.returncode == code
        assert re.match(
            f"{reason}( in fold .*)?: finished folds are kept.*: uv run python .* -m ", errors.splitlines()[-1]
        )


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


# A time limit


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], [LOCAL, TWO], [LOCAL, "hydra.launcher.n_jobs=1"]])
def test_a_job_that_hangs_does_not_end_the_others(
    sweeping: Project, root: Path, light: Path, launcher: list[str]
) -> None:
    """It is killed, in a process of its own; the other jobs go on, and the same command trains it alone."""
    with edited(light / "model.py", "        time.sleep(0.01)", "        sum(iter(int, 1))"):  # for ever, in C
        (root / "control/gate0").touch()
        command = ["-m", "exp.fold=[0],[1],[2]", "exp.time_limit=2s", *launcher]
        process = start(sweeping, root, *command)
        _, err = process.communicate()
        job = "exp.fold=[0] exp.time_limit=2s"
        assert (process.returncode, err.splitlines()[-1]) == (1, f"error: failed: {job}")
        assert "fold 0 took longer than exp.time_limit=2s" in err and "Traceback" not in err
        assert f"error: {job}: its process has died: over exp.time_limit, killed or out of memory" in err
        assert [*results(root)] == [1, 2]
        (root / "control/gate0").unlink()
        process = start(sweeping, root, *command)
        out, _ = process.communicate()
        assert process.returncode == 0 and "fold 1 is done" in out and " 3/5 " in out
