"""What the experiments of a project share: configuration, runs and tracking."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from expkit.project import settle

# Each public name is imported when it is first used: a board needs no Hydra, and a training no board.
_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_MODULES = {name: module for module, name in re.findall(r"^from (\S+) import (\w+)", _STUB, re.MULTILINE)}
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
