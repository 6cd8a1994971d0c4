"""What a user waits for, each over a floor and held against a target, measured side by side in one run.

    uv run python benchmarks/run.py                          # everything: about an hour on an idle machine
    uv run python benchmarks/run.py --only board --only check
    uv run python benchmarks/run.py --json results.json --markdown results.md

A ratio is of two medians; the repetitions of ours and of the floor take turns. README.md says what each row measures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import begin
import many
import peers
import torch_loop
import training
from measure import Place, Result, scratch

ROWS: dict[str, Callable[[Place], Iterator[Result]]] = {
    "start-up": begin.start_up,
    "first epoch": begin.first_epoch,
    "nothing to do": begin.nothing_to_do,
    "harness": training.harness,
    "rows": many.million_rows,
    "diff": many.comparison,
    "data": many.data_record,
    "tracking": training.tracking,
    "checkpoint": training.checkpoint,
    "folds": training.parallel_folds,
    "sweep": training.sweep,
    "short runs": many.short_runs,
    "torch": torch_loop.torch_loop,
    "board": many.board,
    "check": many.check,
    "snapshot": many.snapshot,
    "render": begin.render,
    "from nothing": begin.from_nothing,
    "peers": peers.peers,
}
HEAD = ["row", "what", "ours", "floor", "ratio", "target", "", "note"]


def machine() -> str:
    """Where this was measured, and how busy it is."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    busy = "" if load < 0.5 else f"; load {load:.1f}: not idle, figures are too high"
    return f"Python {platform.python_version()}, {platform.system()}, {cores} cores{busy}"


def table(found: list[Result]) -> str:
    """A Markdown table."""
    lines = [HEAD, ["---"] * len(HEAD), *(result.cells() for result in found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="ROW", help=f"one of: {', '.join(ROWS)}; several times")
    parser.add_argument("--repeat", type=int, default=9, help="repetitions of what is short (default: 9)")
    parser.add_argument("--json", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the table")
    parser.add_argument("--torch-python", type=Path, help="for the row torch: a Python that has all that it needs")
    options = parser.parse_args()
    if unknown := [name for name in options.only or () if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    before, found = machine(), list[Result]()
    print(f"{before}\n", file=sys.stderr)
    with scratch() as folder:
        place = Place(Path(folder), options.repeat, options.torch_python)
        for name in options.only or ROWS:
            for result in ROWS[name](place):
                print(" | ".join(result.cells()), file=sys.stderr, flush=True)
                found.append(result)
    print(f"{before}\n\n{table(found)}")
    if options.json:
        content = {"machine": before, "rows": [result.plain() for result in found]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(f"{before}\n\n{table(found)}\n")


if __name__ == "__main__":
    main()
