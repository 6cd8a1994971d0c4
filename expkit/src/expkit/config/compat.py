"""What differs between Hydra 1.3 and 1.4, and what expkit takes from inside Hydra, where no public name does it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import BooleanNode, OmegaConf, StringNode, ValidationError

from expkit.errors import require

# 1.4 keeps the functions of hydra._internal.utils, and their arguments (1.4.0rc3); a later one is to be looked at.
TESTED = ("1.3", "1.4")


def series() -> str:
    """Which Hydra is installed, as "1.3".

    Raises:
        Error: one that expkit does not know.
    """
    found = ".".join(hydra.__version__.split(".")[:2])
    require(
        found in TESTED,
        f"hydra-core {hydra.__version__} is installed, but this expkit works only with {' and '.join(TESTED)}: "
        "`uv sync` installs one of these, `copier update` may bring an expkit that works with yours",
    )
    return found


_to_bool, _to_text = BooleanNode._validate_and_convert_impl, StringNode._validate_and_convert_impl


def _strictly_bool(node: BooleanNode, value: Any) -> bool:
    """OmegaConf takes every whole number but 0 for true."""
    try:
        if type(value) is int and value not in (0, 1):
            raise ValueError
        return _to_bool(node, value)  # a number in quotes comes back here
    except ValueError:
        raise ValidationError("must be true or false, not $VALUE") from None


def _strictly_text(node: StringNode, value: Any) -> str:
    """YAML reads `no`, `1.10` and `1e3` as something else, and OmegaConf writes "False", "1.1" and "1000.0"."""
    if isinstance(value, bool | float):
        key = node._get_full_key(None)
        if key.startswith("exp.") and key != "exp.name":  # of the name, `written_name` knows what was written
            raise ValidationError("is a text, and YAML reads it as $VALUE ($VALUE_TYPE): put it in quotes")
    return _to_text(node, value)


BooleanNode._validate_and_convert_impl = _strictly_bool  # type: ignore[assignment, method-assign]
StringNode._validate_and_convert_impl = _strictly_text  # type: ignore[assignment, method-assign]


def parse(arguments: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace, list[str]]:
    """Hydra's own parser, what it makes of a command line, flags and overrides in any order, and unknown flags.

    Raises:
        SystemExit: argparse has refused it, and has said why.
        Error: an unknown Hydra.
    """
    with _lazy_help():
        from hydra._internal import utils

        parser = utils.get_args_parser()
        parser.allow_abbrev = False  # else --exp is --experimental-rerun, and says nothing
        return parser, *parser.parse_known_intermixed_args(arguments)


def run(folder: Path, parser: argparse.ArgumentParser, args: argparse.Namespace, task: Callable[[Any], Any]) -> None:
    """What `hydra.main` does with the config.yaml in `folder`; an error is raised, and not printed.

    Raises:
        Exception: of composing or launching, or of the task.
    """
    from hydra._internal import utils

    with _full_error("1"), _trusted():
        utils._run_hydra(
            args=args, args_parser=parser, task_function=task, config_path=str(folder), config_name="config"
        )


def initialize_dir(folder: Path) -> AbstractContextManager[None]:
    """Let `hydra.compose` find the config.yaml in `folder`.

    Raises:
        Error: an unknown Hydra.
    """
    # 1.3 warns without a version_base, 1.4 with one
    base: dict[str, Any] = {"version_base": None} if series() == "1.3" else {}
    known: AbstractContextManager[None] = hydra.initialize_config_dir(str(folder), **base)
    return known


def store(name: str, node: Any, group: str | None = None) -> None:
    """Give a configuration a name for the defaults of others; in place of an earlier one of that name."""
    replace: dict[str, Any] = {} if series() == "1.3" else {"replace": True}
    ConfigStore.instance().store(name=name, node=node, group=group, **replace)


def register_resolver(name: str, function: Callable[..., Any]) -> None:
    """Let a configuration say ${name:}; in place of an earlier function of that name."""
    # OmegaConf 2.3, which Hydra 1.3 takes, has another register_resolver, an old one
    new = "register_new_resolver" if series() == "1.3" else "register_resolver"
    getattr(OmegaConf, new)(name, function, replace=True)


def _trusted() -> AbstractContextManager[Any]:
    """Hydra 1.4 wants to hear that a config.yaml may name classes (callbacks, logging): it is code, as train.py is."""
    if series() == "1.3":
        return nullcontext()
    utils: Any = import_module("hydra.utils")
    trusted: AbstractContextManager[Any] = utils.execution_whitelist(utils.UNSAFE_DISABLE_EXECUTION_CHECKS)
    return trusted


def own_checks() -> AbstractContextManager[Any]:
    """What a training instantiates by itself is checked as Hydra does by default, and not `_trusted`."""
    if series() == "1.3":
        return nullcontext()
    utils: Any = import_module("hydra.utils")
    default: AbstractContextManager[Any] = utils.execution_whitelist(None, reset=True)
    return default


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
    if series() != "1.3" or check is None:
        yield
        return
    argparse.ArgumentParser._check_help = lambda parser, action: (  # type: ignore[attr-defined]
        check(parser, action) if isinstance(action.help, str) else None
    )
    try:
        yield
    finally:
        argparse.ArgumentParser._check_help = check  # type: ignore[attr-defined]
