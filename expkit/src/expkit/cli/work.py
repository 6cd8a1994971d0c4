"""The commands of `exp` that make something: an experiment, a parameter set, a run again, a submission, a blend."""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expkit.board import find_seeds, read_board
from expkit.cli import app, complete_runs, console, json_flag, print_json, print_result, run_argument, seeds_flag
from expkit.config import parameter_sets
from expkit.errors import Error, NotFound, instead, print_line, require, score_text, warn
from expkit.files import first_line
from expkit.notes import add_note, openings, openings_text, set_metadata
from expkit.project import display_path, experiment_dir, experiment_names, full_name
from expkit.show import MOST_ROWS, blend_metadata, changed_since, show_blend
from expkit.store import find_run, fold_title, has_box, load_run, run_names

if TYPE_CHECKING:
    from expkit import store

# The guides, in the wheel; in a working tree of expkit.
_DOCS = [Path(__file__).parents[1] / "docs", Path(__file__).parents[4] / "docs"]
GUIDES = {file.stem: file for folder in _DOCS for file in sorted(folder.glob("*.md"))}
FRAMEWORKS = ["sklearn", "torch", "lightgbm"]
SOURCE_HELP = "An experiment or a run; for a parameter set, another one or a run."
PART_HELP = "folds, by default if all have some: the mean of test predictions. full: the training on all rows."
BASE_HELP = "The run to change, or to compare with."
SEEDS_HELP = "Train both with so many seeds, on other folds."
IDEA_HELP = "KEY=VALUE with --from; or an experiment, 003, or one of its parameter sets, 001/004."
METHOD_HELP = "mean: of the predictions. rank: of their ranks. hill: hill climbing finds the weights that score best."


def _experiments(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in experiment_names() if name.startswith(incomplete)]


