"""The learning curves at the end of `exp show`, read back from the characters that are printed."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import command
from conftest import call
from light import LIGHT
from rich.cells import cell_len
from rich.console import Console
from test_exp import clone, environment_of, exp

import expkit
from expkit.inspect.learning import direction, last_curves, thinned
from expkit.inspect.panels import learning_curve

__all__ = ["clone"]  # a fixture
Points = list[tuple[float, float]]
# Of Unicode: where the eight dots of a braille character are, as (column, row), in the order of its bits.
BRAILLE = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]


@dataclass
class Panel:
    """What a reader sees of one fold: the lines of the curve, from the top, and what stands beside each of them."""

    title: str
    labels: list[str]
    lines: list[str]
    ends: str

    @property
    def dots(self) -> set[tuple[int, int]]:
        """Column and row, from the left and from the bottom."""
        bits = [
            (2 * column + x, 4 * (len(self.lines) - 1 - line) + 3 - y)
            for line, text in enumerate(self.lines)
            for column, character in enumerate(text)
            for bit, (x, y) in enumerate(BRAILLE)
            if 0x2800 < ord(character) <= 0x28FF and (ord(character) - 0x2800) >> bit & 1
        ]
        return set(bits)

    @property
    def mark(self) -> tuple[int, int]:
        """Column and line of the only mark."""
        [place] = [(text.index("◆"), line) for line, text in enumerate(self.lines) if "◆" in text]
        assert "".join(self.lines).count("◆") == 1
        return place


def printed(
    folds: list[Points], width: int = 80, better: bool | None = True, metric: str = "accuracy", **options: Any
) -> list[str]:
    """The lines in a terminal of that width, none of them too long."""
    curve = {"axis": "epoch", "metric": metric, "greater_is_better": better}
    curve["folds"] = {str(fold): points for fold, points in enumerate(folds)}
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(learning_curve(curve, width, **options), soft_wrap=True)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(cell_len(line) <= width for line in lines[1:])
    return lines


def read(lines: list[str]) -> list[Panel]:
    """The panels below the heading, row by row."""
    panels: list[Panel] = []
    for line in lines[1:]:
        if "fold" in line:
            starts = [found.start() for found in re.finditer("fold", line)]
            ends = [start - 2 for start in starts[1:]] + [None]
            row = [Panel(line[start:end].rstrip(), [], [], "") for start, end in zip(starts, ends, strict=True)]
            panels += row
            continue
        for panel, start, end in zip(row, starts, ends, strict=True):
            if line[start] == "└":
                panel.ends = line[start + 1 : end]
            else:
                assert line[start] in "│┤" and len(line) > start + 1
                panel.labels.append(line[: starts[0]].strip())
                panel.lines.append(line[start + 1 : end])
    return panels


def drawn(folds: list[Points], *arguments: Any, **options: Any) -> list[Panel]:
    return read(printed(folds, *arguments, **options))


def learning(fold: int, epochs: int = 30) -> Points:
    """It rises, is best somewhere in the last third, and falls."""
    best = epochs - 2 - fold % 8
    return [(epoch, 0.9 - math.exp(-epoch) - 0.01 * abs(epoch - best) + fold / 1000) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("n_folds", [1, 5, 10, 30])
def test_each_fold_has_a_panel_over_the_same_axes(n_folds: int, width: int) -> None:
    """In no colour: titled, labelled, and its own best epoch marked."""
    folds = [learning(fold) for fold in range(n_folds)]
    heading, *_ = lines = printed(folds, width)
    panels = read(lines)
    assert heading == "accuracy by epoch   ◆ best (highest)"
    values = [value for points in folds for _, value in points]
    for fold, (points, panel) in enumerate(zip(folds, panels, strict=True)):
        epoch, best = max(points, key=lambda point: point[1])
        assert panel.title == f"fold {fold} ◆ {best:.4f} at {epoch}"
        assert (panel.labels[0], panel.labels[-1]) == (f"{max(values):.4f}", f"{min(values):.4f}")
        assert set(panel.labels[1:-1]) <= {""}
        assert re.fullmatch("1 ─+ 30", panel.ends)
        columns, rows = 2 * len(panel.ends), 4 * len(panel.lines)
        column, line = panel.mark
        heights = [(value - min(values)) / (max(values) - min(values)) * (rows - 1) for _, value in points]
        assert abs(column - (epoch - 1) / 29 * (columns - 1) / 2) < 1
        assert abs(line - (rows - 1 - max(heights)) / 4) < 1
        drawn_at = {x for x, _ in panel.dots}
        assert drawn_at >= set(range(columns)) - {2 * column, 2 * column + 1}  # a line without a gap
        assert abs(min(y for x, y in panel.dots if x == 0) - heights[0]) < 1
        assert abs(max(y for x, y in panel.dots if x == columns - 1) - heights[-1]) < 1
    assert all(len(panel.lines) == len(panels[0].lines) >= 4 for panel in panels)


def test_as_wide_as_is_good_to_read() -> None:
    """A terminal of 250 characters gives one fold no more than a line that the eye can follow, and five a row."""
    assert max(map(len, printed([learning(0)], 250))) <= 80
    lines = printed([learning(fold) for fold in range(5)], 250)
    assert max(map(len, lines)) <= 120 and lines[1].count("fold") == 5


def test_the_best_is_by_the_direction_and_the_first_of_equals() -> None:
    points = [(1, 3.0), (2, 1.0), (3, 4.0), (4, 1.0), (5, 4.0), (6, 2.0)]
    for better, title, where, word in (
        (True, "fold 0 ◆ 4.0000 at 3", 0, "best (highest)"),
        (False, "fold 0 ◆ 1.0000 at 2", 9, "best (lowest)"),
        (None, "fold 0 ◆ 2.0000 at 6", 6, "last"),
    ):
        heading, *_ = lines = printed([points], better=better)
        [panel] = read(lines)
        assert (panel.title, panel.mark[1], heading.rpartition("◆ ")[2]) == (title, where, word)


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("valid_rmsle", False),  # the run's own metric, of which a lower value is better
        ("valid/rmsle", False),
        ("valid_accuracy", True),
        ("val/AUC", True),
        ("valid_loss", False),
        ("train loss step", False),
        ("learning_rate", None),
        ("neg_log_loss", None),
        ("glossary", None),
    ],
)
def test_the_direction_is_in_the_name(name: str, higher: bool | None) -> None:
    """The run's own metric first, then what a name says; else nobody knows."""
    run: Any = SimpleNamespace(metric="rmsle", greater_is_better=False)
    assert direction(name, run) is higher
    run = SimpleNamespace(metric="loss", greater_is_better=True)  # whatever its name says
    assert direction("valid_loss", run) is True


