"""What the experiments of a project share: configuration, runs and tracking.

The template owns this package and `copier update` improves it; experiments import it, never the other way round.
"""

from expkit.board import Row, read_board
from expkit.board import runs as _runs
from expkit.config import Mode, check, load_config
from expkit.entry import run
from expkit.errors import Error, require
from expkit.paths import code_root, input_dir, output_dir, project_root
from expkit.reproduce import Reproduction, reproduce
from expkit.results import LoadedRun, load_run
from expkit.runs import Fold, Run
from expkit.tracking import Tracker, wandb_args

__all__ = [
    "LoadedRun",
    "Row",
    "Error",
    "Fold",
    "Mode",
    "Reproduction",
    "Run",
    "Tracker",
    "check",
    "code_root",
    "input_dir",
    "load_config",
    "load_run",
    "output_dir",
    "project_root",
    "read_board",
    "reproduce",
    "require",
    "run",
    "runs",
    "wandb_args",
]

runs = _runs  # over the module of this name, which is imported above
