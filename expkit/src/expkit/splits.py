"""Splits rows into folds, by `exp.split`, and remembers which rows must be predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from expkit import tables
from expkit.config import METHOD, ExpConfig, SplitMethod
from expkit.errors import Error, require
from expkit.project import display_path, input_dir

if TYPE_CHECKING:
    import numpy

    Rows = tuple[numpy.ndarray, numpy.ndarray]


BY_CLASS = (SplitMethod.stratified, SplitMethod.stratified_group)
BY_GROUP = (SplitMethod.group, SplitMethod.stratified_group)


def split(exp: ExpConfig, fold: int | None, *, id: Any, y: Any = None, groups: Any = None, time: Any = None) -> Rows:
    """The rows to train on, and the rows that a fold leaves out, as `exp.split` says.

        fit_rows, valid_rows = expkit.split(exp, fold.number, id=data.id, y=data.y)

    The same rows in the same order give the same folds, whatever `exp.seed` is. `exp.split.seed` changes them; of
    groups, only those of equal size change places. In a training, the rows that are left out are those that
    `fold.save_oof` requires. The methods are those of scikit-learn: KFold, StratifiedKFold,
    GroupKFold, StratifiedGroupKFold, TimeSeriesSplit; with `exp.n_folds=1`, a share of the rows. Rows of the same time
    are never on both sides.

    Args:
        exp: `exp` of the experiment's configuration.
        fold: its number, from 0 on; None: train on all rows.
        id: the id of each row, (n,), each once, as for `fold.save_oof`.
        y: the class of each row, (n,), for exp.split.method=stratified and stratified_group.
        groups: the group of each row, (n,), for group and stratified_group.
        time: the time of each row, (n,): numbers, dates or text such as 2026-01-31, for time.

    Returns:
        two arrays of row indices, sorted: to train on, (k,), and left out, (m,). With the method time, later rows and
        those in the gap are in neither. For `fold=None`, all rows and no row.

    Raises:
        Error: what the method needs is missing or does not fit; there are too few rows, classes, groups or times.
    """
    import numpy

    method = exp.split.method
    given = {"id": id, "y": y, "groups": groups, "time": _moments(time) if method is SplitMethod.time else None}
    table = tables.columns({name: values for name, values in given.items() if values is not None}, "expkit.split")
    rows = numpy.arange(len(table["id"]))
    if fold is None:
        return rows, rows[:0]
    require(0 <= fold < exp.n_folds, f"there is no fold {fold}: exp.n_folds is {exp.n_folds}")
    tables.require_unique(table["id"], "expkit.split")
    if method is SplitMethod.column:
        numbers = _numbers(exp, table["id"])
        fit, valid = rows[numbers != fold], rows[numbers == fold]
    elif method is SplitMethod.time:
        fit, valid = _by_time(exp, fold, _needed(table, "time", method))
    else:
        fit, valid = _by_chance(exp, fold, table)
    require(
        len(fit) > 0 and len(valid) > 0,
        f"{METHOD}={method.name}: fold {fold} leaves out {len(valid)} of {len(rows)} rows",
    )
    fit, valid = numpy.sort(fit), numpy.sort(valid)
    _note_valid_ids(exp, fold, table["id"][valid])
    return fit, valid


def _needed(table: tables.Columns, name: str, method: SplitMethod) -> numpy.ndarray:
    """A column that the method needs."""
    require(name in table, f"{METHOD}={method.name} needs expkit.split(..., {name}=...)")
    column = table[name]
    require(column.ndim == 1, f"expkit.split, column {name}: has the shape {column.shape}: one value per row")
    tables.require_finite({name: column}, "expkit.split")
    return column


def _by_chance(exp: ExpConfig, fold: int, table: tables.Columns) -> Rows:
    import numpy
    from sklearn import model_selection as ways

    method, seed, holdout = exp.split.method, exp.split.seed, exp.split.holdout
    rows = numpy.arange(len(table["id"]))
    what, least = f"{METHOD}={method.name}", max(exp.n_folds, 2)
    y = _classes(_needed(table, "y", method), what, least) if method in BY_CLASS else None
    groups = None
    if (
        method in BY_GROUP
    ):  # as numbers that depend on the seed: of equal groups, scikit-learn places them in this order
        found, numbers = numpy.unique(_needed(table, "groups", method), return_inverse=True)
        groups = numpy.random.RandomState(seed).permutation(len(found))[numbers]
    splitter: Any
    if method is SplitMethod.stratified_group:  # there is no hold-out of this kind: one of as many folds
        count = max(2, round(1 / holdout)) if exp.n_folds == 1 else exp.n_folds
        splitter = ways.StratifiedGroupKFold(count)  # its own shuffling loses the classes (scikit-learn issue 32478)
    elif exp.n_folds == 1:
        holdouts = {
            SplitMethod.kfold: ways.ShuffleSplit,
            SplitMethod.stratified: ways.StratifiedShuffleSplit,
            SplitMethod.group: ways.GroupShuffleSplit,
        }
        splitter = holdouts[method](1, test_size=holdout, random_state=seed)
    elif method is SplitMethod.group:
        splitter = ways.GroupKFold(exp.n_folds)
    else:
        folds = ways.KFold if method is SplitMethod.kfold else ways.StratifiedKFold
        splitter = folds(exp.n_folds, shuffle=True, random_state=seed)
    try:
        parts: Iterator[Rows] = splitter.split(rows, y, groups)
        return next(islice(parts, fold, None))
    except ValueError as error:
        raise Error(f"{what}, {len(rows)} rows: {' '.join(str(error).split())}") from error


def _classes(y: numpy.ndarray, what: str, least: int) -> numpy.ndarray:
    """Checks that each class has a row for every part; scikit-learn only warns."""
    import numpy

    if y.dtype.kind == "f" and (y % 1 != 0).any():
        raise Error(f"{what} needs classes, and y holds numbers such as {y[y % 1 != 0][0]}: use kfold")
    found, counts = numpy.unique(y, return_counts=True)
    rarest, count = found[counts.argmin()], counts.min()
    require(
        count >= least, f"{what}: class {rarest} has {count} rows, and each of {least} parts needs one (exp.n_folds)"
    )
    return y


def _by_time(exp: ExpConfig, fold: int, time: numpy.ndarray) -> Rows:
    """Train on the times before those left out, as scikit-learn's TimeSeriesSplit; a time is whole on one side."""
    import numpy

    times, moments = numpy.unique(time, return_inverse=True)
    gap, count = exp.split.gap, len(times)
    part = max(1, round(exp.split.holdout * count)) if exp.n_folds == 1 else count // (exp.n_folds + 1)
    require(
        part > 0 and count - exp.n_folds * part - gap > 0,
        f"{METHOD}=time: {count} different times are too few for exp.n_folds={exp.n_folds} and exp.split.gap={gap}",
    )
    first = count - (exp.n_folds - fold) * part
    return numpy.flatnonzero(moments < first - gap), numpy.flatnonzero((moments >= first) & (moments < first + part))


