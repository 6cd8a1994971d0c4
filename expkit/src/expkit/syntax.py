"""Python source as the statements of a module: which names each defines, and which it uses."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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


def _uses(node: ast.AST) -> set[str]:
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
        return Statement(node, binds, frozenset().union(*map(_uses, rest)), tuple(metrics), runs=False)
    return Statement(node, binds, frozenset(_uses(node)))


def _binds(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _DEFINITIONS):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        return
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):  # X = ..., X[...] = ..., X.attribute = ...
        yield from _root(node)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # X.append(...)
        yield from _root(node.value)
    for child in ast.iter_child_nodes(node):
        yield from _binds(child)


def _root(node: ast.AST) -> Iterator[str]:
    while not isinstance(node, ast.Name):
        inner = getattr(node, "func", getattr(node, "value", None))
        if inner is None:
            return
        node = inner
    yield node.id
