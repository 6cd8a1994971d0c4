"""Tables for charts: the board to be read, learning curves and their means, the values of runs as axes, confusions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expkit.inspect.beside import with_other_rows
from expkit.inspect.board import read_board
from expkit.inspect.frame import frame_of
from expkit.inspect.order import ordered

if TYPE_CHECKING:
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
