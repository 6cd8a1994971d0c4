"""The command `exp note`: what a person thinks of a run, before and after."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from expkit.cli.shared import RUN_HELP, as_json_text
from expkit.errors import require
from expkit.inspect.board import read_board
from expkit.inspect.find import run_names
from expkit.inspect.notes import about_notes, agreement, say_agreement, show_notes, titled
from expkit.inspect.words import new_console
from expkit.record import Notes, add_note, read_notes

app = typer.Typer()
console = new_console()


@app.command()
def note(
    run: Annotated[
        str | None,
        typer.Argument(
            help=f"{RUN_HELP}; a parameter set that is not trained yet, as 001/002; or an experiment",
            autocompletion=run_names,
        ),
    ] = None,
    text: Annotated[str | None, typer.Argument(help="What to note")] = None,
    hypothesis: Annotated[str | None, typer.Option(help="What is expected, before it is trained")] = None,
    kept: Annotated[bool, typer.Option("--kept", help="The verdict: it is worth keeping")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="The verdict: it is not")] = False,
    leaderboard: Annotated[float | None, typer.Option("--lb", help="The score on the leaderboard")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to filter by; may be given several times")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
) -> None:
    """Note what you think of a run; without anything to note, show what was noted, also on runs that are deleted.

    `exp note 001/002 --hypothesis "a wider network is better"`, `exp note 001/002 "no better" --dropped`,
    `exp note 001/002 --lb 0.81`, `exp note`. The notes lie in `notes/`, for git.
    """
    require(not (kept and dropped), "--kept or --dropped, not both")
    for word in tag or []:
        require(bool(word) and not any(c.isspace() or c in "#," for c in word), f"--tag {word!r}: one word")
    about: dict[str, Any] = {"text": text, "hypothesis": hypothesis, "leaderboard": leaderboard, "tags": tag}
    about["verdict"] = "kept" if kept else "dropped" if dropped else None
    about = {key: value for key, value in about.items() if value not in (None, [], "")}
    title = titled(run) if run is not None else None
    rows = {row.name: row for row in read_board()}
    if about and title:
        row = rows.get(title)
        if row is not None and row.score is not None:
            about |= {"id": row.id, "scores": {row.metric: row.score}}
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
