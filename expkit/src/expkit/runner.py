"""A run: one experiment with one configuration. Trains the folds that are missing, and prints the score."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from expkit import scores, store
from expkit.code import named_plainly
from expkit.config import Config, Loaded, Mode, alike, chosen, container, recorded
from expkit.distributed import Ranks
from expkit.errors import (
    CANNOT_WRITE,
    Error,
    Failed,
    described,
    interruption,
    is_unread,
    report,
    require,
    terminable,
    warn,
)
from expkit.fold import Fold, Pruned, Reports
from expkit.history import Log
from expkit.project import display_path
from expkit.rundir import Command, Done, RunDir, Work, put_in_place, run_name
from expkit.scores import fold_summary, run_summary, submission_summary
from expkit.tracking import Tracking

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Run:
    """One experiment with one configuration. Constructing one writes nothing.

    Args:
        loaded: the experiment.
        config: its configuration.
        overrides: what of the configuration comes from the command line; it is in the name of the run.
        command: what it is trained for.

    Raises:
        Error: the folder holds the results of another configuration.

    Attributes:
        name: of the run, such as "001-larger-lr".
        place: where its results lie.
        failed: the folds that have failed.
        pruned: why the study has ended this run before its last fold; None: it has not.
    """

    def __init__(self, loaded: Loaded, config: Config, overrides: Sequence[str], command: Command) -> None:
        self.loaded, self.exp, self.command = loaded, config.exp, command
        self._ranks = Ranks(loaded.experiment.distributed)
        self.name = run_name(config, overrides)
        self.place = RunDir(loaded, config, self.name, command.id, chosen(overrides))
        self.failed: list[str] = []
        self.pruned: str | None = None
        self._done = Done(loaded, self.place)
        self._reports = Reports(command.trial, len(self._numbers()))
        self._work = Work(loaded, self.place, command, list(overrides), self.exp.debug, self._reports, self._ranks.size)
        about = {"choices": loaded.experiment.choices(config)} | container(self.exp)
        self._tracking = Tracking(loaded.name, self.name, about, self.exp.debug)

    @terminable()
    def train(self) -> float | None:
        """Train what is missing, then print and return the score.

        Returns:
            over all out-of-fold rows when every fold is asked for, else the mean over those that are; None with
            exp.mode=sub, and of a run that its study has pruned.

        Raises:
            Failed: a fold has failed, and the others are done.
            Error: the folder cannot be written.
        """
        if not self._ranks.leads:
            self._follow()
            return None
        if self.place.folder is None and not self.place.replaces and not self.exp.debug:
            choices = self.loaded.experiment.choices(self.place.config)
            if known := alike(recorded(self.loaded.name), self.place.config, choices):
                warn(f"the run {known} has the same configuration")
        try:
            with closing(self._missing()) as missing:  # an exception in a notebook must not keep the lock
                for number in missing:
                    self._train(number)
            self._ranks.end()
            return self._summarize()
        except OSError as error:
            if error.errno in CANNOT_WRITE and error.filename is None:  # a write, unlike an open, names no file
                error.filename = str(self.place.folder or self.place.versions.parent)
            raise

    @property
    def code(self) -> list[str] | None:
        """What trained the first of its folds that is done, as the two hashes of `code_hash`."""
        done = self.place.done_folds().values()
        return next((fold.result["code"] for fold in done if fold.result), None)

    def _follow(self) -> None:
        """Train what rank 0 says."""
        for fold in self._ranks.folds(self.exp.debug):
            with named_plainly(self.loaded.name):
                try:
                    self.loaded.experiment.train(self.exp, fold)
                except BaseException as error:
                    self._ranks.failure(error)  # rank 0 says it
                    raise

    def _numbers(self) -> list[int | None]:
        return [None] if self.exp.mode is Mode.sub else list(self.exp.fold or [])

    def _missing(self) -> Generator[int | None]:
        """The folds that are asked for and not done, each locked while it is in the caller's hands.

        Says which are done. A fold that another process trains is left to it; when no other is free, this waits.
        """
        missing = [number for number in self._numbers() if not self._done.say(number)]
        if missing:
            self.place.require_resumable(missing)
            self.place.prepare()
        said: set[int | None] = set()
        while missing and not self._is_pruned():
            number, lock = self._free(missing)
            has_nothing = len(missing) + len(self.failed) == len(self._numbers())
            if has_nothing and self.place.is_removed():
                lock.release()
                self.place.prepare()
                continue
            for other in missing[: missing.index(number)]:
                if other not in said:
                    print(f"{store.fold_title(other)} is being trained by another process", flush=True)
                    said.add(other)
            missing.remove(number)
            try:
                self.place.require_current()
                if not self._done.say(number):
                    yield number
            finally:
                lock.release()
        self._is_pruned()  # a study hears of the last fold, too

    def _is_pruned(self) -> bool:
        """Report the folds that are done to the study; whether it leaves out those that are missing."""
        if self.command.trial is not None and self.pruned is None:
            metric = next(iter(self.loaded.experiment.metrics))
            scores: list[float] = []
            for number in self._numbers():
                fold = self.place.fold(number)
                if fold is None or fold.result is None or metric not in fold.result["scores"]:
                    break
                scores.append(fold.result["scores"][metric])
            if self._reports.after_folds(scores):
                self.pruned = f"after {len(scores)} of {len(self._numbers())} folds"
        return self.pruned is not None

    def _free(self, missing: list[int | None]) -> tuple[int | None, BaseFileLock]:
        """The first of the folds that nobody trains, locked; when each is taken, the first, after its holder."""
        from filelock import Timeout

        for number in missing:
            lock = self.place.versions.part(self.place.version, store.fold_name(number))
            try:
                lock.acquire(blocking=False)
                return number, lock
            except Timeout:
                continue
        print(f"waiting for {store.fold_title(missing[0])}, which another process trains", flush=True)
        lock = self.place.versions.part(self.place.version, store.fold_name(missing[0]))
        lock.acquire()
        return missing[0], lock

    def _train(self, number: int | None) -> None:
        track = functools.partial(self._tracking.start, number, self.place.id, list(self.exp.runtime.tags))
        failure: BaseException | None = None
        fold = None
        try:
            fold = Fold(self._work, number, track)
            self._ranks.tell(fold)
            with Log(fold.folder / store.LOG), named_plainly(self.loaded.name), self._work.valid_ids.noted(self.exp):
                try:
                    self.loaded.experiment.train(self.exp, fold)
                    require(fold.finished is not None, f"{fold.title}: train.py ends without fold.finish()")
                except Pruned as pruned:
                    self.pruned = f"in {fold.title}, {pruned}"
                except BaseException as error:
                    failure = self._ranks.failure(error)
                if failure is not None:
                    raise failure
        except BaseException as error:
            failure = error
        if fold is not None:
            if failure is not None and not is_unread(failure):
                with suppress(OSError):  # the disk is full, or somebody has deleted the folder
                    store.fail_fold(fold.folder, described(failure))
            fold.close(failed=failure is not None, pruned=self.pruned is not None)
        if failure is None and self.pruned is None:
            done = self.place.fold(number)
            assert done is not None and done.result is not None, done
            print(f"{done.title}  {fold_summary(done, self._done.score(done))}", flush=True)
        if failure is None:
            return
        if not isinstance(failure, Exception) or interruption(failure):
            raise failure
        self.place.require_current()  # a folder that somebody has deleted explains any failure
        goes_on = len(self._numbers()) > 1 and self._ranks.size == 1  # other ranks would be in another fold
        if isinstance(failure, OSError | ImportError) or not goes_on:  # the next fold would fail alike
            if isinstance(failure, Error):
                raise Failed(str(failure)) from failure
            raise failure
        print(f"{store.fold_title(number)}  failed", flush=True)
        report(failure)
        self.failed.append(store.fold_title(number))

    # The score

    def _summarize(self) -> float | None:
        """Bring the scores up to date, let a version that replaces another count, and say what came out."""
        if self.failed:
            old = "; the old results stay until then" if self.place.replaces else ""
            raise Failed(f"failed: {', '.join(self.failed)}; the same command trains what is missing{old}")
        if self.pruned is not None:
            store.prune_run(self.place.version, self.pruned, self.exp.fold or [])
        if self.place.replaces and self.command.installs:
            run = put_in_place(self.place.versions, self.place.version, self.update_scores)
        else:
            self.place.require_current()
            run = self.update_scores(self.place.version)
        score = run.score_of()
        if self.pruned is not None:
            print(f"pruned {self.pruned}: other trials of the study were better so far", flush=True)
        elif self.exp.mode is Mode.sub:
            assert run.full is not None and run.full.result is not None
            print(submission_summary(run.full))
        elif score is not None:
            print(run_summary(run))
        print(f"results: {display_path(self.place.version)}", flush=True)
        if self.exp.mode is Mode.sub or score is None or self.pruned is not None:
            return None
        asked = self.exp.fold or []  # a study compares the same folds, whatever else has been trained
        is_all = set(asked) == set(score.folds)
        return score.value if is_all else statistics.fmean(score.folds[fold] for fold in asked)

    def update_scores(self, folder: Path) -> store.Run:
        """Bring the scores of a version up to date."""
        return scores.update(self.loaded.experiment, self.place.versions, folder)
