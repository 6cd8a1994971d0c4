"""`fold.checkpoint.save` of 100 MB, over writing the same and flushing it to the disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy
from common import answer, arguments, in_turns


def main() -> None:
    args = arguments()
    folder = Path(tempfile.mkdtemp(dir="output")).resolve()
    from expkit.checkpoint import Checkpoint

    state = numpy.random.default_rng(0).random(100_000_000 // 8)
    kept = Checkpoint(folder, dict)

    def write(file: Path) -> None:
        try:
            import torch
        except ImportError:
            with open(file, "wb") as stream:
                numpy.save(stream, state)
        else:
            torch.save(torch.from_numpy(state), file)

    def plain() -> Any:
        write(folder / "plain")
        with open(folder / "plain", "rb+") as stream:
            os.fsync(stream.fileno())

    answer(in_turns((lambda: kept.save(write), plain), args.repeat))


main()
