"""hydra/sweeper=optuna: Hydra finds it here, and makes sweepers of no other package; it is `expkit.study`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from expkit.compose import store_config
from expkit.errors import require
from expkit.study import PRUNERS, SAMPLERS, SWEEPER, Search


class OptunaSweeper(Sweeper):
    """Searches for the best score. Light, as Hydra imports it for every command."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._search: Search

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra calls it, once."""
        from hydra.core.plugins import Plugins

        missing = "hydra/sweeper=optuna is not installed: uv sync --inexact --extra optuna"
        require(find_spec("optuna") is not None, missing)
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        self._search = Search(self._settings, config, launcher, task_function)

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra calls it, with the overrides of the command line."""
        self._search.run(arguments)


for name, choices in {"sampler": SAMPLERS, "pruner": PRUNERS}.items():
    for choice, values in choices.items():
        store_config(choice, values, f"hydra/sweeper/{name}")
target = {"_target_": f"{OptunaSweeper.__module__}.{OptunaSweeper.__name__}", "_recursive_": False}
store_config("optuna", target | SWEEPER, "hydra/sweeper")
