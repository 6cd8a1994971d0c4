"""`exp try`: one idea from the change to the verdict. `exp log`: what was tried, in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import EXP, call
from experiments import NETS, NETS_CONFIG, own_experiment
from helpers import exp, exp_json, refused, short
from light import LIGHT, edited, wait_for
from several import files

import expkit
from expkit import store, tries
from expkit.cli import app
from expkit.config import load_experiment
from expkit.errors import AGAIN, Failed, NotFound
from expkit.files import write_json
from expkit.notes import add_note, read_notes

NEXT_FOLDS = "next: all folds: the same command without --fold and --stop-if-worse"
FAILS = 'if exp.train.noise > 50 and (expkit.project_root() / "control/fails").exists(): raise ValueError("diverged")'


@pytest.fixture
def project(quick: Path) -> Iterator[Path]:
    """An experiment with a run, "base", of three folds; a lower score is better."""
    with own_experiment(files("price", FAILS)) as folder:
        (folder / "exp").mkdir()
        (folder / "exp/001.yaml").write_text("name: base\n\ntrain:\n  noise: 0.4\n")
        expkit.run(folder.name, overrides=["exp=001"])
        yield folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained, as command lines; in this process, which is quicker."""
    commands: list[str] = []

    def train(self: tries.Training, *more: str) -> None:
        commands.append(" ".join([*self.overrides, *more]))
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            expkit.run(self.experiment, overrides=[*self.overrides, *more])

    monkeypatch.setattr(tries.Training, "train", train)
    return commands


def attempt(project: Path, *arguments: str, why: str = "less noise") -> list[str]:
    """The lines that `exp try` prints on stdout about a change of the run "base"."""
    return printed("--from", f"{project.name}/base", *arguments, "--why", why)


