"""Several processes that train one fold together: who ends, and which failure is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damage import at_once

import expkit
from expkit import distributed
from expkit.distributed import Ranks
from expkit.errors import Failed, Terminated


class Store:
    """Between threads, what PyTorch has between processes."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value

    def get(self, key: str) -> str:
        return self.kept[key]

    def check(self, keys: list[str]) -> bool:
        return self.kept.keys() >= {*keys}

    def compare_set(self, key: str, expected: str, desired: str) -> str:
        return self.kept.setdefault(key, desired)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Ranks, Ranks]]:
    store = Store()
    monkeypatch.setattr(distributed, "_store", lambda rank: store)
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        made.append(Ranks())
    yield made[0], made[1]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_rank_0_ends_when_the_others_have_left(two: tuple[Ranks, Ranks]) -> None:
    """Its process may be where they meet: one that still asks what is next would fail."""
    leader, other = two
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(leader.end, False)
        with pytest.raises(TimeoutError):
            end.result(0.5)
        other._store.set("left1", "")
        end.result(10)


def test_rank_0_does_not_wait_for_one_that_has_failed(two: tuple[Ranks, Ranks]) -> None:
    leader, other = two
    other.failure(ValueError("planted"))
    with at_once("rank 0"), pytest.raises(Failed, match="rank 1: ValueError: planted"):
        leader.end(False)


def test_a_study_ends_a_run_in_all_ranks(two: tuple[Ranks, Ranks], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hears the same at the same call. One that did not call is told at the end, and not waited for for ever."""
    monkeypatch.setattr(distributed, "PATIENCE", 0.2)
    leader, other = two
    for reason in ("", "after 10% of its training"):
        leader.tell({"pruned": reason})
        assert other.verdict() == reason
    leader.tell({"pruned": "after 20% of its training"})  # which the other does not ask for
    leader.tell({"fold": 1})
    assert next(other.tasks()) == {"fold": 1}
    with (
        at_once("rank 0"),
        pytest.raises(Failed, match="a rank above 0 trains on: in a study, every rank calls fold.log"),
    ):
        leader.end(True)
    with pytest.raises(expkit.Error, match="rank 1 calls fold.log more often than rank 0"):
        other.verdict()


@pytest.mark.parametrize("later", [RuntimeError("Connection closed by peer"), KeyboardInterrupt(), Terminated(143)])
def test_the_first_failure_is_the_one_to_tell(two: tuple[Ranks, Ranks], later: BaseException) -> None:
    """Also when torchrun ends rank 0 for it."""
    leader, other = two
    assert leader.failure(later) is later if isinstance(later, KeyboardInterrupt | Terminated) else True
    first = ValueError("planted")
    assert other.failure(first) is first
    told = leader.failure(later)
    assert str(told) == "rank 1: ValueError: planted" and "ValueError: planted" in told.__notes__[0]
    assert other.failure(first) is first


def test_an_experiment_that_is_not_prepared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would take folds of its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(expkit.Error, match="2 processes train together .* is not prepared"):
        expkit.run("002-light", overrides=["exp.fold=[0]"])
    assert not (root / "output").exists()
