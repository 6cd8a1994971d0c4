"""Kaggle: from the data to the leaderboard.

It needs `uv sync --extra kaggle`, and a token of kaggle.com/settings/api, in KAGGLE_API_TOKEN or
~/.kaggle/access_token.

Examples:
  exp kaggle download digit-recognizer    # the data, to input/
  exp kaggle download --help              # all that a command can do
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from expkit.cli import Json, Run, as_json_text, console, manual
from expkit.cli.work import warned
from expkit.errors import print_line, warn
from expkit.project import display_path, input_dir
from expkit.store import load_run, run_names

FILE_HELP = "A run, as for exp submit; or a file that exp submit has made."
WITH_HELP = "Another package that the experiment imports and Kaggle's image lacks. Repeatable."
OF_HELP = "By default, the one whose data exp kaggle download has brought."
Of = Annotated[str | None, typer.Option("--competition", metavar="NAME", help=OF_HELP)]


def download(
    competition: Annotated[str, typer.Argument(metavar="COMPETITION", help="The end of its address on kaggle.com.")],
    again: Annotated[bool, typer.Option("--again", help="Also when the files are there: they may be newer.")] = False,
    as_json: Json = False,
) -> None:
    """Download the data of a competition into input/.

    After an interruption, the same command goes on where it stopped. A file that you have edited is never replaced.
    What came, with sizes and hashes, is in .download.json beside the files.

    Examples:
      exp kaggle download digit-recognizer    # to input/digit-recognizer/
    """
    from expkit import kaggle

    record = kaggle.download(competition, again)
    folder, sizes = display_path(input_dir() / competition), [size for size, _ in record["files"].values()]
    what = f"{folder}: {len(sizes)} files, {decimal(sum(sizes))}, downloaded {record['downloaded']}"
    _print(record, as_json, f"{what}; --again looks for newer ones")


def submit(
    run: Annotated[str, typer.Argument(metavar="RUN", help=FILE_HELP, autocompletion=run_names)],
    message: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="Its description.")] = None,
    competition: Of = None,
    kernel: Annotated[bool, typer.Option("--kernel", help="The notebook that exp kaggle push has made of it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make and check it; send nothing.")] = False,
    as_json: Json = False,
) -> None:
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
        made = kaggle.pushed_before(found, competition)
    else:
        file = Path(run)
        if file.suffix != ".csv":
            found = load_run(run)
            file, _ = submission.submit([found], [submission.choose(found)], [warned(found)])
        made = kaggle.made_before(file)
        competition = competition or kaggle.competition_of(load_run(made["runs"][0]["run"]).scored_by)
    api, what = kaggle.connect(), made["what"]
    if dry_run:
        left = kaggle.left_today(api, competition)
        said = f"{what} can be sent to {competition}: {left} are left today"
        return _print({"competition": competition, "what": what, "left": left}, as_json, said)
    with console.status(f"sending {what}") as status:
        scored = kaggle.submit(api, competition, made, message, status.update)
    _print_scores(kaggle.note_scores(competition, [scored]), as_json)


def push(
    run: Run,
    more: Annotated[list[str] | None, typer.Option("--with", metavar="PACKAGE", help=WITH_HELP)] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="The notebook runs on a GPU.")] = False,
    competition: Of = None,
    as_json: Json = False,
) -> None:
    """Bring a run to Kaggle as a notebook without internet, for a code competition.

    A private dataset holds the models of its folds, the code of its snapshot, and the packages that Kaggle's image
    lacks. The notebook predicts the test set that it finds there, by load, predict and load_data (or load_test) of the
    experiment's model.py. Before the upload, the same is done here.

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
        pushed = kaggle.push(api, found, competition, more or [], gpu, status.update)
    what = f"version {pushed['version']} of the notebook runs: {pushed['url']}"
    _print(pushed, as_json, what, f"next: exp kaggle submit {found.title} --kernel")


def scores(competition: Of = None, as_json: Json = False) -> None:
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

    lines = []
    for each in found:
        state = each["problem"] or ("noted" if each["is_new"] else "noted before")
        lines.append(f"{each['run'] or '?'}: submission {each['submission']} {each['score']}, {state}")
    parted = disagreements()
    content = {"submissions": found, "disagreements": parted}
    _print(content, as_json, *(lines or ["no submission there was sent by exp kaggle submit"]))
    for line in parted:
        warn(line)


def _print(content: Any, as_json: bool, *lines: str) -> None:
    """Print what a command has done: as JSON, or lines for a person."""
    if as_json:
        print(as_json_text(content))
    else:
        for line in lines:
            print_line(console, line)


app: typer.Typer = typer.Typer(no_args_is_help=True, rich_markup_mode=None, **manual(__doc__))
for command in (download, submit, push, scores):
    app.command(**manual(command.__doc__))(command)
