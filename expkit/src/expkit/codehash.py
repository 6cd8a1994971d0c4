"""Which code of the project a process has loaded, and whether it is the same as other code: what trains, as hashes."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from expkit.errors import warn
from expkit.files import code_bytes
from expkit.modules import READ, SOURCES, STARTED, own_path
from expkit.paths import code_root, shown
from expkit.syntax import Statement, statements

SCHEMAS = ".schema"  # beside train.py: what editors know of its configuration, made from its classes
UNKNOWN = b'raise ImportError("edited after it was loaded by its path: nobody knows what ran")\n'

Digests = dict[str, list[str]]  # path from the project's root: hash of the bytes, hash of what they mean to Python


class Unused(NamedTuple):
    """The names at the top of files that train nothing, by the path of the file from the project's root.

    Attributes:
        configs: classes of the configuration: the values of their fields are compared instead.
        metrics: metrics, and what they use; it trains nothing unless something else uses it, too.
    """

    configs: Mapping[str, frozenset[str]]
    metrics: Mapping[str, frozenset[str]]


def loaded_sources(experiment: str) -> dict[str, bytes]:
    """The project's own files that this process has imported, as they were executed, by their path from its root.

    Not those of other experiments, and not expkit: a run does not change with an update of the template.
    """
    root = code_root()
    experiments, own = (os.path.join(root, "experiments", *name) + os.sep for name in ((), (experiment,)))
    sources: dict[str, bytes] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if not isinstance(file, str) or not os.path.isabs(file):  # torch.ops says "_ops.py"
            continue
        path = own_path(file) if name not in ("__main__", "__mp_main__") else None
        if path is None or (path.startswith(experiments) and not path.startswith(own)):
            continue
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        path = str(getattr(loader, "archive", path))  # a zip file
        if module not in SOURCES:
            SOURCES[module] = _of_unseen(path)
        sources[Path(path).relative_to(root).as_posix()] = SOURCES[module]
    return sources


def _of_unseen(file: str) -> bytes:
    """What a module was loaded from by its path: what the file holds, unless that may have changed since."""
    with suppress(OSError):
        found = os.stat(file)
        if max(found.st_mtime, found.st_ctime) <= STARTED and (content := _read(file)) is not None:
            return content
    warn(f"{shown(Path(file))} was loaded by its path and may have changed since: import it by its name")
    return UNKNOWN


def files_read(experiment: str) -> dict[str, bytes]:
    """The files beside train.py that are no Python and that this process has read, by their path from the root.

    One that was read with several contents has all of them. What a training writes there, or a library, is no code.
    """
    root = code_root()
    own = os.path.join(root, "experiments", experiment) + os.sep
    found = {file: contents for file, contents in READ.items() if file.startswith(own)}
    different = {file: dict.fromkeys(contents.values()) for file, contents in found.items()}
    return {Path(file).relative_to(root).as_posix(): b"\0".join(each) for file, each in different.items()}


def digests(sources: Mapping[str, bytes], unused: Unused | None = None) -> Digests:
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


def digest(files: Digests) -> list[str]:
    """Two hashes of all files together, for `same_code`."""
    both = ([(path, pair[which]) for path, pair in sorted(files.items()) if pair[which]] for which in (0, 1))
    return [_hash(repr(found).encode()) for found in both]


def same_code(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two pairs of hashes are of the same code: the same bytes, or the same meaning."""
    return one[0] == other[0] or one[1] == other[1]


def changed_since(files: Digests, unused: Unused | None = None) -> list[str]:
    """The files among these that are now others than those that were loaded, or gone."""
    root = code_root()
    now = {path: source for path in files if (source := _read(str(root / path))) is not None}
    present = digests(now, unused)
    return [path for path, pair in files.items() if not same_code(pair, present.get(path, ["gone", ""]))]


def _read(file: str) -> bytes | None:
    try:
        return code_bytes(file)
    except OSError:
        return None


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
