"""`exp blend`: a run that is made of others. Its folds are those of the first; its out-of-fold rows are predicted by
weights that were fitted on other folds, so that its score is as honest as that of a run that was trained."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from expkit import files, scores, snapshot, store, tables
from expkit.config import Experiment, Loaded, load_experiment
from expkit.errors import Error, require
from expkit.fingerprint import code_hash
from expkit.project import code_root, output_dir
from expkit.rundir import Versions, environment_text, origin
from expkit.scores import mean_of_folds, score
from expkit.store import BLENDS, OOF, TEST, FoldRecord, Parent, Recipe, Run
from expkit.submission import Mean, Rows, choose, may_be_labels, mean_of, most_likely, out_of_fold, predictions
from expkit.tables import comparable, differing, flat, targets

if TYPE_CHECKING:
    import numpy

    Loss = Callable[[numpy.ndarray], float]  # of predictions (rows, columns); lower is better
    from expkit.tables import Columns


ROUNDS = 30  # members that `hill` adds, at most
PATIENCE = 3  # rounds without a better blend, after which it stops
STEPS = (1e-2, 1e-6)  # of `fit`, for derivatives: the first sees a metric of ranks or classes move, the second is exact


def hill(members: numpy.ndarray, loss: Loss) -> numpy.ndarray:
    """Weights by greedy selection: in each round the member is added whose addition scores best; the best round counts.

    Args:
        members: predictions, (members, rows, columns).
        loss: what to make small.

    Returns:
        (members,), with the sum 1: how often each was chosen.
    """
    import numpy

    total, chosen = numpy.zeros(members.shape[1:]), numpy.zeros(len(members))
    best, weights, since = numpy.inf, chosen, 0
    for count in range(1, ROUNDS + 1):
        losses = [loss((total + member) / count) for member in members]
        place = int(numpy.argmin(losses))
        total += members[place]
        chosen[place] += 1
        since += 1
        if losses[place] < best:
            best, weights, since = losses[place], chosen / count, 0
        if since == PATIENCE:
            break
    return weights


def fit(members: numpy.ndarray, loss: Loss) -> numpy.ndarray:
    """Weights that are not negative and have the sum 1; never worse than equal ones, or than a member alone.

    Arguments and result as of `hill`.
    """
    import numpy
    from scipy.optimize import minimize

    def loss_of(weights: numpy.ndarray) -> float:
        return loss(numpy.tensordot(_normal(weights), members, axes=1))

    start = numpy.full(len(members), 1 / len(members))
    candidates = [start, *numpy.eye(len(members))]
    losses = [loss_of(one) for one in candidates]
    scale = max(losses) - min(losses) or 1.0
    best = candidates[int(numpy.argmin(losses))]
    for step in STEPS:
        found = minimize(
            lambda weights: loss_of(weights) / scale,
            start if step == STEPS[0] else best,
            method="SLSQP",
            bounds=[(0, 1)] * len(members),
            constraints=[{"type": "eq", "fun": lambda weights: weights.sum() - 1}],
            options={"eps": step, "ftol": 1e-7, "maxiter": 12},
        )
        candidates.append(_normal(found.x))
        losses.append(loss_of(candidates[-1]))
        best = candidates[int(numpy.argmin(losses))]
    return numpy.asarray(best)


def _normal(weights: numpy.ndarray) -> numpy.ndarray:
    import numpy

    positive = numpy.clip(weights, 0, None)
    return (
        numpy.asarray(positive / positive.sum()) if positive.sum() > 0 else numpy.full(len(weights), 1 / len(weights))
    )


METHODS: dict[str, Callable[[numpy.ndarray, Loss], numpy.ndarray]] = {"hill": hill, "fit": fit}


LABEL = "prediction"


@dataclass
class Members:
    """Runs whose out-of-fold predictions are of the same rows. One run at a time is in memory.

    Attributes:
        rows: in the order of the first run.
        folds: the fold that each row is left out of in the first run, (n,).
        kept: what is the same in all runs, by column: "id", "target", ...
        blended: the columns that are blended; how many values a row each has, None of an (n,).
        label: the type of "prediction" where that is a label which can be derived, else None.
        unlikely: how many labels of a run are not its likeliest class, by the title of the run.
        other_folds: the runs that leave out other rows together than the first.
    """

    runs: Sequence[Run]
    rows: Rows
    folds: numpy.ndarray
    kept: Columns
    blended: dict[str, int | None] = field(default_factory=dict)
    label: numpy.dtype[Any] | None = None
    unlikely: dict[str, int] = field(default_factory=dict)
    other_folds: list[str] = field(default_factory=list)
    _places: list[numpy.ndarray | None] = field(default_factory=list)

    def tables(self, names: Iterable[str]) -> Iterator[Columns]:
        """Columns of each run, in the order of `rows`."""
        for run, places in zip(self.runs, self._places, strict=True):
            table = out_of_fold(run, names)
            yield table if places is None else {name: column[places] for name, column in table.items()}

    def sample(self, picked: numpy.ndarray) -> numpy.ndarray:
        """What is blended of some rows, (runs, rows, columns); one with k values a row is k columns."""
        import numpy

        tables = self.tables(self.blended)
        parts = [numpy.column_stack([table[name][picked] for name in self.blended]) for table in tables]
        return numpy.array(parts, float)

    def named(self, numbers: numpy.ndarray) -> Columns:
        """What `sample` has of one run, (rows, columns), by the names of the columns."""
        found: Columns = {}
        start = 0
        for name, width in self.blended.items():
            found[name] = numbers[:, start] if width is None else numbers[:, start : start + width]
            start += width or 1
        return found

    def whole(self, numbers: Columns, kept: Columns | None = None, has_label: bool = True) -> Columns:
        """Blended columns with what belongs to them, as a metric takes it.

        Args:
            kept: of the same rows; None: of all.
        """
        table = (self.kept if kept is None else kept) | numbers
        if self.label is not None and has_label:
            table[LABEL] = most_likely(flat(numbers), self.label, LABEL)
        return table


def members_of(runs: Sequence[Run]) -> Members:
    """Read the out-of-fold predictions of runs once, and see what they have in common.

    Raises:
        Error: they have not the same rows, targets or metric; folds are missing; or there is nothing to blend.
    """
    import numpy

    require(len(runs) > 1, "a blend needs two runs or more")
    first = runs[0]
    for run in runs:
        require(
            run.is_complete,
            f"{run.title}: {', '.join(run.marks)}: a blend needs every fold: train them with exp.fold=null",
        )
        sides = [(one.metric, one.greater_is_better, one.score_over) for one in (first, run)]
        worded = [
            f"{metric}{', the mean of folds' if over == 'folds' else ''}, {'higher' if greater else 'lower'} is better"
            for metric, greater, over in sides
        ]
        require(sides[0] == sides[1], f"{run.title} has the metric {worded[1]}, but {first.title} has {worded[0]}")
    table = out_of_fold(first)
    folds = table.pop("fold")
    found = Members(runs, Rows(table["id"], first.title), folds, {})
    same, numbers, floats = set(table), set[str](), set(table)
    for run in runs:
        other = table if run is first else out_of_fold(run)
        places = found.rows.places_in(other["id"], run.title)
        found._places.append(places)
        other = other if places is None else {name: column[places] for name, column in other.items()}
        if set(run.left_out.values()) != set(first.left_out.values()):
            found.other_folds.append(run.title)
        require_same_targets(first, run, table, other)
        same -= {name for name in same if name not in other or not numpy.array_equal(table[name], other[name])}
        for name in floats & other.keys():
            shapes = [one[name].shape[1:] for one in (table, other)]
            require(shapes[0] == shapes[1], f"{run.title} has {name} with another number of values than {first.title}")
        floats &= {name for name, column in other.items() if column.dtype.kind == "f"}
        numbers |= {name for name, column in other.items() if not may_be_labels(name, column)}
        if LABEL in other and LABEL not in numbers and (likeliest := _likeliest(other)) is not None:
            differ = int((likeliest != other[LABEL]).sum())
            found.unlikely |= {run.title: differ} if differ else {}
    found.kept = {name: column for name, column in table.items() if name in same}
    blended = [name for name in table if name in floats & numbers and name not in same]
    found.blended = {name: table[name].shape[1] if table[name].ndim == 2 else None for name in blended}
    if LABEL in table and LABEL not in numbers | same:
        chosen = {name: table[name] for name in blended} | {LABEL: table[LABEL]}
        found.label = None if _likeliest(chosen) is None else table[LABEL].dtype
    titles = " and ".join(run.title for run in runs)
    require(same != set(table), f"the out-of-fold predictions of {titles} are the same: there is nothing to blend")
    if not found.blended:
        raise Error(
            f"{first.title} and the others have no column of numbers that differs between them: save "
            f"probability_<class> with fold.save_oof; there are {', '.join(table)}"
        )
    return found


def _likeliest(table: Columns) -> numpy.ndarray | None:
    """The class of the highest probability in each row; None: the columns do not say."""
    try:
        return most_likely(flat(table), table[LABEL].dtype, LABEL)
    except Error:
        return None


def require_same_targets(first: Run, run: Run, table: Columns, other: Columns) -> None:
    """Raise an `Error` when a column of `tables.targets` is another in two aligned tables."""
    for name in targets({**table, **other}):
        for one, columns in ((first, table), (run, other)):
            require(name in columns, f"{one.title} has no {name} in its out-of-fold predictions, as others have")
        differ = comparable(table[name]) != comparable(other[name])
        differ = differ.any(axis=1) if differ.ndim == 2 else differ
        if rows := int(differ.sum()):
            example = table["id"][differ.argmax()]
            raise Error(f"{run.title} has another {name} than {first.title} in {rows} rows, such as id {example}")


MEAN, RANK = "mean", "rank"
ALL = (MEAN, RANK, *METHODS)
FIT_ROWS = 20_000  # that weights are fitted on, at most: more cost minutes with a metric that sorts
PARTS = 5  # into which the rows of a single fold are divided, to fit weights on other rows than are scored


@dataclass(frozen=True)
class Blended:
    """A blend in memory.

    Attributes:
        table: id, target, ... and what is predicted; each row by weights that were fitted on the rows of other folds.
        weights: fitted on all folds, for the test set: (runs,), with the sum 1.
        by_part: those that the rows of each fold were predicted by.
        flattering: the score by `weights` of the rows that they are fitted on; None where no weights are fitted.
        fitted_on: how many rows the weights are fitted on; None where none are fitted.
    """

    table: Columns
    weights: list[float]
    by_part: dict[int, list[float]]
    flattering: float | None
    fitted_on: int | None


def blended(members: Members, method: str, experiment: Experiment) -> Blended:
    """Blend out-of-fold predictions.

    Args:
        method: "mean"; "rank": the mean of the ranks, from 0 to 1, which are no probabilities: no class is derived from
            them; "hill" or "fit": weights that score best, by `experiment.metric`.

    Raises:
        Error: the metric fails on what a blend has.
    """
    import numpy

    count = len(members.runs)
    equal = numpy.full(count, 1 / count)
    parts = members.folds
    if method in METHODS and len(numpy.unique(parts)) == 1:
        parts = numpy.random.default_rng(0).permutation(len(parts)) % PARTS
    numbers = [int(part) for part in numpy.unique(parts)]
    weights, by_part, picked = equal, {part: equal for part in numbers}, None
    if method in METHODS:
        picked = _some(len(parts))
        weights, by_part = _fitted(members, method, experiment, parts, picked)
    table, flattering = _apply(members, weights, by_part, parts, is_rank=method == RANK)
    whole = members.whole(table, has_label=method != RANK)
    in_sample = members.whole(flattering) if flattering else whole
    return Blended(
        whole,
        weights.tolist(),
        {part: one.tolist() for part, one in by_part.items()},
        None if picked is None else score_of(experiment, in_sample, folds=members.folds),
        None if picked is None else len(picked),
    )


def score_of(experiment: Experiment, table: Columns, name: str | None = None, folds: Any = None) -> float:
    """A metric, by default the one that decides.

    Args:
        folds: that the rows are left out of, (n,): the score is as `experiment.score_over` says. None: over the rows.

    Raises:
        Error: it fails, perhaps on a column that a blend has not.
    """
    name = name or next(iter(experiment.metrics))
    try:
        if folds is not None and experiment.score_over == "folds":
            return mean_of_folds(name, experiment.metrics[name], table | {"fold": folds})
        return score(name, experiment.metrics[name], table)
    except Error as error:
        if isinstance(error.__cause__, KeyError):
            raise Error(
                f"the metric {name} needs {error.__cause__}, but a blend of these runs has only {', '.join(table)}"
            ) from error
        raise


def _some(rows: int) -> numpy.ndarray:
    """Indices of rows to fit weights on: all, or as many by chance, the same ones every time."""
    import numpy

    if rows <= FIT_ROWS:
        return numpy.arange(rows)
    return numpy.sort(numpy.random.default_rng(0).choice(rows, FIT_ROWS, replace=False))


def _fitted(
    members: Members, method: str, experiment: Experiment, parts: numpy.ndarray, picked: numpy.ndarray
) -> tuple[numpy.ndarray, dict[int, numpy.ndarray]]:
    """The weights for the test set, and for the rows of each part those that the other parts say."""
    import numpy

    sample, where = members.sample(picked), parts[picked]
    sign = -1.0 if experiment.greater_is_better else 1.0

    def weights_of(is_fitted_on: numpy.ndarray) -> numpy.ndarray:
        kept = {name: column[picked[is_fitted_on]] for name, column in members.kept.items()}
        folds = members.folds[picked[is_fitted_on]]

        def loss(predicted: numpy.ndarray) -> float:
            return sign * score_of(experiment, members.whole(members.named(predicted), kept), folds=folds)

        found = METHODS[method](sample[:, is_fitted_on], loss).round(6)  # other digits depend on the processor
        return numpy.asarray(found / found.sum())

    by_part = {int(part): weights_of(where != part) for part in sorted(set(parts.tolist()))}
    return weights_of(where == where), by_part


def _apply(
    members: Members, weights: numpy.ndarray, by_part: dict[int, numpy.ndarray], parts: numpy.ndarray, is_rank: bool
) -> tuple[Columns, Columns]:
    """The blended columns by the weights of each row's part; and, where those differ, by `weights`."""
    import numpy

    table, place = numpy.array([by_part[part] for part in sorted(by_part)]), numpy.searchsorted(sorted(by_part), parts)
    differ = not (table == weights).all()
    honest: Columns = {}
    flattering: Columns = {}
    for number, columns in enumerate(members.tables(members.blended)):
        own = table[:, number][place]
        for name, column in columns.items():
            values = ranks(column) if is_rank else column.astype(float)
            honest[name] = honest.get(name, 0.0) + (own if values.ndim == 1 else own[:, None]) * values
            if differ:
                flattering[name] = flattering.get(name, 0.0) + weights[number] * values
    return honest, flattering


