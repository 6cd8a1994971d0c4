"""Tables of runs for notebooks: learning curves in a long format, mistakes, and what notebooks/page.py draws."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pandas
import pytest
from commands import command
from experiments import own_experiment
from several import WIDE, files

import expkit
from expkit import page
from expkit.frames import _are_numbers
from expkit.notes import add_note

EPOCHS = [{"epoch": epoch, "value": 1 / epoch, "late": epoch if epoch == 3 else None} for epoch in (1, 2, 3)]
STEPS = [{"step": step, "rate": 0.5} for step in (100, 200)]


def test_curves(root: Path) -> None:
    """Each number once, over its own axis; a blank is no row; a fold that stops early is in no mean that follows."""
    assert list(expkit.curves([])) == ["run", "fold", "axis", "x", "name", "value"] and expkit.curves([]).empty
    command("exp.fold=[0]", during=lambda fold: [fold.log(**row) for row in [*STEPS, *EPOCHS]]).train()
    command("exp.fold=[1]", during=lambda fold: [fold.log(**row) for row in EPOCHS[:2]]).train()
    command("exp.fold=[0]", "exp.train.x=1", during=lambda fold: [fold.log(loss=3), fold.log()]).train()
    light, other = "002-light/light", "002-light/light,exp.train.x=1"
    found = expkit.curves([light, other])
    expected = [(light, 0, "epoch", epoch, "value", 1 / epoch) for epoch in (1, 2, 3)]
    expected += [(light, 0, "epoch", 3, "late", 3), (light, 0, "step", 100, "rate", 0.5)]
    expected += [(light, 0, "step", 200, "rate", 0.5), (other, 0, "row", 1, "loss", 3)]
    expected += [(light, 1, "epoch", epoch, "value", 1 / epoch) for epoch in (1, 2)]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(expected) and found["value"].dtype == float
    means = page.mean_of_folds(found[found["name"] == "value"])
    assert means[["x", "fold", "value"]].values.tolist() == [[1, "mean", 1.0], [2, "mean", 0.5]]
    [(name, axis, drawn)] = page.curves_to_draw(found[found["name"] == "value"], 2)
    assert (name, axis) == ("value", "epoch (1 of 2 drawn)")
    assert drawn[drawn["fold"] == "0"]["x"].tolist() == [1, 3]
    with pytest.raises(expkit.Error, match="take a list of runs"):
        expkit.curves(light)


def test_the_parameters_that_are_drawn_at_first() -> None:
    """Of each metric, and not of the first one alone; those in which the ticked runs differ come before the others."""
    values = numpy.arange(4)
    of_a = pandas.DataFrame(
        {"name": [f"a/{i}" for i in values], "metric": "rmse"} | {f"exp.a{i}": values for i in range(9)}
    )
    of_b = pandas.DataFrame(
        {"name": [f"b/{i}" for i in values], "metric": "auc", "exp.b0": "x", "exp.b1": ["x", "y"] * 2}
    )
    board = pandas.concat([of_a, of_b.assign(**{"exp.b2": ["x"] * 3 + ["y"]})], ignore_index=True)
    drawn = [f"exp.a{i}" for i in range(6)]
    assert page.first_axes(board, ["a/0", "a/1"]) == [*drawn, "exp.b1", "exp.b2"]
    assert page.first_axes(board, ["b/0", "b/2", "b/3"], 1) == ["exp.a0", "exp.b1"]
    assert page.first_axes(board, ["b/2", "b/3"], 1) == ["exp.a0", "exp.b1"]
    assert page.first_axes(board, ["b/1", "b/3"], 1) == ["exp.a0", "exp.b2"]


def test_mistakes(root: Path) -> None:
    """Numbers by the size of their error; classes: the wrong rows first, of these the most sure; each output alone."""
    wide = files("price")
    wide["train.py"] = wide["train.py"].replace("model.predicted(KIND, model.rows", "model.wide(KIND, model.rows")
    wide["model.py"] += WIDE
    with own_experiment(files("species")) as species, own_experiment(wide) as outputs:
        expkit.run(species.name)
        expkit.run(outputs.name)
        [(output, classes)] = expkit.mistakes(species.name).items()
        assert output == "prediction" and list(classes) == ["id", "fold", "target", "prediction", "confidence"]
        oof = expkit.load_run(species.name).oof
        confidence = numpy.max([values for name, values in oof.items() if name.startswith("probability_")], axis=0)
        is_wrong = oof["target"] != oof["prediction"]
        order = numpy.argsort(-(is_wrong * (1 + confidence)), kind="stable")
        assert classes["id"].tolist() == oof["id"][order].tolist() and 0 < is_wrong.sum() < len(oof["id"])
        assert classes["confidence"].tolist() == confidence[order].tolist()
        pairs = Counter(zip(oof["target"].tolist(), oof["prediction"].tolist(), strict=True))
        counts = page.confusion(classes)
        assert counts.set_index(["target", "prediction"])["rows"].to_dict() == pairs
        assert counts["wrong"].sum() == is_wrong.sum()
        numbers = expkit.mistakes(outputs.name)
        assert list(numbers) == ["prediction_0", "prediction_1"]
        oof = expkit.load_run(outputs.name).oof
        for place, table in enumerate(numbers.values()):
            error = (oof["prediction"] - oof["target"])[:, place]
            assert table["error"].abs().is_monotonic_decreasing
            assert dict(zip(table["id"], table["error"], strict=True)) == dict(zip(oof["id"], error, strict=True))
    command("exp.fold=[0]").train()
    with pytest.raises(expkit.Error, match="light has no columns target and prediction; it has id, prediction, fold"):
        expkit.mistakes("002-light/light")


@pytest.mark.parametrize(
    ("target", "prediction", "are_numbers"),
    [
        ([0, 1, 2], [0.0, 1.0, 1.5], True),
        ([0.0, 1.0], [1.0, 1.0], False),
        ([True, False], [0.75, 0.5], True),
        (["a", "b"], ["a", "a"], False),
        (range(51), range(51), True),
        (range(50), range(50), False),
    ],
)
def test_numbers_or_classes(target: Sequence[object], prediction: Sequence[object], are_numbers: bool) -> None:
    assert _are_numbers(numpy.array(target), numpy.array(prediction)) == are_numbers


def test_the_board_to_be_read(root: Path) -> None:
    """Arrows, and the parameters that differ: within an experiment, or between two that both have it."""
    assert page.labelled_board().empty
    with own_experiment(files("price")) as price, own_experiment(files("species")) as species:
        expkit.run(price.name)
        expkit.run(price.name, overrides=["exp.train.noise=0.5", "exp.fold=[0]", "exp.time_limit=9m"])
        expkit.run(species.name, overrides=["exp.runtime.tags=[a]"])
        assert "hypothesis" not in page.labelled_board()
        add_note(f"{price.name}/light", {"hypothesis": "less noise", "verdict": "kept"})
        board = page.labelled_board().set_index("name")
    assert board["hypothesis"].dropna().tolist() == ["less noise"] and board["verdict"].dropna().tolist() == ["kept"]
    assert [column for column in board if column.startswith("exp.")] == ["exp.train.noise"]
    assert board["metric"].to_dict() == {
        f"{price.name}/light": "rmse ↓",
        f"{price.name}/light,exp.train.noise=0.5": "rmse ↓",
        f"{species.name}/light": "accuracy ↑",
    }
    assert board.loc[f"{price.name}/light,exp.train.noise=0.5", ["folds", "marks"]].tolist() == ["1/3", "partial"]
    frame = pandas.DataFrame({"name": ["a/1", "a/2", "b/1"], "p": [1, 1, None], "q": [1, None, 1], "r": [1, 1, 2]})
    assert page.differing(frame, ["p", "q", "r"]) == ["q", "r"]


@pytest.mark.parametrize(
    ("values", "kind", "title"),
    [
        ([1.0, 3.0, 10.0], "log", "p"),
        ([1.0, 3.0, 9.0], "linear", "p"),
        ([0.0, 100.0, None], "linear", "p (1 runs have none)"),
        (["b", "none", "a"], None, "p"),
        ([True, False], None, "p"),
    ],
)
def test_an_axis(monkeypatch: pytest.MonkeyPatch, values: list[object], kind: str | None, title: str) -> None:
    monkeypatch.setitem(sys.modules, "altair", SimpleNamespace(X=lambda *_, **options: options, Scale=dict))
    axis: Any = page.x_axis(pandas.Series(values), "p")
    assert (axis.get("scale", {}).get("type"), axis["title"]) == (kind, title)
