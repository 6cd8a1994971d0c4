"""What may go from output/: `exp clean`. Nothing that counts is among it, and nothing that a process works with.

Each kind is a function that finds what is left, and changes nothing. What it finds can be removed; that looks again,
under the locks that a training takes. A folder that is removed gets another name first: an interruption leaves nothing
half there, and the next `exp clean` goes on with it. A symbolic link is neither followed nor removed.
"""

from expkit.clean.code import code, snapshots
from expkit.clean.leftover import Leftover
from expkit.clean.runs import checkpoints, debug, failed, superseded
from expkit.clean.temporary import temporary

# In the order in which they go: what is in a run before the run, and the snapshots of what is left.
KINDS = {
    "superseded": superseded,
    "failed": failed,
    "debug": debug,
    "checkpoints": checkpoints,
    "temporary": temporary,
    "code": code,
    "snapshots": snapshots,
}

__all__ = ["KINDS", "Leftover"]
