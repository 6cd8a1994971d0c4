"""hydra/sweeper=optuna: Hydra finds it here, and makes sweepers of no other package; the search is `expkit.study`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from expkit.compose import store_config
from expkit.errors import require

SWEEPER: dict[str, Any] = {
    "_target_": f"{__name__}.OptunaSweeper",
    "_recursive_": False,
    "_convert_": "all",
    "defaults": [{"sampler": "tpe"}, {"pruner": "none"}],
    "n_trials": 20,  # in all, however often the command is typed
    "n_jobs": None,  # trials at once; null: as many as hydra/launcher=local has processes, else one after the other
    "storage": "optuna.log",  # a journal in output/multirun/, or the URL of a database
    "study_name": None,  # null: made of the experiment, the overrides and the configuration
    "params": None,  # as overrides: {exp.train.learning_rate: "tag(log,interval(1e-4,1e-1))"}
}

# What else a class takes: '+hydra.sweeper.sampler.<name>=...'.
SAMPLERS: dict[str, dict[str, Any]] = {
    # constant_liar: trials that are running count as bad ones, and the next is not sampled beside them
    "tpe": {"_target_": "optuna.samplers.TPESampler", "seed": None, "constant_liar": True},
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": None},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "seed": None},
    "gp": {"_target_": "optuna.samplers.GPSampler", "seed": None},
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "seed": None, "scramble": True},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "seed": None},
}
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {"_target_": "optuna.pruners.NopPruner"},
    "median": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 5},  # complete before any is pruned
    "hyperband": {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 10},  # a fold is ten steps
}


class OptunaSweeper(Sweeper):
    """Searches for the best score. Light, as Hydra imports it for every command."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra calls it, once."""
        missing = "hydra/sweeper=optuna is not installed: uv sync --inexact --extra optuna"
        require(find_spec("optuna") is not None, missing)
        from expkit.study import Search

        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        self._search = Search(self._settings, config, launcher, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra calls it, with the overrides of the command line."""
        self._search.run(arguments)


store_config("optuna", SWEEPER, "hydra/sweeper")
for group, choices in {"sampler": SAMPLERS, "pruner": PRUNERS}.items():
    for name, settings in choices.items():
        store_config(name, settings, f"hydra/sweeper/{group}")
