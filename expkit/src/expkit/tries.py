"""One idea, from the change to the verdict: `exp try`. What was tried, in order: `exp log`.

Each step can be taken by hand: `exp new 001/004 --from RUN`, `exp note`, train.py with exp.debug=true and without,
`exp diff`. A step that is done is not done again: after an interruption, the same command goes on.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from statistics import fmean
from typing import Any

from rich.console import Console

from expkit import board, config, noise, notes
from expkit.compare import compare, format_verdict, verdict
from expkit.compose import as_hydra_takes, load_config
from expkit.config import Groups, load_experiment
from expkit.errors import COMMAND, Failed, interruption, plain_table, require, score_text, terminable, warn
from expkit.new import copy_from_worktree, parameter_set_from_run, recorded_values
from expkit.notes import Notes, read_notes
from expkit.project import experiment_dir, full_name, output_dir, reserve
from expkit.rundir import name_source, run_name
from expkit.show import changed_since
from expkit.store import Run, and_without_seeds, folder_of, load_run, original, read_run, short_names

STOP_SECONDS = 2  # for a training that is stopped, to say so
LONGEST = 48  # characters of a text in a table
SETTINGS = ("exp.time_limit=", "exp.runtime.")  # which change no result, and are in no parameter set
OF_FOLDS = ("exp.split.", "exp.n_folds")
DROPPED = "dropped"
AGAIN = "repeat it: the same command with --seeds 3"
ENOUGH = 'decide, as even 12 seeds leave half of such open: exp note {run} "..." --kept; or the same with --dropped'
NEXT = {
    noise.BETTER: 'exp note {run} "..." --kept; then exp try --from {run} KEY=VALUE --why "..."',
    noise.WORSE: 'exp note {run} "..." --dropped; then another idea from {onward}',
    noise.NOISE: 'no progress: exp note {run} "..." --dropped',
    noise.PROMISING: AGAIN,
    noise.UNKNOWN: AGAIN,
    noise.IDENTICAL: "no prediction has changed: does the code use what was changed?",
    board.NOT_COMPARABLE: "exp diff {base} {run} says more",
    DROPPED: "you have dropped {run}: another idea from {onward}",
}


@dataclass(frozen=True)
class Training:
    """What makes a run: an experiment with overrides, of which none is about folds."""

    experiment: str
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, run: Run, *settings: str) -> Training:
        """The training that has made a run, with other `SETTINGS`.

        Raises:
            Error: its overrides give another configuration now, or nobody knows them.
        """
        recorded, named = recorded_values(run), set_of(run)
        typed_in: list[str] = next((fold.origin().get("overrides", []) for fold in run.done.values()), [])
        if named:
            copy_from_worktree(run.experiment, named)
            typed_in = [f"exp={named}"]
        groups = load_experiment(run.experiment).experiment.groups
        kept = [each for each in typed_in if _is_of_training(each, groups)]
        found = cls(run.experiment, (*kept, *settings))
        lines = found.differences(recorded)
        require(not lines, f"{run.title} has another configuration now: {'; '.join(lines[:3])}; undo it, or exp new")
        return found

    @functools.cached_property
    def config(self) -> Any:
        return name_source(self.experiment, load_config(self.experiment, self.overrides))

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """The configuration as a run records it."""
        return load_experiment(self.experiment).experiment.values(self.config)

    def differences(self, recorded: Mapping[str, Any]) -> list[str]:
        """How the recorded configuration of a run differs from its own; [] when it is the same."""
        return config.differences(recorded, self.config, load_experiment(self.experiment).experiment)

    @functools.cached_property
    def title(self) -> str:
        """Of its run."""
        loaded = load_experiment(self.experiment)
        return f"{self.experiment}/{run_name(self.config, [as_hydra_takes(each, loaded) for each in self.overrides])}"

    def run(self) -> Run | None:
        """Its run as it is now; None: there is none."""
        folder = folder_of(output_dir(), self.title)
        return read_run(folder) if folder else None

    def require_fold(self, fold: int | None) -> None:
        """Raise an `Error` when it has no such fold."""
        last = self.config.exp.n_folds - 1
        require(fold is None or fold <= last, f"--fold {fold}: {self.title} has the folds 0 to {last}")

    def seeded(self, seed: int, of_folds: int) -> Training:
        """The same with other seeds, of the training and of the folds."""
        own = ("exp.seed", seed, self.config.exp.seed), ("exp.split.seed", of_folds, self.config.exp.split.seed)
        more = [f"{key}={value}" for key, value, now in own if value != now]
        return replace(self, overrides=(*self.overrides, *more))

    def held(self, fold: int | None) -> Run | None:
        """Its run, where that has a fold, None: all; None: some are missing.

        Raises:
            Error: the run has another configuration; or nothing is missing, and it is of other code or data than now.
        """
        if (run := self.run()) is None or not run.done:
            return None
        anew = f"uv run python experiments/{self.experiment}/train.py {shlex.join([*self.overrides, 'overwrite=true'])}"
        how = f"exp new NAME --from {run.title} keeps it and begins another one; {anew} trains it again"
        lines = self.differences(run.config)
        require(not lines, f"{run.title} holds another configuration ({'; '.join(lines[:3])}): {how}")
        if not (run.is_complete or fold in run.done):
            return None
        _require_unedited(run, ("code", "data"), how)
        return run

    def trained(self, fold: int | None) -> Run:
        """Its run with a fold, None: with all; what is missing is trained now. Errors as of `held` and `train`."""
        if run := self.held(fold):
            return run
        self.train(f"exp.fold={'null' if fold is None else fold}")
        return load_run(self.title)

    def train(self, *more: str) -> None:
        """Start train.py, as a person would. What it prints is for a terminal; its train.log has it, too.

        Raises:
            Failed: it has failed, and has said why.
        """
        train = str(load_experiment(self.experiment).folder / "train.py")
        shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
        known = {**os.environ, COMMAND: shlex.join(["uv", "run", "exp", *sys.argv[1:]])}
        with subprocess.Popen([sys.executable, train, *self.overrides, *more], stdout=shown, env=known) as process:
            try:
                process.wait()
            except BaseException as end:
                with suppress(subprocess.TimeoutExpired):  # Ctrl-C of a terminal reaches the training, too
                    process.wait(STOP_SECONDS)
                process.terminate()
                if process.wait() > 128 and interruption(end):
                    raise SystemExit(process.returncode) from end  # it has said so
                raise
        if process.returncode:
            how = f'repair the cause, then the same command goes on; or exp note {self.title} "..." --dropped'
            error = Failed(f"{' '.join([self.title, *more])} failed: {how}")
            error.exit_code = max(process.returncode, 1)
            raise error


def _is_of_training(override: str, groups: Groups) -> bool:
    """Whether an override that is recorded says what is trained: another project's may have any, of Hydra's too."""
    key, _, value = override.partition("=")
    group = key.partition("@")[0]
    if key == "exp" or (key in (group, f"{group}@exp.{group}") and value in groups.get(group, ())):
        return True
    return re.fullmatch(r"[+~]*exp\.[^@/:]+", key) is not None and config.is_compared(key.lstrip("+~"))


def _require_unedited(run: Run, what: tuple[str, ...], how: str) -> None:
    """Raise an `Error` when the "code" or the "data" of a run is another now; a metric scores it again, by itself."""
    marks = [mark for mark in changed_since(run) if mark.startswith(what)]
    require(not marks, f"{run.title} is out of date, {'; '.join(marks)}: {how}")


def set_of(run: Run) -> str | None:
    """The parameter set that a run was trained with; None: with other values."""
    return run.info.get("set") if run.info else None


@dataclass(frozen=True)
class Idea:
    """What is tried.

    Attributes:
        base: the run that it is held against.
    """

    training: Training
    base: Run

    @functools.cached_property
    def change(self) -> dict[str, Any]:
        """The values that differ from those of the base, by key; a blend has none."""
        if self.base.recipe:
            return {}
        new, experiment = config.compared(self.training.values), load_experiment(self.training.experiment).experiment
        changes = config.changes(self.base.config, self.training.config, experiment)
        return {key: new[key] for key in changes if key in new}

    def known(self, seeds: int = 1) -> list[str]:
        """Where it was tried before, with what came of it: the same configuration, or the same change of another run.

        Its own run is told of only where this many seeds add nothing to it.
        """
        title, run, lines = self.training.title, self.training.run(), list[str]()
        is_done = run is not None and run.is_complete and seeds == 1 and not self.training.differences(run.config)
        for other, about in ({title: Notes(title)} | read_notes()).items():
            is_same = self.change and other != title and config.same(about.last("change"), self.change)
            if is_same or (is_done and other == title):
                what = f"was the same change of {about.last('origin')}" if is_same else "has this configuration"
                tested = about.last("tested") or {"verdict": "no verdict yet", "against": self.base.title}
                came = "{verdict} against {against}".format_map(tested)
                lines.append(": ".join(filter(None, [f"{other} {what}", came, about.last("verdict")])))
        return lines


# What is tried


def changed_run(source: str, changes: Sequence[str], fold: int | None = None) -> Idea:
    """A run with other values. Writes its parameter set, with the next number, unless there is one.

    Args:
        source: the run, as for `load_run`.
        changes: KEY=VALUE; KEY may lack its "exp.". `SETTINGS` are of the training, and in no parameter set.
        fold: that is to be trained first, or alone.

    Raises:
        Error: there is no such run, or it has no parameters; a value is refused, or is the one that it has.
    """
    base = load_run(load_run(source).title)  # neither a debug run, nor a version that is replaced
    made, loaded = Training.of(base), load_experiment(base.experiment)
    added = [_whole(change, loaded.experiment.groups) for change in changes]
    settings = [each for each in added if each.startswith(SETTINGS)]
    for key in [each.partition("=")[0] for each in added if added == settings or each not in settings]:
        require(config.is_compared(key), f"{key} changes no result: an idea changes another key")
        require(not key.startswith(OF_FOLDS), f"{key} is none of an idea: with other folds, no score compares")
    made.require_fold(fold)
    wanted = replace(made, overrides=(*made.overrides, *added))
    require(bool(wanted.differences(made.values)), f"{base.title} has {' '.join(changes)} already")
    _require_unedited(base, ("code",), "undo the edit, or make it an experiment of its own, exp new NAME")
    how = "no score of now compares; train it again, overwrite=true, or leave out of inputs=[...] what it never reads"
    _require_unedited(base, ("data",), how)
    runs = [run for run in board.read_board() if run.experiment == loaded.name and (run.done or set_of(run))]
    for run in runs:
        if not wanted.differences(run.config):
            return Idea(Training.of(run, *settings), base)
    for name in sorted({*config.parameter_sets(loaded.folder)[1:]} - {*map(set_of, runs)}):
        with suppress(Exception):  # `exp check` says what is wrong with it
            found = Training(loaded.name, (f"exp={name}", *settings))
            if not found.differences(wanted.values):
                return Idea(found, base)
    name = _new_set(loaded.name, base, wanted.values)
    return Idea(Training(loaded.name, (f"exp={name}", *settings)), base)


def _whole(change: str, groups: Iterable[str] = ()) -> str:
    """KEY=VALUE with its "exp."."""
    return change if change.startswith("exp.") or change.partition("=")[0] in groups else f"exp.{change}"


def _new_set(experiment: str, base: Run, values: Mapping[str, Any]) -> str:
    """Write a parameter set, with a number that no set, run or note of the experiment has had."""
    titles = [*read_notes(), *(run.title for run in board.read_board())]
    names = [title.partition("/")[2] for title in titles if title.startswith(f"{experiment}/")]
    sets = config.parameter_sets(experiment_dir(experiment))
    last = max(int(re.split(r"\D", each)[0] or 0) for each in (*names, *sets))
    numbered = (f"{number:03d}" for number in itertools.count(last + 1))
    free = next(name for name in numbered if reserve(experiment, name) is None)  # no other worktree has it
    return parameter_set_from_run(experiment, free, base, values).stem


def edited(name: str, source: str | None = None, settings: Sequence[str] = ()) -> Idea:
    """An experiment, or a parameter set, that somebody has made and edited.

    Args:
        name: of it, as 003-new, 003 or 003/001; of an experiment with one parameter set, this one is meant.
        source: the run to hold it against; None: that which it was made from, else the best one of that experiment.
        settings: `SETTINGS` of the training; "exp." may be missing.

    Raises:
        Error: there is no such experiment, parameter set or run.
    """
    experiment, _, named = name.partition("/")
    experiment, more = full_name(experiment), [_whole(each) for each in settings]
    is_idea = "give either KEY=VALUE with --from RUN, or one experiment or parameter set"
    require(all(each.startswith(SETTINGS) for each in more), is_idea)
    sets = config.parameter_sets(experiment_dir(experiment))[1:]
    several = f"{name} has several parameter sets: name one, as {name}/{sets[-1] if sets else ''}"
    require(bool(named) or len(sets) < 2, f"{several}, or {name}/{config.DEFAULT} for config.yaml alone")
    training = Training(experiment, (f"exp={named or next(iter(sets), config.DEFAULT)}", *more))
    if source is not None:
        return Idea(training, load_run(load_run(source).title))
    titles, noted = (training.title, f"{experiment}/"), read_notes()
    origin = next(filter(None, (noted[title].last("origin") for title in titles if title in noted)), "")
    runs = [run for run in best_first(origin.partition("/")[0]) if run.title != training.title]
    require(bool(runs), f"{name} was made from no run that is trained: say with --from RUN what to hold it against")
    own = [run for run in runs if origin in (run.title, f"{run.experiment}/{set_of(run)}")]
    return Idea(training, (own or runs)[0])


def best_first(experiment: str) -> list[Run]:
    """The runs of an experiment that have a score; last, those that a person has dropped."""
    found = [one for one in _without_seeds(board.ranked(board.read_board())) if one.run.experiment == experiment]
    return [one.run for one in sorted(found, key=lambda one: one.notes.is_dropped) if one.score is not None]


def _without_seeds(entries: Sequence[board.Entry]) -> list[board.Entry]:
    """The entries in their order; of runs that differ in their seeds alone, the one with the shortest name."""
    names = dict(map(and_without_seeds, ([one.run.title] for one in entries)))
    first = {names[title]: title for title in sorted(names, key=len, reverse=True)}
    return [one for one in entries if first[names[one.run.title]] == one.run.title]


# From the idea to the verdict


@terminable()  # ends the training, too
def attempt(idea: Idea, why: str, fold: int | None = None, seeds: int = 1, stops: bool = False) -> dict[str, Any]:
    """Train an idea, and its base where that lacks folds or seeds; compare the two, and note it all.

    Args:
        why: the hypothesis.
        fold: train this one alone; None: all.
        seeds: how many of each.
        stops: train one fold first, and no other one when it is worse, beyond the noise of its rows.

    Returns:
        as `exp try --json` has it.

    Raises:
        Error: a training has failed, or is refused.
    """
    idea.training.require_fold(fold)
    idea.training.held((fold or 0) if stops else fold)
    if seeds > 1 and (method := idea.training.config.exp.split.method) in config.BY_TIME:
        warn(f"exp.split.method={method.value} has no other folds: --seeds repeats only the training")
    title, said = idea.training.title, {"origin": idea.base.title, "change": idea.change, "hypothesis": why}
    before = read_notes().get(title, Notes(title))
    if not all(config.same(before.last(key), said[key]) for key in ("origin", "change")):  # the first reason stays
        notes.add_note(title, said | notes.context_of(title, None))
    try:
        found, answer = _trained(idea, fold, seeds, stops)
    except Failed as error:
        run = idea.training.run()
        if error.exit_code == 1 and not (run and run.is_complete):  # nobody has stopped it, and it is not another seed
            folders = filter(None, (folder_of(each, title) for each in (output_dir(), output_dir() / "debug")))
            cause = next(filter(None, (read_run(folder).failure for folder in folders)), "")
            notes.add_note(title, {"tested": {"verdict": "failed", "against": idea.base.title, "cause": cause}})
        raise
    return _concluded(idea, why, found, answer)


def _trained(idea: Idea, fold: int | None, seeds: int, stops: bool) -> tuple[dict[str, Any], str]:
    """The comparison with the base, and a verdict. Arguments and errors as of `attempt`."""
    if (run := idea.training.run()) is None or not run.done:
        idea.training.train("exp.debug=true")
    look = fold or 0 if stops else fold
    found = _compared(idea, look, 1 if stops else seeds)
    rows = found["comparison"].get("rows", {})
    is_worse = rows.get("high", 0) < 0
    if stops and "reason" in rows:
        warn(f"fold {look} cannot tell whether it is worse, {rows['reason']}: all folds are trained")
    if look is not None and is_worse and not load_run(idea.training.title).is_complete:
        return found, f"{noise.WORSE} in fold {look}"
    found = _compared(idea, None, seeds) if stops else found
    return found, found["comparison"]["verdict"]


def _compared(idea: Idea, fold: int | None, count: int) -> dict[str, Any]:
    """The comparison with the base, when both are trained with a fold, None: with all, and some seeds.

    The folds, too, are those of other seeds: on the same ones, more seeds hardly tell more (benchmarks/README.md). A
    single fold stays, as it is not known how such folds vary together.
    """
    base, training, pairs = idea.base, idea.training, []
    settings = [each for each in training.overrides if each.startswith(SETTINGS)]
    seed, of_folds = (int(each or 0) for each in base.seeds)
    is_there = count == 1 and (base.recipe or base.is_complete or fold in base.done)
    for step in range(count):
        seeds = seed + step, of_folds + step * (fold is None and training.config.exp.n_folds > 1)
        old = base if is_there else Training.of(base, *settings).seeded(*seeds).trained(fold)
        pairs.append((old, (training.seeded(*seeds) if count > 1 else training).trained(fold)))
    return compare(pairs)


def _concluded(idea: Idea, why: str, found: Mapping[str, Any], answer: str) -> dict[str, Any]:
    """Note what came of an idea; as `exp try --json` has it."""
    every = {one.run.title: one for one in board.ranked(board.read_board())}
    mine, base = every[idea.training.title], every[idea.base.title]
    title, compared, mean = mine.run.title, found["comparison"], (found["scores"] or {}).get("mean", {})
    folds, rows = compared.get("folds", {}), compared.get("rows", {})
    tested = {"verdict": answer, "against": base.run.title, "better_by": rows.get("better_by", folds.get("better_by"))}
    tested |= {"folds": len(folds.get("folds", mine.run.done)), "seeds": max(len(folds.get("seeds", ())), 1)}
    before = [line["tested"] for line in mine.notes.lines if "tested" in line and line.get("id") == mine.run.id]
    alike = [one for one in before if one["against"] == base.run.title]
    counts = max([tested, *alike[-1:]], key=itemgetter("seeds", "folds"))  # a weaker test takes nothing back
    if not config.same(before[-1:], [counts]):
        notes.add_note(title, {"tested": counts} | notes.context_of(title, mine))
    alike = [one for one in _without_seeds([*every.values()]) if one.problem == mine.problem and one.run.is_complete]
    others = [one for one in alike if _compares(one, mine) and not one.notes.is_dropped]
    best = {"run": others[0].run.title, "score": others[0].score} if others else {}
    if others and mine.run.is_complete and others[0] not in (mine, base):
        best["verdict"] = verdict([(others[0].run, mine.run)])["verdict"]
    onward = [one.run.title for one in (base, *others) if one is not mine and not one.notes.is_dropped]
    names = {"run": title, "base": base.run.title, "onward": next(iter(onward), "another run")}
    return {
        **{"run": title, "why": why, "base": base.run.title, "change": idea.change, "verdict": answer},
        **{"metric": mine.run.metric, "score": mean.get("new", mine.score), "std": None if mean else mine.std},
        "base_score": mean.get("old", _on_folds_of(mine, base)),
        "marks": {
            one.run.title: [*(mark for mark in one.marks if mark not in one.flags), *changed_since(one.run)]
            for one in (mine, base)
        },
        **{"comparison": compared, "best": best, "next": _advice(mine, tested).format_map(names)},
    }


def _compares(one: board.Entry, mine: board.Entry) -> bool:
    """Whether the scores of two compare, whatever most runs of their problem have."""
    are_alike = one.run.metric_hash == mine.run.metric_hash and not board.incomparable(mine.run, one.run)
    return are_alike and not original(one.run)


def _advice(mine: board.Entry, tested: Mapping[str, Any]) -> str:
    """What to do next."""
    if not mine.run.is_complete:
        look = "all folds: the same command without --fold and --stop-if-worse"
        return f"{NEXT[noise.WORSE]}; or {look}" if tested["verdict"].startswith(noise.WORSE) else look
    what = DROPPED if mine.notes.is_dropped else tested["verdict"]
    if tested["seeds"] >= 3:
        return ENOUGH if what == noise.PROMISING else NEXT[what]
    return NEXT[what] + (f"; or {AGAIN}" if what == noise.NOISE and (tested["better_by"] or 0) > 0 else "")


def _on_folds_of(mine: board.Entry, base: board.Entry) -> float | None:
    """The score of the base; where the idea lacks folds, over those that it has."""
    there = [score for fold, score in base.fold_scores.items() if fold in mine.fold_scores]
    return fmean(there) if there and not mine.run.is_complete else base.score


def format_attempt(found: Mapping[str, Any]) -> list[str]:
    """What `attempt` has found, a line each, of which the last is what to do next."""
    best, score = found["best"], score_text(found["score"], found["std"])
    is_edited = not found["change"] or found["run"].partition("/")[0] != found["base"].partition("/")[0]
    what = ", ".join(filter(None, ["other code" * is_edited, change_text(found["change"])]))
    lines = [f"{found['run']}: {what}"]
    seeds = len(found["comparison"].get("folds", {}).get("seeds", ()))
    over = f" (the mean over {seeds} seeds)" if seeds else ""
    lines.append(f"{found['metric']} {score}; {found['base']} {score_text(found['base_score'])}{over}")
    lines += [f"{title}: {', '.join(marks)}" for title, marks in found["marks"].items() if marks]
    if best:
        versus = f", against it: {best['verdict']}" if "verdict" in best else ""
        lines.append(f"best: {best['run']} {score_text(best['score'])}{versus}")
    *intervals, last = format_verdict(found["comparison"], found["run"])
    lines += [line.removesuffix(noise.MORE) for line in intervals]  # what to do, the last line says
    last = last if "reason" in found["comparison"] else f"verdict: {found['verdict']}"
    return [*lines, last, f"next: {found['next']}"]


def change_text(change: Mapping[str, Any] | None) -> str:
    """The values that an idea changes, as one types them."""
    return " ".join(f"{re.sub('^(exp|choices)[.]', '', key)}={value}" for key, value in (change or {}).items())


# What was tried


def history() -> list[dict[str, Any]]:
    """Every idea, in the order in which it was first noted or trained; the seeds of a run, and of its folds, are one.

    Returns:
        dicts of "run", "time", "why", "origin", "change", "tested", "verdict", "note", "metric", "score", "partial"
        (whether the score lacks folds), and "best": the best run of its problem so far that is not dropped and no
        blend; of an idea that has no score, that of the one before. What is not known is None.
    """
    noted, found, best = read_notes(), list[dict[str, Any]](), dict[str | None, board.Entry]()
    trained = board.flag_incomparable(board.entries(board.read_board()))
    entries = {one.run.title: one for one in _without_seeds(trained)}
    for title in {**dict.fromkeys(title for title in noted if not title.endswith("/")), **entries}:
        about, entry = noted.get(title, Notes(title)), entries.get(title)
        times = [line["time"] for line in about.lines[:1]]
        times += [entry.run.info["started"]] if entry and entry.run.info else []
        said = {key: about.last(key) for key in ("origin", "change", "tested", "verdict")}
        said |= {"why": about.last("hypothesis"), "note": about.last("text")}
        scores = {entry.run.metric: entry.score} if entry else about.last("scores") or {None: None}
        metric, score = next(iter(scores.items()))
        partial = True if entry and not entry.run.is_complete else None
        said |= {"metric": metric, "score": score, "partial": partial}
        found.append({"run": title, "time": min(times, default=""), **said})
    found.sort(key=itemgetter("time"))
    so_far = None
    for idea in found:
        entry = entries.get(idea["run"])
        is_open = entry and entry.run.is_complete and not entry.run.recipe and idea["verdict"] != DROPPED
        if entry and is_open and entry.is_comparable:
            best[entry.problem] = board.ordered([best.get(entry.problem, entry), entry])[0]
        so_far = best[entry.problem].run.title if entry and entry.problem in best else so_far
        idea["best"] = so_far
    return found


def short_history(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a program gets by default of `history`: without what is not there; "best" of the last idea alone."""
    keys = ("run", "change", "tested", "verdict", "score", "partial")
    rows = [
        {key: idea[key] for key in keys} | {key: _cut(idea[key] or "") for key in ("why", "note")} for idea in found
    ]
    rows[-1:] = [row | {"best": found[-1]["best"]} for row in rows[-1:]]
    return list(map(notes.present, rows))


