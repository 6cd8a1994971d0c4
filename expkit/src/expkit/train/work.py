"""What the folds of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from expkit import snapshot
from expkit.config.load import Loaded
from expkit.errors import warn
from expkit.paths import code_root
from expkit.train.origin import Command
from expkit.train.place import Place
from expkit.train.predictions import ValidIds
from expkit.train.pruning import Reports


@dataclass
class Work:
    """What the folds of a run have in common."""

    loaded: Loaded
    place: Place
    command: Command
    overrides: list[str]
    debug: bool
    reports: Reports
    world_size: int = 1
    has_git: bool = True
    valid_ids: ValidIds = field(default_factory=ValidIds)
    said: set[str] = field(default_factory=set)

    def warn_once(self, what: str, message: str) -> None:
        """Warn, unless a fold of this run has already done so about `what`."""
        if what not in self.said:
            self.said.add(what)
            warn(message)

    def snapshot(self) -> snapshot.Snapshot | None:
        """The code as it is now; a sweep's copy has its own. None for debug runs, and without git."""
        if self.debug or self.command.is_copy or not self.has_git:
            return None if self.debug else self.command.git
        found = snapshot.take(code_root())
        self.has_git = found is not None  # said once
        return found
