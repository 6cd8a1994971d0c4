"""Kaggle: from the data to the leaderboard.

It needs `uv sync --extra kaggle`, and a token of kaggle.com/settings/api, in KAGGLE_API_TOKEN or
~/.kaggle/access_token.

Examples:
  exp kaggle download digit-recognizer    # the data, to input/
  exp kaggle download --help              # all that a command can do
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from expkit.cli import Json, as_json_text, console, manual
from expkit.cli.work import warned
from expkit.errors import print_line, warn
from expkit.project import display_path, input_dir
from expkit.store import load_run, run_names

FILE_HELP = "A run, as for exp submit; or a file that exp submit has made."
OF_HELP = "By default, the one whose data exp kaggle download has brought."
Of = Annotated[str | None, typer.Option("--competition", metavar="NAME", help=OF_HELP)]
Competition = Annotated[str, typer.Argument(metavar="COMPETITION", help="The end of its address on kaggle.com.")]


def download(
    competition: Competition,
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

    with console.status(f"downloading {competition}"):
        record = kaggle.download(competition, again)
    if as_json:
        print(as_json_text(record))
        return
    folder, files, when = display_path(input_dir() / competition), record["files"], record["downloaded"]
    size = decimal(sum(size for size, _ in files.values()))
    print_line(console, f"{folder}: {len(files)} files, {size}, downloaded {when}; --again looks for newer ones")


def submit(
    run: Annotated[str, typer.Argument(metavar="RUN", help=FILE_HELP, autocompletion=run_names)],
    message: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="Its description.")] = None,
    competition: Of = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make and check it; send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a run to its competition, and note its public score.

    The file is that of `exp submit RUN`. It is sent when it fits the sample, and submissions are left today. The
    same command sends nothing twice: after an interruption, it waits for the score.

    Examples:
      exp kaggle submit 002-larger-model --dry-run
      exp kaggle submit 002-larger-model -m "wider"
    """
    from expkit import kaggle
    from expkit.submission import choose
    from expkit.submission import submit as write

    if run.endswith(".csv"):
        file = Path(run)
    else:
        named = load_run(run)
        file, _ = write([named], [choose(named)], [warned(named)])
    about = kaggle.made_before(file)
    first = about["runs"][0]
    competition = competition or kaggle.competition_of(load_run(first["run"]).scored_by)
    if not about["sample"]:
        warn(f"its data have no sample_submission.csv to hold {display_path(file)} against")
    api = kaggle.connect()
    if dry_run:
        left = kaggle.left_today(api, competition)
        if as_json:
            print(as_json_text({"competition": competition, "path": str(file), "left": left}))
        else:
            print_line(console, f"{display_path(file)} can be sent to {competition}: {left} are left today")
        return
    text = message or f"{' + '.join(each['run'] for each in about['runs'])}, CV {first['metric']} {first['score']}"
    with console.status(f"sending {file.name}") as status:
        signature = kaggle.sign(about, about["sha256"][:8])
        call = partial(api.competition_submit, str(file), competition=competition, quiet=True)
        number = kaggle.send(api, competition, text, signature, call)
        scored = kaggle.wait_for_score(api, competition, number, status.update)
    _say(kaggle.note_scores(competition, [scored]), as_json)


def scores(competition: Of = None, as_json: Json = False) -> None:
    """Note the public scores of all submissions on their runs.

    A score finds its run by what `exp kaggle submit` wrote into the description. Each is noted once. Says when the CV
    scores and the leaderboard put runs in another order.

    Examples:
      exp kaggle scores
    """
    from expkit import kaggle

    competition = competition or kaggle.competition_of()
    _say(kaggle.note_scores(competition, kaggle.sent(kaggle.connect(), competition)), as_json)


def _say(found: list[dict[str, Any]], as_json: bool) -> None:
    """Print what `note_scores` has done, and where CV and leaderboard part."""
    from expkit import kaggle

    parted = kaggle.disagreements()
    if as_json:
        print(as_json_text({"submissions": found, "disagreements": parted}))
        return
    for each in found:
        state = each["problem"] or ("noted" if each["is_new"] else "noted before")
        print_line(console, f"{each['run'] or '?'}: submission {each['submission']} {each['score']}, {state}")
    if not found:
        print_line(console, "no submission there was sent by exp kaggle submit")
    for line in parted:
        warn(line)


app: typer.Typer = typer.Typer(no_args_is_help=True, rich_markup_mode=None, **manual(__doc__))
for command in (download, submit, scores):
    app.command(**manual(command.__doc__))(command)
