"""What code means, as hashes: whether what trains, or what a metric does, is the same as before.

Comments, docstrings and layout are no part of it. Two processes find the same hash, and so do two experiments with the
same metric. What a library has is known by its name.
"""

from __future__ import annotations

import ast
import copyreg
import functools
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from expkit.code import EXECUTED, SOURCES, Loader, own_path, read_code
from expkit.project import code_root

FREE = ("expkit", "typing")  # however these are imported, the code means the same
_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_PLAIN = _DEFINITIONS | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Import | ast.ImportFrom


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement at the top of a module, without docstrings; names of expkit and typing are written out.

    Attributes:
        binds: the names that it defines, or whose objects it changes.
        uses: the names and attributes that stand in it; of the one that makes the experiment, without its metrics.
        metrics: of the one that makes the experiment: the expressions that are its metrics.
        runs: whether a training runs it; not what makes and starts the experiment.
    """

    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    metrics: tuple[ast.expr, ...] = ()
    runs: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether it does nothing but define names."""
        return isinstance(self.node, _PLAIN)


@functools.cache
def statements(source: bytes) -> tuple[Statement, ...] | None:
    """The statements of a module, in order; None: it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    aliases: dict[str, str] = {}
    body = [part for part in tree.body if not _is_free(part, aliases)]
    return tuple(_statement(node) for part in body if (node := _WrittenOut(aliases).visit(part)) is not None)


def names(node: ast.AST) -> tuple[set[str], set[str], list[tuple[ast.Import | ast.ImportFrom, str]]]:
    """The plain names in a piece of code, those behind a dot, and those that it imports."""
    inner = list(ast.walk(node))
    imports = [each for each in inner if isinstance(each, ast.Import | ast.ImportFrom)]
    return (
        {each.id for each in inner if isinstance(each, ast.Name)},
        {each.attr for each in inner if isinstance(each, ast.Attribute)},
        [(each, alias.name) for each in imports for alias in each.names],
    )


def first_line(node: Any) -> int:
    """The first line of a definition, as its code object has it: that of its first decorator."""
    return min(int(each.lineno) for each in (node, *getattr(node, "decorator_list", ())))


def _words(node: ast.AST) -> set[str]:
    plain, dotted, imported = names(node)
    return plain | dotted | {part for _, name in imported for part in name.split(".")}


def _is_free(part: ast.stmt, aliases: dict[str, str]) -> bool:
    """Whether a statement imports only names that are written out elsewhere; puts them into `aliases`."""
    if isinstance(part, ast.Import) and all(alias.name in FREE for alias in part.names):
        aliases |= {alias.asname or alias.name: alias.name for alias in part.names}
        return True
    if isinstance(part, ast.ImportFrom) and part.module in FREE and part.level == 0 and part.names[0].name != "*":
        aliases |= {alias.asname or alias.name: f"{part.module}.{alias.name}" for alias in part.names}
        return True
    return False


class _WrittenOut(ast.NodeTransformer):
    """Writes `ek.Experiment` and `E` as `expkit.Experiment`, and takes docstrings away."""

    def __init__(self, aliases: dict[str, str]) -> None:
        self.aliases = aliases

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.aliases or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(ast.parse(self.aliases[node.id], mode="eval").body, node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def _statement(node: ast.stmt) -> Statement:
    binds = frozenset(_binds(node))
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__"):
        return Statement(node, binds, frozenset(), runs=False)
    call = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) in ("expkit.Experiment", "Experiment"):
        metrics = [*call.args[2:3], *call.args[4:5]]
        metrics += [each.value for each in call.keywords if each.arg in ("metric", "other_metrics")]
        rest = [part for part in (*call.args, *(each.value for each in call.keywords)) if part not in metrics]
        return Statement(node, binds, frozenset().union(*map(_words, rest)), tuple(metrics), runs=False)
    return Statement(node, binds, frozenset(_words(node)))


def _binds(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _DEFINITIONS):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        return
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):  # X = ..., X[...] = ..., X.attribute = ...
        yield from _base(node)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # X.append(...)
        yield from _base(node.value)
    for child in ast.iter_child_nodes(node):
        yield from _binds(child)


def _base(node: ast.AST) -> Iterator[str]:
    while not isinstance(node, ast.Name):
        inner = getattr(node, "func", getattr(node, "value", None))
        if inner is None:
            return
        node = inner
    yield node.id


FileHashes = dict[str, list[str]]  # path from the project's root: hash of the bytes, hash of what they mean to Python


class Unused(NamedTuple):
    """The names at the top of files that train nothing, by the path of the file from the project's root.

    Attributes:
        configs: classes of the configuration: the values of their fields are compared instead.
        metrics: metrics, and what they use; it trains nothing unless something else uses it, too.
    """

    configs: Mapping[str, frozenset[str]]
    metrics: Mapping[str, frozenset[str]]


def file_hashes(sources: Mapping[str, bytes], unused: Unused | None = None) -> FileHashes:
    """Two hashes a file: of its bytes, and of what they mean: without comments, docstrings, layout.

    Args:
        sources: path to content.
        unused: what is no part of the meaning. A file of which nothing is left, but imports, means "".
    """
    configs, metrics = (unused or Unused({}, {})).configs, _only_of_metrics(sources, unused)
    return {
        path: [_hash(_lines(source)), _meaning(path, source, configs.get(path), metrics.get(path))]
        for path, source in sorted(sources.items())
    }


def code_hash(files: FileHashes) -> list[str]:
    """Two hashes of all files together, for `same_code`."""
    both = ([(path, pair[which]) for path, pair in sorted(files.items()) if pair[which]] for which in (0, 1))
    return [_hash(repr(found).encode()) for found in both]


def same_code(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two pairs of hashes are of the same code: the same bytes, or the same meaning."""
    return one[0] == other[0] or one[1] == other[1]


