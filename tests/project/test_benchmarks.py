"""The table of the benchmarks: what a ratio and a target mean. Nothing is measured."""

from __future__ import annotations

import re
import sys

from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import measure  # noqa: E402
import run as benchmarks  # noqa: E402


def test_a_target() -> None:
    met = measure.Result("row", "what", 1.1, 1.0, "≤1.10")
    missed = measure.Result("row", "what", 1.0, 1.6, "≥1.7")  # as many times as fast
    assert (met.ratio, met.is_met, missed.ratio, missed.is_met) == (1.1, True, 1.6, False)
    assert "**missed**" in missed.cells() and "**missed**" not in met.cells()


def test_calls_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    one, other = iter([9.0, 1.0, 2.0, 3.0]), iter([9.0, 4.0, 5.0, 9.0])
    calls = [lambda: (order.append("a"), next(one))[1], lambda: (order.append("b"), next(other))[1]]
    assert measure.in_turns(calls, 3) == [2.0, 5.0] and "".join(order) == "ab" * 4


def test_every_row_is_explained() -> None:
    readme = (ROOT / "benchmarks/README.md").read_text()
    explained = re.findall(r"^\| ([\w -]+) \|", readme.partition("## The rows")[2].partition("\n## ")[0], flags=re.M)
    assert explained[2:] == list(benchmarks.ROWS)
