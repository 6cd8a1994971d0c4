"""Whether every parameter set composes, without training anything."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from expkit.config.compose import composer, typed
from expkit.config.describe import schema
from expkit.config.load import load_experiment
from expkit.config.messages import describe
from expkit.config.parameter_sets import DEFAULT, parameter_sets, refuse_shared_name
from expkit.config.same import alike, recorded
from expkit.config.values import container
from expkit.paths import experiment_dir, experiment_names


@dataclass(frozen=True)
class Checked:
    """A parameter set, and what is wrong with it.

    Attributes:
        parameter_set: the name of a file in exp/, or "default" for config.yaml alone.
        problem: one line; None when it is fine.
        same_as: another parameter set, or a run "<experiment>/<run>" that is trained, with the same configuration.
    """

    experiment: str
    parameter_set: str
    name: str | None
    problem: str | None
    same_as: str | None = None


def check_all(experiments: list[str] | None = None) -> list[Checked]:
    """Compose every parameter set of the experiments (None: of all), each as the command line would.

    Raises:
        Error: there is no experiment of a name.
    """
    names = experiments or experiment_names()
    for name in names:
        experiment_dir(name)
    if len(names) < 8 or sys.platform == "win32":  # a second process costs more than it saves
        return [checked for name in names for checked in check_experiment(name)]
    with ProcessPoolExecutor() as pool:
        return [checked for found in pool.map(check_experiment, names, chunksize=4) for checked in found]


def check_experiment(name: str) -> list[Checked]:
    """Compose every parameter set of one experiment; two of one name are a problem of both.

    What editors know of its configuration, its schemas, is made again where its classes have changed.
    """
    sets, known = parameter_sets(experiment_dir(name)), recorded(name)
    found = []
    try:
        loaded = load_experiment(name)
        schema.keep(loaded, even_if_current=True)
        with composer(loaded) as compose:
            for each in sets:
                try:
                    overrides = [] if each == DEFAULT else [f"exp={each}"]
                    config = typed(compose(overrides), loaded, overrides)
                    refuse_shared_name(loaded.folder, each, config.exp.name)
                    choices, own = loaded.experiment.choices(config), f"{name}/{config.exp.name}"
                    others = {title: one for title, one in known.items() if title != own}
                    found.append(Checked(name, each, config.exp.name, None, alike(others, config, choices)))
                    known[each] = container(config) | ({"choices": choices} if choices else {})
                except Exception as error:
                    found.append(Checked(name, each, None, describe(error, loaded.experiment.groups)))
    except Exception as error:  # train.py itself
        return [Checked(name, each, None, describe(error)) for each in sets]
    return found
