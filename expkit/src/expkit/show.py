"""What a person sees: the board, as wide as the terminal, and one run whole; and what a program gets of each."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from expkit import store
from expkit.board import COLUMNS, HEADINGS, Entry, by_problem, entries, grouped, key_of, read_board, scored_otherwise
from expkit.config import flat, is_compared, load_experiment
from expkit.data import changes_since
from expkit.errors import duration, plain_table, print_line, score_text, strip_control, text
from expkit.frames import Points, points_of
from expkit.notes import format_note, openings, openings_text, present
from expkit.project import display_path
from expkit.store import Run, axis_of, fold_title

MOST_ROWS = 25  # of the board, unless all are asked for
GAP = 2  # between two columns of the board
NARROW = 16  # characters of a cell that may wrap; of a value of the configuration
KEY = 5  # what a key of the configuration is worth that nobody has asked for
SHORT = "experiment run score std leaderboard verdict tags failure versus_best problem marks".split()
NOTES = 3  # that are shown, the last ones
MOST_POINTS = 2000  # of a learning curve
WIDEST = 60  # characters of a sparkline
LEVELS = "▁▂▃▄▅▆▇█"


# The board


def board_tables(
    entries: list[Entry], width: int, chosen: Sequence[str] | None = None, most: int = MOST_ROWS
) -> Iterator[Text | Table]:
    """The table of each problem, under its heading when there are several, with `most` rows in all; which experiments
    have runs of several; and what has no room.

    Args:
        width, chosen: as of `board_table`; here a key may be its end alone.

    Raises:
        Error: as of `key_of`.
    """
    keys = None if chosen is None else list(dict.fromkeys(key_of(name, entries) for name in chosen))
    blocks, left, hidden = by_problem(entries), most, list[str]()
    for block, heading in zip(blocks, headings(blocks), strict=True):
        if rows := block[: max(left, 0)]:
            if block is not blocks[0]:
                yield text("")
            if len(blocks) > 1:
                yield text(heading, "bold")
            table, without = board_table(rows, width, keys)
            yield table
            hidden += without
        left -= len(rows)
    yield from (text(line, "yellow") for line in _divided(entries))
    if len(entries) > most:
        yield text(f"{len(entries) - most} more: exp board --all, --last N or --filter")
    if hidden:
        yield text(f"no room for {', '.join(dict.fromkeys(hidden))}: --columns {hidden[0]}, or a wider terminal")


def headings(blocks: Sequence[Sequence[Entry]]) -> Iterator[str]:
    """A line about each of several problems, "accuracy~3f2a1b of 1,437 rows: 001, 002".

    Args:
        blocks: as from `by_problem`.
    """
    names = store.short_names(f"{one.run.experiment}/" for block in blocks for one in block)
    for block in blocks:
        first = next((one for one in block if one.problem), block[0])
        own = sorted({names[f"{one.run.experiment}/"].rstrip("/") for one in block})
        rows = f" of {first.dataset.rows:,} rows" if first.dataset else ""
        yield f"{first.problem}{rows}: {', '.join(own[:8])}{f' and {len(own) - 8} more' * (len(own) > 8)}"


def _divided(entries: Iterable[Entry]) -> Iterator[str]:
    """A line about each experiment whose runs are of several problems, with what differs between these."""
    for experiment, own in grouped((one for one in entries if one.problem), lambda one: one.run.experiment).items():
        first, *others = {one.problem: one.run for one in own}.values()
        flags = [scored_otherwise(first, run) if run.metric == first.metric else ["other metric"] for run in others]
        if others and experiment != store.BLENDS:
            what = ", ".join(dict.fromkeys(flag for each in flags for flag in each))
            yield f"{experiment} has runs of {len(others) + 1} problems: {what}"


def board_table(entries: list[Entry], width: int, chosen: Sequence[str] | None = None) -> tuple[Table, list[str]]:
    """Entries of one problem as a table of at most `width` characters; what does not fit goes, the least worth first.

    Args:
        chosen: as of `columns`.

    Returns:
        and the headings of the keys that differ and have no room.
    """
    found, kept, room = columns(entries, chosen, width), list[Column](), width + GAP
    for column in sorted(found, key=lambda column: column.worth):
        if column.width + GAP <= room:
            room -= column.width + GAP
            kept.append(column)
    kept.sort(key=found.index)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in kept:
        style = "yellow" if column.heading == "marks" else ""
        table.add_column(Text(column.heading), overflow="fold", no_wrap=not column.wraps, style=style)
    for entry, *cells in zip(entries, *(column.cells for column in kept), strict=True):
        table.add_row(*map(Text, cells), style="dim" if entry.score is None else "")
    return table, [column.heading for column in found if column.worth == KEY and column not in kept]


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        heading: plain text.
        cells: one for each entry, plain text.
        worth: which columns stay when not all fit; the smallest first.
        wraps: whether its cells may take several lines.
    """

    heading: str
    cells: list[str]
    worth: int
    wraps: bool = False

    @property
    def width(self) -> int:
        widest = max(map(cell_len, [*self.cells, self.heading]))
        return min(widest, NARROW) if self.wraps else widest


