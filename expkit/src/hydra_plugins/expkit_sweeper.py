"""What Hydra finds here, and makes of no other package: hydra/sweeper=optuna, whose search is `expkit.study`, and the
launcher of hydra/launcher=slurm.

Hydra imports this for each application, also those that have nothing to do with expkit: so it imports no more."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import make_dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper

SWEEPER: dict[str, Any] = {
    "_target_": f"{__name__}.OptunaSweeper",
    "_recursive_": False,
    "_convert_": "all",
    "defaults": [{"sampler": "tpe"}, {"pruner": "none"}],
    "n_trials": 20,  # in all, however often the command is typed
    "n_jobs": "${oc.select:hydra.launcher.n_jobs,1}",  # trials at once: as many as hydra/launcher=local has processes
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


# Hydra 1.4 warns without this, as Hydra imports a plugin more than once
options: dict[str, Any] = {} if hydra.__version__.startswith("1.3") else {"replace": True}
store = partial(ConfigStore.instance().store, **options)


class OptunaSweeper(Sweeper):
    """Searches for the best score. Light, as Hydra imports it for every command."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, **hydra: Any) -> None:
        """As Hydra calls it, once, with its context, the function that trains, and the configuration."""
        self._hydra = hydra

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra calls it, with the overrides of the command line."""
        from expkit.study import search

        launcher = Plugins.instance().instantiate_launcher(**self._hydra)
        search(self._settings, self._hydra["config"], launcher, self._hydra["task_function"], arguments)


if find_spec("optuna"):  # else `expkit.compose` says what is missing, as for the launchers
    store("optuna", SWEEPER, "hydra/sweeper")
for group, choices in {"sampler": SAMPLERS, "pruner": PRUNERS}.items():
    for name, settings in choices.items():
        store(name, settings, f"hydra/sweeper/{group}")


with suppress(ImportError):  # without the extra, nothing has the name submitit_packed, and `expkit.compose` says so
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    class PackedLauncher(SlurmLauncher):  # type: ignore[misc]
        """Runs of a sweep as jobs of Slurm: several in each job, and in as many arrays as the cluster asks for."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """As Hydra calls it, with the overrides of each run; returns when all have ended."""
            import submitit

            from expkit.errors import require

            params, own = dict(self.params), BaseQueueConf.__dataclass_fields__
            size, timeouts, folder = map(params.pop, ("runs_per_job", "max_num_timeout", "submitit_folder"))
            is_right = size > 0 and params["nodes"] == params["tasks_per_node"] == 1
            numbers = "runs_per_job must be at least 1, nodes and tasks_per_node must be 1"
            require(is_right, f"hydra.launcher: {numbers}; exp.runtime.processes=2 starts two processes for each fold")
            executor = submitit.AutoExecutor(cluster="slurm", folder=folder, slurm_max_num_timeout=timeouts)
            packs = _parts([*enumerate(map(list, job_overrides), initial_job_idx)], size)
            arrays, state = _parts(packs, largest_array()), Singleton.get_state()
            params["array_parallelism"] = max(params["array_parallelism"] // len(arrays), 1)  # of all of them together
            executor.update_parameters(**{key if key in own else f"slurm_{key}": params[key] for key in params})
            jobs = [job for array in arrays for job in executor.map_array(self, array, [state] * len(array))]
            return [one for job in jobs for one in job.results()[0]]

        def __call__(self, runs: list[tuple[int, list[str]]], state: Any) -> list[JobReturn]:
            """Train the runs of a job, on a node."""
            train = super().__call__
            return [train(overrides, "hydra.sweep.dir", number, "", state) for number, overrides in runs]

    settings = [("_target_", str, f"{__name__}.PackedLauncher"), ("runs_per_job", int, 1)]
    packed = make_dataclass("Packed", settings, bases=(SlurmQueueConf,))
    store("submitit_packed", packed, "hydra/launcher")


def _parts(items: list[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def largest_array() -> int:
    """How many jobs an array of this Slurm cluster has at most."""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    found = re.search(r"^MaxArraySize *= *(\d+)", shown, re.MULTILINE)
    return max(int(found[1]), 1) if found else 1000
