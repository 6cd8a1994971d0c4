"""Which numbers the fields of a configuration may have, as its checks say."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from expkit.config.describe.source import module

Bounds = dict[str, float]  # of a number, by JSON schema's words: {"minimum": 0, "exclusiveMaximum": 1}
Key = tuple[str, ...]  # the names from a class down to a field: ("split", "holdout")


def bounds(cls: type) -> dict[Key, Bounds]:
    """Which numbers the fields of a class may have, as far as `__post_init__` says so in plain comparisons.

    It is read, and not called: `require(0 < self.lr < 1, ...)` on its first level, also in a loop over names and in a
    function that it hands `self` to. What is anything else says nothing.
    """
    found: dict[Key, Bounds] = {}
    for one in cls.__mro__:
        checks = vars(one).get("__post_init__")
        if inspect.isfunction(checks):
            reader = _Reader(found)
            reader.function(checks, ())
            if not reader.goes_on:
                break
    return found


class _Reader:
    """Collects the comparisons of a function.

    Attributes:
        goes_on: whether it has called the `__post_init__` of the class above.
    """

    def __init__(self, found: dict[Key, Bounds]) -> None:
        self.found, self.goes_on = found, False

    def function(self, function: Any, key: Key) -> None:
        """Read a function whose first argument is what stands at `key`."""
        node = module(function.__module__).nodes.get(function.__qualname__)
        if isinstance(node, ast.FunctionDef) and node.args.args:
            self._read(node.body, {node.args.args[0].arg: key}, function.__globals__)

    def _read(self, body: Sequence[ast.stmt], keys: dict[str, Key], names: Mapping[str, Any]) -> None:
        for part in body:
            if isinstance(part, ast.Assign):
                pairs = [(part.targets[0], part.value)]
                if isinstance(part.targets[0], ast.Tuple) and isinstance(part.value, ast.Tuple):
                    pairs = list(zip(part.targets[0].elts, part.value.elts, strict=False))
                for target, value in pairs:
                    if isinstance(target, ast.Name):
                        key = _key(value, keys, names)
                        names = {name: known for name, known in names.items() if name != target.id}
                        keys = {name: known for name, known in keys.items() if name != target.id}
                        keys |= {target.id: key} if key is not None else {}
            elif isinstance(part, ast.For):
                for item in _constant(part.iter, names) or ():
                    self._read(part.body, dict(keys), {**names, **_bound(part.target, item)})
            elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
                self._call(part.value, keys, names)

    def _call(self, call: ast.Call, keys: dict[str, Key], names: Mapping[str, Any]) -> None:
        name = ast.unparse(call.func)
        if name == "super().__post_init__":
            self.goes_on = True
        elif name.rpartition(".")[2] == "require" and call.args:
            self._condition(call.args[0], keys, names)
        elif len(call.args) == 1 and inspect.isfunction(function := names.get(name)):
            if (key := _key(call.args[0], keys, names)) is not None:
                self.function(function, key)

    def _condition(self, test: ast.expr, keys: dict[str, Key], names: Mapping[str, Any]) -> None:
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            for part in test.values:
                self._condition(part, keys, names)
        if not isinstance(test, ast.Compare):
            return
        sides = [test.left, *test.comparators]
        for left, operator, right in zip(sides, test.ops, sides[1:], strict=False):
            for field, value, word in ((left, right, _WORDS), (right, left, _MIRRORED)):
                key, limit = _key(field, keys, names), _constant(value, names)
                if key and type(operator) in word and type(limit) in (int, float) and math.isfinite(limit):
                    self._add(key, word[type(operator)], limit)

    def _add(self, key: Key, word: str, limit: float) -> None:
        own = self.found.setdefault(key, {})
        stricter = max if word.endswith("inimum") else min
        own[word] = stricter(own.get(word, limit), limit)


_WORDS = {ast.GtE: "minimum", ast.Gt: "exclusiveMinimum", ast.LtE: "maximum", ast.Lt: "exclusiveMaximum"}
_MIRRORED = {ast.LtE: "minimum", ast.Lt: "exclusiveMinimum", ast.GtE: "maximum", ast.Gt: "exclusiveMaximum"}


def _key(node: ast.expr, keys: Mapping[str, Key], names: Mapping[str, Any]) -> Key | None:
    """The field that an expression names: `self.lr`, `getattr(self, "lr")`, or a variable that is one."""
    if isinstance(node, ast.Name):
        return keys.get(node.id)
    if isinstance(node, ast.Attribute):
        inner, name = _key(node.value, keys, names), node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and len(node.args) == 2:
        inner, name = _key(node.args[0], keys, names), _constant(node.args[1], names)
    else:
        return None
    return (*inner, name) if inner is not None and isinstance(name, str) else None


def _constant(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression that calls nothing, such as `2**32 - 1` or `math.inf`; None: it has none."""
    if any(isinstance(part, ast.Call | ast.Await | ast.Lambda | ast.comprehension) for part in ast.walk(node)):
        return None
    try:
        return eval(compile(ast.Expression(node), "<bound>", "eval"), {**names})
    except Exception:
        return None


def _bound(target: ast.expr, item: Any) -> dict[str, Any]:
    targets = target.elts if isinstance(target, ast.Tuple) else [target]
    values = item if isinstance(target, ast.Tuple) else [item]
    return {one.id: value for one, value in zip(targets, values, strict=False) if isinstance(one, ast.Name)}
