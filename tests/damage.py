"""Damage to the files of runs: what an editor, a disk, a copy, somebody else or an attacker may have left there."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ODD: list[Any] = [None, True, False, -1, 0, 1, 0.5, 10**39, 10**400, float("nan"), float("inf"), -1e308, 1.79e308]
ODD += ["", "x" * 5000, "\x1b]52;c;aGk=\x07[red]\x9b2J\u202e", "[bold", "[/]", "${oc.env:SECRET}", "--output=pwned"]
ODD += ["\ud800", "nan", "0" * 40, "../../x", "a\nb", "2026-99-99T", [], {}, [[]], [1, "a", None], {"": {"a.b": 1}}]
ODD += [{"commit": "HEAD", "dirty": False, "snapshot": "--output=pwned"}, {"exp": {"name": "[red]", "seed": "\x1b[2J"}}]
ODD += [{"accuracy": 0.99}, {"a": [1e999, {"b": [float("nan")]}]}, {"x\x1b[2J[red]": 0.5, "y" * 3000: 1}]
ODD += ["DEEP"]

BYTES = [b"", b"\0", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"\x80\x04N.", b"PK\x03\x04", b"epoch\n\xff,\n"]


def sealed(text: str) -> bytes:
    """A JSON object with the checksum of our files, as someone writes it who knows how."""
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return f'{text[:-2]},\n  "checksum": "{checksum}"\n}}\n'.encode()


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
    written = written.replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    return sealed(written) if reseal and written.endswith("\n}") else written.encode()


def replace(path: Path, content: bytes) -> None:
    """Another file of this name; `copied` gives links, whose content is that of the sample."""
    path.unlink()
    path.write_bytes(content)


def remove(path: Path) -> None:
    """Remove whatever lies there."""
    for folder, names, _ in os.walk(path):
        for name in names:
            if not os.path.islink(f"{folder}/{name}"):
                os.chmod(f"{folder}/{name}", 0o700)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


NAMES = ["{}.bak", "fold7", "fold007", "fold1 copy", "full", "{}@2", "{}@1", "{}@99", ".{}", "a\x1b[2J[red]", "x\udcff"]
POINTERS = ["2", "1", "0", "-1", "９", "9" * 5000, "\xff", "", "2\n3", "two"]


def mutate(root: Path, seed: int) -> str:
    """Damage something below `root`, another thing for each seed.

    Returns:
        "" for a forgery that nobody can see: whoever knows the seal has written other values. Else what was done.
    """
    chance = random.Random(seed)
    everything = sorted(path for path in root.rglob("*") if not path.is_symlink())
    files = [path for path in everything if path.is_file()]
    folders = [path for path in everything if path.is_dir()]
    file, second, folder = chance.choice(files), chance.choice(files), chance.choice(folders)
    path, kind = chance.choice(everything), chance.choice(KINDS)
    done = f"seed {seed}: {kind} {file.relative_to(root)} {folder.relative_to(root)} {path.relative_to(root)}"
    content = file.read_bytes()
    if kind == "cut":
        replace(file, content[: chance.randrange(len(content) + 1)])
    elif kind == "garbage":
        replace(file, chance.choice(BYTES))
    elif kind == "flip" and content:
        place = chance.randrange(len(content))
        replace(file, content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :])
    elif kind == "edit":
        document = chance.choice([name for name in files if name.suffix == ".json"])
        is_sealed = chance.random() < 0.5
        text = edited(document.read_text(), chance.randrange(2**32), chance.choice(ODD), chance.randrange(5), is_sealed)
        replace(document, text)
        return "" if is_sealed else f"{done}: {document.relative_to(root)}"
    elif kind == "line":
        notes = chance.choice([name for name in files if name.suffix in (".jsonl", ".csv", ".txt")])
        value = json.dumps(chance.choice(ODD))[:9000]
        lines = [value, f'{{"run": {value}, "time": {value}}}', value.strip('"').join(["1,", ",2"])]
        replace(notes, notes.read_bytes() + chance.choice(lines).encode() + b"\n")
    elif kind == "other file":  # of the same name, from another fold or run
        other = chance.choice([name for name in files if name.name == file.name])
        shutil.copy2(other, root / "copy")
        os.replace(root / "copy", file)
    elif kind == "gone":
        remove(path)
    elif kind == "link":
        target = chance.choice([second, root / "nowhere", path, Path("/dev/null"), root / "output"])
        if not target.is_relative_to(path) or target == path:
            remove(path)
            path.symlink_to(target)
    elif kind == "copy":
        target = folder.with_name(chance.choice(NAMES).format(folder.name))
        if not target.exists():
            shutil.copytree(folder, target, symlinks=True)
    elif kind == "pointer":
        run = chance.choice([one for one in folders if one.parents[1] == root / "output" and one.name[:1] != "."])
        pointer = run / "installed.txt"
        pointer.unlink(missing_ok=True)
        pointer.write_text(chance.choice(POINTERS), encoding="latin-1", errors="replace")
        return ""
    elif kind in SPECIAL:
        make_special(kind, path)
    return done


# What is no file, or none that anybody could read


def make_special(kind: str, path: Path) -> None:
    """Put something else in the place of a file or a folder."""
    is_folder = path.is_dir()
    if kind == "unreadable":
        if not is_folder:  # its mode is that of every link to it
            shutil.copy2(path, path.with_name("copy"))
            os.replace(path.with_name("copy"), path)
        path.chmod(0)
        return
    remove(path)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        parent = os.open(path.parent, os.O_RDONLY)  # the path of a socket has at most 107 characters
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{parent}/{path.name}")
        os.close(parent)
    elif kind in ("other", "large"):
        content = b"" if kind == "other" else (b"[" * 99 + b"\n") * 100_000
        path.write_bytes(content) if is_folder or kind == "large" else path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name, "dangling": "nowhere"}[kind])


SPECIAL = ("pipe", "socket", "device", "loop", "dangling", "unreadable", "other", "large")
KINDS = ["cut", "garbage", "flip", "flip", "edit", "edit", "edit", "line", "other file", "gone", "link", "copy"]
KINDS += ["pointer", *SPECIAL]


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """For a while, root cannot read what its mode forbids, in this thread either (Linux capabilities 1 and 2)."""
    if os.geteuid() != 0:
        yield
        return
    libc, header, data = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    effective = data[0]
    data[0] &= ~0b110
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = effective
        assert libc.capset(header, data) == 0


@contextlib.contextmanager
def at_once(what: str) -> Iterator[None]:
    """Fail when something waits; the machine may be busy."""

    def hangs(*_: object) -> None:
        raise AssertionError(f"{what} hangs")

    old = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
