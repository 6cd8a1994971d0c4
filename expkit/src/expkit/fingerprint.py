"""What code means, as hashes: whether it trains the same as before, and whether a metric is the same.

Comments, docstrings and layout mean nothing. A hash is the same in each process and on each machine, and so is that of
one metric in two experiments. What a library has is known by its name; packages are recorded with each fold.
"""

from __future__ import annotations

import ast
import copyreg
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import CodeType, FunctionType, ModuleType
from typing import Any

from expkit.code import EXECUTED, SOURCES, home, is_beside, own_path, read_code
from expkit.project import code_root

FileHashes = dict[str, list[str]]  # path from the project's root: hash of the bytes, hash of what they mean to Python
Ignored = Mapping[str, frozenset[str]]  # path from the root: names in it whose values are compared otherwise

_IMPORTS = ast.Import | ast.ImportFrom
_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_ASSIGNMENTS = ast.Assign | ast.AnnAssign | ast.AugAssign
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))


# What trains


def file_hashes(sources: Mapping[str, bytes], ignored: Ignored | None = None) -> FileHashes:
    """Two hashes a file: of its bytes, and of what it means for a training.

    A definition that metrics need, and nothing that trains names, means nothing: scores are computed again instead.

    Args:
        sources: path to content.
        ignored: by path, names that mean nothing: "experiment", the variable that holds the experiment of a train.py,
            and "TrainConfig.rate", a field of its configuration.
    """
    parsed = {path: statements(source) for path, source in sources.items() if path.endswith(".py")}
    own = {name for path in sources for name in PurePosixPath(path).with_suffix("").parts}
    names = {path: (ignored or {}).get(path, frozenset()) for path in sources}
    parts = {path: [_part(one, names[path], own) for one in found] for path, found in parsed.items() if found}
    metrics = _names_of_metrics([part for each in parts.values() for part in each])
    hashes = {}
    for path, source in sorted(sources.items()):
        lines = source.replace(b"\r\n", b"\n")  # a checkout on Windows has other line ends
        meaning = _meaning(parts[path], names[path], metrics) if path in parts else _hash(lines)
        hashes[path] = [_hash(lines), meaning]
    return hashes


def code_hash(files: FileHashes) -> list[str]:
    """Two hashes of all files together, for `same_code`."""
    both = ([(path, pair[which]) for path, pair in sorted(files.items()) if pair[which]] for which in (0, 1))
    return [_hash(repr(found).encode()) for found in both]


def same_code(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two pairs of hashes are of the same code: the same bytes, or the same meaning."""
    return one[0] == other[0] or one[1] == other[1]


def changed_since(files: FileHashes, ignored: Ignored | None = None) -> list[str]:
    """The files among these that have another meaning now than when they were loaded, or are gone."""
    root = code_root()
    now = {path: source for path in files if (source := read_code(str(root / path))) is not None}
    present = file_hashes(now, ignored)
    return [path for path, pair in files.items() if not same_code(pair, present.get(path, ["gone", ""]))]


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement at the top of a module, without docstrings.

    Attributes:
        binds: the names that it defines, or whose objects it changes.
        uses: the names and attributes in it.
    """

    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]


@dataclass(frozen=True)
class _Part:
    """A statement, as a training has it.

    Attributes:
        statement: None: it means nothing.
        uses: the names that a training needs for it.
        metrics: the names in it that only metrics need.
        binds: of one that does nothing but define names, and none of a library: those. Nobody misses it who uses none.
    """

    statement: Statement | None
    uses: frozenset[str]
    metrics: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()

    def is_needed(self, metrics: Set[str]) -> bool:
        """Whether more than the metrics needs it, which use these names."""
        return not self.binds or not self.binds <= metrics


@functools.cache
def statements(source: bytes) -> tuple[Statement, ...] | None:
    """The statements of a module, in order; None: it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    return tuple(Statement(node, frozenset(_binds(node)), _words(node)) for node in _WithoutTexts().visit(tree).body)


class _WithoutTexts(ast.NodeTransformer):
    """Takes docstrings, and other constants that stand alone, away."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def _binds(node: ast.stmt) -> set[str]:
    """The names that a statement defines, or may change the objects of: `X[0] = 1`, `X.append(1)`."""
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    if isinstance(node, _IMPORTS):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    changed: list[Any] = node.targets if isinstance(node, ast.Assign) else [node]
    changed = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else changed
    return {each.id for target in changed for each in ast.walk(target) if isinstance(each, ast.Name)}


