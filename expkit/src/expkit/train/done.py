"""The folds that a command finds done: they are not trained again, but may be scored again."""

from __future__ import annotations

import errno
from pathlib import Path

from expkit import files, record
from expkit.config.load import Loaded
from expkit.errors import Error, warn
from expkit.paths import shown
from expkit.record import FoldRecord
from expkit.train import scores
from expkit.train.changes import changes_since
from expkit.train.place import Place
from expkit.train.say import describe


class Done:
    """The folds of a run that are done.

    Args:
        loaded: the experiment.
        place: where they lie.
    """

    def __init__(self, loaded: Loaded, place: Place) -> None:
        self._loaded, self._place = loaded, place
        self._said: set[str] = set()

    def say(self, number: int | None) -> bool:
        """Whether a fold is done; if so, says it, and, once each, that the code or the data has changed since."""
        fold = self._place.fold(number)
        if fold is None or self._place.debug:
            return False
        if fold.unscored is not None:
            fold = self._score_again(fold)
        if fold.result is None:
            if fold.problem:
                _require_readable(fold.folder / record.RESULT)
                warn(f"{shown(fold.folder)}: {fold.problem}; it counts as missing")
            return False
        print(f"{fold.title} is done: {describe(fold, self.score(fold))}", flush=True)
        for what, changed in changes_since(fold, self._loaded.unused, self._place.inputs).items():
            if what not in self._said:
                self._said.add(what)
                warn(
                    f"the {what} has changed since {fold.title} ({', '.join(changed[:3])}); folds of this "
                    "run that are trained from now on are marked; exp.fold=null overwrite=true trains all of them again"
                )
        return True

    def score(self, fold: FoldRecord) -> tuple[str, float | None]:
        """The name of the metric that decides, and its score of a fold; None while that is to be computed again."""
        metric = next(iter(self._loaded.experiment.metrics))
        run = record.read_run(self._place.version)
        if run.cv is None:
            return metric, (fold.result or {}).get("scores", {}).get(metric)
        if fold.number is None or run.cv["made_by"] != self._loaded.experiment.made_by:
            return metric, None
        return metric, run.cv["scores"][metric]["folds"].get(str(fold.number))

    def _score_again(self, fold: FoldRecord) -> FoldRecord:
        """A fold whose metric has failed is trained already: its predictions are scored now."""
        assert fold.unscored is not None
        found = scores.scores(self._loaded.experiment, fold.predictions())
        record.score_result(fold, found)
        return record.read_fold(self._place.version, fold.number, self._place.id)


def _require_readable(result: Path) -> None:
    """Raise an `Error` when a result is there and the disk or its mode keeps it from us: the fold may well be done."""
    try:
        files.read_bytes(result)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE):
            raise Error(f"{shown(result)} cannot be read: {error.strerror}: its fold may be done; mend that") from error