def ranks(column: numpy.ndarray) -> numpy.ndarray:
    """The rank of each value, above 0 to 1; equal values have the mean of their ranks."""
    import numpy
    from scipy.stats import rankdata

    return numpy.asarray(rankdata(column, axis=0) / len(column))


@dataclass(frozen=True)
class Computed:
    """A blend before it is written.

    Attributes:
        folds: the fold that each of its rows is left out of, (n,).
        scores: every metric, of each fold.
        test: the predictions of the test set; None: not every run has some.
    """

    loaded: Loaded
    blended: Blended
    folds: numpy.ndarray
    scores: dict[int, dict[str, float]]
    test: Columns | None
    notes: list[str]

    def fold(self, number: int) -> Columns:
        """The rows of a fold."""
        return {name: column[self.folds == number] for name, column in self.blended.table.items()}


def computed(runs: Sequence[Run], method: str) -> Computed:
    """Compute a blend of runs. Writes nothing.

    Raises:
        Error: the runs do not fit each other, or the metric fails.
    """
    members = members_of(runs)
    loaded = load_experiment(runs[0].scored_by)
    made = blended(members, method, loaded.experiment)
    notes = [
        f"{run}: in {rows} rows its prediction is not its likeliest class, which a blend takes"
        for run, rows in members.unlikely.items()
    ]
    if members.other_folds:
        notes.append(f"{', '.join(members.other_folds)}: other folds than {runs[0].title}, whose folds the blend has")
    metric, own = runs[0].metric or "", loaded.experiment.made_by
    known = [(run.title, (run.cv or {}).get("made_by", own).get(metric)) for run in runs]
    if others := [title for title, what in known if what != own.get(metric)]:
        notes.append(f"{', '.join(others)}: scored by another {metric} than {loaded.name} has now")
    test = None
    try:
        test = _test(runs, method, made.weights)
    except Error as error:
        notes.append(f"no test predictions: {error}")
    found = Computed(loaded, made, members.folds, {}, test, notes)
    names = list(loaded.experiment.metrics)
    for number in sorted(runs[0].done):
        found.scores[number] = {name: score_of(loaded.experiment, found.fold(number), name) for name in names}
    for name in names:
        score_of(loaded.experiment, made.table, name)  # fails before anything is written
    return found


