"""A blend for a reader at the terminal: the runs that it is made of."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from expkit.inspect.words import score_text, text
from expkit.record import Recipe, RunRecord


def about_recipe(recipe: Recipe) -> dict[str, Any]:
    """What a blend is made of, as JSON has it."""
    weights = {one.run: weight for one, weight in zip(recipe.parents, recipe.weights, strict=True)}
    about = {"method": recipe.method, "weights": weights, "by_part": recipe.by_part}
    return about | {"fitted_on": recipe.fitted_on, "flattering": recipe.flattering}


def show_recipe(console: Console, run: RunRecord) -> None:
    """Print the runs of a blend with their weights, and how good these are."""
    recipe, score = run.recipe, run.score()
    if recipe is None:
        return
    table = Table("weight", "run", box=None, pad_edge=False, header_style="bold")
    pairs = sorted(zip(recipe.weights, recipe.parents, strict=True), key=lambda pair: -pair[0])
    for weight, parent in pairs:
        table.add_row(f"{weight:.4f}", text(parent.run))
    console.print(table)
    if score is None:
        return
    how = "each fold with weights fitted on the others" if recipe.fitted_on else "no weights are fitted"
    console.print(text(f"{run.metric} {score_text(score.value, score.std)}: {how}"), soft_wrap=True)
    if recipe.flattering is not None:
        rows = "" if recipe.fitted_on == run.rows else f" (on {recipe.fitted_on} of {run.rows} rows)"
        console.print(
            text(f"{run.metric} {score_text(recipe.flattering)}: too good, with weights fitted on all folds{rows}"),
            soft_wrap=True,
        )
