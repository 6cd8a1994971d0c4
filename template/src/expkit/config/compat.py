"""What expkit takes from inside Hydra 1.3, whose public interface has no other way; all of it stands here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal import utils

# Hydra 1.4 keeps both functions with these arguments (1.4.0rc3); a later one is to be looked at.
TESTED = ("1.3", "1.4")


def parse(arguments: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Hydra's own parser, and what it makes of a command line, flags and overrides in any order.

    Raises:
        SystemExit: argparse has refused it, and has said why.
    """
    with _lazy_help():
        parser = utils.get_args_parser()
        parser.allow_abbrev = False  # else --exp is --experimental-rerun, and says nothing
        return parser, parser.parse_intermixed_args(arguments)


def run(folder: Path, parser: argparse.ArgumentParser, args: argparse.Namespace, task: Callable[[Any], Any]) -> None:
    """What `hydra.main` does with the config.yaml in `folder`; an error is raised, and not printed.

    Raises:
        Exception: of composing or launching, or of the task.
    """
    series = ".".join(hydra.__version__.split(".")[:2])
    assert series in TESTED, f"expkit knows Hydra {' and '.join(TESTED)}, not {hydra.__version__}"
    with _full_error("1"):
        utils._run_hydra(
            args=args, args_parser=parser, task_function=task, config_path=str(folder), config_name="config"
        )


FULL_ERROR = "HYDRA_FULL_ERROR"


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    """Hydra raises its errors while this variable is set; else it prints several lines, and leaves."""
    before = os.environ.get(FULL_ERROR)
    set_full_error(value)
    try:
        yield
    finally:
        set_full_error(before)


def set_full_error(value: str | None) -> None:
    """Set the variable, or take it away."""
    if value is None:
        os.environ.pop(FULL_ERROR, None)
    else:
        os.environ[FULL_ERROR] = value


@contextmanager
def _lazy_help() -> Iterator[None]:
    """Python 3.14 looks into every help text, and Hydra before 1.4 has one that is no text (hydra issue 3121)."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None or not hydra.__version__.startswith("1.3"):
        yield
        return
    argparse.ArgumentParser._check_help = lambda parser, action: (  # type: ignore[attr-defined]
        check(parser, action) if isinstance(action.help, str) else None
    )
    try:
        yield
    finally:
        argparse.ArgumentParser._check_help = check  # type: ignore[attr-defined]
