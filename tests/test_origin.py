"""Every result leads back to the code, the data and the machine that made it, and nothing secret goes along."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import command
from conftest import GIT, Project, call, commit_all
from experiments import own_experiment
from helpers import counting, results, start
from light import LIGHT, edited, wait_for

import expkit
from expkit import record, snapshot
from expkit.config.load import load_experiment

KEY = "0123456789" * 4
HOOKS = "pre-commit post-commit post-index-change reference-transaction post-checkout pre-auto-gc".split()


def git(folder: Path, *arguments: str) -> str:
    return call(*GIT, *arguments, cwd=folder).stdout


# The record of a fold


def test_what_is_recorded_of_a_fold(sweeping: Project, root: Path) -> None:
    """Command, overrides, packages, machine; the code as a commit, with what no commit of the user's has yet."""
    idea = sweeping.folder / "an idea.txt"
    idea.write_text("untracked")
    sweeping.train("exp.train.x=1", "exp.fold=[3]", root=root, experiment=LIGHT, WANDB_MODE="disabled")
    idea.unlink()
    run = record.read_run(counting(root, "light,exp.train.x=1"))
    origin, result = run.done[3].origin(), run.done[3].result
    assert origin["command"] == ["train.py", "exp.train.x=1", "exp.fold=[3]"]
    assert origin["overrides"] == ["exp.train.x=1", "exp.fold=[3]"]
    assert origin["packages"]["hydra-core"].startswith("1.3")
    assert origin["environment"]["world_size"] == 1
    assert {"host", "platform", "python", "data", "code"} <= origin.keys()
    assert result is not None and result["started"] <= result["finished"] and result["seconds"] >= 0
    assert result["git"]["commit"] == git(sweeping.folder, "rev-parse", "HEAD").strip()
    assert result["git"]["dirty"] is True
    tree = git(sweeping.folder, "ls-tree", "-r", "--name-only", "-z", result["git"]["snapshot"]).split("\0")
    assert {"an idea.txt", f"experiments/{LIGHT}/train.py"} <= set(tree)
    assert not [name for name in tree if name.startswith((".venv", "output/0"))]
    written = yaml.safe_load((run.folder / record.CONFIG).read_text())
    assert (written["exp"]["fold"], written["exp"]["train"]["x"]) == ([3], 1.0)


def test_code_that_is_edited_while_a_process_waits(sweeping: Project, root: Path) -> None:
    """The record holds what ran: old where it had been imported before the edit, new where it was imported after."""
    (root / "control/gate0").touch()
    first = start(sweeping, root, "exp.fold=[0]")
    wait_for(lambda: (root / "control/came0").exists(), first)
    second = start(sweeping, root, "exp.fold=[0]")
    assert second.stdout is not None
    assert second.stdout.readline().startswith("waiting for fold 0")
    folder = sweeping.folder / "experiments" / LIGHT
    with (
        edited(folder / "model.py", "as submitted", "edited"),  # imported by train(), when there is something to train
        edited(folder / "shape.py", "return 10 -", "return 11 -"),  # imported by train.py, at its top
        edited(folder / "train.py", "prediction", "predicted"),
    ):
        first.kill()
        first.communicate()
        (root / "control/gate0").unlink()
        printed = second.communicate(timeout=60)
        assert second.returncode == 0, printed
    result = results(root)[0]
    assert result["values"]["secret"] == "edited"

    def kept(name: str) -> str:
        return git(sweeping.folder, "show", f"{result['git']['snapshot']}:experiments/{LIGHT}/{name}")

    assert '"edited"' in kept("model.py")
    assert kept("shape.py") == (folder / "shape.py").read_text()
    assert kept("train.py") == (folder / "train.py").read_text()
    assert result["git"]["dirty"] is True


