"""From the command line to the training of an experiment."""

from __future__ import annotations

import argparse
import inspect
import secrets
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from expkit.config import compat
from expkit.config.compose import as_hydra_takes, composed, registered, typed
from expkit.config.experiment import Experiment
from expkit.config.load import Loaded, load_experiment
from expkit.config.messages import as_error, keys_named
from expkit.config.parameter_sets import chosen, refuse_shared_name, require_files
from expkit.config.values import Config, check, name_folds
from expkit.errors import CAUGHT, Error, escape_unprintable, interruption, report, require, terminable
from expkit.fingerprint import Fingerprint
from expkit.launch import devices
from expkit.launch.job import Job
from expkit.paths import code_root, project_root, shown
from expkit.train import world


def main(experiment: Experiment) -> None:
    """Run an experiment as a Hydra application; the last line of its train.py.

    Like `@hydra.main(config_path=".", config_name="config")`, with Hydra's own flags (--help, --cfg, --multirun, ...).
    In addition, the configuration is an object of the experiment's own class, with checked values; show_config=true
    prints it and stops; a mistake on the command line or in a YAML file is one line (HYDRA_FULL_ERROR=1 shows the
    traceback instead). A sweep that starts other processes trains with a copy of the code. A sweep ends with the board
    of its runs.

    Args:
        experiment: as train.py defines it.

    Raises:
        SystemExit: with 1 when a training has failed, 2 when the command is refused, 3 when it names a parameter set
            that does not exist, 130 after Ctrl-C, 143 after SIGTERM, 129 after
            SIGHUP.
    """
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    assert caller is not None
    escape_unprintable()
    with terminable(before=devices.end_jobs):
        try:
            failure = _run(Path(caller.f_globals["__file__"]).resolve(), experiment)
        except CAUGHT as error:
            failure = error
        if failure is not None:
            sys.exit(report(failure))


def _run(train: Path, experiment: Experiment) -> BaseException | None:
    """Do what the command line says; what it fails with."""
    require(
        train.parents[1].name == "experiments" and train.name == "train.py",
        f"{shown(train)}: an experiment is a train.py in a folder of experiments/, such as experiments/001-baseline",
    )
    require(
        train.parents[2] == code_root(),
        f"{shown(train)} is no experiment of the project {shown(code_root())}",
    )
    project_root()
    loaded = load_experiment(train.parent.name)
    require(
        _parts(experiment) == _parts(loaded.experiment),
        f"expkit.main is given another experiment than {shown(train)} defines, and jobs would not see it: change that "
        "one, experiment = expkit.Experiment(...)",
    )
    parser, args, unknown = compat.parse([as_hydra_takes(argument, loaded) for argument in sys.argv[1:]])
    if unknown:
        raise Error(_without_dashes(unknown[0], loaded))
    require_files(loaded.folder, args.overrides)
    job = Job(loaded.name, [train.name, *sys.argv[1:]], secrets.token_hex(4))
    if not _only_looks(args) and world.leads():
        from expkit.config.describe import schema

        schema.keep(loaded)
    if _is_sweep(args, loaded):
        require(world.size() == 1, "-m trains many runs, and torchrun one: start torchrun for each of them")
        from expkit.launch.sweep import sweep  # many imports that a single run does not need

        return sweep(loaded, job, parser, args)
    try:
        with registered(loaded, manual=_manual(loaded, args.overrides) if args.help else None):
            compat.run(loaded.folder, parser, args, job)
    except CAUGHT as error:
        return error if interruption(error) else as_error(error)
    return job.failure


def _parts(experiment: Experiment) -> list[str]:
    """What the parts of an experiment do, and what they hold."""
    return [Fingerprint().of(getattr(experiment, item.name, None)) for item in fields(Experiment)]


def _without_dashes(flag: str, loaded: Loaded) -> str:
    """What to write in place of a flag that Hydra does not have: a beginner's --learning_rate 0.1."""
    name, _, value = flag.lstrip("-").partition("=")
    after = [*sys.argv[sys.argv.index(flag) + 1 :], "true"][0]
    keys = keys_named(name.replace("-", "_"), composed(loaded, []))
    example = f"{keys[0]}={value or after}" if keys else "exp.seed=1"
    return f"there is no flag {flag}: a value is given as KEY=VALUE without dashes, as in {example}"


def _manual(loaded: Loaded, overrides: Sequence[str]) -> str:
    from expkit.config.describe.manual import manual  # not needed to train

    config = composed(loaded, overrides)
    kind = OmegaConf.get_type(config)
    if kind is None or not issubclass(kind, Config):
        typed(config, loaded, overrides)  # it says what is wrong
    return manual(loaded, config)


def _only_looks(args: argparse.Namespace) -> bool:
    """Whether the command prints something, and trains nothing."""
    is_flag = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
    return bool(is_flag) or any(override.lower() == "show_config=true" for override in args.overrides)


def _is_sweep(args: argparse.Namespace, loaded: Loaded) -> bool:
    """Whether the command trains several times: -m, or hydra.mode=MULTIRUN there or in config.yaml."""
    if _only_looks(args):
        return False
    modes = [override.partition("=")[2] for override in args.overrides if override.startswith("hydra.mode=")]
    return bool(args.multirun) or (modes[-1] if modes else _mode_of_config(loaded.folder / "config.yaml")) == "MULTIRUN"


def _mode_of_config(file: Path) -> Any:
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if "MULTIRUN" not in text:
        return None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:  # Hydra will say so
        return None
    hydra = content.get("hydra") if isinstance(content, dict) else None
    return hydra.get("mode") if isinstance(hydra, dict) else None


def run(experiment: str, config: Any = None, overrides: Sequence[str] = ()) -> float | None:
    """Train an experiment from Python, in this process: what its train.py does, without a command line.

    Args:
        experiment: the name of a folder in `experiments/`, such as "001-baseline".
        config: from `load_config`; values may have been changed since. None: it is composed from `overrides`.
        overrides: as on the command line, such as ["exp=001", "exp.fold=[0]"]; values are in the name of the run.

    Returns:
        the CV score over all out-of-fold rows; if only some folds are asked for, the mean of their scores. None with
        exp.mode=sub.

    Raises:
        Error: as on the command line, where it is one line.
    """
    from expkit.rundir import Command
    from expkit.train.run import Run

    loaded = load_experiment(experiment)
    parameter_set = chosen(overrides) if config is None else None
    if config is None:
        config = typed(composed(loaded, overrides), loaded, overrides)
    require(
        isinstance(config, loaded.experiment.Config),
        f"config must be a {loaded.experiment.Config.__name__} of {experiment}, not a {type(config).__name__}",
    )
    check(config.exp)  # it may have been changed since it was composed
    name_folds(config.exp)
    refuse_shared_name(loaded.folder, parameter_set, config.exp.name)
    return Run(loaded, config, overrides, Command()).train()
