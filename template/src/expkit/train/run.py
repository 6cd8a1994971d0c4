"""A run: one experiment with one configuration. Trains the folds that are missing, and says the score."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from expkit import inputs, modules, record
from expkit import snapshot as snapshots
from expkit.config.experiment import Loaded, metric_name
from expkit.config.values import Config, Mode, container, differences
from expkit.errors import Error, interrupted, report, require, warn
from expkit.paths import code_root, output_dir, shown
from expkit.record import FoldRecord, RunRecord
from expkit.train import scores
from expkit.train.fold import Fold, describe, submission_of
from expkit.train.names import run_name
from expkit.train.tracking import Tracking
from expkit.train.versions import Versions

if TYPE_CHECKING:
    from filelock import BaseFileLock


@dataclass(frozen=True)
class Command:
    """What a run is trained for: a command line, a job of a sweep, a call from Python.

    Attributes:
        line: as it was typed; [] from Python.
        id: the same in every job of a sweep.
        is_copy: whether the code is a sweep's copy of the project, which nobody edits.
        git: the snapshot of that copy.
        installs: whether a run that replaces another counts as soon as it is whole; a sweep waits for all its jobs.
    """

    line: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    is_copy: bool = False
    git: snapshots.Snapshot | None = None
    installs: bool = True


class Run:
    """One experiment with one configuration, and the version of its results that a command works in.

    Constructing one writes nothing.

    Args:
        loaded: the experiment.
        config: its configuration.
        overrides: what of the configuration comes from the command line; it is in the name of the run.
        command: what it is trained for.

    Raises:
        Error: the folder holds the results of another configuration.

    Attributes:
        name: of the run, such as "001-larger-lr".
        id: of the version; its W&B ids begin with it. "" until there is one.
        folder: the version that this command works in; None until there is one.
        failed: the folds that have failed.
        replaces: whether this version is to take the place of one that counts now.
    """

    def __init__(self, loaded: Loaded, config: Config, overrides: Sequence[str], command: Command) -> None:
        self.loaded, self.config, self.exp = loaded, config, config.exp
        self.overrides, self.command = list(overrides), command
        self.name = run_name(self.exp.name, overrides)
        require(
            loaded.name not in record.NOT_EXPERIMENTS,
            f"experiments/{loaded.name}: the name is taken by a folder of output/; rename the experiment",
        )
        output = output_dir() / "debug" if self.exp.debug else output_dir()
        self.versions = Versions(output / loaded.name, self.name)
        self.values = container(config)
        self.failed: list[str] = []
        self.id = ""
        self.folder: Path | None = None
        self._tracking = Tracking(loaded.name, self.name, self.values["exp"], self.exp.debug)
        self._without_git = False
        base = None if self.exp.debug else self.versions.counting()
        self._base = record.version_number(base) if base else 0
        self.replaces = base is not None and (config.overwrite or self._is_abandoned(base))
        self._use(self._existing())

    def _is_abandoned(self, folder: Path) -> bool:
        """Whether a version of another configuration has no result and nobody at work: nothing that could be lost."""
        run = record.read_run(folder)
        if run.info is None or run.problems or not differences(run.info["config"], self.config):
            return False
        parts = [*run.folds.values(), *([run.full] if run.full else [])]
        return not any(part.result for part in parts) and not self.versions.held(folder)

    def _existing(self) -> Path | None:
        """The version to go on with; None: one is to be made.

        Raises:
            Error: what is there is of another configuration, or nobody knows of which.
        """
        if self.exp.debug:
            return None
        if not self.replaces:
            counting = self.versions.counting()
            return counting if counting is not None and self._holds_this(counting) else None
        for folder in self.versions.newest_first():
            info = record.read_run_info(folder)
            later = record.version_number(folder) > self._base
            mine = info is not None and (later or self.command.id in info["commands"])
            if mine and info and not differences(info["config"], self.config) and self._is_of_this_code(folder):
                return folder
        return None

    def _holds_this(self, folder: Path) -> bool:
        """Whether a folder holds this configuration, or, empty, may take it."""
        run = record.read_run(folder)
        if run.info is None:
            found = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
            if set(found) <= {record.CONFIG}:  # a kill between making it and describing it
                return False
            what = next(iter(run.problems), "it has no run.json")
            raise Error(
                f"{shown(folder)}: {what}, so that nobody knows what its results are: move it, or overwrite=true"
            )
        if changes := differences(run.info["config"], self.config):
            raise Error(
                f"{shown(folder)} holds another configuration ({'; '.join(changes)}): "
                "give this one a parameter set and a name of its own (exp/NNN.yaml), "
                "or replace the old run with overwrite=true"
            )
        return True

    def _is_of_this_code(self, folder: Path) -> bool:
        """Whether an unfinished version goes on: its folds are of the code as it is, or somebody is at work there."""
        run = record.read_run(folder)
        done = [*run.done.values(), *([run.full] if run.full and run.full.result else [])]
        return not any(map(self._changed_code, done)) or bool(self.versions.held(folder))

    def _changed_code(self, fold: FoldRecord) -> list[str]:
        return modules.changed_since(fold.origin().get("code", {}), self.loaded.unused)

    def _changed_data(self, fold: FoldRecord) -> list[str]:
        trained_with = fold.result["data"] if fold.result else None
        if trained_with is None or trained_with == self._data[0]:
            return []
        return inputs.changes(record.read_data(output_dir(), trained_with) or {}, self._data[1])

    @functools.cached_property
    def _data(self) -> tuple[str, inputs.Manifest]:
        return inputs.take(self.loaded.experiment.inputs)

    def _use(self, folder: Path | None) -> None:
        info = record.read_run_info(folder) if folder is not None else None
        self.folder, self.id = folder, str(info["id"]) if info else ""

    # What is done

    def fold(self, number: int | None) -> FoldRecord | None:
        """A fold as it lies on the disk; None while there is no folder for it."""
        return None if self.folder is None else record.read_fold(self.folder, number, self.id)

    def done_folds(self) -> dict[int, FoldRecord]:
        """The folds that are done, of whichever command."""
        return {} if self.folder is None else record.read_run(self.folder).done

    def require_current(self) -> None:
        """Raise an `Error` when the version of this command can no longer count."""
        assert self.folder is not None
        self.versions.require_current(self.folder, self.id)

    def snapshot(self) -> snapshots.Snapshot | None:
        """The code as it is now; a sweep's copy has its own."""
        if self.command.is_copy or self._without_git:
            return self.command.git
        found = snapshots.take(code_root())
        self._without_git = found is None  # said once
        return found

    # Training

    def train(self) -> float | None:
        """Train what is missing, then print and return the score.

        Returns:
            over all out-of-fold rows when every fold is done, else the mean over the folds that are; None with
            exp.mode=sub.

        Raises:
            Error: a fold has failed, and the others are done; or the folder cannot be written.
        """
        with closing(self._missing()) as missing:  # an exception in a notebook must not keep the lock
            for number in missing:
                self._train(number)
        return self._summarize()

    def _numbers(self) -> list[int | None]:
        return [None] if self.exp.mode is Mode.sub else list(self.exp.fold or [])

    def _missing(self) -> Generator[int | None]:
        """The folds that are asked for and not done, each locked while it is in the caller's hands.

        Says which are done. A fold that another process trains is left to it; when no other is free, this waits.
        """
        missing = [number for number in self._numbers() if not self._say_done(number)]
        if missing:
            self._prepare()
        said: set[int | None] = set()
        while missing:
            number, lock = self._free(missing)
            for other in missing[: missing.index(number)]:
                if other not in said:
                    print(f"{record.fold_title(other)} is being trained by another process", flush=True)
                    said.add(other)
            missing.remove(number)
            try:
                self.require_current()
                if not self._say_done(number):
                    yield number
            finally:
                lock.release()

    def _free(self, missing: list[int | None]) -> tuple[int | None, BaseFileLock]:
        """The first of the folds that nobody trains, locked; when each is taken, the first, after its holder."""
        from filelock import Timeout

        assert self.folder is not None
        for number in missing:
            lock = self.versions.part(self.folder, record.fold_name(number))
            try:
                lock.acquire(blocking=False)
                return number, lock
            except Timeout:
                continue
        print(f"waiting for {record.fold_title(missing[0])}, which another process trains", flush=True)
        lock = self.versions.part(self.folder, record.fold_name(missing[0]))
        lock.acquire()
        return missing[0], lock

    def _say_done(self, number: int | None) -> bool:
        fold = self.fold(number)
        if fold is None or self.exp.debug:
            return False
        if fold.unscored is not None:
            fold = self._score_again(fold)
        if fold.result is None:
            if fold.problem:
                warn(f"{shown(fold.folder)}: {fold.problem}; it counts as missing")
            return False
        print(f"{fold.title} is done: {describe(fold, next(iter(self.loaded.experiment.metrics)))}", flush=True)
        for what, changed in (("code", self._changed_code(fold)), ("data", self._changed_data(fold))):
            if changed:
                warn(
                    f"the {what} has changed since {fold.title} ({', '.join(changed[:3])}): what is trained now is "
                    "marked as different; overwrite=true trains it all again"
                )
        return True

    def _score_again(self, fold: FoldRecord) -> FoldRecord:
        """A fold whose metric has failed is trained already: its predictions are scored now."""
        assert fold.unscored is not None and self.folder is not None
        found = scores.scores(self.loaded.experiment, fold.predictions())
        record.score_result(fold, found)
        return record.read_fold(self.folder, fold.number, self.id)

    def _prepare(self) -> None:
        """Make the version that this command works in, unless it is there."""
        _require_writable(self.versions.parent)
        with self.versions.locked():
            if self.exp.debug:
                self.versions.clear()
            else:
                self.versions.clean()
            self._use(self._existing())
            if self.folder is None:
                self._use(self._made())
            assert self.folder is not None
            self._note_command(self.folder)

    def _made(self) -> Path:
        base = self.versions.counting()
        before = record.read_run_info(base) if base else None
        alike = before is not None and not differences(before["config"], self.config)
        about = {
            "experiment": self.loaded.name,
            "run": self.name,
            "metric": metric_name(self.loaded.experiment.metric),
            "greater_is_better": self.loaded.experiment.greater_is_better,
            "n_folds": self.exp.n_folds,
            "config": {"exp": self.values["exp"]},
            "commands": [self.command.id],
            "same_as": before["id"] if before and alike else None,
        }
        config = OmegaConf.to_yaml(self.values)
        if base is not None and not self.replaces and before is None:  # an empty folder
            self.versions.describe(base, about, config)
            return base
        return self.versions.make(about, config)

    def _note_command(self, folder: Path) -> None:
        """Remember that this command works on a version that replaces another: its late jobs find it in place."""
        info = record.read_run_info(folder)
        if self.replaces and info is not None and self.command.id not in info["commands"]:
            commands = [*info["commands"], self.command.id]
            record.describe_again(folder, info | {"commands": commands})

    def _train(self, number: int | None) -> None:
        assert self.folder is not None
        name = record.fold_name(number)
        tracker = self._tracking.start(name, self.id, list(self.exp.runtime.tags))
        failure: BaseException | None = None
        fold = None
        try:
            fold = Fold(self, self.folder / name, number, tracker)
            self.loaded.experiment.train(self.exp, fold)
            require(fold.finished is not None, f"{fold.title}: train.py ends without fold.finish()")
        except BaseException as error:
            failure = error
        if fold is not None:
            fold.close(failed=failure is not None)
        else:
            tracker.finish(failed=True)
        if failure is None:
            done = self.fold(number)
            assert done is not None and done.result is not None, done
            print(f"{done.title}  {describe(done, next(iter(self.loaded.experiment.metrics)))}", flush=True)
            return
        if not isinstance(failure, Exception) or interrupted(failure):
            raise failure
        self.require_current()  # a folder that somebody has deleted explains any failure
        if isinstance(failure, OSError) or len(self._numbers()) == 1:
            raise failure
        print(f"{record.fold_title(number)}  failed", flush=True)
        report(failure)
        self.failed.append(record.fold_title(number))

    # The score

    def _summarize(self) -> float | None:
        """Bring the scores up to date, let a version that replaces another count, and say what came out."""
        if self.failed:
            old = "; the old results stay until then" if self.replaces else ""
            raise Error(f"failed: {', '.join(self.failed)}; the same command trains what is missing{old}")
        assert self.folder is not None
        if self.replaces and self.command.installs:
            run = self.versions.put_in_place(self.folder, self.update_scores)
        else:
            self.require_current()
            run = self.update_scores(self.folder)
        score = run.score()
        if self.exp.mode is Mode.sub:
            assert run.full is not None and run.full.result is not None
            print(submission_of(run.full))
        elif score is not None:
            print(say_score(run))
        print(f"results: {shown(self.folder)}", flush=True)
        return None if self.exp.mode is Mode.sub or score is None else score.value

    def update_scores(self, folder: Path) -> RunRecord:
        """Bring the scores of a version up to date."""
        return scores.update(self.loaded.experiment, self.versions, folder)


def say_score(run: RunRecord) -> str:
    """The scores of a run on one line: the metric that decides, and the others."""
    parts = []
    for metric in run.metrics:
        score = run.score(metric)
        if score is not None:
            deviation = "" if score.std is None else f" ± {score.std:.4f}"
            parts.append(f"{metric} {score.value:.4f}{deviation}")
    marks = [mark for mark in run.marks if mark.startswith("mixed")]
    return f"CV {'  '.join(parts)}  {len(run.done)}/{run.n_folds} folds{f'  ({chr(44).join(marks)})' if marks else ''}"


def _require_writable(folder: Path) -> None:
    """Make `folder`.

    Raises:
        Error: it cannot be made or written.
    """
    above = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not above.is_dir():
        raise Error(f"cannot write {folder}: {above} is not a folder")
    probe = folder / f".{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Error(f"cannot write {folder}: {error.strerror}") from error
