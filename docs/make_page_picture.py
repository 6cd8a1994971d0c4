"""Make docs/page.png and its last part, docs/lineage.png: what notebooks/page.py shows of real runs, in Chromium.

    uv run python docs/make_page_picture.py [--dark]

Renders a project, trains 32 runs of the baseline in it (some minutes), blends the best, and takes the pictures of the
page that `marimo run` serves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE

import copier
from PIL import Image
from playwright.sync_api import Error, sync_playwright

DOCS = Path(__file__).parent
ADDRESS = "http://127.0.0.1:27181"
SWEEP = [
    "exp=001,002",
    "exp.train.learning_rate=0.001,0.003,0.01,0.03",
    "exp.train.batch_size=16,32,64,128",
    "exp.train.epochs=20",
    "exp.fold=[0,1,2,3,4]",
]


def main() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"} | {"WANDB_MODE": "disabled"}
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch, "myproj")
        copier.run_copy(str(DOCS.parent), project, defaults=True, quiet=True, vcs_ref="HEAD")
        subprocess.run(["uv", "sync", "-q", "--group", "page"], cwd=project, env=environment, check=True)
        train = [".venv/bin/python", "experiments/001-baseline/train.py", "-m", *SWEEP]
        subprocess.run(train, cwd=project, env=environment, check=True)
        serve = [".venv/bin/marimo", "run", "--headless", "--no-token", "-p", ADDRESS.rpartition(":")[2]]
        server = subprocess.Popen([*serve, "notebooks/page.py"], cwd=project, env=environment)
        try:
            take_picture("page.png", "Runs")
            exp = ".venv/bin/exp"
            listed = subprocess.run(
                [exp, "board", "--json"], cwd=project, env=environment, check=True, stdout=PIPE
            ).stdout
            first, second, third = (f"{run['experiment']}/{run['run']}" for run in json.loads(listed)[:3])
            for names in (
                [first, second, "--name", "two"],
                ["blends/two", third, "--method", "hill", "--name", "three"],
            ):
                subprocess.run([exp, "blend", *names], cwd=project, env=environment, check=True)
            take_picture("lineage.png", "What they were made from")
        finally:
            server.terminate()
            server.wait()


def take_picture(name: str, heading: str) -> None:
    """Of the page from a heading on."""
    scheme = "dark" if "--dark" in sys.argv else "light"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 3600}, color_scheme=scheme)
        while True:
            try:
                page.goto(ADDRESS)
                break
            except Error:  # nobody listens yet
                time.sleep(0.2)
        end = page.get_by_text("This page as one file")
        end.wait_for(timeout=120_000)
        time.sleep(3)  # the charts are drawn after it
        bottom, top = end.bounding_box(), page.get_by_role("heading", name=heading, exact=True).bounding_box()
        assert bottom is not None and top is not None
        clip = {"x": 50, "y": top["y"] - 20, "width": 1120, "height": bottom["y"] - top["y"]}
        page.screenshot(path=DOCS / name, clip=clip)
        browser.close()
    Image.open(DOCS / name).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(DOCS / name, optimize=True)


if __name__ == "__main__":
    main()
