"""exp.start_from: a run begins with what another one has learned, and is trained further."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from experiments import own_experiment
from helpers import exp_json, tree
from light import train_py
from sklearn.neural_network import MLPClassifier

import expkit
from expkit import project, store, tries
from expkit.checkpoint import load_learned, save_state, settings_of, state_parts
from expkit.runner import Command, Runner
from expkit.store import Versions

# A network that walks: what it predicts depends on each of its steps. control/stop names an epoch to stop in.
NET = train_py(
    "rate: float = 1.0\nwidth: int = 4\nepochs: int = 3\nby_hand: bool = False\nloop: bool = True\nother: bool = False",
    """
class Net:
    def __init__(self, exp, fold):
        self.config, self.rate, self.width, self.kind = exp.train, exp.train.rate, exp.train.width, "walk"
        self.random = np.random.default_rng([exp.seed, 9 if fold.number is None else fold.number])
        self.weights, self.bias, self.seen = [np.zeros(self.width), np.zeros(3)], 0.0, []

    def fit(self):
        self.weights[0] += self.rate * self.random.normal(size=self.width)
        self.bias += self.rate
        self.seen.append(self.config.epochs)


def place(oof):
    return oof["prediction"].mean()


def train(exp, fold):
    net, stop = Net(exp, fold), expkit.project_root() / "control/stop"
    state = {"net": net, "other": Net(exp, fold)} if exp.train.other else net
    if exp.train.by_hand and fold.start_from:
        net.bias = float((fold.start_from / "model.txt").read_text())
    epochs = fold.epochs(exp.train.epochs, state, every=0, start_from=not exp.train.by_hand)
    for epoch in epochs if exp.train.loop else range(exp.train.epochs):
        if stop.exists() and int(stop.read_text()) == epoch:
            raise KeyboardInterrupt
        net.fit()
        fold.log(bias=net.bias)
    (fold.folder / "model.txt").write_text(str(net.bias))
    if fold.number is None:
        return {"seen": net.seen}
    rows = np.arange(3) + 1000 * fold.number
    fold.save_oof({"id": rows, "prediction": [net.bias, *net.weights[0][:2]]})
    return {"seen": net.seen}
""",
    "metric=place, own_split=True",
    classes="import numpy as np",
)


@pytest.fixture
def net(quick: Path) -> Iterator[str]:
    """The name of the experiment."""
    with own_experiment({"train.py": NET}) as folder:
        yield folder.name


def named(experiment: str, name: str, *overrides: str) -> store.Run:
    """A run of fold 0, whose name has no overrides in it."""
    config = expkit.load_config(experiment, [f"exp.name={name}", "exp.fold=[0]", "exp.n_folds=2", *overrides])
    expkit.run(experiment, config)
    return store.load_run(f"{experiment}/{name}")


def predicted(run: store.Run) -> list[float]:
    found: list[float] = run.done[0].predictions()["prediction"].tolist()
    return found


def test_a_training_begins_where_another_has_ended(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it has learned is there; settings and random generators are its own; the epochs count from 1."""
    first = named(net, "first", "exp.train.epochs=3")
    more = named(net, "more", "exp.train.epochs=2", "exp.train.rate=10", "exp.seed=7", "exp.start_from=first")
    assert f"fold 0 begins from {net}/first\n" in capsys.readouterr().out
    whole, step = predicted(first), numpy.random.default_rng([7, 0]).normal(size=(2, 4)).sum(axis=0)[:2] * 10
    assert predicted(more) == pytest.approx([3 + 20, *(whole[1:] + step)])
    assert more.history(0)["epoch"] == [1, 2]
    assert more.result(0)["values"]["seen"] == [3, 3, 3, 2, 2], (
        "the list of the first, and the configuration of its own"
    )
    assert {"state/state", "state/position"} <= more.result(0)["files"].keys()


def test_the_run_is_a_parent(net: str) -> None:
    """By name, version, id and checksum; what it has cost counts for those that began from it, and theirs."""
    first = named(net, "first")
    more = named(net, "more", "exp.start_from=first")
    last = named(net, "last", "exp.start_from=more", "exp.runtime.keep_state=false")
    known = {"folds": (0,), "read": ("state",), "left_out": (first.valid_ids[0],), "dataset": first.given}
    assert more.parents == (store.Parent(first.title, 1, str(first.id), first.checksums, **known),)
    assert [parent.run for parent in last.parents] == [more.title]
    assert first.total_seconds == first.seconds and more.total_seconds == pytest.approx(first.seconds + more.seconds)
    assert last.total_seconds == pytest.approx(first.seconds + more.seconds + last.seconds)
    named(net, "first", "overwrite=true")
    assert [*store.load_run(more.title).marks, *store.load_run(last.title).marks].count(
        f"{first.title} has been replaced"
    )


