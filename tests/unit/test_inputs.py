"""The record of the data: what of input/ there was, by content, without reading again what has not changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from commands import command
from damage import make_special, unprivileged
from experiments import own_experiment
from helpers import exp, refused, results, tree
from helpers import files as files_below
from light import LIGHT
from several import files as files_of

import expkit
from expkit import data, files
from expkit.board import ranked
from expkit.data import Cache
from expkit.runner import Command, Runner


def write(file: Path, text: str, age: float = 100) -> Path:
    """A file that was changed `age` seconds ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    then = file.stat().st_mtime - age
    os.utime(file, (then, then))
    return file


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been written until now was written a minute ago."""
    now = time.time
    monkeypatch.setattr(data.time, "time", lambda: now() + 60)


def test_what_has_not_changed_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    for number in range(5):
        write(root / f"input/part/{number}.csv", f"{number}")
    read: list[str] = []
    original = files.file_hash
    monkeypatch.setattr(data, "file_hash", lambda file: (read.append(file.name), original(file))[1])
    first, found = data.hash_inputs()
    assert sorted(found) == [f"part/{number}.csv" for number in range(5)] and len(read) == 5
    assert data.hash_inputs()[0] == first and len(read) == 5
    write(root / "input/part/3.csv", "x", age=50)
    second, now = data.hash_inputs()
    assert second != first and len(read) == 6
    assert data.changed_files(found, now) == ["part/3.csv: other content"]


def test_a_file_that_has_just_been_written_is_read_each_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change again within a tick of the clock, at the same size: nothing tells."""
    file = write(root / "input/train.csv", "1", age=0)
    about, stat = file.stat(), os.stat
    with monkeypatch.context() as patched:
        same = os.fspath(file)
        patched.setattr(os, "stat", lambda path, **options: about if path == same else stat(path, **options))
        first = data.hash_inputs()[0]
        file.write_text("2")
        assert data.hash_inputs()[0] != first


def test_a_file_that_is_edited_in_place_with_its_old_time_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size and mtime are the same; ctime tells."""
    later(monkeypatch)
    file = write(root / "input/train.csv", "1")
    first, about = data.hash_inputs()[0], file.stat()
    assert data.hash_inputs(keep=False)[0] == first
    while file.stat().st_ctime_ns == about.st_ctime_ns:  # within a tick of the clock
        file.write_text("2")
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    assert data.hash_inputs()[0] != first


def test_the_name_of_a_file_is_part_of_the_data(root: Path) -> None:
    """Two files that change places are other data."""
    one, other = write(root / "input/a.csv", "1"), write(root / "input/b.csv", "2")
    first = data.hash_inputs()[0]
    one.rename(root / "input/c.csv")
    other.rename(one)
    (root / "input/c.csv").rename(other)
    assert data.hash_inputs()[0] != first


def test_a_file_that_changes_while_it_is_read_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    file = write(root / "input/a.csv", "1")
    original, changes = files.file_hash, ["22"]

    def hashed(path: Path) -> str:
        found = original(path)
        if changes:
            file.write_text(changes.pop())
        return found

    monkeypatch.setattr(data, "file_hash", hashed)
    data.hash_inputs()
    assert data.hash_inputs()[1] == {"a.csv": [2, original(file)]}


def test_a_file_that_vanishes_while_it_is_read_costs_no_fold(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a download gets another name; one that never stays is one line."""
    part, original = write(root / "input/a.csv.part", "1"), data._seen

    def seen(path: str, known: list[object] | None) -> list[object]:
        part.rename(root / "input/a.csv")
        monkeypatch.setattr(data, "_seen", original)
        return original(path, known)

    monkeypatch.setattr(data, "_seen", seen)
    assert list(data.hash_inputs()[1]) == ["a.csv"]
    monkeypatch.setattr(data, "_seen", lambda path, known: os.stat(root / "gone"))
    with pytest.raises(expkit.Error, match="gone cannot be read"):
        data.hash_inputs()


@pytest.mark.parametrize("kind", ["unreadable", "pipe"])
def test_a_file_that_cannot_be_read(root: Path, kind: str) -> None:
    """One line for a training that reads it; a mark for a run that has."""
    write(root / "input/train.csv", "1")
    digest, _ = data.hash_inputs()
    make_special(kind, root / "input/train.csv")
    with unprivileged():
        with pytest.raises(expkit.Error, match=r"train.csv cannot be read: .*: mend it, or name what"):
            data.hash_inputs(["train.csv"])
        [mark] = data.changed_data(digest, ["train.csv"])
        assert "train.csv cannot be read" in mark


