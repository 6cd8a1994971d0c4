"""What lies under output/ may be damaged, old, edited or someone else's: it is shown with what is wrong, or not at all.

The runs of `sample` are copied and mutated; every reading command then answers, and shows no score that the predictions
do not give without a mark. Nothing that is read is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import own_experiment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from light import LIGHT
from typer.main import get_command

import expkit
from expkit import record
from expkit.cli import app
from expkit.combine.blend import blend
from expkit.errors import one_line
from expkit.inspect.board import Row

SECRET = "hunter2-of-the-environment"

ROWS = """
import expkit
import numpy

def accuracy(oof):
    return (oof["target"] == oof["prediction"]).mean()

def log_loss(oof):
    return -numpy.log(oof["probability"]).mean()

def train(exp, fold):
    for epoch in (1, 2, 3):
        fold.log({"epoch": epoch, "loss": 1 / epoch, "note": None})
    if fold.number is None:
        fold.save_submission({"id": [1, 2], "prediction": [0.5, 0.5]})
    else:
        chance = numpy.random.default_rng(exp.seed + fold.number)
        ids = [f"{fold.number}_{row:02d}" for row in range(9)]
        target = ["01" if number < 0.5 else "1" for number in chance.random(9)]
        fold.save_oof({"id": ids, "target": target, "prediction": ["01"] * 9, "probability": chance.random((9, 2))})
        fold.save_test({"id": [1, 2], "prediction": [0.5, chance.random()]})
    fold.finish(best_epoch=2, note="fine")

experiment = expkit.Experiment(train, expkit.Config, metric=accuracy, other_metrics=[log_loss], own_split=True)
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PROJECT_ROOT with finished runs of two experiments, and a blend."""
    root = tmp_path_factory.mktemp("sample")
    (root / "input").mkdir()
    (root / "input/train.csv").write_text("1\n")
    with own_experiment({"train.py": ROWS}) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("SECRET", SECRET)
        patch.setenv("PROJECT_ROOT", str(root))
        for overrides in (["exp.n_folds=3"], ["exp.n_folds=3", "exp.mode=sub"], ["exp.n_folds=3", "exp.seed=1"]):
            expkit.run(folder.name, overrides=overrides)
        for overrides in (["exp.fold=[0,1]"], ["exp.train.x=3"], ["exp.train.x=2"]):
            expkit.run(LIGHT, overrides=overrides)
        blend([record.read_run(root / f"output/{LIGHT}/light,exp.train.x={x}") for x in (2, 3)], "hill", "both")
        yield root


def copied(sample: Path, root: Path) -> None:
    """The runs of `sample` under another root; their files are links, so write none in place."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(sample, root, copy_function=os.link)


# What every reading command promises

TRUTH: dict[str, Callable[[dict[str, Any]], float]] = {
    "accuracy": lambda oof: float((oof["target"] == oof["prediction"]).mean()),
    "quality": lambda oof: float(oof["prediction"].mean()),
}


COMMAND = get_command(app)


def printed(*arguments: str) -> str:
    """What a command prints; an error of its user's is one line."""
    stream = io.StringIO()
    try:
        with contextlib.redirect_stdout(stream):
            COMMAND.main(list(arguments), prog_name="exp", standalone_mode=False)
    except expkit.Error as error:
        return str(one_line(error))
    stream.getvalue().encode()  # a terminal takes UTF-8
    assert SECRET not in stream.getvalue(), "a resolver has been executed"
    return stream.getvalue()


