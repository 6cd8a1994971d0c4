"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expkit.errors import warn
from expkit.paths import shown


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all: on the disk first, then under its name."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        to_disk(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no such call for a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is no such file, or, with a warning, when it is broken."""
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict):
        warn(f"{shown(file)} is broken and counts as missing")
        return None
    return content


def read_csv(file: Path) -> dict[str, list[Any]]:
    """The columns of a CSV file, one entry a row; numbers as int or float."""
    with open(file, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return {name: [_number(row[index]) for row in rows] for index, name in enumerate(header)}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