def printed(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["try", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout.splitlines()


class Stopped(BaseException):
    """As Ctrl-C, which the runner of commands would catch."""


def sets(project: Path) -> list[str]:
    return sorted(file.stem for file in project.glob("exp/*.yaml"))


def test_an_idea_in_one_command(project: Path, root: Path) -> None:
    """A parameter set, the hypothesis, a debug run, all folds, the comparisons; with train.py as a person starts it."""
    lines = attempt(project, "train.noise=0.1")
    assert sets(project) == ["001", "002"] and "noise: 0.1" in (project / "exp/002.yaml").read_text()
    run, title = store.load_run(f"{project.name}/002"), f"{project.name}/002"
    assert run.is_complete and run.result(0)["finished"] and (root / f"output/debug/{project.name}/002").is_dir()
    assert lines[0] == f"{title}: train.noise=0.1" and f"best: {title}" in lines[2]
    assert len(lines) <= 12 and len("\n".join(lines)) < 1000
    assert lines[-2] == "verdict: better" and lines[-1].startswith(f'next: exp note {title} "..." --kept')
    noted = read_notes()[title]
    assert (noted.last("origin"), noted.last("hypothesis")) == (f"{project.name}/base", "less noise")
    assert (
        noted.last("change") == {"exp.train.noise": 0.1}
        and noted.last("set_id") in (project / "exp/002.yaml").read_text()
    )
    tested = noted.last("tested")
    assert (tested["verdict"], tested["against"], tested["folds"]) == ("better", f"{project.name}/base", 3)
    compared = exp_json("diff", f"{project.name}/base", title)["comparison"]
    assert short(tested["better_by"]) == compared["rows"]["better_by"] > 0


def test_a_program_gets_the_same(project: Path, trained: list[str]) -> None:
    found = exp_json("try", "--from", f"{project.name}/base", "exp.train.noise=0.8", "--why", "more")
    assert (found["verdict"], found["change"], found["why"]) == ("worse", {"exp.train.noise": 0.8}, "more")
    assert found["score"] > found["base_score"] == exp_json("show", f"{project.name}/base", "--all")["score"]
    assert found["comparison"] == exp_json("diff", f"{project.name}/base", found["run"])["comparison"]
    assert found["best"] == {"run": f"{project.name}/base", "score": found["base_score"]}
    assert "--dropped" in found["next"] and found["known"] == []
    assert trained == ["exp=002 exp.debug=true", "exp=002 exp.fold=null"]


def test_the_best_of_the_problem_is_compared_too(project: Path, trained: list[str]) -> None:
    attempt(project, "train.noise=0.1")
    lines = attempt(project, "train.noise=0.3")
    assert "verdict: better" in lines and re.fullmatch(rf"best: {project.name}/002 0\.\d+, against it: worse", lines[2])


def test_the_best_is_one_of_the_same_folds(project: Path, trained: list[str]) -> None:
    """Even where most runs of the problem have others, which a mark of the board tells."""
    for noise in (0.01, 0.02, 0.03):
        expkit.run(project.name, overrides=[f"exp.train.noise={noise}", "exp.n_folds=2"])
    better, worse = attempt(project, "train.noise=0.1"), attempt(project, "train.noise=0.3")
    best = f"{project.name}/{sets(project)[-2]}"
    assert better[2].startswith(f"best: {best} ") and worse[2].startswith(f"best: {best} ")
    assert "other folds" in exp("board") and not any("other folds" in line for line in [*better, *worse])


def test_an_interrupted_try_goes_on(project: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ends: with the same parameter set, and one note of each kind."""
    whole, title = tries.Training.train, f"{project.name}/002"

    def interrupted(self: tries.Training, *more: str) -> None:
        if "exp.debug=true" not in more:
            whole(self, "exp.fold=1")
        raise Stopped

    for _ in range(2):  # in the debug run
        monkeypatch.setattr(tries.Training, "train", interrupted)
        with pytest.raises(Stopped):
            attempt(project, "train.noise=0.2")
    monkeypatch.setattr(
        tries.Training, "train", lambda self, *more: interrupted(self, *more) if "exp.fold=null" in more else None
    )
    with pytest.raises(Stopped):
        attempt(project, "train.noise=0.2")
    assert sets(project) == ["001", "002"] and store.load_run(title).done.keys() == {1}
    monkeypatch.setattr(tries.Training, "train", whole)
    trained.clear()
    assert "verdict: better" in attempt(project, "train.noise=0.2")
    assert trained == ["exp=002 exp.fold=null"], "what is done is not done again, nor the debug run"
    again = attempt(project, "train.noise=0.2")
    assert trained == ["exp=002 exp.fold=null"] and "verdict: better" in again
    lines = read_notes()[title].lines
    assert [("hypothesis" in line, "tested" in line) for line in lines] == [(True, False), (False, True)]
    assert sets(project) == ["001", "002"]


def test_a_signal_ends_the_training_too(root: Path) -> None:
    """SIGTERM to the command alone: one line, nobody holds a lock afterwards, and the same command goes on."""
    with own_experiment(copy_of=LIGHT) as project:
        expkit.run(project.name, overrides=["exp.name=base"])
        (root / "control/came1").unlink()
        (root / "control/gate1").touch()
        command = [sys.executable, *EXP, "try", "--from", f"{project.name}/base", "train.x=2", "--why", "x"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for((root / "control/came1").exists, process)
        process.send_signal(signal.SIGTERM)
        said = (
            f"stopped by SIGTERM in fold 1 of {project.name}/001: {AGAIN}: uv run exp try {shlex.join(command[4:])}\n"
        )
        assert (process.communicate(timeout=60)[1], process.returncode) == (said, 143)
        shown = call(sys.executable, *EXP, "log", cwd=root).stdout
        assert re.search(r"001 .* partial +not finished against \S+/base ", shown)
        (root / "control/gate1").unlink()
        done = call(*command, cwd=root)
        assert "verdict: " in done.stdout and "has this configuration" not in done.stderr, "it goes on"
        assert sets(project) == ["001"] and store.load_run(f"{project.name}/001").is_complete


def test_a_failure_is_that_of_the_training(project: Path, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its traceback, its exit code; the same command goes on when the cause is repaired."""
    (root / "control/fails").touch()
    with pytest.raises(Failed, match=r"002 exp.debug=true failed: repair the cause, then the same command") as caught:
        attempt(project, "train.noise=99")
    assert caught.value.exit_code == 1 and "diverged" in capfd.readouterr().err
    assert str(caught.value).endswith(f'; or exp note {project.name}/002 "..." --dropped'), "the value may be the cause"
    cause = "ValueError: diverged"
    tested = {"verdict": "failed", "against": f"{project.name}/base", "cause": cause}
    assert exp_json("log")[-1]["tested"] == exp_json("log", "--all")[-1][
        "tested"
    ] == tested and f"failed ({cause}) against " in exp("log")
    (root / "control/fails").unlink()
    assert "verdict: worse" in attempt(project, "train.noise=99") and sets(project) == ["001", "002"]


def test_what_was_tried_is_said_before_it_is_trained(
    project: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same configuration; and the same change of another run: with what came of it."""
    attempt(project, "train.noise=0.2")
    exp("note", f"{project.name}/002", "good", "--kept")
    del trained[:]
    again = exp("try", "--from", f"{project.name}/base", "train.noise=0.2", "--why", "again")
    came = f"better against {project.name}/base: kept"
    assert f"warning: {project.name}/002 has this configuration: {came}" in again
    assert trained == []
    expkit.run(project.name, overrides=["exp=001", "exp.train.test=false"])

    def stop(*_: object) -> None:
        raise expkit.Error("before it is trained")

    monkeypatch.setattr(tries.Training, "train", stop)
    other = ["--from", f"{project.name}/base,exp.train.test=false", "train.noise=0.2", "--why", "again"]
    result = CliRunner().invoke(app, ["try", *other])
    assert str(result.exception) == "before it is trained"
    assert f"{project.name}/002 was the same change of {project.name}/base: {came}" in result.stderr


def test_a_run_of_the_command_line_is_found(project: Path, trained: list[str]) -> None:
    """Nobody trains again what a study has trained."""
    expkit.run(project.name, overrides=["exp=001", "exp.train.noise=0.1"])
    lines = attempt(project, "train.noise=0.1")
    assert lines[0].startswith(f"{project.name}/base,exp.train.noise=0.1: ") and trained == []
    assert sets(project) == ["001"]


def test_a_parameter_set_of_a_hand_is_found(project: Path, trained: list[str]) -> None:
    (project / "exp/007.yaml").write_text("name: mine\n\ntrain:\n  noise: 0.1\n")
    (project / "exp/008.yaml").write_text("name: [broken\n")
    assert attempt(project, "train.noise=0.1")[0].startswith(f"{project.name}/mine: ")
    assert sets(project) == ["001", "007", "008"]


def test_a_number_is_never_given_twice(project: Path, trained: list[str]) -> None:
    """Neither that of a run or a note without a parameter set, nor one that another worktree has taken."""
    add_note(f"{project.name}/005", {"text": "long gone"})
    assert attempt(project, "train.noise=0.3")[0].startswith(f"{project.name}/006: ")


def test_seeds_of_both(project: Path, trained: list[str]) -> None:
    """In pairs, each on folds of its own; those that are trained are not trained again."""
    attempt(project, "train.noise=0.39")
    expkit.run(project.name, overrides=["exp=001", "exp.seed=2", "exp.split.seed=44"])
    trained.clear()
    shown = exp("try", "--from", f"{project.name}/base", "train.noise=0.39", "--why", "x", "--seeds", "3")
    assert "has this configuration" not in shown, "more seeds of it are none of the same"
    lines = shown.splitlines()
    mean = exp_json("diff", f"{project.name}/base", f"{project.name}/002", "--seeds")["scores"]["mean"]
    over = "(the mean over 3 seeds)"
    assert lines[1] == f"rmse {mean['new']:.4f}; {project.name}/base {mean['old']:.4f} {over}"
    assert trained == [
        "exp=001 exp.seed=1 exp.split.seed=43 exp.fold=null",
        "exp=002 exp.seed=1 exp.split.seed=43 exp.fold=null",
        "exp=002 exp.seed=2 exp.split.seed=44 exp.fold=null",
    ]
    assert "3 folds x 3 seeds" in "\n".join(lines)
    assert read_notes()[f"{project.name}/002"].last("tested")["seeds"] == 3
    attempt(project, "train.noise=0.39", "--seeds", "3")
    assert len(trained) == 3
    assert len(exp_json("log", "--all")) == 2, "seeds are one idea"
    with edited(project / "exp/002.yaml", "0.39", "0.5"):
        expkit.run(project.name, overrides=["exp=002", "overwrite=true"])
        assert len(exp_json("log", "--all")) == 2, "also where the first run has another configuration by now"


def test_seeds_of_a_single_fold(project: Path, trained: list[str]) -> None:
    """All on the same rows: how other ones vary together is not known."""
    expkit.run(project.name, overrides=["exp=001", "exp.n_folds=1"])
    found = exp("try", "--from", "base,exp.n_folds=1", "train.noise=0.9", "--why", "x", "--seeds", "2")
    assert trained[1:] == [
        "exp=002 exp.fold=null",
        "exp=001 exp.n_folds=1 exp.seed=1 exp.fold=null",
        "exp=002 exp.seed=1 exp.fold=null",
    ]
    assert "(1 fold x 2 seeds, 95 %" in found


def test_a_base_gets_the_folds_that_it_lacks(project: Path, trained: list[str]) -> None:
    expkit.run(project.name, overrides=["exp=001", "exp.train.noise=0.5", "exp.fold=[0]"])
    assert " partial" in (shown := exp("log")) and "not finished" not in shown, "nobody has asked for more"
    exp("try", "--from", "base,exp.train.noise=0.5", "train.noise=0.2", "--why", "x")
    assert trained == ["exp=002 exp.debug=true", "exp=001 exp.train.noise=0.5 exp.fold=null", "exp=002 exp.fold=null"]


def test_a_cheap_look(project: Path, trained: list[str]) -> None:
    """One fold alone; all, unless the first is worse beyond the noise of its rows."""
    lines = attempt(project, "train.noise=0.9", "--stop-if-worse")
    assert trained == ["exp=002 exp.debug=true", "exp=002 exp.fold=0"] and "verdict: worse in fold 0" in lines
    assert "the same command without --fold" in lines[-1] and "--dropped" in lines[-1]
    assert read_notes()[f"{project.name}/002"].last("tested")["verdict"] == "worse in fold 0"
    lines = attempt(project, "train.noise=0.2", "--fold", "1")
    assert trained[2:] == ["exp=003 exp.debug=true", "exp=003 exp.fold=1"]
    assert lines[-1] == NEXT_FOLDS
    base = expkit.load_run(f"{project.name}/base")
    assert lines[1].endswith(f"{project.name}/base {base.fold_scores[1]:.4f}"), "both over this fold"
    assert base.fold_scores[1] != base.score
    assert [idea.get("partial") for idea in exp_json("log")] == [None, True, True]
    last = exp("log").splitlines()
    assert " partial " in last[-3] and last[-2] == f"3 tried, best so far: {base.title} (*: the best until then)"
    trained.clear()
    lines = attempt(project, "train.noise=0.2", "--fold", "1", "--stop-if-worse")
    assert trained == ["exp=003 exp.fold=null"] and "verdict: better" in lines


def test_a_look_at_few_groups(quick: Path, trained: list[str]) -> None:
    """Their rows say nothing, so nothing is stopped."""
    groups = """rows = model.rows(exp.n_folds, fold.number)
    fold.save_oof(model.predicted(KIND, rows, exp.train.noise, seed) | {"group": rows % 30})"""
    with own_experiment(files("price", groups)) as folder:
        expkit.run(folder.name, overrides=["exp.name=base"])
        lines = attempt(folder, "train.noise=9", "--fold", "0")
        assert "over rows: 10 groups of rows are too few" in lines[-3]
        assert lines[-2:] == ["verdict: cannot tell", NEXT_FOLDS]
        words = ["--from", f"{folder.name}/base", "train.noise=9", "--stop-if-worse", "--why", "x"]
        told = CliRunner().invoke(app, ["try", *words]).stderr
        assert "fold 0 cannot tell whether it is worse, 10 groups of rows are too few" in told
        assert trained == ["exp=001 exp.debug=true", "exp=001 exp.fold=0", "exp=001 exp.fold=null"]


def test_seeds_of_a_cheap_look(project: Path, trained: list[str]) -> None:
    """On the rows of that fold: those of other folds would not compare."""
    lines = attempt(project, "train.noise=0.9", "--fold", "0", "--seeds", "2")
    assert "exp=002 exp.seed=1 exp.fold=0" in trained and "(1 fold x 2 seeds, 95 %" in "".join(lines)


def test_data_that_were_edited(quick: Path, root: Path, trained: list[str]) -> None:
    """Nothing is trained that would not compare."""
    texts, data = files("price"), root / "input/rows.csv"
    texts["train.py"] = texts["train.py"].replace("own_split=True", 'own_split=True, inputs=["rows.csv"]')
    data.write_text("1\n")
    with own_experiment(texts) as folder:
        expkit.run(folder.name, overrides=["exp.name=base"])
        data.write_text("22\n")
        told = refused("try", "--from", f"{folder.name}/base", "train.noise=0.1", "--why", "x")
        assert "is out of date, data changed since (rows.csv: " in told and "overwrite=true" in told
        assert sets(folder) == [] and trained == []


def test_an_edited_experiment_or_parameter_set(project: Path, trained: list[str]) -> None:
    """Against the run that it was made from; where none was trained yet, the best one."""
    attempt(project, "train.noise=0.1")
    (project / "exp/009.yaml").write_text("name: nine\n\ntrain:\n  noise: 0.3\n")
    add_note(f"{project.name}/nine", {"origin": f"{project.name}/base"})
    lines = printed(f"{project.name}/009", "--why", "x")
    assert lines[0] == f"{project.name}/nine: train.noise=0.3" and f"; {project.name}/base " in lines[1]
    texts = {file.name: file.read_text() for file in project.iterdir() if file.is_file() and file.name != ".gitignore"}
    texts["config.yaml"] = texts["config.yaml"].replace("name: light", "name: new\n  train:\n    noise: 0.4")
    with own_experiment(texts) as new:
        assert f"{new.name} was made from no run that is trained: say with --from" in refused(
            "try", new.name, "--why", "x"
        )
        add_note(f"{new.name}/", {"origin": project.name})
        lines = printed(new.name, "--why", "x")
        assert f"; {project.name}/002 " in lines[1] and "verdict: worse" in lines
        lines = printed(new.name, "--from", f"{project.name}/base", "--why", "x")
        assert lines[0] == f"{new.name}/new: other code" and f"; {project.name}/base " in lines[1]
        assert "verdict: identical" in "\n".join(lines)
    assert sets(project) == ["001", "002", "009"]


def test_another_choice_between_classes(quick: Path, trained: list[str]) -> None:
    """With what config.yaml says of it, not with the values of the class before."""
    with own_experiment({"train.py": NETS, "config.yaml": NETS_CONFIG}) as nets:
        expkit.run(nets.name, overrides=["exp.model.units=4", "exp.n_folds=2"])
        base = exp_json("board", "--all")[0]["run"]
        found = exp_json("try", "--from", base, "model=wide", "exp.model.units=5", "--why", "x")
        assert found["change"] == {"exp.model.units": 5, "choices.model": "wide"}
        assert found["score"] == 50.0 and "model: wide" in (nets / "exp/001.yaml").read_text()
        lines = printed("--from", base, "model=wide", "exp.model.units=5", "--why", "x")
        assert lines[0].endswith("/001: model.units=5 model=wide")  # as one types it


def test_the_base_counts_as_it_is_on_the_board(project: Path, root: Path, trained: list[str]) -> None:
    """A blend is one, where no value of it changes; a debug run is none."""
    expkit.run(project.name, overrides=["exp=001", "exp.train.noise=0.3"])
    base = f"{project.name}/base"
    exp("blend", base, f"{base},exp.train.noise=0.3", "--name", "both")
    (project / "exp/002.yaml").write_text("name: two\n\ntrain:\n  noise: 0.9\n")
    lines = printed(f"{project.name}/002", "--from", "both", "--why", "x")
    assert "; blends/both " in lines[1] and "verdict: worse" in lines
    assert "is a blend, which has no parameters" in refused("try", "--from", "both", "train.noise=1", "--why", "x")
    assert "is a blend" in refused("try", f"{project.name}/002", "--from", "both", "--seeds", "2", "--why", "x")
    expkit.run(project.name, overrides=["exp.name=only", "exp.debug=true"])
    with pytest.raises(NotFound):
        printed("--from", str(root / f"output/debug/{project.name}/only"), "train.noise=2", "--why", "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.nois=1"], "there is no key exp.train.nois; did you mean exp.train.noise?"),
        (["train.noise=much"], "exp.train.noise must be a number, not 'much'"),
        (["train.noise=0.4"], "base has train.noise=0.4 already"),
        (["exp.fold=0"], "exp.fold changes no result: an idea changes another key"),
        (["exp.split.lockbox=0"], "exp.split.lockbox is none of an idea: with other folds, no score compares"),
        (["n_folds=4"], "exp.n_folds is none of an idea"),
        (["train.noise=1", "--fold", "3"], "base has the folds 0 to 2"),
        (["003-new", "train.noise=1"], "give either KEY=VALUE with --from RUN, or one experiment or parameter set"),
        (["003", "004"], "003 004: one experiment or parameter set at a time"),
        (["099"], "there is no experiment '099'"),
    ],
)
def test_what_is_refused(project: Path, words: list[str], message: str) -> None:
    """Before anything is written."""
    assert message in refused("try", *words, "--from", f"{project.name}/base", "--why", "x")
    assert sets(project) == ["001"] and read_notes() == {}


def test_a_field_that_is_new_is_no_change(project: Path, trained: list[str]) -> None:
    with edited(project / "train.py", "noise: float = 0.2", "noise: float = 0.2\n    decay: float = 0"):
        load_experiment(project.name, again=True)
        assert attempt(project, "train.noise=0.1")[0] == f"{project.name}/002: train.noise=0.1"


def test_a_fold_that_is_not_there(project: Path, trained: list[str]) -> None:
    """Of a parameter set of a hand, too: nothing is noted or trained."""
    (project / "exp/002.yaml").write_text("name: hand\n\ntrain:\n  noise: 0.1\n")
    idea = (f"{project.name}/002", "--from", f"{project.name}/base", "--why", "x")
    assert "hand has the folds 0 to 2" in refused("try", *idea, "--fold", "3")
    assert trained == [] and read_notes() == {}


def test_a_change_needs_a_run(project: Path) -> None:
    assert "train.noise=1: say with --from RUN what to change" in refused("try", "train.noise=1", "--why", "x")
    with edited(project / "exp/001.yaml", "0.4", "0.5"):
        told = refused("try", "train.noise=1", "--from", f"{project.name}/base", "--why", "x")
    assert "base has another configuration now: exp.train.noise: 0.4 → 0.5" in told
    assert sets(project) == ["001"]


def test_a_parameter_set_that_cannot_be_made_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even Ctrl-C, between its number and its text."""

    def stop(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr("expkit.new._with_id", stop)
    with pytest.raises(Stopped):
        attempt(project, "train.noise=0.2")
    assert sets(project) == ["001"]


def test_what_was_tried_in_order(project: Path, trained: list[str]) -> None:
    """For a stranger: the change, the test, the verdict, the idea; the best so far; without computing, and short."""
    attempt(project, "train.noise=0.1", why="much less")
    attempt(project, "train.noise=0.9", why="more " * 20)
    exp("note", f"{project.name}/003", "as feared", "--dropped")
    found = exp_json("log", "--all")
    assert [(idea["run"].partition("/")[2], idea["why"]) for idea in found[:2]] == [
        ("base", None),
        ("002", "much less"),
    ]
    assert [idea["best"].partition("/")[2] for idea in found] == ["base", "002", "002"]
    last = found[-1]
    assert (last["tested"]["verdict"], last["verdict"], last["note"]) == ("worse", "dropped", "as feared")
    assert last["origin"] == f"{project.name}/base" and last["change"] == {"exp.train.noise": 0.9}
    text = exp("log").splitlines()
    assert [line.split()[2:3] for line in text[1:3]] == [["*"], ["*"]] and "*" not in text[3]
    assert "dropped" in text[3] and "train.noise=0.9" in text[3] and max(map(len, text)) < 200
    tried = f"3 tried, best so far: {project.name}/002 (*: the best until then)"
    assert text[-2] == tried and exp("log", "--last", "1").splitlines()[-2] == f"{tried}: --last 3 shows all"
    assert text[-1] == f'next: exp try --from {project.name}/002 KEY=VALUE --why "..."'
    assert [idea["run"] for idea in exp_json("log", "--last", "1")] == [last["run"]]


def test_the_log_outlives_the_runs(project: Path, trained: list[str]) -> None:
    attempt(project, "train.noise=0.1")
    exp("remove", f"{project.name}/002", "--yes")
    found = exp_json("log", "--all")[-1]
    assert found["run"] == f"{project.name}/002" and found["score"] == pytest.approx(0.1, rel=0.3)
    best = f"{project.name}/base"
    assert (found["metric"], found["tested"]["verdict"], found["best"]) == ("rmse", "better", best)


def test_a_weaker_test_takes_nothing_back(project: Path, trained: list[str]) -> None:
    """After --seeds 2, the log has what the seeds say. But another version of a run begins again, and so does another
    base."""
    expkit.run(project.name, overrides=["exp=001", "exp.train.noise=0.05"])
    other = f"{project.name}/base,exp.train.noise=0.05"
    attempt(project, "train.noise=0.39", "--seeds", "2")
    said = exp_json("log", "--all")[-1]["tested"]
    assert said["seeds"] == 2
    attempt(project, "train.noise=0.39")
    assert exp_json("log", "--all")[-1]["tested"] == said
    expkit.run(project.name, overrides=["exp=002", "overwrite=true"])
    attempt(project, "train.noise=0.39")
    assert exp_json("log", "--all")[-1]["tested"]["seeds"] == 1
    exp("try", "--from", other, "train.noise=0.39", "--why", "once more")
    last = exp_json("log", "--all")[-1]
    assert (last["run"], last["origin"], last["why"]) == (f"{project.name}/002", other, "once more")
    assert (last["tested"]["verdict"], last["tested"]["against"]) == ("worse", other)
    assert re.search(r"worse -0\.\d+ against \S+ ", exp("log"))
    attempt(project, "train.noise=0.39")
    last = exp_json("log", "--all")[-1]
    assert (last["origin"], last["tested"]["against"]) == (f"{project.name}/base", f"{project.name}/base")


def test_a_test_of_the_same_weight_counts(project: Path, trained: list[str]) -> None:
    """After an edit of the metric, the log has what was said last."""
    attempt(project, "train.noise=0.1")
    said = exp_json("log", "--all")[-1]["tested"]
    with edited(project / "train.py", "** 0.5)", "** 0.5 * 2)"):
        load_experiment(project.name, again=True)
        for overrides in (["exp=001"], ["exp=002"]):
            expkit.run(project.name, overrides=overrides)  # scores it again
        attempt(project, "train.noise=0.1")
        assert exp_json("log", "--all")[-1]["tested"]["better_by"] == pytest.approx(2 * said["better_by"])


def test_seeds_that_fail_leave_the_verdict(project: Path, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    attempt(project, "train.noise=99")
    (root / "control/fails").touch()
    with pytest.raises(Failed):
        attempt(project, "train.noise=99", "--seeds", "2")
    ideas = {idea["run"]: idea for idea in exp_json("log")}
    assert ideas[f"{project.name}/002"]["tested"]["verdict"] == "worse"


def test_nobody_is_sent_to_a_run_that_is_dropped(project: Path, trained: list[str]) -> None:
    """Neither as the best one, nor as the base, nor to the idea itself."""
    base, two, three = (f"{project.name}/{name}" for name in ("base", "002", "003"))
    attempt(project, "train.noise=0.1")
    exp("note", two, "it leaks", "--dropped")
    assert attempt(project, "train.noise=0.1")[-1] == (f"next: you have dropped {two}: another idea from {base}")
    assert [idea["best"] for idea in exp_json("log", "--all")] == [base, base]
    exp("note", base, "--dropped")
    attempt(project, "train.noise=0.2")
    lines = attempt(project, "train.noise=0.9")
    assert f"then another idea from {three}" in lines[-1]
    assert lines[2].startswith(f"best: {three} ") and lines[2].endswith("against it: worse")
    attempt(project, "train.noise=0.2", "--seeds", "2")
    exp("note", three, "--dropped")
    assert attempt(project, "train.noise=0.9")[-1].endswith("then another idea from another run"), "nor to a seed of it"
    assert [run.title for run in tries.best_first(project.name)][0] == f"{project.name}/004"


def test_one_advice_and_one_count(project: Path, trained: list[str]) -> None:
    """What to do is in the last line alone, and it is another exp try; of the counts, that of the luck stays."""
    expkit.run(project.name, overrides=["exp=001", "exp.n_folds=1"])
    expkit.run(project.name, overrides=["exp=001", "exp.n_folds=1", "exp.train.noise=0.9"])
    for noise in ("0.2", "0.405"):
        lines = exp("try", "--from", "base,exp.n_folds=1", f"train.noise={noise}", "--why", "x").splitlines()
        assert "one training of each does not say how much scores vary" in "\n".join(lines)
        assert "-m exp." not in "\n".join(lines)
        assert lines[-1].endswith("the same command with --seeds 3" if noise == "0.2" else '"..." --dropped')
        assert not re.search(r"\d+ (runs|tried)", "\n".join(lines))
    assert lines[-2] == "verdict: could be noise"


def test_what_seeds_are_for(project: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be better, once: after them, a person decides."""
    monkeypatch.setattr("expkit.noise.together", lambda *_: "promising")
    assert attempt(project, "train.noise=0.39")[-2:] == [
        "verdict: promising",
        "next: repeat it: the same command with --seeds 3",
    ]
    decide = f'exp note {project.name}/002 "..." --kept; or the same with --dropped'
    open_still = f"next: decide, as even 12 seeds leave half of such open: {decide}"
    assert attempt(project, "train.noise=0.39", "--seeds", "3")[-1] == open_still
    monkeypatch.setattr("expkit.noise.together", lambda *_: "could be noise")
    dropped = 'next: no progress: exp note {}/{} "..." --dropped'.format
    again = "; or repeat it: the same command with --seeds 3"
    assert attempt(project, "train.noise=0.38")[-1] == dropped(project.name, "003") + again
    assert attempt(project, "train.noise=0.41")[-1] == dropped(project.name, "004")


def test_windows_of_time_have_no_other_folds(quick: Path, trained: list[str]) -> None:
    """Seeds are not what they are elsewhere."""
    with own_experiment(files("price")) as folder:
        expkit.run(folder.name, overrides=["exp.split.method=time"])
        words = [
            "--from",
            f"{folder.name}/light,exp.split.method=time",
            "train.noise=0.1",
            "--why",
            "x",
            "--seeds",
            "2",
        ]
        result = CliRunner().invoke(app, ["try", *words])
        assert "exp.split.method=time has no other folds" in result.stderr


def test_the_reason_is_asked_for_with_an_example(project: Path) -> None:
    said = refused("try", "--from", f"{project.name}/base", "train.noise=0.2")
    command = f"exp try --from {project.name}/base train.noise=0.2"
    assert said == f'say what you expect: {command} --why "a wider layer scores higher"'


def test_a_setting_that_changes_no_result(project: Path, trained: list[str]) -> None:
    """Is for these trainings, also those of the base, and in no parameter set."""
    expkit.run(project.name, overrides=["exp=001", "exp.train.noise=0.5", "exp.fold=[0]"])
    base = f"{project.name}/base,exp.train.noise=0.5"
    found = exp_json("try", "--from", base, "train.noise=0.2", "time_limit=10m", "exp.runtime.tags=[a]", "--why", "x")
    own = "exp.time_limit=10m exp.runtime.tags=[a]"
    assert found["change"] == {"exp.train.noise": 0.2}
    assert trained == [
        f"exp=002 {own} exp.debug=true",
        f"exp=001 exp.train.noise=0.5 {own} exp.fold=null",
        f"exp=002 {own} exp.fold=null",
    ]
    assert "time_limit" not in (project / "exp/002.yaml").read_text()
    (project / "exp/003.yaml").write_text("name: three\n\ntrain:\n  noise: 0.3\n")
    printed(f"{project.name}/003", "exp.time_limit=5m", "--from", base, "--why", "x")
    assert trained[3:] == [f"exp=003 exp.time_limit=5m exp.{rest}" for rest in ("debug=true", "fold=null")]
    only = refused("try", "--from", base, "exp.time_limit=10m", "--why", "x")
    assert only == "exp.time_limit changes no result: an idea changes another key"
    wrong = refused("try", "--from", base, "train.noise=0.7", "exp.time_limit=soon", "--why", "x")
    assert "exp.time_limit must be a time such as" in wrong and sets(project) == ["001", "002", "003"]


def test_the_only_parameter_set_is_meant(project: Path, trained: list[str]) -> None:
    """Of an experiment that is edited; of several, one has to be named. The code is named beside the values."""
    text = (project / "train.py").read_text(), (project / "model.py").read_text(), (project / "config.yaml").read_text()
    with own_experiment(dict(zip(("train.py", "model.py", "config.yaml"), text, strict=True))) as new:
        (new / "exp").mkdir()
        (new / "exp/003.yaml").write_text("name: three\n\ntrain:\n  noise: 0.4\n")
        add_note(f"{new.name}/", {"origin": f"{project.name}/base"})
        assert printed(new.name, "--why", "x")[0] == f"{new.name}/three: other code"
        (new / "exp/003.yaml").write_text("name: more\n\ntrain:\n  noise: 0.3\n")
        assert printed(new.name, "--why", "x")[0] == f"{new.name}/more: other code, train.noise=0.3"
        (new / "exp/004.yaml").write_text("name: four\n")
        assert refused("try", new.name, "--why", "x") == (
            f"{new.name} has several parameter sets: name one, as {new.name}/004, or {new.name}/default for "
            "config.yaml alone"
        )
        assert printed(f"{new.name}/default", "--why", "x")[0] == f"{new.name}/light: other code, train.noise=0.2"


def test_an_old_result_is_never_that_of_an_edit(project: Path, trained: list[str]) -> None:
    """Edited values or code: neither shown as the new one's result, nor mixed with it; what was noted stays."""
    title, file = f"{project.name}/002", project / "exp/002.yaml"
    attempt(project, "train.noise=0.1")
    before, again = read_notes()[title].lines, "train.py exp=002 overwrite=true trains it again"
    trained.clear()
    base, seeds = f"{project.name}/base", ("--seeds", "2")
    with edited(file, "noise: 0.1", "noise: 0.9"):
        for more in ((), seeds, ("--fold", "0")):
            said = refused("try", title, "--from", base, "--why", "y", *more)
            assert f"{title} holds another configuration (exp.train.noise: 0.1 → 0.9): exp new" in said
            assert again in said
    with edited(project / "model.py", "* 0.7", "* 0.8"):
        for words in ((title, "--from", base), (title, "--from", base, *seeds)):
            said = refused("try", *words, "--why", "y")
            assert f"{title} is out of date, code changed since" in said and "model.py" in said and again in said
        for words in (("train.noise=0.1",), ("train.noise=0.3",), ("train.noise=0.3", *seeds)):
            said = refused("try", "--from", base, *words, "--why", "y")
            assert f"{base} is out of date, code changed since" in said, "the change would be of the code, too"
    assert read_notes()[title].lines == before and trained == [] and sets(project) == ["001", "002"]


def test_what_was_expected_first_stays(project: Path, trained: list[str]) -> None:
    """That of a repeat knows what came of it. And a repeat of what is dropped invites to no more of it."""
    attempt(project, "train.noise=0.39", why="first")
    exp("note", f"{project.name}/002", "--dropped")
    lines = attempt(project, "train.noise=0.39", why="again")
    assert lines[-1] == f"next: you have dropped {project.name}/002: another idea from {project.name}/base"
    assert exp_json("log")[-1]["why"] == "first"
    assert [line["hypothesis"] for line in read_notes()[f"{project.name}/002"].lines if "hypothesis" in line] == [
        "first"
    ]


def test_a_foreign_record_runs_nothing(project: Path, root: Path, trained: list[str]) -> None:
    """What `exp fetch` brings may say anything: of its overrides, those of the experiment alone are typed again."""
    hydra = "+hydra.callbacks.x={_target_:builtins.print}"
    expkit.run(project.name, overrides=["exp=001", "exp.train.noise=0.5"])
    folder = store.folder_of(root / "output", f"{project.name}/base,exp.train.noise=0.5")
    assert folder is not None
    for origin in folder.glob("*/origin.json"):
        own = ["exp.train.noise=0.5", hydra, "exp/../x@hydra.callbacks=y", "hydra/callbacks=z"]
        write_json(origin, json.loads(origin.read_text()) | {"overrides": ["exp=001", *own]})
        result = json.loads((origin.parent / store.RESULT).read_text())
        about = origin.stat()
        result["files"][origin.name] = [about.st_size, about.st_mtime_ns, None]
        write_json(origin.parent / store.RESULT, result)
    run = store.read_run(folder)
    assert not run.problems and tries.Training.of(run).overrides == ("exp=001", "exp.train.noise=0.5")
    attempt(project, "train.noise=0.1")
    for name in ("../../../output/x", "..", "a/b", "${oc.env:HOME}"):
        info = json.loads((folder / store.RUN).read_text()) | {"set": name}
        write_json(folder / store.RUN, info)
        assert store.read_run(folder).problems == ("broken run.json (its values do not fit)",)
        with pytest.raises(expkit.Error, match=r"exp=.*: a parameter set is a file of exp/, named without its folder"):
            expkit.load_config(project.name, [f"exp={name}"])
