"""`exp kaggle push` and `submit --kernel`, against a stand-in; the notebook itself runs in project/test_kaggle.py."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import exp, exp_json, refused
from kaggle_server import TOKEN, USER, Competition, Stand, failed, stand

import expkit
from expkit import kaggle

__all__ = ["stand"]  # a fixture
NAME = "baseline,exp.n_folds=2,exp.train.epochs=1"
PREDICT, ADD_WHEELS = kaggle._predict_here, kaggle._add_wheels  # as they are without the fixture below
TRAIN = ["exp.name=baseline", "exp.n_folds=2", "exp.fold=null", "exp.train.epochs=1"]


@pytest.fixture(autouse=True)
def run(stand: Stand, root: Path, monkeypatch: pytest.MonkeyPatch) -> expkit.Run:
    """A run of the baseline; the packages are one file, and nothing is predicted before the upload."""
    wheel = root / "expkit-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel" * 100_000)

    def add_wheels(folder: Path, more: Sequence[str]) -> None:
        folder.mkdir()
        shutil.copy(wheel, folder)
        for name in more:
            (folder / name).touch()

    monkeypatch.setattr(kaggle, "_add_wheels", add_wheels)
    monkeypatch.setattr(kaggle, "_predict_here", lambda run, whole: None)
    expkit.run("001-baseline", overrides=TRAIN)
    [run] = expkit.read_board()
    assert run.name == NAME
    ids = run.test(0)["id"]
    stand.competitions["digits"] = Competition({}, {str(id): "3" for id in ids})
    stand.outputs[kernel(run)] = b"id,y\n" + b"".join(f"{id},3\n".encode() for id in ids)
    return run


def kernel(run: expkit.Run) -> str:
    """What its notebook and its dataset are called at Kaggle."""
    return f"{USER}/{kaggle.bundle_folder(run).name}"


def push(run: expkit.Run, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = exp_json("kaggle", "push", run.title, "--competition", "digits", *arguments)
    return found


def submit(run: expkit.Run) -> str:
    return exp("kaggle", "submit", run.title, "--kernel", "--competition", "digits")


def sent(stand: Stand) -> zipfile.ZipFile:
    """The last version of the only dataset."""
    [dataset] = stand.datasets.values()
    [content] = dataset["versions"][-1]
    return zipfile.ZipFile(io.BytesIO(content))


def board() -> list[float | None]:
    return [one["leaderboard"] for one in exp_json("board", "--all")]


def test_a_notebook_and_its_score(stand: Stand, run: expkit.Run) -> None:
    printed = exp("kaggle", "push", run.title, "--competition", "digits")
    assert f"version 1 of the notebook runs: https://www.kaggle.com/code/{kernel(run)}" in printed
    about = stand.kernels[kernel(run)]["about"]
    assert about["isPrivate"] and about.get("enableInternet", False) is False and about.get("enableGpu", False) is False
    assert about["datasetDataSources"] == [kernel(run)] and about["competitionDataSources"] == ["digits"]
    assert stand.datasets[kernel(run)]["about"]["isPrivate"]
    names = sent(stand).namelist()
    of_run = [name for name in names if name.startswith("output/")]
    models = [f"output/{run.title}/fold{fold}/{file}" for fold in (0, 1) for file in ("model.joblib", "result.json")]
    assert of_run == [*models, f"output/{run.title}/run.json"], (
        "no predictions, and not on which machine it was trained"
    )
    assert "code/experiments/001-baseline/model.py" in names and "wheels/expkit-0.1.0-py3-none-any.whl" in names
    printed = submit(run)
    assert board() == [1.0] and "submission 1000 1.0, noted" in printed
    [submission] = stand.submissions
    assert submission["description"].endswith(f"[expkit {run.id} v1]")
    submit(run)
    assert len(stand.submissions) == 1, "nothing is sent twice"


def test_what_postprocess_is_fitted_on_is_there(stand: Stand, run: expkit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = SimpleNamespace(postprocess=len, inputs=[])
    monkeypatch.setattr(kaggle, "load_experiment", lambda name: SimpleNamespace(experiment=experiment))
    push(run)
    assert f"output/{run.title}/fold1/oof.npz" in sent(stand).namelist()


def test_the_same_again_is_not_uploaded_again(stand: Stand, run: expkit.Run) -> None:
    assert [push(run)["version"], push(run, "--gpu")["version"]] == [1, 2]
    assert len(stand.datasets[kernel(run)]["versions"]) == 1 and stand.kernels[kernel(run)]["about"]["enableGpu"]


def test_a_second_version_waits_for_the_first(stand: Stand, run: expkit.Run) -> None:
    push(run)
    stand.datasets[kernel(run)]["looks"] = 0  # Kaggle still works on it
    push(run, "--with", "timm")
    assert len(stand.datasets[kernel(run)]["versions"]) == 2 and "wheels/timm" in sent(stand).namelist()


def test_another_version_of_a_run_is_another_notebook(stand: Stand, run: expkit.Run) -> None:
    push(run)
    expkit.run("001-baseline", overrides=[*TRAIN, "overwrite=true"])
    [again] = expkit.read_board()
    assert "is not at Kaggle as a notebook: exp kaggle push" in refused(
        "kaggle", "submit", again.title, "--kernel", "--competition", "digits"
    )
    push(again)
    assert {*stand.kernels} == {kernel(run), kernel(again)} and kernel(run) != kernel(again)


@pytest.mark.parametrize(
    ("call", "answer", "said"),
    [
        ("CreateDataset", {"status": "error", "error": "too early"}, "does not take the dataset kim/001-baseline"),
        ("SaveKernel", {"error": "Maximum sessions"}, "does not take the notebook kim/001-baseline"),
        ("SaveKernel", {"versionNumber": 1, "invalidDatasetSources": ["kim/one"]}, "it has no kim/one"),
        ("SaveKernel", {"versionNumber": 1, "invalidCompetitionSources": ["digits"]}, "it has no digits"),
    ],
)
def test_what_the_client_takes_for_success(
    stand: Stand, run: expkit.Run, monkeypatch: pytest.MonkeyPatch, call: str, answer: Any, said: str
) -> None:
    """Its command line ends with 0."""
    with monkeypatch.context() as patched:
        patched.setattr(stand, call, lambda asked: answer)
        line = failed("kaggle", "push", run.title, "--competition", "digits")
    assert said in line and "the same command goes on" in line
    push(run)
    assert len(stand.datasets[kernel(run)]["versions"]) == 1


def test_a_version_too_early(stand: Stand, run: expkit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when Kaggle says that the first is ready, and then refuses the second."""
    push(run)
    with monkeypatch.context() as patched:
        early = {"status": "error", "error": "The previous version is still being processed"}
        patched.setattr(stand, "CreateDatasetVersion", lambda asked: early)
        assert "still being processed: nothing is lost" in failed(
            "kaggle", "push", run.title, "--competition", "digits", "--with", "timm"
        )
    push(run, "--with", "timm")
    assert len(stand.datasets[kernel(run)]["versions"]) == 2


