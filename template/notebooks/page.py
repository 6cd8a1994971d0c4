"""Every run on a page to look at: the board, and of the ticked runs their curves, parameters and errors.

- `uv run --group page marimo run notebooks/page.py` opens it; reload it to read the runs again
- `uv run --group page python notebooks/page.py output/page.html` writes it as one file to send, the best runs ticked;
  `... output/page.html RUN RUN`, with these ticked
- `uv run --group page marimo edit notebooks/page.py` changes it: it is yours, an update does not touch it
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="Runs")

with app.setup:
    import json
    import sys
    from html import escape
    from pathlib import Path

    import altair as alt
    import marimo as mo
    import numpy as np
    import pandas as pd

    import expkit

    alt.data_transformers.disable_max_rows()
    MOST_RUNS, MOST_POINTS, MOST_CLASSES, MOST_ROWS = 10, 300, 20, 2000  # that are drawn; a note says if there are more
    COLORS = "#4c78a8 #f58518 #54a24b #e45756 #b279a2 #43a39d #d67195 #9d755d #a89200 #6b6bff".split()
    OTHERS = "other runs"
    FILE = """<!doctype html><html lang=en><meta charset=utf-8><title>Runs</title><style>
    :root { color-scheme: light dark } body { font: 15px/1.5 sans-serif; max-width: 1200px; margin: 2rem auto }
    .scroll { max-height: 32rem } .scroll, .chart { overflow: auto; max-width: 100%% } .ticked { font-weight: bold }
    .chart, .chart + .scroll { display: inline-block; vertical-align: top; margin: 0 2rem 1rem 0 }
    table { border-collapse: collapse; white-space: nowrap; font-size: 13px } tr { border-bottom: 1px solid #8884 }
    th, td { padding: .2rem .6rem; text-align: left }
    th { position: sticky; top: 0; background: Canvas; cursor: pointer }
    </style><body><h1>Runs</h1><input type=search placeholder="filter the board">%s<script>%s</script><script>
    const page = %s, board = document.querySelector("table"), rows = [...board.tBodies[0].rows];
    document.querySelectorAll(".chart").forEach((element, i) => vegaEmbed(element, page.charts[i], {actions: false}));
    rows.forEach(row => row.classList.toggle("ticked", page.ticked.includes(row.cells[0].textContent)));
    document.querySelector("input").oninput = event => rows.forEach(row => row.hidden =
      !event.target.value.toLowerCase().split(" ").every(word => row.textContent.toLowerCase().includes(word)));
    [...board.tHead.rows[0].cells].forEach((head, i) => head.onclick = () => {
      head.ariaSort = head.ariaSort == "ascending" ? "descending" : "ascending";
      const sign = head.ariaSort == "ascending" ? 1 : -1, text = row => row.cells[i].textContent;
      const compare = (a, b) => (a == "") - (b == "") || sign * (a - b || a.localeCompare(b));
      board.tBodies[0].append(...rows.sort((a, b) => compare(text(a), text(b))));
    });</script>"""


@app.function
def is_number(values):
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


@app.function
def text(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.function
def four_digits(number):
    return "" if pd.isna(number) else f"{number:.4f}"


@app.function
def differing(rows, columns):
    """The columns in which runs differ; that another experiment lacks one is no difference."""
    inside = rows.groupby(rows["name"].str.partition("/")[0])[list(columns)].nunique(dropna=False).max()
    return [column for column in columns if inside[column] > 1 or rows[column].nunique() > 1]


@app.function
def read_board():
    """The board, and the parameters that differ. A metric has an arrow: ↑ higher is better, ↓ lower is better."""
    board = expkit.runs()
    if board.empty:
        return board, []
    board.insert(0, "name", board.pop("experiment") + "/" + board.pop("run"))
    kinds = board["name"].str.partition("/")[0] + "\n" + board["metric"]
    firsts = board.groupby(kinds)["name"].first()  # one run tells the direction for all of its kind
    arrows = {kind: "↑" if expkit.load_run(name).row.greater_is_better else "↓" for kind, name in firsts.items()}
    board["metric"] += " " + kinds.map(arrows)
    done, n_folds = (board[column].map("{:.0f}".format, na_action="ignore") for column in ("folds_done", "n_folds"))
    board["folds"] = done + "/" + n_folds.fillna("?")
    board["finished"] = board["finished"].dt.strftime("%Y-%m-%d %H:%M")
    for column in board.columns[~board.apply(is_number)]:
        board[column] = board[column].map(text, na_action="ignore")
    no_parameter = board.columns.isin(["exp.name", "exp.fold", "exp.debug", "exp.mode"])
    config = board.columns[board.columns.str.startswith("exp.") & ~no_parameter]
    parameters = differing(board[board["metric"].notna()], config)
    first, last = ["name", "metric", "score", "std", "folds", "marks"], ["seconds", "rows", "finished", "commit"]
    others = board.columns.difference([*first, *last, "folds_done", "n_folds", "split", "seed"], sort=False)
    others = [column for column in others if not column.startswith("exp.") and board[column].fillna("").ne("").any()]
    return board[[*first, *others, *parameters, *last]], parameters


@app.function
def color_of(ticked):
    """A color for each run that is drawn, the same in every chart; grey for the others."""
    drawn = ticked[:MOST_RUNS]
    scale = alt.Scale(domain=[*drawn, OTHERS], range=[*COLORS[: len(drawn)], "#9a9a9a"])
    legend = alt.Legend(orient="top", columns=1, labelLimit=1000, title=None, values=drawn, symbolOpacity=1)
    return alt.Color("color:N", scale=scale, legend=legend if drawn else None)


@app.function
def grid(charts, columns=3):
    """Charts beside each other, in the colors of a light or a dark page."""
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "titleFontWeight": "normal"}
    lines = {"gridColor": "#8883", "domainColor": "#8888", "tickColor": "#8888"}
    chart = alt.concat(*charts, columns=columns).properties(usermeta={"embedOptions": {"renderer": "svg"}})
    chart = chart.configure(background="transparent").configure_view(stroke=None).configure_text(fill="currentColor")
    return chart.configure_axis(**ink, **lines).configure_legend(**ink)


@app.function
def curves(ticked):
    """The learning curves of runs over each other, a chart for each number that they have logged."""
    lines: list[pd.DataFrame] = []
    notes = ["A thin line is a fold, a thick one the mean of all folds."]
    for name in ticked[:MOST_RUNS]:
        run, before = expkit.load_run(name), len(lines)
        for fold in run.folds:
            histories = {over: run.history(fold, over) for over in ("epoch", "step")}
            for over, history in (histories if any(histories.values()) else {"row": run.history(fold)}).items():
                at = history.get(over) or range(1, 1 + max(map(len, history.values()), default=0))
                for logged in [column for column in history if column not in histories]:
                    line = pd.DataFrame({"x": at, "y": history[logged], "logged": logged}).dropna()
                    lines.append(line.assign(over=over, fold=str(fold), color=name))
        notes += [f"{name} has logged nothing."] * (len(lines) == before)
    charts, is_mean = [], alt.datum.fold == "mean"
    shown = pd.concat(lines).groupby(["logged", "over"], sort=False) if lines else []
    for (logged, over), table in shown:
        every = -(-int(table.groupby(["color", "fold"]).size().max()) // MOST_POINTS)
        table = table[table.groupby(["color", "fold"]).cumcount() % every == 0]
        means = table.groupby(["color", "x"], as_index=False, sort=False).agg(y=("y", "mean"), folds=("y", "size"))
        means = means[means["folds"] == means.groupby("color")["folds"].transform("max")].assign(fold="mean")
        line = alt.Chart(pd.concat([table, means])[["x", "y", "color", "fold"]], width=270, height=210).mark_line()
        thin = f" (1 of {every} drawn)" * (every > 1)
        x = alt.X("x:Q", title=over + thin, scale=alt.Scale(zero=False, nice=False))
        y = alt.Y("y:Q", title=logged, scale=alt.Scale(zero=False))
        opacity = alt.condition(is_mean, alt.value(1), alt.value(0.3))
        width = alt.condition(is_mean, alt.value(2), alt.value(1))
        charts.append(line.encode(x, y, color_of(ticked), detail="fold:N", opacity=opacity, strokeWidth=width))
    notes += [f"Drawn are the first {MOST_RUNS} of {len(ticked)} ticked runs."] * (len(ticked) > MOST_RUNS)
    return [" ".join(notes), *([grid(charts)] if charts else [])]


@app.function
def scores(board, metric, parameters, ticked):
    """The score of every run against each parameter; then a line for each run through all of these to its score."""
    rows = board[board["metric"] == metric].dropna(subset="score")
    parameters = differing(rows, parameters)
    if not parameters:
        return [f"Runs with a score in {metric}: {len(rows)}. They differ in none of these parameters."]
    rows = rows.assign(color=rows["name"].where(rows["name"].isin(ticked[:MOST_RUNS]), OTHERS))
    rows = rows.sort_values("color", key=lambda color: color != OTHERS, kind="stable")  # these are drawn last
    about = rows[["name", "score", "std", "folds", "marks", "color"]].copy()
    charts, ticks, titles, is_other = [], [], {}, alt.datum.color == OTHERS
    for place, title in enumerate([*parameters, metric]):
        values = rows["score" if title == metric else title]
        lacking, has_numbers = values.isna(), is_number(values)
        is_log = has_numbers and values.min() > 0 and values.max() >= 10 * values.min()
        words = (values.map("{:.4g}".format) if has_numbers else values).where(~lacking, "none")
        height = values if has_numbers else values.astype("category").cat.codes.where(~lacking)
        height = np.log10(height) if is_log else height
        height = ((height - height.min()) / (height.max() - height.min() or 1)).fillna(-0.15)
        about[f"x{place}"], about[f"text{place}"], about[f"height{place}"] = values, words, height
        titles[f"height{place}"] = title
        tick = pd.DataFrame({"axis": f"height{place}", "height": height, "text": words}).drop_duplicates("height")
        present = tick[tick["height"] >= 0].sort_values("height")
        ticks += [present if len(present) < 9 else present.iloc[[0, -1]], tick[tick["height"] < 0]]
        named = title + f" ({lacking.sum()} runs have none)" * bool(lacking.any())
        scale = alt.Scale(type="log" if is_log else "linear", zero=False, padding=10, nice=not is_log)
        point = (
            alt.Chart(about, width=270, height=210)
            .mark_point(filled=True)
            .encode(
                alt.X(f"x{place}:Q", title=named, scale=scale) if has_numbers else alt.X(f"text{place}:N", title=title),
                alt.Y("score:Q", title=metric, scale=alt.Scale(zero=False, padding=10)),
                color_of(ticked),
                opacity=alt.condition(is_other, alt.value(0.4), alt.value(1)),
                size=alt.condition(is_other, alt.value(25), alt.value(90)),
                shape=alt.condition("datum.marks", alt.value("triangle-up"), alt.value("circle")),
                tooltip=["name", "score", "std", alt.Tooltip(f"text{place}:N", title=title), "folds", "marks"],
            )
        )
        charts.append(point)
    rank = rows["score"].rank(method="max", pct=True, ascending=metric.endswith("↑"))
    about["shade"] = np.maximum(rank**6 / 2, min(0.3, 30 / len(rows)))
    labels = alt.Axis(labelExpr=f"{json.dumps(titles)}[datum.value]", labelAngle=0, labelLimit=150, grid=True)
    x, y = alt.X("axis:N", sort=list(titles), title=None, axis=labels), alt.Y("height:Q", axis=None)
    line = alt.Chart(about, width=1000, height=260).transform_fold(list(titles), ["axis", "height"]).mark_line()
    line = line.encode(
        x,
        y,
        color_of(ticked),
        detail="name:N",
        opacity=alt.condition(is_other, alt.Opacity("shade:Q", scale=None), alt.value(1)),
        strokeWidth=alt.condition(is_other, alt.value(1), alt.value(2.5)),
        tooltip=["name", "score"],
    )
    tick = alt.Chart(pd.concat(ticks)).mark_text(align="left", baseline="bottom", dx=6, limit=140)
    note = f"Runs with a score in {metric}: {len(rows)}. Grey are those not ticked, a triangle is one with a mark. "
    note += "In the chart of lines, each is a run: the better its score, the darker."
    return [note, grid([alt.concat(*charts[:-1], columns=3), line + tick.encode(x, y, text="text:N")], 1)]


@app.function
def errors(name):
    """Where a run errs: numbers against the target, or classes in a confusion matrix; and the worst rows."""
    try:
        saved = expkit.load_run(name).oof
    except expkit.Error as error:
        return [f"{name}: {error}"]
    oof: dict[str, np.ndarray] = {}  # a column with several values a row as several columns
    for column, values in saved.items():
        oof |= {column: values} if values.ndim == 1 else {f"{column}_{i}": part for i, part in enumerate(values.T)}
    ends = [column.removeprefix("prediction") for column in oof if column.startswith("prediction")]
    ends = [end for end in ends if f"target{end}" in oof]
    if not ends:
        return [f"{name} has no columns target and prediction; it has {', '.join(oof) or 'no finished fold'}."]
    likely = [values for column, values in oof.items() if column.startswith("probability") and len(ends) == 1]
    sure = np.max(likely if len(likely) > 1 else [*likely, *(1 - one for one in likely)], axis=0) if likely else np.nan
    parts = []
    for end in ends:
        columns = {"id": "id", "fold": "fold", "target": f"target{end}", "prediction": f"prediction{end}"}
        rows = pd.DataFrame({name: oof[column] for name, column in columns.items()}).astype({"id": str})
        target, prediction = rows["target"], rows["prediction"]
        about = f"{name}{end.replace('_', ', output ')}: {len(rows)} out-of-fold rows"
        has_few, are_numbers = target.nunique() <= 10, is_number(target) and is_number(prediction)
        if are_numbers and ((target % 1 != 0).any() or (prediction % 1 != 0).any() or target.nunique() > 50):
            rows["error"] = prediction.astype(float) - target
            worst = rows.loc[rows["error"].abs().nlargest(10).index]
            drawn = pd.concat([rows.sample(min(len(rows), MOST_ROWS), random_state=0), worst]).drop_duplicates("id")
            some = f", of which {len(drawn)} are drawn" * (len(drawn) < len(rows))
            about += f"{some}. Listed are the largest errors."
            chart = alt.Chart(drawn, width=500, height=300).encode(tooltip=list(drawn))
            if has_few:
                chart = chart.mark_tick(opacity=0.3).encode(x="target:N", y="prediction:Q")
            else:
                x, y = alt.X("target:Q", scale=alt.Scale(zero=False)), alt.Y("error:Q", title="prediction − target")
                chart = chart.mark_circle(opacity=0.5).encode(x, y)
        else:
            wrong = rows.assign(confidence=sure).round({"confidence": 4})[target != prediction]
            worst = wrong.sort_values("confidence", ascending=False, kind="stable").head(10).dropna(axis=1, how="all")
            about += f", {len(wrong)} of them wrong. Listed are "
            about += "those of which it was most sure." if likely else f"the first {len(worst)}."
            counts = rows.value_counts(["target", "prediction"]).rename("rows").reset_index()
            counts["wrong"] = counts["rows"].where(counts["target"] != counts["prediction"], 0)
            if counts[["target", "prediction"]].nunique().max() <= MOST_CLASSES:
                chart = alt.Chart(counts, width=alt.Step(30), height=alt.Step(30)).encode(
                    x="prediction:N", y="target:N"
                )
                red = alt.Opacity("wrong:Q", scale=alt.Scale(range=[0, 0.9]), legend=None)
                chart = chart.mark_rect(color="#e45756").encode(red) + chart.mark_text().encode(text="rows:Q")
            else:
                about += f" Of many classes, only the {MOST_CLASSES} pairs that are confused most often:"
                chart = counts[counts["wrong"] > 0].head(MOST_CLASSES).drop(columns="wrong")
        chart = chart if isinstance(chart, pd.DataFrame) else grid([chart])
        parts += [about, chart, worst.reset_index(drop=True)]
    return parts


@app.function
def shown(title, parts):
    """Texts, tables and charts under a title."""
    views = [mo.md(f"## {title}")]
    for part in parts:
        if isinstance(part, pd.DataFrame):
            part = mo.ui.table(part, selection=None, show_data_types=False, show_column_summaries=False)
        views.append(mo.Html(f"<p>{escape(part)}</p>") if isinstance(part, str) else part)
    return mo.vstack(views)


@app.function
def as_file(ticked, sections):
    """The page as one HTML file that needs neither Python nor a network."""
    import vl_convert

    body, charts = [], []
    for title, parts in sections.items():
        body.append(f"<h2>{title}</h2>")
        for part in parts:
            if isinstance(part, str):
                body.append(f"<p>{escape(part)}</p>")
            elif isinstance(part, pd.DataFrame):
                with pd.option_context("display.max_colwidth", None):
                    table = part.to_html(index=False, border=0, na_rep="", float_format="{:.6g}".format)
                body.append(f"<div class=scroll>{table}</div>")
            else:
                body.append("<div class=chart></div>")
                charts.append(part.to_dict())
    data = json.dumps({"charts": charts, "ticked": ticked}).replace("<", "\\u003c")
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed", alt.SCHEMA_VERSION.rpartition(".")[0])
    return FILE % ("".join(body), library, data)


@app.cell
def _():
    is_file = mo.app_meta().mode == "script"
    board, parameters = read_board()
    empty = "No runs yet. Train the baseline: uv run python experiments/001-baseline/train.py"
    if is_file and (board.empty or len(sys.argv) < 2):
        sys.exit(empty if board.empty else "error: name the file to write, such as output/page.html")
    mo.stop(board.empty, mo.md(f"# Runs\n\n{empty}\n\nThen reload this page."))
    ticked_first = board["name"][board["score"].notna()].head(3).tolist()
    try:
        named = [expkit.load_run(run).record.title for run in sys.argv[2:]] if is_file else []
    except expkit.Error as error:
        sys.exit(f"error: {error}")
    at_first = board["name"].isin(named or ticked_first)
    texts = board.apply(lambda column: column if is_number(column) else column.fillna(""))
    table = mo.ui.table(
        texts,
        initial_selection=np.flatnonzero(at_first).tolist(),
        page_size=15,
        freeze_columns_left=["name"],
        format_mapping={"score": four_digits, "std": four_digits},
        max_columns=None,
        show_data_types=False,
        show_column_summaries=False,
    )
    axes = mo.ui.multiselect(parameters, value=parameters[:6], full_width=True)
    facts = f"{len(board)} runs, {board['score'].isna().sum()} of them without a score. "
    facts += "↑: higher is better, ↓: lower is better. The charts show the ticked runs."
    shown("Runs", [facts, table])
    return axes, board, facts, is_file, table


@app.cell
def _(table):
    ticked = table.value["name"].tolist()
    curve_parts = curves(ticked)
    whose = mo.ui.dropdown(ticked, value=ticked[0] if ticked else None, full_width=True)
    shown("Learning curves", curve_parts)
    return curve_parts, ticked, whose


@app.cell
def _(axes, board, ticked):
    metrics = board["metric"].dropna().unique()
    score_parts = [part for metric in metrics for part in scores(board, metric, axes.value, ticked)]
    shown("Score and parameters", [axes, *score_parts])
    return (score_parts,)


@app.cell
def _(whose):
    error_parts = errors(whose.value) if whose.value else ["Tick a run."]
    shown("Where the out-of-fold rows err", [whose, *error_parts])
    return


@app.cell
def _(board, curve_parts, facts, is_file, score_parts, ticked):
    def whole():
        wrong = [part for name in ticked[:MOST_RUNS] for part in errors(name)]
        sections = {"Board": [facts, board], "Learning curves": curve_parts, "Score and parameters": score_parts}
        return as_file(ticked, sections | {"Where the out-of-fold rows err": wrong})

    if is_file:
        try:
            Path(sys.argv[1]).write_text(whole(), encoding="utf-8")
        except OSError as error:
            sys.exit(f"error: {sys.argv[1]}: {error.strerror}")
    mo.download(whole, "page.html", "text/html", label="This page as one file")
    return


if __name__ == "__main__":
    app.run()
