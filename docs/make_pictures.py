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
from rich.console import Console
from rich.text import Text

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
PICTURES = {"board": ("exp board", 128), "show": ("exp show 002-larger-model", 96)}  # columns of the terminal


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
        for name, (words, width) in PICTURES.items():
            command = ["script", "-qec", f"stty cols {width}; uv run -q {words}", "/dev/null"]  # in a terminal
            printed = subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.PIPE)
            draw(name, words, printed.stdout.decode(), width)


def draw(name: str, words: str, printed: str, width: int) -> None:
    console = Console(record=True, width=width, file=open(os.devnull, "w"), force_terminal=True, highlight=False)
    console.print(f"$ uv run {words}", style="bold green")
    console.print(Text.from_ansi(printed.replace("\r\n", "\n").rstrip()))
    console.save_svg(str(DOCS / f"{name}.svg"), title=f"exp {name}", unique_id=f"expkit-{name}")


if __name__ == "__main__":
    main()
