"""A run as a Kaggle notebook without internet: its models, its code, and the packages that Kaggle's image lacks.

    output/submissions/kaggle/<name>/dataset/     bundle.zip and its metadata: a private dataset
    output/submissions/kaggle/<name>/notebook/    what installs it, predicts the test set, and writes submission.csv

In bundle.zip: `code/`, the project as in the run's snapshot; `output/`, the run with its models alone; `wheels/`; and
bundle.json. The notebook unpacks it, and `write_submission` does there what `exp submit` would do here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from expkit import code, store
from expkit.config import load_experiment
from expkit.errors import Error, require
from expkit.files import file_hash, make_folder, remove, write_json, write_text
from expkit.frames import load_run
from expkit.project import ROOT, code_root, display_path, input_dir, installed_packages, output_dir
from expkit.snapshot import check_out, is_secret
from expkit.store import Run
from expkit.submission import alone, as_submission, fit_rows
from expkit.tables import columns, write_csv

# What a prediction with expkit imports, and Kaggle's image may lack; what it has is not installed again. The first has
# no wheel: one is built.
NEEDS = "antlr4-python3-runtime annotated-types hydra-core msgspec omegaconf packaging python-dotenv".split()
PYTHONS = ("3.11", "3.12", "3.13")  # one of them is that of Kaggle's image
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
FOLDER, DATASET, NOTEBOOK = "kaggle", "dataset", "notebook"


def make(run: Run, competition: str, owner: str, more: Sequence[str], gpu: bool) -> Path:
    """Write the dataset and the notebook of a run, and predict the test set that is here with what they hold.

    The same run gives the same bytes, so that an upload can go on.

    Args:
        owner: the user's name at Kaggle.
        more: other packages that the experiment imports and Kaggle's image lacks, such as "timm==1.0.9".
        gpu: let the notebook have one.

    Returns:
        the folder of both.

    Raises:
        Error: the run has no models of its own, or no snapshot; a package cannot be had; it does not predict.
    """
    others = ", ".join(parent.run for parent in run.parents)
    require(not others, f"{run.title} is made of {others}: a bundle has the models of one run, so push one of these")
    require(run.git is not None, f"{run.title} has no snapshot of its code: train it in a git repository")
    folder = folder_of(run, competition)
    for part in (DATASET, NOTEBOOK):
        make_folder(folder / part)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch)
        _lay_out(run, whole)
        _add_wheels(whole / "wheels", more)
        files = {file.relative_to(whole).as_posix(): file for file in whole.rglob("*") if file.is_file()}
        hashes = sorted((name, file_hash(file)) for name, file in files.items())
        content = hashlib.sha256(repr(hashes).encode()).hexdigest()[:16]
        _predict_here(run, whole)
        write_json(whole / "bundle.json", {"run": run.title, "id": run.id, "content": content})
        _zip(folder / DATASET / "bundle.zip", files | {"bundle.json": whole / "bundle.json"}, content)
    named: dict[str, Any] = {"id": f"{owner}/{folder.name}", "title": folder.name}
    write_text(folder / DATASET / "dataset-metadata.json", json.dumps(named | {"licenses": [{"name": "CC0-1.0"}]}))
    metadata = named | {"code_file": "notebook.ipynb", "language": "python", "kernel_type": "notebook"}
    metadata |= {"is_private": True, "enable_gpu": gpu, "enable_internet": False}
    metadata |= {"dataset_sources": [named["id"]], "competition_sources": [competition]}
    write_text(folder / NOTEBOOK / "kernel-metadata.json", json.dumps(metadata))
    names = [f"expkit=={installed_packages()['expkit']}", *NEEDS, *more]
    known = {"title": run.title, "competition": competition, "owner": owner, "slug": folder.name}
    script = Path(__file__).with_name("notebook.txt").read_text(encoding="utf-8")
    script = script.format(content=content, names=names, **known)
    cell: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": [cell | {"source": script}], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
    write_text(folder / NOTEBOOK / "notebook.ipynb", json.dumps(notebook, indent=1))
    return folder


def folder_of(run: Run, competition: str) -> Path:
    """Where a bundle lies. Its name is that at Kaggle: at most 50 small letters, digits and hyphens."""
    name = f"{competition}-{run.experiment}-{run.name}".lower()
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    if len(slug) > 50:
        slug = f"{slug[:43].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return output_dir() / store.SUBMISSIONS / FOLDER / slug


def _lay_out(run: Run, whole: Path) -> None:
    """Write the code and the run that a bundle holds; large files are links."""
    assert run.git is not None and run.info is not None
    check_out(code_root(), run.git["snapshot"], Path(tempfile.mkdtemp(dir=whole))).rename(whole / "code")
    remove(whole / "code/vendor")  # the wheel is that of today
    for file in list((whole / "code").rglob("*")):
        if file.is_symlink() or (file.is_file() and is_secret(file.relative_to(whole / "code").as_posix())):
            file.unlink()
    here = whole / "output" / run.experiment / run.name
    make_folder(here)
    write_json(here / store.RUN, run.info)
    is_fitted = load_experiment(run.experiment).experiment.postprocess is not None
    for number, fold in run.done.items():
        models = sorted(fold.folder.glob("model.*"))
        require(len(models) == 1, f"{display_path(fold.folder)} must have one file model.*, and has {len(models)}")
        make_folder(here / fold.folder.name)
        kept = [models[0].name, *([store.OOF] if is_fitted else [])]
        for name in kept:
            (here / fold.folder.name / name).symlink_to((fold.folder / name).resolve())
        listed = {name: about for name, about in run.results[number]["files"].items() if name in kept}
        write_json(here / fold.folder.name / store.RESULT, {**run.results[number], "files": listed})
    require(bool(run.done), f"{run.title} has no finished fold, and so no models")


def _add_wheels(folder: Path, more: Sequence[str]) -> None:
    """The expkit that runs, and the packages, as wheels for Kaggle's Python."""
    own = installed_packages()
    ours = sorted((code_root() / "vendor").glob(f"expkit-{own['expkit']}-*.whl"))
    require(bool(ours), f"vendor/ has no wheel of expkit {own['expkit']}, which runs: uv sync")
    make_folder(folder)
    shutil.copy(ours[0], folder)
    without_wheel, *others = [f"{name}=={own[name]}" for name in NEEDS]
    _pip("wheel", without_wheel, f"--wheel-dir={folder}")
    wanted = [f"--platform={name}" for name in PLATFORMS] + ["--only-binary=:all:", "--implementation=cp"]
    for python in PYTHONS:
        _pip("download", *others, *more, *wanted, f"--python-version={python}", f"--dest={folder}")


