"""Jobs of a real Slurm cluster, of one node, started for these tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import slurm
from conftest import Project, call
from experiments import WALK
from helpers import counting, load, results, scores_and_predictions, start
from light import LIGHT, edited, wait_for

from expkit import store

pytestmark = pytest.mark.slow
FOLDS = "exp.fold=[0],[1],[2],[3],[4]"
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]


@pytest.fixture(scope="module")
def daemons() -> Iterator[dict[str, str]]:
    if reason := slurm.why_not():
        pytest.skip(reason)
    with slurm.cluster() as variables:
        yield variables


@pytest.fixture
def cluster(daemons: dict[str, str]) -> Iterator[dict[str, str]]:
    """The variables with which a command finds the cluster; its queue is empty, its node idle."""
    yield daemons
    print(slurm.state(daemons))  # shown when the test fails
    slurm.clear(daemons)


def ask(cluster: dict[str, str], *command: str) -> str:
    return call(*command, cwd=Path("/"), env=os.environ | cluster).stdout.strip()


def job_numbers(cluster: dict[str, str]) -> list[str]:
    """The jobs that wait or run, as "12_0"."""
    return ask(cluster, "squeue", "-h", "-r", "-o", "%i").split()


def end(process: subprocess.Popen[str]) -> str:
    """What a command printed that ends well."""
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    return printed


def test_folds_on_slurm(sweeping: Project, cluster: dict[str, str], tmp_path: Path) -> None:
    """From the project's root; scores and predictions are those of one process, to the byte."""
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    arguments = ["exp=001", "exp.train.epochs=1"]
    sweeping.train(*arguments, "exp.fold=[0,1]", root=tmp_path / "one", WANDB_MODE="disabled")
    typed, variables = ["-m", *arguments, "exp.fold=[0],[1]", *SLURM], cluster | {"WANDB_MODE": "disabled"}
    done = sweeping.train(*typed, root=tmp_path / "many", **variables)
    name = "001-larger-lr,exp.train.epochs=1"
    one, many = (counting(tmp_path / root, name, "001-baseline") for root in ("one", "many"))
    assert len(scores_and_predictions(one)) == 2
    assert scores_and_predictions(many) == scores_and_predictions(one)
    assert " 2/5 " in done.stdout.splitlines()[-1]
    assert load(many / "fold1/origin.json")["git"] == load(one / "fold1/origin.json")["git"]


