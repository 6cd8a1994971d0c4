"""Where the results of a run go, what of it is done, and what may be overwritten.

A run is one experiment with one configuration; it lies in `output/<experiment>/<run>/`. A fold of it is done when its
`result.json` exists: that file is written last, and atomically. Everything else can be made again. Folds can be trained
by any number of processes: each takes a lock on the fold that it trains.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import platform
import re
import secrets
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from expkit import jobs, snapshot, sweep
from expkit.config import Config, Mode, container, flat, leaves, same
from expkit.errors import Error, interrupted, is_full_or_forbidden, report, require, warn
from expkit.files import read_csv, read_json, to_disk, write_json, write_text
from expkit.paths import project_root, shown
from expkit.progress import Epochs

if TYPE_CHECKING:
    from filelock import BaseFileLock

Columns = Mapping[str, Iterable[Any]]

# Overrides that make no other configuration: they are not in the name of a run, and change no result of a fold.
NOT_COMPARED = {"exp", "exp.name", "exp.fold", "exp.mode", "exp.debug", "show_config", "overwrite"}
LONGEST_NAME = 120  # characters; a file name has at most 255 bytes


class Run:
    """One experiment with one configuration, and its folder.

    Args:
        config: the typed configuration.
        file: the `__file__` of the experiment's `train.py`.
        metric: takes the columns of an `oof.csv` (name to list, one entry a row) and returns the score. Its name is
            the name of the metric. The score of a fold and the CV score both come from it.
        greater_is_better: whether a higher score is a better one.

    Raises:
        Error: the folder holds the results of another configuration, or another parameter set has the same name.

    Attributes:
        experiment: name of the experiment's folder, such as "001-baseline".
        name: name of the run, such as "001-larger-lr".
        folder: where the run lies, or, with overwrite=true, will lie.
        id: made anew each time that the run is; the W&B ids of its folds begin with it. Empty until a fold is trained.
        values: the configuration as plain dicts and lists, enums by name.
    """

    def __init__(
        self,
        config: Config,
        file: str,
        metric: Callable[[dict[str, list[Any]]], float],
        greater_is_better: bool = True,
    ) -> None:
        self.config, self.exp = config, config.exp
        self.metric, self.greater_is_better = metric, greater_is_better
        self.experiment_dir = Path(file).resolve().parent
        self.experiment = self.experiment_dir.name
        self.code_root = self.experiment_dir.parents[1]
        self.root = project_root(file)
        self.name = self.exp.name + _suffix(LONGEST_NAME - len(self.exp.name))
        self.id = ""
        require(
            self.experiment not in ("debug", "multirun", "wandb"),
            f"experiments/{self.experiment}: the name is taken by a folder of output/; rename the experiment",
        )
        self._refuse_shared_name()
        jobs.refuse_other_direction(Path(file).resolve(), greater_is_better)

        output = self.root / "output"
        self._parent = (output / "debug" if self.exp.debug else output) / self.experiment
        self.folder = self._parent / self.name
        self._new, self._old = self._parent / f".{self.name}.new", self._parent / f".{self.name}.old"
        self.values = container(config)
        self._trained: list[str] = []
        self._failed: list[str] = []
        if self._old.exists():
            with self._locked("run"):
                self._finish_interrupted_swap()
        self._sweep = sweep.current(self.code_root)
        self._replacing = config.overwrite and self.folder.exists() and not self.exp.debug and not self._is_replaced()
        self._work = self._new if self._replacing else self.folder
        if not self._replacing:
            self._refuse_changed_config()
        elif self._changes(self._new):  # unfinished, and of a configuration that is no longer wanted
            shutil.rmtree(self._new)
        else:
            self.id = str((read_json(self._new / "run.json") or {}).get("id", ""))
        jobs.note(run=str(self.folder))

    def missing(self) -> Iterator[Fold]:
        """The folds that are asked for and have no result yet, each locked while it is in the caller's hands.

        Says which are done. A fold that another process trains is left to it; when no other is free, this waits. With
        exp.mode=sub, the one training on all data.

        Raises:
            Error: the folder cannot be written, or another process has made a run of another configuration in it.
        """
        numbers = [None] if self.exp.mode is Mode.sub else self.exp.fold or []
        folds = [Fold(self, number) for number in numbers]
        missing = [fold for fold in folds if not self._say_done(fold)]
        self._warn_of_changed_code()
        if missing:
            self._prepare()
        said: set[str] = set()
        while missing:
            fold = next((fold for fold in missing if fold.lock(wait=False)), None)
            if fold is None:
                fold = missing[0]
                print(f"waiting for {fold.title}, which another process trains", flush=True)
                fold.lock(wait=True)
            if self._replacing:
                with self._locked("run"):
                    self._follow_swap()
            for other in missing[: missing.index(fold)]:
                if other.name not in said:
                    print(f"{other.title} is being trained by another process", flush=True)
                    said.add(other.name)
            missing.remove(fold)
            try:
                if not self._say_done(fold):
                    yield fold
            finally:
                fold.unlock()

    def summarize(self) -> float | None:
        """Write `cv.json`, put an overwritten run in its place, and say the score and where it lies.

        Returns:
            The CV score: over all out-of-fold rows when every fold is done, else the mean over the folds that are;
            None with exp.mode=sub.

        Raises:
            Error: a fold has failed; the others are done.
        """
        if self._failed:
            old = "; the old results stay until then" if self._replacing else ""
            raise Error(f"failed: {', '.join(self._failed)}; the same command trains what is missing{old}")
        if self._replacing:
            with self._locked("run"):
                self._follow_swap()
                if self._replacing and not self._busy() and self._is_whole():
                    self._swap()
        score = None
        if self.exp.mode is Mode.sub:
            if self._done():
                self._summary()
            print(f"predictions of the test set: {shown(self._work / 'full' / 'submission.csv')}")
        else:
            summary = self._summary()
            score = summary["mean"] if summary["score"] is None else summary["score"]
            print(jobs.describe(summary))
        print(f"results: {shown(self._work)}", flush=True)
        return score

    def _summary(self) -> dict[str, Any]:
        """The content of `cv.json`, made again when the folds on disk say something else."""
        file = self._work / "cv.json"
        known = read_json(file)
        if known is not None and known.get("folds") == self._scores() and not self._trained:
            return known
        with self._locked("run"):  # whoever comes last sees every fold
            self._follow_swap()
            file = self._work / "cv.json"
            done = self._done()
            scores = self._scores()
            codes = {result.get("code") for _, result in done}
            summary = {
                "metric": self.metric.__name__,
                "greater_is_better": self.greater_is_better,
                "score": self._score_of_all_rows(done) if len(done) == self.exp.n_folds else None,
                "mean": statistics.fmean(scores.values()),
                "std": statistics.stdev(scores.values()) if len(scores) > 1 else None,
                "folds_done": len(done),
                "n_folds": self.exp.n_folds,
                "complete": len(done) == self.exp.n_folds,
                "mixed_code": len(codes) > 1,
                "code": codes.pop() if len(codes) == 1 else None,
                "folds": scores,
            }
            write_json(file, summary)
            self._write_times([result for _, result in done])
        return summary

    def _write_times(self, results: list[dict[str, Any]]) -> None:
        """Put what the board shows beside the scores into `run.json`, so that it need not read every fold."""
        file = self._work / "run.json"
        if record := read_json(file):
            finished = max(result.get("finished", "") for result in results)
            seconds = round(sum(result["seconds"] for result in results), 3)
            write_json(file, record | {"finished": finished, "seconds": seconds})

    def _done(self) -> list[tuple[Fold, dict[str, Any]]]:
        folds = [Fold(self, number) for number in range(self.exp.n_folds)]
        return [(fold, fold.result) for fold in folds if fold.result is not None]

    def _scores(self) -> dict[str, float]:
        return {str(fold.number): result["score"] for fold, result in self._done()}

    def _score_of_all_rows(self, done: list[tuple[Fold, dict[str, Any]]]) -> float | None:
        try:
            parts = [read_csv(fold.folder / "oof.csv") for fold, _ in done]
            return float(self.metric({name: [value for part in parts for value in part[name]] for name in parts[0]}))
        except FileNotFoundError as error:
            warn(f"{error.filename} is missing: no score over all rows")
            return None

    def _say_done(self, fold: Fold) -> bool:
        fold.read()
        if fold.result is None or self.exp.debug:
            return False
        print(f"{fold.title} is done: {_describe(fold.result)}", flush=True)
        return True

    def _warn_of_changed_code(self) -> None:
        if self.exp.debug:
            return
        code = snapshot.code_hash(self.experiment_dir)
        changed = [fold.title for fold, result in self._done() if result.get("code", code) != code]
        if changed:
            warn(
                f"the code of experiments/{self.experiment} has changed since {', '.join(changed)}: "
                "what is trained now is marked as different; overwrite=true trains it all again"
            )

    def _prepare(self) -> None:
        """Make the folder with `config.yaml` and `run.json`, unless it is there, and the snapshot of the code."""
        _require_writable(self._parent)
        with self._locked("run"):
            if self.exp.debug and self._work.exists() and not self._busy():
                shutil.rmtree(self._work, ignore_errors=True)
            self._follow_swap()
            if not self._replacing:
                self._refuse_changed_config()
            record, made = read_json(self._work / "run.json"), self.provenance
            if record is None or "id" not in record:
                self._work.mkdir(parents=True, exist_ok=True)
                write_text(self._work / "config.yaml", OmegaConf.to_yaml(self.values))
                started = datetime.now(UTC).isoformat(timespec="seconds")
                config = {"exp": self.values["exp"]}
                record = {"id": secrets.token_hex(4), "started": started, **made, "config": config}
                write_json(self._work / "run.json", record)
        self.id = str(record["id"])

    @functools.cached_property
    def provenance(self) -> dict[str, Any]:
        """What a person needs to know to make a fold of this run again."""
        hydra = HydraConfig.get() if HydraConfig.initialized() else None
        return {
            "experiment": self.experiment,
            "greater_is_better": self.greater_is_better,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "overrides": list(hydra.overrides.task) if hydra else [],
            "code": snapshot.code_hash(self.experiment_dir),
            "git": None if self.exp.debug else self._sweep.git if self._sweep else snapshot.take(self.code_root),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "host": socket.gethostname(),
            "packages": _packages(),
        }

    def _changes(self, folder: Path) -> list[str]:
        """What differs between the configuration and that of the run in `folder`: "key: old → new"."""
        file = folder / "config.yaml"
        if not file.exists():
            return []
        old, new = flat(OmegaConf.load(file)), dict(leaves(self.values))
        keys = [key for key in {**old, **new} if key not in NOT_COMPARED]
        absent = "(not set)"
        return [
            f"{key}: {old.get(key, absent)} → {new.get(key, absent)}"
            for key in keys
            if not same(old.get(key, absent), new.get(key, absent))
        ]

    def _refuse_changed_config(self) -> None:
        if not self.exp.debug and (changes := self._changes(self.folder)):
            raise Error(
                f"{shown(self.folder)} holds another configuration ({'; '.join(changes)}): "
                "give this one a parameter set and a name of its own (exp/NNN.yaml), "
                "or replace the old run with overwrite=true"
            )

    def _refuse_shared_name(self) -> None:
        """Two parameter sets with one name would share a folder."""
        if not HydraConfig.initialized():  # in a notebook nobody knows which one it is
            return
        chosen = str(HydraConfig.get().runtime.choices.get("exp", "default")).removesuffix(".yaml")
        named = _names(self.experiment_dir)
        for choice, (file, name) in named.items():
            if choice == chosen or name != self.exp.name:
                continue
            this = shown(named[chosen][0]) if chosen in named else "the command line"
            raise Error(
                f"{shown(file)} has the name {self.exp.name!r} too, and would share the output folder with {this}: "
                "give one of them another name"
            )

    def _swap(self) -> None:
        """Put the new run in the place of the old one, which is whole until then."""
        if not self._changes(self.folder):  # the same configuration: keep the folds that were not asked for
            for kept in self.folder.iterdir():
                if kept.name != "cv.json" and not (self._new / kept.name).exists():
                    (shutil.copytree if kept.is_dir() else shutil.copy2)(kept, self._new / kept.name)
        if self._sweep is not None:
            record = read_json(self._new / "run.json") or {}
            write_json(self._new / "run.json", record | {"replaced_by": self._sweep.id})
        self.folder.rename(self._old)
        self._new.rename(self.folder)
        shutil.rmtree(self._old)
        self._work, self._replacing = self.folder, False

    def _is_whole(self) -> bool:
        """Whether the new run has every fold that the command trains, in whichever of its jobs."""
        wanted = jobs.folds_of_command() if self.exp.mode is Mode.cv else set()
        return all(Fold(self, number).result is not None for number in wanted)

    def _is_replaced(self) -> bool:
        """Whether another process has put this new run in its place, or another job of the sweep one of its own."""
        record = read_json(self.folder / "run.json") or {}
        return record.get("id") == self.id or (self._sweep is not None and record.get("replaced_by") == self._sweep.id)

    def _follow_swap(self) -> None:
        """Go on in the run's own folder when another process has put the new run there. With the run locked."""
        if self._replacing and self._is_replaced():
            self._work, self._replacing = self.folder, False

    def _finish_interrupted_swap(self) -> None:
        if self._old.exists() and not self.folder.exists():
            (self._new if self._new.exists() else self._old).rename(self.folder)
        shutil.rmtree(self._old, ignore_errors=True)

    def _lock(self, name: str) -> BaseFileLock:
        """A lock between processes; the system frees it when its holder dies."""
        from filelock import FileLock

        folder = self._parent / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{self.name}.{name}")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with self._lock(name):
            yield

    def _busy(self) -> bool:
        """Whether another process trains a part of this run."""
        from filelock import Timeout

        for name in ["full", *(f"fold{number}" for number in range(self.exp.n_folds))]:
            try:
                self._lock(name).acquire(blocking=False).lock.release()
            except Timeout:
                return True
        return False


