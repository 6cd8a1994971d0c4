"""What a study can be told: hydra.sweeper.*, hydra/sweeper/sampler and hydra/sweeper/pruner. Imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from expkit.errors import Error, require

SWEEPER: dict[str, Any] = {
    "defaults": [{"sampler": "tpe"}, {"pruner": "none"}],
    "n_trials": 20,  # in all, however often the command is typed
    "n_jobs": None,  # trials at once; null: as many as hydra/launcher=local has processes, else one after the other
    "direction": "${expkit.direction:}",
    "storage": "${expkit.storage:}",
    "study_name": "${expkit.study:}",
    "max_failure_rate": 1.0,  # of the trials at once; a failed one is recorded, and the study goes on
    "params": None,  # as overrides: {exp.train.learning_rate: "tag(log,interval(1e-4,1e-1))"}
}

# Only what is not null is handed on; anything else that the class takes: '+hydra.sweeper.sampler.<name>=...'.
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {
        "_target_": "optuna.samplers.TPESampler",
        "seed": None,
        "n_startup_trials": 10,
        "n_ei_candidates": 24,
        "multivariate": False,
        "group": False,
        "constant_liar": True,  # trials that are running count as bad ones: the next is not sampled beside them
    },
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": None},
    "grid": {"_target_": "optuna.samplers.GridSampler", "seed": None},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "seed": None, "sigma0": None, "n_startup_trials": 1},
    "gp": {
        "_target_": "optuna.samplers.GPSampler",
        "seed": None,
        "n_startup_trials": 10,
        "deterministic_objective": False,
    },
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "seed": None, "qmc_type": "sobol", "scramble": True},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "seed": None, "population_size": 50},
}

# A fold is ten steps: see expkit/train/pruning.py.
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {},
    "median": {
        "_target_": "optuna.pruners.MedianPruner",
        "n_startup_trials": 5,  # that are complete before any is pruned
        "n_warmup_steps": 0,
        "n_min_trials": 1,
    },
    "hyperband": {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": 10,
        "max_resource": None,  # null: all folds
        "reduction_factor": 3,
    },
}


def sampler(settings: Any, space: Mapping[str, list[Any]] | None) -> Any:
    """The sampler of Optuna's that `hydra.sweeper.sampler` describes.

    Args:
        space: the values of each parameter, for a grid; None: of some there is no end.

    Raises:
        Error: it cannot be made.
    """
    settings = _by_name(settings or "tpe", SAMPLERS, "sampler")
    if settings.get("_target_") == SAMPLERS["grid"]["_target_"]:
        require(space is not None, "hydra/sweeper/sampler=grid takes choice(...) and range(...), but not interval(...)")
        settings = settings | {"search_space": space}
    return _made(settings, "sampler")


def pruner(settings: Any, steps: int) -> Any:
    """The pruner of Optuna's that `hydra.sweeper.pruner` describes; None: there is none.

    Args:
        steps: of a whole run.

    Raises:
        Error: it cannot be made.
    """
    settings = _by_name(settings or "none", PRUNERS, "pruner")
    if "max_resource" in settings and settings["max_resource"] is None:
        settings = settings | {"max_resource": steps}
    return _made(settings, "pruner") if settings else None


def _by_name(settings: Any, known: Mapping[str, dict[str, Any]], what: str) -> dict[str, Any]:
    """The settings, whose name may stand in their place: hydra.sweeper.pruner=median."""
    if not isinstance(settings, str):
        return dict(settings)
    require(settings in known, f"hydra.sweeper.{what}={settings}: there are {', '.join(known)}")
    return known[settings]


def _made(settings: Mapping[str, Any], what: str) -> Any:
    """An object of the class that `_target_` names, with what is not null."""
    target = str(settings.get("_target_"))
    options = {key: value for key, value in settings.items() if key != "_target_" and value is not None}
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**options)
    except ImportError as error:  # cmaes, or torch and scipy for a Gaussian process
        raise Error(f"hydra/sweeper/{what}: {target} needs a package that is not installed: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise Error(f"hydra.sweeper.{what}: {target}: {error}") from error