def test_a_dataset_that_cannot_be_processed(stand: Stand, run: expkit.Run) -> None:
    stand.unprocessed = True
    line = failed("kaggle", "push", run.title, "--competition", "digits")
    assert f"could not process the dataset, failed: see https://www.kaggle.com/datasets/{kernel(run)}" in line
    assert not stand.kernels
    failed("kaggle", "push", run.title, "--competition", "digits")
    stand.unprocessed = False
    push(run)
    stand.unprocessed = True  # later
    failed("kaggle", "push", run.title, "--competition", "digits")
    assert len(stand.datasets[kernel(run)]["versions"]) == 3 and stand.kernels[kernel(run)]["version"] == 1


def test_an_upload_goes_on_where_it_stopped(stand: Stand, run: expkit.Run) -> None:
    stand.failures["PUT"] = ["cut"] * 1000
    line = failed("kaggle", "push", run.title, "--competition", "digits")
    assert "Upload unsuccessful: bundle.zip: nothing is lost, and the same command goes on" in line
    stand.failures["PUT"].clear()
    stand.calls.clear()
    push(run)
    asked, rest = [call["range"] for call in stand.called("PUT")]
    assert asked.startswith("bytes */") and rest.startswith("bytes ") and not rest.startswith("bytes 0-")
    assert sent(stand).testzip() is None and not stand.called("StartBlobUpload"), "of the same upload"


