"""An agent works in a rendered project with the commands alone, from a hypothesis to a verdict."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import EXP, ROOT, Completed, call, commit_all
from helpers import RUN_ALL, environment_of
from light import CONFIG
from several import files

from expkit.cli import app

NAME = "003-agent"
SKILLS = ROOT / "template/.agents/skills"


@dataclass
class Agent:
    """Knows nothing but what the commands print."""

    project: Path

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


@pytest.fixture
def agent(clone: Path) -> Agent:
    """In a project with an experiment that has a parameter set."""
    folder = clone / "experiments" / NAME
    (folder / "exp").mkdir(parents=True)
    texts = files("price", 'if exp.train.noise > 50: raise ValueError("diverged")')
    texts |= {"config.yaml": CONFIG, "exp/001.yaml": 'name: "001"\n\ntrain:\n  noise: 0.2\n'}
    for name, text in texts.items():
        (folder / name).write_text(text.lstrip())
    commit_all(clone)
    return Agent(clone)


@pytest.mark.slow
def test_an_idea_with_the_commands_alone(agent: Agent) -> None:
    """From a hypothesis to a verdict; what is refused, fails or is not found has an exit code of its own."""
    agent.train("001", "exp.fold=null")
    file = agent.project / agent.exp("new", "003/002", "--from", "001")["path"]
    file.write_text(file.read_text().replace("noise: 0.2", "noise: 0.1"))
    idea = f"{NAME}/002"
    agent.exp("note", idea, "--hypothesis", "less noise is better")
    for arguments in ("show_config=true", "exp.debug=true", "exp.fold=null"):
        assert agent.train("002", arguments) == 0
    assert agent.exp("diff", f"{NAME}/001", idea)["comparison"]["verdict"] == "better"
    agent.exp("note", idea, "as hoped", "--kept")
    assert [run["run"] for run in agent.exp("board", "--filter", "verdict=kept")] == ["002"]
    [noted] = agent.exp("note")["runs"]
    assert (noted["hypothesis"], noted["verdict"], noted["origin"]) == ("less noise is better", "kept", f"{NAME}/001")
    assert (agent.train("002", "exp.train.noise=many"), agent.train("099")) == (2, 3)
    assert agent.train("002", "exp.train.noise=99") == 1
    [failed] = agent.exp("board", "--failed")
    assert failed["failure"] == "ValueError: diverged"


def test_the_keys_that_are_documented(agent: Agent) -> None:
    """Each is there, and none is missing from the list: of every command, as the skill has it."""
    told = (SKILLS / "exp-json/SKILL.md").read_text()
    documented = {
        found[1]: re.findall(r"`([\w.]+)`", re.split("; each|: each |, other metrics", found[2])[0])
        for found in re.finditer(r"^\| `(\w+)` \| (.*) \|$", told, re.M)
    }
    del documented["unlock"]  # this experiment splits by itself: see unit/test_lockbox.py
    (agent.project / "input").mkdir()
    (agent.project / "input/rows.csv").write_text("1")
    assert agent.train("001", "-m", "exp.fold=null", "exp.train.noise=1,2") == 0
    assert agent.train("001", "exp.debug=true") == 0  # `exp clean` finds it
    one, two = f"{NAME}/001,exp.train.noise=1", f"{NAME}/001,exp.train.noise=2"
    commands: dict[str, list[str]] = {"note": [one, "fine"], "new": ["003/004"]}
    commands["try"] = ["--from", one, "train.noise=3", "--why", "less is better"]
    commands |= {name: [] for name in ("check", "clean")} | {name: ["--all"] for name in ("board", "log")}
    commands["show"] = [one, "--all"]
    commands |= {name: [one] for name in ("submit", "oof", "reproduce", "data", "remove")}
    commands |= {name: [one, two] for name in ("diff", "blend")} | {"fetch": [str(agent.project)]}
    asked = json.dumps([[name, *arguments, "--json"] for name, arguments in commands.items()])
    found = dict(zip(commands, map(json.loads, agent.run("-c", RUN_ALL, asked).stdout.splitlines()), strict=True))
    assert [code for code, *_ in found.values()] == [0] * len(commands)
    found = {name: json.loads(printed) for name, (_, printed, _) in found.items()}
    found |= {name: found[name][0] for name in ("board", "check", "clean", "data", "log")}
    found["board"] = [key for key in found["board"] if not key.startswith(("exp.", "show_", "over"))]
    assert documented["board"] == found["board"]
    own = found["board"][: found["board"].index("problem") + 1]
    documented["show"] = [*own, *documented["show"][2:]]
    assert {name: set(keys) for name, keys in found.items()} == {name: set(keys) for name, keys in documented.items()}


def test_what_an_agent_reads_first_is_short_and_true() -> None:
    """AGENTS.md begins with the loop and names every skill; each command and option that they name is there."""
    first = (ROOT / "template/AGENTS.md").read_text()
    skills = {file.parent.name: file.read_text() for file in sorted(SKILLS.glob("*/SKILL.md"))}
    assert len(first) <= 4500 and max(map(len, skills.values())) <= 4500
    assert re.findall("^## (.*)", first, re.M)[0] == "One idea after the other"
    assert sorted(re.findall(r"`([\w-]+)` \(", first.partition("Skills, in")[2])) == list(skills)
    commands = app.commands
    for name, text in {"AGENTS.md": first, **skills}.items():
        assert name == "AGENTS.md" or text.startswith(f"---\nname: {name}\ndescription: >-\n  ")
        for command, rest in re.findall(r"(?:uv run |`)exp (\w+)([^`#\n]*)", text):
            assert command in commands, f"{name}: exp {command}"
            options = {"--help"} | {option for each in commands[command].params for option in each.opts}
            assert {*re.findall("--[a-z]+", rest)} <= options, f"{name}: exp {command}{rest}"
