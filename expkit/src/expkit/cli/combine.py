"""The commands of `exp` that make one of several: a submission, a blend."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from expkit.cli import Runs, as_json_text
from expkit.compare import find_seeds
from expkit.errors import new_console, score_text, text, warn
from expkit.find import find_run
from expkit.project import display_path
from expkit.show import blend_metadata, changed_since, show_blend
from expkit.store import Run, read_run

console = new_console()


class Part(Enum):
    folds = "folds"
    full = "full"


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
    from expkit.submission import choose, title_of
    from expkit.submission import submit as write

    named = [folder for name in runs for folder in (find_seeds(name) if seeds else [find_run(name)])]
    found = [read_run(folder) for folder in dict.fromkeys(named)]
    sources = [choose(run, part.value if part else None, partial) for run in found]
    marks = {source.run.title: [*_marked(source.run), *source.marks] for source in sources}
    for title, known in marks.items():
        for mark in known:
            warn(f"{title}: {mark}")
    made = write(sources, title_of(sources, is_seeds=seeds and len(runs) == 1 and len(found) > 1), marks)
    if as_json:
        print(as_json_text({"path": str(made.file), **made.about}))
        return
    for source in sources:
        score = source.run.score_of()
        scored = f"  CV {source.run.metric} {score_text(score.value, score.std)}" if score else "  no CV score"
        console.print(text(f"{source}{scored}"), soft_wrap=True)
    for name, how in made.columns.items():
        console.print(text(f"{name}: {how}"), soft_wrap=True)
    fits = (
        f"fits {display_path(made.sample)}" if made.sample else "there is no sample_submission.csv to hold it against"
    )
    console.print(text(f"{made.about['rows']} rows; {fits}"), soft_wrap=True)
    console.print(text(f"wrote {display_path(made.file)}"), soft_wrap=True)


class Method(Enum):
    mean = "mean"
    rank = "rank"
    hill = "hill"
    fit = "fit"


def blend(
    runs: Runs,
    method: Annotated[
        Method,
        typer.Option(
            help="mean: the mean of the predictions. rank: the mean of their ranks. hill, fit: a weighted mean; the "
            "weights that score best are found by hill climbing or by SciPy.",
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

    found = [read_run(folder) for folder in map(find_run, runs)]
    for run in found:
        for mark in _marked(run):
            warn(f"{run.title}: {mark}")
    made = make(found, method.value, name)
    recipe, score, best = made.run.recipe, made.run.score_of(), made.best.score_of(made.run.metric)
    assert recipe is not None and score is not None and best is not None
    for note in made.notes:
        warn(note)
    if as_json:
        about = {"run": made.run.title, "folder": made.run.folder, "metric": made.run.metric, "score": score.value}
        about |= {"best_run": made.best.title, "best_score": best.value}
        print(as_json_text(about | blend_metadata(recipe)))
        return
    if not made.is_new:
        console.print(text(f"{made.run.title} is done"), soft_wrap=True)
    show_blend(console, made.run)
    better = score.value > best.value if made.run.greater_is_better else score.value < best.value
    verdict = "better than" if better else "no better than"
    console.print(text(f"{verdict} the best of its runs, {made.best.title}: {score_text(best.value, best.std)}"))
    console.print(text(f"results: {display_path(made.run.folder)}"), soft_wrap=True)


def _marked(run: Run) -> list[str]:
    return [*run.marks, *changed_since(run)]
