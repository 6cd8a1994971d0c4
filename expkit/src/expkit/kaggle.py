"""Kaggle, through the Python API of its official package: what that answers, as one line, and what there is to do.

    input/<competition>/                the files of a competition
    input/<competition>/.download.json  what came, with sizes and hashes; hidden, so that it is no data of a run
    input/<competition>/.download/      a download that is under way; the same command goes on with it
    output/submissions/kaggle/<name>/   a run as a notebook without internet
        dataset/                        bundle.zip and its metadata: a private dataset
        notebook/                       what installs it, predicts the test set, and writes submission.csv

A submission is signed with the id of its run, at the end of its description: so a score finds its run again, and
nothing is sent twice. Credentials are read by the official package alone, where it looks for them.

In bundle.zip: `code/`, the project as in the run's snapshot; `output/`, the run with its models alone; and `wheels/`,
the packages that Kaggle's image lacks. The notebook unpacks it, and `write_submission` does there what `exp submit`
would do here.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from functools import partial
from itertools import combinations, count
from pathlib import Path
from typing import Any

from expkit import code, store
from expkit.board import entries, read_board
from expkit.config import load_experiment
from expkit.data import input_files
from expkit.errors import Error, Failed, require, warn
from expkit.files import file_hash, make_folder, read_if_whole, remove, write_json, write_text
from expkit.frames import load_run
from expkit.notes import KAGGLE, add_note, context_of, read_notes, scored_twice
from expkit.project import ROOT, code_root, display_path, input_dir, installed_packages, output_dir
from expkit.snapshot import check_out, is_secret
from expkit.store import Run
from expkit.submission import alone, as_submission, choose, fit_rows, mean_of
from expkit.tables import columns, read_csv, write_csv

SITE = "https://www.kaggle.com"
RECORD, UNDER_WAY = ".download.json", ".download"
CREDENTIALS = f"make a token at {SITE}/settings/api, and set KAGGLE_API_TOKEN or write it to ~/.kaggle/access_token"
GO_ON = "nothing is lost, and the same command goes on"


def connect() -> Any:
    """The client of the official package, a `KaggleApi`, with credentials that Kaggle takes.

    Raises:
        Error: the package is not installed, or there are no valid credentials.
        Failed: Kaggle does not answer.
    """
    try:
        with redirect_stdout(io.StringIO()):  # on import, it looks for credentials, and prints where it has looked
            from kaggle.api.kaggle_api_extended import KaggleApi
        api = KaggleApi()
        ask(api.authenticate)
    except ImportError as error:
        raise Error(f"exp kaggle needs Kaggle's own package: uv sync --extra kaggle ({error})") from None
    except SystemExit:
        raise Error(f"there are no Kaggle credentials, or they are no longer valid: {CREDENTIALS}") from None
    return api


def ask(call: Callable[[], Any], competition: str = "", refused: str = "", may_lack: bool = False) -> Any:
    """The answer of the client, or one line for whatever goes wrong; what it prints is left out.

    Args:
        competition: what the call is about; "": none.
        refused: what a 403 means; "": a gate of the competition, or of the account, is closed.
        may_lack: the answer is None where there is no such thing.

    Raises:
        Error: a person has to do something first.
        Failed: Kaggle, or the way to it, fails.
    """
    import requests
    from urllib3.exceptions import HTTPError as Broken

    try:
        with redirect_stdout(io.StringIO()):
            return call()
    except requests.HTTPError as error:
        response: Any = error.response
        status, said = response.status_code, re.sub(r" for url: .*", "", str(error))
        if may_lack and status in (403, 404):
            return None
        if status == 401:
            raise Error(f"Kaggle does not take these credentials ({said}): {CREDENTIALS}") from None
        if status == 403 and response.request.method == "POST":  # no file with an old address
            rules = f"accept the rules at {SITE}/competitions/{competition}/rules, and " * bool(competition)
            gates = f"{rules}verify your phone at {SITE}/settings/account"  # it does not say which one is closed
            raise Error(refused or f"Kaggle refuses {competition or 'this'} ({said}): {gates}") from None
        if status == 404 and competition:
            what = f"Kaggle has no competition {competition}, or it is closed"
            raise Error(f"{what} ({said}): its name is the end of its address, {SITE}/competitions/NAME") from None
        raise Failed(f"Kaggle answers {said or status}: try again in some minutes; {GO_ON}") from None
    except (requests.RequestException, ConnectionError, Broken) as error:
        raise Failed(f"the connection to Kaggle failed ({type(error).__name__}): {GO_ON}") from None
    except ValueError as error:
        raise Failed(f"Kaggle's package: {' '.join(str(error).split())}: {GO_ON}") from None


# Data


def download(competition: str) -> dict[str, Any]:
    """Bring the files of a competition into `input/<competition>/`, unless they are there.

    Returns:
        the record: "competition", "downloaded" (when), "files" (name to bytes and hash).

    Raises:
        Error: as of `connect`, `ask`; a file there is another one. Nothing is unpacked.
        Failed: it has begun, and stopped; the next call goes on.
    """
    is_name = re.fullmatch(r"\w[\w-]*", competition)
    require(bool(is_name), f"{competition!r} is no name of a competition: it is the end of its address on {SITE}")
    folder = input_dir() / competition
    record = read_if_whole(folder / RECORD)
    if record and all((folder / name).is_file() for name in record["files"]):
        return record
    api, scratch = connect(), folder / UNDER_WAY
    make_folder(scratch)
    ask(partial(api.competition_download_files, competition, str(scratch), quiet=not sys.stderr.isatty()), competition)
    [archive] = [file for file in scratch.iterdir() if file.is_file() and file.suffix != ".kaggle-partial"]
    beside = scratch / "files"
    remove(beside)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(beside)  # nothing leaves this folder, whatever it is called; a link becomes a file
    except (zipfile.BadZipFile, zlib.error) as error:
        remove(archive)
        raise Failed(f"{display_path(archive)} was damaged ({error}), and is removed: download it again") from None
    files = {file.relative_to(beside).as_posix(): file for file in sorted(beside.rglob("*")) if file.is_file()}
    found = {name: [file.stat().st_size, file_hash(file)] for name, file in files.items()}
    for name, (_, digest) in found.items():
        file = folder / name
        is_free = not os.path.lexists(file) or (file.is_file() and file_hash(file) == digest)
        require(is_free, f"{display_path(file)} is not as Kaggle has it: move it away; nothing is replaced")
    for name, file in files.items():
        make_folder((folder / name).parent)
        os.replace(file, folder / name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"competition": competition, "downloaded": now, "files": found}
    write_json(folder / RECORD, record)
    remove(scratch)
    return record


# Submissions

SIGNED = re.compile(r"\[expkit ([0-9a-f]{8}(?:\+[0-9a-f]{8})*) (\w+)\]")
PAGE, LONGEST = 200, 400  # submissions of one answer; characters of a description, before the signature
PAUSE = 10.0  # seconds between two looks at what Kaggle works on
Tell = Callable[[str], object]  # is given a line of progress


def competition_of(experiment: str | None = None) -> str:
    """The competition whose data, as `download` has brought them, an experiment reads.

    Args:
        experiment: None: any.

    Raises:
        Error: there is none, or more than one.
    """
    found = sorted(file.parent.name for file in input_dir().glob(f"*/{RECORD}"))
    if experiment is not None:
        read = {name.partition("/")[0] for name in input_files(load_experiment(experiment).experiment.inputs)}
        found = [name for name in found if name in read]
    where = f"the data of {experiment}" if experiment else "input/"
    what = f"{' and '.join(found)} have" if found else "no competition has"
    require(len(found) == 1, f"{what} come into {where} by exp kaggle download: give --competition NAME")
    return found[0]


def made_before(file: Path) -> dict[str, Any]:
    """A submission that `exp submit` has made, with a warning if there was no sample to hold it against.

    Returns:
        "what" and "mark", which tell it from others, for a person and in its signature; "runs", dicts with "run", "id",
        "metric" and "score"; "file".

    Raises:
        Error: there is none, or it has been edited since.
    """
    about, what = read_if_whole(file.with_suffix(".json")), display_path(file)
    is_whole = about and file.is_file() and file_hash(file) == about["sha256"]
    require(bool(is_whole), f"{what} is not as exp submit has made it: make it again")
    if not about["sample"]:
        warn(f"its data have no sample_submission.csv to hold {what} against")
    return {"what": what, "mark": about["sha256"][:8], "runs": about["runs"], "file": file}


def sent(api: Any, competition: str) -> list[Any]:
    """All submissions of the user's team, as the client has them, the newest first."""
    found: dict[int, Any] = {}
    for page in count(1):
        look = partial(api.competition_submissions, competition, page_number=page, page_size=PAGE)
        more = {each.ref: each for each in ask(look, competition) or ()}
        if more.keys() <= found.keys():
            break
        found |= more
    return list(found.values())


def left_today(api: Any, competition: str) -> int:
    """How many submissions are left.

    Raises:
        Error: none is.
    """
    limits = ask(partial(api.competition_get_submission_limits, competition), competition)
    used = f"{limits.num_today} submissions today, {limits.num_total} in all"
    is_new = limits.num_total == 0  # without a team, Kaggle counts 0 of everything
    require(is_new or limits.num_allowed_now > 0, f"{competition}: {used}: none is left; the day begins at 0:00 UTC")
    return int(limits.num_allowed_now)


def submit(api: Any, competition: str, made: Mapping[str, Any], message: str | None, tell: Tell) -> Any:
    """Make a submission, unless it is at Kaggle, and wait for its score.

    Args:
        made: as from `made_before` or `pushed_before`.

    Returns:
        the submission, as the client has it.

    Raises:
        Error, Failed: as of `ask`, `left_today`; the same file is there, of other runs; it did not arrive; the notebook
            fails, or has no score.
    """
    runs = made["runs"]
    text = message or f"{' + '.join(each['run'] for each in runs)}, CV {runs[0]['metric']} {runs[0]['score']}"
    signature = f"[expkit {'+'.join(each['id'] for each in runs)} {made['mark']}]"
    there = [each for each in sent(api, competition) if each.status.name != "ERROR"]
    number = next((each.ref for each in there if signature in (each.description or "")), 0)
    if not number:
        if "kernel" not in made:
            _require_new(made, there)
        left_today(api, competition)
        about = (f"{text[:LONGEST]} {signature}", competition)
        if "kernel" in made:
            _wait_for_notebook(api, made, tell)
            where = f"submit version {made['version']} in the browser, at {made['url']}"
            refused = f"Kaggle takes no notebook of this account through its API: {where}"
            call = partial(api.competition_submit_code, "submission.csv", *about, made["kernel"], made["version"])
        else:
            call, refused = partial(api.competition_submit, str(made["file"]), *about, quiet=True), ""
        answer = ask(call, competition, refused)
        if not (number := answer.ref):
            raise Failed(f"the submission did not arrive ({answer.message}): {GO_ON}")
    while number not in (done := {each.ref: each for each in sent(api, competition) if each.status.name != "PENDING"}):
        _pause(f"submission {number}", "pending", tell)
    if done[number].status.name == "ERROR":
        why, where = done[number].error_description, f"{SITE}/competitions/{competition}/submissions"
        raise Failed(f"submission {number} has failed at Kaggle: {why or 'error'}: see {where}")
    return done[number]


