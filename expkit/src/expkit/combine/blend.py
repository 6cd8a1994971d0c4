"""`exp blend`: a run that is made of others. Its folds are those of the first; its out-of-fold rows are predicted by
weights that were fitted on other folds, so that its score is as honest as that of a run that was trained."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from expkit import codehash, files, record, snapshot, tables
from expkit.combine.computed import Computed, computed
from expkit.combine.source import choose
from expkit.config.load import load_experiment
from expkit.errors import Error, require
from expkit.paths import code_root, output_dir
from expkit.record import BLENDS, OOF, TEST, Parent, Recipe, RunRecord
from expkit.train import scores
from expkit.train.origin import environment_text, origin
from expkit.train.versions import Versions

if TYPE_CHECKING:
    from expkit.tables import Columns

LONGEST = 100  # characters of a name that is made of the names of the runs


@dataclass(frozen=True)
class Blend:
    """What `exp blend` has made.

    Attributes:
        run: the blend, with its honest score.
        best: the run with the best score of its own among those that it is made of.
        is_new: whether it has been computed now; False: it was there.
        notes: what to know about it.
    """

    run: RunRecord
    best: RunRecord
    is_new: bool
    notes: list[str]


def blend(runs: Sequence[RunRecord], method: str, name: str | None = None) -> Blend:
    """Make a blend of runs: compute it and write it, unless it is there.

    Args:
        runs: two or more, with the same rows, targets and metric; the first says which rows each fold has.
        method: one of `blending.ALL`.
        name: of the run, in output/blends/; None: made of the method and the names of the runs.

    Raises:
        Error: the runs do not fit each other, or the name is that of another blend. Nothing is written.
    """
    twice = [run.title for place, run in enumerate(runs) if run.folder in [other.folder for other in runs[:place]]]
    require(not twice, f"{', '.join(twice)} is named twice: name each run once")
    name = _name(runs, method) if name is None else name
    require(
        re.fullmatch(r"\w[\w.+,=-]*", name) is not None and len(name) <= 200,
        f"--name must have letters, digits and . _ + - , = only, and begin with a letter or digit, not {name!r}",
    )
    versions = Versions(output_dir() / BLENDS, name)
    config = {"blend": {"method": method, "runs": [run.title for run in runs]}}
    loaded = load_experiment(runs[0].scored_by)
    best = _best(runs, next(iter(loaded.experiment.metrics)), loaded.experiment.greater_is_better)
    there = versions.counting()
    old = record.read_run(there) if there else None
    if old is not None and old.info is not None and old.info["config"] != config:
        raise Error(f"{old.title} is there already, with other runs or another method: give this blend another --name")
    parents = parents_of(runs)
    is_same = old is not None and old.recipe is not None and list(old.recipe.parents) == parents and old.is_complete
    if old is not None and is_same and scores.is_current(loaded.experiment, old):
        return Blend(old, best, False, [])
    started = time.monotonic()
    made = computed(runs, method)
    recipe = Recipe(
        method,
        loaded.name,
        tuple(parents),
        tuple(made.blended.weights),
        {str(part): weights for part, weights in made.blended.by_part.items()},
        made.blended.flattering,
        made.blended.fitted_on,
        loaded.experiment.made_by,
    )
    run = _write(versions, recipe, config, made, runs, started)
    return Blend(run, best, True, made.notes)


def _name(runs: Sequence[RunRecord], method: str) -> str:
    names = [run.name if run.experiment == runs[0].experiment else run.title.replace("/", "_") for run in runs]
    names[0] = runs[0].title.replace("/", "_")
    whole = f"{method}_{'+'.join(names)}"
    if len(whole) <= LONGEST:
        return whole
    return f"{method}_{names[0][:70]}+{len(runs) - 1}-more_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _best(runs: Sequence[RunRecord], metric: str, greater_is_better: bool | None) -> RunRecord:
    """The run with the best score of the metric, as the experiment has it now.

    Raises:
        Error: the runs were scored by another metric.
    """
    scored = {run.title: run.score(metric) for run in runs}
    lacking = [title for title, score in scored.items() if score is None]
    require(
        not lacking
        or len({run.metric for run in runs}) > 1,  # a run of another metric than the others is refused later
        f"{', '.join(lacking)}: scored by {runs[0].metric}, but {runs[0].scored_by} has the metric {metric} now: "
        "repeat the command that trained it, to score it again",
    )

    def goodness(run: RunRecord) -> float:
        score = scored[run.title]
        return 0.0 if score is None else score.value if greater_is_better else -score.value

    return max(runs, key=goodness)


def parents_of(runs: Sequence[RunRecord]) -> list[Parent]:
    """Runs as they are now, as a blend remembers them."""
    found = []
    for run in runs:
        try:
            test = tuple(part.checksum for part in choose(run, None, partial=False).parts)
        except Error:
            test = ()
        number = record.version_number(run.folder)
        found.append(Parent(run.title, number, str((run.info or {}).get("id")), run.checksums, test))
    return found


def _write(
    versions: Versions,
    recipe: Recipe,
    config: Mapping[str, Any],
    made: Computed,
    runs: Sequence[RunRecord],
    started: float,
) -> RunRecord:
    """Write a blend as a new version of its run, which counts when it is whole."""
    first, experiment = runs[0], made.loaded.experiment
    files.make_folder(versions.parent)
    about: dict[str, Any] = {
        "experiment": BLENDS,
        "run": versions.run,
        "metric": next(iter(experiment.metrics)),
        "greater_is_better": experiment.greater_is_better,
        "n_folds": first.n_folds,
        "config": config,
        "commands": [],
        "same_as": None,
        "blend": asdict(recipe),
    }
    with ExitStack() as stack:
        with versions.locked():
            folder = versions.make(about, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            stack.enter_context(versions.part(folder, "blend"))  # before `exp clean` can see that it is empty
        parts: dict[int | None, Columns] = {number: made.fold(number) for number in made.scores}
        if made.test is not None:
            parts[None] = made.test
        result = _result(folder, runs)
        for number, table in parts.items():
            path = folder / record.fold_name(number)
            path.mkdir()
            tables.save(path / (TEST if number is None else OOF), table)
            own = {
                "fold": number,
                "scores": {} if number is None else made.scores[number],
                "rows": 0 if number is None else len(table["id"]),
                "left_out": "" if number is None else tables.fingerprint(table["id"]),
                "target": tables.target_hash(table),
                "seconds": round((time.monotonic() - started) / len(parts), 3),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            maker = origin(["exp", *sys.argv[1:]], [])
            own["environment"] = environment_text(maker["environment"])
            maker |= {"code": {}, "data": result["data"], "git": result["git"]}
            record.write_result(path, result | own, maker)
        run = scores.update(experiment, versions, folder)
    with versions.locked():
        record.install(folder)
        versions.clean()
    return run


def _result(folder: Path, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What the results of all folds of a blend have in common."""
    info = record.read_run_info(folder)
    assert info is not None
    data = {fold.result["data"] for run in runs for fold in run.done.values() if fold.result}
    return {
        "run": info["id"],
        "values": {},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": snapshot.take(code_root()),
        "code": codehash.digest({}),
        "data": data.pop() if len(data) == 1 else None,
    }
