"""Where studies are kept."""

from __future__ import annotations

import sqlite3
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from expkit.errors import Error
from expkit.paths import output_dir, shown

PATIENCE = 60  # seconds to wait for another process that writes


def folder() -> Path:
    """The folder of all studies."""
    return output_dir() / "multirun"


def default_storage() -> str:
    """An SQLite database under output/."""
    return str(folder() / "optuna.db")


def opened(storage: str) -> Any:
    """The storage of Optuna's in an SQLite file, in a journal (.log, which network file systems take), or at a URL.

    A relative path begins in the folder of all studies.

    Raises:
        Error: it cannot be opened, or an older Optuna has made it.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage, get_storage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    is_url, file = "://" in storage, folder() / storage
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(folder() / ".optuna.lock"):  # two first studies at once would both make the tables
            if is_url:
                return get_storage(storage)
            if storage.endswith(".log"):
                return JournalStorage(JournalFileBackend(str(file)))
            # not by its URL: in that, a path may not hold ?, %, { or }
            connect = partial(sqlite3.connect, file, timeout=PATIENCE, check_same_thread=False)
            return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})
    except RuntimeError as error:
        if "optuna storage upgrade" not in str(error):
            raise Error(f"hydra.sweeper.storage={storage}: {_line(error)}") from error
        url = storage if is_url else f"sqlite:///{shown(file)}"
        raise Error(
            f"{storage if is_url else shown(file)} was made by an older Optuna; this command upgrades it: "
            f"uv run optuna storage upgrade --storage '{url}'"
        ) from error
    except Exception as error:  # of SQLAlchemy's and of databases' many
        raise Error(f"hydra.sweeper.storage={storage}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
