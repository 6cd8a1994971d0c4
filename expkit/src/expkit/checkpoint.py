"""The state of a training, on the disk: a checkpoint, from which it goes on; what another training begins with."""

from __future__ import annotations

import copy
import copyreg
import pickle
import random
import shutil
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType, NoneType
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


# What cannot change, and is saved as it is.
_PLAIN = (NoneType, bool, int, float, complex, str, bytes, range, slice)
_UNPICKLED = (TypeError, AttributeError, pickle.PicklingError)  # what Python raises for what cannot be pickled


@dataclass(eq=False)
class _Saved:
    """An object of a state, as it lies in a checkpoint.

    Attributes:
        path: where it was when the training began; "": it has been made since.
        kind: the name of its class.
        how: "loads" its `state` by load_state_dict; "draws" on from it, a random generator; has "weights" in a file of
            Keras, or "values", as an array; "holds" others; is "made" of others, or "pickled"; "stays" as it is.
        state: of what holds others: its attributes, or what else its __reduce_ex__ gives.
        items: of a list, a set or a deque; the pairs of a dict.
        make: what makes it again, with its arguments; of a tensor, the kind of its device.
    """

    path: str
    kind: str
    how: str = "holds"
    state: Any = None
    items: list[Any] | None = None
    make: tuple[Any, ...] = ()

    @property
    def is_mutable(self) -> bool:
        """Whether it can be restored in place."""
        return self.how not in ("made", "pickled")


