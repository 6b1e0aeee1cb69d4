"""Dagster's own daemon loops over the toy model, killed by SIGKILL at one point, and gone on with by a fresh process.

A program, because each trial dies: processes are forked from one that has loaded every library and opened nothing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._time import get_current_datetime

from mlops_assets import settings
from mlops_assets_tests import homes, toy
from mlops_assets_tests.faults import shop
from mlops_assets_tests.faults.forking import forked, load, say
from mlops_assets_tests.homes import without_logs, without_waiting_for_the_disk

TICK_POINTS = ("TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED")
DEQUEUE_POINTS = (shop.BEFORE, shop.AFTER)
APART = ("2024-01", "2024-03")  # no neighbours: a run each
ROUNDS, BETWEEN = 5, timedelta(minutes=2)
QUIET = logging.getLogger("quiet")
LIBRARIES = ("deltalake", "pandera.pandas", "dagster_pandera", "sklearn.ensemble", "mlops_assets_tests.toy")
LAUNCHER = "run_launcher: {module: mlops_assets_tests.faults.shop, class: Launcher}\n"


@contextmanager
def daemon(home: Path) -> Iterable[WorkspaceProcessContext]:
    """A process's view of the instance and of the code, as a daemon has it that was just started."""
    origin = LoadableTargetOrigin(executable_path=sys.executable, module_name=shop.__name__)
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin, location_name="shop"))
    with (
        dg.DagsterInstance.from_config(str(home / "dagster")) as made,
        WorkspaceProcessContext(made, target) as process,
    ):
        yield process


def round_of(process: WorkspaceProcessContext, dies_at: str | None = None) -> None:
    """One turn of each of the daemon's loops: what is retried, monitored, looked for and dequeued."""
    crash = {"toy_new_data": {dies_at: signal.SIGKILL}} if dies_at else None
    for _ in EventLogConsumerDaemon().run_iteration(process):
        pass
    for _ in execute_run_monitoring_iteration(process, QUIET):
        pass
    for _ in execute_sensor_iteration(process, QUIET, None, None, debug_crash_flags=crash):
        pass
    coordinator = QueuedRunCoordinatorDaemon(interval_seconds=1)
    with coordinator:
        for _ in coordinator.run_iteration(process):
            pass


def rounds(home: Path, number: int, start: int = 0, dies_at: str | None = None) -> None:
    """So many turns of a daemon that was just started, minutes apart."""
    with daemon(home) as process:
        for turn in range(start, start + number):
            with freeze_time(get_current_datetime() + BETWEEN * turn):
                round_of(process, dies_at)


def executions(home: Path) -> dict[str, Any]:
    """How often each delivery was executed, and how the runs ended."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as made:
        runs = made.get_runs()
        started = Counter(
            run.tags["dagster/partition"]
            for run in runs
            for _ in made.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
            if _.step_key == "toy__validation"
        )
        return {"executions": started, "runs": Counter(run.status.value for run in runs)}


def shipped(home: Path) -> Path:
    """An instance as it is shipped, but that runs in the daemon's process and gives up starts after a minute."""
    folder = homes.prepare(home)
    config = folder / "dagster.yaml"
    text = config.read_text().replace("start_timeout_seconds: 600", "start_timeout_seconds: 60")
    config.write_text(text + LAUNCHER)
    return without_logs(folder)


def prepare(home: Path) -> None:
    """A home on which a daemon has run before, with deliveries that nobody has looked for."""
    shipped(home)
    rounds(home, 1)
    for month in APART:
        toy.deliver(home / "landing", month)


def die(home: Path, point: str) -> None:
    """Turns of a daemon that dies at a point."""
    if point in TICK_POINTS:
        rounds(home, 1, start=1, dies_at=point)
    else:
        os.environ[shop.DIES] = point
        rounds(home, 2, start=1)


def gone_on_with(home: Path) -> dict[str, Any]:
    """What a daemon finds that is started again, and what there is after so many of its turns."""
    before = executions(home)
    rounds(home, ROUNDS, start=4)
    return {"before": before, **executions(home)}


def naive(home: Path, point: str) -> None:
    """The positive control: a loop that keeps what it has seen in a file, before or after it does the work."""
    seen = home / "seen.json"
    known = json.loads(seen.read_text()) if seen.exists() else []
    for path in sorted((home / "landing").glob("*.csv")):
        if path.name in known:
            continue
        acts: list[Callable[[], Any]] = [
            lambda name=path.name: known.append(name) or seen.write_text(json.dumps(known)),
            lambda name=path.name: (home / "done").open("a").write(f"{name}\n"),
        ]
        first, second = acts if point == "seen, then done" else reversed(acts)
        first()
        if os.environ.get(shop.DIES) == point:
            os.kill(os.getpid(), signal.SIGKILL)
        second()


def naive_trial(home: Path, point: str) -> dict[str, int]:
    """How often each delivery was done by a loop that was killed once."""

    def dying() -> None:
        os.environ[shop.DIES] = point
        naive(home, point)

    for name in ("seen.json", "done"):
        (home / name).unlink(missing_ok=True)
    killed = forked(dying) is None
    forked(lambda: naive(home, point))
    done = Counter((home / "done").read_text().split()) if (home / "done").exists() else Counter()
    counts = [done[path.name] for path in (home / "landing").glob("*.csv")]
    return {"killed": killed, "lost": counts.count(0), "duplicates": sum(each > 1 for each in counts)}


def main(folder: Path) -> None:
    """Each point once."""
    warnings.simplefilter("ignore")
    without_waiting_for_the_disk()
    load(LIBRARIES)
    home, kept = folder / "home", folder / "kept"
    os.environ[settings.HOME.name] = str(home)
    os.environ.pop(settings.DAGSTER_HOME.name, None)
    forked(lambda: prepare(home))
    shutil.copytree(home, kept)
    for point in (*TICK_POINTS, *DEQUEUE_POINTS):
        shutil.rmtree(home)
        shutil.copytree(kept, home)
        killed = forked(lambda point=point: die(home, point)) is None
        say(kind="trial", point=point, killed=killed, **forked(lambda: gone_on_with(home)))
    for point in ("seen, then done", "done, then seen"):
        say(kind="control", point=point, **naive_trial(home, point))
