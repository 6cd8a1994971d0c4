"""The command `exp board`: every run and its score."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer
from rich.live import Live

from expkit.cli.shared import as_json_text
from expkit.errors import require
from expkit.frames import position
from expkit.inspect import beside
from expkit.inspect.board import MOST_ROWS, Row, read_board
from expkit.inspect.order import filtered, key_of, ordered
from expkit.inspect.paired import against_best
from expkit.inspect.table import board_table, columns, hidden_keys
from expkit.inspect.words import new_console
from expkit.paths import output_dir, shown
from expkit.record import FAILED, HISTORY, RESULT

console = new_console()


def board(
    context: typer.Context,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="Sort by a column or a configuration key, such as seconds or learning_rate; -KEY reverses the order.",
        ),
    ] = "score",
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Show only runs of which this is true: KEY=VALUE (or !=, <, <=, >, >=), or a part of the name. May be "
            "given several times.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEYS",
            help="Configuration keys to show, separated by commas. By default, those in which the runs differ.",
        ),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show only the N runs that finished last.")
    ] = None,
    seeds: Annotated[
        bool,
        typer.Option("--seeds", help="Show runs that differ only in their seed as one row, with their mean score."),
    ] = False,
    noise: Annotated[
        bool,
        typer.Option(
            "--noise",
            help="Say of each run whether it is worse than the best run, or could be as good. The more runs there are, "
            "also hidden by --filter or --last, the larger a difference has to be.",
        ),
    ] = False,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="Show only runs in which a fold has failed, and why. A run that failed before any fold was done is "
            "shown only here.",
        ),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help=f"Show all rows, not only the first {MOST_ROWS}.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: all rows, with the configuration of each run.")
    ] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="Print a Markdown table of all rows.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show which folds are in training, and refresh until you press Ctrl-C.")
    ] = False,
) -> None:
    """List every run with its score, best first.

    The score is that of all out-of-fold rows, or the mean of the folds, as the experiment says. Runs with missing folds
    come after the complete ones. What you should know about a score stands beside it, such as "mixed code" or "other
    folds".

    Examples:
      exp board                            # every run, best first
      exp board --filter 'score>0.9' --filter 'seconds<600'
      exp board --last 10 --columns learning_rate,exp.seed
      exp board --sort -seconds            # the slowest first
      exp board --noise                    # which runs are as good as the best?
      exp board --json > board.json        # for a program
    """
    require(not context.args, f"exp board takes no name of a run: exp board --filter {' '.join(context.args[:1])}")
    require(sum([as_json, as_markdown, watch]) <= 1, "give only one of --json, --md and --watch")

    def rows(runs: list[Row]) -> list[Row]:
        found = filtered(
            [row for row in runs if (row.failure is not None if failed else not row.is_failed)], filter or []
        )
        found = beside.with_other_rows(found)
        if seeds:
            found = beside.grouped_by_seed(found)
        if last is not None:
            found = ordered(found, "-finished")[:last]
        if noise:
            found = against_best(found, beside.grouped_by_seed(runs) if seeds else runs)
        return ordered(found, sort)

    def chosen(found: list[Row]) -> list[str] | None:
        asked = [name for each in columns or [] for name in each.split(",") if name]
        return [key_of(name, found) for name in asked] or None

    if watch:
        _watch(rows, chosen)
        return
    runs = read_board()
    found = rows(runs)
    keys = chosen(found)
    if as_json:
        print(as_json_text([row.values() for row in found]))
    elif as_markdown:
        print(_markdown(found, keys))
    else:
        shown_rows = found if everything else found[:MOST_ROWS]
        if found:
            console.print(board_table(shown_rows, console.width, keys))
        lines = [] if found else [_nothing(runs, bool(filter), failed)]
        if len(found) > len(shown_rows):
            lines.append(f"{len(found) - len(shown_rows)} more: --all, --last N or --filter")
        if keys is None and (hidden := hidden_keys(shown_rows, console.width)):
            lines.append(f"no room for {', '.join(hidden)}: --columns {hidden[0]}, or a wider terminal")
        if counts := {row.metric: row.versus_runs for row in found if row.versus_runs}:
            told = ", ".join(f"{number} runs by {metric}" for metric, number in counts.items())
            lines.append(f"vs best: {told} taken into account")
        if not failed and (number := sum(row.is_failed for row in runs)):
            lines.append(f"{number} failed: --failed")
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)


def _nothing(runs: list[Row], is_filtered: bool, failed: bool) -> str:
    """Why there is no row."""
    if not runs:
        return f"no runs yet in {shown(output_dir())}: uv run python experiments/001-baseline/train.py"
    return "no run meets the filter" if is_filtered else "no run has failed" if failed else "no run has a result"


def _markdown(rows: list[Row], chosen: Sequence[str] | None) -> str:
    found = columns(rows, chosen)
    lines = [[column.heading for column in found], *zip(*(column.cells for column in found), strict=True)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [escaped[0], ["---"] * len(found), *escaped[1:]])


def _watch(rows: Callable[[list[Row]], list[Row]], chosen: Callable[[list[Row]], list[str] | None]) -> None:
    """The board, with the folds that are in training; it is read again so often that this costs little."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            start = time.process_time()
            runs = read_board()
            current = [replace(row, marks=(*_under_way(row), *row.marks)) for row in rows(runs)]
            table = (
                board_table(current[:MOST_ROWS], console.width, chosen(current))
                if current
                else _nothing(runs, False, False)
            )
            live.update(table, refresh=True)
            time.sleep(max(1.0, 24 * (time.process_time() - start)))  # 4 % of a core


def _under_way(row: Row) -> list[str]:
    """The folds of a run that a process is training now: those with a history and no result, changed of late."""
    if "pruned" in row.marks:
        return []
    marks = []
    for history in sorted(row.folder.glob(f"*/{HISTORY}")):
        with suppress(OSError):
            ended = any(os.path.lexists(history.with_name(name)) for name in (RESULT, FAILED))
            if not ended and time.time() - history.stat().st_mtime < 600:
                marks.append(f"{history.parent.name} in {position(history) or 'training'}")
    return marks