def columns(entries: list[Entry], chosen: Sequence[str] | None = None, width: int | None = None) -> list[Column]:
    """Every column that says something of these entries, of one problem, from left to right.

    Args:
        chosen: keys of the configuration to show, as from `key_of`; None: those that differ among the entries.
        width: of the terminal; where the names of the runs would take more than a quarter of it, they are short ones.
    """
    runs, values = [entry.run for entry in entries], [entry.values for entry in entries]
    titles = {run.title: run.title for run in runs}
    if width is not None and max(map(cell_len, titles), default=0) > width // 4:
        titles = store.short_names(titles)
    scored = next((run.metric for run in runs if run.metric), "score")
    scored += " ± std" if any(entry.std is not None for entry in entries) else ""
    others = dict.fromkeys(name for entry in entries for name in entry.other_scores)
    are_failed = all(run.failure for run in runs)  # only then they are shown for it

    def column(heading: str, cells: Iterable[object], worth: int, wraps: bool = False) -> Column:
        return Column(strip_control(heading), [strip_control(cell or "") for cell in cells], worth, wraps)

    keys = ["exp.seed" if key == "seed" else key for key in (differing_keys(entries) if chosen is None else chosen)]
    if any(len(entry.runs) > 1 for entry in entries):
        keys = list(dict.fromkeys([*keys, "exp.seed"]))
    found = [
        column("run", [titles[run.title] for run in runs], 0),
        column(scored, [score_text(entry.score, entry.std) for entry in entries], 1),
        *(column(name, [score_text(entry.other_scores.get(name)) for entry in entries], 4) for name in others),
        column("LB", [score_text(each["leaderboard"]) for each in values], 3),
        column("verdict", [each["verdict"] for each in values], 3),
        column("vs best", [each["versus_best"] for each in values], 2),
        column("folds", [f"{each['folds_done']}/{each['n_folds'] or '?'}" for each in values], 2),
        *(column(_heading(key, keys), [_cell(entry, key) for entry in entries], 2 if chosen else KEY) for key in keys),
        column("time", ["" if each["seconds"] is None else duration(each["seconds"]) for each in values], 7),
        column("finished", [(each["finished"] or "").replace("T", " ")[:16] for each in values], 8),
        column("commit", [each["commit"] for each in values], 9),
        column("tags", [" ".join(each["tags"]) for each in values], 6),
        column("marks", [each["marks"] for each in values], 1, wraps=True),
        column("why", [run.failure if are_failed else "" for run in runs], 1, wraps=True),
    ]
    return [column for column in found if any(column.cells)]


def _heading(key: str, keys: list[str]) -> str:
    """What a key is called: its last part; the whole key where another has the same end, or a column this name."""
    name = key.rpartition(".")[2]
    is_taken = name in {*COLUMNS, *HEADINGS} or [one.rpartition(".")[2] for one in keys].count(name) > 1
    return key if is_taken and key != "exp.seed" else name


def _cell(entry: Entry, key: str) -> str:
    value = entry.value("seed" if key == "exp.seed" else key)  # of several runs, how many
    if value is None:
        return "null" if key in entry.config else ""
    cell = f"{value:.6g}" if isinstance(value, float) else strip_control(value)
    return cell if len(cell) <= NARROW else f"{cell[: NARROW - 1]}…"


