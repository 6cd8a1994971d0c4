"""The command `exp`: start experiments, and find out what came of them."""

from __future__ import annotations

import csv
import io
import sys
import time
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from expkit.cli_combine import Run, as_json_text
from expkit.cli_combine import app as combining
from expkit.errors import plain, report, require, warn
from expkit.inspect import beside
from expkit.inspect import board as boards
from expkit.inspect.board import MOST_ROWS, Row, find_run, read_board
from expkit.inspect.loaded import position
from expkit.inspect.show import HEADINGS, board_table, cells, show_run
from expkit.inspect.words import new_console, score_text
from expkit.paths import experiment_names, full_name, output_dir, shown
from expkit.record import HISTORY, RESULT

app = typer.Typer(
    help="Start experiments, and find out what came of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(combining)
console = new_console()


def main() -> None:
    """Run the command; an error that its user can mend is one line."""
    try:
        app()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report(error))


def _experiments(incomplete: str) -> list[str]:
    return [name for name in experiment_names() if name.startswith(incomplete)]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="`larger-model`, or `001/003` for a parameter set of 001-baseline")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="What to copy: an experiment, or a parameter set", autocompletion=_experiments),
    ] = None,
    framework: Annotated[
        str | None, typer.Option(help="Begin with the baseline of this one: sklearn, torch, lightgbm")
    ] = None,
) -> None:
    """A new experiment, copied from the last one, or a new parameter set.

    `exp new larger-model` makes `experiments/002-larger-model`; `exp new 001/003 --from 001` makes
    `experiments/001-baseline/exp/003.yaml`. Copy what is to change; share in your package in `src/` what is to stay the
    same in all experiments.
    """
    from expkit.config.new import missing_packages, new_experiment, new_parameter_set

    experiment, slash, parameter_set = name.partition("/")
    require(framework is None or (source is None and not slash), "--framework is for a new experiment without --from")
    if slash:
        made = new_parameter_set(full_name(experiment), parameter_set, source)
        train, options = made.parents[1] / "train.py", f" exp={made.stem}"
    else:
        made, left_out = new_experiment(name, source, framework)
        train, options = made / "train.py", ""
        for checked in left_out:
            warn(f"left out the parameter set {checked.parameter_set}: {checked.problem}")
    console.print(f"made {shown(made)}; next:", markup=False)
    if framework and (packages := missing_packages(framework)):
        quoted = " ".join(f"'{package}'" for package in packages)
        console.print(f"  uv add {quoted}", markup=False, soft_wrap=True)
    console.print(f"  uv run python {shown(train)}{options} show_config=true", markup=False, soft_wrap=True)
    console.print(f"  uv run python {shown(train)}{options} exp.debug=true", markup=False, soft_wrap=True)


@app.command()
def check(
    experiments: Annotated[
        list[str] | None, typer.Argument(help="Which experiments; all of them by default", autocompletion=_experiments)
    ] = None,
) -> None:
    """Compose every parameter set of every experiment, without training. Exit code 1 when one does not."""
    from expkit.config.check import check_all

    found = check_all([full_name(name) for name in experiments or []] or None)
    bad = [checked for checked in found if checked.problem]
    table = Table("experiment", "parameter set", "name", "", box=None, pad_edge=False)
    for checked in found if len(found) <= MOST_ROWS else bad:
        state = Text(checked.problem, "red") if checked.problem else Text("ok", "green")
        table.add_row(checked.experiment, checked.parameter_set, checked.name or "", state)
    if table.row_count:
        console.print(table)
    console.print(f"{len(found) - len(bad)} of {len(found)} parameter sets are fine", markup=False)
    raise typer.Exit(1 if bad else 0)


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
        if not history.with_name(RESULT).exists() and time.time() - history.stat().st_mtime < 600:
            marks.append(f"{history.parent.name} in {position(history) or 'training'}")
    return marks


@app.command()
def show(run: Run) -> None:
    """One run whole: its configuration, its folds, how to make it again, and its learning curve."""
    show_run(console, find_run(run))


@app.command()
def diff(run: Run, other: Run) -> None:
    """What differs between two runs: configuration, scores of the folds, data, packages, code."""
    from expkit.inspect.compare import show_diff

    show_diff(console, find_run(run), find_run(other))


@app.command()
def oof(
    run: Run,
    test: Annotated[bool, typer.Option("--test", help="The test predictions of `fold.save_test` instead")] = False,
) -> None:
    """The out-of-fold predictions of a run as CSV, in the order of the ids: `exp oof 001-larger-lr > oof.csv`."""
    import numpy

    from expkit.inspect.loaded import LoadedRun
    from expkit.tables import write_csv

    loaded = LoadedRun(find_run(run))
    if test:
        folds: list[int | None] = [None] if loaded.record.recipe else [*loaded.folds]  # a blend has one for all folds
        parts = [(number, loaded.test(number)) for number in folds]
        names = list(parts[0][1]) if parts else []
        table = {name: numpy.concatenate([part[name] for _, part in parts]) for name in names}
        if parts and folds != [None]:
            table["fold"] = numpy.concatenate([numpy.full(len(part["id"]), number) for number, part in parts])
    else:
        table = loaded.oof
    require(bool(table), f"{shown(loaded.folder)} has no finished fold")
    write_csv(sys.stdout, table)


@app.command()
def reproduce(run: Run) -> None:
    """Train the finished folds of a run again, from the snapshot of its code. Exit code 1 when they differ."""
    from expkit.inspect.reproduce import reproduce as train_again

    folder = find_run(run)
    with console.status(f"training {folder.parent.name}/{folder.name} again"):
        again = train_again(folder)
    console.print(str(again), markup=False)
    raise typer.Exit(0 if again.identical else 1)


if __name__ == "__main__":
    main()
