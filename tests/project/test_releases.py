"""What a release promises to the projects of every earlier one, and what makes a release."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, call, clean_environment, clone_of, commit_all, copier
from copier import run_copy
from updates import YOURS, append, files_of, release, status, unmerged

from expkit import store

# The extremes of what is allowed: what a release accepts, every later one must accept.
ANSWERS = {
    "project_name": "{{ 7 * 7 }} 🎉 \"'\\ ".ljust(100, "x"),
    "wandb_project": "$(x) ~ ".ljust(128, "y"),
    "n_folds": "100",
}
NEXT = "v9999.0.0"  # the working tree, newer than any release
RUNS = (["show_config=true"], ["exp.debug=true", "exp.mode=sub"], ["exp=001", "exp.train.epochs=2"])


def releases_of(repository: Path) -> list[str]:
    return call("git", "tag", "--list", "v[0-9]*", "--sort=v:refname", cwd=repository).stdout.split()


@pytest.fixture
def releases(template_repository: Path, tmp_path: Path) -> Path:
    """A clone of this repository with the working tree as the next release.

    Until there is a release, the last commit that changed the template counts as one.
    """
    template = clone_of(ROOT, tmp_path / "template")
    if not releases_of(template):
        last = call("git", "log", "-1", "--format=%H", "--", "template", "copier.yml", cwd=template).stdout.strip()
        call("git", "tag", "v0.0.1", last, cwd=template)
    call("git", "rm", "-rq", ".", cwd=template)
    shutil.copytree(template_repository, template, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    release(template, NEXT)
    return template


@pytest.mark.slow
def test_projects_of_every_release(releases: Path, project: Project, tmp_path: Path) -> None:
    """An untouched one becomes a fresh copy without a conflict, but for what is the user's; its experiments run.

    The answers are those of the first time. No shared file is gone: copier would remove it, edited or not. No date, no
    random value, no name of the folder is in a copy.
    """
    run_copy(str(releases), tmp_path / "fresh", data=ANSWERS, defaults=True, quiet=True)
    fresh = {name: text for name, text in files_of(tmp_path / "fresh").items() if not name.startswith(YOURS)}
    for tag in releases_of(releases)[:-1]:
        folder = tmp_path / tag
        run_copy(str(releases), folder, data=ANSWERS, vcs_ref=tag, defaults=True, quiet=True)
        commit_all(folder)
        before = files_of(folder)
        copier("update", "--defaults", cwd=folder)
        after = files_of(folder)
        assert after == fresh | {name: text for name, text in before.items() if name.startswith(YOURS)}, tag
        assert not unmerged(folder)
        remembered = yaml.safe_load((folder / ".copier-answers.yml").read_text(encoding="utf-8"))
        assert remembered.items() >= ANSWERS.items()
        shared = {name for name in before if not name.startswith((*YOURS, "vendor/", "tests/"))}
        assert shared <= after.keys(), f"since {tag}"
        assert_experiments_run(folder, project)


def assert_experiments_run(folder: Path, project: Project) -> None:
    """Under the newest expkit: shown, debugged, trained, and predicting the test set."""
    environment = project.environment(EXPKIT_ROOT=str(folder), PYTHONPATH=str(folder / "src"), WANDB_MODE="disabled")
    for arguments in RUNS:
        call(project.python, "experiments/001-baseline/train.py", *arguments, cwd=folder, env=environment)
    [run] = (store.read_run(each) for each in store.run_folders(folder / "output"))
    assert run.name.startswith("001") and run.score_of() is not None and not run.problems
    assert list((folder / "output/debug/001-baseline").rglob("submission.csv"))


def exported(stub: str) -> set[str]:
    """The public names in `expkit/__init__.pyi`."""
    return set(re.findall(r"^from \S+ import (\w+)", stub, flags=re.M))


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.removeprefix("v").split(".")))


def test_public_names_are_listed_with_the_release_that_introduced_them() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (\d+\.\d+\.\d+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M))
    package = "expkit/src/expkit/__init__.pyi"
    assert listed.keys() == exported((ROOT / package).read_text()), "the table in CONTRIBUTING.md and expkit.__all__"
    assert max(map(version, listed.values())) <= version(changelog()[0][0])
    for tag in releases_of(ROOT):
        then = exported(call("git", "show", f"{tag}:{package}", cwd=ROOT).stdout)
        assert then == {name for name, since in listed.items() if version(since) <= version(tag)}, tag


def changelog() -> list[tuple[str, str]]:
    """(version, date) of each section, the newest first."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)


def test_the_changelog_has_every_release() -> None:
    headings = re.findall(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    sections = changelog()
    assert headings == ["## [Unreleased]", *(f"## [{number}] - {date}" for number, date in sections)]
    assert sections == sorted(sections, key=lambda section: (section[1], version(section[0])), reverse=True)
    assert {tag.removeprefix("v") for tag in releases_of(ROOT)} <= dict(sections).keys()


@pytest.fixture
def checkout(template_repository: Path, tmp_path: Path) -> Path:
    return clone_of(template_repository, tmp_path / "checkout")


def test_the_text_of_a_release_is_its_section(checkout: Path) -> None:
    """The script that release.yml runs; and it stops where the three do not agree."""
    assert '.ci/release-notes "$GITHUB_REF_NAME" >' in (ROOT / ".github/workflows/release.yml").read_text()
    file, [(number, date), *_] = checkout / "CHANGELOG.md", changelog()
    heading = f"## [{number}] - {date}\n"
    released = file.read_text().partition(heading)[2]
    good = f"# Changelog\n\n## [Unreleased]\n\n{heading}{released}"
    file.write_text(good)
    notes = call(".ci/release-notes", f"v{number}", cwd=checkout).stdout.strip()
    assert notes and notes == released.split("\n## ")[0].strip()
    for tag, text, complaint in (
        ("v0.0.1", good, f"but the version in pyproject.toml is {number}"),
        (f"v{number}", good.replace("[Unreleased]\n", "[Unreleased]\n\n- a change\n"), "is not empty"),
        (f"v{number}", good.replace(heading, f"## [{number}]\n"), f"## [{number}] - YYYY-MM-DD"),
    ):
        file.write_text(text)
        done = call(".ci/release-notes", tag, cwd=checkout, check=False)
        assert done.returncode == 1 and not done.stdout and complaint in done.stderr


@pytest.mark.slow
def test_a_change_is_tried_in_one_command(checkout: Path, tmp_path: Path) -> None:
    """That of CONTRIBUTING.md; what is not committed counts, and what is wrong shows."""
    [command] = re.findall(r"^```bash\n(.*)\n```$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    append(checkout / "template", "tests/test_experiments.py", line="\n\ndef test_tried() -> None:\n    assert 1 == 2")
    done = call("bash", "-c", command, cwd=checkout, env=environment, check=False)
    assert done.returncode != 0
    assert "1 failed, 5 passed" in done.stdout
    assert status(checkout) == " M template/tests/test_experiments.py\n", "the working tree is left as it was"
