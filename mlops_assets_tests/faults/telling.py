"""Alerts raised and delivered by processes that are killed by SIGKILL before any one of their writes and sends.

A program, because processes are forked from one that has loaded every library and runs no thread: it sends what is told
to a webhook, each alert named after its trial, and says a line for each trial.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apprise
import pyarrow.fs

from mlops_assets.ml.alerts import Alert
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import Channel, Note, send
from mlops_assets.resources.records import Records
from mlops_assets_tests.faults.forking import say

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
COUNT, MODELS = 4, 2
EVERY = int(os.environ.get("MLOPS_ALERT_KILLS_EVERY", "3"))
ROUNDS = 3
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
WATCHED = {"os.rename", "http.client.connect", "http.client.send"}
LOADED = pyarrow.fs


class Killer:
    """Counts the moments before something is written or sent, and kills this process at the marked one."""

    def __init__(self, mark: int | None) -> None:
        self.mark, self.count = mark, 0

    def arm(self) -> None:
        """Watch, from now until the process ends."""
        sys.addaudithook(self._audit)
        remove = Records.remove

        def removed(*arguments):
            self._reach()
            remove(*arguments)

        Records.remove = removed

    def _audit(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if writes or event in WATCHED:
            self._reach()

    def _reach(self) -> None:
        self.count += 1
        if self.count == self.mark:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(work: Callable[[], None], mark: int | None = None) -> tuple[bool, int]:
    """Do it in a process of its own, killed at the mark. Whether it was killed, and how many moments there were."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        killer = Killer(mark)
        killer.arm()
        work()
        os.write(writer, str(killer.count).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 20).decode()
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if status not in {0, signal.SIGKILL}:
        raise SystemExit(f"a trial ended with status {status}")
    return status == signal.SIGKILL, int(told or 0)


class Trial:
    """One home, its alerts, and the two halves of their way."""

    def __init__(self, folder: Path, port: int, name: str) -> None:
        self.name = name
        self.alerts = Alerts(root=str(folder / name), ui="http://127.0.0.1:3000")
        self.channels = [
            Channel("one", frozenset(), f"json://127.0.0.1:{port}/one"),
            Channel("two", frozenset(), f"json://127.0.0.1:{port}/two"),
        ]

    def raise_all(self) -> None:
        """What a sensor does that is killed and starts again where it began: its cursor did not move."""
        for number in range(COUNT):
            self.alerts.raise_(
                Alert(
                    kind="failed_run",
                    model=f"model_{number % MODELS}",
                    partition=None,
                    about=str(number),
                    sentence=f"<{self.name} {number}>",
                    link=None,
                    raised=START,
                )
            )

    def deliver(self, hours: int = 0) -> None:
        """One round."""
        self.alerts.deliver(lambda: START + timedelta(hours=hours), to=lambda: self.channels)

    def finish(self) -> None:
        """Round after round, as time goes on, until all must be told."""
        for hours in range(1, ROUNDS):
            self.deliver(hours)


class Naive(Trial):
    """The same without an outbox: a list of what is to be told, forgotten when all of it was."""

    def raise_all(self) -> None:
        path = Path(self.alerts.root)
        path.mkdir(parents=True, exist_ok=True)
        (path / "list.json").write_text(json.dumps([f"<{self.name} {number}>" for number in range(COUNT)]))

    def deliver(self, hours: int = 0) -> None:
        path = Path(self.alerts.root) / "list.json"
        if not path.exists():
            return
        for number, text in enumerate(json.loads(path.read_text())):
            for channel in self.channels:
                send(channel, Note(f"{self.name}-{hours}-{number}", "subject", text, urgent=True))
        path.unlink()


def trials(folder: Path, port: int, kind: type[Trial], phase: str) -> None:
    """Kill the phase at its moments, finish, and say so."""
    whole = kind(folder, port, f"{kind.__name__}-{phase}-whole")
    if phase == "deliver":
        in_a_process(whole.raise_all)
    _, moments = in_a_process(whole.raise_all if phase == "raise" else whole.deliver)
    for mark in range(1, moments + 1, EVERY):
        trial = kind(folder, port, f"{kind.__name__}-{phase}-{mark}")
        if phase == "raise":
            killed, _ = in_a_process(trial.raise_all, mark)
            in_a_process(trial.raise_all)
        else:
            in_a_process(trial.raise_all)
            killed, _ = in_a_process(trial.deliver, mark)
        in_a_process(trial.finish)
        say(trial=trial.name, mark=mark, killed=killed)


def main(folder: Path, port: int) -> None:
    """Every trial: of the outbox, and of the naive way."""
    apprise.Apprise.instantiate("json://127.0.0.1")  # finds every plugin, once for all processes
    trials(folder, port, Trial, "raise")
    trials(folder, port, Trial, "deliver")
    trials(folder, port, Naive, "deliver")