def _sources(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [*_experiments(context, parameter, incomplete), *run_names(incomplete)]


@app.command()
@click.argument("name", help="The new experiment; or EXPERIMENT/PARAMETER_SET.")
@click.option("--from", "source", metavar="SOURCE", help=SOURCE_HELP, shell_complete=_sources)
@click.option("--framework", type=click.Choice(FRAMEWORKS), help="Begin with the baseline of a framework.")
@json_flag
def new(name: str, source: str | None, framework: str | None, as_json: bool) -> None:
    """Make a new experiment or a new parameter set.

    A new experiment is a copy of another one, by default of the last one, with the next number. Of the parameter sets,
    it gets that of the best run, or of the run that --from names; all of them, while nothing is trained. A new
    parameter set is a YAML file in exp/ of its experiment; by default, it changes nothing yet. From a run, it has the
    values that differ from config.yaml: so the best trial of a study becomes a parameter set. A note remembers where
    each comes from. Results are never copied.

    Examples:
      exp new larger-model                    # a copy of the last experiment
      exp new other-loss --from 001           # of 001-baseline, as its best run
      exp new my-loss --from 001-larger-lr    # as this run
      exp new trees --framework lightgbm      # a new start, with LightGBM
      exp new 001/003 --from 001              # a copy of a parameter set
      exp new 001/004 --from 001-larger-lr    # a parameter set from a run
    """
    from expkit.new import missing_packages

    experiment, slash, parameter_set = name.partition("/")
    is_new = "--framework begins a new experiment: give it without --from, and not for a parameter set"
    require(framework is None or (source is None and not slash), is_new)
    if slash:
        made, origin = _parameter_set(full_name(experiment), parameter_set, source)
        train = f"{display_path(made.parents[1] / 'train.py')} exp={made.stem}"
        idea = f"{made.parents[1].name}/{made.stem}"
    else:
        made, origin = _experiment(name, source, framework)
        idea = made.name
        sets = parameter_sets(made)[1:]
        train = " ".join([display_path(made / "train.py"), *(f"exp={each}" for each in sets if len(sets) == 1)])
    needs = missing_packages(framework) if framework else []
    commands = [f"uv add {' '.join(map(repr, needs))}"] if needs else []
    commands += [f"uv run python {train} {option}" for option in ("show_config=true", "exp.debug=true")]
    commands += [] if framework else [f'uv run exp try {idea} --why "..."']
    lines = [f"made {display_path(made)} from {origin}; next:", *(f"  {command}" for command in commands)]
    print_result({"path": display_path(made), "needs": needs, "next": commands}, as_json, *lines)


def _experiment(name: str, source: str | None, framework: str | None) -> tuple[Path, str]:
    from expkit.new import new_experiment
    from expkit.tries import best_first

    experiment, start = full_name(source) if source else next(reversed(experiment_names()), ""), None
    if framework is None and experiment in experiment_names():
        start = next(iter(best_first(experiment)), None)
    elif source:
        with suppress(NotFound):  # what is no run either, is said to be no experiment
            start = load_run(source)
            experiment = start.experiment
    made = new_experiment(name, experiment or None, framework, start)
    origin = start.title if start else f"the baseline of {framework}" if framework else experiment
    add_note(f"{made.name}/", {"origin": origin})
    return made, origin


def _parameter_set(experiment: str, name: str, source: str | None) -> tuple[Path, str]:
    from expkit.new import new_parameter_set, parameter_set_from_run

    known, run = parameter_sets(experiment_dir(experiment))[1:], None
    source = {f"{experiment}/{each}": each for each in known}.get(source or "", source)
    if source is not None and source not in known:
        try:
            run = load_run(source)
        except Error as error:
            none = f"{experiment} has no parameter set {source}{instead(source, known)}"
            raise type(error)(f"{none}; and {error}") from error
    made = parameter_set_from_run(experiment, name, run) if run else new_parameter_set(experiment, name, source)
    origin = run.title if run else f"{experiment}/{source or 'config.yaml'}"
    add_note(f"{experiment}/{name}", {"origin": origin, **set_metadata(experiment, name)})
    return made, origin


@app.command()
@click.argument(
    "guide", required=False, type=click.Choice(list(GUIDES)), metavar="[GUIDE]", help="One that exp docs lists."
)
@json_flag
def docs(guide: str | None, as_json: bool) -> None:
    """Print a guide of this version; it needs no network.

    Examples:
      exp docs              # the guides, and the folder to search in
      exp docs many-runs    # one of them
    """
    if guide:
        found = GUIDES[guide].read_text(encoding="utf-8")
        return print_result({"text": found}, as_json, *found.splitlines())
    titles = {each: first_line(file).removeprefix("# ") for each, file in GUIDES.items()}
    folder = str(next(iter(GUIDES.values())).parent)
    lines = [f"{each:15} {title}" for each, title in titles.items()]
    print_result({"guides": titles, "folder": folder}, as_json, *lines, f"in {folder}")


@app.command()
@click.argument("experiments", nargs=-1, help="By default, all.", shell_complete=_experiments)
@json_flag
def check(experiments: tuple[str, ...], as_json: bool) -> None:
    """Check that every parameter set is valid.

    Composes each configuration as train.py would: from its classes, config.yaml and exp/NNN.yaml. Nothing is trained.
    The exit code is 1 when one of them has a problem.

    Examples:
      exp check        # all experiments
      exp check 001    # 001-baseline alone
    """
    from expkit.new import check_experiment

    names = [full_name(name) for name in experiments] or experiment_names()
    found = [checked for name in names for checked in check_experiment(name)]
    bad = [checked for checked in found if checked.problem]
    lines = []
    for checked in found if len(found) <= MOST_ROWS else bad:
        state = f"ok, the same configuration as {checked.same_as}" if checked.same_as else "ok"
        lines.append(f"{checked.experiment}/{checked.parameter_set}: {checked.problem or state}")
    fine = f"{len(found) - len(bad)} of {len(found)} parameter sets are fine"
    print_result([asdict(checked) for checked in found], as_json, *lines, fine)
    sys.exit(1 if bad else 0)


@app.command("try")
@click.argument("idea", nargs=-1, required=True, help=IDEA_HELP)
@click.option("--why", default="", show_default=False, help="What you expect of it; needed.")
@click.option("--from", "source", metavar="RUN", help=BASE_HELP, shell_complete=complete_runs)
@click.option("--seeds", default=1, type=click.IntRange(1), metavar="N", help=SEEDS_HELP)
@click.option("--fold", type=click.IntRange(0), metavar="N", help="Train this fold alone, for a cheap look; or first.")
@click.option("--stop-if-worse", "stops", is_flag=True, help="All folds, unless the first, or --fold, is worse.")
@json_flag
def attempt(
    idea: tuple[str, ...], why: str, source: str | None, seeds: int, fold: int | None, stops: bool, as_json: bool
) -> None:
    """Train one idea, compare it, and note what came of it.

    IDEA is what changes in the run of --from, KEY=VALUE, for which a new parameter set is written; or an experiment or
    a parameter set that you have made and edited. The steps are those of exp new, exp note, train.py with
    exp.debug=true, then with all folds, and exp diff. Folds and seeds that its base lacks are trained, too.
    exp.time_limit=10m and exp.runtime... are for these trainings alone, in no parameter set.

    After an interruption, the same command goes on. What was tried before is said before anything is trained.

    Examples:
      exp try --from 001-larger-lr train.hidden=128 --why "wider is better"
      exp try 001/002 --from 001-larger-lr --why "a larger model" --seeds 2
      exp try 001/002 --from 001-larger-lr --why "larger" --stop-if-worse
      exp try 002 --from 001-larger-lr exp.time_limit=10m --why "another loss"
    """
    from expkit import tries

    words = " ".join([*(("--from", source) if source else ()), *idea])
    require(bool(why), f'say what you expect: exp try {words} --why "a wider layer scores higher"')
    names, changes = [word for word in idea if "=" not in word], [word for word in idea if "=" in word]
    require(len(names) < 2, f"{' '.join(names)}: one experiment or parameter set at a time")
    require(bool(names) or source is not None, f"{idea[0]}: say with --from RUN what to change")
    made = tries.edited(names[0], source, changes) if names else tries.changed_run(source or "", changes, fold)
    for line in (known := made.known(seeds)):
        warn(line)
    found = tries.attempt(made, why, fold, seeds, stops)
    print_result(found | {"known": known}, as_json, *tries.format_attempt(found))


@app.command()
@run_argument("run")
@click.option("--parents", is_flag=True, help="First the runs that it was made from.")
@json_flag
def reproduce(run: str, parents: bool, as_json: bool) -> None:
    """Train a run again from its snapshot, and compare.

    Trains the finished folds again, with the code of their snapshot and the recorded configuration. Prints "identical",
    or what differs and the likely reasons. The run stays as it is. The exit code is 1 when something differs.

    The runs that it has read must be as they were. A blend is computed again.

    Examples:
      exp reproduce 001-larger-lr              # takes as long as the training did
      exp reproduce 001-larger-lr --parents    # first the runs that it has read
    """
    from expkit.reproduction import reproduce as train_again

    folder = find_run(run)
    with console.status(f"training {folder.parent.name}/{folder.name} again"):
        again = train_again(folder, parents)
    print_result({"identical": again.identical, **asdict(again)}, as_json, *str(again).splitlines())
    sys.exit(0 if again.identical else 1)


@app.command()
@click.argument("source", metavar="HOST:PATH", help="A project, HOST as ssh calls it.")
@json_flag
def fetch(source: str, as_json: bool) -> None:
    """Bring the results of another machine's project home.

    Brings the folds that are done there and missing here, with the snapshots of their code and their offline W&B runs.
    It may be interrupted and repeated, also while trainings run there. A run of both machines becomes one when
    configuration, code and data are the same. Else nothing of it comes, a line says why, and the exit code is 1.

    Examples:
      exp fetch gpu:myproj            # over ssh, from the home folder there
      exp fetch /mnt/other/myproj     # from another folder of this machine
    """
    from expkit.fetch import fetch as bring

    with console.status(f"fetching from {source}"):
        found = bring(source)
    lines = [f"{title}: {', '.join(folds)}" for title, folds in found["runs"].items()]
    print_result(found, as_json, *lines, f"{len(lines)} run{'s' * (len(lines) != 1)} with new folds")
    for line in (*found["notes"], *found["refused"]):
        warn(line)
    sys.exit(1 if found["refused"] else 0)


@app.command()
@run_argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--from", "part", type=click.Choice(["folds", "full"]), help=PART_HELP)
@seeds_flag
@click.option("--partial", is_flag=True, help="Take the folds that are done; others may be missing.")
@json_flag
def submit(runs: tuple[str, ...], part: str | None, seeds: bool, partial: bool, as_json: bool) -> None:
    """Write a submission from a run, or from the mean of several.

    The CSV file is written to output/submissions/, and a JSON file beside it says what it is made of. Where input/ has
    a sample_submission.csv, it must have the same columns and rows; nan and inf are refused.

    Examples:
      exp submit 001-larger-lr                      # the mean of its folds
      exp submit 001-larger-lr 002-larger-model     # the mean of two runs
      exp submit 001-larger-lr --seeds              # the mean of all its seeds
    """
    from expkit.submission import choose
    from expkit.submission import submit as write

    named = [run for name in runs for run in (find_seeds(name) if seeds else [load_run(name)])]
    found = list({run.folder: run for run in named}.values())
    parts = [choose(run, part, partial) for run in found]
    file, made = write(found, parts, [warned(run) for run in found])
    lines = []
    for run, folds in zip(found, parts, strict=True):
        scored = "no score" if run.score is None else f"{run.kind} {run.metric} {score_text(run.score, run.std)}"
        used = "the blend" if run.recipe else ", ".join(fold_title(fold.number, run.n_folds) for fold in folds)
        lines.append(f"{run.title}: test predictions of {used}  {scored}")
    lines += [f"{name}: {how}" for name, how in made["columns"].items()]
    fits = f"fits {made['sample']}" if made["sample"] else "there is no sample_submission.csv among its data"
    lines += [f"{made['rows']} rows; {fits}", f"wrote {display_path(file)}"]
    if made["rules"]:
        warn(made["rules"])
    print_result({"path": str(file), **made}, as_json, *lines)


@app.command()
@run_argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--method", type=click.Choice(["mean", "rank", "hill"]), default="mean", help=METHOD_HELP)
@click.option("--name", metavar="NAME", help="By default, made of the names of its runs.")
@json_flag
def blend(runs: tuple[str, ...], method: str, name: str | None, as_json: bool) -> None:
    """Combine the predictions of runs into a new run.

    The blend is a run in output/blends/, with a score on the board. Each fold is predicted with weights that were
    fitted on the other folds: the score is as honest as a CV score. The runs must have the same rows, targets and
    metric.

    Examples:
      exp blend 001-larger-lr 002-larger-model
      exp blend 001-larger-lr 002-larger-model --method hill --name best-two
      exp submit best-two    # a blend is a run like any other
    """
    from expkit.ensemble import blend as make
    from expkit.submission import rules_of

    found = list(map(load_run, runs))
    for run in found:
        warned(run)
    made, notes = make(found, method, name)
    best_of = partial(max if made.greater_is_better else min, key=lambda run: run.score)  # each has one
    best = best_of(found)
    rules = rules_of(found)
    for note in (*(notes or ()), *([rules] if rules else [])):
        warn(note)
    if as_json:
        about = {"run": made.title, "folder": made.folder, "metric": made.metric, "score": made.score}
        print_json(about | {"best_run": best.title, "best_score": best.score, "rules": rules} | blend_metadata(made))
        return
    if notes is None:
        print_line(console, f"{made.title} is done")
    show_blend(console, made)
    word, test = "no better", ""
    if best_of([best, made]) is made:
        by = abs((made.score or 0) - (best.score or 0))
        word = f"{'higher' if made.greater_is_better else 'lower'} by {score_text(by)}"
        test = f"; or noise? exp diff {best.title} {made.title}"
    known = "".join(f" ({mark})" for mark in best.leaks)
    scored = f"{score_text(best.score, best.std)}{known}"
    print_line(console, f"{word} than the best of its runs, {best.title}: {scored}{test}")
    print_line(console, f"results: {display_path(made.folder)}")


@app.command()
@run_argument("run")
@click.option("--yes", is_flag=True, help="Show the score, and note who looked.")
@json_flag
def unlock(run: str, yes: bool, as_json: bool) -> None:
    """Show the score of a run in its locked box.

    exp.split.lockbox has set these rows aside: no fold was trained or scored on them, and no other command shows this
    score; a warning names runs without a box, which were. It is honest as long as nobody chooses by it: choose first,
    then look once. Each look is noted, and counts for all runs on these rows.

    The score is that of the mean prediction of all folds, as in a submission. CV scores are of single models, so they
    may rank two runs differently.

    Examples:
      exp unlock 001-larger-lr          # how often was it opened?
      exp unlock 001-larger-lr --yes    # look
    """
    from expkit.compare import unlock as score_box

    found = load_run(run)
    box = score_box(found)
    others = [each for each in read_board() if each.done and not each.recipe and not has_box(each.results)]
    if no_box := [each.title for each in others if each.given.ids == found.given.ids]:
        more = f" and {len(no_box) - 4} more" * (len(no_box) > 4)
        warn(f"{', '.join(no_box[:4])}{more}: without a locked box, so trained and scored on these rows")
    if yes:
        warned(found)
        try:
            by = getpass.getuser()
        except (KeyError, OSError):  # a container may have none
            by = "unknown"
        add_note(found.title, {"unlocked": found.given.ids, "by": by, "id": found.id})
    opened, rows = openings(found), f"the {box['rows']:,} rows of its locked box"
    lines = [f"--yes shows the score on {rows}, and notes that you looked; {openings_text(opened)}"]
    if yes:
        width = "no interval: {reason}" if "reason" in box else "95 % interval {low:.4g} to {high:.4g}"
        how = f"mean of {box['models']} models; {width.format_map(box)}"
        single = f"single models: {score_text(box['single'])}, {found.kind} {score_text(found.score, found.std)}"
        lines = [f"{found.title}: {box['metric']} {score_text(box['score'])} ({how}) on {rows}"]
        lines += [f"{single}; {openings_text(opened)}"]
    about = (
        {"run": found.title, "opened": len(opened)}
        | ({"no_box": no_box} if no_box else {})
        | (box if yes else {"rows": box["rows"]})
    )
    print_result(about, as_json, *lines)


def warned(run: store.Run) -> list[str]:
    """What to know about a run, as it has been printed."""
    marks = [*run.marks, *changed_since(run)]
    for mark in marks:
        warn(f"{run.title}: {mark}")
    return marks
