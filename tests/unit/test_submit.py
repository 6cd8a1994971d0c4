"""`exp submit`, and what the training on all rows may ask: submissions from folds, from several runs, from all rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import helpers
import numpy
import pytest
from click.testing import CliRunner
from experiments import own_experiment
from helpers import exp, exp_json, short
from light import edited, train_py
from several import each_kind, files

import expkit
from expkit import store, tables
from expkit.cli import app
from expkit.config import load_experiment
from expkit.submission import Average, Sample, as_submission, find_sample, fitted, most_likely

TESTED = "exp.train.test=false"  # what several.py tests is not saved


@pytest.fixture(scope="module")
def experiments() -> Iterator[dict[str, str]]:
    with each_kind() as names:
        yield names


def submit(*arguments: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rows of the submission, and what its JSON says."""
    made = exp_json("submit", *arguments)
    with open(made["path"], newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream)), made


def refused(*arguments: str) -> str:
    """The one line of an error, after which there is no submission."""
    line = helpers.refused("submit", *arguments)
    assert not list((expkit.output_dir() / store.SUBMISSIONS).glob("*"))
    return line


def train(experiment: str, *overrides: str) -> expkit.Run:
    expkit.run(experiment, overrides=overrides)
    named = sorted(one for one in overrides if not one.startswith(("exp.fold", "exp.mode", "exp.runtime", "overwrite")))
    [run] = [run for run in expkit.read_board() if sorted(run.name.split(",")[1:]) == named]
    return run


def sample(root: Path, header: str, ids: Sequence[object], values: str = "0") -> None:
    lines = [header, *(f"{each},{values}" for each in ids)]
    (root / "input/sample_submission.csv").write_text("\n".join(lines) + "\n")


def test_the_mean_of_the_folds(experiments: dict[str, str], root: Path) -> None:
    run = train(experiments["price"])
    tables = [run.test(fold) for fold in range(3)]
    ids = tables[0]["id"][::-1].tolist()
    sample(root, "HouseId,SalePrice", ids)
    rows, made = submit(run.title)
    assert [row["HouseId"] for row in rows] == ids, "in the order of the sample"
    means = numpy.mean([table["prediction"] for table in tables], axis=0)[::-1]
    assert numpy.allclose([float(row["SalePrice"]) for row in rows], means, rtol=1e-12)
    [source] = made["runs"]
    info = store.read_run_info(run.folder)
    assert info and (source["run"], source["id"]) == (run.title, info["id"])
    assert (source["folds"], source["score"]) == ([0, 1, 2], short(run.score))
    assert made["sample"] == "sample_submission.csv" and made["columns"] == {"SalePrice": "mean of prediction"}
    assert Path(made["path"]).name.startswith(run.title.replace("/", "_")), "its name leads back to the run"
    assert submit(run.title)[1]["path"] == made["path"], "the same again is the same file"
    assert len(list((root / "output/submissions").iterdir())) == 2
    assert [row.title for row in expkit.read_board()] == [run.title], "a submission is no run"
    printed = exp("submit", run.title)
    assert "test predictions of fold 0, fold 1, fold 2" in printed and "fits " in printed


def test_labels_are_the_classes_of_the_highest_mean_probability(experiments: dict[str, str], root: Path) -> None:
    run = train(experiments["species"])
    tables = [run.test(fold) for fold in range(3)]
    names = [name for name in tables[0] if name.startswith("probability_")]
    means = {name: numpy.mean([table[name] for table in tables], axis=0) for name in names}
    best = [max(names, key=lambda name: means[name][row]).removeprefix("probability_") for row in range(40)]
    assert any(not numpy.array_equal(table["prediction"], best) for table in tables), "the folds do not agree"
    sample(root, "id,species", tables[0]["id"], "0.5")
    assert "numbers such as 0.5 in species, and the predictions are labels" in refused(run.title)
    sample(root, "id,species", tables[0]["id"], "cat")
    rows, made = submit(run.title)
    assert [row["species"] for row in rows] == best
    assert made["columns"] == {"species": "class of the highest mean probability"}


