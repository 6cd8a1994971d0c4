"""What a metric does, as a hash: its code as it ran, what of the project that uses, and the values that it holds.

Two processes find the same hash, and so do two experiments with the same metric. Comments, docstrings and layout are no
part of it, nor is the file that a function stands in. What a library has is known by its name.
"""

from __future__ import annotations

import ast
import copyreg
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from expkit import syntax
from expkit.modules import EXECUTED, SOURCES, Loader, own_path
from expkit.paths import code_root
from expkit.syntax import Statement

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))


class Fingerprint:
    """Hashes values, and collects what of the project they use.

    Attributes:
        used: file to the names at its top that the values use.
    """

    def __init__(self) -> None:
        self.used: dict[str, set[str]] = {}
        self._known: dict[Any, tuple[Any, str]] = {}  # with the object, so that no other one gets its id

    def of(self, value: Any) -> str:
        """A hash of a value: of a function or a class by its code, of an array by its content."""
        if type(value) in _PLAIN:
            return repr(value)
        return self._once(id(value), value, lambda: [_name(type(value)), *self._parts(value)])

    def of_code(self, file: str, node: ast.AST) -> str:
        """A hash of a piece of a file, and of what of the project it names."""
        return self._once(id(node), node, lambda: [ast.unparse(node), *self._uses(file, node)])

    def of_metrics(self, train: str) -> None:
        """Of the metrics that a train.py names where it makes its experiment."""
        for expression in [each for one in _statements(train) for each in one.metrics]:
            self.of_code(train, expression)

    def _once(self, key: Any, value: Any, parts: Callable[[], Iterable[str]]) -> str:
        if key not in self._known:
            self._known[key] = value, "a circle"
            self._known[key] = value, hashlib.sha256(repr(list(parts())).encode(errors="replace")).hexdigest()[:16]
        return self._known[key][1]

    def _parts(self, value: Any) -> Iterable[str]:
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return [value.__name__]
        if type(value) in (list, tuple):
            return map(self.of, value)
        if isinstance(value, set | frozenset):
            return sorted(map(self.of, value))
        if type(value) is dict:
            return sorted(f"{self.of(key)}: {self.of(each)}" for key, each in value.items())
        try:
            return self._array(value) if hasattr(value, "__array__") else self._pickled(value)
        except Exception:  # a lock, an open file, a generator: known by its type
            return []

    def _array(self, value: Any) -> list[str]:
        import numpy

        for step in ("detach", "cpu"):  # a tensor
            value = getattr(value, step)() if hasattr(value, step) else value
        array = numpy.asarray(value)
        content = self.of(array.tolist()) if array.dtype == object else hashlib.sha256(array.tobytes()).hexdigest()
        return [array.dtype.str, str(array.shape), content]

    def _pickled(self, value: Any) -> list[str]:
        """The parts of any object, as `pickle` takes it apart."""
        if hasattr(value, "__wrapped__") and home(type(value)) is None:  # functools.cache, numba.njit
            return [self.of(value.__wrapped__)]
        reduce = copyreg.dispatch_table.get(type(value))
        found = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(found, str):
            return [f"{getattr(value, '__module__', '')}.{found}"]
        made, arguments, state, items, pairs = (*found, None, None, None)[:5]
        return [*map(self.of, (made, arguments, state, list(items or ()), dict(pairs or ())))]

    def _function(self, function: FunctionType) -> Iterator[str]:
        code, file = function.__code__, own_path(function.__code__.co_filename)
        yield from map(self.of, _cells(function))
        if file or code.co_filename.startswith("<"):
            own = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
            yield from map(self.of, (function.__defaults__, function.__kwdefaults__, own))
        if file in EXECUTED and code in _inner(EXECUTED[file][1]):
            yield from [code.co_name, *self._standing(file, code.co_firstlineno)]
        elif file or code.co_filename.startswith("<"):  # made by `exec`, or its module was executed again since
            yield from map(str, [(each.co_name, each.co_code, each.co_names) for each in _inner(code)])
            yield from [self.of(constant) for each in _inner(code) for constant in each.co_consts]
        else:
            yield f"{function.__globals__.get('__name__')}.{code.co_qualname}"

    def _class(self, kind: type) -> Iterator[str]:
        yield _name(kind)
        if file := home(kind):
            yield self._named(file, kind.__qualname__.partition(".")[0], ())
            methods = [getattr(each, "__func__", each) for each in vars(kind).values()]
            own = [each for each in methods if isinstance(each, FunctionType) and each.__code__.co_filename == file]
            yield from [self.of(each) for each in own if each.__closure__]

    def _standing(self, file: str, line: int) -> Iterator[str]:
        """Of the function that begins in a line: of the statement around it, when that is a definition."""
        for one in _statements(file):
            if syntax.first_line(one.node) <= line <= (one.node.end_lineno or 0):
                self._use(file, one.binds if one.runs else ())
                kinds = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef
                inner = [each for each in ast.walk(one.node) if isinstance(each, kinds)]
                inner = [each for each in inner if syntax.first_line(each) == line]
                yield from [self.of_code(file, each) for each in ([one.node] if hasattr(one.node, "name") else inner)]

    def _uses(self, file: str, node: ast.AST) -> Iterator[str]:
        plain, dotted, imported = syntax.names(node)
        for name in sorted(plain):
            yield self._named(file, name, tuple(sorted(dotted)))
        for each, name in imported:
            yield from self._imported(file, each, name, tuple(sorted(dotted)))

    def _use(self, file: str, names: Iterable[str]) -> None:
        self.used.setdefault(file, set()).update(names)

    def _named(self, file: str, name: str, dotted: Sequence[str]) -> str:
        """Of what a name at the top of a file is; if it is a module, of what the names behind a dot may be in it."""
        return f"{name}: {self._once((file, name, dotted), None, lambda: self._bound(file, name, dotted))}"

    def _bound(self, file: str, name: str, dotted: Sequence[str]) -> Iterator[str]:
        for one in _statements(file):
            if isinstance(one.node, ast.Import | ast.ImportFrom):
                for alias in one.node.names:
                    if name == (alias.asname or alias.name.partition(".")[0]) or alias.name == "*":
                        imported = name if alias.name == "*" else alias.name
                        yield from self._imported(file, one.node, imported, dotted, name)
            elif name in one.binds and one.runs:
                self._use(file, [name])
                yield self.of_code(file, one.node)
                yield from self._data(file, name)

    def _data(self, file: str, name: str) -> Iterator[str]:
        """Of the value that a name at the top of a file has, such as a constant that was read from another file."""
        modules = [module for module in SOURCES if getattr(module, "__file__", None) == file]
        values = [vars(module)[name] for module in modules if name in vars(module)]
        if values and _is_data(values[0]):
            yield self.of(values[0])

    def _imported(self, file: str, node: ast.stmt, name: str, dotted: Sequence[str], bound: str = "") -> Iterator[str]:
        """Of a name that is imported; of a library, the name alone."""
        level, parts = 0, name.split(".")
        targets = [(".".join(parts[: end + 1]), dotted) for end in range(len(parts))]
        if isinstance(node, ast.ImportFrom):
            level, targets = node.level, [(node.module or "__init__", (name,))]
            targets += [(f"{node.module}.{name}" if node.module else name, dotted)]
        yield targets[-1][0]
        for module, wanted in targets:
            if inner := _module_file(file, level, module):
                self._use(file, [bound])
                yield from [self._named(inner, each, dotted) for each in wanted]


