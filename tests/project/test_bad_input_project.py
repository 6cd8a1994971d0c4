"""Bad input: one line that names the key, a non-zero exit code, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

from conftest import Project, call


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


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
