"""`exp kaggle` with the official client, against a stand-in for Kaggle; see kaggle_server.py."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import exp, exp_json, refused
from kaggle_server import Competition, Stand, serving

from expkit.errors import Failed

ROWS = {str(number): str(number % 3) for number in range(40)}
FILES = {
    "train.csv": b"id,label\n" + b"1,0\n" * 5000,
    "pictures/a.png": b"\x89PNG" * 1000,
    "sample_submission.csv": b"id,y\n" + b"".join(f"{id},0\n".encode() for id in ROWS),
}
SLEEP = time.sleep


@pytest.fixture
def stand(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """A stand-in with one competition, which the official client in this process takes for Kaggle."""
    stand = Stand()
    stand.competitions["digits"] = Competition(FILES, ROWS)
    with serving(stand) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(root))  # no credentials of a person
        monkeypatch.setattr("time.sleep", lambda seconds: SLEEP(min(seconds, 0.01)))  # between attempts: minutes
        yield stand


def failed(*arguments: str) -> str:
    """The one line of what has begun, and failed."""
    with pytest.raises(Failed) as caught:
        exp(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def downloaded(root: Path) -> dict[str, bytes]:
    folder = root / "input/digits"
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in found.items() if not name.startswith(".")}


def test_the_data_of_a_competition(stand: Stand, root: Path) -> None:
    printed = exp("kaggle", "download", "digits")
    assert downloaded(root) == FILES and "digits: 3 files, 24.2 kB, downloaded 20" in printed
    record = exp_json("kaggle", "download", "digits")
    assert record["files"].keys() == FILES.keys() and record["files"]["train.csv"][0] == len(FILES["train.csv"])
    assert len(stand.called("GET")) == 1, "the second time, it is there"
    assert [path.name for path in (root / "input/digits").glob(".*")] == [".download.json"]
    stand.competitions["digits"].files = FILES | {"train.csv": b"newer"}
    exp("kaggle", "download", "digits", "--again")
    assert downloaded(root)["train.csv"] == b"newer", "Kaggle's own file is replaced by a newer one"


def test_the_record_is_no_data(stand: Stand, root: Path) -> None:
    from expkit.data import hash_inputs

    exp("kaggle", "download", "digits")
    assert set(hash_inputs(["digits"])[1]) == {f"digits/{name}" for name in FILES}


def test_a_download_goes_on_where_it_stopped(stand: Stand, root: Path) -> None:
    stand.competitions["digits"].files = large = {"train.csv": b"1,0\n" * 2**21}
    stand.failures["GET"] = ["cut"] * 6  # the client tries six times
    line = failed("kaggle", "download", "digits")
    assert "the connection to Kaggle failed" in line and "the same command goes on" in line
    assert downloaded(root) == {}
    exp("kaggle", "download", "digits")
    assert stand.called("GET")[-1]["start"] > 0 and downloaded(root) == large


def test_a_file_of_a_person_is_never_replaced(stand: Stand, root: Path) -> None:
    exp("kaggle", "download", "digits")
    mine = root / "input/digits/train.csv"
    mine.write_text("with a row mended")
    stand.competitions["digits"].files = FILES | {"pictures/b.png": b"new"}
    line = refused("kaggle", "download", "digits", "--again")
    assert "train.csv is not as it was downloaded: move it away" in line
    assert mine.read_text() == "with a row mended" and "pictures/b.png" not in downloaded(root)
    mine.unlink()
    exp("kaggle", "download", "digits", "--again")
    assert downloaded(root) == stand.competitions["digits"].files


@pytest.mark.parametrize("name", ["../outside.csv", "/tmp/outside-of-input.csv", "a/../../outside.csv", "link"])
def test_nothing_is_unpacked_outside(stand: Stand, root: Path, name: str) -> None:
    file = root / "archive.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train.csv", "id")
        about = zipfile.ZipInfo(name)
        about.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
        archive.writestr(about, "/etc/passwd")
    stand.competitions["digits"].archive = file.read_bytes()
    assert "is a link, or would lie outside of the folder: nothing is unpacked" in refused(
        "kaggle", "download", "digits"
    )
    assert downloaded(root) == {} and not os.path.exists("/tmp/outside-of-input.csv")
    assert not list(root.rglob("outside.csv"))


def test_a_damaged_archive(stand: Stand, root: Path) -> None:
    stand.competitions["digits"].archive = b"no zip"
    assert "was damaged" in failed("kaggle", "download", "digits")
    stand.competitions["digits"].archive = b""
    exp("kaggle", "download", "digits")
    assert downloaded(root) == FILES


GATES: list[tuple[dict[str, bool], str]] = [
    ({"entered": False}, "accept the rules of digits at https://www.kaggle.com/competitions/digits/rules"),
    ({"phone": False}, "verify your phone at https://www.kaggle.com/settings"),
]


@pytest.mark.parametrize(("closed", "said"), GATES)
def test_a_closed_gate(stand: Stand, root: Path, closed: dict[str, bool], said: str) -> None:
    """Kaggle's 403 does not say which; and the same command works once it is open."""
    vars(stand.competitions["digits"]).update(closed)
    line = refused("kaggle", "download", "digits")
    assert said in line and line.count("https://") == 1, line
    vars(stand.competitions["digits"]).update(entered=True, phone=True)
    exp("kaggle", "download", "digits")


@pytest.mark.parametrize("token", ["", "KGAT_expired"])
def test_no_valid_credentials(stand: Stand, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    line = refused("kaggle", "download", "digits")
    assert "no longer valid: make a token at https://www.kaggle.com/settings/api" in line
    assert token not in line or not token


def test_a_token_that_expires_meanwhile(stand: Stand) -> None:
    stand.failures["DownloadDataFiles"] = [(401, "Unauthenticated")]
    assert "Kaggle does not take these credentials" in refused("kaggle", "download", "digits")
    exp("kaggle", "download", "digits")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            (429, "Too many requests"),
            "(Too many requests): wait some minutes; nothing is lost",
        ),
        ((500, "Internal error"), "Kaggle answers Internal error: try again later; nothing is lost"),
        ("cut", "the connection to Kaggle failed"),
    ],
)
def test_a_server_that_fails(stand: Stand, failure: Any, said: str) -> None:
    stand.failures["DownloadDataFiles"] = [failure]
    assert said in failed("kaggle", "download", "digits")
    exp("kaggle", "download", "digits")


def test_another_name(stand: Stand, root: Path) -> None:
    assert "Kaggle has no competition digitz" in refused("kaggle", "download", "digitz")
    assert "is no name of a competition" in refused("kaggle", "download", "../digits")


def test_without_the_extra(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaggle.api.kaggle_api_extended", None)
    assert "uv sync --extra kaggle" in refused("kaggle", "download", "digits")