def _require_new(made: Mapping[str, Any], there: Iterable[Any]) -> None:
    """Raise an `Error` when a file with the same content is at Kaggle, of whichever runs."""
    for each in there:
        if (signed := SIGNED.search(each.description or "")) and signed[2] == made["mark"]:
            scored = f"score {each.public_score}" if each.public_score else each.status.name.lower()
            note = f"exp note {made['runs'][0]['run']} --lb SCORE notes it on this run"
            raise Error(f"{made['what']} is the same file as submission {each.ref}, {scored}: not sent; {note}")


def _pause(what: str, status: str, tell: Tell) -> None:
    """Wait a little for something that Kaggle works on."""
    tell(f"{what} is at Kaggle, {status.lower()}; after Ctrl-C, the same command waits for it again")
    time.sleep(PAUSE)


def note_scores(competition: str, submissions: Iterable[Any]) -> list[dict[str, Any]]:
    """Note the public scores of submissions on their runs, each once, the oldest first.

    Returns:
        of each that is signed: "submission" (Kaggle's number), "run", "score", "is_new" (noted just now), "problem"
        (why it cannot be noted; "": it is).
    """
    board = {entry.run.id: entry for entry in entries(read_board())}
    known = {line.get("text") for notes in read_notes().values() for line in notes.lines}
    found = []
    for each in sorted(submissions, key=lambda each: int(each.ref)):
        if not (signed := SIGNED.search(each.description or "")):
            continue
        entry, text = board.get(signed[1]), f"{KAGGLE} {competition}, submission {each.ref}"
        score = float(each.public_score) if each.public_score else None
        problem = "" if score is not None else f"no public score, {each.status.name.lower()}"
        if entry is None:
            problem = "of several runs: exp blend makes one" if "+" in signed[1] else "its run is replaced or gone"
        is_new = not problem and text not in known
        title = entry.run.title if entry else None
        if title and is_new:
            add_note(title, {"leaderboard": score, "text": text, **context_of(title, entry)})
        found.append({"submission": each.ref, "run": title, "score": score, "is_new": is_new, "problem": problem})
    return found


