"""The state of a training is restored in place: whoever holds an object of it holds the one that goes on."""

from __future__ import annotations

import functools
import itertools
import random
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pandas
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier

import expkit
from expkit import checkpoint
from expkit.checkpoint import load_learned, load_state, save_state, settings_of, state_parts


class Net:
    """As of PyTorch: `load_state_dict` writes into its weights."""

    def __init__(self) -> None:
        self.weights = numpy.zeros(3)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights[:] = state["weights"]

    def named_parameters(self) -> list[tuple[str, Any]]:
        return [("weights", self.weights)]

    def predict(self) -> float:
        return float(self.weights.sum())


class Optimizer:
    """Holds the weights of a network, and has moments of them since its first step."""

    def __init__(self, weights: list[Any]) -> None:
        self.weights, self.steps, self.moments = weights, 0, dict[int, Any]()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "moments": self.moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.moments = state["steps"], state["moments"]

    def step(self) -> None:
        self.steps += 1
        for index, weights in enumerate(self.weights):
            self.moments[index] = 0.5 * self.moments.get(index, 0) + self.steps
            weights += self.moments[index]


class Wrapped(SimpleNamespace):
    """An object of the user: a schedule around an optimizer, an EMA, a trainer."""


class Slots:
    __slots__ = ("net", "number")

    def __init__(self, net: Any) -> None:
        self.net, self.number = net, 0


@dataclass
class Averaged:
    net: Any
    shadow: list[Any] = field(default_factory=list)


Make = Callable[[], dict[str, Any]]