def test_a_state_that_no_run_begins_from_may_go(net: str) -> None:
    """When it is named, and with --yes; the run is as it was. A run that a process trains is left alone."""
    for name in ("first", "other", "busy"):
        named(net, name)
    named(net, "more", "exp.start_from=first", "exp.runtime.keep_state=false")
    before, output = tree(expkit.output_dir()), expkit.output_dir() / net
    assert exp_json("clean", "--yes") == []
    with Versions.of(output / "busy").part(output / "busy", "fold0"):
        [found] = exp_json("clean", "state")
        size = sum(len(content) for name, (_, content) in before.items() if "other/fold0/state/" in name)
        assert (found["what"], found["bytes"]) == (str(output / "other"), size) and tree(output.parent) == before
        [found] = exp_json("clean", "state", "--yes")
    assert found["removed"] and not (output / "other/fold0/state").exists()
    left = {name for name in before if "other/fold0/state/" not in name}
    assert tree(output.parent).keys() == left < before.keys()
    assert {run.name: (run.score is None, run.marks) for run in expkit.read_board()}["other"] == (False, ("partial",))
    with pytest.raises(expkit.Error, match="fold 0 of exp.start_from=.*/other has kept no state"):
        named(net, "last", "exp.start_from=other")


def test_any_name_of_the_run_is_the_same_run(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in the configuration, and in the name; a run that is done needs it no more."""
    first = named(net, "first")
    for name in ("first", f"{net}/first", f"{net.partition('-')[0]}/first"):
        expkit.run(net, overrides=["exp.fold=[0]", "exp.n_folds=2", f"exp.start_from={name}"])
    assert capsys.readouterr().out.count("fold 0 is done") == 2
    [folder] = (project.output_dir() / net).glob("light*")
    assert folder.name.startswith("light,exp.n_folds=2,exp.start_from=")
    assert store.read_run(folder).config.exp.start_from == first.title
    first.folder.rename(project.output_dir() / "away")
    expkit.run(net, overrides=["exp.fold=[0]", "exp.n_folds=2", f"exp.start_from={first.title}"])
    assert "fold 0 is done" in capsys.readouterr().out


def test_the_short_name_of_the_board(net: str) -> None:
    """In quotes of its own, as Hydra takes no ~ without them; the error says so."""
    first = named(net, "first-of-them-with-a-long-name")
    short = store.short_names([first.title])[first.title]
    assert named(net, "more", f'exp.start_from="{short}"').config.exp.start_from == first.title
    with pytest.raises(expkit.Error, match="cannot read .*~.* quoted, as in .* 'exp.start_from=\"a~b,c=d\"'"):
        named(net, "other", f"exp.start_from={short}")


def test_a_set_that_names_it_without_its_experiment(net: str) -> None:
    """It has the configuration that was recorded: the next idea can begin there."""
    folder = project.code_root() / "experiments" / net / "exp"
    folder.mkdir()
    (folder / "004.yaml").write_text("name: more\nn_folds: 2\nfold: [0]\nstart_from: first\n")
    first = named(net, "first")
    expkit.run(net, overrides=["exp=004"])
    idea = tries.changed_run("more", ["train.epochs=6"])
    assert idea.change == {"exp.train.epochs": 6}
    assert idea.training.config.exp.start_from == first.title


@pytest.mark.parametrize("is_there", [True, False], ids=["", "the first run has gone"])
def test_a_killed_training_ends_as_one_that_was_not(net: str, root: Path, is_there: bool) -> None:
    """It goes on from its own checkpoint, and keeps what it was made from."""
    first = named(net, "first")
    whole = named(net, "whole", "exp.start_from=first", "exp.train.rate=5")
    (root / "control/stop").write_text("3")
    with pytest.raises(KeyboardInterrupt):
        named(net, "more", "exp.start_from=first", "exp.train.rate=5")
    (root / "control/stop").unlink()
    if not is_there:
        first.folder.rename(project.output_dir() / "away")
    more = named(net, "more", "exp.start_from=" + first.title, "exp.train.rate=5")
    for name in (store.OOF, store.HISTORY, "state/state", "state/position"):
        assert (more.folder / "fold0" / name).read_bytes() == (whole.folder / "fold0" / name).read_bytes(), name
    assert more.parents == whole.parents and more.total_seconds > more.seconds


def test_all_rows_begin_from_all_rows(net: str) -> None:
    named(net, "first")
    with pytest.raises(expkit.Error, match="exp.start_from=.*/first: the training on all data of .* is not done"):
        named(net, "more", "exp.start_from=first", "exp.mode=sub")
    named(net, "first", "exp.mode=sub", "exp.train.epochs=3")
    more = named(net, "more", "exp.start_from=first", "exp.mode=sub")
    assert len(more.result(None)["values"]["seen"]) == 6


WRONG = {
    "exp.start_from=second": "exp.start_from=second: it must be a run of this experiment, by its whole name; ",
    "exp.start_from=fir": "exp.start_from=fir: it must be .*, with expkit.load_run; did you mean {}/first?",
    "exp.fold=[1]": "exp.start_from={}/first: fold 1 of .*first is not done; these folds are: [0]",
    "exp.name=first": "exp.start_from={}/first: that is this run: give the new one another name",
    "exp.n_folds=3": "exp.start_from={}/first: exp.n_folds is 2 there, and 3 here: it has learned what is scored here",
    "exp.split.seed=7": "exp.start_from={}/first: exp.split.seed is 42 there, and 7 here: it has learned what",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_said_before_the_training(net: str, override: str) -> None:
    named(net, "first")
    before = tree(project.output_dir())
    with pytest.raises(expkit.Error) as refused:
        named(net, "more", "exp.start_from=first", "overwrite=true", override)
    expected = WRONG[override].format(net).split(".*")
    assert all(part in str(refused.value) for part in expected), refused.value
    assert "\n" not in str(refused.value) and tree(project.output_dir()) == before


def test_a_run_of_another_experiment(net: str) -> None:
    first = named(net, "first")
    said = (
        "exp.start_from=.*/first: it must be a run of this experiment, .*what you need in train.., with expkit.load_run"
    )
    with own_experiment({"train.py": NET}) as other, pytest.raises(expkit.Error, match=said):
        named(other.name, "more", f"exp.start_from={first.title}")


def test_a_number_is_no_name(net: str) -> None:
    """YAML reads 003 as 3."""
    folder = project.code_root() / "experiments" / net / "exp"
    folder.mkdir()
    (folder / "004.yaml").write_text("name: more\nstart_from: 003\n")
    with pytest.raises(expkit.Error, match="exp.start_from is a text, and YAML reads it as 3 .int.: put it in quotes"):
        expkit.run(net, overrides=["exp=004"])


BY_HAND = "load what you need in train(), from fold.start_from, and say start_from=False beside state=..."
UNFIT = f"the state of fold 0 of exp.start_from={{}}/first does not fit: {BY_HAND}: ValueError: "
MISFITS = {
    "exp.train.width=5": UNFIT + "width is 4, and here 5",
    "exp.train.other=true": UNFIT + "it is of {{'state': 'Net'}}, and the training has {{'net': 'Net', 'other': ",
    "exp.train.loop=false": "fold 0: train() has not used exp.start_from={}/first: see fold.start_from",
}


@pytest.mark.parametrize("override", MISFITS)
def test_a_state_that_does_not_fit(net: str, override: str) -> None:
    named(net, "first")
    with pytest.raises(expkit.Error) as refused:
        named(net, "more", "exp.start_from=first", override)
    assert MISFITS[override].format(net) in str(refused.value) and "\n" not in str(refused.value)


def test_train_loads_what_it_wants(net: str) -> None:
    """Also of a run that has kept no state."""
    named(net, "first", "exp.runtime.keep_state=false")
    with pytest.raises(expkit.Error) as refused:
        named(net, "more", "exp.start_from=first")
    assert str(refused.value) == f"fold 0 of exp.start_from={net}/first has kept no state: {BY_HAND}"
    more = named(net, "other", "exp.start_from=first", "exp.train.by_hand=true", "exp.train.width=5")
    assert predicted(more)[0] == 6 and len(more.parents) == 1


@pytest.mark.parametrize("override", ["exp.debug=true", "exp.runtime.keep_state=false", "exp.train.loop=false"])
def test_no_state_is_kept(net: str, override: str) -> None:
    expkit.run(net, overrides=[override])
    assert not list(project.output_dir().rglob(store.STATE))


def test_a_trial_of_a_study_keeps_none(net: str) -> None:
    """Of many trials, few are trained further."""
    trial: Any = SimpleNamespace(report=lambda step, score: False)
    config = expkit.load_config(net, ["exp.fold=[0]"])
    Runner(expkit.load_experiment(net), config, (), Command(trial=trial)).train()
    assert not list(project.output_dir().rglob(store.STATE))


def test_a_state_that_cannot_be_kept_ends_no_training(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    train = project.code_root() / "experiments" / net / "train.py"
    train.write_text(
        NET.replace("every=0", "every=60").replace(
            "def fit(self):\n", "def fit(self):\n        self.hook = lambda: 0\n"
        )
    )
    expkit.load_experiment(net, again=True)
    run = named(net, "first")
    said = "warning: fold 0: its state is not kept, and exp.start_from cannot name it: "
    assert said in capsys.readouterr().err and not (run.folder / "fold0" / store.STATE).exists()


# What is learned, and what is a setting


def begun(old: Any, new: Any, folder: Path, train: Any = lambda part: None) -> Any:
    """`new`, which begins with what `old` has learned in `train`."""
    parts, state = state_parts(old), folder / "fold" / store.STATE
    settings = settings_of(parts)
    train(old)
    state.parent.mkdir()
    save_state(parts, 0, state, settings)
    load_learned(state_parts(new), state.parent, "the old one")
    return new


def test_a_network_of_scikit_learn(tmp_path: Path) -> None:
    """Weights and moments; its learning rate is its own, its layers must be the same."""
    X, y = numpy.random.default_rng(0).normal(size=(200, 5)), numpy.arange(200) % 2

    def make(**settings: Any) -> MLPClassifier:
        return MLPClassifier(random_state=numpy.random.RandomState(0), **{"hidden_layer_sizes": (8,)} | settings)

    old, new = make(), make(learning_rate_init=0.5, batch_size=20)
    begun(old, new, tmp_path, lambda network: network.partial_fit(X, y, classes=[0, 1]))
    assert (new.predict_proba(X) == old.predict_proba(X)).all() and new._optimizer.t == old._optimizer.t > 0
    assert (new.learning_rate_init, new.batch_size) == (0.5, 20) and new._optimizer.learning_rate_init == 0.5
    assert new.random_state is not old.random_state
    with pytest.raises(expkit.Error, match=r"ValueError: hidden_layer_sizes is \(8,\), and here \(9,\)"):
        load_learned(state_parts(make(hidden_layer_sizes=(9,))), tmp_path / "fold", "the old one")


def test_arrays_of_another_shape(tmp_path: Path) -> None:
    """At any depth; a list that was empty may have grown."""

    def make(width: int, losses: list[float]) -> SimpleNamespace:
        return SimpleNamespace(layers=[{"weights": numpy.zeros(width)}, numpy.zeros(3)], losses=losses)

    assert begun(make(4, [0.5]), make(4, []), tmp_path, lambda net: net.losses.append(0.25)).losses == [0.5, 0.25]
    with pytest.raises(expkit.Error, match=r"layers has the shape \[\(4,\), \(3,\)\], and here \[\(5,\), \(3,\)\]"):
        load_learned(state_parts(make(5, [])), tmp_path / "fold", "the old one")


@dataclass
class Settings:
    rate: float


class Schedule(Settings):
    def get_last_lr(self) -> list[float]:
        return [self.rate]


def test_random_generators_and_schedules_stay(tmp_path: Path) -> None:
    """As parts of a state, and within one. A part may choose by itself."""

    class Chooses:
        def __init__(self, weight: int, rate: int) -> None:
            self.weight, self.rate = weight, rate

        def state_dict(self) -> dict[str, int]:
            return vars(self)

        load_state_dict = None

        def start_from(self, state: dict[str, int]) -> None:
            self.weight = state["weight"]

    def make(seed: int) -> dict[str, Any]:
        inner = SimpleNamespace(random=numpy.random.default_rng(seed), settings=Settings(seed), place=numpy.zeros(2))
        generators = {"python": random.Random(seed), "numpy": numpy.random.RandomState(seed)}
        schedule = Schedule(seed)
        return {"inner": inner, "schedule": schedule, "own": Chooses(seed, seed), **generators}

    def train(parts: dict[str, Any]) -> None:
        parts["inner"].place += parts["inner"].random.normal(size=2)
        parts["python"].random(), parts["numpy"].normal()

    new = begun(old := make(1), make(2), tmp_path, train)
    assert (new["inner"].place == old["inner"].place).all() and new["inner"].settings == Settings(2)
    fresh = make(2)
    assert new["inner"].random.normal() == fresh["inner"].random.normal()
    assert new["python"].random() == fresh["python"].random() and new["numpy"].normal() == fresh["numpy"].normal()
    assert new["schedule"].rate == 2 and vars(new["own"]) == {"weight": 1, "rate": 2}
