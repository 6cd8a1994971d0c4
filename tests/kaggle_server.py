"""A stand-in for Kaggle: a local server that speaks its protocol to the unmodified official client.

KAGGLE_API_ENVIRONMENT=LOCALHOST and a proxy (`variables`) lead the client here: nothing leaves the machine.
`Stand.failures` says what goes wrong, by the name of a call, "PUT" (an upload) or "GET" (a download): a status with a
message, or "cut", a connection that ends in the middle. What is in it is taken from the left, once each.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers import exp

from expkit.errors import Failed

TOKEN, USER = "KGAT_a-secret-of-the-tests", "kim"
Failure = str | tuple[int, str]


@dataclass
class Competition:
    """Data that can be downloaded, and the solution of its test set, by id, which scores submissions by accuracy."""

    files: dict[str, bytes]
    solution: dict[str, str] = field(default_factory=dict)
    entered: bool = True
    allowed: int = 5
    archive: bytes = b""  # in the place of a zip of the files


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Stand:
    """What the server knows."""

    def __init__(self) -> None:
        self.competitions: dict[str, Competition] = {}
        self.submissions: list[dict[str, Any]] = []
        self.uploads: dict[str, bytearray] = {}
        self.sizes: dict[str, int] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.kernels: dict[str, dict[str, Any]] = {}
        self.outputs: dict[str, bytes] = {}  # what a notebook is to have written, by "owner/slug"
        self.unprocessed = False  # no dataset can be processed
        self.broken: dict[str, str] = {}  # "owner/slug": why the notebook fails
        self.failures: defaultdict[str, list[Failure]] = defaultdict(list)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.token = TOKEN

    def called(self, name: str) -> list[dict[str, Any]]:
        return [request for each, request in self.calls if each == name]

    def failure(self, name: str) -> Failure | None:
        waiting = self.failures[name]
        return waiting.pop(0) if waiting else None

    # The calls, by the names of their methods

    def IntrospectToken(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"active": True, "username": USER} if asked["token"] == self.token else {"active": False}

    def competition(self, asked: Mapping[str, Any]) -> Competition:
        found = self.competitions.get(asked["competitionName"])
        if found is None:
            raise Refused(404, "Not found")
        if not found.entered:
            raise Refused(403, "Permission denied")
        return found

    def GetSubmissionLimits(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found, sent = self.competition(asked), len(self.submissions)
        return {"numToday": sent, "numTotal": sent, "numAllowedNow": found.allowed}

    def StartSubmissionUpload(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.competition(asked)
        return self.StartBlobUpload(asked)

    def StartBlobUpload(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        token = f"upload-{len(self.uploads)}"
        self.uploads[token], self.sizes[token] = bytearray(), asked["contentLength"]
        return {"token": token, "createUrl": f"http://localhost/uploads/{token}"}

    def CreateSubmission(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self.submit(asked, bytes(self.uploads[asked["blobFileTokens"]]))

    def CreateCodeSubmission(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        kernel = f"{asked['kernelOwner']}/{asked['kernelSlug']}"
        if kernel not in self.kernels or asked["kernelVersion"] != self.kernels[kernel]["version"]:
            raise Refused(404, "Not found")
        return self.submit(asked, self.outputs[kernel])

    def submit(self, asked: Mapping[str, Any], content: bytes) -> dict[str, Any]:
        found, ref = self.competition(asked), 1000 + len(self.submissions)
        rows = list(csv.reader(io.StringIO(content.decode())))[1:]
        right = [found.solution.get(id) == value for id, value in rows]
        known = len(rows) == len(found.solution) and {id for id, _ in rows} == found.solution.keys()
        outcome = {"status": "COMPLETE", "publicScore": f"{sum(right) / max(len(right), 1):.5f}"}
        if not known:
            outcome = {"status": "ERROR", "errorDescription": "Submission must have the ids of the sample"}
        about = {"ref": ref, "date": f"2026-01-02T03:04:{ref % 60:02d}", "fileName": asked.get("fileName", "s.csv")}
        said = {"description": asked.get("submissionDescription", ""), "status": "PENDING"}
        self.submissions.append(about | said | {"competition": asked["competitionName"], "outcome": outcome})
        found.allowed -= 1
        return {"message": "Successfully submitted", "ref": ref}

    @staticmethod
    def shown(submission: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in submission.items() if key not in ("outcome", "competition")}

    def ListSubmissions(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self.competition(asked)
        page, size = asked.get("page", 1), asked.get("pageSize", 20)
        own = [each for each in reversed(self.submissions) if each["competition"] == asked["competitionName"]]
        listed = own[(page - 1) * size : page * size]
        answer = {"submissions": [self.shown(each) for each in listed]}
        for each in listed:
            each.update(each["outcome"])  # scored by the second look
        return answer

    def GetDatasetStatus(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = self.datasets.get(f"{asked['ownerSlug']}/{asked['datasetSlug']}")
        if found is None:
            raise Refused(404, "Not found")
        found["looks"] += 1
        if found["looks"] > 1 and self.unprocessed:
            return {"status": "FAILED"}
        return {"status": "READY" if found["looks"] > 1 else "BLOBS_RECEIVED"}

    def CreateDataset(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self.keep(f"{asked['ownerSlug']}/{asked['slug']}", asked, asked["files"])

    def CreateDatasetVersion(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{asked['ownerSlug']}/{asked['datasetSlug']}"
        if self.datasets[name]["looks"] < 2:
            return {"status": "error", "error": "The previous version is still being processed"}
        return self.keep(name, asked, asked["body"]["files"])

    def keep(self, name: str, asked: Mapping[str, Any], sent: list[dict[str, str]]) -> dict[str, Any]:
        whole = all(len(self.uploads[each["token"]]) == self.sizes[each["token"]] for each in sent)
        assert whole, "an upload is not whole"
        versions = self.datasets.get(name, {}).get("versions", [])
        content = [bytes(self.uploads[each["token"]]) for each in sent]
        self.datasets[name] = {"looks": 0, "about": dict(asked), "versions": [*versions, content]}
        return {"status": "ok", "url": f"https://www.kaggle.com/datasets/{name}"}

    def SaveKernel(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        unknown = [name for name in asked.get("datasetDataSources", []) if name not in self.datasets]
        version = self.kernels.get(asked["slug"], {}).get("version", 0) + 1
        self.kernels[asked["slug"]] = {"version": version, "about": dict(asked), "looks": 0}
        url = f"https://www.kaggle.com/code/{asked['slug']}"
        return {"versionNumber": version, "url": url, "invalidDatasetSources": unknown}

    def GetKernelSessionStatus(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{asked['userName']}/{asked['kernelSlug']}"
        kernel = self.kernels[name]
        kernel["looks"] += 1
        if kernel["looks"] < 3:
            return {"status": ["QUEUED", "RUNNING"][kernel["looks"] - 1]}
        if name in self.broken:
            return {"status": "ERROR", "failureMessage": self.broken[name]}
        return {"status": "COMPLETE"}


class Handler(BaseHTTPRequestHandler):
    stand: Stand

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def say(self, status: int, content: Mapping[str, Any]) -> None:
        more = {"Retry_After": "7"} if status == 429 else {}
        self.answer(status, json.dumps(content).encode(), Content_Type="application/json", **more)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        name, asked = urlsplit(self.path).path.rpartition("/")[2], json.loads(self.body() or b"{}")
        self.stand.calls.append((name, asked))
        failure = self.stand.failure(name)
        try:
            if isinstance(failure, tuple):
                raise Refused(*failure)
            if failure == "cut":
                return self.close()
            if name != "IntrospectToken" and self.headers.get("Authorization") != f"Bearer {self.stand.token}":
                raise Refused(401, "Unauthenticated")
            if name == "DownloadDataFiles":
                self.stand.competition(asked)
                return self.answer(302, Location=f"http://localhost/data/{asked['competitionName']}.zip?signed=1")
            self.say(200, getattr(self.stand, name)(asked))
        except Refused as refused:
            self.say(refused.status, {"code": refused.status, "message": str(refused)})

    def close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2].removesuffix(".zip")
        competition = self.stand.competitions[name]
        content = competition.archive or zipped(competition.files)
        failure = self.stand.failure("GET")
        if isinstance(failure, tuple):
            return self.answer(failure[0])
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        rest = content[int(start[1]) :] if start else content
        self.stand.calls.append(("GET", {"start": len(content) - len(rest)}))
        self.send_response(206 if start else 200)
        dated = "Fri, 02 Jan 2026 03:04:05 GMT"
        about = {"Content-Length": str(len(rest)), "Accept-Ranges": "bytes", "ETag": '"one"', "Last-Modified": dated}
        for header, value in about.items():
            self.send_header(header, value)
        self.end_headers()
        if failure == "cut":
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            return self.close()
        self.wfile.write(rest)

    def do_PUT(self) -> None:
        token = urlsplit(self.path).path.rpartition("/")[2]
        kept, length = self.stand.uploads[token], int(self.headers["Content-Length"])
        ranged = re.fullmatch(r"bytes (\*|(\d+)-\d+)/(\d+)", self.headers.get("Content-Range", ""))
        self.stand.calls.append(("PUT", {"range": ranged and ranged[0]}))
        if ranged and ranged[1] == "*":  # how much has come?
            whole = len(kept) == int(ranged[3])
            return self.answer(200 if whole else 308, **({"Range": f"bytes=0-{len(kept) - 1}"} if kept else {}))
        del kept[int(ranged[2]) if ranged else 0 :]
        failure = self.stand.failure("PUT")
        if failure == "cut":
            kept += self.rfile.read(length // 2)
            return self.close()
        kept += self.rfile.read(length)
        self.answer(failure[0] if isinstance(failure, tuple) else 200)


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


@contextmanager
def serving(stand: Stand) -> Iterator[dict[str, str]]:
    """Answer for a while; the variables that lead the official client here."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"stand": stand}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield variables(server.server_address[1], stand.token)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def variables(port: int, token: str) -> dict[str, str]:
    here = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "http_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
    return here | {"NO_PROXY": "", "KAGGLE_API_TOKEN": token}


# For tests in this process

SLEEP = time.sleep


@pytest.fixture
def stand(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """A stand-in that the official client in this process takes for Kaggle."""
    stand = Stand()
    with serving(stand) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(root))  # no credentials of a person
        monkeypatch.setattr("tempfile.tempdir", str(root))  # uploads that go on
        monkeypatch.setattr("time.sleep", lambda seconds: SLEEP(min(seconds, 0.01)))  # between attempts: minutes
        yield stand


def failed(*arguments: str) -> str:
    """The one line of a command that has begun, and failed."""
    with pytest.raises(Failed) as caught:
        exp(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)
