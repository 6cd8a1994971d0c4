"""Which files a fingerprint of the data stands for, kept once for all runs under output/.data/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expkit import files
from expkit.store.records import read_checked


def write_data(output: Path, digest: str, manifest: Mapping[str, Any]) -> None:
    """Keep which files a fingerprint stands for; once for all runs."""
    file = output / ".data" / f"{digest}.json"
    if not file.exists():
        files.make_folder(file.parent)
        files.write_json(file, {"files": manifest})


def read_data(output: Path, digest: str) -> dict[str, list[Any]] | None:
    """The files behind a fingerprint: path to bytes and hash; None when nobody knows them any more."""
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        return None
    file = output / ".data" / f"{digest}.json"
    content = read_checked(str(file), lambda content: _is_manifest(content["files"]), [], files.LISTS)
    return content["files"] if content else None


def _is_manifest(value: Any) -> bool:
    return type(value) is dict and all(type(one) is list and len(one) == 2 for one in value.values())
