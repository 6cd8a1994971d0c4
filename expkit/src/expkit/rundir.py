"""Picks or creates the folder of a run that a command works in."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from expkit import files, store
from expkit.checkpoint import unfinished
from expkit.config import Config, Loaded, changes, container, differences, flat, id_of, is_compared, name_of
from expkit.data import changed_code, changes_since
from expkit.errors import Error, require, warn
from expkit.fingerprint import metric_name
from expkit.project import display_path, output_dir
from expkit.store import FoldRecord, Run, RunInfo, Versions

LONGEST = 120  # bytes of a file name


def run_name(config: Any, overrides: Sequence[str]) -> str:
    """The name of the folder of a run, as in "001-larger-lr,exp.train.learning_rate=0.01".

    Each key that is overridden, with its value in the configuration: `l2=1` and `l2=1.0` are one run. Safe as a file
    name, and with a hash in place of what would be too long.

    Args:
        config: the configuration, as dataclasses.
        overrides: of the command line, as Hydra takes them.
    """
    values, pairs = flat(config), dict[str, str]()
    for override in OverridesParser.create().parse_overrides(list(overrides)) if overrides else []:
        key, value = override.key_or_group, override.value()
        if key == "exp" or not is_compared(key):
            continue
        pairs["~" * override.is_delete() + key] = _text(values.get(key, value))
    wanted = "".join(f",{key}={value}" for key, value in sorted(pairs.items()))
    safe = re.sub(r"[^\w.,=+-]+", "_", wanted)
    name: str = config.exp.name
    full = name + safe
    if safe == wanted and len(full.encode()) <= LONGEST:
        return full
    digest = hashlib.sha256((name + wanted).encode()).hexdigest()[:8]
    return f"{full.encode()[: LONGEST - 9].decode(errors='ignore').rstrip('.')}-{digest}"


def name_source(experiment: str, config: Config) -> Config:
    """Let exp.start_from be the title of a run of the experiment; as it is, where no run is called so: it may be gone.

    The configuration is changed, and given back.
    Any part of a name will not do: that of a run that begins from another has the name of this one in it.
    """
    if name := config.exp.start_from:
        called = (each for each in store.run_names(f"{experiment}/") if store.is_called(each, name))
        config.exp.start_from = next(called, name)
    return config


def _text(value: Any) -> str:
    """A value as a short text: 1.0 is 1, and a word needs no quotes."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return f"{value:.0f}"
    if isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


# A version takes the place of another


def put_in_place(versions: Versions, version: Path, score: Callable[[Path], Run]) -> Run:
    """Let a new version count, with the folds of the old one that were not asked for; delete the old one.

    Waits for other processes that train in the new version.

    Args:
        score: brings the scores of a version up to date.

    Raises:
        Error: a later version counts already.
    """
    while others := _busy(versions, version):
        print(f"waiting for {', '.join(others)}, which another process trains", flush=True)
        with versions.part(version, others[0]):
            pass
    scored = score(version)
    with versions.locked():
        versions.install(version)
        versions.clean()
    return scored


def _busy(versions: Versions, version: Path) -> list[str]:
    """The parts of a new version that a process trains; when there are none, it has the old one's other folds.

    Those are the folds of the same configuration that are done, or can go on from a checkpoint.
    """
    with versions.locked(), ExitStack() as stack:
        new, current = store.read_run(version), versions.current()
        versions.require_current(version, new.id or "")
        old = store.read_run(current) if current not in (None, version) else None
        kept: list[FoldRecord] = []
        if old and new.info and new.info.get("same_as") == old.id:
            saved = unfinished(old.folder).keys() - {*versions.held(old.folder)}
            kept = [fold for fold in old.parts if fold.result or fold.folder.name in saved]
        if others := versions.take(version, stack, (fold.folder.name for fold in kept)):
            return others
        for fold in kept:
            there = store.read_fold(version, fold.number, str(new.id))
            if there.result is None and (fold.result or not there.folder.exists()):
                store.keep_fold(fold, version, str(new.id))
        return []


