"""Bad input: one line that names the key, a non-zero exit code, and nothing written."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Project, call
from experiments import own_experiment

import expkit


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@dataclass
class Printed:
    code: int
    out: str
    err: str


Command = Callable[..., Printed]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A train.py as its command line runs it, in this process."""

    def command(*arguments: str, experiment: str = "001-baseline") -> Printed:
        file = expkit.code_root() / "experiments" / experiment / "train.py"
        monkeypatch.setattr(sys, "argv", [str(file), *arguments])
        monkeypatch.setattr(sys, "path", [str(file.parent), *sys.path])
        modules = set(sys.modules)
        code = 0
        capsys.readouterr()
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        for name in set(sys.modules) - modules:
            if getattr(sys.modules[name], "__file__", None) == str(file.with_name(f"{name}.py")):
                del sys.modules[name]  # what the script has imported from beside it
        return Printed(code, *capsys.readouterr())

    return command


def test_not_in_experiments(project: Project, tmp_path: Path) -> None:
    """In a process of its own, with the installed expkit; and a train.py of another project."""
    complaint = f"an experiment is a train.py in a folder of {project.folder}/experiments/"
    for place in ("experiments/group/001-baseline", "experiments/001-baseline"):
        folder = tmp_path / place
        shutil.copytree(project.folder / "experiments/001-baseline", folder)
        before = files(tmp_path)
        done = call(project.python, folder / "train.py", cwd=tmp_path, env=project.environment(), check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert complaint in done.stderr
        assert [file for file in files(tmp_path) if "__pycache__" not in file] == before


@pytest.fixture(scope="module")
def own() -> Iterator[Path]:
    """A copy of the baseline."""
    with own_experiment(copy_of="001-baseline") as folder:
        yield folder
