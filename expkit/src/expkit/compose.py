"""Composing a configuration: dataclasses, config.yaml, a parameter set, the command line; each overrides the former.

What Hydra and OmegaConf say about one that cannot be composed becomes one line here, with the next step.
"""

from __future__ import annotations

import argparse
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import is_dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import hydra
import yaml
from hydra._internal import config_loader_impl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import BooleanNode, DictConfig, OmegaConf, StringNode, ValidationError
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from expkit import code
from expkit.config import BY_TIME, METHOD, Groups, Loaded, SplitMethod, container, flat, leaves, load_experiment
from expkit.errors import Error, NotFound, chain, instead, require, seconds_of
from expkit.files import text_of
from expkit.project import display_path, output_dir
from expkit.schema import check_bounds, hints

# Hydra 1.3 and 1.4: what differs, and what is taken from inside Hydra, where no public name does it

IS_1_3 = hydra.__version__.startswith("1.3.")  # 1.4.0rc3 keeps the functions of hydra._internal.utils

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
    """YAML reads `no`, `1.10` and `1e3` as something else; OmegaConf writes "False", "1.1" and "1000.0", 003 as "3"."""
    if isinstance(value, bool | int | float):
        key = node._get_full_key(None)
        if key in ("exp.name", "exp.start_from") or (key.startswith("exp.") and type(value) is not int):
            raise ValidationError("is a text, and YAML reads it as $VALUE ($VALUE_TYPE): put it in quotes")
    return _to_text(node, value)


BooleanNode._validate_and_convert_impl = _strictly_bool  # type: ignore[assignment, method-assign]
StringNode._validate_and_convert_impl = _strictly_text  # type: ignore[assignment, method-assign]


def parse_flags(arguments: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace, list[str]]:
    """Hydra's own parser, what it makes of a command line, flags and overrides in any order, and unknown flags.

    Raises:
        SystemExit: argparse has refused it, and has said why.
    """
    from hydra._internal import utils

    # Python 3.14 looks into every help text, and Hydra before 1.4 has one that is no text (hydra issue 3121)
    argparse.ArgumentParser._check_help = lambda parser, action: None  # type: ignore[attr-defined]
    parser = utils.get_args_parser()
    parser.allow_abbrev = False  # else --exp is --experimental-rerun, and says nothing
    return parser, *parser.parse_known_intermixed_args(arguments)


def run_hydra(
    folder: Path, parser: argparse.ArgumentParser, args: argparse.Namespace, task: Callable[[Any], Any]
) -> None:
    """What `hydra.main` does with the config.yaml in `folder`; an error is raised, and not printed.

    Raises:
        Exception: of composing or launching, or of the task.
    """
    utils, hydra_itself = (import_module(f"hydra._internal.{name}") for name in ("utils", "hydra"))
    for module in (utils, hydra_itself):  # else it prints several lines, and leaves
        module.run_and_report = lambda function: function()  # type: ignore[attr-defined]
    mode = None if args.multirun else RunMode.RUN  # None: of a sweep, Hydra tells its jobs
    hydra_itself.Hydra.get_mode = lambda *_, **__: mode  # its own composes everything once more
    allowing: AbstractContextManager[Any] = nullcontext()
    if not IS_1_3:  # a config.yaml may name any class (callbacks, logging): it is code, as train.py is
        public: Any = import_module("hydra.utils")
        allowing = public.execution_whitelist(public.UNSAFE_DISABLE_EXECUTION_CHECKS)
    with allowing:
        utils._run_hydra(args, parser, task, config_path=str(folder), config_name="config")


_COMPOSED: dict[tuple[str, ...], DictConfig] = {}  # of jobs: by the folder of the sweep, and what chooses files
_LOADER = config_loader_impl.ConfigLoaderImpl
_hydra_composes, _hydra_takes_over = _LOADER.load_sweep_config, Singleton.set_state


