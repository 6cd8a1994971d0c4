"""Kaggle, through the Python API of its official package: what that answers, as one line, and what there is to do.

    input/<competition>/                the files of a competition
    input/<competition>/.download.json  what came, with sizes and hashes; hidden, so that it is no data of a run
    input/<competition>/.download/      a download that is under way; the same command goes on with it

A submission is signed with the id of its run, at the end of its description: so a score finds its run again, and
nothing is sent twice. Credentials are read by the official package alone, where it looks for them.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from expkit import bundle
from expkit.board import entries, read_board
from expkit.config import load_experiment
from expkit.data import input_files
from expkit.errors import Error, Failed, require, warn
from expkit.files import file_hash, make_folder, read_if_whole, remove, write_json
from expkit.notes import add_note, context_of, read_notes
from expkit.project import display_path, input_dir
from expkit.store import Run

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
    except ImportError as error:
        raise Error(f"exp kaggle needs Kaggle's own package: uv sync --extra kaggle ({error})") from None
    api = KaggleApi()
    try:
        ask(api.authenticate)
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


def download(competition: str, again: bool = False) -> dict[str, Any]:
    """Bring the files of a competition into `input/<competition>/`.

    Args:
        again: also when they are there.

    Returns:
        the record: "competition", "address", "downloaded" (when), "files" (name to bytes and hash).

    Raises:
        Error: as of `connect`, `ask`; the archive holds a path outside of the folder, or a link; a file there
            was not downloaded, or has been edited. Nothing is unpacked.
        Failed: it has begun, and stopped; the next call goes on.
    """
    is_name = re.fullmatch(r"\w[\w-]*", competition)
    require(bool(is_name), f"{competition!r} is no name of a competition: it is the end of its address on {SITE}")
    folder = input_dir() / competition
    record = read_if_whole(folder / RECORD)
    known: dict[str, list[Any]] = record.get("files", {})
    if known and not again and all((folder / name).is_file() for name in known):
        return record
    api, scratch = connect(), folder / UNDER_WAY
    make_folder(scratch)
    ask(partial(api.competition_download_files, competition, str(scratch), quiet=not sys.stderr.isatty()), competition)
    [archive] = [file for file in scratch.iterdir() if file.is_file() and file.suffix != ".kaggle-partial"]
    found = _unpack(archive, folder, known)
    about = {"competition": competition, "address": f"{SITE}/competitions/{competition}"}
    record = about | {"downloaded": datetime.now(UTC).isoformat(timespec="seconds"), "files": found}
    write_json(folder / RECORD, record)
    remove(scratch)
    return record


def _unpack(archive: Path, folder: Path, known: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Unpack a zip beside itself, and move its files to their places; name to bytes and hash.

    Args:
        known: the files that were downloaded before, as in the record.
    """
    beside, what = archive.parent / "files", display_path(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            remove(beside)
            opened.extractall(beside)  # nothing leaves this folder, whatever it is called; a link becomes a file
    except (zipfile.BadZipFile, zlib.error) as error:
        remove(archive)
        raise Failed(f"{what} was damaged ({error}), and is removed: download it again") from None
    files = {file.relative_to(beside).as_posix(): file for file in sorted(beside.rglob("*")) if file.is_file()}
    found = {name: [file.stat().st_size, file_hash(file)] for name, file in files.items()}
    for name, one in found.items():
        file, ours = folder / name, (one[1], known.get(name, one)[1])
        is_ours = not os.path.lexists(file) or (file.is_file() and file_hash(file) in ours)
        require(is_ours, f"{display_path(file)} is not as it was downloaded: move it away; nothing is replaced")
    for name, file in files.items():
        make_folder((folder / name).parent)
        os.replace(file, folder / name)
    return found


# Submissions

SIGNED = re.compile(r"\[expkit ([0-9a-f]{8}(?:\+[0-9a-f]{8})*) \w+\]")
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
        more = ask(look, competition) or []
        if all(each.ref in found for each in more):
            break
        found |= {each.ref: each for each in more}
    return list(found.values())


def left_today(api: Any, competition: str) -> int:
    """How many submissions are left.

    Raises:
        Error: none is.
    """
    limits = ask(partial(api.competition_get_submission_limits, competition), competition)
    used = f"{limits.num_today} today, {limits.num_total} in all"
    when = "in this competition" if limits.limited_by_total else "today; the day begins at 0:00 UTC"
    is_new = limits.num_total == 0  # without a team, Kaggle counts 0 of everything
    require(is_new or limits.num_allowed_now > 0, f"{competition}: {used}: no submission is left {when}")
    return int(limits.num_allowed_now)


def submit(api: Any, competition: str, made: Mapping[str, Any], message: str | None, tell: Tell) -> Any:
    """Make a submission, unless it is at Kaggle, and wait for its score.

    Args:
        made: as from `made_before` or `pushed_before`.

    Returns:
        the submission, as the client has it.

    Raises:
        Error, Failed: as of `ask`, `left_today`; it did not arrive; the notebook fails, or has no score.
    """
    runs = made["runs"]
    text = message or f"{' + '.join(each['run'] for each in runs)}, CV {runs[0]['metric']} {runs[0]['score']}"
    signature = f"[expkit {'+'.join(each['id'] for each in runs)} {made['mark']}]"
    signed = [each for each in sent(api, competition) if signature in (each.description or "")]
    number = next((each.ref for each in signed if each.status.name != "ERROR"), 0)
    if not number:
        left_today(api, competition)
        text, refused = f"{text[:LONGEST]} {signature}", ""
        if "kernel" in made:
            _wait_for_notebook(api, made, tell)
            kernel, version = made["kernel"], made["version"]
            call = partial(api.competition_submit_code, "submission.csv", text, competition, kernel, version)
            where = f"submit version {version} in the browser, at {made['url']}"
            refused = f"Kaggle takes no notebook of this account through its API: {where}"
        else:
            call = partial(api.competition_submit, str(made["file"]), text, competition, quiet=True)
        answer = ask(call, competition, refused)
        if not (number := answer.ref):
            raise Failed(f"the submission did not arrive ({answer.message}): {GO_ON}")
    while number not in (done := {each.ref: each for each in sent(api, competition) if each.status.name != "PENDING"}):
        _pause(f"submission {number}", "pending", tell)
    if done[number].status.name == "ERROR":
        why, where = done[number].error_description, f"{SITE}/competitions/{competition}/submissions"
        raise Failed(f"submission {number} has failed at Kaggle: {why or 'error'}: see {where}")
    return done[number]


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
        entry, text = board.get(signed[1]), f"Kaggle {competition}, submission {each.ref}"
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


# Notebooks without internet

PUSHED = "pushed.json"  # beside a bundle: what of it is at Kaggle


def push(api: Any, run: Run, competition: str, more: Sequence[str], gpu: bool, tell: Tell) -> dict[str, Any]:
    """Bring a run to Kaggle: a version of a dataset, unless that is there; then a version of a notebook.

    Args:
        more, gpu: as for `bundle.make`.

    Returns:
        "run", its id; "kernel" ("owner/name"), "version", "url" of the notebook; "bundle", the hash of the dataset.

    Raises:
        Error, Failed: as of `bundle.make`, `ask`; Kaggle refuses it.
    """
    owner = api.config_values["username"]
    folder = bundle.make(run, competition, owner, more, gpu)
    name, dataset = f"{owner}/{folder.name}", folder / bundle.DATASET
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
    answer = ask(partial(api.kernels_push, str(folder / bundle.NOTEBOOK)), competition)
    lacks = [f"it has no {each}" for each in (*answer.invalid_dataset_sources, *answer.invalid_competition_sources)]
    if why := [*filter(None, [answer.error]), *lacks]:
        raise Failed(f"Kaggle does not take the notebook {name}: {why[0]}: {GO_ON}")
    pushed = {"run": run.id, "bundle": digest, "kernel": name, "version": answer.version_number, "url": answer.url}
    write_json(folder / PUSHED, pushed)
    return pushed


def pushed_before(run: Run, competition: str) -> dict[str, Any]:
    """The notebook of a run, as from `push`, with "what", "mark" and "runs" as of `made_before`.

    Raises:
        Error: it is not at Kaggle, or that of an earlier version of the run.
    """
    pushed = read_if_whole(bundle.folder_of(run, competition) / PUSHED)
    is_pushed = "version" in pushed and pushed["run"] == run.id
    require(is_pushed, f"{run.title} is not at Kaggle as a notebook: exp kaggle push {run.title}")
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
