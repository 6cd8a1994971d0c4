"""What a release promises to the projects of every earlier one, and what makes a release."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, call, clean_environment, commit_all, copier
from copier import run_copy
from updates import YOURS, append, files_of, status, unmerged

from expkit import store

# The extremes of what is allowed: what a release accepts, every later one must accept.
ANSWERS = {
    "project_name": "{{ 7 * 7 }} 🎉 \"'\\ ".ljust(100, "x"),
    "wandb_project": "$(x) ~ ".ljust(128, "y"),
    "n_folds": "100",
}
NEXT = "v9999.0.0"  # the working tree, newer than any release
RUNS = (["show_config=true"], ["exp.debug=true", "exp.mode=sub"], ["exp=001", "exp.train.epoch=2"])
COMMITS = 5  # of so many recent ones the first that renders stands in for a release, until there is one


def releases_of(repository: Path) -> list[str]:
    return call("git", "tag", "--list", "v[0-9]*", "--sort=v:refname", cwd=repository).stdout.split()


@dataclass(frozen=True)
class Releases:
    """A clone of this repository: its releases, and the working tree as the next one."""

    template: Path
    tags: list[str]


@pytest.fixture(scope="module")
def releases(template_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Until the first release, the last commit that changed the template counts as one, if it renders."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git repository: there is no history to update from")
    folder = tmp_path_factory.mktemp("releases")
    template = folder / "template"
    call("git", "clone", "-q", ROOT, template, cwd=folder)
    tags = releases_of(template)
    if not tags:
        commits = call("git", "log", "--format=%H", "--", "template", "copier.yml", cwd=template).stdout.split()
        for number, commit in enumerate(commits[:COMMITS]):
            tag = f"v0.0.{COMMITS - number}"
            call("git", "tag", tag, commit, cwd=template)
            arguments = ["copy", "-q", "--defaults", "--vcs-ref", tag, template, folder / tag]
            if copier(*arguments, cwd=folder, check=False).returncode == 0:
                tags.append(tag)
                break
    call("git", "rm", "-rq", ".", cwd=template)
    shutil.copytree(template_repository, template, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    commit_all(template)
    call("git", "tag", NEXT, cwd=template)
    assert tags
    return Releases(template, tags)


@pytest.mark.slow
def test_projects_of_every_release(releases: Releases, project: Project, tmp_path: Path) -> None:
    """An untouched one becomes a fresh copy without a conflict, but for what is the user's; its experiments run.

    The answers are those of the first time. No shared file is gone: copier would remove it, edited or not. No date, no
    random value, no name of the folder is in a copy.
    """
    run_copy(str(releases.template), tmp_path / "fresh", data=ANSWERS, defaults=True, quiet=True)
    fresh = {name: text for name, text in files_of(tmp_path / "fresh").items() if not name.startswith(YOURS)}
    for tag in releases.tags:
        folder = tmp_path / tag
        run_copy(str(releases.template), folder, data=ANSWERS, vcs_ref=tag, defaults=True, quiet=True)
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
    trains = sorted((folder / "experiments").glob("*/train.py"))
    assert trains
    environment = project.environment(EXPKIT_ROOT=str(folder), PYTHONPATH=str(folder / "src"), WANDB_MODE="disabled")
    for train in trains:
        for arguments in RUNS:
            call(project.python, train, *arguments, cwd=folder, env=environment)
        [run] = (store.read_run(each) for each in store.run_folders(folder / "output"))
        assert run.name.startswith("001") and run.score_of() is not None and not run.problems
        assert list((folder / "output/debug" / train.parent.name).rglob("submission.csv"))
        shutil.rmtree(folder / "output")


def exported(stub: str) -> set[str]:
    """The public names in `expkit/__init__.pyi`."""
    return set(re.findall(r"^from \S+ import (\w+)", stub, flags=re.M))


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.removeprefix("v").split(".")))


def test_public_names_are_listed_with_the_release_that_introduced_them(releases: Releases) -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (\d+\.\d+\.\d+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M))
    package = "expkit/src/expkit/__init__.pyi"
    assert listed.keys() == exported((ROOT / package).read_text()), "the table in CONTRIBUTING.md and expkit.__all__"
    for file in (ROOT / "expkit/src/expkit/baselines").rglob("*.py"):
        assert set(re.findall(r"\bexpkit\.(\w+)", file.read_text())) <= listed.keys(), file

    this = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert max(map(version, listed.values())) <= version(this)
    for tag in releases_of(ROOT):
        then = exported(call("git", "show", f"{tag}:{package}", cwd=releases.template).stdout)
        assert then == {name for name, since in listed.items() if version(since) <= version(tag)}, tag


def changelog() -> list[tuple[str, str]]:
    """(version, date) of each section, the newest first."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)


def test_changelog_version_and_tags_agree() -> None:
    headings = re.findall(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    sections = changelog()
    assert headings == ["## [Unreleased]", *(f"## [{number}] - {date}" for number, date in sections)]
    numbers = [number for number, _ in sections]
    assert numbers == sorted(numbers, key=version, reverse=True)
    dates = [date for _, date in sections]
    assert dates == sorted(dates, reverse=True)
    assert numbers[0] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert numbers[-1] == "0.1.0"
    if (ROOT / ".git").exists():
        assert {tag.removeprefix("v") for tag in releases_of(ROOT)} <= set(numbers)


@pytest.fixture
def checkout(template_repository: Path, tmp_path: Path) -> Path:
    call("git", "clone", "-q", template_repository, tmp_path / "checkout", cwd=tmp_path)
    return tmp_path / "checkout"


def test_the_text_of_a_release_is_its_section(checkout: Path) -> None:
    """The script that release.yml runs; and it stops where the three do not agree."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert workflow["jobs"]["release"]["steps"][1]["run"].startswith('.ci/release-notes "$GITHUB_REF_NAME" >')
    file, [(number, date), *_] = checkout / "CHANGELOG.md", changelog()
    head, _, released = file.read_text().partition(f"## [{number}] - {date}\n")
    unreleased = head.partition("## [Unreleased]\n")
    file.write_text("".join(unreleased[:2]) + f"\n## [{number}] - {date}\n" + released)
    notes = call(".ci/release-notes", f"v{number}", cwd=checkout).stdout
    assert notes.strip() == released.split("\n## ")[0].strip()
    assert notes.strip()

    def complaint(tag: str) -> str:
        done = call(".ci/release-notes", tag, cwd=checkout, check=False)
        assert done.returncode == 1 and not done.stdout and len(done.stderr.splitlines()) == 1
        return done.stderr

    assert f"but the version in pyproject.toml is {number}" in complaint("v0.0.1")
    good = file.read_text()
    file.write_text(good.replace("## [Unreleased]\n", "## [Unreleased]\n\n- a change\n", 1))
    assert "is not empty" in complaint(f"v{number}")
    file.write_text(good.replace(f"## [{number}] - {date}", f"## [{number}]", 1))
    assert f"## [{number}] - YYYY-MM-DD" in complaint(f"v{number}")


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
