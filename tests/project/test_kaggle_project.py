"""docs/kaggle.md, followed word by word against a stand-in for Kaggle, whose notebooks really run, without internet."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from conftest import EXP, ROOT, Project, call, clean_environment, own_copy
from documents import all_blocks, follow
from kaggle_server import TOKEN, Competition, Stand, serving
from sklearn.datasets import load_digits

pytestmark = pytest.mark.slow
NAME = "digit-recognizer"
IMAGE = ["numpy", "scikit-learn", "pyyaml", "rich", "pip"]  # of Kaggle's image, what the experiment or expkit imports


def table(header: list[str], rows: numpy.ndarray) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows.tolist()])
    return stream.getvalue().encode()


def competition() -> Competition:
    """Digits of 8 x 8 pixels, in the files of the competition of that name."""
    X, y = load_digits(return_X_y=True)
    X, pixels = (X * 255 / 16).astype(int), [f"pixel{number}" for number in range(64)]
    ids = numpy.arange(1, 398)
    files = {
        "train.csv": table(["label", *pixels], numpy.column_stack([y, X])[:1400]),
        "test.csv": table(pixels, X[1400:]),
        "sample_submission.csv": table(["ImageId", "Label"], numpy.column_stack([ids, 0 * ids])),
    }
    return Competition(files, {str(id): str(label) for id, label in zip(ids, y[1400:], strict=True)})


class Kaggle(Stand):
    """A stand-in that runs notebooks: in an environment of its own that has no expkit, no Hydra and no internet."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.python = folder, folder / "image/bin/python"
        call("uv", "venv", "-q", "--python", sys.executable, folder / "image", cwd=folder)
        call("uv", "pip", "install", "-q", "--python", self.python, *IMAGE, cwd=folder)

    def SaveKernel(self, asked: dict[str, str]) -> dict[str, object]:
        answer, [dataset] = super().SaveKernel(asked), asked["datasetDataSources"]
        root = self.folder / "kaggle"
        shutil.rmtree(root, ignore_errors=True)
        (root / "working").mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(self.datasets[dataset]["versions"][-1][0])) as archive:
            archive.extractall(root / "input" / dataset.partition("/")[2])  # as Kaggle unpacks what is uploaded
        for name, content in self.competitions[NAME].files.items():
            (root / "input" / NAME).mkdir(exist_ok=True)
            (root / "input" / NAME / name).write_bytes(content)
        [cell] = json.loads(asked["text"])["cells"]
        source = cell["source"].replace("/kaggle/", f"{root}/")
        nowhere = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}
        call(self.python, "-c", source, cwd=root / "working", env=clean_environment() | nowhere)
        self.outputs[asked["slug"]] = (root / "working/submission.csv").read_bytes()
        return answer


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[tuple[Kaggle, dict[str, str]]]:
    stand = Kaggle(tmp_path)
    stand.competitions[NAME] = competition()
    with serving(stand) as variables:
        yield stand, variables


@pytest.mark.timeout(900)
def test_the_page(project: Project, kaggle: tuple[Kaggle, dict[str, str]], tmp_path: Path) -> None:
    stand, variables = kaggle
    made = own_copy(project, tmp_path / "myproj")
    for file in made.folder.glob("experiments/001-baseline/exp/*.yaml"):
        file.write_text(file.read_text().replace("epochs: 40", "epochs: 5"))
    names = {f"GIT_{role}_{part}": "me@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    cache = call("uv", "cache", "dir", cwd=tmp_path).stdout.strip()
    environment = made.environment(WANDB_MODE="disabled", UV_CACHE_DIR=cache, **names, **variables)
    call("uv", "sync", "-q", "--extra", "kaggle", cwd=made.folder, env=environment)
    done = call(made.python, *EXP, "kaggle", "download", "no", cwd=made.folder, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "no competition no" in done.stderr
    printed = follow(all_blocks((ROOT / "docs/kaggle.md").read_text()), made.folder, environment)
    assert "can be sent to digit-recognizer: 5 are left today" in printed
    assert "version 1 of the notebook runs" in printed

    shown = call(made.python, *EXP, "board", "--json", "--all", cwd=made.folder, env=environment).stdout
    scores = {f"{run['experiment']}/{run['run']}": run["leaderboard"] for run in json.loads(shown)}
    one, two, both = "002-digits/001-larger-lr", "002-digits/002-larger-model", "blends/both"
    sent = [float(each["publicScore"]) for each in stand.submissions]
    assert scores == {both: sent[0], one: sent[1], two: sent[3]} and min(sent) > 0.8
    files = (made.folder / "output/submissions").glob("002-digits_002-larger-model_*.csv")
    assert [file.read_bytes() for file in files] == list(stand.outputs.values()), "as exp submit predicts here"

    places = [made.folder, stand.folder / "kaggle"]
    files = [file for place in places for file in place.rglob("*") if file.is_file() and ".venv" not in file.parts]
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()], "a credential"


WRITE = "from expkit.kaggle import write_submission as write; write({run!r}, {file!r})"


@pytest.mark.parametrize("kind", ["boosting", "network"])
def test_a_notebook_predicts_as_the_run_has(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """With the baseline of each framework; that of scikit-learn is on the page."""
    made: Project = request.getfixturevalue(kind)
    debug = ["exp.train.most_rounds=20"] if kind == "boosting" else ["exp.train.epochs=1"]
    made.train("exp.n_folds=2", "exp.fold=null", *debug, root=tmp_path, WANDB_MODE="disabled")
    [folder] = (tmp_path / "output/001-baseline").glob("[!.]*")
    run, file, here = f"001-baseline/{folder.name}", tmp_path / "own.csv", made.environment(PROJECT_ROOT=str(tmp_path))
    call(made.python, "-c", WRITE.format(run=run, file=str(file)), cwd=made.folder, env=here)
    call(made.python, *EXP, "submit", run, cwd=made.folder, env=here)
    [expected] = (tmp_path / "output/submissions").glob("*.csv")
    ours, theirs = ([line.split(",") for line in each.read_text().splitlines()] for each in (file, expected))
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    for (_, one), (_, other) in zip(ours[1:], theirs[1:], strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-6)


def test_git_ignores_credentials(project: Project, tmp_path: Path) -> None:
    made = own_copy(project, tmp_path / "myproj")
    for name in ("kaggle.json", "access_token", ".kaggle/kaggle.json", "experiments/kaggle.json"):
        (made.folder / name).parent.mkdir(exist_ok=True)
        (made.folder / name).touch()
    assert call("git", "status", "--porcelain", cwd=made.folder).stdout == ""