def strictly(text: str) -> Any:
    """JSON as other programs read it: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def read_everything(is_forged: bool = False, known: Sequence[Row] = ()) -> None:
    """Let every command read what is there.

    Args:
        known: rows of runs that nothing has happened to, which are not shown one by one.
        is_forged: somebody has written other scores and sealed them: nobody can see that without the metric.
    """
    rows = expkit.read_board()
    for row in rows:
        run = expkit.LoadedRun(row.folder)
        marked = bool(row.marks)
        if row.score is not None and not marked and not is_forged:
            assert row.score == TRUTH[str(row.metric)](run.oof), row
            assert row.rows == len(run.oof["id"]), row
        for read in (
            lambda run=run: run.config.exp.name,
            lambda run=run: run.oof,
            lambda run=run: [run.test(fold) for fold in run.folds],
            lambda run=run: [run.history(fold) for fold in (*run.folds, None)],
            lambda run=run: [run.result(fold) for fold in (*run.folds, None)],
        ):
            try:
                read()
            except (expkit.Error, AttributeError) as error:  # AttributeError: the configuration has no such key
                assert isinstance(error, expkit.Error) or str(error) in ("exp", "name"), error
    found = strictly(printed("board", "--json"))
    assert len(found) == len(rows)
    tables = [printed("board"), printed("board", "--seeds", "--sort", "exp.seed"), printed("board", "--md")]
    tables += [printed("board", "--csv"), printed("board", "--json")]
    printed("board", "--filter", "score>0.5", "--sort=-finished")
    known_values = [row.values() for row in known]
    others = [row for row in rows if row.values() not in known_values]
    commands = [["show", str(row.folder)] for row in others]
    if others:
        commands.append(["diff", str(others[0].folder), str(rows[-1].folder)])
    for command in commands:
        tables += [printed(*command), text := printed(*command, "--json")]
        strictly(text)
    for text in tables:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), "this controls the terminal"


# Mutations

ODD: list[Any] = [None, True, False, -1, 0, 1, 0.5, 10**39, 10**400, float("nan"), float("inf"), -1e308, 1.79e308]
ODD += ["", "x" * 5000, "\x1b]52;c;aGk=\x07[red]\x9b2J\u202e", "[bold", "[/]", "${oc.env:SECRET}", "--output=pwned"]
ODD += ["\ud800", "nan", "0" * 40, "../../x", "a\nb", "2026-99-99T", [], {}, [[]], [1, "a", None], {"": {"a.b": 1}}]
ODD += [{"commit": "HEAD", "dirty": False, "snapshot": "--output=pwned"}, {"exp": {"name": "[red]", "seed": "\x1b[2J"}}]
ODD += [{"accuracy": 0.99}, {"a": [1e999, {"b": [float("nan")]}]}, {"x\x1b[2J[red]": 0.5, "y" * 3000: 1}]
DEEP = {"deep300": 300, "deep900": 900, "deep100000": 100_000}
ODD += list(DEEP)

BYTES = [
    b"",
    b"\0",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"\x80\x04N.",
    b"PK\x03\x04",
    b"epoch\n\xff,\n",
    b'"' * 99,
]


def places(content: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in a JSON document."""
    yield here
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from places(value, (*here, key))


def edited(text: str, place: int, value: Any, what: int, reseal: bool) -> bytes:
    """A JSON file with one value replaced, removed or added, as an editor, or someone who knows the seal, leaves it."""
    content = json.loads(text)
    if reseal:
        content.pop("checksum", None)
    found = list(places(content))
    path = found[place % len(found)]
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if not path:
        content = value
    elif what == 0 and isinstance(inner, dict):
        del inner[path[-1]]
    elif what == 1 and isinstance(inner, dict):
        inner[str(value)] = value
    else:
        inner[path[-1]] = value
    written = json.dumps(content, indent=2)
    for name, depth in DEEP.items():
        written = written.replace(f'"{name}"', "[" * depth + "]" * depth)
    if reseal and written.endswith("\n}"):
        checksum = hashlib.blake2b(written.encode(), digest_size=16).hexdigest()
        written = f'{written[:-2]},\n  "checksum": "{checksum}"\n}}\n'
    return written.encode()


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


NAMES = ["{}.bak", "fold7", "fold007", "fold1 copy", "full", "{}@2", "{}@1", "{}@99", ".{}", "a\x1b[2J[red]", "x\udcff"]
POINTERS = ["2", "1", "0", "-1", "９", "9" * 5000, "\xff", "", "2\n3", "two"]