def _is_data(value: Any) -> bool:
    """Whether a value is the same wherever the project lies: numbers, texts but for paths of it, arrays, and these in
    lists and dicts."""
    if isinstance(value, dict):
        return all(_is_data(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_data, value))
    if isinstance(value, str):
        return str(code_root()) not in value
    return type(value) in _PLAIN or type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype")


def _name(kind: type) -> str:
    return kind.__qualname__ if home(kind) else f"{kind.__module__}.{kind.__qualname__}"


def home(kind: type) -> str | None:
    """The file of the project that a class is from."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return own_path(file) if file else None


def _cells(function: FunctionType) -> Iterator[Any]:
    """The values around a function."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not yet filled
            yield cell.cell_contents


def _inner(code: CodeType) -> Iterator[CodeType]:
    """A code object and all within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inner(constant)


def _statements(file: str) -> Sequence[Statement]:
    """Of a file of the project, as it was executed, or else as it is now."""
    try:
        return syntax.statements(EXECUTED[file][0] if file in EXECUTED else Path(file).read_bytes()) or ()
    except OSError:
        return ()


def _module_file(file: str, level: int, module: str) -> str | None:
    """Where an import in a file of the project finds a module of the project; nothing is executed."""
    experiments, folders = code_root() / "experiments", Path(file).parents
    near = [folders[level - 1]] if level else [each for each in folders if each.parent == experiments]
    for path in [*([str(each)] for each in near), *([] if level else [None])]:
        loader: Any = None
        for part in module.split("."):
            spec = PathFinder.find_spec(part, path)
            path, loader = (list(spec.submodule_search_locations or ()), spec.loader) if spec else ([], None)
        if isinstance(loader, Loader):
            return loader.path
    return None
