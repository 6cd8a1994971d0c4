"""Several problems in one project: what shares metric, target and rows is compared, and nothing else is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy
import pytest
from experiments import own_experiment
from helpers import compared, exp, exp_json, load, run_of
from light import edited, train_py

import expkit
from expkit import files, store, tables
from expkit.board import Entry, by_problem, entries, grouped_by_seed, ranked, read_board
from expkit.config import load_experiment
from expkit.show import board_tables, headings

CODE = """
def accuracy(oof):
    return float((oof["target"] == oof["prediction"]).mean())


def rmse(oof):
    return float(((oof["target"] - oof["prediction"]) ** 2).mean() ** 0.5)


def train(exp, fold):
    import numpy as np

    of = exp.train
    if of.fails:
        raise ValueError("planted")
    ids = np.random.default_rng(exp.seed).permutation(of.rows) + of.first
    target = ids % 3 + of.shift
    rows = fold.split(id=ids, y=target, groups=ids // 2, time=ids)
    wrong = np.random.default_rng([int(1000 * of.wrong), fold.number or 0])

    def predict(rows):
        return (target[rows] + (wrong.random(len(rows)) < of.wrong)) % (3 + of.shift)

    fold.predict(predict, np.arange(of.rows))
"""
FIELDS = "rows: int = 60\nfirst: int = 0\nshift: int = 0\nwrong: float = 0.3\nfails: bool = False"


def experiment(metric: str = "accuracy", upward: bool = True) -> dict[str, str]:
    """An experiment whose rows and targets its parameters say."""
    options = f"metric={metric}, greater_is_better={upward}"
    return {"train.py": train_py(FIELDS, CODE, options, exp="n_folds: int = 3\nseed: int = 0")}


@pytest.fixture
def cats(quick: Path) -> Iterator[Path]:
    with own_experiment(experiment()) as folder:
        yield folder


def trained(folder: Path, name: str, *overrides: str, finished: str | None = None) -> expkit.Run:
    """A run called `name`, as the board has it.

    Args:
        overrides: of the command line; they are not in the name.
        finished: when its folds were done.
    """
    expkit.run(folder.name, overrides=[f"exp.name={name}", *overrides])
    [run] = [run for run in read_board() if run.config.exp.name == name and run.experiment == folder.name]
    if finished:
        change(run, finished=finished)
        expkit.run(folder.name, overrides=[f"exp.name={name}", *overrides])  # scores it again
    return run


def change(run: expkit.Run, folds: Sequence[int] = (0, 1, 2), **facts: Any) -> None:
    """Other values in each result.json of a run; None: without it."""
    for number in folds:
        file = run.folds[number].folder / "result.json"
        without = [key for key, value in facts.items() if value is None]
        found = load(file) | facts
        files.write_json(file, {key: value for key, value in found.items() if key not in without})


def problems(*options: str) -> list[list[str]]:
    """The exp.name of the runs on the board, by problem, as they are there."""
    found: dict[str, list[str]] = {}
    for row in exp_json("board", "--all", *options):
        found.setdefault(row["problem"], []).append(row["exp.name"])
    return list(found.values())


# What rows and targets a run is of


def test_the_same_rows_in_any_order_and_split(cats: Path) -> None:
    """Whatever the folds, their number, the order of the rows; also of the training on all rows."""
    methods = [f"exp.split.method={method}" for method in ("stratified", "group", "time")]
    ways = [[], ["exp.seed=5"], ["exp.split.seed=1"], ["exp.n_folds=1"], *([method] for method in methods)]
    found = {trained(cats, f"n{number}", *way).dataset for number, way in enumerate(ways)}
    [dataset] = found
    assert dataset is not None and dataset.rows == 60
    expkit.run(cats.name, overrides=["exp.name=n0", "exp.mode=sub"])
    full = expkit.load_run(f"{cats.name}/n0").full
    assert full is not None and full.result is not None and full.result.get("dataset") == dataset
    assert len(problems()) == 1


def test_what_a_dataset_is() -> None:
    """The ids and the targets, and no other column."""
    ids, y, masks = numpy.arange(9), numpy.arange(9) / 7, numpy.arange(72).reshape(9, 2, 4)

    def of(**columns: Any) -> Any:
        return tables.dataset(tables.columns({"id": ids} | columns, ""), "")

    whole = of(target=y)
    assert whole == of(target=y, weight=ids) == tables.dataset({"target": y[::-1], "id": ids[::-1]}, "")
    assert whole[0] == 9 and of()[2] is None and of() == of(weight=y, prediction=y)
    boxes = [masks[row].reshape(-1, 4)[: row % 2] for row in range(9)]
    others = [
        of(),
        of(target=-y),
        of(target=y, target_b=y),
        of(target=masks),
        of(target=masks.astype(bool)),
        of(target=boxes),
    ]
    assert len({whole, *others}) == 7 and {each[:2] for each in others} == {whole[:2]}, "the ids are the same"
    fewer = tables.dataset({"id": ids[1:], "target": y[1:]}, "")
    assert fewer[0] == 8 and not {*fewer[1:]} & {*whole[1:]}
    assert tables.dataset({"id": ids.astype(str), "target": y}, "")[1] != whole[1]


def test_a_run_without_it_is_where_its_folds_are(cats: Path) -> None:
    """An older one, or one that splits by itself: one common fold is enough."""
    older, one = trained(cats, "older"), trained(cats, "one", "exp.train.wrong=0.2")
    change(older, dataset=None)
    trained(cats, "part", "exp.fold=[1]")
    assert sorted(*problems()) == ["older", "one", "part"]
    assert older.dataset == one.dataset and expkit.load_run(older.title).dataset is None
    change(older, folds=[0, 1], left_out="others")
    assert sorted(*problems()) == ["older", "one", "part"]
    change(older, left_out="others")
    assert sorted(map(sorted, problems())) == [["older"], ["one", "part"]]
    assert exp("board").splitlines()[-1] == f"{cats.name} has runs of 2 problems: other folds"


def test_rows_that_are_only_trained_on_change_no_problem(cats: Path) -> None:
    """Every fold leaves out the same rows: the scores compare. With the folds of other rows, they do not."""
    numbers = [f"{row},{row % 3 if row < 60 else -1}" for row in range(90)]
    (expkit.input_dir() / "folds.csv").write_text("\n".join(["id,fold", *numbers]))
    split = ["exp.split.method=column", "exp.split.file=folds.csv"]
    plain = trained(cats, "plain", *split, finished="2026-01-01T00:00:00+00:00")
    more = trained(cats, "more", *split, "exp.train.rows=90", finished="2026-01-02T00:00:00+00:00")
    assert plain.dataset != more.dataset and len(problems()) == 1
    assert {row["marks"] for row in exp_json("board", "--all")} == {""}
    found = compared("/plain", "/more")
    assert found["verdict"] != "not comparable", found
    trained(cats, "apart", "exp.train.rows=90")
    assert sorted(map(len, problems())) == [1, 2]


def test_what_has_no_finished_fold_is_with_its_experiment(cats: Path) -> None:
    """Also what is broken: there is no block of its own, and no heading."""
    trained(cats, "one")
    with pytest.raises(ValueError, match="planted"):
        trained(cats, "failed", "exp.fold=[0]", "exp.train.fails=true")
    (expkit.output_dir() / cats.name / "stray").mkdir()
    found = by_problem(entries(read_board()))
    assert [[one.run.name.partition(",")[0] for one in block] for block in found] == [["failed", "one", "stray"]]
    assert exp("board").splitlines()[0].startswith("run ")


def test_a_blend_is_of_the_problem_of_its_runs(cats: Path) -> None:
    with edited(cats / "train.py", "(wrong.random(len(rows)) < of.wrong)", "wrong.random(len(rows))"):
        load_experiment(cats.name, again=True)
        with edited(
            cats / "train.py", "metric=accuracy, greater_is_better=True", "metric=rmse, greater_is_better=False"
        ):
            load_experiment(cats.name, again=True)
            trained(cats, "one")
            trained(cats, "two", "exp.train.wrong=0.2")
            exp("blend", "/one", "/two", "--name", "both")
            assert len(by_problem(entries(read_board()))) == 1
            assert expkit.load_run("both").dataset == expkit.load_run(f"{cats.name}/one").dataset is not None


# The board


@pytest.fixture
def three(quick: Path) -> Iterator[list[Path]]:
    """Three competitions: two have the metric of one name."""
    with ExitStack() as stack:
        folders = [stack.enter_context(own_experiment(experiment(*how))) for how in ((), (), ("rmse", False))]
        for number, folder in enumerate(folders):
            for name, wrong in (("low", 0.2), ("high", 0.6)):
                rows = [f"exp.train.rows={60 + number}", f"exp.train.wrong={wrong}"]
                trained(folder, f"{name}{number}", *rows, finished=f"2026-01-0{2 - number % 2}T00:00:0{number}+00:00")
        yield folders


def test_a_block_for_each_problem(three: list[Path]) -> None:
    """The last finished on top; each is for itself in what is best, sorted and last."""
    assert problems() == [["low2", "high2"], ["low0", "high0"], ["low1", "high1"]]
    assert problems("--sort", "-wrong") == [["high2", "low2"], ["high0", "low0"], ["high1", "low1"]]
    assert [len(each) for each in problems("--last", "1")] == [1, 1, 1]
    rows = {row["exp.name"]: row for row in exp_json("board", "--all", "--noise")}
    assert {row["marks"] for row in rows.values()} == {""} and {row["versus_runs"] for row in rows.values()} == {2}
    assert [name for name, row in rows.items() if row["versus_best"] == "best"] == ["low2", "low0", "low1"]
    assert len(problems("--filter", f"problem={rows['low1']['problem']}")) == 1
    text = exp("board")
    lines, names = text.splitlines(), [folder.name for folder in three]
    numbers = [name.partition("-")[0] for name in names]
    of = [rows[f"low{number}"]["problem"] for number in range(3)]
    assert [re.sub("~.*", "", problem) for problem in of] == ["accuracy", "accuracy", "rmse"]
    headed = [line for line in lines if re.match(r"(accuracy|rmse)~", line)]
    assert headed == [f"{of[number]} of {60 + number} rows: {numbers[number]}" for number in (2, 0, 1)]
    assert text.count("run ") == 3 and "has runs of" not in text
    assert sum("taken into account" in line for line in exp("board", "--noise").splitlines()) == 3
    assert exp("board", "--filter", numbers[0]).splitlines()[0].startswith("run ")
    assert "0.2" in exp("board", "--columns", "wrong", "--filter", "low")


def test_a_column_that_one_problem_alone_has() -> None:
    def one(name: str, metric: str, **values: int) -> Entry:
        return Entry((run_of(name, [0.5], metric=metric, config={"exp": values}),))

    found = [one("1/a", "auc", depth=1), one("2/b", "rmse", width=2)]
    assert len(list(board_tables(found, 80, ["depth", "width"]))) == 5
    with pytest.raises(expkit.Error, match="no run has a key deptj; did you mean depth"):
        list(board_tables(found, 80, ["deptj"]))


def test_seeds_with_data_of_their_own_have_no_mean() -> None:
    runs = [run_of(f"1/{seed}", [0.5], seed=seed) for seed in (1, 2, 3)]
    found = [Entry((run,), dataset=store.Dataset(9, "ids", str(run.seed > 1))) for run in runs]
    assert sorted(len(one.runs) for one in grouped_by_seed(found)) == [1, 2]


def test_rows_are_cut_and_many_experiments_are_counted() -> None:
    every = [Entry((run_of(f"{number:03d}-x/a", [0.5], metric=f"m{number // 12}"),)) for number in range(24)]
    blocks = by_problem(every)
    assert [line.partition(": ")[2] for line in headings(blocks)][0] == ", ".join(
        f"{n:03d}" for n in range(8)
    ) + " and 4 more"
    tables = [part.row_count for part in board_tables(every, 80, most=15) if hasattr(part, "row_count")]
    assert tables == [12, 3]


@pytest.mark.parametrize(
    ("overrides", "edit", "differs"),
    [
        (["exp.train.rows=59"], None, "other rows"),
        (["exp.train.first=7"], None, "other rows"),
        (["exp.train.shift=1"], None, "other target"),
        (["exp.train.shift=1", "exp.n_folds=1"], None, "other target"),
        ([], ("greater_is_better=True", "greater_is_better=False"), "other direction"),
        ([], ("metric=accuracy, greater_is_better=True", "metric=rmse, greater_is_better=False"), "other metric"),
    ],
)
def test_an_experiment_whose_problem_has_changed(
    cats: Path, overrides: list[str], edit: tuple[str, str] | None, differs: str
) -> None:
    """The board says so in a line, and shows how many rows each has; `exp diff` has no verdict, and says why."""
    old = trained(cats, "old")
    with edited(cats / "train.py", *(edit or ("import numpy", "import numpy"))):
        load_experiment(cats.name, again=True)
        new = trained(cats, "new", *overrides)
        assert old.metric == "accuracy" and len(problems()) == 2
        assert exp("board").splitlines()[-1] == f"{cats.name} has runs of 2 problems: {differs}"
        assert {row["marks"] for row in exp_json("board", "--all")} == {""}, "each is compared with its own"
        found = compared("/old", "/new")
        assert found["verdict"] == "not comparable" and found["reason"].startswith(f"{differs}: ")
        if differs == "other rows" and new.dataset:
            rows = f"got other rows in {new.title} ({new.dataset.rows}) than in {old.title} (60)"
            assert rows in found["reason"]


# Notes and the page


def test_the_leaderboard_of_each_problem(three: list[Path], notes: Path) -> None:
    """Also of runs that are deleted."""
    for number, folder in enumerate(three[:2]):
        trained(folder, f"mid{number}", f"exp.train.rows={60 + number}", "exp.train.wrong=0.4")
    rows = {row["exp.name"]: row for row in exp_json("board", "--all")}
    for number, name in itertools.product((0, 1), ("high", "mid", "low")):
        score = rows[f"{name}{number}"]["score"]
        exp("note", f"/{name}{number}", "--lb", str(score if number == 0 else 1 - score))
    found = {rows[f"low{number}"]["problem"]: pytest.approx(1 - 2 * number) for number in (0, 1)}
    agreements = exp_json("note")["leaderboard"]
    assert {name: each["correlation"] for name, each in agreements.items()} == found
    assert {each["runs"] for each in agreements.values()} == {3}
    assert f"CV {rows['low0']['problem']} and leaderboard of 3 runs: correlation 1.00" in exp("note")
    files.remove(expkit.load_run("/low0").folder)
    assert exp_json("note")["leaderboard"] == agreements


def test_the_page_keeps_problems_apart(three: list[Path]) -> None:
    """By the text of the metric; the newest is the first choice."""
    from expkit import page

    board = page.labelled_board()
    names = {row["exp.name"]: row["problem"] for row in exp_json("board", "--all")}
    metrics = board["metric"].unique().tolist()
    assert metrics == ["rmse ↓", f"{names['low0']} ↑", f"{names['low1']} ↑"]
    assert "problem" not in board
    first = board["name"][board["score"].notna() & (board["metric"] == board["metric"].iloc[0])].head(3).tolist()
    assert first == [one.run.title for one in ranked(read_board())][:2]
