"""The commands of `exp` for what came of a training: board, show, diff, oof, data, note, clean, remove."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal

from expkit import notes, store
from expkit.board import entries, filtered, is_failed, ranked, read_board
from expkit.clean import KINDS, leftovers, removal, remove_leftover, remove_run
from expkit.cli import all_flag, app, console, json_flag, json_text, print_json, print_result, run_argument, seeds_flag
from expkit.data import fetch_data, run_data
from expkit.errors import Error, plain_table, print_line, require, strip_control, warn
from expkit.noise import BETTER, against_another, best_of_many, luck_text
from expkit.project import display_path, output_dir
from expkit.show import MOST_ROWS, board_tables, row_keys, run_metadata, short_metadata, show_run, under_way
from expkit.store import STATE, fold_title, is_called, load_run, number_of

MOST_CHARACTERS = 6000  # of the JSON of a board, unless all is asked for
FILTER_HELP = "KEY=VALUE (or !=, <, <=, >, >=), or a part of the name. May be given repeatedly."
ALL_HELP = f"All rows, not only the first {MOST_ROWS}; with --json, every key and digit, too."
NOTED_HELP = "A run, a parameter set that is not trained yet, such as 001/002, or an experiment. By default, all."
yes_flag = click.option("--yes", is_flag=True, help="Remove it. Without this option, nothing is changed.")


@app.command()
@click.option("--sort", default="score", metavar="KEY", help="A column or a parameter; -KEY: reversed.")
@click.option("--filter", "conditions", multiple=True, metavar="CONDITION", help=FILTER_HELP)
@click.option("--columns", metavar="KEYS", help="Keys to show, a,b,c.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the N runs that finished last.")
@seeds_flag
@click.option("--noise", is_flag=True, help="Say which runs are worse than the best.")
@click.option("--failed", is_flag=True, help="Only runs in which a fold has failed, and why.")
@click.option("--all", "everything", is_flag=True, help=ALL_HELP)
@json_flag
def board(columns: str | None, everything: bool, as_json: bool, **options: Any) -> None:
    """List every run with its score, best first.

    The score is that of all out-of-fold rows, or the mean of the folds, as the experiment says. Runs with missing folds
    come after the complete ones, then those whose score does not compare. What you should know about a score stands
    beside it, such as "mixed code" or "other folds".

    Runs with the same metric, rows and targets are of one problem, and compare. Each problem has a block, with its own
    best; the one with the newest run is on top.

    By default, the columns have the configuration keys in which the runs differ. Folds that are in training, or whose
    process was killed, stand beside their run. A commit with a * had changes beside it, which are in its snapshot.

    With --noise, the more runs there are, also hidden by --filter or --last, the larger a difference has to be. A run
    that failed before any fold was done is shown with --failed alone.

    Examples:
      exp board                            # every run, best first
      exp board --filter 'score>0.9' --filter 'seconds<600'
      exp board --last 10 --columns learning_rate,exp.seed
      exp board --sort -seconds            # the slowest first
      exp board --noise                    # which runs are as good as the best?
      exp board --json > board.json        # for a program
    """
    keys = [name for name in columns.split(",") if name] if columns else None
    runs, conditions, failed = read_board(), options["conditions"], options["failed"]
    found = ranked(runs, **options)
    has_all = not (conditions or options["last"] or failed)
    many = best_of_many(found if has_all else ranked(runs, seeds=options["seeds"]))
    first = found if everything else found[:MOST_ROWS]
    if as_json:
        shown = row_keys(first, keys)
        rows = [entry.values if everything else {key: entry.value(key) for key in shown} for entry in first]
        rows = [row if everything or keys else notes.present(row) for row in rows]
        for entry, row in zip(first, rows, strict=True):
            if about := many.get(entry.run.title):
                row |= {"tried": about["tried"], "luck": about["luck"]}
        if not everything:
            ends = accumulate(len(json_text(row)) + 1 for row in rows)
            rows = rows[: max(1, sum(end < MOST_CHARACTERS for end in ends))]
        print_json(rows, exact=everything)
        if len(found) > len(rows):
            warn(f"{len(found) - len(rows)} more: exp board --all, --last N or --filter")
        return
    first = [replace(one, flags=(*under_way(one.run), *one.flags)) for one in first]
    if found:
        for part in board_tables([*first, *found[len(first) :]], console.width, keys, len(first)):
            console.print(part)
    elif runs:
        print_line(console, "no run has failed" if failed else "no run to show")
    else:
        where = display_path(output_dir())
        print_line(console, f"no runs yet in {where}: uv run python experiments/001-baseline/train.py")
    for entry in first:
        if entry.run.title in many:
            print_line(console, luck_text(**many[entry.run.title]))
    for problem, number in {entry.problem: entry.versus_runs for entry in found if entry.versus_runs}.items():
        print_line(console, f"vs best: {number} runs of {problem} taken into account")
    failures = [] if failed else [run for run in runs if is_failed(run)]
    with suppress(Error):  # a key of --filter that none of them has
        if failures and (number := len(filtered(entries(failures), conditions))):
            print_line(console, f"{number} failed or stopped: --failed")


@app.command()
@run_argument("run")
@all_flag
@json_flag
def show(run: str, everything: bool, as_json: bool) -> None:
    """Show one run: configuration, folds, learning curve.

    Also what was noted on it, the command that trained it, and what has changed since.

    Examples:
      exp show 001-larger-lr           # a part of the name is enough
      exp show 001-baseline/001-larger-lr --json
    """
    found = load_run(run)
    if as_json:
        whole = run_metadata(found)
        print_json(whole if everything else short_metadata(whole))
    else:
        show_run(console, found)


@app.command()
@run_argument("old")
@run_argument("new", help="The run to compare it with.")
@seeds_flag
@click.option("--code", is_flag=True, help="The lines of code that differ, not only the files.")
@json_flag
def diff(old: str, new: str, seeds: bool, code: bool, as_json: bool) -> None:
    """Compare two runs: is NEW better than OLD, or is it noise?

    Shows what differs in configuration, scores, packages, data and code. The verdict is "better", "worse" or "could be
    noise", at 95 %. Two tests have to agree: one over the scores of the folds (corrected resampled t-test), and one
    over the out-of-fold rows (jackknife). One training of each is never enough: train several folds or seeds.
    "promising": the rows say better, the folds are too few. Train both with -m exp.split.seed=1,2,3, then use --seeds.
    "cannot tell": neither test has enough to say anything.

    It judges this pair alone. To pick the best of many runs, use exp board --noise.

    Examples:
      exp diff 001-larger-lr 002-larger-model
      exp diff 001-larger-lr 002-larger-model --seeds
    """
    from expkit.compare import compare, paired_by_seed, show_diff

    pairs = paired_by_seed(old, new) if seeds else [(load_run(old), load_run(new))]
    with console.status("comparing"):
        found = compare(pairs, code)
    if as_json:
        print_json(found)
    else:
        show_diff(console, found)
        if found["code"]["same"] is False and not code:
            print_line(console, "its lines: --code", "dim")


def as_cell(value: Any) -> Any:
    """A value as CSV for people has it: nothing that controls a terminal, and no text that a spreadsheet calculates.

    A spreadsheet takes text that begins with = + - or @, and is no number, for a formula: such text gets a ' before it.
    """
    if not isinstance(value, str):
        return value
    cell = strip_control(value)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) and number_of(cell) is None else cell


@app.command()
@run_argument("run")
@click.option("--test", is_flag=True, help="The predictions of the test set.")
@json_flag
def oof(run: str, test: bool, as_json: bool) -> None:
    """Print the out-of-fold predictions of a run as CSV.

    One line per row of the data, in the order of the ids: what the models predict that were not trained on the row.

    Examples:
      exp oof 001-larger-lr > oof.csv
      exp oof 001-larger-lr --test > test.csv
    """
    from expkit.tables import is_flat, write_csv

    found = load_run(run)
    require(bool(found.done), f"{display_path(found.folder)} has no finished fold")
    if test:
        table = found.test(None) if found.recipe else found.fold_by_fold(name=store.TEST)  # a blend has one for all
    else:
        table = found.oof
    if as_json:
        lists = {name: [row.tolist() for row in column] for name, column in table.items()}
        print_json(lists, exact=True)
    else:
        write_csv(sys.stdout, table, as_cell)
        if left := [name for name, column in table.items() if not is_flat(column)]:
            warn(f"{', '.join(left)}: more than a line of CSV can hold; --json has them")


@app.command()
@run_argument("run")
@click.option("--fetch", is_flag=True, help="Bring what is missing, as input/sources.toml says.")
@json_flag
def data(run: str, fetch: bool, as_json: bool) -> None:
    """List the data of a run, and what of it is here.

    A file is here, missing, or other: it has another content. Nothing is changed without --fetch, which brings missing
    files and checks them against the hashes in the record. It replaces nothing.

    input/sources.toml says where files come from: an address, or a command, which writes {file} and runs without a
    shell. A name may be a pattern; the first one that fits counts. {path} is the name of the file.

    Lines of it:
      "train.csv" = "https://example.org/train.csv"
      "images/*" = "aws s3 cp s3://my-bucket/{path} {file}"

    Examples:
      exp data 001-larger-lr            # what of it is here?
      exp data 001-larger-lr --fetch    # bring the rest
    """
    found = load_run(run)
    rows = run_data(found)
    if fetch:
        with console.status("fetching"):
            fetch_data(rows)
    is_mixed = len({row["file"] for row in rows}) < len(rows)
    cells = [[row["file"], decimal(row["bytes"]), row["state"]] for row in rows]
    for cell, row in zip(cells, rows if is_mixed else [], strict=False):
        cell.append(", ".join(fold_title(number, found.n_folds) for number in row["folds"]))
    table = plain_table(["file", "size", "", *["of"] * is_mixed], cells)
    print_result(rows, as_json, table if rows else f"the record of {found.title} names no file of input/")
    for row in rows:
        if "problem" in row:
            warn(f"{row['file']} has not come: {row['problem']}")
    sys.exit(1 if any("problem" in row for row in rows) else 0)


@app.command()
@run_argument("run", required=False, help=NOTED_HELP)
@click.argument("text", required=False, help="What you think of it.")
@click.option("--hypothesis", help="What you expect of its training.")
@click.option("--kept", "verdict", flag_value="kept", help="Your verdict: it is worth keeping.")
@click.option("--dropped", "verdict", flag_value="dropped", help="Your verdict: it is not.")
@click.option("--lb", "leaderboard", type=float, metavar="SCORE", help="On the leaderboard.")
@click.option("--no-lb", "no_leaderboard", is_flag=True, help="Take the leaderboard score back.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="To filter the board by. Repeatable.")
@click.option("--last", default=5, type=click.IntRange(1), metavar="N", help="Of all runs, the N that were noted last.")
@all_flag
@json_flag
def note(run: str | None, no_leaderboard: bool, last: int, everything: bool, as_json: bool, **said: Any) -> None:
    """Note what you expect of a run, and what came of it.

    RUN is the whole name of a run; if there is none, an experiment; if there is none, a part of a run's name.
    A verdict and a leaderboard score belong to a run, not to an experiment. --kept warns when exp try has called the
    run anything but better. Without exp try, its folds have to be better than those of the best other run.

    Without anything to note, shows what was noted, also on runs that are deleted. With three leaderboard scores or
    more, it also says how well the CV scores agree with them. Notes are kept in notes/, which belongs in git.

    Examples:
      exp note 001/002 --hypothesis "a larger model scores higher"
      exp note 001/002 "no better, and slower" --dropped
      exp note 001/002 --lb 0.81              # the last one counts
      exp note                                # the last notes
      exp board --filter verdict=dropped      # the runs with this verdict
    """
    for word in said["tags"]:
        require(not re.search(r"[\s#,]|^$", word), f"--tag must be one word, without # and comma, not {word!r}")
    title = notes.titled(run) if run is not None else None
    trained = {each.run.title: each for each in ranked(read_board())}
    noted = notes.read_notes()
    back = noted.get(title or "", notes.Notes("")).without_leaderboard() if no_leaderboard else {}
    said = back | notes.present(said)
    if said and title:
        said |= notes.context_of(title, trained.get(title))
        if noted.get(title, notes.Notes(title)).says(said):
            warn(f"{title}: this was noted before, nothing is added")
        else:
            notes.add_note(title, said)
            noted = notes.read_notes()
    tested: dict[str, Any] = {}
    if said.get("verdict") == "kept" and title in trained:
        mine, line = trained[title], trained[title].notes.last_line("tested") or {}
        is_own = "tested" in line and line.get("id") == mine.run.id
        tested = line["tested"] if is_own else against_another(mine, [*trained.values()])
    agreements = notes.agreement(noted.values(), trained)
    by_time = sorted(noted.values(), key=lambda each: str(each.lines[-1]["time"]))
    chosen = [noted.get(title, notes.Notes(title))] if title else by_time
    left, chosen = len(chosen[:-last]), chosen[-last:]
    found = [notes.notes_metadata(each, one.run if (one := trained.get(each.title)) else None) for each in chosen]
    if said:  # what was said before, `exp note RUN` shows
        found = [each | {"notes": each["notes"][-1:]} for each in found]
    if as_json:
        found = found if everything else [notes.short_notes(each) for each in found]
        more = ({"test": tested} if tested else {}) | ({"more": left} if left else {})
        print_json({"runs": found, "leaderboard": agreements} | more)
        return
    for each in found:
        notes.show_notes(console, each)
    if not any(each["notes"] for each in found):
        print_line(console, 'nothing is noted yet: exp note RUN "..."')
    if left:
        print_line(console, f"{left} more: --last {left + last}")
    for metric, about in agreements.items():
        agree = f"correlation {about['correlation']:.2f}"
        print_line(console, f"CV {metric} and leaderboard of {about['runs']} runs: {agree}")
    if tested and tested["verdict"] != BETTER:
        command = f"exp diff {tested['against']} {title}{' --seeds' * (tested['seeds'] > 1)}"
        print_line(console, f"kept, though the test says {tested['verdict']}: {command}", "yellow")


@app.command()
@click.option("--last", default=10, type=click.IntRange(1), metavar="N", help="The N last ones.")
@all_flag
@json_flag
def log(last: int, everything: bool, as_json: bool) -> None:
    """List what was tried, in order.

    Each line has what changed, what came of it, and why. The test is what exp try has found, and you is your verdict
    of exp note. A * marks a score that was the best so far, but for those that you have dropped.

    Examples:
      exp log
      exp log --last 50
    """
    from expkit.tries import history, short_history, show_history

    every = history()
    if as_json:
        print_json(every[-last:] if everything else short_history(every[-last:]))
        return
    if every:
        show_history(console, every[-last:])
    opened = notes.openings()
    for rows in dict.fromkeys(line["unlocked"] for line in opened):
        print_line(console, notes.openings_text([line for line in opened if line["unlocked"] == rows]))
    best = (every and every[-1]["best"]) or ""
    metrics = list(dict.fromkeys(idea["metric"] for idea in reversed(every) if idea["metric"]))
    so_far = f", best so far{f' in {metrics[0]}' if len(metrics) > 1 else ''}: {best} (*: the best until then)"
    shows = f": --last {len(every)} shows all" if len(every) > last else ""
    print_line(console, f"{len(every)} tried{so_far if best else ''}{shows}")
    print_line(console, f'next: exp try --from {best or "RUN"} KEY=VALUE --why "..."')


@app.command()
@click.argument("kinds", nargs=-1, type=click.Choice(KINDS), metavar="[KIND]...", help="By default, all but state.")
@yes_flag
@json_flag
def clean(kinds: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """List what can go from output/, and remove it with --yes.

    KIND is one of those below. A finished fold of a run that counts is never removed, nor is
    anything that a process is working with.

    Kinds, in the order in which they go:
      superseded   versions of a run that overwrite=true has replaced
      failed       runs in which nothing is done: no fold and no checkpoint
      debug        runs of exp.debug=true
      state        state/ of runs that no exp.start_from of another names

    Examples:
      exp clean                       # list it, with the size of each
      exp clean --yes                 # remove it
      exp clean debug failed --yes    # remove these kinds alone
    """
    output = Path(os.path.realpath(output_dir()))  # unlike resolve(), it takes a link in a circle
    found, rows, failed = list[dict[str, Any]](), [], False
    chosen = [kind for kind in KINDS if (kind in kinds if kinds else kind != STATE)]
    for kind, (folder, size) in ((one, each) for one in chosen for each in list(leftovers(one, output))):
        is_removed = False
        try:
            is_removed = yes and remove_leftover(kind, folder)
        except (OSError, Error) as error:
            warn(f"cannot remove {folder}: {getattr(error, 'strerror', None) or error}")
            failed = True
        what = {"kind": kind, "what": str(folder), "why": KINDS[kind][0]}
        found.append(what | {"bytes": size, "removed": is_removed})
        state = "removed" if is_removed else "kept" if yes else KINDS[kind][0]
        rows.append([kind, display_path(folder), decimal(size), state])
    whole = decimal(sum(each["bytes"] for each in found))
    last = [] if yes else [f"{whole} can go, nothing is removed yet: --yes removes it"]
    lines = [plain_table(["kind", "what", "size", ""], rows), *last]
    print_result(found, as_json, *(lines if found else [f"there is nothing to clean: {', '.join(chosen)}"]))
    sys.exit(failed)


@app.command()
@run_argument("run")
@yes_flag
@json_flag
def remove(run: str, yes: bool, as_json: bool) -> None:
    """List what belongs to a run, and remove it with --yes.

    Every version of the run goes, with its folds. A run that others were made from is kept, such as one of a blend:
    remove these first. So is one that a process trains. Notes and submissions stay. --yes needs its whole name.

    Examples:
      exp remove blends/best-two          # list it, with its size
      exp remove blends/best-two --yes    # remove it
    """
    found = load_run(run)
    about = removal(found)
    if yes:
        is_whole = is_called(found.title, run) or Path(run).resolve() == found.folder
        require(is_whole, f"{run} is part of a name: exp remove {found.title} --yes")
        remove_run(found)
    rows = [[display_path(Path(each["folder"])), ", ".join(each["folds"]), each["bytes"]] for each in about["versions"]]
    table = plain_table(["version", "folds", "size"], [[*row, decimal(size)] for *row, size in rows])
    whole = decimal(sum(row[-1] for row in rows))
    last = f"{found.title} is removed, {whole}" if yes else f"{whole} can go, nothing is removed yet: --yes removes it"
    if about["children"]:
        last = f"{found.title} cannot go before what was made from it: {', '.join(about['children'])}"
    print_result({**about, "removed": yes}, as_json, table, last)
