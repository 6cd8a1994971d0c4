"""The command `exp clean`: what may go from output/."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from expkit.cli.shared import as_json_text
from expkit.errors import Error, warn
from expkit.inspect.board import MOST_ROWS
from expkit.inspect.words import new_console, text
from expkit.paths import output_dir, shown

console = new_console()


class Kind(Enum):
    """What may go, in the order in which it goes."""

    superseded = "superseded"
    failed = "failed"
    debug = "debug"
    snapshots = "snapshots"


def clean(
    kinds: Annotated[
        list[Kind] | None,
        typer.Argument(metavar="KIND", hidden=True),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this option, nothing is changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: each thing, by kind.")] = False,
) -> None:
    """List what can go from output/, and remove it with --yes.

    KIND is one of those below; by default, all of them but snapshots. A finished fold of a run that counts is never
    removed, nor is anything that a process is working with.

    Kinds, in the order in which they go:
      superseded   versions of a run that overwrite=true has replaced
      failed       runs in which nothing is done: no fold and no checkpoint
      debug        runs of exp.debug=true
      snapshots    git refs to code that nothing in output/ refers to. Other
                   folders of PROJECT_ROOT are not looked at. The space is free
                   after the next `git gc`.

    Examples:
      exp clean                       # list it, with the size of each kind
      exp clean --yes                 # remove it
      exp clean debug failed --yes    # remove these kinds alone
    """
    from expkit.clean import KINDS

    output = Path(os.path.realpath(output_dir()))  # unlike resolve(), it takes a link in a circle
    chosen = [kind.value for kind in Kind if (kind in kinds if kinds else kind is not Kind.snapshots)]
    found: dict[str, list[dict[str, Any]]] = {}
    is_whole = True
    for kind in chosen:
        leftovers = list(KINDS[kind](output))
        found[kind] = [
            {"what": each.what, "why": each.why, "bytes": each.bytes, "removed": False} for each in leftovers
        ]
        for leftover, about in zip(leftovers if yes else [], found[kind], strict=False):
            try:
                about["removed"] = leftover.remove()
            except (OSError, Error) as error:
                warn(f"cannot remove {leftover.what}: {getattr(error, 'strerror', None) or error}")
                is_whole = False
    sums = {kind: _sum([each for each in listed if each["removed"] or not yes]) for kind, listed in found.items()}
    if as_json:
        kinds_found = {kind: {**sums[kind], "items": listed} for kind, listed in found.items()}
        print(as_json_text({"removes": yes, "kinds": kinds_found}))
    else:
        _show(found, sums, yes)
        if not yes and any(found.values()):
            named = " ".join(kind.value for kind in kinds or [])
            console.print(f"nothing is removed yet: exp clean {named}{' ' if named else ''}--yes", markup=False)
    raise typer.Exit(0 if is_whole else 1)


def _sum(listed: list[dict[str, Any]]) -> dict[str, int]:
    return {"count": len(listed), "bytes": sum(each["bytes"] or 0 for each in listed)}


def _show(found: dict[str, list[dict[str, Any]]], sums: dict[str, dict[str, int]], yes: bool) -> None:
    """What there is of each kind, or what has become of it, and how much each kind frees."""
    table = Table("kind", "what", "size", "", box=None, pad_edge=False)
    rows = [(kind, each) for kind, listed in found.items() for each in listed]
    for kind, each in rows[:MOST_ROWS]:
        what = each["what"] if kind == Kind.snapshots.value else shown(Path(each["what"]))
        state = each["why"] if not yes else "removed" if each["removed"] else "kept"
        table.add_row(kind, text(what), _size(each["bytes"]), state)
    if rows:
        console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"{len(rows) - MOST_ROWS} more: --json has all", markup=False)
    for kind in found if rows else ():
        frees = "git frees their space later" if kind == Kind.snapshots.value else _size(sums[kind]["bytes"])
        console.print(f"{kind}: {sums[kind]['count']}, {frees}" if found[kind] else f"{kind}: none", markup=False)
    if not rows:
        console.print(f"there is nothing to clean: {', '.join(found)}", markup=False)


def _size(size: int | None) -> str:
    if size is None:
        return ""
    power = min((len(str(size)) - 1) // 3, 4)
    return f"{size} B" if not power else f"{size / 1000**power:.1f} {'kMGT'[power - 1]}B"
