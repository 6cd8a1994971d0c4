"""From Python in a rendered project: from any folder, beside Hydra's own functions, in processes that one starts."""

from __future__ import annotations

from pathlib import Path

from conftest import Project, call
from experiments import own_experiment

SCRIPT = """
import expkit
from hydra import compose, initialize_config_dir

for _ in range(2):
    config = expkit.load_config("001-baseline", overrides=["exp=001", "exp.fold=[0]"])
    assert (config.exp.train.learning_rate, config.exp.fold) == (3e-3, [0])

with initialize_config_dir(version_base=None, config_dir=str(expkit.code_root() / "experiments/001-baseline/exp")):
    assert compose("001").name == "001-larger-lr"
    assert expkit.load_config("001-baseline").exp.name == "baseline"
    assert compose("001").name == "001-larger-lr"

"""


def test_from_any_folder(project: Project, tmp_path: Path) -> None:
    call(project.python, "-c", SCRIPT, cwd=tmp_path, env=project.environment())


WHERE = "import expkit; print(expkit.code_root(), flush=True)"


def test_a_command_that_a_training_starts_works_in_its_own_folder(project: Project, tmp_path: Path) -> None:
    """It is not lent the project of the process that starts it; a folder that has been deleted is one line."""
    other = tmp_path / "other"
    (other / "experiments/007-other").mkdir(parents=True)
    (other / "experiments/007-other/train.py").touch()
    (other / "pyproject.toml").write_text("[tool.expkit] # of another project\n")
    show = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WHERE!r}], cwd=sys.argv[1])"
    first = f"{WHERE}; {show}"
    done = call(project.python, "-c", first, other, cwd=project.folder, env=project.environment())
    assert done.stdout.splitlines() == [str(project.folder), str(other)]
    gone = f"import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); {WHERE}"
    assert call(project.python, "-c", gone, cwd=tmp_path, env=project.environment()).stdout == f"{project.folder}\n"


def test_a_process_that_is_spawned_finds_the_project(project: Project, tmp_path: Path) -> None:
    """As the workers of a DataLoader are, wherever the command is typed."""
    spawn = "import expkit, multiprocessing\n\nif __name__ == '__main__':\n"
    spawn += "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
    spawn += "        print(pool.apply(expkit.code_root))\n"
    (tmp_path / "pyproject.toml").write_text("[tool.expkit]\n")
    with own_experiment({"train.py": spawn}, at=project.folder) as folder:
        done = call(project.python, folder / "train.py", cwd=tmp_path, env=project.environment())
    assert done.stdout == f"{project.folder}\n"
