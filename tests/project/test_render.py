"""What copier renders: complete, valid, lint-clean, and refused when an answer cannot work."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from conftest import ANSWERS, ROOT, Project, call, clean_environment, clone_of, copier, data_arguments
from light import edited
from pytest_copie.plugin import Copie

from expkit.code import SCHEMAS
from expkit.new import BASELINES, NEEDS


def test_smoke(copie: Copie, project: Project) -> None:
    """Rendered by pytest-copie, `train.py show_config=true` prints the configuration."""
    result = copie.copy(extra_answers=ANSWERS)
    assert result.exception is None
    assert result.exit_code == 0
    train = result.project_dir / "experiments" / "001-baseline" / "train.py"
    environment = project.environment(EXPKIT_ROOT=str(result.project_dir), PYTHONPATH=str(result.project_dir / "src"))
    shown = call(project.python, train, "show_config=true", cwd=result.project_dir, env=environment).stdout
    assert yaml.safe_load(shown)["exp"]["name"] == "baseline"


def test_defaults_render_without_trust_and_say_what_to_type_next(template_repository: Path, tmp_path: Path) -> None:
    done = copier("copy", "--defaults", template_repository, "plain", cwd=tmp_path)
    assert "uv run python experiments/001-baseline/train.py" in done.stderr
    assert "cd plain" in done.stderr
    pyproject = tomllib.loads((tmp_path / "plain" / "pyproject.toml").read_text())
    assert pyproject["project"]["name"] == "my-experiments"
    assert pyproject["tool"]["expkit"]["wandb_project"] == "my-experiments"


def test_tree(project: Project) -> None:
    """Few files, all meant to be read: nothing that is the template's own, nothing unrendered."""
    rendered = set(call("git", "ls-files", cwd=project.folder).stdout.splitlines())
    expected = """
        .copier-answers.yml .env.example .github/dependabot.yml .github/workflows/ci.yml .gitignore README.md
        conf/hydra/launcher/local.yaml conf/hydra/launcher/slurm.yaml experiments/001-baseline/.schema/config.json
        experiments/001-baseline/.schema/exp.json experiments/001-baseline/config.yaml
        experiments/001-baseline/exp/001.yaml experiments/001-baseline/model.py experiments/001-baseline/train.py
        input/README.md output/.gitkeep pyproject.toml src/digits_co_experiments/__init__.py tests/test_experiments.py
        uv.lock
    """
    assert set(expected.split()) <= rendered
    assert not [name for name in rendered if name.endswith(".jinja") or "{" in name or "ISSUE_TEMPLATE" in name]
    assert len(rendered) <= 40 and [name for name in rendered if name.startswith("vendor/expkit-")]
    assert not {"CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md"} & rendered


def test_rendered_code_is_formatted_and_lint_clean(project: Project) -> None:
    ruff = ["uv", "run", "-q", "ruff"]
    call(*ruff, "check", cwd=project.folder, env=project.environment())
    call(*ruff, "format", "--check", cwd=project.folder, env=project.environment())


# A metric is easier to read without types.
TYPES = """
[mypy]
strict = true
ignore_missing_imports = true
disable_error_code = import-untyped
[mypy-train,model]
disallow_untyped_defs = false
[mypy-page]
disallow_untyped_defs = false
disallow_untyped_calls = false
"""