@pytest.mark.parametrize(
    ("name", "old", "new", "mixes"),
    [
        ("model.py", "as submitted", "another secret", True),
        ("shape.py", '"""Best at 1."""', "# other words", False),
        ("table.json", "1", "2", True),
        ("train.py", "x: float = 0.0", "x: float = 0.0\n    y: float = 0.0", False),
        ("config.yaml", "name: light", "name: light # a comment", False),
    ],
)
def test_folds_of_different_code_are_marked(
    root: Path, name: str, old: str, new: str, mixes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comment, a docstring, a parameter that is new are no different code; a table that it reads is code."""
    with own_experiment({"table.json": "1"}, copy_of=LIGHT) as folder:
        model = (folder / "model.py").read_text()
        (folder / "model.py").write_text(f"{model}\nTABLE = Path(__file__).with_name('table.json').read_text()\n")
        expkit.run(folder.name, overrides=["exp.fold=[0]"])
        with edited(folder / name, old, new):
            load_experiment(folder.name, again=True)
            expkit.run(folder.name, overrides=["exp.fold=[0,1]"])
            warned = f"warning: the code has changed since fold 0 (experiments/{folder.name}/{name})"
            printed = capsys.readouterr()
            assert (warned in printed.err, "mixed code" in printed.out) == (mixes, mixes)
            [row] = expkit.read_board()
            assert ("mixed code" in row.marks) == mixes
            expkit.run(folder.name, overrides=["exp.fold=[0,1]", "overwrite=true"])
            [row] = expkit.read_board()
            assert "mixed code" not in row.marks


def test_a_module_that_experiments_share_is_code(sweeping: Project, root: Path) -> None:
    shared = sweeping.folder / "src/features.py"
    try:
        with edited(
            sweeping.folder / "experiments" / LIGHT / "shape.py", "import math", "import math\n\nimport features"
        ):
            for fold, text in enumerate(("ANSWER = 41\n", "ANSWER = 42\n")):
                shared.write_text(text)
                sweeping.train(f"exp.fold=[{fold}]", root=root, experiment=LIGHT, WANDB_MODE="disabled")
    finally:
        shared.unlink()
    assert "src/features.py" in record.read_run(counting(root)).done[0].origin()["code"]
    [row] = expkit.read_board()
    assert "mixed code" in row.marks


def test_the_shared_package_is_installed_and_is_code(own_project: Callable[[], Project], root: Path) -> None:
    """Imported by its name from anywhere; an edit between two folds mixes their code; it is in the snapshot."""
    project = own_project()
    [package] = [path for path in (project.folder / "src").iterdir() if path.name == "digits_co_experiments"]
    (package / "features.py").write_text("FACTOR = 1\n")
    assert call(project.python, "-c", f"import {package.name}.features", cwd=root).returncode == 0
    train = project.folder / "experiments/001-baseline/train.py"
    line = "    import model  # heavy"
    train.write_text(train.read_text().replace(line, f"    from {package.name} import features\n\n{line}"))
    project.train("exp.fold=[0]", "exp.train.epoch=1", root=root, WANDB_MODE="disabled")
    (package / "features.py").write_text("FACTOR = 2\n")
    done = project.train("exp.fold=[0,1]", "exp.train.epoch=1", root=root, WANDB_MODE="disabled")
    assert f"the code has changed since fold 0 (src/{package.name}/features.py)" in done.stderr
    [row] = expkit.read_board()
    assert "mixed code" in row.marks
    [run] = (root / "output/001-baseline").glob("baseline*")
    for fold, factor in enumerate((1, 2)):
        found = results(root, run.name, "001-baseline")[fold]["git"]["snapshot"]
        path = f"{found}:src/{package.name}/features.py"
        assert call("git", "show", path, cwd=project.folder).stdout == f"FACTOR = {factor}\n"


# The snapshot of the code


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text("first\n")
    (folder / "code.py").write_text("pass\n")
    commit_all(folder)
    return folder


def state(folder: Path) -> tuple[object, ...]:
    """Everything of a repository that belongs to its user."""
    commands = (["status", "--porcelain"], ["stash", "list"], ["branch", "-a", "-v"], ["diff", "--cached"])
    contents = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return (folder / ".git/index").read_bytes(), contents, *(git(folder, *command) for command in commands)


def test_a_snapshot_touches_nothing_of_the_users(repository: Path, tmp_path: Path) -> None:
    """Index, stash, branch and files stay; no hook runs; it survives git gc, and equal trees share one."""
    readme = repository / "README.md"
    readme.write_text("first\nstaged\n")
    git(repository, "add", "README.md")
    readme.write_text("first\nstaged\nand more\n")
    (repository / "untracked.txt").write_text("an idea")
    git(repository, "status")  # refreshes the index
    for name in HOOKS:
        hook = repository / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/hooks-ran\n")
        hook.chmod(0o755)
    before = state(repository)
    (tmp_path / "hooks-ran").unlink(missing_ok=True)
    taken = snapshot.take(repository)
    assert not (tmp_path / "hooks-ran").exists()
    assert state(repository) == before
    assert taken is not None and taken["dirty"]
    assert snapshot.take(repository) == taken
    assert git(repository, "show", f"{taken['snapshot']}:README.md") == readme.read_text()
    assert git(repository, "show", f"{taken['snapshot']}:untracked.txt") == "an idea"
    git(repository, "gc", "--quiet", "--prune=now")
    git(repository, "cat-file", "-e", taken["snapshot"])


def become_unmerged(folder: Path) -> None:
    blob = git(folder, "rev-parse", "HEAD:code.py").strip()
    lines = "".join(f"100644 {blob} {stage}\tcode.py\n" for stage in (1, 2, 3))
    git(folder, "rm", "-q", "--cached", "code.py")
    subprocess.run(["git", "update-index", "--index-info"], cwd=folder, input=lines.encode(), check=True)
    (folder / "code.py").write_text("<<<<<<< both\n")


def become_folder(folder: Path) -> None:
    (folder / "code.py").unlink()
    (folder / "code.py").mkdir()
    (folder / "code.py/part.py").write_text("1")


def hide(flag: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (git(folder, "update-index", flag, "code.py"), (folder / "code.py").write_text(text))


def inner(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner/part.py").write_text("1")
    commit_all(folder / "inner")


def edit_inner(folder: Path) -> None:
    inner(folder)
    git(folder, "add", "-A")
    (folder / "inner/part.py").write_text("2")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "edited": lambda folder: (folder / "code.py").write_text("edited"),
    "edited at the same size": lambda folder: (folder / "code.py").write_text("ssap\n"),
    "executable": lambda folder: (folder / "code.py").chmod(0o755),
    "deleted": lambda folder: (folder / "code.py").unlink(),
    "deleted, but not in the working tree": lambda folder: git(folder, "rm", "-q", "--cached", "code.py"),
    "new": lambda folder: (folder / "new.py").write_text("1"),
    "a strange name": lambda folder: (folder / "a\tb\n ä.py").write_text("1"),
    "staged": lambda folder: ((folder / "new.py").write_text("1"), git(folder, "add", "new.py")),
    "to be added": lambda folder: ((folder / "new.py").write_text("1"), git(folder, "add", "-N", "new.py")),
    "assumed unchanged": hide("--assume-unchanged", "edited"),
    "skipped": hide("--skip-worktree", "edited"),
    "unmerged": become_unmerged,
    "a link": lambda folder: ((folder / "code.py").unlink(), (folder / "code.py").symlink_to("README.md")),
    "a folder": become_folder,
    "a repository inside": inner,
    "a repository inside that is edited": edit_inner,
    "a note": lambda folder: ((folder / "notes").mkdir(), (folder / "notes/001.jsonl").write_text("{}")),
    "a result": lambda folder: ((folder / "output").mkdir(), (folder / "output/oof.csv").write_text("1")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_is_the_working_tree(repository: Path, change: str) -> None:
    """Whatever alone has changed, and however git has been told not to look."""
    CHANGES[change](repository)
    taken = snapshot.take(repository)
    assert taken is not None
    expected = {}
    for file in repository.rglob("*"):
        name = file.relative_to(repository).as_posix()
        if file.is_file() and ".git" not in name.split("/") and not name.startswith(("notes/", "output/")):
            mode = "120000" if file.is_symlink() else "100755" if file.stat().st_mode & 0o100 else "100644"
            expected[name] = (mode, str(file.readlink()) if file.is_symlink() else file.read_text())
    kept = {}
    for line in git(repository, "ls-tree", "-r", "-z", taken["snapshot"]).split("\0")[:-1]:
        about, _, name = line.partition("\t")
        kept[name] = (about.split()[0], git(repository, "cat-file", "blob", about.split()[2]))
    assert kept == expected
    trees = [git(repository, "rev-parse", f"{commit}^{{tree}}") for commit in (taken["commit"], taken["snapshot"])]
    assert taken["dirty"] == (trees[0] != trees[1])


@pytest.mark.parametrize("times", [1, 100])
def test_a_file_that_vanishes_meanwhile(
    repository: Path, monkeypatch: pytest.MonkeyPatch, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """An editor's temporary file, between git's list and its look: git fails, and is asked again, not for ever."""
    (repository / "new.py").write_text("1")
    asked: list[str] = []
    original = snapshot.git

    def failing(folder: Path, *arguments: str, **options: Any) -> str:
        asked.extend(arguments[:1])
        if arguments[0] == "add" and asked.count("add") <= times:
            raise subprocess.CalledProcessError(128, "git", stderr="fatal: unable to stat 'new.py~'")
        return original(folder, *arguments, **options)

    monkeypatch.setattr(snapshot, "git", failing)
    taken = snapshot.take(repository)
    assert (taken is None) == (times > 1) and asked.count("add") == min(times + 1, snapshot.ATTEMPTS)
    assert ("unable to stat" in capsys.readouterr().err) == (times > 1)


def test_a_snapshot_before_the_first_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("pass")
    taken = snapshot.take(tmp_path)
    assert taken is not None and (taken["commit"], taken["dirty"]) == ("", True)
    assert git(tmp_path, "ls-tree", "-r", "--name-only", taken["snapshot"]) == "train.py\n"


def test_a_project_in_a_path_with_a_line_break(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb" / "project"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "-q")
    (folder / "train.py").write_text("pass")
    for place in (folder, folder.parent):
        taken = snapshot.take(place)
        assert taken is not None
        assert git(folder.parent, "ls-tree", "-r", "--name-only", taken["snapshot"]) == "project/train.py\n"


@pytest.mark.parametrize("lacking", ["git", "repository"])
def test_without_git(
    root: Path, tmp_path: Path, lacking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, and the command says once that there is no snapshot."""
    if lacking == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr("expkit.rundir.code_root", lambda: tmp_path)
    command("exp.fold=[0,1]").train()
    assert [result["git"] for result in results(root).values()] == [None, None]
    errors = capsys.readouterr().err
    assert errors.startswith("warning: no snapshot of the code") and errors.count("\n") == 1


@pytest.mark.slow
def test_folds_of_different_code_are_made_again_each_with_its_own(sweeping: Project, root: Path) -> None:
    """Identical, though the working tree has changed since; nothing of the run or the repository is touched."""
    folder = sweeping.folder / "experiments" / LIGHT
    arguments = {"root": root, "experiment": LIGHT, "WANDB_MODE": "disabled"}
    sweeping.train("exp.fold=[0,1]", "exp.train.x=10", **arguments)
    with edited(folder / "shape.py", "return 10 -", "return 11 -"):
        sweeping.train("exp.fold=[2]", "exp.train.x=10", **arguments)
    run = counting(root, "light,exp.train.x=10")
    assert {number: result["scores"]["quality"] for number, result in results(root, run.name).items()} == {
        0: 9.0,
        1: 9.0,
        2: 10.0,
    }
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    exp = sweeping.python.with_name("exp")
    environment = sweeping.environment(PROJECT_ROOT=str(root))
    with edited(folder / "shape.py", "return 10 -", "return 12 -"), edited(folder / "config.yaml", "light", "other"):
        done = call(exp, "reproduce", run.name, cwd=sweeping.folder, env=environment)
    assert done.stdout.strip() == "identical"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert git(sweeping.folder, "worktree", "list").count("\n") == 1


# Secrets


SECRET = [".env", ".env.local", ".env.example.local", "kaggle.json", ".netrc", "_netrc", "server.PEM", "id_rsa"]
SECRET += ["id_ed25519", "id_rsa.bak", "deeper/.env/bin/activate", ".envrc", "credentials.json", "token.json"]
SECRET += ["server.key", "secrets.yaml", "secrets.toml", ".aws/config", "credentials"]
NO_SECRET = [
    ".env.example",
    "env.py",
    "kaggle.py",
    "id_rsa.pub",
    "id.txt",
    "pem.py",
    "secrets.py",
    "tokenizer.json",
    "train.py",
]


@pytest.mark.parametrize("place", ["", "src/package", "inner", "inner/deep"])
def test_secrets_are_in_no_snapshot(tmp_path: Path, place: str) -> None:
    """Wherever they lie, and whatever .gitignore says; also in another repository inside this one."""
    git(tmp_path, "init", "-q")
    if place.startswith("inner"):
        (tmp_path / "inner").mkdir()
        git(tmp_path / "inner", "init", "-q")
    for name in (*SECRET, *NO_SECRET):
        file = tmp_path / place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a secret?")
    taken = snapshot.take(tmp_path)
    assert taken is not None
    kept = git(tmp_path, "ls-tree", "-r", "--name-only", taken["snapshot"]).splitlines()
    assert kept == sorted(str(Path(place, name)) for name in NO_SECRET)


def test_a_secret_that_git_tracks_stays_as_it_was_committed(repository: Path) -> None:
    """It is in the user's own history; what has changed in it since is not."""
    (repository / ".env").write_text("committed")
    git(repository, "add", "-f", ".env")
    git(repository, "commit", "-q", "-m", "chore: an env file")
    (repository / ".env").write_text("secret")
    taken = snapshot.take(repository)
    assert taken is not None and git(repository, "show", f"{taken['snapshot']}:.env") == "committed"


@pytest.fixture
def dotenv(sweeping: Project) -> Iterator[str]:
    """A secret that the project's .env holds."""
    secret = "planted-secret-8c1f"
    file = sweeping.folder / ".env"
    file.write_text(f"KAGGLE_KEY={secret}\nWANDB_API_KEY={KEY}\n")
    yield secret
    file.unlink()


@pytest.mark.slow
def test_no_secret_is_written(sweeping: Project, root: Path, dotenv: str) -> None:
    """Neither under output/ nor in any object of git: the key of W&B, and what stands in .env."""
    server = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    for mode in ("offline", "online"):  # online: no such server
        sweeping.train("exp.fold=[0,1]", "overwrite=true", root=root, experiment=LIGHT, WANDB_MODE=mode, **server)
    sweeping.train("-m", "exp.train.x=1,2", root=root, experiment=LIGHT, WANDB_MODE="offline")
    written = [file for file in root.rglob("*") if file.is_file()]
    assert len(written) > 40
    objects = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=sweeping.folder, capture_output=True, check=True
    ).stdout
    assert b"as submitted" in objects
    for content in (objects, *(file.read_bytes() for file in written)):
        assert dotenv.encode() not in content
        assert KEY.encode() not in content
