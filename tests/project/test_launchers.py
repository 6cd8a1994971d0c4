"""Many jobs at once on one machine: real processes, with the code as it was when the sweep was started."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from commands import command
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


@pytest.mark.parametrize(
    "launcher",
    [["hydra/launcher=basic"], pytest.param([LOCAL, "hydra.launcher.n_jobs=1"], marks=pytest.mark.slow)],
    ids=["basic", "local"],
)
def test_jobs_in_this_process_use_the_code_that_is_loaded(
    sweeping: Project, root: Path, light: Path, launcher: list[str]
) -> None:
    """Also when it is edited meanwhile; and neither they nor what comes after see how the sweep was launched."""
    after = "expkit.main(experiment)\n    import os, sys\n    print('after:', os.environ.get('HYDRA_FULL_ERROR'), "
    after += "os.environ.get('PYTHONPATH'), [path for path in sys.path if '.code' in path])"
    (root / "control/gate0").touch()
    with edited(light / "train.py", "expkit.main(experiment)", after):
        process = start(sweeping, root, "-m", "exp.fold=[0],[1]", *launcher)
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


@pytest.mark.slow
def test_an_edit_does_not_reach_a_waiting_job_without_git(sweeping: Project, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "no-git"
    shutil.copytree(sweeping.folder, folder, ignore=shutil.ignore_patterns(".git", ".venv", "output"), symlinks=True)
    (folder / "output").mkdir()
    for fold in (0, 1):
        (root / f"control/gate{fold}").touch()
    arguments = ["-m", "exp.fold=[0],[1],[2]", LOCAL, TWO]
    process = start(Copied(folder, sweeping), root, *arguments, EXPKIT_ROOT=str(folder), PYTHONPATH=str(folder / "src"))
    wait_for(lambda: came(root, 0).exists() and came(root, 1).exists(), process)
    model = folder / "experiments" / LIGHT / "model.py"
    model.write_text(model.read_text().replace("as submitted", "edited"))
    for fold in (0, 1):
        (root / f"control/gate{fold}").unlink()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "warning: no snapshot of the code" in errors
    assert [result["values"]["secret"] for result in results(root).values()] == ["as submitted"] * 3


class Copied(Project):
    """A project that has no environment of its own."""

    def __init__(self, folder: Path, original: Project) -> None:
        super().__init__(folder, original.home)
        object.__setattr__(self, "original", original)

    @property
    def python(self) -> Path:
        return self.original.python  # type: ignore[attr-defined, no-any-return]


# Where the results land


@pytest.mark.parametrize("linked", ["", pytest.param("output", marks=pytest.mark.slow), "output/multirun"])
def test_results_lie_in_the_project_when_project_root_is_not_set(
    sweeping: Project, tmp_path: Path, light: Path, linked: str
) -> None:
    """Not in the copy of the code; also when output/ or a folder in it is a link to a larger disk."""
    output = sweeping.folder / "output"
    name = f"run-{linked.replace('/', '-')}"
    aside = tmp_path / "aside"
    if linked:
        (sweeping.folder / linked).parent.mkdir(exist_ok=True)
        if (sweeping.folder / linked).exists():
            (sweeping.folder / linked).rename(aside)
        (tmp_path / "disk").mkdir()
        (sweeping.folder / linked).symlink_to(tmp_path / "disk")
    (sweeping.folder / "control").mkdir(exist_ok=True)
    try:
        environment = sweeping.environment(WANDB_MODE="disabled")
        command = [sweeping.python, light / "train.py", "-m", f"exp.name={name}", "exp.fold=[0],[1]", LOCAL, TWO]
        call(*command, cwd=tmp_path, env=environment)
        done = results(sweeping.folder, name)
        assert sorted(done) == [0, 1]
        for result in done.values():
            assert Path(result["values"]["file"]).is_relative_to((output / "multirun/.code").resolve())
        assert not list((output / "multirun/.code").glob("*/output/[!.]*"))
        assert call("git", "status", "--porcelain", "--", "experiments", "src", cwd=sweeping.folder).stdout == ""
    finally:
        if linked:
            (sweeping.folder / linked).unlink()
            if aside.exists():
                aside.rename(sweeping.folder / linked)
        shutil.rmtree(sweeping.folder / "control")
        shutil.rmtree(output / LIGHT, ignore_errors=True)


def test_a_sweep_begins_with_the_flag(sweeping: Project, root: Path) -> None:
    """hydra.mode=MULTIRUN would train with the code as it is when each job starts."""
    done = sweeping.train("exp.fold=[0],[1]", "hydra.mode=MULTIRUN", experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1 and "a sweep begins with -m" in done.stderr.splitlines()[-1]
    assert results(root) == {}


@pytest.mark.parametrize("launcher", [["hydra/launcher=basic"], [LOCAL, TWO]], ids=["basic", "local"])
def test_a_sweep_and_a_single_run_are_of_the_same_code(sweeping: Project, light: Path, launcher: list[str]) -> None:
    """With output/ in the project, where the copy of the code lies among its files."""
    name = f"same-{len(launcher)}"
    (sweeping.folder / "control").mkdir()
    (sweeping.folder / "control/.gitignore").write_text("*")
    try:
        for arguments in (["exp.fold=[0]"], ["-m", "exp.fold=[1],[2]", *launcher]):
            sweeping.train(f"exp.name={name}", *arguments, experiment=LIGHT, WANDB_MODE="disabled")
        done = results(sweeping.folder, name)
        assert sorted(done) == [0, 1, 2]
        assert done[0]["code"] == done[1]["code"] == done[2]["code"], "the board would say: mixed code"
        assert done[0]["git"] == done[1]["git"] == done[2]["git"], "the board would say: not committed"
    finally:
        shutil.rmtree(sweeping.folder / "control")
        shutil.rmtree(sweeping.folder / "output" / LIGHT, ignore_errors=True)


# Cores and GPUs


@pytest.mark.slow
def test_as_many_processes_as_cores_and_the_cores_shared(sweeping: Project, root: Path) -> None:
    sweeping.train("-m", FOLDS, LOCAL, experiment=LIGHT, root=root, LIGHT_SECONDS="0.3")
    cores = len(os.sched_getaffinity(0))
    done = [result["values"] for result in results(root).values()]
    assert len(done) == 5
    assert 1 < len({values["pid"] for values in done}) <= cores
    assert {values["environment"]["OPENBLAS_NUM_THREADS"] for values in done} == {"1"}
    for values in done:
        running = [other for other in done if 0 <= other["ended"] - values["ended"] < 0.3]
        assert len(running) <= cores

    sweeping.train("-m", "exp.name=other", FOLDS, LOCAL, experiment=LIGHT, root=root, OMP_NUM_THREADS="7")
    assert {one["values"]["environment"]["OMP_NUM_THREADS"] for one in results(root, "other").values()} == {"7"}


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["CUDA_VISIBLE_DEVICES", "nvidia-smi"])
def test_one_fold_per_gpu(sweeping: Project, root: Path, tmp_path: Path, named: bool) -> None:
    """Three GPUs: three processes, each sees one. Named by the variable, or found by the program."""
    (root / "control/together").write_text("3")
    variables = {"CUDA_VISIBLE_DEVICES": "4,GPU-a1b2,7"}
    if not named:
        smi = tmp_path / "nvidia-smi"
        smi.write_text('#!/bin/sh\nfor gpu in 0 1 2; do echo "GPU $gpu: A card (UUID: GPU-$gpu)"; done\n')
        smi.chmod(0o755)
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    sweeping.train("-m", FOLDS, LOCAL, experiment=LIGHT, root=root, **variables)
    done = [result["values"] for result in results(root).values()]
    seen = {values["pid"]: values["environment"]["CUDA_VISIBLE_DEVICES"] for values in done}
    assert len(done) == 5
    assert sorted(seen.values()) == (["4", "7", "GPU-a1b2"] if named else ["0", "1", "2"])


@pytest.mark.slow
def test_the_summary_is_right_when_all_finish_in_one_instant(sweeping: Project, root: Path) -> None:
    (root / "control/together").write_text("5")
    arguments = ["-m", FOLDS, LOCAL, "hydra.launcher.n_jobs=5"]
    printed = sweeping.train(*arguments, experiment=LIGHT, root=root).stdout
    ended = [result["values"]["ended"] for result in results(root).values()]
    assert max(ended) - min(ended) < 0.5
    run = store.read_run(counting(root))
    assert run.is_complete and run.cv is not None and run.marks == ()
    assert printed.splitlines()[-1].split()[1:5] == ["10.0000", "±", "0.0000", "5/5"]


# Failures


def test_a_failed_job_does_not_stop_the_others(sweeping: Project, root: Path) -> None:
    """What has failed is named at the end; the next command trains it, and it alone."""
    for fold in (1, 3):
        (root / f"control/fail{fold}").touch()
    done = sweeping.train("-m", FOLDS, LOCAL, TWO, experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert done.stderr.count("ValueError: planted") == 2
    assert done.stderr.splitlines()[-1] == "error: failed: exp.fold=[1], exp.fold=[3]"
    assert " 3/5 " in done.stdout.splitlines()[-1]
    before = results(root)
    assert sorted(before) == [0, 2, 4]
    for fold in (1, 3):
        (root / f"control/fail{fold}").unlink()
    trained: list[int | None] = []
    command("exp.fold=[0,1,2,3,4]", during=lambda fold: trained.append(fold.number)).train()
    assert trained == [1, 3] and {fold: results(root)[fold] for fold in before} == before


def test_a_refused_value_is_one_line(sweeping: Project, root: Path, light: Path) -> None:
    """Named as the project has it, not as the copy that runs."""
    done = sweeping.train("-m", "exp.n_folds=0,5", LOCAL, TWO, experiment=LIGHT, root=root, check=False)
    assert done.returncode == 1
    assert "error: exp.n_folds=0: exp.n_folds must be at least 1 and at most 10000, not 0" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    parameters = light / "exp/001.yaml"
    parameters.parent.mkdir()
    parameters.write_text("name: [")
    try:
        done = sweeping.train("-m", "exp=001", experiment=LIGHT, root=root, check=False)
    finally:
        shutil.rmtree(parameters.parent)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"error: {parameters}, line 1:" in done.stderr


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


@pytest.mark.slow
def test_a_job_that_begins_after_the_kill_of_its_command_trains_nothing(sweeping: Project, root: Path) -> None:
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", LOCAL, TWO)
    wait_for(lambda: len(workers(process.pid)) == 2, process)
    children = workers(process.pid)
    for each in children:
        each.suspend()
    time.sleep(1)  # until the jobs are in the queue
    process.kill()
    process.wait()
    for each in children:
        each.resume()
    with suppress(AssertionError):  # a job that is larger than a pipe has not come whole, and does not begin at all
        wait_for(lambda: not all(map(works, children)), seconds=10)
    for each in filter(works, children):  # one that has no job yet goes when joblib finds it idle
        each.kill()
    assert results(root) == {} and not list(root.glob("control/came*"))


def workers(command: int) -> list[psutil.Process]:
    """The processes of joblib that take jobs."""

    def takes_jobs(child: psutil.Process) -> bool:
        try:
            return works(child) and "popen_loky_posix" in " ".join(child.cmdline())
        except psutil.NoSuchProcess:  # ended between the two, or a zombie
            return False

    return list(filter(takes_jobs, psutil.Process(command).children(recursive=True)))


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
        assert store.read_run(counting(root)).failed[1] == "stopped by SIGTERM"


@pytest.mark.parametrize(("is_terminal", "lines"), [(False, 300), (True, 5)], ids=["pipe", "terminal"])
def test_jobs_at_once_print_whole_lines(
    sweeping: Project, root: Path, light: Path, is_terminal: bool, lines: int
) -> None:
    """And no bars, which would write over each other on a terminal."""
    (root / "control/together").write_text("2")
    reader, writer = os.openpty() if is_terminal else os.pipe()
    old, text = "    time.sleep(float", "x" * 97
    line = f"<{{fold}} {{sys.stdout.isatty()}} {text}>"
    new = f'    for _ in range({lines}):\n        print(f"{line}")\n        time.sleep(0.002)\n{old}'
    with edited(light / "model.py", old, new):
        process = start(sweeping, root, "-m", "exp.fold=[0],[1]", LOCAL, TWO, stdout=writer)
        os.close(writer)
        printed = bytearray()
        with suppress(OSError):  # a terminal that nobody has open any more
            while part := os.read(reader, 65536):
                printed += part
    os.close(reader)
    assert process.wait(60) == 0
    found = [line for line in printed.decode().splitlines() if "xx" in line]
    assert sorted(found) == [f"<{fold} False {text}>" for fold in (0, 1) for _ in range(lines)]


def test_a_sweep_that_is_refused_leaves_no_code(sweeping: Project, root: Path) -> None:
    """Nothing was begun; a copy that another sweep uses stays."""
    copies = root / "output/multirun/.code"
    for arguments in (["exp.nope=1,2"], ["exp.seed=x,y"], ["exp.nope=1,2", LOCAL]):
        refused = sweeping.train("-m", *arguments, experiment=LIGHT, root=root, check=False)
        assert refused.returncode == 2, refused.stderr
        assert not list(copies.glob("*"))
    (root / "control/gate0").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", LOCAL, TWO)
    wait_for(came(root, 0).exists, process)
    sweeping.train("-m", "exp.nope=1,2", experiment=LIGHT, root=root, check=False)
    assert len([path for path in copies.glob("[!.]*")]) == 1
    (root / "control/gate0").unlink()
    assert process.wait(60) == 0 and not list(copies.glob("[!.]*"))


# overwrite=true

IN_CONFIG = "hydra:\n  sweeper:\n    params:\n      overwrite: true\n      exp.fold: '[0],[1],[2]'\n\nexp:\n"


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        pytest.param(["exp.fold=[0],[1],[2]", "overwrite=true"], "exp:\n", marks=pytest.mark.slow),
        pytest.param(["++exp.fold=[0],[1],[2]", "overwrite=true", LOCAL, TWO], "exp:\n", marks=pytest.mark.slow),
        pytest.param([LOCAL, TWO], IN_CONFIG, marks=pytest.mark.slow),
        ([], IN_CONFIG),
    ],
    ids=["basic", "local", "local and params of config.yaml", "params of config.yaml"],
)
def test_the_old_run_counts_until_every_job_is_done(
    sweeping: Project, root: Path, light: Path, arguments: list[str], config: str
) -> None:
    """While jobs train, and after one has failed; the same command trains that one, and puts the new run in place."""
    expkit.run(LIGHT, overrides=["exp.name=run", "exp.fold=[0,1,2]"])
    before = results(root, "run")
    (root / "control/gate1").touch()
    came(root, 1).unlink()
    with edited(light / "config.yaml", "exp:\n", f"{config}  seed: 7\n"):
        process = start(sweeping, root, "-m", "exp.name=run", *arguments)
        wait_for(lambda: came(root, 1).exists(), process)
        if LOCAL not in arguments:  # then fold 0 is done
            assert sorted(store.read_run(root / f"output/{LIGHT}/run@2").done) == [0]
        assert results(root, "run") == before
        (root / "control/fail1").touch()
        process.kill()
        process.communicate()
        assert results(root, "run") == before

        (root / "control/gate1").unlink()
        failed = sweeping.train("-m", "exp.name=run", *arguments, experiment=LIGHT, root=root, check=False)
        assert failed.returncode == 1
        assert results(root, "run") == before
        (root / "control/fail1").unlink()
        again = sweeping.train("-m", "exp.name=run", *arguments, experiment=LIGHT, root=root).stdout
    assert "fold 0 is done" in again and "fold 2 is done" in again
    after = results(root, "run")
    assert sorted(after) == [0, 1, 2]
    assert all(after[fold]["values"]["ended"] > before[fold]["values"]["ended"] for fold in before)
    assert "seed: 7" in (counting(root, "run") / "config.yaml").read_text()
    assert {path.name for path in (root / f"output/{LIGHT}").iterdir()} == {"run@2", ".run.version", ".locks"}
    assert " 3/5 " in again.splitlines()[-1]
