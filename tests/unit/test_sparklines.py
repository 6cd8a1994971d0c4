"""The learning curves at the end of `exp show`: a sparkline per fold."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from commands import command
from conftest import EXP, call
from helpers import environment_of, exp

import expkit
from expkit.show import last_curve, run_metadata, sparklines

Points = list[tuple[float, float]]


def lines(*folds: Points, better: bool | None = True, width: int = 80) -> list[str]:
    """The heading, and a line per fold, none of them wider than the terminal."""
    points = {str(number): fold for number, fold in enumerate(folds)}
    curve = {"axis": "epoch", "metric": "accuracy", "greater_is_better": better, "folds": points}
    printed = sparklines(curve, width)
    assert all(len(line) <= width for line in printed)
    return printed


def test_a_line_per_fold_over_the_same_range() -> None:
    """The best and the last value of each, and where; a fold that has ended early has a shorter line."""
    rising = [(epoch, epoch / 8) for epoch in range(1, 9)]
    assert lines(rising, [*rising[4:], (9, 0.25)][:3], [(3, 0.5)]) == [
        "accuracy by epoch: 0.1250 (▁) to 1.000 (█)",
        "fold 0: best 1.000 at 8, last 1.000 at 8    ▁▂▃▄▅▆▇█",
        "fold 1: best 0.8750 at 7, last 0.8750 at 7  ▅▆▇",
        "fold 2: best 0.5000 at 3, last 0.5000 at 3  ▄",
    ]
    assert sparklines(None, 80) == []


def test_many_points_fit_the_terminal() -> None:
    """A character is the mean of several points."""
    [_, line] = lines([(step, float(step)) for step in range(10_000)], width=60)
    drawn = line.rpartition(" ")[2]
    assert drawn == "".join(sorted(drawn)) and set(drawn) == set("▁▂▃▄▅▆▇█")


def test_the_best_is_by_the_direction_and_the_first_of_equals() -> None:
    points = [(1, 3.0), (2, 1.0), (3, 4.0), (4, 1.0), (5, 4.0), (6, 2.0)]
    for better, label in ((True, "best 4.000 at 3, "), (False, "best 1.000 at 2, "), (None, "")):
        assert lines(points, better=better)[1].startswith(f"fold 0: {label}last 2.000 at 6  ")


@pytest.mark.parametrize("values", [[1e-9, 3e-9], [-3.0, -1.0], [-9e299, 9e299], [0.5, 0.5]], ids=str)
def test_values_of_every_size(values: list[float]) -> None:
    heading, line = lines([*enumerate(values)])
    assert f"{values[0]:#.4g} (▁) to {values[-1]:#.4g} (█)" in heading
    assert line.endswith("▁▁" if values[0] == values[1] else "▁█")


def test_folds_of_different_lengths_from_the_disk(root: Path) -> None:
    """Over steps that begin late, with blanks in between, and a fold that has one point.

    The direction is known of a name with the metric of the run in it.
    """
    logged = {0: range(500, 2001, 100), 1: range(500, 1201, 100), 2: [800]}

    def log(fold: expkit.Fold) -> None:
        assert fold.number is not None
        for step in logged[fold.number]:
            fold.log(step=step, valid_quality=None if step == 600 else step / 1000, note="none")

    command("exp.fold=[0,1,2]", during=log).train()
    curve = last_curve(expkit.load_run("light"))
    assert curve is not None and (curve["metric"], curve["greater_is_better"]) == ("valid_quality", True)
    assert curve["folds"]["1"] == [(step, step / 1000) for step in logged[1] if step != 600]
    printed = exp("show", "light")
    assert "\nvalid_quality by step: 0.5000 (▁) to 2.000 (█)\n" in printed
    assert re.findall(r"fold (\d): best \S+ at (\d+), last \S+ at \d+ +[▁-█]+\n", printed) == [
        ("0", "2000"),
        ("1", "1200"),
        ("2", "800"),
    ]


def test_of_many_steps_some_are_given(root: Path) -> None:
    """A name is printed as it is: it is no markup, and controls no terminal."""
    values = [float(step == 4999) for step in range(10_000)]
    rows = "".join(f"{step},{value}\n" for step, value in enumerate(values))
    write = lambda fold: (fold.folder / "history.csv").write_text(f"step,[red]実験\x1b[31m\u202e\n{rows}")  # noqa: E731
    command("exp.fold=[0]", during=write).train()
    curve = run_metadata(expkit.load_run("light"))["curve"]
    assert curve["folds"]["0"] == [(step, values[step]) for step in range(0, 10_000, 5)]
    assert "\n[red]実験�[31m� by step: " in exp("show", "light")


def test_a_terminal_without_utf_8(root: Path) -> None:
    """Nothing falls: other characters are escapes, and JSON says the same."""
    rows = [{"epoch": epoch, "実験é🎉_loss": 1 / epoch} for epoch in range(1, 6)]
    command("exp.fold=[0,1]", during=lambda fold: [fold.log(**row) for row in rows]).train()
    environment = environment_of(expkit.code_root(), PROJECT_ROOT=str(root), PYTHONIOENCODING="ascii")
    show = [sys.executable, *EXP, "show", "light"]
    shown = call(*show, cwd=root, env=environment).stdout
    assert shown.isascii() and "CV quality 10.0000 \\xb1 0.0000" in shown
    assert "\\u5b9f\\u9a13\\xe9\\U0001f389_loss by epoch: 0.2000 (\\u2581) to 1.000 (\\u2588)" in shown
    assert re.search(r"fold 1: last 0.2000 at 5 +\\u2588", shown)
    as_json = call(*show, "--all", "--json", cwd=root, env=environment).stdout
    assert as_json.isascii() and "実験é🎉_loss" in json.loads(as_json)["curve"]["metric"]