def changed_since(files: FileHashes, unused: Unused | None = None) -> list[str]:
    """The files among these that are now others than those that were loaded, or gone."""
    root = code_root()
    now = {path: source for path in files if (source := read_code(str(root / path))) is not None}
    present = file_hashes(now, unused)
    return [path for path, pair in files.items() if not same_code(pair, present.get(path, ["gone", ""]))]


def _lines(source: bytes) -> bytes:
    """A checkout on Windows has other line ends."""
    return source.replace(b"\r\n", b"\n")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _only_of_metrics(sources: Mapping[str, bytes], unused: Unused | None) -> dict[str, frozenset[str]]:
    """The names, by file, that metrics use and no other statement of any file does, whoever's attribute it names."""
    left = {path: names for path, names in (unused.metrics if unused else {}).items() if path in sources}
    parsed = {path: statements(source) or () for path, source in sources.items() if left and path.endswith(".py")}
    while True:
        training = [
            one for path, each in parsed.items() for one in each if not _is_left_out(one, left.get(path, frozenset()))
        ]
        used = frozenset().union(*(one.uses for one in training))
        if not any(names & used for names in left.values()):
            return left
        left = {path: names - used for path, names in left.items()}


def _is_left_out(statement: Statement, names: frozenset[str]) -> bool:
    return statement.runs and bool(statement.binds) and statement.is_plain and statement.binds <= names


@functools.cache  # each checkpoint asks again, and a parse takes longer than the save
def _meaning(path: str, source: bytes, configs: frozenset[str] | None, metrics: frozenset[str] | None) -> str:
    """A hash of the syntax tree."""
    found = statements(source) if path.endswith(".py") else None
    if found is None:
        return _hash(_lines(source))
    body = [one.node for one in found if one.runs and not _is_left_out(one, metrics or frozenset())]
    if metrics and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
        return ""
    parts = [_without_fields(node) if getattr(node, "name", "") in (configs or ()) else node for node in body]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"  # the tree differs between versions
    return _hash(f"{version} {list(map(ast.dump, parts))}".encode())


def _without_fields(node: ast.stmt) -> ast.stmt:
    if not isinstance(node, ast.ClassDef):
        return node
    body = [inner for inner in node.body if not _is_field(inner)]
    return ast.ClassDef(**{name: value for name, value in ast.iter_fields(node)} | {"body": body})


def _is_field(part: ast.stmt) -> bool:
    """A field, whose value is in the configuration; not a ClassVar, which is a constant of the code."""
    if not isinstance(part, ast.AnnAssign):
        return isinstance(part, ast.FunctionDef) and part.name == "__post_init__"
    annotation = part.annotation
    text = str(annotation.value) if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    return text.partition("[")[0].rpartition(".")[2] not in ("ClassVar", "InitVar")


_VALUES = (type(None), bool, int, float, complex, str, bytes, type(...))


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
        if type(value) in _VALUES:
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
            if first_line(one.node) <= line <= (one.node.end_lineno or 0):
                self._use(file, one.binds if one.runs else ())
                kinds = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef
                inner = [each for each in ast.walk(one.node) if isinstance(each, kinds)]
                inner = [each for each in inner if first_line(each) == line]
                yield from [self.of_code(file, each) for each in ([one.node] if hasattr(one.node, "name") else inner)]

    def _uses(self, file: str, node: ast.AST) -> Iterator[str]:
        plain, dotted, imported = names(node)
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
    return type(value) in _VALUES or type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype")


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
        return statements(EXECUTED[file][0] if file in EXECUTED else Path(file).read_bytes()) or ()
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
