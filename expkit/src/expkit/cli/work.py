"""The commands of `exp` that work with configurations: new, check, and reproduce, which trains a run again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from expkit.board import MOST_ROWS
from expkit.cli import Run, as_json_text
from expkit.config import parameter_sets
from expkit.errors import Error, new_console, require, warn
from expkit.notes import add_note
from expkit.project import display_path, experiment_dir, experiment_names, full_name
from expkit.store import find_run, load_run, run_names

if TYPE_CHECKING:
    from expkit.new import Checked

console = new_console()


def _experiments(incomplete: str) -> list[str]:
    return [name for name in experiment_names() if name.startswith(incomplete)]


def _sources(incomplete: str) -> list[str]:
    return [*_experiments(incomplete), *run_names(incomplete)]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new experiment; or EXPERIMENT/PARAMETER_SET.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="An experiment or, for a parameter set, another one or a run.",
            autocompletion=_sources,
        ),
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Begin with the baseline of a framework: sklearn, torch or lightgbm."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: what was made, and the next commands.")] = False,
) -> None:
    """Make a new experiment or a new parameter set.

    A new experiment is a copy of another one, by default of the last one, with the next number. A new parameter set is
    a YAML file in exp/ of its experiment; by default, it changes nothing yet. From a run, it has the values that differ
    from config.yaml: so the best trial of a study becomes a parameter set. A note remembers where each comes from.
    Results are never copied.

    Examples:
      exp new larger-model                    # a copy of the last experiment
      exp new other-loss --from 001           # a copy of 001-baseline
      exp new trees --framework lightgbm      # a new start, with LightGBM
      exp new 001/003 --from 001              # a copy of a parameter set
      exp new 001/004 --from 001-larger-lr    # a parameter set from a run
    """
    from expkit.new import missing_packages

    experiment, slash, parameter_set = name.partition("/")
    require(
        framework is None or (source is None and not slash),
        "--framework begins a new experiment: give it without --from, and not for a parameter set",
    )
    left_out: list[Checked] = []
    if slash:
        made = _parameter_set(full_name(experiment), parameter_set, source)
        train, options = made.parents[1] / "train.py", f" exp={made.stem}"
    else:
        made, left_out = _experiment(name, source, framework)
        train, options = made / "train.py", ""
    needs = missing_packages(framework) if framework else []
    commands = [f"uv add {' '.join(map(repr, needs))}"] if needs else []
    commands += [
        f"uv run python {display_path(train)}{options} {end}" for end in ("show_config=true", "exp.debug=true")
    ]
    if as_json:
        about = {"left_out": [asdict(checked) for checked in left_out], "needs": needs, "next": commands}
        print(as_json_text({"path": display_path(made), **about}))
        return
    for checked in left_out:
        warn(f"left out the parameter set {checked.parameter_set}: {checked.problem}")
    for line in [f"made {display_path(made)}; next:", *(f"  {command}" for command in commands)]:
        console.print(line, markup=False, soft_wrap=True)


def _experiment(name: str, source: str | None, framework: str | None) -> tuple[Path, list[Checked]]:
    from expkit.new import new_experiment

    last = next(reversed(experiment_names()), "")
    made, left_out = new_experiment(name, source, framework)
    origin = f"the baseline of {framework}" if framework else full_name(source) if source else last
    add_note(f"{made.name}/", {"origin": origin})
    return made, left_out


def _parameter_set(experiment: str, name: str, source: str | None) -> Path:
    from expkit.new import new_parameter_set, parameter_set_from_run

    known = parameter_sets(experiment_dir(experiment))[1:]
    if source is None or source in known:
        made = new_parameter_set(experiment, name, source)
        origin = f"{experiment}/{source}" if source else f"{experiment}/config.yaml"
    else:
        try:
            run = load_run(source)
        except Error as error:
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise type(error)(f"{experiment} has no parameter set {source}; {there}; and {error}") from error
        made, origin = parameter_set_from_run(experiment, name, run), run.title
    add_note(f"{experiment}/{name}", {"origin": origin, "set": name})
    return made


def check(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXPERIMENT", help="Which ones; by default, all of them.", autocompletion=_experiments),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: each parameter set, and its problem.")] = False,
) -> None:
    """Check that every parameter set is valid.

    Composes each configuration as train.py would: from its classes, config.yaml and exp/NNN.yaml. Nothing is trained.
    The exit code is 1 when one of them has a problem.

    Examples:
      exp check        # all experiments
      exp check 001    # 001-baseline alone
    """
    from expkit.new import check_all

    found = check_all([full_name(name) for name in experiments or []] or None)
    bad = [checked for checked in found if checked.problem]
    if as_json:
        print(as_json_text([asdict(checked) for checked in found]))
        raise typer.Exit(1 if bad else 0)
    table = Table("experiment", "parameter set", "name", "", box=None, pad_edge=False)
    for checked in found if len(found) <= MOST_ROWS else bad:
        state = Text(checked.problem, "red") if checked.problem else Text("ok", "green")
        if checked.same_as:
            state = Text(f"ok, the same configuration as {checked.same_as}", "yellow")
        table.add_row(checked.experiment, checked.parameter_set, checked.name or "", state)
    if table.row_count:
        console.print(table)
    console.print(f"{len(found) - len(bad)} of {len(found)} parameter sets are fine", markup=False)
    raise typer.Exit(1 if bad else 0)


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
    from expkit.reproduction import reproduce as train_again

    folder = find_run(run)
    with console.status(f"training {folder.parent.name}/{folder.name} again"):
        again = train_again(folder)
    if as_json:
        print(as_json_text({"identical": again.identical, **asdict(again)}))
    else:
        console.print(str(again), markup=False)
    raise typer.Exit(0 if again.identical else 1)