def _test(runs: Sequence[Run], method: str, weights: Sequence[float]) -> Columns:
    """The test predictions of the runs, blended: each number that all have; a label is the likeliest class."""
    total = Mean()
    label = None
    for run, weight in zip(runs, weights, strict=True):
        source = choose(run, None, partial=False)
        mean = mean_of([source])
        numbers = {name: mean.column(name)[0] for name in mean.names if name in mean.numbers}
        if LABEL in mean.names and LABEL not in numbers:
            label = mean.dtype(LABEL)
        if method == RANK:
            numbers = {name: ranks(column) for name, column in numbers.items()}
        require(bool(numbers), f"{run.title} has no number in its test predictions")
        total.add({"id": mean.ids} | numbers, run.title, weight)
    table = {"id": total.ids} | total.numbers
    if label is not None and method != RANK:
        table[LABEL] = most_likely(table, label, LABEL)
    return table


def again(run: Run) -> tuple[list[str], list[str]]:
    """Compute a blend again from its runs as they are now. Writes nothing.

    Returns:
        what differs, a line each; and what may have caused it.

    Raises:
        Error: one of its runs is gone, or they no longer fit each other.
    """
    import numpy

    assert run.recipe is not None
    recipe, folders = run.recipe, [parent.folder(run.folder.parents[1]) for parent in run.recipe.parents]
    gone = [parent.run for parent, folder in zip(recipe.parents, folders, strict=True) if folder is None]
    require(not gone, f"{run.title} cannot be made again: {', '.join(gone)} is gone")
    made = computed([store.read_run(folder) for folder in folders if folder is not None], recipe.method)
    differences = []
    if not numpy.allclose(made.blended.weights, recipe.weights, rtol=0, atol=1e-9):
        differences.append(f"weights {_worded(recipe.weights)} → {_worded(made.blended.weights)}")
    for number, fold in run.done.items():
        differences += _compare(fold, OOF, made.fold(number))
    if run.full is not None and run.full.result is not None and made.test is not None:
        differences += _compare(run.full, TEST, made.test)
    elif (run.full is None) != (made.test is None):
        differences.append("test predictions: they are there only " + ("now" if run.full is None else "in the record"))
    reasons = list(run.marks)
    if recipe.made_by != made.loaded.experiment.made_by:
        reasons.append(f"the metric of {recipe.scored_by} has changed")
    return differences, reasons or ["nothing that is recorded differs: other packages, or another processor"]