def test_data_outside_of_input(root: Path, tmp_path: Path) -> None:
    """By an absolute path; and a second data set is none of an experiment that names its own."""
    elsewhere = write(tmp_path / "volume/big/rows.bin", "1")
    write(root / "input/other/rows.csv", "2")
    named = [str(elsewhere.parents[1]), "other/*.csv"]
    digest, found = data.hash_inputs(named)
    assert sorted(found) == sorted([elsewhere.as_posix(), "other/rows.csv"])
    write(root / "input/third/rows.csv", "3")
    assert data.hash_inputs(named)[0] == digest
    write(elsewhere, "4", age=10)
    assert data.hash_inputs(named)[0] != digest
    assert data.hash_inputs([]) == (data.manifest_hash({}), {})
    with pytest.raises(expkit.Error, match="there is no .*nothing.csv, which inputs=.* or exp.split.file names"):
        data.hash_inputs(["nothing.csv"])


def test_a_debug_run_says_what_is_not_there(root: Path) -> None:
    own = files_of("price")
    own["train.py"] = own["train.py"].replace("own_split=True", 'own_split=True, inputs=["nothing.csv"]')
    with own_experiment(own) as folder, pytest.raises(expkit.Error, match="there is no .*nothing.csv, which inputs="):
        expkit.run(folder.name, overrides=["exp.debug=true"])


def test_a_file_that_is_read_and_not_named_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once per run; not what the training looks for in vain, nor the sample, which no training reads."""
    for name in ("kinds/a.npz", "kinds/b.npz", "kinds/sample_submission.csv", "named.csv", "kinds/.hidden"):
        write(root / "input" / name, "1")

    def reads(fold: expkit.Fold) -> None:
        for name in ("kinds/a.npz", "kinds/sample_submission.csv", "named.csv", "kinds/.hidden"):
            (root / "input" / name).read_text()
        (root / "input/made.txt").write_text("1")
        with pytest.raises(FileNotFoundError):
            (root / "input/missing.csv").read_text()

    def said(inputs: list[str] | None, name: str, during: Callable[[expkit.Fold], object] = reads) -> list[str]:
        run = command(f"exp.name={name}", during=during)
        loaded = replace(run.loaded, experiment=replace(run.loaded.experiment, inputs=inputs))
        config = expkit.load_config(LIGHT, [f"exp.name={name}"])
        Runner(loaded, config, [f"exp.name={name}"], Command()).train()
        return [line for line in capsys.readouterr().err.splitlines() if "inputs=" in line]

    [line] = said(["named.csv"], "one")
    assert "kinds/a.npz was read, and inputs=['named.csv'] in train.py does not name it: " in line
    [line] = said([], "two", lambda fold: (reads(fold), (root / "input/kinds/b.npz").read_text()))
    assert "kinds/a.npz and 2 more were read, and inputs=[] in train.py does not name them: " in line
    assert said(["kinds", "named.csv"], "three") == said(None, "four") == []
    assert "names no file of input/" in exp("data", "light/two")


def test_what_is_no_data(root: Path, tmp_path: Path) -> None:
    """Links in a circle, or to nothing; what is hidden; a volume's lost+found, which nobody may read; no input/."""
    write(tmp_path / "volume/rows.csv", "1")
    (root / "input/volume").symlink_to(tmp_path / "volume", target_is_directory=True)
    (tmp_path / "volume/self").symlink_to(tmp_path / "volume", target_is_directory=True)
    (root / "input/gone.csv").symlink_to(tmp_path / "nothing")
    (root / "input/itself.csv").symlink_to("itself.csv")
    for name in ("deep/er/.hidden/rows.csv", "deep/er/rows.csv", "lost+found/rows.csv", "z.csv"):
        write(root / "input" / name, "1")
    (root / "input/lost+found").chmod(0)
    with unprivileged():
        assert list(data.hash_inputs(keep=False)[1]) == ["deep/er/rows.csv", "volume/rows.csv", "z.csv"]
    (root / "input/lost+found").chmod(0o755)
    shutil.rmtree(root / "input")
    assert data.hash_inputs(keep=False)[1] == {}
    assert not (root / "output").exists(), "a look writes nothing"


# A cache of features that experiments share


