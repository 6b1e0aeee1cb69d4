"""Processes that a warm one becomes: quick to start, each with its own id, output, environment and end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mlops_assets_tests.cluster.waiting import LOOK_SECONDS

ROOT = Path(__file__).parents[2]
IMPORTED = (
    "dagster",
    "dagster._cli.api",
    "dagster._cli",
    "dagster._core.execution.api",
    "dagster._grpc.server",
    "dagster._daemon.cli",
    "dagster_k8s",
    "dagster_k8s.launcher",
    "mlops_assets.cli",
    "mlops_assets.daemon",
    "mlops_assets.resources.mlflow_database",
    "mlops_assets.instance",
    "mlops_assets.definitions",
    "mlops_assets.sqlite_storage",
)


@dataclass
class Process:
    """One that was started. `code` is negative for a signal, as `subprocess` says it; `peak` is in bytes, `cpu` in
    seconds."""

    pid: int = 0
    code: int = 0
    peak: int = 0
    cpu: float = 0.0
    killed_for_memory: bool = False
    up: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def signal(self, number: signal.Signals, everybody: bool = False) -> None:
        """Send a signal to the process, or to everybody in its group."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if everybody else os.kill)(self.pid, number)

    def memory(self) -> int:
        """The resident bytes of the process and its descendants. Pages that it shares with the warm one count: a
        process that had imported the same by itself would have them."""
        try:
            first = psutil.Process(self.pid)
            return sum(each.memory_info().rss for each in (first, *first.children(recursive=True)))
        except psutil.Error:
            return 0


class Warm:
    """The other end of warm.py."""

    def __init__(self, control: socket.socket) -> None:
        self._control, self._lock = control, threading.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Process] = {}
        self._running: dict[int, Process] = {}
        self.ready = threading.Event()
        self.gone = threading.Event()

    def start(self, argv: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> Process:
        """A process of its own. Waits until it has an id."""
        process = Process()
        with self._lock:
            number = next(self._numbers)
            self._asked[number] = process
            request = {"id": number, "argv": [*argv], "env": {**env}, "folder": str(folder), "log": str(log)}
            message = json.dumps(request).encode()
            self._control.sendall(len(message).to_bytes(4, "big") + message)
        while not process.up.wait(LOOK_SECONDS):
            if self.gone.is_set():
                raise ChildProcessError(f"the warm process is gone, so {argv[0]} did not start")
        return process

    def listen(self) -> None:
        """Take down what the warm process says, until it is gone."""
        for line in self._control.makefile("r"):
            said = json.loads(line)
            if "started" in said:
                process = self._asked.pop(said["started"])
                self._running[said["pid"]] = process
                process.pid = said["pid"]
                process.up.set()
            elif "ended" in said:
                process = self._running.pop(said["ended"])
                process.code, process.peak, process.cpu = said["code"], said["peak"], said["cpu"]
                process.ended.set()
            else:
                self.ready.set()
        self.gone.set()

    def living(self) -> list[int]:
        """The ids of the processes that have not ended."""
        return sorted(self._running)


@contextmanager
def warmed(log: Path, modules: Sequence[str] = IMPORTED) -> Iterator[Warm]:
    """A warm process that has imported these modules. Nothing of it is left after the block."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "mlops_assets_tests.cluster.warm", str(theirs.fileno()), *modules]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    theirs.close()
    warm = Warm(ours)
    listener = threading.Thread(target=warm.listen)
    listener.start()
    try:
        while not warm.ready.wait(0.2):
            assert process.poll() is None, log.read_text()
        yield warm
    finally:
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)
        process.wait(60)
        ours.close()
        listener.join(60)
