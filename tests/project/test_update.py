"""`copier update` brings the template's improvements and leaves every line of the user's where it was.

With the real command line, over tags of a real git repository; in between, the template changes the files that the user
changed.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Completed, call, clean_environment, commit_all, copier
from copier import run_copy
from updates import YOURS, Files, append, files_of, release, status, unmerged

SHARED = "src/{{ shared_package }}"
BASELINE = "experiments/001-baseline"
IN_TEMPLATE = "experiments/001-baseline"
BASELINES = "expkit/src/expkit/baselines/sklearn"  # whose files the template includes
LAUNCHERS = "conf/hydra/launcher"
GUIDE = (ROOT / "docs/updating.md").read_text()
OLDEST_COPIER = yaml.safe_load((ROOT / "copier.yml").read_text())["_min_copier_version"]

Copier = Callable[..., Completed]


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


def answers_of(folder: Path) -> dict[str, object]:
    answers = yaml.safe_load((folder / ".copier-answers.yml").read_text())
    assert isinstance(answers, dict)
    return answers


@pytest.fixture
def template(template_repository: Path, tmp_path: Path) -> Path:
    """A template of one's own, with the release v0.1.0, to make another release of."""
    call("git", "clone", "-q", template_repository, tmp_path / "template", cwd=tmp_path)
    return tmp_path / "template"


def render(template: Path, folder: Path, **answers: object) -> Path:
    """A project, committed."""
    run_copy(str(template), folder, data=answers, defaults=True, quiet=True)
    commit_all(folder)
    return folder


# What the template has in v0.2.0, beside what it has in this working tree.
PRESETS = {f"{LAUNCHERS}/{name}.yaml": "# one\n# two\n# three\n# four\n" for name in ("edited", "deleted", "renamed")}
NOTEBOOKS = {f"notebooks/{name}.ipynb": "{}\n" for name in ("edited", "deleted", "renamed", "untouched")}


def change_everything(template: Path) -> None:
    """v0.3.0 of the template: changes, renames, removes and adds, above all in the files that the user touched."""
    tree = template / "template"
    baseline = ("train.py", "config.yaml", "exp/001.yaml", "exp/002.yaml")
    append(template / BASELINES, *baseline, line="# of the template")
    append(tree, "input/README.md", line="# of the template")
    (tree / IN_TEMPLATE / "model.py.jinja").rename(tree / IN_TEMPLATE / "network.py.jinja")
    write(tree, {"experiments/002-mine/train.py": "# of the template\n", "experiments/003-new/train.py": "# new\n"})
    append(tree, *(name for name in NOTEBOOKS if "untouched" not in name), line="[]")
    (tree / "notebooks" / "untouched.ipynb").unlink()
    write(tree, {"notebooks/added.ipynb": "[]\n", "notebooks/new.ipynb": "[]\n"})
    append(tree, *PRESETS, line="# of the template")
    write(tree, {f"{LAUNCHERS}/both.yaml": "# of the template\n", f"{LAUNCHERS}/new.yaml": "# new\n"})
    append(tree, "README.md.jinja", "tests/test_experiments.py", f"{SHARED}/__init__.py", line="# of the template")
    call(".ci/build-wheel", template, cwd=template)
    write(tree, {f"{SHARED}/features.py": "# of the template\n", f"{SHARED}/new.py": "# new\n"})
    replace(tree / "pyproject.toml.jinja", '"pytest>=8"', '"pytest>=8.3"')