def test_several_runs(experiments: dict[str, str], root: Path) -> None:
    one = train(experiments["price"])
    other = train(experiments["price"], "exp.n_folds=2", "exp.train.noise=0.9")
    rows, made = submit(one.title, other.title)
    by_run = [numpy.mean([run.test(fold)["prediction"] for fold in run.done], axis=0) for run in (one, other)]
    assert numpy.allclose([float(row["prediction"]) for row in rows], numpy.mean(by_run, axis=0)), "a run counts once"
    assert [source["run"] for source in made["runs"]] == [one.title, other.title] and made["sample"] is None
    assert list(rows[0]) == ["id", "prediction"] and "no sample_submission.csv" in exp("submit", one.title, other.title)
    assert other.name in Path(made["path"]).name
    risk = train(experiments["risk"], "exp.train.noise=0.5")
    with pytest.raises(expkit.Error, match="the ids are int64, and those of .* are <U7"):
        exp("submit", one.title, risk.title)


def test_trained_on_all_rows(experiments: dict[str, str], root: Path) -> None:
    run = train(experiments["price"], "exp.mode=sub", "exp.train.noise=0.4")
    assert "has no test predictions: give fold.predict" in refused(run.title, "--from", "folds")
    rows, made = submit(run.title)
    assert [float(row["prediction"]) for row in rows] == run.test(None)["prediction"].tolist()
    assert made["runs"][0]["folds"] == [None] and made["runs"][0]["score"] is None
    train(experiments["price"], "exp.train.noise=0.4")
    assert submit(run.title)[1]["runs"][0]["folds"] == [0, 1, 2], "the folds, when all have test predictions"
    assert submit(run.title, "--from", "full")[1]["path"] == made["path"]


def test_no_fold_is_done(experiments: dict[str, str], root: Path) -> None:
    run = train(experiments["price"], "exp.train.noise=0.4")
    for file in run.folder.glob("*/result.json"):
        file.unlink()
    assert f"{run.title}: no fold is done: train it first, with exp.fold=null" in refused(run.title)


