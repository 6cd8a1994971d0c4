"""W&B never stops a training, whatever its variables say and its service does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Completed, Project, call

KEY = "0123456789" * 4
NONSENSE = [
    "WANDB_BASE_URL=garbage",
    "WANDB_BASE_URL=http://[::1",
    "WANDB_BASE_URL=http://127.0.0.1:9",
    "WANDB_MODE=garbage",
    "WANDB_DIR=/proc/nothing",
    "WANDB_PROJECT=a/b",
    "WANDB_API_KEY=short",
    "WANDB__SERVICE_WAIT=long",
]
# One fold's W&B run, from its start to its end, without a training.
SCRIPT = """
from expkit.tracking import Tracking
tracker = Tracking("002-light", "light", {"seed": 1}, debug=False).start(0, "0a1b2c3d", [])
tracker.log({"epoch": 1, "loss": 0.5}, "epoch")
tracker.summarize({"score": 1.0})
tracker.finish(failed=False)
print("trained")
"""


BEHAVIOURS = ["429", "403", "nonsense", "closes"]


class Answers(BaseHTTPRequestHandler):
    """A server that is no W&B."""

    behaviour = "500"

    def do_POST(self) -> None:
        if self.behaviour.isdecimal():
            self.send_error(int(self.behaviour))
        elif self.behaviour == "nonsense":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"\x00\xff{{{ no json" * 100)
        else:
            self.connection.close()

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def served(behaviour: str) -> Iterator[str]:
    """The address of a server that behaves so."""
    handler = type("Handler", (Answers,), {"behaviour": behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


Tried = dict[str, Future[Completed]]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {case: tmp_path_factory.mktemp("root") for case in [*NONSENSE, *BEHAVIOURS]}


@pytest.fixture(scope="module")
def tried(project: Project, roots: dict[str, Path]) -> Iterator[Tried]:
    """What the script does with each variable and each server: several at once, as it waits most of the time."""

    def run(case: str) -> Completed:
        variables = {"WANDB_API_KEY": KEY, "PROJECT_ROOT": str(roots[case])}
        with contextlib.ExitStack() as stack:
            if case in BEHAVIOURS:
                variables["WANDB_BASE_URL"] = stack.enter_context(served(case))
            else:
                name, _, value = case.partition("=")
                variables[name] = value
            environment = project.environment(**variables)
            return call(project.python, "-c", SCRIPT, cwd=roots[case], env=environment, check=False)

    with ThreadPoolExecutor(4) as pool:
        yield {case: pool.submit(run, case) for case in roots}


def assert_trained(done: Completed) -> None:
    assert done.returncode == 0, done.stderr
    assert "trained" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("variable", NONSENSE)
def test_a_variable_that_is_nonsense(tried: Tried, variable: str) -> None:
    assert_trained(tried[variable].result())


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_server_that_is_none(tried: Tried, roots: dict[str, Path], behaviour: str) -> None:
    """Whatever it answers, the fold is trained, after one wait at the most, and tracked offline."""
    done = tried[behaviour].result()
    assert_trained(done)
    assert "warning: W&B" in done.stderr
    assert list((roots[behaviour] / "output/wandb").glob("offline-run-*"))
