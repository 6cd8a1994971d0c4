"""Kaggle, through the Python API of its official package: what that answers, as one line, and what there is to do.

    input/<competition>/                the files of a competition
    input/<competition>/.download.json  what came, with sizes and hashes; hidden, so that it is no data of a run
    input/<competition>/.download/      a download that is under way; the same command goes on with it

A submission is signed with the id of its run, at the end of its description: so a score finds its run again, and
nothing is sent twice. Credentials are read by the official package alone, where it looks for them.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime
from itertools import combinations, count
from pathlib import Path
from typing import Any

from expkit import bundle
from expkit.board import entries, read_board
from expkit.config import load_experiment
from expkit.data import input_files
from expkit.errors import Error, Failed, require, warn
from expkit.files import file_hash, make_folder, read_if_whole, remove, text_of, write_json
from expkit.notes import add_note, context_of, read_notes, scored_twice
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
    with explained(api):
        try:
            api.authenticate()
        except SystemExit:
            raise Error(f"there are no Kaggle credentials, or they are no longer valid: {CREDENTIALS}") from None
    return api


@contextmanager
def explained(api: Any, competition: str = "") -> Iterator[None]:
    """One line for whatever goes wrong in a call of the client; what it prints is left out.

    Args:
        competition: what the call is about; "": none.

    Raises:
        Error: a person has to do something first.
        Failed: Kaggle, or the way to it, fails.
    """
    import requests
    from urllib3.exceptions import HTTPError as Broken

    try:
        with redirect_stdout(io.StringIO()):
            yield
    except requests.HTTPError as error:
        response = error.response  # false for every error: compare it with None
        status = 0 if response is None else response.status_code
        said = re.sub(r" for url: .*", "", str(error))
        if status == 401:
            raise Error(f"Kaggle does not take these credentials ({said}): {CREDENTIALS}") from None
        if response is not None and status == 403 and response.request.method == "POST":  # no file with an old address
            raise Error(_closed_gate(api, competition, said)) from None
        if status == 404 and competition:
            what = f"Kaggle has no competition {competition}, or it is closed"
            raise Error(f"{what} ({said}): its name is the end of its address, {SITE}/competitions/NAME") from None
        if status == 429:
            raise Failed(f"Kaggle has had too many requests ({said}): wait some minutes; {GO_ON}") from None
        raise Failed(f"Kaggle answers {said or status}: try again later; {GO_ON}") from None
    except (requests.RequestException, ConnectionError, Broken) as error:
        raise Failed(f"the connection to Kaggle failed ({type(error).__name__}): {GO_ON}") from None
    except ValueError as error:
        raise Failed(f"Kaggle's package: {' '.join(str(error).split())}: {GO_ON}") from None


def _closed_gate(api: Any, competition: str, said: str) -> str:
    """What a 403 means: it does not say which gate is closed."""
    page, has_entered = f"{SITE}/competitions/{competition}", None
    with suppress(Exception), redirect_stdout(io.StringIO()):
        found = api.competitions_list(search=competition).competitions
        has_entered = next((each.user_has_entered for each in found if each.ref.split("/")[-1] == competition), None)
    rules = f"accept the rules of {competition} at {page}/rules"
    phone = f"verify your phone at {SITE}/settings/account"
    if not competition:
        return f"Kaggle refuses this ({said}): {phone}"
    if has_entered is None:
        return f"Kaggle refuses {competition} ({said}): {rules}, and {phone}"
    return f"Kaggle refuses {competition} ({said}): {phone if has_entered else rules}"


# Data


def download(competition: str, again: bool = False) -> dict[str, Any]:
    """Bring the files of a competition into `input/<competition>/`.

    Args:
        again: also when they are there.

    Returns:
        the record: "competition", "address", "downloaded" (when), "files" (name to bytes and hash).

    Raises:
        Error: as of `connect`, `explained`; the archive holds a path outside of the folder, or a link; a file there
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
    with explained(api, competition):
        api.competition_download_files(competition, str(scratch), quiet=not sys.stderr.isatty())
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
            members = [each for each in opened.infolist() if not each.is_dir()]
            for each in members:
                is_inside = (folder / each.filename).resolve().is_relative_to(folder.resolve())
                is_safe = is_inside and not stat.S_ISLNK(each.external_attr >> 16)
                where = f"{what}: {each.filename} is a link, or lies outside of the folder"
                require(is_safe, f"{where}: nothing is unpacked")
            opened.extractall(beside, members)
    except (zipfile.BadZipFile, zlib.error) as error:
        remove(archive)
        raise Failed(f"{what} was damaged ({error}), and is removed: download it again") from None
    found: dict[str, list[Any]] = {}
    for name in (each.filename for each in members):
        found[name] = [os.path.getsize(beside / name), file_hash(beside / name)]
        file, ours = folder / name, [one[name][1] for one in (found, known) if name in one]
        is_ours = not os.path.lexists(file) or (file.is_file() and file_hash(file) in ours)
        require(is_ours, f"{display_path(file)} is not as it was downloaded: move it away; nothing is replaced")
    for name in found:
        make_folder((folder / name).parent)
        os.replace(beside / name, folder / name)
    return found


