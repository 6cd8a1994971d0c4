"""From the command line to the `main` of an experiment."""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from expkit import sweep
from expkit.config import Config, print_config, quoted, register, typed
from expkit.errors import interrupted, report, require
from expkit.jobs import LAUNCHING, Job, end_of_sweep, report_job
from expkit.paths import project_root, shown
from expkit.study import register_study

C = TypeVar("C", bound=Config)


def run(main: Callable[[C], float | None], schema: type[C], greater_is_better: bool = True) -> None:
    """Run `main` as a Hydra application, with the config.yaml beside its file.

    As `@hydra.main(version_base=None, config_path=".", config_name="config")`, with Hydra's own flags (--help, --cfg,
    --multirun, ...). Beyond it: `main` gets the configuration as an object of the class `schema`, its values checked;
    show_config=true prints it instead; a mistake on the command line or in a YAML file is one line
    (HYDRA_FULL_ERROR=1 shows the traceback instead). A sweep trains with a copy of the code, in whatever processes, and
    ends with the board of its runs.

    Args:
        main: returns the score, for Hydra's sweepers.
        schema: the root dataclass of the configuration.
        greater_is_better: whether a sweeper looks for the highest score, as that of `expkit.Run`.

    Raises:
        SystemExit: with 1 after an error, 130 after Ctrl-C.
    """

    @functools.wraps(main)
    def task(cfg: DictConfig) -> float | None:
        try:
            job.prepare()
            config = typed(cfg, schema)
            if config.show_config:
                print_config(config)
                return None
            return main(config)
        except Exception as error:
            if interrupted(error):
                raise KeyboardInterrupt from error
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise report_job(error, full) from None
            sys.exit(report(error, full))

    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    _accept_lazy_help()
    sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
    register(schema)
    failure: BaseException | None = None
    is_sweep = False
    try:
        train = Path(inspect.getfile(main)).resolve()
        require(
            train.parents[1].name == "experiments",
            f"{shown(train)}: an experiment is a folder in experiments/, such as experiments/001-baseline",
        )
        project_root(train)
        is_sweep = sweep.is_asked_for()
        if is_sweep:
            sweep.start(train)
        job = Job(str(train), greater_is_better)
        if is_sweep:
            sys.argv.append(LAUNCHING)
            register_study(train.parent.name, greater_is_better)
        sys.argv[1:] = _overrides_first(sys.argv[1:])
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors; else it prints several lines and leaves
        hydra.main(version_base=None, config_path=".", config_name="config")(task)()
    except (Exception, KeyboardInterrupt) as error:
        failure = error
    if is_sweep:
        failure = end_of_sweep(failure)
    if failure is not None:
        sys.exit(report(failure, full))


def _overrides_first(arguments: list[str]) -> list[str]:
    """A command line that argparse can read: it takes no override after a flag after another override."""
    overrides = get_args_parser().parse_known_intermixed_args(arguments)[0].overrides
    flags = list(arguments)
    for override in overrides:
        flags.remove(override)
    return [*overrides, *flags]


def _accept_lazy_help() -> None:
    """Let Hydra give argparse an object in place of a help text.

    From Python 3.14 on, argparse looks into every help text as it is added. Hydra, up to 1.3.8 at least, has one that
    is not a text (facebookresearch/hydra#3121), and would end with a TypeError before it reads the command line.
    """
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        return

    def check_help(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            check(parser, action)

    setattr(argparse.ArgumentParser, "_check_help", check_help)  # noqa: B010 - mypy knows it in some versions of Python only
