"""Any answer is refused in one line, or comes back exactly from a project whose every file parses."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tempfile
import tomllib
import unicodedata
import warnings
from pathlib import Path
from zipfile import ZipFile

import copier
import pytest
import yaml
from conftest import ROOT, Project, call, clean_environment
from conftest import copier as copier_command
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

QUESTIONS = yaml.safe_load((ROOT / "copier.yml").read_text())

HOSTILE = [
    *('"', "'", '"""', "\\", "\\n", "\\x00", "\n", "\r", "\t", "\0", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff"),
    *("🎉", "👩‍👩‍👧", "e\u0301", "実験", "שלום", "\u202eabc", "\u200b", "\ud800", "\ufffe", "\U0010ffff"),
    *("{{ 7 * 7 }}", "{{", "}}", "{% raw %}", "{% include 'copier.yml' %}", "{#", "#}", "{{ _copier_conf.src_path }}"),
    *("$(touch x)", "`touch x`", "; touch x", "!!python/none", "[section]", "a = 1", " ", "  ", " 5", ": ", " #", "- "),
    *"${oc.env:HOME} ${ %s {0} %(name)s && | <!-- --> yes no null ~ true 1e3 0x10 1:30 2001-01-01 = << 5 ?".split(),
    *".inf -1 &a *a @ [ ] { } , > |- --- ... %YAML con NUL aux.txt COM1 lpt9. name. ../x a/b C:\\x [5]".split(),
    *"numpy wandb scikit-learn hydra-core expkit experiments __init__ - _ . 123".split(),
    "x" * 60,
]
ANY_TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from(HOSTILE), max_size=4).map("".join),
    st.text(st.characters(), max_size=140),
    st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=100),
)
NAMES = st.one_of(ANY_TEXT, st.sampled_from(["My experiments", "Digits & Co"]))
FOLDS = st.one_of(st.integers(-1, 101), st.integers(2, 100), ANY_TEXT, st.sampled_from(["5", "05", "५", "5\n", "1_0"]))


