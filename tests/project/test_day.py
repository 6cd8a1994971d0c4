"""The commands of every day in a rendered project, what they print, and what they leave."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import Project, call
from experiments import own_experiment
from helpers import HEAVY, counting, files, imported, start
from light import LIGHT, TRAIN

from expkit import store
from expkit.board import read_board

RUN = "output/001-baseline/001-larger-lr"


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


# The baseline


@pytest.fixture(scope="module")
def five_folds(project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The tuned parameter set, all folds of it, and what the command prints."""
    root = tmp_path_factory.mktemp("five")
    done = project.train("exp=001", "exp.fold=[0,1,2,3,4]", root=root, WANDB_MODE="disabled")
    return root, done.stdout


def test_what_a_run_leaves(project: Project, five_folds: tuple[Path, str]) -> None:
    root, printed = five_folds
    run = root / RUN
    shown = min(str(run), os.path.relpath(run, project.folder), key=len)
    assert printed.endswith(f"results: {shown}\n")
    names = ["history.csv", "model.joblib", "oof.npz", "origin.json", "result.json", "state/position", "state/state"]
    names += ["test.npz", "train.log"]
    inside = [f"fold{fold}/{name}" for fold in range(5) for name in names]
    assert files(run) == ["config.yaml", "cv.json", *inside, "run.json"]
    history = rows(run / "fold0/history.csv")
    assert [int(row["epoch"]) for row in history] == list(range(1, 41))
    assert list(history[0]) == ["epoch", "train_loss", "valid_accuracy"]
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])


def test_five_folds(five_folds: tuple[Path, str]) -> None:
    """0.97 of the rows, each predicted once; the CV score is that of all rows, with the deviation of the folds."""
    root, printed = five_folds
    run = store.read_run(root / RUN)
    tables = [fold.predictions() for fold in run.done.values()]
    ids = [each for table in tables for each in table["id"].tolist()]
    assert len(ids) == len(set(ids)) == 1437
    assert list(tables[0]) == ["id", "target", "prediction", *(f"probability_{digit}" for digit in range(10))]
    probabilities = sum(tables[0][f"probability_{digit}"] for digit in range(10))
    assert probabilities == pytest.approx(1)

    hits = sum((table["target"] == table["prediction"]).sum() for table in tables)
    scores = [fold.result["scores"]["accuracy"] for fold in run.done.values() if fold.result]
    mean = sum(scores) / 5
    found = run.score_of()
    assert found is not None and run.cv is not None
    assert found.value == pytest.approx(hits / 1437) and found.value >= 0.97
    assert found.std == pytest.approx((sum((score - mean) ** 2 for score in scores) / 4) ** 0.5)
    assert run.cv["scores"]["accuracy"]["mean"] == pytest.approx(mean)
    assert (run.metric, run.rows, run.is_complete, run.marks) == ("accuracy", 1437, True, ())
    other = f" ({found.other})" if found.other else ""
    assert f"CV accuracy {found.value:.4f} ± {found.std:.4f}{other}  5/5 folds" in printed


def test_what_is_done_is_not_trained_again(project: Project, five_folds: tuple[Path, str]) -> None:
    """The same command says so, imports nothing heavy, and brings back a cv.json that was deleted."""
    root, printed = five_folds
    again = project.train("exp=001", "exp.fold=[0,1,2,3,4]", root=root, PYTHONPROFILEIMPORTTIME="1")
    assert again.stdout.count("is done") == 5 and "epoch 1/" not in again.stdout
    assert printed.splitlines()[-2] in again.stdout, "the score"
    assert imported(again.stderr).isdisjoint(HEAVY)
    cv = root / RUN / "cv.json"
    content = cv.read_bytes()
    cv.unlink()
    project.train("exp=001", root=root, WANDB_MODE="disabled")
    assert cv.read_bytes() == content


def test_submission(project: Project, five_folds: tuple[Path, str]) -> None:
    """exp.mode=sub trains on every training row and predicts the 360 rows that no fold has."""
    root, _ = five_folds
    printed = project.train("exp=001", "exp.mode=sub", root=root, WANDB_MODE="disabled").stdout
    run = store.read_run(root / RUN)
    submission = rows(run.folder / "full/submission.csv")
    assert "001-larger-lr/full/submission.csv\n" in printed
    assert list(submission[0]) == ["id", "prediction"] and len(submission) == 360
    known = {str(each) for fold in run.done.values() for each in fold.predictions()["id"]}
    assert known.isdisjoint(row["id"] for row in submission)
    assert run.full is not None and run.full.result is not None and run.full.result["scores"] == {}
    assert run.is_complete, "the folds stay"
    again = project.train("exp=001", "exp.mode=sub", root=root).stdout
    assert "all data is done" in again and "submission.csv" in again