def _load_sweep_config(loader: Any, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
    """What Hydra makes of a job, once to refuse a sweep before it starts, and once for the job; each choice once."""
    parsed = OverridesParser.create().parse_overrides(sweep_overrides)
    values = [one for one in parsed if re.match(r"[+~]*exp\.[\w.]+(=|$)", str(one.input_line))]
    choices = [str(one.input_line) for one in parsed if one not in values]
    key = (master_config.hydra.sweep.dir, *choices)
    if key not in _COMPOSED:
        if len(_COMPOSED) == 20:  # each takes a megabyte
            _COMPOSED.clear()
        _COMPOSED[key] = _hydra_composes(loader, master_config, choices)
    job = deepcopy(_COMPOSED[key])
    loader._apply_overrides_to_config(values, job)
    job.hydra.overrides.task = sweep_overrides
    if IS_1_3:  # 1.4 has a resolver for it
        own_name: Any = OmegaConf.to_container(job.hydra.job.config.override_dirname)
        job.hydra.job.override_dirname = config_loader_impl.get_overrides_dirname(parsed, **own_name)
    return job


def _set_state(state: Any) -> None:
    """Let a process that takes one job after another look for plugins once."""
    state["instances"].setdefault(Plugins, Plugins.instance())
    _hydra_takes_over(state)


_LOADER.load_sweep_config = _load_sweep_config  # type: ignore[assignment, method-assign]
Singleton.set_state = staticmethod(_set_state)  # type: ignore[method-assign]


def register_resolver(name: str, function: Callable[..., Any]) -> None:
    """Let a configuration say ${name:}; in place of an earlier function of that name."""
    # OmegaConf 2.3, which Hydra 1.3 takes, has another register_resolver, an old one
    new = "register_new_resolver" if IS_1_3 else "register_resolver"
    getattr(OmegaConf, new)(name, function, replace=True)


# Composing


class PresetsPath(SearchPathPlugin):
    """Lets Hydra find the project's presets, conf/, from every experiment; and from a copy, those of the copy."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for element in list(search_path.get_path()):
            folder = Path(str(element.path).removeprefix("file://"))
            presets = folder.parent.parent / "conf"
            if element.provider == "main" and folder.parent.name == "experiments" and presets.is_dir():
                search_path.append("expkit", f"file://{presets}")


# What Hydra says about itself; its own default lets the root logger say whatever any library logs.
_OF_HYDRA = {"level": "INFO", "handlers": ["console"], "propagate": False}
_LOGGING = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "loggers": {"hydra": _OF_HYDRA, "hydra_plugins": _OF_HYDRA},
    "root": {"level": "INFO"},
    "disable_existing_loggers": False,
}
# What a single run needs of the groups of Hydra's settings.
_OF_GROUPS = {
    "hydra_logging": _LOGGING,
    "job_logging": {"version": 1, "root": None, "disable_existing_loggers": False},
    "launcher": {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"},
}


@contextmanager
def registered(loaded: Loaded, callback: str | None = None, is_whole: bool = True) -> Iterator[None]:
    """Hydra knows what the config.yaml of an experiment names: its classes, and the settings that all have.

    What one experiment registers, another never sees.

    Args:
        callback: the class that Hydra tells of the jobs of a sweep.
        is_whole: with the groups of Hydra's own settings, which take half of the time.
    """
    Plugins.instance().register(PresetsPath)
    with code.own_store(loaded.store) as repository, readable(loaded.experiment.groups):
        options: dict[str, Any] = {} if IS_1_3 else {"replace": True}  # of what an outer command has stored
        store: Any = partial(ConfigStore.instance().store, **options)
        store("schema", loaded.experiment.Config)
        store("default", {}, "exp")
        store("expkit", _LOGGING, "hydra/hydra_logging")
        for group, choices in loaded.experiment.groups.items():
            for name, schema in choices.items():
                store(name, schema, group)
        repository["hydra"]["config.yaml"] = _settings(repository["hydra"]["config.yaml"], loaded, callback, is_whole)
        yield


def _settings(known: ConfigNode, loaded: Loaded, callback: str | None, is_whole: bool) -> ConfigNode:
    """Hydra's own settings: a run leaves nothing in the working directory; a config.yaml may set others."""
    settings: dict[str, Any] = {
        "output_subdir": None,
        "run": {"dir": "."},
        # %f: two may start in one second
        "sweep": {"dir": f"{container(output_dir())}/multirun/${{now:%Y-%m-%d_%H-%M-%S-%f}}"},
        "job": {"chdir": False, "name": loaded.name},
        "callbacks": {"expkit": {"_target_": callback}} if callback else {},
    }
    node: Any = OmegaConf.unsafe_merge(known.node.copy(), settings if is_whole else settings | _OF_GROUPS)
    if is_whole:
        for name, choice in {"job_logging": "none", "hydra_logging": "expkit"}.items():
            node.defaults = [{name: choice} if name in entry else entry for entry in node.defaults]
    else:
        node.defaults = [dict.fromkeys(entry) for entry in node.defaults]
    return replace(known, node=node)


def typed(cfg: DictConfig, loaded: Loaded, overrides: Sequence[str] = ()) -> Any:
    """The composed configuration as an object of the experiment's own class, its values checked.

    Args:
        overrides: of the command line, which the experiment's values for exp.debug=true leave alone.

    Raises:
        Error: a value is refused, or is still `???`.
    """
    schema = loaded.experiment.Config
    is_built = OmegaConf.get_type(cfg) is schema
    require(is_built, "config.yaml must begin with 'defaults: [schema, _self_, exp: default]', in this order")
    with readable():
        if cfg.exp.debug:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            given = {key for override in parsed for key, _ in leaves(override.value(), override.key_or_group)}
            for key, value in loaded.experiment.debug.items():
                if f"exp.{key}" not in given:
                    OmegaConf.update(cfg.exp, key, value)
        check_bounds(cfg, schema, "", OmegaConf.get_type)  # before any __post_init__ computes with the values
        made = OmegaConf.to_object(cfg)
    known = flat(made)
    for key in flat(container(cfg)):
        require(key in known, f"there is no key {key}: a new key needs a field in the dataclasses of train.py")
    return checked(made)


def checked(config: Any) -> Any:
    """A configuration, an object of `Config`, whose values are checked; None as `exp.fold` becomes a list of all folds.

    When debugging, it is a list of one fold.

    Raises:
        Error: a value that no run can have; the message names its key.
    """
    check_bounds(config, type(config), "")
    exp, split = config.exp, config.exp.split
    require(
        re.fullmatch(r"\w([\w.+-]{0,62}[\w+-])?", exp.name) is not None,
        f"exp.name must have 1 to 64 letters, digits and . _ + -, and begin with a letter or digit, not {exp.name!r}",
    )
    folds, last = list(range(exp.n_folds)) if exp.fold is None else exp.fold, exp.n_folds - 1
    require(len(folds) > 0, "exp.fold must name at least one fold, as in 'exp.fold=[0]'; it is empty")
    for fold in folds:
        require(0 <= fold <= last, f"exp.fold must be from 0 to {last} (exp.n_folds - 1), not {fold}")
    require(len(set(folds)) == len(folds), f"exp.fold names a fold twice: {folds}")
    exp.fold = folds[:1] if exp.debug else folds
    seconds_of(exp.time_limit, "exp.time_limit")
    is_column = split.method is SplitMethod.column
    is_halved = split.holdout <= 0.5 or split.method is not SplitMethod.stratified_group
    require(is_halved, f"exp.split.holdout must be at most 0.5 with {METHOD}=stratified_group, not {split.holdout}")
    for key, unused in () if split.method in BY_TIME else (("test_size", None), ("gap", 0), ("min_train_size", 1)):
        value, default = getattr(split, key), "null" if unused is None else unused
        only = f"is only for {METHOD}=time and time_group: set it to {default}"
        require(value == unused, f"exp.split.{key}={value} {only}")
    no_box = f"exp.split.lockbox={split.lockbox}: the file of {METHOD}=column says where each row is: set it to 0"
    require(not (is_column and split.lockbox), no_box)
    require(not is_column or bool(split.file), f"{METHOD}=column needs exp.split.file, a CSV file below input/")
    file = PurePath(split.file)
    is_below = not file.is_absolute() and ".." not in file.parts
    require(is_below, f"exp.split.file is a CSV file below input/, such as folds.csv, not {split.file}")
    return config


def names_hydra(loaded: Loaded, overrides: Sequence[str]) -> bool:
    """Whether a command line or config.yaml may set something of Hydra's own."""
    return any("hydra" in text for text in (*overrides, text_of(loaded.folder / "config.yaml")))


def load_config(experiment: str, overrides: Sequence[str] = ()) -> Any:
    """Compose the configuration of an experiment, from any working directory, also in a notebook.

    Args:
        experiment: the name of a folder in `experiments/`, such as "001-baseline".
        overrides: as on the command line, such as ["exp=001", "exp.fold=[0]"].

    Returns:
        A `Config` object of the experiment's `train.py`, with all values checked.

    Raises:
        Error: there is no such experiment, the configuration cannot be composed, or a value is refused.
    """
    loaded = load_experiment(experiment)
    return typed(composed(loaded, overrides), loaded, overrides)


def composed(loaded: Loaded, overrides: Sequence[str]) -> DictConfig:
    """Compose the config.yaml of an experiment as the command line would; the state of Hydra stays as it was.

    Raises:
        Error: it cannot be composed.
    """
    with composer(loaded, overrides) as compose_one:
        return compose_one(overrides)


@contextmanager
def composer(loaded: Loaded, overrides: Sequence[str] = ()) -> Iterator[Callable[[Sequence[str]], DictConfig]]:
    """A function that composes the config.yaml of an experiment; for many of its parameter sets.

    Args:
        overrides: which may set something of Hydra's own.
    """

    def compose_one(overrides: Sequence[str]) -> DictConfig:
        return hydra.compose("config", [as_hydra_takes(override, loaded) for override in overrides])

    hydra_of_caller = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    # 1.3 warns without a version_base, 1.4 with one
    base: dict[str, Any] = {"version_base": None} if IS_1_3 else {}
    is_whole = names_hydra(loaded, overrides)
    try:
        with registered(loaded, is_whole=is_whole), hydra.initialize_config_dir(str(loaded.folder), **base):
            yield compose_one
    finally:
        GlobalHydra.instance().hydra = hydra_of_caller


def from_values(loaded: Loaded, values: dict[str, Any]) -> Any:
    """The configuration of a run from the values that it has recorded, whatever config.yaml says now.

    Raises:
        Error: a class of the configuration no longer takes them.
    """
    with readable():
        merged: Any = OmegaConf.structured(loaded.experiment.Config)
        for group, choice in recorded_choices(loaded, values).items():
            OmegaConf.update(merged.exp, group, OmegaConf.structured(loaded.experiment.groups[group][choice]))
        merged = OmegaConf.merge(merged, {"exp": values["exp"]})
    return typed(merged, loaded)


def recorded_choices(loaded: Loaded, values: Mapping[str, Any]) -> dict[str, str]:
    """The choices between classes that a run has recorded, perhaps in another project.

    Raises:
        Error: the experiment has no such choice.
    """
    for group, choice in (choices := values.get("choices", {})).items():
        is_known = choice in [*loaded.experiment.groups.get(group, ())]
        require(is_known, f"there is no key {group} in {loaded.name} that can be {choice!r}")
    return choices


def as_hydra_takes(override: str, loaded: Loaded) -> str:
    """An override as Hydra takes it.

    It reads `exp.fold=0` as no list, in a sweep, `exp.fold=0,1`, neither; and `exp=100`, `exp=1e3` or `exp=true` as no
    text, which names no file. And a choice between classes is made at its key, `exp.<group>`: Hydra would have its user
    write `model@exp.model=vit`.
    """
    group, is_choice, value = override.partition("=")
    if is_choice and group in loaded.experiment.groups:
        return f"{group}@exp.{group}={value}"
    if group == "exp.fold" and re.fullmatch(r"-?\d+(,-?\d+)*", value):
        return "exp.fold=" + ",".join(f"[{number}]" for number in value.split(","))
    is_inside = group != "exp" or not re.search(r"\.\.|[/\\${]", value)
    require(is_inside, f"{override}: a parameter set is a file of exp/, named without its folder, as in exp=001")
    if re.fullmatch(r"exp=[\w.,+-]+", override):
        text = r"0\d+|(?!(true|false|null|nan|inf)$)[a-z_].*"  # without quotes, which messages and records would have
        names = [name.removesuffix(".yaml") for name in value.split(",")]
        return "exp=" + ",".join(name if re.fullmatch(text, name, re.I) else f"'{name}'" for name in names)
    return override


# Messages


def as_error(error: BaseException, groups: Groups | None = None) -> BaseException:
    """An `Error` with one line for what its user can fix; `error` itself for anything else, which is a bug."""
    own = next((cause for cause in chain(error) if isinstance(cause, Error)), None)
    return own or _explained(error, groups or {}) or error


@contextmanager
def readable(groups: Groups | None = None) -> Iterator[None]:
    """Raise what `as_error` makes of an error; a bug keeps its cause, which `raise ... from` would replace."""
    try:
        yield
    except Exception as error:
        found = as_error(error, groups)
        if found is error or found in chain(error):
            raise found  # noqa: B904
        raise found from error


def _explained(error: BaseException, groups: Groups) -> Error | None:
    frames = traceback.extract_tb(error.__traceback__)
    is_of_hydra = bool(frames) and Path(hydra.__file__).parent in Path(frames[-1].filename).parents
    text = None
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        where = f"{display_path(Path(error.problem_mark.name))}, line {error.problem_mark.line + 1}"
        text = f"{where}: {error.problem} (is the indentation right, with spaces, and a space after each colon?)"
    elif isinstance(error, UnicodeDecodeError):  # it does not know of what file; Hydra does
        known = [frame.f_locals.get("config_path") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if named := list(filter(None, known)):
            text = f"{PurePath(named[-1]).with_suffix('.yaml')} is no UTF-8 ({error.reason}): save it as UTF-8"
    elif isinstance(error, MissingConfigException) and (missing := _missing(error)):
        return missing
    elif isinstance(error, OverrideParseException):
        form = "it is KEY=VALUE without spaces, quoted, as in 'exp.fold=[0,1]' or 'exp.start_from=\"a~b,c=d\"'"
        text = f"cannot read {error.override!r} on the command line: {form}"
    elif isinstance(error, HydraException | OmegaConfBaseException):
        text = _of_config(error, groups)
    elif isinstance(error, AssertionError) and is_of_hydra and "cfg.hydra.mode" in (frames[-1].line or ""):
        text = "a sweep begins with -m, and nothing else does: leave hydra.mode out"
    elif isinstance(error, AssertionError | AttributeError) and "_apply_overrides" in str(frames):
        tried = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "_apply_over" in frame.f_code.co_name]
        key = tried[0].f_locals["key"]  # which the error does not name
        text = f"{key}: a key that is null has no sub-keys: set them in exp/NNN.yaml, not on the command line"
    elif type(error) is ValueError and is_of_hydra:
        text = f"{error}: quote a name such as '001'" if "in defaults" in str(error) else str(error)
    return Error(text) if text else None


def _missing(error: MissingConfigException) -> Error | None:
    """A file that `defaults` or a choice on the command line names, and that is not there."""
    missing = error.missing_cfg_file or ""
    extras = {"hydra/launcher/submitit_": "slurm", "hydra/launcher/joblib": "local", "hydra/sweeper/optuna": "optuna"}
    for prefix, extra in extras.items():
        if missing.startswith(prefix):
            return Error(f"{missing} is not installed: uv sync --inexact --extra {extra}")
    if error.options is None:
        return None
    group, _, name = missing.rpartition("/")
    options = [option for option in error.options if option != "default"]
    missing = f"{group}/{name}.yaml" if group == "exp" or "/" in group else f"{group} {name}"  # a class has no file
    return NotFound(f"{group}={name}: there is no {missing}{instead(name, options)}")


def _of_config(error: BaseException, groups: Groups) -> str:
    text = str(error)
    file = re.match(r"In '(?P<name>[^']*)'", text)
    where = f"{file['name']}.yaml: " if file else ""
    if ambiguous := re.match(r"Ambiguous value for argument '(?P<override>.*)'", text):
        typed = re.sub(r"[][]", "", ambiguous["override"])  # without what `as_hydra_takes` has added
        return f"{typed}: a list is written 'exp.fold=[0,1]'; a sweep over several values takes -m"
    causes = [cause for cause in chain(error) if isinstance(cause, OmegaConfBaseException)]
    if not causes:  # Hydra's own words, with its hints
        return where + _joined(re.sub(r"^(In '[^']*': )+", "", text.strip()))
    origin = next((cause for cause in reversed(causes) if cause.full_key), causes[0])
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
        return f"{where}{key} must be a list, as in '{key}=[0]'"
    if found := re.match(r"Value (.*) of type '\w+' could not be converted to (Integer|Float)", message):
        message = f"must be {'a whole' if found[2] == 'Integer' else 'a'} number, not {found[1]}"
    colon = "" if message.startswith(("must be ", "is a ")) else ":"
    return f"{where}{key}{colon} {message}" if key else f"{where}{message}"


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
        has = [choice for choice, one in classes.items() if name in hints(one)]
        if schema in classes.values() and has:
            return f": {name} belongs to {' and '.join(has)}: {_choose(group, has[0])}"
    root: Any = origin.parent_node._get_root() if origin.parent_node is not None else {}
    values = OmegaConf.to_container(root.exp, resolve=False) if "exp" in root else {}
    found = {each for each in flat({"exp": values}) if f".{each}".endswith((f".{written}", f".{name}"))}
    if key in found:
        return " with dots: each of its parts is a key on a line of its own, the inner ones indented"
    if found:
        return f"; did you mean {' or '.join(sorted(found, key=len))}?"
    return instead(name, hints(schema) if is_dataclass(schema) else [], f"{parent}." if parent else "")


def _choose(group: str, choice: str) -> str:
    return f"choose with {group}={choice}, or '- override /{group}: {choice}' in the defaults of exp/NNN.yaml"


def _no_keys(key: str, schema: str, value: str, groups: Groups) -> str:
    """What to say of a value that stands where the keys of a class belong; `key` is "" in a file."""
    for group in [group for group, classes in groups.items() if value in classes]:
        return f"{key or group} takes no value of its own: {_choose(group, value)}"
    if key:
        return f"{key} takes no value of its own: give one to its keys, as in {key}.KEY=VALUE"
    return f"{value!r} stands where the keys of {schema} belong: indent them, each as 'KEY: VALUE' with a space"
