"""The board: every run under output/, as entries to compare, to filter, to sort and to print."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any, TypeVar

from expkit import store
from expkit.config import compared, flat
from expkit.data import read_manifest
from expkit.errors import Error, require
from expkit.notes import Notes, read_notes
from expkit.project import output_dir
from expkit.scores import datasets
from expkit.store import Run, deviation, load_run, read_run, run_folders
from expkit.store.versions import and_without_seeds, is_named, titles_of

NOT_COMPARABLE = "not comparable"
OPERATORS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
SEEDS = ("exp.seed", "exp.split.seed")  # of the training, of the folds
Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Entry:
    """A line of the board: a run, or several that differ only in their seed, with their means.

    Attributes:
        runs: these.
        notes: what was noted on the run.
        flags: why its score does not compare with those of most others: "other folds", ...
        versus_best: "best", "identical", "could be noise", "worse" or "not comparable"; None: nobody asked, or knows.
        versus_runs: how many runs that takes into account.
        dataset: the rows and targets that it is of, as of `Run.dataset`; None: not known.
    """

    runs: tuple[Run, ...]
    notes: Notes = Notes("")
    flags: tuple[str, ...] = ()
    versus_best: str | None = None
    versus_runs: int | None = None
    dataset: store.Dataset | None = None

    @functools.cached_property
    def run(self) -> Run:
        """The run; of several, the one with the shortest name."""
        return min(self.runs, key=lambda run: len(run.name))

    @functools.cached_property
    def problem(self) -> str | None:
        """What its score is of, as "accuracy~3f2a1b": runs of one metric and direction, on the same rows and targets.

        None: no fold is done, or it is broken.
        """
        run = self.run
        what = repr((run.metric, run.greater_is_better, self.dataset)).encode()
        return f"{run.metric}~{hashlib.sha256(what).hexdigest()[:6]}" if run.done and run.metric else None

    @functools.cached_property
    def score(self) -> float | None:
        """The CV score, as of `Run`."""
        return statistics.fmean(run.score or 0.0 for run in self.runs) if len(self.runs) > 1 else self.run.score

    @property
    def std(self) -> float | None:
        """Standard deviation (n - 1) of the scores of the folds; of several runs, of their scores."""
        return deviation([run.score or 0.0 for run in self.runs]) if len(self.runs) > 1 else self.run.std

    @functools.cached_property
    def fold_scores(self) -> dict[int, float]:
        """The score of each fold that is done, in all runs."""
        return _means([run.fold_scores for run in self.runs])

    @functools.cached_property
    def other_scores(self) -> dict[str, float]:
        """The scores of the other metrics, and what the folds have recorded under names such as "test_accuracy"."""
        return _means([run.other_scores for run in self.runs])

    @functools.cached_property
    def marks(self) -> tuple[str, ...]:
        """What to know about the score: of each run, and of the run among the others."""
        now, noted = (self.run.metric, self.run.score), map(self.notes.last_line, ("verdict", "leaderboard"))
        old = [line for line in noted if line and self.run.id and line.get("id", self.run.id) != self.run.id]
        outdated = ["noted on an earlier version"] * any(now not in line.get("scores", {}).items() for line in old)
        return tuple(dict.fromkeys([*(mark for run in self.runs for mark in run.marks), *outdated, *self.flags]))

    @functools.cached_property
    def is_comparable(self) -> bool:
        """Whether its score compares with those of most runs of its problem, as far as anyone has looked."""
        return not self.flags and not any(run.leaks or store.original(run) for run in self.runs)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, {"exp.seed": 42, ...}."""
        return flat(self.run.config)

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """What the board knows: `COLUMNS`, the other metrics, the configuration."""
        return {name: column(self) for name, column in COLUMNS.items()} | self.other_scores | self.config

    def value(self, key: str) -> Any:
        """One of `values`, or the score by the name of its metric; None: there is none."""
        column = COLUMNS.get("score" if key == self.run.metric and key not in COLUMNS else key)
        return column(self) if column else self.values.get(key)  # not all of them for one


def _means(values: Sequence[Mapping[Key, float]]) -> dict[Key, float]:
    """The mean of each value that all have."""
    names = [name for name in values[0] if all(name in each for each in values)]
    return {name: statistics.fmean(each[name] for each in values) for name in names}


