"""Where alerts arrive in tests: real servers on loopback that keep what they were sent."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Sink:
    """A webhook. `answer` is the status that it gives; while `slow` is set it gives none."""

    port: int = 0
    answer: int = 200
    slow: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    taken: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """Its address as a channel of apprise."""
        return f"json://127.0.0.1:{self.port}/hook"


@contextmanager
def http_sink(port: int = 0) -> Iterator[Sink]:
    """A webhook on loopback, on a free port unless one is named."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["Content-Length"])
            sent = self.rfile.read(size)
            if len(sent) < size:  # the sender died on the way
                return
            content = json.loads(sent)
            if sink.slow.is_set():
                sink.go_on.wait(30)
            if sink.answer < 300:
                sink.taken.append(content)
                sink.keys.append(self.headers["Idempotency-Key"])
                sink.paths.append(self.path)
            self.send_response(sink.answer)
            self.end_headers()

        def log_message(self, format, *args):  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    sink.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.go_on.set()
        server.shutdown()
        server.server_close()


@dataclass
class Mailbox:
    """A mail server, and the mails that it took."""

    port: int = 0
    mails: list[email.message.EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"


@contextmanager
def smtp_sink() -> Iterator[Mailbox]:
    """A mail server on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mailbox = Mailbox(port=probe.getsockname()[1])
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
