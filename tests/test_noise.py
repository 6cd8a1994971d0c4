"""Better, or noise? The intervals, the pairs that they are of, and what `exp diff` says."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from experiments import own_experiment
from light import LIGHT, edited
from scipy import stats
from several import files
from typer.testing import CliRunner

import expkit
from expkit.cli import app
from expkit.config.load import load_experiment
from expkit.inspect import bootstrap
from expkit.inspect.beside import grouped_by_seed
from expkit.inspect.board import Row, read_board
from expkit.inspect.bootstrap import Bootstrap
from expkit.inspect.noise import Interval, corrected_t, ratio_of_rows, t_quantile, together
from expkit.inspect.paired import over_folds, within_noise

Table = dict[str, numpy.ndarray]


# Over folds


def test_quantiles_of_student() -> None:
    for freedom in (1, 2, 3, 4, 5, 9, 10, 14, 49, 500):
        for confidence in (0.95, 0.999):
            assert t_quantile(freedom, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom))


def test_the_corrected_resampled_t_test() -> None:
    differences = [0.01, 0.03, -0.01, 0.02, 0.02]
    found = corrected_t(differences, 0.25)
    error = math.sqrt((1 / 5 + 1 / 4) * numpy.var(differences, ddof=1))
    low, high = stats.t.interval(0.95, 4, numpy.mean(differences), error)
    assert (found.better_by, found.low, found.high) == pytest.approx((0.014, low, high))
    assert corrected_t([0.0, 0.0], 1.0) == Interval(0.0, 0.0, 0.0), "the same run"
    with pytest.raises(expkit.Error, match="one fold does not say"):
        corrected_t([0.1], 0.25)
    with pytest.raises(expkit.Error, match="the same in every fold"):
        corrected_t([0.1 + 0.2, 0.3, 0.3], 0.5)


def test_rows_left_out_for_each_that_is_trained_on() -> None:
    assert ratio_of_rows({0: 20, 1: 20, 2: 20}, 3, False) == pytest.approx(1 / 2)
    assert ratio_of_rows({0: 30, 1: 20, 2: 10}, 3, False) == pytest.approx((30 / 30 + 20 / 40 + 10 / 50) / 3)
    assert ratio_of_rows({0: 30, 1: 20}, 3, False) == 1 / 2, "while a fold is missing, they count as equal"
    assert ratio_of_rows({0: 20, 1: 20}, 2, True) == (1 + 1 / 2) / 2, "only what is earlier is trained on"


def test_better_only_when_every_interval_says_so() -> None:
    better, worse, noise = Interval(2, 1, 3), Interval(-2, -3, -1), Interval(0.5, -1, 2)
    assert [one.verdict for one in (better, worse, noise)] == ["better", "worse", "could be noise"]
    assert together([better, better]) == "better" and together([worse]) == "worse"
    assert together([better, noise]) == together([better, worse]) == "could be noise"


def row(scores: list[float], split: str = "a", **about: Any) -> Row:
    """A row of the board with these scores of its folds."""
    folds = dict(enumerate(scores))
    made = {"metric": "accuracy", "n_folds": len(scores), "ratio": 1 / (len(scores) - 1)} | about
    return Row("", "", Path(), left_out={fold: f"{split}{fold}" for fold in folds}, fold_scores=folds, **made)


def test_seeds_on_the_same_rows_count_once() -> None:
    """A model that does not depend on its seed: more seeds say nothing more. With other folds, they do."""
    old, new = [0.7, 0.8, 0.75, 0.72], [0.74, 0.81, 0.8, 0.74]
    one = over_folds([(row(old), row(new))])
    assert over_folds([(row(old), row(new)) for _ in range(3)]) == one
    other = over_folds([(row(old, split), row(new, split)) for split in "abc"])
    assert other.high - other.low < 0.9 * (one.high - one.low)


def test_which_rows_are_within_noise_of_the_best() -> None:
    best = row([0.9, 0.91, 0.92, 0.9, 0.91])
    assert within_noise(best, best) is True
    assert within_noise(best, row([0.9, 0.92, 0.91, 0.9, 0.9])) is True
    assert within_noise(best, row([0.7, 0.72, 0.71, 0.7, 0.72])) is False
    low, high = [row(scores, greater_is_better=False) for scores in ([0.1, 0.12, 0.11], [0.9, 0.91, 0.92])]
    assert within_noise(low, high) is False
    for other in (
        row([0.9, 0.92, 0.91, 0.9, 0.9], metric="auc"),
        row([0.9, 0.92, 0.91, 0.9, 0.9], greater_is_better=False),
        row([0.9, 0.92, 0.91, 0.9, 0.9], split="b"),
        Row("", "", Path(), metric="accuracy"),
    ):
        assert within_noise(best, other) is None
    holdout = row([0.9, 0.8], ratio=None)
    assert within_noise(holdout, holdout) is None, "a single split says nothing of how scores vary"


# Over rows


def accuracy(oof: Table) -> Any:
    return (oof["prediction"] == oof["target"]).mean()


def rmse(oof: Table, weights: Any = None) -> Any:
    return numpy.sqrt(numpy.average((oof["prediction"] - oof["target"]) ** 2, weights=weights))


def rmse_of_rows(oof: Table) -> Any:
    return rmse(oof)


def liar(oof: Table, weights: Any = None) -> Any:
    """Takes weights for something else."""
    return rmse(oof)


def auc(oof: Table) -> Any:
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(oof["target"], oof["prediction"])


def numbers(rows: int, *noises: float) -> list[Table]:
    """Predictions of the same rows; a part of their error is in all."""
    random = numpy.random.default_rng(0)
    target, common = random.normal(size=(2, rows))
    ids = numpy.arange(rows)
    return [
        {"id": ids, "target": target, "prediction": target + common + random.normal(0, one, rows)} for one in noises
    ]


def classes(rows: int) -> tuple[Table, Table]:
    random = numpy.random.default_rng(1)
    target = random.integers(3, size=rows)
    sides = [numpy.where(random.random(rows) < right, target, (target + 1) % 3) for right in (0.8, 0.82)]
    tables = [{"id": numpy.arange(rows), "target": target, "prediction": one} for one in sides]
    return tables[0], tables[1]


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


@pytest.mark.parametrize(("rows", "how"), [(2000, "rows"), (50_000, "parts")])
def test_a_mean_over_rows(rows: int, how: str) -> None:
    """By parts or row by row, the interval is that of the theory, of a mean of differences, whatever the order."""
    old, new = classes(rows)
    difference = (new["prediction"] == new["target"]) * 1.0 - (old["prediction"] == old["target"])
    order = numpy.argsort(difference, kind="stable")
    old, new = [{name: column[order] for name, column in table.items()} for table in (old, new)]
    found, by = Bootstrap("accuracy", accuracy, [(old, new)], 1).interval()
    assert by == how and found.better_by == pytest.approx(difference.mean())
    assert half_width(found) == pytest.approx(1.96 * difference.std() / math.sqrt(rows), rel=0.12)
    assert found.low + found.high == pytest.approx(2 * difference.mean(), abs=0.2 * half_width(found))


def test_weights_do_what_rows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = numbers(10_000, 0.5, 0.52)
    by_weights, how = Bootstrap("rmse", rmse, [(old, new)], -1).interval()
    by_rows, other = Bootstrap("rmse", rmse_of_rows, [(old, new)], -1).interval()
    assert (how, other) == ("weights", "rows")
    assert vars(by_weights) == pytest.approx(vars(by_rows))
    assert by_weights.better_by == pytest.approx(rmse(old) - rmse(new)) and by_weights.better_by < 0
    by_itself, how = Bootstrap("liar", liar, [(old, new)], -1).interval()
    assert how == "rows" and by_itself == by_rows, "a parameter of this name that does not count rows"


def test_the_same_rows_are_drawn_for_both() -> None:
    """What both get wrong cancels out: the interval is narrower than the score of one is sure."""
    old, new = numbers(2000, 0.1, 0.12)
    found, _ = Bootstrap("rmse", rmse, [(old, new)], -1).interval()
    assert Bootstrap("rmse", rmse, [(old, old)], -1).interval()[0] == Interval(0.0, 0.0, 0.0)
    alone = 1.96 * ((old["prediction"] - old["target"]) ** 2).std() / math.sqrt(2000) / (2 * rmse(old))
    assert half_width(found) < alone / 3


def test_seeds_are_averaged() -> None:
    tables = numbers(2000, 0.5, 0.52, 0.54, 0.5)
    found, _ = Bootstrap("rmse", rmse, [(tables[0], tables[1]), (tables[2], tables[3])], 1).interval()
    differences = [rmse(tables[1]) - rmse(tables[0]), rmse(tables[3]) - rmse(tables[2])]
    assert found.better_by == pytest.approx(numpy.mean(differences))
    assert found.low < numpy.mean(differences) < found.high


def test_what_is_no_mean_is_not_taken_for_one() -> None:
    tables = numbers(20_000, 1.0, 1.1)
    for table in tables:
        table["target"] = (table["target"] > 0).astype(int)
    for metric in (auc, rmse_of_rows):
        assert Bootstrap("metric", metric, [(tables[0], tables[1])], 1)._by_parts() is None


@pytest.mark.parametrize("groups", [400, 4000])
@pytest.mark.parametrize("metric", [accuracy, rmse])
def test_rows_of_a_group_are_drawn_together(metric: Any, groups: int) -> None:
    """Each row is there five times: that is no more to go by."""
    pair = classes(groups) if metric is accuracy else tuple(numbers(groups, 0.5, 0.8))
    once = Bootstrap("metric", metric, [(pair[0], pair[1])], 1).interval()[0]
    errors = [abs(table["prediction"] - table["target"]) for table in pair]
    member = numpy.repeat(numpy.argsort(errors[0] - errors[1], kind="stable"), 5)
    many = [{name: column[member] for name, column in table.items()} for table in pair]
    together, _ = Bootstrap("metric", metric, [(many[0], many[1])], 1, member.astype(str)).interval()
    alone, how = Bootstrap("metric", metric, [(many[0], many[1])], 1).interval()
    assert how == ("rows" if groups == 400 else "parts" if metric is accuracy else "weights")
    assert together.better_by == pytest.approx(once.better_by)
    assert together.low < once.better_by < together.high
    assert half_width(together) == pytest.approx(half_width(once), rel=0.15)
    assert half_width(alone) == pytest.approx(half_width(once) / math.sqrt(5), rel=0.15)


def test_what_cannot_be_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = numbers(19, 1.0, 1.1)
    with pytest.raises(expkit.Error, match="19 rows are too few"):
        Bootstrap("rmse", rmse, [(old, new)], -1).interval()
    old, new = numbers(100, 1.0, 1.1)
    with pytest.raises(expkit.Error, match="2 groups of rows are too few"):
        Bootstrap("rmse", rmse, [(old, new)], -1, numpy.arange(100) % 2).interval()
    for table in (old, new):
        table["target"] = (numpy.arange(100) == 0).astype(int)
    with pytest.raises(expkit.Error, match="a resample has no score: .*auc"):
        Bootstrap("auc", auc, [(old, new)], 1).interval()
    monkeypatch.setattr(bootstrap, "PATIENCE", 0.0)
    with pytest.raises(expkit.Error, match="1,000 resamples of 100 rows take about .* s: --bootstrap computes them"):
        Bootstrap("rmse", rmse, [(old, new)], -1).interval()
    assert Bootstrap("rmse", rmse, [(old, new)], -1).interval(is_asked=True)


def test_one_slow_resample_is_no_reason_to_ask() -> None:
    """Another process may have had the processor; the metric itself is fast."""
    calls: list[int] = []

    def sometimes(oof: Table) -> Any:
        calls.append(len(oof["id"]))
        if len(calls) in (3, 4):  # of the first resample
            time.sleep(0.02)
        return rmse(oof)

    old, new = numbers(100, 1.0, 1.1)
    assert (
        Bootstrap("rmse", sometimes, [(old, new)], -1).interval()
        == Bootstrap("rmse", rmse, [(old, new)], -1).interval()
    )


# Where the truth is known


def test_false_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two configurations that are equally good: at 95 %, few are called better or worse. benchmarks/noise.py has more.

    A nearest neighbour, on columns of which some are in both; 5 folds, drawn 3 times, whose models share training rows.
    """
    monkeypatch.setattr(bootstrap, "RESAMPLES", 300)
    random, alarms = numpy.random.default_rng(0), numpy.zeros(3)
    repetitions, rows, n_folds, splits = 100, 120, 5, 3
    for _ in range(repetitions):
        target = random.integers(2, size=rows)
        X = random.normal(size=(rows, 6)) + 0.5 * target[:, None]
        distances = [((X[:, None, own] - X[None, :, own]) ** 2).sum(axis=2) for own in (slice(0, 4), slice(2, 6))]
        scored, predicted = [], []
        for split in range(splits):
            fold = random.permutation(rows) % n_folds
            together_in = fold[:, None] == fold
            right = [target[numpy.where(together_in, 9e9, one).argmin(axis=1)] == target for one in distances]
            scores = [[float(one[fold == number].mean()) for number in range(n_folds)] for one in right]
            scored.append((row(scores[0], f"{split}-"), row(scores[1], f"{split}-")))
            tables = [{"id": fold, "target": numpy.ones(rows, bool), "prediction": one} for one in right]
            predicted.append((tables[0], tables[1]))
        over = over_folds(scored)
        boot, _ = Bootstrap("accuracy", accuracy, predicted, 1).interval()
        each = [new.fold_scores[number] - old.fold_scores[number] for old, new in scored for number in range(n_folds)]
        plain = stats.ttest_1samp(each, 0).pvalue < 0.05
        alarms += [plain, over.verdict != "could be noise", together([over, boot]) != "could be noise"]
    plain, corrected, both = alarms / repetitions
    assert both <= corrected <= 0.05 and plain > 0.15, alarms


