"""What Hydra and OmegaConf say about a configuration that cannot be composed, on one line and with the next step."""

from __future__ import annotations

import difflib
import re
import traceback
from dataclasses import fields, is_dataclass
from typing import NoReturn

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from expkit.errors import Error, NotFound, chain, described

OF_FLAGS = {"_run_hydra", "_get_rerun_conf", "_get_rerun_overrides"}  # Hydra's functions that look at flags


def as_error(error: BaseException) -> BaseException:
    """An `Error` with one line for what its user can fix; `error` itself for anything else, which is a bug."""
    own = next((cause for cause in chain(error) if isinstance(cause, Error)), None)
    if own is not None:
        return own
    message = _message(error)
    if message is None:
        return error
    is_choice = isinstance(error, MissingConfigException) and ": there is no " in message
    return NotFound(message) if is_choice else Error(message)


def raise_readable(error: BaseException) -> NoReturn:
    """Raise what `as_error` makes of an error; a bug keeps its cause, which `raise ... from` would replace."""
    found = as_error(error)
    if found is error or found in chain(error):
        raise found
    raise found from error


def describe(error: BaseException) -> str:
    """One line about any error."""
    return described(as_error(error))


def _message(error: BaseException) -> str | None:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error, error.missing_cfg_file)
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r} on the command line: it is KEY=VALUE, quoted, as in 'exp.fold=[0,1]'"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _of_config(error)
    functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if type(error) is ValueError and OF_FLAGS.intersection(functions[-1:]):
        return str(error)
    if isinstance(error, RecursionError) and "_create_defaults_tree_impl" in functions:
        return "a YAML file has itself in its defaults: name another one there"
    if type(error) is ValueError and "_create_defaults_list" in functions:
        return f"{error}: the defaults of a YAML file are names; quote one like '001'"
    if isinstance(error, AssertionError | AttributeError) and "_apply_overrides_to_config" in functions:
        return "a key that is null has no sub-keys: set them in exp/NNN.yaml, not on the command line"
    return None


def _missing(error: MissingConfigException, missing: str) -> str | None:
    """A file that `defaults` or a choice on the command line names, and that is not there."""
    for prefix, extra in (
        ("hydra/launcher/submitit_", "slurm"),
        ("hydra/launcher/joblib", "local"),
    ):
        if missing.startswith(prefix):
            return f"{missing} is not installed: uv sync --inexact --extra {extra}"
    if error.options is None:
        return _of_config(error)
    group, _, name = missing.rpartition("/")
    options = [option for option in error.options if option != "default"]
    missing = f"{group}/{name}.yaml" if group == "exp" or "/" in group else f"{group} {name}"  # a class has no file
    return f"{group}={name}: there is no {missing}{_instead(name, options)}"


def _of_config(error: BaseException) -> str:
    text = str(error)
    file = re.match(r"In '(?P<name>[^']*)'", text)
    where = f"{file['name']}.yaml: " if file else ""
    if ambiguous := re.match(r"Ambiguous value for argument '(?P<override>.*)'", text):
        return f"{ambiguous['override']}: a list is written 'exp.fold=[0,1]'; a sweep over several values takes -m"
    origin = _deepest(error)
    if origin is None:  # Hydra's own words, with its hints
        return where + _joined(re.sub(r"^(In '[^']*': )+", "", text.strip()))
    override = re.match(r"Error merging override (?P<key>[^=\s]+)", text)
    key = origin.full_key or (override["key"] if override else file["name"] if file else origin.key)
    if isinstance(origin, MissingMandatoryValue):
        return f"{where}{key} has no value: give it one in config.yaml, in exp/ or on the command line"
    if isinstance(origin, ConfigKeyError | ConfigAttributeError):
        known = [field.name for field in fields(origin.object_type)] if is_dataclass(origin.object_type) else []
        in_dict = origin.object_type is dict and "." in str(key)
        more = f"; to add it, write '+{key}=...'" if in_dict else _instead(str(key).rpartition(".")[2], known)
        return f"{where}there is no key {key}{more}"
    message = _joined(origin.msg or str(origin))
    if class_of := re.fullmatch(r"Invalid type assigned: (\w+) is not a subclass of \w+. value: (.*)", message):
        group = str(key).rpartition(".")[2]
        return f"{where}{key} takes no value of its own: choose with {group}={class_of[2]}"
    if "is not a ListConfig" in message:
        return f"{where}{key} must be a list, as in '{key}=[0]'"
    return f"{where}{key}: {message}" if key else f"{where}{message}"


def _deepest(error: BaseException) -> OmegaConfBaseException | None:
    """The error of OmegaConf's that `error` goes back to, and that knows its key."""
    found = None
    for cause in chain(error):
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