def disagreements() -> list[str]:
    """Where CV and leaderboard part: a line for each problem, of the pairs of runs that they put in another order."""
    lines, board = [], {entry.run.title: entry for entry in entries(read_board())}
    for metric, scores in scored_twice(read_notes().values(), board).items():
        pairs = list(combinations(scores.items(), 2))
        if parted := [(a, b) for (a, (x, u)), (b, (y, v)) in pairs if (x - y) * (u - v) < 0]:
            what = f"CV {metric} and the leaderboard part about {len(parted)} of {len(pairs)} pairs of runs"
            lines.append(f"{what}, such as {' and '.join(parted[0])}")
    return lines


# Notebooks without internet

PUSHED = "pushed.json"  # beside a bundle: what of it is at Kaggle


def push(api: Any, run: Run, competition: str, more: Sequence[str], gpu: bool, tell: Tell) -> dict[str, Any]:
    """Bring a run to Kaggle: a version of a dataset, unless that is there; then a version of a notebook.

    Args:
        more, gpu: as for `make_bundle`.

    Returns:
        "run", its id; "kernel" ("owner/name"), "version", "url" of the notebook; "bundle", the hash of the dataset.

    Raises:
        Error, Failed: as of `make_bundle`, `ask`; Kaggle refuses it.
    """
    owner = api.config_values["username"]
    folder = make_bundle(run, competition, owner, more, gpu)
    name, dataset = f"{owner}/{folder.name}", folder / DATASET
    digest = file_hash(dataset / "bundle.zip")
    state = _dataset_state(api, name, tell)  # a version has to be ready before the next
    if state != "READY" or read_if_whole(folder / PUSHED).get("bundle") != digest:
        tell(f"uploading {name}, {(dataset / 'bundle.zip').stat().st_size:,} bytes")
        new_version = partial(api.dataset_create_version, version_notes=folder.name)
        answer = ask(partial(new_version if state else api.dataset_create_new, str(dataset), quiet=True))
        if answer.error:
            raise Failed(f"Kaggle does not take the dataset {name}: {answer.error}: {GO_ON}")
        write_json(folder / PUSHED, {"bundle": digest})
        if (state := _dataset_state(api, name, tell)) != "READY":
            raise Failed(f"Kaggle could not process the dataset, {state.lower()}: see {SITE}/datasets/{name}")
    answer = ask(partial(api.kernels_push, str(folder / NOTEBOOK)), competition)
    lacks = [f"it has no {each}" for each in (*answer.invalid_dataset_sources, *answer.invalid_competition_sources)]
    if why := [*filter(None, [answer.error]), *lacks]:
        raise Failed(f"Kaggle does not take the notebook {name}: {why[0]}: {GO_ON}")
    pushed = {"run": run.id, "bundle": digest, "kernel": name, "version": answer.version_number, "url": answer.url}
    write_json(folder / PUSHED, pushed)
    return pushed


def pushed_before(run: Run) -> dict[str, Any]:
    """The notebook of a run, as from `push`, with "what", "mark" and "runs" as of `made_before`.

    Raises:
        Error: it is not at Kaggle.
    """
    pushed = read_if_whole(bundle_folder(run) / PUSHED)
    require("version" in pushed, f"{run.title} is not at Kaggle as a notebook: exp kaggle push {run.title}")
    about = {"run": run.title, "id": run.id, "metric": run.metric, "score": run.score}
    what = f"version {pushed['version']} of {pushed['kernel']}"
    return pushed | {"what": what, "mark": f"v{pushed['version']}", "runs": [about]}


