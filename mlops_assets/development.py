"""`mlops-assets dev`: Dagster's UI and daemon, with MLflow and the reports beside it, each on an origin of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlops_assets import settings
from mlops_assets.instance import prepare
from mlops_assets.lease import refuse_second

if TYPE_CHECKING:
    from rich.console import Console

LOCAL = {"127.0.0.1", "localhost"}
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
SERVED = "served.yaml"
START_SECONDS, STOP_SECONDS, LOOK_SECONDS = 300, 20, 0.5


def serve(port: int, console: Console) -> int:
    """Run until stopped, or until one of the processes ends, and return its exit status. Raises HeldError."""
    home = prepare()
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        refuse_second(instance)
    with Beside() as beside:
        for name, address in (("MLflow", _mlflow(beside)), ("Reports", _reports(beside))):
            console.print(f"{name}: {address}", soft_wrap=True)
        console.print(f"[bold]Dagster: http://127.0.0.1:{port}[/bold] (stop with Ctrl-C)", soft_wrap=True)
        environment = _environment(port)
        code = _code_server(beside, home, environment)
        asking = [
            beside.start([sys.executable, "-m", *command], environment)
            for command in (
                ["mlops_assets.cli", "daemon", "--workspace", str(home / SERVED)],
                ["mlops_assets.cli", "watch"],
                ["dagster_webserver", "-w", str(home / SERVED), "-h", "127.0.0.1", "-p", str(port)],
            )
        ]
        try:
            return _first_to_end([code, *asking])
        finally:
            for child in beside.children:
                if child is not code:
                    child.ask_to_end()


class Child(subprocess.Popen):
    """A process that ends when it is asked to."""

    asked = False

    def ask_to_end(self) -> None:
        """Interrupt it, once: a second time would break off how it ends."""
        if not self.asked:
            self.asked = True
            self.send_signal(signal.SIGINT)


class Beside(ExitStack):
    """What runs beside this process, and not longer; the last one that was started ends first."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Child] = []

    def start(
        self, command: list[str], environment: Mapping[str, str] = os.environ, output: int | None = None
    ) -> Child:
        """Start one more."""
        child = self.enter_context(_process(command, environment, output))
        self.children.append(child)
        return child


def _code_server(beside: Beside, home: Path, environment: Mapping[str, str]) -> Child:
    """Start the code server that webserver, daemon and runs share, and wait until it answers."""
    import yaml
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.server import wait_for_grpc_server

    socket = str(Path(beside.enter_context(TemporaryDirectory())) / "code")
    code = {"grpc_server": {"socket": socket, "host": "localhost", "location_name": "mlops_assets"}}
    (home / SERVED).write_text(yaml.safe_dump({"load_from": [code]}))
    module = ["-m", "mlops_assets.definitions", "--location-name", "mlops_assets", "--log-level", "warning"]
    command = [sys.executable, "-m", "mlops_assets.code_server", "code-server", "start", "--socket", socket, *module]
    process = beside.start(command, environment)
    wait_for_grpc_server(process, DagsterGrpcClient(socket=socket), command, timeout=START_SECONDS)
    return process


def _first_to_end(processes: Sequence[subprocess.Popen]) -> int:
    """Wait until one of them ends, and say how."""
    while all(process.poll() is None for process in processes):
        time.sleep(LOOK_SECONDS)
    return next(process.returncode for process in processes if process.returncode is not None)


def _environment(port: int) -> dict[str, str]:
    """Ours, with Dagster's address on this port, which links in MLflow start with, unless the user named another."""
    address = os.environ.get(settings.DAGSTER_UI.name) or f"http://127.0.0.1:{port}"
    return os.environ | {settings.DAGSTER_UI.name: address}


def _mlflow(beside: Beside) -> str:
    """Start MLflow's UI on the local tracking database, and say where it is or why it is not."""
    uri, address = settings.tracking_uri(), urlsplit(settings.MLFLOW_UI.value())
    if not uri.startswith("sqlite:") or address.hostname not in LOCAL or address.port is None:
        return f"{settings.MLFLOW_UI.value()} (tracking is at {uri}; nothing is started here)"
    if not _is_free(address.port):
        return f"not started: port {address.port} is taken. Set {settings.MLFLOW_UI.name}."
    log = beside.enter_context((Path(settings.home()) / "mlflow.log").open("a"))
    server = ["-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command = [sys.executable, *server, "--port", str(address.port), "--workers", "1"]
    beside.start(command, output=log.fileno())
    return settings.MLFLOW_UI.value()


def _reports(beside: ExitStack) -> str:
    """Serve the reports' folder, and say where it is or why it is not."""
    home, address = settings.home(), urlsplit(settings.REPORTS_UI.value())
    if "://" in home or address.hostname not in LOCAL or address.port is None:
        return f"{settings.REPORTS_UI.value()} (nothing is started here)"
    folder = Path(home) / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", address.port), partial(ReportsHandler, directory=str(folder)))
    except OSError as error:
        return f"not started: port {address.port}: {error.strerror}. Set {settings.REPORTS_UI.name}."
    Thread(target=server.serve_forever, daemon=True).start()
    beside.callback(server.server_close)
    beside.callback(server.shutdown)
    return settings.REPORTS_UI.value()


class ReportsHandler(SimpleHTTPRequestHandler):
    """Files of the reports' folder. A page may run its own scripts, and load nothing from anywhere else."""

    def end_headers(self) -> None:
        """Add the policy to every answer."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the terminal belongs to Dagster."""


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], output: int | None = None) -> Iterator[Child]:
    """A child that is stopped with this process, and with it all that it started, by Ctrl-C or by SIGTERM.

    A shell that starts us in the background has SIGINT ignored, and children would inherit that; a handler they do not.
    """
    before = signal.signal(signal.SIGTERM, _interrupt), signal.signal(signal.SIGINT, _interrupt)
    child = Child(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield child
    except KeyboardInterrupt:
        pass
    finally:
        child.ask_to_end()
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
