"""Which code of the project a process has loaded, and whether it is the same as other code: what trains, as hashes."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from expkit.modules import Loader
from expkit.paths import code_root

SCHEMAS = ".schema"  # beside train.py: what editors know of its configuration, made from its classes
IGNORED = ("config.yaml", "exp", "__pycache__")  # beside train.py: no code; configuration is compared by its values

Digests = dict[str, list[str]]  # path from the project's root: hash of the bytes, hash of what they mean to Python
Unused = Mapping[str, frozenset[str]]  # path: names in that file that train nothing


def loaded_sources(experiment: str) -> dict[str, bytes]:
    """The project's own files that this process has imported, as they were executed, by their path from its root.

    Not those of other experiments, and not expkit: a run does not change with an update of the template.
    """
    root = str(code_root()) + os.sep
    not_yours = ((".venv", ""), ("src", "expkit", ""), ("src", "hydra_plugins", "expkit_"))
    left_out = tuple(os.path.join(root, *part) for part in not_yours)
    experiments, own = (
        os.path.join(root, "experiments") + os.sep,
        os.path.join(root, "experiments", experiment) + os.sep,
    )
    sources: dict[str, bytes] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str) or not file.startswith(root) or file.startswith(left_out):
            continue
        if "site-packages" in file or (file.startswith(experiments) and not file.startswith(own)):
            continue
        loader = getattr(module, "__loader__", None)
        source = getattr(loader, "source", None) if isinstance(loader, Loader) else _read(file)
        if source is not None:
            sources[Path(file).relative_to(root).as_posix()] = source
    return sources


def files_beside(experiment: str) -> dict[str, bytes]:
    """The files beside train.py that are no Python, such as a table of constants, by their path from the root."""
    root, found = code_root(), {}
    for path, folders, names in os.walk(root / "experiments" / experiment):
        folders[:] = [name for name in folders if name not in IGNORED and not name.startswith(".")]
        for name in names:
            known = name.endswith((".py", ".pyc", ".md", ".ipynb")) or name in IGNORED or name.startswith(".")
            if not known and (content := _read(os.path.join(path, name))) is not None:
                found[Path(path, name).relative_to(root).as_posix()] = content
    return found


def digests(sources: Mapping[str, bytes], unused: Unused | None = None) -> Digests:
    """Two hashes a file: of its bytes, and of what they mean: without comments, docstrings, layout.

    Args:
        sources: path to content.
        unused: path to the names of classes of the configuration, whose defaults are no part of the meaning (the values
            are compared instead), and of metrics, which train nothing.
    """
    left_out = unused or {}
    return {
        path: [_hash(_lines(source)), _meaning(path, source, left_out.get(path))]
        for path, source in sorted(sources.items())
    }


def digest(files: Digests) -> list[str]:
    """Two hashes of all files together, for `same_code`."""
    return [_hash(repr([(path, pair[which]) for path, pair in sorted(files.items())]).encode()) for which in (0, 1)]


def same_code(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two pairs of hashes are of the same code: the same bytes, or the same meaning."""
    return one[0] == other[0] or one[1] == other[1]


def changed_since(files: Digests, unused: Unused | None = None) -> list[str]:
    """The files among these that are now others than those that were loaded, or gone."""
    root = code_root()
    now = {path: source for path in files if (source := _read(str(root / path))) is not None}
    present = digests(now, unused)
    return [path for path, pair in files.items() if path not in present or not same_code(pair, present[path])]


def _read(file: str) -> bytes | None:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError:
        return None


def _lines(source: bytes) -> bytes:
    """A checkout on Windows has other line ends."""
    return source.replace(b"\r\n", b"\n")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache  # each checkpoint asks again, and a parse takes longer than the save
def _meaning(path: str, source: bytes, unused: frozenset[str] | None) -> str:
    """A hash of the syntax tree."""
    if not path.endswith(".py"):
        return _hash(_lines(source))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _hash(_lines(source))
    if unused is not None:
        _leave_out(tree, unused)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body[:] = [part for part in node.body if not _is_text(part)]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"  # the tree differs between versions
    return _hash(f"{version} {ast.dump(tree)}".encode())


def _is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def _leave_out(tree: ast.Module, unused: frozenset[str]) -> None:
    """Take from a train.py what trains nothing: fields of the configuration, metrics, the lines that start it all."""
    tree.body = [part for part in tree.body if not _starts_it(part)]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    metrics = unused - used
    tree.body = [part for part in tree.body if not (isinstance(part, ast.FunctionDef) and part.name in metrics)]
    for part in tree.body:
        if isinstance(part, ast.ClassDef) and part.name in unused:
            part.body = [inner for inner in part.body if not _is_field(inner)]


def _starts_it(part: ast.stmt) -> bool:
    if isinstance(part, ast.If):
        return ast.unparse(part.test) == "__name__ == '__main__'"
    is_call = isinstance(part, ast.Assign) and isinstance(part.value, ast.Call)
    return is_call and ast.unparse(part.value.func) in ("expkit.Experiment", "Experiment")  # type: ignore[attr-defined]


def _is_field(part: ast.stmt) -> bool:
    """A field, whose value is in the configuration; not a ClassVar, which is a constant of the code."""
    if isinstance(part, ast.AnnAssign):
        return "Var" not in ast.unparse(part.annotation)
    return isinstance(part, ast.FunctionDef) and part.name == "__post_init__"