class Fold:
    """One training of a run: on all rows but those of a fold, or, when `number` is None, on all rows.

    Used in a `with`, which empties the folder of what an interrupted training left there. An exception in it is
    reported, and goes no further when other folds were asked for, too: these are still trained.

    Attributes:
        name: "fold0" or "full", the name of its folder.
        folder: where its files go.
        result: the content of its `result.json`; None while it is not done.
    """

    def __init__(self, run: Run, number: int | None) -> None:
        self.run, self.number = run, number
        self.name = "full" if number is None else f"fold{number}"
        self.title = "all data" if number is None else f"fold {number}"
        self._held: BaseFileLock | None = None
        self.read()

    @property
    def folder(self) -> Path:
        return self.run._work / self.name

    def read(self) -> None:
        """Read `result.json`. One that is broken, or not of this fold, counts as missing."""
        file = self.folder / "result.json"
        self.result = read_json(file)
        if self.result is not None and not self._is_result(self.result):
            warn(f"{shown(file)} is not the result of {self.title} and counts as missing")
            self.result = None

    def _is_result(self, content: Mapping[str, Any]) -> bool:
        score, seconds = content.get("score"), content.get("seconds")
        number_fits = isinstance(score, int | float) if self.number is not None else score is None
        fold_fits = "fold" in content and content["fold"] == self.number
        return fold_fits and number_fits and isinstance(seconds, int | float) and "metric" in content

    def lock(self, wait: bool) -> bool:
        """Take the lock of this fold, if need be after its holder; whether this process holds it now."""
        from filelock import Timeout

        lock = self.run._lock(self.name)
        try:
            lock.acquire(blocking=wait)
        except Timeout:
            return False
        self._held = lock
        return True

    def unlock(self) -> None:
        """Give the lock back."""
        if self._held is not None:
            self._held.release()

    def __enter__(self) -> Fold:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self.result = None
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._epochs = Epochs(self.title)
        self._history: TextIO = open(self.folder / "history.csv", "w", newline="", encoding="utf-8")
        self._rows: csv.DictWriter[str] | None = None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        self._close()
        if error is None:
            require(self.result is not None, f"{self.title}: train.py left the `with` without fold.finish()")
            return False
        if not isinstance(error, Exception) or interrupted(error):
            return False
        if is_full_or_forbidden(error):
            assert isinstance(error, OSError)
            error.filename = error.filename or str(self.folder)
            return False
        asked_for = 1 if self.number is None else len(self.run.exp.fold or [])
        if asked_for == 1:
            return False
        print(f"{self.title}  failed", flush=True)
        report(error)
        self.run._failed.append(self.title)
        return True

    def log(self, metrics: Mapping[str, float], epochs: int) -> None:
        """Add one row to `history.csv`, and show it.

        Args:
            metrics: "epoch", from 1 on, and the metrics after it. The same names every time.
            epochs: how many there will be.
        """
        if self._rows is None:
            self._rows = csv.DictWriter(self._history, list(metrics), lineterminator="\n")
            self._rows.writeheader()
        self._rows.writerow(metrics)
        self._history.flush()
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        self._epochs.show(int(metrics["epoch"]), epochs, shown)

    def save_csv(self, name: str, columns: Columns) -> None:
        """Write a table: `columns` maps the name of each column to its values, one a row (lists or arrays)."""
        values = [column.tolist() if hasattr(column, "tolist") else column for column in columns.values()]
        with open(self.folder / name, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*values, strict=True))

    def finish(self, **extra: Any) -> dict[str, Any]:
        """Mark the fold as done: write its `result.json`, with the score of its `oof.csv`.

        Args:
            extra: more to keep in the result, such as best_epoch=12.

        Returns:
            fold, metric, score (None when trained on all rows), the extra values, seconds. The file also has what it
            takes to make the fold again.
        """
        score = None if self.number is None else float(self.run.metric(read_csv(self.folder / "oof.csv")))
        self._close()
        result = {
            "fold": self.number,
            "metric": self.run.metric.__name__,
            "score": score,
            **extra,
            "seconds": round(time.monotonic() - self._clock, 3),
        }
        started, finished = (time.isoformat(timespec="seconds") for time in (self._started, datetime.now(UTC)))
        made = {"started": started, "finished": finished, **self.run.provenance}
        for file in self.folder.iterdir():
            to_disk(file)
        write_json(self.folder / "result.json", result | made)
        self.result = result
        self.run._trained.append(self.title)
        print(f"{self.title}  {_describe(result)}", flush=True)
        return result

    def _close(self) -> None:
        self._epochs.close()
        self._history.close()


