"""The public names of expkit and their parameters, as in api.txt; every release keeps those of the earlier ones.

In api.txt, a parameter with a default ends with `=`. After an addition, this makes it again:

    PYTHONPATH=tests uv run python tests/unit/test_api.py
"""

from __future__ import annotations

import ast
import inspect
import re

from conftest import ROOT, call

import expkit
from expkit import checkpoint  # its Checkpoint is `fold.checkpoint`

LIST = ROOT / "tests/api.txt"
MADE_BY_USERS = (expkit.Experiment, expkit.ExpConfig, expkit.RuntimeConfig, expkit.SplitConfig)
NAME = re.compile(r"[\w.]+")


def parameters(signature: inspect.Signature) -> str:
    found: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not any(part.startswith("*") for part in found):
            found.append("*")
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        found.append(f"{star}{one.name}{'=' * (one.default is not one.empty)}")
    return f"({', '.join(name for name in found if name != 'self')})"


def described(name: str) -> str:
    """A line of api.txt, as the library has it now.

    Raises:
        AttributeError: it has no such name.
    """
    if name.startswith("torch."):
        return name + parameters(in_torch(name.removeprefix("torch.")))
    owner, _, member = name.partition(".")
    found = getattr(expkit, owner, None) or getattr(checkpoint, owner)
    if (
        member
        and not hasattr(found, member)
        and re.search(rf"\bself\.{member}(, .*)? =|^    {member}: ", source(found), re.M)
    ):
        return name  # each object has it
    found = getattr(found, member) if member else found
    has_parameters = found in MADE_BY_USERS if inspect.isclass(found) else callable(found)
    return name + (parameters(inspect.signature(found)) if has_parameters else "")


def source(found: type) -> str:
    return "".join(inspect.getsource(part) for part in found.__mro__[:-1])


def in_torch(name: str) -> inspect.Signature:
    """Of a function, a class or a method of expkit.torch, read from its source: importing it needs PyTorch."""
    node: ast.AST = ast.parse((ROOT / "expkit/src/expkit/torch.py").read_text())
    for part in name.split("."):
        node = named(node, part)
    node = named(node, "__init__") if isinstance(node, ast.ClassDef) else node
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    arguments.defaults = [ast.Constant(0) for _ in arguments.defaults]
    arguments.kw_defaults = [default and ast.Constant(0) for default in arguments.kw_defaults]
    made: dict[str, object] = {}
    exec(f"from __future__ import annotations\ndef function({ast.unparse(arguments)}): ...", made)
    return inspect.signature(made["function"])  # type: ignore[arg-type]


def named(node: ast.AST, name: str) -> ast.AST:
    for part in ast.iter_child_nodes(node):
        if getattr(part, "name", "") == name:
            return part
    raise AttributeError(f"expkit.torch has no {name}")


def promised() -> set[str]:
    """What docs/python.md tells of: each public name, and what it calls on a fold and on a loaded run."""
    guide = (ROOT / "docs/python.md").read_text()
    members = {f"Fold.{name}" for name in re.findall(r"\bfold\.(\w+)", guide)}
    members |= {f"LoadedRun.{name}" for name in re.findall(r"\brun\.(\w+)", guide)}
    return members | set(expkit.__all__) - {"torch"}


def broken(old: list[str], new: list[str]) -> list[str]:
    """The lines of an earlier list that code which keeps to it could not rely on any more."""
    now = {NAME.match(line)[0]: line for line in new}  # type: ignore[index]
    return [line for line in old if not keeps(line, now.get(NAME.match(line)[0], "-"))]  # type: ignore[index]


def keeps(old: str, new: str) -> bool:
    """Whether each call that fits an old line fits a new one."""
    if "(" not in old or "(" not in new:
        return old == new
    (before, words_before), (after, words_after) = positional(old), positional(new)
    gone = {one.rstrip("=") for one in before + words_before} - {one.rstrip("=") for one in after + words_after}
    needed = {one for one in after + words_after if not one.endswith("=") and one[0] != "*"}
    moved = [one.rstrip("=") for one in after[: len(before)]] != [one.rstrip("=") for one in before]
    return not gone and not moved and needed <= {*before, *words_before}


def positional(line: str) -> tuple[list[str], list[str]]:
    """The parameters before `*`, and those that are given by name."""
    names = [one for one in line.partition("(")[2].rstrip(")").split(", ") if one]
    star = next((number for number, one in enumerate(names) if one == "*"), len(names))
    return names[:star], names[star + 1 :]


def test_the_list_is_what_the_library_has() -> None:
    lines = LIST.read_text().splitlines()
    assert [described(NAME.match(line)[0]) for line in lines] == lines  # type: ignore[index]
    assert {line.partition("(")[0] for line in lines} >= promised(), "what docs/python.md tells of"


def test_each_release_keeps_the_names_of_the_earlier_ones() -> None:
    now = LIST.read_text().splitlines()
    for tag in call("git", "tag", "--list", "v[0-9]*", cwd=ROOT).stdout.split():
        assert broken(call("git", "show", f"{tag}:tests/api.txt", cwd=ROOT).stdout.splitlines(), now) == [], tag


def test_what_is_broken_is_found() -> None:
    old = ["a(x, y=, *, z=)", "b", "C.d(x)", "e(x, *rest)"]
    assert broken(old, old) == []
    assert broken(old, ["a(x, y=, w=, *, v=, z=)", "b", "C.d(x, y=, **more)", "e(x, *rest)", "new(x)"]) == []
    for line, worse in (
        ("a(x, y=, *, z=)", "a(y=, x=, *, z=)"),
        ("a(x, y=, *, z=)", "a(x, y, *, z=)"),
        ("a(x, y=, *, z=)", "a(x, y=)"),
        ("a(x, y=, *, z=)", "a(x, *, y=, z=)"),
        ("C.d(x)", "C.d(x, y)"),
        ("b", "c"),
        ("e(x, *rest)", "e(x)"),
    ):
        assert broken([line], [worse]) == [line], worse


if __name__ == "__main__":
    listed = {line.partition("(")[0] for line in LIST.read_text().splitlines()}
    LIST.write_text("".join(f"{described(name)}\n" for name in sorted(listed | promised())))