def reads(name: str, content: str = "features", made: list[str] | None = None) -> Callable[[expkit.Fold], object]:
    """Let a fold of the light experiment read a file of the cache."""

    def make(file: Path) -> None:
        (made if made is not None else []).append(file.name)
        file.write_text(content)

    return lambda fold: fold.cache(name, make).read_text()


def test_a_file_of_the_cache_is_made_once_and_named_in_the_record(root: Path) -> None:
    write(root / "input/train.csv", "1")
    made: list[str] = []
    command("exp.debug=true", during=reads("tfidf.npz", "few rows")).train()
    assert not (root / "input/cache").exists(), "a debug run has one of its own"
    command("exp.fold=[0,1]", "exp.train.x=1", during=reads("tfidf.npz", made=made)).train()
    command("exp.fold=[0]", "exp.train.x=2", during=reads("tfidf.npz", made=made)).train()
    command("exp.fold=[0]", "exp.train.x=3").train()
    assert made == ["tfidf.npz"]
    of_run = [results(root, f"light,exp.train.x={x}")[0]["data"] for x in (1, 2, 3)]
    assert of_run[0] == of_run[1] != of_run[2], "it is data of those that have read it"
    files_of_run = [data.read_manifest(root / "output", digest) or {} for digest in of_run]
    assert list(files_of_run[0]) == ["train.csv", "cache/tfidf.npz"] and list(files_of_run[2]) == ["train.csv"]
    assert all("mixed data" not in row.marks for row in expkit.read_board())


def test_the_board_says_when_runs_have_other_data(root: Path) -> None:
    """A file that both have read had another content; what one alone has read does not matter."""
    write(root / "input/train.csv", "1")
    command("exp.train.x=3", "exp.fold=[0]").train()
    command("exp.train.x=2", "exp.fold=[0]", during=reads("tfidf.npz")).train()
    write(root / "input/train.csv", "others", age=10)
    command("exp.train.x=1", "exp.fold=[0]").train()
    marks = {row.run.name[-1]: row.marks for row in ranked(expkit.read_board())}
    assert {run for run, each in marks.items() if "other data" in each} == {"1"}, "most have the first one"


