"""Peers that do the same, each in an environment of its own; README.md says what is not the same."""

from __future__ import annotations

import functools
import itertools
import json
import os
import resource
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import ROOT, Place, Result, formatted, in_turns
from torch_loop import LIGHTNING, torch_build

from expkit import files

VERSIONS = {"dvc": "3.67.1", "mlflow": "3.17.2", "trackio": "0.43.0", "kedro": "1.7.0"}
TEMPLATE, COMMIT = "https://github.com/ashleve/lightning-hydra-template", "bddbc24"
TEMPLATE_NEEDS = ("hydra-core==1.3.2", "hydra-colorlog==1.2.0", "rootutils", "rich", f"lightning=={LIGHTNING}")
QUIET = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
TRAINING = ("exp.train.epochs=30", "exp.train.batch_size=1000")  # 30 epochs of 2 steps, as inside/peer.py trains
SCRIPT = ROOT / "benchmarks/inside/peer.py"
DVC_STAGE = """stages:
  train:
    cmd: {python} {script} {experiment} bare train ${{seed}} out
    params: [seed]
    outs: [out/model.joblib, out/oof.npz, out/test.npz]
    metrics: [out/metrics.json: {{cache: false}}]
    plots: [out/epochs.jsonl: {{cache: false}}]
"""
KEDRO_PIPELINE = """import sys
from pathlib import Path
from kedro.pipeline import node, pipeline

def train(seed):
    sys.path[:0] = [{experiment!r}, {inside!r}]
    import peer
    peer.bare_train(seed, Path("out"))
    return True

def create_pipeline(**kwargs):
    return pipeline([node(train, "params:seed", "done")])
"""
BEST = "`exp board`, which shows 25"
BEST_FIRST = """select metrics.run_name, json_extract(metrics, '$.accuracy') score, config
from metrics join configs using (run_id) where score order by score desc"""


def compared(what: str, calls: dict[str, Callable[[], object]], repeat: int) -> Iterator[Result]:
    """Ours, which comes first, over each of the others; the note has the processor time."""
    spent: dict[str, list[float]] = {name: [] for name in calls}

    def cpu() -> float:
        of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return of_children.ru_utime + of_children.ru_stime

    def timed(name: str) -> None:
        before = cpu()
        calls[name]()
        spent[name].append(cpu() - before)

    walls = in_turns([functools.partial(timed, name) for name in calls], repeat)
    cpus = [statistics.median(each[1:]) for each in spent.values()]
    for name, wall, seconds in list(zip(calls, walls, cpus, strict=True))[1:]:
        note = f"CPU {formatted(cpus[0], 's')}, {formatted(seconds, 's')}: {cpus[0] / seconds:.2f}"
        yield Result("peers", f"{what}, over {name}", walls[0], wall, note=note)


def environment(place: Place, name: str, *packages: str, **variables: str) -> Path:
    """A new environment, from uv's cache where it has the packages; the folder of its programs."""
    folder = place.folder / f"{name}-environment"
    place.call("uv", "venv", "-q", "--python", place.python, folder, cwd=place.folder)
    install = ("uv", "pip", "install", "-q", "--python", folder / "bin/python")
    place.call(*install, *packages, cwd=place.folder, **variables)
    return folder / "bin"


def dvc_project(place: Place, dvc: Path, experiment: Path) -> Path:
    """One stage, which has been run."""
    project = place.folder / "dvc"
    project.mkdir()
    (project / "dvc.yaml").write_text(DVC_STAGE.format(python=place.python, script=SCRIPT, experiment=experiment))
    (project / "params.yaml").write_text("seed: 0\n")
    place.call("git", "init", "-q", cwd=project)
    for words in ("init", "config core.check_update false", "repro"):
        place.call(dvc, *words.split(), "-q", cwd=project)
    place.commit(project)
    return project


def kedro_project(place: Place, kedro: Path, experiment: Path) -> Path:
    """One node."""
    new = "new --tools none --example n --telemetry no --name one-node"
    place.call(kedro, *new.split(), cwd=place.folder)
    project = place.folder / "one-node"
    pipeline = project / "src/one_node/pipelines/training/__init__.py"
    pipeline.parent.mkdir()
    pipeline.write_text(KEDRO_PIPELINE.format(experiment=str(experiment), inside=str(SCRIPT.parent)))
    (project / "conf/base/parameters.yml").write_text("seed: 0\n")
    return project


def copy_runs(run: Path, first: int, count: int) -> None:
    """Copies of a run of ours, with other seeds."""
    info = json.loads((run / "run.json").read_text())
    for number in range(max(first, 1), count):
        folder = shutil.copytree(run, run.with_name(f"run{number}"), copy_function=os.link)
        info["config"]["exp"]["seed"] = number
        files.write_json(folder / "run.json", info)


