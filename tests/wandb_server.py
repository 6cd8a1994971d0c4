"""A stand-in for the W&B server on the loopback address: the real client talks to it, and it keeps what it is sent.

It speaks what wandb-core asks for a run: GraphQL for the run itself, for resuming it and for the addresses of uploads;
the file stream for history, summary, console and the end; plain PUTs for files. Whatever it is asked beyond that is a
complaint, and so is what would damage a run of the real server: a row over another one, a gap, a step that goes back.
"""

from __future__ import annotations

import gzip
import json
import threading
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

KEY = "wandb_v1_" + "0123456789" * 8  # as they are now; older ones have 40 hexadecimal digits
ENTITY = "someone"
HISTORY, EVENTS, SUMMARY, OUTPUT = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"


@dataclass
class Run:
    """What the server holds of one W&B run.

    Attributes:
        starts: how many processes have opened it: 1, and 1 for each time it was resumed or synced.
        exit_code: None while it runs.
        streams: the lines of each file that is sent line by line.
        files: the contents of the files that were uploaded.
        complaints: what would have damaged it.
    """

    project: str
    id: str
    group: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    starts: int = 0
    exit_code: int | None = None
    streams: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    files: dict[str, bytes] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    sent_config: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """What was passed as `config`."""
        return {name: each["value"] for name, each in self.sent_config.items() if name != "_wandb"}

    @property
    def axes(self) -> dict[str, str]:
        """Metric to its step axis, as `define_metric` has made them: indices of a list, with protobuf's numbers."""
        metrics = self.sent_config["_wandb"]["value"].get("m") or []
        return {each["1"]: metrics[each["5"] - 1]["1"] for each in metrics if "1" in each and "5" in each}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows, with W&B's own `_step`, `_runtime` and `_timestamp`.

        A step that comes twice is one row: for a run that was online, `wandb sync` sends all of them again.
        """
        return list({row["_step"]: row for row in map(json.loads, self.streams[HISTORY])}.values())

    def rows(self) -> list[dict[str, Any]]:
        """The rows as they were logged."""
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in self.history]

    @property
    def steps(self) -> list[int]:
        """W&B's own counter."""
        return [row["_step"] for row in self.history]

    @property
    def summary(self) -> dict[str, Any]:
        """The last one that was sent."""
        lines = self.streams[SUMMARY]
        summary: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return summary

    def write(self, name: str, offset: int, lines: list[str]) -> None:
        """Put lines into a file that is sent line by line."""
        held = self.streams[name]
        if name == HISTORY:
            over = [line for line, new in zip(held[offset:], lines, strict=False) if line != new]
            if over:  # a request that is sent again, for its answer was lost, has the same lines
                self.complaints.append(f"rows are written over others, such as {over[0]}")
            if offset > len(held):
                self.complaints.append(f"a gap: row {offset} comes after row {len(held) - 1}")
            known = {row["_step"]: row for row in self.history}
            for row in map(json.loads, lines):
                step = row["_step"]
                if known and step <= max(known) and known.get(step) != row:
                    self.complaints.append(f"step {step} comes after step {max(known)}, with another row")
                known[step] = row
        held[offset : offset + len(lines)] = lines

    def upsert(self, sent: Mapping[str, Any]) -> None:
        """UpsertBucket: what is None stays as it is."""
        self.group, self.name = sent.get("groupName") or self.group, sent.get("displayName") or self.name
        if sent.get("tags") is not None:
            self.tags = list(sent["tags"])
        if sent.get("config"):
            self.sent_config = json.loads(sent["config"])
        if sent.get("host") is not None:  # only the first request of a process has it
            self.starts, self.exit_code = self.starts + 1, None

    def bucket(self) -> dict[str, Any]:
        """As GraphQL shows it: for UpsertBucket, and for a client that asks how to resume it."""

        def tail(name: str) -> str:
            return json.dumps(self.streams[name][-1:])

        project = {"id": "P", "name": self.project, "entity": {"id": "E", "name": ENTITY}}
        return {
            "id": f"storage-{self.id}",
            "name": self.id,
            "displayName": self.name,
            "project": project,
            "config": json.dumps(self.sent_config),
            "wandbConfig": json.dumps({"t": self.sent_config["_wandb"]["value"]["t"]}),
            "summaryMetrics": json.dumps(self.summary),
            "tags": self.tags,
            "historyLineCount": len(self.streams[HISTORY]),
            "eventsLineCount": len(self.streams[EVENTS]),
            "logLineCount": len(self.streams[OUTPUT]),
            "historyTail": tail(HISTORY),
            "eventsTail": tail(EVENTS),
        }