class State(dict[str, Any]):
    """The parts of the state of a training, by name, to be saved and restored.

    What was there when the training began stays the same object, whoever holds it: a name in train(), a part, an
    attribute, a list, a bound method. It is restored in place, once: what has `load_state_dict` by it, at any depth;
    other objects attribute by attribute; lists, dicts, sets and deques item by item; arrays and tensors by their
    values; random generators by their states. Functions and what is `given` stay as they are. What has been made since
    is made again, as by pickle, and holds the objects that are still there. What cannot change is set.

    Args:
        parts: by name.
        given: what is no state, although parts may hold it, by name: exp, fold.

    Raises:
        Error: something in it cannot be kept.
    """

    def __init__(self, parts: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(parts)
        self._begun: dict[int, tuple[Callable[[], Any], str]] = {}  # by id: what is there, and its path
        self._fixed: set[int] = set()  # the ids of what another object saves, or nobody
        for path, one in given.items():
            self._know(one, path, is_fixed=True)
        for name, saved in self.taken(begins=True).items():
            what = "state=..." if name == "state" else f"state[{name!r}]"
            for one in saved if isinstance(saved, tuple) else [saved]:
                is_kept = one is None or isinstance(one, _Saved) and one.is_mutable
                kind = one.kind if isinstance(one, _Saved) else type(one).__name__
                require(is_kept, f"{what}: a {kind} cannot be kept: give the object, list or dict that has it")

    def _know(self, value: Any, path: str, is_fixed: bool = False) -> None:
        if id(value) not in self._begun:
            self._begun[id(value)] = _reference(value), path
            if is_fixed:
                self._fixed.add(id(value))

    def taken(self, begins: bool = False) -> dict[str, Any]:
        """The parts as they are now, as `restorer` takes them.

        Args:
            begins: whether the training begins now.
        """
        found: dict[int, tuple[Any, _Saved]] = {}
        todo: list[tuple[Any, _Saved, str]] = []

        def take(value: Any, path: str) -> Any:
            if type(value) in _PLAIN:
                return value
            if type(value) is tuple:
                return tuple(take(one, f"{path}[{index}]") for index, one in enumerate(value))
            if id(value) not in found:
                if begins:
                    self._know(value, path)
                reference, known = self._begun.get(id(value), (lambda: None, ""))
                if reference() is not value:
                    known = ""
                if not known and type(value).__module__ == "numpy":
                    return value  # there may be many, as in a replay buffer
                found[id(value)] = value, _Saved(known, type(value).__name__)
                todo.append((*found[id(value)], path))
            return found[id(value)][1]

        parts = {name: take(part, name) for name, part in self.items()}
        for value, saved, path in todo:  # it grows meanwhile: the parts come first
            try:
                self._fill(saved, value, path, take, begins)
            except _UNPICKLED as error:
                how = "leave it out of the state, or give the class that has it state_dict and load_state_dict"
                raise Error(f"state=...: {path}, a {saved.kind}, cannot be kept ({error}): {how}") from error
        return parts

    def _fill(self, saved: _Saved, value: Any, path: str, take: Callable[[Any, str], Any], begins: bool) -> None:
        """Say how an object is restored, and from what."""
        library = type(value).__module__.partition(".")[0]
        if saved.path and id(value) in self._fixed:
            saved.how = "stays"
        elif isinstance(value, type | FunctionType | ModuleType | weakref.ref):
            try:
                pickle.dumps(value)  # by its name
                saved.how, saved.state = "pickled", value
            except _UNPICKLED:
                if not saved.path:
                    raise
                saved.how = "stays"
        elif hasattr(value, "save_weights"):
            saved.how, saved.state = "weights", next((name for name, part in self.items() if part is value), None)
            require(saved.state is not None, f"state=...: {path}, a model of Keras, must be a part of the state itself")
        elif saved.path and hasattr(value, "load_state_dict"):
            saved.how, saved.state = "loads", None if begins else value.state_dict()
            for every in ("named_modules", "named_parameters", "named_buffers") if begins else ():  # of PyTorch
                for name, one in getattr(value, every, dict[str, Any]().items)():
                    self._know(one, f"{path}.{name}", is_fixed=True)
        elif _is_random(value):
            saved.how, saved.state = ("draws", _generator(value)[0]()) if saved.path else ("pickled", value)
        elif hasattr(value, "untyped_storage"):
            saved.how, saved.state, saved.make = "values", value, (value.device.type,)
        elif library == "numpy":
            saved.how, saved.state = "values" if hasattr(value, "__setitem__") else "pickled", value
        else:
            self._reduce(saved, value, path, take)

    def _reduce(self, saved: _Saved, value: Any, path: str, take: Callable[[Any, str], Any]) -> None:
        """Take an object apart, as pickle does."""

        def attributes(state: Any) -> Any:
            if isinstance(state, dict):
                return {key: take(one, f"{path}.{key}") for key, one in state.items()}
            return tuple(map(attributes, state)) if isinstance(state, tuple) else take(state, path)

        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(reduced, str):  # its name
            saved.how, saved.state = "pickled", value
            return
        make, arguments, state = (*reduced, None)[:3]
        if isinstance(value, dict):
            saved.items = [(take(key, f"{path} key"), take(one, f"{path}[{key!r}]")) for key, one in value.items()]
        elif isinstance(value, list | set | deque):
            saved.items = [take(one, f"{path}[{index}]") for index, one in enumerate(value)]
            arguments = () if isinstance(value, set) else arguments  # its items
        saved.state = attributes(state)
        if not saved.path or "<locals>" not in type(value).__qualname__:  # of which pickle knows no class
            saved.make = make, *(take(one, f"{path} argument") for one in arguments)
        if saved.state is saved.items is None and (make.__name__ != "__newobj__" or len(arguments) > 1):
            saved.how = "made"

    def restorer(self, folder: Path, begins: bool = False, copies: bool = False) -> Callable[[Any], Any]:
        """A function that puts a part, as it was saved, back; it returns the part.

        Args:
            folder: has the weights of Keras.
            begins: whether another training begins with it: rates, schedules and random generators stay.
            copies: whether nothing that is there is touched.
        """
        there = {} if copies else {path: reference() for reference, path in self._begun.values()}
        gpus = [one.device for one in there.values() if hasattr(one, "untyped_storage") and one.device.type != "cpu"]
        done: dict[int, Any] = {}

        def put(saved: Any) -> Any:
            if isinstance(saved, dict):
                return {key: put(one) for key, one in saved.items()}
            if isinstance(saved, tuple):
                return tuple(map(put, saved))
            if not isinstance(saved, _Saved) or id(saved) in done:
                return done.get(id(saved), saved)
            live = there.get(saved.path)
            if type(live).__name__ != saved.kind:
                live = None
            if live is None and not copies and saved.is_mutable and not saved.make and saved.how != "values":
                raise ValueError(f"there is no {saved.kind} at {saved.path}")
            is_made = live is None or not saved.is_mutable
            if is_made and saved.how in ("holds", "made"):
                live = saved.make[0](*map(put, saved.make[1:]))
            elif is_made:
                live = saved.state
                if saved.make and gpus and saved.make != ("cpu",):  # a tensor: where those that are there are
                    live.data = live.data.to(gpus[0])
            done[id(saved)] = live  # before what it holds, which may hold it
            if not (begins and _stays(live)):
                if saved.how in ("holds", "made"):
                    _put_into(live, put(saved.state), saved.items, put, begins)
                elif not is_made:
                    _restore(live, saved, folder, begins)
            return live

        return put


def _reference(value: Any) -> Callable[[], Any]:
    """What a training replaces need not stay in memory."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _put_into(part: Any, state: Any, items: list[Any] | None, put: Callable[[Any], Any], begins: bool) -> None:
    """Give an object its attributes, and its items."""
    if items is not None:
        part.clear()
        if isinstance(part, dict):
            for key, one in items:
                part[put(key)] = put(one)
        else:
            (part.update if isinstance(part, set) else part.extend)(map(put, items))
    if state is not None and hasattr(part, "__setstate__"):
        part.__setstate__({**_attributes(part), **state} if begins and isinstance(state, dict) else state)
    elif state is not None:
        attributes, slots = state if isinstance(state, tuple) else (state, {})
        getattr(part, "__dict__", {}).update(attributes or {})
        for name, one in slots.items():
            object.__setattr__(part, name, one)


def _restore(part: Any, saved: _Saved, folder: Path, begins: bool) -> None:
    """Restore an object by what it has for that."""
    state = saved.state
    if saved.how == "draws":
        _generator(part)[1](state)
    elif saved.how == "weights":
        _load_weights(part, folder / f"{state}.weights.h5", begins)
    elif saved.how == "values":
        if (part.shape, part.dtype) != (state.shape, state.dtype):
            found, here = (f"{one.dtype} {tuple(one.shape)}" for one in (state, part))
            raise ValueError(f"{saved.path} is {found}, and here {here}")
        if hasattr(part, "untyped_storage"):
            part.detach().copy_(state)
        elif part.flags.writeable:  # another cannot have changed
            part[...] = state
    elif saved.how == "loads" and begins and hasattr(part, "start_from"):
        part.start_from(state)
    elif saved.how == "loads":
        own = getattr(part, "__dict__", {}).get("param_groups")
        if own and begins:  # an optimizer of PyTorch
            groups = part.state_dict()["param_groups"]
            if [len(group["params"]) for group in groups] != [len(group["params"]) for group in state["param_groups"]]:
                raise ValueError(f"{type(part).__name__} has other groups of parameters")
            state = {**state, "param_groups": groups}
        part.load_state_dict(state)
        if own:  # it makes others, and who holds these, such as a schedule, sees them no more
            for group, new in zip(own, part.param_groups, strict=True):
                group.update(new)
            part.param_groups = own


def state_parts(state: Any, given: Mapping[str, Any] | None = None) -> State:
    """The state of a training, as `Fold.epochs` takes it, by the names of its parts; {}: there is none.

    Raises:
        Error: a part has no state that can be saved and restored.
    """
    if isinstance(state, dict):
        require(bool(state), "state={} keeps nothing: name its parts, or leave it out")
        return State({str(name): part for name, part in state.items()}, given or {})
    return State({} if state is None else {"state": state}, given or {})


def _generator(part: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What gives the state of a random generator, and what takes it back, in place."""
    if hasattr(part, "bit_generator"):
        return lambda: part.bit_generator.state, lambda state: setattr(part.bit_generator, "state", state)
    return (part.getstate, part.setstate) if isinstance(part, random.Random) else (part.get_state, part.set_state)


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


def save_state(parts: State, done: int, folder: Path, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write the state of a training, and of the random generators, for `load_state`.

    Args:
        parts: of the state, as from `state_parts`.
        done: how many epochs or steps are.
        settings: as from `settings_of`, before the training: it is for `load_learned`, which takes what has changed.
    """
    folder.mkdir()
    _dump(parts.taken(), folder / "state")
    for name, part in parts.items():
        if hasattr(part, "save_weights"):  # of Keras, with those of the optimizer; it asks for this ending
            part.save_weights(folder / f"{name}.weights.h5")
    same, shapes = dict[str, Any](), dict[str, Any]()
    for name, known in (settings or {}).items():
        now = _attributes(parts[name])
        shapes[name] = {key: _shapes(value) for key, value in now.items()}
        same[name] = {
            key: one for key, one in known.items() if key in now and not shapes[name][key] and now[key] == one
        }
    generators = {name: get() for name, (get, _) in _generators().items()}
    position = {"done": done, "kinds": _kinds(parts), "settings": same, "shapes": shapes, "random": generators}
    _dump(position, folder / POSITION)


def load_state(parts: State, folder: Path) -> int:
    """Put a training where `save_state` found it, and the random generators; returns how many epochs are done.

    Raises:
        Error: `parts` are others than those that were saved, or of another shape.
    """
    with _fits(parts, folder, "the checkpoint does not fit this training, overwrite=true begins again") as position:
        put, found = parts.restorer(folder), _load(folder / "state")
        for name in parts:
            put(found[name])
    saved = position["random"]
    for name, (_, give) in _generators(saved).items():
        if name in saved:
            give(saved[name])
    return int(position["done"])


def load_learned(parts: State, fold: Path, title: str) -> None:
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
    with _fits(parts, fold / STATE, f"the state of {title} does not fit: {by_hand}") as position:
        put, found = parts.restorer(fold / STATE, begins=True), _load(fold / STATE / "state")
        for name in position["kinds"]:
            part, saved = parts[name], found[name]
            if isinstance(saved, _Saved) and saved.how == "holds" and isinstance(saved.state, dict):
                if hasattr(part, "start_from"):
                    part.start_from(parts.restorer(fold / STATE, copies=True)(saved.state))
                    continue
                _keep_settings(part, saved.state, position["settings"][name], position["shapes"][name])
            put(saved)
            if hasattr(part, "learning_rate_init"):  # a network of scikit-learn
                part._optimizer.learning_rate = part._optimizer.learning_rate_init = part.learning_rate_init


@contextmanager
def _fits(parts: State, folder: Path, problem: str) -> Iterator[dict[str, Any]]:
    """What lies beside the parts of a state, which must be of the same classes."""
    try:
        position: dict[str, Any] = _load(folder / POSITION)
        if position["kinds"] != _kinds(parts):
            raise ValueError(f"it is of {position['kinds']}, and the training has {_kinds(parts)}")
        yield position
    except Exception as error:  # whatever a library raises for weights of another shape
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise Error(f"{problem}: {said}") from error


def _keep_settings(part: Any, state: dict[str, Any], settings: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Take away from the attributes of another training those that it has not trained.

    Args:
        settings: what these attributes are there.
        shapes: of the arrays in each attribute there.
    """
    own = _attributes(part)
    for key in own and [*state]:
        if key in settings:
            value = settings[key]
            is_free = isinstance(value, float) or is_dataclass(value) or key in _FREE
            if not is_free and own.get(key) != value:
                raise ValueError(f"{key} is {value}, and here {own.get(key)}")
            del state[key]
        elif _shapes(own.get(key)) not in ([], shapes[key]):
            raise ValueError(f"{key} has the shape {shapes[key]}, and here {_shapes(own.get(key))}")


def _load_weights(part: Any, file: Path, begins: bool) -> None:
    """Load those of a Keras model, and its optimizer; when a training begins with them, it keeps its rate and count."""
    rates = []
    if (optimizer := getattr(part, "optimizer", None)) is not None:
        optimizer.build(part.trainable_variables)  # Keras only warns where its state has no place
        rates = [rate for rate in (optimizer.iterations, optimizer._learning_rate) if hasattr(rate, "assign")]
    kept = [(rate, rate.numpy()) for rate in rates if begins]
    part.load_weights(file)
    for rate, value in kept:
        rate.assign(value)


def settings_of(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of plain objects that hold no arrays: by part, by name."""
    kinds = (bool, int, float, str, tuple, list, Enum, NoneType)
    found: dict[str, dict[str, Any]] = {name: {} for name in parts}
    for name, part in parts.items():
        for key, value in _attributes(part).items():
            if (isinstance(value, kinds) or is_dataclass(value)) and not _shapes(value):
                found[name][key] = copy.deepcopy(value)
    return found


def _is_random(part: Any) -> bool:
    is_library = type(part).__module__.partition(".")[0] in ("numpy", "torch") and hasattr(part, "set_state")
    return is_library or isinstance(part, random.Random) or hasattr(part, "bit_generator")


def _attributes(part: Any) -> dict[str, Any]:
    """The attributes of an object whose state they are, or are taken for; {}: its state is another."""
    if hasattr(part, "load_state_dict") or _is_random(part):
        return {}
    state = part.__getstate__() if hasattr(part, "__setstate__") else getattr(part, "__dict__", {})
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
