"""Notes on runs: they outlive the runs, merge, and are shown wherever a run is."""

from __future__ import annotations

import shutil
from pathlib import Path

from conftest import call, commit_all

from expkit.notes import add_note, read_notes


def test_branches_that_both_note_merge_by_themselves(tmp_path: Path, template_repository: Path) -> None:
    shutil.copy(template_repository / "template/.gitattributes", tmp_path)
    add_note("001-one/a", {"text": "before"}, tmp_path / "notes")
    commit_all(tmp_path)
    call("git", "checkout", "-qb", "other", cwd=tmp_path)
    add_note("001-one/a", {"text": "there"}, tmp_path / "notes")
    commit_all(tmp_path)
    call("git", "checkout", "-q", "main", cwd=tmp_path)
    add_note("001-one/a", {"text": "here", "verdict": "kept"}, tmp_path / "notes")
    commit_all(tmp_path)
    call("git", "-c", "user.name=a", "-c", "user.email=a@b", "merge", "-q", "other", cwd=tmp_path)
    lines = read_notes(tmp_path / "notes")["001-one/a"].lines
    assert [line["text"] for line in lines] == ["before", "there", "here"], "by their time"