# Submissions

SIGNED = re.compile(r"\[expkit ([0-9a-f]{8}(?:\+[0-9a-f]{8})*) \w+\]")
PAGE, LONGEST = 200, 400  # submissions of one answer; characters of a description, before the signature
PAUSE = 5.0  # seconds between two looks at what Kaggle works on; it grows to a minute
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
        read = {name.partition("/")[0] for name, _ in input_files(load_experiment(experiment).experiment.inputs)}
        found = [name for name in found if name in read]
    where = f"the data of {experiment}" if experiment else "input/"
    what = f"{' and '.join(found)} have" if found else "no competition has"
    require(len(found) == 1, f"{what} come into {where} by exp kaggle download: give --competition NAME")
    return found[0]


def made_before(file: Path) -> dict[str, Any]:
    """What the JSON file beside a submission says that `exp submit` has made.

    Raises:
        Error: there is none, or the submission has been edited since.
    """
    about = read_if_whole(file.with_suffix(".json"))
    is_whole = about and file.is_file() and file_hash(file) == about["sha256"]
    require(bool(is_whole), f"{display_path(file)} is not as exp submit has made it: make it again")
    return about


def sign(ids: Iterable[str], mark: str) -> str:
    """What ends the description of a submission.

    Args:
        ids: of its runs.
        mark: tells it from other submissions of these, such as digits of a hash.
    """
    return f"[expkit {'+'.join(ids)} {mark}]"


def sent(api: Any, competition: str) -> list[Any]:
    """All submissions of the user's team, as the client has them, the newest first."""
    found: dict[int, Any] = {}
    for page in count(1):
        with explained(api, competition):
            more = api.competition_submissions(competition, page_number=page, page_size=PAGE) or []
        new = {each.ref: each for each in more if each.ref not in found}
        found |= new
        if not new:
            break
    return list(found.values())


def left_today(api: Any, competition: str) -> int:
    """How many submissions are left.

    Raises:
        Error: none is.
    """
    with explained(api, competition):
        limits = api.competition_get_submission_limits(competition)
    used = f"{limits.num_today} today, {limits.num_total} in all"
    when = "in this competition" if limits.limited_by_total else "today; the day begins at 0:00 UTC"
    is_new = limits.num_total == 0  # without a team, Kaggle counts 0 of everything
    require(is_new or limits.num_allowed_now > 0, f"{competition}: {used}: no submission is left {when}")
    return int(limits.num_allowed_now)


def send(api: Any, competition: str, text: str, signature: str, call: Callable[[str], Any]) -> int:
    """Make a submission, unless it is at Kaggle: the same signature is the same submission.

    Args:
        call: makes it, given its description.

    Returns:
        Kaggle's number of it.

    Raises:
        Error, Failed: as of `explained`, `left_today`; it did not arrive.
    """
    if number := _number_of(api, competition, signature):
        return number
    left_today(api, competition)
    with explained(api, competition):
        answer = call(f"{text[:LONGEST]} {signature}")
    number = int(answer.ref) or _number_of(api, competition, signature)
    if not number:
        raise Failed(f"the submission did not arrive ({answer.message}): {GO_ON}")
    return number


def _number_of(api: Any, competition: str, signature: str) -> int:
    """Kaggle's number of a submission that was made before; 0: there is none. One that could not be scored is none."""
    signed = (each for each in sent(api, competition) if signature in (each.description or ""))
    return next((int(each.ref) for each in signed if each.status.name != "ERROR"), 0)


def wait_for_score(api: Any, competition: str, number: int, tell: Tell) -> Any:
    """Wait until Kaggle has scored a submission; the submission, as the client has it. Errors as of `_wait`."""

    def look() -> tuple[str, str, Any]:
        found = next((each for each in sent(api, competition) if each.ref == number), None)
        return (found.status.name, found.error_description, found) if found else ("PENDING", "", None)

    return _wait(f"submission {number}", f"{SITE}/competitions/{competition}/submissions", look, tell)


def _wait(what: str, where: str, look: Callable[[], tuple[str, str, Any]], tell: Tell) -> Any:
    """Wait until Kaggle is ready with something.

    Args:
        look: gives its status, why it has failed, and what is returned in the end.

    Raises:
        Failed: it has failed.
    """
    pause = PAUSE
    while True:
        status, why, found = look()
        if status in ("COMPLETE", "READY"):
            return found
        if status.startswith(("ERROR", "CANCEL")):
            raise Failed(f"{what} has failed at Kaggle: {why or status.lower()}: see {where}")
        tell(f"{what} is at Kaggle, {status.lower()}")
        try:
            time.sleep(pause)
        except KeyboardInterrupt:
            warn(f"{what} is at Kaggle: the same command waits for it again")
            raise
        pause = min(1.5 * pause, 60)


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
        about = {"submission": each.ref, "run": title, "score": score}
        found.append({**about, "is_new": is_new, "problem": problem})
    return found


