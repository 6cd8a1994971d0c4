"""The modules of an experiment, each experiment in a package of its own.

Each experiment is a package of its own, `expkit.experiments.<folder>`: what its train.py imports from beside it is a
module of that package. So two experiments with a `model.py` never see each other's, an `import` in a function finds
its own folder whenever it runs, and classes can be pickled in one process and loaded in another.

Of whatever a process imports from the project, by its name or its path, the source that ran is kept.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.machinery
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from expkit.files import code_bytes
from expkit.project import code_root, experiment_dir

if TYPE_CHECKING:
    from expkit.store import Parent, Reader

FileHashes = dict[str, list[str]]  # path from the project's root: hash of the bytes, hash of what they mean to Python

PACKAGE = "expkit.experiments"
SOURCE = "__expkit_source__"  # in the namespace of a module of the project: what it was executed from
READ: dict[str, bytes] = {}  # file beside a train.py, also Python that is not imported: as it was when last opened
OTHERS: dict[str, set[str]] = {}  # the experiments whose modules those of an experiment have loaded
USES: dict[str, Reader] = {}  # what the modules of an experiment read of runs while imported; "": those of src/
NO_CODE = ("config.yaml", "exp", "__pycache__")  # beside train.py: configuration is compared by its values
NO_METRIC = ("input", "output")  # what a metric opens there is data
MOST_OPENED = 10_000  # files that are remembered below a watched folder
SCHEMAS = ".schema"  # beside train.py: what editors know of its configuration, made from its classes

_EXPKIT = os.path.dirname(os.path.abspath(__file__)) + os.sep
_looking = threading.local()
_for_metric: dict[str, str] | None = None  # path of a file of the project: hash of its content; None: no metric runs
_watched: tuple[str, set[str]] = ("\0", set())  # a folder, and its files that were opened
_exec_of_library = importlib.machinery.SourceFileLoader.exec_module


def watch() -> None:
    """See what is imported of the project's code, and which files beside a train.py it reads, from now on."""
    package = sys.modules[PACKAGE] = sys.modules["expkit"].__dict__["experiments"] = ModuleType(PACKAGE)
    package.__path__ = [str(code_root() / "experiments")]
    sys.addaudithook(_see)
    # A finder of our own would not be asked for a module that is loaded by its path.
    importlib.machinery.SourceFileLoader.exec_module = _exec_module  # type: ignore
    for module, _ in own_modules():  # imported above expkit, a moment ago
        source_of(vars(module))


def _see(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep what is read of a file beside a train.py, such as a table of constants, as it is then."""
    if event != "open" or getattr(_looking, "now", False):
        return
    name, _, flags = arguments
    is_read = isinstance(name, str) and not flags & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC)  # as numpy.memmap, "r+"
    path = os.path.abspath(name) if is_read else ""
    folder, opened = _watched
    if path.startswith(folder) and len(opened) < MOST_OPENED:
        opened.add(path.removeprefix(folder).replace(os.sep, "/"))
    if not path.startswith(f"{_root()}experiments{os.sep}" if _for_metric is None else _root()):
        return
    first, *parts = path.removeprefix(_root()).split(os.sep)
    ends = (".pyc", ".ipynb") if _for_metric is None else (".py", ".pyc", ".ipynb")  # what a metric imports is known
    is_hidden = path.endswith(ends) or any(part.startswith(".") for part in (first, *parts))
    is_other = first in NO_METRIC if _for_metric is not None else len(parts) < 2 or parts[1] in NO_CODE
    if is_hidden or is_other or "site-packages" in parts:
        return
    if _for_metric is not None:
        _for_metric.setdefault(_from_root(path), content_hash(path))
    elif (content := read_code(path)) is not None:  # there may be no such file, as a name may be below an open folder
        READ[path] = content


@contextmanager
def watch_metric(files: dict[str, str]) -> Iterator[None]:
    """While a metric runs, add the project's files that it opens: the path from the root, a hash of the content."""
    global _for_metric
    _for_metric = files
    try:
        yield
    finally:
        _for_metric = None


def content_hash(file: str) -> str:
    """Of a file of the project, by its path, from the root or whole; "": it is gone."""
    content = read_code(os.path.join(_root(), file))
    return "" if content is None else hashlib.sha256(content).hexdigest()[:16]


def watch_folder(folder: Path) -> set[str]:
    """The names of the files below a folder that Python opens to read: a set that fills, until the next call.

    What a library opens in C is not seen.
    """
    global _watched
    _watched = os.path.join(folder, ""), set()
    return _watched[1]


@functools.cache
def _root() -> str:
    return str(code_root()) + os.sep


@functools.cache  # a process has thousands of modules, and asks with each fold
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
    caller = str(sys._getframe(1).f_globals.get("__name__")).split(".")
    if caller[:2] == PACKAGE.split(".") and len(caller) > 2:
        OTHERS.setdefault(caller[2], {caller[2]}).add(experiment)
    return importlib.import_module(f"{PACKAGE}.{experiment}.{name}")


@contextmanager
def own_store(added: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Hydra's ConfigStore with more in it, for a while; what is registered meanwhile is gone afterwards.

    Yields:
        its content, a dict per group.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    before = store.repo
    store.repo = _merged(_merged({}, before), added)
    try:
        yield store.repo
    finally:
        store.repo = before


def _merged(repository: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    groups = {name: _merged(repository.get(name, {}), node) for name, node in added.items() if isinstance(node, dict)}
    return {**repository, **added, **groups}


def forget(experiment: str) -> None:
    """Let the next `load_module` read the files of an experiment again, as they are then."""
    folder = f"{_root()}experiments{os.sep}{experiment}{os.sep}"
    tables: list[tuple[dict[str, Any], str]] = [(READ, folder), (sys.modules, f"{PACKAGE}.{experiment}")]
    for known, start in tables:
        for name in [name for name in known if name.startswith(start)]:
            del known[name]
    for uses in (USES, OTHERS):
        uses.pop(experiment, None)
    importlib.invalidate_caches()


def clear_caches() -> None:
    """Empty the caches of the project's functions (functools.cache), which may hold what one run has read of others."""
    for module, _ in own_modules():
        for value in vars(module).values():
            if isinstance(value, type(_root)):
                value.cache_clear()


@contextmanager
def named_plainly(experiment: str) -> Iterator[None]:
    """For a while, names in texts find modules beside train.py, too: `_target_: model.Network`, those in a pickle."""
    folder = os.path.join(experiment_dir(experiment), "")  # not the entry of a script, which stays
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _exec_module(loader: importlib.machinery.SourceFileLoader, module: ModuleType) -> None:
    """Keep the source that is executed, and let the modules of an experiment import from beside them."""
    path = own_path(loader.path)
    if path is None:
        _exec_of_library(loader, module)
        return
    source = module.__dict__[SOURCE] = loader.get_data(path)
    parts = module.__name__.split(".")
    is_beside_train = module.__name__.startswith(f"{PACKAGE}.")
    if is_beside_train:
        own = _importer(".".join(parts[:3]), code_root() / "experiments" / parts[2])
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": own}
    from expkit.store import Reader, reading  # `import expkit` needs no more than the line above

    with reading(USES.setdefault(parts[2] if is_beside_train else "", Reader())):
        exec(loader.source_to_code(source, path), module.__dict__)


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
    inside = os.listdir(path) if os.path.isdir(path) else []
    return os.path.isfile(f"{path}.py") or any(entry.endswith(".py") for entry in inside)


def loaded_sources(experiment: str) -> dict[str, bytes]:
    """The project's own files that this process has imported, as they were executed, by their path from its root.

    Of other experiments, those whose modules it loads; not expkit: a run does not change when the template does.
    """
    experiments = os.path.join(_root(), "experiments", "")
    own = tuple(os.path.join(experiments, name, "") for name in OTHERS.get(experiment, {experiment}))
    sources: dict[str, bytes] = {}
    for module, path in own_modules():
        if path.startswith(experiments) and not path.startswith(own):
            continue
        sources[_from_root(path)] = source_of(vars(module)) or b""
    return sources


def source_of(namespace: dict[str, Any]) -> bytes | None:
    """What a module of the project was executed from, by its namespace; None: it is of a library, or has no file."""
    if SOURCE not in namespace and (path := _own_file(namespace)):  # an extension, or imported above expkit
        namespace[SOURCE] = read_code(path)
    return namespace.get(SOURCE)


def own_modules(names: Iterable[str] | None = None) -> Iterator[tuple[ModuleType, str]]:
    """The modules of the project that this process has imported, but for the script itself, and their files.

    Args:
        names: of these modules alone.
    """
    for name in list(sys.modules) if names is None else names:
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and name not in ("__main__", "__mp_main__"):
            if path := _own_file(vars(module)):
                yield module, path


def _own_file(namespace: dict[str, Any]) -> str | None:
    file = namespace.get("__file__")
    return own_path(file) if isinstance(file, str) and os.path.isabs(file) else None  # torch.ops has "_ops.py"


def files_read(experiment: str) -> dict[str, bytes]:
    """The files beside train.py that this process has read, and not imported, by their path from the root.

    What a training writes there, or a library, is no code.
    """
    own = os.path.join(_root(), "experiments", experiment, "")
    return {_from_root(file): content for file, content in READ.items() if file.startswith(own)}


def runs_read(experiment: str) -> dict[Parent, frozenset[str]]:
    """What its modules, and those that experiments share, have read of runs while they were imported: `Reader.uses`."""
    return {use: made_of for name in (experiment, "") if name in USES for use, made_of in USES[name].uses.items()}


def code_hash(files: FileHashes) -> list[str]:
    """Two hashes of all files together, for `same_code`."""
    both = ([(path, pair[which]) for path, pair in sorted(files.items()) if pair[which]] for which in (0, 1))
    return [hashlib.sha256(repr(found).encode()).hexdigest()[:16] for found in both]


def _from_root(path: str) -> str:
    return path.removeprefix(_root()).replace(os.sep, "/")


def read_code(file: str) -> bytes | None:
    """As `code_bytes`, without being seen as a training that reads; None: it cannot be read."""
    _looking.now = True
    try:
        return code_bytes(file)
    except OSError:
        return None
    finally:
        _looking.now = False


def home(kind: type) -> str | None:
    """The file of the project that a class is from."""
    module = sys.modules.get(kind.__module__)
    return _own_file(vars(module)) if module else None
