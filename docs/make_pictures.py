"""Make the pictures of the README from real runs of the baseline.

    uv run python docs/make_pictures.py

Renders a project, trains in it, and writes docs/board.svg and docs/show.svg: what `exp board` and `exp show` print.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import copier

DOCS = Path(__file__).parent
ALL_FOLDS = "exp.fold=[0,1,2,3,4]"
RUNS = [
    ["exp=001", ALL_FOLDS],
    ["exp=002", ALL_FOLDS],
    ["exp=001", "exp.train.learning_rate=0.01", ALL_FOLDS],
    ["exp=001", "exp.train.batch_size=128", ALL_FOLDS],
    ["exp=002", "exp.seed=1", "exp.fold=[0,1,2]"],
    [],
]
DRAW = """
import os
import sys
from pathlib import Path
from rich.console import Console
from expkit import load_run, read_board
from expkit.board import board_table, ranked
from expkit.show import show_run

for name in ("board", "show"):
    width = 128 if name == "board" else 96
    console = Console(record=True, width=width, file=open(os.devnull, "w"), force_terminal=True, highlight=False)
    if name == "board":
        console.print("$ uv run exp board", style="bold green")
        console.print(board_table(ranked(read_board()), console.width))
    else:
        console.print("$ uv run exp show 002-larger-model", style="bold green")
        show_run(console, load_run("001-baseline/002-larger-model"))
    console.save_svg(str(Path(sys.argv[1]) / f"{name}.svg"), title=f"exp {name}", unique_id=f"expkit-{name}")
"""


def main() -> None:
    environment = os.environ | {"WANDB_MODE": "disabled"}
    environment.pop("VIRTUAL_ENV", None)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "myproj")
        copier.run_copy(str(DOCS.parent), project, defaults=True, quiet=True, vcs_ref="HEAD")
        subprocess.run(["uv", "sync", "-q"], cwd=project, env=environment, check=True)
        author = ["-c", "user.name=Me", "-c", "user.email=me@example.com"]
        for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "feat: start"]):
            subprocess.run(["git", *command], cwd=project, check=True)
        for arguments in RUNS:
            command = ["uv", "run", "-q", "python", "experiments/001-baseline/train.py", *arguments]
            subprocess.run(command, cwd=project, env=environment, check=True)
        subprocess.run(["uv", "run", "-q", "python", "-c", DRAW, DOCS], cwd=project, env=environment, check=True)


if __name__ == "__main__":
    main()