@pytest.mark.parametrize(
    "values",
    [
        [1e-9, 3e-9, 2e-9],
        [1e12, 3e12, 2e12],
        [1e12, 1e12 + 5, 1e12 + 3],
        [-3.0, -1.0, -2.5],
        [-1e-5, 2e3],
        [0.98, 0.98 + 1e-7],
        [0.0, 1e-300],
        [-1e299, 1e299],
        [5, 7],
    ],
    ids=str,
)
def test_values_of_every_size(values: list[float]) -> None:
    """The labels are the lowest and the highest value, told apart."""
    [panel] = drawn([list(enumerate(values))])
    high, low = panel.labels[0], panel.labels[-1]
    span = max(values) - min(values)
    assert high != low
    assert abs(float(high) - max(values)) <= span / 100 and abs(float(low) - min(values)) <= span / 100
    assert panel.title.split()[3] == high
    assert min(y for _, y in panel.dots) == 0 and panel.mark[1] == 0


@pytest.mark.parametrize("value", [0, 0.5, -3.0, 1e12, 1e-9])
def test_values_that_are_all_the_same(value: float) -> None:
    """One label, and a level line in the middle."""
    first, second = drawn([[(1, value), (2, value), (3, value)], [(3, value)]])
    [label] = filter(None, first.labels)
    assert float(label) == value
    assert len({y for _, y in first.dots}) == 1
    assert first.labels.index(label) == first.mark[1] == (len(first.lines) - 1) // 2
    assert first.mark[0] == 0 and second.mark[0] == len(second.ends) - 1 and not second.dots


def test_a_run_of_one_place() -> None:
    [panel] = drawn([[(7, 0.25)]])
    assert panel.title == "fold 0 ◆ 0.2500 at 7" and panel.ends.strip(" ─") == "7"
    assert panel.mark[0] == len(panel.ends) // 2


def test_folds_of_different_lengths_from_the_disk(root: Path) -> None:
    """Over steps that begin late, with blanks in between, and a fold that has one point."""
    logged = {0: range(500, 2001, 100), 1: range(500, 1201, 100), 2: [800]}

    def log(fold: expkit.Fold) -> None:
        assert fold.number is not None
        for step in logged[fold.number]:
            fold.log({"step": step, "loss": None if step == 600 else 1000 / step, "note": "none"})

    command("exp.fold=[0,1,2]", during=log).train()
    curve = last_curves(expkit.load_run("light"))
    assert curve is not None and (curve["metric"], curve["greater_is_better"]) == ("loss", False)
    assert curve["folds"]["1"] == [(step, 1000 / step) for step in logged[1] if step != 600]
    whole, short, point = drawn(list(curve["folds"].values()), better=False)
    assert [panel.title.rpartition(" at ")[2] for panel in (whole, short, point)] == ["2000", "1200", "800"]
    assert all(re.fullmatch("500 ─+ 2000", panel.ends) for panel in (whole, short, point))
    columns = 2 * len(whole.ends)
    assert {x for x, _ in whole.dots} >= set(range(columns - 2))  # the blank is no gap
    assert max(x for x, _ in short.dots) < columns / 2 < max(x for x, _ in whole.dots)
    assert not point.dots and point.mark[0] == round(300 / 1500 * (columns - 1)) // 2