def test_marks_are_said_and_missing_folds_are_refused(
    experiments: dict[str, str], root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(experiments["price"], "exp.fold=[0,2]")
    assert "2 of 3 folds have test predictions" in refused(run.title)
    said = f"{run.title} is not trained on all rows: its command with exp.mode=sub does it"
    assert refused(run.title, "--from", "full") == said
    _, made = submit(run.title, "--partial")
    assert made["runs"][0]["folds"] == [0, 2] and "partial" in made["runs"][0]["marks"]
    (root / "input/more.csv").write_text("1")
    train(experiments["price"])
    result = CliRunner().invoke(app, ["submit", run.title])
    assert "warning: " in result.stderr and "mixed data" in result.stderr, result.output
    (root / "input/more.csv").write_text("2")
    train(experiments["price"], "exp.mode=sub")
    marks = submit(run.title, "--from", "full")[1]["runs"][0]["marks"]
    assert any("data changed since" in mark for mark in marks)


@pytest.mark.parametrize(
    ("header", "names", "found"),
    [
        ("id,a,b", ["prediction_0", "prediction_1", "prediction_2"], None),
        ("id,b,a", ["a", "b", "prediction_0", "prediction_1"], ["b", "a"]),
        ("id,b,c", ["a", "b", "prediction_0", "prediction_1"], None),
        ("id,a,b", ["probability_b", "probability_a"], ["probability_a", "probability_b"]),
        ("id,a", ["other", "prediction"], ["prediction"]),
        ("id,b,a", ["prediction_0", "prediction_1"], ["prediction_0", "prediction_1"]),
        ("id,a,b", ["b", "prediction_0", "prediction_1"], None),
        ("id,a", ["prediction_0", "prediction_1"], None),
    ],
)
def test_which_columns_are_meant(header: str, names: list[str], found: list[str] | None) -> None:
    asked = Sample(Path("sample.csv"), {name: [] for name in header.split(",")})
    table = {name: numpy.ones(1) for name in ["id", *names]}
    if found is None:
        with pytest.raises(expkit.Error, match="sample.csv has the column (a|c), and the test predictions have"):
            asked.columns_of(table, "x")
    else:
        assert list(asked.columns_of(table, "x").items()) == list(zip([*asked.columns][1:], found, strict=True))


@pytest.mark.parametrize(
    ("ids", "column", "line"),
    [
        ([1, 2, 3], "z", "sample_submission.csv has the column y, and the test predictions have z"),
        ([1, 2], "y", "has other rows than"),
    ],
)
def test_predictions_that_do_not_fit_are_said_once(
    root: Path, capfd: pytest.CaptureFixture[str], ids: list[int], column: str, line: str
) -> None:
    """They are kept, for a script of one's own; a debug run, which is to see whether all runs through, says it, too."""
    saves = f"fold.save_test({{'id': {ids}, '{column}': {ids}}})"
    sample(root, "id,y", [1, 2, 3])
    with own_experiment(files("price", saves)) as folder:
        expkit.run(folder.name, overrides=[TESTED, "exp.fold=[0]", "exp.debug=true"])
        assert line in capfd.readouterr().err
        run = train(folder.name, TESTED)
        printed = capfd.readouterr().err
        assert len(run.done) == 3 and line in printed and printed.count("will refuse these predictions") == 1
        assert line in refused(run.title)


def test_the_sample_lies_beside_the_data(root: Path) -> None:
    sample(root, "id,y", [1])
    (root / "input/train.csv").touch()
    for named in (None, ["train.csv"], ["."], [str(root / "input/train.csv")]):
        found = find_sample(named, "x")
        assert found is not None and found.columns["id"] == ["1"], named
    assert find_sample([], "x") is None


@pytest.mark.parametrize("content", ["id,価格\n1,0\n".encode("cp932"), b"id;price\n1;0\n"])
def test_a_sample_that_another_program_has_saved(root: Path, content: bytes) -> None:
    """The line says how to save it."""
    (root / "input/sample_submission.csv").write_bytes(content)
    with pytest.raises(expkit.Error, match="sample_submission.csv .*: save it as UTF-8 with commas between "):
        find_sample(None, "it")


def test_ids_are_compared_as_text() -> None:
    asked = Sample(Path("sample.csv"), {"date": ["2020-01-01", "2020-02-01"], "y": ["0"] * 2})
    days = numpy.array(["2020-02-01", "2020-01-01"], "datetime64[D]")
    table = fitted({"date": days, "y": numpy.array([1, 0])}, "x", asked)
    assert table["date"].tolist() == asked.columns["date"] and table["y"].tolist() == [0, 1]
    asked = Sample(Path("sample.csv"), {"id": ["01", "02"], "y": ["0"] * 2})
    with pytest.raises(expkit.Error, match=r"sample.csv \(ids as text\): 2 fewer and 2 more, such as 01"):
        fitted({"id": numpy.array([1, 2]), "y": numpy.arange(2)}, "x", asked)
    twice = Sample(Path("sample.csv"), {"id": ["1", "1", "2"], "y": ["0"] * 3})
    assert fitted({"id": numpy.array([1, 1, 2]), "y": numpy.arange(3)}, "x", twice)["y"].tolist() == [0, 1, 2]
    with pytest.raises(expkit.Error, match="sample.csv .ids as text.: 1 ids are there more than once, such as 1"):
        fitted({"id": numpy.array([2, 1]), "y": numpy.arange(2)}, "x", twice)


def test_a_mean_of_labels_is_none() -> None:
    labels = {"id": numpy.arange(3), "prediction": numpy.array([0.0, 1.0, 1.0])}
    other = labels | {"prediction": numpy.array([0.0, 0.0, 1.0])}
    mean = Average(("a part", part, 0.5) for part in (labels, other))
    with pytest.raises(expkit.Error, match="prediction holds labels, which have no mean: save columns"):
        mean.column("prediction")
    assert list(mean.table()) == ["id"]
    same = Average([("a part", labels, 0.5)] * 2)
    assert same.column("prediction")[0].tolist() == [0, 1, 1], "labels that all parts agree on"


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"id": [1, 2, 3], "y": [0.5] * 3}, "b has other rows than a: 1 fewer and 1 more, such as 0"),
        ({"id": ["0", "1", "2"], "y": [0.5] * 3}, "b: the ids are <U1, and those of a are int64"),
        ({"id": [0, 1, 2], "y": [1, 2, 3]}, r"b: y holds int64 of the shape \(3,\), but in a float64 of"),
        ({"id": [0, 1, 2], "z": [0.5] * 3}, "b has no column that a has: id, z"),
        ({"id": [0, 1, 1], "y": [0.5] * 3}, "^b: 1 ids are there more than once, such as 1$"),
    ],
)
def test_parts_that_have_no_mean(other: dict[str, list[Any]], line: str) -> None:
    one = {"id": numpy.arange(3), "y": numpy.array([0.5, 1.5, 2.5])}
    with pytest.raises(expkit.Error, match=line):
        Average([("a", one, 0.5), ("b", {name: numpy.array(column) for name, column in other.items()}, 0.5)])


