"""Every command of both READMEs runs, as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, Project, call
from documents import blocks, person, run_commands, shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # each test runs every command of a README
__all__ = ["person"]  # the fixture


def test_readme_of_the_template(
    template_repository: Path, project: Project, person: dict[str, str], tmp_path: Path
) -> None:
    """The first command on a machine without uv, then each of the others in the project that it made."""
    render, *others, develop = blocks(ROOT / "README.md", "bash")
    printed = shell(render.replace("gh:org/hydra-exp-template", str(template_repository)), tmp_path, person)
    assert "CV accuracy" in printed
    folder = tmp_path / "myproj"
    others = [block for block in others if "gh:org/" not in block]  # that one needs another folder: test_update.py
    twice = [line for block in blocks(project.folder / "README.md", "bash") for line in block.splitlines()]
    assert (study := next(line for line in twice if "optuna" in line and "train.py" in line)) in "".join(others)
    others = [block.replace(study, "") for block in others]  # the same line below, and it takes long
    run_blocks(others, folder, person)
    for script in blocks(ROOT / "README.md", "python"):
        call("uv", "run", "-q", "python", "-c", script, cwd=folder, env=person)

    clone, *_, test_command = develop.strip().split(" && ")
    assert clone == "git clone https://github.com/org/hydra-exp-template"
    assert f"\n{test_command} " in (ROOT / ".ci" / "run").read_text(), "CI runs the README's test command"


def test_readme_of_the_project(project: Project, person: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "myproj"
    call("git", "clone", "-q", project.folder, folder, cwd=tmp_path)
    shell("pip install -q uv", folder, person)
    readme = folder / "README.md"
    run_blocks(blocks(readme, "bash"), folder, person)
    for script in blocks(readme, "python"):
        call("uv", "run", "-q", "python", "-c", script, cwd=folder, env=person)
    [parameter_set] = blocks(readme, "yaml")
    name = re.match(r"# (\S+)\n", parameter_set)
    assert name
    (folder / name[1]).write_text(parameter_set)
    command = f"uv run python experiments/001-baseline/train.py exp={Path(name[1]).stem} show_config=true"
    assert "batch_size: 16" in shell(command, folder, person)
    shell("cp -r experiments/001-baseline experiments/002-my-idea", folder, person)
    assert "12 passed" in shell("uv run pytest -q", folder, person)


@pytest.mark.parametrize("file", ["AGENTS.md", ".claude/skills/experiment-setup/SKILL.md"])
def test_commands_for_agents(project: Project, person: dict[str, str], tmp_path: Path, file: str) -> None:
    folder = tmp_path / "myproj"
    call("git", "clone", "-q", project.folder, folder, cwd=tmp_path)
    shell("pip install -q uv", folder, person)
    shell("uv run python experiments/001-baseline/train.py exp=001", folder, person)
    for script in blocks(folder / file, "bash"):
        shell(script, folder, person)


def run_blocks(scripts: list[str], folder: Path, person: dict[str, str]) -> None:
    """Run blocks of commands, each from the project's root."""
    assert scripts
    for script in scripts:
        run_commands(script, folder, person)
    results = (folder.parent / "volume").glob("output/001-baseline/*/fold0/result.json")
    assert list(results), "PROJECT_ROOT moves the results"
