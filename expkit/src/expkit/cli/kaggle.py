"""Kaggle: from the data to the leaderboard.

It needs `uv sync --extra kaggle`, and a token of kaggle.com/settings/api, in KAGGLE_API_TOKEN or
~/.kaggle/access_token.

Examples:
  exp kaggle download digit-recognizer    # the data, to input/
  exp kaggle download --help              # all that a command can do
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.filesize import decimal

from expkit.cli import Json, as_json_text, console, manual
from expkit.errors import print_line
from expkit.project import display_path, input_dir

Competition = Annotated[str, typer.Argument(metavar="COMPETITION", help="The end of its address on kaggle.com.")]


def download(
    competition: Competition,
    again: Annotated[bool, typer.Option("--again", help="Also when the files are there: they may be newer.")] = False,
    as_json: Json = False,
) -> None:
    """Download the data of a competition into input/.

    After an interruption, the same command goes on where it stopped. A file that you have edited is never replaced.
    What came, with sizes and hashes, is in .download.json beside the files.

    Examples:
      exp kaggle download digit-recognizer    # to input/digit-recognizer/
    """
    from expkit import kaggle

    with console.status(f"downloading {competition}"):
        record = kaggle.download(competition, again)
    if as_json:
        print(as_json_text(record))
        return
    folder, files, when = display_path(input_dir() / competition), record["files"], record["downloaded"]
    size = decimal(sum(size for size, _ in files.values()))
    print_line(console, f"{folder}: {len(files)} files, {size}, downloaded {when}; --again looks for newer ones")


app: typer.Typer = typer.Typer(no_args_is_help=True, rich_markup_mode=None, **manual(__doc__))
for command in (download,):
    app.command(**manual(command.__doc__))(command)
