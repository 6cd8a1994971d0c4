"""The modules of an experiment, each experiment in a package of its own.

Each experiment is a package of its own, `expkit.experiments.<folder>`: what its train.py imports from beside it is a
module of that package. So two experiments with a `model.py` never see each other's, an `import` in a function finds
its own folder whenever it runs, and classes can be pickled in one process and loaded in another.

Whatever a process imports from the project, by whatever name, is loaded by a `Loader`, which keeps the source that ran.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from expkit.errors import warn
from expkit.files import code_bytes
from expkit.project import code_root, display_path, experiment_dir

PACKAGE = "expkit.experiments"
EXECUTED: dict[str, tuple[bytes, CodeType]] = {}  # file: what this process has last executed of it
SOURCES: WeakKeyDictionary[ModuleType, bytes] = WeakKeyDictionary()  # what each module of the project was executed from
STARTED = time.time()  # a file that has not changed since is as it was when this process loaded it
READ: dict[str, dict[bytes, None]] = {}  # file beside a train.py, no Python: the contents that were read
NO_CODE = ("config.yaml", "exp", "__pycache__")  # beside train.py: configuration is compared by its values
SCHEMAS = ".schema"  # beside train.py: what editors know of its configuration, made from its classes
UNKNOWN = b'raise ImportError("edited after it was loaded by its path: nobody knows what ran")\n'

_EXPKIT = os.path.dirname(os.path.abspath(__file__)) + os.sep
_looking = threading.local()


def watch() -> None:
    """See what the project's code imports, by a `Loader`, and which files beside a train.py it reads, from now on."""
    package = sys.modules[PACKAGE] = sys.modules["expkit"].__dict__["experiments"] = ModuleType(PACKAGE)
    package.__path__ = [str(code_root() / "experiments")]
    sys.path_hooks.insert(0, _finder)
    sys.addaudithook(_see)
    for folder in [folder for folder in sys.path_importer_cache if own_path(folder)]:
        del sys.path_importer_cache[folder]
    for module, path in _own_modules():  # imported above expkit, a moment ago
        SOURCES[module] = _of_unseen(path)


def _see(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep what is read of a file beside a train.py that is no Python, such as a table of constants, as it is then."""
    if event != "open" or getattr(_looking, "now", False):
        return
    name, _, flags = arguments
    path = os.path.abspath(name) if isinstance(name, str) and not flags & (os.O_WRONLY | os.O_RDWR) else ""
    if not path.startswith(f"{_root()}experiments{os.sep}") or path.endswith((".py", ".pyc", ".md", ".ipynb")):
        return
    parts = path.removeprefix(_root()).split(os.sep)[2:]
    if not parts or parts[0] in NO_CODE or any(part.startswith(".") for part in parts):
        return
    _looking.now = True
    try:
        with suppress(OSError):
            content = code_bytes(path)  # there may be no such file, as a name may be below an open folder
            READ.setdefault(path, {})[content] = None
    finally:
        _looking.now = False


@functools.cache
def _root() -> str:
    return str(code_root()) + os.sep


def own_path(path: str) -> str | None:
    """Where a file or folder of the project's own code lies, links resolved where needed; None: it is not."""
    if "site-packages" in path:
        return None
    for found in (os.path.abspath, os.path.realpath):
        whole = found(path)
        if f"{whole}{os.sep}".startswith(_root()):
            return None if f"{whole}{os.sep}".startswith((f"{_root()}.venv{os.sep}", _EXPKIT)) else whole
        if path.startswith(sys.base_prefix):
            return None
    return None


def _finder(folder: str) -> importlib.machinery.FileFinder:
    path = own_path(folder)
    if path is None or not os.path.isdir(path):
        raise ImportError(f"not a folder of the project: {folder}")
    machinery = importlib.machinery
    kinds = [(machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES), (Loader, machinery.SOURCE_SUFFIXES)]
    return machinery.FileFinder(path, *kinds, (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES))


def load_module(experiment: str, name: str = "train") -> ModuleType:
    """A module of an experiment, with its code as it is now: `expkit.load_module("001-baseline", "model")`.

    Args:
        experiment: the name of its folder.
        name: of a file in the folder, without .py.

    Raises:
        Error: there is no such experiment.
        ModuleNotFoundError: it has no such module.
    """
    experiment_dir(experiment)
    return importlib.import_module(f"{PACKAGE}.{experiment}.{name}")


def forget(experiment: str) -> None:
    """Let the next `load_module` read the files of an experiment again, as they are then."""
    folder = f"{_root()}experiments{os.sep}{experiment}{os.sep}"
    tables: list[tuple[dict[str, Any], str]] = [(EXECUTED, folder), (READ, folder)]
    for known, start in [*tables, (sys.modules, f"{PACKAGE}.{experiment}")]:
        for name in [name for name in known if name.startswith(start)]:
            del known[name]
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


class Loader(importlib.machinery.SourceFileLoader):
    """Keeps the source that it has executed, and lets the modules of an experiment import from beside them."""

    def exec_module(self, module: ModuleType) -> None:
        source = self.get_data(self.path)
        code = compile(source, self.path, "exec", dont_inherit=True)
        SOURCES[module], EXECUTED[self.path] = source, (source, code)
        parts = module.__name__.split(".")
        if module.__name__.startswith(f"{PACKAGE}."):
            own = _importer(".".join(parts[:3]), code_root() / "experiments" / parts[2])
            module.__dict__["__builtins__"] = vars(builtins) | {"__import__": own}
        exec(code, module.__dict__)


def _importer(package: str, folder: Path) -> Any:
    """The `__import__` of the modules of one experiment: the names beside train.py first, as in a script."""

    def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> ModuleType:
        first = name.partition(".")[0]
        if level or not is_beside(folder, first):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or ("__name__",), 0)
        return module if fromlist else sys.modules[f"{package}.{first}"]

    return import_


