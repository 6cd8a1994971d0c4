"""The lines of docs/troubleshooting.md are what the commands print, to the letter."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT, Command, call, clean_environment
from experiments import own_experiment
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from light import edited, train_py

import expkit
from expkit import code, config
from expkit.cli import app

PAGE = ROOT / "docs/troubleshooting.md"
HOUSES = "002-houses"  # what the page calls an experiment of the reader's own
PROVOKED: set[str] = set()  # by the tests above the last one

TRAIN = train_py(
    "learning_rate: float = 0.1\nepochs: int = 3",
    """
def accuracy(oof):
    return (oof["target"] == oof["prediction"]).mean()


def train(exp, fold):
    BODY
""",
    "metric=accuracy, own_split=True",
    exp='name: str = "houses"',
)
CONFIG = "defaults: [schema, _self_, exp: default]\nexp: {name: houses, fold: [0]}\n"
GOOD = 'fold.save_oof({"id": [fold.number], "target": [0], "prediction": [0]})'

Make = Callable[..., str]


def messages() -> list[str]:
    """The first cell of each row of the page's tables."""
    rows = re.findall(r"^\| (?P<ticks>`+)(.+?)(?P=ticks) \| ", PAGE.read_text(), flags=re.M)
    return [message for _, message in rows]


def on_the_page(line: str) -> str:
    """The message of the page that a line is; where that ends in `...`, the line may go on."""
    for message in messages():
        is_it = line.startswith(message[:-3]) if message.endswith("...") else line == message
        if is_it:
            PROVOKED.add(message)
            return message
    raise AssertionError(f"{line}\nis not on the page")


def said(printed: str, name: str = HOUSES) -> str:
    """The last line that says what is wrong."""
    lines = [line for line in printed.splitlines() if re.match(r"error: |warning: |[\w.]+Error: ", line)]
    assert lines, printed
    return re.sub(r"^(error|warning|[\w.]+Error): ", "", lines[-1]).rstrip(":").replace(name, HOUSES)


@pytest.fixture
def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes an experiment of one's own: what `train` does, and what is another text in train.py."""
    monkeypatch.chdir(root)
    with own_experiment({"train.py": TRAIN, "config.yaml": CONFIG}) as folder:

        def made(body: str = GOOD, old: str = "\n", new: str = "\n") -> str:
            code.forget(folder.name)
            config._load.cache_clear()
            (folder / "train.py").write_text(TRAIN.replace("BODY", body.replace("\n", "\n    ")).replace(old, new))
            return folder.name

        yield made


