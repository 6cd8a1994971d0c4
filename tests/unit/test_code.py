"""The record holds the code that ran, however it was imported and whatever was edited meanwhile."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy  # noqa: F401  # before a test forgets what it has imported
import pytest
from conftest import call
from experiments import own_experiment
from helpers import environment_of, results

import expkit
from expkit import code
from expkit.board import entries, flag_incomparable, read_board
from expkit.config import load_experiment
from expkit.fingerprint import changed_since, file_hashes

TRAIN = """
{imports}

import expkit


def quality(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    fold.save_oof({{"id": [fold.number], "prediction": [{prediction}]}})


experiment = expkit.Experiment(train, expkit.ExpConfig, metric=quality, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
"""


@contextmanager
def imported(imports: str, prediction: str = "1.0") -> Iterator[tuple[str, Path]]:
    """An experiment that imports, loaded; its name and folder. What it has imported is forgotten again."""
    known, path = set(sys.modules), list(sys.path)
    with own_experiment({"train.py": TRAIN.format(imports=imports, prediction=prediction)}) as folder:
        yield folder.name, folder
    for name in set(sys.modules) - known:
        del sys.modules[name]
    sys.path[:] = path


ON_THE_PATH = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent / "lib"))
"""
BY_ITS_PATH = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("own_rules", Path(__file__).parent / "lib/own_rules.py")
own_rules = sys.modules["own_rules"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own_rules)
"""


@pytest.mark.parametrize(
    ("imports", "file"),
    [
        (f"{ON_THE_PATH}import own_rules", "lib/own_rules.py"),
        (f"{ON_THE_PATH}from own_part import own_rules", "lib/own_part/own_rules.py"),
        ("from own_beside import own_rules", "own_beside/own_rules.py"),
        (BY_ITS_PATH, "lib/own_rules.py"),
    ],
)
def test_a_module_is_recorded_as_it_ran(imports: str, file: str) -> None:
    """However it was imported, and whatever was edited since."""
    with imported(imports, prediction="own_rules.K") as (name, folder):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text("K = 1\n")
        load_experiment(name)
        (folder / file).write_text("K = 2\n")
        assert code.loaded_sources(name)[f"experiments/{name}/{file}"] == b"K = 1\n"


READS = "import json\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"


def test_a_file_beside_train_py_is_what_was_read_of_it(root: Path) -> None:
    """Not what lies there when a fold ends, nor what a training writes there."""
    table = f"{READS}K = json.loads((HERE / 'table.json').read_text())"
    log = "K + 0 * (HERE / 'log').open('a').write('x')"
    with imported(table, prediction=f"float({log})") as (name, folder):
        (folder / "table.json").write_text("1")
        (folder / "log").write_text("of before")
        load_experiment(name)
        (folder / "table.json").write_text("500")
        expkit.run(name, overrides=["exp.fold=[0,1]"])
        assert [row.marks for row in expkit.read_board()] == [("partial",)]
        load_experiment(name, again=True)
        expkit.run(name, overrides=["exp.fold=[2]"])
        [row] = expkit.read_board()
        assert row.fold_scores == {0: 1.0, 1: 1.0, 2: 500.0} and "mixed code" in row.marks


@pytest.mark.parametrize(
    ("name", "content", "prediction"),
    [
        ("prompt.md", "1", "float((HERE / 'prompt.md').read_text())"),
        (
            "rule.py",
            "def of(): return 1",
            "[space := {}, exec((HERE / 'rule.py').read_text(), space), space['of']()][2]",
        ),
        ("rows.bin", "1", "float(__import__('numpy').memmap(HERE / 'rows.bin')[0])"),
        ("../{}-b/own.py", "VALUE = 1", "expkit.load_module(HERE.name + '-b', 'own').VALUE"),
    ],
)
def test_what_a_training_reads_is_code(quick: Path, name: str, content: str, prediction: str) -> None:
    """Text, Python that it executes, a file that it maps, a module of another experiment: an edit is marked."""
    with imported(READS, prediction) as (experiment, folder):
        file = folder / name.format(experiment)
        for number, text in enumerate((content, content.replace("1", "5"))):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            (file.parent / "train.py").touch()
            code.forget(file.parent.name)
            load_experiment(experiment, again=True)
            expkit.run(experiment, overrides=[f"exp.fold=[{number}]"])
        [row] = expkit.read_board()
        assert row.fold_scores[1] == pytest.approx(row.fold_scores[0] + 4) and "mixed code" in row.marks
        if file.parent != folder:
            shutil.rmtree(file.parent)


def test_a_file_that_is_no_python_is_kept_as_a_hash() -> None:
    """Weights beside train.py take no memory, and an edit is seen."""
    with imported("") as (name, folder):
        weights = folder / "weights.bin"
        weights.write_bytes(b"0" * 100)
        weights.read_bytes()
        [(path, content)] = code.files_read(name).items()
        assert len(content) == 32
        digests = file_hashes({path: content})
        assert changed_since(digests) == []
        weights.write_bytes(b"1" * 100)
        assert changed_since(digests) == [path]


READ = "json.loads((HERE / 'k.json').read_text())"
A_CLASS = "from dataclasses import dataclass\n\n@dataclass\nclass S:\n    k: float\n\n\n"


@pytest.mark.parametrize(
    ("above", "k"),
    [
        (f"K = {READ}", "K"),
        (f"from types import SimpleNamespace\n\nS = SimpleNamespace(k={READ})", "S.k"),
        (f"{A_CLASS}S = S({READ})", "S.k"),
        ("", READ),
        ("K = []", f"(K or K.append({READ}) or K)[0]"),
    ],
)
def test_a_constant_of_a_metric_that_is_read_from_a_file(
    quick: Path, capsys: pytest.CaptureFixture[str], above: str, k: str
) -> None:
    """Another value is another metric, and no other code: the same command scores all runs of the experiment again."""
    with imported(f"{READS}{above}") as (name, folder):
        train = folder / "train.py"
        train.write_text(train.read_text().replace('oof["prediction"].mean()', f'{k} * oof["prediction"].mean()'))

        def run(seed: int) -> float | None:
            load_experiment(name, again=True)
            return expkit.run(name, overrides=[f"exp.seed={seed}"])

        (folder / "k.json").write_text("1")
        assert [run(1), run(2), run(1)] == [1, 1, 1]
        assert "computed again" not in capsys.readouterr().out
        (folder / "k.json").write_text("9")
        assert run(1) == 9
        assert "has changed; so are those of 1 other run\n" in capsys.readouterr().out
        assert run(3) == 9
        assert [(entry.run.score, entry.marks) for entry in flag_incomparable(entries(read_board()))] == [(9, ())] * 3


def test_a_package_that_is_imported_above_expkit(root: Path) -> None:
    """Edited while a fold is trained: the hashes and the snapshot have what ran, and the next fold is marked."""
    body = f"{ON_THE_PATH}import own_rules\n\nimport expkit"
    edit = "(Path(own_rules.__file__).write_text('K = 500\\n'), own_rules.K)[1]"
    with imported(body, prediction=edit) as (name, folder):
        (folder / "lib").mkdir()
        (folder / "lib/own_rules.py").write_text("K = 1\n")
        environment = environment_of(expkit.code_root(), PROJECT_ROOT=str(root))
        for folds in ("0", "0,1"):
            train = [sys.executable, folder / "train.py", f"exp.fold=[{folds}]"]
            printed = call(*train, cwd=root, env=environment)
        assert f"the code has changed since fold 0 (experiments/{name}/lib/own_rules.py)" in printed.stderr
        assert [row.marks for row in expkit.read_board()] == [("partial", "mixed code")]
        for fold, k in enumerate((1, 500)):
            result = results(root, "light", name)[fold]
            path = f"{result['git']['snapshot']}:experiments/{name}/lib/own_rules.py"
            shown = call("git", "show", path, cwd=expkit.code_root()).stdout
            assert (result["scores"], shown) == ({"quality": k}, f"K = {k}\n")


def test_what_is_code_of_the_project(tmp_path: Path) -> None:
    """Also behind a link; neither expkit, nor a library, whatever its folder is called, nor another project."""
    root = expkit.code_root()
    own = [root / "src/mine/a.py", root / "experiments/001/train.py", root / "lib"]
    assert [code.own_path(str(path)) for path in own] == list(map(str, own))
    (tmp_path / "link").symlink_to(root)
    assert code.own_path(str(tmp_path / "link/src/mine")) == str(root / "src/mine")
    library = Path(expkit.__file__).parent / "run.py"
    others = [root / ".venv/bin", library, root / "env/lib/site-packages/a.py", root.parent / "a.py"]
    assert not any(code.own_path(str(path)) for path in others)


def test_a_name_that_is_no_file_of_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module names no whole path, as torch.ops; `shutil.rmtree` of another folder opens by names alone."""
    (tmp_path / "above/tree").mkdir(parents=True)
    module = ModuleType("own_ops")
    module.__file__ = "_ops.py"
    monkeypatch.setitem(sys.modules, "own_ops", module)
    with own_experiment() as folder:
        monkeypatch.chdir(folder)
        shutil.rmtree(tmp_path / "above")
        assert not [file for file in code.READ if file.startswith(str(folder))]
        assert not code.loaded_sources(folder.name).keys() & {"_ops.py", f"experiments/{folder.name}/_ops.py"}