@functools.cache
def _names(experiment_dir: Path) -> dict[str, tuple[Path, str | None]]:
    """The file of each parameter set and its `exp.name`, None when nobody can read it; read once a process."""
    sources = {file.stem: (file, "name") for file in sorted(experiment_dir.glob("exp/*.yaml"))}
    sources["default"] = (experiment_dir / "config.yaml", "exp.name")
    return {choice: (file, _read_name(file, key)) for choice, (file, key) in sources.items()}


def _read_name(file: Path, key: str) -> str | None:
    try:
        name = OmegaConf.select(OmegaConf.load(file), key)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):  # the concern of whoever wants to run it
        return None
    return None if name is None else str(name)


@functools.cache
def _packages() -> dict[str, str]:
    """The versions of the installed packages; read once a process, as a sweep may make many runs in it."""
    packages = ((package.name, package.version) for package in metadata.distributions() if package.name)
    return dict(sorted(packages))


def _suffix(longest: int) -> str:
    """What the overrides on the command line add to the name of a run, as in ",exp.train.learning_rate=0.01".

    Hydra's `override_dirname`, safe as a file name, and at most `longest` characters: a hash keeps it unique.
    """
    if not HydraConfig.initialized():
        return ""
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    named = [override for override in overrides if override.key_or_group not in NOT_COMPARED]
    pairs = sorted((override.key_or_group, override.get_value_element_as_str()) for override in named)
    plain = "".join(f",{key}={value}" for key, value in pairs)
    safe = re.sub(r"[^\w.,=+-]+", "_", plain)
    if safe == plain and len(safe) <= longest:
        return safe
    return f"{safe[: longest - 9]}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


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


def _describe(result: Mapping[str, Any]) -> str:
    """A result on one line."""
    score = "trained" if result["score"] is None else f"{result['metric']} {result['score']:.4f}"
    best = f"  best epoch {result['best_epoch']}" if "best_epoch" in result and result["score"] is not None else ""
    return f"{score}{best}  {result['seconds']:.1f} s"
