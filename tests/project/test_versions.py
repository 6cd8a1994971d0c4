"""A rendered project works on other Pythons that are here, with the newest and with the lowest allowed dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, call, clean_environment, commit_all
from copier import run_copy

# Python 3.11 with the newest dependencies is in test_render.py. The lowest are the same for all: once is enough.
COMBINATIONS = [("3.11", "lowest-direct"), ("3.13", "highest"), ("3.14", "highest")]


def python(version: str) -> Path | None:
    """An interpreter of this version: on the PATH, or among those of pyenv."""
    found = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    found += [Path(file) for file in [shutil.which(f"python{version}")] if file]
    for file in [Path(sys.executable), *found]:
        asked = [str(file), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == version:
            return file
    return None


@pytest.mark.slow
@pytest.mark.parametrize(("version", "resolution"), COMBINATIONS)
def test_a_project_works(template_repository: Path, tmp_path: Path, version: str, resolution: str) -> None:
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version} on this machine")
    folder = tmp_path / "project"
    run_copy(str(template_repository), folder, defaults=True, quiet=True)
    commit_all(folder)
    environment = clean_environment() | {"HOME": str(tmp_path)}
    environment |= {"UV_CACHE_DIR": call("uv", "cache", "dir", cwd=tmp_path).stdout.strip()}
    sync = ["uv", "sync", "-q", "--extra", "local", "--extra", "slurm", "--resolution", resolution]
    call(*sync, "--python", interpreter, cwd=folder, env=environment)
    if resolution != "highest":  # a project asks for expkit alone, which asks for the others
        lowest = ["--upgrade", *sync[3:], "-r", ROOT / "expkit/pyproject.toml"]
        call("uv", "pip", "install", "-q", *lowest, cwd=folder, env=environment)
    run = ["uv", "run", "-q", "--no-sync"]
    assert "5 passed" in call(*run, "pytest", "-q", cwd=folder, env=environment).stdout
    if resolution != "highest":
        versions = "import hydra, omegaconf; print(hydra.__version__, omegaconf.__version__)"
        assert call(*run, "python", "-c", versions, cwd=folder, env=environment).stdout == "1.3.2 2.3.0\n"
        call(*run, "ruff", "check", cwd=folder, env=environment)
        call(*run, "ruff", "format", "--check", cwd=folder, env=environment)
    sweep = ["-m", "exp.debug=true", "exp.fold=[0],[1]", "hydra/launcher=local"]
    swept = call(*run, "python", "experiments/001-baseline/train.py", *sweep, cwd=folder, env=environment).stdout
    assert swept.count("CV accuracy ") == 2, swept
    assert "3 of 3" in call(*run, "exp", "check", cwd=folder, env=environment).stdout
    assert "--from" in call(*run, "exp", "new", "--help", cwd=folder, env=environment).stdout