class Server:
    """The runs by id, and where to find the server; made by `serve`.

    Attributes:
        runs: by id.
        unknown: what was asked that it does not know.
        keys: the API keys that came.
    """

    def __init__(self, runs: dict[str, Run] | None = None) -> None:
        self.runs = {} if runs is None else runs
        self.unknown: list[str] = []
        self.keys: set[str] = set()
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"server_of_runs": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a training use it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def die(self) -> None:
        """Go away, as a server or a network does: nothing listens any more. What it holds stays to be looked at."""
        self._http.shutdown()
        self._http.server_close()

    # Answers

    def graphql(self, operation: str, sent: dict[str, Any]) -> dict[str, Any]:
        if operation == "Viewer":
            return {"viewer": {"id": "U", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "OrganizationCoreWeaveOrganizationID":
            return {"entity": None}
        if operation == "RunResumeStatus":
            run = self.runs.get(sent["name"])
            return {"model": {"id": "P", "name": sent["project"], "bucket": run and run.bucket()}}
        if operation == "UpsertBucket":
            is_new = sent["name"] not in self.runs
            run = self.runs.setdefault(sent["name"], Run(sent["project"], sent["name"]))
            run.upsert(sent)
            return {"upsertBucket": {"bucket": run.bucket(), "inserted": is_new}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{sent['run']}/{name}"} for name in sent["files"]]
            return {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}
        self.unknown.append(f"GraphQL {operation}")
        raise LookupError(operation)

    def file_stream(self, run: Run, sent: dict[str, Any]) -> None:
        for name, chunk in (sent.get("files") or {}).items():
            run.write(name, chunk["offset"], chunk["content"])
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]


class _Handler(BaseHTTPRequestHandler):
    server_of_runs: Server
    protocol_version = "HTTP/1.0"  # a connection ends with its answer, so that the server is gone when it dies

    def do_POST(self) -> None:
        server, path = self.server_of_runs, [unquote(part) for part in urlsplit(self.path).path.split("/")]
        content = self._content()
        with server.lock:
            if path[1:] == ["graphql"]:
                server.keys.add(b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode())
                sent = json.loads(content)
                try:
                    self._answer({"data": server.graphql(sent.get("operationName", ""), sent.get("variables") or {})})
                except LookupError as error:
                    self._answer({"errors": [{"message": f"no such operation: {error}"}]})
            elif path[1] == "files" and path[-1] == "file_stream" and path[-2] in server.runs:
                server.file_stream(server.runs[path[-2]], json.loads(content))
                self._answer({})
            elif path[1] == "sdk":  # telemetry of the client
                self._answer({})
            else:
                server.unknown.append(f"POST {self.path}")
                self.send_error(404)

    def do_PUT(self) -> None:
        server, path = self.server_of_runs, [unquote(part) for part in urlsplit(self.path).path.split("/")]
        content = self._content()
        with server.lock:
            server.runs[path[2]].files["/".join(path[3:])] = content
        self._answer({})

    def do_GET(self) -> None:
        self.server_of_runs.unknown.append(f"GET {self.path}")
        self.send_error(404)

    def _content(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _answer(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serve(runs: dict[str, Run] | None = None) -> Iterator[Server]:
    """A server for the time of a test, which may hold the runs of another one."""
    server = Server(runs)
    try:
        yield server
    finally:
        server.die()
