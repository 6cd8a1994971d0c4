"""What a fold is made by: a command, with its packages, on a machine."""

from __future__ import annotations

import functools
import os
import platform
import secrets
import socket
import sys
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from expkit import snapshot as snapshots
from expkit.train.pruning import Trial


@dataclass(frozen=True)
class Command:
    """What a run is trained for: a command line, a job of a sweep, a call from Python.

    Attributes:
        line: as it was typed; [] from Python.
        id: the same in every job of a sweep.
        is_copy: whether the code is a sweep's copy of the project, which nobody edits.
        git: the snapshot of that copy.
        installs: whether a run that replaces another counts as soon as it is whole; a sweep waits for all its jobs.
        trial: of the study that the run is trained for, if any.
    """

    line: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    is_copy: bool = False
    git: snapshots.Snapshot | None = None
    installs: bool = True
    trial: Trial | None = None


def origin(command: list[str], overrides: list[str]) -> dict[str, Any]:
    """Who made a fold, and with what, as JSON has it."""
    return {
        "command": command,
        "overrides": overrides,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": _packages(),
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """What may change the last digits of a result: the device, its threads, the number of processes that train.

    Asked after the training, and of PyTorch only where it has been imported: other libraries say nothing.
    """
    found: dict[str, Any] = {"device": "cpu", "threads": None, "world_size": int(os.environ.get("WORLD_SIZE") or 1)}
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def environment_text(found: dict[str, Any]) -> str:
    """An environment on one line: equal ones are equal texts."""
    return ", ".join(f"{key} {value}" for key, value in found.items() if value is not None)


@functools.cache
def _packages() -> dict[str, str]:
    """The versions of the installed packages; read once a process, as a sweep may make many runs in it."""
    packages = ((package.name, package.version) for package in metadata.distributions() if package.name)
    return dict(sorted(packages))
