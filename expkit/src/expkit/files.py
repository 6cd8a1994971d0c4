"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from expkit.errors import Error, warn
from expkit.project import display_path

_SEAL = b',\n  "checksum": "'
BLOCK = 2**18  # bytes, of `hash_of_blocks`


class Broken(Exception):
    """A file is not what was written: cut off, edited, or not JSON."""


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all: on the disk first, then under its name."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        to_disk(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, and seal it: its last key is a checksum of all before it.

    Args:
        content: a checksum in it, of a file that was read, is left out.

    Raises:
        ValueError: a number is nan or inf, which is no JSON.
    """
    content = {key: value for key, value in content.items() if key != "checksum"}
    text = json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False)
    write_text(file, f'{text[:-2]}{_SEAL.decode()}{_checksum(text.encode())}"\n}}\n')


def regular(path: str, flags: int) -> int:
    """Open a file: the `opener` of every `open` of what may lie there by then. It never waits, and reads no device.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    handle = os.open(path, flags | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a file", path)
    return handle


def code_bytes(file: str) -> bytes:
    """What counts of a file as code: the content of Python, and a hash of any other file, such as weights.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open(file, "rb", opener=regular) as stream:
        return stream.read() if file.endswith(".py") else hashlib.file_digest(stream, "sha256").digest()


def read_bytes(file: str | Path) -> bytes:
    """The content of a file. Errors as of `regular`."""
    handle = regular(os.fspath(file), os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(handle, 65536), b""))  # a third faster than `open`, of the board's time
    finally:
        os.close(handle)


def text_of(file: str | Path) -> str:
    """The text of a file; "" where it cannot be read, which is the concern of whoever needs it."""
    try:
        return read_bytes(file).decode(errors="replace")
    except OSError:
        return ""


def first_line(file: str | Path) -> str:
    """The first line of a file that a person may read; "" when there is none, or it cannot be read."""
    return next(iter(text_of(file).splitlines()), "")


def read_sealed(file: str | Path) -> bytes | None:
    """The JSON in a file that `write_json` wrote; None when there is none.

    Raises:
        Broken: it is not as it was written, or cannot be read.
    """
    try:
        data = read_bytes(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Broken(str(error.strerror)) from error
    body, seal, rest = data.rpartition(_SEAL)
    if not seal or rest != _checksum(body + b"\n}").encode() + b'"\n}\n':
        raise Broken("cut off or edited")
    return data


def read_json(file: str | Path) -> dict[str, Any] | None:
    """The content of a file that `write_json` wrote; None when there is none. Errors as of `read_sealed`."""
    data = read_sealed(file)
    try:
        return None if data is None else dict(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise Broken("not JSON") from error


def read_if_whole(file: str | Path) -> dict[str, Any]:
    """As `read_json`, of a file that can be done without: {} also when it is broken."""
    with suppress(Broken):
        return read_json(file) or {}
    return {}


def listed(folder: str | Path) -> list[str]:
    """The names in a folder, in order; [] when there is none, and, with a warning, when it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        warn(f"{display_path(Path(folder))} cannot be read: {error.strerror}")
        return []


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        Error: something else lies in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise Error(f"cannot make {display_path(folder)}: a file, or a link to nothing, is in the way") from error


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a symbolic link, or a folder with everything in it; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def flushing(folder: Path) -> Iterator[list[Path]]:
    """Flush a folder with everything in it, or a file, beside what the caller does; all is on the disk afterwards.

    Yields:
        its files, in order; no pipe, socket, or link to nothing.
    """
    from concurrent.futures import ThreadPoolExecutor

    paths = [path for path in (folder, *folder.rglob("*")) if path.is_file() or path.is_dir()]
    with ThreadPoolExecutor() as pool:  # several at once also share the waits of the file system
        flushed = pool.map(to_disk, paths)
        yield sorted(path for path in paths if path.is_file())
        list(flushed)  # raises what one of them has raised


def file_hash(file: Path) -> str:
    """A hash of a file's content, at the speed of the disk."""
    with open(file, "rb", opener=regular) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_of_blocks(file: Path) -> str:
    """Another hash of a file's content, of the hashes of its blocks, each by a thread: faster where there are cores."""
    from concurrent.futures import ThreadPoolExecutor

    with open(file, "rb", opener=regular) as stream, ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, os.fstat(stream.fileno()).st_size, BLOCK)
        blocks = pool.map(lambda start: hashlib.sha256(os.pread(stream.fileno(), BLOCK, start)).digest(), starts)
        return hashlib.sha256(b"".join(blocks)).hexdigest()


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock that a file is, or might hold it."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(file).acquire(blocking=False):
            return False
    except (Timeout, OSError):
        return True
