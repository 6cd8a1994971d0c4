"""What code means, as hashes: whether it trains the same as before, and whether a metric is the same.

Comments, docstrings and layout mean nothing. A hash is the same in each process and on each machine, and so is that of
one metric in two experiments. But Python 3.12 and later write some f-strings with quotes inside otherwise than 3.11:
there, such code counts as changed. What a library has is known by its name; packages are recorded with each fold.
"""

from __future__ import annotations

import ast
import copyreg
import functools
import hashlib
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import is_dataclass
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from expkit.code import FileHashes, home, read_code, source_of
from expkit.errors import require
from expkit.project import code_root
from expkit.store.records import same_code

Ignored = Mapping[str, frozenset[str]]  # path from the root: names in it whose values are compared otherwise

_IMPORTS = ast.Import | ast.ImportFrom
_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_ASSIGNMENTS = ast.Assign | ast.AnnAssign | ast.AugAssign
SCORING = ("metric", "other_metrics", "postprocess", "submission")  # of expkit.Experiment: they train nothing
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
_FIXED = (FunctionType, type, ModuleType, *_PLAIN, list, tuple, dict, set, frozenset, SimpleNamespace)


# What trains


def file_hashes(sources: Mapping[str, bytes], ignored: Ignored | None = None) -> FileHashes:
    """Two hashes a file: of its bytes, and of what it means for a training.

    A definition that metrics need, and nothing that trains names, means nothing: scores are computed again instead.

    Args:
        sources: path to content.
        ignored: by path, names that mean nothing: "experiment", the variable that holds the experiment of a train.py,
            and "TrainConfig.rate", a field of its configuration.
    """
    names = {path: (ignored or {}).get(path, frozenset()) for path in sources}
    python = [path for path in sources if path.endswith(".py")]
    files = {path: [_statement(node, names[path]) for node in statements(sources[path])] for path in python}
    metrics = _names_of_metrics([one for found in files.values() for one in found])
    hashes = {}
    for path, source in sorted(sources.items()):
        lines = source.replace(b"\r\n", b"\n")  # a checkout on Windows has other line ends
        meaning = _meaning(files[path], names[path], metrics) if files.get(path) else _hash(lines)
        hashes[path] = [_hash(lines), meaning]
    return hashes


def changed_since(files: FileHashes, ignored: Ignored | None = None) -> list[str]:
    """The files among these that have another meaning now than when they were loaded, or are gone."""
    root = code_root()
    now = {path: source for path in files if (source := read_code(str(root / path))) is not None}
    present = file_hashes(now, ignored)
    return [path for path, pair in files.items() if not same_code(pair, present.get(path, ["gone", ""]))]


@functools.cache
def statements(source: bytes) -> tuple[ast.stmt, ...]:
    """The statements at the top of a module, without docstrings; none: it is no Python."""
    try:
        return tuple(_WithoutTexts().visit(ast.parse(source)).body)
    except (SyntaxError, ValueError):
        return ()