def _compare(fold: FoldRecord, name: str, new: Columns) -> list[str]:
    old = predictions(fold, name)
    if list(old) != list(new) or len(old["id"]) != len(new["id"]):
        return [f"{fold.title}: other columns or rows"]
    differs = differing(old, new)
    return [f"{fold.title}: {differs.sum()} of {len(differs)} rows differ"] if differs.any() else []


def _worded(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:.4f}" for weight in weights)


LONGEST = 100  # characters of a name that is made of the names of the runs


@dataclass(frozen=True)
class Blend:
    """What `exp blend` has made.

    Attributes:
        run: the blend, with its honest score.
        best: the run with the best score of its own among those that it is made of.
        is_new: whether it has been computed now; False: it was there.
        notes: what to know about it.
    """

    run: Run
    best: Run
    is_new: bool
    notes: list[str]


def blend(runs: Sequence[Run], method: str, name: str | None = None) -> Blend:
    """Make a blend of runs: compute it and write it, unless it is there.

    Args:
        runs: two or more, with the same rows, targets and metric; the first says which rows each fold has.
        method: one of `ALL`.
        name: of the run, in output/blends/; None: made of the method and the names of the runs.

    Raises:
        Error: the runs do not fit each other, or the name is that of another blend. Nothing is written.
    """
    twice = [run.title for place, run in enumerate(runs) if run.folder in [other.folder for other in runs[:place]]]
    require(not twice, f"{', '.join(twice)} is named twice: name each run once")
    name = _name(runs, method) if name is None else name
    require(
        re.fullmatch(r"\w[\w.+,=-]*", name) is not None and len(name) <= 200,
        f"--name must have letters, digits and . _ + - , = only, and begin with a letter or digit, not {name!r}",
    )
    versions = Versions(output_dir() / BLENDS, name)
    config = {"blend": {"method": method, "runs": [run.title for run in runs]}}
    loaded = load_experiment(runs[0].scored_by)
    best = _best(runs, next(iter(loaded.experiment.metrics)), loaded.experiment.greater_is_better)
    there = versions.current()
    old = store.read_run(there) if there else None
    if old is not None and old.info is not None and old.info["config"] != config:
        raise Error(f"{old.title} is there already, with other runs or another method: give this blend another --name")
    parents = parents_of(runs)
    is_same = old is not None and old.recipe is not None and list(old.recipe.parents) == parents and old.is_complete
    if old is not None and is_same and scores.is_current(loaded.experiment, old):
        return Blend(old, best, False, [])
    started = time.monotonic()
    made = computed(runs, method)
    recipe = Recipe(
        method,
        loaded.name,
        tuple(parents),
        tuple(made.blended.weights),
        {str(part): weights for part, weights in made.blended.by_part.items()},
        made.blended.flattering,
        made.blended.fitted_on,
        loaded.experiment.made_by,
    )
    run = _write(versions, recipe, config, made, runs, started)
    return Blend(run, best, True, made.notes)