def has_control_character(text: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


def refusal(answers: dict[str, object]) -> str | None:
    """What must be refused, and in which words: the rules of copier.yml, written down a second time in Python."""
    name, wandb_project, n_folds = answers["project_name"], answers["wandb_project"], answers.get("n_folds", "5")
    assert isinstance(name, str) and isinstance(wandb_project, str)
    if not name.strip():
        return "The name is empty: give it at least one letter."
    if len(name) > 100:
        return f"The name has {len(name)} characters: use at most 100."
    if has_control_character(name):
        return "The name has a line break or another control character: use one line of plain text."
    if not wandb_project.strip():
        return "The W&B project is empty: give it a name, such as "
    if wandb_project != wandb_project.strip():
        return "The W&B project begins or ends with a space: leave it out."
    if len(wandb_project) > 128:
        return f"The W&B project has {len(wandb_project)} characters: use at most 128."
    if has_control_character(wandb_project) or set(wandb_project) & set("/\\#?%:"):
        return "The W&B project has a character that W&B refuses: leave out / \\ # ? % : and control characters."
    if str(n_folds) not in map(str, range(2, 101)):
        return "Cross-validation takes 2 to 100 folds, not "
    return None


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


def assert_refused_or_exact(template: Path, folder: Path, answers: dict[str, object]) -> bool:
    """Render; True when the answers were taken."""
    complaint = refusal(answers)
    if complaint is not None:
        with pytest.raises(ValueError, match=re.escape(complaint)) as refused:
            render(template, folder, answers)
        assert len(str(refused.value).splitlines()) == 1
        assert not folder.exists(), "nothing is left of a refused project"
        return False
    render(template, folder, answers)
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    parsed = {name: parse(file) for name, file in files.items()}
    remembered = parsed[".copier-answers.yml"]
    pyproject = parsed["pyproject.toml"]
    config = parsed["experiments/001-baseline/config.yaml"]
    assert isinstance(remembered, dict) and isinstance(pyproject, dict) and isinstance(config, dict)
    n_folds = str(answers.get("n_folds", "5"))
    assert remembered.items() >= (answers | {"n_folds": n_folds}).items()
    assert pyproject["project"]["description"] == answers["project_name"]
    assert pyproject["tool"]["expkit"]["wandb_project"] == answers["wandb_project"]
    assert config["exp"]["n_folds"] == int(n_folds)
    assert files["README.md"].read_text(encoding="utf-8").split("\n")[0] == f"# {answers['project_name']}"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", pyproject["project"]["name"])
    return True


REFUSED = {
    "project_name": ["", "  ", "two\nlines", "del\x7f", "nel\x85", "x" * 101],
    "wandb_project": ["", "a/b", "a\\b", "50%", " a", "x" * 129],
    "n_folds": ["1", "-3", "many", "2.5", "true", "101", "5\n"],
}


def test_an_answer_that_cannot_work_is_refused(plain: Path, tmp_path: Path) -> None:
    fine: dict[str, object] = {"project_name": "a", "wandb_project": "b", "n_folds": "5"}
    for question, values in REFUSED.items():
        for value in values:
            assert not assert_refused_or_exact(plain, tmp_path / "project", fine | {question: value})


@pytest.mark.slow
def test_any_answers(plain: Path, request: pytest.FixtureRequest) -> None:
    examples, taken = request.config.getoption("--examples"), []

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries({"project_name": NAMES, "wandb_project": NAMES, "n_folds": FOLDS}))
    @example({"project_name": "x" * 100, "wandb_project": "y" * 128, "n_folds": "100"})
    @example({"project_name": " {{ 7 * 7 }} ${oc.env:HOME} $(touch x) '\"\\ ", "wandb_project": "no", "n_folds": 2})
    def holds(answers: dict[str, object]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            taken.append(assert_refused_or_exact(plain, Path(folder, "project"), answers))

    holds()
    assert 0 < sum(taken) < len(taken), "some answers are taken, and some refused"


ODD = [
    {
        "project_name": "He said \"go\" \\ 'left' {{ 7 * 7 }} {% raw %} $(touch x)",
        "wandb_project": "${HOME} {{ 7 * 7 }}",
    },
    {"project_name": "null", "wandb_project": "~", "n_folds": "2"},
    {"project_name": " \u202eשלום 👩‍👩‍👧 e\u0301 \ufeff\u200b ", "wandb_project": "実験 🎉", "n_folds": "100"},
    {"project_name": "x" * 100, "wandb_project": "- " + "y" * 126},
]


@pytest.mark.parametrize("answers", [ODD[0], *(pytest.param(each, marks=pytest.mark.slow) for each in ODD[1:])])
def test_odd_answers_work(plain: Path, project: Project, tmp_path: Path, answers: dict[str, object]) -> None:
    """The configuration is shown; uv takes the metadata: the name of the package, and a description in any script."""
    odd = tmp_path / "project"
    assert assert_refused_or_exact(plain, odd, answers)
    environment = project.environment(EXPKIT_ROOT=str(odd), PYTHONPATH=str(odd / "src"))
    train = odd / "experiments" / "001-baseline" / "train.py"
    shown = yaml.safe_load(call(project.python, train, "show_config=true", cwd=odd, env=environment).stdout)
    assert shown["exp"]["n_folds"] == int(str(answers.get("n_folds", "5")))
    assert not (odd / "x").exists()
    call("uv", "build", "-q", "--wheel", "--out-dir", tmp_path, cwd=odd, env=clean_environment())
    assert list(tmp_path.glob("*experiments-0.1.0-py3-none-any.whl"))


@pytest.mark.parametrize("value", ["two\nlines: [", pytest.param("\x1b[2J" * 99, marks=pytest.mark.slow)])
def test_a_refusal_ends_in_one_clear_line(template_repository: Path, tmp_path: Path, value: str) -> None:
    """At the command line too; what comes before is copier's."""
    arguments = ["copy", "--defaults", "--data", f"n_folds={value}", str(template_repository), "project"]
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
