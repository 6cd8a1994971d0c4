"""What several test files read from the disk, and how they start a training in the background."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import Printed, Project, background, call, clean_environment
from light import LIGHT

import expkit
from expkit import store
from expkit.cli import app

HEAVY = ("wandb", "numpy", "sklearn", "scipy", "torch", "rich", "pandas", "joblib")
STOPPED = {
    signal.SIGINT: (130, "stopped"),
    signal.SIGTERM: (143, "stopped by SIGTERM"),
    signal.SIGHUP: (129, "stopped by SIGHUP"),
}


def load(file: Path) -> dict[str, Any]:
    """A JSON file."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def counting(root: Path, run: str = "light", experiment: str = LIGHT) -> Path:
    """The folder of the version of a run that counts."""
    folder = store.folder_of(root / "output", f"{experiment}/{run}")
    assert folder is not None, f"there is no run {run} in {root}/output/{experiment}"
    return folder


def results(root: Path, run: str = "light", experiment: str = LIGHT) -> dict[int, dict[str, Any]]:
    """The result.json of each fold that is done, in the version that counts; {} while there is no run."""
    folder = store.folder_of(root / "output", f"{experiment}/{run}")
    done = store.read_run(folder).done if folder is not None else {}
    return {number: fold.result for number, fold in done.items() if fold.result is not None}


def scores_and_predictions(folder: Path) -> dict[int, tuple[dict[str, float], bytes]]:
    """The scores of each fold that is done in a version of a run, and the bytes of its predictions."""
    done = store.read_run(folder).done
    return {
        number: (fold.result["scores"], (fold.folder / store.OOF).read_bytes())
        for number, fold in done.items()
        if fold.result is not None
    }


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was changed, and its content."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(found)}


def folders(root: Path) -> list[str]:
    """The versions of all runs that have a folder."""
    return sorted(path.name for path in (root / "output" / LIGHT).glob("[!.]*"))


def frozen(root: Path) -> list[Any]:
    """The trials of all studies of Optuna."""
    from expkit.study import opened  # imports Optuna

    storage = opened(str(root / "output/multirun/optuna.log"))
    return [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


def trials(root: Path) -> list[tuple[str, float | None, float | None]]:
    """State, parameter and score of each trial."""
    return [(one.state.name, one.params.get("exp.train.x"), one.value) for one in frozen(root)]


def imported(profile: str) -> set[str]:
    """The top-level packages in what Python writes with PYTHONPROFILEIMPORTTIME."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in profile.splitlines()}


def start(
    project: Project,
    root: Path,
    *arguments: str,
    experiment: str = LIGHT,
    stdout: int = subprocess.PIPE,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start a train.py in the background, from the project's root, without W&B unless `variables` say so."""
    command = [f"experiments/{experiment}/train.py", *arguments]
    environment = project.environment(**{"PROJECT_ROOT": str(root), "WANDB_MODE": "disabled"} | variables)
    options = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    return background(project.python, *command, cwd=project.folder, env=environment, **options)


def _invoked(arguments: Sequence[str], code: int) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def exp(*arguments: str, code: int = 0) -> str:
    """What the command prints, in this process."""
    return _invoked(arguments, code).output


def exp_json(*arguments: str) -> Any:
    """What the command prints with --json, without warnings, read as other programs read it: no NaN, no Infinity."""
    return strictly(_invoked([*arguments, "--json"], 0).stdout)


def short(value: Any) -> Any:
    """Numbers as a program gets them, with 6 significant digits."""
    if isinstance(value, dict):
        return {key: short(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def strictly(text: str) -> Any:
    """JSON without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def refused(*arguments: str) -> str:
    """The one line of an error."""
    with pytest.raises(expkit.Error) as caught:
        exp(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def compared(*arguments: str) -> dict[str, Any]:
    """What `exp diff` says of two runs."""
    found: dict[str, Any] = exp_json("diff", *arguments)["comparison"]
    return found


def assert_refused(printed: Printed, mentions: str, root: Path, code: int = 2) -> None:
    assert (printed.code, printed.out) == (code, ""), printed
    assert len(printed.err.splitlines()) == 1, printed.err
    assert printed.err.startswith("error: ")
    assert mentions in printed.err
    assert files(root) == []


def environment_of(clone: Path, **variables: str) -> dict[str, str]:
    here = {"EXPKIT_ROOT": str(clone), "PYTHONPATH": str(clone / "src"), "WANDB_MODE": "disabled"}
    return clean_environment() | here | variables


RUN_ALL = """
import json, sys
from click.testing import CliRunner
from expkit.cli import app
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments)
    print(json.dumps([result.exit_code, result.output, str(result.exception or "")]))
"""


def in_clone(clone: Path, *commands: list[str]) -> list[tuple[str, str]]:
    """What each command of `exp` prints, and the error that ends it; in the project `clone`."""
    done = call(sys.executable, "-c", RUN_ALL, json.dumps(commands), cwd=clone, env=environment_of(clone))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [(printed, error) for _, printed, error in found]


def run_of(name: str = "001-one/a", scores: Sequence[float] = (), rows: str = "rows", **facts: Any) -> Any:
    """A stand-in for a `store.Run`: what the board and `exp diff` read of one that is done.

    Args:
        scores: of the folds; their mean is the score.
        rows: which each fold has left out; of equal ones, the same.
        facts: other attributes of the run.
    """
    experiment, _, run = name.partition("/")
    folds = dict(enumerate(scores))
    about: dict[str, Any] = dict.fromkeys(["metric_hash", "split", "seed", "failure", "dataset", "info"])
    about |= {name: {} for name in ("other_scores", "targets", "config", "results")}
    about |= {"title": name, "id": name, "experiment": experiment, "name": run, "folder": Path("/nowhere", name)}
    about |= {"metric": "accuracy", "greater_is_better": True, "marks": (), "leaks": ()}
    about |= {"commit": "1234567", "seconds": 12.0}
    about |= {"rows": 0, "parents": (), "data": frozenset(), "finished": "2026-01-02T03:04:05+00:00"}
    about |= {"n_folds": len(scores), "done": folds, "fold_scores": folds, "is_complete": True}
    about |= {"score": statistics.fmean(scores) if scores else None, "std": store.deviation(list(scores))}
    about["seeds"] = (facts.get("seed"), None)
    about["valid_ids"] = {fold: f"{rows} {fold}" for fold in folds}
    return SimpleNamespace(**about | facts)
