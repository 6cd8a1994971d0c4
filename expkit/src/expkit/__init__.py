"""What the experiments of a project share: configuration, runs and tracking."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from expkit.project import settle

if TYPE_CHECKING:
    from expkit.board import read_board as read_board
    from expkit.compose import load_config as load_config
    from expkit.config import Config as Config
    from expkit.config import ExpConfig as ExpConfig
    from expkit.config import Experiment as Experiment
    from expkit.config import Mode as Mode
    from expkit.config import RuntimeConfig as RuntimeConfig
    from expkit.config import SplitConfig as SplitConfig
    from expkit.config import SplitMethod as SplitMethod
    from expkit.config import load_experiment as load_experiment
    from expkit.errors import Error as Error
    from expkit.errors import require as require
    from expkit.fold import Fold as Fold
    from expkit.frames import curves as curves
    from expkit.frames import load_model as load_model
    from expkit.frames import load_module as load_module
    from expkit.frames import mistakes as mistakes
    from expkit.frames import oof as oof
    from expkit.frames import predict as predict
    from expkit.frames import runs as runs
    from expkit.launch import main as main
    from expkit.launch import run as run
    from expkit.project import code_root as code_root
    from expkit.project import input_dir as input_dir
    from expkit.project import output_dir as output_dir
    from expkit.project import project_root as project_root
    from expkit.reproduction import Reproduction as Reproduction
    from expkit.reproduction import reproduce as reproduce
    from expkit.scores import split as split
    from expkit.store import Run as Run
    from expkit.store import load_run as load_run

# Each is imported when it is first used: a board needs no Hydra, and a training no board.
_NAMES = {
    "compose": ["load_config"],
    "config": [
        "Config",
        "ExpConfig",
        "Experiment",
        "Mode",
        "RuntimeConfig",
        "SplitConfig",
        "SplitMethod",
        "load_experiment",
    ],
    "errors": ["Error", "require"],
    "board": ["read_board"],
    "frames": ["curves", "load_model", "load_module", "mistakes", "oof", "predict", "runs"],
    "reproduction": ["Reproduction", "reproduce"],
    "launch": ["main", "run"],
    "project": ["code_root", "input_dir", "output_dir", "project_root"],
    "store": ["Run", "load_run"],
    "fold": ["Fold"],
    "scores": ["split"],
}
_MODULES = {name: f"expkit.{module}" for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'expkit' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if settle():
    from expkit.code import watch

    watch()