def disagreements() -> list[str]:
    """Where CV and leaderboard part: a line for each problem, of the pairs of runs that they put in another order."""
    lines = []
    board = {entry.run.title: entry for entry in entries(read_board())}
    for metric, scores in scored_twice(read_notes().values(), board).items():
        pairs = list(combinations(scores.items(), 2))
        parted = [(a, b) for (a, (x, u)), (b, (y, v)) in pairs if (x - y) * (u - v) < 0]
        if parted:
            what = f"CV {metric} and the leaderboard part about {len(parted)} of {len(pairs)} pairs of runs"
            lines.append(f"{what}, such as {' and '.join(parted[0])}")
    return lines


# Notebooks without internet

PUSHED = "pushed.json"  # beside a bundle: what of it is at Kaggle


def push(api: Any, folder: Path, run: Run, tell: Tell) -> dict[str, Any]:
    """Bring a bundle to Kaggle: a version of its dataset, unless that is there; then a version of its notebook.

    Args:
        folder: as from `bundle.make`.

    Returns:
        "run", its id; "kernel" ("owner/name"), "version", "url" of the notebook; "bundle", the hash of the dataset.

    Raises:
        Error, Failed: as of `explained`, `_wait`; Kaggle refuses it.
    """
    about = json.loads(text_of(folder / bundle.NOTEBOOK / "kernel-metadata.json"))
    name, dataset = about["id"], folder / bundle.DATASET
    digest = file_hash(dataset / "bundle.zip")
    state = _dataset_state(api, name, tell)  # a version has to be ready before the next
    if state != "READY" or read_if_whole(folder / PUSHED).get("bundle") != digest:
        tell(f"uploading {name}, {(dataset / 'bundle.zip').stat().st_size:,} bytes")
        with explained(api):
            if state:
                answer = api.dataset_create_version(str(dataset), about["title"], quiet=True)
            else:
                answer = api.dataset_create_new(str(dataset), quiet=True)
        _require_taken(f"the dataset {name}", answer.error)
        write_json(folder / PUSHED, {"bundle": digest})
        if (state := _dataset_state(api, name, tell)) != "READY":
            raise Failed(f"Kaggle could not process the dataset, {state.lower()}: see {SITE}/datasets/{name}")
    with explained(api, about["competition_sources"][0]):
        answer = api.kernels_push(str(folder / bundle.NOTEBOOK))
    wrong = [*answer.invalid_dataset_sources, *answer.invalid_competition_sources]
    _require_taken(f"the notebook {name}", answer.error or "".join(f"it has no {each}" for each in wrong[:1]))
    pushed = {"run": run.id, "bundle": digest, "kernel": name, "version": answer.version_number, "url": answer.url}
    write_json(folder / PUSHED, pushed)
    return pushed


def pushed_before(folder: Path, run: Run) -> dict[str, Any]:
    """What `push` has returned for a run; Error: it has not, or for an earlier version of the run."""
    pushed = read_if_whole(folder / PUSHED)
    is_pushed = "version" in pushed and pushed["run"] == run.id
    require(is_pushed, f"{run.title} is not at Kaggle as a notebook: exp kaggle push {run.title}")
    return pushed


def _require_taken(what: str, error: str | None) -> None:
    if error:
        raise Failed(f"Kaggle does not take {what}: {error}: {GO_ON}")


def _dataset_state(api: Any, name: str, tell: Tell) -> str:
    """Wait until Kaggle has processed the last version of a dataset: READY, FAILED; "": there is no such dataset."""
    import requests

    def look() -> tuple[str, str, str]:
        with explained(api):
            try:
                state = str(api.dataset_status(name)).upper()
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code not in (403, 404):
                    raise
                state = ""
        return state if state not in ("", "FAILED", "DELETED") else "READY", "", state

    return str(_wait(f"the dataset {name}", f"{SITE}/datasets/{name}", look, tell))


def wait_for_notebook(api: Any, pushed: Mapping[str, Any], tell: Tell) -> None:
    """Wait until Kaggle has run a version of a notebook. Errors as of `_wait`."""
    named = f"{pushed['kernel']}/{pushed['version']}"

    def look() -> tuple[str, str, None]:
        with explained(api):
            found = api.kernels_status(named)
        return found.status.name, found.failure_message, None

    _wait(f"the notebook {named}", f"its log at {pushed['url']}, mend it, and push again", look, tell)


def submit_notebook(api: Any, pushed: Mapping[str, Any], competition: str, text: str) -> Any:
    """Submit a version of a notebook; the client's answer.

    Raises:
        Error: Kaggle does not take it from here.
    """
    import requests

    kernel, number = pushed["kernel"], pushed["version"]
    try:
        return api.competition_submit_code("submission.csv", text, competition, kernel, number, quiet=True)
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code != 403:
            raise
        where = f"submit version {number} in the browser, at {pushed['url']}"
        raise Error(f"Kaggle takes no notebook of this account through its API: {where}") from None