@pytest.mark.parametrize("ids", [["b", "a", "c"], [5, 3, 8]])
def test_rows_are_found_by_their_ids(ids: list[Any]) -> None:
    """A weight may be that of each row of the first table. A column that only one table has is left out."""
    values = numpy.array([0.5, 1.5, 2.5])
    one = {"id": numpy.array(ids), "y": values, "z": values}
    other = {"id": numpy.array(ids)[[2, 0, 1]], "y": values[[2, 0, 1]] + 1}
    mean = Average([("one", one, numpy.array([0.5, 0.5, 1.0])), ("other", other, numpy.array([0.5, 0.5, 0.0]))])
    assert mean.first["id"].tolist() == ids and mean.column("y")[0].tolist() == [1, 2, 2.5]
    assert list(mean.table()) == ["id", "y"]


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(["3", "10"], [3, 10]), (["a", "b"], ["a", "b"]), (["False", "True"], [False, True])],
)
def test_the_likeliest_class(classes: list[str], labels: list[Any]) -> None:
    first = numpy.array([0.6, 0.1, 0.5])
    numbers = {f"probability_{classes[0]}": first, f"probability_{classes[1]}": 1 - first}
    found = most_likely(numbers, numpy.array(labels).dtype, "it")
    assert found.tolist() == [labels[0], labels[1], labels[0]] and found.dtype.kind == numpy.array(labels).dtype.kind
    with pytest.raises(expkit.Error, match="name other classes"):
        most_likely({"probability_x": numbers[f"probability_{classes[0]}"]} | numbers, numpy.dtype(int), "it")


# Submissions of any shape

PER_QUERY = """
def per_query(test):
    import numpy as np

    found = {}
    for row in np.argsort(-test["prediction"]):
        found.setdefault(str(test["id"][row][:4]), []).append(str(test["id"][row]))
    return {"items": [" ".join(ids) for ids in found.values()], "id": list(found)}


def train("""


@pytest.fixture
def queries(root: Path) -> Iterator[str]:
    """The name of an experiment of which a submission has a row per query, with its best items."""
    texts = files("price")
    texts["train.py"] = texts["train.py"].replace("def train(", PER_QUERY.strip(), 1)
    texts["train.py"] = texts["train.py"].replace("own_split=True", "own_split=True, submission=per_query")
    with own_experiment(texts) as folder:
        yield folder.name