def test_an_edit_does_not_reach_a_queued_job(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    """Submitted while the node is drained; and what SBATCH_* variables say goes over the preset."""
    node = ask(cluster, "sinfo", "-h", "-o", "%n")
    ask(cluster, "scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    variables = cluster | {"SBATCH_PARTITION": "other", "SBATCH_TIMELIMIT": "7"}
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", *SLURM, **variables)
    wait_for(lambda: len(job_numbers(cluster)) == 2, process)
    assert set(ask(cluster, "squeue", "-h", "-r", "-o", "%P %l %c").splitlines()) == {"other 7:00 1"}
    folder = sweeping.folder / "experiments" / LIGHT
    with (
        edited(folder / "model.py", "as submitted", "edited"),
        edited(folder / "config.yaml", "name: light", "name: no"),
    ):
        ask(cluster, "scontrol", "update", f"nodename={node}", "state=resume")
        end(process)
    done = results(root)
    assert sorted(done) == [0, 1]
    for values in (result["values"] for result in done.values()):
        assert values["secret"] == "as submitted"
        assert Path(values["file"]).is_relative_to(root / "output/multirun/.code")
        assert values["environment"]["SLURM_JOB_ID"]
        assert values["environment"]["OMP_NUM_THREADS"] == "1"
    assert store.read_run(counting(root)).marks == ("partial",)


def test_scancel_then_the_same_command(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    """Only what is missing runs."""
    (root / "control/gate1").touch()
    arguments = ["-m", "exp.fold=[0],[1],[2]", *SLURM]
    process = start(sweeping, root, *arguments, **cluster)
    wait_for(lambda: {0, 2} <= results(root).keys() and (root / "control/came1").exists(), process)
    [running] = [number for number in job_numbers(cluster) if number.endswith("_1")]
    ask(cluster, "scancel", running)
    wait_for(lambda: running not in job_numbers(cluster))
    process.send_signal(signal.SIGINT)  # without accounting, submitit does not see that the job is gone
    process.communicate(timeout=60)
    assert process.returncode == 130
    before = results(root)
    assert sorted(before) == [0, 2]
    (root / "control/gate1").unlink()
    printed = end(start(sweeping, root, *arguments, **cluster))
    assert " 3/5 " in printed.splitlines()[-1]
    after = results(root)
    assert sorted(after) == [0, 1, 2]
    assert {fold: after[fold] for fold in before} == before


def test_time_limit(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    """A job that comes to its time limit goes back into the queue, and goes on in the middle of a fold."""
    folder = sweeping.folder / "experiments/009-long"
    folder.mkdir()
    (folder / "train.py").write_text(WALK)
    (folder / "config.yaml").write_text("defaults:\n- schema\n- _self_\n- exp: default\n\nexp:\n  name: long\n")
    (root / "control/gate").write_text("5")
    try:
        limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=40"]  # the signal comes after 20 s
        process = start(sweeping, root, "-m", "exp.fold=[1]", *SLURM, *limit, experiment=folder.name, **cluster)
        wait_for((root / "control/here").exists, process)
        wait_for(lambda: "PENDING" in ask(cluster, "squeue", "-h", "-o", "%T"), process, seconds=90)
        (root / "control/gate").unlink()
        assert " 1/5 " in end(process).splitlines()[-1]  # Slurm looks at its clock twice a minute
    finally:
        shutil.rmtree(folder)
    fold = store.read_run(counting(root, "long", folder.name)).folds[1]
    assert fold.origin()["resumed"] >= 1
    epochs = [line.split(",")[0] for line in (fold.folder / store.HISTORY).read_text().splitlines()[1:]]
    assert epochs == [str(epoch) for epoch in range(1, 13)]


def test_a_failed_job_names_its_log(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    (root / "control/fail1").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1]", *SLURM, **cluster)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: failed: exp.fold=[1] (its log: ")
    log = sweeping.folder / last.removeprefix("error: failed: exp.fold=[1] (its log: ").removesuffix(")")
    assert "ValueError: planted" in log.read_text()
    assert " 1/5 " in printed.splitlines()[-1]


# Several runs in a job, several arrays of jobs


def holds(process: psutil.Process, root: Path, name: str) -> bool:
    """Whether a process has opened a file below `root` with this in its name."""
    with suppress(psutil.Error):
        return any(name in file.path and file.path.startswith(str(root)) for file in process.open_files())
    return False


def test_short_runs_share_a_job(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    """Each has a process, a log and a record of its own: one that fails or is killed ends alone, and is named."""
    (root / "control/fail1").touch()
    (root / "control/gate2").touch()
    process = start(sweeping, root, "-m", FOLDS, *SLURM, "hydra.launcher.runs_per_job=3", **cluster)
    wait_for((root / "control/came2").exists, process)
    [trains] = [each for each in psutil.process_iter() if holds(each, root, "fold2")]
    trains.kill()
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and " 3/5 " in printed.splitlines()[-1]
    assert re.sub(r"its log: \S*/", "", errors.splitlines()[-1]) == (
        "error: failed: exp.fold=[1] (log.txt), exp.fold=[2] (log.txt)"
    )
    done = {fold: result["values"] for fold, result in results(root).items()}
    jobs = [done[fold]["environment"]["SLURM_JOB_ID"] for fold in (0, 3, 4)]
    assert sorted(done) == [0, 3, 4] and jobs[0] != jobs[1] == jobs[2]
    assert len({values["pid"] for values in done.values()}) == 3
    logs = [file.read_text() for file in sorted(root.glob("output/multirun/*/[0-9]/log.txt"))]
    assert [re.findall(r"^fold . |planted$", log, re.MULTILINE) for log in logs] == [
        ["fold 0 "],
        ["planted"],
        [],
        ["fold 3 "],
        ["fold 4 "],
    ]


def test_a_job_of_several_runs_goes_back_to_the_queue(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    """It goes on with the run that it was in, and those after it; what was done before is kept."""
    (root / "control/gate1").touch()
    process = start(sweeping, root, "-m", "exp.fold=[0],[1],[2]", *SLURM, "hydra.launcher.runs_per_job=3", **cluster)
    wait_for((root / "control/came1").exists, process)
    before = results(root)
    (root / "control/came0").unlink()
    ask(cluster, "scancel", "--signal=USR2", *job_numbers(cluster))  # as Slurm does before a time limit
    wait_for(lambda: "PENDING" in ask(cluster, "squeue", "-h", "-o", "%T"), process)
    (root / "control/gate1").unlink()
    assert " 3/5 " in end(process).splitlines()[-1]
    after = results(root)
    assert sorted(before) == [0] and after[0] == before[0] and not (root / "control/came0").exists()
    assert [after[fold]["values"]["environment"]["SLURM_RESTART_COUNT"] for fold in (1, 2)] == ["1", "1"]
    [first] = root.glob("output/multirun/*/0/log.txt")
    assert first.read_text().count("fold 0 is done") == 1, "it was not trained again"


@pytest.mark.parametrize("wrong", ["runs_per_job=0", "tasks_per_node=2", "nodes=2"])
def test_a_job_is_of_one_process(sweeping: Project, cluster: dict[str, str], root: Path, wrong: str) -> None:
    """Several tasks would each train the whole run."""
    typed = ["-m", FOLDS, *SLURM, f"hydra.launcher.{wrong}"]
    refused = sweeping.train(*typed, experiment=LIGHT, root=root, check=False, **cluster)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: hydra.launcher: runs_per_job must be at least 1, nodes and tasks_per_node")
    assert not job_numbers(cluster)


def test_more_jobs_than_an_array_takes(sweeping: Project, cluster: dict[str, str], root: Path) -> None:
    """Four here: two arrays, both in the queue at once."""
    node = ask(cluster, "sinfo", "-h", "-o", "%n")
    ask(cluster, "scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    process = start(sweeping, root, "-m", FOLDS, *SLURM, **cluster)
    wait_for(lambda: len(job_numbers(cluster)) == 5, process)
    assert len({number.partition("_")[0] for number in job_numbers(cluster)}) == 2
    ask(cluster, "scontrol", "update", f"nodename={node}", "state=resume")
    assert " 5/5 " in end(process).splitlines()[-1]