def _dataset_state(api: Any, name: str, tell: Tell) -> str:
    """Wait until Kaggle has processed the last version of a dataset: READY, FAILED; "": there is no such dataset."""
    look = partial(api.dataset_status, name)
    while (state := str(ask(look, may_lack=True) or "").upper()) not in ("READY", "FAILED", "DELETED", ""):
        _pause(f"the dataset {name}", state, tell)
    return state


def _wait_for_notebook(api: Any, pushed: Mapping[str, Any], tell: Tell) -> None:
    """Wait until Kaggle has run a version of a notebook; Failed: it fails."""
    look, what = partial(api.kernels_status, f"{pushed['kernel']}/{pushed['version']}"), f"the notebook {pushed['url']}"
    while (found := ask(look)).status.name != "COMPLETE":
        if found.status.name.startswith(("ERROR", "CANCEL")):
            why = found.failure_message or found.status.name.lower()
            raise Failed(f"{what} has failed at Kaggle: {why}: see its log, mend it, and push again")
        _pause(what, found.status.name, tell)


# What a notebook needs

# What a prediction with expkit imports, and Kaggle's image may lack; what it has is not installed again. The first has
# no wheel: one is built.
NEEDS = "antlr4-python3-runtime annotated-types hydra-core msgspec omegaconf packaging python-dotenv".split()
PYTHONS = ("3.11", "3.12", "3.13")  # one of them is that of Kaggle's image
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
FOLDER, DATASET, NOTEBOOK = "kaggle", "dataset", "notebook"


def make_bundle(run: Run, competition: str, owner: str, more: Sequence[str], gpu: bool) -> Path:
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
    one = f"{run.title} is made of {others}: a bundle has the models of one run, so push one of these"
    require(run.recipe is None, one)  # others have read them, and may not need them to predict: `_predict_here` knows
    require(run.git is not None, f"{run.title} has no snapshot of its code: train it in a git repository")
    folder = bundle_folder(run)
    for part in (DATASET, NOTEBOOK):
        make_folder(folder / part)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch)
        _lay_out(run, whole)
        _add_wheels(whole / "wheels", more)
        files = {file.relative_to(whole).as_posix(): file for file in whole.rglob("*") if file.is_file()}
        _predict_here(run, whole)
        _zip(folder / DATASET / "bundle.zip", files)
    named: dict[str, Any] = {"id": f"{owner}/{folder.name}", "title": folder.name}
    write_text(folder / DATASET / "dataset-metadata.json", json.dumps(named | {"licenses": [{"name": "CC0-1.0"}]}))
    metadata = named | {"code_file": "notebook.ipynb", "language": "python", "kernel_type": "notebook"}
    metadata |= {"is_private": True, "enable_gpu": gpu, "enable_internet": False}
    metadata |= {"dataset_sources": [named["id"]], "competition_sources": [competition]}
    write_text(folder / NOTEBOOK / "kernel-metadata.json", json.dumps(metadata))
    names = [f"expkit=={installed_packages()['expkit']}", *NEEDS, *more]
    known = {"title": run.title, "competition": competition, "owner": owner, "slug": folder.name}
    script = Path(__file__).with_name("notebook.txt").read_text(encoding="utf-8").format(names=names, **known)
    cell: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": [cell | {"source": script}], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
    write_text(folder / NOTEBOOK / "notebook.ipynb", json.dumps(notebook, indent=1))
    return folder


def bundle_folder(run: Run) -> Path:
    """Where a bundle lies. Its name is that at Kaggle: at most 50 small letters, digits and hyphens."""
    words = re.sub(r"[^a-z0-9]+", "-", run.experiment.lower())[:40].strip("-")
    return output_dir() / store.SUBMISSIONS / FOLDER / f"{words}-{run.id}".removeprefix("-")


