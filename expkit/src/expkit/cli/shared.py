"""What the commands of `exp` share: how a run is named, and JSON."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any

import typer

from expkit.errors import CONTROL, plain
from expkit.find import run_names
from expkit.train.history import number_of

RUN_HELP = "<experiment>/<run>, a folder, or any part of the name that no other run has."
Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=run_names)]
Runs = Annotated[list[str], typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=run_names)]
FORMULA = ("=", "+", "-", "@")


def as_json_text(content: Any) -> str:
    """As other programs read it; what would control a terminal, or what stdout cannot print, is escaped."""
    is_utf = str(sys.stdout.encoding).lower().startswith("utf")
    printed = json.dumps(content, indent=2, ensure_ascii=not is_utf, allow_nan=False, default=str)
    return re.sub(CONTROL, lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", printed)


def as_cell(value: Any) -> Any:
    """A value as CSV for people has it: nothing that controls a terminal, and no text that a spreadsheet calculates.

    A spreadsheet takes text that begins with = + - or @, and is no number, for a formula: such text gets a ' before it.
    """
    if not isinstance(value, str):
        return value
    cell = plain(value)
    return f"'{cell}" if cell[:1] in FORMULA and number_of(cell) is None else cell
