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

from expkit.cli import Json, Run, as_json_text, console, manual
from expkit.cli.work import warned
from expkit.errors import print_line, require, warn
from expkit.project import display_path, input_dir
from expkit.store import load_run, run_names

FILE_HELP = "A run, as for exp submit; or a file that exp submit has made."
WITH_HELP = "Another package that the experiment imports and Kaggle's image lacks. Repeatable."
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
    from expkit import bundle, kaggle
    from expkit.submission import choose
    from expkit.submission import submit as write

    named = None if run.endswith(".csv") else load_run(run)
    pushed: dict[str, Any] = {}
    if named and kernel:
        competition = competition or kaggle.competition_of(named.scored_by)
        pushed = kaggle.pushed_before(bundle.folder_of(named, competition), named)
        runs: list[dict[str, Any]] = [
            {"run": named.title, "id": named.id, "metric": named.metric, "score": named.score}
        ]
        what, mark = f"version {pushed['version']} of {pushed['kernel']}", f"v{pushed['version']}"
    else:
        require(not kernel, f"--kernel takes a run, and not a file: {run}")
        file = write([named], [choose(named)], [warned(named)])[0] if named else Path(run)
        about = kaggle.made_before(file)
        runs, what, mark = about["runs"], display_path(file), about["sha256"][:8]
        competition = competition or kaggle.competition_of(load_run(runs[0]["run"]).scored_by)
        if not about["sample"]:
            warn(f"its data have no sample_submission.csv to hold {what} against")
    api = kaggle.connect()
    if dry_run:
        left = kaggle.left_today(api, competition)
        if as_json:
            print(as_json_text({"competition": competition, "what": what, "left": left}))
        else:
            print_line(console, f"{what} can be sent to {competition}: {left} are left today")
        return
    text = message or f"{' + '.join(each['run'] for each in runs)}, CV {runs[0]['metric']} {runs[0]['score']}"
    with console.status(f"sending {what}") as status:
        if pushed:
            kaggle.wait_for_notebook(api, pushed, status.update)
            call = partial(kaggle.submit_notebook, api, pushed, competition)
        else:
            call = partial(api.competition_submit, str(file), competition=competition, quiet=True)
        signature = kaggle.sign([each["id"] for each in runs], mark)
        number = kaggle.send(api, competition, text, signature, call)
        scored = kaggle.wait_for_score(api, competition, number, status.update)
    _say(kaggle.note_scores(competition, [scored]), as_json)


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
    from expkit import bundle, kaggle

    found = load_run(run)
    warned(found)
    competition = competition or kaggle.competition_of(found.scored_by)
    api = kaggle.connect()
    with console.status("making the bundle") as status:
        folder = bundle.make(found, competition, api.config_values["username"], more or [], gpu)
        pushed = kaggle.push(api, folder, found, status.update)
    if as_json:
        print(as_json_text(pushed))
        return
    print_line(console, f"version {pushed['version']} of the notebook runs: {pushed['url']}")
    print_line(console, f"next: exp kaggle submit {found.title} --kernel")


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
for command in (download, submit, push, scores):
    app.command(**manual(command.__doc__))(command)