def test_an_upload_of_something_else_begins_again(stand: Stand, run: expkit.Run, root: Path) -> None:
    """Though it has the same name and size."""
    stand.failures["PUT"] = ["cut"] * 1000
    failed("kaggle", "push", run.title, "--competition", "digits")
    stand.failures["PUT"].clear()
    wheel = root / "expkit-0.1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes().swapcase())
    push(run)
    assert sent(stand).testzip() is None and sent(stand).read(f"wheels/{wheel.name}") == wheel.read_bytes()


def test_a_notebook_that_fails(stand: Stand, run: expkit.Run) -> None:
    push(run)
    stand.broken[kernel(run)] = "Your notebook was out of memory"
    line = failed("kaggle", "submit", run.title, "--kernel", "--competition", "digits")
    assert "has failed at Kaggle: Your notebook was out of memory" in line and "push again" in line
    assert not stand.submissions
    del stand.broken[kernel(run)]
    push(run)
    submit(run)
    assert board() == [1.0]


def test_an_account_that_may_not(stand: Stand, run: expkit.Run) -> None:
    push(run)
    stand.failures["CreateCodeSubmission"] = [(403, "Permission denied")]
    line = refused("kaggle", "submit", run.title, "--kernel", "--competition", "digits")
    assert "submit version 1 in the browser, at https://www.kaggle.com/code/kim/001-baseline" in line
    submit(run)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["GetDatasetStatus", "SaveKernel", "CreateDataset", "StartBlobUpload"])
@pytest.mark.parametrize("failure", [(500, "Internal error"), "cut"])
def test_a_server_that_fails(stand: Stand, run: expkit.Run, call: str, failure: Any) -> None:
    stand.failures[call] = [failure] * 11  # some calls are tried ten times
    assert "the same command goes on" in failed("kaggle", "push", run.title, "--competition", "digits")
    stand.failures.clear()
    push(run)
    assert sent(stand).testzip() is None


def test_what_is_no_bundle(stand: Stand, run: expkit.Run, root: Path) -> None:
    assert "is not at Kaggle as a notebook" in refused(
        "kaggle", "submit", run.title, "--kernel", "--competition", "digits"
    )
    expkit.run("001-baseline", overrides=[*TRAIN, "exp.name=other", "exp.seed=1"])
    exp("blend", run.title, "other", "--name", "both")
    line = refused("kaggle", "push", "both", "--competition", "digits")
    assert f"both is made of {run.title}, 001-baseline/other" in line
    [model] = (run.folder / "fold1").glob("model.*")
    model.with_name("model.txt").touch()
    line = refused("kaggle", "push", run.title, "--competition", "digits")
    assert "must have one file model.*, and has 2" in line
    assert not stand.datasets


def trained_from(run: expkit.Run) -> expkit.Run:
    expkit.run("001-baseline", overrides=[*TRAIN, "exp.name=longer", f"exp.start_from='{run.title}'"])
    [longer] = [each for each in expkit.read_board() if each.name.startswith("longer")]
    assert {parent.run for parent in longer.parents} == {run.title}
    return longer


def test_a_run_that_was_trained_from_another(stand: Stand, run: expkit.Run) -> None:
    """To predict, it needs its own models alone."""
    push(longer := trained_from(run))
    of_runs = [name for name in sent(stand).namelist() if name.startswith("output/")]
    assert of_runs and all(name.startswith(f"output/{longer.title}/") for name in of_runs)


