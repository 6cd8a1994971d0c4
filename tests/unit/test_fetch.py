"""`exp fetch`: two folders as two machines. What comes is whole, and is never mixed with what is something else."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from commands import Background, command
from conftest import EXP, background
from experiments import own_experiment
from helpers import counting, environment_of, exp, exp_json, load, refused, results, tree
from light import LIGHT, edited, train_py, wait_for
from test_kills import killed, look, moments

import expkit
from expkit import fetch, snapshot, store
from expkit.config import load_experiment

# As git calls it, too: with options before the host.
SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
test "$1" = gpu || { echo "ssh: no route to $1" >&2; exit 255; }
shift
case "$*" in *"tar -chf"*|"rsync --server"*)
    left=$(cat "$BREAK" 2>/dev/null); echo $((left - 1)) > "$BREAK"
    if [ "$left" = 1 ]; then
        case "$*" in tar*|sh*) sh -c "$*" | { head -c 20000; test -e "$BREAK.slow" && sleep 2 && exec cat; }; esac
        echo "gpu: connection closed" >&2; exit 255
    fi
esac
exec sh -c "$*"
"""


@pytest.fixture
def there(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The other machine."""
    monkeypatch.setattr(snapshot, "take", lambda folder: None)
    monkeypatch.setattr(fetch, "git", lambda *arguments: "")
    folder = tmp_path / "there"
    for name in ("input", "control", "output"):
        (folder / name).mkdir(parents=True)
    return folder


@contextmanager
def machine(folder: Path) -> Iterator[None]:
    """Commands are of the project whose data and results are in a folder."""
    before = os.environ["PROJECT_ROOT"]
    os.environ["PROJECT_ROOT"] = str(folder)
    try:
        yield
    finally:
        os.environ["PROJECT_ROOT"] = before


def on(folder: Path, *overrides: str, **values: Any) -> None:
    """Train the light experiment there."""
    with machine(folder):
        command(*overrides, **values).train()


def fetched(there: Path | str, code: int = 0) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """What has come, what has not, and what else is said."""
    found = fetch.fetch(str(there))
    assert bool(found["refused"]) == bool(code), found
    return found["runs"], found["refused"], found["notes"]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an `ssh` that leads to this machine, first on the PATH; a file `break` has which copy breaks."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(SSH)
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("BREAK", str(programs / "break"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return programs


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in tree(folder).items()}


def without_rsync(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("sh", "tar", "find", "wc", "git", "rm", "head", "cat", "sleep"):
        (programs / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(programs))


# What comes


@pytest.mark.parametrize("way", ["path", "rsync", "tar"])
def test_a_run_comes_home(root: Path, there: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """To the byte, with its id, and the record of its data; the second time, nothing is touched."""
    if way == "rsync" and shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    if way == "tar":
        without_rsync(ssh, monkeypatch)
    (there / "input/a.csv").write_text("1,2\n")
    on(there, "exp.fold=[0,2]")
    on(there, "exp.mode=sub")
    on(there, "exp.train.x=2", "exp.fold=null")
    name = str(there) if way == "path" else f"gpu:{there}"
    every = [f"fold{number}" for number in range(5)]
    runs = {f"{LIGHT}/light": ["fold0", "fold2", "full"], f"{LIGHT}/light,exp.train.x=2": every}
    assert exp_json("fetch", name) == {"runs": runs, "refused": [], "notes": []}
    for run in ("light", "light,exp.train.x=2"):
        here, other = (store.read_run(counting(each, run)) for each in (root, there))
        for what in ("id", "checksums", "score", "marks"):
            assert getattr(here, what) == getattr(other, what)
        assert contents(here.folder) == contents(other.folder)
    assert contents(root / "output/.data") == contents(there / "output/.data") != {}
    before = tree(root / "output" / LIGHT)
    assert exp("fetch", name) == "0 runs with new folds\n"
    assert tree(root / "output" / LIGHT) == before
    assert [each.suffix for each in (root / "output/.fetch").iterdir()] == [".lock"]


def test_folds_of_two_machines_are_one_run(root: Path, there: Path) -> None:
    """With a score of all of them; and again when both have trained more."""
    on(root, "exp.fold=[0]")
    on(there, "exp.fold=[1,3]")
    here = store.read_run(counting(root)).id
    assert fetched(there)[0] == {f"{LIGHT}/light": ["fold1", "fold3"]}
    on(root, "exp.fold=[2]")
    on(there, "exp.fold=[4]")
    assert exp("fetch", str(there)) == f"{LIGHT}/light: fold4\n1 run with new folds\n"
    run = look(counting(root))
    assert (run.id, run.is_complete, run.marks, run.score) == (here, True, (), 10.0)
    assert [run.results[number]["values"]["ended"] for number in (1, 3, 4)] == [
        results(there)[number]["values"]["ended"] for number in (1, 3, 4)
    ]
    assert fetched(there)[0] == {}
    with machine(there):
        assert fetched(root)[0] == {f"{LIGHT}/light": ["fold0", "fold2"]}, "the other way round"
        assert fetched(root)[0] == {}


def test_the_version_that_counts_comes(root: Path, there: Path) -> None:
    """Not the one that is made to replace it; a study's mark comes, too, and what was started and has no result not."""
    on(there, "exp.fold=[0]")
    store.prune_run(counting(there), "after 1 of 5 folds")
    on(there, "exp.train.x=2", "exp.fold=[0]")
    on(there, "exp.train.x=2", "exp.fold=[0]", "overwrite=true")
    with machine(there), Background("overwrite=true", "exp.fold=[0]", stays_in=0) as training:
        os.environ["PROJECT_ROOT"] = str(root)
        assert fetched(there)[0] == {f"{LIGHT}/light": ["fold0"], f"{LIGHT}/light,exp.train.x=2": ["fold0"]}
        os.environ["PROJECT_ROOT"] = str(there)
        training.finish()
    assert results(root)[0]["run"] != results(there)[0]["run"]
    assert store.read_run(counting(root)).marks == ("pruned",)
    assert results(root, "light,exp.train.x=2")[0]["checksum"] == results(there, "light,exp.train.x=2")[0]["checksum"]


def test_a_fold_that_is_trained_there_or_here_waits(root: Path, there: Path) -> None:
    """Its files are there, and its result is not; here, nobody takes the folder away under a training."""
    with machine(there), Background("exp.fold=[0,1]", stays_in=1) as training:
        os.environ["PROJECT_ROOT"] = str(root)
        assert fetched(there)[0] == {f"{LIGHT}/light": ["fold0"]}
        assert not (counting(root) / "fold1").exists()
        os.environ["PROJECT_ROOT"] = str(there)
        training.finish()
    with machine(root), Background("exp.fold=[1]", stays_in=1) as training:
        runs, lines, _ = fetched(there, code=1)
        assert runs == {} and lines == [f"{LIGHT}/light: fold1 is not whole there, or trained here now"]
        training.finish()
    [note] = fetched(there)[2]
    assert note.startswith(f"{LIGHT}/light: fold1 trained here and there; what is here stays: ")
    assert results(root)[1]["values"]["ended"] > results(there)[1]["values"]["ended"]


def test_offline_runs_of_wandb_come(root: Path, there: Path) -> None:
    """Of the folds that are done; once more when they have grown."""
    on(there, "exp.fold=[0]")
    run_id = store.read_run(counting(there)).id
    names = [f"offline-run-20261127_101500-{part}" for part in (f"{run_id}-fold0-ab12", f"{run_id}-fold1-ab12", "x")]
    for name in names:
        (there / f"output/wandb/{name}/files").mkdir(parents=True)
        (there / f"output/wandb/{name}/run-1.wandb").write_text("a row")
        (there / f"output/wandb/{name}/files/requirements.txt").write_text("expkit")
    fetched(there)
    assert sorted(tree(root / "output/wandb")) == [
        f"{names[0]}/{one}" for one in ("files/requirements.txt", "run-1.wandb")
    ]
    (there / f"output/wandb/{names[0]}/run-1.wandb").write_text("two rows")
    fetched(there)
    assert (root / f"output/wandb/{names[0]}/run-1.wandb").read_text() == "two rows"
    before = tree(root / "output/wandb")
    fetched(there)
    assert tree(root / "output/wandb") == before


# What does not come

LUCK = """
def luck(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    import os

    fold.save_oof({"id": [fold.number], "prediction": [float(os.environ["LUCK"])]})
"""


def test_a_fold_that_both_have_trained_stays(root: Path, there: Path) -> None:
    """As it is here, and the others come; the line says what to type for the other one, also after overwrite=true."""
    on(root, "exp.fold=[0,1]")
    on(there, "exp.fold=[1,2]")
    before, title = tree(counting(root)), f"{LIGHT}/light"
    runs, _, [note] = fetched(there)
    how = f"what is here stays: exp remove {title} --yes, and fetching again, takes what is there"
    assert runs == {title: ["fold2"]} and note == f"{title}: fold1 trained here and there; {how}"
    assert before.items() - tree(counting(root)).items() == {("cv.json", before["cv.json"])}
    on(there, "exp.fold=[0,1,2]", "overwrite=true")
    before = tree(counting(root))
    assert fetched(there) == ({}, [], [f"{title}: fold0, fold1, fold2 trained here and there; {how}"])
    assert tree(counting(root)) == before
    for place in (root, there):
        on(place, "exp.fold=[3]", "exp.train.x=2")
    note = f"{title}: fold0, fold1, fold2 (and folds of other runs: 1) trained here and there; {how}"
    assert fetched(there) == ({}, [], [note]), "one line for all"
    exp("remove", f"{title},exp.train.x=2", "--yes")
    exp("remove", title, "--yes")
    assert fetched(there)[0][title] == ["fold0", "fold1", "fold2"] and fetched(there) == ({}, [], [])
    assert results(root)[0]["values"] == results(there)[0]["values"]


def test_folds_of_other_predictions_are_never_mixed(root: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training without a seed: nothing of the run comes, in one line."""
    code = train_py("x: float = 0.0", LUCK, "metric=luck, greater_is_better=True, own_split=True")
    with own_experiment({"train.py": code}) as folder:
        for place, luck, folds in ((root, "1", "[0]"), (there, "2", "[0,1]")):
            monkeypatch.setenv("LUCK", luck)
            with machine(place):
                expkit.run(folder.name, overrides=[f"exp.fold={folds}"])
        [run] = store.run_folders(root / "output")
        before, title = tree(run), f"{run.parent.name}/{run.name}"
        runs, [line], notes = fetched(there, code=1)
        assert (runs, notes, tree(run)) == ({}, [], before)
        assert line.startswith(f"{title}: fold0 trained here and there, to other predictions")
        assert f"exp remove {title} --yes" in line


def test_another_run_of_the_same_name_is_refused(root: Path, there: Path, tmp_path: Path) -> None:
    """Another configuration, code or data: one line, and nothing is touched. What else is there comes all the same."""
    on(root, "exp.fold=[0]")
    on(there, "exp.fold=[1]", x=2)
    on(there, "exp.fold=[1]", "exp.seed=7")
    before = tree(root / "output" / LIGHT / "light")
    runs, [line], _ = fetched(there, code=1)
    assert runs == {f"{LIGHT}/light,exp.seed=7": ["fold1"]}
    assert line.startswith(f"{LIGHT}/light: another configuration here (exp.train.x): give one of the two another name")
    for change, new in (("code", "return 9 + 1 -"), ("data", "return 10 -")):
        shutil.rmtree(there / "output")
        if change == "data":
            (there / "input/a.csv").write_text("1,2")
        with edited(load_experiment(LIGHT).folder / "shape.py", "return 10 -", new):
            load_experiment(LIGHT, again=True)
            on(there, "exp.fold=[1]")
        load_experiment(LIGHT, again=True)
        _, [line], _ = fetched(there, code=1)
        assert line.startswith(f"{LIGHT}/light: of other {change} here: give one of the two another name")
    assert tree(root / "output" / LIGHT / "light") == before


@pytest.mark.parametrize("file", ["fold1/oof.npz", "fold1/result.json", "run.json"])
def test_what_is_damaged_there_stays_there(root: Path, there: Path, file: str) -> None:
    """One line says so; the other folds come."""
    on(there, "exp.fold=[0,1]")
    damaged = counting(there) / file
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"?" * 9)
    runs, [line], _ = fetched(there, code=1)
    assert runs == ({} if file == "run.json" else {f"{LIGHT}/light": ["fold0"]})
    assert file.partition("/")[0] in line and line.startswith(f"{LIGHT}/light: ")


def test_what_a_run_was_made_from_comes_or_is_named(root: Path, there: Path) -> None:
    on(there, "exp.name=first", "exp.fold=null")
    on(there, "exp.name=second", "exp.fold=null", "exp.train.x=2")
    with machine(there):
        exp("blend", "first", "second,exp.train.x=2", "--name", "both")
    shutil.copytree(there / "output" / LIGHT, there / "away")
    shutil.rmtree(there / f"output/{LIGHT}/first")
    _, _, notes = fetched(there)
    assert notes == [f"blends/both: {LIGHT}/first is gone"]
    shutil.move(there / "away/first", there / f"output/{LIGHT}/first")
    assert fetched(there)[0] == {f"{LIGHT}/first": [f"fold{number}" for number in range(5)]}
    both = store.read_run(counting(root, "both", "blends"))
    assert both.marks == () and both.is_complete and both.score is not None


def test_a_mistake_is_one_line(root: Path, there: Path, ssh: Path) -> None:
    nowhere = f"{there}/nowhere: there is no output/ there: give the folder of the project"
    assert refused("fetch", f"{there}/nowhere") == nowhere
    assert refused("fetch", "cpu:myproj") == "cpu:myproj: ssh: no route to cpu"
    assert "-oProxyCommand=x:y: there is no output/" in refused("fetch", "--", "-oProxyCommand=x:y"), "no option of ssh"


# Interruptions


@pytest.mark.parametrize("way", ["rsync", "tar"])
@pytest.mark.parametrize("copy", [1, 2])
def test_a_connection_that_breaks(
    root: Path, there: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch, way: str, copy: int
) -> None:
    """What has come whole by then counts; the same command brings the rest."""
    if way == "tar":
        without_rsync(ssh, monkeypatch)
    elif shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    on(there, "exp.fold=[0,1,2,3]")
    (ssh / "break").write_text(f"{copy}")
    assert refused("fetch", f"gpu:{there}").startswith(f"gpu:{there}: ")
    done = results(root)
    assert copy == 1 or way == "rsync" or 0 < len(done) < 4
    assert fetched(f"gpu:{there}")[0] == {f"{LIGHT}/light": [f"fold{one}" for one in range(4) if one not in done]}
    assert look(counting(root)).checksums == look(counting(there)).checksums


def test_two_at_once(root: Path, there: Path) -> None:
    """The second one waits for the first, which removes what it has used."""
    on(there, "exp.fold=[0,1,2,3]")
    fetched(there)
    shutil.rmtree(root / "output" / LIGHT)
    [lock] = root.glob("output/.fetch/*.lock")
    with open(lock) as held, ThreadPoolExecutor() as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        both = [pool.submit(fetched, there) for _ in range(2)]
        time.sleep(0.5)
        assert not any(one.done() for one in both)
        fcntl.flock(held, fcntl.LOCK_UN)
        assert sorted(len(one.result()[0]) for one in both) == [0, 1]


def test_killed_while_files_come(root: Path, there: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command completes at once, beside what still runs of the killed one."""
    without_rsync(ssh, monkeypatch)
    on(there, "exp.fold=[0,1,2,3]")
    (ssh / "break").write_text("2")
    (ssh / "break.slow").touch()
    variables = {name: os.environ[name] for name in ("PATH", "BREAK", "PROJECT_ROOT")}
    options = {"cwd": root, "env": environment_of(expkit.code_root(), **variables)}
    process = background(sys.executable, *EXP, "fetch", f"gpu:{there}", **options)
    wait_for(lambda: list(root.glob("output/.fetch/*/folds/*/light/fold1/oof.npz")), process)
    process.kill()
    process.wait()
    for _ in range(20):
        fetched(f"gpu:{there}")
        assert look(counting(root)).checksums == look(counting(there)).checksums
        shutil.rmtree(root / "output" / LIGHT)


def test_what_an_interruption_has_left_is_of_no_other_training(
    root: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two interruptions, and a new training of the fold between them, whose weights have as many bytes."""
    bring, last = fetch.Source.bring, ""

    def breaks(self: fetch.Source, names: list[str], folder: Path) -> None:
        broken = [name for name in names if name.endswith(last)] if folder.name == "folds" else names
        bring(self, broken, folder)
        if broken != names:
            raise expkit.Error("the connection is gone")

    monkeypatch.setattr(fetch.Source, "bring", breaks)
    for content, ending in (("old", ".bin"), ("new", (".npz", ".json")), ("new", "")):
        if content != "new" or ending:
            shutil.rmtree(there / "output")
            on(there, "exp.fold=[0]", during=lambda fold, text=content: (fold.folder / "w.bin").write_text(text))
        last = ending
        with suppress(expkit.Error):
            fetched(there)
        assert [file.read_text() for file in root.glob(f"output/{LIGHT}/light/fold0/w.bin")] in ([], ["new"])
    assert results(root).keys() == {0}


def test_killed_at_any_moment(
    root: Path, there: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is here is lost, nothing half counts, and the same command completes."""
    on(root, "exp.fold=[0]")
    on(there, "exp.fold=[1,2]")
    on(there, "exp.train.x=2", "exp.fold=[0]")
    start = root.with_name("start")
    shutil.copytree(root / "output", start)

    def restore() -> None:
        shutil.rmtree(root / "output")
        shutil.copytree(start, root / "output")

    for moment in moments(request, lambda: fetched(there), restore):
        killed(moment, lambda: fetched(there))
        assert load(counting(root) / "fold0/result.json") == load(start / LIGHT / "light/fold0/result.json")
        for folder in store.run_folders(root / "output"):
            look(folder)
        fetched(there)
        assert sorted(results(root)) == [0, 1, 2] and sorted(results(root, "light,exp.train.x=2")) == [0]
        assert look(counting(root)).cv is not None and fetched(there)[0] == {}
        restore()
