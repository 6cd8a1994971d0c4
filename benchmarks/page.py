"""How soon notebooks/page.py shows the board of many runs, beside an empty marimo page, in headless Chromium.

    uv run python benchmarks/page.py [--runs 1000]

Renders a project, trains one run and copies it with other parameters. Prints a Markdown table of seconds: from the
command until the board is there, which imports everything; from the navigation, with a server that has shown a page
before (the median of 5); the page as one file, written and opened. The browser has an empty cache each time.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import copier
from measure import ROOT
from playwright.sync_api import Browser, sync_playwright

from expkit import files, store

PORT = 27180
EMPTY = """
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    mo.Html("<table><tbody><tr><td>nothing</td></tr></tbody></table>")
    return
"""
ROW = "table tbody tr"


def make_runs(project: Path, count: int, environment: dict[str, str]) -> None:
    train = ["python", "experiments/001-baseline/train.py", "exp.fold=[0,1,2,3,4]"]
    subprocess.run(train, cwd=project, env=environment, check=True, capture_output=True)
    run, draw = project / "output/001-baseline/baseline", random.Random(0)
    for number in range(1, count):
        folder = run.with_name(f"run{number:05d}")
        shutil.copytree(run, folder, copy_function=os.link)
        info = store.read_run_info(folder)
        assert info is not None
        info["config"]["exp"]["train"] |= {"learning_rate": draw.random() / 100, "batch_size": draw.choice([16, 32])}
        (folder / "run.json").unlink()  # it is the file of both
        files.write_json(folder / store.RUN, info)


def opened(browser: Browser, address: str, selector: str = ROW) -> float:
    """Seconds from the navigation until something is to be seen."""
    with browser.new_context() as context:
        page = context.new_page()
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector(selector)
        return time.perf_counter() - start


def served(browser: Browser, notebook: str, project: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds from the command, and from a later navigation."""
    address = f"http://127.0.0.1:{PORT}"
    command = ["marimo", "run", "--headless", "--no-token", "--host", "127.0.0.1", "--port", str(PORT), notebook]
    start = time.perf_counter()
    server = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                opened(browser, address)
                break
            except Exception as error:  # nobody listens yet
                if "ERR_CONNECTION_REFUSED" not in str(error) or server.poll() is not None:
                    raise
                time.sleep(0.05)
        first = time.perf_counter() - start
        return first, statistics.median(opened(browser, address) for _ in range(5))
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    count = parser.parse_args().runs
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PROJECT_ROOT")}
    print(f"{count:,} runs, Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        project = Path(scratch, "project")
        copier.run_copy(str(ROOT), project, defaults=True, quiet=True, vcs_ref="HEAD")
        subprocess.run(["uv", "sync", "-q", "--group", "page"], cwd=project, env=environment, check=True)
        environment |= {"WANDB_MODE": "disabled", "PATH": f"{project}/.venv/bin:{environment['PATH']}"}
        make_runs(project, count, environment)
        (project / "notebooks/empty.py").write_text(EMPTY)
        with playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]) as browser:
            served(browser, "notebooks/empty.py", project, environment)  # compiles marimo
            empty = served(browser, "notebooks/empty.py", project, environment)
            served(browser, "notebooks/page.py", project, environment)
            page = served(browser, "notebooks/page.py", project, environment)
            print("| what | seconds | empty page | ratio |\n| --- | --- | --- | --- |")
            for what, took, floor in zip(("from the command", "from the navigation"), page, empty, strict=True):
                print(f"| {what} to the board | {took:.2f} | {floor:.2f} | {took / floor:.2f} |")
            start = time.perf_counter()
            write = ["python", "notebooks/page.py", "output/page.html"]
            subprocess.run(write, cwd=project, env=environment, check=True)
            print(f"\none file: written in {time.perf_counter() - start:.2f} s, ", end="")
            file = project / "output/page.html"
            took = statistics.median(opened(browser, file.as_uri(), ".chart >> nth=-1 >> svg") for _ in range(5))
            print(f"{file.stat().st_size / 1e6:.1f} MB, its charts are there in {took:.2f} s")


if __name__ == "__main__":
    main()
