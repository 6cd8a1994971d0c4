"""The READMEs: short, the same in two languages, their links lead to pages, and every command runs as it stands."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import copier
import pytest
import yaml
from conftest import GIT, ROOT, Project, call, clean_environment, commit_all
from documents import all_blocks, blocks, broken_links, follow, person, person_with_uv, quick_copy, run_commands, shell

__all__ = ["person", "person_with_uv"]  # the fixtures
READMES = ["README.md", "README.ja.md"]
ADDRESS = "gh:org/hydra-exp-template"
PEERS = ["cookiecutter-data-science", "DVC", "Hydra", "Kedro", "lightning-hydra-template", "MLflow", "W&B"]


@pytest.fixture(scope="module", params=["the template", "sklearn", "torch", "lightgbm"])
def folder(request: pytest.FixtureRequest, template_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where READMEs lie: this repository, or a project."""
    if request.param == "the template":
        return ROOT
    made = tmp_path_factory.mktemp("words") / "project"
    data = {"framework": request.param}
    copier.run_copy(str(template_repository), made, data=data, defaults=True, quiet=True)
    return made


def test_short(folder: Path) -> None:
    assert len((folder / "README.md").read_text().split()) <= 700


def test_links_between_files(folder: Path) -> None:
    assert [broken_links(folder / name) for name in READMES] == [[], []]


# The Japanese one says the same


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


def test_in_japanese(folder: Path) -> None:
    english, japanese = (folder / name for name in READMES)
    assert commands(japanese) == commands(english) and len(commands(english)) >= 10
    for language in ("text", "yaml"):
        assert blocks(japanese, language) == blocks(english, language)
    assert table_rows(japanese) == table_rows(english) and len(table_rows(english)) >= 10
    assert sorted(links(japanese)) == sorted(links(english)) and len(links(english)) >= 10
    assert len(re.findall("[ぁ-ん]", japanese.read_text())) > 300, "the prose is Japanese"


def test_ten_rows_name_peers() -> None:
    rows = table_rows(ROOT / "README.md")[2:]
    assert len(rows) == 10 and all(peers for _, _, _, peers, _ in rows)
    assert [better for *_, better in rows if better], "where a peer is better, it says so"


def test_the_runs_that_are_named_exist(folder: Path) -> None:
    sets = "expkit/src/expkit/baselines/sklearn/exp/*.yaml" if folder == ROOT else "experiments/001-baseline/exp/*.yaml"
    names = {yaml.safe_load(file.read_text())["name"] for file in folder.glob(sets)}
    for subcommand, count in (("diff", 2), ("note", 1), ("submit", 1)):
        [line] = [line for line in commands(folder / "README.md") if f"exp {subcommand} " in line]
        assert set(line.split()[4 : 4 + count]) <= names, line


# A project links to the guides of its own version


def guides(readme: Path) -> dict[str, str]:
    return dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", readme.read_text(), flags=re.M))


@pytest.mark.parametrize(
    ("source", "history", "repository"),
    [
        ("gh:other/my.fork", "a tag", "other/my.fork"),
        ("https://github.com/other/my.fork", "a tag", "other/my.fork"),
        ("https://github.com/other/my.fork.git", "a commit after a tag", "other/my.fork"),
        ("template", "no tag", "org/hydra-exp-template"),
        ("template", "no git", "org/hydra-exp-template"),
    ],
)
def test_guides(template_repository: Path, tmp_path: Path, source: str, history: str, repository: str) -> None:
    template, made = tmp_path / "template", tmp_path / "project"
    call("git", "clone", "-q", template_repository, template, cwd=tmp_path)
    if history == "a commit after a tag":
        call(*GIT, "commit", "-q", "--allow-empty", "-m", "fix: more", cwd=template)
    if history == "no tag":
        call("git", "tag", "-d", "v0.1.0", cwd=template)
    commit = call("git", "rev-parse", "HEAD", cwd=template).stdout.strip()
    if history == "no git":
        shutil.rmtree(template / ".git")
    addresses = {"GIT_CONFIG_COUNT": "2"}  # git finds on this machine what is on GitHub
    for number, name in enumerate(["other/my.fork.git", "other/my.fork"]):
        addresses |= {f"GIT_CONFIG_KEY_{number}": f"url.{template}.insteadOf"}
        addresses |= {f"GIT_CONFIG_VALUE_{number}": f"https://github.com/{name}"}
    ref = ["--vcs-ref", "HEAD"] if history == "a commit after a tag" else []
    source = str(template) if source == "template" else source
    copy = [sys.executable, "-m", "copier", "copy", "-q", "--defaults", *ref, source, "project"]
    call(*copy, cwd=tmp_path, env=clean_environment() | addresses)

    expected = {"a tag": "v0.1.0", "no git": "main"}.get(history, commit[:7])
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    for name in READMES:
        found = guides(made / name)
        assert found.keys() == pages == set(re.findall(r"\]\[([\w-]+)\]", (made / name).read_text()))
        for page, link in found.items():
            assert re.fullmatch(rf"https://github.com/{repository}/blob/{expected}\w*/docs/{page}.md", link), link


def test_every_guide_is_linked() -> None:
    for name in READMES:
        pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
        assert pages == {link for link in links(ROOT / name) if link.startswith("docs/") and link.endswith(".md")}


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
@pytest.mark.parametrize("tagged", [True, False], ids=["tag", "no tag"])
def test_from_a_clone(template_repository: Path, person: dict[str, str], tmp_path: Path, tagged: bool) -> None:
    """It renders the latest tag, or else what is there; and the project can be updated."""
    clone, made = tmp_path / "hydra-exp-template", tmp_path / "myproj"
    call("git", "clone", "-q", template_repository, clone, cwd=tmp_path)
    if not tagged:
        call("git", "tag", "-d", "v0.1.0", cwd=clone)
    (clone / "template/added.md").write_text("new\n")
    commit_all(clone)
    _, render, _, _ = blocks(ROOT / "README.md", "bash")
    if not tagged:
        render = render.rpartition(" && uv run ")[0]
    assert ("CV accuracy" in shell(render, clone, person)) is tagged
    assert (made / "added.md").exists() is not tagged

    commit_all(made)
    (clone / "template/added.md").write_text("newer\n")
    commit_all(clone)
    call("git", "tag", "v0.2.0", cwd=clone)
    shell("uvx copier update --defaults", made, person)
    assert (made / "added.md").read_text() == "newer\n"


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
