"""Runs an experiment with one configuration: trains the folds that are missing, and prints the score."""

from __future__ import annotations

import copy
import functools
import itertools
import os
import platform
import secrets
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from expkit import errors, scores, snapshot, store
from expkit.code import clear_caches, code_hash, files_read, loaded_sources, named_plainly, runs_read, watch_folder
from expkit.config import Config, Loaded, Mode, SplitMethod, chosen
from expkit.data import Manifest, changes_since, hash_inputs, input_files, manifest_hash, unnamed_files, write_manifest
from expkit.errors import Error, Failed, require, warn
from expkit.fold import Fold, Pruned, Shared
from expkit.project import code_root, display_path, input_dir, installed_packages, output_dir, world_size
from expkit.rundir import RunDir, name_source, put_in_place, run_name
from expkit.tracking import logged

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from expkit.distributed import Ranks
    from expkit.study import RunningTrial


OVER = "took longer than exp.time_limit="


@dataclass(frozen=True)
class Command:
    """What a run is trained for: a command line, a job of a sweep, a call from Python.

    Attributes:
        line: as it was typed; [] from Python.
        id: the same in every job of a sweep.
        is_copy: whether the code is a sweep's copy of the project, which nobody edits.
        git: the snapshot of a sweep, taken when it was started.
        installs: whether a run that replaces another counts as soon as it is whole; a sweep waits for all its jobs.
        trial: of the study that the run is trained for, if any.
    """

    line: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    is_copy: bool = False
    git: store.Git | None = None
    installs: bool = True
    trial: RunningTrial | None = None


