"""Releases of a template that a test has for itself, and what an update leaves in a project."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import call, commit_all

YOURS = ("experiments", "input", "output", "notebooks", "src/my_experiments", "src/digits_co_experiments")
Files = dict[str, bytes]


def append(folder: Path, *names: str, line: str) -> None:
    for name in names:
        (folder / name).write_text(f"{(folder / name).read_text()}{line}\n")


def release(template: Path, version: str) -> None:
    commit_all(template, f"chore: release {version}")
    call("git", "tag", version, cwd=template)


def prepare(template: Path, version: str) -> None:
    """What CONTRIBUTING.md says to do before a tag: the versions, the changelog, the wheel."""
    for name in ("pyproject.toml", "expkit/pyproject.toml", "CITATION.cff"):
        replace(template / name, r"^(version(?: =|:) \"?)[^\s\"]+", rf"\g<1>{version}")
    replace(template / "CHANGELOG.md", r"^## \[Unreleased\]\n", rf"\g<0>\n## [{version}] - 2026-12-01\n")
    call(template / ".ci/build-wheel", template, cwd=template)


def replace(file: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, file.read_text(), count=1, flags=re.M)
    assert count, (file, pattern)
    file.write_text(text)


def files_of(folder: Path, *parts: str) -> Files:
    """Every file with its content, ignored ones included; of some parts, or of all but git's own."""
    found = (file for part in parts or (".",) for file in (folder / part).rglob("*"))
    names = {file.relative_to(folder).as_posix(): file for file in found if file.is_file()}
    return {name: file.read_bytes() for name, file in names.items() if not name.startswith((".git/", ".venv/"))}


def unmerged(folder: Path) -> set[str]:
    return {line.split("\t")[1] for line in call("git", "ls-files", "-u", cwd=folder).stdout.splitlines()}


def status(folder: Path) -> str:
    return call("git", "status", "--porcelain", cwd=folder).stdout
