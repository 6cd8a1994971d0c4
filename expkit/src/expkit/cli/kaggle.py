"""Kaggle: from the data to the leaderboard.

It needs `uv sync --extra kaggle`, and a token of kaggle.com/settings/api, in KAGGLE_API_TOKEN or
~/.kaggle/access_token.

Examples:
  exp kaggle download digit-recognizer    # the data, to input/
  exp kaggle download --help              # all that a command can do
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal

from expkit.cli import Group, app, console, json_flag, print_result, run_argument
from expkit.cli.work import warned
from expkit.errors import Error, warn
from expkit.project import display_path, input_dir
from expkit.store import load_run

FILE_HELP = "A run, as for exp submit; or a file that exp submit has made."
WITH_HELP = "Another package that the experiment imports and Kaggle's image lacks. Repeatable."
OF_HELP = "By default, the one whose data exp kaggle download has brought."

group: Group = Group("kaggle", help=__doc__)
app.add_command(group)
competition_option = click.option("--competition", metavar="NAME", help=OF_HELP)


@group.command()
@click.argument("competition", help="The end of its address on kaggle.com.")
@json_flag
def download(competition: str, as_json: bool) -> None:
    """Download the data of a competition into input/.

    After an interruption, the same command goes on where it stopped. A file that is there is never replaced. What
    came, with sizes and hashes, is in .download.json beside the files.

    Examples:
      exp kaggle download digit-recognizer    # to input/digit-recognizer/
    """
    from expkit import kaggle

    record = kaggle.download(competition)
    folder, sizes = display_path(input_dir() / competition), [size for size, _ in record["files"].values()]
    what = f"{folder}: {len(sizes)} files, {decimal(sum(sizes))}, downloaded {record['downloaded']}"
    print_result(record, as_json, what)


@group.command()
@run_argument("run", help=FILE_HELP)
@click.option("-m", "--message", help="Its description.")
@competition_option
@click.option("--kernel", is_flag=True, help="The notebook that exp kaggle push has made of it.")
@click.option("--dry-run", is_flag=True, help="Make and check it; send nothing.")
@json_flag
def submit(run: str, message: str | None, competition: str | None, kernel: bool, dry_run: bool, as_json: bool) -> None:
    """Submit a run to its competition, and note its public score.

    The file is that of `exp submit RUN`. It is sent when it fits the sample, and submissions are left today. The
    same command sends nothing twice: after an interruption, it waits for the score.

    Examples:
      exp kaggle submit 002-larger-model --dry-run
      exp kaggle submit 002-larger-model -m "wider"
      exp kaggle submit 002-larger-model --kernel    # after exp kaggle push
    """
    from expkit import kaggle, submission

    if kernel:
        found = load_run(run)
        competition = competition or kaggle.competition_of(found.scored_by)
        made = kaggle.pushed_before(found)
    else:
        file = Path(run)
        if file.suffix != ".csv":
            found = load_run(run)
            file, _ = submission.submit([found], [submission.choose(found)], [warned(found)])
        made = kaggle.made_before(file)
        competition = competition or kaggle.competition_of(load_run(made["runs"][0]["run"]).scored_by)
    what = made["what"]
    about = {"competition": competition, "what": what, "left": None}
    try:
        api = kaggle.connect()
    except Error as error:
        if not dry_run:
            raise
        return print_result(about, as_json, f"{what} is made and checked; Kaggle was not asked: {error}")
    if dry_run:
        left = kaggle.left_today(api, competition)
        said = f"{what} can be sent to {competition}: {left} are left today"
        return print_result(about | {"left": left}, as_json, said)
    with console.status(f"sending {what}") as status:
        scored = kaggle.submit(api, competition, made, message, status.update)
    _print_scores(kaggle.note_scores(competition, [scored]), as_json)


@group.command()
@run_argument("run")
@click.option("--with", "more", multiple=True, metavar="PACKAGE", help=WITH_HELP)
@click.option("--gpu", is_flag=True, help="The notebook runs on a GPU.")
@competition_option
@json_flag
def push(run: str, more: tuple[str, ...], gpu: bool, competition: str | None, as_json: bool) -> None:
    """Bring a run to Kaggle as a notebook without internet.

    For a code competition. A private dataset holds the models of its folds, the code of its snapshot, and the packages
    that Kaggle's image lacks. The notebook predicts the test set that it finds there, by load, predict and load_data
    (or load_test) of the experiment's model.py. Before the upload, the same is done here.

    Examples:
      exp kaggle push 002-larger-model
      exp kaggle push 002-larger-model --gpu --with timm==1.0.9
    """
    from expkit import kaggle

    found = load_run(run)
    warned(found)
    competition = competition or kaggle.competition_of(found.scored_by)
    api = kaggle.connect()
    with console.status("making the bundle") as status:
        pushed = kaggle.push(api, found, competition, more, gpu, status.update)
    what = f"version {pushed['version']} of the notebook runs: {pushed['url']}"
    print_result(pushed, as_json, what, f"next: exp kaggle submit {found.title} --kernel")


@group.command()
@competition_option
@json_flag
def scores(competition: str | None, as_json: bool) -> None:
    """Note the public scores of all submissions on their runs.

    A score finds its run by what `exp kaggle submit` wrote into the description. Each is noted once. Says when the CV
    scores and the leaderboard put runs in another order.

    Examples:
      exp kaggle scores
    """
    from expkit import kaggle

    competition = competition or kaggle.competition_of()
    _print_scores(kaggle.note_scores(competition, kaggle.sent(kaggle.connect(), competition)), as_json)


def _print_scores(found: list[dict[str, Any]], as_json: bool) -> None:
    """Print what `note_scores` has done, and where CV and leaderboard part."""
    from expkit.kaggle import disagreements

    lines = [] if found else ["no submission there was sent by exp kaggle submit"]
    for each in found:
        state = each["problem"] or ("noted" if each["is_new"] else "noted before")
        lines.append(f"{each['run'] or '?'}: submission {each['submission']} {each['score']}, {state}")
    parted = disagreements()
    print_result({"submissions": found, "disagreements": parted}, as_json, *lines)
    for line in parted:
        warn(line)
