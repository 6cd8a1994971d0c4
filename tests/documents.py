"""What the READMEs and the pages in docs/ say is done, word by word: commands, Python, files."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import Project, call, clean_environment, commit_all, own_copy

Block = tuple[str, str]  # the language and the text

ADDRESS = "gh:org/hydra-exp-template"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)


def all_blocks(text: str) -> list[Block]:
    """What stands between fences, in order."""
    return FENCED.findall(text)


def blocks(file: Path, language: str) -> list[str]:
    return [block for name, block in all_blocks(file.read_text()) if name == language]


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a person who has uv and git, without W&B, which takes seconds for each fold."""
    home = tmp_path_factory.mktemp("home")
    names = {f"GIT_{role}_{part}": "me@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    uv_cache = call("uv", "cache", "dir", cwd=home).stdout.strip()  # one for all tests
    return clean_environment() | names | {"HOME": str(home), "UV_CACHE_DIR": uv_cache, "WANDB_MODE": "disabled"}


def quick_copy(project: Project, folder: Path) -> Path:
    """A clone of a project whose parameter sets train few epochs."""
    made = own_copy(project, folder).folder
    for file in made.glob("experiments/001-baseline/exp/*.yaml"):
        file.write_text(file.read_text().replace("epochs: 40", "epochs: 5"))
    commit_all(made)
    return made


def shell(script: str, cwd: Path, environment: dict[str, str]) -> str:
    return call("bash", "-euo", "pipefail", "-c", script, cwd=cwd, env=environment).stdout


def run_commands(script: str, folder: Path, person: dict[str, str], template: Path | None = None) -> str:
    """Run a block of commands in a project's root; what they print.

    Addresses that are made up lead to folders here: of the project, of the template, of another machine and its volume.
    """
    if "copier update" in script:
        commit_all(folder)
    cwd = folder
    if "git clone" in script:
        cwd = folder.parent / "remote"
        cwd.mkdir()
    volume = folder.parent / "volume"
    volume.mkdir(exist_ok=True)
    made_up = {"https://github.com/me/myproj": folder, "/workspace/myproj": volume, "remote:": ""}
    for address, real in (made_up | {ADDRESS: template or ADDRESS}).items():
        script = script.replace(address, str(real))
    return shell(script, cwd, person)


def follow(parts: Iterable[Block], folder: Path, person: dict[str, str], template: Path | None = None) -> str:
    """Do what stands in blocks, in order; what the commands print.

    A block that begins with the name of a file, as in `# experiments/001-baseline/exp/003.yaml`, is that file, or
    changes it: see `take_over`. Any other block of Python is a script of its own.
    """
    printed = ""
    for language, block in parts:
        named = re.match(r"# (\S+\.\w+)\n", block)
        if language == "bash":
            printed += run_commands(block, folder, person, template)
        elif language in ("python", "yaml") and named:
            put(folder / named[1], block)
        elif language == "python":
            printed += call("uv", "run", "-q", "python", "-c", block, cwd=folder, env=person).stdout
    return printed


def put(file: Path, block: str) -> None:
    if file.suffix == ".py" and file.exists() and "expkit.main(" not in block:  # a whole train.py
        take_over(file, block)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)


def take_over(file: Path, block: str) -> None:
    """Definitions take the place of those of the same name, with what is new before them; imports are added."""
    code, new = file.read_text(), ""
    for node in ast.parse(block).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if _text(block, node).strip() not in code:
                last = [each for each in ast.parse(code).body if isinstance(each, ast.Import | ast.ImportFrom)][-1]
                code = code.replace(_text(code, last), _text(code, last) + _text(block, node).strip() + "\n", 1)
            continue
        new += _text(block, node) + ("\n\n" if isinstance(node, ast.FunctionDef) else "")
        old = [each for each in ast.parse(code).body if _names(each) & _names(node)]
        if old:
            code, new = code.replace(_text(code, old[0]).rstrip("\n"), new.strip("\n"), 1), ""
    file.write_text(code + ("\n\n" + new if new else ""))


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _text(code: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return "".join(code.splitlines(keepends=True)[first - 1 : node.end_lineno]) + "\n"


# Messages

SAID = re.compile(r"^(?:error|warning|stopped|study|pruned)\b.*[^…\n]$", flags=re.M)


def messages_not_printed(page: Path, code: Path) -> list[str]:
    """The messages in the blocks of output of a page that no text in the Python files of `code` can make.

    Lines that are cut off, with an ellipsis, are not looked at.
    """
    known = [pattern for file in sorted(code.rglob("*.py")) for pattern in _patterns(file.read_text())]
    said = [line for block in blocks(page, "text") for line in SAID.findall(block)]
    return [line for line in said if not any(pattern.search(line) for pattern in known)]


@functools.cache
def _patterns(code: str) -> list[re.Pattern[str]]:
    """The longer texts in Python code, where anything may stand in the place of a value."""
    found = []
    nodes = list(ast.walk(ast.parse(code)))
    inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if id(node) in inner:
            continue
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        known = [part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "" for part in parts]
        if sum(map(len, known)) >= 20:
            found.append(re.compile(".*".join(map(re.escape, known))))
    return found


# Links


def broken_links(file: Path) -> list[str]:
    """The relative links and anchors of a page that lead nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", file.read_text()))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = file.parent / name if name else file
        if not page.exists() or (anchor and anchor not in anchors(page)):
            broken.append(target)
    return broken


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), flags=re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = found[slug] = found.get(slug, -1) + 1
        result.add(f"{slug}-{number}" if number else slug)
    return result