@pytest.mark.parametrize("peak", [0, 1, 4999, 7777, 9999])
def test_of_many_steps_the_extremes_stay(peak: int) -> None:
    """Of a plateau, the first step: that is where the best is."""
    points = [(step, 0.5 + (step % 7) / 100) for step in range(10_000)]
    points[peak] = (peak, 5.0)
    points[(peak + 5000) % 10_000] = ((peak + 5000) % 10_000, -5.0)
    kept = thinned(points)
    assert len(kept) <= 2000 and kept == sorted(set(kept)) and set(kept) <= set(points)
    assert {points[0], points[-1], points[peak]} <= set(kept) and min(y for _, y in kept) == -5.0
    [panel] = drawn([kept])
    assert panel.title == f"fold 0 ◆ 5.0000 at {peak}" and panel.mark[1] == 0
    plateau = thinned([(step, float(min(step, 3001))) for step in range(10_000)])
    assert next(x for x, y in plateau if y == 3001) == 3001


@pytest.mark.parametrize("name", ["[red]loss[/red]", "実験" * 30 + "🎉", "bad\x1b[31m\n\u202e", ":smile:"])
def test_odd_names_are_printed_as_they_are(root: Path, name: str) -> None:
    """Not as markup, and below them the panels stand as ever."""
    points = [{"epoch": epoch, name: epoch / 4} for epoch in range(1, 5)]
    command("exp.fold=[0,1,2,3,4]", during=lambda fold: [fold.log(row) for row in points]).train()
    lines = exp("show", "light").splitlines()
    at = next(place for place, line in enumerate(lines) if " by epoch   ◆ " in line)
    assert lines[at].startswith(re.sub(r"[\x1b\u202e]", "�", name).replace("\n", " ") + " by epoch")
    panels = read(lines[at:])
    assert [panel.title[:6] for panel in panels] == [f"fold {fold}" for fold in range(5)]
    assert all(panel.mark and {len(line) for line in panel.lines} == {len(panel.ends)} for panel in panels)


def test_a_name_from_elsewhere_controls_no_terminal() -> None:
    """`fold.log` writes none like this; another program may have."""
    heading = printed([[(1, 0.5), (2, 1.0)]], metric="bad\x1b[31m\u202e")[0]
    assert heading == "bad�[31m� by epoch   ◆ best (highest)"


def test_a_terminal_without_utf_8(clone: Path, root: Path) -> None:
    """Nothing falls: curves of ASCII, other characters as escapes, and JSON that says the same."""
    (clone / f"experiments/{LIGHT}/model.py").open("a").write(
        "\n\nact_as_before = act\n\n\ndef act(folder, fold, x):\n    act_as_before(folder, fold, x)\n"
        "    for epoch in range(1, 6):\n        fold.log({'epoch': epoch, '実験é🎉_loss': 1 / epoch})\n"
    )
    environment = environment_of(clone, PROJECT_ROOT=str(root), PYTHONIOENCODING="ascii")
    train = [sys.executable, f"experiments/{LIGHT}/train.py", "exp.fold=[0,1]"]
    assert "quality 10.0000 \\xb1 0.0000" in call(*train, cwd=clone, env=environment).stdout
    command_line = [sys.executable, "-m", "expkit.cli"]
    shown = call(*command_line, "show", "light", cwd=clone, env=environment).stdout
    assert shown.isascii() and "CV quality 10.0000 \\xb1 0.0000" in shown
    assert "\\u5b9f\\u9a13\\xe9\\U0001f389_loss by epoch   * best (lowest)" in shown and "fold 1 * 0.2000 at 5" in shown
    curve = shown[shown.index("fold 1 *") :]
    assert re.search(r"\n1\.0000 \+['|]", curve) and re.search(r"\n0\.2000 \+.*\*\n", curve)
    assert "\n       +1 ---" in curve
    assert call(*command_line, "board", cwd=clone, env=environment).stdout.isascii()
    as_json = [*command_line, "show", "light", "--json"]
    ascii_only = call(*as_json, cwd=clone, env=environment).stdout
    whole = call(*as_json, cwd=clone, env=environment | {"PYTHONIOENCODING": "utf-8"}).stdout
    assert ascii_only.isascii() and "実験é🎉_loss" in whole and json.loads(ascii_only) == json.loads(whole)


def test_without_colours_nothing_is_lost(root: Path) -> None:
    """NO_COLOR and a pipe print the same characters as a terminal with colours."""
    curve = {"axis": "epoch", "metric": "loss", "greater_is_better": False, "folds": {"0": learning(0)}}
    texts = []
    for options in ({"force_terminal": True, "color_system": "truecolor"}, {"force_terminal": False}):
        console = Console(file=io.StringIO(), width=80, highlight=False, **options)
        console.print(learning_curve(curve, 80))
        texts.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert "\x1b[" in texts[0] and "\x1b" not in texts[1]
    assert re.sub(r"\x1b\[[0-9;]*m", "", texts[0]) == texts[1]
