"""Experiments of one test alone, in the project that expkit is imported from."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from light import CONFIG

from expkit import code, project

_numbers = itertools.count()


@contextmanager
def own_experiment(
    files: Mapping[str, str] | None = None, copy_of: str | None = None, at: Path | None = None
) -> Iterator[Path]:
    """A folder in experiments/ that git does not see and no other worker uses; removed afterwards.

    Args:
        files: name to text; a config.yaml is there without being named.
        copy_of: the experiment whose files it begins with.
        at: the project; None: the one that expkit is imported from.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = (at or project.code_root()) / "experiments" / f"9{next(_numbers):02d}-{worker}"
    folder.mkdir()
    (folder / ".gitignore").write_text("*\n")  # first: a snapshot may be taken at any time
    try:
        if copy_of is not None:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(folder.with_name(copy_of), folder, ignore=ignored, dirs_exist_ok=True)
        texts = {} if copy_of is not None else {"config.yaml": CONFIG.lstrip()}
        for name, text in (texts | dict(files or {})).items():
            (folder / name).write_text(text)
        yield folder
    finally:
        code.forget(folder.name)
        shutil.rmtree(folder)