def mutate(output: Path, kind: str, one: int, other: int, which: int, flag: bool) -> bool:
    """Damage what is there; whether it is a forgery that nobody can see."""
    everything = sorted(path for path in output.rglob("*") if not path.is_symlink())
    files = [path for path in everything if path.is_file()]
    folders = [path for path in everything if path.is_dir()]
    if not files or not folders:
        return False
    file, folder = files[one % len(files)], folders[one % len(folders)]
    path, second = everything[one % len(everything)], everything[other % len(everything)]
    content = file.read_bytes() if kind in ("cut", "flip", "grow") else b""
    if kind == "cut":
        replace(file, content[: other % (len(content) + 1)])
    elif kind == "grow":
        replace(file, content + BYTES[which % len(BYTES)])
    elif kind == "garbage":
        replace(file, BYTES[which % len(BYTES)])
    elif kind == "flip" and content:
        place = other % len(content)
        replace(file, content[:place] + bytes([content[place] ^ (1 + which % 255)]) + content[place + 1 :])
    elif kind == "edit":
        documents = [name for name in files if name.suffix == ".json" and name.read_bytes().startswith(b"{")]
        if documents:
            document = documents[one % len(documents)]
            try:
                replace(document, edited(document.read_text(), other, ODD[which % len(ODD)], which % 5, flag))
            except (ValueError, RecursionError):  # damaged before
                return False
            return flag
    elif kind == "other file":  # of the same name, from another fold or run
        alike = [name for name in files if name.name == file.name]
        shutil.copy2(alike[other % len(alike)], output / "copy")
        os.replace(output / "copy", file)
    elif kind == "swap" and file != files[other % len(files)]:
        os.rename(file, output / "copy")
        os.rename(files[other % len(files)], file)
        os.rename(output / "copy", files[other % len(files)])
    elif kind == "gone":
        remove(path)
    elif kind == "folder":
        replace(file, b"")
        file.unlink()
        file.mkdir()
    elif kind == "link":
        targets = [second, output / "nowhere", path, Path("/dev/null"), output]
        target = targets[which % len(targets)]
        if not target.is_relative_to(path) or target == path:
            remove(path)
            path.symlink_to(target, target_is_directory=flag)
    elif kind == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif kind == "file for folder":
        shutil.rmtree(folder)
        folder.write_bytes(BYTES[which % len(BYTES)])
    elif kind == "copy":
        target = folder.with_name(NAMES[which % len(NAMES)].format(folder.name))
        if not target.exists():
            shutil.copytree(folder, target, symlinks=True)
    elif kind == "moved and linked":
        elsewhere = output.parent / f"elsewhere{len(list(output.parent.iterdir()))}"
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
    elif kind == "pointer":
        runs = [path for path in folders if path.parent.parent == output and not path.name.startswith(".")]
        if runs:
            run = runs[other % len(runs)]
            text = POINTERS[which % len(POINTERS)]
            (run.parent / f".{run.name}.version").write_text(text, encoding="latin-1", errors="replace")
    return False


KINDS = [
    "cut",
    "grow",
    "garbage",
    "flip",
    "edit",
    "edit",
    "edit",
    "other file",
    "swap",
    "gone",
    "folder",
    "link",
    "pipe",
]
KINDS += ["file for folder", "copy", "moved and linked", "pointer"]
BIG = st.integers(0, 2**32)
MUTATION = st.tuples(st.sampled_from(KINDS), BIG, BIG, BIG, st.booleans())


@pytest.mark.parametrize("share", [0.1, pytest.param(1, marks=pytest.mark.slow)], ids=["few", "many"])
def test_damaged_and_foreign_results(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, share: float
) -> None:
    """Whatever has happened to the files: no traceback, strict JSON, and no wrong number without a mark."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROJECT_ROOT", str(tmp_path / "root"))
    known = expkit.read_board(sample / "output")

    examples = max(1, int(share * request.config.getoption("--examples")))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(MUTATION, min_size=1, max_size=2))
    def check(mutations: list[tuple[str, int, int, int, bool]]) -> None:
        for name in list(tmp_path.iterdir()):
            remove(name)
        copied(sample, tmp_path / "root")
        is_forged = False
        for mutation in mutations:
            is_forged |= mutate(tmp_path / "root/output", *mutation)
        read_everything(is_forged, known)
        assert not list(tmp_path.rglob("pwned*")), "git has written a file"

    check()


# What is planted is not executed


def reseal(file: Path, **changes: Any) -> None:
    """Edit a file of ours as someone does who knows the seal."""
    content = {key: value for key, value in json.loads(file.read_text()).items() if key != "checksum"} | changes
    text = json.dumps(content, indent=2)
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    replace(file, f'{text[:-2]},\n  "checksum": "{checksum}"\n}}\n'.encode())


@pytest.fixture
def run_of(sample: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that a test may damage."""
    copied(sample, root)
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(root)
    return root / f"output/{LIGHT}/light,exp.train.x=3"