def show_history(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Print what `history` has found, a line each."""
    bases = [idea["tested"]["against"] if idea["tested"] else _waits_for(idea) for idea in found]
    names, rows = short_names([*(idea["run"] for idea in found), *filter(None, bases)]), []
    for idea, base in zip(found, bases, strict=True):
        marks = f"{' partial' if idea['partial'] else ''}{' *' if idea['best'] == idea['run'] else ''}"
        test = f"{_test(idea['tested'])} against {names[base]}" if base else ""
        changed = change_text(idea["change"]) or idea["origin"] or ""
        why = _cut(idea["why"] or idea["note"] or "")
        rows.append([names[idea["run"]], score_text(idea["score"]) + marks, test, idea["verdict"] or "", changed, why])
    console.print(plain_table(["run", "score", "test", "you", "changed", "why"], rows))


def _waits_for(idea: Mapping[str, Any]) -> str | None:
    """The run that `exp try` has not yet held an idea against; None: it has, or was not asked to."""
    is_open = idea["change"] is not None and not idea["tested"] and (idea["score"] is None or idea["partial"])
    return idea["origin"] if is_open else None


def _cut(said: str) -> str:
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."


def _test(tested: Mapping[str, Any] | None) -> str:
    if not tested:
        return "not finished"
    cause = f" ({_cut(tested['cause'])})" if tested.get("cause") else ""
    return tested["verdict"] + (cause if tested.get("better_by") is None else f" {tested['better_by']:+.2g}")
