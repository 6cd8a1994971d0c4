"""What a release promises to the projects of every earlier one, and what makes a release."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, call, clean_environment, clone_of, commit_all, copier
from copier import run_copy
from updates import YOURS, append, files_of, prepare, release, replace, status, unmerged

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


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.removeprefix("v").split(".")))


def changelog() -> list[tuple[str, str]]:
    """(version, date) of each section, the newest first."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)


def test_the_changelog_has_every_release() -> None:
    headings = re.findall(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    sections = changelog()
    assert headings == ["## [Unreleased]", *(f"## [{number}] - {date}" for number, date in sections)]
    assert sections == sorted(sections, key=lambda section: (section[1], version(section[0])), reverse=True)
    assert {tag.removeprefix("v") for tag in releases_of(ROOT)} <= dict(sections).keys()
    kinds = re.findall(r"^### (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert kinds == ["Added"] or releases_of(ROOT), "before the first release, nothing changes for anybody"


@pytest.fixture
def checkout(template_repository: Path, tmp_path: Path) -> Path:
    """A clone without a release."""
    folder = clone_of(template_repository, tmp_path / "checkout")
    call("git", "tag", "-d", "v0.1.0", cwd=folder)
    return folder


def test_the_text_of_a_release_is_its_section(checkout: Path) -> None:
    """The script that release.yml runs; and everything that is wrong before a tag is a line of its own."""
    assert '.ci/release-notes "$GITHUB_REF_NAME" >' in (ROOT / ".github/workflows/release.yml").read_text()
    replace(checkout / "CHANGELOG.md", r"^## \[Unreleased\]\n", r"\g<0>\n- a line\n")
    unreleased = re.split(r"^## .*$", (checkout / "CHANGELOG.md").read_text(), flags=re.M)[1]
    prepare(checkout, "7.8.9")
    assert call(".ci/release-notes", "v7.8.9", cwd=checkout).stdout.strip() == unreleased.strip()
    for name, old, new, complaint in (
        ("pyproject.toml", "^version = .*", 'version = "7.8.8"', "but the version in pyproject.toml is 7.8.8"),
        ("CITATION.cff", "^version: .*", "version: 7.8.8", "but the version in CITATION.cff is 7.8.8"),
        ("CHANGELOG.md", r"^## \[Unreleased\]\n", r"\g<0>\n- a change\n", '"Unreleased" in CHANGELOG.md is not empty'),
        ("CHANGELOG.md", r"^## \[7.8.9\] .*", "## [7.8.9]", 'must be "## [7.8.9] - YYYY-MM-DD"'),
        (
            "docs/python.md",
            "^# .*",
            "# Python, in other words",
            "must hold expkit-7.8.9-py3-none-any.whl of these sources",
        ),
        ("includes/expkit_version.jinja", ".*", "7.8.8", "but the version in includes/expkit_version.jinja is 7.8.8"),
    ):
        before = (checkout / name).read_text()
        replace(checkout / name, old, new)
        done = call(".ci/release-notes", "v7.8.9", cwd=checkout, check=False)
        assert done.returncode == 1 and not done.stdout and complaint in done.stderr, (complaint, done)
        (checkout / name).write_text(before)
    done = call(".ci/release-notes", "v7.9.0", cwd=checkout, check=False)
    assert done.stderr.count("\nerror: ") == 4, "four versions, and the heading"
    assert (
        "v7.9, as" not in done.stderr
        and "a tag is vX.Y.Z" in call(".ci/release-notes", "v7.9", cwd=checkout, check=False).stderr
    )


def wheels_that_changed(repository: Path) -> list[str]:
    """Releases whose wheel is here with other bytes under the same name: the lock of a project would refuse it."""
    here = {wheel.name: wheel for wheel in (repository / "template/vendor").glob("*.whl")}
    found = []
    for tag in releases_of(repository):
        listed = call("git", "ls-tree", "-r", tag, "--", "template/vendor", cwd=repository).stdout.splitlines()
        then = {line.rpartition("/")[2]: line.split()[2] for line in listed}
        same = [here[name] for name in then if name in here]
        if same and call("git", "hash-object", same[0], cwd=repository).stdout.strip() != then[same[0].name]:
            found.append(tag)
    return found


def test_a_version_of_the_wheel_is_one_wheel() -> None:
    """After a release, `version` in expkit/pyproject.toml is that of the next one, with .dev0."""
    assert wheels_that_changed(ROOT) == []


@pytest.mark.slow
def test_a_release_and_the_next(checkout: Path, project: Project, tmp_path: Path) -> None:
    """As CONTRIBUTING.md says to make them; a project of the first takes the wheel of the second, and its runs stay."""
    prepare(checkout, "0.1.0")
    release(checkout, "v0.1.0")
    folder = tmp_path / "myproj"
    copier("copy", "--defaults", checkout, folder, cwd=tmp_path)
    environment = clean_environment() | {"HOME": str(project.home), "WANDB_MODE": "disabled"}
    environment["UV_CACHE_DIR"] = call("uv", "cache", "dir", cwd=tmp_path).stdout.strip()
    train = ["uv", "run", "-q", "python", "experiments/001-baseline/train.py"]
    shown = ["uv", "run", "-q", "python", "-c", "import importlib.metadata as m; print(m.version('expkit'))"]
    trained = call(*train, cwd=folder, env=environment).stdout
    assert call(*shown, cwd=folder, env=environment).stdout == "0.1.0\n"
    commit_all(folder)

    append(checkout / "expkit/src/expkit", "errors.py", line="# of the next release")
    call(".ci/build-wheel", cwd=checkout)
    assert wheels_that_changed(checkout) == ["v0.1.0"], "this is what must not be"
    prepare(checkout, "0.1.1")
    assert wheels_that_changed(checkout) == []
    release(checkout, "v0.1.1")
    copier("update", "--defaults", cwd=folder)
    assert not unmerged(folder)
    assert [wheel.name for wheel in (folder / "vendor").glob("*")] == ["expkit-0.1.1-py3-none-any.whl"]
    again = call(*train, cwd=folder, env=environment).stdout
    assert call(*shown, cwd=folder, env=environment).stdout == "0.1.1\n"
    assert "fold 0 is done" in again and trained.splitlines()[-2:] == again.splitlines()[-2:]


def test_the_workflows_are_valid_and_safe() -> None:
    """By zizmor, without a network; and only the job that publishes can prove to PyPI who it is."""
    call("zizmor", "--offline", "--quiet", "--persona=pedantic", ".github", "template/.github", cwd=ROOT)
    workflows = [file for part in (".", "template") for file in (ROOT / part / ".github/workflows").glob("*.yml")]
    call("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows, cwd=ROOT)
    call("check-jsonschema", "--builtin-schema", "vendor.citation-file-format", "CITATION.cff", cwd=ROOT)
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["pypi"]
    assert (jobs["pypi"]["if"], jobs["pypi"]["environment"]) == ("vars.PUBLISH_TO_PYPI == 'true'", "pypi")


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
