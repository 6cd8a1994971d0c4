"""What a reader at the terminal sees: text without control characters, numbers, times."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from expkit.errors import plain


def new_console() -> Console:
    """For stdout, as wide as the terminal; a file has room for whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def text(content: object, style: str = "") -> Text:
    """What a file says, without what would control the terminal."""
    return Text(plain(content), style)


def score_text(score: float | None, std: float | None = None) -> str:
    """A score, and its deviation, as the board has them."""
    if score is None:
        return ""
    number = f"{score:.4f}" if abs(score) < 1e6 else f"{score:.6g}"
    return number if std is None else f"{number} ± {std:.4f}" if std < 1e6 else f"{number} ± {std:.6g}"


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
