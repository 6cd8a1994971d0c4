"""An Optuna study of an experiment: `-m hydra/sweeper=optuna 'exp.train.learning_rate=tag(log,interval(1e-4,1e-1))'`.

The sweeper is hydra-optuna-sweeper. Here are the values that it starts from in place of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import DictConfig, OmegaConf

from expkit.config.values import container
from expkit.paths import output_dir

SWEEPER = {
    "direction": "${expkit.direction:}",
    "storage": "${expkit.storage:}",
    "study_name": "${expkit.study:}",
    "n_trials": "${expkit.trials_left:20}",
    "n_jobs": 1,  # at once; the next ones learn from all before them
    "max_failure_rate": 1.0,  # a failed trial is recorded, and the study goes on
}
LONGEST_NAME = 400  # characters; Optuna takes 512
NOT_NAMED = ("overwrite=", "show_config=", "exp.runtime.")


def register_study(experiment: str, greater_is_better: bool) -> None:
    """Let hydra/sweeper=optuna look for the best score, and keep its trials under output/.

    A study is named by the experiment, the overrides, and a hash of the configuration: the same command goes on with
    it, and after an edit of config.yaml it is another one.

    Args:
        experiment: the name of the experiment's folder.
        greater_is_better: of its score.
    """

    def study(*, _root_: DictConfig) -> str:
        return study_name(experiment, list(_root_.hydra.overrides.task), container(_root_.exp))

    def trials_left(total: int, *, _parent_: DictConfig) -> int:
        return max(0, total - finished_trials(str(_parent_.storage), str(_parent_.study_name)))

    direction = "maximize" if greater_is_better else "minimize"
    OmegaConf.register_new_resolver("expkit.study", study, replace=True)
    OmegaConf.register_new_resolver("expkit.direction", lambda: direction, replace=True)
    OmegaConf.register_new_resolver("expkit.trials_left", trials_left, replace=True)
    OmegaConf.register_new_resolver("expkit.storage", storage, replace=True)
    Plugins.instance()  # loads the plugins, which store their configurations
    store = ConfigStore.instance()
    try:
        known = store.load("hydra/sweeper/optuna.yaml")
    except ConfigLoadError:
        return  # not installed
    store.store("optuna", OmegaConf.merge(known.node, SWEEPER), group="hydra/sweeper", provider="expkit")


def storage() -> str:
    """Where the studies are kept: an SQLite database, whose path may hold any character."""
    from urllib.parse import quote

    file = output_dir() / "multirun" / "optuna.db"
    if set("?%{}") & set(str(file)):  # Optuna fills in {}
        return f"sqlite:///file:{quote(str(file))}?uri=true"
    return f"sqlite:///{file}"


def study_name(experiment: str, overrides: list[str], values: dict[str, Any]) -> str:
    """The name of a study."""
    named = [text for text in overrides if not text.startswith(NOT_NAMED)]
    known = {key: value for key, value in values.items() if key not in ("runtime", "debug")}
    digest = hashlib.sha256(json.dumps([named, known], sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{' '.join([experiment, *named])[:LONGEST_NAME]} #{digest}"


def with_total(override: str) -> str:
    """`hydra.sweeper.n_trials=8` means eight trials in all, however often the command is typed."""
    return re.sub(r"^(hydra\.sweeper\.n_trials=)(\d+)$", r"\g<1>${expkit.trials_left:\g<2>}", override)


def finished_trials(where: str, study: str) -> int:
    """How many trials of a study have come to an end, a score or a failure."""
    import optuna
    from filelock import FileLock

    folder = output_dir() / "multirun"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".optuna.lock"):  # two first studies at once would both make the tables
            known = optuna.load_study(study_name=study, storage=where)
    except KeyError:  # no such study yet
        return 0
    return sum(trial.state.is_finished() for trial in known.trials)
