"""What a training keeps and shows while it runs: checkpoints, history.csv, train.log, a line on a terminal."""

from __future__ import annotations

import copy
import csv
import io
import logging
import math
import numbers
import pickle
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, TextIO

from expkit import files
from expkit.errors import CANNOT_WRITE, Error, chain, described, duration, require, warn
from expkit.files import Broken
from expkit.project import display_path
from expkit.store import CHECKPOINT, RESULT, STATE, number_of, read_history

METADATA = "metadata.json"
POSITION = "position"  # in the state of a training: how far it is, and its random generators
_FREE = ("batch_size", "random_state", "seed")  # beside floats, settings that may differ from those begun from
LINES = 16  # that a training of known length prints
BLINK = 0.1  # seconds, at least, that a line on a terminal is shown


class Checkpoint:
    """The saved state of a training that takes long.

        if fold.checkpoint.file:
            network.load(fold.checkpoint.file)
        for epoch in ...:
            ...
            fold.checkpoint.save(network.save)

    A checkpoint is whole or not there, whenever the process is killed. It is a file or a folder. It is used only with
    the same configuration; after other code or data have come, only when the command says resume=true. It is removed
    when the fold is done.

    Args:
        folder: of the fold.
        progress: what the checkpoint is to remember beside the state.

    Attributes:
        file: the last checkpoint; None: there is none, and the training starts from its beginning.
    """

    def __init__(self, folder: Path, progress: Callable[[], dict[str, Any]]) -> None:
        self.folder = folder / CHECKPOINT
        self.file: Path | None = None
        self._progress = progress
        self._number, self._saved = 0, time.monotonic()

    def save(self, write: Callable[[Path], Any], every: float = 0) -> bool:
        """Save the present state; it replaces the last one. On a full disk, a warning says so, and the last one stays.

        Args:
            write: is called with a path, and writes the state to this file; or makes a folder of it.
            every: seconds; when fewer have passed since the last call that saved, or since the training began, nothing
                is saved.

        Returns:
            whether the state was saved.
        """
        if time.monotonic() - self._saved < every:
            return False
        self._number += 1  # also after a failure: never the name of one that counts
        state = self.folder / f"state{self._number}"
        self.folder.mkdir(exist_ok=True)
        files.remove(state)  # half of one, whose process was killed
        try:
            write(state)
            nothing = f"fold.checkpoint.save(write): write(file) has left nothing at {display_path(state)}"
            require(state.exists(), nothing)
            content = _to_disk(state)
        except Exception as error:
            files.remove(state)  # half of one would keep the disk full
            if not any(isinstance(cause, OSError) and cause.errno in CANNOT_WRITE for cause in chain(error)):
                raise
            warn(f"no checkpoint is saved ({described(error)}); the training goes on, and the last one stays")
            self._saved = time.monotonic()
            return False
        metadata = {"number": self._number, "files": content, **self._progress()}
        files.write_json(self.folder / METADATA, metadata)  # from here on, this one counts
        self.file, self._saved = state, time.monotonic()
        for other in self.folder.glob("state*"):
            if other != state:
                files.remove(other)
        return True

    def find(self) -> dict[str, Any]:
        """What the last checkpoint remembers, {} when there is none; `file` is its state from now on.

        Raises:
            Broken: it is not as it was saved.
            OSError: the state may not be read.
        """
        metadata = files.read_json(self.folder / METADATA) or {}
        if metadata:
            self._number = metadata["number"]
            state = self.folder / f"state{self._number}"
            if metadata["files"] != _to_disk(state):
                raise Broken("cut off or edited")
            self.file = state
        return metadata

    def remove(self) -> None:
        """Remove the checkpoint: the fold is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.file = None


def state_parts(state: Any) -> dict[str, Any]:
    """The state of a training, as `Fold.epochs` takes it, by the names of its files.

    Raises:
        Error: a part has no state that can be saved and loaded.
    """
    if state is None:
        return {}
    parts = {f"state_{name}": part for name, part in state.items()} if isinstance(state, dict) else {"state": state}
    for part in parts.values():
        has_state = any(hasattr(part, name) for name in ("__dict__", "bit_generator", *(put for _, put in _STATES[:3])))
        is_kept = has_state and not hasattr(part, "untyped_storage")  # which a tensor has
        require(is_kept, f"state=...: a {type(part).__name__} cannot be kept: give the object that has it")
    return parts


_STATES = [  # how the state of an object is taken, and put back: of PyTorch; its random generators; Python's; a pickle
    ("state_dict", "load_state_dict"),
    ("get_state", "set_state"),
    ("getstate", "setstate"),
    ("__getstate__", "__setstate__"),
]


def _state_of(part: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What gives the state of an object, and what takes it back, in place."""
    if hasattr(part, "bit_generator"):  # a random generator of NumPy
        return lambda: part.bit_generator.state, lambda state: setattr(part.bit_generator, "state", state)
    for get, put in _STATES:
        if hasattr(part, put):
            return getattr(part, get), getattr(part, put)
    return lambda: vars(part), vars(part).update


