"""Runs are never lost, mixed up or forgotten: real processes, real kills, real git repositories, a real full disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import GIT, Completed, Project, background, call, clean_environment, commit_all
from test_run import files, load, rows
from test_tracking import KEY

ALL_FOLDS = "exp.fold=[0,1,2,3,4]"
QUICK = "exp.train.epoch=2"
SLOW = "exp.train.epoch=100"  # about a second and a half a fold
RUN = "output/001-baseline/baseline"


def start(project: Project, root: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a training in the background, without W&B unless `variables` say so."""
    environment = project.environment(PROJECT_ROOT=str(root), **({"WANDB_MODE": "disabled"} | variables))
    command = [project.python, project.folder / "experiments/001-baseline/train.py", *arguments]
    return background(*command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(
    condition: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def epochs(history: Path) -> int:
    return len(rows(history)) if history.exists() else 0


def scores_and_predictions(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in files(run) if name.endswith(("oof.csv", "cv.json"))}


# Nothing lost


def test_kill_at_any_moment(project: Project, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """After `kill -9` the same command keeps finished folds, and ends with the bytes of an uninterrupted run."""
    kills = request.config.getoption("--kills")
    arguments = ["exp.fold=[0,1,2]", "exp.train.epoch=60"]
    suffix = ",exp.train.epoch=60"
    (tmp_path / "whole").mkdir()
    begin = time.monotonic()
    project.train(*arguments, root=tmp_path / "whole", WANDB_MODE="disabled")
    duration = time.monotonic() - begin
    expected = scores_and_predictions(tmp_path / f"whole/{RUN}{suffix}")
    assert len(expected) == 4

    chance = random.Random()
    while kills > 0:
        root = tmp_path / f"killed{kills}"
        root.mkdir()
        run = root / f"{RUN}{suffix}"
        for _ in range(min(3, kills)):
            kills -= 1
            before = {name: (run / name).stat().st_mtime_ns for name in files(run) if name.endswith("result.json")}
            process = start(project, root, *arguments)
            try:
                process.wait(chance.uniform(0.3, duration))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            after = {name: (run / name).stat().st_mtime_ns for name in before}
            assert after == before, "a finished fold is not touched"
            for name in files(run):
                if name.endswith(".json") and not Path(name).name.startswith("."):
                    load(run / name)
        project.train(*arguments, root=root, WANDB_MODE="disabled")
        assert scores_and_predictions(run) == expected
        shutil.rmtree(root)


def test_kill_while_overwriting(project: Project, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """At every moment the old run or the new one is there, and whole; the same command goes on."""
    project.train("exp.fold=[0,1]", QUICK, root=tmp_path, WANDB_MODE="disabled")
    run = tmp_path / f"{RUN},{QUICK}"
    chance = random.Random()
    for _ in range(request.config.getoption("--kills")):
        process = start(project, tmp_path, "exp.fold=[0,1]", QUICK, "overwrite=true")
        try:
            process.wait(chance.uniform(0.3, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        project.train("exp.fold=[0,1]", QUICK, root=tmp_path, WANDB_MODE="disabled")  # also ends an interrupted swap
        assert load(run / "cv.json")["folds_done"] == 2
    project.train("exp.fold=[0,1]", QUICK, "overwrite=true", root=tmp_path, WANDB_MODE="disabled")
    assert {folder.name for folder in run.parent.iterdir()} <= {run.name, ".locks"}


@pytest.mark.parametrize("moment", ["before the old one is aside", "between the two", "before the old one is gone"])
def test_an_interrupted_swap_is_ended(project: Project, tmp_path: Path, moment: str) -> None:
    """A crash between the renames of overwrite=true; nothing is trained to mend it."""
    project.train(QUICK, root=tmp_path, WANDB_MODE="disabled")
    run = tmp_path / f"{RUN},{QUICK}"
    new, old = run.with_name(f".{run.name}.new"), run.with_name(f".{run.name}.old")
    shutil.copytree(run, new)
    if moment != "before the old one is aside":
        run.rename(old)
    if moment == "before the old one is gone":
        new.rename(run)
    printed = project.train(QUICK, root=tmp_path).stdout
    assert "fold 0 is done" in printed
    assert not old.exists()


def test_a_broken_result_counts_as_missing(project: Project, tmp_path: Path) -> None:
    """Cut off, empty, foreign or of another fold: a warning that names it, and the fold is trained again."""
    project.train(QUICK, "exp.fold=[0,1]", root=tmp_path, WANDB_MODE="disabled")
    result = tmp_path / f"{RUN},{QUICK}/fold0/result.json"
    score = load(result)["score"]
    of_another = (result.parents[1] / "fold1/result.json").read_text()
    for content in ("", "{", "[]", '"text"', "{}", "null", "\0\0\0", result.read_text()[:-20], of_another):
        result.write_text(content)
        done = project.train(QUICK, "exp.fold=[1]", root=tmp_path, WANDB_MODE="disabled")
        assert "fold0/result.json" in done.stderr and "counts as missing" in done.stderr, content
        assert len(done.stderr.splitlines()) == 1
        assert "1/5 folds" in done.stdout
    project.train(QUICK, root=tmp_path, WANDB_MODE="disabled")
    assert load(result)["score"] == score


def test_two_processes_share_the_folds(project: Project, tmp_path: Path) -> None:
    """Each fold is trained by exactly one; the other says so and takes what is free."""
    both = [start(project, tmp_path, "exp.fold=[0,1,2]", SLOW) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    for fold in range(3):
        assert sum(f"fold {fold}  epoch 1/" in text for text in printed) == 1
    assert any("is being trained by another process" in text for text in printed)
    assert all("3/5 folds" in text for text in printed)


def test_waits_for_the_last_fold(project: Project, tmp_path: Path) -> None:
    first = start(project, tmp_path, SLOW)
    history = tmp_path / f"{RUN},{SLOW}/fold0/history.csv"
    wait_for(lambda: epochs(history) > 1, first)
    second = project.train(SLOW, root=tmp_path)
    assert "waiting for fold 0, which another process trains" in second.stdout
    assert "fold 0 is done" in second.stdout
    assert "epoch 1/" not in second.stdout
    assert first.communicate()[0].count("epoch 1/") == 1


def test_the_lock_of_a_killed_process_is_free(project: Project, tmp_path: Path) -> None:
    first = start(project, tmp_path, "exp.train.epoch=2000")
    wait_for(lambda: epochs(tmp_path / f"{RUN},exp.train.epoch=2000/fold0/history.csv") > 1, first)
    first.kill()
    first.communicate()
    second = start(project, tmp_path, "exp.train.epoch=2000")
    wait_for(lambda: epochs(tmp_path / f"{RUN},exp.train.epoch=2000/fold0/history.csv") > 1, second)
    second.send_signal(signal.SIGINT)
    assert "waiting" not in second.communicate()[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a filesystem")
    if call("mount", "-t", "tmpfs", "-o", "size=1m", "none", folder, cwd=tmp_path, check=False).returncode:
        pytest.skip("this machine does not let root mount a filesystem")
    yield folder
    call("umount", folder, cwd=tmp_path)


@pytest.mark.parametrize("wandb_mode", ["disabled", "offline"])
def test_a_full_disk(project: Project, small_disk: Path, wandb_mode: str) -> None:
    """One clear line; what was there is intact; with space, the same command goes on."""
    arguments = ["exp.fold=[0,1,2,3,4]", "exp.train.base_model=large", QUICK]
    run = small_disk / f"output/001-baseline/baseline,exp.train.base_model=large,{QUICK}"
    done = project.train(*arguments, root=small_disk, check=False, WANDB_MODE=wandb_mode)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0] and str(small_disk) in errors[0]
    assert "Traceback" not in done.stderr
    finished = list(run.glob("fold*/result.json"))
    assert len(finished) < 5
    for result in finished:
        assert len(rows(result.with_name("oof.csv"))) in (287, 288)
    before = [result.read_bytes() for result in finished]
    for model in run.glob("fold*/model.joblib"):
        model.unlink()
    shutil.rmtree(small_disk / "output/wandb", ignore_errors=True)
    printed = project.train(*arguments[1:], "exp.fold=[0,1]", root=small_disk, WANDB_MODE="disabled").stdout
    assert "folds" in printed
    assert [result.read_bytes() for result in finished] == before


def test_wandb_may_fail_in_the_middle(project: Project, tmp_path: Path) -> None:
    """Its service killed: a warning, and the next fold has a W&B run again."""
    process = start(project, tmp_path, "exp.fold=[0,1]", SLOW, WANDB_MODE="offline")
    wait_for(lambda: epochs(tmp_path / f"{RUN},{SLOW}/fold0/history.csv") > 1, process)
    services = [child for child in psutil.Process(process.pid).children(recursive=True) if "wandb" in child.name()]
    assert services
    for service in services:
        service.kill()
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors.count("warning: W&B failed") == 1
    assert "Traceback" not in errors
    assert "2/5 folds" in printed
    assert len(list((tmp_path / "output/wandb").glob("offline-run-*"))) == 2
    assert epochs(tmp_path / f"{RUN},{SLOW}/fold0/history.csv") == 100


def test_wandb_folder_may_vanish(project: Project, tmp_path: Path) -> None:
    process = start(project, tmp_path, "exp.fold=[0,1]", SLOW, WANDB_MODE="offline")
    wait_for(lambda: epochs(tmp_path / f"{RUN},{SLOW}/fold0/history.csv") > 1, process)
    shutil.rmtree(tmp_path / "output/wandb")
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "2/5 folds" in printed


@pytest.fixture(scope="module")
def fragile(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose baseline fails in the fold that the variable FAIL names."""
    folder = tmp_path_factory.mktemp("fragile") / "myproj"
    call("git", "clone", "-q", project.folder, folder, cwd=folder.parent)
    train = folder / "experiments/001-baseline/train.py"
    text = train.read_text()
    marker = "        network = model.Network("
    assert text.count(marker) == 1
    planted = """
        if str(fold.number) == __import__("os").environ.get("FAIL"):
            raise ValueError("planted")
"""
    train.write_text(text.replace(marker, planted + marker))
    call("uv", "sync", "-q", cwd=folder, env=clean_environment())
    commit_all(folder)
    return Project(folder, project.home)


def test_an_exception_in_one_fold(fragile: Project, tmp_path: Path) -> None:
    """It is reported, the others are trained, the exit code says so; the same command trains just the missing one."""
    folds = "exp.fold=[0,1,2]"
    done = fragile.train(folds, QUICK, root=tmp_path, check=False, FAIL="1", WANDB_MODE="disabled")
    assert done.returncode == 1
    assert "ValueError: planted" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: failed: fold 1; the same command trains what is missing"
    run = tmp_path / f"{RUN},{QUICK}"
    assert [(run / f"fold{fold}/result.json").exists() for fold in range(3)] == [True, False, True]

    again = fragile.train(folds, QUICK, root=tmp_path, WANDB_MODE="disabled").stdout
    assert "fold 0 is done" in again and "fold 2 is done" in again
    assert "fold 1  epoch 1/2" in again
    assert "3/5 folds" in again


def test_an_exception_while_overwriting_keeps_the_old_run(fragile: Project, tmp_path: Path) -> None:
    folds = "exp.fold=[0,1]"
    fragile.train(folds, QUICK, root=tmp_path, WANDB_MODE="disabled")
    run = tmp_path / f"{RUN},{QUICK}"
    before = {name: (run / name).read_bytes() for name in files(run)}
    done = fragile.train(folds, QUICK, "overwrite=true", root=tmp_path, check=False, FAIL="1", WANDB_MODE="disabled")
    assert done.returncode == 1
    assert {name: (run / name).read_bytes() for name in files(run)} == before
    again = fragile.train(folds, QUICK, "overwrite=true", root=tmp_path, WANDB_MODE="disabled").stdout
    assert "fold 0 is done" in again and "fold 1  epoch 1/2" in again
    assert load(run / "run.json")["id"] != json.loads(before["run.json"])["id"]


# Nothing mixed up


def test_folds_of_different_code_are_marked(fragile: Project, tmp_path: Path) -> None:
    fragile.train(QUICK, root=tmp_path, WANDB_MODE="disabled")
    run = tmp_path / f"{RUN},{QUICK}"
    assert load(run / "cv.json")["mixed_code"] is False
    model = fragile.folder / "experiments/001-baseline/model.py"
    text = model.read_text()
    model.write_text(text + "\n# another thought\n")
    try:
        done = fragile.train(QUICK, "exp.fold=[1]", root=tmp_path, WANDB_MODE="disabled")
        assert "the code of experiments/001-baseline has changed since fold 0" in done.stderr
        assert "folds trained by different code" in done.stdout
        assert load(run / "cv.json")["mixed_code"] is True
        assert load(run / "fold0/result.json")["code"] != load(run / "fold1/result.json")["code"]
        fragile.train(QUICK, "exp.fold=[0,1]", "overwrite=true", root=tmp_path, WANDB_MODE="disabled")
        assert load(run / "cv.json")["mixed_code"] is False
    finally:
        model.write_text(text)


def test_no_key_that_changes_a_result_is_left_out_of_the_guard(project: Project, tmp_path: Path) -> None:
    """Every key of the configuration but the ones about which folds, and how, is guarded."""
    project.train("exp.name=mine", root=tmp_path, WANDB_MODE="disabled")
    config = tmp_path / "output/001-baseline/mine/config.yaml"
    text = config.read_text()
    for line in text.splitlines():
        key, _, value = line.strip().partition(": ")
        if not value or key in ("name", "debug", "mode", "show_config", "overwrite") or line.startswith("  -"):
            continue
        other = "large" if value == "small" else str(float(value) + 1)
        config.write_text(text.replace(line, line.replace(value, other)))
        done = project.train("exp.name=mine", root=tmp_path, check=False)
        assert f"{key}: {other} → {value}" in done.stderr, line
    config.write_text(text)
    assert "fold 0 is done" in project.train("exp.name=mine", root=tmp_path).stdout


# Nothing forgotten


def git(folder: Path, *arguments: str) -> str:
    return call(*GIT, *arguments, cwd=folder).stdout


def test_record_of_a_fold(fragile: Project, tmp_path: Path) -> None:
    (fragile.folder / "untracked.txt").write_text("an idea")
    fragile.train("exp=001", QUICK, root=tmp_path, WANDB_MODE="disabled")
    run = tmp_path / f"output/001-baseline/001-larger-lr,{QUICK}"
    (fragile.folder / "untracked.txt").unlink()
    for record in (load(run / "run.json"), load(run / "fold0/result.json")):
        assert record["command"] == ["train.py", "exp=001", QUICK]
        assert record["overrides"] == ["exp=001", QUICK]
        assert record["git"]["commit"] == git(fragile.folder, "rev-parse", "HEAD").strip()
        assert record["git"]["dirty"] is True
        tree = git(fragile.folder, "ls-tree", "-r", "--name-only", record["git"]["snapshot"]).splitlines()
        assert "untracked.txt" in tree and "experiments/001-baseline/train.py" in tree
        assert not [name for name in tree if name.startswith(("output/001", "input/train"))]
        assert record["packages"]["scikit-learn"]
        assert {"python", "platform", "host", "started"} <= record.keys()


def state(folder: Path) -> tuple[object, ...]:
    """Everything of a repository that belongs to its user."""
    index = (folder / ".git/index").read_bytes()
    contents = {str(file): file.read_bytes() for file in folder.rglob("*.py") if ".venv" not in file.parts}
    commands = (["status", "--porcelain"], ["stash", "list"], ["branch", "-a", "-v"], ["diff", "--cached"])
    return index, contents, *(git(folder, *command) for command in commands)


def test_a_snapshot_touches_nothing_of_the_users(fragile: Project, tmp_path: Path) -> None:
    """Index, stash, branch and files stay; hooks do not run; equal trees share a snapshot."""
    folder = fragile.folder
    hooks = folder / ".git/hooks"
    for name in (
        "pre-commit",
        "post-commit",
        "post-index-change",
        "reference-transaction",
        "post-checkout",
        "pre-auto-gc",
    ):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/hooks-ran\n")
        (hooks / name).chmod(0o755)
    readme = folder / "README.md"
    original = readme.read_text()
    readme.write_text(original + "staged\n")
    git(folder, "add", "README.md")
    readme.write_text(original + "staged\nand more\n")
    git(folder, "status")  # refreshes the index
    (tmp_path / "hooks-ran").unlink(missing_ok=True)
    before = state(folder)
    (tmp_path / "hooks-ran").unlink(missing_ok=True)
    try:
        for fold in (0, 1):
            fragile.train(QUICK, f"exp.fold=[{fold}]", root=tmp_path, WANDB_MODE="disabled")
        assert not (tmp_path / "hooks-ran").exists()
        assert state(folder) == before
        records = [load(tmp_path / f"{RUN},{QUICK}/fold{fold}/result.json")["git"] for fold in (0, 1)]
        assert records[0] == records[1]
        assert git(folder, "show", f"{records[0]['snapshot']}:README.md").endswith("staged\nand more\n")
        assert records[0]["snapshot"] in git(folder, "for-each-ref", "refs/expkit")
        git(folder, "gc", "--quiet", "--prune=now")
        git(folder, "cat-file", "-e", records[0]["snapshot"])
    finally:
        git(folder, "checkout", "-q", "HEAD", "--", "README.md")
        for hook in hooks.iterdir():
            hook.unlink()


@pytest.mark.parametrize("lacking", ["repository", "git", "commit"])
def test_without_git(project: Project, tmp_path: Path, lacking: str) -> None:
    """Training goes on, and the run says so once; before the first commit there is a snapshot all the same."""
    folder = tmp_path / "myproj"
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns(".git", ".venv", "output"))
    if lacking == "commit":
        git(folder, "init", "-q")
    environment = project.environment(PYTHONPATH=str(folder / "src"), WANDB_MODE="disabled")
    if lacking == "git":
        environment["PATH"] = str(tmp_path)
    train = folder / "experiments/001-baseline/train.py"
    done = call(project.python, train, QUICK, "exp.fold=[0,1]", cwd=folder, env=environment)
    record = load(folder / f"{RUN},{QUICK}/fold1/result.json")["git"]
    if lacking == "commit":
        assert record["commit"] == "" and record["dirty"] is True
        assert "train.py" in git(folder, "ls-tree", "-r", "--name-only", record["snapshot"])
        assert done.stderr == ""
    else:
        assert record is None
        assert done.stderr.count("no snapshot of the code") == 1
        assert done.stderr.count("\n") == 1


def reproduce(project: Project, root: Path, run: str) -> Completed:
    script = "import expkit, sys; again = expkit.reproduce(sys.argv[1]); print(again); sys.exit(not again.identical)"
    environment = project.environment(PROJECT_ROOT=str(root))
    return call(project.python, "-c", script, run, cwd=root, env=environment, check=False)


def test_a_run_is_made_again(fragile: Project, tmp_path: Path) -> None:
    """Identical, though the working tree has changed since and the folds come from different code; or what differs."""
    folder = fragile.folder
    run = f"001-baseline/001-larger-lr,{QUICK}"
    fragile.train("exp=001", QUICK, "exp.fold=[0,1]", root=tmp_path, WANDB_MODE="disabled")
    parameters = folder / "experiments/001-baseline/exp/001.yaml"
    model = folder / "experiments/001-baseline/model.py"
    originals = {file: file.read_text() for file in (parameters, model)}
    model.write_text(originals[model] + "\n# other code\n")
    fragile.train("exp=001", QUICK, "exp.fold=[2]", root=tmp_path, WANDB_MODE="disabled")
    parameters.write_text("name: 001-larger-lr\ntrain: {learning_rate: 0.5}\n")
    before = {name: (tmp_path / "output" / run / name).read_bytes() for name in files(tmp_path / "output" / run)}
    try:
        done = reproduce(fragile, tmp_path, run)
        assert (done.returncode, done.stdout) == (0, "identical\n"), done.stderr
        assert call("git", "worktree", "list", cwd=folder).stdout.count("\n") == 1
        assert {name: (tmp_path / "output" / run / name).read_bytes() for name in before} == before

        oof = tmp_path / "output" / run / "fold1/oof.csv"
        lines = oof.read_text().splitlines(keepends=True)
        oof.write_text("".join([lines[0], lines[1].replace(",", ",9", 1), *lines[2:]]))
        done = reproduce(fragile, tmp_path, run)
        assert done.returncode == 1
        assert "fold 1: 1 of 288 rows of oof.csv differ" in done.stdout
        assert "fold 0" not in done.stdout
    finally:
        for file, text in originals.items():
            file.write_text(text)


def test_what_cannot_be_made_again(fragile: Project, tmp_path: Path) -> None:
    assert "there is no run 001-baseline/nothing" in reproduce(fragile, tmp_path, "001-baseline/nothing").stderr


def test_no_secret_is_written(fragile: Project, tmp_path: Path) -> None:
    """Neither under output/ nor in any object of git: the key of W&B, and what stands in .env."""
    secret = "planted-secret-8c1f"
    dotenv = fragile.folder / ".env"
    dotenv.write_text(f"KAGGLE_KEY={secret}\nWANDB_API_KEY={KEY}\n")
    try:
        for mode in ("offline", "online"):  # online: no such server
            fragile.train(
                QUICK,
                "exp.fold=[0,1]",
                "overwrite=true",
                root=tmp_path,
                WANDB_MODE=mode,
                WANDB_BASE_URL="http://127.0.0.1:9",
            )
        fragile.train("-m", "exp=001,002", QUICK, root=tmp_path, WANDB_MODE="offline")
    finally:
        dotenv.unlink()
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) > 20
    objects = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=fragile.folder, capture_output=True, check=True
    ).stdout
    assert b"001-larger-lr" in objects
    for content in (objects, *(file.read_bytes() for file in written)):
        assert secret.encode() not in content
        assert KEY.encode() not in content