def differing_keys(entries: list[Entry]) -> list[str]:
    """The keys of the configuration that have several values among the entries, in the order of the configuration."""
    values: dict[str, set[str]] = {}
    for entry in entries:
        for key, value in entry.config.items():
            values.setdefault(key, set()).add(repr(value))
    return [key for key, each in values.items() if len(each) > 1 and is_compared(key) and key != "exp.n_folds"]


def row_keys(entries: list[Entry], chosen: Sequence[str] | None = None) -> list[str]:
    """What a row of the board has for a program: what is `chosen`, ends of keys; None: what it is by default."""
    if chosen is not None:
        return ["experiment", "run", "score", *(key_of(name, entries) for name in chosen)]
    return [*SHORT, *differing_keys(entries)]


# One run


def run_metadata(run: Run) -> dict[str, Any]:
    """One run whole, as JSON has it: the columns of the board, marks, scores, folds, configuration, origin, curve.

    Returns:
        "failed" is why a training has failed, by its folder; "pruned" where a study has ended the run, "full" the
        training on all rows and "blend" what a blend is made of, each None when there is none; "unlocked" is as of
        `openings`, None without a locked box; "parents" and "children" are as below, "total_seconds" has the
        time of the runs that it began from.
    """
    [entry] = entries([run])
    scores = {metric: score for metric in run.metrics if (score := run.score_of(metric))}
    return {
        **{column: entry.values[column] for column in COLUMNS},
        "folder": str(run.folder),
        "marks": [*entry.marks, *under_way(run), *changed_since(run)],
        "scores": {
            metric: {"score": one.value, "std": one.std, "over_rows": one.over_rows, "mean_of_folds": one.mean}
            for metric, one in scores.items()
        },
        "folds": {
            str(number): {
                "scores": {metric: score.folds[number] for metric, score in scores.items() if number in score.folds},
                **{key: value for key, value in result.items() if key in ("values", "rows", "seconds", "finished")},
            }
            for number, result in run.results.items()
        },
        "failed": {part.folder.name: part.failure for part in run.parts if part.failure},
        "pruned": run.pruned or None,
        "full": _full(run),
        "blend": blend_metadata(run) or None,
        "parents": parents_metadata(run),
        "children": children_metadata(run, read_board(run.folder.parents[1])),
        "total_seconds": round(run.total_seconds, 3) if run.done else None,
        "origin": _origin(run),
        "notes": list(entry.notes.lines),
        "unlocked": openings(run) if store.has_box(run.results) else None,
        "config": entry.config,
        "curve": last_curve(run),
    }