def _pip(what: str, *arguments: str) -> None:
    """Run a command of pip, which uv brings, with its cache."""
    require(shutil.which("uv") is not None, "there is no command uv, which downloads packages for Kaggle")
    command = ["uv", "tool", "run", "pip", what, "--no-deps", *arguments]
    made = {"SOURCE_DATE_EPOCH": "315532800"}  # 1980: a wheel that is built has the same bytes each time
    done = subprocess.run(command, env=os.environ | made, capture_output=True, text=True, errors="replace")
    if done.returncode:
        why = (re.findall(r"^ERROR: (.*)", done.stderr, re.MULTILINE) or [f"pip ends with {done.returncode}"])[-1]
        raise Error(f"a package for Kaggle cannot be had: {why}")


def _zip(file: Path, files: dict[str, Path], content: str) -> None:
    """Write a zip. Its time follows from a hash of what is in it: an upload goes on with a file of the same time."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, path in sorted(files.items()):
            with open(path, "rb") as source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)
    os.utime(file, (int(content[:7], 16),) * 2)


def _predict_here(run: Run, whole: Path) -> None:
    """Let another process predict the test set that is here, with the code and the models of a bundle."""
    (whole / "input").symlink_to(input_dir())
    source = f"from expkit.bundle import write_submission; write_submission({run.title!r}, 'submission.csv')"
    here = {ROOT: str(whole / "code"), "PROJECT_ROOT": str(whole), "PYTHONPATH": str(whole / "code/src")}
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=whole, env=os.environ | here, capture_output=True, text=True, errors="replace")
    if done.returncode:
        why = (done.stderr.strip() or "it is killed").splitlines()[-1]
        raise Error(f"{run.title} cannot predict the test set that is here, with its snapshot's code: {why}")


def write_submission(run: str, file: str | Path) -> None:
    """Predict the test set with the models of a run, and write a submission as `exp submit` would.

    The rows are what `load_test()` in the experiment's model.py returns, the ids (n,) and X; without it, `test_id` and
    `test_X` of what `load_data()` returns.

    Raises:
        Error: as of `LoadedRun.predict`; there are no such functions; the rows do not fit the sample.
    """
    found = load_run(run)
    own = code.load_module(found.experiment, "model")
    if hasattr(own, "load_test"):
        ids, X = own.load_test()
    else:
        data: Any = own.load_data() if hasattr(own, "load_data") else None
        require(hasattr(data, "test_X"), f"{own.__file__} needs load_test(): it returns ids and X of the test set")
        ids, X = data.test_id, data.test_X
    experiment, what = load_experiment(found.experiment).experiment, "the submission"
    mean = alone(columns({"id": ids, **found.predict(X)}, run), run)
    table, _, _ = as_submission(mean, experiment, what, partial(fit_rows, [found]))
    with open(file, "w", encoding="utf-8", newline="") as stream:
        write_csv(stream, table)
    print(f"{file}: {len(ids)} rows")
