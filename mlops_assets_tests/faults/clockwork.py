"""A daemon and its watch in this process, five seconds a turn, by clocks that the test sets."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import CodeLocationOrigin, InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.daemon import SensorDaemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration

from mlops_assets import settings
from mlops_assets.ml.alerts import Alert
from mlops_assets.watchdog import LOOK_SECONDS, Watch, sight
from mlops_assets_tests.faults import shop
from mlops_assets_tests.faults.dying import QUIET, shipped

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)
HEARTBEAT_SECONDS = 30


def code(module: str) -> CodeLocationOrigin:
    """A code location in this process. One that cannot be imported is a broken deploy."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=module)
    return InProcessCodeLocationOrigin(target, location_name="shop")


@dataclass
class Clockwork:
    """The daemon's real loops and the real watch. `skew` is how wrong the daemon's clock is, `worker` that of runs."""

    home: Path
    instance: dg.DagsterInstance
    seconds: int = 0
    skew: timedelta = timedelta(0)
    worker: timedelta = timedelta(0)
    alive: bool = True
    watch: Watch = field(default_factory=Watch)
    alerts: list[tuple[int, Alert]] = field(default_factory=list)
    process: WorkspaceProcessContext | None = None
    beside: ExitStack = field(default_factory=ExitStack)
    _heart: SensorDaemon | None = None
    _id: str = ""

    def deploy(self, origin: CodeLocationOrigin) -> None:
        """The daemon sees this code from now on."""
        target = InProcessWorkspaceLoadTarget([origin])
        self.process = self.beside.enter_context(WorkspaceProcessContext(self.instance, target))

    def start(self) -> None:
        """Start the daemon (again)."""
        self._heart, self._id, self.alive = SensorDaemon({}), str(uuid.uuid4()), True

    def run(self, seconds: int) -> None:
        """So many seconds of everybody's life."""
        for _ in range(0, seconds, LOOK_SECONDS):
            self.seconds += LOOK_SECONDS
            now = NOON + timedelta(seconds=self.seconds)
            if self.alive:
                self._turn(now)
            found = self.watch.look(sight(self.instance, self.watch, self.seconds), self.seconds, now)
            self.alerts += [(self.seconds, alert) for alert in found]

    def _turn(self, now: datetime) -> None:
        with freeze_time(now + self.skew):
            self._heart._check_add_heartbeat(self.instance, self._id, HEARTBEAT_SECONDS, 300)
            for error in execute_sensor_iteration(self.process, QUIET, None, None):
                if error is not None and hasattr(error, "message"):
                    self._heart._errors.appendleft((error, now + self.skew))
        with freeze_time(now + self.worker), QueuedRunCoordinatorDaemon(interval_seconds=1) as coordinator:
            for _ in coordinator.run_iteration(self.process):
                pass

    def first_alarm(self) -> tuple[int, str] | None:
        """When the first alert was true, and what it says."""
        return (self.alerts[0][0], self.alerts[0][1].sentence) if self.alerts else None

    def executed(self) -> Counter:
        """How often each partition was validated."""
        runs = self.instance.get_runs()
        return Counter(run.tags["dagster/partition"] for run in runs if run.status == dg.DagsterRunStatus.SUCCESS)


@contextmanager
def ticking(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clockwork]:
    """A daemon over the toy shop on an instance as it is shipped."""
    monkeypatch.setenv(settings.HOME.name, str(home))
    monkeypatch.setenv(settings.TRACKING_URI.name, "http://127.0.0.1:9")
    monkeypatch.delenv(settings.DAGSTER_HOME.name, raising=False)
    with dg.DagsterInstance.from_config(str(shipped(home))) as instance:
        made = Clockwork(home, instance)
        with made.beside:
            made.deploy(code(shop.__name__))
            made.start()
            yield made


def names(alerts: Sequence[tuple[int, Alert]]) -> set[str]:
    """The different alerts among them."""
    return {alert.name for _, alert in alerts}
