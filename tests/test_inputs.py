"""The record of the data: what of input/ there was, by content, without reading again what has not changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import expkit
from expkit import files, inputs


def write(file: Path, text: str, age: float = 100) -> Path:
    """A file that was changed `age` seconds ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    then = file.stat().st_mtime - age
    os.utime(file, (then, then))
    return file


def test_what_has_not_changed_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(root / f"input/part/{number}.csv", f"{number}")
    read: list[str] = []
    original = files.file_hash
    monkeypatch.setattr(inputs, "file_hash", lambda file: (read.append(file.name), original(file))[1])
    first, found = inputs.take()
    assert sorted(found) == [f"part/{number}.csv" for number in range(5)] and len(read) == 5
    assert inputs.take()[0] == first and len(read) == 5
    write(root / "input/part/3.csv", "x", age=50)
    second, now = inputs.take()
    assert second != first and len(read) == 6
    assert inputs.changes(found, now) == ["part/3.csv: other content"]


def test_a_file_that_has_just_been_written_is_read_each_time(root: Path) -> None:
    """It may change again within a tick of the clock, at the same size."""
    file = write(root / "input/train.csv", "1", age=0)
    first = inputs.take()[0]
    about = file.stat()
    file.write_text("2")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert inputs.take()[0] != first


def test_data_outside_of_input(root: Path, tmp_path: Path) -> None:
    """By an absolute path; and a second data set is none of an experiment that names its own."""
    elsewhere = write(tmp_path / "volume/big/rows.bin", "1")
    write(root / "input/other/rows.csv", "2")
    named = [str(elsewhere.parents[1]), "other/*.csv"]
    digest, found = inputs.take(named)
    assert sorted(found) == sorted([elsewhere.as_posix(), "other/rows.csv"])
    write(root / "input/third/rows.csv", "3")
    assert inputs.take(named)[0] == digest
    write(elsewhere, "4", age=10)
    assert inputs.take(named)[0] != digest
    assert inputs.take([]) == (inputs.digest({}), {})
    with pytest.raises(expkit.Error, match="there is no .*nothing.csv, which the experiment names as its data"):
        inputs.take(["nothing.csv"])


def test_links_that_lead_in_a_circle(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "volume/rows.csv", "1")
    (root / "input/volume").symlink_to(tmp_path / "volume", target_is_directory=True)
    (tmp_path / "volume/self").symlink_to(tmp_path / "volume", target_is_directory=True)
    (root / "input/gone.csv").symlink_to(tmp_path / "nothing")
    assert list(inputs.take()[1]) == ["volume/rows.csv"]


def test_a_look_writes_nothing(root: Path) -> None:
    write(root / "input/train.csv", "1")
    inputs.take(keep=False)
    assert not (root / "output").exists()