def is_beside(folder: Path, name: str) -> bool:
    """Whether a module or package of this name lies in a folder."""
    path = os.path.join(folder, name)
    if os.path.isfile(f"{path}.py"):
        return True
    return os.path.isdir(path) and any(entry.endswith(".py") for entry in os.listdir(path))


def loaded_sources(experiment: str) -> dict[str, bytes]:
    """The project's own files that this process has imported, as they were executed, by their path from its root.

    Not those of other experiments, and not expkit: a run does not change with an update of the template.
    """
    experiments, own = (os.path.join(_root(), "experiments", name) for name in ("", f"{experiment}{os.sep}"))
    sources: dict[str, bytes] = {}
    for module, path in _own_modules():
        if path.startswith(experiments) and not path.startswith(own):
            continue
        if module not in SOURCES:
            SOURCES[module] = _of_unseen(path)
        sources[_from_root(path)] = SOURCES[module]
    return sources


def _own_modules() -> Iterator[tuple[ModuleType, str]]:
    """The modules of the project that this process has imported, but for the script itself, and their files."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if isinstance(file, str) and os.path.isabs(file) and name not in ("__main__", "__mp_main__"):  # not "_ops.py"
            if path := own_path(file):
                yield module, path


def _of_unseen(file: str) -> bytes:
    """What a module was loaded from by its path: what the file holds, unless that may have changed since."""
    with suppress(OSError):
        found = os.stat(file)
        if max(found.st_mtime, found.st_ctime) <= STARTED and (content := read_code(file)) is not None:
            return content
    warn(f"{display_path(Path(file))} was loaded by its path and may have changed since: import it by its name")
    return UNKNOWN


def files_read(experiment: str) -> dict[str, bytes]:
    """The files beside train.py that are no Python and that this process has read, by their path from the root.

    One that was read with several contents has all of them. What a training writes there, or a library, is no code.
    """
    own = os.path.join(_root(), "experiments", experiment, "")
    return {_from_root(file): b"\0".join(contents) for file, contents in READ.items() if file.startswith(own)}


def _from_root(path: str) -> str:
    return path.removeprefix(_root()).replace(os.sep, "/")


def read_code(file: str) -> bytes | None:
    try:
        return code_bytes(file)
    except OSError:
        return None


def is_own(module: ModuleType) -> bool:
    """Whether a module, or a package without a file, is of the project."""
    paths = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(isinstance(path, str) and os.path.isabs(path) and own_path(path) for path in paths)


def home(kind: type) -> str | None:
    """The file of the project that a class is from."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return own_path(file) if file else None
