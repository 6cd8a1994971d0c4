"""How many processes have been started to train together, and which of them this is: torchrun, srun."""

from __future__ import annotations

import os
import subprocess

_SIZES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # what tells a process how many it is one of: torchrun's, srun's


def size() -> int:
    """How many processes train together; 1: this one alone."""
    return max(int(os.environ.get(name) or 1) for name in _SIZES)


def leads() -> bool:
    """Whether this process owns the run, prints and writes; the others only train."""
    return size() == 1 or (os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0") == "0"


def as_torchrun_does() -> None:
    """Give the tasks of srun the variables with which the processes of PyTorch find each other."""
    if size() == 1 or "WORLD_SIZE" in os.environ:
        return
    host = "127.0.0.1"
    if os.environ.get("SLURM_STEP_NUM_NODES", "1") != "1":
        nodes = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
        host = subprocess.run(nodes, capture_output=True, text=True, check=True).stdout.split()[0]
    step = int(os.environ.get("SLURM_JOB_ID", "0")) * 16 + int(os.environ.get("SLURM_STEP_ID", "0"))
    os.environ |= {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(20_000 + step * 2 % 10_000),  # and the next one: see _store
        "WORLD_SIZE": str(size()),
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
    }