def goes_on(folder: Path, make: Make, train: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """What `make` gives, restored from a checkpoint of another one that was trained."""
    old, new = make(), make()
    parts, fresh = state_parts(old), state_parts(new)
    train(old)
    save_state(parts, 1, folder / "state")
    assert load_state(fresh, folder / "state") == 1
    return new


def make() -> dict[str, Any]:
    net = Net()
    optimizer = Optimizer([net.weights])
    wrapped = Wrapped(inner=optimizer, count=0)
    ema = Averaged(net, [numpy.zeros(3)])
    trainer = Wrapped(deep=[{"optimizer": optimizer, "pair": (net, ema)}], predict=net.predict)
    trainer.itself, trainer.partial = trainer, functools.partial(Net.predict, net)
    return {"trainer": trainer, "ema": ema, "optimizer": wrapped, "slots": Slots(net), "net": net}


def train(parts: dict[str, Any], steps: int = 2) -> list[float]:
    """A step of what the parts hold, and what others see of it."""
    trainer, ema, wrapped = parts["trainer"], parts["ema"], parts["optimizer"]
    for _ in range(steps):
        trainer.deep[0]["optimizer"].step()
        wrapped.count += 1
        ema.shadow[0] = 0.5 * ema.shadow[0] + ema.net.weights
        parts["slots"].number += 1
    seen = [parts["net"].predict(), trainer.predict(), trainer.partial(), parts["slots"].net.predict()]
    return [*seen, wrapped.count, wrapped.inner.steps, parts["slots"].number, *trainer.deep[0]["pair"][1].shadow[0]]


@pytest.mark.parametrize("only", [None, "trainer"], ids=["parts", "one that holds the others"])
def test_names_in_train_stay_what_the_state_holds(tmp_path: Path, only: str | None) -> None:
    """An optimizer around another, an average, a trainer: each steps the network that predicts."""
    whole, old, new = make(), make(), make()
    one: Any = None if only is None else (lambda parts: parts[only])
    parts, fresh = (state_parts(one(each) if one else each) for each in (old, new))
    train(old)
    save_state(parts, 1, tmp_path / "state")
    before = new["trainer"].deep, new["net"].weights
    load_state(fresh, tmp_path / "state")
    assert before[0] is new["trainer"].deep and before[1] is new["net"].weights, "in place"
    assert new["ema"].net is new["net"] and new["trainer"].itself is new["trainer"]
    assert new["trainer"].deep[0]["pair"] == (new["net"], new["ema"])
    if only is None:
        assert train(new) == train(whole, 4)
    else:
        assert train(new)[:3] == train(whole, 4)[:3]


def test_an_object_is_saved_once(tmp_path: Path) -> None:
    """Whatever holds it: a checkpoint is not larger, and what is restored twice would be counted twice."""
    made: list[str] = []

    class Counts(Net):
        def state_dict(self) -> dict[str, Any]:
            made.append("saved")
            return super().state_dict()

        def load_state_dict(self, state: dict[str, Any]) -> None:
            made.append("restored")
            super().load_state_dict(state)

    def twice() -> dict[str, Any]:
        net = Counts()
        return {"a": Wrapped(net=net), "net": net, "b": Wrapped(nets=[net, net])}

    goes_on(tmp_path, twice, lambda parts: None)
    assert made == ["saved", "restored"]


def test_two_parts_that_hold_the_same(tmp_path: Path) -> None:
    """Lists, arrays and generators are still shared after it, and those that are not are not."""

    def shared() -> dict[str, Any]:
        losses, weights, own = [0.5], numpy.zeros(2), numpy.random.default_rng(0)
        return {key: Wrapped(losses=losses, weights=weights, random=own, view=weights[:1]) for key in "ab"}

    def learn(parts: dict[str, Any]) -> None:
        parts["a"].losses.append(0.25)
        parts["a"].weights += parts["a"].random.normal(size=2)
        parts["b"].view += 1
        parts["b"].best = parts["a"].best = [parts["a"].weights.copy()]  # made since

    old = shared()
    learn(old)
    new = goes_on(tmp_path, shared, learn)
    assert new["a"].losses is new["b"].losses == [0.5, 0.25] and new["a"].weights is new["b"].weights
    assert (new["a"].weights == old["a"].weights).all() and new["a"].view.base is new["a"].weights
    assert new["a"].best is new["b"].best and new["a"].best[0] is not new["a"].weights
    assert new["a"].random is new["b"].random and new["b"].random.normal() == old["a"].random.normal()


def test_what_is_replaced_is_not_written_into(tmp_path: Path) -> None:
    """At first the best weights are those of the network: a copy that came later must not overwrite them."""

    def best() -> dict[str, Any]:
        net = Net()
        return {"net": net, "best": Wrapped(weights=net.weights, now=[1], before=[2])}

    def learn(parts: dict[str, Any]) -> None:
        parts["best"].weights = parts["net"].weights + 1
        parts["net"].weights += 5
        parts["best"].now, parts["best"].before = parts["best"].before, parts["best"].now  # two buffers

    new = goes_on(tmp_path, best, learn)
    assert [*new["net"].weights, *new["best"].weights] == [5, 5, 5, 1, 1, 1]
    assert (new["best"].now, new["best"].before) == ([2], [1])


def test_what_is_made_since_holds_what_was_there(tmp_path: Path) -> None:
    """An optimizer of the first step, a method of the network; also in the state after that."""

    def lazy() -> dict[str, Any]:
        net = Net()
        return {"trainer": Wrapped(net=net, optimizer=None), "net": net}

    def learn(parts: dict[str, Any]) -> None:
        trainer = parts["trainer"]
        trainer.optimizer = trainer.optimizer or Optimizer([trainer.net.weights])
        trainer.call, trainer.copy = trainer.net.predict, Net()
        trainer.optimizer.step()

    new = goes_on(tmp_path, lazy, learn)
    learn(new)
    assert new["net"].predict() == new["trainer"].call() == 10.5 != new["trainer"].copy.predict()


PARTS = {
    "list": lambda: [1],
    "dict": lambda: {"best": 0.5},
    "default": lambda: defaultdict(list, {"a": [1]}),
    "ordered": lambda: OrderedDict(a=1),
    "counter": lambda: Counter("aab"),
    "set": lambda: {1},
    "deque": lambda: deque([1, 2], maxlen=2),
    "array": lambda: numpy.zeros(2),
    "masked": lambda: numpy.ma.masked_array([1.0, 2.0], [True, False]),
    "frame": lambda: pandas.DataFrame({"a": [1, 2]}),
    "python": lambda: random.Random(0),
    "none": lambda: None,
    "pair": lambda: ([1], {2}),
}


def plain(value: Any) -> Any:
    """What can be compared."""
    for name in ("getstate", "to_dict", "tolist"):
        if hasattr(value, name):
            return getattr(value, name)()
    return value


def test_any_container_is_a_part(tmp_path: Path) -> None:
    """Also in a list, and as an attribute; None is one that is not used."""

    def learn(parts: dict[str, Any]) -> None:
        for holder in parts["in"], parts["attribute"].parts, parts:
            holder["list"].append([2])
            holder["dict"]["best"] += 0.25
            holder["default"]["b"].append(2)
            holder["ordered"]["b"] = 2
            holder["counter"].update("b")
            holder["set"].add("two")
            holder["deque"].append(3)
            holder["array"] += 1
            holder["masked"][0] = 3.0
            holder["frame"]["b"] = [3, 4]
            holder["python"].random()
            holder["pair"][0].append(3)

    def every() -> dict[str, Any]:
        holders = [{name: part() for name, part in PARTS.items()} for _ in range(3)]
        return {**holders[0], "in": holders[1], "attribute": Wrapped(parts=holders[2])}

    old = every()
    learn(old)
    new = goes_on(tmp_path, every, learn)
    for here, there in zip(*[(one, one["in"], vars(one["attribute"])["parts"]) for one in (new, old)], strict=True):
        assert {name: plain(here[name]) for name in PARTS} == {name: plain(there[name]) for name in PARTS}
    assert new["deque"].maxlen == 2 and new["default"].default_factory is list


def test_what_cannot_change_is_set(tmp_path: Path) -> None:
    def values() -> dict[str, Any]:
        return {
            "net": Wrapped(path=Path("a"), type=numpy.dtype("f4"), number=numpy.float64(1), count=itertools.count())
        }

    def learn(parts: dict[str, Any]) -> None:
        next(parts["net"].count)
        parts["net"].path, parts["net"].type, parts["net"].number = Path("b"), numpy.dtype("i2"), numpy.float64(2)

    found = vars(goes_on(tmp_path, values, learn)["net"])
    assert next(found.pop("count")) == 1
    assert found == {"path": Path("b"), "type": numpy.dtype("i2"), "number": 2}


def test_functions_stay(tmp_path: Path) -> None:
    """Those that pickle does not know, too, such as a lambda; one that a training makes is refused, and named."""

    def hooked() -> dict[str, Any]:
        net = Net()
        return {"net": Wrapped(net=net, hook=lambda: net.predict(), kind=Net, reference=weakref.ref(net))}

    net = goes_on(tmp_path, hooked, lambda parts: parts["net"].net.weights.fill(2))["net"]
    assert net.hook() == 6 and net.kind is Net and net.reference() is net.net
    parts = state_parts(hooked())
    parts["net"].inner = [lambda: 0]
    with pytest.raises(expkit.Error, match=r"^state=...: net.inner\[0\], a function, cannot be kept \(.*state_dict$"):
        save_state(parts, 1, tmp_path / "other")


def test_settings_and_the_fold_are_no_state(tmp_path: Path) -> None:
    """A network may hold them: those of the new process stay, such as a larger exp.time_limit."""
    limits = iter("ab")

    def given() -> dict[str, Any]:
        exp = SimpleNamespace(limit=next(limits))
        return {"net": Wrapped(exp=exp, fold=SimpleNamespace(file=(one for one in "a")), number=0)}

    old, new = given(), given()
    parts, fresh = (state_parts(one, {"exp": one["net"].exp, "fold": one["net"].fold}) for one in (old, new))
    old["net"].number = 1
    save_state(parts, 1, tmp_path / "state")
    load_state(fresh, tmp_path / "state")
    assert (new["net"].exp.limit, new["net"].number) == ("b", 1)


@pytest.mark.parametrize("kind", [SGDClassifier, RandomForestClassifier])
def test_estimators_of_scikit_learn(tmp_path: Path, kind: Any) -> None:
    """They replace their arrays, also where they were fitted before."""
    X, y = numpy.random.default_rng(0).normal(size=(60, 3)), numpy.arange(60) % 2
    for fitted in False, True:

        def estimator(fitted: bool = fitted) -> dict[str, Any]:
            one = kind(random_state=0)
            return {"one": one.fit(X, y) if fitted else one, "holder": Wrapped(one=one)}

        (tmp_path / f"{fitted}").mkdir()
        new = goes_on(tmp_path / f"{fitted}", estimator, lambda parts: parts["one"].fit(X, 1 - y))
        assert new["holder"].one is new["one"]
        assert (new["one"].predict(X) == kind(random_state=0).fit(X, 1 - y).predict(X)).all()


def test_a_class_of_a_function(tmp_path: Path) -> None:
    """Which pickle cannot find: an object of it that is there is restored; none is made."""

    class Local:
        def __init__(self) -> None:
            self.number = 0

    assert goes_on(tmp_path, lambda: {"a": Local()}, lambda parts: vars(parts["a"]).update(number=2))["a"].number == 2
    parts = state_parts({"a": Wrapped(one=Local())})
    parts["a"].one = Local()
    with pytest.raises(expkit.Error, match="^state=...: a.one argument, a type, cannot be kept"):
        save_state(parts, 1, tmp_path / "other")


def test_what_is_not_there_any_more_is_one_line(tmp_path: Path) -> None:
    """The program is another: no copy is trained in its place."""
    save_state(state_parts({"a": Wrapped(net=Net())}), 1, tmp_path / "state")
    with pytest.raises(expkit.Error, match="overwrite=true begins again: ValueError: there is no Net at a.net"):
        load_state(state_parts({"a": Wrapped(net=None)}), tmp_path / "state")
    save_state(state_parts({"a": numpy.zeros(3)}), 1, tmp_path / "array")
    with pytest.raises(expkit.Error, match=r"ValueError: a is float64 \(3,\), and here float64 \(4,\)"):
        load_state(state_parts({"a": numpy.zeros(4)}), tmp_path / "array")


def test_a_training_begins_with_what_another_has_learned_in_place(tmp_path: Path) -> None:
    """exp.start_from: its average is one of its own network."""
    old, new = make(), make()
    parts = state_parts(old)
    settings = settings_of(parts)
    train(old)
    (tmp_path / "fold").mkdir()
    save_state(parts, 0, tmp_path / "fold" / checkpoint.STATE, settings)
    load_learned(state_parts(new), tmp_path / "fold", "the old one")
    assert new["ema"].net is new["net"] is new["slots"].net and new["optimizer"].inner is not old["optimizer"].inner
    assert train(new) == train(old)


def test_a_model_of_keras_is_a_part(tmp_path: Path) -> None:
    """Others may hold it; it has a file of its own."""

    class Model:
        number = 0

        def save_weights(self, file: Path) -> None:
            file.write_text(str(self.number))

        def load_weights(self, file: Path) -> None:
            self.number = int(file.read_text())

    def held() -> dict[str, Any]:
        model = Model()
        return {"trainer": Wrapped(model=model), "model": model}

    new = goes_on(tmp_path, held, lambda parts: setattr(parts["model"], "number", 3))
    assert new["trainer"].model is new["model"] and new["model"].number == 3
    with pytest.raises(expkit.Error, match="^state=...: trainer.model, a model of Keras, must be a part of the state"):
        state_parts({"trainer": held()["trainer"]})
