"""The commands of every day, and what they leave."""

from __future__ import annotations

import csv
import math
import os
import pty
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import Project, background, call
from experiments import own_experiment
from helpers import HEAVY, counting, imported, results, scores_and_predictions, start
from light import CONFIG, LIGHT, TRAIN

import expkit
from expkit import compose, store
from expkit.compose import from_values
from expkit.config import container, load_experiment, restored
from expkit.rundir import run_name

QUICK = "exp.train.epoch=2"
BASELINE = "output/001-baseline"


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def display_path(path: Path, cwd: Path) -> str:
    """A path as a command shows it that was started in `cwd`."""
    return min(str(path), os.path.relpath(path, cwd), key=len)


# The baseline


def test_base_values(project: Project, tmp_path: Path) -> None:
    """No argument: config.yaml, one fold; the score and where it lies."""
    printed = project.train(root=tmp_path, WANDB_MODE="disabled").stdout
    run = tmp_path / BASELINE / "baseline"
    result = results(tmp_path, "baseline", "001-baseline")[0]
    score = result["scores"]["accuracy"]
    assert f"CV accuracy {score:.4f}  1/5 folds" in printed
    assert f"results: {display_path(run, project.folder)}\n" in printed
    assert score > 0.9
    names = ["history.csv", "model.joblib", "oof.npz", "origin.json", "result.json", "test.npz", "train.log"]
    assert files(run) == ["config.yaml", "cv.json", *(f"fold0/{name}" for name in names), "run.json"]
    assert result["files"].keys() >= {"history.csv", "model.joblib", "oof.npz", "origin.json"}

    history = rows(run / "fold0/history.csv")
    assert [int(row["epoch"]) for row in history] == list(range(1, 31))
    assert list(history[0]) == ["epoch", "train_loss", "valid_loss", "valid_accuracy"]
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])


