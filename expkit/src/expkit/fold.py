"""The fold: what `train(exp, fold)` gets."""

from __future__ import annotations

import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import checkpoint, files, scores, store, tables, tracking
from expkit.checkpoint import Checkpoint, load_state, save_state, state_parts
from expkit.data import Cache
from expkit.errors import Error, described, require, warn
from expkit.files import Broken
from expkit.project import world_size
from expkit.store import axis_of
from expkit.tracking import History, Progress, Tracker

if TYPE_CHECKING:
    import numpy

    from expkit.distributed import Ranks
    from expkit.rundir import RunDir
    from expkit.runner import Provenance
    from expkit.study import RunningTrial

# What a fold writes when it ends: a training that goes on has not come so far.
PREDICTIONS = (store.OOF, store.LOCKBOX, store.TEST)
OF_ITS_END = (*PREDICTIONS, store.SUBMISSION, store.ORIGIN, store.RESULT, store.FAILED, store.STATE)


STEPS = 10  # of a fold: a pruner compares the trials of a study at the same step


class Pruned(Exception):
    """The pruner of the study ends this run. `train` must not catch it."""


class Shared:
    """What the folds of one run have in common: what was warned of, and the trial of a study that hears their scores.

    Args:
        trial: None: there is no study.
        folds: how many are asked for.
        ranks: hear at each row that a fold logs whether the study ends the run; None: there is one process.
    """

    def __init__(self, run_dir: RunDir, trial: RunningTrial | None, folds: int, ranks: Ranks | None = None) -> None:
        self.run_dir, self.trial = run_dir, trial
        self._folds, self._ranks, self._scores, self._warned = folds, ranks, list[float](), set[str]()

    def warn_once(self, what: str, message: str) -> None:
        """Warn once per run about `what`."""
        if what not in self._warned:
            self._warned.add(what)
            warn(message)

    def after_folds(self, scores: Sequence[float]) -> bool:
        """Report the folds that are done, each as the mean so far; whether to prune the run.

        Args:
            scores: of the folds that are done, in the order in which they are asked for.
        """
        is_bad = False
        for count in range(len(self._scores) + 1, len(scores) + 1):
            is_bad = self.trial is not None and self.trial.report(count * STEPS, statistics.fmean(scores[:count]))
        self._scores = list(scores)
        return is_bad and len(scores) < self._folds

    def during_fold(self, score: float | None, progress: float) -> None:
        """Report a score in the middle of a fold; None: there is none, which other ranks have to hear.

        Raises:
            Pruned: the pruner ends the run.
        """
        if self.trial is None:
            return
        reason, part = "", min(int(progress * STEPS + 1e-9), STEPS - 1)  # the last one is the fold's own
        if score is not None and part > 0:
            mean = statistics.fmean([*self._scores, score])
            if self.trial.report(len(self._scores) * STEPS + part, mean):
                reason = f"after {part / STEPS:.0%} of its training"
        if self._ranks is not None:
            self._ranks.tell({"pruned": reason})
        if reason:
            raise Pruned(reason)


class Evaluated(dict[str, float]):
    """What `Fold.evaluate` gives."""

    def __missing__(self, name: str) -> float:
        why = f"there is {', '.join(self)}" if self else "exp.mode=sub leaves no row out, and only rank 0 has scores"
        raise Error(f"fold.evaluate(...)[{name!r}]: {why}; to choose by a score, keep back a part of rows.train")


