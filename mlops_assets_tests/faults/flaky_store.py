"""A proxy before a real S3 server, on loopback, that refuses, dawdles, cuts and tells of yesterday as it is told to.

A process of its own (Delta Lake waits without letting other threads run): `python -m ...flaky_store HOST PORT`. It
prints its port; a PUT to CONTROL sets what goes wrong, and answers with what went wrong since the last one.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

CONTROL = "/-/faults"
BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message><RequestId>0</RequestId></Error>"
)
NOT_PASSED = {"connection", "expect", "transfer-encoding", "content-length"}
NOT_RETURNED = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}
Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass
class Faults:
    """What goes wrong, with which requests: `what` is all, writes, lists, or parts (of an upload in several).

    `after` the first so many of them, and not later than `before` so many.
    """

    what: str = "all"
    refuse: float = 0.0
    cut: float = 0.0
    seconds: float = 0.0
    stale: bool = False
    after: int = 0
    before: int = sys.maxsize
    seed: int = 0
    done: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def concern(self, method: str, path: str) -> bool:
        """Whether anything goes wrong with such a request."""
        wanted = {
            "all": True,
            "writes": method in {"PUT", "POST"},
            "lists": "list-type=" in path,
            "parts": "partNumber=" in path,
        }[self.what]
        self.done["seen"] += wanted
        return wanted and self.after < self.done["seen"] <= self.before


class Proxy(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    behind: ClassVar[tuple[str, int]]
    faults: ClassVar[Faults] = Faults()
    listed: ClassVar[dict[str, Answer]] = {}

    def _serve(self) -> None:
        body = self._body()
        if self.path == CONTROL:
            before, Proxy.faults = Proxy.faults, Faults(**json.loads(body))
            self._answer(200, [], json.dumps(before.done).encode())
            return
        faults = self.faults
        wrong = faults.concern(self.command, self.path)
        if wrong and faults.chance.random() < faults.refuse:
            faults.done["refused"] += 1
            self._answer(503, [("Content-Type", "application/xml")], BUSY)
        elif wrong and faults.chance.random() < faults.cut:
            faults.done["cut"] += 1
            self.close_connection = True
        else:
            if wrong and faults.seconds:
                faults.done["slow"] += 1
                time.sleep(faults.seconds)
            self._answer(*self._looked_up(body, wrong))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _looked_up(self, body: bytes, wrong: bool) -> Answer:
        """What the server says; of a listing, what it said before where that is to go wrong."""
        lists = "list-type=" in self.path
        if wrong and lists and self.faults.stale and self.path in self.listed:
            self.faults.done["stale"] += 1
            return self.listed[self.path]
        said = self._asked(body)
        if lists and not (wrong and self.faults.stale):
            self.listed[self.path] = said
        return said

    def _asked(self, body: bytes) -> Answer:
        beyond = HTTPConnection(*self.behind, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED}
        beyond.request(self.command, self.path, body, headers)
        answer = beyond.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in NOT_RETURNED]
        if self.command == "HEAD" and (length := answer.getheader("Content-Length")):
            kept.append(("Content-Length", length))
        said = answer.status, kept, answer.read()
        beyond.close()
        return said

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command == "HEAD":
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class FlakyStore:
    """The proxy, as a test steers it."""

    endpoint: str

    def go_wrong(self, **how: Any) -> dict[str, int]:
        """Set what goes wrong from now on (nothing, without arguments); what went wrong since the last call."""
        request = urllib.request.Request(f"{self.endpoint}{CONTROL}", json.dumps(how).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def flaky_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    """Put the proxy before the S3 server of the environment, for every client of this process and its children."""
    behind = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    with subprocess.Popen(
        [sys.executable, "-m", __name__, *behind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as proxy:
        endpoint = f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield FlakyStore(endpoint)
        proxy.stdin.close()
        proxy.wait(30)


def main(host: str, port: str) -> None:
    """Serve until the standard input is closed."""
    import threading

    Proxy.behind = (host, int(port))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
