"""Learning curves in characters: a panel per fold, all over the same axes, so that no curve hides another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.text import Text

from expkit.errors import plain

Point = tuple[float, float]

WIDEST, GAP = 120, 2  # characters: of all panels together, and between two
WIDEST_PANEL = 72
MARK = "◆"  # unlike braille: it is seen without colours
MEANS = {True: "best (highest)", False: "best (lowest)", None: "last"}
BLANK = 0x2800  # the braille character without dots
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # the bits of its dots: four rows, left and right


@dataclass(frozen=True)
class Scale:
    """An axis, from `low` to `high`."""

    low: float
    high: float

    def cell(self, value: float, cells: int) -> int:
        """In which of `cells` a value is: 0 is that of `low`."""
        return round((value - self.low) / (self.high - self.low) * (cells - 1)) if self.high > self.low else cells // 2

    def number(self, value: float) -> str:
        """A value as the board has it, with more digits where the axis is so short that they are needed."""
        top = max(abs(self.low), abs(self.high))
        finest = math.floor(math.log10(self.high - self.low or top or 1)) - 2  # the power of ten of the last digit
        if (top == 0 or 1e-3 <= top < 1e6) and (value == 0 or abs(value) >= 1e-3):
            return f"{value:.{max(4, min(15, -finest))}f}"
        size = math.floor(math.log10(abs(value) or 1))
        return f"{value:.{max(2, min(15, size - finest))}e}"


def learning_curve(curve: dict[str, Any] | None, width: int, ascii_only: bool = False) -> Text:
    """The curves that `last_curves` has found, drawn in characters; empty when there are none.

    Args:
        width: of the terminal, in characters.
        ascii_only: whether the terminal has no braille.
    """
    if curve is None:
        return Text()
    better, folds = curve["greater_is_better"], curve["folds"]
    xs, ys = (Scale(min(each), max(each)) for each in zip(*sum(folds.values(), []), strict=True))
    marks = {fold: _marked(points, better) for fold, points in folds.items()}
    titles = {fold: f"fold {fold} {MARK} {ys.number(y)} at {_place(x)}" for fold, (x, y) in marks.items()}

    margin, widest = max(len(ys.number(ys.low)), len(ys.number(ys.high))) + 1, max(map(len, titles.values()))
    room = min(width, WIDEST) - margin + GAP
    n_rows = math.ceil(len(folds) / max(1, room // (widest + GAP)))
    n_columns = math.ceil(len(folds) / n_rows)
    columns = max(widest, min(room // n_columns - GAP, WIDEST_PANEL)) - 1  # beside the axis
    lines = max(4, min(10, 12 // n_rows, columns // 3))

    ticks = {lines - 1 - ys.cell(value, lines): ys.number(value) for value in (ys.low, ys.high)}
    side = ["", *(ticks.get(line, "") for line in range(lines)), ""]
    panels = [
        [
            Text(titles[fold].ljust(columns + 1), "bold"),
            *(
                Text.assemble(("┤" if line in ticks else "│", "dim"), drawn)
                for line, drawn in enumerate(_drawn(points, marks[fold], xs, ys, columns, lines))
            ),
            Text(f"└{_ends(xs, columns)}", "dim"),
        ]
        for fold, points in folds.items()
    ]
    heading = (plain(curve["metric"]), "bold"), (f" by {curve['axis']}   {MARK} {MEANS[better]}", "dim")
    shown = [Text.assemble(*heading)]
    for first in range(0, len(panels), n_columns):
        for label, *parts in zip(side, *panels[first : first + n_columns], strict=True):
            shown.append(Text(f"{label:>{margin - 1}} ") + Text(" " * GAP).join(parts))
    whole = Text("\n").join(shown)
    if ascii_only:
        whole.plain = whole.plain.translate(ASCII)
    return whole


def _drawn(points: Sequence[Point], mark: Point, xs: Scale, ys: Scale, columns: int, lines: int) -> list[Text]:
    """The lines of one curve in braille, `mark` in it."""
    bits = [[BLANK] * columns for _ in range(lines)]
    dots = [(xs.cell(x, 2 * columns), 4 * lines - 1 - ys.cell(y, 4 * lines)) for x, y in (mark, *points)]
    for (x, y), (next_x, next_y) in pairwise([dots[1], *dots[1:]]):
        steps = max(abs(next_x - x), abs(next_y - y), 1)
        for step in range(steps + 1):
            column, row = x + round((next_x - x) * step / steps), y + round((next_y - y) * step / steps)
            bits[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    drawn = [Text("".join(map(chr, line)), "cyan") for line in bits]
    column, line = dots[0][0] // 2, dots[0][1] // 4
    before, after = drawn[line][:column], drawn[line][column + 1 :]
    drawn[line] = Text.assemble(before, (MARK, "bold yellow"), after)
    return drawn


def _ends(xs: Scale, columns: int) -> str:
    """The axis below a panel, with its lowest and its highest place."""
    low, high = _place(xs.low), _place(xs.high)
    between = columns - len(low) - len(high) - 2
    if low == high:
        return f" {low} ".center(columns, "─")
    return f"{low} {'─' * between} {high}" if between > 0 else "─" * columns


def _marked(points: Sequence[Point], greater_is_better: bool | None) -> Point:
    """The first of the best points; the last point where nobody knows which is better."""
    if greater_is_better is None:
        return points[-1]
    return (max if greater_is_better else min)(points, key=lambda point: point[1])


def _place(x: float) -> str:
    return str(int(x)) if abs(x) < 1e15 and x == int(x) else f"{x:.6g}"


def _ascii(bits: int) -> str:
    """What stands for a braille character in ASCII: where in the line its dots are."""
    rows = [row for row, pair in enumerate(DOTS) if bits & sum(pair)]
    return " " if not rows else "|" if rows[-1] - rows[0] > 1 else "''---.."[rows[0] + rows[-1]]


ASCII = {BLANK + bits: _ascii(bits) for bits in range(256)} | str.maketrans(f"{MARK}┤│└─", "*+|+-")
