"""What copier renders: complete, valid, lint-clean, and refused when an answer cannot work."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from conftest import ANSWERS, ROOT, Project, call, clone_of, copier
from copier import run_copy
from light import edited
from pytest_copie.plugin import Copie
from updates import files_of

from expkit.code import SCHEMAS
from expkit.new import BASELINES, NEEDS


def test_smoke(copie: Copie, project: Project) -> None:
    """Rendered by pytest-copie, `train.py show_config=true` prints the configuration."""
    result = copie.copy(extra_answers=ANSWERS)
    assert result.exception is None and result.exit_code == 0
    train = result.project_dir / "experiments" / "001-baseline" / "train.py"
    environment = project.environment(EXPKIT_ROOT=str(result.project_dir), PYTHONPATH=str(result.project_dir / "src"))
    shown = call(project.python, train, "show_config=true", cwd=result.project_dir, env=environment).stdout
    assert yaml.safe_load(shown)["exp"]["name"] == "baseline"


def test_defaults_render_without_trust_and_say_what_to_type_next(template_repository: Path, tmp_path: Path) -> None:
    done = copier("copy", "--defaults", template_repository, "plain", cwd=tmp_path)
    assert "cd plain\n" in done.stderr and "uv run python experiments/001-baseline/train.py" in done.stderr
    assert "git init && git add ." in done.stderr and "README.md shows a day" in done.stderr
    pyproject = tomllib.loads((tmp_path / "plain" / "pyproject.toml").read_text())
    assert (pyproject["project"]["name"], pyproject["tool"]["expkit"]["wandb_project"]) == (
        "plain-experiments",
        "plain",
    )


def test_tree(project: Project) -> None:
    """Few files, all meant to be read: nothing that is the template's own, nothing unrendered."""
    rendered = set(call("git", "ls-files", cwd=project.folder).stdout.splitlines())
    expected = """
        .copier-answers.yml .env.example .gitignore input/README.md output/.gitkeep uv.lock
        conf/hydra/launcher/slurm.yaml experiments/001-baseline/.schema/exp.json src/digits_co_experiments/__init__.py
    """
    assert set(expected.split()) <= rendered and len(rendered) <= 40
    own = ("CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
    assert not [name for name in rendered if name.endswith(".jinja") or "{" in name or name in own]


def test_rendered_code_is_formatted_and_lint_clean(project: Project) -> None:
    for arguments in (["check"], ["format", "--check"]):
        call("ruff", *arguments, "--no-cache", cwd=project.folder)


# A metric is easier to read without types.
TYPES = """
[mypy]
strict = true
ignore_missing_imports = true
disable_error_code = import-untyped, no-any-return
[mypy-optuna.*,torch.*]
follow_imports = skip
[mypy-expkit.torch]
warn_unused_ignores = false
[mypy-train,model]
disallow_untyped_defs = false
disallow_incomplete_defs = false
disallow_untyped_calls = false
[mypy-page]
disallow_untyped_defs = false
disallow_untyped_calls = false
"""


TYPED = """
from dataclasses import dataclass, field

import expkit


@dataclass
class TrainConfig:
    epochs: int = 30


@dataclass
class ExpConfig(expkit.ExpConfig):
    train: TrainConfig = field(default_factory=TrainConfig)


def train(exp: "expkit.ExpConfig[TrainConfig]", fold: "expkit.Fold") -> None:
    reveal_type(exp.train.epochs)
    expkit.split(exp, fold.number, id=range(exp.n_folds))
    exp.train.epoch


def of_a_class_of_its_own(exp: ExpConfig) -> None:
    exp.train.epoch
    exp.folds


experiment = expkit.Experiment(train, TrainConfig, metric="fid")
"""


def test_rendered_code_is_typed(project: Project, tmp_path: Path) -> None:
    """And the library, in one go: mypy keeps what it knows of the library in the working tree, which does not move.
    A type checker knows the parameters of an experiment."""
    (tmp_path / "mypy.ini").write_text(TYPES)
    (tmp_path / "mine.py").write_text(TYPED)
    mypy = ["mypy", "--config-file", tmp_path / "mypy.ini", "--cache-dir", ROOT / ".mypy_cache"]
    baseline, library = project.folder / "experiments/001-baseline", ROOT / "expkit/src/expkit"
    files = [baseline / "train.py", baseline / "model.py", project.folder / "notebooks/page.py", "mine.py"]
    done = call(*mypy, "--exclude", "/baselines/", library, *files, cwd=tmp_path, check=False)
    modules = [file for file in library.rglob("*.py") if "baselines" not in file.parts]
    *lines, last = done.stdout.splitlines()
    assert last == f"Found 3 errors in 1 file (checked {len(modules) + 4} source files)", done.stdout
    said = [line.partition(": ")[2] for line in lines if line.startswith("mine.py:")]
    wrong = 'error: "TrainConfig" has no attribute "epoch"; maybe "epochs"?  [attr-defined]'
    own = 'error: "ExpConfig" has no attribute "folds"'
    assert said[:3] == ['note: Revealed type is "int"', wrong, wrong] and said[3].startswith(own), done.stdout


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


def dependencies(folder: Path) -> list[str]:
    asked: list[str] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    return asked


@pytest.mark.parametrize("framework", NEEDS)
def test_every_project_has_the_baseline_of_every_framework(
    project: Project, template_repository: Path, tmp_path: Path, framework: str
) -> None:
    """For `exp new --framework`: the same files as in a project of that framework, and what these need."""
    run_copy(str(template_repository), tmp_path / "theirs", data=ANSWERS | {"framework": framework}, quiet=True)
    theirs, ours = (
        {name: content for name, content in files_of(folder).items() if not name.startswith(SCHEMAS)}
        for folder in (tmp_path / "theirs/experiments/001-baseline", BASELINES / framework)
    )
    assert theirs.keys() == ours.keys(), "template/experiments/001-baseline/ has a file that includes each"
    assert theirs == ours and "train.py" in ours
    assert set(dependencies(tmp_path / "theirs")) - set(dependencies(project.folder)) == set(NEEDS[framework])


def test_the_wheel_is_that_of_the_source(template_repository: Path) -> None:
    """To the byte: that of the working tree, and one that is built now."""
    [built], [there] = ((folder / "template/vendor").glob("*.whl") for folder in (template_repository, ROOT))
    assert (there.name, there.read_bytes()) == (built.name, built.read_bytes()), "run: .ci/build-wheel"
    tracked = call("git", "ls-files", "-co", "--exclude-standard", "expkit/src", cwd=ROOT).stdout.splitlines()
    packed = {name for name in ZipFile(there).namelist() if ".dist-info/" not in name and name[-1] != "/"}
    sources = {name.removeprefix("expkit/src/") for name in tracked if (ROOT / name).exists()}
    assert packed == sources | {f"expkit/docs/{guide.name}" for guide in ROOT.glob("docs/*.md")}
    [license] = [name for name in ZipFile(there).namelist() if name.endswith("/licenses/LICENSE")]
    assert ZipFile(there).read(license) == (ROOT / "LICENSE").read_bytes()


# Every package is a wait, and one more that may break: a new one, or one that went, is a decision.
NEEDED = (
    "annotated-types click filelock hydra-core msgspec numpy omegaconf python-dotenv pyyaml rich scikit-learn wandb"
)


def test_the_packages_that_a_project_asks_for(project: Project) -> None:
    asked = [re.split(r"[<>=; ]", each)[0] for each in dependencies(ROOT / "expkit")]
    assert sorted(set(asked)) == NEEDED.split()
    assert [each.partition("=")[0] for each in dependencies(project.folder)] == ["expkit"]
