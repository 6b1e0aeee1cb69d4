"""A shared installation on loopback: PostgreSQL, an S3 server, a code server and a daemon, each a process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets import settings
from mlops_assets_tests.end_to_end import shop
from mlops_assets_tests.end_to_end.server import free_port
from mlops_assets_tests.faults import forking
from mlops_assets_tests.faults.forking import Running
from mlops_assets_tests.postgres import Server, running_postgres
from mlops_assets_tests.s3 import s3_server

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "deploy" / "dagster" / "dagster.yaml"
SECONDS = 500
OVER = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass
class Installation:
    """Where everything is, and the processes that run."""

    folder: Path
    postgres: Server
    port: int = field(default_factory=free_port)
    processes: ExitStack = field(default_factory=ExitStack)
    code_server: Running | None = None
    daemon: Running | None = None

    @property
    def landing(self) -> Path:
        """Where deliveries are dropped."""
        return self.folder / "landing"

    def start_code_server(self) -> None:
        """Start the server of the code location, and wait until it answers."""
        self.code_server = self._start(
            "dagster", "api", "grpc", "-m", shop.__name__, "-h", "127.0.0.1", "-p", str(self.port)
        )
        self.wait_for(self._answers, "the code server did not come up")

    def start_daemon(self) -> None:
        """Start the daemon."""
        workspace = self.folder / "workspace.yaml"
        workspace.write_text(
            f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {self.port}, location_name: mlops_assets}}}}]\n"
        )
        self.daemon = self._start("mlops-assets", "daemon", "--workspace", str(workspace))

    def kill_code_server(self) -> None:
        """End it at once, and none of the runs that it started."""
        server, self.code_server = self.code_server, None
        server.kill()

    def kill_daemon(self) -> None:
        """End it at once."""
        daemon, self.daemon = self.daemon, None
        daemon.kill()

    def stop_before(self, asset: str) -> None:
        """Let runs wait before the record of this asset is written."""
        (self.folder / "stops" / asset).touch()

    def wait_until_stopped_before(self, asset: str) -> None:
        """Wait until a run waits there."""
        reached = self.folder / "stops" / f"{asset}.reached"
        self.wait_for(reached.exists, f"no run came to {asset}")

    def go_on(self, asset: str) -> None:
        """Let runs pass."""
        for path in (self.folder / "stops").glob(f"{asset}*"):
            path.unlink()

    def wait_for(self, true: Callable[[], object], otherwise: str) -> None:
        """Wait for something that comes, as long as every process lives."""
        until = time.monotonic() + SECONDS
        while not true():
            assert all(each.process.is_alive() for each in self._living), f"one has ended: {self.said()}"
            assert time.monotonic() < until, f"{otherwise} in {SECONDS} s: {self.said()}"
            time.sleep(0.2)

    def said(self) -> str:
        """The ends of what the processes have said."""
        return "\n".join(said[-3000:] for each in self._living for said in (each.output, each.errors))

    def wait_for_runs(self, instance: dg.DagsterInstance, count: int) -> Sequence[dg.DagsterRun]:
        """The runs, newest first, once there are `count` and all are over."""

        def over() -> bool:
            runs = instance.get_runs()
            return len(runs) >= count and all(run.status in OVER for run in runs)

        self.wait_for(over, f"not {count} finished runs")
        return instance.get_runs()

    @property
    def _living(self) -> list[Running]:
        return [each for each in (self.code_server, self.daemon) if each]

    def _start(self, command: str, *words: str) -> Running:
        return self.processes.enter_context(forking.started(forking.command, self.folder, command, *words))

    def _answers(self) -> bool:
        from dagster._grpc.client import DagsterGrpcClient

        try:
            return bool(DagsterGrpcClient(port=self.port, host="127.0.0.1").ping("there?"))
        except dg.DagsterError:
            return False


@contextmanager
def installation(folder: Path) -> Iterator[Installation]:
    """The settings of a shared installation in the environment, its servers, and no process of ours yet."""
    with pytest.MonkeyPatch.context() as patch, running_postgres() as postgres, s3_server(patch, "models") as bucket:
        postgres.create("dagster", "mlflow", "ledger")
        (folder / "stops").mkdir()
        for name in ("landing", "dagster"):
            (folder / name).mkdir()
        shutil.copy2(CONFIGURATION, folder / "dagster")
        mlflow = postgres.url("mlflow").replace("postgresql://", "postgresql+psycopg2://")
        for name, value in {
            settings.HOME.name: f"{bucket}/home",
            settings.DAGSTER_HOME.name: str(folder / "dagster"),
            settings.TRACKING_URI.name: mlflow,
            settings.LEDGER.name: postgres.url("ledger"),
            "MLOPS_DAGSTER_DATABASE": postgres.url("dagster"),
            settings.DATABASE_PATIENCE.name: settings.DATABASE_PATIENCE.default,
            "PYTHONPATH": str(ROOT),
            shop.LANDING: str(folder / "landing"),
            shop.STOPS: str(folder / "stops"),
        }.items():
            patch.setenv(name, value)
        made = Installation(folder, postgres)
        with made.processes:
            yield made