class Runner:
    """Trains one experiment with one configuration. Constructing one writes nothing.

    Args:
        loaded: the experiment.
        config: its configuration.
        overrides: what of the configuration comes from the command line; it is in the name of the run.
        command: what it is trained for.
        name: of the run; None: as `run_name` gives it.

    Raises:
        Error: the folder holds the results of another configuration; or several processes are to train together, and
            the experiment is not prepared for them: each would take a fold of its own.

    Attributes:
        name: of the run, such as "001-larger-lr".
        run_dir: where its results lie.
        failed: the folds that have failed.
        pruned: why the study has ended this run before its last fold; None: it has not.
    """

    def __init__(
        self, loaded: Loaded, config: Config, overrides: Sequence[str], command: Command, name: str | None = None
    ) -> None:
        self.loaded, self.exp, self.command, self.overrides = loaded, config.exp, command, list(overrides)
        name_source(loaded.name, config)
        has_rows = not (loaded.experiment.own_split or loaded.experiment.is_scored_by_train)
        no_rows = "this experiment splits by itself (own_split=True) or returns its score: set it to 0"
        require(has_rows or not self.exp.split.lockbox, f"exp.split.lockbox={self.exp.split.lockbox}: {no_rows}")
        self.name = name or run_name(config, overrides)
        self.failed: list[str] = []
        self.pruned: str | None = None
        self._ranks = self._meet()
        self.run_dir = RunDir(loaded, config, self.name, command.id, chosen(overrides))
        self._numbers = [None] if self.exp.mode is Mode.sub else list(self.exp.fold or [])
        self._shared = Shared(self.run_dir, command.trial, len(self._numbers), self._ranks)
        self._has_git = True
        self._reader = store.Reader(f"{loaded.name}/{self.name}")

    def _meet(self) -> Ranks | None:
        """The processes that train together; None for a single one."""
        count = max(world_size(), self.exp.runtime.processes)
        require(
            count == 1 or self.loaded.experiment.distributed,
            f"{count} processes train together (torchrun), and this experiment is not prepared for that: "
            "say expkit.Experiment(..., distributed=True) when its train() is",
        )
        if world_size() == 1:
            return None
        from expkit.distributed import Ranks

        return Ranks()

    @errors.terminable()
    def train(self) -> float | None:
        """Train what is missing, then print and return the score.

        Returns:
            over all out-of-fold rows when every fold is asked for, else the mean over those that are; None with
            exp.mode=sub, and of a run that its study has pruned.

        Raises:
            Failed: a fold has failed, and the others are done.
            Error: the folder cannot be written.
        """
        if self._ranks is not None and self._ranks.rank > 0:
            self._follow(self._ranks)
            return None
        try:
            with closing(self._missing()) as missing:  # an exception in a notebook must not keep the lock
                for number in missing:
                    self._train(number)
            if self._ranks is not None:
                self._ranks.end(self.pruned is not None)
            return self._summarize()
        except OSError as error:
            if error.errno in errors.CANNOT_WRITE and error.filename is None:  # a write, unlike an open, names no file
                error.filename = str(self.run_dir.folder)
            raise
        finally:
            if self._reader.uses:  # the next run in this process has to read by itself
                clear_caches()

    @property
    def code(self) -> list[str] | None:
        """The two hashes of `code_hash`, of the first fold that is done."""
        done = self.run_dir.done_folds().values()
        return next((list(fold.result["code"]) for fold in done if fold.result), None)

    @property
    def metric_hash(self) -> str | None:
        """What scores it, as `Run.metric_hash`."""
        return store.read_run(self.run_dir.version).metric_hash

    # Which folds

    def _missing(self) -> Generator[int | None]:
        """The folds that are asked for and not done, each locked while the caller trains it.

        Prints which are done. One that has failed comes last: its failure may end the process. But one that has come
        to exp.time_limit goes on from its checkpoint before others begin, which may not end within it either. A fold
        that another process trains is left to it; when no other is free, this waits.
        """

        def comes_last(number: int | None) -> bool:
            fold = self.run_dir.fold(number)
            if fold is None or not fold.failure:
                return False
            is_slow = OVER in fold.failure and not fold.failure.endswith(errors.KILLED)
            return not (is_slow and (fold.folder / store.CHECKPOINT).exists())

        missing = [number for number in self._numbers if not self._is_done(number)]
        missing.sort(key=comes_last)
        if missing:
            file = input_dir() / self.exp.split.file
            is_there = self.exp.split.method is not SplitMethod.column or file.is_file()
            require(is_there, f"exp.split.file={self.exp.split.file}: there is no {display_path(file)}")
            self.run_dir.require_startable(missing)
            self.run_dir.prepare()
            done = [fold for fold in store.read_run(self.run_dir.version).parts if fold.result]
            if done and not self.exp.debug:
                self._warn_of_changes(done[0])
        while missing and not self._is_pruned():
            number, lock = self._free(missing)
            missing.remove(number)
            with lock:
                self.run_dir.require_current()
                if not self._is_done(number):
                    yield number
        self._is_pruned()  # a study hears of the last fold, too

    def _is_done(self, number: int | None) -> bool:
        """Whether a fold is done. If so, prints it, and warns once when the code or the data has changed since."""
        fold = self.run_dir.fold(number)
        if fold is None or self.exp.debug:
            return False
        if fold.unscored is not None:
            # A metric has failed: its predictions are scored now.
            experiment = self.loaded.experiment
            predictions = {} if experiment.is_scored_by_train else fold.predictions()
            store.score_result(fold, scores.scores(experiment, predictions, fold.unscored["values"]))
            fold = self.run_dir.fold(number)
            assert fold is not None
        if fold.result is None:
            if fold.problem:
                if os.path.isfile(result := fold.folder / store.RESULT):
                    open(result, "rb").close()  # it may be whole: one that may not be read ends the command
                warn(f"{display_path(fold.folder)}: {fold.problem}; it counts as missing")
            return False
        print(f"{self.run_dir.title(number)} is done", flush=True)
        self._warn_of_changes(fold)
        return True

    def _warn_of_changes(self, fold: store.FoldRecord) -> None:
        """Warn once when the code or the data has changed since a fold was trained."""
        how = "exp.mode=sub" if fold.number is None else "exp.fold=null"
        for what, changed in changes_since(fold.origin(), self.loaded.ignored, self.run_dir.inputs).items():
            self._shared.warn_once(
                f"{what} changed",
                f"the {what} has changed since {fold.title} ({', '.join(changed[:3])}); what this run trains from now "
                f"on is marked; {how} overwrite=true trains again",
            )

    def _is_pruned(self) -> bool:
        """Report the folds that are done to the study; whether its pruner ends the run here."""
        if self.command.trial is not None and self.pruned is None:
            results = store.read_run(self.run_dir.version).results
            first = itertools.takewhile(lambda number: number in results, self._numbers)
            found = [next(iter(results[number]["scores"].values())) for number in first if number is not None]
            if self._shared.after_folds(found):
                self.pruned = f"after {len(found)} of {len(self._numbers)} folds"
        return self.pruned is not None

    def _free(self, missing: list[int | None]) -> tuple[int | None, AbstractContextManager[Any]]:
        """Lock the first fold that nobody trains. When all are taken, wait for the first one."""
        from filelock import Timeout

        for number in missing:
            with suppress(Timeout):
                return number, self._lock(number).acquire(blocking=False)
        print(f"waiting for {self.run_dir.title(missing[0])}, which another process trains", flush=True)
        return missing[0], self._lock(missing[0]).acquire()

    def _lock(self, number: int | None) -> BaseFileLock:
        return self.run_dir.versions.part(self.run_dir.version, store.fold_name(number))

    # One fold

    def _train(self, number: int | None) -> None:
        """Train a fold. Raises its error if the other folds would fail in the same way; else reports it."""
        fold = None
        try:
            own_id = self.run_dir.id if self.exp.mode is Mode.sub else ""
            self._reader.begin(own_id, runs_read(self.loaded.name))
            provenance = Provenance(self.run_dir, self.command, self.overrides, self._snapshot(), self._reader)
            fold = Fold(self._shared, number, provenance)
            if self._ranks is not None:
                checkpoint = None if fold.checkpoint.file is None else str(fold.checkpoint.file)
                self._ranks.tell({"fold": number, "checkpoint": checkpoint, "found": fold.found})
            with logged(fold.folder / store.LOG):
                if (failure := self._call(fold)) is not None:
                    raise failure
        except BaseException as error:
            if fold is not None:
                with suppress(OSError):  # the disk is full, or somebody has deleted the folder
                    store.fail_fold(fold.folder, errors.described(error))
                fold.close(failed=True)
            self._fail(number, error)
        else:
            fold.close(failed=False)

    def _call(self, fold: Fold) -> BaseException | None:
        """Call the experiment's `train`; return the error, if any."""
        try:
            with self._time_limit(fold), named_plainly(self.loaded.name), store.reading(self._reader):
                exp = copy.deepcopy(self.exp)  # what one fold changes in it, the next must not see
                values = _with_room(self.loaded.experiment.train, exp, fold)
                kind = type(values).__name__
                require(isinstance(values, Mapping | None), f"train() must return a dict or nothing, not {kind}")
                fold.finish(values or {})
        except Pruned as pruned:
            self.pruned = f"in {fold.title}, {pruned}"
        except BaseException as error:
            if errors.is_exit(error):
                error = Error(f"train() calls sys.exit({error}): to end a training, return, or raise an exception")
            elif isinstance(error, UnboundLocalError) and fold._had_no_loop:
                why = "its loop was done, and began no epoch: give the variable a value before the loop"
                error = Error(f"{fold.title}: {error}: {why}")
            return error if self._ranks is None else self._ranks.failure(error)
        return None

    def _time_limit(self, fold: Fold) -> AbstractContextManager[None]:
        """Rank 0 stands for the others: `torchrun` ends them with it."""
        limit = self.exp.time_limit if fold.rank == 0 else None
        over = f"{fold.title} {OVER}{limit}"
        again = "raise the limit; the same command goes on from the fold's last checkpoint, if it has one"
        seconds = errors.seconds_of(limit, "exp.time_limit")
        return errors.time_limit(seconds, f"{over}: {again}", fold.folder / store.FAILED)

    def _fail(self, number: int | None, failure: BaseException) -> None:
        """Report the error of a fold; raise it when it ends the run."""
        if stop := errors.interruption(failure):
            stop.add_note(f" in {self.run_dir.title(number)} of {self.loaded.name}/{self.name}")
        if not isinstance(failure, Exception) or stop:
            raise failure
        self.run_dir.require_current()  # a folder that somebody has deleted explains any failure
        is_alone = len(self._numbers) == 1 or self._ranks is not None  # other ranks would be in another fold
        is_slow = isinstance(failure, Failed) and not self.run_dir.done_folds()  # at exp.time_limit, where all may be
        is_general = isinstance(failure, OSError | ImportError | errors.Circular)
        if is_general or is_alone or is_slow:  # the next would fail alike
            if isinstance(failure, Error):
                others = "" if is_alone else "; no other fold is begun, as none has ended within it"
                raise Failed(f"{failure}{others if is_slow else ''}") from failure
            raise failure
        print(f"{self.run_dir.title(number)}  failed", flush=True)
        errors.report(failure)
        self.failed.append(self.run_dir.title(number))

    def _follow(self, ranks: Ranks) -> None:
        """Train the folds that rank 0 names. Rank 0 prints for all; errors are shown from every rank."""
        from expkit.distributed import FollowedFold

        for task in ranks.tasks():
            with (
                tempfile.TemporaryDirectory(prefix="expkit-rank-") as folder,
                open(os.devnull, "w") as nowhere,
                redirect_stdout(nowhere),
            ):
                fold = FollowedFold(task, Path(folder), ranks, self.run_dir, self.command.trial is not None)
                if (failure := self._call(fold)) is not None:
                    raise failure

    def _snapshot(self) -> store.Git | None:
        """The snapshot of the code; in a sweep, that of its start. None for debug runs, and without git."""
        if self.exp.debug:
            return None
        if self.command.git is not None or self.command.is_copy or not self._has_git:
            return self.command.git
        taken = snapshot.take(code_root())
        self._has_git = taken is not None  # said once
        return taken

    # The score

    def _summarize(self) -> float | None:
        """Bring the scores up to date, install a version that replaces another, and print the score."""
        if self.failed:
            old = "; the old results stay until then" if self.run_dir.replaces else ""
            raise Failed(f"failed: {', '.join(self.failed)}; the same command trains what is missing{old}")
        if self.exp.mode is not Mode.sub:
            store.prune_run(self.run_dir.version, self.pruned)
        update = functools.partial(scores.update, self.loaded.experiment, self.run_dir.versions)
        if self.run_dir.replaces and self.command.installs:
            run = put_in_place(self.run_dir.versions, self.run_dir.version, update)
        else:
            self.run_dir.require_current()
            run = update(self.run_dir.version)
        score = run.score_of()
        if self.pruned is not None:
            print(f"pruned {self.pruned}: other trials of the study were better so far", flush=True)
        elif self.exp.mode is Mode.sub:
            print(scores.submission_summary(run))
        elif score is not None:
            print(scores.run_summary(run))
        print(f"results: {display_path(self.run_dir.version)}", flush=True)
        if self.exp.mode is Mode.sub or score is None or self.pruned is not None:
            return None
        asked = self.exp.fold or []  # a study compares the same folds, whatever else has been trained
        is_all = set(asked) == set(score.folds)
        return score.value if is_all else statistics.fmean(score.folds[fold] for fold in asked)


