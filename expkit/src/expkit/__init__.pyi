# The public names: __init__.py reads this list, too.
import typing

import typing_extensions

from expkit.board import read_board as read_board
from expkit.code import load_module as load_module
from expkit.compose import load_config as load_config
from expkit.config import ExpConfig as _ExpConfig
from expkit.config import Experiment as Experiment
from expkit.config import Mode as Mode
from expkit.config import RuntimeConfig as RuntimeConfig
from expkit.config import SplitConfig as SplitConfig
from expkit.config import SplitMethod as SplitMethod
from expkit.config import load_experiment as load_experiment
from expkit.errors import Error as Error
from expkit.errors import require as require
from expkit.fold import Fold as Fold
from expkit.frames import LoadedRun as LoadedRun
from expkit.frames import curves as curves
from expkit.frames import load_run as load_run
from expkit.frames import mistakes as mistakes
from expkit.frames import oof as oof
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

_Train = typing_extensions.TypeVar("_Train", default=typing.Any)

class ExpConfig(_ExpConfig, typing.Generic[_Train]):  # for a type checker, which learns the class of `train`
    train: _Train
