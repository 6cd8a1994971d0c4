"""Where a command puts the results of a run: the version that it goes on with, or makes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from expkit import codehash, record
from expkit.config.experiment import metric_name
from expkit.config.load import Loaded
from expkit.config.parameter_sets import name_of
from expkit.config.same import differences
from expkit.config.values import Config, Mode, container, flat, fold_file
from expkit.errors import Error, require, warn
from expkit.paths import output_dir, shown
from expkit.record import FoldRecord
from expkit.train.changes import changed_code, data_since
from expkit.train.checkpoint import unfinished
from expkit.train.versions import Versions


class Place:
    """The version of a run that a command works in. Constructing one writes nothing.

    Args:
        loaded: the experiment.
        config: its configuration.
        run: the name of the run.
        command: the id of the command; the jobs of a sweep have one.
        parameter_set: that the command names.

    Raises:
        Error: what is there is of another configuration, or nobody knows of which.

    Attributes:
        folder: the version; None until there is one.
        id: of the version; its W&B ids begin with it. "" until there is one.
        inputs: what of `input/` the training reads, as `Experiment.data` says.
        replaces: whether this version is to take the place of one that counts now.
    """

    def __init__(self, loaded: Loaded, config: Config, run: str, command: str, parameter_set: str) -> None:
        self.loaded, self.config, self.run, self.command = loaded, config, run, command
        self._set = parameter_set if name_of(loaded.folder, parameter_set) == run else None
        require(
            loaded.name not in (*record.NOT_EXPERIMENTS, record.BLENDS),
            f"experiments/{loaded.name}: the name is taken by a folder of output/; rename the experiment",
        )
        self.debug = config.exp.debug
        self._choices = loaded.experiment.choices(config)
        self.inputs = loaded.experiment.data(fold_file(flat({"exp": container(config.exp)})))
        output = output_dir() / "debug" if self.debug else output_dir()
        self.versions = Versions(output / loaded.name, run)
        base = None if self.debug else self.versions.counting()
        self._base = record.version_number(base) if base else 0
        self.replaces = base is not None and (config.overwrite or self._is_abandoned(base))
        self.folder: Path | None = None
        self.id = ""
        self._use(self._existing())

    def _use(self, folder: Path | None) -> None:
        info = record.read_run_info(folder) if folder is not None else None
        self.folder, self.id = folder, str(info["id"]) if info else ""

    @property
    def version(self) -> Path:
        """`folder`, once there is one."""
        assert self.folder is not None
        return self.folder

    # Which version

    def _differences(self, info: dict[str, Any]) -> list[str]:
        """How the configuration differs from that of a version."""
        return differences(info["config"], self.config, self._choices)

    def _is_abandoned(self, folder: Path) -> bool:
        """Whether a version of another configuration has nothing that could be lost: no result, no checkpoint, nobody
        at work."""
        run = record.read_run(folder)
        if run.info is None or run.problems or not self._differences(run.info):
            return False
        parts = [*run.folds.values(), *([run.full] if run.full else [])]
        has_work = any(part.result for part in parts) or unfinished(folder)
        return not has_work and not self.versions.held(folder)

    def _existing(self) -> Path | None:
        """The version to go on with; None: one is to be made."""
        if self.debug:
            return None
        if not self.replaces:
            counting = self.versions.counting()
            return counting if counting is not None and self._holds_this(counting) else None
        for folder in self.versions.newest_first():
            info = record.read_run_info(folder)
            later = record.version_number(folder) > self._base
            mine = info is not None and (later or self.command in info["commands"])
            if mine and info and not self._differences(info) and self._is_of_this_code(folder):
                return folder
        return None

    def _holds_this(self, folder: Path) -> bool:
        """Whether a folder holds this configuration, or, empty, may take it."""
        run = record.read_run(folder)
        if run.info is None:
            is_empty = not run.problems and {name for name in os.listdir(folder) if name[0] != "."} <= {record.CONFIG}
            if is_empty:  # a kill between making it and describing it
                return False
            what = next(iter(run.problems), "it has no run.json")
            raise Error(
                f"{shown(folder)}: {what}, so the configuration of its results is not known: move it, or overwrite=true"
            )
        if changes := self._differences(run.info):
            saved = [f"{name} ({about['seconds']:.0f} s of training)" for name, about in unfinished(folder).items()]
            raise Error(
                f"{shown(folder)} holds another configuration ({'; '.join(changes)}): "
                "give this one a parameter set and a name of its own (exp/NNN.yaml), "
                "or replace the old run with overwrite=true"
                + (f", which ends with the checkpoints of {', '.join(saved)}" if saved else "")
            )
        return True

    def _is_of_this_code(self, folder: Path) -> bool:
        """Whether an unfinished version goes on: its folds are of the code as it is, or somebody is at work there."""
        run = record.read_run(folder)
        done = [*run.done.values(), *([run.full] if run.full and run.full.result else [])]
        is_other = any(changed_code(fold, self.loaded.unused) for fold in done)
        if not is_other and not self.config.resume:
            is_other = any(map(self._changes_since, unfinished(folder).values()))
        return not is_other or bool(self.versions.held(folder))

    # Whether it goes on from a checkpoint

    def _changes_since(self, about: Mapping[str, Any]) -> dict[str, list[str]]:
        """What has changed since a checkpoint was saved: "code" and "data", each with its files; {} when it fits."""
        code = codehash.changed_since(about["code"], self.loaded.unused)
        data = data_since(about["data"], self.inputs)
        return ({"code": code} if code else {}) | ({"data": data} if data else {})

    def changes_to_mark(self, name: str, about: Mapping[str, Any]) -> dict[str, list[str]]:
        """What has changed since the checkpoint of the fold `name` was saved, when the command goes on in spite of it.

        Args:
            about: what the checkpoint remembers.

        Raises:
            Error: something has changed, and resume=true is not there.
        """
        changes = self._changes_since(about)
        if changes and not self.config.resume:
            what = " and ".join(f"the {what} ({', '.join(files[:3])})" for what, files in changes.items())
            raise Error(
                f"{shown(self.version / name)} has a checkpoint of {about['seconds']:.0f} s of training, from before "
                f"{what} changed: resume=true goes on with it, and the run is marked; overwrite=true begins again, in "
                "a new version"
            )
        return changes

    def require_resumable(self, numbers: Sequence[int | None]) -> None:
        """As `changes_to_mark`, for folds that a command is about to train; not those that another process trains."""
        if self.folder is not None and (saved := unfinished(self.folder)):
            names = {*map(record.fold_name, numbers)} - {*self.versions.held(self.folder)}
            for name in saved.keys() & names:
                self.changes_to_mark(name, saved[name])

    # Making it

    def prepare(self) -> None:
        """Make the version that this command works in, unless it is there.

        Raises:
            Error: the folder cannot be written, or holds another configuration by now.
        """
        _require_writable(self.versions.parent)
        with self.versions.locked():
            self.versions.clean(self.debug)
            base, takes_over = self.versions.counting(), self.replaces and not self.config.overwrite
            if takes_over and (base is None or not self._is_abandoned(base)):  # somebody has begun to train in it
                self.replaces = takes_over = False
            self._use(self._existing())
            if self.folder is None:
                self._use(self._made())
            if takes_over:  # there is nothing that could be lost: it counts at once
                record.install(self.version)
                self.versions.clean()
                self.replaces = False
            self._note_command(self.version)

    def _made(self) -> Path:
        base = self.versions.counting()
        before = record.read_run_info(base) if base else None
        alike = before is not None and not self._differences(before)
        values = container(self.config)
        about = {
            "experiment": self.loaded.name,
            "run": self.run,
            "set": self._set,
            "metric": metric_name(self.loaded.experiment.metric),
            "greater_is_better": self.loaded.experiment.greater_is_better,
            "n_folds": self.config.exp.n_folds,
            "config": {"exp": values["exp"]} | ({"choices": self._choices} if self._choices else {}),
            "commands": [self.command],
            "same_as": before["id"] if before and alike else None,
        }
        if base is not None and self.replaces and not alike:
            self._warn_of_loss(base)
        text = OmegaConf.to_yaml(values)
        if base is not None and not self.replaces and before is None:  # an empty folder
            self.versions.describe(base, about, text)
            return base
        return self.versions.make(about, text)

    def _warn_of_loss(self, base: Path) -> None:
        """Say that more results of the old configuration go than there will be of the new one."""
        exp, old = self.config.exp, record.read_run(base).done
        asked = [None] if exp.mode is Mode.sub else exp.fold or []
        if len(old) > len(asked) or (old and exp.mode is Mode.sub):
            new = ", ".join(map(record.fold_title, asked))
            warn(
                f"{len(old)} folds of the old configuration are removed when {new} of the new one is done; "
                "Ctrl-C keeps them"
            )

    def _note_command(self, folder: Path) -> None:
        """Remember that this command works on a version that replaces another: its late jobs find it in place."""
        info = record.read_run_info(folder)
        if self.replaces and info is not None and self.command not in info["commands"]:
            record.describe_again(folder, info | {"commands": [*info["commands"], self.command]})

    # What is in it

    def fold(self, number: int | None) -> FoldRecord | None:
        """A fold as it lies on the disk; None while there is no folder for it."""
        return None if self.folder is None else record.read_fold(self.folder, number, self.id)

    def done_folds(self) -> dict[int, FoldRecord]:
        """The folds that are done, of whichever command."""
        return {} if self.folder is None else record.read_run(self.folder).done

    def cross_validated(self) -> Path | None:
        """The version with the folds of this configuration: the one to be replaced, while the new one has none."""
        if self.folder is None or self.done_folds():
            return self.folder
        info, base = record.read_run_info(self.folder), self.versions.counting()
        before = record.read_run_info(base) if base else None
        return base if info and before and info["same_as"] == before["id"] else self.folder

    def is_removed(self) -> bool:
        """Whether the version of this command is gone, as `exp clean` removes one in which nothing is done."""
        info = record.read_run_info(self.version)
        return info is None or info["id"] != self.id

    def require_current(self) -> None:
        """Raise an `Error` when the version of this command can no longer count."""
        self.versions.require_current(self.version, self.id)


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
        os.listdir(folder)  # a version that nobody can see would be trained again
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Error(f"cannot write {folder}: {error.strerror}") from error
