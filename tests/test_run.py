"""The commands of every day, and what they leave."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project, background, call

ALL_FOLDS = "exp.fold=[0,1,2,3,4]"
QUICK = "exp.train.epoch=2"
HEAVY = ("wandb", "numpy", "sklearn", "scipy", "torch", "rich", "pandas", "joblib")


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_base_values(project: Project, tmp_path: Path) -> None:
    """No argument: config.yaml, one fold; the score and where it lies."""
    printed = project.train(root=tmp_path).stdout
    run = tmp_path / "output/001-baseline/baseline"
    result = load(run / "fold0/result.json")
    assert f"CV accuracy {result['score']:.4f}  1/5 folds" in printed
    assert f"results: {os.path.relpath(run, project.folder)}\n" in printed
    assert result["score"] > 0.9
    assert {"fold", "metric", "score", "best_epoch", "seconds"} <= result.keys()
    assert files(run) == ["config.yaml", "cv.json", *(f"fold0/{name}" for name in FOLD_FILES), "run.json"]

    history = rows(run / "fold0/history.csv")
    assert [int(row["epoch"]) for row in history] == list(range(1, 31))
    assert list(history[0]) == ["epoch", "train_loss", "valid_loss", "valid_accuracy"]
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])
    best = max(history, key=lambda row: (float(row["valid_accuracy"]), -float(row["valid_loss"])))
    assert int(best["epoch"]) == result["best_epoch"]
    assert float(best["valid_accuracy"]) == pytest.approx(result["score"])


FOLD_FILES = ["history.csv", "model.joblib", "oof.csv", "result.json"]


def test_from_the_root_and_from_the_experiment(project: Project, tmp_path: Path) -> None:
    """`uv run python` from both folders: the same bytes."""
    for name, cwd, file in (
        ("root", project.folder, "experiments/001-baseline/train.py"),
        ("experiment", project.folder / "experiments/001-baseline", "train.py"),
    ):
        (tmp_path / name).mkdir()
        environment = project.environment(PROJECT_ROOT=str(tmp_path / name), WANDB_MODE="disabled")
        call("uv", "run", "-q", "python", file, "exp=001", QUICK, cwd=cwd, env=environment)
    oof = f"output/001-baseline/001-larger-lr,{QUICK}/fold0/oof.csv"
    assert (tmp_path / "root" / oof).read_bytes() == (tmp_path / "experiment" / oof).read_bytes()


def test_show_config(project: Project, tmp_path: Path) -> None:
    """YAML alone on stdout, nothing written, nothing heavy imported."""
    done = project.train("show_config=true", "exp=001", root=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    shown = yaml.safe_load(done.stdout)
    assert shown["exp"]["train"] == {
        "base_model": "small",
        "epoch": 40,
        "batch_size": 32,
        "learning_rate": 0.003,
    }
    assert shown["exp"]["seed"] == 1209, "config.yaml's, not the dataclass's"
    assert shown["exp"]["fold"] == [0]
    assert files(tmp_path) == []
    assert imported(done.stderr).isdisjoint(HEAVY)


def imported(profile: str) -> set[str]:
    """The top-level packages in the output of `python -X importtime`."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in profile.splitlines()}


