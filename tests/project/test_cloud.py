"""cloud/sky.yaml: SkyPilot's own loader takes it, and its commands train, go on after a kill, and bring results home.

SkyPilot comes from the registry, into an environment of its own. No cloud is asked: a folder stands for the bucket.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import EXP, Project, background, call, clean_environment, own_copy
from light import wait_for

TRAIN = "uv run -q python experiments/001-baseline/train.py exp=001 'exp.fold=[0,1]'"
# What a machine gets, by SkyPilot's own rsync: the folder of the machine stands for its home.
LOAD = """
import json, sys
import sky, yaml
from sky.utils.command_runner import LocalProcessCommandRunner

try:
    sky.Task.from_yaml("cloud/sky.yaml")
except ValueError as error:
    print(error, file=sys.stderr)
task = sky.Task.from_yaml_config(yaml.safe_load(open("cloud/sky.yaml")), env_overrides=[("BUCKET", "my-results")])
task.expand_and_validate_workdir()
for target, source in {"~/sky_workdir": task.workdir, **task.file_mounts}.items():
    LocalProcessCommandRunner().rsync(source, target.replace("~", sys.argv[1]), up=True, stream_logs=False)
[resources, *_] = task.resources
mounts = {path: [each.name, each.mode.value] for path, each in task.storage_mounts.items()}
found = {"mounts": mounts, "spot": resources.use_spot, "setup": task.setup, "run": task.run, "envs": task.envs}
print(json.dumps(found | {"down": resources.autostop_config.down}))
"""


def load(project: Path, machine: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What SkyPilot makes of the file; the code and the data are then in the folder of the machine."""
    machine.mkdir()
    sky = ["uv", "run", "-q", "--no-project", "--isolated", "--with", "skypilot", "python", "-c", LOAD]
    done = call(*sky, machine, cwd=project, env=environment)
    assert "Environment variable 'BUCKET' is None" in done.stderr, "nobody forgets it"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def rented(project: Project, tmp_path: Path) -> Path:
    """A project, on a person's own machine, whose training saves a checkpoint after each epoch, and takes a while."""
    folder = own_copy(project, tmp_path / "myproj").folder
    file = folder / "experiments/001-baseline/train.py"
    old, new = "        network.partial_fit(", "        __import__('time').sleep(0.1)\n        network.partial_fit("
    text = file.read_text().replace("state=network)", "state=network, every=0)").replace(old, new)
    assert "every=0" in text and new in text
    file.write_text(text)
    (folder / "input/rows.csv").write_text("1\n")
    (folder / ".env").write_text("WANDB_MODE=disabled\n")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_spot_machine_is_taken_away(rented: Path, tmp_path: Path) -> None:
    """The same command goes on, on another machine, from what the first one has saved."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    cache = call("uv", "cache", "dir", cwd=tmp_path).stdout.strip()
    environment = clean_environment() | {"UV_CACHE_DIR": cache, "WANDB_MODE": "disabled"}
    for number in (1, 2):
        machine = tmp_path / f"machine{number}"
        task = load(rented, machine, environment | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"})
        workdir = machine / "sky_workdir"
        assert (workdir / "input/rows.csv").is_file() and (workdir / ".git/HEAD").is_file()
        assert not (workdir / ".env").exists() and not (workdir / ".venv").exists()
        assert (task["mounts"], task["spot"], task["down"]) == (
            {"~/bucket": ["my-results", "MOUNT"]},
            True,
            True,
        )
        (machine / "bucket").symlink_to(bucket)
        there = environment | task["envs"] | {"HOME": str(machine), "COMMAND": TRAIN, "SAVE_EVERY": "0.5"}
        call("bash", "-c", task["setup"], cwd=workdir, env=there)
        if number == 1:
            running = background("bash", "-c", task["run"], cwd=workdir, env=there, start_new_session=True)
            checkpoint = bucket / "output/001-baseline/001-larger-lr/fold1/checkpoint/metadata.json"
            wait_for(checkpoint.exists, running, seconds=200)
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            assert len(list(checkpoint.parent.glob("state*/state"))) <= 2, "old ones do not pile up"
    done = call("bash", "-c", task["run"], cwd=workdir, env=there)
    assert "fold 1 goes on after" in done.stdout and "2/5 folds" in done.stdout, done.stdout
    assert "fold 0  epoch" not in done.stdout
    assert not list(checkpoint.parent.glob("*/state")), "it goes when the fold is done"

    shutil.rmtree(tmp_path / "machine1")
    shutil.rmtree(tmp_path / "machine2")
    call("rsync", "-rt", f"{bucket}/output/", "output/", cwd=rented)
    call("git", "fetch", "-q", bucket / "code.bundle", "refs/expkit/*:refs/expkit/*", cwd=rented)
    show = [".venv/bin/python", *EXP, "show", "001-larger-lr", "--all", "--json"]
    shown = json.loads(call(*show, cwd=rented, env=environment).stdout)
    assert shown["marks"] == ["partial"], "two of five folds, and nothing else"
    call("git", "cat-file", "-e", shown["origin"]["git"]["snapshot"], cwd=rented)
