"""`mlops-assets dev`: Dagster's UI and daemon, with MLflow and the reports beside it, each on an origin of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from rich.console import Console

from mlops_assets import settings
from mlops_assets.instance import prepare

LOCAL = {"127.0.0.1", "localhost"}
WORKSPACE = (
    "load_from:\n  - python_module:\n      module_name: mlops_assets.definitions\n      location_name: mlops_assets\n"
)
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
STOP_SECONDS = 20


def serve(port: int, console: Console) -> int:
    """Run until stopped, and return Dagster's exit status."""
    home = prepare()
    workspace = home / "workspace.yaml"
    workspace.write_text(WORKSPACE)
    dagster = [
        "-W",
        "ignore::FutureWarning:click.core",
        "-m",
        "dagster",
        "dev",
        "-w",
        str(workspace),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with ExitStack() as beside:
        for name, address in (("MLflow", _mlflow(beside)), ("Reports", _reports(beside))):
            console.print(f"{name}: {address}", soft_wrap=True)
        console.print(f"[bold]Dagster: http://127.0.0.1:{port}[/bold] (stop with Ctrl-C)", soft_wrap=True)
        return beside.enter_context(_process([sys.executable, *dagster], _environment(port))).wait()


def _environment(port: int) -> dict[str, str]:
    """Ours, with Dagster's address on this port, which links in MLflow start with, unless the user named another."""
    address = os.environ.get(settings.DAGSTER_UI.name) or f"http://127.0.0.1:{port}"
    return os.environ | {settings.DAGSTER_UI.name: address}


def _mlflow(beside: ExitStack) -> str:
    """Start MLflow's UI on the local tracking database, and say where it is or why it is not."""
    uri, address = settings.tracking_uri(), urlsplit(settings.MLFLOW_UI.value())
    if not uri.startswith("sqlite:") or address.hostname not in LOCAL or address.port is None:
        return f"{settings.MLFLOW_UI.value()} (tracking is at {uri}; nothing is started here)"
    if not _is_free(address.port):
        return f"not started: port {address.port} is taken. Set {settings.MLFLOW_UI.name}."
    log = beside.enter_context((Path(settings.home()) / "mlflow.log").open("a"))
    server = ["-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command = [sys.executable, *server, "--port", str(address.port), "--workers", "1"]
    beside.enter_context(_process(command, output=log.fileno()))
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
def _process(
    command: list[str], environment: Mapping[str, str] = os.environ, output: int | None = None
) -> Iterator[subprocess.Popen]:
    """A child that is stopped with this process, and with it all that it started, by Ctrl-C or by SIGTERM.

    A shell that starts us in the background has SIGINT ignored, and children would inherit that; a handler they do not.
    """
    before = signal.signal(signal.SIGTERM, _interrupt), signal.signal(signal.SIGINT, _interrupt)
    process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield process
    except KeyboardInterrupt:
        pass
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