class RunDir:
    """The version of a run that a command works in. Constructing one writes nothing.

    Args:
        loaded: the experiment.
        config: its configuration.
        run: the name of the run.
        command: the id of the command; the jobs of a sweep have one.
        parameter_set: that the command names.

    Raises:
        Error: the folder holds another configuration, or one that is not known.

    Attributes:
        folder: the version; None until there is one.
        id: of the version; its W&B ids begin with it. "" until there is one.
        inputs: what of `input/` the training reads, as `Experiment.data` says.
        replaces: whether this version is to take the place of one that counts now.
    """

    def __init__(self, loaded: Loaded, config: Config, run: str, command: str, parameter_set: str) -> None:
        self.loaded, self.config, self.run, self.command = loaded, config, run, command
        self._set = parameter_set if name_of(loaded.folder, parameter_set) == run else None
        taken = f"experiments/{loaded.name}: the name is taken by a folder of output/; rename the experiment"
        require(loaded.name not in (*store.NOT_EXPERIMENTS, store.BLENDS), taken)
        self.debug = config.exp.debug
        self.inputs = loaded.experiment.data(flat({"exp": container(config.exp)}))
        output = output_dir() / "debug" if self.debug else output_dir()
        self.versions = Versions(output / loaded.name, run)
        base = None if self.debug else self.versions.current()
        self._base = store.version_number(base) if base else 0
        self.replaces = base is not None and config.overwrite
        self.folder: Path | None = None
        self.id = ""
        self._use(self._existing())

    def _use(self, folder: Path | None) -> None:
        info = store.read_run_info(folder) if folder is not None else None
        self.folder, self.id = folder, str(info["id"]) if info else ""

    @property
    def version(self) -> Path:
        """`folder`, once there is one."""
        assert self.folder is not None
        return self.folder

    def title(self, number: int | None) -> str:
        """What a training is called in messages; where nobody knows of rows that it leaves out, it is no hold-out."""
        title = store.fold_title(number, self.config.exp.n_folds)
        return "training" if title == store.HOLD_OUT and self.loaded.experiment.is_scored_by_train else title

    # Which version

    def _differences(self, info: RunInfo) -> list[str]:
        """How the configuration differs from that of a version."""
        return differences(info["config"], self.config, self.loaded.experiment)

    def _is_abandoned(self, folder: Path) -> bool:
        """Whether a version of another configuration has nothing to lose: no result, no checkpoint, no lock held."""
        info = store.read_run_info(folder)
        is_other = info is not None and bool(self._differences(info))
        return is_other and store.holds_nothing(folder) and not self.versions.held(folder)

    def _existing(self) -> Path | None:
        """The version to go on with; None: one is to be made."""
        if self.replaces:
            return next(filter(self._goes_on, reversed(self.versions.all())), None)
        current = None if self.debug else self.versions.current()
        if current is None or self._is_abandoned(current):
            return None
        self._require_same(current)
        return current

    def _require_same(self, folder: Path) -> None:
        """Raise an `Error` unless a version holds this configuration."""
        run, where = store.read_run(folder), display_path(folder)
        if run.info is None:
            what = next(iter(run.problems), "it has no run.json")
            raise Error(f"{where}: {what}, so its configuration is not known: move it, or overwrite=true")
        if changes := self._differences(run.info):
            saved = [f"{name} ({about['seconds']:.0f} s of training)" for name, about in unfinished(folder).items()]
            lost = f", which ends with the checkpoints of {', '.join(saved)}" if saved else ""
            give = "give this one a parameter set and a name of its own (exp/NNN.yaml)"
            holds = f"{where} holds another configuration ({'; '.join(changes)})"
            raise Error(f"{holds}: {give}, or replace the old run with overwrite=true{lost}")

    def _goes_on(self, folder: Path) -> bool:
        """Whether a version is the one that is to replace what counts, and of this code; or a process trains it now."""
        info = store.read_run_info(folder)
        if info is None or not (store.version_number(folder) > self._base or self.command in info["commands"]):
            return False
        if self._differences(info):
            return False
        done = [part for part in store.read_run(folder).parts if part.result]
        is_other = any(changed_code(part.origin().get("code"), self.loaded.ignored) for part in done)
        if not is_other and not self.config.resume:
            is_other = any(map(self._changes_since, unfinished(folder).values()))
        return not is_other or bool(self.versions.held(folder))

    # Whether it goes on from a checkpoint

    def _changes_since(self, about: Mapping[str, Any]) -> dict[str, list[str]]:
        """What has changed since a checkpoint was saved, as `changes_since`."""
        return changes_since(about, self.loaded.ignored, self.inputs)

    def changes_to_mark(self, name: str, about: Mapping[str, Any]) -> dict[str, list[str]]:
        """What has changed since the checkpoint of the fold `name` was saved, when the command goes on in spite of it.

        Args:
            about: what the checkpoint remembers.

        Raises:
            Error: something has changed, and resume=true is not there.
        """
        changes = self._changes_since(about)
        if changes and not self.config.resume:
            what = " and ".join(f"the {what} ({', '.join(changed[:3])})" for what, changed in changes.items())
            saved = f"{display_path(self.version / name)} has a checkpoint of {about['seconds']:.0f} s of training"
            how = "resume=true goes on with it, and the run is marked; overwrite=true begins again, in a new version"
            raise Error(f"{saved}, from before {what} changed: {how}")
        return changes

    def require_startable(self, numbers: Sequence[int | None]) -> None:
        """As `changes_to_mark` and `source`, for folds that a command is about to train.

        Those that another process trains are left to it.
        """
        saved = unfinished(self.folder) if self.folder is not None else {}
        held = self.versions.held(self.folder) if self.folder is not None and saved else []
        for number in numbers:
            if (name := store.fold_name(number)) not in saved:
                self.source(number)
            elif name not in held:
                self.changes_to_mark(name, saved[name])

    def source(self, number: int | None) -> FoldRecord | None:
        """The fold from which the fold `number` begins, of the run exp.start_from; None: it begins from nothing.

        Raises:
            Error: there is no such run, this fold of it is not done, or it was trained with other rows.
        """
        if not (name := self.config.exp.start_from):
            return None
        folder = store.folder_of(output_dir(), name) if name.startswith(f"{self.loaded.name}/") else None
        try:
            if folder is None:
                other = "of another one, load what you need in train(), with expkit.load_run"
                near = store.nearest(name, store.run_names(f"{self.loaded.name}/"))
                raise Error(f"it must be a run of this experiment, by its whole name; {other}{near}")
            require(name != f"{self.loaded.name}/{self.run}", "that is this run: give the new one another name")
            run = store.read_run(folder)
            own, its = flat({"exp": container(self.config.exp)}), flat(run.config)
            for key, value in own.items() if number is not None else ():
                is_same = its.get(key, value) == value or not key.startswith(("exp.n_folds", "exp.split."))
                require(is_same, f"{key} is {its.get(key)} there, and {value} here: it has learned what is scored here")
            return run.fold(number, "state")
        except Error as error:
            raise Error(f"exp.start_from={name}: {error}") from error

    # Making it

    def prepare(self) -> None:
        """Make the version that this command works in, unless it is there.

        Raises:
            Error: the folder cannot be written, or holds another configuration by now.
        """
        with self.versions.locked():
            self.versions.clean(self.debug)
            current = self.versions.current()
            if current is not None and not self.replaces and self._is_abandoned(current):
                shutil.rmtree(current)
            self._use(self._existing() or self._made())

    def _made(self) -> Path:
        base = self.versions.current()
        before = store.read_run_info(base) if base else None
        alike = before is not None and not self._differences(before)
        about = {
            "experiment": self.loaded.name,
            "run": self.run,
            "set": self._set,
            "set_id": id_of(self.loaded.folder, self._set) if self._set else None,
            "metric": metric_name(self.loaded.experiment.metric),
            "greater_is_better": self.loaded.experiment.greater_is_better,
            "n_folds": self.config.exp.n_folds,
            "config": self.loaded.experiment.values(self.config),
            "changed": [*changes({}, self.config, self.loaded.experiment)],
            "commands": [self.command],
            "same_as": before["id"] if before and alike else None,
        }
        if twin := self._twin():
            warn(f"{self.loaded.name}/{twin} has the same configuration: exp board --seeds counts one of the two")
        if base is not None and self.replaces and not alike and (old := store.read_run(base).done):
            warn(f"{len(old)} folds of the old configuration are removed when the new one is done; Ctrl-C keeps them")
        return self.versions.make(about, OmegaConf.to_yaml(container(self.config)))

    def _twin(self) -> str | None:
        """Another run of the experiment with this configuration and name; None: there is none, or debugging.

        The name of such a run has overrides that say what this one has, too: of hundreds in a sweep, no other is read.
        """
        values = flat(self.config) | self.loaded.experiment.choices(self.config)
        mine = {f"{key}={_text(value)}" for key, value in values.items()}
        for folder in [] if self.debug else files.listed(self.versions.parent):
            run = folder.partition("@")[0]
            name, *overrides = run.split(",")
            if name == self.config.exp.name and run != self.run and mine.issuperset(overrides):
                info = store.read_run_info(self.versions.parent / folder)
                if info and not self._differences(info):
                    return run
        return None

    # What is in it

    def fold(self, number: int | None) -> FoldRecord | None:
        """A fold as it lies on the disk; None while there is no folder for it."""
        return None if self.folder is None else store.read_fold(self.folder, number, self.id)

    def done_folds(self) -> dict[int, FoldRecord]:
        """The folds that are done, of whichever command."""
        return {} if self.folder is None else store.read_run(self.folder).done

    def found_by_folds(self) -> dict[str, list[Any]] | str:
        """The values that the folds of this configuration have recorded, by name, in the order of the folds.

        They are in this version; in the one that it is to replace, while it has none.

        Returns:
            a text: why there are none, as the end of a sentence.
        """
        found = [store.read_run(folder) for folder in (self.folder, self.versions.current()) if folder]
        run = next((run for run in found if run.done and run.info and not self._differences(run.info)), None)
        if run is None or not run.is_complete:
            there = f"{len(run.done)} of {run.n_folds} folds are trained" if run else "no fold is trained"
            return f"{there}: train all of them first, exp.mode=cv exp.fold=null"
        changed = [*chain(*self._changes_since(next(iter(run.done.values())).origin()).values())]
        marks = [*store.own_marks(run), *store.stale(run)]
        if marks or changed:
            why = ", ".join(marks) or f"changed since: {', '.join(changed[:3])}"
            return f"{display_path(run.folder)}: {why}: train its folds again first, overwrite=true exp.fold=null"
        values = [result["values"] for result in run.results.values()]
        return {name: [one[name] for one in values] for name in values[0] if all(name in one for one in values)}

    def require_current(self) -> None:
        """Raise an `Error` when the version of this command can no longer count."""
        self.versions.require_current(self.version, self.id)
