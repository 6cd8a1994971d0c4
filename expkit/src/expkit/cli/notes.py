"""The command `exp note`: what a person thinks of a run, before and after."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from expkit.cli.shared import RUN_HELP, as_json_text
from expkit.errors import require
from expkit.inspect.board import read_board
from expkit.inspect.find import run_names
from expkit.inspect.notes import about_notes, agreement, parameter_set_of, say_agreement, show_notes, titled
from expkit.inspect.words import new_console
from expkit.record import Notes, add_note, read_notes

console = new_console()


def note(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help=f"{RUN_HELP} Or a parameter set that is not trained yet, such as 001/002; or an experiment. By "
            "default, all notes are shown.",
            autocompletion=run_names,
        ),
    ] = None,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What you think of it.")] = None,
    hypothesis: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What you expect, before it is trained.")
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Your verdict: it is worth keeping.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="Your verdict: it is not.")] = False,
    leaderboard: Annotated[
        float | None, typer.Option("--lb", metavar="SCORE", help="The score on the leaderboard, a number.")
    ] = None,
    no_leaderboard: Annotated[bool, typer.Option("--no-lb", help="Take the leaderboard score back.")] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="A word to filter the board by. May be given several times."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Note what you expect of a run, and what came of it.

    Without anything to note, shows what was noted, also on runs that are deleted. With three leaderboard scores or
    more, it also says how well the CV scores agree with them. Notes are kept in notes/, which belongs in git.

    Examples:
      exp note 001/002 --hypothesis "a larger model scores higher"
      exp note 001/002 "no better, and slower" --dropped
      exp note 001/002 --lb 0.81              # --no-lb takes it back
      exp note                                # all notes
      exp board --filter verdict=dropped      # the runs with this verdict
    """
    require(not (kept and dropped), "give only one of --kept and --dropped")
    require(leaderboard is None or not no_leaderboard, "give only one of --lb and --no-lb")
    for word in tag or []:
        require(
            bool(word) and not any(c.isspace() or c in "#," for c in word),
            f"--tag must be one word, without # and comma, not {word!r}",
        )
    said = [text, hypothesis, *(tag or [])]  # in the C locale, letters have come as single bytes
    text, hypothesis, *tags = (each and os.fsencode(each).decode(errors="replace") for each in said)
    about: dict[str, Any] = {"text": text, "hypothesis": hypothesis, "leaderboard": leaderboard, "tags": tags}
    about["verdict"] = "kept" if kept else "dropped" if dropped else None
    about = {key: value for key, value in about.items() if value not in (None, [], "")}
    if no_leaderboard:
        about["leaderboard"] = None
    title = titled(run) if run is not None else None
    rows = {row.name: row for row in read_board()}
    if about and title:
        row = rows.get(title)
        if row is not None and row.score is not None:
            about |= {"id": row.id, "scores": {row.metric: row.score}}
        elif row is None and (parameter_set := parameter_set_of(title)) is not None:
            about["set"] = parameter_set
        add_note(title, about)
    found = read_notes()
    chosen = [found.get(title, Notes(title))] if title else list(found.values())
    if as_json:
        listed = [about_notes(each, rows.get(each.title)) for each in chosen]
        print(as_json_text({"runs": listed, "leaderboard": agreement(found.values(), rows)}))
        return
    for each in chosen:
        show_notes(console, each, rows.get(each.title))
    if not any(each.lines for each in chosen):
        console.print('nothing is noted yet: exp note RUN "..."', markup=False)
    say_agreement(console, agreement(found.values(), rows))
