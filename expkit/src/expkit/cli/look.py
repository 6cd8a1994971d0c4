"""The commands of `exp` that look at runs: one, two beside each other, one trained again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from expkit.cli.shared import RUN_HELP, Run, as_cell, as_json_text
from expkit.errors import require
from expkit.inspect.about import about_run
from expkit.inspect.find import find_run, run_names
from expkit.inspect.loaded import LoadedRun
from expkit.inspect.show import show_run
from expkit.inspect.words import new_console
from expkit.paths import shown

console = new_console()


def show(
    run: Run,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the numbers of the learning curve.")
    ] = False,
) -> None:
    """Show one run: configuration, folds, learning curve.

    Also what was noted on it, the command that trained it, and what has changed since.

    Examples:
      exp show 001-larger-lr           # a part of the name is enough
      exp show 001-baseline/001-larger-lr --json
    """
    folder = find_run(run)
    if as_json:
        print(as_json_text(about_run(LoadedRun(folder))))
    else:
        show_run(console, folder)


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=f"A run: {RUN_HELP}", autocompletion=run_names)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The run to compare it with.", autocompletion=run_names)],
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Compare all seeds of both: the runs that differ only in their seed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with a key for each part.")] = False,
) -> None:
    """Compare two runs: is NEW better than OLD, or is it noise?

    Shows what differs in configuration, scores, packages, data and code. The verdict is "better", "worse" or "could be
    noise", at 95 %. Two tests have to agree: one over the scores of the folds (corrected resampled t-test), and one
    over the out-of-fold rows (jackknife). One training of each is never enough: train several folds or seeds.

    It judges this pair alone. To pick the best of many runs, use exp board --noise.

    Examples:
      exp diff 001-larger-lr 002-larger-model
      exp diff 001-larger-lr 002-larger-model --seeds
    """
    from expkit.inspect.compare import compare, show_diff
    from expkit.inspect.paired import paired_by_seed

    pairs = paired_by_seed(old, new) if seeds else [(find_run(old), find_run(new))]
    found = compare(pairs, color=not as_json)
    if as_json:
        print(as_json_text(found))
    else:
        show_diff(console, found)


def oof(
    run: Run,
    test: Annotated[
        bool,
        typer.Option("--test", help="Print the predictions of the test set instead, which fold.save_test has kept."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list for each column.")] = False,
) -> None:
    """Print the out-of-fold predictions of a run as CSV.

    One line per row of the data, in the order of the ids: what the models predict that were not trained on the row.

    Examples:
      exp oof 001-larger-lr > oof.csv
      exp oof 001-larger-lr --test > test.csv
    """
    import numpy

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
    if as_json:
        print(as_json_text({name: column.tolist() for name, column in table.items()}))
    else:
        write_csv(sys.stdout, table, as_cell)


def reproduce(
    run: Run,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: what differs, and the likely reasons.")] = False,
) -> None:
    """Train a run again from its snapshot, and compare.

    Trains the finished folds again, with the code of their snapshot and the recorded configuration. Prints "identical",
    or what differs and the likely reasons. The run stays as it is. The exit code is 1 when something differs.

    Examples:
      exp reproduce 001-larger-lr      # takes as long as the training did
    """
    from expkit.inspect.reproduce import reproduce as train_again

    folder = find_run(run)
    with console.status(f"training {folder.parent.name}/{folder.name} again"):
        again = train_again(folder)
    if as_json:
        print(as_json_text({"identical": again.identical, **asdict(again)}))
    else:
        console.print(str(again), markup=False)
    raise typer.Exit(0 if again.identical else 1)
