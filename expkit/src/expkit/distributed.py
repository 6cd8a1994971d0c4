"""Several processes that train one fold together, as `torchrun` starts them: the first owns the run, the others train.

Rank 0 has the locks, the files, the console and W&B, and tells the others which fold is next.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expkit.errors import Failed, described, interruption, require
from expkit.fold import Evaluated, Fold, Pruned

if TYPE_CHECKING:
    from expkit.rundir import RunDir

FAILED = "failed"  # in the store: what the first rank has failed with
FOREVER = timedelta(days=365)
PATIENCE = 60  # seconds for the others to leave a run that its study has ended
ALIKE = "in a study, every rank calls fold.log at the same places"
_RUNS = itertools.count()  # of this process; the others train the same ones in the same order


class Ranks:
    """The processes of a training, when there are several: this one, and how many there are."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._store: Any = _store(self.rank)
        self._told = 0

    def tell(self, task: Mapping[str, Any]) -> None:
        """Tell the others what to train."""
        self._store.set(str(self._told), json.dumps(task))
        self._told += 1

    def tasks(self) -> Iterator[dict[str, Any]]:
        """The tasks that rank 0 gives to the others, one after the other."""
        while "end" not in (task := self._heard()):
            if "fold" in task:
                yield task
        self._store.set(f"left{self.rank}", "")

    def verdict(self) -> str:
        """Of the study, as rank 0 has it from the same call of `fold.log`: why the run ends, or ""."""
        task = self._heard()
        require("pruned" in task, f"rank {self.rank} calls fold.log more often than rank 0: {ALIKE}")
        return str(task["pruned"])

    def _heard(self) -> dict[str, Any]:
        task: dict[str, Any] = json.loads(self._store.get(str(self._told)))
        self._told += 1
        return task

    def end(self, is_pruned: bool) -> None:
        """Let the others go, and wait until they know: the place where they meet may end with this process.

        Args:
            is_pruned: whether the study has ended the run: a rank that was not told so waits for this one.

        Raises:
            Failed: another rank has failed meanwhile, or has not left in time.
        """
        self.tell({"end": True})
        over = time.monotonic() + PATIENCE
        while not self._store.check([f"left{rank}" for rank in range(1, self.size)]):
            if self._store.check([FAILED]):
                raise self.failure(Failed("another rank has failed"))
            if is_pruned and time.monotonic() > over:
                raise Failed(f"the study has ended this run, and a rank above 0 trains on: {ALIKE}")
            time.sleep(0.05)

    def failure(self, own: BaseException) -> BaseException:
        """What the training of a fold fails with: `own`, or what another rank has failed with before.

        Its end breaks the connection to the others, and what these fail with says nothing.
        """
        signal.signal(signal.SIGTERM, lambda *_: None)  # torchrun's, for the same failure: first, this one is told
        said = json.dumps([self.rank, described(own), "".join(traceback.format_exception(own))])
        try:
            if interruption(own) and not self._store.check([FAILED]):
                return own
            rank, reason, trace = json.loads(self._store.compare_set(FAILED, "", said))  # the first one stays
        except RuntimeError:  # the place where they meet is gone, too
            return own
        if rank == self.rank or self.rank > 0:  # rank 0 says it for all
            return own
        failure = Failed(f"rank {rank}: {reason}")
        failure.add_note(trace)
        return failure


class FollowedFold(Fold):
    """The fold of a rank above 0: it has the checkpoint that rank 0 found; what it logs and saves goes nowhere.

    Args:
        task: what rank 0 tells: "fold", "checkpoint", "found".
        folder: a temporary one.
        run_dir: of this rank.
        in_study: whether rank 0 tells at each call of `log` what the study says.
    """

    def __init__(self, task: Mapping[str, Any], folder: Path, ranks: Ranks, run_dir: RunDir, in_study: bool) -> None:
        self._identify(run_dir, task["fold"], folder)
        self.rank, self.found, self._verdict = ranks.rank, task["found"], ranks.verdict if in_study else str
        self.checkpoint.save = lambda *_, **__: False  # type: ignore[method-assign]
        self.checkpoint.file = Path(task["checkpoint"]) if task["checkpoint"] else None

    def save_oof(self, *_: Any, **__: Any) -> None: ...

    save_lockbox = save_test = finish = save_oof

    def log(self, *_: Any, **__: Any) -> None:
        if reason := self._verdict():
            raise Pruned(reason)

    def evaluate(self, predict: Callable[[Any], Any], X: Any) -> dict[str, float]:
        self._predicted_rows(predict, X)  # the other ranks wait for what this one computes
        return Evaluated()


def torchrun(count: int, command: list[str]) -> None:
    """Run a command in `count` processes. When one fails, the others end, and it alone has said why."""
    from torch.distributed.elastic import multiprocessing
    from torch.distributed.run import main

    logging.disable()
    with suppress(multiprocessing.SignalException, multiprocessing.errors.ChildFailedError):
        main([f"--nproc_per_node={count}", "--standalone", "--no-python", *command])


def _store(rank: int) -> Any:
    """The store through which the ranks talk: torchrun's own, or one on the port after MASTER_PORT."""
    from torch.distributed import PrefixStore, TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_there = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(host, port if is_there else port + 1, is_master=rank == 0 and not is_there, timeout=FOREVER)
    return PrefixStore(f"expkit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_RUNS)}", store)
