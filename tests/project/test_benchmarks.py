"""The table of the benchmarks: what a ratio and a target mean. Nothing is measured."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import measure  # noqa: E402
import run as benchmarks  # noqa: E402


@pytest.mark.parametrize(
    ("ours", "floor", "target", "ratio", "is_met"),
    [
        (1.1, 1.0, "≤1.10", 1.1, True),
        (1.0, 1.6, "≥1.7", 1.6, False),  # as many times as fast
        (3.0, None, "", None, None),
    ],
)
def test_a_target(ours: float, floor: float | None, target: str, ratio: float | None, is_met: bool | None) -> None:
    found = measure.Result("row", "what", ours, floor, target)
    assert (found.ratio, found.is_met) == (ratio, is_met)
    assert found.plain()["is_met"] is is_met and ("**missed**" in found.cells()) == (is_met is False)


def test_calls_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    one, other = iter([9.0, 1.0, 2.0, 3.0]), iter([9.0, 4.0, 5.0, 9.0])
    calls = [lambda: (order.append("a"), next(one))[1], lambda: (order.append("b"), next(other))[1]]
    assert measure.in_turns(calls, 3) == [2.0, 5.0] and "".join(order) == "ab" * 4


def test_every_row_is_explained() -> None:
    readme = (ROOT / "benchmarks/README.md").read_text()
    explained = re.findall(r"^\| ([\w -]+) \|", readme.partition("## The rows")[2].partition("\n## ")[0], flags=re.M)
    assert explained[2:] == list(benchmarks.ROWS)