def test_rendered_code_is_typed(project: Project, tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(TYPES)
    mypy = ["mypy", "--config-file", tmp_path / "mypy.ini", "--python-executable", project.python]
    mypy += ["--cache-dir", project.home / "mypy"]
    baseline = Path("experiments/001-baseline")
    files = [baseline / "train.py", baseline / "model.py", "notebooks/page.py"]
    done = call(*mypy, *files, cwd=project.folder)
    assert done.stdout == "Success: no issues found in 3 source files\n"
    library = ROOT / "expkit/src/expkit"
    done = call(*mypy, "--exclude", "/baselines/", library, cwd=tmp_path)
    python_files = len([file for file in library.rglob("*.py") if "baselines" not in file.parts])
    assert done.stdout == f"Success: no issues found in {python_files} source files\n"


def test_rendered_tests_pass(project: Project) -> None:
    done = call("uv", "run", "-q", "pytest", "-q", cwd=project.folder, env=project.environment())
    assert "5 passed" in done.stdout


@pytest.mark.slow
def test_an_experiment_whose_data_are_missing_is_skipped(project: Project, tmp_path: Path) -> None:
    """In a fresh clone: a line names what is missing. Its parameter sets are checked all the same, and another
    FileNotFoundError is no excuse."""
    folder = clone_of(project.folder, tmp_path / "project")
    model = folder / "experiments/001-baseline/model.py"
    load = "X, y = load_digits(return_X_y=True)"
    test = [project.python, "-m", "pytest", "-q", "-rs"]
    environment = project.environment(EXPKIT_ROOT=str(folder), PYTHONPATH=str(folder / "src"))
    with edited(model, load, f"import expkit; open(expkit.input_dir() / 'train.csv'); {load}"):
        done = call(*test, cwd=folder, env=environment)
        assert "3 passed, 2 skipped" in done.stdout
        assert "001-baseline needs data that are not here: " in done.stdout and "input/train.csv" in done.stdout
    with edited(model, load, f"open('elsewhere.csv'); {load}"):
        assert "2 failed, 3 passed" in call(*test, cwd=folder, env=environment, check=False).stdout


FRAMEWORKS = list(yaml.safe_load((ROOT / "copier.yml").read_text())["framework"]["choices"].values())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_project_has_the_baseline_of_every_framework(
    project: Project, template_repository: Path, tmp_path: Path, framework: str
) -> None:
    """For `exp new --framework`: the same files as in a project of that framework, and what these need."""
    answers = data_arguments(ANSWERS | {"framework": framework})
    copier("copy", "-q", "--defaults", *answers, template_repository, "theirs", cwd=tmp_path)
    theirs, ours = tmp_path / "theirs/experiments/001-baseline", BASELINES / framework
    all_files = [file for file in theirs.rglob("*") if file.is_file() and SCHEMAS not in file.parts]  # each has its own
    files = {file.relative_to(theirs).as_posix(): file.read_text() for file in all_files}
    there = [file for file in ours.rglob("*") if file.is_file() and SCHEMAS not in file.parts]
    assert files == {file.relative_to(ours).as_posix(): file.read_text() for file in there} and "train.py" in files

    def dependencies(folder: Path) -> set[str]:
        return set(tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"])

    assert dependencies(tmp_path / "theirs") - dependencies(project.folder) == set(NEEDS[framework])


def test_the_wheel_is_that_of_the_source(template_repository: Path) -> None:
    """To the byte: that of the working tree, and one that is built now. Else: .ci/build-wheel."""
    [built], [there] = ((folder / "template/vendor").glob("*.whl") for folder in (template_repository, ROOT))
    assert (there.name, there.read_bytes()) == (built.name, built.read_bytes())
    packed = {name for name in ZipFile(there).namelist() if ".dist-info/" not in name and name[-1] != "/"}
    tracked = call("git", "ls-files", "-co", "--exclude-standard", "expkit/src", cwd=ROOT).stdout.splitlines()
    assert packed == {name.removeprefix("expkit/src/") for name in tracked if (ROOT / name).exists()}
    assert {"expkit/baselines/torch/model.py", "hydra_plugins/expkit_sweeper.py"} <= packed


@pytest.mark.slow
def test_a_built_project_is_whole(project: Project, tmp_path: Path) -> None:
    """All packages of src/, whatever they are called."""
    folder = clone_of(project.folder, tmp_path / "project")
    (folder / "src/mine").mkdir()
    (folder / "src/mine/features.py").touch()
    call("uv", "build", "-q", "--wheel", "--out-dir", tmp_path, cwd=folder, env=project.environment())
    [wheel] = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name and name[-1] != "/"}
    assert packed == {"digits_co_experiments/__init__.py", "mine/features.py"}


# Every package is a wait, and one more that may break: a new one, or one that went, is a decision.
NEEDED = (
    "annotated-types filelock hydra-core msgspec numpy omegaconf python-dotenv pyyaml rich scikit-learn typer wandb"
)
# Packages and MiB: 46 and 277, 58 and 402 when this was written.
MOST = {"sklearn": (50, 300), "lightgbm": (62, 430)}


def test_the_packages_that_a_project_asks_for(project: Project) -> None:
    files = (project.folder / "pyproject.toml", ROOT / "expkit/pyproject.toml")
    of_project, asked = (tomllib.loads(file.read_text())["project"]["dependencies"] for file in files)
    assert [re.split(r"[<>=; ]", each)[0] for each in of_project] == ["expkit"]
    assert sorted({re.split(r"[<>=; ]", each)[0] for each in asked}) == NEEDED.split()


@pytest.mark.slow
@pytest.mark.parametrize("framework", MOST)
def test_a_fresh_project_is_light(template_repository: Path, tmp_path: Path, framework: str) -> None:
    """What its packages bring along is counted, too."""
    copier("copy", "-q", "--defaults", "--data", f"framework={framework}", template_repository, "fresh", cwd=tmp_path)
    call("uv", "sync", "-q", "--no-dev", cwd=tmp_path / "fresh", env=clean_environment())
    [site] = (tmp_path / "fresh/.venv/lib").glob("python*/site-packages")
    packages = sorted(folder.name.partition("-")[0] for folder in site.glob("*.dist-info"))
    files = [file for file in site.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    size = sum(file.stat().st_size for file in files) / 2**20
    assert {"wandb", "scikit_learn"} <= set(packages) and size > 100  # it has looked in the right place
    most_packages, most_size = MOST[framework]
    assert len(packages) <= most_packages, packages
    assert size <= most_size
