"""From the command line to the `main` of an experiment."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from expkit.config import Config, print_config, quoted, register, typed
from expkit.errors import interrupted, report
from expkit.paths import project_root

C = TypeVar("C", bound=Config)


def run(main: Callable[[C], float | None], schema: type[C]) -> None:
    """Run `main` as a Hydra application, with the config.yaml beside its file.

    As `@hydra.main(version_base=None, config_path=".", config_name="config")`, with Hydra's own flags (--help, --cfg,
    --multirun, ...). Beyond it: `main` gets the configuration as an object of the class `schema`, its values checked;
    show_config=true prints it instead; a mistake on the command line or in a YAML file is one line
    (HYDRA_FULL_ERROR=1 shows the traceback instead).

    Args:
        main: returns the score, for Hydra's sweepers.
        schema: the root dataclass of the configuration.

    Raises:
        SystemExit: with 1 after an error, 130 after Ctrl-C.
    """

    @functools.wraps(main)
    def task(cfg: DictConfig) -> float | None:
        try:
            config = typed(cfg, schema)
            if config.show_config:
                print_config(config)
                return None
            return main(config)
        except Exception as error:
            if interrupted(error):
                raise KeyboardInterrupt from error
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise  # to the sweeper; Hydra says which job it was
            sys.exit(report(error, full))

    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors; without, it prints several lines and leaves
    sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
    register(schema)
    _accept_lazy_help()
    try:
        project_root()
        hydra.main(version_base=None, config_path=".", config_name="config")(task)()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report(error, full))


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
