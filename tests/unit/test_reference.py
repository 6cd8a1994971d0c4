"""What the pages in docs/ list is all there is: commands, options, keys, exit codes, names, marks."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT

import expkit
from expkit import errors
from expkit.clean import KINDS
from expkit.cli import app
from expkit.config import Config, flat
from expkit.launch import main
from expkit.store import COPY

SOURCE = ROOT / "expkit/src/expkit"
PAGES = {page.stem: page.read_text() for page in (ROOT / "docs").glob("*.md")}
COMMANDS: dict[str, Any] = app.commands


def code_of(page: str) -> list[str]:
    """What stands between backticks in a page."""
    return re.findall(r"`+([^`]+)`+", re.sub(r"^```.*?^```", "", PAGES[page], flags=re.M | re.S))


def test_every_command_of_exp_is_on_the_page() -> None:
    rows = re.findall(r"^\| `exp (\w+)", PAGES["commands"], flags=re.M)
    assert sorted(rows) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_its_row_has_every_option(name: str) -> None:
    """And no other. --json and --help stand above the table, for all."""
    [row] = re.findall(rf"^\| `exp {name}\b.*$", PAGES["commands"], flags=re.M)
    command = COMMANDS[name]
    several = getattr(command, "commands", {name: command}).values()
    each = [{option for found in one.params for option in found.opts if option.startswith("--")} for one in several]
    assert all("--json" in options for options in each)
    options = set().union(*each)
    assert set(re.findall(r"`(--[a-z-]+)`", row)) == options - {"--json", "--help"}


@pytest.mark.parametrize(("name", "count"), [("submit", 2), ("blend", 3)])
def test_its_row_has_every_choice(name: str, count: int) -> None:
    """As `--help` lists them: <mean|rank|hill|fit>."""
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "400"}).output
    [choices] = re.findall(r"[<\[]([a-z]+(?:\|[a-z]+)+)[>\]]", shown)
    [row] = re.findall(rf"^\| `exp {name}\b.*$", PAGES["commands"], flags=re.M)
    assert len(choices.split("|")) == count
    assert set(choices.split("|")) <= set(re.findall(r"`(\w+)`", row))


def test_everything_that_clean_removes_is_in_its_row() -> None:
    [row] = re.findall(r"^\| `exp clean\b.*$", PAGES["commands"], flags=re.M)
    assert set(KINDS) <= set(re.findall(r"`(\w+)`", row))


def test_every_key_that_all_experiments_have_is_on_the_page() -> None:
    """With its default, where that is no empty text."""
    words = code_of("commands")
    for key, value in flat(Config()).items():
        default = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        assert (f"{key}={default}" if default else key) in words, f"docs/commands.md has no {key} with its default"


def test_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGES["commands"], flags=re.M)
    codes = {each.exit_code for each in (errors.Error, errors.NotFound, errors.Failed)}
    assert {int(code) for code, _ in rows} == {0, 129, 130, 137, 143} | codes
    assert "130 after Ctrl-C" in (main.__doc__ or "")


def test_every_variable_of_the_file_env_is_on_the_page() -> None:
    names = re.findall(r"^#([A-Z_]+)=", (ROOT / "template/.env.example").read_text(), flags=re.M)
    assert names and set(names) <= set(re.findall(r"^\| `(\w+)` \|", PAGES["commands"], flags=re.M))


def test_every_public_name_is_in_the_page_for_python() -> None:
    there = set(re.findall(r"\bexpkit\.(\w+)", PAGES["python"]))
    there |= set(re.findall(r"`(\w+)`", PAGES["python"])) & {"oof", "curves", "mistakes"}
    assert there == {*expkit.__all__, "torch"}


def test_everything_that_a_fold_has_is_in_the_page_for_python() -> None:
    made = ast.parse((SOURCE / "fold.py").read_text())
    [fold] = [node for node in made.body if isinstance(node, ast.ClassDef) and node.name == "Fold"]
    names = {node.name for node in fold.body if isinstance(node, ast.FunctionDef)} | {"rank"}
    attributes = [node for node in ast.walk(fold) if isinstance(node, ast.Attribute)]
    names |= {node.attr for node in attributes if ast.unparse(node.value) == "self"}
    public = {name for name in names if not name.startswith("_")} - {"close", "found", "finish"}  # expkit's own
    assert set(re.findall(r"\bfold\.(\w+)", PAGES["python"])) == public


# Which functions make the marks of the board and of `exp show`.
MAKERS = {
    "store/marks.py": ("own_marks", "leaks_of", "parent_marks", "_mixed_packages"),
    "store/records.py": ("read_checked", "read_fold", "changed_file"),
    "board.py": ("marks", "flag_incomparable", "_together"),
    "show.py": ("changed_since",),
}
NO_MARKS = {"its values do not fit", " seeds", " more"}  # of `broken run.json (...)`; a column


@pytest.mark.parametrize("file", MAKERS)
def test_every_mark_is_in_the_table(file: str) -> None:
    """Each text of the functions, but for what is put in: its keys have no space."""
    marks = "\n".join(re.findall(r"^\| (`.+?) \| .+ \| .+ \|$", PAGES["results"], flags=re.M))
    nodes = ast.parse((SOURCE / file).read_text())
    makers = [node for node in ast.walk(nodes) if isinstance(node, ast.FunctionDef) and node.name in MAKERS[file]]
    assert len(makers) == len(MAKERS[file])
    for maker in makers:
        found = [node.value for node in ast.walk(maker) if isinstance(node, ast.Constant)]
        texts = {text for text in found if isinstance(text, str)} - {ast.get_docstring(maker, clean=False)} - NO_MARKS
        for text in [each for each in texts if " " in each or each in ("failed", "partial", "pruned")]:
            assert text.partition(": the")[0].strip(" ,.;:()") in marks, f"docs/results.md has no mark {text}"


def test_every_mark_of_runs_that_do_not_compare_is_in_the_table() -> None:
    nodes = ast.walk(ast.parse((SOURCE / "board.py").read_text()))
    keys = [node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)]
    marks = {str(key.value) for key in keys if " " in str(key.value)}
    assert "other data" in marks
    for mark in [*marks, f"{COPY}RUN"]:
        assert f"`{mark}`" in PAGES["results"], mark
