"""What a fresh project installs, without the group dev: every package is a wait, and one more that may break."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, Project, call, clean_environment, copier

NEEDED = "annotated-types filelock hydra-core numpy omegaconf python-dotenv pyyaml rich scikit-learn typer wandb"
# Packages and MiB: 46 and 277, 58 and 402 when this was written.
MOST = {"sklearn": (50, 300), "lightgbm": (62, 430)}


def test_the_packages_that_a_project_asks_for(project: Project) -> None:
    """A new one, or one that went, is a decision: it stands here, too."""
    files = (project.folder / "pyproject.toml", ROOT / "expkit/pyproject.toml")
    of_project, asked = (tomllib.loads(file.read_text())["project"]["dependencies"] for file in files)
    assert [re.split(r"[<>=; ]", each)[0] for each in of_project] == ["expkit"]
    assert sorted({re.split(r"[<>=; ]", each)[0] for each in asked}) == NEEDED.split()


@pytest.mark.slow
@pytest.mark.parametrize("framework", MOST)
def test_a_fresh_project_is_light(template_repository: Path, tmp_path: Path, framework: str) -> None:
    """What its packages bring along is counted, too."""
    copier("copy", "-q", "--defaults", "--data", f"framework={framework}", template_repository, "fresh", cwd=tmp_path)
    call("uv", "sync", "-q", "--no-dev", cwd=tmp_path / "fresh", env=clean_environment())
    [site] = (tmp_path / "fresh/.venv/lib").glob("python*/site-packages")
    packages = sorted(folder.name.partition("-")[0] for folder in site.glob("*.dist-info"))
    files = [file for file in site.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    size = sum(file.stat().st_size for file in files) / 2**20
    assert {"wandb", "scikit_learn"} <= set(packages) and size > 100  # it has looked in the right place
    most_packages, most_size = MOST[framework]
    assert len(packages) <= most_packages, packages
    assert size <= most_size
