"""`exp kaggle` with the official client, against a stand-in for Kaggle; see kaggle_server.py."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import own_experiment
from helpers import exp, exp_json, refused
from kaggle_server import TOKEN, Competition, Refused, Stand, failed, stand
from light import train_py
from several import files

import expkit

SOLUTION = {str(row): ["cat", "dog", "yak"][row % 3] for row in range(300, 340)}  # of the experiments of several.py
FILES = {
    "train.csv": b"id,label\n" + b"1,0\n" * 5000,
    "pictures/a.png": b"\x89PNG" * 1000,
    "sample_submission.csv": b"id,species\n" + b"".join(f"{id},cat\n".encode() for id in reversed(SOLUTION)),
}
__all__ = ["stand"]  # a fixture


@pytest.fixture(autouse=True)
def competition(stand: Stand) -> None:
    stand.competitions["digits"] = Competition(FILES, SOLUTION)


def downloaded(root: Path) -> dict[str, bytes]:
    folder = root / "input/digits"
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in found.items() if not name.startswith(".")}


def test_the_data_of_a_competition(stand: Stand, root: Path) -> None:
    printed = exp("kaggle", "download", "digits")
    assert downloaded(root) == FILES and "digits: 3 files, 24.3 kB, downloaded 20" in printed
    record = exp_json("kaggle", "download", "digits")
    assert record["files"].keys() == FILES.keys() and record["files"]["train.csv"][0] == len(FILES["train.csv"])
    assert len(stand.called("GET")) == 1, "the second time, it is there"
    assert [path.name for path in (root / "input/digits").glob(".*")] == [".download.json"]


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
    (root / "input/digits/pictures/a.png").unlink()
    stand.competitions["digits"].files = FILES | {"pictures/b.png": b"new"}
    line = refused("kaggle", "download", "digits")
    assert "train.csv is not as Kaggle has it: move it away; nothing is replaced" in line
    assert mine.read_text() == "with a row mended" and "pictures/b.png" not in downloaded(root)
    mine.unlink()
    exp("kaggle", "download", "digits")
    assert downloaded(root) == stand.competitions["digits"].files


@pytest.mark.parametrize("name", ["../outside.csv", "/tmp/outside-of-input.csv", "a/../../outside.csv", "link"])
def test_nothing_is_unpacked_outside(stand: Stand, root: Path, name: str) -> None:
    """What would lie elsewhere lies in the folder, and a link is a file."""
    file = root / "archive.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train.csv", "id")
        about = zipfile.ZipInfo(name)
        about.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
        archive.writestr(about, "/etc/passwd")
    stand.competitions["digits"].archive = file.read_bytes()
    exp("kaggle", "download", "digits")
    inside = {"a/../../outside.csv": "a/outside.csv"}.get(name, name.removeprefix("../").removeprefix("/"))
    assert downloaded(root) == {"train.csv": b"id", inside: b"/etc/passwd"}
    assert not os.path.exists("/tmp/outside-of-input.csv") and not (root / "input/digits" / inside).is_symlink()
    assert len(list(root.rglob("outside*.csv"))) == (name != "link")


def test_a_damaged_archive(stand: Stand, root: Path) -> None:
    stand.competitions["digits"].archive = b"no zip"
    assert "was damaged" in failed("kaggle", "download", "digits")
    stand.competitions["digits"].archive = b""
    exp("kaggle", "download", "digits")
    assert downloaded(root) == FILES


def test_a_closed_gate(stand: Stand, root: Path) -> None:
    """Kaggle's 403 does not say which; and the same command works once it is open."""
    stand.competitions["digits"].entered = False
    line = refused("kaggle", "download", "digits")
    assert "accept the rules at https://www.kaggle.com/competitions/digits/rules, and verify your phone at http" in line
    stand.competitions["digits"].entered = True
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
        ((429, "Too many requests"), "Kaggle answers Too many requests: try again in some minutes; nothing is lost"),
        ((500, "Internal error"), "Kaggle answers Internal error: try again in some minutes; nothing is lost"),
        ("cut", "the connection to Kaggle failed"),
    ],
)
def test_a_server_that_fails(stand: Stand, failure: Any, said: str) -> None:
    stand.failures["DownloadDataFiles"] = [failure]
    assert said in failed("kaggle", "download", "digits")
    exp("kaggle", "download", "digits")


def test_an_address_that_is_no_longer_valid(stand: Stand) -> None:
    """A 403 that is no closed gate."""
    stand.failures["GET"] = [(403, "Expired")]
    assert "Kaggle answers 403 Client Error: Forbidden: try again" in failed("kaggle", "download", "digits")


