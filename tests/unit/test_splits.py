"""Which rows a fold leaves out: every method, what does not fit, and the record that says which rows they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
from commands import command
from experiments import own_experiment
from helpers import exp, results

import expkit
from expkit import fingerprint, store, tables
from expkit.board import entries, grouped_by_seed
from expkit.config import load_experiment
from expkit.data import read_manifest

N = 120
ID = np.arange(N)
Y = np.array([0, 0, 0, 0, 0, 1] * 20)  # five to one
GROUPS = np.array([f"patient {row % 17}" for row in range(N)])
TIME = np.arange(N)[::-1] // 4  # 30 days of four rows, the latest first
ALL = {"id": ID, "y": Y, "groups": GROUPS, "time": TIME}


def config(method: str = "kfold", n_folds: int = 5, seed: int = 0, **split: Any) -> expkit.ExpConfig:
    return expkit.ExpConfig(
        n_folds=n_folds, seed=seed, split=expkit.SplitConfig(method=expkit.SplitMethod[method], **split)
    )


def folds(exp: expkit.ExpConfig, **columns: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return [expkit.split(exp, fold, **(columns if "id" in columns else ALL | columns)) for fold in range(exp.n_folds)]


def refused(exp: expkit.ExpConfig, fold: int = 0, **columns: Any) -> str:
    with pytest.raises(expkit.Error) as raised:
        expkit.split(exp, fold, **{"id": ID} | columns)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# The methods

BY_CHANCE = ["kfold", "stratified", "group", "stratified_group"]


@pytest.mark.parametrize("method", BY_CHANCE)
def test_each_row_is_left_out_once(method: str) -> None:
    parts = folds(config(method))
    assert np.array_equal(np.sort(np.concatenate([valid for _, valid in parts])), ID)
    for fit, valid in parts:
        assert np.array_equal(np.union1d(fit, valid), ID) and not set(fit) & set(valid)
        assert np.array_equal(np.sort(valid), valid) and np.array_equal(np.sort(fit), fit)
        assert 16 <= len(valid) <= 32


@pytest.mark.parametrize("method", BY_CHANCE)
def test_only_the_seed_of_the_split_changes_the_folds(method: str) -> None:
    exps = config(method), config(method, seed=7), config(method)
    exps[2].split.seed = 7
    one, other_training, other_split = (folds(exp, y=Y, groups=ID // 3) for exp in exps)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(one, other_training, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(one, other_split, strict=True))


@pytest.mark.parametrize("method", ["stratified", "stratified_group"])
def test_classes_have_the_same_share_in_each_fold(method: str) -> None:
    shares = [Y[valid].mean() for _, valid in folds(config(method))]
    assert max(shares) - min(shares) < (0.01 if method == "stratified" else 0.1)


@pytest.mark.parametrize("n_folds", [5, 1])
@pytest.mark.parametrize("method", ["group", "stratified_group"])
def test_a_group_is_whole_in_one_fold(method: str, n_folds: int) -> None:
    for fit, valid in folds(config(method, n_folds)):
        assert not set(GROUPS[fit]) & set(GROUPS[valid])


@pytest.mark.parametrize("method", BY_CHANCE)
def test_a_single_split_leaves_out_a_share(method: str) -> None:
    [(fit, valid)] = folds(config(method, 1, holdout=0.25))
    assert len(fit) + len(valid) == N and 0.2 * N <= len(valid) <= 0.3 * N
    fit, valid = expkit.split(config(method), None, id=ID)
    assert np.array_equal(fit, ID) and len(valid) == 0, "exp.mode=sub trains on all"


def test_time() -> None:
    """Later and later times are left out; trained is on all before, but for a gap; a day is never cut in two."""
    parts = folds(config("time", gap=2))
    assert [(TIME[fit].min(), TIME[fit].max()) for fit, _ in parts] == [(0, 2), (0, 7), (0, 12), (0, 17), (0, 22)]
    assert [(TIME[valid].min(), TIME[valid].max()) for _, valid in parts] == [
        (5, 9), (10, 14), (15, 19), (20, 24), (25, 29)
    ]  # fmt: skip
    assert all(len(valid) == 20 for _, valid in parts)
    [(fit, valid)] = folds(config("time", 1, holdout=0.2, gap=3))
    assert (TIME[fit].max(), TIME[valid].min(), len(valid)) == (20, 24, 24)


def windows(parts: list[tuple[np.ndarray, np.ndarray]], time: np.ndarray) -> list[tuple[int, ...]]:
    """The first and the last time that each fold trains on and leaves out."""
    return [(time[fit].min(), time[fit].max(), time[valid].min(), time[valid].max()) for fit, valid in parts]


def test_windows_of_28_days() -> None:
    """The last ones are left out, and what is before the first is history; a hold-out has the last alone."""
    days = np.repeat(np.arange(100), 3)
    ids = np.arange(300)
    three = [(0, 15, 16, 43), (0, 43, 44, 71), (0, 71, 72, 99)]
    for least in (1, 16):
        found = folds(config("time", 3, test_size=28, min_train_size=least), id=ids, time=days)
        assert windows(found, days) == three and all(len(valid) == 84 for _, valid in found)
    found = folds(config("time", 2, test_size=28, gap=7), id=ids, time=days)
    assert windows(found, days) == [(0, 36, 44, 71), (0, 64, 72, 99)]
    assert windows(folds(config("time", 1, test_size=28), id=ids, time=days), days) == three[2:]
    [theirs, ours] = [[v[0] for _, v in ways] for ways in (sklearn_windows(100, 3, 28, 7), found)]
    assert [days[row] for row in ours] == theirs[1:], "as TimeSeriesSplit(test_size=28, gap=7)"


def sklearn_windows(count: int, n_splits: int, test_size: int, gap: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import TimeSeriesSplit

    return list(TimeSeriesSplit(n_splits, test_size=test_size, gap=gap).split(np.arange(count)))


def test_no_window_is_where_there_is_no_history() -> None:
    """Without test_size, the windows are parts of what is after it."""
    parts = folds(config("time", 5, min_train_size=10, gap=5))
    assert windows(parts, TIME) == [(0, start - 6, start, start + 2) for start in (15, 18, 21, 24, 27)]


def test_groups_are_left_out_with_their_earlier_rows() -> None:
    """By time_group: a patient of a window is not trained on, whenever the rows are of."""
    time, patients = np.arange(N), np.arange(N) // 10
    parts = folds(config("time_group", 4, test_size=15), time=time, groups=patients)
    plain = folds(config("time", 4, test_size=15), time=time)
    for (fit, valid), (every, same) in zip(parts, plain, strict=True):
        assert np.array_equal(valid, same) and not set(patients[fit]) & set(patients[valid])
        assert set(every) - set(fit) == {row for row in every if patients[row] in patients[valid]}
    assert [len(every) - len(fit) for (fit, _), (every, _) in zip(parts, plain, strict=True)] == [0, 5, 0, 5]


DAYS = [f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in TIME]


@pytest.mark.parametrize(
    "time",
    [
        TIME.astype(float),
        DAYS,
        np.array(DAYS, dtype="datetime64[D]"),
        [datetime.fromisoformat(day) for day in DAYS],
        [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in DAYS],
        [f"{day}T00:00:00+09:00" for day in DAYS],
    ],
)
def test_times_of_every_kind(time: Sequence[Any]) -> None:
    expected, found = folds(config("time")), folds(config("time"), time=time)
    assert all(np.array_equal(a[1], b[1]) and np.array_equal(a[0], b[0]) for a, b in zip(expected, found, strict=True))


def test_the_folds_are_those_of_scikit_learn() -> None:
    """The folds of the scores in the READMEs."""
    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

    for method, kind, classes in (("stratified", StratifiedKFold, Y), ("kfold", KFold, None)):
        theirs = [valid for _, valid in kind(5, shuffle=True, random_state=42).split(ID, Y)]
        assert all(np.array_equal(a, b[1]) for a, b in zip(theirs, folds(config(method)), strict=True))
        _, valid = train_test_split(ID, test_size=0.27, stratify=classes, random_state=42)
        assert np.array_equal(np.sort(valid), folds(config(method, 1, holdout=0.27))[0][1])


# A column of a file


def fold_file(root: Path, text: str) -> None:
    (root / "input" / "folds.csv").write_text(text)


def column(n_folds: int = 3, **split: Any) -> expkit.ExpConfig:
    return config("column", n_folds, file="folds.csv", **split)


def test_a_column_of_a_file(root: Path) -> None:
    """By id, in whatever order; a row with -1 is always trained on; more rows than there are may have a fold."""
    fold_file(root, "\ufeffimage,part,id\nx,0,7\ny,1,8\nz,2,10\n\nv,-1,9\n007,1,99\n")
    parts = folds(column(column="part"), id=[10, 9, 8, 7])
    assert [valid.tolist() for _, valid in parts] == [[3], [2], [0]]
    assert [fit.tolist() for fit, _ in parts] == [[0, 1, 2], [0, 1, 3], [1, 2, 3]]
    named = column(column="part", id="image")
    assert [valid.tolist() for _, valid in folds(named, id=["x", "007", "z"])] == [[0], [1], [2]], "ids are text"


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("id,fold\n1,0\n2,1\n9,2\n", "1 of 3 ids have no fold, such as ['3']"),
        ("id,fold\n1,0\n2,1\n3,2\n2,1\n", "1 ids are there more than once, such as 2"),
        ("id,fold\n1,0\n2,1\n3,1\n", "0 to 2 must be there, and -1 for rows that are always trained on; not 2"),
        ("id,fold\n1,0\n2,1\n3,2\n4,-2\n", "not -2"),
        ("id,part\n1,0\n", "there is no column fold; there are id, part"),
        ("id,fold\n1,a\n", "not 0, 1, 2"),
        ("id,fold\n01,0\n2,1\n3,2\n", "1 of 3 ids have no fold, such as ['1']"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit(root: Path, text: str | None, mentions: str) -> None:
    if text is not None:
        fold_file(root, text)
    message = refused(column(), id=[1, 2, 3])
    assert mentions in message and "folds.csv" in message


def test_the_file_is_part_of_the_data(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an experiment, too, that says that it reads nothing else."""
    ids = range(1797)
    fold_file(root, "id,fold\n" + "".join(f"{each},{each % 2}\n" for each in ids))
    options = ["exp.split.method=column", "exp.split.file=folds.csv", "exp.n_folds=2", "exp.train.epochs=1"]
    expkit.run("001-baseline", overrides=[*options, "exp.fold=[0]"])
    [run] = (root / "output" / "001-baseline").glob("baseline*")
    oof = store.read_run(run).folds[0].predictions()
    assert len(oof["id"]) > 600 and set(oof["id"] % 2) == {0}
    trained_with = results(root, run.name, "001-baseline")[0]["data"]
    assert list(read_manifest(root / "output", trained_with) or {}) == ["folds.csv"]

    (root / "input/folds.csv").rename(root / "folds.csv")
    with pytest.raises(expkit.Error, match="^exp.split.file=folds.csv: there is no .*input/folds.csv$"):
        expkit.run("001-baseline", overrides=[*options, "exp.fold=[1]"])
    with pytest.raises(expkit.Error, match="^exp.split.file=folds.csv: there is no .*input/folds.csv$"):
        expkit.run("001-baseline", overrides=[*options, "exp.fold=[1]", "exp.seed=1"])
    assert len(expkit.read_board()) == 1, "no run stays that nobody can explain"
    (root / "folds.csv").rename(root / "input/folds.csv")

    assert "changed since" not in exp("show", run.name)
    fold_file(root, "id,fold\n" + "".join(f"{each},{(each + 1) % 2}\n" for each in ids))
    assert "data changed since (folds.csv: other content)" in exp("show", run.name)
    capsys.readouterr()
    expkit.run("001-baseline", overrides=[*options, "exp.fold=[0]"])
    assert "the data has changed since fold 0 (folds.csv: other content)" in capsys.readouterr().err


