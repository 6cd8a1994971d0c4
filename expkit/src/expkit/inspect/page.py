"""Sections of texts, tables and charts, shown by marimo or written as one HTML file: for notebooks/page.py.

What notebooks/page.py imports from here and from `charts` stays, for it is the user's, and an update leaves it alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from expkit.errors import Error
from expkit.inspect.charts import OTHERS, Axis, is_number
from expkit.inspect.loaded import load_run

if TYPE_CHECKING:
    import altair
    import pandas

TEMPLATE = Path(__file__).with_suffix(".html")
COLORS = "#4c78a8 #f58518 #54a24b #e45756 #b279a2 #43a39d #d67195 #9d755d #a89200 #6b6bff".split()
IS_OTHER = f"datum.color == '{OTHERS}'"  # in a chart of a table with the column of `charts.with_color`
NO_RUNS = "No runs yet. Train the baseline: uv run python experiments/001-baseline/train.py"


def stop_without_runs(board: pandas.DataFrame) -> None:
    """End the program, or the cells of a page that marimo shows, with what to do when there is no run yet."""
    import marimo

    if board.empty and marimo.app_meta().mode == "script":
        sys.exit(NO_RUNS)
    marimo.stop(board.empty, marimo.md(f"# Runs\n\n{NO_RUNS}\n\nThen reload this page."))


def shown(title: str, parts: Iterable[Any]) -> Any:
    """Texts, tables, charts, and whatever marimo shows by itself, under a title; as marimo's own object."""
    import marimo
    import pandas

    views = [marimo.md(f"## {title}")]
    for part in parts:
        if isinstance(part, pandas.DataFrame):
            part = marimo.ui.table(part, selection=None, show_data_types=False, show_column_summaries=False)
        views.append(marimo.Html(f"<p>{escape(part)}</p>") if isinstance(part, str) else part)
    return marimo.vstack(views)


def board_table(board: pandas.DataFrame, ticked: Sequence[str]) -> Any:
    """The board as a table of marimo's in which runs can be ticked.

    Args:
        board: as from `charts.labelled_board`.
        ticked: the names of the runs that are ticked at first.
    """
    import marimo

    digits: dict[str, Any] = dict.fromkeys(["score", "std"], lambda number: "" if number != number else f"{number:.4f}")
    return marimo.ui.table(
        board.apply(lambda column: column if is_number(column) else column.fillna("")),
        initial_selection=[place for place, name in enumerate(board["name"]) if name in ticked],
        page_size=15,
        freeze_columns_left=["name"],
        format_mapping=digits,
        max_columns=None,
        show_data_types=False,
        show_column_summaries=False,
    )


def html_page(
    title: str,
    sections: Mapping[str, Iterable[Any]],
    ticked: Sequence[str] = (),
) -> str:
    """The text of an HTML file that needs neither Python nor a network. Its first table, the board,
    can be sorted and filtered.

    Args:
        title: of the page.
        sections: a heading to what stands below it: texts, tables and charts, at least one table.
        ticked: rows of the first table that are bold, by what stands in their first cell.

    Raises:
        Error: Altair or vl-convert is not installed.
    """
    altair = _altair()
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


def grid(charts: Sequence[Any], columns: int = 3) -> altair.ConcatChart:
    """Charts beside each other, in the colors of a light or a dark page.

    Raises:
        Error: Altair or vl-convert is not installed.
    """
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "titleFontWeight": "normal"}
    lines = {"gridColor": "#8883", "domainColor": "#8888", "tickColor": "#8888"}
    chart = _altair().concat(*charts, columns=columns).properties(usermeta={"embedOptions": {"renderer": "svg"}})
    chart = chart.configure(background="transparent").configure_view(stroke=None).configure_text(fill="currentColor")
    styled: altair.ConcatChart = chart.configure_axis(**ink, **lines).configure_legend(**ink)
    return styled


def color_of(drawn: Sequence[str], colors: Sequence[str] = COLORS) -> altair.Color:
    """A color for each run that is drawn, the same in every chart; grey for OTHERS.

    Args:
        drawn: the values of a column "color", not more than there are colors.
    """
    alt = _altair()
    scale = alt.Scale(domain=[*drawn, OTHERS], range=[*colors[: len(drawn)], "#9a9a9a"])
    legend = alt.Legend(orient="top", columns=1, labelLimit=1000, title=None, values=drawn, symbolOpacity=1)
    color: altair.Color = alt.Color("color:N", scale=scale, legend=legend if drawn else None)
    return color


def x_of(place: int, title: str, axis: Axis) -> altair.X:
    """An axis of the table that `charts.with_axes` gives, from left to right; its title says how many have no value.

    Args:
        place: of the axis in that table: the columns x0 and text0 are those of place 0.
    """
    alt = _altair()
    x: altair.X = alt.X(f"text{place}:N", title=title)
    if axis.is_number:
        scale = alt.Scale(type="log" if axis.is_log else "linear", zero=False, padding=10, nice=not axis.is_log)
        x = alt.X(f"x{place}:Q", title=title + f" ({axis.absent} runs have none)" * bool(axis.absent), scale=scale)
    return x


def parallel(table: pandas.DataFrame, axes: Mapping[str, Axis], color: altair.Color) -> altair.LayerChart:
    """Parallel coordinates: a line for each run through its values on all axes.

    Args:
        table: as from `charts.with_axes` and `charts.with_color`, with columns "name", "score" and "shade" too: the
            opacity of the other runs, which are thin lines.
        axes: by their titles, from left to right.
        color: as from `color_of`.
    """
    alt = _altair()
    import pandas

    titles = {f"height{place}": title for place, title in enumerate(axes)}
    ticks = pandas.concat([axis.ticks.assign(axis=name) for name, axis in zip(titles, axes.values(), strict=True)])
    labels = alt.Axis(labelExpr=f"{json.dumps(titles)}[datum.value]", labelAngle=0, labelLimit=150, grid=True)
    x, y = alt.X("axis:N", sort=list(titles), title=None, axis=labels), alt.Y("height:Q", axis=None)
    lines = alt.Chart(table, width=1000, height=260).transform_fold(list(titles), ["axis", "height"]).mark_line()
    lines = lines.encode(
        x,
        y,
        color,
        detail="name:N",
        opacity=alt.condition(IS_OTHER, alt.Opacity("shade:Q", scale=None), alt.value(1)),
        strokeWidth=alt.condition(IS_OTHER, alt.value(1), alt.value(2.5)),
        tooltip=["name", "score"],
    )
    texts = alt.Chart(ticks).mark_text(align="left", baseline="bottom", dx=6, limit=140)
    chart: altair.LayerChart = lines + texts.encode(x, y, text="text:N")
    return chart


def command_line() -> tuple[Path, list[str]]:
    """The file to write, and the runs to tick as "<experiment>/<run>", which follow the script on its command line.

    Raises:
        SystemExit: no file is named, or there is no such run: with one line for the terminal.
    """
    try:
        if len(sys.argv) < 2:
            raise Error("name the file to write, such as output/page.html")
        return Path(sys.argv[1]), [load_run(run).record.title for run in sys.argv[2:]]
    except Error as error:
        sys.exit(f"error: {error}")


def write_page(file: Path, text: str) -> None:
    """Write a page.

    Raises:
        SystemExit: the file cannot be written: with one line for the terminal.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.exit(f"error: {file}: {error.strerror}")


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise Error(
            f"a page needs {error.name}: `uv run --group page ...`, or `uv add altair vl-convert-python`"
        ) from None
    return altair
