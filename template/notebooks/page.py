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
    import altair as alt
    import marimo as mo
    import pandas as pd

    import expkit
    from expkit import page

    alt.data_transformers.disable_max_rows()
    # The most that are drawn; a note says if there are more.
    MOST_RUNS, MOST_POINTS, MOST_CLASSES, MOST_ROWS = 10, 300, 20, 2000


@app.function
def curves(ticked):
    """The learning curves of runs over each other, a chart for each number that they have logged."""
    drawn = ticked[:MOST_RUNS]
    logged = expkit.curves(drawn)
    notes = ["A thin line is a fold, a thick one the mean of all folds."]
    notes += [f"{run} has logged nothing." for run in drawn if run not in set(logged["run"])]
    if len(ticked) > MOST_RUNS:
        notes.append(f"Drawn are the first {MOST_RUNS} of {len(ticked)} ticked runs.")
    views, is_mean = [], alt.datum.fold == "mean"
    for name, axis, table in page.curves_to_draw(logged, MOST_POINTS):
        table = table[["x", "value", "run", "fold"]].set_axis(["x", "y", "color", "fold"], axis=1)
        lines = alt.Chart(table, width=270, height=210).mark_line().transform_filter(f"!({page.IS_OTHER})")
        lines = lines.encode(
            alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, nice=False)),
            alt.Y("y:Q", title=name, scale=alt.Scale(zero=False)),
            page.color_of(drawn),
            detail="fold:N",
            opacity=alt.condition(is_mean, alt.value(1), alt.value(0.3)),
            strokeWidth=alt.condition(is_mean, alt.value(2), alt.value(1)),
        )
        views.append(lines)
    return [" ".join(notes), *([page.grid(views)] if views else [])]


@app.function
def scores(board, metric, parameters, ticked):
    """The score of every run against each parameter."""
    rows = board[board["metric"] == metric].dropna(subset="score")
    parameters = page.differing(rows, parameters)
    if not parameters:
        return [f"Runs with a score in {metric}: {len(rows)}. They differ in no parameter that is drawn."]
    rows, color = page.with_color(rows, ticked[:MOST_RUNS]), page.color_of(ticked[:MOST_RUNS])
    note = f"Runs with a score in {metric}: {len(rows)}. Those not ticked are grey; a triangle has a mark."
    return [note, page.grid([against(rows, parameter, metric, color) for parameter in parameters])]


@app.function
def against(rows, parameter, metric, color):
    """The score of every run against one parameter."""
    values = rows[parameter] if page.is_number(rows[parameter]) else rows[parameter].fillna("none")
    table = rows[["name", "score", "std", "folds", "marks", "color"]].assign(x=values)
    chart = alt.Chart(table, width=270, height=210).mark_point(filled=True)
    return chart.encode(
        page.x_axis(values, parameter),
        alt.Y("score:Q", title=metric, scale=alt.Scale(zero=False, padding=10)),
        color,
        opacity=alt.condition(page.IS_OTHER, alt.value(0.4), alt.value(1)),
        size=alt.condition(page.IS_OTHER, alt.value(25), alt.value(90)),
        shape=alt.condition("datum.marks", alt.value("triangle-up"), alt.value("circle")),
        tooltip=["name", "score", "std", alt.Tooltip("x", title=parameter), "folds", "marks"],
    )


@app.function
def errors(name):
    """Where a run errs: numbers against the target, or classes in a confusion matrix; and the worst rows."""
    try:
        outputs = expkit.mistakes(name)
    except expkit.Error as error:
        return [f"{error}."]
    parts = []
    for output, rows in outputs.items():
        rows = rows.astype({"id": str})
        about, chart, worst = numbers(rows) if "error" in rows else classes(rows)
        which = output.replace("prediction", "", 1).replace("_", ", output ", 1)
        parts += [f"{name}{which}: {len(rows)} out-of-fold rows{about}", chart, worst]
    return parts