def _name(runs: Sequence[Run], method: str) -> str:
    names = [run.name if run.experiment == runs[0].experiment else run.title.replace("/", "_") for run in runs]
    names[0] = runs[0].title.replace("/", "_")
    whole = f"{method}_{'+'.join(names)}"
    if len(whole) <= LONGEST:
        return whole
    return f"{method}_{names[0][:70]}+{len(runs) - 1}-more_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _best(runs: Sequence[Run], metric: str, greater_is_better: bool | None) -> Run:
    """The run with the best score of the metric, as the experiment has it now.

    Raises:
        Error: the runs were scored by another metric.
    """
    scored = {run.title: run.score_of(metric) for run in runs}
    lacking = [title for title, score in scored.items() if score is None]
    require(
        not lacking
        or len({run.metric for run in runs}) > 1,  # a run of another metric than the others is refused later
        f"{', '.join(lacking)}: scored by {runs[0].metric}, but {runs[0].scored_by} has the metric {metric} now: "
        "repeat the command that trained it, to score it again",
    )

    def goodness(run: Run) -> float:
        score = scored[run.title]
        return 0.0 if score is None else score.value if greater_is_better else -score.value

    return max(runs, key=goodness)


def parents_of(runs: Sequence[Run]) -> list[Parent]:
    """Runs as they are now, as a blend remembers them."""
    found = []
    for run in runs:
        try:
            test = tuple(part.checksum for part in choose(run, None, partial=False).parts)
        except Error:
            test = ()
        number = store.version_number(run.folder)
        found.append(Parent(run.title, number, str((run.info or {}).get("id")), run.checksums, test))
    return found


