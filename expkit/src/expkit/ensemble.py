"""`exp blend`: a run that is made of others. Its folds are those of the first; its out-of-fold rows are predicted by
weights that were fitted on other folds, so that its score is as honest as that of a run that was trained.

`hill`: greedy selection with replacement, Caruana, Niculescu-Mizil, Crew, Ksikes: Ensemble selection from libraries of
models, ICML 2004.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from expkit import scores, snapshot, store, tables
from expkit.code import code_hash, watch_metric
from expkit.config import Experiment, load_experiment
from expkit.errors import Error, require
from expkit.project import code_root, output_dir
from expkit.runner import environment_text, origin
from expkit.store import BLENDS, LOCKBOX, OOF, TEST, Parent, Recipe, Run, Versions, has_box
from expkit.submission import Average, choose, mean_of, title_of

if TYPE_CHECKING:
    import numpy

    from expkit.tables import Columns

    Loss = Callable[[numpy.ndarray], float]  # of weights, (members,); lower is better
    Parts = dict[int | None, dict[str, Columns]]  # by fold, None for the test set: the tables of its files

ROUNDS = 30  # members that `hill` adds, at most
STALE = 3  # rounds without a better blend, after which it stops
FIT_ROWS = 20_000  # that weights are fitted on, at most: more cost minutes with a metric that sorts
HILL, RANK = "hill", "rank"  # rank: the mean of ranks, which are no probabilities: no class follows


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
    weights = weights.round(6)  # other digits depend on the processor
    return numpy.asarray(weights / weights.sum())


def fitted(members: Mapping[str, Columns], experiment: Experiment, rows: numpy.ndarray) -> list[float]:
    """The weights that score best over some rows, by `hill`."""
    some = [{name: column[rows] for name, column in table.items()} for table in members.values()]
    sign = -1.0 if experiment.greater_is_better else 1.0
    name, metric = next(iter(experiment.metrics.items()))

    def loss(weights: numpy.ndarray) -> float:
        table = Average(zip(members, some, weights.tolist(), strict=True)).table()
        return sign * scores.score(name, metric, table, experiment.score_over)

    with watch_metric(experiment.opened[name]):
        return list(hill(len(some), loss).tolist())


def blend(runs: Sequence[Run], method: str, name: str | None = None) -> tuple[Run, list[str] | None]:
    """Make a blend of runs: compute it and write it, unless it is there.

    Args:
        runs: two or more, with the same rows, targets and metric; the first says which rows each fold has.
        method: "mean", "rank" or "hill".
        name: of the run, in output/blends/; None: made of the method and the names of the runs.

    Returns:
        the blend; and what to know about it, or None if it was there.

    Raises:
        Error: the runs do not fit each other, there is nothing to blend, a metric fails on what a blend has, or the
            name is that of another blend. Nothing is written.
    """
    titles = [run.title for run in runs]
    name = name or f"{method}_{title_of(runs)}"
    require(
        re.fullmatch(r"\w[\w.+,=-]*", name) is not None and len(name) <= 200,
        f"--name must have letters, digits and . _ + - , = only, and begin with a letter or digit, not {name!r}",
    )
    _require_alike(runs)
    for run in runs if method == HILL else ():
        require(not run.leaks, f"{run.title}: {', '.join(run.leaks)}: {HILL} would choose it for that, leave it out")
    experiment = load_experiment(runs[0].scored_by).experiment
    metric = next(iter(experiment.metrics))
    now = f"{runs[0].scored_by} has the metric {metric} now: repeat the commands that trained them, to score them again"
    require(metric == runs[0].metric, f"{runs[0].title} and the others are scored by {runs[0].metric}, but {now}")
    versions = Versions(output_dir() / BLENDS, name)
    if folder := versions.current():
        old = store.read_run(folder)
        made, parents = (old.recipe.method, old.recipe.parents) if old.recipe else (method, ())
        is_other = made != method or (parents and [one.run for one in parents] != titles)
        require(not is_other, f"{old.title} is there already, with other runs or another method: give another --name")
        if parents == tuple(map(_parent, runs)) and old.is_complete and experiment.has_scored(old.cv):
            return old, None
    recipe, table, parts, notes = _computed(runs, method, experiment)
    return _write(runs, recipe, parts, scores.summary(experiment, table), versions), notes


def _computed(runs: Sequence[Run], method: str, experiment: Experiment) -> tuple[Recipe, Columns, Parts, list[str]]:
    """A blend before it is written: its recipe; its out-of-fold predictions, with "fold"; its files; what to know."""
    import numpy

    titles = [run.title for run in runs]
    first, *others = tables.side_by_side([run.fold_by_fold() for run in runs], titles)
    of_first = {name: first[name] for name in ("id", "fold", *tables.targets(first))}
    members = dict(zip(titles, [first, *(other | of_first for other in others)], strict=True))

    def mean(of: Iterable[Columns], weights: Iterable[Any]) -> Average:
        return Average(zip(titles, of, weights, strict=True), method == RANK)

    weights = [1 / len(runs)] * len(runs)
    by_row = mean(members.values(), weights)
    has = f"save probability_<class> with fold.save_oof; there are {', '.join(by_row.first)}"
    none = f"{' and '.join(titles)} have no column of numbers that differs between them: {has}"
    require(bool(by_row.numbers & by_row.differing), none)
    folds, fold_of = numpy.unique(first["fold"], return_inverse=True)
    by_fold = [weights] * len(folds)
    if method == HILL:
        require(len(folds) > 1, f"{HILL} needs two folds or more: it scores each with weights of the others")
        rows = numpy.sort(numpy.random.default_rng(0).permutation(len(fold_of))[:FIT_ROWS])
        weights = fitted(members, experiment, rows)
        by_fold = [fitted(members, experiment, rows[fold_of[rows] != fold]) for fold in range(len(folds))]
        by_row = mean(members.values(), numpy.array(by_fold)[fold_of].T)
    table = by_row.table()
    parts: Parts = {fold: {OOF: part} for fold, part in tables.parts(table, "fold").items()}
    if all(has_box(run.results) for run in runs):  # with the weights of each fold
        boxes = [mean_of([run], [list(run.done.values())], LOCKBOX).table() for run in runs]
        for each, part in zip(by_fold, parts.values(), strict=True):
            part[LOCKBOX] = mean(boxes, each).table()
    by_part = dict(zip(map(str, parts), by_fold, strict=True))
    parents = tuple(map(_parent, runs))
    recipe = Recipe(method, runs[0].scored_by, parents, tuple(weights), by_part, experiment.made_by)
    notes = []
    try:
        test = mean([mean_of([run], [choose(run)]).table() for run in runs], weights)
        require(bool(test.numbers), f"{titles[0]} has no number in its test predictions")
        parts[None] = {TEST: test.table()}
    except Error as error:
        notes.append(f"no test predictions: {error}")
    if differ := [run.title for run in runs if set(run.valid_ids.values()) != set(runs[0].valid_ids.values())]:
        notes.append(f"{', '.join(differ)}: other folds than {titles[0]}, whose folds the blend has")
    return recipe, table, parts, notes


def _require_alike(runs: Sequence[Run]) -> None:
    """Raise an `Error` unless runs are complete, each is there once, and they have one metric and direction."""
    require(len({run.title for run in runs}) == len(runs) > 1, "a blend needs two runs or more, each named once")
    rules = []
    for run in runs:
        is_whole = run.is_complete and run.score is not None
        require(is_whole, f"{run.title} has folds without a score: a blend needs every fold, exp.fold=null trains them")
        rules.append(f"{run.metric} over {run.score_over}, {'higher' if run.greater_is_better else 'lower'} is better")
        require(rules[-1] == rules[0], f"{run.title} has the metric {rules[-1]}, but {runs[0].title} has {rules[0]}")


def _parent(run: Run) -> Parent:
    """A run as it is now, as a blend remembers it."""
    try:
        test = tuple(part.checksum for part in choose(run))
    except Error:
        test = ()
    this = run.title, store.version_number(run.folder), str(run.id)
    return Parent(*this, run.checksums, test, left_out=tuple(run.valid_ids.values()), dataset=run.given)


def _write(runs: Sequence[Run], recipe: Recipe, parts: Parts, summary: dict[str, Any], versions: Versions) -> Run:
    """Write a blend as a new version of its run, which counts when it is whole."""
    experiment, first = load_experiment(recipe.scored_by).experiment, runs[0]
    config = {"blend": {"method": recipe.method, "runs": [run.title for run in runs]}}
    scoring = {key: experiment.scoring[key] for key in ("metric", "greater_is_better")}
    about = {"experiment": BLENDS, "run": versions.run, **scoring, "n_folds": first.n_folds, "config": config}
    about |= {"commands": [], "blend": asdict(recipe)}
    data = {digest for run in runs for digest in run.data}
    # What all folds have in common.
    known: dict[str, Any] = {"data": data.pop() if len(data) == 1 else None, "git": snapshot.take(code_root())}
    maker = origin(["exp", *sys.argv[1:]], []) | {"code": {}, **known}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known |= {"code": code_hash({}), "environment": environment_text(maker["environment"]), "dataset": first.dataset}
    known |= {"values": {}, "started": now, "finished": now, "seconds": 0.0}
    names = list(map(experiment.raw, experiment.metrics))
    with ExitStack() as stack:
        with versions.locked():
            folder = versions.make(about, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            stack.enter_context(versions.part(folder, "blend"))  # before `exp clean` can see that it is empty
        known["run"] = store.read_run(folder).id
        for number, files in parts.items():
            path = folder / store.fold_name(number)
            path.mkdir()
            for name, table in files.items():
                tables.save(path / name, table)
            result: dict[str, Any] = {"fold": number, "scores": {}, "rows": 0, "left_out": "", "target": None, **known}
            if number is not None:
                result |= {key: first.results[number][key] for key in ("rows", "left_out", "target")}  # the same rows
                result["scores"] = {name: summary["scores"][name]["folds"][str(number)] for name in names}
            store.write_result(path, result, maker)
        store.write_cv(folder, summary | experiment.scoring, store.read_run(folder).done)
    with versions.locked():
        versions.install(folder)
        versions.clean()
    return store.read_run(folder)
