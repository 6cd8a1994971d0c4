"""What people stumbled over who tried it for the first time."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import command
from helpers import counting
from light import LIGHT

import expkit
from expkit import store
from expkit.config import load_experiment
from expkit.runner import Command, Runner
from expkit.show import changed_since


def with_metric(metric: Any, *overrides: str, **more: Any) -> Runner:
    """A command of the light experiment with another metric."""
    loaded = load_experiment(LIGHT)
    experiment = replace(loaded.experiment, metric=metric, **more)
    config = expkit.load_config(LIGHT, overrides)
    return Runner(replace(loaded, experiment=experiment), config, overrides, Command())


def quality(oof: Any) -> float:
    return float(oof["prediction"].mean()) * 1000


def test_a_study_compares_the_same_folds(root: Path) -> None:
    """What a command returns is the score of the folds that it asks for, whatever else has been trained."""

    def by_fold(oof: Any) -> float:
        return float(oof["id"].mean())

    assert with_metric(by_fold, "exp.fold=[0,1,2,3]").train() == 1.5
    assert with_metric(by_fold, "exp.fold=[3]").train() == 3
    assert with_metric(by_fold, "exp.fold=[4]").train() == 4
    assert with_metric(by_fold).train() == 2


def test_a_changed_metric_shows_no_old_score(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither beside the new one, nor under its name, nor for a metric that fails."""
    command("exp.fold=[0,1]").train()
    capsys.readouterr()
    with_metric(quality, "exp.fold=[0,1]").train()
    printed = capsys.readouterr().out
    assert "fold 0 is done" in printed and "quality 10.0000" not in printed
    assert "CV quality 10000.0000" in printed

    def other(oof: Any) -> float:
        return 0.5

    with_metric(other, "exp.fold=[0,1]").train()
    assert "quality" not in capsys.readouterr().out
    assert any("metric changed since" in mark for mark in changed_since(store.read_run(counting(root))))

    def broken(oof: Any) -> float:
        return float("nan")

    with pytest.raises(expkit.Error, match="the metric broken is nan"):
        with_metric(broken, "exp.fold=[0,1]").train()
    assert store.read_run(counting(root)).cv is None


def test_inputs_name_the_sample_submission(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An experiment that reads nothing of input/, or another folder, is not held against somebody else's sample."""
    for name in ("houses", "cars"):
        (root / "input" / name).mkdir()
        (root / "input" / name / "sample_submission.csv").write_text("id,prediction\n1,0\n2,0\n")
    (root / "input/cars/sample_submission.csv").write_text("car,price\n7,0\n")

    def sub(inputs: Any) -> Runner:
        return with_metric(quality, "exp.mode=sub", f"exp.name=x{len(str(inputs))}", inputs=inputs)

    sub([]).train()
    sub(["houses"]).train()
    assert capsys.readouterr().err == "" and len(list(root.glob("output/*/*/full/submission.csv"))) == 2
    for inputs, problem in ((["cars/**"], "other rows than .*cars/sample_submission.csv"), (None, "there are 2 files")):
        sub(inputs).train()
        assert re.fullmatch(rf"warning: there is no submission.csv: .*{problem}.*\n", capsys.readouterr().err)


def test_values_of_a_quick_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the experiment's `debug`, over config.yaml and exp/; what the command line names stays."""

    def epochs(*overrides: str) -> int:
        return int(expkit.load_config("001-baseline", overrides).exp.train.epochs)

    assert [epochs(), epochs("exp=001"), epochs("exp.debug=true"), epochs("exp=001", "exp.debug=true")] == [
        30,
        40,
        1,
        1,
    ]
    for named in ("exp.train.epochs=3", "++exp.train.epochs=3", "exp.train={epochs: 3}"):
        assert epochs("exp.debug=true", named) == 3
    assert epochs("exp.debug=true", "exp.train={hidden: 8}") == 1
    with monkeypatch.context() as patch:
        patch.setitem(load_experiment("001-baseline").experiment.debug, "train.epoch", 1)  # type: ignore[arg-type]
        with pytest.raises(expkit.Error, match="there is no key exp.train.epoch; did you mean exp.train.epochs?"):
            epochs("exp.debug=true")
        assert epochs() == 30
