"""Every result leads back to the code, the data and the machine that made it, and nothing secret goes along."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import command
from conftest import GIT, call, commit_all
from experiments import own_experiment
from helpers import results, tree
from light import LIGHT, edited

import expkit
from expkit import snapshot
from expkit.config import load_experiment

HOOKS = "pre-commit post-commit post-index-change reference-transaction post-checkout pre-auto-gc".split()


def git(folder: Path, *arguments: str) -> str:
    return call(*GIT, *arguments, cwd=folder).stdout


# The record of a fold


@pytest.mark.parametrize(
    ("name", "old", "new", "mixes"),
    [
        ("model.py", "as submitted", "another secret", True),
        ("train.py", "x: float = 0.0", "x: float = 0.0\n    y: float = 0.0", False),
    ],
)
@pytest.mark.parametrize(
    ("then", "mark"),
    [("exp.fold=[0,1]", "mixed code"), ("exp.fold=[1]", "mixed code"), ("exp.mode=sub", "all data: other code")],
)
def test_folds_of_different_code_are_marked(
    root: Path, name: str, old: str, new: str, mixes: bool, then: str, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """So is a training on all rows, whose predictions would be submitted. A parameter that is new is no other code."""
    with own_experiment(copy_of=LIGHT) as folder:
        expkit.run(folder.name, overrides=["exp.fold=[0]"])
        with edited(folder / name, old, new):
            load_experiment(folder.name, again=True)
            expkit.run(folder.name, overrides=[then])
            warned = f"warning: the code has changed since fold 0 (experiments/{folder.name}/{name})"
            assert (warned in capsys.readouterr().err) == mixes
            [row] = expkit.read_board()
            assert (mark in row.marks) == mixes


def test_folds_of_different_code_are_made_again_each_with_its_own(root: Path) -> None:
    """Identical, though the working tree has changed since; nothing of the run is touched."""
    name = "light,exp.train.x=10"
    with own_experiment(copy_of=LIGHT) as folder:
        (folder / ".gitignore").unlink()  # the snapshots are to have it
        expkit.run(folder.name, overrides=["exp.fold=[0]", "exp.train.x=10"])
        with edited(folder / "shape.py", "return 10 -", "return 11 -"):
            load_experiment(folder.name, again=True)
            expkit.run(folder.name, overrides=["exp.fold=[1]", "exp.train.x=10"])
        found = results(root, name, folder.name)
        assert [found[fold]["scores"]["quality"] for fold in (0, 1)] == [9.0, 10.0]
        before = tree(root / "output" / folder.name)
        with edited(folder / "shape.py", "return 10 -", "return 12 -"):
            assert str(expkit.reproduce(name)) == "identical"
        assert tree(root / "output" / folder.name) == before


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


def edit_inner(folder: Path, is_submodule: bool = True) -> None:
    (folder / "inner").mkdir()
    (folder / "inner/part.py").write_text("1")
    commit_all(folder / "inner")
    if is_submodule:
        git(folder, "add", "-A")
    (folder / "inner/part.py").write_text("2")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "edited": lambda folder: (folder / "code.py").write_text("ssap\n"),
    "executable": lambda folder: (folder / "code.py").chmod(0o755),
    "deleted": lambda folder: (folder / "code.py").unlink(),
    "deleted, but not in the working tree": lambda folder: git(folder, "rm", "-q", "--cached", "code.py"),
    "new": lambda folder: (folder / "new.py").write_text("1"),
    "a strange name": lambda folder: (folder / "a\tb\n ä.py").write_text("1"),
    "staged": lambda folder: ((folder / "new.py").write_text("1"), git(folder, "add", "new.py")),
    "unmerged": become_unmerged,
    "a link": lambda folder: ((folder / "code.py").unlink(), (folder / "code.py").symlink_to("README.md")),
    "a repository inside": lambda folder: edit_inner(folder, is_submodule=False),
    "a submodule": edit_inner,
    "data": lambda folder: ((folder / "input").mkdir(), (folder / "input/train.csv").write_text("1")),
    "a schema": lambda folder: ((folder / "a/.schema").mkdir(parents=True), (folder / "a/.schema/exp.json").touch()),
    "a note": lambda folder: ((folder / "notes").mkdir(), (folder / "notes/001.jsonl").write_text("{}")),
    "a result": lambda folder: ((folder / "output").mkdir(), (folder / "output/oof.csv").write_text("1")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_is_the_working_tree(repository: Path, change: str) -> None:
    """Whatever alone has changed."""
    CHANGES[change](repository)
    taken = snapshot.take(repository)
    assert taken is not None
    expected = {}
    for file in repository.rglob("*"):
        name = file.relative_to(repository).as_posix()
        if file.is_file() and not {".git", ".schema", "input", "notes", "output"} & {*name.split("/")}:
            mode = "120000" if file.is_symlink() else "100755" if file.stat().st_mode & 0o100 else "100644"
            expected[name] = (mode, str(file.readlink()) if file.is_symlink() else file.read_text())
    kept = {}
    for line in git(repository, "ls-tree", "-r", "-z", taken["snapshot"]).split("\0")[:-1]:
        about, _, name = line.partition("\t")
        kept[name] = (about.split()[0], git(repository, "cat-file", "blob", about.split()[2]))
    assert kept == expected
    trees = [git(repository, "rev-parse", f"{commit}^{{tree}}") for commit in (taken["commit"], taken["snapshot"])]
    assert taken["dirty"] == (trees[0] != trees[1])


def test_a_snapshot_before_the_first_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("pass")
    taken = snapshot.take(tmp_path)
    assert taken is not None and (taken["commit"], taken["dirty"]) == ("", True)
    assert git(tmp_path, "ls-tree", "-r", "--name-only", taken["snapshot"]) == "train.py\n"


def test_without_a_repository(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, and the command says once that there is no snapshot."""
    monkeypatch.setattr("expkit.runner.code_root", lambda: tmp_path)
    command("exp.fold=[0,1]").train()
    assert [result["git"] for result in results(root).values()] == [None, None]
    errors = capsys.readouterr().err
    assert errors.startswith("warning: no snapshot of the code") and errors.count("\n") == 1


# Secrets


SECRET = """
    .env .env.local .env.example.local kaggle.json .netrc _netrc server.PEM id_rsa id_ed25519 id_rsa.bak
    deeper/.env/bin/activate .envrc credentials.json token.json server.key secrets.yaml secrets.toml .aws/config
    credentials access_token access_token.txt .kaggle/notes.txt
""".split()
NO_SECRET = ".env.example env.py kaggle.py id_rsa.pub id.txt pem.py secrets.py tokenizer.json train.py".split()


@pytest.mark.parametrize("place", ["src/package", "inner/deep"])
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
    (repository / ".env").write_text("committed")
    git(repository, "add", "-f", ".env")
    git(repository, "commit", "-q", "-m", "chore: an env file")
    (repository / ".env").write_text("secret")
    taken = snapshot.take(repository)
    assert taken is not None and git(repository, "show", f"{taken['snapshot']}:.env") == "committed"