def test_another_name(stand: Stand, root: Path) -> None:
    assert "Kaggle has no competition digitz" in refused("kaggle", "download", "digitz")
    assert "is no name of a competition" in refused("kaggle", "download", "../digits")


def test_without_the_extra(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaggle.api.kaggle_api_extended", None)
    assert "uv sync --extra kaggle" in refused("kaggle", "download", "digits")


# Submissions


@pytest.fixture
def species(stand: Stand) -> Iterator[str]:
    """An experiment that reads the downloaded data of the competition."""
    exp("kaggle", "download", "digits")
    own = files("species")
    own["train.py"] = own["train.py"].replace("own_split=True", 'own_split=True, inputs=["digits"]')
    with own_experiment(own) as folder:
        yield folder.name


def train(experiment: str, *overrides: str) -> expkit.Run:
    before = {run.title for run in expkit.read_board()}
    expkit.run(experiment, overrides=overrides)
    [run] = [run for run in expkit.read_board() if run.title not in before]
    return run


def board() -> dict[str, float]:
    """The leaderboard scores on the board."""
    return {
        f"{one['experiment']}/{one['run']}": one["leaderboard"]
        for one in exp_json("board", "--all")
        if one["leaderboard"]
    }


def share_right(file: Path) -> float:
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    return round(sum(SOLUTION[id] == value for id, value in rows) / len(rows), 5)


def test_a_submission_and_its_score(stand: Stand, species: str) -> None:
    run = train(species, "exp.train.noise=0.5")
    printed = exp("kaggle", "submit", run.title, "-m", "wider")
    [file] = (expkit.output_dir() / "submissions").glob("*.csv")
    [sent] = stand.submissions
    assert bytes(stand.uploads["upload-0"]) == file.read_bytes()
    assert re.fullmatch(rf"wider \[expkit {run.id} [0-9a-f]{{8}}\]", sent["description"])
    assert board() == {run.title: share_right(file)} and 0 < share_right(file) < 1
    assert f"{run.title}: submission 1000 {share_right(file)}, noted" in printed
    [line] = [line for line in exp_json("note", run.title, "--all")["runs"][0]["notes"] if "leaderboard" in line]
    assert line["scores"] == {"accuracy": run.score} and line["text"] == "Kaggle digits, submission 1000"


def test_a_dry_run_sends_nothing(stand: Stand, species: str) -> None:
    run = train(species)
    assert "can be sent to digits: 5 are left today" in exp("kaggle", "submit", run.title, "--dry-run")
    assert exp_json("kaggle", "submit", run.title, "--dry-run")["left"] == 5
    assert not stand.submissions and not stand.uploads


def test_a_dry_run_without_credentials(stand: Stand, species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is made and held against the sample all the same."""
    run = train(species)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "")
    printed = exp("kaggle", "submit", run.title, "--dry-run")
    [file] = (expkit.output_dir() / "submissions").glob("*.csv")
    assert f"{file.name} is made and checked; Kaggle was not asked: there are no Kaggle credentials" in printed
    assert exp_json("kaggle", "submit", run.title, "--dry-run")["left"] is None
    assert "there are no Kaggle credentials" in refused("kaggle", "submit", run.title)


def test_the_same_bytes_are_not_sent_twice(stand: Stand, species: str) -> None:
    """Of another run, of the same blend made again."""
    run = train(species)
    copy = train(species, "exp.name=copy")
    exp("kaggle", "submit", run.title)
    line = refused("kaggle", "submit", copy.title)
    assert (
        f"is the same file as submission 1000, score {board()[run.title]:.5f}: not sent; exp note {copy.title} --lb"
        in line
    )
    other = train(species, "exp.seed=5", "exp.train.noise=0.7")
    names = [exp_json("blend", run.title, other.title, "--name", name)["run"] for name in ("one", "two")]
    exp("kaggle", "submit", names[0])
    assert "is the same file as submission 1001" in refused("kaggle", "submit", names[1])
    assert len(stand.submissions) == 2


def test_none_left(stand: Stand, species: str) -> None:
    run = train(species)
    stand.competitions["digits"].allowed = 1
    exp("kaggle", "submit", run.title)
    other = train(species, "exp.seed=1", "exp.train.noise=0.5")
    assert "1 submissions today, 1 in all: none is left; the day begins" in refused("kaggle", "submit", other.title)
    assert refused("kaggle", "submit", other.title, "--dry-run") and len(stand.submissions) == 1
    exp("kaggle", "submit", run.title)  # it is there already
    assert len(stand.submissions) == 1


def test_nothing_is_sent_twice(stand: Stand, species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C while it waits, the same command waits for the score; `scores` would note it, too."""
    run = train(species)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", interrupt)
        exp("kaggle", "submit", run.title, code=130)
    assert len(stand.submissions) == 1 and not board()
    exp("kaggle", "submit", run.title)
    assert len(stand.submissions) == 1 and board()
    again = exp_json("kaggle", "scores")["submissions"]
    assert [(each["run"], each["is_new"]) for each in again] == [(run.title, False)]
    assert len(exp_json("note", run.title, "--all")["runs"][0]["notes"]) == 1


def test_a_file_that_was_made_before(stand: Stand, species: str) -> None:
    run = train(species)
    made = Path(exp_json("submit", run.title, "--from", "folds")["path"])
    exp("kaggle", "submit", str(made))
    assert board()[run.title] == share_right(made)
    made.write_text(made.read_text().replace("cat", "dog"))
    assert "is not as exp submit has made it" in refused("kaggle", "submit", str(made))
    assert "is not as exp submit has made it" in refused("kaggle", "submit", str(made.with_name("own.csv")))
    both = exp_json("submit", run.title, train(species, "exp.seed=1", "exp.train.noise=0.9").title)["path"]
    assert "of several runs: exp blend makes one" in exp("kaggle", "submit", both)
    assert board().keys() == {run.title}


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        ("CreateSubmission", (500, "Internal error")),
        ("CreateSubmission", (429, "Too many requests")),
        ("CreateSubmission", "cut"),
        ("StartSubmissionUpload", "cut"),
        ("PUT", (403, "Forbidden")),
    ],
)
def test_a_submission_that_does_not_arrive(stand: Stand, species: str, call: str, failure: Any) -> None:
    run = train(species)
    stand.failures[call] = [failure]
    assert "nothing is lost, and the same command goes on" in failed("kaggle", "submit", run.title)
    assert not stand.submissions
    exp("kaggle", "submit", run.title)
    assert len(stand.submissions) == 1 and board()


