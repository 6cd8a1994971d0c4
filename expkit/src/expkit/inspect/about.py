"""What is known of one run, for a program; `show` prints the same for a person."""

from __future__ import annotations

import re
from typing import Any

from expkit.config.load import Loaded, load_experiment
from expkit.config.values import flat, fold_file
from expkit.inspect.blends import about_recipe
from expkit.inspect.board import COLUMNS
from expkit.inspect.learning import last_curves
from expkit.inspect.loaded import LoadedRun
from expkit.record import SUBMISSION, FoldRecord, RunRecord, Score, read_run
from expkit.train.changes import changes_since
from expkit.train.scores import is_current

MANY_RANKS = r"world_size ([2-9]|\d\d+)"


def about_run(run: LoadedRun) -> dict[str, Any]:
    """One run whole, as JSON has it: the columns of the board, marks, scores, folds, configuration, origin, curve.

    Returns:
        "failed" is why a training has failed, by its folder; "pruned" where a study has ended the run, "full" the
        training on all rows and "blend" what a blend is made of, each None when there is none.
    """
    record, row = run.record, run.row
    scores = {metric: score for metric in record.metrics if (score := record.score(metric))}
    folds = {
        str(number): {
            "scores": {metric: score.folds[number] for metric, score in scores.items() if number in score.folds},
            **{key: fold.result[key] for key in ("values", "rows", "seconds", "finished")},
        }
        for number, fold in record.done.items()
        if fold.result is not None
    }
    return {
        **{column: getattr(row, column) for column in COLUMNS},
        "folder": str(run.folder),
        "marks": [*row.marks, *changed_since(record)],
        "scores": {metric: _numbers(score) for metric, score in scores.items()},
        "folds": folds,
        "failed": _failed(record),
        "pruned": record.pruned or None,
        "full": _full(record),
        "blend": about_recipe(record.recipe) if record.recipe else None,
        "origin": _origin(record),
        "notes": list(row.notes.lines),
        "config": row.config,
        "curve": last_curves(run),
    }


def _numbers(score: Score) -> dict[str, float | None]:
    return {"score": score.value, "std": score.std, "over_rows": score.over_rows, "mean_of_folds": score.mean}


def _parts(run: RunRecord) -> list[FoldRecord]:
    """The folds that are done, and the training on all rows."""
    return [*run.done.values(), *([run.full] if run.full and run.full.result else [])]


def _failed(run: RunRecord) -> dict[str, str]:
    parts = [*run.folds.values(), *([run.full] if run.full else [])]
    return {part.folder.name: part.failure for part in parts if part.failure}


def _full(run: RunRecord) -> dict[str, Any] | None:
    if run.full is None or run.full.result is None or run.recipe:
        return None
    file = str(run.full.folder / SUBMISSION) if SUBMISSION in run.full.result["files"] else None
    about = {key: run.full.result[key] for key in ("values", "seconds", "finished")}
    return {"folder": str(run.full.folder), "submission": file, **about}


def _origin(run: RunRecord) -> dict[str, Any] | None:
    """How a run was made; None: nothing is done."""
    parts = _parts(run)
    if not parts:
        return None
    origin, command = parts[0].origin(), None
    environments = sorted({fold.result["environment"] for fold in parts if fold.result})
    if isinstance(typed := origin.get("command"), list) and typed:
        command = " ".join(map(str, typed))
        if not run.recipe:
            ranks = next((found[1] for one in environments if (found := re.search(MANY_RANKS, one))), None)
            program = f"torchrun --standalone --nproc_per_node={ranks}" if ranks else "python"
            command = f"{program} experiments/{run.experiment}/{command}"
    python, platform = origin.get("python"), origin.get("platform")
    return {"command": command, "git": run.git, "python": python, "platform": platform, "on": environments}


def changed_since(run: RunRecord) -> list[str]:
    """What has changed in the project since a run was trained: "code changed since (model.py)", ..."""
    parts = _parts(run)
    if not parts:
        return []
    loaded = _loaded(run.scored_by)
    marks = _runs_changed(run) if run.recipe else _sources_changed(run, parts[0], loaded)
    if loaded and run.cv and not is_current(loaded.experiment, run):
        marks.append("metric changed since: the same command scores it again")
    return marks


def _runs_changed(run: RunRecord) -> list[str]:
    """The same of the runs that a blend is made of."""
    assert run.recipe is not None
    parents = {parent.run: parent.folder(run.folder.parents[1]) for parent in run.recipe.parents}
    return [f"{name}: {mark}" for name, folder in parents.items() if folder for mark in changed_since(read_run(folder))]


def _sources_changed(run: RunRecord, part: FoldRecord, loaded: Loaded | None) -> list[str]:
    file = fold_file(flat(run.info["config"])) if run.info else ""
    named = loaded.experiment.data(file) if loaded else None
    marks = []
    for what, names in changes_since(part, loaded.unused if loaded else None, named).items():
        marks.append(f"{what} changed since ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    return marks


def _loaded(experiment: str) -> Loaded | None:
    """The experiment as it is now; None when it is gone or broken: its runs are shown all the same."""
    try:
        return load_experiment(experiment)
    except Exception:
        return None
