"""`exp blend`: the numbers, the run that it makes, and what that is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helpers
import numpy
import pytest
from experiments import own_experiment
from helpers import exp, exp_json, short
from light import edited
from several import WIDE, each_kind, files

import expkit
from expkit import scores, store, tables
from expkit.config import load_experiment
from expkit.ensemble import hill

NOISES = (0.3, 0.5, 0.9)


@pytest.fixture(scope="module")
def market(module_root: Path) -> Iterator[dict[str, list[str]]]:
    """A PROJECT_ROOT with three runs of each kind of experiment: their names, by the kind."""
    with each_kind() as names:
        for name in names.values():
            for seed, noise in enumerate(NOISES):
                expkit.run(name, overrides=[f"exp.train.noise={noise}", f"exp.seed={seed}"])
        board = expkit.read_board()
        yield {kind: [run.title for run in board if run.experiment == name] for kind, name in names.items()}


@contextmanager
def two_seeds(texts: dict[str, str], *overrides: str) -> Iterator[list[str]]:
    """The names of two runs of an experiment."""
    with own_experiment(texts) as folder:
        for seed in range(2):
            expkit.run(folder.name, overrides=[f"exp.seed={seed}", *overrides])
        yield [run.title for run in expkit.read_board()]


def blend(*arguments: str) -> tuple[expkit.Run, dict[str, Any]]:
    """The blend as a run, and what the command says of it."""
    made = exp_json("blend", *arguments)
    return expkit.load_run(made["run"]), made


def refused(*arguments: str) -> str:
    return helpers.refused("blend", *arguments)


def columns(names: list[str], column: str = "prediction") -> numpy.ndarray:
    """A column of the out-of-fold predictions, (runs, rows), in the order of the ids."""
    return numpy.array([expkit.load_run(name).oof[column] for name in names])


# The numbers


def test_the_mean(market: dict[str, list[str]]) -> None:
    run, made = blend(*market["price"])
    assert numpy.allclose(run.oof["prediction"], columns(market["price"]).mean(axis=0))
    assert list(made["weights"].values()) == pytest.approx([1 / 3] * 3)
    error = run.oof["prediction"] - run.oof["target"]
    assert run.score == pytest.approx(float((error**2).mean() ** 0.5))
    assert short(run.score) == made["score"]
    assert not run.greater_is_better and run.metric == "rmse" and run.marks == ()
    assert made["best_run"] == market["price"][0], "the lowest error"
    test = [
        numpy.mean([expkit.load_run(name).test(fold)["prediction"] for fold in range(3)], axis=0)
        for name in market["price"]
    ]
    assert numpy.allclose(run.test(None)["prediction"], numpy.mean(test, axis=0))


def test_the_mean_of_ranks(market: dict[str, list[str]]) -> None:
    run, _ = blend(*market["risk"], "--method", "rank")
    own = columns(market["risk"])
    expected = (own.argsort(axis=1).argsort(axis=1) + 1) / 300
    assert numpy.allclose(run.oof["prediction"], expected.mean(axis=0))


def test_probabilities_are_blended_and_give_the_class(market: dict[str, list[str]]) -> None:
    run, made = blend(*market["species"])
    names = [name for name in run.oof if name.startswith("probability_")]
    means = {name: columns(market["species"], name).mean(axis=0) for name in names}
    assert len(names) == 3 and all(numpy.allclose(run.oof[name], means[name]) for name in names)
    best = [max(names, key=lambda name: means[name][row]).removeprefix("probability_") for row in range(300)]
    assert run.oof["prediction"].tolist() == best
    assert short(run.score) == made["score"]
    assert run.score == numpy.mean(run.oof["prediction"] == run.oof["target"])
    assert set(run.test(None)) == {"id", "prediction", *names}
    message = refused(*market["species"], "--method", "rank")
    assert "the metric accuracy raises KeyError: 'prediction', of the columns id, target, probability_cat" in message


@pytest.mark.parametrize("kind", ["price", "species"])
def test_weights_are_scored_by_rows_that_they_are_not_fitted_on(market: dict[str, list[str]], kind: str) -> None:
    run, made = blend(*market[kind], "--method", "hill")
    column = "probability_dog" if kind == "species" else "prediction"
    own, oof = columns(market[kind], column), run.oof
    assert set(made["by_part"]) == {"0", "1", "2"}
    for fold in range(3):
        rows = oof["fold"] == fold
        assert numpy.allclose(oof[column][rows], numpy.array(made["by_part"][str(fold)]) @ own[:, rows]), fold
    for found in (list(made["weights"].values()), *made["by_part"].values()):
        assert min(found) >= 0 and sum(found) == pytest.approx(1)
    experiment = expkit.load_experiment(market[kind][0].partition("/")[0]).experiment
    assert made["score"] == short(run.score)
    assert run.score == pytest.approx(experiment.metric(oof))
    by_all = numpy.array(list(made["weights"].values()))
    tests = [[expkit.load_run(name).test(fold)[column] for fold in range(3)] for name in market[kind]]
    assert numpy.allclose(run.test(None)[column], by_all @ numpy.mean(tests, axis=1))


def test_weights_of_a_fold_do_not_know_its_targets(market: dict[str, list[str]], root: Path) -> None:
    """In one fold the worst run is right by chance: only the other folds may see that."""
    lucky = "fold.number == 0 and exp.seed == 2 and fold.save_oof(model.predicted(KIND, model.rows(3, 0), 0.0, 0))"
    with own_experiment(files("price", lucky)) as folder:
        for seed, noise in enumerate(NOISES):
            expkit.run(folder.name, overrides=[f"exp.train.noise={noise}", f"exp.seed={seed}"])
        names = sorted(row.title for row in expkit.read_board())
        _, made = blend(*names, "--method", "hill")
    assert made["by_part"]["1"][2] > made["by_part"]["0"][2], "fitted with fold 0, and without it"


def test_a_higher_score_is_no_verdict(market: dict[str, list[str]]) -> None:
    """By how much is said, and which command tests it."""
    run, made = blend(*market["price"], "--method", "hill")
    best = expkit.load_run(made["best_run"])
    assert run.score is not None and best.score is not None and run.score < best.score
    printed = exp("blend", *market["price"], "--method", "hill")
    assert f"lower by {best.score - run.score:.4f} than the best of its runs, {best.title}: {best.score:.4f}" in printed
    assert f"; or noise? exp diff {best.title} {run.title}" in printed and "better" not in printed


def test_a_file_that_the_metric_keeps_in_memory(root: Path) -> None:
    """It is opened once, while hill looks for weights: the blend has the metric of its runs."""
    reads = "\n\n@functools.cache\ndef factor():\n    return float((Path(__file__).parent / 'k').read_text())\n"
    code = files("price")["train.py"].replace(".mean() ** 0.5", ".mean() ** 0.5 * factor()", 1)
    head, rest = code.split("import expkit\n", 1)
    texts = files("price") | {"k": "2"}
    texts["train.py"] = f"{head}import functools\nfrom pathlib import Path\n\nimport expkit\n{reads}{rest}"
    with two_seeds(texts) as names:
        load_experiment(names[0].partition("/")[0], again=True)
        run, _ = blend(*names, "--method", "hill")
        assert run.metric_hash == expkit.load_run(names[0]).metric_hash


def test_hill_climbing() -> None:
    """Of three members with known errors, the best weights are the inverse variances."""
    random = numpy.random.default_rng(0)
    truth = random.normal(size=20_000)
    deviations = numpy.array([0.5, 1.0, 2.0])
    members = truth + deviations[:, None] * random.normal(size=(3, 20_000))
    best = (1 / deviations**2) / (1 / deviations**2).sum()
    found = hill(3, lambda weights: float(((weights @ members - truth) ** 2).mean()))
    assert found == pytest.approx(best, abs=0.05)
    found = hill(2, lambda weights: (weights @ [4.0, -3.0]) ** 2)
    assert found == pytest.approx([3 / 7, 4 / 7], abs=1e-6), "the best round counts"


# The run


def test_a_blend_is_a_run(market: dict[str, list[str]]) -> None:
    run, made = blend(*market["price"], "--method", "hill", "--name", "best-prices")
    assert made["run"] == "blends/best-prices" and Path(made["folder"]) == run.folder
    row = next(row for row in expkit.read_board() if row.title == made["run"])
    assert (len(row.done), row.n_folds, row.rows, row.marks) == (3, 3, 300, ())
    assert short(row.score) == made["score"] and "best-prices" in exp("board")
    shown = exp("show", "best-prices")
    assert all(name in shown for name in market["price"]) and "each fold with weights fitted on the others" in shown
    parents = [expkit.load_run(name) for name in market["price"]]
    assert run.recipe is not None
    assert [(parent.run, parent.id) for parent in run.recipe.parents] == [(one.title, one.id) for one in parents]
    other, _ = blend(*market["price"][:2])
    difference = exp("diff", other.title, "best-prices")
    assert "blend.method" in difference and "a blend has none of its own" in difference
    made = exp_json("submit", "best-prices")
    lines = Path(made["path"]).read_text().splitlines()
    assert lines[0] == "id,prediction" and len(lines) == 41
    assert float(lines[1].partition(",")[2]) == run.test(None)["prediction"][0]
    assert [one["folds"] for one in made["runs"]] == [[None]]


@pytest.mark.parametrize("kind", ["price", "species"])
def test_a_blend_is_scored_and_recorded_as_any_run(market: dict[str, list[str]], kind: str) -> None:
    """Though its rows are not read again for it: to the last byte, and with the rows and targets of the first run."""
    run, _ = blend(*market[kind], "--method", "hill", "--name", f"bytes-{kind}")
    before = (run.folder / store.CV).read_bytes()
    store.forget_cv(run.folder)
    scores.update(load_experiment(run.scored_by).experiment, store.Versions.of(run.folder), run.folder)
    assert (run.folder / store.CV).read_bytes() == before
    for number, fold in run.done.items():
        table = fold.predictions()
        assert run.valid_ids[number] == tables.fingerprint(table["id"])
        assert run.results[number]["rows"] == len(table["id"])
        assert run.targets[number] == tables.target_hash(table) is not None


def test_the_same_command_again_finds_it_done(market: dict[str, list[str]]) -> None:
    first, _ = blend(*market["risk"], "--method", "hill")
    before = helpers.tree(first.folder)
    assert "is done" in exp("blend", *market["risk"], "--method", "hill")
    assert helpers.tree(first.folder) == before
    (first.folder / "fold1/result.json").unlink()
    assert "partial" in expkit.load_run(first.folder).marks
    again, _ = blend(*market["risk"], "--method", "hill")
    assert again.marks == () and not first.folder.exists(), "made anew, beside the broken one"


def test_a_blend_whose_runs_have_changed_is_marked(root: Path) -> None:
    def marks(run: expkit.Run) -> tuple[str, ...]:
        return expkit.load_run(run.folder).marks

    with two_seeds(files("price")) as (one, other):
        name = one.partition("/")[0]
        run, _ = blend(one, other, "--name", "both")
        top, _ = blend("blends/both", one, "--name", "top")
        assert numpy.allclose(top.oof["prediction"], [0.75, 0.25] @ columns([one, other])), "a blend of a blend"
        assert marks(run) == () and marks(top) == ()
        expkit.run(name, overrides=["exp.seed=1", "overwrite=true"])
        assert marks(run) == (f"{other} has been replaced",)
        assert marks(top) == marks(run), "and of what it is made of, in turn"
        assert "has been replaced" in exp("show", "both")
        renewed, _ = blend(one, other, "--name", "both")
        assert marks(renewed) == () and renewed.folder != run.folder
        fold = expkit.load_run(one).folder / "fold1"
        oof = (fold / "oof.npz").read_bytes()
        (fold / "oof.npz").write_bytes(b"")
        assert any("has changed" in mark for mark in marks(renewed))
        (fold / "oof.npz").write_bytes(oof)
        (root / "input/x.csv").write_text("1")
        expkit.run(name, overrides=["exp.seed=1", "overwrite=true", "exp.fold=[0]"])
        made, _ = blend(one, other, "--name", "mixed")
        assert marks(made) == (f"{other}: mixed data",), "a run's own mark is the blend's, too"


# What does not fit


def test_what_does_not_fit(market: dict[str, list[str]]) -> None:
    price, species, risk = market["price"], market["species"], market["risk"]
    assert "has the metric accuracy over rows, higher is better" in refused(price[0], species[0])
    assert refused(price[0]) == refused(price[0], price[0]) == "a blend needs two runs or more, each named once"
    assert "--name must have letters" in refused(*price, "--name", "../x")
    train = expkit.code_root() / "experiments" / price[0].partition("/")[0] / "train.py"
    with edited(train, "rmse", "mae"):
        load_experiment(train.parent.name, again=True)
        assert "scored by rmse, but " in refused(*price)
    load_experiment(train.parent.name, again=True)
    blend(*risk, "--name", "taken")
    assert "with other runs or another method: give another --name" in refused(*price, "--name", "taken")
    assert not list((expkit.output_dir() / "blends").glob("taken@*"))


def test_rows_targets_and_folds_that_differ(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def run(more: str, *overrides: str) -> str:
        with own_experiment(files("price", more)) as folder:
            expkit.run(folder.name, overrides=overrides)
            return folder.name

    oof = "table = model.predicted(KIND, model.rows(exp.n_folds, fold.number), 0.5, 9)"
    with own_experiment(files("price")) as folder:
        expkit.run(folder.name)
        expkit.run(folder.name, overrides=["exp.n_folds=2"])
        expkit.run(folder.name, overrides=["exp.fold=[0]", "exp.seed=1"])
        fewer = run(f"{oof}; fold.save_oof({{name: column[1:] for name, column in table.items()}})")
        other = run(f"{oof}; table['target'] = table['target'] + (table['id'] == '00007-a'); fold.save_oof(table)")
        name = f"{folder.name}/light"
        assert "a blend needs every fold" in refused(name, f"{folder.name}/light,exp.seed=1")
        assert f"{fewer}/light has other rows than {name}: 3 fewer and 0 more" in refused(name, fewer)
        assert f"another target than {name} in 1 rows, such as id 00007-a" in refused(name, other)
        two = f"{folder.name}/light,exp.n_folds=2"
        mean, _ = blend(name, two)
        assert numpy.allclose(mean.oof["prediction"], columns([name, two]).mean(axis=0)), "aligned by the id"
        made, _ = blend(name, two, "--method", "hill", "--name", "folds")
    assert made.n_folds == 3
    expected = expkit.load_run(name).oof
    assert made.oof["id"].tolist() == expected["id"].tolist() and made.oof["fold"].tolist() == expected["fold"].tolist()


def test_a_single_split(root: Path) -> None:
    """There are no other folds to fit weights on."""
    with two_seeds(files("price"), "exp.n_folds=1") as names:
        assert refused(*names, "--method", "hill").startswith("hill needs two folds or more")
        run, _ = blend(*names)
    assert (run.n_folds, len(run.done)) == (1, 1)


def test_a_column_with_a_value_a_class(root: Path) -> None:
    """The metric takes it as it does of a run."""
    wide = files("price")
    wide["train.py"] = wide["train.py"].replace("model.predicted(KIND, model.rows", "model.wide(KIND, model.rows")
    wide["model.py"] += WIDE
    with two_seeds(wide, "exp.train.test=false") as names:
        run, made = blend(*names, "--method", "hill")
        each = numpy.array([made["by_part"][str(fold)] for fold in run.oof["fold"]]).T[:, :, None]
        assert numpy.allclose(run.oof["prediction"], (each * columns(names)).sum(axis=0))


def test_labels_without_probabilities(root: Path) -> None:
    drop = "table = model.predicted(KIND, model.rows(3, fold.number), exp.train.noise, seed)"
    drop += "; fold.save_oof({name: table[name] for name in ('id', 'target', 'prediction')})"
    with two_seeds(files("species", drop)) as names:
        line = refused(*names)
    assert "save probability_<class> with fold.save_oof; there are id, target, prediction" in line
