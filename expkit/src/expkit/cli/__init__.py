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

import inspect
import json
import re
import sys
from typing import Annotated, Any

import typer

from expkit.errors import CAUGHT, CONTROL, escape_unprintable, new_console, report, strip_control
from expkit.store import number_of, run_names

console = new_console()
RUN_HELP = "<experiment>/<run>, a folder, or any part of the name that no other run has."
Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=run_names)]
Runs = Annotated[list[str], typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=run_names)]
Seeds = Annotated[bool, typer.Option("--seeds", help="All runs that differ from the named ones only in their seed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
All = Annotated[bool, typer.Option("--all", help="With --json: every key.")]
FORMULA = ("=", "+", "-", "@")


def as_json_text(content: Any, exact: bool = False) -> str:
    """As other programs read it, on one line; what would control a terminal, or what stdout cannot print, is escaped.

    Args:
        exact: all digits of every number; else 6 significant ones, but of values of the configuration.
    """
    is_utf = str(sys.stdout.encoding).lower().startswith("utf")
    content = content if exact else _rounded(content)
    options: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": not is_utf, "allow_nan": False}
    printed = json.dumps(content, default=str, **options)
    return re.sub(CONTROL, lambda found: f"\\u{ord(found[0]):04x}", printed)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: one if str(key).startswith("exp.") else _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def as_cell(value: Any) -> Any:
    """A value as CSV for people has it: nothing that controls a terminal, and no text that a spreadsheet calculates.

    A spreadsheet takes text that begins with = + - or @, and is no number, for a formula: such text gets a ' before it.
    """
    if not isinstance(value, str):
        return value
    cell = strip_control(value)
    return f"'{cell}" if cell[:1] in FORMULA and number_of(cell) is None else cell


def manual(docstring: str | None) -> dict[str, Any]:
    """The help of a command, from its docstring: `help`; and `epilog`, the last paragraph, which are the examples.

    A paragraph with a line that begins with spaces is a table: its lines stay as they are.
    """
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    *text, examples = [f"\b\n{part}" if "\n  " in part else part for part in paragraphs]
    return {"help": "\n\n".join(text), "epilog": examples}


from expkit.cli import kaggle, results, work  # noqa: E402 - they import what is above

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, **manual(__doc__))
for command in (
    work.new,
    work.check,
    work.attempt,
    results.board,
    results.show,
    results.diff,
    results.note,
    results.log,
    work.submit,
    work.blend,
    work.unlock,
    results.oof,
    work.reproduce,
    work.fetch,
    results.data,
    results.clean,
    results.remove,
    work.docs,
):
    app.command({"attempt": "try"}.get(command.__name__), **manual(command.__doc__))(command)
app.add_typer(kaggle.app, name="kaggle")


def main() -> None:
    """Run the command; an error that its user can fix is one line."""
    escape_unprintable()
    try:
        app()
    except CAUGHT as error:
        sys.exit(report(error))
