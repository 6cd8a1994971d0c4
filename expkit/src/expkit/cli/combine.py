"""The commands of `exp` that make one of several: a submission, a blend."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from expkit.board import find_seeds
from expkit.cli import Runs, as_json_text
from expkit.errors import new_console, score_text, text, warn
from expkit.project import display_path
from expkit.show import blend_metadata, changed_since, show_blend
from expkit.store import Run, load_run

console = new_console()


Part = Enum("Part", {"folds": "folds", "full": "full"})
Method = Enum("Method", {"mean": "mean", "rank": "rank", "hill": "hill"})


def submit(
    runs: Runs,
    part: Annotated[
        Part | None,
        typer.Option(
            "--from",
            help="folds: the mean of the test predictions of the folds. full: the training on all rows (exp.mode=sub). "
            "By default folds, if every fold has test predictions; else full.",
        ),
    ] = None,
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Take all seeds of each run: the runs that differ only in their seed.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the folds that are done when others are missing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the file, and what it is made of.")] = False,
) -> None:
    """Write a submission from a run, or from the mean of several.

    The CSV file is written to output/submissions/, and a JSON file beside it says what it is made of. Where input/ has
    a sample_submission.csv, it must have the same columns and rows; nan and inf are refused.

    Examples:
      exp submit 001-larger-lr                      # the mean of its folds
      exp submit 001-larger-lr 002-larger-model     # the mean of two runs
      exp submit 001-larger-lr --seeds              # the mean of all its seeds
    """
    from expkit.submission import choose
    from expkit.submission import submit as write

    named = [run for name in runs for run in (find_seeds(name) if seeds else [load_run(name)])]
    found = list({run.folder: run for run in named}.values())
    sources = [choose(run, part.value if part else None, partial) for run in found]
    marks = [_warned(source.run) for source in sources]
    file, made = write(sources, marks)
    if as_json:
        print(as_json_text({"path": str(file), **made}))
        return
    for source in sources:
        run = source.run
        scored = "no CV score" if run.score is None else f"CV {run.metric} {score_text(run.score, run.std)}"
        _print(f"{source}  {scored}")
    for name, how in made["columns"].items():
        _print(f"{name}: {how}")
    fits = f"fits {made['sample']}" if made["sample"] else "there is no sample_submission.csv to hold it against"
    _print(f"{made['rows']} rows; {fits}")
    _print(f"wrote {display_path(file)}")


def blend(
    runs: Runs,
    method: Annotated[
        Method,
        typer.Option(
            help="mean: the mean of the predictions. rank: the mean of their ranks. hill: a weighted mean; the weights "
            "that score best are found by hill climbing.",
        ),
    ] = Method.mean,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name of the blend. By default, it is made of the names of its runs."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the blend, its weights and its scores.")] = False,
) -> None:
    """Combine the predictions of runs into a new run.

    The blend is a run in output/blends/, with a score on the board. Each fold is predicted with weights that were
    fitted on the other folds: the score is as honest as a CV score. The runs must have the same rows, targets and
    metric.

    Examples:
      exp blend 001-larger-lr 002-larger-model
      exp blend 001-larger-lr 002-larger-model --method hill --name best-two
      exp submit best-two    # a blend is a run like any other
    """
    from expkit.ensemble import blend as make

    found = list(map(load_run, runs))
    for run in found:
        _warned(run)
    made, notes = make(found, method.value, name)
    best = (max if made.greater_is_better else min)(found, key=lambda run: run.score or 0.0)  # each has one
    recipe, score, best_score = made.recipe, made.score, best.score
    assert recipe is not None and score is not None and best_score is not None
    for note in notes or ():
        warn(note)
    if as_json:
        about = {"run": made.title, "folder": made.folder, "metric": made.metric, "score": score}
        print(as_json_text(about | {"best_run": best.title, "best_score": best_score} | blend_metadata(recipe)))
        return
    if notes is None:
        _print(f"{made.title} is done")
    show_blend(console, made)
    is_better = score > best_score if made.greater_is_better else score < best_score
    scored = score_text(best_score, best.std)
    _print(f"{'better' if is_better else 'no better'} than the best of its runs, {best.title}: {scored}")
    _print(f"results: {display_path(made.folder)}")


def _warned(run: Run) -> list[str]:
    """What to know about a run, as it has been printed."""
    marks = [*run.marks, *changed_since(run)]
    for mark in marks:
        warn(f"{run.title}: {mark}")
    return marks


def _print(line: str) -> None:
    console.print(text(line), soft_wrap=True)
