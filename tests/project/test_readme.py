"""The READMEs: short, the same in two languages, their links lead to pages, and every command runs as it stands."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import copier
import pytest
from conftest import GIT, ROOT, Project, call, clean_environment, commit_all
from documents import all_blocks, blocks, broken_links, follow, person, person_with_uv, quick_copy, run_commands, shell

__all__ = ["person", "person_with_uv"]  # the fixtures
READMES = ["README.md", "README.ja.md"]
ADDRESS = "gh:org/hydra-exp-template"
PEERS = ["cookiecutter-data-science", "DVC", "Hydra", "Kedro", "lightning-hydra-template", "MLflow", "W&B"]


def commands(readme: Path) -> list[str]:
    """The lines of all commands, without comments."""
    return [re.sub(r"\s+# .*", "", line) for block in blocks(readme, "bash") for line in block.splitlines()]


def links(readme: Path) -> list[str]:
    """Where the links lead, but for the one to the other language."""
    found = re.findall(r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", readme.read_text(), flags=re.M)
    return [inline or reference for inline, reference in found if inline not in READMES]


def table_rows(readme: Path) -> list[tuple[list[str], ...]]:
    """What the rows of tables say in any language: code, links, numbers, peers, and whether a peer is better."""
    return [
        (
            re.findall(r"`[^`]*`", row),
            re.findall(r"\]\((\S+)\)", row),
            re.findall(r"\d+", row),
            [name for name in PEERS if name in row],
            ["better"] * len(re.findall(r"\*\*[^*]+\*\*", row)),
        )
        for row in re.findall(r"^\|.*\|$", readme.read_text(), flags=re.M)
    ]


@pytest.mark.parametrize("place", ["the template", "sklearn", "torch", "lightgbm"])
def test_the_readmes(template_repository: Path, tmp_path: Path, place: str) -> None:
    """Of this repository, and of a project: short, with links that lead somewhere; the Japanese one says the same."""
    folder = ROOT
    if place != "the template":
        folder = tmp_path / "project"
        copier.run_copy(str(template_repository), folder, data={"framework": place}, defaults=True, quiet=True)
    english, japanese = (folder / name for name in READMES)
    assert len(english.read_text().split()) <= 700
    assert [broken_links(english), broken_links(japanese)] == [[], []]
    assert commands(japanese) == commands(english) and len(commands(english)) >= 10
    for language in ("text", "yaml"):
        assert blocks(japanese, language) == blocks(english, language)
    assert table_rows(japanese) == table_rows(english) and len(table_rows(english)) >= 10
    assert sorted(links(japanese)) == sorted(links(english)) and len(links(english)) >= 10
    assert len(re.findall("[ぁ-ん]", japanese.read_text())) > 300, "the prose is Japanese"
    if folder == ROOT:
        guides = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
        assert guides == {link for link in links(english) if re.fullmatch(r"docs/[^/]+\.md", link)}


@pytest.mark.parametrize(
    ("source", "history", "repository"),
    [
        ("gh:other/my.fork", "a tag", "other/my.fork"),
        ("https://github.com/other/my.fork.git", "a commit after a tag", "other/my.fork"),
        ("template", "no git", "org/hydra-exp-template"),
    ],
)
def test_a_project_links_to_the_guides_of_its_own_version(
    template_repository: Path, tmp_path: Path, source: str, history: str, repository: str
) -> None:
    template, made = tmp_path / "template", tmp_path / "project"
    call("git", "clone", "-q", template_repository, template, cwd=tmp_path)
    expected, copy = "v0.1.0", [sys.executable, "-m", "copier", "copy", "-q", "--defaults"]
    if history == "a commit after a tag":
        call(*GIT, "commit", "-q", "--allow-empty", "-m", "fix: more", cwd=template)
        expected = call("git", "rev-parse", "HEAD", cwd=template).stdout[:7]
        copy += ["--vcs-ref", "HEAD"]
    if history == "no git":
        shutil.rmtree(template / ".git")
        expected = "main"
    addresses = {"GIT_CONFIG_COUNT": "2"}  # git finds on this machine what is on GitHub
    for number, name in enumerate(["other/my.fork.git", "other/my.fork"]):
        addresses |= {f"GIT_CONFIG_KEY_{number}": f"url.{template}.insteadOf"}
        addresses |= {f"GIT_CONFIG_VALUE_{number}": f"https://github.com/{name}"}
    call(*copy, source.replace("template", str(template)), "project", cwd=tmp_path, env=clean_environment() | addresses)

    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    for readme in (made / name for name in READMES):
        found = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", readme.read_text(), flags=re.M))
        assert found.keys() == pages == set(re.findall(r"\]\[([\w-]+)\]", readme.read_text()))
        for page, link in found.items():
            assert re.fullmatch(rf"https://github.com/{repository}/blob/{expected}\w*/docs/{page}.md", link), link


# Every command


def without_seconds(text: str) -> str:
    return re.sub(r"\d+\.\d s\b", "", text)


def test_develop() -> None:
    *_, develop = blocks(ROOT / "README.md", "bash")
    clone, *_, test_command = develop.strip().split(" && ")
    assert clone == "git clone https://github.com/org/hydra-exp-template"
    assert f"\n{test_command} " in (ROOT / ".ci" / "run").read_text(), "CI runs the README's test command"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_of_the_template(template_repository: Path, person: dict[str, str], tmp_path: Path) -> None:
    """The first command on a machine without uv, then a day in the project that it made."""
    render, _, day, _ = blocks(ROOT / "README.md", "bash")
    printed = shell(render.replace(ADDRESS, str(template_repository)), tmp_path, person)
    [end] = blocks(ROOT / "README.md", "text")
    assert without_seconds(printed).endswith(without_seconds(end))
    run_commands(day, tmp_path / "myproj", person | {"WANDB_MODE": "disabled"})  # W&B takes seconds for each fold
    assert list(tmp_path.glob("myproj/output/submissions/*.csv"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_a_clone(template_repository: Path, person: dict[str, str], tmp_path: Path) -> None:
    """It renders the latest tag; and the project can be updated."""
    clone, made = tmp_path / "hydra-exp-template", tmp_path / "myproj"
    call("git", "clone", "-q", template_repository, clone, cwd=tmp_path)
    (clone / "template/added.md").write_text("new\n")
    commit_all(clone)
    _, render, _, _ = blocks(ROOT / "README.md", "bash")
    assert "CV accuracy" in shell(render, clone, person)
    assert not (made / "added.md").exists()
    commit_all(made)
    call("git", "tag", "v0.2.0", cwd=clone)
    shell("uvx copier update --defaults", made, person)
    assert (made / "added.md").read_text() == "new\n"


@pytest.fixture
def mine(project: Project, tmp_path: Path) -> Path:
    return quick_copy(project, tmp_path / "myproj")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_of_the_project(mine: Path, person_with_uv: dict[str, str]) -> None:
    printed = follow(all_blocks((mine / "README.md").read_text()), mine, person_with_uv)
    assert "batch_size: 16\n" in printed, "the parameter set of the README is shown"
    for run in ("baseline", "001-larger-lr", "002-larger-model", "003-smaller-batch", "003-smaller-batch,exp.seed=1"):
        assert (mine / "output/001-baseline" / run / "fold0/result.json").exists(), run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", ["AGENTS.md", ".claude/skills/experiment-setup/SKILL.md"])
def test_commands_for_agents(mine: Path, person_with_uv: dict[str, str], file: str) -> None:
    shell("uv run python experiments/001-baseline/train.py exp=001", mine, person_with_uv)
    for script in blocks(mine / file, "bash"):
        shell(script, mine, person_with_uv)
