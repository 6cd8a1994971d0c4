"""A project on two machines: half of the folds here, half there, and one run at home."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import EXP, Project, background, call, clone_of
from helpers import counting, results
from light import LIGHT, wait_for

from expkit import store

pytestmark = pytest.mark.slow
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""
CLIENT = """
Host gpu
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/key
  StrictHostKeyChecking no
  UserKnownHostsFile {folder}/known
"""


@pytest.fixture
def gpu(tmp_path: Path) -> Iterator[str]:
    """A PATH on which `ssh gpu` leads to this machine, through a real server of this test alone."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("there is no SSH server: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where the system has never started one
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key in ("host", "key"):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key, cwd=folder)
    (folder / "sshd_config").write_text(CONFIG.format(folder=folder, port=port))
    (folder / "config").write_text(CLIENT.format(folder=folder, port=port, user=getpass.getuser()))
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    (folder / "ssh").chmod(0o755)
    server = background(SSHD, "-D", "-e", "-f", folder / "sshd_config", stderr=subprocess.PIPE, text=True)
    wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, server)
    yield f"{folder}{os.pathsep}{os.environ['PATH']}"


class Machine:
    """A clone of a project, with results of its own."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project, self.folder = project, clone_of(project.folder, folder)

    def run(self, *command: str | Path, check: bool = True, **variables: str) -> str:
        """What a command prints there."""
        here = {"EXPKIT_ROOT": str(self.folder), "PYTHONPATH": str(self.folder / "src"), "WANDB_MODE": "disabled"}
        environment = self.project.environment(**{**here, **variables})
        done = call(self.project.python, *command, cwd=self.folder, env=environment, check=check)
        return done.stdout + done.stderr

    def train(self, *arguments: str, **variables: str) -> str:
        return self.run(f"experiments/{LIGHT}/train.py", *arguments, **variables)


@pytest.fixture
def machines(shared_sweeping: Project, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(shared_sweeping, tmp_path / "home"), Machine(shared_sweeping, tmp_path / "far")


def test_half_of_the_folds_on_another_machine(machines: tuple[Machine, Machine]) -> None:
    """Another folder stands for it; its code was never committed. The run is complete, and can be made again."""
    home, far = machines
    (far.folder / "an idea.txt").write_text("there alone")
    home.train("exp.fold=[0,1]")
    far.train("exp.fold=[2,3,4]")
    home.run(*EXP, "fetch", "../far")
    run = store.read_run(counting(home.folder))
    assert run.is_complete and run.marks == () and run.cv is not None
    snapshots = {number: result["git"]["snapshot"] for number, result in results(home.folder).items()}
    assert not {snapshots[0], snapshots[1]} & {snapshots[2], snapshots[3], snapshots[4]}
    assert home.run(*EXP, "reproduce", "light").splitlines()[-1] == "identical"


@pytest.mark.parametrize("way", ["rsync", "tar"])
def test_over_a_real_ssh_server(machines: tuple[Machine, Machine], gpu: str, tmp_path: Path, way: str) -> None:
    """With spaces in the path, and the snapshots; while a fold is trained there."""
    home, far = machines
    folder = far.folder
    if way == "tar":  # as where rsync is missing, a path that not every rsync takes
        folder = tmp_path / "the far one"
        folder.symlink_to(far.folder)
    elif shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    home.train("exp.fold=[0,1]")
    (far.folder / "an idea.txt").write_text("there alone")
    far.train("exp.fold=[2,3]")
    (far.folder / "control").mkdir(exist_ok=True)
    (far.folder / "control/gate4").touch()
    variables = {"EXPKIT_ROOT": str(far.folder), "PYTHONPATH": str(far.folder / "src"), "WANDB_MODE": "disabled"}
    environment = far.project.environment(**variables)
    train = f"experiments/{LIGHT}/train.py"
    training = background(far.project.python, train, "exp.fold=[4]", cwd=far.folder, env=environment)
    wait_for((far.folder / "control/came4").exists, training)
    home.run(*EXP, "fetch", f"gpu:{folder}", PATH=gpu)
    assert sorted(results(home.folder)) == [0, 1, 2, 3]
    (far.folder / "control/gate4").unlink()
    assert training.wait(60) == 0
    home.run(*EXP, "fetch", f"gpu:{folder}", PATH=gpu)
    run = store.read_run(counting(home.folder))
    assert run.is_complete and run.marks == ()
    assert "0 runs" in home.run(*EXP, "fetch", f"gpu:{folder}", PATH=gpu)
    assert home.run(*EXP, "reproduce", "light").splitlines()[-1] == "identical"