def test_five_folds(project: Project, tmp_path: Path) -> None:
    """The tuned parameter set reaches 0.97; every training row is predicted once; the CV score is that of all rows."""
    printed = project.train("exp=001", ALL_FOLDS, root=tmp_path, WANDB_MODE="disabled").stdout
    run = tmp_path / "output/001-baseline/001-larger-lr"
    oof = [row for fold in range(5) for row in rows(run / f"fold{fold}/oof.csv")]
    assert len(oof) == 1437
    assert len({row["id"] for row in oof}) == 1437
    assert list(oof[0]) == ["id", "target", "prediction", *(f"probability_{digit}" for digit in range(10))]
    for row in oof[::50]:
        probabilities = [float(row[f"probability_{digit}"]) for digit in range(10)]
        assert sum(probabilities) == pytest.approx(1)
        assert probabilities.index(max(probabilities)) == int(row["prediction"])

    cv = load(run / "cv.json")
    scores = [load(run / f"fold{fold}/result.json")["score"] for fold in range(5)]
    hits = sum(row["target"] == row["prediction"] for row in oof)
    assert cv["score"] == pytest.approx(hits / 1437)
    assert cv["score"] >= 0.97
    assert cv["mean"] == pytest.approx(sum(scores) / 5)
    assert cv["std"] == pytest.approx((sum((score - cv["mean"]) ** 2 for score in scores) / 4) ** 0.5)
    assert (cv["metric"], cv["folds_done"], cv["n_folds"], cv["complete"]) == ("accuracy", 5, 5, True)
    assert f"CV accuracy {cv['score']:.4f} ± {cv['std']:.4f}  5/5 folds" in printed

    again = project.train("exp=001", ALL_FOLDS, root=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert again.stdout.count("is done") == 5
    assert "epoch 1/" not in again.stdout
    assert f"CV accuracy {cv['score']:.4f} ± {cv['std']:.4f}  5/5 folds" in again.stdout
    assert imported(again.stderr).isdisjoint(HEAVY)

    (run / "cv.json").unlink()
    project.train("exp=001", root=tmp_path)
    assert load(run / "cv.json") == cv


def test_folds_add_up(project: Project, tmp_path: Path) -> None:
    """One fold now, others later, in any order: the same bytes as all at once."""
    for root, selections in (("once", ["[0,1,2]"]), ("later", ["[2]", "[0]", "[0,1,2]"])):
        (tmp_path / root).mkdir()
        for folds in selections:
            printed = project.train(QUICK, f"exp.fold={folds}", root=tmp_path / root, WANDB_MODE="disabled").stdout
        assert "3/5 folds" in printed
    run = f"output/001-baseline/baseline,{QUICK}"
    for fold in range(3):
        oof = [(tmp_path / root / run / f"fold{fold}/oof.csv").read_bytes() for root in ("once", "later")]
        assert oof[0] == oof[1]
    cv = load(tmp_path / "later" / run / "cv.json")
    assert (cv["folds_done"], cv["complete"], cv["score"]) == (3, False, None)


def test_all_folds_are_the_default_of_the_schema(project: Project, tmp_path: Path) -> None:
    shown = project.train("show_config=true", "exp.fold=null", "exp.n_folds=3", root=tmp_path).stdout
    assert yaml.safe_load(shown)["exp"]["fold"] == [0, 1, 2]


def test_debug(project: Project, tmp_path: Path) -> None:
    """One epoch of one fold under output/debug/, W&B disabled even when asked for, always replaced."""
    for _ in range(2):
        printed = project.train("exp=001", ALL_FOLDS, "exp.debug=true", root=tmp_path, WANDB_MODE="offline").stdout
        assert "epoch 1/1" in printed
        assert "is done" not in printed
    run = tmp_path / "output/debug/001-baseline/001-larger-lr"
    assert len(rows(run / "fold0/oof.csv")) < 50
    assert not (run / "fold1").exists()
    assert not (tmp_path / "output/wandb").exists()
    assert not (tmp_path / "output/001-baseline").exists()


def test_submission(project: Project, tmp_path: Path) -> None:
    """exp.mode=sub trains on every training row and predicts the 360 rows that no fold has."""
    project.train("exp=001", ALL_FOLDS, QUICK, root=tmp_path, WANDB_MODE="disabled")
    printed = project.train("exp=001", QUICK, "exp.mode=sub", root=tmp_path, WANDB_MODE="disabled").stdout
    run = tmp_path / f"output/001-baseline/001-larger-lr,{QUICK}"
    submission = rows(run / "full/submission.csv")
    assert os.path.relpath(run / "full/submission.csv", project.folder) in printed
    assert list(submission[0]) == ["id", "prediction"]
    assert len(submission) == 360
    train_ids = {row["id"] for fold in range(5) for row in rows(run / f"fold{fold}/oof.csv")}
    assert train_ids.isdisjoint(row["id"] for row in submission)
    assert load(run / "full/result.json")["score"] is None
    assert load(run / "cv.json")["complete"], "the folds stay"
    assert "is done" in project.train("exp=001", QUICK, "exp.mode=sub", root=tmp_path).stdout


def test_sweep(project: Project, tmp_path: Path) -> None:
    """-m runs both, each in its own folder; Hydra's files go to output/multirun/; glob takes them all."""
    project.train("-m", "exp=001,002", QUICK, root=tmp_path, WANDB_MODE="disabled")
    assert {folder.name for folder in (tmp_path / "output/001-baseline").glob("[!.]*")} == {
        f"001-larger-lr,{QUICK}",
        f"002-larger-model,{QUICK}",
    }
    assert list((tmp_path / "output/multirun").rglob("multirun.yaml"))
    printed = project.train("-m", "exp=glob(*)", QUICK, root=tmp_path, WANDB_MODE="disabled").stdout
    assert printed.count("results: ") == 3
    assert printed.count("is done") == 2


def test_flags_stand_anywhere(project: Project, tmp_path: Path) -> None:
    """Hydra's parser alone takes no override after a flag that comes after another override."""
    for arguments in (["exp=001", "-m", "exp.seed=1,2"], ["exp=001", "exp.seed=1,2", "-m"]):
        printed = project.train(*arguments, "exp.debug=true", root=tmp_path).stdout
        assert printed.count("results: ") == 2
    [run] = (tmp_path / "output/debug/001-baseline").glob("*seed=2")
    assert load(run / "run.json")["command"] == ["train.py", "exp=001", "exp.seed=1,2", "-m", "exp.debug=true"]
    shown = project.train("exp=001", "--cfg", "job", "exp.seed=7", "--package", "exp", root=tmp_path).stdout
    assert "seed: 7" in shown


def test_a_parameter_set_by_its_file_name(project: Project, tmp_path: Path) -> None:
    assert "accuracy" in project.train("exp=001.yaml", "exp.debug=true", root=tmp_path).stdout


FIELDS = """
    path: Path = Path("a/b")
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    pair: tuple[int, int] = (1, 2)
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    by_model: dict[BaseModel, int] = field(default_factory=lambda: {BaseModel.small: 1})
    fill: float = math.nan
    either: int | str = "x"
    anything: Any = None
    text: str = "a\\nb: # \\"c\\" 日本"
    inner: Inner | None = None
    inners: dict[str, Inner] = field(default_factory=lambda: {"a": Inner()})
"""
VALUES = """
name: rich
train:
  epoch: 2
  path: ~/x
  pair: [3, 4]
  weights: {b: 2}
  by_model: {large: 3}
  either: 5
  anything: [1, {a: b}]
  text: prefix \\${oc.env:HOME} ${exp.name} \\${
  inner: {p: 0.1}
  inners: {b: {p: 0.2}}
"""


def test_every_type_that_omegaconf_knows(own_project: Any) -> None:
    """Composes, trains, is compared with itself and read back; a dictionary takes keys from a parameter set."""
    project = own_project()
    experiment = project.folder / "experiments/001-baseline"
    text = (experiment / "train.py").read_text()
    inner = "@dataclass\nclass Inner:\n    p: float = 0.5\n\n\n@dataclass\nclass TrainConfig"
    text = text.replace("@dataclass\nclass TrainConfig", inner).replace(
        "    learning_rate: float", FIELDS + "    learning_rate: float"
    )
    (experiment / "train.py").write_text(text.replace("from enum", "from pathlib import Path\nfrom enum"))
    (experiment / "exp/003.yaml").write_text(VALUES)
    expected = {
        "path": "~/x",
        "sizes": [1, 2],
        "pair": [3, 4],
        "weights": {"a": 1.0, "b": 2.0},
        "by_model": {"small": 1, "large": 3},
        "either": 5,
        "anything": [1, {"a": "b"}],
        "text": "prefix ${oc.env:HOME} rich ${",
        "inner": {"p": 0.1},
        "inners": {"a": {"p": 0.5}, "b": {"p": 0.2}},
    }
    call(project.folder / ".venv/bin/exp", "check", cwd=project.folder, env=project.environment())
    project.train("exp=003", WANDB_MODE="offline")
    assert "fold 0 is done" in project.train("exp=003").stdout, "it is the same configuration"
    code = (
        "import expkit, json; from omegaconf import OmegaConf as o; config = expkit.load_run('rich').config.exp.train"
    )
    code += "; print(json.dumps(o.to_container(config, resolve=True)))"
    read = json.loads(call(project.python, "-c", code, cwd=project.folder, env=project.environment()).stdout)
    assert read["fill"] != read["fill"]
    assert {key: read[key] for key in expected} == expected
    assert "exp.train.weights.b" in call(project.folder / ".venv/bin/exp", "show", "rich", cwd=project.folder).stdout
    shown = yaml.safe_load(project.train("show_config=true").stdout)["exp"]["train"]
    assert shown["path"] == "a/b" and shown["text"] == 'a\nb: # "c" 日本'
    refused = project.train("exp.train.weights.c=3", check=False)
    assert refused.stderr == "error: there is no key exp.train.weights.c; to add it, write '+exp.train.weights.c=...'\n"
    refused = project.train("exp.train.inner.p=3", check=False)
    assert refused.stderr.startswith("error: a key that is null takes no keys of its own on the command line")


def test_a_config_that_names_no_parameter_set(own_project: Any) -> None:
    project = own_project()
    config = project.folder / "experiments/001-baseline/config.yaml"
    config.write_text(re.sub("^- exp: default.*\n", "", config.read_text(), flags=re.M))
    assert "results: " in project.train("exp.debug=true").stdout
    checked = call(
        project.folder / ".venv/bin/exp", "check", cwd=project.folder, env=project.environment(), check=False
    )
    assert "1 of 3 parameter sets are fine" in checked.stdout, "none of them can be chosen"
    assert checked.stdout.count("Could not override 'exp'") == 2


def test_main_from_python(project: Project, tmp_path: Path) -> None:
    """As a notebook calls it, with a configuration that it has composed."""
    code = "import expkit, train; print(train.main(expkit.load_config('001-baseline', ['exp=001', 'exp.debug=true'])))"
    folder = project.folder / "experiments/001-baseline"
    done = call(project.python, "-c", code, cwd=folder, env=project.environment(PROJECT_ROOT=str(tmp_path)))
    assert (
        float(done.stdout.splitlines()[-1])
        == load(tmp_path / "output/debug/001-baseline/001-larger-lr/cv.json")["mean"]
    )


def test_a_value_on_the_command_line_is_a_run_of_its_own(project: Project, tmp_path: Path) -> None:
    for value in ("0.01", "0.02"):
        project.train("exp=001", QUICK, f"exp.train.learning_rate={value}", root=tmp_path, WANDB_MODE="disabled")
    long = ["exp.seed=123456", "exp.train.batch_size=64", "exp.train.base_model=large", QUICK]
    project.train("exp=001", *long, "exp.train.learning_rate=0.01", root=tmp_path, WANDB_MODE="disabled")
    project.train("exp=001", *long, "exp.train.learning_rate=0.02", root=tmp_path, WANDB_MODE="disabled")
    names = {folder.name for folder in (tmp_path / "output/001-baseline").glob("[!.]*")}
    assert f"001-larger-lr,{QUICK},exp.train.learning_rate=0.01" in names
    assert len(names) == 4
    assert max(len(name) for name in names) <= 120


def test_another_configuration_is_never_mixed_in(project: Project, tmp_path: Path) -> None:
    """A folder of another configuration is refused, and kept until overwrite=true has a new result."""
    run = tmp_path / "output/001-baseline/mine"
    name = "exp.name=mine"
    project.train(name, "exp.fold=[0,1]", root=tmp_path, WANDB_MODE="disabled")
    written = yaml.safe_load((run / "config.yaml").read_text())
    written["exp"]["train"]["learning_rate"] = 0.5
    written["exp"]["seed"] = 7
    (run / "config.yaml").write_text(yaml.safe_dump(written))
    before = {file: (run / file).read_bytes() for file in files(run)}

    done = project.train(name, root=tmp_path, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "exp.train.learning_rate: 0.5 → 0.001" in done.stderr
    assert "exp.seed: 7 → 1209" in done.stderr
    assert "overwrite=true" in done.stderr
    assert {file: (run / file).read_bytes() for file in files(run)} == before

    project.train(name, "overwrite=true", root=tmp_path, WANDB_MODE="disabled")
    assert load(run / "cv.json")["folds_done"] == 1, "folds of the other configuration are gone"
    assert [folder.name for folder in run.parent.iterdir() if folder.name != ".locks"] == ["mine"]
    project.train(name, "exp.fold=[1]", "overwrite=true", root=tmp_path, WANDB_MODE="disabled")
    assert load(run / "cv.json")["folds_done"] == 2, "folds of the same configuration stay"


def test_hydras_own_features(project: Project, tmp_path: Path) -> None:
    assert "exp: 001, 002, default" in project.train("--help", root=tmp_path).stdout
    assert yaml.safe_load(project.train("--cfg", "job", "exp=002", root=tmp_path).stdout)["exp"]["name"].startswith(
        "002"
    )
    assert "launcher" in project.train("--cfg", "hydra", root=tmp_path).stdout
    assert files(tmp_path) == []


def test_a_preset_in_conf_is_found(own_project: Any, tmp_path: Path) -> None:
    project = own_project()
    preset = project.folder / "conf/hydra/launcher/mine.yaml"
    preset.parent.mkdir(parents=True, exist_ok=True)
    preset.write_text("defaults:\n- basic\n")
    printed = project.train("-m", "hydra/launcher=mine", "exp.debug=true", root=tmp_path, cwd=tmp_path).stdout
    assert "1/5 folds" in printed


def test_the_working_directory_and_git_stay_clean(project: Project, tmp_path: Path) -> None:
    """Without PROJECT_ROOT, results go to the project's output/, which git ignores."""
    here = tmp_path / "here"
    here.mkdir()
    project.train("exp=001", QUICK, cwd=here)
    project.train("-m", "exp=001,002", QUICK, cwd=here)
    project.train("exp.debug=true", cwd=project.folder / "experiments/001-baseline")
    assert files(here) == []
    assert (project.folder / f"output/001-baseline/001-larger-lr,{QUICK}/fold0/result.json").exists()
    assert call("git", "status", "--porcelain", cwd=project.folder).stdout == ""


def test_provenance(project: Project, tmp_path: Path) -> None:
    project.train("exp=001", QUICK, root=tmp_path, WANDB_MODE="disabled")
    run = tmp_path / f"output/001-baseline/001-larger-lr,{QUICK}"
    record = load(run / "run.json")
    assert record["command"] == ["train.py", "exp=001", QUICK]
    assert record["git"]["commit"] == call("git", "rev-parse", "HEAD", cwd=project.folder).stdout.strip()
    assert record["packages"]["hydra-core"].startswith("1.3")
    assert yaml.safe_load((run / "config.yaml").read_text())["exp"]["name"] == "001-larger-lr"


def test_progress_bar_on_a_terminal(project: Project, tmp_path: Path) -> None:
    """A bar with fold, epoch and validation score; the lines that stay are the results."""
    terminal, child = pty.openpty()
    environment = project.environment(PROJECT_ROOT=str(tmp_path), WANDB_MODE="disabled", TERM="xterm", COLUMNS="140")
    command = [project.python, project.folder / "experiments/001-baseline/train.py"]
    process = background(*command, stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)
    screen = b""
    try:
        while chunk := os.read(terminal, 4096):
            screen += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    text = screen.decode()
    assert "fold 0  epoch" in text
    assert "30/30" in text
    assert "━" in text
    assert "valid_accuracy 0." in text
    assert "epoch 30/30  train_loss" not in text, "that is the plain line"


def test_nobody_reads(project: Project, tmp_path: Path) -> None:
    """As in `train.py | head -1`: the training stops with one line."""
    environment = project.environment(PROJECT_ROOT=str(tmp_path), WANDB_MODE="disabled")
    command = [project.python, project.folder / "experiments/001-baseline/train.py", "exp.fold=[0,1]"]
    pipe = subprocess.PIPE
    process = background(*command, stdout=pipe, stderr=pipe, env=environment)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith(b"fold 0  epoch 1/30")
    process.stdout.close()
    assert process.stderr.read().splitlines()[0].startswith(b"error: nobody reads the output any more")
    assert process.wait(20) == 1
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("again", ["new", "overwrite"])
def test_ctrl_c(project: Project, tmp_path: Path, again: str) -> None:
    """Stops with one line, and nothing half-written counts as a result."""
    command = [project.python, project.folder / "experiments/001-baseline/train.py", "exp.train.epoch=500"]
    run = tmp_path / "output/001-baseline/baseline,exp.train.epoch=500"
    if again == "overwrite":
        project.train("exp.train.epoch=500", "exp.mode=sub", root=tmp_path, WANDB_MODE="disabled")
        command.append("overwrite=true")
    history = (run.parent / f".{run.name}.new" if again == "overwrite" else run) / "fold0/history.csv"
    pipe = subprocess.PIPE
    process = background(*command, env=project.environment(PROJECT_ROOT=str(tmp_path)), stdout=pipe, stderr=pipe)
    deadline = time.monotonic() + 60
    while not history.exists() or len(rows(history)) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert len(errors.decode().splitlines()) == 1
    assert errors.startswith(b"stopped")
    assert not list(tmp_path.rglob("fold0/result.json"))
    assert not list(tmp_path.rglob("cv.json"))
    assert (run / "full/result.json").exists() == (again == "overwrite"), "the old run is whole"
