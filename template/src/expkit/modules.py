"""The modules of an experiment, each experiment in a package of its own.

Each experiment is a package of its own, `expkit.experiments.<folder>`: what its train.py imports from beside it is a
module of that package. So two experiments with a `model.py` never see each other's, an `import` in a function finds
its own folder whenever it runs, and classes can be pickled in one process and loaded in another.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from expkit.paths import code_root, experiment_dir

PACKAGE = "expkit.experiments"


def load(experiment: str, module: str = "train") -> ModuleType:
    """A module of an experiment, by the name of its folder.

    Raises:
        Error: there is no such experiment.
        ModuleNotFoundError: it has no such module.
    """
    experiment_dir(experiment)
    return importlib.import_module(f"{PACKAGE}.{experiment}.{module}")


def forget(experiment: str) -> None:
    """Let the next `load` read the files of an experiment again, as they are then."""
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.{experiment}")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@contextmanager
def named_plainly(experiment: str) -> Iterator[None]:
    """For a while, names in texts find modules beside train.py, too: `_target_: model.Network`, those in a pickle."""
    folder = str(experiment_dir(experiment))
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of experiments, and those of the project's own packages in src/; no others."""

    def __init__(self) -> None:
        source = code_root() / "src"
        self.own = {path.stem for path in source.glob("*") if path.stem != "expkit"} if source.is_dir() else set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(f"{PACKAGE}.") and name.partition(".")[0] not in self.own:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(importlib.machinery.SourceFileLoader):
    """Keeps the source that it has executed, and lets the modules of an experiment import from beside them.

    Attributes:
        source: the bytes that ran.
    """

    source: bytes

    def exec_module(self, module: ModuleType) -> None:
        self.source = self.get_data(self.path)
        parts = module.__name__.split(".")
        if module.__name__.startswith(f"{PACKAGE}."):
            own = _importer(".".join(parts[:3]), code_root() / "experiments" / parts[2])
            module.__dict__["__builtins__"] = vars(builtins) | {"__import__": own}
        exec(compile(self.source, self.path, "exec", dont_inherit=True), module.__dict__)


def _importer(package: str, folder: Path) -> Any:
    """The `__import__` of the modules of one experiment: the names beside train.py first, as in a script."""

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        first = name.partition(".")[0]
        if level or not _is_beside(folder, first):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or ("__name__",), 0)
        return module if fromlist else sys.modules[f"{package}.{first}"]

    return import_


def _is_beside(folder: Path, name: str) -> bool:
    path = os.path.join(folder, name)
    if os.path.isfile(f"{path}.py"):
        return True
    return os.path.isdir(path) and any(entry.endswith(".py") for entry in os.listdir(path))
