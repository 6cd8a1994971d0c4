"""Kaggle, through the Python API of its official package: what that answers, as one line, and what there is to do.

    input/<competition>/                the files of a competition
    input/<competition>/.download.json  what came, with sizes and hashes; hidden, so that it is no data of a run
    input/<competition>/.download/      a download that is under way; the same command goes on with it

Credentials are read by the official package alone, where it looks for them.
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expkit.errors import Error, Failed, require
from expkit.files import file_hash, make_folder, read_if_whole, remove, write_json
from expkit.project import display_path, input_dir

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

    try:
        with redirect_stdout(io.StringIO()):
            yield
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code  # a response is false for every error
        said = re.sub(r" for url: .*", "", str(error))
        if status == 401:
            raise Error(f"Kaggle does not take these credentials ({said}): {CREDENTIALS}") from None
        if status == 403:
            raise Error(_closed_gate(api, competition, said)) from None
        if status == 404 and competition:
            what = f"Kaggle has no competition {competition}, or it is closed"
            raise Error(f"{what} ({said}): its name is the end of its address, {SITE}/competitions/NAME") from None
        if status == 429:
            raise Failed(f"Kaggle has had too many requests ({said}): wait some minutes; {GO_ON}") from None
        raise Failed(f"Kaggle answers {said or status}: try again later; {GO_ON}") from None
    except (requests.RequestException, ConnectionError) as error:
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
    [archive] = [file for file in scratch.iterdir() if file.suffix != ".kaggle-partial"]
    names = _unpack(archive, folder, known)
    found = {name: [os.path.getsize(folder / name), file_hash(folder / name)] for name in names}
    about = {"competition": competition, "address": f"{SITE}/competitions/{competition}"}
    record = about | {"downloaded": datetime.now(UTC).isoformat(timespec="seconds"), "files": found}
    write_json(folder / RECORD, record)
    remove(scratch)
    return record


def _unpack(archive: Path, folder: Path, known: dict[str, list[Any]]) -> list[str]:
    """Write the files of a zip, each whole or not at all; a file that is as in the zip stays.

    Args:
        known: the files that were downloaded before, as in the record.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [each for each in bundle.infolist() if not each.is_dir()]
            for each in members:
                is_link = stat.S_ISLNK(each.external_attr >> 16)
                inside = (folder / each.filename).resolve().is_relative_to(folder.resolve())
                where = f"{display_path(archive)}: {each.filename} is a link, or would lie outside of the folder"
                require(inside and not is_link, f"{where}: nothing is unpacked")
            new = [each for each in members if not _is_there(folder / each.filename, each)]
            for file in (folder / each.filename for each in new):
                ours = known.get(file.relative_to(folder).as_posix(), [0, ""])[1]
                is_free = not os.path.lexists(file) or (file.is_file() and file_hash(file) == ours)
                require(is_free, f"{display_path(file)} is not as it was downloaded: move it away; nothing is unpacked")
            for each in new:
                file = folder / each.filename
                make_folder(file.parent)
                part = file.with_name(f".{file.name}.part")
                with bundle.open(each) as source, open(part, "wb") as target:
                    while block := source.read(2**20):
                        target.write(block)
                os.replace(part, file)
    except (zipfile.BadZipFile, zlib.error) as error:
        remove(archive)
        raise Failed(f"{display_path(archive)} was damaged ({error}), and is removed: download it again") from None
    return [each.filename for each in members]


def _is_there(file: Path, member: zipfile.ZipInfo) -> bool:
    """Whether a file is as in the zip."""
    if not file.is_file() or file.stat().st_size != member.file_size:
        return False
    checksum = 0
    with open(file, "rb") as stream:
        while block := stream.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC
