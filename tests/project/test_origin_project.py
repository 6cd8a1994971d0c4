"""Every result leads back to the code, the data and the machine that made it, and nothing secret goes along."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import GIT, Project, call, commit_all
from helpers import counting, results, start
from light import LIGHT, edited, wait_for

import expkit
from expkit import store

KEY = "0123456789" * 4


def git(folder: Path, *arguments: str) -> str:
    return call(*GIT, *arguments, cwd=folder).stdout


# The record of a fold


def test_what_is_recorded_of_a_fold(sweeping: Project, root: Path) -> None:
    """Command, overrides, packages, machine; the code as a commit, with what no commit of the user's has yet."""
    idea = sweeping.folder / "an idea.txt"
    idea.write_text("untracked")
    sweeping.train("exp.train.x=1", "exp.fold=[3]", root=root, experiment=LIGHT, WANDB_MODE="disabled")
    idea.unlink()
    run = store.read_run(counting(root, "light,exp.train.x=1"))
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
    written = yaml.safe_load((run.folder / "config.yaml").read_text())
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
    assert "src/features.py" in store.read_run(counting(root)).done[0].origin()["code"]
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
