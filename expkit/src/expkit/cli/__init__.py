"""Start experiments, and see what came of them.

An experiment is a folder in experiments/, and a parameter set is a YAML file in its exp/ folder. A run is one
experiment with one configuration; its results are in output/. The train.py of an experiment trains its runs, and
`train.py --help` explains it. These commands do the rest, in the order of a day.

RUN is <experiment>/<run> as on the board, the folder of a run, or any part of its name that no other run has. The
examples name runs of the scikit-learn baseline; `exp board` lists yours.

Exit code:
  0    done
  1    begun, and failed
  2    refused: a mistake on the command line or in a file
  3    there is no such run, experiment or parameter set
  130  stopped by Ctrl-C

Examples:
  exp new 001/003 --from 001   # a parameter set: exp/003.yaml of 001-baseline
  exp check                    # is every parameter set valid?
  exp board                    # every run, best first
  exp board --help             # all that a command can do, with examples
"""

from __future__ import annotations

import sys

import typer

from expkit.cli import begin, combine, results
from expkit.cli.manual import Command, Group, manual
from expkit.errors import CAUGHT, escape_unprintable, report

app = typer.Typer(
    cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, **manual(__doc__)
)
for command in (
    begin.new,
    begin.check,
    results.board,
    results.show,
    results.diff,
    results.note,
    combine.submit,
    combine.blend,
    results.oof,
    results.reproduce,
    results.clean,
):
    extra = {"allow_extra_args": command is results.board}  # it says what to type
    app.command(cls=Command, context_settings=extra, **manual(command.__doc__))(command)


def main() -> None:
    """Run the command; an error that its user can fix is one line."""
    escape_unprintable()
    try:
        app()
    except CAUGHT as error:
        sys.exit(report(error))
