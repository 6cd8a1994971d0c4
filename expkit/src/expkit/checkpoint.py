"""The state of a training, on the disk: a checkpoint, from which it goes on; what another training begins with."""

from __future__ import annotations

import copy
import pickle
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any

from expkit import files
from expkit.errors import CANNOT_WRITE, Error, chain, described, require, warn
from expkit.files import Broken
from expkit.project import display_path
from expkit.store import CHECKPOINT, RESULT, STATE

METADATA = "metadata.json"
POSITION = "position"  # in the state of a training: how far it is, and its random generators
_FREE = ("batch_size", "random_state", "seed")  # beside floats, settings that may differ from those begun from


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


def _generators(saved: Mapping[str, Any] | None = None) -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """How the states of the random generators that libraries share are taken, and put back.

    Args:
        saved: by the same names; a library that it names is imported. None: those that are in use.
    """
    for name in saved or ():
        import_module(name.partition(" ")[0])
    found: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {"random": (random.getstate, random.setstate)}
    if numpy := sys.modules.get("numpy"):
        found["numpy"] = numpy.random.get_state, numpy.random.set_state
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.get_rng_state, torch.set_rng_state
        gpu = torch.get_device_module()  # such as torch.cuda and torch.mps; torch.cpu has no generators of its own
        name = f"{gpu.__name__} {gpu.device_count()}"  # of other GPUs, none is put back
        is_used = getattr(gpu, "is_initialized", lambda: True) if saved is None else lambda: name in saved
        if hasattr(gpu, "get_rng_state") and is_used():
            every = "_all" if hasattr(gpu, "get_rng_state_all") else ""
            found[name] = getattr(gpu, f"get_rng_state{every}"), getattr(gpu, f"set_rng_state{every}")
    return found


def save_state(
    parts: Mapping[str, Any], done: int, folder: Path, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write the state of a training, and of the random generators, for `load_state`.

    Args:
        parts: of the state, as from `state_parts`.
        done: how many epochs or steps are.
        settings: as from `settings_of`, before the training: it is for `load_learned`, which takes what has changed.
    """
    folder.mkdir()
    for name, part in parts.items():
        if hasattr(part, "save_weights"):  # of Keras, with those of the optimizer; it asks for this ending
            part.save_weights(folder / f"{name}.weights.h5")
        else:
            _dump(_state_of(part)[0](), folder / name)
    generators = {name: get() for name, (get, _) in _generators().items()}
    _dump({"done": done, "kinds": _kinds(parts), "settings": settings, "random": generators}, folder / POSITION)


def load_state(parts: Mapping[str, Any], folder: Path) -> int:
    """Put a training where `save_state` found it, and the random generators; returns how many epochs are done.

    Raises:
        Error: `parts` are others than those that were saved, or of another shape.
    """
    position = _load_parts(parts, folder, "the checkpoint does not fit this training, overwrite=true begins again")
    saved = position["random"]
    for name, (_, put) in _generators(saved).items():
        if name in saved:
            put(saved[name])
    return int(position["done"])


def load_learned(parts: Mapping[str, Any], fold: Path, title: str) -> None:
    """Begin a training with what another one has learned; its settings stay its own.

    A part with a method `start_from(state)` chooses by itself what it takes of the `state_dict` of the other.

    Args:
        fold: the folder of the other.
        title: of the other.

    Raises:
        Error: there is no state in it, or one of other parts, of another shape, or with other settings than numbers.
    """
    by_hand = "load what you need in train(), from fold.start_from, and say start_from=False beside state=..."
    require((fold / STATE).is_dir(), f"{title} has kept no state: {by_hand}")
    _load_parts(parts, fold / STATE, f"the state of {title} does not fit: {by_hand}", begins=True)


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
            if not begins or not _stays(part):
                _load_part(part, folder / name, position["settings"][name] if begins else None)
    except Exception as error:  # whatever a library raises for weights of another shape
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise Error(f"{problem}: {said}") from error
    return position


def _load_part(part: Any, file: Path, settings: Mapping[str, Any] | None) -> None:
    """Load a part of a state.

    Args:
        settings: what its attributes were at first, where another training begins from the state; None: it goes on.
    """
    begins = settings is not None
    if begins and hasattr(part, "start_from"):
        part.start_from(_load(file))
    elif begins and hasattr(part, "param_groups"):  # an optimizer of PyTorch
        own, found = part.state_dict()["param_groups"], _load(file)
        if [len(group["params"]) for group in own] != [len(group["params"]) for group in found["param_groups"]]:
            raise ValueError(f"{type(part).__name__} has other groups of parameters")
        part.load_state_dict({**found, "param_groups": own})
    elif hasattr(part, "save_weights"):
        rates = []
        if (optimizer := getattr(part, "optimizer", None)) is not None:
            optimizer.build(part.trainable_variables)  # Keras only warns where its state has no place
            rates = [rate for rate in (optimizer.iterations, optimizer._learning_rate) if hasattr(rate, "assign")]
        kept = [(rate, rate.numpy()) for rate in rates if begins]
        part.load_weights(file.with_name(f"{file.name}.weights.h5"))
        for rate, value in kept:
            rate.assign(value)
    elif settings is not None and (own := _attributes(part)):
        learned = {}
        for key, value in _load(file).items():
            if key in settings and not _shapes(value) and settings[key] == value:  # it has not been trained
                is_free = isinstance(value, float) or is_dataclass(value) or key in _FREE
                if not is_free and own.get(key) != value:
                    raise ValueError(f"{key} is {value}, and here {own.get(key)}")
            elif not _is_random(value):
                if _shapes(own.get(key)) not in ([], _shapes(value)):
                    raise ValueError(f"{key} has the shape {_shapes(value)}, and here {_shapes(own.get(key))}")
                learned[key] = value
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
    return {name: type(part).__name__ for name, part in parts.items() if not _stays(part)}


def _stays(part: Any) -> bool:
    """Whether a training that begins from another has its own: a schedule, a random generator."""
    return hasattr(part, "get_last_lr") or _is_random(part)


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
    with files.flushing(state) as there:
        return {file.relative_to(state).as_posix(): files.hash_of_blocks(file) for file in there}
