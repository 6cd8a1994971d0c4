"""A sweep: many jobs, and what the command does when they are through."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from expkit import files, record
from expkit.config import compat
from expkit.config.compose import registered
from expkit.config.load import Loaded
from expkit.config.messages import as_error
from expkit.errors import AGAIN, CAUGHT, Error, Failed, interruption, require, warn
from expkit.launch import devices
from expkit.launch.job import NOTE, Job, JobFailed
from expkit.notes import read_notes
from expkit.paths import code_root, output_dir, shown
from expkit.rundir import Versions
from expkit.snapshot import copy_code, expose, hide
from expkit.study.name import NoScore, register_study
from expkit.train import scores


class Launching(Callback):
    """Part of every sweep: notes where it lies, and keeps the launching process small."""

    folder: Path | None = None  # of the sweep that this process launches; Hydra makes the callback, nobody else sees it

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Launching.folder = Path(config.hydra.sweep.dir)
        Launching.folder.mkdir(parents=True, exist_ok=True)  # a study writes there, jobs or none

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None  # the whole configuration, twice a job, and nobody reads it


def sweep(loaded: Loaded, job: Job, parser: argparse.ArgumentParser, args: argparse.Namespace) -> BaseException | None:
    """Launch the jobs of a command with a copy of the code; what it fails with."""
    require("${" not in str(output_dir()), f"Hydra cannot sweep in a folder that has ${{ in its path: {output_dir()}")
    copy = copy_code(loaded.name)
    job.code, job.git = copy.folder, copy.git
    failure: BaseException | None = None
    devices.register()
    Plugins.instance()  # imports what hydra_plugins/ has: before `expose`, from the project, as a single run does
    expose(copy.folder)
    try:
        with registered(loaded, callback=f"{Launching.__module__}.{Launching.__name__}"):
            register_study(loaded.name, bool(loaded.experiment.greater_is_better))
            compat.run(copy.folder / "experiments" / loaded.name, parser, args, job)
    except CAUGHT as error:
        failure = _readable(error, copy.folder, code_root())
    finally:
        hide(copy.folder)
        all_ended = failure is None or isinstance(failure, JobFailed | NoScore)
        jobs_may_wait = "submitit" in sys.modules and not all_ended
        copy.leave(jobs_may_wait)
    return end_of_sweep(loaded, failure)


def _readable(error: BaseException, copy: Path, project: Path) -> BaseException:
    """An error of composing or launching as one line, with the project's paths in place of the copy's."""
    if interruption(error):
        return error
    found = as_error(error)
    if type(found).__name__ == "TerminatedWorkerError":  # joblib
        return Failed(f"a process of the sweep has died, killed or out of memory: {AGAIN}")
    if type(found).__module__.startswith("submitit"):
        line = str(found).splitlines()[0].rstrip(" .:")
        return Error(line if line.startswith("sbatch") else f"{line}: {AGAIN}")
    if type(found) is Error:
        message = str(found).replace(shown(copy), str(project)).replace(str(copy), str(project))
        return Error(message).with_traceback(found.__traceback__)
    return found


def end_of_sweep(loaded: Loaded, failure: BaseException | None) -> BaseException | None:
    """Let the runs that replace others count, and print the board rows of all runs, best first.

    Args:
        failure: what Hydra raised.

    Returns:
        What the command fails with: None when all went well, or the sweeper takes it that jobs fail.
    """
    folder, Launching.folder = Launching.folder, None
    if folder is None:  # not composed yet
        return failure
    notes = [note for file in sorted(folder.glob(f"*/{NOTE}"), key=_number) if (note := files.read_if_whole(file))]
    failed = [str(note["failed"]) for note in notes if "failed" in note]
    broken = {note["run"] for note in notes if "run" in note and ("failed" in note or not note.get("whole", True))}
    runs = []
    for run in dict.fromkeys(note["run"] for note in notes if "run" in note):
        replaces = any(note.get("replaces") for note in notes if note.get("run") == run)
        is_whole = run not in broken and (failure is None or isinstance(failure, JobFailed | NoScore))
        if replaces and is_whole:
            failure = _put_in_place(loaded, Path(run)) or failure
        runs.append(Path(run))
    _print_board([record.read_run(run) for run in runs if run.is_dir()])
    if failed and failure is None:
        warn(f"failed: {', '.join(failed)}")
    elif failed and isinstance(failure, JobFailed | NoScore):
        return Failed(f"failed: {', '.join(failed)}")
    return failure


def _put_in_place(loaded: Loaded, folder: Path) -> Error | None:
    run = record.read_run(folder)
    versions = Versions(folder.parent, run.name)
    try:
        versions.put_in_place(folder, lambda version: scores.update(loaded.experiment, versions, version))
    except Error as error:
        return error
    return None


def _number(file: Path) -> tuple[int, Path]:
    return len(file.parent.name), file


def _print_board(found: list[record.RunRecord]) -> None:
    from expkit.board import MOST_ROWS, board_table, ordered, row_of
    from expkit.compare import with_other_rows
    from expkit.errors import new_console

    noted = read_notes()
    rows = ordered(with_other_rows([row_of(run, noted) for run in found]))
    if not rows:
        return
    console = new_console()
    console.print(board_table(rows[:MOST_ROWS], console.width))
    if len(rows) > MOST_ROWS:
        console.print(f"{len(rows) - MOST_ROWS} more: uv run exp board --all", markup=False)
