"""A backfill of daily partitions by Dagster's own loops, killed at each of their points, one after the other.

A program, because it dies.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.test_utils import freeze_time
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._time import get_current_datetime

from mlops_assets import settings
from mlops_assets_tests import toy
from mlops_assets_tests.faults import shop
from mlops_assets_tests.faults.dying import BETWEEN, DEQUEUE_POINTS, LIBRARIES, QUIET, daemon, shipped
from mlops_assets_tests.faults.forking import forked, load, say
from mlops_assets_tests.homes import without_waiting_for_the_disk

FIRST = date(2024, 1, 1)
POINTS = ("EXECUTION_PLAN_CREATED", "RUN_CREATED", "RUN_SUBMITTED", *DEQUEUE_POINTS)
FILLED = ("raw_data", "validated_features", "quarantined_rows")
ROUNDS = 12
ID = "yearly00"


def deliver(home: Path, days: int) -> list[str]:
    """A small file a day."""
    keys = [str(FIRST + timedelta(days=number)) for number in range(days)]
    month = toy.rows("2024-01", 20)
    for key in keys:
        rows = month.assign(ts=[f"{key} {hour:02}:00:00" for hour in range(20)])
        (home / "landing").mkdir(parents=True, exist_ok=True)
        rows.to_csv(home / "landing" / f"shop-{key}.csv", index=False)
    return keys


def ask(home: Path, keys: list[str]) -> None:
    """The backfill that a person asks for in the UI."""
    with daemon(home) as process:
        graph = process.create_request_context().asset_graph
        made = process.instance
        asked = PartitionBackfill.from_asset_partitions(
            backfill_id=ID,
            asset_graph=graph,
            partition_names=keys,
            asset_selection=[dg.AssetKey(["toy", asset]) for asset in FILLED],
            backfill_timestamp=get_current_datetime().timestamp(),
            tags={},
            dynamic_partitions_store=made,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        made.add_backfill(asked)


def rounds(home: Path, number: int, start: int, dies_at: str | None = None) -> None:
    """So many turns of the loops of a daemon that was just started."""
    crash = {dies_at: signal.SIGKILL} if dies_at and dies_at not in DEQUEUE_POINTS else None
    if dies_at in DEQUEUE_POINTS:
        os.environ[shop.DIES] = str(dies_at)
    with daemon(home) as process:
        for turn in range(start, start + number):
            with freeze_time(get_current_datetime() + BETWEEN * turn):
                for loop in (
                    EventLogConsumerDaemon().run_iteration(process),
                    execute_run_monitoring_iteration(process, QUIET),
                    execute_backfill_iteration(process, QUIET, debug_crash_flags=crash),
                ):
                    for _ in loop:
                        pass
                with QueuedRunCoordinatorDaemon(interval_seconds=1) as coordinator:
                    for _ in coordinator.run_iteration(process):
                        pass


def counted(home: Path, keys: list[str]) -> dict[str, Any]:
    """How often each partition was validated, and how runs and backfill ended."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as made:
        runs = made.get_runs()
        times: Counter[str] = Counter()
        for run in runs:
            steps = made.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
            if any(step.step_key == "toy__validation" for step in steps):
                first, last = (run.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
                times.update(key for key in keys if first <= key <= last)
        held = made.get_materialized_partitions(dg.AssetKey(["toy", "validated_features"]))
        backfill = made.get_backfill(ID)
    return {
        "partitions": len(keys),
        "missing": len(set(keys) - held) + sum(times[key] == 0 for key in keys),
        "duplicates": sum(times[key] > 1 for key in keys),
        "runs": Counter(run.status.value for run in runs),
        "backfill": backfill.status.value if backfill else None,
    }


def main(home: Path, days: int) -> None:
    """Killed at each point once; then gone on with until it is over."""
    warnings.simplefilter("ignore")
    without_waiting_for_the_disk()
    os.environ[settings.HOME.name] = str(home)
    os.environ.pop(settings.DAGSTER_HOME.name, None)
    os.environ[shop.DAILY] = "yes"
    load(LIBRARIES)
    forked(lambda: str(shipped(home)))
    keys = deliver(home, days)
    forked(lambda: rounds(home, 1, 0))
    forked(lambda: ask(home, keys))
    killed = [
        point
        for turn, point in enumerate(POINTS, 1)
        if forked(lambda turn=turn, point=point: rounds(home, 3, 3 * turn, point)) is None
    ]
    forked(lambda: rounds(home, ROUNDS, 3 * len(POINTS) + 3))
    say(killed=killed, **forked(lambda: counted(home, keys)))