def work(folder: Path) -> None:
    """What a user does to a project: edit, delete, rename and add, in every folder."""
    baseline = folder / BASELINE
    append(baseline, "train.py", "model.py", "config.yaml", line="# mine")
    (baseline / "exp" / "002.yaml").unlink()
    (baseline / "exp" / "001.yaml").rename(baseline / "exp" / "010-mine.yaml")
    shutil.copytree(baseline, folder / "experiments" / "002-mine")
    shutil.copytree(baseline, folder / "experiments" / "004 größe [x] 'q' *")
    (folder / "experiments" / "figure.png").write_bytes(bytes(range(256)) * 20)
    (folder / "experiments" / "latin-1.txt").write_bytes("größe".encode("latin-1"))
    append(folder, "notebooks/edited.ipynb", "input/README.md", line="mine")
    (folder / "notebooks" / "deleted.ipynb").unlink()
    (folder / "notebooks" / "renamed.ipynb").rename(folder / "notebooks" / "mine.ipynb")
    (folder / "output" / ".gitkeep").unlink()
    launchers = folder / LAUNCHERS
    launchers.joinpath("edited.yaml").write_text("# mine\n# two\n# three\n# four\n")
    launchers.joinpath("deleted.yaml").unlink()
    launchers.joinpath("renamed.yaml").rename(launchers / "mine.yaml")
    append(folder, "src/my_experiments/__init__.py", line="# mine")
    own = {
        "src/my_experiments/features.py": "mine = 1\n",
        "src/my_experiments/deep/er.py": "mine = 1\n",
        "notebooks/added.ipynb": "mine\n",
        f"{LAUNCHERS}/added.yaml": "# mine\n",
        f"{LAUNCHERS}/both.yaml": "# mine\n",
    }
    write(folder, own | {"vendor/mine.txt": "mine\n", "docs/mine.md": "mine\n"})
    replace(folder / "README.md", "Machine-learning experiments", "My machine-learning experiments")
    call("uv", "add", "--frozen", "-q", "einops", "torch", cwd=folder)  # on both sides of the line of expkit
    commit_all(folder, "feat: my work")
    ignored = {"output/001-baseline/baseline/fold0/result.json": "{}\n", "input/train.csv": "1\n", ".env": "A=1\n"}
    write(folder, ignored)


@pytest.fixture(
    scope="module",
    params=[copier, pytest.param(oldest_copier, marks=pytest.mark.slow)],
    ids=["newest copier", f"copier {OLDEST_COPIER}"],
)
def updated(
    request: pytest.FixtureRequest, template_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Files]:
    """A project with a user's work in it after an update, and its files before."""
    folder = tmp_path_factory.mktemp("update")
    template = folder / "template"
    call("git", "clone", "-q", template_repository, template, cwd=folder)
    write(template / "template", PRESETS | NOTEBOOKS)
    release(template, "v0.2.0")
    request.param("copy", "--defaults", template, "project", cwd=folder)
    project = folder / "project"
    commit_all(project)
    work(project)
    change_everything(template)
    release(template, "v0.3.0")
    before = files_of(project)
    done = request.param("update", "--defaults", cwd=project)
    assert answers_of(project)["_commit"] == "v0.3.0"
    assert "experiments/, input/, output/, notebooks/ and your own packages in src/ are as they were" in done.stderr
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
    launchers = {file.name: file.read_text() for file in (project / LAUNCHERS).iterdir()}
    assert launchers.pop("edited.yaml") == "# mine\n# two\n# three\n# four\n# of the template\n"
    assert launchers.pop("mine.yaml") == "# one\n# two\n# three\n# four\n", "renamed: as it was"
    assert launchers.pop("added.yaml") == "# mine\n"
    assert launchers.pop("new.yaml") == "# new\n"
    both = launchers.pop("both.yaml")
    own = {file.name for file in (ROOT / "template" / LAUNCHERS).iterdir()}
    assert set(launchers) == own, "what was deleted or renamed does not come back"
    readme = (project / "README.md").read_text()
    assert "\nMy machine-learning experiments" in readme
    assert readme.endswith("# of the template\n")
    pyproject = (project / "pyproject.toml").read_text()
    assert '"einops"' in pyproject and '"pytest>=8.3"' in pyproject
    assert (project / "tests/test_experiments.py").read_text().endswith("# of the template\n")
    [wheel] = (project / "vendor").glob("*.whl")
    assert wheel.name not in before and f'"vendor/{wheel.name}"' in pyproject, "the old one is gone"
    for name in ("vendor/mine.txt", "docs/mine.md", ".env"):
        assert (project / name).read_bytes() == before[name]

    assert unmerged(project) == {f"{LAUNCHERS}/both.yaml"}, "the one file that both sides wrote"
    assert "# mine\n" in both and "# of the template\n" in both and both.startswith("<<<<<<< before updating\n")
    assert f"UU {LAUNCHERS}/both.yaml\n" in status(project), "git calls it: both modified"


