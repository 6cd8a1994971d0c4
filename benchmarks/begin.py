"""The first minutes: rendering, installing, starting a command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import copier
from measure import ROOT, Place, Result, in_turns

ALL_FOLDS = "exp.fold=[0,1,2,3,4]"


def start_up(place: Place) -> Iterator[Result]:
    """The configuration, over a bare Hydra application."""
    ours = place.calling(*place.train, "show_config=true")
    bare = place.calling(*place.bare, "show_config=true")
    one, other = in_turns((ours, bare), place.repeat)
    yield Result("start-up", "`train.py show_config=true` over a bare Hydra application", one, other, "≤0.90")


def first_epoch(place: Place) -> Iterator[Result]:
    """A debug run, until its first epoch is trained."""

    def until_trained(*command: str | Path) -> float:
        start = time.perf_counter()
        words = list(map(str, command))
        with subprocess.Popen(words, cwd=place.folder, env=place.environment, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            if not any("epoch 1" in line for line in run.stdout):
                raise SystemExit(f"{' '.join(words)} trains nothing")
            seconds = time.perf_counter() - start
            run.stdout.read()
        return seconds

    bare = [place.python, ROOT / "benchmarks/inside/first_epoch.py", place.project / "experiments/001-baseline"]
    calls = (lambda: until_trained(*place.train, "exp.debug=true"), lambda: until_trained(*bare))
    one, other = in_turns(calls, place.repeat)
    yield Result(
        "first epoch", "`train.py exp.debug=true` until an epoch is trained, over bare Python", one, other, "≤1.2"
    )


def nothing_to_do(place: Place) -> Iterator[Result]:
    """A run whose folds are all done, again."""
    place.call(*place.train, ALL_FOLDS, "exp.train.epochs=2", cwd=place.folder)
    again = place.calling(*place.train, ALL_FOLDS, "exp.train.epochs=2")
    one, other = in_turns((again, place.calling(*place.train, "show_config=true")), place.repeat)
    yield Result("nothing to do", "a finished 5-fold run again, over `show_config=true`", one, other, "≤1.10")


def render(place: Place) -> Iterator[Result]:
    """`copier.run_copy` in this process, a file; an empty template; a peer that brings its template along."""
    empty = place.folder / "empty"
    (empty / "template").mkdir(parents=True)
    (empty / "copier.yml").write_text("_subdirectory: template\n")
    (empty / "template/README.md").write_text("empty\n")

    def rendered(source: Path) -> int:
        with tempfile.TemporaryDirectory(dir=place.folder) as folder:
            copier.run_copy(str(source), folder, defaults=True, quiet=True)
            return sum(file.is_file() for file in Path(folder).rglob("*"))

    files = rendered(place.template)
    one, other = in_turns((lambda: rendered(place.template), lambda: rendered(empty) and None), place.repeat)
    note = f"{files} files, {one / files * 1e3:.1f} ms each"
    yield Result("render", "`copier.run_copy` of all files, over an empty template", one, other, note=note)
    kedro = ["uvx", "kedro", "new", "--tools", "none", "--example", "n", "--telemetry", "no", "--name"]
    try:
        with tempfile.TemporaryDirectory(dir=place.folder) as folder:
            place.call(*kedro, "warm", cwd=Path(folder))
            start = time.perf_counter()
            place.call(*kedro, "peer", cwd=Path(folder))
            took = time.perf_counter() - start
            count = sum(file.is_file() for file in Path(folder, "peer").rglob("*"))
    except SystemExit as error:
        print(f"no peer: {error}", file=sys.stderr)
        return
    ours = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        place.call(sys.executable, "-m", "copier", "copy", "-q", "--defaults", place.template, folder, cwd=place.folder)
    ours = time.perf_counter() - ours
    yield Result("render", "the command, beside `kedro new`", ours, took, note=f"kedro renders {count} files")


def from_nothing(place: Place) -> Iterator[Result]:
    """With an empty cache: copy, sync, train, over the downloads alone."""
    folder = place.folder / "nothing"
    cache = {"UV_CACHE_DIR": str(place.folder / "cold")}
    start = time.perf_counter()
    place.call("uvx", "copier", "copy", "-q", "--defaults", place.template, folder, cwd=place.folder, **cache)
    place.call("uv", "sync", "-q", "--no-dev", cwd=folder, **cache)
    place.call("uv", "run", "-q", "--no-dev", "python", "experiments/001-baseline/train.py", cwd=folder, **cache)
    took = time.perf_counter() - start
    [site] = (folder / ".venv/lib").glob("python*/site-packages")
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 2**20
    packages = len(list(site.glob("*.dist-info")))
    wanted = place.call("uv", "export", "-q", "--no-dev", "--no-emit-project", "--no-hashes", cwd=folder)
    (folder / "wanted.txt").write_text(wanted)
    place.call("uvx", "pip", "--version", cwd=folder)
    start = time.perf_counter()
    download = ["uvx", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", "downloads", "-r", "wanted.txt"]
    place.call(*download, cwd=folder)
    downloads = time.perf_counter() - start
    shutil.rmtree(folder / "downloads")
    note = f"{packages} packages, {size:.0f} MB"
    yield Result(
        "from nothing", "copy, sync and train with an empty cache, over the downloads", took, downloads, note=note
    )
