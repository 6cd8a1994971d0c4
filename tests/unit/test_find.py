"""The names of runs: which one is meant, and the short names that the board prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expkit.errors import Error, NotFound
from expkit.store import find_run, short_names

LONG = "baseline,exp.seed=7,exp.train.learning_rate=0.001"
NAMES = ["001-one/baseline", f"001-one/{LONG}", "001-one/larger-lr", "002-two/baseline", "three/baseline,exp.seed=1"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def titles(output: Path, *names: str) -> list[str]:
    return [find_run(name, output).relative_to(output).as_posix() for name in names]


def test_a_run_is_found_by_each_of_its_names(output: Path) -> None:
    meant = ["001-one/baseline", "001/baseline", "one/baseline"]
    assert titles(output, *meant) == ["001-one/baseline"] * 3
    assert titles(output, "larger-lr", "arger", "001/larger", LONG) == ["001-one/larger-lr"] * 3 + [NAMES[1]]
    assert titles(output, "two", "one/larg") == ["002-two/baseline", "001-one/larger-lr"]


def test_the_whole_name_of_an_experiment_begins_no_part_of_a_name(output: Path) -> None:
    """A run that is gone is not another one, whose name goes on with overrides."""
    other = "002-two/leaf,exp.seed=1,exp.train.learning_rate=0.01"
    for title in (other, "one/alone", "001-one/seeded"):
        (output / title).mkdir(parents=True)
    with pytest.raises(NotFound, match=f"^no run is called 002-two/leaf; did you mean {other}?"):
        find_run("002-two/leaf", output)
    with pytest.raises(NotFound, match="no run is called one/seeded; did you mean 001-one/seeded"):
        find_run("one/seeded", output)  # "one" is an experiment, too
    short = short_names([other])[other].partition("/")[2]
    assert titles(output, other, f"002-two/{short}", f"002/{short}", "002/leaf", "leaf") == [other] * 5


def test_a_training_names_a_run_whole(output: Path) -> None:
    """Other runs that lie there change nothing."""
    for whole in ("001-one/larger-lr", "larger-lr", LONG, "three/baseline,exp.seed=1"):
        assert find_run(whole, output, is_whole=True) == find_run(whole, output)
    for part in ("001/larger-lr", "one/larger-lr", "larger", short_names(NAMES)[NAMES[1]].partition("/")[2]):
        with pytest.raises(NotFound, match=r" \(a training names it whole\); did you mean 001-one/"):
            find_run(part, output, is_whole=True)
    with pytest.raises(Error, match="baseline may be "):
        find_run("baseline", output, is_whole=True)


def test_a_name_before_one_in_the_overrides(output: Path) -> None:
    (output / "001-one/longer,exp.start_from=_001-one_larger-lr_-1f2e3d4c").mkdir()
    assert titles(output, "arger", "larger-", "001/larger") == ["001-one/larger-lr"] * 3
    assert titles(output, "longer", "from=_001") == ["001-one/longer,exp.start_from=_001-one_larger-lr_-1f2e3d4c"] * 2


def test_a_short_name_is_short_and_leads_back_to_its_run(output: Path) -> None:
    short = short_names(NAMES)
    assert list(short) == NAMES and titles(output, *short.values()) == NAMES
    assert short["001-one/larger-lr"] == "001/larger-lr" and short["002-two/baseline"] == "002/baseline"
    assert len(short[NAMES[1]]) <= 18 and short[NAMES[1]].startswith("001/baseline~")
    assert short["three/baseline,exp.seed=1"].startswith("three/baseline"), "an experiment without a number"


def test_a_number_that_two_experiments_have_is_no_name(output: Path) -> None:
    (output / "001-other/baseline").mkdir(parents=True)
    assert short_names([*NAMES, "001-other/baseline"])["001-other/baseline"] == "001-other/baseline"
    with pytest.raises(Error, match="001/baseline may be 001-one/baseline, 001-other/baseline: give more of the name$"):
        find_run("001/baseline", output)


@given(st.lists(st.text("ab,=.1é", min_size=1, max_size=60), min_size=1, max_size=20, unique=True))
def test_short_names_are_unique(runs: list[str]) -> None:
    short = short_names(f"001-one/{run}" for run in runs)
    assert len(set(short.values())) == len(runs) and max(map(len, short.values())) <= 28


def test_a_name_that_no_run_has(output: Path) -> None:
    with pytest.raises(Error, match="no run is called larger-rl; did you mean 001-one/larger-lr"):
        find_run("larger-rl", output)
    with pytest.raises(Error, match=r"baseline may be 001-one/baseline, 002-two/baseline: give more of the name$"):
        find_run("baseline", output)
