"""Sections of texts, tables and charts, shown by marimo or written as one HTML file: for notebooks/page.py.

What notebooks/page.py imports from here stays, for it is the user's, and an update leaves it alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from expkit.board import ordered, read_board
from expkit.compare import with_other_rows
from expkit.errors import Error
from expkit.frames import frame_of, load_run

if TYPE_CHECKING:
    import altair
    import pandas

FIRST, LAST = ["name", "metric", "score", "std", "folds", "marks"], ["seconds", "rows", "finished", "commit"]
NO_PARAMETERS = ["exp.name", "exp.fold", "exp.debug", "exp.mode"]
ABSENT = -0.15  # the height of a run that has no value
OTHERS = "other runs"


def labelled_board() -> pandas.DataFrame:
    """The board to be read: what `expkit.runs` gives, as numbers and texts, without the columns that say nothing.

    "name" is "<experiment>/<run>"; "metric" has an arrow, ↑ higher is better, ↓ lower is better; "folds" is "3/5". Of
    the configuration ("exp.…"), it has the parameters in which runs with a metric differ.

    Raises:
        Error: pandas is not installed.
    """
    rows = ordered(with_other_rows(read_board()))
    board = frame_of(rows)
    board["name"] = [row.name for row in rows]
    board["metric"] = [row.metric and f"{row.metric} {'↑' if row.greater_is_better else '↓'}" for row in rows]
    board["folds"] = [f"{row.folds_done}/{row.n_folds or '?'}" for row in rows]
    board["finished"] = board["finished"].dt.strftime("%Y-%m-%d %H:%M")
    for column in board:
        if not is_number(board[column]):
            board[column] = board[column].map(_text, na_action="ignore")
    is_config = board.columns.str.startswith("exp.")
    parameters = differing(board[board["metric"].notna()], board.columns[is_config].difference(NO_PARAMETERS, False))
    replaced = ["experiment", "run", "folds_done", "n_folds", "split", "seed"]
    others = board.columns[~is_config].difference([*FIRST, *LAST, *replaced], sort=False)
    others = [column for column in others if (board[column].notna() & board[column].ne("")).any()]
    return board[[*FIRST, *others, *parameters, *LAST]]


def differing(board: pandas.DataFrame, columns: Iterable[str]) -> list[str]:
    """The columns of the board in which runs differ; that another experiment has no such parameter is no difference.

    Args:
        board: with a column "name", "<experiment>/<run>".
    """
    experiments = [name.partition("/")[0] for name in board["name"]]
    return [
        column
        for column in columns
        if board[column].nunique() > 1 or (board[column].groupby(experiments).nunique(dropna=False) > 1).any()
    ]


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
        place = table.groupby(["run", "fold"]).cumcount()
        every = int(place.max()) // most + 1
        yield name, f"{axis} (1 of {every} drawn)" if every > 1 else axis, table[place % every == 0]


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


def with_color(board: pandas.DataFrame, drawn: Sequence[str]) -> pandas.DataFrame:
    """The board with a column "color": the name of each run that is drawn, OTHERS of the others, which come first."""
    names = board["name"].where(board["name"].isin(drawn), OTHERS)
    return board.assign(color=names).sort_values("color", key=lambda color: color != OTHERS, kind="stable")


@dataclass(frozen=True)
class Axis:
    """The values of runs as an axis of a chart.

    Attributes:
        values: as they are, (n,).
        texts: the same as words, (n,); "none" where a run has no value.
        heights: from 0, the lowest, to 1, (n,): of text in the order of the alphabet. ABSENT without a value.
        is_number: whether they are numbers.
        is_log: whether the axis is logarithmic: numbers above 0 of more than one order of magnitude.
    """

    values: pandas.Series[Any]
    texts: pandas.Series[str]
    heights: pandas.Series[float]
    is_number: bool
    is_log: bool

    @property
    def absent(self) -> int:
        """How many runs have no value."""
        return int(self.values.isna().sum())

    @property
    def ticks(self) -> pandas.DataFrame:
        """What to write beside the axis, columns "height" and "text": every value, or, of many, the ends."""
        import pandas

        ticks = pandas.DataFrame({"height": self.heights, "text": self.texts}).drop_duplicates("height")
        ticks = ticks.sort_values("height", ignore_index=True)
        present = ticks[ticks["height"] >= 0]
        return ticks if len(present) < 9 else ticks.drop(present.index[1:-1])


def axis_of(values: pandas.Series[Any]) -> Axis:
    """A column of the board as an axis."""
    import numpy

    are_numbers, absent = is_number(values), values.isna()
    is_log = are_numbers and bool(values.min() > 0 and values.max() >= 10 * values.min())
    texts = values.map("{:.4g}".format) if are_numbers else values
    heights = values if are_numbers else values.astype("category").cat.codes.where(~absent)
    heights = numpy.log10(heights) if is_log else heights
    heights = (heights - heights.min()) / (heights.max() - heights.min() or 1)
    return Axis(values, texts.where(~absent, "none"), heights.fillna(ABSENT), are_numbers, is_log)


def with_axes(table: pandas.DataFrame, axes: Iterable[Axis]) -> pandas.DataFrame:
    """The table of the runs with the columns x0, text0, height0, x1, ...: the values, texts and heights of axes."""
    columns: dict[str, Any] = {}
    for place, axis in enumerate(axes):
        columns |= {f"x{place}": axis.values, f"text{place}": axis.texts, f"height{place}": axis.heights}
    return table.assign(**columns)


def confusion(rows: pandas.DataFrame) -> pandas.DataFrame:
    """How many rows have each pair of target and prediction, the most frequent pair first.

    Args:
        rows: with columns "target" and "prediction", as from `expkit.mistakes`.

    Returns:
        the columns "target", "prediction", "rows", and "wrong": the same number, 0 where both are equal.
    """
    counts = rows.value_counts(["target", "prediction"]).rename("rows").reset_index()
    return counts.assign(wrong=counts["rows"].where(counts["target"] != counts["prediction"], 0))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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


def display_path(title: str, parts: Iterable[Any]) -> Any:
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
