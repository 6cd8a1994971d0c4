"""The command `exp`: start experiments, and find out what came of them."""

from __future__ import annotations

import sys

import typer

from expkit.cli import begin, board, clean, combine, look, notes
from expkit.errors import escape_unprintable, report

app = typer.Typer(
    help="Start experiments, and find out what came of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for part in (begin, board, look, notes, combine, clean):
    app.add_typer(part.app)


def main() -> None:
    """Run the command; an error that its user can mend is one line."""
    escape_unprintable()
    try:
        app()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report(error))