def test_an_upload_that_is_cut_off(stand: Stand, species: str) -> None:
    run = train(species)
    stand.failures["PUT"] = ["cut"] * 100
    assert "the submission did not arrive" in failed("kaggle", "submit", run.title)
    stand.failures["PUT"].clear()
    exp("kaggle", "submit", run.title)
    [sent] = stand.submissions
    assert sent["status"] == "COMPLETE" and board()


def test_an_answer_that_is_cut_off(stand: Stand, species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submission was made, and nobody here knows: it is not sent again."""
    run, make = train(species), stand.CreateSubmission

    def make_and_fail(asked: Any) -> Any:
        make(asked)
        raise Refused(500, "Internal error")

    monkeypatch.setattr(stand, "CreateSubmission", make_and_fail)
    failed("kaggle", "submit", run.title)
    exp("kaggle", "submit", run.title)
    assert len(stand.submissions) == 1 and board()


def test_a_submission_that_cannot_be_scored(stand: Stand, species: str) -> None:
    run = train(species)
    stand.competitions["digits"].solution = {"1": "cat"}
    line = failed("kaggle", "submit", run.title)
    assert "submission 1000 has failed at Kaggle: Submission must have the ids of the sample" in line
    stand.competitions["digits"].solution = SOLUTION
    exp("kaggle", "submit", run.title)
    assert len(stand.submissions) == 2 and board(), "it may be sent again"
    found = exp_json("kaggle", "scores")["submissions"]
    assert [each["problem"] for each in found] == ["no public score, error", ""]


def test_all_scores(stand: Stand, species: str) -> None:
    """Also of submissions that another machine has sent; what is not ours, or is of a replaced run, is left."""
    good, bad = train(species, "exp.train.noise=0.3"), train(species, "exp.train.noise=0.9")
    assert good.score > bad.score
    for number, (said, score) in enumerate(
        [
            (f"x [expkit {good.id} 01234567]", "0.5"),
            ("by hand", "0.9"),
            ("old [expkit 00000000 01234567]", "0.9"),
            (f"[expkit {bad.id} 01234567]", "0.7"),
            (f"[expkit {bad.id} 76543210]", ""),
        ]
    ):
        about = {"ref": 1000 + number, "date": "2026-01-02T03:04:05", "description": said, "status": "COMPLETE"}
        stand.submissions.append(about | {"publicScore": score, "competition": "digits", "outcome": {}})
    found = exp_json("kaggle", "scores")
    assert [(each["run"], each["score"]) for each in found["submissions"]] == [
        (good.title, 0.5),
        (None, 0.9),
        (bad.title, 0.7),
        (bad.title, None),
    ]
    assert board() == {good.title: 0.5, bad.title: 0.7}
    [line] = found["disagreements"]
    assert "CV accuracy and the leaderboard part about 1 of 1 pairs of runs" in line and good.title in line
    assert line in " ".join(exp("kaggle", "scores").split())
    assert "its run is replaced or gone" in exp("kaggle", "scores")


def test_many_submissions(stand: Stand, species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kaggle lists them page by page."""
    monkeypatch.setattr("expkit.kaggle.PAGE", 2)
    run = train(species)
    for _ in range(4):
        about = {"ref": 1000 + len(stand.submissions), "date": "2026-01-02T03:04:05", "status": "COMPLETE"}
        stand.submissions.append(about | {"competition": "digits", "outcome": {}})
    stand.submissions[0]["description"] = f"[expkit {run.id} 01234567]"
    stand.submissions[0]["publicScore"] = "0.25"
    exp("kaggle", "scores", "--competition", "digits")
    assert board() == {run.title: 0.25}


def test_which_competition(stand: Stand, species: str) -> None:
    run = train(species)
    stand.competitions["other"] = Competition(FILES, SOLUTION)
    exp("kaggle", "download", "other")
    assert "digits and other have come into input/ by exp kaggle download: give --competition" in refused(
        "kaggle", "scores"
    )
    exp("kaggle", "submit", run.title)
    exp("kaggle", "submit", run.title, "--competition", "other")
    assert [each["competition"] for each in stand.submissions] == ["digits", "other"]
    own = files("price")
    own["train.py"] = own["train.py"].replace("own_split=True", "own_split=True, inputs=[]")
    with own_experiment(own) as folder:
        price = train(folder.name)
        assert "no competition has come into the data of 9" in refused("kaggle", "submit", price.title)


def test_a_closed_gate_of_a_submission(stand: Stand, species: str) -> None:
    run = train(species)
    stand.competitions["digits"].entered = False
    assert "accept the rules at" in refused("kaggle", "submit", run.title)


def test_no_credential_is_written(stand: Stand, species: str, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exp("kaggle", "submit", train(species).title)
    exp("kaggle", "scores")
    written = [file for file in root.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert not written and TOKEN not in str(capfd.readouterr())


STACK = """
TITLES = {titles}


def accuracy(oof):
    return float((oof["target"] == oof["prediction"]).mean())


def mean(tables):
    import numpy as np

    names = [name for name in tables[0] if name.startswith("probability_")]
    columns = {{name: np.mean([table[name] for table in tables], axis=0) for name in names}}
    labels = np.array([name.removeprefix("probability_") for name in names])
    return {{"prediction": labels[np.argmax(list(columns.values()), axis=0)]}} | columns


def train(exp, fold):
    runs = [expkit.load_run(title) for title in TITLES]
    tables = [run.fold(fold.number).predictions() for run in runs]
    fold.save_oof({{"id": tables[0]["id"], "target": tables[0]["target"]}} | mean(tables))
    tests = [run.test(fold.number) for run in runs]
    fold.save_test({{"id": tests[0]["id"]}} | mean(tests))
"""


def test_a_competition_from_the_data_to_the_leaderboard(stand: Stand, species: str) -> None:
    """Two runs, a stack of them, a blend; three submissions, whose scores are on the board."""
    one, two = train(species, "exp.train.noise=0.5"), train(species, "exp.train.noise=0.6", "exp.seed=1")
    code, fields = STACK.format(titles=[one.title, two.title]), "n_folds: int = 3\nseed: int = 0"
    options = 'metric=accuracy, own_split=True, inputs=["digits"]'
    with own_experiment({"train.py": train_py("unused: int = 0", code, options, exp=fields)}) as folder:
        stack = train(folder.name)
        assert {parent.run for parent in stack.parents} == {one.title, two.title}
        exp("blend", one.title, stack.title, "--name", "all")
        for run in (one.title, stack.title, "all"):
            exp("kaggle", "submit", run)
        files = [share_right(file) for file in sorted((expkit.output_dir() / "submissions").glob("*.csv"))]
        assert len(files) == 3 and sorted(board().values()) == sorted(files)
        assert board().keys() == {one.title, stack.title, "blends/all"}
        assert {each["run"] for each in exp_json("kaggle", "scores")["submissions"]} == board().keys()
