"""What has changed in the project since a fold was trained."""

from __future__ import annotations

from collections.abc import Sequence

from expkit import codehash, inputs
from expkit.errors import Error
from expkit.paths import output_dir
from expkit.record import FoldRecord, read_data


def changed_code(fold: FoldRecord, unused: codehash.Unused | None) -> list[str]:
    """The files that its process had loaded, and that are others now.

    Args:
        unused: the names in them that train nothing, as `Loaded.unused`.
    """
    code = fold.origin().get("code")
    if not isinstance(code, dict) or not all(isinstance(pair, list) and len(pair) == 2 for pair in code.values()):
        return []
    return codehash.changed_since(code, unused)


def changes_since(
    fold: FoldRecord, unused: codehash.Unused | None, named: Sequence[str] | None
) -> dict[str, list[str]]:
    """What has changed since a fold was trained: "code" and "data", each with its files; {}: nothing.

    Args:
        unused: as of `changed_code`.
        named: as of `data_since`.
    """
    data = data_since(fold.result["data"] if fold.result else None, named)
    return {what: names for what, names in (("code", changed_code(fold, unused)), ("data", data)) if names}


def data_since(trained_with: str | None, named: Sequence[str] | None) -> list[str]:
    """How the data of the experiment differ from those with this fingerprint, a line a file. Writes nothing.

    Args:
        trained_with: None: it is not known, and nothing has changed.
        named: what of `input/` the training reads now, as `Experiment.data` says.
    """
    if trained_with is None:
        return []
    before = read_data(output_dir(), trained_with)
    try:
        digest, now = inputs.take(named, keep=False, cached=filter(inputs.is_cached, before or ()))
    except Error as error:
        return [str(error)]
    if digest == trained_with:
        return []
    return inputs.changes(before, now) if before is not None else ["nobody knows which files"]