def _words(*nodes: ast.AST) -> frozenset[str]:
    """The names in pieces of code, those behind a dot, and those that it imports."""
    found: set[str] = set()
    for node in (inner for each in nodes for inner in ast.walk(each)):
        name = node.name if isinstance(node, ast.alias) else getattr(node, "id", getattr(node, "attr", ""))
        found.update(name.split("."))
    return frozenset(found)


def _part(one: Statement, ignored: frozenset[str], own: set[str]) -> _Part:
    node, call = one.node, getattr(one.node, "value", None)
    if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
        return _Part(None, frozenset())
    if one.binds & ignored and isinstance(call, ast.Call):  # experiment = expkit.Experiment(...)
        metrics = [*call.args[2:3], *call.args[4:5]]
        metrics += [each.value for each in call.keywords if each.arg in ("metric", "other_metrics")]
        if metrics:
            others = [part for part in (*call.args, *(each.value for each in call.keywords)) if part not in metrics]
            return _Part(None, _words(*others), _words(*metrics))
    of_library = isinstance(node, _IMPORTS) and not (getattr(node, "level", 0) or _first_name(node) in own)
    only_binds = isinstance(node, _DEFINITIONS | _ASSIGNMENTS | _IMPORTS) and not of_library
    return _Part(one, one.uses, binds=one.binds if only_binds else frozenset())


def _first_name(node: ast.Import | ast.ImportFrom) -> str:
    return (getattr(node, "module", None) or node.names[0].name).partition(".")[0]


def _names_of_metrics(parts: Sequence[_Part]) -> set[str]:
    """The names that metrics use, and what they use, but nothing that trains: whichever file or object it is of."""
    found = {name for part in parts for name in part.metrics}
    while more := {name for part in parts if part.binds & found for name in part.uses} - found:
        found |= more
    while used := found & {name for part in parts if part.is_needed(found) for name in part.uses}:
        found -= used
    return found


def _meaning(parts: Sequence[_Part], ignored: frozenset[str], metrics: Set[str]) -> str:
    """A hash; "": only metrics use the file."""
    left = [part.statement for part in parts if part.statement and part.is_needed(metrics)]
    if not all(part.is_needed(metrics) for part in parts) and all(isinstance(one.node, _IMPORTS) for one in left):
        return ""
    return _hash("\n".join(_text(one, ignored) for one in left).encode(errors="replace"))


@functools.cache  # each checkpoint asks again
def _text(one: Statement, ignored: frozenset[str]) -> str:
    """A statement as text; of a class of the configuration, without its fields."""
    node = one.node
    if isinstance(node, ast.ClassDef):
        body = [each for each in node.body if not any(f"{node.name}.{name}" in ignored for name in _names(each))]
        node = ast.ClassDef(**{name: value for name, value in ast.iter_fields(node)} | {"body": body})
    return ast.unparse(node)


def _names(part: ast.stmt) -> list[str]:
    """What a part of a class defines: a field, or a method."""
    target = part.target if isinstance(part, ast.AnnAssign) else None
    return [target.id] if isinstance(target, ast.Name) else [getattr(part, "name", "")]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# What a metric does


def metric_hash(metric: Any) -> str:
    """A hash of what a metric does: its code as it ran, the values that it holds, and what of the project it uses.

    A module of the project that a function imports when it is called is imported now.
    """
    return _Values().of(metric)


