"""What a run was made from, and what was made from it: on the terminal, in JSON, on the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import WALK, own_experiment
from helpers import exp, exp_json, short
from several import files

import expkit

# A training reads the runs that a file names.
READS = "[expkit.load_run(run).oof for run in (expkit.project_root() / 'control/reads').read_text().split()]"


@pytest.fixture
def experiment(quick: Path) -> Iterator[str]:
    """An experiment with the runs a and b, and c, whose trainings read a."""
    with own_experiment(files("price", READS)) as folder:
        train(folder.name, "a")
        train(folder.name, "b", seed=1)
        train(folder.name, "c", f"{folder.name}/a", seed=2)
        yield folder.name


def train(experiment: str, run: str, *reads: str, seed: int = 0, n_folds: int = 3) -> None:
    (expkit.project_root() / "control/reads").write_text(" ".join(reads))
    config = expkit.load_config(experiment, overrides=["overwrite=true", f"exp.n_folds={n_folds}"])
    config.exp.name, config.exp.seed = run, seed
    expkit.run(experiment, config)


def states(nodes: list[dict[str, Any]] | None) -> Any:
    """The state of each run of a tree, and those of its parents."""
    return nodes and {node["run"].split("/")[1]: (node["state"], states(node["parents"])) for node in nodes}


def test_the_tree(experiment: str) -> None:
    """Parents and theirs, what was read of each, with scores; a run that stands there twice has its parents once."""
    a, c = (expkit.load_run(f"{experiment}/{name}") for name in "ac")
    exp("blend", a.title, c.title, "--name", "two")
    exp("blend", "blends/two", c.title, "--method", "hill", "--name", "all")
    [node] = exp_json("show", c.title, "--all")["parents"]
    about = {"run": a.title, "id": a.id, "version": 1, "read": ["oof"], "folds": [0, 1, 2]}
    about |= {"state": "ok", "by": [0, 1, 2]}
    assert node == about | {"metric": "rmse", "score": short(a.score), "std": short(a.std), "marks": [], "parents": []}
    found = exp_json("show", "blends/all", "--all")["parents"]
    assert states(found) == {"two": ("ok", {"a": ("ok", []), "c": ("ok", {"a": ("ok", None)})}), "c": ("ok", None)}
    shown = exp("show", "blends/all").split("made from\n")[1].split("\n")
    score = f"  rmse {c.score:.4f} ± {c.std:.4f}"
    assert shown[0].startswith("├── blends/two  rmse ") and shown[1].startswith(f"│   ├── {a.title}  rmse ")
    assert shown[2] == f"│   └── {c.title}{score}  oof of all folds"
    assert shown[3].startswith(f"│       └── {a.title}") and shown[3].endswith("oof of 3 folds")
    assert shown[4] == f"└── {c.title}{score}  oof of all folds"
    assert [row["parents"] for row in exp_json("board", "--all", "--filter", "parents=blends/two")] == [
        ["blends/two", c.title]
    ]
    assert exp_json("show", f"{experiment}/b", "--all")["parents"] == [] and "made from" not in exp(
        "show", f"{experiment}/b"
    )


def test_what_has_become_of_a_parent(experiment: str, quick: Path) -> None:
    """Gone, replaced or changed: then no score is shown that it did not have. Its own marks are there, too."""
    exp("blend", f"{experiment}/a", f"{experiment}/b", "--name", "two")
    exp("blend", "blends/two", f"{experiment}/c", "--name", "all")
    shutil.rmtree(quick / f"output/{experiment}/b")
    train(experiment, "a", seed=7)
    found = exp_json("show", "blends/all", "--all")["parents"]
    parents = {"a": ("replaced", []), "b": ("gone", [])}
    assert states(found) == {"two": ("ok", parents), "c": ("ok", {"a": ("replaced", [])})}
    assert [node["score"] for node in found[0]["parents"]] == [None, None]
    shown = exp("show", "blends/all")
    assert f"── {experiment}/a  oof of all folds, has been replaced\n" in shown
    assert f"── {experiment}/b  oof of all folds, is gone\n" in shown
    (quick / f"output/{experiment}/c/fold1/oof.npz").write_bytes(b"")
    [_, node] = exp_json("show", "blends/all", "--all")["parents"]
    assert node["state"] == "changed" and node["marks"][0] == "partial"
    assert f"── {experiment}/c  rmse " in exp("show", "blends/all")
    assert ", has changed, partial, fold1/oof.npz is cut off or changed\n" in exp("show", "blends/all")


def test_the_cost_of_a_run_that_began_from_another(quick: Path) -> None:
    """The time of both, one after the other, beside its own."""
    with own_experiment({"train.py": WALK}) as folder:
        a, b, c = (f"{folder.name}/{name}" for name in "abc")
        for name, start in (("a", ""), ("b", a), ("c", b)):
            config = expkit.load_config(folder.name)
            config.exp.name, config.exp.start_from, config.exp.train.pause = name, start, 0.01
            expkit.run(folder.name, config)
        runs = [expkit.load_run(name) for name in (a, b, c)]
        shown = [exp_json("show", run.title, "--all") for run in runs]
        total = [sum(run.seconds for run in runs[:number]) for number in (1, 2, 3)]
        assert [one["total_seconds"] for one in shown] == [pytest.approx(seconds, abs=2e-3) for seconds in total]
        assert states(shown[2]["parents"]) == {"b": ("ok", {"a": ("ok", [])})}
        assert shown[2]["parents"][0]["read"] == ["state"]
        assert "with the runs that it began from" not in exp("show", a)
        [said] = re.findall(r", and ([\d.]+) s with the runs that it began from\n", exp("show", c))
        assert float(said) == pytest.approx(total[2], abs=0.06)


def test_a_leak_stands_beside_the_run_that_has_it(experiment: str) -> None:
    train(experiment, "d", f"{experiment}/a", n_folds=2)
    train(experiment, "e", f"{experiment}/d", n_folds=2)
    [node] = exp_json("show", f"{experiment}/e", "--all")["parents"]
    assert node["marks"] == [f"other folds than {experiment}/a, whose out-of-fold predictions it reads"]
    assert node["parents"][0]["marks"] == []


def test_children(experiment: str) -> None:
    """Those that were made from a run, and not those of another run that has read one of its name."""
    exp("blend", f"{experiment}/a", f"{experiment}/b", "--name", "two")
    about = exp_json("show", f"{experiment}/a", "--all")["children"]
    c = {"run": f"{experiment}/c", "id": expkit.load_run(f"{experiment}/c").id}
    two = {"run": "blends/two", "id": expkit.load_run("blends/two").id}
    assert about == [
        c | {"read": ["oof"], "folds": [0, 1, 2], "state": "ok"},
        two | {"read": ["oof"], "folds": [], "state": "ok"},
    ]
    assert f"\n{experiment}/c was made from it: oof of 3 folds\n" in exp("show", f"{experiment}/a")
    for title in (f"{experiment}/c", "blends/two"):
        assert exp_json("show", title, "--all")["children"] == []
    train(experiment, "a", seed=7)
    assert [child["state"] for child in exp_json("show", f"{experiment}/a", "--all")["children"]] == [
        "replaced",
        "replaced",
    ]
    shown = exp("show", f"{experiment}/a")
    assert "blends/two was made from it: oof of all folds, and it has been replaced since\n" in shown
    expkit.run(experiment, overrides=["exp.name=a", "exp.debug=true"])
    debug = expkit.project_root() / f"output/debug/{experiment}/a"
    assert exp_json("show", str(debug), "--all")["children"] == []
