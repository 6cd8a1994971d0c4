"""What to know about the score of a run before it is trusted: its marks."""

from __future__ import annotations

from collections.abc import Sequence

from expkit.store import THEN, Run, folder_of, read_run, read_run_info

COPY = "copy of "


def own_marks(run: Run) -> tuple[str, ...]:
    """What is missing, mixed, broken, failed or copied."""
    marks = [] if run.info or run.problems else ["no run.json"]
    if run.failed and not run.done:
        marks.append("failed")
    elif run.n_folds is not None and len(run.done) < run.n_folds:
        marks += ["pruned" if run.pruned else "partial", *(f"fold {number} failed" for number in run.failed)]
    elif run.done and run.n_folds and run.cv is None and run.n_folds > 1:
        marks.append("mean of folds")
    results = list(run.results.values())
    earlier = {what for result in results for one in result.get("earlier", []) for what in one}  # of resumed folds
    if "code" in earlier or any(_is_other(result["code"], results[0]["code"]) for result in results):
        marks.append("mixed code")
    if "data" in earlier or len({result["data"] for result in results}) > 1:
        marks.append("mixed data")
    environments = {result["environment"] for result in results}
    if len(environments) > 1 or any(THEN in one for one in environments):
        marks.append("mixed devices")
    if len({result["packages"] for result in results}) > 1:
        marks += _mixed_packages(run)
    if (original := _original(run)) is not None:
        marks.append(f"{COPY}{original}")
    return (*marks, *run.problems)


def _is_other(code: Sequence[str], first: Sequence[str]) -> bool:
    """Whether neither the bytes nor the meaning of the code are the same."""
    return all(one != other for one, other in zip(code, first, strict=False))


def _mixed_packages(run: Run) -> list[str]:
    """Which packages had several versions; one that only some folds had beside them is no difference."""
    versions = {name: each for name, each in run.packages().items() if not name.endswith("-experiments")}  # the project
    mixed = [f"{name} {each}" for name, each in versions.items() if ", " in each and name != "expkit"]
    more = f"; {len(mixed) - 3} more" if len(mixed) > 3 else ""
    return [f"mixed packages ({'; '.join(mixed[:3])}{more})"] if mixed else []


def _original(run: Run) -> str | None:
    """The run whose folder was copied to make this one; None: it is no copy, but perhaps a folder with a new name."""
    title = f"{run.info['experiment']}/{run.info['run']}" if run.info else ""
    if run.info is None or title == run.title or title.count("/") > 1:
        return None
    folder = folder_of(run.folder.parents[1], title)
    there = read_run_info(folder) if folder is not None else None
    return title if there and there["id"] == run.info["id"] else None


def parent_marks(run: Run) -> list[str]:
    """What has become of the runs that a blend is made of, and of theirs: gone, replaced, changed, or marked."""
    marks: list[str] = []
    waiting, seen = [run], {run.folder}
    while waiting:
        blend = waiting.pop()
        for parent in blend.recipe.parents if blend.recipe else ():
            folder = folder_of(blend.folder.parents[1], parent.run)
            now = read_run(folder) if folder is not None else None
            if now is None or now.info is None:
                marks.append(f"{parent.run} is gone")
            elif now.info["id"] != parent.id:
                marks.append(f"{parent.run} has been replaced")
            elif now.checksums != parent.results:
                marks.append(f"{parent.run} has changed")
            elif now.folder not in seen:
                seen.add(now.folder)
                marks += [f"{parent.run}: {mark}" for mark in own_marks(now)]
                waiting.append(now)
    return list(dict.fromkeys(marks))