def _moments(time: Any) -> Any:
    """Times that can be sorted: dates and ISO 8601 text become seconds."""
    import numpy

    array = numpy.asarray(time)
    if array.ndim != 1 or array.dtype.kind not in "OSU":
        return time
    array = array.astype(str) if array.dtype.kind == "S" else array
    texts = [one.isoformat() if isinstance(one, date) else one for one in array.tolist()]
    if not all(isinstance(one, str) for one in texts):
        return time
    try:
        moments = [datetime.fromisoformat(text) for text in texts]
    except ValueError as error:
        raise Error(f"expkit.split, column time: {error}: use numbers, dates, or text as 2026-01-31") from error
    require(len({one.tzinfo is None for one in moments}) == 1, "expkit.split, column time: only some have a time zone")
    return [(one if one.tzinfo else one.replace(tzinfo=UTC)).timestamp() for one in moments]


def _numbers(exp: ExpConfig, ids: numpy.ndarray) -> numpy.ndarray:
    """The fold number of each row, from the file `exp.split.file`."""
    import numpy

    require(ids.dtype.kind in "iuU", f"{METHOD}=column: ids must be whole numbers or text, not {ids.dtype}")
    file = input_dir() / exp.split.file
    what = display_path(file)
    require(file.exists(), f"there is no {what}, which exp.split.file names")
    columns = tables.read_csv(file)
    for name in (exp.split.id, exp.split.column):
        require(name in columns, f"{what}: there is no column {name}; there are {', '.join(columns)}")
    try:
        keys = columns[exp.split.id] if ids.dtype.kind == "U" else list(map(int, columns[exp.split.id]))
        numbers = list(map(int, columns[exp.split.column]))
    except ValueError as error:
        raise Error(
            f"{what}: {error}: {exp.split.column} must hold whole numbers, and {exp.split.id} the ids of the rows"
        ) from error
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise Error(f"{what}: the id {twice[0]} is there twice")
    if wrong := sorted(set(range(exp.n_folds)) ^ (set(numbers) - {-1})):
        problem = "has no row" if wrong[0] in range(exp.n_folds) else "is not one"
        raise Error(
            f"{what}: fold {wrong[0]} {problem}: exp.n_folds={exp.n_folds} takes 0 to {exp.n_folds - 1}, and -1 for "
            "rows that are always trained on"
        )
    known = dict(zip(keys, numbers, strict=True))
    missing = [each for each in ids.tolist() if each not in known]
    require(not missing, f"{what}: {len(missing)} of {len(ids)} ids have no fold, such as {missing[:1]}")
    return numpy.array([known[each] for each in ids.tolist()])