def best(test: dict[str, numpy.ndarray], mean: numpy.ndarray) -> dict[str, str]:
    """The items of each query, the best first."""
    order = [str(test["id"][row]) for row in numpy.argsort(-mean)]
    return {query: " ".join(each for each in order if each.startswith(query)) for query in QUERIES}


QUERIES = ["0033", "0031", "0030", "0032"]


def test_a_row_per_query(queries: str, root: Path) -> None:
    """Of folds, of several runs, of a blend, of the training on all rows: in the order of the sample."""
    (root / "input/sample_submission.csv").write_text("query,items\n" + "".join(f"{each},x\n" for each in QUERIES))
    one, other = train(queries), train(queries, "exp.seed=1")
    tests = [[run.test(fold) for fold in range(3)] for run in (one, other)]
    means = [numpy.mean([table["prediction"] for table in each], axis=0) for each in tests]
    rows, made = submit(one.title)
    expected = best(tests[0][0], means[0])
    assert rows == [{"query": query, "items": expected[query]} for query in QUERIES]
    assert made["columns"] == {"items": "made by submission"} and made["rows"] == 4
    both = best(tests[0][0], numpy.mean(means, axis=0))
    blend = exp_json("blend", one.title, other.title)["run"]
    for named in ([one.title, other.title], [blend]):
        assert {row["query"]: row["items"] for row in submit(*named)[0]} == both
    train(queries, "exp.mode=sub")
    full = expkit.load_run(one.title)
    assert full.full is not None
    with open(full.full.folder / store.SUBMISSION, newline="") as stream:
        assert list(csv.DictReader(stream)) == submit(one.title, "--from", "full")[0]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            '"id": list(found)',
            '"id": list(found)[1:]',
            "what submission has made: the columns differ in length: items 4, query 3",
        ),
        ('"items": [', '"best": [', "the columns are best, query, but input/sample_submission.csv has query, items"),
        ("[:4]", "[:3]", "has other rows than input/sample_submission.csv (ids as text): 4 fewer and 1 more"),
        ('test["prediction"]', 'test["rank"]', "submission raises KeyError: 'rank', of the columns id, prediction"),
    ],
)
def test_the_first_fold_says_what_does_not_fit(
    queries: str,
    root: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    line: str,
) -> None:
    (root / "input/sample_submission.csv").write_text("query,items\n" + "".join(f"{each},x\n" for each in QUERIES))
    monkeypatch.chdir(root)
    with edited(expkit.code_root() / "experiments" / queries / "train.py", old, new):
        load_experiment(queries, again=True)
        run = train(queries, "exp.fold=[0]")
        warned = capfd.readouterr().err
        assert line in warned and "`exp submit` will refuse these predictions" in warned
        train(queries, "exp.fold=[0,1,2]")
        assert line not in capfd.readouterr().err, "said in the first fold"
        assert line in refused(run.title, "--partial")


def test_a_wide_prediction_takes_the_columns_of_the_sample(root: Path) -> None:
    """28 days of each product; the first of k predictions is the first of the sample's columns."""
    days = [f"F{day}" for day in range(1, 29)]
    (root / "input/sample_submission.csv").write_text(f"id,{','.join(days)}\n" + f"b{',0' * 28}\na{',0' * 28}\n")
    saves = "fold.save_test({'id': ['a', 'b'], 'prediction': np.arange(56.0).reshape(2, 28) / 8 + (fold.number or 0)})"
    texts = files("price", saves)
    texts["train.py"] = f"import numpy as np\n{texts['train.py']}"
    with own_experiment(texts) as folder:
        run = train(folder.name, TESTED)
        rows, made = submit(run.title)
        other = train(folder.name, TESTED, "exp.n_folds=2")
        of_both = [submit(run.title, other.title)[0], submit(exp_json("blend", run.title, other.title)["run"])[0]]
    assert [row["id"] for row in rows] == ["b", "a"] and made["columns"]["F28"] == "mean of prediction_27"
    for each, mean in [(rows, 1), *((both, 0.75) for both in of_both)]:
        found = numpy.array([[float(row[day]) for day in days] for row in each])
        assert numpy.allclose(found, numpy.arange(56.0).reshape(2, 28)[::-1] / 8 + mean)