class _Values:
    """Hashes values, also circular ones: of a function or a class by its code, of an array by its content."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, str]] = {}  # with the object, so that no other one gets its id

    def of(self, value: Any) -> str:
        if type(value) in _PLAIN:
            return repr(value)
        return self._once(value, (), lambda: [_name(type(value)), *self._parts(value)])

    def _once(self, value: Any, names: Sequence[str], parts: Callable[[], Iterable[str]]) -> str:
        key = (id(value), *names)
        if key not in self._known:
            self._known[key] = value, "a circle"
            self._known[key] = value, _hash(repr(list(parts())).encode(errors="replace"))
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
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not yet filled
                yield self.of(cell.cell_contents)
        if not file and not code.co_filename.startswith("<"):
            yield f"{function.__globals__.get('__name__')}.{code.co_qualname}"
            return
        own = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
        yield from map(self.of, (function.__defaults__, function.__kwdefaults__, own))
        if file in EXECUTED and code in _inner(EXECUTED[file][1]):
            yield code.co_name
            yield from [self._source(node, function.__globals__) for node in _standing(file, code.co_firstlineno)]
        else:  # made by `exec`, or its module has been executed again since
            for each in _inner(code):
                yield from (each.co_name, str(each.co_code), str(each.co_names))
                yield from map(self.of, each.co_consts)
                yield from self._named(set(each.co_names), set(each.co_names), function.__globals__)

    def _class(self, kind: type) -> Iterator[str]:
        yield _name(kind)
        if file := home(kind):
            yield from self._defined(sys.modules[kind.__module__], kind.__qualname__.partition(".")[0])
            methods = [getattr(each, "__func__", each) for each in vars(kind).values()]
            own = [each for each in methods if isinstance(each, FunctionType) and each.__code__.co_filename == file]
            yield from map(self.of, own)

    def _defined(self, module: ModuleType, name: str) -> Iterator[str]:
        """The statements of a module that define a name."""
        source = SOURCES.get(module) or read_code(str(getattr(module, "__file__", ""))) or b""
        for one in statements(source) or ():
            if name in one.binds and not isinstance(one.node, _IMPORTS):
                yield self._source(one.node, vars(module))

    def _source(self, node: ast.AST, namespace: Mapping[str, Any]) -> str:
        """Of a piece of code, with what its names mean in the module where it stands."""
        inner = list(ast.walk(node))
        plain = {each.id for each in inner if isinstance(each, ast.Name)}
        dotted = {each.attr for each in inner if isinstance(each, ast.Attribute)}
        imported = _imported([each for each in inner if isinstance(each, _IMPORTS)], namespace)

        def parts() -> Iterator[str]:
            yield ast.unparse(node)
            yield from self._named(plain, dotted, namespace)
            yield from self._named(imported.keys(), dotted, imported)

        return self._once(node, (), parts)

    def _named(self, names: Iterable[str], dotted: set[str], namespace: Mapping[str, Any]) -> Iterator[str]:
        """What names mean in a module; of a module of the project, what those behind a dot mean in it."""
        for name in sorted(set(names) & namespace.keys()):
            value = namespace[name]
            if isinstance(value, ModuleType) and own_path(getattr(value, "__file__", None) or ""):
                inner = functools.partial(self._named, dotted, dotted, vars(value))
                yield f"{name}: {self._once(value, sorted(dotted), inner)}"
            elif isinstance(value, FunctionType | type | ModuleType) or _is_data(value):
                yield f"{name}: {self.of(value)}"
            else:  # it may change while it is used, as a generator of random numbers: known by what defines it
                homes = [
                    (module, key) for module in list(SOURCES) for key in vars(module) if vars(module)[key] is value
                ]
                found = {each for module, key in homes for each in self._defined(module, key)}
                yield f"{name}: {sorted(found) or self.of(value)}"


def _is_data(value: Any) -> bool:
    """Whether a value is the same wherever the project lies: numbers, texts but for paths of it, arrays, and these in
    lists and dicts."""
    if isinstance(value, dict):
        return all(_is_data(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_data, value))
    if isinstance(value, str):
        return str(code_root()) not in value
    return type(value) in _PLAIN or hasattr(value, "__array__")


def _name(kind: type) -> str:
    return kind.__qualname__ if home(kind) else f"{kind.__module__}.{kind.__qualname__}"


def _inner(code: CodeType) -> Iterator[CodeType]:
    """A code object and all within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inner(constant)


def _standing(file: str, line: int) -> Sequence[ast.AST]:
    """What defines the function that begins in a line of a file: the definition at the top around it, or a lambda."""
    kinds = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef
    for one in statements(EXECUTED[file][0]) or ():
        if _first_line(one.node) <= line <= (one.node.end_lineno or 0):
            inner = [each for each in ast.walk(one.node) if isinstance(each, kinds) and _first_line(each) == line]
            return [one.node] if isinstance(one.node, _DEFINITIONS) else inner
    return []


def _first_line(node: Any) -> int:
    """The first line of a definition, as its code object has it: that of its first decorator."""
    return min(int(each.lineno) for each in (node, *getattr(node, "decorator_list", ())))


def _imported(nodes: Sequence[ast.Import | ast.ImportFrom], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What imports of the project's modules give, in a module with this namespace; not those of libraries."""
    scope = {name: namespace.get(name) for name in ("__builtins__", "__name__", "__package__")}
    folder = Path(str(namespace.get("__file__"))).parent
    for node in nodes:
        if getattr(node, "level", 0) or is_beside(folder, _first_name(node)) or _is_own(_first_name(node)):
            with suppress(Exception):  # the metric will say so
                exec(compile(ast.Module([node], []), "<import>", "exec"), scope)
    return {name: value for name, value in scope.items() if not name.startswith("__")}


def _is_own(name: str) -> bool:
    """Whether a name is that of a module of the project."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        return bool(spec and own_path([spec.origin or "", *(spec.submodule_search_locations or ())][-1]))
    return False
