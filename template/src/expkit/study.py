"""An Optuna study of an experiment: `-m hydra/sweeper=optuna 'exp.train.learning_rate=tag(log,interval(1e-4,1e-1))'`.

The sweeper is hydra-optuna-sweeper. Here are the values that it starts from in place of its own.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import DictConfig, OmegaConf

SWEEPER = {
    "direction": "${expkit.direction:}",
    "storage": "sqlite:///${expkit.dir:output}/multirun/optuna.db",
    "study_name": "${expkit.study:}",
    "n_trials": "${expkit.trials_left:20}",  # in all, however often the command is interrupted and typed again
    "n_jobs": 1,  # at once; the next ones learn from all before them
    "max_failure_rate": 1.0,  # a failed trial is recorded, and the study goes on
}
LONGEST_NAME = 400  # characters; Optuna takes 512
NOT_NAMED = ("overwrite=", "show_config=")


def register_study(experiment: str, greater_is_better: bool) -> None:
    """Let hydra/sweeper=optuna look for the best score, and keep its trials under output/.

    A study is named by the experiment and the overrides: the same command goes on with it.

    Args:
        experiment: the name of the experiment's folder.
        greater_is_better: of its score.
    """

    def study(*, _root_: DictConfig) -> str:
        overrides = [text for text in _root_.hydra.overrides.task if not text.startswith(NOT_NAMED)]
        name = " ".join([experiment, *overrides])
        if len(name) <= LONGEST_NAME:
            return name
        return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def trials_left(total: int, *, _parent_: DictConfig) -> int:
        return max(0, total - finished_trials(str(_parent_.storage), str(_parent_.study_name)))

    direction = "maximize" if greater_is_better else "minimize"
    OmegaConf.register_new_resolver("expkit.study", study, replace=True)
    OmegaConf.register_new_resolver("expkit.direction", lambda: direction, replace=True)
    OmegaConf.register_new_resolver("expkit.trials_left", trials_left, replace=True)
    Plugins.instance()  # loads the plugins, which store their configurations
    store = ConfigStore.instance()
    try:
        known = store.load("hydra/sweeper/optuna.yaml")
    except ConfigLoadError:
        return  # not installed
    store.store("optuna", OmegaConf.merge(known.node, SWEEPER), group="hydra/sweeper", provider="expkit")


def finished_trials(storage: str, study: str) -> int:
    """How many trials of a study have come to an end, a score or a failure.

    Args:
        storage: "sqlite:///..." and the path of the file; of any other storage, nothing is known: 0.
    """
    kind, _, path = storage.partition(":///")
    if kind != "sqlite" or not Path(path).is_file():
        return 0
    query = """
        SELECT count(*) FROM trials JOIN studies USING (study_id)
        WHERE study_name = ? AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
    """
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(query, (study,)).fetchone()[0])
    except sqlite3.OperationalError:  # interrupted before it had tables
        return 0
    finally:
        connection.close()
