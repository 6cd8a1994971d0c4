"""The command `exp board`: every run and its score."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from expkit.cli_combine import as_json_text
from expkit.errors import plain, require
from expkit.inspect import beside
from expkit.inspect import board as boards
from expkit.inspect.board import MOST_ROWS, Row, read_board
from expkit.inspect.loaded import position
from expkit.inspect.show import HEADINGS, board_table, cells
from expkit.inspect.words import new_console, score_text
from expkit.paths import output_dir, shown
from expkit.record import FAILED, HISTORY, RESULT

app = typer.Typer()
console = new_console()


@app.command()
def board(
    sort: Annotated[str, typer.Option(help="A column or a configuration key; -KEY the other way round")] = "score",
    filter: Annotated[
        list[str] | None,
        typer.Option(help="`score>0.97`, `learning_rate=0.003`, or a part of a name; may be given several times"),
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the N runs that finished last")] = None,
    seeds: Annotated[bool, typer.Option("--seeds", help="Runs that differ only in their seed as one row")] = False,
    everything: Annotated[bool, typer.Option("--all", help=f"More than the first {MOST_ROWS} rows")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with the configuration")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, with the configuration")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="As a Markdown table")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the runs that are under way; Ctrl-C ends it")] = False,
) -> None:
    """Every run and its score, best first; those with missing folds after those that have all."""
    require(sum([as_json, as_csv, as_markdown, watch]) <= 1, "give one of --json, --csv, --md and --watch")

    def rows() -> list[Row]:
        found = boards.filtered(read_board(), filter or [])
        if seeds:
            found = beside.grouped_by_seed(found)
        if last is not None:
            found = boards.ordered(found, "-finished")[:last]
        return boards.ordered(beside.with_other_rows(found), sort)

    if watch:
        _watch(rows)
        return
    found = rows()
    if as_json:
        print(as_json_text([row.values() for row in found]))
    elif as_csv:
        print(_csv(found), end="")
    elif as_markdown:
        print(_markdown(found))
    elif not found:
        console.print(_nothing(bool(filter)), markup=False)
    else:
        shown_rows = found if everything else found[:MOST_ROWS]
        console.print(board_table(shown_rows, console.width))
        if len(found) > len(shown_rows):
            console.print(f"{len(found) - len(shown_rows)} more: --all, --last N or --filter", markup=False)


def _nothing(is_filtered: bool) -> str:
    if is_filtered and read_board():
        return "no run meets the filter"
    return f"no runs yet in {shown(output_dir())}: uv run python experiments/001-baseline/train.py"


def _csv(rows: list[Row]) -> str:
    table = [{plain(name): _cell(value) for name, value in row.values().items()} for row in rows]
    names = list(dict.fromkeys(name for line in table for name in line))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    return plain(value) if isinstance(value, str | list | dict) else value


def _markdown(rows: list[Row]) -> str:
    others = list(dict.fromkeys(name for row in rows for name in row.other_metrics))
    lines = [[*cells(row).values(), *(score_text(row.other_metrics.get(name)) for name in others)] for row in rows]
    headings = [*HEADINGS, *map(plain, others)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in [headings, *lines]]
    return "\n".join(f"| {' | '.join(line)} |" for line in [escaped[0], ["---"] * len(headings), *escaped[1:]])


def _watch(rows: Any) -> None:
    """The board, twice a second, with the folds that are in training."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            current = [replace(row, marks=(*_under_way(row), *row.marks)) for row in rows()]
            live.update(
                board_table(current[:MOST_ROWS], console.width) if current else Text(_nothing(False)), refresh=True
            )
            time.sleep(0.5)


def _under_way(row: Row) -> list[str]:
    """The folds of a run that a process is training now: those with a history and no result, changed of late."""
    marks = []
    for history in sorted(row.folder.glob(f"*/{HISTORY}")):
        ended = any(history.with_name(name).exists() for name in (RESULT, FAILED))
        if not ended and time.time() - history.stat().st_mtime < 600:
            marks.append(f"{history.parent.name} in {position(history) or 'training'}")
    return marks