COLUMNS: dict[str, Callable[[Entry], Any]] = {
    "experiment": lambda entry: entry.run.experiment,
    "run": lambda entry: entry.run.name,
    "metric": lambda entry: entry.run.metric,
    "score": lambda entry: entry.score,
    "std": lambda entry: entry.std,
    "folds_done": lambda entry: sum(len(run.done) for run in entry.runs),
    "n_folds": lambda entry: sum(run.n_folds or 0 for run in entry.runs) or None,
    "rows": lambda entry: sum(run.rows for run in entry.runs),
    "split": lambda entry: entry.run.split if len({run.split for run in entry.runs}) == 1 else None,
    "seed": lambda entry: entry.run.seed if len(entry.runs) == 1 else f"{len({r.seed for r in entry.runs})} seeds",
    "seconds": lambda entry: round(sum(run.seconds for run in entry.runs), 3) if entry.run.done else None,
    "finished": lambda entry: max((run.finished for run in entry.runs if run.finished), default=None),
    "commit": lambda entry: entry.run.commit,
    "leaderboard": lambda entry: entry.notes.last("leaderboard"),
    "verdict": lambda entry: entry.notes.last("verdict"),
    "tags": lambda entry: entry.notes.tags,
    "note": lambda entry: entry.notes.last("text"),
    "parents": lambda entry: list(dict.fromkeys(parent.run for run in entry.runs for parent in run.parents)),
    "failure": lambda entry: entry.run.failure,
    "versus_best": lambda entry: entry.versus_best,
    "versus_runs": lambda entry: entry.versus_runs,
    "problem": lambda entry: entry.problem,
    "marks": lambda entry: ", ".join(entry.marks),
}
HEADINGS = {"LB": "leaderboard", "time": "seconds", "folds": "folds_done", "vs best": "versus_best", "why": "failure"}


def read_board(output: Path | None = None) -> list[Run]:
    """Every run, in the order of the folders, without debug runs. Runs are read from the disk, nothing is written.

    Args:
        output: the folder with the results; None: that of the project.
    """
    known: dict[str, Run | None] = {}
    runs = [read_run(folder, known) for folder in run_folders(output or output_dir())]
    known |= {run.title: run for run in runs} | {"": None}
    return runs


def entries(runs: Iterable[Run]) -> list[Entry]:
    """Runs as the board shows them, with what was noted on each, and of which problem it is among them."""
    noted, every = read_notes(), list(runs)
    found = datasets(every)
    return [Entry((run,), noted.get(run.title, Notes(run.title)), dataset=found[run.folder]) for run in every]


def ranked(
    runs: Iterable[Run],
    conditions: Iterable[str] = (),
    failed: bool | None = None,
    seeds: bool = False,
    last: int | None = None,
    noise: bool = False,
    sort: str = "score",
) -> list[Entry]:
    """The board: `entries`, flagged where their scores do not compare, best first.

    Args:
        conditions: that an entry meets, as of `filtered`.
        failed: True: only runs with a fold that has failed. False: no run that has failed with no fold done.
            None: all.
        seeds: runs that differ only in their seed are one entry.
        last: how many of each problem, of those that finished last.
        noise: each has what its folds say of it against the best of its problem, as of `noise.against_best`.
        sort: as `key` of `ordered`.

    Raises:
        Error: no run has a key.
    """
    every = flag_incomparable(entries(runs))
    found = [one for one in every if failed is None or (bool(one.run.failure) if failed else not is_failed(one.run))]
    found = filtered(found, conditions)
    found = grouped_by_seed(found) if seeds else found
    if last is not None:
        found = [one for block in by_problem(ordered(found, "-finished")) for one in block[:last]]
    if noise:
        from expkit.noise import against_best

        found = against_best(found, grouped_by_seed(every) if seeds else every)
    return ordered(found, sort)


def is_failed(run: Run) -> bool:
    """Whether nothing has come of it: no fold is done, and the last training has failed."""
    return run.failure is not None and not run.done


# Problems: what a score is of