@app.function
def numbers(rows):
    """A note, a chart and the worst rows, of predicted numbers."""
    drawn = pd.concat([rows.sample(min(len(rows), MOST_ROWS), random_state=0), rows.head(10)]).drop_duplicates("id")
    about = f", of which {len(drawn)} are drawn" if len(drawn) < len(rows) else ""
    chart = alt.Chart(drawn, width=500, height=300).encode(tooltip=list(drawn))
    if rows["target"].nunique() <= 10:
        chart = chart.mark_tick(opacity=0.3).encode(x="target:N", y="prediction:Q")
    else:
        x = alt.X("target:Q", scale=alt.Scale(zero=False))
        chart = chart.mark_circle(opacity=0.5).encode(x, alt.Y("error:Q", title="prediction − target"))
    return f"{about}. The table lists the largest errors.", page.grid([chart]), rows.head(10)


@app.function
def classes(rows):
    """A note, a confusion matrix and the worst rows, of predicted classes."""
    wrong = rows[rows["target"] != rows["prediction"]]
    worst = wrong.head(10).round({"confidence": 4})
    listed = "those of which the model was most sure" if "confidence" in rows else f"the first {len(worst)}"
    about = f", {len(wrong)} of them wrong. The table lists {listed}."
    counts = page.confusion(rows)
    if counts[["target", "prediction"]].nunique().max() > MOST_CLASSES:
        about += f" Of many classes, only the {MOST_CLASSES} pairs that are confused most often:"
        return about, counts[counts["wrong"] > 0].drop(columns="wrong").head(MOST_CLASSES), worst
    chart = alt.Chart(counts, width=alt.Step(30), height=alt.Step(30)).encode(x="prediction:N", y="target:N")
    red = alt.Opacity("wrong:Q", scale=alt.Scale(range=[0, 0.9]), legend=None)
    chart = chart.mark_rect(color="#e45756").encode(red) + chart.mark_text().encode(text="rows:Q")
    return about, page.grid([chart]), worst


@app.cell
def _():
    file, named = page.command_line() if mo.app_meta().mode == "script" else (None, [])
    board = page.labelled_board()
    page.stop_without_runs(board)
    best = board["name"][board["score"].notna() & (board["metric"] == board["metric"].iloc[0])].head(3).tolist()
    table = page.board_table(board, named or best)
    parameters = [column for column in board if column.startswith("exp.")]
    axes = mo.ui.multiselect(parameters, value=page.first_axes(board, named or best), full_width=True)
    facts = f"{len(board)} runs, {board['score'].isna().sum()} of them without a score. "
    facts += "↑: higher is better, ↓: lower is better. The charts show the ticked runs."
    page.section("Runs", [facts, table])
    return axes, board, facts, file, table


@app.cell
def _(table):
    ticked = table.value["name"].tolist()
    curve_parts = curves(ticked)
    whose = mo.ui.dropdown(ticked, value=ticked[0] if ticked else None, full_width=True)
    page.section("Learning curves", curve_parts)
    return curve_parts, ticked, whose


@app.cell
def _(axes, board, ticked):
    metrics = board["metric"].dropna().unique()
    score_parts = [part for metric in metrics for part in scores(board, metric, axes.value, ticked)]
    page.section("Score and parameters", [axes, *score_parts])
    return (score_parts,)


@app.cell
def _(whose):
    error_parts = errors(whose.value) if whose.value else ["Tick a run."]
    page.section("Where the out-of-fold rows err", [whose, *error_parts])
    return


@app.cell
def _(ticked):
    lineage_parts = page.lineage(ticked[:MOST_RUNS])
    page.section("What they were made from", lineage_parts)
    return (lineage_parts,)


@app.cell
def _(board, curve_parts, facts, file, lineage_parts, score_parts, ticked):
    def whole():
        wrong = [part for name in ticked[:MOST_RUNS] for part in errors(name)]
        sections = {"Board": [facts, board], "Learning curves": curve_parts, "Score and parameters": score_parts}
        sections |= {"Where the out-of-fold rows err": wrong, "What they were made from": lineage_parts}
        return page.html_page("Runs", sections, ticked)

    if file:
        file.write_text(whole(), encoding="utf-8")
    mo.download(whole, "page.html", "text/html", label="This page as one file")
    return


if __name__ == "__main__":
    app.run()