def copy_experiments(place: Place, project: Path, first: int, count: int) -> None:
    """Copies of an experiment of DVC's under other names."""
    git = functools.partial(place.call, "git", "-c", "user.name=A", "-c", "user.email=a@example.com", cwd=project)
    [reference, *_] = git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split()
    for number in range(first, count):
        commit = git("commit-tree", f"{reference}^{{tree}}", "-p", "HEAD", "-m", f"run{number}").strip()
        git("update-ref", f"{os.path.dirname(reference)}/run{number}", commit)


def peers(place: Place) -> Iterator[Result]:
    """DVC, MLflow, trackio, Kedro: a training, once more, lists of runs; lightning-hydra-template: a configuration."""
    root, experiment, seeds = place.folder / "root", place.project / "experiments/001-baseline", itertools.count(1)
    place.environment |= QUIET | {"MLFLOW_TRACKING_URI": f"sqlite:///{place.folder}/mlflow.db"}
    place.environment |= {"TRACKIO_DIR": str(place.folder / "trackio")}
    versions = "import sklearn, numpy; print(f'scikit-learn=={sklearn.__version__} numpy=={numpy.__version__}')"
    same = place.call(place.python, "-c", versions, cwd=place.folder).split()
    programs = {name: environment(place, name, f"{name}=={version}", *same) for name, version in VERSIONS.items()}
    dvc, trackio, kedro = (programs[name] / name for name in ("dvc", "trackio", "kedro"))
    in_dvc, in_kedro = dvc_project(place, dvc, experiment), kedro_project(place, kedro, experiment)

    def script(peer: str, *words: str | int) -> str:
        python = place.python if peer == "bare" else programs[peer] / "python"
        return place.call(python, SCRIPT, experiment, peer, *map(str, words), cwd=place.folder)

    def call(*command: str | Path, cwd: Path = place.folder, **variables: str) -> Callable[[], object]:
        """A command; N in it is a new seed each time."""
        return lambda: place.call(
            *(str(word).replace("=N", f"={next(seeds)}") for word in command), cwd=cwd, **variables
        )

    training = {
        "ours": call(*place.train, *TRAINING, "exp.seed=N"),
        "a bare script": lambda: script("bare", "train", next(seeds), "out-bare"),
        "`dvc exp run`": call(dvc, "exp", "run", "-q", "-S", "seed=N", cwd=in_dvc),
        "MLflow": lambda: script("mlflow", "train", next(seeds), "out-mlflow"),
        "trackio": lambda: script("trackio", "train", next(seeds), "out-trackio"),
        "`kedro run`": call(kedro, "run", "--params", "seed=N", cwd=in_kedro),
    }
    yield from compared("a new training", training, place.repeat)
    again = {"ours": call(*place.train, *TRAINING), "`dvc repro`": call(dvc, "repro", cwd=in_dvc)}
    yield from compared("once more, nothing to do", again, place.repeat)

    exp = place.python.with_name("exp")
    lists = {
        "ours": call(exp, "board", "--all", cwd=place.project, PROJECT_ROOT=str(root)),
        BEST: call(exp, "board", cwd=place.project, PROJECT_ROOT=str(root)),
        "`dvc exp show`": call(dvc, "exp", "show", "--no-pager", cwd=in_dvc),
        "MLflow's `search_runs`": lambda: script("mlflow", "list"),
        "`trackio query`": call(trackio, "query", "project", "--project", "peer", "--sql", BEST_FIRST),
        "`trackio list runs`, names alone": call(trackio, "list", "runs", "--project", "peer"),
    }
    (root / "input").mkdir(parents=True)
    place.call(*place.train, *TRAINING, cwd=place.folder, PROJECT_ROOT=str(root))
    [run] = (file.parent for file in root.glob("output/001-baseline/*/run.json"))
    for first, count in ((0, 100), (100, 1_000)):
        copy_runs(run, first, count)
        copy_experiments(place, in_dvc, first, count)
        script("mlflow", "fill", first, count)
        script("trackio", "fill", first, count)
        for name, listed in lists.items():
            if str(listed()).count("\n") < count and name != BEST:
                raise SystemExit(f"{name} does not list {count} runs")
        yield from compared(f"a list of {count:,} runs", lists, place.repeat if count == 100 else 3)

    clone = place.folder / "lightning-hydra-template"
    try:
        place.call("git", "clone", "-q", TEMPLATE, clone, cwd=place.folder)
    except SystemExit as error:
        print(f"no peer: {error}", file=sys.stderr)
        return
    place.call("git", "checkout", "-q", COMMIT, cwd=clone)
    torch, variables = torch_build()
    python = environment(place, "template", *TEMPLATE_NEEDS, *torch, **variables) / "python"
    ours = call(*place.train, "show_config=true")
    others = {"ours": ours, "lightning-hydra-template": call(python, "src/train.py", "--cfg", "job", cwd=clone)}
    yield from compared("a configuration, shown", others, place.repeat)
