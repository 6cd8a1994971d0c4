"""What the experiments of a project share: configuration, runs and tracking.

The template owns this package and `copier update` improves it; experiments import it, never the other way round.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from expkit.modules import watch
from expkit.paths import read_dotenv

if TYPE_CHECKING:
    from expkit.config.compose import load_config
    from expkit.config.experiment import Experiment
    from expkit.config.load import load_experiment
    from expkit.config.values import Config, ExpConfig, Mode, RuntimeConfig, SplitConfig, SplitMethod
    from expkit.errors import Error, require
    from expkit.inspect.board import Row, read_board
    from expkit.inspect.frame import curves, mistakes, oof, runs
    from expkit.inspect.loaded import LoadedRun, load_run
    from expkit.inspect.reproduce import Reproduction, reproduce
    from expkit.launch.main import main, run
    from expkit.paths import code_root, input_dir, output_dir, project_root
    from expkit.train.fold import Fold
    from expkit.train.splits import split

# Each is imported when it is first used: a board needs no Hydra, and a training no board.
_MODULES = {
    "Config": "config.values",
    "Error": "errors",
    "ExpConfig": "config.values",
    "Experiment": "config.experiment",
    "Fold": "train.fold",
    "LoadedRun": "inspect.loaded",
    "Mode": "config.values",
    "Reproduction": "inspect.reproduce",
    "Row": "inspect.board",
    "RuntimeConfig": "config.values",
    "SplitConfig": "config.values",
    "SplitMethod": "config.values",
    "code_root": "paths",
    "curves": "inspect.frame",
    "input_dir": "paths",
    "load_config": "config.compose",
    "load_experiment": "config.load",
    "load_run": "inspect.loaded",
    "main": "launch.main",
    "mistakes": "inspect.frame",
    "oof": "inspect.frame",
    "output_dir": "paths",
    "project_root": "paths",
    "read_board": "inspect.board",
    "reproduce": "inspect.reproduce",
    "require": "errors",
    "run": "launch.main",
    "runs": "inspect.frame",
    "split": "train.splits",
}


__all__ = [
    "Config",
    "Error",
    "ExpConfig",
    "Experiment",
    "Fold",
    "LoadedRun",
    "Mode",
    "Reproduction",
    "Row",
    "RuntimeConfig",
    "SplitConfig",
    "SplitMethod",
    "code_root",
    "curves",
    "input_dir",
    "load_config",
    "load_experiment",
    "load_run",
    "main",
    "mistakes",
    "oof",
    "output_dir",
    "project_root",
    "read_board",
    "reproduce",
    "require",
    "run",
    "runs",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'expkit' has no attribute {name!r}")
    value = getattr(import_module(f"expkit.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


watch()
read_dotenv()
