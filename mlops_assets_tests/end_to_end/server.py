"""A real `mlops-assets dev` (webserver, daemon, code server) on a home of its own, watched through its GraphQL API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mlops_assets.cli import app

RUNS = """{ runsOrError { ... on Runs { results {
  runId status creationTime startTime endTime tags { key value } assetSelection { path } } } } }"""
TICKS = """{ sensorOrError(sensorSelector: { repositoryLocationName: "mlops_assets", repositoryName: "__repository__",
  sensorName: "%s" }) { ... on Sensor { sensorState { ticks(limit: 20) {
    tickId status timestamp skipReason runIds error { message } } } } } }"""
OVER = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass
class DevServer:
    """The address of a running `mlops-assets dev`, its home, what it says, and its process."""

    url: str
    home: Path
    log: Path
    process: subprocess.Popen

    def ask(self, query: str) -> Any:
        """The `data` of a GraphQL answer."""
        request = urllib.request.Request(
            f"{self.url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first, with its tags as a mapping."""
        found = self.ask(RUNS)["runsOrError"]["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def wait_for_runs(self, count: int, seconds: float = 480) -> list[dict[str, Any]]:
        """The runs, once `count` of them are over and none is under way."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            runs = self.runs()
            if len(runs) >= count and all(run["status"] in OVER for run in runs):
                return runs
            if self.process.poll() is not None:
                break
            time.sleep(0.5)
        raise AssertionError(f"not {count} finished runs after {seconds} s: {self.runs()}")

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest looks of a sensor that are over, newest first."""
        found = self.ask(TICKS % sensor)["sensorOrError"]["sensorState"]["ticks"]
        return [tick for tick in found if tick["status"] != "STARTED"]

    def first_tick(self, sensor: str) -> dict[str, Any]:
        """The first look of a sensor in this home, once it is over."""
        return self.wait_for_ticks(sensor, 1, since=0.0)[-1]

    def wait_for_ticks(
        self, sensor: str, count: int, seconds: float = 300, since: float | None = None
    ) -> list[dict[str, Any]]:
        """The looks of a sensor that began after a moment, or this call, newest first, once there are `count`."""
        since, deadline = time.time() if since is None else since, time.monotonic() + seconds
        while time.monotonic() < deadline:
            fresh = [tick for tick in self.ticks(sensor) if tick["timestamp"] > since]
            if len(fresh) >= count:
                return fresh
            if self.process.poll() is not None:
                break
            time.sleep(0.5)
        raise AssertionError(f"{sensor} did not look {count} times in {seconds} s: {self.ticks(sensor)[:3]}")


def deliver(home: Path, model: str, count: int) -> None:
    """The next deliveries of a model's world, dropped into the landing folder of a home."""
    told = CliRunner().invoke(app, ["deliver", model, "--count", str(count)], env={"MLOPS_HOME": str(home)})
    assert told.exit_code == 0, told.output


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def dev_server(home: Path, log: Path, around: Mapping[str, str] = os.environ, **told: str) -> Iterator[DevServer]:
    """Start `mlops-assets dev` in an environment, and told more; stop everything that it started."""
    port = free_port()
    variables = {**around, "MLOPS_HOME": str(home), **told}
    variables.pop("DAGSTER_HOME", None)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_assets.cli", "dev", "--port", str(port)],
            env=variables, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent,
        )  # fmt: skip
    try:
        server = DevServer(f"http://127.0.0.1:{port}", home, log, process)
        _wait_until_up(server)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait_until_up(server: DevServer, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if server.ask("{ version }"):
                return
        if server.process.poll() is not None:
            break
        time.sleep(0.5)
    raise AssertionError(f"the server did not come up:\n{server.log.read_text()[-5000:]}")