def _lay_out(run: Run, whole: Path) -> None:
    """Write the code and the run that a bundle holds; large files are links."""
    assert run.git is not None and run.info is not None
    check_out(code_root(), run.git["snapshot"], Path(tempfile.mkdtemp(dir=whole))).rename(whole / "code")
    remove(whole / "code/vendor")  # the wheel is that of today
    for file in list((whole / "code").rglob("*")):
        if file.is_symlink() or (file.is_file() and is_secret(file.relative_to(whole / "code").as_posix())):
            file.unlink()
    require(bool(run.done), f"{run.title} has no finished fold, and so no models")
    here = whole / "output" / run.experiment / run.name
    is_fitted = load_experiment(run.experiment).experiment.postprocess is not None
    for number, fold in run.done.items():
        models = sorted(fold.folder.glob("model.*"))
        require(len(models) == 1, f"{display_path(fold.folder)} must have one file model.*, and has {len(models)}")
        make_folder(here / fold.folder.name)
        for name in (models[0].name, *([store.OOF] if is_fitted else [])):
            (here / fold.folder.name / name).symlink_to((fold.folder / name).resolve())
        result = {key: value for key, value in run.results[number].items() if key != "parents"}  # these stay here
        write_json(here / fold.folder.name / store.RESULT, result | {"files": {}})
    write_json(here / store.RUN, run.info)


def _add_wheels(folder: Path, more: Sequence[str]) -> None:
    """The expkit that runs, and the packages, as wheels for Kaggle's Python."""
    own = installed_packages()
    ours = sorted((code_root() / "vendor").glob(f"expkit-{own['expkit']}-*.whl"))
    require(bool(ours), f"vendor/ has no wheel of expkit {own['expkit']}, which runs: uv sync")
    make_folder(folder)
    shutil.copy(ours[0], folder)
    require(shutil.which("uv") is not None, "there is no command uv, which downloads packages for Kaggle")
    without_wheel, *others = [f"{name}=={own[name]}" for name in NEEDS]
    wanted = [*(f"--platform={name}" for name in PLATFORMS), "--only-binary=:all:", f"--dest={folder}", *others, *more]
    commands = [["download", f"--python-version={python}", *wanted] for python in PYTHONS]
    built = {"SOURCE_DATE_EPOCH": "315532800"}  # 1980: a wheel that is built has the same bytes each time
    for command in (["wheel", without_wheel, f"--wheel-dir={folder}"], *commands):
        pip = ["uv", "tool", "run", "pip", "--disable-pip-version-check", *command, "--no-deps"]
        _run(pip, built, "a package for Kaggle cannot be had")


def _run(command: list[str], variables: Mapping[str, str], failed: str) -> None:
    """Run a command quietly; when it fails, the last line that it prints is part of the error."""
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, errors="replace")
    if done.returncode:
        why = (done.stderr.strip() or f"it ends with {done.returncode}").splitlines()[-1]
        raise Error(f"{failed}: {why.removeprefix('ERROR: ')}")


def _zip(file: Path, files: dict[str, Path]) -> None:
    """Write a zip. Its time follows from what is in it: an upload goes on with a file of the same time."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, path in sorted(files.items()):
            with open(path, "rb") as source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)
    os.utime(file, (int(file_hash(file)[:7], 16),) * 2)


def _predict_here(run: Run, whole: Path) -> None:
    """Let another process predict the test set that is here, with the code and the models of a bundle."""
    (whole / "input").symlink_to(input_dir())
    file = str(whole / "submission.csv")
    source = f"from expkit.kaggle import write_submission; write_submission({run.title!r}, {file!r})"
    here = {ROOT: str(whole / "code"), "PROJECT_ROOT": str(whole), "PYTHONPATH": str(whole / "code/src")}
    failed = f"{run.title} cannot predict the test set that is here, with its snapshot's code and models alone"
    _run([sys.executable, "-c", source], here, failed)
    if run.parents:
        _require_as_trained(run, Path(file))


def _require_as_trained(run: Run, file: Path) -> None:
    """Raise an `Error` unless a submission by the models alone is that of the test predictions of the training."""
    import numpy

    experiment, rows = load_experiment(run.experiment).experiment, partial(fit_rows, [run])
    table, *_ = as_submission(mean_of([run], [choose(run, "folds")]), experiment, run.title, rows)
    found, others = read_csv(file), ", ".join(sorted({parent.run for parent in run.parents}))
    for name, column in table.items():
        is_text = column.dtype.kind != "f"
        texts, numbers = (found[name], []) if is_text else ([], [float(text) for text in found[name]])
        is_same = column.astype(str).tolist() == texts if is_text else numpy.allclose(column, numbers, rtol=1e-3)
        alone = f"{run.title} predicts another {name} with its own models alone: it needs {others}, as a stack does"
        require(bool(is_same), f"{alone}: push one of these")


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
