"""The READMEs: short, the same in two languages, their links lead to pages, and every command runs as it stands."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import GIT, ROOT, Project, call, clean_environment, clone_of, commit_all
from copier import run_copy
from documents import ADDRESS, all_blocks, blocks, broken_links, follow, person, quick_copy, run_commands, shell
from updates import append

__all__ = ["person"]  # a fixture
READMES = ["README.md", "README.ja.md"]
SECONDS = r"\d+\.\d s\b"


def commands(readme: Path) -> list[str]:
    """The lines of all commands, without comments."""
    return [re.sub(r"\s+# .*", "", line) for block in blocks(readme, "bash") for line in block.splitlines()]


def links(readme: Path) -> list[str]:
    """Where the links lead, but for the one to the other language."""
    found = re.findall(
        r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", readme.read_text().replace("docs/ja/", "docs/"), flags=re.M
    )
    return [inline or reference for inline, reference in found if inline not in READMES]


def table_rows(readme: Path) -> list[list[str]]:
    """What the rows of tables say in any language: code, links, numbers."""
    rows = re.findall(r"^\|.*\|$", readme.read_text(), flags=re.M)
    return [re.findall(r"`[^`]*`|\]\(\S+\)|\d+", row) for row in rows]


@pytest.mark.parametrize("place", ["the template", "sklearn", "torch", "lightgbm"])
def test_the_readmes(template_repository: Path, tmp_path: Path, place: str) -> None:
    """Of this repository, and of a project: short, with links that lead somewhere; the Japanese one says the same."""
    folder = ROOT
    if place != "the template":
        folder = tmp_path / "project"
        run_copy(str(template_repository), folder, data={"framework": place}, defaults=True, quiet=True)
    english, japanese = (folder / name for name in READMES)
    assert len(english.read_text().split()) <= (500 if folder == ROOT else 700)
    assert [broken_links(english), broken_links(japanese)] == [[], []]
    assert commands(japanese) == commands(english) and len(commands(english)) >= 10
    for language in ("text", "yaml"):
        assert blocks(japanese, language) == blocks(english, language)
    assert table_rows(japanese) == table_rows(english) and len(table_rows(english)) >= 10
    assert sorted(links(japanese)) == sorted(links(english)) and len(links(english)) >= 10
    assert len(re.findall("[ぁ-ん]", japanese.read_text())) > 300, "the prose is Japanese"
    if folder == ROOT:
        assert GUIDES | FOR_DEVELOPERS == set(re.findall(r"\]\(docs/([^/)]+)\.md\)", english.read_text()))
    for page in TRANSLATED:
        assert f"docs/ja/{page}.md" in japanese.read_text()


FOR_DEVELOPERS = {"how-it-works"}
GUIDES = {page.stem for page in (ROOT / "docs").glob("*.md")} - FOR_DEVELOPERS
TRANSLATED = {page.stem for page in (ROOT / "docs/ja").glob("*.md")}


def assert_links(folder: Path, repository: str, version: str) -> None:
    for readme in (folder / name for name in READMES):
        found = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", readme.read_text(), flags=re.M))
        assert found.keys() == GUIDES == set(re.findall(r"\]\[([\w-]+)\]", readme.read_text()))
        for page, link in found.items():
            folder_of_page = "docs/ja" if "ja" in readme.name and page in TRANSLATED else "docs"
            assert re.fullmatch(rf"https://github.com/{repository}/blob/{version}\w*/{folder_of_page}/{page}.md", link)


def test_a_project_links_to_the_guides_of_its_own_version(
    project: Project, template_repository: Path, tmp_path: Path
) -> None:
    """Of a release in a folder; of a fork on GitHub and a commit after a release; of no git at all."""
    assert_links(project.folder, "org/hydra-exp-template", "v0.1.0")
    fork = clone_of(template_repository, tmp_path / "fork")
    call(*GIT, "commit", "-q", "--allow-empty", "-m", "fix: more", cwd=fork)
    # git finds on this machine what is on GitHub
    on_github = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{fork}.insteadOf"}
    on_github["GIT_CONFIG_VALUE_0"] = "https://github.com/other/my.fork.git"
    copy = [sys.executable, "-m", "copier", "copy", "-q", "--defaults", "--vcs-ref", "HEAD"]
    call(*copy, "gh:other/my.fork", "theirs", cwd=tmp_path, env=clean_environment() | on_github)
    assert_links(tmp_path / "theirs", "other/my.fork", call("git", "rev-parse", "HEAD", cwd=fork).stdout[:7])
    shutil.rmtree(fork / ".git")
    run_copy(str(fork), tmp_path / "plain", defaults=True, quiet=True)
    assert_links(tmp_path / "plain", "org/hydra-exp-template", "main")


# Every command


def test_develop() -> None:
    *_, develop = blocks(ROOT / "README.md", "bash")
    clone, *_, test_command = develop.strip().split(" && ")
    assert clone == "git clone https://github.com/org/hydra-exp-template"
    assert f"\n{test_command} " in (ROOT / ".ci" / "run").read_text(), "CI runs the README's test command"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_of_the_template(template_repository: Path, person: dict[str, str], tmp_path: Path) -> None:
    """The command for a clone, on a machine without uv, renders its latest tag; then a day in the project."""
    remote, local, day, _ = blocks(ROOT / "README.md", "bash")
    assert remote == local.replace('"$PWD"', ADDRESS).replace("../", "")
    call(sys.executable, "-m", "venv", tmp_path / "python", cwd=tmp_path)
    path = f"{tmp_path / 'python' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    clone, made = clone_of(template_repository, tmp_path / "clone"), tmp_path / "myproj"
    append(clone / "template", "conf/README.md", line="after the release")
    commit_all(clone)
    printed = shell(local, clone, person | {"PATH": path})
    [end] = blocks(ROOT / "README.md", "text")
    assert re.sub(SECONDS, "", printed).endswith(re.sub(SECONDS, "", end))
    assert "after the release" not in (made / "conf/README.md").read_text()
    run_commands(day, made, person | {"PATH": path})
    assert list(made.glob("output/submissions/*.csv"))


@pytest.fixture
def mine(project: Project, tmp_path: Path) -> Path:
    return quick_copy(project, tmp_path / "myproj")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_of_the_project(mine: Path, person: dict[str, str]) -> None:
    printed = follow(all_blocks((mine / "README.md").read_text()), mine, person)
    assert "batch_size: 16\n" in printed, "the parameter set of the README is shown"
    for run in ("baseline", "001-larger-lr", "002-larger-model", "003-smaller-batch", "003-smaller-batch,exp.seed=1"):
        assert (mine / "output/001-baseline" / run / "fold0/result.json").exists(), run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", ["AGENTS.md", ".claude/skills/experiment-setup/SKILL.md"])
def test_commands_for_agents(mine: Path, person: dict[str, str], file: str) -> None:
    shell("uv run python experiments/001-baseline/train.py exp=001", mine, person)
    for script in blocks(mine / file, "bash"):
        shell(script, mine, person)


def test_the_skills_of_every_agent_are_the_same(project: Project) -> None:
    """And the guides are in the project, without a network."""
    told = {file.parent.name: file.read_text() for file in project.folder.glob(".agents/skills/*/SKILL.md")}
    assert told and told == {
        file.parent.name: file.read_text() for file in project.folder.glob(".claude/skills/*/SKILL.md")
    }
    printed = call(project.python, "-c", "from expkit.cli import main; main()", "docs", "many-runs", cwd=project.folder)
    assert printed.stdout == (ROOT / "docs/many-runs.md").read_text()