def by_problem(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries of each problem, in their order, first of that in which a run finished last.

    One without a problem is among those of its experiment, else at the end.
    """
    of_experiment = {one.run.experiment: one.problem for one in entries if one.problem}
    groups = grouped(entries, lambda one: one.problem or of_experiment.get(one.run.experiment))
    others = groups.pop(None, [])
    newest = {name: max(run.finished or "" for one in group for run in one.runs) for name, group in groups.items()}
    found = [groups[name] for name in sorted(groups, key=newest.__getitem__, reverse=True)]
    return [*found[:-1], [*found[-1], *others]] if found else [others] if others else []


# Which scores compare


def flag_incomparable(entries: list[Entry]) -> list[Entry]:
    """The entries, each flagged with what makes its score another one than those of most runs of its problem.

    Where two things are equally frequent, the older runs decide. Copies of a run do not count. What data a run was
    trained with is held against the runs of its own experiment.
    """
    counted = [entry for entry in entries if entry.score is not None and entry.is_comparable]
    counted.sort(key=lambda entry: entry.run.finished or "")
    problems = grouped(counted, lambda entry: entry.problem)
    usual = {problem: _reference([entry.run for entry in own]) for problem, own in problems.items()}
    experiments = grouped(counted, lambda entry: (entry.run.experiment, entry.problem))
    rare = {key: _rare_data([entry.run for entry in own]) for key, own in experiments.items()}
    found = []
    for entry in entries:
        run, flags = entry.run, list(entry.flags)
        if entry.score is not None and entry.problem in usual:
            reference = usual[entry.problem]
            flags += list(scored_otherwise(reference, run))
            if None not in (reference.metric_hash, run.metric_hash) and reference.metric_hash != run.metric_hash:
                flags.append("other metric")
            if run.data & rare.get((run.experiment, entry.problem), set()) and "mixed data" not in run.marks:
                flags.append("other data")
        found.append(replace(entry, flags=tuple(flags)) if flags else entry)
    return found


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by their key, in the order in which each first comes."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _reference(runs: Sequence[Run]) -> Run:
    """The run whose metric, then folds and targets most of the runs have; of equals, the first."""
    rules = Counter(run.metric_hash for run in runs)
    folds = Counter(part for run in runs for part in run.valid_ids.items())
    targets = Counter(part for run in runs for part in run.targets.items())

    def agreement(run: Run) -> tuple[int, ...]:
        shared = [folds[part] for part in run.valid_ids.items()]
        same_targets = sum(targets[part] for part in run.targets.items())
        return rules[run.metric_hash], max(shared, default=0), sum(shared), same_targets

    return max(runs, key=agreement)


def _other_columns(old: Run, new: Run, folds: Iterable[int]) -> list[str]:
    """Which columns that both runs were given as `keep` differ in folds with the same rows, such as weights."""
    pairs = [(_kept(old, fold), _kept(new, fold)) for fold in folds]
    return sorted({name for one, other in pairs for name in one.keys() & other.keys() if one[name] != other[name]})


def _kept(run: Run, fold: int) -> Mapping[str, str]:
    return run.results[fold].get("kept", {}) if fold in run.results else {}


def incomparable(old: Run, new: Run) -> dict[str, str]:
    """Why the scores of two runs of one metric do not compare; {} when they do.

    Returns:
        flags of the second run, each with the same in words; and the title of one that leaks, with its marks.
    """
    found = scored_otherwise(old, new) | {run.title: "; ".join(run.leaks) for run in (old, new) if run.leaks}
    if old.data != new.data and _rare_data([old, new]):  # each may have read files of its own
        found["other data"] = f"a file in input/ has changed between the trainings of {old.title} and {new.title}"
    return found


def scored_otherwise(old: Run, new: Run) -> dict[str, str]:
    """As `incomparable`, of the direction of the metric and the rows that the two are scored on."""
    found = {}
    if old.greater_is_better != new.greater_is_better:
        upward = new if new.greater_is_better else old
        found["other direction"] = f"a higher score is better in {upward.title} alone"
    both, have_others = old.valid_ids.keys() & new.valid_ids.keys(), have_other_folds(old, new)
    one, other = (run.dataset if have_others or not both else None for run in (old, new))
    differ = not have_others and any(old.targets.get(fold) != new.targets.get(fold) for fold in both)
    if one and other and one.ids != other.ids:
        given = f"in {new.title} ({other.rows:,}) than in {old.title} ({one.rows:,})"
        found["other rows"] = f"fold.split got other rows {given}"
    elif (one and other and one != other) or differ:
        found["other target"] = f"the targets of {new.title} are not those of {old.title}"
    elif names := _other_columns(old, new, both) if not have_others else []:
        found["other target"] = f"the column {names[0]} of {new.title} is not that of {old.title}"
    elif have_others:
        found["other folds"] = f"the folds of {new.title} leave out other rows than those of {old.title}"
    elif not both:
        found["no common fold"] = f"no fold is done in both {old.title} and {new.title}"
    return found


def have_other_folds(one: Run, other: Run) -> bool:
    """Whether a fold of one number leaves out other rows in the two; while folds are missing, those that both have."""
    if one.valid_ids == other.valid_ids:
        return False
    both = one.valid_ids.keys() & other.valid_ids.keys()
    are_whole = one.is_complete and other.is_complete
    return are_whole or any(one.valid_ids[fold] != other.valid_ids[fold] for fold in both)


def _rare_data(runs: Sequence[Run]) -> set[str]:
    """The data, as hashes, with a file of which most of the runs had another content, the oldest first."""
    counts = Counter(digest for run in runs for digest in run.data if digest)
    if len(counts) < 2:
        return set()
    files, votes = {digest: _files(runs[0].folder.parents[1], digest) for digest in counts}, Counter[tuple[str, str]]()
    for digest, count in counts.items():
        votes.update(dict.fromkeys(files[digest], count))
    usual = dict(file for file, _ in reversed(votes.most_common()))  # the last of a name, which is the most common
    return {digest for digest in counts if any(usual[name] != content for name, content in files[digest])}


@functools.lru_cache(maxsize=256)
def _files(output: Path, digest: str) -> list[tuple[str, str]]:
    return [(name, str(content)) for name, content in (read_manifest(output, digest) or {}).items()]


def grouped_by_seed(entries: Iterable[Entry]) -> list[Entry]:
    """Runs that differ only in their seed as one entry; one without a score stays alone."""
    every, found = list(entries), list[Entry]()
    alike = without_seeds([entry.run for entry in every], "exp.seed")
    for group in grouped(every, lambda entry: (entry.problem, alike(entry.run))).values():
        scored = _one_per_seed([entry for entry in group if entry.score is not None])
        found += [_together(scored)] if len(scored) > 1 else scored
        found += [entry for entry in group if entry.score is None]
    return found


def _one_per_seed(entries: Sequence[Entry]) -> list[Entry]:
    """Of runs with the same configuration and seed, the one with the most folds, else the first."""
    most = {one.run.seeds: one for one in sorted(reversed(entries), key=lambda entry: len(entry.run.done))}
    return [entry for entry in entries if entry is most[entry.run.seeds]]


def _together(group: Sequence[Entry]) -> Entry:
    runs = tuple(entry.run for entry in group)
    mixed = ["mixed folds"] if any(have_other_folds(runs[0], run) for run in runs) else []
    flags = dict.fromkeys([*(flag for entry in group for flag in entry.flags), *mixed])
    return Entry(runs, min(group, key=lambda one: len(one.run.name)).notes, tuple(flags), dataset=group[0].dataset)


def without_seeds(runs: Iterable[Run], *seeds: str) -> Callable[[Run], str]:
    """Tells of each of these runs what is equal in those that differ only in their `seeds`; a blend has none.

    A value that is the first default of its field counts as one that is not there: older runs lack the field.
    """
    first: dict[tuple[str, ...], str] = {}
    for run in sorted(runs, key=lambda run: run.info["started"] if run.info else ""):
        info: Any = run.info or {}
        for key, value in flat(run.config).items() if "changed" in info else ():
            if key not in info["changed"]:
                first.setdefault((run.experiment, str(run.config.get("choices")), key), repr(value))

    def alike(run: Run) -> str:
        kind, values = (run.experiment, str(run.config.get("choices"))), compared(run.config)
        name = run.name if run.seed is None else run.config.get("exp", {}).get("name")
        given = {key: one for key, one in values.items() if first.get((*kind, key)) != repr(one) and key not in seeds}
        changed: Sequence[str] = run.info.get("changed", ()) if run.info else ()
        given |= {key: "taken out" for key in changed if key not in values and (*kind, key) in first}
        return json.dumps([kind, run.metric, name, given], default=str, sort_keys=True)

    return alike


def find_seeds(name: str) -> list[Run]:
    """The runs that differ only in their seeds, of the training and of the folds, one of each.

    Args:
        name: of one of them, as for `load_run`, or a part of the names of some of them, and of no others.

    Raises:
        Error: no run, or other runs too.
    """
    runs = read_board()
    groups = grouped(runs, without_seeds(runs, *SEEDS)).values()
    named = [group for group in groups if titles_of(name, and_without_seeds(run.title for run in group))]
    if len(named) != 1:
        run = load_run(name)
        named = [next((group for group in groups if run.folder in [one.folder for one in group]), [run])]
    return [entry.run for entry in _one_per_seed([Entry((run,)) for run in named[0]])]


# Which entries, in which order


def filtered(entries: list[Entry], conditions: Iterable[str]) -> list[Entry]:
    """The entries that meet every condition: "score>0.97", "learning_rate=0.003", or a part of a run's name.

    Raises:
        Error: a condition names a key that no run has.
    """
    for condition in conditions:
        parts = re.fullmatch(r"([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*)", condition)
        if parts is None:
            entries = [entry for entry in entries if is_named(entry.run.title, condition)]
        else:
            key = key_of(parts[1], entries)
            entries = [entry for entry in entries if _holds(entry.value(key), parts[2], parts[3])]
    return entries


def _holds(value: Any, operator: str, other: str) -> bool:
    if isinstance(value, list):  # tags
        return any(_holds(one, "=", other) for one in value) == (operator == "=")
    left: Any = str(value).lower() if isinstance(value, bool) else str(value)
    right: Any = other
    with suppress(ValueError):
        left, right = float(left), float(right)
    return value is not None and bool(OPERATORS[operator](left, right))


def ordered(entries: list[Entry], key: str = "score") -> list[Entry]:
    """The entries of each problem, as of `by_problem`, sorted by a column or a configuration key; "-key": the other
    way round; by score: best first.

    Those without a value come last. By score, runs with missing folds come after those that have all, then those whose
    score does not compare, and those that a study has pruned last.

    Raises:
        Error: no run has the key.
    """
    key, is_reversed = key_of(key.removeprefix("-"), entries), key.startswith("-")
    order: Callable[[Entry], Any] = rank if key == "score" else lambda entry: _comparable(entry.value(key))
    has_value = grouped(entries, lambda entry: entry.value(key) is not None)
    every = sorted(has_value.get(True, []), key=order, reverse=is_reversed) + has_value.get(False, [])
    return [entry for block in by_problem(every) for entry in block]


def rank(entry: Entry) -> tuple[bool, bool, bool, float]:
    """The position of a run on the board: a score of all folds is worth more than one of a few, or of other folds."""
    marks, score = entry.marks, entry.score or 0.0
    is_partial = not all(run.is_complete for run in entry.runs) or "mean of folds" in marks
    return "pruned" in marks, not entry.is_comparable, is_partial, -score if entry.run.greater_is_better else score


def _comparable(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) and value == value else (1, str(value))


def key_of(name: str, entries: list[Entry]) -> str:
    """The full key that `name` means: a column, as in JSON or as the board heads it, or the end of a configuration key.

    Raises:
        Error: no run has it, or it may be several.
    """
    name = HEADINGS.get("LB" if name == "lb" else name, name)
    if name in COLUMNS:
        return name
    own = (key for one in entries for key in (str(one.run.metric), *one.other_scores, *one.config))
    known = dict.fromkeys([*COLUMNS, *own])
    found = [name] if name in known else [key for key in known if key.endswith(f".{name}")]
    if len(found) == 1 or not entries:
        return found[0] if found else name
    require(not found, f"{name} may be {' or '.join(found)}: give more of the key")
    near = difflib.get_close_matches(name, [*known, *(key.rpartition(".")[2] for key in known)], n=1)
    raise Error(f"no run has a key {name}" + (f"; did you mean {near[0]}?" if near else ""))
