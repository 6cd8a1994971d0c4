"""What the source of a class says about its fields in its comments."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from enum import Enum

from expkit.code import SOURCES

# Notes for tools, in comments.
_TOOLS = re.compile(r"\s*#?\s*\b(noqa|type:|pyright:|mypy:|pylint:|ruff:|fmt:|pragma:).*")


class Module:
    """The classes and functions of a source, by their qualified names."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.nodes: dict[str, ast.ClassDef | ast.FunctionDef] = {}
        waiting: list[tuple[str, ast.AST]] = [("", ast.parse(text))]
        while waiting:
            prefix, node = waiting.pop()
            for part in getattr(node, "body", []):
                if isinstance(part, ast.ClassDef | ast.FunctionDef):
                    self.nodes[prefix + part.name] = part
                    inside = "." if isinstance(part, ast.ClassDef) else ".<locals>."
                    waiting.append((prefix + part.name + inside, part))


def module(name: str) -> Module:
    """A module as it was executed; an empty one when it has no source."""
    try:
        loaded = sys.modules[name]
        return _parsed(SOURCES[loaded].decode() if loaded in SOURCES else inspect.getsource(loaded))
    except (KeyError, OSError, TypeError, SyntaxError, ValueError):
        return _parsed("")


_parsed = functools.lru_cache(maxsize=64)(Module)


def comments(cls: type) -> dict[str, str]:
    """What the source says about each field of a dataclass, inherited ones too, or each member of an Enum.

    That is the text below the field, else the comment beside it, else the comments above it, else its line in the
    section Attributes of the class.
    """
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if is_dataclass(one) or issubclass(one, Enum):
            source = module(one.__module__)
            node = source.nodes.get(one.__qualname__)
            if isinstance(node, ast.ClassDef):
                found |= _attributes(ast.get_docstring(node) or "") | _comments(source.lines, node)
    return found


def _comments(lines: Sequence[str], node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for part, after in zip(node.body, [*node.body[1:], None], strict=True):
        target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
        if isinstance(target, ast.Name):
            text = _text(after) or _beside(lines, part) or _above(lines, part)
            found |= {target.id: text} if text else {}
    return found


def _text(part: ast.stmt | None) -> str:
    if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str):
        return inspect.cleandoc(part.value.value)
    return ""


def _beside(lines: Sequence[str], part: ast.stmt) -> str:
    rest = lines[(part.end_lineno or 1) - 1].encode()[part.end_col_offset or 0 :].decode()
    return _plain(rest) if rest.lstrip().startswith("#") else ""


def _above(lines: Sequence[str], part: ast.stmt) -> str:
    first = last = part.lineno - 1
    while first and lines[first - 1].startswith(" " * part.col_offset + "#"):
        first -= 1
    return " ".join(filter(None, map(_plain, lines[first:last])))


def _plain(comment: str) -> str:
    return _TOOLS.sub("", comment).strip().lstrip("#").strip()


def _attributes(docstring: str) -> dict[str, str]:
    """The lines of the section Attributes or Args, in Google's style: `name (type): text`."""
    section = re.search(r"^(?:Attributes|Args):\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^(\w+)(?: *\([^)]*\))?: *(.*(?:\n[ \t]+.*)*)", inspect.cleandoc(section[1]), re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
