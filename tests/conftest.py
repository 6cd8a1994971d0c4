"""What all tests share: a project for expkit in this process, and rendered projects with an environment of their own.

`import expkit` in a test is that of this working tree, for the project of `_make_plain`, which nothing has rendered;
`root` gives a test data and results of its own. `project` is rendered once, for all workers, with the real tools: a
tagged git repository, copier, uv.
"""

from __future__ import annotations

import gc
import os
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from light import LIGHT, add_light

ROOT = Path(__file__).parents[1]
EXP = ("-c", "from expkit.cli import main; main()")  # after python: the command exp
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
ANSWERS = {"project_name": "Digits & Co", "wandb_project": "digits", "n_folds": 5}

Completed = subprocess.CompletedProcess[str]


def call(*command: str | Path, cwd: Path, env: dict[str, str] | None = None, check: bool = True) -> Completed:
    """Run a command and return what it printed; a failure shows it all."""
    parts = list(map(str, command))
    done = subprocess.run(parts, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    if check and done.returncode != 0:
        raise AssertionError(f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def commit_all(folder: Path, message: str = "chore: all") -> None:
    """Make a git repository of a folder, or add a commit to it."""
    if not (folder / ".git").exists():
        call("git", "init", "-q", "-b", "main", cwd=folder)
    call("git", "add", "-A", cwd=folder)
    call(*GIT, "commit", "-q", "--allow-empty", "-m", message, cwd=folder)


def copier(*arguments: str | Path, cwd: Path, check: bool = True) -> Completed:
    """copier's command line, as a user types it: never with --trust."""
    return call(sys.executable, "-m", "copier", *arguments, cwd=cwd, check=check)


def clean_environment() -> dict[str, str]:
    """The environment of a user without an account: no W&B variable, no PROJECT_ROOT, no Python settings of ours."""
    ours = ("WANDB_", "PROJECT_ROOT", "VIRTUAL_ENV", "PYTHONPATH", "EXPKIT_", "HYDRA_", "UV_PROJECT")
    looks = ("COLUMNS", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")  # rich and click heed them
    left_out = (*ours, *looks, "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(left_out)}


# What all workers share: made by the first one that asks

RUN = "HYDRA_EXP_TEMPLATE_TEST_RUN"  # in the environment of the workers: which run of pytest they belong to


def _shared() -> Path:
    """A folder of this test run; the process that started pytest removes it."""
    folder = Path(tempfile.gettempdir(), f"hydra-exp-template-{os.environ[RUN]}")
    folder.mkdir(exist_ok=True)
    return folder


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once for all workers."""
    folder = _shared() / name
    with FileLock(_shared() / f"{name}.lock"):
        if not (_shared() / f"{name}.made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (_shared() / f"{name}.made").touch()
    return folder


def _make_template(folder: Path) -> None:
    for name in call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    call(folder / ".ci/build-wheel", folder, cwd=folder)  # of the working tree, also before it is built there
    commit_all(folder)
    call("git", "tag", "v0.1.0", cwd=folder)


def _copy_template(folder: Path, **answers: object) -> None:
    template = once("template", _make_template)
    data = [f"--data={key}={value}" for key, value in (ANSWERS | answers).items()]
    copier("copy", "-q", "--defaults", *data, template, folder, cwd=folder.parent)


def _make_project(folder: Path) -> None:
    _copy_template(folder)
    call("uv", "sync", "-q", cwd=folder, env=clean_environment())
    share_bytecode(ROOT, folder)
    _compile(folder, "expkit.cli, hydra.main, sklearn.neural_network, wandb")
    commit_all(folder)


PLAIN = """
[project]
name = "digits-co"
dependencies = [
    "expkit",
]

[tool.expkit]
n_folds = 5
wandb_project = "digits"
"""


def _make_plain(folder: Path) -> None:
    """The project of expkit in the tests' own process: a baseline, the experiment of light.py, no environment."""
    (folder / "pyproject.toml").write_text(PLAIN.lstrip())
    for name in (".gitignore", ".gitattributes"):
        shutil.copy2(ROOT / "template" / name, folder)
    shutil.copytree(ROOT / "template/conf", folder / "conf")
    baseline = ROOT / "expkit/src/expkit/baselines/sklearn"
    shutil.copytree(baseline, folder / "experiments/001-baseline", ignore=shutil.ignore_patterns("__pycache__"))
    add_light(folder)
    commit_all(folder)


def _make_sweeping(folder: Path) -> None:
    clone_of(once("project", _make_project), folder)
    add_light(folder)
    commit_all(folder)
    call("uv", "sync", "-q", "--all-extras", cwd=folder, env=clean_environment())
    share_bytecode(once("project", _make_project), folder)
    _compile(folder, "joblib.externals.loky, optuna.storages, submitit")


def _make_boosting(folder: Path) -> None:
    _copy_template(folder, framework="lightgbm")
    call("uv", "sync", "-q", "--extra", "local", cwd=folder, env=clean_environment())
    commit_all(folder)


def _make_network(folder: Path) -> None:
    _copy_template(folder, framework="torch")
    environment = clean_environment() | {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]}
    call("uv", "venv", "-q", "--python", sys.executable, cwd=folder, env=environment)
    packages = ["-e", ".[local,slurm]", "torch==2.13.0", "pillow", "pytest", "ruff"]
    call("uv", "pip", "install", "-q", *packages, "--python", ".venv/bin/python", cwd=folder, env=environment)
    commit_all(folder)


def _compile(folder: Path, modules: str) -> None:
    """Import modules, so that Python keeps the bytecode: it takes seconds in each new environment."""
    call(folder / ".venv/bin/python", "-c", f"import {modules}", cwd=folder, env=clean_environment())


def share_bytecode(source: Path, folder: Path) -> None:
    """Give a new environment of a project the bytecode of an older one: what is of other packages is not used."""
    for compiled in (source / ".venv/lib").rglob("__pycache__/*.pyc"):
        here = folder / compiled.relative_to(source)
        if here.parents[1].is_dir():
            here.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                os.link(compiled, here)


def clone_of(source: Path, folder: Path) -> Path:
    """A clone of a project. Not by git's copying of its files: another worker may write a snapshot there meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    call("git", "clone", "-q", "--no-local", source, ".", cwd=folder)
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let expkit work for the rendered project; hear Ctrl-C, also when a shell has started pytest in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.fsync = lambda fd: None  # in this process: a test cuts no power, and a disk takes its time
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        os.environ[RUN] = secrets.token_hex(4)
    if is_worker or not getattr(config.option, "numprocesses", None):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
        os.environ["EXPKIT_ROOT"] = str(once(f"plain-{worker}", _make_plain))  # tests add files to it for a while


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(_shared(), ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the bytecode of the tests and of what they import, whatever the environment says: it takes seconds."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    yield
    sys.dont_write_bytecode = before


def pytest_collection_finish() -> None:
    """Look through what is imported by now no more, and through the rest less often: it takes seconds."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notes of the commands in this process: the code, where they lie otherwise, is shared by all tests."""
    monkeypatch.setattr("expkit.notes.notes_dir", lambda: tmp_path / "notes")
    return tmp_path / "notes"


@pytest.fixture(scope="session")
def template_repository() -> Path:
    """The working tree of this repository as a git repository of its own, with a release tag."""
    return once("template", _make_template)


@dataclass(frozen=True)
class Project:
    """A rendered project with its environment."""

    folder: Path
    home: Path  # a home folder without W&B credentials

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"

    def environment(self, **variables: str) -> dict[str, str]:
        return clean_environment() | {"HOME": str(self.home)} | variables

    def train(
        self,
        *arguments: str,
        root: Path | None = None,
        cwd: Path | None = None,
        experiment: str = "001-baseline",
        check: bool = True,
        **variables: str,
    ) -> Completed:
        """Run a train.py, with data and results under `root` (PROJECT_ROOT) and environment variables."""
        if root is not None:
            variables["PROJECT_ROOT"] = str(root)
        file = self.folder / "experiments" / experiment / "train.py"
        environment = self.environment(**variables)
        return call(self.python, file, *arguments, cwd=cwd or self.folder, env=environment, check=check)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def project(home: Path) -> Project:
    """A committed project with its environment, rendered with odd but legal answers. Leave its files as they are."""
    return Project(once("project", _make_project), home)


@pytest.fixture(scope="session")
def shared_sweeping(home: Path) -> Project:
    """A project with the extras and the experiment of light.py, for all workers. Leave its files as they are."""
    return Project(once("sweeping", _make_sweeping), home)


@pytest.fixture(scope="session")
def boosting(home: Path) -> Project:
    """A project with LightGBM. Leave its files as they are."""
    return Project(once("lightgbm", _make_boosting), home)


@pytest.fixture(scope="session")
def network(home: Path) -> Project:
    """A project with PyTorch for the CPU; nothing of several gigabytes is ever downloaded."""
    if sys.version_info[:2] != (3, 11) or not os.environ.get("PIP_FIND_LINKS"):
        pytest.skip("there is no CPU build of PyTorch on this machine")
    return Project(once("torch", _make_network), home)


def own_copy(project: Project, folder: Path) -> Project:
    """A clone of a project that may be changed, with the environment of the original: only expkit is its own."""
    clone_of(project.folder, folder)
    extras = ["--all-extras"] if project.folder.name == "sweeping" else []
    call("uv", "sync", "-q", "--inexact", *extras, cwd=folder, env=clean_environment())
    share_bytecode(project.folder, folder)
    return Project(folder, project.home)


@pytest.fixture(scope="module")
def sweeping(shared_sweeping: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the extras and the experiment of light.py. A test that changes a file puts it back."""
    return own_copy(shared_sweeping, tmp_path_factory.mktemp("sweeping") / "myproj")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for PROJECT_ROOT: data and results of this test, also for expkit in this process."""
    for name in ("input", "control"):
        (tmp_path / "root" / name).mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PROJECT_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture(scope="module")
def module_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for PROJECT_ROOT, with runs that all tests of a module read."""
    root = tmp_path_factory.mktemp("root")
    (root / "input").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(root))
        patch.setenv("WANDB_MODE", "disabled")
        yield root


@pytest.fixture
def quick(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `root`, without git: a snapshot takes longer than a training of a small experiment."""
    monkeypatch.setenv("PATH", str(root))
    return root


@dataclass
class Printed:
    code: int
    out: str
    err: str


Command = Callable[..., Printed]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A train.py as its command line runs it, in this process."""

    def command(*arguments: str, experiment: str = "001-baseline") -> Printed:
        file = Path(os.environ["EXPKIT_ROOT"], "experiments", experiment, "train.py")
        monkeypatch.setattr(sys, "argv", [str(file), *arguments])
        monkeypatch.setattr(sys, "path", [str(file.parent), *sys.path])
        modules = set(sys.modules)
        code = 0
        capsys.readouterr()
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        for name in set(sys.modules) - modules:
            if getattr(sys.modules[name], "__file__", None) == str(file.with_name(f"{name}.py")):
                del sys.modules[name]  # what the script has imported from beside it
        return Printed(code, *capsys.readouterr())

    return command


@dataclass(frozen=True)
class OwnLight:
    """A copy of the light experiment that a test may edit, in `folder`."""

    folder: Path
    train: Command

    def __call__(self, *arguments: str, code: int = 0) -> Printed:
        """Run a command in this process, with the files as they are now, and expect its exit code."""
        from expkit.config import load_experiment

        load_experiment(self.folder.name, again=True)
        done = self.train(*arguments, experiment=self.folder.name)
        assert done.code == code, done
        return done


@pytest.fixture
def own_light(root: Path, train: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnLight]:
    """An experiment for commands and sweeps, one after the other in this process."""
    from experiments import own_experiment  # imports expkit

    monkeypatch.setattr("expkit.snapshot.take", lambda folder: None)  # git would leave it out
    with own_experiment(copy_of=LIGHT) as folder:
        yield OwnLight(folder, train)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project of expkit in this process, as a repository that a test may change; see `helpers.in_clone`."""
    return clone_of(Path(os.environ["EXPKIT_ROOT"]), tmp_path / "clone")


STARTED: list[subprocess.Popen[Any]] = []


def background(*command: str | Path, **options: Any) -> subprocess.Popen[Any]:
    """Start a command that ends with the test, at the latest. Options as for Popen."""
    process: subprocess.Popen[Any] = subprocess.Popen(list(map(str, command)), **options)
    STARTED.append(process)
    return process


@pytest.fixture(autouse=True)
def end_what_was_started() -> Iterator[None]:
    """A test that fails leaves no training behind, and no process that one has started."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            own = psutil.Process(process.pid)
            for each in [own, *own.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()


# What takes longest, and what waits longest, comes first: else one worker has it at the end, and the others are idle.
# What needs no rendered project is among it: else all workers wait for that.
FIRST = """
    torch slurm matrix versions studies_project tries parents docs update readme releases guides notebooks tracking
    launchers page exp render day tasks studies time_limit
""".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"test_{name}.py": number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(FIRST)))


@pytest.hookimpl(optionalhook=True)  # xdist may be switched off
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait, for Slurm, for a server, for a process to end."""
    return (os.cpu_count() or 1) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=4, help="how often the kill tests kill a training (default: 4)")
