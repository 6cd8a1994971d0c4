"""Where the project is: its code, its data and its results."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import OmegaConf

from expkit.errors import SHOWN_AS, Error


def code_root() -> Path:
    """The folder with `experiments/`, `conf/` and `src/`: this file lies in its `src/expkit/`."""
    return Path(__file__).resolve().parents[2]


def project_root(file: str | Path | None = None) -> Path:
    """The folder with `input/` and `output/`.

    Args:
        file: a `train.py`; without PROJECT_ROOT, the project that it belongs to.

    Returns:
        The environment variable PROJECT_ROOT when it is set (a remote volume, say), else the project of `file`,
        else the project of this package.

    Raises:
        Error: PROJECT_ROOT is set and is not a folder.
    """
    if named := os.environ.get("PROJECT_ROOT"):
        root = Path(named).expanduser()
        if not root.is_dir():
            raise Error(f"PROJECT_ROOT is not a folder: {named}: create it, or unset the variable")
        return root.resolve()
    return Path(file).resolve().parents[2] if file else code_root()


def input_dir(file: str | Path | None = None) -> Path:
    """The folder of the data. Arguments and errors as in `project_root`."""
    return project_root(file) / "input"


def output_dir(file: str | Path | None = None) -> Path:
    """The folder of the results. Arguments and errors as in `project_root`."""
    return project_root(file) / "output"


def shown(path: Path) -> str:
    """`path` as a person would type it here: absolute, or relative to the working directory when that is shorter."""
    for folder, shown_as in SHOWN_AS.items():
        if path.is_relative_to(folder):
            path = Path(shown_as, path.relative_to(folder))
    try:
        return min(str(path), os.path.relpath(path), key=len)
    except ValueError:  # another drive, on Windows
        return str(path)


def _read_dotenv() -> None:
    """Set what `.env` says; a variable that is set already goes over it."""
    file = code_root() / ".env"
    if file.is_file():
        from dotenv import load_dotenv

        load_dotenv(file)


_read_dotenv()

# For config.yaml: ${expkit.dir:conf} and ${expkit.dir:output}.
OmegaConf.register_new_resolver(
    "expkit.dir",
    lambda name: str(code_root() / "conf" if name == "conf" else project_root() / name),
    replace=True,
)
