"""A Slurm cluster of one node on this machine: real daemons, on ports and in folders of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from light import wait_for

# cred_expire: seconds that a job waits when it goes back into the queue (and one more)
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MaxArraySize=4
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE
PartitionName=other Nodes={host} MaxTime=INFINITE
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None: it can."""
    if not all(shutil.which(name, path=search_path()) for name in ("munged", "slurmctld", "slurmd", "sbatch")):
        return "Slurm is not installed: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "only root can start a Slurm cluster"


def search_path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Start the daemons; afterwards, stop these daemons, no others.

    Yields:
        The environment variables with which sbatch and its like find this cluster.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not below pytest's, which munge must not look into
    folder.chmod(0o755)
    host = socket.gethostname().partition(".")[0]
    ports = free_ports(2)
    text = CONFIGURATION.format(host=host, folder=folder, controller_port=ports[0], node_port=ports[1])
    (folder / "slurm.conf").write_text(text)
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    environment = os.environ | variables | {"PATH": search_path()}
    (folder / "munge").mkdir()
    (folder / "munge/key").write_bytes(os.urandom(128))
    (folder / "munge/key").chmod(0o400)
    for path in (folder / "munge", folder / "munge/key"):
        shutil.chown(path, "munge", "munge")
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = ["munged", "--foreground", *(f"--{option}={folder}/munge/{name}" for option, name in files.items())]

    with ExitStack() as stack:

        def start(*command: str, **user: Any) -> None:
            log = stack.enter_context(open(folder / f"{command[0]}.out", "wb"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True, **user)
            stack.callback(process.wait)
            stack.callback(process.kill)

        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        start(*munged, user="munge", group="munge", extra_groups=[])
        wait_for((folder / "munge/socket").exists)
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", host)
        wait_for(lambda: "idle" in output(["sinfo", "-h", "-o", "%T"], environment))
        yield variables | {"PATH": search_path()}


def clear(variables: dict[str, str]) -> None:
    """Cancel what is in the queue, and wait until the node has cleaned up and takes jobs."""
    environment = os.environ | variables
    host = output(["sinfo", "-h", "-o", "%n"], environment)
    deadline = time.monotonic() + 60
    while output(["squeue", "-h"], environment) or "idle" not in output(["sinfo", "-h", "-o", "%T"], environment):
        assert time.monotonic() < deadline, f"the cluster does not come to rest\n{state(variables)}"
        output(["scancel", "--user=root"], environment)
        output(["scancel", "--user=root", "--full", "--signal=KILL"], environment)
        output(["scontrol", "update", f"nodename={host}", "state=resume"], environment)  # of a drained node
        time.sleep(0.2)


def state(variables: dict[str, str]) -> str:
    """What the cluster does."""
    commands = (["sinfo", "--long"], ["squeue", "--long"])
    log = Path(variables["SLURM_CONF"]).with_name("slurmctld.out").read_text(errors="replace")
    return "\n".join([*(output(command, os.environ | variables) for command in commands), log[-3000:]])


def output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
