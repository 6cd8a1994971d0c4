"""What the scripts of this folder share: their arguments, and two calls in turns."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import in_turns  # noqa: E402

__all__ = ["answer", "arguments", "in_turns"]


def arguments(*names: str) -> argparse.Namespace:
    """The arguments of a script: those named, and --repeat."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(name)
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


def answer(found: Any) -> None:
    """Print what has been found, as the last line."""
    print(json.dumps(found))
