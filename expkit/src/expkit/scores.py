"""Splits rows into folds, checks the predictions, and computes the scores: of a fold, of a run; finite floats."""

from __future__ import annotations

import copy
import json
import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from expkit import store, tables
from expkit.code import watch_metric
from expkit.config import BY_TIME, METHOD, POSTPROCESS, ExpConfig, Experiment, SplitConfig, SplitMethod
from expkit.errors import Error, is_exit, require, score_text, warn
from expkit.project import display_path, input_dir
from expkit.store import Dataset, Run

if TYPE_CHECKING:
    import numpy

    from expkit.config import Metric
    from expkit.store import Versions
    from expkit.tables import Columns


class Rows(NamedTuple):
    """Indices of rows, sorted: to train on, (k,), and left out, (m,)."""

    train: numpy.ndarray
    valid: numpy.ndarray


BY_CLASS = (SplitMethod.stratified, SplitMethod.stratified_group)
BY_GROUP = (SplitMethod.group, SplitMethod.stratified_group)


def split(exp: ExpConfig, fold: int | None, *, id: Any, y: Any = None, groups: Any = None, time: Any = None) -> Rows:
    """The rows to train on, and the rows that a fold leaves out, as `exp.split` says.

        fit_rows, valid_rows = expkit.split(exp, fold.number, id=data.id, y=data.y)

    The same rows in the same order give the same folds, whatever `exp.seed` is. `exp.split.seed` changes them; of
    groups, only those of equal size change places. In a training, the rows that are left out are those that
    `fold.save_oof` requires. The methods are those of scikit-learn: KFold, StratifiedKFold,
    GroupKFold, StratifiedGroupKFold, TimeSeriesSplit; with `exp.n_folds=1`, a share of the rows. Rows of the same time
    are never on both sides: the last `exp.n_folds` windows of `test_size` times are left out, one by each fold.

    Args:
        exp: `exp` of the experiment's configuration.
        fold: its number, from 0 on; None: train on all rows.
        id: the id of each row, (n,), each once, as for `fold.save_oof`.
        y: the class of each row, (n,), for exp.split.method=stratified and stratified_group.
        groups: the group of each row, (n,), for group, stratified_group and time_group.
        time: the time of each row, (n,): numbers, dates or text such as 2026-01-31, for time and time_group.

    Returns:
        two arrays of row indices, sorted: to train on, (k,), and left out, (m,). By time, later rows and those in the
        gap are in neither; with time_group, nor are earlier rows of the groups that are left out; nor is what
        exp.split.lockbox sets aside. For `fold=None`, all rows and no row.

    Raises:
        Error: what the method needs is missing or does not fit; there are too few rows, classes, groups or times.
    """
    ids = tables.columns({"id": id}, "fold.split(...)")["id"]
    tables.require_unique(ids, "fold.split(...)")
    return split_unique(exp, fold, id=ids, y=y, groups=groups, time=time)[0]


def split_unique(
    exp: ExpConfig, fold: int | None, *, id: numpy.ndarray, y: Any, groups: Any, time: Any
) -> tuple[Rows, numpy.ndarray]:
    """As `split`, of ids that are known to be there once, each; and the rows of the locked box, (b,)."""
    import numpy

    method = exp.split.method
    given = {"id": id, "y": y, "groups": groups, "time": _moments(time) if method in BY_TIME else None}
    table = tables.columns({name: values for name, values in given.items() if values is not None}, "fold.split(...)")
    rows = numpy.arange(len(table["id"]))
    if fold is None:
        return Rows(rows, rows[:0]), rows[:0]
    require(0 <= fold < exp.n_folds, f"there is no fold {fold}: exp.n_folds is {exp.n_folds}")
    by_rule = _by_time if method in BY_TIME else _by_column if method is SplitMethod.column else _by_chance
    inside, box = rows, rows[:0]
    if exp.split.lockbox:  # whatever the order of the rows, the folds and their seed: seeds do not see other rows
        try:
            inside, box = _boxed(exp.split, table)
        except Error as error:
            raise Error(f"exp.split.lockbox={exp.split.lockbox}: {error}") from error
        table = {name: column[inside] for name, column in table.items()}
    fit, valid = by_rule(exp.split, exp.n_folds, fold, table)
    sizes = f"fold {fold} trains on {len(fit)} and leaves out {len(valid)} of {len(rows)} rows"
    require(len(fit) > 0 and len(valid) > 0, f"{METHOD}={method.name}: {sizes}")
    return Rows(inside[numpy.sort(fit)], inside[numpy.sort(valid)]), box