class Fold:
    """One training: of a fold, or on all rows. expkit makes it and gives it to `train(exp, fold)`.

    Attributes:
        number: the fold that is left out, from 0 on; None when exp.mode=sub trains on all rows.
        name: "fold0" or "full", the name of its folder.
        title: "fold 0", "hold-out" or "training" (exp.n_folds=1) or "all data", for messages.
        folder: for the files of this training, a Path; empty when the training begins. When it goes on from a
            checkpoint, what it has left there is there.
        cache: a `Cache`: files in input/cache/ that experiments share, such as features.
        checkpoint: a `Checkpoint`: the saved state of a training that takes long. `fold.checkpoint.save(write,
            every=30)` calls `write(file)`, which makes a file or a folder, when 30 seconds have passed since the last
            time; when it returns, the state is on the disk. After an interruption, `fold.checkpoint.file` is the last
            one, else None; history.csv then ends with the row that was logged before it. Save the state of random
            generators, too.
        rank: the number of this process, when several train the fold together (`torchrun`); 0 for a single one.
        world_size: how many processes train the fold together; 1 for a single one. Each runs `train` for the same
            fold. Only what rank 0 logs and saves counts, and must be of all rows: gather the predictions first. The
            others have a temporary folder.
        lockbox: indices of the rows that exp.split.lockbox sets aside, (k,), when `split` has been called: to predict,
            with `save_lockbox`, and for nothing else. `predict` does it.
    """

    rank = 0
    found: dict[str, list[Any]] | str  # everything that `cv` can return; a text: why there is nothing
    _tracker = Tracker(None)
    _now: tuple[str, int, int] | None = None  # within `epochs` or `steps`: the axis, the number, how many
    _rows: dict[str, numpy.ndarray] | None = None  # by the name of the file that has their predictions
    _known: dict[str, dict[str, Any]]  # their columns
    lockbox: Sequence[int] | numpy.ndarray = ()
    _count: int  # of the rows that `split` was given
    _dataset: Any = None  # these rows, as of `tables.dataset`
    _keeps_state = False  # whether `epochs` or `steps` has begun with a state
    _had_no_loop = False  # whether its loop with a state was done when it went on
    _before: float | None = None  # the seconds of what it has begun from
    _final: Callable[[Path], None] | None = None  # writes what this state has learned

    def __init__(self, shared: Shared, number: int | None, provenance: Provenance) -> None:
        run_dir = shared.run_dir
        self._identify(run_dir, number, run_dir.version / store.fold_name(number))
        self._experiment, self._shared, self._provenance = run_dir.loaded.experiment, shared, provenance
        self._metric = next(iter(self._experiment.metrics))
        self.found = run_dir.found_by_folds() if number is None and not run_dir.debug else {}
        self._started = datetime.now(UTC)
        self._progress = Progress(self.title)
        self._predicted: dict[str, Any] = {"rows": 0, "left_out": "", "target": None}
        self._history = History(self.folder / store.HISTORY)
        metadata, rows = self._begin()
        self._tracker = tracking.start(run_dir, number)
        self._clock, self._before = time.monotonic() - metadata.get("seconds", 0), metadata.get("before")
        for row in rows:
            self._tracker.log(row, axis_of(row))

    def _identify(self, run_dir: RunDir, number: int | None, folder: Path) -> None:
        self._run_dir, self._exp, self.world_size = run_dir, run_dir.config.exp, world_size()
        self.number, self.name, self.title = number, store.fold_name(number), run_dir.title(number)
        self.folder, self.cache = folder, Cache(folder, run_dir.debug)
        self.checkpoint = Checkpoint(folder, self._so_far)

    def _begin(self) -> tuple[dict[str, Any], list[dict[str, float]]]:
        """Go on from a checkpoint, or begin with an empty folder.

        Returns:
            the metadata of the checkpoint, and the rows of the history that were logged before it; {} and [].
        """
        files.make_folder(self.folder)
        try:
            metadata = self.checkpoint.find()
        except Broken as problem:
            metadata = {}
            warn(f"{self.title} starts again from its beginning: its checkpoint is damaged ({problem})")
        if not metadata:
            for left in self.folder.iterdir():  # by a training without a checkpoint
                files.remove(left)
            return {}, []
        changes = self._run_dir.changes_to_mark(self.name, metadata)
        rows = self._history.cut(metadata["rows"])
        for name in OF_ITS_END:  # which was not reached
            files.remove(self.folder / name)
        self._provenance.resume(metadata, changes)
        print(f"{self.title} goes on after {metadata['seconds']:.0f} s of training", flush=True)
        return metadata, rows

    def _so_far(self) -> dict[str, Any]:
        """The metadata of a checkpoint."""
        if self._history.rows:
            files.to_disk(self._history.file)
        return {
            "rows": self._history.rows,
            "seconds": round(time.monotonic() - self._clock, 3),
            "before": self._before,
            **self._provenance.so_far(),
        }

    @property
    def wandb(self) -> Any:
        """The W&B run of the fold (`wandb.Run`), for pictures, tables, artifacts; None if W&B is disabled or failed."""
        return self._tracker.run

    @property
    def start_from(self) -> Path | None:
        """The folder of the fold from which this one begins, of the run that exp.start_from names; None: it names none.

        `epochs` and `steps` load what lies in `state/` there. A training without them loads what it needs:

            before = fold.start_from and fold.start_from / "model.txt"
            trees = lightgbm.train(settings, rows, rounds, init_model=before)

        Raises:
            Error: there is no such run, this fold of it is not done, or it was trained with other rows.
        """
        source = self._run_dir.source(self.number)
        if source is None or source.result is None:
            return None
        if self._before is None:
            print(f"{self.title} begins from {self._exp.start_from}", flush=True)
        self._before = store.total_seconds(source.result)
        return source.folder

    def split(
        self, id: Any, y: Any = None, groups: Any = None, time: Any = None, keep: Mapping[str, Any] | None = None
    ) -> scores.Rows:
        """Which rows to train on, and which are left out and are to be predicted, as `exp.split` says.

            rows = fold.split(id=data.id, y=data.y)
            network.fit(data.X[rows.train], data.y[rows.train])

        With exp.mode=sub, `rows.train` is all rows, and `rows.valid` is empty.

        Args:
            id: of each row, (n,), each once.
            y: what is to be predicted, (n,), or (n, ...), or a list with an array per row: the column "target" of the
                out-of-fold predictions. The classes for exp.split.method=stratified and stratified_group.
            groups: the group of each row, (n,), for group, stratified_group and time_group.
            time: the time of each row, (n,): numbers, dates or text such as 2026-01-31, for time and time_group.
            keep: more columns of the out-of-fold predictions, for the metric, such as {"weight": data.weight}.

        Returns:
            the indices of the rows, sorted: `.train`, (k,), and `.valid`, (m,).

        Raises:
            Error: what the method needs is missing or does not fit; there are too few rows, classes, groups or times; a
                target is missing, or text among numbers; it was called before in this fold, with other rows or targets.
        """

        known = tables.columns({"id": id} | ({} if y is None else {"target": y}) | dict(keep or {}), "fold.split(...)")
        tables.require_finite(known, "fold.split(...)")
        given = tables.dataset(known, "fold.split(...)")
        again = "fold.split(...) was called before, with other rows or targets; expkit.split(...) may split them again"
        require(self._dataset in (None, given) or self._experiment.own_split, f"{self.title}: {again}")
        self._dataset = given
        classes = known.get("target") if self._exp.split.method in scores.BY_CLASS else None
        rows, self.lockbox = scores.split_unique(
            self._exp, self.number, id=known["id"], y=classes, groups=groups, time=time
        )
        self._rows, self._count = {store.OOF: rows.valid, store.LOCKBOX: self.lockbox}, len(known["id"])
        self._known = {file: {name: known[name][some] for name in known} for file, some in self._rows.items()}
        return rows

    def epochs(self, count: int, state: Any = None, every: float = 30, start_from: bool = True) -> Iterator[int]:
        """The epochs of a training, 1 to `count`; after an interruption, from the last checkpoint on.

            for epoch in fold.epochs(exp.train.epochs, state=network):
                loss = network.fit_epoch(X, y)
                fold.log(train_loss=loss, valid_accuracy=network.score(X_valid, y_valid))

        `log` adds the epoch to its rows. When the name of the metric that decides is "accuracy", the `valid_accuracy`
        of an epoch is reported to the study, which may end a bad trial there.

        Args:
            count: how many there are.
            state: what the checkpoint keeps: an object, or a dict of several, with `state_dict` and `load_state_dict`,
                or with attributes, at any depth; lists, dicts and arrays, too. All of it is restored in place: what
                an attribute shares with another part, or with a name in train(), stays shared. The random generators
                of Python, NumPy and PyTorch are kept, too. None: there is no checkpoint. One loop of a training has it.
            every: seconds between two checkpoints.
            start_from: with exp.start_from, `state` begins with what the fold of that run had learned, but for the
                learning rate, the schedule, the count and the random generators; False: train() has loaded it.

        Raises:
            Error: something in `state` cannot be kept; the checkpoint, or what exp.start_from names, is of another
                state; a second loop has one.
        """
        return self._loop("epoch", count, state, every, start_from)

    def steps(self, count: int, state: Any = None, every: float = 30, start_from: bool = True) -> Iterator[int]:
        """The steps of a training, for one that knows no epochs, or whose epochs take hours.

        Args:
            count, state, every, start_from: as of `epochs`.
        """
        return self._loop("step", count, state, every, start_from)

    def _loop(self, axis: str, count: int, state: Any, every: float, start_from: bool) -> Iterator[int]:
        settings = {f"exp.{name}": part for name, part in vars(self._exp).items() if is_dataclass(part)}
        outer, done, parts = self._now, 0, state_parts(state, {"fold": self, "exp": self._exp, **settings})
        if parts:
            again = "two loops of a training with state=...: give it to one, the outer one if one is in the other"
            require(not self._keeps_state, f"{self.title}: {again}")
            self._keeps_state = True
            if self._exp.runtime.keep_state and not self._exp.debug:
                self._final = functools.partial(save_state, parts, 0, settings=checkpoint.settings_of(parts))
            if self.checkpoint.file is not None:
                done = load_state(parts, self.checkpoint.file)
                self._had_no_loop = done >= count
            elif start_from and (source := self.start_from) is not None:
                checkpoint.load_learned(parts, source, f"{self.title} of exp.start_from={self._exp.start_from}")
        try:
            for number in range(done + 1, count + 1):
                self._now = (axis, number, count)
                yield number
                if parts:
                    self.checkpoint.save(functools.partial(save_state, parts, number), every)
        finally:  # also after a `break`: the rows that follow are those of the epoch around these steps
            self._now = outer

    def log(self, /, *, total: float | None = None, **metrics: Any) -> None:
        """Add one row to `history.csv`, to W&B and to the progress line: `fold.log(train_loss=loss)`.

        Args:
            metrics: numbers by name: of Python, NumPy, or tensors of one number. None stays blank; anything else is
                left out, with a warning. A new name may come in any row. Within `epochs` or `steps`, the row is one of
                the present epoch or step; else `epoch=` or `step=` says so, from 1 on. A row with both is one of an
                epoch. A metric belongs to the axis that it is first logged with; with the other one, W&B gets it as
                `<name>_step` or `<name>_epoch`.
            total: how many epochs, or steps, there will be. With it, as within `epochs`, a study gets the
                `valid_accuracy` when "accuracy" is the name of the metric that decides, and may end a bad trial here.
        """
        if self._now is not None and axis_of(metrics) is None:
            name, done, count = self._now
            metrics, total = {name: done, **metrics}, count
        row: dict[str, float] = {}
        for name, value in metrics.items():
            number = tables.as_number(value)
            if number is not None:
                row[name] = number
            if value is not None and (number is None or not math.isfinite(number)):
                lost = "" if number is not None else ", which is not one number: it is left out"
                what = f"{self.title}: fold.log(...): {name} is {str(value)[:40]}{lost}"
                self._shared.warn_once(f"log {name} in {self.name}", what)
        axis = axis_of(row)
        self._history.add(row)
        self._tracker.log(row, axis)
        self._progress.show(axis, row, total)
        self._shared.during_fold(row.get(f"valid_{self._metric}"), row[axis] / total if axis and total else 0)

    def evaluate(self, predict: Callable[[Any], Any], X: Any) -> dict[str, float]:
        """The scores of the rows that are left out, if the training ended now.

            fold.log(train_loss=loss, **fold.evaluate(network.predict, data.X))

        Args:
            predict, X: as of `predict`.

        Returns:
            the value of each metric, as {"valid_accuracy": 0.97}, without `Experiment.postprocess`. With exp.mode=sub
            no row is left out, and ranks above 0 have no scores: {}, and an `Error` for who asks it for one.

        Raises:
            Error: `split` was not called, or with another number of rows; a metric fails.
        """

        experiment = self._experiment
        by_train = "fold.evaluate(...): train() returns the score, and no metric computes it"
        require(not experiment.is_scored_by_train, by_train)
        table = self._predicted_rows(predict, X)
        found = scores.scores(experiment, tables.columns(table, "fold.evaluate(...)"), {}) if table else {}
        return Evaluated(
            (f"valid_{name}", value) for name, value in zip(experiment.metrics, found.values(), strict=False)
        )

    def _predicted_rows(self, predict: Callable[[Any], Any], X: Any, file: str = store.OOF) -> dict[str, Any]:
        """The columns of the rows that are left out, or, with LOCKBOX, set aside; {}: none is."""
        require(callable(predict), f"{self.title}: what predicts is a function of rows, such as network.predict")
        if self._rows is None:
            raise Error("call fold.split(id=...) in train() first: it says which rows to predict")

        count = X.shape[0] if hasattr(X, "shape") else len(X)
        require(count == self._count, f"{self.title}: X has {count} rows, and fold.split(...) was given {self._count}")
        rows = self._rows[file]
        return self._known[file] | tables.named(predict(_taken(X, rows))) if len(rows) else {}

    def predict(self, predict: Callable[[Any], Any], X: Any, *, test: Any = None, test_id: Any = None) -> None:
        """Predict the rows that `split` has left out, those of the locked box, and the test set; save them.

            fold.predict(network.predict, data.X, test=data.test_X, test_id=data.test_id)

        With exp.mode=sub no row is left out: only the test set is predicted.

        Args:
            predict: takes some of the rows of `X`, and returns their predictions: an array (n,) or (n, k), the column
                "prediction"; or several columns by name, as `save_oof` takes them.
            X: all rows that `split` was given, in the same order: an array, a DataFrame, a tensor, a list or a
                `Dataset` of PyTorch, of which `predict` gets a `Subset`.
            test: the rows of the test set, if there is one.
            test_id: their ids, (n,).

        Raises:
            Error: `split` was not called, or with another number of rows; `test` without `test_id`; as of `save_oof`.
        """
        require((test is None) == (test_id is None), "fold.predict(...): test and test_id belong together")
        if table := self._predicted_rows(predict, X):
            self.save_oof(table)
        if table := self._predicted_rows(predict, X, store.LOCKBOX):
            self.save_lockbox(table)
        if test is not None:
            self.save_test({"id": test_id} | tables.named(predict(test)))

    def save_oof(self, columns: Mapping[str, Any]) -> None:
        """Save the out-of-fold predictions of the fold, of every row that `split` has left out, in any order.

        `predict` does it for most experiments. The score of the fold is computed from them. An experiment that splits
        by itself says so: `expkit.Experiment(..., own_split=True)`.

        Args:
            columns: "id", and what the metric needs, such as "target" and "prediction". Arrays, lists or tensors with
                one value per row, (n,); but for "id" also with several, (n, ...), as masks are, or a list with an array
                (k, ...) per row, as boxes are. Types are kept: an id or a label that is text stays text.

        Raises:
            Error: there is no "id"; an id is there twice, here or in another fold; rows are missing, or others than
                those left out; a target is another than `split` was given; lengths differ; a shape such as (n, 1); nan
                or inf.
        """

        own_split = self.number is None or self._experiment.own_split
        how = "call fold.split(id=...) in train(), or say expkit.Experiment(..., own_split=True)"
        unknown = f"nobody knows which rows must be predicted: {how} if the experiment splits by itself"
        require(own_split or self._rows is not None, f"{self.title}, {store.OOF}: {unknown}")
        table, left_out = self._checked(columns, store.OOF, "" if own_split else "fold.split(...)")
        for number, other in self._run_dir.done_folds().items() if self.number is not None else ():
            twice = tables.common(other.predictions(only="id")["id"], table["id"]) if number != self.number else []
            also = f"{len(twice)} ids are in fold {number} too, such as {twice[:1]}"
            require(not twice, f"{self.title}, {store.OOF}: {also}")
        self._predicted = {"rows": len(table["id"]), "left_out": left_out, "target": tables.target_hash(table)}
        known = {} if self._rows is None else self._known[store.OOF]
        if names := known.keys() - {"id", *tables.targets(known)}:
            kept = {name: tables.target_hash({"id": known["id"], "target": known[name]}) for name in sorted(names)}
            self._predicted["kept"] = kept
        tables.save(self.folder / store.OOF, table)

    def _checked(self, columns: Mapping[str, Any], file: str, whose: str = "") -> tuple[tables.Columns, str]:
        """As `scores.checked`; where they are predictions of rows `whose` of `split`, of all these, in their order."""
        what = f"{self.title}, {file}"
        table, ids = scores.checked(columns, what)
        if whose:
            known = self._known[file]
            table = tables.aligned(table, known["id"], what, whose)
            for name in {*tables.targets(known)} & table.keys():
                other = f"{what}: {name} is another than fold.split(...) was given; give it there, or a name of its own"
                require(tables.same_target(table[name], known[name]), other)
        return table, ids

    def save_lockbox(self, columns: Mapping[str, Any]) -> None:
        """Save the predictions of the locked box, of the rows `lockbox`; where there are none, nothing.

        `predict` does it for most experiments. No command scores them but `exp unlock`.

        Args:
            columns: as of `save_oof`.

        Raises:
            Error: as of `save_oof`.
        """
        if len(self.lockbox):
            tables.save(self.folder / store.LOCKBOX, self._checked(columns, store.LOCKBOX, "fold.lockbox")[0])

    def save_test(self, columns: Mapping[str, Any]) -> None:
        """Save this fold's predictions of the test set, for `exp submit` and `exp blend`.

        Of a training on all rows, `submission.csv` is made of them, as `exp submit` would. There, and in the first
        fold, a warning says so when they do not fit the sample submission, or `Experiment.submission` raises.

        Args:
            columns: "id" and the predictions, in the same form as for `save_oof`.

        Raises:
            Error: as of `save_oof`.
        """
        from expkit.submission import alone, as_submission, fit_rows

        what, is_all, experiment = f"{self.title}, {store.TEST}", self.number is None, self._experiment
        table, oof = self._checked(columns, store.TEST)[0], self.folder / store.OOF
        tables.save(self.folder / store.TEST, table)

        def fitted_on() -> tables.Columns:  # what postprocess is fitted on
            return fit_rows([store.read_run(self._run_dir.version)]) if is_all else tables.load(oof)

        is_first = self.number == (self._exp.fold or [0])[0] and (experiment.postprocess is None or oof.exists())
        if not is_all and not is_first:
            return
        try:
            submission, *_ = as_submission(alone(table, what), experiment, what, fitted_on)
            if is_all:
                with open(self.folder / store.SUBMISSION, "w", newline="", encoding="utf-8") as stream:
                    tables.write_csv(stream, submission)
        except Error as error:
            later = f"{error}; `exp submit` will refuse these predictions, unless other folds differ"
            self._shared.warn_once(store.TEST, f"there is no {store.SUBMISSION}: {error}" if is_all else later)

    def _keep_state(self) -> None:
        """Keep what the training has learned, but for a trial of a study. The fold is done without it, too."""
        try:
            if self._final is not None and self._shared.trial is None:
                self._final(self.folder / store.STATE)
        except Exception as error:  # of any library
            files.remove(self.folder / store.STATE)
            lost = f"its state is not kept, and exp.start_from cannot name it: {described(error)}"
            self._shared.warn_once(store.STATE, f"{self.title}: {lost}")

    def cv(self, name: str) -> Any:
        """What the folds of this run have found, for the training on all rows.

            rounds = fold.cv("rounds")  # None: choose it

        Args:
            name: of a number that `train` has returned for each fold, as in `return {"rounds": rounds}`.

        Returns:
            the mean over the folds, rounded if all are whole numbers; None in the training of a fold, and with
            exp.debug=true.

        Raises:
            Error: a fold of exactly this configuration, code and data is missing, or has no such number.
        """
        if self.number is not None or self._exp.debug:
            return None
        found, what = self.found, f"fold.cv({name!r})"
        if isinstance(found, str):
            raise Error(f"{what}: {found}")
        values = found.get(name, [])
        is_number = bool(values) and all(tables.as_number(value) is not None for value in values)
        require(is_number, f"{what}: train() must return it, a number; the folds have {', '.join(found) or 'nothing'}")
        return round(statistics.fmean(values)) if all(isinstance(v, int) for v in values) else statistics.fmean(values)

    def uses(self, run: str | Path | store.Run) -> None:
        """Record that this training reads another run where expkit does not see it: in other processes, as files.

            fold.uses("001-larger-lr")  # its folds, and its training on all rows, as they are now

        What `expkit.load_run` gives is seen, and needs no such line.

        Args:
            run: a name or a folder, as for `expkit.load_run`.

        Raises:
            Error: there is no such run, it has no finished fold, or it is made from this one.
        """
        found = store.load_run(run)
        done = [part for part in found.parts if part.result]
        found.note_use(done, "files")
        require(bool(done), f"{found.title} has no finished fold")

    def finish(self, values: Mapping[str, Any]) -> None:
        """Compute the scores of the fold, and write its `result.json`: it is done then. expkit calls it.

        Args:
            values: what `train` has returned.

        Raises:
            Error: nothing was predicted, a metric fails, or a value is nan, inf, or not possible in JSON.
        """

        experiment = self._experiment
        kept = {
            name: scores.plain_value(value, f"{self.title}: train() returns {name}") for name, value in values.items()
        }
        self._progress.close()
        self._run_dir.require_current()
        found: dict[str, float] = {}
        failure = None
        if self.number is not None:
            has_oof = self._predicted["rows"] > 0
            is_scored = has_oof or experiment.is_scored_by_train
            require(is_scored, f"{self.title}: train() has predicted nothing: call fold.predict(...) in it")
            has_box = not self._exp.split.lockbox or (self.folder / store.LOCKBOX).exists()
            how = "call fold.predict(...), or fold.save_lockbox(...) with the rows fold.lockbox"
            require(has_box, f"{self.title}: train() has not predicted the rows of exp.split.lockbox: {how}")
            try:
                found = scores.scores(experiment, tables.load(self.folder / store.OOF) if has_oof else {}, kept)
            except Error as error:  # the training is kept: the same command scores it, when the metric is fixed
                failure = error
        unused = f"train() has not used exp.start_from={self._exp.start_from}: see fold.start_from"
        require(not self._exp.start_from or self._before is not None, f"{self.title}: {unused}")
        self._keep_state()
        result = {
            "fold": self.number,
            "scores": found,
            "values": {name: value for name, value in kept.items() if name not in found},
            **self._predicted,
            "dataset": self._dataset,
            "seconds": round(time.monotonic() - self._clock, 3),
            "before": self._before or 0.0,
            "started": self._started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if unnamed := self._provenance.unnamed():
            self._shared.warn_once("inputs", unnamed)
        self._provenance.write(self.folder, result, self.cache.read)
        self.checkpoint.remove()
        if failure is not None:
            raise failure
        metric, score = next(iter(found.items()), ("", None))
        self._tracker.summarize(({} if score is None else {"score": score}) | found | kept)
        scored = "trained" if score is None else f"{metric} {score:.4f}"
        epoch = f"  best epoch {kept['best_epoch']}" if found and "best_epoch" in kept else ""
        print(f"{self.title}  {scored}{epoch}  {result['seconds']:.1f} s", flush=True)

    def close(self, failed: bool) -> None:
        """End the line on the terminal and the W&B run; expkit calls it.

        Args:
            failed: whether the training has failed.
        """
        self._tracker.finish(failed)
        self._progress.close()


def _taken(values: Any, rows: numpy.ndarray) -> Any:
    """Some rows of an array, a DataFrame, a tensor, a list or a `Dataset` of PyTorch, by their indices (k,)."""
    if isinstance(values, list | tuple):
        return [values[row] for row in rows.tolist()]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.utils.data.Dataset):
        return torch.utils.data.Subset(values, rows.tolist())
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]
