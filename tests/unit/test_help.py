"""What explains itself: the help of `exp`, whose examples run as they stand, and the public names."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import call, clean_environment, clone_of, commit_all
from helpers import RUN_ALL

import expkit
from expkit.cli import app

DAY = "new check try board show diff note log submit blend unlock oof".split()
DAY += "reproduce fetch data clean remove docs kaggle".split()
KAGGLE = ["download", "submit", "push", "scores"]
ELSEWHERE = ("kaggle", "fetch", "unlock")  # they need an account, another machine, a locked box
MANUALS = [[], *([name] for name in DAY), *(["kaggle", name] for name in KAGGLE)]


def manual(command: list[str]) -> str:
    """What a terminal of 80 columns shows."""
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "80"}, prog_name="exp")
    assert result.exit_code == 0, result.output
    return result.output


def examples(command: list[str]) -> list[list[str]]:
    """Each example as its words, without the comment, and without a file that its output goes to."""
    lines = manual(command).rpartition("\n  Examples:\n")[2].splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    assert found and all(words[0] == "exp" for words in found), lines
    return [words[: words.index(">")] if ">" in words else words for words in found]


def test_the_commands_stand_in_the_order_of_a_day() -> None:
    [listed] = re.findall(r"\nCommands:\n(.*?)\n\n", manual([]), flags=re.S)
    commands = [re.fullmatch(r"  (\w+) +([A-Z].*[.?])", line) for line in listed.splitlines()]
    assert [command and command[1] for command in commands] == DAY, "one line each"
    assert "..." not in listed, "a line is cut off"


@pytest.mark.parametrize("command", MANUALS, ids=" ".join)
def test_a_manual(command: list[str]) -> None:
    """Fits 80 columns, explains each argument and option, and ends with examples of the command."""
    text = manual(command)
    assert max(map(len, text.splitlines())) <= 80
    assert ["exp", *command] in [words[: 1 + len(command)] for words in examples(command)]
    group: Any = app
    for name in command:
        group = group.commands[name]
        for parameter in group.params:
            assert re.fullmatch(r"\S.*\.", parameter.help), f"{parameter.name}: a sentence"


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    """In a project with the two runs that they name; those that need more run elsewhere."""
    folder = clone_of(expkit.code_root(), tmp_path / "clone")
    for file in folder.glob("experiments/001-baseline/exp/*.yaml"):
        file.write_text(file.read_text().replace("epochs: 40", "epochs: 5"))
    commit_all(folder)
    environment = clean_environment() | {
        "EXPKIT_ROOT": str(folder),
        "PYTHONPATH": str(folder / "src"),
        "WANDB_MODE": "disabled",
    }
    train = [sys.executable, "experiments/001-baseline/train.py", "-m", "exp=001,002", "exp.fold=null"]
    call(*train, cwd=folder, env=environment)
    found = [words for command in MANUALS for words in examples(command) if words[1] not in ELSEWHERE]
    lines = list(dict.fromkeys(map(shlex.join, found)))
    asked = json.dumps([shlex.split(line)[1:] for line in lines])
    done = call(sys.executable, "-c", RUN_ALL, asked, cwd=folder, env=environment).stdout.splitlines()
    assert len(lines) > 30
    for line, (code, printed, error) in zip(lines, map(json.loads, done), strict=True):
        assert code == 0, f"{line}: {error}\n{printed}"
        assert printed.strip(), f"{line} prints nothing"
        assert "no run to show" not in printed, line


def explained(thing: Callable[..., Any]) -> list[str]:
    """The arguments (of a dataclass, the fields) that its docstring does not explain."""
    doc = inspect.getdoc(thing) or ""
    names = [name for name in inspect.signature(thing).parameters if name != "self"]
    return [name for name in names if not re.search(rf"^ +(\w+, )*{name}(, \w+)*: \S", doc, flags=re.M)]


@pytest.mark.parametrize("name", expkit.__all__)
def test_a_public_name_is_explained(name: str) -> None:
    """What it is, and each argument; of a class, its public methods too. Keys of the configuration have comments."""
    thing = getattr(expkit, name)
    methods = [value for key, value in vars(thing).items() if key[0] != "_"] if inspect.isclass(thing) else []
    for each in [thing, *(value for value in methods if inspect.isfunction(value) or isinstance(value, property))]:
        assert each.__doc__ and re.match(r'[A-Z" ]', each.__doc__), each
    keys = expkit.ExpConfig | expkit.RuntimeConfig | expkit.SplitConfig
    made_by_us = expkit.Fold | expkit.LoadedRun | expkit.Error | Enum | keys
    if not (inspect.isclass(thing) and issubclass(thing, made_by_us)):
        assert explained(thing) == []
    for method in filter(inspect.isfunction, methods):
        assert explained(method) == [], method


def test_the_commands_start_without_what_is_slow_to_import() -> None:
    """`exp board`, and what the shell completes, wait for neither Hydra nor NumPy."""
    slow = {"hydra", "kaggle", "numpy", "omegaconf", "pandas", "pydantic", "requests", "torch"}
    script = f"import sys, expkit.cli; print({slow} & set(sys.modules))"
    assert call(sys.executable, "-c", script, cwd=expkit.code_root()).stdout == "set()\n"


def test_other_applications_of_hydra_wait_for_nothing_of_ours() -> None:
    """Hydra imports the plugin for each of them."""
    script = "import sys, hydra_plugins.expkit_sweeper; print([each for each in sys.modules if each[:6] == 'expkit'])"
    assert call(sys.executable, "-c", script, cwd=expkit.code_root()).stdout == "[]\n"