class _WithoutTexts(ast.NodeTransformer):
    """Takes docstrings, and other constants that stand alone, away."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


@functools.cache
def _binds(node: ast.stmt) -> frozenset[str]:
    """The names that a statement defines, or may change the objects of: `X[0] = 1`, `X.append(1)`."""
    if isinstance(node, _DEFINITIONS):
        return frozenset({node.name})
    if isinstance(node, _IMPORTS):
        return frozenset(alias.asname or alias.name.partition(".")[0] for alias in node.names)
    changed: list[Any] = node.targets if isinstance(node, ast.Assign) else [node]
    changed = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else changed
    return frozenset(each.id for part in changed for each in ast.walk(part) if isinstance(each, ast.Name))


def _named(nodes: Sequence[ast.stmt], name: str) -> list[ast.stmt]:
    """The statements that define a name, but for imports of it."""
    return [node for node in nodes if name in _binds(node) and not isinstance(node, _IMPORTS)]


@functools.cache
def _words(*nodes: ast.AST) -> frozenset[str]:
    """The names in pieces of code, those behind a dot, and those that it imports."""
    found: set[str] = set()
    for node in (inner for each in nodes for inner in ast.walk(each)):
        name = node.name if isinstance(node, ast.alias) else getattr(node, "id", getattr(node, "attr", ""))
        found.update(name.split("."))
    return frozenset(found)


class _Statement(NamedTuple):
    """A statement at the top of a module, as a training has it.

    Attributes:
        node: None: it defines the experiment.
        uses: the names that a training needs for it.
        metrics: the names in it that only metrics need.
        binds: the names that it defines, when it does nothing else: who needs none, needs not the statement.
    """

    node: ast.stmt | None
    uses: frozenset[str] = frozenset()
    metrics: frozenset[str] = frozenset()
    binds: frozenset[str] = frozenset()

    def is_needed(self, metrics: Set[str]) -> bool:
        """Whether more needs it than the metrics, which use these names."""
        return not self.binds or not self.binds <= metrics


def _statement(node: ast.stmt, ignored: frozenset[str]) -> _Statement:
    """A statement of a file; `ignored` as for `file_hashes`, of this file."""
    call = getattr(node, "value", None)
    if _binds(node) & ignored and isinstance(call, ast.Call):  # experiment = expkit.Experiment(...)
        metrics = [each for each in call.keywords if each.arg in SCORING]
        others = [part for part in (*call.args, *call.keywords) if part not in metrics]
        trains = [*call.args, *(each.value for each in call.keywords if each.arg == "train")][0]
        is_name = isinstance(trains, ast.Name)  # of a function, which has the code; not partial(train, k=5)
        return _Statement(None if is_name else ast.Expr(trains), _words(*others), _words(*metrics))
    if isinstance(node, _IMPORTS):  # who uses the name that it gives says which definition is needed
        return _Statement(node, _words(*(alias for alias in node.names if alias.asname)))
    only_binds = isinstance(node, _DEFINITIONS | _ASSIGNMENTS)
    return _Statement(node, _words(node), binds=_binds(node) if only_binds else frozenset())


def _names_of_metrics(files: Sequence[_Statement]) -> set[str]:
    """The names that metrics use, and what they use, but nothing that trains: whichever file or object it is of."""
    found = {name for one in files for name in one.metrics}
    while more := {name for one in files if one.binds & found for name in one.uses} - found:
        found |= more
    while used := found & {name for one in files if one.is_needed(found) for name in one.uses}:
        found -= used
    return found


def _meaning(file: Sequence[_Statement], ignored: frozenset[str], metrics: Set[str]) -> str:
    """A hash; "": only metrics use the file."""
    left = [one.node for one in file if one.node and one.is_needed(metrics)]
    if not all(one.is_needed(metrics) for one in file) and all(isinstance(node, _IMPORTS) for node in left):
        return ""
    return _hash("\n".join(_text(node, ignored) for node in left).encode(errors="replace"))


@functools.cache  # each checkpoint asks again
def _text(node: ast.stmt, ignored: frozenset[str]) -> str:
    """A statement as text; of a class of the configuration, without its fields."""
    if isinstance(node, ast.ClassDef):
        own = {name.partition(".")[2] for name in ignored if name.startswith(f"{node.name}.")}
        body = [part for part in node.body if _member(part) not in own or not _assigned(part) <= own]
        node = ast.ClassDef(**{name: value for name, value in ast.iter_fields(node)} | {"body": body})
    return ast.unparse(node)


def _assigned(method: ast.stmt) -> set[str]:
    """The attributes that a `__post_init__` sets; those of the configuration are compared by their values."""
    inner = list(ast.walk(method)) if isinstance(method, ast.FunctionDef) else []
    found = {each.attr for each in inner if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)}
    return found | {"setattr" for each in inner if _words(each) & {"setattr", "__setattr__"}}


def _member(part: ast.stmt) -> str:
    """The field, or the method, that a part of a class defines."""
    return str(getattr(getattr(part, "target", part), "id", getattr(part, "name", "")))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# What a metric is called, and what it does

# What a name says when a lower score is better.
_ERRORS = (
    r"(^|_)(r?mse|rmsle|mae|mape|smape|medae|mad|log_?loss|loss|brier|error|err|nll|cross_?entropy|pinball|perplexity|"
    r"deviance|distance|wer|cer)(_|$)"
)


def sounds_like_error(name: str) -> bool:
    """Whether a name says that a lower value is better."""
    return re.search(_ERRORS, name, re.IGNORECASE) is not None


def metric_name(metric: Any) -> str:
    """The name of a function, also under `functools.partial`, or of the class of a callable object; a name itself.

    Raises:
        Error: it has none, as a lambda.
    """
    if isinstance(metric, str):
        require(bool(metric.strip()), "a metric needs a name")
        return metric
    require(callable(metric), f"a metric must be a function, not {metric!r}")
    while isinstance(metric, functools.partial):
        metric = metric.func
    name = getattr(metric, "__name__", type(metric).__name__)
    require(name.isidentifier(), f"a metric needs a name: write `def`, not {name}")
    return str(name)


def metric_hash(metric: Any) -> str:
    """A hash of what a metric does: its code as it ran, the values that it holds, and what of the project it uses.

    What a function imports when it is called is imported now.
    """
    return _Values().of(metric)


class _Values:
    """Hashes values, also circular ones: of a function or a class by its code, of an array by its content."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}  # with the objects, so that no other ones get their ids

    def of(self, value: Any) -> str:
        if type(value) in _PLAIN:
            return repr(value)
        return self._once(value, lambda: [_name(type(value)), *self._parts(value)])

    def _once(self, value: Any, parts: Callable[[], Iterable[str]]) -> str:
        if id(value) not in self._known:
            self._known[id(value)] = value, "a circle"
            self._known[id(value)] = value, _hash(repr(list(parts())).encode(errors="replace"))
        return self._known[id(value)][1]

    def _parts(self, value: Any) -> Iterable[str]:
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return self._defined(vars(value)) if source_of(vars(value)) else [value.__name__]
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
        """Of an array, or a table of pandas."""
        import numpy

        labels = [self.of(numpy.asarray(getattr(value, key))) for key in ("index", "columns") if hasattr(value, key)]
        array = numpy.asarray(value)
        content = self.of(array.ravel().tolist()) if array.dtype == object else _hash(array.tobytes())
        return [array.dtype.str, str(array.shape), content, *labels]

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
        code, namespace = function.__code__, function.__globals__
        source = source_of(namespace)
        if source is None:
            yield f"{function.__module__}.{function.__qualname__}"
            if getattr(sys.modules.get(function.__module__ or ""), function.__qualname__, None) is function:
                return
        for cell in function.__closure__ or ():  # of a library's, too: a wrapper around what the project has
            with suppress(ValueError):  # not yet filled
                yield self.of(cell.cell_contents)
        if source is not None:
            own = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
            yield code.co_name
            yield from map(self.of, (function.__defaults__, function.__kwdefaults__, own))
            ends = (node for node in statements(source) if (node.end_lineno or 0) >= code.co_firstlineno)
            yield from [self._source(node, namespace) for node in itertools.islice(ends, 1)]

    def _class(self, kind: type) -> Iterator[str]:
        yield _name(kind)
        if file := home(kind):
            yield from self._defined(vars(sys.modules[kind.__module__]), kind.__qualname__.partition(".")[0])
            methods = [getattr(each, "__func__", each) for each in vars(kind).values()]
            own = [each for each in methods if isinstance(each, FunctionType) and each.__code__.co_filename == file]
            yield from map(self.of, own)

    def _defined(self, namespace: dict[str, Any], name: str = "") -> list[str]:
        """The statements of a module that define a name; all when none is named."""
        nodes = statements(source_of(namespace) or b"")
        return [self._source(node, namespace) for node in (_named(nodes, name) if name else nodes)]

    def _source(self, node: ast.AST, namespace: dict[str, Any]) -> str:
        """Of a piece of code, with what its names mean in the module where it stands."""

        def parts() -> Iterator[str]:
            yield ast.unparse(node)
            imports = [each for each in ast.walk(node) if isinstance(each, _IMPORTS)]
            yield from self._meanings(_chains(node), {**namespace, **_imported(imports, namespace)})

        return self._once(node, parts)

    def _meanings(self, chains: Iterable[str], namespace: dict[str, Any]) -> Iterator[str]:
        """What names, and those behind their dots, mean in a module."""
        for chain in sorted(chains):
            names, (first, *rest) = namespace, chain.split(".")
            while rest and isinstance(module := names.get(first), ModuleType) and _is_own(module):
                names, (first, *rest) = vars(module), rest
            if first in names and not first.startswith("__"):  # `__file__` is another one in each experiment
                value = names[first]
                is_path = isinstance(value, str) and str(code_root()) in value  # it is another one on each machine
                is_fixed = isinstance(value, _FIXED) or hasattr(value, "__array__") or is_dataclass(value)
                # another may change while it is used, as a generator of random numbers: what defines it, does not
                defined = [] if is_fixed and not is_path else self._defined(names, first)
                yield f"{chain}: {defined or self.of(value)}"


def _chains(node: ast.AST) -> set[str]:
    """The names in a piece of code, each with those behind its dots: `rules.table.K`."""
    nodes = [each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute)]
    inner = {id(each.value) for each in nodes if isinstance(each, ast.Attribute)}
    texts = {ast.unparse(each) for each in nodes if id(each) not in inner}
    return {text for text in texts if text.replace(".", "").isidentifier()}


def _name(kind: type) -> str:
    return kind.__qualname__ if home(kind) else f"{kind.__module__}.{kind.__qualname__}"


def _is_own(module: ModuleType) -> bool:
    """Whether a module is of the project, or a package without a file, which may be."""
    space = vars(module)
    return source_of(space) is not None or ("__path__" in space and space.get("__file__") is None)


def _imported(nodes: Sequence[ast.Import | ast.ImportFrom], namespace: dict[str, Any]) -> dict[str, Any]:
    """What imports give, in a module with this namespace."""
    scope = {name: namespace.get(name) for name in ("__builtins__", "__name__", "__package__")}
    for node in nodes:
        with suppress(Exception):  # the metric will say so
            exec(compile(ast.Module([node], []), "<import>", "exec"), scope)
    return {name: value for name, value in scope.items() if not name.startswith("__")}
