"""The fold: what `train(exp, fold)` gets, and what it reports to a study."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit import files, store
from expkit.config import Experiment
from expkit.data import Cache
from expkit.errors import Error, require, warn
from expkit.files import Broken
from expkit.progress import Checkpoint, History, Progress, ValidIds, as_number
from expkit.project import world_size
from expkit.rundir import RunDir, found_by_folds
from expkit.store import axis_of

if TYPE_CHECKING:
    from expkit.runner import Provenance
    from expkit.study import RunningTrial
    from expkit.tracking import Tracker

# What a fold writes when it ends: a training that goes on has not come so far.
OF_ITS_END = (store.OOF, store.TEST, store.SUBMISSION, store.ORIGIN, store.RESULT, store.FAILED)


@dataclass
class Shared:
    """What the folds of one run have in common."""

    run_dir: RunDir
    experiment: Experiment
    reports: Reports | None
    valid_ids: ValidIds = field(default_factory=ValidIds)
    warned: set[str] = field(default_factory=set)

    def warn_once(self, what: str, message: str) -> None:
        """Warn once per run about `what`."""
        if what not in self.warned:
            self.warned.add(what)
            warn(message)


class NoTracker:
    """As `tracking.Tracker`, when W&B is disabled."""

    run = None

    def log(self, *_: Any) -> None: ...

    summarize = finish = log


class Fold:
    """One training: of a fold, or on all rows. expkit makes it and gives it to `train(exp, fold)`.

    Attributes:
        number: the fold that is left out, from 0 on; None when exp.mode=sub trains on all rows.
        name: "fold0" or "full", the name of its folder.
        title: "fold 0" or "all data", for messages.
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
    """

    rank = 0

    def __init__(
        self, shared: Shared, number: int | None, provenance: Provenance, track: Callable[[], Tracker | NoTracker]
    ) -> None:
        self.number, self.name, self.title = number, store.fold_name(number), store.fold_title(number)
        self.folder = shared.run_dir.version / self.name
        self.finished: dict[str, Any] | None = None
        self.world_size = world_size()
        self._shared, self._provenance = shared, provenance
        self._started = datetime.now(UTC)
        self._progress = Progress(self.title)
        self._predicted: dict[str, Any] = {"rows": 0, "left_out": "", "target": None}
        self.cache = Cache(self.folder, shared.run_dir.debug)
        self.checkpoint = Checkpoint(self.folder, self._so_far)
        self._history = History(self.folder / store.HISTORY)
        metadata, rows = self._begin()
        self._tracker = track()
        self._clock = time.monotonic() - metadata.get("seconds", 0)
        for row in rows:
            self._tracker.log(row, axis_of(row))

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
            self.checkpoint.remove()
            for left in self.folder.iterdir():  # by a training without a checkpoint
                files.remove(left)
            return {}, []
        changes = self._shared.run_dir.changes_to_mark(self.name, metadata)
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
            **self._provenance.so_far(),
        }

    @property
    def wandb(self) -> Any:
        """The W&B run of the fold (`wandb.Run`), for pictures, tables, artifacts; None if W&B is disabled or failed."""
        return self._tracker.run

    def log(self, metrics: Mapping[str, Any], total: int | None = None) -> None:
        """Add one row to `history.csv`, to W&B and to the line on the terminal.

        Args:
            metrics: "epoch" or "step", from 1 on, and numbers by name: of Python, NumPy, or tensors of one number. None
                stays blank; anything else is left out, with a warning. A new name may come in any row. A row with both
                "epoch" and "step" is one of an epoch. A metric belongs to the axis that it is first logged with; with
                the other one, W&B gets it as `<name>_step` or `<name>_epoch`.
            total: how many epochs, or steps, there will be.
        """
        row: dict[str, float] = {}
        for name, value in metrics.items():
            number = as_number(value)
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

    def report(self, score: float, progress: float) -> None:
        """Tell a study how good this fold is so far. If the study has a pruner, it may end a bad trial here.

            fold.report(accuracy(valid), epoch / epochs)

        Without a study, or when several processes train the fold together, nothing happens.

        Args:
            score: as the metric that decides would give it, for example on the rows that are left out; nan counts as
                the worst.
            progress: the part of the fold's training that is done, above 0, at most 1. A study takes one report for
                each tenth, and compares its trials at the same tenth.

        Raises:
            Error: `score` is not a number, or `progress` is out of range.
        """
        value = as_number(score)
        if value is None or not 0 < progress <= 1:
            raise Error(f"{self.title}: fold.report({score!r}, {progress}): a number, and above 0 and at most 1")
        if self._shared.reports is not None and self.world_size == 1:
            self._shared.reports.during_fold(value, progress)

    def save_oof(self, columns: Mapping[str, Any]) -> None:
        """Save the out-of-fold predictions of the fold, of every row that `expkit.split` has left out.

        The score of the fold is computed from them. If `expkit.split` is called several times, for several data sets,
        they are of the rows of one call, or of all calls together. An experiment that splits by itself says so:
        `expkit.Experiment(..., own_split=True)`.

        Args:
            columns: "id", and what the metric needs, such as "target" and "prediction". Arrays, lists or tensors with
                one value per row, (n,); or with k > 1 values per row, (n, k), but for "id". Types are kept: an id or a
                label that is text stays text.

        Raises:
            Error: there is no "id"; an id is there twice, here or in another fold; rows are missing, or others than
                those left out; lengths differ; a shape such as (n, 1); nan or inf.
        """
        from expkit import tables
        from expkit.scores import checked

        what = f"{self.title}, {store.OOF}"
        table, left_out = checked(columns, what)
        if self.number is not None:
            if not self._shared.experiment.own_split:
                self._shared.valid_ids.require_all(self.number, table["id"], what)
            for number, other in self._shared.run_dir.done_folds().items():
                twice = tables.common(other.predictions(only="id")["id"], table["id"]) if number != self.number else []
                require(not twice, f"{what}: {len(twice)} ids are in fold {number} too, such as {twice[:1]}")
        self._predicted = {"rows": len(table["id"]), "left_out": left_out, "target": tables.target_hash(table)}
        tables.save(self.folder / store.OOF, table)

    def save_test(self, columns: Mapping[str, Any]) -> None:
        """Save this fold's predictions of the test set, for `exp submit` and `exp blend`.

        A warning says so when they do not fit the sample submission.

        Args:
            columns: "id" and the predictions, in the same form as for `save_oof`.

        Raises:
            Error: as of `save_oof`.
        """
        from expkit import tables
        from expkit.scores import checked
        from expkit.submission import check_test

        what, shared = f"{self.title}, {store.TEST}", self._shared
        table, _ = checked(columns, what)
        try:
            if not shared.run_dir.debug:  # which may predict fewer rows
                check_test(table, what, shared.experiment.inputs)
        except Error as error:
            shared.warn_once(store.TEST, f"{error}; `exp submit` will refuse these predictions")
        tables.save(self.folder / store.TEST, table)

    def save_submission(self, columns: Mapping[str, Any]) -> Path:
        """Write `submission.csv`. If there is an `input/**/sample_submission.csv`, it must fit that.

        The rows are put in the order of the sample.

        Args:
            columns: the columns of the file, in their order, each (n,), or (n, k) for k columns.

        Returns:
            the path of the file.

        Raises:
            Error: other columns or ids than in the sample, an id twice; nan or inf. Nothing is written then.
        """
        from expkit import tables
        from expkit.submission import find_sample, fitted

        what = f"{self.title}, {store.SUBMISSION}"
        table = tables.flat(tables.columns(columns, what))
        table = fitted(table, what, find_sample(self._shared.experiment.inputs, what))
        with open(self.folder / store.SUBMISSION, "w", newline="", encoding="utf-8") as stream:
            tables.write_csv(stream, table)
        return self.folder / store.SUBMISSION

    def cv(self, name: str) -> list[Any]:
        """What the folds of this run have recorded, for the training on all rows.

            rounds = 10 if exp.debug else round(statistics.fmean(fold.cv("best_iteration")))

        Args:
            name: of a value that each fold gave to `fold.finish(best_iteration=...)`.

        Returns:
            one value per fold, in the order of the folds.

        Raises:
            Error: this is the training of a fold; or a fold of exactly this configuration, code and data is missing, or
                has not recorded the value.
        """
        found, what = self.found, f"fold.cv({name!r})"
        if isinstance(found, str):
            raise Error(f"{what}: {found}")
        there = ", ".join(found) or "no value"
        require(name in found, f"{what}: the folds have recorded {there} with fold.finish(...)")
        return list(found[name])

    @functools.cached_property
    def found(self) -> dict[str, list[Any]] | str:
        """Everything that `cv` can return; a text: why there is nothing."""
        return found_by_folds(self._shared.run_dir, self._shared.run_dir.inputs, self.number)

    def finish(self, **values: Any) -> dict[str, Any]:
        """End the training: compute the scores of the fold, and write its `result.json`. The fold is done then.

        Args:
            values: more to keep in the result, such as best_epoch=12 or test_accuracy=0.98: numbers, or what JSON can
                hold. Names that begin with test_ are shown on the board.

        Returns:
            the scores, by the name of the metric, and `values`.

        Raises:
            Error: `save_oof` was not called, a metric fails, or a value is nan, inf, or not possible in JSON.
        """
        from expkit import tables
        from expkit.scores import plain_value, scores

        kept = {name: plain_value(value, f"{self.title}: fold.finish({name}=...)") for name, value in values.items()}
        self._progress.close()
        self._shared.run_dir.require_current()
        found: dict[str, float] = {}
        failure = None
        if self.number is not None:
            has_oof = self._predicted["rows"] > 0
            require(has_oof, f"{self.title}: train.py calls fold.finish() before fold.save_oof(...)")
            try:
                found = scores(self._shared.experiment, tables.load(self.folder / store.OOF))
            except Error as error:  # the training is kept: the same command scores it, when the metric is fixed
                failure = error
        result = {
            "fold": self.number,
            "scores": found,
            "values": kept,
            **self._predicted,
            "seconds": round(time.monotonic() - self._clock, 3),
            "started": self._started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._provenance.write(self.folder, result, self.cache.read)
        self.checkpoint.remove()
        if failure is not None:
            raise failure
        self.finished = found | kept
        self._tracker.summarize(({"score": next(iter(found.values()))} if found else {}) | self.finished)
        return self.finished

    def close(self, failed: bool) -> None:
        """End the line on the terminal and the W&B run; expkit calls it.

        Args:
            failed: whether the training has failed.
        """
        self._tracker.finish(failed)
        self._progress.close()


class FollowedFold(Fold):
    """The fold of a rank above 0: it has the checkpoint that rank 0 found; what it logs and saves goes nowhere.

    Args:
        task: what rank 0 tells: "fold", "checkpoint", "found".
        folder: a temporary one.
    """

    def __init__(self, task: Mapping[str, Any], folder: Path, rank: int, debug: bool) -> None:
        self.number = number = task["fold"]
        self.name, self.title = store.fold_name(number), store.fold_title(number)
        self.folder, self.finished, self.found = folder, None, task["found"]
        self.rank, self.world_size = rank, world_size()
        self.cache = Cache(folder, debug)
        self.checkpoint = Checkpoint(folder, dict)
        self.checkpoint.save = lambda *_, **__: False  # type: ignore[method-assign]
        self.checkpoint.file = Path(task["checkpoint"]) if task["checkpoint"] else None

    @property
    def wandb(self) -> None:
        return None

    def log(self, *_: Any, **__: Any) -> None: ...

    report = save_oof = save_test = log

    def save_submission(self, columns: Mapping[str, Any]) -> Path:
        return self.folder / store.SUBMISSION

    def finish(self, **values: Any) -> dict[str, Any]:
        self.finished = values
        return values


STEPS = 10  # of a fold: a pruner compares the trials of a study at the same step


class Pruned(Exception):
    """The pruner of the study ends this run. `train` must not catch it."""


class Reports:
    """Reports the scores of a run to its study, and asks whether to prune.

    Args:
        folds: how many are asked for.
    """

    def __init__(self, trial: RunningTrial, folds: int) -> None:
        self._trial, self._folds = trial, folds
        self._scores: list[float] = []

    def after_folds(self, scores: Sequence[float]) -> bool:
        """Report the folds that are done, each as the mean so far; whether to prune the run.

        Args:
            scores: of the folds that are done, in the order in which they are asked for.
        """
        is_bad = False
        for count in range(len(self._scores) + 1, len(scores) + 1):
            is_bad = self._trial.report(count * STEPS, statistics.fmean(scores[:count]))
        self._scores = list(scores)
        return is_bad and len(scores) < self._folds

    def during_fold(self, score: float, progress: float) -> None:
        """Report a score in the middle of a fold.

        Raises:
            Pruned: the pruner ends the run.
        """
        part = min(int(progress * STEPS + 1e-9), STEPS - 1)  # the last one is the fold's own
        step = len(self._scores) * STEPS + part
        if part > 0 and self._trial.report(step, statistics.fmean([*self._scores, score])):
            raise Pruned(f"after {part / STEPS:.0%} of its training")
