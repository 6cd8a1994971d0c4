"""`copier update` brings the template's improvements and leaves every line of the user's where it was.

With the real command line, over tags of a real git repository; in between, the template changes the files that the user
changed.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Completed, call, clean_environment, clone_of, commit_all, copier
from copier import run_copy
from updates import YOURS, Files, append, files_of, prepare, release, status, unmerged

SHARED = "src/{{ shared_package }}"
BASELINE = "experiments/001-baseline"
BASELINES = "expkit/src/expkit/baselines/sklearn"  # whose files the template includes
LAUNCHERS = "conf/hydra/launcher"
LOCAL = f"{LAUNCHERS}/local.yaml"
READMES = ("README.md", "README.ja.md")
GUIDE = (ROOT / "docs/updating.md").read_text()
OLDEST_COPIER = yaml.safe_load((ROOT / "copier.yml").read_text())["_min_copier_version"]


def oldest_copier(*arguments: str | Path, cwd: Path, check: bool = True) -> Completed:
    """The oldest copier that copier.yml allows, from PyPI."""
    return call("uvx", "-q", f"copier@{OLDEST_COPIER}", *arguments, cwd=cwd, env=clean_environment(), check=check)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def replace(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.fixture
def template(template_repository: Path, tmp_path: Path) -> Path:
    """A template of one's own, with the release v0.1.0, to make another release of."""
    return clone_of(template_repository, tmp_path / "template")


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A project of it, committed."""
    run_copy(str(template), tmp_path / "project", data={"project_name": "My experiments"}, defaults=True, quiet=True)
    commit_all(tmp_path / "project")
    return tmp_path / "project"


# What the template has in v0.2.0, beside what it has in this working tree.
PRESETS = {f"{LAUNCHERS}/{name}.yaml": "# one\n# two\n# three\n# four\n" for name in ("edited", "deleted", "renamed")}
NOTEBOOKS = {f"notebooks/{name}.ipynb": "{}\n" for name in ("edited", "deleted", "untouched")}
IGNORED = {"output/001-baseline/baseline/fold0/result.json": "{}\n", "input/train.csv": "1\n", ".env": "A=1\n"}
# What lies above a project in a subdirectory.
OTHERS = dict.fromkeys(["README.md", "experiments/001-baseline/train.py", "conf/README.md"], "ours\n")


def change_everything(template: Path) -> None:
    """v0.3.0 of the template: changes, renames, removes and adds, above all in the files that the user touched."""
    tree = template / "template"
    append(template / BASELINES, "train.py", "config.yaml", "exp/001.yaml", "exp/002.yaml", line="# of the template")
    (tree / BASELINE / "model.py.jinja").rename(tree / BASELINE / "network.py.jinja")
    append(tree, *PRESETS, "tests/test_experiments.py", "input/README.md", line="# of the template")
    append(tree, "notebooks/edited.ipynb", "notebooks/deleted.ipynb", f"{SHARED}/__init__.py", line="# of the template")
    (tree / "notebooks/untouched.ipynb").unlink()
    write(tree, {"experiments/002-mine/train.py": "# of the template\n", "experiments/003-new/train.py": "# new\n"})
    write(tree, {"notebooks/added.ipynb": "[]\n", f"{SHARED}/features.py": "# of the template\n"})
    write(tree, {f"{LAUNCHERS}/both.yaml": "# of the template\n", f"{LAUNCHERS}/new.yaml": "# new\n"})
    replace(tree / "pyproject.toml.jinja", '"pytest>=8"', '"pytest>=8.3"')
    prepare(template, "0.3.0")


def work(folder: Path) -> None:
    """What a user does to a project: edit, delete, rename and add, in every folder."""
    baseline, launchers = folder / BASELINE, folder / LAUNCHERS
    append(baseline, "train.py", "model.py", "config.yaml", line="# mine")
    (baseline / "exp" / "002.yaml").unlink()
    (baseline / "exp" / "001.yaml").rename(baseline / "exp" / "010-mine.yaml")
    shutil.copytree(baseline, folder / "experiments" / "002-mine")
    shutil.copytree(baseline, folder / "experiments" / "004 größe [x] 'q' *")
    (folder / "experiments" / "figure.png").write_bytes(bytes(range(256)) * 20)
    append(folder, "notebooks/edited.ipynb", "input/README.md", "src/my_experiments/__init__.py", line="# mine")
    for name in ("notebooks/deleted.ipynb", "output/.gitkeep", f"{LAUNCHERS}/deleted.yaml"):
        (folder / name).unlink()
    launchers.joinpath("edited.yaml").write_text("# mine\n# two\n# three\n# four\n")
    launchers.joinpath("renamed.yaml").rename(launchers / "mine.yaml")
    texts = ("src/my_experiments/features.py", "src/my_experiments/deep/er.py", "notebooks/added.ipynb")
    presets = (f"{LAUNCHERS}/added.yaml", f"{LAUNCHERS}/both.yaml", "vendor/mine.txt", "docs/mine.md")
    write(folder, dict.fromkeys([*texts, *presets], "# mine\n"))
    for readme in (folder / name for name in READMES):
        replace(readme, "\n## ", "\n## My ")
        append(folder, readme.name, line="\n## Mine\n\nMy words.")
    call("uv", "add", "--frozen", "-q", "einops", "torch", cwd=folder)  # on both sides of the line of expkit


@pytest.fixture(
    scope="module",
    params=[
        (copier, "."),
        pytest.param((oldest_copier, "."), marks=pytest.mark.slow),
        pytest.param((copier, "teams/ml project"), marks=pytest.mark.slow),  # 9.15 brings deleted files back there
    ],
    ids=["newest copier", f"copier {OLDEST_COPIER}", "in a subdirectory"],
)
def updated(
    request: pytest.FixtureRequest, template_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Files]:
    """A project with a user's work in it after an update, and its files before."""
    program, place = request.param
    folder = tmp_path_factory.mktemp("update")
    template, repository = clone_of(template_repository, folder / "template"), folder / "repository"
    write(template / "template", PRESETS | NOTEBOOKS)
    release(template, "v0.2.0")
    project = repository / place
    project.mkdir(parents=True)
    program("copy", "--defaults", "--data", "project_name=My experiments", template, project, cwd=folder)
    if project != repository:
        write(repository, OTHERS)
    commit_all(repository)
    work(project)
    commit_all(repository)
    write(project, IGNORED)
    change_everything(template)
    release(template, "v0.3.0")
    before = files_of(project)
    done = program("update", "--defaults", cwd=project)
    assert "\n_commit: v0.3.0\n" in (project / ".copier-answers.yml").read_text()
    assert "experiments/, input/, output/, notebooks/ and your own packages in src/ are as they were" in done.stderr
    if project != repository:
        assert {name: (repository / name).read_text() for name in OTHERS} == OTHERS
    return project, before


