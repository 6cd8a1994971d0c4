"""The submissions that `exp submit` has made: output/submissions/<name>.csv, and what it was made of in <name>.json."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expkit import files
from expkit.record.layout import SUBMISSIONS


def write_submission(output: Path, title: str, text: str, about: Mapping[str, Any]) -> Path:
    """Write a submission, and a JSON file that says what it is made of. The same one again is the same file.

    Args:
        title: begins its name; a hash of the content ends it, so that another content never takes its place.
        text: the CSV file.

    Returns:
        the CSV file.

    Raises:
        Error: output/submissions is no folder.
    """
    folder = output / SUBMISSIONS
    files.make_folder(folder)
    content = hashlib.sha256(text.encode()).hexdigest()
    file = folder / f"{title}_{content[:8]}.csv"
    files.write_text(file, text)
    files.write_json(file.with_suffix(".json"), {"file": file.name, "sha256": content, **about})
    return file