def _with_room(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


# CPython takes memory for its frames in blocks. Where a loop calls functions at the end of one, each call takes and
# frees a block, as in 33,000 calls while SciPy is imported below Hydra: a fifth of a second. This asks for a large one.
_with_room.__code__ = _with_room.__code__.replace(co_stacksize=9000)


@dataclass
class Provenance:
    """What a fold is trained with: code, packages, device, data; for its checkpoint and its result.

    Args:
        overrides: of the command line.
        git: the snapshot of the code; None: there is none.
        reader: what the training has read of other runs.
    """

    run_dir: RunDir
    command: Command
    overrides: list[str]
    git: store.Git | None
    reader: store.Reader
    _resumed: int = 0
    _environments: list[str] = field(default_factory=list)  # of the processes before this one
    _earlier: list[dict[str, Any]] = field(default_factory=list)  # code and data of those of them that had others
    _read_before: list[store.Parent] = field(default_factory=list)  # by them

    def __post_init__(self) -> None:
        self._data: str | None = None
        self._manifest: Manifest = {}
        inputs, self._loaded = self.run_dir.inputs, self.run_dir.loaded
        if self.run_dir.debug and inputs:
            input_files(inputs)  # says what is not there
        if not self.run_dir.debug:
            self._data, self._manifest = hash_inputs(inputs)
            write_manifest(output_dir(), self._data, self._manifest)
        self._opened = watch_folder(input_dir())

    def unnamed(self) -> str:
        """A warning of what of `input/` the training has read, and its record lacks; "": nothing that is seen."""
        inputs = self.run_dir.inputs
        if inputs is None or not (names := unnamed_files(self._opened - self._manifest.keys(), inputs)):
            return ""
        first, more = display_path(input_dir() / names[0]), f" and {len(names) - 1} more" * (len(names) > 1)
        was, them = ("were", "them") if more else ("was", "it")
        lacks = f"{first}{more} {was} read, and inputs={[*inputs]} in train.py does not name {them}"
        return f"{lacks}: no mark will say when the data changes"

    def resume(self, checkpoint: Mapping[str, Any], changes: Collection[str]) -> None:
        """Go on after other processes.

        Args:
            checkpoint: what it remembers of them, as `so_far`.
            changes: which of "code" and "data" are others now.
        """
        self._resumed, self._environments = checkpoint["resumed"] + 1, checkpoint["environments"]
        self._earlier = [*checkpoint["earlier"], *({what: checkpoint[what]} for what in changes)]
        self._read_before = msgspec.convert(checkpoint.get("parents", []), list[store.Parent])

    def _parents(self) -> list[dict[str, Any]]:
        """The runs that the training has read, as JSON has them."""
        return [asdict(one) for one in store.merged([*self._read_before, *self.reader.uses], by_read=True)]

    def so_far(self) -> dict[str, Any]:
        """The part of the metadata of a checkpoint."""
        return {
            "resumed": self._resumed,
            "environments": [*self._environments, environment_text(environment())],
            "earlier": self._earlier,
            "parents": self._parents(),
            "code": self._code(loaded_sources(self._loaded.name)),
            "data": self._data,
        }

    def write(self, folder: Path, result: Mapping[str, Any], cached: set[str]) -> None:
        """Write `result.json` and `origin.json` of a fold: it is done then.

        Args:
            result: what is known of it beside this.
            cached: the files of `input/cache/` that it has used.
        """
        sources = loaded_sources(self._loaded.name)
        code = self._code(sources)
        if self.git is not None and not self.command.is_copy:
            self.git = snapshot.amended(code_root(), self.git, sources)
        if cached:
            self._manifest |= hash_inputs([], cached=cached)[1]
            self._data = manifest_hash(self._manifest)
            write_manifest(output_dir(), self._data, self._manifest)
        made = origin(self.command.line, self.overrides)
        environments = dict.fromkeys([*self._environments, environment_text(made["environment"])])
        known: dict[str, Any] = {
            "run": self.run_dir.id,
            "git": self.git,
            "code": code_hash(code),
            "data": self._data,
            "environment": store.THEN.join(environments),
        }
        known |= {"earlier": self._earlier} if self._earlier else {}
        known |= {"parents": parents} if (parents := self._parents()) and not self.run_dir.debug else {}
        made |= {"code": code, "data": self._data, "git": self.git, "resumed": self._resumed}
        store.write_result(folder, {**result, **known}, made)

    def _code(self, sources: Mapping[str, bytes]) -> dict[str, Any]:
        """Hashes of the code that this process has loaded or read, by path."""
        from expkit.fingerprint import file_hashes

        return file_hashes({**files_read(self._loaded.name), **sources}, self._loaded.ignored)


def origin(command: list[str], overrides: list[str]) -> dict[str, Any]:
    """What `origin.json` says of every fold: command, machine, packages."""
    system = platform.system(), platform.release(), platform.machine(), *platform.libc_ver()  # starts no other program
    return {
        "command": command,
        "overrides": overrides,
        "host": socket.gethostname(),
        "platform": "-".join(filter(None, system)),
        "python": platform.python_version(),
        "packages": installed_packages(),
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """What may change the last digits of a result: the device, its threads, the number of processes that train.

    Asked after the training, and of PyTorch only where it has been imported: other libraries say nothing.
    """
    found: dict[str, Any] = {"device": "cpu", "threads": None, "world_size": world_size()}
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def environment_text(found: Mapping[str, Any]) -> str:
    """An environment on one line, to be compared."""
    return ", ".join(f"{key} {value}" for key, value in found.items() if value is not None)