def test_experiments_data_results_and_notebooks_are_as_they_were(updated: tuple[Path, Files]) -> None:
    project, before = updated
    yours = {name: content for name, content in before.items() if name.startswith(YOURS)}
    assert len(yours) > 20
    assert files_of(project, *YOURS) == yours
    gone = before.keys() - files_of(project).keys()
    assert all(name.startswith("vendor/expkit-") for name in gone), "no file is gone but the old wheel"


def test_shared_files_are_merged(updated: tuple[Path, Files]) -> None:
    project, before = updated
    launchers = {file.stem: file.read_text() for file in (project / LAUNCHERS).iterdir()}
    both = launchers.pop("both")
    own = {file.stem: file.read_text() for file in (ROOT / "template" / LAUNCHERS).iterdir()}
    assert launchers == own | {
        "edited": "# mine\n# two\n# three\n# four\n# of the template\n",
        "mine": "# one\n# two\n# three\n# four\n",  # it was renamed, and does not come back under its old name
        "added": "# mine\n",
        "new": "# new\n",
    }
    for name in READMES:
        links = before[name].replace(b"/v0.2.0/", b"/v0.3.0/")
        assert (project / name).read_bytes() == links != before[name], "headings and words of the user's stay"
    pyproject = (project / "pyproject.toml").read_text()
    assert '"einops"' in pyproject and '"pytest>=8.3"' in pyproject
    assert (project / "tests/test_experiments.py").read_text().endswith("# of the template\n")
    [wheel] = (project / "vendor").glob("*.whl")
    assert wheel.name not in before and f'"vendor/{wheel.name}"' in pyproject, "the old one is gone"
    for name in ("vendor/mine.txt", "docs/mine.md", ".env"):
        assert (project / name).read_bytes() == before[name]

    assert unmerged(project) == {f"{LAUNCHERS}/both.yaml"}, "the one file that both sides wrote"
    assert "# mine\n" in both and "# of the template\n" in both and both.startswith("<<<<<<< before updating\n")
    assert re.search(rf"^UU .*{LAUNCHERS}/both.yaml", status(project), re.M), "git calls it: both modified"