# Runs

REVERSED = (
    "exp.train.fails and fold.save_oof({name: column[::-1] for name, column in "
    "model.predicted(KIND, model.rows(exp.n_folds, fold.number), exp.train.noise, seed).items()})"
)


@pytest.fixture(scope="module")
def price(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An experiment with rmse and text ids, and its runs in a PROJECT_ROOT: name, and what it is made of."""
    root = tmp_path_factory.mktemp("shop")
    (root / "input").mkdir()
    with pytest.MonkeyPatch.context() as patch, own_experiment(files("price", REVERSED)) as folder:
        patch.setenv("PROJECT_ROOT", str(root))
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("PATH", str(root))  # no git: snapshots take longer than these trainings
        for name, *values in (
            ("good", "exp.train.noise=1.0"),
            ("same", "exp.train.noise=1.0", "exp.seed=1"),
            ("bad", "exp.train.noise=2.0", "exp.train.fails=true"),
            ("four", "exp.n_folds=4"),
            ("begun", "exp.train.noise=2.0", "exp.fold=[0,2]"),
            ("late", "exp.fold=[1]"),
            ("split", "exp.n_folds=1", "exp.fold=[0]"),
            ("split-worse", "exp.n_folds=1", "exp.fold=[0]", "exp.train.noise=2.0"),
        ):
            expkit.run(folder.name, overrides=[f"exp.name={name}", *values])
        yield folder


@pytest.fixture
def quick(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `root`, without git."""
    monkeypatch.setenv("PATH", str(root))
    return root


def exp(*arguments: str) -> str:
    """What the command prints, in this process."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def compared(*arguments: str) -> dict[str, Any]:
    """What `exp diff` says of two runs."""
    found: dict[str, Any] = json.loads(exp("diff", "--json", *arguments))["comparison"]
    return found


def names() -> dict[str, str]:
    """The whole name of each run by its exp.name."""
    return {str(row.config.get("exp.name", row.run)): row.name for row in read_board()}


def files_in(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if "__pycache__" not in file.parts}


def test_better_or_worse(price: Path) -> None:
    """In the direction of the metric, whatever the order of the rows. Nothing is written."""
    run, before = names(), files_in(expkit.output_dir())
    found = compared(run["good"], run["bad"])
    good, bad = [expkit.load_run(run[name]) for name in ("good", "bad")]
    assert list(good.record.done[0].predictions()["id"]) == list(bad.record.done[0].predictions()["id"])[::-1]
    assert good.row.score is not None and bad.row.score is not None
    assert (found["metric"], found["greater_is_better"], found["verdict"]) == ("rmse", False, "worse")
    scores = [run.record.score() for run in (good, bad)]
    differences = [scores[0].folds[fold] - scores[1].folds[fold] for fold in range(3) if scores[0] and scores[1]]
    assert found["folds"] == vars(corrected_t(differences, 1 / 2)) | {"folds": [0, 1, 2], "seeds": []}
    rows = found["rows"]
    assert rows["better_by"] == pytest.approx(good.row.score - bad.row.score)
    assert rows["low"] < rows["better_by"] < rows["high"] < 0
    about = {"rows": 300, "groups": None, "resamples": 1000, "how": "rows"}
    assert {name: rows[name] for name in about} == about
    assert compared(run["bad"], run["good"])["verdict"] == "better"
    assert files_in(expkit.output_dir()) == before


def test_in_words(price: Path) -> None:
    run = names()
    printed = exp("diff", run["good"], run["bad"])
    number = r"\d\.\d{4}"
    for how in ("3 folds", "300 rows"):
        assert re.search(rf"bad\S* is worse by {number} \({how}, 95 % interval {number} to {number}\)\n", printed)
    assert "\nverdict: worse\n" in printed
    printed = exp("diff", run["good"], run["same"])
    assert re.search(rf"\({300} rows, 95 % interval -{number} to {number}\): could be noise\n", printed)
    assert "\nverdict: could be noise\n" in printed
    assert "\nverdict: identical: the out-of-fold predictions are the same\n" in exp("diff", run["good"], run["good"])


def test_what_does_not_compare_says_why(price: Path) -> None:
    run = names()
    for pair, why in (
        (("good", "four"), "other folds: "),
        (("begun", "late"), "no common fold: no fold is done in both "),
    ):
        found = compared(*[run[name] for name in pair])
        assert list(found) == ["verdict", "reason"] and found["reason"].startswith(why), pair
        assert found["verdict"] == "not comparable"
    assert "\nverdict: not comparable: other folds" in exp("diff", run["good"], run["four"])


def test_the_folds_that_both_have(price: Path) -> None:
    run = names()
    found = compared(run["good"], run["begun"])
    assert found["folds"]["folds"] == [0, 2] and found["rows"]["rows"] == 200
    scores = [expkit.load_run(run[name]).oof for name in ("good", "begun")]
    scores[0] = {name: column[scores[0]["fold"] != 1] for name, column in scores[0].items()}
    assert found["rows"]["better_by"] == pytest.approx(rmse(scores[0]) - rmse(scores[1]))


def test_one_fold(price: Path) -> None:
    """Its rows can be resampled; how scores vary from fold to fold is not known."""
    run = names()
    found = compared(run["split"], run["split-worse"])
    assert "train two or more" in found["folds"]["reason"]
    assert found["rows"]["rows"] == 300 and found["verdict"] == "worse"
    assert "\nover folds: one fold does not say" in exp("diff", run["split"], run["split-worse"])


def test_a_blend(price: Path) -> None:
    run = names()
    made = json.loads(exp("blend", run["good"], run["same"], "--name", "two", "--json"))["run"]
    found = compared(run["good"], made)
    assert found["folds"]["better_by"] > 0 and found["rows"]["low"] > 0


def test_other_targets_other_data_other_groups(quick: Path) -> None:
    line = (
        "exp.train.fails and fold.save_oof({**model.predicted(KIND, model.rows(exp.n_folds, fold.number), 1.0, seed), "
        "**({'target': model.truth(model.rows(exp.n_folds, fold.number)) + 1} if exp.seed == 1 else {}), "
        "**({'group': model.rows(exp.n_folds, fold.number) % 30 + (exp.seed == 3)} if exp.seed > 1 else {})})"
    )
    with own_experiment(files("price", line)) as folder:
        for seed in (0, 1, 2, 3, 4):
            expkit.run(folder.name, overrides=[f"exp.name=s{seed}", f"exp.seed={seed}", "exp.train.fails=true"])
        assert compared("s0", "s1")["verdict"] == "not comparable"
        assert compared("s0", "s1")["reason"].startswith("other target: ")
        assert compared("s2", "s3")["rows"]["reason"] == "the column group is not the same in all of the runs"
        assert compared("s2", "s4")["rows"]["groups"] == 30
        assert "(300 rows in 30 groups, 95 %" in exp("diff", "s2", "s4")
        for pair in (("s0", "s2"), ("s2", "s0")):
            assert compared(*pair)["rows"]["groups"] is None, "only one has groups"
        for name, text in (("before", "1"), ("after", "2")):
            (quick / "input/train.csv").write_text(text)
            expkit.run(folder.name, overrides=[f"exp.name={name}"])
        assert compared("before", "after")["reason"].startswith("other data: ")


def test_other_metrics(quick: Path) -> None:
    """Of another name, of the other direction, or of one name and two functions. What is recorded counts."""
    with own_experiment(files("price")) as price, own_experiment(files("species")) as species:
        for folder, name in ((price, "p"), (species, "s"), (price, "q")):
            expkit.run(folder.name, overrides=[f"exp.name={name}", f"exp.seed={len(names())}"])
        assert compared("/p", "/s")["reason"].startswith("other metric: rmse in ")
        train = price / "train.py"
        with edited(train, ".mean() ** 0.5", ".mean()"):
            load_experiment(price.name, again=True)
            found = compared("/p", "/q")
            assert re.match(r"rmse now gives 0.0\d+ for fold 0 of .*, but 0.\d+ is recorded", found["rows"]["reason"])
            assert "low" in found["folds"]
            expkit.run(price.name, overrides=["exp.name=new", "exp.seed=9"])
            assert "rmse may not be the same function in all runs: rmse now gives" in compared("/p", "/new")["reason"]
        with edited(train, "import expkit", "import expkit, no_such_module"):
            load_experiment.__globals__["modules"].forget(price.name)
            load_experiment.__globals__["_load"].cache_clear()
            found = compared("/p", "/q")
            assert "cannot be loaded: ModuleNotFoundError" in found["rows"]["reason"] and "low" in found["folds"]


def test_seeds(quick: Path) -> None:
    """Each with the runs that differ in their seed alone, of the seeds that both have."""
    with own_experiment(files("price")) as folder:
        (quick / "input/train.csv").write_text("0")
        for noise, seeds in ((1.0, (0, 1, 2)), (1.5, (1, 2, 3))):
            for seed in seeds:
                expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", f"exp.seed={seed}"])
        runs = {(row.config["exp.train.noise"], row.seed): row for row in read_board()}
        found = compared(runs[1.0, 0].name, runs[1.5, 3].name, "--seeds")
        assert found["folds"]["seeds"] == [1, 2] and found["verdict"] == "worse"
        differences = [
            sum(runs[1.0, seed].fold_scores[fold] - runs[1.5, seed].fold_scores[fold] for seed in (1, 2)) / 2
            for fold in range(3)
        ]
        assert found["folds"]["low"] == pytest.approx(corrected_t(differences, 1 / 2).low)
        scores = [sum(runs[noise, seed].score or 0 for seed in (1, 2)) / 2 for noise in (1.0, 1.5)]
        assert found["rows"]["better_by"] == pytest.approx(scores[0] - scores[1])
        assert "(3 folds x 2 seeds, 95 %" in exp("diff", runs[1.0, 0].name, runs[1.5, 3].name, "--seeds")
        with pytest.raises(expkit.Error, match="differ only in their seed"):
            exp("diff", runs[1.0, 0].name, runs[1.0, 1].name, "--seeds")
        expkit.run(folder.name, overrides=["exp.train.noise=4.0", "exp.seed=7"])
        other = next(row for row in read_board() if row.seed == 7)
        with pytest.raises(expkit.Error, match="have no seed in common: 7; 1, 2, 3"):
            exp("diff", other.name, runs[1.5, 3].name, "--seeds")
        grouped = {row.config["exp.train.noise"]: row for row in grouped_by_seed(read_board())}
        assert within_noise(grouped[1.0], grouped[1.0]) is True and within_noise(grouped[1.0], grouped[4.0]) is False
        (quick / "input/train.csv").write_text("1")
        for noise in (1.0, 1.5):
            expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", "exp.seed=8"])
        found = compared(runs[1.0, 0].name, runs[1.5, 3].name, "--seeds")
        assert found["reason"].startswith("other data: "), "of another seed"
        means = [sum(runs[1.0, seed].fold_scores[fold] for seed in (0, 1, 2)) / 3 for fold in range(3)]
        assert list(grouped[1.0].fold_scores.values()) == pytest.approx(means)


def test_the_board_knows_the_folds(price: Path) -> None:
    """What `within_noise` reads of a run is on the board."""
    rows = {str(row.config.get("exp.name")): row for row in read_board()}
    assert rows["good"].ratio == 1 / 2 and rows["four"].ratio == pytest.approx(1 / 3) and rows["split"].ratio is None
    assert within_noise(rows["good"], rows["bad"]) is False and within_noise(rows["good"], rows["same"]) is True
    assert within_noise(rows["good"], rows["four"]) is None


def test_a_time_split_trains_on_fewer_rows(quick: Path) -> None:
    expkit.run(LIGHT, overrides=["exp.split.method=time"])
    [row] = read_board()
    assert row.ratio == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
