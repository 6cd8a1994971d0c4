"""The pages in docs/: their commands run as they stand, their links lead somewhere, and they are short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, Project
from documents import FENCED, all_blocks, blocks, broken_links, follow, messages_not_printed, person, quick_copy

__all__ = ["person"]  # a fixture
PAGES = sorted((ROOT / "docs").glob("*.md"))
TRANSLATED = sorted((ROOT / "docs/ja").glob("*.md"))
FOLLOWED = ("your-own-data.md", "tasks.md", "trainers.md", "kaggle.md")  # by tests of their own
OTHERS = [page for page in PAGES if page.name not in FOLLOWED]
# results.md has every mark, commands.md every key, troubleshooting.md every line; nobody reads them from the top.
WORDS = {
    "many-runs.md": 1060,
    "commands.md": 1175,
    "cluster.md": 1630,
    "your-own-data.md": 1580,  # of code, mostly: dates and cells that are no numbers take a few lines
    "tasks.md": 1400,
    "results.md": 1275,
    "long-training.md": 1450,
    "troubleshooting.md": 1150,
}


BASELINES = sorted((ROOT / "expkit/src/expkit/baselines").glob("*/train.py"))


def name(page: Path) -> str:
    return page.name


def is_part(block: str, code: str) -> bool:
    """Whether the lines of a block stand in some code, in their order, but for comments."""
    lines, rest = ([line.split("#")[0].strip() for line in text.splitlines()] for text in (block, code))
    there = iter(rest)
    return all(line in there for line in filter(None, lines))


def test_the_guides_for_trainers_are_short() -> None:
    """About 20 lines of `train` for the fold and the trainer, and a few for the data and the network."""
    guides = [code for code in blocks(ROOT / "docs/trainers.md", "python") if "def train(" in code]
    lengths = [len(re.findall(r"^ *\S", code.partition("\n")[2], flags=re.M)) for code in guides]
    assert len(lengths) == 6 and max(lengths) <= 27


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", OTHERS, ids=name)
def test_commands(
    project: Project, template_repository: Path, person: dict[str, str], tmp_path: Path, page: Path
) -> None:
    """In a new clone of a project, from the first block to the last."""
    folder = quick_copy(project, tmp_path / "myproj")
    follow(all_blocks(page.read_text()), folder, person, template_repository)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_short_and_true(page: Path) -> None:
    """A block of "py" shows lines of a baseline, in their order; what is printed is what we print."""
    words = re.findall(r"\S*\w\S*", page.read_text())  # the lines of a table are none
    assert len(words) <= WORDS.get(page.name, 1000)
    for block in blocks(page, "py"):
        assert any(is_part(block, baseline.read_text()) for baseline in BASELINES), block
    assert messages_not_printed(page, ROOT / "expkit") == []


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATED, *sorted(ROOT.glob("*.md"))], ids=name)
def test_links(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_says_the_same(page: Path) -> None:
    """All but the prose and the comments: what is true of the English page, which other tests follow, is true of it."""
    ours, theirs = page.read_text(), (ROOT / "docs" / page.name).read_text()
    code = [[(language, without_comments(block)) for language, block in all_blocks(text)] for text in (ours, theirs)]
    assert code[0] == code[1] and len(code[0]) > 5
    told = [re.findall(r"^(#+) |^\| (`[^|]*`) \|", FENCED.sub("", text), flags=re.M) for text in (ours, theirs)]
    assert told[0] == told[1], "the headings, and the messages in tables"
    linked = [sorted(re.findall(r"\]\((?:\.\./)?(\w[^)]*)\)", text)) for text in (ours, theirs)]
    assert [one for one in linked[0] if one != page.name] == [one for one in linked[1] if one != f"ja/{page.name}"]
    assert len(re.findall("[ぁ-ん]", ours)) > 300


def without_comments(block: str) -> str:
    """A block without comments, but for a line that names a file."""
    return re.sub(r"( +|^)# (?!\S+\.\w+$).*", "", block, flags=re.M)


def test_mistakes_of_a_page_are_found(tmp_path: Path) -> None:
    """A message that is never printed, and links that lead nowhere."""
    (tmp_path / "code.py").write_text('raise Error(f"the file that is read, {file}, has {n} rows, " "and needs two")\n')
    (tmp_path / "other.md").write_text("# Its title\n\n## What's `exp` for? (a note)\n")
    page, said = tmp_path / "page.md", "error: the file that is read, a.csv, has 1 rows, and needs"
    page.write_text(
        "# Page\n[a](other.md) [b](other.md#whats-exp-for-a-note) [c](#page) [d](https://example.com/x)\n"
        "`[code](none.md)` [e](gone.md) [f](other.md#gone) [g](#gone)\n"
        f"```text\n[h](none.md)\n# No heading\n{said} two\n{said} three\n{said} …\n```\n"
    )
    assert broken_links(page) == ["gone.md", "other.md#gone", "#gone"]
    assert messages_not_printed(page, tmp_path) == [f"{said} three"]