def test_debug(project: Project, tmp_path: Path) -> None:
    """One epoch of one fold under output/debug/, W&B disabled even when asked for."""
    arguments = ["exp=001", "exp.fold=[0,1,2,3,4]", "exp.debug=true"]
    printed = project.train(*arguments, root=tmp_path, WANDB_MODE="offline").stdout
    assert "epoch 1/1" in printed
    run = store.read_run(tmp_path / "output/debug/001-baseline/001-larger-lr")
    assert list(run.done) == [0]
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["debug"]


def test_show_config(project: Project, tmp_path: Path) -> None:
    """YAML alone on stdout, nothing written, nothing heavy imported."""
    done = project.train("show_config=true", "exp=001", root=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    shown = yaml.safe_load(done.stdout)
    train = {"hidden": 64, "epochs": 40, "batch_size": 32, "learning_rate": 0.003}
    assert shown["exp"]["train"] == train
    assert shown["exp"]["seed"] == 1209, "config.yaml's, not the dataclass's"
    assert shown["exp"]["fold"] == [0]
    assert files(tmp_path) == []
    assert imported(done.stderr).isdisjoint(HEAVY)


def test_the_sweep_of_the_readme(project: Project, root: Path) -> None:
    """From its folder, with fewer folds and epochs: each run on the board, none with a mark; the same bytes again."""
    [line] = re.findall(r"train\.py (-m .*?)  +#", (project.folder / "README.md").read_text())
    assert line == "-m exp=001,002 exp.fold=null"
    quick = ["exp.n_folds=2", "exp.train.epochs=2"]
    folder = project.folder / "experiments/001-baseline"
    printed = project.train(*line.split(), *quick, root=root, cwd=folder, WANDB_MODE="disabled").stdout
    assert printed.count("results: ") == 2 and list((root / "output/multirun").rglob("multirun.yaml"))
    board = read_board()
    assert [row.name.split(",")[0] for row in board] == ["001-larger-lr", "002-larger-model"]
    assert [row.marks for row in board] == [(), ()]
    command, environment = project.python.with_name("exp"), project.environment(PROJECT_ROOT=str(root))
    again = call(command, "reproduce", "002-larger-model", cwd=project.folder, env=environment)
    assert again.stdout == "identical\n"


# Terminals, pipes, other places


def test_nobody_reads(project: Project, tmp_path: Path) -> None:
    """As in `train.py | head -1`: the training stops with one line."""
    process = start(project, tmp_path, "exp.fold=[0,1]", "exp.train.epochs=300", experiment="001-baseline")
    assert process.stdout and process.stderr
    assert process.stdout.readline().startswith("fold 0  epoch 1/300")
    process.stdout.close()
    [error] = process.stderr.read().splitlines()
    assert error.startswith("error: stdout, or another pipe, was closed")
    assert process.wait(60) == 1 and not list(tmp_path.rglob("result.json"))


LOGS = """
    import logging

    logging.getLogger("plain").warning("it warns")
    logging.getLogger("plain").info("it says")
    import model
"""


def test_a_line_of_a_library_appears_once(shared_sweeping: Project, root: Path) -> None:
    """On the console and in train.log; never as one of Hydra's."""
    train = TRAIN.replace("\n    import model\n", LOGS)
    with own_experiment({"train.py": train}, copy_of=LIGHT, at=shared_sweeping.folder) as folder:
        done = shared_sweeping.train("exp.fold=[0]", experiment=folder.name, root=root, WANDB_MODE="disabled")
    printed = (done.stdout + done.stderr).splitlines()
    log = (counting(root, "light", folder.name) / "fold0" / store.LOG).read_text().splitlines()
    for line in ("it warns", "it says"):
        assert (printed.count(line), log.count(line)) == (1, 1), (line, printed, log)
    assert "HYDRA" not in done.stdout + done.stderr


def test_not_in_experiments(project: Project, tmp_path: Path) -> None:
    """In a process of its own, with the installed expkit; and a train.py of another project. Nothing is written."""
    complaint = f"an experiment is a train.py in a folder of {project.folder}/experiments/"
    for place in ("experiments/group/001-baseline", "experiments/001-baseline"):
        folder = tmp_path / place
        shutil.copytree(project.folder / "experiments/001-baseline", folder)
        before = files(tmp_path)
        done = call(project.python, folder / "train.py", cwd=tmp_path, env=project.environment(), check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert complaint in done.stderr
        assert [file for file in files(tmp_path) if "__pycache__" not in file] == before


def test_the_installed_command(project: Project, root: Path) -> None:
    """An error is one line on stderr; nothing that a pipe closed early leaves a traceback."""
    environment = project.environment(PROJECT_ROOT=str(root))
    done = call(project.python.with_name("exp"), "show", "x", cwd=project.folder, env=environment, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: there are no runs") and done.stderr.count("\n") == 1