@pytest.fixture(scope="module")
def five_folds(project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The tuned parameter set, all folds of it, and what the command prints."""
    root = tmp_path_factory.mktemp("five")
    done = project.train("exp=001", "exp.fold=[0,1,2,3,4]", root=root, WANDB_MODE="disabled")
    return root, done.stdout


def test_five_folds(five_folds: tuple[Path, str]) -> None:
    """0.97 of the rows, each predicted once; the CV score is that of all rows, with the deviation of the folds."""
    root, printed = five_folds
    run = store.read_run(counting(root, "001-larger-lr", "001-baseline"))
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
    cv = counting(root, "001-larger-lr", "001-baseline") / "cv.json"
    content = cv.read_bytes()
    cv.unlink()
    project.train("exp=001", root=root, WANDB_MODE="disabled")
    assert cv.read_bytes() == content


def test_submission(project: Project, five_folds: tuple[Path, str]) -> None:
    """exp.mode=sub trains on every training row and predicts the 360 rows that no fold has."""
    root, _ = five_folds
    printed = project.train("exp=001", "exp.mode=sub", root=root, WANDB_MODE="disabled").stdout
    run = store.read_run(counting(root, "001-larger-lr", "001-baseline"))
    submission = rows(run.folder / "full/submission.csv")
    assert display_path(run.folder / "full/submission.csv", project.folder) in printed
    assert list(submission[0]) == ["id", "prediction"]
    assert len(submission) == 360
    known = {str(each) for fold in run.done.values() for each in fold.predictions()["id"]}
    assert known.isdisjoint(row["id"] for row in submission)
    assert run.full is not None and run.full.result is not None and run.full.result["scores"] == {}
    assert run.is_complete, "the folds stay"
    again = project.train("exp=001", "exp.mode=sub", root=root).stdout
    assert "all data is done" in again and "submission.csv" in again


def test_folds_add_up(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fold now, others later, in any order: the same bytes as all at once."""
    kept = {}
    for where, selections in (("once", ["[0,1,2]"]), ("later", ["[2]", "[0]", "[0,1,2]"])):
        (tmp_path / where).mkdir()
        monkeypatch.setenv("PROJECT_ROOT", str(tmp_path / where))
        for folds in selections:
            expkit.run("001-baseline", overrides=["exp.debug=false", QUICK, f"exp.fold={folds}"])
        run = store.read_run(counting(tmp_path / where, f"baseline,{QUICK}", "001-baseline"))
        kept[where] = scores_and_predictions(run.folder), run.score_of()
        assert run.marks == ("partial",)
    assert kept["once"] == kept["later"]


def test_debug(project: Project, tmp_path: Path) -> None:
    """One epoch of one fold under output/debug/, W&B disabled even when asked for."""
    arguments = ["exp=001", "exp.fold=[0,1,2,3,4]", "exp.debug=true"]
    printed = project.train(*arguments, root=tmp_path, WANDB_MODE="offline").stdout
    assert "epoch 1/1" in printed
    run = store.read_run(tmp_path / "output/debug/001-baseline/001-larger-lr")
    assert list(run.done) == [0] and run.rows < 50
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["debug"]


def test_show_config(project: Project, tmp_path: Path) -> None:
    """YAML alone on stdout, nothing written, nothing heavy imported."""
    done = project.train("show_config=true", "exp=001", root=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    shown = yaml.safe_load(done.stdout)
    train = {"base_model": "small", "epoch": 40, "batch_size": 32, "learning_rate": 0.003}
    assert shown["exp"]["train"] == train
    assert shown["exp"]["seed"] == 1209, "config.yaml's, not the dataclass's"
    assert shown["exp"]["fold"] == [0]
    assert files(tmp_path) == []
    assert imported(done.stderr).isdisjoint(HEAVY)


@pytest.mark.slow
def test_from_the_root_and_from_the_experiment(project: Project, tmp_path: Path) -> None:
    """`uv run python` from both folders: the same bytes."""
    found = []
    for name, cwd, file in (
        ("root", project.folder, "experiments/001-baseline/train.py"),
        ("experiment", project.folder / "experiments/001-baseline", "train.py"),
    ):
        (tmp_path / name).mkdir()
        environment = project.environment(PROJECT_ROOT=str(tmp_path / name), WANDB_MODE="disabled")
        call("uv", "run", "-q", "python", file, "exp=001", QUICK, cwd=cwd, env=environment)
        found.append(scores_and_predictions(counting(tmp_path / name, f"001-larger-lr,{QUICK}", "001-baseline")))
    assert found[0] == found[1]


# From Python


def test_a_run_from_python(root: Path) -> None:
    """As a notebook makes it: the score comes back, a configuration may be changed, and nothing is left running."""
    assert expkit.run(LIGHT, overrides=["exp.train.x=10"]) == 9.0
    config = expkit.load_config(LIGHT)
    config.exp.train.x, config.exp.name = 100 / 10, "mine"
    assert expkit.run(LIGHT, config) == 9.0
    assert expkit.run(LIGHT, overrides=["exp.mode=sub"]) is None
    config.exp.fold = [7]
    with pytest.raises(expkit.Error, match="exp.fold must be from 0 to 4"):
        expkit.run(LIGHT, config)
    config.exp.fold, config.exp.train.x, config.exp.name = None, 99.0, "fails"
    with pytest.raises(expkit.Error, match="failed: fold 0, fold 1, fold 2, fold 3, fold 4"):
        expkit.run(LIGHT, config)
    done = {row.name: len(row.done) for row in expkit.read_board()}
    assert done == {"light,exp.train.x=10": 5, "mine": 5, "light": 0, "fails": 0}


# Sweeps and flags


def test_sweep(project: Project, root: Path) -> None:
    """-m: each in its own folder; Hydra's files go to output/multirun/; glob takes them all."""
    printed = project.train("-m", "exp=glob(*)", QUICK, root=root, WANDB_MODE="disabled").stdout
    assert printed.count("results: ") == 3
    names = {folder.name for folder in (root / BASELINE).glob("[!.]*")}
    assert names == {f"{name},{QUICK}" for name in ("001-larger-lr", "002-larger-model", "baseline")}
    assert list((root / "output/multirun").rglob("multirun.yaml"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "exp=001", "exp.seed=1,2"],
        ["exp=001", "-m", "exp.seed=1,2"],
        ["exp=001", "exp.seed=1,2", "--multirun"],
    ],
)
def test_flags_stand_anywhere(arguments: list[str]) -> None:
    """Hydra's parser alone takes no override after a flag that comes after another override."""
    _, args, _ = compose.parse_flags(arguments)
    assert args.multirun and args.overrides == ["exp=001", "exp.seed=1,2"]


def test_hydras_own_features(project: Project, tmp_path: Path) -> None:
    assert "a file in exp/: 001, 002" in project.train("--help", root=tmp_path).stdout
    shown = project.train("exp=002", "--cfg", "job", "exp.seed=7", "--package", "exp", root=tmp_path).stdout
    assert yaml.safe_load(shown)["seed"] == 7
    assert "launcher" in project.train("--cfg", "hydra", root=tmp_path).stdout
    assert files(tmp_path) == []


def test_a_preset_in_conf_is_found(sweeping: Project, root: Path, tmp_path: Path) -> None:
    """From any working directory, by the copy of the code that a sweep trains with."""
    preset = sweeping.folder / "conf/hydra/launcher/mine.yaml"
    preset.parent.mkdir(parents=True, exist_ok=True)
    preset.write_text("defaults:\n- basic\n")
    arguments = ["-m", "hydra/launcher=mine", "exp.debug=true"]
    printed = sweeping.train(*arguments, root=root, cwd=tmp_path, experiment=LIGHT).stdout
    preset.unlink()
    assert "1/5 folds" in printed


def test_the_working_directory_and_git_stay_clean(sweeping: Project, tmp_path: Path) -> None:
    """Without PROJECT_ROOT, results go to the project's output/, which git ignores."""
    here = tmp_path / "here"
    here.mkdir()
    for arguments in (["exp.fold=[0]"], ["-m", "exp.train.x=1,2", "exp.fold=[0]"], ["exp.debug=true"]):
        sweeping.train(*arguments, cwd=here, experiment=LIGHT, WANDB_MODE="disabled")
    assert files(here) == []
    assert list(results(sweeping.folder)) == [0]
    shutil.rmtree(sweeping.folder / "control")  # of the light experiment
    assert call("git", "status", "--porcelain", cwd=sweeping.folder).stdout == ""


# Names of runs


def named(*overrides: str) -> str:
    return run_name(expkit.load_config(LIGHT, overrides), overrides)


def test_a_value_on_the_command_line_is_a_run_of_its_own() -> None:
    """What changes no result is in no name; a name is short, safe, and of this configuration alone."""
    assert named("exp.train.x=0.01", "exp.fold=[0]", "overwrite=true") == "light,exp.train.x=0.01"
    assert named("exp.train.x=0.02") != named("exp.train.x=0.01")
    assert named("exp.runtime.tags=[a]", "exp.debug=true", "exp.mode=sub", "show_config=true") == "light"
    assert named("exp.seed=1", "exp.train.x=2") == named("exp.train.x=2", "exp.seed=1")
    texts = ["'a b'", "'a/b'", "'a:b'", f"'{'日本' * 50}'", "x" * 300, f"{'x' * 300}y"]
    names = [named(f"exp.train.anything={text}") for text in texts]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 120 and len(name.encode()) <= 200 and "/" not in name for name in names)