class Trap:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("pwned"),)


def test_a_planted_pickle_is_not_loaded(run_of: Path, root: Path) -> None:
    pickled = pickle.dumps(Trap())
    for plant in (
        lambda file: file.write_bytes(pickled),
        lambda file: np.savez(file.open("wb"), id=np.array([Trap()], dtype=object)),
        lambda file: zipfile.ZipFile(file, "w").writestr("id.npy", pickled),
    ):
        for name in ("oof.npz", "test.npz", "history.csv", "origin.json", "result.json"):
            file = run_of / "fold1" / name
            file.unlink(missing_ok=True)
            plant(file)
            if name in ("oof.npz", "history.csv", "origin.json"):  # and its hash is in the result
                about = file.stat()
                result = run_of / "fold1/result.json"
                shutil.copy2(run_of / "fold0/result.json", run_of / "copy")
                os.replace(run_of / "copy", result)
                listed = json.loads(result.read_text())["files"]
                reseal(result, fold=1, files=listed | {name: [about.st_size, about.st_mtime_ns, None]})
            read_everything(is_forged=True)
            with pytest.raises((expkit.Error, ValueError)):
                expkit.load_run("light,exp.train.x=3").model(1)
    assert not (root / "pwned").exists()


def test_a_resolver_in_a_configuration_is_text(run_of: Path) -> None:
    reseal(run_of / "run.json", config={"exp": {"name": "${oc.env:SECRET}", "x": "${oc.decode:SECRET}"}})
    (run_of / "config.yaml").unlink()
    (run_of / "config.yaml").write_text(
        "exp: !!python/object/apply:os.system ['touch pwned']\nname: ${oc.env:SECRET}\n"
    )
    read_everything(is_forged=True)
    assert "${oc.env:SECRET}" in printed("show", str(run_of))
    assert expkit.load_run(run_of).config.exp.name == "${oc.env:SECRET}"
    assert not (run_of.parents[2] / "pwned").exists()


@pytest.mark.parametrize("snapshot", ["--output=pwned", "HEAD", "-O/etc/passwd", "a" * 39 + "\n", "", None, ["x"]])
def test_a_snapshot_is_a_hash(run_of: Path, root: Path, snapshot: Any) -> None:
    """Whatever else stands there never reaches git."""
    git = {"commit": "0" * 40, "dirty": False, "snapshot": snapshot}
    for fold in range(5):
        reseal(run_of / f"fold{fold}/result.json", git=git)
    assert "broken fold0/result.json" in printed("board", "--json")
    printed("diff", "light,exp.train.x=3", "light,exp.n_folds=3,exp.seed=1")
    with pytest.raises(expkit.Error, match="has no finished fold"):
        expkit.reproduce(run_of)
    assert not list(root.rglob("pwned*"))


def test_reproduce_starts_only_what_is_an_experiment_and_a_python(run_of: Path) -> None:
    for fold in range(5):
        file = run_of / f"fold{fold}/origin.json"
        reseal(file, python="3.12 --with evil")
        about = file.stat()
        result = run_of / f"fold{fold}/result.json"
        listed = json.loads(result.read_text())["files"]
        reseal(result, files=listed | {"origin.json": [about.st_size, about.st_mtime_ns, None]})
    with pytest.raises(expkit.Error, match="its version of Python is not recorded"):
        expkit.reproduce(run_of)


DEEP_DICT = '{"a":' * 99_999 + "1" + "}" * 99_999


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "[" * 900 + "]" * 900, DEEP_DICT], ids=lambda v: v[:9])
def test_a_value_that_is_no_json_or_endless(run_of: Path, value: str) -> None:
    """Also where the seal is right."""
    reseal(run_of / "run.json", config={"exp": {"x": "HERE"}})
    text = (run_of / "run.json").read_text().partition(',\n  "checksum"')[0].replace('"HERE"', value) + "\n}"
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    replace(run_of / "run.json", f'{text[:-2]},\n  "checksum": "{checksum}"\n}}\n'.encode())
    read_everything(is_forged=True)
    printed("diff", str(run_of), str(run_of))
    [row] = [row for row in expkit.read_board() if row.folder == run_of]
    assert row.score is None and "broken run.json" in row.marks[0]
