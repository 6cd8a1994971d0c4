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
  130  stopped by Ctrl-C; 143: by SIGTERM; 129: by a closed terminal

Examples:
  exp new 001/003 --from 001   # a parameter set: exp/003.yaml of 001-baseline
  exp check                    # is every parameter set valid?
  exp board                    # every run, best first
  exp board --help             # all that a command can do, with examples
"""

from __future__ import annotations

import gc
import inspect
import json
import re
import sys
from functools import partial
from typing import Any

import click
from rich.table import Table

from expkit.errors import CAUGHT, CONTROL, escape_unprintable, new_console, print_line, report
from expkit.store import run_names


class Group(click.Group):
    """Commands in the order in which they were added; Ctrl-C ends them with 130."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)  # Click would exit with 1


console = new_console()
app = Group("exp", help=__doc__, context_settings={"show_default": True})
ORDER = "new check try board show diff note log submit blend unlock oof reproduce fetch data clean remove docs kaggle"
RUN_HELP = "<experiment>/<run>, a folder, or any part of the name that no other run has."


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The runs whose names begin so."""
    return run_names(incomplete)


run_argument = partial(click.argument, help=RUN_HELP, shell_complete=complete_runs)
seeds_flag = click.option("--seeds", is_flag=True, help="All runs that differ from the named ones only in their seed.")
all_flag = click.option("--all", "everything", is_flag=True, help="With --json: every key.")
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")


def json_text(content: Any, exact: bool = False) -> str:
    """JSON on one line; what would control a terminal, or what stdout cannot print, is escaped.

    Args:
        exact: all digits of every number; else 6 significant ones, but of values of the configuration.
    """
    is_utf = str(sys.stdout.encoding).lower().startswith("utf")
    content = content if exact else _rounded(content)
    options: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": not is_utf, "allow_nan": False}
    printed = json.dumps(content, default=str, **options)
    return re.sub(CONTROL, lambda found: f"\\u{ord(found[0]):04x}", printed)


def print_json(content: Any, exact: bool = False) -> None:
    """Print `json_text`."""
    print(json_text(content, exact))


def print_result(content: Any, as_json: bool, *lines: str | Table) -> None:
    """Print what a command has done: as JSON, or lines and tables for a person."""
    if as_json:
        return print_json(content)
    for line in lines:
        print_line(console, line) if isinstance(line, str) else console.print(line)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: one if str(key).startswith("exp.") else _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def manual(docstring: str | None) -> tuple[str, str]:
    """The help of a command, from its docstring; and its epilog, the last paragraph, which are the examples.

    A paragraph with a line that begins with spaces is a table: its lines stay as they are.
    """
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    *text, examples = [f"\b\n{part}" if "\n  " in part else part for part in paragraphs]
    return "\n\n".join(text), examples


from expkit.cli import kaggle, results, work  # noqa: E402, F401 - they import what is above, and add commands to it

app.commands = {name: app.commands[name] for name in sorted(app.commands, key=ORDER.split().index)}
for command in (app, *app.commands.values(), *kaggle.group.commands.values()):
    command.help, command.epilog = manual(command.help)


def main() -> None:
    """Run the command; an error that its user can fix is one line."""
    escape_unprintable()
    gc.set_threshold(100_000)  # the records of many runs are no garbage: looking for it was a third of the board's time
    try:
        app()
    except CAUGHT as error:
        sys.exit(report(error))
    finally:
        gc.freeze()  # the end of the process collects no garbage, either