ENCODED = """
def encoded(test):
    rows = [np.flatnonzero(mask > 0.5) for mask in test["mask"]]
    return {"id": test["id"], "rle": [" ".join(map(str, each)) for each in rows]}


def train("""


def test_masks_become_text(root: Path) -> None:
    """Columns of any shape are averaged before."""
    saves = "fold.save_test({'id': [1, 2], 'mask': np.multiply.outer([0.3 + 0.2 * fold.number, 0], [[0, 1], [1, 0]])})"
    texts = files("price", saves)
    texts["train.py"] = "import numpy as np\n" + texts["train.py"].replace("def train(", ENCODED.strip(), 1)
    texts["train.py"] = texts["train.py"].replace("own_split=True", "own_split=True, submission=encoded")
    with own_experiment(texts) as folder:
        run = train(folder.name, TESTED)
        assert [row["rle"] for row in submit(run.title, "--partial")[0]] == ["", ""], "0.3, 0.5, 0.7"
        run = train(folder.name, TESTED, "exp.n_folds=4")
        assert [row["rle"] for row in submit(run.title)[0]] == ["1 2", ""], "0.3, 0.5, 0.7, 0.9"


def test_what_no_line_of_csv_holds_is_named(root: Path) -> None:
    """A column that is left out of a submission, of whatever shape; not where the sample has asked for others."""
    columns = "'count': [3.5, 4.5], 'mask': np.zeros((2, 2, 2)), 'box': [[[1]], [[1], [2]]]"
    texts = files("price", f"fold.save_test({{'id': [1, 2], {columns}}})")
    texts["train.py"] = "import numpy as np\n" + texts["train.py"]
    with own_experiment(texts) as folder:
        run = train(folder.name, TESTED)
        assert [*submit(run.title)[0][0]] == ["id", "count"]
        line = "warning: box, mask: more than a line of CSV can hold"
        assert line in CliRunner().invoke(app, ["submit", run.title]).stderr
        sample(root, "id,count", [1, 2])
        assert "CSV" not in CliRunner().invoke(app, ["submit", run.title]).stderr


def test_labels_that_have_no_mean_are_named() -> None:
    """When a submission asks for them."""
    mean = Average(
        (label, {"id": numpy.arange(2), "kind": numpy.array(["x", label]), "y": numpy.array([0.5, 1])}, 0.5)
        for label in ("a", "b")
    )
    experiment = expkit.Experiment(print, object, "score", inputs=[], submission=lambda test: test["kind"])
    with pytest.raises(expkit.Error, match="KeyError: 'kind', of the columns id, y; the labels of kind differ"):
        as_submission(mean, experiment, "it", dict)


# What cross-validation found


def test_the_training_on_all_rows_asks_the_folds(root: Path) -> None:
    """The mean of what they have returned; None elsewhere: there, a training chooses by itself."""
    asks = "(fold.folder / 'asked.txt').write_text(str(fold.cv('best_iteration')))"
    with own_experiment(files("price", asks)) as folder:

        def sub(*overrides: str) -> str:
            run = train(folder.name, "exp.mode=sub", *overrides)
            assert {file.read_text() for file in run.folder.glob("fold*/asked.txt")} == {"None"}
            return (run.folder / "full/asked.txt").read_text()

        expkit.run(folder.name, overrides=["exp.mode=sub", "exp.debug=true"])
        assert [file.read_text() for file in root.rglob("full/asked.txt")] == ["None"]

        train(folder.name, "exp.fold=[0,1]")
        with pytest.raises(expkit.Error, match="fold.cv.*2 of 3 folds are trained: train all of them first"):
            sub()
        train(folder.name)
        assert sub() == "110"
        assert sub("overwrite=true") == "110", "of the version that it replaces"
        assert len(expkit.load_run(folder.name).done) == 3
        (root / "input/new.csv").write_text("1")
        with pytest.raises(expkit.Error, match="changed since: new.csv is new: train its folds again"):
            sub("overwrite=true")
        train(folder.name, "overwrite=true", "exp.fold=[0]")
        with pytest.raises(expkit.Error, match="mixed data"):
            sub("overwrite=true")


