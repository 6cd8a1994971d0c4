"""One line for a mistake that can be mended at the terminal; a traceback only for a bug."""

from __future__ import annotations

import difflib
import errno
import functools
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import TracebackType

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

AGAIN = "finished folds are kept, and the same command trains what is missing"
OF_FLAGS = {"_run_hydra", "_get_rerun_conf"}  # Hydra's functions that look at --cfg, --multirun and their like
SHOWN_AS: dict[str, str] = {}  # folders, and how messages name them: a sweep runs from a copy of the code


class Error(Exception):
    """A mistake of the person at the terminal: which key or file, what was expected, what to do."""


def require(condition: bool, message: str) -> None:
    """Raise an `Error` with `message` unless `condition` holds."""
    if not condition:
        raise Error(message)


@functools.cache
def warn(message: str) -> None:
    """Print one line on stderr, once: something is not as wished, and the work goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def report(error: BaseException, full: bool = False) -> int:
    """Say on stderr why a command ends, and return its exit code.

    What its user can mend is one line, Ctrl-C too. Anything else is a bug and shows its traceback, from the
    experiment's own code on.

    Args:
        full: show the whole traceback of everything.
    """
    if isinstance(error, KeyboardInterrupt) and not full:
        print(f"stopped: {AGAIN}", file=sys.stderr)
        return 130
    message = one_line(error)
    if message is not None and not full:
        for folder, shown_as in SHOWN_AS.items():
            message = message.replace(folder, shown_as)
        print(f"error: {message}", file=sys.stderr)
    else:
        trace = error.__traceback__
        traceback.print_exception(error.with_traceback(trace if full else _own_frames(trace)))
    return 1


def interrupted(error: BaseException) -> bool:
    """Whether `error` comes from Ctrl-C: a library caught the interrupt and raised something else."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in _chain(error))


def is_full_or_forbidden(error: BaseException) -> bool:
    """Whether `error` says that a disk is full, or that something must not be read or written."""
    codes = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM)
    return isinstance(error, OSError) and error.errno in codes


def one_line(error: BaseException) -> str | None:
    """What to tell the person who can mend `error`, on one line; None when it is a bug."""
    if isinstance(error, Error):
        return str(error)
    if isinstance(error, BrokenPipeError):
        return f"nobody reads the output any more, and the command stops: {AGAIN}"
    if is_full_or_forbidden(error):
        assert isinstance(error, OSError)
        what = "no access to" if error.errno in (errno.EACCES, errno.EPERM) else "cannot write"
        return f"{what} {error.filename or 'a file'}: {error.strerror}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}"
    missing = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
    if missing and (extra := _extra(missing)):
        return f"{missing} is not installed: uv sync --extra {extra}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = [option for option in error.options if option != "default"]
        return f"{group}={name}: there is no {group}/{name}.yaml{_instead(name, options)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r} on the command line: it is KEY=VALUE, quoted, as in 'exp.fold=[0,1]'"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _config_error(error)
    return _other_error(error)


def _other_error(error: BaseException) -> str | None:
    """One line for flags that Hydra refuses, and for a job that came to an end without an error of its own."""
    if type(error).__name__ == "TerminatedWorkerError":  # joblib
        return f"a process of the sweep has died, killed or out of memory: {AGAIN}"
    functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if type(error) is ValueError and OF_FLAGS.intersection(functions[-1:]):
        return str(error)
    if isinstance(error, AssertionError | AttributeError) and "_apply_overrides_to_config" in functions:
        return "a key that is null takes no keys of its own on the command line: give it some in a file of exp/"
    if type(error).__module__.startswith("submitit"):
        return f"{str(error).splitlines()[0].rstrip(' .:')}: {AGAIN}"
    return None


def _extra(config: str) -> str | None:
    """The extra of pyproject.toml that brings a config of Hydra's plugins; None: it is no config of theirs."""
    if config.startswith(("hydra/launcher/submitit_", "hydra/launcher/joblib")):
        return "slurm"
    return "optuna" if config.startswith(("hydra/sweeper/optuna", "hydra/sweeper/sampler/")) else None


def _config_error(error: BaseException) -> str:
    """One line for an error of composing the configuration."""
    text = str(error)
    file = re.match(r"In '(?P<name>[^']*)'", text)
    where = f"{file['name']}.yaml: " if file else ""
    if ambiguous := re.match(r"Ambiguous value for argument '(?P<override>.*)'", text):
        return f"{ambiguous['override']}: a list is written 'exp.fold=[0,1]'; a sweep over several values takes -m"
    origin = _deepest(error)
    if origin is None:
        return where + re.sub(r"^(In '[^']*': )+", "", text.strip().splitlines()[0])
    override = re.match(r"Error merging override (?P<key>[^=\s]+)", text)
    key = origin.full_key or (override["key"] if override else file["name"] if file else origin.key)
    if isinstance(origin, MissingMandatoryValue):
        return f"{where}{key} has no value: give it one in config.yaml, in exp/ or on the command line"
    if isinstance(origin, ConfigKeyError | ConfigAttributeError):
        known = [field.name for field in fields(origin.object_type)] if is_dataclass(origin.object_type) else []
        in_dict = origin.object_type is dict and "." in key
        more = f"; to add it, write '+{key}=...'" if in_dict else _instead(key.rpartition(".")[2], known)
        return f"{where}there is no key {key}{more}"
    message = _joined(origin.msg or str(origin))
    if "is not a ListConfig" in message:
        return f"{where}{key} must be a list, as in '{key}=[0]'"
    return f"{where}{key}: {message}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it comes from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _deepest(error: BaseException) -> OmegaConfBaseException | None:
    """The error of OmegaConf's that `error` goes back to, and that knows its key."""
    found = None
    for cause in _chain(error):
        if isinstance(cause, OmegaConfBaseException) and (found is None or cause.full_key):
            found = cause
    return found


def _joined(text: str) -> str:
    """`text` on one line, without OmegaConf's footnotes."""
    footnotes = ("full_key:", "object_type=", "reference_type=", "See https:")
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line for line in lines if line and not line.startswith(footnotes))


def _instead(name: str, known: list[str]) -> str:
    """The end of a sentence about an unknown `name`: the nearest known one, or all of them."""
    if near := difflib.get_close_matches(name, known, n=1):
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(known)}" if known else ""


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """`trace` from the frame on that Hydra called; whole, when Hydra called none."""
    own, frame = trace, trace
    while frame is not None:
        if f"{os.sep}hydra{os.sep}" in frame.tb_frame.f_code.co_filename:
            own = frame.tb_next
        frame = frame.tb_next
    return own or trace