def _boxed(rule: SplitConfig, table: Columns) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The rows that are not in the locked box, and those that are, sorted.

    By time, the last ones. Else the digest of its id, or of its group, tells where a row is, of its class: without a
    row, or with more rows, hardly any other one changes its place.
    """
    import numpy

    method, share = rule.method, rule.lockbox
    if method in BY_TIME or method is SplitMethod.stratified_group:
        order = numpy.argsort(tables.digests(table["id"]), kind="stable")
        whole = replace(rule, holdout=share, seed=0, test_size=None)
        by_rule = _by_time if method in BY_TIME else _by_chance
        inside, box = by_rule(whole, 1, 0, {name: column[order] for name, column in table.items()})
        return numpy.sort(order[inside]), numpy.sort(order[box])
    names = _needed(table, "groups", method) if method in BY_GROUP else table["id"]
    units, numbers = numpy.unique(names, return_inverse=True)
    classes = numpy.zeros(len(units), int)
    if method in BY_CLASS:
        classes[numbers] = numpy.unique(_needed(table, "y", method), return_inverse=True)[1]
    counts = numpy.bincount(classes)
    what = "group" if method in BY_GROUP else f"row{' of a class' * (method in BY_CLASS)}"
    require(counts.min() > 1, f"{METHOD}={method.name}: one {what} is too few")
    order = numpy.lexsort((tables.digests(units), classes))
    place = numpy.arange(len(units)) - numpy.repeat(counts.cumsum() - counts, counts)  # among those of its class
    first = order[place < numpy.ceil(share * counts)[classes[order]]]
    box = numpy.isin(numbers, first)
    return numpy.flatnonzero(~box), numpy.flatnonzero(box)


def _needed(table: Columns, name: str, method: SplitMethod) -> numpy.ndarray:
    """A column that the method needs."""
    needed = f"{METHOD}={method.name} needs fold.split(..., {name}=...)"
    require(name in table, needed)
    column = table[name]
    is_flat = column.ndim == 1 and column.dtype != object
    require(is_flat, f"{needed} with one value per row, and it has the shape {column.shape}")
    tables.require_finite({name: column}, "fold.split(...)")
    return column


def _by_chance(rule: SplitConfig, n_folds: int, fold: int, table: Columns) -> tuple[numpy.ndarray, numpy.ndarray]:
    import numpy

    method, seed, holdout = rule.method, rule.seed, rule.holdout
    rows = numpy.arange(len(table["id"]))
    if method is SplitMethod.kfold:  # as KFold and ShuffleSplit, without the second that scikit-learn takes to import
        order = numpy.random.RandomState(seed).permutation(len(rows))
        left = math.ceil(holdout * len(rows))
        valid = order[:left] if n_folds == 1 else numpy.array_split(order, n_folds)[fold]
        return numpy.delete(rows, valid), valid
    from sklearn import model_selection as ways

    y = _needed(table, "y", method) if method in BY_CLASS else None
    groups = None
    if method in BY_GROUP:  # numbers that depend on the seed: scikit-learn places groups of equal size in their order
        found, numbers = numpy.unique(_needed(table, "groups", method), return_inverse=True)
        groups = numpy.random.RandomState(seed).permutation(len(found))[numbers]
    splitter: Any
    if method is SplitMethod.stratified_group:  # there is no hold-out of this kind: one of as many folds
        count = max(2, round(1 / holdout)) if n_folds == 1 else n_folds
        splitter = ways.StratifiedGroupKFold(count)  # its own shuffling loses the classes (scikit-learn issue 32478)
    elif n_folds == 1:
        one = ways.GroupShuffleSplit if method is SplitMethod.group else ways.StratifiedShuffleSplit
        splitter = one(1, test_size=holdout, random_state=seed)
    elif method is SplitMethod.group:
        splitter = ways.GroupKFold(n_folds)
    else:
        splitter = ways.StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):  # a class with fewer rows than folds
            part: tuple[numpy.ndarray, numpy.ndarray] = next(islice(splitter.split(rows, y, groups), fold, None))
        return part
    except (ValueError, TypeError, UserWarning) as error:
        raise Error(f"{METHOD}={method.name}, {len(rows)} rows: {' '.join(str(error).split())}") from error


def _by_time(rule: SplitConfig, n_folds: int, fold: int, table: Columns) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Train on the times before those left out, as scikit-learn's TimeSeriesSplit; a time is whole on one side."""
    import numpy

    times, moments = numpy.unique(_needed(table, "time", rule.method), return_inverse=True)
    count, history = len(times), rule.min_train_size + rule.gap
    room = (count - history) // n_folds  # for each window: none is put where nothing is before it
    part = max(1, round(rule.holdout * count)) if n_folds == 1 else max(1, min(count // (n_folds + 1), room))
    size = rule.test_size or part
    needed = f"exp.n_folds={n_folds} x {size} (exp.split.test_size) + {rule.gap} (gap) + {rule.min_train_size}"
    few = f"{METHOD}={rule.method.name}: {count} different times are too few: {needed} (min_train_size)"
    require(size <= room, few)
    first = count - (n_folds - fold) * size
    is_before, is_left_out = moments < first - rule.gap, (moments >= first) & (moments < first + size)
    if rule.method is SplitMethod.time_group:
        groups = _needed(table, "groups", rule.method)
        is_before &= ~numpy.isin(groups, groups[is_left_out])
    return numpy.flatnonzero(is_before), numpy.flatnonzero(is_left_out)


def _moments(time: Any) -> Any:
    """Times that can be sorted: dates and ISO 8601 text become NumPy's; those without a time zone are UTC."""
    import numpy

    array = numpy.asarray(time)
    if array.ndim != 1 or array.dtype.kind not in "OU":
        return time
    try:
        with warnings.catch_warnings(action="ignore"):  # NumPy's, of time zones: it makes them UTC
            return array.astype("datetime64[ms]")
    except ValueError as error:
        raise Error(f"fold.split(...), column time: {error}: use numbers, dates, or text as 2026-01-31") from error


def _by_column(rule: SplitConfig, n_folds: int, fold: int, table: Columns) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As the file `exp.split.file` says."""
    import numpy

    file = input_dir() / rule.file
    what, columns = display_path(file), tables.read_csv(file)
    for name in (rule.id, rule.column):
        require(name in columns, f"{what}: there is no column {name}; there are {', '.join(columns)}")
    texts, folds = columns[rule.column], {*map(str, range(n_folds))}
    needed = f"with exp.n_folds={n_folds}, each of 0 to {n_folds - 1} must be there, and -1 for rows that are always"
    wrong = f"{what}, column {rule.column}: {needed} trained on; not {', '.join(sorted({*texts} ^ folds)[:3])}"
    require(folds <= {*texts} <= folds | {"-1"}, wrong)
    tables.require_unique(numpy.array(columns[rule.id]), what)
    known = dict(zip(columns[rule.id], texts, strict=True))
    names = table["id"].astype(str).tolist()
    missing = [name for name in names if name not in known]
    require(not missing, f"{what}: {len(missing)} of {len(names)} ids have no fold, such as {missing[:1]}")
    is_out = numpy.array([known[name] == str(fold) for name in names])
    return numpy.flatnonzero(~is_out), numpy.flatnonzero(is_out)


def called(what: str, function: Callable[[Columns], Any], table: Columns, hint: str = "") -> Any:
    """What a function of the experiment returns for a table, of which it may change all that it is given.

    Raises:
        Error: it raises; with a hint.
    """
    try:
        return function({name: copy.deepcopy(column) for name, column in table.items()})  # the rows of boxes, too
    except BaseException as error:
        if not isinstance(error, Exception) and not is_exit(error):
            raise
        of = f"of the columns {', '.join(table)}"
        raise Error(f"{what} raises {type(error).__name__}: {error}, {of}{hint}") from error


def postprocess(experiment: Experiment, oof: Columns, table: Columns, what: str) -> Columns:
    """Predictions after `Experiment.postprocess`, fitted on out-of-fold predictions.

    Args:
        oof: to fit on, with targets.
        table: to change; its targets stay, and are not shown.
        what: it is, for messages.

    Raises:
        Error: a function of the experiment raises, or returns other rows, nan or inf.
    """
    import numpy

    apply = called("postprocess", cast(Any, experiment.postprocess), oof)
    require(callable(apply), f"postprocess must return a function of a table of predictions, not {apply!r}")
    hidden = {name: table[name] for name in tables.targets(oof) if name in table}
    shown = {name: column for name, column in table.items() if name not in hidden}
    what = f"{what}, what postprocess has made"
    made = tables.columns(shown | tables.named(called("the function that postprocess returns", apply, shown)), what)
    require(numpy.array_equal(made["id"], table["id"]), f"{what}: the ids, or their order, are not as they were")
    tables.require_finite(made, what)
    return made | hidden


def postprocessed(experiment: Experiment, table: Columns) -> Columns:
    """Out-of-fold predictions, with "fold", after `Experiment.postprocess`: each fold by what the others gave.

    Of one fold alone, each half of the rows by what the other gave. Errors as of `postprocess`.
    """
    import numpy

    if experiment.postprocess is None:
        return table
    count, title = len(table["id"]), "the out-of-fold predictions"
    parts = table["fold"] if len(numpy.unique(table["fold"])) > 1 else numpy.arange(count) % 2
    require(count > 1, "postprocess needs two rows or more: it is fitted on others than those that it changes")
    rest = {name: column for name, column in table.items() if name != "fold"}
    order, made = [], []
    for part in numpy.unique(parts):
        rows, others = numpy.flatnonzero(parts == part), numpy.flatnonzero(parts != part)
        both = [{name: column[some] for name, column in rest.items()} for some in (others, rows)]
        order.append(rows)
        made.append(postprocess(experiment, both[0], both[1], title))
    back = numpy.argsort(numpy.concatenate(order))
    found = {name: tables.concatenated([each[name] for each in made])[back] for name in made[0]}
    return found | {"fold": table["fold"]}


def datasets(runs: Sequence[Run]) -> dict[Path, Dataset | None]:
    """The rows and targets that each run is of, by its folder, as it has recorded them; or as another run has.

    Of a run that has recorded none, for its experiment splits by itself, one fold must have left out the same; of one
    that has recorded others, all folds: it has more rows to train on, and is scored alike.
    """
    known: dict[tuple[str, str | None], Dataset] = {}
    found = {}
    for run in sorted(runs, key=lambda run: (run.dataset is None, run.finished or "")):
        folds = [(rows, run.targets.get(fold)) for fold, rows in run.valid_ids.items() if rows]
        others = {known.get(fold) for fold in folds}
        other = min(filter(None, others), key=repr, default=None)
        is_of_other = run.dataset is None or (other is not None and others == {other})
        found[run.folder] = dataset = other if is_of_other else run.dataset
        if dataset is not None:
            known |= {fold: dataset for fold in folds if fold not in known}
    return found


def score(name: str, metric: Metric, predictions: Columns, over: str = "rows") -> float:
    """The value of a metric over all rows; or the mean of its values for each fold.

    Args:
        predictions: may have a column "fold", which no metric sees; over folds, it has one.
        over: as `Experiment.score_over`.

    Raises:
        Error: it raises, or returns what is no finite number.
    """
    if over == "folds":
        return statistics.fmean(fold_scores(name, metric, predictions).values())
    hint = "; the predictions are kept: fix it and run the command again"
    own = {key: column for key, column in predictions.items() if key != "fold"}
    result = called(f"the metric {name}", metric, own, hint)
    value = tables.as_number(result)
    if value is None or not abs(value) <= store.LARGEST:
        limit = f"not a finite number of at most {store.LARGEST:g}"
        raise Error(f"the metric {name} is {str(result)[:60]}, {limit}; fix it and run the command again")
    return float(value)


def fold_scores(
    name: str, metric: Metric, predictions: Columns, lacking: Mapping[str, Sequence[int]] | None = None
) -> dict[int, float]:
    """The value of a metric for each fold, of predictions with a column "fold". Errors as of `score`.

    Args:
        lacking: columns that folds have not saved: in these, the metric does not see them.
    """
    lacking, found = lacking or {}, {}
    for fold, part in tables.parts(predictions, "fold").items():
        own = {key: column for key, column in part.items() if fold not in lacking.get(key, ())}
        found[fold] = score(name, metric, own)
    return found


def plain_value(value: Any, what: str) -> Any:
    """A number, or what else JSON holds, as it comes back from the disk.

    Raises:
        Error: nan, inf, or what JSON does not hold.
    """
    number = tables.as_number(value)
    try:
        return json.loads(json.dumps(value if number is None else number, allow_nan=False))
    except (ValueError, TypeError) as error:
        raise Error(f"{what}: it must be a finite number, or what JSON can hold, not {value!r}") from error


def scores(experiment: Experiment, predictions: Columns, values: Mapping[str, Any]) -> dict[str, float]:
    """The value of every metric of an experiment, by the name that it has without `Experiment.postprocess`.

    Args:
        predictions: the out-of-fold predictions.
        values: what `train` has returned, for an experiment that is scored by it.

    Raises:
        Error: as of `score`; `train` has not returned a number of that name.
    """
    if experiment.is_scored_by_train:
        found = {name: tables.as_number(values.get(name)) for name in experiment.metrics}
        for name, value in found.items():
            is_number = value is not None and abs(value) <= store.LARGEST
            require(is_number, f"train() must return {{{name!r}: a finite number}}, which is the score, not {value}")
        return {name: float(value) for name, value in found.items() if value is not None}
    _ = experiment.made_by  # before one of them changes what it holds
    by_name: dict[str, float] = {}
    for name, metric in experiment.metrics.items():
        with watch_metric(experiment.opened[name]):
            by_name[experiment.raw(name)] = score(name, metric, predictions)
    return by_name


def update(experiment: Experiment, versions: Versions, folder: Path) -> Run:
    """Bring the `cv.json` of a version up to date: with the folds that are done, and with the metrics as they are now.

    Where a metric has changed, so are the other runs of the experiment: their scores would compare with no new one.

    Raises:
        Error: a metric fails; predictions are missing.
    """
    try:
        changed, again = _updated(experiment, versions, folder), 0
    except Error:
        store.forget_cv(folder)  # those of another metric are no longer shown as this one's
        raise
    for other in [store.current_of(each) for _, each in store.runs_of(folder.parent)] if changed else []:
        try:
            again += other is not None and bool(_updated(experiment, store.Versions.of(other), other))
        except (Error, OSError) as error:  # it may be somebody else's
            warn(f"{display_path(other or folder)} keeps its old scores: {error}")
    if changed:
        names = [name if name == POSTPROCESS else f"the metric {name}" for name in changed]
        others = f"; so are those of {again} other run{'s' if again > 1 else ''}" if again else ""
        print(f"scores computed again: {', '.join(names)} has changed{others}", flush=True)
    return store.read_run(folder)


def _updated(experiment: Experiment, versions: Versions, folder: Path) -> list[str]:
    """Score a version as of now; which metrics, or `postprocess`, have changed since it was. Errors as of `update`."""
    run = store.read_run(folder)
    if not run.done or experiment.has_scored(run.cv):
        return []
    with versions.locked():
        run = store.read_run(folder)  # again: whoever comes last sees every fold
        if not run.done or experiment.has_scored(run.cv):  # another has scored it
            return []
        store.write_cv(folder, _summary_of(experiment, run) | experiment.scoring, run.done)
    now = experiment.scoring["made_by"]
    before = now if run.cv is None else run.cv["made_by"]
    known = before.keys() & now.keys() | {POSTPROCESS}
    return [name for name in {**before, **now} if name in known and before.get(name) != now.get(name)]


def _summary_of(experiment: Experiment, run: Run) -> dict[str, Any]:
    if experiment.is_scored_by_train:
        each = {number: scores(experiment, {}, result["scores"]) for number, result in run.results.items()}
        folds = {name: {number: found[name] for number, found in each.items()} for name in experiment.metrics}
        return _summary(folds, {}, run.rows)
    table, lacking = run.joined()
    # Two processes do not see each other's rows.
    if not tables.is_ascending(table["id"]):
        tables.require_unique(table["id"], f"{display_path(run.folder)}, the out-of-fold rows of all folds")
    return summary(experiment, table, run.is_complete, lacking)


def summary(
    experiment: Experiment, table: Columns, is_complete: bool = True, lacking: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """What cv.json has of out-of-fold predictions with a column "fold". Errors as of `score`.

    Args:
        lacking: as of `fold_scores`: a fold has the score that it had when it was trained.
    """
    _ = experiment.made_by  # before a metric changes what it holds
    ways: list[tuple[Callable[[str], str], Columns, Any]] = [(experiment.raw, table, lacking)]
    if experiment.postprocess is not None:
        with watch_metric(experiment.opened[POSTPROCESS]):
            ways.insert(0, (str, postprocessed(experiment, table), None))
    folds, over_all = dict[str, dict[int, float]](), dict[str, float]()
    for named, rows, without in ways:
        for name, metric in experiment.metrics.items():
            with watch_metric(experiment.opened[name]):
                folds[named(name)] = fold_scores(name, metric, rows, without)
                over_all |= {named(name): score(name, metric, rows)} if is_complete else {}
    return _summary(folds, over_all, len(table["id"]))


def _summary(folds: Mapping[str, Mapping[int, float]], over_all: Mapping[str, float], rows: int) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for name, by_fold in folds.items():
        values = list(by_fold.values())
        about[name] = {"all": over_all.get(name), "mean": statistics.fmean(values), "std": store.deviation(values)}
        about[name]["folds"] = {str(number): value for number, value in by_fold.items()}
    return {"scores": about, "rows": rows}


def checked(columns: Mapping[str, Any], what: str) -> tuple[Columns, str]:
    """Predictions as they are stored, a row for each id; and the fingerprint of the ids.

    Args:
        columns: "id" and others, each (n,).
        what: they are, for messages.

    Raises:
        Error: there is no id, or one twice; lengths that differ; a shape such as (n, 1); nan, inf.
    """
    table = tables.columns(columns, what)
    there = f"there is no column id, which says what row a prediction is for; there are {', '.join(table)}"
    require("id" in table, f"{what}: {there}")
    tables.require_finite(table, what)
    return table, tables.fingerprint(table["id"], tables.require_unique(table["id"], what))


def submission_summary(run: Run) -> str:
    """One line about what exp.mode=sub has made, and how a submission is made of it now."""
    assert run.full is not None and run.full.result is not None
    folder, made = run.full.folder, run.full.result["files"]
    if store.SUBMISSION in made:
        return f"predictions of the test set: {display_path(folder / store.SUBMISSION)}"
    how = f"; exp submit {run.title} --from full makes a submission of its test predictions" * (store.TEST in made)
    return f"trained on all rows, without {store.SUBMISSION}: {display_path(folder)}{how}"


def run_summary(run: Run) -> str:
    """One line with the scores of a run: the metric that decides, then the others."""
    parts = []
    for metric in run.metrics:
        if score := run.score_of(metric):
            other = f" ({score.other})" if score.other else ""
            parts.append(f"{metric} {score_text(score.value, score.std)}{other}")
    marks = ", ".join([*(mark for mark in run.marks if mark.startswith("mixed")), *run.leaks, *store.stale(run)])
    folds = "" if run.n_folds == 1 else f"  {len(run.done)}/{run.n_folds} folds"
    return f"{run.kind} {'  '.join(parts)}{folds}{f'  ({marks})' if marks else ''}".lstrip()