def test_only_numbers_have_a_mean(root: Path) -> None:
    folds = "{'share': fold.number / 4, 'whole': 7, 'text': 'a'}"
    full = "{name: fold.cv(name) for name in exp.runtime.tags}"
    with own_experiment(files("price", f"return {folds} if fold.number is not None else {full}")) as folder:
        train(folder.name)
        run = train(folder.name, "exp.mode=sub", "exp.runtime.tags=[share,whole]")
        assert (run.result(None) or {})["values"] == {"share": 0.25, "whole": 7}
        for name in ("text", "rounds"):
            line = f"fold.cv('{name}'): train() must return it, a number; the folds have share, whole, text"
            with pytest.raises(expkit.Error, match=re.escape(line)):
                train(folder.name, "exp.mode=sub", f"exp.runtime.tags=[{name}]", "overwrite=true")


# Seeds


def test_several_seeds_are_one_submission(experiments: dict[str, str], root: Path) -> None:
    name = experiments["price"]
    for seed in (1, 2, 3):
        expkit.run(name, overrides=[f"exp.seed={seed}"])
    assert len(submit("light", "--seeds")[1]["runs"]) == 3, "by what they share"
    expkit.run(name, overrides=["exp.seed=1", "exp.train.noise=0.4"])
    [row, _] = exp_json("board", "--all", "--seeds")
    assert row["seed"] == "3 seeds" and row["folds_done"] == 9
    rows, made = submit(f"{name}/light,exp.seed=2", "--seeds")
    tables = [expkit.load_run(f"{name}/light,exp.seed={seed}").test(fold) for seed in (1, 2, 3) for fold in range(3)]
    means = numpy.mean([table["prediction"] for table in tables], axis=0)
    assert numpy.allclose([float(row["prediction"]) for row in rows], means) and len(made["runs"]) == 3
    assert "light,exp.seed=1+light,exp.seed=2+light,exp.seed=3_" in Path(made["path"]).name
    with pytest.raises(expkit.Error, match="light may be .*: give more of the name"):
        exp("submit", "light", "--seeds")
    with pytest.raises(expkit.Error, match="no run is called nothing"):
        exp("submit", "nothing", "--seeds")
    assert submit("noise=0.4", "--seeds")[1]["runs"][0]["run"].endswith("noise=0.4")


# A class that a fold has not seen

RARE = train_py(
    "x: float = 0.5",
    """
def brier(oof):
    classes = [name for name in oof if name.startswith("probability_")]
    return sum(((oof["target"] == name.removeprefix("probability_")) - oof[name]) ** 2 for name in classes).mean()


def train(exp, fold):
    import numpy as np

    kinds = np.array(["flat", "hut"] * 10 + ["castle"])  # one castle: the fold that leaves it out has not seen any
    rows = fold.split(id=np.arange(21), y=kinds)

    def predict(X):
        classes = np.unique(kinds[rows.train])
        weights = np.random.default_rng(0).random((len(X), len(classes))) + (classes == "castle") * exp.train.x
        table = dict(zip([f"probability_{each}" for each in classes], (weights / weights.sum(1, keepdims=True)).T))
        return table | {"prediction": classes[weights.argmax(1)]} | ({} if "castle" in classes else {"extra": X / 7})

    fold.predict(predict, np.arange(21), test=np.arange(5), test_id=np.arange(5))
""",
    "metric=brier, greater_is_better=False",
)