def test_a_cache_that_changes_is_other_data(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("exp.fold=[0]", during=reads("tfidf.npz")).train()
    command("exp.fold=[0]").train()
    assert "has changed" not in capsys.readouterr().err
    write(root / "input/cache/tfidf.npz", "others", age=10)
    command("exp.fold=[0,1]", during=reads("tfidf.npz")).train()
    assert "the data has changed since fold 0 (cache/tfidf.npz: 8 → 6 bytes)" in capsys.readouterr().err
    [row] = expkit.read_board()
    assert "mixed data" in row.marks
    (root / "input/cache/tfidf.npz").unlink()
    command("exp.fold=[0]").train()
    assert "(cache/tfidf.npz is gone)" in capsys.readouterr().err


def test_two_that_ask_at_once_make_it_once(root: Path) -> None:
    """The second waits for the first, and reads what that has made; it is there when it is whole."""
    made: list[str] = []
    began = Event()

    def make(file: Path) -> None:
        made.append(file.name)
        began.set()
        assert not (root / "input/cache/tfidf.npz").exists()
        file.write_text("features")

    def ask(number: int) -> str:
        assert number == 0 or began.wait(30)
        return Cache(root / "fold0", debug=False)("tfidf.npz", make).read_text()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == ["features"] * 2
    assert made == ["tfidf.npz"]


def test_a_cache_that_is_not_made(root: Path) -> None:
    cache = Cache(root / "fold0", debug=False)
    with pytest.raises(expkit.Error, match="make.file. must write .*cache/a.npz, and did not"):
        cache("a.npz", lambda file: None)
    with pytest.raises(ZeroDivisionError):
        cache("a.npz", lambda file: file.write_text("half") // 0)
    for name in ("../a.npz", "", ".a", "a/b", "*"):
        with pytest.raises(expkit.Error, match="fold.cache: a name has letters"):
            cache(name, lambda file: file.write_text("x"))
    assert [path.name for path in (root / "input/cache").iterdir() if path.suffix != ".lock"] == []
    assert cache.read == set()


# The data of a run on another machine


def trained_with(root: Path, **contents: str) -> None:
    """A run whose record names files, which are gone; `sources/` beside input/ has them all."""
    for name, content in contents.items():
        write(root / "input/part" / name, content)
        write(root / "sources/part" / name, content)
    command("exp.fold=[0]").train()
    shutil.rmtree(root / "input/part")


def states(*arguments: str, code: int = 0) -> dict[str, str]:
    [rows] = [json.loads(line) for line in exp(*arguments, "--json", code=code).splitlines() if line.startswith("[")]
    return {row["file"].removeprefix("part/"): row.get("problem", row["state"]) for row in rows}


def test_what_of_the_data_of_a_run_is_here(root: Path) -> None:
    """Without --fetch nothing is executed or written."""
    trained_with(root, a="1", b="2", c="3", d="4", e="5")
    write(root / "input/part/a", "1")
    write(root / "input/part/b", "x")
    write(root / "input/part/c", "longer")
    (root / "input/part/d").mkdir()
    write(root / "input/sources.toml", f'"*" = "touch {root}/ran {{file}}"')
    before = tree(root)
    assert states("data", "light") == {"a": "here", "b": "other", "c": "other", "d": "other", "e": "missing"}
    assert re.search(r"part/e +1 byte +missing\n", exp("data", "light"))
    assert tree(root) == before and not (root / "ran").exists()
    shutil.rmtree(root / "output/.data")
    assert "nobody knows which files light/light was trained with" in refused("data", "light").replace(LIGHT, "light")


def test_sources_are_no_data(root: Path) -> None:
    write(root / "input/train.csv", "1")
    before = data.hash_inputs()
    write(root / "input/sources.toml", "")
    assert data.hash_inputs() == before


@pytest.mark.parametrize("is_address", [True, False], ids=["address", "command"])
def test_what_is_missing_comes_and_nothing_is_replaced(root: Path, is_address: bool) -> None:
    """Held against the record; what comes is whole or not there, and the others come all the same."""
    trained_with(root, **{"a b#.csv": "1", "b.csv": "2", "c.csv": "3", "kept.csv": "4"})
    write(root / "input/part/kept.csv", "mine")
    write(root / "sources/part/b.csv", "x")
    source = f"file://{root}/sources/{{path}}" if is_address else f"cp '{root}/sources/{{path}}' {{file}}"
    (root / "sources/part/c.csv").unlink()
    write(root / "input/sources.toml", f'"part/kept*" = "touch {root}/ran {{file}}"\n"part/*" = """{source}"""')
    found = states("data", "light", "--fetch", code=1)
    assert found.pop("a b#.csv") == "here" and (root / "input/part/a b#.csv").read_text() == "1"
    assert "has another content, 1 bytes and not 1: not kept" in found["b.csv"]
    assert f"{'curl exits 37' if is_address else 'cp exits 1'}, no {{file}} is whole" in found["c.csv"]
    assert re.fullmatch(r"another content is here, and is kept: move .*/kept.csv out of input/", found["kept.csv"])
    assert files_below(root / "input/part") == ["a b#.csv", "kept.csv"]
    assert (root / "input/part/kept.csv").read_text() == "mine" and not (root / "ran").exists()
    write(root / "sources/part/b.csv", "2")
    write(root / "sources/part/c.csv", "3")
    (root / "input/part/kept.csv").unlink()
    write(root / "input/sources.toml", f'"part/*" = """{source}"""')
    assert set(states("data", "light", "--fetch").values()) == {"here"}
    digest = results(root)[0]["data"]
    (root / "input/sources.toml").unlink()
    assert data.hash_inputs()[0] == digest, "it is the data of the run"


def test_the_record_of_a_stranger_writes_nothing_outside_of_input(root: Path) -> None:
    rows = [{"file": name, "bytes": 1, "hash": "x", "state": "missing"} for name in ("../out.csv", f"{root}/out.csv")]
    write(root / "input/sources.toml", '"*" = "cp /dev/null {file}"')
    data.fetch_data(rows)
    assert [row["problem"] for row in rows] == ["it is not below input/: bring it by hand"] * 2
    assert files_below(root) == ["input/sources.toml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "input/sources.toml cannot be read: Invalid value"),
        ('train.csv = "https://example.org/a"', '"train" must be an address, such as "https://example.org/{path}", or'),
        ('"a" = "cp b a"', '"a" must be an address'),
        ('"a" = "ftp://example.org/a"', '"a" must be an address'),
        ("a = 1", '"a" must be an address'),
        ("", None),
    ],
)
def test_wrong_sources(root: Path, text: str, message: str | None) -> None:
    trained_with(root, a="1")
    if message:
        write(root / "input/sources.toml", text)
        assert message in refused("data", "light", "--fetch")
    else:
        [problem] = states("data", "light", "--fetch", code=1).values()
        assert problem == "no line of input/sources.toml names it"