# Configurations of every kind


FIELDS = """
    path: Path = Path("a/b")
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    pair: tuple[int, int] = (1, 2)
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    by_model: dict[BaseModel, int] = field(default_factory=lambda: {BaseModel.small: 1})
    fill: float = math.nan
    either: int | str = "x"
    text: str = "a\\nb: # \\"c\\" 日本"
    inner: Inner | None = None
    inners: dict[str, Inner] = field(default_factory=lambda: {"a": Inner()})
"""
HEAD = """
import enum
import math
from pathlib import Path


class BaseModel(enum.Enum):
    small = (64,)
    large = (256,)


@dataclass
class Inner:
    p: float = 0.5


@dataclass
class TrainConfig:
"""
VALUES = """
name: rich
train:
  x: 1.0
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
EXPECTED = {
    "path": "~/x",
    "sizes": [1, 2],
    "pair": [3, 4],
    "weights": {"a": 1.0, "b": 2.0},
    "by_model": {"small": 1, "large": 3},
    "either": 5,
    "anything": [1, {"a": "b"}],
    "inner": {"p": 0.1},
    "inners": {"a": {"p": 0.5}, "b": {"p": 0.2}},
}


def test_every_type_that_omegaconf_knows(root: Path) -> None:
    """Composes, trains, is compared with itself and read back; a dictionary takes keys from a parameter set."""
    text = TRAIN.replace("@dataclass\nclass TrainConfig:\n", HEAD.lstrip(), 1)
    text = text.replace("    anything: Any = None\n", f"    anything: Any = None\n{FIELDS.lstrip(chr(10))}")
    with own_experiment({"train.py": text}, copy_of=LIGHT) as folder:
        (folder / "exp").mkdir()
        (folder / "exp/003.yaml").write_text(VALUES)
        assert expkit.run(folder.name, overrides=["exp=003", "exp.fold=[0]"]) == 10.0
        assert expkit.run(folder.name, overrides=["exp=003", "exp.fold=[0,1]"]) == 10.0, "the same configuration"
        loaded = load_experiment(folder.name)
        asked, recorded = expkit.load_config(folder.name, ["exp=003"]), expkit.load_run("rich").config
        again = from_values(loaded, restored(recorded)).exp.train
        assert math.isnan(again.fill)
        assert container(again) == container(asked.exp.train) == recorded["exp"]["train"]
        assert (again.text, again.path, again.by_model) == (asked.exp.train.text, Path("~/x"), asked.exp.train.by_model)
        assert again.text == "prefix ${oc.env:HOME} rich ${"
        assert {key: recorded["exp"]["train"][key] for key in EXPECTED} == EXPECTED
        plain = expkit.load_config(folder.name).exp.train
        assert str(plain.path) == "a/b" and plain.text == 'a\nb: # "c" 日本'
        with pytest.raises(expkit.Error, match=r"no key exp.train.weights.c; to add it, write '\+exp.train.weights.c="):
            expkit.load_config(folder.name, ["exp.train.weights.c=3"])
        with pytest.raises(expkit.Error, match="a key that is null has no sub-keys"):
            expkit.load_config(folder.name, ["exp.train.inner.p=3"])


def test_a_config_that_names_no_parameter_set(root: Path) -> None:
    """`- exp: default` may be missing; then no parameter set can be chosen, and `exp check` says so."""
    from expkit.new import check_all

    with own_experiment({"config.yaml": CONFIG.replace("- exp: default\n", "")}, copy_of=LIGHT) as folder:
        (folder / "exp").mkdir()
        (folder / "exp/001.yaml").write_text("name: other\n")
        assert expkit.run(folder.name, overrides=["exp.fold=[0]"]) == 10.0
        problems = {checked.parameter_set: checked.problem for checked in check_all([folder.name])}
        assert problems["default"] is None
        assert "Could not override 'exp'" in str(problems["001"])


# Terminals


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
    process = start(project, tmp_path, "exp.fold=[0,1]", "exp.train.epoch=300", experiment="001-baseline")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("fold 0  epoch 1/300")
    process.stdout.close()
    [error] = process.stderr.read().splitlines()
    assert error.startswith("error: stdout was closed: ")
    assert process.wait(20) == 1
    assert not list(tmp_path.rglob("result.json"))
