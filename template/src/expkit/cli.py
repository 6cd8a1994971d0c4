"""The command `exp`: start experiments, and find out what came of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from expkit.cli_board import app as boarding
from expkit.cli_combine import app as combining
from expkit.cli_notes import app as noting
from expkit.cli_shared import Run, as_json_text
from expkit.errors import report, require, warn
from expkit.inspect.about import about_run
from expkit.inspect.board import MOST_ROWS
from expkit.inspect.find import find_run
from expkit.inspect.loaded import LoadedRun
from expkit.inspect.show import show_run
from expkit.inspect.words import new_console
from expkit.paths import experiment_names, full_name, shown

app = typer.Typer(
    help="Start experiments, and find out what came of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(boarding)
app.add_typer(combining)
app.add_typer(noting)
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
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON: a list, with the problem of each that has one")
    ] = False,
) -> None:
    """Compose every parameter set of every experiment, without training. Exit code 1 when one does not."""
    from expkit.config.check import check_all

    found = check_all([full_name(name) for name in experiments or []] or None)
    bad = [checked for checked in found if checked.problem]
    if as_json:
        print(as_json_text([asdict(checked) for checked in found]))
        raise typer.Exit(1 if bad else 0)
    table = Table("experiment", "parameter set", "name", "", box=None, pad_edge=False)
    for checked in found if len(found) <= MOST_ROWS else bad:
        state = Text(checked.problem, "red") if checked.problem else Text("ok", "green")
        table.add_row(checked.experiment, checked.parameter_set, checked.name or "", state)
    if table.row_count:
        console.print(table)
    console.print(f"{len(found) - len(bad)} of {len(found)} parameter sets are fine", markup=False)
    raise typer.Exit(1 if bad else 0)


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


if __name__ == "__main__":
    main()