def _write(
    versions: Versions,
    recipe: Recipe,
    config: Mapping[str, Any],
    made: Computed,
    runs: Sequence[Run],
    started: float,
) -> Run:
    """Write a blend as a new version of its run, which counts when it is whole."""
    first, experiment = runs[0], made.loaded.experiment
    files.make_folder(versions.parent)
    about: dict[str, Any] = {
        "experiment": BLENDS,
        "run": versions.run,
        "metric": next(iter(experiment.metrics)),
        "greater_is_better": experiment.greater_is_better,
        "n_folds": first.n_folds,
        "config": config,
        "commands": [],
        "same_as": None,
        "blend": asdict(recipe),
    }
    with ExitStack() as stack:
        with versions.locked():
            folder = versions.make(about, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            stack.enter_context(versions.part(folder, "blend"))  # before `exp clean` can see that it is empty
        parts: dict[int | None, Columns] = {number: made.fold(number) for number in made.scores}
        if made.test is not None:
            parts[None] = made.test
        result = _result(folder, runs)
        for number, table in parts.items():
            path = folder / store.fold_name(number)
            path.mkdir()
            tables.save(path / (TEST if number is None else OOF), table)
            own = {
                "fold": number,
                "scores": {} if number is None else made.scores[number],
                "rows": 0 if number is None else len(table["id"]),
                "left_out": "" if number is None else tables.fingerprint(table["id"]),
                "target": tables.target_hash(table),
                "seconds": round((time.monotonic() - started) / len(parts), 3),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            maker = origin(["exp", *sys.argv[1:]], [])
            own["environment"] = environment_text(maker["environment"])
            maker |= {"code": {}, "data": result["data"], "git": result["git"]}
            store.write_result(path, result | own, maker)
        run = scores.update(experiment, versions, folder)
    with versions.locked():
        store.install(folder)
        versions.clean()
    return run


def _result(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """What the results of all folds of a blend have in common."""
    info = store.read_run_info(folder)
    assert info is not None
    data = {fold.result["data"] for run in runs for fold in run.done.values() if fold.result}
    return {
        "run": info["id"],
        "values": {},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": snapshot.take(code_root()),
        "code": code_hash({}),
        "data": data.pop() if len(data) == 1 else None,
    }
