"""An agent works in a rendered project with the commands alone, from a hypothesis to a verdict."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import EXP, ROOT, Completed, call, commit_all
from helpers import RUN_ALL, environment_of
from light import CONFIG

TRAIN = '''"""Predictions with an error of size x of their own, and the same noise in every run. Lower is better."""

from dataclasses import dataclass, field

import expkit


@dataclass
class TrainConfig:
    x: float = 1.0

    def __post_init__(self):
        expkit.require(self.x >= 0, f"exp.train.x must be 0 or more, not {self.x}")


@dataclass
class ExpConfig(expkit.ExpConfig):
    seed: int = 0
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass
class Config(expkit.Config):
    exp: ExpConfig = field(default_factory=ExpConfig)


def rmse(oof):
    return ((oof["prediction"] - oof["target"]) ** 2).mean() ** 0.5


def train(exp, fold):
    import numpy

    if exp.train.x > 50:
        raise ValueError("diverged")
    target, noise = numpy.random.default_rng(fold.number).normal(size=(2, 60))
    own = numpy.random.default_rng([fold.number, round(1000 * exp.train.x)]).normal(size=60)
    prediction = target + noise + exp.train.x * own
    fold.save_oof({"id": 5 * numpy.arange(60) + fold.number, "target": target, "prediction": prediction})
    fold.save_test({"id": [1, 2], "prediction": own[:2]})
    fold.finish()


experiment = expkit.Experiment(train, Config, metric=rmse, greater_is_better=False, own_split=True)

if __name__ == "__main__":
    expkit.main(experiment)
'''
NAME = "003-agent"
TRIES = [1.0, 3.5, 0.25, -1.0, 0.24, 99.0]  # -1 is refused, 99 fails


class Agent:
    """Knows nothing but what the commands print."""

    def __init__(self, project: Path) -> None:
        self.project = project

    def run(self, *command: str) -> Completed:
        return call(sys.executable, *command, cwd=self.project, env=environment_of(self.project), check=False)

    def exp(self, *arguments: str) -> Any:
        done = self.run(*EXP, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def train(self, parameter_set: str, *arguments: str) -> int:
        done = self.run(f"experiments/{NAME}/train.py", f"exp={parameter_set}", *arguments)
        assert done.returncode == 0 or done.stderr.splitlines()[-1].startswith(("error:", "ValueError:")), done.stderr
        return done.returncode

    def loop(self, best: str, number: str, x: float) -> str:
        """One idea; which parameter set is the best then."""
        file = Path(self.exp("new", f"003/{number}", "--from", best)["path"])
        text = (self.project / file).read_text()
        (self.project / file).write_text(re.sub(r"x: \S+", f"x: {x}", text))
        title = f"{NAME}/{number}"
        self.exp("note", title, "--hypothesis", f"x={x} is better than {best}")
        if (code := self.train(number, "show_config=true")) != 0:
            self.exp("note", title, f"refused, with {code}", "--dropped")
            return best
        assert self.train(number, "exp.debug=true") == (1 if x > 50 else 0)
        if self.train(number, "exp.fold=null") == 1:
            [failed] = [run for run in self.exp("board", "--failed") if run["run"] == number]
            self.exp("note", title, failed["failure"], "--dropped")
            return best
        comparison = self.exp("diff", f"{NAME}/{best}", title)["comparison"]
        kept = comparison["verdict"] == "better"
        self.exp("note", title, f"{comparison['verdict']}: {comparison['rows']}", "--kept" if kept else "--dropped")
        return number if kept else best


@pytest.fixture
def agent(clone: Path) -> Agent:
    """In a project with an experiment that has a parameter set."""
    folder = clone / "experiments" / NAME
    (folder / "exp").mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "config.yaml").write_text(CONFIG.lstrip().replace("light", "base"))
    (folder / "exp/001.yaml").write_text('name: "001"\n\ntrain:\n  x: 3.0\n')
    commit_all(clone)
    return Agent(clone)


@pytest.mark.slow
def test_six_ideas_with_the_commands_alone(agent: Agent) -> None:
    agent.train("001", "exp.fold=null")
    best, path = "001", []
    for number, x in enumerate(TRIES, start=2):
        best = agent.loop(best, f"{number:03d}", x)
        path.append(best)
    assert path == ["002", "002", *["004"] * 4], "a little less error could be noise"
    assert agent.exp("board", "--filter", "verdict=kept")[0]["run"] == "004"
    noted = {run["run"]: run for run in agent.exp("note")["runs"]}
    tried = [noted[f"{NAME}/{number:03d}"] for number in range(2, 8)]
    assert [run["verdict"] == "kept" for run in tried] == [number in (2, 4) for number in range(2, 8)]
    assert all(run["hypothesis"] for run in tried)
    assert tried[3]["notes"][-1]["text"] == "refused, with 2"
    assert tried[5]["notes"][-1]["text"] == "ValueError: diverged"
    assert agent.train("099") == 3, "not found"
    assert tried[0]["origin"] == f"{NAME}/001"


def test_the_keys_that_are_documented(agent: Agent) -> None:
    """Each is there, and none is missing from the list: of every command, as AGENTS.md has it."""
    told = (ROOT / "template/AGENTS.md").read_text()
    documented = {
        found[1]: re.findall(r"`([\w.]+)`", re.split("; each|: each |, other metrics", found[2])[0])
        for found in re.finditer(r"^\| `(\w+)` \| (.*) \|$", told, re.M)
    }
    for x in ("1", "2"):
        assert agent.train("001", "exp.fold=null", f"exp.train.x={x}") == 0
    one, two = f"{NAME}/001,exp.train.x=1", f"{NAME}/001,exp.train.x=2"
    commands = {
        "board": [],
        "show": [one],
        "diff": [one, two],
        "note": [one, "fine"],
        "new": ["003/004"],
        "check": [],
        "submit": [one],
        "blend": [one, two],
        "oof": [one],
        "reproduce": [one],
        "clean": [],
    }
    asked = json.dumps([[name, *arguments, "--json"] for name, arguments in commands.items()])
    found = dict(zip(commands, map(json.loads, agent.run("-c", RUN_ALL, asked).stdout.splitlines()), strict=True))
    assert [code for code, *_ in found.values()] == [0] * len(commands)
    found = {name: json.loads(printed) for name, (_, printed, _) in found.items()}
    found |= {name: found[name][0] for name in ("board", "check")}
    columns, own = documented["board"], [key for key in found["board"] if not key.startswith(("exp.", "show_", "over"))]
    assert [key for key in columns if key != "noise"] == own
    documented |= {"board": own, "show": [*own[:-1], *documented["show"][2:]]}
    assert {name: sorted(keys) for name, keys in found.items()} | {"board": sorted(own)} == {
        name: sorted(keys) for name, keys in documented.items()
    }