@pytest.fixture
def rare(root: Path) -> Iterator[str]:
    with own_experiment({"train.py": RARE}) as folder:
        yield folder.name


def test_a_class_that_one_fold_has_not_seen(rare: str, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is 0 there, said by every command that needs it, and a fold has the score that its training has printed."""
    name, others = "probability_castle", ("probability_flat", "probability_hut")
    run = train(rare, "exp.train.x=4")
    printed, said = capfd.readouterr()
    [blind] = [number for number, fold in run.done.items() if name not in fold.predictions()]
    assert f"{name} is not in fold {blind}, and counts as 0 there" in said
    assert f"extra is not in {', '.join(f'fold {n}' for n in run.done if n != blind)}, and is left out" in said
    assert {*run.oof} == {"id", "target", "prediction", "fold", name, *others}
    assert not run.oof[name][run.oof["fold"] == blind].any() and run.oof[name][run.oof["fold"] != blind].all()
    shown = exp_json("show", run.title, "--all")["folds"]
    for number, fold in run.done.items():
        assert fold.result is not None
        trained = fold.result["scores"]["brier"]
        assert run.fold_scores[number] == trained and f"fold {number}  brier {trained:.4f}" in printed
        assert shown[str(number)]["scores"] == short({"brier": trained})
    other = train(rare, "exp.train.x=0.4")
    assert helpers.compared(run.title, other.title)["verdict"] != "not comparable", "its scores are as recorded"
    (run.folder / store.CV).unlink()
    assert train(rare, "exp.train.x=4").fold_scores == run.fold_scores, "scored again"

    rows, _ = submit(run.title)
    assert {row["prediction"] for row in rows} == {"castle"}
    assert f"the mean: {name} is not in {run.title}, fold {blind}, and counts as 0 there" in exp("submit", run.title)
    sample(root, "id,castle,flat,hut", range(5), "0.5,0.5,0.5")
    means = numpy.mean([fold.predictions(store.TEST).get(name, numpy.zeros(5)) for fold in run.done.values()], axis=0)
    assert [float(row["castle"]) for row in submit(run.title)[0]] == pytest.approx(means)


def test_what_a_table_lacks_is_only_0_where_nothing_is_left(root: Path) -> None:
    """The probability of one of two classes says nothing of a third."""
    ids, half = numpy.arange(2), numpy.array([0.5, 0.4])
    two = {"id": ids, "probability_a": half, "probability_b": 1 - half}
    whole = two | {"probability_c": half * 0, "prediction": numpy.array(["a", "b"])}
    for parts in ((two, whole), (whole, two)):
        mean = Average((f"part {number}", part, 0.5) for number, part in enumerate(parts))
        assert {*mean.first} == {*whole} - {"prediction"}
        alone = {"id": ids, "probability_a": half}
        assert {*Average(("a part", part, 1 / 3) for part in (*parts, alone)).first} == {"id", "probability_a"}
    ends = {"id": ids, "probability_a": half, "probability_c": 1 - half, "extra": half}
    for parts in ((ends, two, whole), (whole, ends), (ends, whole)):  # as a metric, such as the log loss, takes them
        order = ["id", "probability_a", "probability_b", "probability_c"]
        assert list(Average((f"part {number}", part, 0.5) for number, part in enumerate(parts)).first) == order
        assert list(tables.joined(dict(enumerate(parts)), "a run")[0]) == [*order, "fold"]
    castle = {"id": ids, "probability_a": half, "probability_b": half, "probability_c": 1 - 2 * half}
    made = Average([("a", two, 0.5), ("b", castle, 0.5)]).table()
    assert made["probability_c"] == pytest.approx((1 - 2 * half) / 2)
    for first, second in ((two, castle), (castle, two)):
        ranks = Average([("a", first, 0.5), ("b", second, 0.5)], is_rank=True).table()["probability_c"]
        assert ranks == pytest.approx([0.75 / 2 + 0.25, 0.75 / 2 + 0.5])
