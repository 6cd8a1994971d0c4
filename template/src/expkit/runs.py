"""Where the results of a run go, what of it is done, and what may be overwritten.

A run is one experiment with one configuration; it lies in `output/<experiment>/<run>/`. A fold of it is done when its
`result.json` exists: that file is written last, and atomically. Everything else can be made again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from expkit.config import Config, Mode, flat
from expkit.errors import Error, require, warn
from expkit.paths import project_root, shown
from expkit.progress import Epochs

Columns = Mapping[str, Iterable[Any]]

# Overrides that name no other configuration, and keys that change no result of a fold.
_NOT_IN_NAME = {"exp", "exp.name", "exp.fold", "exp.mode", "exp.debug", "show_config", "overwrite"}
_NOT_COMPARED = {"exp.name", "exp.fold", "exp.mode", "exp.debug", "show_config", "overwrite"}
_LONGEST_NAME = 120  # characters; a file name has at most 255 bytes


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
        OSError: the folder cannot be written.

    Attributes:
        experiment: name of the experiment's folder, such as "001-baseline".
        name: name of the run, such as "001-larger-lr".
        id: unique for each time that the run is made; the W&B ids of its folds begin with it.
        folder: where the run lies, or, with overwrite=true, will lie.
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
        self.name = self.exp.name + _suffix(_LONGEST_NAME - len(self.exp.name))
        require(
            self.experiment not in ("debug", "multirun", "wandb"),
            f"experiments/{self.experiment}: the name is taken by a folder of output/; rename the experiment",
        )
        self._refuse_shared_name()

        output = self.root / "output"
        parent = (output / "debug" if self.exp.debug else output) / self.experiment
        self.folder = parent / self.name
        self._new, self._old = parent / f".{self.name}.new", parent / f".{self.name}.old"
        self._values = flat(config)
        self._finish_interrupted_swap()
        if self.exp.debug:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._replacing = config.overwrite and self.folder.exists()
        if self._replacing:
            self._work = self._new
            if self._work.exists() and self._changes(self._work):
                shutil.rmtree(self._work)
        else:
            self._work = self.folder
            self._refuse_changed_config()
        _require_writable(parent)
        self.id = self._create()

    def missing(self) -> list[Fold]:
        """The folds that are asked for and have no result yet; says which are done.

        With exp.mode=sub, the one training on all data.
        """
        numbers = [None] if self.exp.mode is Mode.sub else self.exp.fold or []
        folds = [Fold(self, number) for number in numbers]
        for fold in folds:
            if fold.result is not None:
                print(f"{fold.title} is done: {_describe(fold.result)}")
        return [fold for fold in folds if fold.result is None]

    def summarize(self) -> float | None:
        """Write `cv.json`, put an overwritten run in its place, and say the score and where it lies.

        Returns:
            The CV score: over all out-of-fold rows when every fold is done, else the mean over the folds that are;
            None with exp.mode=sub.
        """
        if self._replacing:
            self._swap()
        score = None
        if self.exp.mode is Mode.sub:
            print(f"predictions of the test set: {shown(self.folder / 'full' / 'submission.csv')}")
        else:
            summary = self._summary()
            score = summary["mean"] if summary["score"] is None else summary["score"]
            deviation = "" if summary["std"] is None else f" ± {summary['std']:.4f}"
            print(f"CV {summary['metric']} {score:.4f}{deviation}  {summary['folds_done']}/{summary['n_folds']} folds")
        print(f"results: {shown(self.folder)}")
        return score

    def _summary(self) -> dict[str, Any]:
        """The content of `cv.json`, made again when it does not say what the folds say."""
        folds = [Fold(self, number) for number in range(self.exp.n_folds)]
        done = [fold for fold in folds if fold.result is not None]
        scores = {str(fold.number): fold.result["score"] for fold in done if fold.result is not None}
        known = _read_json(self.folder / "cv.json")
        if known is not None and known.get("folds") == scores:
            return known
        score = None
        if len(done) == self.exp.n_folds:
            parts = [_read_csv(fold.folder / "oof.csv") for fold in done]
            score = self.metric({name: [value for part in parts for value in part[name]] for name in parts[0]})
        summary = {
            "metric": self.metric.__name__,
            "greater_is_better": self.greater_is_better,
            "score": score,
            "mean": statistics.fmean(scores.values()),
            "std": statistics.stdev(scores.values()) if len(scores) > 1 else None,
            "folds_done": len(done),
            "n_folds": self.exp.n_folds,
            "complete": len(done) == self.exp.n_folds,
            "folds": scores,
        }
        write_json(self.folder / "cv.json", summary)
        return summary

    def _create(self) -> str:
        """Make the folder with `config.yaml` and `run.json` unless it is there; the id of the run."""
        known = _read_json(self._work / "run.json")
        if known is not None:
            return str(known["id"])
        self._work.mkdir(parents=True, exist_ok=True)
        text = OmegaConf.to_yaml(OmegaConf.structured(self.config))
        write_text(self._work / "config.yaml", text)
        record = {"id": secrets.token_hex(4), **_provenance(self.code_root)}
        write_json(self._work / "run.json", record)
        return str(record["id"])

    def _changes(self, folder: Path) -> list[str]:
        """What differs between the configuration and that of the run in `folder`: "key: old → new"."""
        file = folder / "config.yaml"
        if not file.exists():
            return []
        old = flat(OmegaConf.load(file))
        keys = [key for key in {**old, **self._values} if key not in _NOT_COMPARED]
        absent = "(not set)"
        return [
            f"{key}: {old.get(key, absent)} → {self._values.get(key, absent)}"
            for key in keys
            if old.get(key, absent) != self._values.get(key, absent)
        ]

    def _refuse_changed_config(self) -> None:
        if changes := self._changes(self.folder):
            raise Error(
                f"{shown(self.folder)} holds another configuration ({'; '.join(changes)}): "
                "give this one a parameter set and a name of its own (exp/NNN.yaml), "
                "or replace the old run with overwrite=true"
            )

    def _refuse_shared_name(self) -> None:
        """Two parameter sets with one name would share a folder."""
        chosen = HydraConfig.get().runtime.choices.get("exp") if HydraConfig.initialized() else None
        sources = {file.stem: (file, "name") for file in sorted(self.experiment_dir.glob("exp/*.yaml"))}
        sources["default"] = (self.experiment_dir / "config.yaml", "exp.name")
        for choice, (file, key) in sources.items():
            if choice == chosen or not file.is_file() or OmegaConf.select(OmegaConf.load(file), key) != self.exp.name:
                continue
            this = shown(sources[chosen][0]) if chosen in sources else "the command line"
            raise Error(
                f"{shown(file)} has the name {self.exp.name!r} too, and would share the output folder with {this}: "
                "give one of them another name"
            )

    def _swap(self) -> None:
        """Put the new run in the place of the old one, which is whole until then."""
        if not self._changes(self.folder):  # the same configuration: keep the folds that were not asked for
            for kept in self.folder.iterdir():
                if not (self._new / kept.name).exists():
                    (shutil.copytree if kept.is_dir() else shutil.copy2)(kept, self._new / kept.name)
        self.folder.rename(self._old)
        self._new.rename(self.folder)
        shutil.rmtree(self._old)
        self._work, self._replacing = self.folder, False

    def _finish_interrupted_swap(self) -> None:
        if self._old.exists() and not self.folder.exists():
            (self._new if self._new.exists() else self._old).rename(self.folder)
        shutil.rmtree(self._old, ignore_errors=True)


class Fold:
    """One training of a run: on all rows but those of a fold, or, when `number` is None, on all rows.

    Used in a `with`, which empties the folder of what an interrupted training left there.

    Attributes:
        name: "fold0" or "full", the name of its folder.
        folder: where its files go.
        result: the content of its `result.json`; None while it is not done.
    """

    def __init__(self, run: Run, number: int | None) -> None:
        self.run, self.number = run, number
        self.name = "full" if number is None else f"fold{number}"
        self.title = "all data" if number is None else f"fold {number}"
        self.folder = run._work / self.name
        self.result = _read_json(self.folder / "result.json")

    def __enter__(self) -> Fold:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self._started = time.monotonic()
        self._epochs = Epochs(self.title)
        self._history: TextIO = open(self.folder / "history.csv", "w", newline="", encoding="utf-8")
        self._rows: csv.DictWriter[str] | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._epochs.close()
        self._history.close()
        if self.result is not None:
            print(f"{self.title}  {_describe(self.result)}", flush=True)

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
            The result: fold, metric, score (None when trained on all rows), the extra values, seconds.
        """
        score = None if self.number is None else float(self.run.metric(_read_csv(self.folder / "oof.csv")))
        self.result = {
            "fold": self.number,
            "metric": self.run.metric.__name__,
            "score": score,
            **extra,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        write_json(self.folder / "result.json", self.result)
        return self.result


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all, whatever happens: on disk first, then under its name."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _read_json(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when there is no such file, or, with a warning, when it is not JSON."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        warn(f"{shown(file)} is broken and counts as missing")
        return None
    return content


def _read_csv(file: Path) -> dict[str, list[Any]]:
    """The columns of a CSV file, numbers as numbers."""
    with open(file, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return {name: [_number(row[index]) for row in rows] for index, name in enumerate(header)}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _suffix(longest: int) -> str:
    """What the overrides on the command line add to the name of a run, as in ",exp.train.learning_rate=0.01".

    Hydra's `override_dirname`, safe as a file name, and at most `longest` characters: a hash keeps it unique.
    """
    if not HydraConfig.initialized():
        return ""
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    named = [override for override in overrides if override.key_or_group not in _NOT_IN_NAME]
    pairs = sorted((override.key_or_group, override.get_value_element_as_str()) for override in named)
    plain = "".join(f",{key}={value}" for key, value in pairs)
    safe = re.sub(r"[^\w.,=+-]+", "_", plain)
    if safe == plain and len(safe) <= longest:
        return safe
    return f"{safe[: longest - 9]}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def _provenance(code_root: Path) -> dict[str, Any]:
    """What a person needs to know to make the run again."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": _git(code_root),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": dict(sorted((d.name, d.version) for d in metadata.distributions() if d.name)),
    }


def _git(code_root: Path) -> dict[str, Any] | None:
    """The commit, and whether the working tree differs from it; None outside a git repository."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=code_root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _require_writable(folder: Path) -> None:
    """Raise an OSError, and leave nothing behind, when `folder` cannot be made or written."""
    above = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not above.is_dir():
        raise Error(f"cannot write {folder}: {above} is not a folder")
    probe = above / f".expkit-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Error(f"cannot write {folder}: {error.strerror}") from error


def _describe(result: Mapping[str, Any]) -> str:
    """A result on one line."""
    score = "trained" if result["score"] is None else f"{result['metric']} {result['score']:.4f}"
    best = f"  best epoch {result['best_epoch']}" if "best_epoch" in result and result["score"] is not None else ""
    return f"{score}{best}  {result['seconds']:.1f} s"
