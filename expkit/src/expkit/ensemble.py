"""`exp blend`: a run that is made of others. Its folds are those of the first; its out-of-fold rows are predicted by
weights that were fitted on other folds, so that its score is as honest as that of a run that was trained.

`hill`: greedy selection with replacement, Caruana, Niculescu-Mizil, Crew, Ksikes: Ensemble selection from libraries of
models, ICML 2004. `fit`: non-negative weights with the sum 1, by SciPy's SLSQP.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from expkit import files, scores, snapshot, store, tables
from expkit.config import Experiment, load_experiment
from expkit.errors import Error, require
from expkit.fingerprint import code_hash
from expkit.project import code_root, output_dir
from expkit.runner import environment_text, origin
from expkit.store import BLENDS, OOF, TEST, Parent, Recipe, Run, Versions, parent_marks
from expkit.submission import LABEL, Average, choose, mean_of, most_likely, title_of

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

    Loss = Callable[[numpy.ndarray], float]  # of weights, (members,); lower is better

ROUNDS = 30  # members that `hill` adds, at most
STALE = 3  # rounds without a better blend, after which it stops
STEPS = (1e-2, 1e-6)  # of `fit`, for derivatives: the first sees a metric of ranks or classes move, the second is exact
FIT_ROWS = 20_000  # that weights are fitted on, at most: more cost minutes with a metric that sorts
PARTS = 5  # into which the rows of a single fold are divided, to fit weights on other rows than are scored
LONGEST = 100  # characters of a name that is made of the names of the runs

# Weights


def hill(members: int, loss: Loss) -> numpy.ndarray:
    """Weights by greedy selection: in each round the member is added whose addition scores best; the best round counts.

    Args:
        members: how many there are.
        loss: of weights; what to make small.

    Returns:
        (members,), with the sum 1: how often each was chosen.
    """
    import numpy

    chosen = numpy.zeros(members)
    best, weights, since = numpy.inf, chosen, 0
    for count in range(1, ROUNDS + 1):
        candidates = (chosen + numpy.eye(members)) / count
        losses = [loss(one) for one in candidates]
        index = int(numpy.argmin(losses))
        chosen[index] += 1
        since += 1
        if losses[index] < best:
            best, weights, since = losses[index], candidates[index], 0
        if since == STALE:
            break
    return weights


def fit(members: int, loss: Loss) -> numpy.ndarray:
    """Weights that are not negative and have the sum 1; never worse than equal ones, or than a member alone.

    Arguments and result as of `hill`.
    """
    import numpy
    from scipy.optimize import minimize

    def normal(weights: numpy.ndarray) -> numpy.ndarray:
        positive = numpy.clip(weights, 0, None)
        return positive / positive.sum() if positive.sum() > 0 else equal

    best = equal = numpy.full(members, 1 / members)
    candidates = [equal, *numpy.eye(members)]
    losses = [loss(one) for one in candidates]
    scale = max(losses) - min(losses) or 1.0
    for step in STEPS:
        found = minimize(
            lambda weights: loss(normal(weights)) / scale,
            best,
            method="SLSQP",
            bounds=[(0, 1)] * members,
            constraints=[{"type": "eq", "fun": lambda weights: weights.sum() - 1}],
            options={"eps": step, "ftol": 1e-7, "maxiter": 12},
        )
        candidates.append(normal(found.x))
        best = min(candidates, key=loss)
    return best


FITTED = {"hill": hill, "fit": fit}
RANK = "rank"
METHODS = ("mean", RANK, *FITTED)  # rank: the mean of ranks, which are no probabilities: no class follows

# A blend in memory


@dataclass
class Blended:
    """A blend before it is written.

    Attributes:
        table: id, target, fold, ... and what is predicted; each row by weights that were fitted on other folds.
        test: the predictions of the test set; None: not every run has some.
        notes: what to know about it.
    """

    recipe: Recipe
    table: Columns
    test: Columns | None = None
    notes: list[str] = field(default_factory=list)

    def fold(self, number: int) -> Columns:
        """The rows of a fold."""
        rows = self.table["fold"] == number
        return {name: column[rows] for name, column in self.table.items() if name != "fold"}


def blended(runs: Sequence[Run], method: str) -> Blended:
    """Blend runs. Writes nothing.

    Args:
        method: one of `METHODS`.

    Raises:
        Error: the runs do not fit each other, there is nothing to blend, or a metric fails on what a blend has.
    """
    import numpy

    _require_alike(runs)
    experiment, rows = load_experiment(runs[0].scored_by).experiment, runs[0].rows
    random, weights = numpy.random.default_rng(0), numpy.full(len(runs), 1 / len(runs))
    picked = numpy.arange(rows) if rows <= FIT_ROWS else numpy.sort(random.choice(rows, FIT_ROWS, replace=False))
    average, samples = Average(is_rank=method == RANK), []
    for run, table in zip(runs, _tables(runs), strict=True):
        average.add(table, run.title, 1 / len(runs))
        if method in FITTED:
            samples.append({name: column[picked] for name, column in table.items() if column.dtype.kind == "f"})
    titles = " and ".join(run.title for run in runs)
    require(bool(average.differing), f"the out-of-fold predictions of {titles} are the same: there is nothing to blend")
    if not average.averaged:
        raise Error(
            f"{runs[0].title} and the others have no column of numbers that differs between them: save "
            f"probability_<class> with fold.save_oof; there are {', '.join(average.first)}"
        )
    table = average.table()
    parts, part_of = numpy.unique(table.pop("fold"), return_inverse=True)
    scores.scores(experiment, table)  # fails on a column that a blend has not, before weights are fitted
    by_part, fitting = [weights] * len(parts), None
    if method in FITTED:
        if len(parts) == 1:
            parts, part_of = numpy.arange(PARTS), random.permutation(rows) % PARTS
        fitting = _Fitting(average, samples, picked, experiment)
        weights = fitting.weights(method)
        by_part = [fitting.weights(method, part_of[picked] != part) for part in range(len(parts))]
        average = Average()
        for run, table, weight in zip(runs, _tables(runs), numpy.array(by_part)[part_of].T, strict=True):
            average.add(table, run.title, weight)
    recipe = Recipe(
        method=method,
        scored_by=runs[0].scored_by,
        parents=tuple(map(_parent, runs)),
        weights=tuple(weights.tolist()),
        by_part={str(part): one.tolist() for part, one in zip(parts, by_part, strict=True)},
        in_sample_score=fitting.score(weights) if fitting else None,
        fitted_on=len(picked) if fitting else None,
        made_by=experiment.made_by,
    )
    made = Blended(recipe, average.table())
    try:
        made.test = _test(runs, recipe)
    except Error as error:
        made.notes.append(f"no test predictions: {error}")
    if others := [run.title for run in runs if set(run.valid_ids.values()) != set(runs[0].valid_ids.values())]:
        made.notes.append(f"{', '.join(others)}: other folds than {runs[0].title}, whose folds the blend has")
    if len({run.made_by for run in runs}) > 1:
        made.notes.append(f"not all runs were scored by the same function {runs[0].metric}")
    return made


def _test(runs: Sequence[Run], recipe: Recipe) -> Columns:
    """The test predictions of the runs, blended; an `Error` when one of them has none."""
    total = Average(is_rank=recipe.method == RANK)
    for run, weight in zip(runs, recipe.weights, strict=True):
        total.add(mean_of([choose(run, None)]).table(), run.title, weight)
    require(bool(total.numbers), f"{runs[0].title} has no number in its test predictions")
    return total.table()


def _require_alike(runs: Sequence[Run]) -> None:
    """Raise an `Error` unless runs are complete, and have one metric and direction."""
    require(len(runs) > 1, "a blend needs two runs or more")
    sides = []
    for run in runs:
        if not run.is_complete:
            marks = ", ".join(run.marks)
            raise Error(f"{run.title}: {marks}: a blend needs every fold: train them with exp.fold=null")
        over = ", the mean of folds" if run.score_over == "folds" else ""
        sides.append(f"{run.metric}{over}, {'higher' if run.greater_is_better else 'lower'} is better")
        require(sides[-1] == sides[0], f"{run.title} has the metric {sides[-1]}, but {runs[0].title} has {sides[0]}")


def _parent(run: Run) -> Parent:
    """A run as it is now, as a blend remembers it."""
    try:
        test = tuple(part.checksum for part in choose(run, None).parts)
    except Error:
        test = ()
    return Parent(run.title, store.version_number(run.folder), str(run.id), run.checksums, test)


def _tables(runs: Sequence[Run]) -> Iterator[Columns]:
    """The out-of-fold predictions of runs, one run at a time, with the rows, targets and folds of the first."""
    first = runs[0].fold_by_fold()
    for run in runs:
        table = first if run is runs[0] else run.fold_by_fold()
        table = tables.aligned(table, first["id"], run.title, runs[0].title)
        tables.require_same_targets(table, first, run.title, runs[0].title)
        yield table | {name: first[name] for name in ("id", "fold", *tables.targets(first))}


class _Fitting:
    """Fits weights to the rows `picked` of runs, whose mean with equal weights is `average`."""

    def __init__(self, average: Average, samples: list[Columns], picked: numpy.ndarray, experiment: Experiment) -> None:
        import numpy

        self.experiment = experiment
        self.numbers = {name: numpy.array([one[name] for one in samples]) for name in average.averaged}  # (runs, rows)
        self.kept = {name: column[picked] for name, column in average.first.items() if name not in average.differing}
        has_label = LABEL in average.table() and LABEL not in self.numbers | self.kept
        self.label = average.first[LABEL].dtype if has_label else None

    def score(self, weights: numpy.ndarray, rows: Any = ...) -> float:
        """The score that decides, of all rows or some, (n,)."""
        import numpy

        table = {name: column[rows] for name, column in self.kept.items()}
        table |= {name: numpy.tensordot(weights, column[:, rows], 1) for name, column in self.numbers.items()}
        if self.label is not None:
            table[LABEL] = most_likely(table, self.label, LABEL)
        name, metric = next(iter(self.experiment.metrics.items()))
        if self.experiment.score_over == "folds":
            return scores.mean_of_folds(name, metric, table)
        del table["fold"]
        return scores.score(name, metric, table)

    def weights(self, method: str, rows: Any = ...) -> numpy.ndarray:
        """The weights that score best on all rows or some, (n,)."""
        sign = -1.0 if self.experiment.greater_is_better else 1.0
        count = len(next(iter(self.numbers.values())))
        found = FITTED[method](count, lambda weights: sign * self.score(weights, rows))
        found = found.round(6)  # other digits depend on the processor
        return found / found.sum()


def again(run: Run) -> tuple[list[str], list[str]]:
    """Compute a blend again from its runs as they are now. Writes nothing.

    Returns:
        what differs, a line each; and what may have caused it.

    Raises:
        Error: one of its runs is gone, or they no longer fit each other.
    """
    import numpy

    assert run.recipe is not None
    recipe, folders = run.recipe, [store.folder_of(run.folder.parents[1], parent.run) for parent in run.recipe.parents]
    gone = [parent.run for parent, folder in zip(recipe.parents, folders, strict=True) if folder is None]
    require(not gone, f"{run.title} cannot be made again: {', '.join(gone)} is gone")
    made = blended([store.read_run(folder) for folder in folders if folder is not None], recipe.method)
    differences = []
    if not numpy.allclose(made.recipe.weights, recipe.weights, rtol=0, atol=1e-9):
        old, new = (", ".join(f"{weight:.4f}" for weight in one.weights) for one in (recipe, made.recipe))
        differences.append(f"weights {old} → {new}")
    pairs = [(fold, OOF, made.fold(number)) for number, fold in run.done.items()]
    if run.full is not None and made.test is not None:
        pairs.append((run.full, TEST, made.test))
    elif (run.full is None) != (made.test is None):
        differences.append("test predictions: they are there only " + ("now" if run.full is None else "in the record"))
    for fold, name, table in pairs:
        before = fold.predictions(name)
        if list(before) != list(table) or len(before["id"]) != len(table["id"]):
            differences.append(f"{fold.title}: other columns or rows")
        elif (differs := tables.differing(before, table)).any():
            differences.append(f"{fold.title}: {differs.sum()} of {len(differs)} rows differ")
    reasons = parent_marks(run)
    if recipe.made_by != made.recipe.made_by:
        reasons.append(f"the metric of {recipe.scored_by} has changed")
    return differences, reasons or ["nothing that is recorded differs: other packages, or another processor"]


# A blend on the disk


def blend(runs: Sequence[Run], method: str, name: str | None = None) -> tuple[Run, Run, list[str] | None]:
    """Make a blend of runs: compute it and write it, unless it is there.

    Args:
        runs: two or more, with the same rows, targets and metric; the first says which rows each fold has.
        method: one of `METHODS`.
        name: of the run, in output/blends/; None: made of the method and the names of the runs.

    Returns:
        the blend; the run with the best score of its own; what to know about the blend, or None if it was there.

    Raises:
        Error: the runs do not fit each other, or the name is that of another blend. Nothing is written.
    """
    titles = [run.title for run in runs]
    if twice := [title for title in dict.fromkeys(titles) if titles.count(title) > 1]:
        raise Error(f"{', '.join(twice)} is named twice: name each run once")
    if name is None:
        name = f"{method}_{title_of(runs, LONGEST)}"
        if name.endswith("-more"):
            name += f"_{hashlib.sha256(repr(titles).encode()).hexdigest()[:8]}"
    require(
        re.fullmatch(r"\w[\w.+,=-]*", name) is not None and len(name) <= 200,
        f"--name must have letters, digits and . _ + - , = only, and begin with a letter or digit, not {name!r}",
    )
    _require_alike(runs)
    experiment = load_experiment(runs[0].scored_by).experiment
    metric = next(iter(experiment.metrics))
    scored = [(score.value, run) for run in runs if (score := run.score_of(metric))]
    require(
        len(scored) == len(runs),
        f"{runs[0].title} and the others are scored by {runs[0].metric}, but {runs[0].scored_by} has the metric "
        f"{metric} now: repeat the commands that trained them, to score them again",
    )
    best = (max if experiment.greater_is_better else min)(scored, key=lambda pair: pair[0])[1]
    versions = Versions(output_dir() / BLENDS, name)
    config = {"blend": {"method": method, "runs": titles}}
    there = versions.current()
    old = store.read_run(there) if there else None
    if old is not None and old.info is not None and old.info["config"] != config:
        raise Error(f"{old.title} is there already, with other runs or another method: give this blend another --name")
    if old is not None and old.recipe is not None and old.is_complete and scores.is_current(experiment, old):
        if old.recipe.parents == tuple(map(_parent, runs)):
            return old, best, None
    started = time.monotonic()
    made = blended(runs, method)
    return _write(runs, made, versions, config, started), best, made.notes


def _write(runs: Sequence[Run], made: Blended, versions: Versions, config: dict[str, Any], started: float) -> Run:
    """Write a blend as a new version of its run, which counts when it is whole."""
    experiment = load_experiment(made.recipe.scored_by).experiment
    about: dict[str, Any] = {
        "experiment": BLENDS,
        "run": versions.run,
        "metric": next(iter(experiment.metrics)),
        "greater_is_better": experiment.greater_is_better,
        "n_folds": runs[0].n_folds,
        "config": config,
        "commands": [],
        "blend": asdict(made.recipe),
    }
    data = {fold.result["data"] for run in runs for fold in run.done.values() if fold.result}
    maker = origin(["exp", *sys.argv[1:]], [])
    maker |= {"code": {}, "data": data.pop() if len(data) == 1 else None, "git": snapshot.take(code_root())}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    parts: dict[int | None, Columns] = {number: made.fold(number) for number in runs[0].done}
    scored = {number: scores.scores(experiment, table) for number, table in parts.items()}  # before anything is written
    parts |= {None: made.test} if made.test is not None else {}
    files.make_folder(versions.parent)
    with ExitStack() as stack:
        with versions.locked():
            folder = versions.make(about, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            stack.enter_context(versions.part(folder, "blend"))  # before `exp clean` can see that it is empty
        run_id = store.read_run(folder).id
        for number, table in parts.items():
            is_test, path = number is None, folder / store.fold_name(number)
            path.mkdir()
            tables.save(path / (TEST if is_test else OOF), table)
            result = {
                "run": run_id,
                "fold": number,
                "scores": scored.get(number, {}),
                "values": {},
                "rows": 0 if is_test else len(table["id"]),
                "left_out": "" if is_test else tables.fingerprint(table["id"]),
                "target": tables.target_hash(table),
                "started": now,
                "finished": now,
                "seconds": round((time.monotonic() - started) / len(parts), 3),
                "environment": environment_text(maker["environment"]),
                "code": code_hash({}),
                "git": maker["git"],
                "data": maker["data"],
            }
            store.write_result(path, result, maker)
        run = scores.update(experiment, versions, folder)
    with versions.locked():
        versions.install(folder)
        versions.clean()
    return run
