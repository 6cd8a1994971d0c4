"""Any answer is refused in one line, or comes back exactly from a project whose every file parses."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import copier
import pytest
import yaml
from conftest import Project, call, clean_environment
from conftest import copier as copier_command

REFUSED = {
    ("project_name", "The name is empty: give it at least one letter."): ["", "  "],
    ("project_name", "The name has 101 characters: use at most 100."): ["x" * 101],
    ("project_name", "The name has a line break or another control character: use one line of plain text."): [
        *("two\nlines", "tab\t", "nul\0", "esc\x1b[31m", "ls\u2028", "surrogate\ud800"),
    ],
    ("wandb_project", "The W&B project is empty: give it a name, such as "): ["", " "],
    ("wandb_project", "The W&B project begins or ends with a space: leave it out."): [" a", "a "],
    ("wandb_project", "The W&B project has 129 characters: use at most 128."): ["x" * 129],
    (
        "wandb_project",
        "The W&B project has a character that W&B refuses: leave out / \\ # ? % : and control characters.",
    ): ["a/b", "50%", "two\nlines"],
    ("n_folds", "Cross-validation takes 2 to 100 folds, not "): [
        *("", "1", "many", "2.5", "101", "5\n", "05", "{{ 7 }}"),
    ],
}
# What means something to YAML, TOML, JSON, Python, Markdown, Jinja, OmegaConf, a shell, or a file system.
ODD: list[dict[str, object]] = [
    {"project_name": "He said \"go\" \\ 'left' {{ 7 * 7 }} {% raw %} $(touch x)", "wandb_project": "${HOME} {{ 7 }}"},
    {"project_name": " \u202eשלום 👩‍👩‍👧 e\u0301 \ufeff\u200b ", "wandb_project": "実験 🎉", "n_folds": "100"},
    {"project_name": '"""\\n\\x00 {% include "copier.yml" %} {# #} }} ${oc.env:HOME} `touch x` ; && | <!-- --> %s'},
    {"project_name": "- ? &a *a !!python/none [section] a = 1: # @ > |- --- ... %YAML <<", "wandb_project": "- &a *a"},
    *({"project_name": name} for name in ("1e3", "[5]", "../x", "numpy", "_", "\ufffe")),
]


def parse(file: Path) -> object:
    """What a file says, read strictly as what its name promises; text is UTF-8."""
    if file.suffix == ".whl":
        return ZipFile(file).namelist()
    text = file.read_text(encoding="utf-8")
    match file.suffix:
        case ".toml":
            return tomllib.loads(text)
        case ".yaml" | ".yml":
            return yaml.safe_load(text)
        case ".json" | ".ipynb":
            return json.loads(text)
        case ".py":
            return ast.parse(text)
    return text


@pytest.fixture(scope="module")
def plain(template_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without its history, which copier would clone for each project."""
    folder = tmp_path_factory.mktemp("plain") / "template"
    shutil.copytree(template_repository, folder, ignore=shutil.ignore_patterns(".git"))
    return folder


def render(template: Path, folder: Path, answers: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a Python file with an odd string, say
        copier.run_copy(str(template), folder, data=answers, defaults=True, unsafe=False, quiet=True)


def assert_exact(folder: Path, answers: dict[str, object]) -> None:
    """Every file of a project parses, and holds the answers as they were given."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    parsed: dict[str, Any] = {name: parse(file) for name, file in files.items()}
    pyproject, n_folds = parsed["pyproject.toml"], str(answers.get("n_folds", "5"))
    assert parsed[".copier-answers.yml"].items() >= (answers | {"n_folds": n_folds}).items()
    assert pyproject["project"]["description"] == answers["project_name"]
    if "wandb_project" in answers:
        assert pyproject["tool"]["expkit"]["wandb_project"] == answers["wandb_project"]
    assert parsed["experiments/001-baseline/config.yaml"]["exp"]["n_folds"] == int(n_folds)
    assert files["README.md"].read_text(encoding="utf-8").split("\n")[0] == f"# {answers['project_name']}"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", pyproject["project"]["name"])


def test_an_answer_that_cannot_work_is_refused(plain: Path, tmp_path: Path) -> None:
    """In one line, and nothing is left of the project."""
    fine: dict[str, object] = {"project_name": "a", "wandb_project": "b", "n_folds": "5"}
    for (question, complaint), values in REFUSED.items():
        for value in values:
            with pytest.raises(ValueError, match=re.escape(complaint)) as refused:
                render(plain, tmp_path / "project", fine | {question: value})
            assert len(str(refused.value).splitlines()) == 1
            assert not (tmp_path / "project").exists()


def test_odd_answers_are_taken_as_they_are(plain: Path, tmp_path: Path) -> None:
    for number, answers in enumerate(ODD):
        render(plain, tmp_path / str(number), answers)
        assert_exact(tmp_path / str(number), answers)


def test_a_project_is_called_as_its_folder(plain: Path, tmp_path: Path) -> None:
    """By default; without what the name of a project cannot have."""
    names = {
        name: name for name in ("v1.2 of x", "2024-kaggle", "007", "null", "1e3", "実験 🎉", "{{ 7 * 7 }} 'q'", "___")
    }
    for folder, name in (
        names | {"x" * 150: "x" * 100, "... ": "My experiments", ".hidden": "hidden", "a\tb": "a b"}
    ).items():
        render(plain, tmp_path / folder, {})
        assert_exact(tmp_path / folder, {"project_name": name})


@pytest.mark.parametrize("answers", [ODD[0], *(pytest.param(each, marks=pytest.mark.slow) for each in ODD[1:4])])
def test_odd_answers_work(plain: Path, project: Project, tmp_path: Path, answers: dict[str, object]) -> None:
    """The configuration is shown; uv takes the metadata: the name of the package, and a description in any script."""
    odd = tmp_path / "project"
    render(plain, odd, answers)
    environment = project.environment(EXPKIT_ROOT=str(odd), PYTHONPATH=str(odd / "src"))
    train = odd / "experiments" / "001-baseline" / "train.py"
    shown = yaml.safe_load(call(project.python, train, "show_config=true", cwd=odd, env=environment).stdout)
    assert shown["exp"]["n_folds"] == int(str(answers.get("n_folds", "5")))
    assert not (odd / "x").exists()
    call("uv", "build", "-q", "--wheel", "--out-dir", tmp_path, cwd=odd, env=clean_environment())
    assert list(tmp_path.glob("*experiments-0.1.0-py3-none-any.whl"))


def test_a_refusal_ends_in_one_clear_line(template_repository: Path, tmp_path: Path) -> None:
    """At the command line too; what comes before is copier's."""
    arguments = ["copy", "--defaults", "--data", "n_folds=two\nlines: [", str(template_repository), "project"]
    done = copier_command(*arguments, cwd=tmp_path, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().split("\n")[-1]
    assert re.search(r"Cross-validation takes 2 to 100 folds, not \".{0,40}\.$", last)
    assert last.isprintable()
    assert not (tmp_path / "project").exists()


@pytest.mark.slow
def test_a_project_may_have_the_name_of_a_dependency(
    project: Project, template_repository: Path, tmp_path: Path
) -> None:
    """uv cannot resolve a project that is called as one of its dependencies, direct or not; none can be."""
    locked = tomllib.loads((project.folder / "uv.lock").read_text())
    dependencies = {package["name"] for package in locked["package"] if package["source"].get("registry")}
    assert {"numpy", "wandb", "scikit-learn", "rich", "hydra-core", "pydantic", "pytest"} <= dependencies
    assert not [name for name in dependencies if name.endswith("experiments")], "the ending of every project's name"
    render(template_repository, tmp_path / "named", {"project_name": "scikit-learn"})
    metadata = tomllib.loads((tmp_path / "named/pyproject.toml").read_text())
    assert metadata["project"]["name"] == "scikit-learn-experiments"
    assert metadata["tool"]["expkit"]["wandb_project"] == "scikit-learn"
    call("uv", "lock", "-q", cwd=tmp_path / "named", env=clean_environment())