@pytest.mark.slow
def test_recopy_keeps_every_file_of_the_user(updated: tuple[Path, Files], tmp_path: Path) -> None:
    """It resets shared files, which is what it is for, and brings deleted ones back; it changes none of the user's."""
    project = Path(shutil.copytree(updated[0], tmp_path / "project"))
    commit_all(project)
    before = files_of(project)
    copier("recopy", "--defaults", "--overwrite", cwd=project)
    after = files_of(project)
    assert {name: after[name] for name in before if name.startswith(YOURS)} == files_of(updated[0], *YOURS)
    assert before.keys() <= after.keys()
    assert f"{BASELINE}/exp/002.yaml" in after and f"{LAUNCHERS}/deleted.yaml" in after
    assert b"einops" not in after["pyproject.toml"]


@pytest.mark.slow
def test_what_copier_says_and_leaves_is_in_the_guide(template: Path, project: Path) -> None:
    """When there are uncommitted files; when the release is an earlier one; in a conflict, which one command undoes."""
    append(template, "template/conf/README.md", line="v0.2.0")
    release(template, "v0.2.0")
    append(project, "conf/README.md", line="mine")
    dirty = copier("update", "--defaults", cwd=project, check=False)
    assert dirty.returncode != 0 and dirty.stderr.strip() in GUIDE
    commit_all(project)
    before = files_of(project)
    copier("update", "--defaults", cwd=project)
    assert unmerged(project) == {"conf/README.md"} and "UU conf/README.md" in status(project)
    for marker in ("<<<<<<< before updating\n", "=======\n", ">>>>>>> after updating\n"):
        assert marker in GUIDE and marker in (project / "conf/README.md").read_text()
    undo = re.search(r"`(git reset --hard && git clean -fd)`", GUIDE)
    assert undo
    call("bash", "-c", undo[1], cwd=project)
    assert files_of(project) == before
    copier("update", "--defaults", cwd=project)
    commit_all(project)
    back = copier("update", "--defaults", "--vcs-ref", "v0.1.0", cwd=project, check=False)
    assert back.returncode == 1 and f"`{back.stderr.strip()}`" in GUIDE
    assert f"`This template requires Copier version >= {OLDEST_COPIER}`" in GUIDE


@pytest.mark.slow
def test_an_answer_can_be_changed_later(template: Path, project: Path) -> None:
    """What an update cannot change, in the user's own experiments, is said; and only then."""
    (project / "src/my_experiments").rename(project / "src/mine")
    commit_all(project)
    experiments = files_of(project, "src", *YOURS)
    release(template, "v0.2.0")
    answers = {"wandb_project": "other", "project_name": "Another name", "n_folds": "10"}
    for question, answer in answers.items():
        done = copier("update", "--defaults", "--data", f"{question}={answer}", cwd=project)
        assert ("Existing experiments keep their n_folds" in done.stderr) is (question == "n_folds")
        commit_all(project)
    assert yaml.safe_load((project / ".copier-answers.yml").read_text()).items() >= answers.items()
    assert 'wandb_project = "other"' in (project / "pyproject.toml").read_text()
    assert (project / "README.md").read_text().startswith("# Another name\n")
    assert files_of(project, "src", *YOURS) == experiments, "neither is the user's package called otherwise"


THEIRS = {
    "README.md": "# Theirs\n",
    "pyproject.toml": '[project]\nname = "theirs"\nversion = "3"\nrequires-python = ">=3.11"\n',
    ".gitignore": "*.log",  # the last line does not end
    "experiments/001-baseline/train.py": "# theirs\n",
    "tests/test_experiments.py": "# theirs\n",
    "conf/README.md": "# theirs\n",
}


