"""The commands of `exp` that look at runs: one, two beside each other, one trained again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from expkit.cli.shared import Run, as_json_text
from expkit.errors import require
from expkit.inspect.about import about_run
from expkit.inspect.find import find_run
from expkit.inspect.loaded import LoadedRun
from expkit.inspect.show import show_run
from expkit.inspect.words import new_console
from expkit.paths import shown

app = typer.Typer()
console = new_console()


@app.command()
def show(
    run: Run, as_json: Annotated[bool, typer.Option("--json", help="As JSON, with the points of the curve")] = False
) -> None:
    """One run whole: its configuration, its folds, how to make it again, and its learning curve."""
    folder = find_run(run)
    if as_json:
        print(as_json_text(about_run(LoadedRun(folder))))
    else:
        show_run(console, folder)


@app.command()
def diff(
    run: Run,
    other: Run,
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Compare each with the runs that differ from it only in their seed")
    ] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Resample the out-of-fold rows, however long it takes")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a key for each part")] = False,
) -> None:
    """What differs between two runs: configuration, scores, data, packages, code; and whether the second is better."""
    from expkit.inspect.compare import compare, show_diff
    from expkit.inspect.paired import paired_by_seed

    pairs = paired_by_seed(run, other) if seeds else [(find_run(run), find_run(other))]
    found = compare(pairs, bootstrap, color=not as_json)
    if as_json:
        print(as_json_text(found))
    else:
        show_diff(console, found)


@app.command()
def oof(
    run: Run,
    test: Annotated[bool, typer.Option("--test", help="The test predictions of `fold.save_test` instead")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: a list for each column")] = False,
) -> None:
    """The out-of-fold predictions of a run as CSV, in the order of the ids: `exp oof 001-larger-lr > oof.csv`."""
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
        write_csv(sys.stdout, table)


@app.command()
def reproduce(
    run: Run, as_json: Annotated[bool, typer.Option("--json", help="As JSON: what differs, and the reasons")] = False
) -> None:
    """Train the finished folds of a run again, from the snapshot of its code. Exit code 1 when they differ."""
    from expkit.inspect.reproduce import reproduce as train_again

    folder = find_run(run)
    with console.status(f"training {folder.parent.name}/{folder.name} again"):
        again = train_again(folder)
    if as_json:
        print(as_json_text({"identical": again.identical, **asdict(again)}))
    else:
        console.print(str(again), markup=False)
    raise typer.Exit(0 if again.identical else 1)
