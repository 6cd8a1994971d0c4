"""A choice between configuration classes: `model=wide` in place of `model=deep`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from experiments import NETS, NETS_CONFIG, own_experiment

import expkit
from expkit.new import check_experiment


@pytest.fixture
def nets(root: Path) -> Iterator[str]:
    """The name of an experiment with three models."""
    with own_experiment({"train.py": NETS, "config.yaml": NETS_CONFIG}) as folder:
        (folder / "exp").mkdir(exist_ok=True)
        text = "defaults:\n- override /model: narrow\n\nname: {}\n\nmodel:\n  units: 4\n"
        (folder / "exp/001.yaml").write_text(text.format("001-narrow"))
        yield folder.name


def test_chosen_on_the_command_line_and_in_a_parameter_set(nets: str) -> None:
    """Each with fields of its own, and each a run of its own."""
    assert expkit.run(nets) == 8
    assert expkit.run(nets, overrides=["model=wide", "exp.model.units=3"]) == 30
    assert expkit.run(nets, overrides=["exp=001", "exp.model.rank=5"]) == 400
    assert {row.name for row in expkit.read_board()} == {
        "nets",
        "nets,exp.model.units=3,model=wide",
        "001-narrow,exp.model.rank=5",
    }
    assert {row.config.choices.model for row in expkit.read_board()} == {"deep", "wide", "narrow"}
    assert [checked.problem for checked in check_experiment(nets)] == [None, None]


def test_a_wrong_choice_is_one_line(nets: str) -> None:
    with pytest.raises(expkit.Error, match="model=wid: there is no model wid; did you mean wide?"):
        expkit.load_config(nets, ["model=wid"])


def test_two_classes_with_the_same_fields_are_two_configurations(nets: str) -> None:
    """In one folder they do not mix."""
    expkit.run(nets, overrides=["exp.fold=[0]"])
    config = expkit.load_config(nets, ["model=wide", "exp.fold=[1]"])
    with pytest.raises(expkit.Error, match="choices.model: deep → wide"):
        expkit.run(nets, config)


def test_made_again_from_its_values(nets: str) -> None:
    """The class is part of the record: no command line is needed."""
    expkit.run(nets, overrides=["exp=001", "model=wide"])
    again = expkit.load_run("model=wide").config.exp.model
    assert (type(again).__name__, again.units) == ("Wide", 4)


def test_a_group_is_a_field_of_exp() -> None:
    with pytest.raises(expkit.Error, match=r"groups in expkit.Experiment: exp.model is no field"):
        expkit.Experiment(print, expkit.ExpConfig, metric=max, groups={"model": {"deep": expkit.ExpConfig}}).check()