def test_without_a_snapshot(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expkit.snapshot.take", lambda folder: None)
    expkit.run("001-baseline", overrides=[*TRAIN, "exp.name=bare"])
    assert "has no snapshot of its code" in refused("kaggle", "push", "bare", "--competition", "digits")


def test_no_secret_is_in_a_bundle(stand: Stand, run: expkit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that git has been told to keep."""
    check_out = kaggle.check_out

    def with_secrets(project: Path, commit: str, destination: Path) -> Path:
        folder = check_out(project, commit, destination)
        (folder / "kaggle.json").write_text(TOKEN)
        (folder / ".kaggle").mkdir()
        (folder / ".kaggle/access_token").write_text(TOKEN)
        (folder / "link").symlink_to("/etc/passwd")
        return folder

    monkeypatch.setattr(kaggle, "check_out", with_secrets)
    push(run)
    archive = sent(stand)
    assert not {"code/kaggle.json", "code/.kaggle/access_token", "code/link"} & set(archive.namelist())
    assert not any(TOKEN.encode() in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("name", ["002-A run, x=1", "a" * 80, "b-" * 40, "Ü"])
def test_a_name_as_kaggle_takes_it(run: expkit.Run, name: str) -> None:
    from dataclasses import replace

    slug = kaggle.bundle_folder(replace(run, experiment=name)).name
    assert 6 <= len(slug) <= 50 and slug.strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""
    assert slug == slug.strip("-") and "--" not in slug


@pytest.mark.slow
def test_what_cannot_predict_is_not_sent(stand: Stand, run: expkit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the code of the snapshot: here, one without a function that gives the test set, and one that reads a run."""
    check_out = kaggle.check_out

    monkeypatch.setattr(kaggle, "_predict_here", PREDICT)
    for new, why in (
        ("def load_other", "needs load_test()"),
        ("import expkit\nexpkit.load_run('002-other')\n\n\ndef load_data", "002-other"),
    ):

        def changed(project: Path, commit: str, destination: Path, new: str = new) -> Path:
            folder = check_out(project, commit, destination)
            model = folder / "experiments/001-baseline/model.py"
            model.write_text(model.read_text().replace("def load_data", new))
            return folder

        with monkeypatch.context() as patched:
            patched.setattr(kaggle, "check_out", changed)
            line = refused("kaggle", "push", run.title, "--competition", "digits")
        assert "with its snapshot's code and models alone: " in line and why in line, line
    assert not stand.datasets
    push(run)
    longer = trained_from(run)
    push(longer)

    def otherwise(project: Path, commit: str, destination: Path) -> Path:
        model = (folder := check_out(project, commit, destination)) / "experiments/001-baseline/model.py"
        text = model.read_text().replace("def predict(", "def forwards(")
        model.write_text(f"{text}\n\ndef predict(network, X):\n    return forwards(network, X[::-1])\n")
        return folder

    monkeypatch.setattr(kaggle, "check_out", otherwise)
    line = refused("kaggle", "push", longer.title, "--competition", "digits")
    assert f"with its own models alone: it needs {run.title}, as a stack does: push one of these" in line


def test_packages_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    (root / "uv").write_text("#!/bin/sh\necho 'ERROR: No matching distribution found for timm' >&2\nexit 1\n")
    (root / "uv").chmod(0o755)
    monkeypatch.setattr(kaggle, "code_root", lambda: root)
    monkeypatch.setenv("PATH", f"{root}:{os.environ['PATH']}")
    with pytest.raises(expkit.Error, match="vendor/ has no wheel of expkit .*, which runs: uv sync"):
        ADD_WHEELS(root / "wheels", ["timm"])
    (root / "vendor").mkdir()
    (root / "vendor" / f"expkit-{kaggle.installed_packages()['expkit']}-py3-none-any.whl").touch()
    with pytest.raises(expkit.Error, match="a package for Kaggle cannot be had: No matching distribution .* timm"):
        ADD_WHEELS(root / "wheels", ["timm"])
    (root / "uv").unlink()
    monkeypatch.setenv("PATH", str(root))
    with pytest.raises(expkit.Error, match="there is no command uv"):
        ADD_WHEELS(root / "wheels", ["timm"])