class ValidIds:
    """The ids that `expkit.split` left out while a run trains. These must be predicted."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, numpy.ndarray]] = {}  # by fold and fingerprint

    @contextmanager
    def noted(self, exp: ExpConfig) -> Iterator[None]:
        """Within this context, note what `expkit.split(exp, ...)` leaves out."""
        _TRAININGS[id(exp)] = self
        try:
            yield
        finally:
            del _TRAININGS[id(exp)]

    def add(self, fold: int, ids: numpy.ndarray) -> None:
        """Note the ids of one call of `expkit.split`, (n,)."""
        self._calls.setdefault(fold, {})[tables.fingerprint(ids)] = ids

    def require_all(self, fold: int, ids: numpy.ndarray, what: str) -> None:
        """Require predictions of exactly the rows of one call, or of all calls together.

        Args:
            ids: of the predictions of a fold, (n,), each once.
            what: they are, for messages.

        Raises:
            Error: `expkit.split` was not called; rows are missing; others are there.
        """
        import numpy

        calls = list(self._calls.get(fold, {}).values())
        require(
            bool(calls),
            f"{what}: nobody knows which rows must be predicted: call expkit.split(exp, fold.number, id=...) in "
            "train(), or say expkit.Experiment(..., own_split=True) if the experiment splits by itself",
        )
        if tables.fingerprint(ids) in self._calls[fold]:
            return
        tables.require_same_kind(ids, calls[0], what, "given to expkit.split")
        choices = [*calls, numpy.concatenate(calls)]
        differences = [(numpy.setdiff1d(one, ids), numpy.setdiff1d(ids, one)) for one in choices]
        missing, others = min(differences, key=lambda pair: len(pair[0]) + len(pair[1]))
        require(
            len(missing) == 0,
            f"{what}: {len(missing)} rows that expkit.split left out are not predicted, such as {missing[:1]}, and "
            f"{len(others)} others are (a DataLoader with drop_last? predictions of other processes not gathered?)",
        )
        require(
            len(others) == 0,
            f"{what}: {len(others)} rows are predicted that expkit.split did not leave out, such as {others[:1]}",
        )


_TRAININGS: dict[int, ValidIds] = {}  # of this process, by the identity of `exp`: threads have no context in common


def _note_valid_ids(exp: ExpConfig, fold: int, ids: numpy.ndarray) -> None:
    """Note the ids that a fold leaves out for the training that got `exp`, or for the only one that runs."""
    training = _TRAININGS.get(id(exp)) or (next(iter(_TRAININGS.values())) if len(_TRAININGS) == 1 else None)
    if training is not None:
        training.add(fold, ids)