def save_state(
    parts: Mapping[str, Any], done: int, folder: Path, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write the state of a training, and of the random generators, for `load_state`.

    Args:
        parts: of the state, as from `state_parts`; or `learning` of these, with `settings`.
        done: how many epochs or steps are.
        settings: as from `settings_of`, before the training: what it has learned is written, for `load_learned`.
    """
    folder.mkdir()
    generators: dict[str, Any] = {"python": random.getstate()}
    if numpy := sys.modules.get("numpy"):
        generators["numpy"] = numpy.random.get_state()
    if torch := sys.modules.get("torch"):
        generators["torch"] = torch.get_rng_state()
        gpu = torch.get_device_module()  # such as torch.cuda and torch.mps; torch.cpu has no generators of its own
        if hasattr(gpu, "get_rng_state") and getattr(gpu, "is_initialized", lambda: True)():
            generators[gpu.__name__] = [gpu.get_rng_state(number) for number in range(gpu.device_count())]
    for name, part in parts.items():
        if hasattr(part, "load_state_dict"):
            _dump(part.state_dict(), folder / name)
        elif hasattr(part, "save") and hasattr(part, "load"):
            part.save(folder / name)
        elif hasattr(part, "save_weights"):  # of Keras, with those of the optimizer; it asks for this ending
            part.save_weights(folder / f"{name}.weights.h5")
        elif settings is not None and (found := _attributes(part)):
            same = {key: value for key, value in settings[name].items() if found.get(key) == value}
            learned = {key: value for key, value in found.items() if key not in same and not _is_random(value)}
            _dump((learned, same), folder / name)
        else:
            _dump(_state_of(part)[0](), folder / name)
    _dump({"done": done, "kinds": _kinds(parts), "random": generators}, folder / POSITION)


def load_state(parts: Mapping[str, Any], folder: Path) -> int:
    """Put a training where `save_state` found it, and the random generators; returns how many epochs are done.

    Raises:
        Error: `parts` are others than those that were saved, or of another shape.
    """
    position = _load_parts(parts, folder, "the checkpoint does not fit this training, overwrite=true begins again")
    generators = position["random"]
    random.setstate(generators["python"])
    if "numpy" in generators:
        import numpy

        numpy.random.set_state(generators["numpy"])
    if "torch" in generators:
        import torch

        torch.set_rng_state(generators["torch"])
        gpu = torch.get_device_module()
        states = generators.get(gpu.__name__, [])
        for number, state in enumerate(states if len(states) == gpu.device_count() else []):
            gpu.set_rng_state(state, number)
    return int(position["done"])


def load_learned(parts: Mapping[str, Any], fold: Path, title: str) -> None:
    """Begin a training with what another one has learned; its settings stay its own.

    A part with a method `start_from(state)` chooses by itself what it takes of the `state_dict` of the other.

    Args:
        parts: as from `learning`.
        fold: the folder of the other.
        title: of the other.

    Raises:
        Error: there is no state in it, or one of other parts, of another shape, or with other settings than numbers.
    """
    by_hand = "load what you need in train(), from fold.start_from, and say start_from=False beside state=..."
    require((fold / STATE).is_dir(), f"{title} has kept no state: {by_hand}")
    _load_parts(parts, fold / STATE, f"the state of {title} does not fit: {by_hand}", begins=True)


def learning(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a state but for schedules and random generators."""
    return {name: part for name, part in parts.items() if not (hasattr(part, "get_last_lr") or _is_random(part))}


def settings_of(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of plain objects that hold no arrays: by part, by name."""
    kinds = (bool, int, float, str, tuple, list, Enum, NoneType)
    found: dict[str, dict[str, Any]] = {name: {} for name in parts}
    for name, part in parts.items():
        for key, value in _attributes(part).items():
            if (isinstance(value, kinds) or is_dataclass(value)) and not _shapes(value):
                found[name][key] = copy.deepcopy(value)
    return found


def _load_parts(parts: Mapping[str, Any], folder: Path, problem: str, begins: bool = False) -> dict[str, Any]:
    """Load the parts of a state, which must be of the same classes; what it has beside them."""
    try:
        position: dict[str, Any] = _load(folder / POSITION)
        if position["kinds"] != _kinds(parts):
            raise ValueError(f"it is of {position['kinds']}, and the training has {_kinds(parts)}")
        for name, part in parts.items():
            _load_part(part, folder / name, begins)
    except Exception as error:  # whatever a library raises for weights of another shape
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise Error(f"{problem}: {said}") from error
    return position


def _load_part(part: Any, file: Path, begins: bool) -> None:
    if begins and hasattr(part, "start_from"):
        part.start_from(_load(file))
    elif begins and hasattr(part, "param_groups"):  # an optimizer of PyTorch
        own, found = part.state_dict()["param_groups"], _load(file)
        if [len(group["params"]) for group in own] != [len(group["params"]) for group in found["param_groups"]]:
            raise ValueError(f"{type(part).__name__} has other groups of parameters")
        part.load_state_dict({**found, "param_groups": own})
    elif hasattr(part, "load_state_dict"):
        part.load_state_dict(_load(file))
    elif hasattr(part, "save") and hasattr(part, "load"):
        part.load(file)
    elif hasattr(part, "save_weights"):
        kept = []
        if (optimizer := getattr(part, "optimizer", None)) is not None:
            optimizer.build(part.trainable_variables)  # Keras only warns where its state has no place
            rates = [rate for rate in (optimizer.iterations, optimizer._learning_rate) if hasattr(rate, "assign")]
            kept = [(rate, rate.numpy()) for rate in rates if begins]
        part.load_weights(file.with_name(f"{file.name}.weights.h5"))
        for rate, value in kept:
            rate.assign(value)
    elif begins and (own := _attributes(part)):
        learned, settings = _load(file)
        for key, value in settings.items():
            if own.get(key) != value and not (isinstance(value, float) or is_dataclass(value) or key in _FREE):
                raise ValueError(f"{key} is {value}, and here {own.get(key)}")
        for key, value in learned.items():
            if (shapes := _shapes(own.get(key))) and shapes != _shapes(value):
                raise ValueError(f"{key} has the shape {_shapes(value)}, and here {shapes}")
        _state_of(part)[1]({**own, **learned})
        if hasattr(part, "learning_rate_init"):  # a network of scikit-learn
            part._optimizer.learning_rate = part._optimizer.learning_rate_init = part.learning_rate_init
    else:
        _state_of(part)[1](_load(file))


def _is_random(part: Any) -> bool:
    is_library = type(part).__module__.partition(".")[0] in ("numpy", "torch") and hasattr(part, "set_state")
    return is_library or isinstance(part, random.Random) or hasattr(part, "bit_generator")


def _attributes(part: Any) -> dict[str, Any]:
    """The attributes of an object whose state they are, or are taken for; {}: its state is another."""
    state = {} if hasattr(part, "load_state_dict") else _state_of(part)[0]()
    return state if isinstance(state, dict) else {}


def _shapes(value: Any) -> list[tuple[int, ...]]:
    """The shapes of the arrays in a value, at any depth."""
    value = vars(value) if is_dataclass(value) else value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [value.shape] if hasattr(value, "shape") else [shape for one in inner for shape in _shapes(one)]


def _kinds(parts: Mapping[str, Any]) -> dict[str, str]:
    return {name: type(part).__name__ for name, part in parts.items()}


def _dump(values: Any, file: Path) -> None:
    """Pickle values; with PyTorch's own format where there may be tensors, which pickle copies first."""
    if torch := sys.modules.get("torch"):
        torch.save(values, file)
    else:
        file.write_bytes(pickle.dumps(values))


def _load(file: Path) -> Any:
    with open(file, "rb") as stream:
        if not stream.peek(2).startswith(b"PK"):  # PyTorch's own format is a ZIP file
            return pickle.load(stream)
    import torch

    return torch.load(file, map_location="cpu", weights_only=False)


def unfinished(version: Path) -> dict[str, dict[str, Any]]:
    """The metadata of the checkpoints from which the folds of a version can go on, by the name of their folder."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(version.glob(f"*/{CHECKPOINT}/{METADATA}")):
        fold = file.parents[1]
        if not (fold / RESULT).exists() and (metadata := files.read_if_whole(file)):
            found[fold.name] = metadata
    return found


def _to_disk(state: Path) -> dict[str, str]:
    """Flush a state to the disk; a hash of each of its files, by its name."""
    return {file.relative_to(state).as_posix(): files.file_hash(file) for file in files.tree_to_disk(state)}


class History:
    """Writes history.csv. Each row has left this process when `add` returns.

    Rows of epochs and of steps stand in one file, in the order of logging; `store.axis_of` says which is which.

    Args:
        file: is made with the first row.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, 0
        self.columns: list[str] = []

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row."""
        if new := [name for name in row if name not in self.columns]:
            _, before = read_history(self.file)
            self.columns += new
            self._write(before)
        # Opened for each row: 20 microseconds, and what lies there is cut, renamed or deleted as by any program.
        with open(self.file, "a", encoding="utf-8", newline="") as stream:
            self._writer(stream).writerow(row)
        self.rows += 1

    def cut(self, rows: int) -> list[dict[str, float]]:
        """Keep and return the first `rows` rows that an interrupted training has left."""
        self.columns, there = read_history(self.file)
        kept = there[:rows]
        self.rows = len(kept)
        if kept:
            self._write(kept)
        else:
            files.remove(self.file)
            self.columns = []
        return [{name: number for name in row if (number := number_of(row[name])) is not None} for row in kept]

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(self.file, text.getvalue())

    def _writer(self, stream: TextIO) -> csv.DictWriter[str]:
        return csv.DictWriter(stream, self.columns, extrasaction="ignore", lineterminator="\n")


def as_number(value: Any) -> float | None:
    """One number of Python, NumPy or a tensor as an int or a float; None for anything else."""
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError, TypeError):  # it has several
            value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return int(value) if isinstance(value, numbers.Integral) else float(value)


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Copy what Python code prints meanwhile, and the traceback of what fails, to the end of a file."""
    streams = sys.stdout, sys.stderr
    with open(file, "a", encoding="utf-8", errors="replace", newline="\n") as log:
        tees = tuple(Tee(stream, log) for stream in streams)
        with redirect_stdout(tees[0]), redirect_stderr(tees[1]):
            logging.basicConfig(format="%(message)s")  # loggers without a handler of anybody's; Hydra's level is INFO
            _move_handlers(streams, tees)
            try:
                yield
            except BaseException:
                log.write(traceback.format_exc())
                raise
            finally:
                _move_handlers(tees, streams)


class Tee:
    """A stream that also writes into a log, while that is open. On a terminal, its last line may be one that passes."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log = stream, log
        self._passes = False

    def write(self, text: str) -> int:
        """Write to both."""
        self.note(text)
        self.show("")
        return self.stream.write(text)

    def note(self, text: str) -> None:
        """Write to the log alone."""
        if not self.log.closed:
            self.log.write(text)
            self.log.flush()

    def show(self, line: str) -> None:
        """Show a line on the terminal alone, in place of the one before, until something else is written."""
        if line or self._passes:
            width = shutil.get_terminal_size().columns
            self.stream.write(f"\r\x1b[K{line[: width - 1]}")
            self.stream.flush()
            self._passes = bool(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _move_handlers(old: Sequence[Any], new: Sequence[Any]) -> None:
    """Point the handlers of `logging` from some streams to others: libraries keep the stream that they found first."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", []):
            if isinstance(handler, logging.StreamHandler) and handler.stream in old:
                handler.setStream(new[old.index(handler.stream)])


class Progress:
    """The epochs and steps of one training, as they pass: on a terminal in a line that changes, else line by line.

    Args:
        title: what is trained, such as "fold 0".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._shown = -math.inf  # when the last line on a terminal was, `time.monotonic()`
        self._began: tuple[float, float] | None = None  # the first epoch or step on a terminal, and its time
        self._rows, self._next = 0, 0.0  # rows so far, and when to print the next line
        self._line = ""  # the last line, until it is printed

    def show(self, axis: str | None, row: Mapping[str, float], total: float | None) -> None:
        """Show that the epoch or step `row[axis]`, of `total`, is done, and its metrics."""
        values = "  ".join(f"{name} {_format(value)}" for name, value in row.items() if name != axis)
        where = "" if axis is None else f"  {axis} {row[axis]}{f'/{total}' if total else ''}"
        self._line = f"{self.title}{where}  {values}"
        self._rows += 1
        done = self._rows if axis is None or not total else LINES * row[axis] / total
        if done >= self._next:  # LINES lines of so many, else fewer and fewer; history.csv has every row
            self._next = math.floor(done) + 1 if axis is not None and total else 2 * done
            self._print()
        now = time.monotonic()
        if (terminal := _terminal()) and now - self._shown >= BLINK:
            self._shown, left = now, ""
            if axis is not None and total:
                first, since = self._began = self._began or (row[axis], now)
                passed = row[axis] - first
                left = f"  {duration((now - since) / passed * (total - row[axis]))} left" if passed > 0 else ""
            terminal.show(f"{self.title}{where}{left}  {values}")

    def _print(self) -> None:
        line, self._line = self._line, ""
        if terminal := _terminal():
            terminal.note(f"{line}\n")
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Print the last line, where that is to come, and remove the one that changes."""
        if self._line:
            self._print()
        if terminal := _terminal():
            terminal.show("")


def _terminal() -> Tee | None:
    """Stdout, when it is a terminal, and of a training."""
    return sys.stdout if isinstance(sys.stdout, Tee) and sys.stdout.isatty() else None


def _format(value: float) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"
