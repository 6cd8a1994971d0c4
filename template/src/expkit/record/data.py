"""Which files a fingerprint of the data stands for, kept once for all runs under output/.data/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expkit import files
from expkit.record.content import read_checked


def write_data(output: Path, digest: str, manifest: Mapping[str, Any]) -> None:
    """Keep which files a fingerprint stands for; once for all runs."""
    file = output / ".data" / f"{digest}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, {"files": manifest})


def read_data(output: Path, digest: str) -> dict[str, list[Any]] | None:
    """The files behind a fingerprint: path to bytes and hash; None when nobody knows them any more."""
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        return None
    content = read_checked(str(output / ".data" / f"{digest}.json"), lambda content: type(content["files"]) is dict, [])
    return content["files"] if content else None