def short_metadata(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `run_metadata` has, without what is not there, the learning curve, notes, what only folds have beside their
    scores, and what is not compared in the configuration."""
    left_out = ("curve", "notes", "split", "commit", "folder", "total_seconds", "n_folds")
    origin = found["origin"] and {key: found["origin"][key] for key in ("command", "on")}
    return present(
        {key: value for key, value in found.items() if key not in left_out}
        | {"folds": {number: fold["scores"] for number, fold in found["folds"].items()}}
        | {"origin": origin, "config": {key: one for key, one in found["config"].items() if is_compared(key)}}
    )


def blend_metadata(run: Run) -> dict[str, Any]:
    """What a blend is made of, as JSON has it; {} of another run."""
    if (recipe := run.recipe) is None:
        return {}
    weights = {one.run: weight for one, weight in zip(recipe.parents, recipe.weights, strict=True)}
    return {"method": recipe.method, "weights": weights, "by_part": recipe.by_part}


def _full(run: Run) -> dict[str, Any] | None:
    if run.full is None or run.full.result is None or run.recipe:
        return None
    result, folder = run.full.result, run.full.folder
    submission = str(folder / store.SUBMISSION) if store.SUBMISSION in result["files"] else None
    recorded = {key: result[key] for key in ("values", "seconds", "finished")}
    return {"folder": str(folder), "submission": submission, **recorded}


def _origin(run: Run) -> dict[str, Any] | None:
    """How a run was made; None: nothing is done."""
    environments = sorted({part.result["environment"] for part in run.parts if part.result})
    if not environments:
        return None
    origin = next(part for part in run.parts if part.result).origin()
    command = shlex.join(origin.get("command") or [])
    if command and not run.recipe:
        several = re.search(r"world_size ([2-9]|\d\d+)", " ".join(environments))
        program = f"torchrun --standalone --nproc_per_node={several[1]}" if several else "python"
        command = f"{program} experiments/{run.experiment}/{command}"
    machine = {key: origin.get(key) for key in ("python", "platform")}
    return {"command": command or None, "git": run.git, **machine, "on": environments}


def under_way(run: Run) -> list[str]:
    """The folds of a run that a process trains now, or whose process was killed: "fold 0 stopped in epoch 8"."""
    flags = []
    for part in [] if run.pruned else run.parts:
        if not (part.result or part.unscored or part.failure or part.problem):
            state = "in" if part.folder.name in store.Versions.of(run.folder).held(run.folder) else "stopped in"
            last = {name: values[-1] for name, values in part.history().items() if values and values[-1] is not None}
            axis = axis_of(last)
            where = f"{axis} {last[axis]}" if axis else "training"
            flags.append(f"{fold_title(part.number, run.n_folds)} {state} {where}")
    return flags


# What has changed since


def changed_since(run: Run) -> list[str]:
    """What has changed in the project since a run was trained: "code changed since (model.py)", ...; a blend is not."""
    done, marks = [part for part in run.parts if part.result], list[str]()
    try:
        loaded = load_experiment(run.scored_by)
    except Exception:  # it is gone or broken: its runs are shown all the same
        loaded = None
    if done and not run.recipe:
        inputs = loaded.experiment.data(flat(run.config)) if loaded else None
        for what, names in changes_since(done[0].origin(), loaded.ignored if loaded else None, inputs).items():
            marks.append(f"{what} changed since ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    if loaded and run.cv and not loaded.experiment.has_scored(run.cv):
        marks.append("metric changed since: the same command scores it again")
    return marks


# For a person


def show_run(console: Console, run: Run) -> None:
    """Print one run: scores, marks, notes, folds, origin, configuration, learning curves."""
    metadata = run_metadata(run)
    console.print(text(run.title, "bold"), text(f"  {display_path(run.folder)}", "dim"), soft_wrap=True)
    for metric in metadata["scores"]:
        if score := run.score_of(metric):
            other = f" ({score.other})" if score.other else ""
            folds = "" if run.n_folds == 1 else f"{len(run.done)}/{run.n_folds} folds"
            over = ", ".join(filter(None, [folds, f"{run.rows} rows" if run.rows else ""]))
            print_line(console, f"{run.kind} {metric} {score_text(score.value, score.std)}{other}  {over}".strip())
    if metadata["marks"]:
        marks = [f"pruned {run.pruned}" if mark == "pruned" else mark for mark in metadata["marks"]]
        print_line(console, ", ".join(marks), "yellow")
    for noted in metadata["notes"][-NOTES:]:
        print_line(console, format_note(noted))
    if more := len(metadata["notes"][:-NOTES]):
        print_line(console, f"{more} notes before: exp note {run.title}")
    if metadata["unlocked"] is not None:
        print_line(console, openings_text(metadata["unlocked"]))
    for name, reason in metadata["failed"].items():
        print_line(console, f"{name}: {reason}", "red")
    if metadata["folds"]:
        _show_folds(console, run, list(metadata["scores"]), metadata["folds"])
    show_blend(console, run)
    if metadata["parents"]:
        console.print(_tree(Tree(text("made from")), metadata["parents"]), soft_wrap=True)
    for child in metadata["children"]:
        since = "" if child["state"] == "ok" else f", and it {store.BECOME[child['state']]} since"
        print_line(console, f"{child['run']} was made from it: {_what(child)}{since}")
    if run.total_seconds != run.seconds:
        both = f"{duration(run.seconds)}, and {duration(run.total_seconds)} with the runs that it began from"
        print_line(console, f"time of its folds: {both}")
    if metadata["full"] and run.full:
        from expkit.scores import submission_summary

        print_line(console, submission_summary(run))
    is_split = run.rows or not run.done  # else the keys of exp.split mean nothing
    config = {key: one for key, one in metadata["config"].items() if is_split or not key.startswith("exp.split.")}
    for table in (_origin_texts(metadata["origin"]) if metadata["origin"] else {}, config):
        width = max(map(len, table), default=0)
        for key, value in table.items():
            console.print(text(f"{key:{width}}  ", "dim"), text(value), sep="", soft_wrap=True)
    for drawn in sparklines(metadata["curve"], console.width, run.n_folds):
        console.print(text(drawn), no_wrap=True, overflow="ellipsis")


def _origin_texts(origin: dict[str, Any]) -> dict[str, str]:
    git = origin["git"]
    commit = git and f"commit {git['commit'][:12] or 'none yet'}{' and changes' if git['dirty'] else ''}"
    return {
        "command": origin["command"] or "expkit.run(...), from Python",
        "code": commit or "no snapshot",
        "python": f"{origin['python']}, {str(origin['platform']).partition('-')[0]}",
        "on": "; ".join(origin["on"]) or "unknown",
    }


def _show_folds(console: Console, run: Run, metrics: list[str], folds: dict[str, Any]) -> None:
    names = list(dict.fromkeys(name for fold in folds.values() for name in fold["values"]))
    counts = ["rows"] if any(fold["rows"] for fold in folds.values()) else []
    first = "" if run.n_folds == 1 else "fold"
    headings = [first, *metrics, *(name.replace("_", " ") for name in names), *counts, "time", "finished"]
    rows = []
    for number, fold in folds.items():
        scores = [score_text(fold["scores"].get(metric)) for metric in metrics]
        values = [fold["values"].get(name, "") for name in names]
        values = [f"{value:.4f}" if isinstance(value, float) else value for value in values]
        finished = fold["finished"][:16].replace("T", " ")
        name = number if run.n_folds != 1 else run.kind or "training"
        rows.append([name, *scores, *values, *map(fold.get, counts), duration(fold["seconds"]), finished])
    console.print(plain_table(headings, rows))


def show_blend(console: Console, run: Run) -> None:
    """Print the runs of a blend with their weights, and how good these are; nothing of another run."""
    if (recipe := run.recipe) is None:
        return
    weights = sorted(blend_metadata(run)["weights"].items(), key=lambda pair: -pair[1])
    console.print(plain_table(["weight", "run"], [[f"{weight:.4f}", title] for title, weight in weights]))
    how = "each fold with weights fitted on the others" if recipe.method == "hill" else "no weights are fitted"
    print_line(console, f"{run.metric} {score_text(run.score, run.std)}: {how}")


# What a run was made from, and what was made from it


def parents_metadata(run: Run, shown: set[str] | None = None) -> list[dict[str, Any]]:
    """The runs that a run was made from, as JSON has them, each with its own "parents".

    Returns:
        "state" is "ok", "changed", "replaced" or "gone"; of the last two, nothing else is known. "parents" is None of a
        run that stands elsewhere in the list, too. "by" has the folds that have read it.
    """
    shown, found = {run.title} if shown is None else shown, []
    for parent in run.parents:
        now, state = run.parent_now(parent)
        now = None if state in ("gone", "replaced") else now
        is_new = parent.run not in shown
        shown.add(parent.run)
        read = [(part.number, one.id) for part in run.parts if part.result for one in part.result.get("parents", [])]
        known = {key: getattr(now, key, None) for key in ("metric", "score", "std")}
        known["marks"] = [*store.own_marks(now), *store.leaks_of(now)] if now else []
        known["parents"] = [] if now is None else parents_metadata(now, shown) if is_new else None
        by = [number for number, run_id in dict.fromkeys(read) if run_id == parent.id]
        about = {"run": parent.run, "id": parent.id, "version": parent.version, **_read(parent, state), "by": by}
        found.append(about | known)
    return found


def children_metadata(run: Run, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs that were made from one, as JSON has them; "state" is what has become of the one since.

    Args:
        runs: all there are.
    """
    pairs = [(other, parent) for other in runs for parent in other.parents if parent.run == run.title != other.title]
    return [{"run": other.title, "id": other.id, **_read(one, store.parent_state(one, run))} for other, one in pairs]


def _read(parent: store.Parent, state: str) -> dict[str, Any]:
    return {"read": list(parent.read), "folds": list(parent.folds), "state": state}


def _tree(tree: Tree, parents: list[dict[str, Any]]) -> Tree:
    for node in parents:
        score = f"  {node['metric']} {score_text(node['score'], node['std'])}" if node["score"] is not None else ""
        marks = [*([] if node["state"] == "ok" else [store.BECOME[node["state"]]]), *node["marks"]]
        is_mixed = [other["run"] for other in parents].count(node["run"]) > 1  # folds read several versions
        by = f", by {', '.join(map(fold_title, node['by']))}" if is_mixed else ""
        line = Text.assemble(text(node["run"], "bold"), text(f"{score}  {_what(node)}{by}"))
        line.append_text(text("".join(f", {mark}" for mark in marks), "yellow"))
        _tree(tree.add(line), node["parents"] or [])
    return tree


def _what(node: dict[str, Any]) -> str:
    """What was read, in words: "oof of 5 folds", "fold, test of all data"."""
    folds = [fold_title(number) for number in node["folds"]] or ["all folds"]
    return f"{', '.join(node['read'])} of {folds[0] if len(folds) == 1 else f'{len(folds)} folds'}"


# Learning curves


def last_curve(run: Run) -> dict[str, Any] | None:
    """The metric that a run has logged last, over its epochs, else its steps, else its rows.

    Of a fold with more than MOST_POINTS of it, every second, third, ... is given.

    Returns:
        {"axis": "epoch", "metric": "valid_loss", "greater_is_better": None, "folds": {"0": [(1, 0.5), ...], ...}};
        the direction is known of what has the metric of the run in its name. None: no metric has two points.
    """
    curves = {str(fold): points_of(run.history(fold)) for fold in run.done}
    logged = [
        (axis, *one) for each in curves.values() for axis, named in each.items() for one in reversed(named.items())
    ]
    axis, metric = next(((axis, name) for axis, name, points in logged if len(points) > 1), ("", ""))
    found = {fold: points for fold, each in curves.items() if (points := each.get(axis, {}).get(metric))}
    folds = {fold: points[:: math.ceil(len(points) / MOST_POINTS)] for fold, points in found.items()}
    is_greater = run.greater_is_better if run.metric and run.metric in metric else None
    return {"axis": axis, "metric": metric, "greater_is_better": is_greater, "folds": folds} if folds else None


def sparklines(curve: dict[str, Any] | None, width: int, n_folds: int | None = None) -> list[str]:
    """The curves that `last_curve` has found, a line per fold, all over the same range; [] when there are none.

    Args:
        width: of the terminal, in characters.
        n_folds: of the run; with 1, its fold is a hold-out.
    """
    if curve is None:
        return []
    folds = curve["folds"]
    values = [y for points in folds.values() for _, y in points]
    low, high = min(values), max(values)
    labels = {fold: f"{fold_title(int(fold), n_folds)}: {_best_and_last(one, curve)}  " for fold, one in folds.items()}
    margin = max(map(len, labels.values()))
    size = math.ceil(max(map(len, folds.values())) / max(1, min(WIDEST, width - margin)))  # points per character
    lines = [f"{curve['metric']} by {curve['axis']}: {low:#.4g} ({LEVELS[0]}) to {high:#.4g} ({LEVELS[-1]})"]
    for fold, points in folds.items():
        means = [fmean(y for _, y in points[first : first + size]) for first in range(0, len(points), size)]
        drawn = "".join(LEVELS[round((mean - low) / (high - low or 1) * (len(LEVELS) - 1))] for mean in means)
        lines.append(f"{labels[fold]:{margin}}{drawn}")
    return lines


def _best_and_last(points: Points, curve: dict[str, Any]) -> str:
    marked = {"last": points[-1]}
    if (is_greater := curve["greater_is_better"]) is not None:
        marked = {"best": (max if is_greater else min)(points, key=lambda point: point[1]), **marked}
    return ", ".join(f"{name} {y:#.4g} at {x:.15g}" for name, (x, y) in marked.items())