@pytest.mark.parametrize(
    "argument",
    [
        "exp=003",
        "exp.train.lerning_rate=0.1",
        "exp.fold=0,1",
        "exp.train.epochs",
        "exp.fold=[7]",
        "exp.train.learning_rate=interval(1e-4,1e-1)",
        "exp.train.epochs=1.5",
        "exp.train.epochs=???",
        "exp.name=002-larger-model",
        "hydra/launcher=slurm",
    ],
)
def test_command_line(train: Command, root: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.chdir(expkit.code_root())
    on_the_page(said(train(argument).err))


def test_project_root(train: Command, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJECT_ROOT", "/nowhere")
    on_the_page(said(train().err))


def test_no_uv_run() -> None:
    file = expkit.code_root() / "experiments/001-baseline/train.py"
    done = call(sys.executable, "-S", file, cwd=ROOT, env=clean_environment(), check=False)  # without its packages
    on_the_page(done.stderr.splitlines()[-1])


def test_a_run_that_is_not_there(root: Path) -> None:
    for run in ("001-larger-lr", "002-larger-model"):
        (root / "output/001-baseline" / run).mkdir(parents=True)
    for name in ("larger-rl", "0"):
        on_the_page(str(CliRunner().invoke(app, ["show", name]).exception))


@pytest.mark.parametrize(
    ("old", "new", "arguments"),
    [
        ("learning_rate: float = 0.1", "learning_rate: float = 0.1", ["exp=003"]),
        ("epochs: int = 3", "epochs: int | list[str] = 3", []),
        ("accuracy", "rmse", []),
        ("metric=accuracy", "metric=accuracy, inputs=['houses']", []),
    ],
)
def test_an_experiment(train: Command, make: Make, old: str, new: str, arguments: list[str]) -> None:
    name = make(GOOD, old, new)
    sets = expkit.code_root() / "experiments" / name / "exp"
    sets.mkdir()
    (sets / "003.yaml").write_text("name: x\ntrain: {epoch: 3}\n")
    printed = train(*arguments, experiment=name)
    assert (printed.code in (1, 2), len(printed.err.splitlines())) == (True, 1), printed.err
    on_the_page(said(printed.err, name))


def test_another_order_of_the_defaults(train: Command, make: Make) -> None:
    name = make()
    file = expkit.code_root() / "experiments" / name / "config.yaml"
    with edited(file, "schema, _self_, exp: default", "_self_, exp: default"):
        on_the_page(said(train(experiment=name).err))


def test_hydra_is_initialized_twice(root: Path) -> None:
    GlobalHydra.instance().clear()
    folder = str(expkit.code_root() / "experiments/001-baseline")
    try:
        initialize_config_dir(folder, version_base=None)
        with pytest.raises(ValueError) as caught:
            initialize_config_dir(folder, version_base=None)
    finally:
        GlobalHydra.instance().clear()
    assert str(caught.value).startswith(on_the_page(str(caught.value).partition(",")[0]))


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('fold.save_oof({"id": [1, 2], "target": [0, 1], "prediction": [0.5, float("nan")]})', []),
        ('fold.log(epoch=3, train_loss=float("nan")); ' + GOOD, []),
        ('fold.log(epoch=3, note="late"); ' + GOOD, []),
        ('fold.save_test({"id": [1, 2], "x": [1.5, 1.5], "y": [1.5, 1.5]}); ' + GOOD, []),
        ('fold.save_oof({"id": [1, 1], "target": [0, 1], "prediction": [0, 1]})', []),
        ('fold.save_oof({"id": [1, 2], "target": [0, 1], "prediction": [[0], [1]]})', []),
        ("pass", []),
        ('fold.save_oof({"id": [1, 2], "prediction": [0, 1]})', []),
        ("expkit.split(exp, fold.number, id=[1, 2])", ["exp.split.method=group"]),
        ("expkit.split(exp, fold.number, id=range(20), y=[0.5, *[1] * 19])", ["exp.split.method=stratified"]),
        ('fold.save_test({"id": [1], "price": [1.0]})', ["exp.mode=sub"]),
        (f'if fold.number == 0: raise expkit.Error("x")\n{GOOD}', ["exp.fold=[0,1]"]),
    ],
    ids=str,
)
def test_training(train: Command, make: Make, root: Path, body: str, arguments: list[str]) -> None:
    name = make(body)
    (root / "input/houses").mkdir()
    (root / "input/houses/sample_submission.csv").write_text("id,price\n1,0\n2,0\n")
    on_the_page(said(train(*arguments, experiment=name).err, name))


@pytest.mark.parametrize("split", ["pass", "fold.split(id=range(1, 9))"])
def test_rows_that_are_not_predicted(train: Command, make: Make, split: str) -> None:
    save = 'fold.save_oof({"id": [1, 2], "target": [0, 1], "prediction": [0, 1]})'
    name = make(f"{split}; {save}", "own_split=True", "own_split=False")
    on_the_page(said(train("exp.n_folds=2", experiment=name).err, name))


def test_an_edit_of_what_has_results(train: Command, make: Make) -> None:
    name = make()
    assert train(experiment=name).code == 0
    config = expkit.code_root() / "experiments" / name / "config.yaml"
    with edited(config, "fold: [0]", "fold: [0], train: {learning_rate: 0.05}"):
        on_the_page(said(train(experiment=name).err, name))
    make(f"used = 1; {GOOD}")
    on_the_page(said(train(experiment=name).err, name))


def test_no_git(train: Command, make: Make, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = make()
    monkeypatch.setenv("PATH", str(root))
    on_the_page(said(train(experiment=name).err, name))
    result = CliRunner().invoke(app, ["reproduce", "houses"])
    on_the_page(str(result.exception).replace(f"{name}/houses", "001-baseline/baseline"))


def test_no_pandas(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(expkit.Error) as caught:
        expkit.runs()
    on_the_page(str(caught.value))


@pytest.mark.parametrize(
    "part",
    [
        ", which another process trains",
        ", from before ",
        "a study needs a parameter to search, as in 'exp.train.x=interval(0,1)'",
        "finished folds are kept, and the same command trains what is missing",
        " processes train together (torchrun), and this experiment is not prepared for that: ",
        "its process has died: ",
        " read, and inputs=",
        "W&B is offline: look now with ",
        "W&B does not take the key, or does not answer; going on offline ",
    ],
)
def test_what_takes_a_second_process_or_a_server(part: str) -> None:
    """Provoked elsewhere: here, it is in the code as it is on the page."""
    assert any(part in file.read_text() for file in (ROOT / "expkit/src").rglob("*.py"))
    [message] = [message for message in messages() if part in message]
    PROVOKED.add(message)


def test_every_line_of_the_page_has_a_test(request: pytest.FixtureRequest) -> None:
    if request.config.option.keyword:
        pytest.skip("only with all others of this file")
    assert set(messages()) == PROVOKED
