"""Tables and charts of runs, shown by marimo or written as one HTML file: for notebooks/page.py.

What notebooks/page.py imports from here stays: the notebook is the user's, and an update leaves it alone.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from expkit.board import ranked, read_board
from expkit.config import is_compared
from expkit.errors import Error, require, score_text
from expkit.frames import frame_of
from expkit.notes import openings
from expkit.store import BECOME, has_box, load_run, short_names

if TYPE_CHECKING:
    import pandas

TEMPLATE = Path(__file__).with_suffix(".html")
COLORS = "#4c78a8 #f58518 #54a24b #e45756 #b279a2 #43a39d #d67195 #9d755d #a89200 #6b6bff".split()
OTHERS = "other runs"  # the "color" of the runs that are not ticked
# Whether a point is of a run that is not chosen; while none is, of one that is not ticked.
IS_OTHER = f"length(chosen) ? indexof(chosen, datum.name || datum.color) < 0 : datum.color == '{OTHERS}'"
NO_RUNS = "No runs yet. Train the baseline: uv run python experiments/001-baseline/train.py"
FIRST, LAST = ["name", "metric", "score", "std", "folds", "marks"], ["seconds", "rows", "finished", "commit"]
REPLACED = ["experiment", "run", "folds_done", "n_folds", "split", "seed", "problem", "parents"]  # by others


# Tables


def labelled_board() -> pandas.DataFrame:
    """The board to be read: what `expkit.runs` gives, as numbers and texts, without the columns that say nothing.

    "name" is "<experiment>/<run>"; "metric" has an arrow, ↑ higher is better, ↓ lower is better, and says of which
    problem it is where several have the same; "folds" is "3/5"; "box opened" is how often its locked box was. Of the
    configuration ("exp.…"), it has what changes a result, where runs with a metric differ in it. The problem in which a
    run finished last comes first.

    Raises:
        Error: pandas is not installed.
    """
    entries = ranked(read_board())
    runs, board = [entry.run for entry in entries], frame_of(entries)
    board["name"] = [run.title for run in runs]
    opened = [line["unlocked"] for line in openings()] if any(has_box(run.results) for run in runs) else []
    board.insert(0, "box opened", [str(opened.count(run.given.ids)) if has_box(run.results) else None for run in runs])
    board.insert(0, "hypothesis", [entry.notes.last("hypothesis") for entry in entries])
    metrics = [*{one.problem: one.run.metric for one in entries if one.problem}.values()]
    names = [one.problem if metrics.count(one.run.metric) > 1 else one.run.metric for one in entries]
    arrows = ["↑" if run.greater_is_better else "↓" for run in runs]
    board["metric"] = [name and f"{name} {arrow}" for name, arrow in zip(names, arrows, strict=True)]
    board["folds"] = [f"{len(run.done)}/{run.n_folds or '?'}" for run in runs]
    board["finished"] = board["finished"].dt.strftime("%Y-%m-%d %H:%M")
    board["tags"] = board["tags"].map(", ".join)
    for column in board:
        if not is_number(board[column]):
            board[column] = board[column].map(str, na_action="ignore")
    keys = [column for column in board if column.startswith("exp.") and is_compared(column)]
    others = [column for column in board if not column.startswith("exp.") and column not in (*FIRST, *LAST, *REPLACED)]
    others = [column for column in others if (board[column].notna() & board[column].ne("")).any()]
    return board[[*FIRST, *others, *differing(board[board["metric"].notna()], keys), *LAST]]


def differing(board: pandas.DataFrame, columns: Iterable[str]) -> list[str]:
    """The columns of the board in which runs differ; that another experiment has no such parameter is no difference.

    Args:
        board: with a column "name", "<experiment>/<run>".
    """
    experiments = [name.partition("/")[0] for name in board["name"]]
    own = board.groupby(experiments)  # each experiment for itself, in which a run may lack the value
    return [name for name in columns if board[name].nunique() > 1 or (own[name].nunique(dropna=False) > 1).any()]


def first_axes(board: pandas.DataFrame, ticked: Sequence[str], most: int = 6) -> list[str]:
    """The parameters to draw at first: of each metric, those in which its runs differ, the ticked before the others.

    Args:
        board: as from `labelled_board`.
        ticked: the names of the runs that are ticked at first.
        most: how many for each metric.
    """
    keys, found = [column for column in board if column.startswith("exp.")], set[str]()
    for _, rows in board.groupby("metric"):
        both = [*differing(rows[rows["name"].isin(ticked)], keys), *differing(rows, keys)]
        found |= {*[*dict.fromkeys(both)][:most]}
    return [key for key in keys if key in found]


def is_number(values: pandas.Series[Any]) -> bool:
    """Whether a column holds numbers; True and False are none."""
    return values.dtype.kind in "iuf"


def curves_to_draw(curves: pandas.DataFrame, most: int) -> Iterator[tuple[str, str, pandas.DataFrame]]:
    """Learning curves, each with the mean over its folds, by what was logged.

    Args:
        curves: as from `expkit.curves`.
        most: how many points a line may have: of a longer one, every second, third, ... is drawn.

    Yields:
        the name of what was logged; the title of its axis, which says how many points are drawn; and the lines,
        columns as in `curves`, where "fold" is text, and "mean" for the mean.
    """
    import pandas

    for (name, axis), folds in curves.groupby(["name", "axis"], sort=False):
        table = pandas.concat([folds, mean_of_folds(folds)]).astype({"fold": str})
        index = table.groupby(["run", "fold"]).cumcount()
        every = int(index.max()) // most + 1
        yield name, f"{axis} (1 of {every} drawn)" if every > 1 else axis, table[index % every == 0]


def mean_of_folds(curves: pandas.DataFrame) -> pandas.DataFrame:
    """The mean over the folds of each learning curve, wherever most of them are: its last part may be of fewer.

    Args:
        curves: as from `expkit.curves`.

    Returns:
        the same columns; "fold" is "mean".
    """
    curve = ["run", "axis", "name"]
    points = curves.groupby([*curve, "x"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    points = points[points["size"] == points.groupby(curve)["size"].transform("max")]
    return points.rename(columns={"mean": "value"}).assign(fold="mean")[list(curves)]


def confusion(rows: pandas.DataFrame) -> pandas.DataFrame:
    """How many rows have each pair of target and prediction, the most frequent pair first.

    Args:
        rows: with columns "target" and "prediction", as from `expkit.mistakes`.

    Returns:
        the columns "target", "prediction", "rows", and "wrong": the same number, 0 where both are equal.
    """
    counts = rows.value_counts(["target", "prediction"]).rename("rows").reset_index()
    return counts.assign(wrong=counts["rows"].where(counts["target"] != counts["prediction"], 0))


# Charts


def with_color(board: pandas.DataFrame, drawn: Sequence[str]) -> pandas.DataFrame:
    """The board with a column "color": the name of each run that is drawn, OTHERS of the others, which come first."""
    names = board["name"].where(board["name"].isin(drawn), OTHERS)
    return board.assign(color=names).sort_values("color", key=lambda color: color != OTHERS, kind="stable")


def color_of(drawn: Sequence[str]) -> Any:
    """A color for each run that is drawn, the same in every chart; grey for OTHERS.

    Args:
        drawn: the values of a column "color", not more than there are COLORS.
    """
    import altair as alt

    scale = alt.Scale(domain=[*drawn, OTHERS], range=[*COLORS[: len(drawn)], "#9a9a9a"])
    legend = alt.Legend(orient="top", columns=1, labelLimit=1000, title=None, values=drawn, symbolOpacity=1)
    return alt.Color("color:N", scale=scale, legend=legend if drawn else None)


def x_axis(values: pandas.Series[Any], title: str) -> Any:
    """The column "x" of a chart, from left to right: logarithmic for numbers of more than one order of magnitude.

    Args:
        values: of a parameter, one per run; the title says how many runs have no number.
    """
    import altair as alt

    if not is_number(values):
        return alt.X("x:N", title=title)
    absent = f" ({values.isna().sum()} runs have none)" if values.isna().any() else ""
    is_log = bool(values.min() > 0 and values.max() >= 10 * values.min())
    scale = alt.Scale(type="log" if is_log else "linear", zero=False, padding=10, nice=not is_log)
    return alt.X("x:Q", title=title + absent, scale=scale)


def lineage(ticked: Sequence[str]) -> list[Any]:
    """What runs were made from, and these from others: a note, and a chart where there is anything to draw.

    Args:
        ticked: the names of the runs, not more than there are COLORS.
    """
    import altair as alt
    import pandas

    chosen = list(map(load_run, ticked))
    runs = {f"{run.title} {run.id}": run for one in chosen for run in (one, *one.ancestors)}
    read = [(key, f"{each.run} {each.id}", each, run) for key, run in runs.items() for each in run.parents]
    if not read:
        return ["None of these runs was made from another one."]
    x = dict.fromkeys((key for child, parent, *_ in read for key in (parent, child)), 0)
    for child, parent, *_ in read * len(x):  # a run stands right of all that it was made from
        x[child] = max(x[child], x[parent] + 1)
    become = {parent: BECOME.get(run.parent_now(each)[1], "") for _, parent, each, run in read}
    table = pandas.DataFrame({"key": x.keys(), "x": x.values(), "name": [key.rpartition(" ")[0] for key in x]})
    table["y"] = table.groupby("x")["x"].transform("size") / 2 - table.groupby("x").cumcount()
    table["run"] = table["name"].map(short_names(table["name"]))
    table["score"] = [score_text(runs[key].score, runs[key].std) if key in runs else become[key] for key in x]
    table["marks"] = [", ".join(runs[key].marks) if key in runs else become[key] for key in x]
    lines = pandas.DataFrame([(*pair, ", ".join(each.read)) for *pair, each, _ in read], columns=["of", "key", "read"])
    lines = lines.merge(table, on="key").merge(table, left_on="of", right_on="key", suffixes=("", "2"))
    drawn = [name for name in ticked if name in {*table["name"]}]
    scales = [alt.Scale(domain=[table[axis].min() - 0.5, table[axis].max() + 0.5]) for axis in "xy"]
    at = [alt.X("x:Q", axis=None, scale=scales[0]), alt.Y("y:Q", axis=None, scale=scales[1])]
    points = alt.Chart(with_color(table, drawn)).encode(*at, tooltip=["name", "score", "marks"])
    shape = alt.condition("datum.marks", alt.value("triangle-up"), alt.value("circle"))
    size = alt.condition(IS_OTHER, alt.value(60), alt.value(120))
    rules = alt.Chart(lines).mark_rule(color="#8888", strokeWidth=2)
    chart = alt.layer(
        rules.encode(*at, alt.X2("x2"), alt.Y2("y2"), tooltip="read"),
        points.mark_point(filled=True, opacity=1).encode(color_of(drawn), shape=shape, size=size),
        points.mark_text(dy=-13).encode(text="run"),
        points.mark_text(dy=14).encode(text="score"),
        width=240 * (max(x.values()) + 1),
        height=60 * max(Counter(x.values()).values()),
    )
    note = "To the left of a run are those that it was made from. Those not ticked are grey; a triangle has a mark."
    return [note, grid([chart])]


def grid(charts: Sequence[Any], columns: int = 3) -> Any:
    """Charts beside each other, in the colors of a light or a dark page; what IS_OTHER reads is there."""
    import altair as alt

    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "titleFontWeight": "normal"}
    lines = {"gridColor": "#8883", "domainColor": "#8888", "tickColor": "#8888"}
    chart = alt.concat(*charts, columns=columns, usermeta={"embedOptions": {"renderer": "svg"}})
    chart = chart.add_params(alt.param("chosen", value=[]))  # the names of runs
    chart = chart.configure(background="transparent").configure_view(stroke=None).configure_text(fill="currentColor")
    return chart.configure_axis(**ink, **lines).configure_legend(**ink)


# What marimo shows


def stop_without_runs(board: pandas.DataFrame) -> None:
    """End the program, or the cells of a page that marimo shows, with what to do when there is no run yet."""
    import marimo

    if board.empty and marimo.app_meta().mode == "script":
        sys.exit(NO_RUNS)
    marimo.stop(board.empty, marimo.md(f"# Runs\n\n{NO_RUNS}\n\nThen reload this page."))


def section(title: str, parts: Iterable[Any]) -> Any:
    """Texts, tables, charts, and whatever marimo shows by itself, under a title; as marimo's own object."""
    import marimo
    import pandas

    views = [marimo.md(f"## {title}")]
    for part in parts:
        if isinstance(part, pandas.DataFrame):
            part = marimo.ui.table(part, selection=None, show_data_types=False, show_column_summaries=False)
        views.append(
            marimo.Html(f"<p style='overflow-wrap: anywhere'>{escape(part)}</p>") if isinstance(part, str) else part
        )
    return marimo.vstack(views)


