"""What to know about a score before it is trusted; and which runs a training has read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from expkit.errors import Circular, Error
from expkit.store.records import OF_A_FOLD, THEN, Parent, same_code

if TYPE_CHECKING:
    from expkit.store.runs import Run

COPY = "copy of "


def own_marks(run: Run) -> tuple[str, ...]:
    """What is missing, mixed, broken, failed or copied."""
    marks = [] if run.info or run.problems else ["no run.json"]
    failed = [fold for fold in run.folds.values() if fold.failure]
    if failed and not run.done:
        marks.append(failed[0].ended)
    elif run.n_folds is not None and len(run.done) < run.n_folds:
        marks.append("pruned" if run.pruned else "partial")
        marks += [f"{fold.title} {fold.ended}" for fold in failed]
    elif run.done and run.n_folds and run.cv is None and run.n_folds > 1:
        marks.append("mean of folds")
    results = list(run.results.values())
    earlier = {what for result in results for one in result.get("earlier", []) for what in one}  # of resumed folds
    if "code" in earlier or not all(same_code(result["code"], results[0]["code"]) for result in results):
        marks.append("mixed code")
    if "data" in earlier or len({result["data"] for result in results}) > 1:
        marks.append("mixed data")
    if len({result.get("dataset") for result in results} - {None}) > 1:
        marks.append("mixed rows")
    if run.full and (whole := run.full.result) and results:
        others = {"code": not same_code(whole["code"], results[0]["code"]), "data": whole["data"] != results[0]["data"]}
        marks += [f"{run.full.title}: other {what}" for what, is_other in others.items() if is_other]
    environments = {result["environment"] for result in results}
    if len(environments) > 1 or any(THEN in one for one in environments):
        marks.append("mixed devices")
    if len({result["packages"] for result in results}) > 1:
        marks += _mixed_packages(run)
    if (copied := original(run)) is not None:
        marks.append(f"{COPY}{copied}")
    return (*marks, *run.problems)


def _mixed_packages(run: Run) -> list[str]:
    """Which packages had several versions; one that only some folds had beside them is no difference."""
    versions = {name: each for name, each in run.packages().items() if not name.endswith("-experiments")}  # the project
    mixed = [f"{name} {each}" for name, each in versions.items() if ", " in each and name != "expkit"]
    return [f"mixed packages ({'; '.join(mixed[:3])}{'; ...' * (len(mixed) > 3)})"] if mixed else []


def original(run: Run) -> str | None:
    """The run whose folder was copied to make this one; None: it is no copy, but perhaps a folder with a new name."""
    title = f"{run.info['experiment']}/{run.info['run']}" if run.info else run.title
    there = run.other(title) if title != run.title and title.count("/") == 1 else None
    return title if there and there.id == run.id else None


def parent_state(parent: Parent, now: Run | None) -> str:
    """What has become of a run that another one has read: "ok", "changed" (trained again), "replaced" or "gone".

    Args:
        now: the run of its name as it lies on the disk; None: there is none.
    """
    if now is None or now.info is None:
        return "gone"
    if now.info["id"] != parent.id:
        return "replaced"
    checksums = {part.number: part.checksum for part in now.parts}
    found = tuple(checksums.get(number, "") for number in parent.folds or now.done)
    is_same = found == parent.results and {*parent.test} <= {*checksums.values()}
    return "ok" if is_same else "changed"


BECOME = {"gone": "is gone", "replaced": "has been replaced", "changed": "has changed"}


def stale(run: Run) -> list[str]:
    """Which of the runs that a run was made from are not as they were read."""
    return [f"{one.run} {BECOME[state]}" for one in run.parents if (state := run.parent_now(one)[1]) != "ok"]


def parent_marks(run: Run) -> tuple[str, ...]:
    """What has become of the runs that a run was made from, and of theirs: gone, replaced, changed, or marked."""
    marks = [mark for each in (run, *run.ancestors) for mark in stale(each)]
    marks += [f"{each.title}: {mark}" for each in run.ancestors for mark in (*own_marks(each), *leaks_of(each))]
    return tuple(dict.fromkeys(marks))


def leaks_of(run: Run) -> tuple[str, ...]:
    """By which of its parents the trainings of a run may have known the targets that they are scored on.

    Of blends, those by `hill` alone: others fit no weights to the predictions of their parents.
    """
    marks: list[str] = []
    fitted = run.recipe.parents if run.recipe and run.recipe.method == "hill" else ()
    for number, result in run.results.items():
        for parent in (*fitted, *result.get("parents", [])) if result["rows"] else ():
            if parent.dataset is None:
                continue
            own, rows, is_fold_read = result["left_out"], {*parent.left_out}, number in (parent.folds or (number,))
            has_others, knows = own not in rows, bool(rows - {own})
            if not run.given.is_like(parent.dataset):  # a row more or less, or data of another kind
                shared = _folds_with_rows_of(run, number, parent)
                has_others, knows = len(shared) > 1, any(shared - {fold} for fold in parent.folds or (None,))
            if "oof" in parent.read and has_others and is_fold_read:
                marks.append(f"other folds than {parent.run}, whose out-of-fold predictions it reads")
            if OF_A_FOLD & {*parent.read} and knows:
                marks.append(f"{parent.run} was trained on rows that are scored here")
    return tuple(dict.fromkeys(marks))


def _folds_with_rows_of(run: Run, number: int, parent: Parent) -> set[int | None]:
    """The folds of a parent that leave out rows, by id and target, which a fold of `run` is scored on."""
    import numpy

    now = run.parent_now(parent)[0]
    with suppress(Error):  # who cannot read them knows nothing
        own = run.done[number].row_numbers
        return {fold for fold, there in (now.done if now else {}).items() if numpy.isin(own, there.row_numbers).any()}
    return set()


# Who reads runs now


@dataclass
class Reader:
    """A training, or a module while it is imported; and what it has read of runs.

    Attributes:
        title: of the run that is trained; "": nobody knows yet.
        own_id: of the version of this run whose folds may be read, as exp.mode=sub does; "": none.
        uses: what was read, one training and one thing each; and what the run was made of.
    """

    title: str = ""
    own_id: str = ""
    uses: dict[Parent, frozenset[str]] = field(default_factory=dict)

    def note(self, use: Parent, made_of: frozenset[str]) -> None:
        """Remember that something of a run was read.

        Raises:
            Circular: it is the run that is trained, or is made from that.
        """
        if use.run == self.title and use.id == self.own_id and use.folds != (None,):
            return
        if self.title in made_of:
            way = "its training cannot read it" if use.run == self.title else f"{use.run} was made from it"
            raise Circular(f"{self.title} cannot be made from itself: {way}")
        self.uses |= {use: made_of} if use.results else {}

    def begin(self, own_id: str, imported: Mapping[Parent, frozenset[str]]) -> None:
        """Begin the next fold of the run: it may have in memory what was read before, but for what single folds know.

        Args:
            own_id: as of the attribute.
            imported: what its modules have read while they were imported.
        """
        self.own_id = own_id
        self.uses = {use: made_of for use, made_of in self.uses.items() if not OF_A_FOLD & {*use.read}}
        for use, made_of in imported.items():
            self.note(use, made_of)


readers: ContextVar[tuple[Reader, ...]] = ContextVar("readers", default=())  # of a thread, the innermost last


@contextmanager
def reading(reader: Reader) -> Iterator[None]:
    """While somebody reads runs: what is read of them is noted."""
    token = readers.set((*readers.get(), reader))
    try:
        yield
    finally:
        readers.reset(token)
