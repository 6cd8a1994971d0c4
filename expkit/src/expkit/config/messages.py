"""What Hydra and OmegaConf say about a configuration that cannot be composed, on one line and with the next step."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from expkit.config.values import flat
from expkit.errors import Error, NotFound, chain, described
from expkit.paths import shown

Groups = Mapping[str, Mapping[str, type]]  # as of `Experiment.groups`

OF_FLAGS = {"_run_hydra", "_get_rerun_conf", "_get_rerun_overrides"}  # Hydra's functions that look at flags


def as_error(error: BaseException, groups: Groups | None = None) -> BaseException:
    """An `Error` with one line for what its user can fix; `error` itself for anything else, which is a bug."""
    own = next((cause for cause in chain(error) if isinstance(cause, Error)), None)
    if own is not None:
        return own
    message = _message(error, groups or {})
    if message is None:
        return error
    is_choice = isinstance(error, MissingConfigException) and ": there is no " in message
    return NotFound(message) if is_choice else Error(message)


def raise_readable(error: BaseException, groups: Groups | None = None) -> NoReturn:
    """Raise what `as_error` makes of an error; a bug keeps its cause, which `raise ... from` would replace."""
    found = as_error(error, groups)
    if found is error or found in chain(error):
        raise found
    raise found from error


def describe(error: BaseException, groups: Groups | None = None) -> str:
    """One line about any error."""
    return described(as_error(error, groups))


def _message(error: BaseException, groups: Groups) -> str | None:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark, hint = error.problem_mark, ""
        if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
            hint = " (is the indentation right, with spaces, and a space after each colon?)"
        return f"{shown(Path(mark.name))}, line {mark.line + 1}: {error.problem}{hint}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error, error.missing_cfg_file)
    if isinstance(error, OverrideParseException):
        form = "it is KEY=VALUE without spaces, quoted, as in 'exp.fold=[0,1]'"
        if text := re.match(r"[\w.]+=([^\[{]*[='\"].*)", error.override or ""):
            form = f"a text such as {text[1]} has quotes of its own, as in 'KEY=\"a=b\"'"
        return f"cannot read {error.override!r} on the command line: {form}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _of_config(error, groups)
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
        return _of_config(error, {})
    group, _, name = missing.rpartition("/")
    if group.startswith("exp/exp"):
        return f"exp={missing[4:]}: there is no such name: it is without folder and .yaml, as in exp={Path(name).stem}"
    options = [option for option in error.options if option != "default"]
    missing = f"{group}/{name}.yaml" if group == "exp" or "/" in group else f"{group} {name}"  # a class has no file
    return f"{group}={name}: there is no {missing}{_instead(name, options)}"


def _of_config(error: BaseException, groups: Groups) -> str:
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
        written = re.match(r"Could not override '([^']+)'", text)
        return f"{where}there is no key {key}{_instead_of_key(written[1] if written else str(key), origin, groups)}"
    message = _joined(origin.msg or str(origin))
    if found := re.search(r"\w+ is not a subclass of (\w+)\. value: (.*)", message):
        return where + _no_keys(str(key) if override else "", found[1], found[2], groups)
    if "is not Optional" in message:
        return f"{where}{key} " + ("cannot be null" if override else "is empty: indent the keys that stand below it")
    if "is not a ListConfig" in message:
        last = origin.parent_node.n_folds - 1 if key == "exp.fold" and origin.parent_node is not None else None
        which = "" if last is None else f" of folds from 0 to {last} (exp.n_folds - 1)"
        return f"{where}{key} must be a list{which}, as in '{key}=[0]'"
    if found := re.match(r"Value (.*) of type '\w+' could not be converted to (Integer|Float)", message):
        message = f"must be {'a whole' if found[2] == 'Integer' else 'a'} number, not {found[1]}"
    return f"{where}{key}{'' if message.startswith('must be ') else ':'} {message}" if key else f"{where}{message}"


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


def _instead_of_key(written: str, origin: OmegaConfBaseException, groups: Groups) -> str:
    """The end of a sentence about an unknown key.

    Args:
        written: the key, as on the command line.
    """
    schema, key = origin.object_type, str(origin.full_key)
    parent, _, name = key.rpartition(".")
    if schema is dict and parent:
        return f"; to add it, write '+{key}=...'"
    if key == "exp.exp":
        return ": the keys of a parameter set are those below 'exp:', which it leaves out"
    for group, classes in groups.items():
        has = [choice for choice, one in classes.items() if name in {field.name for field in fields(one)}]
        if schema in classes.values() and has:
            return f": {name} belongs to {' and '.join(has)}: {_choose(group, parent, has[0])}"
    root = origin.parent_node._get_root() if origin.parent_node is not None else {}
    for elsewhere in (written, name):
        if found := keys_named(elsewhere, root):
            if found == [key]:
                return " with dots: each of its parts is a key on a line of its own, the inner ones indented"
            return f"; did you mean {' or '.join(found)}?"
    names = [field.name for field in fields(schema)] if is_dataclass(schema) else []
    return _instead(name, names, f"{parent}." if parent else "")


def keys_named(name: str, config: Any) -> list[str]:
    """The keys of a configuration that end with `name`, as exp.train.learning_rate does with learning_rate."""
    values = OmegaConf.to_container(config.exp, resolve=False) if "exp" in config else {}
    ends = (re.match(rf"(.+\.)?{re.escape(name)}(?=\.|$)", key) for key in flat({"exp": values}))
    return sorted({end[0] for end in ends if end}, key=lambda key: (len(key), key))


def _choose(group: str, key: str, choice: str) -> str:
    at = group if key in ("", f"exp.{group}") else f"{group}@{key}"
    in_file = f"'- override /{at.replace('@exp.', '@')}: {choice}' in the defaults of exp/NNN.yaml"
    return f"choose with {at}={choice}, or {in_file}"


def _no_keys(key: str, schema: str, value: str, groups: Groups) -> str:
    """What to say of a value that stands where the keys of a class belong; `key` is "" in a file."""
    for group in [group for group, classes in groups.items() if value in classes]:
        return f"{key or group} takes no value of its own: {_choose(group, key, value)}"
    if key:
        return f"{key} takes no value of its own: give one to its keys, as in {key}.KEY=VALUE"
    return f"{value!r} stands where the keys of {schema} belong: indent them, each as 'KEY: VALUE' with a space"


def _instead(name: str, known: Iterable[str], above: str = "") -> str:
    """The end of a sentence about an unknown `name`: the nearest known one, with what is `above` it, or all of them."""
    lower = {each.lower(): each for each in known}
    if near := difflib.get_close_matches(name.lower(), lower, n=1):
        return f"; did you mean {above}{lower[near[0]]}?"
    return f"; there are {', '.join(lower.values())}" if lower else ""