def board_table(board: pandas.DataFrame, ticked: Sequence[str]) -> Any:
    """The board as a table of marimo's in which runs can be ticked.

    Args:
        board: as from `labelled_board`.
        ticked: the names of the runs that are ticked at first.
    """
    import marimo

    return marimo.ui.table(
        board.apply(lambda column: column if is_number(column) else column.fillna("")),
        initial_selection=[index for index, name in enumerate(board["name"]) if name in ticked],
        page_size=15,
        freeze_columns_left=["name"],
        wrapped_columns=["name"],
        format_mapping=dict.fromkeys(["score", "std"], lambda one: f"{one:.4f}" if one == one != "" else ""),
        max_columns=None,
        show_data_types=False,
        show_column_summaries=False,
    )


# One file


def html_page(title: str, sections: Mapping[str, Iterable[Any]], ticked: Sequence[str] = ()) -> str:
    """The text of an HTML file that needs neither Python nor a network. Its first table, the board, can be sorted and
    filtered; a click on runs chooses those that the charts show.

    Args:
        title: of the page.
        sections: a heading to what stands below it: texts, tables and charts, at least one table. A text that begins
            with the name of a ticked run is about this run, and so are the tables and charts below it.
        ticked: rows of the first table that are bold, by what stands in their first cell.
    """
    import altair
    import pandas
    import vl_convert

    body: list[str] = []
    charts: list[dict[str, Any]] = []
    for heading, parts in sections.items():
        body.append(f"<h2>{escape(heading)}</h2>")
        for part in parts:
            if isinstance(part, str):
                body.append(f"<p>{escape(part)}</p>")
            elif isinstance(part, pandas.DataFrame):
                with pandas.option_context("display.max_colwidth", None):
                    table = part.to_html(index=False, border=0, na_rep="", float_format="{:.6g}".format)
                body.append(f"<div class=scroll>{table}</div>")
            else:
                body.append("<div class=chart></div>")
                charts.append(part.to_dict())
    vega_lite = altair.SCHEMA_VERSION.rpartition(".")[0]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        body="\n".join(body),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed", vega_lite),
        data=json.dumps({"charts": charts, "ticked": list(ticked)}).replace("<", "\\u003c"),
    )


def command_line() -> tuple[Path, list[str]]:
    """The file to write, and the runs to tick as "<experiment>/<run>", which follow the script on its command line.

    Raises:
        SystemExit: no file is named, its folder is not there, or there is no such run: with one line for the terminal.
    """
    try:
        require(len(sys.argv) > 1, "name the file to write, such as output/page.html")
        file = Path(sys.argv[1])
        require(file.parent.is_dir(), f"{file}: there is no such folder")
        return file, [load_run(run).title for run in sys.argv[2:]]
    except Error as error:
        sys.exit(f"error: {error}")