@pytest.mark.slow
def test_another_name_of_the_project_keeps_the_shared_package(template: Path, tmp_path: Path) -> None:
    """Experiments import it by its name. It may also be gone, or be called something else: all of src/ is installed."""
    project = render(template, tmp_path / "project")
    write(project, {"src/my_experiments/features.py": "mine = 1\n"})
    (project / "src/my_experiments").rename(project / "src/mine")
    commit_all(project)
    before = files_of(project, "src")
    append(template / "template", "README.md.jinja", f"{SHARED}/__init__.py", line="# of the template")
    release(template, "v0.2.0")
    copier("update", "--defaults", "--data", "project_name=Other", cwd=project)
    assert answers_of(project)["project_name"] == "Other" and not unmerged(project)
    assert files_of(project, "src") == before
    call("uv", "sync", "-q", cwd=project, env=clean_environment())
    assert call(project / ".venv/bin/python", "-c", "from mine import features", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_a_release_changes_the_links_in_the_readmes_that_a_user_has_edited(template: Path, tmp_path: Path) -> None:
    """Words of the user's at the end, and changed headings, do not conflict with the links of the newer version."""
    project = render(template, tmp_path / "project")
    readmes = [project / "README.md", project / "README.ja.md"]
    for readme in readmes:
        replace(readme, "\n## ", "\n## My ")
        append(project, readme.name, line="\n## Mine\n\nMy words.")
    commit_all(project)
    before = [readme.read_text() for readme in readmes]
    release(template, "v0.2.0")
    copier("update", "--defaults", cwd=project)
    assert not unmerged(project)
    assert [readme.read_text() for readme in readmes] == [text.replace("/v0.1.0/", "/v0.2.0/") for text in before]
    assert "/v0.2.0/" in readmes[0].read_text()


@pytest.mark.slow
def test_twice_is_a_no_op(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    append(template, "template/README.md.jinja", line="new")
    release(template, "v0.2.0")
    copier("update", "--defaults", cwd=project)
    assert status(project)
    commit_all(project)
    copier("update", "--defaults", cwd=project)
    assert status(project) == ""


@pytest.mark.slow
def test_a_deleted_baseline_stays_deleted_and_a_renamed_one_does_not_follow(template: Path, tmp_path: Path) -> None:
    """The template renames its experiment: the user who deleted it gets neither, the user who has it keeps it."""
    deleted = render(template, tmp_path / "deleted")
    shutil.rmtree(deleted / BASELINE)
    write(deleted, {"experiments/002-mine/train.py": "# mine\n"})
    commit_all(deleted)
    kept = render(template, tmp_path / "kept")
    append(kept, f"{BASELINE}/model.py", line="# mine")
    commit_all(kept)
    before = files_of(kept, *YOURS)
    (template / "template" / IN_TEMPLATE).rename(template / "template" / "experiments" / "001-digits")
    append(template / BASELINES, "model.py", line="# of the template")
    append(template / "template", "README.md.jinja", line="# of the template")
    release(template, "v0.2.0")
    for project in (deleted, kept):
        copier("update", "--defaults", cwd=project)
        assert (project / "README.md").read_text().endswith("# of the template\n")
        assert not unmerged(project)
    assert files_of(deleted, "experiments") == {"experiments/002-mine/train.py": b"# mine\n"}
    assert files_of(kept, *YOURS) == before


@pytest.mark.slow
def test_recopy_keeps_every_file_of_the_user(template: Path, tmp_path: Path) -> None:
    """It resets shared files, which is what it is for, and brings deleted ones back; it changes none of the user's."""
    write(template / "template", PRESETS | NOTEBOOKS)
    release(template, "v0.2.0")
    project = render(template, tmp_path / "project")
    work(project)
    change_everything(template)
    release(template, "v0.3.0")
    before = files_of(project)
    copier("recopy", "--defaults", "--overwrite", cwd=project)
    after = files_of(project)
    yours = {name for name in before if name.startswith(YOURS)}
    assert {name: after[name] for name in yours} == {name: before[name] for name in yours}
    assert {name for name in before if not name.startswith("vendor/expkit-")} <= after.keys()
    assert f"{BASELINE}/exp/002.yaml" in after
    assert b"einops" not in after["pyproject.toml"]
    assert after["tests/test_experiments.py"].endswith(b"# of the template\n")


@pytest.mark.slow
def test_in_a_subdirectory_of_a_larger_repository(template: Path, tmp_path: Path) -> None:
    write(template / "template", PRESETS | NOTEBOOKS)
    release(template, "v0.2.0")
    larger = tmp_path / "larger"
    project = larger / "teams" / "ml project"
    others = {"README.md": "ours\n", "experiments/001-baseline/train.py": "ours\n", "conf/README.md": "ours\n"}
    write(larger, others | {"teams/README.md": "ours\n"})
    commit_all(larger)
    project.parent.mkdir(exist_ok=True)
    copier("copy", "-q", "--defaults", template, project, cwd=larger)
    commit_all(larger)
    work_in_subdirectory = files_of(larger, "README.md", "experiments", "conf", "teams/README.md")
    work(project)
    change_everything(template)
    release(template, "v0.3.0")
    before = files_of(larger)
    copier("update", "--defaults", cwd=project)
    after = files_of(larger)
    untouched = {name for name in before if not name.startswith("teams/ml project/")}
    untouched |= {name for name in before if name.startswith(tuple(f"teams/ml project/{part}/" for part in YOURS))}
    assert untouched > work_in_subdirectory.keys()
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    assert files_of(project, *YOURS).keys() == {
        name.removeprefix("teams/ml project/") for name in untouched if name.startswith("teams/ml project/")
    }
    assert (project / "README.md").read_text().endswith("# of the template\n")
    assert (project / LAUNCHERS / "edited.yaml").read_text() == "# mine\n# two\n# three\n# four\n# of the template\n"
    assert not (project / LAUNCHERS / "deleted.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [("a changed file", "dirty"), ("a new file", "dirty"), ("no git", "git-tracked subprojects")],
)
def test_refused_with_nothing_changed(template: Path, tmp_path: Path, trouble: str, complaint: str) -> None:
    project = render(template, tmp_path / "project")
    match trouble:
        case "a changed file":
            append(project, f"{BASELINE}/train.py", line="# mine")
        case "a new file":
            write(project, {"experiments/002-mine/train.py": "# mine\n"})
        case "no git":
            shutil.rmtree(project / ".git")
    append(template, "template/README.md.jinja", line="new")
    release(template, "v0.2.0")
    before = files_of(project)
    done = copier("update", "--defaults", cwd=project, check=False)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert complaint != "dirty" or done.stderr.strip() in GUIDE
    assert files_of(project) == before


@pytest.mark.slow
def test_a_release_is_announced(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    assert copier("check-update", "--quiet", cwd=project, check=False).returncode == 0
    release(template, "v0.2.0")
    done = copier("check-update", cwd=project)
    assert "0.2.0" in done.stdout + done.stderr
    assert copier("check-update", "--quiet", cwd=project, check=False).returncode == 2


@pytest.mark.slow
def test_a_certain_release_and_never_an_earlier_one(template: Path, tmp_path: Path) -> None:
    """As the guide says it; also how to leave a conflict, and how to undo an update."""
    project = render(template, tmp_path / "project")
    for version in ("v0.2.0", "v0.3.0"):
        append(template, "template/conf/README.md", line=version)
        write(template, {f"template/conf/{version}.md": "new\n"})
        release(template, version)
    copier("update", "--defaults", "--vcs-ref", "v0.2.0", cwd=project)
    assert answers_of(project)["_commit"] == "v0.2.0"
    append(project, "conf/README.md", line="mine")
    commit_all(project)
    done = copier("update", "--defaults", "--vcs-ref", "v0.1.0", cwd=project, check=False)
    assert done.returncode == 1 and f"`{done.stderr.strip()}`" in GUIDE

    before = files_of(project)
    copier("update", "--defaults", cwd=project)
    assert answers_of(project)["_commit"] == "v0.3.0" and unmerged(project) == {"conf/README.md"}
    assert "UU conf/README.md" in status(project) and (project / "conf/v0.3.0.md").exists()
    markers = ("<<<<<<< before updating\n", "=======\n", ">>>>>>> after updating\n")
    assert all(marker in text for marker in markers for text in (GUIDE, (project / "conf/README.md").read_text()))
    for side, line in (("--theirs", "v0.3.0"), ("--ours", "mine")):
        call("git", "checkout", side, "conf/README.md", cwd=project)
        assert (project / "conf/README.md").read_text().endswith(f"{line}\n")
    undo = re.search(r"`(git reset --hard && git clean -fd)`", GUIDE)
    assert undo
    call("bash", "-c", undo[1], cwd=project)
    assert files_of(project) == before


def test_the_oldest_copier_is_in_the_guide() -> None:
    assert f"`This template requires Copier version >= {OLDEST_COPIER}`" in GUIDE


@pytest.mark.slow
def test_answers_survive_a_renamed_question_and_a_new_one_has_a_default(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project", wandb_project="{{ kept }} $(so)", n_folds=7)
    questions = template / "copier.yml"
    old_default = 'default: "{{ project_slug }}"'
    replace(questions, "wandb_project", "tracking_project")
    replace(questions, old_default, 'default: "{{ wandb_project | default(project_slug) }}"')
    replace(questions, "n_folds:\n", "author:\n  type: str\n  default: nobody\n\nn_folds:\n")
    pyproject = template / "template" / "pyproject.toml.jinja"
    replace(pyproject, "{{ wandb_project |", "{{ tracking_project |")
    release(template, "v0.2.0")
    copier("update", "--defaults", cwd=project)
    answers = answers_of(project)
    assert answers["tracking_project"] == "{{ kept }} $(so)"
    assert "wandb_project" not in answers
    assert answers["author"] == "nobody"
    assert answers["n_folds"] == "7"
    assert 'wandb_project = "{{ kept }} $(so)"' in (project / "pyproject.toml").read_text()
    assert not unmerged(project)


@pytest.mark.slow
def test_a_tightened_validator_strands_no_project(template: Path, tmp_path: Path) -> None:
    """copier resets an answer that became invalid to its default. A renamed question keeps what it can of it."""
    project = render(template, tmp_path / "project", n_folds=50)
    before = files_of(project, *YOURS)
    questions = template / "copier.yml"
    replace(questions, "[2-9]|[1-9][0-9]|100", "[2-9]")
    append(template / "template", "README.md.jinja", line="new")
    release(template, "v0.2.0")
    copier("update", "--defaults", cwd=project)
    assert (project / "README.md").read_text().endswith("new\n")
    assert answers_of(project)["n_folds"] == "5"
    assert files_of(project, *YOURS) == before, "experiments keep their 50 folds"
    call("git", "checkout", "-q", ".", cwd=project)

    replace(questions, "n_folds", "folds")
    replace(questions, 'default: "5"', 'default: "{{ [n_folds | default(5) | int, 9] | min }}"')
    replace(template / "template" / IN_TEMPLATE / "config.yaml.jinja", "~ n_folds", "~ folds")
    replace(template / "template" / "pyproject.toml.jinja", "{{ n_folds }}", "{{ folds }}")
    release(template, "v0.3.0")
    copier("update", "--defaults", cwd=project)
    assert answers_of(project)["folds"] == "9"
    assert files_of(project, *YOURS) == before


@pytest.mark.slow
def test_an_answer_can_be_changed_later(template: Path, tmp_path: Path) -> None:
    """What an update cannot change, in the user's own experiments, is said; and only then."""
    said = "Existing experiments keep their n_folds and their framework"
    project = render(template, tmp_path / "project")
    experiments = files_of(project, *YOURS)

    done = copier("update", "--defaults", "--data", "wandb_project=other", cwd=project)
    assert 'wandb_project = "other"' in (project / "pyproject.toml").read_text()
    assert answers_of(project)["wandb_project"] == "other"
    assert said not in done.stderr
    commit_all(project)

    done = copier("update", "--defaults", "--data", "project_name=Another name", cwd=project)
    assert (project / "README.md").read_text().startswith("# Another name\n")
    assert answers_of(project)["wandb_project"] == "other"
    commit_all(project)

    done = copier("update", "--defaults", "--data", "n_folds=10", cwd=project)
    assert said in done.stderr and "edit experiments/*/config.yaml" in done.stderr
    assert answers_of(project)["n_folds"] == "10"
    assert files_of(project, *YOURS) == experiments
    commit_all(project)

    before = files_of(project)
    done = copier("update", "--defaults", "--data", "n_folds=1", cwd=project, check=False)
    assert done.returncode != 0 and "2 to 100" in done.stderr
    assert files_of(project) == before


THEIRS = {
    "README.md": "# Theirs\n",
    "pyproject.toml": '[project]\nname = "theirs"\nversion = "3"\n',
    ".gitignore": "*.log\n",
    "experiments/001-baseline/train.py": "# theirs\n",
    "experiments/007/train.py": "# theirs\n",
    "src/theirs/__init__.py": "theirs = 1\n",
    "tests/test_experiments.py": "# theirs\n",
    "conf/README.md": "# theirs\n",
}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A repository that a person has already."""
    write(tmp_path / "theirs", THEIRS)
    commit_all(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.slow
def test_into_a_repository_that_exists(template: Path, theirs: Path) -> None:
    """The command of docs/updating.md overwrites nothing, and later updates merge."""
    before = files_of(theirs)
    page = (ROOT / "docs/updating.md").read_text()
    command = re.search(r"^uvx (copier copy .*--skip .*) gh:\S+ \.(?: +#.*)?$", page, flags=re.M)
    assert command
    copier(*shlex.split(command[1])[1:], template, ".", cwd=theirs)
    after = files_of(theirs)
    assert {name: after[name] for name in before} == before
    assert status(theirs).count("??") == len(status(theirs).splitlines()), "only new files"
    assert {"tests/test_experiments.py", "experiments/001-baseline/model.py", ".copier-answers.yml"} <= after.keys()

    commit_all(theirs)
    mine = ("README.md.jinja", f"{LAUNCHERS}/local.yaml", "conf/README.md")
    append(template / "template", *mine, line="# of the template")
    append(template / BASELINES, "train.py", line="# of the template")
    release(template, "v0.2.0")
    copier("update", "--defaults", cwd=theirs)
    updated = files_of(theirs)
    assert updated[f"{LAUNCHERS}/local.yaml"].endswith(b"# of the template\n")
    for name, content in before.items():
        if name in unmerged(theirs):
            assert set(content.splitlines()) <= set(updated[name].splitlines()), "a conflict shows theirs"
        else:
            assert updated[name] == content
    assert unmerged(theirs) <= {"README.md", "conf/README.md"}


@pytest.mark.slow
def test_into_a_repository_that_exists_without_a_word(template: Path, theirs: Path) -> None:
    """No --skip and nobody to ask: copier stops, and has overwritten nothing."""
    before = files_of(theirs)
    done = copier("copy", "--defaults", template, ".", cwd=theirs, check=False)
    assert done.returncode != 0
    assert "--overwrite" in done.stderr
    after = files_of(theirs)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_the_library_alone_in_a_repository_that_exists(template_repository: Path, tmp_path: Path) -> None:
    """The five lines of the guide make a project with an experiment that trains; nothing but them is there."""
    part = GUIDE.partition("## In a repository that you have\n")[2]
    lines = part.split("```")[1].splitlines()[1:]
    assert len(lines) == 5
    write(
        tmp_path / "theirs",
        {"pyproject.toml": '[project]\nname = "theirs"\nversion = "3"\nrequires-python = ">=3.11"\n'},
    )
    commit_all(tmp_path / "theirs")
    script = "\n".join(lines).replace(".../vendor", str(template_repository / "template/vendor"))
    train = "uv run python experiments/001-baseline/train.py 'exp.fold=[0,1]' && uv run exp board"
    environment = clean_environment() | {"WANDB_MODE": "disabled"}
    done = call("bash", "-euc", f"{script}\n{train}", cwd=tmp_path / "theirs", env=environment)
    assert "made experiments/001-baseline" in done.stdout and "001-baseline/baseline" in done.stdout.splitlines()[-1]
    assert "?? output" not in status(tmp_path / "theirs")