# What does not fit


@pytest.mark.parametrize(
    ("exp", "columns", "mentions"),
    [
        (config("stratified"), {}, "exp.split.method=stratified needs fold.split(..., y=...)"),
        (config("stratified_group"), {"groups": GROUPS}, "needs fold.split(..., y=...)"),
        (config("time"), {}, "exp.split.method=time needs fold.split(..., time=...)"),
        (
            config("stratified"),
            {"y": np.where(ID < 4, 9, Y)},
            "120 rows: The least populated class in y has only 4 members",
        ),
        (config("stratified", 1), {"y": np.where(ID < 1, 9, Y)}, "120 rows: The least populated class"),
        (config("stratified"), {"y": np.where(ID < 3, np.nan, Y)}, "3 of 120 rows of y are nan or inf"),
        (
            config("group"),
            {"groups": ID % 4},
            "exp.split.method=group, 120 rows: Cannot have number of splits n_splits=5 greater",
        ),
        (config("group"), {"groups": [None, *GROUPS[1:]]}, "column groups: holds NoneType, str"),
        (config("time"), {"time": np.where(ID < 1, np.nan, TIME)}, "1 of 120 rows of time are nan or inf"),
        (config("time"), {"time": [f"{day}.1.2026" for day in TIME]}, "use numbers, dates, or text as 2026-01-31"),
        (config("time"), {"time": [None, *DAYS[1:]]}, "1 of 120 rows of time have no date"),
        (config("time", gap=5), {"time": ID % 10}, "10 different times are too few: exp.n_folds=5 x 1"),
        (
            config("time", 3, test_size=28, gap=7, min_train_size=30),
            {"time": ID},
            "120 different times are too few: exp.n_folds=3 x 28 (exp.split.test_size) + 7 (gap) + 30 (min_train_size)",
        ),
        (config("time", 1, gap=119), {"time": ID}, "1 x 24 (exp.split.test_size) + 119 (gap) + 1 (min_train_size)"),
        (config("time_group"), {"time": TIME}, "exp.split.method=time_group needs fold.split(..., groups=...)"),
        (
            config("time_group"),
            {"time": TIME, "groups": ID % 2},
            "exp.split.method=time_group: fold 0 trains on 0 and leaves out 20 of 120 rows",
        ),
        (config(), {"id": ID // 2}, "60 ids are there more than once, such as 0"),
        (config(), {"y": Y[1:]}, "the columns differ in length: id 120, y 119"),
        (
            config("stratified"),
            {"y": np.ones((N, 2))},
            "stratified needs fold.split(..., y=...) with one value per row, and it has the shape (120, 2)",
        ),
        (config(), {"y": ["a"] * (N - 1)}, "the columns differ in length: id 120, y 119"),
        (
            config("stratified"),
            {"y": [b"a"] * N},
            "exp.split.method=stratified, 120 rows: Support for labels represented",
        ),
    ],
)
def test_what_does_not_fit(exp: expkit.ExpConfig, columns: dict[str, Any], mentions: str) -> None:
    assert mentions in refused(exp, **columns)
    assert "there is no fold" in refused(exp, exp.n_folds)


# The record


def test_a_fingerprint_is_of_the_ids() -> None:
    one = tables.fingerprint(np.array([1, 2, 3]))
    assert one == tables.fingerprint(np.array([3, 1, 2], dtype="uint8"))
    text = tables.fingerprint(np.array(["1", "2", "3"]))
    assert text == tables.fingerprint(np.array(["2", "3", "1"], dtype="U30"))
    others = [[1, 2], [1, 2, 4], [1.0, 2.0, 3.0], np.array([1, 2, 3], dtype="datetime64[D]")]
    assert len({one, text, *(tables.fingerprint(np.asarray(each)) for each in others)}) == 6


@pytest.mark.parametrize("kind", ["U", "int64", "datetime64[s]"])
def test_an_id_twice_among_many(kind: str) -> None:
    """Wherever the two stand."""
    random = np.random.default_rng(0)
    ids = random.permutation(50_000)
    ids = np.char.mod("row-%d", ids) if kind == "U" else ids.astype(kind)
    tables.require_unique(ids, "ids")
    for one, other in random.integers(1, 50_000, (20, 2)):
        twice = ids.copy()
        twice[one] = twice[other - (one == other)]
        with pytest.raises(expkit.Error, match=f"1 ids are there more than once, such as {twice[one]!s}"):
            tables.require_unique(twice, "ids")


def test_seeds_of_the_same_folds_are_one_row(root: Path) -> None:
    """Those of other folds are no average."""
    command("exp.seed=1").train()
    command("exp.seed=2").train()
    command("exp.seed=2", "exp.split.seed=3").train()
    rows = grouped_by_seed(entries(expkit.read_board()))
    assert {row.values["seed"]: row.marks for row in rows} == {"2 seeds": (), 2: ()}

    def other_rows(fold: Any) -> None:
        save = fold.save_oof
        fold.save_oof = lambda columns: save({**columns, "id": [10 + fold.number]})

    command("exp.seed=3", during=other_rows).train()
    found = {row.values["seed"]: row.marks for row in grouped_by_seed(entries(expkit.read_board()))}
    assert found["3 seeds"] == ("mixed folds",)


def test_the_result_holds_the_fingerprint(root: Path) -> None:
    command("exp.fold=[0,1]").train()
    found = results(root, "light")
    assert [found[fold]["left_out"] for fold in (0, 1)] == [tables.fingerprint(np.array([fold])) for fold in (0, 1)]


# What has to be predicted

TRAIN = """
import expkit
import numpy as np


def mean(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    n = np.arange(60)
    ids = np.char.add("row", n.astype(str))

    def save(ids):
        fold.save_oof({{"id": ids, "prediction": np.full(len(ids), 0.5)}})

{body}


experiment = expkit.Experiment(train, expkit.ExpConfig, metric=mean{options})
"""


@pytest.fixture
def train_rows(quick: Path) -> Iterator[Callable[..., str]]:
    """Trains an experiment of three folds whose `train` ends with these lines; "", or the line that it fails with."""
    with own_experiment() as folder:

        def train(body: str, *overrides: str, options: str = "") -> str:
            (folder / "train.py").write_text(TRAIN.format(body=indent(body, "    "), options=options))
            load_experiment(folder.name, again=True)
            try:
                expkit.run(folder.name, overrides=["exp.n_folds=3", "exp.fold=[0]", *overrides])
            except expkit.Error as error:
                assert "\n" not in str(error) and not any(len(row.done) for row in expkit.read_board())
                return str(error)
            return ""

        yield train


@pytest.mark.parametrize(
    ("body", "mentions"),
    [
        ("save(ids[fold.split(id=ids).valid][::-1])", ""),
        ("save(ids[fold.split(id=ids).valid][:16])", "oof.npz has other rows than fold.split(...): 4 fewer and 0 more"),
        ("save([*ids[fold.split(id=ids).valid], 'new'])", "0 fewer and 1 more, such as new"),
        ("fold.split(id=ids); save(ids[:20])", "oof.npz has other rows than fold.split(...): "),
        ("save(list(map(str, fold.split(id=n).valid)))", "the ids are <U2, and those of fold.split(...) are int64"),
        (
            "save(ids[expkit.split(exp, fold.number, id=ids)[1]])",
            "call fold.split(id=...) in train(), or say expkit.Exp",
        ),
        ("fold.split(id=ids); save(ids[fold.split(id=ids, keep={'x': n}).valid])", ""),
        ("fold.split(id=ids[:30]); save(ids[fold.split(id=ids).valid])", "was called before, with other rows"),
        ("fold.split(id=ids, y=n); fold.split(id=ids, y=-n)", "was called before, with other rows or targets"),
        ("fold.split(id=n // 2)", "30 ids are there more than once, such as 0"),
        ("fold.split(id=ids, y=n[1:])", "fold.split(...): the columns differ in length: id 60, target 59"),
        ("fold.split(id=ids, keep={'weight': n[1:]})", "differ in length: id 60, weight 59"),
    ],
)
def test_the_rows_that_are_left_out_are_the_rows_that_are_predicted(
    train_rows: Callable[..., str], body: str, mentions: str
) -> None:
    line = train_rows(body)
    assert (mentions in line) if mentions else not line, line


TRAINED = "expkit.split(exp, 0, id=ids).train[:3]"
GIVEN = """
rows = fold.split(id=ids, y={y}).valid
fold.{how}
"""


@pytest.mark.parametrize(
    ("y", "target", "is_same"),
    [
        ("n / 3", "(n / 3).astype('float32')", True),
        ("n", "-n", False),
        ("n", "np.stack([n, n], 1)", False),
        ("n % 2", "(n % 2).astype(bool)", True),
        ("np.char.add('a', ids)", "ids", False),
        ("[np.ones((1 + i % 3, 4)) for i in n]", "[np.ones((1 + i % 3, 4)) for i in n]", True),
        ("[np.ones((1 + i % 3, 4)) for i in n]", "[np.zeros((1 + i % 3, 4)) for i in n]", False),
        ("[np.full(1 + i % 3, 0.1) for i in n]", "[np.full(1 + i % 3, 0.1, 'float32') for i in n]", True),
        (f"[np.ones((2 + (i in {TRAINED}), 4)) for i in n]", "np.ones((60, 2, 4))", True),  # all of one length
    ],
)
def test_the_target_is_that_of_the_split(train_rows: Callable[..., str], y: str, target: str, is_same: bool) -> None:
    """Whoever gives another one has the score of another problem."""
    given = f"[({target})[row] for row in rows]"
    table = f"{{'target': {given}, 'prediction': np.zeros(len(rows))}}"
    for how in (f"save_oof({{'id': ids[rows]}} | {table})", f"predict(lambda X: {table}, n)"):
        line = train_rows(GIVEN.format(y=y, how=how))
        assert ("oof.npz: target is another than fold.split(...) was given" in line) is not is_same, line
        assert is_same is not bool(line), line
    assert train_rows(GIVEN.format(y=y, how=how), "exp.name=own", options=", own_split=True") == ""


def test_a_fold_sees_nothing_of_what_another_has_changed(train_rows: Callable[..., str]) -> None:
    body = "exp.seed *= 2\nexp.n_folds += 1\nsave(ids[fold.split(id=ids).valid])\nreturn {'seed': exp.seed}"
    assert train_rows(body, "exp.seed=3", "exp.fold=null") == ""
    [run] = expkit.read_board()
    assert [(run.result(fold) or {})["values"]["seed"] for fold in range(3)] == [6, 6, 6]


@pytest.mark.parametrize(
    ("given", "marks"),
    [
        ("id=ids, time=n", ()),
        ("id=ids[fold.number:], time=n[fold.number:]", ("mixed rows",)),
        ("id=ids, time=n, y=n + fold.number", ("mixed rows",)),
    ],
)
def test_folds_of_other_rows_are_marked(train_rows: Callable[..., str], given: str, marks: tuple[str, ...]) -> None:
    by_time = ["exp.split.method=time", "exp.split.test_size=10", "exp.fold=null"]
    body = f"valid = fold.split({given}).valid\nsave(ids[{'fold.number:' if 'ids[' in given else ':'}][valid])"
    assert train_rows(body, *by_time) == ""
    assert [run.marks for run in expkit.read_board()] == [marks]


@pytest.mark.parametrize("method", [*BY_CHANCE, "time"])
def test_a_fold_splits_by_every_method(train_rows: Callable[..., str], method: str) -> None:
    columns = f"y=n % 2{', groups=n // 4' if 'group' in method else ', time=n' if method == 'time' else ''}"
    same = f"expkit.split(exp, fold.number, id=ids, {columns})"
    body = f"rows = fold.split(id=ids, {columns})\nassert all(map(np.array_equal, rows, {same}))\nsave(ids[rows.valid])"
    assert train_rows(body, f"exp.split.method={method}", "exp.fold=null") == ""


PREDICT = """
rows = fold.split(id=ids, y=np.stack([n, -n], 1), keep={{"weight": list(n / 2)}})
predict = lambda X: {{"prediction": np.ravel(X) * 10.0}}
assert list(fold.evaluate(predict, {X})) == ([] if exp.mode is expkit.Mode.sub else ["valid_mean"])
fold.predict(predict, {X}, test=[7, 8], test_id=["a", "b"])
return {{"rows": [len(rows.train), len(rows.valid)]}}
"""


@pytest.mark.parametrize("X", ["n", "list(n)", "__import__('pandas').DataFrame({'x': n}, index=n + 5)"])
def test_the_rows_of_any_table_are_predicted(train_rows: Callable[..., str], X: str) -> None:
    """With what is known of them. On all rows none is left out: the test set alone is predicted."""
    assert train_rows(PREDICT.format(X=X)) == train_rows(PREDICT.format(X=X), "exp.mode=sub") == ""
    [run] = expkit.read_board()
    oof = run.oof
    number = np.char.replace(oof["id"], "row", "").astype(int)
    assert np.array_equal(oof["target"], np.stack([number, -number], 1))
    assert np.array_equal(oof["prediction"], number * 10.0) and np.array_equal(oof["weight"], number / 2)
    assert run.test(0)["prediction"].tolist() == run.test(None)["prediction"].tolist() == [70.0, 80.0]
    assert [(run.result(fold) or {})["values"]["rows"] for fold in (0, None)] == [[40, 20], [60, 0]]
    assert not (run.folder / "full" / store.OOF).exists()


def test_an_experiment_that_splits_by_itself(train_rows: Callable[..., str]) -> None:
    """It says so once, and is held to nothing; that it says so is no change of its code."""
    own = ", own_split=True"
    assert train_rows("save(ids[fold.split(id=ids).valid][:3])", options=own) == ""
    assert train_rows("save(ids[:3])", "exp.name=again", options=own) == ""
    ignored = {"train.py": frozenset({"experiment"})}
    texts = [TRAIN.format(body="    pass", options=options).encode() for options in ("", own)]
    one, other = (fingerprint.file_hashes({"train.py": text}, ignored)["train.py"] for text in texts)
    assert one[0] != other[0] and one[1] == other[1]


# Times


def test_times_without_a_zone_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the zone of the machine: in New York, 2:30 of this day does not exist, and would come after 3:00."""
    hours = [f"2026-03-08T{hour:02d}:{minute:02d}:00" for hour in range(1, 4) for minute in (0, 30)]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        [(fit, valid)] = folds(config("time", 1, holdout=0.34), id=np.arange(6), time=hours)
    time.tzset()
    assert fit.tolist() == [0, 1, 2, 3] and valid.tolist() == [4, 5]