@pytest.mark.slow
def test_into_a_repository_that_exists(template: Path, tmp_path: Path) -> None:
    """The commands of docs/updating.md overwrite nothing; data and secrets stay out of git; later updates merge."""
    theirs = tmp_path / "theirs"
    write(theirs, THEIRS)
    commit_all(theirs)
    before = files_of(theirs)
    copying, ignoring, updating = re.findall(
        r"^(?:uvx copier (copy .*--skip .*) gh:\S+ \.|(printf .*gitignore)\n```|uvx copier (update .*--skip .*))$",
        GUIDE,
        flags=re.M,
    )
    done = copier(*shlex.split(copying[0]), template, ".", cwd=theirs)
    after = files_of(theirs)
    assert {name: after[name] for name in before} == before
    assert status(theirs).count("??") == len(status(theirs).splitlines()), "only new files"
    assert {"experiments/001-baseline/model.py", ".copier-answers.yml"} <= after.keys()
    assert f"\n    {ignoring[1]}\n" in done.stderr and GUIDE.count(ignoring[1]) == 2
    assert "exp docs updating" in done.stderr and "git init" not in done.stderr and "a day" not in done.stderr

    call("bash", "-c", ignoring[1], cwd=theirs)
    write(theirs, IGNORED | {"kaggle.json": "{}\n", "a.log": "", "input/sources.toml": ""})
    commit_all(theirs)
    tracked = set(call("git", "ls-files", cwd=theirs).stdout.splitlines())
    assert not tracked & {*IGNORED, "kaggle.json", "a.log"} and "input/sources.toml" in tracked
    before[".gitignore"] = (theirs / ".gitignore").read_bytes()

    append(template / "template", "README.md.jinja", ".gitignore", LOCAL, "conf/README.md", line="# of the template")
    append(template / BASELINES, "train.py", line="# of the template")
    release(template, "v0.2.0")
    copier(*shlex.split(updating[2]), cwd=theirs)
    updated = files_of(theirs)
    assert updated[LOCAL].endswith(b"# of the template\n")
    assert unmerged(theirs) == {"conf/README.md"}, "which the command does not name"
    assert {name: updated[name] for name in before if name != "conf/README.md"}.items() <= before.items()
    call("git", "reset", "-q", "--hard", cwd=theirs)
    copier("update", "--defaults", cwd=theirs)
    assert unmerged(theirs) == {"README.md", ".gitignore", "conf/README.md"}


@pytest.mark.slow
def test_the_template_has_moved(template: Path, project: Path) -> None:
    """One line of the answers leads to its new place, as docs/updating.md says; what was answered stays."""
    assert re.search(r"edit this one line and\s+commit: `_src_path: ", GUIDE)
    template = template.rename(template.with_name("moved"))
    append(template / "template", LOCAL, line="# of the template")
    release(template, "v0.2.0")
    answers = project / ".copier-answers.yml"
    answers.write_text(re.sub("^_src_path: .*", f"_src_path: {template}", answers.read_text(), flags=re.M))
    commit_all(project)
    copier("update", "--defaults", cwd=project)
    assert not unmerged(project) and (project / LOCAL).read_text().endswith("# of the template\n")
    assert yaml.safe_load(answers.read_text())["project_name"] == "My experiments"


@pytest.mark.slow
def test_the_library_alone_in_a_repository_that_exists(template_repository: Path, tmp_path: Path) -> None:
    """The five lines of the guide make a project with an experiment that trains; nothing but them is there."""
    part = GUIDE.partition("## In a repository that you have\n")[2]
    lines = part.split("```")[1].splitlines()[1:]
    assert len(lines) == 5
    write(tmp_path / "theirs", {"pyproject.toml": THEIRS["pyproject.toml"]})
    commit_all(tmp_path / "theirs")
    script = "\n".join(lines).replace(".../vendor", str(template_repository / "template/vendor"))
    train = "uv run python experiments/001-baseline/train.py 'exp.fold=[0,1]' && uv run exp board"
    environment = clean_environment() | {"WANDB_MODE": "disabled"}
    done = call("bash", "-euc", f"{script}\n{train}", cwd=tmp_path / "theirs", env=environment)
    assert "001-baseline/baseline" in done.stdout.splitlines()[-1]
    assert "?? output" not in status(tmp_path / "theirs")
